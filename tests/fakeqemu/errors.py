# SPDX-License-Identifier: MIT
# What a QEMU answers when it can't do what was asked. Classes were many until 1.1, and carried
# `data`; texts have changed often, so that no client should read them.
"""Error replies, as each age of QEMU words them."""

from __future__ import annotations

from typing import Any


class StepError(Exception):
    """A script asked for what no QEMU does."""


class QmpError(Exception):
    """An error reply."""

    def __init__(
        self, desc: str, error_class: str = "GenericError", data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(desc)
        self.error_class = error_class
        self.data = data
        self.has_id = True

    def reply(self) -> dict[str, Any]:
        error: dict[str, Any] = {"class": self.error_class, "desc": str(self)}
        return {"error": error if self.data is None else error | {"data": self.data}}


class Errors:
    """The errors of one version: `rich` ones have a class for each cause, and data."""

    def __init__(self, version: tuple[int, ...], rhel: str) -> None:
        self._version = version
        self._rhel = rhel
        self._rich = version < (1, 2)

    def _error(self, desc: str, rich_class: str, **data: Any) -> QmpError:
        """A cause that lost its class in 1.2."""
        return QmpError(desc, rich_class, data) if self._rich else QmpError(desc)

    def _kept(self, desc: str, error_class: str, **data: Any) -> QmpError:
        """A cause that still has its class."""
        return QmpError(desc, error_class, data if self._rich else None)

    # Of the protocol

    def bad_json(self, detail: str) -> QmpError:
        if self._version < (2, 8):
            return self._error("Invalid JSON syntax", "JSONParsing")
        return QmpError(f"JSON parse error, {detail}")

    def not_an_object(self) -> QmpError:
        if self._version < (2, 12):
            desc = "Expected 'object' in QMP input"
            return self._error(desc, "QMPBadInputObject", expected="object")
        return QmpError("QMP input must be a JSON object")

    def bad_member(self, member: str, expected: str) -> QmpError:
        if self._version < (2, 12):
            desc = f"QMP input object member '{member}' expects '{expected}'"
            data = {"member": member, "expected": expected}
            error = self._error(desc, "QMPBadInputObjectMember", **data)
        else:
            article = "an" if expected == "object" else "a"
            kind = "JSON object" if expected == "object" else expected
            article = "a" if kind.startswith("J") else article
            error = QmpError(f"QMP input member '{member}' must be {article} {kind}")
        error.has_id = self._version >= (3, 0) or self._rhel == "6.2"
        return error

    def unexpected_member(self, member: str) -> QmpError:
        if self._version < (2, 12):
            desc = f"QMP input object member '{member}' is unexpected"
            return self._error(desc, "QMPExtraInputObjectMember", member=member)
        return QmpError(f"QMP input member '{member}' is unexpected")

    def no_execute(self) -> QmpError:
        desc = "QMP input lacks member 'execute'"
        if self._version < (2, 12):
            desc = "Expected 'execute' in QMP input"
        return self._error(desc, "QMPBadInputObject", expected="execute")

    def no_command(self, name: str) -> QmpError:
        if self._rhel == "6.2":
            name = name.removeprefix("query-")
        return self._no_command(name, f"The command {name} has not been found")

    def not_negotiated(self, name: str) -> QmpError:
        desc = f"The command {name} has not been found"
        if self._version >= (2, 4):
            desc = "Expecting capabilities negotiation with 'qmp_capabilities'"
            if self._version < (2, 12):
                desc += f" before command '{name}'"
        return self._no_command(name, desc)

    def negotiated(self) -> QmpError:
        name = "qmp_capabilities"
        desc = f"The command {name} has not been found"
        if self._version >= (2, 4):
            desc = "Capabilities negotiation is already complete, command ignored"
            if self._version < (2, 12):
                desc = f"Capabilities negotiation is already complete, command '{name}' ignored"
        return self._no_command(name, desc)

    def _no_command(self, name: str, desc: str) -> QmpError:
        error = self._kept(desc, "CommandNotFound", name=name)
        # These come from the thread that reads, which there knew no id yet.
        error.has_id = self._version[:2] != (2, 12)
        return error

    # Of arguments

    def missing(self, name: str) -> QmpError:
        return self._error(f"Parameter '{name}' is missing", "MissingParameter", name=name)

    def unexpected(self, name: str) -> QmpError:
        if self._version < (2, 8):
            return self._error(f"Invalid parameter '{name}'", "InvalidParameter", name=name)
        if self._version < (2, 10):
            return QmpError(f"QMP input object member '{name}' is unexpected")
        return QmpError(f"Parameter '{name}' is unexpected")

    def bad_type(self, name: str, expected: str) -> QmpError:
        of = "" if self._rhel else f" for '{name}'"
        desc = f"Invalid parameter type{of}, expected: {expected}"
        return self._error(desc, "InvalidParameterType", name=name, expected=expected)

    def bad_speed(self) -> QmpError:
        if self._rhel:
            return QmpError("Not supported", "NotSupported", {})
        if self._version < (5, 0):
            return self._error("Invalid parameter 'speed'", "InvalidParameter", name="speed")
        return QmpError("Parameter 'speed' expects a non-negative value")

    # Of disks

    def no_device(self, command: str, device: str) -> QmpError:
        if self._version < (2, 7) or command == "block-commit":
            return self._kept(f"Device '{device}' not found", "DeviceNotFound", device=device)
        if self._version < (5, 0):
            return QmpError(f"Cannot find device={device} nor node_name={device}")
        return QmpError(f"Cannot find device='{device}' nor node-name='{device}'")

    def no_base(self, base: str) -> QmpError:
        return self._error(f"Base '{base}' not found", "BaseNotFound", base=base)

    def no_top(self, top: str) -> QmpError:
        return QmpError(f"Top image file {top} not found")

    def no_target(self, target: str) -> QmpError:
        if self._rhel:
            data = {"filename": target}
            return QmpError(f"Could not open '{target}'", "OpenFileFailed", data)
        return QmpError("Could not create file: No such file or directory")

    def in_use(self, device: str, kind: str) -> QmpError:
        desc = f"Device '{device}' is in use"
        if self._version >= (2, 1):
            what = "Device" if self._version < (2, 7) else "Node"
            desc = f"{what} '{device}' is busy: block device is in use by block job: {kind}"
        return self._error(desc, "DeviceInUse", device=device)

    # Of jobs

    def no_job(self, prefix: str, job: str) -> QmpError:
        """`prefix` is that of the command: job-* is another family than block-job-*."""
        if not prefix:
            return QmpError("Job not found")
        desc = f"Block job '{job}' not found"
        if self._rhel:
            desc = f"Device '{job}' has not been activated by the guest"
        elif self._rich:
            desc = f"Device '{job}' has not been activated"
        elif self._version < (2, 7):
            desc = f"No active block job on device '{job}'"
        return self._kept(desc, "DeviceNotActive", device=job)

    def cannot(self, job: str, status: str, verb: str) -> QmpError:
        if self._version < (2, 12):
            return self.cannot_complete(job)
        return QmpError(f"Job '{job}' in state '{status}' cannot accept command verb '{verb}'")

    def cannot_complete(self, job: str) -> QmpError:
        of = "for device " if self._version < (2, 7) else ""
        return QmpError(f"The active block job {of}'{job}' cannot be completed")

    def paused(self, job: str) -> QmpError:
        return QmpError(f"The block job for device '{job}' is currently paused")
