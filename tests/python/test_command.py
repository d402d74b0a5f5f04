# SPDX-License-Identifier: MIT
# The command-line tool, as a process of its own: what it prints, how it exits, how it is stopped.

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import blockjob
import pytest
from children import HANG_SECONDS, wait_asleep
from control import FakeQemu
from libvirtd import Domain
from qemu import DISK_BYTES, HALTED, HALTED_MIRROR, Qemu

AS_ASKED, OTHERWISE, USAGE, TIMED_OUT = range(4)


class Result(NamedTuple):
    """What it has printed, and its exit status."""

    status: int
    output: str
    complaint: str


@contextmanager
def started(*arguments: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """The tool with those arguments; it is gone after the `with`."""
    with subprocess.Popen(
        [sys.executable, "-m", "blockjob", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    ) as tool:
        try:
            yield tool
        finally:
            tool.kill()


def end(tool: subprocess.Popen[str]) -> Result:
    output, complaint = tool.communicate(timeout=HANG_SECONDS)
    return Result(tool.returncode, output, complaint)


def run(*arguments: str) -> Result:
    with started(*arguments) as tool:
        return end(tool)


def complaint_of(*arguments: str, status: int = OTHERWISE) -> str:
    """The one sentence that it says when it exits with that status, and prints nothing else."""
    result = run(*arguments)
    assert (result.status, result.output) == (status, ""), result
    said = re.fullmatch(r"blockjob: (.+)\n", result.complaint)
    assert said, result
    return said[1]


def read_line(tool: subprocess.Popen[str]) -> str:
    assert tool.stdout is not None
    return tool.stdout.readline().rstrip("\n")


def read_until(terminal: io.RawIOBase, text: bytes) -> bytes:
    shown = b""
    while text not in shown:
        more = terminal.read(4096)
        assert more
        shown += more
    return shown


def listen(tool: subprocess.Popen[str], fake: FakeQemu) -> None:
    """Returns when the tool hears events; how many it has heard then is its affair."""
    assert tool.stdout is not None
    deadline = time.monotonic() + HANG_SECONDS
    while not select.select([tool.stdout], [], [], 0.01)[0]:
        assert time.monotonic() < deadline, "it never hears a thing"
        fake.do("emit", event="PROBE", data={})


def attached(fake: FakeQemu) -> None:
    """Returns when the tool has asked for the job, and QEMU has told."""
    fake.wait("x-debug-query-block-graph")


@pytest.fixture
def copying(fake: FakeQemu) -> FakeQemu:
    """A fakeqemu with a mirror, "job0", that another client has started."""
    arguments = {"job-id": "job0", "device": "drive0", "target": "copy0", "sync": "full"}
    fake.do("execute", command="blockdev-mirror", arguments=arguments)
    return fake


@pytest.fixture
def halted(daemon: Qemu) -> Qemu:
    """A qemu-storage-daemon with a mirror, "job0", that has stopped half-way; a guest has its
    disk."""
    daemon.add_disk("drive0")
    daemon.add_empty("copy0")
    daemon.add_guest("drive0")
    what = {"job_id": "job0", "device": "drive0", "target": "copy0", "sync": "full"}
    daemon.do("blockdev-mirror", **what, **HALTED_MIRROR)
    return daemon


# ---------------------------------------------------------------------------- list and events


def test_list_is_a_table(halted: Qemu) -> None:
    result = run("list", halted.uri)
    assert (result.status, result.complaint) == (AS_ASKED, "")
    header, row = result.output.splitlines()
    assert header.split() == ["ID", "TYPE", "STATUS", "DONE", "SIZE", "LIMIT", "ERROR"]
    done = halted.do("query-jobs")[0]
    percent = 100 * done["current-progress"] // done["total-progress"]
    assert re.split("  +", row) == [
        "job0",
        "mirror",
        "running",
        f"{percent} %",
        "4.0 MiB",
        "1 B/s",
        "-",
    ]
    assert row.index("mirror") == header.index("TYPE")


def test_list_without_jobs(daemon: Qemu) -> None:
    assert run("list", daemon.uri).output.split()[0] == "ID"
    assert json.loads(run("list", daemon.path, "--json").output) == []


def test_list_as_json(halted: Qemu) -> None:
    result = run("list", "--json", halted.uri)
    assert (result.status, result.complaint) == (AS_ASKED, "")
    (job,) = json.loads(result.output)
    assert list(job) == list(blockjob.JobInfo._fields)
    assert (job["id"], job["type"], job["total"], job["speed"]) == ("job0", "mirror", DISK_BYTES, 1)
    assert job["ready"] is False


def test_list_says_what_is_wrong_with_a_job(copying: FakeQemu) -> None:
    copying.do("io-error", action="stop", operation="write", nospace=True)
    assert run("list", copying.path).output.splitlines()[1].endswith("  nospace")


@pytest.mark.parametrize("profile", ["rhel6.3", "2.3", "11.1"])
def test_list_of_any_qemu(profile: str) -> None:
    with FakeQemu(profile=profile) as fake:
        fake.do("execute", command="block-stream", arguments={"device": "drive0"})
        row = run("list", fake.path).output.splitlines()[1]
        assert row.split()[:3] == ["drive0", "stream", "running"]


def test_events_are_lines_of_json(fake: FakeQemu) -> None:
    with started("events", fake.path) as tool:
        listen(tool, fake)
        fake.do("emit", event="FIRST", data={"large": 2**70})
        fake.do("emit", event="SECOND", data={})
        while (first := json.loads(read_line(tool)))["event"] == "PROBE":
            pass
        second = json.loads(read_line(tool))
        assert (first["event"], first["data"]) == ("FIRST", {"large": 2**70})
        assert 0 < first["timestamp"] <= second["timestamp"]
        assert list(second) == ["event", "data", "timestamp"]
        fake.do("die")
        status, output, complaint = end(tool)
    assert (status, output) == (OTHERWISE, "")
    assert "QEMU has ended" in complaint


# ------------------------------------------------------------------------- wait, pivot, abort


def test_wait_for_ready_and_pivot(halted: Qemu) -> None:
    with started("wait", halted.uri, "job0", "--ready") as tool:
        wait_asleep(tool)
        halted.release("job0")
        assert end(tool) == (AS_ASKED, "READY\n", "")
    assert run("pivot", halted.uri, "job0") == (AS_ASKED, "PIVOTED\n", "")
    assert halted.disk_of_guest() == "copy0"


def test_pivot_waits_for_ready(halted: Qemu) -> None:
    with started("pivot", halted.uri, "job0", "--timeout", "60") as tool:
        wait_asleep(tool)
        halted.release("job0")
        assert end(tool) == (AS_ASKED, "PIVOTED\n", "")
    assert halted.disk_of_guest() == "copy0"


@pytest.mark.parametrize("done", [[], ["--done"]])
def test_wait_for_the_end(daemon: Qemu, done: list[str]) -> None:
    daemon.add_chain()
    what = {"job_id": "job0", "device": "active", "base_node": "base", "auto_dismiss": False}
    daemon.do("block-stream", **what, **HALTED)
    with started("wait", *done, daemon.uri, "job0") as tool:
        wait_asleep(tool)
        daemon.release("job0")
        assert end(tool) == (AS_ASKED, "COMPLETED\n", "")


@pytest.mark.parametrize("command", [["wait"], ["wait", "--ready"], ["pivot"], ["watch"]])
def test_a_job_that_fails(copying: FakeQemu, command: list[str]) -> None:
    with started(*command, copying.path, "job0") as tool:
        attached(copying)
        copying.do("fail", error="No space left on device")
        status, output, complaint = end(tool)
    assert status == OTHERWISE
    assert complaint == "blockjob: job job0 ended as FAILED: No space left on device\n"
    assert output == "" or command == ["watch"]


def test_a_job_that_is_cancelled_is_no_success(copying: FakeQemu) -> None:
    with started("wait", copying.path, "job0") as tool:
        attached(copying)
        copying.do("execute", command="job-cancel", arguments={"id": "job0"})
        assert end(tool) == (OTHERWISE, "", "blockjob: job job0 ended as CANCELLED\n")


@pytest.mark.parametrize("command", ["wait", "watch", "pivot"])
def test_a_qemu_that_dies(copying: FakeQemu, command: str) -> None:
    with started(command, copying.path, "job0") as tool:
        attached(copying)
        copying.do("die")
        status, _, complaint = end(tool)
    assert status == OTHERWISE
    assert re.fullmatch("blockjob: .*QEMU has ended.*\n", complaint)


@pytest.mark.parametrize("seconds", ["0", "0.05"])
@pytest.mark.parametrize("command", [["wait"], ["wait", "--ready"], ["pivot"]])
def test_a_timeout_has_a_status_of_its_own(halted: Qemu, command: list[str], seconds: str) -> None:
    waiting = (*command, "--timeout", seconds, halted.uri, "job0")
    said = complaint_of(*waiting, status=TIMED_OUT)
    # A busy machine may not even have connected by then.
    assert said.endswith(f"{seconds} s; the job goes on") or f"within {seconds} s" in said
    assert halted.jobs() == {"job0": "running"}


def test_c52_a_pending_job_never_goes_on_by_itself(daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    disks = {"job_id": "job0", "device": "drive", "target": "copy", "sync": "full"}
    daemon.do("blockdev-backup", **disks, auto_finalize=False)
    daemon.wait_status("pending")
    said = complaint_of("wait", "--timeout", "5", daemon.uri, "job0", status=TIMED_OUT)
    assert "pending until somebody finalizes it" in said
    assert "goes on" not in said


@pytest.mark.parametrize("command", [["wait"], ["wait", "--ready"], ["pivot"], ["abort"]])
def test_c109_a_timeout_includes_connecting(fake: FakeQemu, command: list[str]) -> None:
    with blockjob.sync.connect(fake.path):
        waiting = (*command, "--timeout", "0.2", fake.path, "job0")
        said = complaint_of(*waiting, status=TIMED_OUT)
    assert "within 0.2 s: another client may hold this monitor" in said


def test_c109_a_timeout_includes_finding_the_job(copying: FakeQemu) -> None:
    copying.do("hold", command="query-jobs")
    said = complaint_of("wait", "--timeout", "0.2", copying.path, "job0", status=TIMED_OUT)
    assert "no answer from" in said
    assert "within 0.2 s" in said


def test_abort(halted: Qemu) -> None:
    assert run("abort", halted.uri, "job0") == (AS_ASKED, "CANCELLED\n", "")
    assert halted.jobs() == {}


def test_abort_of_a_ready_copy_keeps_it(halted: Qemu) -> None:
    halted.release("job0")
    assert run("wait", "--ready", halted.uri, "job0").status == AS_ASKED
    assert run("abort", halted.uri, "job0") == (AS_ASKED, "COPIED\n", "")
    assert halted.disk_of_guest() == "drive0"


def test_abort_of_what_stands_still(halted: Qemu) -> None:
    halted.do("job-pause", id="job0")
    assert "paused" in complaint_of("abort", halted.uri, "job0")
    assert run("abort", "--force", halted.uri, "job0") == (AS_ASKED, "CANCELLED\n", "")


def test_abort_becomes_forced(copying: FakeQemu) -> None:
    copying.do("ready")
    copying.do("hold-end")
    with started("abort", "--force-after", "0.05", copying.path, "job0") as tool:
        copying.wait("block-job-cancel")
        copying.wait("job-cancel")  # which forces
        copying.do("finish")
        assert end(tool) == (AS_ASKED, "CANCELLED\n", "")


def test_abort_that_comes_too_late(daemon: Qemu) -> None:
    daemon.add_chain()
    what = {"job_id": "job0", "device": "active", "auto_dismiss": False}
    daemon.do("block-stream", **what)
    daemon.wait_status("concluded")
    assert complaint_of("abort", daemon.uri, "job0") == "job job0 ended as COMPLETED"
    assert run("wait", daemon.uri, "job0") == (AS_ASKED, "COMPLETED\n", "")


# --------------------------------------------------------------------------------------- watch


def test_watch_in_lines(copying: FakeQemu) -> None:
    with started("watch", copying.path, "job0") as tool:
        assert read_line(tool) == "job0  mirror  running  0 %  0 B of 64.0 MiB"
        copying.do("progress", offset=2**25 + 2**16, len=2**26)
        assert read_line(tool) == "job0  mirror  running  50 %  32.1 MiB of 64.0 MiB"
        # Less than a percent is no line.
        copying.do("progress", offset=2**25 + 2**18, len=2**26)
        asked = sum(entry.get("command") == "query-jobs" for entry in copying.log())
        copying.wait("query-jobs", count=asked + 2)
        copying.do("io-error", action="stop", operation="write", nospace=True)
        while "make room" not in (line := read_line(tool)):
            assert "paused" in line
        copying.do("execute", command="block-job-resume", arguments={"device": "job0"})
        copying.do("ready")
        lines = [read_line(tool)]
        while "ready" not in lines[-1]:
            assert "50 %" in lines[-1]
            lines.append(read_line(tool))
        copying.do("execute", command="block-job-complete", arguments={"device": "job0"})
        status, output, complaint = end(tool)
    assert (status, complaint) == (AS_ASKED, "")
    assert output.splitlines()[-1] == "PIVOTED"
    assert "concluded" in output


def test_watch_of_what_ends_meanwhile(copying: FakeQemu) -> None:
    steps = [{"do": "fail", "error": "No space left on device"}]
    copying.do("when", command="x-debug-query-block-graph", at="done", steps=steps)
    said = "blockjob: job job0 ended as FAILED: No space left on device\n"
    assert run("watch", copying.path, "job0").complaint == said


def test_watch_on_a_terminal(copying: FakeQemu) -> None:
    ours, theirs = os.openpty()
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        os.fdopen(theirs, "wb") as end_of_the_tool,
        started("watch", copying.path, "job0", stdout=theirs) as tool,
    ):
        end_of_the_tool.close()
        shown = read_until(terminal, b"0 B of 64.0 MiB")
        copying.do("progress", offset=2**25, len=2**26)
        shown += read_until(terminal, b"32.0 MiB of 64.0 MiB")
        copying.do("ready")
        shown += read_until(terminal, b"ready")
        copying.do("execute", command="block-job-complete", arguments={"device": "job0"})
        shown += read_until(terminal, b"PIVOTED\r\n")
        assert end(tool).status == AS_ASKED
    # One line that is written again, and the end in the next.
    assert shown.count(b"\n") == 2
    first, last, _ = shown.split(b"\r\n")
    assert (last, first[:1]) == (b"PIVOTED", b"\r")
    assert all(len(text) < 80 for text in first.split(b"\r"))
    assert b"\x1b" not in shown
    # Nothing of what was there stays behind what is there now.
    texts = first.split(b"\r")
    assert all(len(now) >= len(was.rstrip()) for was, now in pairwise(texts))


def test_watch_of_what_is_over(daemon: Qemu) -> None:
    daemon.add_chain()
    daemon.do("block-stream", job_id="job0", device="active", auto_dismiss=False)
    daemon.wait_status("concluded")
    status, output, complaint = run("watch", daemon.uri, "job0")
    assert (status, output.splitlines()[-1], complaint) == (AS_ASKED, "COMPLETED", "")


# ---------------------------------------------------------------------- signals, pipes, mistakes


@pytest.mark.parametrize("command", ["wait", "pivot", "watch"])
def test_ctrl_c_ends_the_tool_and_not_the_job(copying: FakeQemu, command: str) -> None:
    with started(command, copying.path, "job0") as tool:
        attached(copying)
        tool.send_signal(signal.SIGINT)
        status, _, complaint = end(tool)
    # As a shell wants it: killed by the signal.
    assert (status, complaint) == (-signal.SIGINT, "")
    assert "running" in run("list", copying.path).output


def test_nobody_reads_the_output(fake: FakeQemu) -> None:
    with started("events", fake.path) as tool:
        listen(tool, fake)
        assert tool.stdout is not None
        tool.stdout.close()
        tool.stdout = None
        fake.do("emit", event="UNREAD", data={})
        status, _, complaint = end(tool)
    assert (status, complaint) == (-signal.SIGPIPE, "")


def test_output_that_can_not_be_written(fake: FakeQemu) -> None:
    with open("/dev/full", "w") as full, started("list", fake.path, stdout=full.fileno()) as tool:
        status, _, complaint = end(tool)
    assert (status, complaint) == (OTHERWISE, "blockjob: can't write: No space left on device\n")


@pytest.mark.parametrize("command", [["list"], ["wait", "--timeout", "0"]])
def test_c109_output_that_is_closed(copying: FakeQemu, command: list[str]) -> None:
    closing = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "blockjob", *command]
    job = [] if command == ["list"] else ["job0"]
    tool = subprocess.run([*closing, copying.path, *job], stderr=subprocess.PIPE, text=True)
    said = "blockjob: can't write: standard output is closed\n"
    assert (tool.returncode, tool.stderr) == (OTHERWISE, said)


def test_c06_an_integer_of_many_digits(fake: FakeQemu) -> None:
    with started("events", fake.path) as tool:
        listen(tool, fake)
        number = "1" * 5000
        fake.do("raw", text=f'{{"event": "LARGE", "data": {{"number": {number}}}}}\r\n')
        while (event := json.loads(read_line(tool)))["event"] == "PROBE":
            pass
        assert event["data"] == {"number": number}


@pytest.fixture
def failed(fake: FakeQemu) -> Callable[[str], FakeQemu]:
    """With a job that has failed with that text, and waits to be dismissed."""

    def fail(text: str) -> FakeQemu:
        what = {"job-id": "job0", "device": "drive0", "auto-dismiss": False}
        fake.do("execute", command="block-stream", arguments=what)
        fake.do("fail", error=text)
        return fake

    return fail


def test_what_a_peer_says_does_not_steer_the_terminal(failed: Callable[[str], FakeQemu]) -> None:
    fake = failed("\x1b[31mred\nand more")
    assert re.search(r" concluded .*  \?\[31mred\?and more\n$", run("list", fake.path).output)
    assert complaint_of("wait", fake.path, "job0").endswith("FAILED: ?[31mred?and more")


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_letters_that_the_locale_lacks(failed: Callable[[str], FakeQemu], locale: str) -> None:
    fake = failed("\u8ca1")
    command = [sys.executable, "-m", "blockjob", "list", fake.path]
    environment = os.environ | {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    listed = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert listed.stdout.endswith((b"  \\u8ca1\n", "  \u8ca1\n".encode()))
    assert listed.stderr == b""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["list"],
        ["list", "vm1"],
        ["unknown", "unix:/none"],
        ["wait", "unix:/none"],
        ["wait", "unix:/none", "job0", "--ready", "--done"],
        ["wait", "unix:/none", "job0", "--timeout", "-1"],
        ["wait", "unix:/none", "job0", "--timeout", "inf"],
        ["wait", "unix:/none", "job0", "--timeout", "soon"],
        ["wait", "unix:/none", "\udcff"],
        ["abort", "unix:/none", "job0", "--force", "--force-after", "1"],
        ["abort", "unix:/none", "job0", "--force-after", "0"],
    ],
)
def test_a_command_line_that_makes_no_sense(arguments: list[str]) -> None:
    status, output, complaint = run(*arguments)
    assert (status, output) == (USAGE, "")
    assert "blockjob" in complaint
    assert "Traceback" not in complaint


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("unix:/none/qmp", "can't connect to unix:/none/qmp"),
        ("tcp:127.0.0.1:1", "can't connect to tcp:127.0.0.1:1"),
        # Of which libvirt would print its own line, too.
        ("qemu+unix:///session?socket=/none/libvirt#vm1", "libvirt"),
    ],
)
def test_nobody_is_there(uri: str, says: str) -> None:
    assert says in complaint_of("list", uri)


@pytest.mark.parametrize("command", ["wait", "watch", "pivot", "abort"])
def test_a_job_that_there_is_not(fake: FakeQemu, command: str) -> None:
    assert "has no job nosuch" in complaint_of(command, fake.path, "nosuch")


def test_a_verb_that_does_not_fit(daemon: Qemu) -> None:
    daemon.add_chain()
    daemon.do("block-stream", job_id="job0", device="active", **HALTED)
    assert "has no pivot" in complaint_of("pivot", daemon.uri, "job0")
    assert "never ready" in complaint_of("wait", "--ready", daemon.uri, "job0")


def test_the_console_script() -> None:
    script = Path(sys.executable).with_name("blockjob")
    if not script.exists():
        pytest.skip("the package was not installed by pip")
    told = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == f"blockjob {blockjob.__version__}\n"


# ------------------------------------------------------------------------------ libvirt's domains


def test_a_domain_of_libvirts(domain: Domain) -> None:
    target = domain.copy("vda", "copy", halted=True)
    header, row = run("list", domain.uri).output.splitlines()
    assert row.split()[:3] == ["vda", "mirror", "running"]
    assert header.startswith("ID")
    assert complaint_of("wait", "--timeout", "0", domain.uri, "vda", status=TIMED_OUT)
    with started("watch", domain.uri, "vda") as watch:
        assert read_line(watch).startswith("vda  mirror  running")
        domain.release("vda")
        assert run("wait", "--ready", domain.uri, domain.path("vda")).output == "READY\n"
        assert "force" in complaint_of("abort", "--force", domain.uri, "vda")
        assert run("pivot", domain.uri, "vda") == (AS_ASKED, "PIVOTED\n", "")
        status, output, complaint = end(watch)
    assert (status, output.splitlines()[-1], complaint) == (AS_ASKED, "PIVOTED", "")
    assert "vda  mirror  ready" in output
    assert domain.source("vda") == target
    assert complaint_of("wait", domain.uri, "vda")


def test_a_domain_that_there_is_not(domain: Domain) -> None:
    assert "nosuch" in complaint_of("list", domain.host.uri("nosuch"))
