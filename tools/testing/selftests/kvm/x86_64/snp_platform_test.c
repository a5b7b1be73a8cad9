// SPDX-License-Identifier: GPL-2.0-only
/*
 * The platform's side of SEV-SNP, /dev/sev: its status, with guests and without, the
 * configuration and where it shows, what is refused and by whom; and that
 * the commands of SEV work while SEV-SNP is initialised.
 *
 * Whatever cannot be undone is left alone: the platform's identity stays, but for the
 * Diffie-Hellman key (PDH), which is there to be changed.
 */
#define _GNU_SOURCE
#include <linux/compiler.h>
#include <linux/psp-sev.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "private_mem.h"
#include "sev_vm.h"
#include "snp_report.h"
#include "subtest.h"

static_assert(SNP_PLATFORM_STATUS == 9 && SNP_COMMIT == 10 && SNP_SET_CONFIG == 11 &&
	      SNP_VLEK_LOAD == 12, "");
static_assert(sizeof(struct sev_issue_cmd) == 16, "");
static_assert(sizeof(struct sev_user_data_snp_status) == 32, "");
static_assert(offsetof(struct sev_user_data_snp_status, current_tcb_version) == 16, "");
static_assert(sizeof(struct sev_user_data_snp_config) == 64, "");
static_assert(sizeof(struct sev_user_data_snp_vlek_load) == 16, "");
static_assert(sizeof(struct sev_user_data_snp_wrapped_vlek_hashstick) == 432, "");

#define GPA		PRIVATE_MEM_GPA
#define HUGE_SIZE	(2ULL << 20)

/* What the driver allows for certificates */
#define BLOB_MAX_SIZE	16384

/* States of a platform (56860, 8.3.2; SEV API 55766, 5.1.1) */
#define SNP_STATE_INIT		1
#define SEV_STATE_INIT		1
#define SEV_STATE_WORKING	2

#define BAD_POINTER	((void *)-4096ul)

/* What is in sev_issue_cmd.error before */
#define NOT_SET		0x5eed0000u

static int rw, ro;		/* /dev/sev, open for both, and for reading */
static uint32_t fw_error;	/* of the last command */
static uint8_t *pages;		/* one to read and write, and none after it */
static uint8_t *readonly;

static int issue(int fd, uint32_t id, const void *data)
{
	struct sev_issue_cmd cmd = {
		.cmd = id,
		.data = (uintptr_t)data,
		.error = NOT_SET,
	};
	int ret = ioctl(fd, SEV_ISSUE_CMD, &cmd);

	fw_error = cmd.error;
	return ret ? errno : 0;
}

static void expect(int line, int fd, uint32_t id, const void *data, int expected_err,
		   uint32_t expected_fw)
{
	int err = issue(fd, id, data);

	TEST_ASSERT(err == expected_err && fw_error == expected_fw,
		    "Line %d, command %u: errno %d, not %d; firmware error 0x%x, not 0x%x",
		    line, id, err, expected_err, fw_error, expected_fw);
}

#define EXPECT(_fd, _id, _data, _err, _fw)	expect(__LINE__, _fd, _id, _data, _err, _fw)

#define GOOD(_fd, _id, _data)	EXPECT(_fd, _id, _data, 0, SEV_RET_SUCCESS)

/* Refused by the driver */
#define REFUSED(_fd, _id, _data, _err)	EXPECT(_fd, _id, _data, _err, NOT_SET)

/* The end of the page that nothing comes after */
static void *at_end(const void *data, size_t size)
{
	return memcpy(pages + PAGE_SIZE - size, data, size);
}

static void setup(void)
{
	rw = open_path_or_exit("/dev/sev", O_RDWR);
	ro = open_path_or_exit("/dev/sev", O_RDONLY);
	pages = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	readonly = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(pages != MAP_FAILED && readonly != MAP_FAILED, "mmap() failed");
	TEST_ASSERT(!mprotect(pages + PAGE_SIZE, PAGE_SIZE, PROT_NONE), "mprotect() failed");
}

/* Bytes in a page that can only be read */
static void *in_readonly(const void *data, size_t size)
{
	TEST_ASSERT(!mprotect(readonly, PAGE_SIZE, PROT_READ | PROT_WRITE), "mprotect()");
	memcpy(readonly, data, size);
	TEST_ASSERT(!mprotect(readonly, PAGE_SIZE, PROT_READ), "mprotect()");
	return readonly;
}

/* --- status ------------------------------------------------------------------- */

static struct sev_user_data_snp_status snp_status(void)
{
	struct sev_user_data_snp_status status;

	memset(&status, 0xff, sizeof(status));
	GOOD(ro, SNP_PLATFORM_STATUS, &status);
	return status;
}

static struct sev_user_data_status sev_status(void)
{
	struct sev_user_data_status status;

	memset(&status, 0xff, sizeof(status));
	GOOD(ro, SEV_PLATFORM_STATUS, &status);
	return status;
}

static void assert_same_status(const struct sev_user_data_snp_status *before)
{
	struct sev_user_data_snp_status now = snp_status();

	TEST_ASSERT(!memcmp(&now, before, sizeof(now)), "Another status than before");
}

static bool tcb_at_most(uint64_t tcb, uint64_t limit)
{
	int i;

	for (i = 0; i < 64; i += 8) {
		if ((tcb >> i & 0xff) > (limit >> i & 0xff))
			return false;
	}
	return true;
}

SUBTEST(status)
{
	struct sev_user_data_snp_status s, *end;
	struct sev_user_data_status old;

	setup();
	s = snp_status();
	old = sev_status();

	/* SNP_INIT_EX, and what goes with it, is of 1.51. */
	TEST_ASSERT(s.api_major > 1 || (s.api_major == 1 && s.api_minor >= 51),
		    "API version %d.%d", s.api_major, s.api_minor);
	ASSERT_EQ(s.api_major, old.api_major);
	ASSERT_EQ(s.api_minor, old.api_minor);
	ASSERT_EQ(s.build_id & 0xff, (uint32_t)old.build);
	ASSERT_EQ(s.state, SNP_STATE_INIT);
	TEST_ASSERT(s.is_rmp_initialized, "The RMP is not initialized");
	TEST_ASSERT(s.current_tcb_version, "No TCB version");
	TEST_ASSERT(tcb_at_most(s.reported_tcb_version, s.current_tcb_version),
		    "TCB version %llx is reported, %llx is current",
		    s.reported_tcb_version, s.current_tcb_version);

	/* No more than its 32 bytes are written, wherever they are. */
	memset(pages, 0x55, PAGE_SIZE);
	end = (void *)(pages + PAGE_SIZE - sizeof(s));
	GOOD(rw, SNP_PLATFORM_STATUS, end);
	TEST_ASSERT(!memcmp(end, &s, sizeof(s)), "Another status");
	TEST_ASSERT(((uint8_t *)end)[-1] == 0x55, "Something before the status");
	GOOD(rw, SNP_PLATFORM_STATUS, pages + 3);
	TEST_ASSERT(!memcmp(pages + 3, &s, sizeof(s)), "Another status");
	TEST_ASSERT(pages[2] == 0x55 && pages[3 + sizeof(s)] == 0x55,
		    "Something around the status");
}

SUBTEST(status_errors)
{
	struct sev_user_data_snp_status before;

	setup();
	before = snp_status();
	REFUSED(rw, SNP_PLATFORM_STATUS, NULL, EINVAL);
	REFUSED(ro, SNP_PLATFORM_STATUS, NULL, EINVAL);

	/* The firmware has been asked by then. */
	EXPECT(rw, SNP_PLATFORM_STATUS, readonly, EFAULT, SEV_RET_SUCCESS);
	EXPECT(rw, SNP_PLATFORM_STATUS, pages + PAGE_SIZE, EFAULT, SEV_RET_SUCCESS);
	EXPECT(rw, SNP_PLATFORM_STATUS, pages + PAGE_SIZE - 31, EFAULT, SEV_RET_SUCCESS);
	EXPECT(rw, SNP_PLATFORM_STATUS, BAD_POINTER, EFAULT, SEV_RET_SUCCESS);
	assert_same_status(&before);
}

SUBTEST(ioctl_itself)
{
	struct sev_user_data_snp_status before, status = {};
	struct sev_issue_cmd cmd = {
		.cmd = SNP_PLATFORM_STATUS,
		.data = (uintptr_t)&status,
	};
	static const uint32_t no_commands[] = { SEV_MAX, SEV_MAX + 1, 100, 1u << 31, -1u };
	int i;

	setup();
	before = snp_status();
	for (i = 0; i < ARRAY_SIZE(no_commands); i++)
		REFUSED(rw, no_commands[i], &status, EINVAL);

	ASSERT_EQ(ioctl(rw, _IOWR(SEV_IOC_TYPE, 1, struct sev_issue_cmd), &cmd), -1);
	ASSERT_EQ(errno, EINVAL);
	ASSERT_EQ(ioctl(rw, _IO(SEV_IOC_TYPE, 0), &cmd), -1);
	ASSERT_EQ(errno, EINVAL);
	ASSERT_EQ(ioctl(rw, SEV_ISSUE_CMD, NULL), -1);
	ASSERT_EQ(errno, EFAULT);
	ASSERT_EQ(ioctl(rw, SEV_ISSUE_CMD, pages + PAGE_SIZE - 15), -1);
	ASSERT_EQ(errno, EFAULT);

	/* Carried out, but there is no place for the firmware's error. */
	ASSERT_EQ(ioctl(rw, SEV_ISSUE_CMD, in_readonly(&cmd, sizeof(cmd))), -1);
	ASSERT_EQ(errno, EFAULT);
	TEST_ASSERT(!memcmp(&status, &before, sizeof(status)), "Another status");
}

/* --- guests ------------------------------------------------------------------- */

/* A VM can outlive its last descriptor for a moment. */
static void assert_guests(uint32_t snp, uint32_t old)
{
	int tries;

	for (tries = 0; tries < 50; tries++) {
		if (snp_status().guest_count == snp && sev_status().guest_count == old)
			return;
		usleep(20000);
	}
	TEST_FAIL("%u SNP guests, not %u; %u SEV guests, not %u", snp_status().guest_count,
		  snp, sev_status().guest_count, old);
}

static struct sev_vm *launch_guest(unsigned long type)
{
	struct sev_vm *sev = sev_vm_create_agents(type, 1);

	sev_vm_launch(sev);
	return sev;
}

static void assert_alive(struct sev_vm *sev)
{
	ASSERT_EQ(sev_agent_do(&sev->agents[0], SEV_NOP, 0, 0, 0), 0ul);
}

SUBTEST(guest_count)
{
	struct sev_user_data_snp_status before, now;
	struct sev_vm *a, *b, *c;
	uint32_t nr, old;

	setup();
	before = snp_status();
	nr = before.guest_count;
	old = sev_status().guest_count;

	/* The firmware knows a guest from LAUNCH_START on. */
	a = sev_vm_create_agents(KVM_X86_SNP_VM, 1);
	ASSERT_EQ(snp_status().guest_count, nr);
	sev_vm_seal(a);
	snp_launch_start(a);
	ASSERT_EQ(snp_status().guest_count, nr + 1);
	ASSERT_EQ(snp_status().state, SNP_STATE_INIT);

	b = launch_guest(KVM_X86_SNP_VM);
	ASSERT_EQ(snp_status().guest_count, nr + 2);
	assert_alive(b);

	/* Nothing but the count has changed. */
	now = snp_status();
	now.guest_count = nr;
	TEST_ASSERT(!memcmp(&now, &before, sizeof(now)), "Another status than without guests");

	/* Each firmware has guests of its own. */
	if (sev_type_supported(KVM_X86_SEV_VM)) {
		c = launch_guest(KVM_X86_SEV_VM);
		assert_guests(nr + 2, old + 1);
		ASSERT_EQ(sev_status().state, SEV_STATE_WORKING);
		ASSERT_EQ(snp_status().state, SNP_STATE_INIT);
		assert_alive(c);
		sev_vm_free(c);
		assert_guests(nr + 2, old);
	}
	ASSERT_EQ(sev_status().state, old ? SEV_STATE_WORKING : SEV_STATE_INIT);

	sev_vm_free(a);
	assert_guests(nr + 1, old);
	assert_alive(b);
	sev_vm_free(b);
	assert_guests(nr, old);
	assert_same_status(&before);
}

/* --- configuration ------------------------------------------------------------ */

static struct sev_user_data_snp_status original;

static struct sev_user_data_snp_config
config_of(const struct sev_user_data_snp_status *status)
{
	return (struct sev_user_data_snp_config) {
		.reported_tcb_version = status->reported_tcb_version,
		.mask_chip_id = status->mask_chip_id,
		.mask_chip_key = status->mask_chip_key,
	};
}

static void restore_config(void)
{
	struct sev_user_data_snp_config config = config_of(&original);

	if (issue(rw, SNP_SET_CONFIG, &config))
		printf("# The configuration could not be restored\n");
}

/* A failed assertion is an exit, too. */
static void setup_config(void)
{
	setup();
	original = snp_status();
	atexit(restore_config);
}

static void set_config(uint64_t tcb, bool mask_chip_id, bool mask_chip_key)
{
	struct sev_user_data_snp_config config = {
		.reported_tcb_version = tcb,
		.mask_chip_id = mask_chip_id,
		.mask_chip_key = mask_chip_key,
	};

	GOOD(rw, SNP_SET_CONFIG, &config);
}

/* One that is older in one of its components, the first that can be */
static uint64_t older_tcb(uint64_t tcb)
{
	int i;

	for (i = 0; i < 64; i += 8) {
		if (tcb >> i & 0xff)
			return tcb - (1ull << i);
	}
	subtest_skip("no TCB version");
}

SUBTEST(config)
{
	struct sev_user_data_snp_status expected, now;
	struct sev_user_data_snp_config config;
	uint64_t older;
	int mask;

	setup_config();
	older = older_tcb(original.reported_tcb_version);
	for (mask = 0; mask < 4; mask++) {
		set_config(older, mask & 1, mask & 2);
		expected = original;
		expected.reported_tcb_version = older;
		expected.mask_chip_id = mask & 1;
		expected.mask_chip_key = mask >> 1;
		assert_same_status(&expected);
	}

	/* It is read and no more: where it is may be read-only. */
	config = config_of(&original);
	GOOD(rw, SNP_SET_CONFIG, in_readonly(&config, sizeof(config)));
	assert_same_status(&original);
	set_config(older, true, true);
	GOOD(rw, SNP_SET_CONFIG, at_end(&config, sizeof(config)));
	assert_same_status(&original);

	/* 0 is what is committed, which is not older than what was reported. */
	set_config(0, false, false);
	now = snp_status();
	TEST_ASSERT(tcb_at_most(original.reported_tcb_version, now.reported_tcb_version) &&
		    tcb_at_most(now.reported_tcb_version, now.current_tcb_version),
		    "%llx is reported", now.reported_tcb_version);
}

SUBTEST(config_errors)
{
	struct sev_user_data_snp_config good, bad;
	int i;

	setup_config();
	/* What would show if it were taken */
	good = config_of(&original);
	good.reported_tcb_version = older_tcb(original.reported_tcb_version);
	good.mask_chip_id ^= 1;
	good.mask_chip_key ^= 1;

	REFUSED(rw, SNP_SET_CONFIG, NULL, EINVAL);
	REFUSED(ro, SNP_SET_CONFIG, NULL, EINVAL);
	REFUSED(ro, SNP_SET_CONFIG, &good, EPERM);
	REFUSED(rw, SNP_SET_CONFIG, pages + PAGE_SIZE, EFAULT);
	REFUSED(rw, SNP_SET_CONFIG, BAD_POINTER, EFAULT);
	memcpy(pages + PAGE_SIZE - 63, &good, 63);
	REFUSED(rw, SNP_SET_CONFIG, pages + PAGE_SIZE - 63, EFAULT);
	assert_same_status(&original);

	/* The rest is the firmware's to judge: what is reserved, ... */
	for (i = 2; i < 32; i++) {
		bad = good;
		bad.rsvd = 1u << (i - 2);
		EXPECT(rw, SNP_SET_CONFIG, &bad, EIO, SEV_RET_INVALID_PARAM);
	}
	for (i = 0; i < sizeof(bad.rsvd1); i++) {
		bad = good;
		bad.rsvd1[i] = 0x80;
		EXPECT(rw, SNP_SET_CONFIG, &bad, EIO, SEV_RET_INVALID_PARAM);
	}
	/* ... and a version that is none of this platform's */
	for (i = 0; i < 64; i += 8) {
		if ((original.current_tcb_version >> i & 0xff) == 0xff)
			continue;
		bad = good;
		bad.reported_tcb_version = original.current_tcb_version + (1ull << i);
		EXPECT(rw, SNP_SET_CONFIG, &bad, EIO, SEV_RET_INVALID_PARAM);
	}
	assert_same_status(&original);
}

/* --- what guests see of it ------------------------------------------------------ */

static struct sev_vm *guest;
static uint64_t msg_gpa;
static uint64_t seqno = 1;

/* One that has its secrets page, at GPA */
static void launch_with_secrets(void)
{
	int err;

	guest = sev_vm_create_agents(KVM_X86_SNP_VM, 1);
	sev_vm_alloc_shared(guest, 2 * PAGE_SIZE, &msg_gpa);
	vm_mem_region_add_private(guest->vm, GPA, PRIVATE_MEM_SLOT, HUGE_SIZE / PAGE_SIZE,
				  -1, 0);
	vm_mem_set_private(guest->vm, GPA, HUGE_SIZE);
	sev_vm_map(guest, GPA, HUGE_SIZE);
	sev_vm_seal(guest);
	snp_launch_start(guest);
	snp_launch_update_slot0(guest, NULL);
	snp_launch_update(guest, GPA, addr_gpa2hva(guest->vm, GPA), PAGE_SIZE,
			  KVM_SEV_SNP_PAGE_TYPE_SECRETS);
	err = __snp_launch_finish(guest, NULL);
	TEST_ASSERT(!err, "SNP_LAUNCH_FINISH: errno %d", err);
	sev_agent_boot(&guest->agents[0]);
}

static void get_report(uint8_t report[SNP_REPORT_SIZE])
{
	static const uint8_t data[64] = { 1, 2, 3 };

	snp_get_report(&guest->agents[0], GPA, msg_gpa, seqno, data, report);
	/* The answer has taken a number, too. */
	seqno += 2;
}

static bool is_zero(const uint8_t *p, size_t size)
{
	while (size--) {
		if (*p++)
			return false;
	}
	return true;
}

/* KEY_INFO (56860, 7.3): MASK_CHIP_KEY, and SIGNING_KEY, 7 if there is none */
#define KEY_INFO_MASKED		BIT(1)
#define KEY_INFO_SIGNING_KEY(_info)	((_info) >> 2 & 7)

static void assert_report(uint64_t tcb, bool mask_chip_id, bool mask_chip_key)
{
	uint8_t report[SNP_REPORT_SIZE];
	uint32_t info;

	get_report(report);
	info = *(uint32_t *)(report + SNP_REPORT_KEY_INFO);
	ASSERT_EQ(*(uint64_t *)(report + SNP_REPORT_CURRENT_TCB),
		  (uint64_t)original.current_tcb_version);
	ASSERT_EQ(*(uint64_t *)(report + SNP_REPORT_REPORTED_TCB), tcb);
	ASSERT_EQ(is_zero(report + SNP_REPORT_CHIP_ID, 64), mask_chip_id);
	ASSERT_EQ(!!(info & KEY_INFO_MASKED), mask_chip_key);
	ASSERT_EQ(KEY_INFO_SIGNING_KEY(info) == 7, mask_chip_key);
	ASSERT_EQ(is_zero(report + SNP_REPORT_SIGNATURE, 144), mask_chip_key);
}

SUBTEST(config_in_report)
{
	uint64_t tcb, older;
	int mask;

	setup_config();
	tcb = original.reported_tcb_version;
	older = older_tcb(tcb);

	/* It is the platform's, whenever the guest was launched. */
	launch_with_secrets();
	assert_report(tcb, original.mask_chip_id, original.mask_chip_key);
	for (mask = 0; mask < 4; mask++) {
		set_config(older, mask & 1, mask & 2);
		assert_report(older, mask & 1, mask & 2);
	}
	restore_config();
	assert_report(tcb, original.mask_chip_id, original.mask_chip_key);
	sev_vm_free(guest);
}

/* --- commit, and a VLEK --------------------------------------------------------- */

SUBTEST(commit)
{
	uint8_t report[SNP_REPORT_SIZE], *current, *committed;
	struct sev_user_data_snp_status before;

	setup();
	before = snp_status();
	REFUSED(ro, SNP_COMMIT, NULL, EPERM);
	REFUSED(ro, SNP_COMMIT, &before, EPERM);
	assert_same_status(&before);

	/* There is no way back, except from where one is already. */
	launch_with_secrets();
	get_report(report);
	current = report + SNP_REPORT_CURRENT_VERSION;
	committed = report + SNP_REPORT_COMMITTED_VERSION;
	if (*(uint64_t *)(report + SNP_REPORT_COMMITTED_TCB) != before.current_tcb_version ||
	    memcmp(current, committed, 3))
		subtest_skip("the firmware has not been committed");
	before = snp_status();

	/* It has no data. */
	GOOD(rw, SNP_COMMIT, NULL);
	assert_same_status(&before);
	GOOD(rw, SNP_COMMIT, BAD_POINTER);
	assert_same_status(&before);
	get_report(report);
	ASSERT_EQ(*(uint64_t *)(report + SNP_REPORT_COMMITTED_TCB),
		  (uint64_t)before.current_tcb_version);
	sev_vm_free(guest);
}

SUBTEST(vlek)
{
	static const uint8_t garbage[sizeof(struct sev_user_data_snp_wrapped_vlek_hashstick)] = {
		0x5a, 0xa5,
	};
	const struct sev_user_data_snp_vlek_load good = {
		.len = sizeof(good),
		.vlek_wrapped_address = (uintptr_t)garbage,
	};
	struct sev_user_data_snp_vlek_load bad;
	struct sev_user_data_snp_status before;
	static const uint32_t lens[] = { 0, 4, 15, 17, 432, -1u };
	int i, err;

	setup();
	before = snp_status();

	REFUSED(rw, SNP_VLEK_LOAD, NULL, EINVAL);
	REFUSED(ro, SNP_VLEK_LOAD, &good, EPERM);
	REFUSED(rw, SNP_VLEK_LOAD, pages + PAGE_SIZE, EFAULT);
	REFUSED(rw, SNP_VLEK_LOAD, BAD_POINTER, EFAULT);
	memcpy(pages + PAGE_SIZE - 15, &good, 15);
	REFUSED(rw, SNP_VLEK_LOAD, pages + PAGE_SIZE - 15, EFAULT);

	bad = good;
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		bad.len = lens[i];
		REFUSED(rw, SNP_VLEK_LOAD, &bad, EINVAL);
	}
	for (i = 1; i < 256; i++) {
		bad = good;
		bad.vlek_wrapped_version = i;
		REFUSED(rw, SNP_VLEK_LOAD, &bad, EINVAL);
	}

	bad = good;
	bad.vlek_wrapped_address = 0;
	REFUSED(rw, SNP_VLEK_LOAD, &bad, EINVAL);
	bad.vlek_wrapped_address = (uintptr_t)BAD_POINTER;
	REFUSED(rw, SNP_VLEK_LOAD, &bad, EFAULT);
	bad.vlek_wrapped_address = (uintptr_t)pages + PAGE_SIZE;
	REFUSED(rw, SNP_VLEK_LOAD, &bad, EFAULT);
	bad.vlek_wrapped_address -= sizeof(garbage) - 1;
	REFUSED(rw, SNP_VLEK_LOAD, &bad, EFAULT);

	/* Whatever the firmware has against it, it does not take what nobody has wrapped. */
	for (i = -1; i < 3; i++) {
		bad = good;
		if (i >= 0)
			bad.rsvd[i] = 1;
		else
			bad.vlek_wrapped_address = (uintptr_t)at_end(garbage, sizeof(garbage));
		err = issue(rw, SNP_VLEK_LOAD, &bad);
		TEST_ASSERT(err == EIO && fw_error && fw_error <= 0xffff,
			    "Not a VLEK: errno %d, firmware error 0x%x", err, fw_error);
	}
	assert_same_status(&before);
}

/* --- what SEV has always had ------------------------------------------------------- */

/* Certificates (SEV API 55766, appendix C.1) */
#define CERT_SIZE	0x824
#define CERT_VERSION	0x000
#define CERT_USAGE	0x008
#define CERT_PUBKEY	0x010
#define CERT_BODY	0x414
#define USAGE_OCA	0x1001
#define USAGE_PEK	0x1002
#define USAGE_PDH	0x1003
#define USAGE_CEK	0x1004
#define CHAIN_SIZE	(3 * CERT_SIZE)

struct identity {
	uint8_t pdh[CERT_SIZE];
	uint8_t chain[CHAIN_SIZE];	/* PEK, OCA, CEK */
};

/* Whatever is signed may be signed anew each time that it is asked for. */
static bool same_cert(const uint8_t *a, const uint8_t *b)
{
	return !memcmp(a, b, CERT_BODY);
}

static bool same_chain(const struct identity *a, const struct identity *b)
{
	int i;

	for (i = 0; i < CHAIN_SIZE; i += CERT_SIZE) {
		if (!same_cert(a->chain + i, b->chain + i))
			return false;
	}
	return true;
}

static struct sev_user_data_pdh_cert_export export_to(void *pdh, uint32_t pdh_len,
						      void *chain, uint32_t chain_len)
{
	return (struct sev_user_data_pdh_cert_export) {
		.pdh_cert_address = (uintptr_t)pdh,
		.pdh_cert_len = pdh_len,
		.cert_chain_address = (uintptr_t)chain,
		.cert_chain_len = chain_len,
	};
}

static void get_identity(struct identity *id)
{
	struct sev_user_data_pdh_cert_export export;

	memset(id, 0xff, sizeof(*id));
	export = export_to(id->pdh, CERT_SIZE, id->chain, CHAIN_SIZE);
	GOOD(ro, SEV_PDH_CERT_EXPORT, &export);
	ASSERT_EQ(export.pdh_cert_len, CERT_SIZE);
	ASSERT_EQ(export.cert_chain_len, CHAIN_SIZE);
}

static void assert_identity(const struct identity *before)
{
	struct identity now;

	get_identity(&now);
	TEST_ASSERT(same_cert(now.pdh, before->pdh) && same_chain(&now, before),
		    "Another identity than before");
}

static void assert_cert(const uint8_t *cert, uint32_t usage)
{
	ASSERT_EQ(*(uint32_t *)(cert + CERT_VERSION), 1u);
	ASSERT_EQ(*(uint32_t *)(cert + CERT_USAGE), usage);
	TEST_ASSERT(!is_zero(cert + CERT_PUBKEY, 64), "No public key");
}

SUBTEST(old_status)
{
	struct sev_user_data_status s;

	setup();
	s = sev_status();
	ASSERT_EQ(s.state, s.guest_count ? SEV_STATE_WORKING : SEV_STATE_INIT);
	ASSERT_EQ(!!(s.flags & SEV_STATUS_FLAGS_CONFIG_ES),
		  sev_type_supported(KVM_X86_SEV_ES_VM));

	GOOD(rw, SEV_PLATFORM_STATUS, pages + PAGE_SIZE - sizeof(s));
	TEST_ASSERT(!memcmp(pages + PAGE_SIZE - sizeof(s), &s, sizeof(s)), "Another status");
	EXPECT(rw, SEV_PLATFORM_STATUS, NULL, EFAULT, SEV_RET_SUCCESS);
	EXPECT(rw, SEV_PLATFORM_STATUS, readonly, EFAULT, SEV_RET_SUCCESS);
	EXPECT(rw, SEV_PLATFORM_STATUS, pages + PAGE_SIZE - 11, EFAULT, SEV_RET_SUCCESS);
}

SUBTEST(old_pdh)
{
	struct sev_user_data_pdh_cert_export export;
	struct identity before, after;
	uint8_t big[BLOB_MAX_SIZE];
	int i;

	setup();
	get_identity(&before);
	assert_cert(before.pdh, USAGE_PDH);
	assert_cert(before.chain, USAGE_PEK);
	assert_cert(before.chain + CERT_SIZE, USAGE_OCA);
	assert_cert(before.chain + 2 * CERT_SIZE, USAGE_CEK);

	/* Without one of the four, the lengths that are needed come back, ... */
	for (i = 0; i < 4; i++) {
		export = export_to(i == 0 ? NULL : big, i == 1 ? 0 : CERT_SIZE,
				   i == 2 ? NULL : big, i == 3 ? 0 : CHAIN_SIZE);
		EXPECT(ro, SEV_PDH_CERT_EXPORT, &export, EIO, SEV_RET_INVALID_LEN);
		ASSERT_EQ(export.pdh_cert_len, CERT_SIZE);
		ASSERT_EQ(export.cert_chain_len, CHAIN_SIZE);
	}
	/* ... and so they do if they are too short. */
	for (i = 1; i < 4; i++) {
		memset(&after, 0x55, sizeof(after));
		export = export_to(after.pdh, CERT_SIZE - (i & 1), after.chain,
				   CHAIN_SIZE - (i >> 1));
		EXPECT(ro, SEV_PDH_CERT_EXPORT, &export, EIO, SEV_RET_INVALID_LEN);
		ASSERT_EQ(export.pdh_cert_len, CERT_SIZE);
		ASSERT_EQ(export.cert_chain_len, CHAIN_SIZE);
		TEST_ASSERT(after.pdh[0] == 0x55 && after.chain[0] == 0x55,
			    "Written, though too short");
	}

	/* With room to spare, which is left as it is */
	memset(big, 0x55, sizeof(big));
	export = export_to(big, sizeof(big), after.chain, CHAIN_SIZE);
	GOOD(ro, SEV_PDH_CERT_EXPORT, &export);
	ASSERT_EQ(export.pdh_cert_len, CERT_SIZE);
	TEST_ASSERT(same_cert(big, before.pdh) && big[CERT_SIZE] == 0x55,
		    "Another PDH certificate");

	export = export_to(big, sizeof(big) + 1, after.chain, CHAIN_SIZE);
	REFUSED(ro, SEV_PDH_CERT_EXPORT, &export, EFAULT);
	export = export_to(big, CERT_SIZE, after.chain, sizeof(big) + 1);
	REFUSED(ro, SEV_PDH_CERT_EXPORT, &export, EFAULT);
	REFUSED(ro, SEV_PDH_CERT_EXPORT, NULL, EFAULT);
	REFUSED(ro, SEV_PDH_CERT_EXPORT, pages + PAGE_SIZE - sizeof(export) + 1, EFAULT);
	export = export_to(readonly, CERT_SIZE, after.chain, CHAIN_SIZE);
	EXPECT(ro, SEV_PDH_CERT_EXPORT, &export, EFAULT, SEV_RET_SUCCESS);
	export = export_to(after.pdh, CERT_SIZE, readonly, CHAIN_SIZE);
	EXPECT(ro, SEV_PDH_CERT_EXPORT, &export, EFAULT, SEV_RET_SUCCESS);
	export = export_to(after.pdh, CERT_SIZE, after.chain, CHAIN_SIZE);
	EXPECT(ro, SEV_PDH_CERT_EXPORT, in_readonly(&export, sizeof(export)), EFAULT,
	       SEV_RET_SUCCESS);

	/* A new key, and nothing else */
	REFUSED(ro, SEV_PDH_GEN, NULL, EPERM);
	assert_identity(&before);
	GOOD(rw, SEV_PDH_GEN, NULL);
	get_identity(&after);
	assert_cert(after.pdh, USAGE_PDH);
	TEST_ASSERT(memcmp(before.pdh + CERT_PUBKEY, after.pdh + CERT_PUBKEY,
			   CERT_BODY - CERT_PUBKEY), "The PDH has not changed");
	TEST_ASSERT(same_chain(&before, &after), "Another chain of certificates");
}

SUBTEST(old_pek)
{
	struct sev_user_data_pek_csr csr = {};
	struct identity before;
	uint8_t cert[CERT_SIZE + 1];

	setup();
	get_identity(&before);

	REFUSED(ro, SEV_PEK_GEN, NULL, EPERM);
	REFUSED(ro, SEV_PEK_CSR, &csr, EPERM);
	REFUSED(rw, SEV_PEK_CSR, NULL, EFAULT);

	EXPECT(rw, SEV_PEK_CSR, &csr, EIO, SEV_RET_INVALID_LEN);
	ASSERT_EQ(csr.length, CERT_SIZE);
	csr.address = (uintptr_t)cert;
	csr.length = 0;
	EXPECT(rw, SEV_PEK_CSR, &csr, EIO, SEV_RET_INVALID_LEN);
	ASSERT_EQ(csr.length, CERT_SIZE);
	csr.length = CERT_SIZE - 1;
	EXPECT(rw, SEV_PEK_CSR, &csr, EIO, SEV_RET_INVALID_LEN);
	ASSERT_EQ(csr.length, CERT_SIZE);
	csr.length = BLOB_MAX_SIZE + 1;
	REFUSED(rw, SEV_PEK_CSR, &csr, EFAULT);
	csr.length = CERT_SIZE;
	csr.address = (uintptr_t)readonly;
	EXPECT(rw, SEV_PEK_CSR, &csr, EFAULT, SEV_RET_SUCCESS);

	/* To be signed is what the certificate says. */
	memset(cert, 0x55, sizeof(cert));
	csr.address = (uintptr_t)cert;
	csr.length = BLOB_MAX_SIZE;
	GOOD(rw, SEV_PEK_CSR, &csr);
	ASSERT_EQ(csr.length, CERT_SIZE);
	ASSERT_EQ(csr.address, (__u64)(uintptr_t)cert);
	ASSERT_EQ(cert[CERT_SIZE], 0x55);
	assert_cert(cert, USAGE_PEK);
	TEST_ASSERT(!memcmp(cert + CERT_USAGE, before.chain + CERT_USAGE,
			    CERT_BODY - CERT_USAGE), "The CSR is for another key");

	assert_identity(&before);
}

SUBTEST(old_pek_import)
{
	static const uint8_t garbage[CERT_SIZE];
	const struct sev_user_data_pek_cert_import good = {
		.pek_cert_address = (uintptr_t)garbage,
		.pek_cert_len = CERT_SIZE,
		.oca_cert_address = (uintptr_t)garbage,
		.oca_cert_len = CERT_SIZE,
	};
	struct sev_user_data_pek_cert_import bad;
	static const uint32_t lens[] = { 0, BLOB_MAX_SIZE + 1, -1u };
	struct identity before;
	int i, err;

	setup();
	get_identity(&before);
	REFUSED(ro, SEV_PEK_CERT_IMPORT, &good, EPERM);
	REFUSED(rw, SEV_PEK_CERT_IMPORT, NULL, EFAULT);
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		bad = good;
		bad.pek_cert_len = lens[i];
		REFUSED(rw, SEV_PEK_CERT_IMPORT, &bad, EINVAL);
		bad = good;
		bad.oca_cert_len = lens[i];
		REFUSED(rw, SEV_PEK_CERT_IMPORT, &bad, EINVAL);
	}
	bad = good;
	bad.pek_cert_address = 0;
	REFUSED(rw, SEV_PEK_CERT_IMPORT, &bad, EINVAL);
	bad.pek_cert_address = (uintptr_t)pages + PAGE_SIZE;
	REFUSED(rw, SEV_PEK_CERT_IMPORT, &bad, EFAULT);
	bad = good;
	bad.oca_cert_address = 0;
	REFUSED(rw, SEV_PEK_CERT_IMPORT, &bad, EINVAL);
	bad.oca_cert_address = (uintptr_t)BAD_POINTER;
	REFUSED(rw, SEV_PEK_CERT_IMPORT, &bad, EFAULT);

	/* All zeroes, or too short: no certificate */
	for (i = 0; i < 2; i++) {
		bad = good;
		bad.pek_cert_len -= i;
		err = issue(rw, SEV_PEK_CERT_IMPORT, &bad);
		TEST_ASSERT(err == EIO && fw_error && fw_error <= 0xffff,
			    "No certificate: errno %d, firmware error 0x%x", err, fw_error);
	}
	assert_identity(&before);
}

SUBTEST(old_id)
{
	struct sev_user_data_get_id2 id2 = {};
	struct sev_user_data_get_id id;
	uint8_t first[65536], again[65536];
	uint32_t size;

	setup();
	REFUSED(ro, SEV_GET_ID2, NULL, EFAULT);
	EXPECT(ro, SEV_GET_ID2, &id2, EIO, SEV_RET_INVALID_LEN);
	size = id2.length;
	TEST_ASSERT(size >= 64 && size < sizeof(first), "An ID of %u bytes", size);

	memset(first, 0x55, sizeof(first));
	id2.address = (uintptr_t)first;
	GOOD(ro, SEV_GET_ID2, &id2);
	ASSERT_EQ(id2.length, size);
	TEST_ASSERT(!is_zero(first, size), "No ID");
	ASSERT_EQ(first[size], 0x55);

	memset(again, 0x55, sizeof(again));
	id2.address = (uintptr_t)again;
	id2.length = size - 1;
	EXPECT(ro, SEV_GET_ID2, &id2, EIO, SEV_RET_INVALID_LEN);
	ASSERT_EQ(id2.length, size);
	ASSERT_EQ(again[0], 0x55);

	/* More than the driver lets the firmware have at once */
	id2.length = sizeof(again);
	GOOD(rw, SEV_GET_ID2, &id2);
	ASSERT_EQ(id2.length, size);
	TEST_ASSERT(!memcmp(first, again, sizeof(first)), "Another ID");

	id2.length = -1u;
	REFUSED(ro, SEV_GET_ID2, &id2, ENOMEM);
	id2.length = size;
	id2.address = (uintptr_t)readonly;
	EXPECT(ro, SEV_GET_ID2, &id2, EFAULT, SEV_RET_SUCCESS);
	id2.address = (uintptr_t)again;
	EXPECT(ro, SEV_GET_ID2, in_readonly(&id2, sizeof(id2)), EFAULT, SEV_RET_SUCCESS);

	/* Its predecessor, which is for two sockets */
	memset(&id, 0x55, sizeof(id));
	GOOD(ro, SEV_GET_ID, &id);
	TEST_ASSERT(!memcmp(&id, first, min_t(uint32_t, sizeof(id), size)), "Another ID");
	EXPECT(ro, SEV_GET_ID, NULL, EFAULT, SEV_RET_SUCCESS);
	EXPECT(ro, SEV_GET_ID, readonly, EFAULT, SEV_RET_SUCCESS);
}

/* While there are SEV guests, the platform stays who it is. */
SUBTEST(no_reset_with_guests)
{
	struct sev_user_data_snp_status snp_before;
	struct identity before;
	unsigned long type;

	setup();
	get_identity(&before);
	snp_before = snp_status();
	REFUSED(ro, SEV_FACTORY_RESET, NULL, EPERM);

	for (type = KVM_X86_SEV_VM; type <= KVM_X86_SEV_ES_VM; type++) {
		struct sev_vm *sev;

		if (!sev_type_supported(type))
			continue;
		sev = launch_guest(type);
		ASSERT_EQ(sev_status().state, SEV_STATE_WORKING);
		EXPECT(rw, SEV_FACTORY_RESET, NULL, EBUSY, SEV_RET_SUCCESS);
		EXPECT(rw, SEV_PEK_GEN, NULL, EIO, SEV_RET_INVALID_PLATFORM_STATE);
		ASSERT_EQ(sev_status().state, SEV_STATE_WORKING);
		assert_alive(sev);
		assert_identity(&before);
		sev_vm_free(sev);
	}
	assert_same_status(&snp_before);
}

/* --- a firmware that refuses ---------------------------------------------------- */

/*
 * Where commands can be made to fail (the emulated machine), the firmware's error
 * comes back, or that it has not been asked; and nothing else does.  Without, all
 * of them succeed.
 */
SUBTEST(firmware_refuses)
{
	static uint8_t snp[32], old[12], blobs[4][BLOB_MAX_SIZE];
	struct sev_user_data_pdh_cert_export export;
	struct sev_user_data_pek_csr csr;
	struct sev_user_data_get_id2 id2;
	const struct {
		uint32_t id;
		const char *name;
		void *data;
		uint8_t *out;
	} commands[] = {
		{ SNP_PLATFORM_STATUS, "SNP_PLATFORM_STATUS", snp, snp },
		{ SEV_PLATFORM_STATUS, "PLATFORM_STATUS", old, old },
		{ SEV_PDH_CERT_EXPORT, "PDH_CERT_EXPORT", &export, blobs[0] },
		{ SEV_PEK_CSR, "PEK_CSR", &csr, blobs[2] },
		{ SEV_GET_ID2, "GET_ID2", &id2, blobs[3] },
	};
	int i, err;

	setup();
	for (i = 0; i < 4 * ARRAY_SIZE(commands); i++) {
		int c = i % ARRAY_SIZE(commands);

		export = export_to(blobs[0], CERT_SIZE, blobs[1], CHAIN_SIZE);
		csr = (struct sev_user_data_pek_csr) { (uintptr_t)blobs[2], CERT_SIZE };
		id2 = (struct sev_user_data_get_id2) { (uintptr_t)blobs[3], BLOB_MAX_SIZE };
		commands[c].out[0] = 0xee;
		err = issue(rw, commands[c].id, commands[c].data);
		if (!err) {
			ASSERT_EQ(fw_error, SEV_RET_SUCCESS);
			TEST_ASSERT(commands[c].out[0] != 0xee || c == 4, "%s: no answer",
				    commands[c].name);
			continue;
		}

		ksft_print_msg("%s: errno %d (%s), firmware error 0x%x\n", commands[c].name,
			       err, strerror(err), fw_error);
		TEST_ASSERT(fw_error == NOT_SET || fw_error == SEV_RET_NO_FW_CALL ||
			    (err == EIO && fw_error && fw_error <= 0xffff),
			    "Neither an error nor none");
		ASSERT_EQ(commands[c].out[0], 0xee);
	}
}

/* --- all at once ------------------------------------------------------------------ */

/* Ask what does not change as long as it is asked. */
static void __noreturn ask(const bool *stop)
{
	struct sev_user_data_snp_status before = snp_status(), status;
	struct identity id;
	unsigned int nr = 0;

	get_identity(&id);
	do {
		status = snp_status();
		status.guest_count = before.guest_count;
		TEST_ASSERT(!memcmp(&status, &before, sizeof(status)), "Another status");
		ASSERT_EQ(sev_status().api_major, before.api_major);
		assert_identity(&id);
		nr++;
		usleep(1000);
	} while (!READ_ONCE(*stop));
	ksft_print_msg("asked %u times\n", nr);
	exit(0);
}

SUBTEST(all_at_once)
{
	uint32_t nr, old;
	pid_t pids[2];
	bool *stop;
	int i, status;

	setup();
	nr = snp_status().guest_count;
	old = sev_status().guest_count;
	stop = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(stop != MAP_FAILED, "mmap() failed");
	fflush(NULL);
	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = fork();
		TEST_ASSERT(pids[i] >= 0, "fork() failed, errno: %d", errno);
		if (!pids[i])
			ask(stop);
	}

	for (i = 0; i < 3; i++) {
		static const unsigned long types[] = {
			KVM_X86_SNP_VM, KVM_X86_SEV_VM, KVM_X86_SEV_ES_VM,
		};
		unsigned long type = types[i];
		struct sev_vm *sev;

		if (!sev_type_supported(type))
			continue;
		sev = launch_guest(type);
		assert_alive(sev);
		sev_vm_free(sev);
	}

	WRITE_ONCE(*stop, true);
	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		ASSERT_EQ(waitpid(pids[i], &status, 0), pids[i]);
		TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "Status 0x%x", status);
	}
	assert_guests(nr, old);
}

int main(int argc, char *argv[])
{
	require_sev_type(KVM_X86_SNP_VM);
	subtest_main(argc, argv);
}
