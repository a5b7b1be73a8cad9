/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * guest_memfd: files that own the private memory of guests.
 */
#ifndef __LINUX_KVM_GMEM_H
#define __LINUX_KVM_GMEM_H

#include <linux/errno.h>
#include <linux/interval_tree.h>
#include <linux/rcupdate.h>
#include <linux/kvm_types.h>

struct file;
struct kvm_enable_cap;
struct module;
struct page;

#ifdef CONFIG_KVM_PRIVATE_MEM

/**
 * struct kvm_gmem_binding - which part of which file backs a memslot
 * @file: the file, NULL if there is none (any more).  A pointer, not a
 *	reference: written under slots_lock, read under RCU
 * @node: the page indices, first to last, in the file's tree of bindings
 */
struct kvm_gmem_binding {
	struct file __rcu *file;
	struct interval_tree_node node;
};

int kvm_gmem_init(struct module *owner);
void kvm_gmem_exit(void);

int kvm_gmem_order(struct kvm *kvm);
int kvm_gmem_set_order(struct kvm *kvm, struct kvm_enable_cap *cap);
int kvm_vm_ioctl_create_gmem(struct kvm *kvm, void __user *argp);
int kvm_gmem_bind(struct kvm *kvm, struct kvm_memory_slot *slot,
		  unsigned int fd, u64 offset);
void kvm_gmem_unbind(struct kvm *kvm, struct kvm_memory_slot *slot);

int kvm_gmem_get_pfn(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn,
		     kvm_pfn_t *pfn, int *max_order);

/**
 * typedef kvm_gmem_fill_fn - give a page its first content
 * @kvm: the VM
 * @gfn: the page of the guest
 * @pfn: its page of the host, which nobody else uses
 * @src: userspace's page with the content for it, pinned; NULL if there is none
 * @opaque: what the caller of kvm_gmem_populate() passed
 *
 * Context: the file's invalidate_lock and the folio are locked: no access to
 * userspace's memory but to @src.  May sleep.
 *
 * Return: 0; on error, the page is as if it had never been touched, or, if that
 * is impossible, marked as poisoned and up to date.
 */
typedef int (*kvm_gmem_fill_fn)(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn,
				struct page *src, void *opaque);

long kvm_gmem_populate(struct kvm *kvm, gfn_t gfn, void __user *src,
		       bool write_src, long npages, kvm_gmem_fill_fn fill,
		       void *opaque);

/* What the architecture has to do for a page; see the implementations. */
int kvm_arch_gmem_prepare(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn, int order);
void kvm_arch_gmem_invalidate(kvm_pfn_t start, kvm_pfn_t end);
void kvm_arch_gmem_drop_pfns(struct kvm *kvm, gfn_t start, gfn_t end);

#else

static inline int kvm_gmem_init(struct module *owner)
{
	return 0;
}

static inline void kvm_gmem_exit(void) { }

static inline int kvm_gmem_bind(struct kvm *kvm, struct kvm_memory_slot *slot,
				unsigned int fd, u64 offset)
{
	return -EINVAL;
}

static inline void kvm_gmem_unbind(struct kvm *kvm,
				   struct kvm_memory_slot *slot) { }

static inline int kvm_gmem_get_pfn(struct kvm *kvm,
				   struct kvm_memory_slot *slot, gfn_t gfn,
				   kvm_pfn_t *pfn, int *max_order)
{
	return -EFAULT;
}

#endif /* CONFIG_KVM_PRIVATE_MEM */
#endif /* __LINUX_KVM_GMEM_H */
