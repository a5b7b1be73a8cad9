// SPDX-License-Identifier: GPL-2.0-only
/*
 * The numbers of the private memory ABI, its capabilities, the types of
 * virtual machines, and KVM_SET_MEMORY_ATTRIBUTES.
 */
#define _GNU_SOURCE
#include <glob.h>
#include <linux/magic.h>
#include <linux/membarrier.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "processor.h"
#include "subtest.h"

#define MB		BIT_ULL(20)
#define GB		BIT_ULL(30)
#define TB		BIT_ULL(40)
#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE

/*
 * Numbers: programs that were built with other headers rely on them.
 */
static_assert(KVM_CAP_USER_MEMORY2 == 231, "");
static_assert(KVM_CAP_MEMORY_FAULT_INFO == 232, "");
static_assert(KVM_CAP_MEMORY_ATTRIBUTES == 233, "");
static_assert(KVM_CAP_GUEST_MEMFD == 234, "");
static_assert(KVM_CAP_VM_TYPES == 235, "");
static_assert(KVM_SET_USER_MEMORY_REGION2 == 0x40a0ae49, "");
static_assert(KVM_SET_MEMORY_ATTRIBUTES == 0x4020aed2, "");
static_assert(KVM_CREATE_GUEST_MEMFD == 0xc040aed4, "");
static_assert(KVM_MEM_GUEST_MEMFD == 4, "");
static_assert(KVM_MEMORY_ATTRIBUTE_PRIVATE == 8, "");
static_assert(KVM_MEMORY_EXIT_FLAG_PRIVATE == 8, "");
static_assert(KVM_EXIT_MEMORY_FAULT == 39, "");
static_assert(KVM_X86_DEFAULT_VM == 0, "");
static_assert(KVM_X86_SW_PROTECTED_VM == 1, "");
static_assert(GUEST_MEMFD_MAGIC == 0x474d454d, "");

#define ASSERT_FIELD(_type, _field, _offset, _size)			\
static_assert(offsetof(struct _type, _field) == (_offset) &&		\
	      sizeof(((struct _type *)0)->_field) == (_size), #_field)

static_assert(sizeof(struct kvm_userspace_memory_region2) == 160, "");
ASSERT_FIELD(kvm_userspace_memory_region2, slot, 0, 4);
ASSERT_FIELD(kvm_userspace_memory_region2, flags, 4, 4);
ASSERT_FIELD(kvm_userspace_memory_region2, guest_phys_addr, 8, 8);
ASSERT_FIELD(kvm_userspace_memory_region2, memory_size, 16, 8);
ASSERT_FIELD(kvm_userspace_memory_region2, userspace_addr, 24, 8);
ASSERT_FIELD(kvm_userspace_memory_region2, guest_memfd_offset, 32, 8);
ASSERT_FIELD(kvm_userspace_memory_region2, guest_memfd, 40, 4);
ASSERT_FIELD(kvm_userspace_memory_region2, pad1, 44, 4);
ASSERT_FIELD(kvm_userspace_memory_region2, pad2, 48, 112);

static_assert(sizeof(struct kvm_memory_attributes) == 32, "");
ASSERT_FIELD(kvm_memory_attributes, address, 0, 8);
ASSERT_FIELD(kvm_memory_attributes, size, 8, 8);
ASSERT_FIELD(kvm_memory_attributes, attributes, 16, 8);
ASSERT_FIELD(kvm_memory_attributes, flags, 24, 8);

static_assert(sizeof(struct kvm_create_guest_memfd) == 64, "");
ASSERT_FIELD(kvm_create_guest_memfd, size, 0, 8);
ASSERT_FIELD(kvm_create_guest_memfd, flags, 8, 8);
ASSERT_FIELD(kvm_create_guest_memfd, reserved, 16, 48);

ASSERT_FIELD(kvm_run, memory_fault, 32, 24);
ASSERT_FIELD(kvm_run, memory_fault.flags, 32, 8);
ASSERT_FIELD(kvm_run, memory_fault.gpa, 40, 8);
ASSERT_FIELD(kvm_run, memory_fault.size, 48, 8);

static struct kvm_vm *vm;

static void setup(void)
{
	vm = vm_create_private_barebones();
}

static uint64_t max_gpa(void)
{
	return 1ULL << vm->pa_bits;
}

static void assert_rejected(uint64_t gpa, uint64_t size, uint64_t attributes,
			    uint64_t flags)
{
	struct kvm_memory_attributes args = {
		.address = gpa,
		.size = size,
		.attributes = attributes,
		.flags = flags,
	};
	int ret;

	ret = __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &args);
	TEST_ASSERT(ret == -1 && errno == EINVAL,
		    "0x%lx + 0x%lx, attributes 0x%lx flags 0x%lx: returned %d, errno %d (%s)",
		    gpa, size, attributes, flags, ret, errno, strerror(errno));
}

/*
 * Capabilities and types
 */
SUBTEST(caps_system)
{
	ASSERT_EQ(kvm_check_cap(KVM_CAP_USER_MEMORY2), 1u);
	ASSERT_EQ(kvm_check_cap(KVM_CAP_MEMORY_FAULT_INFO), 1u);
	ASSERT_EQ(kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES), (unsigned int)PRIVATE);
	ASSERT_EQ(kvm_check_cap(KVM_CAP_GUEST_MEMFD), 1u);
}

SUBTEST(caps_private_vm)
{
	setup();
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_USER_MEMORY2), 1);
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_MEMORY_FAULT_INFO), 1);
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES), (int)PRIVATE);
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD), 1);
}

SUBTEST(caps_default_vm)
{
	vm = vm_create_barebones();
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_USER_MEMORY2), 1);
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_MEMORY_FAULT_INFO), 1);
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES), 0);
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD), 0);
}

SUBTEST(vm_types_reported)
{
	unsigned int types = kvm_check_cap(KVM_CAP_VM_TYPES);

	TEST_ASSERT(types & (1u << KVM_X86_DEFAULT_VM), "Types: 0x%x", types);
	TEST_ASSERT(types & (1u << KVM_X86_SW_PROTECTED_VM), "Types: 0x%x", types);
	/* The ABI has no others. */
	TEST_ASSERT(!(types & ~0x3fu), "Types: 0x%x", types);

	setup();
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_VM_TYPES), (int)types);
}

static int try_create_vm(unsigned long type)
{
	int kvm_fd = open_path_or_exit(KVM_DEV_PATH, O_RDWR);
	int vm_fd = __kvm_ioctl(kvm_fd, KVM_CREATE_VM, (void *)type);
	int error = errno;

	close(kvm_fd);
	if (vm_fd < 0)
		return -error;
	close(vm_fd);
	return 0;
}

SUBTEST(vm_types_created)
{
	unsigned int types = kvm_check_cap(KVM_CAP_VM_TYPES);
	int bit;

	ASSERT_EQ(try_create_vm(KVM_X86_DEFAULT_VM), 0);
	ASSERT_EQ(try_create_vm(KVM_X86_SW_PROTECTED_VM), 0);
	for (bit = 0; bit < 32; bit++) {
		if (!(types & (1u << bit)))
			ASSERT_EQ(try_create_vm(bit), -EINVAL);
	}
	for (bit = 5; bit < 64; bit++) {
		ASSERT_EQ(try_create_vm(1ul << bit), -EINVAL);
		ASSERT_EQ(try_create_vm(1ul << bit | KVM_X86_SW_PROTECTED_VM), -EINVAL);
	}
	ASSERT_EQ(try_create_vm(-1ul), -EINVAL);
}

/*
 * Arguments of KVM_SET_MEMORY_ATTRIBUTES
 */
SUBTEST(args_unreadable)
{
	int ret;

	setup();
	ret = ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES, 8);
	TEST_ASSERT(ret == -1 && errno == EFAULT, "returned %d, errno %d", ret, errno);
}

SUBTEST(size_zero)
{
	setup();
	assert_rejected(0, 0, PRIVATE, 0);
	assert_rejected(GB, 0, PRIVATE, 0);
	assert_rejected(GB, 0, 0, 0);
	assert_rejected(-PAGE_SIZE, 0, 0, 0);
}

SUBTEST(unaligned)
{
	setup();
	assert_rejected(1, PAGE_SIZE, PRIVATE, 0);
	assert_rejected(PAGE_SIZE / 2, PAGE_SIZE, PRIVATE, 0);
	assert_rejected(GB + PAGE_SIZE - 1, PAGE_SIZE, PRIVATE, 0);
	assert_rejected(0, 1, PRIVATE, 0);
	assert_rejected(0, PAGE_SIZE / 2, PRIVATE, 0);
	assert_rejected(0, PAGE_SIZE - 1, 0, 0);
	assert_rejected(0, PAGE_SIZE + 1, PRIVATE, 0);
	assert_rejected(PAGE_SIZE / 2, PAGE_SIZE / 2, 0, 0);
}

SUBTEST(wraps)
{
	setup();
	assert_rejected(-PAGE_SIZE, PAGE_SIZE, PRIVATE, 0);
	assert_rejected(-PAGE_SIZE, 2 * PAGE_SIZE, PRIVATE, 0);
	assert_rejected(PAGE_SIZE, -PAGE_SIZE, PRIVATE, 0);
	assert_rejected(GB, -PAGE_SIZE, PRIVATE, 0);
	assert_rejected(1ULL << 63, 1ULL << 63, PRIVATE, 0);
	assert_rejected(-PAGE_SIZE, -PAGE_SIZE, 0, 0);
}

SUBTEST(beyond_physical_addresses)
{
	setup();
	assert_rejected(1ULL << 52, PAGE_SIZE, PRIVATE, 0);
	assert_rejected((1ULL << 52) - PAGE_SIZE, 2 * PAGE_SIZE, PRIVATE, 0);
	assert_rejected(0, (1ULL << 52) + PAGE_SIZE, PRIVATE, 0);
	assert_rejected(0, 1ULL << 53, PRIVATE, 0);
	assert_rejected(1ULL << 62, 1ULL << 62, PRIVATE, 0);
	assert_rejected(0, -PAGE_SIZE, PRIVATE, 0);
	assert_rejected(0, -PAGE_SIZE, 0, 0);
	assert_rejected(-2 * PAGE_SIZE, PAGE_SIZE, PRIVATE, 0);
}

SUBTEST(flags)
{
	int bit;

	setup();
	for (bit = 0; bit < 64; bit++) {
		assert_rejected(GB, PAGE_SIZE, PRIVATE, 1ULL << bit);
		assert_rejected(GB, PAGE_SIZE, 0, 1ULL << bit);
	}
	assert_rejected(GB, PAGE_SIZE, PRIVATE, -1ULL);
}

SUBTEST(attributes_unknown)
{
	uint64_t known;
	int bit;

	setup();
	known = vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES);
	for (bit = 0; bit < 64; bit++) {
		if (known & (1ULL << bit))
			continue;
		assert_rejected(GB, PAGE_SIZE, 1ULL << bit, 0);
		assert_rejected(GB, PAGE_SIZE, 1ULL << bit | PRIVATE, 0);
	}
	assert_rejected(GB, PAGE_SIZE, -1ULL, 0);
}

SUBTEST(default_vm)
{
	int ret;

	vm = vm_create_barebones();
	ret = __vm_set_memory_attributes(vm, GB, PAGE_SIZE, PRIVATE);
	TEST_ASSERT(ret == -1 && (errno == EINVAL || errno == ENOTTY),
		    "returned %d, errno %d", ret, errno);
}

/*
 * Ranges that are legal
 */
SUBTEST(without_slots)
{
	setup();
	vm_mem_set_private(vm, 0, PAGE_SIZE);
	vm_mem_set_private(vm, GB, GB);
	vm_mem_set_private(vm, GB + 3 * PAGE_SIZE, 7 * PAGE_SIZE);
	vm_mem_set_shared(vm, GB + 5 * PAGE_SIZE, PAGE_SIZE);
	vm_mem_set_shared(vm, 0, 4 * GB);
	vm_mem_set_shared(vm, 0, 4 * GB);
}

SUBTEST(up_to_last_page)
{
	setup();
	vm_mem_set_private(vm, max_gpa() - PAGE_SIZE, PAGE_SIZE);
	vm_mem_set_private(vm, 0, max_gpa());
	vm_mem_set_shared(vm, max_gpa() - PAGE_SIZE, PAGE_SIZE);
	vm_mem_set_shared(vm, 0, max_gpa());
}

SUBTEST(before_slots)
{
	int fd;

	setup();
	fd = vm_create_guest_memfd(vm, 8 * MB);
	vm_mem_set_private(vm, 0, 2 * GB);
	vm_mem_set_shared(vm, GB + MB, PAGE_SIZE);

	/* All kinds, and edges within huge pages. */
	vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, GB + PAGE_SIZE,
				   4 * MB, (void *)TB, fd, 0);
	vm_set_user_memory_region2(vm, 1, 0, 2 * GB - MB, 2 * MB, (void *)(TB + GB), -1, 0);
	vm_mem_set_shared(vm, GB, 8 * MB);
	vm_mem_set_private(vm, GB - MB, 2 * MB);
	vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, 0, 0, NULL, -1, 0);
	vm_mem_set_shared(vm, 0, 4 * GB);
}

SUBTEST(many_boundaries)
{
	uint64_t i, nr = 4096;

	/* Every other page, in an order that is neither up nor down. */
	setup();
	for (i = 0; i < nr; i++)
		vm_mem_set_private(vm, GB + (i * 1021 % nr) * 2 * PAGE_SIZE, PAGE_SIZE);
	for (i = 0; i < nr; i++)
		vm_mem_set_private(vm, GB + (i * 643 % nr) * 2 * PAGE_SIZE + PAGE_SIZE, PAGE_SIZE);
	for (i = 0; i < nr; i++)
		vm_mem_set_shared(vm, GB + (i * 3 % nr) * 2 * PAGE_SIZE, PAGE_SIZE);
	vm_mem_set_private(vm, 0, max_gpa());
	vm_mem_set_shared(vm, 0, max_gpa());
}

SUBTEST(vm_dies_with_attributes)
{
	uint64_t i;

	setup();
	vm_mem_set_private(vm, TB / 4, TB / 4);
	for (i = 0; i < 512; i++)
		vm_mem_set_private(vm, GB + i * 2 * PAGE_SIZE, PAGE_SIZE);
	kvm_vm_free(vm);
}

/* What is freed after a grace period is freed, if all goes well, after this. */
static void wait_for_rcu(void)
{
	syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
	usleep(10000);
}

/* Boundaries in so many huge pages that any tree for them is a deep one. */
#define NR_BLOCKS	4096

static void set_many_blocks(void)
{
	uint64_t i;

	setup();
	for (i = 0; i < NR_BLOCKS; i++)
		vm_mem_set_private(vm, GB + i * 2 * MB, PAGE_SIZE);
}

SUBTEST(many_blocks_cleared_at_once)
{
	set_many_blocks();
	vm_mem_set_shared(vm, 0, max_gpa());
	wait_for_rcu();
}

SUBTEST(many_blocks_cleared_in_part)
{
	uint64_t len;

	/* Whole subtrees of all sizes go, at both ends and in between. */
	set_many_blocks();
	for (len = 4 * MB; len < 2 * GB; len = len * 3 + PAGE_SIZE) {
		vm_mem_set_shared(vm, 2 * GB + len, len);
		vm_mem_set_private(vm, 4 * GB + len, len);
		vm_mem_set_shared(vm, GB + NR_BLOCKS * 2 * MB - 2 * len, len);
	}
	vm_mem_set_private(vm, 0, max_gpa());
	wait_for_rcu();
}

SUBTEST(vm_dies_with_many_blocks)
{
	set_many_blocks();
	kvm_vm_free(vm);
	wait_for_rcu();
}

/*
 * Costs
 */
#define NR_ROUNDS	9

static int compare(const void *a, const void *b)
{
	int64_t diff = *(const int64_t *)a - *(const int64_t *)b;

	return diff < 0 ? -1 : diff > 0;
}

static int64_t median(int64_t *values)
{
	qsort(values, NR_ROUNDS, sizeof(*values), compare);
	return values[NR_ROUNDS / 2];
}

static int64_t timed_set(uint64_t gpa, uint64_t size, uint64_t attributes)
{
	struct timespec start;

	clock_gettime(CLOCK_MONOTONIC, &start);
	vm_set_memory_attributes(vm, gpa, size, attributes);
	return timespec_to_ns(timespec_elapsed(start));
}

static void measure(uint64_t gpa, uint64_t size, int64_t *set, int64_t *clear)
{
	int64_t sets[NR_ROUNDS], clears[NR_ROUNDS];
	int i;

	for (i = 0; i < NR_ROUNDS; i++) {
		sets[i] = timed_set(gpa, size, PRIVATE);
		clears[i] = timed_set(gpa, size, 0);
	}
	*set = median(sets);
	*clear = median(clears);
}

/* As much as the machine has; 1 TiB with 40 bits of address. */
static uint64_t big_size(void)
{
	return max_gpa() < TB ? max_gpa() : TB;
}

static void assert_cost_of_size(uint64_t small_gpa, uint64_t big_gpa, uint64_t big)
{
	int64_t set_small, clear_small, set_big, clear_big;

	measure(small_gpa, 2 * MB, &set_small, &clear_small);
	measure(big_gpa, big, &set_big, &clear_big);

	ksft_print_msg("2 MiB: set %ld ns, cleared %ld ns; %lu MiB: set %ld ns, cleared %ld ns\n",
		       set_small, clear_small, (unsigned long)(big / MB), set_big,
		       clear_big);
	TEST_ASSERT(set_big < 20 * set_small, "Setting takes %ld ns, not %ld",
		    set_big, set_small);
	TEST_ASSERT(clear_big < 20 * clear_small, "Clearing takes %ld ns, not %ld",
		    clear_big, clear_small);
}

SUBTEST(cost_does_not_grow_with_size)
{
	setup();
	assert_cost_of_size(4 * GB, 0, big_size());
}

SUBTEST(cost_does_not_grow_with_size_unaligned)
{
	/* The worst case for a tree: no end is aligned to anything. */
	setup();
	assert_cost_of_size(4 * GB + 3 * PAGE_SIZE, 5 * PAGE_SIZE,
			    big_size() - 12 * PAGE_SIZE);
}

/*
 * Slab in KiB, with what the per-CPU counters hold back included, and without
 * what kmalloc()'s caches keep: free slabs and, with KASAN, freed objects.  All
 * files are opened once, lest the measuring itself be measured.
 */
#define MAX_CACHES	128

static int cache_fds[MAX_CACHES], nr_caches, refresh_fd, meminfo_fd = -1;

static void open_slab_files(void)
{
	glob_t caches;
	size_t i;

	meminfo_fd = open("/proc/meminfo", O_RDONLY);
	refresh_fd = open("/proc/sys/vm/stat_refresh", O_WRONLY);

	if (glob("/sys/kernel/slab/kmalloc-*/shrink", GLOB_NOSORT, NULL, &caches))
		return;
	for (i = 0; i < caches.gl_pathc && nr_caches < MAX_CACHES; i++) {
		cache_fds[nr_caches] = open(caches.gl_pathv[i], O_WRONLY);
		if (cache_fds[nr_caches] >= 0)
			nr_caches++;
	}
	globfree(&caches);
}

static int64_t read_slab(void)
{
	char buf[4096], *line;
	int64_t slab = -1;
	ssize_t len;
	int i;

	if (meminfo_fd < 0)
		open_slab_files();

	for (i = 0; i < nr_caches; i++)
		if (pwrite(cache_fds[i], "1", 1, 0) != 1)
			pr_debug("a cache cannot be shrunk\n");
	if (refresh_fd >= 0 && pwrite(refresh_fd, "1", 1, 0) != 1)
		pr_debug("stat_refresh cannot be written\n");

	len = pread(meminfo_fd, buf, sizeof(buf) - 1, 0);
	if (len <= 0)
		return -1;
	buf[len] = '\0';
	line = strstr(buf, "\nSlab:");
	if (line)
		sscanf(line, "\nSlab: %ld kB", &slab);
	return slab;
}

static int64_t read_slab_settled(void)
{
	wait_for_rcu();
	return read_slab();
}

/*
 * The rest of the system allocates and frees, too: the median of several
 * rounds is what attributes cost.
 */
static int64_t slab_growth(uint64_t gpa, uint64_t size, uint64_t step, uint64_t len)
{
	int64_t growths[NR_ROUNDS];
	uint64_t start;
	int i;

	for (i = 0; i < NR_ROUNDS; i++) {
		growths[i] = -read_slab_settled();
		for (start = gpa; start < gpa + size; start += step)
			vm_mem_set_private(vm, start, len);
		growths[i] += read_slab_settled();
		vm_mem_set_shared(vm, gpa, size);
	}
	return median(growths);
}

SUBTEST(memory_does_not_grow_with_size)
{
	int64_t growth;

	if (read_slab() < 0)
		subtest_skip("/proc/meminfo tells nothing about slab");

	setup();
	growth = slab_growth(0, big_size(), big_size(), big_size());
	ksft_print_msg("%lu GiB private: slab grows by %ld KiB\n",
		       (unsigned long)(big_size() / GB), growth);
	TEST_ASSERT(growth < 64, "Slab grows by %ld KiB", growth);

	growth = slab_growth(PAGE_SIZE, big_size() - 3 * PAGE_SIZE, big_size(),
			     big_size() - 3 * PAGE_SIZE);
	ksft_print_msg("%lu GiB private, unaligned: slab grows by %ld KiB\n",
		       (unsigned long)(big_size() / GB), growth);
	TEST_ASSERT(growth < 64, "Slab grows by %ld KiB", growth);
}

SUBTEST(memory_grows_with_boundaries)
{
	int64_t growth;

	if (read_slab() < 0)
		subtest_skip("/proc/meminfo tells nothing about slab");

	/* Not a rule, but the measure has to measure something. */
	setup();
	growth = slab_growth(GB, 512 * 2 * MB, 2 * MB, PAGE_SIZE);
	ksft_print_msg("512 pages of their own: slab grows by %ld KiB\n", growth);
}

/* Makes and drops 256 uniform runs, and as many blocks of different pages. */
static void change_to_and_fro(void)
{
	uint64_t gpa;

	for (gpa = 0; gpa < GB; gpa += 4 * MB) {
		vm_mem_set_private(vm, gpa, 2 * MB);
		vm_mem_set_private(vm, gpa + 3 * MB, PAGE_SIZE);
	}
	vm_mem_set_shared(vm, 0, GB);
}

SUBTEST(memory_is_returned)
{
	const int nr_rounds = 40;
	int64_t before, growth;
	int i;

	if (read_slab() < 0)
		subtest_skip("/proc/meminfo tells nothing about slab");

	/* kfree_rcu() holds back what it is to free for five seconds. */
	setup();
	change_to_and_fro();
	sleep(6);
	before = read_slab_settled();

	for (i = 0; i < nr_rounds; i++)
		change_to_and_fro();

	/* 10240 of each: not even one in twenty of the smaller may be lost. */
	for (i = 0; i < 20; i++) {
		growth = read_slab_settled() - before;
		if (growth < 32)
			break;
		sleep(1);
	}
	ksft_print_msg("Slab grows by %ld KiB with %d changes\n", growth,
		       nr_rounds * 513);
	TEST_ASSERT(growth < 32, "%ld KiB are lost", growth);
}

SUBTEST(no_change_costs_nothing)
{
	int64_t growths[NR_ROUNDS];
	int i;

	if (read_slab() < 0)
		subtest_skip("/proc/meminfo tells nothing about slab");

	/* Shared already: nothing to remember. */
	setup();
	for (i = 0; i < NR_ROUNDS; i++) {
		growths[i] = -read_slab_settled();
		vm_mem_set_shared(vm, i * PAGE_SIZE, big_size() / 2);
		vm_mem_set_shared(vm, GB + i * PAGE_SIZE, PAGE_SIZE);
		growths[i] += read_slab_settled();
	}
	TEST_ASSERT(median(growths) < 64, "Slab grows by %ld KiB", median(growths));
}

int main(int argc, char *argv[])
{
	require_private_mem();

	subtest_main(argc, argv);
}
