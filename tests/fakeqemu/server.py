# SPDX-License-Identifier: MIT
# The sockets of the QEMUs: who is connected, and the log of what clients did.
"""QMP monitors on unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import script
from faults import Wire, WireFaults
from machine import Machine
from profiles import Profile
from session import Session

Message = dict[str, Any]

_BACKLOG = 1  # as QEMU's: further connects get EAGAIN
_TICK = 0.02
_GARBAGE = b"\x00\xff SSH-2.0-not_qmp }{]\r\n"


class Monitor:
    """One socket of one QEMU; a single client at a time, as QEMU has it."""

    __slots__ = (
        "_hub",
        "_listener",
        "_over",
        "_session",
        "_wire",
        "faults",
        "index",
        "machine",
        "path",
    )

    def __init__(self, hub: Hub, machine: Machine, index: int, path: str) -> None:
        self.machine = machine
        self.index = index
        self.path = path
        self.faults = WireFaults()
        self._hub = hub
        self._session = Session(self, machine)
        self._wire: Wire | None = None
        self._over = False
        self._listener: socket.socket | None = None
        self._listen()

    def apply(self) -> None:
        """Follows a change of the faults."""
        if self._wire is not None:
            self._wire.apply()
        elif not self._over:
            self._listen()

    def send(self, data: bytes) -> None:
        """Sends bytes as they are, if there is a client."""
        if self._wire is not None:
            self._wire.send(data)

    @property
    def negotiated(self) -> bool:
        return self._session.negotiated

    def send_event(self, message: Message) -> None:
        self._session.send_event(message)

    def run(self, step: Message) -> None:
        script.run(self._hub, step)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, call)

    def note(self, what: str, **fields: Any) -> None:
        self._hub.note(self, what, **fields)

    def machine_ends(self) -> None:
        self._hub.end_machine(self.machine)

    def hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close()

    def end(self) -> None:
        """The QEMU is gone: no more clients; the one there is gets what is still unsent."""
        self._over = True
        self._unlisten(close=True)
        if self._wire is not None:
            self._wire.end()

    def start(self) -> None:
        """Another QEMU listens on the path of the one that is gone."""
        self._over = False
        if self._wire is None:
            self._listen()

    def _listen(self) -> None:
        if "accepting" in self.faults.stopped:
            self._unlisten(close=False)
            return
        if self._listener is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.setblocking(False)
            self._listener.bind(self.path)
            self._listener.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _unlisten(self, close: bool) -> None:
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener)
        if close:
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        # The next client waits in the backlog, ungreeted, until this one leaves.
        self._unlisten(close=self._hub.thrifty)
        self._session.begin()
        self.note("connect")
        self._wire = Wire(sock, self.faults, self._session.receive, self._on_end)
        self._wire.send(self._greeting())

    def _on_end(self) -> None:
        self._wire = None
        self._session.begin()
        self.note("disconnect")
        if not self._over:
            self._listen()

    def _greeting(self) -> bytes:
        full = self._session.greeting()
        known = {"full": full, "never": b"", "half": full[: len(full) // 2], "garbage": _GARBAGE}
        return known.get(self.faults.greeting, self.faults.greeting.encode())


class Waiter:
    """Someone who waits for the count-th entry of the log with these fields."""

    def __init__(self, wanted: Message, count: int) -> None:
        self.found: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._wanted = wanted
        self._left = count

    def see(self, entry: Message) -> None:
        if all(key in entry and entry[key] == value for key, value in self._wanted.items()):
            self._left -= 1
            if self._left == 0 and not self.found.done():
                self.found.set_result(entry)


class Hub:
    """All QEMUs of this process, and the log of what their clients did."""

    def __init__(self, thrifty: bool) -> None:
        self.thrifty = thrifty
        """A monitor with a client does not listen: half the file descriptors, but no backlog."""
        self.machines: list[Machine] = []
        self.monitors: list[list[Monitor]] = []
        """Of each machine."""
        self.log: list[Message] = []
        self._waiters: list[Waiter] = []
        self._moving: set[Machine] = set()
        self._ticker: asyncio.Task[None] | None = None

    def add(self, profile: Profile, length: int, paths: list[str]) -> Machine:
        """One more QEMU, with a monitor at each path."""
        monitors: list[Monitor] = []

        def broadcast(message: Message) -> None:
            for monitor in monitors:
                monitor.send_event(message)

        machine = Machine(len(self.machines), profile, length, broadcast, self._moves)
        self.machines.append(machine)
        self.monitors.append(monitors)
        for index, path in enumerate(paths):
            monitors.append(Monitor(self, machine, index, path))
        return machine

    def note(self, monitor: Monitor, what: str, **fields: Any) -> None:
        """Logs what a client did, and wakes those who wait for it."""
        entry = {"what": what, "qemu": monitor.machine.index, "monitor": monitor.index}
        entry = {"time": time.time()} | entry | fields
        self.log.append(entry)
        for waiter in list(self._waiters):
            waiter.see(entry)

    async def wait(self, wanted: Message, count: int, seconds: float) -> Message:
        """The count-th entry of the log that has these fields, as soon as there is one."""
        waiter = Waiter(wanted, count)
        for entry in self.log:
            waiter.see(entry)
        self._waiters.append(waiter)
        try:
            return await asyncio.wait_for(waiter.found, seconds)
        finally:
            self._waiters.remove(waiter)

    def _moves(self, machine: Machine) -> None:
        """The machine has a job that moves by itself."""
        self._moving.add(machine)
        if self._ticker is None:
            self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(_TICK)
            # With many to move it can take longer.
            now = loop.time()
            self._moving = {m for m in list(self._moving) if m.tick(now - before)}
            before = now

    def end_machine(self, machine: Machine) -> None:
        """QEMU has quit."""
        machine.running = False
        for monitor in self.monitors[machine.index]:
            monitor.end()

    def kill_machine(self, machine: Machine) -> None:
        """QEMU is gone, at once; its socket files stay."""
        machine.running = False
        for monitor in self.monitors[machine.index]:
            monitor.end()
            monitor.hang_up()

    def start_machine(self, machine: Machine) -> None:
        """Another QEMU listens where the one that is gone did."""
        machine.running = True
        for monitor in self.monitors[machine.index]:
            monitor.start()

    def close(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        for machine in self.machines:
            self.kill_machine(machine)
            for monitor in self.monitors[machine.index]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(monitor.path)
