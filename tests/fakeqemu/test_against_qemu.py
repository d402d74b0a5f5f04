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
from pathlib import Path
from typing import Any

import pytest
from commands import features_of
from control import FakeQemu
from profiles import PROFILES
from qmpclient import Client, Message
from scenarios import MIB, MIRROR, QUITS, SCRIPTS, SINCE, Step, ask

pytestmark = pytest.mark.qemu

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
def real(request: pytest.FixtureRequest, chain: list[str]) -> Iterator[Client]:
    """A client of the real QEMU, with the nodes that the scripts name."""
    program: str = request.param
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed: nothing to compare with")
    null = f"null-co,size={64 * MIB},node-name"
    inject = "inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno=28"
    nodes = [*(f"{null}={name}" for name in ("disk", "copy", "disk2", "copy2", "under")), *chain]
    nodes.append(f"blkdebug,node-name=broken,image=under,{inject}")
    ours, theirs = socket.socketpair()
    with theirs:
        # Connected already: a QEMU that listens may hang over a client that comes very early, as
        # two of its threads accept it.
        channel = f"socket,id=m,fd={theirs.fileno()}"
        command = [program, "--chardev", channel, *SERVERS[program]]
        for node in nodes:
            command += ["--blockdev", node]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    try:
        with Client(ours) as client:
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
