#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Domains migrate with their disks from one private libvirtd to another, while we wait for the jobs
by which libvirt copies the disks; each outcome is compared with what became of the domain.

    make check-stress ROUNDS=25
    PYTHONPATH=tests/python:tests/support:tests/fakeqemu tests/libvirt/migrations.py [ROUNDS]

So many rounds each: the migration is left alone; it is cancelled at once; it is cancelled around
the moment when the copies are ready and the guest changes hosts. No job may be PIVOTED, as no disk
of this host is switched; one of a migration that was cancelled before that moment is CANCELLED;
where the domain has moved it is COMPLETED.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator

import blockjob
from blockjob import Outcome
from helper import HelperError
from libvirtd import Domain, Libvirtd, missing

PATIENCE_S = 120
# What may become of the job, and whether the domain has moved.
ALLOWED = {
    "succeeds": {(Outcome.COMPLETED, True)},
    "early": {(Outcome.CANCELLED, False)},
    "late": {(Outcome.CANCELLED, False), (Outcome.COMPLETED, False), (Outcome.COMPLETED, True)},
}


async def attach(domain: Domain, monitor: blockjob.Monitor) -> blockjob.Job | None:
    """The job of vda; None: the migration is over already."""
    while True:
        try:
            return await monitor.attach("vda")
        except blockjob.NoJob:
            await asyncio.sleep(0.001)
        except blockjob.Disconnected:
            return None


async def cancel_late(domain: Domain, events: AsyncIterator[blockjob.Event]) -> None:
    """About when the copies are ready; the migration may be faster."""
    async for event in events:
        if event.name == "BLOCK_JOB_READY":
            break
    await asyncio.sleep(random.uniform(0, 0.1))
    with contextlib.suppress(HelperError):
        await asyncio.to_thread(domain.abort_migration)


async def follow(kind: str, domain: Domain, there: Libvirtd) -> Outcome | None:
    """How the job ended; None: nobody was there to see it."""
    async with blockjob.connect(domain.uri) as monitor:
        events = monitor.events()
        await asyncio.to_thread(domain.migrate, there, slowly=True)
        return await end_of_job(kind, domain, monitor, events)


async def end_of_job(
    kind: str,
    domain: Domain,
    monitor: blockjob.Monitor,
    events: AsyncIterator[blockjob.Event],
) -> Outcome | None:
    job = await attach(domain, monitor)
    if job is None:
        return None
    assert job.type == "migration", job
    if kind == "early":
        await asyncio.to_thread(domain.abort_migration)
    elif kind == "late":
        await cancel_late(domain, events)
    try:
        return await job.done(timeout=PATIENCE_S)
    except blockjob.JobFailed as error:
        print(f"{kind}: {error}")
        return Outcome.FAILED


async def play(kind: str, domain: Domain, there: Libvirtd) -> tuple[Outcome | None, bool]:
    outcome = await follow(kind, domain, there)
    moved = not await asyncio.to_thread(domain.migrated)
    if moved:
        await asyncio.to_thread(there.virsh, "destroy", domain.name)
    return outcome, moved


async def run(rounds: int) -> int:
    tally: Counter[str] = Counter()
    wrong = 0
    with Libvirtd() as here, Libvirtd() as there:
        for _ in range(rounds):
            for kind, allowed in ALLOWED.items():
                with here.domain(None, "vda", large=kind == "early") as domain:
                    outcome, moved = await play(kind, domain, there)
                seen = outcome.name if outcome else "missed"
                tally[f"{kind}: {seen}, {'moved' if moved else 'stayed'}"] += 1
                if outcome and (outcome, moved) not in allowed:
                    print(f"WRONG: {kind}: {seen}, {'moved' if moved else 'stayed'}", flush=True)
                    wrong += 1
    print("\n".join(f"{count} {name}" for name, count in sorted(tally.items())))
    return wrong


async def main() -> int:
    if why := missing():
        print(f"migrations are left out: {why}")
        return 0
    with Libvirtd() as host:
        if not host.can_migrate:
            print("migrations are left out: the kernel gives nobody a host name of its own")
            return 0
    return 1 if await run(int(sys.argv[1]) if len(sys.argv) > 1 else 25) else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
