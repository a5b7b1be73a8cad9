#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# audit.sh FILE: does the audit that the emulator wrote to FILE when it ended say that
# all pages belong to the hypervisor again?
set -eu

if grep -a '^rmp-audit: ' "$1" | tail -n 1 | grep -qx 'rmp-audit: 0 pages not hypervisor-owned'; then
	echo "# rmp-audit: 0 pages not hypervisor-owned"
	exit 0
fi
echo "# rmp-audit: not empty, or missing:"
grep -a '^rmp-audit: ' "$1" | tail -n 20 | sed 's/^/# /'
exit 1
