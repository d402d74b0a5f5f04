#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Races on libvirt's domains, for as long as you like; each outcome is compared with the disk.

    make check-stress SECONDS=60 SEED=7
    PYTHONPATH=tests/python:tests/support tests/libvirt/stress.py [SECONDS [SEED]]

Several domains copy their disk at once. At a random moment the copy is pivoted or aborted, by us,
by another client, or by both; its QEMU is stopped for a while, or killed, or the domain destroyed.
For the second half of the time libvirtd is killed or stopped and started again, over and over, and
the waits must live through it.

Every wait must end, and tell the truth: PIVOTED where libvirt says that the copy is the disk,
COPIED and CANCELLED where it is not, LOST only where QEMU has ended, or where libvirtd was away.
There FAILED, too: a new libvirtd that does not know that a job was aborted says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import blockjob
from blockjob import Outcome
from helper import HelperError
from libvirtd import Domain, Libvirtd, missing

DOMAINS = 3
HANG_SECONDS = 60.0
RECONNECT_SECONDS = 30.0

T = TypeVar("T")


class Hang(Exception):
    """A wait that has not ended."""


class Spoilt(Exception):
    """A killed libvirtd has left a domain that the next one can't use, or does not know."""


tally: Counter[str] = Counter()


class Host:
    """A libvirtd that may be away for a while."""

    def __init__(self, daemon: Libvirtd) -> None:
        self.daemon = daemon
        self.restarts = 0  # one more as soon as it goes
        self._is_there = asyncio.Event()
        self._is_there.set()

    async def shake(self, until: float, dice: random.Random) -> None:
        """Restarts it, again and again."""
        while time.monotonic() < until:
            await asyncio.sleep(0.2 + dice.random() * 2)
            self.restarts += 1
            self._is_there.clear()
            await asyncio.to_thread(dice.choice((self.daemon.kill, self.daemon.stop)))
            await asyncio.sleep(dice.random() * 0.3)
            await asyncio.to_thread(self.daemon.start)
            self._is_there.set()
            tally["restarts of libvirtd"] += 1

    async def steadily(self, make: Callable[[], Awaitable[T]]) -> T:
        """What that gives once libvirtd does not go away over it."""
        while True:
            await self._is_there.wait()
            restarts = self.restarts
            try:
                return await make()
            except (HelperError, blockjob.Error):
                if restarts == self.restarts:
                    raise

    async def says(self, question: Callable[..., T], *arguments: Any) -> T:
        return await self.steadily(lambda: asyncio.to_thread(question, *arguments))


async def ask(wait: Coroutine[Any, Any, object]) -> str:
    """What the wait ended with."""
    try:
        return str(await asyncio.wait_for(wait, HANG_SECONDS))
    except blockjob.Error as error:
        return f"{type(error).__name__}: {error}"
    except asyncio.TimeoutError:
        raise Hang(getattr(wait, "__name__", "a wait")) from None


async def act(job: blockjob.Job, domain: Domain, dice: random.Random) -> str:
    """One thing, at a random moment; its name."""
    await asyncio.sleep(dice.random() * 0.08)
    what = dice.choice(("pivot", "abort", "pivot", "their pivot", "their abort", "stop", "end"))
    if what == "pivot":
        await ask(job.pivot())
    elif what == "abort":
        await ask(job.abort())
    elif what.startswith("their"):
        with contextlib.suppress(HelperError):  # too early, too late: that is the point
            await asyncio.to_thread(getattr(domain, what.split()[1]), "vda")
    elif what == "stop":
        await asyncio.to_thread(domain.stop)
        await asyncio.sleep(dice.random() * 0.1)
        await asyncio.to_thread(domain.go_on)
    elif (chance := dice.random()) > 0.3:
        return "nothing"
    elif chance > 0.1:
        await asyncio.to_thread(domain.kill)
    else:
        with contextlib.suppress(HelperError):
            await asyncio.to_thread(domain.destroy)
        await asyncio.to_thread(domain.kill)
    return what


async def end(host: Host, job: blockjob.Job) -> str | None:
    """Aborts whatever has not ended by now; a complaint, if it goes on all the same."""
    first = host.restarts
    until = time.monotonic() + HANG_SECONDS
    while job.outcome is None:
        restarts = host.restarts
        said = await ask(job.abort())
        if job.outcome is not None or restarts != host.restarts:
            continue
        if first == restarts or not said.startswith("Disconnected") or time.monotonic() > until:
            return f"abort() said {said}, and the job goes on"
        await asyncio.sleep(0.01)  # it is there again, and we not yet
    return None


async def round_of(
    host: Host, monitor: blockjob.Monitor, domain: Domain, name: str, dice: random.Random
) -> str | None:
    """One copy and what befalls it; a complaint, if there is one."""
    restarts = host.restarts
    before = await host.says(domain.source, "vda")
    target = await asyncio.to_thread(domain.make_empty, name)
    limit = dice.choice((0, 0, 20_000_000))
    try:
        job = await monitor.mirror(
            "vda", target=target, format="qcow2", reuse=True, bandwidth=limit
        )
    except (blockjob.Refused, blockjob.Disconnected) as error:
        tally[f"not started: {type(error).__name__}"] += 1
        if isinstance(error, blockjob.Disconnected) and host.restarts == 0:
            return f"mirror() said {error}"
        await asyncio.sleep(0.05)  # it may be being made again
        with contextlib.suppress(HelperError):  # it may have been, before libvirtd went
            await asyncio.to_thread(domain.abort, "vda")
        if isinstance(error, blockjob.Refused) and host.restarts > 0:
            raise Spoilt(error) from None
        return None
    ready = asyncio.ensure_future(ask(job.ready()))
    done = asyncio.ensure_future(ask(job.done()))
    acts = await asyncio.gather(*(act(job, domain, dice) for _ in range(dice.randint(1, 3))))
    if "end" not in acts and (complaint := await end(host, job)):
        return f"{complaint}, after {acts}"
    await ready
    said, outcome = await done, job.outcome
    is_raised = outcome in (Outcome.LOST, Outcome.FAILED)
    if outcome is None or (said != str(outcome) and not is_raised):
        return f"done() said {said}, and the outcome is {outcome}, after {acts}"
    was_away = host.restarts != restarts
    tally[f"{outcome}{' over a restart' if was_away else ''}"] += 1
    if domain.is_killed:
        return None  # nobody can say what the disk was
    if outcome is Outcome.LOST:
        return None if was_away else f"LOST, and nothing was killed: {job.error}"
    if outcome is Outcome.FAILED and not was_away:
        return f"{outcome} {job.error}, after {acts}"
    if outcome is Outcome.COMPLETED:  # nobody can tell whether the disk was switched
        return None if was_away else f"{outcome}, and not how, after {acts}"
    now = await host.says(domain.source, "vda")
    expected = target if outcome is Outcome.PIVOTED else before
    return None if now == expected else f"{outcome}, but the disk is {now}, after {acts}"


async def describe(host: Host, domain: Domain) -> str:
    """What libvirt says of the domain now."""
    try:
        state = await host.says(host.daemon.virsh, "domstate", domain.name)
        return f"{state}, killed {domain.is_killed}, mirror {await host.says(domain.mirror, 'vda')}"
    except HelperError as error:
        return str(error)


async def live(
    host: Host, reconnect: float | None, domain: Domain, until: float, dice: random.Random
) -> str | None:
    """The rounds of one domain, to its end; a complaint, if there is one."""

    async def connect() -> blockjob.Monitor:
        return await blockjob.connect(domain.uri, reconnect=reconnect)

    async with await host.steadily(connect) as monitor:
        for count in range(100):
            if time.monotonic() > until or domain.is_killed:
                return None
            try:
                complaint = await round_of(host, monitor, domain, f"c{count}", dice)
            except Hang as hang:
                complaint = f"{hang}() hangs; {await describe(host, domain)}"
            except (HelperError, Spoilt) as error:
                if host.restarts == 0:
                    return f"{domain.name}: {error}"
                tally["domains spoilt by a restart"] += 1
                return None
            except blockjob.Error as error:
                complaint = f"{type(error).__name__}: {error}; {await describe(host, domain)}"
            if complaint:
                return f"{domain.name}: {complaint}"
    return None


async def run_domains(
    host: Host, reconnect: float | None, until: float, dice: random.Random
) -> str | None:
    """One domain after the other; the first complaint."""
    complaint = None
    while time.monotonic() < until and not complaint:
        domain = await host.says(host.daemon.domain)
        complaint = await live(host, reconnect, domain, until, dice)
        await asyncio.to_thread(domain.close)
    return complaint


async def race(host: Host, seconds: float, seed: int, *, shaken: bool) -> list[str]:
    """All domains at once; the complaints."""
    until = time.monotonic() + seconds
    reconnect = RECONNECT_SECONDS if shaken else None
    runs = [
        run_domains(host, reconnect, until, random.Random(seed + number))
        for number in range(DOMAINS)
    ]
    shaking = host.shake(until, random.Random(seed)) if shaken else asyncio.sleep(0)
    complaints, _ = await asyncio.gather(asyncio.gather(*runs), shaking)
    return [each for each in complaints if each]


# Instead of libvirt's own, which prints what can't be connected to.
be_silent = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(lambda user, error: None)


async def main() -> int:
    if why := missing():
        print(f"the races on libvirt's domains are left out: {why}")
        return 0
    ctypes.CDLL("libvirt.so.0").virSetErrorFunc(None, be_silent)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    with Libvirtd() as daemon:
        host = Host(daemon)
        complaints = await race(host, seconds / 2, seed, shaken=False)
        complaints += await race(host, seconds / 2, seed, shaken=True)
    print(", ".join(f"{count} {name}" for name, count in sorted(tally.items())))
    for each in complaints:
        print(f"WRONG: {each}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
