# SPDX-License-Identifier: MIT
# Jobs of fakeqemu that move by themselves: no clock here, each test says how time goes by.
"""Tests of how jobs move."""

from __future__ import annotations

from typing import Any

import pytest
from jobs import Job
from machine import Machine
from motion import Pace
from profiles import PROFILES

MIRROR = {"device": "drive0", "target": "copy", "sync": "full"}


class World:
    """One QEMU and the events it has sent."""

    def __init__(self, profile: str = "7.2", length: int = 1000) -> None:
        self.events: list[dict[str, Any]] = []
        sent = self.events.append
        self.machine = Machine(0, PROFILES[profile], length, sent, lambda machine: None)

    def start(self, pace: Pace, command: str = "drive-mirror", **arguments: Any) -> Job:
        self.machine.execute(command, MIRROR | arguments)
        job = self.machine.job("drive0")
        self.machine.move(job, pace)
        return job

    def names(self) -> list[str]:
        return [event["event"] for event in self.events if event["event"] != "JOB_STATUS_CHANGE"]


def test_speed_limits_the_rate() -> None:
    world = World()
    job = world.start(Pace(rate=400), speed=100)
    world.machine.tick(1)
    slow = job.offset
    world.machine.execute("block-job-set-speed", {"device": "drive0", "speed": 0})
    world.machine.tick(1)
    assert (slow, job.offset) == (101, 502)


def test_a_flush_takes_its_time() -> None:
    world = World()
    job = world.start(Pace(rate=1000, flush=1.0))
    world.machine.tick(1)
    assert (job.offset, job.status) == (job.length, "running")
    assert world.names() == []
    world.machine.tick(1)
    assert world.names() == ["BLOCK_JOB_READY"]


def test_a_backup_ends_by_itself() -> None:
    world = World()
    world.start(Pace(rate=1000), "drive-backup")
    assert world.machine.tick(1) is False
    assert world.names() == ["BLOCK_JOB_COMPLETED"]
    assert world.machine.jobs == {}


@pytest.mark.parametrize(("profile", "row"), [("2.2", (501, 1200)), ("2.1", (301, 1000))])
def test_what_the_guest_writes_is_work(profile: str, row: tuple[int, int]) -> None:
    world = World(profile)
    job = world.start(Pace(rate=500, dirty=200))
    world.machine.tick(1)
    assert (job.offset, job.length) == row


def test_a_ready_job_is_behind_and_stays_ready() -> None:
    world = World()
    job = world.start(Pace(rate=1000, dirty=100))
    for _ in range(5):
        world.machine.tick(1)
    assert job.status == "ready"
    assert job.offset < job.length
    assert world.names() == ["BLOCK_JOB_READY"]


def test_a_paused_job_stands_still() -> None:
    world = World()
    job = world.start(Pace(rate=10))
    world.machine.execute("block-job-pause", {"device": "drive0"})
    world.machine.settle()
    world.machine.tick(1)
    assert job.offset == 0
    world.machine.execute("block-job-resume", {"device": "drive0"})
    world.machine.tick(1)
    assert job.offset > 0


@pytest.mark.parametrize(
    ("profile", "command", "names"),
    [
        ("7.2", "drive-mirror", ["BLOCK_JOB_READY"]),
        ("2.1", "drive-mirror", ["BLOCK_JOB_READY"]),
        ("2.0", "drive-mirror", ["BLOCK_JOB_COMPLETED"]),
        ("7.2", "drive-backup", ["BLOCK_JOB_COMPLETED"]),
        ("5.2", "drive-backup", []),
    ],
)
def test_nothing_to_do_before_the_reply(profile: str, command: str, names: list[str]) -> None:
    world = World(profile, length=0)
    world.machine.execute(command, MIRROR)
    assert world.names() == names
    world.machine.settle()
    assert world.names() == (names or ["BLOCK_JOB_COMPLETED"])
