#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# boot.sh [OPTION]...
#
# Boot the machine (QEMU without KVM: an AMD computer with nested SVM and nested
# paging), copy what /testbed/start prints to standard output, and exit with
# its status. A kernel that reports anything wrong, panics, or does not come to
# an end fails, whatever the status, and the end of its log is shown.
#
#   -k FILE     the kernel (default: build/bzImage)
#   -i FILE     the initramfs, from mkinitramfs.sh
#   -l FILE     where the kernel's log goes (default: build/boot.log)
#   -t SECONDS  limit for all of it (default: 300)
#   -a WORDS    more kernel command line, once or several times
#   -c N        processors (default: 3, of which the first runs no VMs, see init)
#   -m SIZE     memory (default: 4G)
#   -d          count instructions instead of time: one is a nanosecond, on one
#               processor, and every run is like the other. Output comes at the end.
#   -I          connect standard input too (for a shell)
#   -q FILE     the emulator (default: qemu-system-x86_64)
#   -M ARGS     arguments of the emulator that make another computer than "-machine pc
#               -cpu EPYC", once or several times
#   -e          the kernel log is checked by the caller: ignore reports in it
#
# Exit status 124: ran out of time. 125: the machine died or could not start.
# 126: the kernel reported something.

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
die() { echo "boot: $*" >&2; exit 125; }

kernel=$top/build/bzImage
initramfs='' log=$top/build/boot.log limit=300 append='' cpus=3 memory=4G
input=/dev/null reports=1 emulator=qemu-system-x86_64 computer=()
machine=(-accel 'tcg,thread=multi') nodes=2
results=stdio,id=results,signal=on output=
while getopts k:i:l:t:a:c:m:dIeq:M: opt; do
	case $opt in
	k) kernel=$OPTARG ;;
	i) initramfs=$OPTARG ;;
	l) log=$OPTARG ;;
	t) limit=$OPTARG ;;
	a) append+=" $OPTARG" ;;
	c) cpus=$OPTARG ;;
	m) memory=$OPTARG ;;
	d)	cpus=1 nodes=1 output=1
		machine=(-accel 'tcg,thread=single' -icount 'shift=0,sleep=off' -seed 1
			-rtc 'base=2020-01-01,clock=vm') ;;
	I) input=/dev/stdin ;;
	e) reports= ;;
	q) emulator=$OPTARG ;;
	M)	read -ra words <<< "$OPTARG"
		computer+=("${words[@]}") ;;
	*) exit 2 ;;
	esac
done
# A node without a processor makes the kernel warn of its own workqueues
[ "$cpus" -gt 1 ] || nodes=1
[ -z "$output" ] || [ "$input" = /dev/null ] || die "-d does not go with -I"
[ -f "$kernel" ] || die "no kernel: $kernel (make kernel builds it)"
[ -f "$initramfs" ] || die "no initramfs: ${initramfs:-(-i is missing)}"
command -v "$emulator" > /dev/null ||
	die "$emulator is missing (Debian's: apt-get install qemu-system-x86)"
[ "${#computer[@]}" -gt 0 ] || computer=(-machine pc -cpu EPYC)

mkdir -p "$(dirname "$log")"
: > "$log"
# Whatever comes from outside comes at some instruction or other, be it the end of
# standard input
if [ -n "$output" ]; then
	output=$log.results
	results=file,id=results,path=$output
fi

# tsc=reliable: emulated processors' TSCs agree, but the watchdog that should find
# that out compares them with a clock that may be late on a busy host. no_timer_check:
# so may the interrupts of which the kernel wants to see some within 40 ms.
cmdline="console=ttyS0 tsc=reliable no_timer_check oops=panic panic=-1 hung_task_panic=1"
cmdline+=" softlockup_panic=1 watchdog_thresh=30 rcupdate.rcu_cpu_stall_timeout=60"
cmdline+=" sysctl.kernel.hung_task_timeout_secs=120 reboot=t numa=fake=$nodes $append"

qemu=
trap '[ -z "$qemu" ] || kill "$qemu" 2>/dev/null' EXIT
trap 'exit 130' INT TERM
status=0
# timeout is what the shell waits for; on a signal it passes it on to QEMU
timeout --foreground -k 10 "$limit" \
	"$emulator" "${computer[@]}" "${machine[@]}" \
	-smp "$cpus" -m "$memory" -nodefaults -display none -monitor none -no-reboot \
	-kernel "$kernel" -initrd "$initramfs" -append "$cmdline" \
	-serial "file:$log" -chardev "$results" -serial chardev:results \
	< "$input" &
qemu=$!
wait "$qemu" || status=$?
qemu=
if [ -n "$output" ]; then
	cat "$output"
	rm -f "$output"
fi

show_end() {
	echo "boot: $1; the end of $log:" >&2
	tail -n 40 "$log" | tr -d '\r' >&2
}
if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
	show_end "the machine did not come to an end within $limit s"
	exit 124
fi
# Everything else first: a panic is also a report
if [ -n "$reports" ] && ! found=$("$here/check-log.sh" "$log"); then
	show_end "the kernel reported:
$found"
	exit 126
fi
ended=$(tr -d '\r' < "$log" | sed -n 's/^\(\[[^]]*\] \)\?testbed: exit \([0-9]*\)$/\2/p' | tail -n 1)
if [ -z "$ended" ]; then
	[ "$status" -eq 0 ] || die "QEMU failed with status $status"
	show_end "the machine stopped before its work was done"
	exit 125
fi
exit "$ended"
