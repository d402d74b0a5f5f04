# SPDX-License-Identifier: MIT
# What happens, as it happens: events, progress, the records of a job.

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import blockjob
import blockjob.sync
import pytest
from blockjob import Outcome, Progress, RecordKind
from control import FakeQemu
from fronts import in_thread
from qemu import DISK_BYTES, HALTED, HALTED_MIRROR, Qemu

Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def disks(daemon: Qemu) -> Qemu:
    """A qemu-storage-daemon with the disks "drive" and "copy"."""
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    return daemon


async def test_b63_progress_until_ready(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        seen: list[Progress] = []
        async for progress in job.progress(interval=0.001):
            seen.append(progress)
            if progress.current == 65536:
                assert progress.total == DISK_BYTES
                assert progress.fraction == 65536 / DISK_BYTES
                await job.set_speed(0)
        assert not any(progress.ready for progress in seen[:-1])
        assert seen[-1].ready
        assert seen[-1].fraction == 1.0
        assert await job.pivot() is Outcome.PIVOTED


async def test_progress_of_what_is_ready_or_over(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        await job.ready()
        seen = [progress async for progress in job.progress()]
        assert seen[-1].ready and seen[-1].fraction == 1.0
        await job.pivot()
        async for progress in job.progress():
            assert progress.ready


async def test_progress_to_the_end(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.backup("drive", target="copy", **HALTED)
        seen: list[Progress] = []
        async for progress in job.progress(interval=0.001):
            seen.append(progress)
            if len(seen) == 1:
                await job.set_speed(0)
        assert seen[-1].fraction == 1.0
        assert not seen[-1].ready
        assert await job.done() is Outcome.COMPLETED


async def test_progress_of_a_job_that_fails(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_failing("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        async for progress in job.progress():
            assert not progress.ready
        with pytest.raises(blockjob.JobFailed, match="Input/output error"):
            await job.pivot()


async def test_b13_progress_says_why_it_stands_still(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_failing("copy", once=True)
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", on_target_error="stop")
        reasons: set[str] = set()
        async for progress in job.progress(interval=3600):
            if progress.stalled and progress.stalled not in reasons:
                await job.resume()
            reasons.add(progress.stalled)
        assert any(reasons)
        assert await job.pivot() is Outcome.PIVOTED


@pytest.mark.parametrize("interval", [0, -1.0, float("nan"), float("inf")])
async def test_progress_at_no_interval(connect: Connect, disks: Qemu, interval: float) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        with pytest.raises(blockjob.InvalidArgument, match="interval"):
            job.progress(interval)
        with pytest.raises(blockjob.InvalidArgument, match="interval"):
            job.watch(interval)


async def test_b60_watch_sees_all_of_a_job(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        watches = [job.watch(), job.watch(progress=0.001)]
        await job.set_speed(0)
        await job.pivot()
        plain = [record async for record in watches[0]]
        full = [record async for record in watches[1]]
        late = [record async for record in job.watch()]
    for records in (plain, full):
        kinds = [record.kind for record in records if record.kind is not RecordKind.PROGRESS]
        assert kinds.count(RecordKind.READY) == 1
        assert kinds[-1] is RecordKind.ENDED
        assert records[-1].outcome is Outcome.PIVOTED
        assert records[-1].error is None
        assert records[-1].timestamp > 1.6e9
        statuses = [record.status for record in records if record.kind is RecordKind.STATUS]
        assert statuses.index("ready") < statuses.index("waiting")
    assert RecordKind.PROGRESS not in [record.kind for record in plain]
    assert [record.kind for record in late] == [RecordKind.READY, RecordKind.ENDED]


async def test_b62_watch_ends_with_the_reason(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_failing("copy", errno=28)
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        records = [record async for record in job.watch()]
    assert records[-1].kind is RecordKind.ENDED
    assert records[-1].outcome is Outcome.FAILED
    assert isinstance(records[-1].error, blockjob.JobFailed)
    assert str(records[-1].error) == records[-1].text == "No space left on device"


async def test_b60_events(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        streams = [monitor.events(), monitor.events()]
        job = await monitor.mirror("drive", target="copy", job_id="seen")
        await job.pivot()
        await job.done(released=True)
        seen = [await until(stream, "BLOCK_JOB_COMPLETED") for stream in streams]
        assert seen[0] == seen[1]
        ready = next(event for event in seen[0] if event.name == "BLOCK_JOB_READY")
        assert ready.data["device"] == "seen"
        assert ready.data["len"] == DISK_BYTES
        assert ready.timestamp == pytest.approx(job.timeline.ready_event)
        assert ready.lost == 0


async def until(stream: Any, name: str) -> list[blockjob.Event]:
    seen: list[blockjob.Event] = []
    async for event in stream:
        seen.append(event)
        if event.name == name:
            break
    return seen


async def test_b49_unknown_events_are_passed_on(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        events = monitor.events()
        fake.do("emit", event="NEWS", data={"big": 2**70, "text": "\u20ac"})
        fake.do("emit", event="NO_DATA")
        assert (await events.__anext__())[:2] == ("NEWS", {"big": 2**70, "text": "\u20ac"})
        assert (await events.__anext__())[:2] == ("NO_DATA", {})


async def test_c06_an_integer_of_many_digits_is_a_decimal(connect: Connect, fake: FakeQemu) -> None:
    digits = "1" * 5000
    async with await connect(fake.path) as monitor:
        events = monitor.events()
        text = f'{{"event": "LARGE", "data": {{"large": -{digits}, "small": 2}}}}\r\n'
        fake.do("raw", text=text)
        fake.do("emit", event="NEWS")
        assert (await events.__anext__()).data == {"large": Decimal("-" + digits), "small": 2}
        assert (await events.__anext__()).name == "NEWS"


async def test_b61_a_slow_reader_is_told_how_many_it_lost(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        events = monitor.events()
        for number in range(1000):
            fake.do("emit", event="NEWS", data={"number": number})
        await monitor.execute("query-version")
        seen, lost = [], 0
        async for event in events:
            lost += event.lost
            seen.append(event.data["number"])
            if event.data["number"] == 999:
                break
        assert len(seen) + lost == 1000
        assert lost > 0
        assert seen == sorted(seen)


async def test_events_end_when_the_monitor_is_closed(connect: Connect, daemon: Qemu) -> None:
    monitor = await connect(daemon.uri)
    events = monitor.events()
    reading = asyncio.ensure_future(events.__anext__())
    await asyncio.sleep(0)
    await monitor.close()
    with pytest.raises(StopAsyncIteration):
        await reading
    assert [event async for event in events] == []


async def test_b62_events_say_that_qemu_is_gone(connect: Connect, daemon: Qemu) -> None:
    async with await connect(daemon.uri) as monitor:
        events = monitor.events()
        reading = asyncio.ensure_future(events.__anext__())
        await asyncio.sleep(0)
        daemon.kill()
        with pytest.raises(blockjob.Disconnected):
            await reading
        # Told once; then it is just over.
        assert [event async for event in events] == []


async def test_a_stream_that_is_closed(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        events = monitor.events()
        async with events:
            pass
        assert [event async for event in events] == []
        events = monitor.events()
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        progress = job.progress(interval=3600)
        async for _ in progress:
            break
        del progress
        await job.abort()
        await events.__anext__()
        async with events:
            pass
        assert [event async for event in events] == []


async def test_a_stream_closed_while_someone_waits(disks: Qemu) -> None:
    async with blockjob.connect(disks.uri) as monitor:
        events = monitor.events()
        reading = asyncio.create_task(events.__anext__())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await events.__anext__()
        events.close()
        with pytest.raises(StopAsyncIteration):
            await reading
        second = monitor.events()
        reading = asyncio.create_task(second.__anext__())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await monitor.mirror("drive", target="copy")
        assert (await second.__anext__()).name == "JOB_STATUS_CHANGE"
        # What nobody waits for wakes nobody.
        assert not asyncio.get_running_loop().remove_reader(second._inbox.fd)


async def test_c55_aclosing(daemon: Qemu) -> None:
    async with contextlib.aclosing(await blockjob.connect(daemon.uri)) as monitor:
        async with contextlib.aclosing(monitor.events()) as events:
            assert repr(events) == f"<Stream of the events of {daemon.uri}>"
        assert repr(events) == f"<Stream of the events of {daemon.uri}, over>"
        with pytest.raises(StopAsyncIteration):
            await events.__anext__()
    assert isinstance(await monitor.closed(), blockjob.Closed)
    assert repr(monitor).endswith(", closed>")


async def test_what_objects_look_like(connect: Connect, disks: Qemu) -> None:
    monitor = await connect(disks.uri)
    version = monitor.qemu_version
    assert repr(monitor) == f"<Monitor {disks.uri} of QEMU {version}>"
    job = await monitor.mirror("drive", target="copy", job_id="one", **HALTED_MIRROR)
    assert repr(job.progress()) == "<Stream of the progress of job 'one'>"
    assert repr(job.watch()) == "<Stream of the records of job 'one'>"
    disks.kill()
    await monitor.closed()
    assert repr(monitor) == f"<Monitor {disks.uri} of QEMU {version}, disconnected>"
    connecting = blockjob.connect("unix:/none")
    assert repr(connecting) == "<Connecting to 'unix:/none'>"
    connecting.close()


async def test_a_stream_with_a_deadline(disks: Qemu) -> None:
    short: list[Any] = [0, 0.01, Decimal("0.01"), Fraction(1, 100)]
    wrong: list[Any] = [-1, math.nan, Decimal("nan"), "1", 1j]
    long: list[Any] = [30, 1e10, 1e300, math.inf, Decimal("inf")]

    def with_deadline() -> None:
        with blockjob.sync.connect(disks.uri) as monitor, monitor.events() as events:
            waits: list[Callable[..., Any]] = [events.get, monitor.closed]
            for wait in waits:
                for timeout in short:
                    with pytest.raises(blockjob.Timeout, match=f"within {float(timeout):g} s"):
                        wait(timeout=timeout)
                for timeout in wrong:
                    with pytest.raises(blockjob.InvalidArgument, match="timeout"):
                        wait(timeout=timeout)
            job = monitor.mirror("drive", target="copy")
            assert events.get(timeout=30).name == "JOB_STATUS_CHANGE"
            job.ready()
            job.pivot()
            for timeout in long:
                events.get(timeout=timeout)
        for timeout in [*short, *long]:
            assert isinstance(monitor.closed(timeout=timeout), blockjob.Closed)

    await in_thread(with_deadline)


async def test_c109_get_after_the_end(disks: Qemu) -> None:
    def read() -> None:
        with blockjob.sync.connect(disks.uri) as monitor:
            events = monitor.events()
            watch = monitor.mirror("drive", target="copy").watch()
        with pytest.raises(blockjob.Closed, match="over"):
            while True:
                watch.get()
        for stream in (watch, events):
            for _ in stream:
                pass
            with pytest.raises(blockjob.Closed, match="over"):
                stream.get(timeout=0)

    await in_thread(read)
