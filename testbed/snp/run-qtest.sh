#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-qtest.sh: the emulator's own test of the security processor's model, as QEMU's
# "make check-qtest" runs it. Prints TAP.

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*/*}
build=$top/build/qemu-build
test=tests/qtest/amd-psp-test
bail() { echo "Bail out! $*"; exit 1; }

"$here/../build-qemu.sh" 2>&1 | sed 's/^/# /'
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
ninja -C "$build" "$test" > "$build/qtest.log" 2>&1 ||
	bail "the test does not build: $(grep -m 1 error: "$build/qtest.log" || tail -n 1 "$build/qtest.log")"
cd "$build"
G_TEST_SRCDIR=$top/build/qemu/tests/qtest QTEST_QEMU_BINARY=./qemu-system-x86_64 \
	timeout 300 "$test" --tap -k
