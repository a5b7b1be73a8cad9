// SPDX-License-Identifier: GPL-2.0-only
/*
 * The launch of SEV-SNP guests: its three commands, in and out of order, with good
 * and bad arguments; each type of page; ID blocks; and that what the firmware has
 * measured, and reports to the guest, is what was asked for.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "memory_failure.h"
#include "private_mem.h"
#include "sev_vm.h"
#include "snp_report.h"
#include "subtest.h"

#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define HUGE_SIZE	(2ULL << 20)
#define NR_PAGES	16
#define SIZE		(NR_PAGES * PAGE_SIZE)

#define NORMAL		KVM_SEV_SNP_PAGE_TYPE_NORMAL
#define ZERO		KVM_SEV_SNP_PAGE_TYPE_ZERO
#define UNMEASURED	KVM_SEV_SNP_PAGE_TYPE_UNMEASURED
#define SECRETS		KVM_SEV_SNP_PAGE_TYPE_SECRETS
#define CPUID		KVM_SEV_SNP_PAGE_TYPE_CPUID

static struct sev_vm *sev;
static uint8_t *src;		/* NR_PAGES pages of userspace */
static int fd;

/* --- VMs without vCPUs: small, and with a digest that is known beforehand ---- */

static void setup(void)
{
	sev = sev_vm_create_barebones(KVM_X86_SNP_VM);
	sev_init2(sev);

	fd = vm_create_guest_memfd(sev->vm, SIZE);
	vm_mem_region_add_private(sev->vm, GPA, SLOT, NR_PAGES, fd, 0);
	vm_mem_set_private(sev->vm, GPA, SIZE);
	src = addr_gpa2hva(sev->vm, GPA);
	memset(src, 0x5a, SIZE);
}

static void setup_started(void)
{
	setup();
	snp_launch_start(sev);
}

#define assert_err(_err, _expected)						\
do {										\
	int __err = (_err), __expected = (_expected);				\
										\
	TEST_ASSERT(__err == __expected,					\
		    "%s: errno %d (%s), not %d; firmware error 0x%x",		\
		    #_err, __err, strerror(__err), __expected, sev->fw_error);	\
} while (0)

static void assert_fw(int err, uint32_t fw_error)
{
	TEST_ASSERT(err == EIO && sev->fw_error == fw_error,
		    "errno %d (%s), firmware error 0x%x, not 0x%x", err,
		    strerror(err), sev->fw_error, fw_error);
}

static int update(uint64_t gpa, void *from, uint64_t size, uint8_t type)
{
	return __snp_launch_update(sev, gpa, from, size, type);
}

static int finish(void)
{
	return __snp_launch_finish(sev, NULL);
}

SUBTEST(start_errors)
{
	struct kvm_sev_snp_launch_start start = { .policy = SNP_POLICY };
	int i, sev_fd;

	setup();

	assert_err(__snp_launch_start(sev, 0), EINVAL);
	assert_err(__snp_launch_start(sev, SNP_POLICY_SMT), EINVAL);
	assert_err(__snp_launch_start(sev, SNP_POLICY | SNP_POLICY_MIGRATE_MA), EINVAL);
	for (i = 26; i < 64; i++)
		assert_err(__snp_launch_start(sev, SNP_POLICY | 1ull << i), EINVAL);
	for (i = 0; i < 16; i++) {
		start.flags = 1u << i;
		assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_START, &start), EINVAL);
	}
	start.flags = 0;
	assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_START, NULL), EFAULT);

	/* The firmware is younger than version 255.255. */
	assert_fw(__snp_launch_start(sev, SNP_POLICY | 0xffff), SEV_FW_POLICY_FAILURE);

	/* Whoever may not open /dev/sev may not launch. */
	sev_fd = sev->sev_fd;
	sev->sev_fd = -1;
	assert_err(__snp_launch_start(sev, SNP_POLICY), EBADF);
	sev->sev_fd = sev->vm->fd;
	assert_err(__snp_launch_start(sev, SNP_POLICY), EBADF);
	sev->sev_fd = sev_fd;

	/* None of that is in the way of a good one. */
	sev_cmd(sev, KVM_SEV_SNP_LAUNCH_START, &start);
	assert_err(__snp_launch_start(sev, SNP_POLICY), EINVAL);
	sev_vm_free(sev);
}

SUBTEST(order)
{
	setup();
	assert_err(update(GPA, src, PAGE_SIZE, NORMAL), EINVAL);
	assert_err(finish(), EINVAL);
	snp_launch_start(sev);
	assert_err(update(GPA, src, PAGE_SIZE, NORMAL), 0);
	assert_err(finish(), 0);

	/* The firmware knows that it is over. */
	assert_fw(finish(), SEV_FW_INVALID_GUEST_STATE);
	assert_fw(update(GPA + PAGE_SIZE, src, PAGE_SIZE, NORMAL),
		  SEV_FW_INVALID_GUEST_STATE);
	assert_err(__snp_launch_start(sev, SNP_POLICY), EINVAL);
	sev_vm_free(sev);
}

/* A VM can end at each point of its launch. */
SUBTEST(abandoned)
{
	setup();
	sev_vm_free(sev);
	setup_started();
	sev_vm_free(sev);
	setup_started();
	assert_err(update(GPA, src, SIZE, NORMAL), 0);
	sev_vm_free(sev);

	/* Pages that are in the RMP leave the file, too. */
	setup_started();
	assert_err(update(GPA, src, SIZE, NORMAL), 0);
	ASSERT_EQ(guest_memfd_nr_pages(fd), (uint64_t)NR_PAGES);
	ASSERT_EQ(guest_memfd_punch(fd, PAGE_SIZE, 3 * PAGE_SIZE), 0);
	ASSERT_EQ(guest_memfd_nr_pages(fd), (uint64_t)NR_PAGES - 3);
	assert_err(update(GPA + PAGE_SIZE, src, 3 * PAGE_SIZE, NORMAL), 0);
	sev_vm_free(sev);
}

SUBTEST(update_arguments)
{
	struct kvm_sev_snp_launch_update args;
	int i;

	setup_started();

	assert_err(update(GPA, src, 0, NORMAL), EINVAL);
	assert_err(update(GPA, src, PAGE_SIZE - 1, NORMAL), EINVAL);
	assert_err(update(GPA, src, PAGE_SIZE + 8, NORMAL), EINVAL);
	assert_err(update(GPA, src + 8, PAGE_SIZE, NORMAL), EINVAL);
	for (i = 0; i < 256; i++) {
		if (i != NORMAL && i != ZERO && i != UNMEASURED && i != SECRETS &&
		    i != CPUID)
			assert_err(update(GPA, src, PAGE_SIZE, i), EINVAL);
	}
	for (i = 0; i < 16; i++) {
		args = (struct kvm_sev_snp_launch_update) {
			.gfn_start = GPA / PAGE_SIZE,
			.uaddr = (uintptr_t)src,
			.len = PAGE_SIZE,
			.type = NORMAL,
			.flags = 1u << i,
		};
		assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_UPDATE, &args), EINVAL);
	}
	assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_UPDATE, NULL), EFAULT);

	/* Where there is no memory, or none that the guest could have */
	assert_err(update(GPA - PAGE_SIZE, src, PAGE_SIZE, NORMAL), EINVAL);
	assert_err(update(GPA + SIZE, src, PAGE_SIZE, NORMAL), EINVAL);
	for (i = 40; i < 64; i++) {
		args = (struct kvm_sev_snp_launch_update) {
			.gfn_start = 1ull << i,
			.uaddr = (uintptr_t)src,
			.len = PAGE_SIZE,
			.type = NORMAL,
		};
		assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_UPDATE, &args), EINVAL);
	}
	args.gfn_start = -1ull;
	assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_UPDATE, &args), EINVAL);

	/* There has to be content, where it is not zeroes. */
	assert_err(update(GPA, NULL, PAGE_SIZE, NORMAL), EINVAL);
	assert_err(update(GPA, NULL, PAGE_SIZE, UNMEASURED), EINVAL);
	assert_err(update(GPA, NULL, PAGE_SIZE, SECRETS), EINVAL);
	assert_err(update(GPA, NULL, PAGE_SIZE, CPUID), EINVAL);

	/* Nothing has changed: all pages are still to be had. */
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	assert_err(update(GPA, src, SIZE, NORMAL), 0);
	sev_vm_free(sev);
}

SUBTEST(update_not_private)
{
	setup_started();
	vm_mem_set_shared(sev->vm, GPA + PAGE_SIZE, PAGE_SIZE);
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, NORMAL), EINVAL);
	/* It does what it can, and says how far it came. */
	assert_err(update(GPA, src, 3 * PAGE_SIZE, NORMAL), EINVAL);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 1ul);
	vm_mem_set_private(sev->vm, GPA + PAGE_SIZE, PAGE_SIZE);
	assert_err(update(GPA + PAGE_SIZE, src, 2 * PAGE_SIZE, NORMAL), 0);
	sev_vm_free(sev);
}

SUBTEST(update_no_file)
{
	setup_started();
	vm_userspace_mem_region_add(sev->vm, VM_MEM_SRC_ANONYMOUS, GPA + HUGE_SIZE,
				    SLOT + 1, NR_PAGES, 0);
	/* What is private needs a file, so that there may be an attribute or not. */
	assert_err(update(GPA + HUGE_SIZE, src, PAGE_SIZE, NORMAL), EINVAL);
	vm_mem_set_private(sev->vm, GPA + HUGE_SIZE, SIZE);
	assert_err(update(GPA + HUGE_SIZE, src, PAGE_SIZE, NORMAL), EINVAL);
	sev_vm_free(sev);
}

SUBTEST(update_twice)
{
	setup_started();
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, NORMAL), 0);
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, NORMAL), EEXIST);
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, ZERO), EEXIST);
	assert_err(update(GPA, src, 3 * PAGE_SIZE, NORMAL), EEXIST);
	assert_err(update(GPA + 2 * PAGE_SIZE, src, PAGE_SIZE, NORMAL), 0);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

SUBTEST(update_bad_source)
{
	uint8_t *map;

	setup_started();
	map = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(map != MAP_FAILED, "mmap() failed, errno: %d", errno);
	munmap(map + PAGE_SIZE, PAGE_SIZE);

	assert_err(update(GPA, map + PAGE_SIZE, PAGE_SIZE, NORMAL), EFAULT);
	assert_err(update(GPA, map, 2 * PAGE_SIZE, NORMAL), EFAULT);
	/* One of them is in. */
	assert_err(update(GPA, map, PAGE_SIZE, NORMAL), EEXIST);
	assert_err(update(GPA + PAGE_SIZE, map, PAGE_SIZE, NORMAL), 0);
	assert_err(update(GPA + 2 * PAGE_SIZE, (void *)-8192ul, PAGE_SIZE, NORMAL),
		   EFAULT);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

/* The memslot lives, and knows its file no more. */
SUBTEST(update_file_closed)
{
	struct userspace_mem_region *region;

	setup_started();
	region = memslot2region(sev->vm, SLOT);
	ASSERT_EQ(close(region->guest_memfd), 0);
	region->guest_memfd = -1;
	assert_err(update(GPA, src, PAGE_SIZE, NORMAL), 0);
	ASSERT_EQ(close(fd), 0);
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, NORMAL), EFAULT);
	assert_err(update(GPA + PAGE_SIZE, NULL, PAGE_SIZE, ZERO), EFAULT);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

/* One call of the command; what it leaves is in @args. */
static int update_once(struct kvm_sev_snp_launch_update *args)
{
	return __sev_cmd(sev, KVM_SEV_SNP_LAUNCH_UPDATE, args);
}

static void assert_left(const struct kvm_sev_snp_launch_update *args, uint64_t done,
			uint64_t left)
{
	TEST_ASSERT(args->gfn_start == GPA / PAGE_SIZE + done &&
		    args->uaddr == (uintptr_t)src + done * PAGE_SIZE &&
		    args->len == left * PAGE_SIZE,
		    "After %lu pages, with %lu left: gfn 0x%llx uaddr 0x%llx len 0x%llx",
		    done, left, args->gfn_start, args->uaddr, args->len);
}

static struct kvm_sev_snp_launch_update update_args(uint64_t first, uint64_t nr)
{
	return (struct kvm_sev_snp_launch_update) {
		.gfn_start = GPA / PAGE_SIZE + first,
		.uaddr = (uintptr_t)src + first * PAGE_SIZE,
		.len = nr * PAGE_SIZE,
		.type = NORMAL,
	};
}

static void do_nothing(int sig)
{
}

/* Nearly all of 2M, which takes its time */
static void *update_many(void *arg)
{
	struct kvm_sev_snp_launch_update args = update_args(16, 496);
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	while (args.len)
		sev_cmd(sev, KVM_SEV_SNP_LAUNCH_UPDATE, &args);
	return NULL;
}

/*
 * While another thread's command is at work, a signal comes: it does not begin.
 * Returns how often; there is nothing in the file then.
 */
static int interrupt_while_it_waits(void)
{
	const struct itimerval soon = { .it_value.tv_usec = 10000 };
	struct kvm_sev_snp_launch_update args;
	int err = 0, tries, nr_waits = 0;
	pthread_t thread;

	for (tries = 0; tries < 10 && nr_waits < 2; tries++) {
		args = update_args(0, 16);
		ASSERT_EQ(pthread_create(&thread, NULL, update_many, NULL), 0);
		usleep(10000);
		setitimer(ITIMER_REAL, &soon, NULL);
		err = update_once(&args);
		pthread_join(thread, NULL);
		if (err) {
			assert_err(err, EINTR);
			assert_left(&args, 0, 16);
			ASSERT_EQ(guest_memfd_nr_pages(fd), HUGE_SIZE / PAGE_SIZE - 16);
			nr_waits++;
		}
		ASSERT_EQ(guest_memfd_punch(fd, 0, HUGE_SIZE), 0);
	}
	TEST_ASSERT(nr_waits, "It never had to wait");
	return nr_waits;
}

/* What a signal leaves undone is done by the next call. */
SUBTEST(update_interrupted)
{
	const struct itimerval never = {}, often = {
		.it_interval.tv_usec = 3000,
		.it_value.tv_usec = 3000,
	};
	struct sigaction action = { .sa_handler = do_nothing };
	struct kvm_sev_snp_launch_update args;
	const uint64_t nr = HUGE_SIZE / PAGE_SIZE;
	int err, partly = 0, nothing;
	uint64_t done = 0, now;

	sev = sev_vm_create_barebones(KVM_X86_SNP_VM);
	sev_init2(sev);
	fd = vm_create_guest_memfd(sev->vm, HUGE_SIZE);
	vm_mem_region_add_private(sev->vm, GPA, SLOT, nr, fd, 0);
	vm_mem_set_private(sev->vm, GPA, HUGE_SIZE);
	src = addr_gpa2hva(sev->vm, GPA);
	memset(src, 0x5a, HUGE_SIZE);
	snp_launch_start(sev);

	sigaction(SIGALRM, &action, NULL);
	nothing = interrupt_while_it_waits();

	args = update_args(0, nr);
	setitimer(ITIMER_REAL, &often, NULL);
	while (done < nr) {
		err = update_once(&args);
		now = nr - args.len / PAGE_SIZE;
		assert_left(&args, now, nr - now);
		if (err) {
			assert_err(err, EINTR);
			ASSERT_EQ(now, done);
			TEST_ASSERT(nothing++ < 100000, "There is no end");
			continue;
		}
		TEST_ASSERT(now > done, "No progress, and no error");
		ASSERT_EQ(sev->fw_error, (uint32_t)SEV_FW_OK);
		partly += now < nr;
		done = now;
	}
	setitimer(ITIMER_REAL, &never, NULL);
	TEST_ASSERT(partly, "No signal has come in time");
	ksft_print_msg("%d times a part, %d times nothing\n", partly, nothing);

	/* Each of them is there, and once. */
	ASSERT_EQ(guest_memfd_nr_pages(fd), nr);
	for (now = 0; now < nr; now++) {
		args = update_args(now, 1);
		assert_err(update_once(&args), EEXIST);
	}
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

/* It ends where the memslot does; there may be another one. */
SUBTEST(update_beyond_slot)
{
	struct kvm_sev_snp_launch_update args;

	setup_started();
	args = update_args(NR_PAGES - 2, 4);
	assert_err(update_once(&args), 0);
	assert_left(&args, NR_PAGES, 2);
	assert_err(update_once(&args), EINVAL);
	assert_left(&args, NR_PAGES, 2);

	vm_mem_region_add_private(sev->vm, GPA + SIZE, SLOT + 1, NR_PAGES, -1, 0);
	assert_err(update_once(&args), EINVAL);
	vm_mem_set_private(sev->vm, GPA + SIZE, SIZE);
	/* What is read need not be in the guest's memory. */
	src = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(src != MAP_FAILED, "mmap() failed, errno: %d", errno);
	args = update_args(NR_PAGES, 2);
	assert_err(update_once(&args), 0);
	assert_left(&args, NR_PAGES + 2, 0);

	/* Over the border of both */
	args = update_args(NR_PAGES - 4, 2);
	assert_err(update_once(&args), 0);
	ASSERT_EQ(guest_memfd_punch(fd, SIZE - 2 * PAGE_SIZE, 2 * PAGE_SIZE), 0);
	vm_mem_punch(sev->vm, GPA + SIZE, 2 * PAGE_SIZE);
	args = update_args(NR_PAGES - 2, 4);
	assert_err(update_once(&args), 0);
	assert_left(&args, NR_PAGES, 2);
	assert_err(update_once(&args), 0);
	assert_left(&args, NR_PAGES + 2, 0);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

static void *read_only_copy(const void *what, size_t size)
{
	void *page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(page != MAP_FAILED, "mmap() failed, errno: %d", errno);
	memcpy(page, what, size);
	ASSERT_EQ(mprotect(page, PAGE_SIZE, PROT_READ), 0);
	return page;
}

static int read_only_cmd(uint32_t id, void *data)
{
	const struct kvm_sev_cmd cmd = {
		.id = id,
		.data = (uintptr_t)data,
		.sev_fd = sev->sev_fd,
	};

	return ioctl(sev->vm->fd, KVM_MEMORY_ENCRYPT_OP,
		     read_only_copy(&cmd, sizeof(cmd))) ? errno : 0;
}

/* The answer cannot be written, but the work has been done. */
SUBTEST(read_only_arguments)
{
	struct kvm_sev_snp_launch_start start_args = { .policy = SNP_POLICY };
	struct kvm_sev_snp_launch_finish finish_args = {};
	struct kvm_sev_snp_launch_update args;

	setup();
	assert_err(read_only_cmd(KVM_SEV_SNP_LAUNCH_START, &start_args), EFAULT);
	assert_err(__snp_launch_start(sev, SNP_POLICY), EINVAL);

	args = update_args(0, 2);
	assert_err(update_once(read_only_copy(&args, sizeof(args))), EFAULT);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 2ul);
	assert_err(update_once(&args), EEXIST);

	args = update_args(2, 2);
	assert_err(read_only_cmd(KVM_SEV_SNP_LAUNCH_UPDATE, &args), EFAULT);
	assert_left(&args, 4, 0);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 4ul);
	args = update_args(2, 2);
	assert_err(update_once(&args), EEXIST);

	/* These are not written to at all. */
	assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_FINISH,
			     read_only_copy(&finish_args, sizeof(finish_args))), 0);
	sev_vm_free(sev);

	setup();
	assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_START,
			     read_only_copy(&start_args, sizeof(start_args))), 0);
	assert_err(read_only_cmd(KVM_SEV_SNP_LAUNCH_FINISH, &finish_args), EFAULT);
	assert_fw(finish(), SEV_FW_INVALID_GUEST_STATE);
	sev_vm_free(sev);
}

/* A page that breaks before it has its content: all but that one can be given. */
SUBTEST(update_broken_page)
{
	struct kvm_sev_snp_launch_update args;
	uint64_t pfn, bad;
	bool *others;

	setup_started();
	others = pages_in_use();
	ASSERT_EQ(guest_memfd_alloc(fd, 0, SIZE), 0);
	pfn = guest_memfd_break_page(fd, KPF_LRU, others);
	free(others);
	if (!pfn)
		subtest_skip("found no page to break");

	args = update_args(0, NR_PAGES);
	if (update_once(&args))
		assert_left(&args, 0, NR_PAGES);
	bad = NR_PAGES - args.len / PAGE_SIZE;
	assert_left(&args, bad, NR_PAGES - bad);
	TEST_ASSERT(args.len, "Nobody notices");
	assert_err(update_once(&args), EHWPOISON);
	assert_left(&args, bad, NR_PAGES - bad);
	if (bad + 1 < NR_PAGES) {
		args = update_args(bad + 1, NR_PAGES - bad - 1);
		assert_err(update_once(&args), 0);
	}

	/* There is another one for it. */
	ASSERT_EQ(guest_memfd_punch(fd, bad * PAGE_SIZE, PAGE_SIZE), 0);
	args = update_args(bad, 1);
	assert_err(update_once(&args), 0);
	assert_err(finish(), 0);
	sev_vm_free(sev);
	close(fd);
	unpoison_page(pfn);
}

/* A file with pages in it already, small ones and a huge one */
SUBTEST(update_allocated)
{
	setup_started();
	ASSERT_EQ(guest_memfd_alloc(fd, 0, SIZE), 0);
	assert_err(update(GPA, src, SIZE, NORMAL), 0);
	sev_vm_free(sev);

	sev = sev_vm_create_barebones(KVM_X86_SNP_VM);
	sev_init2(sev);
	fd = vm_create_guest_memfd(sev->vm, HUGE_SIZE);
	vm_mem_region_add_private(sev->vm, GPA, SLOT, HUGE_SIZE / PAGE_SIZE, fd, 0);
	vm_mem_set_private(sev->vm, GPA, HUGE_SIZE);
	src = addr_gpa2hva(sev->vm, GPA);
	snp_launch_start(sev);
	assert_err(update(GPA + 5 * PAGE_SIZE, src, 3 * PAGE_SIZE, NORMAL), 0);
	assert_err(update(GPA, src, PAGE_SIZE, ZERO), 0);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

SUBTEST(page_types)
{
	setup_started();
	assert_err(update(GPA, src, 2 * PAGE_SIZE, NORMAL), 0);
	assert_err(update(GPA + 2 * PAGE_SIZE, NULL, PAGE_SIZE, ZERO), 0);
	/* It is not looked at. */
	assert_err(update(GPA + 3 * PAGE_SIZE, src, PAGE_SIZE, ZERO), 0);
	assert_err(update(GPA + 4 * PAGE_SIZE, src, 2 * PAGE_SIZE, UNMEASURED), 0);
	assert_err(update(GPA + 6 * PAGE_SIZE, src, PAGE_SIZE, SECRETS), 0);
	memset(src, 0, PAGE_SIZE);
	assert_err(update(GPA + 7 * PAGE_SIZE, src, PAGE_SIZE, CPUID), 0);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

struct cpuid_table {
	uint32_t count;
	uint32_t rsvd1;
	uint64_t rsvd2;
	struct {
		uint32_t leaf, sub;
		uint64_t xcr0, xss;
		uint32_t eax, ebx, ecx, edx;
		uint64_t rsvd;
	} fn[64];
};

SUBTEST(cpuid_page)
{
	struct cpuid_table *table, good;

	setup_started();
	table = (void *)src;
	memset(table, 0, PAGE_SIZE);
	table->count = 2;
	table->fn[0].leaf = 0x8000001f;
	cpuid(0x8000001f, &table->fn[0].eax, &table->fn[0].ebx, &table->fn[0].ecx,
	      &table->fn[0].edx);
	table->fn[1].leaf = 0x40000000;
	table->fn[1].ebx = 0x12345678;
	good = *table;

	/* The C-bit has to be where it is: the firmware puts it there. */
	table->fn[0].ebx ^= 1;
	assert_fw(update(GPA, src, PAGE_SIZE, CPUID), SEV_FW_INVALID_PARAM);
	TEST_ASSERT(!memcmp(table, &good, sizeof(good)),
		    "Not corrected: EBX is 0x%x, not 0x%x", table->fn[0].ebx,
		    good.fn[0].ebx);

	/* And what it has made of it is good. */
	assert_err(update(GPA, src, PAGE_SIZE, CPUID), 0);
	assert_err(update(GPA, src, PAGE_SIZE, CPUID), EEXIST);

	/* Nothing can be made of that. */
	table->count = 65;
	assert_fw(update(GPA + PAGE_SIZE, src, PAGE_SIZE, CPUID), SEV_FW_INVALID_PARAM);
	ASSERT_EQ(table->count, 65u);

	/* It has to be writable for the correction. */
	table->count = 2;
	table->fn[0].ebx ^= 1;
	ASSERT_EQ(mprotect(src, PAGE_SIZE, PROT_READ), 0);
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, CPUID), EFAULT);
	ASSERT_EQ(mprotect(src, PAGE_SIZE, PROT_READ | PROT_WRITE), 0);

	*table = good;
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, CPUID), 0);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

/* --- ID blocks --------------------------------------------------------------- */

struct id_key {
	uint8_t x[48], y[48];		/* the public key */
	uint8_t r[48], s[48];		/* the signature */
};

/*
 * Signatures of the ID block that id_launch() and id_block_init() stand for, by
 * the ID key, and of that by the author's.  The private keys are gone.
 */
static const struct id_key id_key = {
	.x = {
		0x44, 0x93, 0x33, 0x88, 0x28, 0xa0, 0xee, 0x77, 0x7d, 0xd4, 0xa3, 0x71,
		0xcf, 0x49, 0x4a, 0xdc, 0xce, 0xeb, 0x67, 0xca, 0x36, 0x57, 0x62, 0xbc,
		0x7a, 0x17, 0xe8, 0x18, 0xe0, 0x6f, 0x38, 0x66, 0xd2, 0x52, 0x35, 0x51,
		0x4d, 0x23, 0xb6, 0x2e, 0x18, 0x63, 0x77, 0x29, 0xef, 0x1d, 0x57, 0xe1,
	},
	.y = {
		0x6f, 0x93, 0x0b, 0x86, 0xaa, 0x95, 0xa1, 0xd5, 0x91, 0x6b, 0x97, 0xc8,
		0xb9, 0xd6, 0xea, 0x72, 0x32, 0xbc, 0xbd, 0x17, 0xbb, 0xc0, 0x61, 0xe8,
		0xa6, 0x48, 0xdb, 0xe2, 0xd0, 0xde, 0x74, 0xac, 0x4f, 0x8f, 0x13, 0x3c,
		0x98, 0xaa, 0xb1, 0x6f, 0xe2, 0xb4, 0x53, 0x83, 0x53, 0x8f, 0x5b, 0xaa,
	},
	.r = {
		0xe7, 0xe5, 0xcc, 0x5d, 0xe7, 0xf0, 0x45, 0x23, 0x97, 0x5c, 0x3c, 0x5d,
		0xc3, 0xb2, 0xc0, 0x42, 0x74, 0x24, 0x94, 0xb8, 0x0f, 0xc0, 0x80, 0x73,
		0x74, 0xa1, 0x92, 0xf3, 0x6a, 0xa2, 0x15, 0x41, 0x90, 0xd5, 0xc1, 0x3d,
		0xfb, 0x6e, 0x66, 0x1d, 0x6a, 0x5e, 0x5c, 0xff, 0x48, 0x10, 0xf9, 0x3d,
	},
	.s = {
		0xbd, 0xb2, 0x30, 0x94, 0x49, 0xff, 0xe7, 0x54, 0xa2, 0xe4, 0xee, 0xd7,
		0xa3, 0xb0, 0xb1, 0x45, 0xf4, 0xca, 0xfc, 0xed, 0xe3, 0x35, 0xfe, 0xe0,
		0xc7, 0xdc, 0x4e, 0x65, 0x79, 0x22, 0x3f, 0xeb, 0x5e, 0x0f, 0x5e, 0x27,
		0x41, 0x36, 0xb1, 0x5d, 0x57, 0x67, 0x93, 0x5f, 0x4c, 0x66, 0x23, 0x09,
	},
};

static const struct id_key author_key = {
	.x = {
		0x0b, 0x11, 0x9a, 0x84, 0xba, 0x77, 0x66, 0x46, 0xf5, 0x02, 0x93, 0x42,
		0x20, 0x45, 0x88, 0x00, 0xd5, 0x4b, 0x1f, 0xac, 0x5c, 0x30, 0x17, 0xaf,
		0x15, 0x40, 0x22, 0x8d, 0x89, 0x5b, 0x62, 0x6f, 0x36, 0xc2, 0xed, 0xbe,
		0x60, 0xeb, 0x29, 0x32, 0x32, 0x6d, 0xcb, 0x15, 0xb3, 0x84, 0x04, 0xac,
	},
	.y = {
		0x3c, 0x6b, 0x3e, 0x5d, 0x77, 0xbc, 0xc0, 0x65, 0x13, 0xb0, 0xc9, 0x16,
		0xf0, 0xb1, 0x8c, 0xac, 0xba, 0x5e, 0x11, 0xd9, 0x3e, 0xe9, 0x97, 0x4e,
		0xf1, 0x32, 0xc8, 0x7e, 0xf7, 0x5d, 0xe2, 0x9b, 0x8e, 0x00, 0x2e, 0xc8,
		0x3a, 0x1a, 0xb2, 0x00, 0x8a, 0x8b, 0x1f, 0x54, 0x33, 0x3e, 0x0c, 0x31,
	},
	.r = {
		0x9b, 0xe6, 0x3e, 0xfe, 0x7e, 0x03, 0x17, 0x89, 0x61, 0xdd, 0xee, 0x7b,
		0x96, 0x3c, 0xaa, 0x01, 0xc7, 0x0b, 0xb4, 0x73, 0xdd, 0xaa, 0x64, 0xcc,
		0x12, 0xbb, 0x7a, 0x55, 0xd0, 0xd7, 0xec, 0x66, 0x82, 0x6e, 0xbd, 0xd5,
		0xb0, 0xe1, 0xd0, 0xfb, 0x80, 0xb3, 0x08, 0x36, 0x75, 0xda, 0xcf, 0x4f,
	},
	.s = {
		0xb2, 0xf1, 0xe0, 0x0c, 0x4d, 0x25, 0xe0, 0x4c, 0xdf, 0xee, 0xb0, 0xdd,
		0x36, 0xe0, 0x7d, 0x82, 0x4c, 0xa3, 0x71, 0x59, 0x2e, 0x82, 0xc5, 0x55,
		0xe2, 0xac, 0xcf, 0x3a, 0x01, 0x6d, 0x85, 0xaf, 0x70, 0xda, 0x7e, 0x5f,
		0x42, 0x6d, 0x7d, 0x6c, 0xad, 0xf8, 0xcd, 0xa5, 0x3d, 0xb1, 0xf0, 0x68,
	},
};

#define ECC_FIELD	72
#define ECC_KEY_SIZE	0x404

struct id_block {
	uint8_t digest[SHA384_SIZE];
	uint8_t family_id[16];
	uint8_t image_id[16];
	uint32_t version;
	uint32_t guest_svn;
	uint64_t policy;
};

struct id_auth {
	uint32_t id_key_algo;
	uint32_t author_key_algo;
	uint8_t rsvd1[0x38];
	uint8_t id_block_sig[512];		/* 0x40 */
	uint8_t id_key[ECC_KEY_SIZE];		/* 0x240 */
	uint8_t rsvd2[0x3c];
	uint8_t id_key_sig[512];		/* 0x680 */
	uint8_t author_key[ECC_KEY_SIZE];	/* 0x880 */
	uint8_t rsvd3[0x1000 - 0x880 - ECC_KEY_SIZE];
};

static_assert(sizeof(struct id_block) == KVM_SEV_SNP_ID_BLOCK_SIZE, "");
static_assert(sizeof(struct id_auth) == KVM_SEV_SNP_ID_AUTH_SIZE, "");
static_assert(offsetof(struct id_auth, author_key) == 0x880, "");

static void put_key(uint8_t *key, const struct id_key *from)
{
	key[0] = 2;		/* P-384 */
	memcpy(key + 4, from->x, 48);
	memcpy(key + 4 + ECC_FIELD, from->y, 48);
}

static void put_signature(uint8_t *sig, const struct id_key *from)
{
	memcpy(sig, from->r, 48);
	memcpy(sig + ECC_FIELD, from->s, 48);
}

static void id_auth_init(struct id_auth *auth)
{
	memset(auth, 0, sizeof(*auth));
	auth->id_key_algo = 1;
	auth->author_key_algo = 1;
	put_signature(auth->id_block_sig, &id_key);
	put_key(auth->id_key, &id_key);
	put_signature(auth->id_key_sig, &author_key);
	put_key(auth->author_key, &author_key);
}

static struct id_block id_block;
static struct id_auth id_auth;

/* Three pages: one with the pattern, one of zeroes, one that is not measured. */
static void id_launch(uint64_t policy, uint64_t seed)
{
	uint8_t digest[SHA384_SIZE] = {};

	setup();
	assert_err(__snp_launch_start(sev, policy), 0);
	memset(src, 0, SIZE);
	vm_mem_fill(sev->vm, GPA, PAGE_SIZE, seed);
	assert_err(update(GPA, src, PAGE_SIZE, NORMAL), 0);
	assert_err(update(GPA + PAGE_SIZE, NULL, PAGE_SIZE, ZERO), 0);
	assert_err(update(GPA + 2 * PAGE_SIZE, src, PAGE_SIZE, UNMEASURED), 0);

	memset(&id_block, 0, sizeof(id_block));
	vm_mem_fill(sev->vm, GPA, PAGE_SIZE, 0x1d);
	snp_digest_page(digest, NORMAL, src, GPA);
	snp_digest_page(digest, ZERO, NULL, GPA + PAGE_SIZE);
	snp_digest_page(digest, UNMEASURED, NULL, GPA + 2 * PAGE_SIZE);
	memcpy(id_block.digest, digest, sizeof(digest));
	memcpy(id_block.family_id, "test-family-id--", 16);
	memcpy(id_block.image_id, "test-image-id---", 16);
	id_block.version = 1;
	id_block.guest_svn = 7;
	id_block.policy = SNP_POLICY;
	id_auth_init(&id_auth);
}

static int id_finish(uint8_t author)
{
	struct kvm_sev_snp_launch_finish args = {
		.id_block_en = 1,
		.auth_key_en = author,
		.id_block_uaddr = (uintptr_t)&id_block,
		.id_auth_uaddr = (uintptr_t)&id_auth,
	};

	return __snp_launch_finish(sev, &args);
}

SUBTEST(id_block_good)
{
	id_launch(SNP_POLICY, 0x1d);
	assert_err(id_finish(false), 0);
	sev_vm_free(sev);

	id_launch(SNP_POLICY, 0x1d);
	assert_err(id_finish(true), 0);
	sev_vm_free(sev);
}

/* What fails can be put right. */
SUBTEST(id_block_bad)
{
	/* Another guest than the one that was signed */
	id_launch(SNP_POLICY, 0x1e);
	assert_fw(id_finish(false), SEV_FW_BAD_MEASUREMENT);
	assert_fw(id_finish(true), SEV_FW_BAD_MEASUREMENT);
	assert_err(finish(), 0);
	sev_vm_free(sev);

	/* One byte of what is signed, of the signature, of the key */
	id_launch(SNP_POLICY, 0x1d);
	id_block.digest[0] ^= 1;
	assert_fw(id_finish(false), SEV_FW_BAD_SIGNATURE);
	id_block.digest[0] ^= 1;
	id_block.guest_svn++;
	assert_fw(id_finish(false), SEV_FW_BAD_SIGNATURE);
	id_block.guest_svn--;
	id_auth.id_block_sig[5] ^= 1;
	assert_fw(id_finish(false), SEV_FW_BAD_SIGNATURE);
	id_auth.id_block_sig[5] ^= 1;
	id_auth.id_key[5] ^= 1;
	assert_fw(id_finish(false), SEV_FW_BAD_SIGNATURE);
	id_auth.id_key[5] ^= 1;
	id_auth.id_key_sig[5] ^= 1;
	assert_fw(id_finish(true), SEV_FW_BAD_SIGNATURE);
	/* Without the author nobody looks at that. */
	id_block.version = 2;
	assert_fw(id_finish(false), SEV_FW_INVALID_PARAM);
	id_block.version = 1;
	id_auth.id_key_algo = 2;
	assert_fw(id_finish(false), SEV_FW_INVALID_PARAM);
	id_auth.id_key_algo = 1;
	assert_err(id_finish(false), 0);
	sev_vm_free(sev);

	id_launch(SNP_POLICY | SNP_POLICY_DEBUG, 0x1d);
	assert_fw(id_finish(false), SEV_FW_POLICY_FAILURE);
	sev_vm_free(sev);
}

/* What is not zero is true, also for what the firmware has one bit for. */
SUBTEST(id_block_booleans)
{
	static const uint8_t values[] = { 1, 2, 0x80, 0xff };
	struct kvm_sev_snp_launch_finish args = {
		.id_block_uaddr = (uintptr_t)&id_block,
		.id_auth_uaddr = (uintptr_t)&id_auth,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		id_launch(SNP_POLICY, 0x1d);
		id_auth.id_key_sig[5] ^= 1;
		assert_fw(id_finish(values[i]), SEV_FW_BAD_SIGNATURE);
		id_auth.id_key_sig[5] ^= 1;
		id_block.version = 2;
		args.id_block_en = values[i];
		assert_fw(__snp_launch_finish(sev, &args), SEV_FW_INVALID_PARAM);
		id_block.version = 1;
		args.auth_key_en = values[i];
		args.vcek_disabled = values[i];
		assert_err(__snp_launch_finish(sev, &args), 0);
		args.auth_key_en = 0;
		sev_vm_free(sev);
	}

	/* An author without a block is nobody's. */
	id_launch(SNP_POLICY, 0x1d);
	id_auth.id_key_sig[5] ^= 1;
	args.id_block_en = 0;
	args.auth_key_en = 2;
	assert_err(__snp_launch_finish(sev, &args), 0);
	sev_vm_free(sev);
}

static void *run_in_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;

	/* It waits for somebody to start it. */
	TEST_ASSERT(__vcpu_run(vcpu) == -1 && (errno == EINTR || errno == EAGAIN),
		    "KVM_RUN: errno %d", errno);
	return NULL;
}

/* None of the vCPUs may run while its state is taken; the last one does. */
static void finish_while_last_runs(uint32_t nr_vcpus)
{
	struct kvm_mp_state stopped = { .mp_state = KVM_MP_STATE_UNINITIALIZED };
	struct sigaction action = { .sa_handler = do_nothing };
	struct kvm_vcpu *vcpus[SEV_MAX_VCPUS], *last;
	pthread_t thread;
	uint32_t i;

	setup_started();
	vm_create_irqchip(sev->vm);
	for (i = 0; i < nr_vcpus; i++)
		vcpus[i] = __vm_vcpu_add(sev->vm, i + 1);
	last = vcpus[nr_vcpus - 1];
	vcpu_mp_state_set(last, &stopped);
	sigaction(SIGUSR1, &action, NULL);
	ASSERT_EQ(pthread_create(&thread, NULL, run_in_thread, last), 0);
	/* Time enough to get there */
	usleep(500000);
	for (i = 0; i < 3; i++)
		assert_err(finish(), EBUSY);

	/* The others can be used, and have still the state that they had. */
	for (i = 0; i < nr_vcpus - 1; i++) {
		struct kvm_regs regs;

		vcpu_regs_get(vcpus[i], &regs);
		vcpu_regs_set(vcpus[i], &regs);
	}

	last->run->immediate_exit = 1;
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

SUBTEST(finish_busy)
{
	finish_while_last_runs(1);
}

SUBTEST(finish_busy_three_vcpus)
{
	finish_while_last_runs(3);
}

/* Nobody can debug what is encrypted. */
SUBTEST(finish_while_debugged)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE };
	struct kvm_guest_debug none = {};
	struct kvm_debugregs regs;
	struct kvm_vcpu *vcpu;

	setup_started();
	__vm_vcpu_add(sev->vm, 0);
	vcpu = __vm_vcpu_add(sev->vm, 1);
	vcpu_guest_debug_set(vcpu, &debug);
	assert_err(finish(), EINVAL);
	debug.control |= KVM_GUESTDBG_SINGLESTEP;
	vcpu_guest_debug_set(vcpu, &debug);
	assert_err(finish(), EINVAL);
	vcpu_guest_debug_set(vcpu, &none);

	vcpu_debugregs_get(vcpu, &regs);
	regs.dr7 = 0x401;
	vcpu_debugregs_set(vcpu, &regs);
	assert_err(finish(), EINVAL);
	regs.dr7 = 0x400;
	vcpu_debugregs_set(vcpu, &regs);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

SUBTEST(finish_arguments)
{
	struct kvm_sev_snp_launch_finish args;
	int i;

	id_launch(SNP_POLICY, 0x1d);
	for (i = 0; i < 16; i++) {
		args = (struct kvm_sev_snp_launch_finish) { .flags = 1u << i };
		assert_err(__snp_launch_finish(sev, &args), EINVAL);
	}
	assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_FINISH, NULL), EFAULT);

	args = (struct kvm_sev_snp_launch_finish) {
		.id_block_en = 1,
		.id_auth_uaddr = (uintptr_t)&id_auth,
	};
	assert_err(__snp_launch_finish(sev, &args), EINVAL);
	args.id_block_uaddr = -8192ull;
	assert_err(__snp_launch_finish(sev, &args), EFAULT);
	args.id_block_uaddr = (uintptr_t)&id_block;
	args.id_auth_uaddr = 0;
	assert_err(__snp_launch_finish(sev, &args), EINVAL);
	args.id_auth_uaddr = -8192ull;
	assert_err(__snp_launch_finish(sev, &args), EFAULT);
	assert_err(id_finish(0), 0);
	sev_vm_free(sev);
}

/* --- guests that tell what was measured --------------------------------------- */

static uint8_t digest[SHA384_SIZE];
static struct sev_agent *agent;

static void measure_normal(uint64_t gpa, void *page)
{
	snp_digest_page(digest, NORMAL, page, gpa);
}

#define XSAVE_HEADER	512		/* XSTATE_BV, first */
#define XSAVE_YMM	576

static bool have_avx(void)
{
	return kvm_get_supported_cpuid_entry(1)->ecx & BIT(28);
}

/*
 * Give a vCPU registers of x87, SSE and AVX, each byte another one than its
 * neighbours', on a stack that does not begin with the first.  Returns XCR0.
 */
static uint64_t set_fpu(struct kvm_vcpu *vcpu, struct kvm_xsave *xsave)
{
	/* Pi, as ST0 */
	static const uint8_t pi[10] = {
		0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40,
	};
	struct kvm_xcrs xcrs = { .nr_xcrs = 1 };
	uint8_t *area = (void *)xsave->region;
	int i;

	xcrs.xcrs[0].value = have_avx() ? 7 : 3;
	vcpu_xcrs_set(vcpu, &xcrs);

	memset(xsave, 0, sizeof(*xsave));
	*(uint16_t *)(area + 0) = 0x27f;		/* FCW: 53 bits */
	*(uint16_t *)(area + 2) = 0x2900;		/* FSW: TOP is 5, C0 */
	area[4] = 0xff;
	*(uint32_t *)(area + 24) = 0x1fa0;
	for (i = 0; i < 8 * 16; i++)
		area[32 + i] = i % 16 < 10 ? i + 1 : 0;
	memcpy(area + 32, pi, sizeof(pi));
	for (i = 0; i < 16 * 16; i++)
		area[160 + i] = 3 * i + 1;
	for (i = 0; have_avx() && i < 16 * 16; i++)
		area[XSAVE_YMM + i] = 5 * i + 2;
	*(uint64_t *)(area + XSAVE_HEADER) = xcrs.xcrs[0].value;
	vcpu_ioctl(vcpu, KVM_SET_XSAVE, xsave);
	return xcrs.xcrs[0].value;
}

/*
 * Give a vCPU a state of which all is known, and write the VMSA that the firmware
 * has to measure.
 */
static void make_vmsa(struct kvm_vcpu *vcpu, struct snp_vmsa *vmsa)
{
	struct kvm_xsave xsave;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	uint64_t xcr0;

	vcpu_sregs_get(vcpu, &sregs);
	/* The host's machine check exceptions are on, whatever the guest wants. */
	sregs.cr4 |= X86_CR4_MCE | X86_CR4_OSXSAVE;
	sregs.fs = sregs.ds;
	sregs.fs.base = 0x1234567000;
	sregs.gs = sregs.fs;
	sregs.gs.base = 0x7654321000;
	sregs.ss = sregs.ds;
	sregs.idt.base = 0xabc000;
	sregs.idt.limit = 0xff;
	sregs.tr.type = 0xb;
	vcpu_sregs_set(vcpu, &sregs);

	vcpu_regs_get(vcpu, &regs);
	regs.rax = 0x1111;
	regs.rbx = 0x2222;
	regs.rcx = 0x3333;
	regs.rdx = 0x4444;
	regs.rbp = 0x5555;
	regs.rsi = 0x6666;
	regs.r8 = 0x8888;
	regs.r9 = 0x9999;
	regs.r10 = 0xaaaa;
	regs.r11 = 0xbbbb;
	regs.r12 = 0xcccc;
	regs.r13 = 0xdddd;
	regs.r14 = 0xeeee;
	regs.r15 = 0xffff;
	vcpu_regs_set(vcpu, &regs);

	xcr0 = set_fpu(vcpu, &xsave);
	snp_vmsa_init(vmsa, &sregs, &regs, (uint8_t *)xsave.region);
	memcpy(vmsa->bytes + SNP_VMSA_XCR0, &xcr0, sizeof(xcr0));
}

static void get_report(uint64_t secrets_gva, uint64_t msg_gpa, const uint8_t data[64],
		       uint8_t *report)
{
	snp_get_report(agent, secrets_gva, msg_gpa, 1, data, report);

	/* A number is good for one message. */
	sev_agent_vmgexit(agent);
	ASSERT_EQ(ghcb_info1(agent), 0ul);
	TEST_ASSERT(ghcb_info2(agent) & 0xffffffff, "The same message twice");
}

static void measure(uint32_t nr_vcpus)
{
	struct kvm_sev_snp_launch_finish finish_args = {};
	uint64_t secrets_gpa, msg_gpa, page_gpa, gva;
	uint8_t report[SNP_REPORT_SIZE], data[64];
	struct snp_vmsa *vmsas = calloc(nr_vcpus, sizeof(*vmsas));
	vm_vaddr_t secrets;
	uint32_t i;

	sev = sev_vm_create_agents(KVM_X86_SNP_VM, nr_vcpus);
	agent = &sev->agents[0];
	for (i = 0; i < nr_vcpus; i++)
		make_vmsa(sev->agents[i].vcpu, &vmsas[i]);

	/* One page of each type, which are not of slot 0's */
	sev_vm_alloc_shared(sev, 2 * PAGE_SIZE, &msg_gpa);
	vm_mem_region_add_private(sev->vm, GPA, SLOT, HUGE_SIZE / PAGE_SIZE, -1, 0);
	vm_mem_set_private(sev->vm, GPA, HUGE_SIZE);
	sev_vm_map(sev, GPA, HUGE_SIZE);
	secrets_gpa = GPA;
	secrets = secrets_gpa;
	page_gpa = GPA + PAGE_SIZE;
	gva = page_gpa;

	memset(digest, 0, sizeof(digest));
	sev_vm_seal(sev);
	snp_launch_start(sev);
	snp_launch_update_slot0(sev, measure_normal);
	src = addr_gpa2hva(sev->vm, GPA);
	snp_launch_update(sev, secrets_gpa, src, PAGE_SIZE, SECRETS);
	snp_digest_page(digest, SECRETS, NULL, secrets_gpa);
	vm_mem_fill(sev->vm, page_gpa, PAGE_SIZE, 0x77);
	snp_launch_update(sev, page_gpa, src + PAGE_SIZE, PAGE_SIZE, UNMEASURED);
	snp_digest_page(digest, UNMEASURED, NULL, page_gpa);
	snp_launch_update(sev, page_gpa + PAGE_SIZE, NULL, PAGE_SIZE, ZERO);
	snp_digest_page(digest, ZERO, NULL, page_gpa + PAGE_SIZE);
	memset(src, 0, PAGE_SIZE);
	snp_launch_update(sev, page_gpa + 2 * PAGE_SIZE, src, PAGE_SIZE, CPUID);
	snp_digest_page(digest, CPUID, NULL, page_gpa + 2 * PAGE_SIZE);
	for (i = 0; i < nr_vcpus; i++)
		snp_digest_page(digest, SNP_PAGE_VMSA, &vmsas[i], 0xfffffffff000);

	for (i = 0; i < sizeof(finish_args.host_data); i++)
		finish_args.host_data[i] = 0xc0 + i;
	assert_err(__snp_launch_finish(sev, &finish_args), 0);
	for (i = 0; i < nr_vcpus; i++)
		sev_agent_boot(&sev->agents[i]);

	/* The pages are as they were given. */
	sev_agent_check(agent, gva, PAGE_SIZE, 0x77);
	sev_agent_check_const(agent, gva + PAGE_SIZE, PAGE_SIZE, 0);

	for (i = 0; i < sizeof(data); i++)
		data[i] = i ^ 0xa5;
	get_report(secrets, msg_gpa, data, report);
	TEST_ASSERT(!memcmp(report + SNP_REPORT_DATA, data, sizeof(data)),
		    "The report has other data than were asked for");
	ASSERT_EQ(*(uint64_t *)(report + SNP_REPORT_POLICY), (uint64_t)SNP_POLICY);
	TEST_ASSERT(!memcmp(report + SNP_REPORT_HOST_DATA, finish_args.host_data, 32),
		    "The report has other host data than were given");
	TEST_ASSERT(!memcmp(report + SNP_REPORT_MEASUREMENT, digest, sizeof(digest)),
		    "The report has another measurement");
	free(vmsas);
	sev_vm_free(sev);
}

SUBTEST(measurement)
{
	measure(1);
}

SUBTEST(measurement_two_vcpus)
{
	measure(2);
}

/* A guest that may not use the chip's key gets no report by it. */
SUBTEST(vcek_disabled)
{
	static const uint8_t values[] = { 0, 1, 2, 0xff };
	uint8_t report[SNP_REPORT_SIZE], data[64] = {};
	struct kvm_sev_snp_launch_finish finish_args = {};
	uint64_t msg_gpa;
	uint32_t status;
	int i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		sev = sev_vm_create_agents(KVM_X86_SNP_VM, 1);
		agent = &sev->agents[0];
		sev_vm_alloc_shared(sev, 2 * PAGE_SIZE, &msg_gpa);
		vm_mem_region_add_private(sev->vm, GPA, SLOT, HUGE_SIZE / PAGE_SIZE, -1, 0);
		vm_mem_set_private(sev->vm, GPA, HUGE_SIZE);
		sev_vm_map(sev, GPA, HUGE_SIZE);
		sev_vm_seal(sev);
		snp_launch_start(sev);
		snp_launch_update_slot0(sev, NULL);
		snp_launch_update(sev, GPA, addr_gpa2hva(sev->vm, GPA), PAGE_SIZE, SECRETS);
		finish_args.vcek_disabled = values[i];
		assert_err(__snp_launch_finish(sev, &finish_args), 0);
		sev_agent_boot(agent);

		status = __snp_get_report(agent, GPA, msg_gpa, 1, data, report);
		ASSERT_EQ(status, values[i] ? (uint32_t)SNP_REPORT_INVALID_KEY : 0);
		if (!status)
			ASSERT_EQ(*(uint32_t *)(report + SNP_REPORT_KEY_INFO) & 1, 0u);
		sev_vm_free(sev);
	}
}

/* --- registers of the FPU ------------------------------------------------------ */

/* RDI is where XSAVE writes to, RSI the agent's; nothing comes before it. */
void xsave_first(void);
asm(".pushsection .text\n"
	".globl xsave_first\n"
	"xsave_first:\n\t"
	"mov $7, %eax\n\t"
	"xor %edx, %edx\n\t"
	"xsave64 (%rdi)\n\t"
	"mov %rsi, %rdi\n\t"
	"jmp sev_agent_main\n"
	".popsection");

static void assert_same(const char *what, const uint8_t *found, const uint8_t *set,
			size_t size)
{
	size_t i;

	for (i = 0; i < size; i++)
		TEST_ASSERT(found[i] == set[i], "%s, byte %zu: the guest has 0x%x, not 0x%x",
			    what, i, found[i], set[i]);
}

/* What userspace gives a vCPU before the launch is what the guest begins with. */
static void check_first_fpu(unsigned long type)
{
	struct kvm_xsave xsave;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	vm_vaddr_t area_gva;
	uint64_t area_gpa, xcr0;
	uint8_t *set, *found;
	char name[8];
	int i;

	if (!sev_type_supported(type))
		subtest_skip("no VMs of that type");

	sev = sev_vm_create_agents(type, 1);
	agent = &sev->agents[0];
	area_gva = sev_vm_alloc_shared(sev, PAGE_SIZE, &area_gpa);
	found = addr_gpa2hva(sev->vm, area_gpa);
	memset(found, 0, PAGE_SIZE);

	vcpu_sregs_get(agent->vcpu, &sregs);
	sregs.cr4 |= X86_CR4_OSXSAVE;
	vcpu_sregs_set(agent->vcpu, &sregs);
	vcpu_regs_get(agent->vcpu, &regs);
	regs.rip = (uintptr_t)xsave_first;
	regs.rdi = area_gva;
	regs.rsi = agent->cmd_gva;
	vcpu_regs_set(agent->vcpu, &regs);
	xcr0 = set_fpu(agent->vcpu, &xsave);
	set = (uint8_t *)xsave.region;
	sev_vm_launch(sev);

	ASSERT_EQ(*(uint64_t *)(found + XSAVE_HEADER), xcr0);
	/* FCW, FSW, FTW; MXCSR */
	assert_same("x87 control", found, set, 5);
	assert_same("MXCSR", found + 24, set + 24, 4);
	for (i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "ST%d", i);
		assert_same(name, found + 32 + i * 16, set + 32 + i * 16, 10);
	}
	assert_same("XMM", found + 160, set + 160, 256);
	if (have_avx())
		assert_same("YMM", found + XSAVE_YMM, set + XSAVE_YMM, 256);
	sev_vm_free(sev);
}

SUBTEST(fpu_of_snp_guest)
{
	check_first_fpu(KVM_X86_SNP_VM);
}

SUBTEST(fpu_of_sev_es_guest)
{
	check_first_fpu(KVM_X86_SEV_ES_VM);
}

/* --- what waits for the end of the launch ------------------------------------- */

static int pre_fault(uint64_t gpa, uint64_t size)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = size };
	int err;

	do {
		err = __vcpu_ioctl(agent->vcpu, KVM_PRE_FAULT_MEMORY, &range) ? errno : 0;
	} while (!err && range.size);
	return err;
}

SUBTEST(pre_fault_memory)
{
	sev = sev_vm_create_agents(KVM_X86_SNP_VM, 1);
	agent = &sev->agents[0];
	fd = vm_create_guest_memfd(sev->vm, HUGE_SIZE);
	vm_mem_region_add_private(sev->vm, GPA, SLOT, HUGE_SIZE / PAGE_SIZE, fd, 0);
	vm_mem_set_private(sev->vm, GPA, HUGE_SIZE);
	sev_vm_map(sev, GPA, HUGE_SIZE);
	sev_vm_seal(sev);

	assert_err(pre_fault(GPA, PAGE_SIZE), EOPNOTSUPP);
	snp_launch_start(sev);
	assert_err(pre_fault(GPA, PAGE_SIZE), EOPNOTSUPP);
	snp_launch_update_slot0(sev, NULL);
	assert_err(pre_fault(GPA, PAGE_SIZE), EOPNOTSUPP);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	assert_err(finish(), 0);

	assert_err(pre_fault(GPA, HUGE_SIZE), 0);
	ASSERT_EQ(guest_memfd_nr_pages(fd), HUGE_SIZE / PAGE_SIZE);
	sev_agent_boot(agent);
	sev_validate(agent, GPA, 4 * PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, 4 * PAGE_SIZE, 9);
	sev_agent_check(agent, GPA, 4 * PAGE_SIZE, 9);
	sev_vm_free(sev);
}

/* A guest that has not been launched does not run; nothing else happens. */
SUBTEST(run_too_early)
{
	int rc;

	sev = sev_vm_create_agents(KVM_X86_SNP_VM, 1);
	agent = &sev->agents[0];
	sev_vm_seal(sev);
	rc = sev_agent_resume(agent);
	TEST_ASSERT(rc, "The guest runs before its launch");
	snp_launch_start(sev);
	snp_launch_update_slot0(sev, NULL);
	rc = sev_agent_resume(agent);
	TEST_ASSERT(rc, "The guest runs before the end of its launch");
	sev_vm_free(sev);
}

int main(int argc, char *argv[])
{
	require_sev_type(KVM_X86_SNP_VM);
	subtest_main(argc, argv);
}
