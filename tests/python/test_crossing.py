# SPDX-License-Identifier: MIT
# What crosses on the wire, as in tests/core/test_crossing.c: a verb, a list or a start, and the end
# of a job.

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import blockjob
import pytest
from blockjob import Outcome
from control import FakeQemu

Connect = Callable[..., Awaitable[Any]]

BACKUP: dict[str, Any] = {"device": "drive0", "target": "copy", "sync": "full", "job-id": "j"}


async def settle(monitor: Any) -> None:
    """Returns when all that was read and asked before has had its effect."""
    for _ in range(20):
        await monitor.execute("query-version")


async def wait(fake: FakeQemu, **fields: Any) -> None:
    """Returns when the fake's log has such an entry."""
    await asyncio.to_thread(fake.do, "wait", **fields)


# ----------------------------------------------- a verb whose job is over before its reply


async def test_c01_a_verb_whose_job_ends_is_answered_by_the_close(
    connect: Connect, fake: FakeQemu
) -> None:
    monitor = await connect(fake.path)
    job = await monitor.mirror("drive0", target="copy")
    fake.do("hold", command="block-job-set-speed")
    verb = asyncio.ensure_future(job.set_speed(0))
    await wait(fake, command="block-job-set-speed")
    # The job is over and awaits its dismissal when the monitor is closed.
    fake.do("stop", what="reading")
    fake.do("fail", error="Input/output error")
    with pytest.raises(blockjob.JobFailed):
        await job.done()
    await monitor.close()
    fake.do("go", what="reading")
    await wait(fake, command="job-dismiss")
    fake.do("release")
    await wait(fake, what="disconnect")
    with pytest.raises(blockjob.Error) as caught:
        await verb
    assert not isinstance(caught.value, blockjob.Timeout)


# --------------------------------------------------- a list that is older than an end in it


async def attach_late(monitor: Any, fake: FakeQemu) -> asyncio.Future[Any]:
    """Attaches; its lists are made, and the replies are still in QEMU."""
    fake.do("hold", command="query-block-jobs")
    fake.do("hold", command="query-jobs")
    attached: asyncio.Future[Any] = asyncio.ensure_future(monitor.attach("j"))
    await wait(fake, what="held", command="query-jobs")
    return attached


async def is_no_ghost(monitor: Any, attached: Awaitable[Any]) -> None:
    """There is no job of that id now: that is the answer, or a job that is over."""
    try:
        job = await attached
    except blockjob.NoJob:
        return
    await settle(monitor)
    try:
        await job.done(timeout=0)
    except blockjob.Timeout:
        pytest.fail("attached to a ghost, which runs for ever")
    except blockjob.Error:
        pass  # it is over


async def nothing_is_left(monitor: Any) -> None:
    assert await monitor.jobs() == []
    await is_no_ghost(monitor, monitor.attach("j"))


async def test_c03_attach_while_a_job_ends(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        fake.do("execute", command="blockdev-backup", arguments=BACKUP)
        attached = await attach_late(monitor, fake)
        fake.do("finish")
        fake.do("release")
        await is_no_ghost(monitor, attached)
        await nothing_is_left(monitor)


async def test_c03_attach_while_a_job_of_the_library_ends(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        job = await monitor.start("blockdev-backup", BACKUP | {"auto-dismiss": True})
        attached = await attach_late(monitor, fake)
        fake.do("finish")
        fake.do("release")
        await is_no_ghost(monitor, attached)
        assert await job.done(released=True) is Outcome.COMPLETED
        await nothing_is_left(monitor)


async def test_c03_attach_while_an_id_is_used_again(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path) as monitor:
        first = await monitor.start("blockdev-backup", BACKUP | {"auto-dismiss": True})
        attached = await attach_late(monitor, fake)
        fake.do("finish")
        fake.do("execute", command="blockdev-backup", arguments=BACKUP)
        fake.do("release")
        assert await first.done(released=True) is Outcome.COMPLETED
        await asyncio.wait([attached])
        second = await monitor.attach("j")
        assert second != first
        assert second.outcome is None
        fake.do("fail", error="Input/output error")
        with pytest.raises(blockjob.JobFailed):
            await second.done()
        await is_no_ghost(monitor, attached)
        await nothing_is_left(monitor)


# ------------------------------------------------- a raw verb right behind a start


@pytest.mark.parametrize(
    ("command", "key", "outcome"),
    [
        ("block-job-cancel", "device", Outcome.COPIED),
        ("job-complete", "id", Outcome.PIVOTED),
    ],
)
async def test_c18_a_raw_verb_right_behind_its_start(
    connect: Connect, fake: FakeQemu, command: str, key: str, outcome: Outcome
) -> None:
    async with await connect(fake.path) as monitor:
        await monitor.mirror("drive0", target="copy")  # what the start takes is known by now
        fake.do("when", command="blockdev-mirror", at="done", steps=[{"do": "ready"}])
        # Both are written before QEMU says anything about the job.
        fake.do("stop", what="writing")
        arguments: dict[str, Any] = {"device": "drive1", "target": "copy1", "sync": "full"}
        arguments |= {"job-id": "x", "auto-dismiss": True}
        started = asyncio.ensure_future(monitor.start("blockdev-mirror", arguments))
        await wait(fake, command="blockdev-mirror", count=2)
        executed = asyncio.ensure_future(monitor.execute(command, {key: "x"}))
        await wait(fake, command=command)
        fake.do("go", what="writing")
        await executed
        job = await started
        assert await job.done() is outcome


# ------------------------------------------ another run's events while a start is under way


def when_received(fake: FakeQemu, step: dict[str, Any]) -> None:
    """What another client does before QEMU carries out the next start of a mirror."""
    fake.do("when", command="blockdev-mirror", at="received", steps=[step])


MIRROR: dict[str, Any] = {"target": "copy1", "job_id": "x"}
THEIRS: dict[str, Any] = BACKUP | {"job-id": "x"}


async def test_c111_an_old_run_ends_while_its_id_is_started_again(
    connect: Connect, fake: FakeQemu
) -> None:
    fake.do("execute", command="blockdev-backup", arguments=THEIRS)
    async with await connect(fake.path) as monitor:  # and knows nothing of it
        when_received(fake, {"do": "finish", "job": "x"})
        job = await monitor.mirror("drive1", **MIRROR)
        await settle(monitor)
        assert job.outcome is None
        fake.do("ready", job="x")
        assert await job.pivot() is Outcome.PIVOTED


async def test_c92_a_refused_start_ends_no_job_of_another_client(
    connect: Connect, fake: FakeQemu
) -> None:
    async with await connect(fake.path) as monitor:
        kept = THEIRS | {"auto-dismiss": False}
        when_received(fake, {"do": "execute", "command": "blockdev-backup", "arguments": kept})
        fake.do("hold", command="blockdev-mirror")
        started = asyncio.ensure_future(monitor.mirror("drive1", **MIRROR))
        await wait(fake, what="held", command="blockdev-mirror")
        theirs = await monitor.attach("x")
        fake.do("release")
        with pytest.raises(blockjob.Refused):
            await started
        await settle(monitor)
        assert theirs.outcome is None
        fake.do("finish", job="x")
        assert await theirs.done() is Outcome.COMPLETED


# ------------------------------------------------ starts and the end of the connection


async def test_c118_a_start_whose_reply_is_lost_names_its_job(
    connect: Connect, fake: FakeQemu
) -> None:
    async with await connect(fake.path, reconnect=60) as monitor:
        first = await monitor.mirror("drive0", target="copy")  # what the start takes is known now
        fake.do("stop", what="writing")
        started = asyncio.ensure_future(monitor.mirror("drive1", target="copy1"))
        await wait(fake, command="blockdev-mirror", count=2)
        fake.do("hang-up")
        fake.do("go", what="writing")
        with pytest.raises(blockjob.Disconnected) as caught:
            await started
        while (jobs := await jobs_or_none(monitor)) is None:
            pass
        [lost] = [job.id for job in jobs if job.id != first.id]
        assert lost in str(caught.value)
        job = await monitor.attach(lost)
        fake.do("fail", job=lost, error="Input/output error")
        with pytest.raises(blockjob.JobFailed):
            await job.done(released=True)  # it is ours, and is dismissed


async def jobs_or_none(monitor: Any) -> Any:
    try:
        return await monitor.jobs()
    except blockjob.Disconnected:
        return None
