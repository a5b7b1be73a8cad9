// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an SEV-SNP guest can ask the host for, asked wrongly: each request gets the
 * answer that the GHCB specification (56421) has for it, the guest goes on, and
 * the host has not noticed.
 */
#define _GNU_SOURCE
#include <linux/kvm_para.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "private_mem.h"
#include "sev_vm.h"
#include "subtest.h"

#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define HUGE_SIZE	(2ULL << 20)
#define NO_GPA		(GPA + (1ull << 30))

static struct sev_vm *sev;
static struct sev_agent *agent;
static struct ghcb_page *in, *out;
static struct kvm_vm *vm;

/* Two vCPUs; the test's memory is shared. */
static void setup(void)
{
	sev = sev_vm_create_agents(KVM_X86_SNP_VM, 2);
	agent = &sev->agents[0];
	in = &agent->cmd->ghcb_in;
	out = &agent->cmd->ghcb_out;
	vm = sev->vm;
	vm_mem_region_add_private(vm, GPA, SLOT, HUGE_SIZE / PAGE_SIZE, -1, 0);
	sev_vm_map(sev, GPA, HUGE_SIZE);
	sev_vm_launch(sev);
}

/* Both vCPUs do what they are told. */
static void done(void)
{
	ghcb_init(in, NAE_HV_FEATURES, 0, 0);
	sev_agent_vmgexit(agent);
	ASSERT_EQ(ghcb_info1(agent), 0ul);
	ASSERT_EQ(ghcb_info2(agent), GHCB_HV_FT_SNP | GHCB_HV_FT_AP_CREATION);
	sev_agent_do(&sev->agents[1], SEV_NOP, 0, 0, 0);
	sev_agent_fill(agent, SEV_SHARED(GPA), PAGE_SIZE, 1);
	vm_mem_check(vm, GPA, PAGE_SIZE, 1);
	sev_convert(agent, GPA, PAGE_SIZE, true);
	sev_agent_fill(agent, GPA, PAGE_SIZE, 2);
	sev_agent_check(agent, GPA, PAGE_SIZE, 2);
	sev_vm_free(sev);
}

#define assert_result(_info1, _info2)						\
	TEST_ASSERT(ghcb_info1(agent) == (_info1) &&				\
		    ghcb_info2(agent) == (_info2),				\
		    "Exit 0x%lx: result 0x%lx 0x%lx, not 0x%lx 0x%lx",		\
		    ghcb_get(in, GHCB_EXIT_CODE), ghcb_info1(agent),		\
		    ghcb_info2(agent), (uint64_t)(_info1), (uint64_t)(_info2))

/* What is in @in is malformed, for that reason. */
#define assert_malformed(_reason)						\
do {										\
	sev_agent_vmgexit(agent);						\
	assert_result(GHCB_MALFORMED, _reason);					\
} while (0)

SUBTEST(not_registered)
{
	struct ghcb_page *other;

	setup();
	other = addr_gpa2hva(vm, GPA);

	/* Another page of shared memory: it is told so. */
	ghcb_init(other, NAE_HV_FEATURES, 0, 0);
	sev_agent_do(agent, SEV_VMGEXIT_AT, 0, 0, GPA);
	ASSERT_EQ(ghcb_get(other, GHCB_EXIT_INFO1), (uint64_t)GHCB_MALFORMED);
	ASSERT_EQ(ghcb_get(other, GHCB_EXIT_INFO2), (uint64_t)GHCB_ERR_NOT_REGISTERED);

	/* The other vCPU's is the other vCPU's. */
	ghcb_init(sev->agents[1].ghcb, NAE_HV_FEATURES, 0, 0);
	sev_agent_do(agent, SEV_VMGEXIT_AT, 0, 0, sev->agents[1].ghcb_gpa);
	ASSERT_EQ(ghcb_get(sev->agents[1].ghcb, GHCB_EXIT_INFO1),
		  (uint64_t)GHCB_MALFORMED);
	ASSERT_EQ(ghcb_get(sev->agents[1].ghcb, GHCB_EXIT_INFO2),
		  (uint64_t)GHCB_ERR_NOT_REGISTERED);
	done();
}

/* Nowhere to put an answer, not even that */
SUBTEST(no_ghcb)
{
	static const uint64_t gpas[] = {
		0, NO_GPA, 1ull << 47, 1ull << 51, -1ull << 12,
	};
	int i;

	setup();
	for (i = 0; i < ARRAY_SIZE(gpas); i++)
		sev_agent_do(agent, SEV_VMGEXIT_AT, 0, 0, gpas[i]);

	/* In private memory nobody but the guest can write. */
	vm_mem_set_private(vm, GPA + PAGE_SIZE, PAGE_SIZE);
	sev_validate(agent, GPA + PAGE_SIZE, PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA + PAGE_SIZE, PAGE_SIZE, 1);
	sev_agent_do(agent, SEV_VMGEXIT_AT, 0, 0, GPA + PAGE_SIZE);
	sev_agent_check(agent, GPA + PAGE_SIZE, PAGE_SIZE, 1);
	done();
}

/* SEV_MSR registers the agent's own afterwards; so it is not what is asked for. */
SUBTEST(register_elsewhere)
{
	static const uint64_t gpas[] = { 0, NO_GPA, 1ull << 51, -1ull << 12 };
	uint64_t msr;
	int i;

	setup();
	for (i = 0; i < ARRAY_SIZE(gpas); i++) {
		msr = sev_agent_msr(agent, gpas[i] | GHCB_MSR_REG_GPA_REQ);
		ASSERT_EQ(GHCB_MSR_INFO(msr), (uint64_t)GHCB_MSR_REG_GPA_RESP);
	}
	done();
}

SUBTEST(usage)
{
	uint32_t usage;

	setup();
	for (usage = 1; usage; usage <<= 1) {
		ghcb_init(in, NAE_HV_FEATURES, 0, 0);
		memcpy(&in->bytes[GHCB_USAGE], &usage, sizeof(usage));
		assert_malformed(GHCB_ERR_INVALID_USAGE);
	}
	done();
}

/* --- missing fields ------------------------------------------------------------ */

static void check_missing(uint64_t code, uint64_t info1, uint64_t info2,
			  const unsigned int *fields)
{
	static const unsigned int always[] = {
		GHCB_EXIT_CODE, GHCB_EXIT_INFO1, GHCB_EXIT_INFO2, 0,
	};
	const unsigned int *lists[] = { always, fields }, *missing, *field;
	int i;

	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		for (missing = lists[i]; *missing; missing++) {
			ghcb_init(in, code, info1, info2);
			for (field = fields; *field; field++)
				ghcb_put(in, *field, 0);
			ghcb_mark_valid(in, *missing, false);
			assert_malformed(GHCB_ERR_MISSING_INPUT);
		}
	}
}

#define MISSING(_code, _info1, _fields...)					\
	check_missing(_code, _info1, 0, (const unsigned int []) { _fields })

SUBTEST(missing_input)
{
	setup();
	MISSING(NAE_HV_FEATURES, 0, 0);
	MISSING(0x37, 0, GHCB_RAX, 0);				/* write DR7 */
	MISSING(0x6f, 0, GHCB_RCX, 0);				/* RDPMC */
	MISSING(NAE_CPUID, 0, GHCB_RAX, GHCB_RCX, 0);
	MISSING(NAE_IOIO, IOIO_OUTB(0x80), GHCB_RAX, 0);
	MISSING(NAE_IOIO, IOIO_OUTB(0x80) | IOIO_STR, GHCB_SCRATCH, 0);
	MISSING(NAE_IOIO, IOIO_OUTB(0x80) | IOIO_STR | IOIO_IN, GHCB_SCRATCH, 0);
	MISSING(NAE_MSR, 0, GHCB_RCX, 0);
	MISSING(NAE_MSR, 1, GHCB_RCX, GHCB_RAX, GHCB_RDX, 0);
	MISSING(NAE_VMMCALL, 0, GHCB_RAX, GHCB_CPL, 0);
	MISSING(0x8a, 0, GHCB_RAX, GHCB_RCX, GHCB_RDX, 0);	/* MONITOR */
	MISSING(0x8b, 0, GHCB_RAX, GHCB_RCX, 0);		/* MWAIT */
	MISSING(NAE_MMIO_READ, 0, GHCB_SCRATCH, 0);
	MISSING(NAE_MMIO_WRITE, 0, GHCB_SCRATCH, 0);
	MISSING(NAE_PSC, 0, GHCB_SCRATCH, 0);
	MISSING(NAE_GUEST_REQUEST, 0, 0);
	MISSING(NAE_EXT_GUEST_REQUEST, 0, GHCB_RAX, GHCB_RBX, 0);
	MISSING(NAE_AP_CREATION, NAE_AP_CREATE, GHCB_RAX, 0);
	MISSING(NAE_AP_CREATION, NAE_AP_CREATE_ON_INIT, GHCB_RAX, 0);

	/* The sizes of XSAVE areas depend on XCR0. */
	ghcb_init(in, NAE_CPUID, 0, 0);
	ghcb_put(in, GHCB_RAX, 0xd);
	ghcb_put(in, GHCB_RCX, 0);
	assert_malformed(GHCB_ERR_MISSING_INPUT);
	ghcb_put(in, GHCB_XCR0, 1);
	sev_agent_vmgexit(agent);
	assert_result(0, 0);
	done();
}

SUBTEST(unknown_events)
{
	static const uint64_t codes[] = {
		0x00, 0x10, 0x2f, 0x40, 0x5f,	/* CR and DR accesses, exceptions */
		0x60, 0x61, 0x62, 0x64, 0x7f,	/* interrupts, SMI, INIT, shutdown */
		0x80, 0x82, 0x83, 0x86,		/* VMRUN, VMLOAD, VMSAVE, SKINIT */
		0x8d, 0x400, 0x401, 0x402, 0x403,
		0x80000000, 0x80000006, 0x8000000f, 0x80000014, 0x80000018,
		0x8000fffc, 0x80010000, 0xffffffff,
		1ull << 32 | NAE_CPUID, 1ull << 32 | NAE_PSC, 1ull << 63, -1ull, -2ull,
	};
	int i;

	setup();
	for (i = 0; i < ARRAY_SIZE(codes); i++) {
		ghcb_init(in, codes[i], 0, 0);
		ghcb_put(in, GHCB_RAX, 0);
		ghcb_put(in, GHCB_RCX, 0);
		ghcb_put(in, GHCB_RDX, 0);
		ghcb_put(in, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER);
		assert_malformed(GHCB_ERR_INVALID_EVENT);
	}
	done();
}

/* --- the scratch area ---------------------------------------------------------- */

struct scratch {
	uint64_t at;
	uint64_t size;
};

/* Each is outside of the GHCB's shared buffer, as a whole or in part. */
static int bad_scratches(struct scratch *s)
{
	uint64_t ghcb = agent->ghcb_gpa;
	const struct scratch bad[] = {
		{ 0, 8 },
		{ ghcb, 8 },
		{ ghcb + GHCB_BUFFER - 8, 8 },
		{ ghcb + GHCB_BUFFER - 4, 8 },
		{ ghcb + GHCB_BUFFER + GHCB_BUFFER_SIZE - 4, 8 },
		{ ghcb + GHCB_BUFFER + GHCB_BUFFER_SIZE, 8 },
		{ ghcb + PAGE_SIZE - 8, 8 },
		{ ghcb - 8, 8 },
		{ ghcb + PAGE_SIZE, 8 },
		{ GPA, 8 },
		{ GPA + PAGE_SIZE + GHCB_BUFFER, 8 },
		{ sev->agents[1].ghcb_gpa + GHCB_BUFFER, 8 },
		{ NO_GPA, 8 },
		{ -8ull, 8 },
		{ -4ull, 8 },
		{ ghcb + GHCB_BUFFER, GHCB_BUFFER_SIZE + 8 },
		{ ghcb + GHCB_BUFFER, 16 * PAGE_SIZE },
		{ ghcb + GHCB_BUFFER, 0x7ffffff8 },
	};

	memcpy(s, bad, sizeof(bad));
	return ARRAY_SIZE(bad);
}

SUBTEST(scratch_mmio)
{
	struct scratch s[32];
	int i, nr;

	setup();
	nr = bad_scratches(s);
	for (i = 0; i < nr; i++) {
		ghcb_init(in, NAE_MMIO_READ, NO_GPA, s[i].size);
		ghcb_put(in, GHCB_SCRATCH, s[i].at);
		assert_malformed(GHCB_ERR_INVALID_SCRATCH);
		ghcb_init(in, NAE_MMIO_WRITE, NO_GPA, s[i].size);
		ghcb_put(in, GHCB_SCRATCH, s[i].at);
		assert_malformed(GHCB_ERR_INVALID_SCRATCH);
	}
	/* A length that wraps, with an address that is good */
	ghcb_init(in, NAE_MMIO_READ, NO_GPA, -8ull);
	ghcb_put(in, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER);
	assert_malformed(GHCB_ERR_INVALID_SCRATCH);
	done();
}

/* And what is good is good. */
SUBTEST(mmio)
{
	struct kvm_run *run;
	int rc;

	setup();
	run = agent->vcpu->run;
	ghcb_init(in, NAE_MMIO_WRITE, NO_GPA, 8);
	ghcb_put(in, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER + 16);
	in->words[GHCB_BUFFER / 8 + 2] = 0x1122334455667788;
	rc = sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
	ASSERT_EQ(rc, KVM_EXIT_MMIO);
	ASSERT_EQ(run->mmio.phys_addr, (__u64)NO_GPA);
	ASSERT_EQ(run->mmio.len, 8u);
	ASSERT_EQ(run->mmio.is_write, (__u8)1);
	ASSERT_EQ(*(uint64_t *)run->mmio.data, 0x1122334455667788ul);
	ASSERT_EQ(sev_agent_resume(agent), 0);
	assert_result(0, 0);

	ghcb_init(in, NAE_MMIO_READ, NO_GPA + 64, 4);
	ghcb_put(in, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER);
	rc = sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
	ASSERT_EQ(rc, KVM_EXIT_MMIO);
	ASSERT_EQ(run->mmio.phys_addr, (__u64)NO_GPA + 64);
	ASSERT_EQ(run->mmio.len, 4u);
	*(uint32_t *)run->mmio.data = 0xabcdef01;
	ASSERT_EQ(sev_agent_resume(agent), 0);
	assert_result(0, 0);
	ASSERT_EQ((uint32_t)out->words[GHCB_BUFFER / 8], 0xabcdef01u);
	done();
}

SUBTEST(scratch_string_io)
{
	static const uint64_t ops[] = {
		IOIO_OUTB(0x80) | IOIO_STR | IOIO_REP,
		IOIO_OUTB(0x80) | IOIO_STR | IOIO_REP | IOIO_IN,
	};
	struct scratch s[32];
	int i, j, nr;

	setup();
	nr = bad_scratches(s);
	for (i = 0; i < nr; i++) {
		for (j = 0; j < ARRAY_SIZE(ops); j++) {
			ghcb_init(in, NAE_IOIO, ops[j], s[i].size);
			ghcb_put(in, GHCB_SCRATCH, s[i].at);
			assert_malformed(GHCB_ERR_INVALID_SCRATCH);
		}
	}
	done();
}

/* Counts that are no number of bytes; an answer, an error, but no more */
SUBTEST(string_io_counts)
{
	static const uint64_t counts[] = {
		0x7fffffff, 0x80000000, 1ull << 32, 1ull << 62, -1ull,
	};
	int i, rc;

	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		setup();
		/* 32 bits each */
		ghcb_init(in, NAE_IOIO, (0x80ull << 16) | 1 << 6 | IOIO_STR | IOIO_REP,
			  counts[i]);
		ghcb_put(in, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER);
		rc = sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
		if (!rc) {
			ASSERT_EQ(ghcb_info1(agent), (uint64_t)GHCB_MALFORMED);
			done();
		} else {
			ASSERT_EQ(rc, -EINVAL);
			sev_vm_free(sev);
		}
	}
}

/* --- page state changes -------------------------------------------------------- */

static void psc_init(uint16_t cur, uint16_t end)
{
	ghcb_init(in, NAE_PSC, 0, 0);
	ghcb_put(in, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER);
	in->words[GHCB_BUFFER / 8] = (uint32_t)end << 16 | cur;
}

static void psc_put(int i, uint64_t entry)
{
	in->words[GHCB_BUFFER / 8 + 1 + i] = entry;
}

static uint16_t psc_cur(void)
{
	return out->words[GHCB_BUFFER / 8];
}

#define PSC_OK(_i)	PSC_ENTRY(GPA + (_i) * 2 * PAGE_SIZE, PSC_PRIVATE)

SUBTEST(psc_scratch)
{
	struct scratch s[32];
	int i, nr;

	setup();
	nr = bad_scratches(s);
	for (i = 0; i < nr; i++) {
		/* The list's length is in the list. */
		if (s[i].size != 8)
			continue;
		psc_init(0, 0);
		psc_put(0, PSC_OK(0));
		ghcb_put(in, GHCB_SCRATCH, s[i].at);
		assert_malformed(GHCB_ERR_INVALID_SCRATCH);
	}
	psc_init(0, 0);
	ghcb_put(in, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER + 1);
	assert_malformed(GHCB_ERR_INVALID_SCRATCH);
	done();
}

SUBTEST(psc_header)
{
	static const uint16_t ends[] = {
		PSC_MAX_ENTRIES, PSC_MAX_ENTRIES + 1, 0xff, 0x100, 0x7fff, 0x8000,
		0xffff,
	};
	int i;

	setup();
	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		psc_init(0, ends[i]);
		psc_put(0, PSC_OK(0));
		sev_agent_vmgexit(agent);
		assert_result(0, PSC_ERR_HEADER);
		ASSERT_EQ(psc_cur(), 0);
		psc_init(ends[i], ends[i]);
		sev_agent_vmgexit(agent);
		assert_result(0, PSC_ERR_HEADER);
	}

	/* The list has to end in the buffer, wherever it begins. */
	psc_init(0, 1);
	ghcb_put(in, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER + GHCB_BUFFER_SIZE - 16);
	in->words[(GHCB_BUFFER + GHCB_BUFFER_SIZE - 16) / 8] = 1 << 16;
	sev_agent_vmgexit(agent);
	assert_result(0, PSC_ERR_HEADER);
	done();
}

SUBTEST(psc_entries)
{
	uint64_t bad[64];
	int nr = 0, i;

	setup();
	for (i = 0; i < 16; i++) {
		if (i < PSC_PRIVATE || i > PSC_UNSMASH)
			bad[nr++] = PSC_ENTRY(GPA, i);
	}
	bad[nr++] = PSC_ENTRY(GPA + PAGE_SIZE, PSC_PRIVATE) | PSC_2M;
	bad[nr++] = PSC_ENTRY(GPA + HUGE_SIZE - PAGE_SIZE, PSC_SHARED) | PSC_2M;
	bad[nr++] = PSC_ENTRY(GPA, PSC_PRIVATE) | 2;
	bad[nr++] = PSC_ENTRY(GPA, PSC_PRIVATE) | 0xfff;
	bad[nr++] = PSC_ENTRY(GPA, PSC_PRIVATE) | PSC_2M | 513;

	for (i = 0; i < nr; i++) {
		int rc;

		psc_init(0, 0);
		psc_put(0, bad[i]);
		sev_agent_vmgexit(agent);
		assert_result(0, PSC_ERR_ENTRY);
		ASSERT_EQ(psc_cur(), 0);

		/* After a good one, which is done */
		psc_init(0, 2);
		psc_put(0, PSC_OK(0));
		psc_put(1, bad[i]);
		psc_put(2, PSC_OK(1));
		rc = sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
		sev_assert_map_gpa_range(agent, rc, GPA, PAGE_SIZE, true, false);
		sev_grant_map_gpa_range(agent);
		ASSERT_EQ(sev_agent_resume(agent), 0);
		assert_result(0, PSC_ERR_ENTRY);
		ASSERT_EQ(psc_cur(), 1);
		vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	}

	/* Hints are done at once. */
	psc_init(0, 2);
	psc_put(0, PSC_ENTRY(GPA, PSC_PSMASH) | PSC_2M);
	psc_put(1, PSC_ENTRY(GPA + PAGE_SIZE, PSC_UNSMASH));
	psc_put(2, PSC_ENTRY(GPA + 2 * PAGE_SIZE, PSC_UNSMASH) | 1);
	sev_agent_vmgexit(agent);
	assert_result(0, 0);
	ASSERT_EQ(psc_cur(), 3);
	done();
}

/* The list changes while userspace has it: the guest, or we, can write to it. */
SUBTEST(psc_changing_list)
{
	struct ghcb_page *ghcb;
	int rc;

	setup();
	ghcb = agent->ghcb;
	psc_init(0, 3);
	psc_put(0, PSC_OK(0));
	psc_put(1, PSC_OK(1));
	psc_put(2, PSC_OK(2));
	psc_put(3, PSC_OK(3));
	rc = sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
	sev_assert_map_gpa_range(agent, rc, GPA, PAGE_SIZE, true, false);
	/* Longer than the buffer, and all of it huge */
	ghcb->words[GHCB_BUFFER / 8] = 0xffff0000;
	ghcb->words[GHCB_BUFFER / 8 + 1] = -1ull;
	ghcb->words[GHCB_BUFFER / 8 + 2] = PSC_OK(5) | PSC_2M;
	sev_grant_map_gpa_range(agent);
	rc = sev_agent_resume(agent);
	ASSERT_EQ(rc, 0);
	assert_result(0, PSC_ERR_ENTRY);
	vm_mem_set_shared(vm, GPA, PAGE_SIZE);
	done();
}

SUBTEST(psc_msr)
{
	uint64_t msr;
	int i, rc;

	setup();
	for (i = 0; i < 16; i++) {
		if (i == PSC_PRIVATE || i == PSC_SHARED)
			continue;
		msr = sev_agent_msr(agent, PSC_ENTRY(GPA, i) | GHCB_MSR_PSC_REQ);
		ASSERT_EQ(GHCB_MSR_INFO(msr), (uint64_t)GHCB_MSR_PSC_RESP);
		TEST_ASSERT(msr >> 32, "Operation %d: no error", i);
	}

	/* Where there is no memory, it is for userspace to say. */
	rc = sev_agent_start(agent, SEV_MSR, 0, 0,
			     PSC_ENTRY(NO_GPA, PSC_PRIVATE) | GHCB_MSR_PSC_REQ);
	sev_assert_map_gpa_range(agent, rc, NO_GPA, PAGE_SIZE, true, false);
	agent->vcpu->run->hypercall.ret = EINVAL;
	ASSERT_EQ(sev_agent_resume(agent), 0);
	TEST_ASSERT(agent->cmd->result >> 32, "No error");
	done();
}

/* --- requests to the firmware -------------------------------------------------- */

SUBTEST(guest_request)
{
	const uint64_t req = GPA, resp = GPA + PAGE_SIZE;
	const uint64_t bad[][2] = {
		{ req + 8, resp }, { req, resp + 8 }, { req + 2048, resp + 2048 },
		{ req, req }, { NO_GPA, resp }, { req, NO_GPA }, { -1ull << 12, resp },
		{ req, -1ull << 12 }, { 1ull << 51, resp }, { req, 1ull << 51 },
	};
	int i;

	setup();
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		ghcb_init(in, NAE_GUEST_REQUEST, bad[i][0], bad[i][1]);
		assert_malformed(GHCB_ERR_INVALID_INPUT);

		ghcb_init(in, NAE_EXT_GUEST_REQUEST, bad[i][0], bad[i][1]);
		ghcb_put(in, GHCB_RAX, GPA + 2 * PAGE_SIZE);
		ghcb_put(in, GHCB_RBX, 1);
		assert_malformed(GHCB_ERR_INVALID_INPUT);
	}

	/* No message: that is for the firmware to say. */
	memset(addr_gpa2hva(vm, GPA), 0xff, 3 * PAGE_SIZE);
	for (i = 0; i < 2; i++) {
		ghcb_init(in, i ? NAE_EXT_GUEST_REQUEST : NAE_GUEST_REQUEST, req, resp);
		ghcb_put(in, GHCB_RAX, GPA + 2 * PAGE_SIZE);
		ghcb_put(in, GHCB_RBX, 1);
		sev_agent_vmgexit(agent);
		ASSERT_EQ(ghcb_info1(agent), 0ul);
		TEST_ASSERT(ghcb_info2(agent) && !(ghcb_info2(agent) >> 32),
			    "Garbage as a message: 0x%lx", ghcb_info2(agent));
	}

	/* A report with certificates, and nowhere to put them */
	((uint8_t *)addr_gpa2hva(vm, GPA))[0x34] = 5;
	ghcb_init(in, NAE_EXT_GUEST_REQUEST, req, resp);
	ghcb_put(in, GHCB_RAX, GPA + 2 * PAGE_SIZE + 8);
	ghcb_put(in, GHCB_RBX, 1);
	assert_malformed(GHCB_ERR_INVALID_INPUT);
	ghcb_init(in, NAE_EXT_GUEST_REQUEST, req, resp);
	ghcb_put(in, GHCB_RAX, NO_GPA);
	ghcb_put(in, GHCB_RBX, 1);
	assert_malformed(GHCB_ERR_INVALID_INPUT);

	/* In private memory KVM can neither read nor write. */
	vm_mem_set_private(vm, GPA, 2 * PAGE_SIZE);
	sev_validate(agent, GPA, 2 * PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, 2 * PAGE_SIZE, 1);
	ghcb_init(in, NAE_GUEST_REQUEST, req, resp);
	sev_agent_vmgexit(agent);
	TEST_ASSERT(ghcb_info1(agent) || ghcb_info2(agent), "It is answered");
	sev_agent_check(agent, GPA, 2 * PAGE_SIZE, 1);
	vm_mem_set_shared(vm, GPA, 2 * PAGE_SIZE);
	vm_mem_punch(vm, GPA, 2 * PAGE_SIZE);
	done();
}

/* --- processors ---------------------------------------------------------------- */

static void ap_init(uint32_t id, uint32_t op, uint64_t gpa, uint64_t features)
{
	ghcb_init(in, NAE_AP_CREATION, (uint64_t)id << 32 | op, gpa);
	ghcb_put(in, GHCB_RAX, features);
}

SUBTEST(ap_creation)
{
	static const uint32_t ops[] = { NAE_AP_CREATE, NAE_AP_CREATE_ON_INIT };
	const uint64_t vmsa = GPA + PAGE_SIZE;
	int i, bit;

	setup();
	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		/* A processor that there is not */
		ap_init(2, ops[i], vmsa, SEV_FEAT_SNP_ACTIVE);
		assert_malformed(GHCB_ERR_INVALID_INPUT);
		ap_init(-1u, ops[i], vmsa, SEV_FEAT_SNP_ACTIVE);
		assert_malformed(GHCB_ERR_INVALID_INPUT);

		/* A VMSA where none can be */
		ap_init(1, ops[i], vmsa + 8, SEV_FEAT_SNP_ACTIVE);
		assert_malformed(GHCB_ERR_INVALID_INPUT);
		ap_init(1, ops[i], GPA, SEV_FEAT_SNP_ACTIVE);
		assert_malformed(GHCB_ERR_INVALID_INPUT);
		ap_init(1, ops[i], 0xfffffffffffff000, SEV_FEAT_SNP_ACTIVE);
		assert_malformed(GHCB_ERR_INVALID_INPUT);

		/* Features that the VM does not have, or lacks */
		for (bit = 0; bit < 64; bit++) {
			ap_init(1, ops[i], vmsa, SEV_FEAT_SNP_ACTIVE ^ 1ull << bit);
			assert_malformed(GHCB_ERR_INVALID_INPUT);
		}
	}

	for (i = 3; i < 20; i++) {
		ap_init(1, i, vmsa, SEV_FEAT_SNP_ACTIVE);
		assert_malformed(GHCB_ERR_INVALID_INPUT);
	}
	ap_init(1, -1u, vmsa, SEV_FEAT_SNP_ACTIVE);
	assert_malformed(GHCB_ERR_INVALID_INPUT);
	ap_init(2, NAE_AP_DESTROY, 0, 0);
	assert_malformed(GHCB_ERR_INVALID_INPUT);
	done();
}

/* --- the MSR protocol ---------------------------------------------------------- */

SUBTEST(unknown_msr_codes)
{
	uint64_t code;

	setup();
	for (code = 1; code < 0x1000; code++) {
		uint64_t msr = 0x12345ull << 12 | code;

		switch (code) {
		case GHCB_MSR_SEV_INFO_REQ:
		case GHCB_MSR_CPUID_REQ:
		case GHCB_MSR_AP_RESET_HOLD_REQ:
		case GHCB_MSR_PREF_GPA_REQ:
		case GHCB_MSR_REG_GPA_REQ:
		case GHCB_MSR_PSC_REQ:
		case GHCB_MSR_HV_FT_REQ:
		case GHCB_MSR_TERM_REQ:
			continue;
		}
		/* A sample of what is far from everything */
		if (code > 0x140 && code % 61 && code < 0xff0)
			continue;
		/* There is no answer to that. */
		ASSERT_EQ(sev_agent_msr(agent, msr), msr);
	}
	done();
}

/* --- anything ------------------------------------------------------------------ */

static uint64_t rnd_state = 0x853c49e6748fea9b;

static uint64_t rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state;
}

static uint64_t rnd_value(void)
{
	const uint64_t some[] = {
		0, 1, 8, PAGE_SIZE, GPA, GPA + PAGE_SIZE, NO_GPA, agent->ghcb_gpa,
		agent->ghcb_gpa + GHCB_BUFFER, agent->ghcb_gpa + GHCB_BUFFER + 2024,
		1ull << 32, 1ull << 32 | 1, 1ull << 32 | 2, 1ull << 31, 1ull << 63, -1ull,
	};

	return rnd() % 4 ? some[rnd() % ARRAY_SIZE(some)] : rnd() >> rnd() % 64;
}

SUBTEST(random_requests)
{
	/* Not HLT, AP reset hold, shutdown or what else the vCPU would stay in */
	static const uint64_t codes[] = {
		NAE_CPUID, NAE_IOIO, NAE_MMIO_READ, NAE_MMIO_WRITE, NAE_PSC,
		NAE_GUEST_REQUEST, NAE_EXT_GUEST_REQUEST, NAE_AP_CREATION,
		NAE_HV_FEATURES, 0x27, 0x37, 0x6e, 0x87, 0x89, 0x80000005,
	};
	static const unsigned int fields[] = {
		GHCB_RAX, GHCB_RCX, GHCB_RDX, GHCB_RBX, GHCB_SCRATCH, GHCB_XCR0,
		GHCB_EXIT_INFO1, GHCB_EXIT_INFO2,
	};
	int i, j, rc, exits, restarts = 0;

	setup();
	for (i = 0; i < 400; i++) {
		uint64_t code = codes[rnd() % ARRAY_SIZE(codes)];

		ghcb_init(in, code, rnd_value(), rnd_value());
		for (j = 0; j < ARRAY_SIZE(fields); j++) {
			if (rnd() % 4)
				ghcb_put(in, fields[j], rnd_value());
		}
		if (code == NAE_PSC && rnd() % 8)
			ghcb_put(in, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER);
		for (j = GHCB_BUFFER / 8; j < (GHCB_BUFFER + GHCB_BUFFER_SIZE) / 8; j++)
			in->words[j] = rnd() % 2 ? PSC_ENTRY(GPA, rnd() % 4) + rnd() % 16 :
						   rnd_value();
		in->words[GHCB_BUFFER / 8] = (rnd() % 16) << 16 | rnd() % 4;
		/* This vCPU would not come back. */
		if (code == NAE_AP_CREATION && !(ghcb_get(in, GHCB_EXIT_INFO1) >> 32))
			continue;

		rc = sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
		for (exits = 0; rc > 0 && exits < 1000; exits++) {
			switch (rc) {
			case KVM_EXIT_HYPERCALL:
				agent->vcpu->run->hypercall.ret = rnd() % 2 ? EINVAL : 0;
				break;
			case KVM_EXIT_MMIO:
			case KVM_EXIT_IO:
				break;
			case KVM_EXIT_INTERNAL_ERROR:
				goto out;
			default:
				TEST_FAIL("Exit code 0x%lx: exit reason %d", code, rc);
			}
			rc = sev_agent_resume(agent);
		}
out:
		/* KVM may give the guest up; then there is another one. */
		if (rc) {
			TEST_ASSERT((rc == -EINVAL || rc == KVM_EXIT_INTERNAL_ERROR) &&
				    restarts++ < 100,
				    "Exit code 0x%lx: KVM_RUN gives %d", code, rc);
			sev_vm_free(sev);
			setup();
		}
	}
	sev_agent_do(agent, SEV_NOP, 0, 0, 0);
	sev_vm_free(sev);
}

int main(int argc, char *argv[])
{
	require_sev_type(KVM_X86_SNP_VM);
	subtest_main(argc, argv);
}
