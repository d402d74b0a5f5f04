# SPDX-License-Identifier: MIT
"""What bench/pivot measures in Python, and bench/idle traces.

    client.py SOCKET

See client.c.
"""

import asyncio
import sys

import blockjob


async def pivot(uri: str, device: str, target: str) -> None:
    async with blockjob.connect(uri) as monitor:
        job = await monitor.mirror(device, target=target)
        pivoting = asyncio.create_task(job.pivot())
        await asyncio.sleep(0)  # the task has begun: the pivot is asked for
        late = job.is_ready
        await pivoting
        await job.done(released=True)
    print("late" if late else "pivoted", flush=True)


async def main(uri: str) -> None:
    for line in sys.stdin:
        await pivot(uri, *line.split())


asyncio.run(main(sys.argv[1]))
