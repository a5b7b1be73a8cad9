#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# build.sh [-k KERNEL] host | guest
#
# host: the kernel of the computer with SEV-SNP (host-kernel.sh says which there are):
#       6.12, Debian's linux-source-6.12 as it is (the default), ours, or debug.
# guest: the same, and in build/snp/guest what boots a guest in it: Debian trixie's
#       qemu-system-x86_64 and OVMF as they are, the base kernel without the series and a
#       small initramfs of ours. build/snp/guest.initramfs has all of it, and
#       build/snp/modules-KERNEL.cpio the host's modules, which come after it.
#
# QEMU_PACKAGES=...   other packages than qemu-system-x86 and ovmf, NAME=VERSION

set -eu -o pipefail

# In braces, so that bash has read all of it before it runs any of it
{

here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*/*}
out=$top/build/snp
die() { echo "build: $*" >&2; exit 1; }

# shellcheck source=host-kernel.sh
. "$here/host-kernel.sh"

kernel=6.12
while getopts k: opt; do
	case $opt in
	k) kernel=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
case ${1:-} in
host | guest) ;;
*) die "usage: build.sh [-k 6.12 | ours | debug] host | guest" ;;
esac
host_kernel "$kernel"
mkdir -p "$out"
exec 9> "$out/.lock"
flock 9

# Who runs tests may be building the same one
(
	flock 8
	build_host_kernel
) 8> "$top/build/.lock"
[ "$1" = guest ] || exit 0

# The same files make the same archive
archive() { # directory, file
	find "$1" -exec touch -h -d @0 {} +
	(cd "$1" && find . -print0 | LC_ALL=C sort -z |
		cpio --null --create --format=newc --owner=0:0 --reproducible --quiet) > "$2.new"
	mv "$2.new" "$2"
}
modules=$out/modules-$kernel.cpio
[ "$modules" -nt "$kout/bzImage" ] || archive "$kout/modroot" "$modules"

# --- the guest's kernel
base=$(git -C "$top/build/linux" rev-parse 'base^{commit}') || die "no build/linux (make tree makes it)"
tree=$out/guest-linux
if [ "$(cat "$tree.from" 2> /dev/null)" != "$base" ]; then
	rm -rf "$tree" "$tree.from"
	mkdir -p "$tree"
	git -C "$top/build/linux" archive base | tar -x -C "$tree"
	echo "$base" > "$tree.from"
fi
LINUX=$tree KBUILD_OUT=$out/guest-kernel "$here/../build-kernel.sh" --alone snp-guest

# --- Debian's VMM: the program, the libraries it is linked with, its firmware
read -ra packages <<< "${QEMU_PACKAGES:-qemu-system-x86 ovmf}"
if [ "$(cat "$out/trixie.for" 2> /dev/null)" != "${packages[*]}" ]; then
	rm -f "$out/trixie.for"
	"$here/../trixie.sh" resolve "${packages[@]}" "$out/trixie"
	echo "${packages[*]}" > "$out/trixie.for"
fi
stamp=$({
	cat "$out/trixie.packages" "$tree.from" "$0" "$here"/guest/* "$here/guest-start" \
		"$here/../mkinitramfs.sh" "$here/../init" "$here/../timeout"
	sha256sum "$out/guest-kernel/bzImage" "$(command -v busybox)"
	gcc --version
} | sha256sum)
if [ "$(cat "$out/guest.stamp" 2> /dev/null)" = "$stamp" ] && [ -f "$out/guest.initramfs" ]; then
	echo "guest: up to date"
	exit 0
fi
rm -rf "$out/guest" "$out/guest.stamp"
root=$out/guest
mkdir -p "$root"/{oracle,testbed,usr/share/qemu,lib64,lib/x86_64-linux-gnu}

needed() { # file...: itself, and the libraries in the same packages it needs
	python3 - "$out/trixie" "$@" <<- 'END'
		import os, re, subprocess, sys

		root, todo, seen = sys.argv[1], sys.argv[2:], set()
		dirs = ["usr/lib/x86_64-linux-gnu", "usr/lib64"]
		while todo:
		    file = todo.pop()
		    if file in seen:
		        continue
		    seen.add(file)
		    headers = subprocess.run(["readelf", "-d", f"{root}/{file}"], check=True,
		                             capture_output=True, text=True).stdout
		    for name in re.findall(r"\(NEEDED\).*\[(.*)\]", headers):
		        found = [f"{d}/{name}" for d in dirs if os.path.exists(f"{root}/{d}/{name}")]
		        if not found:
		            sys.exit(f"{file} needs {name}, which is in none of the packages")
		        todo.append(found[0])
		print("\n".join(sorted(seen)))
	END
}
files=$(needed usr/bin/qemu-system-x86_64)
while read -r file; do
	case $file in
	usr/bin/*) cp -L "$out/trixie/$file" "$root/oracle/" ;;
	*) cp -L "$out/trixie/$file" "$root/lib/x86_64-linux-gnu/" ;;
	esac
done <<< "$files"
mv "$root"/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$root/lib64/"
cp "$out/trixie/usr/share/ovmf/OVMF.fd" "$root/oracle/"
cp "$out"/trixie/usr/share/{qemu,seabios}/{kvmvapic,linuxboot_dma}.bin "$root/usr/share/qemu/" 2> /dev/null ||
	[ -f "$root/usr/share/qemu/linuxboot_dma.bin" ] || die "trixie's QEMU has no linuxboot_dma.bin"

# --- the guest
cp "$out/guest-kernel/bzImage" "$root/oracle/"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{bin,dev,proc,sys}
cp "$(command -v busybox)" "$work/bin/busybox"
for applet in sh mount dmesg sed cut cat nproc taskset dd sha256sum sync uname grep poweroff \
	      head wc ifconfig stty; do
	ln -s busybox "$work/bin/$applet"
done
for program in report fill talk; do
	gcc -std=gnu11 -O2 -Wall -Wextra -static -s -o "$work/bin/$program" "$here/guest/$program.c"
done
cp "$here/guest/init" "$work/init"
archive "$work" "$root/oracle/initrd"

cp "$here/guest-start" "$root/testbed/start"
"$here/../mkinitramfs.sh" -o "$out/guest.initramfs" "$root"
echo "$stamp" > "$out/guest.stamp"
echo "guest: $(($(stat -c %s "$out/guest.initramfs") >> 20)) MiB in $out/guest.initramfs"
exit 0
}
