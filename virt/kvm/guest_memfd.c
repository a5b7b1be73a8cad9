// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd: a file that owns the private memory of a guest.
 *
 * Model
 *
 * A file belongs to one VM.  It owns pages that no process can map, read or
 * write; only the guest uses them, through memslots that are bound to ranges of
 * the file.  A page of the file is bound to at most one memslot, hence it is
 * one page of the guest.  The file says nothing of whether the guest should see
 * its page or the shared one: that is what the memory attributes are for.
 *
 * The page cache holds the pages.  A folio is up to date once it has been
 * initialised, i.e. zeroed, which happens when the guest gets it for the first
 * time.  Each time the guest gets it, the architecture prepares it; when it
 * leaves the file, the architecture makes it the host's again.  A folio is
 * dirty from the start: there is no other copy, nobody may drop it.
 *
 * A folio is small, one page, or huge, what one entry of a page table's second
 * level maps.  A huge one is allocated wherever all of it is wanted and nothing
 * of it is there yet; if that fails, a small one does.  Its size is the
 * largest that the guest's mapping can have.  It says nothing of the size that
 * the mapping does have, which follows the attributes too.  A huge folio of
 * which only part leaves the file is split first; the rest is small from then
 * on, until all of it has left.
 *
 * Lifetime
 *
 * A file pins its VM.  A memslot does not pin its file, else closing the file
 * could never free it.  kvm_gmem_release() makes the memslots forget the file,
 * and a memslot that is deleted first leaves the file's tree of bindings, both
 * under slots_lock: while slots_lock is held, the file that a memslot points to
 * cannot go, even if it has no users any more and waits to be released.
 * Everyone else gets a reference first, if there is one to get.
 *
 * All pages leave the file in kvm_gmem_release(), before the VM can go, and
 * with it the vendor module that knows how to take them back.  The inode, and
 * the mount, live on for a moment; the mount pins the module.
 *
 * Locking
 *
 *	kvm->slots_lock
 *	  inode->i_mapping->invalidate_lock
 *	    folio lock
 *	      kvm_gmem_inode.lock
 *	        kvm->mmu_lock
 *
 * invalidate_lock is held for write to remove pages and to bind or unbind, for
 * read to allocate.  A fault that finds its page does not take it: the
 * invalidation protocol tells it if the page goes.  A fault maps the whole of a
 * folio, so whatever happens to a page must hold off the faults on all pages of
 * a huge folio around it.  Bindings change under slots_lock, invalidate_lock and
 * the inode's lock; any of the three suffices to look at them.  Memory failure,
 * which comes with the folio locked, takes the last.
 */
#include <linux/fs.h>
#include <linux/anon_inodes.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/interval_tree.h>
#include <linux/kvm_host.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/uaccess.h>

#include "kvm_mm.h"

#define CREATE_TRACE_POINTS
#include <trace/events/kvm_gmem.h>

#define KVM_GMEM_NAME	"[kvm-gmem]"

#define KVM_GMEM_HUGE_ORDER	(PMD_SHIFT - PAGE_SHIFT)
#define KVM_GMEM_HUGE_PAGES	BIT(KVM_GMEM_HUGE_ORDER)

/* How often a folio that somebody holds a reference to is tried to be split. */
#define KVM_GMEM_SPLIT_TRIES	100

/* How many pages are zeroed at a time: some ten microseconds. */
#define KVM_GMEM_ZERO_BATCH	32

/* How many pages of userspace are pinned, and copied, at a time. */
#define KVM_GMEM_POPULATE_BATCH	32

static bool gmem_huge_folios = true;
module_param(gmem_huge_folios, bool, 0644);
MODULE_PARM_DESC(gmem_huge_folios,
		 "Let files with guests' private memory have huge folios");

/**
 * struct kvm_gmem_inode - a guest_memfd
 * @vfs_inode: the inode; there is one file for it, ever
 * @kvm: the VM, pinned until the file is released and not used afterwards
 * @bindings: memslots by page index (struct kvm_gmem_binding)
 * @lock: protects @bindings, see above
 * @small: no huge folios; does not change
 */
struct kvm_gmem_inode {
	struct inode vfs_inode;
	struct kvm *kvm;
	struct rb_root_cached bindings;
	spinlock_t lock; /* protects bindings */
	bool small;
};

static struct kmem_cache *kvm_gmem_inode_cache;
static struct vfsmount *kvm_gmem_mnt;
static int kvm_gmem_mnt_count;

static struct kvm_gmem_inode *to_gmem(struct inode *inode)
{
	return container_of(inode, struct kvm_gmem_inode, vfs_inode);
}

static struct kvm_memory_slot *node_to_slot(struct interval_tree_node *node)
{
	return container_of(node, struct kvm_memory_slot, gmem.node);
}

/*
 * The part of [@first, @last], in page indices, to which @slot is bound, in
 * gfns.
 */
static struct kvm_gfn_range kvm_gmem_gfn_range(struct kvm_memory_slot *slot,
					       pgoff_t first, pgoff_t last)
{
	struct interval_tree_node *node = &slot->gmem.node;

	first = max_t(pgoff_t, first, node->start);
	last = min_t(pgoff_t, last, node->last);

	return (struct kvm_gfn_range) {
		.start = slot->base_gfn + first - node->start,
		.end = slot->base_gfn + last - node->start + 1,
	};
}

/*
 * Unmap the gfns to which [@first, @last], in page indices, is bound, and hold
 * off faults on all of any huge folio that reaches into it.  A binding is made
 * before its memslot is installed, and undone after it has been removed; in
 * between the memslot can be stood in for by a copy.  Only the installed one has
 * what the architecture needs; if there is none, nothing is mapped.
 */
static void kvm_gmem_unmap(struct kvm *kvm, struct kvm_memory_slot *slot,
			   pgoff_t first, pgoff_t last, bool may_block)
{
	struct kvm_gfn_range range = kvm_gmem_gfn_range(slot, first, last);
	struct kvm_gfn_range around =
		kvm_gmem_gfn_range(slot, round_down(first, KVM_GMEM_HUGE_PAGES),
				   last | (KVM_GMEM_HUGE_PAGES - 1));
	int idx;

	lockdep_assert_held_write(&kvm->mmu_lock);

	kvm_mmu_invalidate_range_add(kvm, around.start, around.end);
	kvm_arch_gmem_drop_pfns(kvm, range.start, range.end);

	range.may_block = may_block;
	idx = srcu_read_lock(&kvm->srcu);
	range.slot = gfn_to_memslot(kvm, range.start);
	if (range.slot && may_block)
		kvm_arch_split_mappings(kvm, &range);
	if (range.slot && kvm_unmap_gfn_range(kvm, &range))
		kvm_flush_remote_tlbs(kvm);
	srcu_read_unlock(&kvm->srcu, idx);
}

/*
 * Take [@first, @last], in page indices, away from the guest, and hold off its
 * faults until kvm_gmem_invalidate_end().  invalidate_lock is held, so that no
 * binding comes or goes.  mmu_lock is dropped between memslots, of which there
 * may be thousands.
 */
static void kvm_gmem_invalidate_begin(struct kvm_gmem_inode *gmem,
				      pgoff_t first, pgoff_t last)
{
	struct interval_tree_node *node;
	struct kvm *kvm = gmem->kvm;

	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_begin(kvm);
	KVM_MMU_UNLOCK(kvm);

	for (node = interval_tree_iter_first(&gmem->bindings, first, last);
	     node; node = interval_tree_iter_next(node, first, last)) {
		KVM_MMU_LOCK(kvm);
		kvm_gmem_unmap(kvm, node_to_slot(node), first, last, true);
		KVM_MMU_UNLOCK(kvm);
		cond_resched();
	}
}

static void kvm_gmem_invalidate_end(struct kvm_gmem_inode *gmem)
{
	struct kvm *kvm = gmem->kvm;

	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_end(kvm);
	KVM_MMU_UNLOCK(kvm);
}

/*
 * Add a folio, huge or small, around a page index, locked and with a reference.
 * Charged to the current task's memory cgroup.  A huge one is not worth trying
 * hard: there is a way out.
 */
static struct folio *kvm_gmem_add_folio(struct inode *inode, pgoff_t index,
					unsigned int order)
{
	struct address_space *mapping = inode->i_mapping;
	gfp_t gfp = mapping_gfp_mask(mapping);
	struct kvm *kvm = to_gmem(inode)->kvm;
	struct folio *folio;
	int r;

	if (order)
		gfp |= __GFP_NORETRY | __GFP_NOWARN | __GFP_NOMEMALLOC;

	folio = filemap_alloc_folio(gfp, order);
	if (!folio)
		return ERR_PTR(-ENOMEM);

	index = round_down(index, BIT(order));
	r = filemap_add_folio(mapping, folio, index, gfp);
	if (r) {
		folio_put(folio);
		return ERR_PTR(r);
	}

	folio_mark_dirty(folio);
	if (order)
		++kvm->stat.generic.gmem_huge_allocs;
	else
		++kvm->stat.generic.gmem_small_allocs;
	trace_kvm_gmem_allocate(inode->i_ino, index, folio_pfn(folio), order);
	return folio;
}

/*
 * May there be a huge folio around a page index: all of it in [@first, @last],
 * and nothing there yet?  The latter is a hint, to save work.
 */
static bool kvm_gmem_huge_fits(struct inode *inode, pgoff_t index,
			       pgoff_t first, pgoff_t last)
{
	unsigned long start = round_down(index, KVM_GMEM_HUGE_PAGES);
	unsigned long end = start + KVM_GMEM_HUGE_PAGES - 1;

	if (to_gmem(inode)->small || !READ_ONCE(gmem_huge_folios))
		return false;

	return start >= first && end <= last &&
	       !xa_find(&inode->i_mapping->i_pages, &start, end, XA_PRESENT);
}

/*
 * Get the folio of a page index, locked and with a reference.  Allocates it if
 * need be, within [@first, @last], which is within the file.  invalidate_lock is
 * held.
 */
static struct folio *kvm_gmem_get_folio(struct inode *inode, pgoff_t index,
					pgoff_t first, pgoff_t last)
{
	struct folio *folio;

	for (;;) {
		folio = filemap_lock_folio(inode->i_mapping, index);
		if (folio)
			return folio;

		if (kvm_gmem_huge_fits(inode, index, first, last)) {
			folio = kvm_gmem_add_folio(inode, index,
						   KVM_GMEM_HUGE_ORDER);
			if (!IS_ERR(folio))
				return folio;
		}

		folio = kvm_gmem_add_folio(inode, index, 0);
		/* Someone else was faster: use theirs. */
		if (PTR_ERR_OR_ZERO(folio) != -EEXIST)
			return folio;
	}
}

/* Initialise a folio, once: it is locked, and nobody else has seen it. */
static void kvm_gmem_zero_folio(struct folio *folio)
{
	long i, nr = folio_nr_pages(folio);
	bool poisoned;

	if (folio_test_uptodate(folio))
		return;

	/* Nobody gets those that are. */
	poisoned = nr == 1 || PageHasHWPoisoned(&folio->page);
	for (i = 0; i < nr; i++) {
		if (!poisoned || !PageHWPoison(folio_page(folio, i)))
			clear_highpage(folio_page(folio, i));
		if (!(i % KVM_GMEM_ZERO_BATCH))
			cond_resched();
	}
	folio_mark_uptodate(folio);
}

/*
 * Get a reference to the file of a memslot, or NULL.  The memslot is safe under
 * SRCU.  The file may be on its way out: then it has no reference to give, and
 * its memory stays valid for an RCU grace period.  Once there is a reference,
 * the file cannot be released, and the memslot cannot change its mind.
 */
static struct file *kvm_gmem_get_file(struct kvm_memory_slot *slot)
{
	struct file *file;

	rcu_read_lock();
	file = rcu_dereference(slot->gmem.file);
	if (file && !get_file_rcu(file))
		file = NULL;
	rcu_read_unlock();

	/* Paranoia, should the slab ever reuse the memory of files at once. */
	if (file && file != rcu_access_pointer(slot->gmem.file)) {
		fput(file);
		file = NULL;
	}
	return file;
}

/*
 * Split the folio that reaches over the border in front of a page index, if
 * there is one.  Others hold references for moments only, e.g. a vCPU between
 * finding a page and mapping it.
 *
 * Context: invalidate_lock held for write, so that no new folio is allocated.
 *
 * Return: 0; -ENOMEM; -EINTR; -EAGAIN if someone does not let go.
 */
static int kvm_gmem_split_at(struct inode *inode, pgoff_t index)
{
	struct kvm *kvm = to_gmem(inode)->kvm;
	struct folio *folio;
	int tries, r;

	for (tries = 0; tries < KVM_GMEM_SPLIT_TRIES; tries++) {
		folio = filemap_lock_folio(inode->i_mapping, index);
		if (!folio)
			return 0;

		r = 0;
		if (folio->index != index) {
			r = split_folio(folio);
			trace_kvm_gmem_split(inode->i_ino, folio->index, r);
			if (!r)
				++kvm->stat.generic.gmem_splits;
			else
				++kvm->stat.generic.gmem_split_failures;
		}
		folio_unlock(folio);
		folio_put(folio);

		if (r != -EAGAIN && r != -EBUSY)
			return r;
		if (fatal_signal_pending(current))
			return -EINTR;
		if (tries < KVM_GMEM_SPLIT_TRIES / 2)
			cond_resched();
		else
			schedule_timeout_killable(1);
	}
	return -EAGAIN;
}

/*
 * The order of the largest mapping of a page that its folio allows: all of the
 * folio is bound to the memslot, equally aligned in file and guest.
 */
static int kvm_gmem_max_order(struct kvm_memory_slot *slot, gfn_t gfn,
			      struct folio *folio, pgoff_t index)
{
	pgoff_t last = folio->index + folio_nr_pages(folio) - 1;
	int order = folio_order(folio);

	/* One page of it is not to be touched. */
	if (order && PageHasHWPoisoned(&folio->page))
		return 0;

	if (folio->index < slot->gmem.node.start ||
	    last > slot->gmem.node.last || (gfn ^ index) & (BIT(order) - 1))
		return 0;

	return order;
}

/**
 * kvm_gmem_get_pfn() - get the private page of a gfn, to give it to the guest
 * @kvm: the VM
 * @slot: the memslot of @gfn
 * @gfn: the page of the guest
 * @pfn: where to put the page's number
 * @max_order: where to put the order of the largest naturally aligned range
 *	around @gfn that is contiguous in both guest and host
 *
 * Allocates, zeroes and prepares the page as needed.  On success the caller has
 * a reference to the page, to be dropped when the page is mapped.  The page can
 * leave the file at any time; the caller checks the invalidation sequence, of
 * which it took a snapshot before, under mmu_lock.
 *
 * Context: kvm->srcu held; no spinning lock.  May sleep.
 *
 * Return: 0; -EFAULT if the memslot has no file; -EHWPOISON if the page is
 * poisoned; -ENOMEM, or what the architecture says.
 */
int kvm_gmem_get_pfn(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn,
		     kvm_pfn_t *pfn, int *max_order)
{
	gfn_t start = round_down(gfn, KVM_GMEM_HUGE_PAGES);
	pgoff_t first = slot->gmem.node.start;
	pgoff_t last = slot->gmem.node.last;
	struct address_space *mapping;
	struct folio *folio;
	struct page *page;
	struct file *file;
	pgoff_t index;
	int r;

	file = kvm_gmem_get_file(slot);
	if (!file)
		return -EFAULT;

	index = gfn - slot->base_gfn + first;

	/*
	 * No huge folio for what cannot be mapped by it, or what the guest has
	 * in shared memory.  A guess: nothing depends on the folio's size.
	 */
	if ((gfn ^ index) & (KVM_GMEM_HUGE_PAGES - 1) ||
	    !kvm_mem_range_is_private(kvm, start, start + KVM_GMEM_HUGE_PAGES,
				      true)) {
		first = index;
		last = index;
	}

	mapping = file->f_mapping;
	folio = filemap_lock_folio(mapping, index);
	if (!folio) {
		/* Nothing comes while a hole is being punched. */
		r = down_read_killable(&mapping->invalidate_lock);
		if (r)
			goto out_file;
		folio = kvm_gmem_get_folio(mapping->host, index, first, last);
		filemap_invalidate_unlock_shared(mapping);
	}
	if (IS_ERR(folio)) {
		r = PTR_ERR(folio);
		goto out_file;
	}

	page = folio_file_page(folio, index);
	if (PageHWPoison(page)) {
		r = -EHWPOISON;
		goto out_folio;
	}

	kvm_gmem_zero_folio(folio);

	*pfn = page_to_pfn(page);
	*max_order = kvm_gmem_max_order(slot, gfn, folio, index);

	r = kvm_arch_gmem_prepare(kvm, gfn, *pfn, *max_order);
	trace_kvm_gmem_prepare(gfn, *pfn, *max_order, r);

out_folio:
	folio_unlock(folio);
	if (r)
		folio_put(folio);
out_file:
	fput(file);
	return r;
}
EXPORT_SYMBOL_GPL(kvm_gmem_get_pfn);

/*
 * A small folio for a page index, locked and with a reference.  fallocate() may
 * have left a huge one, which is split.  invalidate_lock is held for write.
 */
static struct folio *kvm_gmem_get_small_folio(struct inode *inode, pgoff_t index)
{
	struct folio *folio;
	int r;

	/* As a rule there is none yet. */
	folio = kvm_gmem_add_folio(inode, index, 0);
	if (PTR_ERR_OR_ZERO(folio) != -EEXIST)
		return folio;

	folio = filemap_lock_folio(inode->i_mapping, index);
	if (!folio)
		return kvm_gmem_add_folio(inode, index, 0);
	if (!folio_test_large(folio))
		return folio;

	folio_unlock(folio);
	folio_put(folio);
	r = kvm_gmem_split_at(inode, index) ?:
	    kvm_gmem_split_at(inode, index + 1);
	return r ? ERR_PTR(r) : kvm_gmem_get_folio(inode, index, index, index);
}

/* The page of one gfn, for kvm_gmem_populate().  invalidate_lock is held. */
static int kvm_gmem_populate_one(struct kvm *kvm, struct inode *inode,
				 struct kvm_memory_slot *slot, gfn_t gfn,
				 struct page *src, kvm_gmem_fill_fn fill,
				 void *opaque)
{
	pgoff_t index = gfn - slot->base_gfn + slot->gmem.node.start;
	struct folio *folio;
	int r;

	/* Content comes page by page. */
	folio = kvm_gmem_get_small_folio(inode, index);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	r = -EHWPOISON;
	if (PageHWPoison(folio_page(folio, 0)))
		goto out;

	/* The guest, or somebody on its behalf, has it. */
	r = -EEXIST;
	if (folio_test_uptodate(folio))
		goto out;

	if (!src)
		clear_highpage(folio_page(folio, 0));
	r = fill(kvm, gfn, folio_pfn(folio), src, opaque);
	if (!r)
		folio_mark_uptodate(folio);
out:
	folio_unlock(folio);
	folio_put(folio);
	return r;
}

/* The pages of a few gfns.  Return: how many, and why not all in @err. */
static long kvm_gmem_populate_some(struct kvm *kvm, struct inode *inode,
				   struct kvm_memory_slot *slot, gfn_t gfn,
				   struct page **src, long npages,
				   kvm_gmem_fill_fn fill, void *opaque, int *err)
{
	struct address_space *mapping = inode->i_mapping;
	bool private;
	long i;

	/* slots_lock keeps it so. */
	private = kvm_mem_range_is_private(kvm, gfn, gfn + npages, true);

	/* For write: nobody else allocates what is looked at here. */
	*err = down_write_killable(&mapping->invalidate_lock);
	if (*err)
		return 0;

	for (i = 0; i < npages; i++) {
		*err = -EINTR;
		if (signal_pending(current))
			break;
		*err = -EINVAL;
		if (!private && !kvm_mem_is_private(kvm, gfn + i))
			break;
		*err = kvm_gmem_populate_one(kvm, inode, slot, gfn + i,
					     src ? src[i] : NULL, fill, opaque);
		if (*err)
			break;
		cond_resched();
	}
	filemap_invalidate_unlock(mapping);
	return i;
}

/**
 * kvm_gmem_populate() - give private pages their first content
 * @kvm: the VM
 * @gfn: the first page of the guest
 * @src: userspace's content for them, page aligned; NULL: zeroes
 * @write_src: @fill may write to the pages of @src
 * @npages: how many; one or more
 * @fill: called for each page, which is zeroed if there is no @src
 * @opaque: passed to @fill
 *
 * The source's pages are pinned, a few at a time, before the file is locked:
 * to find them can take as long as userspace likes.
 *
 * Context: slots_lock held.  May sleep.
 *
 * Return: how many pages it did, which is less than @npages after a signal or an
 * error; or, if it is none: -EINVAL if a page is not private or its memslot has
 * no file, -EEXIST if the guest has it already, -EFAULT if @src cannot be read,
 * -EINTR, -ENOMEM, -EHWPOISON, or what @fill says.
 */
long kvm_gmem_populate(struct kvm *kvm, gfn_t gfn, void __user *src,
		       bool write_src, long npages, kvm_gmem_fill_fn fill,
		       void *opaque)
{
	struct page *pages[KVM_GMEM_POPULATE_BATCH];
	unsigned long addr = (unsigned long)src;
	struct kvm_memory_slot *slot;
	long nr, some, done = 0;
	struct file *file;
	int r = 0;

	lockdep_assert_held(&kvm->slots_lock);

	slot = gfn_to_memslot(kvm, gfn);
	if (!slot || !kvm_slot_has_gmem(slot))
		return -EINVAL;

	/* None if it is about to be released. */
	file = kvm_gmem_get_file(slot);
	if (!file)
		return -EFAULT;

	npages = min_t(u64, npages, slot->base_gfn + slot->npages - gfn);

	while (!r && done < npages) {
		nr = min_t(long, npages - done, KVM_GMEM_POPULATE_BATCH);
		if (src) {
			nr = pin_user_pages_fast(addr + done * PAGE_SIZE, nr,
						 write_src ? FOLL_WRITE : 0,
						 pages);
			if (nr <= 0) {
				r = nr ?: -EFAULT;
				break;
			}
		}
		some = kvm_gmem_populate_some(kvm, file_inode(file), slot,
					      gfn + done, src ? pages : NULL,
					      nr, fill, opaque, &r);
		if (src)
			unpin_user_pages_dirty_lock(pages, nr, write_src);
		done += some;
	}

	fput(file);
	return done ?: r;
}
EXPORT_SYMBOL_GPL(kvm_gmem_populate);

/* All or nothing: what can fail comes first. */
static long kvm_gmem_punch_hole(struct inode *inode, loff_t offset, loff_t len)
{
	struct address_space *mapping = inode->i_mapping;
	struct kvm_gmem_inode *gmem = to_gmem(inode);
	pgoff_t first = offset >> PAGE_SHIFT;
	pgoff_t end = (offset + len) >> PAGE_SHIFT;
	long r;

	if (down_write_killable(&mapping->invalidate_lock))
		return -EINTR;

	kvm_gmem_invalidate_begin(gmem, first, end - 1);
	r = kvm_gmem_split_at(inode, first) ?: kvm_gmem_split_at(inode, end);
	if (!r)
		truncate_inode_pages_range(mapping, offset, offset + len - 1);
	kvm_gmem_invalidate_end(gmem);

	filemap_invalidate_unlock(mapping);
	return r;
}

static long kvm_gmem_allocate(struct inode *inode, loff_t offset, loff_t len)
{
	struct address_space *mapping = inode->i_mapping;
	pgoff_t first = offset >> PAGE_SHIFT;
	pgoff_t index = first;
	pgoff_t end = (offset + len) >> PAGE_SHIFT;
	struct folio *folio;
	long r = 0;

	if (offset + len > i_size_read(inode))
		return -EINVAL;

	while (index < end) {
		if (signal_pending(current)) {
			r = -EINTR;
			break;
		}

		/* Let a hole that is waiting to be punched go first. */
		r = down_read_killable(&mapping->invalidate_lock);
		if (r)
			break;
		folio = kvm_gmem_get_folio(inode, index, first, end - 1);
		if (IS_ERR(folio)) {
			filemap_invalidate_unlock_shared(mapping);
			r = PTR_ERR(folio);
			break;
		}

		index = folio_next_index(folio);
		folio_unlock(folio);
		folio_put(folio);
		filemap_invalidate_unlock_shared(mapping);
		cond_resched();
	}

	return r;
}

static long kvm_gmem_fallocate(struct file *file, int mode, loff_t offset,
			       loff_t len)
{
	struct inode *inode = file_inode(file);
	long r;

	if (!(mode & FALLOC_FL_KEEP_SIZE) ||
	    mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
		return -EOPNOTSUPP;

	if (!PAGE_ALIGNED(offset) || !PAGE_ALIGNED(len))
		return -EINVAL;

	if (mode & FALLOC_FL_PUNCH_HOLE)
		r = kvm_gmem_punch_hole(inode, offset, len);
	else
		r = kvm_gmem_allocate(inode, offset, len);

	if (!r)
		file_update_time(file);
	return r;
}

static int kvm_gmem_release(struct inode *inode, struct file *file)
{
	struct address_space *mapping = inode->i_mapping;
	struct kvm_gmem_inode *gmem = to_gmem(inode);
	struct interval_tree_node *node;
	struct kvm *kvm = gmem->kvm;

	mutex_lock(&kvm->slots_lock);
	filemap_invalidate_lock(mapping);

	/*
	 * First the memslots forget the file, and then the guest loses its
	 * pages.  A fault that saw the file before could not get a reference;
	 * one that had one got its page before, and retries because of the
	 * invalidation.
	 */
	for (node = interval_tree_iter_first(&gmem->bindings, 0, ULONG_MAX);
	     node; node = interval_tree_iter_next(node, 0, ULONG_MAX))
		rcu_assign_pointer(node_to_slot(node)->gmem.file, NULL);

	kvm_gmem_invalidate_begin(gmem, 0, ULONG_MAX);
	kvm_gmem_invalidate_end(gmem);

	/* The memslots live on, unbound. */
	spin_lock(&gmem->lock);
	gmem->bindings = RB_ROOT_CACHED;
	spin_unlock(&gmem->lock);

	filemap_invalidate_unlock(mapping);
	mutex_unlock(&kvm->slots_lock);

	/* The pages go back to the host while the VM's module is there. */
	truncate_inode_pages(mapping, 0);

	simple_release_fs(&kvm_gmem_mnt, &kvm_gmem_mnt_count);
	kvm_put_kvm(kvm);
	return 0;
}

#ifdef CONFIG_PROC_FS
/* What the file holds, in KiB.  A file of terabytes takes time: can be killed. */
static void kvm_gmem_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct inode *inode = file_inode(file);
	XA_STATE(xas, &inode->i_mapping->i_pages, 0);
	unsigned long small = 0, huge = 0;
	unsigned int batch = 0;
	struct folio *folio;

	rcu_read_lock();
	xas_for_each(&xas, folio, ULONG_MAX) {
		if (xas_retry(&xas, folio) || xa_is_value(folio))
			continue;

		/* There is no reference: not a look at the folio itself. */
		if (xas_get_order(&xas))
			huge++;
		else
			small++;

		if (++batch % XA_CHECK_SCHED)
			continue;
		xas_pause(&xas);
		rcu_read_unlock();
		if (fatal_signal_pending(current))
			return;
		cond_resched();
		rcu_read_lock();
	}
	rcu_read_unlock();

	seq_printf(m, "size:\t%llu kB\n", i_size_read(inode) >> 10);
	seq_printf(m, "private:\t%lu kB\n",
		   (small + (huge << KVM_GMEM_HUGE_ORDER)) << (PAGE_SHIFT - 10));
	seq_puts(m, "shared:\t0 kB\n");
	seq_printf(m, "small_folios:\t%lu\n", small);
	seq_printf(m, "huge_folios:\t%lu\n", huge);
}
#endif

static struct file_operations kvm_gmem_fops = {
	.release	= kvm_gmem_release,
#ifdef CONFIG_PROC_FS
	.show_fdinfo	= kvm_gmem_show_fdinfo,
#endif
	.fallocate	= kvm_gmem_fallocate,
};

/*
 * Memory failure, on a page that is locked and marked as poisoned: take it away
 * from the guest.  It stays in the file, so that the guest's next access finds
 * it and exits to userspace.
 */
static int kvm_gmem_error_page(struct address_space *mapping, struct page *page)
{
	struct kvm_gmem_inode *gmem = to_gmem(mapping->host);
	struct folio *folio = page_folio(page);
	struct interval_tree_node *node;
	pgoff_t index = folio->index + folio_page_idx(folio, page);

	spin_lock(&gmem->lock);
	node = interval_tree_iter_first(&gmem->bindings, index, index);
	if (node) {
		struct kvm *kvm = gmem->kvm;

		KVM_MMU_LOCK(kvm);
		kvm_mmu_invalidate_begin(kvm);
		kvm_gmem_unmap(kvm, node_to_slot(node), index, index, false);
		kvm_mmu_invalidate_end(kvm);
		KVM_MMU_UNLOCK(kvm);
	}
	spin_unlock(&gmem->lock);

	return 0;
}

static int kvm_gmem_migrate_folio(struct address_space *mapping,
				  struct folio *dst, struct folio *src,
				  enum migrate_mode mode)
{
	/* mm does not ask: the mapping is inaccessible. */
	WARN_ON_ONCE(1);
	return -EOPNOTSUPP;
}

/* The folio has left the file, and the allocator does not have it yet. */
static void kvm_gmem_free_folio(struct folio *folio)
{
	kvm_pfn_t pfn = folio_pfn(folio);
	kvm_pfn_t end = pfn + folio_nr_pages(folio);

	/*
	 * A poisoned page that could not be split off when it was found: the
	 * allocator looks for poison in small folios only.
	 */
	if (folio_test_large(folio) && PageHasHWPoisoned(&folio->page)) {
		pr_warn_ratelimited("kvm: gmem: pfn 0x%llx-0x%llx has poison, and is lost\n",
				    pfn, end - 1);
		folio_get(folio);
	}

	kvm_arch_gmem_invalidate(pfn, end);
	trace_kvm_gmem_invalidate(pfn, end);
}

static const struct address_space_operations kvm_gmem_aops = {
	.dirty_folio		= noop_dirty_folio,
	.error_remove_page	= kvm_gmem_error_page,
	.migrate_folio		= kvm_gmem_migrate_folio,
	.free_folio		= kvm_gmem_free_folio,
};

static int kvm_gmem_getattr(struct user_namespace *mnt_userns,
			    const struct path *path, struct kstat *stat,
			    u32 request_mask, unsigned int query_flags)
{
	struct inode *inode = d_inode(path->dentry);

	generic_fillattr(mnt_userns, inode, stat);
	stat->blocks = (u64)READ_ONCE(inode->i_mapping->nrpages) <<
		       (PAGE_SHIFT - 9); /* sectors of 512 bytes */
	return 0;
}

static int kvm_gmem_setattr(struct user_namespace *mnt_userns,
			    struct dentry *dentry, struct iattr *attr)
{
	/* Memslots are bound to ranges of the file. */
	if (attr->ia_valid & ATTR_SIZE)
		return -EINVAL;

	return simple_setattr(mnt_userns, dentry, attr);
}

static const struct inode_operations kvm_gmem_iops = {
	.getattr	= kvm_gmem_getattr,
	.setattr	= kvm_gmem_setattr,
};

static struct inode *kvm_gmem_alloc_inode(struct super_block *sb)
{
	struct kvm_gmem_inode *gmem;

	gmem = alloc_inode_sb(sb, kvm_gmem_inode_cache, GFP_KERNEL);
	if (!gmem)
		return NULL;

	gmem->kvm = NULL;
	gmem->small = false;
	gmem->bindings = RB_ROOT_CACHED;
	spin_lock_init(&gmem->lock);
	return &gmem->vfs_inode;
}

static void kvm_gmem_free_inode(struct inode *inode)
{
	kmem_cache_free(kvm_gmem_inode_cache, to_gmem(inode));
}

static const struct super_operations kvm_gmem_super_ops = {
	.alloc_inode	= kvm_gmem_alloc_inode,
	.free_inode	= kvm_gmem_free_inode,
	.statfs		= simple_statfs,
};

static int kvm_gmem_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *ctx = init_pseudo(fc, GUEST_MEMFD_MAGIC);

	if (!ctx)
		return -ENOMEM;

	fc->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;
	ctx->ops = &kvm_gmem_super_ops;
	return 0;
}

static struct file_system_type kvm_gmem_fs_type = {
	.name		 = "kvm_gmem",
	.init_fs_context = kvm_gmem_init_fs_context,
	.kill_sb	 = kill_anon_super,
};

/*
 * Make a file.  The caller has pinned the mount, and a reference to the VM and
 * to the module for the file to take over.
 */
static struct file *kvm_gmem_make_file(struct kvm *kvm, loff_t size)
{
	struct inode *inode;
	struct file *file;

	inode = anon_inode_make_secure_inode(kvm_gmem_mnt->mnt_sb,
					     KVM_GMEM_NAME, NULL);
	if (IS_ERR(inode))
		return ERR_CAST(inode);

	/* i_fop stays as it is: a file that is opened again has no state. */
	inode->i_op = &kvm_gmem_iops;
	inode->i_mapping->a_ops = &kvm_gmem_aops;
	inode->i_mode |= S_IFREG;
	inode->i_size = size;
	mapping_set_gfp_mask(inode->i_mapping, GFP_HIGHUSER);
	mapping_set_inaccessible(inode->i_mapping);
	to_gmem(inode)->kvm = kvm;
	to_gmem(inode)->small = !kvm_gmem_order(kvm);
	if (!to_gmem(inode)->small)
		mapping_set_large_folios(inode->i_mapping);

	file = alloc_file_pseudo(inode, kvm_gmem_mnt, KVM_GMEM_NAME, O_RDWR,
				 &kvm_gmem_fops);
	if (IS_ERR(file)) {
		iput(inode);
		return file;
	}

	file->f_flags |= O_LARGEFILE;
	return file;
}

/* Return: a file descriptor, or an error. */
static int kvm_gmem_create(struct kvm *kvm, loff_t size)
{
	struct file *file;
	int fd, r;

	fd = get_unused_fd_flags(0);
	if (fd < 0)
		return fd;

	r = simple_pin_fs(&kvm_gmem_fs_type, &kvm_gmem_mnt,
			  &kvm_gmem_mnt_count);
	if (r)
		goto err_fd;

	kvm_get_kvm(kvm);
	/* The VM has the module pinned already. */
	__module_get(kvm_gmem_fops.owner);

	file = kvm_gmem_make_file(kvm, size);
	if (IS_ERR(file)) {
		r = PTR_ERR(file);
		goto err_pins;
	}

	fd_install(fd, file);
	return fd;

err_pins:
	module_put(kvm_gmem_fops.owner);
	kvm_put_kvm_no_destroy(kvm);
	simple_release_fs(&kvm_gmem_mnt, &kvm_gmem_mnt_count);
err_fd:
	put_unused_fd(fd);
	return r;
}

/**
 * kvm_gmem_order() - KVM_CHECK_EXTENSION of KVM_CAP_GUEST_MEMFD_ORDER
 * @kvm: the VM, or NULL for what a new VM has
 *
 * Return: the order of the largest folio of a file that is made now, if the
 * administrator does not mind; 0 if there are small ones only.
 */
int kvm_gmem_order(struct kvm *kvm)
{
	/* xas_split_alloc() splits over two levels of an xarray at most. */
	if (!IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) ||
	    KVM_GMEM_HUGE_ORDER > 2 * XA_CHUNK_SHIFT ||
	    (kvm && READ_ONCE(kvm->gmem_small)))
		return 0;

	return KVM_GMEM_HUGE_ORDER;
}

/**
 * kvm_gmem_set_order() - KVM_ENABLE_CAP of KVM_CAP_GUEST_MEMFD_ORDER
 * @kvm: the VM
 * @cap: args[0] is the order of the largest folio of files made from now on
 *
 * Return: 0; -EINVAL for flags, other arguments, or an order other than 0 and
 * the one that the kernel has.
 */
int kvm_gmem_set_order(struct kvm *kvm, struct kvm_enable_cap *cap)
{
	if (cap->flags || cap->args[1] || cap->args[2] || cap->args[3] ||
	    !kvm_arch_has_private_mem(kvm) ||
	    (cap->args[0] && cap->args[0] != kvm_gmem_order(NULL)))
		return -EINVAL;

	WRITE_ONCE(kvm->gmem_small, !cap->args[0]);
	return 0;
}

/**
 * kvm_vm_ioctl_create_gmem() - KVM_CREATE_GUEST_MEMFD
 * @kvm: the VM
 * @argp: the user's struct kvm_create_guest_memfd
 *
 * Return: a file descriptor; -EFAULT for a bad pointer; -EINVAL for flags, or a
 * size that is zero, not page aligned or larger than a file can be; -ENOMEM,
 * -EMFILE, -ENFILE.
 */
int kvm_vm_ioctl_create_gmem(struct kvm *kvm, void __user *argp)
{
	struct kvm_create_guest_memfd args;

	if (copy_from_user(&args, argp, sizeof(args)))
		return -EFAULT;

	if (args.flags)
		return -EINVAL;
	if (!args.size || !PAGE_ALIGNED(args.size) ||
	    args.size > MAX_LFS_FILESIZE)
		return -EINVAL;

	return kvm_gmem_create(kvm, args.size);
}

/**
 * kvm_gmem_bind() - let a range of a file back a memslot
 * @kvm: the VM
 * @slot: the memslot, which nobody else can see yet
 * @fd: file descriptor of the file
 * @offset: where in the file, in bytes
 *
 * Context: slots_lock held.
 *
 * Return: 0; -EBADF if there is no such file; -EINVAL if it is no guest_memfd of
 * this VM, @offset is not page aligned or the memslot ends beyond the file;
 * -EEXIST if another memslot is bound to part of the range.
 */
int kvm_gmem_bind(struct kvm *kvm, struct kvm_memory_slot *slot,
		  unsigned int fd, u64 offset)
{
	u64 size = (u64)slot->npages << PAGE_SHIFT;
	struct interval_tree_node *node = &slot->gmem.node;
	struct kvm_gmem_inode *gmem;
	struct inode *inode;
	struct file *file;
	int r = -EINVAL;

	lockdep_assert_held(&kvm->slots_lock);

	file = fget(fd);
	if (!file)
		return -EBADF;

	if (file->f_op != &kvm_gmem_fops)
		goto out;

	inode = file_inode(file);
	gmem = to_gmem(inode);
	if (gmem->kvm != kvm)
		goto out;

	if (!PAGE_ALIGNED(offset) || offset > i_size_read(inode) ||
	    size > i_size_read(inode) - offset)
		goto out;

	node->start = offset >> PAGE_SHIFT;
	node->last = node->start + slot->npages - 1;

	filemap_invalidate_lock(inode->i_mapping);
	if (interval_tree_iter_first(&gmem->bindings, node->start, node->last)) {
		r = -EEXIST;
	} else {
		spin_lock(&gmem->lock);
		interval_tree_insert(node, &gmem->bindings);
		spin_unlock(&gmem->lock);
		rcu_assign_pointer(slot->gmem.file, file);
		r = 0;
	}
	filemap_invalidate_unlock(inode->i_mapping);

out:
	/* The memslot does not pin the file; releasing it needs slots_lock. */
	fput(file);
	return r;
}

/**
 * kvm_gmem_unbind() - undo kvm_gmem_bind()
 * @kvm: the VM
 * @slot: the memslot, which nobody else can see any more
 *
 * Context: slots_lock held, unless the VM has no users, and hence no files.
 */
void kvm_gmem_unbind(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	struct kvm_gmem_inode *gmem;
	struct inode *inode;
	struct file *file;

	/* Never bound, or the file has been released. */
	if (!rcu_access_pointer(slot->gmem.file))
		return;

	/* No reference needed, nor perhaps to be had: see "Lifetime". */
	file = rcu_dereference_protected(slot->gmem.file,
					 lockdep_is_held(&kvm->slots_lock));
	inode = file_inode(file);
	gmem = to_gmem(inode);

	filemap_invalidate_lock(inode->i_mapping);
	spin_lock(&gmem->lock);
	interval_tree_remove(&slot->gmem.node, &gmem->bindings);
	spin_unlock(&gmem->lock);
	rcu_assign_pointer(slot->gmem.file, NULL);

	/* From now on nobody knows which gfns to tell if pages leave. */
	KVM_MMU_LOCK(kvm);
	kvm_arch_gmem_drop_pfns(kvm, slot->base_gfn,
				slot->base_gfn + slot->npages);
	KVM_MMU_UNLOCK(kvm);
	filemap_invalidate_unlock(inode->i_mapping);
}

static void kvm_gmem_init_inode_once(void *gmem)
{
	inode_init_once(&((struct kvm_gmem_inode *)gmem)->vfs_inode);
}

/**
 * kvm_gmem_init() - prepare for guest_memfd files
 * @owner: the module that must stay while there are any
 *
 * Return: 0 or -ENOMEM.
 */
int kvm_gmem_init(struct module *owner)
{
	kvm_gmem_inode_cache =
		kmem_cache_create("kvm_gmem_inode",
				  sizeof(struct kvm_gmem_inode), 0,
				  SLAB_ACCOUNT, kvm_gmem_init_inode_once);
	if (!kvm_gmem_inode_cache)
		return -ENOMEM;

	/*
	 * The file pins the module until it is released, the mount until the
	 * last use of the file system's code.
	 */
	kvm_gmem_fops.owner = owner;
	kvm_gmem_fs_type.owner = owner;
	return 0;
}

/**
 * kvm_gmem_exit() - undo kvm_gmem_init(), when there are no files any more
 */
void kvm_gmem_exit(void)
{
	/* Inodes are freed after a grace period. */
	rcu_barrier();
	kmem_cache_destroy(kvm_gmem_inode_cache);
}
