// SPDX-License-Identifier: GPL-2.0-only
/*
 * The store of memory attributes: a small number for each gfn of a guest, for
 * a guest whose attributes come in long ranges.
 *
 * Model
 *
 * The guest's address space is cut into blocks of BLOCK_PAGES pages, naturally
 * aligned, of the size of the smallest huge page.  A block is
 *  - uniform: all of its pages have the same attributes.  Neighbours with the
 *    same attributes make up a run; if the attributes are zero, there is none;
 *  - mixed: it is a run of its own, with a byte for each page.
 * The runs are in a red-black tree, by block number.
 *
 * Hence cost and memory follow the number of boundaries between ranges of
 * different attributes, wherever they lie: a boundary inside a block costs one
 * mixed block, a boundary between blocks a run, a terabyte in between nothing.
 * The worst case, a change at every page, costs two bytes per page.  And "may
 * this huge page be mapped as one" is a look at one run.
 *
 * The kernel's other structures: an xarray with multi-index entries needs
 * naturally aligned powers of two, i.e. dozens of entries and nodes for a range
 * with odd ends, and memory to cut one; an interval tree solves a harder problem,
 * overlaps, and has no readers without locks; a maple tree would do for the runs,
 * but needs memory to remove one, and frees whatever lies in a range in one go,
 * however much it is.
 *
 * Changing
 *
 * A change is made in three steps, with a lock of the caller's held from the
 * first to the last:
 *  - prepare: everything that can fail.  The blocks that the range covers in
 *    part become mixed, without changing any page's attributes, and memory is
 *    allocated.  A failure leaves nothing behind;
 *  - commit: make the change.  Does not fail or allocate;
 *  - finish: reduce to the minimal form what can be, free what is not needed.
 *
 * Reading takes no lock.  The tree is walked under RCU, as lib/rbtree.c allows,
 * and what was found is believed if the sequence count has not changed.  Each
 * change of the count covers one step in the tree, so that readers never wait
 * for a long one.  The reader of a page in the range of a commit sees old, new
 * or no attributes; KVM's invalidation protocol makes that harmless.  All other
 * pages keep theirs.
 *
 * What cannot be: neighbouring uniform runs with the same attributes, and a
 * mixed block with pages all alike, unless memory was short at some time.
 */
#include <linux/export.h>
#include <linux/kernel.h>
#include <linux/kvm_mem_attr.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>

#if IS_ENABLED(CONFIG_KVM_MEM_ATTR_KUNIT_TEST)
#define EXPORT_SYMBOL_FOR_KUNIT(symbol) EXPORT_SYMBOL_GPL(symbol)
#else
#define EXPORT_SYMBOL_FOR_KUNIT(symbol)
#endif

#define BLOCK_SHIFT	9
#define BLOCK_PAGES	BIT(BLOCK_SHIFT)
#define BLOCK_MASK	(BLOCK_PAGES - 1)

/*
 * One step in the tree.  Readers in interrupts wait for the end of a step, which
 * must not be below them.
 */
static unsigned long step_begin(struct kvm_mem_attr_store *store)
	__acquires(&store->step_lock)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&store->step_lock, flags);
	write_seqcount_begin(&store->seq);
	return flags;
}

static void step_end(struct kvm_mem_attr_store *store, unsigned long flags)
	__releases(&store->step_lock)
{
	write_seqcount_end(&store->seq);
	raw_spin_unlock_irqrestore(&store->step_lock, flags);
}

static unsigned long gfn_to_block(gfn_t gfn)
{
	return gfn >> BLOCK_SHIFT;
}

static struct kvm_mem_attr_run *to_run(struct rb_node *node)
{
	return rb_entry_safe(node, struct kvm_mem_attr_run, node);
}

static struct kvm_mem_attr_run *run_alloc(unsigned long first,
					  unsigned long last, u8 attrs)
{
	struct kvm_mem_attr_run *run;

	run = kmalloc(sizeof(*run), GFP_KERNEL_ACCOUNT);
	if (run) {
		run->first = first;
		run->last = last;
		run->attrs = attrs;
		run->mixed = false;
	}
	return run;
}

/*
 * Find the run of @block, or else the next one.  Callers hold the store's lock,
 * or RCU and check the sequence count.
 */
static struct kvm_mem_attr_run *run_find(struct kvm_mem_attr_store *store,
					 unsigned long block)
{
	struct rb_node *node = rcu_dereference_raw(store->runs.rb_node);
	struct kvm_mem_attr_run *next = NULL;

	while (node) {
		struct kvm_mem_attr_run *run = to_run(node);

		if (block > READ_ONCE(run->last)) {
			node = rcu_dereference_raw(node->rb_right);
		} else {
			next = run;
			if (block >= READ_ONCE(run->first))
				break;
			node = rcu_dereference_raw(node->rb_left);
		}
	}
	return next;
}

static bool run_has(struct kvm_mem_attr_run *run, unsigned long block)
{
	return run && run->first <= block && block <= run->last;
}

static u8 run_attrs(struct kvm_mem_attr_run *run, gfn_t gfn)
{
	if (run->mixed)
		return READ_ONCE(run->pages[gfn & BLOCK_MASK]);

	return run->attrs;
}

/* Within a step. */
static void run_insert(struct kvm_mem_attr_store *store,
		       struct kvm_mem_attr_run *run)
{
	struct rb_node **link = &store->runs.rb_node, *parent = NULL;

	while (*link) {
		parent = *link;
		if (run->first < to_run(parent)->first)
			link = &parent->rb_left;
		else
			link = &parent->rb_right;
	}
	rb_link_node_rcu(&run->node, parent, link);
	rb_insert_color(&run->node, &store->runs);
}

/* Within a step. */
static void run_erase(struct kvm_mem_attr_store *store,
		      struct kvm_mem_attr_run *run)
{
	if (store->recent == run)
		store->recent = NULL;
	rb_erase(&run->node, &store->runs);
	kfree_rcu(run, rcu);
}

/**
 * kvm_mem_attr_store_init() - make an empty store
 * @store: the store
 *
 * All attributes are zero.
 */
void kvm_mem_attr_store_init(struct kvm_mem_attr_store *store)
{
	store->runs = RB_ROOT;
	store->recent = NULL;
	raw_spin_lock_init(&store->step_lock);
	seqcount_raw_spinlock_init(&store->seq, &store->step_lock);
}
EXPORT_SYMBOL_FOR_KUNIT(kvm_mem_attr_store_init);

/**
 * kvm_mem_attr_store_destroy() - free all memory of a store
 * @store: the store; nobody reads or changes it any more
 *
 * Context: may sleep.
 */
void kvm_mem_attr_store_destroy(struct kvm_mem_attr_store *store)
{
	struct kvm_mem_attr_run *run, *next;

	rbtree_postorder_for_each_entry_safe(run, next, &store->runs, node) {
		kfree(run);
		cond_resched();
	}
	store->runs = RB_ROOT;
	store->recent = NULL;
}
EXPORT_SYMBOL_FOR_KUNIT(kvm_mem_attr_store_destroy);

/**
 * kvm_mem_attr_store_get() - read the attributes of a page
 * @store: the store
 * @gfn: the page
 *
 * Context: any, but for NMIs.
 */
u8 kvm_mem_attr_store_get(struct kvm_mem_attr_store *store, gfn_t gfn)
{
	struct kvm_mem_attr_run *run;
	unsigned int seq;
	u8 attrs;

	rcu_read_lock();
	do {
		seq = read_seqcount_begin(&store->seq);
		run = run_find(store, gfn_to_block(gfn));
		attrs = run_has(run, gfn_to_block(gfn)) ? run_attrs(run, gfn) : 0;
	} while (read_seqcount_retry(&store->seq, seq));
	rcu_read_unlock();

	return attrs;
}
EXPORT_SYMBOL_FOR_KUNIT(kvm_mem_attr_store_get);

/* Do all pages of a block that lie in [@start, @end) have these attributes? */
static bool mixed_is_uniform(struct kvm_mem_attr_run *run, gfn_t start,
			     gfn_t end, u8 attrs)
{
	gfn_t base = (gfn_t)run->first << BLOCK_SHIFT;
	gfn_t from = max(start, base) - base;
	gfn_t to = min(end, base + BLOCK_PAGES) - base;

	/* Nonsense, which the sequence count will tell. */
	if (from >= to || to > BLOCK_PAGES)
		return false;

	return !memchr_inv(&run->pages[from], attrs, to - from);
}

static bool range_is_uniform(struct kvm_mem_attr_store *store, gfn_t start,
			     gfn_t end, u8 attrs)
{
	unsigned long block = gfn_to_block(start);
	unsigned long last = gfn_to_block(end - 1);
	struct kvm_mem_attr_run *run;

	for (;;) {
		run = run_find(store, block);
		/* What has no run has no attributes. */
		if (!run || run->first > last)
			return !attrs;
		if (run->first > block && attrs)
			return false;

		if (run->mixed ? !mixed_is_uniform(run, start, end, attrs) :
				 run->attrs != attrs)
			return false;
		if (run->last >= last)
			return true;
		block = run->last + 1;
	}
}

/**
 * kvm_mem_attr_store_uniform() - do all pages of a range have these attributes?
 * @store: the store
 * @start: first gfn
 * @end: gfn past the last one, greater than @start
 * @attrs: the attributes to compare with
 *
 * Looks at no more runs than there are between here and the first page with
 * other attributes.
 *
 * Context: any, but for NMIs.
 */
bool kvm_mem_attr_store_uniform(struct kvm_mem_attr_store *store,
				gfn_t start, gfn_t end, u8 attrs)
{
	unsigned int seq;
	bool uniform;

	rcu_read_lock();
	do {
		seq = read_seqcount_begin(&store->seq);
		uniform = range_is_uniform(store, start, end, attrs);
	} while (read_seqcount_retry(&store->seq, seq));
	rcu_read_unlock();

	return uniform;
}
EXPORT_SYMBOL_FOR_KUNIT(kvm_mem_attr_store_uniform);

/* The blocks that [@start, @end) covers in part: at most two, else ULONG_MAX. */
static void partial_blocks(gfn_t start, gfn_t end, unsigned long block[2])
{
	block[0] = ULONG_MAX;
	block[1] = ULONG_MAX;

	if (start & BLOCK_MASK)
		block[0] = gfn_to_block(start);
	if ((end & BLOCK_MASK) && gfn_to_block(end) != block[0])
		block[1] = gfn_to_block(end);
}

/* The blocks that the change covers wholly: [@first, @past). */
static void whole_blocks(struct kvm_mem_attr_change *change,
			 unsigned long *first, unsigned long *past)
{
	*first = gfn_to_block(change->start + BLOCK_MASK);
	*past = gfn_to_block(change->end);
}

/*
 * Make room: no uniform run but those in [@first, @last] has one of these
 * blocks.  If one has blocks on both sides, @rest becomes its second half.
 *
 * Return: whether @rest was used.
 */
static bool runs_cut(struct kvm_mem_attr_store *store, unsigned long first,
		     unsigned long last, struct kvm_mem_attr_run *rest)
{
	struct kvm_mem_attr_run *run = run_find(store, first);
	unsigned long flags;
	bool used = false;

	flags = step_begin(store);
	if (run && run->first < first) {
		if (run->last > last) {
			rest->first = last + 1;
			rest->last = run->last;
			rest->attrs = run->attrs;
			used = true;
		}
		run->last = first - 1;
		if (used)
			run_insert(store, rest);
	}
	if (!used) {
		run = run_find(store, last);
		if (run && run->first <= last && run->last > last)
			run->first = last + 1;
	}
	step_end(store, flags);

	return used;
}

static bool runs_can_join(struct kvm_mem_attr_run *left,
			  struct kvm_mem_attr_run *right)
{
	return left && right && left->last + 1 == right->first &&
	       !left->mixed && !right->mixed && left->attrs == right->attrs;
}

/* Join a uniform run with its neighbours, if they have the same attributes. */
static void run_join(struct kvm_mem_attr_store *store,
		     struct kvm_mem_attr_run *run)
{
	struct kvm_mem_attr_run *left = to_run(rb_prev(&run->node));
	struct kvm_mem_attr_run *right = to_run(rb_next(&run->node));
	unsigned long flags;

	flags = step_begin(store);
	if (runs_can_join(left, run)) {
		left->last = run->last;
		run_erase(store, run);
		run = left;
	}
	if (runs_can_join(run, right)) {
		run->last = right->last;
		run_erase(store, right);
	}
	step_end(store, flags);
}

/*
 * Make a block mixed, if its pages are to differ: no page's attributes change.
 *
 * Return: the mixed block, NULL if it is uniform and stays so, or -ENOMEM.
 */
static struct kvm_mem_attr_run *
prepare_partial_block(struct kvm_mem_attr_store *store, unsigned long block,
		      u8 attrs)
{
	struct kvm_mem_attr_run *run = store->recent;
	struct kvm_mem_attr_run *mixed, *rest;
	unsigned long flags;
	u8 old = 0;

	if (!run_has(run, block))
		run = run_find(store, block);
	if (run_has(run, block)) {
		if (run->mixed)
			return run;
		old = run->attrs;
	}
	if (old == attrs)
		return NULL;

	mixed = kmalloc(struct_size(mixed, pages, BLOCK_PAGES),
			GFP_KERNEL_ACCOUNT);
	rest = run_alloc(0, 0, 0);
	if (!mixed || !rest) {
		kfree(mixed);
		kfree(rest);
		return ERR_PTR(-ENOMEM);
	}

	mixed->first = block;
	mixed->last = block;
	mixed->attrs = 0;
	mixed->mixed = true;
	memset(mixed->pages, old, BLOCK_PAGES);

	/* In one go: the block must not be without attributes in between. */
	flags = step_begin(store);
	if (old) {
		if (run->first < block && run->last > block) {
			rest->first = block + 1;
			rest->last = run->last;
			rest->attrs = old;
			run->last = block - 1;
			run_insert(store, rest);
			rest = NULL;
		} else if (run->first < block) {
			run->last = block - 1;
		} else if (run->last > block) {
			run->first = block + 1;
		} else {
			run_erase(store, run);
		}
	}
	run_insert(store, mixed);
	step_end(store, flags);

	kfree(rest);
	return mixed;
}

/* The pages of a mixed block, by index, that lie in the range: [@from, @to). */
static void changed_pages(struct kvm_mem_attr_change *change,
			  struct kvm_mem_attr_run *mixed, unsigned int *from,
			  unsigned int *to)
{
	gfn_t base = (gfn_t)mixed->first << BLOCK_SHIFT;

	*from = max(change->start, base) - base;
	*to = min(change->end, base + BLOCK_PAGES) - base;
}

/* Reduce a mixed block to a uniform one, if it can be and there is memory. */
static void finish_partial_block(struct kvm_mem_attr_change *change,
				 struct kvm_mem_attr_run *mixed)
{
	struct kvm_mem_attr_store *store = change->store;
	struct kvm_mem_attr_run *run;
	unsigned int from, to;
	unsigned long flags;
	u8 attrs;

	/* A page that differs is most likely near those that have changed. */
	changed_pages(change, mixed, &from, &to);
	attrs = mixed->pages[from];
	if (memchr_inv(&mixed->pages[to], attrs, BLOCK_PAGES - to) ||
	    memchr_inv(mixed->pages, attrs, to))
		return;

	run = run_alloc(mixed->first, mixed->first, attrs);
	if (!run)
		return;

	/* In one go, as above; then join the neighbours. */
	flags = step_begin(store);
	run_erase(store, mixed);
	if (attrs)
		run_insert(store, run);
	step_end(store, flags);

	if (!attrs) {
		kfree(run);
		return;
	}
	run_join(store, run);
}

/**
 * kvm_mem_attr_store_prepare() - do what can fail of a change
 * @change: the change, filled in here
 * @store: the store to change
 * @start: first gfn
 * @end: gfn past the last one, greater than @start
 * @attrs: the new attributes
 *
 * If it succeeds, kvm_mem_attr_store_commit() and kvm_mem_attr_store_finish()
 * must follow.  If it fails, no attribute has changed and there is nothing to
 * undo.
 *
 * Context: the store's lock held until after kvm_mem_attr_store_finish().  May
 * sleep.
 *
 * Return: 0 or -ENOMEM.
 */
int kvm_mem_attr_store_prepare(struct kvm_mem_attr_change *change,
			       struct kvm_mem_attr_store *store,
			       gfn_t start, gfn_t end, u8 attrs)
{
	unsigned long first, past, partial[2];
	struct kvm_mem_attr_run *mixed;
	int i, r;

	change->store = store;
	change->start = start;
	change->end = end;
	change->run = NULL;
	change->rest = NULL;
	change->mixed[0] = NULL;
	change->mixed[1] = NULL;
	change->attrs = attrs;

	whole_blocks(change, &first, &past);
	if (first < past) {
		change->run = run_alloc(0, 0, 0);
		change->rest = run_alloc(0, 0, 0);
		r = -ENOMEM;
		if (!change->run || !change->rest)
			goto fail;
	}

	partial_blocks(start, end, partial);
	for (i = 0; i < ARRAY_SIZE(partial); i++) {
		if (partial[i] == ULONG_MAX)
			continue;
		mixed = prepare_partial_block(store, partial[i], attrs);
		if (IS_ERR(mixed)) {
			r = PTR_ERR(mixed);
			goto fail;
		}
		change->mixed[i] = mixed;
		if (mixed)
			store->recent = mixed;
	}

	return 0;

fail:
	kvm_mem_attr_store_finish(change);
	return r;
}
EXPORT_SYMBOL_FOR_KUNIT(kvm_mem_attr_store_prepare);

static void commit_whole_blocks(struct kvm_mem_attr_change *change,
				unsigned long first, unsigned long last)
{
	struct kvm_mem_attr_store *store = change->store;
	struct kvm_mem_attr_run *run;
	unsigned long flags;

	if (runs_cut(store, first, last, change->rest))
		change->rest = NULL;

	while ((run = run_find(store, first)) && run->first <= last) {
		flags = step_begin(store);
		run_erase(store, run);
		step_end(store, flags);
		cond_resched();
	}

	if (!change->attrs)
		return;

	run = change->run;
	change->run = NULL;
	run->first = first;
	run->last = last;
	run->attrs = change->attrs;

	flags = step_begin(store);
	run_insert(store, run);
	step_end(store, flags);
	run_join(store, run);
}

/* Set the pages of a block that lie in the changed range. */
static void commit_partial_block(struct kvm_mem_attr_change *change,
				 struct kvm_mem_attr_run *mixed)
{
	unsigned int i, to;

	changed_pages(change, mixed, &i, &to);
	for (; i < to; i++)
		WRITE_ONCE(mixed->pages[i], change->attrs);
}

/**
 * kvm_mem_attr_store_commit() - make a prepared change
 * @change: the change
 *
 * Readers see the new attributes when it returns.
 *
 * Context: the store's lock held since kvm_mem_attr_store_prepare().  May sleep,
 * but not for memory.
 */
void kvm_mem_attr_store_commit(struct kvm_mem_attr_change *change)
{
	unsigned long first, past;
	int i;

	whole_blocks(change, &first, &past);
	if (first < past)
		commit_whole_blocks(change, first, past - 1);

	for (i = 0; i < ARRAY_SIZE(change->mixed); i++) {
		if (change->mixed[i])
			commit_partial_block(change, change->mixed[i]);
	}
}
EXPORT_SYMBOL_FOR_KUNIT(kvm_mem_attr_store_commit);

/**
 * kvm_mem_attr_store_finish() - tidy up after a change
 * @change: the change
 *
 * Context: the store's lock held since kvm_mem_attr_store_prepare().  May sleep.
 */
void kvm_mem_attr_store_finish(struct kvm_mem_attr_change *change)
{
	int i;

	/* Small changes have none of these. */
	if (change->run || change->rest) {
		kfree(change->run);
		kfree(change->rest);
	}

	for (i = 0; i < ARRAY_SIZE(change->mixed); i++) {
		if (change->mixed[i])
			finish_partial_block(change, change->mixed[i]);
	}
}
EXPORT_SYMBOL_FOR_KUNIT(kvm_mem_attr_store_finish);
