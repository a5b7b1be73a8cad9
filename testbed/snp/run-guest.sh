#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-guest.sh [OPTION]...
#
# Boot a real SEV-SNP guest: in the computer with SEV-SNP, Linux 6.12; in it, Debian
# trixie's QEMU and OVMF; with them, a Linux 6.1 that uses its disk and asks for an
# attestation report. Shows what guest and host have to say and checks it (verify.py).
#
#   -c CPUS     processors of the machine (1)
#   -v CPUS     processors of the guest (1)
#   -d          count instructions instead of time: each run is like the other
#   -r N        that many runs; with -d, they have to be the same to the nanosecond
#   -a          all of {1,2} processors of the machine x {1,2} of the guest; a table
#   -A WORDS    more kernel command line for the host, such as oracle.append=loglevel=8
#   -x DIR      laid over the host's initramfs; /oracle/before in it runs first
#   -t SECONDS  limit for one run (300)
#   -q          only the verdict of each run
#
# QEMU, MACHINE_ARGS   see boot.sh
# RESULTS=DIR          where transcripts and logs go (build/results/snp-guest)
# CERTS=DIR            where the processor's certificates are: ark.pem, ask.pem, vcek.pem
#                      (those of the emulator's source); "no": do not look at the signature
# NO_BUILD=1           with what has been built before

set -eu -o pipefail

# In braces, so that bash has read all of it before it runs any of it
{

here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*/*}

cpus=1 vcpus=1 runs=1 all='' count='' words='' overlay='' limit=300 quiet=''
while getopts c:v:dr:aA:x:t:q opt; do
	case $opt in
	c) cpus=$OPTARG ;;
	v) vcpus=$OPTARG ;;
	d) count=1 ;;
	r) runs=$OPTARG ;;
	a) all=1 ;;
	A) words=$OPTARG ;;
	x) overlay=$OPTARG ;;
	t) limit=$OPTARG ;;
	q) quiet=1 ;;
	*) exit 2 ;;
	esac
done

results=${RESULTS:-$top/build/results/snp-guest}
rm -rf "$results"
mkdir -p "$results"
results=$(cd "$results" && pwd)
[ -n "${NO_BUILD:-}" ] || "$here/build.sh" guest >&2

initramfs=$top/build/snp/guest.initramfs
if [ -n "$overlay" ]; then
	{
		cat "$initramfs"
		(cd "$overlay" && find . -print0 |
			cpio --null --create --format=newc --owner=0:0 --quiet)
	} > "$results/initramfs"
	initramfs=$results/initramfs
fi

certs=(--certs "${CERTS:-$top/testbed/qemu/tests/data/amd-psp}")
[ "${CERTS:-}" != no ] || certs=()

if [ -n "$count" ]; then
	# With a nonce of its own, each run would be another one
	nonce=$(printf 'identical runs' | sha512sum | cut -d' ' -f1)
fi

one() { # name, processors, guest's
	local name=$results/$1 status=0 why='' started=$SECONDS nonce=${nonce:-}
	[ -n "$nonce" ] || nonce=$(od -An -v -tx1 -N64 /dev/urandom | tr -d ' \n')
	"$here/boot.sh" ${count:+-d} -c "$2" -k "$top/build/peer/6.12/snp-host/bzImage" \
		-i "$initramfs" -l "$name.kernel.log" -t "$limit" \
		-a "oracle.vcpus=$3 oracle.nonce=$nonce $words" \
		< /dev/null 2> "$name.err" |
		{ if [ -n "$quiet" ]; then cat; else tee /dev/stderr; fi; } > "$name.log" || status=$?
	[ "$status" -eq 0 ] || why="status $status"
	grep -a '^boot: ' "$name.err" >&2 || true
	python3 "$here/verify.py" --vcpus "$3" --nonce "$nonce" --image "$top/build/snp/guest/oracle" \
		"${certs[@]}" "$name.log" > "$name.verdict" || why="${why:+$why, }transcript"
	"$here/audit.sh" "$name.err" >> "$name.verdict" || why="${why:+$why, }audit"
	if [ -z "$quiet" ] || [ -n "$why" ]; then
		cat "$name.verdict"
	fi
	echo "${why:-good}" > "$name.result"
	echo "run-guest: $1: ${why:-good}, $((SECONDS - started)) s"
	[ -z "$why" ]
}

bad=0
configurations="$cpus.$vcpus"
[ -z "$all" ] || configurations="1.1 1.2 2.1 2.2"
for ((i = 1; i <= runs; i++)); do
	for configuration in $configurations; do
		c=${configuration%.*} v=${configuration#*.}
		one "cpus$c-guest$v.$i" "$c" "$v" || bad=1
		if [ -n "$count" ] && [ "$i" -gt 1 ]; then
			for log in log kernel.log; do
				cmp "$results/cpus$c-guest$v".{1,$i}."$log" ||
					{ echo "run-guest: not the same $log twice"; bad=1; }
			done
		fi
	done
done
rm -f "$results/initramfs"

if [ -n "$all" ] || [ "$runs" -gt 1 ]; then
	echo "machine's processors | guest's | runs | good"
	for configuration in $configurations; do
		c=${configuration%.*} v=${configuration#*.}
		printf '%20s | %7s | %4s | %4s\n' "$c" "$v" "$runs" \
			"$(cat "$results/cpus$c-guest$v".*.result | grep -cx good || true)"
	done
	[ -z "$count" ] || [ "$bad" = 1 ] || echo "run-guest: all transcripts identical"
fi
exit "$bad"
}
