// SPDX-License-Identifier: GPL-2.0
/*
 * The reverse map table (RMP) of AMD SEV-SNP
 *
 * The table has an entry for each 4 KiB of system memory and says who owns
 * them: the hypervisor (the page is not "assigned"; the kernel calls it
 * shared), or the firmware or a guest (private). A processor with
 * SYSCFG.SNP_EN refuses the kernel's writes to pages that are not the
 * hypervisor's, with #PF (X86_PF_RMP). Reads pass, and see ciphertext.
 *
 * Life: the BIOS reserves memory for the table and names it in two MSRs
 * (rmp_probe()). The kernel checks that it can be used and keeps away from
 * it (rmp_setup_memory()). The IOMMU's driver, if the IOMMU is fit for it, has
 * it enabled on all processors (rmp_enable()), and only if all that succeeds
 * sets CC_ATTR_HOST_SEV_SNP. SNP_EN stays until the next reset: if something
 * fails after it was set, the table remains in force while the attribute is
 * not set. That is legal, all pages belong to the hypervisor, and costs a
 * check of each write's translation.
 *
 * Who may change an entry: whoever owns the page, in the sense of the page
 * allocator. There is no lock here. Processors which change entries at the same
 * time are told so by the instructions (FAIL_INUSE, FAIL_OVERLAP), and
 * try again, a bounded number of times.
 *
 * The direct map: a write through a large mapping needs all pages below it to
 * be the hypervisor's. So when a 4 KiB page gets another owner than its
 * neighbours in the same 2 MiB, the kernel's mappings of it have to be 4 KiB ones
 * before that. That goes for a 4 KiB page which becomes private, and for one that
 * becomes shared after its 2 MiB were split (rmp_split()). Entries of 2 MiB need
 * no care: larger mappings are checked as 2 MiB. The private page stays mapped.
 *
 * What cannot be taken back from its owner is never to be used again:
 * rmp_leak_pages().
 *
 * References: AMD64 Architecture Programmer's Manual volume 2 (24593),
 * sections 15.36.3 to 15.36.11, volume 3 (24594), PSMASH and RMPUPDATE;
 * Processor Programming Reference for family 19h model 01h (55898), RMP entry
 * format; SEV-SNP Firmware ABI (56860), SNP_INIT_EX.
 */

#define pr_fmt(fmt) "SEV-SNP: " fmt

#include <linux/bitfield.h>
#include <linux/cc_platform.h>
#include <linux/cpu.h>
#include <linux/cpufeature.h>
#include <linux/crash_dump.h>
#include <linux/debugfs.h>
#include <linux/io.h>
#include <linux/memblock.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/panic_notifier.h>
#include <linux/percpu.h>
#include <linux/pgtable.h>
#include <linux/ratelimit.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <linux/set_memory.h>
#include <linux/sizes.h>
#include <linux/smp.h>
#include <linux/suspend.h>
#include <linux/syscore_ops.h>

#include <asm/e820/api.h>
#include <asm/msr.h>
#include <asm/rmp.h>
#include <asm/sections.h>

/* Bits 12:0 of RMP_BASE and RMP_END are reserved; APM volume 2, 15.36.4 */
#define RMP_ADDR_MASK		GENMASK_ULL(51, 13)
/* The table begins with the processors' own bookkeeping; same place */
#define RMP_BOOKKEEPING		SZ_16K
/* SNP_INIT_EX refuses less; 56860 */
#define RMP_ALIGN		SZ_1M

/* An entry as it lies in memory; 55898. RMP_2M counts in that of the first page */
#define RMP_ASSIGNED		BIT_ULL(0)
#define RMP_2M			BIT_ULL(1)
#define RMP_IMMUTABLE		BIT_ULL(2)
#define RMP_GPA			GENMASK_ULL(50, 12)
#define RMP_ASID		GENMASK_ULL(60, 51)
#define RMP_VMSA		BIT_ULL(61)
#define RMP_VALIDATED		BIT_ULL(62)

struct rmp_entry {
	u64 lo;
	u64 hi;
};

/* RMPUPDATE's second operand; APM volume 3 */
struct rmp_update {
	u64 gpa;
	u8 assigned;
	u8 pagesize;
	u8 immutable;
	u8 reserved;
	u32 asid;
} __packed;

/* What RMPUPDATE and PSMASH return in EAX; APM volume 3 */
enum rmp_status {
	RMP_OK			= 0,
	RMP_FAIL_INPUT		= 1,
	RMP_FAIL_PERMISSION	= 2,
	RMP_FAIL_INUSE		= 3,
	RMP_FAIL_OVERLAP	= 4,
	PSMASH_FAIL_BADADDR	= 4,
};

/*
 * How often an instruction is tried while others work on the same entries.
 * Each holds them for the time of one instruction. Who cannot sleep gives up
 * after some milliseconds; the callers look again, or take the fault again.
 */
#define RMP_TRIES		65536
#define RMP_TRIES_ATOMIC	4096

/* Physical addresses of the table's first byte, and of the byte after it */
static u64 rmp_start __ro_after_init;
static u64 rmp_end __ro_after_init;

/* Entry 0, once SNP_EN is set on a processor */
static const struct rmp_entry *rmp_table __ro_after_init;
static u64 rmp_nr_entries __ro_after_init;

static atomic_long_t rmp_nr_leaked;

/* -- look-up -------------------------------------------------------------- */

static int rmp_read(u64 pfn, struct rmp_entry *e)
{
	if (!rmp_table)
		return -ENODEV;
	if (pfn >= rmp_nr_entries)
		return -ENXIO;

	e->lo = READ_ONCE(rmp_table[pfn].lo);
	e->hi = READ_ONCE(rmp_table[pfn].hi);
	return 0;
}

static bool rmp_is_assigned(u64 pfn)
{
	struct rmp_entry e;

	return !rmp_read(pfn, &e) && (e.lo & RMP_ASSIGNED);
}

/* Is the page part of a private 2 MiB page? */
static bool rmp_is_large(u64 pfn)
{
	struct rmp_entry e;

	return !rmp_read(ALIGN_DOWN(pfn, PTRS_PER_PMD), &e) &&
	       (e.lo & RMP_ASSIGNED) && (e.lo & RMP_2M);
}

/* How many of the 512 pages around @pfn are private, and which is the first */
static unsigned int rmp_count_2m(u64 pfn, u64 *first)
{
	u64 start = ALIGN_DOWN(pfn, PTRS_PER_PMD);
	unsigned int n = 0;

	for (pfn = start; pfn < start + PTRS_PER_PMD; pfn++) {
		if (rmp_is_assigned(pfn) && !n++)
			*first = pfn;
	}

	return n;
}

/**
 * rmp_lookup() - Who has a page
 * @pfn: page frame number
 * @assigned: true if the page belongs to the firmware or a guest
 * @level: PG_LEVEL_2M if the page is part of a private 2 MiB page, whose
 *	address is @pfn rounded down; PG_LEVEL_4K otherwise
 *
 * The answer is about the past unless the caller keeps the owner from changing.
 *
 * Context: Any.
 * Return: 0, or
 *  -ENODEV: this is not an SEV-SNP host;
 *  -ENXIO: the table has no entry for this page, it can only be shared.
 */
int rmp_lookup(u64 pfn, bool *assigned, enum pg_level *level)
{
	struct rmp_entry e;
	int ret;

	ret = rmp_read(pfn, &e);
	if (ret)
		return ret;

	*level = rmp_is_large(pfn) ? PG_LEVEL_2M : PG_LEVEL_4K;
	*assigned = *level == PG_LEVEL_2M || (e.lo & RMP_ASSIGNED);
	return 0;
}
EXPORT_SYMBOL_GPL(rmp_lookup);

/**
 * rmp_2m_is_shared() - Is nothing of 2 MiB private
 * @pfn: page frame number of the 2 MiB, a multiple of 512
 *
 * Like 512 calls of rmp_lookup(), with the same caveat.
 *
 * Context: Any.
 * Return: true if all 512 pages are shared and have an entry in the table.
 */
bool rmp_2m_is_shared(u64 pfn)
{
	const struct rmp_entry *e;
	u64 assigned = 0;
	unsigned int i;

	if (!rmp_table || pfn + PTRS_PER_PMD > rmp_nr_entries)
		return false;

	e = &rmp_table[pfn];
	for (i = 0; i < PTRS_PER_PMD; i++)
		assigned |= READ_ONCE(e[i].lo);

	return !(assigned & RMP_ASSIGNED);
}
EXPORT_SYMBOL_GPL(rmp_2m_is_shared);

/**
 * rmp_write_denied() - Does the table forbid a write of the kernel or a process
 * @pfn: page frame number of the address that is written to
 * @level: size of the mapping through which it is written to
 *
 * Context: Any.
 * Return: true if the page, or for a large mapping one of those in the same
 *  2 MiB, is private.
 */
bool rmp_write_denied(u64 pfn, enum pg_level level)
{
	u64 first;

	if (!rmp_table)
		return false;
	if (level == PG_LEVEL_4K)
		return rmp_is_assigned(pfn) || rmp_is_large(pfn);

	return rmp_count_2m(pfn, &first);
}

/**
 * rmp_dump() - Print what the table says of a page
 * @pfn: page frame number
 *
 * If the page is shared, also whether others in the same 2 MiB are not. Prints
 * nothing if this is not an SEV-SNP host.
 *
 * Context: Any.
 */
void rmp_dump(u64 pfn)
{
	struct rmp_entry e;
	unsigned int n;
	u64 first;
	int ret;

	ret = rmp_read(pfn, &e);
	if (ret == -ENXIO)
		pr_info("pfn %#llx: beyond the RMP\n", pfn);
	if (ret)
		return;

	pr_info("pfn %#llx: RMP entry %016llx %016llx: %s%s%s%s, ASID %llu, guest address %#llx\n",
		pfn, e.lo, e.hi,
		!(e.lo & RMP_ASSIGNED) ? "shared" :
		rmp_is_large(pfn) ? "private 2M" : "private 4K",
		e.lo & RMP_IMMUTABLE ? " immutable" : "",
		e.lo & RMP_VMSA ? " VMSA" : "",
		e.lo & RMP_VALIDATED ? " validated" : "",
		FIELD_GET(RMP_ASID, e.lo), e.lo & RMP_GPA);

	if (e.lo & RMP_ASSIGNED)
		return;
	n = rmp_count_2m(pfn, &first);
	if (n)
		pr_info("pfn %#llx: %u private pages in the same 2 MiB, the first is %#llx\n",
			pfn, n, first);
}
EXPORT_SYMBOL_GPL(rmp_dump);

/* -- changes -------------------------------------------------------------- */

static enum rmp_status rmpupdate(u64 pfn, const struct rmp_update *u)
{
	u64 ret;

	/* RMPUPDATE, which binutils knows from 2.36 on */
	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xfe"
		     : "=a" (ret)
		     : "a" (PFN_PHYS(pfn)), "c" (u)
		     : "memory", "cc");

	return (u32)ret;
}

static enum rmp_status psmash(u64 pfn)
{
	u64 ret;

	/* PSMASH, likewise */
	asm volatile(".byte 0xf3, 0x0f, 0x01, 0xff"
		     : "=a" (ret)
		     : "a" (PFN_PHYS(pfn))
		     : "memory", "cc");

	return (u32)ret;
}

/* Once more? @tries is how often it has been tried. */
static bool rmp_try_again(unsigned int tries, bool may_sleep)
{
	if (tries >= (may_sleep ? RMP_TRIES : RMP_TRIES_ATOMIC))
		return false;

	if (may_sleep && !(tries % 256))
		cond_resched();
	else
		cpu_relax();

	return true;
}

static void rmp_complain(const char *what, u64 pfn, enum rmp_status status)
{
	static DEFINE_RATELIMIT_STATE(limit, DEFAULT_RATELIMIT_INTERVAL,
				      DEFAULT_RATELIMIT_BURST);

	if (!__ratelimit(&limit))
		return;

	pr_err("%s of pfn %#llx failed with %d\n", what, pfn, status);
	rmp_dump(pfn);
}

/* What an instruction that is not tried again has come to */
static int rmp_result(const char *what, u64 pfn, enum rmp_status status)
{
	if (status == RMP_OK)
		return 0;

	rmp_complain(what, pfn, status);

	switch (status) {
	case RMP_FAIL_INPUT:
		return -EINVAL;
	case RMP_FAIL_PERMISSION:
		return -EPERM;
	default:
		return -EBUSY;
	}
}

/**
 * rmp_split() - Make 512 pages of 4 KiB of a private 2 MiB page (PSMASH)
 * @pfn: page frame number of the 2 MiB page, a multiple of 512
 *
 * Owner, guest addresses and validation stay as they are.
 *
 * Context: Any.
 * Return: 0, or
 *  -ENODEV: this is not an SEV-SNP host;
 *  -ENXIO: the table has no entry for this page;
 *  -EINVAL: @pfn is not a multiple of 512;
 *  -ENOENT: there is no private 2 MiB page, or not any more;
 *  -EPERM: the page is immutable, the firmware works with it;
 *  -EBUSY: other processors keep the entry.
 */
int rmp_split(u64 pfn)
{
	enum rmp_status status;
	unsigned int tries = 0;
	struct rmp_entry e;
	int ret;

	ret = rmp_read(pfn, &e);
	if (ret)
		return ret;
	if (!IS_ALIGNED(pfn, PTRS_PER_PMD))
		return -EINVAL;

	do {
		status = psmash(pfn);
		/*
		 * FAIL_BADADDR: what there is, is not a 2 MiB page. If the table
		 * says otherwise, another processor is at work.
		 */
		if (status == PSMASH_FAIL_BADADDR && !rmp_is_large(pfn))
			return -ENOENT;
	} while ((status == RMP_FAIL_INUSE || status == PSMASH_FAIL_BADADDR) &&
		 rmp_try_again(++tries, false));

	return rmp_result("PSMASH", pfn, status);
}
EXPORT_SYMBOL_GPL(rmp_split);

/* Is the page mapped a second time, as part of the kernel's image? */
static bool rmp_in_kernel_image(u64 pfn)
{
	return pfn >= PHYS_PFN(__pa_symbol(_text)) &&
	       pfn < PHYS_PFN(roundup(__pa_symbol(_end), PMD_SIZE));
}

/*
 * Is the second mapping, of the image, by an entry of 4 KiB, or none? It is split
 * along with the direct map, but that it was not is not reported.
 */
static bool rmp_image_is_split(u64 pfn)
{
	unsigned long addr = PFN_PHYS(pfn) - phys_base + __START_KERNEL_map;
	unsigned int level;
	pte_t *pte = lookup_address(addr, &level);

	return !pte || !pte_present(*pte) || level == PG_LEVEL_4K;
}

/*
 * The 2 MiB that this processor saw last to be mapped by 4 KiB, with no flush of
 * TLBs outstanding. What was true for one processor is true for all.
 */
static DEFINE_PER_CPU(u64, rmp_last_split) = U64_MAX;

/*
 * Have the kernel map the page by an entry of its own, see the top. Usually
 * it does already: a mapping is split once, and all 512 pages have it from then
 * on. set_memory_4k() also takes care of the kernel's image, which the
 * look-up of the direct map does not tell about.
 */
static int rmp_split_direct_map(u64 pfn)
{
	unsigned long addr = (unsigned long)pfn_to_kaddr(pfn);
	u64 first = ALIGN_DOWN(pfn, PTRS_PER_PMD);
	unsigned int level;
	pte_t *pte;
	int ret;

	pte = lookup_address(addr, &level);
	if (!pte)
		return 0;

	if (level == PG_LEVEL_4K && !rmp_in_kernel_image(pfn)) {
		/*
		 * Somebody else's split becomes visible before the TLBs are
		 * flushed. The flush is over when the lock is free. Not in
		 * a panic: who has the lock may have been stopped, but then
		 * nobody else is left that writes.
		 */
		if (irqs_disabled() || this_cpu_read(rmp_last_split) == first)
			return 0;

		spin_lock(&pgd_lock);
		pte = lookup_address(addr, &level);
		spin_unlock(&pgd_lock);
		if (!pte)
			return 0;
		if (level == PG_LEVEL_4K) {
			this_cpu_write(rmp_last_split, first);
			return 0;
		}
	}

	if (irqs_disabled())
		return -EAGAIN;

	ret = set_memory_4k(addr, 1);
	if (!ret && rmp_in_kernel_image(pfn) && !rmp_image_is_split(pfn))
		ret = -ENOMEM;

	return ret;
}

/* Does a page of the other size lie there? FAIL_OVERLAP can also be transient. */
static bool rmp_overlaps(u64 pfn, enum pg_level level)
{
	u64 first;

	if (level == PG_LEVEL_4K)
		return rmp_is_large(pfn);

	return !rmp_is_large(pfn) && rmp_count_2m(pfn, &first);
}

static int rmp_change(u64 pfn, enum pg_level level, struct rmp_update *u)
{
	bool may_sleep = !irqs_disabled();
	enum rmp_status status;
	unsigned int tries = 0;
	struct rmp_entry e;
	int ret;

	/* It does so rarely */
	might_sleep_if(may_sleep);

	ret = rmp_read(pfn, &e);
	if (ret)
		return ret;

	switch (level) {
	case PG_LEVEL_4K:
		ret = rmp_split_direct_map(pfn);
		if (ret)
			return ret;
		break;
	case PG_LEVEL_2M:
		if (!IS_ALIGNED(pfn, PTRS_PER_PMD))
			return -EINVAL;
		u->pagesize = 1;
		break;
	default:
		return -EINVAL;
	}

	do {
		status = rmpupdate(pfn, u);
		if (status == RMP_FAIL_OVERLAP && rmp_overlaps(pfn, level)) {
			rmp_complain("RMPUPDATE", pfn, status);
			return -EEXIST;
		}
	} while ((status == RMP_FAIL_INUSE || status == RMP_FAIL_OVERLAP) &&
		 rmp_try_again(++tries, may_sleep));

	return rmp_result("RMPUPDATE", pfn, status);
}

/**
 * rmp_make_private() - Give a page to a guest or to the firmware
 * @pfn: page frame number; for 2 MiB, a multiple of 512
 * @gpa: by what address of the guest it is to be reached, in bytes, a multiple of
 *	the page's size; 0 for the firmware
 * @level: PG_LEVEL_4K or PG_LEVEL_2M
 * @asid: of the guest; 0 for the firmware
 * @immutable: only the firmware can make it shared again
 *
 * The page is the caller's, who sees to it that the kernel does not write to it
 * from the call on, until it fails or the page is shared again. It is not
 * validated.
 *
 * Context: May sleep, for memory and for other processors. With interrupts
 *  disabled (panic) it does not, which is good for 4 KiB pages that were
 *  private before.
 * Return: 0, or, with nothing changed,
 *  -ENODEV: this is not an SEV-SNP host;
 *  -ENXIO: the table has no entry for this page;
 *  -EINVAL: the processor does not like the arguments;
 *  -ENOMEM: no memory for the direct map's page tables;
 *  -EAGAIN: the direct map is to be split, with interrupts disabled;
 *  -EEXIST: a private page of the other size lies there;
 *  -EPERM: the page is immutable;
 *  -EBUSY: other processors keep the entry, a VMRUN maybe.
 */
int rmp_make_private(u64 pfn, u64 gpa, enum pg_level level, u32 asid,
		     bool immutable)
{
	struct rmp_update u = {
		.assigned	= 1,
		.gpa		= gpa,
		.asid		= asid,
		.immutable	= immutable,
	};

	return rmp_change(pfn, level, &u);
}
EXPORT_SYMBOL_GPL(rmp_make_private);

/**
 * rmp_make_shared() - Take a page back from a guest, or from the firmware
 * @pfn: page frame number; for 2 MiB, a multiple of 512
 * @level: PG_LEVEL_4K or PG_LEVEL_2M, the size that it has in the table
 *
 * If this fails the page must not be freed, see rmp_leak_pages(). It is harmless
 * for a page that is shared already.
 *
 * Context: Like rmp_make_private().
 * Return: 0, or, with nothing changed, an error like rmp_make_private().
 */
int rmp_make_shared(u64 pfn, enum pg_level level)
{
	struct rmp_update u = { };

	return rmp_change(pfn, level, &u);
}
EXPORT_SYMBOL_GPL(rmp_make_shared);

/**
 * rmp_leak_pages() - Never use pages again that could not be made shared
 * @pfn: page frame number of the first
 * @nr: how many
 *
 * Takes a reference to each, so that a caller who has references that somebody
 * will drop (page cache) need not care. Who has no such excuse does not free
 * them; pages inside a block without __GFP_COMP must not be freed.
 * Their number is in debugfs, x86/rmp/leaked_pages.
 *
 * Context: Any.
 */
void rmp_leak_pages(u64 pfn, unsigned long nr)
{
	long total = atomic_long_add_return(nr, &rmp_nr_leaked);
	unsigned long i;

	pr_warn_ratelimited("%lu pages from pfn %#llx on cannot be used any more, %ld in all\n",
			    nr, pfn, total);

	for (i = 0; i < nr; i++) {
		if (pfn_valid(pfn + i))
			folio_try_get(page_folio(pfn_to_page(pfn + i)));
	}
}
EXPORT_SYMBOL_GPL(rmp_leak_pages);

/* -- boot ----------------------------------------------------------------- */

/**
 * rmp_probe() - Has the BIOS reserved memory for a table
 *
 * Context: The boot processor's identification.
 * Return: true if so, and if it can be of use.
 */
bool __init rmp_probe(void)
{
	u64 base, end;

	if (rdmsrl_safe(MSR_AMD64_RMP_BASE, &base) ||
	    rdmsrl_safe(MSR_AMD64_RMP_END, &end))
		return false;

	base &= RMP_ADDR_MASK;
	end &= RMP_ADDR_MASK;
	if (!base || !end) {
		pr_info("The BIOS has not reserved memory for the RMP\n");
		return false;
	}
	/* RMP_END is in the last 8 KiB */
	end += ~RMP_ADDR_MASK & GENMASK_ULL(51, 0);
	end++;

	if (end <= base + RMP_BOOKKEEPING ||
	    !IS_ALIGNED(base, RMP_ALIGN) || !IS_ALIGNED(end, RMP_ALIGN)) {
		pr_err(FW_BUG "RMP at [mem %#llx-%#llx]\n", base, end - 1);
		return false;
	}

	/* Each family may have its own; there is no instruction to read it here */
	if (boot_cpu_data.x86 != 0x19) {
		pr_info("The format of the RMP of family %#x is not known\n",
			boot_cpu_data.x86);
		return false;
	}

	rmp_start = base;
	rmp_end = end;
	rmp_nr_entries = (end - base - RMP_BOOKKEEPING) /
			 sizeof(struct rmp_entry);
	return true;
}

/* Keep the kernel from memory that shares 2 MiB with the table */
static bool __init rmp_reserve(u64 start, u64 end)
{
	if (start == end || !e820__mapped_any(start, end, E820_TYPE_RAM))
		return true;
	if (memblock_is_region_reserved(start, end - start))
		return false;

	pr_info("Reserving [mem %#llx-%#llx] next to the RMP\n", start, end - 1);
	e820__range_update(start, end - start, E820_TYPE_RAM,
			   E820_TYPE_RESERVED);
	e820__update_table(e820_table);
	/* The next kernel need not know of the table, which remains in force */
	e820__range_update_kexec(start, end - start, E820_TYPE_RAM,
				 E820_TYPE_RESERVED);
	e820__update_table(e820_table_kexec);
	memblock_reserve(start, end - start);
	return true;
}

/**
 * rmp_setup_memory() - Does the table fit the memory map
 *
 * It has to cover all memory, must not be part of what the kernel uses, and not
 * share a mapping with it.
 *
 * Context: setup_arch(), when memblock knows the memory, and before it
 *  allocates much.
 */
void __init rmp_setup_memory(void)
{
	const char *why;

	if (!cpu_feature_enabled(X86_FEATURE_SEV_SNP))
		return;

	if (max_pfn > rmp_nr_entries)
		why = "does not cover all memory";
	else if (e820__mapped_any(rmp_start, rmp_end, E820_TYPE_RAM))
		why = "is not reserved in the memory map";
	else if (!rmp_reserve(ALIGN_DOWN(rmp_start, PMD_SIZE), rmp_start) ||
		 !rmp_reserve(rmp_end, ALIGN(rmp_end, PMD_SIZE)))
		why = "shares a large page with memory in use";
	else
		return;

	pr_err(FW_BUG "The RMP at [mem %#llx-%#llx] %s\n", rmp_start,
	       rmp_end - 1, why);
	setup_clear_cpu_cap(X86_FEATURE_SEV_SNP);
}

/* Is the table that of the boot processor here? */
static bool rmp_cpu_fits(void)
{
	u64 base, end;

	return !rdmsrl_safe(MSR_AMD64_RMP_BASE, &base) &&
	       !rdmsrl_safe(MSR_AMD64_RMP_END, &end) &&
	       (base & RMP_ADDR_MASK) == rmp_start &&
	       (end & RMP_ADDR_MASK) == ((rmp_end - 1) & RMP_ADDR_MASK);
}

/* Set bits of SYSCFG on this processor; the last of them tells if it is done */
static bool rmp_cpu_syscfg(u64 bits)
{
	u64 val;

	if (rdmsrl_safe(MSR_AMD64_SYSCFG, &val))
		return false;
	if ((val & bits) == bits)
		return true;
	if (wrmsrl_safe(MSR_AMD64_SYSCFG, val | bits))
		return false;

	/* What is locked ignores the write */
	rdmsrl(MSR_AMD64_SYSCFG, val);
	return (val & bits) == bits;
}

/* APM volume 2, 15.36.2: MFDM on all processors, then SNP_EN with VMPL_EN */
static void rmp_cpu_prepare(void *failures)
{
	if (!rmp_cpu_fits() || !rmp_cpu_syscfg(MSR_AMD64_SYSCFG_MFDM))
		atomic_inc(failures);
}

static void rmp_cpu_enable(void *failures)
{
	if (!rmp_cpu_syscfg(MSR_AMD64_SYSCFG_SNP_EN |
			    MSR_AMD64_SYSCFG_SNP_VMPL_EN))
		atomic_inc(failures);
}

/* A processor that would not obey the table must not run */
static int rmp_cpu_online(unsigned int cpu)
{
	atomic_t failures = ATOMIC_INIT(0);

	wbinvd();
	rmp_cpu_prepare(&failures);
	rmp_cpu_enable(&failures);
	if (!atomic_read(&failures))
		return 0;

	pr_err("CPU %u cannot be made to obey the RMP\n", cpu);
	return -EIO;
}

/*
 * An image would have the pages of guests and firmware as ciphertext, and the
 * kernel that restores it has a table and firmware of its own.
 */
static int rmp_pm_notify(struct notifier_block *nb, unsigned long action,
			 void *data)
{
	switch (action) {
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		pr_err("No hibernation with SEV-SNP, boot with sev=nosnp for that\n");
		return notifier_from_errno(-EBUSY);
	default:
		return NOTIFY_DONE;
	}
}

static struct notifier_block rmp_pm_nb = {
	.notifier_call = rmp_pm_notify,
};

/* Suspend to RAM, which resets processors and firmware, comes here; to idle not */
static int rmp_syscore_suspend(void)
{
	pr_err("No suspend to RAM with SEV-SNP, boot with sev=nosnp for that\n");
	return -EBUSY;
}

static struct syscore_ops rmp_syscore_ops = {
	.suspend = rmp_syscore_suspend,
};

static void __init rmp_clear(void *map, u64 size)
{
	u64 done, chunk;

	for (done = 0; done < size; done += chunk) {
		chunk = min_t(u64, size - done, SZ_16M);
		memset(map + done, 0, chunk);
		cond_resched();
	}
}

/**
 * rmp_enable() - Have all processors obey the table
 *
 * If a former kernel did that (kexec), the table stays as it is. A kernel that
 * is to dump a crashed one does not begin with it.
 *
 * Context: An initcall, with all processors of the boot online. Sleeps.
 * Return: 0, or
 *  -ENODEV: this is not an SEV-SNP host;
 *  -ENOMEM: the table cannot be mapped;
 *  -EIO: a processor did not do as it was told. The table may be in force.
 */
int __init rmp_enable(void)
{
	u64 size = rmp_end - rmp_start, val;
	atomic_t failures = ATOMIC_INIT(0);
	bool was_on;
	void *map;
	int ret;

	/* Not a static branch: a processor that lacks it comes later than those */
	if (!boot_cpu_has(X86_FEATURE_SEV_SNP))
		return -ENODEV;
	if (rmp_table)
		return 0;

	rdmsrl(MSR_AMD64_SYSCFG, val);
	was_on = val & MSR_AMD64_SYSCFG_SNP_EN;
	if (is_kdump_kernel() && !was_on)
		return -ENODEV;

	map = memremap(rmp_start, size, MEMREMAP_WB);
	if (!map) {
		pr_err("Cannot map the RMP\n");
		return -ENOMEM;
	}

	cpus_read_lock();

	on_each_cpu(rmp_cpu_prepare, &failures, 1);
	if (atomic_read(&failures) && !was_on) {
		pr_err("%d processors have another RMP, or no SYSCFG.MFDM\n",
		       atomic_read(&failures));
		cpus_read_unlock();
		memunmap(map);
		return -EIO;
	}

	if (!was_on) {
		rmp_clear(map, size);
		/* The table is read past the caches from now on */
		wbinvd_on_all_cpus();
	}

	on_each_cpu(rmp_cpu_enable, &failures, 1);
	rmp_table = map + RMP_BOOKKEEPING;

	ret = cpuhp_setup_state_nocalls_cpuslocked(CPUHP_AP_ONLINE_DYN,
						   "x86/rmp:online",
						   rmp_cpu_online, NULL);
	cpus_read_unlock();

	register_pm_notifier(&rmp_pm_nb);
	register_syscore_ops(&rmp_syscore_ops);
	/* The security processor's driver has to take the firmware down first */
	crash_kexec_post_notifiers = true;

	if (atomic_read(&failures) || ret < 0) {
		pr_err("Enabling failed on %d processors, %d; the RMP may be in force\n",
		       atomic_read(&failures), ret);
		return -EIO;
	}

	pr_info("RMP at [mem %#llx-%#llx] %s on %u processors\n", rmp_start,
		rmp_end - 1, was_on ? "was enabled before," : "enabled",
		num_online_cpus());
	if (num_online_cpus() < num_present_cpus())
		pr_warn("%u processors are offline, the firmware may insist on having all\n",
			num_present_cpus() - num_online_cpus());
	return 0;
}

/*
 * Could the kernel have given this page away, and would the next one take it for
 * its own? What the platform keeps for itself is no such page.
 */
static bool rmp_is_kernel_memory(u64 pfn)
{
	struct page *page = pfn_to_online_page(pfn);

	return page && !PageReserved(page);
}

/* -- the end -------------------------------------------------------------- */

/**
 * rmp_crash_cpu() - Write back this processor's caches before a crash dump
 *
 * They may have data under the keys of guests, that must not be written back
 * later over what the next kernel writes, and the firmware does not
 * shut down before all processors have done it.
 *
 * Context: Any, NMI.
 */
void rmp_crash_cpu(void)
{
	if (rmp_table)
		native_wbinvd();
}

/**
 * rmp_before_kexec() - The last moment before another kernel takes over
 * @crash: the other kernel is to dump this one, from memory of its own
 *
 * Any other kernel uses all memory, and cannot write to private pages, nor next to
 * them. Guests that still run or firmware that could not be shut down would have
 * it die at some random place. A reset ends all that. Private pages outside of
 * memory, of the platform's for instance, are none of any kernel's business.
 *
 * Context: One processor is left, with interrupts disabled.
 */
void rmp_before_kexec(bool crash)
{
	u64 pfn, first = 0, n = 0;

	if (!rmp_table)
		return;

	native_wbinvd();
	if (crash)
		return;

	for (pfn = 0; pfn < rmp_nr_entries; pfn++) {
		if (rmp_is_assigned(pfn) && rmp_is_kernel_memory(pfn) && !n++)
			first = pfn;
	}
	if (!n)
		return;

	pr_emerg("%llu pages of memory still belong to guests or the firmware: no kexec, resetting\n",
		 n);
	rmp_dump(first);
	emergency_restart();
}

/* -- debugfs -------------------------------------------------------------- */

static int rmp_leaked_get(void *data, u64 *val)
{
	*val = atomic_long_read(&rmp_nr_leaked);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(rmp_leaked_fops, rmp_leaked_get, NULL, "%llu\n");

static int rmp_assigned_get(void *data, u64 *val)
{
	u64 pfn, n = 0;

	for (pfn = 0; pfn < rmp_nr_entries; pfn++) {
		if (pfn == PHYS_PFN(rmp_start))
			pfn = PHYS_PFN(rmp_end);
		n += rmp_is_assigned(pfn);
		if (!(pfn % SZ_1M))
			cond_resched();
	}

	*val = n;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(rmp_assigned_fops, rmp_assigned_get, NULL, "%llu\n");

static int __init rmp_late_init(void)
{
	struct dentry *dir;

	if (boot_cpu_has(X86_FEATURE_SEV_SNP) &&
	    !cc_platform_has(CC_ATTR_HOST_SEV_SNP))
		pr_notice("Not available, %s\n", rmp_table ?
			  "although the RMP is in force" :
			  "no IOMMU has enabled it");

	if (!rmp_table)
		return 0;

	dir = debugfs_create_dir("rmp", arch_debugfs_dir);
	debugfs_create_file_unsafe("leaked_pages", 0400, dir, NULL,
				   &rmp_leaked_fops);
	debugfs_create_file_unsafe("assigned_pages", 0400, dir, NULL,
				   &rmp_assigned_fops);
	return 0;
}
late_initcall(rmp_late_init);
