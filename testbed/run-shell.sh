#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-shell.sh [base|debug]: a shell in the machine, with the selftests, as far as they are
# built, in /kselftest/kvm and the demonstration in /demo. The kernel's log
# goes to build/shell/kernel.log; "exit" ends the machine.

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
config=${1:-base}
kout=${KBUILD_OUT:-$top/build/kernel/$config}
stout=${SELFTESTS_OUT:-$top/build/selftests}
out=$top/build/shell

rm -rf "$out"
mkdir -p "$out/root/testbed" "$out/root/kselftest/kvm"
printf '#!/bin/sh\ncd /\nstty sane\nsh -i\ntrue\n' > "$out/root/testbed/start"
chmod +x "$out/root/testbed/start"
if [ -f "$stout/list" ]; then
	while read -r name; do
		[ -f "$stout/bin/$name" ] || continue
		mkdir -p "$out/root/kselftest/kvm/$(dirname "$name")"
		cp "$stout/bin/$name" "$out/root/kselftest/kvm/$name"
	done < "$stout/list"
fi
layers=("$out/root")
[ ! -d "$top/build/demo/root" ] || layers+=("$top/build/demo/root")
"$here/mkinitramfs.sh" -o "$out/initramfs" -m "$kout/modroot" "${layers[@]}"

# Keys go to the machine one by one, Ctrl-C included
if [ -t 0 ]; then
	saved=$(stty -g)
	trap 'stty "$saved"' EXIT
	stty raw -echo
fi
"$here/boot.sh" -k "$kout/bzImage" -i "$out/initramfs" -l "$out/kernel.log" -t 86400 -I
