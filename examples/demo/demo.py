# SPDX-License-Identifier: MIT
"""The demo's program in Python: copies a disk, then switches to the copy or aborts on the way.

    demo.py SOCKET DEVICE TARGET BYTES_PER_SECOND pivot|abort

Prints a line for each thing that happens; times are microseconds since 1970.
"""

import asyncio
import contextlib
import sys
import time

import blockjob


def say(*words: object) -> None:
    print(*words, flush=True)


def now_us() -> int:
    return time.time_ns() // 1000


def microseconds(seconds: float | None) -> int:
    return round((seconds or 0) * 1e6)


async def show_progress(job: blockjob.Job) -> None:
    async for progress in job.progress(0.1):
        say("progress", progress.current, progress.total)


async def copy_and_pivot(job: blockjob.Job) -> blockjob.Outcome:
    bar = asyncio.create_task(show_progress(job))
    await job.ready()
    say("ready", now_us())
    outcome = await job.pivot()
    await bar
    return outcome


async def copy_and_abort(job: blockjob.Job) -> blockjob.Outcome:
    async for progress in job.progress(0.1):
        say("progress", progress.current, progress.total)
        if progress.fraction > 1 / 3:
            break
    return await job.abort()


async def main(uri: str, device: str, target: str, speed: str, verb: str) -> None:
    async with blockjob.connect(uri) as monitor:
        job = await monitor.mirror(device, target=target, sync="full", speed=int(speed))
        with contextlib.suppress(blockjob.JobFailed):
            await (copy_and_pivot(job) if verb == "pivot" else copy_and_abort(job))
        say("ended", now_us(), job.outcome, job.error)

        times = job.timeline
        say(
            "timeline",
            microseconds(times.ready_event),
            microseconds(times.complete_sent),
            microseconds(times.end_event),
        )
        # Whoever has run this program may remove a node next. A job that failed says so again.
        await job.done(released=True)


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit("usage: demo.py SOCKET DEVICE TARGET BYTES_PER_SECOND pivot|abort")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except blockjob.Error as error:
        sys.exit(f"demo.py: {error}")
