# SPDX-License-Identifier: MIT
# query-qmp-schema: which commands, arguments and events there are, in QEMU's form. Types have no
# names there, only numbers, and what fakeqemu doesn't know is "any".
"""The schema that a QEMU tells of itself."""

from __future__ import annotations

from typing import Any

from commands import features_of, type_of
from profiles import Profile

_BUILTIN = {str: "str", int: "int", bool: "bool"}


def schema_of(profile: Profile) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []

    def arguments_of(arguments: dict[str, bool]) -> str:
        members = [
            {"name": name, "type": _BUILTIN.get(type_of(name)[0], "any")}
            | ({} if needed else {"default": None})
            for name, needed in arguments.items()
        ]
        number = str(len(objects))
        objects.append({"name": number, "meta-type": "object", "members": members})
        return number

    nothing = arguments_of({})
    for name, arguments in profile.commands.items():
        number = arguments_of(arguments) if arguments else nothing
        entry: dict[str, Any] = {
            "name": name,
            "meta-type": "command",
            "ret-type": "any",
            "arg-type": number,
        }
        if features := features_of(name, profile.version):
            entry["features"] = features
        entries.append(entry)
    for name in sorted(profile.events):
        entries.append({"name": name, "meta-type": "event", "arg-type": nothing})
    return entries + objects
