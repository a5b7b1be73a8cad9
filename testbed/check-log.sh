#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# check-log.sh LOG: does this kernel log contain a report of something wrong? Print
# the first lines that say so, and fail, if it does. Status 1: a report. The
# patterns also serve the runner inside the machine (check-log.sh --patterns).

set -eu

# One extended regular expression a line. A program of ours that dies of a general
# protection fault logs "general protection fault ip:", which is its own affair.
patterns='------------\[ cut here \]------------
BUG:
WARNING:
INFO: possible
INFO: suspicious
INFO: trying to register
INFO: task .* blocked
INFO: .*detected stall
INFO: rcu
kmemleak: unreferenced object
kmemleak: .*(disabled|Memory pool empty|Cannot allocate a kmemleak_object)
Kernel panic
Oops:
general protection fault[,:]
Unable to handle
UBSAN
turning off the locking correctness validator
watchdog: .*lockup
invalid opcode:'

if [ "$1" = --patterns ]; then
	printf '%s\n' "$patterns"
	exit 0
fi
found=$(printf '%s\n' "$patterns" | grep -aEn -m "${2:-5}" -f - "$1") || exit 0
printf '%s\n' "$found"
exit 1
