# SPDX-License-Identifier: MIT
# libvirt's event loop, of which a process has one: the program's, or the library's.
"""Programs that register a loop with libvirt before the library, after it, or not at all (B68).

In each, a copy is pivoted by the library while libvirt-python tells the program of the same job.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import blockjob
import pytest
from children import run_child
from libvirtd import Domain

needs_libvirt_python = pytest.mark.skipif(
    importlib.util.find_spec("libvirt") is None, reason="there is no libvirt-python"
)

# What the programs share. `listen` has libvirt-python tell of BLOCK_JOB_2 on a connection.
PROGRAM = """
import asyncio, os, threading, time
os.environ["LIBVIRT_LOG_OUTPUTS"] = "1:file:/dev/null"  # not that a loop came too late
import blockjob, libvirt

me = threading.get_ident()
told = []
READY_AND_COMPLETED = 2

def note(connection, domain, disk, kind, status, opaque):
    told.append(threading.get_ident() == me)

def listen(connection):
    return connection.domainEventRegisterAny(
        None, libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, note, None)

async def pivot(monitor):
    job = await monitor.mirror("vda", target={target!r}, sync="full", format="qcow2")
    await job.ready(timeout=60)
    outcome = await job.pivot(timeout=60)
    assert outcome.name == "PIVOTED", outcome

async def all_is_told():
    while len(told) < READY_AND_COMPLETED:
        await asyncio.sleep(0.005)

async def main():
{main}

{run}
"""


def run_program(
    domain: Domain, main: str, run: str = "asyncio.run(main())", *, python: str = sys.executable
) -> None:
    host = domain.host
    main = dedent(main).format(connection=host.connection, name=domain.name, uri=domain.uri)
    target = domain.path("copy")
    program = PROGRAM.format(target=target, main=indent(main, "    "), run=dedent(run))
    run_child(program, python=python)


def test_b68_no_loop_of_the_programs(domain: Domain) -> None:
    main = """
        async with await blockjob.connect({uri!r}) as monitor:
            await pivot(monitor)
    """
    run_program(domain, main)


@needs_libvirt_python
@pytest.mark.parametrize("what", ["{uri!r}", "connection.lookupByName({name!r})"])
def test_b68_libvirtaio_before(domain: Domain, what: str) -> None:
    main = """
        import libvirtaio
        loop = libvirtaio.virEventRegisterAsyncIOImpl()
        connection = libvirt.open({connection!r})
        listening = listen(connection)
        async with await blockjob.connect(WHAT) as monitor:
            await pivot(monitor)
            await all_is_told()
            assert all(told)
        connection.domainEventDeregisterAny(listening)
        connection.close()
        del connection
        await asyncio.wait_for(loop.drain(), 60)  # the library has left nothing there
        assert loop.is_idle()
    """
    run_program(domain, main.replace("WHAT", what))


@needs_libvirt_python
@pytest.mark.parametrize("what", ["{uri!r}", "connection.lookupByName({name!r})"])
def test_b68_libvirts_own_loop_before(domain: Domain, what: str) -> None:
    main = """
        libvirt.virEventRegisterDefaultImpl()
        def run():
            global me
            me = threading.get_ident()
            while True:
                libvirt.virEventRunDefaultImpl()
        threading.Thread(target=run, daemon=True).start()
        connection = libvirt.open({connection!r})
        listen(connection)
        async with await blockjob.connect(WHAT) as monitor:
            await pivot(monitor)
            await all_is_told()
            assert all(told)
    """
    run_program(domain, main.replace("WHAT", what))


@needs_libvirt_python
def test_b68_libvirts_own_loop_after(domain: Domain) -> None:
    main = """
        async with await blockjob.connect({uri!r}) as monitor:
            libvirt.virEventRegisterDefaultImpl()
            over = threading.Event()
            def run():
                while not over.is_set():
                    libvirt.virEventRunDefaultImpl()
            runner = threading.Thread(target=run)
            runner.start()
            connection = libvirt.open({connection!r})
            listening = listen(connection)
            await pivot(monitor)
            await all_is_told()
            async with await blockjob.connect(connection.lookupByName({name!r})):
                pass
            timer = libvirt.virEventAddTimeout(0, lambda timer, opaque: over.set(), None)
            runner.join(60)  # woke up to see it
            assert not runner.is_alive()
            libvirt.virEventRemoveTimeout(timer)
            connection.domainEventDeregisterAny(listening)
    """
    run_program(domain, main)


@needs_libvirt_python
def test_b68_libvirtaio_after(domain: Domain) -> None:
    main = """
        import libvirtaio
        async with await blockjob.connect({uri!r}) as monitor:
            libvirtaio.virEventRegisterAsyncIOImpl()
            connection = libvirt.open({connection!r})
            listening = listen(connection)
            await pivot(monitor)
            await all_is_told()
            assert not any(told)  # on the library's thread: it came too late
            connection.domainEventDeregisterAny(listening)
    """
    run_program(domain, main)


@needs_libvirt_python
def test_b68_a_connection_from_before_any_loop(domain: Domain) -> None:
    """It never hears an event; the library takes one of its own to the same host. To be certain
    that it is deaf it makes a call that libvirt complains of."""
    main = """
        libvirt.registerErrorHandler(lambda *complaint: None, None)
        connection = libvirt.open({connection!r})
        async with await blockjob.connect(connection.lookupByName({name!r})) as monitor:
            await pivot(monitor)
    """
    run_program(domain, main)


# ------------------------------------------------------------------------------------- GLib

# libvirt's events come on GLib's main loop, in the main thread, as in virt-manager. The coroutine
# runs on a thread, or, where PyGObject has asyncio (3.50), in the main loop itself.
GLIB = """
import gi
gi.require_version("LibvirtGLib", "1.0")
from gi.repository import GLib, LibvirtGLib
LibvirtGLib.init(None)
LibvirtGLib.event_register()
main_loop = GLib.MainLoop()
"""
ON_A_THREAD = """
def work():
    try:
        asyncio.run(main())
    finally:
        GLib.idle_add(main_loop.quit)

thread = threading.Thread(target=work)
thread.start()
main_loop.run()
thread.join()
"""
IN_THE_MAIN_LOOP = """
import gi.events, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of policies, by Python 3.14
asyncio.set_event_loop_policy(gi.events.GLibEventLoopPolicy())
task = asyncio.get_event_loop_policy().get_event_loop().create_task(main())
task.add_done_callback(lambda _: main_loop.quit())
main_loop.run()
task.result()
"""


@functools.cache
def python_with(modules: str) -> str:
    """This Python, or the system's, which alone has PyGObject where this one is of an environment;
    "" if neither can import them."""
    for python in (sys.executable, "/usr/bin/python3"):
        command = [python, "-c", f"import blockjob, libvirt{GLIB}import {modules}"]
        null = subprocess.DEVNULL
        if Path(python).exists() and subprocess.run(command, stderr=null).returncode == 0:
            return python
    return ""


@pytest.mark.parametrize(
    ("run", "modules"),
    [
        pytest.param(ON_A_THREAD, "gi", id="on-a-thread"),
        pytest.param(IN_THE_MAIN_LOOP, "gi.events", id="in-the-main-loop"),
    ],
)
def test_b68_a_glib_program(
    domain: Domain, run: str, modules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [str(Path(blockjob.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
    if not (python := python_with(modules)):
        pytest.skip(f"no Python has libvirt, LibvirtGLib and {modules}")
    main = """
        connection = await asyncio.to_thread(libvirt.open, {connection!r})
        listening = listen(connection)
        async with await blockjob.connect(connection.lookupByName({name!r})) as monitor:
            await pivot(monitor)
            await all_is_told()
            assert all(told)
        connection.domainEventDeregisterAny(listening)
        connection.close()
    """
    run_program(domain, main, GLIB + run, python=python)
