// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory failure: pages of guest_memfd files that break.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "test_util.h"
#include "memory_failure.h"
#include "private_mem.h"
#include "subtest.h"

#define KPAGEFLAGS	"/proc/kpageflags"
#define HWPOISON	"/sys/kernel/debug/hwpoison/"

#define KPF_SLAB	7
#define KPF_BUDDY	10
#define KPF_MMAP	11
#define KPF_ANON	12
#define KPF_HWPOISON	19
#define KPF_NOPAGE	20

/* Never those that a guest_memfd has */
#define KPF_OTHERS	(BIT_ULL(KPF_SLAB) | BIT_ULL(KPF_BUDDY) | BIT_ULL(KPF_MMAP) | \
			 BIT_ULL(KPF_ANON) | BIT_ULL(KPF_HWPOISON) | BIT_ULL(KPF_NOPAGE))

#define CHUNK		8192

/* The next CHUNK pages, or fewer at the end of memory. */
static uint64_t read_flags(int file, uint64_t pfn, uint64_t *flags)
{
	ssize_t len = pread(file, flags, CHUNK * sizeof(*flags), pfn * sizeof(*flags));

	return len > 0 ? len / sizeof(*flags) : 0;
}

static int open_flags(void)
{
	int file = open(KPAGEFLAGS, O_RDONLY);

	if (file < 0)
		subtest_skip("no " KPAGEFLAGS);
	return file;
}

/* Free pages have no flags; only some are known to be free. */
bool *pages_in_use(void)
{
	static uint64_t flags[CHUNK];
	uint64_t pfn = 0, nr, i;
	int file = open_flags();
	bool *used = NULL;

	while ((nr = read_flags(file, pfn, flags))) {
		used = realloc(used, pfn + nr);
		TEST_ASSERT(used, "realloc()");
		for (i = 0; i < nr; i++)
			used[pfn + i] = flags[i] & ~(BIT_ULL(KPF_BUDDY) | BIT_ULL(KPF_NOPAGE));
		pfn += nr;
	}
	close(file);
	return used;
}

/* Breaking a page breaks it only if it belongs to the file system of @fd. */
static void filter_by_file(int fd)
{
	struct stat st;
	char buf[32];

	if (access(HWPOISON, F_OK) && system("modprobe -q hwpoison-inject") != 0)
		subtest_skip("no " HWPOISON " (HWPOISON_INJECT)");

	TEST_ASSERT(!fstat(fd, &st), "fstat()");
	snprintf(buf, sizeof(buf), "%u", major(st.st_dev));
	if (!write_file(HWPOISON "corrupt-filter-dev-major", buf))
		subtest_skip("no " HWPOISON "corrupt-filter-dev-major");
	snprintf(buf, sizeof(buf), "%u", minor(st.st_dev));
	TEST_ASSERT(write_file(HWPOISON "corrupt-filter-dev-minor", buf) &&
		    write_file(HWPOISON "corrupt-filter-enable", "1"), HWPOISON);
}

static bool break_page(int file, uint64_t pfn)
{
	uint64_t flags;
	char buf[32];

	snprintf(buf, sizeof(buf), "%lu", pfn);
	TEST_ASSERT(write_file(HWPOISON "corrupt-pfn", buf),
		    "Memory failure of page %lu is not handled, errno: %d", pfn, errno);
	return pread(file, &flags, sizeof(flags), pfn * sizeof(flags)) == sizeof(flags) &&
	       flags & BIT_ULL(KPF_HWPOISON);
}

uint64_t guest_memfd_break_page(int fd, int flag, const bool *except)
{
	static uint64_t flags[CHUNK];
	uint64_t pfn = 0, broken = 0, nr, i;
	int file = open_flags();

	filter_by_file(fd);
	/* New pages wait on the processors' lists, until somebody wants all on the LRU. */
	write_file("/proc/sys/vm/compact_memory", "1");
	while (!broken && (nr = read_flags(file, pfn, flags))) {
		for (i = 0; i < nr && !broken; i++) {
			if (!(flags[i] & BIT_ULL(flag)) || flags[i] & KPF_OTHERS ||
			    (except && except[pfn + i]))
				continue;
			if (break_page(file, pfn + i))
				broken = pfn + i;
		}
		pfn += nr;
	}

	write_file(HWPOISON "corrupt-filter-enable", "0");
	close(file);
	return broken;
}

void unpoison_page(uint64_t pfn)
{
	char buf[32];

	snprintf(buf, sizeof(buf), "%lu", pfn);
	TEST_ASSERT(write_file(HWPOISON "unpoison-pfn", buf), "Unpoisoning page %lu", pfn);
}
