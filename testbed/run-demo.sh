#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-demo.sh [VMM OPTION]...
#
# Boot the machine with the demonstration (build-demo.sh) in it, show its output
# as it comes, and exit with its status. A kernel that reports anything wrong
# fails the demonstration too. The machine's own log goes to build/demo/kernel.log.

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
kout=${KBUILD_OUT:-$top/build/kernel/base}
out=${DEMO_OUT:-$top/build/demo}

[ -x "$out/root/demo/run" ] || {
	echo "run-demo: no demonstration in $out (build-demo.sh builds it)" >&2
	exit 1
}

start=$out/start
rm -rf "$start"
mkdir -p "$start/testbed"
{
	echo '#!/bin/sh'
	printf 'exec /demo/run'
	[ $# -eq 0 ] || printf ' %q' "$@"
	printf '\n'
} > "$start/testbed/start"
chmod +x "$start/testbed/start"

"$here/mkinitramfs.sh" -o "$out/initramfs" -m "$kout/modroot" "$out/root" "$start"
status=0
"$here/boot.sh" -k "$kout/bzImage" -i "$out/initramfs" -l "$out/kernel.log" \
	-t "${DEMO_LIMIT:-300}" || status=$?
[ "$status" -eq 0 ] || echo "run-demo: failed with status $status; the machine's kernel log is $out/kernel.log" >&2
exit "$status"
