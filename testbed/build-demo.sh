#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# build-demo.sh
#
# Build the demonstration from samples/kvm: the VMM, the initramfs of its guest,
# and a copy of the kernel for it to boot. All of it goes to build/demo/root,
# which is laid over the machine's initramfs; there /demo/run runs it, with
# further options for the VMM as arguments, and its exit status is the VMM's.
#
# The kernel "base" must have been built: it brings the guest's kernel and module,
# and the headers.
#
# LINUX=dir        another source tree than build/linux
# KBUILD_OUT=dir   another output directory than build/kernel/base
# DEMO_OUT=dir     another one than build/demo

set -eu -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
linux=${LINUX:-$top/build/linux}
kernel=${KBUILD_OUT:-$top/build/kernel/base}
out=${DEMO_OUT:-$top/build/demo}
src=$linux/samples/kvm
module=$kernel/samples/kvm/guest_memfd_guest.ko

die() { echo "build-demo: $*" >&2; exit 1; }

[ -f "$src/vmm.c" ] || die "no samples/kvm in $linux (make tree brings it)"
for file in "$kernel/arch/x86/boot/bzImage" "$module" "$kernel/usr/gen_init_cpio" \
	    "$kernel/usr/include/linux/kvm.h"; do
	[ -f "$file" ] || die "missing: $file (make kernel builds it)"
done

rm -rf "$out"
mkdir -p "$out/root/demo"

build() { # OUTPUT SOURCE...
	gcc -std=gnu11 -O2 -Wall -Wextra -Wno-sign-compare -Wmissing-prototypes \
		-D_GNU_SOURCE -I "$kernel/usr/include" -static -s -o "$@"
}
build "$out/root/demo/guest_memfd_vmm" "$src"/{vmm,vm,boot,devices,claims}.c
build "$out/guest_init" "$src/guest_init.c"
strip --strip-debug -o "$out/guest_memfd_guest.ko" "$module"

# No root's rights needed for the console, unlike with cpio
"$kernel/usr/gen_init_cpio" - > "$out/guest.cpio" <<-EOF
	dir /dev 755 0 0
	nod /dev/console 600 0 0 c 5 1
	file /init $out/guest_init 755 0 0
	file /guest_memfd_guest.ko $out/guest_memfd_guest.ko 644 0 0
EOF
gzip -n "$out/guest.cpio"
mv "$out/guest.cpio.gz" "$out/root/demo/guest.cpio.gz"
cp "$kernel/arch/x86/boot/bzImage" "$out/root/demo/bzImage"

# QEMU's emulation does not tell KVM when a guest writes XCR0, so that KVM's idea
# of the guest's extended state is wrong: the guest does without.
cat > "$out/root/demo/run" <<'EOF'
#!/bin/sh
exec /demo/guest_memfd_vmm --append noxsave "$@" /demo/bzImage /demo/guest.cpio.gz
EOF
chmod +x "$out/root/demo/run"
echo "demo: $(du -sk "$out/root" | cut -f1) KiB in $out/root"
