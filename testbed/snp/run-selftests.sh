#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-selftests.sh [-k KERNEL] [-c CPUS] [OPTION OF run-tests.sh]... [PATTERN]
#
# Boot a kernel in the computer with SEV-SNP, run selftests there, and print TAP. A page
# that does not belong to the hypervisor in the end is a failure, and so is a test that
# skips. KERNEL:
#
#   6.12    Debian's linux-source-6.12 with its own selftests of it (./tests), both as they
#           are: the oracle (the default)
#   ours    build/linux, and of its selftests those of SEV and SEV-SNP, or what PATTERN says
#   debug   the same with KASAN, lockdep and the other checkers
#
# CPUS are the machine's (6.12: 1, ours and debug: 2).
#
# QEMU, MACHINE_ARGS   see boot.sh
# RESULTS=DIR          where the logs go (build/results/snp-KERNEL-CPUS)

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*/*}
# shellcheck source=host-kernel.sh
. "$here/host-kernel.sh"

kernel=6.12 cpus=${CPUS:-}
while getopts :k:c: opt; do
	case $opt in
	k) kernel=$OPTARG ;;
	c) cpus=$OPTARG ;;
	*) break ;;
	esac
done
# Those of run-tests.sh begin with --, which ends ours
shift $((OPTIND - 1))
host_kernel "$kernel" || exit
case $kernel in
6.12)
	cpus=${cpus:-1}
	PROGRAMS=$(sed -n 's/^\([a-z0-9][^ ]*\) .*/\1/p' "$here/tests" | tr '\n' ' ')
	export PROGRAMS
	build_host_kernel 2>&1 | sed 's/^/# /'
	;;
*)
	cpus=${cpus:-2}
	pattern='^x86_64/(sev_|snp_)'
	for arg; do
		case $arg in
		-*) ;;
		*) pattern= ;;
		esac
	done
	[ -z "$pattern" ] || set -- "$@" "$pattern"
	;;
esac
export CPUS=$cpus
results=${RESULTS:-$top/build/results/snp-$kernel-$cpus}
status=0
LINUX=$linux KBUILD_OUT=$kout SELFTESTS_OUT=$stout ALLOW_MISSING=$allow \
	BASE_TESTS=$here/tests RESULTS=$results BOOT=$here/boot.sh \
	"$here/../run-tests.sh" "$config" "$@" || status=$?
# Without logs, it is status that says what went wrong
if [ -f "$results/boot.err" ]; then
	"$here/audit.sh" "$results/boot.err" || status=1
fi
exit "$status"
