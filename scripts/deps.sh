#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# deps.sh [PACKAGE]...: installs what a fresh Debian 12 lacks, and PACKAGEs. Costs a
# dpkg-query when nothing does.
set -eu

# The one list of packages; what only "make bench" wants, bench.sh adds.
packages='
	bc bison build-essential busybox-static ccache cpio flex git kmod
	libelf-dev libssl-dev lz4 make openssl perl python3 python3-git python3-ply
	qemu-system-x86 quilt rsync shellcheck sparse xz-utils
	debian-archive-keyring dpkg-dev libfdt-dev libglib2.0-dev libgmp-dev
	ninja-build nettle-dev pkg-config python3-venv zlib1g-dev
'
[ -n "${LINUX_SRC:-}" ] || packages="$packages linux-source-6.1"
packages="$packages $*"

if ! command -v dpkg-query >/dev/null; then
	echo "deps: not a Debian system; these packages of Debian 12 are needed:" \
		"$packages" >&2
	exit 0
fi

# shellcheck disable=SC2086 # a list of words
have=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' $packages \
	2>/dev/null | sed -n 's/ installed$//p')
missing=
for p in $packages; do
	case "
$have
" in
	*"
$p
"*) ;;
	*) missing="$missing $p" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
	as_root=
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
	as_root=sudo
else
	echo "deps: packages are missing and this is not root. Run:" >&2
	echo "  apt-get update && apt-get install -y --no-install-recommends$missing" >&2
	exit 1
fi

echo "deps: installing$missing"
# shellcheck disable=SC2086 # lists of words, and no command where none is needed
{
	apt() {
		$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
			-o Dpkg::Use-Pty=0 "$@" </dev/null
	}
	if [ -z "$(find /var/lib/apt/lists -name '*_Packages*' -mtime -1 \
		-print -quit 2>/dev/null)" ]; then
		apt update
		apt install --no-install-recommends $missing
	else
		apt install --no-install-recommends $missing || {
			apt update
			apt install --no-install-recommends $missing
		}
	fi
}
