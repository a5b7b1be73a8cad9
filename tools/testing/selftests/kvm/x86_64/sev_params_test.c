// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_amd's parameters sev, sev_es and sev_snp: they can be read, and what KVM offers
 * is what they say, in VM types, CPUID, commands, attributes and ASIDs.
 *
 * So it is as KVM is loaded; and if it is a module that nobody uses, it is loaded
 * anew with each of them off.  In the end it is as it was found.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "private_mem.h"
#include "sev_vm.h"
#include "subtest.h"

#define MODULE		"kvm_amd"
#define PARAMS_DIR	"/sys/module/" MODULE "/parameters/"

#define HW_SEV		BIT(1)
#define HW_SEV_ES	BIT(3)
#define HW_SEV_SNP	BIT(4)

struct params {
	bool sev;
	bool es;
	bool snp;
};

static bool read_line(const char *path, char *line, int size)
{
	FILE *file = fopen(path, "r");
	bool ok;

	if (!file)
		return false;
	ok = fgets(line, size, file);
	line[ok ? strcspn(line, "\n") : 0] = 0;
	fclose(file);
	return ok;
}

static bool read_param(const char *path)
{
	char line[16];

	TEST_ASSERT(read_line(path, line, sizeof(line)), "%s, errno: %d", path, errno);
	TEST_ASSERT(!strcmp(line, "Y") || !strcmp(line, "N"), "%s is %s", path, line);
	return line[0] == 'Y';
}

static struct params read_params(void)
{
	return (struct params) {
		.sev = read_param(PARAMS_DIR "sev"),
		.es = read_param(PARAMS_DIR "sev_es"),
		.snp = read_param(PARAMS_DIR "sev_snp"),
	};
}

/* --- what KVM offers ------------------------------------------------------------- */

static void assert_cpuid(struct params p)
{
	const struct kvm_cpuid_entry2 *e = kvm_get_supported_cpuid_entry(0x8000001f);

	ASSERT_EQ(!!(e->eax & HW_SEV), p.sev);
	ASSERT_EQ(!!(e->eax & HW_SEV_ES), p.es);
	ASSERT_EQ(!!(e->eax & HW_SEV_SNP), p.snp);
	if (!p.sev)
		TEST_ASSERT(!e->eax && !e->ebx && !e->ecx && !e->edx,
			    "A guest without SEV is told of it");
}

static void assert_type(unsigned long type, bool expected)
{
	int kvm_fd = open_kvm_dev_path_or_exit();
	int vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, type);
	int err = vm_fd < 0 ? errno : 0;

	TEST_ASSERT(sev_type_supported(type) == expected, "VM type %lu is%s offered", type,
		    expected ? " not" : "");
	TEST_ASSERT(err == (expected ? 0 : EINVAL), "VM type %lu: errno %d", type, err);
	if (vm_fd >= 0)
		close(vm_fd);
	close(kvm_fd);
}

static int sev_op(int vm_fd, uint32_t id)
{
	struct kvm_sev_cmd cmd = { .id = id, .sev_fd = -1 };

	return ioctl(vm_fd, KVM_MEMORY_ENCRYPT_OP, &cmd) ? errno : 0;
}

/* A default VM becomes a SEV one by a command, which is then there or not. */
static void assert_default_vm(struct params p, bool sev_asids)
{
	struct kvm_enc_region region = {};
	int kvm_fd = open_kvm_dev_path_or_exit();
	int es_fd = ioctl(kvm_fd, KVM_CREATE_VM, KVM_X86_DEFAULT_VM);
	int fd = ioctl(kvm_fd, KVM_CREATE_VM, KVM_X86_DEFAULT_VM);
	int none = p.sev ? 0 : ENOTTY;

	TEST_ASSERT(fd >= 0 && es_fd >= 0, "KVM_CREATE_VM, errno: %d", errno);
	ASSERT_EQ(ioctl(fd, KVM_MEMORY_ENCRYPT_OP, NULL) ? errno : 0, none);
	ASSERT_EQ(ioctl(fd, KVM_MEMORY_ENCRYPT_OP, 16ul) ? errno : 0, none ?: EFAULT);
	ASSERT_EQ(sev_op(fd, 1000), none ?: EINVAL);
	ASSERT_EQ(sev_op(fd, KVM_SEV_INIT2), none ?: EINVAL);
	ASSERT_EQ(sev_op(fd, KVM_SEV_LAUNCH_START), ENOTTY);
	ASSERT_EQ(sev_op(fd, KVM_SEV_SNP_LAUNCH_START), ENOTTY);
	ASSERT_EQ(ioctl(fd, KVM_MEMORY_ENCRYPT_REG_REGION, &region) ? errno : 0, ENOTTY);
	ASSERT_EQ(ioctl(fd, KVM_MEMORY_ENCRYPT_UNREG_REGION, &region) ? errno : 0, ENOTTY);

	ASSERT_EQ(sev_op(es_fd, KVM_SEV_ES_INIT), p.es ? 0 : ENOTTY);
	if (!p.sev || sev_asids)
		ASSERT_EQ(sev_op(fd, KVM_SEV_INIT), none);
	close(es_fd);
	close(fd);
	close(kvm_fd);
}

static void assert_attribute(struct params p)
{
	uint64_t features = -1;
	struct kvm_device_attr attr = {
		.group = KVM_X86_GRP_SEV,
		.attr = KVM_X86_SEV_VMSA_FEATURES,
		.addr = (uintptr_t)&features,
	};
	int fd = open_kvm_dev_path_or_exit();

	ASSERT_EQ(ioctl(fd, KVM_GET_DEVICE_ATTR, &attr), 0);
	TEST_ASSERT(p.es || !features, "VMSA features 0x%lx, but no VMSA", features);
	close(fd);
}

/* The misc controller of the root has what there is, and no line for what is not. */
static void assert_capacity(const char *name, uint32_t expected)
{
	FILE *file = fopen("/sys/fs/cgroup/misc.capacity", "r");
	unsigned int value, capacity = 0;
	char resource[32];

	if (!file)
		return;
	while (fscanf(file, "%31s %u", resource, &value) == 2) {
		if (!strcmp(resource, name))
			capacity = value;
	}
	fclose(file);
	TEST_ASSERT(capacity == expected, "Capacity of %s is %u, not %u", name, capacity,
		    expected);
}

static void live(unsigned long type)
{
	struct sev_vm *sev = sev_vm_create_agents(type, 1);

	sev_vm_launch(sev);
	ASSERT_EQ(sev_agent_do(&sev->agents[0], SEV_NOP, 0, 0, 0), 0ul);
	sev_vm_free(sev);
}

static void check(void)
{
	struct params p = read_params();
	uint32_t eax, ebx, ecx, edx;
	bool sev_asids;

	cpuid(0x8000001f, &eax, &ebx, &ecx, &edx);
	sev_asids = edx <= ecx;

	/* Each needs the one before it, and the processor. */
	TEST_ASSERT((p.sev || !p.es) && (p.es || !p.snp), "sev %d, sev_es %d, sev_snp %d",
		    p.sev, p.es, p.snp);
	TEST_ASSERT((!p.sev || eax & HW_SEV) && (!p.es || eax & HW_SEV_ES) &&
		    (!p.snp || eax & HW_SEV_SNP), "Not what the processor has");

	assert_cpuid(p);
	assert_type(KVM_X86_DEFAULT_VM, true);
	assert_type(KVM_X86_SEV_VM, p.sev && sev_asids);
	assert_type(KVM_X86_SEV_ES_VM, p.es);
	assert_type(KVM_X86_SNP_VM, p.snp);
	assert_default_vm(p, sev_asids);
	assert_attribute(p);
	assert_capacity("sev", p.sev && sev_asids ? ecx - edx + 1 : 0);
	assert_capacity("sev_es", p.es ? edx - 1 : 0);

	/* What is left works. */
	if (p.sev && sev_asids)
		live(KVM_X86_SEV_VM);
	if (p.es)
		live(KVM_X86_SEV_ES_VM);
	if (p.snp)
		live(KVM_X86_SNP_VM);
}

SUBTEST(as_loaded)
{
	check();
}

/* --- KVM loaded anew ---------------------------------------------------------------- */

#define MAX_PARAMS	64

static struct {
	char name[64];
	char value[64];
} found[MAX_PARAMS];
static int nr_found;

static bool read_named(const char *name, char *value, int size)
{
	char path[128];

	snprintf(path, sizeof(path), PARAMS_DIR "%.63s", name);
	return read_line(path, value, size);
}

static void remember_params(void)
{
	DIR *dir = opendir(PARAMS_DIR);
	struct dirent *entry;

	TEST_ASSERT(dir, "%s, errno: %d", PARAMS_DIR, errno);
	while (nr_found < MAX_PARAMS && (entry = readdir(dir))) {
		snprintf(found[nr_found].name, sizeof(found[0].name), "%.63s", entry->d_name);
		nr_found += read_named(entry->d_name, found[nr_found].value,
				       sizeof(found[0].value));
	}
	closedir(dir);
}

/* A VM can outlive its last descriptor for a moment, and it keeps the module. */
static bool unload(int seconds)
{
	int tries;

	for (tries = 0; tries < 50 * seconds; tries++) {
		if (!syscall(SYS_delete_module, MODULE, O_NONBLOCK))
			return true;
		if (errno != EWOULDBLOCK && errno != EBUSY)
			return false;
		usleep(20000);
	}
	return false;
}

static bool load(const char *args)
{
	char command[4096];

	snprintf(command, sizeof(command), "modprobe " MODULE " %s", args);
	return !system(command);
}

/* As @found, by the parameters that it takes for that */
static void restore(void)
{
	char value[64], args[MAX_PARAMS * 32] = "";
	int i, len = 0;

	TEST_ASSERT(unload(60) && load(""), "Cannot load %s as it was", MODULE);
	for (i = 0; i < nr_found && len < sizeof(args); i++) {
		if (read_named(found[i].name, value, sizeof(value)) &&
		    strcmp(value, found[i].value))
			len += snprintf(args + len, sizeof(args) - len, " %.63s=%.63s",
					found[i].name, found[i].value);
	}
	if (len)
		TEST_ASSERT(unload(60) && load(args), "Cannot load %s as it was:%s", MODULE, args);
}

/*
 * With those @args, what has been there and @allowed has is there.  Whatever a
 * check does, it is in a process that does not keep KVM from going.
 */
static void check_with(const char *args, struct params allowed)
{
	struct params before = read_params(), now;
	char all_args[128];
	int status = -1;
	bool loaded;
	pid_t pid;

	if (access("/sys/module/" MODULE "/initstate", F_OK))
		subtest_skip("KVM is built in");
	if (!load(""))
		subtest_skip("no modprobe");
	remember_params();
	if (!unload(2))
		subtest_skip(MODULE " does not go, errno: %d", errno);

	/* The last one counts. */
	snprintf(all_args, sizeof(all_args), "sev=%d sev_es=%d sev_snp=%d %s", before.sev,
		 before.es, before.snp, args);
	loaded = load(all_args);
	if (loaded) {
		now = read_params();
		fflush(NULL);
		pid = fork();
		if (!pid) {
			alarm(120);
			check();
			exit(0);
		}
		if (pid > 0)
			waitpid(pid, &status, 0);
	}
	restore();

	TEST_ASSERT(loaded, "Cannot load %s with %s", MODULE, args);
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "With %s: status 0x%x", args,
		    status);
	ASSERT_EQ(now.sev, before.sev && allowed.sev);
	ASSERT_EQ(now.es, before.es && allowed.es);
	ASSERT_EQ(now.snp, before.snp && allowed.snp);

	now = read_params();
	TEST_ASSERT(!memcmp(&now, &before, sizeof(now)), "Not as it was");
}

SUBTEST(without_snp)
{
	check_with("sev_snp=0", (struct params) { .sev = true, .es = true });
}

SUBTEST(without_es)
{
	check_with("sev_es=0", (struct params) { .sev = true });
}

SUBTEST(without_es_but_snp)
{
	check_with("sev_es=0 sev_snp=1", (struct params) { .sev = true });
}

SUBTEST(without_sev)
{
	check_with("sev=0", (struct params) { });
}

SUBTEST(without_sev_but_es_and_snp)
{
	check_with("sev=0 sev_es=1 sev_snp=1", (struct params) { });
}

/* Encrypted guests need nested paging. */
SUBTEST(without_npt)
{
	check_with("npt=0", (struct params) { });
}

SUBTEST(as_before)
{
	check();
}

int main(int argc, char *argv[])
{
	uint32_t eax = 0, ebx, ecx, edx;

	__TEST_REQUIRE(!access(PARAMS_DIR "sev_snp", R_OK), "No parameters of " MODULE);
	cpuid(0x80000000, &eax, &ebx, &ecx, &edx);
	if (eax >= 0x8000001f)
		cpuid(0x8000001f, &eax, &ebx, &ecx, &edx);
	else
		eax = 0;
	__TEST_REQUIRE(eax & HW_SEV, "The processor does not have SEV");
	subtest_main(argc, argv);
}
