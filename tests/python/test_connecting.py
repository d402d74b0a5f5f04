# SPDX-License-Identifier: MIT
# Connections: what bad input gets, and that nobody hangs when one ends.

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import blockjob
import pytest
from blockjob import Outcome
from control import FakeQemu
from qemu import HALTED_MIRROR, Qemu

Connect = Callable[..., Awaitable[Any]]


async def test_what_a_monitor_knows(connect: Connect, daemon: Qemu) -> None:
    async with await connect(daemon.uri) as monitor:
        assert monitor.uri == daemon.uri
        version = (await monitor.execute("query-version"))["qemu"]
        assert monitor.qemu_version == "{major}.{minor}.{micro}".format(**version)
        assert monitor.has_command("blockdev-mirror") is True
        assert monitor.has_command("no-such-command") is False


async def test_ways_to_say_where(connect: Connect, daemon: Qemu) -> None:
    for uri in (daemon.path, Path(daemon.path), daemon.uri):
        async with await connect(uri) as monitor:
            assert await monitor.jobs() == []
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(daemon.path)
        async with await connect(f"fd:{ours.fileno()}") as monitor:
            assert await monitor.jobs() == []
        assert ours.fileno() >= 0


async def test_tcp(connect: Connect) -> None:
    with Qemu(tcp=True) as qemu:
        async with await connect(qemu.uri) as monitor:
            assert await monitor.jobs() == []


async def test_a_path_that_is_not_utf8(connect: Connect, tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    os.mkdir(folder)
    with Qemu(Path(folder)) as qemu:
        async with await connect(qemu.uri) as monitor:
            assert await monitor.jobs() == []


async def test_both_ways_of_async_with(daemon: Qemu) -> None:
    async with await blockjob.connect(daemon.uri) as monitor:
        assert await monitor.jobs() == []
    async with blockjob.connect(daemon.uri) as monitor:
        assert await monitor.jobs() == []
    task = asyncio.create_task(blockjob.connect(daemon.uri))
    async with await task as monitor:
        assert await monitor.jobs() == []
    with pytest.raises(blockjob.Closed):
        await monitor.jobs()


async def test_wrong_path(connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(blockjob.ConnectError, match="nowhere") as caught:
        await connect(f"unix:{tmp_path}/nowhere")
    assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize("uri", ["", "vm1", "unix:", "ftp:here", "tcp:host", "fd:x", "fd:-1"])
async def test_not_a_uri(connect: Connect, uri: str) -> None:
    with pytest.raises(blockjob.InvalidArgument):
        await connect(uri)


async def test_not_even_text(connect: Connect) -> None:
    class NoDomain:
        _o: object = None

    for wrong in (7, None, NoDomain()):
        with pytest.raises(TypeError, match=f"virDomain, not {type(wrong).__name__}$"):
            await connect(wrong)
    # libvirt-python has its connections in capsules, too.
    capsule_of = ctypes.pythonapi.PyCapsule_New
    capsule_of.restype = ctypes.py_object
    NoDomain._o = capsule_of(ctypes.c_void_p(1), ctypes.c_char_p(b"virConnectPtr"), None)
    with pytest.raises(TypeError, match=r"virDomain, not NoDomain$"):
        await connect(NoDomain())
    with pytest.raises(ValueError, match="null"):
        await connect("unix:/run/a\0b")


async def test_not_a_qmp_socket(connect: Connect, tmp_path: Path) -> None:
    path = str(tmp_path / "http")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        waiting = asyncio.ensure_future(connect(path))
        peer, _ = await asyncio.to_thread(listener.accept)
        with peer:
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with pytest.raises(blockjob.ProtocolError):
                await waiting


async def test_hang_up_instead_of_a_greeting(connect: Connect, tmp_path: Path) -> None:
    path = str(tmp_path / "shy")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        waiting = asyncio.ensure_future(connect(path))
        peer, _ = await asyncio.to_thread(listener.accept)
        peer.close()
        with pytest.raises(blockjob.Disconnected) as caught:
            await waiting
        assert isinstance(caught.value, ConnectionError)


async def test_a_regular_file(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(blockjob.ConnectError, match="file"):
        await connect(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to everything")
async def test_no_permission(connect: Connect, daemon: Qemu) -> None:
    os.chmod(daemon.path, 0)
    with pytest.raises(blockjob.ConnectError, match="ermission"):
        await connect(daemon.uri)


async def test_b47_monitor_held_by_another_client(connect: Connect, daemon: Qemu) -> None:
    async with await connect(daemon.uri):
        with pytest.raises(blockjob.Timeout, match="greeting"):
            await connect(daemon.uri, timeout=0.05)


async def test_malformed_arguments(connect: Connect, daemon: Qemu) -> None:
    async with await connect(daemon.uri) as monitor:
        with pytest.raises(blockjob.InvalidArgument, match="query-jobs"):
            await monitor.execute("query-jobs", {"a": object()})
        with pytest.raises(blockjob.InvalidArgument, match="query-jobs"):
            await monitor.execute("query-jobs", {"a": float("nan")})
        with pytest.raises(blockjob.InvalidArgument, match="mirror"):
            await monitor.mirror("drive", target="copy", speed=object())
        with pytest.raises(TypeError):
            await monitor.execute(7)
        with pytest.raises(TypeError):
            await monitor.mirror(7, target="copy")
        with pytest.raises(blockjob.InvalidArgument):
            await monitor.execute(None)
        with pytest.raises(blockjob.Refused, match="no-such-command") as caught:
            await monitor.execute("no-such-command")
        assert caught.value.error_class == "CommandNotFound"
        with pytest.raises(blockjob.Refused):
            await monitor.execute("query-jobs", no_such_argument=1)
        assert await monitor.execute("query-jobs") == []


async def test_execute(connect: Connect, daemon: Qemu) -> None:
    async with await connect(daemon.uri) as monitor:
        path = daemon.directory / "file"
        path.touch()
        await monitor.execute(
            "blockdev-add", {"node-name": "a"}, driver="file", filename=str(path), read_only=True
        )
        nodes = await monitor.execute("query-named-block-nodes")
        assert [(node["node-name"], node["ro"]) for node in nodes] == [("a", True)]
        assert await monitor.execute("blockdev-del", {"node-name": "a"}) == {}


async def test_closed_handle(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    monitor = await connect(daemon.uri)
    job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
    waiting = [asyncio.ensure_future(wait) for wait in (job.done(), job.pivot(), monitor.closed())]
    await asyncio.sleep(0)
    await monitor.close()
    await monitor.close()
    assert isinstance(await monitor.closed(), blockjob.Closed)
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, blockjob.Error) for answer in answers)
    for call in (monitor.jobs(), monitor.attach("a"), monitor.execute("query-jobs"), job.ready()):
        with pytest.raises(blockjob.Error):
            await call
    with pytest.raises(blockjob.Closed):
        await monitor.mirror("drive", target="copy")
    # What was known stays known.
    assert monitor.uri == daemon.uri
    assert job.type == "mirror"
    assert daemon.jobs() == {job.id: "running"}


async def test_b09_b45_qemu_killed_answers_all(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        events = monitor.events()
        progress = job.progress(interval=3600)
        daemon.stop()
        waits = [job.ready(), job.done(), job.done(released=True), job.pivot(), job.abort()]
        waiting = [asyncio.ensure_future(wait) for wait in waits]
        closed = asyncio.ensure_future(monitor.closed())
        await asyncio.sleep(0)
        daemon.kill()
        for answer in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(answer, blockjob.JobLost)
            assert answer.outcome is Outcome.LOST
        assert isinstance(await closed, blockjob.Disconnected)
        assert job.outcome is Outcome.LOST
        assert job.error
        with pytest.raises(blockjob.Disconnected):
            async for _ in events:
                pass
        async for _ in progress:
            pass
        with pytest.raises((blockjob.Disconnected, blockjob.Closed)):
            await monitor.jobs()


async def test_a_command_under_way_when_qemu_is_killed(connect: Connect, daemon: Qemu) -> None:
    async with await connect(daemon.uri) as monitor:
        daemon.stop()
        waiting = asyncio.ensure_future(monitor.execute("query-jobs"))
        await asyncio.sleep(0)
        daemon.kill()
        with pytest.raises(blockjob.Disconnected):
            await waiting


async def test_b45_quit_is_no_success(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        await job.ready()
        waiting = asyncio.ensure_future(job.done())
        await monitor.execute("quit")
        try:
            outcome = await waiting
        except blockjob.JobLost as error:
            assert error.outcome is Outcome.LOST
        else:
            assert outcome is Outcome.CANCELLED


async def test_b46_a_job_found_again_by_a_new_connection(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        await monitor.mirror("drive", target="copy", job_id="kept", **HALTED_MIRROR)
    async with await connect(daemon.uri) as monitor:
        job = await monitor.attach("kept")
        await job.set_speed(0)
        assert await job.pivot() is Outcome.PIVOTED


async def test_a_job_keeps_its_monitor(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    job = await (await connect(daemon.uri)).mirror("drive", target="copy")
    assert await job.pivot() is Outcome.PIVOTED


async def test_a_monitor_let_go_is_closed(connect: Connect, daemon: Qemu) -> None:
    monitor = await connect(daemon.uri)
    del monitor
    async with await connect(daemon.uri):
        pass


async def test_b55_large_integers(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        fake.do("answer", command="query-status", **{"return": {"big": 2**64 + 1}})
        assert await monitor.execute("query-status") == {"big": 2**64 + 1}


async def test_c06_an_integer_of_many_digits_is_a_decimal(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        fake.do("answer", command="query-status", **{"return": {"big": 10**700 + 1}})
        before = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(640)  # the least that it can be
        try:
            assert await monitor.execute("query-status") == {"big": Decimal("1" + "0" * 699 + "1")}
        finally:
            sys.set_int_max_str_digits(before)


async def test_c53_wrong_arguments_are_named(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await monitor.mirror("drive0", target="copy0")
        before = len(fake.log())
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "bytes_per_second must be an int, not str": lambda: job.set_speed("1"),
            "bytes_per_second must be an int, not float": lambda: job.set_speed(1.5),
            "bytes_per_second must fit into 64 bits": lambda: job.set_speed(2**63),
            "device must be a str, not int": lambda: monitor.mirror(7, target="copy0"),
            "target has a null character": lambda: monitor.mirror("drive0", target="a\0b"),
            "sync is no UTF-8": lambda: monitor.mirror("drive0", target="copy0", sync="\udcff"),
            "command must be a str": lambda: monitor.execute(b"query-status"),
            "id must be a str": lambda: monitor.attach(7),
            "'int' object is not iterable": lambda: monitor.execute("query-status", 7),
            "not iterable": lambda: monitor.transaction(7),
            "arguments of query-status are not JSON": lambda: monitor.execute(
                "query-status", deep()
            ),
        }
        for name, call in calls.items():
            with pytest.raises(blockjob.InvalidArgument, match=name) as caught:
                await call()
            assert isinstance(caught.value, TypeError)
            assert isinstance(caught.value, ValueError)
        with pytest.raises(blockjob.InvalidArgument, match="command must be a str"):
            monitor.has_command(7)
        assert len(fake.log()) == before


def deep() -> dict[str, Any]:
    """What is nested too deep to be encoded."""
    value: dict[str, Any] = {}
    for _ in range(100_000):
        value = {"a": value}
    return value


async def test_b54_a_long_reply_arrives_whole(connect: Connect, daemon: Qemu) -> None:
    async with await connect(daemon.uri) as monitor:
        schema = await monitor.execute("query-qmp-schema")
    assert len(repr(schema)) > 65536
