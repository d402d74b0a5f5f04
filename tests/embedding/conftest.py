# SPDX-License-Identifier: MIT
# What the tests of programs with the library inside have in common. They see nothing of what was
# built or installed of it.

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from libvirtd import Domain, Libvirtd, missing
from qemu import Qemu

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def daemon() -> Iterator[Qemu]:
    """A qemu-storage-daemon whose guest has the disk "drive"; "copy" is empty."""
    with Qemu() as qemu:
        qemu.add_disk("drive")
        qemu.add_empty("copy")
        qemu.add_guest("drive")
        yield qemu


@pytest.fixture
def domain() -> Iterator[Domain]:
    if lack := missing():
        pytest.skip(f"libvirt: {lack}")
    with Libvirtd() as host:
        yield host.domain()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m qemu` are the tests that run a real QEMU."""
    for item in items:
        if isinstance(item, pytest.Function) and "daemon" in item.fixturenames:
            item.add_marker(pytest.mark.qemu)
