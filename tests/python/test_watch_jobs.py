# SPDX-License-Identifier: MIT
# All jobs of a QEMU, whoever started them, as they come and end.

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import blockjob
import blockjob.sync
import pytest
from blockjob import ChangeKind, JobChange, Limit, Outcome, _core
from blockjob._streams import JobsReader
from control import FakeQemu
from qemu import DISK_BYTES, HALTED_MIRROR, Qemu

Connect = Callable[..., Awaitable[Any]]

APPEARED, READY, ENDED, RELEASED = (
    ChangeKind.APPEARED,
    ChangeKind.READY,
    ChangeKind.ENDED,
    ChangeKind.RELEASED,
)


@pytest.fixture
def disks(daemon: Qemu) -> Qemu:
    """A qemu-storage-daemon with the disks "drive" and "copy"."""
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    return daemon


def their_job(qemu: Qemu, command: str, job_id: str, **options: Any) -> None:
    """Another client starts a job."""
    qemu.do(command, job_id=job_id, device="drive", target="copy", sync="full", **options)


def their_fake_mirror(fake: FakeQemu, job_id: str) -> None:
    arguments = {"job-id": job_id, "device": "drive0", "target": "copy0", "sync": "full"}
    fake.do("execute", command="blockdev-mirror", arguments=arguments)


async def until(stream: Any, kind: ChangeKind, job_id: str | None = None) -> list[Any]:
    """The changes up to one of that kind, and of that job."""
    changes: list[Any] = []
    async for change in stream:
        changes.append(change)
        if change.kind is kind and (job_id is None or change.job.id == job_id):
            return changes
    raise AssertionError(f"the stream ended without {kind}")


def kinds(changes: list[Any]) -> list[ChangeKind]:
    return [change.kind for change in changes if change.kind is not ChangeKind.PROGRESS]


async def test_b60_a_job_of_another_client_from_beginning_to_end(
    connect: Connect, disks: Qemu
) -> None:
    async with await connect(disks.uri) as monitor:
        stream = monitor.watch_jobs()
        assert repr(stream) == f"<Stream of the jobs of {disks.uri}>"
        their_job(disks, "blockdev-backup", "theirs")
        changes = await until(stream, RELEASED)
        appeared, ended, _ = changes
    assert kinds(changes) == [APPEARED, ENDED, RELEASED]
    assert isinstance(appeared, JobChange)
    assert {change.job.id for change in changes} == {"theirs"}
    assert {change.type for change in changes} == {"backup"}
    assert [change.sequence for change in changes] == [1, 2, 3]
    assert not any(change.started or change.lost or change.lost_ends for change in changes)
    assert (appeared.outcome, appeared.error) == (None, None)
    assert (ended.outcome, ended.error, ended.text) == (Outcome.COMPLETED, None, "")
    assert ended.timestamp == pytest.approx(ended.job.timeline.end_event)
    assert appeared.job == ended.job
    assert ended.job.outcome is Outcome.COMPLETED


async def test_b60_a_hundred_short_jobs_of_another_client(connect: Connect, disks: Qemu) -> None:
    jobs = [f"short{number}" for number in range(100)]
    async with await connect(disks.uri) as monitor:
        stream = monitor.watch_jobs()
        for job_id in jobs:
            their_job(disks, "blockdev-backup", job_id)
            disks.wait("JOB_STATUS_CHANGE", id=job_id, status="null")
        changes = await until(stream, RELEASED, jobs[-1])
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    for job_id in jobs:
        of_job = [change for change in changes if change.job.id == job_id]
        assert kinds(of_job) == [APPEARED, ENDED, RELEASED]
        assert of_job[1].outcome is Outcome.COMPLETED
        assert len({change.job for change in of_job}) == 1
    # The jobs are the reader's, long after the stream has given them out.
    assert {change.job.outcome for change in changes} == {Outcome.COMPLETED}


async def test_b60_jobs_that_are_there_already_come_first(connect: Connect, disks: Qemu) -> None:
    their_job(disks, "blockdev-mirror", "old")
    disks.wait_status("ready")
    async with await connect(disks.uri) as monitor:
        changes = await until(monitor.watch_jobs(), READY)
        assert kinds(changes) == [APPEARED, READY]
        assert changes[0].type == changes[0].job.type == "mirror"
        assert not changes[0].started
        assert changes[0].job == await monitor.attach("old")
        assert await changes[0].job.pivot() is Outcome.PIVOTED


async def test_b60_our_own_mirror_is_steered_by_its_changes(connect: Connect, disks: Qemu) -> None:
    disks.add_guest("drive")
    async with await connect(disks.uri) as monitor:
        stream = monitor.watch_jobs()
        job = await monitor.mirror("drive", target="copy")
        seen: list[Any] = []
        async for change in stream:
            seen.append(change)
            assert change.job == job
            if change.kind is READY:
                assert await change.job.pivot() is Outcome.PIVOTED
            if change.kind is RELEASED:
                break
    assert kinds(seen) == [APPEARED, READY, ENDED, RELEASED]
    assert [change.started for change in seen] == [True, False, False, False]
    assert seen[2].outcome is Outcome.PIVOTED
    assert disks.disk_of_guest() == "copy"


async def test_b60_every_stream_sees_every_job(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        first = monitor.watch_jobs()
        job = await monitor.mirror("drive", target="copy")
        await job.ready()
        second = monitor.watch_jobs()
        await job.abort()
        for stream in (first, second):
            changes = await until(stream, RELEASED)
            assert kinds(changes) == [APPEARED, READY, ENDED, RELEASED]
            assert changes[2].outcome is Outcome.COPIED


async def test_b60_why_a_job_failed(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_failing("copy", errno=28)
    async with await connect(daemon.uri) as monitor:
        stream = monitor.watch_jobs()
        their_job(daemon, "blockdev-mirror", "theirs")
        ended = (await until(stream, ENDED))[-1]
    assert ended.outcome is Outcome.FAILED
    assert isinstance(ended.error, blockjob.JobFailed)
    assert ended.error.outcome is Outcome.FAILED
    assert str(ended.error) == ended.text == "No space left on device"


async def test_b60_stalled_and_resumed(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        stream = monitor.watch_jobs()
        their_fake_mirror(fake, "theirs")
        fake.do("io-error", action="stop", operation="write", nospace=True)
        stalled = (await until(stream, ChangeKind.STALLED))[-1]
        assert "a write error stopped it" in stalled.text
        assert stalled.error is None
        await stalled.job.resume()
        resumed = (await until(stream, ChangeKind.RESUMED))[-1]
        assert resumed.job == stalled.job


async def test_b63_progress_of_all_jobs(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        stream = monitor.watch_jobs(progress=0.001)
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        async for change in stream:
            if change.progress and change.progress.current == 65536:
                assert change.kind is ChangeKind.PROGRESS
                assert change.job == job
                assert change.progress.total == DISK_BYTES
                assert change.progress.fraction == 65536 / DISK_BYTES
                await job.set_speed(0)
            if change.progress and change.progress.current == change.progress.total:
                break
        plain = monitor.watch_jobs()
        await job.abort()
        assert kinds(await until(stream, RELEASED))[-2:] == [ENDED, RELEASED]
        assert all(change.progress is None for change in await until(plain, RELEASED))


@pytest.mark.parametrize("interval", [0, -1.0, float("nan"), float("inf"), "1"])
async def test_progress_at_no_interval(connect: Connect, daemon: Qemu, interval: Any) -> None:
    async with await connect(daemon.uri) as monitor:
        with pytest.raises(blockjob.InvalidArgument, match="interval"):
            monitor.watch_jobs(progress=interval)


async def test_b45_the_end_of_the_connection(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        stream = monitor.watch_jobs()
        their_job(disks, "blockdev-mirror", "theirs", speed=1)
        await until(stream, APPEARED)
        disks.kill()
        ended, _ = changes = await until(stream, RELEASED)
        assert kinds(changes) == [ENDED, RELEASED]
        assert ended.outcome is Outcome.LOST
        assert isinstance(ended.error, blockjob.JobLost)
        with pytest.raises(blockjob.Disconnected):
            await anext(stream)
        assert repr(stream) == f"<Stream of the jobs of {disks.uri}, over>"
        # Told once; then it is just over.
        assert [change async for change in stream] == []


async def test_it_ends_when_the_monitor_is_closed(connect: Connect, disks: Qemu) -> None:
    monitor = await connect(disks.uri)
    stream = monitor.watch_jobs()
    their_job(disks, "blockdev-mirror", "theirs", speed=1)
    await until(stream, APPEARED)
    await monitor.close()
    changes = [change async for change in stream]
    assert kinds(changes) == [ENDED, RELEASED]
    assert changes[0].outcome is Outcome.LOST
    assert [change async for change in stream] == []


async def test_b45_it_goes_on_through_a_new_connection(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path, reconnect=60) as monitor:
        stream = monitor.watch_jobs()
        job = await monitor.mirror("drive0", target="copy0", job_id="ours")
        their_fake_mirror(fake, "theirs")
        await until(stream, APPEARED, "theirs")
        fake.do("die")
        gone = (await until(stream, ChangeKind.DISCONNECTED))[-1]
        assert (gone.job, gone.type, gone.outcome) == (None, "", None)
        assert isinstance(gone.error, blockjob.Disconnected)
        fake.do("fail", job="ours", error="No space left on device")
        their_fake_mirror(fake, "meanwhile")
        fake.do("start", jobs="keep")
        changes = await until(stream, ChangeKind.RECONNECTED)
    assert (changes[-1].job, changes[-1].error) == (None, None)
    told = {(change.kind, change.job.id): change for change in changes[:-1]}
    assert told[ENDED, "ours"].job == job
    assert told[ENDED, "ours"].text == "No space left on device"
    assert not told[APPEARED, "meanwhile"].started
    assert (ENDED, "theirs") not in told  # it goes on


async def test_b61_a_slow_reader_still_hears_of_every_end(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path, limits={Limit.WATCH_RING: 4}) as monitor:
        slow, quick = monitor.watch_jobs(), monitor.watch_jobs()
        await short_jobs(fake, quick, 20)
        changes = await until(slow, RELEASED, "short19")
        check_counted(changes)
        assert sum(change.lost for change in changes) > 0
        assert sum(change.lost_ends for change in changes) == 0
        ended = [change for change in changes if change.kind is ENDED]
        assert [change.job.id for change in ended] == [f"short{n}" for n in range(20)]
        assert {change.outcome for change in ended} == {Outcome.COMPLETED}


async def test_b61_lost_ends_are_counted(connect: Connect, fake: FakeQemu) -> None:
    limits = {Limit.WATCH_RING: 4, Limit.JOBS: 2}  # so that four ENDED and READY are kept
    async with await connect(fake.path, limits=limits) as monitor:
        slow, quick = monitor.watch_jobs(), monitor.watch_jobs()
        await short_jobs(fake, quick, 20)
        changes = await until(slow, RELEASED, "short19")
        check_counted(changes)
        ended = [change for change in changes if change.kind is ENDED]
        assert len(ended) == 4
        assert sum(change.lost_ends for change in changes) == 16


async def short_jobs(fake: FakeQemu, stream: Any, count: int) -> None:
    """Another client's jobs, one after the other. Returns when the library knows of them all."""
    for number in range(count):
        job_id = f"short{number}"
        arguments = {"job-id": job_id, "device": "drive0", "target": "copy0", "sync": "full"}
        fake.do("execute", command="blockdev-backup", arguments=arguments)
        fake.do("finish", job=job_id)
        await until(stream, RELEASED, job_id)


def check_counted(changes: list[Any]) -> None:
    """What is missing in the sequence is what was lost."""
    last = 0
    for change in changes:
        assert change.sequence == last + change.lost + 1
        last = change.sequence


async def test_a_stream_that_is_closed_early(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        stream, other = monitor.watch_jobs(), monitor.watch_jobs()
        their_job(disks, "blockdev-backup", "theirs")
        async with stream:
            async for change in stream:
                assert change.kind is APPEARED
                break
        assert [change async for change in stream] == []
        assert repr(stream) == f"<Stream of the jobs of {disks.uri}, over>"
        # Of another, nothing is missing.
        assert kinds(await until(other, RELEASED)) == [APPEARED, ENDED, RELEASED]


def test_what_comes_after_a_close_is_nothing() -> None:
    """A close() in one thread may overtake what another is just reading."""
    reader: JobsReader[Any] = JobsReader(lambda handle: handle)
    released = (
        *(0, _core.RECORD_RELEASED, 0, 0, 0, 0, 0, 0, "", "", None),
        *(3, 0, False, 0, False, False),
    )
    reader.records.append(released)
    reader.close()
    reader.records.append(released)
    assert reader.take() is None
    assert reader.over


async def test_aclosing(disks: Qemu) -> None:
    async with blockjob.connect(disks.uri) as monitor:
        async with contextlib.aclosing(monitor.watch_jobs()) as stream:
            reading = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
        with pytest.raises(StopAsyncIteration):
            await reading


async def test_a_stream_keeps_its_monitor_until_it_is_closed(disks: Qemu) -> None:
    monitor = await blockjob.connect(disks.uri)
    kept = weakref.ref(monitor)
    stream = monitor.watch_jobs()
    del monitor
    gc.collect()
    their_job(disks, "blockdev-backup", "theirs")
    assert kinds(await until(stream, RELEASED)) == [APPEARED, ENDED, RELEASED]
    assert kept() is not None
    stream.close()
    gc.collect()
    assert kept() is None


def test_a_stream_keeps_its_monitor_until_it_is_over(disks: Qemu) -> None:
    monitor = blockjob.sync.connect(disks.uri)
    kept = weakref.ref(monitor)
    stream = monitor.watch_jobs()
    del monitor
    gc.collect()
    their_job(disks, "blockdev-backup", "theirs")
    assert [stream.get(timeout=60).kind for _ in range(3)] == [APPEARED, ENDED, RELEASED]
    assert kept() is not None
    disks.kill()
    with pytest.raises(blockjob.Disconnected):
        stream.get(timeout=60)
    gc.collect()
    assert kept() is None


async def notice_of(stream: Any, words: str) -> Any:
    """The first change, or record, that says so; others may come before, as more becomes known."""
    async for change in stream:
        if change.kind.name == "STALLED" and words in change.text:
            return change
    raise AssertionError(f"the stream ended without {words!r}")


async def test_w02_a_target_that_does_not_answer(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_served("far")
    async with await connect(daemon.uri, limits={Limit.CONVERGE: 0.05}) as monitor:
        job = await monitor.mirror("drive", target="far", sync="full", **HALTED_MIRROR)
        daemon.hang("far")
        await job.set_speed(0)
        stream, changes = job.watch(), monitor.watch_jobs()
        await notice_of(stream, "its target does not answer")
        change = await notice_of(changes, "its target does not answer")
        assert change.job == job
        with pytest.raises(blockjob.Timeout, match="its target does not answer"):
            await job.done(timeout=0)
        daemon.answer("far")
        await job.ready()
        await until(changes, ChangeKind.RESUMED)
        assert await job.pivot() is Outcome.PIVOTED


async def test_c51_errors_that_are_ignored_are_counted(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_failing("broken")
    async with await connect(daemon.uri, limits={Limit.CONVERGE: 0.05}) as monitor:
        job = await monitor.mirror("drive", target="broken", sync="full", on_target_error="ignore")
        change = await notice_of(monitor.watch_jobs(), "errors writing to the target were ignored")
        assert int(change.text.split()[0]) > 0
        assert await job.abort(force=True) is Outcome.CANCELLED


async def test_c52_a_pending_job_waits_for_finalize(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri, limits={Limit.CONVERGE: 0.05}) as monitor:
        job = await monitor.backup("drive", target="copy", sync="full", auto_finalize=False)
        await notice_of(monitor.watch_jobs(), "pending until somebody finalizes it")
        with pytest.raises(blockjob.Timeout, match="pending until somebody finalizes it"):
            await job.done(timeout=0)
        assert await job.finalize() is Outcome.COMPLETED
