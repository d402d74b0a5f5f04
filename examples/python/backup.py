# SPDX-License-Identifier: MIT
# Backs up several disks at once, with a progress bar for each (by rich, where it is installed).
#
#     python backup.py SOCKET DEVICE=TARGET ...

import asyncio
import sys
from contextlib import nullcontext
from typing import Any

import blockjob

try:
    from rich.progress import Progress
except ImportError:
    Progress = None


async def back_up(monitor: blockjob.Monitor, bars: Any, device: str, target: str) -> None:
    job = await monitor.backup(device, target=target, sync="full")
    bar = bars.add_task(device, total=1.0) if bars else None
    async for progress in job.progress(interval=0.1):
        if bars:
            bars.update(bar, completed=progress.fraction)
    print(f"{device}: {await job.done()}")


async def main(socket: str, *pairs: str) -> None:
    async with blockjob.connect(socket) as monitor:
        with Progress() if Progress else nullcontext() as bars:
            await asyncio.gather(*(back_up(monitor, bars, *pair.split("=")) for pair in pairs))


if len(sys.argv) < 3:
    sys.exit("usage: backup.py SOCKET DEVICE=TARGET ...")
try:
    asyncio.run(main(*sys.argv[1:]))
except blockjob.Error as error:
    sys.exit(f"backup.py: {error}")
