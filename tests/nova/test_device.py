# SPDX-License-Identifier: MIT
# blockjob.libvirt with libvirt-python's domains as Nova has them, and what Nova makes of it.

from __future__ import annotations

import pytest
from libvirtd import Domain
from managers import Compute, Failure, until

# libvirt's error codes.
VIR_ERR_OPERATION_FAILED = 9
VIR_ERR_NO_DOMAIN = 42
VIR_ERR_OPERATION_INVALID = 55
VIR_ERR_OPERATION_ABORTED = 78
VIR_ERR_BLOCK_COPY_ACTIVE = 83


def attach(domain: Domain) -> str:
    """Source that makes `jobs`, which has started nothing."""
    return f"""
import blockjob.libvirt
jobs = blockjob.libvirt.BlockJobs(compute.guest({domain.uuid!r})._domain)
"""


def start_copy(domain: Domain, name: str = "copy", xml: str | None = None) -> str:
    """Source that makes `jobs` and starts a copy."""
    xml = xml or (
        f"<disk type='file'><driver type='qcow2'/><source file='{domain.make_empty(name)}'/></disk>"
    )
    flags = "flags=libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT"
    return attach(domain) + f"result = jobs.blockCopy('vda', {xml!r}, {flags})\n"


def keep(source: str) -> str:
    return source + "compute.kept = jobs\n"


PIVOT = "jobs.blockJobAbort('vda', libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)\n"


def test_b04_what_has_already_happened(compute: Compute, domain: Domain) -> None:
    assert compute.do(keep(start_copy(domain))) == 0  # as libvirt-python's
    domain.await_mirror("vda", "ready")
    assert compute.do("result = compute.kept.wait('vda')")
    domain.pivot("vda")
    assert compute.do("result = compute.kept.wait('vda', timeout=0)")


def test_b10_a_job_that_fails_is_not_complete(compute: Compute, domain: Domain) -> None:
    store = domain.store(failing=True)
    compute.do(keep(start_copy(domain, xml=store)))
    domain.await_mirror("vda", "none")
    with pytest.raises(Failure) as caught:
        compute.do("compute.kept.wait('vda')")
    assert caught.value.type == "libvirtError"
    assert caught.value.code == VIR_ERR_OPERATION_FAILED
    assert caught.value.text == "No space left on device"
    assert caught.value.cause is not None
    assert caught.value.cause.type == "JobFailed"
    assert compute.do("result = compute.kept.blockJobAbort('vda')") == 0  # nothing is left of it


def test_b10_a_job_that_another_client_cancels_is_not_complete(
    compute: Compute, domain: Domain
) -> None:
    domain.copy("vda", "copy", halted=True)
    compute.do(keep(attach(domain)))
    wait = compute.start("compute.kept.wait('vda')")
    until(lambda: compute.do("result = 'vda' in compute.kept._jobs"))
    domain.abort("vda")
    for number in (wait, compute.start("compute.kept.wait('vda')")):
        with pytest.raises(Failure) as caught:
            compute.result(number)
        assert caught.value.code == VIR_ERR_OPERATION_ABORTED


def test_b06_a_wait_whose_time_is_over_leaves_the_job_alone(
    compute: Compute, domain: Domain
) -> None:
    domain.copy("vda", "copy", halted=True)
    assert compute.do(keep(attach(domain)) + "result = jobs.wait('vda', timeout=0.05)") is False
    domain.release("vda")
    compute.do("jobs = compute.kept\nassert jobs.wait('vda')\n" + PIVOT)
    assert domain.source("vda") == domain.path("copy")


@pytest.mark.parametrize("disk", ["vda", "its path"])
def test_b69_a_job_that_another_has_started(compute: Compute, domain: Domain, disk: str) -> None:
    domain.copy("vda", "copy")
    name = disk if disk == "vda" else domain.path("vda")
    compute.do(attach(domain) + f"assert jobs.wait({name!r})\n" + PIVOT.replace("vda", name))
    assert domain.source("vda") == domain.path("copy")


def test_b73_others_run_while_one_waits(compute: Compute, domain: Domain) -> None:
    domain.copy("vda", "copy", halted=True)
    waits = [compute.start(attach(domain) + "result = jobs.wait('vda')") for _ in range(3)]
    assert compute.do(f"result = compute.guest({domain.uuid!r}).is_active()")
    domain.release("vda")
    assert all(compute.result(wait) for wait in waits)


def test_b65_the_domain_is_gone(compute: Compute, domain: Domain) -> None:
    domain.copy("vda", "copy", halted=True)
    compute.do(keep(attach(domain)))
    wait = compute.start("compute.kept.wait('vda')")
    until(lambda: compute.do("result = 'vda' in compute.kept._jobs"))
    domain.destroy()
    with pytest.raises(Failure) as caught:
        compute.result(wait)
    assert caught.value.type == "libvirtError"
    assert caught.value.code == VIR_ERR_NO_DOMAIN  # Nova's InstanceNotFound
    assert caught.value.cause is not None
    assert caught.value.cause.type == "JobLost"


def test_there_is_no_job(compute: Compute, domain: Domain) -> None:
    with pytest.raises(Failure) as caught:
        compute.do(attach(domain) + "jobs.wait('vda')")
    assert caught.value.code == VIR_ERR_OPERATION_INVALID
    with pytest.raises(Failure) as caught:
        compute.do(attach(domain) + "jobs.blockJobAbort('vda')")
    assert caught.value.type == "libvirtError"


def test_what_libvirt_refuses_keeps_its_code(compute: Compute, domain: Domain) -> None:
    domain.copy("vda", "copy", halted=True)
    with pytest.raises(Failure) as caught:
        compute.do(start_copy(domain, "other"))
    assert caught.value.type == "libvirtError"
    assert caught.value.code == VIR_ERR_BLOCK_COPY_ACTIVE
    with pytest.raises(Failure) as caught:
        compute.do(attach(domain) + "jobs.wait('vdz')")
    assert caught.value.type == "libvirtError"


def test_c107_nothing_awaits_the_garbage_collector(compute: Compute, domain: Domain) -> None:
    """Neither after a wait nor after one that raised."""
    compute.do(
        start_copy(domain)
        + """
import gc, weakref
gc.collect()
gc.disable()
try:
    jobs.wait('vda')
"""
        + "    "
        + PIVOT
        + """
    job = jobs._jobs['vda']
    gone = [weakref.ref(each) for each in (jobs, job, job._monitor, jobs._real)]
    try:
        jobs.wait('vdz')
    except libvirt.libvirtError:
        pass
    del job, jobs
    result = [ref() is None for ref in gone]
finally:
    gc.enable()
assert all(result), result
"""
    )


def test_b75_nothing_is_left_behind(compute: Compute, domain: Domain) -> None:
    """Not an fd, not a monitor, though Nova makes a device and a virDomain for each job."""

    def count() -> int:
        number: int = compute.do(
            "import gc, os; gc.collect(); result = len(os.listdir('/proc/self/fd'))"
        )
        return number

    compute.do("compute.kept = None")  # of another test
    compute.do(start_copy(domain, "copy0") + "jobs.wait('vda')\n" + PIVOT)
    before = count()
    for turn in range(1, 6):
        compute.do(start_copy(domain, f"copy{turn}") + "jobs.wait('vda')\n" + PIVOT)
        assert domain.source("vda") == domain.path(f"copy{turn}")
    until(lambda: count() <= before)
    monitors = "sum(map(len, blockjob.libvirt._monitors.values()))"
    assert compute.do(f"import blockjob.libvirt; result = {monitors}") == 0


# ------------------------------------------------------------------------- Nova's BlockDevice


def device(domain: Domain) -> str:
    return f"dev = compute.device({domain.uuid!r}, 'vda')\n"


def test_c58_a_wait_that_takes_too_long_aborts_the_job(compute: Compute, domain: Domain) -> None:
    domain.copy("vda", "copy", halted=True)
    with pytest.raises(Failure, match="vda is not complete after 1 seconds") as caught:
        compute.do(device(domain) + "dev.wait_for_job(1)")
    assert caught.value.type == "InternalError"  # Nova's
    assert domain.mirror("vda") == "none"


def test_progress_is_logged(compute: Compute, domain: Domain) -> None:
    domain.copy("vda", "copy")
    text: str = compute.do(
        device(domain)
        + """
import io, logging
from nova.virt.libvirt import guest
lines = io.StringIO()
handler = logging.StreamHandler(lines)
guest.LOG.logger.addHandler(handler)
guest.LOG.logger.setLevel(logging.DEBUG)
try:
    dev.wait_for_job(0)
finally:
    guest.LOG.logger.removeHandler(handler)
dev.abort_job(pivot=True)
result = lines.getvalue()
"""
    )
    assert "COPY block job progress, current cursor:" in text
