# SPDX-License-Identifier: MIT
# The language of --control and of script files: one JSON object per step, `do` names the verb.
# docs/fakeqemu.md lists the verbs.
"""Steps: what a test can make a fake QEMU do."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from errors import QmpError, StepError
from faults import Rule
from graphs import bounce
from jobs import Job
from machine import Later, Machine
from motion import Pace
from profiles import PROFILES

if TYPE_CHECKING:
    from server import Hub, Monitor

Step = dict[str, Any]

_WHATS = ("accepting", "reading", "writing")
_WAIT_SECONDS = 30.0

LINE_BYTES = 1 << 26
"""The longest step."""


def run(hub: Hub, step: Step) -> Step:
    """Does one step and returns its answer. Raises StepError."""
    verb = step.get("do")
    for table in (_OF_HUB, _OF_MACHINE, _OF_MONITOR, _OF_JOB):
        if verb in table:
            break
    else:
        raise StepError(f"unknown verb {verb!r}")
    try:
        if verb in _OF_HUB:
            return _OF_HUB[verb](hub, step) or {}
        answer: Step = {}
        for machine in _machines(hub, step):
            answer = _on_machine(hub, machine, str(verb), step) or answer
        return answer
    except KeyError as missing:
        raise StepError(f"{verb} needs {missing}") from None


async def answer(hub: Hub, line: bytes) -> bytes:
    """Does the step of a line, and returns the line that answers it, with its `number` if any."""
    reply: Step
    number: Step = {}
    try:
        step = json.loads(line)
        if not isinstance(step, dict):
            raise StepError("a step is a JSON object")
        if "number" in step:
            number = {"number": step.pop("number")}
        done = await _wait(hub, step) if step.get("do") == "wait" else run(hub, step)
        reply = {"ok": True} | done
    except (StepError, QmpError, ValueError, TypeError, RecursionError) as error:
        reply = {"ok": False, "error": str(error)}
    return json.dumps(number | reply).encode() + b"\n"


async def serve(hub: Hub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One client of the control socket: an answer line for each line, in order."""
    async for line in reader:
        writer.write(await answer(hub, line))
        await writer.drain()
    writer.close()


async def serve_standard_input(hub: Hub) -> None:
    """The same on standard input and output, until the end of the input, which ends a wait."""
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    reading = asyncio.ensure_future(reader.readline())
    while line := await reading:
        reading = asyncio.ensure_future(reader.readline())
        answering = asyncio.ensure_future(answer(hub, line))
        await asyncio.wait((answering, reading), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done() and reading.done() and not reading.result():
            answering.cancel()
            return
        sys.stdout.buffer.write(await answering)
        sys.stdout.flush()


async def _wait(hub: Hub, step: Step) -> Step:
    fields = dict(step)
    fields.pop("do")
    count = fields.pop("count", 1)
    seconds = fields.pop("timeout", _WAIT_SECONDS)
    if "what" not in fields:
        fields["what"] = "command"
    try:
        return {"entry": await hub.wait(fields, count, seconds)}
    except asyncio.TimeoutError:
        raise StepError(f"waited {seconds} s for {fields}") from None


def _machines(hub: Hub, step: Step) -> list[Machine]:
    wanted = step.get("qemu", 0)
    if wanted == "all":
        return hub.machines
    if not isinstance(wanted, int) or not 0 <= wanted < len(hub.machines):
        raise StepError(f"no qemu {wanted!r}; there are {len(hub.machines)}")
    return [hub.machines[wanted]]


def _on_machine(hub: Hub, machine: Machine, verb: str, step: Step) -> Step | None:
    if verb in _OF_JOB:
        job = machine.job(step.get("job"))
        _OF_JOB[verb](job, step)
        machine.sweep()
        return None
    if verb in _OF_MONITOR:
        monitors = hub.monitors[machine.index]
        for monitor in [monitors[step["monitor"]]] if "monitor" in step else monitors:
            _OF_MONITOR[verb](monitor, step)
            monitor.apply()
        return None
    answer = _OF_MACHINE[verb](machine, step)
    if verb == "die":
        hub.kill_machine(machine)
    elif verb == "start":
        hub.start_machine(machine)
    elif machine.quitting:
        hub.end_machine(machine)
    return answer


# Jobs


def _progress(job: Job, step: Step) -> None:
    job.progress(step["offset"], step.get("len"))


def _fail(job: Job, step: Step) -> None:
    job.fail(step.get("error", "Input/output error"))


def _io_error(job: Job, step: Step) -> None:
    action = step.get("action", "report")
    job.io_error(action, step.get("operation", "write"), step.get("nospace", False))


def _hold_end(job: Job, step: Step) -> None:
    job.held = True


def _hold_pause(job: Job, step: Step) -> None:
    job.pause_held = True


_OF_JOB: dict[Any, Callable[[Job, Step], None]] = {
    "progress": _progress,
    "ready": lambda job, step: job.ready(),
    "io-error": _io_error,
    "hold-end": _hold_end,
    "dirty": lambda job, step: job.dirtied(step["bytes"]),
    "hold-pause": _hold_pause,
    "pause-now": lambda job, step: job.pause_now(),
    "settle": lambda job, step: job.settle(),
    "finish": lambda job, step: job.finish(),
    "fail": _fail,
}


# A QEMU


def _emit(machine: Machine, step: Step) -> None:
    machine.emit_any(step["event"], step.get("data"))


def _huge(machine: Machine, step: Step) -> None:
    machine.emit_any("HUGE", {"padding": "x" * step["bytes"]})


def _tokens(machine: Machine, step: Step) -> None:
    machine.emit_any("TOKENS", {"list": [0] * step["count"]})


def _execute(machine: Machine, step: Step) -> Step:
    try:
        result = machine.execute(step["command"], step.get("arguments", {}))
    except Later:
        result = {}  # its client waits; we don't
    machine.settle()
    return {"return": result}


def _bounce(machine: Machine, step: Step) -> None:
    bounce([machine.job(step.get("job"))], step.get("times", 1))


def _move(machine: Machine, step: Step) -> None:
    pace = Pace(step.get("rate", 0), step.get("dirty", 0), step.get("flush", 0.0))
    machine.move(machine.job(step.get("job")), pace)


def _graph_change(machine: Machine, step: Step) -> None:
    bounce(list(machine.busy()), step.get("times", 1))


def _size(machine: Machine, step: Step) -> None:
    machine.length = step["bytes"]


def _vanish(machine: Machine, step: Step) -> None:
    del machine.jobs[machine.job(step.get("job")).id]


def _hold_ends(machine: Machine, step: Step) -> None:
    machine.hold_ends = step.get("on", True)


def _release(machine: Machine, step: Step) -> Step:
    command = step.get("command")
    ripe = [held for held in machine.held if command in (None, held[0])]
    for held in ripe:
        machine.held.remove(held)
        held[1]()
    return {"released": len(ripe)}


def _start(machine: Machine, step: Step) -> None:
    jobs = step.get("jobs", "none")
    if machine.running:
        raise StepError("it runs: die, or quit, comes before start")
    if jobs not in ("keep", "none"):
        raise StepError("jobs is keep or none")
    if "profile" in step:
        machine.profile = PROFILES[step["profile"]]
    machine.restart(keep_jobs=jobs == "keep")


def _rule(machine: Machine, step: Step) -> None:
    machine.rules.append(Rule(step["do"], step["command"], step.get("count", 1), step))


def _late_replies(machine: Machine, step: Step) -> None:
    """Of lists: of both queries that a client may make of one."""
    lists = ("query-jobs", "query-block-jobs")
    commands = lists if step["do"] == "late-list" else (step.get("command", "*"),)
    if not isinstance(step["events"], int):
        raise StepError("events is a number")
    for command in commands:
        machine.rules.append(Rule("late-replies", command, step.get("count", 1), step))


def _out_of_order(machine: Machine, step: Step) -> None:
    count = step.get("count", 2)
    if count < 2:
        raise StepError("one reply has no order")
    machine.rules.append(Rule("out-of-order", step.get("command", "*"), count, step))


_OF_MACHINE: dict[Any, Callable[[Machine, Step], Step | None]] = {
    "execute": _execute,
    "emit": _emit,
    "huge": _huge,
    "tokens": _tokens,
    "bounce": _bounce,
    "vanish": _vanish,
    "move": _move,
    "size": _size,
    "graph-change": _graph_change,
    "terminate": lambda machine, step: machine.leave("host-signal"),
    "hold-ends": _hold_ends,
    "release": _release,
    "die": lambda machine, step: None,
    "start": _start,
    "late-list": _late_replies,
    "late-replies": _late_replies,
    "out-of-order": _out_of_order,
    **dict.fromkeys(
        ("hold", "late", "drop", "duplicate", "change-id", "answer", "order", "when"), _rule
    ),
}


# A monitor: the wire


def _raw(monitor: Monitor, step: Step) -> None:
    piece = bytes.fromhex(step["hex"]) if "hex" in step else step["text"].encode()
    monitor.send(piece * step.get("times", 1))


def _deep(monitor: Monitor, step: Step) -> None:
    # Deeper than our own JSON can go.
    nested = "[" * step["depth"] + "0" + "]" * step["depth"]
    stamp = '{"seconds": 1, "microseconds": 0}'
    event = f'{{"timestamp": {stamp}, "event": "DEEP", "data": {{"nested": {nested}}}}}\r\n'
    if monitor.negotiated:
        monitor.send(event.encode())


def _endless(monitor: Monitor, step: Step) -> None:
    monitor.faults.endless = step["text"].encode()


def _greeting(monitor: Monitor, step: Step) -> None:
    monitor.faults.greeting = step["send"]


def _split(monitor: Monitor, step: Step) -> None:
    monitor.faults.split = step["bytes"]


def _hang_up(monitor: Monitor, step: Step) -> None:
    monitor.faults.cut = step.get("after", 0)


def _whats(step: Step) -> set[str]:
    whats: set[str] = set(_WHATS) if step["what"] == "all" else {step["what"]}
    if not whats <= set(_WHATS):
        raise StepError(f"what is all or one of {', '.join(_WHATS)}")
    return whats


def _stop(monitor: Monitor, step: Step) -> None:
    monitor.faults.stopped |= _whats(step)


def _go(monitor: Monitor, step: Step) -> None:
    monitor.faults.stopped -= _whats(step)


_OF_MONITOR: dict[Any, Callable[[Monitor, Step], None]] = {
    "raw": _raw,
    "deep": _deep,
    "endless": _endless,
    "greeting": _greeting,
    "split": _split,
    "hang-up": _hang_up,
    "stop": _stop,
    "go": _go,
}


# The process


def _log(hub: Hub, step: Step) -> Step:
    log = list(hub.log)
    if step.get("clear", False):
        hub.log.clear()
    return {"log": log}


_OF_HUB: dict[Any, Callable[[Any, Step], Step | None]] = {
    "log": _log,
}
