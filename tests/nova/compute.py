# SPDX-License-Identifier: MIT
# Nova as nova-compute runs it, for the tests, in a process that does what it is told.
"""Nova's own host.py, guest.py and driver.py, with Nova's threads around libvirt:

    compute.py eventlet|threads CONNECTION

Each line that it reads is {"number": N, "python": SOURCE}. That is run in a thread, or a green
one, of its own, and answered with {"number": N, "result": what SOURCE has put into `result`} or
with {"number": N, "error": {...}}. The first answer, of number 0, says that it is there.
"""

from __future__ import annotations

import json
import os
import select
import sys

BACKEND, CONNECTION = sys.argv[1:]

# Before anything else is imported, as in nova-compute.
os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "yes" if BACKEND == "threads" else "no"
from nova import monkey_patch  # noqa: E402

monkey_patch.patch()

import threading  # noqa: E402
import time  # noqa: E402
import types  # noqa: E402
from typing import Any  # noqa: E402

import libvirt  # noqa: E402
import nova.conf  # noqa: E402
import nova.privsep  # noqa: E402
from nova.virt.libvirt import config as vconfig  # noqa: E402
from nova.virt.libvirt import driver as libvirt_driver  # noqa: E402
from nova.virt.libvirt import host as libvirt_host  # noqa: E402
from nova.virt.libvirt import utils as libvirt_utils  # noqa: E402


class Compute:
    """What a test's source finds: Nova's objects, and its driver's methods with all they want."""

    def __init__(self) -> None:
        nova.conf.CONF([], default_config_files=[])
        nova.privsep.sys_admin_pctxt.set_client_mode(False)  # we may all that it asks for
        self.host = libvirt_host.Host(CONNECTION)
        self.host.initialize()
        self.host.get_connection().getVersion()  # which takes a second at first; Nova asks it, too
        self.driver = object.__new__(libvirt_driver.LibvirtDriver)
        self.driver._host = self.host
        self.driver._may_keep_vtpm = False
        create_image = libvirt_utils.create_image

        def create_for_all(path: str, *rest: Any, **options: Any) -> None:
            create_image(path, *rest, **options)
            os.chmod(path, 0o666)  # libvirtd would do that if it were root

        libvirt_utils.create_image = create_for_all

    def instance(self, uuid: str) -> Any:
        return types.SimpleNamespace(uuid=uuid, name=uuid)

    def guest(self, uuid: str) -> Any:
        return self.host.get_guest(self.instance(uuid))

    def device(self, uuid: str, disk: str) -> Any:
        return self.guest(uuid).get_block_device(disk)

    def disk_xml(self, path: str) -> Any:
        """A qcow2 image as the target of a copy."""
        conf = vconfig.LibvirtConfigGuestDisk()
        conf.source_type = "file"
        conf.source_path = path
        conf.driver_name = "qemu"
        conf.driver_format = "qcow2"
        conf.target_dev = "vda"
        conf.target_bus = "virtio"
        return conf

    # The three methods whose loops are awaited; each says how many seconds it took.

    def swap_volume(self, uuid: str, disk: str, path: str) -> float:
        begin = time.monotonic()
        self.driver._swap_volume(self.guest(uuid), disk, self.disk_xml(path), 0)
        return time.monotonic() - begin

    def swap_to(self, uuid: str, disk: str, xml: str) -> None:
        """The same to what is no file."""
        conf = types.SimpleNamespace(source_path=None, target_dev=disk, to_xml=lambda: xml)
        self.driver._swap_volume(self.guest(uuid), disk, conf, 0)

    def live_snapshot(self, uuid: str, path: str, out: str) -> float:
        image = types.SimpleNamespace(properties={})
        begin = time.monotonic()
        self.driver._live_snapshot(
            None, self.instance(uuid), self.guest(uuid), path, out, "qcow2", "qcow2", image
        )
        return time.monotonic() - begin

    def delete_snapshot(self, uuid: str, volume: str, top: str | None, base: str | None) -> float:
        info = {"type": "qcow2", "file_to_merge": top, "merge_target_file": base}
        begin = time.monotonic()
        self.driver._volume_snapshot_delete(None, self.instance(uuid), volume, "", info)
        return time.monotonic() - begin


# eventlet lets one green thread at a time write to an fd.
_answering = threading.Lock()


def carry_out(compute: Compute, number: int, source: str) -> None:
    names = {"compute": compute, "libvirt": libvirt, "threading": threading, "time": time}
    try:
        exec(source, names)
        answer = {"number": number, "result": names.get("result")}
    except Exception as error:
        answer = {"number": number, "error": describe(error)}
    with _answering:
        os.write(1, json.dumps(answer).encode() + b"\n")


def describe(error: BaseException) -> dict[str, Any]:
    cause = error.__cause__
    return {
        "type": type(error).__name__,
        "text": str(error),
        "code": error.get_error_code() if isinstance(error, libvirt.libvirtError) else None,
        "cause": describe(cause) if cause is not None else None,
    }


def main() -> None:
    compute = Compute()
    os.write(1, b'{"number": 0, "result": null}\n')
    text = b""
    while True:
        select.select([sys.stdin], [], [])  # other green threads run meanwhile
        read = os.read(0, 65536)
        if not read:
            os._exit(0)  # Nova's threads have no end
        *lines, text = (text + read).split(b"\n")
        for line in lines:
            told = json.loads(line)
            threading.Thread(
                target=carry_out, args=(compute, told["number"], told["python"]), daemon=True
            ).start()


main()
