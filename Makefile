# SPDX-License-Identifier: GPL-2.0
#
# The one entrance. "make help" lists the targets.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# A 6.1.y tree or tarball to use as the base instead of Debian's.
export LINUX_SRC
# A QEMU 10.0 tree, tarball or .dsc, the same for QEMU.
export QEMU_SRC
# FORCE=1 discards work that make tree and make refresh refuse to touch.
export FORCE

.PHONY: help
help: ## this list
	@echo 'Guest memory in files of its own, for Linux 6.1. Targets:'
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		sort -u | while IFS='|' read -r name text; do \
			printf '  %-16s %s\n' "$$name" "$$text"; done
	@echo 'Variables: LINUX_SRC=<6.1.y tree or tarball>  QEMU_SRC=<10.0 tree or tarball>'
	@echo '           FORCE=1 (discard unsaved work)'

.PHONY: deps
deps: ## install what a fresh Debian 12 lacks
	@scripts/deps.sh

.PHONY: tree
tree: deps ## patches/ and the new files -> build/linux, one commit per patch
	@scripts/patchqueue.py tree

.PHONY: refresh
refresh: deps ## commits in build/linux -> patches/ and the new files
	@scripts/patchqueue.py refresh

.PHONY: series
series: deps ## build/series: mails for git send-email or git am
	@scripts/patchqueue.py series

.PHONY: qemu-tree
qemu-tree: deps ## testbed/qemu -> build/qemu, one commit per patch
	@scripts/patchqueue.py --project=qemu tree

.PHONY: qemu-refresh
qemu-refresh: deps ## commits in build/qemu -> testbed/qemu
	@scripts/patchqueue.py --project=qemu refresh

.PHONY: qemu-series
qemu-series: deps ## build/series-qemu: mails for git send-email or git am
	@scripts/patchqueue.py --project=qemu series

.PHONY: check
check: tree qemu-tree ## the whole test suite (CI runs this)
	@scripts/check.sh all

.PHONY: check-quick
check-quick: tree qemu-tree ## the inner loop: tooling, and the machine on the base kernel
	@scripts/check.sh quick

.PHONY: check-tooling
check-tooling: tree qemu-tree ## round trip, quilt, refusals, shellcheck
	@scripts/check.sh shell tooling qemu-tooling

.PHONY: check-series
check-series: tree qemu-tree ## git am on a pristine base, checkpatch --strict
	@scripts/check.sh series qemu-series

.PHONY: check-lint
check-lint: tree ## sparse, W=1 and kernel-doc on what the series touches
	@scripts/check.sh lint

.PHONY: check-prefixes
check-prefixes: tree ## build every prefix of the series
	@scripts/check.sh prefixes

.PHONY: qemu-prefixes
qemu-prefixes: qemu-tree ## build QEMU with every prefix of its queue
	@scripts/check.sh qemu-prefixes

.PHONY: clean
clean: ## remove what was built; build/linux, build/qemu and their commits stay
	rm -rf build/kernel build/series build/cache build/prefix build/bzImage \
		build/qemu-build build/qemu-prefix build/series-qemu build/qemu-system-x86_64

-include testbed/testbed.mk
