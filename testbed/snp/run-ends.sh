#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-ends.sh [NAME]...
#
# How our kernel comes to its end as a host of SEV-SNP guests: powered off, by kexec, in a
# panic with and without a crash kernel, most of them with a guest on it. One boot each;
# TAP. Nothing may hang.
#
# QEMU, MACHINE_ARGS, CPUS   see boot.sh
# RESULTS=DIR                where the logs go (build/results/snp-ends)

set -eu -o pipefail

# In braces, so that bash has read all of it before it runs any of it
{

here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*/*}
results=${RESULTS:-$top/build/results/snp-ends}
export CPUS=${CPUS:-2}
bail() { echo "Bail out! $*"; exit 1; }

# shellcheck source=host-kernel.sh
. "$here/host-kernel.sh"
prepare_host ours

rm -rf "$results"
mkdir -p "$results/root/testbed"
results=$(cd "$results" && pwd)
root=$results/root
cp "$here/failures/end" "$root/testbed/start"
cp "$stout/bin/x86_64/snp_failure_test" "$root/testbed/"
"$here/../mkinitramfs.sh" -o "$results/second" -m "$kout/modroot" "$root"
# The first one has the second one in it
mv "$results/second" "$root/testbed/"
cp "$kout/bzImage" "$root/testbed/"
gcc -std=gnu11 -O2 -Wall -Wextra -static -s -o "$root/testbed/kexec" "$here/failures/kexec.c"
"$here/../mkinitramfs.sh" -o "$results/initramfs" -m "$kout/modroot" "$root"
rm -rf "$root"

names=("$@")
[ "${#names[@]}" -gt 0 ] || names=(poweroff kexec kexec-guest panic crash)
echo "TAP version 13"
echo "1..${#names[@]}"
failed=0 num=0
for name in "${names[@]}"; do
	num=$((num + 1))
	why=() want=() output=() words='' status=0 end=0 audit='' started=$SECONDS
	log=$results/$name.log
	case $name in
	poweroff) ;;
	kexec)
		want=('SEV-SNP: RMP at .* was enabled before') audit=1
		output=('host: after kexec' '5 of 5 guests lived')
		;;
	kexec-guest)
		# The next kernel could not write to all of its memory
		want=('pages of memory still belong to guests or the firmware: no kexec, resetting') end=125
		;;
	panic) want=('Kernel panic - not syncing: sysrq') end=125 ;;
	crash)
		want=('Kernel panic - not syncing: sysrq') output=('host: after a crash')
		words='crashkernel=512M'
		;;
	*) bail "no end '$name'" ;;
	esac
	"$here/boot.sh" -k "$kout/bzImage" -i "$results/initramfs" -l "$log" -t 240 -e \
		-a "testbed.modules= testbed.end=$name $words" \
		> "$results/$name.out" 2> "$results/$name.err" < /dev/null || status=$?
	[ "$status" -eq "$end" ] || why+=("status $status, not $end")
	for line in "${want[@]}"; do
		grep -aqE -e "$line" "$log" || why+=("the kernel does not say \"$line\"")
	done
	for line in "${output[@]}"; do
		grep -aqE -e "$line" "$results/$name.out" || why+=("no output \"$line\"")
	done
	# Panics are what was asked for
	reports=$("$here/../check-log.sh" "$log" 50 | grep -v 'Kernel panic - not syncing: sysrq' || :)
	[ -z "$reports" ] || why+=("reports: $reports")
	[ -z "$audit" ] || "$here/audit.sh" "$results/$name.err" > "$results/$name.audit" ||
		why+=("$(cat "$results/$name.audit")")
	result=ok
	[ "${#why[@]}" -eq 0 ] || { result='not ok' failed=$((failed + 1)); }
	echo "$result $num $name # ($((SECONDS - started)) s)"
	for line in "${why[@]}"; do
		echo "#   ${line//$'\n'/ }"
	done
	if [ "${#why[@]}" -gt 0 ]; then
		{ tail -n 10 "$results/$name.out"; tail -n 15 "$log"; } | tr -d '\r' | cut -c1-160 | sed 's/^/#     /'
	fi
done
rm -f "$results/initramfs"
[ "$failed" -eq 0 ]
exit
}
