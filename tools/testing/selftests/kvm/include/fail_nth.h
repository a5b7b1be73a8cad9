/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Let an allocation of this thread fail, the first, the second, and so on.  For
 * kernels with fault injection (FAILSLAB, FAIL_PAGE_ALLOC, its debugfs); elsewhere
 * the sub-test is skipped.
 */
#ifndef SELFTEST_KVM_FAIL_NTH_H
#define SELFTEST_KVM_FAIL_NTH_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "private_mem.h"
#include "subtest.h"
#include "test_util.h"

#define FAIL_NTH_DEBUGFS	"/sys/kernel/debug/"

static inline bool enable_fault_injection(void)
{
	/* Everything may fail, and without a word in the kernel's log. */
	return write_file(FAIL_NTH_DEBUGFS "failslab/ignore-gfp-wait", "N") &&
	       write_file(FAIL_NTH_DEBUGFS "failslab/verbose", "0") &&
	       write_file(FAIL_NTH_DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N") &&
	       write_file(FAIL_NTH_DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N") &&
	       write_file(FAIL_NTH_DEBUGFS "fail_page_alloc/min-order", "0") &&
	       write_file(FAIL_NTH_DEBUGFS "fail_page_alloc/verbose", "0");
}

/* A descriptor for the functions below; it is this thread's. */
static inline int open_fail_nth(void)
{
	int fd;

	if (!enable_fault_injection())
		subtest_skip("no fault injection of slab and pages in debugfs");
	fd = open("/proc/thread-self/fail-nth", O_RDWR);
	if (fd < 0)
		subtest_skip("no /proc/thread-self/fail-nth");
	return fd;
}

static inline void set_fail_nth(int fd, unsigned int nth)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%u", nth);

	TEST_ASSERT(pwrite(fd, buf, len, 0) == len,
		    "Writing fail-nth failed, errno: %d", errno);
}

/* Has an allocation failed since set_fail_nth()?  Nothing fails from here on. */
static inline bool nth_has_failed(int fd)
{
	int saved_errno = errno;
	char buf[16] = "";

	TEST_ASSERT(pread(fd, buf, sizeof(buf) - 1, 0) > 0,
		    "Reading fail-nth failed, errno: %d", errno);
	set_fail_nth(fd, 0);
	errno = saved_errno;
	return !atoi(buf);
}

#endif /* SELFTEST_KVM_FAIL_NTH_H */
