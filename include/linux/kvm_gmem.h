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

/* What the architecture has to do for a page; see the implementations. */
int kvm_arch_gmem_prepare(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn, int order);
void kvm_arch_gmem_invalidate(kvm_pfn_t start, kvm_pfn_t end);

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
