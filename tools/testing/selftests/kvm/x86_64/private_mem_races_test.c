// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest faults on private memory that race with all that can happen to it:
 * conversions, holes, allocation, slots that go and come back, files that are
 * closed.
 *
 * vCPUs write to memory all the time, each to words of its own, and check what
 * they read: a word is zero or something that this vCPU once wrote at this very
 * address.  A page that is used by the guest after it was freed would break
 * that, or break the pattern that another thread keeps writing to memory it
 * allocates, checks, and frees.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "processor.h"
#include "subtest.h"

#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define NR_PAGES	1024ULL		/* two huge pages */
#define SIZE		(NR_PAGES * PAGE_SIZE)

#define NR_VCPUS	2
#define DURATION_NS	(1000 * 1000000LL)

static struct kvm_vcpu *vcpus[NR_VCPUS];
static struct kvm_vm *vm;
static void *hva;
static int fd;

/* Set by the host in the guest's memory. */
static uint64_t guest_stop;

static bool stop;

/*
 * Guest
 */
#define COUNT_BITS	32

static void guest_stress(uint64_t id)
{
	uint64_t random = id * 0x9e3779b97f4a7c15ULL + 1, count = 0;

	while (!READ_ONCE(guest_stop)) {
		uint64_t page, tag, old, i, *word;

		/* Runs of pages, from a random one on. */
		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		page = (random >> 33) % NR_PAGES;
		for (i = 0; i < 16 && page < NR_PAGES; i++, page++) {
			word = (uint64_t *)(GPA + page * PAGE_SIZE + id * 512);
			tag = (page * NR_VCPUS + id + 1) << COUNT_BITS;

			old = READ_ONCE(*word);
			if (old)
				GUEST_ASSERT_3((old & GENMASK_ULL(63, COUNT_BITS)) == tag &&
					       (old & GENMASK_ULL(COUNT_BITS - 1, 0)) <= count,
					       page, old, tag | count);
			count++;
			WRITE_ONCE(*word, tag | count);
		}
	}
	GUEST_DONE();
}

static void setup(void)
{
	int i;

	vm = vm_create_private(NR_VCPUS, NR_PAGES, guest_stress, vcpus);
	virt_map(vm, GPA, GPA, NR_PAGES);
	for (i = 0; i < NR_VCPUS; i++)
		vcpu_args_set(vcpus[i], 1, (uint64_t)i);

	hva = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(hva != MAP_FAILED, "mmap() failed, errno: %d", errno);
	fd = vm_create_guest_memfd(vm, SIZE);
}

static int add_slot(int file)
{
	return __vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, SIZE,
					    hva, file, 0);
}

static int delete_slot(void)
{
	return __vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, 0, 0,
					    NULL, -1, 0);
}

static void setup_private(void)
{
	setup();
	TEST_ASSERT(!add_slot(fd), "KVM_SET_USER_MEMORY_REGION2: errno %d", errno);
	vm_mem_set_private(vm, GPA, SIZE);
}

/*
 * Threads
 */
static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return *state >> 33;
}

struct racer {
	const char *name;
	void (*fn)(uint64_t *random);
	pthread_t thread;
	uint64_t random, rounds;
};

/* Exits for memory that is not there are part of the game, in some games. */
static bool faults_allowed;
static uint64_t nr_faults;

static void *run_vcpu(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct kvm_run *run = vcpu->run;
	struct ucall uc;

	for (;;) {
		int ret;

		run->exit_reason = KVM_EXIT_UNKNOWN;
		ret = __vcpu_run(vcpu);
		if (ret && errno == EINTR)
			continue;

		if (ret) {
			TEST_ASSERT(errno == EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT,
				    "KVM_RUN: errno %d, exit reason %s", errno,
				    exit_reason_str(run->exit_reason));
			TEST_ASSERT(faults_allowed &&
				    run->memory_fault.flags == KVM_MEMORY_EXIT_FLAG_PRIVATE &&
				    run->memory_fault.gpa >= GPA &&
				    run->memory_fault.gpa < GPA + SIZE &&
				    run->memory_fault.size == PAGE_SIZE,
				    "Memory fault at 0x%llx size 0x%llx flags 0x%llx",
				    run->memory_fault.gpa, run->memory_fault.size,
				    run->memory_fault.flags);
			__atomic_add_fetch(&nr_faults, 1, __ATOMIC_RELAXED);
			sched_yield();
			/* Without memory the guest does not get to see it. */
			if (READ_ONCE(stop))
				return NULL;
			continue;
		}

		if (run->exit_reason == KVM_EXIT_MMIO) {
			TEST_ASSERT(faults_allowed && run->mmio.phys_addr >= GPA &&
				    run->mmio.phys_addr < GPA + SIZE,
				    "MMIO at 0x%llx", run->mmio.phys_addr);
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0, sizeof(run->mmio.data));
			continue;
		}

		switch (get_ucall(vcpu, &uc)) {
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT_3(uc, "page %lu: 0x%lx, the last was 0x%lx");
		case UCALL_DONE:
			return NULL;
		default:
			TEST_FAIL("Exit reason %s", exit_reason_str(run->exit_reason));
		}
	}
}

static void *run_racer(void *arg)
{
	struct racer *racer = arg;

	while (!READ_ONCE(stop)) {
		racer->fn(&racer->random);
		racer->rounds++;
	}
	return NULL;
}

/* Use, check and free memory, to find who else uses it. */
static void churn(uint64_t *random)
{
	uint64_t i, seed = next_random(random), size = (64 + seed % 512) * PAGE_SIZE;
	uint64_t *mem;

	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap() failed, errno: %d", errno);
	for (i = 0; i < size / 8; i += 64)
		mem[i] = ~seed;
	sched_yield();
	for (i = 0; i < size / 8; i += 64)
		TEST_ASSERT(mem[i] == ~seed, "Word %lu of a new mapping: 0x%lx, not 0x%lx",
			    i, mem[i], ~seed);
	munmap(mem, size);
	usleep(500);
}

static void race(struct racer *racers, int nr)
{
	struct racer churner = { .name = "churn", .fn = churn, .random = 1 };
	pthread_t vcpu_threads[NR_VCPUS];
	struct timespec start;
	int i;

	/* Before the threads: the guest's variable is looked up by page walk. */
	uint64_t *stop_word = addr_gva2hva(vm, (uint64_t)&guest_stop);

	for (i = 0; i < NR_VCPUS; i++)
		pthread_create(&vcpu_threads[i], NULL, run_vcpu, vcpus[i]);
	for (i = 0; i < nr; i++) {
		racers[i].random = i + 2;
		pthread_create(&racers[i].thread, NULL, run_racer, &racers[i]);
	}
	pthread_create(&churner.thread, NULL, run_racer, &churner);

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (timespec_to_ns(timespec_elapsed(start)) < DURATION_NS)
		usleep(10000);

	WRITE_ONCE(*stop_word, 1);
	WRITE_ONCE(stop, true);
	pthread_join(churner.thread, NULL);
	for (i = 0; i < nr; i++) {
		pthread_join(racers[i].thread, NULL);
		ksft_print_msg("%s: %lu rounds\n", racers[i].name, racers[i].rounds);
		TEST_ASSERT(racers[i].rounds, "%s got nowhere", racers[i].name);
	}
	for (i = 0; i < NR_VCPUS; i++)
		pthread_join(vcpu_threads[i], NULL);
	if (faults_allowed)
		ksft_print_msg("%lu memory faults\n", nr_faults);
}

#define RACE(...) do {							\
	struct racer __racers[] = { __VA_ARGS__ };			\
									\
	race(__racers, ARRAY_SIZE(__racers));				\
} while (0)

#define RACER(_fn) { .name = #_fn, .fn = _fn }

static void random_range(uint64_t *random, uint64_t *start, uint64_t *size)
{
	uint64_t first = next_random(random) % NR_PAGES;
	uint64_t nr = 1 + next_random(random) % (NR_PAGES - first);

	if (next_random(random) % 4)
		nr = 1 + nr % 32 % (NR_PAGES - first);
	*start = first * PAGE_SIZE;
	*size = nr * PAGE_SIZE;
}

static void convert(uint64_t *random)
{
	uint64_t start, size;

	random_range(random, &start, &size);
	vm_set_memory_attributes(vm, GPA + start, size,
				 next_random(random) % 2 ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0);
}

static void punch(uint64_t *random)
{
	uint64_t start, size;
	int ret;

	random_range(random, &start, &size);
	ret = guest_memfd_punch(fd, start, size);
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("fallocate()", ret));
}

static void allocate(uint64_t *random)
{
	uint64_t start, size;
	int ret;

	random_range(random, &start, &size);
	ret = guest_memfd_alloc(fd, start, size);
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("fallocate()", ret));
}

/* The slot goes and comes back.  Nobody else deletes or adds it. */
static void replace_slot(uint64_t *random)
{
	int ret;

	ret = delete_slot();
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("deleting the slot", ret));
	if (next_random(random) % 2)
		usleep(next_random(random) % 1000);
	ret = add_slot(fd);
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("adding the slot", ret));
	usleep(next_random(random) % 2000);
}

/* The file is a new one each time, and closed while the guest uses it. */
static void replace_file(uint64_t *random)
{
	int file = vm_create_guest_memfd(vm, SIZE), ret;

	ret = add_slot(file);
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("adding the slot", ret));
	usleep(next_random(random) % 3000);
	close(file);
	usleep(next_random(random) % 200);
	ret = delete_slot();
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("deleting the slot", ret));
}

/* Closing and deleting at the same time, by two threads. */
static sem_t close_sem, closed_sem;
static int file_to_close;

static void close_file(uint64_t *random)
{
	if (sem_trywait(&close_sem)) {
		sched_yield();
		return;
	}
	close(file_to_close);
	sem_post(&closed_sem);
}

static void replace_file_racing(uint64_t *random)
{
	int ret;

	file_to_close = vm_create_guest_memfd(vm, SIZE);
	ret = add_slot(file_to_close);
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("adding the slot", ret));
	usleep(next_random(random) % 2000);
	sem_post(&close_sem);
	if (next_random(random) % 2)
		sched_yield();
	ret = delete_slot();
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("deleting the slot", ret));
	while (sem_trywait(&closed_sem)) {
		if (READ_ONCE(stop))
			return;
		sched_yield();
	}
}

static void assert_all_returned(void)
{
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, SIZE), "fallocate() failed, errno: %d", errno);
	ASSERT_EQ(guest_memfd_nr_pages(fd), NR_PAGES);
	TEST_ASSERT(!guest_memfd_punch(fd, 0, SIZE), "fallocate() failed, errno: %d", errno);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
}

SUBTEST(nothing_but_faults)
{
	setup_private();
	RACE();
	assert_all_returned();
}

SUBTEST(conversions)
{
	setup_private();
	RACE(RACER(convert));
	assert_all_returned();
}

SUBTEST(conversions_by_two_threads)
{
	setup_private();
	RACE(RACER(convert), RACER(convert));
	assert_all_returned();
}

SUBTEST(conversions_with_huge_shared_pages)
{
	setup();
	munmap(hva, SIZE);
	hva = mmap(NULL, SIZE + (2 << 20), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(hva != MAP_FAILED, "mmap() failed, errno: %d", errno);
	hva = align_ptr_up(hva, 2 << 20);
	madvise(hva, SIZE, MADV_HUGEPAGE);
	TEST_ASSERT(!add_slot(fd), "KVM_SET_USER_MEMORY_REGION2: errno %d", errno);
	RACE(RACER(convert));
	assert_all_returned();
}

SUBTEST(holes)
{
	setup_private();
	RACE(RACER(punch));
	assert_all_returned();
}

SUBTEST(holes_and_allocation)
{
	setup_private();
	RACE(RACER(punch), RACER(allocate));
	assert_all_returned();
}

SUBTEST(holes_and_conversions)
{
	setup_private();
	RACE(RACER(punch), RACER(convert));
	assert_all_returned();
}

SUBTEST(slot_deletion)
{
	faults_allowed = true;
	setup_private();
	RACE(RACER(replace_slot));
	assert_all_returned();
}

SUBTEST(slot_deletion_and_holes)
{
	faults_allowed = true;
	setup_private();
	RACE(RACER(replace_slot), RACER(punch));
	assert_all_returned();
}

SUBTEST(slot_deletion_and_conversions)
{
	faults_allowed = true;
	setup_private();
	RACE(RACER(replace_slot), RACER(convert));
	assert_all_returned();
}

SUBTEST(file_close)
{
	faults_allowed = true;
	setup_private();
	delete_slot();
	RACE(RACER(replace_file));
}

SUBTEST(file_close_and_slot_deletion)
{
	faults_allowed = true;
	setup_private();
	delete_slot();
	sem_init(&close_sem, 0, 0);
	sem_init(&closed_sem, 0, 0);
	RACE(RACER(replace_file_racing), RACER(close_file));
}

SUBTEST(file_close_and_conversions)
{
	faults_allowed = true;
	setup_private();
	delete_slot();
	RACE(RACER(replace_file), RACER(convert));
}

SUBTEST(everything)
{
	faults_allowed = true;
	setup_private();
	RACE(RACER(replace_slot), RACER(convert), RACER(punch), RACER(allocate));
	assert_all_returned();
}

/*
 * Without a guest
 */
static pthread_barrier_t barrier;
static uint64_t nr_bound;

static void *bind_in_thread(void *arg)
{
	uint64_t i, id = (uint64_t)arg;

	/* Ranges of the file that overlap with the others'. */
	for (i = 0; i < 200; i++) {
		int ret;

		pthread_barrier_wait(&barrier);
		ret = __vm_set_user_memory_region2(vm, SLOT + id, KVM_MEM_GUEST_MEMFD,
						   GPA + id * SIZE, SIZE / 2, hva, fd,
						   id * PAGE_SIZE);
		TEST_ASSERT(!ret || errno == EEXIST, "returned %d, errno %d", ret, errno);
		if (!ret)
			__atomic_add_fetch(&nr_bound, 1, __ATOMIC_SEQ_CST);
		pthread_barrier_wait(&barrier);
		TEST_ASSERT(nr_bound == 1, "%lu slots have the range", nr_bound);
		pthread_barrier_wait(&barrier);
		if (!ret) {
			nr_bound = 0;
			ret = __vm_set_user_memory_region2(vm, SLOT + id, KVM_MEM_GUEST_MEMFD,
							   0, 0, NULL, -1, 0);
			TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("deleting the slot", ret));
		}
	}
	return NULL;
}

SUBTEST(binding_by_several_threads)
{
	pthread_t threads[4];
	uint64_t i;

	setup();
	pthread_barrier_init(&barrier, NULL, ARRAY_SIZE(threads));
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, bind_in_thread, (void *)i);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
}

static void *close_in_thread(void *arg)
{
	pthread_barrier_wait(&barrier);
	close((long)arg);
	return NULL;
}

SUBTEST(vm_and_file_closed_together)
{
	int i;

	pthread_barrier_init(&barrier, NULL, 2);
	for (i = 0; i < 50; i++) {
		pthread_t threads[2];

		vm = vm_create_private_barebones();
		fd = vm_create_guest_memfd(vm, SIZE);
		vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, SIZE,
					   NULL, fd, 0);
		TEST_ASSERT(!guest_memfd_alloc(fd, 0, 16 * PAGE_SIZE), "fallocate()");
		pthread_create(&threads[0], NULL, close_in_thread, (void *)(long)vm->fd);
		pthread_create(&threads[1], NULL, close_in_thread, (void *)(long)fd);
		pthread_join(threads[0], NULL);
		pthread_join(threads[1], NULL);
		close(vm->kvm_fd);
	}
}

static void *convert_in_thread(void *arg)
{
	uint64_t random = (uint64_t)arg;
	int i;

	for (i = 0; i < 2000; i++)
		convert(&random);
	return NULL;
}

SUBTEST(conversions_leave_a_sound_store)
{
	uint64_t i;
	pthread_t threads[4];
	struct agent agent;

	vm = vm_create_agents(1, NR_PAGES, &agent);
	virt_map(vm, GPA, GPA, NR_PAGES);
	vm_mem_region_add_private(vm, GPA, SLOT, NR_PAGES, -1, 0);
	vm_mem_fill(vm, GPA, SIZE, 1);

	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, convert_in_thread, (void *)(i + 1));
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);

	/* Whatever it is now, each page can be made what is wanted. */
	vm_mem_set_private(vm, GPA, SIZE);
	agent_fill(&agent, GPA, SIZE, 2);
	for (i = 0; i < NR_PAGES; i += 2)
		vm_mem_set_shared(vm, GPA + i * PAGE_SIZE, PAGE_SIZE);
	for (i = 0; i < NR_PAGES; i++)
		agent_check(&agent, GPA + i * PAGE_SIZE, 64, i % 2 ? 2 : 1);
}

int main(int argc, char *argv[])
{
	require_private_mem();

	subtest_main(argc, argv);
}
