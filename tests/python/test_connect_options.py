# SPDX-License-Identifier: MIT
# Waiting for a peer that is not there yet, a monitor's name, and traces of the wire.

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import blockjob
import blockjob.sync
import pytest
from blockjob import Limit, TraceLine
from libvirtd import Domain, Libvirtd
from qemu import Qemu

Connect = Callable[..., Awaitable[Any]]

# ------------------------------------------------------------------------------------- waiting


def move(qemu: Qemu, path: Path) -> None:
    """QEMU gets its socket before it is ready to serve it; here it is where a client waits, once
    it is."""
    os.rename(qemu.path, path)


async def test_w04_a_socket_that_comes_later(connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "later.qmp"
    waiting = asyncio.ensure_future(connect(path, wait=math.inf, timeout=None))
    with Qemu() as qemu:
        await asyncio.sleep(0)
        assert not waiting.done()
        move(qemu, path)
        async with await waiting as monitor:
            assert await monitor.jobs() == []


async def test_w04_a_socket_that_never_comes(connect: Connect, tmp_path: Path) -> None:
    path = f"{tmp_path}/never.qmp"
    with pytest.raises(blockjob.ConnectError, match=r"waited 0.15 s .*never.qmp.*No such file"):
        await connect(path, wait=0.15)
    with pytest.raises(blockjob.Timeout, match=r"0\.15 s") as caught:
        await connect(path, wait=math.inf, timeout=0.15)
    assert path in str(caught.value)


async def test_w04_what_is_wrong_for_good_is_raised_at_once(
    connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(blockjob.ConnectError, match="Not a directory"):
        await connect(tmp_path / "file" / "qmp", wait=math.inf, timeout=None)
    with pytest.raises(blockjob.InvalidArgument, match="wait"):
        await connect(tmp_path / "x", wait=-1)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(blockjob.InvalidArgument, match=f"fd:{ours.fileno()}"):
        await connect(f"fd:{ours.fileno()}", wait=1)


async def test_w04_a_wait_can_be_cancelled(tmp_path: Path) -> None:
    waiting = asyncio.ensure_future(blockjob.connect(tmp_path / "x", wait=math.inf, timeout=None))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_w04_a_domain_that_is_started_later(connect: Connect, libvirtd: Libvirtd) -> None:
    there = libvirtd.domain()
    uri = there.uri.replace(there.name, f"later-{there.name}")
    with pytest.raises(blockjob.ConnectError, match=r"waited 0\.1 s"):
        await connect(uri, wait=0.1)
    waiting = asyncio.ensure_future(connect(uri, wait=math.inf, timeout=None))
    later = await asyncio.to_thread(libvirtd.domain, f"later-{there.name}")
    assert later.uri == uri
    async with await waiting as monitor:
        assert await monitor.jobs() == []
    later.destroy()


# ---------------------------------------------------------------------------------------- name


async def test_w09_a_name_is_in_errors(connect: Connect, daemon: Qemu) -> None:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(daemon.path)
        monitor = await connect(f"fd:{ours.fileno()}", name="vm1")
        assert monitor.name == "vm1"
        assert f"vm1 (fd:{ours.fileno()})" in repr(monitor)
        daemon.kill()
        assert "vm1 (fd:" in str(await monitor.closed())
        await monitor.close()
    with pytest.raises(blockjob.InvalidArgument, match="200 bytes"):
        await connect("unix:/x", name="n" * 201)
    with pytest.raises(blockjob.InvalidArgument, match="name"):
        await connect("unix:/x", name=7)


async def test_a_monitor_without_a_name_goes_by_its_uri(connect: Connect, daemon: Qemu) -> None:
    async with await connect(daemon.uri) as monitor:
        assert monitor.name == daemon.uri
        assert repr(monitor).count(daemon.uri) == 1


# -------------------------------------------------------------------------------------- traces


async def test_w09_every_line_from_the_greeting_on(connect: Connect, daemon: Qemu) -> None:
    lines: list[TraceLine] = []
    async with await connect(daemon.uri, name="vm1", trace=lines.append) as monitor:
        await monitor.execute("query-version")
    assert [line.sent for line in lines] == [False, True, False, True, False, True, False]
    assert "QMP" in json.loads(lines[0].text)
    sent = json.loads(lines[5].text)
    assert sent["execute"] == "query-version"
    assert json.loads(lines[6].text)["id"] == sent["id"]
    assert {line.name for line in lines} == {"vm1"}
    assert str(lines[5]) == f"vm1 > {lines[5].text}"
    assert [line.time for line in lines] == sorted(line.time for line in lines)


async def test_w09_a_trace_runs_on_the_loop_or_a_thread(connect: Connect, daemon: Qemu) -> None:
    threads: set[threading.Thread] = set()
    async with await connect(daemon.uri, trace=lambda _: threads.add(threading.current_thread())):
        pass
    if connect.__name__ == "connect_asyncio":
        assert threads == {threading.current_thread()}
    else:
        assert threading.current_thread() not in threads


async def test_w09_secrets_are_masked_if_asked(connect: Connect, daemon: Qemu) -> None:
    for mask in (False, True):
        lines: list[TraceLine] = []
        async with await connect(daemon.uri, trace=lines.append, mask_secrets=mask) as monitor:
            secret = {"qom_type": "secret", "id": f"s{mask}", "data": "letmein"}
            await monitor.execute("object-add", **secret)
        assert any("letmein" in line.text for line in lines) is not mask
        assert any('"data": "***"' in line.text for line in lines) is mask


async def test_w09_a_logger_will_do(
    connect: Connect, daemon: Qemu, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("a.program.qmp")
    with caplog.at_level(logging.DEBUG, logger.name):
        async with await connect(daemon.uri, name="vm1", trace=logger):
            pass
    assert caplog.messages[0].startswith('vm1 < {"QMP":')
    assert caplog.messages[1].startswith('vm1 > {"execute":"qmp_capabilities"')


async def test_w09_what_a_trace_raises_is_logged(
    connect: Connect, daemon: Qemu, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(line: TraceLine) -> None:
        raise LookupError(f"no place for {line.text[:6]}")

    async with await connect(daemon.uri, name="vm1", trace=fail) as monitor:
        assert await monitor.jobs() == []
    records = [record for record in caplog.records if record.name == "blockjob"]
    records = [record for record in caplog.records if record.name == "blockjob"]
    assert len(records) >= 7
    assert "vm1" in records[0].getMessage()
    assert records[0].exc_info is not None
    assert "no place for" in str(records[0].exc_info[1])
    del records
    caplog.clear()  # their tracebacks keep what the fixture counts


async def test_w09_a_slow_trace_loses_the_oldest_lines_and_counts_them(daemon: Qemu) -> None:
    lines: list[TraceLine] = []
    monitor = await blockjob.connect(daemon.uri, trace=lines.append, limits={Limit.WATCH_RING: 1})
    first = len(lines)

    def run_commands() -> None:  # the loop of the trace is busy meanwhile
        calls = [
            monitor._ask_execute("query-version", None, {}, (), False, None) for _ in range(40)
        ]
        futures = [call.ask() for call in calls]
        for future in futures:
            assert blockjob._core.future_wait(future, -1) == 0

    run_commands()
    await monitor.close()
    assert len(lines) - first == 16
    assert lines[first].lost == 80 - 16
    assert sum(line.lost for line in lines) == 80 - 16


async def test_w09_a_trace_of_a_failure(connect: Connect, tmp_path: Path) -> None:
    path = str(tmp_path / "odd")
    lines: list[TraceLine] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        waiting = asyncio.ensure_future(connect(path, trace=lines.append))
        peer, _ = await asyncio.to_thread(listener.accept)
        with peer:
            peer.sendall(b'{"QMP": {}}\n')
            peer.recv(1000)
            peer.sendall(b'{"error": {"class": "GenericError", "desc": "Not today"}}\n')
            with pytest.raises(blockjob.ProtocolError, match="Not today"):
                await waiting
    assert [line.sent for line in lines] == [False, True, False]


async def test_a_trace_that_is_none(connect: Connect, domain: Domain) -> None:
    for wrong in (7, "x"):
        with pytest.raises(blockjob.InvalidArgument, match="trace"):
            await connect("unix:/x", trace=wrong)
    with pytest.raises(blockjob.Unsupported, match="libvirt"):
        await connect(domain.uri, trace=print)


async def test_a_trace_ends_with_its_monitor(connect: Connect, daemon: Qemu) -> None:
    """Also that of a monitor that is let go: the fixture counts fds and threads."""
    monitor = await connect(daemon.uri, trace=lambda line: None)
    assert await monitor.jobs() == []
    del monitor


def test_a_trace_may_close_its_monitor(daemon: Qemu) -> None:
    lines: list[TraceLine] = []
    monitors: list[blockjob.sync.Monitor] = []

    def close(line: TraceLine) -> None:
        lines.append(line)
        for monitor in monitors:
            monitor.close()

    monitors.append(blockjob.sync.connect(daemon.uri, trace=close))
    with pytest.raises(blockjob.Error):
        for _ in range(1000):
            monitors[0].execute("query-version")
    monitors[0].close()
    assert sum(line.sent for line in lines) >= 3
