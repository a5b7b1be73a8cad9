// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an SEV-SNP or SEV-ES guest can ask the host for, asked wrongly: each request
 * gets the answer that the GHCB specification (56421) has for it, the guest goes
 * on, and the host has not noticed.
 */
#define _GNU_SOURCE
#include <linux/kvm_para.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "apic.h"
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

/* Who asks */
static unsigned long type = KVM_X86_SNP_VM;
static uint16_t version = 2;

static bool is_snp(void)
{
	return type == KVM_X86_SNP_VM;
}

/* A case for SNP guests, and for SEV-ES guests of both versions of the protocol */
#define GHCB_TEST(_name)							\
static void test_##_name(void);							\
SUBTEST(_name)									\
{										\
	test_##_name();								\
}										\
SUBTEST(es_##_name)								\
{										\
	type = KVM_X86_SEV_ES_VM;						\
	test_##_name();								\
}										\
SUBTEST(es_version_1_##_name)							\
{										\
	type = KVM_X86_SEV_ES_VM;						\
	version = 1;								\
	test_##_name();								\
}										\
static void test_##_name(void)

/* Two vCPUs; the test's memory is shared. */
static void setup(void)
{
	if (!sev_type_supported(type))
		subtest_skip("no VMs of type %lu", type);
	sev = __sev_vm_create_agents(type, 2, version);
	agent = &sev->agents[0];
	in = &agent->cmd->ghcb_in;
	out = &agent->cmd->ghcb_out;
	vm = sev->vm;
	if (is_snp())
		vm_mem_region_add_private(vm, GPA, SLOT, HUGE_SIZE / PAGE_SIZE, -1, 0);
	else
		vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, GPA, SLOT,
					    HUGE_SIZE / PAGE_SIZE, 0);
	sev_vm_map(sev, GPA, HUGE_SIZE);
	sev_vm_launch(sev);
}

static uint64_t hv_features(void)
{
	return is_snp() ? GHCB_HV_FT_SNP | GHCB_HV_FT_AP_CREATION : 0;
}

/* Both vCPUs do what they are told. */
static void done(void)
{
	/* Each version has this one. */
	ghcb_init(in, NAE_CPUID, 0, 0);
	ghcb_put(in, GHCB_RAX, 0x80000000);
	ghcb_put(in, GHCB_RCX, 0);
	sev_agent_vmgexit(agent);
	ASSERT_EQ(ghcb_info1(agent), 0ul);
	ASSERT_EQ(ghcb_info2(agent), 0ul);
	TEST_ASSERT(ghcb_get(out, GHCB_RAX) >= 0x8000001f, "CPUID 0x80000000 gives 0x%lx",
		    ghcb_get(out, GHCB_RAX));
	if (version >= 2) {
		ghcb_init(in, NAE_HV_FEATURES, 0, 0);
		sev_agent_vmgexit(agent);
		ASSERT_EQ(ghcb_info1(agent), 0ul);
		ASSERT_EQ(ghcb_info2(agent), hv_features());
	}
	sev_agent_do(&sev->agents[1], SEV_NOP, 0, 0, 0);
	sev_agent_fill(agent, SEV_SHARED(GPA), PAGE_SIZE, 1);
	vm_mem_check(vm, GPA, PAGE_SIZE, 1);
	if (is_snp())
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
GHCB_TEST(no_ghcb)
{
	static const uint64_t gpas[] = {
		0, NO_GPA, 1ull << 47, 1ull << 51, -1ull << 12,
	};
	int i;

	setup();
	for (i = 0; i < ARRAY_SIZE(gpas); i++)
		sev_agent_do(agent, SEV_VMGEXIT_AT, 0, 0, gpas[i]);

	if (!is_snp()) {
		done();
		return;
	}

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

GHCB_TEST(usage)
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

/* Which version the guest takes itself to speak makes no difference. */
GHCB_TEST(protocol_version)
{
	static const uint16_t versions[] = { 0, 1, 2, 3, 0xff, 0x100, 0xffff };
	int i;

	setup();
	for (i = 0; i < ARRAY_SIZE(versions); i++) {
		ghcb_init(in, NAE_HV_FEATURES, 0, 0);
		memcpy(&in->bytes[GHCB_VERSION], &versions[i], sizeof(versions[i]));
		if (version < 2) {
			assert_malformed(GHCB_ERR_INVALID_EVENT);
			continue;
		}
		sev_agent_vmgexit(agent);
		assert_result(0, hv_features());
	}
	done();
}

/* --- what processors and hypervisors answer every guest ------------------------- */

/* For the guest, in which nobody intercepts it */
static void guest_rdtsc(uint64_t where)
{
	*(uint64_t *)where = rdtsc();
}

static uint64_t tsc_of_guest(void)
{
	sev_agent_do(agent, SEV_EXEC, (uintptr_t)guest_rdtsc, 0,
		     agent->cmd_gva + offsetof(struct sev_agent_cmd, data));
	return *(uint64_t *)agent->cmd->data;
}

static uint64_t tsc_of_ghcb(uint64_t code)
{
	ghcb_init(in, code, 0, 0);
	sev_agent_vmgexit(agent);
	assert_result(0, 0);
	return ghcb_get(out, GHCB_RDX) << 32 | (uint32_t)ghcb_get(out, GHCB_RAX);
}

static void guest_msr(uint32_t msr, bool write, uint64_t value)
{
	ghcb_init(in, NAE_MSR, write, 0);
	ghcb_put(in, GHCB_RCX, msr);
	if (write) {
		ghcb_put(in, GHCB_RAX, (uint32_t)value);
		ghcb_put(in, GHCB_RDX, value >> 32);
	}
	sev_agent_vmgexit(agent);
}

/* The time is the guest's own; the auxiliary value is what it has written. */
GHCB_TEST(time_stamps)
{
	uint64_t last, now;
	int i;

	setup();
	last = tsc_of_guest();
	for (i = 0; i < 12; i++) {
		switch (i % 3) {
		case 0:
			now = tsc_of_ghcb(NAE_RDTSC);
			break;
		case 1:
			now = tsc_of_ghcb(NAE_RDTSCP);
			break;
		default:
			now = tsc_of_guest();
			break;
		}
		TEST_ASSERT(now > last && now - last < 1ull << 40,
			    "%d: the TSC goes from 0x%lx to 0x%lx", i, last, now);
		ASSERT_EQ(ghcb_get(out, GHCB_RAX) >> 32, 0ul);
		ASSERT_EQ(ghcb_get(out, GHCB_RDX) >> 32, 0ul);
		last = now;
	}

	guest_msr(MSR_TSC_AUX, true, 0x12345678);
	assert_result(0, 0);
	tsc_of_ghcb(NAE_RDTSCP);
	ASSERT_EQ(ghcb_get(out, GHCB_RCX), 0x12345678ul);
	done();
}

GHCB_TEST(ap_jump_table)
{
	static const uint64_t requests[] = { 2, 3, 1ull << 32, 1ull << 63, -1ull };
	int i;

	setup();
	/* None at first */
	ghcb_init(in, NAE_AP_JUMP_TABLE, 1, 0);
	sev_agent_vmgexit(agent);
	assert_result(0, 0);

	ghcb_init(in, NAE_AP_JUMP_TABLE, 0, GPA + 0x123000);
	sev_agent_vmgexit(agent);
	assert_result(0, 0);
	ghcb_init(in, NAE_AP_JUMP_TABLE, 1, 4711);
	sev_agent_vmgexit(agent);
	assert_result(0, GPA + 0x123000);

	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		ghcb_init(in, NAE_AP_JUMP_TABLE, requests[i], GPA);
		assert_malformed(GHCB_ERR_INVALID_INPUT);
	}
	ghcb_init(in, NAE_AP_JUMP_TABLE, 1, 0);
	sev_agent_vmgexit(agent);
	assert_result(0, GPA + 0x123000);
	done();
}

static int start_hypercall(uint64_t nr, uint8_t cpl)
{
	ghcb_init(in, NAE_VMMCALL, 0, 0);
	ghcb_put(in, GHCB_RAX, nr);
	ghcb_put(in, GHCB_RBX, GPA);
	ghcb_put(in, GHCB_RCX, 2);
	ghcb_put(in, GHCB_RDX, KVM_MAP_GPA_RANGE_ENCRYPTED);
	ghcb_put(in, GHCB_RSI, 0);
	ghcb_mark_valid(in, GHCB_CPL, true);
	in->bytes[GHCB_CPL] = cpl;
	return sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
}

static void assert_hypercall(long result)
{
	assert_result(0, 0);
	TEST_ASSERT((long)ghcb_get(out, GHCB_RAX) == result, "RAX is %ld, not %ld",
		    (long)ghcb_get(out, GHCB_RAX), result);
}

GHCB_TEST(hypercalls)
{
	struct kvm_run *run;
	int rc;

	setup();
	run = agent->vcpu->run;
	ASSERT_EQ(start_hypercall(0x4711, 0), 0);
	assert_hypercall(-KVM_ENOSYS);
	ASSERT_EQ(start_hypercall(KVM_HC_VAPIC_POLL_IRQ, 0), 0);
	assert_hypercall(0);
	ASSERT_EQ(start_hypercall(KVM_HC_VAPIC_POLL_IRQ, 3), 0);
	assert_hypercall(-KVM_EPERM);

	/* Userspace's answer; what it was last time is not taken for one. */
	memset(&run->hypercall, 0x5a, sizeof(run->hypercall));
	rc = start_hypercall(KVM_HC_MAP_GPA_RANGE, 0);
	sev_assert_map_gpa_range(agent, rc, GPA, 2 * PAGE_SIZE, true, false);
	ASSERT_EQ(run->hypercall.longmode, 1u);
	ASSERT_EQ(run->hypercall.pad, 0u);
	run->hypercall.ret = -KVM_E2BIG;
	ASSERT_EQ(sev_agent_resume(agent), 0);
	assert_hypercall(-KVM_E2BIG);
	rc = start_hypercall(KVM_HC_MAP_GPA_RANGE, 0);
	sev_assert_map_gpa_range(agent, rc, GPA, 2 * PAGE_SIZE, true, false);
	ASSERT_EQ(sev_agent_resume(agent), 0);
	assert_hypercall(0);
	done();
}

/*
 * An MSR that there is not: the guest is to raise #GP, as if it were injected by
 * EVENTINJ.  Bit 11 is not set: the error code in the upper half is nobody's.
 */
#define RAISE_GP	(BIT(31) | 3 << 8 | 13)

static void assert_gp(void)
{
	TEST_ASSERT(ghcb_info1(agent) == 1 && (uint32_t)ghcb_info2(agent) == RAISE_GP,
		    "MSR 0x%lx: result 0x%lx 0x%lx, not #GP", ghcb_get(in, GHCB_RCX),
		    ghcb_info1(agent), ghcb_info2(agent));
}

GHCB_TEST(msrs)
{
	static const uint32_t bad[] = { 0x4711, 0xc0001234, 0x40000fff, -1u };
	int i, write;

	setup();
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		for (write = 0; write < 2; write++) {
			guest_msr(bad[i], write, 1);
			assert_gp();
		}
	}
	/* One that there is, with a value that cannot be */
	guest_msr(MSR_IA32_APICBASE, true, -1ull);
	assert_gp();

	guest_msr(MSR_IA32_APICBASE, false, 0);
	assert_result(0, 0);
	ASSERT_EQ((uint32_t)ghcb_get(out, GHCB_RAX) & PAGE_MASK,
		  (uint64_t)APIC_DEFAULT_GPA);
	ASSERT_EQ(ghcb_get(out, GHCB_RDX), 0ul);
	done();
}

/* --- I/O ------------------------------------------------------------------------- */

#define PORT	0x5c

static uint64_t ioio(uint64_t flags)
{
	return (uint64_t)PORT << 16 | flags;
}

/* 8, 16, or 32 bits; no other number of bits, and not two of them. */
GHCB_TEST(io_sizes)
{
	static const uint64_t kinds[] = {
		0, IOIO_IN, IOIO_STR, IOIO_STR | IOIO_IN, IOIO_STR | IOIO_REP,
	};
	int i, rc, nr_wrong = 0;
	uint64_t size;

	setup();
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		for (size = 0; size <= 7; size++) {
			if (size == 1 || size == 2 || size == 4)
				continue;
			ghcb_init(in, NAE_IOIO, ioio(kinds[i] | size << 4), 1);
			ghcb_put(in, GHCB_RAX, 0x12345678);
			ghcb_put(in, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER);
			rc = sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
			if (!rc && ghcb_info1(agent) == GHCB_MALFORMED &&
			    ghcb_info2(agent) == GHCB_ERR_INVALID_INPUT)
				continue;
			ksft_print_msg("flags 0x%lx size %lu: rc %d, result 0x%lx 0x%lx\n",
				       kinds[i], size, rc, rc ? 0 : ghcb_info1(agent),
				       rc ? 0 : ghcb_info2(agent));
			nr_wrong++;
			/* Userspace has nothing to say to it. */
			while (rc == KVM_EXIT_IO)
				rc = sev_agent_resume(agent);
			ASSERT_EQ(rc, 0);
		}
	}
	TEST_ASSERT(!nr_wrong, "%d requests are not refused", nr_wrong);
	done();
}

/* Sizes of addresses, segments, and what is reserved say nothing to KVM. */
GHCB_TEST(io_other_bits)
{
	static const uint64_t bits[] = {
		0, BIT(7), BIT(8), BIT(9), BIT(10), BIT(11), BIT(12), BIT(1),
		BIT(13), BIT(14), BIT(15), 1ull << 32, 1ull << 63,
		0xffffffff00000000ull | 0xff82,
	};
	struct kvm_run *run;
	int i, size;

	setup();
	run = agent->vcpu->run;
	for (i = 0; i < ARRAY_SIZE(bits); i++) {
		for (size = 1; size <= 4; size *= 2) {
			uint64_t flags = bits[i] | size << 4;
			uint32_t value = 0;

			ghcb_init(in, NAE_IOIO, ioio(flags), 0);
			ghcb_put(in, GHCB_RAX, 0x12345678);
			ASSERT_EQ(sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0), KVM_EXIT_IO);
			memcpy(&value, (void *)run + run->io.data_offset, size);
			TEST_ASSERT(run->io.port == PORT && run->io.size == size &&
				    run->io.direction == KVM_EXIT_IO_OUT &&
				    run->io.count == 1 &&
				    value == (0x12345678 & (~0u >> (32 - size * 8))),
				    "0x%lx: OUT of %u bytes to 0x%x: 0x%x", flags,
				    run->io.size, run->io.port, value);
			ASSERT_EQ(sev_agent_resume(agent), 0);
			assert_result(0, 0);

			ghcb_init(in, NAE_IOIO, ioio(flags | IOIO_IN), 0);
			ghcb_put(in, GHCB_RAX, 0);
			ASSERT_EQ(sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0), KVM_EXIT_IO);
			TEST_ASSERT(run->io.port == PORT && run->io.size == size &&
				    run->io.direction == KVM_EXIT_IO_IN,
				    "0x%lx: IN of %u bytes from 0x%x", flags,
				    run->io.size, run->io.port);
			value = 0x87654321;
			memcpy((void *)run + run->io.data_offset, &value, size);
			ASSERT_EQ(sev_agent_resume(agent), 0);
			assert_result(0, 0);
			ASSERT_EQ(ghcb_get(out, GHCB_RAX),
				  (uint64_t)(value & (~0u >> (32 - size * 8))));
		}
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

GHCB_TEST(missing_input)
{
	setup();
	MISSING(NAE_HV_FEATURES, 0, 0);
	MISSING(0x37, 0, GHCB_RAX, 0);				/* write DR7 */
	MISSING(0x6f, 0, GHCB_RCX, 0);				/* RDPMC */
	MISSING(NAE_RDTSC, 0, 0);
	MISSING(NAE_RDTSCP, 0, 0);
	MISSING(NAE_AP_JUMP_TABLE, 0, 0);
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
	if (is_snp()) {
		MISSING(NAE_PSC, 0, GHCB_SCRATCH, 0);
		MISSING(NAE_GUEST_REQUEST, 0, 0);
		MISSING(NAE_EXT_GUEST_REQUEST, 0, GHCB_RAX, GHCB_RBX, 0);
		MISSING(NAE_AP_CREATION, NAE_AP_CREATE, GHCB_RAX, 0);
		MISSING(NAE_AP_CREATION, NAE_AP_CREATE_ON_INIT, GHCB_RAX, 0);
	}

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

static void check_unknown(const uint64_t *codes, int nr)
{
	int i;

	for (i = 0; i < nr; i++) {
		ghcb_init(in, codes[i], 0, 0);
		ghcb_put(in, GHCB_RAX, 0);
		ghcb_put(in, GHCB_RBX, 0);
		ghcb_put(in, GHCB_RCX, 0);
		ghcb_put(in, GHCB_RDX, 0);
		ghcb_put(in, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER);
		assert_malformed(GHCB_ERR_INVALID_EVENT);
	}
}

GHCB_TEST(unknown_events)
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
	static const uint64_t snp_codes[] = {
		NAE_PSC, NAE_GUEST_REQUEST, NAE_EXT_GUEST_REQUEST, NAE_AP_CREATION,
	};
	static const uint64_t version_2_codes[] = { NAE_HV_FEATURES, NAE_TERM };

	setup();
	check_unknown(codes, ARRAY_SIZE(codes));
	if (!is_snp())
		check_unknown(snp_codes, ARRAY_SIZE(snp_codes));
	if (version < 2)
		check_unknown(version_2_codes, ARRAY_SIZE(version_2_codes));
	done();
}

/* --- the scratch area ---------------------------------------------------------- */

struct scratch {
	uint64_t at;
	uint64_t size;
};

/*
 * Each is outside of the GHCB's shared buffer, as a whole or in part.  In version 1
 * of the protocol it may be anywhere in memory that is shared.
 */
static int bad_scratches(struct scratch *s)
{
	uint64_t ghcb = agent->ghcb_gpa;
	const struct scratch elsewhere[] = {
		{ ghcb - 8, 8 },
		{ ghcb + PAGE_SIZE, 8 },
		{ GPA, 8 },
		{ GPA + PAGE_SIZE + GHCB_BUFFER, 8 },
		{ sev->agents[1].ghcb_gpa + GHCB_BUFFER, 8 },
		{ NO_GPA, 8 },
	};
	const struct scratch bad[] = {
		{ 0, 8 },
		{ ghcb, 8 },
		{ ghcb + GHCB_BUFFER - 8, 8 },
		{ ghcb + GHCB_BUFFER - 4, 8 },
		{ ghcb + GHCB_BUFFER + GHCB_BUFFER_SIZE - 4, 8 },
		{ ghcb + GHCB_BUFFER + GHCB_BUFFER_SIZE, 8 },
		{ ghcb + PAGE_SIZE - 8, 8 },
		{ -8ull, 8 },
		{ -4ull, 8 },
		{ ghcb + GHCB_BUFFER, GHCB_BUFFER_SIZE + 8 },
		{ ghcb + GHCB_BUFFER, 16 * PAGE_SIZE },
		{ ghcb + GHCB_BUFFER, 0x7ffffff8 },
		{ GPA, 16 * PAGE_SIZE + 8 },
		{ GPA, 0x7ffffff8 },
	};

	memcpy(s, bad, sizeof(bad));
	if (version < 2)
		return ARRAY_SIZE(bad);
	memcpy(s + ARRAY_SIZE(bad), elsewhere, sizeof(elsewhere));
	return ARRAY_SIZE(bad) + ARRAY_SIZE(elsewhere);
}

GHCB_TEST(scratch_mmio)
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
GHCB_TEST(mmio)
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

/* Version 1, and a scratch area where there is no memory, or not enough */
SUBTEST(es_version_1_scratch_unreadable)
{
	static const uint64_t gpas[] = {
		NO_GPA, GPA + HUGE_SIZE, GPA + HUGE_SIZE - 4, 1ull << 47, -4096ull,
	};
	int i;

	type = KVM_X86_SEV_ES_VM;
	version = 1;
	setup();
	for (i = 0; i < ARRAY_SIZE(gpas); i++) {
		ghcb_init(in, NAE_MMIO_READ, NO_GPA, 8);
		ghcb_put(in, GHCB_SCRATCH, gpas[i]);
		assert_malformed(GHCB_ERR_INVALID_SCRATCH);
		ghcb_init(in, NAE_MMIO_WRITE, NO_GPA, 8);
		ghcb_put(in, GHCB_SCRATCH, gpas[i]);
		assert_malformed(GHCB_ERR_INVALID_SCRATCH);
		ghcb_init(in, NAE_IOIO, IOIO_OUTB(0x80) | IOIO_STR | IOIO_REP, 8);
		ghcb_put(in, GHCB_SCRATCH, gpas[i]);
		assert_malformed(GHCB_ERR_INVALID_SCRATCH);
	}
	done();
}

/* Version 1, and a scratch area that the GHCB has no room for */
SUBTEST(es_version_1_scratch_elsewhere)
{
	struct kvm_run *run;
	uint64_t *mem;
	int rc, i;

	type = KVM_X86_SEV_ES_VM;
	version = 1;
	setup();
	run = agent->vcpu->run;
	mem = addr_gpa2hva(vm, GPA);
	mem[0] = 0x1122334455667788;
	ghcb_init(in, NAE_MMIO_WRITE, NO_GPA, 8);
	ghcb_put(in, GHCB_SCRATCH, GPA);
	rc = sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
	ASSERT_EQ(rc, KVM_EXIT_MMIO);
	ASSERT_EQ(run->mmio.is_write, (__u8)1);
	ASSERT_EQ(*(uint64_t *)run->mmio.data, 0x1122334455667788ul);
	ASSERT_EQ(sev_agent_resume(agent), 0);
	assert_result(0, 0);

	/* Across pages; only what was read is written. */
	mem = addr_gpa2hva(vm, GPA + PAGE_SIZE);
	mem[-1] = -1ull;
	mem[0] = -1ull;
	ghcb_init(in, NAE_MMIO_READ, NO_GPA, 8);
	ghcb_put(in, GHCB_SCRATCH, GPA + PAGE_SIZE - 4);
	rc = sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
	ASSERT_EQ(rc, KVM_EXIT_MMIO);
	ASSERT_EQ(run->mmio.len, 8u);
	*(uint64_t *)run->mmio.data = 0xabcdef0123456789;
	ASSERT_EQ(sev_agent_resume(agent), 0);
	assert_result(0, 0);
	ASSERT_EQ(mem[-1], 0x23456789fffffffful);
	ASSERT_EQ(mem[0], 0xffffffffabcdef01ul);

	/* As much as there may be */
	ghcb_init(in, NAE_IOIO, IOIO_OUTB(0x80) | IOIO_STR | IOIO_REP, 16 * PAGE_SIZE);
	ghcb_put(in, GHCB_SCRATCH, GPA);
	rc = sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
	for (i = 0; rc == KVM_EXIT_IO; ) {
		ASSERT_EQ((int)run->io.port, 0x80);
		i += run->io.count;
		rc = sev_agent_resume(agent);
	}
	ASSERT_EQ(rc, 0);
	ASSERT_EQ(i, (int)(16 * PAGE_SIZE));
	assert_result(0, 0);
	done();
}

GHCB_TEST(scratch_string_io)
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

/* Counts that are no number of bytes */
GHCB_TEST(string_io_counts)
{
	static const uint64_t counts[] = {
		0x7fffffff, 0x80000000, 1ull << 32, 1ull << 62, -1ull,
	};
	int i;

	setup();
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		/* 32 bits each */
		ghcb_init(in, NAE_IOIO, (0x80ull << 16) | 1 << 6 | IOIO_STR | IOIO_REP,
			  counts[i]);
		ghcb_put(in, GHCB_SCRATCH, agent->ghcb_gpa + GHCB_BUFFER);
		assert_malformed(GHCB_ERR_INVALID_INPUT);
	}
	done();
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

/*
 * An answer that there is not: KVM_RUN fails, and if userspace goes on nevertheless,
 * the guest is told that nothing has been done.
 */
SUBTEST(psc_odd_answer)
{
	static const uint64_t answers[] = {
		1, EPERM, ENOMEM, 4711, 1ull << 32, 1ull << 32 | EINVAL, -1ull,
		-(uint64_t)EINVAL,
	};
	struct kvm_run *run;
	int i, rc;

	setup();
	run = agent->vcpu->run;
	for (i = 0; i < ARRAY_SIZE(answers); i++) {
		psc_init(0, 1);
		psc_put(0, PSC_OK(0));
		psc_put(1, PSC_OK(1));
		rc = sev_agent_start(agent, SEV_VMGEXIT, 0, 0, 0);
		sev_assert_map_gpa_range(agent, rc, GPA, PAGE_SIZE, true, false);
		run->hypercall.ret = answers[i];
		ASSERT_EQ(sev_agent_resume(agent), -EINVAL);
		ASSERT_EQ(sev_agent_resume(agent), 0);
		assert_result(0, PSC_ERR_GENERIC);
		ASSERT_EQ(psc_cur(), 0);

		rc = sev_agent_start(agent, SEV_MSR, 0, 0, PSC_OK(0) | GHCB_MSR_PSC_REQ);
		sev_assert_map_gpa_range(agent, rc, GPA, PAGE_SIZE, true, false);
		run->hypercall.ret = answers[i];
		ASSERT_EQ(sev_agent_resume(agent), -EINVAL);
		ASSERT_EQ(sev_agent_resume(agent), 0);
		ASSERT_EQ(GHCB_MSR_INFO(agent->cmd->result), (uint64_t)GHCB_MSR_PSC_RESP);
		TEST_ASSERT(agent->cmd->result >> 32, "No error");
	}
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

/* The certificates that go with a report: a table that ends where it begins */
SUBTEST(certificates)
{
	const uint64_t req = GPA, resp = GPA + PAGE_SIZE, data = GPA + 2 * PAGE_SIZE;
	static const uint64_t sizes[] = { 1, 2, 0x1000, 1ull << 32, -1ull };
	uint8_t *table;
	int i, j;

	setup();
	table = addr_gpa2hva(vm, data);
	memset(addr_gpa2hva(vm, req), 0xff, PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		((uint8_t *)addr_gpa2hva(vm, req))[0x34] = 5;
		memset(table, 0x5a, PAGE_SIZE);
		ghcb_init(in, NAE_EXT_GUEST_REQUEST, req, resp);
		ghcb_put(in, GHCB_RAX, data);
		ghcb_put(in, GHCB_RBX, sizes[i]);
		sev_agent_vmgexit(agent);
		/* It is no message; but that is the firmware's answer, and no lack of room. */
		ASSERT_EQ(ghcb_info1(agent), 0ul);
		TEST_ASSERT(ghcb_info2(agent) && !(ghcb_info2(agent) >> 32),
			    "Answer 0x%lx", ghcb_info2(agent));
		for (j = 0; j < PAGE_SIZE; j++)
			TEST_ASSERT(table[j] == (j < 24 ? 0 : 0x5a), "Byte %d is 0x%x", j,
				    table[j]);
	}

	/* Who has no room, or asks for no report, gets none. */
	memset(table, 0x5a, PAGE_SIZE);
	for (i = 0; i < 2; i++) {
		((uint8_t *)addr_gpa2hva(vm, req))[0x34] = i ? 3 : 5;
		ghcb_init(in, NAE_EXT_GUEST_REQUEST, req, resp);
		ghcb_put(in, GHCB_RAX, data);
		ghcb_put(in, GHCB_RBX, i);
		sev_agent_vmgexit(agent);
		ASSERT_EQ(ghcb_info1(agent), 0ul);
		TEST_ASSERT(ghcb_info2(agent) && !(ghcb_info2(agent) >> 32),
			    "Answer 0x%lx", ghcb_info2(agent));
		for (j = 0; j < PAGE_SIZE; j++)
			ASSERT_EQ(table[j], 0x5a);
	}
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

GHCB_TEST(unknown_msr_codes)
{
	uint64_t code;

	setup();
	for (code = 1; code < 0x1000; code++) {
		uint64_t msr = 0x12345ull << 12 | code;

		switch (code) {
		case GHCB_MSR_SEV_INFO_REQ:
		case GHCB_MSR_CPUID_REQ:
		case GHCB_MSR_TERM_REQ:
			continue;
		case GHCB_MSR_AP_RESET_HOLD_REQ:
		case GHCB_MSR_PREF_GPA_REQ:
		case GHCB_MSR_REG_GPA_REQ:
		case GHCB_MSR_PSC_REQ:
		case GHCB_MSR_HV_FT_REQ:
			/* Version 1 does not know them. */
			if (version < 2)
				break;
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

GHCB_TEST(random_requests)
{
	/* Not HLT, AP reset hold, shutdown or what else the vCPU would stay in */
	static const uint64_t codes[] = {
		NAE_CPUID, NAE_IOIO, NAE_MMIO_READ, NAE_MMIO_WRITE, NAE_PSC,
		NAE_GUEST_REQUEST, NAE_EXT_GUEST_REQUEST, NAE_AP_CREATION,
		NAE_HV_FEATURES, 0x27, 0x37, NAE_RDTSC, NAE_RDTSCP, 0x89,
		NAE_AP_JUMP_TABLE,
	};
	static const unsigned int fields[] = {
		GHCB_RAX, GHCB_RCX, GHCB_RDX, GHCB_RBX, GHCB_SCRATCH, GHCB_XCR0,
		GHCB_EXIT_INFO1, GHCB_EXIT_INFO2,
	};
	int i, j, rc, exits;

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
			default:
				TEST_FAIL("Exit code 0x%lx: exit reason %d", code, rc);
			}
			rc = sev_agent_resume(agent);
		}
		TEST_ASSERT(!rc, "Exit code 0x%lx: KVM_RUN gives %d", code, rc);
	}
	sev_agent_do(agent, SEV_NOP, 0, 0, 0);
	sev_vm_free(sev);
}

int main(int argc, char *argv[])
{
	__TEST_REQUIRE(sev_type_supported(KVM_X86_SEV_ES_VM) ||
		       sev_type_supported(KVM_X86_SNP_VM),
		       "Neither SEV-ES nor SEV-SNP VMs");
	subtest_main(argc, argv);
}
