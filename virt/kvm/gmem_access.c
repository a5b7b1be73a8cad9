// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM's own access to private memory.
 *
 * To emulate an instruction, KVM has to read it, walk the guest's page tables
 * to find it, and read and write its operands.  A VM whose memory is encrypted
 * does not let KVM, and provides what is needed.  A software-protected VM's
 * memory is private from userspace only: let KVM read and write it, because the
 * memory that userspace has mapped for the same gfn is something else.
 */
#include <linux/highmem.h>
#include <linux/kvm_host.h>

/*
 * Get the private page of @gfn, with a reference, if KVM may look at it.  May
 * allocate it, as the guest's own access would.
 */
static struct page *kvm_gmem_get_page(struct kvm *kvm,
				      struct kvm_memory_slot *slot, gfn_t gfn)
{
	kvm_pfn_t pfn;
	int max_order;

	if (!kvm_arch_can_access_gmem(kvm) || !kvm_slot_has_gmem(slot) ||
	    slot->flags & KVM_MEMSLOT_INVALID)
		return NULL;

	if (kvm_gmem_get_pfn(kvm, slot, gfn, &pfn, &max_order))
		return NULL;

	return pfn_to_page(pfn);
}

/**
 * kvm_gmem_read() - read from a page of private memory
 * @kvm: the VM
 * @slot: the memslot of @gfn, or NULL
 * @gfn: the page, which the attributes say is private
 * @data: where to
 * @offset: where in the page, in bytes
 * @len: how many bytes; does not cross the page's end
 *
 * Context: kvm->srcu held.  May sleep.
 *
 * Return: 0 or -EFAULT.
 */
int kvm_gmem_read(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn,
		  void *data, int offset, int len)
{
	struct page *page = kvm_gmem_get_page(kvm, slot, gfn);

	if (!page)
		return -EFAULT;

	memcpy_from_page(data, page, offset, len);
	put_page(page);
	return 0;
}

/**
 * kvm_gmem_write() - write to a page of private memory
 * @kvm: the VM
 * @slot: the memslot of @gfn, or NULL
 * @gfn: the page, which the attributes say is private
 * @data: where from
 * @offset: where in the page, in bytes
 * @len: how many bytes; does not cross the page's end
 *
 * Context: kvm->srcu held.  May sleep.
 *
 * Return: 0 or -EFAULT.
 */
int kvm_gmem_write(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn,
		   const void *data, int offset, int len)
{
	struct page *page = kvm_gmem_get_page(kvm, slot, gfn);

	if (!page)
		return -EFAULT;

	memcpy_to_page(page, offset, data, len);
	put_page(page);
	return 0;
}
