#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-bench.sh: what "make bench" relies on, without measuring anything. Prints TAP.

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

num=0 bad=0
check() { # description, command...
	local what=$1
	shift
	num=$((num + 1))
	if "$@" > "$work/said" 2>&1; then
		echo "ok $num $what"
	else
		bad=1
		echo "not ok $num $what"
		sed 's/^/# /' "$work/said"
	fi
}
# shellcheck disable=SC2317 # called through check
{
	says() { grep -E -- "$1" "$work/out" || { cat "$work/out"; return 1; }; }
	same_initramfs() {
		mkdir -p "$work/root/dir"
		echo content > "$work/root/dir/file"
		"$here/mkinitramfs.sh" -o "$work/1" "$work/root" || return 1
		mv "$work/root/dir/file" "$work/root/dir/file.old"
		cp "$work/root/dir/file.old" "$work/root/dir/file"
		rm "$work/root/dir/file.old"
		touch -d @1000000000 "$work/root/dir/file" "$work/root/dir"
		"$here/mkinitramfs.sh" -o "$work/2" "$work/root" || return 1
		cmp "$work/1" "$work/2"
	}
	refuses() {
		! "$here/bench.sh" "$@"
	}
	snp_refuses() {
		! "$here/snp/bench.sh" "$@"
	}
	insists() {
		! "$here/bench-report.py" "$work/dir" --insist > /dev/null 2> "$work/out"
	}
}

check 'the same files make the same initramfs' same_initramfs
check 'an unknown option is refused' refuses --nonsense
check 'so is a number that is none' refuses --repeat=two
check 'the same for SEV-SNP' snp_refuses --nonsense
check 'and a kernel that has no SEV-SNP guests' snp_refuses --peer=6.6

mkdir "$work/dir"
cat > "$work/dir/ours.txt" << 'END'
# kernel 6.1.0
# cpus 1
attr_set_1024g 1500 ns
attr_clear_1024g 100001 ns
touch_cold_256m 150000000 ns
convert_2m 700 ns
pre_fault_256m - no such thing here
slots_16_punch 1000 ns
slots_16384_punch 1100 ns
END
cat > "$work/dir/peer.txt" << 'END'
# kernel 6.12.0
# cpus 1
attr_set_1024g - not run
touch_cold_256m 1000000000 ns
convert_2m 1000 ns
pre_fault_256m 2000 ns
END
check 'results are reported' sh -c "'$here/bench-report.py' '$work/dir' > '$work/out'"
check 'figures, with units that suit them' says '^touch_cold_256m .* 150 ms +1\.00 s +0\.150$'
check 'what one kernel does not have' says '^pre_fault_256m .* - +2\.00 us +-$'
check 'and why' says '^"-": 6\.1\.0 .*: no such thing here$'
check 'a promise that is kept' says '^attr_set_1024g +1\.50 us +100 us +yes$'
check 'one that is not' says '^attr_clear_1024g +100 us +100 us +NO$'
check 'one about the peer that is kept' says '^touch_cold_256m / peer +0\.150 +0\.15 +yes$'
check 'one that is not' says '^convert_2m / peer +0\.700 +0\.6 +NO$'
check 'one that cannot be told' says '^pre_fault_256m / peer +- +0\.15 +-$'
check 'one about our own figures' says '^slots_16384_punch / slots_16_punch +1\.100 +1\.1 +yes$'
check 'what is not kept is a failure, if that is wanted' insists
check 'and said' says '^bench: MISSED: convert_2m / peer is 0\.700, not at most 0\.6$'
check 'so is what cannot be told' says '^bench: MISSED: pre_fault_256m / peer is -'

cat > "$work/dir/ours.txt" << 'END'
# kernel 6.1.0
# cpus 1
snp_accept_64m 9 ns
END
cat > "$work/dir/peer.txt" << 'END'
# kernel 6.12.0
# cpus 1
snp_accept_64m 100 ns
END
check 'what is kept is none' "$here/bench-report.py" "$work/dir" --insist

echo "1..$num"
exit "$bad"
