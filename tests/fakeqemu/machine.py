# SPDX-License-Identifier: MIT
# One QEMU without its sockets: its jobs, its disks, and the commands it understands.
"""The model of one QEMU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import starts
from commands import type_of
from disks import Disks
from errors import StepError
from faults import Held, Rule
from jobs import Job
from motion import Motion, Pace
from profiles import Profile
from schema import schema_of

Args = dict[str, Any]
Send = Callable[[dict[str, Any]], None]


class Later(Exception):
    """The reply comes when this job is gone."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


class Machine:
    """One QEMU. `broadcast` sends an event to every client that has negotiated."""

    def __init__(
        self,
        index: int,
        profile: Profile,
        length: int,
        broadcast: Send,
        on_move: Callable[[Machine], None],
    ) -> None:
        self.index = index
        self.profile = profile
        self.length = length
        self.jobs: dict[str, Job] = {}
        self.disks = Disks(length)
        self.rules: list[Rule] = []
        self.held: list[Held] = []
        self.hold_ends = False
        self.pace = Pace()
        """How new jobs move."""
        self.running = True
        """Else it has quit or died, and nobody listens."""
        self.quitting = False
        self._left = False

        self._broadcast = broadcast
        self._on_move = on_move
        self._motions: dict[str, Motion] = {}
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
            self.disks = Disks(self.length)

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
            self.leave("host-qmp-quit")
        for job in list(self.jobs.values()):
            job.settle()
        self.sweep()

    def sweep(self) -> None:
        for job in [job for job in self.jobs.values() if job.gone]:
            del self.jobs[job.id]

    def busy(self, but: str = "") -> list[Job]:
        """Those that a change of the graph of nodes disturbs, in the versions that do so."""
        jobs = (job for job in self.jobs.values() if job.id != but and not job.given_up)
        return [job for job in jobs if job.status in ("running", "ready")]

    def move(self, job: Job, pace: Pace) -> None:
        """The job moves by itself from now on; or no more."""
        self._motions.pop(job.id, None)
        if pace:
            self._motions[job.id] = Motion(job, pace)
            self._on_move(self)

    def tick(self, seconds: float) -> bool:
        """Moves the jobs that move by themselves; False if there are none."""
        for job_id, motion in list(self._motions.items()):
            motion.tick(seconds)
            if motion.over:
                self._motions.pop(job_id, None)
        self.sweep()
        return bool(self._motions)

    # Commands

    def execute(self, name: str, args: Args) -> Any:
        """Does a command and returns what its reply carries. Raises QmpError."""
        self.check(name, args)
        if name == "transaction":
            return starts.transaction(self, args)
        if name in starts.KINDS:
            return starts.start(self, name, args)
        if name.startswith(("block-job-", "block_job_", "job-")):
            prefix, _, verb = name.replace("_", "-").partition("job-")
            return self._verb(prefix, verb, args)
        handlers: dict[str, Callable[[], Any]] = {
            "query-commands": lambda: [{"name": name} for name in self.profile.commands],
            "query-events": lambda: [{"name": name} for name in sorted(self.profile.events)],
            "query-version": self._query_version,
            "query-status": lambda: {"status": "prelaunch", "singlestep": False, "running": False},
            "query-block-jobs": lambda: [job.block_row() for job in self._listed() if job.on_disk],
            "query-jobs": lambda: [job.job_row() for job in self._listed()],
            "query-block": lambda: self.disks.query_block(),
            "query-named-block-nodes": lambda: self.disks.query_named_block_nodes(),
            "x-debug-query-block-graph": self._graph,
            "query-qmp-schema": lambda: schema_of(self.profile),
            "quit": self._quit,
            "__com.redhat_drive-reopen": lambda: self._reopen(args),
        }
        return handlers[name]()

    def check(self, name: str, args: Args) -> None:
        """Raises QmpError unless there is such a command, and it takes these arguments."""
        errors = self.profile.errors
        known = self.profile.commands.get(name)
        if known is None:
            raise errors.no_command(name)
        for argument in args:
            if argument not in known and not self.profile.lax_arguments:
                raise errors.unexpected(argument)
        for argument, needed in known.items():
            if needed and argument not in args:
                raise errors.missing(argument)
            kind, word = type_of(argument)
            # To Python, truths are numbers.
            if argument in args and type(args[argument]) is not kind:
                raise errors.bad_type(argument, word)

    def _verb(self, prefix: str, verb: str, args: Args) -> Args:
        job_id: str = args.get("device") or args["id"]
        job = self.jobs.get(job_id)
        if job is None or (prefix and not job.on_disk):
            raise self.profile.errors.no_job(prefix, job_id)
        if verb == "cancel" and self.profile.synchronous_cancel:
            if job.cancelled:
                raise self.profile.errors.in_use(job_id, job.kind)
            job.cancel(force=True)
            raise Later(job)
        if verb == "cancel":
            job.cancel(force=args.get("force", prefix == ""))
        elif verb == "set-speed":
            job.set_speed(args["speed"] if "speed" in args else args["value"])
        elif verb == "change":
            job.change(args["type"], args["copy-mode"])
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

    def _reopen(self, args: Args) -> Args:
        """RHEL 6's way to pivot: it is all done when the reply comes."""
        device: str = args["device"]
        job = self.jobs.get(device)
        if job is not None:
            ready = job.status == "ready"
            job.cancel(force=False)
            job.held = False
            job.settle()
            self.sweep()
            if not ready:
                raise self.profile.errors.in_use(device, job.kind)
        self.disks.switch(device, args["new-image-file"])
        return {}

    def _listed(self) -> list[Job]:
        jobs = list(self.jobs.values())
        return jobs[::-1] if self.profile.newest_first else jobs

    def _query_version(self) -> Args:
        major, minor, micro = self.profile.version
        qemu = {"micro": micro, "minor": minor, "major": major}
        return {"qemu": qemu, "package": self.profile.package}

    def _graph(self) -> Args:
        at_work = [job for job in self.jobs.values() if job.status != "concluded"]
        return self.disks.graph({job.id: job.copy for job in at_work if job.copy})

    def _quit(self) -> Args:
        self.quitting = True
        if self.profile.quit_first:
            self.leave("host-qmp-quit")
        return {}

    def leave(self, reason: str) -> None:
        """QEMU ends its jobs and says so."""
        self.quitting = self._left = True
        data = {"guest": False, "reason": reason}
        known = {key: data[key] for key in data if key in self.profile.shutdown_keys}
        self.emit("SHUTDOWN", known or None)
        for job in list(self.jobs.values()):
            job.quit()
        self.sweep()
