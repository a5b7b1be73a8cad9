#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-selftests.sh [PATTERN]
#
# Boot Linux 6.12 in the computer with SEV-SNP, run that kernel's own selftests of it
# (./tests), both as Debian has them, and print TAP. A test that skips has failed, and so
# has a page that does not belong to the hypervisor in the end.
#
# QEMU, MACHINE_ARGS, CPUS   see boot.sh
# RESULTS=DIR                where the logs go (build/results/snp-selftests)

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*/*}
results=${RESULTS:-$top/build/results/snp-selftests}

"$here/build.sh" host 2>&1 | sed 's/^/# /'
peer=$top/build/peer/6.12
status=0
LINUX=$peer/linux KBUILD_OUT=$peer/snp-host SELFTESTS_OUT=$peer/selftests \
	ALLOW_MISSING=BASE_FULL,KVM_MEM_ATTR_KUNIT_TEST,SAMPLE_KVM_GUEST_MEMFD \
	PROGRAMS=$(sed -n 's/^\([a-z0-9][^ ]*\) .*/\1/p' "$here/tests" | tr '\n' ' ') \
	BASE_TESTS=$here/tests RESULTS=$results BOOT=$here/boot.sh \
	"$here/../run-tests.sh" snp-host "$@" || status=$?
"$here/audit.sh" "$results/boot.err" || status=1
exit "$status"
