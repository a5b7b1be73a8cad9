// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_EXIT_MEMORY_FAULT: every guest access that KVM cannot resolve ends
 * KVM_RUN with EFAULT and says where it was and of which kind; once the reason
 * is gone, the access works.
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
#define NR_PAGES	1024ULL
#define SIZE		(NR_PAGES * PAGE_SIZE)
#define PRIVATE		KVM_MEMORY_EXIT_FLAG_PRIVATE
#define SHARED		0

#define VALUE		0x1122334455667788ULL
#define OTHER		0x99aabbccddeeff00ULL

#define X86_RET		0xc3

static struct agent agent, agents[4];
static struct kvm_vm *vm;

static void __setup(unsigned long type, uint32_t nr_vcpus)
{
	vm = __vm_create_agents(type, nr_vcpus, NR_PAGES, agents);
	agent = agents[0];
	virt_map(vm, GPA, GPA, NR_PAGES);
}

static void setup(void)
{
	__setup(KVM_X86_SW_PROTECTED_VM, 1);
}

static void setup_private(void)
{
	setup();
	vm_mem_region_add_private(vm, GPA, SLOT, NR_PAGES, -1, 0);
}

static void setup_plain(void)
{
	setup();
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, GPA, SLOT, NR_PAGES, 0);
}

static void expect_fault(enum agent_op op, uint64_t gpa, uint64_t flags)
{
	int rc = agent_start(&agent, op, gpa, 0, VALUE);

	agent_assert_memory_fault(&agent, rc, gpa, flags);
}

static void expect_same_fault(uint64_t gpa, uint64_t flags)
{
	agent_assert_memory_fault(&agent, agent_resume(&agent), gpa, flags);
}

static void expect_done(void)
{
	int rc = agent_resume(&agent);

	TEST_ASSERT(!rc, "KVM_RUN: rc %d (%s), exit reason %s", rc,
		    rc < 0 ? strerror(-rc) : "exit",
		    exit_reason_str(agent.vcpu->run->exit_reason));
}

/*
 * No fault
 */
SUBTEST(no_fault_without_reason)
{
	setup_private();
	agent_write(&agent, GPA, VALUE);
	ASSERT_EQ(agent_read(&agent, GPA), VALUE);
	vm_mem_set_private(vm, GPA, SIZE);
	ASSERT_EQ(agent_read(&agent, GPA), 0ull);
	agent_write(&agent, GPA, OTHER);
	ASSERT_EQ(agent_read(&agent, GPA), OTHER);
}

/*
 * Private accesses
 */
SUBTEST(private_read_without_guest_memfd)
{
	setup_plain();
	*(uint64_t *)addr_gpa2hva(vm, GPA) = VALUE;
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	expect_fault(AGENT_READ, GPA, PRIVATE);
	expect_same_fault(GPA, PRIVATE);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	expect_done();
	ASSERT_EQ(agent.cmd->result, VALUE);
}

SUBTEST(private_write_without_guest_memfd)
{
	setup_plain();
	vm_mem_set_private(vm, GPA, SIZE);
	expect_fault(AGENT_WRITE, GPA + 5 * PAGE_SIZE + 8, PRIVATE);
	ASSERT_EQ(*(uint64_t *)addr_gpa2hva(vm, GPA + 5 * PAGE_SIZE + 8), 0ul);
	vm_mem_set_shared(vm, GPA, SIZE);
	expect_done();
	ASSERT_EQ(*(uint64_t *)addr_gpa2hva(vm, GPA + 5 * PAGE_SIZE + 8), VALUE);
}

SUBTEST(private_fetch_without_guest_memfd)
{
	setup_plain();
	*(uint8_t *)addr_gpa2hva(vm, GPA) = X86_RET;
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	expect_fault(AGENT_EXEC, GPA, PRIVATE);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	expect_done();
}

SUBTEST(private_atomic_without_guest_memfd)
{
	int rc;

	setup_plain();
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	rc = agent_start(&agent, AGENT_ADD, GPA, 1, 5);
	agent_assert_memory_fault(&agent, rc, GPA, PRIVATE);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	expect_done();
	ASSERT_EQ(*(uint64_t *)addr_gpa2hva(vm, GPA), 5ul);
}

SUBTEST(private_after_shared_is_mapped)
{
	/* What the guest has mapped already is no way round. */
	setup_plain();
	agent_write(&agent, GPA, VALUE);
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	expect_fault(AGENT_READ, GPA, PRIVATE);
}

SUBTEST(private_read_without_slot)
{
	setup();
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	expect_fault(AGENT_READ, GPA, PRIVATE);
	expect_same_fault(GPA, PRIVATE);
	vm_mem_region_add_private(vm, GPA, SLOT, NR_PAGES, -1, 0);
	expect_done();
	ASSERT_EQ(agent.cmd->result, 0ull);
}

SUBTEST(private_write_without_slot)
{
	setup();
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	expect_fault(AGENT_WRITE, GPA, PRIVATE);
	vm_mem_region_add_private(vm, GPA, SLOT, NR_PAGES, -1, 0);
	expect_done();
	ASSERT_EQ(agent_read(&agent, GPA), VALUE);
	ASSERT_EQ(*(uint64_t *)addr_gpa2hva(vm, GPA), 0ul);
}

SUBTEST(private_fetch_without_slot)
{
	setup();
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	expect_fault(AGENT_EXEC, GPA, PRIVATE);
}

SUBTEST(private_after_mmio)
{
	struct kvm_run *run;

	/* That an address was MMIO once must not be remembered. */
	setup();
	run = agent.vcpu->run;
	ASSERT_EQ(agent_start(&agent, AGENT_READ, GPA, 0, 0), KVM_EXIT_MMIO);
	*(uint64_t *)run->mmio.data = VALUE;
	expect_done();
	ASSERT_EQ(agent.cmd->result, VALUE);

	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	expect_fault(AGENT_READ, GPA, PRIVATE);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	ASSERT_EQ(agent_resume(&agent), KVM_EXIT_MMIO);
}

SUBTEST(private_last_page)
{
	uint64_t gpa;

	setup();
	gpa = vm->max_gfn << PAGE_SHIFT;
	virt_map(vm, GPA + SIZE, gpa, 1);
	vm_mem_set_private(vm, gpa, PAGE_SIZE);
	agent_assert_memory_fault(&agent,
				  agent_start(&agent, AGENT_READ, GPA + SIZE, 0, 0),
				  gpa, PRIVATE);
}

SUBTEST(private_after_slot_is_deleted)
{
	setup_private();
	vm_mem_set_private(vm, GPA, SIZE);
	agent_write(&agent, GPA, VALUE);
	vm_mem_region_delete(vm, SLOT);
	expect_fault(AGENT_READ, GPA, PRIVATE);
	expect_same_fault(GPA, PRIVATE);
}

SUBTEST(private_comes_back_with_slot)
{
	int fd;

	setup();
	fd = vm_create_guest_memfd(vm, SIZE);
	vm_mem_region_add_private(vm, GPA, SLOT, NR_PAGES, fd, 0);
	vm_mem_set_private(vm, GPA, SIZE);
	agent_write(&agent, GPA, VALUE);
	vm_mem_region_delete(vm, SLOT);
	expect_fault(AGENT_READ, GPA, PRIVATE);
	vm_mem_region_add_private(vm, GPA, SLOT, NR_PAGES, fd, 0);
	expect_done();
	ASSERT_EQ(agent.cmd->result, VALUE);
}

SUBTEST(private_after_file_is_closed)
{
	void *hva = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd;

	setup();
	fd = vm_create_guest_memfd(vm, SIZE);
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, SIZE, hva, fd, 0);
	vm_mem_set_private(vm, GPA, SIZE / 2);
	agent_write(&agent, GPA, VALUE);
	agent_write(&agent, GPA + SIZE / 2, OTHER);

	/* Slots do not pin files; and shared memory is not concerned. */
	close(fd);
	expect_fault(AGENT_READ, GPA, PRIVATE);
	expect_same_fault(GPA, PRIVATE);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	expect_done();
	ASSERT_EQ(agent.cmd->result, 0ull);
	ASSERT_EQ(agent_read(&agent, GPA + SIZE / 2), OTHER);
	expect_fault(AGENT_WRITE, GPA + PAGE_SIZE, PRIVATE);
}

SUBTEST(private_page_among_shared)
{
	int i;

	setup_plain();
	vm_mem_fill(vm, GPA, SIZE, 1);
	agent_check(&agent, GPA, SIZE, 1);

	for (i = 0; i < 4; i++) {
		static const uint64_t pages[] = { 0, 1, 511, 700 };
		uint64_t gpa = GPA + pages[i] * PAGE_SIZE;

		vm_mem_set_private(vm, gpa, PAGE_SIZE);
		expect_fault(AGENT_READ, gpa, PRIVATE);
		vm_mem_set_shared(vm, gpa, PAGE_SIZE);
		expect_done();
	}
	agent_check(&agent, GPA, SIZE, 1);
}

SUBTEST(private_page_among_shared_huge)
{
	uint64_t gpa = GPA + 300 * PAGE_SIZE;

	/* A huge mapping of shared memory must give way. */
	setup();
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS_THP, GPA, SLOT, NR_PAGES, 0);
	vm_mem_fill(vm, GPA, SIZE, 1);
	agent_check(&agent, GPA, SIZE, 1);

	vm_mem_set_private(vm, gpa, PAGE_SIZE);
	agent_check(&agent, GPA, 300 * PAGE_SIZE, 1);
	agent_check(&agent, gpa + PAGE_SIZE, GPA + SIZE - gpa - PAGE_SIZE, 1);
	expect_fault(AGENT_WRITE, gpa, PRIVATE);
	vm_mem_check(vm, GPA, SIZE, 1);
	vm_mem_set_shared(vm, gpa, PAGE_SIZE);
	expect_done();
	ASSERT_EQ(*(uint64_t *)addr_gpa2hva(vm, gpa), VALUE);
}

/*
 * Shared accesses
 */
SUBTEST(shared_without_slot_is_mmio)
{
	struct kvm_run *run;

	setup();
	run = agent.vcpu->run;
	ASSERT_EQ(agent_start(&agent, AGENT_WRITE, GPA, 0, VALUE), KVM_EXIT_MMIO);
	TEST_ASSERT(run->mmio.is_write && run->mmio.phys_addr == GPA &&
		    run->mmio.len == 8 && *(uint64_t *)run->mmio.data == VALUE,
		    "MMIO at 0x%llx", run->mmio.phys_addr);
	expect_done();
}

SUBTEST(shared_write_to_readonly_slot_is_mmio)
{
	setup();
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, GPA, SLOT, NR_PAGES,
				    KVM_MEM_READONLY);
	*(uint64_t *)addr_gpa2hva(vm, GPA) = VALUE;
	ASSERT_EQ(agent_read(&agent, GPA), VALUE);
	ASSERT_EQ(agent_start(&agent, AGENT_WRITE, GPA, 0, OTHER), KVM_EXIT_MMIO);
	expect_done();
	ASSERT_EQ(agent_read(&agent, GPA), VALUE);
}

static void *reserve(int prot)
{
	void *mem = mmap(NULL, SIZE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(mem != MAP_FAILED, "mmap() failed, errno: %d", errno);
	return mem;
}

static void shared_unmapped(uint32_t flags)
{
	void *hva = reserve(PROT_NONE);

	munmap(hva, SIZE);
	vm_set_user_memory_region2(vm, SLOT, flags, GPA, SIZE, hva,
				   flags ? vm_create_guest_memfd(vm, SIZE) : -1, 0);

	expect_fault(AGENT_READ, GPA + 3 * PAGE_SIZE, SHARED);
	expect_same_fault(GPA + 3 * PAGE_SIZE, SHARED);

	TEST_ASSERT(mmap(hva, SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == hva, "mmap()");
	*(uint64_t *)(hva + 3 * PAGE_SIZE) = VALUE;
	expect_done();
	ASSERT_EQ(agent.cmd->result, VALUE);

	/* And away again, under the guest. */
	munmap(hva, SIZE);
	expect_fault(AGENT_WRITE, GPA + 3 * PAGE_SIZE, SHARED);
}

SUBTEST(shared_unmapped_private_slot)
{
	setup();
	shared_unmapped(KVM_MEM_GUEST_MEMFD);
}

SUBTEST(shared_unmapped_plain_slot)
{
	setup();
	shared_unmapped(0);
}

SUBTEST(shared_unmapped_default_vm)
{
	__setup(KVM_X86_DEFAULT_VM, 1);
	shared_unmapped(0);
}

SUBTEST(shared_unmapped_fetch)
{
	void *hva = reserve(PROT_NONE);

	setup();
	vm_set_user_memory_region2(vm, SLOT, 0, GPA, SIZE, hva, -1, 0);
	expect_fault(AGENT_EXEC, GPA, SHARED);
}

static void shared_prot_none(unsigned long type)
{
	void *hva = reserve(PROT_NONE);

	__setup(type, 1);
	vm_set_user_memory_region2(vm, SLOT, 0, GPA, SIZE, hva, -1, 0);
	expect_fault(AGENT_WRITE, GPA, SHARED);
	expect_same_fault(GPA, SHARED);
	mprotect(hva, SIZE, PROT_READ | PROT_WRITE);
	expect_done();
	ASSERT_EQ(*(uint64_t *)hva, VALUE);
}

SUBTEST(shared_prot_none_private_vm)
{
	shared_prot_none(KVM_X86_SW_PROTECTED_VM);
}

SUBTEST(shared_prot_none_default_vm)
{
	shared_prot_none(KVM_X86_DEFAULT_VM);
}

SUBTEST(shared_write_to_readonly_mapping)
{
	void *hva = reserve(PROT_READ);

	setup();
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, SIZE, hva,
				   vm_create_guest_memfd(vm, SIZE), 0);
	ASSERT_EQ(agent_read(&agent, GPA), 0ull);
	expect_fault(AGENT_WRITE, GPA, SHARED);
	mprotect(hva, SIZE, PROT_READ | PROT_WRITE);
	expect_done();
	ASSERT_EQ(*(uint64_t *)hva, VALUE);
}

SUBTEST(private_needs_no_mapping)
{
	setup();
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, SIZE,
				   reserve(PROT_NONE), vm_create_guest_memfd(vm, SIZE), 0);
	vm_mem_set_private(vm, GPA, SIZE);
	agent_fill(&agent, GPA, SIZE, 7);
	agent_check(&agent, GPA, SIZE, 7);
	vm_mem_set_shared(vm, GPA + 9 * PAGE_SIZE, PAGE_SIZE);
	expect_fault(AGENT_READ, GPA + 9 * PAGE_SIZE, SHARED);
	vm_mem_set_private(vm, GPA + 9 * PAGE_SIZE, PAGE_SIZE);
	expect_done();
	agent_check(&agent, GPA, SIZE, 7);
}

/*
 * What is reported
 */
SUBTEST(report_is_page_granular)
{
	static const uint64_t offsets[] = { 1, 8, 2047, 4088 };
	int i;

	setup_plain();
	vm_mem_set_private(vm, GPA, SIZE);
	expect_fault(AGENT_READ, GPA + 7 * PAGE_SIZE, PRIVATE);
	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		uint64_t gpa = GPA + 7 * PAGE_SIZE + offsets[i];

		vm_mem_set_shared(vm, GPA, SIZE);
		expect_done();
		vm_mem_set_private(vm, GPA, SIZE);
		expect_fault(AGENT_READ, gpa, PRIVATE);
	}
}

SUBTEST(report_second_page_of_access)
{
	uint64_t gpa = GPA + PAGE_SIZE - 4;

	setup_plain();
	vm_mem_fill(vm, GPA, SIZE, 3);
	vm_mem_set_private(vm, GPA + PAGE_SIZE, PAGE_SIZE);
	agent_assert_memory_fault(&agent, agent_start(&agent, AGENT_READ, gpa, 0, 0),
				  GPA + PAGE_SIZE, PRIVATE);
	vm_mem_set_shared(vm, GPA + PAGE_SIZE, PAGE_SIZE);
	expect_done();
	ASSERT_EQ(agent.cmd->result, *(uint64_t *)addr_gpa2hva(vm, gpa));
}

SUBTEST(report_changes_with_the_kind)
{
	void *hva = reserve(PROT_NONE);

	setup();
	vm_set_user_memory_region2(vm, SLOT, 0, GPA, SIZE, hva, -1, 0);
	expect_fault(AGENT_READ, GPA, SHARED);
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	expect_same_fault(GPA, PRIVATE);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	expect_same_fault(GPA, SHARED);
	mprotect(hva, SIZE, PROT_READ);
	expect_done();
}

SUBTEST(report_is_not_stale)
{
	setup_plain();
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	expect_fault(AGENT_READ, GPA, PRIVATE);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	expect_done();
	TEST_ASSERT(agent.vcpu->run->exit_reason != KVM_EXIT_MEMORY_FAULT,
		    "The exit reason is the one before");
}

SUBTEST(report_many_pages)
{
	uint64_t i;
	int rc;

	/* A VMM that grants what the guest asks for by touching it. */
	setup();
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, GPA, SLOT, NR_PAGES, 0);
	vm_mem_set_private(vm, GPA, SIZE);
	rc = agent_start(&agent, AGENT_FILL, GPA, 200 * PAGE_SIZE, 11);
	for (i = 0; i < 200; i++) {
		agent_assert_memory_fault(&agent, rc, GPA + i * PAGE_SIZE, PRIVATE);
		vm_mem_set_shared(vm, GPA + i * PAGE_SIZE, PAGE_SIZE);
		rc = agent_resume(&agent);
	}
	ASSERT_EQ(rc, 0);
	vm_mem_check(vm, GPA, 200 * PAGE_SIZE, 11);
}

static void *fault_in_thread(void *arg)
{
	struct agent *a = arg;
	int i, rc;

	rc = agent_start(a, AGENT_READ, GPA + 8 * a->vcpu->id, 0, 0);
	for (i = 0; i < 50; i++) {
		agent_assert_memory_fault(a, rc, GPA, PRIVATE);
		rc = agent_resume(a);
	}
	return NULL;
}

SUBTEST(report_to_every_vcpu)
{
	pthread_t threads[4];
	int i;

	__setup(KVM_X86_SW_PROTECTED_VM, 4);
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	for (i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, fault_in_thread, &agents[i]);
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);

	vm_mem_region_add_private(vm, GPA, SLOT, NR_PAGES, -1, 0);
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(agent_resume(&agents[i]), 0);
		ASSERT_EQ(agents[i].cmd->result, 0ull);
	}
}

/*
 * Slots that come and go while the guest runs
 */
static bool thread_done;

static void *touch_in_thread(void *arg)
{
	struct agent *a = arg;
	int rc;

	do {
		rc = agent_start(a, AGENT_READ, GPA, 0, 0);
	} while (!rc);
	agent_assert_memory_fault(a, rc, GPA, PRIVATE);
	WRITE_ONCE(thread_done, true);
	return NULL;
}

SUBTEST(slot_deleted_under_running_guest)
{
	pthread_t thread;

	setup_private();
	vm_mem_set_private(vm, GPA, SIZE);
	pthread_create(&thread, NULL, touch_in_thread, &agent);
	usleep(100000);
	TEST_ASSERT(!READ_ONCE(thread_done), "The guest has stopped early");
	vm_mem_region_delete(vm, SLOT);
	pthread_join(thread, NULL);
}

SUBTEST(file_closed_under_running_guest)
{
	pthread_t thread;
	int fd;

	setup();
	fd = vm_create_guest_memfd(vm, SIZE);
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, SIZE,
				   reserve(PROT_NONE), fd, 0);
	vm_mem_set_private(vm, GPA, SIZE);
	pthread_create(&thread, NULL, touch_in_thread, &agent);
	usleep(100000);
	TEST_ASSERT(!READ_ONCE(thread_done), "The guest has stopped early");
	close(fd);
	pthread_join(thread, NULL);
}

/*
 * KVM's emulator reads guest memory through userspace mappings.  It must not
 * take the shared page of a private address for what the guest sees.
 */
static void assert_not_emulated(int rc, uint64_t gpa)
{
	struct kvm_run *run = agent.vcpu->run;

	if (rc == KVM_EXIT_INTERNAL_ERROR &&
	    run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		return;
	agent_assert_memory_fault(&agent, rc, gpa, PRIVATE);
}

SUBTEST(emulator_reads_private_data)
{
	struct kvm_run *run;
	int rc;

	setup_private();
	run = agent.vcpu->run;
	memset(addr_gpa2hva(vm, GPA), 'S', PAGE_SIZE);
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	agent_write(&agent, GPA, 0x5050505050505050ULL);

	rc = agent_start(&agent, AGENT_OUTS, GPA, 4, 0x80);
	if (rc == KVM_EXIT_IO) {
		char *data = (char *)run + run->io.data_offset;

		TEST_ASSERT(run->io.port == 0x80 && *data == 'P',
			    "The guest outputs '%c', which is not its data", *data);
		return;
	}
	assert_not_emulated(rc, GPA);
}

SUBTEST(emulator_reads_missing_private_data)
{
	/* It must neither become MMIO nor be taken from the shared page. */
	setup_plain();
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	agent_assert_memory_fault(&agent,
				  agent_start(&agent, AGENT_OUTS, GPA, 4, 0x80),
				  GPA, PRIVATE);
}

SUBTEST(emulator_fetches_private_code)
{
	/* mov %al, (%rdi) where MMIO is, then ret */
	static const uint8_t code[] = { 0x88, 0x07, X86_RET };
	/* The same place in the shared page: mov %al, 1(%rdi) */
	static const uint8_t decoy[] = { 0x88, 0x47, 0x01, X86_RET };
	uint64_t word = 0, mmio = GPA + SIZE;
	struct kvm_run *run;
	int rc;

	setup_private();
	run = agent.vcpu->run;
	virt_map(vm, mmio, mmio, 1);
	memcpy(addr_gpa2hva(vm, GPA), decoy, sizeof(decoy));
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	memcpy(&word, code, sizeof(code));
	agent_write(&agent, GPA, word);

	rc = agent_start(&agent, AGENT_EXEC, GPA, 0, mmio);
	if (rc == KVM_EXIT_MMIO) {
		TEST_ASSERT(run->mmio.phys_addr == mmio,
			    "MMIO at 0x%llx: KVM has decoded what the guest does not execute",
			    run->mmio.phys_addr);
		return;
	}
	assert_not_emulated(rc, GPA);
}

int main(int argc, char *argv[])
{
	require_private_mem();

	subtest_main(argc, argv);
}
