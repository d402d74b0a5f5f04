# SPDX-License-Identifier: MIT
# One block job: QEMU's state graph, which verb is accepted when, and the events each step sends.
# It knows no sockets and no time: verbs and script steps go in, events come out.
"""The model of a block job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from disks import Copy
from errors import QmpError, StepError
from graphs import Graph
from groups import Group
from profiles import Profile

Emit = Callable[[str, dict[str, Any]], None]

_NEXT = {
    "undefined": {"created"},
    "created": {"running", "aborting", "null"},
    "running": {"paused", "ready", "waiting", "aborting"},
    "paused": {"running"},
    "ready": {"standby", "waiting", "aborting"},
    "standby": {"ready"},
    "waiting": {"pending", "aborting"},
    "pending": {"aborting", "concluded"},
    "aborting": {"concluded"},
    "concluded": {"null"},
}

_LIVE = {"created", "running", "paused", "ready", "standby"}
_COPY_MODES = ("background", "write-blocking")
_VERBS = {
    "cancel": _LIVE | {"waiting", "pending"},
    "pause": _LIVE,
    "resume": _LIVE,
    "set-speed": _LIVE,
    "change": _LIVE,
    "complete": {"ready", "standby"},
    "finalize": {"pending"},
    "dismiss": {"concluded"},
}


class Job:
    """One run of one job. Status changes and events go to `emit`, in QEMU's order."""

    def __init__(
        self,
        job_id: str,
        kind: str,
        *,
        emit: Emit,
        profile: Profile,
        can_ready: bool,
        arguments: dict[str, Any],
        length: int,
        copy: Copy | None,
        group: Group,
        on_pivot: Callable[[], None],
        graph: Graph,
    ) -> None:
        self.id = job_id
        self.kind = kind
        self.can_ready = can_ready
        self.copy = copy
        """None: it works on no disk, and only query-jobs tells of it."""
        self.group = group
        self.status = "undefined"
        self.offset = 0
        self.length = length
        self.speed: int = arguments.get("speed", 0)
        self.auto_finalize: bool = arguments.get("auto-finalize", True)
        self.auto_dismiss: bool = arguments.get("auto-dismiss", copy is not None)
        self.actively_synced = False
        self.replies_later: list[Callable[[], None]] = []
        """Replies that come when it is gone."""
        self.error: str | None = None
        self.io_status = "ok"
        self.held = False
        """The end waits for the script, as that of a real job waits for its last flush."""
        self.given_up = False
        """Another job of its group has failed, and nothing disturbs this one any more."""
        self.pause_held = False
        """So does a pause, as that of a job that sleeps or waits for I/O."""

        self._emit = emit
        self._profile = profile
        self._errors = profile.errors
        self._copy_mode: str = arguments.get("copy-mode", "background")
        self._on_pivot = on_pivot
        self._graph = graph
        self._asked = ""
        """The verb accepted last that ends the job: complete, soft (cancel) or force."""
        self._user_paused = False
        self._stalled_ready = False
        group.add(self)

    # What QEMU tells of it

    def block_row(self) -> dict[str, Any]:
        """Its row in query-block-jobs."""
        row: dict[str, Any] = {
            "auto-finalize": self.auto_finalize,
            "io-status": self.io_status,
            "device": self.id,
            "auto-dismiss": self.auto_dismiss,
            "busy": False,
            "len": self.length,
            "offset": self.offset,
            "status": self.status,
            # A pending mirror is paused from the inside, and QEMU shows that.
            "paused": self._user_paused or (self.can_ready and self.status == "pending"),
            "speed": self.speed,
            "ready": self.status in ("ready", "standby"),
            "type": self.kind,
        }
        if self.kind == "mirror":
            row["actively-synced"] = self.actively_synced
        if self.error is not None:
            row["error"] = self.error
        return {key: row[key] for key in row if key in self._profile.row_keys}

    @property
    def cancelled(self) -> bool:
        return self._asked == "force"

    @property
    def on_disk(self) -> bool:
        return self.copy is not None

    def job_row(self) -> dict[str, Any]:
        """Its row in query-jobs."""
        row: dict[str, Any] = {
            "current-progress": self.offset,
            "status": self.status,
            "total-progress": self.length,
            "type": self.kind,
            "id": self.id,
        }
        if self.error is not None:
            row["error"] = self.error
        return row

    @property
    def gone(self) -> bool:
        return self.status == "null"

    # Verbs of clients

    def complete(self) -> None:
        self._check("complete")
        if self.status == "standby" and not self._profile.complete_in_standby:
            raise self._errors.cannot(self.id, self.status, "complete")
        if self._asked == "force" or (
            self._asked == "soft" and not self._profile.complete_after_cancel
        ):
            raise self._errors.cannot_complete(self.id)
        self._asked = "complete"

    def cancel(self, force: bool) -> None:
        if not force and self._user_paused:
            raise self._errors.paused(self.id)
        self._check("cancel")
        if self.status in ("waiting", "pending"):
            self._abort()
            return
        was_ready = self.status in ("ready", "standby")
        if force and was_ready and not self._profile.force_cancels_ready:
            force = False
        if self._asked == "complete" and not (force and self._profile.force_beats_complete):
            return
        if was_ready and not force:
            again = self._asked == "soft" and self._profile.second_cancel_aborts
            self._asked = "force" if again else self._asked or "soft"
        else:
            self._asked = "force"
            self._user_paused = False
            self.leave_pause()
        if self._profile.cancel_first and not self.can_ready:
            self.settle()

    def pause(self) -> None:
        self._check("pause")
        if self._user_paused:
            if self._profile.verbs_know_states:
                raise QmpError("Job is already paused")
            return
        self._user_paused = True  # and it stands still as soon as it can
        if self._profile.pause_first and not self.pause_held:
            self.pause_now()

    def resume(self) -> None:
        self._check("resume")
        if not self._user_paused:
            if self._profile.verbs_know_states:
                raise QmpError("Can't resume a job that was not paused")
            return
        self._user_paused = False
        self.io_status = "ok"
        self.leave_pause()
        if self._stalled_ready and self._profile.ready_again:
            self._event("BLOCK_JOB_READY")
        self._stalled_ready = False

    def set_speed(self, speed: int) -> None:
        self._check("set-speed")
        if speed < 0 and not self._profile.lax_arguments:
            raise self._errors.bad_speed()
        self.speed = speed

    def change(self, kind: str, copy_mode: str) -> None:
        self._check("change")
        if kind != self.kind or kind != "mirror":
            raise QmpError(f"Job '{self.id}' is '{self.kind}' job, not '{kind}'")
        if copy_mode not in _COPY_MODES:
            raise QmpError(f"Parameter 'copy-mode' does not accept value '{copy_mode}'")
        if copy_mode == self._copy_mode:
            return
        if copy_mode != "write-blocking":
            raise QmpError(f"Change to copy mode '{copy_mode}' is not implemented")
        self._copy_mode = copy_mode
        self.actively_synced = self.status in ("ready", "standby")

    def finalize(self) -> None:
        self._check("finalize")
        self.group.conclude()

    def dismiss(self) -> None:
        self._check("dismiss")
        self._to("null")

    def pause_now(self) -> None:
        """Stands still, if it was asked to."""
        if self._user_paused and self.status in ("running", "ready"):
            self.enter_pause()

    def settle(self) -> None:
        """What an accepted verb leads to, once its reply is out; unless the script holds it."""
        if not self.pause_held:
            self.pause_now()
        if self.held or not self._asked or self.status not in _LIVE:
            return
        if self._asked == "force":
            self._abort()
        elif not self._user_paused:
            self._finish()

    # Starting

    def create(self) -> None:
        self._graph.create(lambda: self._to("created"))

    def refuse(self) -> None:
        """The start comes to nothing after all."""
        if self._profile.refuses_with_events:
            self._to("null")

    def undo(self) -> None:
        """Another start of the same transaction was refused."""
        for status in ("aborting", "concluded", "null"):
            self._to(status)

    def run(self) -> None:
        self._graph.run()
        self._to("running")
        if self.kind == "backup" and self._profile.backup_pauses:
            self.enter_pause()

    def started(self) -> None:
        """What the start leads to at once."""
        self.leave_pause()
        if self.length == 0 and self.on_disk:
            self._end_of_nothing()

    def _end_of_nothing(self) -> None:
        if self.can_ready and self._profile.empty_mirror_is_ready:
            self.ready()
        elif self.can_ready or self._profile.empty_stream_ends_first:
            self._finish()
        else:
            self._asked = "nothing to do"

    # Steps of the script

    def progress(self, offset: int, length: int | None) -> None:
        self.offset = offset
        self.length = self.length if length is None else length

    def dirtied(self, count: int) -> None:
        """The guest has written so much to what was copied already."""
        if self._profile.dirty_grows:
            self.length += count
        else:
            self.offset = max(0, self.offset - count)

    def ready(self) -> None:
        if not self.can_ready:
            raise StepError(f"job '{self.id}' ({self.kind}) never becomes ready")
        self.offset = self.length
        self.actively_synced = self._copy_mode == "write-blocking"
        self._to("ready")
        self._event("BLOCK_JOB_READY")

    def enter_pause(self) -> None:
        """QEMU pauses it for a moment; to the user it goes on."""
        self._to("standby" if self.status == "ready" else "paused")

    def leave_pause(self) -> None:
        if self.status in ("paused", "standby"):
            self._to("ready" if self.status == "standby" else "running")

    def finish(self) -> None:
        """The job reaches its end: that of the verb accepted, if any, else its natural one."""
        self.held = False
        if self._asked:
            self.settle()
        else:
            self.offset = self.length
            self._finish()

    def fail(self, error: str) -> None:
        self.error = error
        self._abort()

    def io_error(self, action: str, operation: str, nospace: bool) -> None:
        data = {"device": self.id, "operation": operation, "action": action}
        self._emit("BLOCK_JOB_ERROR", data)
        if action == "stop":
            self.io_status = "nospace" if nospace else "failed"
            self._user_paused = True
            self._stalled_ready |= self.status == "ready"
            if not self.pause_held:
                self.pause_now()

    def quit(self) -> None:
        """QEMU is leaving: it ends and forgets every job."""
        if self.status in ("running", "ready"):
            for _ in range(self._profile.quit_drains):
                self.enter_pause()
                self.leave_pause()
        self.leave_pause()
        if self.status == "ready" and not self._profile.quit_cancels_ready:
            self._finish()
        elif self.status not in ("concluded", "null"):
            self._abort()
        if self.status == "concluded":
            self._to("null")

    # Inside

    def _to(self, status: str) -> None:
        if status not in _NEXT.get(self.status, ()):
            raise StepError(f"job '{self.id}' can't go from {self.status} to {status}")
        self.status = status
        if status == "null":
            for reply in self.replies_later:
                reply()
        self._emit("JOB_STATUS_CHANGE", {"status": status, "id": self.id})

    def _event(self, name: str) -> None:
        data: dict[str, Any] = {
            "device": self.id,
            "len": self.length,
            "offset": self.offset,
            "speed": self.speed,
            "type": self.kind,
        }
        if name == "BLOCK_JOB_COMPLETED" and self.error is not None:
            data["error"] = self.error
        self._emit(name, data)

    def _check(self, verb: str) -> None:
        if self.status not in _VERBS[verb]:
            raise self._errors.cannot(self.id, self.status, verb)

    def _finish(self) -> None:
        self._to("waiting")
        self.group.waits()

    def _abort(self) -> None:
        if self.status not in ("waiting", "pending"):
            self._stop_working()
        self.group.abort()

    def _stop_working(self) -> None:
        self.leave_pause()
        self._to("aborting")

    # For its group

    def pend(self) -> None:
        self._to("pending")
        if not self.auto_finalize:
            self._emit("BLOCK_JOB_PENDING", {"type": self.kind, "id": self.id})

    def stop(self) -> None:
        """Gives up, since one of its group has failed."""
        if self.status != "aborting":
            self._stop_working()

    def conclude(self) -> None:
        cancelled = self.status == "aborting" and self.error is None
        if self._asked == "complete" and self.status != "aborting":
            self._on_pivot()
        if cancelled:
            self.error = "Operation canceled"
        self._graph.conclude(cancelled)
        if self.on_disk:
            self._event("BLOCK_JOB_CANCELLED" if cancelled else "BLOCK_JOB_COMPLETED")
        self._to("concluded")
        if self.auto_dismiss:
            self._to("null")
        self._graph.vanish()
