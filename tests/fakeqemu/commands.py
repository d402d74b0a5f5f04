# SPDX-License-Identifier: MIT
# The commands that QEMU has had for block jobs, and for what a client asks around them: since when
# each exists, and each of its arguments.
"""Commands and their arguments, by version."""

from __future__ import annotations

Version = tuple[int, ...]
Arguments = dict[str, bool]
"""Of a command; True where they must be given."""

# name, since[-until], arguments. `name?` is optional, `name@2.7` exists since 2.7.
_STARTS = "auto-finalize?@3.1 auto-dismiss?@3.1"
_BACKUP = (
    "bitmap? bitmap-mode? compress? on-source-error? on-target-error? filter-node-name?@4.2"
    " discard-source?@9.1 auto-finalize?@2.12 auto-dismiss?@2.12 x-perf?@6.0 on-cbw-error?@11.0"
)
_QUERIES = """
qmp_capabilities    0.12      enable?@2.12
query-commands      0.12
query-events        1.3-5.2
query-version       0.12
query-status        0.12
query-block         0.12      flat?@11.0
query-block-jobs    0.12
query-jobs          3.0
query-named-block-nodes 2.0   flat?@5.0
query-qmp-schema    2.5
x-debug-query-block-graph 4.0
quit                0.12
"""
_UPSTREAM = f"""
{_QUERIES}
drive-mirror        1.3       job-id?@2.7 device target format? node-name?@2.1 replaces?@2.1 sync \
 mode? speed? granularity? buf-size? on-source-error? on-target-error? unmap?@2.4 \
 copy-mode?@3.0 {_STARTS}
blockdev-mirror     2.6       job-id?@2.7 device target replaces? sync speed? granularity? \
 buf-size? on-source-error? on-target-error? filter-node-name?@2.9 copy-mode?@3.0 \
 target-is-zero?@10.1 {_STARTS}
block-commit        1.3       job-id?@2.7 device base-node?@3.1 base? top-node?@3.1 top? \
 backing-file?@2.1 backing-mask-protocol?@9.0 speed? on-error?@5.0 filter-node-name?@2.9 {_STARTS}
block-stream        1.1       job-id?@2.7 device base? base-node?@2.8 backing-file?@2.1 \
 backing-mask-protocol?@9.0 bottom?@6.0 speed? on-error?@2.7 filter-node-name?@6.0 {_STARTS}
drive-backup        1.6       job-id?@2.7 device target format? sync mode? speed? {_BACKUP}
blockdev-backup     2.3       job-id?@2.7 device target sync speed? {_BACKUP}
blockdev-create     3.0       job-id options
transaction         1.1       actions properties?@2.5
block-job-set-speed 1.1       device speed
block-job-cancel    1.1       device force?@1.3
block-job-pause     1.3       device
block-job-resume    1.3       device
block-job-complete  1.3       device
block-job-finalize  2.12      id
block-job-dismiss   2.12      id
block-job-change    8.2       id type copy-mode
job-pause           3.0       id
job-resume          3.0       id
job-cancel          3.0       id
job-complete        3.0       id
job-finalize        3.0       id
job-dismiss         3.0       id
"""
_RHEL = {
    "6.2": f"""
{_QUERIES}
block_stream        0.12      device base?
block_job_set_speed 0.12      device value
block_job_cancel    0.12      device
""",
    "6.3": f"""
{_QUERIES}
block-stream        0.12      device base? speed?
block-job-set-speed 0.12      device speed
block-job-cancel    0.12      device
__com.redhat_drive-mirror 0.12 device target format? mode? full speed?
__com.redhat_drive-reopen 0.12 device new-image-file format?
transaction         0.12      actions
""",
}

_FEATURES: dict[str, tuple[Version, str]] = {
    **dict.fromkeys(
        [f"block-job-{verb}" for verb in ("pause", "resume", "complete", "finalize", "dismiss")],
        ((10, 1), "deprecated"),
    ),
    "drive-backup": ((6, 2), "deprecated"),
    "query-events": ((5, 2), "deprecated"),
    "x-debug-query-block-graph": ((6, 2), "unstable"),
}
_TYPES: dict[str, tuple[type, str]] = {
    **dict.fromkeys(("speed", "value", "granularity", "buf-size"), (int, "integer")),
    **dict.fromkeys(
        ("force", "full", "auto-finalize", "auto-dismiss", "unmap", "compress", "flat"),
        (bool, "boolean"),
    ),
    **dict.fromkeys(("enable", "actions"), (list, "array")),
    **dict.fromkeys(("options", "properties", "x-perf"), (dict, "object")),
}


def features_of(command: str, version: Version) -> list[str]:
    """What the schema says of it besides."""
    since, feature = _FEATURES.get(command, ((99,), ""))
    return [feature] if since <= version else []


def type_of(argument: str) -> tuple[type, str]:
    """What it must be, for Python and for an error."""
    return _TYPES.get(argument, (str, "string"))


def parse(text: str) -> Version:
    """A version from its text."""
    return tuple(int(part) for part in text.split("."))


def _arguments(words: list[str], version: Version) -> Arguments:
    arguments = {}
    for word in words:
        name, _, since = word.partition("@")
        if parse(since or "0") <= version:
            arguments[name.rstrip("?")] = not name.endswith("?")
    return arguments


def commands_of(version: Version, rhel: str) -> dict[str, Arguments]:
    """The commands of a version; `rhel` names one of RHEL 6's own."""
    found = {}
    for line in (_RHEL[rhel] if rhel else _UPSTREAM).strip().splitlines():
        if not line:
            continue
        name, ages, *words = line.split()
        since, _, until = ages.partition("-")
        if parse(since) <= version and (not until or version[:2] <= parse(until)):
            found[name] = _arguments(words, version)
    return found
