// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the memory of SEV-SNP guests costs.
 *
 * As private_mem_bench, and printed in the same way: only the ABI is used, so that
 * one binary measures any kernel, and without options all of it is done in small
 * sizes, as a test of the program.
 *
 * Guests accept memory in one of two ways.  Firmware (OVMF, PvalidateRange()), and
 * Linux from 6.6 on, ask for 2M wherever it is aligned, and validate 2M; if the
 * processor says that the host has smaller pages, they validate each of them.
 * Older Linux asks for, and validates, 4K at a time.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <linux/kvm_para.h>
#include <sys/utsname.h>
#include <time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "processor.h"
#include "sev_vm.h"
#include "subtest.h"

#define MB		BIT_ULL(20)
#define HUGE_SIZE	(2 * MB)
#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT

static uint64_t size = 4 * MB;

static struct sev_vm *sev;
static struct sev_agent *agent;
static struct kvm_vm *vm;
static int fd;

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return timespec_to_ns(ts);
}

static void record(const char *name, int64_t since)
{
	ksft_print_msg("figure snp_%s_%llum %ld ns\n", name, size / MB,
		       now() - since);
}

/* --- the guest ---------------------------------------------------------------- */

struct psc_list {
	uint16_t cur_entry;
	uint16_t end_entry;
	uint32_t rsvd;
	uint64_t entries[PSC_MAX_ENTRIES];
};

struct job {
	struct sev_agent_cmd *cmd;
	uint64_t gpa;
	uint64_t end;
	uint64_t page_size;	/* the largest to ask for */
	uint64_t op;		/* PSC_PRIVATE, PSC_SHARED */
	uint64_t bad;		/* what went wrong, or 0 */
};

static uint64_t guest_pvalidate(uint64_t addr, bool huge, bool validate)
{
	uint64_t rax = addr;
	bool unchanged;

	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xff"
		     : "+a"(rax), "=@ccc"(unchanged)
		     : "c"((uint32_t)huge), "d"((uint32_t)validate) : "memory");
	return (uint32_t)rax | (unchanged ? PVALIDATE_UNCHANGED : 0);
}

/* All pages of a list, as large as they were asked for if that is possible. */
static void guest_validate_list(struct job *job, const uint64_t *entries, int nr)
{
	bool validate = job->op == PSC_PRIVATE;
	uint64_t gpa, i, r;

	for (; nr; nr--, entries++) {
		gpa = *entries & GENMASK_ULL(51, 12);
		r = guest_pvalidate(gpa, *entries & PSC_2M, validate);
		if (r == PVALIDATE_FAIL_SIZEMISMATCH && *entries & PSC_2M) {
			for (i = 0, r = 0; i < HUGE_SIZE && !r; i += PAGE_SIZE)
				r = guest_pvalidate(gpa + i, false, validate);
		}
		if (r)
			job->bad = gpa | r;
	}
}

/* An NAE event of 56421, 4.1.6, until the host has done all of the list. */
static void guest_psc(struct job *job, const uint64_t *entries, int nr)
{
	struct ghcb_page *ghcb = (void *)job->cmd->ghcb_gva;
	struct psc_list *list = (void *)ghcb->bytes + GHCB_BUFFER;
	uint64_t msr = job->cmd->ghcb_gpa;
	int i;

	for (i = 0; i < GHCB_BUFFER / 8; i++)
		WRITE_ONCE(ghcb->words[i], 0);
	WRITE_ONCE(list->cur_entry, 0);
	WRITE_ONCE(list->end_entry, nr - 1);
	for (i = 0; i < nr; i++)
		WRITE_ONCE(list->entries[i], entries[i]);

	while (READ_ONCE(list->cur_entry) <= READ_ONCE(list->end_entry)) {
		ghcb_put(ghcb, GHCB_EXIT_CODE, NAE_PSC);
		ghcb_put(ghcb, GHCB_EXIT_INFO1, 0);
		ghcb_put(ghcb, GHCB_EXIT_INFO2, 0);
		ghcb_put(ghcb, GHCB_SCRATCH, msr + GHCB_BUFFER);
		WRITE_ONCE(ghcb->bytes[GHCB_VERSION], 2);
		asm volatile("wrmsr\n\t"
			     "rep; vmmcall"
			     : : "a"((uint32_t)msr), "d"((uint32_t)(msr >> 32)),
				 "c"(GHCB_MSR) : "memory");
		if (ghcb_get(ghcb, GHCB_EXIT_INFO2)) {
			job->bad = ghcb_get(ghcb, GHCB_EXIT_INFO2);
			return;
		}
	}
}

static uint64_t guest_entries[PSC_MAX_ENTRIES];

/* To private memory: first it is asked for, then validated; back: the reverse. */
static void guest_convert(struct job *job)
{
	uint64_t gpa = job->gpa, page_size;
	int nr;

	job->bad = 0;
	while (gpa < job->end && !job->bad) {
		for (nr = 0; nr < PSC_MAX_ENTRIES && gpa < job->end; nr++) {
			page_size = job->page_size;
			if (gpa % page_size || job->end - gpa < page_size)
				page_size = PAGE_SIZE;
			guest_entries[nr] = PSC_ENTRY(gpa, job->op);
			if (page_size == HUGE_SIZE)
				guest_entries[nr] |= PSC_2M;
			gpa += page_size;
		}
		if (job->op == PSC_SHARED)
			guest_validate_list(job, guest_entries, nr);
		if (!job->bad)
			guest_psc(job, guest_entries, nr);
		if (!job->bad && job->op == PSC_PRIVATE)
			guest_validate_list(job, guest_entries, nr);
	}
}

static void guest_touch(struct job *job)
{
	uint64_t gpa;

	for (gpa = job->gpa; gpa < job->end; gpa += PAGE_SIZE)
		WRITE_ONCE(*(uint64_t *)gpa, gpa);
}

/* --- the host ----------------------------------------------------------------- */

static struct job *job;
static uint64_t job_gva;

static void create(void)
{
	uint64_t gpa;

	sev = sev_vm_create_agents(KVM_X86_SNP_VM, 1);
	agent = &sev->agents[0];
	vm = sev->vm;
	fd = vm_create_guest_memfd(vm, size);
	vm_mem_region_add_private(vm, GPA, SLOT, size / PAGE_SIZE, fd, 0);
	sev_vm_map(sev, GPA, size);

	job_gva = sev_vm_alloc_shared(sev, sizeof(*job), &gpa);
	job = addr_gpa2hva(vm, gpa);
	job->cmd = (void *)agent->cmd_gva;
	job->gpa = GPA;
	job->end = GPA + size;
}

/* The guest's job, and what its VMM has to do for it. */
static void run_job(void (*fn)(struct job *job))
{
	int rc;

	rc = sev_agent_start(agent, SEV_EXEC, (uintptr_t)fn, 0, job_gva);
	while (rc == KVM_EXIT_HYPERCALL) {
		ASSERT_EQ(agent->vcpu->run->hypercall.nr,
			  (__u64)KVM_HC_MAP_GPA_RANGE);
		sev_grant_map_gpa_range(agent);
		rc = sev_agent_resume(agent);
	}
	TEST_ASSERT(!rc, "KVM_RUN: rc %d, exit reason %s", rc,
		    exit_reason_str(agent->vcpu->run->exit_reason));
	TEST_ASSERT(!job->bad, "The guest says 0x%lx", job->bad);
}

static void convert(uint64_t op, uint64_t page_size)
{
	job->op = op;
	job->page_size = page_size;
	run_job(guest_convert);
}

static void accept_and_return(uint64_t page_size, const char *const *names)
{
	int64_t start;

	create();
	sev_vm_launch(sev);

	start = now();
	convert(PSC_PRIVATE, page_size);
	record(names[0], start);

	start = now();
	run_job(guest_touch);
	record(names[1], start);
	sev_agent_fill(agent, GPA, size, 1);
	sev_agent_check(agent, GPA, size, 1);

	start = now();
	convert(PSC_SHARED, page_size);
	record(names[2], start);
	close(fd);
	sev_vm_free(sev);
}

SUBTEST(settings)
{
	struct utsname uts;

	uname(&uts);
	ksft_print_msg("setting kernel %s\n", uts.release);
	ksft_print_msg("setting cpus %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
}

SUBTEST(huge)
{
	static const char *const names[] = { "accept", "touch", "return" };

	accept_and_return(HUGE_SIZE, names);
}

SUBTEST(small)
{
	static const char *const names[] = {
		"accept_small", "touch_small", "return_small"
	};

	accept_and_return(PAGE_SIZE, names);
}

SUBTEST(launch)
{
	int64_t start;

	create();
	vm_mem_fill(vm, GPA, size, 1);
	sev_vm_seal(sev);
	vm_mem_set_private(vm, GPA, size);
	snp_launch_start(sev);
	snp_launch_update_slot0(sev, NULL);

	start = now();
	snp_launch_update(sev, GPA, addr_gpa2hva(vm, GPA), size,
			  KVM_SEV_SNP_PAGE_TYPE_NORMAL);
	record("launch", start);

	ASSERT_EQ(__snp_launch_finish(sev, NULL), 0);
	sev_agent_boot(agent);
	sev_agent_check(agent, GPA, size, 1);

	start = now();
	ASSERT_EQ(guest_memfd_punch(fd, 0, size), 0);
	record("punch", start);
	close(fd);
	sev_vm_free(sev);
}

static void __noreturn help(const char *name, int status)
{
	printf("usage: %s [--quick | --full] [CASE]...\n"
	       "  --quick  as a test of this program (the default)\n"
	       "  --full   to measure\n", name);
	exit(status);
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "quick", no_argument, NULL, 'q' },
		{ "full", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'q':
			size = 4 * MB;
			break;
		case 'f':
			size = 64 * MB;
			break;
		case 'h':
			help(argv[0], KSFT_PASS);
		default:
			help(argv[0], KSFT_FAIL);
		}
	}
	require_sev_type(KVM_X86_SNP_VM);

	/* What is left are the names of cases. */
	argv[optind - 1] = argv[0];
	subtest_main(argc - optind + 1, argv + optind - 1);
}
