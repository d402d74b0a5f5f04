# SPDX-License-Identifier: MIT
# Exceptions at bad moments: what raises has not been sent, and nothing that came is lost.

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import resource
import select
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import blockjob
import blockjob.sync
import pytest
from blockjob import ChangeKind, Event, Outcome, _asyncio, _core
from children import run_child
from control import FakeQemu
from fronts import in_thread

Connect = Callable[..., Awaitable[Any]]

PACKAGE = os.path.dirname(blockjob.__file__)
HANG_SECONDS = 60.0


class Signal(KeyboardInterrupt):
    """What a signal handler raises."""


@contextmanager
def raising_at(number: int) -> Iterator[list[str]]:
    """Raises `Signal` before the package's bytecode instruction of that number, as a signal handler
    would; the list then has the name of the function."""
    left = number
    where: list[str] = []

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if os.path.dirname(frame.f_code.co_filename) != PACKAGE:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left < 0:
                where.append(frame.f_code.co_name)
                sys.settrace(None)
                raise Signal
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield where
    finally:
        sys.settrace(before)


def sent(fake: FakeQemu) -> set[str]:
    """The commands that QEMU got from clients."""
    return {entry["command"] for entry in fake.log() if entry.get("command")}


VERBS = {"block-job-complete", "job-complete", "block-job-cancel", "job-cancel", "blockdev-mirror"}


# ------------------------------------------------------------------------- what raises was not sent


async def test_c100_a_foreign_event_loop_sends_nothing(fake: FakeQemu) -> None:
    async with blockjob.connect(fake.path) as monitor:
        job = await monitor.mirror("drive0", target="copy0")
        fake.do("ready")
        await job.ready()
        events = monitor.events()
        fake.do("emit", event="NEWS")
        before = len(fake.log())
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: monitor.mirror("drive1", target="copy1"),
            lambda: monitor.execute("query-status"),
            monitor.close,
            job.pivot,
            job.abort,
            lambda: job.abort(force=True),
            blockjob.Group([job]).pivot,
            events.__anext__,
            job.progress().__anext__,
        ]

        async def foreign(call: Callable[[], Awaitable[Any]]) -> None:
            with pytest.raises(blockjob.UsageError, match="another event loop") as caught:
                await call()
            assert isinstance(caught.value, RuntimeError)

        for call in calls:
            await asyncio.to_thread(asyncio.run, foreign(call))
        await monitor.execute("query-version")
        sent_since = {entry.get("command") for entry in fake.log()[before:]}
        assert not sent_since & (VERBS | {"query-status"})
        assert job.outcome is None
        assert (await events.__anext__()).name == "NEWS"
        assert await job.pivot() is Outcome.PIVOTED


async def test_c55_no_event_loop_at_all(fake: FakeQemu) -> None:
    """As under trio."""
    async with blockjob.connect(fake.path) as monitor:

        def without_a_loop() -> None:
            for wait in (monitor.jobs(), monitor.events().__anext__(), blockjob.connect("/none")):
                with pytest.raises(blockjob.UsageError, match=r"blockjob\.sync"):
                    wait.send(None)

        await asyncio.to_thread(without_a_loop)


@contextmanager
def no_free_fd() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    taken: list[int] = []
    try:
        with pytest.raises(OSError):
            while True:
                taken.append(os.dup(2))
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("ready", [True, False])
def test_c100_without_a_free_fd_nothing_is_sent(fake: FakeQemu, ready: bool) -> None:
    with blockjob.sync.connect(fake.path) as monitor:
        job = monitor.mirror("drive0", target="copy0")
        if ready:
            fake.do("ready")
            job.ready()
        before = len(fake.log())
        group = blockjob.sync.Group([job])
        kept = []
        with no_free_fd():
            for call in (
                *(job.pivot, job.abort, group.pivot, monitor.close, monitor.events),
                lambda: monitor.mirror("drive1", target="copy1"),
            ):
                with pytest.raises(blockjob.Error) as caught:
                    call()
                kept.append(caught)
                assert caught.value.code is blockjob.ErrorCode.SYSTEM
        if not ready:
            fake.do("ready")
            job.ready()
        monitor.execute("query-version")
        assert not {entry.get("command") for entry in fake.log()[before:]} & VERBS
        assert job.outcome is None


def test_c100_an_interrupted_pivot_does_not_happen_later(
    fake: FakeQemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_arguments: object) -> None:
        sys.settrace(None)  # one signal is enough
        raise Signal

    with blockjob.sync.connect(fake.path) as monitor:
        job = monitor.mirror("drive0", target="copy0")
        kept: list[Any] = []  # and with each exception all that was on its stack
        where = [""]
        while where:
            with (
                monkeypatch.context() as patched,
                raising_at(len(kept)) as where,
                pytest.raises(Signal) as caught,
            ):
                patched.setattr(select, "select", interrupted)
                job.pivot()
            kept.append(caught)
        assert len(kept) > 50
        fake.do("ready")
        job.ready()
        monitor.execute("query-version")
        assert not sent(fake) & {"block-job-complete", "job-complete"}
        assert job.pivot() is Outcome.PIVOTED


# ------------------------------------------------------------------------ nothing that came is lost


def test_c101_an_interrupt_loses_no_event_but_the_one_being_returned(fake: FakeQemu) -> None:
    with blockjob.sync.connect(fake.path) as monitor, monitor.events() as events:

        def interrupted(number: int) -> tuple[list[Event], bool]:
            with raising_at(number):
                try:
                    return [events.get(timeout=HANG_SECONDS)], False
                except Signal:
                    return [], True

        for number in itertools.count():
            numbers = range(3 * number, 3 * number + 3)
            for each in numbers:
                fake.do("emit", event="NEWS", data={"number": each})
            monitor.execute("query-version")  # all are there, so that they come as one batch
            got, was_interrupted = interrupted(number)
            while not got or got[-1].data["number"] != numbers[-1]:
                got.append(events.get(timeout=HANG_SECONDS))
            assert [event.data["number"] for event in got] in (list(numbers), list(numbers)[1:])
            assert not any(event.lost for event in got)
            if not was_interrupted:
                assert number > 50
                break


def test_c101_an_interrupt_loses_no_change_but_the_one_being_returned(fake: FakeQemu) -> None:
    arguments = {"device": "drive0", "target": "copy0", "sync": "full"}
    with (
        blockjob.sync.connect(fake.path) as monitor,
        monitor.watch_jobs() as changes,
        monitor.watch_jobs() as later,
    ):

        def interrupted(number: int) -> tuple[list[Any], bool]:
            with raising_at(number):
                try:
                    return [changes.get(timeout=HANG_SECONDS)], False
                except Signal:
                    return [], True

        for number in itertools.count():
            job_id = {"job-id": f"job{number}"}
            fake.do("execute", command="blockdev-backup", arguments=arguments | job_id)
            fake.do("finish")
            while later.get(timeout=HANG_SECONDS).kind is not ChangeKind.RELEASED:
                pass  # all are there, so that they come as one batch
            got, was_interrupted = interrupted(number)
            while not got or got[-1].kind is not ChangeKind.RELEASED:
                got.append(changes.get(timeout=HANG_SECONDS))
            kinds = [change.kind for change in got]
            every = [ChangeKind.APPEARED, ChangeKind.ENDED, ChangeKind.RELEASED]
            assert kinds in (every, every[1:])
            assert {change.job.id for change in got} == {f"job{number}"}
            assert not any(change.lost for change in got)
            if not was_interrupted:
                assert number > 50
                break


def test_c101_what_was_lost_is_counted_once(fake: FakeQemu) -> None:
    limits = {blockjob.Limit.WATCH_RING: 2}
    with blockjob.sync.connect(fake.path, limits=limits) as monitor, monitor.events() as events:
        for number in itertools.count():
            for each in range(5):
                fake.do("emit", event="NEWS", data={"number": each})
            monitor.execute("query-version")
            with raising_at(number):
                try:
                    got = [events.get(timeout=HANG_SECONDS)]
                except Signal:
                    got = []
            done = bool(got)
            while not got or got[-1].data["number"] != 4:
                got.append(events.get(timeout=HANG_SECONDS))
            if len(got) == 2:  # else the first one was being returned
                assert [event.lost for event in got] == [3, 0]
            if done:
                break


def test_c101_the_end_always_arrives(fake: FakeQemu) -> None:
    with blockjob.sync.connect(fake.path) as monitor:
        job = monitor.mirror("drive0", target="copy0")
        job.abort(force=True)
        for open_stream in (job.watch, job.progress):
            for number in itertools.count():
                stream: Any = open_stream()
                try:
                    with raising_at(number), pytest.raises(blockjob.Closed):
                        while True:
                            stream.get(timeout=HANG_SECONDS)
                    break
                except Signal:
                    pass
                with pytest.raises(blockjob.Closed):
                    while True:
                        stream.get(timeout=HANG_SECONDS)


def test_c101_an_undecodable_moment(fake: FakeQemu) -> None:
    """json.loads() that fails for want of stack, for example, fails once."""
    with blockjob.sync.connect(fake.path) as monitor, monitor.events() as events:
        for each in range(3):
            fake.do("emit", event="NEWS", data={"number": each})
        monitor.execute("query-version")

        def deep(level: int) -> Event:
            return events.get(timeout=HANG_SECONDS) if level == 0 else deep(level - 1)

        got: list[Event] = []
        level = sys.getrecursionlimit()
        while not got:
            with contextlib.suppress(RecursionError):
                got.append(deep(level))
            level -= 1
        got += [events.get(), events.get()]
        assert [event.data["number"] for event in got] == [0, 1, 2]


def test_c101_the_waits_of_other_tasks_are_answered(fake: FakeQemu) -> None:
    loop = asyncio.new_event_loop()
    monitor = loop.run_until_complete(blockjob.connect(fake.path))
    for number in itertools.count():
        fake.do("hold", command="query-status")
        waits = [loop.create_task(monitor.execute("query-status")) for _ in range(3)]
        loop.run_until_complete(asyncio.sleep(0))
        fake.wait("query-status", count=3 * number + 3)
        fake.do("release", command="query-status")
        select.select([monitor._context._inbox], [], [])  # the first answer is there
        where: list[str] = []
        try:
            with raising_at(number) as raised:
                where = raised
                loop.run_until_complete(asyncio.wait(waits))
        except Signal:
            pass
        answered = asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), HANG_SECONDS)
        answers = loop.run_until_complete(answered)
        # A signal in a waiter itself is that one's answer.
        assert sorted(type(answer).__name__ for answer in answers)[1:] == ["dict", "dict"]
        if not where:
            assert number > 50
            break
    loop.run_until_complete(monitor.close())
    loop.close()


# ----------------------------------------------------------------------------------- who keeps what


async def test_c103_a_stream_keeps_its_monitor(connect: Connect, fake: FakeQemu) -> None:
    monitor = await connect(fake.path)
    events = monitor.events()
    records = (await monitor.mirror("drive0", target="copy0")).watch()
    del monitor
    gc.collect()
    fake.do("emit", event="NEWS")
    while (await events.__anext__()).name != "NEWS":
        pass
    fake.do("ready")
    while (await records.__anext__()).kind is not blockjob.RecordKind.READY:
        pass
    del events, records
    await in_thread(fake.do, "wait", what="disconnect")


async def test_c105_a_full_stream_lets_other_tasks_run(fake: FakeQemu) -> None:
    async with blockjob.connect(fake.path) as monitor:
        events = monitor.events()
        for _ in range(100):
            fake.do("emit", event="NEWS")
        await monitor.execute("query-version")
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        heart = asyncio.create_task(beat())
        for number in range(100):
            await events.__anext__()
            assert beats >= number
            busy_until = time.monotonic() + 2 * _asyncio.TURN
            while time.monotonic() < busy_until:
                pass
        heart.cancel()


async def test_c105_context_variables_are_not_kept(fake: FakeQemu) -> None:
    program = f"""
        import asyncio, contextvars, gc, weakref, blockjob
        class Value: pass
        variable = contextvars.ContextVar("variable")
        async def connect():
            variable.set(Value())
            return weakref.ref(variable.get()), await blockjob.connect({fake.path!r})
        async def main():
            value, monitor = await asyncio.create_task(connect())
            await asyncio.sleep(0)
            gc.collect()
            print(value())
            await monitor.close()
        asyncio.run(main())
    """
    assert run_child(program) == "None\n"


DROPS = {
    "asyncio": """
        import asyncio, blockjob
        async def main():
            monitor = await blockjob.connect(path)
            try:
                await monitor.execute("query-status", timeout=0.01)
            except blockjob.Timeout:
                pass
        asyncio.run(main())
    """,
    "eventlet": """
        import eventlet
        eventlet.monkey_patch()
        drop()
    """,
    "gevent": """
        import gevent.monkey
        gevent.monkey.patch_all()
        drop()
    """,
}


@pytest.mark.parametrize("kind", DROPS)
def test_c102_dropping_the_last_monitor_waits_for_nobody(fake: FakeQemu, kind: str) -> None:
    """QEMU owes a reply, which the library's thread waits for, for a second at most."""
    if kind != "asyncio":
        pytest.importorskip(kind)
    fake.do("hold", command="query-status")
    program = f"""
        import os, warnings
        warnings.simplefilter("ignore")
        path = {fake.path!r}
        def drop():
            import blockjob.sync
            monitor = blockjob.sync.connect(path)
            try:
                monitor.execute("query-status", timeout=0.01)
            except blockjob.Timeout:
                pass
        {DROPS[kind].strip()}
        print(len(os.listdir("/proc/self/task")) > 1)
    """
    assert run_child(program) == "True\n"


def test_c106_a_signal_handler_that_connects(fake: FakeQemu) -> None:
    """Before each instruction of the package; in a child that can be killed if it hangs."""
    with FakeQemu(monitors=2) as others:
        program = f"""
            import os, sys, blockjob, blockjob.sync
            PACKAGE = os.path.dirname(blockjob.__file__)
            left, monitors = 0, []

            def trace(frame, event, argument):
                global left
                if os.path.dirname(frame.f_code.co_filename) != PACKAGE:
                    return None
                frame.f_trace_opcodes = True
                if event == "opcode" and frame.f_code.co_name == "of_process":
                    left -= 1
                    if left == 0:
                        sys.settrace(None)
                        monitors.append(blockjob.sync.connect({others.paths[0]!r}))
                return trace

            for number in range(1, 1000):
                left = number
                sys.settrace(trace)
                monitors.append(blockjob.sync.connect({others.paths[1]!r}))
                sys.settrace(None)
                jobs = [monitor.mirror("drive0", target="copy0") for monitor in monitors]
                blockjob.sync.Group(jobs)  # else they would not share a context
                one = len(monitors) == 1
                for job in jobs:
                    job.abort(force=True)
                for monitor in monitors:
                    monitor.close()
                monitors.clear()
                del jobs, job, monitor
                if one:
                    break
            print(number > 20)
        """
        assert run_child(program) == "True\n"


# ------------------------------------------------------------------------ cancelled, with an answer


def notes_of(error: BaseException) -> str:
    """Which traceback prints, from Python 3.11 on."""
    return "\n".join(error.__dict__["__notes__"])


async def test_c108_a_cancelled_start_names_the_job_that_has_started(fake: FakeQemu) -> None:
    async with blockjob.connect(fake.path) as monitor:
        fake.do("hold", command="blockdev-mirror")
        start = asyncio.ensure_future(monitor.mirror("drive0", target="copy0", job_id="job7"))
        await asyncio.sleep(0)
        fake.wait("blockdev-mirror")
        fake.do("release", command="blockdev-mirror")  # now, so that the loop has not read it yet
        select.select([monitor._context._inbox], [], [])
        start.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await start
        assert "job7" in notes_of(caught.value)
        assert (await monitor.attach("job7")).outcome is None


def test_c108_an_interrupted_start_too(fake: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait_and_raise(inbox: Any, _deadline: object) -> None:
        select.select([inbox], [], [])
        raise Signal

    with blockjob.sync.connect(fake.path) as monitor:
        with monkeypatch.context() as patched, pytest.raises(Signal) as caught:
            patched.setattr(blockjob.sync, "_wait_readable", wait_and_raise)
            monitor.mirror("drive0", target="copy0", job_id="job7")
        assert "job7" in notes_of(caught.value)


def test_c84_a_pivot_that_nobody_can_hear_of(fake: FakeQemu) -> None:
    with blockjob.sync.connect(fake.path) as monitor:
        job = monitor.mirror("drive0", target="copy0")
        for queue_first in (True, False):
            error, queue = _core.queue_new(monitor._context.handle)
            assert error == _core.OK
            pivot = _core.job_pivot(job._handle, _core.PIVOT_WAIT_READY, _core.TIMEOUT_NONE)
            assert _core.future_deliver(pivot, queue, 1) == _core.OK
            if queue_first:
                del queue, pivot
            else:
                del pivot, queue
        fake.do("ready")
        job.ready()
        assert job.abort() is Outcome.COPIED
        assert not sent(fake) & {"block-job-complete", "job-complete"}
