# SPDX-License-Identifier: MIT
# Several jobs: awaited, pivoted or given up together, and started as one.

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import blockjob
import pytest
from blockjob import Limit, Outcome
from control import FakeQemu
from fronts import Threaded
from qemu import HALTED_MIRROR, Qemu

Connect = Callable[..., Awaitable[Any]]

NAMES = ("one", "two")


def group_of(jobs: list[Any]) -> Any:
    """A Group of the front-end that the jobs are of."""
    if isinstance(jobs[0], Threaded):
        return Threaded(blockjob.sync.Group(job.inner for job in jobs))
    return blockjob.Group(jobs)


def is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, blockjob.Error)


def inner(job: Any) -> Any:
    return job.inner if isinstance(job, Threaded) else job


async def mirrors(monitor: Any, count: int = 2) -> list[Any]:
    return [
        await monitor.mirror("drive0", target=f"copy{number}", job_id=f"job{number}")
        for number in range(count)
    ]


@pytest.fixture
def disks(daemon: Qemu) -> Qemu:
    """A qemu-storage-daemon with the disks "one" and "two", and room for a copy of each."""
    for name in NAMES:
        daemon.add_disk(name)
        daemon.add_empty(f"{name}-copy")
    return daemon


async def test_b08_all_are_pivoted(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        jobs = [
            await monitor.mirror(name, target=f"{name}-copy", job_id=name, **options)
            for name, options in zip(NAMES, ({}, HALTED_MIRROR), strict=True)
        ]
        group = group_of(jobs)
        assert group.jobs == tuple(inner(job) for job in jobs)
        assert repr(group) == "<Group ['one', 'two']>"
        waiting = asyncio.ensure_future(group.pivot())
        await jobs[0].ready()
        # Nothing is completed before all are ready.
        with pytest.raises(blockjob.Timeout):
            await group.ready(timeout=0)
        assert jobs[0].timeline.complete_sent is None
        await jobs[1].set_speed(0)
        assert await waiting is Outcome.PIVOTED
        assert await group.done(released=True) == (Outcome.PIVOTED, Outcome.PIVOTED)
        await group.ready()
        assert await group.pivot() is Outcome.PIVOTED


async def test_b08_jobs_of_two_monitors(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as one, await connect(disks.second_path) as two:
        group = group_of(
            [
                await one.mirror("one", target="one-copy"),
                await two.mirror("two", target="two-copy"),
            ]
        )
        assert await group.pivot(timeout=60) is Outcome.PIVOTED


async def test_b08_none_is_pivoted_when_one_fails(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        jobs = await mirrors(monitor, 3)
        waiting = asyncio.ensure_future(group_of(jobs).pivot())
        for number in (0, 1):
            fake.do("ready", job=f"job{number}")
        await jobs[1].ready()
        fake.do("fail", job="job2", error="No space left on device")
        with pytest.raises(blockjob.JobFailed, match="No space left on device") as caught:
            await waiting
        assert caught.value.job is not None
        assert caught.value.job == inner(jobs[2])
        assert "job2" in repr(caught.value)
        assert [job.outcome for job in jobs] == [Outcome.COPIED, Outcome.COPIED, Outcome.FAILED]


async def test_b08_any(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        jobs = await mirrors(monitor)
        group = group_of(jobs)
        with pytest.raises(blockjob.Timeout):
            await group.any(timeout=0)
        fake.do("ready", job="job1")
        await jobs[1].pivot()
        first = await group.any()
        assert inner(first) == inner(jobs[1]) and first.outcome is Outcome.PIVOTED
        fake.do("fail", job="job0", error="Input/output error")
        with pytest.raises(blockjob.JobFailed) as caught:
            await group_of(jobs[:1]).any(released=True)
        assert caught.value.job == inner(jobs[0])


async def test_b08_done_tells_the_first_that_failed(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        jobs = await mirrors(monitor)
        group = group_of(jobs)
        waiting = asyncio.ensure_future(group.done())
        fake.do("fail", job="job0", error="Input/output error")
        with pytest.raises(blockjob.JobFailed):
            await jobs[0].done()
        assert not waiting.done()  # the other goes on
        fake.do("ready", job="job1")
        await jobs[1].pivot()
        with pytest.raises(blockjob.JobFailed, match="Input/output error") as caught:
            await waiting
        assert caught.value.job == inner(jobs[0])


async def test_b08_ready_tells_who_will_not_be(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        jobs = await mirrors(monitor)
        waiting = asyncio.ensure_future(group_of(jobs).ready())
        await asyncio.sleep(0)
        await jobs[1].abort()
        with pytest.raises(blockjob.JobEnded) as caught:
            await waiting
        assert caught.value.job == inner(jobs[1])
        assert caught.value.outcome is Outcome.CANCELLED


async def test_b08_a_kind_without_a_pivot(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        jobs = [*await mirrors(monitor, 1), await monitor.backup("disk0", target="copy1")]
        with pytest.raises(blockjob.StateError) as caught:
            await group_of(jobs).pivot()
        assert caught.value.job == inner(jobs[1])
        assert [job.outcome for job in jobs] == [None, None]


async def test_b08_abort(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        jobs = await mirrors(monitor)
        fake.do("ready", job="job1")
        await jobs[1].ready()
        group = group_of(jobs)
        fake.do("hold-end", job="job0")
        fake.do("hold-end", job="job1")
        assert await group.abort(wait=False) == (None, None)
        for number in (0, 1):
            fake.do("finish", job=f"job{number}")
        assert await group.abort() == (Outcome.CANCELLED, Outcome.COPIED)
        assert await group.abort(force=True) == (Outcome.CANCELLED, Outcome.COPIED)


@pytest.mark.parametrize("profile", ["1.7", "2.12"])
async def test_c115_another_clients_pause_rolls_back(connect: Connect, profile: str) -> None:
    # Such a QEMU has no event for it.
    with FakeQemu(profile=profile) as fake:
        async with await connect(fake.path, limits={Limit.POLL: 0.01}) as monitor:
            jobs = [
                await monitor.start(
                    "drive-mirror", {"device": device, "target": "copy", "sync": "full"}
                )
                for device in ("drive-a", "drive-b")
            ]
            fake.do("ready", job=jobs[0].id)
            await jobs[0].ready()
            waiting = asyncio.ensure_future(group_of(jobs).pivot())
            await monitor.jobs()
            fake.do("execute", command="block-job-pause", arguments={"device": jobs[1].id})
            with pytest.raises(blockjob.Stalled) as caught:
                await waiting
            assert caught.value.job == inner(jobs[1])
            assert [job.outcome for job in jobs] == [Outcome.COPIED, None]


async def test_b06_b07_a_groups_wait_leaves_the_jobs_alone(disks: Qemu) -> None:
    async with blockjob.connect(disks.uri) as monitor:
        jobs = [
            await monitor.mirror(name, target=f"{name}-copy", job_id=name, **HALTED_MIRROR)
            for name in NAMES
        ]
        group = blockjob.Group(jobs)
        for wait in (group.ready, group.done, group.any, group.pivot):
            with pytest.raises(blockjob.Timeout):
                await wait(timeout=0.01)
            task = asyncio.create_task(wait())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert disks.jobs() == {"one": "running", "two": "running"}
        assert await group.abort(timeout=60) == (Outcome.CANCELLED, Outcome.CANCELLED)


async def test_what_is_no_group(connect: Connect, fake: FakeQemu) -> None:
    for module in (blockjob, blockjob.sync):
        with pytest.raises(blockjob.InvalidArgument, match="job"):
            module.Group([])
    async with await connect(fake.path) as monitor:
        (job,) = await mirrors(monitor, 1)
        for timeout in (-1, float("nan")):
            with pytest.raises(blockjob.InvalidArgument, match="timeout"):
                await group_of([job]).done(timeout=timeout)
        with FakeQemu() as other:
            limits = {Limit.WATCH_RING: 17}
            async with await connect(other.path, limits=limits) as stranger:
                (theirs,) = await mirrors(stranger, 1)
                with pytest.raises(blockjob.InvalidArgument, match="limits"):
                    group_of([job, theirs])


def backup(disk: str, **options: Any) -> dict[str, Any]:
    data = {"device": disk, "target": f"{disk}-copy", "sync": "full", **options}
    return {"type": "blockdev-backup", "data": data}


def bitmap(name: str) -> dict[str, Any]:
    return {"type": "block-dirty-bitmap-add", "data": {"node": "two", "name": name}}


async def test_b43_a_transaction(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        jobs = await monitor.transaction(backup(name, **{"job-id": name}) for name in NAMES)
        assert [job.id for job in jobs] == list(NAMES)
        for job in jobs:
            assert await job.done(released=True) is Outcome.COMPLETED
        # What the library adds to a start it adds here.
        assert await monitor.jobs() == []


async def test_b43_what_starts_no_job_may_be_among_them(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        jobs = await monitor.transaction([bitmap("first"), backup("two"), backup("one")])
        assert [await job.done() for job in jobs] == [Outcome.COMPLETED] * 2
        assert await monitor.transaction([bitmap("second")]) == []


async def test_b43_the_fate_of_a_group_is_told_for_each(connect: Connect, disks: Qemu) -> None:
    disks.add_failing("bad-copy")
    disks.add_disk("bad")
    async with await connect(disks.uri) as monitor:
        jobs = await monitor.transaction(
            [backup("one", speed=1), backup("bad")], grouped=True, timeout=60
        )
        with pytest.raises(blockjob.JobFailed):
            await jobs[1].done()
        assert await jobs[0].done() is Outcome.CANCELLED


async def test_b43_each_has_a_fate_of_its_own(connect: Connect, disks: Qemu) -> None:
    disks.add_failing("bad-copy")
    disks.add_disk("bad")
    async with await connect(disks.uri) as monitor:
        jobs = await monitor.transaction([backup("one"), backup("bad")])
        with pytest.raises(blockjob.JobFailed) as caught:
            await group_of(jobs).done()
        assert caught.value.job == inner(jobs[1])
        assert jobs[0].outcome is Outcome.COMPLETED


async def test_b41_b43_refused_it_leaves_no_job(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        with pytest.raises(blockjob.Refused, match="nowhere"):
            await monitor.transaction([backup("one"), backup("nowhere")])
        assert await monitor.jobs() == []
        with pytest.raises(blockjob.InvalidArgument, match="transaction"):
            await monitor.transaction([backup("one", speed=object())])
        with pytest.raises(blockjob.InvalidArgument):
            await monitor.transaction([{}])
        assert await monitor.jobs() == []


async def test_c107_errors_are_pickled_and_copied(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        jobs = await mirrors(monitor)
        waiting = asyncio.ensure_future(group_of(jobs).done())
        fake.do("fail", job="job0", error="No space left on device")
        fake.do("execute", command="job-cancel", arguments={"id": "job1"})
        with pytest.raises(blockjob.JobFailed) as caught:
            await waiting
        error = caught.value
        assert error.job == inner(jobs[0])
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(other) is type(error)
            assert str(other) == str(error)
            assert (other.code, other.outcome) == (error.code, error.outcome)
        assert pickle.loads(pickle.dumps(error)).job is None
        assert copy.copy(error).job is error.job
        wrongs: list[Any] = [7, [7], [*map(inner, jobs), 7]]
        for wrong in wrongs:
            with pytest.raises(blockjob.InvalidArgument, match=r"jobs|not iterable"):
                blockjob.Group(wrong)


@pytest.mark.parametrize("kind", [kind for kind in vars(blockjob).values() if is_error(kind)])
def test_c107_each_class_of_error_is_pickled(kind: type[blockjob.Error]) -> None:
    error = kind("a sentence", code=blockjob.ErrorCode.STATE, error_class="GenericError")
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is kind
    assert repr(other) == repr(error)
    assert other.__dict__ == error.__dict__
