# SPDX-License-Identifier: MIT
# Manners of old versions that no transcript shows, and those that a test steers by steps.
"""Tests of what versions do differently."""

from __future__ import annotations

import pytest
from control import FakeQemu
from profiles import PROFILES
from qmpclient import Client

DRIVE = {"device": "drive0", "target": "copy", "sync": "full"}


def test_every_profile_greets_and_lists_its_commands() -> None:
    with FakeQemu() as fake:
        for name, profile in PROFILES.items():
            fake.do("die")
            fake.do("start", profile=name)
            with Client(fake.path) as client:
                version = client.greeting["QMP"]["version"]["qemu"]
                assert (version["major"], version["minor"]) == profile.version[:2]
                rows = client.ask("query-commands")[-1]["return"]
                assert {row["name"] for row in rows} == set(profile.commands)


def test_a_synchronous_cancel_replies_when_the_job_is_gone() -> None:
    with FakeQemu(profile="rhel6.2") as fake, Client(fake.path) as client:
        fake.do("hold-ends")
        client.ask("block_stream", device="drive0")
        client.send("block_job_cancel", device="drive0")
        assert client.ask("query-block-jobs")[0]["return"][0]["device"] == "drive0"
        error = client.ask("block_job_cancel", device="drive0")[0]["error"]
        assert error["class"] == "DeviceInUse"
        fake.do("finish")
        assert client.read() == {"return": {}}

        client.ask("block_stream", device="drive0")
        client.send("block_job_cancel", device="drive0")
        fake.wait("block_job_cancel", count=3)
        fake.do("finish")
        assert client.read() == {"return": {}, "id": "block_job_cancel"}


def test_a_step_need_not_wait_for_a_synchronous_cancel() -> None:
    with FakeQemu(profile="rhel6.2") as fake, Client(fake.path) as client:
        client.ask("block_stream", device="drive0")
        cancel = {"command": "block_job_cancel", "arguments": {"device": "drive0"}}
        assert fake.do("execute", **cancel) == {"return": {}}
        assert client.ask("query-block-jobs")[-1]["return"] == []


def test_a_mirror_that_stalled_says_ready_again_before_2_12() -> None:
    for profile, events in (("2.8", ["BLOCK_JOB_READY"]), ("2.12", [])):
        with FakeQemu(profile=profile) as fake, Client(fake.path) as client:
            client.ask("drive-mirror", **DRIVE)
            fake.do("ready")
            client.read_until("BLOCK_JOB_READY")
            fake.do("io-error", action="stop")
            client.read_until("BLOCK_JOB_ERROR")
            messages = client.ask("block-job-resume", device="drive0")
            assert [message["event"] for message in messages[:-1]] == events


def test_one_job_a_device_before_2_7() -> None:
    for profile, refused in (("1.3", True), ("2.8", False)):
        with FakeQemu(profile=profile) as fake, Client(fake.path) as client:
            client.ask("drive-mirror", **DRIVE)
            more = {} if refused else {"job-id": "other"}
            assert ("error" in client.ask("drive-mirror", **DRIVE | more)[-1]) == refused


def test_a_pause_can_take_its_time() -> None:
    with FakeQemu() as fake, Client(fake.path) as client:
        client.ask("drive-mirror", **DRIVE)
        fake.do("hold-pause")
        assert len(client.ask("block-job-pause", device="drive0")) == 1
        row = client.ask("query-block-jobs")[0]["return"][0]
        assert (row["paused"], row["status"]) == (True, "running")
        fake.do("pause-now")
        assert client.read()["data"]["status"] == "paused"


def test_sigterm_says_why() -> None:
    with FakeQemu() as fake, Client(fake.path) as client:
        client.ask("drive-mirror", **DRIVE)
        fake.do("terminate")
        messages = client.read_until("BLOCK_JOB_CANCELLED")
        assert messages[0]["data"] == {"guest": False, "reason": "host-signal"}
        client.read()
        client.read()
        with pytest.raises((EOFError, ConnectionResetError)):
            client.read()


def test_the_graph_changes_for_all() -> None:
    with FakeQemu(profile="5.2") as fake, Client(fake.path) as client:
        for job in ("a", "b"):
            client.ask("blockdev-mirror", **DRIVE | {"device": job, "job-id": job})
        fake.do("ready", job="a")
        client.read_until("BLOCK_JOB_READY")
        fake.do("graph-change")
        seen = [client.read()["data"] for _ in range(4)]
        assert [(data["id"], data["status"]) for data in seen] == [
            ("a", "standby"),
            ("b", "paused"),
            ("a", "ready"),
            ("b", "running"),
        ]


def test_a_hundred_pivots_flood_as_in_10_0() -> None:
    """59,900 events, as QEMU sends; 500 before."""
    for profile, events in (("7.2", 500), ("10.0", 59_900)):
        with FakeQemu(profile=profile) as fake, Client(fake.path) as client:
            for number in range(100):
                job = {"job-id": f"j{number}", "device": f"d{number}", "target": f"t{number}"}
                client.ask("blockdev-mirror", **job, sync="full")
                fake.do("ready", job=f"j{number}")
            client.ask("query-version")
            for number in range(100):
                client.send("block-job-complete", device=f"j{number}")
            client.send("query-version")
            seen = 0
            while (message := client.read()).get("id") != "query-version":
                seen += "event" in message
            assert seen == events


def test_the_schema_tells_what_a_command_takes() -> None:
    for profile, told in (("2.8", False), ("2.12", False), ("3.1", True)):
        with FakeQemu(profile=profile) as fake, Client(fake.path) as client:
            entries = client.ask("query-qmp-schema")[-1]["return"]
            schema = {entry["name"]: entry for entry in entries}
            members = schema[schema["drive-mirror"]["arg-type"]]["members"]
            names = {member["name"] for member in members}
            assert ("auto-dismiss" in names) == told
            assert "job-id" in names
