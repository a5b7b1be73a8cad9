/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Virtual machines of the types SEV, SEV-ES and SEV-SNP, and an agent in them
 * that acts on command.
 *
 * Such a guest cannot be looked into: neither its registers nor, with SNP, its
 * memory.  Test and agent talk through a page that is shared, and the agent ends
 * each command with an OUT; a SEV-ES or SNP guest by way of its GHCB.  No guest
 * has a handler for #VC, so it never does by itself what would raise one.
 *
 * Test memory is mapped twice: at its guest physical address with the C-bit, i.e.
 * as private, and at SEV_SHARED() of it without.
 */
#ifndef SELFTEST_KVM_SEV_VM_H
#define SELFTEST_KVM_SEV_VM_H

#include "kvm_util.h"
#include "private_mem.h"

/* Guest policies: SEV and SEV-ES (SEV API 55766, 3.1); SNP (56860, 4.3) */
#define SEV_POLICY_NODBG	BIT(0)
#define SEV_POLICY_ES		BIT(2)
#define SEV_POLICY_NOSEND	BIT(3)
#define SNP_POLICY_SMT		BIT_ULL(16)
#define SNP_POLICY_ONE		BIT_ULL(17)
#define SNP_POLICY_MIGRATE_MA	BIT_ULL(18)
#define SNP_POLICY_DEBUG	BIT_ULL(19)
#define SNP_POLICY		(SNP_POLICY_SMT | SNP_POLICY_ONE)

/* What the firmware says */
#define SEV_FW_OK			0x00
#define SEV_FW_INVALID_GUEST_STATE	0x02
#define SEV_FW_INVALID_LENGTH		0x04
#define SEV_FW_POLICY_FAILURE		0x07
#define SEV_FW_BAD_SIGNATURE		0x0a
#define SEV_FW_BAD_MEASUREMENT		0x0b
#define SEV_FW_INVALID_PARAM		0x16
#define SEV_FW_NOT_CALLED		0xffffffff

/* VMSA features */
#define SEV_FEAT_SNP_ACTIVE		BIT_ULL(0)

/* GHCB MSR protocol (GHCB specification 56421, 2.3) */
#define GHCB_MSR			0xc0010130
#define GHCB_MSR_INFO(_msr)		((_msr) & 0xfff)
#define GHCB_MSR_DATA(_msr)		((_msr) >> 12)
#define GHCB_MSR_REQ(_code, _data)	((uint64_t)(_data) << 12 | (_code))
#define GHCB_MSR_SEV_INFO_RESP		0x001
#define GHCB_MSR_SEV_INFO_REQ		0x002
#define GHCB_MSR_CPUID_REQ		0x004
#define GHCB_MSR_CPUID_RESP		0x005
#define GHCB_MSR_AP_RESET_HOLD_REQ	0x006
#define GHCB_MSR_AP_RESET_HOLD_RESP	0x007
#define GHCB_MSR_PREF_GPA_REQ		0x010
#define GHCB_MSR_PREF_GPA_RESP		0x011
#define GHCB_MSR_REG_GPA_REQ		0x012
#define GHCB_MSR_REG_GPA_RESP		0x013
#define GHCB_MSR_PSC_REQ		0x014
#define GHCB_MSR_PSC_RESP		0x015
#define GHCB_MSR_HV_FT_REQ		0x080
#define GHCB_MSR_HV_FT_RESP		0x081
#define GHCB_MSR_TERM_REQ		0x100
#define GHCB_HV_FT_SNP			BIT_ULL(0)
#define GHCB_HV_FT_AP_CREATION		BIT_ULL(1)

/* Non-automatic exits (56421, 2.6 and 4.1) */
#define NAE_RDTSC			0x6e
#define NAE_CPUID			0x72
#define NAE_IOIO			0x7b
#define NAE_MSR				0x7c
#define NAE_VMMCALL			0x81
#define NAE_RDTSCP			0x87
#define NAE_MMIO_READ			0x80000001
#define NAE_MMIO_WRITE			0x80000002
#define NAE_AP_RESET_HOLD		0x80000004
#define NAE_AP_JUMP_TABLE		0x80000005
#define NAE_PSC				0x80000010
#define NAE_GUEST_REQUEST		0x80000011
#define NAE_EXT_GUEST_REQUEST		0x80000012
#define NAE_AP_CREATION			0x80000013
#define NAE_HV_FEATURES			0x8000fffd
#define NAE_TERM			0x8000fffe
#define NAE_AP_CREATE_ON_INIT		0
#define NAE_AP_CREATE			1
#define NAE_AP_DESTROY			2

/* IOIO, SW_EXITINFO1 */
#define IOIO_OUTB(_port)		((uint64_t)(_port) << 16 | BIT(9) | BIT(4))
#define IOIO_IN				BIT(0)
#define IOIO_STR			BIT(2)
#define IOIO_REP			BIT(3)

/* The answer to a malformed request, SW_EXITINFO1, and why, SW_EXITINFO2 */
#define GHCB_MALFORMED			2
#define GHCB_ERR_NOT_REGISTERED		1
#define GHCB_ERR_INVALID_USAGE		2
#define GHCB_ERR_INVALID_SCRATCH	3
#define GHCB_ERR_MISSING_INPUT		4
#define GHCB_ERR_INVALID_INPUT		5
#define GHCB_ERR_INVALID_EVENT		6

/* Page state change: entries, and the result in SW_EXITINFO2 */
#define PSC_PRIVATE			1
#define PSC_SHARED			2
#define PSC_PSMASH			3
#define PSC_UNSMASH			4
#define PSC_2M				BIT_ULL(56)
#define PSC_ENTRY(_gpa, _op)		((_gpa) | (uint64_t)(_op) << 52)
#define PSC_MAX_ENTRIES			253
#define PSC_ERR_HEADER			0x100000001ull
#define PSC_ERR_ENTRY			0x100000002ull
#define PSC_ERR_GENERIC			(0x100ull << 32)

/* Offsets in the GHCB */
#define GHCB_CPL			0x0cb
#define GHCB_RAX			0x1f8
#define GHCB_RCX			0x308
#define GHCB_RDX			0x310
#define GHCB_RBX			0x318
#define GHCB_RSI			0x330
#define GHCB_EXIT_CODE			0x390
#define GHCB_EXIT_INFO1			0x398
#define GHCB_EXIT_INFO2			0x3a0
#define GHCB_SCRATCH			0x3a8
#define GHCB_XCR0			0x3e8
#define GHCB_VALID			0x3f0
#define GHCB_BUFFER			0x800
#define GHCB_BUFFER_SIZE		0x7f0
#define GHCB_VERSION			0xffa
#define GHCB_USAGE			0xffc

struct ghcb_page {
	union {
		uint64_t words[512];
		uint8_t bytes[4096];
	};
};

static inline uint64_t ghcb_get(const struct ghcb_page *ghcb, unsigned int offset)
{
	return ghcb->words[offset / 8];
}

static inline void ghcb_mark_valid(struct ghcb_page *ghcb, unsigned int offset,
				   bool valid)
{
	uint64_t *map = &ghcb->words[GHCB_VALID / 8 + offset / 512];
	uint64_t bit = 1ull << (offset / 8 % 64);

	*map = valid ? *map | bit : *map & ~bit;
}

static inline void ghcb_put(struct ghcb_page *ghcb, unsigned int offset,
			    uint64_t value)
{
	ghcb->words[offset / 8] = value;
	ghcb_mark_valid(ghcb, offset, true);
}

/* An exit, with nothing but what each exit needs. */
void ghcb_init(struct ghcb_page *ghcb, uint64_t exit_code, uint64_t info1,
	       uint64_t info2);

enum sev_agent_op {
	SEV_NOP,
	SEV_READ,		/* result = *addr */
	SEV_WRITE,		/* *addr = value */
	SEV_FILL,		/* pattern of gpa with the seed value */
	SEV_CHECK,		/* pattern; result is the number of bad words */
	SEV_CHECK_CONST,	/* all words equal value; result as above */
	SEV_COPY,		/* size bytes from addr to value */
	SEV_EXEC,		/* call addr with the argument value */
	SEV_PVALIDATE,		/* each page of [addr, + size); see below */
	SEV_RMPADJUST,		/* addr, size; RDX is value; result is EAX */
	SEV_MSR,		/* GHCB MSR = value, VMGEXIT; result is the MSR */
	SEV_VMGEXIT,		/* ghcb_in to the GHCB, VMGEXIT, and ghcb_out */
	SEV_VMGEXIT_AT,		/* the same with a GHCB MSR of value */
	SEV_HANG,		/* never come back */
};

/* SEV_PVALIDATE: it stops where it fails; the result is EAX, and CF in bit 8. */
#define PVALIDATE_OK			0
#define PVALIDATE_FAIL_INPUT		1
#define PVALIDATE_FAIL_SIZEMISMATCH	6
#define PVALIDATE_UNCHANGED		BIT(8)

struct sev_agent_cmd {
	uint64_t op;
	uint64_t addr;
	uint64_t gpa;
	uint64_t size;
	uint64_t value;
	uint64_t page_size;	/* of PVALIDATE and RMPADJUST */
	uint64_t result;
	uint64_t bad_addr;
	/* What the agent needs to know of itself */
	uint64_t vm_type;
	uint64_t ghcb_gpa;
	uint64_t ghcb_gva;
	uint64_t self;
	uint8_t data[4096 - 12 * 8];
	struct ghcb_page ghcb_in;
	struct ghcb_page ghcb_out;
};

#define SEV_MAX_VCPUS	4

struct sev_vm;

struct sev_agent {
	struct sev_vm *sev;
	struct kvm_vcpu *vcpu;
	struct sev_agent_cmd *cmd;	/* the host's address of it */
	uint64_t cmd_gva;
	struct ghcb_page *ghcb;		/* the same */
	uint64_t ghcb_gpa;
};

struct sev_vm {
	struct kvm_vm *vm;
	unsigned long type;
	int sev_fd;
	uint32_t fw_error;		/* of the last command */
	uint64_t c_bit;
	uint32_t nr_vcpus;
	struct sparsebit *shared_gfns;
	struct sev_agent agents[SEV_MAX_VCPUS];
};

static inline bool sev_is_es(unsigned long type)
{
	return type == KVM_X86_SEV_ES_VM || type == KVM_X86_SNP_VM;
}

bool sev_type_supported(unsigned long type);
/* Skip the whole program unless there are VMs of the type. */
void require_sev_type(unsigned long type);

/* An empty VM that has not been initialised. */
struct sev_vm *sev_vm_create_barebones(unsigned long type);
void sev_vm_free(struct sev_vm *sev);

/* KVM_MEMORY_ENCRYPT_OP: 0 or the errno; the firmware's error is in @sev. */
int __sev_cmd(struct sev_vm *sev, uint32_t id, void *data);
void sev_cmd(struct sev_vm *sev, uint32_t id, void *data);

int __sev_init2(struct sev_vm *sev, uint64_t vmsa_features, uint32_t flags,
		uint16_t ghcb_version);
void sev_init2(struct sev_vm *sev);

/* A VM with agents in slot 0, initialised, not launched. */
struct sev_vm *__sev_vm_create_agents(unsigned long type, uint32_t nr_vcpus,
				      uint16_t ghcb_version);
struct sev_vm *sev_vm_create_agents(unsigned long type, uint32_t nr_vcpus);

/* Where @gpa is mapped without the C-bit; only the test's memory is. */
#define SEV_SHARED(_gpa)	((_gpa) + (1ull << 40))

/* Map [gpa, gpa + size), multiples of 2M, both ways.  Before the launch. */
void sev_vm_map(struct sev_vm *sev, uint64_t gpa, uint64_t size);

/* A page of slot 0 that stays shared.  Before the launch. */
vm_vaddr_t sev_vm_alloc_shared(struct sev_vm *sev, size_t size, uint64_t *gpa);

/* A page of slot 0 that the launch takes as it is. */
vm_vaddr_t sev_vm_alloc_private(struct sev_vm *sev, size_t size, uint64_t *gpa);

/*
 * The launch, and its steps.  sev_vm_seal() makes the guest's page tables final,
 * and tells KVM what is private.
 */
void sev_vm_seal(struct sev_vm *sev);
void sev_vm_launch(struct sev_vm *sev);
/*
 * All that is private in slot 0 of a SEV or SEV-ES guest, which KVM is told of.
 * @before sees it while it is plain, if not NULL.
 */
void sev_launch_update_slot0(struct sev_vm *sev,
			     void (*before)(const void *data, uint64_t size));
int __snp_launch_start(struct sev_vm *sev, uint64_t policy);
void snp_launch_start(struct sev_vm *sev);
int __snp_launch_update(struct sev_vm *sev, uint64_t gpa, void *src,
			uint64_t size, uint8_t type);
void snp_launch_update(struct sev_vm *sev, uint64_t gpa, void *src,
		       uint64_t size, uint8_t type);
int __snp_launch_finish(struct sev_vm *sev,
			struct kvm_sev_snp_launch_finish *finish);
/* All that is private in slot 0; @done is called for each page, if not NULL. */
void snp_launch_update_slot0(struct sev_vm *sev,
			     void (*done)(uint64_t gpa, void *page));

/* The state of a vCPU as the firmware and the processor see it */
struct snp_vmsa {
	uint8_t bytes[4096];
};

/* Offsets in it of what snp_vmsa_init() does not know */
#define SNP_VMSA_VMPL	0x0ca
#define SNP_VMSA_XCR0	0x3e8

/*
 * @xsave has what is of x87, SSE and AVX, in the standard format; NULL: as after
 * a reset.
 */
void snp_vmsa_init(struct snp_vmsa *vmsa, const struct kvm_sregs *sregs,
		   const struct kvm_regs *regs, const uint8_t *xsave);

/* For guest code: be an agent, from the beginning. */
void __noreturn sev_agent_main(struct sev_agent_cmd *cmd);

/* Each agent's first run, which ends when it waits for a command. */
void sev_agent_boot(struct sev_agent *agent);

/* As agent_start(), agent_resume() and agent_do() */
int sev_agent_start(struct sev_agent *agent, enum sev_agent_op op, uint64_t addr,
		    uint64_t size, uint64_t value);
int sev_agent_resume(struct sev_agent *agent);
uint64_t sev_agent_do(struct sev_agent *agent, enum sev_agent_op op,
		      uint64_t addr, uint64_t size, uint64_t value);

/* By @addr, the private or the shared alias of @gpa. */
void sev_agent_fill(struct sev_agent *agent, uint64_t addr, uint64_t size,
		    uint64_t seed);
void sev_agent_check(struct sev_agent *agent, uint64_t addr, uint64_t size,
		     uint64_t seed);
void sev_agent_check_const(struct sev_agent *agent, uint64_t addr,
			   uint64_t size, uint64_t value);

/* The result, see SEV_PVALIDATE; sev_validate() insists on success. */
uint64_t sev_agent_pvalidate(struct sev_agent *agent, uint64_t gpa,
			     uint64_t size, uint64_t page_size, bool validate);
void sev_validate(struct sev_agent *agent, uint64_t gpa, uint64_t size,
		  uint64_t page_size);
uint64_t sev_agent_rmpadjust(struct sev_agent *agent, uint64_t gpa,
			     uint64_t page_size, uint64_t rdx);

/* VMGEXIT with what is in cmd->ghcb_in, or by the MSR; no exit may come up. */
void sev_agent_vmgexit(struct sev_agent *agent);
uint64_t sev_agent_msr(struct sev_agent *agent, uint64_t msr);
/* Write a MSR, other than the GHCB's, by a VMGEXIT that must not fail. */
void sev_agent_wrmsr(struct sev_agent *agent, uint32_t index, uint64_t value);

/* The last VMGEXIT's SW_EXITINFO1 and SW_EXITINFO2 */
static inline uint64_t ghcb_info1(struct sev_agent *agent)
{
	return ghcb_get(&agent->cmd->ghcb_out, GHCB_EXIT_INFO1);
}

static inline uint64_t ghcb_info2(struct sev_agent *agent)
{
	return ghcb_get(&agent->cmd->ghcb_out, GHCB_EXIT_INFO2);
}

void sev_agent_assert_memory_fault(struct sev_agent *agent, int rc, uint64_t gpa,
				   uint64_t flags);

/* The exit is for [gpa, gpa + size), and that conversion. */
void sev_assert_map_gpa_range(struct sev_agent *agent, int rc, uint64_t gpa,
			      uint64_t size, bool to_private, bool huge);
/* Do what the exit asks for: attributes, a hole for what is not private now. */
void sev_grant_map_gpa_range(struct sev_agent *agent);

/* A conversion with the MSR, page by page, and PVALIDATE where it belongs. */
void sev_convert(struct sev_agent *agent, uint64_t gpa, uint64_t size,
		 bool to_private);

#endif /* SELFTEST_KVM_SEV_VM_H */
