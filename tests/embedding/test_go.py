# SPDX-License-Identifier: MIT
# docs/embedding.md, in Go: `go get` and `go build`, with nothing of ours installed.

from __future__ import annotations

from pathlib import Path

import pytest
from libvirtd import Domain
from programs import ROOT, Project, attempt, go, pivots, run
from qemu import Qemu


def needs(program: Path) -> str:
    """The libraries that it loads."""
    return run(program.parent, "readelf", "--dynamic", program.name)


def test_a_program_gets_the_module_and_pivots(tmp_path: Path, daemon: Qemu) -> None:
    program = Project(tmp_path).build()
    assert "libev." in needs(program)
    assert "libblockjob" not in needs(program)
    pivots(daemon, program)


def test_it_can_be_vendored(tmp_path: Path, daemon: Qemu) -> None:
    project = Project(tmp_path)
    project.go("mod", "vendor")
    project.go("clean", "-modcache")
    pivots(daemon, project.build(GOPROXY="off", CGO_CFLAGS="-O0"))


def test_without_cgo_the_error_says_what_to_do(tmp_path: Path) -> None:
    done = Project(tmp_path).attempt("build", ".", CGO_ENABLED="0")
    assert done.returncode != 0
    assert "set_CGO_ENABLED_1_and_install_a_C_compiler_libev_and_jansson" in done.stdout


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of examples/kubevirt, which uses libvirtjob."""
    folder = ROOT / "examples/kubevirt"
    if attempt(folder, go(), "mod", "download").returncode != 0:
        pytest.skip("libvirt.org/go/libvirt could not be fetched")
    program = tmp_path_factory.mktemp("manager") / "manager"
    run(folder, go(), "build", "-buildvcs=false", "-o", str(program), ".")
    return program


def test_libvirtjob_has_its_driver_inside(manager: Path, domain: Domain) -> None:
    assert "libblockjob" not in needs(manager)
    base = domain.source("vda")
    domain.host.virsh(
        "snapshot-create-as", domain.name, "s", "--disk-only", "--no-metadata",
        "--diskspec", f"vda,file={domain.path('overlay')}", "--diskspec", "vdb,snapshot=no",
    )  # fmt: skip
    assert domain.source("vda") == domain.path("overlay")
    output = run(manager.parent, str(manager), domain.host.connection, domain.name, "vda")
    assert output.endswith("the guest runs without the overlay\n")
    assert domain.source("vda") == base
