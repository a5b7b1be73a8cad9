// SPDX-License-Identifier: GPL-2.0-only
/*
 * Huge folios of a guest_memfd: where they are allocated, how large the guest's
 * mappings of them are, what part of them can be converted or punched, and that
 * the guest's data survive all that is not about them.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "processor.h"
#include "subtest.h"

#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define HUGE_SIZE	(2ULL << 20)
#define HUGE_PAGES	(HUGE_SIZE / PAGE_SIZE)
#define HUGE_ORDER	9
#define SEED		0x5eedULL
#define PARAMETER	"/sys/module/kvm/parameters/gmem_huge_folios"

static struct agent agents[3], *agent = &agents[0];
static struct kvm_vm *vm;
static void *hva;
static int fd;
static bool stop;

static void setup_vm(uint32_t nr_vcpus, uint64_t size)
{
	if (kvm_check_cap(KVM_CAP_GUEST_MEMFD_ORDER) != HUGE_ORDER)
		subtest_skip("a kernel without huge pages");

	vm = vm_create_agents(nr_vcpus, size / PAGE_SIZE, agents);
	virt_map(vm, GPA, GPA, size / PAGE_SIZE);
	hva = mmap(NULL, size + HUGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(hva != MAP_FAILED, "mmap() failed, errno: %d", errno);
	hva = (void *)(((uintptr_t)hva + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
}

/* One slot, one file, all private. */
static void setup_vcpus(uint32_t nr_vcpus, uint64_t nr_huge)
{
	uint64_t size = nr_huge * HUGE_SIZE;

	setup_vm(nr_vcpus, size);
	fd = vm_create_guest_memfd(vm, size);
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, size, hva, fd, 0);
	vm_mem_set_private(vm, GPA, size);
}

static void setup(uint64_t nr_huge)
{
	setup_vcpus(1, nr_huge);
}

static void punch(uint64_t first, uint64_t nr)
{
	int ret;

	/* EAGAIN: a vCPU has the page in its hands. */
	do {
		ret = guest_memfd_punch(fd, first * PAGE_SIZE, nr * PAGE_SIZE);
	} while (ret && errno == EAGAIN);
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("fallocate()", ret));
}

static uint64_t read_fdinfo(const char *name)
{
	char path[64], line[128], format[64];
	uint64_t value = UINT64_MAX;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	snprintf(format, sizeof(format), "%s: %%lu", name);
	file = fopen(path, "r");
	TEST_ASSERT(file, "%s: errno %d", path, errno);
	while (value == UINT64_MAX && fgets(line, sizeof(line), file))
		sscanf(line, format, &value);
	fclose(file);
	TEST_ASSERT(value != UINT64_MAX, "%s has no %s", path, name);
	return value;
}

#define assert_folios(_small, _huge)						\
do {										\
	ASSERT_EQ(read_fdinfo("small_folios"), (uint64_t)(_small));			\
	ASSERT_EQ(read_fdinfo("huge_folios"), (uint64_t)(_huge));			\
	ASSERT_EQ(read_fdinfo("private"),						\
		  ((_small) + (_huge) * HUGE_PAGES) * (PAGE_SIZE / 1024));	\
	ASSERT_EQ(guest_memfd_nr_pages(fd), (_small) + (_huge) * HUGE_PAGES);	\
} while (0)

static uint64_t nr_huge_mappings(void)
{
	return vm_get_stat(vm, "pages_2m");
}

static void touch(uint64_t page)
{
	agent_write(agent, GPA + page * PAGE_SIZE, page);
}

SUBTEST(huge_by_default)
{
	uint64_t mappings;

	setup(3);
	ASSERT_EQ(read_fdinfo("size"), 3 * HUGE_SIZE / 1024);
	ASSERT_EQ(read_fdinfo("shared"), 0ul);
	assert_folios(0, 0);

	mappings = nr_huge_mappings();
	touch(HUGE_PAGES);
	assert_folios(0, 1);
	touch(0);
	touch(3 * HUGE_PAGES - 1);
	assert_folios(0, 3);
	ASSERT_EQ(nr_huge_mappings(), mappings + 3);
	ASSERT_EQ(vm_get_stat(vm, "gmem_huge_allocs"), 3ul);

	agent_fill(agent, GPA, 3 * HUGE_SIZE, SEED);
	agent_check(agent, GPA, 3 * HUGE_SIZE, SEED);
	ASSERT_EQ(nr_huge_mappings(), mappings + 3);

	punch(0, 3 * HUGE_PAGES);
	assert_folios(0, 0);
	agent_check_const(agent, GPA, 3 * HUGE_SIZE, 0);
	assert_folios(0, 3);
	ASSERT_EQ(vm_get_stat(vm, "gmem_splits"), 0ul);
}

SUBTEST(allocation_is_what_was_asked_for)
{
	setup(3);
	TEST_ASSERT(!guest_memfd_alloc(fd, PAGE_SIZE, 2 * HUGE_SIZE), "fallocate()");
	assert_folios(HUGE_PAGES, 1);
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, 3 * HUGE_SIZE), "fallocate()");
	assert_folios(2 * HUGE_PAGES, 1);
	agent_check_const(agent, GPA, 3 * HUGE_SIZE, 0);
	assert_folios(2 * HUGE_PAGES, 1);
}

SUBTEST(file_edges)
{
	const uint64_t size = HUGE_SIZE + 3 * PAGE_SIZE;

	setup_vm(1, size);
	fd = vm_create_guest_memfd(vm, size);
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, size, hva, fd, 0);
	vm_mem_set_private(vm, GPA, 2 * HUGE_SIZE);
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, size), "fallocate()");
	assert_folios(3, 1);
	punch(0, HUGE_PAGES + 3);
	agent_fill(agent, GPA, size, SEED);
	assert_folios(3, 1);
	agent_check(agent, GPA, size, SEED);
}

/* @offset of the file at GPA + @start, for @size, and what the guest gets. */
static void check_slot(uint64_t start, uint64_t offset, uint64_t size,
		       uint64_t small, uint64_t huge)
{
	uint64_t mappings = nr_huge_mappings();

	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA + start, size,
				   hva + start, fd, offset);
	agent_fill(agent, GPA + start, size, SEED);
	assert_folios(small, huge);
	ASSERT_EQ(nr_huge_mappings(), mappings + huge);
	agent_check(agent, GPA + start, size, SEED);
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA + start, 0, NULL, -1, 0);
	punch(0, 3 * HUGE_PAGES);
}

SUBTEST(slot_edges)
{
	setup_vm(1, 3 * HUGE_SIZE);
	fd = vm_create_guest_memfd(vm, 3 * HUGE_SIZE);
	vm_mem_set_private(vm, GPA, 3 * HUGE_SIZE);

	check_slot(0, 0, 3 * HUGE_SIZE, 0, 3);
	check_slot(0, HUGE_SIZE, 2 * HUGE_SIZE, 0, 2);
	/* Starts, or ends, in the middle of a huge page. */
	check_slot(PAGE_SIZE, PAGE_SIZE, 2 * HUGE_SIZE - PAGE_SIZE, HUGE_PAGES - 1, 1);
	check_slot(0, 0, 2 * HUGE_SIZE - PAGE_SIZE, HUGE_PAGES - 1, 1);
	check_slot(HUGE_SIZE / 2, HUGE_SIZE / 2, HUGE_SIZE, HUGE_PAGES, 0);
	/* Guest and file are not equally aligned. */
	check_slot(0, PAGE_SIZE, 2 * HUGE_SIZE, 2 * HUGE_PAGES, 0);
	check_slot(HUGE_SIZE / 2, 0, HUGE_SIZE, HUGE_PAGES, 0);
}

/* A huge folio that reaches over a slot's end is not mapped beyond it. */
SUBTEST(slot_within_a_folio)
{
	uint64_t mappings;

	setup_vm(1, HUGE_SIZE);
	fd = vm_create_guest_memfd(vm, HUGE_SIZE);
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, HUGE_SIZE), "fallocate()");
	assert_folios(0, 1);
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, HUGE_SIZE / 2, hva,
				   fd, 0);
	vm_set_user_memory_region2(vm, SLOT + 1, KVM_MEM_GUEST_MEMFD, GPA + HUGE_SIZE / 2,
				   HUGE_SIZE / 2, hva + HUGE_SIZE / 2, fd, HUGE_SIZE / 2);
	mappings = nr_huge_mappings();
	agent_fill(agent, GPA, HUGE_SIZE, SEED);
	agent_check(agent, GPA, HUGE_SIZE, SEED);
	ASSERT_EQ(nr_huge_mappings(), mappings);
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, 0, NULL, -1, 0);
	agent_check(agent, GPA + HUGE_SIZE / 2, HUGE_SIZE / 2, SEED);
	agent_assert_memory_fault(agent, agent_start(agent, AGENT_READ, GPA, 0, 0), GPA,
				  KVM_MEMORY_EXIT_FLAG_PRIVATE);
}

static bool thp_is_enabled(void)
{
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
	char line[64] = "";

	if (!file)
		return false;
	if (!fgets(line, sizeof(line), file))
		line[0] = '\0';
	fclose(file);
	return line[0] && !strstr(line, "[never]");
}

/* How the shared memory is aligned is no concern of private memory. */
SUBTEST(hva_is_not_aligned)
{
	uint64_t mappings;

	setup_vm(1, 2 * HUGE_SIZE);
	fd = vm_create_guest_memfd(vm, 2 * HUGE_SIZE);
	madvise(hva, 2 * HUGE_SIZE, MADV_HUGEPAGE);
	memset(hva, 0x22, 2 * HUGE_SIZE);
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, 2 * HUGE_SIZE,
				   hva + PAGE_SIZE, fd, 0);
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	mappings = nr_huge_mappings();
	agent_fill(agent, GPA, HUGE_SIZE, SEED);
	agent_check_const(agent, GPA + HUGE_SIZE, HUGE_SIZE - PAGE_SIZE,
			  0x2222222222222222ul);
	agent_check(agent, GPA, HUGE_SIZE, SEED);
	ASSERT_EQ(nr_huge_mappings(), mappings + 1);

	/* Shared memory that is aligned has huge mappings, if the host has. */
	if (!thp_is_enabled())
		return;
	vm_mem_set_shared(vm, GPA, HUGE_SIZE);
	agent_check_const(agent, GPA, HUGE_SIZE, 0x2222222222222222ul);
	ASSERT_EQ(nr_huge_mappings(), mappings);
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, 0, NULL, -1, 0);
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, 2 * HUGE_SIZE, hva,
				   fd, 0);
	agent_check_const(agent, GPA, 2 * HUGE_SIZE, 0x2222222222222222ul);
	ASSERT_EQ(nr_huge_mappings(), mappings + 2);
}

/* No huge folio where part of the guest's memory is shared. */
SUBTEST(mixed_attributes)
{
	setup(2);
	vm_mem_set_shared(vm, GPA + 5 * PAGE_SIZE, PAGE_SIZE);
	touch(0);
	assert_folios(1, 0);
	touch(HUGE_PAGES);
	assert_folios(1, 1);
}

SUBTEST(order_of_a_file)
{
	struct kvm_vm *other;

	setup(1);
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_ORDER), HUGE_ORDER);
	TEST_ASSERT(__vm_enable_cap(vm, KVM_CAP_GUEST_MEMFD_ORDER, 1) == -1 &&
		    errno == EINVAL, "Order 1: errno %d", errno);
	TEST_ASSERT(__vm_enable_cap(vm, KVM_CAP_GUEST_MEMFD_ORDER, 1ULL << 32) == -1 &&
		    errno == EINVAL, "Order 2^32: errno %d", errno);
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_ORDER), HUGE_ORDER);

	vm_enable_cap(vm, KVM_CAP_GUEST_MEMFD_ORDER, 0);
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_ORDER), 0);
	/* Not the file that exists, */
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, HUGE_SIZE), "fallocate()");
	assert_folios(0, 1);
	/* but the next one, */
	fd = vm_create_guest_memfd(vm, HUGE_SIZE);
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, HUGE_SIZE), "fallocate()");
	assert_folios(HUGE_PAGES, 0);
	/* and not the one after the next. */
	vm_enable_cap(vm, KVM_CAP_GUEST_MEMFD_ORDER, HUGE_ORDER);
	fd = vm_create_guest_memfd(vm, HUGE_SIZE);
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, HUGE_SIZE), "fallocate()");
	assert_folios(0, 1);

	other = vm_create_barebones();
	TEST_ASSERT(__vm_enable_cap(other, KVM_CAP_GUEST_MEMFD_ORDER, 0) == -1 &&
		    errno == EINVAL, "Without private memory: errno %d", errno);
}

static void set_parameter(const char *value)
{
	int file = open(PARAMETER, O_WRONLY);

	if (file < 0)
		subtest_skip("no " PARAMETER);
	TEST_ASSERT(write(file, value, 1) == 1, PARAMETER ": errno %d", errno);
	close(file);
}

static void restore_parameter(void)
{
	set_parameter("Y");
}

SUBTEST(administrator_says_no)
{
	setup(2);
	touch(0);
	assert_folios(0, 1);
	atexit(restore_parameter);
	set_parameter("N");
	touch(HUGE_PAGES);
	assert_folios(1, 1);
	set_parameter("Y");
	punch(HUGE_PAGES, 1);
	touch(HUGE_PAGES);
	assert_folios(0, 2);
}

/*
 * Each page of a huge page is shared in turn: the mapping shrinks, the folio
 * and its data stay, and the mapping grows again; but not if that happens all
 * the time.
 */
SUBTEST(convert_each_page)
{
	uint64_t mappings, faults, restored = 0, i;
	time_t start = time(NULL);

	setup(2);
	agent_fill(agent, GPA, 2 * HUGE_SIZE, SEED);
	memset(hva, 0x11, HUGE_SIZE);
	mappings = nr_huge_mappings();

	for (i = 0; i < HUGE_PAGES; i++) {
		uint64_t gpa = GPA + i * PAGE_SIZE;

		vm_mem_set_shared(vm, gpa, PAGE_SIZE);
		ASSERT_EQ(nr_huge_mappings(), mappings - 1);
		ASSERT_EQ(agent_read(agent, gpa), 0x1111111111111111ul);
		if (i)
			agent_check(agent, gpa - PAGE_SIZE, PAGE_SIZE, SEED);
		agent_check(agent, gpa + PAGE_SIZE, PAGE_SIZE, SEED);
		ASSERT_EQ(nr_huge_mappings(), mappings - 1);

		vm_mem_set_private(vm, gpa, PAGE_SIZE);
		agent_check(agent, gpa, PAGE_SIZE, SEED);
		restored += nr_huge_mappings() == mappings;
		if (!i)
			ASSERT_EQ(restored, 1ul);
	}
	assert_folios(0, 2);
	TEST_ASSERT(restored <= 2 * (time(NULL) - start + 2),
		    "Mapped as one again %lu times in %ld s", restored,
		    (long)(time(NULL) - start));

	/* It costs the page's own faults, and no others. */
	faults = agent_nr_faults(agent);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	agent_read(agent, GPA);
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	agent_check(agent, GPA, 2 * HUGE_SIZE, SEED);
	ASSERT_EQ(agent_nr_faults(agent), faults + 2);

	/* After a rest, or when all of it is converted, it is huge again. */
	sleep(3);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	agent_check(agent, GPA, 2 * HUGE_SIZE, SEED);
	ASSERT_EQ(nr_huge_mappings(), mappings);

	for (i = 0; i < 20; i++) {
		vm_mem_set_shared(vm, GPA, PAGE_SIZE);
		vm_mem_set_private(vm, GPA, PAGE_SIZE);
		agent_check(agent, GPA, PAGE_SIZE, SEED);
	}
	vm_mem_set_shared(vm, GPA, HUGE_SIZE);
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	agent_check(agent, GPA, 2 * HUGE_SIZE, SEED);
	ASSERT_EQ(nr_huge_mappings(), mappings);
	ASSERT_EQ(vm_get_stat(vm, "gmem_splits"), 0ul);
}

static void *punch_and_allocate(void *arg)
{
	while (!READ_ONCE(stop)) {
		guest_memfd_alloc(fd, 0, HUGE_SIZE);
		punch(1, 1);
		punch(0, HUGE_PAGES);
	}
	return NULL;
}

/* fdinfo is read while folios come and go. */
SUBTEST(fdinfo_of_a_busy_file)
{
	uint64_t small, huge;
	pthread_t thread;
	int i;

	setup(1);
	pthread_create(&thread, NULL, punch_and_allocate, NULL);
	for (i = 0; i < 2000; i++) {
		small = read_fdinfo("small_folios");
		huge = read_fdinfo("huge_folios");
		TEST_ASSERT(small <= HUGE_PAGES && huge <= 1, "%lu small, %lu huge folios",
			    small, huge);
	}
	WRITE_ONCE(stop, true);
	pthread_join(thread, NULL);
}

/*
 * So many since there were @before.  The host may move the agent's own pages; if
 * small mappings were gone it would be hundreds.
 */
static void assert_faults(uint64_t before, uint64_t expected)
{
	uint64_t nr = agent_nr_faults(agent) - before;

	TEST_ASSERT(nr >= expected && nr <= expected + 8,
		    "%lu faults, not %lu", nr, expected);
}

/* What lies around a page that is converted, or punched, stays mapped. */
SUBTEST(neighbours_stay_mapped)
{
	uint64_t faults;

	setup(2);
	agent_fill(agent, GPA, 2 * HUGE_SIZE, SEED);
	faults = agent_nr_faults(agent);

	vm_mem_set_shared(vm, GPA + HUGE_SIZE - PAGE_SIZE, 2 * PAGE_SIZE);
	agent_check(agent, GPA, HUGE_SIZE - PAGE_SIZE, SEED);
	agent_check(agent, GPA + HUGE_SIZE + PAGE_SIZE, HUGE_SIZE - PAGE_SIZE, SEED);
	assert_faults(faults, 0);

	vm_mem_set_private(vm, GPA, 2 * HUGE_SIZE);
	agent_check(agent, GPA, 2 * HUGE_SIZE, SEED);
	faults = agent_nr_faults(agent);
	punch(HUGE_PAGES - 1, 2);
	agent_check(agent, GPA, HUGE_SIZE - PAGE_SIZE, SEED);
	agent_check(agent, GPA + HUGE_SIZE + PAGE_SIZE, HUGE_SIZE - PAGE_SIZE, SEED);
	assert_faults(faults, 0);
	agent_check_const(agent, GPA + HUGE_SIZE - PAGE_SIZE, 2 * PAGE_SIZE, 0);
	assert_faults(faults, 2);
}

/* Each page of a huge page is punched in turn: it alone is freed, and zero. */
SUBTEST(punch_each_page)
{
	uint64_t i;

	setup(1);
	for (i = 0; i < HUGE_PAGES; i++) {
		uint64_t before = (i + HUGE_PAGES - 1) % HUGE_PAGES;
		uint64_t after = (i + 1) % HUGE_PAGES;
		uint64_t far = (i + 77) % HUGE_PAGES;

		agent_write(agent, GPA + i * PAGE_SIZE, 1);
		assert_folios(0, 1);
		agent_write(agent, GPA + before * PAGE_SIZE, 2);
		agent_write(agent, GPA + after * PAGE_SIZE, 3);
		agent_write(agent, GPA + far * PAGE_SIZE, 4);

		punch(i, 1);
		assert_folios(HUGE_PAGES - 1, 0);
		ASSERT_EQ(agent_read(agent, GPA + before * PAGE_SIZE), 2ul);
		ASSERT_EQ(agent_read(agent, GPA + after * PAGE_SIZE), 3ul);
		ASSERT_EQ(agent_read(agent, GPA + far * PAGE_SIZE), 4ul);
		assert_folios(HUGE_PAGES - 1, 0);
		ASSERT_EQ(agent_read(agent, GPA + i * PAGE_SIZE), 0ul);
		assert_folios(HUGE_PAGES, 0);

		/* When all is gone, there is room for a huge one again. */
		punch(0, HUGE_PAGES);
		assert_folios(0, 0);
	}
	ASSERT_EQ(vm_get_stat(vm, "gmem_splits"), HUGE_PAGES);
}

static const struct {
	uint64_t first, nr;
} holes[] = {
	{ 0, HUGE_PAGES - 1 },
	{ 1, HUGE_PAGES - 1 },
	{ 1, HUGE_PAGES },
	{ HUGE_PAGES / 2, HUGE_PAGES / 2 },
	{ HUGE_PAGES / 2, HUGE_PAGES },
	{ HUGE_PAGES - 1, 2 },
	{ HUGE_PAGES, 1 },
	{ HUGE_PAGES, HUGE_PAGES },
	{ HUGE_PAGES - 1, HUGE_PAGES + 2 },
	{ 3, 3 * HUGE_PAGES - 6 },
	{ 3 * HUGE_PAGES - 1, 1 },
	{ 0, 3 * HUGE_PAGES },
};

/* Three huge folios, a hole at every kind of place, all words checked. */
SUBTEST(punch_ranges)
{
	uint64_t i, end, splits, gone;

	setup(3);
	for (i = 0; i < ARRAY_SIZE(holes); i++) {
		uint64_t first = holes[i].first, nr = holes[i].nr;

		end = first + nr;
		agent_fill(agent, GPA, 3 * HUGE_SIZE, SEED + i);
		assert_folios(0, 3);
		splits = vm_get_stat(vm, "gmem_splits");
		punch(first, nr);
		splits = vm_get_stat(vm, "gmem_splits") - splits;

		/* No folio is split that does not need to be. */
		gone = end / HUGE_PAGES - first / HUGE_PAGES;
		if (first % HUGE_PAGES)
			ASSERT_EQ(splits, 1ul + (end % HUGE_PAGES && gone));
		else
			ASSERT_EQ(splits, (uint64_t)!!(end % HUGE_PAGES));
		ASSERT_EQ(guest_memfd_nr_pages(fd), 3 * HUGE_PAGES - nr);

		agent_check(agent, GPA, first * PAGE_SIZE, SEED + i);
		agent_check(agent, GPA + end * PAGE_SIZE, 3 * HUGE_SIZE - end * PAGE_SIZE,
			    SEED + i);
		agent_check_const(agent, GPA + first * PAGE_SIZE, nr * PAGE_SIZE, 0);
		punch(0, 3 * HUGE_PAGES);
	}
}

/* What was allocated but never handed out is still zeroed after a split. */
SUBTEST(punch_before_first_use)
{
	setup(1);
	agent_fill(agent, GPA, HUGE_SIZE, SEED);
	punch(0, HUGE_PAGES);
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, HUGE_SIZE), "fallocate()");
	punch(100, 1);
	assert_folios(HUGE_PAGES - 1, 0);
	agent_check_const(agent, GPA, HUGE_SIZE, 0);
}

/*
 * What the architecture is told
 */
#define TRACING		"/sys/kernel/debug/tracing/"

static void trace_write(const char *file, const char *value)
{
	char path[128];
	int f;

	snprintf(path, sizeof(path), TRACING "%s", file);
	f = open(path, O_WRONLY | O_TRUNC);
	TEST_ASSERT(f >= 0, "%s: errno %d", path, errno);
	TEST_ASSERT(write(f, value, strlen(value)) == strlen(value), "%s: errno %d",
		    path, errno);
	close(f);
}

/* How often @event came with @what; the order of things is not looked at. */
static int count_events(const char *event, const char *what)
{
	FILE *file = fopen(TRACING "trace", "r");
	char line[512];
	int nr = 0;

	TEST_ASSERT(file, TRACING "trace: errno %d", errno);
	while (fgets(line, sizeof(line), file))
		nr += strstr(line, event) && strstr(line, what);
	fclose(file);
	return nr;
}

static void stop_tracing(void)
{
	trace_write("events/kvm_gmem/enable", "0");
	trace_write("events/kvm/kvm_set_mem_attributes/enable", "0");
}

SUBTEST(hooks_see_the_order)
{
	if (access(TRACING "events/kvm_gmem", F_OK))
		subtest_skip("no " TRACING "events/kvm_gmem");

	setup(1);
	atexit(stop_tracing);
	trace_write("trace", "\n");
	trace_write("events/kvm_gmem/enable", "1");
	trace_write("events/kvm/kvm_set_mem_attributes/enable", "1");

	touch(3);
	ASSERT_EQ(count_events("kvm_gmem_allocate:", "index 0x0 "), 1);
	ASSERT_EQ(count_events("kvm_gmem_allocate:", "order 9"), 1);
	ASSERT_EQ(count_events("kvm_gmem_prepare:", "gfn 0x100003 "), 1);
	ASSERT_EQ(count_events("kvm_gmem_prepare:", "order 9 ret 0"), 1);

	/* The folio stays huge when part of it is shared. */
	vm_mem_set_shared(vm, GPA + PAGE_SIZE, PAGE_SIZE);
	ASSERT_EQ(count_events("kvm_set_mem_attributes:",
			       "gfn [0x100001, 0x100002) attributes 0x0"), 1);
	vm_mem_set_private(vm, GPA + PAGE_SIZE, PAGE_SIZE);
	touch(1);
	ASSERT_EQ(count_events("kvm_gmem_prepare:", "order 9 ret 0"), 2);
	ASSERT_EQ(count_events("kvm_gmem_invalidate:", "pfn"), 0);

	/* A page leaves, and another comes in its place. */
	punch(5, 1);
	ASSERT_EQ(count_events("kvm_gmem_split:", "ret 0"), 1);
	ASSERT_EQ(count_events("kvm_gmem_invalidate:", "pfn"), 1);
	touch(5);
	ASSERT_EQ(count_events("kvm_gmem_prepare:", "order 0 ret 0"), 1);
	punch(0, HUGE_PAGES);
	ASSERT_EQ(count_events("kvm_gmem_invalidate:", "pfn"), (int)HUGE_PAGES + 1);

	/* A huge folio leaves as one. */
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, HUGE_SIZE), "fallocate()");
	trace_write("trace", "\n");
	punch(0, HUGE_PAGES);
	ASSERT_EQ(count_events("kvm_gmem_invalidate:", "pfn"), 1);
}

/*
 * Races: one thread punches, one converts, two vCPUs write.  Every eighth page
 * is not theirs to punch or convert, and keeps the guest's data.
 */
#define RACE_PAGES	(2 * HUGE_PAGES)
#define NR_RACES	1000

static uint64_t prng(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return *state >> 33;
}

/*
 * A page is punched while its neighbour faults: the fault must not map the huge
 * page as it was, or the guest keeps a page that has been freed.
 */
#define NR_MEETINGS	1500

static pthread_barrier_t barrier;

static void spin(uint64_t nr)
{
	while (nr--)
		asm volatile("pause");
}

static void *fault_beside(void *arg)
{
	uint64_t state = 4, i;

	for (i = 0; i < NR_MEETINGS; i++) {
		pthread_barrier_wait(&barrier);
		spin(prng(&state) % 512);
		agent_read(&agents[1], GPA + (i % 200 + 7) * PAGE_SIZE);
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

SUBTEST(punch_beside_a_fault)
{
	uint64_t state = 5, i, page;
	pthread_t thread;

	setup_vcpus(2, 1);
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, fault_beside, NULL);

	for (i = 0; i < NR_MEETINGS; i++) {
		/* A folio with data, but no mapping. */
		page = i % 2 ? 5 : HUGE_PAGES - 5;
		touch(page);
		vm_mem_set_shared(vm, GPA, HUGE_SIZE);
		vm_mem_set_private(vm, GPA, HUGE_SIZE);

		pthread_barrier_wait(&barrier);
		spin(prng(&state) % 512);
		punch(page, 1);
		pthread_barrier_wait(&barrier);

		ASSERT_EQ(agent_read(agent, GPA + page * PAGE_SIZE), 0ul);
		punch(0, HUGE_PAGES);
	}
	pthread_join(thread, NULL);
}

/* Within seven pages between two of those that are to stay. */
static void prng_range(uint64_t *state, uint64_t *first, uint64_t *nr)
{
	uint64_t in = prng(state) % 7;

	*first = prng(state) % (RACE_PAGES / 8) * 8 + 1 + in;
	*nr = prng(state) % (7 - in) + 1;
}

static void *punch_loop(void *arg)
{
	uint64_t state = 1, first, nr;

	while (!READ_ONCE(stop)) {
		prng_range(&state, &first, &nr);
		punch(first, nr);
		/* There must be huge folios to split. */
		if (prng(&state) % 4 == 0)
			guest_memfd_alloc(fd, 2 * HUGE_SIZE, HUGE_SIZE);
		if (prng(&state) % 4 == 0)
			punch(2 * HUGE_PAGES + prng(&state) % HUGE_PAGES, 1);
		if (prng(&state) % 4 == 0)
			punch(2 * HUGE_PAGES, HUGE_PAGES);
		/* Let the guests' faults have a chance. */
		usleep(100);
	}
	return NULL;
}

static void *convert_loop(void *arg)
{
	uint64_t state = 2, first, nr;

	while (!READ_ONCE(stop)) {
		prng_range(&state, &first, &nr);
		vm_mem_set_shared(vm, GPA + first * PAGE_SIZE, nr * PAGE_SIZE);
		prng_range(&state, &first, &nr);
		vm_mem_set_private(vm, GPA + first * PAGE_SIZE, nr * PAGE_SIZE);
		if (prng(&state) % 4 == 0) {
			uint64_t gpa = GPA + 2 * HUGE_SIZE + first % HUGE_PAGES * PAGE_SIZE;

			vm_mem_set_shared(vm, gpa, PAGE_SIZE);
			vm_mem_set_private(vm, gpa, PAGE_SIZE);
		}
		usleep(100);
	}
	return NULL;
}

/* Pages that stay, a vCPU's half of them, and others in between. */
static void *guest_loop(void *arg)
{
	struct agent *a = arg;
	uint64_t odd = a - agents, state = 3 + odd, i, page;
	static uint64_t values[2][RACE_PAGES / 16];

	for (i = 0; i < NR_RACES; i++) {
		uint64_t at = prng(&state) % (RACE_PAGES / 16);
		uint64_t gpa = GPA + (at * 16 + odd * 8) * PAGE_SIZE;
		uint64_t got = agent_read(a, gpa);

		TEST_ASSERT(got == values[odd][at], "0x%lx: %lu, not %lu", gpa, got,
			    values[odd][at]);
		values[odd][at] = i + 1;
		agent_write(a, gpa, i + 1);

		page = prng(&state) % RACE_PAGES;
		if (page % 8)
			agent_write(a, GPA + page * PAGE_SIZE, i);
		/* The third huge page comes and goes as one. */
		agent_write(a, GPA + 2 * HUGE_SIZE + prng(&state) % HUGE_PAGES * PAGE_SIZE, i);
	}
	return NULL;
}

SUBTEST(races)
{
	pthread_t puncher, converter, guests[2];
	uint64_t i;

	setup_vcpus(2, 3);
	pthread_create(&puncher, NULL, punch_loop, NULL);
	pthread_create(&converter, NULL, convert_loop, NULL);
	for (i = 0; i < 2; i++)
		pthread_create(&guests[i], NULL, guest_loop, &agents[i]);
	for (i = 0; i < 2; i++)
		pthread_join(guests[i], NULL);
	WRITE_ONCE(stop, true);
	pthread_join(puncher, NULL);
	pthread_join(converter, NULL);

	ksft_print_msg("%lu splits, %lu failed\n", vm_get_stat(vm, "gmem_splits"),
		       vm_get_stat(vm, "gmem_split_failures"));
	TEST_ASSERT(vm_get_stat(vm, "gmem_splits"), "Nothing was split");

	/* Whatever is mapped still is no page that has been freed. */
	vm_mem_set_private(vm, GPA, 3 * HUGE_SIZE);
	agent_fill(agent, GPA, 3 * HUGE_SIZE, SEED);
	punch(2 * HUGE_PAGES, HUGE_PAGES);
	agent_check_const(agent, GPA + 2 * HUGE_SIZE, HUGE_SIZE, 0);
	agent_check_const(&agents[1], GPA + 2 * HUGE_SIZE, HUGE_SIZE, 0);
	agent_check(&agents[1], GPA, 2 * HUGE_SIZE, SEED);
	punch(0, 3 * HUGE_PAGES);
	assert_folios(0, 0);
}

int main(int argc, char *argv[])
{
	require_private_mem();

	subtest_main(argc, argv);
}
