# SPDX-License-Identifier: MIT
# One block job: QEMU's state graph, which verb is accepted when, and the events each step sends.
# It knows no sockets and no time: verbs and script steps go in, events come out.
"""The model of a block job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from disks import Copy
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


class QmpError(Exception):
    """An error reply."""

    def __init__(self, desc: str, error_class: str = "GenericError") -> None:
        super().__init__(desc)
        self.error_class = error_class


class StepError(Exception):
    """A script asked for what no QEMU does."""


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
        copy: Copy,
        on_pivot: Callable[[], None],
        on_graph: Callable[[int], None],
    ) -> None:
        self.id = job_id
        self.kind = kind
        self.can_ready = can_ready
        self.copy = copy
        self.status = "undefined"
        self.offset = 0
        self.length = length
        self.speed: int = arguments.get("speed", 0)
        self.rate = 0
        self.auto_finalize: bool = arguments.get("auto-finalize", True)
        self.auto_dismiss: bool = arguments.get("auto-dismiss", True)
        self.error: str | None = None
        self.io_status = "ok"
        self.held = False
        """The end waits for the script, as that of a real job waits for its last flush."""

        self._emit = emit
        self._profile = profile
        self._on_pivot = on_pivot
        self._on_graph = on_graph
        """The job changes the graph of nodes, so many times."""
        self._asked = ""
        """The verb accepted last that ends the job: complete, soft (cancel) or force."""
        self._user_paused = False

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
            row["actively-synced"] = False
        if self.error is not None:
            row["error"] = self.error
        return {key: row[key] for key in row if key in self._profile.row_keys}

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
            raise QmpError(f"The active block job '{self.id}' cannot be completed")
        if self._asked == "force" or (
            self._asked == "soft" and not self._profile.complete_after_cancel
        ):
            raise QmpError(f"The active block job '{self.id}' cannot be completed")
        self._asked = "complete"

    def cancel(self, force: bool) -> None:
        if not force and self._user_paused:
            raise QmpError(f"The block job for device '{self.id}' is currently paused")
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
            self._asked = self._asked or "soft"
        else:
            self._asked = "force"
            self._user_paused = False
        if self._profile.effects_first and self.kind in ("stream", "backup"):
            self.settle()

    def pause(self) -> None:
        self._check("pause")
        if self._user_paused:
            if self._profile.strict_pause:
                raise QmpError("Job is already paused")
            return
        self._user_paused = True
        self.enter_pause()

    def resume(self) -> None:
        self._check("resume")
        if not self._user_paused:
            if self._profile.strict_pause:
                raise QmpError("Can't resume a job that was not paused")
            return
        self._user_paused = False
        self.io_status = "ok"
        self.leave_pause()

    def set_speed(self, speed: int) -> None:
        self._check("set-speed")
        if speed < 0:
            raise QmpError("Parameter 'speed' expects a non-negative value")
        self.speed = speed

    def change(self, kind: str) -> None:
        self._check("change")
        if kind != self.kind or kind != "mirror":
            raise QmpError(f"Job '{self.id}' is '{self.kind}' job, not '{kind}'")

    def finalize(self) -> None:
        self._check("finalize")
        self._conclude("BLOCK_JOB_COMPLETED")

    def dismiss(self) -> None:
        self._check("dismiss")
        self._to("null")

    def settle(self) -> None:
        """What an accepted verb leads to, once its reply is out; unless the script holds it."""
        if self.held or not self._asked or self.status not in _LIVE:
            return
        if self._asked == "force":
            self._abort()
        elif not self._user_paused:
            self._finish()

    # Steps of the script

    def start(self) -> None:
        self._on_graph(2)
        self._to("created")
        self._on_graph(2)
        self._to("running")
        if self.kind == "backup":
            self.enter_pause()
            self.leave_pause()

    def progress(self, offset: int, length: int | None) -> None:
        self.offset = offset
        self.length = self.length if length is None else length

    def ready(self) -> None:
        if not self.can_ready:
            raise StepError(f"job '{self.id}' ({self.kind}) never becomes ready")
        self.offset = self.length
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
            self.enter_pause()

    def quit(self) -> None:
        """QEMU is leaving: it ends and forgets every job."""
        if self.status in ("running", "ready"):
            for _ in range(self._profile.quit_drains):
                self.enter_pause()
                self.leave_pause()
        self.leave_pause()
        if self.status == "ready" and not self._profile.quit_cancels_ready:
            self._finish()
        elif self.status != "concluded":
            self._abort()
        if self.status == "concluded":
            self._to("null")

    # Inside

    def _to(self, status: str) -> None:
        if status not in _NEXT.get(self.status, ()):
            raise StepError(f"job '{self.id}' can't go from {self.status} to {status}")
        self.status = status
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
            raise QmpError(
                f"Job '{self.id}' in state '{self.status}' cannot accept command verb '{verb}'"
            )

    def _finish(self) -> None:
        self._to("waiting")
        self._to("pending")
        if self.auto_finalize:
            self._conclude("BLOCK_JOB_COMPLETED")
        else:
            self._emit("BLOCK_JOB_PENDING", {"type": self.kind, "id": self.id})

    def _abort(self) -> None:
        self.leave_pause()
        self._to("aborting")
        if self.error is not None:
            self._conclude("BLOCK_JOB_COMPLETED")
        else:
            self.error = "Operation canceled"
            self._conclude("BLOCK_JOB_CANCELLED")

    def _conclude(self, event: str) -> None:
        if self._asked == "complete" and self.error is None:
            self._on_pivot()
        self._on_graph(5 if event == "BLOCK_JOB_COMPLETED" else 4)
        self._event(event)
        self._to("concluded")
        if self.auto_dismiss:
            self._to("null")
        self._on_graph(1)
