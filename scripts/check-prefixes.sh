#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# TAP: every prefix of the series builds, with the configuration of a host of
# SEV-SNP guests on top of the base's. At each one the objects are compiled that the
# series touches anywhere: KVM, the security processor's driver, and files here and
# there; the whole kernel, which takes minutes, is built for the last only. It goes on
# in build/kernel/prefixes, from a tree of its own, from one prefix to the next; what
# has been built with this configuration is not built again ("make clean" forgets),
# and documents and tests are not part of it.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
wt=$top/build/prefix
cache=$top/build/cache/prefixes
mkdir -p "$cache"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1

list=$(scripts/patchqueue.py commits)
if [ -z "$list" ]; then
	echo '1..1'
	echo 'ok 1 - prefixes # SKIP patches/series is empty'
	exit 0
fi
base=$(scripts/patchqueue.py base)
head=$(scripts/patchqueue.py head)

out=$top/build/kernel/prefixes
mkdir -p "$out"

# What to compile: directories with a Makefile of their own where there are new files,
# else files.
touched=$(git -C build/linux diff --diff-filter=M --name-only "$base" "$head" -- '*.c' |
	grep -vE '^(arch/x86/kvm|virt/kvm|drivers/crypto/ccp|tools|samples)/' | sed 's/\.c$/.o/')
mapfile -t targets <<<"arch/x86/kvm/
drivers/crypto/ccp/
$touched"

cc=gcc
if command -v ccache >/dev/null; then
	cc="ccache gcc"
	export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$top} CCACHE_NOHASHDIR=1
fi
kmake() {
	make -s -C "$wt" O="$out" ARCH=x86_64 CC="$cc" HOSTCC="$cc" LOCALVERSION= "$@"
}
build_prefix() {
	local rmp=()
	[ ! -d "$wt/arch/x86/virt/svm" ] || rmp=(arch/x86/virt/svm/)
	# What comes later wins
	cat testbed/configs/{base,snp-host}.config > "$out/wanted.config"
	kmake KCONFIG_ALLCONFIG="$out/wanted.config" allnoconfig &&
		kmake -j"$(nproc)" "${targets[@]}" "${rmp[@]}"
}

tool=$(cat testbed/configs/{base,snp-host}.config testbed/build-kernel.sh scripts/check-prefixes.sh
	gcc --version | head -n 1)

total=$(wc -l <<<"$list")
echo "1..$total"
n=0
while read -r commit name; do
	n=$((n + 1))
	built=$(for tree in "$commit" "$commit:tools"; do
		git -C build/linux ls-tree "$tree"
	done | grep -vP '\t(tools|testing|Documentation)$')
	key=$(printf '%s\n' "$tool" "$built" | sha256sum | cut -c 1-40)
	if [ -e "$cache/$key" ]; then
		echo "ok $n - $name (built before)"
		continue
	fi
	if [ "$commit" = "$head" ] &&
		[ "$(git -C build/linux rev-parse HEAD)" = "$head" ] &&
		[ -z "$(git -C build/linux status --porcelain -uno)" ]; then
		# the whole series: that is the host's kernel, built already or soon
		build=(testbed/build-kernel.sh snp-host)
	else
		if ! git -C "$wt" cat-file -e "$commit" 2>/dev/null; then
			rm -rf "$wt"
			git clone -q --shared --no-checkout build/linux "$wt"
		fi
		git -C "$wt" checkout -q -f --detach "$commit"
		build=(build_prefix)
	fi
	if "${build[@]}" >"$cache/log" 2>&1 </dev/null; then
		: >"$cache/$key"
		echo "ok $n - $name"
	else
		echo "not ok $n - $name"
		tail -n 40 "$cache/log" | sed 's/^/# /'
	fi
done <<<"$list"
