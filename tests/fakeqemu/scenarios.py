# SPDX-License-Identifier: MIT
# What is said to a real QEMU and to fakeqemu alike.
"""Scripts for the comparison with real QEMUs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MIB = 1 << 20


@dataclass
class Step:
    """One command, and what fakeqemu is told once it has replied."""

    command: str
    arguments: dict[str, Any] = field(default_factory=dict)
    until: str = ""
    """The last thing that follows: an event, or `~status`; ` of ` a job, if there are several."""
    racy: bool = False
    """The reply can come at any place among the events."""
    fake: tuple[dict[str, Any], ...] = ()


def ask(command: str, until: str = "", racy: bool = False, **arguments: Any) -> Step:
    return Step(command, {k.replace("_", "-"): v for k, v in arguments.items()}, until, racy)


def go(until: str, **fake: Any) -> Step:
    """The job is let go: by its speed, or by the step for fakeqemu."""
    speed = {"device": "j", "speed": 0}
    return Step("block-job-set-speed", speed, until, racy=True, fake=(fake,))


def start(command: str, **arguments: Any) -> Step:
    # A speed of 1 stops a job after its first piece.
    options: dict[str, Any] = {"speed": 1} | arguments
    return ask(command, job_id="j", **options)


# Fast enough to notice soon that it shall pause, slow enough not to be over before.
MIRROR_SLOW = start("blockdev-mirror", device="disk", target="copy", sync="full", speed=8 * MIB)
MIRROR = start("blockdev-mirror", device="disk", target="copy", sync="full")
READY = go("BLOCK_JOB_READY", do="ready")
ROWS = [ask("query-block-jobs"), ask("query-jobs")]
CANCEL = ask("block-job-cancel", "~null", racy=True, device="j")
FORCE = ask("block-job-cancel", "~null", racy=True, device="j", force=True)
COMPLETE = ask("block-job-complete", "~null", racy=True, device="j")
PAUSE = ask("block-job-pause", "~paused", racy=True, device="j")
STANDBY = ask("job-pause", "~standby", racy=True, id="j")
FINISH = go("~null", do="finish")
BACKUP = start("blockdev-backup", device="disk", target="copy", sync="full")
STREAM = start("block-stream", device="top")
COMMIT = start("block-commit", device="top")
COMMIT_MID = start("block-commit", device="top", top_node="mid", base_node="base")
OTHER = Step(
    "blockdev-mirror",
    {"job-id": "k", "device": "disk2", "target": "copy2", "sync": "full", "speed": 1},
)
OTHER_BACKUP = Step("blockdev-backup", OTHER.arguments)
# Unthrottled, as a throttled job fails only when it wakes up.
BROKEN = {"job-id": "j", "device": "top", "target": "broken", "sync": "full"}
KEPT = {"auto_dismiss": False}
UNFINAL = {"auto_finalize": False}


def mirror(**arguments: Any) -> Step:
    return start("blockdev-mirror", device="disk", target="copy", sync="full", **arguments)


def backup(**arguments: Any) -> Step:
    return start("blockdev-backup", device="disk", target="copy", sync="full", **arguments)


def action(job: str, number: str = "", target: str = "", **more: Any) -> dict[str, Any]:
    """A backup as a part of a transaction, stopped after its first piece."""
    disks = {"device": f"disk{number}", "target": target or f"copy{number}"}
    data = {"job-id": job, "sync": "full", "speed": 1} | disks
    data |= {key.replace("_", "-"): value for key, value in more.items()}
    return {"type": "blockdev-backup", "data": data}


def together(
    *actions: dict[str, Any],
    mode: str = "grouped",
    until: str = "",
    fake: tuple[dict[str, Any], ...] = (),
) -> Step:
    arguments = {"actions": list(actions), "properties": {"completion-mode": mode}}
    return Step("transaction", arguments, until, racy=bool(until), fake=fake)


def done(job: str, until: str) -> Step:
    """One of several jobs gets to the end of its work."""
    speed = {"device": job, "speed": 0}
    fake = ({"do": "finish", "job": job},)
    return Step("block-job-set-speed", speed, until, racy=True, fake=fake)


def cancel(job: str, until: str) -> Step:
    return ask("block-job-cancel", until, racy=True, device=job)


def unknown(prefix: str, key: str) -> list[Step]:
    """Every verb, of a job that isn't there."""
    return [
        *(
            Step(f"{prefix}-{verb}", {key: "no"})
            for verb in ("pause", "resume", "complete", "cancel")
        ),
        *(Step(f"{prefix}-{verb}", {"id": "no"}) for verb in ("finalize", "dismiss")),
    ]


def change(job: str, kind: str, mode: str = "") -> Step:
    arguments = {"id": job, "type": kind}
    return Step("block-job-change", arguments | ({"copy-mode": mode} if mode else {}))


TWO = together(action("j"), action("k", "2"))

SCRIPTS: dict[str, list[Step]] = {
    "mirror, pivot": [MIRROR, *ROWS, READY, *ROWS, COMPLETE, *ROWS],
    "mirror, job-complete": [MIRROR, READY, ask("job-complete", "~null", racy=True, id="j")],
    "mirror, soft cancel when ready": [MIRROR, READY, CANCEL, *ROWS],
    "mirror, force when ready": [MIRROR, READY, FORCE],
    "mirror, job-cancel when ready": [MIRROR, READY, ask("job-cancel", "~null", True, id="j")],
    "mirror, cancel before ready": [MIRROR, CANCEL, *ROWS],
    "mirror, force before ready": [MIRROR, FORCE],
    "mirror, complete before ready": [
        MIRROR,
        ask("block-job-complete", device="j"),
        ask("job-complete", id="j"),
        CANCEL,
    ],
    "mirror, paused": [
        MIRROR_SLOW,
        PAUSE,
        *ROWS,
        ask("block-job-pause", device="j"),
        ask("block-job-cancel", device="j"),
        ask("block-job-resume", "~running", racy=True, device="j"),
        ask("block-job-resume", device="j"),
        READY,
    ],
    "mirror, completed in standby": [
        MIRROR,
        READY,
        STANDBY,
        *ROWS,
        ask("block-job-complete", device="j"),
        ask("block-job-cancel", device="j"),
        ask("job-resume", "~null", racy=True, id="j"),
    ],
    "mirror, forced while paused": [MIRROR_SLOW, PAUSE, FORCE],
    "mirror, forced in standby": [MIRROR, READY, STANDBY, FORCE],
    "mirror, fails": [
        Step(
            "blockdev-mirror",
            BROKEN,
            "~null",
            racy=True,
            fake=(
                {"do": "io-error", "nospace": True},
                {"do": "fail", "error": "No space left on device"},
            ),
        )
    ],
    "mirror, stalls": [
        Step(
            "blockdev-mirror",
            BROKEN | {"on-target-error": "stop"},
            "~paused",
            racy=True,
            fake=({"do": "io-error", "action": "stop", "nospace": True},),
        ),
        *ROWS,
        FORCE,
    ],
    "mirror, kept": [
        mirror(**KEPT),
        READY,
        ask("block-job-complete", "~concluded", True, device="j"),
        *ROWS,
        ask("block-job-dismiss", id="j"),
        *ROWS,
    ],
    "mirror, cancelled and kept": [
        mirror(**KEPT),
        ask("block-job-cancel", "~concluded", True, device="j"),
        *ROWS,
        ask("job-dismiss", id="j"),
    ],
    "mirror, finalized": [
        mirror(**KEPT, **UNFINAL),
        READY,
        ask("block-job-complete", "BLOCK_JOB_PENDING", True, device="j"),
        *ROWS,
        ask("block-job-complete", device="j"),
        ask("block-job-finalize", id="j"),
        *ROWS,
        ask("job-dismiss", id="j"),
    ],
    "mirror, cancelled when pending": [
        mirror(**UNFINAL),
        READY,
        ask("block-job-complete", "BLOCK_JOB_PENDING", True, device="j"),
        ask("block-job-cancel", device="j"),
    ],
    "backup": [BACKUP, *ROWS, FINISH],
    "backup, cancelled": [BACKUP, CANCEL],
    "backup, finalized": [
        backup(**UNFINAL),
        go("BLOCK_JOB_PENDING", do="finish"),
        *ROWS,
        ask("job-finalize", id="j"),
    ],
    "stream": [STREAM, *ROWS, FINISH],
    "stream, cancelled": [STREAM, ask("block-job-complete", device="j"), CANCEL],
    "commit of the active layer, pivot": [COMMIT, *ROWS, READY, COMPLETE],
    "commit of the active layer, soft cancel": [COMMIT, READY, CANCEL],
    "commit of an inner layer": [COMMIT_MID, *ROWS, FINISH],
    "commit of an inner layer, cancelled": [COMMIT_MID, CANCEL],
    "two jobs, each seen while the other changes": [
        MIRROR,
        READY,
        OTHER,
        ask("block-job-cancel", "~null", racy=True, device="k"),
        ask("query-jobs"),
        OTHER,
        COMPLETE,
        ask("query-jobs"),
    ],
    "a backup beside a mirror": [
        *(MIRROR, READY, OTHER_BACKUP, cancel("k", "~null of k"), ask("query-jobs")),
    ],
    "transaction, both done": [
        *(TWO, *ROWS, done("j", "~waiting of j"), *ROWS),
        *(done("k", "~null of j"), *ROWS),
    ],
    "transaction, the newer is done first": [
        *(TWO, done("k", "~waiting of k"), done("j", "~null of j")),
    ],
    "transaction, one cancelled": [TWO, cancel("j", "~null of j"), *ROWS],
    "transaction, one cancelled while the other waits": [
        *(TWO, done("j", "~waiting of j"), cancel("k", "~null of j")),
    ],
    "transaction, the waiting one cancelled": [
        *(TWO, done("j", "~waiting of j"), cancel("j", "~null of j")),
    ],
    "transaction, one fails": [
        together(
            action("j", target="broken", speed=0),
            action("k", "2"),
            until="~null of j",
            fake=(
                {"do": "io-error", "job": "j", "nospace": True},
                {"do": "fail", "job": "j", "error": "No space left on device"},
            ),
        ),
    ],
    "transaction, each for itself": [
        together(action("j"), action("k", "2"), mode="individual"),
        cancel("j", "~null of j"),
        done("k", "~null of k"),
    ],
    "transaction, finalized": [
        together(action("j", auto_finalize=False), action("k", "2")),
        done("j", "~waiting of j"),
        done("k", "BLOCK_JOB_PENDING"),
        *ROWS,
        ask("job-finalize", id="j"),
        *ROWS,
    ],
    "transaction, cancelled when pending": [
        together(action("j", auto_finalize=False), action("k", "2", auto_finalize=False)),
        done("j", "~waiting of j"),
        done("k", "BLOCK_JOB_PENDING of j"),
        ask("job-cancel", "~null of j", racy=True, id="k"),
    ],
    "transaction, refused": [
        together(action("j"), action("k", "2", "missing")),
        together(action("j"), action("j", "2")),
        together(action("j"), {"type": "abort", "data": {}}, mode="individual"),
        together({"type": "odd", "data": {}}),
        together(),
        together(mode="odd"),
        ask("transaction"),
        *ROWS,
    ],
    "no disk, fails": [
        Step(
            "blockdev-create",
            {"job-id": "j", "options": {"driver": "file", "filename": "/no/such", "size": MIB}},
            "~concluded",
            racy=True,
            fake=({"do": "fail", "error": "No such file or directory"},),
        ),
        *ROWS,
        ask("block-job-cancel", device="j"),
        ask("job-cancel", id="j"),
        ask("job-dismiss", id="j"),
        *ROWS,
    ],
    "changed": [
        MIRROR,
        change("j", "mirror", "background"),
        *ROWS,
        change("j", "mirror", "write-blocking"),
        READY,
        *ROWS,
        change("j", "mirror", "background"),
        change("j", "backup"),
        change("no", "mirror", "background"),
        change("j", "mirror", "odd"),
        change("j", "mirror"),
        CANCEL,
    ],
    "no such job": [*unknown("block-job", "device"), *unknown("job", "id")],
    "refused starts": [
        ask("blockdev-mirror", device="missing", target="copy", sync="full", job_id="j"),
        ask("blockdev-mirror", device="disk", target="missing", sync="full", job_id="j"),
        ask("blockdev-mirror", device="disk", target="copy", sync="full"),
        ask("blockdev-mirror", device="disk", sync="full", job_id="j"),
        ask("blockdev-mirror", device="disk", sync="full", target=5, job_id="j"),
        ask("blockdev-mirror", device="disk", target="copy", sync="full", job_id="9 j"),
        ask("blockdev-mirror", device="disk", target="copy", sync="full", job_id="j", speed=-1),
        ask("blockdev-backup", device="disk", target="copy", sync="full", job_id="j", speed=-1),
        ask("block-commit", device="missing", job_id="j"),
        ask("block-stream", device="missing", job_id="j"),
        ask("blockdev-mirror", device="disk", target="copy", sync="full", job_id="j", odd=1),
        ask("no-such-command"),
        ask("qmp_capabilities"),
        ask("query-version"),
    ],
}

# Before, a complete in standby is refused.
SINCE = {"mirror, completed in standby": (6, 0), "changed": (8, 2)}

QUITS: dict[str, list[Step]] = {
    "running": [MIRROR],
    "ready": [MIRROR, READY],
    "paused": [MIRROR_SLOW, PAUSE],
    "pending": [backup(**UNFINAL), go("BLOCK_JOB_PENDING", do="finish")],
    "concluded": [backup(**KEPT), go("~concluded", do="finish")],
    "kept": [backup(**KEPT)],
}
