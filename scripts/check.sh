#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs stages of the test suite. Each stage is a program that prints TAP; the
# results are added up, and the last line is "N passed, N failed, N skipped".
#
# usage: check.sh all | quick | emulator | STAGE...
set -eu -o pipefail
cd "$(dirname "$0")/.."

# With PREFIXES=1 every prefix of both series is built, too.
prefixes=${PREFIXES:-0}

# On the debug kernel, which is ten times slower under emulation: the tests of
# the series, but for the conversions, which take a quarter of an hour there.
# Each mostly has one processor busy, so two machines share the host's.
debug_tests='^(kunit/|guest_memfd|x86_64/(memory_attributes|pre_fault|private_mem_(fail|huge)))'
debug_faults='^x86_64/(private_mem_(faults|host|races|slots)|user_memory)'

# With one processor, what KVM does for guests comes in another order; cheap ones
snp_on_1='^x86_64/(sev_init2|snp_ghcb)'

command_of() {
	case $1 in
	shell) echo scripts/check-shell.sh ;;
	tooling) echo scripts/check-tooling.sh ;;
	series) echo scripts/check-series.sh ;;
	lint) echo scripts/check-lint.py ;;
	prefixes) echo scripts/check-prefixes.sh ;;
	base) echo "testbed/run-tests.sh base" ;;
	quick) echo "testbed/run-tests.sh --quick base" ;;
	debug) echo "testbed/run-tests.sh debug $debug_tests" ;;
	debug-faults) echo "testbed/run-tests.sh --name=debug-faults debug $debug_faults" ;;
	runner) echo testbed/test-runner.sh ;;
	bench) echo testbed/test-bench.sh ;;
	qemu-tooling) echo "scripts/check-tooling.sh qemu" ;;
	qemu-series) echo "scripts/check-series.sh qemu" ;;
	qemu-prefixes) echo scripts/check-qemu-prefixes.sh ;;
	snp) echo testbed/snp/run-insn-tests.sh ;;
	psp) echo testbed/snp/run-qtest.sh ;;
	verify) echo testbed/snp/test-verify.py ;;
	snp-host) echo "testbed/snp/run-selftests.sh -k ours" ;;
	snp-host-1) echo "testbed/snp/run-selftests.sh -k ours -c 1 $snp_on_1" ;;
	snp-debug) echo "testbed/snp/run-selftests.sh -k debug" ;;
	snp-guest) echo "testbed/snp/run-guest.sh -T -k ours -c 2 -v 2 -n -p" ;;
	snp-failures) echo testbed/snp/run-failures.sh ;;
	snp-ends) echo testbed/snp/run-ends.sh ;;
	*) echo "check: no stage '$1'" >&2; return 1 ;;
	esac
}

# What a word on the command line stands for. "a+b" runs side by side. The tests of
# the base kernel have the computer to themselves: some of them compare clocks.
groups=()
for arg; do
	case $arg in
	all)
		groups+=(shell+tooling+series+qemu-tooling+qemu-series+bench+runner+lint base)
		[ "$prefixes" = 0 ] || groups+=(prefixes qemu-prefixes)
		groups+=(debug+debug-faults)
		groups+=(snp+psp+verify snp-host+snp-guest snp-host-1+snp-failures snp-ends+snp-debug)
		;;
	emulator) groups+=(snp+psp+verify) ;;
	quick) groups+=(shell+tooling+qemu-tooling+bench quick) ;;
	*) command_of "$arg" >/dev/null && groups+=("$arg") ;;
	esac
done

logs=build/check
rm -rf "$logs"
mkdir -p "$logs"

# Reads TAP: prints the counts, after the failures with what was said about
# them ("#" lines that follow). Indented lines belong to subtests, which their
# parents sum up. A stage without a plan, or with fewer results than planned,
# died; one that exits unhappily has failed even if all its results are fine.
# shellcheck disable=SC2016 # awk's dollars
tally='
function died(why) { print "not ok " stage ": " why; fail++; told = 1 }
/^not ok/ && !/# (SKIP|TODO)/ { fail++; n++; told = 1; print; next }
/^(not )?ok/ { if (/# SKIP/) skip++; else pass++; n++; told = 0; next }
/^1\.\.[0-9]+/ { plan = substr($1, 4) + 0; planned = 1; next }
/^Bail out!/ { bail = $0; next }
/^#/ { if (told) print; next }
END {
	if (bail)
		died(bail)
	else if (!planned)
		died("died without a TAP plan (status " status ")")
	else if (n != plan)
		died(plan " results planned, " n + 0 " seen (status " status ")")
	else if (status && !fail)
		died("all results are fine, but its status is " status)
	print "@ " pass + 0, fail + 0, skip + 0
}'

# Its output goes to a log, its status and the time it took to another file
run_stage() {
	local run status=0 start=$SECONDS
	read -ra run < <(command_of "$1")
	if [ -x "${run[0]}" ]; then
		"${run[@]}" </dev/null >"$logs/$1.tap" || status=$?
	else
		echo "Bail out! there is no ${run[0]}" >"$logs/$1.tap"
		status=127
	fi
	echo "$status $((SECONDS - start))" >"$logs/$1.status"
}

stages=() passed=0 failed=0 skipped=0
for group in "${groups[@]}"; do
	pids=()
	IFS=+ read -ra members <<<"$group"
	for stage in "${members[@]}"; do
		: >"$logs/$stage.tap"
		run_stage "$stage" &
		pids+=($!)
	done
	# One after the other, so that the lines of two do not mix
	for i in "${!members[@]}"; do
		stage=${members[i]}
		stages+=("$stage")
		echo "== $stage"
		tail -q -s 0.2 -n +1 -f --pid="${pids[i]}" "$logs/$stage.tap"
		# When numbers of processes wrap around, another child may have had
		# this one since, and bash has forgotten it. It is gone anyway.
		wait "${pids[i]}" 2>/dev/null || :
		read -r status seconds <"$logs/$stage.status"
		awk -v stage="$stage" -v status="$status" "$tally" \
			"$logs/$stage.tap" >"$logs/$stage.sum"
		read -r _ p f s < <(tail -n 1 "$logs/$stage.sum")
		sed -i '$d' "$logs/$stage.sum"
		passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
		echo "== $stage: $p passed, $f failed, $s skipped, $seconds s"
	done
done

if [ "$failed" != 0 ]; then
	echo
	echo "Failures:"
	for stage in "${stages[@]}"; do
		[ ! -s "$logs/$stage.sum" ] || sed "s/^/$stage: /" "$logs/$stage.sum"
	done
fi
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
