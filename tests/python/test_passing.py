# SPDX-License-Identifier: MIT
# Descriptors that go with a command, and commands out of band: with a real qemu-system-x86_64.

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any

import blockjob
import pytest
from qemu import Qemu

Connect = Callable[..., Awaitable[Any]]


def holders(file: int) -> int:
    """How many descriptors this process has of that file."""
    this = os.fstat(file)
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.path.samestat(os.stat(f"/proc/self/fd/{name}"), this)
    return count


async def test_getfd(connect: Connect, system: Qemu) -> None:
    async with await connect(system.uri) as monitor:
        with tempfile.TemporaryFile() as file:
            await monitor.execute("getfd", fdname="file", fds=[file])
            await monitor.execute("getfd", {"fdname": "number"}, fds=(file.fileno(),))
            assert holders(file.fileno()) == 1
        for name in ("file", "number"):
            await monitor.execute("closefd", fdname=name)
            with pytest.raises(blockjob.Refused, match=name):
                await monitor.execute("closefd", fdname=name)


async def test_qemu_makes_a_file_blocking(connect: Connect, system: Qemu) -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    async with await connect(system.uri) as monitor:
        await monitor.execute("getfd", fdname="pipe", fds=[reader])
    assert os.get_blocking(reader)
    os.close(reader)
    os.close(writer)


async def test_each_set_has_its_file(connect: Connect, system: Qemu) -> None:
    async def add(monitor: Any, number: int) -> None:
        path = system.directory / f"file{number}"
        with path.open("w+b") as file:
            file.truncate(512 * number)
        with path.open("rb") as file:
            arguments = {"fdset-id": number, "opaque": path.name}
            await monitor.execute("add-fd", arguments, fds=[file])
            assert holders(file.fileno()) == 1

    async with await connect(system.uri) as monitor:
        await asyncio.gather(*(add(monitor, number) for number in range(1, 20)))
        sets = await monitor.execute("query-fdsets")
        assert {(row["fdset-id"], row["fds"][0]["opaque"]) for row in sets} == {
            (number, f"file{number}") for number in range(1, 20)
        }
        for number in range(1, 20):
            file = {"driver": "file", "filename": f"/dev/fdset/{number}"}
            node = {"driver": "raw", "node-name": f"n{number}", "read-only": True, "file": file}
            await monitor.execute("blockdev-add", node)
        rows = {row["node-name"]: row for row in await monitor.execute("query-named-block-nodes")}
        for number in range(1, 20):
            assert rows[f"n{number}"]["image"]["virtual-size"] == 512 * number


async def test_bad_descriptors_are_named(connect: Connect, system: Qemu) -> None:
    with tempfile.TemporaryFile() as closed:
        pass
    with tempfile.TemporaryFile() as file:
        async with await connect(system.uri) as monitor:
            await bad_descriptors_are_named(monitor, file, closed)


async def bad_descriptors_are_named(monitor: Any, file: IO[bytes], closed: IO[bytes]) -> None:
    for fds, words in (
        ([file, -1], r"descriptor -1 \(the 2. of 2\) is not open"),
        ([1 << 20], "descriptor 1048576"),
        ([1 << 40], "descriptor -1"),
        ([1 << 70], "a descriptor"),
        ([file] * 17, "17 descriptors are too many"),
        ([closed], "closed file"),
        (["0"], "fileno"),
        ([None], "fileno"),
        (0, "not iterable"),
        ("3:4", "goes into the mapping"),
    ):
        with pytest.raises(blockjob.InvalidArgument, match=words):
            await monitor.execute("getfd", fdname="x", fds=fds)
    with pytest.raises(blockjob.InvalidArgument, match="out of band"):
        await monitor.execute("getfd", fdname="x", fds=[file], out_of_band=True)
    with pytest.raises(blockjob.Refused, match="SCM_RIGHTS"):
        await monitor.execute("getfd", fdname="x")
    assert holders(file.fileno()) == 1


async def test_descriptors_over_tcp(connect: Connect) -> None:
    with Qemu(system=True, tcp=True) as qemu, tempfile.TemporaryFile() as file:
        async with await connect(qemu.uri) as monitor:
            with pytest.raises(blockjob.Unsupported, match="UNIX socket"):
                await monitor.execute("getfd", fdname="x", fds=[file])
            assert holders(file.fileno()) == 1


async def test_a_hanging_qemu_answers_out_of_band(
    connect: Connect, system: Qemu, tmp_path: Path
) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "nbd"))
    server.listen(1)  # and accepts nobody
    async with await connect(system.uri, out_of_band=True) as monitor:
        address = {"type": "unix", "path": str(tmp_path / "nbd")}
        hanging = asyncio.ensure_future(
            monitor.execute("blockdev-add", driver="nbd", node_name="far", server=address)
        )
        hangs = False
        while not hangs:
            rows = await monitor.execute("query-yank", out_of_band=True)
            hangs = any(row["type"] == "block-node" for row in rows)
        assert not hanging.done()
        with pytest.raises(blockjob.Refused, match="OOB"):
            await monitor.execute("query-version", out_of_band=True)
        server.close()
        with pytest.raises(blockjob.Refused):
            await hanging
        assert await monitor.jobs() == []


async def test_out_of_band_where_it_was_not_asked_for(connect: Connect, system: Qemu) -> None:
    async with await connect(system.uri) as monitor:
        with pytest.raises(blockjob.Unsupported, match=r"QEMU .*option out_of_band"):
            await monitor.execute("query-yank", out_of_band=True)
        assert await monitor.jobs() == []
