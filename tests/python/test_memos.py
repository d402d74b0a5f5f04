# SPDX-License-Identifier: MIT
# A program that was away learns by its memos what became of its jobs.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from blockjob import ChangeKind, InvalidArgument, Outcome
from qemu import HALTED_MIRROR, Qemu

Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def disks(daemon: Qemu) -> Qemu:
    """A qemu-storage-daemon with the disks "drive", which a guest uses, and "copy"."""
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    daemon.add_guest("drive")
    return daemon


def their_mirror(qemu: Qemu, **options: Any) -> None:
    qemu.do(
        "blockdev-mirror", job_id="theirs", device="drive", target="copy", sync="full", **options
    )


async def next_change(stream: Any, kind: ChangeKind) -> Any:
    change = await anext(stream)
    assert change.kind is kind, change
    return change


async def memo_of_a_ready_job(stream: Any) -> str:
    """The last memo before anything changes again: it has the graph, and that the job is ready."""
    memo, ready = "", False
    async for change in stream:
        ready = ready or change.kind is ChangeKind.READY
        if change.kind is ChangeKind.MEMO:
            memo = change.memo
        if ready and '"graph"' in memo and change.kind is ChangeKind.MEMO and change.job.is_ready:
            return memo
    raise AssertionError("the stream ended")


async def test_c13_our_mirror_goes_on(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        stream = monitor.watch_jobs(memos=True)
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        appeared = await next_change(stream, ChangeKind.APPEARED)
        assert (appeared.memo, appeared.resumed) == ("", False)
        memo = (await next_change(stream, ChangeKind.MEMO)).memo
        while '"graph"' not in memo:
            memo = (await next_change(stream, ChangeKind.MEMO)).memo
        assert job.memo.isascii() and job.memo.isprintable()

    async with await connect(disks.uri) as monitor:
        stream = monitor.watch_jobs(remembered=[memo])
        appeared = await next_change(stream, ChangeKind.APPEARED)
        assert (appeared.memo, appeared.resumed, appeared.inferred) == (memo, True, False)
        assert appeared.started and appeared.text == ""
        await appeared.job.set_speed(0)
        assert await appeared.job.pivot() is Outcome.PIVOTED
        await next_change(stream, ChangeKind.READY)
        ended = await next_change(stream, ChangeKind.ENDED)
        assert (ended.outcome, ended.inferred) == (Outcome.PIVOTED, False)
        await next_change(stream, ChangeKind.RELEASED)
        assert appeared.job.memo == ""
    assert disks.jobs() == {}


async def test_c13_another_client_completed_it(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        stream = monitor.watch_jobs(memos=True)
        their_mirror(disks)
        memo = await memo_of_a_ready_job(stream)
    disks.do("job-complete", id="theirs")
    disks.wait("JOB_STATUS_CHANGE", id="theirs", status="null")

    async with await connect(disks.uri) as monitor:
        stream = monitor.watch_jobs(remembered=(memo,))
        appeared = await next_change(stream, ChangeKind.APPEARED)
        assert (appeared.memo, appeared.resumed, appeared.started) == (memo, False, False)
        await next_change(stream, ChangeKind.READY)
        ended = await next_change(stream, ChangeKind.ENDED)
        assert (ended.outcome, ended.inferred) == (Outcome.PIVOTED, True)
        assert ended.job.outcome is Outcome.PIVOTED


async def test_c13_another_run_has_its_id(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        stream = monitor.watch_jobs(memos=True)
        their_mirror(disks)
        memo = await memo_of_a_ready_job(stream)
    disks.do("job-cancel", id="theirs")
    disks.wait("JOB_STATUS_CHANGE", id="theirs", status="null")
    their_mirror(disks, speed=1, buf_size=65536)

    async with await connect(disks.uri) as monitor:
        stream = monitor.watch_jobs(remembered=[memo])
        before = await next_change(stream, ChangeKind.APPEARED)
        await next_change(stream, ChangeKind.READY)
        ended = await next_change(stream, ChangeKind.ENDED)
        assert ended.outcome is Outcome.LOST
        assert "a job that is not ready" in ended.text
        await next_change(stream, ChangeKind.RELEASED)
        now = await next_change(stream, ChangeKind.APPEARED)
        assert (before.memo, now.memo, now.resumed) == (memo, "", False)
        assert before.job != now.job
        await now.job.abort(force=True)


async def test_c13_bad_memos(connect: Connect, disks: Qemu) -> None:
    async with await connect(disks.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        good = job.memo
        with pytest.raises(InvalidArgument, match=r"remembered\[1\]: it was cut or changed"):
            monitor.watch_jobs(remembered=[good, good[:-1]])
        with pytest.raises(InvalidArgument, match=r"remembered\[0\]: it is not a memo"):
            monitor.watch_jobs(remembered="x")
        with pytest.raises(InvalidArgument, match="null character"):
            monitor.watch_jobs(remembered=[good + "\0"])
        with pytest.raises(InvalidArgument):
            monitor.watch_jobs(remembered=[7])
        with pytest.raises(InvalidArgument):
            monitor.watch_jobs(remembered=None)
        await job.abort(force=True)
