# SPDX-License-Identifier: MIT
# Copies a disk and switches to the copy, in a plain thread.
#
#     python pivot_sync.py SOCKET DEVICE TARGET

import sys

import blockjob.sync


def main(socket: str, device: str, target: str) -> None:
    with blockjob.sync.connect(socket) as monitor:
        job = monitor.mirror(device, target=target, sync="full")
        print(f"{job.id} copies {device} to {target}")
        job.ready()
        print("ready")
        print(job.pivot())


if len(sys.argv) != 4:
    sys.exit("usage: pivot_sync.py SOCKET DEVICE TARGET")
try:
    main(*sys.argv[1:])
except blockjob.Error as error:
    sys.exit(f"pivot_sync.py: {error}")
