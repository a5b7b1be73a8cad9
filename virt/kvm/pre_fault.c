// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_PRE_FAULT_MEMORY: populate and map guest memory before the guest touches
 * it.
 */
#include <linux/kvm_host.h>
#include <linux/uaccess.h>

static int kvm_vcpu_pre_fault_memory(struct kvm_vcpu *vcpu,
				     struct kvm_pre_fault_memory *range)
{
	u64 size = range->size;
	long done = 0;
	int idx;

	if (range->flags)
		return -EINVAL;
	if (!PAGE_ALIGNED(range->gpa) || !PAGE_ALIGNED(range->size) ||
	    range->gpa + range->size <= range->gpa)
		return -EINVAL;

	vcpu_load(vcpu);

	while (range->size) {
		if (signal_pending(current)) {
			done = -EINTR;
			break;
		}

		/* Not for long: whoever changes a memslot waits. */
		idx = srcu_read_lock(&vcpu->kvm->srcu);
		done = kvm_arch_vcpu_pre_fault_memory(vcpu, range->gpa,
						      range->size);
		srcu_read_unlock(&vcpu->kvm->srcu, idx);
		if (done < 0)
			break;

		range->gpa += done;
		range->size -= done;
		cond_resched();
	}

	vcpu_put(vcpu);

	/* What has been done is a success; the caller looks at the rest. */
	return range->size == size ? done : 0;
}

/**
 * kvm_vcpu_ioctl_pre_fault_memory() - KVM_PRE_FAULT_MEMORY
 * @vcpu: the vCPU
 * @argp: the user's struct kvm_pre_fault_memory, advanced past what was done
 *
 * Context: vcpu->mutex held.
 *
 * Return: 0 if a page at least was processed.  Else: -EFAULT for a bad pointer;
 * -EINVAL for flags, a range that is empty, not page aligned or wraps; -EINTR;
 * or what the architecture says.
 */
int kvm_vcpu_ioctl_pre_fault_memory(struct kvm_vcpu *vcpu, void __user *argp)
{
	struct kvm_pre_fault_memory range;
	int r;

	if (copy_from_user(&range, argp, sizeof(range)))
		return -EFAULT;

	r = kvm_vcpu_pre_fault_memory(vcpu, &range);

	if (copy_to_user(argp, &range, sizeof(range)))
		return -EFAULT;
	return r;
}
