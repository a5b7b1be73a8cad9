/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory attributes: what userspace wants each gfn of a guest to be.
 */
#ifndef __LINUX_KVM_MEM_ATTR_H
#define __LINUX_KVM_MEM_ATTR_H

#include <linux/rbtree.h>
#include <linux/seqlock.h>
#include <linux/spinlock.h>
#include <linux/kvm_types.h>

struct kvm_gfn_range;

#ifdef CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES

/**
 * struct kvm_mem_attr_run - neighbouring blocks, see virt/kvm/mem_attr_store.c
 * @node: in the store's tree, by block number
 * @first: the first block
 * @last: the last block; the same as @first if the block is mixed
 * @rcu: to free it when nobody reads it any more
 * @attrs: of all pages, unless the block is mixed; not zero
 * @mixed: a block with pages of different attributes
 * @pages: the attributes of each page, if the block is mixed
 */
struct kvm_mem_attr_run {
	struct rb_node node;
	unsigned long first;
	unsigned long last;
	struct rcu_head rcu;
	u8 attrs;
	bool mixed;
	u8 pages[];
};

/**
 * struct kvm_mem_attr_store - the attributes of every gfn of a VM
 * @runs: what has attributes other than zero (struct kvm_mem_attr_run)
 * @seq: to read @runs without a lock
 * @step_lock: held, with interrupts off, for one step of a change
 * @recent: the mixed block that was changed last, or NULL: the next change is
 *	often nearby.  For those who change the store only
 */
struct kvm_mem_attr_store {
	struct rb_root runs;
	seqcount_raw_spinlock_t seq;
	raw_spinlock_t step_lock;
	struct kvm_mem_attr_run *recent;
};

/**
 * struct kvm_mem_attr_change - a change that is prepared but not made
 * @store: the store to change
 * @start: first gfn
 * @end: gfn past the last one
 * @run: memory for the run of the whole blocks
 * @rest: memory for the rest of a run that is cut in two
 * @mixed: the mixed blocks among those that the range covers in part
 * @attrs: the new attributes
 *
 * Lives on the stack of whoever changes the attributes, opaque to it.
 */
struct kvm_mem_attr_change {
	struct kvm_mem_attr_store *store;
	gfn_t start;
	gfn_t end;
	struct kvm_mem_attr_run *run;
	struct kvm_mem_attr_run *rest;
	struct kvm_mem_attr_run *mixed[2];
	u8 attrs;
};

void kvm_mem_attr_store_init(struct kvm_mem_attr_store *store);
void kvm_mem_attr_store_destroy(struct kvm_mem_attr_store *store);

u8 kvm_mem_attr_store_get(struct kvm_mem_attr_store *store, gfn_t gfn);
bool kvm_mem_attr_store_uniform(struct kvm_mem_attr_store *store,
				gfn_t start, gfn_t end, u8 attrs);

int kvm_mem_attr_store_prepare(struct kvm_mem_attr_change *change,
			       struct kvm_mem_attr_store *store,
			       gfn_t start, gfn_t end, u8 attrs);
void kvm_mem_attr_store_commit(struct kvm_mem_attr_change *change);
void kvm_mem_attr_store_finish(struct kvm_mem_attr_change *change);

/* What the architecture has to do; see the implementation. */
void kvm_arch_split_mappings(struct kvm *kvm, struct kvm_gfn_range *range);

void kvm_mem_attr_init_vm(struct kvm *kvm);
void kvm_mem_attr_destroy_vm(struct kvm *kvm);
u64 kvm_mem_attr_supported(struct kvm *kvm);
int kvm_vm_ioctl_set_mem_attributes(struct kvm *kvm, void __user *argp);
bool kvm_mem_is_private(struct kvm *kvm, gfn_t gfn);
bool kvm_mem_range_is_private(struct kvm *kvm, gfn_t start, gfn_t end,
			      bool private);

#else

static inline void kvm_mem_attr_init_vm(struct kvm *kvm) { }
static inline void kvm_mem_attr_destroy_vm(struct kvm *kvm) { }

static inline bool kvm_mem_is_private(struct kvm *kvm, gfn_t gfn)
{
	return false;
}

static inline bool kvm_mem_range_is_private(struct kvm *kvm, gfn_t start,
					    gfn_t end, bool private)
{
	return !private;
}

#endif /* CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES */
#endif /* __LINUX_KVM_MEM_ATTR_H */
