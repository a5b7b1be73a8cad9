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

# DEMO= hands options to the VMM, such as DEMO=--help. SNP=1 is another demonstration.
.PHONY: run
run: $(if $(SNP),qemu tree,kernel) ## the demonstration: a Linux guest with private memory (SNP=1: of SEV-SNP)
ifneq ($(SNP),)
	@testbed/snp/run-demo.sh
else
	@testbed/build-demo.sh
	@testbed/run-demo.sh $(DEMO)
endif

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
# same each time; WALL=1 takes the time instead, the median of REPEAT (5). SNP=1
# measures what SEV-SNP guests cost, in the emulated computer that has it.
.PHONY: bench
bench: tree $(if $(SNP),qemu) ## what private memory costs, in instructions (PEER=6.12, WALL=1, SNP=1)
	@testbed/$(if $(SNP),snp/)bench.sh $(if $(WALL),--wall) $(if $(REPEAT),--repeat=$(REPEAT)) \
		$(if $(PEER),--peer='$(PEER)') $(if $(PEER_SRC),--peer-src='$(PEER_SRC)')

.PHONY: check-snp
check-snp: qemu ## the emulated SEV-SNP host: its instructions, its firmware
	@scripts/check.sh emulator

# T= and O= as for check-base; T=. runs all that make check-base does
.PHONY: check-snp-host
check-snp-host: tree qemu ## our kernel as an SEV-SNP host: the tests of SEV and SEV-SNP (T=pattern)
	@testbed/snp/run-selftests.sh -k ours $(O) $(T)

.PHONY: check-snp-debug
check-snp-debug: tree qemu ## the same as check-snp-host with KASAN, lockdep, ... (T=pattern)
	@testbed/snp/run-selftests.sh -k debug $(O) $(T)

# T= selects by name, see testbed/snp/failures/table and run-ends.sh
.PHONY: check-snp-failures
check-snp-failures: tree qemu ## our kernel when the firmware refuses, and as it comes to its end (T=names)
ifeq ($(T),)
	@testbed/snp/run-failures.sh
	@testbed/snp/run-ends.sh
else
	@testbed/snp/run-failures.sh $(T)
endif

# O= options of testbed/snp/run-guest.sh: "-k debug", "-g 2 -b", ...
.PHONY: check-snp-guest
check-snp-guest: tree qemu ## a real SEV-SNP guest on our kernel, with network and under pressure
	@testbed/snp/run-guest.sh -k ours -c 2 -v 2 -n -p $(O)

# The proof that the emulated computer with SEV-SNP is one: on it, Linux 6.12 and its
# selftests pass as they are, and a real guest boots, attests itself and leaves
# nothing behind; broken in one place after the other, 6.12 is found out.
# QEMU= another emulator than build/qemu-system-x86_64
.PHONY: oracle
oracle: tree ## the machine with SEV-SNP is sound: Linux 6.12's tests, a real guest, mutations
	@testbed/snp/run-selftests.sh $(T)
	@testbed/snp/run-guest.sh -c 2 -v 2
	@testbed/snp/run-mutations.sh

.PHONY: oracle-mutations
oracle-mutations: tree ## deliberate errors in a host kernel, and how each is caught (T=names)
	@testbed/snp/run-mutations.sh $(T)

# RUNS= how many of each (20)
.PHONY: oracle-repeat
oracle-repeat: tree ## the guest again and again, on 1 and 2 processors, with 1 and 2
	@testbed/snp/run-guest.sh -a -q -r $(if $(RUNS),$(RUNS),20)

.PHONY: oracle-exact
oracle-exact: tree ## the guest twice, counting instructions: the same to the nanosecond
	@testbed/snp/run-guest.sh -d -q -r 2
