# SPDX-License-Identifier: MIT
# The module that SWIG makes: whole, as its stub says, and not to be crashed.

from __future__ import annotations

import ast
import itertools
import types
from pathlib import Path
from typing import Any

import blockjob
import pytest
from blockjob import _core
from children import run_child
from qemu import Qemu

STUB = ast.parse((Path(blockjob.__file__).parent / "_core.pyi").read_text())
FUNCTIONS = [node for node in STUB.body if isinstance(node, ast.FunctionDef)]


def make(function: Any, *args: Any) -> Any:
    """What a function returns through a parameter."""
    error, value = function(*args)
    assert error == _core.OK
    return value


def test_the_stub_says_what_is_there() -> None:
    named = {node.name for node in STUB.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in STUB.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            named.add(node.target.id)
    there = {name for name in vars(_core) if not name.startswith(("_", "SWIG_", "cvar"))}
    assert named == there


def test_what_is_hidden() -> None:
    names = " ".join(vars(_core))
    assert "closure" not in names
    assert "on_done" not in names
    assert "set_log" not in names


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_null_handles(function: ast.FunctionDef) -> None:
    arguments: list[Any] = []
    for argument in function.args.args:
        kind = ast.unparse(argument.annotation) if argument.annotation else ""
        if kind.startswith("tuple") and "None" not in kind:
            arguments.append((0, [], False))
            continue
        arguments.append(None if "None" in kind else "" if "str" in kind else 0)
    answer = getattr(_core, function.name)(*arguments)
    if isinstance(answer, _core.bj_future):
        assert _core.future_is_done(answer)
        assert _core.future_error(answer) < 0
        assert _core.future_text(answer)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
@pytest.mark.parametrize("wrong", [object(), b"bytes", 1.5])
def test_arguments_of_wrong_types(function: ast.FunctionDef, wrong: Any) -> None:
    call = getattr(_core, function.name)
    count = len(function.args.args)
    if count and not (function.name == "monitor_connect" and isinstance(wrong, bytes)):
        with pytest.raises(TypeError):
            call(*[wrong] * count)
    with pytest.raises(TypeError):
        call(*[None] * (count + 1))


def test_no_handle_is_made_by_hand() -> None:
    for name in ("ctx", "monitor", "job", "group", "future", "watch", "queue"):
        with pytest.raises(TypeError):
            getattr(_core, f"bj_{name}")()


def test_strings_are_whole_or_refused() -> None:
    with pytest.raises(ValueError, match="null"):
        _core.monitor_execute(None, "a\0b", None, 0)


def test_errors_and_outcomes_have_names() -> None:
    assert _core.error_name(_core.E_TIMEOUT) == "BJ_E_TIMEOUT"
    assert _core.outcome_name(_core.OUTCOME_PIVOTED) == "PIVOTED"
    for code in blockjob.ErrorCode:
        assert _core.error_name(code) == f"BJ_E_{code.name}"
        assert _core.error_text(code)
    for outcome in blockjob.Outcome:
        assert _core.outcome_name(outcome.value) == outcome.name
    constants = {name for name in vars(_core) if name.startswith("E_")}
    assert constants == {f"E_{code.name}" for code in blockjob.ErrorCode}
    assert blockjob.__version__ == _core.version()
    assert _core.version_number() == _core.VERSION_NUMBER


def test_limits() -> None:
    ctx = make(_core.ctx_new)
    assert make(_core.ctx_get_limit, ctx, _core.LIMIT_WATCH_RING) == 256
    assert _core.ctx_set_limit(ctx, _core.LIMIT_WATCH_RING, 8) == _core.OK
    assert make(_core.ctx_get_limit, ctx, _core.LIMIT_WATCH_RING) == 8
    assert _core.ctx_set_limit(ctx, _core.LIMIT_WATCH_RING, 0) == _core.E_INVAL


def all_handles(qemu: Qemu) -> dict[str, Any]:
    """One handle of each kind, all of them of one context."""
    ctx = make(_core.ctx_new)
    future = _core.monitor_connect(ctx, qemu.uri, 10_000)
    assert _core.future_wait(future, _core.TIMEOUT_NONE) == _core.OK
    monitor = _core.future_monitor(future)
    start = _core.monitor_mirror(monitor, "drive", "copy", "full", '{"speed": 1}', 10_000)
    assert _core.future_wait(start, _core.TIMEOUT_NONE) == _core.OK
    job = _core.future_job(start)
    pending = _core.job_done(job, _core.DONE_OVER, _core.TIMEOUT_NONE)
    queue = make(_core.queue_new, ctx)
    assert _core.future_deliver(pending, queue, 7) == _core.OK
    watch = make(_core.monitor_watch, monitor)
    assert _core.watch_deliver(watch, queue, 8) == _core.OK
    return {
        "ctx": ctx,
        "monitor": monitor,
        "job": job,
        "pending": pending,
        "queue": queue,
        "watch": watch,
    }


def test_handles_go_in_any_order(daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    for order in itertools.islice(itertools.permutations(range(6)), 0, None, 37):
        handles = list(all_handles(daemon).values())
        for index in order:
            handles[index] = None
        daemon.do("block-job-cancel", device=next(iter(daemon.jobs())), force=True)
        daemon.wait_status("concluded")
        for job_id in daemon.jobs():
            daemon.do("job-dismiss", id=job_id)


def test_handles_outlive_the_close_of_their_context(daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    handles = types.SimpleNamespace(**all_handles(daemon))
    assert _core.ctx_close(handles.ctx) == _core.OK
    assert _core.ctx_close(handles.ctx) == _core.OK
    tokens = {record[0] for record in make(_core.queue_read, handles.queue)}
    assert tokens == {7, 8}
    assert _core.future_error(handles.pending) < 0
    assert _core.job_type(handles.job) == "mirror"
    assert _core.monitor_uri(handles.monitor) == daemon.uri
    late = _core.job_pause(handles.job, 0)
    assert _core.future_is_done(late)
    assert _core.future_error(late) < 0


def test_a_batch_is_one_call(daemon: Qemu) -> None:
    ctx = make(_core.ctx_new)
    queue = make(_core.queue_new, ctx)
    connecting = _core.monitor_connect(ctx, daemon.uri, 10_000)
    assert _core.future_wait(connecting, _core.TIMEOUT_NONE) == _core.OK
    monitor = _core.future_monitor(connecting)
    futures = []
    for token in range(1, 6):
        future = _core.monitor_execute(monitor, "query-jobs", None, 10_000)
        assert _core.future_deliver(future, queue, token) == _core.OK
        futures.append(future)
    for future in futures:
        assert _core.future_wait(future, _core.TIMEOUT_NONE) == _core.OK
    records = make(_core.queue_read, queue)
    assert len(records) == 5
    assert sorted(record[0] for record in records) == [1, 2, 3, 4, 5]
    for record in records:
        assert record[1:3] == (_core.RECORD_FUTURE, _core.OK)
        assert record[9] == "[]"
    assert make(_core.queue_read, queue) == []


@pytest.mark.parametrize(
    "wait",
    [
        "_core.future_wait(_core.job_done(job, 0, -1), -1)",
        "_core.watch_next(watch, -1)",
    ],
)
def test_b73_the_gil_is_free_while_waiting(daemon: Qemu, wait: str) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    # Would the wait keep the GIL, the other thread could never say "go on".
    output = run_child(
        f"""
        import threading
        from blockjob import _core
        _, ctx = _core.ctx_new()
        connecting = _core.monitor_connect(ctx, {daemon.uri!r}, 10000)
        _core.future_wait(connecting, -1)
        monitor = _core.future_monitor(connecting)
        start = _core.monitor_mirror(
            monitor, "drive", "copy", "full", '{{"speed": 1, "buf-size": 65536}}', 10000
        )
        _core.future_wait(start, -1)
        job = _core.future_job(start)
        _, watch = _core.monitor_watch(monitor)
        aborts = []
        abort = lambda: aborts.append(_core.job_abort(job, _core.ABORT_FORCE, -1))
        threading.Timer(0.1, abort).start()
        {wait}
        print("done")
        """
    )
    assert output == "done\n"
