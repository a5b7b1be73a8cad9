// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_PRE_FAULT_MEMORY, for shared and private memory.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "processor.h"
#include "subtest.h"

#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define HUGE_SIZE	(2ULL << 20)
#define SIZE		(2 * HUGE_SIZE)
#define NR_PAGES	(SIZE / PAGE_SIZE)
#define SEED		0x5eedULL

static_assert(KVM_CAP_PRE_FAULT_MEMORY == 236, "");
static_assert(KVM_PRE_FAULT_MEMORY == 0xc040aed5, "");
static_assert(sizeof(struct kvm_pre_fault_memory) == 64, "");

static struct agent agents[2], *agent = &agents[0];
static struct kvm_pre_fault_memory range;
static struct kvm_vm *vm;
static int fd;

static void setup(void)
{
	__TEST_REQUIRE(kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY) == 1,
		       "KVM_CAP_PRE_FAULT_MEMORY not supported");
	vm = vm_create_agents(2, NR_PAGES, agents);
	virt_map(vm, GPA, GPA, NR_PAGES);
	fd = vm_create_guest_memfd(vm, SIZE);
	vm_mem_region_add_private(vm, GPA, SLOT, NR_PAGES, fd, 0);
}

/* Let the guest fault for its own page tables, not its memory. */
static void touch_page_tables(void)
{
	uint64_t gpa;

	for (gpa = GPA; gpa < GPA + SIZE; gpa += HUGE_SIZE)
		agent_read(agent, gpa + PAGE_SIZE);
}

/* 0 or the errno; what is left is in range. */
static int pre_fault(uint64_t gpa, uint64_t size, uint64_t flags)
{
	memset(&range, 0, sizeof(range));
	range.gpa = gpa;
	range.size = size;
	range.flags = flags;
	return __vcpu_ioctl(agent->vcpu, KVM_PRE_FAULT_MEMORY, &range) ? errno : 0;
}

/* All at once, or in as many steps as KVM likes. */
static void pre_fault_all(uint64_t gpa, uint64_t size)
{
	uint64_t end = gpa + size;

	while (gpa < end) {
		int err = pre_fault(gpa, end - gpa, 0);

		TEST_ASSERT(!err, "0x%lx: errno %d", gpa, err);
		TEST_ASSERT(range.gpa > gpa && range.gpa + range.size == end,
			    "[0x%llx, +0x%llx) of [0x%lx, 0x%lx) is left",
			    range.gpa, range.size, gpa, end);
		gpa = range.gpa;
	}
}

/*
 * The guest need not fault for what was faulted in for it.  The host may take
 * shared pages away for a moment, but not many.
 */
static void check_no_faults(bool shared)
{
	uint64_t nr = agent_nr_faults(agent), i;

	for (i = 0; i < NR_PAGES; i++)
		agent_read(agent, GPA + i * PAGE_SIZE);
	nr = agent_nr_faults(agent) - nr;
	TEST_ASSERT(nr <= (shared ? NR_PAGES / 8 : 0), "The guest has %lu faults", nr);
}

SUBTEST(private_memory)
{
	uint64_t mappings;

	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	touch_page_tables();
	vm_mem_punch(vm, GPA, SIZE);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);

	mappings = vm_get_stat(vm, "pages_2m");
	pre_fault_all(GPA, SIZE);
	ASSERT_EQ(guest_memfd_nr_pages(fd), NR_PAGES);
	if (kvm_check_cap(KVM_CAP_GUEST_MEMFD_ORDER))
		ASSERT_EQ(vm_get_stat(vm, "pages_2m"), mappings + 2);
	check_no_faults(false);

	agent_fill(agent, GPA, SIZE, SEED);
	pre_fault_all(GPA, SIZE);
	agent_check(agent, GPA, SIZE, SEED);
}

SUBTEST(shared_memory)
{
	setup();
	vm_mem_fill(vm, GPA, SIZE, SEED);
	touch_page_tables();
	pre_fault_all(GPA, SIZE);
	check_no_faults(true);
	agent_check(agent, GPA, SIZE, SEED);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
}

SUBTEST(mixed_memory)
{
	uint64_t i;

	setup();
	vm_mem_fill(vm, GPA, SIZE, SEED);
	for (i = 0; i < NR_PAGES; i += 2)
		vm_mem_set_private(vm, GPA + i * PAGE_SIZE, PAGE_SIZE);
	touch_page_tables();
	pre_fault_all(GPA, SIZE);
	ASSERT_EQ(guest_memfd_nr_pages(fd), NR_PAGES / 2);
	check_no_faults(true);
	for (i = 0; i < NR_PAGES; i += 2) {
		agent_check_const(agent, GPA + i * PAGE_SIZE, PAGE_SIZE, 0);
		agent_check(agent, GPA + (i + 1) * PAGE_SIZE, PAGE_SIZE, SEED);
	}
}

SUBTEST(only_what_was_asked_for)
{
	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	vm_enable_cap(vm, KVM_CAP_GUEST_MEMFD_ORDER, 0);
	close(fd);
	vm_set_user_memory_region2(vm, SLOT, 0, GPA, 0, NULL, -1, 0);
	fd = vm_create_guest_memfd(vm, SIZE);
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, SIZE,
				   addr_gpa2hva(vm, GPA), fd, 0);
	pre_fault_all(GPA + 3 * PAGE_SIZE, 5 * PAGE_SIZE);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 5ul);
}

SUBTEST(errors)
{
	struct kvm_vm *real;
	struct kvm_vcpu *vcpu;

	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	ASSERT_EQ(pre_fault(GPA + 1, PAGE_SIZE, 0), EINVAL);
	ASSERT_EQ(pre_fault(GPA, PAGE_SIZE + 1, 0), EINVAL);
	ASSERT_EQ(pre_fault(GPA, 0, 0), EINVAL);
	ASSERT_EQ(pre_fault(GPA, PAGE_SIZE, 1), EINVAL);
	ASSERT_EQ(pre_fault(GPA, PAGE_SIZE, 1ULL << 63), EINVAL);
	ASSERT_EQ(pre_fault(GPA, -GPA, 0), EINVAL);
	ASSERT_EQ(pre_fault(-PAGE_SIZE, 2 * PAGE_SIZE, 0), EINVAL);
	ASSERT_EQ(range.gpa, (uint64_t)-PAGE_SIZE);
	ASSERT_EQ(range.size, 2ull * PAGE_SIZE);
	TEST_ASSERT(ioctl(agent->vcpu->fd, KVM_PRE_FAULT_MEMORY, NULL) == -1 &&
		    errno == EFAULT, "NULL: errno %d", errno);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);

	/* Past the end of the slot: what is in it is done, the rest is left. */
	ASSERT_EQ(pre_fault(GPA + SIZE - PAGE_SIZE, 3 * PAGE_SIZE, 0), 0);
	ASSERT_EQ(range.gpa, GPA + SIZE);
	ASSERT_EQ(range.size, 2ull * PAGE_SIZE);
	ASSERT_EQ(pre_fault(range.gpa, range.size, 0), ENOENT);
	ASSERT_EQ(range.gpa, GPA + SIZE);

	/* Private, but there is no private memory. */
	vm_mem_set_private(vm, 0, PAGE_SIZE);
	ASSERT_EQ(pre_fault(0, PAGE_SIZE, 0), EFAULT);

	/* An ordinary VM. */
	real = vm_create_with_one_vcpu(&vcpu, NULL);
	memset(&range, 0, sizeof(range));
	range.size = PAGE_SIZE;
	ASSERT_EQ(__vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range), 0);
	ASSERT_EQ(range.size, 0ull);
	kvm_vm_free(real);
}

/* Nobody empties the ring while memory is pre-faulted: it must not overflow. */
SUBTEST(dirty_ring)
{
	const uint32_t nr_entries = 1024;
	struct kvm_vcpu *vcpus[1];
	uint64_t size, gpa, done = 0;
	int i, err;

	vm = __vm_create(VM_MODE_DEFAULT, 1, 4 * nr_entries);
	if (!vm_check_cap(vm, KVM_CAP_DIRTY_LOG_RING))
		subtest_skip("no KVM_CAP_DIRTY_LOG_RING");
	vm_enable_dirty_ring(vm, nr_entries * sizeof(struct kvm_dirty_gfn));
	vcpus[0] = vm_vcpu_add(vm, 0, NULL);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, GPA, SLOT, 2 * nr_entries,
				    KVM_MEM_LOG_DIRTY_PAGES);
	size = 2ull * nr_entries * PAGE_SIZE;
	vm_mem_fill(vm, GPA, size, SEED);

	agents[0].vcpu = vcpus[0];
	for (i = 0, gpa = GPA; i < 4; i++) {
		err = pre_fault(gpa, GPA + size - gpa, 0);
		if (err)
			break;
		done += range.gpa - gpa;
		gpa = range.gpa;
	}
	ASSERT_EQ(err, EAGAIN);
	TEST_ASSERT(done && done < nr_entries * PAGE_SIZE, "%lu pages with %u entries",
		    done / PAGE_SIZE, nr_entries);
}

static bool stop;

static void *delete_loop(void *arg)
{
	void *mem = addr_gpa2hva(vm, GPA);

	while (!READ_ONCE(stop)) {
		vm_set_user_memory_region2(vm, SLOT, 0, GPA, 0, NULL, -1, 0);
		vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, SIZE, mem,
					   fd, 0);
		usleep(1000);
	}
	return NULL;
}

/* A slot that is being deleted waits for nobody, and nobody for it. */
SUBTEST(slot_deletion)
{
	int i, done = 0, gone = 0, busy = 0;
	pthread_t thread;

	setup();
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	pthread_create(&thread, NULL, delete_loop, NULL);
	for (i = 0; i < 1000000 && (done < 20 || gone + busy < 20); i++) {
		switch (pre_fault(GPA, SIZE, 0)) {
		case 0:
			done++;
			break;
		case ENOENT:
			gone++;
			break;
		case EAGAIN:
			busy++;
			break;
		default:
			TEST_FAIL("errno %d", errno);
		}
		if (i % 16 == 0)
			guest_memfd_punch(fd, 0, SIZE);
	}
	WRITE_ONCE(stop, true);
	pthread_join(thread, NULL);
	ksft_print_msg("%d done, %d gone, %d being deleted\n", done, gone, busy);
	TEST_ASSERT(done >= 20 && gone + busy >= 20, "Not everything was seen");
	pre_fault_all(GPA, SIZE);
}

static void *convert_loop(void *arg)
{
	uint64_t i;

	for (i = 0; !READ_ONCE(stop); i++) {
		uint64_t gpa = GPA + i * 7 % NR_PAGES * PAGE_SIZE;

		vm_mem_set_private(vm, gpa, PAGE_SIZE);
		guest_memfd_punch(fd, i * 13 % NR_PAGES * PAGE_SIZE, PAGE_SIZE);
		vm_mem_set_shared(vm, gpa, PAGE_SIZE);
	}
	return NULL;
}

SUBTEST(conversions)
{
	pthread_t thread;
	int i;

	setup();
	vm_mem_fill(vm, GPA, SIZE, SEED);
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	pthread_create(&thread, NULL, convert_loop, NULL);
	for (i = 0; i < 50; i++)
		pre_fault_all(GPA, SIZE);
	WRITE_ONCE(stop, true);
	pthread_join(thread, NULL);
	vm_mem_set_shared(vm, GPA, SIZE);
	agent_check(agent, GPA, SIZE, SEED);
}

static void on_alarm(int signal) { }

/* A signal ends it; what was done is done. */
SUBTEST(signals)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval timer = { .it_interval.tv_usec = 500, .it_value.tv_usec = 500 };
	int i, interrupted = 0, partial = 0;

	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	vm_mem_set_shared(vm, GPA + HUGE_SIZE, PAGE_SIZE);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (i = 0; i < 200; i++) {
		int err = pre_fault(GPA, SIZE, 0);

		TEST_ASSERT(!err || err == EINTR, "errno %d", err);
		if (err)
			interrupted++;
		else if (range.size)
			partial++;
		TEST_ASSERT(!err || range.gpa == GPA, "An error, but progress");
		if (i % 4 == 0)
			guest_memfd_punch(fd, 0, SIZE);
	}
	timer = (struct itimerval) {};
	setitimer(ITIMER_REAL, &timer, NULL);
	ksft_print_msg("%d interrupted at once, %d on the way\n", interrupted, partial);
	TEST_ASSERT(interrupted + partial, "No signal came through");
}

int main(int argc, char *argv[])
{
	require_private_mem();

	subtest_main(argc, argv);
}
