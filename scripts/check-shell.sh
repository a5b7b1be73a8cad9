#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# TAP: every shell script of this repository is shellcheck clean.
set -eu
cd "$(dirname "$0")/.."

mapfile -t files < <(
	git ls-files -co --exclude-standard | while IFS= read -r f; do
		[ -f "$f" ] || continue
		if head -n 1 "$f" | tr -d '\0' |
				grep -qE '^#! ?/(usr/)?bin/(env )?(ba|da)?sh\b'; then
			echo "$f"
		fi
	done | sort)
echo "1..${#files[@]}"
n=0
for f in "${files[@]}"; do
	n=$((n + 1))
	if out=$(shellcheck -x -P SCRIPTDIR "$f" 2>&1); then
		echo "ok $n - $f"
	else
		echo "not ok $n - $f"
		printf '%s\n' "$out" | sed 's/^/# /'
	fi
done
