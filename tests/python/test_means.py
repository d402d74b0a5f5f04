# SPDX-License-Identifier: MIT
# What the system refuses: descriptors. Each connect says so; nothing ends the process.

from __future__ import annotations

from children import run_child

# Connects with 0, 1, ... descriptors free, each time in a context of its own.
PROGRAM = """
    import asyncio, os, resource
    import blockjob, blockjob.sync

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    def hoard(free):
        held = []
        while True:
            try:
                held.append(os.dup(2))
            except OSError:
                break
        for _ in range(free):
            os.close(held.pop())
        return held

    def outcome(error):
        if isinstance(error, blockjob.ConnectError):
            return "nobody"
        says_what = "descriptor" in str(error) or "open files" in str(error)
        return "refused" if says_what else repr(error)

    def sync_once(free):
        held = hoard(free)
        try:
            blockjob.sync.connect("/nowhere.qmp", limits={blockjob.Limit.QUEUED: 100 + free})
        except blockjob.Error as error:
            return outcome(error)
        finally:
            for fd in held:
                os.close(fd)

    async def async_once(free):
        held = hoard(free)
        try:
            await blockjob.connect("/nowhere.qmp", limits={blockjob.Limit.QUEUED: 200 + free})
        except blockjob.Error as error:
            return outcome(error)
        finally:
            for fd in held:
                os.close(fd)

    async def async_all():
        return [await async_once(free) for free in range(12)]

    print(*[sync_once(free) for free in range(12)])
    print(*asyncio.run(async_all()))
    """


def test_c43_every_number_of_free_descriptors() -> None:
    for line in run_child(PROGRAM).splitlines():
        outcomes = line.split()
        refusals = outcomes.count("refused")
        assert refusals > 0
        assert outcomes == ["refused"] * refusals + ["nobody"] * (12 - refusals)
