#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run-mutations.sh [NAME]...
#
# Break the SEV-SNP code of the unmodified Linux 6.12 in one place at a time, at run time
# (mutator/mutator.c), and see that the computer with SEV-SNP notices, and says what AMD's
# manuals say. mutator/mutations has what is broken, how it is set to work and what has to be
# found. One boot each; TAP. The controls break nothing, and have to work.
#
# A mutation that did not strike has failed, whatever was found.
#
# QEMU, MACHINE_ARGS, CPUS   see boot.sh
# BOOT=COMMAND               boots the machine instead of boot.sh
# LINUX=DIR, KBUILD_OUT=DIR  the kernel's source and what was built of it (build/peer/6.12)
# RESULTS=DIR                where the logs go (build/results/snp-mutations)

set -eu -o pipefail

# In braces, so that bash has read all of it before it runs any of it
{

here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*/*}
results=${RESULTS:-$top/build/results/snp-mutations}
boot=${BOOT:-$here/boot.sh}
table=$here/mutator/mutations
bail() { echo "Bail out! $*"; exit 1; }

if [ -n "${KBUILD_OUT:-}" ]; then
	linux=${LINUX:?is the source of KBUILD_OUT}
	kout=$KBUILD_OUT
else
	"$here/build.sh" host 2>&1 | sed 's/^/# /' || bail "no kernel"
	linux=$top/build/peer/6.12/linux
	kout=$top/build/peer/6.12/snp-host
fi

# --- choose
mapfile -t all < <(awk '/^#/ { next } NF == 0 { begun = 0; next } !begun { print; begun = 1 }' "$table")
names=("$@")
[ "${#names[@]}" -gt 0 ] || names=("${all[@]}")
field() { # name, field: all of its lines
	awk -v name="$1" -v field="$2" '
		/^#/ { next }
		NF == 0 { here = begun = 0; next }
		!begun { begun = 1; here = $0 == name; next }
		here && $1 == field { sub(/^[^ ]* /, ""); print }
	' "$table"
}
for name in "${names[@]}"; do
	[ -n "$(field "$name" run)" ] || bail "no mutation $name"
done

# --- build
rm -rf "$results"
mkdir -p "$results"
results=$(cd "$results" && pwd)
root=$results/root
mkdir -p "$results/module" "$root"/{bin,testbed}
cp "$here"/mutator/{Makefile,mutator.c} "$results/module/"
make -C "$linux" O="$kout" M="$results/module" modules > "$results/module.log" 2>&1 || {
	tail -n 20 "$results/module.log" | sed 's/^/# /'
	bail "no module"
}
gcc -std=gnu11 -O2 -Wall -Wextra -static -s -o "$root/bin/workload" "$here/mutator/workload.c"
cp "$results/module/mutator.ko" "$root/testbed/"
cp "$here/mutator/start" "$root/testbed/start"
"$here/../mkinitramfs.sh" -o "$results/initramfs" -m "$kout/modroot" "$root"
rm -rf "$root"

# --- run
failed=0 caught=0 missed=0 num=0

# Is each of these lines there? What is not goes to missing, what is to signs
look() { # field, file
	local regex line
	while IFS= read -r regex; do
		if line=$(grep -aEm 1 -e "$regex" "$2"); then
			signs+=("$line")
		else
			missing+=("$1: $regex")
		fi
	done < <(field "$name" "$1")
}

echo "TAP version 13"
echo "1..${#names[@]}"
for name in "${names[@]}"; do
	num=$((num + 1))
	log=$results/$name.log out=$results/$name.out err=$results/$name.err
	signs=() missing=() status=0 seconds=$SECONDS
	mutation=$name
	case $(field "$name" breaks) in nothing*) mutation=none ;; esac
	# What is in the log is looked at below; a lockup need not take long to be one
	"$boot" -k "$kout/bzImage" -i "$results/initramfs" -l "$log" -t 180 -e \
		-a "watchdog_thresh=5 testbed.mutation=$mutation testbed.run=$(field "$name" run)" \
		> "$out" 2> "$err" < /dev/null || status=$?
	for file in "$log" "$out" "$err"; do
		tr -d '\r' < "$file" > "$file.new"
		mv "$file.new" "$file"
	done
	look kernel "$log"
	look output "$out"
	look audit "$err"
	if [ "$mutation" = none ]; then
		[ "$status" -eq 0 ] || missing+=("exit status 0, it was $status")
		"$here/../check-log.sh" "$log" > "$results/$name.reports" ||
			missing+=("a log without reports: $(head -n 1 "$results/$name.reports")")
		signs=("nothing wrong")
	elif ! grep -q "mutator: $mutation: the error strikes" "$log"; then
		missing+=("the error never struck")
	fi
	todo=$(field "$name" todo)
	seconds=$((SECONDS - seconds))
	if [ -n "$todo" ] && [ "${#missing[@]}" -eq 0 ] && [ "$status" -ne 0 ]; then
		missing+=("it was not to be caught: $todo")
	fi
	if [ "${#missing[@]}" -gt 0 ]; then
		echo "not ok $num $name # ($seconds s)"
		failed=$((failed + 1))
	elif [ -n "$todo" ]; then
		echo "not ok $num $name # TODO not caught: $todo"
		missed=$((missed + 1))
	else
		echo "ok $num $name # ($seconds s)"
		[ "$mutation" = none ] || caught=$((caught + 1))
	fi
	echo "#   breaks: $(field "$name" breaks)"
	echo "#   manual: $(field "$name" manual)"
	for line in "${signs[@]}"; do
		echo "#   seen:   $line"
	done
	for line in "${missing[@]}"; do
		echo "#   MISSING $line"
	done
	if [ "${#missing[@]}" -gt 0 ]; then
		{
			sed 's/^/output: /' "$out"
			grep -aE 'mutator:|SEV|RMP|BUG|WARNING|Failed|error' "$log" | sed 's/^/kernel: /'
			grep -a '^rmp-audit: ' "$err" | tail -n 3
		} | cut -c1-160 | tail -n 40 | sed 's/^/#     /' || :
	fi
done
echo "# mutations: $caught caught, $missed known not to be, $failed failed; logs in $results"
[ "$failed" -eq 0 ]
exit
}
