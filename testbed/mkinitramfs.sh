#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mkinitramfs.sh -o FILE [-m MODROOT] [DIR]...
#
# Write an initramfs: busybox, the machine's /init, the modules in MODROOT and
# each DIR laid over the root. /testbed/start, from one of them, is what
# /init runs. Not compressed: the machine loads it faster than it inflates it.

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
die() { echo "mkinitramfs: $*" >&2; exit 1; }

out='' modroot=''
while getopts o:m: opt; do
	case $opt in
	o) out=$OPTARG ;;
	m) modroot=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
[ -n "$out" ] || die "usage: mkinitramfs.sh -o FILE [-m MODROOT] [DIR]..."

busybox=$(command -v busybox) || die "busybox is missing: apt-get install busybox-static"
case $(LC_ALL=C ldd "$busybox" 2>&1) in
*'not a dynamic executable'* | *'statically linked'*) ;;
*) die "$busybox is not static: apt-get install busybox-static" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,tmp,etc,usr,testbed}
ln -s bin "$root/sbin"
ln -s ../bin "$root/usr/bin"
ln -s ../bin "$root/usr/sbin"
cp "$busybox" "$root/bin/busybox"
"$busybox" --list | grep -vx busybox | while read -r applet; do
	ln -s busybox "$root/bin/$applet"
done
cp "$here/init" "$root/init"
# The kselftest runner wants GNU's timeout
rm "$root/bin/timeout"
cp "$here/timeout" "$root/bin/timeout"
for dir in ${modroot:+"$modroot"} "$@"; do
	[ -d "$dir" ] || die "no such directory: $dir"
	cp -a "$dir/." "$root/"
done
chmod +x "$root/init" "$root/bin/timeout"

# The same files make the same initramfs: make bench counts every instruction, and
# those that unpack it differ with the dates and inode numbers
find "$root" -exec touch -h -d @0 {} +
mkdir -p "$(dirname "$out")"
(cd "$root" && find . -print0 | LC_ALL=C sort -z |
	cpio --null --create --format=newc --owner=0:0 --reproducible --quiet) > "$out.new"
mv "$out.new" "$out"
