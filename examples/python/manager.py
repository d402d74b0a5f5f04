# SPDX-License-Identifier: MIT
# Supervises a virtual machine over the only QMP socket that its QEMU has.
#
#     qemu-system-x86_64 ... -device virtio-scsi-pci -qmp unix:vm.qmp,server=on,wait=off &
#     python manager.py unix:vm.qmp DIRECTORY
#
# It reads commands from standard input; those for different disks run at the same time:
#
#     plug DISK IMAGE           gives the guest a SCSI disk, a qcow2 image
#     unplug DISK               takes it away
#     snapshot DISK             has the guest write to a new overlay
#     merge DISK                writes all overlays back into the first image
#     move DISK SOCKET EXPORT   copies the disk to an NBD server, and switches the guest to it
#     yank DISK                 ends a move whose server does not answer
#     backup DISK ...           all as of one moment: first in full, then what has changed
#     qmp COMMAND [JSON]        anything else, "qmp quit" for example
#
# QEMU may be started later, and needs no access to the images: it is passed their descriptors.
# Overlays, backups and qmp.log, a trace of the socket, are made in DIRECTORY, which is to be empty.

import asyncio
import itertools
import json
import logging
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import blockjob

COMMANDS = "plug unplug snapshot merge move yank backup qmp".split()
DISKS = {"backup": None, "yank": 0, "qmp": 0}  # how many words are disks, to be locked; else 1
BITMAP = "since-backup"  # every node has one, since the guest may write to it one day


class Layer(NamedTuple):
    node: str
    image: str
    format: str = "qcow2"


@dataclass
class Disk:
    size: int
    layers: list[Layer]  # each backs the next; the guest uses the last
    target: str | None = None  # the node that it is being moved to
    backup: Layer | None = None  # the last of this node, whose bitmap has what was written since

    @property
    def node(self) -> str:
        return self.layers[-1].node


class Manager:
    def __init__(self, monitor: blockjob.Monitor, directory: str) -> None:
        self.monitor = monitor
        self.execute = monitor.execute
        self.directory = os.path.abspath(directory)
        self.numbers = itertools.count(1)
        self.disks: dict[str, Disk] = {}
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def log_jobs(self) -> None:
        with suppress(blockjob.Disconnected):
            async for change in self.monitor.watch_jobs():
                if change.job:
                    what = change.outcome or change.kind
                    print(f"job {change.job.id}: {what} {change.text}", flush=True)

    async def log_events(self) -> None:
        with suppress(blockjob.Disconnected):
            async for event in self.monitor.events("SHUTDOWN", "DEVICE_DELETED"):
                print(event.name, event.data, flush=True)

    async def obey(self, lines: asyncio.StreamReader) -> None:
        tasks = [asyncio.create_task(self.run(line.decode().strip())) async for line in lines]
        await asyncio.gather(*tasks)

    async def run(self, line: str) -> None:
        command, *words = line.split() or [""]
        try:
            if command not in COMMANDS:
                raise LookupError(f"the commands are {', '.join(COMMANDS)}")
            async with AsyncExitStack() as locks:
                for disk in sorted(set(words[: DISKS.get(command, 1)])):  # sorted: no deadlock
                    await locks.enter_async_context(self.locks[disk])
                print(f"{line}:", await getattr(self, command)(*words), flush=True)
        except (blockjob.Error, OSError, LookupError, TypeError, ValueError) as error:
            print(f"{line}: failed: {error}", flush=True)

    async def plug(self, name: str, image: str) -> str:
        layer = Layer(f"{name}-{next(self.numbers)}", os.path.join(os.getcwd(), image))
        async with self.passed(image) as file:
            await self.add("qcow2", layer.node, file=file, backing=None)
        async with self.deleted_on_error(layer):
            await self.execute("device_add", driver="scsi-hd", id=name, drive=layer.node)
        rows = await self.execute("query-named-block-nodes", flat=True)
        sizes = {row["node-name"]: row["image"]["virtual-size"] for row in rows}
        self.disks[name] = Disk(sizes[layer.node], [layer])
        return "plugged"

    async def unplug(self, name: str) -> str:
        disk = self.disk(name)
        # The stream has begun before the command is sent, so the event can't be missed.
        async with self.monitor.events("DEVICE_DELETED") as events:
            await self.execute("device_del", id=name)
            async for event in events:
                if event.data.get("device") == name:
                    break
        await self.delete(*disk.layers)
        del self.disks[name]
        return "unplugged"

    async def snapshot(self, name: str) -> str:
        disk = self.disk(name)
        overlay = await self.create(name, disk.size, disk.layers[-1])
        async with self.deleted_on_error(overlay):
            await self.execute("blockdev-snapshot", node=disk.node, overlay=overlay.node)
        self.disks[name] = Disk(disk.size, [*disk.layers, overlay])
        return overlay.image

    async def merge(self, name: str) -> object:
        disk = self.disk(name)
        base, *overlays = disk.layers
        job = await self.monitor.commit(disk.node, base_node=base.node, job_id=f"merge-{name}")
        outcome = await job.finish(released=True)
        self.disks[name] = Disk(disk.size, [base])
        await self.delete(*overlays)
        for overlay in overlays:
            os.unlink(overlay.image)
        return outcome

    async def move(self, name: str, socket: str, export: str) -> object:
        disk = self.disk(name)
        new = Layer(f"{name}-{next(self.numbers)}", f"nbd+unix:///{export}?socket={socket}", "raw")
        await self.add("nbd", new.node, export=export, server={"type": "unix", "path": socket})
        disk.target = new.node
        async with self.deleted_on_error(new):
            job = await self.monitor.mirror(disk.node, target=new.node, job_id=f"move-{name}")
            outcome = await job.pivot(released=True)
        self.disks[name] = Disk(disk.size, [new])
        await self.delete(*disk.layers)
        return outcome

    async def yank(self, name: str) -> str:
        if not (target := self.disk(name).target):
            raise LookupError(f"{name} is not being moved")
        # Out of band it overtakes all other commands, also when QEMU hangs in one of them.
        instances = [{"type": "block-node", "node-name": target}]
        await self.execute("yank", instances=instances, out_of_band=True)
        return "yanked"

    async def backup(self, *names: str) -> str:
        actions: list[dict[str, Any]] = []
        targets: dict[str, Layer] = {}
        try:
            for name in dict.fromkeys(names):
                disk = self.disk(name)
                target = targets[name] = await self.create(f"{name}-backup", disk.size, disk.backup)
                options = {"device": disk.node, "target": target.node, "bitmap": BITMAP}
                options |= {"sync": "incremental" if disk.backup else "full"}
                options |= {"bitmap-mode": "on-success"}  # clears the bitmap
                actions.append({"type": "blockdev-backup", "data": options})
            jobs = await self.monitor.transaction(actions, grouped=True)
            await blockjob.Group(jobs).done(released=True)
        finally:
            await self.delete(*targets.values())
        for name, target in targets.items():
            self.disk(name).backup = target
        return " ".join(target.image for target in targets.values())

    async def qmp(self, command: str, *arguments: str) -> str:
        return json.dumps(await self.execute(command, json.loads(" ".join(arguments) or "{}")))

    def disk(self, name: str) -> Disk:
        if name not in self.disks:
            raise LookupError(f"there is no disk {name}")
        return self.disks[name]

    async def add(self, driver: str, node: str, **options: Any) -> None:
        await self.execute("blockdev-add", {"driver": driver, "node-name": node} | options)
        await self.execute("block-dirty-bitmap-add", node=node, name=BITMAP)

    async def delete(self, *layers: Layer) -> None:
        for layer in reversed(layers):
            await self.execute("blockdev-del", node_name=layer.node)

    @asynccontextmanager
    async def deleted_on_error(self, layer: Layer) -> AsyncIterator[None]:
        try:
            yield
        except blockjob.Error:
            with suppress(blockjob.Disconnected):
                await self.delete(layer)
            raise

    async def create(self, prefix: str, size: int, backing: Layer | None) -> Layer:
        node = f"{prefix}-{next(self.numbers)}"
        image = f"{self.directory}/{node}.qcow2"
        options: dict[str, Any] = {"driver": "qcow2", "file": node, "size": size}
        if backing:
            options |= {"backing-file": backing.image, "backing-fmt": backing.format}
        async with self.passed(image, "x+b") as file:
            await self.execute("blockdev-add", file, node_name=node)
            job = await self.monitor.start("blockdev-create", options=options)
            await job.done(released=True)
            await self.execute("blockdev-del", node_name=node)
            await self.add("qcow2", node, file=file, backing=None)
        return Layer(node, image)

    @asynccontextmanager
    async def passed(self, image: str, mode: str = "r+b") -> AsyncIterator[dict[str, str]]:
        """The options of a node for this file, which QEMU can open until the block ends."""
        number = next(self.numbers)
        with await asyncio.to_thread(open, image, mode) as file:
            await self.execute("add-fd", fdset_id=number, fds=[file])
        try:
            yield {"driver": "file", "filename": f"/dev/fdset/{number}"}
        finally:
            await self.execute("remove-fd", fdset_id=number)


async def main(uri: str, directory: str) -> None:
    logging.basicConfig(filename=f"{directory}/qmp.log", format="%(asctime)s %(message)s")
    wire = logging.getLogger("wire")
    wire.setLevel(logging.DEBUG)
    loop, lines = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with blockjob.connect(
        uri, wait=60, name="vm", trace=wire, mask_secrets=True, out_of_band=True
    ) as monitor:
        manager = Manager(monitor, directory)
        logs = asyncio.gather(manager.log_jobs(), manager.log_events())
        over = asyncio.create_task(monitor.closed())
        over.add_done_callback(lambda _: lines.feed_eof())
        await manager.obey(lines)
    await logs
    print(await over)


if len(sys.argv) != 3:
    sys.exit("usage: manager.py SOCKET DIRECTORY")
try:
    asyncio.run(main(*sys.argv[1:]))
except blockjob.Error as error:
    sys.exit(f"manager.py: {error}")
