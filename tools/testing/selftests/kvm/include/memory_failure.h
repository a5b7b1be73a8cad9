/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory failure: pages of guest_memfd files that break.  For root, on kernels
 * with HWPOISON_INJECT and PROC_PAGE_MONITOR; elsewhere the sub-test is skipped.
 */
#ifndef SELFTEST_KVM_MEMORY_FAILURE_H
#define SELFTEST_KVM_MEMORY_FAILURE_H

#include <stdbool.h>
#include <stdint.h>

/* Flags of a page, from /proc/kpageflags (admin-guide/mm/pagemap.rst) */
#define KPF_LRU			5	/* of a folio: on its first page only */
#define KPF_COMPOUND_TAIL	16

/*
 * Which page frames somebody uses now, one entry for each, for free().
 */
bool *pages_in_use(void);

/*
 * Break one page of guest_memfd files, @fd's or another's: the first one that has
 * the flag and is not in @except, which may be NULL.  The result is its pfn, or 0
 * if there is none.
 */
uint64_t guest_memfd_break_page(int fd, int flag, const bool *except);

/* Such a page is as good as new.  Nobody may use it any more. */
void unpoison_page(uint64_t pfn);

#endif /* SELFTEST_KVM_MEMORY_FAILURE_H */
