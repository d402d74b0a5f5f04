# SPDX-License-Identifier: MIT
# How jobs on a real QEMU end, and that both front-ends tell the truth about it.

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import blockjob
import pytest
from blockjob import Outcome
from blockjob._records import make_info
from control import FakeQemu
from qemu import DISK_BYTES, HALTED, HALTED_MIRROR, Qemu

Connect = Callable[..., Awaitable[Any]]


def content(qemu: Qemu, name: str) -> bytes:
    return (qemu.directory / f"{name}.raw").read_bytes()


async def test_pivot(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    daemon.add_guest("drive")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", sync="full")
        assert job.type == "mirror"
        assert job.outcome is None
        await job.ready(timeout=60)
        assert job.is_ready
        assert await job.pivot() is Outcome.PIVOTED
        assert job.outcome is Outcome.PIVOTED
        assert job.error == ""
        assert await job.done(released=True) is Outcome.PIVOTED
    assert daemon.disk_of_guest() == "copy"
    assert content(daemon, "copy") == content(daemon, "drive")


async def test_pivot_on_a_system_emulator(connect: Connect, system: Qemu) -> None:
    system.add_disk("drive")
    system.add_empty("copy")
    async with await connect(system.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        assert await job.pivot(timeout=60) is Outcome.PIVOTED


async def test_timeline(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        assert job.timeline.complete_sent is None
        await job.pivot()
        timeline = job.timeline
    assert None not in timeline
    assert timeline.start_sent <= timeline.ready_seen <= timeline.complete_sent
    assert timeline.complete_sent <= timeline.complete_accepted
    assert timeline.ready_event <= timeline.end_event <= timeline.end_seen


async def test_b14_soft_abort_of_a_ready_mirror_is_a_copy(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    daemon.add_guest("drive")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        await job.ready()
        assert await job.abort() is Outcome.COPIED
    assert daemon.disk_of_guest() == "drive"
    assert content(daemon, "copy") == content(daemon, "drive")


async def test_abort_before_ready(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        assert await job.abort() is Outcome.CANCELLED
        assert job.outcome is Outcome.CANCELLED


async def test_forced_abort_of_a_ready_mirror(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        await job.ready()
        assert await job.abort(force=True) is Outcome.CANCELLED


async def test_b36_soft_abort_becomes_forced(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        assert await job.abort(force_after=30) is Outcome.CANCELLED
        with pytest.raises(blockjob.InvalidArgument, match="force_after"):
            await job.abort(force=True, force_after=1)
        with pytest.raises(blockjob.InvalidArgument, match="force_after"):
            await job.abort(wait=False, force_after=1)


async def test_b37_abort_without_waiting_still_ends_for_all(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        waiting = asyncio.ensure_future(job.done())
        assert await job.abort(wait=False) in (None, Outcome.CANCELLED)
        assert await waiting is Outcome.CANCELLED


async def test_b37_abort_without_waiting_returns_before_the_end(
    connect: Connect, fake: FakeQemu
) -> None:
    async with await connect(fake.path) as monitor:
        job = await monitor.mirror("drive0", target="copy0", job_id="job0")
        fake.do("hold-end", job="job0")
        assert await job.abort(wait=False) is None
        with pytest.raises(blockjob.Timeout):
            await job.done(timeout=0)
        fake.do("finish", job="job0")
        assert await job.done() is Outcome.CANCELLED


async def test_b35_abort_of_what_is_over(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        await job.pivot()
        assert await job.abort() is Outcome.PIVOTED
        assert await job.abort(force=True) is Outcome.PIVOTED
        assert await job.abort(wait=False) is Outcome.PIVOTED


async def test_b11_failure_has_qemus_text(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_failing("copy", errno=28)
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        with pytest.raises(blockjob.JobFailed) as caught:
            await job.pivot()
        assert str(caught.value) == "No space left on device"
        assert caught.value.outcome is Outcome.FAILED
        assert caught.value.code == blockjob.ErrorCode.JOB_FAILED
        assert repr(caught.value) == "JobFailed('No space left on device', outcome=Outcome.FAILED)"
        with pytest.raises(blockjob.JobFailed, match="No space left on device"):
            await job.done()
        with pytest.raises(blockjob.JobFailed, match="No space left on device"):
            await job.ready()
        assert job.outcome is Outcome.FAILED
        assert job.error == "No space left on device"


async def test_b13_stalled_job_is_told(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_failing("copy", once=True)
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", on_target_error="stop")
        for wait in (job.ready, job.done, job.pivot, job.abort):
            with pytest.raises(blockjob.Stalled):
                await wait(timeout=30)
        await job.resume()
        assert await job.pivot() is Outcome.PIVOTED


async def test_b13_force_ends_a_stalled_job(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_failing("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", on_target_error="stop")
        with pytest.raises(blockjob.Stalled):
            await job.ready()
        assert await job.abort(force=True) is Outcome.CANCELLED


async def test_b31_pivot_before_ready_waits(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        pivot = asyncio.ensure_future(job.pivot())
        with pytest.raises(blockjob.Timeout):
            await job.ready(timeout=0)
        await job.set_speed(0)
        assert await pivot is Outcome.PIVOTED


async def test_b31_pivot_only_if_ready(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        with pytest.raises(blockjob.NotReady):
            await job.pivot(only_if_ready=True)
        assert job.outcome is None
        assert job.timeline.complete_sent is None
        await job.set_speed(0)
        await job.ready()
        assert await job.pivot(only_if_ready=True) is Outcome.PIVOTED


async def test_b32_callers_share_one_pivot(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy")
        outcomes = await asyncio.gather(*(job.pivot() for _ in range(20)))
    assert outcomes == [Outcome.PIVOTED] * 20


async def test_stream(connect: Connect, daemon: Qemu) -> None:
    daemon.add_chain()
    async with await connect(daemon.uri) as monitor:
        job = await monitor.stream("active")
        assert await job.done(released=True) is Outcome.COMPLETED


async def test_b09_stream_is_never_ready(connect: Connect, daemon: Qemu) -> None:
    daemon.add_chain()
    async with await connect(daemon.uri) as monitor:
        job = await monitor.stream("active", **HALTED)
        with pytest.raises(blockjob.StateError):
            await job.ready()
        with pytest.raises(blockjob.StateError):
            await job.pivot()
        await job.abort()


async def test_b09_ready_wait_ends_with_the_job(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        waiting = asyncio.ensure_future(job.ready())
        await job.abort()
        with pytest.raises(blockjob.JobEnded) as caught:
            await waiting
        assert caught.value.outcome is Outcome.CANCELLED


@pytest.mark.parametrize(
    ("verb", "outcome"),
    [
        (("job-complete", "id"), Outcome.PIVOTED),
        (("block-job-cancel", "device"), Outcome.COPIED),
    ],
)
async def test_c10_a_filter_whose_disk_another_client_replaces(
    connect: Connect, daemon: Qemu, verb: tuple[str, str], outcome: Outcome
) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    daemon.do("blockdev-add", driver="copy-on-read", node_name="top", file="drive")
    daemon.add_guest("top")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("top", target="copy", replaces="drive")
        await job.ready()
        for _ in range(2):
            await monitor.jobs()  # the library has seen who uses the disk
        command, key = verb
        daemon.do(command, {key: job.id})
        assert await job.done() is outcome


async def test_commit_of_the_active_layer(connect: Connect, daemon: Qemu) -> None:
    daemon.add_chain()
    async with await connect(daemon.uri) as monitor:
        job = await monitor.commit("active")
        await job.ready()
        assert await job.pivot() is Outcome.PIVOTED


async def test_commit_of_an_intermediate_layer(connect: Connect, daemon: Qemu) -> None:
    daemon.add_chain()
    async with await connect(daemon.uri) as monitor:
        job = await monitor.commit("active", top_node="middle", base_node="base")
        assert await job.done() is Outcome.COMPLETED


async def test_backup(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.backup("drive", target="copy", sync="full")
        assert await job.done(released=True) is Outcome.COMPLETED
    assert content(daemon, "copy") == content(daemon, "drive")


async def test_b52_any_command_that_starts_a_job(connect: Connect, daemon: Qemu) -> None:
    path = daemon.directory / "new.raw"
    path.touch()
    daemon.do("blockdev-add", driver="file", node_name="new", filename=str(path))
    async with await connect(daemon.uri) as monitor:
        options = {"driver": "file", "filename": str(path), "size": DISK_BYTES}
        job = await monitor.start("blockdev-create", job_id="making", options=options)
        assert job.id == "making"
        assert await job.done() is Outcome.COMPLETED
    assert path.stat().st_size == DISK_BYTES


async def test_two_jobs_in_parallel(connect: Connect, daemon: Qemu) -> None:
    for name in ("one", "two"):
        daemon.add_disk(name)
        daemon.add_empty(f"{name}-copy")
    async with await connect(daemon.uri) as monitor:
        one = await monitor.mirror("one", target="one-copy")
        two = await monitor.mirror("two", target="two-copy", **HALTED_MIRROR)
        assert one != two
        assert one.id != two.id
        assert await one.pivot() is Outcome.PIVOTED
        assert two.outcome is None
        assert await two.abort() is Outcome.CANCELLED
        assert one.outcome is Outcome.PIVOTED


async def test_b51_attach(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    daemon.do("blockdev-mirror", job_id="theirs", device="drive", target="copy", sync="full")
    daemon.wait("BLOCK_JOB_READY")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.attach("theirs")
        again = await monitor.attach("theirs")
        assert job == again and hash(job) == hash(again)
        assert job.id == "theirs"
        await job.ready()
        assert await job.pivot() is Outcome.PIVOTED
        assert again.outcome is Outcome.PIVOTED


async def test_attach_to_nothing(connect: Connect, daemon: Qemu) -> None:
    async with await connect(daemon.uri) as monitor:
        with pytest.raises(blockjob.NoJob, match="nowhere"):
            await monitor.attach("nowhere")


async def test_b16_cancelled_by_another_client(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", job_id="ours", **HALTED_MIRROR)
        waiting = [asyncio.ensure_future(wait()) for wait in (job.done, job.pivot)]
        daemon.do("job-cancel", id="ours")
        assert await waiting[0] is Outcome.CANCELLED
        with pytest.raises(blockjob.JobEnded):
            await waiting[1]


async def test_b20_an_id_used_again_is_another_run(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        first = await monitor.mirror("drive", target="copy", job_id="same", **HALTED)
        assert await first.abort(force=True) is Outcome.CANCELLED
        await first.done(released=True)
        second = await monitor.mirror("drive", target="copy", job_id="same")
        assert first != second
        await second.ready()
        assert await second.abort() is Outcome.COPIED
        assert await first.done() is Outcome.CANCELLED


async def test_b40_the_library_makes_up_an_id_and_dismisses(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.backup("drive", target="copy")
        assert job.id
        await job.done(released=True)
        assert await monitor.jobs() == []


async def test_b41_a_refused_start_leaves_no_job(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    async with await connect(daemon.uri) as monitor:
        with pytest.raises(blockjob.Refused, match="nowhere") as caught:
            await monitor.mirror("drive", target="nowhere")
        assert caught.value.error_class == "GenericError"
        assert "GenericError" in repr(caught.value)
        assert await monitor.jobs() == []


async def test_b42_finalize(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.backup("drive", target="copy", auto_finalize=False, **HALTED)
        watch = job.watch()
        await job.set_speed(0)
        with pytest.raises(blockjob.Timeout):
            await job.done(timeout=0)
        async for record in watch:
            if record.status == "pending":
                break
        assert await job.finalize() is Outcome.COMPLETED


async def test_dismiss_of_a_job_that_is_the_callers(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.backup("drive", target="copy", job_id="mine", auto_dismiss=False)
        await job.done()
        daemon.wait_status("concluded")
        await job.dismiss()
        assert await monitor.jobs() == []


async def test_b44_pause_resume_and_speed(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
        await job.set_speed(2)
        info = await job.query()
        assert (info.id, info.type, info.speed, info.ready) == (job.id, "mirror", 2, False)
        assert info.total == DISK_BYTES
        await job.pause()
        assert (await job.query()).paused
        await job.resume()
        assert not (await job.query()).paused
        assert [row.id for row in await monitor.jobs()] == [job.id]
        await job.abort()
        daemon.wait_status("null")
        with pytest.raises(blockjob.NoJob):
            await job.query()
        with pytest.raises(blockjob.StateError):
            await job.pause()


def test_what_qemu_does_not_tell_is_none() -> None:
    info = make_info(("a", "mirror", "", "", "", -1, -1, -1, False, False, False, False))
    assert (info.current, info.total, info.speed) == (None, None, None)
    info = make_info(("a", "mirror", "", "", "", 0, 1, 0, False, False, False, True))
    assert (info.current, info.total, info.speed, info.auto_finalize) == (0, 1, 0, True)


async def test_b22_nodes_are_free_when_released(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        for _ in range(20):
            job = await monitor.backup("drive", target="copy")
            await job.done(released=True)
        await monitor.execute("blockdev-del", node_name="copy")


async def test_c121_released_of_what_the_caller_keeps(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        job = await monitor.mirror("drive", target="copy", job_id="first", auto_dismiss=False)
        await job.ready()
        await job.abort()
        assert await job.done(released=True) is Outcome.COPIED
        await monitor.execute("blockdev-del", node_name="copy")
        await job.dismiss()

        daemon.add_empty("backup")
        job = await monitor.backup("drive", target="backup", job_id="second", auto_dismiss=False)
        with pytest.raises(blockjob.Stalled, match="dismiss"):
            await job.done(released=True)
        released = asyncio.ensure_future(job.done(released=True))
        await job.dismiss()
        assert await released is Outcome.COMPLETED


async def test_b53_two_monitors_on_one_qemu(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as one, await connect(daemon.second_path) as two:
        job = await one.mirror("drive", target="copy")
        seen = await two.attach(job.id)
        await seen.ready()
        assert await job.pivot() is Outcome.PIVOTED
        assert await seen.done() in (Outcome.PIVOTED, Outcome.COMPLETED)


async def test_reprs(connect: Connect, daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    async with await connect(daemon.uri) as monitor:
        assert repr(monitor) == f"<Monitor {daemon.uri} of QEMU {monitor.qemu_version}>"
        job = await monitor.mirror("drive", target="copy", job_id="one", **HALTED_MIRROR)
        assert repr(job) == "<Job 'one' mirror running>"
        await job.set_speed(0)
        await job.ready()
        assert repr(job) == "<Job 'one' mirror ready>"
        await job.pivot()
        assert repr(job) == "<Job 'one' mirror PIVOTED>"
    assert repr(Outcome.PIVOTED) == "Outcome.PIVOTED"
    assert str(Outcome.PIVOTED) == "PIVOTED"
