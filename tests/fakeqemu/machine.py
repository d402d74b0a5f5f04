# SPDX-License-Identifier: MIT
# One QEMU without its sockets: its jobs, its disks, and the commands it understands.
"""The model of one QEMU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from disks import DEVICE, Copy, Disks
from faults import Rule
from jobs import Job, QmpError, StepError
from profiles import Profile

Args = dict[str, Any]
Send = Callable[[dict[str, Any]], None]

_KINDS = {
    "drive-mirror": "mirror",
    "blockdev-mirror": "mirror",
    "block-commit": "commit",
    "block-stream": "stream",
    "drive-backup": "backup",
    "blockdev-backup": "backup",
}


class Machine:
    """One QEMU. `broadcast` sends an event to every client that has negotiated."""

    def __init__(self, index: int, profile: Profile, length: int, broadcast: Send) -> None:
        self.index = index
        self.profile = profile
        self.length = length
        self.jobs: dict[str, Job] = {}
        self.rules: list[Rule] = []
        self.held: list[tuple[str, Callable[[], None]]] = []
        """Replies held back: the command and what sends its reply."""
        self.hold_ends = False
        self.rate = 0
        self.running = True
        """Else it has quit or died, and nobody listens."""
        self.quitting = False
        self._left = False

        self._disks = Disks(length)
        self._broadcast = broadcast
        self._captured: list[dict[str, Any]] | None = None

    # Events

    def emit(self, event: str, data: Args | None = None) -> None:
        """Sends an event, if this version has it."""
        if event in self.profile.events:
            self.emit_any(event, data)

    def emit_any(self, event: str, data: Args | None = None) -> None:
        """Sends an event, known to this version or not."""
        now = time.time_ns() // 1000
        stamp = {"seconds": now // 1_000_000, "microseconds": now % 1_000_000}
        message: dict[str, Any] = {"timestamp": stamp, "event": event}
        if data is not None:
            message["data"] = data
        if self._captured is None:
            self._broadcast(message)
        else:
            self._captured.append(message)

    def capture(self) -> None:
        """Keeps events back, until release()."""
        self._captured = []

    def release(self) -> None:
        captured, self._captured = self._captured or [], None
        for message in captured:
            self._broadcast(message)

    def restart(self, keep_jobs: bool) -> None:
        """Another QEMU takes the place of the one that is gone; or that one, out of its silence."""
        self.quitting = self._left = False
        if not keep_jobs:
            self.jobs.clear()
            self._disks = Disks(self.length)

    # Jobs

    def job(self, job_id: str | None) -> Job:
        """The job a step names; the only one if it names none."""
        if job_id is None and len(self.jobs) == 1:
            return next(iter(self.jobs.values()))
        if job_id not in self.jobs:
            raise StepError(f"no job {job_id!r}; there are {sorted(self.jobs)}")
        return self.jobs[job_id]

    def settle(self) -> None:
        """Lets every job go where the verbs it accepted lead, and forgets those that are gone."""
        if self.quitting and not self._left:
            self._leave()
        for job in list(self.jobs.values()):
            job.settle()
        self.sweep()

    def sweep(self) -> None:
        for job in [job for job in self.jobs.values() if job.gone]:
            del self.jobs[job.id]

    def bounce(self, jobs: list[Job], times: int) -> None:
        """Sends these jobs to standby (or paused) and back."""
        for _ in range(times):
            for job in jobs:
                job.enter_pause()
            for job in jobs:
                job.leave_pause()

    def tick(self, seconds: float) -> None:
        """Moves the jobs that go by a rate."""
        for job in list(self.jobs.values()):
            if job.rate and job.status == "running":
                step = int(min(job.rate, job.speed or job.rate) * seconds) + 1
                job.progress(min(job.length, job.offset + step), None)
                if job.offset == job.length:
                    job.ready() if job.can_ready else job.finish()
        self.sweep()

    # Commands

    def execute(self, name: str, args: Args) -> Any:
        """Does a command and returns what its reply carries. Raises QmpError."""
        known = self.profile.commands.get(name)
        if known is None:
            raise QmpError(f"The command {name} has not been found", "CommandNotFound")
        for argument in args:
            if argument not in known:
                raise QmpError(f"Parameter '{argument}' is unexpected")
        for argument, needed in known.items():
            if needed and argument not in args:
                raise QmpError(f"Parameter '{argument}' is missing")
        if name in _KINDS:
            return self._start(name, args)
        if name.startswith(("block-job-", "job-")):
            prefix, _, verb = name.partition("job-")
            return self._verb(prefix, verb, args)
        handler: Callable[[], Any] = getattr(self, "_" + name.replace("-", "_"))
        return handler()

    def _start(self, name: str, args: Args) -> Args:
        device: str = args["device"]
        for node in (device, args.get("target", "")):
            if node.startswith("missing"):
                raise QmpError(f"Cannot find device='{node}' nor node-name='{node}'")
        if "job-id" not in args and device != DEVICE:
            raise QmpError("An explicit job ID is required")
        job_id: str = args.get("job-id", device)
        if job_id in self.jobs:
            raise QmpError(f"Job ID '{job_id}' already in use")

        root = self._disks.use(device)
        kind = _KINDS[name]
        top = args.get("top-node") or args.get("top", root)
        base = args.get("base-node") or args.get("base", f"{device}-base")
        can_ready = kind == "mirror" or (kind == "commit" and top in (root, device))
        copy = Copy(device, args.get("target") or base, filtered=can_ready)
        job = Job(
            job_id,
            kind,
            emit=self.emit,
            profile=self.profile,
            can_ready=can_ready,
            arguments=args,
            length=self.length,
            copy=copy,
            on_pivot=lambda: self._disks.pivot(copy),
            on_graph=lambda times: self._graph_changed(job_id, times),
        )
        job.held = self.hold_ends
        job.rate = self.rate
        self.jobs[job_id] = job
        job.start()
        return {}

    def _graph_changed(self, by: str, times: int) -> None:
        if self.profile.graph_bounces:
            busy = [job for job in self.jobs.values() if job.status in ("running", "ready")]
            self.bounce([job for job in busy if job.id != by], times)

    def _verb(self, prefix: str, verb: str, args: Args) -> Args:
        job_id: str = args.get("device") or args["id"]
        job = self.jobs.get(job_id)
        if job is None and prefix:
            raise QmpError(f"Block job '{job_id}' not found", "DeviceNotActive")
        if job is None:
            raise QmpError("Job not found")
        if verb == "cancel":
            job.cancel(force=args.get("force", prefix == ""))
        elif verb == "set-speed":
            job.set_speed(args["speed"])
        elif verb == "change":
            job.change(args["type"])
        else:
            {
                "complete": job.complete,
                "pause": job.pause,
                "resume": job.resume,
                "finalize": job.finalize,
                "dismiss": job.dismiss,
            }[verb]()
        self.sweep()
        return {}

    def _query_commands(self) -> list[Args]:
        return [{"name": name} for name in self.profile.commands]

    def _query_events(self) -> list[Args]:
        return [{"name": name} for name in sorted(self.profile.events)]

    def _query_version(self) -> Args:
        major, minor, micro = self.profile.version
        qemu = {"micro": micro, "minor": minor, "major": major}
        return {"qemu": qemu, "package": self.profile.package}

    def _query_status(self) -> Args:
        return {"status": "prelaunch", "singlestep": False, "running": False}

    def _query_block_jobs(self) -> list[Args]:
        return [job.block_row() for job in self.jobs.values()]

    def _query_jobs(self) -> list[Args]:
        return [job.job_row() for job in self.jobs.values()]

    def _query_block(self) -> list[Args]:
        return self._disks.query_block()

    def _query_named_block_nodes(self) -> list[Args]:
        return self._disks.query_named_block_nodes()

    def _x_debug_query_block_graph(self) -> Args:
        at_work = [job for job in self.jobs.values() if job.status != "concluded"]
        return self._disks.graph({job.id: job.copy for job in at_work})

    def _query_qmp_schema(self) -> list[Args]:
        """The commands and their arguments; enough to see which of them exist."""
        schema: list[Args] = []
        for name, arguments in self.profile.commands.items():
            members = [
                {"name": argument, "type": "any"} | ({} if needed else {"default": None})
                for argument, needed in arguments.items()
            ]
            entry = {"name": name, "meta-type": "command", "ret-type": "any"}
            schema.append(entry | {"arg-type": f"{name}-arg"})
            schema.append({"name": f"{name}-arg", "meta-type": "object", "members": members})
        return schema

    def _quit(self) -> Args:
        self.quitting = True
        if self.profile.effects_first:
            self._leave()
        return {}

    def _leave(self) -> None:
        """QEMU ends its jobs and says so."""
        self._left = True
        data = {"guest": False, "reason": "host-qmp-quit"}
        known = {key: data[key] for key in data if key in self.profile.shutdown_keys}
        self.emit("SHUTDOWN", known or None)
        for job in list(self.jobs.values()):
            job.quit()
        self.sweep()
