# SPDX-License-Identifier: MIT
# Prints all that happens to a job that someone else started, to its end.
#
#     python follow.py SOCKET JOB

import asyncio
import sys

import blockjob
from blockjob import RecordKind


async def main(socket: str, job_id: str) -> None:
    async with blockjob.connect(socket) as monitor:
        job = await monitor.attach(job_id)
        async for record in job.watch(progress=1.0):
            match record.kind:
                case RecordKind.PROGRESS:
                    print(f"{record.current} of {record.total}", flush=True)
                case RecordKind.STATUS:
                    print(f"QEMU says: {record.status}", flush=True)
                case RecordKind.STALLED:
                    print(f"stands still: {record.text}", flush=True)
                case RecordKind.ENDED:
                    print(record.outcome, record.text)
                case kind:
                    print(kind.name.lower(), flush=True)


if len(sys.argv) != 3:
    sys.exit("usage: follow.py SOCKET JOB")
try:
    asyncio.run(main(*sys.argv[1:]))
except blockjob.Error as error:
    sys.exit(f"follow.py: {error}")
