# SPDX-License-Identifier: MIT
# How long Nova's three methods take as they are, and as they are when they await their block jobs.

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS / folder) for folder in ("nova", "python", "support", "fakeqemu")]
from libvirtd import Domain, Libvirtd  # noqa: E402
from managers import VOLUME, Compute, awaiting, installed, make_instance  # noqa: E402

ROUNDS = 3


def swap(compute: Compute, instance: Domain) -> float:
    copy = instance.make_empty("copy")
    took: float = compute.do(f"result = compute.swap_volume({instance.uuid!r}, 'vda', {copy!r})")
    return took


def snapshot(compute: Compute, instance: Domain) -> float:
    delete_by_pull(compute, instance)  # Nova takes no snapshot of more than one layer
    disk, out = instance.source("vda"), instance.path("out")
    took: float = compute.do(
        f"result = compute.live_snapshot({instance.uuid!r}, {disk!r}, {out!r})"
    )
    return took


def delete_by_pull(compute: Compute, instance: Domain) -> float:
    took: float = compute.do(
        f"result = compute.delete_snapshot({instance.uuid!r}, {VOLUME!r}, None, None)"
    )
    return took


def delete_by_commit(compute: Compute, instance: Domain) -> float:
    top, base = instance.path("middle"), instance.path("base")
    took: float = compute.do(
        f"result = compute.delete_snapshot({instance.uuid!r}, {VOLUME!r}, {top!r}, {base!r})"
    )
    return took


METHODS = {
    "_swap_volume": swap,
    "_live_snapshot": snapshot,
    "_volume_snapshot_delete, pull": delete_by_pull,
    "_volume_snapshot_delete, commit": delete_by_commit,
}


def median(host: Libvirtd, compute: Compute, name: str) -> float:
    times = []
    for _ in range(ROUNDS):
        with make_instance(host) as instance:
            times.append(METHODS[name](compute, instance))
    return statistics.median(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Libvirtd() as host:
        trees = {"as it is": installed(), "awaiting": awaiting(Path(folder))}
        took: dict[tuple[str, str, str], float] = {}
        for backend in ("threads", "eventlet"):
            for which, tree in trees.items():
                with Compute(tree, backend, host.connection) as compute:
                    for name in METHODS:
                        took[name, backend, which] = median(host, compute, name)
    print(f"ms that Nova's methods take, {ROUNDS} disks of 4 MiB each, median")
    print(f"{'':34}{'threads':>20}{'eventlet':>20}")
    print(f"{'':34}" + f"{'as it is':>10}{'awaiting':>10}" * 2)
    for name in METHODS:
        cells = [
            took[name, backend, which]
            for backend in ("threads", "eventlet")
            for which in ("as it is", "awaiting")
        ]
        print(f"{name:34}" + "".join(f"{1000 * cell:10.0f}" for cell in cells))


main()
