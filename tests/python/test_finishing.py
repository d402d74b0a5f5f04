# SPDX-License-Identifier: MIT
# Pivots that return with QEMU's consent, verbs that wait for the nodes as well, finishing a job of
# any kind, and jobs that are lost with their connection: on a real QEMU, from both front-ends.

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import blockjob
import blockjob.sync
import pytest
from blockjob import ChangeKind, Outcome, RecordKind
from control import FakeQemu
from fronts import Threaded
from qemu import HALTED, HALTED_MIRROR, Qemu

Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def disks(daemon: Qemu) -> Qemu:
    """A qemu-storage-daemon with the disks "drive" and "copy"."""
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    return daemon


def group_of(job: Any) -> Any:
    """A Group of the front-end that the job is of."""
    if isinstance(job, Threaded):
        return Threaded(blockjob.sync.Group([job.inner]))
    return blockjob.Group([job])


async def test_w09_a_pivot_that_does_not_wait(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        # A job that has accepted a complete stays pending until it is finalized.
        job = await monitor.mirror("drive", target="copy", auto_finalize=False)
        assert await job.pivot(wait=False, timeout=60) is None
        assert job.outcome is None
        assert job.timeline.complete_accepted is not None
        disks.wait_status("pending")
        assert await job.pivot(wait=False) is None
        assert await job.finalize() is Outcome.PIVOTED
        assert await job.pivot(wait=False) is Outcome.PIVOTED


async def test_w09_a_pivot_that_does_not_wait_says_what_is_in_its_way(
    connect: Connect, disks: Qemu
) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        with pytest.raises(blockjob.Timeout):
            await job.pivot(wait=False, timeout=0.02)
        with pytest.raises(blockjob.NotReady):
            await job.pivot(wait=False, only_if_ready=True)
        await job.abort()
        with pytest.raises(blockjob.JobEnded) as caught:
            await job.pivot(wait=False)
        assert caught.value.outcome is Outcome.CANCELLED


async def test_w09_verbs_until_released(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        assert await job.pivot(released=True) is Outcome.PIVOTED
        await monitor.execute("blockdev-del", node_name="drive")

        disks.add_empty("other")
        job = await monitor.mirror("copy", target="other")
        await job.ready()
        assert await job.abort(released=True) is Outcome.COPIED
        await monitor.execute("blockdev-del", node_name="other")


async def test_w09_nodes_that_are_kept(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.backup("drive", target="copy", auto_dismiss=False, **HALTED)
        with pytest.raises(blockjob.Stalled, match="dismiss"):
            await job.abort(force=True, released=True)
        assert job.outcome is Outcome.CANCELLED
        await job.dismiss()
        assert await job.abort(released=True) is Outcome.CANCELLED


async def test_w09_options_that_exclude_each_other(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        for options in (
            {"wait": False, "released": True},
            {"force_after": 1, "released": True},
            {"force_after": 1, "wait": False},
        ):
            with pytest.raises(blockjob.InvalidArgument):
                await job.abort(**options)
        with pytest.raises(blockjob.InvalidArgument):
            await job.pivot(wait=False, released=True)
        with pytest.raises(blockjob.InvalidArgument):
            await job.finish(timeout=-1)
        assert job.outcome is None
        await job.abort()


async def test_w09_a_group_is_aborted_until_released(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        group = group_of(job)
        outcomes = await group.abort(released=True)
        assert outcomes == (job.outcome,)
        await monitor.execute("blockdev-del", node_name="copy")
        with pytest.raises(blockjob.InvalidArgument):
            await group.abort(wait=False, released=True)


async def test_w09_either_kind_of_commit_is_finished(connect: Connect, daemon: Qemu) -> None:
    daemon.add_chain()
    async with await connect(daemon.uri) as monitor:
        job = await monitor.commit("active", top_node="middle", base_node="base")
        assert await job.finish(released=True, timeout=60) is Outcome.COMPLETED
        job = await monitor.commit("active")
        assert await job.finish(released=True, timeout=60) is Outcome.PIVOTED
        await monitor.execute("blockdev-del", node_name="active")


async def test_w09_any_kind_is_finished(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.backup("drive", target="copy")
        assert await job.finish(released=True) is Outcome.COMPLETED
        job = await monitor.mirror("drive", target="copy")
        assert await job.finish() is Outcome.PIVOTED


async def test_w09_what_is_not_finished(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.backup("drive", target="copy", **HALTED)
        await job.pause()
        with pytest.raises(blockjob.Stalled):
            await job.finish()
        await job.abort(force=True, released=True)
        with pytest.raises(blockjob.JobEnded) as caught:
            await job.finish()
        assert caught.value.outcome is Outcome.CANCELLED

        job = await monitor.mirror("drive", target="copy")
        await job.ready()
        disks.do("job-complete", id=job.id)  # another client's, of a disk that nobody uses
        assert await job.done() is Outcome.COMPLETED
        with pytest.raises(blockjob.JobEnded, match="unknown"):
            await job.finish()


async def test_w09_a_job_is_lost_with_its_connection(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        records = job.watch()
        changes = monitor.watch_jobs()
        disks.kill()
        for error in (blockjob.JobLost, blockjob.Disconnected, ConnectionError):
            with pytest.raises(error):
                await job.done()
        with pytest.raises(blockjob.JobLost) as caught:
            await job.pivot()
        assert caught.value.code is blockjob.ErrorCode.JOB_LOST
        assert caught.value.outcome is Outcome.LOST
        copy = pickle.loads(pickle.dumps(caught.value))
        assert isinstance(copy, blockjob.JobLost) and isinstance(copy, blockjob.Disconnected)

        async for record in records:
            if record.kind is RecordKind.ENDED:
                assert isinstance(record.error, blockjob.Disconnected)
                assert isinstance(record.error, blockjob.JobLost)
        with pytest.raises(blockjob.Disconnected):
            async for change in changes:
                if change.kind is ChangeKind.ENDED:
                    assert isinstance(change.error, blockjob.Disconnected)
                    assert isinstance(change.error, blockjob.JobLost)


async def test_w09_a_job_that_vanished_is_only_lost(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await monitor.mirror("drive0", target="copy0")
        fake.do("emit", event="JOB_STATUS_CHANGE", data={"id": job.id, "status": "null"})
        with pytest.raises(blockjob.JobLost) as caught:
            await job.done()
        assert not isinstance(caught.value, blockjob.Disconnected)


async def test_w09_the_jobs_of_a_stream_are_equal_to_ours(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        changes = monitor.watch_jobs()
        job = await monitor.mirror("drive", target="copy")
        change = await changes.__anext__()
        assert change.job == job and hash(change.job) == hash(job)
        assert await monitor.attach(job.id) == job
        await job.finish(released=True)
        assert await monitor.mirror("copy", target="drive", job_id=job.id) != job


async def test_w09_events_by_name(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        events = monitor.events("BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED", "NO_SUCH_EVENT")
        job = await monitor.mirror("drive", target="copy")
        await job.finish(released=True)
        await monitor.close()
        assert [event.name async for event in events] == ["BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED"]


async def test_w09_a_flood_of_other_events_costs_nothing(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path, limits={blockjob.Limit.WATCH_RING: 2}) as monitor:
        events = monitor.events("WANTED")
        fake.do("emit", event="WANTED")
        for _ in range(100):
            fake.do("emit", event="OTHER")
        fake.do("emit", event="WANTED")
        await monitor.jobs()
        await monitor.close()
        assert [(event.name, event.lost) async for event in events] == [("WANTED", 0)] * 2


async def test_w09_names_of_events_that_are_none(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        for names in ([""], ["A", None], [1], [["A"]], ["A\0B"], ["A"] * 1025):
            with pytest.raises(blockjob.InvalidArgument):
                monitor.events(*names)
        async with monitor.events(*["A"] * 1024):
            pass


async def test_w09_a_close_does_not_wait_for_qemu(connect: Connect, disks: Qemu) -> None:
    monitor = await connect(disks.uri)
    job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
    disks.stop()
    pending = asyncio.ensure_future(monitor.execute("query-status"))
    waiting = asyncio.ensure_future(job.done())
    await asyncio.sleep(0)
    await monitor.close()
    assert isinstance(await monitor.closed(), blockjob.Closed)
    for task in (pending, waiting):
        with pytest.raises(blockjob.Closed):
            await task
    disks.go_on()
