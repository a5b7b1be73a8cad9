#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# build-kernel.sh [--allow-missing=SYMBOL,SYMBOL...] [--alone] NAME
#
# Build the kernel NAME (base, debug, snp-host) from the tree build/linux into
# build/kernel/NAME: bzImage, and the modules in modroot/. The configuration is
# configs/base.config, then configs/NAME.config, on top of allnoconfig, and every line
# of it must have taken effect. snp-host+debug has that of both, the later ones'
# lines winning. When nothing has changed since
# the last time, this is a matter of a second or two.
#
# --allow-missing tolerates named symbols that the tree does not know (a tree
# without the series on it). --alone leaves out configs/base.config.
#
# LINUX=dir        another source tree than build/linux
# KBUILD_OUT=dir   another output directory than build/kernel/NAME

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")

die() { echo "build-kernel: $*" >&2; exit 1; }

allow=,
alone=
name=
for arg; do
	case $arg in
	--allow-missing=*) allow=,${arg#*=}, ;;
	--alone) alone=1 ;;
	-*) die "unknown option $arg" ;;
	*) [ -z "$name" ] || die "one kernel at a time"; name=$arg ;;
	esac
done
[ -n "$name" ] || die "usage: build-kernel.sh [--allow-missing=SYMBOL,...] NAME"

linux=${LINUX:-$top/build/linux}
out=${KBUILD_OUT:-$top/build/kernel/$name}
log=$out/build.log

[ -f "$linux/Kbuild" ] || die "no kernel tree in $linux (make tree makes it)"
fragments=()
[ -n "$alone" ] || fragments=("$here/configs/base.config")
IFS=+ read -ra parts <<< "$name"
for part in "${parts[@]}"; do
	[ "$part" != base ] || continue
	[ -f "$here/configs/$part.config" ] || die "no configuration named $part in $here/configs"
	fragments+=("$here/configs/$part.config")
done

mkdir -p "$out"
linux=$(cd "$linux" && pwd)
out=$(cd "$out" && pwd)
log=$out/build.log

cc=gcc
if command -v ccache >/dev/null; then
	cc="ccache gcc"
	# The same objects for the same source in another clone
	export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$top} CCACHE_NOHASHDIR=1
fi
# A fixed date and builder: the same source gives the same kernel, and ccache hits
kmake() {
	make -C "$linux" O="$out" ARCH=x86_64 CC="$cc" HOSTCC="$cc" LOCALVERSION= \
		KBUILD_BUILD_TIMESTAMP="@0" KBUILD_BUILD_USER=testbed \
		KBUILD_BUILD_HOST=testbed "$@"
}

failed() {
	echo "build-kernel: $1 failed; the end of $log:" >&2
	grep -nE '(error|Error|undefined reference|warning):? ' "$log" | tail -n 15 >&2 || true
	echo ... >&2
	tail -n 25 "$log" >&2
	exit 1
}

# Nothing to do? The tree's commit and its uncommitted state, the configuration,
# the compiler and this script decide. One that source-tree.sh has unpacked is what
# TREE.from says. Any other is left to make's own judgement.
state() {
	cat "${fragments[@]}" "$0"
	gcc --version | head -n 1
	echo "$allow"
	if [ -f "$linux.from" ]; then
		cat "$linux.from"
		return
	fi
	git -C "$linux" rev-parse HEAD
	git -C "$linux" status --porcelain --untracked-files=all
	git -C "$linux" diff HEAD
	git -C "$linux" ls-files --others --exclude-standard -z |
		(cd "$linux" && xargs -0 -r cat)
}
stamp=
if [ -e "$linux/.git" ] || [ -f "$linux.from" ]; then
	stamp=$(state | sha256sum)
	if [ -f "$out/.stamp" ] && [ "$(cat "$out/.stamp")" = "$stamp" ] &&
	   [ -f "$out/bzImage" ] && [ -d "$out/modroot" ]; then
		[ "$name" != base ] || [ -n "${KBUILD_OUT:-}" ] ||
			cmp -s "$out/bzImage" "$top/build/bzImage" ||
			cp "$out/bzImage" "$top/build/bzImage"
		echo "kernel $name: up to date"
		exit 0
	fi
fi
rm -f "$out/.stamp"
: > "$log"
start=$(date +%s)

# --- configuration
# One file in which later fragments win, then allnoconfig around it.
awk '
	/^CONFIG_[A-Za-z0-9_]+=/ { sym = $0; sub(/=.*/, "", sym) }
	/^# CONFIG_[A-Za-z0-9_]+ is not set$/ { sym = $2 }
	sym != "" { if (!(sym in line)) order[++n] = sym; line[sym] = $0; sym = "" }
	END { for (i = 1; i <= n; i++) print line[order[i]] }
' "${fragments[@]}" > "$out/wanted.config"
if ! cmp -s "$out/wanted.config" "$out/wanted.done" || [ ! -f "$out/.config" ] ||
   [ -n "$(find "$linux" -name 'Kconfig*' -newer "$out/.config" -print -quit)" ]; then
	kmake KCONFIG_ALLCONFIG="$out/wanted.config" allnoconfig >> "$log" 2>&1 ||
		failed configuration
fi

refused=0
while read -r want; do
	case $want in
	'# '*) sym=${want#\# }; sym=${sym%% *}
		! grep -q "^$sym=" "$out/.config" && continue ;;
	*)	sym=${want%%=*}
		grep -qxF -- "$want" "$out/.config" && continue ;;
	esac
	case $allow in *",${sym#CONFIG_},"*) continue ;; esac
	got=$(grep -E "^$sym=|^# $sym is" "$out/.config" || echo "no such symbol, or its dependencies are not met")
	echo "build-kernel: $name: wanted \"$want\", got: $got" >&2
	refused=$((refused + 1))
done < "$out/wanted.config"
[ "$refused" -eq 0 ] || { rm -f "$out/.config"; die "$refused lines of the configuration were not honoured"; }
cp "$out/wanted.config" "$out/wanted.done"

# --- the build, with a line now and then
echo "kernel $name: building in $out"
targets=bzImage
! grep -qx CONFIG_MODULES=y "$out/.config" || targets="bzImage modules"
# shellcheck disable=SC2086 # words
kmake -j"${JOBS:-$(nproc)}" $targets 2>&1 | tee -a "$log" | awk -v name="$name" -v start="$start" '
	/^  (CC|AS|LD|AR|HOSTCC|HOSTLD)/ { n++ }
	n && n % 100 == 0 && n != shown {
		shown = n; cmd = "date +%s"; cmd | getline now; close(cmd)
		printf "kernel %s: %d files, %d s\n", name, n, now - start; fflush()
	}
	/(warning|error):/ { print; fflush() }
' || failed "the build"

rm -rf "$out/modroot"
mkdir "$out/modroot"
[ "$targets" = bzImage ] ||
	kmake INSTALL_MOD_PATH="$out/modroot" INSTALL_MOD_STRIP=1 modules_install >> "$log" 2>&1 ||
	failed "installing the modules"
rm -f "$out"/modroot/lib/modules/*/build "$out"/modroot/lib/modules/*/source
cp "$out/arch/x86/boot/bzImage" "$out/bzImage"
[ "$name" != base ] || [ -n "${KBUILD_OUT:-}" ] || cp "$out/bzImage" "$top/build/bzImage"

[ -z "$stamp" ] || printf '%s\n' "$stamp" > "$out/.stamp"
modules=$(find "$out/modroot" -name '*.ko' | wc -l)
echo "kernel $name: $(($(stat -c %s "$out/bzImage") / 1024)) KiB, $modules modules, $(($(date +%s) - start)) s"
