// SPDX-License-Identifier: GPL-2.0-only
/*
 * Conversions between private and shared memory: what the guest and the host
 * see, before and after, in the range and around it.
 *
 * The model: a private and a shared page exist side by side for each guest
 * page that has a guest_memfd.  The attribute says which one the guest sees;
 * the host always sees the shared one.  A conversion copies nothing and frees
 * nothing, a hole in the file makes the private page zero.
 */
#define _GNU_SOURCE
#include <linux/kvm_para.h>
#include <pthread.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "processor.h"
#include "subtest.h"

#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define HUGE_SIZE	(2ULL << 20)

/* Each vCPU has a region to itself: three huge pages. */
#define REGION_SIZE	(3 * HUGE_SIZE)
#define REGION_PAGES	(REGION_SIZE / PAGE_SIZE)

#define MAX_VCPUS	4

static struct agent agents[MAX_VCPUS], *agent = &agents[0];
static struct kvm_vm *vm;

static void setup_vm(uint32_t nr_vcpus)
{
	vm = vm_create_agents(nr_vcpus, nr_vcpus * REGION_PAGES, agents);
	virt_map(vm, GPA, GPA, nr_vcpus * REGION_PAGES);
	vm_enable_cap(vm, KVM_CAP_EXIT_HYPERCALL, 1 << KVM_HC_MAP_GPA_RANGE);
}

/* One vCPU, one slot, all shared. */
static void setup(void)
{
	setup_vm(1);
	vm_mem_region_add_private(vm, GPA, SLOT, REGION_PAGES, -1, 0);
}

/*
 * The life of a range, from @gpa on for @size, within a region that starts all
 * shared and ends so.
 */
static void convert_range(struct agent *a, uint64_t region, uint64_t gpa,
			  uint64_t size)
{
	uint64_t end = gpa + size, region_end = region + REGION_SIZE;
	uint64_t before = gpa - region, after = region_end - end;
	/* Seeds; different for each range, to notice what was there before. */
	uint64_t shared = gpa + size, private = shared + 1, host = shared + 2;

	/* The neighbourhood that is checked in detail, to save time. */
	before = before > 16 * PAGE_SIZE ? 16 * PAGE_SIZE : before;
	after = after > 16 * PAGE_SIZE ? 16 * PAGE_SIZE : after;

	/* Shared memory is the same to both. */
	vm_mem_fill(vm, gpa - before, before + size + after, shared);
	agent_check(a, gpa - before, before + size + after, shared);

	/* Private memory starts as zero, and is the guest's alone. */
	agent_convert(a, gpa, size, true);
	agent_check_const(a, gpa, size, 0);
	agent_fill(a, gpa, size, private);
	agent_check(a, gpa, size, private);
	vm_mem_check(vm, gpa - before, before + size + after, shared);

	/* Around it nothing has changed, in either direction. */
	agent_check(a, gpa - before, before, shared);
	agent_check(a, end, after, shared);
	vm_mem_fill(vm, gpa, size, host);
	agent_check(a, gpa, size, private);

	/* Neighbours that are converted do not concern it. */
	if (before) {
		agent_convert(a, gpa - PAGE_SIZE, PAGE_SIZE, true);
		agent_fill(a, gpa - PAGE_SIZE, PAGE_SIZE, private);
		agent_check(a, gpa, PAGE_SIZE, private);
		agent_convert(a, gpa - PAGE_SIZE, PAGE_SIZE, false);
		agent_check(a, gpa - before, before, shared);
	}
	if (after) {
		agent_convert(a, end, PAGE_SIZE, true);
		agent_fill(a, end, PAGE_SIZE, private);
		agent_check(a, end - PAGE_SIZE, PAGE_SIZE, private);
		agent_convert(a, end, PAGE_SIZE, false);
		agent_check(a, end, after, shared);
	}
	agent_check(a, gpa, size, private);

	/* Parts of it can be shared, and private again. */
	if (size > 2 * PAGE_SIZE) {
		uint64_t mid = gpa + (size / 2 & PAGE_MASK);

		agent_convert(a, mid, PAGE_SIZE, false);
		agent_check(a, mid, PAGE_SIZE, host);
		agent_check(a, gpa, mid - gpa, private);
		agent_check(a, mid + PAGE_SIZE, end - mid - PAGE_SIZE, private);
		agent_convert(a, mid, PAGE_SIZE, true);
		agent_check(a, mid, PAGE_SIZE, private);
	}

	/* There and back again, without a hole and with one. */
	agent_convert(a, gpa, size, false);
	agent_check(a, gpa, size, host);
	agent_fill(a, gpa, size, shared);
	vm_mem_check(vm, gpa, size, shared);
	agent_convert(a, gpa, size, true);
	agent_check(a, gpa, size, private);

	agent_convert(a, gpa, size, false);
	vm_mem_punch(vm, gpa, size);
	agent_check(a, gpa, size, shared);
	agent_convert(a, gpa, size, true);
	agent_check_const(a, gpa, size, 0);

	/* A hole while the guest has it mapped. */
	agent_fill(a, gpa, size, private);
	vm_mem_punch(vm, gpa, size);
	agent_check_const(a, gpa, size, 0);

	agent_convert(a, gpa, size, false);
	vm_mem_punch(vm, gpa - before, before + size + after);
}

static const struct {
	uint64_t offset, size;
} ranges[] = {
	{ 0, PAGE_SIZE },
	{ PAGE_SIZE, PAGE_SIZE },
	{ 5 * PAGE_SIZE, 2 * PAGE_SIZE },
	{ HUGE_SIZE - PAGE_SIZE, PAGE_SIZE },
	{ HUGE_SIZE - PAGE_SIZE, 2 * PAGE_SIZE },
	{ HUGE_SIZE, PAGE_SIZE },
	{ HUGE_SIZE - 8 * PAGE_SIZE, 16 * PAGE_SIZE },
	{ 17 * PAGE_SIZE, 64 * PAGE_SIZE },
	{ 0, HUGE_SIZE - PAGE_SIZE },
	{ PAGE_SIZE, HUGE_SIZE - PAGE_SIZE },
	{ HUGE_SIZE, HUGE_SIZE },
	{ HUGE_SIZE / 2, HUGE_SIZE },
	{ HUGE_SIZE - PAGE_SIZE, HUGE_SIZE + 2 * PAGE_SIZE },
	{ 0, REGION_SIZE },
	{ REGION_SIZE - PAGE_SIZE, PAGE_SIZE },
};

static void convert_ranges(struct agent *a, int first, int step)
{
	uint64_t region = GPA + a->vcpu->id * REGION_SIZE;
	int i;

	for (i = first; i < ARRAY_SIZE(ranges); i += step)
		convert_range(a, region, region + ranges[i].offset, ranges[i].size);
}

static void convert_all_ranges(struct agent *a)
{
	convert_ranges(a, 0, 1);
}

/* Each vCPU has its own share of the ranges, in its own region. */
static void *convert_in_thread(void *arg)
{
	struct agent *a = arg;

	convert_ranges(a, a->vcpu->id, MAX_VCPUS);
	return NULL;
}

static void convert_on_vcpus(uint32_t nr_vcpus)
{
	pthread_t threads[MAX_VCPUS];
	int i;

	for (i = 0; i < nr_vcpus; i++)
		TEST_ASSERT(!pthread_create(&threads[i], NULL, convert_in_thread, &agents[i]),
			    "pthread_create()");
	for (i = 0; i < nr_vcpus; i++)
		pthread_join(threads[i], NULL);
}

SUBTEST(one_vcpu_one_slot)
{
	setup();
	convert_all_ranges(agent);
}

SUBTEST(one_vcpu_huge_shared_pages)
{
	setup_vm(1);
	__vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS_THP, GPA, SLOT,
				      REGION_PAGES, KVM_MEM_GUEST_MEMFD, -1, 0);
	convert_all_ranges(agent);
}

SUBTEST(one_vcpu_shmem_shared_pages)
{
	setup_vm(1);
	__vm_userspace_mem_region_add(vm, VM_MEM_SRC_SHMEM, GPA, SLOT,
				      REGION_PAGES, KVM_MEM_GUEST_MEMFD, -1, 0);
	convert_ranges(agent, 0, 2);
}

SUBTEST(one_vcpu_file_offset)
{
	int fd;

	/* Neither the same as the address's offset, nor aligned like it. */
	setup_vm(1);
	fd = vm_create_guest_memfd(vm, REGION_SIZE + HUGE_SIZE);
	vm_mem_region_add_private(vm, GPA, SLOT, REGION_PAGES, fd, 77 * PAGE_SIZE);
	convert_ranges(agent, 1, 2);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
}

SUBTEST(one_vcpu_small_slots)
{
	uint64_t gpa = GPA, pages;
	uint32_t slot = SLOT;

	/* Ranges that cross slots, each with a file to itself. */
	setup_vm(1);
	for (pages = 1; gpa < GPA + REGION_SIZE; pages = pages * 3 + 1) {
		if (pages > (GPA + REGION_SIZE - gpa) / PAGE_SIZE)
			pages = (GPA + REGION_SIZE - gpa) / PAGE_SIZE;
		vm_mem_region_add_private(vm, gpa, slot++, pages, -1, 0);
		gpa += pages * PAGE_SIZE;
	}
	convert_ranges(agent, 0, 2);
}

SUBTEST(vcpus_share_a_slot)
{
	setup_vm(MAX_VCPUS);
	vm_mem_region_add_private(vm, GPA, SLOT, MAX_VCPUS * REGION_PAGES, -1, 0);
	convert_on_vcpus(MAX_VCPUS);
}

SUBTEST(vcpus_with_a_slot_each)
{
	int i, fd;

	/* All in one file, in the opposite order. */
	setup_vm(MAX_VCPUS);
	fd = vm_create_guest_memfd(vm, MAX_VCPUS * REGION_SIZE);
	for (i = 0; i < MAX_VCPUS; i++)
		vm_mem_region_add_private(vm, GPA + i * REGION_SIZE, SLOT + i, REGION_PAGES,
					  fd, (MAX_VCPUS - 1 - i) * REGION_SIZE);
	convert_on_vcpus(MAX_VCPUS);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
}

SUBTEST(vcpus_with_a_file_each)
{
	int i;

	setup_vm(MAX_VCPUS);
	for (i = 0; i < MAX_VCPUS; i++)
		vm_mem_region_add_private(vm, GPA + i * REGION_SIZE, SLOT + i, REGION_PAGES,
					  -1, 0);
	convert_on_vcpus(MAX_VCPUS);
}

/*
 * Single rules
 */
SUBTEST(all_is_shared_at_first)
{
	setup();
	vm_mem_fill(vm, GPA, REGION_SIZE, 1);
	agent_check(agent, GPA, REGION_SIZE, 1);
	ASSERT_EQ(guest_memfd_nr_pages(memslot2region(vm, SLOT)->guest_memfd), 0ul);
}

SUBTEST(all_is_shared_at_first_in_next_vm)
{
	setup();
	vm_mem_set_private(vm, 0, 1ULL << vm->pa_bits);
	kvm_vm_free(vm);

	setup();
	vm_mem_fill(vm, GPA, PAGE_SIZE, 1);
	agent_check(agent, GPA, PAGE_SIZE, 1);
}

SUBTEST(attributes_before_slot)
{
	uint64_t first = GPA + 3 * PAGE_SIZE, len = HUGE_SIZE + 9 * PAGE_SIZE;

	/* Edges inside huge pages; the slot does not start with one. */
	setup_vm(1);
	vm_mem_set_private(vm, first, len);
	vm_mem_region_add_private(vm, GPA + PAGE_SIZE, SLOT, REGION_PAGES - 1, -1, 0);

	vm_mem_fill(vm, GPA + PAGE_SIZE, REGION_SIZE - PAGE_SIZE, 5);
	agent_check_const(agent, first, len, 0);
	agent_check(agent, GPA + PAGE_SIZE, 2 * PAGE_SIZE, 5);
	agent_check(agent, first + len, GPA + REGION_SIZE - first - len, 5);
	agent_fill(agent, first, len, 6);
	vm_mem_check(vm, GPA + PAGE_SIZE, REGION_SIZE - PAGE_SIZE, 5);
}

SUBTEST(attributes_outlive_slot)
{
	int fd, i;

	setup_vm(1);
	fd = vm_create_guest_memfd(vm, REGION_SIZE);
	vm_mem_set_private(vm, GPA + HUGE_SIZE, HUGE_SIZE);

	for (i = 0; i < 3; i++) {
		vm_mem_region_add_private(vm, GPA, SLOT, REGION_PAGES, fd, 0);
		vm_mem_fill(vm, GPA, REGION_SIZE, 100 + i);
		if (i)
			agent_check(agent, GPA + HUGE_SIZE, HUGE_SIZE, 1);
		agent_fill(agent, GPA + HUGE_SIZE, HUGE_SIZE, 1);
		agent_check(agent, GPA, HUGE_SIZE, 100 + i);
		agent_check(agent, GPA + 2 * HUGE_SIZE, HUGE_SIZE, 100 + i);
		vm_mem_region_delete(vm, SLOT);
	}
}

SUBTEST(attributes_set_twice)
{
	setup();
	agent_convert(agent, GPA, REGION_SIZE, true);
	agent_fill(agent, GPA, REGION_SIZE, 3);
	agent_convert(agent, GPA + PAGE_SIZE, HUGE_SIZE, true);
	agent_convert(agent, GPA, REGION_SIZE, true);
	agent_check(agent, GPA, REGION_SIZE, 3);
	agent_convert(agent, GPA, REGION_SIZE, false);
	agent_convert(agent, GPA, REGION_SIZE, false);
	agent_check_const(agent, GPA, REGION_SIZE, 0);
}

SUBTEST(attributes_error_changes_nothing)
{
	int ret;

	setup();
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	agent_fill(agent, GPA, HUGE_SIZE, 3);
	vm_mem_fill(vm, GPA, REGION_SIZE, 4);

	/* What starts well but ends beyond all addresses. */
	ret = __vm_set_memory_attributes(vm, GPA, 1ULL << 52, 0);
	TEST_ASSERT(ret == -1 && errno == EINVAL, "returned %d, errno %d", ret, errno);
	ret = __vm_set_memory_attributes(vm, GPA, 1ULL << 52, KVM_MEMORY_ATTRIBUTE_PRIVATE);
	TEST_ASSERT(ret == -1 && errno == EINVAL, "returned %d, errno %d", ret, errno);
	ret = __vm_set_memory_attributes(vm, GPA, HUGE_SIZE, 1);
	TEST_ASSERT(ret == -1 && errno == EINVAL, "returned %d, errno %d", ret, errno);

	agent_check(agent, GPA, HUGE_SIZE, 3);
	agent_check(agent, GPA + HUGE_SIZE, 2 * HUGE_SIZE, 4);
}

SUBTEST(pages_come_with_first_access)
{
	int fd;

	/* One by one, if they are small. */
	setup_vm(1);
	if (kvm_check_cap(KVM_CAP_GUEST_MEMFD_ORDER))
		vm_enable_cap(vm, KVM_CAP_GUEST_MEMFD_ORDER, 0);
	vm_mem_region_add_private(vm, GPA, SLOT, REGION_PAGES, -1, 0);
	fd = memslot2region(vm, SLOT)->guest_memfd;
	vm_mem_set_private(vm, GPA, REGION_SIZE);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	agent_write(agent, GPA + 7 * PAGE_SIZE, 1);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 1ul);
	agent_write(agent, GPA + 7 * PAGE_SIZE + 8, 1);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 1ul);
	ASSERT_EQ(agent_read(agent, GPA + 9 * PAGE_SIZE), 0ull);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 2ul);

	/* Conversions neither bring nor take any. */
	vm_mem_set_shared(vm, GPA, REGION_SIZE);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 2ul);
	agent_write(agent, GPA + 20 * PAGE_SIZE, 1);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 2ul);
	vm_mem_set_private(vm, GPA, REGION_SIZE);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 2ul);
	ASSERT_EQ(agent_read(agent, GPA + 7 * PAGE_SIZE), 1ull);
}

SUBTEST(allocated_pages_are_zero)
{
	char *junk = mmap(NULL, 16 * HUGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd;

	/* Make it likely that free pages are not zero. */
	memset(junk, 0xdb, 16 * HUGE_SIZE);
	munmap(junk, 16 * HUGE_SIZE);

	setup();
	fd = memslot2region(vm, SLOT)->guest_memfd;
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, REGION_SIZE / 2), "fallocate()");
	vm_mem_set_private(vm, GPA, REGION_SIZE);
	agent_check_const(agent, GPA, REGION_SIZE, 0);
}

SUBTEST(allocation_keeps_data)
{
	int fd;

	setup();
	fd = memslot2region(vm, SLOT)->guest_memfd;
	vm_mem_set_private(vm, GPA, REGION_SIZE);
	agent_fill(agent, GPA + HUGE_SIZE, HUGE_SIZE, 8);
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, REGION_SIZE), "fallocate()");
	agent_check(agent, GPA + HUGE_SIZE, HUGE_SIZE, 8);
	agent_check_const(agent, GPA, HUGE_SIZE, 0);
	agent_check_const(agent, GPA + 2 * HUGE_SIZE, HUGE_SIZE, 0);
}

SUBTEST(hole_is_exact)
{
	int fd;

	setup();
	fd = memslot2region(vm, SLOT)->guest_memfd;
	vm_mem_set_private(vm, GPA, REGION_SIZE);
	agent_fill(agent, GPA, REGION_SIZE, 8);
	TEST_ASSERT(!guest_memfd_punch(fd, HUGE_SIZE - PAGE_SIZE, 3 * PAGE_SIZE), "fallocate()");
	ASSERT_EQ(guest_memfd_nr_pages(fd), REGION_PAGES - 3);
	agent_check(agent, GPA, HUGE_SIZE - PAGE_SIZE, 8);
	agent_check_const(agent, GPA + HUGE_SIZE - PAGE_SIZE, 3 * PAGE_SIZE, 0);
	agent_check(agent, GPA + HUGE_SIZE + 2 * PAGE_SIZE,
		    REGION_SIZE - HUGE_SIZE - 2 * PAGE_SIZE, 8);
}

SUBTEST(hole_leaves_shared_memory)
{
	setup();
	agent_fill(agent, GPA, REGION_SIZE, 8);
	vm_mem_punch(vm, GPA, REGION_SIZE);
	agent_check(agent, GPA, REGION_SIZE, 8);
	vm_mem_check(vm, GPA, REGION_SIZE, 8);
}

SUBTEST(hole_in_unbound_part)
{
	int fd;

	setup_vm(1);
	fd = vm_create_guest_memfd(vm, 2 * REGION_SIZE);
	vm_mem_region_add_private(vm, GPA, SLOT, REGION_PAGES, fd, REGION_SIZE / 2);
	vm_mem_set_private(vm, GPA, REGION_SIZE);
	agent_fill(agent, GPA, REGION_SIZE, 8);
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, 2 * REGION_SIZE), "fallocate()");
	TEST_ASSERT(!guest_memfd_punch(fd, 0, REGION_SIZE / 2), "fallocate()");
	TEST_ASSERT(!guest_memfd_punch(fd, REGION_SIZE * 3 / 2, REGION_SIZE), "fallocate()");
	agent_check(agent, GPA, REGION_SIZE, 8);
	ASSERT_EQ(guest_memfd_nr_pages(fd), REGION_PAGES);
}

SUBTEST(slot_moves_within_file)
{
	int fd;

	/* The data belongs to the file, not to the guest's address. */
	setup_vm(1);
	fd = vm_create_guest_memfd(vm, 2 * REGION_SIZE);
	vm_mem_set_private(vm, GPA, REGION_SIZE);
	vm_mem_region_add_private(vm, GPA, SLOT, REGION_PAGES, fd, 0);
	agent_fill(agent, GPA, REGION_SIZE, 1);
	vm_mem_region_delete(vm, SLOT);
	vm_mem_region_add_private(vm, GPA, SLOT, REGION_PAGES, fd, REGION_SIZE);
	agent_check_const(agent, GPA, REGION_SIZE, 0);
	agent_fill(agent, GPA, REGION_SIZE, 2);
	vm_mem_region_delete(vm, SLOT);
	vm_mem_region_add_private(vm, GPA, SLOT, REGION_PAGES, fd, 0);
	agent_check(agent, GPA, REGION_SIZE, 1);
}

SUBTEST(code_in_private_memory)
{
	setup();
	/* ret; and if the shared page was executed: ud2 */
	*(uint64_t *)addr_gpa2hva(vm, GPA) = 0x0b0f;
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	agent_write(agent, GPA, 0xc3);
	agent_do(agent, AGENT_EXEC, GPA, 0, 0);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	*(uint64_t *)addr_gpa2hva(vm, GPA) = 0xc3;
	agent_do(agent, AGENT_EXEC, GPA, 0, 0);
}

SUBTEST(page_table_in_private_memory)
{
	uint64_t gva = GPA + REGION_SIZE, table = GPA, page = GPA + 5 * PAGE_SIZE;
	uint64_t *entry;
	int level;

	/* Have the tables down to the last one, which is then replaced. */
	setup();
	virt_map(vm, gva, page, 1);
	entry = addr_gpa2hva(vm, vm->pgd);
	for (level = 4; level > 2; level--) {
		entry += gva >> (12 + 9 * (level - 1)) & 0x1ff;
		entry = addr_gpa2hva(vm, *entry & PHYSICAL_PAGE_MASK);
	}
	entry += gva >> 21 & 0x1ff;
	*entry = (*entry & ~PHYSICAL_PAGE_MASK) | table;

	agent_convert(agent, GPA, HUGE_SIZE, true);
	agent_write(agent, table + (gva >> 12 & 0x1ff) * 8,
		    page | PTE_PRESENT_MASK | PTE_WRITABLE_MASK);
	agent_write(agent, page, 42);
	ASSERT_EQ(agent_read(agent, gva), 42ull);
	agent_write(agent, gva + 8, 43);
	ASSERT_EQ(agent_read(agent, page + 8), 43ull);
	ASSERT_EQ(*(uint64_t *)addr_gpa2hva(vm, page), 0ul);
}

static void *add_in_thread(void *arg)
{
	agent_do(arg, AGENT_ADD, GPA, 20000, 1);
	return NULL;
}

SUBTEST(vcpus_share_a_page)
{
	pthread_t threads[MAX_VCPUS];
	int i;

	setup_vm(MAX_VCPUS);
	vm_mem_region_add_private(vm, GPA, SLOT, REGION_PAGES, -1, 0);
	vm_mem_set_private(vm, GPA, REGION_SIZE);
	for (i = 0; i < MAX_VCPUS; i++)
		pthread_create(&threads[i], NULL, add_in_thread, &agents[i]);
	for (i = 0; i < MAX_VCPUS; i++)
		pthread_join(threads[i], NULL);
	ASSERT_EQ(agent_read(agent, GPA), MAX_VCPUS * 20000ull);
	ASSERT_EQ(*(uint64_t *)addr_gpa2hva(vm, GPA), 0ul);
}

SUBTEST(two_vms_keep_their_secrets)
{
	struct agent other;

	setup();
	vm_mem_set_private(vm, GPA, REGION_SIZE);
	agent_fill(agent, GPA, REGION_SIZE, 1);
	other = *agent;

	setup();
	vm_mem_set_private(vm, GPA, REGION_SIZE);
	agent_check_const(agent, GPA, REGION_SIZE, 0);
	agent_fill(agent, GPA, REGION_SIZE, 2);
	agent_check(&other, GPA, REGION_SIZE, 1);
	vm_mem_punch(other.vm, GPA, REGION_SIZE);
	agent_check(agent, GPA, REGION_SIZE, 2);
	agent_check_const(&other, GPA, REGION_SIZE, 0);
}

/*
 * The hypercall
 */
SUBTEST(hypercall_with_bad_arguments)
{
	int64_t ret;

	setup();
	ret = agent_do(agent, AGENT_MAP_GPA_RANGE, GPA + 1, PAGE_SIZE,
		       KVM_MAP_GPA_RANGE_ENCRYPTED);
	ASSERT_EQ(ret, (int64_t)-KVM_EINVAL);
	ret = agent_do(agent, AGENT_MAP_GPA_RANGE, GPA, 0, KVM_MAP_GPA_RANGE_ENCRYPTED);
	ASSERT_EQ(ret, (int64_t)-KVM_EINVAL);
}

SUBTEST(hypercall_refused)
{
	int rc;

	setup();
	vm_mem_fill(vm, GPA, PAGE_SIZE, 1);
	rc = agent_start(agent, AGENT_MAP_GPA_RANGE, GPA, PAGE_SIZE,
			 KVM_MAP_GPA_RANGE_ENCRYPTED);
	ASSERT_EQ(rc, KVM_EXIT_HYPERCALL);
	agent->vcpu->run->hypercall.ret = -KVM_EPERM;
	ASSERT_EQ(agent_resume(agent), 0);
	ASSERT_EQ((int64_t)agent->cmd->result, (int64_t)-KVM_EPERM);
	agent_check(agent, GPA, PAGE_SIZE, 1);
}

SUBTEST(hypercall_changes_nothing_by_itself)
{
	int rc;

	/* The exit is all: the attribute is userspace's to change. */
	setup();
	vm_mem_fill(vm, GPA, PAGE_SIZE, 1);
	rc = agent_start(agent, AGENT_MAP_GPA_RANGE, GPA, PAGE_SIZE,
			 KVM_MAP_GPA_RANGE_ENCRYPTED);
	ASSERT_EQ(rc, KVM_EXIT_HYPERCALL);
	agent->vcpu->run->hypercall.ret = 0;
	ASSERT_EQ(agent_resume(agent), 0);
	agent_check(agent, GPA, PAGE_SIZE, 1);
	ASSERT_EQ(guest_memfd_nr_pages(memslot2region(vm, SLOT)->guest_memfd), 0ul);
}

/*
 * Random ranges against a model of single pages
 */
#define MODEL_PAGES	AGENT_MAX_WORDS
#define MODEL_STEPS	300

SUBTEST(random_ranges)
{
	uint64_t base = GPA + HUGE_SIZE - MODEL_PAGES / 2 * PAGE_SIZE;
	uint64_t shared[MODEL_PAGES], private[MODEL_PAGES] = {};
	unsigned int seed = getenv("SEED") ? atoi(getenv("SEED")) : getpid(), step, i;
	bool is_private[MODEL_PAGES] = {};

	/* Pages on both sides of an edge between huge pages. */
	ksft_print_msg("random_ranges: SEED=%u\n", seed);
	srandom(seed);
	setup();
	for (i = 0; i < MODEL_PAGES; i++) {
		shared[i] = 1000000 + i;
		*(uint64_t *)addr_gpa2hva(vm, base + i * PAGE_SIZE) = shared[i];
	}

	for (step = 0; step < MODEL_STEPS; step++) {
		unsigned int first = random() % MODEL_PAGES;
		unsigned int nr = 1 + random() % (MODEL_PAGES - first);
		unsigned int what = random() % 8, page = random() % MODEL_PAGES;
		uint64_t gpa = base + first * PAGE_SIZE;

		/* Mostly short ones, to have many edges. */
		if (random() % 4)
			nr = 1 + nr % 16 % (MODEL_PAGES - first);

		if (what < 6) {
			bool to_private = what < 3;

			vm_set_memory_attributes(vm, gpa, nr * PAGE_SIZE,
						 to_private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0);
			for (i = first; i < first + nr; i++)
				is_private[i] = to_private;
		} else if (what == 6) {
			vm_mem_punch(vm, gpa, nr * PAGE_SIZE);
			for (i = first; i < first + nr; i++)
				private[i] = 0;
		}

		agent_write(agent, base + page * PAGE_SIZE, step + 1);
		if (is_private[page])
			private[page] = step + 1;
		else
			shared[page] = step + 1;

		agent_do(agent, AGENT_READ_EACH, base, MODEL_PAGES * PAGE_SIZE, 0);
		for (i = 0; i < MODEL_PAGES; i++) {
			uint64_t want = is_private[i] ? private[i] : shared[i];
			uint64_t host = *(uint64_t *)addr_gpa2hva(vm, base + i * PAGE_SIZE);

			TEST_ASSERT(agent->cmd->words[i] == want,
				    "Step %u page %u (%s): guest reads %lu, not %lu",
				    step, i, is_private[i] ? "private" : "shared",
				    agent->cmd->words[i], want);
			TEST_ASSERT(host == shared[i],
				    "Step %u page %u (%s): host reads %lu, not %lu",
				    step, i, is_private[i] ? "private" : "shared",
				    host, shared[i]);
		}
	}
}

int main(int argc, char *argv[])
{
	require_private_mem();
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_EXIT_HYPERCALL) & (1 << KVM_HC_MAP_GPA_RANGE));

	subtest_main(argc, argv);
}
