// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each allocation of each operation on private memory fails in turn: what
 * cannot be done is refused with ENOMEM and leaves everything as it was, and
 * works when it is tried again.
 *
 * Needs a kernel with fault injection (FAILSLAB, FAIL_PAGE_ALLOC, its debugfs).
 */
#define _GNU_SOURCE
#include "test_util.h"
#include "fail_nth.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "processor.h"
#include "subtest.h"

#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define NR_PAGES	64ULL
#define SIZE		(NR_PAGES * PAGE_SIZE)
#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE

/* No operation here allocates that often; it would be endless. */
#define MAX_NTH		2000

static struct agent agent;
static struct kvm_vm *vm;
static int fd, fail_fd;
static void *hva;

static unsigned int nth, nr_errors;
static bool failed;
static int ret;

/*
 * The loop
 *
 *	start_failures();
 *	while (next_failure()) {
 *		ret = injected("something", something());
 *		...
 *	}
 *
 * does something() until none of its allocations has failed, and nothing
 * else in the loop fails.
 */
static void start_failures(void)
{
	nth = 0;
	failed = true;
}

static bool next_failure(void)
{
	if (!failed)
		return false;

	nth++;
	TEST_ASSERT(nth < MAX_NTH, "There is no end");
	set_fail_nth(fail_fd, nth);
	return true;
}

static int injected(const char *name, int result)
{
	failed = nth_has_failed(fail_fd);
	if (result < 0) {
		TEST_ASSERT(failed, "%s: errno %d for no reason", name, errno);
		TEST_ASSERT(errno == ENOMEM, "%s: errno %d (%s), not ENOMEM", name,
			    errno, strerror(errno));
		nr_errors++;
	}
	return result;
}

static void report(const char *name)
{
	TEST_ASSERT(nr_errors, "%s: nothing has failed", name);
	ksft_print_msg("%s: %u allocations, %u errors\n", name, nth - 1, nr_errors);
}

static void setup(void)
{
	fail_fd = open_fail_nth();

	vm = vm_create_agents(1, NR_PAGES, &agent);
	virt_map(vm, GPA, GPA, NR_PAGES);
	hva = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(hva != MAP_FAILED, "mmap() failed, errno: %d", errno);
	fd = vm_create_guest_memfd(vm, SIZE);
}

static int add_slot(uint32_t slot, uint64_t gpa)
{
	return __vm_set_user_memory_region2(vm, slot, KVM_MEM_GUEST_MEMFD, gpa, SIZE,
					    hva, fd, 0);
}

static int delete_slot(uint32_t slot)
{
	return __vm_set_user_memory_region2(vm, slot, KVM_MEM_GUEST_MEMFD, 0, 0,
					    NULL, -1, 0);
}

static void must_work(const char *what, int result)
{
	TEST_ASSERT(!result, "%s: errno %d (%s)", what, errno, strerror(errno));
}

static int nr_open_fds(void)
{
	int file, nr = 0;

	for (file = 0; file < 256; file++)
		nr += fcntl(file, F_GETFD) != -1;
	return nr;
}

SUBTEST(create_guest_memfd)
{
	int nr_fds;

	setup();
	nr_fds = nr_open_fds();
	start_failures();
	while (next_failure()) {
		ret = injected("KVM_CREATE_GUEST_MEMFD", __vm_create_guest_memfd(vm, SIZE, 0));
		if (ret >= 0)
			close(ret);
		ASSERT_EQ(nr_open_fds(), nr_fds);
	}
	report("KVM_CREATE_GUEST_MEMFD");
}

SUBTEST(add_slot_with_guest_memfd)
{
	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	start_failures();
	while (next_failure()) {
		ret = injected("adding the slot", add_slot(SLOT, GPA));
		if (!ret) {
			agent_write(&agent, GPA, nth);
			ASSERT_EQ(agent_read(&agent, GPA), (uint64_t)nth);
			must_work("deleting the slot", delete_slot(SLOT));
			continue;
		}

		/* Neither is there a slot, nor is the file bound. */
		TEST_ASSERT(delete_slot(SLOT) == -1 && errno == EINVAL,
			    "The slot exists");
		must_work("binding otherwise", add_slot(SLOT + 1, GPA + SIZE));
		must_work("deleting it", delete_slot(SLOT + 1));
		must_work("adding the slot", add_slot(SLOT, GPA));
		must_work("deleting the slot", delete_slot(SLOT));
	}
	report("adding a slot");
}

SUBTEST(delete_slot_with_guest_memfd)
{
	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	must_work("adding the slot", add_slot(SLOT, GPA));
	agent_fill(&agent, GPA, SIZE, 1);

	start_failures();
	while (next_failure()) {
		ret = injected("deleting the slot", delete_slot(SLOT));
		if (!ret) {
			must_work("adding the slot", add_slot(SLOT, GPA));
			agent_check(&agent, GPA, SIZE, 1);
			continue;
		}

		agent_check(&agent, GPA, SIZE, 1);
		TEST_ASSERT(add_slot(SLOT + 1, GPA + SIZE) == -1 && errno == EEXIST,
			    "The file is not bound any more");
	}
	report("deleting a slot");
}

static bool is_private[NR_PAGES];

static int set_attributes(uint64_t first, uint64_t nr, bool to_private)
{
	return __vm_set_memory_attributes(vm, GPA + first * PAGE_SIZE, nr * PAGE_SIZE,
					  to_private ? PRIVATE : 0);
}

static void update_model(uint64_t first, uint64_t nr, bool to_private)
{
	memset(is_private + first, to_private, nr);
}

static void check_attributes(void)
{
	uint64_t i;

	agent_do(&agent, AGENT_READ_EACH, GPA, SIZE, 0);
	for (i = 0; i < NR_PAGES; i++) {
		uint64_t want = i + (is_private[i] ? 1000 : 2000);

		TEST_ASSERT(agent.cmd->words[i] == want,
			    "nth %u page %lu: the guest reads %lu, not %lu", nth, i,
			    agent.cmd->words[i], want);
	}
}

SUBTEST(set_memory_attributes)
{
	static const struct {
		uint64_t first, nr;
		bool to_private;
	} changes[] = {
		{ 0, NR_PAGES, false },
		{ 8, 1, true },
		{ 8, 16, true },
		{ 12, 4, false },
		{ 10, 8, true },
		{ 30, 1, true }, { 32, 1, true }, { 34, 1, true }, { 36, 1, true },
		{ 38, 1, true }, { 40, 1, true }, { 42, 1, true }, { 44, 1, true },
		{ 46, 1, true }, { 48, 1, true }, { 50, 1, true }, { 52, 1, true },
		{ 54, 1, true }, { 56, 1, true }, { 58, 1, true }, { 60, 1, true },
		{ 31, 20, false },
		{ 5, 50, true },
		{ 1, 62, false },
		{ 0, NR_PAGES, true },
	};
	unsigned int nr_allocs = 0;
	uint64_t i, c;

	setup();
	must_work("adding the slot", add_slot(SLOT, GPA));
	vm_mem_set_private(vm, GPA, SIZE);
	for (i = 0; i < NR_PAGES; i++) {
		agent_write(&agent, GPA + i * PAGE_SIZE, i + 1000);
		*(uint64_t *)(hva + i * PAGE_SIZE) = i + 2000;
	}
	update_model(0, NR_PAGES, true);

	/* Every change is tried until none of its allocations has failed. */
	for (c = 0; c < ARRAY_SIZE(changes); c++) {
		bool before[NR_PAGES];

		memcpy(before, is_private, sizeof(before));
		start_failures();
		while (next_failure()) {
			ret = injected("KVM_SET_MEMORY_ATTRIBUTES",
				       set_attributes(changes[c].first, changes[c].nr,
						      changes[c].to_private));
			if (!ret)
				update_model(changes[c].first, changes[c].nr,
					     changes[c].to_private);
			check_attributes();

			/* Done although something has failed: undo it. */
			if (!ret && failed) {
				vm_mem_set_shared(vm, GPA, SIZE);
				for (i = 0; i < NR_PAGES; i++) {
					if (before[i])
						must_work("restoring", set_attributes(i, 1, true));
				}
				memcpy(is_private, before, sizeof(before));
				check_attributes();
			}
		}
		nr_allocs += nth - 1;
	}
	TEST_ASSERT(nr_errors, "Nothing has failed");
	ksft_print_msg("KVM_SET_MEMORY_ATTRIBUTES: %u allocations, %u errors\n",
		       nr_allocs, nr_errors);
}

SUBTEST(fallocate_pages)
{
	setup();
	must_work("adding the slot", add_slot(SLOT, GPA));
	vm_mem_set_private(vm, GPA, SIZE);
	start_failures();
	while (next_failure()) {
		ret = injected("allocation", guest_memfd_alloc(fd, 0, SIZE));
		TEST_ASSERT(guest_memfd_nr_pages(fd) <= NR_PAGES, "%lu pages",
			    guest_memfd_nr_pages(fd));
		must_work("trying again", guest_memfd_alloc(fd, 0, SIZE));
		ASSERT_EQ(guest_memfd_nr_pages(fd), NR_PAGES);
		agent_check_const(&agent, GPA, SIZE, 0);
		agent_fill(&agent, GPA, SIZE, 1);
		must_work("punching", guest_memfd_punch(fd, 0, SIZE));
		ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	}
	report("fallocate()");
}

SUBTEST(punch_hole)
{
	setup();
	must_work("adding the slot", add_slot(SLOT, GPA));
	vm_mem_set_private(vm, GPA, SIZE);

	/* Giving memory back must not need any. */
	agent_fill(&agent, GPA, SIZE, 1);
	start_failures();
	while (next_failure()) {
		ret = injected("punching", guest_memfd_punch(fd, 0, SIZE / 2));
		must_work("punching", ret);
		agent_check_const(&agent, GPA, SIZE / 2, 0);
		agent_check(&agent, GPA + SIZE / 2, SIZE / 2, 1);
		agent_fill(&agent, GPA, SIZE, 1);
	}
}

SUBTEST(close_file)
{
	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	must_work("adding the slot", add_slot(SLOT, GPA));
	agent_fill(&agent, GPA, SIZE, 0);

	start_failures();
	while (next_failure()) {
		ret = injected("close()", close(fd));
		must_work("closing", ret);
		agent_assert_memory_fault(&agent, agent_start(&agent, AGENT_READ, GPA, 0, 0),
					  GPA, KVM_MEMORY_EXIT_FLAG_PRIVATE);
		must_work("deleting the slot", delete_slot(SLOT));
		fd = vm_create_guest_memfd(vm, SIZE);
		must_work("adding the slot", add_slot(SLOT, GPA));
		must_work("going on", agent_resume(&agent));
		agent_fill(&agent, GPA, SIZE, nth);
	}
}

static int run_once(void)
{
	agent.vcpu->run->exit_reason = KVM_EXIT_UNKNOWN;
	return __vcpu_run(agent.vcpu);
}

SUBTEST(guest_fault)
{
	setup();
	must_work("adding the slot", add_slot(SLOT, GPA));

	start_failures();
	for (;;) {
		/* From scratch: no page, no page tables. */
		must_work("punching", guest_memfd_punch(fd, 0, SIZE));
		must_work("deleting the slot", delete_slot(SLOT));
		must_work("adding the slot", add_slot(SLOT, GPA));
		vm_mem_set_private(vm, GPA, SIZE);

		agent.cmd->op = AGENT_WRITE;
		agent.cmd->addr = GPA + nth % NR_PAGES * PAGE_SIZE;
		agent.cmd->value = nth + 1;

		if (!next_failure())
			break;
		ret = injected("KVM_RUN", run_once());
		if (ret) {
			must_work("running again", agent_resume(&agent));
		} else {
			struct ucall uc;

			ASSERT_EQ(get_ucall(agent.vcpu, &uc), (uint64_t)UCALL_SYNC);
		}
		ASSERT_EQ(agent_read(&agent, agent.cmd->addr), (uint64_t)nth);
		ASSERT_EQ(guest_memfd_nr_pages(fd), 1ul);
	}
	report("KVM_RUN");
}

/* Where there is no huge folio to be had, small ones do. */
SUBTEST(allocate_huge_folio)
{
	const uint64_t size = 2ull << 20;
	uint64_t small = 0;
	int fallbacks = 0;

	setup();
	if (!kvm_check_cap(KVM_CAP_GUEST_MEMFD_ORDER))
		subtest_skip("no huge folios");
	fd = vm_create_guest_memfd(vm, size);

	start_failures();
	while (next_failure()) {
		ret = injected("fallocate()", guest_memfd_alloc(fd, 0, size));
		if (!ret)
			ASSERT_EQ(guest_memfd_nr_pages(fd), size / PAGE_SIZE);
		if (vm_get_stat(vm, "gmem_small_allocs") > small)
			fallbacks++;
		must_work("punching", guest_memfd_punch(fd, 0, size));
		small = vm_get_stat(vm, "gmem_small_allocs");
	}
	TEST_ASSERT(fallbacks, "No huge folio failed");
	ASSERT_EQ(vm_get_stat(vm, "gmem_huge_allocs"), (uint64_t)nth - fallbacks);
	ksft_print_msg("%d of %u times without a huge folio, %u errors\n", fallbacks, nth,
		       nr_errors);
}

/* A huge folio of which part is to go, but that cannot be split. */
SUBTEST(punch_part_of_huge_folio)
{
	const uint64_t size = 2ull << 20;

	setup();
	if (!kvm_check_cap(KVM_CAP_GUEST_MEMFD_ORDER))
		subtest_skip("no huge folios");
	fd = vm_create_guest_memfd(vm, size);
	hva = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(hva != MAP_FAILED, "mmap() failed, errno: %d", errno);
	must_work("adding the slot",
		  __vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, size, hva,
					       fd, 0));
	vm_mem_set_private(vm, GPA, size);
	agent_fill(&agent, GPA, SIZE, 1);
	ASSERT_EQ(guest_memfd_nr_pages(fd), size / PAGE_SIZE);

	start_failures();
	while (next_failure()) {
		ret = injected("punching", guest_memfd_punch(fd, PAGE_SIZE, PAGE_SIZE));
		ASSERT_EQ(guest_memfd_nr_pages(fd), size / PAGE_SIZE - !ret);
		if (ret) {
			ASSERT_EQ(vm_get_stat(vm, "gmem_split_failures"), (uint64_t)nr_errors);
			agent_check(&agent, GPA, SIZE, 1);
			continue;
		}
		agent_check(&agent, GPA, PAGE_SIZE, 1);
		agent_check_const(&agent, GPA + PAGE_SIZE, PAGE_SIZE, 0);
		agent_check(&agent, GPA + 2 * PAGE_SIZE, SIZE - 2 * PAGE_SIZE, 1);
		must_work("fallocate()", guest_memfd_punch(fd, 0, size));
		agent_fill(&agent, GPA, SIZE, 1);
	}
	report("punching part of a huge folio");
}

int main(int argc, char *argv[])
{
	require_private_mem();

	subtest_main(argc, argv);
}
