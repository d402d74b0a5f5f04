# SPDX-License-Identifier: MIT
# Waiting: any number of waits on one thing, and that leaving one disturbs nothing.

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import blockjob
import blockjob.sync
import pytest
from blockjob import Limit, Outcome, _core
from blockjob._calls import milliseconds
from control import FakeQemu
from qemu import HALTED_MIRROR, Qemu

Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def disks(daemon: Qemu) -> Qemu:
    """A qemu-storage-daemon with the disks "drive" and "copy"."""
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    return daemon


async def test_b04_what_has_happened_is_answered_at_once(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        await job.ready()
        await job.ready(timeout=0)
        await job.pivot()
        assert await job.done(timeout=0) is Outcome.PIVOTED
        assert await job.pivot(timeout=0) is Outcome.PIVOTED


async def test_b05_many_waits_on_one_job(disks: Qemu) -> None:
    async with blockjob.connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        ready = [asyncio.create_task(job.ready()) for _ in range(2000)]
        done = [asyncio.create_task(job.done()) for _ in range(2000)]
        await asyncio.sleep(0)
        for task in ready[::2] + done[::2]:
            task.cancel()
        await job.set_speed(0)
        assert await asyncio.gather(*ready[1::2]) == [None] * 1000
        await job.pivot()
        assert await asyncio.gather(*done[1::2]) == [Outcome.PIVOTED] * 1000
        assert all(task.cancelled() for task in ready[::2] + done[::2])


def test_b05_many_threads_on_one_job(disks: Qemu) -> None:
    outcomes = []
    with blockjob.sync.connect(disks.uri) as monitor:
        job = monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        threads = [threading.Thread(target=lambda: outcomes.append(job.pivot())) for _ in range(50)]
        for thread in threads:
            thread.start()
        job.set_speed(0)
        for thread in threads:
            thread.join()
    assert outcomes == [Outcome.PIVOTED] * 50


async def test_b06_a_deadline_passes_and_the_job_goes_on(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        patient = asyncio.ensure_future(job.done())
        for wait in (job.ready, job.done, job.pivot):
            with pytest.raises(blockjob.Timeout) as caught:
                await wait(timeout=0.01)
            assert isinstance(caught.value, TimeoutError)
        assert disks.jobs() == {job.id: "running"}
        assert job.timeline.complete_sent is None
        await job.set_speed(0)
        assert await job.pivot() is Outcome.PIVOTED
        assert await patient is Outcome.PIVOTED


async def test_b06_deadline_of_an_abort(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        disks.stop()
        with pytest.raises(blockjob.Timeout):
            await job.abort(timeout=0.05)
        assert job.outcome is None
        disks.go_on()
        # What QEMU was told it does, whether somebody waits or not.
        assert await job.done() is Outcome.CANCELLED


async def test_b07_a_cancelled_wait_leaves_the_job_alone(disks: Qemu) -> None:
    async with blockjob.connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        patient = asyncio.create_task(job.done())
        for wait in (job.ready, job.done, job.pivot):
            task = asyncio.create_task(wait())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(wait(), 0.01)
        assert disks.jobs() == {job.id: "running"}
        await job.set_speed(0)
        await job.ready()
        # The pivots that nobody waits for any more were not started.
        assert job.timeline.complete_sent is None
        assert await job.pivot() is Outcome.PIVOTED
        assert await patient is Outcome.PIVOTED


async def test_b07_a_connect_that_nobody_awaits_is_given_up(disks: Qemu) -> None:
    async with blockjob.connect(disks.uri):
        task = asyncio.create_task(blockjob.connect(disks.path, timeout=None))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with blockjob.connect(disks.uri):
        pass


async def test_a_wait_that_is_thrown_away(disks: Qemu) -> None:
    async with blockjob.connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        wait = job.done()
        wait.send(None)
        wait.close()
        assert await job.abort() is Outcome.CANCELLED


@pytest.mark.parametrize("timeout", [-1, -0.001, -math.inf, math.nan, Decimal("nan"), "1", [], 1j])
async def test_what_is_no_timeout(connect: Connect, disks: Qemu, timeout: Any) -> None:
    with pytest.raises(blockjob.InvalidArgument, match="timeout"):
        await connect(disks.uri, timeout=timeout)
    async with await connect(disks.uri) as monitor:
        with pytest.raises(ValueError, match="timeout"):
            await monitor.execute("query-status", timeout=timeout)
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        for call in (job.ready, job.done, job.pivot, job.abort, job.pause, job.query):
            with pytest.raises(blockjob.InvalidArgument, match="timeout"):
                await call(timeout=timeout)
        with pytest.raises(blockjob.InvalidArgument, match="force_after"):
            await job.abort(force_after=timeout)
        with pytest.raises(blockjob.InvalidArgument, match="reconnect"):
            monitor.set_reconnect(timeout)
        with pytest.raises(blockjob.InvalidArgument, match="interval"):
            job.progress(timeout)
        assert disks.jobs() == {job.id: "running"}


def test_only_zero_is_now() -> None:
    assert [milliseconds(seconds) for seconds in (0, 1e-9, 0.001, 2.5)] == [0, 1, 1, 2500]
    others: list[Any] = [Decimal("0.25"), Fraction(1, 3), True]
    assert [milliseconds(seconds) for seconds in others] == [250, 334, 1000]
    endless: list[Any] = [None, math.inf, Decimal("inf"), 1e300, 10**400, Decimal(10) ** 400]
    assert {milliseconds(seconds) for seconds in endless} == {_core.TIMEOUT_NONE}


async def test_limits_are_a_monitors_own(connect: Connect, fake: FakeQemu) -> None:
    limits = {Limit.MESSAGE_BYTES: 20_000, Limit.STALL: 0.001, Limit.JOBS: 10.0}
    async with await connect(fake.path, limits=limits) as monitor:
        fake.do("huge", bytes=30_000)
        assert isinstance(await monitor.closed(), blockjob.ProtocolError)
    async with await connect(fake.path) as monitor:
        fake.do("huge", bytes=30_000)
        assert await monitor.jobs() == []


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1.5])
async def test_what_is_no_limit(connect: Connect, fake: FakeQemu, value: float) -> None:
    with pytest.raises(blockjob.InvalidArgument, match="WATCH_RING"):
        await connect(fake.path, limits={Limit.WATCH_RING: value})
    with pytest.raises(blockjob.InvalidArgument, match="MESSAGE_NESTING"):
        await connect(fake.path, limits={Limit.MESSAGE_NESTING: 1025})
    for wrong in ({"poll": 1}, {Limit.POLL: "1"}, {Limit.JOBS: "1"}, {Limit.POLL: None}, 7):
        with pytest.raises(blockjob.InvalidArgument):
            await connect(fake.path, limits=wrong)


def test_threads_that_connect_at_once_share_a_context(fake: FakeQemu, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}") for number in range(8)]
    sockets = (word for path in paths for word in ("--socket", path))
    with FakeQemu(*sockets):
        barrier = threading.Barrier(len(paths))
        monitors: list[Any] = []

        def connect(path: str) -> None:
            barrier.wait()
            monitors.append(blockjob.sync.connect(path))

        threads = [threading.Thread(target=connect, args=[path]) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        jobs = [monitor.mirror("drive0", target="copy0") for monitor in monitors]
        # Else there could be no such group.
        assert len(blockjob.sync.Group(jobs).jobs) == len(paths)
        for monitor in monitors:
            monitor.close()


async def test_no_limit(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri, timeout=None) as monitor:
        job = await monitor.mirror("drive", target="copy", timeout=math.inf)
        assert await job.pivot(timeout=1e30) is Outcome.PIVOTED


async def test_b48_a_silent_qemu_meets_the_deadline(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        disks.stop()
        with pytest.raises(blockjob.Timeout):
            await monitor.execute("query-block-jobs", timeout=0.05)
        disks.go_on()
        # The late reply is dropped; the next one is the right one.
        assert await monitor.execute("query-jobs") == []


async def test_b02_event_before_the_reply(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        fake.do("hold", command="blockdev-mirror")
        start = asyncio.ensure_future(monitor.mirror("drive0", target="copy0", job_id="job0"))
        await asyncio.to_thread(fake.wait, "blockdev-mirror")
        fake.do("ready", job="job0")
        fake.do("release", command="blockdev-mirror")
        job = await start
        await job.ready(timeout=30)


async def test_one_wait_in_another_loop(disks: Qemu) -> None:
    async with blockjob.connect(disks.uri) as monitor:

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(monitor.jobs())

        await asyncio.to_thread(elsewhere)
        assert await monitor.jobs() == []
