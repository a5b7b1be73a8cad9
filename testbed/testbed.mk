# SPDX-License-Identifier: GPL-2.0
#
# The machine's part of the Makefile at the top.

.PHONY: kernel
kernel: tree ## build/bzImage, and the kernel's modules
	@testbed/build-kernel.sh base

.PHONY: kernel-debug
kernel-debug: tree ## the kernel with KASAN, lockdep and the other checkers
	@testbed/build-kernel.sh debug

.PHONY: qemu
qemu: qemu-tree ## build/qemu-system-x86_64, the machine with our patches
	@testbed/build-qemu.sh

# DEMO= hands options to the VMM, such as DEMO=--help
.PHONY: run
run: kernel ## the demonstration: a Linux guest with private memory
	@testbed/build-demo.sh
	@testbed/run-demo.sh $(DEMO)

.PHONY: shell
shell: kernel ## a shell in the machine
	@testbed/run-shell.sh base

# T= selects tests by an extended regular expression, O= adds options
.PHONY: check-base
check-base: tree ## the tests in the machine (T=pattern)
	@testbed/run-tests.sh $(O) base $(T)

.PHONY: check-debug
check-debug: tree ## the same on the debug kernel (T=pattern)
	@testbed/run-tests.sh $(O) debug $(T)

.PHONY: check-runner
check-runner: tree ## that the test runner notices what goes wrong
	@testbed/test-runner.sh

.PHONY: check-bench
check-bench: tree ## that make bench reports what was measured
	@scripts/check.sh bench

# PEER=6.12 compares with Debian's linux-source-6.12, PEER_SRC= with another tree or
# tarball. Instructions are counted, REPEAT= times (2) to see that it is the
# same each time; WALL=1 takes the time instead, the median of REPEAT (5).
.PHONY: bench
bench: tree ## what private memory costs, in instructions (PEER=6.12, WALL=1)
	@testbed/bench.sh $(if $(WALL),--wall) $(if $(REPEAT),--repeat=$(REPEAT)) \
		$(if $(PEER),--peer='$(PEER)') $(if $(PEER_SRC),--peer-src='$(PEER_SRC)')
