// SPDX-License-Identifier: GPL-2.0-only
/*
 * The launch of SEV-SNP guests: its three commands, in and out of order, with good
 * and bad arguments; each type of page; ID blocks; and that what the firmware has
 * measured, and reports to the guest, is what was asked for.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "private_mem.h"
#include "sev_vm.h"
#include "snp_report.h"
#include "subtest.h"

#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define HUGE_SIZE	(2ULL << 20)
#define NR_PAGES	16
#define SIZE		(NR_PAGES * PAGE_SIZE)

#define NORMAL		KVM_SEV_SNP_PAGE_TYPE_NORMAL
#define ZERO		KVM_SEV_SNP_PAGE_TYPE_ZERO
#define UNMEASURED	KVM_SEV_SNP_PAGE_TYPE_UNMEASURED
#define SECRETS		KVM_SEV_SNP_PAGE_TYPE_SECRETS
#define CPUID		KVM_SEV_SNP_PAGE_TYPE_CPUID

static struct sev_vm *sev;
static uint8_t *src;		/* NR_PAGES pages of userspace */
static int fd;

/* --- VMs without vCPUs: small, and with a digest that is known beforehand ---- */

static void setup(void)
{
	sev = sev_vm_create_barebones(KVM_X86_SNP_VM);
	sev_init2(sev);

	fd = vm_create_guest_memfd(sev->vm, SIZE);
	vm_mem_region_add_private(sev->vm, GPA, SLOT, NR_PAGES, fd, 0);
	vm_mem_set_private(sev->vm, GPA, SIZE);
	src = addr_gpa2hva(sev->vm, GPA);
	memset(src, 0x5a, SIZE);
}

static void setup_started(void)
{
	setup();
	snp_launch_start(sev);
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

static int update(uint64_t gpa, void *from, uint64_t size, uint8_t type)
{
	return __snp_launch_update(sev, gpa, from, size, type);
}

static int finish(void)
{
	return __snp_launch_finish(sev, NULL);
}

SUBTEST(start_errors)
{
	struct kvm_sev_snp_launch_start start = { .policy = SNP_POLICY };
	int i, sev_fd;

	setup();

	assert_err(__snp_launch_start(sev, 0), EINVAL);
	assert_err(__snp_launch_start(sev, SNP_POLICY_SMT), EINVAL);
	assert_err(__snp_launch_start(sev, SNP_POLICY | SNP_POLICY_MIGRATE_MA), EINVAL);
	for (i = 26; i < 64; i++)
		assert_err(__snp_launch_start(sev, SNP_POLICY | 1ull << i), EINVAL);
	for (i = 0; i < 16; i++) {
		start.flags = 1u << i;
		assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_START, &start), EINVAL);
	}
	start.flags = 0;
	assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_START, NULL), EFAULT);

	/* The firmware is younger than version 255.255. */
	assert_fw(__snp_launch_start(sev, SNP_POLICY | 0xffff), SEV_FW_POLICY_FAILURE);

	/* Whoever may not open /dev/sev may not launch. */
	sev_fd = sev->sev_fd;
	sev->sev_fd = -1;
	assert_err(__snp_launch_start(sev, SNP_POLICY), EBADF);
	sev->sev_fd = sev->vm->fd;
	assert_err(__snp_launch_start(sev, SNP_POLICY), EBADF);
	sev->sev_fd = sev_fd;

	/* None of that is in the way of a good one. */
	sev_cmd(sev, KVM_SEV_SNP_LAUNCH_START, &start);
	assert_err(__snp_launch_start(sev, SNP_POLICY), EINVAL);
	sev_vm_free(sev);
}

SUBTEST(order)
{
	setup();
	assert_err(update(GPA, src, PAGE_SIZE, NORMAL), EINVAL);
	assert_err(finish(), EINVAL);
	snp_launch_start(sev);
	assert_err(update(GPA, src, PAGE_SIZE, NORMAL), 0);
	assert_err(finish(), 0);

	/* The firmware knows that it is over. */
	TEST_ASSERT(finish(), "LAUNCH_FINISH twice");
	TEST_ASSERT(update(GPA + PAGE_SIZE, src, PAGE_SIZE, NORMAL),
		    "LAUNCH_UPDATE after LAUNCH_FINISH");
	assert_err(__snp_launch_start(sev, SNP_POLICY), EINVAL);
	sev_vm_free(sev);
}

/* A VM can end at each point of its launch. */
SUBTEST(abandoned)
{
	setup();
	sev_vm_free(sev);
	setup_started();
	sev_vm_free(sev);
	setup_started();
	assert_err(update(GPA, src, SIZE, NORMAL), 0);
	sev_vm_free(sev);

	/* Pages that are in the RMP leave the file, too. */
	setup_started();
	assert_err(update(GPA, src, SIZE, NORMAL), 0);
	ASSERT_EQ(guest_memfd_nr_pages(fd), (uint64_t)NR_PAGES);
	ASSERT_EQ(guest_memfd_punch(fd, PAGE_SIZE, 3 * PAGE_SIZE), 0);
	ASSERT_EQ(guest_memfd_nr_pages(fd), (uint64_t)NR_PAGES - 3);
	assert_err(update(GPA + PAGE_SIZE, src, 3 * PAGE_SIZE, NORMAL), 0);
	sev_vm_free(sev);
}

SUBTEST(update_arguments)
{
	struct kvm_sev_snp_launch_update args;
	int i;

	setup_started();

	assert_err(update(GPA, src, 0, NORMAL), EINVAL);
	assert_err(update(GPA, src, PAGE_SIZE - 1, NORMAL), EINVAL);
	assert_err(update(GPA, src, PAGE_SIZE + 8, NORMAL), EINVAL);
	assert_err(update(GPA, src + 8, PAGE_SIZE, NORMAL), EINVAL);
	for (i = 0; i < 256; i++) {
		if (i != NORMAL && i != ZERO && i != UNMEASURED && i != SECRETS &&
		    i != CPUID)
			assert_err(update(GPA, src, PAGE_SIZE, i), EINVAL);
	}
	for (i = 0; i < 16; i++) {
		args = (struct kvm_sev_snp_launch_update) {
			.gfn_start = GPA / PAGE_SIZE,
			.uaddr = (uintptr_t)src,
			.len = PAGE_SIZE,
			.type = NORMAL,
			.flags = 1u << i,
		};
		assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_UPDATE, &args), EINVAL);
	}
	assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_UPDATE, NULL), EFAULT);

	/* Where there is no memory, or none that the guest could have */
	assert_err(update(GPA - PAGE_SIZE, src, PAGE_SIZE, NORMAL), EINVAL);
	assert_err(update(GPA + SIZE, src, PAGE_SIZE, NORMAL), EINVAL);
	for (i = 40; i < 64; i++) {
		args = (struct kvm_sev_snp_launch_update) {
			.gfn_start = 1ull << i,
			.uaddr = (uintptr_t)src,
			.len = PAGE_SIZE,
			.type = NORMAL,
		};
		assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_UPDATE, &args), EINVAL);
	}
	args.gfn_start = -1ull;
	assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_UPDATE, &args), EINVAL);

	/* There has to be content, where it is not zeroes. */
	assert_err(update(GPA, NULL, PAGE_SIZE, NORMAL), EINVAL);
	assert_err(update(GPA, NULL, PAGE_SIZE, UNMEASURED), EINVAL);
	assert_err(update(GPA, NULL, PAGE_SIZE, SECRETS), EINVAL);
	assert_err(update(GPA, NULL, PAGE_SIZE, CPUID), EINVAL);

	/* Nothing has changed: all pages are still to be had. */
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	assert_err(update(GPA, src, SIZE, NORMAL), 0);
	sev_vm_free(sev);
}

SUBTEST(update_not_private)
{
	setup_started();
	vm_mem_set_shared(sev->vm, GPA + PAGE_SIZE, PAGE_SIZE);
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, NORMAL), EINVAL);
	/* It does what it can, and says how far it came. */
	assert_err(update(GPA, src, 3 * PAGE_SIZE, NORMAL), EINVAL);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 1ul);
	vm_mem_set_private(sev->vm, GPA + PAGE_SIZE, PAGE_SIZE);
	assert_err(update(GPA + PAGE_SIZE, src, 2 * PAGE_SIZE, NORMAL), 0);
	sev_vm_free(sev);
}

SUBTEST(update_no_file)
{
	setup_started();
	vm_userspace_mem_region_add(sev->vm, VM_MEM_SRC_ANONYMOUS, GPA + HUGE_SIZE,
				    SLOT + 1, NR_PAGES, 0);
	/* What is private needs a file, so that there may be an attribute or not. */
	assert_err(update(GPA + HUGE_SIZE, src, PAGE_SIZE, NORMAL), EINVAL);
	vm_mem_set_private(sev->vm, GPA + HUGE_SIZE, SIZE);
	assert_err(update(GPA + HUGE_SIZE, src, PAGE_SIZE, NORMAL), EINVAL);
	sev_vm_free(sev);
}

SUBTEST(update_twice)
{
	setup_started();
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, NORMAL), 0);
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, NORMAL), EEXIST);
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, ZERO), EEXIST);
	assert_err(update(GPA, src, 3 * PAGE_SIZE, NORMAL), EEXIST);
	assert_err(update(GPA + 2 * PAGE_SIZE, src, PAGE_SIZE, NORMAL), 0);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

SUBTEST(update_bad_source)
{
	uint8_t *map;

	setup_started();
	map = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(map != MAP_FAILED, "mmap() failed, errno: %d", errno);
	munmap(map + PAGE_SIZE, PAGE_SIZE);

	assert_err(update(GPA, map + PAGE_SIZE, PAGE_SIZE, NORMAL), EFAULT);
	assert_err(update(GPA, map, 2 * PAGE_SIZE, NORMAL), EFAULT);
	/* One of them is in. */
	assert_err(update(GPA, map, PAGE_SIZE, NORMAL), EEXIST);
	assert_err(update(GPA + PAGE_SIZE, map, PAGE_SIZE, NORMAL), 0);
	assert_err(update(GPA + 2 * PAGE_SIZE, (void *)-8192ul, PAGE_SIZE, NORMAL),
		   EFAULT);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

/* A file with pages in it already, small ones and a huge one */
SUBTEST(update_allocated)
{
	setup_started();
	ASSERT_EQ(guest_memfd_alloc(fd, 0, SIZE), 0);
	assert_err(update(GPA, src, SIZE, NORMAL), 0);
	sev_vm_free(sev);

	sev = sev_vm_create_barebones(KVM_X86_SNP_VM);
	sev_init2(sev);
	fd = vm_create_guest_memfd(sev->vm, HUGE_SIZE);
	vm_mem_region_add_private(sev->vm, GPA, SLOT, HUGE_SIZE / PAGE_SIZE, fd, 0);
	vm_mem_set_private(sev->vm, GPA, HUGE_SIZE);
	src = addr_gpa2hva(sev->vm, GPA);
	snp_launch_start(sev);
	assert_err(update(GPA + 5 * PAGE_SIZE, src, 3 * PAGE_SIZE, NORMAL), 0);
	assert_err(update(GPA, src, PAGE_SIZE, ZERO), 0);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

SUBTEST(page_types)
{
	setup_started();
	assert_err(update(GPA, src, 2 * PAGE_SIZE, NORMAL), 0);
	assert_err(update(GPA + 2 * PAGE_SIZE, NULL, PAGE_SIZE, ZERO), 0);
	/* It is not looked at. */
	assert_err(update(GPA + 3 * PAGE_SIZE, src, PAGE_SIZE, ZERO), 0);
	assert_err(update(GPA + 4 * PAGE_SIZE, src, 2 * PAGE_SIZE, UNMEASURED), 0);
	assert_err(update(GPA + 6 * PAGE_SIZE, src, PAGE_SIZE, SECRETS), 0);
	memset(src, 0, PAGE_SIZE);
	assert_err(update(GPA + 7 * PAGE_SIZE, src, PAGE_SIZE, CPUID), 0);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

struct cpuid_table {
	uint32_t count;
	uint32_t rsvd1;
	uint64_t rsvd2;
	struct {
		uint32_t leaf, sub;
		uint64_t xcr0, xss;
		uint32_t eax, ebx, ecx, edx;
		uint64_t rsvd;
	} fn[64];
};

SUBTEST(cpuid_page)
{
	struct cpuid_table *table, good;

	setup_started();
	table = (void *)src;
	memset(table, 0, PAGE_SIZE);
	table->count = 2;
	table->fn[0].leaf = 0x8000001f;
	cpuid(0x8000001f, &table->fn[0].eax, &table->fn[0].ebx, &table->fn[0].ecx,
	      &table->fn[0].edx);
	table->fn[1].leaf = 0x40000000;
	table->fn[1].ebx = 0x12345678;
	good = *table;

	/* The C-bit has to be where it is: the firmware puts it there. */
	table->fn[0].ebx ^= 1;
	assert_fw(update(GPA, src, PAGE_SIZE, CPUID), SEV_FW_INVALID_PARAM);
	TEST_ASSERT(!memcmp(table, &good, sizeof(good)),
		    "Not corrected: EBX is 0x%x, not 0x%x", table->fn[0].ebx,
		    good.fn[0].ebx);

	/* And what it has made of it is good. */
	assert_err(update(GPA, src, PAGE_SIZE, CPUID), 0);
	assert_err(update(GPA, src, PAGE_SIZE, CPUID), EEXIST);

	/* Nothing can be made of that. */
	table->count = 65;
	assert_fw(update(GPA + PAGE_SIZE, src, PAGE_SIZE, CPUID), SEV_FW_INVALID_PARAM);
	ASSERT_EQ(table->count, 65u);

	/* It has to be writable for the correction. */
	table->count = 2;
	table->fn[0].ebx ^= 1;
	ASSERT_EQ(mprotect(src, PAGE_SIZE, PROT_READ), 0);
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, CPUID), EFAULT);
	ASSERT_EQ(mprotect(src, PAGE_SIZE, PROT_READ | PROT_WRITE), 0);

	*table = good;
	assert_err(update(GPA + PAGE_SIZE, src, PAGE_SIZE, CPUID), 0);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

/* --- ID blocks --------------------------------------------------------------- */

struct id_key {
	uint8_t x[48], y[48];		/* the public key */
	uint8_t r[48], s[48];		/* the signature */
};

/*
 * Signatures of the ID block that id_launch() and id_block_init() stand for, by
 * the ID key, and of that by the author's.  The private keys are gone.
 */
static const struct id_key id_key = {
	.x = {
		0x44, 0x93, 0x33, 0x88, 0x28, 0xa0, 0xee, 0x77, 0x7d, 0xd4, 0xa3, 0x71,
		0xcf, 0x49, 0x4a, 0xdc, 0xce, 0xeb, 0x67, 0xca, 0x36, 0x57, 0x62, 0xbc,
		0x7a, 0x17, 0xe8, 0x18, 0xe0, 0x6f, 0x38, 0x66, 0xd2, 0x52, 0x35, 0x51,
		0x4d, 0x23, 0xb6, 0x2e, 0x18, 0x63, 0x77, 0x29, 0xef, 0x1d, 0x57, 0xe1,
	},
	.y = {
		0x6f, 0x93, 0x0b, 0x86, 0xaa, 0x95, 0xa1, 0xd5, 0x91, 0x6b, 0x97, 0xc8,
		0xb9, 0xd6, 0xea, 0x72, 0x32, 0xbc, 0xbd, 0x17, 0xbb, 0xc0, 0x61, 0xe8,
		0xa6, 0x48, 0xdb, 0xe2, 0xd0, 0xde, 0x74, 0xac, 0x4f, 0x8f, 0x13, 0x3c,
		0x98, 0xaa, 0xb1, 0x6f, 0xe2, 0xb4, 0x53, 0x83, 0x53, 0x8f, 0x5b, 0xaa,
	},
	.r = {
		0xe7, 0xe5, 0xcc, 0x5d, 0xe7, 0xf0, 0x45, 0x23, 0x97, 0x5c, 0x3c, 0x5d,
		0xc3, 0xb2, 0xc0, 0x42, 0x74, 0x24, 0x94, 0xb8, 0x0f, 0xc0, 0x80, 0x73,
		0x74, 0xa1, 0x92, 0xf3, 0x6a, 0xa2, 0x15, 0x41, 0x90, 0xd5, 0xc1, 0x3d,
		0xfb, 0x6e, 0x66, 0x1d, 0x6a, 0x5e, 0x5c, 0xff, 0x48, 0x10, 0xf9, 0x3d,
	},
	.s = {
		0xbd, 0xb2, 0x30, 0x94, 0x49, 0xff, 0xe7, 0x54, 0xa2, 0xe4, 0xee, 0xd7,
		0xa3, 0xb0, 0xb1, 0x45, 0xf4, 0xca, 0xfc, 0xed, 0xe3, 0x35, 0xfe, 0xe0,
		0xc7, 0xdc, 0x4e, 0x65, 0x79, 0x22, 0x3f, 0xeb, 0x5e, 0x0f, 0x5e, 0x27,
		0x41, 0x36, 0xb1, 0x5d, 0x57, 0x67, 0x93, 0x5f, 0x4c, 0x66, 0x23, 0x09,
	},
};

static const struct id_key author_key = {
	.x = {
		0x0b, 0x11, 0x9a, 0x84, 0xba, 0x77, 0x66, 0x46, 0xf5, 0x02, 0x93, 0x42,
		0x20, 0x45, 0x88, 0x00, 0xd5, 0x4b, 0x1f, 0xac, 0x5c, 0x30, 0x17, 0xaf,
		0x15, 0x40, 0x22, 0x8d, 0x89, 0x5b, 0x62, 0x6f, 0x36, 0xc2, 0xed, 0xbe,
		0x60, 0xeb, 0x29, 0x32, 0x32, 0x6d, 0xcb, 0x15, 0xb3, 0x84, 0x04, 0xac,
	},
	.y = {
		0x3c, 0x6b, 0x3e, 0x5d, 0x77, 0xbc, 0xc0, 0x65, 0x13, 0xb0, 0xc9, 0x16,
		0xf0, 0xb1, 0x8c, 0xac, 0xba, 0x5e, 0x11, 0xd9, 0x3e, 0xe9, 0x97, 0x4e,
		0xf1, 0x32, 0xc8, 0x7e, 0xf7, 0x5d, 0xe2, 0x9b, 0x8e, 0x00, 0x2e, 0xc8,
		0x3a, 0x1a, 0xb2, 0x00, 0x8a, 0x8b, 0x1f, 0x54, 0x33, 0x3e, 0x0c, 0x31,
	},
	.r = {
		0x9b, 0xe6, 0x3e, 0xfe, 0x7e, 0x03, 0x17, 0x89, 0x61, 0xdd, 0xee, 0x7b,
		0x96, 0x3c, 0xaa, 0x01, 0xc7, 0x0b, 0xb4, 0x73, 0xdd, 0xaa, 0x64, 0xcc,
		0x12, 0xbb, 0x7a, 0x55, 0xd0, 0xd7, 0xec, 0x66, 0x82, 0x6e, 0xbd, 0xd5,
		0xb0, 0xe1, 0xd0, 0xfb, 0x80, 0xb3, 0x08, 0x36, 0x75, 0xda, 0xcf, 0x4f,
	},
	.s = {
		0xb2, 0xf1, 0xe0, 0x0c, 0x4d, 0x25, 0xe0, 0x4c, 0xdf, 0xee, 0xb0, 0xdd,
		0x36, 0xe0, 0x7d, 0x82, 0x4c, 0xa3, 0x71, 0x59, 0x2e, 0x82, 0xc5, 0x55,
		0xe2, 0xac, 0xcf, 0x3a, 0x01, 0x6d, 0x85, 0xaf, 0x70, 0xda, 0x7e, 0x5f,
		0x42, 0x6d, 0x7d, 0x6c, 0xad, 0xf8, 0xcd, 0xa5, 0x3d, 0xb1, 0xf0, 0x68,
	},
};

#define ECC_FIELD	72
#define ECC_KEY_SIZE	0x404

struct id_block {
	uint8_t digest[SHA384_SIZE];
	uint8_t family_id[16];
	uint8_t image_id[16];
	uint32_t version;
	uint32_t guest_svn;
	uint64_t policy;
};

struct id_auth {
	uint32_t id_key_algo;
	uint32_t author_key_algo;
	uint8_t rsvd1[0x38];
	uint8_t id_block_sig[512];		/* 0x40 */
	uint8_t id_key[ECC_KEY_SIZE];		/* 0x240 */
	uint8_t rsvd2[0x3c];
	uint8_t id_key_sig[512];		/* 0x680 */
	uint8_t author_key[ECC_KEY_SIZE];	/* 0x880 */
	uint8_t rsvd3[0x1000 - 0x880 - ECC_KEY_SIZE];
};

static_assert(sizeof(struct id_block) == KVM_SEV_SNP_ID_BLOCK_SIZE, "");
static_assert(sizeof(struct id_auth) == KVM_SEV_SNP_ID_AUTH_SIZE, "");
static_assert(offsetof(struct id_auth, author_key) == 0x880, "");

static void put_key(uint8_t *key, const struct id_key *from)
{
	key[0] = 2;		/* P-384 */
	memcpy(key + 4, from->x, 48);
	memcpy(key + 4 + ECC_FIELD, from->y, 48);
}

static void put_signature(uint8_t *sig, const struct id_key *from)
{
	memcpy(sig, from->r, 48);
	memcpy(sig + ECC_FIELD, from->s, 48);
}

static void id_auth_init(struct id_auth *auth)
{
	memset(auth, 0, sizeof(*auth));
	auth->id_key_algo = 1;
	auth->author_key_algo = 1;
	put_signature(auth->id_block_sig, &id_key);
	put_key(auth->id_key, &id_key);
	put_signature(auth->id_key_sig, &author_key);
	put_key(auth->author_key, &author_key);
}

static struct id_block id_block;
static struct id_auth id_auth;

/* Three pages: one with the pattern, one of zeroes, one that is not measured. */
static void id_launch(uint64_t policy, uint64_t seed)
{
	uint8_t digest[SHA384_SIZE] = {};

	setup();
	assert_err(__snp_launch_start(sev, policy), 0);
	memset(src, 0, SIZE);
	vm_mem_fill(sev->vm, GPA, PAGE_SIZE, seed);
	assert_err(update(GPA, src, PAGE_SIZE, NORMAL), 0);
	assert_err(update(GPA + PAGE_SIZE, NULL, PAGE_SIZE, ZERO), 0);
	assert_err(update(GPA + 2 * PAGE_SIZE, src, PAGE_SIZE, UNMEASURED), 0);

	memset(&id_block, 0, sizeof(id_block));
	vm_mem_fill(sev->vm, GPA, PAGE_SIZE, 0x1d);
	snp_digest_page(digest, NORMAL, src, GPA);
	snp_digest_page(digest, ZERO, NULL, GPA + PAGE_SIZE);
	snp_digest_page(digest, UNMEASURED, NULL, GPA + 2 * PAGE_SIZE);
	memcpy(id_block.digest, digest, sizeof(digest));
	memcpy(id_block.family_id, "test-family-id--", 16);
	memcpy(id_block.image_id, "test-image-id---", 16);
	id_block.version = 1;
	id_block.guest_svn = 7;
	id_block.policy = SNP_POLICY;
	id_auth_init(&id_auth);
}

static int id_finish(bool author)
{
	struct kvm_sev_snp_launch_finish args = {
		.id_block_en = 1,
		.auth_key_en = author,
		.id_block_uaddr = (uintptr_t)&id_block,
		.id_auth_uaddr = (uintptr_t)&id_auth,
	};

	return __snp_launch_finish(sev, &args);
}

SUBTEST(id_block_good)
{
	id_launch(SNP_POLICY, 0x1d);
	assert_err(id_finish(false), 0);
	sev_vm_free(sev);

	id_launch(SNP_POLICY, 0x1d);
	assert_err(id_finish(true), 0);
	sev_vm_free(sev);
}

/* What fails can be put right. */
SUBTEST(id_block_bad)
{
	/* Another guest than the one that was signed */
	id_launch(SNP_POLICY, 0x1e);
	assert_fw(id_finish(false), SEV_FW_BAD_MEASUREMENT);
	assert_fw(id_finish(true), SEV_FW_BAD_MEASUREMENT);
	assert_err(finish(), 0);
	sev_vm_free(sev);

	/* One byte of what is signed, of the signature, of the key */
	id_launch(SNP_POLICY, 0x1d);
	id_block.digest[0] ^= 1;
	assert_fw(id_finish(false), SEV_FW_BAD_SIGNATURE);
	id_block.digest[0] ^= 1;
	id_block.guest_svn++;
	assert_fw(id_finish(false), SEV_FW_BAD_SIGNATURE);
	id_block.guest_svn--;
	id_auth.id_block_sig[5] ^= 1;
	assert_fw(id_finish(false), SEV_FW_BAD_SIGNATURE);
	id_auth.id_block_sig[5] ^= 1;
	id_auth.id_key[5] ^= 1;
	assert_fw(id_finish(false), SEV_FW_BAD_SIGNATURE);
	id_auth.id_key[5] ^= 1;
	id_auth.id_key_sig[5] ^= 1;
	assert_fw(id_finish(true), SEV_FW_BAD_SIGNATURE);
	/* Without the author nobody looks at that. */
	id_block.version = 2;
	assert_fw(id_finish(false), SEV_FW_INVALID_PARAM);
	id_block.version = 1;
	id_auth.id_key_algo = 2;
	assert_fw(id_finish(false), SEV_FW_INVALID_PARAM);
	id_auth.id_key_algo = 1;
	assert_err(id_finish(false), 0);
	sev_vm_free(sev);

	id_launch(SNP_POLICY | SNP_POLICY_DEBUG, 0x1d);
	assert_fw(id_finish(false), SEV_FW_POLICY_FAILURE);
	sev_vm_free(sev);
}

static void do_nothing(int sig)
{
}

static void *run_in_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;

	/* It waits for somebody to start it. */
	TEST_ASSERT(__vcpu_run(vcpu) == -1 && (errno == EINTR || errno == EAGAIN),
		    "KVM_RUN: errno %d", errno);
	return NULL;
}

/* None of the vCPUs may run while its state is taken. */
SUBTEST(finish_busy)
{
	struct kvm_mp_state stopped = { .mp_state = KVM_MP_STATE_UNINITIALIZED };
	struct sigaction action = { .sa_handler = do_nothing };
	struct kvm_vcpu *vcpu;
	pthread_t thread;

	setup_started();
	vm_create_irqchip(sev->vm);
	vcpu = __vm_vcpu_add(sev->vm, 1);
	vcpu_mp_state_set(vcpu, &stopped);
	sigaction(SIGUSR1, &action, NULL);
	ASSERT_EQ(pthread_create(&thread, NULL, run_in_thread, vcpu), 0);
	/* Time enough to get there */
	usleep(500000);
	assert_err(finish(), EBUSY);

	vcpu->run->immediate_exit = 1;
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	assert_err(finish(), 0);
	sev_vm_free(sev);
}

SUBTEST(finish_arguments)
{
	struct kvm_sev_snp_launch_finish args;
	int i;

	id_launch(SNP_POLICY, 0x1d);
	for (i = 0; i < 16; i++) {
		args = (struct kvm_sev_snp_launch_finish) { .flags = 1u << i };
		assert_err(__snp_launch_finish(sev, &args), EINVAL);
	}
	assert_err(__sev_cmd(sev, KVM_SEV_SNP_LAUNCH_FINISH, NULL), EFAULT);

	args = (struct kvm_sev_snp_launch_finish) {
		.id_block_en = 1,
		.id_auth_uaddr = (uintptr_t)&id_auth,
	};
	args.id_block_uaddr = -8192ull;
	assert_err(__snp_launch_finish(sev, &args), EFAULT);
	args.id_block_uaddr = (uintptr_t)&id_block;
	args.id_auth_uaddr = -8192ull;
	assert_err(__snp_launch_finish(sev, &args), EFAULT);
	assert_err(id_finish(false), 0);
	sev_vm_free(sev);
}

/* --- guests that tell what was measured --------------------------------------- */

static uint8_t digest[SHA384_SIZE];
static struct sev_agent *agent;

static void measure_normal(uint64_t gpa, void *page)
{
	snp_digest_page(digest, NORMAL, page, gpa);
}

/*
 * Give a vCPU a state of which all is known, and write the VMSA that the firmware
 * has to measure.
 */
static void make_vmsa(struct kvm_vcpu *vcpu, struct snp_vmsa *vmsa)
{
	struct kvm_xsave xsave;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	uint8_t *fx = (void *)xsave.region;
	int i;

	vcpu_sregs_get(vcpu, &sregs);
	/* The host's machine check exceptions are on, whatever the guest wants. */
	sregs.cr4 |= X86_CR4_MCE;
	sregs.fs = sregs.ds;
	sregs.fs.base = 0x1234567000;
	sregs.gs = sregs.fs;
	sregs.gs.base = 0x7654321000;
	sregs.ss = sregs.ds;
	sregs.idt.base = 0xabc000;
	sregs.idt.limit = 0xff;
	sregs.tr.type = 0xb;
	vcpu_sregs_set(vcpu, &sregs);

	vcpu_regs_get(vcpu, &regs);
	regs.rax = 0x1111;
	regs.rbx = 0x2222;
	regs.rcx = 0x3333;
	regs.rdx = 0x4444;
	regs.rbp = 0x5555;
	regs.rsi = 0x6666;
	regs.r8 = 0x8888;
	regs.r9 = 0x9999;
	regs.r10 = 0xaaaa;
	regs.r11 = 0xbbbb;
	regs.r12 = 0xcccc;
	regs.r13 = 0xdddd;
	regs.r14 = 0xeeee;
	regs.r15 = 0xffff;
	vcpu_regs_set(vcpu, &regs);

	/* Control and tag words, registers of x87 and SSE; none of AVX */
	vcpu_ioctl(vcpu, KVM_GET_XSAVE, &xsave);
	memset(fx, 0, 512);
	*(uint16_t *)(fx + 0) = 0x37f;
	*(uint16_t *)(fx + 2) = 0x3800;
	fx[4] = 0x81;
	*(uint32_t *)(fx + 24) = 0x1f80;
	for (i = 0; i < 8 * 16; i++)
		fx[32 + i] = i % 16 < 10 ? i + 1 : 0;
	for (i = 0; i < 16 * 16; i++)
		fx[160 + i] = 3 * i + 1;
	*(uint64_t *)(fx + 512) = 3;
	vcpu_ioctl(vcpu, KVM_SET_XSAVE, &xsave);

	snp_vmsa_init(vmsa, &sregs, &regs, fx);
}

/* Let the guest ask the firmware for a report, by a message that we seal. */
static void get_report(uint64_t secrets_gva, uint64_t msg_gpa, uint8_t *msg,
		       const uint8_t data[64], uint8_t *report)
{
	struct snp_report_req req = {};
	uint8_t vmpck[32], answer[4096];
	uint8_t *resp = msg + PAGE_SIZE;
	int size;

	sev_agent_do(agent, SEV_COPY, secrets_gva + SNP_SECRETS_VMPCK0, 32,
		     agent->cmd_gva + offsetof(struct sev_agent_cmd, data));
	memcpy(vmpck, agent->cmd->data, sizeof(vmpck));

	memcpy(req.data, data, sizeof(req.data));
	snp_msg_seal(msg, vmpck, 1, SNP_MSG_REPORT_REQ, &req, sizeof(req));
	memset(resp, 0, PAGE_SIZE);
	ghcb_init(&agent->cmd->ghcb_in, NAE_GUEST_REQUEST, msg_gpa,
		  msg_gpa + PAGE_SIZE);
	sev_agent_vmgexit(agent);
	TEST_ASSERT(!ghcb_info1(agent) && !ghcb_info2(agent),
		    "Guest request: 0x%lx 0x%lx", ghcb_info1(agent), ghcb_info2(agent));

	size = snp_msg_open(resp, vmpck, 2, SNP_MSG_REPORT_RSP, answer);
	ASSERT_EQ(size, 0x20 + SNP_REPORT_SIZE);
	ASSERT_EQ(*(uint32_t *)answer, 0u);
	ASSERT_EQ(*(uint32_t *)(answer + 4), (uint32_t)SNP_REPORT_SIZE);
	memcpy(report, answer + 0x20, SNP_REPORT_SIZE);

	/* A number is good for one message. */
	sev_agent_vmgexit(agent);
	ASSERT_EQ(ghcb_info1(agent), 0ul);
	TEST_ASSERT(ghcb_info2(agent) & 0xffffffff, "The same message twice");
}

static void measure(uint32_t nr_vcpus)
{
	struct kvm_sev_snp_launch_finish finish_args = {};
	uint64_t secrets_gpa, msg_gpa, page_gpa, gva;
	uint8_t report[SNP_REPORT_SIZE], data[64], *msg;
	struct snp_vmsa *vmsas = calloc(nr_vcpus, sizeof(*vmsas));
	vm_vaddr_t secrets;
	uint32_t i;

	sev = sev_vm_create_agents(KVM_X86_SNP_VM, nr_vcpus);
	agent = &sev->agents[0];
	for (i = 0; i < nr_vcpus; i++)
		make_vmsa(sev->agents[i].vcpu, &vmsas[i]);

	/* One page of each type, which are not of slot 0's */
	sev_vm_alloc_shared(sev, 2 * PAGE_SIZE, &msg_gpa);
	msg = addr_gpa2hva(sev->vm, msg_gpa);
	vm_mem_region_add_private(sev->vm, GPA, SLOT, HUGE_SIZE / PAGE_SIZE, -1, 0);
	vm_mem_set_private(sev->vm, GPA, HUGE_SIZE);
	sev_vm_map(sev, GPA, HUGE_SIZE);
	secrets_gpa = GPA;
	secrets = secrets_gpa;
	page_gpa = GPA + PAGE_SIZE;
	gva = page_gpa;

	memset(digest, 0, sizeof(digest));
	sev_vm_seal(sev);
	snp_launch_start(sev);
	snp_launch_update_slot0(sev, measure_normal);
	src = addr_gpa2hva(sev->vm, GPA);
	snp_launch_update(sev, secrets_gpa, src, PAGE_SIZE, SECRETS);
	snp_digest_page(digest, SECRETS, NULL, secrets_gpa);
	vm_mem_fill(sev->vm, page_gpa, PAGE_SIZE, 0x77);
	snp_launch_update(sev, page_gpa, src + PAGE_SIZE, PAGE_SIZE, UNMEASURED);
	snp_digest_page(digest, UNMEASURED, NULL, page_gpa);
	snp_launch_update(sev, page_gpa + PAGE_SIZE, NULL, PAGE_SIZE, ZERO);
	snp_digest_page(digest, ZERO, NULL, page_gpa + PAGE_SIZE);
	memset(src, 0, PAGE_SIZE);
	snp_launch_update(sev, page_gpa + 2 * PAGE_SIZE, src, PAGE_SIZE, CPUID);
	snp_digest_page(digest, CPUID, NULL, page_gpa + 2 * PAGE_SIZE);
	for (i = 0; i < nr_vcpus; i++)
		snp_digest_page(digest, SNP_PAGE_VMSA, &vmsas[i], 0xfffffffff000);

	for (i = 0; i < sizeof(finish_args.host_data); i++)
		finish_args.host_data[i] = 0xc0 + i;
	assert_err(__snp_launch_finish(sev, &finish_args), 0);
	for (i = 0; i < nr_vcpus; i++)
		sev_agent_boot(&sev->agents[i]);

	/* The pages are as they were given. */
	sev_agent_check(agent, gva, PAGE_SIZE, 0x77);
	sev_agent_check_const(agent, gva + PAGE_SIZE, PAGE_SIZE, 0);

	for (i = 0; i < sizeof(data); i++)
		data[i] = i ^ 0xa5;
	get_report(secrets, msg_gpa, msg, data, report);
	TEST_ASSERT(!memcmp(report + SNP_REPORT_DATA, data, sizeof(data)),
		    "The report has other data than were asked for");
	ASSERT_EQ(*(uint64_t *)(report + SNP_REPORT_POLICY), (uint64_t)SNP_POLICY);
	TEST_ASSERT(!memcmp(report + SNP_REPORT_HOST_DATA, finish_args.host_data, 32),
		    "The report has other host data than were given");
	TEST_ASSERT(!memcmp(report + SNP_REPORT_MEASUREMENT, digest, sizeof(digest)),
		    "The report has another measurement");
	free(vmsas);
	sev_vm_free(sev);
}

SUBTEST(measurement)
{
	measure(1);
}

SUBTEST(measurement_two_vcpus)
{
	measure(2);
}

/* --- what waits for the end of the launch ------------------------------------- */

static int pre_fault(uint64_t gpa, uint64_t size)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = size };
	int err;

	do {
		err = __vcpu_ioctl(agent->vcpu, KVM_PRE_FAULT_MEMORY, &range) ? errno : 0;
	} while (!err && range.size);
	return err;
}

SUBTEST(pre_fault_memory)
{
	sev = sev_vm_create_agents(KVM_X86_SNP_VM, 1);
	agent = &sev->agents[0];
	fd = vm_create_guest_memfd(sev->vm, HUGE_SIZE);
	vm_mem_region_add_private(sev->vm, GPA, SLOT, HUGE_SIZE / PAGE_SIZE, fd, 0);
	vm_mem_set_private(sev->vm, GPA, HUGE_SIZE);
	sev_vm_map(sev, GPA, HUGE_SIZE);
	sev_vm_seal(sev);

	assert_err(pre_fault(GPA, PAGE_SIZE), EOPNOTSUPP);
	snp_launch_start(sev);
	assert_err(pre_fault(GPA, PAGE_SIZE), EOPNOTSUPP);
	snp_launch_update_slot0(sev, NULL);
	assert_err(pre_fault(GPA, PAGE_SIZE), EOPNOTSUPP);
	ASSERT_EQ(guest_memfd_nr_pages(fd), 0ul);
	assert_err(finish(), 0);

	assert_err(pre_fault(GPA, HUGE_SIZE), 0);
	ASSERT_EQ(guest_memfd_nr_pages(fd), HUGE_SIZE / PAGE_SIZE);
	sev_agent_boot(agent);
	sev_validate(agent, GPA, 4 * PAGE_SIZE, PAGE_SIZE);
	sev_agent_fill(agent, GPA, 4 * PAGE_SIZE, 9);
	sev_agent_check(agent, GPA, 4 * PAGE_SIZE, 9);
	sev_vm_free(sev);
}

/* A guest that has not been launched does not run; nothing else happens. */
SUBTEST(run_too_early)
{
	int rc;

	sev = sev_vm_create_agents(KVM_X86_SNP_VM, 1);
	agent = &sev->agents[0];
	sev_vm_seal(sev);
	rc = sev_agent_resume(agent);
	TEST_ASSERT(rc, "The guest runs before its launch");
	snp_launch_start(sev);
	snp_launch_update_slot0(sev, NULL);
	rc = sev_agent_resume(agent);
	TEST_ASSERT(rc, "The guest runs before the end of its launch");
	sev_vm_free(sev);
}

int main(int argc, char *argv[])
{
	require_sev_type(KVM_X86_SNP_VM);
	subtest_main(argc, argv);
}
