# SPDX-License-Identifier: MIT
# The three methods of Nova's driver that waited in loops, as they are after examples/nova/apply.py.

from __future__ import annotations

import pytest
from libvirtd import Domain
from managers import VOLUME, Compute, Failure


def is_persistent(instance: Domain) -> bool:
    return "Persistent:     yes" in instance.host.virsh("dominfo", instance.name)


def test_b64_swap_volume(compute: Compute, instance: Domain) -> None:
    before = instance.source("vda")
    copy = instance.make_empty("copy")
    compute.do(f"compute.swap_volume({instance.uuid!r}, 'vda', {copy!r})")
    assert instance.source("vda") == copy
    assert instance.same_data(before, copy)
    assert is_persistent(instance)


def test_b64_swap_volume_again_and_again(compute: Compute, instance: Domain) -> None:
    for turn in range(10):
        copy = instance.make_empty(f"copy{turn}")
        compute.do(f"compute.swap_volume({instance.uuid!r}, 'vda', {copy!r})")
        assert instance.source("vda") == copy


def test_b11_swap_volume_to_where_nothing_can_be_written(
    compute: Compute, instance: Domain
) -> None:
    before = instance.source("vda")
    store = instance.store(failing=True)
    with pytest.raises(Failure) as caught:
        compute.do(f"compute.swap_to({instance.uuid!r}, 'vda', {store!r})")
    assert caught.value.type == "VolumeRebaseFailed"
    assert "No space left on device" in caught.value.text
    assert instance.source("vda") == before
    assert is_persistent(instance)


def test_b66_live_snapshot(compute: Compute, instance: Domain) -> None:
    compute.do(f"compute.delete_snapshot({instance.uuid!r}, {VOLUME!r}, None, None)")  # one layer
    disk = instance.source("vda")
    out = instance.path("snapshot")
    compute.do(f"compute.live_snapshot({instance.uuid!r}, {disk!r}, {out!r})")
    assert instance.source("vda") == disk
    assert instance.mirror("vda") == "none"
    assert instance.same_data(disk, out)
    assert is_persistent(instance)


def test_b24_volume_snapshot_delete_pulls(compute: Compute, instance: Domain) -> None:
    compute.do(f"compute.delete_snapshot({instance.uuid!r}, {VOLUME!r}, None, None)")
    assert instance.chain("vda") == [instance.path("vda")]


def test_b24_volume_snapshot_delete_commits(compute: Compute, instance: Domain) -> None:
    top, base = instance.path("middle"), instance.path("base")
    compute.do(f"compute.delete_snapshot({instance.uuid!r}, {VOLUME!r}, {top!r}, {base!r})")
    assert instance.chain("vda") == [instance.path("vda"), base]
