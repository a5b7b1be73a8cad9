#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# boot.sh [OPTION]...: ../boot.sh with the computer that has SEV-SNP, and all of its
# options. When it ends, the emulator writes to standard error which pages
# do not belong to the hypervisor ("rmp-audit: ").
#
# QEMU=FILE            the emulator (default: build/qemu-system-x86_64)
# MACHINE_ARGS=ARGS    more of its arguments
# CPUS=N               processors (1)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
qemu=${QEMU:-${here%/*/*}/build/qemu-system-x86_64}
[ -x "$qemu" ] || { echo "boot: no emulator: $qemu (make qemu builds it)" >&2; exit 125; }

# Without sata=off, the BIOS spends half a minute looking for disks
exec "$here/../boot.sh" -q "$qemu" -a testbed.cpus=all -c "${CPUS:-1}" \
	-M "-machine q35,sata=off" \
	-M "-cpu EPYC-Milan,sev-host=on,hypervisor=off,phys-bits=48" \
	-M "-device amd-iommu,snp=on -device amd-psp -nic none -vga none" \
	-M "-global x86-rmp.audit-at-exit=on" \
	-M "-L /usr/share/qemu -L /usr/share/seabios -L /usr/lib/ipxe/qemu" \
	-M "${MACHINE_ARGS:-}" "$@"
