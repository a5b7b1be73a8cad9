#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# build-selftests.sh OUT [PROGRAM]...
#
# Build the KVM selftests of the tree, static, for the machine, into OUT, without
# a trace in the tree. OUT/list names them, one a line. With PROGRAMs (such as
# x86_64/sev_smoke_test), build only these.
#
# LINUX=dir        another source tree than build/linux

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
die() { echo "build-selftests: $*" >&2; exit 1; }

[ $# -ge 1 ] || die "usage: build-selftests.sh OUT [PROGRAM]..."
linux=${LINUX:-$top/build/linux}
tests=$linux/tools/testing/selftests/kvm
[ -f "$tests/Makefile" ] || die "no kernel tree in $linux (make tree makes it)"
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
log=$out/build.log
: > "$log"
start=$(date +%s)

cc=gcc
if command -v ccache > /dev/null; then
	cc="ccache gcc"
fi

failed() {
	echo "build-selftests: $1 failed; the end of $log:" >&2
	grep -nE 'error: |undefined reference' "$log" | tail -n 15 >&2 || true
	tail -n 25 "$log" | cut -c1-200 >&2
	exit 1
}

# The user headers of this very tree. They only depend on what they are made of.
headers=$(cd "$linux" && find include/uapi arch/x86/include/uapi scripts/headers_install.sh \
	-type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
if [ "$(cat "$out/headers.stamp" 2> /dev/null)" != "$headers" ]; then
	echo "selftests: installing the headers"
	rm -rf "${out:?}/usr" "$out/headers.stamp"
	make -C "$linux" O="$out/headers" ARCH=x86_64 CC="$cc" HOSTCC="$cc" \
		INSTALL_HDR_PATH="$out/usr" headers_install >> "$log" 2>&1 ||
		failed "installing the headers"
	printf '%s\n' "$headers" > "$out/headers.stamp"
fi

# make knows which test belongs to which file, but nothing of headers
shared=$(cd "$linux/tools" && {
	echo "$headers $(gcc --version | head -n 1)"
	find testing/selftests/kvm/{include,lib,Makefile} testing/selftests/kselftest*.h \
		testing/selftests/lib.mk testing/selftests/rseq include arch/x86/include \
		-type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
} | sha256sum)
if [ "$(cat "$out/shared.stamp" 2> /dev/null)" != "$shared" ]; then
	rm -rf "${out:?}/bin" "$out/shared.stamp"
	mkdir -p "$out/bin"
fi

# The tree's Makefile, and what two of its tests need to build at all: steal_time
# includes asm/kvm.h before the header that it needs, and a backport made dirty_log_test
# use a macro that is called ASSERT_EQ here.
cat > "$out/Makefile" << 'END'
include Makefile
$(OUTPUT)/steal_time: CFLAGS += -include linux/stddef.h
ifeq ($(shell grep -rs 'define TEST_ASSERT_EQ' include),)
$(OUTPUT)/dirty_log_test: CFLAGS += -DTEST_ASSERT_EQ=ASSERT_EQ
endif
testbed-list:
	@printf '%s\n' $(TEST_GEN_PROGS:$(OUTPUT)/%=%)
testbed-programs: $(TEST_GEN_PROGS)
END
stmake() {
	make -C "$tests" -f "$out/Makefile" OUTPUT="$out/bin" ARCH=x86_64 CC="$cc" \
		LINUX_HDR_PATH="$out/usr/include/" \
		KHDR_INCLUDES="-isystem $out/usr/include" "$@"
}

stmake -s testbed-list > "$out/list.new" 2>> "$log" || failed "listing the tests"
[ -s "$out/list.new" ] || failed "listing the tests"
mv "$out/list.new" "$out/list"

for program; do
	grep -qxF -- "$program" "$out/list" || die "$linux has no selftest $program"
done
goals=("${@/#/$out/bin/}") number=$#
[ $# -gt 0 ] || goals=(testbed-programs) number=$(wc -l < "$out/list")

echo "selftests: building $number programs"
# -k: one that does not build must not hide the others
LDFLAGS="-static -s" stmake -k -j"${JOBS:-$(nproc)}" "${goals[@]}" 2>&1 |
	tee -a "$log" | { grep -E '(warning|error): |undefined reference' || true; } ||
	failed "the build"
printf '%s\n' "$shared" > "$out/shared.stamp"
echo "selftests: built in $(($(date +%s) - start)) s"
