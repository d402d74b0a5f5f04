# SPDX-License-Identifier: MIT
# The commands on the wire: docs/commands.md names those of the sources, and QEMU may refuse the
# unstable one.

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from blockjob import Outcome
from commands import commands_of
from qemu import Qemu

ROOT = Path(__file__).parents[2]
Connect = Callable[..., Awaitable[Any]]


def known_commands(qemu: Qemu) -> set[str]:
    """All that any QEMU has, as far as it is known here."""
    known = {row["name"] for row in qemu.do("query-commands")}
    for rhel in ("6.2", "6.3"):
        known |= set(commands_of((0, 12), rhel))
    for version in ((1, 1), (2, 12), (5, 2), (11, 1)):
        known |= set(commands_of(version, ""))
    return known | {"__com.redhat_block-commit"}


def test_the_page_names_what_the_sources_do(system: Qemu) -> None:
    known = known_commands(system)
    files = set((ROOT / "core/src/qmp").glob("*.[ch]"))
    files.remove(ROOT / "core/src/qmp/secrets.c")  # what a program sends
    sources = "".join(path.read_text() for path in files)
    code = re.sub(r"/\*.*?\*/", "", sources, flags=re.S)
    in_sources = set(re.findall(r'"([\w.-]+)"', code)) & known - {"stop"}  # of an I/O error

    page = (ROOT / "docs/commands.md").read_text()
    tables = page.partition("## Without being asked")[2].partition("## Where QEMU refuses")[0]
    on_page = set(re.findall(r"`([\w.-]+)`", tables)) & known
    assert len(in_sources) > 25
    assert on_page == in_sources


REJECTS = ["-compat", "unstable-input=reject"]


async def end_other(monitor: Any, qemu: Qemu, target: str, verb: str) -> Any:
    """A mirror of the guest's disk that another client ends."""
    job = await monitor.mirror(qemu.disk_of_guest(), target=target, sync="full", job_id="job")
    await job.ready()
    qemu.do(verb, device="job")
    await job.done()
    return job


@pytest.mark.parametrize("rejects", [False, True])
async def test_unstable_commands_that_are_refused(connect: Connect, rejects: bool) -> None:
    with Qemu(system=True, arguments=REJECTS if rejects else ()) as qemu:
        for name in ("disk", "other"):
            qemu.add_disk(name)
            qemu.add_empty(f"{name}-copy")
        qemu.add_guest("disk")
        async with await connect(qemu.uri) as monitor:
            job = await end_other(monitor, qemu, "disk-copy", "block-job-complete")
            assert job.outcome is (Outcome.COMPLETED if rejects else Outcome.PIVOTED)
            assert ("switched" in job.error) is rejects
            job = await end_other(monitor, qemu, "disk", "block-job-cancel")
            assert job.outcome is (Outcome.COMPLETED if rejects else Outcome.COPIED)
            assert ("switched" in job.error) is rejects

            # Our own are told as ever.
            job = await monitor.mirror(qemu.disk_of_guest(), target="disk", sync="full")
            assert await job.pivot() is Outcome.PIVOTED
            job = await monitor.mirror("disk", target="disk-copy", sync="full")
            await job.ready()
            ours = await job.abort()
            assert ours is Outcome.COPIED, (rejects, job.error)
            job = await monitor.backup("other", target="other-copy", sync="full")
            assert await job.done() is Outcome.COMPLETED
            job = await monitor.mirror("other", target="other-copy", sync="full", speed=1)
            assert await job.abort(force=True) is Outcome.CANCELLED
            await job.done(released=True)
            assert await monitor.jobs() == []


async def test_deprecated_commands_are_not_needed(connect: Connect) -> None:
    arguments = ["-compat", "deprecated-input=reject,deprecated-output=hide"]
    with Qemu(system=True, arguments=arguments) as qemu:
        qemu.add_disk("disk")
        qemu.add_empty("copy")
        qemu.add_guest("disk")
        async with await connect(qemu.uri) as monitor:
            job = await end_other(monitor, qemu, "copy", "block-job-complete")
            assert job.outcome is Outcome.PIVOTED
            job = await monitor.mirror("copy", target="disk", sync="full")
            await job.ready()
            await job.pause()
            await job.resume()
            assert await job.pivot() is Outcome.PIVOTED
