# SPDX-License-Identifier: MIT
# Lets one test run on both front-ends of the package.
"""The asyncio front-end as it is, and blockjob.sync with each call on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import blockjob
import blockjob.sync

_END = object()


async def in_thread(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """What the call returns, from a thread that keeps nothing from ending."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def settle(set_it: Callable[[Any], None], value: Any) -> None:
        if not done.done():
            set_it(value)

    def run() -> None:
        try:
            value = call(*args, **keywords)
        except BaseException as error:
            told = (done.set_exception, error)
        else:
            told = (done.set_result, value)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *told)

    threading.Thread(target=run, daemon=True).start()
    return await done


class Threaded:
    """A `blockjob.sync` object, to be awaited like its asyncio twin."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if not callable(value) or name in ("has_command", "set_reconnect"):
            return value
        if name in ("events", "progress", "watch", "watch_jobs"):
            return lambda *args, **keywords: Threaded(value(*args, **keywords))

        async def call(*args: Any, **keywords: Any) -> Any:
            return _wrap(await in_thread(value, *args, **keywords))

        return call

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Threaded) and bool(self.inner == other.inner)

    def __hash__(self) -> int:
        return hash(self.inner)

    def __repr__(self) -> str:
        return repr(self.inner)

    def __aiter__(self) -> Threaded:
        return self

    async def __anext__(self) -> Any:
        item = await in_thread(next, self.inner, _END)
        if item is _END:
            raise StopAsyncIteration
        return _wrap(item)

    async def __aenter__(self) -> Threaded:
        self.inner.__enter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await in_thread(self.inner.__exit__, *error)


def _wrap(value: Any) -> Any:
    if isinstance(value, list):
        return [_wrap(item) for item in value]
    if isinstance(value, blockjob.JobChange):
        return replace(value, job=_wrap(value.job))
    kinds = (blockjob.sync.Monitor, blockjob.sync.Job)
    return Threaded(value) if isinstance(value, kinds) else value


async def connect_asyncio(*args: Any, **keywords: Any) -> Any:
    return await blockjob.connect(*args, **keywords)


async def connect_sync(*args: Any, **keywords: Any) -> Any:
    return _wrap(await in_thread(blockjob.sync.connect, *args, **keywords))
