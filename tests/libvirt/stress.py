#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Races on libvirt's domains, for as long as you like; each outcome is compared with the disk.

    PYTHONPATH=tests/python:tests/fakeqemu tests/libvirt/stress.py [SECONDS [SEED]]

Several domains copy their disk at once. At a random moment the copy is pivoted or aborted, by us,
by another client, or by both; its QEMU is stopped for a while, or killed. Every wait must end, and
tell the truth: PIVOTED where libvirt says that the copy is the disk, COPIED and CANCELLED where it
is not, LOST only where QEMU was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections import Counter

import blockjob
from blockjob import Outcome
from libvirtd import Domain, Libvirtd, VirshError

DOMAINS = 3
HANG_SECONDS = 40.0


class Hang(Exception):
    """A wait that has not ended."""


tally: Counter[str] = Counter()


async def behind_our_back(call: object, *arguments: str) -> None:
    assert callable(call)
    with contextlib.suppress(VirshError):  # too early, too late: that is the point
        await asyncio.to_thread(call, *arguments)


async def ask(wait: object) -> str:
    """What the wait ended with."""
    try:
        assert asyncio.iscoroutine(wait)
        return str(await asyncio.wait_for(wait, HANG_SECONDS))
    except blockjob.Error as error:
        return f"{type(error).__name__}: {error}"
    except asyncio.TimeoutError:
        raise Hang(getattr(wait, "__name__", "a wait")) from None


async def act(job: blockjob.Job, domain: Domain, dice: random.Random) -> str:
    """One thing, at a random moment; its name."""
    await asyncio.sleep(dice.random() * 0.08)
    what = dice.choice(("pivot", "abort", "pivot", "their pivot", "their abort", "stop", "kill"))
    if what == "pivot":
        await ask(job.pivot())
    elif what == "abort":
        await ask(job.abort())
    elif what.startswith("their"):
        await behind_our_back(getattr(domain, what.split()[1]), "vda")
    elif what == "stop":
        domain.stop()
        await asyncio.sleep(dice.random() * 0.1)
        domain.go_on()
    elif dice.random() < 0.2:
        domain.kill()
    else:
        what = "nothing"
    return what


async def round_of(
    monitor: blockjob.Monitor, domain: Domain, name: str, dice: random.Random
) -> str | None:
    """One copy and what befalls it; a complaint, if there is one."""
    before = await asyncio.to_thread(domain.source, "vda")
    target = domain.make_empty(name)
    limit = dice.choice((0, 0, 20_000_000))
    try:
        job = await monitor.mirror(
            "vda", target=target, format="qcow2", reuse=True, bandwidth=limit
        )
    except (blockjob.Refused, blockjob.Disconnected) as error:
        tally[f"not started: {type(error).__name__}"] += 1
        return None
    waits = [asyncio.ensure_future(ask(job.ready())), asyncio.ensure_future(ask(job.done()))]
    acts = await asyncio.gather(*(act(job, domain, dice) for _ in range(dice.randint(1, 3))))
    if "kill" not in acts:
        said = await ask(job.abort())  # whatever has not ended it
        if job.outcome is None:
            return f"abort() said {said}, and the job goes on, after {acts}"
    for wait in waits:
        await wait
    outcome = job.outcome
    tally[str(outcome)] += 1
    if outcome is Outcome.LOST:
        return None if domain.pid == 0 else f"LOST, and nothing was killed: {job.error}"
    if outcome is None or outcome is Outcome.FAILED:
        return f"{outcome} {job.error}" if domain.pid else None
    if domain.pid == 0:
        return None  # nobody can say what the disk was
    now = await asyncio.to_thread(domain.source, "vda")
    expected = target if outcome is Outcome.PIVOTED else before
    return None if now == expected else f"{outcome}, but the disk is {now}, after {acts}"


async def run_domain(host: Libvirtd, until: float, dice: random.Random) -> list[str]:
    complaints: list[str] = []
    while time.monotonic() < until and not complaints:
        domain = await asyncio.to_thread(host.domain)
        async with await blockjob.connect(domain.uri) as monitor:
            for count in range(100):
                if time.monotonic() > until or domain.pid == 0:
                    break
                try:
                    complaint = await round_of(monitor, domain, f"c{count}", dice)
                except Hang as hang:
                    state = await asyncio.to_thread(host.virsh, "domstate", domain.name)
                    where = await asyncio.to_thread(domain.mirror, "vda")
                    complaint = f"{hang}() hangs; {state}, killed {domain.pid == 0}, mirror {where}"
                if complaint:
                    complaints.append(f"{domain.name}: {complaint}")
                    break
        await asyncio.to_thread(domain.close)
    return complaints


async def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    with Libvirtd() as host:
        host.full_image()
        until = time.monotonic() + seconds
        runs = (run_domain(host, until, random.Random(seed + number)) for number in range(DOMAINS))
        complaints = [each for found in await asyncio.gather(*runs) for each in found]
    print(", ".join(f"{count} {name}" for name, count in sorted(tally.items())))
    for each in complaints:
        print(f"WRONG: {each}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
