#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: check-tooling.sh [linux | qemu]
#
# TAP: the way from a queue to its work tree and back. First with the series
# itself, then every refusal and message on a toy tree.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
project=${1:-linux}
case $project in
linux)
	queue=. tree=build/linux series=build/series title=Linux source=LINUX_SRC
	# what makes a directory a source tree, of a version
	version() { printf 'VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = %s\n' "$1" >"$src/Makefile"; }
	mark=Kbuild was=6.1.7 is=6.1.8 make='make '
	;;
qemu)
	queue=testbed/qemu tree=build/qemu series=build/series-qemu title=QEMU source=QEMU_SRC
	version() { echo "10.0.$1" >"$src/VERSION"; }
	mark=qemu-options.hx was=10.0.7 is=10.0.8 make='make qemu-'
	;;
*) echo "usage: check-tooling.sh [linux | qemu]" >&2; exit 1 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=Toy GIT_AUTHOR_EMAIL=toy@example.org
export GIT_COMMITTER_NAME=Toy GIT_COMMITTER_EMAIL=toy@example.org
unset FORCE
patchqueue=(scripts/patchqueue.py --project="$project")

n=0
# result STATUS NAME: prints one result, and on failure what $work/out holds
result() {
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		sed 's/^/# /' "$work/out"
	fi
}
# check NAME COMMAND...: COMMAND succeeds
check() {
	local name=$1 status=0
	shift
	"$@" >"$work/out" 2>&1 || status=1
	result $status "$name"
}
# refused NAME COMMAND TEXT...: COMMAND fails, its output has each TEXT
refused() {
	local name=$1 command=$2 status=0 text
	shift 2
	if $command >"$work/out" 2>&1; then
		echo "(it succeeded)" >>"$work/out"
		status=1
	fi
	for text; do
		grep -qF -e "$text" "$work/out" ||
			{ echo "(missing: $text)" >>"$work/out"; status=1; }
	done
	! grep -q Traceback "$work/out" || status=1
	result $status "$name"
}

# -- the series itself
# The names of its new files and patches, and what they hold
queue() {
	local root=$1
	(cd "$root/$queue" && {
		find patches -type f -print0
		"$root/${patchqueue[0]}" "${patchqueue[@]:1}" files |
			sed -n 's/^A [^ ]* //p' | tr '\n' '\0'
	} | sort -z | xargs -0 -r sha1sum)
}
round_trip() {
	local before
	before=$(queue "$top")
	"${patchqueue[@]}" tree && "${patchqueue[@]}" refresh &&
		diff <(echo "$before") <(queue "$top")
}
check "${make}tree, then ${make}refresh, changes nothing" round_trip

# pushes ROOT: quilt applies the queue, and makes of it what git made
pushes() {
	local root=$1 base files
	local pq=("$root/${patchqueue[0]}" "${patchqueue[@]:1}")
	grep -qs '^[^#]' "$root/$queue/patches/series" || return 0
	base=$("${pq[@]}" base)
	rm -rf "$work/quilt"
	mkdir "$work/quilt"
	mapfile -t files < <("${pq[@]}" files | sed -n 's/^M [^ ]* //p' | sort -u)
	git -C "$root/$tree" archive "$base" "${files[@]}" | tar -x -C "$work/quilt"
	(cd "$work/quilt" && QUILT_PATCHES=$root/$queue/patches QUILT_PC=.pc \
		quilt --quiltrc=/dev/null push -a --fuzz=0) || return 1
	git -C "$root/$tree" archive "$("${pq[@]}" head)" "${files[@]}" |
		tar -d -C "$work/quilt" 2>&1 |
		grep -v -E 'Mod time|Uid|Gid|Mode' | (! grep .)
}
check 'quilt push -a applies the queue, with the same result' pushes "$top"

orphans() { "${patchqueue[@]}" orphans; [ -z "$("${patchqueue[@]}" orphans)" ]; }
check 'every new file belongs to a patch' orphans

# -- a toy tree
toy=$work/toy
src=$work/src
# where the toy's queue and its work tree are
tq=$toy/$queue
tt=$toy/$tree
q() { "$toy/scripts/patchqueue.py" --project="$project" "$@"; }
g() { git -C "$tt" "$@"; }
base_is() { export "$source=$1"; }
base_is "$src"
mkdir -p "$src/mm" "$src/virt" "$toy/scripts" "$tq/patches"
cp scripts/patchqueue.py "$toy/scripts/"
version 7
: >"$src/$mark"
seq 1 60 >"$src/mm/numbers.c"
seq 100 160 >"$src/virt/more.c"
printf '*.o\n*.gen\n' >"$src/.gitignore"
echo kept >"$src/virt/tracked.gen"

check 'an empty queue gives the base' q tree
named() { g log -1 --format=%s; [ "$(g log -1 --format=%s)" = "$title $was" ]; }
check 'the base says what it is' named
has_ignored() { g ls-files --error-unmatch virt/tracked.gen; }
check 'files that .gitignore names are part of the base' has_ignored
check 'an empty queue is refreshed to an empty queue' q refresh

sed -i '10s/.*/ten/; 50s/.*/fifty/' "$tt/mm/numbers.c"
echo 'int a;' >"$tt/virt/new.c"
g add -A
refused 'uncommitted changes are not refreshed' 'q refresh' uncommitted mm/numbers.c
printf 'toy: Add two words, "quoted" & more\n\nWhy.\n\nSigned-off-by: Toy <toy@example.org>\n' |
	GIT_AUTHOR_DATE='1600000000 +0230' g commit -q -F -
sed -i '30s/.*/thirty/' "$tt/mm/numbers.c"
g commit -qam 'toy: thirty'
mkdir "$tt/virt/deep"
printf '#!/bin/sh\n' >"$tt/virt/deep/run.sh"
chmod +x "$tt/virt/deep/run.sh"
g add -A
GIT_AUTHOR_NAME='Tøy' g commit -qm 'toy: only a new file'
refused 'make tree does not discard commits' 'q tree' \
	'not in' patches/ 'toy: thirty' "${make}refresh"
check 'refresh makes three patches' q refresh
first=patches/0001-toy-Add-two-words-quoted-more.patch
good() {
	cat "$tq/patches/series" "$tq/$first"
	[ "$(grep -c '^0' "$tq/patches/series")" = 2 ] &&
		[ "$(grep -c '^#+ 0' "$tq/patches/series")" = 1 ] &&
		grep -qx 'Adds: virt/new.c' "$tq/$first" &&
		! grep -qE '^index |^new file|\+int a' "$tq/$first" &&
		cmp "$tq/virt/new.c" "$tt/virt/new.c" &&
		[ -x "$tq/virt/deep/run.sh" ]
}
check 'the patches have edits and Adds:, the new files stand at the root' good

check 'quilt push -a applies it' pushes "$toy"

keep=$(cd "$tq" && cat patches/* virt/new.c virt/deep/run.sh | sha1sum)
stamp=$(stat -c %Y.%Z "$tt/mm/numbers.c")
again() {
	q tree && q refresh &&
		[ "$keep" = "$(cd "$tq" && cat patches/* virt/new.c virt/deep/run.sh | sha1sum)" ] &&
		[ "$stamp" = "$(stat -c %Y.%Z "$tt/mm/numbers.c")" ]
}
check 'the round trip changes nothing, time stamps included' again
message() {
	local log
	log=$(g log --format='%an|%ad|%s%n%b' --date=raw)
	echo "$log"
	! grep -q '^Adds:' <<<"$log" && grep -q '^Tøy|' <<<"$log" &&
		grep -qF 'Toy|1600000000 +0230|toy: Add two words, "quoted" & more' <<<"$log"
}
check 'author and date survive, the trailers are not in the commits' message
same() {
	local one=$work/one
	rm -rf "$one"
	mkdir -p "$one/$queue"
	cp -a "$toy/scripts" "$one/"
	cp -a "$tq/patches" "$tq/virt" "$one/$queue/"
	"$one/scripts/patchqueue.py" --project="$project" tree &&
		[ "$(git -C "$one/$tree" rev-parse HEAD)" = "$(g rev-parse HEAD)" ]
}
check 'the same queue gives the same commits elsewhere' same
mails() {
	local am=$work/am
	q series || return 1
	ls "$toy/$series"
	! grep -rq -e '^Adds:' -e '\*\*\*' "$toy/$series" || return 1
	git clone -q "$tt" "$am" && git -C "$am" reset -q --hard "$(g rev-parse base)" &&
		git -C "$am" am "$toy/$series"/*.patch &&
		[ "$(git -C "$am" rev-parse 'HEAD^{tree}')" = "$(g rev-parse 'HEAD^{tree}')" ]
}
check 'git am of the series gives the identical tree' mails

echo 'int b;' >>"$tq/virt/new.c"
refused 'an edit of a new file at the root is not overwritten' 'q refresh' virt/new.c
edited() { q tree && grep -q 'int b' "$tt/virt/new.c" && q refresh; }
check 'an edit of a new file at the root goes into its commit' edited

echo 'int c;' >>"$tt/virt/new.c"
echo 'int d;' >>"$tq/virt/new.c"
refused 'make tree does not discard uncommitted changes' 'q tree' uncommitted virt/new.c
check 'unless FORCE=1 says so' env FORCE=1 "$toy/scripts/patchqueue.py" --project="$project" tree
gone() { cat "$tt/virt/new.c"; ! grep -q 'int c' "$tt/virt/new.c"; }
check 'and then it is gone' gone

echo 'int e;' >>"$tt/virt/new.c"
g commit -qam 'toy: a later change'
refused 'add, then modify, is refused' 'q refresh' virt/new.c 'Add two words' 'a later change'
g reset -q --hard HEAD^

g rm -q -r virt/deep
g commit -q --amend --allow-empty -m 'toy: nothing any more'
vanished() {
	q refresh && [ ! -e "$tq/virt/deep" ] && [ -e "$tq/virt/new.c" ] && q tree
}
check 'a new file that vanished is removed from the root' vanished
g reset -q --hard HEAD^
check 'a patch that vanished is removed from the queue' q refresh

# -- a queue somebody broke
cp -a "$tq/patches" "$work/patches.good"
mend() { rm -rf "$tq/patches"; cp -a "$work/patches.good" "$tq/patches"; }
sed -i 's/^-50$/-fifteen/' "$tq/$first"
refused 'a hunk that does not apply is named: patch, file, hunk' 'q tree' \
	"$first" 'file mm/numbers.c' 'hunk 2 of 2' '@@ -47,7 +47,7 @@'
mend
sed -i 's/^ 48$/ forty-eight/' "$tq/$first"
refused 'no fuzz: a hunk whose context differs is refused' 'q tree' 'hunk 2 of 2'
mend
sed -i 's,mm/numbers.c,mm/letters.c,' "$tq/$first"
refused 'a missing file is named' 'q tree' "$first" mm/letters.c 'does not have'
mend
sed -i '/^Adds:/a Adds: virt/nowhere.c' "$tq/$first"
refused 'a new file that is not there is named' 'q tree' "$first" virt/nowhere.c
mend
sed -i '/^Adds:/a Adds: virt/more.c' "$tq/$first"
cp "$src/virt/more.c" "$tq/virt/"
refused 'a new file that the base has is named' 'q tree' "$first" virt/more.c 'base has'
rm "$tq/virt/more.c"
mend
second=$(sed -n 2p "$tq/patches/series")
printf -- '--- a/virt/new.c\n+++ b/virt/new.c\n@@ -1 +1 @@\n-int a;\n+int z;\n' >>"$tq/patches/$second"
refused 'a patch that changes a new file is refused' 'q tree' "$second" virt/new.c "$first"
mend
sed -i '/^---$/i Adds: virt/new.c' "$tq/patches/$second"
refused 'two patches that add one file are refused' 'q tree' "$second" virt/new.c "$first"
mend
sed -i '/^From:/d' "$tq/$first"
refused 'a patch without an author is refused' 'q tree' "$first" From:
mend
echo missing.patch >>"$tq/patches/series"
refused 'a missing patch is named' 'q tree' missing.patch
mend
check 'the mended queue gives the tree again' q tree

# -- the next base
sed -i '1s/.*/one/' "$src/virt/more.c"
sed -i '1i zero' "$src/mm/numbers.c"
version 8
moved() {
	q tree && q refresh && q tree && g log --format=%s &&
		grep -qF "$is" <<<"$(g log --format=%s)" && grep -q '@@ -48,7' "$tq/$first"
}
check 'another base: the queue moves, offsets included' moved
base_is "$work/none"
refused 'no source is one clear line' 'q tree' "no $title source at $work/none"

# -- QEMU's base is a source package, which is fetched
if [ "$project" = qemu ]; then
	package() {
		local dir=$work/package
		rm -rf "$dir"
		mkdir -p "$dir/debian/patches" "$dir/debian/source"
		(
			cd "$dir"
			cp -a "$src/." .
			tar --sort=name -cJf ../qemu_10.0.8.orig.tar.xz --exclude=./debian \
				--transform 's,^\.,qemu-10.0.8,' .
			echo '3.0 (quilt)' >debian/source/format
			printf 'Source: qemu\nMaintainer: Toy <toy@example.org>\n\nPackage: qemu\nArchitecture: all\nDescription: toy\n' >debian/control
			printf 'qemu (10.0.8-1) toy; urgency=low\n\n  * Toy.\n\n -- Toy <toy@example.org>  Sun, 13 Sep 2020 12:26:40 +0000\n' >debian/changelog
			echo debian.patch >debian/patches/series
			printf -- '--- a/mm/numbers.c\n+++ b/mm/numbers.c\n@@ -20,3 +20,3 @@\n 19\n-20\n+twenty\n 21\n' >debian/patches/debian.patch
			cd .. && dpkg-source -b package
		)
	}
	check 'a source package for the toy' package

	unset QEMU_SRC
	mkdir -p "$toy/testbed"
	printf '#!/bin/sh\nexit 1\n' >"$toy/testbed/trixie.sh"
	chmod +x "$toy/testbed/trixie.sh"
	refused 'a source that cannot be fetched is one clear line' 'q tree' 'cannot be had' QEMU_SRC
	# shellcheck disable=SC2016 # the script's dollars
	printf '#!/bin/sh\n[ "$1 $2" = "source qemu" ] && mkdir -p "$3" && cp %s/qemu_10.0.8* "$3"\necho >>%s/fetched\n' \
		"$work" "$work" >"$toy/testbed/trixie.sh"
	fetched() {
		q tree && q refresh && q tree && git -C "$tt" ls-files &&
			g show base:mm/numbers.c | grep -qx twenty &&
			[ "$(wc -l <"$work/fetched")" = 1 ] && ! g ls-files | grep '^\.pc'
	}
	check 'it is fetched once, and the base has its patches' fetched
	named_dsc() { QEMU_SRC=$work/qemu_10.0.8-1.dsc q base && [ "$(QEMU_SRC=$work/qemu_10.0.8-1.dsc q base)" = "$(q base)" ]; }
	check 'QEMU_SRC takes a .dsc' named_dsc
	cp "$work/qemu_10.0.8-1.dsc" "$work/bad_10.0.8-1.dsc"
	sed -i 's/10.0.8-1.debian/10.0.8-2.debian/' "$work/bad_10.0.8-1.dsc"
	export QEMU_SRC=$work/bad_10.0.8-1.dsc
	refused 'a source package with a file missing is refused' 'q tree' dpkg-source
	unset QEMU_SRC

	# mirrors: of these sources, in both forms, those that can have Debian's main
	sources=$work/sources
	mkdir -p "$sources/parts" "$sources/lists/partial"
	printf 'Types: deb\nURIs: http://a.example/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\n\nTypes: deb\nURIs: http://sec.example/\nSuites: bookworm-security\nComponents: main\n' \
		>"$sources/parts/a.sources"
	printf 'deb [arch=amd64] http://b.example/debian bookworm main\ndeb http://c.example/c bookworm contrib\n# deb http://d.example/d bookworm main\n' \
		>"$sources/parts/b.list"
	printf 'Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "%s/parts";\nDir::State::Lists "%s/lists";\n' \
		"$sources" "$sources" >"$sources/apt.conf"
	mirrors() {
		APT_CONFIG=$sources/apt.conf testbed/trixie.sh mirrors >"$work/mirrors" || return 1
		diff <(printf 'http://%s.example/debian/\n' a b) "$work/mirrors"
	}
	check "the mirrors are those that apt has this Debian's main from" mirrors
	rm "$sources"/parts/*
	refused 'no mirror is one clear line' \
		"env APT_CONFIG=$sources/apt.conf testbed/trixie.sh mirrors" bookworm main
fi

echo "1..$n"
