// SPDX-License-Identifier: GPL-2.0-only
/*
 * Thousands of slots on one guest_memfd.
 */
#define _GNU_SOURCE
#include <time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "processor.h"
#include "subtest.h"

#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define NR_SLOTS	2048ULL
#define SIZE		(NR_SLOTS * PAGE_SIZE)

static struct agent agent;
static struct kvm_vm *vm;
static void *hva;
static int fd;

/* Permutations: odd factors are coprime to the number of slots. */
static uint64_t nth(uint64_t i, uint64_t factor)
{
	return i * factor % NR_SLOTS;
}

/* The page of the file that is seen at the i-th guest page. */
static uint64_t file_page(uint64_t i)
{
	return nth(i, 1367);
}

static int add(uint64_t i)
{
	return __vm_set_user_memory_region2(vm, SLOT + i, KVM_MEM_GUEST_MEMFD,
					    GPA + i * PAGE_SIZE, PAGE_SIZE,
					    hva + i * PAGE_SIZE, fd,
					    file_page(i) * PAGE_SIZE);
}

static int delete(uint64_t i)
{
	return __vm_set_user_memory_region2(vm, SLOT + i, KVM_MEM_GUEST_MEMFD,
					    0, 0, NULL, -1, 0);
}

static void setup(void)
{
	vm = vm_create_agents(1, NR_SLOTS, &agent);
	if (vm_check_cap(vm, KVM_CAP_NR_MEMSLOTS) < NR_SLOTS + SLOT)
		subtest_skip("not that many slots");
	virt_map(vm, GPA, GPA, NR_SLOTS);

	hva = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TEST_ASSERT(hva != MAP_FAILED, "mmap() failed, errno: %d", errno);
	fd = vm_create_guest_memfd(vm, SIZE);
}

static void add_some(uint64_t nr)
{
	uint64_t i;
	int ret;

	for (i = 0; i < nr; i++) {
		ret = add(nth(i, 1021));
		TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("KVM_SET_USER_MEMORY_REGION2", ret));
	}
}

/* Of a permutation's first elements, in another order. */
static void delete_some(uint64_t nr)
{
	uint64_t i;
	int ret;

	for (i = 0; i < nr; i++) {
		ret = delete(nth(i * 3 % nr, 1021));
		TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("KVM_SET_USER_MEMORY_REGION2", ret));
	}
}

SUBTEST(one_page_each)
{
	uint64_t i;
	int ret;

	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	add_some(NR_SLOTS);

	/* All of the file is taken. */
	for (i = 0; i < NR_SLOTS; i += 101) {
		ret = __vm_set_user_memory_region2(vm, SLOT + NR_SLOTS, KVM_MEM_GUEST_MEMFD,
						   GPA + SIZE, PAGE_SIZE, hva, fd,
						   i * PAGE_SIZE);
		TEST_ASSERT(ret == -1 && errno == EEXIST, "returned %d, errno %d", ret, errno);
	}

	agent_fill(&agent, GPA, SIZE, 1);
	agent_check(&agent, GPA, SIZE, 1);
	ASSERT_EQ(guest_memfd_nr_pages(fd), NR_SLOTS);

	/* Every other page of the file, wherever it is seen. */
	for (i = 0; i < NR_SLOTS; i += 2)
		guest_memfd_punch(fd, i * PAGE_SIZE, PAGE_SIZE);
	ASSERT_EQ(guest_memfd_nr_pages(fd), NR_SLOTS / 2);
	for (i = 0; i < NR_SLOTS; i++) {
		if (file_page(i) % 2)
			agent_check(&agent, GPA + i * PAGE_SIZE, 8, 1);
		else
			agent_check_const(&agent, GPA + i * PAGE_SIZE, 8, 0);
	}

	/* And a hole across all slots. */
	agent_fill(&agent, GPA, SIZE, 2);
	ret = guest_memfd_punch(fd, 0, SIZE);
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("fallocate()", ret));
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	agent_check_const(&agent, GPA, SIZE, 0);

	delete_some(NR_SLOTS);
	ret = __vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, SIZE, hva, fd, 0);
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("KVM_SET_USER_MEMORY_REGION2", ret));
}

/* Slots take their time to come and go, so not all of them here. */
#define NR_SOME		512ULL

static uint64_t some_gpa(uint64_t i)
{
	return GPA + nth(i, 1021) * PAGE_SIZE;
}

SUBTEST(file_closed_first)
{
	uint64_t i;
	int rc;

	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	add_some(NR_SOME);
	for (i = 0; i < NR_SOME; i++)
		agent_write(&agent, some_gpa(i), i);
	close(fd);
	for (i = 0; i < NR_SOME; i += 7) {
		rc = agent_start(&agent, AGENT_READ, some_gpa(i), 0, 0);
		agent_assert_memory_fault(&agent, rc, some_gpa(i),
					  KVM_MEMORY_EXIT_FLAG_PRIVATE);
		vm_mem_set_shared(vm, some_gpa(i), PAGE_SIZE);
		ASSERT_EQ(agent_resume(&agent), 0);
	}
	delete_some(NR_SOME);
}

SUBTEST(vm_dies_first)
{
	uint64_t i;

	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	add_some(NR_SOME);
	for (i = 0; i < NR_SOME; i++)
		agent_write(&agent, some_gpa(i), i);
	kvm_vm_free(vm);
	ASSERT_EQ(guest_memfd_nr_pages(fd), NR_SOME);
	TEST_ASSERT(!guest_memfd_punch(fd, 0, SIZE), "fallocate()");
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
}

static int64_t time_punch(void)
{
	int64_t best = INT64_MAX;
	int i;

	for (i = 0; i < 15; i++) {
		struct timespec start;
		int64_t ns;

		guest_memfd_alloc(fd, 0, PAGE_SIZE);
		clock_gettime(CLOCK_MONOTONIC, &start);
		guest_memfd_punch(fd, 0, PAGE_SIZE);
		ns = timespec_to_ns(timespec_elapsed(start));
		if (ns < best)
			best = ns;
	}
	return best;
}

SUBTEST(cost_of_hole_does_not_grow_with_slots)
{
	int64_t one, all;

	/* The file's first page is seen by the first slot. */
	setup();
	add(0);
	one = time_punch();
	delete(0);
	add_some(NR_SOME);
	all = time_punch();
	ksft_print_msg("a hole of one page: %ld ns with one slot, %ld ns with %llu\n",
		       one, all, NR_SOME);
	TEST_ASSERT(all < 20 * one, "A hole takes %ld ns, not %ld", all, one);
}

int main(int argc, char *argv[])
{
	require_private_mem();

	subtest_main(argc, argv);
}
