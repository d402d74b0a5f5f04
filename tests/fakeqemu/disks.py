# SPDX-License-Identifier: MIT
# The disks of a QEMU: which node each one uses now, and how QEMU's queries show that. There is no
# data; a copy only changes names.
"""The model of disks and block nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

_DEVICE = "drive"


def is_device(name: str) -> bool:
    """The name of a device, which gives its name to a job; else that of a node."""
    return name.startswith(_DEVICE)


@dataclass(frozen=True)
class Copy:
    """What a job works on: a disk, and the node that a pivot gives it."""

    disk: str
    target: str
    filtered: bool
    """A filter sits above the source while the job runs, as that of a mirror."""


class Disks:
    """The disks by the names they had at first: of a device, or of its first node."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._root: dict[str, str] = {}
        self.use("drive0")
        self.use("disk0")

    def use(self, name: str) -> str:
        """The root node of the disk, which is there as soon as it is named."""
        number = name.removeprefix(_DEVICE).zfill(2)
        return self._root.setdefault(name, f"#block1{number}" if is_device(name) else name)

    def pivot(self, copy: Copy) -> None:
        self.switch(copy.disk, copy.target)

    def switch(self, disk: str, root: str) -> None:
        self._root[disk] = root

    def query_block(self) -> list[Row]:
        return [
            {
                "device": disk if is_device(disk) else "",
                "qdev": f"/machine/peripheral/{disk}/virtio-backend",
                "locked": False,
                "removable": False,
                "type": "unknown",
                "io-status": "ok",
                "inserted": self._node(root),
            }
            for disk, root in self._root.items()
        ]

    def query_named_block_nodes(self) -> list[Row]:
        return [self._node(root) for root in self._root.values()]

    def graph(self, copies: dict[str, Copy]) -> Row:
        """x-debug-query-block-graph: who uses which node. `copies` are the jobs at work."""
        ids: dict[tuple[str, str], int] = {}
        edges: list[Row] = []

        def node(kind: str, name: str) -> int:
            return ids.setdefault((kind, name), len(ids) + 1)

        def edge(parent: int, child: str, name: str) -> None:
            child_id = node("block-driver", child)
            perms: Row = {"perm": [], "shared-perm": []}
            edges.append({"name": name, "parent": parent, "child": child_id} | perms)

        filters = {}
        for job, copy in copies.items():
            root = self._root[copy.disk]
            job_node = node("block-job", job)
            if copy.filtered:
                filters[copy.disk] = above = f"#filter-{job}"
                edge(node("block-driver", above), root, "backing")
                edge(job_node, above, "main node")
                edge(job_node, root, "source")
                edge(job_node, copy.target, "target")
        for disk, root in self._root.items():
            edge(node("block-backend", disk), filters.get(disk, root), "root")
        nodes = [{"id": number, "type": kind, "name": name} for (kind, name), number in ids.items()]
        return {"nodes": nodes, "edges": edges}

    def _node(self, name: str) -> Row:
        filename = name if name.startswith("/") else f"/images/{name}.raw"
        return {
            "node-name": name,
            "file": filename,
            "drv": "raw",
            "ro": False,
            "encrypted": False,
            "backing_file_depth": 0,
            "image": {"filename": filename, "format": "raw", "virtual-size": self._size},
        }
