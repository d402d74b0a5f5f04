# SPDX-License-Identifier: MIT
# What fakeqemu makes go wrong, and that no front-end tells anything but the truth about it.

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import blockjob
import pytest
from blockjob import Limit, Outcome, RecordKind
from control import FakeQemu

Connect = Callable[..., Awaitable[Any]]

DISK_BYTES = 64 * 1024 * 1024


async def mirror(monitor: Any, target: str = "copy0") -> Any:
    return await monitor.mirror("drive0", target=target, job_id="job0")


async def ready_mirror(monitor: Any, fake: FakeQemu, target: str = "copy0") -> Any:
    job = await mirror(monitor, target)
    fake.do("ready", job="job0")
    await job.ready()
    return job


async def all_seen(monitor: Any) -> None:
    """Returns when the library has read what QEMU has said so far."""
    await monitor.execute("query-version")


async def stays(wait: Any) -> None:
    """The wait has no answer now."""
    with pytest.raises(blockjob.Timeout):
        await wait(timeout=0)


def sent(fake: FakeQemu, *commands: str) -> int:
    return sum(entry.get("command") in commands for entry in fake.log())


async def test_b01_what_a_command_leads_to_comes_before_its_reply(
    connect: Connect, fake: FakeQemu
) -> None:
    for command in ("blockdev-mirror", "job-complete", "block-job-cancel"):
        fake.do("order", command=command, events="before", count=0)
    async with await connect(fake.path) as monitor:
        job = await ready_mirror(monitor, fake)
        assert await job.pivot() is Outcome.PIVOTED
        await job.done(released=True)  # its id is free
        job = await ready_mirror(monitor, fake, "copy1")
        assert await job.abort() is Outcome.COPIED


@pytest.mark.parametrize("text", ["No space left on device", None])
async def test_b03_over_before_the_first_wait(
    connect: Connect, fake: FakeQemu, text: str | None
) -> None:
    async with await connect(fake.path) as monitor:
        fake.do("hold", command="blockdev-backup")
        start = asyncio.ensure_future(
            monitor.backup("drive0", target="copy0", job_id="job0", auto_dismiss=True)
        )
        await asyncio.to_thread(fake.wait, "blockdev-backup")
        # It is over, and gone, before its start is answered.
        if text is None:
            fake.do("finish", job="job0")
        else:
            fake.do("fail", job="job0", error=text)
        fake.do("release", command="blockdev-backup")
        job = await start
        for wait in (job.done, job.abort):
            if text is None:
                assert await wait(timeout=0) is Outcome.COMPLETED
            elif wait == job.done:
                with pytest.raises(blockjob.JobFailed, match=text):
                    await wait(timeout=0)
        assert [record.kind async for record in job.watch()] == [RecordKind.ENDED]


async def test_b10_gone_is_not_success(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await ready_mirror(monitor, fake)
        waiting = asyncio.ensure_future(job.done())
        fake.do("vanish", job="job0")
        with pytest.raises(blockjob.NoJob):
            await job.query()
        with pytest.raises(blockjob.JobLost) as caught:
            await waiting
        assert caught.value.outcome is job.outcome is Outcome.LOST
        assert job.error and job.error in str(caught.value)


async def test_c89_long_reasons_can_be_printed(connect: Connect, fake: FakeQemu) -> None:
    reason = "é" * 4000
    async with await connect(fake.path) as monitor:
        for begin in ("", "x"):  # what is cut is cut at an even byte, and at an odd one
            refusal = {"class": "GenericError", "desc": begin + reason}
            fake.do("answer", command="query-status", error=refusal)
            with pytest.raises(blockjob.Refused) as refused:
                await monitor.execute("query-status")
            job = await mirror(monitor)
            fake.do("fail", job="job0", error=begin + reason)
            with pytest.raises(blockjob.JobFailed) as failed:
                await job.done(released=True)
            for text in (str(refused.value), str(failed.value), job.error):
                assert text.encode().decode().count("é") > 400


async def test_b12_errors_that_are_reported_end_nothing(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await mirror(monitor)
        records = job.watch()
        for action in ("report", "ignore"):
            fake.do("io-error", job="job0", action=action, operation="write")
        await all_seen(monitor)
        await stays(job.done)
        await stays(job.ready)
        fake.do("ready", job="job0")
        assert await job.pivot() is Outcome.PIVOTED
        kinds = [record.kind async for record in records]
        assert RecordKind.STALLED not in kinds
        assert kinds[-1] is RecordKind.ENDED


@pytest.mark.parametrize(
    ("command", "outcome"),
    [("block-job-complete", Outcome.PIVOTED), ("block-job-cancel", Outcome.COPIED)],
)
async def test_b15_another_clients_verb_is_looked_up(
    connect: Connect, fake: FakeQemu, command: str, outcome: Outcome
) -> None:
    async with await connect(fake.path) as monitor:
        job = await ready_mirror(monitor, fake)
        fake.do("execute", command=command, arguments={"device": "job0"})
        assert await job.done() is outcome


async def test_b15_where_nothing_can_tell_nothing_is_told(connect: Connect, fake: FakeQemu) -> None:
    refusal = {"class": "GenericError", "desc": "no graph today"}
    fake.do("answer", command="x-debug-query-block-graph", error=refusal, count=0)
    async with await connect(fake.path) as monitor:
        job = await ready_mirror(monitor, fake)
        records = job.watch()
        fake.do("execute", command="block-job-complete", arguments={"device": "job0"})
        assert await job.done() is Outcome.COMPLETED
        ended = [record async for record in records][-1]
        assert "switch" in ended.text


@pytest.mark.parametrize("force", [False, True])
async def test_b17_a_cancel_that_comes_too_late_tells_the_truth(
    connect: Connect, fake: FakeQemu, force: bool
) -> None:
    async with await connect(fake.path) as monitor:
        job = await monitor.backup("drive0", target="copy0", job_id="job0")
        for command in ("job-cancel", "block-job-cancel"):
            steps = [{"do": "finish", "job": "job0"}]
            fake.do("when", command=command, at="received", steps=steps)
        assert await job.abort(force=force) is Outcome.COMPLETED
        assert await job.done(released=True) is Outcome.COMPLETED


async def test_b18_the_first_end_wins(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await ready_mirror(monitor, fake)
        records = job.watch()
        # So that the run is still known.
        fake.do("answer", command="job-dismiss", **{"return": {}})
        assert await job.pivot() is Outcome.PIVOTED
        late = {"device": "job0", "type": "mirror"}
        fake.do("emit", event="BLOCK_JOB_CANCELLED", data=late)
        fake.do("emit", event="BLOCK_JOB_COMPLETED", data=late | {"error": "late"})
        fake.do("emit", event="JOB_STATUS_CHANGE", data={"id": "job0", "status": "null"})
        await all_seen(monitor)
        assert job.outcome is await job.done() is Outcome.PIVOTED
        assert job.error == ""
        kinds = [record.kind async for record in records]
        assert kinds.count(RecordKind.ENDED) == 1


async def test_b19_two_jobs_of_a_kind_are_told_apart(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        ours = await mirror(monitor)
        other = await monitor.mirror("disk0", target="copy1", job_id="job1")
        waiting = asyncio.ensure_future(ours.pivot())
        fake.do("ready", job="job1")
        fake.do("fail", job="job1", error="Input/output error")
        with pytest.raises(blockjob.JobFailed, match="Input/output error"):
            await other.done()
        assert not ours.is_ready and ours.outcome is None
        fake.do("ready", job="job0")
        assert await waiting is Outcome.PIVOTED


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        ({"verb": "finish"}, Outcome.COMPLETED),
        ({"verb": "fail", "error": "Input/output error"}, Outcome.FAILED),
        ({"verb": "execute", "command": "job-cancel", "arguments": {"id": "j"}}, Outcome.CANCELLED),
    ],
    ids=str,
)
async def test_b21_a_concluded_row_says_how_it_ended(
    connect: Connect, fake: FakeQemu, step: dict[str, Any], outcome: Outcome
) -> None:
    arguments: dict[str, Any] = {"device": "drive0", "target": "copy0", "sync": "full"}
    arguments |= {"job-id": "j", "auto-dismiss": False}
    fake.do("execute", command="blockdev-backup", arguments=arguments)
    fake.do(**step)
    async with await connect(fake.path) as monitor:
        job = await monitor.attach("j")
        if outcome is Outcome.FAILED:
            with pytest.raises(blockjob.JobFailed, match="Input/output error"):
                await job.done(timeout=0)
        else:
            assert await job.done(timeout=0) is outcome
        assert job.outcome is outcome
        assert [info.status for info in await monitor.jobs()] == ["concluded"]
        await job.dismiss()
        assert await monitor.jobs() == []


async def test_b23_equal_is_not_ready(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await mirror(monitor)
        for length in (DISK_BYTES, 0):
            fake.do("progress", job="job0", offset=length, len=length)
            info = await job.query()
            assert not info.ready
            await stays(job.ready)
            with pytest.raises(blockjob.NotReady):
                await job.pivot(only_if_ready=True)
        assert sent(fake, "job-complete", "block-job-complete") == 0


async def test_b24_an_empty_disk_is_ready_when_qemu_says_so(
    connect: Connect, fake: FakeQemu
) -> None:
    async with await connect(fake.path) as monitor:
        job = await mirror(monitor)
        fake.do("progress", job="job0", offset=0, len=0)
        fake.do("ready", job="job0")
        await job.ready()
        info = await job.query()
        assert (info.current, info.total, info.ready) == (0, 0, True)
        last = [progress async for progress in job.progress()][-1]
        assert last.ready and last.fraction == 1.0
        assert await job.pivot() is Outcome.PIVOTED


async def test_b25_progress_never_looks_complete_before_ready(
    connect: Connect, fake: FakeQemu
) -> None:
    async with await connect(fake.path) as monitor:
        job = await mirror(monitor)
        fake.do("progress", job="job0", offset=DISK_BYTES, len=DISK_BYTES)
        info = await job.query()
        assert info.current < info.total
        async for progress in job.progress(0.001):
            if progress.ready:
                break
            if progress.current:
                assert progress.fraction < 1.0
                fake.do("ready", job="job0")
        else:
            pytest.fail("the progress ended before the job was ready")
        assert progress.fraction == 1.0


async def test_b26_a_qemu_that_knows_no_ready(connect: Connect) -> None:
    with FakeQemu(profile="2.0") as fake:
        arguments = {"device": "drive0", "target": "copy0", "sync": "full"}
        fake.do("execute", command="drive-mirror", arguments=arguments)
        fake.do("ready")
        async with await connect(fake.path) as monitor:
            job = await monitor.attach("drive0")
            await job.ready()
            assert await job.pivot() is Outcome.PIVOTED


async def test_b27_a_bounce_is_no_second_ready(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await ready_mirror(monitor, fake)
        records = job.watch()
        fake.do("bounce", job="job0", times=5)
        await all_seen(monitor)
        await job.ready(timeout=0)
        assert await job.pivot() is Outcome.PIVOTED
        kinds = [record.kind async for record in records]
        assert kinds.count(RecordKind.READY) == 1
        assert RecordKind.STALLED not in kinds


async def test_b28_a_stale_row_overrules_nothing(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await mirror(monitor)
        # What QEMU has computed says "running"; READY overtakes it.
        steps = [{"do": "ready", "job": "job0"}]
        fake.do("when", command="query-jobs", at="done", steps=steps)
        again = await monitor.attach("job0")
        assert again == job and job.is_ready
        await job.ready(timeout=0)
        assert await job.pivot() is Outcome.PIVOTED


async def test_b30_a_mirror_that_does_not_converge_is_told(
    connect: Connect, fake: FakeQemu
) -> None:
    async with await connect(fake.path, limits={Limit.CONVERGE: 0.05}) as monitor:
        job = await mirror(monitor)
        waiting = asyncio.ensure_future(job.ready())
        fake.do("progress", job="job0", offset=DISK_BYTES // 2)
        async for progress in job.progress(0.001):
            if progress.stalled:
                break
        else:
            pytest.fail("the progress ended before the job stalled")
        assert not progress.ready
        assert not waiting.done()
        fake.do("ready", job="job0")
        await waiting


async def test_b30_b44_change_of_the_copy_mode(connect: Connect) -> None:
    with FakeQemu(profile="10.0") as fake:
        async with await connect(fake.path) as monitor:
            job = await mirror(monitor)
            await job.change(copy_mode="write-blocking")
            arguments = fake.wait("block-job-change")["message"]["arguments"]
            assert arguments["copy-mode"] == "write-blocking"
            assert arguments["id"] == "job0"
            with pytest.raises(blockjob.Refused):
                await job.change(no_such_option=True)
            with pytest.raises(blockjob.InvalidArgument):
                await job.change()
            with pytest.raises(blockjob.InvalidArgument):
                await job.change(id="job1", copy_mode="background")


async def test_b44_change_on_a_qemu_that_has_none(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await mirror(monitor)
        with pytest.raises(blockjob.Unsupported):
            await job.change(copy_mode="write-blocking")


async def test_b29_a_flood_of_bounces_disturbs_nobody(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await ready_mirror(monitor, fake)
        asked = sent(fake, "query-block-jobs")
        fake.do("bounce", times=500)
        assert await job.pivot() is Outcome.PIVOTED
        assert sent(fake, "job-complete") == 1
        assert sent(fake, "query-block-jobs") == asked


async def test_b33_a_complete_refused_in_standby_is_sent_again(connect: Connect) -> None:
    with FakeQemu(profile="5.2") as fake:
        async with await connect(fake.path) as monitor:
            job = await ready_mirror(monitor, fake)
            # As when the graph changes at that moment: standby, the refusal, ready.
            refusal = {"class": "GenericError", "desc": "cannot be completed"}
            fake.do("answer", command="job-complete", error=refusal)
            bounce = [{"do": "bounce", "job": "job0"}]
            fake.do("when", command="job-complete", at="received", steps=bounce)
            assert await job.pivot() is Outcome.PIVOTED
            assert sent(fake, "job-complete") == 2


async def test_b33_a_refusal_is_told_with_qemus_text(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await ready_mirror(monitor, fake)
        refusal = {"class": "GenericError", "desc": "not on a Sunday"}
        fake.do("answer", command="job-complete", error=refusal)
        with pytest.raises(blockjob.Refused, match="not on a Sunday") as caught:
            await job.pivot()
        assert caught.value.error_class == "GenericError"
        assert await job.pivot() is Outcome.PIVOTED


async def test_c31_a_pivot_learns_how_another_clients_abort_ends_it(
    connect: Connect, fake: FakeQemu
) -> None:
    async with await connect(fake.path, limits={Limit.STALL: 600}) as monitor:
        job = await ready_mirror(monitor, fake)
        fake.do("hold-end", job="job0")
        fake.do("execute", command="block-job-cancel", arguments={"device": "job0"})
        pivot = asyncio.ensure_future(job.pivot())
        await asyncio.to_thread(fake.wait, "job-complete")
        await all_seen(monitor)
        assert not pivot.done()
        fake.do("finish", job="job0")
        with pytest.raises(blockjob.JobEnded) as caught:
            await pivot
        assert caught.value.outcome is Outcome.COPIED


async def test_c32_an_abort_that_does_not_wait_is_done_when_it_is_accepted(
    connect: Connect, fake: FakeQemu
) -> None:
    async with await connect(fake.path) as monitor:
        job = await ready_mirror(monitor, fake)
        fake.do("hold-end", job="job0")
        stop = {"do": "io-error", "action": "stop"}
        fake.do("when", command="block-job-cancel", at="done", steps=[stop])
        assert await job.abort(wait=False) is None
        with pytest.raises(blockjob.Stalled):
            await job.done()


async def test_c116_a_pause_that_another_client_has_ended_stalls_nobody(
    connect: Connect, fake: FakeQemu
) -> None:
    async with await connect(fake.path) as monitor:
        job = await ready_mirror(monitor, fake)
        fake.do("hold-pause", job="job0")
        await job.pause()
        with pytest.raises(blockjob.Stalled):
            await job.pivot()
        fake.do("execute", command="job-resume", arguments={"id": "job0"})
        assert await job.pivot() is Outcome.PIVOTED


async def test_b34_pivot_after_a_soft_abort_is_refused(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await ready_mirror(monitor, fake)
        fake.do("hold-end", job="job0")
        assert await job.abort(wait=False) is None
        with pytest.raises(blockjob.StateError):
            await job.pivot()
        fake.do("finish", job="job0")
        assert await job.done() is Outcome.COPIED
        assert sent(fake, "job-complete", "block-job-complete") == 0


async def test_b34_of_pivot_and_abort_one_wins(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        for number, calls in enumerate((("pivot", "abort"), ("abort", "pivot"))):
            job = await ready_mirror(monitor, fake, f"copy{number}")
            waits = [asyncio.ensure_future(getattr(job, name)()) for name in calls]
            found = await asyncio.gather(*waits, return_exceptions=True)
            answers = dict(zip(calls, found, strict=True))
            # Both learn how it ended, whichever it was.
            assert answers["abort"] is job.outcome
            assert job.outcome in (Outcome.PIVOTED, Outcome.COPIED)
            if job.outcome is Outcome.PIVOTED:
                assert answers["pivot"] is Outcome.PIVOTED
            else:
                assert isinstance(answers["pivot"], (blockjob.JobEnded, blockjob.StateError))
            await job.done(released=True)


@pytest.mark.parametrize(("profile", "prefix"), [("2.8", "block-job-"), ("7.2", "job-")])
async def test_b38_the_words_that_this_qemu_has(
    connect: Connect, profile: str, prefix: str
) -> None:
    with FakeQemu(profile=profile) as fake:
        async with await connect(fake.path) as monitor:
            job = await ready_mirror(monitor, fake)
            await job.pause()
            await job.resume()
            await job.pivot()
            await job.done(released=True)  # its id is free
            job = await ready_mirror(monitor, fake, "copy1")
            # Softly by the old word, whatever there is: the new one always forces.
            assert await job.abort() is Outcome.COPIED
            verbs = [f"{prefix}{verb}" for verb in ("pause", "resume", "complete")]
            assert [sent(fake, verb) for verb in (*verbs, "block-job-cancel")] == [1, 1, 1, 1]


async def test_b39_a_refusal_after_the_end_is_judged_by_it(
    connect: Connect, fake: FakeQemu
) -> None:
    async with await connect(fake.path) as monitor:
        job = await monitor.backup("drive0", target="copy0", job_id="job0", auto_dismiss=True)
        for command in ("job-cancel", "block-job-cancel"):
            steps = [{"do": "finish", "job": "job0"}]
            fake.do("when", command=command, at="received", steps=steps)
        # QEMU says "not found", or whatever words it has: it is over.
        assert await job.abort() is Outcome.COMPLETED
        for verb in (job.pause, job.resume):
            with pytest.raises(blockjob.StateError):
                await verb()
        with pytest.raises(blockjob.NoJob):
            await monitor.attach("job0")


async def test_b50_an_end_without_its_fields_is_an_end(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await mirror(monitor)
        other = await monitor.mirror("disk0", target="copy1", job_id="job1")
        fake.do("emit", event="BLOCK_JOB_READY", data={"device": "job0"})
        await job.ready()
        fake.do("emit", event="BLOCK_JOB_CANCELLED", data={"device": "job0"})
        assert await job.done() is Outcome.CANCELLED
        # And one that says of nobody what it says is nobody's.
        fake.do("emit", event="BLOCK_JOB_CANCELLED", data={"type": "mirror"})
        fake.do("emit", event="BLOCK_JOB_COMPLETED")
        await all_seen(monitor)
        await stays(other.done)


@pytest.mark.parametrize(
    "step",
    [
        {"do": "raw", "text": "garbage\n"},
        {"do": "raw", "text": "}"},
        {"do": "raw", "hex": "00ff"},
        {"do": "deep", "depth": 500},
        {"do": "huge", "bytes": 100_000},
    ],
    ids=["garbage", "brace", "bytes", "deep", "huge"],
)
async def test_b54_b56_a_hostile_peer_costs_its_connection(
    connect: Connect, fake: FakeQemu, step: dict[str, Any]
) -> None:
    async with await connect(fake.path, limits={Limit.MESSAGE_BYTES: 50_000}) as monitor:
        job = await mirror(monitor)
        events = monitor.events()
        waiting = asyncio.ensure_future(job.done())
        fake.do(**{"verb" if key == "do" else key: value for key, value in step.items()})
        with pytest.raises(blockjob.JobLost):
            await waiting
        assert isinstance(await monitor.closed(), blockjob.ProtocolError)
        with pytest.raises(blockjob.ProtocolError):
            async for _ in events:
                pass


async def test_b56_replies_twice_and_for_nobody_are_dropped(
    connect: Connect, fake: FakeQemu
) -> None:
    async with await connect(fake.path) as monitor:
        fake.do("duplicate", command="*", count=0)
        fake.do("raw", text='{"return": 7, "id": 12345678}\n{"return": 8, "id": "nobody"}\n')
        job = await ready_mirror(monitor, fake)
        assert [info.id for info in await monitor.jobs()] == ["job0"]
        assert await job.pivot() is Outcome.PIVOTED


OLD = ["1.3", "2.0", "2.2", "2.8", "2.12"]


@pytest.mark.parametrize("profile", OLD)
async def test_b59_old_qemus_give_the_same_answers(connect: Connect, profile: str) -> None:
    with FakeQemu(profile=profile) as fake:
        async with await connect(fake.path) as monitor:
            arguments = {"device": "drive0", "target": "copy0", "sync": "full"}
            job = await monitor.start("drive-mirror", arguments)
            waiting = asyncio.ensure_future(job.pivot())
            await stays(job.ready)
            fake.do("ready", job=job.id)
            assert await waiting is Outcome.PIVOTED
            assert await job.done(released=True) is Outcome.PIVOTED

            job = await monitor.start("drive-mirror", arguments | {"target": "copy1"})
            fake.do("ready", job=job.id)
            await job.ready()
            assert await job.abort() is Outcome.COPIED

            job = await monitor.start("drive-mirror", arguments | {"target": "copy2"})
            fake.do("fail", job=job.id, error="No space left on device")
            with pytest.raises(blockjob.JobFailed):
                await job.ready()


async def test_c114_a_finished_run_has_not_the_row_of_the_next_one(connect: Connect) -> None:
    with FakeQemu(profile="1.7") as fake:
        async with await connect(fake.path) as monitor:
            arguments = {"device": "drive0", "target": "copy0", "sync": "full"}
            first = await monitor.start("drive-mirror", arguments)
            assert await first.abort() is Outcome.CANCELLED
            second = await monitor.start("drive-mirror", arguments)
            assert first.id == second.id == (await second.query()).id
            with pytest.raises(blockjob.NoJob):
                await first.query()


async def test_b59_error_replies_without_an_id(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        refusal = {"class": "GenericError", "desc": "no"}
        fake.do("answer", command="query-status", error=refusal)
        fake.do("change-id", command="query-status")
        with pytest.raises(blockjob.Refused, match="no"):
            await monitor.execute("query-status")
        assert await monitor.jobs() == []


async def test_b57_a_synchronous_cancel(connect: Connect) -> None:
    with FakeQemu(profile="rhel6.2") as fake:
        async with await connect(fake.path) as monitor:
            events = monitor.events()
            job = await monitor.stream("drive0")
            records = job.watch()
            assert await job.abort() is Outcome.CANCELLED
            assert [record.kind async for record in records][-1] is RecordKind.ENDED
            # QEMU sends none: this one is made up, for all observers alike.
            async for event in events:
                if event.name == "BLOCK_JOB_CANCELLED":
                    break
            else:
                pytest.fail("the events ended before the cancellation")
            assert event.data["device"] == "drive0"


async def test_b58_where_there_is_no_event_a_timer_asks(connect: Connect, tmp_path: Path) -> None:
    second = str(tmp_path / "second")
    limits = {Limit.POLL: 0.01}
    with FakeQemu("--socket", second, profile="rhel6.2") as fake:
        async with (
            await connect(fake.path, limits=limits) as monitor,
            await connect(second) as another,
        ):
            job = await monitor.stream("drive0")
            waiting = asyncio.ensure_future(job.done())
            # For which QEMU sends no event.
            cancel = asyncio.ensure_future(another.execute("block_job_cancel", device="drive0"))
            assert await waiting is Outcome.CANCELLED
        await asyncio.gather(cancel, return_exceptions=True)


async def test_b71_each_wait_is_answered_once(connect: Connect, fake: FakeQemu) -> None:
    answers: list[object] = []

    async def wait(job: Any) -> None:
        try:
            answers.append(await job.done())
        except blockjob.Error as error:
            answers.append(error)

    monitor = await connect(fake.path)
    job = await ready_mirror(monitor, fake)
    waiting = [asyncio.ensure_future(wait(job)) for _ in range(50)]
    await asyncio.sleep(0)
    # The end and the close race; each hears of one of them.
    fake.do("fail", job="job0", error="Input/output error")
    await asyncio.gather(monitor.close(), *waiting)
    assert len(answers) == 50
    assert {type(answer) for answer in answers} <= {blockjob.JobFailed, blockjob.Closed}
    late = await asyncio.gather(job.done(), return_exceptions=True)
    assert isinstance(late[0], blockjob.Error)
