#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# build-qemu.sh
#
# Build QEMU from the tree build/qemu into build/qemu-build, and leave it as
# build/qemu-system-x86_64. It looks for firmware where Debian's packages put it. When
# nothing has changed since the last time, this is a matter of a second.
#
# QEMU_TREE=dir       another source tree than build/qemu
# QEMU_BUILD=dir      another output directory than build/qemu-build
# QEMU_CONFIGURE=...  more options for configure, such as --enable-debug

set -eu -o pipefail

# In braces, so that bash has read all of it before it runs any of it
{

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")

die() { echo "build-qemu: $*" >&2; exit 1; }

tree=${QEMU_TREE:-$top/build/qemu}
out=${QEMU_BUILD:-$top/build/qemu-build}
[ -f "$tree/qemu-options.hx" ] || die "no QEMU tree in $tree (make qemu-tree makes it)"
mkdir -p "$out" "$top/build"
exec 8> "$top/build/.qemu-lock"
flock 8
tree=$(cd "$tree" && pwd)
out=$(cd "$out" && pwd)
log=$out/build.log
binary=$out/qemu-system-x86_64
# It is emptied for another configuration
[ -f "$log" ] || [ -z "$(ls -A "$out")" ] || die "$out holds something else"

# The packages' tools, whatever else PATH has
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

cc=gcc
if command -v ccache > /dev/null; then
	cc="ccache gcc"
	# The same objects for the same source in another clone
	export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$top} CCACHE_NOHASHDIR=1
fi

# The devices of the machine, if the queue names them: all others cost minutes
devices=
for name in snp min; do
	[ ! -f "$tree/configs/devices/x86_64-softmmu/$name.mak" ] || { devices=$name; break; }
done
options=(
	--cc="$cc" --target-list=x86_64-softmmu --disable-download
	--without-default-features --enable-system --enable-tcg --enable-nettle
	--enable-fdt=system --enable-werror --disable-docs --disable-debug-info
	--disable-install-blobs --with-pkgversion=testbed
	--firmwarepath=/usr/share/qemu:/usr/share/seabios:/usr/lib/ipxe/qemu
)
[ -z "$devices" ] ||
	options+=(--without-default-devices --with-devices-x86_64="$devices")
# shellcheck disable=SC2206 # a list of words
options+=(${QEMU_CONFIGURE:-})

failed() {
	echo "build-qemu: $1 failed; the end of $log:" >&2
	grep -nE '(error|ERROR|undefined reference|FAILED):? ' "$log" | tail -n 15 >&2 || true
	echo ... >&2
	tail -n 25 "$log" >&2
	exit 1
}

# A copy: beside the one in the build directory is a tree that QEMU takes for where it
# is installed. And machines that run keep theirs.
publish() {
	local to=$top/build/qemu-system-x86_64
	[ -z "${QEMU_TREE:-}${QEMU_BUILD:-}" ] || return 0
	cmp -s "$binary" "$to" || { cp "$binary" "$to.new" && mv -f "$to.new" "$to"; }
}

# Nothing to do? The tree's commit and its uncommitted state, the options and the
# compiler decide. A tree that is not a git work tree is left to ninja's judgement.
config=$(printf '%s\n' "$tree" "${options[@]}"; gcc --version | head -n 1)
state() {
	echo "$config"
	git -C "$tree" rev-parse HEAD
	git -C "$tree" status --porcelain --untracked-files=all
	git -C "$tree" diff HEAD
	git -C "$tree" ls-files --others --exclude-standard -z |
		(cd "$tree" && xargs -0 -r cat)
}
stamp=
if [ -e "$tree/.git" ]; then
	stamp=$(state | sha256sum)
	if [ -x "$binary" ] && [ "$(cat "$out/.stamp" 2> /dev/null)" = "$stamp" ]; then
		publish
		echo "qemu: up to date"
		exit 0
	fi
fi
rm -f "$out/.stamp"
: > "$log"
start=$(date +%s)

# --- configuration
# Debian 12's meson is too old for it: trixie's, which is nothing but Python, in a
# virtual environment that configure takes for the system's Python
venv=$top/build/meson
if [ ! -x "$venv/bin/meson" ]; then
	echo "qemu: fetching meson"
	rm -rf "$venv" "$venv.part"
	"$here/trixie.sh" download meson "$venv.part/deb" ||
		die "no meson from Debian 13"
	dpkg -x "$venv.part"/deb/meson_*.deb "$venv.part/files"
	/usr/bin/python3 -m venv --without-pip "$venv.part"
	cp -a "$venv.part"/files/usr/lib/python3/dist-packages/* \
		"$venv.part"/lib/python3*/site-packages/
	{
		echo "#!$venv/bin/python3"
		sed 1d "$venv.part/files/usr/bin/meson"
	} > "$venv.part/bin/meson"
	chmod +x "$venv.part/bin/meson"
	rm -rf "$venv.part/deb" "$venv.part/files"
	mv "$venv.part" "$venv"
fi

if [ ! -f "$out/build.ninja" ] || [ "$(cat "$out/.config" 2> /dev/null)" != "$config" ]; then
	echo "qemu: configuring"
	# What another configuration has left would be mixed with this one's
	find "$out" -mindepth 1 -maxdepth 1 ! -name build.log -exec rm -rf {} +
	(cd "$out" && "$tree/configure" --python="$venv/bin/python3" "${options[@]}") \
		>> "$log" 2>&1 < /dev/null || failed configuration
	printf '%s\n' "$config" > "$out/.config"
fi

# --- the build, with a line now and then
echo "qemu: building in $out"
ninja -C "$out" -j"${JOBS:-$(nproc)}" qemu-system-x86_64 2>&1 | tee -a "$log" |
	awk -v start="$start" -F '[][/]' '
	$2 ~ /^[0-9]+$/ && $3 ~ /^[0-9]+$/ && int($2 / 100) > shown {
		shown = int($2 / 100); cmd = "date +%s"; cmd | getline now; close(cmd)
		printf "qemu: %d of %d files, %d s\n", $2, $3, now - start; fflush()
	}
	/(warning|error|undefined reference)[: ]/ { print; fflush() }
' || failed "the build"

"$binary" --version > /dev/null || die "$binary does not start"
publish
[ -z "$stamp" ] || printf '%s\n' "$stamp" > "$out/.stamp"
echo "qemu: $(($(stat -c %s "$binary") / 1024)) KiB, $(($(date +%s) - start)) s"

exit
}
