# SPDX-License-Identifier: MIT
# blockjob.nova without Nova and libvirt; tests/nova has both.

from __future__ import annotations

import copy
import gc
import sys
import types
import weakref
from typing import Any

import blockjob.nova
import pytest


class Domain:
    """Looks like libvirt-python's virDomain to `isinstance()`."""


class Guest:
    """Of Nova: has a domain."""

    def __init__(self) -> None:
        self._domain = Domain()


@blockjob.nova.awaitable
class BlockDevice:
    """As Nova has it."""

    def __init__(self, guest: Any, disk: str) -> None:
        self._guest = guest
        self._disk = disk


@pytest.fixture(autouse=True)
def libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("libvirt")
    vars(module)["virDomain"] = Domain
    monkeypatch.setitem(sys.modules, "libvirt", module)


def test_c107_a_device_is_no_cycle() -> None:
    guest = Guest()
    device = BlockDevice(guest, "vda")
    assert callable(device._guest._domain.blockCopy)
    gone = weakref.ref(device)
    gc.disable()
    try:
        del device
        assert gone() is None
    finally:
        gc.enable()


def test_c107_a_device_is_copied() -> None:
    device = BlockDevice(Guest(), "vda")
    other = copy.copy(device)
    assert other._disk == "vda"
    starter = copy.copy(device._guest._domain)
    assert callable(starter.blockCopy)
    assert copy.copy(device._guest)._domain is not None
