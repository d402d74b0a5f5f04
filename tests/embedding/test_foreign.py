# SPDX-License-Identifier: MIT
# docs/embedding.md, in Go: programs that are static, or for another C library or processor.

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from programs import MODULE, ROOT, Project, attempt, go, pivots, run
from qemu import Qemu

STATIC = ("-ldflags", "-linkmode external -extldflags -static")


def foreign(kind: str, compiler: str) -> Path:
    """Where libev and jansson of that kind are."""
    if not shutil.which(compiler):
        pytest.skip(f"{kind}: there is no {compiler}")
    done = attempt(ROOT, ".ci/foreign", kind)
    if done.returncode != 0:
        pytest.skip(f"{kind}: libev and jansson could not be fetched: {done.stdout[-200:]}")
    return Path(done.stdout.splitlines()[-1])


def kind_of(program: Path) -> str:
    return run(program.parent, "readelf", "--file-header", "--program-headers", program.name)


def test_static(tmp_path: Path, daemon: Qemu) -> None:
    program = Project(tmp_path).build(*STATIC)
    assert "INTERP" not in kind_of(program)
    pivots(daemon, program)


def test_static_with_musl(tmp_path: Path, daemon: Qemu) -> None:
    libraries = foreign("musl", "musl-gcc")
    program = Project(tmp_path).build(
        *STATIC, CC="musl-gcc", PKG_CONFIG_LIBDIR=str(libraries / "lib/pkgconfig")
    )
    assert "INTERP" not in kind_of(program)
    pivots(daemon, program)


def test_for_arm64(tmp_path: Path, daemon: Qemu) -> None:
    root = foreign("arm64", "aarch64-linux-gnu-gcc")
    libraries = root / "usr/lib/aarch64-linux-gnu"
    program = Project(tmp_path).build(
        CC="aarch64-linux-gnu-gcc",
        CGO_ENABLED="1",
        GOARCH="arm64",
        PKG_CONFIG_SYSROOT_DIR=str(root),
        PKG_CONFIG_LIBDIR=str(libraries / "pkgconfig"),
        CGO_CFLAGS=f"-O2 -g -I{root}/usr/include",
        CGO_LDFLAGS=f"-L{libraries}",
    )
    assert "AArch64" in kind_of(program)
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if not emulator:
        pytest.skip("arm64: built, but not run: there is no qemu-aarch64")
    wrapper = tmp_path / "emulated"
    wrapper.write_text(
        f"#!/bin/sh\nexec {emulator} -L /usr/aarch64-linux-gnu"
        f' -E LD_LIBRARY_PATH={libraries} {program} "$@"\n'
    )
    wrapper.chmod(0o755)
    pivots(daemon, wrapper)


def test_libvirtjob_wants_its_own_version(tmp_path: Path) -> None:
    """The core of another version can't be built with it; that is found before it runs."""
    other = tmp_path / "go"
    shutil.copytree(ROOT / "go", other, ignore=shutil.ignore_patterns("libvirtjob"))
    there = other / "internal/core/same_version.go"
    there.write_text(there.read_text().replace("SameVersionAs", "AnotherVersionThan"))
    if attempt(ROOT / "go/libvirtjob", go(), "mod", "download").returncode != 0:
        pytest.skip("libvirt.org/go/libvirt could not be fetched")
    driver = tmp_path / "libvirtjob"
    shutil.copytree(ROOT / "go/libvirtjob", driver)
    run(driver, go(), "mod", "edit", f"-replace={MODULE}={other}")
    done = attempt(driver, go(), "build", "-buildvcs=false", ".")
    assert done.returncode != 0
    assert "undefined: core.SameVersionAsLibvirtjob_" in done.stdout
