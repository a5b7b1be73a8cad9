#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-guest.sh [OPTION]...
#
# Boot a real SEV-SNP guest: in the computer with SEV-SNP, a Linux; in it, Debian
# trixie's QEMU and OVMF; with them, a Linux 6.1 that uses its disk and asks for an
# attestation report. Shows what guest and host have to say and checks it (verify.py).
#
#   -k KERNEL   the host's: 6.12, the oracle (the default), ours, or debug, which is ours
#               with KASAN, lockdep and the other checkers
#   -c CPUS     processors of the machine (1)
#   -v CPUS     processors of the guest (1)
#   -n          with a network: the guest sends 128 KiB and gets them back
#   -p          under pressure: the guest fills most of its memory, lets its devices go and
#               come again, for their pages to become private and shared, and fills it again
#   -g N        that many guests at once
#   -b          beside an ordinary VM and, again and again, guests of SEV-ES
#   -d          count instructions instead of time: each run is like the other
#   -r N        that many runs; with -d, they have to be the same to the nanosecond
#   -a          all of {1,2} processors of the machine x {1,2} of the guest; a table
#   -A WORDS    more kernel command line for the host, such as oracle.append=loglevel=8
#   -x DIR      laid over the host's initramfs; /oracle/before in it runs first
#   -t SECONDS  limit for one run (300; debug: 1800)
#   -q          only the verdict of each run
#   -T          TAP instead of all that
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

# shellcheck source=host-kernel.sh
. "$here/host-kernel.sh"

kernel=6.12 cpus=1 vcpus=1 runs=1 all='' count='' words='' overlay='' limit='' quiet=''
network='' pressure='' guests=1 beside='' tap=''
while getopts k:c:v:npg:bdr:aA:x:t:qT opt; do
	case $opt in
	k) kernel=$OPTARG ;;
	c) cpus=$OPTARG ;;
	v) vcpus=$OPTARG ;;
	n) network=1 ;;
	p) pressure=1 ;;
	g) guests=$OPTARG ;;
	b) beside=1 ;;
	d) count=1 ;;
	r) runs=$OPTARG ;;
	a) all=1 ;;
	A) words=$OPTARG ;;
	x) overlay=$OPTARG ;;
	t) limit=$OPTARG ;;
	q) quiet=1 ;;
	T) tap=1 quiet=1 ;;
	*) exit 2 ;;
	esac
done
host_kernel "$kernel"
[ "$kernel" != debug ] || limit=${limit:-1800}

results=${RESULTS:-$top/build/results/snp-guest}
rm -rf "$results"
mkdir -p "$results"
results=$(cd "$results" && pwd)
if [ -n "$tap" ]; then
	# Each run's checks, and the plan in the end
	say() { sed -u 's/^/# /'; }
	echo "TAP version 13"
	exec 4>&1
else
	say() { cat; }
	exec 4>&2
fi
[ -n "${NO_BUILD:-}" ] || "$here/build.sh" -k "$kernel" guest 2>&1 | sed -u 's/^/# /' >&4

checks=(--host "$kernel")
if [ -n "$network" ]; then
	words+=" oracle.net=131072"
	checks+=(--net)
fi
if [ -n "$pressure" ]; then
	words+=" oracle.fill=85 oracle.rebind=5"
	checks+=(--pressure)
fi
if [ -n "$beside" ]; then
	words+=" oracle.beside=1"
	checks+=(--beside)
	# A test of the host's kernel is the VMM of the SEV-ES guests; but not one that wants
	# all ASIDs, or has guests that give up
	case $kernel in
	6.12) program=x86_64/sev_migrate_tests subtests=() ;;
	*) program=x86_64/sev_guest_test subtests=(sev_es_guest sev_es_guest_version_1) ;;
	esac
	[ -n "${NO_BUILD:-}" ] ||
		LINUX=$linux "$here/../build-selftests.sh" "$stout" "$program" 2>&1 | sed -u 's/^/# /' >&4
	mkdir -p "$results/beside/oracle"
	cp "$stout/bin/$program" "$results/beside/oracle/sev-es-test"
	{
		echo '#!/bin/sh'
		echo "exec /oracle/sev-es-test ${subtests[*]}"
	} > "$results/beside/oracle/sev-es"
	chmod +x "$results/beside/oracle/sev-es"
fi

# The kernel takes one archive after the other
cp "$top/build/snp/guest.initramfs" "$results/initramfs"
cat "$top/build/snp/modules-$kernel.cpio" >> "$results/initramfs"
for directory in "$results/beside" "$overlay"; do
	[ -d "$directory" ] || continue
	(cd "$directory" && find . -print0 |
		cpio --null --create --format=newc --owner=0:0 --quiet) >> "$results/initramfs"
done
rm -rf "$results/beside"

certs=(--certs "${CERTS:-$top/testbed/qemu/tests/data/amd-psp}")
[ "${CERTS:-}" != no ] || certs=()

# A nonce for each guest. With -d, a new one would make each run another one.
nonce() { # the guest's number
	if [ -n "$count" ]; then
		printf 'identical runs %d' "$1" | sha512sum | cut -d' ' -f1
	else
		od -An -v -tx1 -N64 /dev/urandom | tr -d ' \n'
	fi
}

# What VM NAME said, and the host beside it, out of what all of them said
of_vm() { # name, transcript
	awk -v name="$1" '
		match($0, /^[0-9a-z]+\| /) {
			if (substr($0, 1, RLENGTH - 2) == name) print substr($0, RLENGTH + 1)
			next
		}
		/^host: / { print }
	' "$2"
}

number=0
verdict() { # what it is about, FILE: as lines of TAP, or as they are
	if [ -z "$tap" ]; then
		cat "$2"
		return
	fi
	while IFS= read -r line; do
		case $line in
		'ok - '* | 'not ok - '*)
			number=$((number + 1))
			echo "${line%%ok - *}ok $number - $1: ${line#*ok - }"
			;;
		*) printf '%s\n' "$line" ;;
		esac
	done < "$2"
}

one() { # name, processors, guest's
	local name=$results/$1 status=0 why='' started=$SECONDS i log vm nonces=()
	for ((i = 1; i <= guests; i++)); do
		nonces+=("$(nonce "$i")")
	done
	"$here/boot.sh" ${count:+-d} -c "$2" -k "$kout/bzImage" \
		-i "$results/initramfs" -l "$name.kernel.log" -t "${limit:-300}" \
		-a "oracle.vcpus=$3 oracle.nonce=$(IFS=, && echo "${nonces[*]}") $words" \
		< /dev/null 2> "$name.err" |
		{ if [ -n "$quiet" ]; then cat; else tee /dev/stderr; fi; } > "$name.log" || status=$?
	if [ "$status" -ne 0 ]; then
		why="status $status"
		grep -a '^boot: ' "$name.err" | sed 's/^/# /' >&2 || true
	fi
	: > "$name.verdict"
	for ((i = 1; i <= guests; i++)); do
		log=$name.log vm=
		if [ "$guests" -gt 1 ] || [ -n "$beside" ]; then
			log=$name.$i.log vm="guest $i: "
			of_vm "$i" "$name.log" > "$log"
		fi
		python3 "$here/verify.py" --vcpus "$3" --nonce "${nonces[i - 1]}" \
			--image "$top/build/snp/guest/oracle" "${checks[@]}" "${certs[@]}" "$log" |
			sed "s/ok - /&$vm/" >> "$name.verdict" || why="${why:+$why, }transcript"
	done
	if [ -n "$beside" ]; then
		of_vm ordinary "$name.log" > "$name.ordinary.log"
		python3 "$here/verify.py" --vcpus "$3" --ordinary "${checks[@]}" "$name.ordinary.log" |
			sed "s/ok - /&ordinary VM: /" >> "$name.verdict" || why="${why:+$why, }ordinary VM"
	fi
	if "$here/audit.sh" "$name.err" > "$name.audit"; then
		echo "ok - all pages belong to the host again" >> "$name.verdict"
	else
		why="${why:+$why, }audit"
		echo "not ok - all pages belong to the host again" >> "$name.verdict"
	fi
	cat "$name.audit" >> "$name.verdict"
	if [ "$status" -eq 0 ]; then
		echo "ok - the machine comes to its end, and its kernel has nothing to report"
	else
		echo "not ok - the machine comes to its end, and its kernel has nothing to report # status $status"
		grep -a '^boot: ' "$name.err" | sed 's/^/# /' || true
		"$here/../check-log.sh" "$name.kernel.log" | sed 's/^/# /' || true
	fi >> "$name.verdict"
	if [ -z "$quiet" ] || [ -n "$why$tap" ]; then
		verdict "$1" "$name.verdict"
	fi
	echo "${why:-good}" > "$name.result"
	echo "run-guest: $1: ${why:-good}, $((SECONDS - started)) s" | say
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
					{ echo "run-guest: not the same $log twice" | say; bad=1; }
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
fi | say
[ -z "$tap" ] || echo "1..$number"
exit "$bad"
}
