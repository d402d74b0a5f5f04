# SPDX-License-Identifier: MIT
# Nova's BlockDevice with blockjob.nova, on a real domain: what it waits for, and what it says.

from __future__ import annotations

import pytest
from libvirtd import Domain
from managers import Compute, Failure, until

# libvirt's error codes.
VIR_ERR_OPERATION_FAILED = 9
VIR_ERR_NO_DOMAIN = 42
VIR_ERR_OPERATION_INVALID = 55
VIR_ERR_OPERATION_TIMEOUT = 68
VIR_ERR_OPERATION_ABORTED = 78
VIR_ERR_BLOCK_COPY_ACTIVE = 83


def start_copy(domain: Domain, name: str = "copy", xml: str | None = None) -> str:
    """Source that makes `dev` and starts a copy."""
    xml = xml or (
        f"<disk type='file'><driver type='qcow2'/><source file='{domain.make_empty(name)}'/></disk>"
    )
    return f"""
dev = compute.device({domain.uuid!r}, "vda")
dev.copy({xml!r}, reuse_ext=True)
"""


def attach(domain: Domain, disk: str = "vda") -> str:
    """Source that makes `dev`, which has started nothing."""
    return f"dev = compute.device({domain.uuid!r}, {disk!r})\n"


def test_b04_what_has_already_happened(compute: Compute, domain: Domain) -> None:
    compute.do(start_copy(domain) + "compute.kept = dev")
    domain.await_mirror("vda", "ready")
    assert compute.do("compute.kept.wait_for_job('ready'); result = compute.kept.is_job_complete()")
    domain.pivot("vda")
    assert compute.do("compute.kept.wait_for_job('done'); result = compute.kept.is_job_complete()")


def test_b10_a_job_that_fails_is_not_complete(compute: Compute, domain: Domain) -> None:
    store = domain.store(failing=True)
    compute.do(start_copy(domain, xml=store) + "compute.kept = dev")
    domain.await_mirror("vda", "none")
    for ask in ("is_job_complete()", "wait_for_job('ready')", "wait_for_job('done')"):
        with pytest.raises(Failure) as caught:
            compute.do(f"compute.kept.{ask}")
        assert caught.value.type == "libvirtError"
        assert caught.value.code == VIR_ERR_OPERATION_FAILED
        assert caught.value.text == "No space left on device"
        assert caught.value.cause is not None
        assert caught.value.cause.type == "JobFailed"
    compute.do("compute.kept.abort_job()")  # there is nothing left to abort


def test_b10_a_job_that_another_client_cancels_is_not_complete(
    compute: Compute, domain: Domain
) -> None:
    domain.copy("vda", "copy", halted=True)
    compute.do(attach(domain) + "compute.kept = dev")
    wait = compute.start("compute.kept.wait_for_job('done')")
    until(lambda: compute.do("result = compute.kept._job is not None"))
    assert compute.do("result = compute.kept.is_job_complete()") is False
    domain.abort("vda")
    with pytest.raises(Failure) as caught:
        compute.result(wait)
    assert caught.value.code == VIR_ERR_OPERATION_ABORTED
    with pytest.raises(Failure) as caught:
        compute.do("compute.kept.is_job_complete()")
    assert caught.value.code == VIR_ERR_OPERATION_ABORTED


def test_b06_a_wait_whose_time_is_over_leaves_the_job_alone(
    compute: Compute, domain: Domain
) -> None:
    domain.copy("vda", "copy", halted=True)
    compute.do(attach(domain) + "compute.kept = dev")
    with pytest.raises(Failure) as caught:
        compute.do("compute.kept.wait_for_job('ready', timeout=0.05)")
    assert caught.value.code == VIR_ERR_OPERATION_TIMEOUT
    assert compute.do("result = compute.kept.is_job_complete()") is False
    domain.release("vda")
    compute.do("compute.kept.wait_for_job('ready'); compute.kept.abort_job(pivot=True)")
    assert domain.source("vda") == domain.path("copy")


@pytest.mark.parametrize("disk", ["vda", "its path"])
def test_b69_a_job_that_another_device_has_started(
    compute: Compute, domain: Domain, disk: str
) -> None:
    domain.copy("vda", "copy")
    name = disk if disk == "vda" else domain.path("vda")
    compute.do(attach(domain, name) + "dev.wait_for_job('ready'); dev.abort_job(pivot=True)")
    assert domain.source("vda") == domain.path("copy")


def test_b73_others_run_while_one_waits(compute: Compute, domain: Domain) -> None:
    domain.copy("vda", "copy", halted=True)
    compute.do(attach(domain) + "compute.kept = dev")
    waits = [compute.start("compute.kept.wait_for_job('ready')") for _ in range(3)]
    assert compute.do(f"result = compute.guest({domain.uuid!r}).is_active()")
    domain.release("vda")
    for wait in waits:
        compute.result(wait)
    compute.do("compute.kept.abort_job()")


def test_b65_the_domain_is_gone(compute: Compute, domain: Domain) -> None:
    domain.copy("vda", "copy", halted=True)
    compute.do(attach(domain) + "compute.kept = dev")
    wait = compute.start("compute.kept.wait_for_job('ready')")
    until(lambda: compute.do("result = compute.kept._job is not None"))
    domain.destroy()
    with pytest.raises(Failure) as caught:
        compute.result(wait)
    assert caught.value.type == "libvirtError"
    assert caught.value.code == VIR_ERR_NO_DOMAIN  # Nova's InstanceNotFound
    assert caught.value.cause is not None
    assert caught.value.cause.type == "JobLost"


def test_there_is_no_job(compute: Compute, domain: Domain) -> None:
    with pytest.raises(Failure) as caught:
        compute.do(attach(domain) + "dev.wait_for_job('done')")
    assert caught.value.code == VIR_ERR_OPERATION_INVALID
    assert compute.do(attach(domain) + "result = dev.is_job_complete()") is True  # as Nova has it


def test_what_libvirt_refuses_keeps_its_code(compute: Compute, domain: Domain) -> None:
    domain.copy("vda", "copy", halted=True)
    with pytest.raises(Failure) as caught:
        compute.do(start_copy(domain, "other"))
    assert caught.value.type == "libvirtError"
    assert caught.value.code == VIR_ERR_BLOCK_COPY_ACTIVE
    with pytest.raises(Failure) as caught:
        compute.do(attach(domain, "vdz") + "dev.wait_for_job()")
    assert caught.value.type == "libvirtError"


def test_a_state_that_there_is_not(compute: Compute, domain: Domain) -> None:
    with pytest.raises(Failure, match="not 'over'"):
        compute.do(attach(domain) + "dev.wait_for_job('over')")


def test_b75_nothing_is_left_behind(compute: Compute, domain: Domain) -> None:
    """Not an fd, not a monitor, though Nova makes a device and a virDomain for each job."""

    def count() -> int:
        number: int = compute.do(
            "import gc, os; gc.collect(); result = len(os.listdir('/proc/self/fd'))"
        )
        return number

    compute.do("compute.kept = None")  # of another test
    compute.do(start_copy(domain, "copy0") + "dev.wait_for_job('ready'); dev.abort_job(pivot=True)")
    before = count()
    for turn in range(1, 6):
        compute.do(
            start_copy(domain, f"copy{turn}")
            + "dev.wait_for_job('ready')\ndev.abort_job(pivot=True)"
        )
        assert domain.source("vda") == domain.path(f"copy{turn}")
    until(lambda: count() <= before)
    assert (
        compute.do("import blockjob.nova as nova; result = sum(map(len, nova._monitors.values()))")
        == 0
    )
