// SPDX-License-Identifier: GPL-2.0-only
/*
 * SEV and SEV-ES guests, from the launch on: that what the firmware has measured is
 * what was asked for, secrets, the commands that look at a guest, or into it, and
 * guests that run.  SEV-SNP has tests of its own; but waiting for a SIPI is here,
 * for both.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <linux/psp-sev.h>

#include "apic.h"
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "private_mem.h"
#include "sev_owner.h"
#include "sev_vm.h"
#include "subtest.h"

#define GPA	PRIVATE_MEM_GPA
#define SIZE	(2ULL << 20)

/* GUEST_STATUS, state (55766, table 43) */
#define STATE_LAUNCH	1
#define STATE_SECRET	2
#define STATE_RUNNING	3

static struct sev_vm *sev;
static struct sev_agent *agent;

static const struct sev_owner owner = {
	.tek = "encrypts secrets",
	.tik = "and proves them.",
};

/* Agents in a VM that is initialised, but not launched. */
static void create(unsigned long type, uint32_t nr_vcpus, uint16_t ghcb_version)
{
	static const char *const names[] = {
		[KVM_X86_SEV_VM] = "SEV",
		[KVM_X86_SEV_ES_VM] = "SEV-ES",
		[KVM_X86_SNP_VM] = "SEV-SNP",
	};

	if (!sev_type_supported(type))
		subtest_skip("no %s", names[type]);
	sev = __sev_vm_create_agents(type, nr_vcpus, ghcb_version);
	agent = &sev->agents[0];
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

/* --- the launch --------------------------------------------------------------- */

static uint32_t policy_of(unsigned long type)
{
	return type == KVM_X86_SEV_ES_VM ? SEV_POLICY_ES : 0;
}

static void platform_cmd(uint32_t cmd, void *data)
{
	struct sev_issue_cmd arg = { .cmd = cmd, .data = (uintptr_t)data };

	TEST_ASSERT(!ioctl(sev->sev_fd, SEV_ISSUE_CMD, &arg),
		    "/dev/sev, command %u: errno %d, firmware error 0x%x", cmd,
		    errno, arg.error);
}

/* A launch with keys that its owner knows */
static int launch_start(uint32_t policy)
{
	uint8_t pdh[SEV_CERT_SIZE], chain[3 * SEV_CERT_SIZE];
	uint8_t cert[SEV_CERT_SIZE], session[SEV_SESSION_SIZE];
	struct sev_user_data_pdh_cert_export export = {
		.pdh_cert_address = (uintptr_t)pdh,
		.pdh_cert_len = sizeof(pdh),
		.cert_chain_address = (uintptr_t)chain,
		.cert_chain_len = sizeof(chain),
	};
	struct kvm_sev_launch_start start = {
		.policy = policy,
		.dh_uaddr = (uintptr_t)cert,
		.dh_len = sizeof(cert),
		.session_uaddr = (uintptr_t)session,
		.session_len = sizeof(session),
	};

	platform_cmd(SEV_PDH_CERT_EXPORT, &export);
	sev_owner_session(&owner, pdh, policy, cert, session);
	return __sev_cmd(sev, KVM_SEV_LAUNCH_START, &start);
}

static int launch_measure(struct sev_measurement *m)
{
	struct kvm_sev_launch_measure measure = {
		.uaddr = (uintptr_t)m,
		.len = sizeof(*m),
	};
	int err = __sev_cmd(sev, KVM_SEV_LAUNCH_MEASURE, &measure);

	if (!err)
		ASSERT_EQ(measure.len, (__u32)sizeof(*m));
	return err;
}

static int get_report(struct sev_report *report)
{
	struct kvm_sev_attestation_report args = {
		.mnonce = "once and only",
		.uaddr = (uintptr_t)report,
		.len = sizeof(*report),
	};
	int err = __sev_cmd(sev, KVM_SEV_GET_ATTESTATION_REPORT, &args);

	if (!err) {
		ASSERT_EQ(args.len, (__u32)sizeof(*report));
		TEST_ASSERT(!memcmp(report->nonce, args.mnonce, 16),
			    "The report has another nonce");
	}
	return err;
}

static void launch_finish(void)
{
	uint32_t i;

	sev_cmd(sev, KVM_SEV_LAUNCH_FINISH, NULL);
	for (i = 0; i < sev->nr_vcpus; i++)
		sev_agent_boot(&sev->agents[i]);
}

/* All steps up to the measurement */
static void launch(uint32_t policy, struct sev_measurement *m)
{
	sev_vm_seal(sev);
	assert_err(launch_start(policy), 0);
	sev_launch_update_slot0(sev, NULL);
	if (policy & SEV_POLICY_ES)
		sev_cmd(sev, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
	assert_err(launch_measure(m), 0);
}

static struct sha256 sha;

static void measure_before(const void *data, uint64_t size)
{
	sha256_add(&sha, data, size);
}

/* Some state that is not as after a reset, and all of it */
static void measure_vmsa(struct kvm_vcpu *vcpu)
{
	struct kvm_xsave xsave;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct snp_vmsa vmsa;
	uint8_t *fx = (void *)xsave.region;
	int i;

	vcpu_regs_get(vcpu, &regs);
	regs.rbx = 0x1122334455667788 + vcpu->id;
	regs.r15 = 0xffff;
	vcpu_regs_set(vcpu, &regs);
	vcpu_sregs_get(vcpu, &sregs);
	/* The host's machine check exceptions are on, whatever the guest wants. */
	sregs.cr4 |= X86_CR4_MCE;
	sregs.ss = sregs.ds;
	sregs.fs = sregs.ds;
	sregs.gs = sregs.ds;
	sregs.gs.base = 0x7654321000;
	sregs.tr.type = 0xb;
	vcpu_sregs_set(vcpu, &sregs);

	vcpu_ioctl(vcpu, KVM_GET_XSAVE, &xsave);
	memset(fx, 0, 512);
	*(uint16_t *)(fx + 0) = 0x37f;
	*(uint32_t *)(fx + 24) = 0x1f80;
	for (i = 0; i < 8 * 16; i++)
		fx[32 + i] = i % 16 < 10 ? i + 1 : 0;
	for (i = 0; i < 16 * 16; i++)
		fx[160 + i] = 3 * i + 1;
	*(uint64_t *)(fx + 512) = 3;
	vcpu_ioctl(vcpu, KVM_SET_XSAVE, &xsave);

	snp_vmsa_init(&vmsa, &sregs, &regs, fx);
	/* No features: those are SNP's. */
	memset(vmsa.bytes + 0x3b0, 0, 8);
	sha256_add(&sha, &vmsa, sizeof(vmsa));
}

static void measure(unsigned long type, uint32_t policy)
{
	uint8_t digest[SHA256_SIZE], version[3];
	struct sev_measurement m, expected;
	struct kvm_sev_launch_measure query = {};
	struct kvm_sev_attestation_report report_query = {};
	struct sev_user_data_status status;
	struct sev_report report;
	int i;

	create(type, 2, 0);
	sev_vm_seal(sev);
	assert_err(launch_start(policy), 0);

	sha256_init(&sha);
	sev_launch_update_slot0(sev, measure_before);
	if (type == KVM_X86_SEV_ES_VM) {
		for (i = 0; i < 2; i++)
			measure_vmsa(sev->agents[i].vcpu);
		sev_cmd(sev, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
	}
	sha256_end(&sha, digest);

	/* How long will it be? */
	assert_fw(get_report(&report), SEV_FW_INVALID_GUEST_STATE);
	assert_fw(__sev_cmd(sev, KVM_SEV_LAUNCH_MEASURE, &query), SEV_FW_INVALID_LENGTH);
	ASSERT_EQ(query.len, (__u32)sizeof(m));
	assert_err(__sev_cmd(sev, KVM_SEV_LAUNCH_MEASURE, NULL), EFAULT);

	platform_cmd(SEV_PLATFORM_STATUS, &status);
	version[0] = status.api_major;
	version[1] = status.api_minor;
	version[2] = status.build;
	assert_err(launch_measure(&m), 0);
	expected = m;
	sev_owner_measure(&owner, version, policy, digest, &expected);
	TEST_ASSERT(!memcmp(&m, &expected, sizeof(m)), "It has measured something else");
	assert_fw(launch_measure(&m), SEV_FW_INVALID_GUEST_STATE);

	assert_fw(__sev_cmd(sev, KVM_SEV_GET_ATTESTATION_REPORT, &report_query),
		  SEV_FW_INVALID_LENGTH);
	ASSERT_EQ(report_query.len, (__u32)sizeof(report));
	assert_err(__sev_cmd(sev, KVM_SEV_GET_ATTESTATION_REPORT, NULL), EFAULT);
	for (i = 0; i < 2; i++) {
		assert_err(get_report(&report), 0);
		TEST_ASSERT(!memcmp(report.digest, digest, sizeof(digest)),
			    "The report has another digest");
		ASSERT_EQ(report.policy, policy);
		if (!i)
			launch_finish();
	}
	sev_vm_free(sev);
}

SUBTEST(measurement_sev)
{
	measure(KVM_X86_SEV_VM, SEV_POLICY_NODBG | SEV_POLICY_NOSEND);
}

SUBTEST(measurement_sev_es)
{
	measure(KVM_X86_SEV_ES_VM, SEV_POLICY_ES);
}

/* The owner's keys are for this policy, and this platform. */
SUBTEST(session_errors)
{
	struct kvm_sev_launch_start start = {};
	uint8_t blob[SEV_CERT_SIZE] = {};

	create(KVM_X86_SEV_VM, 1, 0);
	assert_err(__sev_cmd(sev, KVM_SEV_LAUNCH_START, NULL), EFAULT);
	start.dh_uaddr = (uintptr_t)blob;
	assert_err(__sev_cmd(sev, KVM_SEV_LAUNCH_START, &start), EINVAL);
	start.dh_len = sizeof(blob);
	start.session_uaddr = (uintptr_t)blob;
	assert_err(__sev_cmd(sev, KVM_SEV_LAUNCH_START, &start), EINVAL);
	start.session_len = 16 * 1024 + 1;
	assert_err(__sev_cmd(sev, KVM_SEV_LAUNCH_START, &start), EINVAL);
	start.session_len = SEV_SESSION_SIZE;
	start.session_uaddr = -4096ull;
	assert_err(__sev_cmd(sev, KVM_SEV_LAUNCH_START, &start), EFAULT);
	start.session_uaddr = (uintptr_t)blob;
	assert_err(__sev_cmd(sev, KVM_SEV_LAUNCH_START, &start), EIO);
	TEST_ASSERT(sev->fw_error, "No certificate: no error");

	/* A SEV guest has no ASID that is for SEV-ES. */
	assert_err(launch_start(SEV_POLICY_ES), EIO);
	TEST_ASSERT(sev->fw_error, "A SEV-ES guest with an ASID of SEV: no error");

	/* None of that is in the way of a good one. */
	assert_err(launch_start(0), 0);
	sev_vm_free(sev);
}

/* --- secrets ------------------------------------------------------------------ */

#define SECRET_OFFSET	256
#define SECRET_SIZE	64

static void send_secret(unsigned long type)
{
	struct sev_secret_header header;
	uint8_t plain[SECRET_SIZE], packet[SECRET_SIZE];
	struct kvm_sev_launch_secret good, bad;
	struct sev_measurement m;
	vm_vaddr_t gva;
	uint64_t gpa;
	uint8_t *hva;
	int i;

	create(type, 1, 0);
	gva = sev_vm_alloc_private(sev, PAGE_SIZE, &gpa);
	hva = addr_gpa2hva(sev->vm, gpa);
	launch(policy_of(type), &m);

	for (i = 0; i < SECRET_SIZE; i++)
		plain[i] = 7 * i + 3;
	sev_owner_seal(&owner, &m, plain, sizeof(plain), &header, packet);
	good = (struct kvm_sev_launch_secret) {
		.hdr_uaddr = (uintptr_t)&header,
		.hdr_len = sizeof(header),
		.guest_uaddr = (uintptr_t)hva + SECRET_OFFSET,
		.guest_len = sizeof(packet),
		.trans_uaddr = (uintptr_t)packet,
		.trans_len = sizeof(packet),
	};

#define BAD_SECRET(_field, _value)						\
	(bad = good, bad._field = (_value),					\
	 __sev_cmd(sev, KVM_SEV_LAUNCH_SECRET, &bad))

	assert_err(__sev_cmd(sev, KVM_SEV_LAUNCH_SECRET, NULL), EFAULT);
	assert_err(BAD_SECRET(hdr_uaddr, 0), EINVAL);
	assert_err(BAD_SECRET(hdr_uaddr, -4096ull), EFAULT);
	assert_err(BAD_SECRET(hdr_len, 0), EINVAL);
	assert_err(BAD_SECRET(hdr_len, 16 * 1024 + 1), EINVAL);
	assert_err(BAD_SECRET(trans_uaddr, 0), EINVAL);
	assert_err(BAD_SECRET(trans_uaddr, -4096ull), EFAULT);
	assert_err(BAD_SECRET(trans_len, 0), EINVAL);
	assert_err(BAD_SECRET(trans_len, 16 * 1024 + 1), EINVAL);
	assert_err(BAD_SECRET(guest_len, 0), EINVAL);
	assert_err(BAD_SECRET(guest_uaddr, -16ull), EINVAL);
	assert_err(BAD_SECRET(guest_uaddr, 0), ENOMEM);
	assert_fw(BAD_SECRET(hdr_len, sizeof(header) - 1), SEV_FW_INVALID_LENGTH);
	assert_fw(BAD_SECRET(guest_len, sizeof(packet) - 1), SEV_FW_INVALID_LENGTH);

	/* It is for this launch, and as the owner has sent it. */
	packet[5] ^= 1;
	assert_fw(__sev_cmd(sev, KVM_SEV_LAUNCH_SECRET, &good), SEV_FW_BAD_MEASUREMENT);
	packet[5] ^= 1;
	header.iv[15] ^= 1;
	assert_fw(__sev_cmd(sev, KVM_SEV_LAUNCH_SECRET, &good), SEV_FW_BAD_MEASUREMENT);
	header.iv[15] ^= 1;
	sev_cmd(sev, KVM_SEV_LAUNCH_SECRET, &good);
	launch_finish();
	assert_fw(__sev_cmd(sev, KVM_SEV_LAUNCH_SECRET, &good),
		  SEV_FW_INVALID_GUEST_STATE);

	/* The guest has it where it was to be, and nowhere else. */
	sev_agent_do(agent, SEV_COPY, gva + SECRET_OFFSET, SECRET_SIZE,
		     agent->cmd_gva + offsetof(struct sev_agent_cmd, data));
	TEST_ASSERT(!memcmp(agent->cmd->data, plain, SECRET_SIZE),
		    "The guest has another secret");
	sev_agent_check_const(agent, gva, SECRET_OFFSET, 0);
	sev_agent_check_const(agent, gva + SECRET_OFFSET + SECRET_SIZE,
			      PAGE_SIZE - SECRET_OFFSET - SECRET_SIZE, 0);
	sev_vm_free(sev);
}

SUBTEST(secret_sev)
{
	send_secret(KVM_X86_SEV_VM);
}

SUBTEST(secret_sev_es)
{
	send_secret(KVM_X86_SEV_ES_VM);
}

/* Its state is the guest's, and part of the measurement, once. */
SUBTEST(vmsa_twice)
{
	struct sev_measurement m;

	create(KVM_X86_SEV_ES_VM, 2, 0);
	sev_vm_seal(sev);
	assert_err(launch_start(SEV_POLICY_ES), 0);
	sev_launch_update_slot0(sev, NULL);
	sev_cmd(sev, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
	assert_err(__sev_cmd(sev, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL), EINVAL);
	assert_err(launch_measure(&m), 0);
	assert_err(__sev_cmd(sev, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL), EINVAL);
	launch_finish();
	assert_err(__sev_cmd(sev, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL), EINVAL);
	sev_agent_do(agent, SEV_NOP, 0, 0, 0);
	sev_vm_free(sev);
}

/* --- commands that look at a guest, or into it --------------------------------- */

static void assert_status(uint32_t state, uint32_t policy, uint32_t *handle)
{
	struct kvm_sev_guest_status status = {};

	sev_cmd(sev, KVM_SEV_GUEST_STATUS, &status);
	ASSERT_EQ(status.state, state);
	ASSERT_EQ(status.policy, policy);
	if (!*handle)
		*handle = status.handle;
	TEST_ASSERT(*handle && status.handle == *handle, "Handle %u, not %u",
		    status.handle, *handle);
}

static void guest_status(unsigned long type)
{
	const uint32_t policy = policy_of(type) | SEV_POLICY_NODBG;
	struct kvm_sev_guest_status status;
	struct sev_measurement m;
	uint32_t handle = 0;

	create(type, 1, 0);
	TEST_ASSERT(__sev_cmd(sev, KVM_SEV_GUEST_STATUS, &status),
		    "There is no guest yet");
	sev_vm_seal(sev);
	assert_err(launch_start(policy), 0);
	assert_status(STATE_LAUNCH, policy, &handle);
	assert_err(__sev_cmd(sev, KVM_SEV_GUEST_STATUS, NULL), EFAULT);
	assert_fw(__sev_cmd(sev, KVM_SEV_LAUNCH_FINISH, NULL),
		  SEV_FW_INVALID_GUEST_STATE);
	sev_launch_update_slot0(sev, NULL);
	if (policy & SEV_POLICY_ES)
		sev_cmd(sev, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
	else
		assert_err(__sev_cmd(sev, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL), ENOTTY);
	assert_err(launch_measure(&m), 0);
	assert_status(STATE_SECRET, policy, &handle);
	launch_finish();
	assert_status(STATE_RUNNING, policy, &handle);
	assert_fw(__sev_cmd(sev, KVM_SEV_LAUNCH_FINISH, NULL),
		  SEV_FW_INVALID_GUEST_STATE);
	sev_vm_free(sev);
}

SUBTEST(guest_status_sev)
{
	guest_status(KVM_X86_SEV_VM);
}

SUBTEST(guest_status_sev_es)
{
	guest_status(KVM_X86_SEV_ES_VM);
}

static void launch_with_memory(unsigned long type, uint32_t policy)
{
	struct sev_measurement m;

	create(type, 1, 0);
	vm_userspace_mem_region_add(sev->vm, VM_MEM_SRC_ANONYMOUS, GPA,
				    PRIVATE_MEM_SLOT, SIZE / PAGE_SIZE, 0);
	sev_vm_map(sev, GPA, SIZE);
	launch(policy, &m);
	launch_finish();
}

static int dbg(uint32_t cmd, const void *src, void *dst, uint32_t size)
{
	struct kvm_sev_dbg args = {
		.src_uaddr = (uintptr_t)src,
		.dst_uaddr = (uintptr_t)dst,
		.len = size,
	};

	return __sev_cmd(sev, cmd, &args);
}

#define DBG_SIZE	(3 * PAGE_SIZE)

static uint8_t dbg_plain[DBG_SIZE] __aligned(PAGE_SIZE);
static uint8_t dbg_buf[DBG_SIZE] __aligned(PAGE_SIZE);

/* What the command's page holds at once */
#define DBG_CHUNK	(PAGE_SIZE / 2)

/* The guest copies dbg_plain to its private memory; below, that to @to. */
static void dbg_reset(void)
{
	uint64_t data = agent->cmd_gva + offsetof(struct sev_agent_cmd, data);
	int i;

	for (i = 0; i < DBG_SIZE; i += DBG_CHUNK) {
		memcpy(agent->cmd->data, dbg_plain + i, DBG_CHUNK);
		sev_agent_do(agent, SEV_COPY, data, DBG_CHUNK, GPA + i);
	}
}

static void dbg_read(uint8_t *to)
{
	uint64_t data = agent->cmd_gva + offsetof(struct sev_agent_cmd, data);
	int i;

	for (i = 0; i < DBG_SIZE; i += DBG_CHUNK) {
		sev_agent_do(agent, SEV_COPY, GPA + i, DBG_CHUNK, data);
		memcpy(to + i, agent->cmd->data, DBG_CHUNK);
	}
}

static const struct dbg_range {
	unsigned int guest;
	unsigned int host;
	unsigned int size;
} dbg_ranges[] = {
	{ 0, 0, PAGE_SIZE }, { 16, 32, 48 }, { 0, 0, 2 * PAGE_SIZE }, { 0, 3, 16 },
	{ 0, 0, 1 }, { 64, 9, 17 }, { 3, 0, 16 }, { 5, 9, 17 }, { 4095, 1, 2 },
	{ 4090, 4085, 30 }, { 8, 8, PAGE_SIZE }, { 1, 0, 2 * PAGE_SIZE - 1 },
};

static void decrypt(const struct dbg_range *r)
{
	const uint8_t *hva = addr_gpa2hva(sev->vm, GPA);
	int i;

	memset(dbg_buf, 0xcc, DBG_SIZE);
	assert_err(dbg(KVM_SEV_DBG_DECRYPT, hva + r->guest, dbg_buf + r->host, r->size), 0);
	for (i = 0; i < DBG_SIZE; i++) {
		uint8_t good = i >= r->host && i < r->host + r->size ?
			       dbg_plain[r->guest + i - r->host] : 0xcc;

		TEST_ASSERT(dbg_buf[i] == good, "%u bytes at %u to %u: byte %d is 0x%x, not 0x%x",
			    r->size, r->guest, r->host, i, dbg_buf[i], good);
	}
}

static void encrypt(const struct dbg_range *r)
{
	static uint8_t all[DBG_SIZE];
	uint8_t *hva = addr_gpa2hva(sev->vm, GPA);
	int i;

	for (i = 0; i < DBG_SIZE; i++)
		dbg_buf[i] = i * 5 + 1;
	dbg_reset();
	assert_err(dbg(KVM_SEV_DBG_ENCRYPT, dbg_buf + r->host, hva + r->guest, r->size), 0);
	dbg_read(all);
	for (i = 0; i < DBG_SIZE; i++) {
		uint8_t good = i >= r->guest && i < r->guest + r->size ?
			       dbg_buf[r->host + i - r->guest] : dbg_plain[i];

		TEST_ASSERT(all[i] == good, "%u bytes at %u to %u: byte %d is 0x%x, not 0x%x",
			    r->size, r->host, r->guest, i, all[i], good);
	}
}

static void setup_debug(unsigned long type)
{
	int i;

	launch_with_memory(type, policy_of(type));
	for (i = 0; i < DBG_SIZE; i++)
		dbg_plain[i] = i * 13 + i / 256;
}

static void debug(unsigned long type)
{
	uint8_t *hva;
	int i;

	setup_debug(type);
	dbg_reset();
	for (i = 0; i < ARRAY_SIZE(dbg_ranges); i++)
		decrypt(&dbg_ranges[i]);
	for (i = 0; i < ARRAY_SIZE(dbg_ranges); i++) {
		if (dbg_ranges[i].guest % 16 == 0)
			encrypt(&dbg_ranges[i]);
	}

	hva = addr_gpa2hva(sev->vm, GPA);
	for (i = KVM_SEV_DBG_DECRYPT; i <= KVM_SEV_DBG_ENCRYPT; i++) {
		assert_err(__sev_cmd(sev, i, NULL), EFAULT);
		assert_err(dbg(i, hva, dbg_buf, 0), EINVAL);
		assert_err(dbg(i, hva, NULL, 16), EINVAL);
		assert_err(dbg(i, (void *)-16ul, dbg_buf, 32), EINVAL);
		assert_err(dbg(i, NULL, dbg_buf, 16), ENOMEM);
		assert_err(dbg(i, hva, (void *)16ul, 16), ENOMEM);
	}
	sev_vm_free(sev);
}

SUBTEST(debug_sev)
{
	debug(KVM_X86_SEV_VM);
}

SUBTEST(debug_sev_es)
{
	debug(KVM_X86_SEV_ES_VM);
}

/* The firmware writes whole blocks; what is around has to stay in them. */
SUBTEST(debug_encrypt_parts_of_blocks)
{
	int i;

	setup_debug(KVM_X86_SEV_VM);
	for (i = 0; i < ARRAY_SIZE(dbg_ranges); i++) {
		if (dbg_ranges[i].guest % 16)
			encrypt(&dbg_ranges[i]);
	}
	sev_vm_free(sev);
}

SUBTEST(debug_refused)
{
	static uint8_t buf[PAGE_SIZE] __aligned(PAGE_SIZE);
	uint8_t *hva;
	int i;

	launch_with_memory(KVM_X86_SEV_VM, SEV_POLICY_NODBG);
	hva = addr_gpa2hva(sev->vm, GPA);
	sev_agent_fill(agent, GPA, PAGE_SIZE, 1);
	memset(buf, 0xcc, sizeof(buf));
	assert_fw(dbg(KVM_SEV_DBG_DECRYPT, hva, buf, PAGE_SIZE), SEV_FW_POLICY_FAILURE);
	assert_fw(dbg(KVM_SEV_DBG_DECRYPT, hva + 3, buf + 1, 5), SEV_FW_POLICY_FAILURE);
	for (i = 0; i < sizeof(buf); i++)
		ASSERT_EQ(buf[i], (uint8_t)0xcc);
	assert_fw(dbg(KVM_SEV_DBG_ENCRYPT, buf, hva, PAGE_SIZE), SEV_FW_POLICY_FAILURE);
	assert_fw(dbg(KVM_SEV_DBG_ENCRYPT, buf + 1, hva + 3, 5), SEV_FW_POLICY_FAILURE);
	sev_agent_check(agent, GPA, PAGE_SIZE, 1);
	sev_vm_free(sev);
}

/*
 * Migration is the firmware's business, and needs another platform.  What it says
 * arrives here, and the guest goes on.
 */
static void migration(unsigned long type)
{
	static const struct {
		uint32_t cmd;
		const char *name;
	} cmds[] = {
		{ KVM_SEV_SEND_START, "SEND_START" },
		{ KVM_SEV_SEND_FINISH, "SEND_FINISH" },
		{ KVM_SEV_SEND_CANCEL, "SEND_CANCEL" },
		{ KVM_SEV_RECEIVE_FINISH, "RECEIVE_FINISH" },
	};
	uint8_t blob[SEV_CERT_SIZE] = {}, args[256];
	struct kvm_sev_receive_start receive = {
		.pdh_uaddr = (uintptr_t)blob,
		.pdh_len = sizeof(blob),
		.session_uaddr = (uintptr_t)blob,
		.session_len = SEV_SESSION_SIZE,
	};
	int i;

	launch_with_memory(type, policy_of(type) | SEV_POLICY_NOSEND);
	sev_agent_fill(agent, GPA, SIZE, 1);
	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		int err;

		memset(args, 0, sizeof(args));
		err = __sev_cmd(sev, cmds[i].cmd, args);
		TEST_ASSERT(err == EIO && sev->fw_error &&
			    sev->fw_error != SEV_FW_NOT_CALLED,
			    "%s: errno %d, firmware error 0x%x", cmds[i].name, err,
			    sev->fw_error);
	}
	assert_err(__sev_cmd(sev, KVM_SEV_SEND_START, NULL), EFAULT);
	assert_err(__sev_cmd(sev, KVM_SEV_SEND_UPDATE_DATA, NULL), EFAULT);
	assert_err(__sev_cmd(sev, KVM_SEV_RECEIVE_START, NULL), EFAULT);
	assert_err(__sev_cmd(sev, KVM_SEV_RECEIVE_UPDATE_DATA, NULL), EFAULT);
	/* KVM does not know these. */
	assert_err(__sev_cmd(sev, KVM_SEV_SEND_UPDATE_VMSA, args), EINVAL);
	assert_err(__sev_cmd(sev, KVM_SEV_RECEIVE_UPDATE_VMSA, args), EINVAL);
	sev_agent_check(agent, GPA, SIZE, 1);
	sev_vm_free(sev);

	/* In place of a launch */
	create(type, 1, 0);
	receive.policy = policy_of(type);
	assert_err(__sev_cmd(sev, KVM_SEV_RECEIVE_START, &receive), EIO);
	TEST_ASSERT(sev->fw_error && sev->fw_error != SEV_FW_NOT_CALLED,
		    "RECEIVE_START: firmware error 0x%x", sev->fw_error);
	sev_vm_launch(sev);
	sev_vm_free(sev);
}

SUBTEST(migration_sev)
{
	migration(KVM_X86_SEV_VM);
}

SUBTEST(migration_sev_es)
{
	migration(KVM_X86_SEV_ES_VM);
}

/* --- guests that run ----------------------------------------------------------- */

/* Both kinds of memory, and what the guest is told of the protocol */
static void run_guest(unsigned long type, uint16_t ghcb_version)
{
	struct kvm_enc_region region;
	struct sev_agent *a, *b;
	uint64_t msr;

	create(type, 2, ghcb_version);
	a = &sev->agents[0];
	b = &sev->agents[1];
	vm_userspace_mem_region_add(sev->vm, VM_MEM_SRC_ANONYMOUS, GPA,
				    PRIVATE_MEM_SLOT, SIZE / PAGE_SIZE, 0);
	region.addr = (uintptr_t)addr_gpa2hva(sev->vm, GPA);
	region.size = SIZE;
	vm_ioctl(sev->vm, KVM_MEMORY_ENCRYPT_REG_REGION, &region);
	sev_vm_map(sev, GPA, SIZE);
	sev_vm_launch(sev);

	/* One half private, one shared */
	sev_agent_fill(a, GPA, SIZE / 2, 1);
	sev_agent_check(b, GPA, SIZE / 2, 1);
	sev_agent_fill(b, SEV_SHARED(GPA + SIZE / 2), SIZE / 2, 2);
	vm_mem_check(sev->vm, GPA + SIZE / 2, SIZE / 2, 2);
	vm_mem_fill(sev->vm, GPA + SIZE / 2, SIZE / 2, 3);
	sev_agent_check(a, SEV_SHARED(GPA + SIZE / 2), SIZE / 2, 3);
	sev_agent_check(a, GPA, SIZE / 2, 1);

	if (type == KVM_X86_SEV_ES_VM) {
		uint16_t max = ghcb_version ?: 2;

		msr = sev_agent_msr(a, GHCB_MSR_SEV_INFO_REQ);
		ASSERT_EQ(GHCB_MSR_INFO(msr), (uint64_t)GHCB_MSR_SEV_INFO_RESP);
		ASSERT_EQ(msr >> 48, (uint64_t)max);
		ASSERT_EQ(msr >> 32 & 0xffff, 1ull);
		ASSERT_EQ(1ull << (msr >> 24 & 0xff), sev->c_bit);

		/* Features are of version 2, and this guest has none. */
		msr = sev_agent_msr(a, GHCB_MSR_HV_FT_REQ);
		ASSERT_EQ(msr, (uint64_t)(max < 2 ? GHCB_MSR_HV_FT_REQ :
					  GHCB_MSR_HV_FT_RESP));

		ghcb_init(&a->cmd->ghcb_in, NAE_HV_FEATURES, 0, 0);
		sev_agent_vmgexit(a);
		ASSERT_EQ(ghcb_info1(a), max < 2 ? GHCB_MALFORMED : 0ull);
		ASSERT_EQ(ghcb_info2(a), max < 2 ? GHCB_ERR_INVALID_EVENT : 0ull);

		/* What only SNP guests may ask for */
		ghcb_init(&a->cmd->ghcb_in, NAE_PSC, 0, 0);
		ghcb_put(&a->cmd->ghcb_in, GHCB_SCRATCH, a->ghcb_gpa + GHCB_BUFFER);
		sev_agent_vmgexit(a);
		ASSERT_EQ(ghcb_info1(a), (uint64_t)GHCB_MALFORMED);
		ASSERT_EQ(ghcb_info2(a), (uint64_t)GHCB_ERR_INVALID_EVENT);
	}
	sev_vm_free(sev);
}

SUBTEST(sev_guest)
{
	run_guest(KVM_X86_SEV_VM, 0);
}

SUBTEST(sev_es_guest)
{
	run_guest(KVM_X86_SEV_ES_VM, 0);
}

SUBTEST(sev_es_guest_version_1)
{
	run_guest(KVM_X86_SEV_ES_VM, 1);
}

/* SNP's MSR requests end a SEV-ES guest: it thinks that it is something else. */
SUBTEST(sev_es_guest_thinks_it_is_snp)
{
	static const uint64_t msrs[] = {
		GHCB_MSR_PREF_GPA_REQ, GHCB_MSR_REG_GPA_REQ | 0x1000,
		PSC_ENTRY(GPA, PSC_PRIVATE) | GHCB_MSR_PSC_REQ,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		struct kvm_run *run;
		int rc;

		create(KVM_X86_SEV_ES_VM, 1, 0);
		sev_vm_launch(sev);
		run = agent->vcpu->run;
		rc = sev_agent_start(agent, SEV_MSR, 0, 0, msrs[i]);
		ASSERT_EQ(rc, KVM_EXIT_SYSTEM_EVENT);
		ASSERT_EQ(run->system_event.type, (uint32_t)KVM_SYSTEM_EVENT_SEV_TERM);
		ASSERT_EQ(run->system_event.ndata, 1u);
		ASSERT_EQ(run->system_event.data[0], (__u64)msrs[i]);
		sev_vm_free(sev);
	}
}

/* --- waiting for a SIPI -------------------------------------------------------- */

static struct sev_agent *ap;
static int ap_rc;

static void *ap_thread(void *arg)
{
	int rc;

	/* EAGAIN: something has happened, but it still has to be started. */
	do {
		rc = __vcpu_run(ap->vcpu) ? -errno : (int)ap->vcpu->run->exit_reason;
	} while (rc == -EAGAIN);
	WRITE_ONCE(ap_rc, rc);
	return NULL;
}

/* It is in KVM_RUN, and stays there. */
static pthread_t ap_start_thread(void)
{
	pthread_t thread;

	ap_rc = 4711;
	ASSERT_EQ(pthread_create(&thread, NULL, ap_thread, NULL), 0);
	usleep(100000);
	ASSERT_EQ(READ_ONCE(ap_rc), 4711);
	return thread;
}

static void on_signal(int nr)
{
}

static void ap_interrupt(pthread_t thread)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGUSR1, &action, NULL);
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	ASSERT_EQ(ap_rc, -EINTR);
}

static void ap_init_sipi(void)
{
	uint64_t dest = (uint64_t)ap->vcpu->id << 32 | APIC_INT_ASSERT;

	sev_agent_wrmsr(agent, APIC_BASE_MSR + (APIC_ICR >> 4), dest | APIC_DM_INIT);
	sev_agent_wrmsr(agent, APIC_BASE_MSR + (APIC_ICR >> 4),
			dest | APIC_DM_STARTUP | 0x9a);
}

/* Processor 1 starts as in a machine: when it is told to. */
static void setup_ap(unsigned long type, uint16_t ghcb_version)
{
	struct kvm_mp_state mp_state = { KVM_MP_STATE_UNINITIALIZED };

	create(type, 2, ghcb_version);
	ap = &sev->agents[1];
	sev->nr_vcpus = 1;
	sev_vm_launch(sev);
	sev->nr_vcpus = 2;
	sev_agent_wrmsr(agent, MSR_IA32_APICBASE, APIC_DEFAULT_GPA |
			MSR_IA32_APICBASE_BSP | MSR_IA32_APICBASE_ENABLE |
			X2APIC_ENABLE);

	vcpu_mp_state_set(ap->vcpu, &mp_state);
	ap_interrupt(ap_start_thread());
	ap_init_sipi();
	ASSERT_EQ(__vcpu_run(ap->vcpu), -1);
	ASSERT_EQ(errno, EAGAIN);
	sev_agent_boot(ap);
}

/* The processor says that it waits; it does, and a SIPI ends that. */
static void hold(enum sev_agent_op op, bool sipi)
{
	struct kvm_mp_state mp_state;
	pthread_t thread;

	ap->cmd->op = op;
	ap->cmd->value = GHCB_MSR_AP_RESET_HOLD_REQ;
	ghcb_init(&ap->cmd->ghcb_in, NAE_AP_RESET_HOLD, 0, 0);
	ap_interrupt(ap_start_thread());
	vcpu_mp_state_get(ap->vcpu, &mp_state);
	ASSERT_EQ(mp_state.mp_state, (__u32)KVM_MP_STATE_AP_RESET_HOLD);

	if (!sipi) {
		mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
		vcpu_mp_state_set(ap->vcpu, &mp_state);
		ASSERT_EQ(sev_agent_resume(ap), 0);
		return;
	}
	thread = ap_start_thread();
	ap_init_sipi();
	pthread_join(thread, NULL);
	ASSERT_EQ(ap_rc, KVM_EXIT_IO);
}

static void reset_hold_nae(unsigned long type, uint16_t ghcb_version)
{
	int i;

	setup_ap(type, ghcb_version);
	for (i = 0; i < 3; i++) {
		/* Whatever else ends it, it is not to be taken for a SIPI. */
		bool sipi = i != 1;

		hold(SEV_VMGEXIT, sipi);
		ASSERT_EQ(ghcb_info1(ap), 0ul);
		ASSERT_EQ(!!ghcb_info2(ap), sipi);
		sev_agent_do(ap, SEV_NOP, 0, 0, 0);
	}
	sev_vm_free(sev);
}

static void reset_hold_msr(unsigned long type)
{
	int i;

	setup_ap(type, 2);
	for (i = 0; i < 3; i++) {
		bool sipi = i != 1;

		hold(SEV_MSR, sipi);
		ASSERT_EQ(GHCB_MSR_INFO(ap->cmd->result),
			  (uint64_t)GHCB_MSR_AP_RESET_HOLD_RESP);
		ASSERT_EQ(!!GHCB_MSR_DATA(ap->cmd->result), sipi);
		sev_agent_do(ap, SEV_NOP, 0, 0, 0);
	}

	/* One way after the other: each answer is where it belongs. */
	hold(SEV_VMGEXIT, true);
	TEST_ASSERT(ghcb_info2(ap), "No answer in the GHCB");
	hold(SEV_MSR, true);
	TEST_ASSERT(GHCB_MSR_DATA(ap->cmd->result), "No answer in the MSR");
	sev_vm_free(sev);
}

SUBTEST(reset_hold_sev_es)
{
	reset_hold_nae(KVM_X86_SEV_ES_VM, 2);
}

SUBTEST(reset_hold_sev_es_version_1)
{
	reset_hold_nae(KVM_X86_SEV_ES_VM, 1);

	/* The MSR's way is not there yet: the request comes back. */
	create(KVM_X86_SEV_ES_VM, 1, 1);
	sev_vm_launch(sev);
	ASSERT_EQ(sev_agent_msr(agent, GHCB_MSR_AP_RESET_HOLD_REQ),
		  (uint64_t)GHCB_MSR_AP_RESET_HOLD_REQ);
	sev_vm_free(sev);
}

SUBTEST(reset_hold_sev_es_msr)
{
	reset_hold_msr(KVM_X86_SEV_ES_VM);
}

SUBTEST(reset_hold_snp)
{
	reset_hold_nae(KVM_X86_SNP_VM, 2);
}

SUBTEST(reset_hold_snp_msr)
{
	reset_hold_msr(KVM_X86_SNP_VM);
}

/* Without a VMSA a SIPI has nothing to start. */
SUBTEST(sipi_without_vmsa)
{
	pthread_t thread;

	setup_ap(KVM_X86_SNP_VM, 2);
	ghcb_init(&agent->cmd->ghcb_in, NAE_AP_CREATION,
		  (uint64_t)ap->vcpu->id << 32 | NAE_AP_DESTROY, 0);
	ghcb_put(&agent->cmd->ghcb_in, GHCB_RAX, SEV_FEAT_SNP_ACTIVE);
	sev_agent_vmgexit(agent);
	ASSERT_EQ(ghcb_info1(agent), 0ul);

	/* While it waits, and before it does */
	thread = ap_start_thread();
	ap_init_sipi();
	usleep(100000);
	ASSERT_EQ(READ_ONCE(ap_rc), 4711);
	ap_interrupt(thread);
	ap_init_sipi();
	ap_interrupt(ap_start_thread());
	sev_agent_do(agent, SEV_NOP, 0, 0, 0);
	sev_vm_free(sev);
}

int main(int argc, char *argv[])
{
	__TEST_REQUIRE(sev_type_supported(KVM_X86_SEV_VM) ||
		       sev_type_supported(KVM_X86_SEV_ES_VM) ||
		       sev_type_supported(KVM_X86_SNP_VM), "No VMs of a SEV type");
	subtest_main(argc, argv);
}
