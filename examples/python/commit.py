# SPDX-License-Identifier: MIT
# Merges the snapshot overlays of a libvirt domain's disks down, all disks or none, while the guest
# runs; Ctrl-C before the switch leaves everything as it was.
#
#     python commit.py URI DISK ...
#
# as in: python commit.py qemu:///system#vm1 vda vdb

import asyncio
import sys

import blockjob


async def main(uri: str, *disks: str) -> None:
    # A libvirtd that is restarted meanwhile ends no job, and so no wait.
    async with blockjob.connect(uri, reconnect=60) as monitor:
        jobs: list[blockjob.Job] = []
        try:
            for disk in disks:
                jobs.append(await monitor.commit(disk))
            merge = blockjob.Group(jobs)
            await merge.ready()
            print("ready")
            print(await merge.pivot())
        except (asyncio.CancelledError, blockjob.Error):
            for job in jobs:
                print(f"{job.id}: {await job.abort(timeout=10)}")
            raise


if len(sys.argv) < 3:
    sys.exit("usage: commit.py URI DISK ...")
try:
    asyncio.run(main(*sys.argv[1:]))
except blockjob.Error as error:
    sys.exit(f"commit.py: {error}")
except KeyboardInterrupt:
    sys.exit(130)
