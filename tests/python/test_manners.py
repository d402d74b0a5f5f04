# SPDX-License-Identifier: MIT
# Behaving in other people's programs: signals, threads, other loops, fork, exit, no leaks.

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import blockjob
import blockjob.sync
import pytest
from blockjob import Outcome
from children import end_child, read_line, run_child, running, wait_asleep
from control import FakeQemu
from qemu import HALTED_MIRROR, Qemu

Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def halted(daemon: Qemu) -> Qemu:
    """A qemu-storage-daemon with a mirror, "job", that has stopped half-way."""
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    daemon.do(
        "blockdev-mirror",
        {k.replace("_", "-"): v for k, v in HALTED_MIRROR.items()},
        job_id="job",
        device="drive",
        target="copy",
        sync="full",
    )
    return daemon


def test_b73_ctrl_c_interrupts_a_wait(halted: Qemu) -> None:
    program = f"""
        import blockjob.sync
        with blockjob.sync.connect({halted.uri!r}) as monitor:
            job = monitor.attach("job")
            try:
                print("waiting", flush=True)
                job.pivot()
            except KeyboardInterrupt as interrupt:
                kept = interrupt  # and with it all that was on the stack
            job.set_speed(0)
            job.ready()
            print("goes on, pivot asked at", job.timeline.complete_sent)
        """
    with running(program) as child:
        assert read_line(child) == "waiting"
        wait_asleep(child)
        child.send_signal(signal.SIGINT)
        assert end_child(child) == "goes on, pivot asked at None\n"


def test_b73_ctrl_c_interrupts_asyncio(halted: Qemu) -> None:
    program = f"""
        import asyncio, blockjob
        async def main():
            async with blockjob.connect({halted.uri!r}) as monitor:
                job = await monitor.attach("job")
                print("waiting", flush=True)
                await job.done()
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """
    with running(program) as child:
        assert read_line(child) == "waiting"
        wait_asleep(child)
        child.send_signal(signal.SIGINT)
        assert end_child(child) == "interrupted\n"
    assert halted.jobs() == {"job": "running"}


def test_b75_a_signal_handler_does_not_end_a_wait(halted: Qemu) -> None:
    program = f"""
        import signal, blockjob.sync
        with blockjob.sync.connect({halted.uri!r}) as monitor:
            job = monitor.attach("job")
            signal.signal(signal.SIGUSR1, lambda number, frame: print("signal", flush=True))
            print("waiting", flush=True)
            print(job.done())
        """
    with running(program) as child:
        assert read_line(child) == "waiting"
        wait_asleep(child)
        child.send_signal(signal.SIGUSR1)
        assert read_line(child) == "signal"
        halted.do("job-cancel", id="job")
        assert end_child(child) == "CANCELLED\n"


GREEN = """
    import warnings
    warnings.simplefilter("ignore")
    import {green}
    {patch}
    import blockjob.sync
    with blockjob.sync.connect({uri!r}) as monitor:
        job = monitor.attach("job")
        waits = [{green}.spawn(wait) for wait in (job.ready, job.done, job.pivot)]
        {green}.sleep(0)
        # Here only if the waits above let others run.
        job.set_speed(0)
        print(*(wait.{result}() for wait in waits))
"""


def test_b73_eventlet(halted: Qemu) -> None:
    pytest.importorskip("eventlet")
    patch = "eventlet.monkey_patch()"
    program = GREEN.format(green="eventlet", patch=patch, uri=halted.uri, result="wait")
    assert run_child(program) == "None PIVOTED PIVOTED\n"


def test_b73_eventlet_without_stdin(daemon: Qemu) -> None:
    """The first fd that the library opens is 0 then."""
    pytest.importorskip("eventlet")
    program = f"""
        import os, warnings
        warnings.simplefilter("ignore")
        import eventlet, eventlet.hubs
        eventlet.monkey_patch()
        eventlet.hubs.get_hub()
        import blockjob.sync
        with blockjob.sync.connect({daemon.uri!r}) as monitor:
            os.close(0)
            for _ in range(3):
                print(monitor.jobs())
    """
    assert run_child(program) == "[]\n" * 3


def test_b73_gevent(halted: Qemu) -> None:
    pytest.importorskip("gevent")
    patch = "import gevent.monkey; gevent.monkey.patch_all()"
    program = GREEN.format(green="gevent", patch=patch, uri=halted.uri, result="get")
    assert run_child(program) == "None PIVOTED PIVOTED\n"


# A server for green threads is made of them: each waits for something else, and none holds up the
# others.
GREEN_SERVER = """
    import warnings
    warnings.simplefilter("ignore")
    import {green}
    {patch}
    import blockjob.sync
    seen = []
    def watch(stream, last):
        for item in stream:
            if str(item).find(last) >= 0:
                return last
    with blockjob.sync.connect({uri!r}, reconnect=60) as monitor:
        job = monitor.attach("job")
        events, progress = monitor.events(), job.progress(0.001)
        readers = [
            {green}.spawn(watch, events, "BLOCK_JOB_COMPLETED"),
            {green}.spawn(watch, progress, "ready=True"),
            {green}.spawn(blockjob.sync.Group([job]).pivot),
        ]
        killed = {green}.spawn(job.pivot)
        {green}.sleep(0.01)
        killed.kill()
        {timeout}
        job.set_speed(0)
        print(*(reader.{result}() for reader in readers))
"""


def test_b73_eventlet_streams_groups_and_timeouts(halted: Qemu) -> None:
    pytest.importorskip("eventlet")
    timeout = """
        try:
            with eventlet.Timeout(0.01):
                job.done()
        except eventlet.Timeout:
            print("the job goes on")
    """
    program = GREEN_SERVER.format(
        green="eventlet",
        patch="eventlet.monkey_patch()",
        uri=halted.uri,
        timeout=timeout.strip(),
        result="wait",
    )
    expected = "the job goes on\nBLOCK_JOB_COMPLETED ready=True PIVOTED\n"
    assert run_child(program) == expected


def test_b73_gevent_streams_groups_and_timeouts(halted: Qemu) -> None:
    pytest.importorskip("gevent")
    timeout = """
        try:
            with gevent.Timeout(0.01):
                job.done()
        except gevent.Timeout:
            print("the job goes on")
    """
    program = GREEN_SERVER.format(
        green="gevent",
        patch="import gevent.monkey; gevent.monkey.patch_all()",
        uri=halted.uri,
        timeout=timeout.strip(),
        result="get",
    )
    expected = "the job goes on\nBLOCK_JOB_COMPLETED ready=True PIVOTED\n"
    assert run_child(program) == expected


def test_b73_eventlet_with_real_threads(halted: Qemu) -> None:
    """As in programs that hand what blocks to eventlet's pool of threads."""
    pytest.importorskip("eventlet")
    program = f"""
        import warnings
        warnings.simplefilter("ignore")
        import eventlet, eventlet.tpool
        eventlet.monkey_patch()
        import blockjob.sync
        with blockjob.sync.connect({halted.uri!r}) as monitor:
            job = monitor.attach("job")
            waits = [eventlet.spawn(eventlet.tpool.execute, job.done) for _ in range(5)]
            waits += [eventlet.spawn(job.done) for _ in range(5)]
            eventlet.sleep(0.01)
            print(job.abort(), {{wait.wait() for wait in waits}})
        eventlet.tpool.killall()
        """
    assert run_child(program) == "CANCELLED {Outcome.CANCELLED}\n"


def test_b73_uvloop_streams_groups_and_reconnecting(fake: FakeQemu) -> None:
    pytest.importorskip("uvloop")
    program = f"""
        import asyncio, os, time, uvloop, blockjob
        async def main():
            async with blockjob.connect({fake.path!r}, reconnect=60) as monitor:
                events = monitor.events()
                job = await monitor.attach("job")
                pivot = asyncio.create_task(blockjob.Group([job]).pivot())
                progress = job.progress(0.001)
                print("waiting", flush=True)
                async for event in events:
                    if event.kind is blockjob.EventKind.RECONNECTED:
                        break
                print("back", flush=True)
                async for last in progress:
                    pass
                print(last.ready, await pivot)
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(main())
        while len(os.listdir("/proc/self/task")) > 1:  # one that has been joined may yet be listed
            time.sleep(0.001)
        print(len(os.listdir("/proc/self/task")), "thread")
        """
    arguments = {"job-id": "job", "device": "drive0", "target": "copy0", "sync": "full"}
    fake.do("execute", command="blockdev-mirror", arguments=arguments)
    with running(program) as child:
        assert read_line(child) == "waiting"
        fake.do("hang-up")
        assert read_line(child) == "back"
        fake.do("ready")
        assert end_child(child) == "True PIVOTED\n1 thread\n"


def test_b73_uvloop_ctrl_c(halted: Qemu) -> None:
    pytest.importorskip("uvloop")
    program = f"""
        import asyncio, uvloop, blockjob
        async def main():
            async with blockjob.connect({halted.uri!r}) as monitor:
                job = await monitor.attach("job")
                print("waiting", flush=True)
                await job.pivot()
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """
    with running(program) as child:
        assert read_line(child) == "waiting"
        wait_asleep(child)
        child.send_signal(signal.SIGINT)
        assert end_child(child) == "interrupted\n"
    assert halted.jobs() == {"job": "running"}


def test_b73_uvloop(halted: Qemu) -> None:
    pytest.importorskip("uvloop")
    program = f"""
        import asyncio, os, time, uvloop, blockjob
        async def main():
            async with blockjob.connect({halted.uri!r}) as monitor:
                job = await monitor.attach("job")
                events = monitor.events()
                waits = [asyncio.create_task(wait()) for wait in (job.done, job.pivot)]
                try:
                    await asyncio.wait_for(job.ready(), 0.01)
                except asyncio.TimeoutError:
                    print("the job goes on")
                await job.set_speed(0)
                print(*await asyncio.gather(*waits))
                async for event in events:
                    if event.name == "BLOCK_JOB_COMPLETED":
                        break
        loop = uvloop.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        print(len(os.listdir("/proc/self/task")), "thread")
        """
    assert run_child(program) == "the job goes on\nPIVOTED PIVOTED\n1 thread\n"


def test_b73_loops_in_several_threads(daemon: Qemu) -> None:

    async def ask(uri: str) -> list[str]:
        async with blockjob.connect(uri) as monitor:
            return [(await monitor.execute("query-version"))["package"] for _ in range(50)]

    async def main() -> None:
        uris = (daemon.uri, daemon.second_path)
        one, two = await asyncio.gather(*(asyncio.to_thread(asyncio.run, ask(uri)) for uri in uris))
        assert one == two

    asyncio.run(main())


FORK = """
    import os, warnings, blockjob, blockjob.sync
    warnings.simplefilter("ignore")
    {setup}
    pid = os.fork()
    if pid == 0:
        for call in ({calls}):
            try:
                call()
            except blockjob.Error as error:
                print(error.code.name, flush=True)
        {anew}
    else:
        assert os.waitpid(pid, 0)[1] == 0
        {still}
        print("parent", flush=True)
"""


def test_b72_fork(halted: Qemu) -> None:
    program = FORK.format(
        setup=f"monitor = blockjob.sync.connect({halted.uri!r}); job = monitor.attach('job')",
        calls="monitor.jobs, job.ready, job.progress, monitor.events, monitor.close",
        anew=f"print(blockjob.sync.connect({halted.second_path!r}).attach('job').id)",
        still="assert monitor.jobs()[0].id == 'job'",
    )
    expected = "FORKED\n" * 4 + "job\nparent\n"
    assert run_child(program) == expected


def test_b72_fork_of_an_asyncio_program(halted: Qemu) -> None:
    program = FORK.format(
        setup=f"""
    import asyncio
    loop = asyncio.new_event_loop()
    monitor = loop.run_until_complete(blockjob.connect({halted.uri!r}))
    """,
        calls="lambda: loop.run_until_complete(monitor.jobs()), monitor.events",
        anew=f"""
        async def anew():
            async with blockjob.connect({halted.second_path!r}) as monitor:
                print((await monitor.attach("job")).id)
        asyncio.run(anew())
        """,
        still="assert loop.run_until_complete(monitor.jobs())[0].id == 'job'",
    )
    assert run_child(program) == "FORKED\n" * 2 + "job\nparent\n"


EXITS = {
    "asyncio": """
        async def main():
            global monitor
            monitor = await blockjob.connect(uri)
            job = await monitor.attach("job")
            global tasks
            tasks = [asyncio.create_task(wait()) for wait in (job.done, job.ready)]
            await asyncio.sleep(0)
        asyncio.run(main())
    """,
    "a loop that nobody closes": """
        logging.disable()  # asyncio itself tells of such a loop
        warnings.simplefilter("ignore")
        loop = asyncio.new_event_loop()
        monitor = loop.run_until_complete(blockjob.connect(uri))
        job = loop.run_until_complete(monitor.attach("job"))
        progress = job.progress()
        task = loop.create_task(job.done())
        loop.run_until_complete(asyncio.sleep(0))
    """,
    "a daemon thread in a wait": """
        monitor = blockjob.sync.connect(uri)
        job = monitor.attach("job")
        threading.Thread(target=job.done, daemon=True).start()
        threading.Thread(target=list, args=[monitor.events()], daemon=True).start()
    """,
    "sys.exit() in a with": """
        with blockjob.sync.connect(uri) as monitor:
            job = monitor.attach("job")
            job.watch()
            sys.exit()
    """,
    "everything in a cycle": """
        monitor = blockjob.sync.connect(uri)
        monitor.job = monitor.attach("job")
        monitor.itself = monitor
        monitor.stream = monitor.job.progress()
        del monitor
    """,
}


@pytest.mark.parametrize("program", EXITS.values(), ids=EXITS)
def test_b73_nothing_hangs_at_exit(halted: Qemu, program: str) -> None:
    prelude = f"""
        import asyncio, logging, sys, threading, warnings, blockjob, blockjob.sync
        uri = {halted.uri!r}
    """
    assert run_child(prelude + program) == ""
    assert halted.jobs() == {"job": "running"}


def test_b45_b73_nothing_hangs_at_exit_while_reconnecting(fake: FakeQemu) -> None:
    program = f"""
        import blockjob.sync
        monitor = blockjob.sync.connect({fake.path!r}, reconnect=3600)
        job = monitor.mirror("drive0", target="copy0")
        events = monitor.events()
        print("waiting", flush=True)
        for event in events:
            if event.kind is blockjob.EventKind.DISCONNECTED:
                break
        """
    with running(program) as child:
        assert read_line(child) == "waiting"
        fake.do("die")
        assert end_child(child) == ""


def test_an_fd_beyond_what_select_can(halted: Qemu) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, limits[1]))
    ballast = [os.open("/dev/null", os.O_RDONLY)]
    try:
        while ballast[-1] < 1100:
            ballast.append(os.dup(ballast[0]))
        with blockjob.sync.connect(halted.uri) as monitor:
            job = monitor.attach("job")
            with monitor.events() as events, pytest.raises(blockjob.Timeout):
                events.get(timeout=0.01)
            assert job.abort() is Outcome.CANCELLED
    finally:
        for fd in ballast:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class MallInfo(ctypes.Structure):
    """What glibc's mallinfo2() returns."""

    NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = tuple((name, ctypes.c_size_t) for name in NAMES.split())


def memory() -> tuple[int, int]:
    """How much is allocated: Python's blocks, the C library's bytes."""
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
    info = mallinfo2()
    return sys.getallocatedblocks(), info.uordblks + info.hblkhd


async def check_no_growth(some: Callable[[int], Awaitable[None]]) -> None:
    """A thousand rounds more take nothing that a few have not taken."""
    await some(100)
    blocks, size = memory()
    await some(1000)
    more_blocks, more_size = memory()
    assert more_blocks - blocks < 500
    # malloc keeps tens of KiB as it likes; a leaked handle would be hundreds of bytes a round.
    assert more_size - size < 1000 * 100


async def test_b75_a_thousand_connects(connect: Connect, daemon: Qemu) -> None:
    async def some(count: int) -> None:
        for _ in range(count):
            async with await connect(daemon.uri) as monitor:
                await monitor.jobs()

    await check_no_growth(some)


async def test_b75_a_thousand_jobs(connect: Connect, daemon: Qemu) -> None:
    daemon.add_empty("drive", 65536)
    daemon.add_empty("copy", 65536)
    async with await connect(daemon.uri) as monitor:

        async def some(count: int) -> None:
            for _ in range(count):
                job = await monitor.mirror("drive", target="copy")
                assert await job.abort(force=True) is not None
                await job.done(released=True)

        await check_no_growth(some)


async def test_b75_a_thousand_watches_and_leaves(connect: Connect, halted: Qemu) -> None:
    async with await connect(halted.uri) as monitor:
        job = await monitor.attach("job")

        async def some(count: int) -> None:
            for number in range(count):
                events, progress = monitor.events(), job.progress()
                with pytest.raises(blockjob.Timeout):
                    await job.done(timeout=0)
                del events, progress
                if number % 50 == 49:
                    await monitor.jobs()  # by then the library's thread has let go of them as well

        await check_no_growth(some)


def test_documented() -> None:
    for module in (blockjob, blockjob.sync):
        for kind in (module.Monitor, module.Job, module.Group, module.Stream):
            assert kind.__doc__
            for name, value in vars(kind).items():
                if not name.startswith("_"):
                    assert value.__doc__, f"{module.__name__}.{kind.__name__}.{name}"


def test_both_front_ends_have_the_same_names() -> None:
    for kind in ("Monitor", "Job", "Group"):
        names = [
            {name for name in dir(getattr(module, kind)) if not name.startswith("_")}
            for module in (blockjob, blockjob.sync)
        ]
        names[0].discard("aclose")  # contextlib.aclosing() is asyncio's alone
        assert names[0] == names[1]
