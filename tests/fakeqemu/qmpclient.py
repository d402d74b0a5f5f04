# SPDX-License-Identifier: MIT
# The smallest QMP client, for fakeqemu's own tests: it reads what comes, message by message.
"""A blocking QMP client."""

from __future__ import annotations

import json
import socket
from typing import Any

Message = dict[str, Any]


class Client:
    """A connection to a QMP socket, or one that there is; negotiated unless told otherwise."""

    def __init__(self, peer: str | socket.socket, negotiate: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX) if isinstance(peer, str) else peer
        self.socket.settimeout(60)
        if isinstance(peer, str):
            self.socket.connect(peer)
        self.lines = self.socket.makefile("rb")
        if negotiate:
            self._negotiate()

    def _negotiate(self) -> None:
        try:
            self.greeting = self.read()
            assert self.ask("qmp_capabilities")[-1]["return"] == {}
        except BaseException:
            self.close()
            raise

    def send(self, command: str, **arguments: Any) -> None:
        message = {"execute": command, "arguments": arguments, "id": command}
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def read(self) -> Message:
        line = self.lines.readline()
        if not line:
            raise EOFError
        assert line.endswith(b"\r\n")
        message: Message = json.loads(line)
        return message

    def ask(self, command: str, **arguments: Any) -> list[Message]:
        """The reply, last, and the events before it."""
        self.send(command, **arguments)
        messages = [self.read()]
        while "event" in messages[-1]:
            messages.append(self.read())
        return messages

    def read_until(self, event: str) -> list[Message]:
        """The messages up to this event."""
        messages = [self.read()]
        while messages[-1].get("event") != event:
            messages.append(self.read())
        return messages

    def close(self) -> None:
        self.lines.close()
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
