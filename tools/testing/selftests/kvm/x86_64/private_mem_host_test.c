// SPDX-License-Identifier: GPL-2.0-only
/*
 * Private memory and the rest of the host: nobody reads it, nobody moves it,
 * somebody pays for it, a broken page of it is reported to the right one, and
 * KVM stays loaded as long as there is any.
 */
#define _GNU_SOURCE
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "memory_failure.h"
#include "private_mem.h"
#include "processor.h"
#include "subtest.h"

#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define NR_PAGES	2048ULL
#define SIZE		(NR_PAGES * PAGE_SIZE)
#define MB		BIT_ULL(20)

static struct agent agent;
static struct kvm_vm *vm;
static int fd;

static void setup_pages(uint64_t nr_pages)
{
	vm = vm_create_agents(1, nr_pages, &agent);
	virt_map(vm, GPA, GPA, nr_pages);
	fd = vm_create_guest_memfd(vm, nr_pages * PAGE_SIZE);
	vm_mem_region_add_private(vm, GPA, SLOT, nr_pages, fd, 0);
	vm_mem_set_private(vm, GPA, nr_pages * PAGE_SIZE);
}

static void setup(void)
{
	setup_pages(NR_PAGES);
}

static int64_t read_number(const char *path)
{
	FILE *file = fopen(path, "r");
	int64_t number = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%ld", &number) != 1)
		number = -1;
	fclose(file);
	return number;
}

/*
 * Nobody reads it
 */
#define SEED	0x5ec12e7

SUBTEST(process_vm_readv_sees_the_shared_page)
{
	uint64_t buf[512];
	struct iovec local = { buf, sizeof(buf) }, remote;
	int i;

	setup();
	vm_mem_fill(vm, GPA, PAGE_SIZE, 1);
	agent_fill(&agent, GPA, PAGE_SIZE, SEED);

	remote.iov_base = addr_gpa2hva(vm, GPA);
	remote.iov_len = sizeof(buf);
	ASSERT_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), (ssize_t)PAGE_SIZE);
	for (i = 0; i < PAGE_SIZE; i += MEM_PATTERN_STEP)
		ASSERT_EQ(buf[i / 8], mem_pattern(1, GPA + i));

	/* Nor does writing get there. */
	memset(buf, 0, sizeof(buf));
	ASSERT_EQ(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), (ssize_t)PAGE_SIZE);
	agent_check(&agent, GPA, PAGE_SIZE, SEED);
}

SUBTEST(proc_mem_sees_the_shared_page)
{
	uint64_t buf[512];
	int i, mem;

	setup();
	vm_mem_fill(vm, GPA, PAGE_SIZE, 1);
	agent_fill(&agent, GPA, PAGE_SIZE, SEED);

	mem = open("/proc/self/mem", O_RDWR);
	if (mem < 0)
		subtest_skip("no /proc/self/mem");
	ASSERT_EQ(pread(mem, buf, sizeof(buf), (off_t)addr_gpa2hva(vm, GPA)), (ssize_t)PAGE_SIZE);
	for (i = 0; i < PAGE_SIZE; i += MEM_PATTERN_STEP)
		ASSERT_EQ(buf[i / 8], mem_pattern(1, GPA + i));

	memset(buf, 0, sizeof(buf));
	ASSERT_EQ(pwrite(mem, buf, sizeof(buf), (off_t)addr_gpa2hva(vm, GPA)), (ssize_t)PAGE_SIZE);
	agent_check(&agent, GPA, PAGE_SIZE, SEED);
}

/* Does what the guest wrote occur anywhere in this process's memory? */
static uint64_t find_secret(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	int mem = open("/proc/self/mem", O_RDONLY);
	static uint64_t buf[512];
	uint64_t nr_found = 0;
	char line[512];

	TEST_ASSERT(maps && mem >= 0, "/proc/self");
	while (fgets(line, sizeof(line), maps)) {
		uint64_t start, end, addr, i;

		if (sscanf(line, "%lx-%lx r", &start, &end) != 2)
			continue;
		for (addr = start; addr < end; addr += PAGE_SIZE) {
			if (pread(mem, buf, PAGE_SIZE, addr) != PAGE_SIZE)
				continue;
			/* Not even the first words of one page. */
			for (i = 0; i < 8; i++)
				if (buf[i * MEM_PATTERN_STEP / 8] !=
				    mem_pattern(SEED, GPA + i * MEM_PATTERN_STEP))
					break;
			nr_found += i == 8;
		}
	}
	fclose(maps);
	close(mem);
	return nr_found;
}

SUBTEST(secret_is_nowhere_in_the_process)
{
	setup();
	agent_fill(&agent, GPA, PAGE_SIZE, SEED);
	ASSERT_EQ(find_secret(), 0ul);

	/* That the search finds what is there: */
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	agent_fill(&agent, GPA, PAGE_SIZE, SEED);
	TEST_ASSERT(find_secret() >= 1, "The search finds nothing at all");
}

/*
 * Nobody moves it
 */
static void fill_with_holes(void)
{
	uint64_t i;

	/* Every other page stays: something for compaction to do. */
	agent_fill(&agent, GPA, SIZE, SEED);
	for (i = 0; i < NR_PAGES; i += 2)
		TEST_ASSERT(!guest_memfd_punch(fd, i * PAGE_SIZE, PAGE_SIZE), "fallocate()");
}

static void check_with_holes(void)
{
	uint64_t i;

	ASSERT_EQ(guest_memfd_nr_pages(fd), NR_PAGES / 2);
	for (i = 1; i < NR_PAGES; i += 2)
		agent_check(&agent, GPA + i * PAGE_SIZE, PAGE_SIZE, SEED);
	ASSERT_EQ(guest_memfd_nr_pages(fd), NR_PAGES / 2);
}

SUBTEST(compaction)
{
	int i;

	setup();
	fill_with_holes();
	for (i = 0; i < 3; i++) {
		if (!write_file("/proc/sys/vm/compact_memory", "1"))
			subtest_skip("no /proc/sys/vm/compact_memory");
	}
	check_with_holes();
}

SUBTEST(dropping_caches)
{
	setup();
	fill_with_holes();
	if (!write_file("/proc/sys/vm/drop_caches", "3"))
		subtest_skip("no /proc/sys/vm/drop_caches");
	check_with_holes();
}

SUBTEST(sync_has_nothing_to_do)
{
	setup();
	fill_with_holes();
	sync();
	TEST_ASSERT(!fsync(fd) || errno == EINVAL, "fsync(): errno %d", errno);
	check_with_holes();
}

/*
 * Somebody pays for it
 */
#define CGROUP	"/sys/fs/cgroup"

static char cgroup[128];

static void cgroup_leave(void)
{
	write_file(CGROUP "/cgroup.procs", "0");
	rmdir(cgroup);
}

static char *cgroup_path(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", cgroup, name);
	return path;
}

/* This process into a cgroup of its own, and out again when it ends. */
static void cgroup_enter(void)
{
	if (access(CGROUP "/cgroup.controllers", R_OK))
		subtest_skip("no version 2 cgroups at " CGROUP);
	if (!write_file(CGROUP "/cgroup.subtree_control", "+memory"))
		subtest_skip("no memory cgroups");

	snprintf(cgroup, sizeof(cgroup), CGROUP "/private_mem_test.%d", getpid());
	TEST_ASSERT(!mkdir(cgroup, 0755), "mkdir(%s) failed, errno: %d", cgroup, errno);
	atexit(cgroup_leave);
	TEST_ASSERT(write_file(cgroup_path("cgroup.procs"), "0"),
		    "Entering %s failed, errno: %d", cgroup, errno);
}

static int64_t cgroup_charge(void)
{
	int64_t charge = read_number(cgroup_path("memory.current"));

	TEST_ASSERT(charge >= 0, "No memory.current");
	return charge;
}

/* Charges are batched, and the process itself needs some. */
static void assert_charge(const char *what, int64_t charge, int64_t want)
{
	int64_t slack = want / 8 + MB;

	TEST_ASSERT(charge > want - slack && charge < want + slack,
		    "%s: charged %ld KiB, not %ld", what, charge / 1024, want / 1024);
}

SUBTEST(memcg_pays_for_allocation)
{
	int64_t before;

	cgroup_enter();
	setup_pages(32 * MB / PAGE_SIZE);
	before = cgroup_charge();
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, 32 * MB), "fallocate()");
	assert_charge("32 MiB", cgroup_charge() - before, 32 * MB);
	TEST_ASSERT(!guest_memfd_punch(fd, 0, 24 * MB), "fallocate()");
	assert_charge("8 MiB", cgroup_charge() - before, 8 * MB);
	TEST_ASSERT(!guest_memfd_punch(fd, 0, 32 * MB), "fallocate()");
	assert_charge("nothing", cgroup_charge() - before, 0);
}

SUBTEST(memcg_pays_for_guest_faults)
{
	int64_t before;

	cgroup_enter();
	setup_pages(16 * MB / PAGE_SIZE);
	before = cgroup_charge();
	agent_fill(&agent, GPA, 16 * MB, SEED);
	assert_charge("16 MiB", cgroup_charge() - before, 16 * MB);
	vm_mem_punch(vm, GPA, 16 * MB);
	assert_charge("nothing", cgroup_charge() - before, 0);
}

SUBTEST(memcg_pays_for_attributes)
{
	int64_t before, charge;
	uint64_t i;

	cgroup_enter();
	vm = vm_create_private_barebones();
	before = cgroup_charge();
	for (i = 0; i < 16384; i++)
		vm_mem_set_private(vm, GPA + i * 2 * MB, PAGE_SIZE);
	charge = cgroup_charge() - before;
	TEST_ASSERT(charge >= (int64_t)(MB / 2), "32768 boundaries are charged %ld bytes",
		    charge);
}

/*
 * A cgroup that cannot pay for a huge folio pays for small ones: the guest does
 * not notice.
 */
SUBTEST(memcg_has_no_room_for_huge)
{
	char limit[32];

	cgroup_enter();
	setup_pages(2 * MB / PAGE_SIZE);
	snprintf(limit, sizeof(limit), "%ld", cgroup_charge() + (int64_t)(3 * MB / 2));
	TEST_ASSERT(write_file(cgroup_path("memory.max"), limit), "memory.max");
	agent_fill(&agent, GPA, MB / 2, SEED);
	ASSERT_EQ(guest_memfd_nr_pages(fd), MB / 2 / PAGE_SIZE);
	agent_check(&agent, GPA, MB / 2, SEED);
	TEST_ASSERT(write_file(cgroup_path("memory.max"), "max"), "memory.max");
}

/* What a child does under a limit of 16 MiB over what it has already. */
static void run_limited(void (*fn)(void))
{
	char limit[32];
	int64_t before;
	int status;
	pid_t pid;

	cgroup_enter();
	setup_pages(64 * MB / PAGE_SIZE);
	before = cgroup_charge();
	snprintf(limit, sizeof(limit), "%ld", before + (int64_t)(16 * MB));
	TEST_ASSERT(write_file(cgroup_path("memory.max"), limit), "memory.max");
	write_file(cgroup_path("memory.swap.max"), "0");

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		write_file("/proc/self/oom_score_adj", "1000");
		fn();
		_exit(0);
	}

	/* The parent does not want to be the one that is killed. */
	TEST_ASSERT(write_file(CGROUP "/cgroup.procs", "0"), "Leaving the cgroup");
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid()");
	TEST_ASSERT((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
		    (WIFEXITED(status) && !WEXITSTATUS(status)),
		    "The child's status is 0x%x", status);
	TEST_ASSERT(guest_memfd_nr_pages(fd) <= 17 * MB / PAGE_SIZE,
		    "%lu pages are above the limit", guest_memfd_nr_pages(fd));
	ksft_print_msg("%s, %lu pages\n", WIFSIGNALED(status) ? "killed" : "refused",
		       guest_memfd_nr_pages(fd));

	/* What remains is given back. */
	TEST_ASSERT(!guest_memfd_punch(fd, 0, 64 * MB), "fallocate()");
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	assert_charge("nothing", cgroup_charge() - before, 0);
}

static void allocate_too_much(void)
{
	int ret;

	/* The parent has time to leave. */
	usleep(100000);
	ret = guest_memfd_alloc(fd, 0, 64 * MB);
	TEST_ASSERT(ret == -1 && (errno == ENOMEM || errno == EINTR),
		    "fallocate() returned %d, errno %d", ret, errno);
}

SUBTEST(memcg_limits_allocation)
{
	run_limited(allocate_too_much);
}

/*
 * A broken page
 */
static void assert_poisoned(int rc, uint64_t gpa)
{
	struct kvm_run *run = agent.vcpu->run;

	TEST_ASSERT(rc == -EHWPOISON && run->exit_reason == KVM_EXIT_MEMORY_FAULT,
		    "KVM_RUN: rc %d (%s), exit reason %s", rc,
		    rc < 0 ? strerror(-rc) : "exit", exit_reason_str(run->exit_reason));
	TEST_ASSERT(run->memory_fault.gpa == gpa && run->memory_fault.size == PAGE_SIZE &&
		    run->memory_fault.flags == KVM_MEMORY_EXIT_FLAG_PRIVATE,
		    "Memory fault at 0x%llx size 0x%llx flags 0x%llx",
		    run->memory_fault.gpa, run->memory_fault.size,
		    run->memory_fault.flags);
}

static void break_one_of(uint64_t nr_pages, int flag)
{
	uint64_t pfn, i, bad = nr_pages;
	int rc;

	setup_pages(nr_pages);
	agent_fill(&agent, GPA, nr_pages * PAGE_SIZE, SEED);
	pfn = guest_memfd_break_page(fd, flag, NULL);
	if (!pfn)
		subtest_skip("found no page of the file to break");
	ASSERT_EQ(guest_memfd_nr_pages(fd), nr_pages);

	/* Exactly one page is gone, and its guest is told so. */
	for (i = 0; i < nr_pages; i++) {
		uint64_t gpa = GPA + i * PAGE_SIZE;

		rc = agent_start(&agent, AGENT_CHECK, gpa, PAGE_SIZE, SEED);
		if (!rc) {
			TEST_ASSERT(!agent.cmd->result, "Page %lu has changed", i);
			continue;
		}
		assert_poisoned(rc, gpa);
		TEST_ASSERT(bad == nr_pages, "Pages %lu and %lu are broken", bad, i);
		bad = i;

		/* As often as it tries; until it gets another page. */
		assert_poisoned(agent_resume(&agent), gpa);
		TEST_ASSERT(!guest_memfd_punch(fd, i * PAGE_SIZE, PAGE_SIZE), "fallocate()");
		ASSERT_EQ(agent_resume(&agent), 0);
		agent_check_const(&agent, gpa, PAGE_SIZE, 0);
	}
	TEST_ASSERT(bad < nr_pages, "The guest has not noticed");
	ASSERT_EQ(guest_memfd_nr_pages(fd), nr_pages);
	unpoison_page(pfn);
}

SUBTEST(memory_failure)
{
	break_one_of(NR_PAGES, KPF_LRU);
}

/* Of a huge folio, too, one page alone is lost. */
SUBTEST(memory_failure_in_huge_folio)
{
	break_one_of(2 * MB / PAGE_SIZE, KPF_COMPOUND_TAIL);
}

SUBTEST(memory_failure_then_close)
{
	uint64_t pfn;

	setup();
	agent_fill(&agent, GPA, SIZE, SEED);
	pfn = guest_memfd_break_page(fd, KPF_LRU, NULL);
	if (!pfn)
		subtest_skip("found no page of the file to break");
	close(fd);
	kvm_vm_free(vm);
	unpoison_page(pfn);
}

SUBTEST(memory_failure_of_unused_file)
{
	uint64_t pfn;

	setup();
	TEST_ASSERT(!guest_memfd_alloc(fd, 0, SIZE), "fallocate()");
	kvm_vm_free(vm);
	pfn = guest_memfd_break_page(fd, KPF_LRU, NULL);
	if (!pfn)
		subtest_skip("found no page of the file to break");
	TEST_ASSERT(!guest_memfd_punch(fd, 0, SIZE), "fallocate()");
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	unpoison_page(pfn);
}

/*
 * KVM stays
 */
SUBTEST(file_keeps_kvm_loaded)
{
	const char *vendor = is_amd_cpu() ? "/sys/module/kvm_amd/refcnt" :
					    "/sys/module/kvm_intel/refcnt";
	int64_t idle, now;
	int i;

	idle = read_number(vendor);
	if (idle < 0)
		subtest_skip("KVM is built in");

	vm = vm_create_private_barebones();
	fd = vm_create_guest_memfd(vm, SIZE);
	kvm_vm_free(vm);
	now = read_number(vendor);
	TEST_ASSERT(now > idle, "%ld users of the module, as before", now);

	/* The last reference may be dropped a little later. */
	close(fd);
	for (i = 0; i < 100 && read_number(vendor) != idle; i++)
		usleep(20000);
	ASSERT_EQ(read_number(vendor), idle);
}

int main(int argc, char *argv[])
{
	require_private_mem();

	subtest_main(argc, argv);
}
