# SPDX-License-Identifier: MIT
# The Python client of tests/support/libvirtd.
"""A libvirtd with its own folder and socket, and domains whose guests never run.

The methods are steps of that program, which documents them. One that fails raises `HelperError`.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from helper import Helper

_PROGRAM = Path(__file__).parents[1] / "support" / "libvirtd"

# As bandwidth of a copy or commit: it copies a first piece, then stands still until its speed is
# set to 0. So a test can look at a running job as long as it likes.
HALTED = 1


@functools.cache
def missing() -> str:
    """What this machine lacks, "" if libvirt can be tested."""
    return subprocess.run(
        [sys.executable, str(_PROGRAM), "--missing"], stdout=subprocess.PIPE, text=True
    ).stdout.strip()


class Libvirtd(Helper):
    def __init__(self) -> None:
        super().__init__(_PROGRAM)
        made = self.do("host")
        self.connection: str = made["uri"]
        self.can_migrate: bool = made["can_migrate"]
        self.can: list[str] = made["can"]

    def kill(self) -> None:
        """Kills it; the domains keep running."""
        self.do("signal", name="KILL")

    def stop(self) -> None:
        """Ends it in good order; the domains keep running."""
        self.do("signal", name="TERM")

    def start(self) -> None:
        """Starts it again; it has found its domains when this returns."""
        self.do("start")

    def virsh(self, *words: str) -> str:
        return str(self.do("virsh", words=words)["output"])

    def uri(self, domain: str) -> str:
        """The URI of the monitor of that domain, which may not exist."""
        return f"{self.connection}#{quote(domain, safe='')}"

    def domain(self, name: str | None = None, *targets: str, **options: Any) -> Domain:
        """A new domain, paused, with those disks (or vda and vdb), which are full of data."""
        return Domain(self, name=name, targets=targets or ("vda", "vdb"), **options)


class Domain:
    def __init__(self, host: Libvirtd, **options: Any) -> None:
        made = host.do("domain", **options)
        self.host = host
        self.name: str = made["name"]
        self.uuid: str = made["uuid"]
        self.uri: str = made["uri"]
        self.is_killed = False
        self._prefix = made["prefix"]

    def _do(self, verb: str, **fields: Any) -> dict[str, Any]:
        return self.host.do(verb, domain=self.name, **fields)

    def close(self) -> None:
        """Ends the domain, whatever its state, and removes its files."""
        self._do("remove")

    def __enter__(self) -> Domain:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------------- its QEMU

    def kill(self) -> None:
        """Kills its QEMU, behind libvirt's back."""
        self.is_killed = True
        self._do("signal", name="KILL")

    def begin(self) -> None:
        """Starts it again; it must be persistent."""
        self._do("begin")

    def stop(self) -> None:
        """Stops its QEMU: it is there, but silent."""
        self._do("signal", name="STOP")

    def go_on(self) -> None:
        self._do("signal", name="CONT")

    # ----------------------------------------------------------------------- disks

    def path(self, name: str) -> str:
        """The path of a file of that name; of a target, its first image."""
        return f"{self._prefix}-{name}"

    def make_empty(self, name: str) -> str:
        """An image of the disks' size, for a copy that reuses it."""
        return str(self._do("image", name=name)["path"])

    def same_data(self, one: str, other: str) -> bool:
        return bool(self.host.do("same_data", one=one, other=other)["same"])

    def store(self, *, failing: bool = False) -> str:
        """Starts a network store for a copy, and returns it as a disk of libvirt's XML."""
        return str(self._do("store", failing=failing)["xml"])

    def stop_store(self) -> None:
        """Stops the store: jobs that read from it or write into it halt, and can't end."""
        self._do("signal", name="STOP", store=True)

    def go_on_store(self) -> None:
        self._do("signal", name="CONT", store=True)

    def kill_store(self) -> None:
        """Fails the jobs that need it."""
        self._do("kill_store")

    # --------------------------------------------------------- what libvirt reports

    def source(self, target: str) -> str:
        """The image that is the disk now."""
        return self.chain(target)[0]

    def chain(self, target: str) -> list[str]:
        """The images from the disk down to its last backing file."""
        return list(self._do("disk", disk=target)["chain"])

    def mirror(self, target: str) -> str:
        """The state of a copy: "none", "running", "ready", "pivot" or "abort"."""
        return str(self._do("disk", disk=target)["mirror"])

    def await_mirror(self, target: str, state: str) -> None:
        self._do("await_mirror", disk=target, state=state)

    # ---------------------------------------------------------- what another client does

    def snapshot(self, target: str, name: str) -> str:
        """Puts a new overlay of that name on top of the disk."""
        return str(self._do("snapshot", disk=target, name=name)["path"])

    def copy(self, target: str, name: str, *, halted: bool = False) -> str:
        """Starts a copy into an empty image of that name."""
        return str(self._do("copy", disk=target, name=name, halted=halted)["path"])

    def begin_backup(self, xml: str) -> None:
        self._do("begin_backup", xml=xml)

    def pivot(self, target: str) -> None:
        self._do("job", disk=target, action="pivot")

    def abort(self, target: str) -> None:
        self._do("job", disk=target, action="abort")

    def begin_to(self, verb: str, target: str) -> None:
        """Has libvirt take "pivot" or "abort", and waits for no end."""
        self.host.virsh("blockjob", self.name, target, f"--{verb}", "--async")

    def release(self, target: str) -> None:
        """Lets a halted job go on."""
        self._do("job", disk=target, action="release")

    def migrate(self, host: Libvirtd, *, slowly: bool = False) -> None:
        """Begins to move it, and the content of its disks, to another host."""
        place = host.do("expect", **self._do("disks"))
        self._do("migrate", slowly=slowly, **place)

    def migrated(self) -> str:
        """Waits for the end of the migration: "" if it has moved, else why not."""
        return str(self._do("migrated")["reason"])

    def abort_migration(self) -> None:
        self.host.virsh("domjobabort", self.name)

    def destroy(self) -> None:
        self._do("destroy")
        self.is_killed = True
