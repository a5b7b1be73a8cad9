#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# peer-tree.sh VERSION | PATH
#
# Make another kernel's source tree available: that of Debian's linux-source-VERSION,
# or PATH, a tree or a tarball. Prints a directory of its own in build/peer for
# it; the tree is linux in there.

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
die() { echo "peer-tree: $*" >&2; exit 1; }

[ $# -eq 1 ] || die "usage: peer-tree.sh VERSION | PATH"
case $1 in
*[!0-9.]*)
	[ -e "$1" ] || die "there is no $1"
	source=$(realpath "$1")
	# A directory of its own for each of the same name
	name=$(basename "$source")-$(printf %s "$source" | cksum | cut -d' ' -f1)
	;;
*)
	"$top/scripts/deps.sh" "linux-source-$1" >&2 ||
		die "apt has no linux-source-$1. 6.12 is among Debian 12's security updates:" \
			"apt's sources need the suite bookworm-security, component main"
	source=/usr/src/linux-source-$1.tar.xz
	name=$1
	[ -f "$source" ] || die "there is no $source"
	;;
esac

out=$top/build/peer/$name
tree=$out/linux
mkdir -p "$out"
if [ -d "$source" ]; then
	rm -rf "$tree" "$tree.from"
	ln -s "$source" "$tree"
else
	mark=$(stat -c '%n %s %Y' "$source")
	if [ "$(cat "$tree.from" 2> /dev/null)" != "$mark" ]; then
		echo "peer-tree: unpacking $source" >&2
		rm -rf "$tree" "$tree.from"
		mkdir -p "$tree"
		tar -C "$tree" --strip-components=1 -xf "$source"
		echo "$mark" > "$tree.from"
	fi
fi
echo "$out"
