#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# TAP: QEMU builds with every prefix of its queue. It goes on in
# build/qemu-prefix, from one prefix to the next; a prefix that has been built
# with these options is not built again ("make clean" forgets).
set -eu
cd "$(dirname "$0")/.."
top=$PWD
# named and placed like build/qemu and build/qemu-build: what ccache has is used
wt=$top/build/qemu-prefix/qemu
cache=$top/build/cache/qemu-prefixes
mkdir -p "$cache" "${wt%/*}"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
pq() { scripts/patchqueue.py --project=qemu "$@"; }

list=$(pq commits)
if [ -z "$list" ]; then
	echo '1..1'
	echo 'ok 1 - prefixes # SKIP testbed/qemu/patches/series is empty'
	exit 0
fi
head=$(pq head)
tool=$(cat testbed/build-qemu.sh; echo "${QEMU_CONFIGURE:-}"; gcc --version | head -n 1)

total=$(wc -l <<<"$list")
echo "1..$total"
n=0
while read -r commit name; do
	n=$((n + 1))
	tree=$(git -C build/qemu rev-parse "$commit^{tree}")
	key=$(printf '%s\n' "$tool" "$tree" | sha256sum | cut -c 1-40)
	if [ -e "$cache/$key" ]; then
		echo "ok $n - $name (built before)"
		continue
	fi
	if [ "$commit" = "$head" ] &&
		[ "$(git -C build/qemu rev-parse HEAD)" = "$head" ] &&
		[ -z "$(git -C build/qemu status --porcelain)" ]; then
		# the whole queue: that is QEMU as it is tested, built already or soon
		build=(testbed/build-qemu.sh)
	else
		if ! git -C "$wt" cat-file -e "$commit" 2>/dev/null; then
			rm -rf "$wt"
			git clone -q --shared --no-checkout build/qemu "$wt"
		fi
		git -C "$wt" checkout -q -f --detach "$commit"
		build=(env QEMU_TREE="$wt" QEMU_BUILD="${wt%/*}/qemu-build" testbed/build-qemu.sh)
	fi
	if "${build[@]}" >"$cache/log" 2>&1 </dev/null; then
		: >"$cache/$key"
		echo "ok $n - $name"
	else
		echo "not ok $n - $name"
		tail -n 40 "$cache/log" | sed 's/^/# /'
	fi
done <<<"$list"
