# SPDX-License-Identifier: MIT
"""What bench/libvirt-pivot and bench/libvirt-rounds measure in Python.

    libvirt_client.py URI DOMAIN

See libvirt/client.c.
"""

import asyncio
import sys
import time

import blockjob


async def pivot(monitor: blockjob.Monitor, device: str, target: str, bandwidth: str) -> None:
    job = await monitor.mirror(
        device, target=target, format="raw", reuse=True, bandwidth=int(bandwidth)
    )
    pivoting = asyncio.create_task(job.pivot())
    await asyncio.sleep(0)  # the task has begun: the pivot is asked for
    print("waiting", flush=True)
    await pivoting
    over_us = time.time_ns() // 1000
    await job.done(released=True)
    print(over_us, flush=True)


async def main(uri: str, domain: str) -> None:
    async with blockjob.connect(f"{uri}#{domain}") as monitor:
        for line in sys.stdin:
            try:
                await pivot(monitor, *line.split())
            except blockjob.Error as error:
                print(f"failed: {error}", flush=True)


asyncio.run(main(*sys.argv[1:]))
