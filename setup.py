# SPDX-License-Identifier: MIT
"""Builds blockjob._core: the C library and SWIG's bindings to it in one extension module, so that
pip needs no libblockjob on the machine, only the headers of libev and jansson, and SWIG. Where
libvirt is found, the libvirt driver goes beside it, which the core loads when it is asked for a
domain; where it is not, all but that is built."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, PlatformError

HEADER = "core/include/blockjob/blockjob.h"
INTERFACE = "bindings/blockjob.i"
INCLUDE_DIRS = ["core/include", "core/src"]
NEEDED_HEADERS = {
    "ev.h": "libev, the event loop (Debian: libev-dev)",
    "jansson.h": "jansson, the JSON parser (Debian: libjansson-dev)",
    "Python.h": "Python's headers (Debian: python3-dev)",
}
COMPILE_ARGS = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-D_FILE_OFFSET_BITS=64",
    "-D_TIME_BITS=64",
    "-pthread",
]
LIBRARIES = ["ev", "jansson", "m", "dl"]

# As in the Makefile. The file is no module of Python's: the core looks for it under this name.
DRIVER = "blockjob._libvirt_driver"
DRIVER_FILE = "libblockjob-libvirt.so.0"
DRIVER_EXPORTS = "core/libblockjob-libvirt.map"
DRIVER_SHARES = [
    f"core/src/base/{name}.c" for name in ("error", "loop", "process", "text", "timer_heap")
] + ["core/src/driver/job_list.c"]
DRIVER_NEEDS = ["libvirt >= 7.0", "libvirt-qemu >= 7.0", "libxml-2.0"]


def version() -> str:
    header = Path(HEADER).read_text(encoding="utf-8")
    parts = dict(re.findall(r"#define BJ_VERSION_(\w+) (\d+)", header))
    return "{MAJOR}.{MINOR}.{PATCH}".format(**parts)


def files(*patterns: str) -> list[str]:
    # Sorted, so that two builds of the same tree are alike.
    return sorted(str(path) for pattern in patterns for path in Path().glob(pattern))


def pkg_config(*arguments: str) -> list[str] | None:
    """What pkg-config says of what the driver needs; None if that, or pkg-config, is not there."""
    command = [*shlex.split(os.environ.get("PKG_CONFIG", "pkg-config")), *arguments, *DRIVER_NEEDS]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return shlex.split(answer.stdout)


class BuildExtension(build_ext):
    """Looks for what is needed before anything is compiled, and keeps SWIG's output out of the
    source tree. With -builtin the extension is whole: SWIG's .py file is not needed."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self._compile_driver_with = pkg_config("--cflags")
        self._link_driver_with = pkg_config("--libs")
        if self._link_driver_with is None:
            self.extensions = [each for each in self.extensions if each.name != DRIVER]

    def get_ext_filename(self, fullname: str) -> str:
        name: str = super().get_ext_filename(fullname)  # type: ignore[no-untyped-call]
        if fullname.split(".")[-1] == DRIVER.split(".")[-1]:
            return str(Path(name).with_name(DRIVER_FILE))
        return name

    def build_extensions(self) -> None:
        self.parallel = False  # both are made of the same objects
        if self._link_driver_with is None:
            needs = ", ".join(DRIVER_NEEDS)
            self.warn(f"the libvirt driver is left out: pkg-config does not find {needs}")
        self._check_swig()
        for header, what in NEEDED_HEADERS.items():
            self._check_header(header, what)
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        if ext.name == DRIVER:
            ext.extra_compile_args += self._compile_driver_with or []
            ext.extra_link_args += self._link_driver_with or []
        super().build_extension(ext)

    def swig_sources(self, sources: list[str], extension: Extension) -> list[str]:
        folder = Path(self.build_temp, "swig")
        folder.mkdir(parents=True, exist_ok=True)
        wrapper = str(folder / "core_wrap.c")
        includes = [f"-I{path}" for path in INCLUDE_DIRS]
        output = ["-outdir", str(folder), "-o", wrapper]
        self.spawn(["swig", "-python", *extension.swig_opts, *includes, *output, INTERFACE])
        return [wrapper if source == INTERFACE else source for source in sources]

    def _check_swig(self) -> None:
        swig = shutil.which("swig")
        if swig is None:
            raise PlatformError("SWIG 4.1 or newer is needed (Debian: swig), and there is no swig")
        text = subprocess.run([swig, "-version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"SWIG Version (\d+)\.(\d+)", text)
        if found is None or (int(found[1]), int(found[2])) < (4, 1):
            raise PlatformError(f"SWIG 4.1 or newer is needed; {swig} says:{text}")

    def _check_header(self, header: str, what: str) -> None:
        folder = Path(self.build_temp)
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"probe_{header[:-2]}.c"
        probe.write_text(f"#include <{header}>\n", encoding="ascii")
        try:
            self.compiler.preprocess(str(probe), str(probe.with_suffix(".i")))
        except CompileError:
            message = f"{header} was not found, or there is no C compiler: install {what}"
            raise PlatformError(message) from None


# Nothing is written beside the sources.
Path("build").mkdir(exist_ok=True)

setup(
    version=version(),
    options={"egg_info": {"egg_base": "build"}},
    cmdclass={"build_ext": BuildExtension},
    ext_modules=[
        Extension(
            "blockjob._core",
            sources=[INTERFACE, *files("core/src/*/*.c")],
            depends=files("bindings/*", "core/include/blockjob/*.h", "core/src/*/*.h"),
            include_dirs=INCLUDE_DIRS,
            libraries=LIBRARIES,
            extra_compile_args=[*COMPILE_ARGS, "-fvisibility=hidden"],
            swig_opts=["-builtin", "-Wall", "-Werror"],
        ),
        Extension(
            DRIVER,
            sources=[*files("core/libvirt/*.c"), *DRIVER_SHARES],
            depends=[DRIVER_EXPORTS, *files("core/libvirt/*.h", "core/src/*/*.h")],
            include_dirs=INCLUDE_DIRS,
            libraries=LIBRARIES,
            extra_compile_args=[*COMPILE_ARGS],
            extra_link_args=[
                f"-Wl,-soname,{DRIVER_FILE}",
                f"-Wl,--version-script={DRIVER_EXPORTS}",
                "-Wl,-z,defs,-z,nodelete",
            ],
        ),
    ],
)
