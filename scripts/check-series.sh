#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: check-series.sh [linux | qemu]
#
# TAP: what "make series" makes applies to a pristine base with git am and gives
# the identical tree, and checkpatch --strict has nothing to say about it but
# what scripts/checkpatch-exceptions gives a reason for. With "qemu" the same for
# "make qemu-series", QEMU's checkpatch and scripts/checkpatch-exceptions-qemu.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
project=${1:-linux}
case $project in
linux)
	queue=patches tree=build/linux mails=build/series
	exceptions=scripts/checkpatch-exceptions
	options=(--strict --terse --show-types --no-summary --color=never)
	;;
qemu)
	queue=testbed/qemu/patches tree=build/qemu mails=build/series-qemu
	exceptions=scripts/checkpatch-exceptions-qemu
	options=(--strict --terse --no-summary --color=never)
	;;
*) echo "usage: check-series.sh [linux | qemu]" >&2; exit 1 ;;
esac
pq() { scripts/patchqueue.py --project="$project" "$@"; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_COMMITTER_NAME=Check GIT_COMMITTER_EMAIL=check@localhost

if ! [ -s $queue/series ]; then
	echo '1..1'
	echo "ok 1 - series # SKIP $queue/series is empty"
	exit 0
fi

n=0
result() {
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		sed 's/^/# /' "$work/out"
	fi
}

status=0
pq series >"$work/out" 2>&1 || status=1
result $status 'the series is made'
if [ $status != 0 ]; then
	echo "1..$n"
	exit
fi

status=0
grep -n -e '^Adds:' -e '\*\*\* .* HERE \*\*\*' $mails/* >"$work/out" && status=1
result $status 'no trailers of ours, no placeholders'

# Only the files that the series touches are written; the index has them all.
am() {
	git clone -q --shared --no-checkout $tree "$work/am"
	git -C "$work/am" config core.sparseCheckout true
	mkdir -p "$work/am/.git/info"
	pq files | sed 's/^[AMD] [^ ]* /\//' \
		>"$work/am/.git/info/sparse-checkout"
	git -C "$work/am" reset -q --hard "$(pq base)" &&
		git -C "$work/am" am -q "$top"/$mails/*.patch || return 1
	local got want
	got=$(git -C "$work/am" rev-parse 'HEAD^{tree}')
	want=$(git -C $tree rev-parse "$(pq head)^{tree}")
	[ "$got" = "$want" ] || { echo "tree $got instead of $want"; return 1; }
}
status=0
am >"$work/out" 2>&1 || status=1
result $status 'git am on a pristine base gives the identical tree'

# Exceptions: pattern, kind, reason; used[i] counts what each was good for.
patterns=() types=() used=()
while read -r pattern type reason; do
	case $pattern in '' | '#'*) continue ;; esac
	if [ -z "$reason" ]; then
		echo "Bail out! $exceptions: no reason: $pattern $type"
		exit 1
	fi
	patterns+=("$pattern") types+=("$type") used+=(0)
done <"$exceptions"

# excused NAME TYPE
excused() {
	local i
	for i in "${!patterns[@]}"; do
		# shellcheck disable=SC2053 # it is a pattern
		if [[ $1 == ${patterns[i]} && $2 == ${types[i]} ]]; then
			used[i]=1
			return 0
		fi
	done
	return 1
}

# What checkpatch said about a patch stays true, in the same tree at least
checkpatch() {
	local cache=build/cache/checkpatch key
	key=$({
		cat $tree/scripts/checkpatch.pl $tree/MAINTAINERS
		[ ! -f $tree/scripts/spelling.txt ] || cat $tree/scripts/spelling.txt
		echo "${options[@]}"
		echo "${1##*/}"
		sed 's/^\(From\|\[PATCH\) .*//' "$1"
	} | sha256sum | cut -c 1-40)
	mkdir -p "$cache"
	if [ ! -e "$cache/$key" ]; then
		# the python3 of the packages, whatever else PATH has
		(cd $tree && PATH=/usr/bin:/bin:$PATH scripts/checkpatch.pl "${options[@]}" \
			"$top/$1") >"$cache/$key.new" 2>&1 || true
		mv "$cache/$key.new" "$cache/$key"
	fi
	cat "$cache/$key"
}

for patch in "$mails"/*.patch; do
	file=${patch##*/}
	name=${file#????-}
	: >"$work/out"
	status=0
	checkpatch "$patch" >"$work/all"
	while IFS= read -r line; do
		if [[ $project = linux && $line =~ :\ (ERROR|WARNING|CHECK):([A-Z0-9_]+):\  ]]; then
			excused "$name" "${BASH_REMATCH[2]}" && continue
		elif [[ $project = qemu && $line =~ :\ (ERROR|WARNING):\ (.*) ]]; then
			excused "$name" "$(tr -cs '[:alnum:]' - <<<"${BASH_REMATCH[2]}")" && continue
		elif [ -z "$line" ]; then
			continue
		fi
		echo "${line#"$top/$mails/"}" >>"$work/out"
		status=1
	done <"$work/all"
	result $status "checkpatch $file"
done

status=0
: >"$work/out"
for i in "${!patterns[@]}"; do
	if [ "${used[i]}" = 0 ]; then
		echo "not needed any more: ${patterns[i]} ${types[i]}" >>"$work/out"
		status=1
	fi
done
result $status 'every exception from checkpatch is needed'

echo "1..$n"
