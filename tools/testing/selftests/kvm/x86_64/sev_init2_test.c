// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMs of the types SEV, SEV-ES and SEV-SNP: KVM_SEV_INIT2 and what it refuses, the
 * attributes that say what it takes, which commands belong to which type, what is
 * pinned, moved and mirrored, what userspace can see of a guest when, and what
 * there is not without end.
 */
#define _GNU_SOURCE
#include <sys/resource.h>
#include <sys/stat.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "private_mem.h"
#include "sev_vm.h"
#include "subtest.h"
#include "svm.h"

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
static_assert(KVM_X86_GRP_SEV == 1 && KVM_X86_SEV_VMSA_FEATURES == 0 &&
	      KVM_X86_SNP_POLICY_BITS == 1, "");

#define GPA	PRIVATE_MEM_GPA

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

	/* What a guest's policy may say: whatever one needs, and nothing on migration. */
	ASSERT_EQ(dev_attr(KVM_HAS_DEVICE_ATTR, KVM_X86_GRP_SEV,
			   KVM_X86_SNP_POLICY_BITS, NULL), 0);
	ASSERT_EQ(dev_attr(KVM_GET_DEVICE_ATTR, KVM_X86_GRP_SEV,
			   KVM_X86_SNP_POLICY_BITS, &value), 0);
	ASSERT_EQ(value & (SNP_POLICY | SNP_POLICY_MIGRATE_MA),
		  sev_type_supported(KVM_X86_SNP_VM) ? SNP_POLICY : 0);

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

/* Both go between VMs of one type.  Only what owns the context has its commands. */
static void move_and_mirror_same(unsigned long type)
{
	/* Without memory: that of a VM that is dead could not be freed. */
	struct sev_vm *src = sev_vm_create_barebones(type), *dst, *mirror, *other;
	struct kvm_sev_guest_status status = {};
	struct kvm_sev_launch_start start = {
		.policy = type == KVM_X86_SEV_ES_VM ? SEV_POLICY_ES : 0,
	};
	uint32_t handle;
	int i;

	sev_init2(src);
	for (i = 0; i < 2; i++)
		vcpu_init_cpuid(__vm_vcpu_add(src->vm, i), kvm_get_supported_cpuid());
	sev_cmd(src, KVM_SEV_LAUNCH_START, &start);
	sev_cmd(src, KVM_SEV_GUEST_STATUS, &status);
	handle = status.handle;

	mirror = sev_vm_create_barebones(type);
	vm_enable_cap(mirror->vm, KVM_CAP_VM_COPY_ENC_CONTEXT_FROM, src->vm->fd);
	sev_cmd(mirror, KVM_SEV_GUEST_STATUS, &status);
	ASSERT_EQ(status.handle, handle);
	assert_err(__sev_init2(mirror, 0, 0, 0), EINVAL, "INIT2 of a mirror", type);
	assert_err(__sev_cmd(mirror, KVM_SEV_LAUNCH_FINISH, NULL), EINVAL,
		   "LAUNCH_FINISH of a mirror", type);
	other = sev_vm_create_barebones(type);
	ASSERT_EQ(__vm_enable_cap(other->vm, KVM_CAP_VM_COPY_ENC_CONTEXT_FROM,
				  mirror->vm->fd), -1);
	assert_err(errno, EINVAL, "Mirror of a mirror", type);

	/* As many vCPUs, and for SEV-ES they have to be encrypted. */
	dst = sev_vm_create_barebones(type);
	if (type == KVM_X86_SEV_ES_VM) {
		ASSERT_EQ(__vm_enable_cap(dst->vm, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM,
					  src->vm->fd), -1);
		assert_err(errno, EINVAL, "Move without vCPUs", type);
		for (i = 0; i < 2; i++)
			__vm_vcpu_add(dst->vm, i);
		ASSERT_EQ(__vm_enable_cap(dst->vm, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM,
					  src->vm->fd), -1);
		assert_err(errno, EINVAL, "Move of plain vCPUs", type);
		sev_cmd(src, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
	}
	vm_enable_cap(dst->vm, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM, src->vm->fd);
	assert_err(__sev_init2(dst, 0, 0, 0), EINVAL, "INIT2 after a move", type);
	assert_err(__sev_cmd(src, KVM_SEV_GUEST_STATUS, &status), EIO,
		   "What is dead", type);
	ASSERT_EQ(__vm_enable_cap(other->vm, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM,
				  src->vm->fd), -1);
	TEST_ASSERT(errno == EIO || errno == EINVAL, "Move of nothing: errno %d", errno);
	vm_enable_cap(other->vm, KVM_CAP_VM_COPY_ENC_CONTEXT_FROM, dst->vm->fd);
	sev_vm_free(other);

	/* The mirror's context is where it has gone, and lives as long as both. */
	sev_cmd(mirror, KVM_SEV_GUEST_STATUS, &status);
	ASSERT_EQ(status.handle, handle);
	sev_vm_free(dst);
	sev_cmd(mirror, KVM_SEV_GUEST_STATUS, &status);
	ASSERT_EQ(status.handle, handle);
	sev_vm_free(mirror);
	/* Last: what KVM has of it is the number of its /dev/sev. */
	sev_vm_free(src);
}

SUBTEST(move_and_mirror_sev)
{
	if (!sev_type_supported(KVM_X86_SEV_VM))
		subtest_skip("no SEV");
	move_and_mirror_same(KVM_X86_SEV_VM);
}

SUBTEST(move_and_mirror_sev_es)
{
	if (!sev_type_supported(KVM_X86_SEV_ES_VM))
		subtest_skip("no SEV-ES");
	move_and_mirror_same(KVM_X86_SEV_ES_VM);
}

/* --- arguments ---------------------------------------------------------------- */

/* Is there such an ioctl?  Yes. */
SUBTEST(null_argument)
{
	unsigned long type;

	for (type = KVM_X86_DEFAULT_VM; type <= KVM_X86_SNP_VM; type++) {
		struct sev_vm *sev;

		if (!sev_type_supported(type))
			continue;
		sev = sev_vm_create_barebones(type);
		ASSERT_EQ(ioctl(sev->vm->fd, KVM_MEMORY_ENCRYPT_OP, 0ul), 0);
		sev_vm_free(sev);
	}
}

/* There is nowhere to put the firmware's error; what was asked for is done. */
SUBTEST(read_only_command)
{
	struct kvm_sev_snp_launch_start start = { .policy = SNP_POLICY };
	struct kvm_sev_init init = {};
	struct kvm_sev_cmd *cmd;
	unsigned long type;

	for_each_type(type) {
		struct sev_vm *sev = sev_vm_create_barebones(type);

		cmd = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		TEST_ASSERT(cmd != MAP_FAILED, "mmap() failed");
		cmd->id = KVM_SEV_INIT2;
		cmd->data = (uintptr_t)&init;
		cmd->sev_fd = sev->sev_fd;
		ASSERT_EQ(mprotect(cmd, PAGE_SIZE, PROT_READ), 0);
		ASSERT_EQ(ioctl(sev->vm->fd, KVM_MEMORY_ENCRYPT_OP, cmd), -1);
		assert_err(errno, EFAULT, "INIT2", type);
		assert_err(__sev_init2(sev, 0, 0, 0),
			   type == KVM_X86_SNP_VM ? EPERM : EINVAL, "INIT2 again", type);

		if (type == KVM_X86_SNP_VM) {
			ASSERT_EQ(mprotect(cmd, PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
			cmd->id = KVM_SEV_SNP_LAUNCH_START;
			cmd->data = (uintptr_t)&start;
			ASSERT_EQ(mprotect(cmd, PAGE_SIZE, PROT_READ), 0);
			ASSERT_EQ(ioctl(sev->vm->fd, KVM_MEMORY_ENCRYPT_OP, cmd), -1);
			assert_err(errno, EFAULT, "LAUNCH_START", type);
			assert_err(__snp_launch_start(sev, SNP_POLICY), EINVAL,
				   "LAUNCH_START again", type);
		}
		munmap(cmd, PAGE_SIZE);
		sev_vm_free(sev);
	}
}

static void assert_region(struct sev_vm *sev, unsigned long nr, uint64_t addr,
			  uint64_t size, int expected)
{
	struct kvm_enc_region region = { .addr = addr, .size = size };
	int ret = ioctl(sev->vm->fd, nr, &region);

	TEST_ASSERT((ret ? errno : 0) == expected,
		    "VM type %lu, %s of 0x%lx at 0x%lx: errno %d, not %d", sev->type,
		    nr == KVM_MEMORY_ENCRYPT_REG_REGION ? "registration" : "removal",
		    size, addr, ret ? errno : 0, expected);
}

#define REG	KVM_MEMORY_ENCRYPT_REG_REGION
#define UNREG	KVM_MEMORY_ENCRYPT_UNREG_REGION

SUBTEST(regions)
{
	const uint64_t size = 4 * PAGE_SIZE;
	uint64_t mem, hole;
	unsigned long type;
	struct sev_vm *sev;

	mem = (uintptr_t)mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	hole = mem + size;
	ASSERT_EQ(munmap((void *)hole, size), 0);

	for_each_type(type) {
		sev = sev_vm_create_barebones(type);
		assert_region(sev, REG, mem, size, ENOTTY);
		assert_region(sev, UNREG, mem, size, ENOTTY);
		sev_init2(sev);

		assert_region(sev, REG, mem, 0, EINVAL);
		assert_region(sev, REG, -4096ull, 2 * PAGE_SIZE, EINVAL);
		assert_region(sev, REG, hole, size, ENOMEM);
		assert_region(sev, REG, mem, 2 * size, ENOMEM);
		assert_region(sev, UNREG, mem, size, EINVAL);

		/* What goes is what came, as often as it came. */
		assert_region(sev, REG, mem, size, 0);
		assert_region(sev, REG, mem, size, 0);
		assert_region(sev, REG, mem + 1, 1, 0);
		assert_region(sev, UNREG, mem, size - 1, EINVAL);
		assert_region(sev, UNREG, mem + PAGE_SIZE, size, EINVAL);
		assert_region(sev, UNREG, mem, size, 0);
		assert_region(sev, UNREG, mem, size, 0);
		assert_region(sev, UNREG, mem, size, EINVAL);
		assert_region(sev, UNREG, mem + 1, 1, 0);

		/* And what does not goes with the VM. */
		assert_region(sev, REG, mem, size, 0);
		sev_vm_free(sev);
	}

	sev = sev_vm_create_barebones(KVM_X86_DEFAULT_VM);
	assert_region(sev, REG, mem, size, ENOTTY);
	assert_region(sev, UNREG, mem, size, ENOTTY);
	sev_vm_free(sev);
}

/* Nobody could emulate what a guest with hidden registers writes to it. */
SUBTEST(read_only_memory)
{
	void *mem = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long type;

	ASSERT_EQ(kvm_check_cap(KVM_CAP_READONLY_MEM), 1u);
	for (type = KVM_X86_DEFAULT_VM; type <= KVM_X86_SNP_VM; type++) {
		int expected = sev_is_es(type) ? EINVAL : 0, ret;
		struct sev_vm *sev;

		if (!sev_type_supported(type) || type == KVM_X86_SW_PROTECTED_VM)
			continue;
		sev = sev_vm_create_barebones(type);
		ASSERT_EQ(vm_check_cap(sev->vm, KVM_CAP_READONLY_MEM), !expected);
		ret = __vm_set_user_memory_region(sev->vm, 0, KVM_MEM_READONLY, GPA,
						  PAGE_SIZE, mem);
		assert_err(ret ? errno : 0, expected, "Read-only memory", type);
		ret = __vm_set_user_memory_region2(sev->vm, 1, KVM_MEM_READONLY,
						   GPA + PAGE_SIZE, PAGE_SIZE, mem, -1, 0);
		assert_err(ret ? errno : 0, expected, "Read-only memory", type);
		sev_vm_free(sev);
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

/* Nor by way of struct kvm_run */
/* Nothing has been copied to where 0x5a is. */
static void assert_untouched(const void *mem, size_t size)
{
	const uint8_t *bytes = mem;

	while (size--)
		TEST_ASSERT(bytes[size] == 0x5a, "Byte %lu is 0x%x", size, bytes[size]);
}

SUBTEST(sync_regs)
{
	const uint64_t fields = KVM_SYNC_X86_VALID_FIELDS;
	unsigned long type;

	ASSERT_EQ((uint64_t)kvm_check_cap(KVM_CAP_SYNC_REGS), fields);
	for_each_type(type) {
		struct sev_vm *sev = sev_vm_create_agents(type, 1);
		struct kvm_vcpu *vcpu = sev->agents[0].vcpu;
		__u64 *masks[] = {
			&vcpu->run->kvm_valid_regs, &vcpu->run->kvm_dirty_regs,
		};
		bool launched;
		uint64_t bit;
		int i;

		ASSERT_EQ((uint64_t)vm_check_cap(sev->vm, KVM_CAP_SYNC_REGS),
			  sev_is_es(type) ? 0 : fields);
		for (launched = false; ; launched = true) {
			for (i = 0; sev_is_es(type) && i < ARRAY_SIZE(masks); i++) {
				for (bit = 1; bit & fields; bit <<= 1) {
					*masks[i] = bit;
					memset(&vcpu->run->s, 0x5a, sizeof(vcpu->run->s));
					ASSERT_EQ(__vcpu_run(vcpu), -1);
					assert_err(errno, EINVAL, "KVM_RUN", type);
					assert_untouched(&vcpu->run->s, sizeof(vcpu->run->s));
					*masks[i] = 0;
				}
			}
			if (launched)
				break;
			sev_vm_launch(sev);
		}
		sev_agent_do(&sev->agents[0], SEV_NOP, 0, 0, 0);

		/* A SEV guest's registers are anybody's. */
		if (!sev_is_es(type)) {
			struct kvm_regs regs;

			vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
			sev_agent_do(&sev->agents[0], SEV_NOP, 0, 0, 0);
			vcpu_regs_get(vcpu, &regs);
			ASSERT_EQ(vcpu->run->s.regs.regs.rip, regs.rip);
		}
		sev_vm_free(sev);
	}
}

/* A vCPU that runs a nested guest: good for those whose state KVM knows. */
SUBTEST(nested_state)
{
	const size_t size = sizeof(struct kvm_nested_state) +
			    KVM_STATE_NESTED_SVM_VMCB_SIZE;
	struct kvm_nested_state *nested = calloc(1, size);
	struct vmcb *vmcb = (void *)nested->data.svm[0].vmcb12;
	unsigned long type;

	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	nested->flags = KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_GIF_SET;
	nested->format = KVM_STATE_NESTED_FORMAT_SVM;
	nested->size = size;
	nested->hdr.svm.vmcb_pa = PAGE_SIZE;
	vmcb->control.intercept = 1ull << INTERCEPT_VMRUN;
	vmcb->control.asid = 1;

	for_each_type(type) {
		struct sev_vm *sev = sev_vm_create_agents(type, 1);
		struct kvm_vcpu *vcpu = sev->agents[0].vcpu;
		int expected = sev_is_es(type) ? EINVAL : 0;
		struct kvm_sregs sregs;

		vcpu_sregs_get(vcpu, &sregs);
		sregs.efer |= EFER_SVME;
		vcpu_sregs_set(vcpu, &sregs);
		vmcb->save.efer = sregs.efer;
		vmcb->save.cr0 = sregs.cr0;
		vmcb->save.cr3 = sregs.cr3;
		vmcb->save.cr4 = sregs.cr4;
		assert_err(__vcpu_nested_state_set(vcpu, nested) ? errno : 0, expected,
			   "KVM_SET_NESTED_STATE", type);

		/* The same when it has been handed over */
		if (expected) {
			sev_vm_launch(sev);
			assert_err(__vcpu_nested_state_set(vcpu, nested) ? errno : 0,
				   expected, "KVM_SET_NESTED_STATE", type);
			sev_agent_do(&sev->agents[0], SEV_NOP, 0, 0, 0);
		}
		sev_vm_free(sev);
	}
	free(nested);
}

/* System management mode saves registers, and memory that KVM cannot write. */
static void smm(unsigned long type)
{
	struct kvm_vcpu_events events;
	struct kvm_vcpu *vcpu;
	struct sev_vm *sev;
	int ret, i;

	if (!sev_type_supported(type))
		subtest_skip("no VMs of type %lu", type);
	sev = sev_vm_create_agents(type, 1);
	vcpu = sev->agents[0].vcpu;
	ASSERT_EQ(vm_check_cap(sev->vm, KVM_CAP_X86_SMM), 0);

	for (i = 0; i < 2; i++) {
		vcpu_events_get(vcpu, &events);
		events.flags = KVM_VCPUEVENT_VALID_SMM;
		events.smi.smm = i == 0;
		events.smi.pending = i == 1;
		ret = __vcpu_ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events);
		assert_err(ret ? errno : 0, EINVAL, i ? "SMI" : "SMM", type);
	}
	ret = __vcpu_ioctl(vcpu, KVM_SMI, NULL);
	assert_err(ret ? errno : 0, EINVAL, "KVM_SMI", type);
	sev_vm_launch(sev);
	ret = __vcpu_ioctl(vcpu, KVM_SMI, NULL);
	assert_err(ret ? errno : 0, EINVAL, "KVM_SMI", type);
	sev_agent_do(&sev->agents[0], SEV_NOP, 0, 0, 0);
	sev_vm_free(sev);
}

SUBTEST(smm_sev_es)
{
	smm(KVM_X86_SEV_ES_VM);
}

SUBTEST(smm_snp)
{
	smm(KVM_X86_SNP_VM);
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

/* --- resources -------------------------------------------------------------- */

/* Each VM takes an ASID: there is an end, and an ASID comes back. */
static void exhaust_asids(unsigned long type, int max)
{
	struct sev_vm **vms = calloc(max + 1, sizeof(*vms)), *other;
	int i, nr, err = 0;
	unsigned long t;

	for (nr = 0; nr <= max; nr++) {
		vms[nr] = sev_vm_create_barebones(type);
		err = __sev_init2(vms[nr], 0, 0, 0);
		if (err)
			break;
	}
	TEST_ASSERT(nr == max && err == EBUSY, "%d VMs of type %lu, then errno %d",
		    nr, type, err);

	/* SEV-ES and SEV-SNP share theirs, SEV has others. */
	for_each_type(t) {
		other = sev_vm_create_barebones(t);
		assert_err(__sev_init2(other, 0, 0, 0),
			   sev_is_es(t) == sev_is_es(type) ? EBUSY : 0, "INIT2", t);
		sev_vm_free(other);
	}

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

static void asids_run_out(unsigned long type)
{
	struct rlimit limit = { 4096, 4096 };
	uint32_t eax, ebx, ecx, edx;
	int max;

	if (!sev_type_supported(type))
		subtest_skip("no VMs of type %lu", type);
	cpuid(0x8000001f, &eax, &ebx, &ecx, &edx);
	max = sev_is_es(type) ? edx - 1 : ecx - edx + 1;
	if (max > 600 || setrlimit(RLIMIT_NOFILE, &limit))
		subtest_skip("too many ASIDs");
	exhaust_asids(type, max);
}

SUBTEST(asids_run_out_sev)
{
	asids_run_out(KVM_X86_SEV_VM);
}

SUBTEST(asids_run_out_sev_es)
{
	asids_run_out(KVM_X86_SEV_ES_VM);
}

SUBTEST(asids_run_out_snp)
{
	asids_run_out(KVM_X86_SNP_VM);
}

#define CGROUP_ROOT	"/sys/fs/cgroup"
#define CGROUP		CGROUP_ROOT "/kvm_sev_init2_test"

static void cgroup_write(const char *path, const char *value)
{
	TEST_ASSERT(write_file(path, value), "%s does not take %s", path, value);
}

/* ASIDs can be limited by cgroup: "sev", and "sev_es", which is SNP's as well. */
SUBTEST(cgroup_limit)
{
	struct sev_vm *first, *second;
	unsigned long type;
	char limit[16];

	if (!write_file(CGROUP_ROOT "/cgroup.subtree_control", "+misc"))
		subtest_skip("no misc controller in " CGROUP_ROOT);
	TEST_ASSERT(!mkdir(CGROUP, 0755) || errno == EEXIST, "mkdir() failed");
	/* 0 is who writes it. */
	cgroup_write(CGROUP "/cgroup.procs", "0");

	for_each_type(type) {
		const char *name = sev_is_es(type) ? "sev_es" : "sev";

		/* The other limit is the others'. */
		snprintf(limit, sizeof(limit), "%s 0", sev_is_es(type) ? "sev" : "sev_es");
		cgroup_write(CGROUP "/misc.max", limit);
		snprintf(limit, sizeof(limit), "%s 0", name);
		cgroup_write(CGROUP "/misc.max", limit);
		first = sev_vm_create_barebones(type);
		assert_err(__sev_init2(first, 0, 0, 0), EBUSY, "INIT2, limit 0", type);
		assert_err(__sev_init2(first, 0, 0, 0), EBUSY, "INIT2, limit 0", type);

		/* What has failed has changed nothing, and counts for nothing. */
		snprintf(limit, sizeof(limit), "%s 1", name);
		cgroup_write(CGROUP "/misc.max", limit);
		sev_init2(first);
		second = sev_vm_create_barebones(type);
		assert_err(__sev_init2(second, 0, 0, 0), EBUSY, "INIT2, limit 1", type);
		sev_vm_free(first);
		sev_init2(second);
		sev_vm_free(second);
	}

	cgroup_write(CGROUP_ROOT "/cgroup.procs", "0");
	ASSERT_EQ(rmdir(CGROUP), 0);
}

int main(int argc, char *argv[])
{
	__TEST_REQUIRE(sev_type_supported(KVM_X86_SEV_VM) ||
		       sev_type_supported(KVM_X86_SEV_ES_VM) ||
		       sev_type_supported(KVM_X86_SNP_VM), "No VMs of a SEV type");
	subtest_main(argc, argv);
}
