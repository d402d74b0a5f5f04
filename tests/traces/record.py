#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Records transcripts of real QEMUs: scenarios that do to jobs what QEMU's own tests do to them.
"""record.py FOLDER [SCENARIO...]: runs the scenarios on the qemu-system-x86_64 and qemu-img of PATH
and writes FOLDER/VERSION/SCENARIO.jsonl."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

MIB = 1 << 20
# An event that this version does not send is not waited for long.
PATIENCE = 5.0


class Recorder:
    """A QEMU without a guest, one client at its monitor, and the transcript of what they say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.began = time.monotonic()
        self.lines: list[dict[str, Any]] = []
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._news = asyncio.Condition()
        self._count = 0
        self._over: asyncio.Event = asyncio.Event()

    # ------------------------------------------------------------------ transport

    async def start(self) -> None:
        words = "qemu-system-x86_64 -machine none -nodefaults -display none -S -qmp"
        socket = f"unix:{self.folder}/qmp,server=on,wait=off"
        self.qemu = await asyncio.create_subprocess_exec(
            *words.split(), socket, stderr=asyncio.subprocess.DEVNULL
        )
        await self.connect()

    async def connect(self) -> None:
        path = str(self.folder / "qmp")
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                reader, self.writer = await asyncio.open_unix_connection(path, limit=1 << 24)
                break
            except OSError:  # it does not listen yet
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.01)
        self._over = asyncio.Event()
        self._note("in", json.loads(await reader.readline()))
        self._reader = asyncio.create_task(self._read(reader))
        await self.do("qmp_capabilities")

    def _note(self, kind: str, message: dict[str, Any]) -> None:
        text = json.dumps(message).replace(str(self.folder), "/images")
        elapsed = round(time.monotonic() - self.began, 6)
        self.lines.append({"t": elapsed, "dir": kind, "msg": json.loads(text)})

    def note(self, **message: Any) -> None:
        self._note("note", message)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            async for line in reader:
                message = json.loads(line)
                self._note("in", message)
                async with self._news:
                    if "id" in message and message["id"] in self._replies:
                        self._replies.pop(message["id"]).set_result(message)
                    self._news.notify_all()
        except ConnectionError as error:
            self.note(recv_error=str(error))
        self.note(eof=True, partial="")
        for reply in self._replies.values():
            reply.cancel()
        self._over.set()

    def ask(self, command: str, /, **arguments: Any) -> asyncio.Future[dict[str, Any]]:
        """Sends it; several may be under way."""
        self._count += 1
        message: dict[str, Any] = {"execute": command}
        if arguments:
            message["arguments"] = {key.replace("_", "-"): v for key, v in arguments.items()}
        message["id"] = f"{command}#{self._count}"
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[message["id"]] = reply
        self._note("out", message)
        self.writer.write(json.dumps(message).encode() + b"\n")
        return reply

    async def do(self, command: str, /, **arguments: Any) -> dict[str, Any]:
        """Sends it, and waits for its reply."""
        with contextlib.suppress(asyncio.CancelledError, asyncio.TimeoutError):
            return await asyncio.wait_for(self.ask(command, **arguments), PATIENCE)
        return {}

    async def event(self, name: str, job: str = "", **data: Any) -> bool:
        """Waits until that event has come, since the start; False when it does not."""

        def has_come() -> bool:
            return any(self._fits(line, name, job, data) for line in self.lines)

        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(has_come), PATIENCE)
            except asyncio.TimeoutError:
                return False
            return True

    @staticmethod
    def _fits(line: dict[str, Any], name: str, job: str, data: dict[str, Any]) -> bool:
        message = line["msg"]
        if line["dir"] != "in" or message.get("event") != name:
            return False
        told = message.get("data", {})
        if job and job not in (told.get("device"), told.get("id")):
            return False
        return all(told.get(key) == value for key, value in data.items())

    def forget(self) -> None:
        """What has come so far is not waited for again."""
        for line in self.lines:
            if line["dir"] == "in" and "event" in line["msg"]:
                line["old"] = True

    async def leave(self) -> None:
        """The client goes; QEMU and its jobs stay."""
        self.note(disconnect=True)
        self.writer.close()
        await self._over.wait()

    async def come_back(self) -> None:
        self.note(reconnected=True)
        await self.connect()

    async def kill(self) -> None:
        self.note(kill=9)
        self.qemu.kill()
        await self._over.wait()

    async def stop(self) -> None:
        if not self._over.is_set():
            await self.do("quit")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._over.wait(), PATIENCE)
        if self.qemu.returncode is None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.qemu.wait(), PATIENCE)
        if self.qemu.returncode is None:
            self.qemu.kill()
        self.note(exit=await self.qemu.wait())
        self.writer.close()
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    # --------------------------------------------------------------------- disks

    def image(self, name: str, size: int = 4 * MIB, backing: str = "", full: bool = True) -> str:
        """A qcow2 file; with data in it, or with a backing file."""
        path = self.folder / name
        words = ["qemu-img", "create", "-q", "-f", "qcow2"]
        if backing:
            words += ["-b", str(self.folder / backing), "-F", "qcow2"]
        subprocess.run([*words, str(path), str(size)], check=True)
        if full and not backing:
            raw = self.folder / f"{name}.raw"
            raw.write_bytes(b"\x42" * size)
            words = ["qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2"]
            subprocess.run([*words, str(raw), str(path)], check=True)
            raw.unlink()
        return str(path)

    def fill(self, name: str) -> None:
        file = str(self.folder / f"{name}.qcow2")
        words = ["qemu-io", "-f", "qcow2", "-c", "write 0 1M", file]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    async def open(self, node: str, file: str, **more: Any) -> None:
        """A qcow2 node on a file."""
        protocol = {"driver": "file", "filename": str(self.folder / file)}
        await self.do("blockdev-add", node_name=node, driver="qcow2", file=protocol, **more)

    async def throttled(self, node: str, file: str, speed: int) -> None:
        """A node that reads and writes so many bytes a second."""
        limits = {"bps-total": speed, "bps-total-max": speed}
        await self.do("object-add", qom_type="throttle-group", id=f"g-{node}", limits=limits)
        below = {
            "driver": "qcow2",
            "file": {"driver": "file", "filename": str(self.folder / file)},
        }
        await self.do(
            "blockdev-add",
            node_name=node,
            driver="throttle",
            throttle_group=f"g-{node}",
            file=below,
        )

    async def failing(self, node: str, file: str, event: str, **inject: Any) -> None:
        """A qcow2 node whose file fails."""
        errors = [{"event": event, "immediately": False, **inject}]
        debug = {
            "driver": "blkdebug",
            "image": {"driver": "file", "filename": str(self.folder / file)},
            "inject-error": errors,
        }
        await self.do("blockdev-add", node_name=node, driver="qcow2", file=debug)

    async def write(self, node: str, what: str) -> None:
        await self.do("human-monitor-command", command_line=f'qemu-io {node} "{what}"')

    # ---------------------------------------------------------------------- jobs

    async def look(self) -> None:
        await self.do("query-block-jobs")
        await self.do("query-jobs")
        await self.do("x-debug-query-block-graph")

    async def ready(self, job: str) -> None:
        await self.event("BLOCK_JOB_READY", job)

    async def gone(self, job: str, look: bool = True) -> None:
        await self.event("JOB_STATUS_CHANGE", job, status="null")
        if look:
            await self.look()

    async def concluded(self, job: str) -> None:
        await self.event("JOB_STATUS_CHANGE", job, status="concluded")
        await self.look()

    async def mirror(self, job: str = "j0", **more: Any) -> None:
        arguments = {"device": "src", "target": "dst", "sync": "full", **more}
        await self.do("blockdev-mirror", job_id=job, **arguments)
        await self.look()

    async def two_disks(self) -> None:
        self.image("src.qcow2")
        self.image("dst.qcow2", full=False)
        await self.disk("src", "src.qcow2")
        await self.open("dst", "dst.qcow2")

    async def disk(self, node: str, file: str, more: str = "") -> None:
        """A node with a disk that uses it, so that the graph tells when it is switched."""
        name = f"if=none,id=d-{node},node-name={node},format=qcow2"
        line = f"drive_add 0 {name},file={self.folder}/{file}{more}"
        await self.do("human-monitor-command", command_line=line)

    async def chain(self) -> None:
        self.image("base.qcow2")
        self.image("mid.qcow2", backing="base.qcow2")
        self.image("top.qcow2", backing="mid.qcow2")
        for name in ("mid", "top"):
            self.fill(name)
        await self.open("base", "base.qcow2")
        await self.open("mid", "mid.qcow2", backing="base")
        await self.disk("top", "top.qcow2", ",backing=mid")


Scenario = Callable[[Recorder], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


# ------------------------------------------------------------------------------- capabilities


@scenario
async def caps(q: Recorder) -> None:
    await q.do("query-version")
    await q.do("query-commands")
    await q.look()


# ----------------------------------------------------------------------------- mirror, commit


@scenario
async def mirror_pivot(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror()
    await q.ready("j0")
    await q.look()
    await q.do("job-complete", id="j0")
    await q.gone("j0")


@scenario
async def mirror_block_job_words(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror()
    await q.ready("j0")
    await q.do("block-job-complete", device="j0")
    await q.do("block-job-complete", device="j0")
    await q.gone("j0")
    await q.do("block-job-cancel", device="j0")


@scenario
async def mirror_soft_cancel(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror()
    await q.ready("j0")
    await q.do("block-job-cancel", device="j0")
    await q.gone("j0")


@scenario
async def mirror_force_cancel(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror()
    await q.ready("j0")
    await q.do("block-job-cancel", device="j0", force=True)
    await q.gone("j0")


@scenario
async def mirror_job_cancel(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror()
    await q.ready("j0")
    await q.do("job-cancel", id="j0")
    await q.gone("j0")


@scenario
async def mirror_complete_and_cancel_at_once(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror()
    await q.ready("j0")
    asked = [
        q.ask("block-job-complete", device="j0"),
        q.ask("block-job-cancel", device="j0"),
        q.ask("block-job-cancel", device="j0", force=True),
    ]
    await asyncio.wait(asked, timeout=PATIENCE)
    await q.gone("j0")


@scenario
async def mirror_cancel_and_complete_at_once(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror()
    await q.ready("j0")
    asked = [q.ask("block-job-cancel", device="j0"), q.ask("block-job-complete", device="j0")]
    await asyncio.wait(asked, timeout=PATIENCE)
    await q.gone("j0")


@scenario
async def mirror_cancel_before_ready(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror(speed=64 * 1024)
    await q.do("block-job-complete", device="j0")
    await q.do("block-job-cancel", device="j0")
    await q.gone("j0")


@scenario
async def mirror_paused_in_ready(q: Recorder) -> None:
    """Complete in standby."""
    await q.two_disks()
    await q.mirror()
    await q.ready("j0")
    await q.do("job-pause", id="j0")
    await q.event("JOB_STATUS_CHANGE", "j0", status="standby")
    await q.do("block-job-cancel", device="j0")
    await q.do("job-complete", id="j0")
    await q.do("query-jobs")
    await q.do("job-resume", id="j0")
    await asyncio.sleep(0.2)
    await q.do("job-complete", id="j0")
    await q.gone("j0")


@scenario
async def mirror_without_waiting(q: Recorder) -> None:
    """All at once: what is needed, the mirror, a list."""
    q.image("src.qcow2", MIB)
    q.image("dst.qcow2", MIB, full=False)
    await q.open("src", "src.qcow2")
    await q.open("dst", "dst.qcow2")
    asked = [
        q.ask("blockdev-mirror", job_id="j0", device="src", target="dst", sync="full"),
        q.ask("query-block-jobs"),
        q.ask("query-jobs"),
    ]
    await asyncio.wait(asked, timeout=PATIENCE)
    await q.ready("j0")
    await q.do("job-complete", id="j0")
    await q.gone("j0")


@scenario
async def mirror_empty(q: Recorder) -> None:
    q.image("src.qcow2", 0, full=False)
    q.image("dst.qcow2", 0, full=False)
    await q.open("src", "src.qcow2")
    await q.open("dst", "dst.qcow2")
    await q.mirror()
    await q.ready("j0")
    await q.do("job-complete", id="j0")
    await q.gone("j0")


@scenario
async def mirror_target_too_small(q: Recorder) -> None:
    q.image("src.qcow2")
    q.image("dst.qcow2", MIB, full=False)
    await q.open("src", "src.qcow2")
    await q.open("dst", "dst.qcow2")
    await q.mirror()
    await q.gone("j0")


@scenario
async def mirror_twice(q: Recorder) -> None:
    """First a copy, then a switch."""
    await q.two_disks()
    for job, verb in (("j0", "block-job-cancel"), ("j1", "block-job-complete")):
        await q.mirror(job)
        await q.ready(job)
        await q.do(verb, device=job)
        await q.gone(job)


@scenario
async def mirror_replaces(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror(replaces="src")
    await q.ready("j0")
    await q.do("block-job-complete", device="j0")
    await q.gone("j0")


@scenario
async def mirror_active(q: Recorder) -> None:
    """Writes while it runs; the copy is made to converge."""
    await q.two_disks()
    await q.mirror(speed=MIB)
    await q.write("src", "write 0 64k")
    await q.do("block-job-change", id="j0", type="mirror", copy_mode="write-blocking")
    await q.do("block-job-set-speed", device="j0", speed=0)
    await q.ready("j0")
    for offset in range(0, 640, 64):
        await q.write("src", f"write {offset}k 64k")
    await q.do("query-block-jobs")
    await q.do("job-complete", id="j0")
    await q.gone("j0")


@scenario
async def mirror_fails_in_ready(q: Recorder) -> None:
    """The target fails when the source is written to: report."""
    q.image("src.qcow2")
    q.image("dst.qcow2")
    await q.open("src", "src.qcow2")
    await q.failing("dst", "dst.qcow2", "write_aio", errno=5, once=False)
    await q.mirror(sync="none", on_target_error="report")
    await q.ready("j0")
    await q.write("src", "write 0 64k")
    await q.do("job-complete", id="j0")
    await q.gone("j0")


@scenario
async def mirror_target_full(q: Recorder) -> None:
    """No space, which stops it; resumed, stopped again, cancelled softly (refused), by force."""
    q.image("src.qcow2")
    q.image("dst.qcow2", full=False)
    await q.open("src", "src.qcow2")
    await q.failing("dst", "dst.qcow2", "write_aio", errno=28, once=False)
    await q.mirror(on_target_error="enospc")
    await q.event("BLOCK_JOB_ERROR", "j0", action="stop")
    await q.look()
    await q.do("job-resume", id="j0")
    await asyncio.sleep(0.2)
    await q.do("block-job-cancel", device="j0")
    await q.do("job-complete", id="j0")
    await q.do("query-block-jobs")
    await q.do("block-job-cancel", device="j0", force=True)
    await q.gone("j0")


@scenario
async def mirror_target_fails(q: Recorder) -> None:
    q.image("src.qcow2")
    q.image("dst.qcow2", full=False)
    await q.open("src", "src.qcow2")
    await q.failing("dst", "dst.qcow2", "write_aio", errno=5, once=False)
    await q.mirror()
    await q.gone("j0")


@scenario
async def mirror_source_fails_once_and_stops(q: Recorder) -> None:
    q.image("src.qcow2")
    q.image("dst.qcow2", full=False)
    await q.failing("src", "src.qcow2", "read_aio", errno=5, once=True)
    await q.open("dst", "dst.qcow2")
    await q.mirror(on_source_error="stop")
    await q.event("BLOCK_JOB_ERROR", "j0", action="stop")
    await q.event("JOB_STATUS_CHANGE", "j0", status="paused")
    await q.look()
    await q.do("block-job-resume", device="j0")
    await q.ready("j0")
    await q.do("job-complete", id="j0")
    await q.gone("j0")


@scenario
async def commit_active(q: Recorder) -> None:
    await q.chain()
    await q.do("block-commit", job_id="j0", device="top")
    await q.look()
    await q.ready("j0")
    await q.do("job-complete", id="j0")
    await q.gone("j0")


@scenario
async def commit_active_soft_cancel(q: Recorder) -> None:
    await q.chain()
    await q.do("block-commit", job_id="j0", device="top")
    await q.look()
    await q.ready("j0")
    await q.do("block-job-cancel", device="j0")
    await q.gone("j0")


@scenario
async def commit_intermediate(q: Recorder) -> None:
    await q.chain()
    await q.do("block-commit", job_id="j0", device="top", top_node="mid")
    await q.gone("j0")


@scenario
async def commit_intermediate_cancel(q: Recorder) -> None:
    await q.chain()
    await q.do("block-commit", job_id="j0", device="top", top_node="mid", speed=65536)
    await q.look()
    await q.do("job-cancel", id="j0")
    await q.gone("j0")


# ----------------------------------------------------------------------------- stream, backup


@scenario
async def stream(q: Recorder) -> None:
    await q.chain()
    await q.do("block-stream", job_id="j0", device="top")
    await q.gone("j0")
    await q.do("block-stream", job_id="j0", device="top")
    await q.gone("j0")


@scenario
async def stream_error_report(q: Recorder) -> None:
    await _stream_error(q, "report", once=True)


@scenario
async def stream_error_ignore(q: Recorder) -> None:
    await _stream_error(q, "ignore", once=False)


@scenario
async def stream_error_stop(q: Recorder) -> None:
    await _stream_error(q, "stop", once=True)


@scenario
async def stream_error_stop_for_ever(q: Recorder) -> None:
    await _stream_error(q, "stop", once=False)


async def _stream_error(q: Recorder, action: str, once: bool) -> None:
    q.image("base.qcow2")
    q.image("top.qcow2", backing="base.qcow2")
    await q.failing("base", "base.qcow2", "read_aio", errno=5, once=once)
    await q.open("top", "top.qcow2", backing="base")
    await q.do("block-stream", job_id="j0", device="top", on_error=action)
    if action == "stop":
        await q.event("JOB_STATUS_CHANGE", "j0", status="paused")
        await q.look()
        await q.do("job-resume", id="j0")
        await asyncio.sleep(0.2)
    if action == "stop" and not once:
        await q.look()
        await q.do("job-pause", id="j0")
        await q.do("job-resume", id="j0")
        await asyncio.sleep(0.2)
        await q.do("job-cancel", id="j0")
    await q.gone("j0")


@scenario
async def stream_same_id_at_once(q: Recorder) -> None:
    """The id is given again in the same breath in which its run is cancelled."""
    await q.chain()
    await q.do("block-stream", job_id="j0", device="top", speed=65536)
    for _ in range(3):
        asked = [
            q.ask("block-job-cancel", device="j0"),
            q.ask("block-stream", job_id="j0", device="top", speed=65536),
            q.ask("query-block-jobs"),
            q.ask("block-stream", job_id="j0", device="top", speed=65536),
        ]
        await asyncio.wait(asked, timeout=PATIENCE)
    await q.do("job-cancel", id="j0")
    await asyncio.sleep(0.2)
    await q.look()


@scenario
async def backup(q: Recorder) -> None:
    await q.two_disks()
    await q.do("blockdev-backup", job_id="j0", device="src", target="dst", sync="full")
    await q.gone("j0")


@scenario
async def backup_by_hand(q: Recorder) -> None:
    """auto-finalize and auto-dismiss off, throttled, paused twice, resumed; like test 219."""
    await q.two_disks()
    await q.do(
        "blockdev-backup",
        job_id="j0",
        device="src",
        target="dst",
        sync="full",
        speed=MIB,
        auto_finalize=False,
        auto_dismiss=False,
    )
    await q.look()
    await q.do("job-pause", id="j0")
    await q.event("JOB_STATUS_CHANGE", "j0", status="paused")
    await q.do("job-pause", id="j0")
    await q.do("job-complete", id="j0")
    await q.do("job-finalize", id="j0")
    await q.do("job-dismiss", id="j0")
    await q.do("block-job-cancel", device="j0")
    await q.do("query-jobs")
    await q.do("job-resume", id="j0")
    await q.do("job-resume", id="j0")
    await q.do("block-job-set-speed", device="j0", speed=0)
    await q.event("BLOCK_JOB_PENDING", "j0")
    await q.look()
    await q.do("job-pause", id="j0")
    await q.do("job-finalize", id="j0")
    await q.concluded("j0")
    await q.do("job-finalize", id="j0")
    await q.do("blockdev-backup", job_id="j0", device="src", target="dst", sync="full")
    await q.do("job-dismiss", id="j0")
    await q.do("job-dismiss", id="j0")
    await q.do("query-jobs")


@scenario
async def backup_pending_cancel(q: Recorder) -> None:
    await q.two_disks()
    words = {"device": "src", "target": "dst", "sync": "full", "auto_finalize": False}
    await q.do("blockdev-backup", job_id="j0", auto_dismiss=False, **words)
    await q.event("BLOCK_JOB_PENDING", "j0")
    await q.do("block-job-cancel", device="j0")
    await q.concluded("j0")
    await q.do("block-job-dismiss", id="j0")


@scenario
async def mirror_pending(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror(auto_finalize=False, auto_dismiss=False)
    await q.ready("j0")
    await q.do("job-complete", id="j0")
    await q.event("BLOCK_JOB_PENDING", "j0")
    await q.look()
    await q.do("job-finalize", id="j0")
    await q.concluded("j0")
    await q.do("job-dismiss", id="j0")


@scenario
async def mirror_pending_cancel(q: Recorder) -> None:
    """Cancelled when it waits for its finalize, after a complete."""
    await q.two_disks()
    await q.mirror(auto_finalize=False)
    await q.ready("j0")
    await q.do("job-complete", id="j0")
    await q.event("BLOCK_JOB_PENDING", "j0")
    await q.do("job-cancel", id="j0")
    await q.gone("j0")


@scenario
async def mirror_soft_cancel_pending(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror(auto_finalize=False)
    await q.ready("j0")
    await q.do("block-job-cancel", device="j0")
    await q.event("BLOCK_JOB_PENDING", "j0")
    await q.do("job-finalize", id="j0")
    await q.gone("j0")


@scenario
async def backup_bitmap(q: Recorder) -> None:
    """An incremental one that fails, and again."""
    q.image("src.qcow2")
    q.image("dst.qcow2", full=False)
    await q.open("src", "src.qcow2")
    await q.failing("dst", "dst.qcow2", "write_aio", errno=5, once=True)
    await q.do("block-dirty-bitmap-add", node="src", name="b0")
    await q.write("src", "write 0 256k")
    words = {"device": "src", "target": "dst", "sync": "incremental", "bitmap": "b0"}
    for _ in range(2):
        q.forget()
        before = len(q.lines)
        await q.do("blockdev-backup", job_id="j0", **words)
        await _gone_again(q, "j0", before)


async def _gone_again(q: Recorder, job: str, before: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if any(
            q._fits(line, "JOB_STATUS_CHANGE", job, {"status": "null"}) for line in q.lines[before:]
        ):
            return
        await asyncio.sleep(0.01)


@scenario
async def backup_source_errors(q: Recorder) -> None:
    q.image("src.qcow2")
    q.image("dst.qcow2", full=False)
    await q.failing("src", "src.qcow2", "read_aio", errno=5, once=False)
    await q.open("dst", "dst.qcow2")
    words = {"device": "src", "target": "dst", "sync": "full"}
    await q.do("blockdev-backup", job_id="j0", on_source_error="ignore", speed=65536, **words)
    await asyncio.sleep(0.05)
    await q.do("query-block-jobs")
    await q.do("job-cancel", id="j0")
    await q.gone("j0")


# ------------------------------------------------------------------------------- many of them


async def _many(q: Recorder, count: int, size: int = 8 * MIB) -> list[str]:
    for n in range(count):
        q.image(f"src{n}.qcow2", size)
        q.image(f"dst{n}.qcow2", size, full=False)
        await q.disk(f"src{n}", f"src{n}.qcow2")
        await q.open(f"dst{n}", f"dst{n}.qcow2")
    return [f"j{n}" for n in range(count)]


@scenario
async def six_mirrors(q: Recorder) -> None:
    """Half are pivoted, half are cancelled, all at once."""
    jobs = await _many(q, 6, MIB)
    for n, job in enumerate(jobs):
        await q.do("blockdev-mirror", job_id=job, device=f"src{n}", target=f"dst{n}", sync="full")
    await q.look()
    for job in jobs:
        await q.ready(job)
    await q.do("query-block-jobs")
    verbs = ("block-job-complete", "block-job-cancel")
    asked = [q.ask(verbs[n % 2], device=job) for n, job in enumerate(jobs)]
    await asyncio.wait(asked, timeout=PATIENCE)
    for job in jobs:
        await q.gone(job, look=False)
    await q.look()


def _actions(jobs: list[str], **more: Any) -> list[dict[str, Any]]:
    words = {key.replace("_", "-"): value for key, value in more.items()}
    return [
        {
            "type": "blockdev-backup",
            "data": {
                "job-id": job,
                "device": f"src{n}",
                "target": f"dst{n}",
                "sync": "full",
                **words,
            },
        }
        for n, job in enumerate(jobs)
    ]


@scenario
async def transaction_grouped_cancel(q: Recorder) -> None:
    jobs = await _many(q, 3)
    grouped = {"completion-mode": "grouped"}
    await q.do("transaction", actions=_actions(jobs, speed=65536), properties=grouped)
    await q.look()
    await q.do("block-job-set-speed", device="j0", speed=0)
    await q.event("JOB_STATUS_CHANGE", "j0", status="waiting")
    await q.do("block-job-cancel", device="j1")
    for job in jobs:
        await q.gone(job, look=False)
    await q.look()


@scenario
async def transaction_grouped(q: Recorder) -> None:
    jobs = await _many(q, 3)
    grouped = {"completion-mode": "grouped"}
    await q.do("transaction", actions=_actions(jobs), properties=grouped)
    for job in jobs:
        await q.gone(job, look=False)
    await q.look()


@scenario
async def transaction_individual(q: Recorder) -> None:
    jobs = await _many(q, 3)
    await q.do("transaction", actions=_actions(jobs, speed=65536))
    await q.do("block-job-cancel", device="j1")
    for job in ("j0", "j2"):
        await q.do("block-job-set-speed", device=job, speed=0)
    for job in jobs:
        await q.gone(job, look=False)
    await q.look()


@scenario
async def transaction_grouped_by_hand(q: Recorder) -> None:
    """All pending, one is finalized: all are."""
    jobs = await _many(q, 2)
    by_hand = {"auto_finalize": False, "auto_dismiss": False}
    grouped = {"completion-mode": "grouped"}
    await q.do("transaction", actions=_actions(jobs, **by_hand), properties=grouped)
    for job in jobs:
        await q.event("BLOCK_JOB_PENDING", job)
    await q.look()
    await q.do("job-finalize", id="j1")
    for job in jobs:
        await q.concluded(job)
    for job in jobs:
        await q.do("job-dismiss", id=job)


@scenario
async def transaction_that_fails(q: Recorder) -> None:
    """The last action is refused: the jobs before it were created, and are no more."""
    jobs = await _many(q, 2)
    wrong = {"type": "blockdev-backup", "data": {"device": "no", "target": "dst1", "sync": "full"}}
    wrong["data"]["job-id"] = "j9"  # type: ignore[index]
    await q.do("transaction", actions=[*_actions(jobs), wrong])
    await q.look()


@scenario
async def transaction_one_fails(q: Recorder) -> None:
    """One of a group meets a write error; the others are cancelled."""
    for name in ("src0", "src1"):
        q.image(f"{name}.qcow2", 8 * MIB)
    for name in ("dst0", "dst1"):
        q.image(f"{name}.qcow2", 8 * MIB, full=False)
    for name in ("src0", "src1", "dst0"):
        await q.open(name, f"{name}.qcow2")
    await q.failing("dst1", "dst1.qcow2", "write_aio", errno=5, once=False)
    grouped = {"completion-mode": "grouped"}
    await q.do("transaction", actions=_actions(["j0", "j1"], speed=262144), properties=grouped)
    for job in ("j0", "j1"):
        await q.gone(job, look=False)
    await q.look()


# ------------------------------------------------------------------------------- other kinds


@scenario
async def create(q: Recorder) -> None:
    """Jobs without a disk: one that succeeds, one that fails, left concluded, then dismissed."""
    (q.folder / "new").touch()
    await q.do("blockdev-add", node_name="file", driver="file", filename=str(q.folder / "new"))
    words = {"driver": "qcow2", "file": "file"}
    await q.do("blockdev-create", job_id="c0", options={**words, "size": MIB})
    await q.concluded("c0")
    await q.do("blockdev-create", job_id="c1", options={**words, "size": 1 << 62})
    await q.concluded("c1")
    await q.do("blockdev-create", job_id="c1", options={**words, "size": MIB})
    await q.do("block-job-cancel", device="c0")
    await q.do("job-dismiss", id="c1")
    await q.do("job-dismiss", id="c0")
    await q.do("query-jobs")


@scenario
async def snapshot(q: Recorder) -> None:
    """A job that fails, of a kind that not all versions have."""
    await q.two_disks()
    await q.do("snapshot-save", job_id="s0", tag="t", vmstate="src", devices=["src"])
    await q.event("JOB_STATUS_CHANGE", "s0", status="concluded")
    await q.do("query-jobs")
    await q.do("job-dismiss", id="s0")


@scenario
async def refusals(q: Recorder) -> None:
    await q.two_disks()
    await q.do("block-job-cancel", device="no")
    await q.do("job-cancel", id="no")
    await q.do("job-complete", id="no")
    await q.do("block-job-complete", device="no")
    await q.do("job-dismiss", id="no")
    await q.do("blockdev-mirror", job_id="j0", device="no", target="dst", sync="full")
    await q.do("blockdev-mirror", job_id="0bad", device="src", target="dst", sync="full")
    await q.do("blockdev-mirror", job_id="j0", device="src", target="src", sync="full")
    await q.do("block-stream", job_id="j0", device="src", base="no")
    await q.mirror(speed=65536)
    await q.do("blockdev-mirror", job_id="j0", device="src", target="dst", sync="full")
    await q.do("blockdev-backup", job_id="j1", device="src", target="dst", sync="full")
    await q.do("block-job-set-speed", device="j0", speed=-1)
    await q.do("job-resume", id="j0")
    await q.do("job-finalize", id="j0")
    await q.do("job-dismiss", id="j0")
    await q.do("job-cancel", id="j0")
    await q.do("job-cancel", id="j0")
    await q.gone("j0")


# ------------------------------------------------------------------------------------- the end


@scenario
async def quit_running(q: Recorder) -> None:
    await q.chain()
    await q.do("block-stream", job_id="j0", device="top", speed=65536)
    await q.look()


@scenario
async def quit_ready(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror()
    await q.ready("j0")


@scenario
async def quit_pending_and_concluded(q: Recorder) -> None:
    jobs = await _many(q, 3)
    words = {"sync": "full", "auto_dismiss": False}
    for n, job in enumerate(jobs):
        more = {"auto_finalize": False} if n == 0 else {"speed": 65536} if n == 1 else {}
        await q.do(
            "blockdev-backup", job_id=job, device=f"src{n}", target=f"dst{n}", **words, **more
        )
    await q.event("BLOCK_JOB_PENDING", "j0")
    await q.concluded("j2")


@scenario
async def kill_ready(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror()
    await q.ready("j0")
    await q.kill()


@scenario
async def kill_while_completing(q: Recorder) -> None:
    await q.two_disks()
    await q.mirror()
    await q.ready("j0")
    q.ask("job-complete", id="j0")
    await q.writer.drain()
    await q.kill()


@scenario
async def gone_and_back(q: Recorder) -> None:
    """The client leaves; meanwhile one job goes on, one ends and stays listed."""
    jobs = await _many(q, 2)
    words = {"sync": "full", "auto_dismiss": False, "speed": 4 * MIB}
    for n, job in enumerate(jobs):
        await q.do("blockdev-backup", job_id=job, device=f"src{n}", target=f"dst{n}", **words)
    await q.do("block-job-set-speed", device="j0", speed=65536)
    await q.look()
    await q.leave()
    await asyncio.sleep(1.0)
    await q.come_back()
    await q.look()
    await q.do("job-dismiss", id="j1")
    await q.do("job-cancel", id="j0")
    await q.concluded("j0")
    await q.do("job-dismiss", id="j0")


@scenario
async def throttled_pause_and_cancel(q: Recorder) -> None:
    """Like test 129: a slow source, paused, resumed, cancelled."""
    q.image("src.qcow2")
    q.image("dst.qcow2", full=False)
    await q.throttled("src", "src.qcow2", 256 * 1024)
    await q.open("dst", "dst.qcow2")
    await q.mirror(buf_size=65536)
    await q.do("job-pause", id="j0")
    await q.event("JOB_STATUS_CHANGE", "j0", status="paused")
    await q.do("query-block-jobs")
    await q.do("job-resume", id="j0")
    await q.do("block-job-set-speed", device="j0", speed=65536)
    await q.do("block-job-set-speed", device="j0", speed=0)
    await q.do("block-job-cancel", device="j0")
    await q.gone("j0")


# ----------------------------------------------------------------------------------- recording


def _reject_silence(lines: list[dict[str, Any]]) -> None:
    """A scenario that waited for what did not come shows nothing."""
    for before, line in itertools.pairwise(lines):
        if line["t"] - before["t"] > PATIENCE - 1:
            print(f"  nothing came for {PATIENCE} s before {line['msg']}")


async def record(name: str, target: Path) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder))
        await recorder.start()
        try:
            await SCENARIOS[name](recorder)
        finally:
            await recorder.stop()
    _reject_silence(recorder.lines)
    qemu = recorder.lines[0]["msg"]["QMP"]["version"]["qemu"]
    version = f"{qemu['major']}.{qemu['minor']}.{qemu['micro']}"
    path = target / version / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for line in recorder.lines:
            line.pop("old", None)
            file.write(json.dumps(line) + "\n")
    return path


def main() -> None:
    target = Path(sys.argv[1])
    for name in sys.argv[2:] or SCENARIOS:
        print(asyncio.run(record(name, target)))


if __name__ == "__main__":
    main()
