// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_PRE_FAULT_MEMORY on x86: a page fault that the guest has not taken.
 */
#include <linux/kvm_host.h>

#include "mmu.h"
#include "mmu_internal.h"

/* Return: 0 with the level of the mapping, or a negative error code. */
static int kvm_mmu_pre_fault_page(struct kvm_vcpu *vcpu, gpa_t gpa, u8 *level)
{
	struct kvm_memory_slot *slot;
	u64 error_code;
	int r;

	for (;;) {
		if (signal_pending(current))
			return -EINTR;
		if (kvm_test_request(KVM_REQ_VM_DEAD, vcpu))
			return -EIO;
		/* Each writable mapping takes an entry; userspace empties it. */
		if (vcpu->kvm->dirty_ring_size &&
		    kvm_dirty_ring_soft_full(&vcpu->dirty_ring))
			return -EAGAIN;

		/*
		 * Whoever deletes a memslot waits for the end of this SRCU
		 * section, in which the fault would be retried for ever.
		 */
		slot = kvm_vcpu_gfn_to_memslot(vcpu, gpa_to_gfn(gpa));
		if (!slot)
			return -ENOENT;
		if (slot->flags & KVM_MEMSLOT_INVALID)
			return -EAGAIN;

		/* As before entering the guest: a fault needs a valid root. */
		if (kvm_check_request(KVM_REQ_MMU_FREE_OBSOLETE_ROOTS, vcpu))
			kvm_mmu_free_obsolete_roots(vcpu);
		r = kvm_mmu_reload(vcpu);
		if (r)
			return r;

		/* The attributes may have changed since the last try. */
		error_code = PFERR_USER_MASK;
		if (kvm_mem_is_private(vcpu->kvm, gpa_to_gfn(gpa)))
			error_code |= PFERR_PRIVATE_ACCESS;

		r = kvm_mmu_do_page_fault(vcpu, gpa, error_code, true, NULL, level);
		switch (r) {
		case RET_PF_RETRY:
			cond_resched();
			continue;
		case RET_PF_FIXED:
		case RET_PF_SPURIOUS:
			return 0;
		case RET_PF_EMULATE:
			return -ENOENT;
		default:
			WARN_ON_ONCE(r >= 0);
			return r < 0 ? r : -EIO;
		}
	}
}

/**
 * kvm_arch_vcpu_pre_fault_memory() - map the first pages of a range
 * @vcpu: the vCPU
 * @gpa: start of the range, page aligned
 * @size: its size in bytes, a number of pages greater than zero
 *
 * Makes one mapping, of whatever size, as a read of the guest would, or finds
 * that there is one.
 *
 * Context: kvm->srcu held, the vCPU is loaded.  May sleep.
 *
 * Return: how many bytes of the range were mapped; -EOPNOTSUPP with shadow
 * paging or if the vCPU is in a nested guest; -ENOENT if there is no memslot;
 * -EAGAIN if it is being deleted, or the dirty ring is full; -EINTR; -EFAULT or
 * -EHWPOISON if there is no page to map; -ENOMEM.
 */
long kvm_arch_vcpu_pre_fault_memory(struct kvm_vcpu *vcpu, gpa_t gpa, u64 size)
{
	u8 level = PG_LEVEL_4K;
	u64 next;
	int r;

	if (!tdp_enabled || is_guest_mode(vcpu) ||
	    !vcpu->kvm->arch.pre_fault_allowed)
		return -EOPNOTSUPP;

	r = kvm_mmu_pre_fault_page(vcpu, gpa, &level);
	if (r)
		return r;

	next = (gpa & KVM_HPAGE_MASK(level)) + KVM_HPAGE_SIZE(level);
	return min(size, next - gpa);
}
