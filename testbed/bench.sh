#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# bench.sh [OPTION]...
#
# Measure what private memory costs, with the selftest private_mem_bench, and print a
# table. By default the machine counts instructions: a figure is then the same
# however busy the computer is, and a second run has to agree to the last digit.
#
#   --peer=VERSION   measure Debian's linux-source-VERSION, too, and compare
#   --peer-src=PATH  the same with any kernel tree or tarball that has guest_memfd
#   --repeat=N       run each kernel N times (2); with --wall: medians of N (5)
#   --wall           time instead of instructions, on several processors
#
# What is left in build/bench: ours.txt and peer.txt ("NAME VALUE UNIT" a line), table.txt,
# table.md, bench.svg, and the logs. With --wall in build/bench/wall.
#
# ALLOW_MISSING=SYMBOL,...  what the peer may lack of its configuration
# PEER_MAX_ATTR=N           the peer's attributes over no more than N GiB (64; 1 with
#                           --wall): where each page is stored, a TiB takes gigabytes

set -eu -o pipefail

# In braces, so that bash has read all of it before it runs any of it
{

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
die() { echo "bench: $*" >&2; exit 1; }

peer='' peer_src='' repeat='' wall=''
for arg; do
	case $arg in
	--peer=*) peer=${arg#*=} ;;
	--peer-src=*) peer_src=${arg#*=} ;;
	--repeat=*) repeat=${arg#*=} ;;
	--wall) wall=1 ;;
	*) die "unknown option $arg" ;;
	esac
done
case $repeat in *[!0-9]* | 0) die "--repeat: not a number: $repeat" ;; esac
case $peer in *[!0-9.]*) die "--peer: not a version: $peer" ;; esac

out=$top/build/bench${wall:+/wall}
mkdir -p "$out"
exec 9> "$top/build/.lock"
flock 9

# --- the kernels, and the program
"$top/scripts/deps.sh" gnuplot-nox || die "gnuplot-nox, which draws the chart, is missing"
"$here/build-kernel.sh" base
"$here/build-selftests.sh" "$top/build/selftests"
program=$top/build/selftests/bin/x86_64/private_mem_bench
[ -x "$program" ] || die "private_mem_bench has not been built"

# What is ours, and what base.config and peer.config name that not all kernels have
# BASE_FULL: later kernels ask whether to be small instead
missing=BASE_FULL,KVM_MEM_ATTR_KUNIT_TEST,SAMPLE_KVM_GUEST_MEMFD,KVM_SMM,KVM_HYPERV
missing+=${ALLOW_MISSING:+,$ALLOW_MISSING}

peer_out=
if [ -n "$peer$peer_src" ]; then
	peer_dir=$("$here/peer-tree.sh" "${peer_src:-$peer}") ||
		die "no peer; --peer-src (PEER_SRC=) takes a tree or a tarball"
	peer_out=$peer_dir/kernel
	LINUX=$peer_dir/linux KBUILD_OUT=$peer_out \
		"$here/build-kernel.sh" --allow-missing="$missing" peer
fi

# Instructions do not care what else the computer does, time does
if [ -n "$wall" ]; then
	boot_options=(-t 7200) options="--full --repeat=${repeat:-5}" runs=1 most=1
	max_attr=${PEER_MAX_ATTR:-1}
else
	boot_options=(-t 7200 -d) options=--full runs=${repeat:-2} most=$(nproc)
	max_attr=${PEER_MAX_ATTR:-64}
fi

pack() { # name, kernel's directory, options of the program
	local name=$1 root=$out/$1.root
	mkdir -p "$root/testbed" "$root/bench"
	cp "$program" "$root/bench/"
	printf '#!/bin/sh\nexec /bench/private_mem_bench %s\n' "$3" > "$root/testbed/start"
	chmod +x "$root/testbed/start"
	"$here/mkinitramfs.sh" -o "$out/$name.initramfs" -m "$2/modroot" "$root"
	cp "$2/bzImage" "$out/$name.bzImage"
	rm -rf "$root"
}
rm -rf "${out:?}"/{ours,peer}* "$out"/table.* "$out"/bench.*
pack ours "$top/build/kernel/base" "$options"
[ -z "$peer_out" ] || pack peer "$peer_out" "$options --max-attr=$max_attr"
exec 9>&-

# --- the runs
run() { # name, number
	local name=$1.$2 status=0
	"$here/boot.sh" "${boot_options[@]}" -k "$out/$1.bzImage" -i "$out/$1.initramfs" \
		-l "$out/$name.kernel.log" > "$out/$name.log" 2> "$out/$name.err" || status=$?
	tr -d '\r' < "$out/$name.log" |
		sed -n -e 's/^# setting /# /p' -e 's/^# figure //p' > "$out/$name.txt"
	echo "$status" > "$out/$name.status"
}

# A process group each, to end it with its machine
set -m
# shellcheck disable=SC2317 # the trap
stop() {
	local job
	for job in $(jobs -p); do
		kill -- "-$job" 2> /dev/null || true
	done
}
trap stop EXIT
trap 'exit 130' INT TERM
started=$SECONDS
for ((i = 1; i <= runs; i++)); do
	for who in ${peer_out:+peer} ours; do
		while [ "$(jobs -pr | wc -l)" -ge "$most" ]; do
			wait -n
		done
		echo "bench: $who, run $i of $runs"
		run "$who" "$i" &
	done
done
wait
trap - EXIT
rm -f "$out"/{ours,peer}.{initramfs,bzImage}
echo "bench: $((SECONDS - started)) s"

# --- did it work, and twice the same?
bad=0
for who in ours ${peer_out:+peer}; do
	for ((i = 1; i <= runs; i++)); do
		name=$who.$i
		[ "$(cat "$out/$name.status")" -eq 0 ] || {
			bad=1
			echo "bench: $name failed with status $(cat "$out/$name.status"); see $out/$name.*" >&2
			grep -a '^not ok' "$out/$name.log" >&2 || tail -n 20 "$out/$name.err" >&2
		}
		cmp -s "$out/$who.1.txt" "$out/$name.txt" || {
			bad=1
			echo "bench: run $i of $who differs from the first:" >&2
			diff "$out/$who.1.txt" "$out/$name.txt" >&2 || true
		}
	done
	cp "$out/$who.1.txt" "$out/$who.txt"
done
if [ "$runs" -gt 1 ] && [ "$bad" -eq 0 ]; then
	echo "bench: $runs runs, identical figures"
fi

"$here/bench-report.py" "$out"
exit "$bad"
}
