# SPDX-License-Identifier: MIT
# The scripting of fakeqemu: each fault does to a client what its manual says.
"""Tests of the steps."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control import ControlError, FakeQemu
from qmpclient import Client, Message

MIRROR = {"device": "disk0", "target": "copy", "sync": "full", "job-id": "j"}


@pytest.fixture
def qemu() -> Iterator[FakeQemu]:
    with FakeQemu() as fake:
        yield fake


@pytest.fixture
def client(qemu: FakeQemu) -> Iterator[Client]:
    with Client(qemu.path) as found:
        yield found


def names(messages: list[Message]) -> list[str]:
    return [message.get("event", "reply") for message in messages]


def test_ready_before_the_reply_of_the_start(qemu: FakeQemu, client: Client) -> None:
    qemu.do("when", command="blockdev-mirror", at="done", steps=[{"do": "ready"}])
    assert names(client.ask("blockdev-mirror", **MIRROR))[-2:] == ["BLOCK_JOB_READY", "reply"]


def test_a_stale_reply_comes_after_the_event(qemu: FakeQemu, client: Client) -> None:
    client.ask("blockdev-mirror", **MIRROR)
    qemu.do("when", command="query-block-jobs", at="done", steps=[{"do": "ready", "job": "j"}])
    messages = client.ask("query-block-jobs")
    assert names(messages)[-2:] == ["BLOCK_JOB_READY", "reply"]
    assert messages[-1]["return"][0]["ready"] is False


def test_hold_lets_later_replies_pass(qemu: FakeQemu, client: Client) -> None:
    qemu.do("hold", command="query-jobs")
    client.send("query-jobs")
    qemu.do("wait", what="held")
    assert client.ask("query-version")[-1]["id"] == "query-version"
    assert qemu.do("release") == {"released": 1}
    assert client.read() == {"return": [], "id": "query-jobs"}


def test_drop_duplicate_change_id_answer(qemu: FakeQemu, client: Client) -> None:
    qemu.do("drop", command="query-jobs")
    qemu.do("duplicate", command="query-status")
    qemu.do("change-id", command="query-version", to={"a": [None]})
    qemu.do("change-id", command="query-block")
    qemu.do("answer", command="quit", error={"class": "Odd", "desc": "no"}, count=2)
    client.send("query-jobs")
    assert client.ask("query-status") == [client.read()]
    assert client.ask("query-version")[-1]["id"] == {"a": [None]}
    assert "id" not in client.ask("query-block")[-1]
    for _ in range(2):
        assert client.ask("quit")[-1] == {"id": "quit", "error": {"class": "Odd", "desc": "no"}}
    assert client.ask("query-version")[-1]["id"] == "query-version"


@pytest.mark.parametrize("order", ["before", "after"])
def test_order_of_events_and_reply(qemu: FakeQemu, client: Client, order: str) -> None:
    qemu.do("order", command="blockdev-backup", events=order)
    qemu.do("order", command="block-job-cancel", events=order)
    start = names(client.ask("blockdev-backup", **MIRROR))
    assert len(start) == (5 if order == "before" else 1)
    if order == "after":
        assert [client.read()["data"]["status"] for _ in range(4)][-1] == "running"
    cancel = names(client.ask("block-job-cancel", device="j"))
    assert ("BLOCK_JOB_CANCELLED" in cancel) == (order == "before")


def test_hold_end_drains_until_finish(qemu: FakeQemu, client: Client) -> None:
    qemu.do("hold-ends")
    client.ask("blockdev-mirror", **MIRROR)
    qemu.do("ready")
    client.read_until("BLOCK_JOB_READY")
    assert names(client.ask("block-job-complete", device="j")) == ["reply"]
    assert client.ask("query-jobs")[-1]["return"][0]["status"] == "ready"
    qemu.do("finish")
    client.read_until("BLOCK_JOB_COMPLETED")
    disks = client.ask("query-block")[-1]["return"]
    assert [disk["inserted"]["node-name"] for disk in disks] == ["#block100", "copy"]


def test_the_graph_shows_a_pivot(qemu: FakeQemu, client: Client) -> None:
    def root() -> Any:
        graph = client.ask("x-debug-query-block-graph")[-1]["return"]
        nodes = {node["id"]: node["name"] for node in graph["nodes"]}
        roots = {
            nodes[e["parent"]]: nodes[e["child"]] for e in graph["edges"] if e["name"] == "root"
        }
        return roots["disk0"]

    assert root() == "disk0"
    client.ask("blockdev-mirror", **MIRROR)
    assert root() == "#filter-j"
    qemu.do("ready")
    client.ask("block-job-complete", device="j")
    assert root() == "copy"


def test_vanish_and_foreign_verb(qemu: FakeQemu, client: Client) -> None:
    qemu.do("execute", command="blockdev-mirror", arguments=MIRROR)
    assert names([client.read(), client.read()]) == ["JOB_STATUS_CHANGE"] * 2
    with pytest.raises(ControlError, match="cannot accept"):
        qemu.do("execute", command="job-complete", arguments={"id": "j"})
    qemu.do("vanish")
    assert client.ask("query-jobs")[-1]["return"] == []


def test_emit_beyond_int64_deep_and_huge(qemu: FakeQemu, client: Client) -> None:
    qemu.do("emit", event="X", data={"n": 1 << 70})
    qemu.do("deep", depth=300)
    qemu.do("deep", depth=100_000)
    qemu.do("huge", bytes=100_000)
    assert client.read()["data"] == {"n": 1 << 70}
    assert len(json.dumps(client.read())) > 600
    assert len(client.lines.readline()) > 200_000
    assert len(client.read()["data"]["padding"]) == 100_000


def test_a_token_flood_is_one_message(qemu: FakeQemu, client: Client) -> None:
    qemu.do("tokens", count=100_000)
    assert len(client.read()["data"]["list"]) == 100_000


def test_an_endless_line_never_ends(qemu: FakeQemu, client: Client) -> None:
    qemu.do("endless", text="[1,")
    seen = 0
    while seen < 1 << 24:
        piece = client.socket.recv(1 << 20)
        assert b"\n" not in piece
        seen += len(piece)
    # Meanwhile others are served.
    assert qemu.do("execute", command="query-jobs") == {"return": []}


def test_a_late_reply_comes_after_others(qemu: FakeQemu, client: Client) -> None:
    qemu.do("late", command="query-jobs", seconds=0.05)
    both = ({"execute": name, "id": name} for name in ("query-jobs", "query-version"))
    client.socket.sendall("".join(map(json.dumps, both)).encode())
    assert [client.read()["id"] for _ in range(2)] == ["query-version", "query-jobs"]


END = ["waiting", "pending", "BLOCK_JOB_COMPLETED", "concluded", "null"]


def news(messages: list[Message]) -> list[str]:
    """The statuses, the other events and the ids of replies, in their order."""
    return [
        message["data"]["status"]
        if message.get("event") == "JOB_STATUS_CHANGE"
        else str(message.get("event", message.get("id")))
        for message in messages
    ]


def read(client: Client, count: int) -> list[Message]:
    return [client.read() for _ in range(count)]


@pytest.mark.parametrize("events", range(6))
def test_a_late_list_is_older_than_the_events_before_it(
    qemu: FakeQemu, client: Client, events: int
) -> None:
    client.ask("blockdev-backup", **MIRROR)
    qemu.do("late-list", events=events)
    client.send("query-block-jobs")
    client.send("query-jobs")
    qemu.do("wait", what="late", command="query-jobs")
    qemu.do("finish")
    messages = read(client, 7)
    lists = ["query-block-jobs", "query-jobs"]
    assert news(messages) == END[:events] + lists + END[events:]
    for reply in messages[events : events + 2]:
        assert [row["status"] for row in reply["return"]] == ["running"]
    assert client.ask("query-jobs")[-1]["return"] == []  # the next one is not late


def test_a_late_reply_delays_those_behind_it(qemu: FakeQemu, client: Client) -> None:
    client.ask("blockdev-backup", **MIRROR)
    qemu.do("late-replies", command="block-job-set-speed", events=5)
    client.send("block-job-set-speed", device="j", speed=0)
    client.send("query-jobs")
    client.socket.sendall(b'{"execute": 5, "id": "bad"}')
    qemu.do("wait", command="query-jobs")
    qemu.do("finish")
    messages = read(client, 8)
    assert news(messages) == [*END, "block-job-set-speed", "query-jobs", "bad"]
    assert len(messages[-2]["return"]) == 1


def test_late_replies_wait_for_what_their_command_leads_to(qemu: FakeQemu, client: Client) -> None:
    client.ask("blockdev-mirror", **MIRROR)
    qemu.do("ready")
    client.read_until("BLOCK_JOB_READY")
    qemu.do("late-replies", events=5)
    client.send("block-job-complete", device="j")
    assert news(read(client, 6)) == [*END, "block-job-complete"]


def test_late_replies_are_released(qemu: FakeQemu, client: Client) -> None:
    qemu.do("late-replies", events=1000, count=0)
    client.send("query-jobs")
    client.send("query-version")
    qemu.do("wait", what="late", command="query-version")
    assert qemu.do("release") == {"released": 2}
    assert news(read(client, 2)) == ["query-jobs", "query-version"]


def test_late_replies_come_after_so_long_if_nothing_happens(qemu: FakeQemu, client: Client) -> None:
    qemu.do("late-replies", events=1000, seconds=0.01)
    assert client.ask("query-version")[-1]["id"] == "query-version"
    assert qemu.do("release") == {"released": 0}


def test_a_late_reply_dies_with_its_client(qemu: FakeQemu, client: Client) -> None:
    qemu.do("late-list", events=1)
    client.send("query-jobs")
    qemu.do("wait", what="late")
    qemu.do("die")
    qemu.do("start")
    with Client(qemu.path) as again:
        qemu.do("emit", event="X")
        assert qemu.do("release") == {"released": 0}
        assert news(read(again, 1)) == ["X"]


def test_replies_out_of_order(qemu: FakeQemu, client: Client) -> None:
    qemu.do("out-of-order", count=3)
    for command in ("query-jobs", "query-version", "query-status", "query-block-jobs"):
        client.send(command)
    assert [client.read()["id"] for _ in range(4)] == [
        "query-status",
        "query-version",
        "query-jobs",
        "query-block-jobs",
    ]


def test_replies_that_wait_for_disorder_are_released(qemu: FakeQemu, client: Client) -> None:
    qemu.do("out-of-order", command="query-jobs")
    client.send("query-jobs")
    qemu.do("wait", what="held")
    assert qemu.do("release") == {"released": 1}
    assert client.read()["id"] == "query-jobs"


def test_split_gives_single_bytes(qemu: FakeQemu) -> None:
    qemu.do("split", bytes=1)
    client = Client(qemu.path, negotiate=False)
    pieces = [client.socket.recv(4096)]
    while pieces[-1] != b"\n":
        pieces.append(client.socket.recv(4096))
    assert {len(piece) for piece in pieces} == {1}
    assert "QMP" in json.loads(b"".join(pieces))
    client.close()


def test_stop_writing_merges(qemu: FakeQemu, client: Client) -> None:
    qemu.do("stop", what="writing")
    for number in range(5):
        qemu.do("emit", event="X", data={"n": number})
    qemu.do("go", what="writing")
    assert client.socket.recv(65536).count(b"\r\n") == 5


def test_stop_reading_and_all(qemu: FakeQemu, client: Client) -> None:
    qemu.do("stop", what="reading")
    client.send("query-version")
    with pytest.raises(ControlError, match=r"waited 0\.2 s"):
        qemu.do("wait", command="query-version", timeout=0.2)
    qemu.do("go", what="all")
    assert client.read()["id"] == "query-version"


def test_hang_up_after_bytes(qemu: FakeQemu) -> None:
    qemu.do("hang-up", after=10)
    client = Client(qemu.path, negotiate=False)
    assert client.lines.read() == b'{"QMP": {"'
    client.close()
    Client(qemu.path).close()


@pytest.mark.parametrize(
    ("send", "got"), [("never", b""), ("half", b'{"QMP"'), ("garbage", b"\x00\xff"), ("hi", b"hi")]
)
def test_greetings(qemu: FakeQemu, send: str, got: bytes) -> None:
    qemu.do("greeting", send=send)
    client = Client(qemu.path, negotiate=False)
    qemu.do("wait", what="connect")
    qemu.do("hang-up")
    assert client.lines.read().startswith(got)
    client.close()


def test_second_client_is_greeted_when_the_first_leaves(qemu: FakeQemu, client: Client) -> None:
    second = Client(qemu.path, negotiate=False)
    second.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        second.socket.recv(1)
    second.socket.settimeout(10)
    client.socket.shutdown(socket.SHUT_RDWR)
    assert second.socket.recv(6) == b'{"QMP"'
    second.close()


def test_die_leaves_the_socket_file(qemu: FakeQemu, client: Client) -> None:
    qemu.do("die")
    with pytest.raises((EOFError, ConnectionResetError)):
        client.read()
    with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
        late.connect(qemu.path)


def test_start_after_death_has_no_jobs(qemu: FakeQemu, client: Client) -> None:
    client.ask("blockdev-mirror", **MIRROR)
    with pytest.raises(ControlError, match="it runs"):
        qemu.do("start")
    qemu.do("die")
    qemu.do("start", profile="10.0")
    with Client(qemu.path) as again:
        assert again.greeting["QMP"]["version"]["qemu"]["major"] == 10
        assert again.ask("query-jobs")[-1]["return"] == []


def test_kept_jobs_go_on_while_nobody_is_connected(qemu: FakeQemu, client: Client) -> None:
    client.ask("blockdev-mirror", **MIRROR)
    client.ask("blockdev-mirror", **MIRROR | {"job-id": "k"})
    qemu.do("die")
    qemu.do("ready", job="j")
    qemu.do("fail", job="k", error="Input/output error")
    qemu.do("start", jobs="keep")
    with Client(qemu.path) as again:
        (reply,) = again.ask("query-block-jobs")
        assert [(row["device"], row["status"]) for row in reply["return"]] == [("j", "ready")]


def test_start_after_quit(qemu: FakeQemu, client: Client) -> None:
    client.ask("quit")
    client.lines.read()
    qemu.do("start")
    with Client(qemu.path) as again:
        again.ask("quit")
        again.lines.read()


def test_a_held_reply_dies_with_its_client(qemu: FakeQemu, client: Client) -> None:
    qemu.do("hold", command="query-jobs")
    client.send("query-jobs")
    qemu.do("wait", what="held")
    qemu.do("die")
    qemu.do("start")
    with Client(qemu.path) as again:
        qemu.do("release")
        assert again.ask("query-version")[0]["id"] == "query-version"


def test_two_monitors_of_one_qemu(tmp_path: Any) -> None:
    with FakeQemu("--socket", f"{tmp_path}/second") as fake:
        first, second = Client(fake.path), Client(f"{tmp_path}/second")
        assert len(first.ask("blockdev-mirror", **MIRROR)) == 3
        assert [second.read()["event"] for _ in range(2)] == ["JOB_STATUS_CHANGE"] * 2
        assert second.ask("query-jobs")[-1]["return"][0]["id"] == "j"
        first.close()
        second.close()


def test_an_impossible_step_hangs_up(qemu: FakeQemu, client: Client) -> None:
    qemu.do("when", command="query-jobs", at="done", steps=[{"do": "ready"}])
    with pytest.raises(EOFError):
        client.ask("query-jobs")
    assert "no job" in qemu.do("wait", what="broken")["entry"]["error"]


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("fly", {}),
        ("emit", {}),
        ("ready", {"job": "x"}),
        ("stop", {"what": "it"}),
        ("late-list", {}),
        ("out-of-order", {"count": 1}),
    ],
)
def test_bad_steps_are_refused(qemu: FakeQemu, verb: str, fields: Message) -> None:
    with pytest.raises(ControlError, match=verb):
        qemu.do(verb, **fields)


def test_script_and_rate() -> None:
    with FakeQemu("--rate", "1000000000", "--do", '{"do": "hold-ends"}') as fake:
        client = Client(fake.path)
        client.ask("blockdev-mirror", **MIRROR)
        client.read_until("BLOCK_JOB_READY")
        assert names(client.ask("block-job-complete", device="j")) == ["reply"]
        client.close()


def test_ends_on_eof_and_removes_its_sockets(qemu: FakeQemu, client: Client) -> None:
    assert qemu.process.stdin is not None
    qemu.process.stdin.close()
    assert qemu.process.wait() == 0
    assert client.lines.read() == b""
    assert not Path(qemu.path).exists()


def test_a_thousand_monitors() -> None:
    """Ten thousand, too: FAKEQEMU_MONITORS=10000, with as many file descriptors."""
    count = int(os.environ.get("FAKEQEMU_MONITORS", "1000"))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with FakeQemu(monitors=count) as fake, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(path)) for path in fake.paths]
        for client in clients:
            client.send("blockdev-mirror", **MIRROR)
        fake.wait("blockdev-mirror", count=count)
        fake.do("ready", qemu="all")
        for client in clients:
            assert client.read_until("BLOCK_JOB_READY")[-1]["data"]["device"] == "j"
