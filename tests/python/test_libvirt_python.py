# SPDX-License-Identifier: MIT
# blockjob.libvirt without libvirt: with a double of libvirt-python, as unit tests have one.
# tests/nova has libvirt-python itself.

from __future__ import annotations

import copy
import gc
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import blockjob
import blockjob.libvirt
import pytest

DOUBLE = "a_double_of_libvirt"
# Not libvirt's own numbers: names decide.
READY, COMPLETED, FAILED, CANCELED = 11, 12, 13, 14
OPERATION_FAILED, OPERATION_ABORTED, INVALID_ARG = 21, 22, 23


class LibvirtError(Exception):
    """Has libvirt-python's `err`."""

    err: tuple[Any, ...]


class Connection:
    """Has libvirt-python's registration of callbacks."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., None], Any]] = {}

    def domainEventRegisterAny(
        self, domain: Any, event: int, callback: Callable[..., None], opaque: Any
    ) -> int:
        self.callbacks[event] = callback, opaque
        return event

    def domainEventDeregisterAny(self, callback: int) -> None:
        del self.callbacks[callback]


class Domain:
    """Reports what it is told to while its copy starts."""

    __module__ = DOUBLE

    def __init__(self, *statuses: int) -> None:
        self.connection = Connection()
        self.calls: list[tuple[Any, ...]] = []
        self._statuses = statuses

    def connect(self) -> Connection:
        return self.connection

    def report(self, disk: str, status: int) -> None:
        for callback, opaque in self.connection.callbacks.values():
            callback(self.connection, self, disk, 2, status, opaque)

    def blockCopy(self, disk: str, destxml: str, flags: int = 0) -> int:
        self.calls.append(("blockCopy", disk, destxml, flags))
        self.report("another", FAILED)
        for status in self._statuses:
            self.report(disk, status)
        return 0

    def blockJobAbort(self, disk: str, flags: int = 0) -> int:
        self.calls.append(("blockJobAbort", disk, flags))
        return 0


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType(DOUBLE)
    vars(module).update(
        libvirtError=LibvirtError,
        VIR_FROM_QEMU=1,
        VIR_ERR_OPERATION_FAILED=OPERATION_FAILED,
        VIR_ERR_OPERATION_ABORTED=OPERATION_ABORTED,
        VIR_ERR_INVALID_ARG=INVALID_ARG,
        VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2=16,
        VIR_DOMAIN_BLOCK_JOB_READY=READY,
        VIR_DOMAIN_BLOCK_JOB_COMPLETED=COMPLETED,
        VIR_DOMAIN_BLOCK_JOB_FAILED=FAILED,
        VIR_DOMAIN_BLOCK_JOB_CANCELED=CANCELED,
    )
    monkeypatch.setitem(sys.modules, DOUBLE, module)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def start(domain: Domain) -> blockjob.libvirt.BlockJobs:
    jobs = blockjob.libvirt.BlockJobs(domain)
    assert jobs.blockCopy("vda", "<disk/>", flags=2) == 0
    return jobs


@pytest.mark.parametrize("statuses", [[READY], [COMPLETED], [READY, COMPLETED]])
def test_a_report_during_the_start_is_not_missed(statuses: list[int]) -> None:
    jobs = start(Domain(*statuses))
    assert jobs.wait("vda")
    assert jobs.wait("vda", timeout=0)


@pytest.mark.parametrize(
    ("statuses", "code", "outcome"),
    [
        ([FAILED], OPERATION_FAILED, blockjob.Outcome.FAILED),
        ([READY, CANCELED], OPERATION_ABORTED, blockjob.Outcome.CANCELLED),
    ],
)
def test_c58_errors_are_of_the_double(
    statuses: list[int], code: int, outcome: blockjob.Outcome
) -> None:
    jobs = start(Domain(*statuses))
    for _ in range(2):
        with pytest.raises(LibvirtError) as caught:
            jobs.wait("vda")
        assert caught.value.err[0] == code
        assert isinstance(caught.value.__cause__, blockjob.Error)
        assert caught.value.__cause__.outcome is outcome


def test_c58_a_wait_whose_time_is_over_is_no_error() -> None:
    domain = Domain()
    jobs = start(domain)
    assert not jobs.wait("vda", timeout=0)
    threading.Timer(0.01, domain.report, ["vda", READY]).start()
    assert jobs.wait("vda")


def test_c58_a_time_that_is_none() -> None:
    with pytest.raises(LibvirtError) as caught:
        start(Domain()).wait("vda", timeout=-1)
    assert caught.value.err[0] == INVALID_ARG


def test_calls_are_handed_on() -> None:
    domain = Domain(READY)
    assert start(domain).blockJobAbort("vda", 2) == 0
    assert domain.calls == [("blockCopy", "vda", "<disk/>", 2), ("blockJobAbort", "vda", 2)]


def test_what_is_no_domain() -> None:
    with pytest.raises(blockjob.InvalidArgument, match="virDomain, not int"):
        blockjob.libvirt.BlockJobs(7)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("status", [READY, FAILED])
def test_c107_nothing_awaits_the_garbage_collector(status: int) -> None:
    domain = Domain(status)
    jobs = start(domain)
    try:
        jobs.wait("vda")
    except LibvirtError:
        assert status == FAILED
    connection = domain.connection
    gone = [weakref.ref(each) for each in (jobs, domain, jobs._jobs["vda"])]
    del domain, jobs
    assert [ref() for ref in gone] == [None] * 3
    assert not connection.callbacks


def test_c107_it_is_copied() -> None:
    other = copy.copy(start(Domain(READY)))
    assert other.wait("vda")
