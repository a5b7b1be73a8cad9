// SPDX-License-Identifier: GPL-2.0-only
/*
 * SEV-SNP guests that run: private and shared memory and the way between them,
 * PVALIDATE with and against the size of RMP entries, faults that are userspace's
 * to resolve, processors that the guest starts and stops, and ends of all kinds.
 */
#define _GNU_SOURCE
#include <linux/kvm_para.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "apic.h"
#include "memory_failure.h"
#include "private_mem.h"
#include "sev_vm.h"
#include "subtest.h"

#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define HUGE_SIZE	(2ULL << 20)
#define HUGE_PAGES	(HUGE_SIZE / PAGE_SIZE)
#define HUGE_ORDER	9
#define NR_HUGE		3
#define SIZE		(NR_HUGE * HUGE_SIZE)

#define PRIVATE		KVM_MEMORY_EXIT_FLAG_PRIVATE

static struct sev_vm *sev;
static struct sev_agent *agent;
static struct kvm_vm *vm;
static int fd;

static void setup_unlaunched(uint32_t nr_vcpus)
{
	sev = sev_vm_create_agents(KVM_X86_SNP_VM, nr_vcpus);
	agent = &sev->agents[0];
	vm = sev->vm;
	fd = vm_create_guest_memfd(vm, SIZE);
	vm_mem_region_add_private(vm, GPA, SLOT, SIZE / PAGE_SIZE, fd, 0);
	sev_vm_map(sev, GPA, SIZE);
}

/* All of the test's memory is shared at first. */
static void setup_vcpus(uint32_t nr_vcpus)
{
	setup_unlaunched(nr_vcpus);
	sev_vm_launch(sev);
}

static void setup(void)
{
	setup_vcpus(1);
}

static bool have_huge(void)
{
	return kvm_check_cap(KVM_CAP_GUEST_MEMFD_ORDER) == HUGE_ORDER;
}

static void require_huge(void)
{
	if (!have_huge())
		subtest_skip("a kernel without huge pages");
}

/* Nothing of that pattern is in the page any more. */
static void sev_agent_check_other(uint64_t gpa, uint64_t seed)
{
	uint64_t nr_bad = sev_agent_do(agent, SEV_CHECK, gpa, PAGE_SIZE, seed);

	TEST_ASSERT(nr_bad == PAGE_SIZE / MEM_PATTERN_STEP,
		    "0x%lx has only %lu words that are not of the past", gpa, nr_bad);
}

/* --- memory ------------------------------------------------------------------ */

SUBTEST(private_and_shared)
{
	setup();
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	vm_mem_fill(vm, GPA, SIZE, 1);

	/*
	 * Private memory is the guest's alone.  It starts with whatever the zeroes
	 * in it are when they are decrypted.
	 */
	sev_validate(agent, GPA, 16 * PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, 16 * PAGE_SIZE, 2);
	sev_agent_check(agent, GPA, 16 * PAGE_SIZE, 2);
	vm_mem_check(vm, GPA, SIZE, 1);
	vm_mem_fill(vm, GPA, HUGE_SIZE, 3);
	sev_agent_check(agent, GPA, 16 * PAGE_SIZE, 2);

	/* Shared memory is the same to both. */
	sev_agent_check(agent, SEV_SHARED(GPA + HUGE_SIZE), HUGE_SIZE, 1);
	sev_agent_fill(agent, SEV_SHARED(GPA + HUGE_SIZE), HUGE_SIZE, 4);
	vm_mem_check(vm, GPA + HUGE_SIZE, HUGE_SIZE, 4);
	vm_mem_fill(vm, GPA + HUGE_SIZE, HUGE_SIZE, 5);
	sev_agent_check(agent, SEV_SHARED(GPA + HUGE_SIZE), HUGE_SIZE, 5);
	sev_vm_free(sev);
}

SUBTEST(two_guests)
{
	struct sev_vm *other;

	setup();
	other = sev;
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	sev_validate(agent, GPA, 8 * PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, 8 * PAGE_SIZE, 1);

	setup();
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	sev_validate(agent, GPA, 8 * PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, 8 * PAGE_SIZE, 2);
	sev_agent_check(&other->agents[0], GPA, 8 * PAGE_SIZE, 1);
	sev_vm_free(other);
	sev_agent_check(agent, GPA, 8 * PAGE_SIZE, 2);
	sev_vm_free(sev);
}

SUBTEST(convert_by_msr)
{
	const uint64_t gpa = GPA + 7 * PAGE_SIZE, size = 5 * PAGE_SIZE;
	int i;

	setup();
	vm_mem_fill(vm, GPA, HUGE_SIZE, 1);
	for (i = 0; i < 2; i++) {
		sev_convert(agent, gpa, size, true);
		sev_agent_fill(agent, gpa, size, 2);

		/* One in the middle goes, and comes back without its contents. */
		sev_convert(agent, gpa + PAGE_SIZE, PAGE_SIZE, false);
		sev_agent_check(agent, SEV_SHARED(gpa + PAGE_SIZE), PAGE_SIZE, 1);
		sev_convert(agent, gpa + PAGE_SIZE, PAGE_SIZE, true);
		sev_agent_check_other(gpa + PAGE_SIZE, 2);
		sev_agent_check(agent, gpa, PAGE_SIZE, 2);
		sev_agent_check(agent, gpa + 2 * PAGE_SIZE, size - 2 * PAGE_SIZE, 2);

		sev_convert(agent, gpa, size, false);
		ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
		sev_agent_check(agent, SEV_SHARED(GPA), HUGE_SIZE, 1);
		vm_mem_check(vm, GPA, HUGE_SIZE, 1);
	}
	sev_vm_free(sev);
}

/* --- lists of page state changes ---------------------------------------------- */

struct psc_header {
	uint16_t cur_entry;
	uint16_t end_entry;
	uint32_t rsvd;
};

static struct psc_header *psc_header(struct ghcb_page *ghcb)
{
	return (void *)ghcb->bytes + GHCB_BUFFER;
}

static uint64_t *psc_entry(struct ghcb_page *ghcb, int i)
{
	return &ghcb->words[GHCB_BUFFER / 8 + 1 + i];
}

static int psc_start(const uint64_t *entries, int first, int nr)
{
	struct ghcb_page *ghcb = &agent->cmd->ghcb_in;

	ghcb_init(ghcb, NAE_PSC, 0, 0);
	ghcb_put(ghcb, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER);
	psc_header(ghcb)->cur_entry = first;
	psc_header(ghcb)->end_entry = nr - 1;
	memcpy(psc_entry(ghcb, 0), entries, nr * sizeof(*entries));
	return sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
}

static void assert_psc_result(uint64_t info1, uint64_t info2, uint16_t cur_entry)
{
	TEST_ASSERT(ghcb_info1(agent) == info1 && ghcb_info2(agent) == info2 &&
		    psc_header(&agent->cmd->ghcb_out)->cur_entry == cur_entry,
		    "Result 0x%lx 0x%lx at %u, not 0x%lx 0x%lx at %u",
		    ghcb_info1(agent), ghcb_info2(agent),
		    psc_header(&agent->cmd->ghcb_out)->cur_entry, info1, info2,
		    cur_entry);
}

/* Grant all that is asked for; returns how many exits it took. */
static int psc(const uint64_t *entries, int nr)
{
	int rc, exits = 0, i;

	for (rc = psc_start(entries, 0, nr); rc == KVM_EXIT_HYPERCALL;
	     rc = sev_agent_resume(agent)) {
		ASSERT_EQ(agent->vcpu->run->hypercall.nr, (__u64)KVM_HC_MAP_GPA_RANGE);
		sev_grant_map_gpa_range(agent);
		exits++;
	}
	ASSERT_EQ(rc, 0);
	assert_psc_result(0, 0, nr);
	for (i = 0; i < nr; i++) {
		uint64_t entry = *psc_entry(&agent->cmd->ghcb_out, i);
		uint64_t pages = entries[i] & PSC_2M ? HUGE_PAGES : 1;

		TEST_ASSERT(entry == (entries[i] | pages), "Entry %d: 0x%lx", i, entry);
	}
	return exits;
}

SUBTEST(psc_one)
{
	uint64_t entry = PSC_ENTRY(GPA + PAGE_SIZE, PSC_PRIVATE);
	int rc;

	setup();
	rc = psc_start(&entry, 0, 1);
	sev_assert_map_gpa_range(agent, rc, GPA + PAGE_SIZE, PAGE_SIZE, true, false);
	sev_grant_map_gpa_range(agent);
	ASSERT_EQ(sev_agent_resume(agent), 0);
	assert_psc_result(0, 0, 1);
	sev_validate(agent, GPA + PAGE_SIZE, PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA + PAGE_SIZE, PAGE_SIZE, 1);

	sev_agent_pvalidate(agent, GPA + PAGE_SIZE, PAGE_SIZE, PAGE_SIZE, false);
	entry = PSC_ENTRY(GPA + PAGE_SIZE, PSC_SHARED);
	rc = psc_start(&entry, 0, 1);
	sev_assert_map_gpa_range(agent, rc, GPA + PAGE_SIZE, PAGE_SIZE, false, false);
	sev_grant_map_gpa_range(agent);
	ASSERT_EQ(sev_agent_resume(agent), 0);
	assert_psc_result(0, 0, 1);
	sev_agent_fill(agent, SEV_SHARED(GPA), HUGE_SIZE, 2);
	vm_mem_check(vm, GPA, HUGE_SIZE, 2);
	sev_vm_free(sev);
}

SUBTEST(psc_many)
{
	uint64_t entries[PSC_MAX_ENTRIES];
	int i, exits;

	setup();
	/* What is adjacent is one exit. */
	for (i = 0; i < PSC_MAX_ENTRIES; i++)
		entries[i] = PSC_ENTRY(GPA + i * PAGE_SIZE, PSC_PRIVATE);
	exits = psc(entries, PSC_MAX_ENTRIES);
	ASSERT_EQ(exits, 1);
	sev_validate(agent, GPA, PSC_MAX_ENTRIES * PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, PSC_MAX_ENTRIES * PAGE_SIZE, 1);
	sev_agent_check(agent, GPA, PSC_MAX_ENTRIES * PAGE_SIZE, 1);

	/* Every other one, downwards: nothing is adjacent. */
	for (i = 0; i < 100; i++) {
		uint64_t gpa = GPA + (200 - 2 * i) * PAGE_SIZE;

		sev_agent_pvalidate(agent, gpa, PAGE_SIZE, PAGE_SIZE, false);
		entries[i] = PSC_ENTRY(gpa, PSC_SHARED);
	}
	exits = psc(entries, 100);
	ASSERT_EQ(exits, 100);
	for (i = 0; i < PSC_MAX_ENTRIES; i++) {
		if (i % 2 || !i || i > 200)
			sev_agent_check(agent, GPA + i * PAGE_SIZE, PAGE_SIZE, 1);
	}

	/* Both ways in one list, and pages twice */
	entries[0] = PSC_ENTRY(GPA + 2 * PAGE_SIZE, PSC_PRIVATE);
	entries[1] = PSC_ENTRY(GPA + 300 * PAGE_SIZE, PSC_SHARED);
	entries[2] = PSC_ENTRY(GPA + 301 * PAGE_SIZE, PSC_PRIVATE);
	entries[3] = PSC_ENTRY(GPA + 301 * PAGE_SIZE, PSC_SHARED);
	exits = psc(entries, 4);
	ASSERT_EQ(exits, 4);
	sev_validate(agent, GPA + 2 * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA + 2 * PAGE_SIZE, PAGE_SIZE, 3);
	sev_agent_fill(agent, SEV_SHARED(GPA + 300 * PAGE_SIZE), 2 * PAGE_SIZE, 3);
	sev_vm_free(sev);
}

SUBTEST(psc_huge)
{
	uint64_t entries[NR_HUGE];
	int i, rc;

	setup();
	for (i = 0; i < NR_HUGE; i++)
		entries[i] = PSC_ENTRY(GPA + i * HUGE_SIZE, PSC_PRIVATE) | PSC_2M;
	rc = psc_start(entries, 0, NR_HUGE);
	sev_assert_map_gpa_range(agent, rc, GPA, SIZE, true, true);
	sev_grant_map_gpa_range(agent);
	ASSERT_EQ(sev_agent_resume(agent), 0);
	assert_psc_result(0, 0, NR_HUGE);

	/* PVALIDATE as large as it goes */
	for (i = 0; i < NR_HUGE; i++) {
		uint64_t gpa = GPA + i * HUGE_SIZE;
		uint64_t result = sev_agent_pvalidate(agent, gpa, HUGE_SIZE, HUGE_SIZE,
						      true);

		if (have_huge())
			ASSERT_EQ(result, (uint64_t)PVALIDATE_OK);
		else
			ASSERT_EQ(result, (uint64_t)PVALIDATE_FAIL_SIZEMISMATCH);
		if (result)
			sev_validate(agent, gpa, HUGE_SIZE, PAGE_SIZE);
	}
	sev_agent_fill(agent, GPA, SIZE, 1);
	sev_agent_check(agent, GPA, SIZE, 1);

	/* The one in the middle back, as a whole */
	entries[0] = PSC_ENTRY(GPA + HUGE_SIZE, PSC_SHARED) | PSC_2M;
	if (sev_agent_pvalidate(agent, GPA + HUGE_SIZE, HUGE_SIZE, HUGE_SIZE, false))
		sev_agent_pvalidate(agent, GPA + HUGE_SIZE, HUGE_SIZE, PAGE_SIZE, false);
	ASSERT_EQ(psc(entries, 1), 1);
	sev_agent_check(agent, GPA, HUGE_SIZE, 1);
	sev_agent_check(agent, GPA + 2 * HUGE_SIZE, HUGE_SIZE, 1);
	sev_agent_fill(agent, SEV_SHARED(GPA + HUGE_SIZE), HUGE_SIZE, 2);
	vm_mem_check(vm, GPA + HUGE_SIZE, HUGE_SIZE, 2);

	/* Huge and small entries in one list are of different kinds. */
	entries[0] = PSC_ENTRY(GPA + HUGE_SIZE, PSC_PRIVATE);
	entries[1] = PSC_ENTRY(GPA + HUGE_SIZE + PAGE_SIZE, PSC_PRIVATE);
	entries[2] = PSC_ENTRY(GPA + HUGE_SIZE, PSC_SHARED) | PSC_2M;
	ASSERT_EQ(psc(entries, 3), 2);
	sev_vm_free(sev);
}

SUBTEST(psc_resumed)
{
	uint64_t entries[4];
	int rc, i;

	setup();

	/* A list that begins with what is done */
	for (i = 0; i < 4; i++)
		entries[i] = PSC_ENTRY(GPA + i * PAGE_SIZE, PSC_PRIVATE);
	rc = psc_start(entries, 2, 4);
	sev_assert_map_gpa_range(agent, rc, GPA + 2 * PAGE_SIZE, 2 * PAGE_SIZE, true,
				 false);
	sev_grant_map_gpa_range(agent);
	ASSERT_EQ(sev_agent_resume(agent), 0);
	assert_psc_result(0, 0, 4);

	/* An entry that is done, and one that has been begun */
	entries[0] = PSC_ENTRY(GPA, PSC_PRIVATE) | 1;
	entries[1] = (PSC_ENTRY(GPA + HUGE_SIZE, PSC_PRIVATE) | PSC_2M) + 500;
	rc = psc_start(entries, 0, 2);
	sev_assert_map_gpa_range(agent, rc, GPA + HUGE_SIZE + 500 * PAGE_SIZE,
				 12 * PAGE_SIZE, true, false);
	sev_grant_map_gpa_range(agent);
	ASSERT_EQ(sev_agent_resume(agent), 0);
	assert_psc_result(0, 0, 2);
	ASSERT_EQ(*psc_entry(&agent->cmd->ghcb_out, 1) & 0xfff, HUGE_PAGES);
	sev_vm_free(sev);
}

SUBTEST(psc_refused)
{
	static const uint64_t answers[] = { EINVAL, EAGAIN };
	uint64_t entries[3];
	int i, rc;

	setup();
	entries[0] = PSC_ENTRY(GPA, PSC_PRIVATE);
	entries[1] = PSC_ENTRY(GPA + 8 * PAGE_SIZE, PSC_PRIVATE);
	entries[2] = PSC_ENTRY(GPA + 9 * PAGE_SIZE, PSC_PRIVATE);
	for (i = 0; i < ARRAY_SIZE(answers); i++) {
		/* The first one is done, the others are not. */
		rc = psc_start(entries, 0, 3);
		sev_assert_map_gpa_range(agent, rc, GPA, PAGE_SIZE, true, false);
		sev_grant_map_gpa_range(agent);
		rc = sev_agent_resume(agent);
		sev_assert_map_gpa_range(agent, rc, GPA + 8 * PAGE_SIZE, 2 * PAGE_SIZE,
					 true, false);
		agent->vcpu->run->hypercall.ret = answers[i];
		ASSERT_EQ(sev_agent_resume(agent), 0);
		assert_psc_result(0, PSC_ERR_GENERIC, 1);

		rc = sev_agent_start(agent, SEV_MSR, 0, 0, entries[1] | GHCB_MSR_PSC_REQ);
		sev_assert_map_gpa_range(agent, rc, GPA + 8 * PAGE_SIZE, PAGE_SIZE, true,
					 false);
		agent->vcpu->run->hypercall.ret = answers[i];
		ASSERT_EQ(sev_agent_resume(agent), 0);
		ASSERT_EQ(GHCB_MSR_INFO(agent->cmd->result), (uint64_t)GHCB_MSR_PSC_RESP);
		TEST_ASSERT(agent->cmd->result >> 32, "No error");
	}

	/* There are no other answers; what there is can be given after that. */
	rc = psc_start(entries, 0, 1);
	sev_assert_map_gpa_range(agent, rc, GPA, PAGE_SIZE, true, false);
	agent->vcpu->run->hypercall.ret = 4711;
	ASSERT_EQ(sev_agent_resume(agent), -EINVAL);
	sev_vm_free(sev);
}

/* Userspace that does not want to hear of it */
SUBTEST(psc_without_exits)
{
	uint64_t entry = PSC_ENTRY(GPA, PSC_PRIVATE), msr;

	setup();
	vm_enable_cap(vm, KVM_CAP_EXIT_HYPERCALL, 0);
	ASSERT_EQ(psc_start(&entry, 0, 1), 0);
	assert_psc_result(0, PSC_ERR_GENERIC, 0);
	msr = sev_agent_msr(agent, entry | GHCB_MSR_PSC_REQ);
	ASSERT_EQ(GHCB_MSR_INFO(msr), (uint64_t)GHCB_MSR_PSC_RESP);
	TEST_ASSERT(msr >> 32, "No error");
	sev_vm_free(sev);
}

/* --- sizes -------------------------------------------------------------------- */

SUBTEST(pvalidate)
{
	setup();
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	ASSERT_EQ(sev_agent_pvalidate(agent, GPA, PAGE_SIZE, PAGE_SIZE, true),
		  (uint64_t)PVALIDATE_OK);
	ASSERT_EQ(sev_agent_pvalidate(agent, GPA, PAGE_SIZE, PAGE_SIZE, true),
		  (uint64_t)PVALIDATE_UNCHANGED);
	sev_agent_fill(agent, GPA, PAGE_SIZE, 1);
	ASSERT_EQ(sev_agent_pvalidate(agent, GPA, PAGE_SIZE, PAGE_SIZE, false),
		  (uint64_t)PVALIDATE_OK);
	ASSERT_EQ(sev_agent_pvalidate(agent, GPA, PAGE_SIZE, PAGE_SIZE, false),
		  (uint64_t)PVALIDATE_UNCHANGED);
	sev_validate(agent, GPA, PAGE_SIZE, PAGE_SIZE);
	sev_agent_check(agent, GPA, PAGE_SIZE, 1);

	/* One private page around which all is shared is a small one. */
	ASSERT_EQ(sev_agent_pvalidate(agent, GPA, HUGE_SIZE, HUGE_SIZE, true),
		  (uint64_t)PVALIDATE_FAIL_SIZEMISMATCH);
	ASSERT_EQ(sev_agent_pvalidate(agent, GPA + PAGE_SIZE, PAGE_SIZE, HUGE_SIZE, true),
		  (uint64_t)PVALIDATE_FAIL_INPUT);
	sev_vm_free(sev);
}

SUBTEST(pvalidate_huge)
{
	require_huge();
	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	ASSERT_EQ(sev_agent_pvalidate(agent, GPA + HUGE_SIZE, HUGE_SIZE, HUGE_SIZE, true),
		  (uint64_t)PVALIDATE_OK);
	ASSERT_EQ(sev_agent_pvalidate(agent, GPA + HUGE_SIZE, HUGE_SIZE, HUGE_SIZE, true),
		  (uint64_t)PVALIDATE_UNCHANGED);
	sev_agent_fill(agent, GPA + HUGE_SIZE, HUGE_SIZE, 1);
	sev_agent_check(agent, GPA + HUGE_SIZE, HUGE_SIZE, 1);
	ASSERT_EQ(guest_memfd_nr_pages(fd), HUGE_PAGES);
	sev_vm_free(sev);
}

/* 4K on a 2M entry: it is split, and what was validated stays so. */
SUBTEST(pvalidate_small_on_huge)
{
	require_huge();
	setup();
	vm_mem_set_private(vm, GPA, SIZE);

	/* Nothing is validated yet. */
	ASSERT_EQ(sev_agent_pvalidate(agent, GPA + 3 * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE,
				      true), (uint64_t)PVALIDATE_OK);
	sev_agent_fill(agent, GPA + 3 * PAGE_SIZE, PAGE_SIZE, 1);
	ASSERT_EQ(sev_agent_pvalidate(agent, GPA, HUGE_SIZE, HUGE_SIZE, true),
		  (uint64_t)PVALIDATE_FAIL_SIZEMISMATCH);
	ASSERT_EQ(sev_agent_pvalidate(agent, GPA, 3 * PAGE_SIZE, PAGE_SIZE, true),
		  (uint64_t)PVALIDATE_OK);
	sev_agent_fill(agent, GPA, 3 * PAGE_SIZE, 4);
	sev_agent_check(agent, GPA + 3 * PAGE_SIZE, PAGE_SIZE, 1);

	/* All is. */
	sev_validate(agent, GPA + HUGE_SIZE, HUGE_SIZE, HUGE_SIZE);
	sev_agent_fill(agent, GPA + HUGE_SIZE, HUGE_SIZE, 2);
	ASSERT_EQ(sev_agent_pvalidate(agent, GPA + HUGE_SIZE + 5 * PAGE_SIZE, PAGE_SIZE,
				      PAGE_SIZE, false), (uint64_t)PVALIDATE_OK);
	sev_validate(agent, GPA + HUGE_SIZE + 5 * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE);
	sev_agent_check(agent, GPA + HUGE_SIZE, HUGE_SIZE, 2);

	/* RMPADJUST does it, too. */
	sev_validate(agent, GPA + 2 * HUGE_SIZE, HUGE_SIZE, HUGE_SIZE);
	sev_agent_fill(agent, GPA + 2 * HUGE_SIZE, HUGE_SIZE, 3);
	ASSERT_EQ(sev_agent_rmpadjust(agent, GPA + 2 * HUGE_SIZE + PAGE_SIZE, PAGE_SIZE,
				      0x101), 0ul);
	sev_agent_check(agent, GPA + 2 * HUGE_SIZE, HUGE_SIZE, 3);
	sev_vm_free(sev);
}

/* Part of a huge page goes, and comes back small; the rest keeps its contents. */
SUBTEST(convert_part_of_huge)
{
	const uint64_t gpa = GPA + HUGE_SIZE, mid = gpa + 100 * PAGE_SIZE;

	require_huge();
	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	vm_mem_fill(vm, GPA, SIZE, 9);
	sev_validate(agent, GPA, SIZE, HUGE_SIZE);
	sev_agent_fill(agent, GPA, SIZE, 1);

	sev_convert(agent, mid, 3 * PAGE_SIZE, false);
	ASSERT_EQ(guest_memfd_nr_pages(fd), SIZE / PAGE_SIZE - 3);
	sev_agent_check(agent, SEV_SHARED(mid), 3 * PAGE_SIZE, 9);
	sev_agent_check(agent, GPA, mid - GPA, 1);
	sev_agent_check(agent, mid + 3 * PAGE_SIZE, GPA + SIZE - mid - 3 * PAGE_SIZE, 1);

	sev_convert(agent, mid, 3 * PAGE_SIZE, true);
	sev_agent_check_other(mid, 1);
	sev_agent_fill(agent, mid, 3 * PAGE_SIZE, 1);
	sev_agent_check(agent, GPA, SIZE, 1);

	/* All of it: it comes back huge. */
	sev_agent_pvalidate(agent, gpa, HUGE_SIZE, PAGE_SIZE, false);
	vm_mem_set_shared(vm, gpa, HUGE_SIZE);
	vm_mem_punch(vm, gpa, HUGE_SIZE);
	sev_agent_check(agent, SEV_SHARED(gpa), HUGE_SIZE, 9);
	vm_mem_set_private(vm, gpa, HUGE_SIZE);
	sev_validate(agent, gpa, HUGE_SIZE, HUGE_SIZE);
	sev_agent_check_other(gpa, 1);
	sev_agent_fill(agent, gpa, HUGE_SIZE, 2);
	sev_agent_check(agent, GPA, HUGE_SIZE, 1);
	sev_agent_check(agent, gpa + HUGE_SIZE, HUGE_SIZE, 1);
	sev_vm_free(sev);
}

/* Shared holes from the start: what is around is small, and works as well. */
SUBTEST(mixed_attributes)
{
	uint64_t i;

	setup();
	for (i = 0; i < 32; i += 2)
		vm_mem_set_private(vm, GPA + i * PAGE_SIZE, PAGE_SIZE);
	vm_mem_fill(vm, GPA, HUGE_SIZE, 1);
	for (i = 0; i < 32; i += 2) {
		sev_validate(agent, GPA + i * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE);
		sev_agent_fill(agent, GPA + i * PAGE_SIZE, PAGE_SIZE, 2);
	}
	for (i = 0; i < 32; i++)
		sev_agent_check(agent, i % 2 ? SEV_SHARED(GPA + i * PAGE_SIZE) :
					       GPA + i * PAGE_SIZE,
				PAGE_SIZE, 2 - i % 2);
	vm_mem_check(vm, GPA, HUGE_SIZE, 1);
	sev_vm_free(sev);
}

/* Attributes change under a huge entry, nothing is punched. */
SUBTEST(attributes_over_huge)
{
	setup();
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	vm_mem_fill(vm, GPA, HUGE_SIZE, 9);
	if (have_huge())
		sev_validate(agent, GPA, HUGE_SIZE, HUGE_SIZE);
	else
		sev_validate(agent, GPA, HUGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, HUGE_SIZE, 1);
	vm_mem_set_shared(vm, GPA + 10 * PAGE_SIZE, PAGE_SIZE);
	/* The mapping has to be small now, and so has the entry. */
	sev_agent_check(agent, GPA, 10 * PAGE_SIZE, 1);
	sev_agent_check(agent, SEV_SHARED(GPA + 10 * PAGE_SIZE), PAGE_SIZE, 9);
	sev_agent_check(agent, GPA + 11 * PAGE_SIZE, HUGE_SIZE - 11 * PAGE_SIZE, 1);
	vm_mem_set_private(vm, GPA + 10 * PAGE_SIZE, PAGE_SIZE);
	sev_agent_check(agent, GPA, HUGE_SIZE, 1);
	sev_vm_free(sev);
}

/* --- faults -------------------------------------------------------------------- */

SUBTEST(fault_private_access_to_shared)
{
	int rc;

	setup();
	agent->cmd->page_size = PAGE_SIZE;
	rc = sev_agent_start(agent, SEV_PVALIDATE, GPA + 3 * PAGE_SIZE, PAGE_SIZE, 1);
	sev_agent_assert_memory_fault(agent, rc, GPA + 3 * PAGE_SIZE, PRIVATE);
	/* It does not go away. */
	rc = sev_agent_resume(agent);
	sev_agent_assert_memory_fault(agent, rc, GPA + 3 * PAGE_SIZE, PRIVATE);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);

	vm_mem_set_private(vm, GPA + 3 * PAGE_SIZE, PAGE_SIZE);
	ASSERT_EQ(sev_agent_resume(agent), 0);
	ASSERT_EQ(agent->cmd->result, (uint64_t)PVALIDATE_OK);

	rc = sev_agent_start(agent, SEV_READ, GPA + 4 * PAGE_SIZE + 8, 0, 0);
	sev_agent_assert_memory_fault(agent, rc, GPA + 4 * PAGE_SIZE, PRIVATE);
	sev_vm_free(sev);
}

SUBTEST(fault_shared_access_to_private)
{
	static const enum sev_agent_op ops[] = { SEV_READ, SEV_WRITE };
	int i, rc;

	setup();
	vm_mem_fill(vm, GPA, HUGE_SIZE, 1);
	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		uint64_t gpa = GPA + i * PAGE_SIZE;

		vm_mem_set_private(vm, gpa, PAGE_SIZE);
		rc = sev_agent_start(agent, ops[i], SEV_SHARED(gpa), 0, 0x1234);
		sev_agent_assert_memory_fault(agent, rc, gpa, 0);
		rc = sev_agent_resume(agent);
		sev_agent_assert_memory_fault(agent, rc, gpa, 0);
		vm_mem_set_shared(vm, gpa, PAGE_SIZE);
		ASSERT_EQ(sev_agent_resume(agent), 0);
	}
	ASSERT_EQ(*(uint64_t *)addr_gpa2hva(vm, GPA + PAGE_SIZE), (uint64_t)0x1234);

	/*
	 * Also if the guest has it validated.  (A read would get what is there, as
	 * it is in memory: processors only check writes then.)
	 */
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	sev_validate(agent, GPA, PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, PAGE_SIZE, 2);
	rc = sev_agent_start(agent, SEV_WRITE, SEV_SHARED(GPA), 0, 0x5678);
	sev_agent_assert_memory_fault(agent, rc, GPA, 0);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	ASSERT_EQ(sev_agent_resume(agent), 0);
	ASSERT_EQ(*(uint64_t *)addr_gpa2hva(vm, GPA), (uint64_t)0x5678);
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	sev_agent_check(agent, GPA, PAGE_SIZE, 2);
	sev_vm_free(sev);
}

/* What has not been validated is #VC, for which this guest is not made. */
SUBTEST(not_validated)
{
	int rc;

	setup();
	vm_mem_set_private(vm, GPA, PAGE_SIZE);
	rc = sev_agent_start(agent, SEV_READ, GPA, 0, 0);
	ASSERT_EQ(rc, KVM_EXIT_SHUTDOWN);
	sev_vm_free(sev);
}

/* For the guest: what it knows of a #VC, in its first agent's shared page */
#define VC_VECTOR	29
#define VC_NOT_VALIDATED	0x404	/* APM volume 2, 15.36.10 */

struct vc_report {
	uint64_t nr;
	uint64_t error_code;
	uint64_t cr2;
	uint64_t rip;
};

static struct sev_agent_cmd *vc_cmd;

/* It tells what has come up, and waits for commands again. */
static void handle_vc(struct ex_regs *regs)
{
	struct vc_report *report = (void *)vc_cmd->data;
	uint64_t cr2;

	asm volatile("mov %%cr2, %0" : "=r"(cr2));
	/*
	 * The library's handlers push an error code for this vector, as if the
	 * processor did not: its own comes next, and then RIP.
	 */
	report->error_code = regs->rip;
	report->rip = regs->cs;
	report->cr2 = cr2;
	report->nr++;
	sev_agent_main(vc_cmd);
}

static void setup_with_handler(void)
{
	setup_unlaunched(1);
	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(agent->vcpu);
	vm_install_exception_handler(vm, VC_VECTOR, handle_vc);
	vc_cmd = (void *)agent->cmd_gva;
	sync_global_to_guest(vm, vc_cmd);
	sev_vm_launch(sev);
}

static void assert_vc(uint64_t nr, uint64_t addr)
{
	struct vc_report *report = (void *)agent->cmd->data;

	TEST_ASSERT(report->nr == nr && report->error_code == VC_NOT_VALIDATED &&
		    report->cr2 == addr && report->rip,
		    "%lu times #VC, error code 0x%lx, CR2 0x%lx, RIP 0x%lx, not 0x%x at 0x%lx",
		    report->nr, report->error_code, report->cr2, report->rip,
		    VC_NOT_VALIDATED, addr);
}

/* The same for a guest that can tell: it is this, and nothing else. */
SUBTEST(not_validated_is_vc)
{
	setup_with_handler();
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	ASSERT_EQ(sev_agent_start(agent, SEV_READ, GPA + PAGE_SIZE + 0x128, 0, 0), 0);
	assert_vc(1, GPA + PAGE_SIZE + 0x128);
	ASSERT_EQ(sev_agent_start(agent, SEV_WRITE, GPA + 3 * PAGE_SIZE + 8, 0, 1), 0);
	assert_vc(2, GPA + 3 * PAGE_SIZE + 8);

	/* There is a page each time, which the guest can accept. */
	sev_validate(agent, GPA, 4 * PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, 4 * PAGE_SIZE, 1);
	sev_agent_check(agent, GPA, 4 * PAGE_SIZE, 1);
	assert_vc(2, GPA + 3 * PAGE_SIZE + 8);

	/* What it has given back, and what the host has taken */
	sev_agent_pvalidate(agent, GPA, PAGE_SIZE, PAGE_SIZE, false);
	ASSERT_EQ(sev_agent_start(agent, SEV_READ, GPA, 0, 0), 0);
	assert_vc(3, GPA);
	vm_mem_punch(vm, GPA + PAGE_SIZE, PAGE_SIZE);
	ASSERT_EQ(sev_agent_start(agent, SEV_READ, GPA + PAGE_SIZE, 0, 0), 0);
	assert_vc(4, GPA + PAGE_SIZE);
	sev_agent_check(agent, GPA + 2 * PAGE_SIZE, 2 * PAGE_SIZE, 1);
	sev_vm_free(sev);
}

/* A host that takes a page away: the guest notices. */
SUBTEST(replayed_page)
{
	int rc;

	setup();
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	sev_validate(agent, GPA, 2 * PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, 2 * PAGE_SIZE, 1);
	vm_mem_punch(vm, GPA, PAGE_SIZE);
	sev_agent_check(agent, GPA + PAGE_SIZE, PAGE_SIZE, 1);
	rc = sev_agent_start(agent, SEV_READ, GPA, 0, 0);
	ASSERT_EQ(rc, KVM_EXIT_SHUTDOWN);
	sev_vm_free(sev);
}

/* --- what the guest learns of the host ----------------------------------------- */

SUBTEST(features)
{
	uint64_t msr;

	setup();
	msr = sev_agent_msr(agent, GHCB_MSR_SEV_INFO_REQ);
	ASSERT_EQ(GHCB_MSR_INFO(msr), (uint64_t)GHCB_MSR_SEV_INFO_RESP);
	ASSERT_EQ(msr >> 48, 2ul);
	TEST_ASSERT((msr >> 32 & 0xffff) <= 2, "Only version %lu on",
		    msr >> 32 & 0xffff);
	ASSERT_EQ(1ull << (msr >> 24 & 0xff), sev->c_bit);

	msr = sev_agent_msr(agent, GHCB_MSR_HV_FT_REQ);
	ASSERT_EQ(GHCB_MSR_INFO(msr), (uint64_t)GHCB_MSR_HV_FT_RESP);
	ASSERT_EQ(GHCB_MSR_DATA(msr), GHCB_HV_FT_SNP | GHCB_HV_FT_AP_CREATION);

	ghcb_init(&agent->cmd->ghcb_in, NAE_HV_FEATURES, 0, 0);
	sev_agent_vmgexit(agent);
	ASSERT_EQ(ghcb_info1(agent), 0ul);
	ASSERT_EQ(ghcb_info2(agent), GHCB_HV_FT_SNP | GHCB_HV_FT_AP_CREATION);

	/* Anywhere will do for the GHCB. */
	msr = sev_agent_msr(agent, GHCB_MSR_PREF_GPA_REQ);
	ASSERT_EQ(GHCB_MSR_INFO(msr), (uint64_t)GHCB_MSR_PREF_GPA_RESP);
	ASSERT_EQ(GHCB_MSR_DATA(msr), (1ull << 52) - 1);
	msr = sev_agent_msr(agent, agent->ghcb_gpa | GHCB_MSR_REG_GPA_REQ);
	ASSERT_EQ(msr, agent->ghcb_gpa | GHCB_MSR_REG_GPA_RESP);
	sev_vm_free(sev);
}

SUBTEST(cpuid_by_ghcb)
{
	const struct kvm_cpuid_entry2 *e = kvm_get_supported_cpuid_entry(0x80000000);
	const uint32_t expected[] = { e->eax, e->ebx, e->ecx, e->edx };
	uint64_t msr;
	int i;

	setup();
	for (i = 0; i < 4; i++) {
		msr = sev_agent_msr(agent, 0x80000000ull << 32 | (uint64_t)i << 30 |
					   GHCB_MSR_CPUID_REQ);
		ASSERT_EQ(GHCB_MSR_INFO(msr), (uint64_t)GHCB_MSR_CPUID_RESP);
		ASSERT_EQ((uint32_t)(msr >> 32), expected[i]);
	}

	ghcb_init(&agent->cmd->ghcb_in, NAE_CPUID, 0, 0);
	ghcb_put(&agent->cmd->ghcb_in, GHCB_RAX, 0x80000000);
	ghcb_put(&agent->cmd->ghcb_in, GHCB_RCX, 0);
	sev_agent_vmgexit(agent);
	ASSERT_EQ(ghcb_info1(agent), 0ul);
	ASSERT_EQ((uint32_t)ghcb_get(&agent->cmd->ghcb_out, GHCB_RAX), expected[0]);
	ASSERT_EQ((uint32_t)ghcb_get(&agent->cmd->ghcb_out, GHCB_RBX), expected[1]);
	ASSERT_EQ((uint32_t)ghcb_get(&agent->cmd->ghcb_out, GHCB_RCX), expected[2]);
	ASSERT_EQ((uint32_t)ghcb_get(&agent->cmd->ghcb_out, GHCB_RDX), expected[3]);
	sev_vm_free(sev);
}

/* --- ends ---------------------------------------------------------------------- */

static void assert_terminated(int rc)
{
	struct kvm_run *run = agent->vcpu->run;

	ASSERT_EQ(rc, KVM_EXIT_SYSTEM_EVENT);
	ASSERT_EQ(run->system_event.type, (uint32_t)KVM_SYSTEM_EVENT_SEV_TERM);
	ASSERT_EQ(run->system_event.ndata, 1u);
}

SUBTEST(termination)
{
	const uint64_t msr = GHCB_MSR_TERM_REQ | 1 << 12 | 5 << 16;

	setup();
	assert_terminated(sev_agent_start(agent, SEV_MSR, 0, 0, msr));
	ASSERT_EQ(agent->vcpu->run->system_event.data[0], (__u64)msr);
	sev_vm_free(sev);

	setup();
	ghcb_init(&agent->cmd->ghcb_in, NAE_TERM, 1, 2);
	assert_terminated(sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0));
	sev_vm_free(sev);
}

/* In a child, which is killed where it stands when it has told us to. */
static void kill_while(void (*fn)(int ready))
{
	int fds[2], status;
	pid_t pid;
	char c;

	ASSERT_EQ(pipe(fds), 0);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed, errno: %d", errno);
	if (!pid) {
		fn(fds[1]);
		exit(1);
	}
	close(fds[1]);
	TEST_ASSERT(read(fds[0], &c, 1) == 1, "The child fails");
	usleep(20000);
	kill(pid, SIGKILL);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFSIGNALED(status), "The child ends by itself");
	close(fds[0]);
}

static void tell(int ready)
{
	TEST_ASSERT(write(ready, "", 1) == 1, "write() failed, errno: %d", errno);
}

static void hang(int ready)
{
	setup();
	vm_mem_set_private(vm, GPA, SIZE);
	sev_validate(agent, GPA, 32 * PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, 32 * PAGE_SIZE, 1);
	tell(ready);
	sev_agent_start(agent, SEV_HANG, 0, 0, 0);
}

static void launch_for_ever(int ready)
{
	setup_unlaunched(1);
	sev_vm_seal(sev);
	vm_mem_set_private(vm, GPA, SIZE);
	snp_launch_start(sev);
	tell(ready);
	snp_launch_update(sev, GPA, addr_gpa2hva(vm, GPA), SIZE,
			  KVM_SEV_SNP_PAGE_TYPE_NORMAL);
	for (;;)
		pause();
}

static void convert_for_ever(int ready)
{
	setup();
	tell(ready);
	for (;;) {
		sev_convert(agent, GPA, 8 * PAGE_SIZE, true);
		sev_convert(agent, GPA, 8 * PAGE_SIZE, false);
	}
}

static void wait_in_psc(int ready)
{
	uint64_t entry = PSC_ENTRY(GPA, PSC_PRIVATE);

	setup();
	ASSERT_EQ(psc_start(&entry, 0, 1), KVM_EXIT_HYPERCALL);
	tell(ready);
	for (;;)
		pause();
}

SUBTEST(killed)
{
	kill_while(hang);
	kill_while(launch_for_ever);
	kill_while(convert_for_ever);
	kill_while(wait_in_psc);

	/* Nothing of them is in the way of another one. */
	setup();
	sev_convert(agent, GPA, PAGE_SIZE, true);
	sev_vm_free(sev);
}

/* --- processors that the guest starts ------------------------------------------ */

#define MAGIC	0x5ca1ab1e
#define VMSA	(GPA + PAGE_SIZE)	/* not at a multiple of 2M */

static struct snp_vmsa vmsa;
static struct sev_agent *ap;

static void ap_code(struct sev_agent_cmd *cmd)
{
	WRITE_ONCE(*(uint64_t *)cmd->data, *(uint64_t *)cmd->data + MAGIC);
	sev_agent_main(cmd);
}

/* Two vCPUs.  The second one is the AP, but waits for a command as well. */
static void setup_ap(void)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	setup_unlaunched(2);
	ap = &sev->agents[1];
	vcpu_sregs_get(ap->vcpu, &sregs);
	vcpu_regs_get(ap->vcpu, &regs);
	regs.rip = (uintptr_t)ap_code;
	regs.rdi = ap->cmd_gva;
	snp_vmsa_init(&vmsa, &sregs, &regs, NULL);
	sev_vm_launch(sev);
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
}

/* Make a page of the guest a VMSA, by way of a page that is shared. */
static void make_vmsa(uint64_t gpa)
{
	memcpy(addr_gpa2hva(vm, GPA + HUGE_SIZE), &vmsa, sizeof(vmsa));
	sev_validate(agent, gpa, PAGE_SIZE, PAGE_SIZE);
	sev_agent_do(agent, SEV_COPY, SEV_SHARED(GPA + HUGE_SIZE), PAGE_SIZE, gpa);
	ASSERT_EQ(sev_agent_rmpadjust(agent, gpa, PAGE_SIZE, 1 << 16 | 1), 0ul);
}

static void ap_creation(uint32_t op, uint64_t gpa)
{
	struct ghcb_page *ghcb = &agent->cmd->ghcb_in;

	ghcb_init(ghcb, NAE_AP_CREATION, (uint64_t)ap->vcpu->id << 32 | op, gpa);
	ghcb_put(ghcb, GHCB_RAX, SEV_FEAT_SNP_ACTIVE);
	sev_agent_vmgexit(agent);
	TEST_ASSERT(!ghcb_info1(agent) && !ghcb_info2(agent),
		    "AP creation %u: 0x%lx 0x%lx", op, ghcb_info1(agent),
		    ghcb_info2(agent));
}

static uint64_t ap_starts(void)
{
	return READ_ONCE(*(uint64_t *)ap->cmd->data) / MAGIC;
}

/* Userspace's loop: a vCPU that stands still comes up for air now and then. */
static int ap_run(void)
{
	int rc;

	do {
		rc = sev_agent_resume(ap);
	} while (rc == -EAGAIN || rc == -EINTR);
	return rc;
}

static int ap_rc;

static void *ap_thread(void *arg)
{
	ap_rc = ap_run();
	return NULL;
}

static pthread_t ap_start_thread(void)
{
	pthread_t thread;

	ap_rc = 4711;
	ASSERT_EQ(pthread_create(&thread, NULL, ap_thread, NULL), 0);
	usleep(50000);
	return thread;
}

SUBTEST(ap_create)
{
	setup_ap();
	make_vmsa(VMSA);
	ap_creation(NAE_AP_CREATE, VMSA);
	ASSERT_EQ(ap_run(), 0);
	ASSERT_EQ(ap_starts(), 1ul);
	sev_agent_do(ap, SEV_NOP, 0, 0, 0);
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	sev_validate(ap, GPA + 5 * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(ap, GPA + 5 * PAGE_SIZE, PAGE_SIZE, 1);
	sev_agent_check(agent, GPA + 5 * PAGE_SIZE, PAGE_SIZE, 1);

	/* Once more, with another one */
	make_vmsa(VMSA + PAGE_SIZE);
	ap_creation(NAE_AP_CREATE, VMSA + PAGE_SIZE);
	ASSERT_EQ(ap_run(), 0);
	ASSERT_EQ(ap_starts(), 2ul);
	sev_vm_free(sev);
}

/* The processor is running what it will not come back from. */
SUBTEST(ap_create_while_it_runs)
{
	pthread_t thread;

	setup_ap();
	make_vmsa(VMSA);
	ap->cmd->op = SEV_HANG;
	thread = ap_start_thread();
	ap_creation(NAE_AP_CREATE, VMSA);
	pthread_join(thread, NULL);
	ASSERT_EQ(ap_rc, 0);
	ASSERT_EQ(ap_starts(), 1ul);
	sev_agent_do(ap, SEV_NOP, 0, 0, 0);
	sev_vm_free(sev);
}

SUBTEST(ap_destroy)
{
	pthread_t thread;

	setup_ap();
	make_vmsa(VMSA);

	/* While it runs: it stops, and does not come back by itself. */
	ap->cmd->op = SEV_HANG;
	thread = ap_start_thread();
	ap_creation(NAE_AP_DESTROY, 0);
	usleep(100000);
	ASSERT_EQ(ap_rc, 4711);
	ap_creation(NAE_AP_CREATE, VMSA);
	pthread_join(thread, NULL);
	ASSERT_EQ(ap_rc, 0);
	ASSERT_EQ(ap_starts(), 1ul);

	/* While it does not */
	ap_creation(NAE_AP_DESTROY, 0);
	ap->cmd->op = SEV_NOP;
	thread = ap_start_thread();
	usleep(100000);
	ASSERT_EQ(ap_rc, 4711);
	/* Not used any more, the page is a page again. */
	ASSERT_EQ(sev_agent_rmpadjust(agent, VMSA, PAGE_SIZE, 1), 0ul);
	make_vmsa(VMSA + PAGE_SIZE);
	ap_creation(NAE_AP_CREATE, VMSA + PAGE_SIZE);
	pthread_join(thread, NULL);
	ASSERT_EQ(ap_rc, 0);
	ASSERT_EQ(ap_starts(), 2ul);

	/* A VM can end with one that stands still. */
	ap_creation(NAE_AP_DESTROY, 0);
	sev_vm_free(sev);
}

SUBTEST(ap_create_on_init)
{
	pthread_t thread;

	setup_ap();
	make_vmsa(VMSA);
	sev_agent_wrmsr(agent, MSR_IA32_APICBASE, APIC_DEFAULT_GPA |
			MSR_IA32_APICBASE_BSP | MSR_IA32_APICBASE_ENABLE |
			X2APIC_ENABLE);
	ap_creation(NAE_AP_CREATE_ON_INIT, VMSA);

	/* Not yet: it goes on with what it has. */
	sev_agent_do(ap, SEV_NOP, 0, 0, 0);
	ASSERT_EQ(ap_starts(), 0ul);

	ap->cmd->op = SEV_HANG;
	thread = ap_start_thread();
	sev_agent_wrmsr(agent, APIC_BASE_MSR + (APIC_ICR >> 4),
			(uint64_t)ap->vcpu->id << 32 | APIC_INT_ASSERT | APIC_DM_INIT);
	pthread_join(thread, NULL);
	ASSERT_EQ(ap_rc, 0);
	ASSERT_EQ(ap_starts(), 1ul);
	sev_vm_free(sev);
}

/* A VMSA that is none: only the AP suffers. */
SUBTEST(ap_create_bad_vmsa)
{
	int rc;

	/* A page that the guest has not made a VMSA */
	setup_ap();
	sev_validate(agent, VMSA, PAGE_SIZE, PAGE_SIZE);
	ap_creation(NAE_AP_CREATE, VMSA);
	rc = sev_agent_resume(ap);
	TEST_ASSERT(rc && rc != KVM_EXIT_IO, "The AP runs: %d", rc);
	sev_agent_do(agent, SEV_NOP, 0, 0, 0);

	/* And then a good one */
	make_vmsa(VMSA + PAGE_SIZE);
	ap_creation(NAE_AP_CREATE, VMSA + PAGE_SIZE);
	ASSERT_EQ(ap_run(), 0);
	ASSERT_EQ(ap_starts(), 1ul);
	sev_vm_free(sev);
}

/* The host takes the VMSA away from under the AP. */
SUBTEST(ap_vmsa_punched)
{
	int ret, tries = 0, rc;

	setup_ap();
	make_vmsa(VMSA);
	ap_creation(NAE_AP_CREATE, VMSA);
	ASSERT_EQ(ap_run(), 0);
	do {
		ret = guest_memfd_punch(fd, VMSA - GPA, PAGE_SIZE);
	} while (ret && errno == EAGAIN && tries++ < 100);
	ASSERT_EQ(ret, 0);
	ap->cmd->op = SEV_NOP;
	rc = sev_agent_resume(ap);
	TEST_ASSERT(rc, "The AP runs without its VMSA");
	sev_agent_do(agent, SEV_NOP, 0, 0, 0);
	sev_vm_free(sev);
}

/* Pages that could not be taken back; on the machine that the test runs on. */
static long nr_leaked_pages(void)
{
	static const char *const path = "/sys/kernel/debug/x86/rmp/leaked_pages";
	FILE *file = fopen(path, "r");
	long nr;

	if (!file)
		subtest_skip(path);
	TEST_ASSERT(fscanf(file, "%ld", &nr) == 1, "%s has no number", path);
	fclose(file);
	return nr;
}

/* It has been in the guest all the time, and cannot go back there. */
static void assert_ap_fails(pthread_t thread)
{
	int i;

	for (i = 0; i < 200 && READ_ONCE(ap_rc) == 4711; i++)
		usleep(50000);
	TEST_ASSERT(READ_ONCE(ap_rc) != 4711, "The AP runs without its VMSA");
	pthread_join(thread, NULL);
	ASSERT_EQ(ap_rc, KVM_EXIT_FAIL_ENTRY);
}

/* The same while the AP runs, which has its VMSA in use then. */
SUBTEST(ap_vmsa_punched_while_it_runs)
{
	long leaked = nr_leaked_pages();
	struct timespec start, end;
	pthread_t thread;
	int i;

	for (i = 0; i < 4; i++) {
		setup_ap();
		make_vmsa(VMSA);
		ap_creation(NAE_AP_CREATE, VMSA);
		ASSERT_EQ(ap_run(), 0);
		ap->cmd->op = SEV_HANG;
		thread = ap_start_thread();
		clock_gettime(CLOCK_MONOTONIC, &start);
		ASSERT_EQ(guest_memfd_punch(fd, VMSA - GPA, PAGE_SIZE), 0);
		clock_gettime(CLOCK_MONOTONIC, &end);
		pr_info("# punched in %ld us\n",
			(end.tv_sec - start.tv_sec) * 1000000 +
			(end.tv_nsec - start.tv_nsec) / 1000);
		assert_ap_fails(thread);
		ASSERT_EQ(nr_leaked_pages(), leaked);
		sev_agent_do(agent, SEV_NOP, 0, 0, 0);
		sev_vm_free(sev);
	}
}

/* The memslot goes: nobody could tell the AP any more if the page did. */
SUBTEST(ap_vmsa_unbound_while_it_runs)
{
	long leaked = nr_leaked_pages();
	pthread_t thread;

	setup_ap();
	make_vmsa(VMSA);
	ap_creation(NAE_AP_CREATE, VMSA);
	ASSERT_EQ(ap_run(), 0);
	ap->cmd->op = SEV_HANG;
	thread = ap_start_thread();
	vm_mem_region_delete(vm, SLOT);
	assert_ap_fails(thread);
	ASSERT_EQ(guest_memfd_punch(fd, VMSA - GPA, PAGE_SIZE), 0);
	ASSERT_EQ(nr_leaked_pages(), leaked);
	sev_agent_do(agent, SEV_NOP, 0, 0, 0);
	sev_vm_free(sev);
}

/* The memslot comes back, and with it the VMSA. */
SUBTEST(ap_vmsa_bound_again)
{
	setup_ap();
	make_vmsa(VMSA);
	ap_creation(NAE_AP_CREATE, VMSA);
	ASSERT_EQ(ap_run(), 0);

	vm_mem_region_delete(vm, SLOT);
	ASSERT_EQ(sev_agent_start(ap, SEV_NOP, 0, 0, 0), KVM_EXIT_FAIL_ENTRY);
	ASSERT_EQ(sev_agent_resume(ap), KVM_EXIT_FAIL_ENTRY);

	vm_mem_region_add_private(vm, GPA, SLOT, SIZE / PAGE_SIZE, fd, 0);
	ASSERT_EQ(sev_agent_resume(ap), 0);
	sev_agent_do(ap, SEV_NOP, 0, 0, 0);
	sev_vm_free(sev);
}

/* A processor that nobody has measured: the guest brings its state. */
SUBTEST(ap_create_late_vcpu)
{
	struct sev_agent late;

	setup_ap();
	late = *ap;
	late.vcpu = __vm_vcpu_add(vm, 3);
	vcpu_init_cpuid(late.vcpu, kvm_get_supported_cpuid());
	make_vmsa(VMSA);

	ap = &late;
	ap_creation(NAE_AP_CREATE, VMSA);
	ASSERT_EQ(ap_run(), 0);
	ASSERT_EQ(ap_starts(), 1ul);
	sev_agent_do(ap, SEV_NOP, 0, 0, 0);
	sev_vm_free(sev);
}

/* A vCPU asks for itself: the next thing that it does is in the new VMSA. */
SUBTEST(ap_create_itself)
{
	setup_ap();
	make_vmsa(VMSA);
	/* The command of the second agent: it is this vCPU's from now on. */
	ghcb_init(&agent->cmd->ghcb_in, NAE_AP_CREATION,
		  (uint64_t)agent->vcpu->id << 32 | NAE_AP_CREATE, VMSA);
	ghcb_put(&agent->cmd->ghcb_in, GHCB_RAX, SEV_FEAT_SNP_ACTIVE);
	memset(&agent->cmd->ghcb_out, 0x5a, sizeof(agent->cmd->ghcb_out));
	ASSERT_EQ(sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0), 0);
	ASSERT_EQ(ap_starts(), 1ul);
	/* It has not come back from there. */
	ASSERT_EQ(ghcb_info1(agent), 0x5a5a5a5a5a5a5a5aul);

	ap->vcpu = agent->vcpu;
	sev_agent_do(ap, SEV_NOP, 0, 0, 0);
	sev_validate(ap, GPA + 5 * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(ap, GPA + 5 * PAGE_SIZE, PAGE_SIZE, 1);
	sev_agent_check(ap, GPA + 5 * PAGE_SIZE, PAGE_SIZE, 1);
	sev_vm_free(sev);
}

/* It stands still then, until another one starts it. */
SUBTEST(ap_destroy_itself)
{
	pthread_t thread;

	setup_ap();
	make_vmsa(VMSA);

	ghcb_init(&ap->cmd->ghcb_in, NAE_AP_CREATION,
		  (uint64_t)ap->vcpu->id << 32 | NAE_AP_DESTROY, 0);
	memset(&ap->cmd->ghcb_out, 0x5a, sizeof(ap->cmd->ghcb_out));
	ap->cmd->op = SEV_VMGEXIT;
	thread = ap_start_thread();
	usleep(200000);
	ASSERT_EQ(ap_rc, 4711);
	ASSERT_EQ(ghcb_info1(ap), 0x5a5a5a5a5a5a5a5aul);
	sev_agent_do(agent, SEV_NOP, 0, 0, 0);

	ap_creation(NAE_AP_CREATE, VMSA);
	pthread_join(thread, NULL);
	ASSERT_EQ(ap_rc, 0);
	ASSERT_EQ(ap_starts(), 1ul);
	sev_agent_do(ap, SEV_NOP, 0, 0, 0);
	sev_vm_free(sev);
}

/* --- permissions of VMPLs --------------------------------------------------------- */

/* Where slot 0 is mapped for RMPADJUST: all that is private there, page tables too */
#define SLOT0_ALIAS	(16ULL << 30)
#define SLOT0_MAX	(4ULL << 20)

#define VMPL1(_perms)	((uint64_t)(_perms) << 8 | 1)
#define VMPL_READ	BIT(0)
#define VMPL_ALL	0xf

static uint64_t slot0_pages[SLOT0_MAX / PAGE_SIZE];
static int nr_slot0_pages;

static void note_page(uint64_t gpa, void *page)
{
	TEST_ASSERT(gpa < SLOT0_MAX, "Slot 0 is larger: 0x%lx", gpa);
	slot0_pages[nr_slot0_pages++] = gpa;
}

/* As setup_ap(), but the AP's VMSA is one for VMPL 1. */
static void setup_vmpl1(void)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int i;

	setup_unlaunched(2);
	ap = &sev->agents[1];
	vcpu_sregs_get(ap->vcpu, &sregs);
	vcpu_regs_get(ap->vcpu, &regs);
	regs.rip = (uintptr_t)ap_code;
	regs.rdi = ap->cmd_gva;
	snp_vmsa_init(&vmsa, &sregs, &regs, NULL);
	vmsa.bytes[SNP_VMSA_VMPL] = 1;
	virt_map_level(vm, SLOT0_ALIAS, 0, SLOT0_MAX, PG_LEVEL_2M);

	sev_vm_seal(sev);
	snp_launch_start(sev);
	snp_launch_update_slot0(sev, note_page);
	ASSERT_EQ(__snp_launch_finish(sev, NULL), 0);
	for (i = 0; i < 2; i++)
		sev_agent_boot(&sev->agents[i]);
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
}

/* Whatever KVM tries, it does not help; so userspace is told, as often as it asks. */
static void assert_vmpl_fault(int rc, uint64_t gpa)
{
	int i;

	for (i = 0; i < 2; i++) {
		sev_agent_assert_memory_fault(ap, rc, gpa, PRIVATE);
		rc = sev_agent_resume(ap);
	}
	sev_agent_assert_memory_fault(ap, rc, gpa, PRIVATE);
}

/* What VMPL 0 does not allow, VMPL 1 cannot do. */
SUBTEST(vmpl_permissions)
{
	const uint64_t gpa = GPA + 8 * PAGE_SIZE;
	struct kvm_run *run;
	int i, rc;

	setup_vmpl1();
	run = ap->vcpu->run;
	make_vmsa(VMSA);
	ap_creation(NAE_AP_CREATE, VMSA);

	/* It does not come as far as its first instruction. */
	rc = ap_run();
	TEST_ASSERT(rc == -EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
		    run->memory_fault.flags == PRIVATE &&
		    run->memory_fault.gpa < SLOT0_MAX &&
		    run->memory_fault.size == PAGE_SIZE,
		    "rc %d, exit reason %u: 0x%llx 0x%llx", rc, run->exit_reason,
		    run->memory_fault.gpa, run->memory_fault.flags);
	ASSERT_EQ(ap_starts(), 0ul);

	for (i = 0; i < nr_slot0_pages; i++)
		ASSERT_EQ(sev_agent_rmpadjust(agent, SLOT0_ALIAS + slot0_pages[i],
					      PAGE_SIZE, VMPL1(VMPL_ALL)), 0ul);
	ASSERT_EQ(ap_run(), 0);
	ASSERT_EQ(ap_starts(), 1ul);
	sev_agent_do(ap, SEV_NOP, 0, 0, 0);

	/* A page of VMPL 0's */
	sev_validate(agent, gpa, 2 * PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, gpa, 2 * PAGE_SIZE, 1);
	assert_vmpl_fault(sev_agent_start(ap, SEV_CHECK, gpa, PAGE_SIZE, 1), gpa);
	/* Nobody else minds. */
	sev_agent_check(agent, gpa, 2 * PAGE_SIZE, 1);

	/* To be read by VMPL 1: what stood still goes on. */
	ASSERT_EQ(sev_agent_rmpadjust(agent, gpa, PAGE_SIZE, VMPL1(VMPL_READ)), 0ul);
	ASSERT_EQ(sev_agent_resume(ap), 0);
	ASSERT_EQ(ap->cmd->result, 0ul);

	/* Only to be read; the page next to it is another one. */
	assert_vmpl_fault(sev_agent_start(ap, SEV_FILL, gpa, PAGE_SIZE, 2), gpa);
	sev_agent_check(agent, gpa, 2 * PAGE_SIZE, 1);
	ASSERT_EQ(sev_agent_rmpadjust(agent, gpa, PAGE_SIZE, VMPL1(VMPL_ALL)), 0ul);
	ASSERT_EQ(sev_agent_resume(ap), 0);
	sev_agent_check(agent, gpa, PAGE_SIZE, 2);
	sev_agent_check(agent, gpa + PAGE_SIZE, PAGE_SIZE, 1);
	assert_vmpl_fault(sev_agent_start(ap, SEV_READ, gpa + PAGE_SIZE, 0, 0),
			  gpa + PAGE_SIZE);

	/* And taken back */
	ASSERT_EQ(sev_agent_rmpadjust(agent, gpa + PAGE_SIZE, PAGE_SIZE,
				      VMPL1(VMPL_READ)), 0ul);
	ASSERT_EQ(sev_agent_resume(ap), 0);
	ASSERT_EQ(sev_agent_rmpadjust(agent, gpa, PAGE_SIZE, VMPL1(0)), 0ul);
	assert_vmpl_fault(sev_agent_start(ap, SEV_READ, gpa, 0, 0), gpa);

	/* With a fault that nobody resolves the VM can end as well. */
	sev_vm_free(sev);
}

/* Accept a huge page in small ones, which splits it. */
static void *split_in_thread(void *arg)
{
	sev_agent_pvalidate(arg, GPA, 32 * PAGE_SIZE, PAGE_SIZE, true);
	return NULL;
}

/* It leaves while a guest's processor splits it: nothing of it may be lost. */
SUBTEST(punch_while_it_is_split)
{
	long leaked = nr_leaked_pages();
	pthread_t thread;
	int i;

	require_huge();
	setup_vcpus(2);
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	for (i = 0; i < 32; i++) {
		sev_validate(agent, GPA, HUGE_SIZE, HUGE_SIZE);
		ASSERT_EQ(pthread_create(&thread, NULL, split_in_thread,
					 &sev->agents[1]), 0);
		usleep(i * 100);
		ASSERT_EQ(guest_memfd_punch(fd, 0, HUGE_SIZE), 0);
		pthread_join(thread, NULL);
		ASSERT_EQ(guest_memfd_punch(fd, 0, HUGE_SIZE), 0);
	}
	ASSERT_EQ(nr_leaked_pages(), leaked);
	sev_vm_free(sev);
}

/* A page that the guest has at one address cannot come back at another. */
SUBTEST(rebound_elsewhere)
{
	int rc;

	setup();
	vm_mem_set_private(vm, GPA, 2 * PAGE_SIZE);
	sev_validate(agent, GPA + PAGE_SIZE, PAGE_SIZE, PAGE_SIZE);
	vm_mem_region_delete(vm, SLOT);
	vm_mem_region_add_private(vm, GPA, SLOT, SIZE / PAGE_SIZE - 1, fd,
				  PAGE_SIZE);
	rc = sev_agent_start(agent, SEV_READ, GPA, 0, 0);
	sev_agent_assert_memory_fault(agent, rc, GPA, PRIVATE);
	/* As often as it likes */
	rc = sev_agent_resume(agent);
	sev_agent_assert_memory_fault(agent, rc, GPA, PRIVATE);

	vm_mem_region_delete(vm, SLOT);
	vm_mem_region_add_private(vm, GPA, SLOT, SIZE / PAGE_SIZE, fd, 0);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	sev_vm_free(sev);
}

/* --- memory that breaks ---------------------------------------------------------- */

/* One of the pages from GPA on, which are the only ones new since @others. */
static uint64_t break_page(int flag, bool *others)
{
	uint64_t pfn = guest_memfd_break_page(fd, flag, others);

	free(others);
	if (!pfn)
		subtest_skip("found no page to break");
	return pfn;
}

static void end_and_repair(uint64_t pfn, long leaked)
{
	sev_vm_free(sev);
	close(fd);
	ASSERT_EQ(nr_leaked_pages(), leaked);
	unpoison_page(pfn);
}

/* Of @nr_pages one breaks: a guest that uses it waits until it is another page. */
static void break_one_of(uint64_t nr_pages, uint64_t page_size, int flag)
{
	uint64_t i, gpa, pfn, bad = nr_pages;
	long leaked = nr_leaked_pages();
	struct sev_agent *victim;
	bool *others;
	int rc = 0;

	setup_vcpus(2);
	victim = &sev->agents[1];
	others = pages_in_use();
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	sev_validate(agent, GPA, nr_pages * PAGE_SIZE, page_size);
	sev_agent_fill(agent, GPA, nr_pages * PAGE_SIZE, 1);
	pfn = break_page(flag, others);

	for (i = 0; i < nr_pages; i++) {
		struct sev_agent *a = bad < nr_pages ? agent : victim;

		gpa = GPA + i * PAGE_SIZE;
		rc = sev_agent_start(a, SEV_CHECK, gpa, PAGE_SIZE, 1);
		if (!rc) {
			TEST_ASSERT(!a->cmd->result, "Page %lu has changed", i);
			continue;
		}
		TEST_ASSERT(a == victim, "Pages %lu and %lu are broken", bad, i);
		bad = i;
		ASSERT_EQ(rc, -EHWPOISON);
		ASSERT_EQ(sev_agent_resume(victim), -EHWPOISON);
	}
	TEST_ASSERT(bad < nr_pages, "The guest has not noticed");

	/* What comes in its place is not what the guest has validated. */
	gpa = GPA + bad * PAGE_SIZE;
	ASSERT_EQ(guest_memfd_punch(fd, bad * PAGE_SIZE, PAGE_SIZE), 0);
	ASSERT_EQ(sev_agent_resume(victim), KVM_EXIT_SHUTDOWN);
	sev_validate(agent, gpa, PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, gpa, PAGE_SIZE, 1);
	sev_agent_check(agent, GPA, nr_pages * PAGE_SIZE, 1);
	end_and_repair(pfn, leaked);
}

SUBTEST(memory_failure)
{
	break_one_of(16, PAGE_SIZE, KPF_LRU);
}

SUBTEST(memory_failure_in_huge_page)
{
	require_huge();
	break_one_of(HUGE_PAGES, HUGE_SIZE, KPF_COMPOUND_TAIL);
}

/* The page is in the file when the VM goes, and nobody writes to it. */
SUBTEST(memory_failure_then_exit)
{
	long leaked = nr_leaked_pages();
	bool *others;
	uint64_t pfn;

	setup();
	others = pages_in_use();
	vm_mem_set_private(vm, GPA, HUGE_SIZE);
	sev_validate(agent, GPA, 16 * PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, 16 * PAGE_SIZE, 1);
	pfn = break_page(KPF_LRU, others);
	end_and_repair(pfn, leaked);
}

/* A processor loses the page that holds its state. */
SUBTEST(memory_failure_of_vmsa)
{
	long leaked = nr_leaked_pages();
	pthread_t thread;
	bool *others;
	uint64_t pfn;

	require_huge();
	setup_ap();
	others = pages_in_use();
	make_vmsa(GPA + PAGE_SIZE);
	ap_creation(NAE_AP_CREATE, GPA + PAGE_SIZE);
	ASSERT_EQ(ap_run(), 0);
	ap->cmd->op = SEV_HANG;
	thread = ap_start_thread();
	pfn = break_page(KPF_COMPOUND_TAIL, others);
	assert_ap_fails(thread);
	sev_agent_do(agent, SEV_NOP, 0, 0, 0);
	end_and_repair(pfn, leaked);
}

/* Both at once, on memory of their own and on common memory */
static void *convert_in_thread(void *arg)
{
	struct sev_agent *a = arg;
	uint64_t gpa = GPA + HUGE_SIZE + a->vcpu->id * 64 * PAGE_SIZE;
	int i;

	for (i = 0; i < 4; i++) {
		sev_convert(a, gpa, 16 * PAGE_SIZE, true);
		sev_agent_fill(a, gpa, 16 * PAGE_SIZE, i);
		sev_agent_check(a, gpa, 16 * PAGE_SIZE, i);
		sev_convert(a, gpa, 16 * PAGE_SIZE, false);
		sev_agent_fill(a, SEV_SHARED(gpa), 16 * PAGE_SIZE, i);
		vm_mem_check(vm, gpa, 16 * PAGE_SIZE, i);
	}
	return NULL;
}

SUBTEST(two_vcpus_convert)
{
	pthread_t threads[2];
	int i;

	setup_vcpus(2);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(pthread_create(&threads[i], NULL, convert_in_thread,
					 &sev->agents[i]), 0);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	sev_vm_free(sev);
}

int main(int argc, char *argv[])
{
	require_sev_type(KVM_X86_SNP_VM);
	subtest_main(argc, argv);
}
