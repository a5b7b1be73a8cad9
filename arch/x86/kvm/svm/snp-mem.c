// SPDX-License-Identifier: GPL-2.0-only
/*
 * SEV-SNP guests: private memory
 *
 * Such a guest's private memory is in a guest_memfd, and the reverse map table
 * (RMP) says of each page that it is the guest's, and where the guest has it.
 *
 * Who changes the RMP
 *
 * - Launch: KVM gives pages with their first content to the firmware, which
 *   encrypts and measures them.
 * - The file hands out a page: snp_gmem_prepare() makes it the guest's, with one
 *   entry for a huge folio if nothing speaks against it.  The guest still has to
 *   accept it (PVALIDATE).
 * - The page leaves the file: snp_gmem_invalidate() makes it the hypervisor's.
 * - The guest looks at part of a huge page: snp_handle_rmp_fault() splits its
 *   entry.  Entries are never merged; a range that has left the file as a whole
 *   comes back as a huge one.
 *
 * A change of memory attributes changes no entry.  The sizes of the guest's
 * mapping and of the RMP entry have to be the same for each access.  Mappings
 * follow the RMP, see snp_gmem_max_level(), and what is out of step faults.
 *
 * A page that cannot be taken back is leaked: whoever got it next would die
 * from writing to it.
 *
 * Source: AMD64 APM volume 2 (24593), 15.36.
 */
#include <linux/cacheflush.h>
#include <linux/kvm_gmem.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>

#include <asm/rmp.h>

#include "snp.h"
#include "x86.h"

/*
 * How many RMP faults at one address, within ten seconds, with nothing to split,
 * are taken for a race with others: the rest is a matter for userspace.
 */
#define SNP_RMP_FAULT_TRIES	256

/* Nothing has changed: does the guest run into it again and again? */
static bool snp_rmp_fault_repeats(struct vcpu_sev_es_state *es, gpa_t gpa)
{
	if (es->rmp_fault_gpa != gpa ||
	    time_after(jiffies, es->rmp_faults_since + 10 * HZ)) {
		es->rmp_fault_gpa = gpa;
		es->rmp_faults_since = jiffies;
		es->rmp_faults = 0;
	}
	if (es->rmp_faults++ < SNP_RMP_FAULT_TRIES)
		return false;

	es->rmp_faults = 0;
	return true;
}

/* Return: true if an entry or a mapping has been split. */
static bool snp_split_rmp_entry(struct kvm_vcpu *vcpu, gpa_t gpa, u64 error_code)
{
	struct kvm *kvm = vcpu->kvm;
	gfn_t gfn = gpa_to_gfn(gpa);
	struct kvm_memory_slot *slot;
	bool assigned, split = false;
	enum pg_level level;
	kvm_pfn_t pfn;
	int order, r;

	slot = gfn_to_memslot(kvm, gfn);
	if (!slot || !kvm_slot_has_gmem(slot) || !kvm_mem_is_private(kvm, gfn)) {
		pr_warn_ratelimited("SEV-SNP: RMP fault, not on private memory: GPA %#llx error %#llx\n",
				    gpa, error_code);
		return false;
	}

	if (kvm_gmem_get_pfn(kvm, slot, gfn, &pfn, &order))
		return false;

	r = rmp_lookup(pfn, &assigned, &level);
	if (r || !assigned) {
		pr_warn_ratelimited("SEV-SNP: RMP fault on GPA %#llx error %#llx: no entry for pfn %#llx, %d\n",
				    gpa, error_code, pfn, r);
		goto out;
	}

	if (level > PG_LEVEL_4K) {
		r = rmp_split(pfn & ~(SNP_HUGE_PAGES - 1));
		/* Somebody else may have been faster. */
		if (r && r != -ENOENT) {
			pr_warn_ratelimited("SEV-SNP: cannot split the RMP entry of pfn %#llx, %d\n",
					    pfn, r);
			goto out;
		}
		split = true;
	}
	split |= kvm_mmu_split_private(vcpu, gfn);
out:
	kvm_release_pfn_clean(pfn);
	return split;
}

/**
 * snp_handle_rmp_fault() - a mapping and its RMP entry are of different sizes
 * @vcpu: the vCPU
 * @gpa: where the guest stumbled over it
 * @error_code: of the nested page fault
 *
 * Happens when the guest accepts part of what is huge (it uses PVALIDATE or
 * RMPADJUST on 4K), and when a mapping is smaller than the entry.  Entries can
 * only be split; so that, and the mapping if it is the one that is too large.
 * Whatever has changed in between, the guest tries again.
 *
 * If nothing ever changes, the entry does not allow the access: the page of the
 * file was bound to another address of the guest before, or the guest has taken
 * the permission away from itself.
 *
 * Return: 1 to go on; -EFAULT, with the exit described, if that is no use.
 */
int snp_handle_rmp_fault(struct kvm_vcpu *vcpu, gpa_t gpa, u64 error_code)
{
	if (snp_split_rmp_entry(vcpu, gpa, error_code))
		return 1;

	gpa &= PAGE_MASK;
	if (!snp_rmp_fault_repeats(&to_svm(vcpu)->sev_es, gpa))
		return 1;

	kvm_prepare_memory_fault_exit(vcpu, gpa, PAGE_SIZE,
				      error_code & PFERR_GUEST_ENC_MASK);
	return -EFAULT;
}

/* Can the 2M around be one entry: nothing there yet, and all of it wanted? */
static bool snp_can_be_huge(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn, int order)
{
	gfn_t first = gfn & ~(SNP_HUGE_PAGES - 1);

	if (order < KVM_HPAGE_GFN_SHIFT(PG_LEVEL_2M) ||
	    (gfn ^ pfn) & (SNP_HUGE_PAGES - 1) ||
	    !kvm_mem_range_is_private(kvm, first, first + SNP_HUGE_PAGES, true))
		return false;

	return rmp_2m_is_shared(pfn & ~(SNP_HUGE_PAGES - 1));
}

/**
 * snp_gmem_prepare() - make pages the guest's; see kvm_arch_gmem_prepare()
 * @kvm: the VM
 * @gfn: a page of the guest
 * @pfn: its page of the host
 * @order: of the range around both that may be prepared
 *
 * Return: 0, also if it has been done before; or what rmp_lookup() or
 * rmp_make_private() says.
 */
int snp_gmem_prepare(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn, int order)
{
	struct kvm_sev_info *sev = to_kvm_sev_info(kvm);
	u64 mask = SNP_HUGE_PAGES - 1;
	enum pg_level level;
	bool assigned;
	int r;

	if (!sev_snp_guest(kvm))
		return 0;

	r = rmp_lookup(pfn, &assigned, &level);
	if (r || assigned)
		return r;

	if (snp_can_be_huge(kvm, gfn, pfn, order) &&
	    !rmp_make_private(pfn & ~mask, gfn_to_gpa(gfn & ~mask), PG_LEVEL_2M,
			      sev->asid, false))
		return 0;

	return rmp_make_private(pfn, gfn_to_gpa(gfn), PG_LEVEL_4K, sev->asid,
				false);
}

/*
 * Lines with the guest's key; nothing else flushes them.  A page that is poisoned
 * is out of use for ever, and may be in no mapping of the kernel any more.
 */
static void snp_flush_pages(kvm_pfn_t pfn, u64 nr)
{
	for (; nr; nr--, pfn++) {
		if (!PageHWPoison(pfn_to_page(pfn)))
			clflush_cache_range(pfn_to_kaddr(pfn), PAGE_SIZE);
	}
}

/*
 * Make a page the host's, or all of the huge one that begins here.  A vCPU that
 * has found it before it left may still split its entry, once.
 *
 * Return: how many pages are done with.
 */
static u64 snp_gmem_take_back(kvm_pfn_t pfn, kvm_pfn_t end)
{
	enum pg_level level;
	bool assigned;
	u64 nr = 1;
	int r;

	r = rmp_lookup(pfn, &assigned, &level);
	/* Beyond the RMP everything is the host's. */
	if (r || !assigned)
		return 1;

	if (level > PG_LEVEL_4K && IS_ALIGNED(pfn, SNP_HUGE_PAGES) &&
	    end - pfn >= SNP_HUGE_PAGES) {
		nr = SNP_HUGE_PAGES;
		r = rmp_make_shared(pfn, PG_LEVEL_2M);
		if (!r || rmp_lookup(pfn, &assigned, &level) ||
		    level > PG_LEVEL_4K)
			goto out;
		nr = 1;
	} else if (level > PG_LEVEL_4K) {
		r = rmp_split(pfn & ~(SNP_HUGE_PAGES - 1));
		if (r && r != -ENOENT)
			goto out;
	}
	r = rmp_make_shared(pfn, PG_LEVEL_4K);
out:
	if (r)
		rmp_leak_pages(pfn, nr);
	else
		snp_flush_pages(pfn, nr);
	return nr;
}

/**
 * snp_gmem_invalidate() - make pages the host's; see kvm_arch_gmem_invalidate()
 * @start: first pfn
 * @end: pfn past the last one
 */
void snp_gmem_invalidate(kvm_pfn_t start, kvm_pfn_t end)
{
	kvm_pfn_t pfn;

	if (!cc_platform_has(CC_ATTR_HOST_SEV_SNP))
		return;

	for (pfn = start; pfn < end; pfn += snp_gmem_take_back(pfn, end))
		cond_resched();
}

/**
 * snp_gmem_max_level() - the largest mapping that the RMP allows
 * @kvm: the VM
 * @pfn: a page that has been prepared
 *
 * Return: a level; 0 for any.
 */
int snp_gmem_max_level(struct kvm *kvm, kvm_pfn_t pfn)
{
	enum pg_level level;
	bool assigned;

	if (!sev_snp_guest(kvm))
		return 0;

	if (rmp_lookup(pfn, &assigned, &level) || !assigned)
		return PG_LEVEL_4K;

	return level;
}
