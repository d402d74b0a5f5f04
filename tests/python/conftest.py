# SPDX-License-Identifier: MIT
# Fixtures of the Python tests: real and fake QEMUs, and the two front-ends.

from __future__ import annotations

import asyncio
import ctypes
import gc
import inspect
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import blockjob.sync
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tests' own modules

from control import FakeQemu
from fronts import connect_asyncio, connect_sync
from libvirtd import Domain, Libvirtd, missing
from qemu import Qemu, helper

# A run in the background ignores SIGINT, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Long enough for the slowest machine: it is only met by a test that hangs.
HANG_SECONDS = 60.0

# Of a run that was started with SIGINT ignored, by `nohup ... &` for example, the children would
# ignore it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine function gets a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}

    async def run() -> None:
        await asyncio.wait_for(pyfuncitem.obj(**arguments), HANG_SECONDS)

    asyncio.run(run())
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m qemu` are the tests that run a real QEMU."""
    for item in items:
        if isinstance(item, pytest.Function) and {"daemon", "system"} & set(item.fixturenames):
            item.add_marker(pytest.mark.qemu)


@pytest.fixture(params=[connect_asyncio, connect_sync], ids=["asyncio", "sync"])
def connect(request: pytest.FixtureRequest) -> Callable[..., Awaitable[Any]]:
    """`await connect(uri)` of one front-end, then of the other."""
    front: Callable[..., Awaitable[Any]] = request.param
    return front


@pytest.fixture
def daemon() -> Iterator[Qemu]:
    """A qemu-storage-daemon."""
    with Qemu() as qemu:
        yield qemu


@pytest.fixture
def system() -> Iterator[Qemu]:
    """A qemu-system-x86_64 without a machine."""
    with Qemu(system=True) as qemu:
        yield qemu


@pytest.fixture
def fake() -> Iterator[FakeQemu]:
    """A fakeqemu that obeys the test."""
    with FakeQemu() as qemu:
        yield qemu


def _make_glibs_context() -> None:
    """GLib's default main context, which libvirt makes for the whole process when a thread first
    wants to wake it: its eventfd is no leak of the test that was running."""
    with suppress(OSError):
        ctypes.CDLL("libglib-2.0.so.0").g_main_context_default()


@pytest.fixture(scope="session")
def libvirtd() -> Iterator[Libvirtd]:
    """A libvirtd of our own, for tests that leave it as they find it."""
    if lack := missing():
        pytest.skip(f"libvirt: {lack}")
    _make_glibs_context()
    with Libvirtd() as host:
        # What the first monitor makes for the whole process, libvirt's event loop, is no leak.
        domain = host.domain()
        with blockjob.sync.connect(domain.uri) as monitor:
            copy = domain.make_empty("copy")
            monitor.mirror("vda", target=copy, format="qcow2", reuse=True).pivot()
        yield host


@pytest.fixture
def own_libvirtd() -> Iterator[Libvirtd]:
    """A libvirtd for one test."""
    if lack := missing():
        pytest.skip(f"libvirt: {lack}")
    _make_glibs_context()
    with Libvirtd() as host:
        yield host


@pytest.fixture
def other_libvirtd(libvirtd: Libvirtd) -> Iterator[Libvirtd]:
    """Where domains migrate to."""
    if not libvirtd.can_migrate:
        pytest.skip("the kernel gives nobody a host name of its own")
    with Libvirtd() as host:
        yield host


@pytest.fixture
def domain(libvirtd: Libvirtd) -> Domain:
    """A paused domain with the disks vda and vdb.

    It runs on after the test: while libvirtd clears up after one, which takes it a second or two,
    it tells nothing of the others.
    """
    return libvirtd.domain()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves an fd or a thread behind."""
    helper()  # starts before the first count
    before = _resources()
    yield
    deadline = time.monotonic() + 5.0
    while _grown(before) and time.monotonic() < deadline:
        time.sleep(0.01)  # a thread whose work is done takes a moment to end
    assert not _grown(before)


def _resources() -> dict[str, int]:
    """How many fds and how many threads this process has, garbage apart."""
    gc.collect()
    return {name: len(os.listdir(f"/proc/self/{name}")) for name in ("fd", "task")}


def _grown(before: dict[str, int]) -> dict[str, int]:
    """What there is more of than before, and how much more."""
    return {
        name: count - before[name] for name, count in _resources().items() if count > before[name]
    }
