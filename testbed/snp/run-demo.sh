#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-demo.sh: boot an SEV-SNP guest on our kernel, in the computer with SEV-SNP, show
# what host and guest have to say as it comes, and then what can be said about it from
# outside. Status 0 only if all of that holds.
#
# QEMU, MACHINE_ARGS, NO_BUILD   see run-guest.sh

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*/*}
export RESULTS=${RESULTS:-$top/build/results/snp-demo}

# Two lines of each kind, and the words of the demonstration below: what is what
# shellcheck disable=SC2016 # awk's dollars
legible='
function info(text) { print "[info] " text }
function flush() { fflush() }
{ gsub(/\r|\033\[[0-9;=]*[A-Za-z]/, "") }
/^# the measurement: / { info(substr($0, 3)); next }
/^# rmp-audit: / { info("the emulator, of its reverse map table: " substr($0, 14)); next }
/^# / { print substr($0, 3); flush(); next }
/^host: / {
	if (/^host: kernel /) info("the host is up. Its security processor is ready for guests:")
	print " host| " substr($0, 7)
	if (/^host: QEMU/) info("launches a guest: its firmware is measured, encrypted, and given to it")
	flush()
	next
}
/^guest: / {
	if (/^guest: begin/) { info("the guest has booted. What it says of itself:"); next }
	if (/^guest: end/) next
	if (/^guest: cpus/) info("its processors, its disk, its network, its memory:")
	print "guest| " substr($0, 8)
	flush()
	next
}
/^report: / {
	if (!report++) {
		info("it asks the security processor for an attestation report, with our nonce:")
		print "guest| " $2 "..."
	}
	flush()
	next
}
/^(not )?ok - / {
	if (!claims++) info("the machine has ended. What can be verified from outside:")
	good = /^ok/
	held += good
	sub(/^(not )?ok - /, "")
	print (good ? "[ ok ] " : "[FAIL] ") $0
	flush()
	next
}
/^run-guest: / { next }
/BIOS-e820/ {
	if (!map++) print "guest| ..."
	next
}
/[^ ]/ { print "guest| " $0; flush() }
END { print ""; print held + 0 " of " claims + 0 " claims held" }
'
status=0
"$here/run-guest.sh" -k ours -c 2 -v 2 -n -p 2>&1 | awk "$legible" || status=$?
[ "$status" -eq 0 ] || echo "run-demo: failed; what all of them said is in $RESULTS" >&2
exit "$status"
