// SPDX-License-Identifier: GPL-2.0-only
/*
 * SEV-SNP guests and what can go wrong around them: a VMM that is killed at any time,
 * a host that runs out of memory, processors that go away, a firmware that refuses.
 * Whatever happens, no page may be left behind that is not the host's, but for
 * those that the kernel says are lost.
 */
#define _GNU_SOURCE
#include <linux/kvm_para.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "test_util.h"
#include "fail_nth.h"
#include "kvm_util.h"
#include "processor.h"
#include "private_mem.h"
#include "sev_vm.h"
#include "subtest.h"

#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define HUGE_SIZE	(2ULL << 20)
#define SIZE		(4 * HUGE_SIZE)

static struct sev_vm *sev;
static struct sev_agent *agent;
static int fd;

/* --- what the kernel says of the RMP ------------------------------------------- */

#define RMP_DIR		"/sys/kernel/debug/x86/rmp/"

struct rmp_count {
	bool known;
	long assigned;
	long leaked;
};

static bool read_count(const char *path, long *count)
{
	FILE *file = fopen(path, "r");
	bool ok;

	if (!file)
		return false;
	ok = fscanf(file, "%ld", count) == 1;
	fclose(file);
	return ok;
}

/* Other kernels do not tell. */
static struct rmp_count rmp_count(void)
{
	struct rmp_count count = {};

	if (access("/sys/kernel/debug/x86", F_OK))
		mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	count.known = read_count(RMP_DIR "assigned_pages", &count.assigned) &&
		      read_count(RMP_DIR "leaked_pages", &count.leaked);
	return count;
}

/*
 * All of the guests is gone since @before, and as much is lost as is not the
 * host's any more.  A VM can outlive its last descriptor for a moment.
 */
static long assert_nothing_left(struct rmp_count before)
{
	struct rmp_count now = rmp_count();
	int tries;

	if (!before.known)
		return 0;

	for (tries = 0; tries < 50; tries++) {
		if (now.assigned - before.assigned == now.leaked - before.leaked)
			return now.leaked - before.leaked;
		usleep(100000);
		now = rmp_count();
	}
	TEST_FAIL("%ld pages are not the host's, %ld were; %ld are lost, %ld were",
		  now.assigned, before.assigned, now.leaked, before.leaked);
	return 0;
}

static void assert_no_leak(struct rmp_count before)
{
	long lost = assert_nothing_left(before);

	TEST_ASSERT(!lost, "%ld pages are lost", lost);
}

/* --- a life in steps --------------------------------------------------------------- */

enum step {
	CREATE,
	INIT2,
	MEMORY,
	VCPUS,
	START,
	UPDATE,
	FINISH,
	RUN,
	ACCEPT,
	ACCEPT_HUGE,
	SPLIT,
	CONVERT,
	REQUEST,
	NR_STEPS,
};

static const char *const step_names[NR_STEPS] = {
	"KVM_CREATE_VM", "KVM_SEV_INIT2", "memory", "vCPUs", "LAUNCH_START",
	"LAUNCH_UPDATE", "LAUNCH_FINISH", "KVM_RUN", "PVALIDATE of 4K",
	"PVALIDATE of 2M", "PVALIDATE of 4K in 2M", "page state change",
	"guest request",
};

static void send_request(void)
{
	uint64_t gpa = GPA + 3 * HUGE_SIZE;
	struct ghcb_page *ghcb = &agent->cmd->ghcb_in;

	/* No message, which the firmware says; see info2. */
	memset(addr_gpa2hva(sev->vm, gpa), 0xff, 2 * PAGE_SIZE);
	ghcb_init(ghcb, NAE_GUEST_REQUEST, gpa, gpa + PAGE_SIZE);
	sev_agent_vmgexit(agent);
}

/* For steps that succeed, or are the last thing that this process does */
static void do_step(enum step step)
{
	uint64_t result;

	switch (step) {
	case CREATE:
		sev = sev_vm_create_barebones(KVM_X86_SNP_VM);
		/* Its agents need more than an empty VM: see INIT2. */
		sev_vm_free(sev);
		sev = NULL;
		break;
	case INIT2:
		sev = sev_vm_create_agents(KVM_X86_SNP_VM, 1);
		agent = &sev->agents[0];
		break;
	case MEMORY:
		fd = vm_create_guest_memfd(sev->vm, SIZE);
		vm_mem_region_add_private(sev->vm, GPA, SLOT, SIZE / PAGE_SIZE, fd, 0);
		sev_vm_map(sev, GPA, SIZE);
		vm_mem_set_private(sev->vm, GPA, 3 * HUGE_SIZE);
		break;
	case VCPUS:
		sev_vm_seal(sev);
		break;
	case START:
		snp_launch_start(sev);
		break;
	case UPDATE:
		snp_launch_update_slot0(sev, NULL);
		break;
	case FINISH:
		TEST_ASSERT(!__snp_launch_finish(sev, NULL), "LAUNCH_FINISH");
		break;
	case RUN:
		sev_agent_boot(agent);
		break;
	case ACCEPT:
		sev_validate(agent, GPA, 16 * PAGE_SIZE, PAGE_SIZE);
		break;
	case ACCEPT_HUGE:
		result = sev_agent_pvalidate(agent, GPA + HUGE_SIZE, HUGE_SIZE,
					     HUGE_SIZE, true);
		TEST_ASSERT(!result || result == PVALIDATE_FAIL_SIZEMISMATCH,
			    "PVALIDATE of 2M gives 0x%lx", result);
		break;
	case SPLIT:
		sev_agent_pvalidate(agent, GPA + 2 * HUGE_SIZE, 3 * PAGE_SIZE,
				    PAGE_SIZE, true);
		break;
	case CONVERT:
		sev_convert(agent, GPA + HUGE_SIZE + PAGE_SIZE, 3 * PAGE_SIZE, false);
		break;
	case REQUEST:
		send_request();
		break;
	default:
		break;
	}
}

static void die_in_step(enum step last)
{
	enum step step;

	for (step = 0; step <= last; step++)
		do_step(step);
	kill(getpid(), SIGKILL);
}

static void assert_killed(pid_t pid)
{
	int status;

	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		    "The VMM has not been killed, status 0x%x", status);
}

SUBTEST(killed_after_each_step)
{
	struct rmp_count before = rmp_count();
	enum step step;
	pid_t pid;

	for (step = 0; step < NR_STEPS; step++) {
		pid = fork();
		TEST_ASSERT(pid >= 0, "fork() failed, errno: %d", errno);
		if (!pid)
			die_in_step(step);
		assert_killed(pid);
		assert_no_leak(before);
	}
}

/* In the midst of whatever it is doing */
SUBTEST(killed_at_any_time)
{
	struct rmp_count before = rmp_count();
	struct timespec start;
	enum step step;
	int64_t life_us;
	pid_t pid;
	int i;

	clock_gettime(CLOCK_MONOTONIC, &start);
	pid = fork();
	if (!pid)
		die_in_step(NR_STEPS - 1);
	assert_killed(pid);
	life_us = timespec_to_ns(timespec_elapsed(start)) / 1000;

	for (i = 1; i <= 16; i++) {
		pid = fork();
		TEST_ASSERT(pid >= 0, "fork() failed, errno: %d", errno);
		if (!pid) {
			for (step = 0; step < NR_STEPS; step++)
				do_step(step);
			for (;;)
				pause();
		}
		usleep(life_us * i / 16);
		kill(pid, SIGKILL);
		assert_killed(pid);
	}
	assert_no_leak(before);
}

/* --- no memory ----------------------------------------------------------------- */

#define CGROUP	"/sys/fs/cgroup/snp_failure_test"

static bool cgroup_write(const char *path, const char *value)
{
	int file = open(path, O_WRONLY);
	bool ok;

	if (file < 0)
		return false;
	ok = write(file, value, strlen(value)) == (ssize_t)strlen(value);
	close(file);
	return ok;
}

static void cgroup_make(const char *max)
{
	if (access("/sys/fs/cgroup/cgroup.controllers", R_OK))
		mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL);
	if (!cgroup_write("/sys/fs/cgroup/cgroup.subtree_control", "+memory"))
		subtest_skip("no memory cgroups of version 2");
	TEST_ASSERT(!mkdir(CGROUP, 0755) || errno == EEXIST, "mkdir(%s), errno: %d",
		    CGROUP, errno);
	TEST_ASSERT(cgroup_write(CGROUP "/memory.max", max), "memory.max, errno: %d",
		    errno);
}

/* How much it takes until the end; -1: more than there was */
static int life_in_cgroup(const char *max)
{
	struct rmp_count before = rmp_count();
	enum step step;
	int status;
	pid_t pid;

	cgroup_make(max);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed, errno: %d", errno);
	if (!pid) {
		TEST_ASSERT(cgroup_write(CGROUP "/cgroup.procs", "0"),
			    "cgroup.procs, errno: %d", errno);
		for (step = 0; step < NR_STEPS; step++)
			do_step(step);
		exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	assert_no_leak(before);
	rmdir(CGROUP);
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -1;
}

/* The OOM killer, or ENOMEM, at ever other places */
SUBTEST(memory_short)
{
	char max[32];
	int kib, good = 0;

	for (kib = 256; kib <= 32768; kib += kib / 2) {
		snprintf(max, sizeof(max), "%d", kib << 10);
		good = !life_in_cgroup(max);
	}
	TEST_ASSERT(good, "32 MiB are not enough");
}

/* No step allocates that often; it would be endless. */
#define MAX_NTH		2000

/* A VM as small as one can be; its steps fail alone, and can be tried again. */
static int vcpu_fd;

static int small_step(enum step step)
{
	switch (step) {
	case INIT2:
		return __sev_init2(sev, 0, 0, 0);
	case MEMORY:
		fd = vm_create_guest_memfd(sev->vm, HUGE_SIZE);
		vm_mem_region_add_private(sev->vm, GPA, SLOT, HUGE_SIZE / PAGE_SIZE, fd, 0);
		vm_mem_set_private(sev->vm, GPA, HUGE_SIZE);
		return 0;
	case VCPUS:
		vcpu_fd = ioctl(sev->vm->fd, KVM_CREATE_VCPU, 0);
		return vcpu_fd < 0 ? errno : 0;
	case START:
		return __snp_launch_start(sev, SNP_POLICY);
	case UPDATE:
		return __snp_launch_update(sev, GPA, addr_gpa2hva(sev->vm, GPA),
					   3 * PAGE_SIZE, KVM_SEV_SNP_PAGE_TYPE_NORMAL);
	case FINISH:
		return __snp_launch_finish(sev, NULL);
	default:
		return 0;
	}
}

static unsigned int nr_errors;

/* The result of a step during which an allocation was to fail */
static bool check_nth(int fail_fd, enum step step, int err)
{
	bool failed = nth_has_failed(fail_fd);

	if (err) {
		TEST_ASSERT(failed, "%s: errno %d for no reason", step_names[step], err);
		TEST_ASSERT(err == ENOMEM, "%s: errno %d (%s), not ENOMEM",
			    step_names[step], err, strerror(err));
		nr_errors++;
	}
	return failed;
}

static void report_nth(enum step step, unsigned int nr)
{
	ksft_print_msg("%s: %u allocations, %u errors\n", step_names[step], nr,
		       nr_errors);
	nr_errors = 0;
}

/* A whole life with one allocation of that step failing, if there are so many */
static bool small_life(int fail_fd, enum step bad, unsigned int nth)
{
	bool failed = false;
	enum step step;
	int err;

	sev = sev_vm_create_barebones(KVM_X86_SNP_VM);
	for (step = INIT2; step <= FINISH; step++) {
		if (step == bad) {
			set_fail_nth(fail_fd, nth);
			err = small_step(step);
			failed = check_nth(fail_fd, step, err);
			if (!err)
				continue;
		}
		err = small_step(step);
		TEST_ASSERT(!err, "%s: errno %d, firmware error 0x%x, after %s (%u)",
			    step_names[step], err, sev->fw_error, step_names[bad], nth);
	}
	close(vcpu_fd);
	sev_vm_free(sev);
	close(fd);
	return failed;
}

/*
 * Each allocation of each step fails in turn.  That step does not happen, and does
 * when it is tried again; nothing is lost by it.
 */
SUBTEST(allocations_fail)
{
	struct rmp_count before = rmp_count();
	int fail_fd = open_fail_nth(), kvm_fd = open_kvm_dev_path_or_exit();
	unsigned int nth;
	enum step bad;
	bool failed;
	int vm_fd;

	for (nth = 1, failed = true; failed && nth < MAX_NTH; nth++) {
		set_fail_nth(fail_fd, nth);
		vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, KVM_X86_SNP_VM);
		failed = check_nth(fail_fd, CREATE, vm_fd < 0 ? errno : 0);
		if (vm_fd >= 0)
			close(vm_fd);
	}
	TEST_ASSERT(nr_errors && !failed, "%u errors of %u", nr_errors, nth);
	report_nth(CREATE, nth - 2);

	for (bad = INIT2; bad <= FINISH; bad++) {
		if (bad == MEMORY)
			continue;
		for (nth = 1, failed = true; failed && nth < MAX_NTH; nth++) {
			failed = small_life(fail_fd, bad, nth);
			assert_no_leak(before);
		}
		TEST_ASSERT(nr_errors && !failed, "%s: %u errors of %u", step_names[bad],
			    nr_errors, nth);
		report_nth(bad, nth - 2);
	}
}

/*
 * The guest accepts a page: of none that is there, so that a huge one comes, or of
 * a small one that is missing.  Returns how many allocations can fail.
 */
static unsigned int accept_with_failures(int fail_fd, bool small)
{
	uint64_t gpa, offset;
	bool failed = true;
	unsigned int nth;
	int rc;

	for (nth = 1; failed && nth < MAX_NTH; nth++) {
		offset = nth % 256 * PAGE_SIZE;
		gpa = GPA + offset;
		if (small)
			ASSERT_EQ(guest_memfd_punch(fd, offset, PAGE_SIZE), 0);
		else
			ASSERT_EQ(guest_memfd_punch(fd, 0, HUGE_SIZE), 0);
		/* No page tables either */
		vm_mem_region_delete(sev->vm, SLOT);
		vm_mem_region_add_private(sev->vm, GPA, SLOT, SIZE / PAGE_SIZE, fd, 0);

		agent->cmd->page_size = PAGE_SIZE;
		set_fail_nth(fail_fd, nth);
		rc = sev_agent_start(agent, SEV_PVALIDATE, gpa, PAGE_SIZE, true);
		failed = check_nth(fail_fd, ACCEPT, -rc);
		if (rc)
			ASSERT_EQ(sev_agent_resume(agent), 0);
		ASSERT_EQ(agent->cmd->result, (uint64_t)PVALIDATE_OK);
		sev_agent_fill(agent, gpa, PAGE_SIZE, nth);
		sev_agent_check(agent, gpa, PAGE_SIZE, nth);
	}
	TEST_ASSERT(!failed, "There is no end");
	return nth - 2;
}

SUBTEST(allocations_fail_in_guest)
{
	struct rmp_count before = rmp_count();
	int fail_fd = open_fail_nth();
	unsigned int nr;
	enum step step;

	for (step = INIT2; step <= RUN; step++)
		do_step(step);

	/* Instead of a huge one a small one does. */
	nr = accept_with_failures(fail_fd, false);
	TEST_ASSERT(nr, "Nothing has failed");
	report_nth(ACCEPT_HUGE, nr);
	ASSERT_EQ(guest_memfd_alloc(fd, 0, HUGE_SIZE), 0);
	nr = accept_with_failures(fail_fd, true);
	TEST_ASSERT(nr_errors, "Nothing has failed");
	report_nth(ACCEPT, nr);

	sev_vm_free(sev);
	close(fd);
	assert_no_leak(before);
}

/* --- processors that go and come ------------------------------------------------- */

static bool cpu_online(int cpu, bool online)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	return cgroup_write(path, online ? "1" : "0");
}

static void live(void)
{
	enum step step;

	for (step = INIT2; step < NR_STEPS; step++)
		do_step(step);
	sev_vm_free(sev);
	close(fd);
}

SUBTEST(cpu_offline)
{
	struct rmp_count before = rmp_count();
	struct sev_vm *old;
	enum step step;
	int i, old_fd;

	if (!cpu_online(1, false))
		subtest_skip("no second CPU that could go offline");
	TEST_ASSERT(cpu_online(1, true), "CPU 1 does not come back, errno: %d", errno);

	/* While one is launched, and while one runs */
	for (i = 0; i < 2; i++) {
		for (step = INIT2; step < NR_STEPS; step++) {
			do_step(step);
			TEST_ASSERT(cpu_online(1, step & 1), "CPU 1, errno: %d", errno);
		}
		TEST_ASSERT(cpu_online(1, false), "CPU 1, errno: %d", errno);
		old = sev;
		old_fd = fd;
		live();
		sev = old;
		fd = old_fd;
		agent = &sev->agents[0];
		sev_agent_do(agent, SEV_NOP, 0, 0, 0);
		TEST_ASSERT(cpu_online(1, true), "CPU 1, errno: %d", errno);
		sev_agent_do(agent, SEV_NOP, 0, 0, 0);
		sev_vm_free(sev);
		close(fd);
	}
	live();
	assert_no_leak(before);
}

/* --- a firmware that refuses ------------------------------------------------------- */

/*
 * Where commands can be made to fail (the emulated machine), this is what happens
 * then: the step fails with EIO and says why, and the VM can be thrown away.
 * Without, all steps succeed.
 */
static int try_step(enum step step)
{
	int err = 0;

	switch (step) {
	case INIT2:
		sev = sev_vm_create_barebones(KVM_X86_SNP_VM);
		err = __sev_init2(sev, 0, 0, 0);
		sev_vm_free(sev);
		if (!err)
			do_step(INIT2);
		return err;
	case START:
		return __snp_launch_start(sev, SNP_POLICY);
	case UPDATE:
		err = __snp_launch_update(sev, GPA, addr_gpa2hva(sev->vm, GPA),
					  5 * PAGE_SIZE, KVM_SEV_SNP_PAGE_TYPE_NORMAL);
		if (!err)
			do_step(UPDATE);
		return err;
	case FINISH:
		return __snp_launch_finish(sev, NULL);
	case REQUEST:
		send_request();
		ksft_print_msg("guest request: 0x%lx\n", ghcb_info2(agent));
		return 0;
	case ACCEPT:
		/* UPDATE has done some of them. */
		sev_validate(agent, GPA + 16 * PAGE_SIZE, 16 * PAGE_SIZE, PAGE_SIZE);
		return 0;
	default:
		do_step(step);
		return 0;
	}
}

/* In a process of its own: a VMM that is told no gives up. */
static bool try_life(void)
{
	enum step step;
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed, errno: %d", errno);
	if (pid) {
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		TEST_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) < 2,
			    "The VMM ends with status 0x%x", status);
		return !WEXITSTATUS(status);
	}

	for (step = INIT2; step < NR_STEPS; step++) {
		int err = try_step(step), again;

		if (!err)
			continue;

		ksft_print_msg("%s: errno %d (%s), firmware error 0x%x\n",
			       step_names[step], err, strerror(err), sev->fw_error);
		if (step == INIT2)
			exit(1);
		if (err == EIO && !sev->fw_error)
			exit(2);

		/* Whoever does not take no for an answer gets another one. */
		for (again = 0; again < 3; again++) {
			__snp_launch_update(sev, GPA, addr_gpa2hva(sev->vm, GPA),
					    2 * PAGE_SIZE, KVM_SEV_SNP_PAGE_TYPE_ZERO);
			__snp_launch_update(sev, GPA, addr_gpa2hva(sev->vm, GPA),
					    2 * PAGE_SIZE, KVM_SEV_SNP_PAGE_TYPE_NORMAL);
			__snp_launch_finish(sev, NULL);
			sev_agent_resume(agent);
		}
		exit(1);
	}
	exit(0);
}

SUBTEST(firmware_refuses)
{
	struct rmp_count before = rmp_count();
	int i, nr_good = 0;

	for (i = 0; i < 5; i++)
		nr_good += try_life();
	ksft_print_msg("%d of %d guests lived, %ld pages lost\n", nr_good, i,
		       assert_nothing_left(before));
}

/*
 * The state of vCPUs comes fourth and fifth, after three pages.  What the firmware
 * refuses once it may take the next time; what it has taken it is not given again.
 */
SUBTEST(state_refused)
{
	struct rmp_count before = rmp_count();
	int i, err, second_fd, nr_good = 0;
	enum step step;

	for (i = 0; i < 5; i++) {
		sev = sev_vm_create_barebones(KVM_X86_SNP_VM);
		for (step = INIT2; step <= UPDATE; step++) {
			err = small_step(step);
			TEST_ASSERT(!err, "%s: errno %d, firmware error 0x%x",
				    step_names[step], err, sev->fw_error);
		}
		second_fd = ioctl(sev->vm->fd, KVM_CREATE_VCPU, 1);
		TEST_ASSERT(second_fd >= 0, "KVM_CREATE_VCPU, errno: %d", errno);

		err = small_step(FINISH);
		if (err) {
			ksft_print_msg("%s: errno %d (%s), firmware error 0x%x\n",
				       step_names[FINISH], err, strerror(err), sev->fw_error);
			TEST_ASSERT(err == EIO && sev->fw_error, "No reason");
			err = small_step(FINISH);
			TEST_ASSERT(!err, "LAUNCH_FINISH again: errno %d, firmware error 0x%x",
				    err, sev->fw_error);
		} else {
			nr_good++;
		}
		close(second_fd);
		close(vcpu_fd);
		sev_vm_free(sev);
		close(fd);
	}
	ksft_print_msg("%d of %d guests lived, %ld pages lost\n", nr_good, i,
		       assert_nothing_left(before));
}

/* For whoever wants to see what becomes of a host with a guest on it */
static void __noreturn be_there(void)
{
	enum step step;

	for (step = 0; step < NR_STEPS; step++)
		do_step(step);
	printf("# a guest is here to stay\n");
	fflush(stdout);
	sev_agent_start(agent, SEV_HANG, 0, 0, 0);
	exit(1);
}

int main(int argc, char *argv[])
{
	require_sev_type(KVM_X86_SNP_VM);
	if (argc == 2 && !strcmp(argv[1], "--stay"))
		be_there();
	subtest_main(argc, argv);
}
