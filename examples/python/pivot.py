# SPDX-License-Identifier: MIT
# Copies a disk and switches to the copy, with asyncio.
#
#     python pivot.py SOCKET DEVICE TARGET

import asyncio
import sys

import blockjob


async def main(socket: str, device: str, target: str) -> None:
    async with blockjob.connect(socket) as monitor:
        job = await monitor.mirror(device, target=target, sync="full")
        print(f"{job.id} copies {device} to {target}")
        await job.ready()
        print("ready")
        print(await job.pivot())


if len(sys.argv) != 4:
    sys.exit("usage: pivot.py SOCKET DEVICE TARGET")
try:
    asyncio.run(main(*sys.argv[1:]))
except blockjob.Error as error:
    sys.exit(f"pivot.py: {error}")
