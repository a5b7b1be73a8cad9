#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# TAP: the way from the queue to the work tree and back. First with the series
# itself, then every refusal and message on a toy tree.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=Toy GIT_AUTHOR_EMAIL=toy@example.org
export GIT_COMMITTER_NAME=Toy GIT_COMMITTER_EMAIL=toy@example.org
unset FORCE

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
queue() {
	(cd "$top" && { cat patches/series || true; echo; cat patches/*.patch || true
	scripts/patchqueue.py files | sed -n 's/^A [^ ]* //p' |
		xargs -r sha1sum; }) 2>/dev/null | sha1sum
}
round_trip() {
	local before
	before=$(queue)
	scripts/patchqueue.py tree && scripts/patchqueue.py refresh &&
		[ "$before" = "$(queue)" ]
}
check 'make tree, then make refresh, changes nothing' round_trip

# pushes ROOT: quilt applies the queue, and makes of it what git made
pushes() {
	local root=$1 base files
	grep -qs '^[^#]' "$root/patches/series" || return 0
	base=$("$root/scripts/patchqueue.py" base)
	rm -rf "$work/quilt"
	mkdir "$work/quilt"
	mapfile -t files < <("$root/scripts/patchqueue.py" files |
		sed -n 's/^M [^ ]* //p' | sort -u)
	git -C "$root/build/linux" archive "$base" "${files[@]}" |
		tar -x -C "$work/quilt"
	(cd "$work/quilt" && QUILT_PATCHES=$root/patches QUILT_PC=.pc \
		quilt --quiltrc=/dev/null push -a --fuzz=0) || return 1
	git -C "$root/build/linux" archive "$("$root/scripts/patchqueue.py" head)" \
		"${files[@]}" | tar -d -C "$work/quilt" 2>&1 |
		grep -v -E 'Mod time|Uid|Gid|Mode' | (! grep .)
}
check 'quilt push -a applies the queue, with the same result' pushes "$top"

orphans() { scripts/patchqueue.py orphans; [ -z "$(scripts/patchqueue.py orphans)" ]; }
check 'every new file belongs to a patch' orphans

# -- a toy tree
toy=$work/toy
src=$work/src
q() { "$toy/scripts/patchqueue.py" "$@"; }
g() { git -C "$toy/build/linux" "$@"; }
export LINUX_SRC=$src
mkdir -p "$src/mm" "$src/virt" "$toy/scripts" "$toy/patches"
cp scripts/patchqueue.py "$toy/scripts/"
printf 'VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 7\n' >"$src/Makefile"
: >"$src/Kbuild"
seq 1 60 >"$src/mm/numbers.c"
seq 100 160 >"$src/virt/more.c"
printf '*.o\n*.gen\n' >"$src/.gitignore"
echo kept >"$src/virt/tracked.gen"

check 'an empty queue gives the base' q tree
has_ignored() { g ls-files --error-unmatch virt/tracked.gen; }
check 'files that .gitignore names are part of the base' has_ignored
check 'an empty queue is refreshed to an empty queue' q refresh

sed -i '10s/.*/ten/; 50s/.*/fifty/' "$toy/build/linux/mm/numbers.c"
echo 'int a;' >"$toy/build/linux/virt/new.c"
g add -A
refused 'uncommitted changes are not refreshed' 'q refresh' uncommitted mm/numbers.c
printf 'toy: Add two words, "quoted" & more\n\nWhy.\n\nSigned-off-by: Toy <toy@example.org>\n' |
	GIT_AUTHOR_DATE='1600000000 +0230' g commit -q -F -
sed -i '30s/.*/thirty/' "$toy/build/linux/mm/numbers.c"
g commit -qam 'toy: thirty'
mkdir "$toy/build/linux/virt/deep"
printf '#!/bin/sh\n' >"$toy/build/linux/virt/deep/run.sh"
chmod +x "$toy/build/linux/virt/deep/run.sh"
g add -A
GIT_AUTHOR_NAME='Tøy' g commit -qm 'toy: only a new file'
refused 'make tree does not discard commits' 'q tree' 'not in patches/' 'toy: thirty'
check 'refresh makes three patches' q refresh
first=patches/0001-toy-Add-two-words-quoted-more.patch
good() {
	cat "$toy/patches/series" "$toy/$first"
	[ "$(grep -c '^0' "$toy/patches/series")" = 2 ] &&
		[ "$(grep -c '^#+ 0' "$toy/patches/series")" = 1 ] &&
		grep -qx 'Adds: virt/new.c' "$toy/$first" &&
		! grep -qE '^index |^new file|\+int a' "$toy/$first" &&
		cmp "$toy/virt/new.c" "$toy/build/linux/virt/new.c" &&
		[ -x "$toy/virt/deep/run.sh" ]
}
check 'the patches have edits and Adds:, the new files stand at the root' good

check 'quilt push -a applies it' pushes "$toy"

keep=$(cd "$toy" && cat patches/* virt/new.c virt/deep/run.sh | sha1sum)
stamp=$(stat -c %Y.%Z "$toy/build/linux/mm/numbers.c")
again() {
	q tree && q refresh &&
		[ "$keep" = "$(cd "$toy" && cat patches/* virt/new.c virt/deep/run.sh | sha1sum)" ] &&
		[ "$stamp" = "$(stat -c %Y.%Z "$toy/build/linux/mm/numbers.c")" ]
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
	mkdir "$one"
	cp -a "$toy/scripts" "$toy/patches" "$toy/virt" "$one/"
	"$one/scripts/patchqueue.py" tree &&
		[ "$(git -C "$one/build/linux" rev-parse HEAD)" = "$(g rev-parse HEAD)" ]
}
check 'the same queue gives the same commits elsewhere' same
mails() {
	local am=$work/am
	q series || return 1
	ls "$toy/build/series"
	! grep -rq -e '^Adds:' -e '\*\*\*' "$toy/build/series" || return 1
	git clone -q "$toy/build/linux" "$am" && git -C "$am" reset -q --hard "$(g rev-parse base)" &&
		git -C "$am" am "$toy"/build/series/*.patch &&
		[ "$(git -C "$am" rev-parse 'HEAD^{tree}')" = "$(g rev-parse 'HEAD^{tree}')" ]
}
check 'git am of the series gives the identical tree' mails

echo 'int b;' >>"$toy/virt/new.c"
refused 'an edit of a new file at the root is not overwritten' 'q refresh' virt/new.c
edited() { q tree && grep -q 'int b' "$toy/build/linux/virt/new.c" && q refresh; }
check 'an edit of a new file at the root goes into its commit' edited

echo 'int c;' >>"$toy/build/linux/virt/new.c"
echo 'int d;' >>"$toy/virt/new.c"
refused 'make tree does not discard uncommitted changes' 'q tree' uncommitted virt/new.c
check 'unless FORCE=1 says so' env FORCE=1 "$toy/scripts/patchqueue.py" tree
gone() { cat "$toy/build/linux/virt/new.c"; ! grep -q 'int c' "$toy/build/linux/virt/new.c"; }
check 'and then it is gone' gone

echo 'int e;' >>"$toy/build/linux/virt/new.c"
g commit -qam 'toy: a later change'
refused 'add, then modify, is refused' 'q refresh' virt/new.c 'Add two words' 'a later change'
g reset -q --hard HEAD^

g rm -q -r virt/deep
g commit -q --amend --allow-empty -m 'toy: nothing any more'
vanished() {
	q refresh && [ ! -e "$toy/virt/deep" ] && [ -e "$toy/virt/new.c" ] && q tree
}
check 'a new file that vanished is removed from the root' vanished
g reset -q --hard HEAD^
check 'a patch that vanished is removed from the queue' q refresh

# -- a queue somebody broke
cp -a "$toy/patches" "$work/patches.good"
mend() { rm -rf "$toy/patches"; cp -a "$work/patches.good" "$toy/patches"; }
sed -i 's/^-50$/-fifteen/' "$toy/$first"
refused 'a hunk that does not apply is named: patch, file, hunk' 'q tree' \
	"$first" 'file mm/numbers.c' 'hunk 2 of 2' '@@ -47,7 +47,7 @@'
mend
sed -i 's/^ 48$/ forty-eight/' "$toy/$first"
refused 'no fuzz: a hunk whose context differs is refused' 'q tree' 'hunk 2 of 2'
mend
sed -i 's,mm/numbers.c,mm/letters.c,' "$toy/$first"
refused 'a missing file is named' 'q tree' "$first" mm/letters.c 'does not have'
mend
sed -i '/^Adds:/a Adds: virt/nowhere.c' "$toy/$first"
refused 'a new file that is not there is named' 'q tree' "$first" virt/nowhere.c
mend
sed -i '/^Adds:/a Adds: virt/more.c' "$toy/$first"
cp "$src/virt/more.c" "$toy/virt/"
refused 'a new file that the base has is named' 'q tree' "$first" virt/more.c 'base has'
rm "$toy/virt/more.c"
mend
second=$(sed -n 2p "$toy/patches/series")
printf -- '--- a/virt/new.c\n+++ b/virt/new.c\n@@ -1 +1 @@\n-int a;\n+int z;\n' >>"$toy/patches/$second"
refused 'a patch that changes a new file is refused' 'q tree' "$second" virt/new.c "$first"
mend
sed -i '/^---$/i Adds: virt/new.c' "$toy/patches/$second"
refused 'two patches that add one file are refused' 'q tree' "$second" virt/new.c "$first"
mend
sed -i '/^From:/d' "$toy/$first"
refused 'a patch without an author is refused' 'q tree' "$first" From:
mend
echo missing.patch >>"$toy/patches/series"
refused 'a missing patch is named' 'q tree' missing.patch
mend
check 'the mended queue gives the tree again' q tree

# -- the next base
sed -i '1s/.*/one/' "$src/virt/more.c"
sed -i '1i zero' "$src/mm/numbers.c"
sed -i 's/SUBLEVEL = 7/SUBLEVEL = 8/' "$src/Makefile"
moved() {
	q tree && q refresh && q tree && g log --format=%s &&
		grep -q 6.1.8 <<<"$(g log --format=%s)" && grep -q '@@ -48,7' "$toy/$first"
}
check 'another base: the queue moves, offsets included' moved
LINUX_SRC=$work/none
refused 'no source is one clear line' 'q tree' "no kernel source at $work/none"

echo "1..$n"
