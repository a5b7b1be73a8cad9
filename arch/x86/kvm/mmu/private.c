// SPDX-License-Identifier: GPL-2.0-only
/*
 * Private memory in the x86 MMU: which of its two pages a gfn is mapped to, and
 * how large the mapping may be.
 *
 * Whether an access is private comes from the access: hardware that encrypts
 * says so in the error code, and the MMU takes its word.  A software-protected
 * VM has no such hardware; there the access is what the attributes say.  The
 * attributes then decide whether the access is legitimate: if they disagree,
 * userspace is told, and decides whether to convert the page.
 *
 * All mappings are made under mmu_lock after a look at the invalidation
 * sequence, of which kvm_faultin_pfn() takes a snapshot before the attributes
 * are read here.  Every change of attributes and everything that takes a page
 * out of a file bumps the sequence.
 */
#include <linux/kvm_host.h>

#include "mmu.h"
#include "mmu_internal.h"
#include "spte.h"
#include "tdp_mmu.h"

/*
 * All hooks of the architecture are optional; a software-protected VM has
 * nothing to do in them.
 */

/**
 * kvm_arch_gmem_prepare() - make pages fit for the guest
 * @kvm: the VM
 * @gfn: a page of the guest
 * @pfn: its page of the host
 * @order: the naturally aligned range around both that is to be prepared
 *
 * Called each time that the file hands out a page, so preparing what is
 * prepared already must be harmless.
 *
 * Context: the folio is locked.  May sleep.
 *
 * Return: 0 or a negative error code.
 */
int kvm_arch_gmem_prepare(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn, int order)
{
	return static_call(kvm_x86_gmem_prepare)(kvm, gfn, pfn, order);
}

/**
 * kvm_arch_gmem_invalidate() - make pages the host's again
 * @start: first pfn
 * @end: pfn past the last one
 *
 * The pages have left the file and are mapped nowhere; the allocator gets them
 * afterwards.  There is no error to return: a page that cannot be made the
 * host's must be leaked, by taking a reference.
 *
 * Context: may sleep.
 */
void kvm_arch_gmem_invalidate(kvm_pfn_t start, kvm_pfn_t end)
{
	static_call_cond(kvm_x86_gmem_invalidate)(start, end);
}

/**
 * kvm_arch_gmem_drop_pfns() - private pages may leave, or change their gfns
 * @kvm: the VM
 * @start: first gfn
 * @end: gfn past the last one
 *
 * For what the guest uses without a mapping, by a pfn that has been looked up
 * before: on return it is not in use, and will be looked up again.  As with
 * faults, the invalidation sequence tells if that has to wait.
 *
 * Context: mmu_lock held for write.
 */
void kvm_arch_gmem_drop_pfns(struct kvm *kvm, gfn_t start, gfn_t end)
{
	static_call_cond(kvm_x86_gmem_drop_pfns)(kvm, start, end);
}

static u8 kvm_mmu_order_to_level(int order)
{
	int level;

	for (level = KVM_MAX_HUGEPAGE_LEVEL; level > PG_LEVEL_4K; level--) {
		if (order >= KVM_HPAGE_GFN_SHIFT(level))
			break;
	}
	return level;
}

static int kvm_mmu_memory_fault(struct kvm_vcpu *vcpu,
				struct kvm_page_fault *fault, int err)
{
	kvm_mmu_prepare_memory_fault_exit(vcpu, fault);
	return err;
}

/* The gfn is, and should be, private: get the page from the slot's file. */
static int kvm_mmu_faultin_gmem(struct kvm_vcpu *vcpu,
				struct kvm_page_fault *fault)
{
	struct kvm *kvm = vcpu->kvm;
	int max_order, r;
	u8 level;

	if (!kvm_slot_has_gmem(fault->slot))
		return kvm_mmu_memory_fault(vcpu, fault, -EFAULT);

	/* Do not fill the hole that somebody is about to punch. */
	if (mmu_invalidate_retry_gfn_unlocked(kvm, fault->mmu_seq, fault->gfn))
		return RET_PF_RETRY;

	r = kvm_gmem_get_pfn(kvm, fault->slot, fault->gfn, &fault->pfn,
			     &max_order);
	if (r == -EFAULT || r == -EHWPOISON)
		return kvm_mmu_memory_fault(vcpu, fault, r);
	/* Anything else, e.g. ENOMEM, is no matter of private or shared. */
	if (r)
		return r;

	fault->max_level = min(fault->max_level,
			       kvm_mmu_order_to_level(max_order));
	level = static_call(kvm_x86_gmem_max_level)(kvm, fault->pfn);
	if (level)
		fault->max_level = min(fault->max_level, level);

	fault->map_writable = true;
	return RET_PF_CONTINUE;
}

/**
 * kvm_mmu_faultin_private() - is a fault private, and if so, get its page
 * @vcpu: the vCPU
 * @fault: the fault; gfn, slot and mmu_seq are known
 *
 * Context: kvm->srcu held.  May sleep.
 *
 * Return: RET_PF_CONTINUE with @fault->is_private saying whether the page has
 * been found or the shared one is to be used; RET_PF_RETRY; or a negative error
 * code, with the exit described if it is -EFAULT or -EHWPOISON.
 */
int kvm_mmu_faultin_private(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	struct kvm *kvm = vcpu->kvm;
	bool private = kvm_mem_is_private(kvm, fault->gfn);

	if (!fault->is_tdp) {
		/*
		 * The gfn comes from a walk of the guest's page tables.  The
		 * access itself has no kind.
		 */
		fault->is_private = private;
	} else if (fault->is_private != private) {
		/*
		 * Without hardware that tells, the access was classified by
		 * these very attributes, which have changed since.  An async
		 * page fault has nobody waiting for an exit.
		 */
		if (kvm->arch.vm_type == KVM_X86_SW_PROTECTED_VM ||
		    fault->prefetch)
			return RET_PF_RETRY;

		return kvm_mmu_memory_fault(vcpu, fault, -EFAULT);
	}

	if (!private)
		return RET_PF_CONTINUE;

	return kvm_mmu_faultin_gmem(vcpu, fault);
}

/*
 * A huge page of which part is converted is mapped by small ones, and could be
 * mapped as one again when the part is converted back.  A guest that does this
 * all the time would pay for splitting and joining each time.  So look at how
 * often it did lately: more than so many times, with no second of rest.
 */
#define KVM_MMU_MANY_SPLITS	1

/* A conversion of more huge pages than this leaves it to time to forget. */
#define KVM_MMU_MAX_FORGET	64

static struct kvm_lpage_info *
kvm_mmu_lpage_info(const struct kvm_memory_slot *slot, gfn_t gfn)
{
	return &slot->arch.lpage_info[PG_LEVEL_2M - 2]
				     [gfn_to_index(gfn, slot->base_gfn, PG_LEVEL_2M)];
}

static bool kvm_mmu_rested(struct kvm_lpage_info *info, u16 now)
{
	return (u16)(now - READ_ONCE(info->last_split)) > 1;
}

static bool kvm_mmu_splits_often(const struct kvm_memory_slot *slot, gfn_t gfn)
{
	struct kvm_lpage_info *info = kvm_mmu_lpage_info(slot, gfn);

	return READ_ONCE(info->nr_splits) > KVM_MMU_MANY_SPLITS &&
	       !kvm_mmu_rested(info, ktime_get_seconds());
}

static void kvm_mmu_count_split(struct kvm_memory_slot *slot, gfn_t gfn)
{
	struct kvm_lpage_info *info = kvm_mmu_lpage_info(slot, gfn);
	u16 now = ktime_get_seconds();

	if (kvm_mmu_rested(info, now))
		WRITE_ONCE(info->nr_splits, 0);
	if (info->nr_splits <= KVM_MMU_MANY_SPLITS)
		WRITE_ONCE(info->nr_splits, info->nr_splits + 1);
	WRITE_ONCE(info->last_split, now);
}

/* The huge page around @gfn, part of which is to be unmapped. */
static void kvm_mmu_split_mapping(struct kvm *kvm, struct kvm_memory_slot *slot,
				  gfn_t gfn)
{
	s64 before = atomic64_read(&kvm->stat.pages_2m);

	kvm_tdp_mmu_try_split_huge_pages(kvm, slot, gfn, gfn + 1, PG_LEVEL_4K,
					 false);
	if (atomic64_read(&kvm->stat.pages_2m) < before)
		kvm_mmu_count_split(slot, gfn);
}

/**
 * kvm_arch_split_mappings() - keep what is mapped around a range
 * @kvm: a VM with private memory
 * @range: the range that is about to be unmapped, and its memslot
 *
 * Splits the huge mappings that reach over the ends of the range, so that what
 * lies outside need not fault again.  If a split fails, the mapping goes as a
 * whole, and it has to.
 *
 * Context: mmu_lock held for write; may be dropped and taken again.
 */
void kvm_arch_split_mappings(struct kvm *kvm, struct kvm_gfn_range *range)
{
	gfn_t mask = KVM_PAGES_PER_HPAGE(PG_LEVEL_2M) - 1;
	gfn_t first = range->start & ~mask, last = (range->end - 1) & ~mask;
	gfn_t gfn;

	/* All of a huge page: a new start. */
	if (range->end - range->start <= KVM_MMU_MAX_FORGET * (mask + 1)) {
		for (gfn = first; gfn <= last; gfn += mask + 1) {
			if (gfn >= range->start && gfn + mask < range->end)
				WRITE_ONCE(kvm_mmu_lpage_info(range->slot, gfn)->nr_splits, 0);
		}
	}

	if (range->start & mask)
		kvm_mmu_split_mapping(kvm, range->slot, range->start);
	if (range->end & mask && (last != first || !(range->start & mask)))
		kvm_mmu_split_mapping(kvm, range->slot, range->end - 1);
}

static bool kvm_mmu_maps_huge(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	u64 sptes[PT64_ROOT_MAX_LEVEL + 1];
	int leaf, root;

	kvm_tdp_mmu_walk_lockless_begin();
	leaf = kvm_tdp_mmu_get_walk(vcpu, gfn_to_gpa(gfn), sptes, &root);
	kvm_tdp_mmu_walk_lockless_end();

	return leaf > PG_LEVEL_4K && is_shadow_present_pte(sptes[leaf]);
}

/**
 * kvm_mmu_split_private() - map a private page by a small entry
 * @vcpu: the vCPU that found it mapped by a huge one, maybe
 * @gfn: the page of the guest
 *
 * If the split fails nothing of the huge page is mapped any more.
 *
 * Context: kvm->srcu held, no spinning lock; the TDP MMU is in use.
 *
 * Return: true if there was a huge mapping, which is gone now.
 */
bool kvm_mmu_split_private(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	gfn_t pages = KVM_PAGES_PER_HPAGE(PG_LEVEL_2M);
	struct kvm_gfn_range range = { .may_block = true };
	struct kvm *kvm = vcpu->kvm;
	bool huge = false;

	/* vCPUs that fault on the same huge page come here one after another. */
	if (!kvm_mmu_maps_huge(vcpu, gfn))
		return false;

	write_lock(&kvm->mmu_lock);
	range.slot = gfn_to_memslot(kvm, gfn);
	if (!range.slot || !kvm_mmu_maps_huge(vcpu, gfn))
		goto out;

	huge = true;
	if (kvm_tdp_mmu_try_split_huge_pages(kvm, range.slot, gfn, gfn + 1,
					     PG_LEVEL_4K, false)) {
		range.start = max(gfn & ~(pages - 1), range.slot->base_gfn);
		range.end = min((gfn & ~(pages - 1)) + pages,
				range.slot->base_gfn + range.slot->npages);
		kvm_unmap_gfn_range(kvm, &range);
	}
	kvm_flush_remote_tlbs(kvm);
out:
	write_unlock(&kvm->mmu_lock);
	return huge;
}
EXPORT_SYMBOL_GPL(kvm_mmu_split_private);

/**
 * kvm_mmu_private_max_level() - limit the size of a mapping by the attributes
 * @kvm: a VM with private memory
 * @slot: the memslot of @gfn
 * @gfn: the page to be mapped
 * @max_level: the largest level that is possible otherwise
 *
 * Of a memslot that has private memory, lpage_info does not say how its HVA is
 * aligned, which is of no concern to private memory.
 *
 * Context: mmu_lock held, or the result is only a hint.  Does not sleep.
 */
int kvm_mmu_private_max_level(struct kvm *kvm, const struct kvm_memory_slot *slot,
			      gfn_t gfn, int max_level)
{
	gfn_t misaligned = slot->base_gfn ^ (slot->userspace_addr >> PAGE_SHIFT);
	bool private = kvm_mem_is_private(kvm, gfn);

	for (; max_level > PG_LEVEL_4K; max_level--) {
		gfn_t pages = KVM_PAGES_PER_HPAGE(max_level);
		gfn_t start = gfn & ~(pages - 1);

		if (!private && misaligned & (pages - 1))
			continue;
		if (max_level == PG_LEVEL_2M && kvm_mmu_splits_often(slot, gfn))
			continue;
		if (kvm_mem_range_is_private(kvm, start, start + pages, private))
			break;
	}
	return max_level;
}
