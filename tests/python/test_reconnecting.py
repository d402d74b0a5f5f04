# SPDX-License-Identifier: MIT
# Connections that end and are made again, and what becomes of jobs, waits and streams.

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import blockjob
import pytest
from blockjob import EventKind, Outcome
from control import FakeQemu
from qemu import HALTED_MIRROR, Qemu

Connect = Callable[..., Awaitable[Any]]


async def mirror(monitor: Any) -> Any:
    return await monitor.mirror("drive0", target="copy0", job_id="job0")


async def await_kind(events: Any, kind: EventKind) -> Any:
    """The next event of that kind."""
    async for event in events:
        if event.kind is kind:
            return event
    raise AssertionError(f"the stream ended without {kind}")


async def go_away(fake: FakeQemu, events: Any) -> None:
    fake.do("die")
    event = await await_kind(events, EventKind.DISCONNECTED)
    assert isinstance(event.error, blockjob.Disconnected)
    assert (event.name, event.data) == ("", {})


async def come_back(fake: FakeQemu, events: Any, jobs: str) -> None:
    fake.do("start", jobs=jobs)
    event = await await_kind(events, EventKind.RECONNECTED)
    assert (event.name, event.data, event.error) == ("", {}, None)


@pytest.mark.parametrize("later", [False, True])
async def test_b45_waits_go_on_through_a_new_connection(
    connect: Connect, fake: FakeQemu, later: bool
) -> None:
    async with await connect(fake.path, reconnect=None if later else 60) as monitor:
        if later:
            monitor.set_reconnect(math.inf)
        events = monitor.events()
        job = await mirror(monitor)
        records = job.watch()
        waits = (job.ready(), job.pivot(), job.done(released=True))
        waiting = [asyncio.ensure_future(wait) for wait in waits]
        await asyncio.sleep(0)
        await go_away(fake, events)
        with pytest.raises(blockjob.Disconnected):
            await monitor.jobs()
        await come_back(fake, events, "keep")
        fake.do("ready", job="job0")
        assert await asyncio.gather(*waiting) == [None, Outcome.PIVOTED, Outcome.PIVOTED]
        assert [record async for record in records][-1].outcome is Outcome.PIVOTED
        # And QEMU's own events are seen again, as they were.
        event = await await_kind(events, EventKind.QEMU)
        assert event.name and event.error is None


async def test_b45_a_stream_that_begins_meanwhile_hears_of_both(
    connect: Connect, fake: FakeQemu
) -> None:
    async with await connect(fake.path, reconnect=math.inf) as monitor:
        events = monitor.events()
        await go_away(fake, events)
        later = monitor.events()
        assert (await anext(later)).kind is EventKind.DISCONNECTED
        await come_back(fake, events, "keep")
        assert (await anext(later)).kind is EventKind.RECONNECTED


async def test_b46_still_listed_goes_on(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path, reconnect=math.inf) as monitor:
        events = monitor.events()
        job = await mirror(monitor)
        await go_away(fake, events)
        fake.do("ready", job="job0")  # nobody sees its event
        await come_back(fake, events, "keep")
        await job.ready()
        assert await job.abort() is Outcome.COPIED


async def test_b46_concluded_while_away_has_its_outcome(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path, reconnect=math.inf) as monitor:
        events = monitor.events()
        job = await mirror(monitor)
        waiting = asyncio.ensure_future(job.done())
        await asyncio.sleep(0)
        await go_away(fake, events)
        fake.do("fail", job="job0", error="No space left on device")
        await come_back(fake, events, "keep")
        with pytest.raises(blockjob.JobFailed, match="No space left on device"):
            await waiting


@pytest.mark.parametrize(
    ("command", "outcome"),
    [("block-job-complete", Outcome.PIVOTED), ("block-job-cancel", Outcome.COPIED)],
)
async def test_c13_an_active_commit_that_another_client_ended_while_away(
    connect: Connect, fake: FakeQemu, command: str, outcome: Outcome
) -> None:
    async with await connect(fake.path, reconnect=math.inf) as monitor:
        events = monitor.events()
        job = await monitor.commit("drive0", job_id="job0")
        for _ in range(2):
            await monitor.jobs()  # the library has seen who uses the disk
        await go_away(fake, events)
        fake.do("ready", job="job0")
        fake.do("execute", command=command, arguments={"device": "job0"})
        await come_back(fake, events, "keep")
        assert await job.done() is outcome


async def test_b46_gone_is_lost(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path, reconnect=math.inf) as monitor:
        events = monitor.events()
        job = await mirror(monitor)
        fake.do("ready", job="job0")
        await job.ready()
        waiting = asyncio.ensure_future(job.done())
        await asyncio.sleep(0)
        await go_away(fake, events)
        await come_back(fake, events, "none")
        with pytest.raises(blockjob.JobLost, match="vanished"):
            await waiting
        with pytest.raises(blockjob.NoJob):
            await monitor.attach("job0")


async def test_b06_a_deadline_passes_while_away(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path, reconnect=math.inf) as monitor:
        events = monitor.events()
        job = await mirror(monitor)
        await go_away(fake, events)
        with pytest.raises(blockjob.Timeout):
            await job.done(timeout=0.01)
        assert job.outcome is None


async def test_b45_given_up_is_told_to_all(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path, reconnect=0.05) as monitor:
        events = monitor.events()
        job = await mirror(monitor)
        waiting = asyncio.ensure_future(job.done())
        await asyncio.sleep(0)
        await go_away(fake, events)
        with pytest.raises(blockjob.JobLost):
            await waiting
        assert isinstance(await monitor.closed(), blockjob.Disconnected)
        with pytest.raises(blockjob.Disconnected):
            async for event in events:
                raise AssertionError(event)
        with pytest.raises(blockjob.Disconnected):
            monitor.set_reconnect(1)


@pytest.mark.parametrize("off", [None, 0])
async def test_b45_switched_off_it_gives_up(
    connect: Connect, fake: FakeQemu, off: float | None
) -> None:
    async with await connect(fake.path, reconnect=math.inf) as monitor:
        events = monitor.events()
        job = await mirror(monitor)
        await go_away(fake, events)
        monitor.set_reconnect(off)
        with pytest.raises(blockjob.JobLost):
            await job.done()


async def test_b45_closed_while_away(connect: Connect, fake: FakeQemu) -> None:
    async with await connect(fake.path, reconnect=math.inf) as monitor:
        events = monitor.events()
        job = await mirror(monitor)
        waiting = asyncio.ensure_future(job.done())
        await asyncio.sleep(0)
        await go_away(fake, events)
        await monitor.close()
        with pytest.raises(blockjob.Closed):
            await waiting
        assert [event async for event in events] == []


async def test_b61_a_slow_reader_still_hears_of_the_gap(connect: Connect, fake: FakeQemu) -> None:
    limits = {blockjob.Limit.WATCH_RING: 16}
    async with await connect(fake.path, reconnect=math.inf, limits=limits) as monitor:
        slow, quick = monitor.events(), monitor.events()
        await go_away(fake, quick)
        await come_back(fake, quick, "keep")
        for number in range(12):
            fake.do("emit", event="NEWS", data={"number": number})
        fake.do("emit", event="LAST")
        await monitor.execute("query-version")
        seen = []
        async for event in slow:
            seen.append(event)
            if event.name == "LAST":
                break
        assert [event.kind for event in seen[:2]] == [
            EventKind.DISCONNECTED,
            EventKind.RECONNECTED,
        ]
        assert len(seen) + sum(event.lost for event in seen) == 15


@pytest.mark.parametrize("time", [-1, math.nan, -math.inf])
async def test_no_time_to_reconnect(connect: Connect, fake: FakeQemu, time: float) -> None:
    with pytest.raises(blockjob.InvalidArgument, match="reconnect"):
        await connect(fake.path, reconnect=time)
    async with await connect(fake.path) as monitor:
        with pytest.raises(blockjob.InvalidArgument, match="reconnect"):
            monitor.set_reconnect(time)


async def test_what_can_not_be_made_again(connect: Connect, fake: FakeQemu) -> None:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(fake.path)
        with pytest.raises(blockjob.InvalidArgument, match="made again"):
            await connect(f"fd:{ours.fileno()}", reconnect=1)


async def test_b45_b46_a_real_qemu_is_killed_and_started_again(
    connect: Connect, tmp_path: Path
) -> None:
    with Qemu(tmp_path) as first:
        first.add_disk("drive")
        first.add_empty("copy")
        monitor = await connect(first.uri, reconnect=math.inf)
        events = monitor.events()
        job = await monitor.mirror("drive", target="copy", job_id="same", **HALTED_MIRROR)
        waiting = asyncio.ensure_future(job.done())
        await asyncio.sleep(0)
    event = await await_kind(events, EventKind.DISCONNECTED)
    assert isinstance(event.error, blockjob.Disconnected)

    with Qemu(tmp_path) as second:
        await await_kind(events, EventKind.RECONNECTED)
        # The other QEMU can't know how it ended.
        with pytest.raises(blockjob.JobLost):
            await waiting
        second.do("blockdev-add", driver="null-co", node_name="drive", size=65536)
        second.do("blockdev-add", driver="null-co", node_name="copy", size=65536)
        again = await monitor.mirror("drive", target="copy", job_id="same")
        assert again != job
        assert await again.pivot() is Outcome.PIVOTED
        assert job.outcome is Outcome.LOST
        await monitor.close()


async def test_b46_a_real_qemu_that_cuts_the_line_keeps_its_job(
    connect: Connect, tmp_path: Path
) -> None:
    """Through a relay of ours, whose lines can be cut."""
    with Qemu(tmp_path) as qemu:
        qemu.add_disk("drive")
        qemu.add_empty("copy")
        lines: list[asyncio.StreamWriter] = []
        relays: set[asyncio.Task[None]] = set()

        async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
            writer.close()

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_unix_connection(qemu.path)
            lines.extend((writer, far_writer))
            relays.add(asyncio.create_task(copy(far_reader, writer)))
            await copy(reader, far_writer)

        path = str(tmp_path / "relay")
        server = await asyncio.start_unix_server(relay, path)
        async with server:
            monitor = await connect(path, reconnect=math.inf)
            events = monitor.events()
            job = await monitor.mirror("drive", target="copy", **HALTED_MIRROR)
            waiting = asyncio.ensure_future(job.pivot())
            await asyncio.sleep(0)
            for line in lines:
                line.close()
            await await_kind(events, EventKind.DISCONNECTED)
            await await_kind(events, EventKind.RECONNECTED)
            await job.set_speed(0)
            assert await waiting is Outcome.PIVOTED
            await monitor.close()
        await asyncio.gather(*relays, return_exceptions=True)
