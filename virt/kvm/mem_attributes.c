// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_MEMORY_ATTRIBUTES: userspace says what each gfn is to be.
 *
 * Model
 *
 * Attributes belong to the VM's gfns, whether or not a memslot covers them, now
 * or ever; a memslot that is created later has to honour them.  They say what
 * is wanted, and own nothing: changing them unmaps, so that the next access
 * faults and finds the memory that the new attributes ask for.  It never maps,
 * and never touches a host page.
 *
 * slots_lock serialises changes.  A fault reads the attributes without any
 * lock, and relies on the invalidation protocol: it takes its snapshot of the
 * invalidation sequence before it reads them, and looks again under mmu_lock.
 * A change is wrapped in begin and end: between the two, first the store
 * changes and then the old mappings go.  So a fault that read the old
 * attributes maps nothing, and a huge mapping whose level is looked up under
 * mmu_lock after the store has changed is no larger than the new attributes
 * allow: a huge page that is only partly in the range needs no more care than
 * one that is wholly inside.
 */
#include <linux/kvm_host.h>
#include <linux/uaccess.h>

#include <trace/events/kvm.h>

#include "kvm_mm.h"

/* The store has a byte for each page. */
static_assert(KVM_MEMORY_ATTRIBUTE_PRIVATE <= U8_MAX);

/**
 * kvm_mem_attr_init_vm() - all gfns of a new VM have no attributes
 * @kvm: the VM
 */
void kvm_mem_attr_init_vm(struct kvm *kvm)
{
	kvm_mem_attr_store_init(&kvm->mem_attrs);
}

/**
 * kvm_mem_attr_destroy_vm() - free what the attributes of a VM take
 * @kvm: the VM, which has no users any more
 */
void kvm_mem_attr_destroy_vm(struct kvm *kvm)
{
	mutex_lock(&kvm->slots_lock);
	kvm_mem_attr_store_destroy(&kvm->mem_attrs);
	mutex_unlock(&kvm->slots_lock);
}

/**
 * kvm_mem_attr_supported() - which attributes can be set
 * @kvm: the VM, or NULL for what any VM supports
 */
u64 kvm_mem_attr_supported(struct kvm *kvm)
{
	if (!kvm || kvm_arch_has_private_mem(kvm))
		return KVM_MEMORY_ATTRIBUTE_PRIVATE;

	return 0;
}

/**
 * kvm_mem_is_private() - does userspace want this page to be private?
 * @kvm: the VM
 * @gfn: the page
 *
 * Context: any.  The answer is stale at once, unless slots_lock is held or an
 * invalidation sequence guards it.
 */
bool kvm_mem_is_private(struct kvm *kvm, gfn_t gfn)
{
	return kvm_arch_has_private_mem(kvm) &&
	       kvm_mem_attr_store_get(&kvm->mem_attrs, gfn) &
		KVM_MEMORY_ATTRIBUTE_PRIVATE;
}
EXPORT_SYMBOL_GPL(kvm_mem_is_private);

/**
 * kvm_mem_range_is_private() - are all pages of a range private, or all shared?
 * @kvm: the VM
 * @start: first gfn
 * @end: gfn past the last one, greater than @start
 * @private: whether to ask for private or shared
 *
 * Context: as for kvm_mem_is_private().
 */
bool kvm_mem_range_is_private(struct kvm *kvm, gfn_t start, gfn_t end,
			      bool private)
{
	if (!kvm_arch_has_private_mem(kvm))
		return !private;

	return kvm_mem_attr_store_uniform(&kvm->mem_attrs, start, end, private ?
					  KVM_MEMORY_ATTRIBUTE_PRIVATE : 0);
}
EXPORT_SYMBOL_GPL(kvm_mem_range_is_private);

/* Is any of the range in a memslot? */
static bool kvm_mem_attr_has_slot(struct kvm *kvm, gfn_t start, gfn_t end)
{
	struct kvm_memslot_iter iter;
	int i;

	for (i = 0; i < kvm_nr_user_address_spaces(kvm); i++) {
		kvm_memslot_iter_start(&iter, __kvm_memslots(kvm, i), start);
		if (kvm_memslot_iter_is_valid(&iter, end))
			return true;
	}
	return false;
}

/*
 * Remove all mappings of a range of gfns.  Drops mmu_lock between memslots, of
 * which there may be thousands.
 */
static void kvm_mem_attr_unmap(struct kvm *kvm, gfn_t start, gfn_t end)
{
	struct kvm_memslot_iter iter;
	struct kvm_memslots *slots;
	int i;

	for (i = 0; i < kvm_nr_user_address_spaces(kvm); i++) {
		slots = __kvm_memslots(kvm, i);

		kvm_for_each_memslot_in_gfn_range(&iter, slots, start, end) {
			struct kvm_memory_slot *slot = iter.slot;
			struct kvm_gfn_range range = {
				.slot = slot,
				.start = max(start, slot->base_gfn),
				.end = min(end, slot->base_gfn + slot->npages),
				.may_block = true,
			};

			KVM_MMU_LOCK(kvm);
			kvm_arch_split_mappings(kvm, &range);
			if (kvm_unmap_gfn_range(kvm, &range))
				kvm_flush_remote_tlbs(kvm);
			KVM_MMU_UNLOCK(kvm);
			cond_resched();
		}
	}
}

static int kvm_mem_attr_set(struct kvm *kvm, gfn_t start, gfn_t end, u8 attrs)
{
	struct kvm_mem_attr_change change;
	bool has_slot;
	int r;

	lockdep_assert_held(&kvm->slots_lock);

	/* Nothing to change must cost nothing: no memory, no invalidation. */
	if (kvm_mem_attr_store_uniform(&kvm->mem_attrs, start, end, attrs))
		return 0;

	r = kvm_mem_attr_store_prepare(&change, &kvm->mem_attrs, start, end,
				       attrs);
	if (r)
		return r;

	/* Where there is no memslot, there is no mapping, nor one to be made. */
	has_slot = kvm_mem_attr_has_slot(kvm, start, end);
	if (has_slot) {
		KVM_MMU_LOCK(kvm);
		kvm_mmu_invalidate_begin(kvm);
		kvm_mmu_invalidate_range_add(kvm, start, end);
		KVM_MMU_UNLOCK(kvm);
	}

	kvm_mem_attr_store_commit(&change);

	if (has_slot) {
		kvm_mem_attr_unmap(kvm, start, end);

		KVM_MMU_LOCK(kvm);
		kvm_mmu_invalidate_end(kvm);
		KVM_MMU_UNLOCK(kvm);
	}

	kvm_mem_attr_store_finish(&change);
	trace_kvm_set_mem_attributes(start, end, attrs);
	return 0;
}

/**
 * kvm_vm_ioctl_set_mem_attributes() - KVM_SET_MEMORY_ATTRIBUTES
 * @kvm: the VM
 * @argp: the user's struct kvm_memory_attributes
 *
 * All or nothing: an error leaves every attribute as it was.
 *
 * Return: 0; -EFAULT for a bad pointer; -EINVAL for flags, attributes that the
 * VM does not support, a range that is empty, not page aligned, wraps or ends
 * beyond the guest's physical address space; -ENOMEM; -EINTR if the task was
 * killed.
 */
int kvm_vm_ioctl_set_mem_attributes(struct kvm *kvm, void __user *argp)
{
	struct kvm_memory_attributes attrs;
	u64 end;
	int r;

	if (copy_from_user(&attrs, argp, sizeof(attrs)))
		return -EFAULT;

	if (attrs.flags)
		return -EINVAL;
	if (attrs.attributes & ~kvm_mem_attr_supported(kvm))
		return -EINVAL;
	if (!PAGE_ALIGNED(attrs.address) || !PAGE_ALIGNED(attrs.size))
		return -EINVAL;
	if (!attrs.size || check_add_overflow(attrs.address, attrs.size, &end))
		return -EINVAL;
	if (end > BIT_ULL(KVM_MAX_GPA_BITS))
		return -EINVAL;

	if (mutex_lock_killable(&kvm->slots_lock))
		return -EINTR;
	r = kvm_mem_attr_set(kvm, attrs.address >> PAGE_SHIFT,
			     end >> PAGE_SHIFT, attrs.attributes);
	mutex_unlock(&kvm->slots_lock);

	return r;
}
