# SPDX-License-Identifier: MIT
# What is said on one monitor: bytes of requests in, bytes of replies and events out. It knows no
# sockets.
"""The QMP protocol, as a server speaks it."""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from errors import QmpError, StepError
from faults import LateReply, Rule, take
from machine import Later, Machine

if TYPE_CHECKING:
    from jobs import Job

Message = dict[str, Any]

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_JSON = json.JSONDecoder()
_KEYS = {"execute", "arguments", "id"}


def encode(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\r\n"


def _incomplete(text: str) -> bool:
    """More bytes could still make this JSON."""
    bare = _STRING.sub("", text)
    return '"' in bare or sum(map(bare.count, "{[")) > sum(map(bare.count, "}]"))


class Host(Protocol):
    """Where a session lives."""

    def send(self, data: bytes) -> None:
        """To the client there is."""

    def hang_up(self) -> None: ...

    def machine_ends(self) -> None:
        """The QEMU has quit."""

    def run(self, step: Message) -> None:
        """Does a step that a rule holds."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> None: ...

    def note(self, what: str, **fields: Any) -> None:
        """Logs what the client did."""


class Session:
    """One monitor's talk with its clients, one after the other."""

    __slots__ = (
        "_client",
        "_host",
        "_replies",
        "_requests",
        "_text",
        "_utf8",
        "machine",
        "negotiated",
    )

    def __init__(self, host: Host, machine: Machine) -> None:
        self.machine = machine
        self._host = host
        self._client = 0
        self._replies: list[LateReply] = []
        self.begin()

    def begin(self) -> None:
        """Another client; what was meant for those before is lost."""
        self._client += 1
        for reply in self._replies:
            self._forget(reply)
        self._replies.clear()
        self._requests = 0
        self.negotiated = False
        self._text = ""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def greeting(self) -> bytes:
        version = self.machine.execute("query-version", {})
        capabilities = ["oob"] if self.machine.profile.oob else []
        return encode({"QMP": {"version": version, "capabilities": capabilities}})

    def send_event(self, message: Message) -> None:
        if not self.negotiated:
            return
        self._host.send(encode(message))
        for reply in self._replies:
            reply.events -= 1
        self._write_replies()

    def receive(self, data: bytes) -> None:
        client = self._client
        self._text += self._utf8.decode(data)
        while self._client == client and self.machine.running and (text := self._text.lstrip()):
            try:
                message, used = _JSON.raw_decode(text)
                self._text = text[used:]
            except (json.JSONDecodeError, RecursionError) as error:
                if _incomplete(text):
                    self._text = text
                    return
                _, _, self._text = text.partition("\n")
                self._host.note("garbage", text=text[:200])
                self._refuse(self.machine.profile.errors.bad_json(str(error)), {})
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
        errors = self.machine.profile.errors
        if request is not message:
            self._refuse(errors.not_an_object(), echo)
        elif unexpected:
            self._refuse(errors.unexpected_member(min(unexpected)), echo)
        elif name is None:
            self._refuse(errors.no_execute(), echo)
        elif not isinstance(name, str):
            self._refuse(errors.bad_member("execute", "string"), echo)
        elif not isinstance(arguments, dict):
            self._refuse(errors.bad_member("arguments", "object"), echo)
        else:
            self._on_command(name, arguments, echo, request)

    def _refuse(self, error: QmpError, echo: Message) -> None:
        self._queue(encode(_with_id(error.reply(), echo if error.has_id else {}, [])))

    def _on_command(self, name: str, arguments: Message, echo: Message, message: Message) -> None:
        try:
            self._do_command(name, arguments, echo, message)
        except StepError as error:
            # A script that asks for the impossible must not leave its test waiting.
            self._host.note("broken", error=str(error))
            print(f"fakeqemu: at {name}: {error}", file=sys.stderr, flush=True)
            self._host.hang_up()

    def _do_command(self, name: str, arguments: Message, echo: Message, message: Message) -> None:
        machine = self.machine
        rules = take(machine.rules, name)
        self._requests += 1
        self._host.note("command", command=name, message=message)
        job_id = arguments.get("job-id", arguments.get("id", arguments.get("device")))

        def steps(moment: str) -> None:
            for rule in rules:
                if rule.verb == "when" and rule.step["at"] == moment:
                    for step in rule.step["steps"]:
                        self._host.run({"qemu": machine.index, "job": job_id} | step)

        def has(verb: str, **fields: str) -> bool:
            wanted = fields.items()
            return any(rule.verb == verb and wanted <= rule.step.items() for rule in rules)

        client = self._client
        steps("received")
        if self._client != client:
            return  # died of it, before it did the command
        if has("order", events="after"):
            machine.capture()
        reply, later = self._answer(name, arguments, rules, echo)
        if has("order", events="before"):
            machine.settle()
        steps("done")
        if later is None:
            self._reply(name, _with_id(reply, echo, rules), rules)
        else:
            self._reply_later(later, name, echo, rules)
        machine.release()
        machine.settle()
        steps("replied")
        if machine.quitting:
            self._host.machine_ends()

    def _answer(
        self, name: str, arguments: Message, rules: list[Rule], echo: Message
    ) -> tuple[Message, Job | None]:
        """The reply; or the job whose end it waits for."""
        for rule in rules:
            if rule.verb == "answer":
                step = rule.step
                return {key: step[key] for key in ("return", "error") if key in step}, None
        try:
            return {"return": self._execute(name, arguments)}, None
        except Later as later:
            return {}, later.job
        except QmpError as error:
            if not error.has_id:
                echo.clear()
            return error.reply(), None

    def _execute(self, name: str, arguments: Message) -> Any:
        errors = self.machine.profile.errors
        if not self.negotiated and name != "qmp_capabilities":
            raise errors.not_negotiated(name)
        if name != "qmp_capabilities":
            return self.machine.execute(name, arguments)
        if self.negotiated:
            raise errors.negotiated()
        self.negotiated = True
        return {}

    def _reply_later(self, job: Job, name: str, echo: Message, rules: list[Rule]) -> None:
        client, requests = self._client, self._requests

        def reply() -> None:
            if self._client == client:
                # Whatever was asked meanwhile has taken the place where the id was kept.
                known = echo if self._requests == requests else {}
                self._reply(name, _with_id({"return": {}}, known, rules), rules)

        if job.status == "null":
            reply()  # it has ended at once
        else:
            job.replies_later.append(reply)

    def _reply(self, name: str, reply: Message, rules: list[Rule]) -> None:
        data = encode(reply)
        steps = {rule.verb: rule.step for rule in rules}
        if "duplicate" in steps:
            data += data
        client = self._client

        def send() -> None:
            # A client that comes later must not get what was meant for this one.
            if self._client == client:
                self._host.send(data)

        if "hold" in steps:
            self.machine.held.append((name, send))
            self._host.note("held", command=name)
        elif "late" in steps:
            self._host.call_later(steps["late"]["seconds"], send)
        elif "out-of-order" in steps:
            rule = next(rule for rule in rules if rule.verb == "out-of-order")
            self._keep_for_disorder(rule, name, send)
        elif "late-replies" in steps:
            self._queue_late(name, data, steps["late-replies"])
        elif "drop" not in steps:
            self._queue(data)

    def _keep_for_disorder(self, rule: Rule, name: str, send: Callable[[], None]) -> None:
        """The last of them comes first."""
        rule.kept.append((name, send))
        self.machine.held.append((name, send))
        self._host.note("held", command=name)
        if rule.count == 0:
            for held in reversed(rule.kept):
                if held in self.machine.held:  # else a step has released it
                    self.machine.held.remove(held)
                    held[1]()

    # Replies in the order of their commands, which one that is late delays.

    def _queue(self, data: bytes) -> None:
        self._replies.append(LateReply(data, 0))
        self._write_replies()

    def _queue_late(self, name: str, data: bytes, step: Message) -> None:
        reply = LateReply(data, step["events"])

        def write() -> None:
            reply.events = 0
            self._write_replies()

        reply.held = (name, write)
        self.machine.held.append(reply.held)
        self._replies.append(reply)
        if "seconds" in step:
            self._host.call_later(step["seconds"], write)
        self._host.note("late", command=name)
        self._write_replies()

    def _write_replies(self) -> None:
        while self._replies and self._replies[0].events <= 0:
            reply = self._replies.pop(0)
            self._forget(reply)
            self._host.send(reply.data)

    def _forget(self, reply: LateReply) -> None:
        if reply.held in self.machine.held:
            self.machine.held.remove(reply.held)


def _with_id(reply: Message, echo: Message, rules: list[Rule]) -> Message:
    for rule in rules:
        if rule.verb == "change-id":
            echo = {"id": rule.step["to"]} if "to" in rule.step else {}
    # The order of the keys is QEMU's.
    return echo | reply if "error" in reply else reply | echo
