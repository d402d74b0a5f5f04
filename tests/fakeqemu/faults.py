# SPDX-License-Identifier: MIT
# What can go wrong between a QEMU and its client: rules for the replies of named commands, and
# a connection whose bytes can be split, kept back, cut off.
"""Faults: of replies, and of the wire."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_UNREAD_POLL = 0.0005
_CHUNK = 1 << 18


Held = tuple[str, Callable[[], None]]
"""A reply that is kept back: the command, and what writes the reply or lets it be written."""


@dataclass
class Rule:
    """What is done with the reply of the next commands of a name."""

    verb: str
    command: str
    count: int
    """How many times; 0 for ever."""
    step: dict[str, Any]
    kept: list[Held] = field(default_factory=list)
    """The replies that wait for the last one, of `out-of-order`."""


def take(rules: list[Rule], command: str) -> list[Rule]:
    """The rules for this command, used up by one."""
    taken = [rule for rule in rules if rule.command in (command, "*")]
    for rule in taken:
        rule.count -= 1
        if rule.count == 0:
            rules.remove(rule)
    return taken


@dataclass
class LateReply:
    """A reply that was made and is not written before the next `events` events."""

    data: bytes
    events: int
    held: Held | None = None
    """Where a step finds it to write it at once."""


@dataclass
class WireFaults:
    """How one monitor treats the bytes of its clients, present and future."""

    greeting: str = "full"
    split: int = 0
    cut: int | None = None
    """Hang up after so many bytes more."""
    endless: bytes = b""
    """What is sent again and again, once all else is."""
    stopped: set[str] = field(default_factory=set)
    """Of accepting, reading, writing."""


class Wire:
    """The connection to one client. Never blocks, buffers without bound as QEMU does."""

    __slots__ = (
        "_ending",
        "_faults",
        "_loop",
        "_on_bytes",
        "_on_end",
        "_out",
        "_timer",
        "_watching",
        "sock",
    )

    def __init__(
        self,
        sock: socket.socket,
        faults: WireFaults,
        on_bytes: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._faults = faults
        self._on_bytes = on_bytes
        self._on_end = on_end
        self._out = bytearray()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._watching = False
        self._ending = False
        self.apply()

    @property
    def closed(self) -> bool:
        return self.sock.fileno() < 0

    def apply(self) -> None:
        """Follows a change of the faults."""
        if self.closed:
            return
        if "reading" in self._faults.stopped:
            self._loop.remove_reader(self.sock)
        else:
            self._loop.add_reader(self.sock, self._read)
        self._flush()

    def send(self, data: bytes) -> None:
        if not self.closed:
            self._out += data
            self._flush()

    def end(self) -> None:
        """Hangs up once everything is sent."""
        self._ending = True
        self._flush()

    def close(self) -> None:
        """Hangs up now; what is still unsent is lost."""
        if self.closed:
            return
        self._loop.remove_reader(self.sock)
        self._loop.remove_writer(self.sock)
        if self._timer is not None:
            self._timer.cancel()
        self.sock.close()
        self._on_end()

    def _read(self) -> None:
        try:
            data = self.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_bytes(data)
        else:
            self.close()

    def _unread(self) -> int:
        """Bytes the client has not read yet."""
        answer = fcntl.ioctl(self.sock, termios.TIOCOUTQ, struct.pack("i", 0))
        (unread,) = struct.unpack("i", answer)
        return int(unread)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        faults = self._faults
        while self._out and not self.closed and "writing" not in faults.stopped:
            if faults.split and self._unread():
                # No read of the client's may return more than one piece.
                self._timer = self._loop.call_later(_UNREAD_POLL, self._flush)
                break
            size = min(faults.split or _CHUNK, len(self._out))
            if faults.cut is not None:
                size = min(size, faults.cut)
            if not self._write(size):
                break
        if faults.cut == 0:
            faults.cut = None
            self.close()
        elif self._ending and not self._out:
            self.close()
        elif faults.endless and not (self._out or self.closed or "writing" in faults.stopped):
            self._out += faults.endless * (_CHUNK // len(faults.endless) + 1)
            # Not at once: others want to be served too, however fast this client reads.
            self._loop.call_soon(self._flush)

    def _write(self, size: int) -> bool:
        """Sends that much from the buffer; False if the socket takes no more now."""
        try:
            sent = self.sock.send(self._out[:size]) if size else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            # The client is gone; reading tells.
            self._out.clear()
            return False
        del self._out[:sent]
        if self._faults.cut is not None:
            self._faults.cut -= sent
        want = bool(self._out) and sent < size
        if want != self._watching:
            self._watching = want
            with contextlib.suppress(ValueError):
                if want:
                    self._loop.add_writer(self.sock, self._flush)
                else:
                    self._loop.remove_writer(self.sock)
        return sent > 0
