# SPDX-License-Identifier: MIT
"""Builds blockjob._core: the C library and SWIG's bindings to it in one extension module, so that
pip needs no libblockjob on the machine, only the headers of libev and jansson, and SWIG."""

from __future__ import annotations

import re
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


def version() -> str:
    header = Path(HEADER).read_text(encoding="utf-8")
    parts = dict(re.findall(r"#define BJ_VERSION_(\w+) (\d+)", header))
    return "{MAJOR}.{MINOR}.{PATCH}".format(**parts)


def files(*patterns: str) -> list[str]:
    # Sorted, so that two builds of the same tree are alike.
    return sorted(str(path) for pattern in patterns for path in Path().glob(pattern))


class BuildExtension(build_ext):
    """Looks for what is needed before anything is compiled, and keeps SWIG's output out of the
    source tree. With -builtin the extension is whole: SWIG's .py file is not needed."""

    def build_extensions(self) -> None:
        self._check_swig()
        for header, what in NEEDED_HEADERS.items():
            self._check_header(header, what)
        super().build_extensions()

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
            sources=[INTERFACE, *files("core/src/*.c")],
            depends=files("bindings/*", "core/include/blockjob/*.h", "core/src/*.h"),
            include_dirs=INCLUDE_DIRS,
            libraries=["ev", "jansson", "m"],
            extra_compile_args=["-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden", "-pthread"],
            swig_opts=["-builtin", "-Wall", "-Werror"],
        )
    ],
)
