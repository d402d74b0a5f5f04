#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# A scripted QMP server: one or thousands of QEMUs without disks, for the tests of QMP clients.
# docs/fakeqemu.md is its manual.
"""The command line of fakeqemu."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import script
from errors import QmpError, StepError
from motion import Pace
from profiles import DEFAULT, PROFILES
from server import Hub

_FILES = 64  # for the process itself and the control socket


def _manual() -> Path:
    """Installed, it is beside us."""
    here = Path(__file__).resolve().parent
    beside = here / "fakeqemu.md"
    return beside if beside.exists() else here.parents[1] / "docs" / "fakeqemu.md"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="A scripted QMP server: one or thousands of QEMUs without disks, in the"
        " manners of a version, for the tests of QMP clients. It prints `ready` once it listens,"
        " and ends on the end of its standard input.",
        epilog=f"The steps of --control, --script and --do: {_manual()}",
    )
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        default=DEFAULT,
        metavar="VERSION",
        help=f"the QEMU to be, {DEFAULT} unless told: {', '.join(PROFILES)}",
    )
    parser.add_argument(
        "--socket",
        action="append",
        default=[],
        metavar="PATH",
        help="a monitor of the first QEMU; may be repeated",
    )
    parser.add_argument("--monitors", type=int, default=0, metavar="N", help="N more QEMUs")
    parser.add_argument("--socket-pattern", metavar="PATH", help="their sockets: %%d is 0, 1, ...")
    parser.add_argument(
        "--control",
        metavar="PATH",
        help="the socket that takes steps; -: standard input does, and output answers",
    )
    parser.add_argument("--script", metavar="FILE", help="steps to do first, one a line")
    parser.add_argument("--do", action="append", default=[], metavar="JSON", help="a step as well")
    parser.add_argument("--len", type=int, default=1 << 26, metavar="BYTES", help="size of a disk")
    parser.add_argument(
        "--rate", type=int, default=0, metavar="BYTES", help="new jobs move by so much a second"
    )
    parser.add_argument(
        "--flush",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="of their last flush",
    )
    parser.add_argument(
        "--dirty", type=int, default=0, metavar="BYTES", help="the guest writes so much a second"
    )
    arguments = parser.parse_args()
    if bool(arguments.monitors) != bool(arguments.socket_pattern):
        parser.error("--monitors and --socket-pattern go together")
    if not arguments.socket and not arguments.monitors:
        parser.error("nothing to listen on: give --socket or --monitors")
    return arguments


def _allow_files(wanted: int) -> int:
    """Raises the limit of file descriptors, to `wanted` if it may; returns what it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    return allowed


def _steps(arguments: argparse.Namespace) -> list[str]:
    steps: list[str] = list(arguments.do)
    if arguments.script:
        with open(arguments.script, encoding="utf-8") as lines:
            steps = [line for line in lines if line.strip()] + steps
    return steps


def _end_on_eof(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    # /dev/null and files can't be watched: then only a signal ends us.
    with contextlib.suppress(PermissionError):
        loop.add_reader(0, read)


async def _run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    wanted = 2 * (arguments.monitors + len(arguments.socket)) + _FILES
    hub = Hub(thrifty=_allow_files(wanted) < wanted)
    control = None
    try:
        profile = PROFILES[arguments.profile]
        sockets = [arguments.socket] if arguments.socket else []
        sockets += [[arguments.socket_pattern % index] for index in range(arguments.monitors)]
        for paths in sockets:
            machine = hub.add(profile, arguments.len, paths)
            machine.pace = Pace(arguments.rate, arguments.dirty, arguments.flush)
        for line in _steps(arguments):
            script.run(hub, json.loads(line))
        over: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop.wait())]
        if arguments.control == "-":
            print("ready", flush=True)
            over.append(asyncio.ensure_future(script.serve_standard_input(hub)))
        else:
            if arguments.control:
                serve = partial(script.serve, hub)
                limit = script.LINE_BYTES
                control = await asyncio.start_unix_server(serve, arguments.control, limit=limit)
            print("ready", flush=True)
            _end_on_eof(stop)
        done, _ = await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        if control is not None:
            control.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(arguments.control)
        hub.close()


def main() -> None:
    arguments = _arguments()
    try:
        asyncio.run(_run(arguments))
    except (OSError, StepError, QmpError, ValueError) as error:
        sys.exit(f"fakeqemu: {error}")


if __name__ == "__main__":
    main()
