# SPDX-License-Identifier: MIT
# Starting jobs: one by one, several in a transaction, and those that work on no disk.
"""The commands that start jobs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from disks import Copy, is_device
from errors import QmpError
from graphs import Graph
from groups import Group
from jobs import Job

if TYPE_CHECKING:
    from machine import Machine

Args = dict[str, Any]

KINDS = {
    "drive-mirror": "mirror",
    "blockdev-mirror": "mirror",
    "__com.redhat_drive-mirror": "mirror",
    "block-commit": "commit",
    "block-stream": "stream",
    "block_stream": "stream",
    "drive-backup": "backup",
    "blockdev-backup": "backup",
    "blockdev-create": "create",
}
_IN_TRANSACTIONS = ("drive-backup", "blockdev-backup")
_MISSING = ("missing", "nosuch", "/no/such")
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")


def start(machine: Machine, command: str, args: Args) -> Args:
    """One job, alone."""
    job = _create(machine, command, args, Group())
    job.run()
    _started(machine, job)
    return {}


def transaction(machine: Machine, args: Args) -> Args:
    """Several jobs at once, or none of them."""
    properties: Args = args.get("properties", {})
    mode = properties.get("completion-mode", "individual")
    if mode not in ("individual", "grouped"):
        raise QmpError(f"Parameter 'completion-mode' does not accept value '{mode}'")
    group = Group()
    for action in args["actions"]:
        if action["type"] not in (*_IN_TRANSACTIONS, "abort"):
            raise QmpError(f"Parameter 'type' does not accept value '{action['type']}'")
    jobs: list[Job] = []
    try:
        for action in args["actions"]:
            if action["type"] == "abort":
                raise QmpError("Transaction aborted using Abort action")
            machine.check(action["type"], action["data"])
            own = group if mode == "grouped" else Group()
            jobs.append(_create(machine, action["type"], action["data"], own))
    except QmpError:
        for job in jobs:
            job.undo()
        machine.sweep()
        raise
    if machine.profile.newest_runs_first:
        jobs.reverse()
    for job in jobs:
        job.run()
    for job in jobs:
        _started(machine, job)
    return {}


def _started(machine: Machine, job: Job) -> None:
    if machine.pace and job.on_disk:
        machine.move(job, machine.pace)
    job.started()
    machine.sweep()


def _create(machine: Machine, command: str, args: Args, group: Group) -> Job:
    errors = machine.profile.errors
    kind = KINDS[command]
    copy = None if kind == "create" else _copy_of(machine, command, args)
    job_id = _id_of(machine, args)
    if job_id in machine.jobs:
        if "job-id" not in args:
            raise errors.in_use(job_id, machine.jobs[job_id].kind)
        raise QmpError(f"Job ID '{job_id}' already in use")

    def pivot() -> None:
        if copy is not None:
            machine.disks.pivot(copy)

    job = Job(
        job_id,
        kind,
        emit=machine.emit,
        profile=machine.profile,
        can_ready=copy is not None and copy.filtered,
        arguments=args,
        length=1 if copy is None else machine.length,
        copy=copy,
        group=group,
        on_pivot=pivot,
        graph=Graph(machine.profile, kind, lambda: list(machine.busy(but=job_id))),
    )
    job.held = machine.hold_ends
    machine.jobs[job_id] = job
    job.create()
    if args.get("speed", 0) < 0:
        job.refuse()
        del machine.jobs[job_id]
        raise errors.bad_speed()
    return job


def _id_of(machine: Machine, args: Args) -> str:
    takes_id = not machine.profile.device_ids  # RHEL 6.2 ignores it, the others have refused it
    if takes_id and "job-id" in args:
        job_id: str = args["job-id"]
        if not _ID.fullmatch(job_id):
            raise QmpError(f"Invalid job ID '{job_id}'")
        return job_id
    device: str = args["device"]
    if not machine.profile.device_ids and not is_device(device):
        raise QmpError("An explicit job ID is required")
    return device


def _copy_of(machine: Machine, command: str, args: Args) -> Copy:
    """What the job works on, if it is there."""
    errors = machine.profile.errors
    device: str = args["device"]
    if device.startswith(_MISSING):
        raise errors.no_device(command, device)
    root = machine.disks.use(device)
    top: str = args.get("top-node") or args.get("top", root)
    base: str = args.get("base-node") or args.get("base", f"{device}-base")
    target: str = args.get("target", base)
    if target.startswith(_MISSING) and "target" in args:
        by_file = "format" in args or command.startswith("drive")
        raise errors.no_target(target) if by_file else errors.no_device(command, target)
    if top.startswith(_MISSING):
        raise errors.no_top(top)
    if base.startswith(_MISSING) and not machine.profile.lax_arguments:
        raise errors.no_base(base)
    active = command == "block-commit" and top in (root, device)
    if active and not machine.profile.active_commit:
        raise QmpError("Top image as the active layer is currently unsupported")
    return Copy(device, target, filtered=active or KINDS[command] == "mirror")
