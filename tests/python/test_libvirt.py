# SPDX-License-Identifier: MIT
# The disks of libvirt's domains, through both front-ends, on a real libvirtd and real QEMUs.

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import blockjob
import pytest
from blockjob import ChangeKind, EventKind, Limit, Outcome, RecordKind
from libvirtd import HALTED, Domain, Libvirtd

Connect = Callable[..., Awaitable[Any]]


async def copy(monitor: Any, domain: Domain, name: str = "copy", **options: Any) -> Any:
    """A copy of vda into a new image of that name."""
    target = domain.make_empty(name)
    return await monitor.mirror("vda", target=target, format="qcow2", reuse=True, **options)


async def halted_copy(monitor: Any, domain: Domain, **options: Any) -> Any:
    return await copy(monitor, domain, bandwidth=HALTED, buf_size=65536, **options)


async def until(events: Any, kind: EventKind) -> None:
    async for event in events:
        if event.kind is kind:
            break


async def test_b64_ready_then_pivot_is_never_refused(connect: Connect, domain: Domain) -> None:
    async with await connect(domain.uri) as monitor:
        for number in range(5):
            job = await copy(monitor, domain, f"copy{number}")
            await job.ready()
            assert await job.pivot(only_if_ready=True) is Outcome.PIVOTED
            assert domain.source("vda") == domain.path(f"copy{number}")


async def test_b31_a_pivot_waits_for_ready(connect: Connect, domain: Domain) -> None:
    async with await connect(domain.uri) as monitor:
        job = await halted_copy(monitor, domain)
        with pytest.raises(blockjob.NotReady):
            await job.pivot(only_if_ready=True)
        pivots = [asyncio.ensure_future(job.pivot()) for _ in range(3)]
        await job.set_speed(0)
        assert await asyncio.gather(*pivots) == [Outcome.PIVOTED] * 3


async def test_b66_an_abort_tells_what_the_copy_is_worth(connect: Connect, domain: Domain) -> None:
    async with await connect(domain.uri) as monitor:
        job = await copy(monitor, domain, "good")
        await job.ready()
        with pytest.raises(blockjob.Unsupported):
            await job.abort(force=True)
        assert await job.abort() is Outcome.COPIED
        assert await job.done(released=True) is Outcome.COPIED
        job = await halted_copy(monitor, domain)
        assert await job.abort() is Outcome.CANCELLED
        assert domain.source("vda") == domain.path("vda")
        assert domain.same_data(domain.path("vda"), domain.path("good"))


@pytest.mark.parametrize(
    ("verb", "outcome"), [("pivot", Outcome.PIVOTED), ("abort", Outcome.COPIED)]
)
async def test_b15_another_clients_verb_is_told(
    connect: Connect, domain: Domain, verb: str, outcome: Outcome
) -> None:
    async with await connect(domain.uri) as monitor:
        domain.copy("vda", "theirs")
        job = await monitor.attach("vda")
        await job.ready()
        await asyncio.to_thread(getattr(domain, verb), "vda")
        assert await job.done() is outcome


@pytest.mark.parametrize("theirs", ["pivot", "abort"])
@pytest.mark.parametrize("ours", ["pivot", "abort"])
async def test_c30_a_verb_beside_another_clients(
    connect: Connect, domain: Domain, ours: str, theirs: str
) -> None:
    outcome = Outcome.PIVOTED if theirs == "pivot" else Outcome.COPIED
    async with await connect(domain.uri, limits={Limit.STALL: 0.01}) as monitor:
        job = await monitor.mirror("vda", target=domain.store(), reuse=True)
        await job.ready()
        domain.stop_store()
        domain.begin_to(theirs, "vda")

        verb = asyncio.ensure_future(getattr(job, ours)())
        assert not (await asyncio.wait([verb], timeout=0.2))[0]
        domain.go_on_store()

        if (ours, theirs) == ("pivot", "abort"):
            with pytest.raises(blockjob.JobEnded):
                await verb
        else:
            assert await verb is outcome
        assert job.outcome is outcome


async def test_b69_path_and_target_are_the_same_job(connect: Connect, domain: Domain) -> None:
    async with await connect(domain.uri) as monitor:
        domain.copy("vda", "theirs", halted=True)
        job = await monitor.attach(domain.path("vda"))
        assert job.id == "vda"
        assert job == await monitor.attach("vda")
        assert job.type == "mirror"
        await job.abort()


async def test_b11_a_copy_that_fails_says_why(connect: Connect, domain: Domain) -> None:
    store = domain.store(failing=True)
    async with await connect(domain.uri) as monitor:
        job = await monitor.mirror("vda", target=store, reuse=True, bandwidth=HALTED)
        await job.set_speed(0)
        with pytest.raises(blockjob.JobFailed, match="No space left on device"):
            await job.done()


async def test_b09_commit_and_pull(connect: Connect, domain: Domain) -> None:
    over = domain.snapshot("vda", "over")
    async with await connect(domain.uri) as monitor:
        job = await monitor.commit("vda", active=True)
        assert await job.pivot() is Outcome.PIVOTED
        assert domain.chain("vda") == [domain.path("vda")]
        over = domain.snapshot("vda", "again")
        job = await monitor.stream("vda")
        assert await job.done() is Outcome.COMPLETED
        assert domain.chain("vda") == [over]


def backup_xml(domain: Domain, *targets: str) -> str:
    paths = {target: domain.path(f"backup-{target}") for target in targets}
    disks = "".join(
        f"<disk name='{target}' type='file'><target file='{path}'/></disk>"
        for target, path in paths.items()
    )
    return f"<domainbackup><disks>{disks}</disks></domainbackup>"


@pytest.fixture
def backups(libvirtd: Libvirtd) -> None:
    if "back up" not in libvirtd.can:
        pytest.skip("this libvirt, or its QEMU, cannot back up")


@pytest.fixture
def stored(libvirtd: Libvirtd, backups: None) -> Domain:
    """A domain whose vdc and vdd halt and fail the jobs that read them."""
    return libvirtd.domain(None, "vda", "vdb", "vdc", "vdd", stored=("vdc", "vdd"))


async def test_c05_a_backup_that_leaves_out_the_disk_is_not_started(
    connect: Connect, domain: Domain
) -> None:
    async with await connect(domain.uri) as monitor:
        with pytest.raises(blockjob.InvalidArgument, match="vdb"):
            await monitor.start(
                "virDomainBackupBegin", disk="vdb", backupxml=backup_xml(domain, "vda")
            )
        assert await monitor.jobs() == []


async def test_c12_a_backup_is_one_job(connect: Connect, stored: Domain) -> None:
    stored.stop_store()
    stored.begin_backup(backup_xml(stored, "vdc", "vdd"))
    async with await connect(stored.uri) as monitor:
        job = await monitor.attach("vdd")
        assert (job.id, job.type, job.disks) == ("backup", "backup", ["vdc", "vdd"])
        assert job == await monitor.attach("backup")
        assert [row.id for row in await monitor.jobs()] == ["backup"]
        stored.go_on_store()
        assert await job.done() is Outcome.COMPLETED
        assert stored.same_data(stored.path("store"), stored.path("backup-vdc"))


async def test_c12_a_disk_that_fails_fails_the_backup(connect: Connect, stored: Domain) -> None:
    stored.stop_store()
    async with await connect(stored.uri) as monitor:
        job = await monitor.start(
            "virDomainBackupBegin", disk="vdc", backupxml=backup_xml(stored, "vdc", "vdd")
        )
        assert job.disks == ["vdc", "vdd"]
        stored.kill_store()
        with pytest.raises(blockjob.JobFailed, match=r"vd[cd]: Input/output error"):
            await job.done()
        assert job.outcome is Outcome.FAILED


@pytest.mark.usefixtures("backups")
async def test_w03_a_backup_by_options(connect: Connect, domain: Domain) -> None:
    async with await connect(domain.uri) as monitor:
        disks = {target: domain.path(f"backup-{target}") for target in ("vda", "vdb")}
        job = await monitor.start("backup", disks=disks, checkpoint="one")
        assert (job.id, job.disks) == ("backup", ["vda", "vdb"])
        assert await job.done() is Outcome.COMPLETED
        for target, path in disks.items():
            assert domain.same_data(domain.path(target), path)
        disks = {"vda": domain.path("incremental")}
        job = await monitor.start("backup", disks=disks, incremental="one", checkpoint="two")
        assert await job.done() is Outcome.COMPLETED


@pytest.mark.usefixtures("backups")
async def test_w03_a_pull_ends_by_an_abort(connect: Connect, domain: Domain) -> None:
    async with await connect(domain.uri) as monitor:
        job = await monitor.start(
            "backup",
            mode="pull",
            disks={"vda": domain.path("scratch")},
            server=f"unix:{domain.path('nbd')}",
        )
        assert job == await monitor.attach("vda")
        assert await job.abort() is Outcome.COMPLETED


@pytest.mark.usefixtures("backups")
async def test_w03_bad_options_are_named(connect: Connect, domain: Domain) -> None:
    async with await connect(domain.uri) as monitor:
        good = {"vda": domain.path("backup")}
        for options, word in (
            ({"disks": good | {"vdz": "/z"}}, "vdz"),
            ({"disks": good | {"vdb": None}}, "disks"),
            ({"disks": good, "no_such_option": 1}, "no-such-option"),
            ({"disks": good, "mode": "pull"}, "server"),
        ):
            with pytest.raises(blockjob.InvalidArgument, match=word):
                await monitor.start("backup", **options)
        with pytest.raises(blockjob.Refused, match="nowhere"):
            await monitor.start("backup", disks=good, incremental="nowhere")
        assert await monitor.jobs() == []


async def test_b60_a_watch_sees_all(connect: Connect, domain: Domain) -> None:
    async with await connect(domain.uri) as monitor:
        job = await halted_copy(monitor, domain)
        records = job.watch()
        await job.set_speed(0)
        await job.pivot()
        kinds = [record.kind async for record in records]
        assert [kind for kind in kinds if kind is not RecordKind.STATUS] == [
            RecordKind.READY,
            RecordKind.ENDED,
        ]


async def test_b60_every_job_of_a_domain(connect: Connect, domain: Domain) -> None:
    async with await connect(domain.uri) as monitor:
        changes = monitor.watch_jobs()
        domain.copy("vda", "theirs")
        seen: list[Any] = []
        async for change in changes:
            seen.append(change)
            if change.kind is ChangeKind.READY:
                assert await change.job.pivot() is Outcome.PIVOTED
            if change.kind is ChangeKind.RELEASED:
                break
    assert [change.kind.name for change in seen] == ["APPEARED", "READY", "ENDED", "RELEASED"]
    assert {(change.job.id, change.type) for change in seen} == {("vda", "mirror")}
    assert not seen[0].started
    assert seen[2].outcome is Outcome.PIVOTED
    assert domain.source("vda") == domain.path("theirs")


@pytest.mark.parametrize("end", ["kill", "destroy"])
async def test_b65_the_end_of_the_domain_answers_all(
    connect: Connect, domain: Domain, end: str
) -> None:
    async with await connect(domain.uri) as monitor:
        job = await halted_copy(monitor, domain)
        waits = [asyncio.ensure_future(wait()) for wait in (job.ready, job.done, job.pivot)]
        closed = asyncio.ensure_future(monitor.closed())
        await asyncio.to_thread(getattr(domain, end))
        for wait in waits:
            with pytest.raises(blockjob.JobLost):
                await wait
        assert isinstance(await closed, blockjob.Disconnected)


async def test_b67_a_stuck_domain_delays_no_other(
    connect: Connect, libvirtd: Libvirtd, domain: Domain
) -> None:
    other = libvirtd.domain()
    async with await connect(domain.uri) as stuck, await connect(other.uri) as monitor:
        halted = await halted_copy(stuck, domain)
        domain.stop()
        waiting = asyncio.ensure_future(halted.set_speed(0))
        with pytest.raises(blockjob.Timeout):
            await halted.query(timeout=0.02)
        job = await copy(monitor, other)
        assert await job.pivot() is Outcome.PIVOTED
        assert not waiting.done()
        domain.go_on()
        await waiting
        await halted.ready()


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_b70_a_restart_of_libvirtd_is_waited_through(
    connect: Connect, domain: Domain, end: str
) -> None:
    async with await connect(domain.uri, reconnect=60) as monitor:
        job = await halted_copy(monitor, domain)
        waiting = asyncio.ensure_future(job.pivot())
        await asyncio.to_thread(getattr(domain.host, end))
        await asyncio.to_thread(domain.host.start)
        await asyncio.to_thread(domain.release, "vda")
        assert await waiting is Outcome.PIVOTED


class Way:
    """A way to a libvirtd that can be closed: then no monitor comes back by it."""

    def __init__(self, host: Libvirtd, folder: Path) -> None:
        self._host = host
        self._path = folder / "way"
        self._socket = host.connection.partition("socket=")[2]
        self.open()

    def open(self) -> None:
        self._path.symlink_to(self._socket)

    def uri(self, domain: Domain) -> str:
        return domain.uri.replace(self._socket, str(self._path))

    def lose(self) -> None:
        """Libvirtd dies and is started again, behind the back of those who came by the way."""
        self._path.unlink()
        self._host.kill()
        self._host.start()


@pytest.mark.parametrize(("verb", "outcome"), [("pivot", Outcome.PIVOTED), ("abort", Outcome.LOST)])
async def test_c19_a_copy_that_ends_while_we_are_away(
    connect: Connect, domain: Domain, tmp_path: Path, verb: str, outcome: Outcome
) -> None:
    way = Way(domain.host, tmp_path)
    async with await connect(way.uri(domain), reconnect=60) as monitor:
        job = await copy(monitor, domain)
        await job.ready()
        await asyncio.to_thread(way.lose)
        await asyncio.to_thread(getattr(domain, verb), "vda")
        way.open()
        if outcome is Outcome.LOST:
            with pytest.raises(blockjob.JobLost):
                await job.done()
        else:
            await job.done()
        assert job.outcome is outcome


async def test_c130_another_clients_next_copy_is_not_pivoted(
    connect: Connect, domain: Domain, tmp_path: Path
) -> None:
    way = Way(domain.host, tmp_path)
    async with await connect(way.uri(domain), reconnect=60) as monitor:
        pivot = asyncio.ensure_future((await halted_copy(monitor, domain)).pivot())
        await asyncio.to_thread(way.lose)
        domain.abort("vda")
        domain.copy("vda", "theirs")
        domain.await_mirror("vda", "ready")
        way.open()
        with pytest.raises(blockjob.JobLost):
            await pivot
        assert domain.mirror("vda") == "ready"


async def test_b45_a_dead_libvirtd_answers_all(connect: Connect, domain: Domain) -> None:
    async with await connect(domain.uri) as monitor:
        job = await halted_copy(monitor, domain)
        waiting = asyncio.ensure_future(job.done())
        await asyncio.to_thread(domain.host.kill)
        try:
            with pytest.raises(blockjob.JobLost):
                await waiting
            with pytest.raises(blockjob.ConnectError, match="libvirt-sock"):
                await connect(domain.uri)
        finally:
            await asyncio.to_thread(domain.host.start)


async def attach_to_migration(monitor: Any) -> Any:
    while True:
        try:
            return await monitor.attach("vda")
        except blockjob.NoJob:
            await asyncio.sleep(0.001)


async def test_c11_a_migration_takes_no_verb(
    connect: Connect, libvirtd: Libvirtd, other_libvirtd: Libvirtd
) -> None:
    domain = libvirtd.domain(None, "vda", large=True)
    async with await connect(domain.uri) as monitor:
        await asyncio.to_thread(domain.migrate, other_libvirtd, slowly=True)
        job = await attach_to_migration(monitor)
        assert job.type == "migration"
        assert [row.type for row in await monitor.jobs()] == ["migration"]
        with pytest.raises(blockjob.StateError):
            await job.pivot()
        with pytest.raises(blockjob.Unsupported, match="virsh domjobabort"):
            await job.abort()
        await asyncio.to_thread(domain.abort_migration)
        assert await job.done() is Outcome.CANCELLED
        assert await asyncio.to_thread(domain.migrated)
        assert domain.source("vda") == domain.path("vda")


async def test_b39_bad_input_is_named(connect: Connect, domain: Domain) -> None:
    host = domain.host
    with pytest.raises(blockjob.ConnectError, match="no-such-vm"):
        await connect(host.uri("no-such-vm"))
    with pytest.raises(blockjob.InvalidArgument):
        await connect(host.connection)
    async with await connect(domain.uri) as monitor:
        with pytest.raises(blockjob.NoJob, match="vda"):
            await monitor.attach("vda")
        with pytest.raises(blockjob.Refused, match="vdz"):
            await monitor.stream("vdz")
        with pytest.raises(blockjob.InvalidArgument, match="no-such-option"):
            await copy(monitor, domain, no_such_option=1)
        with pytest.raises(blockjob.Unsupported):
            await monitor.execute("query-version")
        assert await monitor.jobs() == []


@pytest.mark.parametrize("end", ["kill", "destroy"])
async def test_w08_a_domain_that_is_started_again(
    connect: Connect, libvirtd: Libvirtd, end: str
) -> None:
    domain = libvirtd.domain(persistent=True)
    async with await connect(domain.uri, reconnect=math.inf) as monitor:
        events = monitor.events()
        job = await halted_copy(monitor, domain, transient=True)
        waiting = asyncio.ensure_future(job.pivot())
        await asyncio.to_thread(getattr(domain, end))
        with pytest.raises(blockjob.JobLost):
            await waiting
        await until(events, EventKind.DISCONNECTED)
        await asyncio.to_thread(libvirtd.domain)  # another one is none of its business
        await asyncio.to_thread(domain.begin)
        await until(events, EventKind.RECONNECTED)
        assert job.outcome is Outcome.LOST
        assert await monitor.jobs() == []
        job = await copy(monitor, domain, "second", transient=True)
        assert await job.pivot() is Outcome.PIVOTED


async def test_w08_a_domain_that_nobody_starts(connect: Connect, libvirtd: Libvirtd) -> None:
    domain = libvirtd.domain(persistent=True)
    async with await connect(domain.uri, reconnect=0.3) as monitor:
        await asyncio.to_thread(domain.destroy)
        end = await monitor.closed()
        assert isinstance(end, blockjob.Disconnected)
        assert "not started again" in str(end)


async def test_w08_a_reader_watches_and_steers_nothing(connect: Connect, domain: Domain) -> None:
    async with await connect(f"{domain.uri}?readonly") as monitor:
        changes = monitor.watch_jobs()
        await asyncio.to_thread(domain.copy, "vda", "theirs", halted=True)
        job = await monitor.attach("vda")
        assert [info.id for info in await monitor.jobs()] == ["vda"]
        for verb in (job.pivot, job.abort, lambda: job.set_speed(0), lambda: monitor.stream("vdb")):
            with pytest.raises(blockjob.Refused, match=r"read only.*\?readonly") as refused:
                await verb()
            assert refused.value.error_class == "29"
        assert domain.mirror("vda") == "running"
        await asyncio.to_thread(domain.release, "vda")
        await job.ready()
        await asyncio.to_thread(domain.pivot, "vda")
        assert await job.done() is Outcome.PIVOTED
        kinds: list[str] = []
        async for change in changes:
            kinds.append(change.kind.name)
            if change.kind is ChangeKind.RELEASED:
                break
        assert kinds == ["APPEARED", "READY", "ENDED", "RELEASED"]
    with pytest.raises(blockjob.InvalidArgument, match="%3F"):
        await connect(f"{domain.uri}?ro")


async def test_b39_an_odd_name_and_a_uuid(connect: Connect, libvirtd: Libvirtd) -> None:
    domain = libvirtd.domain(f"a vm#1 of ünïcode %41 {connect.__name__}")
    for uri in (domain.uri, libvirtd.uri(domain.uuid)):
        async with await connect(uri) as monitor:
            assert await monitor.jobs() == []


async def test_b39_a_domain_that_does_not_run(connect: Connect, libvirtd: Libvirtd) -> None:
    asleep = libvirtd.domain(running=False)
    with pytest.raises(blockjob.ConnectError, match=rf"(?s){asleep.name}.*running"):
        await connect(asleep.uri)


async def test_b68_a_domain_of_libvirt_python(connect: Connect, domain: Domain) -> None:
    libvirt = pytest.importorskip("libvirt")
    theirs = await asyncio.to_thread(libvirt.open, domain.host.connection)
    try:
        handle = theirs.lookupByName(domain.name)
        async with await connect(handle) as monitor:
            job = await copy(monitor, domain)
            assert await job.pivot() is Outcome.PIVOTED
        assert handle.isActive() == 1
        del handle
    finally:
        theirs.close()
