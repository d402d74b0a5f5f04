# SPDX-License-Identifier: MIT
# The sockets of the QEMUs: who is connected, what is said on the wire, and the log of it all.
"""QMP monitors on unix sockets."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import os
import re
import socket
import sys
import time
from typing import Any

import script
from faults import Rule, Wire, WireFaults, take
from jobs import QmpError, StepError
from machine import Machine
from profiles import Profile

Message = dict[str, Any]

_BACKLOG = 1  # as QEMU's: further connects get EAGAIN
_TICK = 0.02
_GARBAGE = b"\x00\xff SSH-2.0-not_qmp }{]\r\n"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_JSON = json.JSONDecoder()
_KEYS = {"execute", "arguments", "id"}


def encode(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\r\n"


def _incomplete(text: str) -> bool:
    """More bytes could still make this JSON."""
    bare = _STRING.sub("", text)
    return '"' in bare or sum(map(bare.count, "{[")) > sum(map(bare.count, "}]"))


class Monitor:
    """One socket of one QEMU; a single client at a time, as QEMU has it."""

    __slots__ = (
        "_hub",
        "_listener",
        "_negotiated",
        "_over",
        "_text",
        "_utf8",
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
        self._wire: Wire | None = None
        self._negotiated = False
        self._text = ""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
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

    def send_event(self, message: Message) -> None:
        if self._negotiated:
            self.send(encode(message))

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
        self._negotiated = False
        self._text = ""
        self._utf8.reset()
        self._hub.note(self, "connect")
        self._wire = Wire(sock, self.faults, self._on_bytes, self._on_end)
        self._wire.send(self._greeting())

    def _on_end(self) -> None:
        self._wire = None
        self._negotiated = False
        self._hub.note(self, "disconnect")
        if not self._over:
            self._listen()

    def _greeting(self) -> bytes:
        profile = self.machine.profile
        version = self.machine.execute("query-version", {})
        capabilities = ["oob"] if profile.oob else []
        full = encode({"QMP": {"version": version, "capabilities": capabilities}})
        known = {"full": full, "never": b"", "half": full[: len(full) // 2], "garbage": _GARBAGE}
        return known.get(self.faults.greeting, self.faults.greeting.encode())

    def _on_bytes(self, data: bytes) -> None:
        self._text += self._utf8.decode(data)
        while self._wire is not None and (text := self._text.lstrip()):
            try:
                message, used = _JSON.raw_decode(text)
                self._text = text[used:]
            except (json.JSONDecodeError, RecursionError) as error:
                if _incomplete(text):
                    self._text = text
                    return
                _, _, self._text = text.partition("\n")
                self._hub.note(self, "garbage", text=text[:200])
                self._refuse(QmpError(f"JSON parse error, {error}"), {})
                continue
            self._on_message(message)
        self._text = self._text.lstrip()

    def _on_message(self, message: Any) -> None:
        request = message if isinstance(message, dict) else {}
        keys = _KEYS | ({"exec-oob"} if self.machine.profile.oob else set())
        echo = {"id": request["id"]} if "id" in request else {}
        unexpected = set(request) - keys
        name = request.get("execute", request.get("exec-oob"))
        arguments = request.get("arguments", {})
        if not isinstance(message, dict):
            problem = "QMP input must be a JSON object"
        elif unexpected:
            problem = f"QMP input member '{min(unexpected)}' is unexpected"
        elif not isinstance(name, str):
            problem = "QMP input lacks member 'execute'"
        elif not isinstance(arguments, dict):
            problem = "QMP input member 'arguments' must be an object"
        elif "exec-oob" in request:
            problem = f"The command {name} does not support OOB"
        else:
            self._on_command(name, arguments, echo, message)
            return
        self._hub.note(self, "garbage", message=message)
        self._refuse(QmpError(problem), echo)

    def _refuse(self, error: QmpError, echo: Message) -> None:
        self.send(encode(echo | _error(error)))

    def _on_command(self, name: str, arguments: Message, echo: Message, message: Message) -> None:
        try:
            self._do_command(name, arguments, echo, message)
        except StepError as error:
            # A script that asks for the impossible must not leave its test waiting.
            self._hub.note(self, "broken", error=str(error))
            print(f"fakeqemu: at {name}: {error}", file=sys.stderr, flush=True)
            self.hang_up()

    def _do_command(self, name: str, arguments: Message, echo: Message, message: Message) -> None:
        machine = self.machine
        rules = take(machine.rules, name)
        self._hub.note(self, "command", command=name, message=message)
        job_id = arguments.get("job-id", arguments.get("id", arguments.get("device")))

        def steps(moment: str) -> None:
            for rule in rules:
                if rule.verb == "when" and rule.step["at"] == moment:
                    for step in rule.step["steps"]:
                        script.run(self._hub, {"qemu": machine.index, "job": job_id} | step)

        def has(verb: str, **fields: str) -> bool:
            wanted = fields.items()
            return any(rule.verb == verb and wanted <= rule.step.items() for rule in rules)

        client = self._wire
        steps("received")
        if self._wire is not client:
            return  # died of it, before it did the command
        if has("order", events="after"):
            machine.capture()
        reply = self._answer(name, arguments, rules)
        if has("order", events="before"):
            machine.settle()
        steps("done")
        self._reply(name, _with_id(reply, echo, rules), rules)
        machine.release()
        machine.settle()
        steps("replied")
        if machine.quitting:
            self._hub.end_machine(machine)

    def _answer(self, name: str, arguments: Message, rules: list[Rule]) -> Message:
        for rule in rules:
            if rule.verb == "answer":
                return {key: rule.step[key] for key in ("return", "error") if key in rule.step}
        try:
            return {"return": self._execute(name, arguments)}
        except QmpError as error:
            return _error(error)

    def _execute(self, name: str, arguments: Message) -> Any:
        if self._negotiated == (name == "qmp_capabilities"):
            desc = (
                "Capabilities negotiation is already complete, command ignored"
                if self._negotiated
                else "Expecting capabilities negotiation with 'qmp_capabilities'"
            )
            raise QmpError(desc, "CommandNotFound")
        if name == "qmp_capabilities":
            self._negotiated = True
            return {}
        return self.machine.execute(name, arguments)

    def _reply(self, name: str, reply: Message, rules: list[Rule]) -> None:
        data = encode(reply)
        verbs = {rule.verb for rule in rules}
        if "duplicate" in verbs:
            data += data
        if "hold" in verbs:
            # A client that comes later must not get what was meant for this one.
            send = self._wire.send if self._wire is not None else self.send
            self.machine.held.append((name, lambda: send(data)))
            self._hub.note(self, "held", command=name)
        elif "drop" not in verbs:
            self.send(data)


def _error(error: QmpError) -> Message:
    return {"error": {"class": error.error_class, "desc": str(error)}}


def _with_id(reply: Message, echo: Message, rules: list[Rule]) -> Message:
    for rule in rules:
        if rule.verb == "change-id":
            echo = {"id": rule.step["to"]} if "to" in rule.step else {}
    # The order of the keys is QEMU's.
    return echo | reply if "error" in reply else reply | echo


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
        self._ticker: asyncio.Task[None] | None = None

    def add(self, profile: Profile, length: int, paths: list[str]) -> Machine:
        """One more QEMU, with a monitor at each path."""
        monitors: list[Monitor] = []

        def broadcast(message: Message) -> None:
            for monitor in monitors:
                monitor.send_event(message)

        machine = Machine(len(self.machines), profile, length, broadcast)
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

    def start_ticking(self) -> None:
        """Moves the jobs that have a rate."""
        self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            for machine in self.machines:
                machine.tick(_TICK)

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
