#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-runner.sh: does run-tests.sh notice what goes wrong? Feeds it programs that fail in
# every way that tests and kernels do, and prints TAP.

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

num=0 bad=0
check() { # description, command...
	local what=$1
	shift
	num=$((num + 1))
	if "$@"; then
		echo "ok $num $what"
	else
		bad=1
		echo "not ok $num $what"
		sed 's/^/# /' "$work/out"
	fi
}
# shellcheck disable=SC2317 # called through check
says() { grep -qE -- "$1" "$work/out"; }
# shellcheck disable=SC2317
failed() { [ "$status" -ne 0 ]; }

program() { # set, name; the program on standard input
	mkdir -p "$work/$1"
	{ echo '#!/bin/sh'; cat; } > "$work/$1/$2"
	chmod +x "$work/$1/$2"
}
run() { # set, tests
	status=0
	EXTRA_TESTS=$work/$1 RESULTS=$work/results LIMIT=8 QUIET=${QUIET:-60} \
		"$here/run-tests.sh" base "${2:-^extra/}" > "$work/out" 2>&1 || status=$?
}

program many a-passes <<< 'exit 0'
program many b-fails <<< 'echo the reason; exit 1'
program many c-skips <<< 'echo no such hardware; exit 4'
program many d-subtests << 'END'
echo 1..3
echo ok 1 one
echo not ok 2 two
echo ok 3 three '# SKIP'
END
program many e-warns << 'END'
echo "------------[ cut here ]------------" > /dev/kmsg
END
program many f-hangs <<< 'sleep 1000'
program many g-ignores-signals <<< 'trap "" TERM; while :; do sleep 1; done'
program many h-is-not-blamed <<< 'exit 0'
program many i-locks << 'END'
echo "WARNING: possible circular locking dependency detected" > /dev/kmsg
END
program many j-leaks << 'END'
echo "kmemleak: unreferenced object 0xffff888001020304 (size 216):" > /dev/kmsg
END
program many k-is-killed <<< 'kill -SEGV $$'
program panic a-passes <<< 'exit 0'
program panic b-panics <<< 'echo last words; sleep 1; echo c > /proc/sysrq-trigger'
program panic c-comes-later <<< 'exit 0'
# The runner inside the machine stops: from outside, a machine that is stuck
program stuck a-stops << 'END'
for dir in /proc/[0-9]*; do
	grep -q /testbed/start "$dir/cmdline" && kill -STOP "${dir#/proc/}"
done
END
program good a-passes <<< 'exit 0'

echo "TAP version 13"
echo "1..25"
run good
check "a passing test passes" says '^ok 1 .*extra/a-passes'
check "a clean log passes" says '^ok 2 .*no report'
check "a good run has status 0" test "$status" -eq 0

run many
check "a bad run has another status" failed
check "a passing test among others passes" says '^ok 1 .*a-passes'
check "a failing test fails" says '^not ok 2 .*b-fails # exit=1'
check "a failing test's last words are shown" says '^# the reason'
check "a test that skips is counted as skipped" says '^ok 3 .*c-skips # SKIP'
check "a failing subtest fails its test" says '^not ok 4 .*d-subtests # 1 subtests failed'
check "a WARN fails the test it comes with" says '^not ok 5 .*e-warns # the kernel reported'
check "a hanging test runs out of time" says '^not ok 6 .*f-hangs # TIMEOUT'
check "so does one that ignores signals" says '^not ok 7 .*g-ignores-signals # TIMEOUT'
check "the test after it runs" says '^ok 8 .*h-is-not-blamed'
check "a lockdep report fails the test" says '^not ok 9 .*i-locks # the kernel reported'
check "a leak fails the test" says '^not ok 10 .*j-leaks # the kernel reported'
check "a test that dies of a signal fails" says '^not ok 11 .*k-is-killed # exit=139'
check "reports in the log fail the run" says '^not ok 12 .*no report'

run panic
check "a panic fails the run" failed
check "a panic fails the test that was running" says '^not ok 2 .*b-panics # the machine died'
check "what was not run has failed" says '^not ok 3 .*c-comes-later # not run'
check "the end of the log is shown" says '^# .*Kernel panic - not syncing: sysrq'

QUIET=15 run stuck
check "a stuck machine fails the test that was running" says '^not ok 1 .*a-stops # the machine hung'

# A first guess that is off by 2 in 1000, as on a busy host: it must not be KVM's
APPEND=tsc_early_khz=$(awk '/MHz/ { print int($4 * 1002); exit }' /proc/cpuinfo)
export APPEND
run good x86_64/kvm_clock_test
check "KVM is loaded when the TSC is calibrated" says '^ok 1 .*kvm_clock_test'
unset APPEND

RESULTS=$work/results "$here/run-tests.sh" --list base > "$work/out" 2>&1
check "tests of SEV-SNP wait for a computer that has it" \
	test "$(grep -cE '^x86_64/(sev_(guest|init2|params)|snp_)' "$work/out")" -eq 0

# Not built, but listed: it must not go unnoticed
status=0
RESULTS=$work/results "$here/run-tests.sh" base no-such-test > "$work/out" 2>&1 || status=$?
check "a pattern that matches nothing fails" failed
exit "$bad"
