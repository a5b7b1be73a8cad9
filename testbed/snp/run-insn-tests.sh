#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-insn-tests.sh [TEST]...
#
# Build the emulator's tests of the SEV-SNP instructions and checks, which run on
# the bare machine, run them (all, by default), and print TAP. Each test's own output
# is left in build/snp-tests.
#
# QEMU=FILE       another emulator than build/qemu-system-x86_64
# QEMU_TREE=DIR   another source tree than build/qemu
# SNP_CPU=MODEL   what follows -cpu
# SNP_TESTS=DIR   another directory than build/snp-tests
# SNP_LIMIT=SEC   for each program

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*/*}
tree=${QEMU_TREE:-$top/build/qemu}
qemu=${QEMU:-$top/build/qemu-system-x86_64}
cpu=${SNP_CPU:-EPYC-Milan,sev-host=on,hypervisor=off,phys-bits=48}
out=${SNP_TESTS:-$top/build/snp-tests}
bail() { echo "Bail out! $*"; exit 1; }

src=$tree/tests/tcg/x86_64/system
minilib=$tree/tests/tcg/minilib
if [ -z "${QEMU:-}" ]; then
	"$here/../build-qemu.sh" 2>&1 | sed 's/^/# /'
fi
[ -f "$src/snp-lib.c" ] || bail "no tests in $src"
[ -x "$qemu" ] || bail "no emulator at $qemu"
mkdir -p "$out"

# As QEMU's tests/tcg builds them; see Makefile.softmmu-target there
cflags=(-Wall -O0 -ggdb -ffreestanding -fno-stack-protector -nostdlib -fno-pic -fno-pie
	-mno-red-zone -mgeneral-regs-only -fcf-protection=none -isystem "$minilib")
ldflags=(-no-pie -static "-Wl,-T$src/kernel.ld" "-Wl,-melf_x86_64" "-Wl,--build-id=none")

compile() { gcc "${cflags[@]}" -Wa,--noexecstack -c "$1" -o "$2"; }

objs=("$out/boot.o" "$out/snp-entry.o" "$out/snp-lib.o" "$out/printf.o")
compile "$src/boot.S" "${objs[0]}"
compile "$src/snp-entry.S" "${objs[1]}"
compile "$src/snp-lib.c" "${objs[2]}"
compile "$minilib/printf.c" "${objs[3]}"

if [ $# -eq 0 ]; then
	for file in "$src"/snp-*.c; do
		name=$(basename "$file" .c)
		[ "$name" = snp-lib ] || set -- "$@" "$name"
	done
fi

num=0 bad=0
for name; do
	gcc "${cflags[@]}" "$src/$name.c" -o "$out/$name" "${ldflags[@]}" "${objs[@]}" -lgcc
	status=0
	timeout -k 5 "${SNP_LIMIT:-60}" "$qemu" -machine q35,sata=off -accel tcg,thread=multi \
		-smp 2 -m 4G -cpu "$cpu" -device amd-iommu,snp=on -device amd-psp \
		-nodefaults -nic none -display none -monitor none -serial none \
		-L /usr/share/qemu -L /usr/share/seabios -L /usr/lib/ipxe/qemu \
		-chardev file,path="$out/$name.out",id=output -device isa-debugcon,chardev=output \
		-device isa-debug-exit,iobase=0xf4,iosize=0x4 -no-reboot \
		-kernel "$out/$name" > "$out/$name.log" 2>&1 || status=$?
	# The plan comes last: without it the program did not get to its end
	count=0 planned=''
	while IFS= read -r line; do
		case $line in
		'ok '* | 'not ok '*)
			num=$((num + 1)) count=$((count + 1))
			[ "${line#not}" = "$line" ] || bad=$((bad + 1))
			echo "${line%%ok *}ok $num - $name:${line#*ok "$count" -}"
			;;
		1..*) planned=${line#1..} ;;
		*) echo "${line/#Bail out!/# bailed out:}" ;;
		esac
	done < "$out/$name.out"
	num=$((num + 1))
	# isa-debug-exit makes 1 of success and 3 of failed tests; ACPI power-off makes 0
	if [ "$planned" = "$count" ] && [ "$count" -gt 0 ] && [ "$status" -lt 4 ]; then
		echo "ok $num - $name: complete"
	else
		bad=$((bad + 1))
		echo "not ok $num - $name: complete # status $status, $count of ${planned:-?} results"
	fi
done
echo "1..$num"
echo "# $bad of $num failed"
[ "$bad" -eq 0 ]
