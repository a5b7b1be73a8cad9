// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMs of the types SEV, SEV-ES and SEV-SNP: KVM_SEV_INIT2 and what it refuses, the
 * attributes that say what it takes, which commands belong to which type, and
 * whose registers userspace can see when.
 */
#define _GNU_SOURCE
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "private_mem.h"
#include "sev_vm.h"
#include "subtest.h"

static_assert(sizeof(struct kvm_sev_cmd) == 24, "");
static_assert(offsetof(struct kvm_sev_cmd, data) == 8, "");
static_assert(sizeof(struct kvm_sev_init) == 48, "");
static_assert(offsetof(struct kvm_sev_init, ghcb_version) == 12, "");
static_assert(sizeof(struct kvm_sev_snp_launch_start) == 64, "");
static_assert(offsetof(struct kvm_sev_snp_launch_start, flags) == 0x18, "");
static_assert(sizeof(struct kvm_sev_snp_launch_update) == 64, "");
static_assert(offsetof(struct kvm_sev_snp_launch_update, type) == 0x18, "");
static_assert(offsetof(struct kvm_sev_snp_launch_update, flags) == 0x1a, "");
static_assert(sizeof(struct kvm_sev_snp_launch_finish) == 88, "");
static_assert(offsetof(struct kvm_sev_snp_launch_finish, host_data) == 0x13, "");
static_assert(offsetof(struct kvm_sev_snp_launch_finish, flags) == 0x36, "");
static_assert(KVM_SEV_INIT2 == 22 && KVM_SEV_SNP_LAUNCH_START == 100 &&
	      KVM_SEV_SNP_LAUNCH_UPDATE == 101 &&
	      KVM_SEV_SNP_LAUNCH_FINISH == 102, "");
static_assert(KVM_X86_SEV_VM == 2 && KVM_X86_SEV_ES_VM == 3 &&
	      KVM_X86_SNP_VM == 4, "");
static_assert(KVM_X86_GRP_SEV == 1 && KVM_X86_SEV_VMSA_FEATURES == 0, "");

/* The next type that there is, or 0 */
static unsigned long next_type(unsigned long type)
{
	for (type = type ? type + 1 : KVM_X86_SEV_VM; type <= KVM_X86_SNP_VM; type++) {
		if (sev_type_supported(type))
			return type;
	}
	return 0;
}

#define for_each_type(_type)							\
	for ((_type) = next_type(0); (_type); (_type) = next_type(_type))

static void assert_err(int err, int expected, const char *what, unsigned long type)
{
	TEST_ASSERT(err == expected, "%s, VM type %lu: errno %d (%s), not %d (%s)",
		    what, type, err, strerror(err), expected, strerror(expected));
}

/* 0 or the errno */
static int dev_attr(unsigned long ioctl_nr, uint32_t group, uint64_t attr,
		    void *addr)
{
	struct kvm_device_attr args = {
		.group = group,
		.attr = attr,
		.addr = (uintptr_t)addr,
	};
	int fd = open_kvm_dev_path_or_exit();
	int ret = ioctl(fd, ioctl_nr, &args) ? errno : 0;

	close(fd);
	return ret;
}

static uint64_t vmsa_features(void)
{
	uint64_t features = -1;

	ASSERT_EQ(dev_attr(KVM_GET_DEVICE_ATTR, KVM_X86_GRP_SEV,
			   KVM_X86_SEV_VMSA_FEATURES, &features), 0);
	return features;
}

SUBTEST(attributes)
{
	uint64_t value, *bad = (void *)16;

	ASSERT_EQ(kvm_check_cap(KVM_CAP_SYS_ATTRIBUTES), 1);
	ASSERT_EQ(dev_attr(KVM_HAS_DEVICE_ATTR, KVM_X86_GRP_SEV,
			   KVM_X86_SEV_VMSA_FEATURES, NULL), 0);
	ASSERT_EQ(dev_attr(KVM_HAS_DEVICE_ATTR, KVM_X86_GRP_SEV, 1ull << 40, NULL),
		  ENXIO);
	ASSERT_EQ(dev_attr(KVM_HAS_DEVICE_ATTR, KVM_X86_GRP_SEV + 1, 0, NULL),
		  ENXIO);

	/* What there was before is still there. */
	ASSERT_EQ(dev_attr(KVM_HAS_DEVICE_ATTR, 0, KVM_X86_XCOMP_GUEST_SUPP, NULL),
		  0);
	ASSERT_EQ(dev_attr(KVM_GET_DEVICE_ATTR, 0, KVM_X86_XCOMP_GUEST_SUPP,
			   &value), 0);
	ASSERT_EQ(dev_attr(KVM_HAS_DEVICE_ATTR, 0, 1, NULL), ENXIO);

	/* SNP is a type, not a choice. */
	ASSERT_EQ(vmsa_features() & SEV_FEAT_SNP_ACTIVE, 0ull);
	ASSERT_EQ(dev_attr(KVM_GET_DEVICE_ATTR, KVM_X86_GRP_SEV,
			   KVM_X86_SEV_VMSA_FEATURES, bad), EFAULT);
	ASSERT_EQ(dev_attr(KVM_GET_DEVICE_ATTR, KVM_X86_GRP_SEV, 1ull << 40,
			   &value), ENXIO);
	ASSERT_EQ(dev_attr(KVM_GET_DEVICE_ATTR, KVM_X86_GRP_SEV + 1, 0, &value),
		  ENXIO);
}

/* The types and the CPUID bits go together. */
SUBTEST(types_and_cpuid)
{
	const struct kvm_cpuid_entry2 *e = kvm_get_supported_cpuid_entry(0x8000001f);
	int fd = open_kvm_dev_path_or_exit(), i;

	ASSERT_EQ(sev_type_supported(KVM_X86_SEV_VM), !!(e->eax & BIT(1)));
	ASSERT_EQ(sev_type_supported(KVM_X86_SEV_ES_VM), !!(e->eax & BIT(3)));
	ASSERT_EQ(sev_type_supported(KVM_X86_SNP_VM), !!(e->eax & BIT(4)));

	for (i = 0; i < 40; i++) {
		int vm = ioctl(fd, KVM_CREATE_VM, (unsigned long)i);
		bool known = i < 32 && sev_type_supported(i);

		TEST_ASSERT(known ? vm >= 0 : vm < 0 && errno == EINVAL,
			    "VM type %d: %d, errno %d", i, vm, errno);
		if (vm >= 0)
			close(vm);
	}
	close(fd);
}

SUBTEST(ghcb_versions)
{
	unsigned long type;

	for_each_type(type) {
		/* An SNP guest has but a few commands. */
		int again = type == KVM_X86_SNP_VM ? EPERM : EINVAL;
		uint16_t version;

		for (version = 0; version < 4; version++) {
			struct sev_vm *sev = sev_vm_create_barebones(type);
			bool good;

			switch (type) {
			case KVM_X86_SEV_VM:
				good = version == 0;
				break;
			case KVM_X86_SEV_ES_VM:
				good = version <= 2;
				break;
			default:
				good = version == 0 || version == 2;
				break;
			}
			assert_err(__sev_init2(sev, 0, 0, version),
				   good ? 0 : EINVAL, "GHCB version", type);
			/* What has failed has changed nothing. */
			assert_err(__sev_init2(sev, 0, 0, 0), good ? again : 0,
				   "INIT2 again", type);
			sev_vm_free(sev);
		}
	}
}

SUBTEST(features_and_flags)
{
	unsigned long type;

	for_each_type(type) {
		uint64_t good = sev_is_es(type) ? vmsa_features() : 0;
		struct sev_vm *sev = sev_vm_create_barebones(type);
		int i;

		for (i = 0; i < 64; i++) {
			if (!(good & 1ull << i))
				assert_err(__sev_init2(sev, 1ull << i, 0, 0),
					   EINVAL, "VMSA feature", type);
		}
		assert_err(__sev_init2(sev, -1ull, 0, 0), EINVAL, "VMSA features",
			   type);
		for (i = 0; i < 32; i++)
			assert_err(__sev_init2(sev, 0, 1u << i, 0), EINVAL, "Flag",
				   type);
		assert_err(__sev_init2(sev, 0, 0, 0xffff), EINVAL, "GHCB version",
			   type);
		assert_err(__sev_cmd(sev, KVM_SEV_INIT2, NULL), EFAULT, "NULL", type);
		assert_err(__sev_cmd(sev, KVM_SEV_INIT2, (void *)-4096ul), EFAULT,
			   "Bad pointer", type);
		ASSERT_EQ(ioctl(sev->vm->fd, KVM_MEMORY_ENCRYPT_OP, 16ul), -1);
		ASSERT_EQ(errno, EFAULT);

		assert_err(__sev_init2(sev, good, 0, 0), 0, "INIT2", type);
		sev_vm_free(sev);
	}
}

SUBTEST(twice_and_old_init)
{
	unsigned long type;

	for_each_type(type) {
		struct sev_vm *sev = sev_vm_create_barebones(type);
		int old = type == KVM_X86_SNP_VM ? EPERM : EINVAL;

		assert_err(__sev_cmd(sev, KVM_SEV_INIT, NULL), EINVAL, "INIT", type);
		assert_err(__sev_cmd(sev, KVM_SEV_ES_INIT, NULL), EINVAL, "ES_INIT",
			   type);
		sev_init2(sev);
		assert_err(__sev_init2(sev, 0, 0, 0), old, "INIT2 twice", type);
		assert_err(__sev_cmd(sev, KVM_SEV_INIT, NULL), old, "INIT", type);
		assert_err(__sev_cmd(sev, KVM_SEV_ES_INIT, NULL), old, "ES_INIT", type);
		sev_vm_free(sev);
	}
}

SUBTEST(other_types)
{
	struct sev_vm *sev;
	unsigned long type;

	for (type = KVM_X86_DEFAULT_VM; type <= KVM_X86_SW_PROTECTED_VM; type++) {
		if (!sev_type_supported(type))
			continue;
		sev = sev_vm_create_barebones(type);
		assert_err(__sev_init2(sev, 0, 0, 0), EINVAL, "INIT2", type);
		if (type == KVM_X86_SW_PROTECTED_VM) {
			assert_err(__sev_cmd(sev, KVM_SEV_INIT, NULL), EINVAL,
				   "INIT", type);
			assert_err(__sev_cmd(sev, KVM_SEV_ES_INIT, NULL), EINVAL,
				   "ES_INIT", type);
		}
		sev_vm_free(sev);
	}

	/* A default VM that is an encrypted one, by the old way */
	sev = sev_vm_create_barebones(KVM_X86_DEFAULT_VM);
	sev_cmd(sev, KVM_SEV_INIT, NULL);
	assert_err(__sev_init2(sev, 0, 0, 0), EINVAL, "INIT2 after INIT", 0);
	assert_err(__sev_cmd(sev, KVM_SEV_INIT, NULL), EBUSY, "INIT twice", 0);
	sev_vm_free(sev);
}

SUBTEST(after_vcpus)
{
	unsigned long type;

	for_each_type(type) {
		struct sev_vm *sev = sev_vm_create_barebones(type);
		struct kvm_vcpu *vcpu = __vm_vcpu_add(sev->vm, 0);

		assert_err(__sev_init2(sev, 0, 0, 0), EINVAL, "INIT2 with a vCPU",
			   type);

		/* It must not run as if it were an ordinary one. */
		ASSERT_EQ(__vcpu_run(vcpu), -1);
		assert_err(errno, EINVAL, "KVM_RUN before INIT2", type);
		sev_vm_free(sev);
	}
}

SUBTEST(commands_of_other_types)
{
	unsigned long type;
	uint32_t id;

	for (type = KVM_X86_DEFAULT_VM; type <= KVM_X86_SNP_VM; type++) {
		struct sev_vm *sev;

		if (!sev_type_supported(type) || type == KVM_X86_SW_PROTECTED_VM)
			continue;

		sev = sev_vm_create_barebones(type);
		/* Before INIT2, too: there is no SNP guest yet. */
		for (id = KVM_SEV_SNP_LAUNCH_START; id <= KVM_SEV_SNP_LAUNCH_FINISH; id++)
			assert_err(__sev_cmd(sev, id, NULL), ENOTTY, "SNP command",
				   type);
		if (type == KVM_X86_DEFAULT_VM)
			sev_cmd(sev, KVM_SEV_INIT, NULL);
		else
			sev_init2(sev);

		if (type == KVM_X86_SNP_VM) {
			for (id = 0; id < KVM_SEV_SNP_LAUNCH_START; id++)
				assert_err(__sev_cmd(sev, id, NULL), EPERM,
					   "Old command", type);
		} else {
			for (id = KVM_SEV_SNP_LAUNCH_START;
			     id <= KVM_SEV_SNP_LAUNCH_FINISH; id++)
				assert_err(__sev_cmd(sev, id, NULL), ENOTTY,
					   "SNP command", type);
			for (id = KVM_SEV_INIT2 + 1; id < KVM_SEV_SNP_LAUNCH_START; id++)
				assert_err(__sev_cmd(sev, id, NULL), EINVAL,
					   "No command", type);
		}
		assert_err(__sev_cmd(sev, 1000, NULL), EINVAL, "No command", type);
		assert_err(__sev_cmd(sev, -1u, NULL), EINVAL, "No command", type);
		sev_vm_free(sev);
	}
}

/* Neither the context nor its mirror goes to a VM of another type. */
SUBTEST(move_and_mirror)
{
	unsigned long from, to;

	for (from = KVM_X86_DEFAULT_VM; from <= KVM_X86_SNP_VM; from++) {
		for (to = KVM_X86_DEFAULT_VM; to <= KVM_X86_SNP_VM; to++) {
			bool same = from == to && from != KVM_X86_SNP_VM &&
				    from != KVM_X86_SW_PROTECTED_VM;
			struct sev_vm *src, *dst;
			int ret;

			if (!sev_type_supported(from) || !sev_type_supported(to) || same)
				continue;
			src = sev_vm_create_barebones(from);
			dst = sev_vm_create_barebones(to);
			if (from == KVM_X86_DEFAULT_VM)
				sev_cmd(src, KVM_SEV_INIT, NULL);
			else if (from != KVM_X86_SW_PROTECTED_VM)
				sev_init2(src);

			ret = __vm_enable_cap(dst->vm, KVM_CAP_VM_COPY_ENC_CONTEXT_FROM,
					      src->vm->fd);
			assert_err(ret ? errno : 0, EINVAL, "Mirror", from);
			ret = __vm_enable_cap(dst->vm, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM,
					      src->vm->fd);
			assert_err(ret ? errno : 0, EINVAL, "Move", from);
			sev_vm_free(src);
			sev_vm_free(dst);
		}
	}
}

/* --- registers -------------------------------------------------------------- */

static uint8_t state[16384] __aligned(64);

#define STATE_IOCTL(_name)	{ _name, #_name }
/* Each GET with its SET, which gets what that has got. */
static const struct {
	unsigned long nr;
	const char *name;
} state_ioctls[] = {
	STATE_IOCTL(KVM_GET_REGS), STATE_IOCTL(KVM_SET_REGS),
	STATE_IOCTL(KVM_GET_SREGS), STATE_IOCTL(KVM_SET_SREGS),
	STATE_IOCTL(KVM_GET_SREGS2), STATE_IOCTL(KVM_SET_SREGS2),
	STATE_IOCTL(KVM_GET_FPU), STATE_IOCTL(KVM_SET_FPU),
	STATE_IOCTL(KVM_GET_XSAVE), STATE_IOCTL(KVM_SET_XSAVE),
	STATE_IOCTL(KVM_GET_XSAVE2),
	STATE_IOCTL(KVM_GET_DEBUGREGS), STATE_IOCTL(KVM_SET_DEBUGREGS),
	STATE_IOCTL(KVM_GET_XCRS), STATE_IOCTL(KVM_SET_XCRS),
	STATE_IOCTL(KVM_GET_VCPU_EVENTS), STATE_IOCTL(KVM_SET_VCPU_EVENTS),
};

static void check_state_ioctls(struct sev_vm *sev, int expected)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(state_ioctls); i++) {
		int ret = ioctl(sev->agents[0].vcpu->fd, state_ioctls[i].nr, state);

		assert_err(ret ? errno : 0, expected, state_ioctls[i].name, sev->type);
	}
}

SUBTEST(registers)
{
	unsigned long type;

	for_each_type(type) {
		struct sev_vm *sev = sev_vm_create_agents(type, 1);
		int hidden = sev_is_es(type) ? EINVAL : 0;
		struct kvm_mp_state mp_state;
		struct kvm_lapic_state lapic;
		struct kvm_vcpu *vcpu = sev->agents[0].vcpu;

		check_state_ioctls(sev, 0);
		sev_vm_launch(sev);
		check_state_ioctls(sev, hidden);
		ASSERT_EQ(sev_agent_do(&sev->agents[0], SEV_NOP, 0, 0, 0), 0ul);

		/* What is KVM's, not the guest's, can be seen as ever. */
		vcpu_mp_state_get(vcpu, &mp_state);
		vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
		sev_vm_free(sev);
	}
}

/* Default VMs ignore it, as they always have. */
SUBTEST(registers_of_default_vm)
{
	struct sev_vm *sev = sev_vm_create_barebones(KVM_X86_DEFAULT_VM);
	struct kvm_sev_launch_start start = { .policy = SEV_POLICY_ES };

	if (!sev_type_supported(KVM_X86_SEV_ES_VM))
		subtest_skip("no SEV-ES");

	sev_cmd(sev, KVM_SEV_ES_INIT, NULL);
	sev->agents[0].vcpu = __vm_vcpu_add(sev->vm, 0);
	vcpu_init_cpuid(sev->agents[0].vcpu, kvm_get_supported_cpuid());
	check_state_ioctls(sev, 0);
	sev_cmd(sev, KVM_SEV_LAUNCH_START, &start);
	sev_cmd(sev, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
	check_state_ioctls(sev, 0);
	sev_vm_free(sev);
}

/* --- guests ----------------------------------------------------------------- */

#define GPA	PRIVATE_MEM_GPA
#define SIZE	(2ULL << 20)

/* SEV and SEV-ES guests that run; SNP has tests of its own. */
static void run_guest(unsigned long type, uint16_t ghcb_version)
{
	struct sev_vm *sev = __sev_vm_create_agents(type, 2, ghcb_version);
	struct kvm_enc_region region;
	struct sev_agent *a = &sev->agents[0], *b = &sev->agents[1];
	uint64_t msr;

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
	if (!sev_type_supported(KVM_X86_SEV_VM))
		subtest_skip("no SEV");
	run_guest(KVM_X86_SEV_VM, 0);
}

SUBTEST(sev_es_guest)
{
	if (!sev_type_supported(KVM_X86_SEV_ES_VM))
		subtest_skip("no SEV-ES");
	run_guest(KVM_X86_SEV_ES_VM, 0);
}

SUBTEST(sev_es_guest_version_1)
{
	if (!sev_type_supported(KVM_X86_SEV_ES_VM))
		subtest_skip("no SEV-ES");
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

	if (!sev_type_supported(KVM_X86_SEV_ES_VM))
		subtest_skip("no SEV-ES");

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		struct sev_vm *sev = sev_vm_create_agents(KVM_X86_SEV_ES_VM, 1);
		struct kvm_run *run = sev->agents[0].vcpu->run;
		int rc;

		sev_vm_launch(sev);
		rc = sev_agent_start(&sev->agents[0], SEV_MSR, 0, 0, msrs[i]);
		ASSERT_EQ(rc, KVM_EXIT_SYSTEM_EVENT);
		ASSERT_EQ(run->system_event.type, (uint32_t)KVM_SYSTEM_EVENT_SEV_TERM);
		ASSERT_EQ(run->system_event.ndata, 1u);
		ASSERT_EQ(run->system_event.data[0], (__u64)msrs[i]);
		sev_vm_free(sev);
	}
}

/* Each VM takes an ASID: there is an end, and an ASID comes back. */
static void exhaust_asids(unsigned long type, int max)
{
	struct sev_vm **vms = calloc(max + 1, sizeof(*vms));
	int i, nr, err = 0;

	for (nr = 0; nr <= max; nr++) {
		vms[nr] = sev_vm_create_barebones(type);
		err = __sev_init2(vms[nr], 0, 0, 0);
		if (err)
			break;
	}
	TEST_ASSERT(nr == max && err == EBUSY, "%d VMs of type %lu, then errno %d",
		    nr, type, err);

	/* The one without is as good as new when one is free again. */
	sev_vm_free(vms[0]);
	sev_init2(vms[nr]);
	for (i = 1; i <= nr; i++)
		sev_vm_free(vms[i]);
	for (i = 0; i < 2; i++) {
		vms[i] = sev_vm_create_barebones(type);
		sev_init2(vms[i]);
		sev_vm_free(vms[i]);
	}
	free(vms);
}

SUBTEST(asids_run_out)
{
	uint32_t eax, ebx, ecx, edx;

	cpuid(0x8000001f, &eax, &ebx, &ecx, &edx);
	if (!sev_type_supported(KVM_X86_SNP_VM))
		subtest_skip("no SEV-SNP");
	if (edx - 1 > 200)
		subtest_skip("too many ASIDs");
	exhaust_asids(KVM_X86_SNP_VM, edx - 1);
}

int main(int argc, char *argv[])
{
	__TEST_REQUIRE(sev_type_supported(KVM_X86_SEV_VM) ||
		       sev_type_supported(KVM_X86_SEV_ES_VM) ||
		       sev_type_supported(KVM_X86_SNP_VM), "No VMs of a SEV type");
	subtest_main(argc, argv);
}
