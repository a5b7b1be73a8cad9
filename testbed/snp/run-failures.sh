#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-failures.sh [NAME]...
#
# Let the firmware refuse, and the RMP be in use, in the computer with SEV-SNP, and run
# guests on our kernel all the same: failures/table has what is made to fail and what has
# to come of it. One boot each; TAP. Nothing may hang, each report in the kernel's log
# is a failure, and the pages that the kernel says are lost are those that the
# machine finds not to be the hypervisor's.
#
# KERNEL=NAME                ours, or debug: see host-kernel.sh (ours)
# QEMU, MACHINE_ARGS, CPUS   see boot.sh
# RESULTS=DIR                where the logs go (build/results/snp-failures)

set -eu -o pipefail

# In braces, so that bash has read all of it before it runs any of it
{

here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*/*}
results=${RESULTS:-$top/build/results/snp-failures}
export CPUS=${CPUS:-2}
bail() { echo "Bail out! $*"; exit 1; }

# shellcheck source=host-kernel.sh
. "$here/host-kernel.sh"
prepare_host "${KERNEL:-ours}"

rm -rf "$results"
mkdir -p "$results/root/testbed"
results=$(cd "$results" && pwd)
cp "$here/failures/start" "$stout"/bin/x86_64/snp_{failure,platform}_test "$results/root/testbed/"
"$here/../mkinitramfs.sh" -o "$results/initramfs" -m "$kout/modroot" "$results/root"
rm -rf "$results/root"

names=() args=() append=() says=() lived=() kept=()
while IFS='|' read -r name machine output live keep; do
	read -r name <<< "$name"
	[ "$#" -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
	arg='' word='testbed.modules='
	for what in $machine; do
		case $what in
		psp=*)
			IFS=, read -r command code nth <<< "${what#psp=}"
			arg+=" -global amd-psp.fail-command=$command -global amd-psp.fail-status=$code"
			[ -z "$nth" ] || arg+=" -global amd-psp.fail-nth=$nth"
			;;
		rmp=*) arg+=" -global x86-rmp.${what#rmp=}" ;;
		*) word+=" failures.$what" ;;
		esac
	done
	read -r output <<< "$output"
	read -r live <<< "$live"
	read -r keep <<< "$keep"
	names+=("$name") args+=("$arg") append+=("$word") says+=("$output") lived+=("$live") kept+=("$keep")
done < <(sed '/^#/d;/^$/d' "$here/failures/table")
[ "${#names[@]}" -gt 0 ] || bail "no failure of that name: $*"

echo "TAP version 13"
echo "1..${#names[@]}"
failed=0
for i in "${!names[@]}"; do
	name=${names[i]} why=() status=0 started=$SECONDS
	log=$results/$name.log
	MACHINE_ARGS="${MACHINE_ARGS:-} ${args[i]}" "$here/boot.sh" -k "$kout/bzImage" -i "$results/initramfs" \
		-l "$log" -t 240 -a "${append[i]}" > "$results/$name.out" 2> "$results/$name.err" \
		< /dev/null || status=$?
	out=$(tr -d '\r' < "$results/$name.out")
	[ "$status" -eq 0 ] || why+=("status $status")
	[ -z "${says[i]}" ] || grep -qE -e "${says[i]}" <<< "$out" || why+=("does not say \"${says[i]}\"")
	[ "${lived[i]}" = . ] || grep -qE "^# ${lived[i]} of 5 guests lived" <<< "$out" ||
		why+=("not ${lived[i]} of 5: $(grep -m 1 'guests lived' <<< "$out" || echo none)")
	lost=$(sed -n 's/^host: \([0-9]*\) pages lost$/\1/p' <<< "$out")
	found=$(sed -n 's/^rmp-audit: \([0-9]*\) pages not hypervisor-owned\r*$/\1/p' "$results/$name.err")
	[ "${kept[i]}" = . ] || [ "${found:-none}" = "$((${lost:-0} + kept[i]))" ] ||
		why+=("${lost:-?} pages lost and ${kept[i]} kept, but ${found:-?} not the hypervisor's")
	[ "${kept[i]}" = . ] || [ "${lost:-0}" -eq 0 ] || grep -q 'cannot be used any more' "$log" ||
		why+=("the kernel does not report the loss")
	result=ok
	[ "${#why[@]}" -eq 0 ] || { result='not ok' failed=$((failed + 1)); }
	echo "$result $((i + 1)) $name # ($((SECONDS - started)) s) ${lost:-?} pages lost"
	for line in "${why[@]}"; do
		echo "#   $line"
	done
	if [ "${#why[@]}" -gt 0 ]; then
		{ tail -n 15 <<< "$out"; grep -aE 'SEV|RMP|WARN|BUG|psp' "$log" | tail -n 15; } | cut -c1-160 | sed 's/^/#     /'
	fi
done
rm -f "$results/initramfs"
[ "$failed" -eq 0 ]
exit
}
