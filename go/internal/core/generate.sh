#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes SWIG's part of this package from bindings/blockjob.i and the public header:
# blockjob.go and blockjob_wrap.c, which are committed so that users need no SWIG.
#
#   generate.sh            writes them here
#   generate.sh --check    compares them with fresh ones; 1 and a diff if they differ
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

# Without -intgosize the output fits 32 and 64 bits. SWIG writes the path it was given into the
# output, hence the cd; not into bindings/, where it would take our go.swg for its own.
cd "$root"
"${SWIG:-swig}" -go -cgo -package core -Wall -Werror -I"$root/core/include" \
    -outdir "$fresh" -o "$fresh/blockjob_wrap.c" bindings/blockjob.i
gofmt -w "$fresh/blockjob.go"

if [ "${1-}" != --check ]; then
    cp "$fresh/blockjob.go" "$fresh/blockjob_wrap.c" "$here"
    exit
fi

# Another SWIG words the same differently.
version=$("${SWIG:-swig}" -version | sed -n 's/^SWIG Version //p')
if ! grep -q " \* Version $version\$" "$here/blockjob.go"; then
    echo "generate.sh: SWIG $version is not the one of the committed files; not compared" >&2
    exit
fi
status=0
for file in blockjob.go blockjob_wrap.c; do
    diff -u "$here/$file" "$fresh/$file" || status=1
done
test $status = 0 || echo "generate.sh: stale: run go/internal/core/generate.sh" >&2
exit $status
