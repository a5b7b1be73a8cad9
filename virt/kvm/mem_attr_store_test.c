// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the store of memory attributes, against a plain array with one
 * byte per page.
 */
#include <kunit/test.h>
#include <linux/hrtimer.h>
#include <linux/kthread.h>
#include <linux/kvm_mem_attr.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#define BLOCK		512ULL
#define PRIVATE		8
#define OTHER		1

/* Pages of the model, of which the first and the last block stay untouched. */
#define MODEL_PAGES	(12 * BLOCK)

struct store_test {
	struct mutex lock; /* the store's */
	struct kvm_mem_attr_store store;
	u8 *model;
	gfn_t base;
	struct rnd_state rnd;
};

static int store_test_init(struct kunit *test)
{
	struct store_test *t;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	t->model = kunit_kzalloc(test, MODEL_PAGES, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->model);

	prandom_seed_state(&t->rnd, 6101);
	mutex_init(&t->lock);
	kvm_mem_attr_store_init(&t->store);
	test->priv = t;
	return 0;
}

static void store_test_exit(struct kunit *test)
{
	struct store_test *t = test->priv;

	kvm_mem_attr_store_destroy(&t->store);
}

static void store_set(struct kunit *test, gfn_t start, gfn_t end, u8 attrs)
{
	struct store_test *t = test->priv;
	struct kvm_mem_attr_change change;
	u8 before;
	int r;

	mutex_lock(&t->lock);
	before = kvm_mem_attr_store_get(&t->store, start);
	r = kvm_mem_attr_store_prepare(&change, &t->store, start, end, attrs);
	if (!r) {
		/* Preparing must not be visible. */
		KUNIT_EXPECT_EQ(test, before,
				kvm_mem_attr_store_get(&t->store, start));
		kvm_mem_attr_store_commit(&change);
		kvm_mem_attr_store_finish(&change);
	}
	mutex_unlock(&t->lock);

	KUNIT_ASSERT_EQ(test, 0, r);
}

/* In pages of the model. */
static void model_set(struct kunit *test, gfn_t start, gfn_t end, u8 attrs)
{
	struct store_test *t = test->priv;

	memset(t->model + start, attrs, end - start);
	store_set(test, t->base + start, t->base + end, attrs);
}

static void model_compare(struct kunit *test)
{
	struct store_test *t = test->priv;
	gfn_t i;

	for (i = 0; i < MODEL_PAGES; i++) {
		u8 attrs = kvm_mem_attr_store_get(&t->store, t->base + i);

		if (attrs == t->model[i])
			continue;
		KUNIT_FAIL(test, "page %llu: store %u, model %u", i, attrs,
			   t->model[i]);
		return;
	}
}

static void model_compare_range(struct kunit *test, gfn_t start, gfn_t end,
				u8 attrs)
{
	struct store_test *t = test->priv;
	bool uniform = !memchr_inv(t->model + start, attrs, end - start);

	KUNIT_EXPECT_EQ_MSG(test, uniform,
			    kvm_mem_attr_store_uniform(&t->store,
						       t->base + start,
						       t->base + end, attrs),
			    "[%llu, %llu) %u", start, end, attrs);
}

struct tree_shape {
	unsigned long runs;
	unsigned long mixed;
};

/*
 * What the tree consists of.  Checks that it is minimal: no two neighbouring
 * runs alike, no mixed block with pages all alike.
 */
static struct tree_shape tree_shape(struct kunit *test)
{
	struct store_test *t = test->priv;
	struct kvm_mem_attr_run *run, *prev = NULL;
	struct tree_shape shape = {};
	struct rb_node *node;

	mutex_lock(&t->lock);
	for (node = rb_first(&t->store.runs); node; node = rb_next(node)) {
		run = rb_entry(node, struct kvm_mem_attr_run, node);

		KUNIT_EXPECT_LE(test, run->first, run->last);
		KUNIT_EXPECT_FALSE(test, prev && prev->last >= run->first);
		if (run->mixed) {
			shape.mixed++;
			KUNIT_EXPECT_EQ(test, run->first, run->last);
			KUNIT_EXPECT_NOT_NULL(test,
					      memchr_inv(run->pages,
							 run->pages[0], BLOCK));
		} else {
			shape.runs++;
			KUNIT_EXPECT_NE(test, run->attrs, 0);
			KUNIT_EXPECT_FALSE(test, prev && !prev->mixed &&
					   prev->attrs == run->attrs &&
					   prev->last + 1 == run->first);
		}
		prev = run;
	}
	mutex_unlock(&t->lock);

	return shape;
}

static void expect_shape(struct kunit *test, unsigned long runs,
			 unsigned long mixed)
{
	struct tree_shape shape = tree_shape(test);

	KUNIT_EXPECT_EQ(test, runs, shape.runs);
	KUNIT_EXPECT_EQ(test, mixed, shape.mixed);
}

static void store_empty(struct kunit *test)
{
	struct store_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, 0, kvm_mem_attr_store_get(&t->store, 0));
	KUNIT_EXPECT_EQ(test, 0, kvm_mem_attr_store_get(&t->store, ~0ULL >> 12));
	KUNIT_EXPECT_TRUE(test, kvm_mem_attr_store_uniform(&t->store, 0,
							   1ULL << 40, 0));
	KUNIT_EXPECT_FALSE(test, kvm_mem_attr_store_uniform(&t->store, 0,
							    1ULL << 40, PRIVATE));
	expect_shape(test, 0, 0);
}

/* What a range costs does not depend on its size. */
static void store_shape(struct kunit *test)
{
	struct store_test *t = test->priv;
	gfn_t tib = 1ULL << (40 - 12);
	gfn_t top = 1ULL << (52 - 12);

	store_set(test, 0, tib, PRIVATE);
	expect_shape(test, 1, 0);
	store_set(test, 0, tib, 0);
	expect_shape(test, 0, 0);

	/* Odd ends cost a mixed block each. */
	store_set(test, 1, tib - 1, PRIVATE);
	expect_shape(test, 1, 2);
	KUNIT_EXPECT_EQ(test, 0, kvm_mem_attr_store_get(&t->store, 0));
	KUNIT_EXPECT_EQ(test, PRIVATE, kvm_mem_attr_store_get(&t->store, 1));
	KUNIT_EXPECT_EQ(test, 0, kvm_mem_attr_store_get(&t->store, tib - 1));

	/* And are absorbed when they are filled up. */
	store_set(test, 0, 1, PRIVATE);
	store_set(test, tib - 1, tib, PRIVATE);
	expect_shape(test, 1, 0);

	/* A page in the middle splits the run, and joins it again. */
	store_set(test, tib / 2 + 5, tib / 2 + 6, 0);
	expect_shape(test, 2, 1);
	store_set(test, tib / 2 + 5, tib / 2 + 6, PRIVATE);
	expect_shape(test, 1, 0);

	/* Neighbours join, other attributes do not. */
	store_set(test, tib, 2 * tib, PRIVATE);
	expect_shape(test, 1, 0);
	store_set(test, tib, 2 * tib, PRIVATE | OTHER);
	expect_shape(test, 2, 0);

	store_set(test, 0, top, PRIVATE);
	expect_shape(test, 1, 0);
	KUNIT_EXPECT_EQ(test, PRIVATE,
			kvm_mem_attr_store_get(&t->store, top - 1));
	KUNIT_EXPECT_EQ(test, 0, kvm_mem_attr_store_get(&t->store, top));
	store_set(test, 0, top, 0);
	expect_shape(test, 0, 0);
}

/* Each way in which a range can lie in one or two blocks. */
static void store_edges(struct kunit *test)
{
	static const gfn_t edges[] = {
		BLOCK, BLOCK + 1, BLOCK + 255, 2 * BLOCK - 1, 2 * BLOCK,
		2 * BLOCK + 1, 3 * BLOCK - 1, 3 * BLOCK, 3 * BLOCK + 511,
		4 * BLOCK,
	};
	int i, j;

	for (i = 0; i < ARRAY_SIZE(edges); i++) {
		for (j = i + 1; j < ARRAY_SIZE(edges); j++) {
			model_set(test, edges[i], edges[j], PRIVATE);
			model_compare(test);
			model_set(test, edges[i], edges[j], 0);
			model_compare(test);
			expect_shape(test, 0, 0);
		}
	}
}

/* The worst case: a boundary at every page. */
static void store_alternating(struct kunit *test)
{
	gfn_t i;

	for (i = BLOCK; i < 4 * BLOCK; i += 2)
		model_set(test, i, i + 1, PRIVATE);
	model_compare(test);
	expect_shape(test, 0, 3);

	for (i = BLOCK + 1; i < 4 * BLOCK; i += 2)
		model_set(test, i, i + 1, PRIVATE);
	model_compare(test);
	expect_shape(test, 1, 0);

	/* A range over blocks of all kinds. */
	model_set(test, 2 * BLOCK + 7, 2 * BLOCK + 9, OTHER);
	model_set(test, BLOCK + 3, 3 * BLOCK + 3, 0);
	model_compare(test);
	expect_shape(test, 0, 2);
}

/* Thousands of boundaries, and what takes their place. */
static void store_many(struct kunit *test)
{
	struct store_test *t = test->priv;
	unsigned long i, n = 3000;

	for (i = 0; i < n; i++)
		store_set(test, i * BLOCK + 7, i * BLOCK + 8, PRIVATE);
	expect_shape(test, 0, n);
	for (i = 0; i < n; i++)
		store_set(test, i * BLOCK, (i + 1) * BLOCK,
			  i % 2 ? PRIVATE : OTHER);
	expect_shape(test, n, 0);

	store_set(test, 3, n * BLOCK - 3, 0);
	expect_shape(test, 0, 2);
	KUNIT_EXPECT_EQ(test, OTHER, kvm_mem_attr_store_get(&t->store, 2));
	KUNIT_EXPECT_EQ(test, PRIVATE,
			kvm_mem_attr_store_get(&t->store, n * BLOCK - 1));
	store_set(test, 0, n * BLOCK, 0);
	expect_shape(test, 0, 0);
}

static gfn_t random_page(struct store_test *t)
{
	gfn_t page = BLOCK + prandom_u32_state(&t->rnd) %
				(MODEL_PAGES - 2 * BLOCK + 1);

	/* Blocks' ends deserve more than their share. */
	if (prandom_u32_state(&t->rnd) % 3 == 0)
		page = ALIGN_DOWN(page, BLOCK);
	return page;
}

static void random_ranges(struct kunit *test, int count)
{
	static const u8 attrs[] = { 0, PRIVATE, OTHER, PRIVATE | OTHER };
	struct store_test *t = test->priv;
	int i;

	for (i = 0; i < count; i++) {
		gfn_t a = random_page(t), b = random_page(t);
		u8 value = attrs[prandom_u32_state(&t->rnd) % ARRAY_SIZE(attrs)];

		if (a == b)
			continue;

		/* Short ranges, or nothing would stay for long. */
		if (prandom_u32_state(&t->rnd) % 4)
			b = min(a + 1 + prandom_u32_state(&t->rnd) % 700,
				MODEL_PAGES - BLOCK);
		if (a == b)
			continue;

		model_set(test, min(a, b), max(a, b), value);

		a = random_page(t);
		b = min(a + 1 + prandom_u32_state(&t->rnd) % 1500,
			MODEL_PAGES);
		model_compare_range(test, a, b, value);
		model_compare_range(test, a, b, t->model[a]);

		if (i % 32 == 0) {
			model_compare(test);
			tree_shape(test);
		}
		cond_resched();
	}
	model_compare(test);
	tree_shape(test);
}

static void store_random(struct kunit *test)
{
	random_ranges(test, 3000);
}

/* The same where the index needs more than 32 bits of address. */
static void store_random_high(struct kunit *test)
{
	struct store_test *t = test->priv;

	t->base = (1ULL << 40) - MODEL_PAGES;
	random_ranges(test, 1000);
}

struct reader {
	struct kvm_mem_attr_store *store;
	unsigned long reads;
	bool wrong;
};

/*
 * While block 2 and its neighbours change between two values: block 1 never has
 * another value than PRIVATE, block 2 only these two or, for a moment, none.
 */
static int reader_thread(void *arg)
{
	struct reader *reader = arg;

	while (!kthread_should_stop()) {
		gfn_t offset = reader->reads++ % BLOCK;
		u8 stable = kvm_mem_attr_store_get(reader->store, BLOCK + offset);
		u8 busy = kvm_mem_attr_store_get(reader->store,
						 2 * BLOCK + offset);

		if (stable != PRIVATE ||
		    (busy && busy != PRIVATE && busy != OTHER))
			reader->wrong = true;
		if (!kvm_mem_attr_store_uniform(reader->store, BLOCK, 2 * BLOCK,
						PRIVATE))
			reader->wrong = true;
		if (reader->reads % 64 == 0)
			cond_resched();
	}
	return 0;
}

static void store_concurrent(struct kunit *test)
{
	struct store_test *t = test->priv;
	struct reader reader = { .store = &t->store };
	struct task_struct *task;
	int i;

	store_set(test, 0, 4 * BLOCK, PRIVATE);

	task = kthread_run(reader_thread, &reader, "mem_attr_reader");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));

	for (i = 0; i < 3000; i++) {
		gfn_t start = 2 * BLOCK + (i % 3 ? i % BLOCK : 0);

		store_set(test, start, 4 * BLOCK + i % 7, OTHER);
		store_set(test, start, 4 * BLOCK + i % 7, PRIVATE);
		cond_resched();
	}

	kthread_stop(task);
	KUNIT_EXPECT_GT(test, reader.reads, 0UL);
	KUNIT_EXPECT_FALSE(test, reader.wrong);
}

struct irq_reader {
	struct hrtimer timer;
	struct kvm_mem_attr_store *store;
	unsigned long reads;
	bool wrong;
};

static enum hrtimer_restart irq_reader_fn(struct hrtimer *timer)
{
	struct irq_reader *reader = container_of(timer, struct irq_reader, timer);
	gfn_t offset = reader->reads++ % BLOCK;

	if (kvm_mem_attr_store_get(reader->store, BLOCK + offset) != PRIVATE)
		reader->wrong = true;

	hrtimer_forward_now(timer, ns_to_ktime(20 * NSEC_PER_USEC));
	return HRTIMER_RESTART;
}

/* A reader in an interrupt, on the CPU on which the store is being changed. */
static void store_interrupts(struct kunit *test)
{
	struct store_test *t = test->priv;
	struct irq_reader reader = { .store = &t->store };
	unsigned long end = jiffies + HZ;
	int i = 0;

	store_set(test, 0, 4 * BLOCK, PRIVATE);

	migrate_disable();
	hrtimer_init(&reader.timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	reader.timer.function = irq_reader_fn;
	hrtimer_start(&reader.timer, ns_to_ktime(20 * NSEC_PER_USEC),
		      HRTIMER_MODE_REL_PINNED_HARD);

	while (time_before(jiffies, end)) {
		store_set(test, 2 * BLOCK + i % BLOCK, 4 * BLOCK + i % 7, OTHER);
		store_set(test, 2 * BLOCK + i % BLOCK, 4 * BLOCK + i % 7, PRIVATE);
		i++;
		cond_resched();
	}

	hrtimer_cancel(&reader.timer);
	migrate_enable();
	KUNIT_EXPECT_GT(test, reader.reads, 100UL);
	KUNIT_EXPECT_FALSE(test, reader.wrong);
}

static struct kunit_case store_cases[] = {
	KUNIT_CASE(store_empty),
	KUNIT_CASE(store_shape),
	KUNIT_CASE(store_edges),
	KUNIT_CASE(store_alternating),
	KUNIT_CASE(store_many),
	KUNIT_CASE(store_random),
	KUNIT_CASE(store_random_high),
	KUNIT_CASE(store_concurrent),
	KUNIT_CASE(store_interrupts),
	{}
};

static struct kunit_suite store_suite = {
	.name = "kvm_mem_attr_store",
	.init = store_test_init,
	.exit = store_test_exit,
	.test_cases = store_cases,
};

kunit_test_suite(store_suite);

MODULE_LICENSE("GPL");
