#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# bench.sh [OPTION]...
#
# Measure what SEV-SNP guests cost their host, in instructions, and print a table. In the
# computer with SEV-SNP, two things run: the selftest snp_bench (memory is accepted,
# given back, launched), and a real guest (run-guest.sh has it), until its init is up.
# A second run has to agree to the last digit.
#
#   --peer=6.12      measure Debian's linux-source-6.12, too, and compare. What is promised
#                    of the comparison and is not so is a failure
#   --repeat=N       run each kernel N times (2)
#
# What is left in build/bench/snp: ours.txt and peer.txt ("NAME VALUE UNIT" a line), table.txt,
# table.md, bench.svg, and the logs.
#
# The processor does not say that it is fast at REP MOVSB and REP STOSB (ERMS, FSRM): each
# round of a REP counts as an instruction, and kernels that believe it would copy and zero
# byte by byte, of which the figures would mostly consist. Without, it is 8 bytes a round.
#
# QEMU, MACHINE_ARGS   see boot.sh
# NO_BUILD=1           with what has been built before, and from other places if wanted:
# OURS=DIR, PEER=DIR   bzImage and modroot of the host (build/kernel/snp-host,
#                      build/peer/6.12/snp-host)
# GUEST=DIR            what build.sh makes of the guest (build/snp/guest)
# PROGRAM=FILE         snp_bench (build/selftests/bin/x86_64/snp_bench)

set -eu -o pipefail

# In braces, so that bash has read all of it before it runs any of it
{

here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*/*}
die() { echo "bench: $*" >&2; exit 1; }

peer='' runs=2
for arg; do
	case $arg in
	--peer=6.12) peer=1 ;;
	--peer=*) die "there is no host of SNP guests but 6.12 to compare with" ;;
	--repeat=*) runs=${arg#*=} ;;
	*) die "unknown option $arg" ;;
	esac
done
case $runs in '' | *[!0-9]* | 0) die "--repeat: not a number: $runs" ;; esac

ours_dir=${OURS:-$top/build/kernel/snp-host}
peer_dir=${PEER:-$top/build/peer/6.12/snp-host}
guest=${GUEST:-$top/build/snp/guest}
program=${PROGRAM:-$top/build/selftests/bin/x86_64/snp_bench}
out=$top/build/bench/snp
mkdir -p "$out"

exec 9> "$top/build/.lock"
flock 9
if [ -z "${NO_BUILD:-}" ]; then
	"$top/scripts/deps.sh" gnuplot-nox || die "gnuplot-nox, which draws the chart, is missing"
	"$here/../build-kernel.sh" snp-host
	"$here/../build-selftests.sh" "$top/build/selftests"
	"$here/build.sh" guest
fi
for file in "$program" "$ours_dir/bzImage" "$guest/oracle/qemu-system-x86_64" \
	${peer:+"$peer_dir/bzImage"}; do
	[ -f "$file" ] || die "$file has not been built"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "${out:?}"/{ours,peer}* "$out"/table.* "$out"/bench.*

# Two ways to use the computer; each kernel has its modules.
mkdir -p "$work/memory/testbed" "$work/guest"
cp "$program" "$work/memory/testbed/snp_bench"
printf '#!/bin/sh\nexec /testbed/snp_bench --full\n' > "$work/memory/testbed/start"
chmod +x "$work/memory/testbed/start"
# The clock stands in the place of the VMM
cp -a "$guest/." "$work/guest/"
mv "$work/guest/oracle/qemu-system-x86_64" "$work/guest/oracle/vmm"
gcc -std=gnu11 -O2 -Wall -Wextra -static -s -o "$work/guest/oracle/qemu-system-x86_64" \
	"$here/bench/boot-clock.c"

pack() { # name, kernel's directory
	local use
	for use in memory guest; do
		"$here/../mkinitramfs.sh" -o "$out/$1.$use.initramfs" -m "$2/modroot" "$work/$use"
	done
	cp "$2/bzImage" "$out/$1.bzImage"
}
pack ours "$ours_dir"
[ -z "$peer" ] || pack peer "$peer_dir"
rm -rf "$work"
trap - EXIT
exec 9>&-

# --- the runs
run() { # ours or peer, memory or guest, number
	local name=$1.$2.$3 status=0
	MACHINE_ARGS="-global EPYC-Milan-x86_64-cpu.erms=off -global EPYC-Milan-x86_64-cpu.fsrm=off ${MACHINE_ARGS:-}" \
		"$here/boot.sh" -d -t 7200 -k "$out/$1.bzImage" -i "$out/$1.$2.initramfs" \
		-a 'oracle.memory=512M oracle.append=oracle.blocks=16' \
		-l "$out/$name.kernel.log" > "$out/$name.log" 2> "$out/$name.err" || status=$?
	"$here/audit.sh" "$out/$name.err" > "$out/$name.audit" || [ "$status" -ne 0 ] || status=audit
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
	for who in ${peer:+peer} ours; do
		for use in memory guest; do
			while [ "$(jobs -pr | wc -l)" -ge "$(nproc)" ]; do
				wait -n
			done
			echo "bench: $who, $use, run $i of $runs"
			run "$who" "$use" "$i" &
		done
	done
done
wait
trap - EXIT
rm -f "$out"/{ours,peer}.{memory.initramfs,guest.initramfs,bzImage}
echo "bench: $((SECONDS - started)) s"

# --- did it work, and twice the same?
bad=0
for who in ours ${peer:+peer}; do
	for use in memory guest; do
		for ((i = 1; i <= runs; i++)); do
			name=$who.$use.$i
			status=$(cat "$out/$name.status")
			[ "$status" = 0 ] || {
				bad=1
				echo "bench: $name failed: $status; see $out/$name.*" >&2
				grep -a '^not ok' "$out/$name.log" >&2 || tail -n 20 "$out/$name.err" >&2
			}
			cmp -s "$out/$who.$use.1.txt" "$out/$name.txt" || {
				bad=1
				echo "bench: run $i of $who, $use, differs from the first:" >&2
				diff "$out/$who.$use.1.txt" "$out/$name.txt" >&2 || true
			}
		done
	done
	cat "$out/$who".{memory,guest}.1.txt > "$out/$who.txt"
done
if [ "$runs" -gt 1 ] && [ "$bad" -eq 0 ]; then
	echo "bench: $runs runs, identical figures"
fi

"$here/../bench-report.py" "$out" ${peer:+--insist} || bad=1
exit "$bad"
}
