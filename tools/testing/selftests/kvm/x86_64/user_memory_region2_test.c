// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION2: what it has in common with the older ioctl, and
 * the rules for slots that have a guest_memfd.  No guest runs here.
 */
#define _GNU_SOURCE
#include <sys/eventfd.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "processor.h"
#include "subtest.h"

#define MB		BIT_ULL(20)
#define FILE_SIZE	(4 * MB)
#define GPA		BIT_ULL(32)

static struct kvm_vm *vm;
static int fd;

static void setup(void)
{
	vm = vm_create_private_barebones();
	fd = vm_create_guest_memfd(vm, FILE_SIZE);
}

/* Nothing is ever accessed through it: any legal address will do. */
#define HVA		((void *)(1ULL << 40))

static int bind(uint32_t slot, uint64_t gpa, uint64_t size, int file, uint64_t offset)
{
	return __vm_set_user_memory_region2(vm, slot, KVM_MEM_GUEST_MEMFD, gpa,
					    size, HVA, file, offset);
}

static int delete(uint32_t slot)
{
	return __vm_set_user_memory_region2(vm, slot, KVM_MEM_GUEST_MEMFD, 0, 0,
					    NULL, -1, 0);
}

#define assert_fails(_call, _errno) do {				\
	int __ret;							\
									\
	errno = 0;							\
	__ret = (_call);						\
	TEST_ASSERT(__ret == -1 && errno == (_errno),			\
		    "%s: returned %d, errno %d (%s), not %s", #_call,	\
		    __ret, errno, strerror(errno), #_errno);		\
} while (0)

#define assert_works(_call) do {					\
	int __ret = (_call);						\
									\
	TEST_ASSERT(!__ret, "%s: returned %d, errno %d (%s)", #_call,	\
		    __ret, errno, strerror(errno));			\
} while (0)

/*
 * In common with KVM_SET_USER_MEMORY_REGION
 */
struct step {
	uint32_t slot, flags;
	uint64_t gpa, size, hva;
};

static const struct step steps[] = {
	/* Bad from the start */
	{ 0, 0, 0, 0, 1 * MB },
	{ 0, 0, 0x800, PAGE_SIZE, 1 * MB },
	{ 0, 0, 0, 0x800, 1 * MB },
	{ 0, 0, 0, PAGE_SIZE + 1, 1 * MB },
	{ 0, 0, 0, PAGE_SIZE, 1 * MB + 1 },
	{ 0, 0, 0, PAGE_SIZE, 1ULL << 63 },
	{ 0, 0, 0, PAGE_SIZE, -PAGE_SIZE },
	{ 0, 0, 0, 2 * PAGE_SIZE, -PAGE_SIZE },
	{ 0, 0, -PAGE_SIZE, PAGE_SIZE, 1 * MB },
	{ 0, 0, -PAGE_SIZE, 2 * PAGE_SIZE, 1 * MB },
	{ 0, 0, 0, 1ULL << 62, 1 * MB },
	{ 0, 0, 0, 1ULL << 44, 1 * MB },
	{ 0, 0, 0, -PAGE_SIZE, 1 * MB },
	{ 32767, 0, 0, PAGE_SIZE, 1 * MB },
	{ 65535, 0, 0, PAGE_SIZE, 1 * MB },
	{ 2 << 16, 0, 0, PAGE_SIZE, 1 * MB },
	{ 255 << 16, 0, 0, PAGE_SIZE, 1 * MB },
	{ 65535u << 16, 0, 0, PAGE_SIZE, 1 * MB },
	/* Create, overlap, and once more the same */
	{ 0, 0, 1 * MB, 1 * MB, 1 * MB },
	{ 1, 0, 1 * MB, 1 * MB, 8 * MB },
	{ 1, 0, 2 * MB - PAGE_SIZE, 1 * MB, 8 * MB },
	{ 1, 0, 1 * MB - PAGE_SIZE, 2 * PAGE_SIZE, 8 * MB },
	{ 1, 0, 0, 16 * MB, 8 * MB },
	{ 1, 0, 2 * MB, 1 * MB, 8 * MB },
	{ 0, 0, 1 * MB, 1 * MB, 1 * MB },
	/* Flags, size, address, place */
	{ 0, KVM_MEM_LOG_DIRTY_PAGES, 1 * MB, 1 * MB, 1 * MB },
	{ 0, KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY, 1 * MB, 1 * MB, 1 * MB },
	{ 0, KVM_MEM_READONLY, 1 * MB, 1 * MB, 1 * MB },
	{ 0, 0, 1 * MB, 1 * MB, 1 * MB },
	{ 0, 0, 1 * MB, 2 * MB, 1 * MB },
	{ 0, 0, 1 * MB, 1 * MB, 2 * MB },
	{ 0, 0, 2 * MB, 1 * MB, 1 * MB },
	{ 0, 0, 16 * MB, 1 * MB, 1 * MB },
	{ 0, KVM_MEM_LOG_DIRTY_PAGES, 32 * MB, 1 * MB, 1 * MB },
	/* Delete, and again */
	{ 1, 0, 0, 0, 0 },
	{ 1, 0, 0, 0, 0 },
	{ 1, KVM_MEM_READONLY, 2 * MB, 1 * MB, 8 * MB },
	{ 1, KVM_MEM_READONLY, 2 * MB, 0, 8 * MB },
	{ 0, 0, 0, 0, 0 },
	/* The other address space */
	{ 1 << 16, 0, 1 * MB, 1 * MB, 1 * MB },
	{ 1 << 16, 0, 0, 0, 0 },
};

static void compare_with_old_ioctl(unsigned long type)
{
	struct kvm_vm *old = ____vm_create_type(VM_MODE_DEFAULT, type, 0);
	int i;

	vm = ____vm_create_type(VM_MODE_DEFAULT, type, 0);
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		const struct step *step = &steps[i];
		int ret1, ret2, err1, err2;

		errno = 0;
		ret1 = __vm_set_user_memory_region(old, step->slot, step->flags,
						   step->gpa, step->size,
						   (void *)step->hva);
		err1 = errno;
		errno = 0;
		/* The descriptor and the offset are bad, and without meaning. */
		ret2 = __vm_set_user_memory_region2(vm, step->slot, step->flags,
						    step->gpa, step->size,
						    (void *)step->hva, 9999, 1);
		err2 = errno;
		TEST_ASSERT(ret1 == ret2 && (!ret1 || err1 == err2),
			    "Step %d (slot 0x%x flags 0x%x gpa 0x%lx size 0x%lx hva 0x%lx): old %d errno %d, new %d errno %d",
			    i, step->slot, step->flags, step->gpa, step->size,
			    step->hva, ret1, err1, ret2, err2);
	}
}

SUBTEST(same_as_old_ioctl_default_vm)
{
	compare_with_old_ioctl(KVM_X86_DEFAULT_VM);
}

SUBTEST(same_as_old_ioctl_private_vm)
{
	compare_with_old_ioctl(KVM_X86_SW_PROTECTED_VM);
}

SUBTEST(args_unreadable)
{
	setup();
	assert_fails(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, 8), EFAULT);
}

SUBTEST(mixes_with_old_ioctl)
{
	setup();
	assert_works(__vm_set_user_memory_region(vm, 0, 0, GPA, MB, HVA));
	assert_fails(__vm_set_user_memory_region2(vm, 1, 0, GPA, MB, HVA, 0, 0), EEXIST);
	assert_works(__vm_set_user_memory_region2(vm, 0, 0, GPA, 0, HVA, 0, 0));
	assert_works(__vm_set_user_memory_region2(vm, 1, 0, GPA, MB, HVA, 0, 0));
	assert_fails(__vm_set_user_memory_region(vm, 0, 0, GPA, MB, HVA), EEXIST);
	assert_works(__vm_set_user_memory_region(vm, 1, 0, GPA, 0, HVA));
}

SUBTEST(unknown_flags)
{
	int bit;

	setup();
	for (bit = 3; bit < 32; bit++) {
		assert_fails(__vm_set_user_memory_region2(vm, 0, 1u << bit, GPA, MB,
							  HVA, fd, 0), EINVAL);
		assert_fails(__vm_set_user_memory_region2(vm, 0, 1u << bit | KVM_MEM_GUEST_MEMFD,
							  GPA, MB, HVA, fd, 0), EINVAL);
		assert_fails(__vm_set_user_memory_region(vm, 0, 1u << bit, GPA, MB, HVA), EINVAL);
	}
	assert_works(bind(0, GPA, MB, fd, 0));
}

SUBTEST(old_ioctl_knows_no_guest_memfd)
{
	setup();
	/* What follows the older struct in memory must not matter. */
	assert_fails(__vm_set_user_memory_region(vm, 0, KVM_MEM_GUEST_MEMFD, GPA, MB, HVA), EINVAL);
	assert_works(bind(0, GPA, MB, fd, 0));
	assert_fails(__vm_set_user_memory_region(vm, 0, KVM_MEM_GUEST_MEMFD, GPA, MB, HVA), EINVAL);
}

SUBTEST(padding_is_ignored)
{
	struct kvm_userspace_memory_region2 region;

	setup();
	memset(&region, 0xff, sizeof(region));
	region.slot = 0;
	region.flags = KVM_MEM_GUEST_MEMFD;
	region.guest_phys_addr = GPA;
	region.memory_size = MB;
	region.userspace_addr = (uintptr_t)HVA;
	region.guest_memfd = fd;
	region.guest_memfd_offset = 0;
	assert_works(__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region));
}

/*
 * The file
 */
SUBTEST(default_vm_has_no_guest_memfd)
{
	int file;

	vm = vm_create_barebones();
	ASSERT_EQ(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD), 0);

	file = __vm_create_guest_memfd(vm, MB, 0);
	assert_fails(bind(0, GPA, MB, file, 0), EINVAL);
	assert_works(__vm_set_user_memory_region2(vm, 0, 0, GPA, MB, HVA, file, 0));
}

SUBTEST(fd_bad)
{
	setup();
	assert_fails(bind(0, GPA, MB, -1, 0), EBADF);
	assert_fails(bind(0, GPA, MB, 9999, 0), EBADF);
	assert_fails(bind(0, GPA, MB, INT32_MAX, 0), EBADF);
	assert_fails(bind(0, GPA, MB, open("/", O_PATH), 0), EBADF);
	close(fd);
	assert_fails(bind(0, GPA, MB, fd, 0), EBADF);
}

SUBTEST(fd_of_other_kind)
{
	int pipes[2];

	setup();
	TEST_ASSERT(!pipe(pipes), "pipe()");
	assert_fails(bind(0, GPA, MB, kvm_memfd_alloc(FILE_SIZE, false), 0), EINVAL);
	assert_fails(bind(0, GPA, MB, vm->fd, 0), EINVAL);
	assert_fails(bind(0, GPA, MB, vm->kvm_fd, 0), EINVAL);
	assert_fails(bind(0, GPA, MB, pipes[0], 0), EINVAL);
	assert_fails(bind(0, GPA, MB, eventfd(0, 0), 0), EINVAL);
	assert_fails(bind(0, GPA, MB, open("/dev/zero", O_RDWR), 0), EINVAL);
	assert_fails(bind(0, GPA, MB, open("/", O_RDONLY), 0), EINVAL);
	assert_works(bind(0, GPA, MB, fd, 0));
}

SUBTEST(fd_of_other_vm)
{
	int other;

	setup();
	other = fd;
	setup();
	assert_fails(bind(0, GPA, MB, other, 0), EINVAL);
	assert_works(bind(0, GPA, MB, fd, 0));
}

SUBTEST(fd_of_dead_vm)
{
	int other;

	setup();
	other = fd;
	kvm_vm_free(vm);
	setup();
	assert_fails(bind(0, GPA, MB, other, 0), EINVAL);
}

SUBTEST(offset_unaligned)
{
	setup();
	assert_fails(bind(0, GPA, MB, fd, 1), EINVAL);
	assert_fails(bind(0, GPA, MB, fd, PAGE_SIZE / 2), EINVAL);
	assert_fails(bind(0, GPA, MB, fd, PAGE_SIZE - 1), EINVAL);
	assert_works(bind(0, GPA, MB, fd, PAGE_SIZE));
}

SUBTEST(offset_beyond_file)
{
	setup();
	assert_fails(bind(0, GPA, PAGE_SIZE, fd, FILE_SIZE), EINVAL);
	assert_fails(bind(0, GPA, 2 * PAGE_SIZE, fd, FILE_SIZE - PAGE_SIZE), EINVAL);
	assert_fails(bind(0, GPA, FILE_SIZE + PAGE_SIZE, fd, 0), EINVAL);
	assert_fails(bind(0, GPA, FILE_SIZE, fd, PAGE_SIZE), EINVAL);
	assert_fails(bind(0, GPA, MB, fd, 1ULL << 62), EINVAL);
	assert_works(bind(0, GPA, PAGE_SIZE, fd, FILE_SIZE - PAGE_SIZE));
}

SUBTEST(offset_wraps)
{
	setup();
	assert_fails(bind(0, GPA, PAGE_SIZE, fd, -PAGE_SIZE), EINVAL);
	assert_fails(bind(0, GPA, 2 * PAGE_SIZE, fd, -PAGE_SIZE), EINVAL);
	assert_fails(bind(0, GPA, MB, fd, -MB), EINVAL);
	assert_fails(bind(0, GPA, MB, fd, 1ULL << 63), EINVAL);
	assert_fails(bind(0, GPA, MB, fd, (1ULL << 63) - PAGE_SIZE), EINVAL);
}

SUBTEST(offset_far_into_huge_file)
{
	setup();
	fd = vm_create_guest_memfd(vm, (1ULL << 63) - PAGE_SIZE);
	assert_works(bind(0, GPA, MB, fd, (1ULL << 63) - PAGE_SIZE - MB));
	assert_works(bind(1, GPA + MB, MB, fd, 0));
	assert_fails(bind(2, GPA + 2 * MB, MB, fd, (1ULL << 63) - MB), EINVAL);
	assert_fails(bind(2, GPA + 2 * MB, MB, fd, (1ULL << 63) - 2 * MB), EEXIST);
}

SUBTEST(hva_must_be_legal)
{
	uint64_t bad[] = { 1, 0x800, 1ULL << 63, -PAGE_SIZE };
	int i;

	setup();
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_fails(__vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, GPA, MB,
							  (void *)bad[i], fd, 0), EINVAL);
	assert_works(bind(0, GPA, MB, fd, 0));
}

SUBTEST(readonly)
{
	setup();
	assert_fails(__vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD | KVM_MEM_READONLY,
						  GPA, MB, HVA, fd, 0), EINVAL);
}

SUBTEST(log_dirty_pages)
{
	setup();
	assert_fails(__vm_set_user_memory_region2(vm, 0,
						  KVM_MEM_GUEST_MEMFD | KVM_MEM_LOG_DIRTY_PAGES,
						  GPA, MB, HVA, fd, 0), EINVAL);
	assert_fails(__vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD | KVM_MEM_READONLY |
						  KVM_MEM_LOG_DIRTY_PAGES,
						  GPA, MB, HVA, fd, 0), EINVAL);
}

/*
 * Binding
 */
SUBTEST(range_bound_twice)
{
	setup();
	assert_works(bind(0, GPA, MB, fd, MB));

	assert_fails(bind(1, GPA + 16 * MB, MB, fd, MB), EEXIST);
	assert_fails(bind(1, GPA + 16 * MB, PAGE_SIZE, fd, MB), EEXIST);
	assert_fails(bind(1, GPA + 16 * MB, PAGE_SIZE, fd, 2 * MB - PAGE_SIZE), EEXIST);
	assert_fails(bind(1, GPA + 16 * MB, PAGE_SIZE, fd, MB + 7 * PAGE_SIZE), EEXIST);
	assert_fails(bind(1, GPA + 16 * MB, 2 * PAGE_SIZE, fd, MB - PAGE_SIZE), EEXIST);
	assert_fails(bind(1, GPA + 16 * MB, MB, fd, 2 * MB - PAGE_SIZE), EEXIST);
	assert_fails(bind(1, GPA + 16 * MB, FILE_SIZE, fd, 0), EEXIST);
}

SUBTEST(adjacent_ranges)
{
	setup();
	assert_works(bind(0, GPA, MB, fd, MB));
	assert_works(bind(1, GPA + 1 * MB, MB, fd, 0));
	assert_works(bind(2, GPA + 2 * MB, 2 * MB, fd, 2 * MB));
	assert_fails(bind(3, GPA + 8 * MB, PAGE_SIZE, fd, 0), EEXIST);
	assert_fails(bind(3, GPA + 8 * MB, PAGE_SIZE, fd, FILE_SIZE - PAGE_SIZE), EEXIST);
}

SUBTEST(two_files_same_range)
{
	int other;

	setup();
	other = vm_create_guest_memfd(vm, FILE_SIZE);
	assert_works(bind(0, GPA, MB, fd, 0));
	assert_works(bind(1, GPA + MB, MB, other, 0));
}

SUBTEST(gpa_overlap)
{
	setup();
	assert_works(bind(0, GPA, MB, fd, 0));
	assert_fails(bind(1, GPA, MB, fd, MB), EEXIST);
	assert_fails(bind(1, GPA + MB - PAGE_SIZE, MB, fd, MB), EEXIST);
	assert_fails(__vm_set_user_memory_region2(vm, 1, 0, GPA, MB, HVA, -1, 0), EEXIST);

	/* Those that failed have left no binding. */
	assert_works(bind(1, GPA + MB, 3 * MB, fd, MB));
}

SUBTEST(failed_creation_binds_nothing)
{
	setup();
	assert_fails(__vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, GPA, MB,
						  (void *)1, fd, 0), EINVAL);
	assert_fails(__vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD | KVM_MEM_READONLY,
						  GPA, MB, HVA, fd, 0), EINVAL);
	assert_fails(bind(40000, GPA, MB, fd, 0), EINVAL);
	assert_fails(bind(0, -PAGE_SIZE, 2 * PAGE_SIZE, fd, 0), EINVAL);
	assert_fails(delete(0), EINVAL);
	assert_works(bind(0, GPA, FILE_SIZE, fd, 0));
}

SUBTEST(delete_and_rebind)
{
	int i;

	setup();
	for (i = 0; i < 4; i++) {
		assert_works(bind(i, GPA + i * MB, MB, fd, MB));
		assert_fails(bind(i + 1, GPA + 32 * MB, MB, fd, MB), EEXIST);
		assert_works(delete(i));
		assert_fails(delete(i), EINVAL);
	}
	assert_works(bind(0, GPA, FILE_SIZE, fd, 0));
}

SUBTEST(delete_frees_only_its_range)
{
	int i;

	setup();
	for (i = 0; i < 4; i++)
		assert_works(bind(i, GPA + i * MB, MB, fd, i * MB));

	assert_works(delete(1));
	assert_fails(bind(4, GPA + 8 * MB, 2 * MB, fd, 0), EEXIST);
	assert_fails(bind(4, GPA + 8 * MB, 2 * MB, fd, MB), EEXIST);
	assert_works(bind(4, GPA + 8 * MB, MB, fd, MB));
	assert_fails(bind(5, GPA + 9 * MB, MB, fd, 0), EEXIST);
	assert_fails(bind(5, GPA + 9 * MB, MB, fd, 2 * MB), EEXIST);
}

SUBTEST(delete_by_either_ioctl)
{
	setup();
	assert_works(bind(0, GPA, MB, fd, 0));
	assert_works(__vm_set_user_memory_region(vm, 0, 0, GPA, 0, HVA));
	assert_works(bind(0, GPA, MB, fd, 0));
	assert_works(__vm_set_user_memory_region2(vm, 0, 0, GPA, 0, HVA, -1, 0));
	assert_works(bind(0, GPA, MB, fd, 0));
	assert_works(__vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, GPA, 0, HVA, fd, 0));
	assert_works(bind(0, GPA, MB, fd, 0));
	assert_works(delete(0));
	assert_works(bind(0, GPA, FILE_SIZE, fd, 0));
}

SUBTEST(delete_after_file_is_closed)
{
	setup();
	assert_works(bind(0, GPA, MB, fd, 0));
	assert_works(bind(1, GPA + MB, MB, fd, MB));
	close(fd);
	assert_works(delete(0));
	assert_works(delete(1));
	assert_fails(delete(0), EINVAL);
}

/* The slot is as it was: bound, in its place, and can be deleted. */
static void assert_slot_intact(void)
{
	assert_fails(bind(1, GPA + 64 * MB, PAGE_SIZE, fd, MB), EEXIST);
	assert_fails(bind(1, GPA + 64 * MB, PAGE_SIZE, fd, 2 * MB - PAGE_SIZE), EEXIST);
	assert_works(bind(1, GPA + 64 * MB, MB, fd, 0));
	assert_works(bind(2, GPA + 66 * MB, MB, fd, 2 * MB));
	assert_works(delete(1));
	assert_works(delete(2));
	assert_fails(__vm_set_user_memory_region2(vm, 1, 0, GPA, PAGE_SIZE, HVA, 0, 0), EEXIST);
	assert_works(__vm_set_user_memory_region2(vm, 1, 0, GPA + MB, PAGE_SIZE, HVA, 0, 0));
	assert_works(delete(1));
}

static void setup_slot(void)
{
	setup();
	assert_works(bind(0, GPA, MB, fd, MB));
}

SUBTEST(no_move)
{
	setup_slot();
	assert_fails(bind(0, GPA + 8 * MB, MB, fd, MB), EINVAL);
	assert_fails(bind(0, GPA + PAGE_SIZE, MB, fd, MB), EINVAL);
	assert_fails(__vm_set_user_memory_region(vm, 0, 0, GPA + 8 * MB, MB, HVA), EINVAL);
	assert_slot_intact();
}

SUBTEST(no_resize)
{
	setup_slot();
	assert_fails(bind(0, GPA, 2 * MB, fd, MB), EINVAL);
	assert_fails(bind(0, GPA, PAGE_SIZE, fd, MB), EINVAL);
	assert_slot_intact();
}

SUBTEST(no_flag_off)
{
	setup_slot();
	assert_fails(__vm_set_user_memory_region2(vm, 0, 0, GPA, MB, HVA, -1, 0), EINVAL);
	assert_fails(__vm_set_user_memory_region(vm, 0, 0, GPA, MB, HVA), EINVAL);
	assert_slot_intact();
}

SUBTEST(no_flag_on)
{
	setup();
	assert_works(__vm_set_user_memory_region2(vm, 0, 0, GPA, MB, HVA, -1, 0));
	assert_fails(bind(0, GPA, MB, fd, 0), EINVAL);
	assert_works(bind(1, GPA + MB, MB, fd, 0));
}

SUBTEST(no_dirty_logging_later)
{
	setup_slot();
	assert_fails(__vm_set_user_memory_region2(vm, 0,
						  KVM_MEM_GUEST_MEMFD | KVM_MEM_LOG_DIRTY_PAGES,
						  GPA, MB, HVA, fd, MB), EINVAL);
	assert_fails(__vm_set_user_memory_region2(vm, 0, KVM_MEM_LOG_DIRTY_PAGES,
						  GPA, MB, HVA, fd, MB), EINVAL);
	assert_fails(__vm_set_user_memory_region(vm, 0, KVM_MEM_LOG_DIRTY_PAGES, GPA, MB, HVA),
		     EINVAL);
	assert_slot_intact();
}

SUBTEST(no_readonly_later)
{
	setup_slot();
	assert_fails(__vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD | KVM_MEM_READONLY,
						  GPA, MB, HVA, fd, MB), EINVAL);
	assert_fails(__vm_set_user_memory_region(vm, 0, KVM_MEM_READONLY, GPA, MB, HVA), EINVAL);
	assert_slot_intact();
}

SUBTEST(no_other_file_or_offset)
{
	int other;

	setup_slot();
	other = vm_create_guest_memfd(vm, FILE_SIZE);
	assert_fails(bind(0, GPA, MB, other, MB), EINVAL);
	assert_fails(bind(0, GPA, MB, fd, 0), EINVAL);
	assert_fails(bind(0, GPA, MB, fd, 2 * MB), EINVAL);
	assert_slot_intact();

	/* None of the attempts has bound anything. */
	assert_works(bind(1, GPA + MB, FILE_SIZE, other, 0));
}

SUBTEST(no_other_hva)
{
	setup_slot();
	assert_fails(__vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, GPA, MB,
						  (char *)HVA + MB, fd, MB), EINVAL);
	assert_slot_intact();
}

SUBTEST(one_address_space)
{
	setup();
	TEST_ASSERT(vm_check_cap(vm, KVM_CAP_MULTI_ADDRESS_SPACE) <= 1,
		    "%d address spaces", vm_check_cap(vm, KVM_CAP_MULTI_ADDRESS_SPACE));
	assert_fails(bind(1 << 16, GPA, MB, fd, 0), EINVAL);
	assert_fails(__vm_set_user_memory_region2(vm, 1 << 16, 0, GPA, MB, HVA, -1, 0), EINVAL);
	assert_fails(__vm_set_user_memory_region(vm, 1 << 16, 0, GPA, MB, HVA), EINVAL);
	assert_works(bind(0, GPA, MB, fd, 0));
}

SUBTEST(default_vm_keeps_its_address_spaces)
{
	int nr;

	vm = vm_create_barebones();
	nr = vm_check_cap(vm, KVM_CAP_MULTI_ADDRESS_SPACE);
	ASSERT_EQ(nr, (int)kvm_check_cap(KVM_CAP_MULTI_ADDRESS_SPACE));
	if (nr < 2)
		subtest_skip("this kernel has one address space only");
	assert_works(__vm_set_user_memory_region2(vm, 1 << 16, 0, GPA, MB, HVA, -1, 0));
}

int main(int argc, char *argv[])
{
	require_private_mem();

	subtest_main(argc, argv);
}
