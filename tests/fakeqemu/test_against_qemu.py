# SPDX-License-Identifier: MIT
# The same scripts against the installed QEMU and against fakeqemu: what comes back must have the
# same shape. Only then do the tests that use fakeqemu say anything about QEMU.
"""Comparison with the real QEMU."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from commands import features_of
from control import FakeQemu
from profiles import PROFILES
from qmpclient import Client, Message

pytestmark = pytest.mark.qemu

MIB = 1 << 20
# Its options for a monitor on the channel `m`.
SERVERS = {
    "qemu-storage-daemon": ["--monitor", "chardev=m"],
    "qemu-system-x86_64": [
        *("-machine", "none", "-nodefaults", "-display", "none", "-S"),
        *("-mon", "chardev=m,mode=control"),
    ],
}
LAYERS = ("base", "mid", "top")
# Values that mean something; of all others only the type is compared.
TELLING = {"action", "class", "device", "event", "id", "io-status", "operation", "reason"} | {
    "guest",
    "status",
    "type",
}


@dataclass
class Step:
    """One command, and what fakeqemu is told once it has replied."""

    command: str
    arguments: dict[str, Any] = field(default_factory=dict)
    until: str = ""
    """The last thing that follows: an event, or `~status`; ` of ` a job, if there are several."""
    racy: bool = False
    """The reply can come at any place among the events."""
    fake: tuple[dict[str, Any], ...] = ()


def ask(command: str, until: str = "", racy: bool = False, **arguments: Any) -> Step:
    return Step(command, {k.replace("_", "-"): v for k, v in arguments.items()}, until, racy)


def go(until: str, **fake: Any) -> Step:
    """The job is let go: by its speed, or by the step for fakeqemu."""
    speed = {"device": "j", "speed": 0}
    return Step("block-job-set-speed", speed, until, racy=True, fake=(fake,))


def start(command: str, **arguments: Any) -> Step:
    # A speed of 1 stops a job after its first piece.
    return ask(command, job_id="j", **({"speed": 1} | arguments))


# Fast enough to notice soon that it shall pause, slow enough not to be over before.
MIRROR_SLOW = start("blockdev-mirror", device="disk", target="copy", sync="full", speed=8 * MIB)
MIRROR = start("blockdev-mirror", device="disk", target="copy", sync="full")
READY = go("BLOCK_JOB_READY", do="ready")
ROWS = [ask("query-block-jobs"), ask("query-jobs")]
CANCEL = ask("block-job-cancel", "~null", racy=True, device="j")
FORCE = ask("block-job-cancel", "~null", racy=True, device="j", force=True)
COMPLETE = ask("block-job-complete", "~null", racy=True, device="j")
PAUSE = ask("block-job-pause", "~paused", racy=True, device="j")
STANDBY = ask("job-pause", "~standby", racy=True, id="j")
FINISH = go("~null", do="finish")
BACKUP = start("blockdev-backup", device="disk", target="copy", sync="full")
STREAM = start("block-stream", device="top")
COMMIT = start("block-commit", device="top")
COMMIT_MID = start("block-commit", device="top", top_node="mid", base_node="base")
OTHER = Step(
    "blockdev-mirror",
    {"job-id": "k", "device": "disk2", "target": "copy2", "sync": "full", "speed": 1},
)
OTHER_BACKUP = Step("blockdev-backup", OTHER.arguments)
# Unthrottled, as a throttled job fails only when it wakes up.
BROKEN = {"job-id": "j", "device": "top", "target": "broken", "sync": "full"}
KEPT = {"auto_dismiss": False}
UNFINAL = {"auto_finalize": False}


def mirror(**arguments: Any) -> Step:
    return start("blockdev-mirror", device="disk", target="copy", sync="full", **arguments)


def backup(**arguments: Any) -> Step:
    return start("blockdev-backup", device="disk", target="copy", sync="full", **arguments)


def action(job: str, number: str = "", target: str = "", **more: Any) -> dict[str, Any]:
    """A backup as a part of a transaction, stopped after its first piece."""
    disks = {"device": f"disk{number}", "target": target or f"copy{number}"}
    data = {"job-id": job, "sync": "full", "speed": 1} | disks
    data |= {key.replace("_", "-"): value for key, value in more.items()}
    return {"type": "blockdev-backup", "data": data}


def together(
    *actions: dict[str, Any],
    mode: str = "grouped",
    until: str = "",
    fake: tuple[dict[str, Any], ...] = (),
) -> Step:
    arguments = {"actions": list(actions), "properties": {"completion-mode": mode}}
    return Step("transaction", arguments, until, racy=bool(until), fake=fake)


def done(job: str, until: str) -> Step:
    """One of several jobs gets to the end of its work."""
    speed = {"device": job, "speed": 0}
    fake = ({"do": "finish", "job": job},)
    return Step("block-job-set-speed", speed, until, racy=True, fake=fake)


def cancel(job: str, until: str) -> Step:
    return ask("block-job-cancel", until, racy=True, device=job)


def unknown(prefix: str, key: str) -> list[Step]:
    """Every verb, of a job that isn't there."""
    return [
        *(
            Step(f"{prefix}-{verb}", {key: "no"})
            for verb in ("pause", "resume", "complete", "cancel")
        ),
        *(Step(f"{prefix}-{verb}", {"id": "no"}) for verb in ("finalize", "dismiss")),
    ]


def change(job: str, kind: str, mode: str = "") -> Step:
    arguments = {"id": job, "type": kind}
    return Step("block-job-change", arguments | ({"copy-mode": mode} if mode else {}))


TWO = together(action("j"), action("k", "2"))

SCRIPTS: dict[str, list[Step]] = {
    "mirror, pivot": [MIRROR, *ROWS, READY, *ROWS, COMPLETE, *ROWS],
    "mirror, job-complete": [MIRROR, READY, ask("job-complete", "~null", racy=True, id="j")],
    "mirror, soft cancel when ready": [MIRROR, READY, CANCEL, *ROWS],
    "mirror, force when ready": [MIRROR, READY, FORCE],
    "mirror, job-cancel when ready": [MIRROR, READY, ask("job-cancel", "~null", True, id="j")],
    "mirror, cancel before ready": [MIRROR, CANCEL, *ROWS],
    "mirror, force before ready": [MIRROR, FORCE],
    "mirror, complete before ready": [
        MIRROR,
        ask("block-job-complete", device="j"),
        ask("job-complete", id="j"),
        CANCEL,
    ],
    "mirror, paused": [
        MIRROR_SLOW,
        PAUSE,
        *ROWS,
        ask("block-job-pause", device="j"),
        ask("block-job-cancel", device="j"),
        ask("block-job-resume", "~running", racy=True, device="j"),
        ask("block-job-resume", device="j"),
        READY,
    ],
    "mirror, completed in standby": [
        MIRROR,
        READY,
        STANDBY,
        *ROWS,
        ask("block-job-complete", device="j"),
        ask("block-job-cancel", device="j"),
        ask("job-resume", "~null", racy=True, id="j"),
    ],
    "mirror, forced while paused": [MIRROR_SLOW, PAUSE, FORCE],
    "mirror, forced in standby": [MIRROR, READY, STANDBY, FORCE],
    "mirror, fails": [
        Step(
            "blockdev-mirror",
            BROKEN,
            "~null",
            racy=True,
            fake=(
                {"do": "io-error", "nospace": True},
                {"do": "fail", "error": "No space left on device"},
            ),
        )
    ],
    "mirror, stalls": [
        Step(
            "blockdev-mirror",
            BROKEN | {"on-target-error": "stop"},
            "~paused",
            racy=True,
            fake=({"do": "io-error", "action": "stop", "nospace": True},),
        ),
        *ROWS,
        FORCE,
    ],
    "mirror, kept": [
        mirror(**KEPT),
        READY,
        ask("block-job-complete", "~concluded", True, device="j"),
        *ROWS,
        ask("block-job-dismiss", id="j"),
        *ROWS,
    ],
    "mirror, cancelled and kept": [
        mirror(**KEPT),
        ask("block-job-cancel", "~concluded", True, device="j"),
        *ROWS,
        ask("job-dismiss", id="j"),
    ],
    "mirror, finalized": [
        mirror(**KEPT, **UNFINAL),
        READY,
        ask("block-job-complete", "BLOCK_JOB_PENDING", True, device="j"),
        *ROWS,
        ask("block-job-complete", device="j"),
        ask("block-job-finalize", id="j"),
        *ROWS,
        ask("job-dismiss", id="j"),
    ],
    "mirror, cancelled when pending": [
        mirror(**UNFINAL),
        READY,
        ask("block-job-complete", "BLOCK_JOB_PENDING", True, device="j"),
        ask("block-job-cancel", device="j"),
    ],
    "backup": [BACKUP, *ROWS, FINISH],
    "backup, cancelled": [BACKUP, CANCEL],
    "backup, finalized": [
        backup(**UNFINAL),
        go("BLOCK_JOB_PENDING", do="finish"),
        *ROWS,
        ask("job-finalize", id="j"),
    ],
    "stream": [STREAM, *ROWS, FINISH],
    "stream, cancelled": [STREAM, ask("block-job-complete", device="j"), CANCEL],
    "commit of the active layer, pivot": [COMMIT, *ROWS, READY, COMPLETE],
    "commit of the active layer, soft cancel": [COMMIT, READY, CANCEL],
    "commit of an inner layer": [COMMIT_MID, *ROWS, FINISH],
    "commit of an inner layer, cancelled": [COMMIT_MID, CANCEL],
    "two jobs, each seen while the other changes": [
        MIRROR,
        READY,
        OTHER,
        ask("block-job-cancel", "~null", racy=True, device="k"),
        ask("query-jobs"),
        OTHER,
        COMPLETE,
        ask("query-jobs"),
    ],
    "a backup beside a mirror": [
        *(MIRROR, READY, OTHER_BACKUP, cancel("k", "~null of k"), ask("query-jobs")),
    ],
    "transaction, both done": [
        *(TWO, *ROWS, done("j", "~waiting of j"), *ROWS),
        *(done("k", "~null of j"), *ROWS),
    ],
    "transaction, the newer is done first": [
        *(TWO, done("k", "~waiting of k"), done("j", "~null of j")),
    ],
    "transaction, one cancelled": [TWO, cancel("j", "~null of j"), *ROWS],
    "transaction, one cancelled while the other waits": [
        *(TWO, done("j", "~waiting of j"), cancel("k", "~null of j")),
    ],
    "transaction, the waiting one cancelled": [
        *(TWO, done("j", "~waiting of j"), cancel("j", "~null of j")),
    ],
    "transaction, one fails": [
        together(
            action("j", target="broken", speed=0),
            action("k", "2"),
            until="~null of j",
            fake=(
                {"do": "io-error", "job": "j", "nospace": True},
                {"do": "fail", "job": "j", "error": "No space left on device"},
            ),
        ),
    ],
    "transaction, each for itself": [
        together(action("j"), action("k", "2"), mode="individual"),
        cancel("j", "~null of j"),
        done("k", "~null of k"),
    ],
    "transaction, finalized": [
        together(action("j", auto_finalize=False), action("k", "2")),
        done("j", "~waiting of j"),
        done("k", "BLOCK_JOB_PENDING"),
        *ROWS,
        ask("job-finalize", id="j"),
        *ROWS,
    ],
    "transaction, cancelled when pending": [
        together(action("j", auto_finalize=False), action("k", "2", auto_finalize=False)),
        done("j", "~waiting of j"),
        done("k", "BLOCK_JOB_PENDING of j"),
        ask("job-cancel", "~null of j", racy=True, id="k"),
    ],
    "transaction, refused": [
        together(action("j"), action("k", "2", "missing")),
        together(action("j"), action("j", "2")),
        together(action("j"), {"type": "abort", "data": {}}, mode="individual"),
        together({"type": "odd", "data": {}}),
        together(),
        together(mode="odd"),
        ask("transaction"),
        *ROWS,
    ],
    "no disk, fails": [
        Step(
            "blockdev-create",
            {"job-id": "j", "options": {"driver": "file", "filename": "/no/such", "size": MIB}},
            "~concluded",
            racy=True,
            fake=({"do": "fail", "error": "No such file or directory"},),
        ),
        *ROWS,
        ask("block-job-cancel", device="j"),
        ask("job-cancel", id="j"),
        ask("job-dismiss", id="j"),
        *ROWS,
    ],
    "changed": [
        MIRROR,
        change("j", "mirror", "background"),
        *ROWS,
        change("j", "mirror", "write-blocking"),
        READY,
        *ROWS,
        change("j", "mirror", "background"),
        change("j", "backup"),
        change("no", "mirror", "background"),
        change("j", "mirror", "odd"),
        change("j", "mirror"),
        CANCEL,
    ],
    "no such job": [*unknown("block-job", "device"), *unknown("job", "id")],
    "refused starts": [
        ask("blockdev-mirror", device="missing", target="copy", sync="full", job_id="j"),
        ask("blockdev-mirror", device="disk", target="missing", sync="full", job_id="j"),
        ask("blockdev-mirror", device="disk", target="copy", sync="full"),
        ask("blockdev-mirror", device="disk", sync="full", job_id="j"),
        ask("blockdev-mirror", device="disk", sync="full", target=5, job_id="j"),
        ask("blockdev-mirror", device="disk", target="copy", sync="full", job_id="9 j"),
        ask("blockdev-mirror", device="disk", target="copy", sync="full", job_id="j", speed=-1),
        ask("blockdev-backup", device="disk", target="copy", sync="full", job_id="j", speed=-1),
        ask("block-commit", device="missing", job_id="j"),
        ask("block-stream", device="missing", job_id="j"),
        ask("blockdev-mirror", device="disk", target="copy", sync="full", job_id="j", odd=1),
        ask("no-such-command"),
        ask("qmp_capabilities"),
        ask("query-version"),
    ],
}


def shape(value: Any, key: str = "") -> Any:
    """What is compared of a value: keys, truths, telling words; of the rest the type."""
    if isinstance(value, dict):
        ignored = ("busy", "desc", "timestamp")
        return {k: shape(v, k) for k, v in sorted(value.items()) if k not in ignored}
    if isinstance(value, list):
        return [shape(item, key) for item in value]
    return value if isinstance(value, bool) or key in TELLING else type(value).__name__


def line(message: Message) -> str:
    """The shape of a message in a line, so that a difference can be read."""
    if message.get("event") == "JOB_STATUS_CHANGE" and sorted(message["data"]) == ["id", "status"]:
        return f"~{message['data']['status']} of {message['data']['id']}"
    return json.dumps(shape(message))


# Before, a complete in standby is refused.
SINCE = {"mirror, completed in standby": (6, 0), "changed": (8, 2)}

QUITS: dict[str, list[Step]] = {
    "running": [MIRROR],
    "ready": [MIRROR, READY],
    "paused": [MIRROR_SLOW, PAUSE],
    "pending": [backup(**UNFINAL), go("BLOCK_JOB_PENDING", do="finish")],
    "concluded": [backup(**KEPT), go("~concluded", do="finish")],
    "kept": [backup(**KEPT)],
}


def is_last(message: Message, until: str) -> bool:
    data = message.get("data", {})
    names = (message.get("event"), f"~{data.get('status', '')}")
    return until in (*names, *(f"{name} of {data.get('id')}" for name in names))


def play(client: Client, steps: list[Step], fake: FakeQemu | None) -> list[str]:
    """What was said, and what came back."""
    played: list[str] = []
    for step in steps:
        client.send(step.command, **step.arguments)
        messages: list[Message] = []
        told = fake is None
        while True:
            replied = any("event" not in message for message in messages)
            if replied and not told and fake is not None:
                told = True
                for control in step.fake:
                    fake.do(**{"verb" if k == "do" else k: v for k, v in control.items()})
            if replied and (not step.until or any(is_last(m, step.until) for m in messages)):
                break
            messages.append(client.read())
        if step.racy:
            messages.sort(key=lambda message: "event" in message)
        played.append(f"> {step.command}")
        for text in map(line, messages):
            # Several requests in flight fail each for itself, at any time.
            if "BLOCK_JOB_ERROR" not in text or text not in played:
                played.append(text)
    return played


def rest(client: Client) -> list[str]:
    """What comes until the end of the stream."""
    lines = []
    with contextlib.suppress(EOFError, ConnectionResetError):
        while True:
            lines.append(line(client.read()))
    return lines


@pytest.fixture(scope="module")
def images() -> Iterator[Path]:
    """base <- mid <- top, with data in each."""
    if not (shutil.which("qemu-img") and shutil.which("qemu-io")):
        pytest.skip("qemu-img or qemu-io is not installed: nothing to compare with")
    with tempfile.TemporaryDirectory(prefix="images-") as directory:
        for name, written in zip(LAYERS, ("0 4M", "8M 4M", "32M 24M"), strict=True):
            path = f"{directory}/{name}"
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
            subprocess.run(["qemu-io", "-c", f"write -q {written}", path], check=True)
        yield Path(directory)


@pytest.fixture
def chain(images: Path) -> Iterator[list[str]]:
    """A copy of the images that a test may change, as options of --blockdev."""
    with tempfile.TemporaryDirectory(prefix="chain-") as directory:
        shutil.copytree(images, directory, dirs_exist_ok=True)
        options = []
        for name, below in zip(LAYERS, (None, *LAYERS), strict=False):
            backing = f",backing={below}" if below else ""
            file = f"file.driver=file,file.filename={directory}/{name}"
            options.append(f"qcow2,node-name={name},{file}{backing}")
        yield options


@pytest.fixture(params=SERVERS)
def real(request: pytest.FixtureRequest, chain: list[str], tmp_path: Path) -> Iterator[Client]:
    """A client of the real QEMU, with the nodes that the scripts name."""
    program: str = request.param
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed: nothing to compare with")
    null = f"null-co,size={64 * MIB},node-name"
    inject = "inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno=28"
    nodes = [*(f"{null}={name}" for name in ("disk", "copy", "disk2", "copy2", "under")), *chain]
    nodes.append(f"blkdebug,node-name=broken,image=under,{inject}")
    with socket.socket(socket.AF_UNIX) as listener:
        # QEMU gets a socket that listens already, so that there is nothing to wait for.
        path = str(tmp_path / "qmp")
        listener.bind(path)
        listener.listen(1)
        channel = f"socket,id=m,fd={listener.fileno()},server=on,wait=off"
        command = [program, "--chardev", channel, *SERVERS[program]]
        for node in nodes:
            command += ["--blockdev", node]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()])
    try:
        with Client(path) as client:
            yield client
    finally:
        process.kill()
        process.wait()


def profile_of(client: Client) -> str:
    version = client.ask("query-version")[-1]["return"]["qemu"]
    name = f"{version['major']}.{version['minor']}"
    if name not in PROFILES:
        pytest.skip(f"fakeqemu has no profile for the installed QEMU {name}")
    return name


@pytest.mark.parametrize("name", SCRIPTS)
def test_same_shapes(name: str, real: Client) -> None:
    profile = profile_of(real)
    if PROFILES[profile].version < SINCE.get(name, ()):
        pytest.skip(f"QEMU {profile} can't play this")
    with FakeQemu(profile=profile) as fake, Client(fake.path) as client:
        assert play(client, SCRIPTS[name], fake) == play(real, SCRIPTS[name], None)


@pytest.mark.parametrize("name", QUITS)
@pytest.mark.parametrize("real", ["qemu-system-x86_64"], indirect=True)
def test_same_end(name: str, real: Client) -> None:
    """quit, with a job in this state; the storage daemon alone sends no SHUTDOWN."""
    steps = [*QUITS[name], ask("quit")]
    with FakeQemu(profile=profile_of(real)) as fake, Client(fake.path) as client:
        assert play(client, steps, fake) == play(real, steps, None)
        assert rest(client) == rest(real)


def test_greeting_and_bad_input(real: Client) -> None:
    """What precedes negotiation, and input that is no command."""
    bad = ["{bad}", "[1]", '{"a": 1}', '{"execute": 5}', '{"execute": "quit", "a": 1}']
    bad += ['{"execute": "query-jobs", "arguments": 1}', '{"execute": "x", "id": {"a": [null]}}']

    def answers(client: Client) -> list[Any]:
        found = []
        for line in bad:
            client.socket.sendall(line.encode() + b"\n")
            found.append(shape(client.read()))
        return found

    with FakeQemu(profile=profile_of(real)) as fake, Client(fake.path) as client:
        assert shape(client.greeting) == shape(real.greeting)
        assert answers(client) == answers(real)


def test_same_graph(real: Client) -> None:
    """Where a job stands among the nodes, which tells whose disk a pivot switches."""

    def job_edges(client: Client) -> dict[str, str]:
        play(client, [MIRROR], None)
        graph = client.ask("x-debug-query-block-graph")[-1]["return"]
        nodes = {node["id"]: node for node in graph["nodes"]}
        (job,) = (node["id"] for node in graph["nodes"] if node["type"] == "block-job")
        edges = [edge for edge in graph["edges"] if edge["parent"] == job]
        found = {edge["name"]: nodes[edge["child"]]["name"] for edge in edges}
        assert found.pop("main node").startswith("#")
        return found

    with FakeQemu(profile=profile_of(real)) as fake, Client(fake.path) as client:
        assert job_edges(client) == job_edges(real)


def test_profile_is_a_part_of_the_schema(real: Client) -> None:
    """Every command, argument and event of the profile is one of QEMU's, required where it is."""
    profile = PROFILES[profile_of(real)]
    schema = {entry["name"]: entry for entry in real.ask("query-qmp-schema")[-1]["return"]}
    for name, arguments in profile.commands.items():
        if name not in schema:
            # The storage daemon has no machine, and so no guest's disks.
            assert name in ("query-block", "query-status", "drive-mirror", "drive-backup"), name
            continue
        if name == "block-job-change":
            continue  # its arguments depend on the type of the job
        members = {m["name"]: m for m in schema[schema[name]["arg-type"]]["members"]}
        assert arguments == {key: "default" not in members[key] for key in arguments}, name
        assert schema[name].get("features", []) == features_of(name, profile.version), name
        unknown = set(members) - set(arguments)
        assert not unknown or name.startswith("x-"), f"{name} lacks {unknown}"
    for name in profile.events:
        assert name in schema or "qemu-system" not in str(schema)
