// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest_memfd file: how it is created, what the system calls on the file
 * descriptor do and refuse, and how long it lives.  No guest runs here.
 */
#define _GNU_SOURCE
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "subtest.h"

/* Only newer headers have it. */
#ifndef KVM_CAP_GUEST_MEMFD_FLAGS
#define KVM_CAP_GUEST_MEMFD_FLAGS	244
#endif

#define NR_PAGES	16

static uint64_t page_size;
static struct kvm_vm *vm;

static int create(void)
{
	vm = vm_create_private_barebones();
	return vm_create_guest_memfd(vm, NR_PAGES * page_size);
}

#define assert_fails(_call, _errno) do {				\
	long __ret;							\
									\
	errno = 0;							\
	__ret = (long)(_call);						\
	TEST_ASSERT(__ret == -1 && errno == (_errno),			\
		    "%s: returned %ld, errno %d (%s), not %s", #_call,	\
		    __ret, errno, strerror(errno), #_errno);		\
} while (0)

#define assert_works(_call) do {					\
	long __ret = (long)(_call);					\
									\
	TEST_ASSERT(__ret != -1, "%s: errno %d (%s)", #_call, errno,	\
		    strerror(errno));					\
} while (0)

static uint64_t nr_open_fds(void)
{
	uint64_t fd, nr = 0;

	for (fd = 0; fd < 256; fd++)
		nr += fcntl(fd, F_GETFD) != -1;
	return nr;
}

/*
 * KVM_CREATE_GUEST_MEMFD
 */
SUBTEST(create_size_zero)
{
	vm = vm_create_private_barebones();
	assert_fails(__vm_create_guest_memfd(vm, 0, 0), EINVAL);
}

SUBTEST(create_size_unaligned)
{
	uint64_t sizes[] = {
		1, 512, page_size / 2, page_size - 1, page_size + 1,
		page_size + page_size / 2, (1ULL << 40) + 1, INT64_MAX,
	};
	int i;

	vm = vm_create_private_barebones();
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_fails(__vm_create_guest_memfd(vm, sizes[i], 0), EINVAL);
}

SUBTEST(create_size_beyond_file_offsets)
{
	uint64_t sizes[] = {
		1ULL << 63, (1ULL << 63) + page_size, 3ULL << 62, -page_size,
	};
	int i;

	vm = vm_create_private_barebones();
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_fails(__vm_create_guest_memfd(vm, sizes[i], 0), EINVAL);
}

SUBTEST(create_size_huge)
{
	uint64_t sizes[] = {
		1ULL << 40, 1ULL << 52, 1ULL << 62, (1ULL << 63) - page_size,
	};
	int i;

	vm = vm_create_private_barebones();
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		int fd = vm_create_guest_memfd(vm, sizes[i]);
		struct stat st;

		assert_works(fstat(fd, &st));
		ASSERT_EQ((uint64_t)st.st_size, sizes[i]);
		ASSERT_EQ((uint64_t)st.st_blocks, 0ul);

		/* The far end works like any other page. */
		assert_works(guest_memfd_alloc(fd, sizes[i] - 2 * page_size, page_size));
		ASSERT_EQ(guest_memfd_nr_pages(fd), 1ul);
		assert_works(guest_memfd_punch(fd, 0, sizes[i] - page_size));
		ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
		close(fd);
	}
}

SUBTEST(create_flags_unknown)
{
	uint64_t known;
	int bit;

	vm = vm_create_private_barebones();
	known = vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS);

	for (bit = 0; bit < 64; bit++) {
		uint64_t flag = 1ULL << bit;

		if (known & flag)
			continue;
		assert_fails(__vm_create_guest_memfd(vm, page_size, flag), EINVAL);
		assert_fails(__vm_create_guest_memfd(vm, page_size, known | flag), EINVAL);
	}
	assert_fails(__vm_create_guest_memfd(vm, page_size, -1ULL), EINVAL);
}

SUBTEST(create_flags_known)
{
	uint64_t known;
	int bit;

	vm = vm_create_private_barebones();
	known = vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS);

	for (bit = 0; bit < 64; bit++) {
		if (!(known & (1ULL << bit)))
			continue;
		assert_works(__vm_create_guest_memfd(vm, page_size, 1ULL << bit));
		assert_works(__vm_create_guest_memfd(vm, 512 * page_size, 1ULL << bit));
	}
}

SUBTEST(create_args_unreadable)
{
	vm = vm_create_private_barebones();
	assert_fails(ioctl(vm->fd, KVM_CREATE_GUEST_MEMFD, 8), EFAULT);
}

SUBTEST(create_fails_without_leaking)
{
	uint64_t nr_fds;
	int i;

	vm = vm_create_private_barebones();
	nr_fds = nr_open_fds();
	for (i = 0; i < 8; i++) {
		assert_fails(__vm_create_guest_memfd(vm, page_size + 1, 0), EINVAL);
		assert_fails(__vm_create_guest_memfd(vm, page_size, 1ULL << 63), EINVAL);
	}
	ASSERT_EQ(nr_open_fds(), nr_fds);
}

SUBTEST(create_out_of_descriptors)
{
	struct rlimit limit;
	int fd;

	fd = create();
	close(fd);
	assert_works(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = fd;
	assert_works(setrlimit(RLIMIT_NOFILE, &limit));
	while (dup(vm->fd) >= 0)
		;
	assert_fails(__vm_create_guest_memfd(vm, page_size, 0), EMFILE);
}

/*
 * The file descriptor
 */
SUBTEST(fd_flags)
{
	int fd = create(), flags;

	flags = fcntl(fd, F_GETFD);
	TEST_ASSERT(flags == 0, "F_GETFD: 0x%x, FD_CLOEXEC is not wanted", flags);

	flags = fcntl(fd, F_GETFL);
	TEST_ASSERT((flags & O_ACCMODE) == O_RDWR, "F_GETFL: 0x%x", flags);
}

static void assert_no_io(const char *name, ssize_t ret)
{
	TEST_ASSERT(ret == -1 && (errno == EINVAL || errno == ESPIPE || errno == EBADF ||
				  errno == EOPNOTSUPP),
		    "%s: returned %zd, errno %d (%s)", name, ret, errno,
		    strerror(errno));
}

SUBTEST(no_read)
{
	char buf[64];
	struct iovec iov = { buf, sizeof(buf) };
	int fd = create();

	assert_no_io("read", read(fd, buf, sizeof(buf)));
	assert_no_io("pread", pread(fd, buf, sizeof(buf), 0));
	assert_no_io("readv", readv(fd, &iov, 1));
	assert_no_io("preadv", preadv(fd, &iov, 1, 0));
}

SUBTEST(no_write)
{
	char buf[64] = "";
	struct iovec iov = { buf, sizeof(buf) };
	int fd = create();

	assert_no_io("write", write(fd, buf, sizeof(buf)));
	assert_no_io("pwrite", pwrite(fd, buf, sizeof(buf), 0));
	assert_no_io("writev", writev(fd, &iov, 1));
	assert_no_io("pwritev", pwritev(fd, &iov, 1, 0));
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
}

SUBTEST(no_splice)
{
	int fd = create(), mem = kvm_memfd_alloc(page_size, false), pipes[2];
	loff_t zero = 0;

	assert_works(pipe(pipes));
	assert_works(write(pipes[1], "x", 1));
	assert_no_io("splice from", splice(fd, &zero, pipes[1], NULL, page_size, 0));
	zero = 0;
	assert_no_io("splice to", splice(pipes[0], NULL, fd, &zero, 1, 0));
	assert_no_io("sendfile from", sendfile(mem, fd, NULL, page_size));
	assert_no_io("sendfile to", sendfile(fd, mem, NULL, page_size));
}

SUBTEST(no_mmap_shared)
{
	int fd = create();

	assert_fails(mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), ENODEV);
	assert_fails(mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd, page_size), ENODEV);
	assert_fails(mmap(NULL, page_size, PROT_NONE, MAP_SHARED, fd, 0), ENODEV);
}

SUBTEST(no_mmap_private)
{
	int fd = create();
	void *mem;

	mem = mmap(NULL, page_size, PROT_READ, MAP_PRIVATE, fd, 0);
	TEST_ASSERT(mem == MAP_FAILED && (errno == ENODEV || errno == EINVAL),
		    "mmap() gives %p, errno %d", mem, errno);
}

SUBTEST(no_mmap_exec)
{
	int fd = create();
	void *mem;

	mem = mmap(NULL, page_size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	TEST_ASSERT(mem == MAP_FAILED, "mmap() gives %p", mem);
}

SUBTEST(no_resize)
{
	int fd = create();
	struct stat st;

	assert_fails(ftruncate(fd, 0), EINVAL);
	assert_fails(ftruncate(fd, page_size), EINVAL);
	assert_fails(ftruncate(fd, NR_PAGES * page_size + 1), EINVAL);
	assert_fails(ftruncate(fd, 2 * NR_PAGES * page_size), EINVAL);

	assert_works(fstat(fd, &st));
	ASSERT_EQ((uint64_t)st.st_size, NR_PAGES * page_size);
}

SUBTEST(no_resize_keeps_pages)
{
	int fd = create();

	assert_works(guest_memfd_alloc(fd, 0, NR_PAGES * page_size));
	assert_fails(ftruncate(fd, page_size), EINVAL);
	ASSERT_EQ(guest_memfd_nr_pages(fd), (uint64_t)NR_PAGES);
}

SUBTEST(no_reopen)
{
	int fd = create();
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_fails(open(path, O_RDWR), ENXIO);
	assert_fails(open(path, O_RDONLY), ENXIO);
	assert_fails(open(path, O_WRONLY | O_TRUNC), ENXIO);
}

/*
 * fstat()
 */
SUBTEST(stat_basics)
{
	int fd = create();
	struct stat st;

	assert_works(fstat(fd, &st));
	TEST_ASSERT(S_ISREG(st.st_mode), "st_mode: 0%o", st.st_mode);
	ASSERT_EQ((uint64_t)st.st_size, NR_PAGES * page_size);
	ASSERT_EQ((uint64_t)st.st_blksize, page_size);
	ASSERT_EQ((uint64_t)st.st_blocks, 0ul);
}

SUBTEST(stat_inode_numbers_differ)
{
	struct stat st[8];
	int i, j;

	for (i = 0; i < ARRAY_SIZE(st); i++) {
		/* The second half belongs to another VM. */
		if (!(i % 4))
			vm = vm_create_private_barebones();
		assert_works(fstat(vm_create_guest_memfd(vm, page_size), &st[i]));
		for (j = 0; j < i; j++) {
			TEST_ASSERT(st[i].st_ino != st[j].st_ino,
				    "Files %d and %d are both inode %lu", i, j,
				    (unsigned long)st[i].st_ino);
		}
	}
}

SUBTEST(stat_filesystem)
{
	int fd = create();
	struct statfs st;

	assert_works(fstatfs(fd, &st));
	ASSERT_EQ((uint64_t)st.f_type, (uint64_t)GUEST_MEMFD_MAGIC);
}

SUBTEST(stat_blocks)
{
	int fd = create();

	assert_works(guest_memfd_alloc(fd, 2 * page_size, 4 * page_size));
	ASSERT_EQ(guest_memfd_nr_pages(fd), 4ul);

	/* Only two of these are new. */
	assert_works(guest_memfd_alloc(fd, 4 * page_size, 4 * page_size));
	ASSERT_EQ(guest_memfd_nr_pages(fd), 6ul);

	assert_works(guest_memfd_punch(fd, 3 * page_size, page_size));
	ASSERT_EQ(guest_memfd_nr_pages(fd), 5ul);

	/* One of these is gone already. */
	assert_works(guest_memfd_punch(fd, 2 * page_size, 2 * page_size));
	ASSERT_EQ(guest_memfd_nr_pages(fd), 4ul);

	assert_works(guest_memfd_alloc(fd, 0, NR_PAGES * page_size));
	ASSERT_EQ(guest_memfd_nr_pages(fd), (uint64_t)NR_PAGES);

	assert_works(guest_memfd_punch(fd, 0, NR_PAGES * page_size));
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
}

SUBTEST(stat_blocks_are_per_file)
{
	int fd = create(), other;

	other = vm_create_guest_memfd(vm, NR_PAGES * page_size);
	assert_works(guest_memfd_alloc(fd, 0, 3 * page_size));
	assert_works(guest_memfd_alloc(other, page_size, 5 * page_size));
	ASSERT_EQ(guest_memfd_nr_pages(fd), 3ul);
	ASSERT_EQ(guest_memfd_nr_pages(other), 5ul);
}

/*
 * fallocate()
 */
SUBTEST(fallocate_without_keep_size)
{
	int fd = create();

	assert_fails(fallocate(fd, 0, 0, page_size), EOPNOTSUPP);
	assert_fails(fallocate(fd, 0, NR_PAGES * page_size, page_size), EOPNOTSUPP);
	assert_fails(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, page_size), EOPNOTSUPP);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
}

SUBTEST(fallocate_other_modes)
{
	int modes[] = {
		FALLOC_FL_COLLAPSE_RANGE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_INSERT_RANGE,
		FALLOC_FL_UNSHARE_RANGE,
		FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_NO_HIDE_STALE,
		FALLOC_FL_NO_HIDE_STALE | FALLOC_FL_KEEP_SIZE,
	};
	int fd = create(), i;

	assert_works(guest_memfd_alloc(fd, 0, 2 * page_size));
	for (i = 0; i < ARRAY_SIZE(modes); i++)
		assert_fails(fallocate(fd, modes[i], 0, page_size), EOPNOTSUPP);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 2ul);
}

static const struct {
	const char *name;
	int mode;
} modes[] = {
	{ "allocation", FALLOC_FL_KEEP_SIZE },
	{ "hole", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
};

static void assert_fallocate_fails(int fd, int64_t offset, int64_t len, int error)
{
	uint64_t nr_pages = guest_memfd_nr_pages(fd);
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		int ret = fallocate(fd, modes[i].mode, offset, len);

		TEST_ASSERT(ret == -1 && errno == error,
			    "%s at 0x%lx of 0x%lx: returned %d, errno %d (%s)",
			    modes[i].name, offset, len, ret, errno, strerror(errno));
	}
	ASSERT_EQ(guest_memfd_nr_pages(fd), nr_pages);
}

SUBTEST(fallocate_of_setuid_file)
{
	int fd = create();

	/* By a user who would lose the bit, were it a file on a disk. */
	assert_works(fchmod(fd, 04755));
	assert_works(setuid(1000));
	assert_works(guest_memfd_alloc(fd, 0, page_size));
	assert_works(guest_memfd_punch(fd, 0, page_size));
}

SUBTEST(fallocate_unaligned)
{
	int fd = create();

	assert_works(guest_memfd_alloc(fd, 0, 2 * page_size));
	assert_fallocate_fails(fd, 1, page_size, EINVAL);
	assert_fallocate_fails(fd, page_size / 2, page_size, EINVAL);
	assert_fallocate_fails(fd, page_size / 2, page_size / 2, EINVAL);
	assert_fallocate_fails(fd, 0, page_size / 2, EINVAL);
	assert_fallocate_fails(fd, 0, page_size - 1, EINVAL);
	assert_fallocate_fails(fd, 0, page_size + 1, EINVAL);
	assert_fallocate_fails(fd, page_size, 1, EINVAL);
	assert_fallocate_fails(fd, page_size - 1, 2 * page_size, EINVAL);
}

SUBTEST(fallocate_empty)
{
	int fd = create();

	assert_fallocate_fails(fd, 0, 0, EINVAL);
	assert_fallocate_fails(fd, page_size, 0, EINVAL);
}

SUBTEST(fallocate_negative)
{
	int fd = create();

	assert_works(guest_memfd_alloc(fd, 0, page_size));
	assert_fallocate_fails(fd, -page_size, page_size, EINVAL);
	assert_fallocate_fails(fd, -page_size, 2 * page_size, EINVAL);
	assert_fallocate_fails(fd, 0, -page_size, EINVAL);
	assert_fallocate_fails(fd, page_size, -page_size, EINVAL);
	assert_fallocate_fails(fd, INT64_MIN, page_size, EINVAL);
	assert_fallocate_fails(fd, 0, INT64_MIN, EINVAL);
}

SUBTEST(fallocate_alloc_beyond_size)
{
	uint64_t size = NR_PAGES * page_size;
	int fd = create();

	assert_fails(guest_memfd_alloc(fd, size, page_size), EINVAL);
	assert_fails(guest_memfd_alloc(fd, size - page_size, 2 * page_size), EINVAL);
	assert_fails(guest_memfd_alloc(fd, 0, size + page_size), EINVAL);
	assert_fails(guest_memfd_alloc(fd, 2 * size, page_size), EINVAL);
	assert_fails(guest_memfd_alloc(fd, 1ULL << 62, page_size), EINVAL);
	assert_fails(guest_memfd_alloc(fd, 0, 1ULL << 62), EINVAL);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
}

SUBTEST(fallocate_wraps)
{
	int64_t last = INT64_MAX & ~(page_size - 1);
	int fd = create(), i;

	/* The VFS has the first word on these. */
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		int ret = fallocate(fd, modes[i].mode, last, page_size);

		TEST_ASSERT(ret == -1 && (errno == EINVAL || errno == EFBIG),
			    "%s: returned %d, errno %d", modes[i].name, ret, errno);
		ret = fallocate(fd, modes[i].mode, last, last);
		TEST_ASSERT(ret == -1 && (errno == EINVAL || errno == EFBIG),
			    "%s: returned %d, errno %d", modes[i].name, ret, errno);
	}
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
}

SUBTEST(fallocate_hole_beyond_size)
{
	uint64_t size = NR_PAGES * page_size;
	int fd = create();
	struct stat st;

	assert_works(guest_memfd_alloc(fd, 0, size));
	assert_works(guest_memfd_punch(fd, size, page_size));
	assert_works(guest_memfd_punch(fd, 2 * size, 5 * page_size));
	assert_works(guest_memfd_punch(fd, 1ULL << 62, 1ULL << 61));
	ASSERT_EQ(guest_memfd_nr_pages(fd), (uint64_t)NR_PAGES);

	/* Across the end: what is inside goes. */
	assert_works(guest_memfd_punch(fd, size - page_size, 1ULL << 62));
	ASSERT_EQ(guest_memfd_nr_pages(fd), (uint64_t)NR_PAGES - 1);
	assert_works(guest_memfd_punch(fd, 0, 1ULL << 62));
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);

	assert_works(fstat(fd, &st));
	ASSERT_EQ((uint64_t)st.st_size, size);
}

SUBTEST(fallocate_is_idempotent)
{
	int fd = create(), i;

	for (i = 0; i < 3; i++) {
		assert_works(guest_memfd_alloc(fd, 0, NR_PAGES * page_size));
		ASSERT_EQ(guest_memfd_nr_pages(fd), (uint64_t)NR_PAGES);
	}
	for (i = 0; i < 3; i++) {
		assert_works(guest_memfd_punch(fd, 0, NR_PAGES * page_size));
		ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	}
}

static uint64_t free_memory(void)
{
	return sysconf(_SC_AVPHYS_PAGES) * page_size;
}

SUBTEST(fallocate_many_times)
{
	uint64_t i, before, size = 32ul << 20;
	int fd;

	vm = vm_create_private_barebones();
	fd = vm_create_guest_memfd(vm, size);
	before = free_memory();
	for (i = 0; i < 6; i++) {
		assert_works(guest_memfd_alloc(fd, 0, size));
		ASSERT_EQ(guest_memfd_nr_pages(fd), size / page_size);
		assert_works(guest_memfd_punch(fd, 0, size));
		ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	}

	/* Others allocate, too, but not half of what has been used here. */
	TEST_ASSERT(free_memory() + 3 * size > before, "%lu MiB are lost",
		    (before - free_memory()) >> 20);
}

/*
 * Life and death
 */
SUBTEST(file_outlives_vm)
{
	int fd = create();

	assert_works(guest_memfd_alloc(fd, 0, 2 * page_size));
	kvm_vm_free(vm);

	ASSERT_EQ(guest_memfd_nr_pages(fd), 2ul);
	assert_works(guest_memfd_alloc(fd, 4 * page_size, 2 * page_size));
	ASSERT_EQ(guest_memfd_nr_pages(fd), 4ul);
	assert_works(guest_memfd_punch(fd, 0, NR_PAGES * page_size));
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	assert_works(guest_memfd_alloc(fd, 0, NR_PAGES * page_size));
	assert_works(close(fd));
}

SUBTEST(bound_file_outlives_vm)
{
	int fd = create();

	/* The slot is never deleted: its VM goes away with it. */
	vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, 0,
				   NR_PAGES * page_size, NULL, fd, 0);
	assert_works(guest_memfd_alloc(fd, 0, 2 * page_size));
	assert_works(close(vm->fd));
	assert_works(close(vm->kvm_fd));

	ASSERT_EQ(guest_memfd_nr_pages(fd), 2ul);
	assert_works(guest_memfd_punch(fd, 0, NR_PAGES * page_size));
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	assert_works(guest_memfd_alloc(fd, 0, NR_PAGES * page_size));
	assert_works(close(fd));
}

SUBTEST(vm_outlives_file)
{
	int fd = create();

	assert_works(guest_memfd_alloc(fd, 0, 2 * page_size));
	assert_works(close(fd));

	fd = vm_create_guest_memfd(vm, page_size);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	kvm_vm_free(vm);
}

SUBTEST(vm_outlives_bound_file)
{
	int fd = create();

	vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, 0,
				   NR_PAGES * page_size, NULL, fd, 0);
	assert_works(guest_memfd_alloc(fd, 0, 2 * page_size));
	assert_works(close(fd));

	/* The slot is still there, and still can go. */
	assert_fails(__vm_set_user_memory_region2(vm, 1, 0, 0, page_size, NULL, 0, 0), EEXIST);
	vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, 0, 0, NULL, -1, 0);
	vm_set_user_memory_region2(vm, 1, 0, 0, page_size, NULL, 0, 0);
	kvm_vm_free(vm);
}

SUBTEST(exit_with_everything_open)
{
	int fd = create();

	vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, 0,
				   NR_PAGES * page_size, NULL, fd, 0);
	assert_works(guest_memfd_alloc(fd, 0, NR_PAGES * page_size));
	assert_works(guest_memfd_alloc(vm_create_guest_memfd(vm, page_size), 0, page_size));
}

SUBTEST(file_outlives_creator)
{
	int sync[2], fd = create(), status;
	pid_t pid;
	char c;

	assert_works(guest_memfd_alloc(fd, 0, page_size));
	assert_works(pipe(sync));

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		/* Until the parent's descriptors are closed... */
		close(sync[1]);
		TEST_ASSERT(read(sync[0], &c, 1) == 0, "read()");
		close(vm->fd);
		ASSERT_EQ(guest_memfd_nr_pages(fd), 1ul);
		assert_works(guest_memfd_alloc(fd, page_size, page_size));
		ASSERT_EQ(guest_memfd_nr_pages(fd), 2ul);
		exit(0);
	}
	kvm_vm_free(vm);
	close(fd);
	close(sync[0]);
	close(sync[1]);
	assert_works(waitpid(pid, &status, 0));
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "Child's status 0x%x", status);
}

SUBTEST(dup_is_the_same_file)
{
	int fd = create(), other = dup(fd);

	assert_works(guest_memfd_alloc(fd, 0, page_size));
	close(fd);
	ASSERT_EQ(guest_memfd_nr_pages(other), 1ul);
	vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, 0, page_size,
				   NULL, other, 0);
}

int main(int argc, char *argv[])
{
	require_private_mem();
	page_size = getpagesize();

	subtest_main(argc, argv);
}
