# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# For the scripts beside it: host_kernel NAME sets what is known of a host's kernel.
#
#   6.12    Debian's linux-source-6.12 as it is: the oracle
#   ours    build/linux, the series
#   debug   the same with KASAN, lockdep and the other checkers
#
# config: its configuration; linux: its source; kout: what was built of it; stout: its
# selftests; allow: symbols that it may lack

host_kernel() {
	local top
	top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
	config=snp-host allow=
	linux=${LINUX:-$top/build/linux}
	stout=${SELFTESTS_OUT:-$top/build/selftests}
	case $1 in
	6.12)
		linux=$top/build/peer/6.12/linux kout=$top/build/peer/6.12/snp-host
		stout=$top/build/peer/6.12/selftests
		# What is ours, and what 6.12 calls by other names
		allow=BASE_FULL,KVM_MEM_ATTR_KUNIT_TEST,SAMPLE_KVM_GUEST_MEMFD
		;;
	ours) kout=${KBUILD_OUT:-$top/build/kernel/snp-host} ;;
	debug) config=snp-host+debug kout=${KBUILD_OUT:-$top/build/kernel/snp-host+debug} ;;
	*)
		echo "host-kernel: no kernel '$1': 6.12, ours or debug" >&2
		return 1
		;;
	esac
	export config linux kout stout allow
}

build_host_kernel() {
	local here
	here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
	[ "$linux" != "${here%/*/*}/build/peer/6.12/linux" ] ||
		"$here/../peer-tree.sh" 6.12 > /dev/null || return
	LINUX=$linux KBUILD_OUT=$kout "$here/../build-kernel.sh" \
		${allow:+"--allow-missing=$allow"} "$config"
}

# What scripts that boot a host with programs of the selftests begin with: the kernel and
# the selftests are built; TAP comments say how. An error ends the caller.
prepare_host() { # a kernel's name
	local here top
	here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
	top=${here%/*/*}
	host_kernel "$1" || { echo "Bail out! no such kernel"; exit 1; }
	exec 9> "$top/build/.lock"
	flock 9
	build_host_kernel 2>&1 | sed -u 's/^/# /' || { echo "Bail out! no kernel"; exit 1; }
	"$here/../build-selftests.sh" "$stout" 2>&1 | sed -u 's/^/# /' ||
		{ echo "Bail out! no selftests"; exit 1; }
	exec 9>&-
}
