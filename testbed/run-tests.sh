#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-tests.sh [OPTION]... CONFIG [PATTERN]
#
# Build the kernel CONFIG (base, debug; snp/run-selftests.sh has more) and the selftests
# of the tree, boot the machine, run the tests whose name matches PATTERN (an extended
# regular expression; all, by default), and print TAP. The log of each test and the
# kernel's are left in build/results/CONFIG. Which of the base kernel's own tests are
# run is in base-tests; all others are the series' own, and always run, but for those
# of SEV: they need a computer with SEV-SNP, where none of them may skip.
#
#   --quick   only tests of the base kernel that take a second or two
#   --full    the long ones too
#   --all     even those that base-tests says fail or skip
#   --list    name the tests instead of running them
#   --name=N  leave the logs in build/results/N
#
# LINUX, KBUILD_OUT, SELFTESTS_OUT, RESULTS: other places than build/linux,
# build/kernel/CONFIG, build/selftests, build/results/CONFIG.
# ALLOW_MISSING=SYMBOL,...  see build-kernel.sh.
# BASE_TESTS=FILE           another list than base-tests.
# PROGRAMS=NAMES            build and run only these of the tree's selftests.
# BOOT=COMMAND              boots the machine instead of boot.sh, with its options.
# EXTRA_TESTS=DIR           add the programs in DIR, as extra/NAME.
# LIMIT=SECONDS             for one test.
# QUIET=SECONDS             for how long the machine may say nothing at all.

set -eu -o pipefail

# In braces, so that bash has read all of it before it runs any of it
{

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
bail() { echo "Bail out! $*"; exit 1; }

mode=check list='' config='' name='' pattern=.
for arg; do
	case $arg in
	--quick | --full | --all) mode=${arg#--} ;;
	--list) list=1 ;;
	--name=*) name=${arg#*=} ;;
	-*) bail "unknown option $arg" ;;
	*)	if [ -z "$config" ]; then config=$arg; else pattern=$arg; fi ;;
	esac
done
[ -n "$config" ] || bail "usage: run-tests.sh [OPTION]... base|debug [PATTERN]"
for part in ${config//+/ }; do
	[ -f "$here/configs/$part.config" ] || bail "no configuration named $part in $here/configs"
done
sev='^x86_64/(sev_(guest|init2|params)|snp_)'

export LINUX=${LINUX:-$top/build/linux}
kout=${KBUILD_OUT:-$top/build/kernel/$config}
stout=${SELFTESTS_OUT:-$top/build/selftests}
results=${RESULTS:-$top/build/results/${name:-$config}}
base_tests=${BASE_TESTS:-$here/base-tests}

# Seconds for one test; memory: the search for leaks takes time for each page, but the
# computer with SEV-SNP has its reverse map table above 4 GiB
case $config in
debug) limit=${LIMIT:-400} memory=1G ;;
snp-host+debug) limit=${LIMIT:-400} memory=3G ;;
*) limit=${LIMIT:-120} memory=4G ;;
esac

# --- build, one run at a time
mkdir -p "$top/build"
exec 9> "$top/build/.lock"
flock 9
if [ -z "$list" ]; then
	"$here/build-kernel.sh" ${ALLOW_MISSING:+"--allow-missing=$ALLOW_MISSING"} "$config" 2>&1 |
		sed -u 's/^/# /' || bail "no kernel"
fi
read -ra programs <<< "${PROGRAMS:-}"
"$here/build-selftests.sh" "$stout" "${programs[@]}" 2>&1 | sed -u 's/^/# /' || bail "no selftests"
exec 9>&-

rm -rf "$results"
mkdir -p "$results"
results=$(cd "$results" && pwd)
root=$results/root
kvm=$root/kselftest/kvm
mkdir -p "$kvm/kunit" "$root/testbed"

# --- choose
# Each name with its time limit and arguments, in the order of the Makefile
kunit_modules() {
	[ -d "$kout/modroot" ] || return 0
	find "$kout/modroot" -name '*.ko' | while read -r ko; do
		case ,$(modinfo -F depends "$ko"), in
		*,kunit,*) echo "kunit/$(basename "$ko" .ko)" ;;
		esac
	done
}
{
	kunit_modules
	if [ -n "${PROGRAMS:-}" ]; then printf '%s\n' "${programs[@]}"; else cat "$stout/list"; fi
	[ -z "${EXTRA_TESTS:-}" ] || (cd "$EXTRA_TESTS" && find . -type f -perm -u+x -printf 'extra/%P\n' | sort)
} > "$results/known"

awk -v mode="$mode" -v config="$config" -v limit="$limit" -v pattern="$pattern" \
    -v sev="$sev" '
	FILENAME == ARGV[1] {
		if (/^#/ || NF < 3) next
		how[$1] = $2; seconds[$1] = $3
		args[$1] = ""
		if ($4 ~ /^\[/) {
			args[$1] = $0
			sub(/^[^[]*\[/, "", args[$1]); sub(/\].*/, "", args[$1])
		}
		next
	}
	$1 !~ pattern { next }
	{
		run = 1
		most = limit
		if ($1 in how && mode != "all") {
			h = how[$1]
			run = h == "check" || (h == "base" && config == "base") ||
			      (mode == "full" && h == "full")
			if (mode == "quick" && seconds[$1] > 1)
				run = 0
			# A long one gets ten times what it takes
			if (seconds[$1] * 10 > most)
				most = seconds[$1] * 10
		}
		if ($1 ~ sev && config !~ /^snp-host/ && mode != "all")
			run = 0
		if (run)
			print $1, most, args[$1]
	}
' "$base_tests" "$results/known" > "$root/testbed/plan"
mapfile -t names < <(cut -d' ' -f1 "$root/testbed/plan")
if [ -n "$list" ]; then
	printf '%s\n' "${names[@]}"
	exit 0
fi
longest=$(awk '$2 > max { max = $2 } END { print max }' "$root/testbed/plan")
[ "${#names[@]}" -gt 0 ] || bail "no test matches $pattern"

# --- pack
cp -r "$LINUX/tools/testing/selftests/kselftest" "$root/kselftest/"
cp "$here/check-log.sh" "$root/testbed/"
cp "$here/guest-runner" "$root/testbed/start"
for name in "${names[@]}"; do
	mkdir -p "$kvm/$(dirname "$name")"
	case $name in
	kunit/*) cp "$here/kunit-test" "$kvm/$name" ;;
	extra/*) cp "$EXTRA_TESTS/${name#extra/}" "$kvm/$name" ;;
	# A test that did not build is missing here, and the runner says so
	*) [ ! -f "$stout/bin/$name" ] || cp "$stout/bin/$name" "$kvm/$name" ;;
	esac
done
"$here/mkinitramfs.sh" -o "$results/initramfs" -m "$kout/modroot" "$root" ||
	bail "no initramfs"
rm -rf "$root"

# --- run
echo "TAP version 13"
echo "1..$((${#names[@]} + 1))"
klog=$results/kernel.log
started=$SECONDS
mkfifo "$results/pipe"
"${BOOT:-$here/boot.sh}" -k "$kout/bzImage" -i "$results/initramfs" -l "$klog" -m "$memory" -t 7200 -e \
	-a "${APPEND:-}" > "$results/pipe" 2> "$results/boot.err" &
boot=$!
exec 3< "$results/pipe"
rm "$results/pipe"
trap 'kill "$boot" 2> /dev/null || true' EXIT
trap 'exit 130' INT TERM

seen=()
failed=0 subtests=0 current='' hung='' ready='' done=''
log=$results/boot
: > "$log"
# A machine that says nothing for longer than a test may take is hung
quiet=${QUIET:-$((longest + 60))}

comment() { tr -d '\r' | cut -c1-200 | sed 's/^/# /'; }

finish() { # number, name, seconds, result of the guest's runner
	local subs lines skips verdict why=''
	lines=$(grep -cE '^# *(not )?ok [0-9]' "$log") || true
	skips=$(grep -cE '^# *ok [0-9].*# SKIP' "$log") || true
	subs=$(grep -E '^# *not ok [0-9]' "$log" | grep -vcE '# (SKIP|TODO)') || true
	# A KUnit suite's own line is not one more test
	subtests=$((subtests + lines))
	case $4 in
	ok*SKIP*) verdict=ok why=" # SKIP" ;;
	ok*) verdict=ok ;;
	*) verdict='not ok' why=" # ${4#*# }" ;;
	esac
	[ "$4" != "" ] || why=" # no result"
	if [ "$verdict" = ok ] && [ "$subs" -gt 0 ]; then
		verdict='not ok' why=" # $subs subtests failed"
	fi
	if [ "$why" = " # SKIP" ] && [ "$mode" != all ] && awk -v n="$2" \
	   '$1 == n { found = 1 } END { exit !found }' "$base_tests"; then
		verdict='not ok' why=" # skipped, but it passes on the untouched kernel"
	fi
	if [ "$why" = " # SKIP" ] && [ "$mode" != all ] && [[ $2 =~ $sev ]]; then
		verdict='not ok' why=" # skipped in a computer with SEV-SNP"
	fi
	seen[$1]=1
	printf '%s %s %s\n' "$2" "$3" "$verdict$why" >> "$results/times"
	# SKIP must come first after the #
	if [ "$lines" -gt 0 ]; then
		[ "$skips" -eq 0 ] && skips='' || skips=", $skips of them skipped"
		why="${why:- #} ($lines subtests$skips, $3 s)"
	else
		why="${why:- #} ($3 s)"
	fi
	echo "$verdict $1 $config: $2$why"
	if [ "$verdict" != ok ]; then
		failed=$((failed + 1))
		tail -n 20 "$log" | sed 's/^\(# \)\?/# /' | cut -c1-200
	fi
}

while :; do
	status=0
	IFS= read -r -t "$quiet" line <&3 || status=$?
	# More than 128: it is quiet. Otherwise the machine has ended.
	if [ "$status" -gt 128 ]; then
		hung=1
		kill "$boot" 2> /dev/null || true
	fi
	[ "$status" -eq 0 ] || break
	case $line in
	@@ready*)
		ready=${line#* }
		echo "# the machine is up after $ready s (its clock), $((SECONDS - started)) s (ours)"
		;;
	@@begin*)
		read -r _ num current <<< "$line"
		log=$results/${current//\//.}.log
		: > "$log"
		;;
	@@end*)
		read -r _ num begin end result <<< "$line"
		finish "$num" "$current" \
			"$(awk -v b="$begin" -v e="$end" 'BEGIN { printf "%.1f", e - b }')" "$result"
		current=
		log=$results/after
		;;
	@@done*) done=1 ;;
	'') ;;
	*) printf '%s\n' "$line" >> "$log" ;;
	esac
done
status=0
wait "$boot" || status=$?

# --- what did not come to an end
why="the machine died"
[ -z "$hung" ] || why="the machine hung: no word for $quiet s"
for ((i = 1; i <= ${#names[@]}; i++)); do
	[ -z "${seen[i]:-}" ] || continue
	failed=$((failed + 1))
	if [ "${names[i - 1]}" = "$current" ]; then
		echo "not ok $i $config: $current # $why"
		tail -n 10 "$log" | sed 's/^\(# \)\?/# /' | cut -c1-200
	else
		echo "not ok $i $config: ${names[i - 1]} # not run: $why"
	fi
done

# --- the kernel's log as a whole: what came up at boot, between tests, at the end
last=$((${#names[@]} + 1))
reports=$("$here/check-log.sh" "$klog") || true
if [ -n "$reports" ]; then
	echo "not ok $last $config: no report in the kernel's log"
	printf '%s\n' "$reports" | comment
elif [ -n "$hung" ] || [ -z "$done" ] || ! grep -aq 'testbed: exit [0-9]' "$klog"; then
	echo "not ok $last $config: no report in the kernel's log # it ends too early (QEMU: $status)"
	comment < "$results/boot.err"
else
	echo "ok $last $config: no report in the kernel's log"
fi
if [ -n "$reports" ] || [ -n "$hung" ] || ! grep -aq 'testbed: exit [0-9]' "$klog"; then
	failed=$((failed + 1))
	echo "# the end of $klog:"
	tail -n 30 "$klog" | comment
fi

rm -f "$results/initramfs" "$results/known"
echo "# $config: ${#names[@]} tests ($subtests subtests), $failed failed, $((SECONDS - started)) s"
echo "# logs: ${results#"$top/"}"
[ "$failed" -eq 0 ] || exit 1
exit 0
}
