# SPDX-License-Identifier: MIT
# What the tests with Nova have in common. Without Nova in this Python they are skipped, aloud.

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import libvirtd as harness
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import managers

BACKENDS = ["eventlet", "threads"]


@pytest.fixture(scope="session", autouse=True)
def there_is_nova() -> None:
    if lack := managers.missing() or harness.missing():
        pytest.skip(f"Nova: {lack}; make check-nova has what it takes")


@pytest.fixture(scope="session")
def libvirtd() -> Iterator[harness.Libvirtd]:
    with harness.Libvirtd() as host:
        yield host


@pytest.fixture(scope="session")
def awaiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Nova that awaits its block jobs."""
    return managers.awaiting(tmp_path_factory.mktemp("awaiting"))


@pytest.fixture(scope="session", params=BACKENDS)
def compute(
    request: pytest.FixtureRequest, awaiting: Path, libvirtd: harness.Libvirtd
) -> Iterator[managers.Compute]:
    """A nova-compute that awaits its block jobs."""
    with managers.Compute(awaiting, request.param, libvirtd.connection) as running:
        yield running


@pytest.fixture
def instance(libvirtd: harness.Libvirtd) -> Iterator[harness.Domain]:
    """A running instance, persistent, whose disk vda is a volume with snapshots."""
    with managers.make_instance(libvirtd) as made:
        yield made


@pytest.fixture
def domain(libvirtd: harness.Libvirtd) -> Iterator[harness.Domain]:
    """A transient domain, as Nova makes of an instance for the time of a copy."""
    with libvirtd.domain(None, "vda") as made:
        yield made
