// SPDX-License-Identifier: GPL-2.0
/*
 * workload PHASE...: give the kernel's SEV-SNP code something to do.
 *
 *   guest      one guest: launch, pages made private as it runs, conversions, an end
 *   two        two guests at once, the second launched while the first one lives
 *   asids      more guests, one after the other, than there are ASIDs
 *   pressure   write to so much memory that freed pages are used again
 *   status     ask the firmware how it is
 *
 * The first thing that goes wrong is printed, with the firmware's error code, and is the
 * end of that phase. Numbers and layouts are the user ABI's; the headers of Debian 12
 * do not know them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/kvm.h>

#define VM_TYPE_SNP		4
#define CAP_EXIT_HYPERCALL	201
#define HC_MAP_GPA_RANGE	12
#define MEM_GUEST_MEMFD		(1U << 2)
#define ATTRIBUTE_PRIVATE	(1ULL << 3)

struct region {
	uint32_t slot, flags;
	uint64_t gpa, size, hva, memfd_offset;
	uint32_t memfd, pad1;
	uint64_t pad2[14];
};

struct attributes {
	uint64_t address, size, attributes, flags;
};

struct create_memfd {
	uint64_t size, flags, reserved[6];
};

#define SET_REGION		_IOW(KVMIO, 0x49, struct region)
#define SET_ATTRIBUTES		_IOW(KVMIO, 0xd2, struct attributes)
#define CREATE_MEMFD		_IOWR(KVMIO, 0xd4, struct create_memfd)

enum { INIT2 = 22, LAUNCH_START = 100, LAUNCH_UPDATE = 101, LAUNCH_FINISH = 102 };
enum { PAGE_NORMAL = 1, PAGE_ZERO = 3 };

struct sev_cmd {
	uint32_t id, pad;
	uint64_t data;
	uint32_t error, sev_fd;
};

struct sev_init2 {
	uint64_t vmsa_features;
	uint32_t flags;
	uint16_t ghcb_version, pad1;
	uint32_t pad2[8];
};

struct launch_start {
	uint64_t policy;
	uint8_t gosvw[16];
	uint16_t flags;
	uint8_t pad0[6];
	uint64_t pad1[4];
};

struct launch_update {
	uint64_t gfn, hva, len;
	uint8_t type, pad0;
	uint16_t flags;
	uint32_t pad1;
	uint64_t pad2[4];
};

struct launch_finish {
	uint64_t id_block, id_auth;
	uint8_t id_block_en, auth_key_en, vcek_disabled, host_data[32], pad0[3];
	uint16_t flags;
	uint64_t pad1[4];
};

/* /dev/sev */
struct platform_cmd {
	uint32_t cmd;
	uint64_t data;
	uint32_t error;
} __attribute__((packed));

struct snp_status {
	uint8_t api_major, api_minor, state, rmp_initialized;
	uint32_t build, flags, guests;
	uint64_t current_tcb, reported_tcb;
};

#define SEV_ISSUE_CMD		_IOWR('S', 0, struct platform_cmd)
#define SNP_PLATFORM_STATUS	9

/*
 * The guest: page tables, code and stack are launched. It maps its memory twice, as
 * private, and as shared a gigabyte further up.
 */
#define MEMORY		0x200000
#define PML4		0x1000
#define PDPT		0x2000
#define PD_PRIVATE	0x3000
#define PD_SHARED	0x4000
#define CODE		0x5000
#define STACK		0x6000
#define LAUNCHED	0x7000
#define PAGES		0x100000	/* made private when the guest touches them */
#define PAGES_END	0x180000
#define CONVERTED_END	0x108000	/* and these are also shared for a while */
#define SHARED_VIEW	0x40000000
#define C_BIT		(1ULL << 51)
#define STR1(x)		#x
#define STR(x)		STR1(x)

#define GHCB_TERM	0x100

#define PRESSURE	(256UL << 20)
#define TABLES		(64UL << 20)
#define BALLAST		(64UL << 20)

extern const char guest_code[], guest_code_end[];
asm(
"	.pushsection .rodata\n"
"guest_code:\n"
"	mov $" STR(PAGES) ", %ebx\n"
"1:	mov $1, %r8d\n"
"	mov $1, %edx\n"
"	call pvalidate\n"
"	mov $2, %r8d\n"
"	mov %rbx, (%rbx)\n"
"	mov %rbx, 0xff8(%rbx)\n"
"	add $0x1000, %ebx\n"
"	cmp $" STR(PAGES_END) ", %ebx\n"
"	jb 1b\n"

"	mov $3, %r8d\n"
"	mov $" STR(PAGES) ", %ebx\n"
"1:	cmp %rbx, (%rbx)\n"
"	jne fail\n"
"	cmp %rbx, 0xff8(%rbx)\n"
"	jne fail\n"
"	add $0x1000, %ebx\n"
"	cmp $" STR(PAGES_END) ", %ebx\n"
"	jb 1b\n"

"	mov $" STR(PAGES) ", %ebx\n"
"1:	mov $4, %r8d\n"
"	xor %edx, %edx\n"
"	call pvalidate\n"
"	mov $5, %r8d\n"
"	mov $0x200000, %edx\n"		/* shared */
"	call page_state\n"
"	mov %rbx, " STR(SHARED_VIEW) "(%rbx)\n"
"	mov $6, %r8d\n"
"	mov $0x100000, %edx\n"		/* private */
"	call page_state\n"
"	mov $7, %r8d\n"
"	mov $1, %edx\n"
"	call pvalidate\n"
"	mov %rbx, (%rbx)\n"
"	cmp %rbx, (%rbx)\n"
"	jne fail\n"
"	add $0x1000, %ebx\n"
"	cmp $" STR(CONVERTED_END) ", %ebx\n"
"	jb 1b\n"
"	xor %r8d, %r8d\n"

/* the end: reason code r8 of set 1 */
"fail:\n"
"	mov %r8d, %eax\n"
"	shl $16, %eax\n"
"	or $0x1100, %eax\n"
"	xor %edx, %edx\n"
"	mov $0xc0010130, %ecx\n"
"	wrmsr\n"
"	rep; vmmcall\n"			/* VMGEXIT */
"	jmp fail\n"

/* rbx: the page, edx: 1 validate, 0 rescind */
"pvalidate:\n"
"	mov %rbx, %rax\n"
"	xor %ecx, %ecx\n"
"	.byte 0xf2, 0x0f, 0x01, 0xff\n"
"	jc fail\n"
"	test %eax, %eax\n"
"	jnz fail\n"
"	ret\n"

/* ebx: the page, edx: the operation, in place for the MSR */
"page_state:\n"
"	mov %ebx, %eax\n"
"	or $0x014, %eax\n"
"	mov $0xc0010130, %ecx\n"
"	wrmsr\n"
"	rep; vmmcall\n"
"	rdmsr\n"
"	cmp $0x015, %eax\n"
"	jne fail\n"
"	test %edx, %edx\n"
"	jnz fail\n"
"	ret\n"
"guest_code_end:\n"
"	.popsection\n"
);

struct vm {
	int fd, vcpu, memfd;
	char *memory;
	struct kvm_run *run;
	size_t run_size;
};

static int kvm, sev;

__attribute__((format(printf, 1, 2)))
static int failed(const char *format, ...)
{
	va_list args;

	printf("workload: FAILED: ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	return -1;
}

static int error(const char *what)
{
	return failed("%s: %s", what, strerror(errno));
}

static int sev_ioctl(struct vm *vm, const char *name, uint32_t id, void *data)
{
	struct sev_cmd cmd = { .id = id, .data = (uintptr_t)data, .sev_fd = sev };

	if (!ioctl(vm->fd, KVM_MEMORY_ENCRYPT_OP, &cmd))
		return 0;
	return failed("%s: %s, firmware error 0x%x", name, strerror(errno), cmd.error);
}

static int set_private(struct vm *vm, uint64_t gpa, uint64_t size, int private)
{
	struct attributes attributes = {
		.address = gpa,
		.size = size,
		.attributes = private ? ATTRIBUTE_PRIVATE : 0,
	};

	if (ioctl(vm->fd, SET_ATTRIBUTES, &attributes))
		return error("KVM_SET_MEMORY_ATTRIBUTES");
	if (!private && fallocate(vm->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  gpa, size))
		return error("fallocate");
	return 0;
}

static void vm_free(struct vm *vm)
{
	if (vm->run)
		munmap(vm->run, vm->run_size);
	if (vm->memory)
		munmap(vm->memory, MEMORY);
	if (vm->vcpu >= 0)
		close(vm->vcpu);
	if (vm->memfd >= 0)
		close(vm->memfd);
	if (vm->fd >= 0)
		close(vm->fd);
}

static int vm_start(struct vm *vm)
{
	struct kvm_enable_cap cap = {
		.cap = CAP_EXIT_HYPERCALL, .args[0] = 1 << HC_MAP_GPA_RANGE,
	};
	struct sev_init2 init2 = { 0 };
	struct launch_start start = { .policy = 0x30000 };

	*vm = (struct vm){ .fd = -1, .vcpu = -1, .memfd = -1 };
	vm->fd = ioctl(kvm, KVM_CREATE_VM, VM_TYPE_SNP);
	if (vm->fd < 0)
		return error("KVM_CREATE_VM");
	if (ioctl(vm->fd, KVM_ENABLE_CAP, &cap))
		return error("KVM_CAP_EXIT_HYPERCALL");
	if (sev_ioctl(vm, "INIT2", INIT2, &init2))
		return -1;
	return sev_ioctl(vm, "LAUNCH_START", LAUNCH_START, &start);
}

/*
 * What is free after the boot is next to the kernel, in a part of the direct map that has
 * small pages anyway: take it away, as long as this process lives.
 */
static int ballast(void)
{
	struct create_memfd create = { .size = BALLAST };
	static int there;
	int vm, memfd;

	if (there++)
		return 0;
	vm = ioctl(kvm, KVM_CREATE_VM, VM_TYPE_SNP);
	if (vm < 0)
		return error("KVM_CREATE_VM");
	memfd = ioctl(vm, CREATE_MEMFD, &create);
	if (memfd < 0)
		return error("KVM_CREATE_GUEST_MEMFD");
	return fallocate(memfd, FALLOC_FL_KEEP_SIZE, 0, BALLAST) ? error("fallocate") : 0;
}

static int vm_memory(struct vm *vm)
{
	struct create_memfd create = { .size = MEMORY };
	struct region region = { .flags = MEM_GUEST_MEMFD, .size = MEMORY };
	uint64_t *table;

	if (ballast())
		return -1;
	vm->memfd = ioctl(vm->fd, CREATE_MEMFD, &create);
	if (vm->memfd < 0)
		return error("KVM_CREATE_GUEST_MEMFD");
	vm->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->memory == MAP_FAILED) {
		vm->memory = NULL;
		return error("mmap");
	}
	region.memfd = vm->memfd;
	region.hva = (uintptr_t)vm->memory;
	if (ioctl(vm->fd, SET_REGION, &region))
		return error("KVM_SET_USER_MEMORY_REGION2");
	if (set_private(vm, 0, MEMORY, 1))
		return -1;

	table = (uint64_t *)(vm->memory + PML4);
	table[0] = PDPT | C_BIT | 3;
	table = (uint64_t *)(vm->memory + PDPT);
	table[0] = PD_PRIVATE | C_BIT | 3;
	table[SHARED_VIEW >> 30] = PD_SHARED | C_BIT | 3;
	table = (uint64_t *)(vm->memory + PD_PRIVATE);
	table[0] = C_BIT | 0x83;
	table = (uint64_t *)(vm->memory + PD_SHARED);
	table[0] = 0x83;
	memcpy(vm->memory + CODE, guest_code, guest_code_end - guest_code);
	return 0;
}

static int vm_vcpu(struct vm *vm)
{
	struct kvm_segment code = {
		.selector = 8, .limit = ~0U, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1,
	};
	struct kvm_segment data = {
		.selector = 16, .limit = ~0U, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1,
	};
	struct kvm_regs regs = { .rip = CODE, .rsp = LAUNCHED, .rflags = 2 };
	struct kvm_sregs sregs;
	struct kvm_cpuid2 *cpuid;
	int ret;

	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	if (vm->vcpu < 0)
		return error("KVM_CREATE_VCPU");
	vm->run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (vm->run == MAP_FAILED) {
		vm->run = NULL;
		return error("mmap of the vCPU");
	}

	cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return error("calloc");
	cpuid->nent = 256;
	ret = ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (!ret)
		ret = ioctl(vm->vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
	if (ret)
		return error("CPUID");

	if (ioctl(vm->vcpu, KVM_GET_SREGS, &sregs))
		return error("KVM_GET_SREGS");
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 = 0x80000033;
	sregs.cr3 = PML4;
	sregs.cr4 = 0x20;
	sregs.efer = 0xd00;
	if (ioctl(vm->vcpu, KVM_SET_SREGS, &sregs))
		return error("KVM_SET_SREGS");
	if (ioctl(vm->vcpu, KVM_SET_REGS, &regs))
		return error("KVM_SET_REGS");
	return 0;
}

static int vm_launch(struct vm *vm)
{
	struct launch_finish finish = { 0 };
	uint64_t gpa;

	if (vm_start(vm) || vm_memory(vm) || vm_vcpu(vm))
		return -1;
	for (gpa = PML4; gpa < LAUNCHED; gpa += 0x1000) {
		struct launch_update update = {
			.gfn = gpa >> 12,
			.hva = (uintptr_t)vm->memory + gpa,
			.len = 0x1000,
			.type = gpa == STACK ? PAGE_ZERO : PAGE_NORMAL,
		};

		if (sev_ioctl(vm, "LAUNCH_UPDATE", LAUNCH_UPDATE, &update))
			return -1;
	}
	return sev_ioctl(vm, "LAUNCH_FINISH", LAUNCH_FINISH, &finish);
}

static int vm_convert(struct vm *vm)
{
	struct kvm_run *run = vm->run;
	uint64_t gpa = run->hypercall.args[0], size = run->hypercall.args[1] << 12;
	int private = !!(run->hypercall.args[2] & 0x10);

	if (run->hypercall.nr != HC_MAP_GPA_RANGE || gpa < PAGES || gpa + size > CONVERTED_END)
		return failed("hypercall %llu", (unsigned long long)run->hypercall.nr);
	/* What the guest wrote while it was shared */
	if (private && *(uint64_t *)(vm->memory + gpa) != gpa)
		return failed("nothing in the shared page 0x%llx", (unsigned long long)gpa);
	run->hypercall.ret = 0;
	return set_private(vm, gpa, size, private);
}

static int vm_run(struct vm *vm)
{
	struct kvm_run *run = vm->run;

	/* The time of the whole run: conversions do not take long, either */
	alarm(10);
	for (;;) {
		if (ioctl(vm->vcpu, KVM_RUN, 0)) {
			if (errno == EINTR)
				return failed("KVM_RUN: the guest makes no progress");
			return error("KVM_RUN");
		}
		switch (run->exit_reason) {
		case KVM_EXIT_HYPERCALL:
			if (vm_convert(vm))
				return -1;
			break;
		case KVM_EXIT_SYSTEM_EVENT:
			alarm(0);
			if (run->system_event.type != 6 ||
			    run->system_event.data[0] != (0x1000 | GHCB_TERM))
				return failed("KVM_RUN: event %u, 0x%llx", run->system_event.type,
					      (unsigned long long)run->system_event.data[0]);
			return 0;
		case KVM_EXIT_FAIL_ENTRY:
			alarm(0);
			return failed("KVM_RUN: VMRUN failed, exit code 0x%llx", (unsigned long long)
				      run->fail_entry.hardware_entry_failure_reason);
		default:
			alarm(0);
			return failed("KVM_RUN: exit reason %u", run->exit_reason);
		}
	}
}

static int phase_guest(void)
{
	struct vm vm;
	int ret = vm_launch(&vm) ?: vm_run(&vm);

	vm_free(&vm);
	return ret;
}

static int phase_two(void)
{
	struct vm one, two;
	int ret;

	ret = vm_launch(&one);
	if (!ret) {
		ret = vm_launch(&two) ?: vm_run(&two) ?: vm_run(&one);
		vm_free(&two);
	}
	vm_free(&one);
	return ret;
}

static int phase_asids(void)
{
	struct vm vm;
	int ret = 0, i;

	for (i = 0; !ret && i < 110; i++) {
		ret = vm_start(&vm);
		vm_free(&vm);
	}
	if (ret)
		printf("workload: it was guest %d\n", i);
	return ret;
}

static int phase_pressure(void)
{
	volatile char *tables;
	char *memory;
	size_t i;

	/* The kernel keeps its own pages and those of programs apart: first page tables... */
	tables = mmap(NULL, TABLES << 9, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (tables == MAP_FAILED)
		return error("mmap");
	madvise((void *)tables, TABLES << 9, MADV_NOHUGEPAGE);
	for (i = 0; i < TABLES << 9; i += 4096UL << 9)
		(void)tables[i];
	/* ... and then memory */
	memory = mmap(NULL, PRESSURE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return error("mmap");
	for (i = 0; i < PRESSURE; i += 4096)
		memory[i] = 1;
	munmap(memory, PRESSURE);
	munmap((void *)tables, TABLES << 9);
	return 0;
}

static int phase_status(void)
{
	struct snp_status status = { 0 };
	struct platform_cmd cmd = {
		.cmd = SNP_PLATFORM_STATUS, .data = (uintptr_t)&status,
	};

	if (ioctl(sev, SEV_ISSUE_CMD, &cmd))
		return failed("SNP_PLATFORM_STATUS: %s, firmware error 0x%x",
			      strerror(errno), cmd.error);
	printf("workload: firmware %u.%u, state %u, %u guests\n", status.api_major,
	       status.api_minor, status.state, status.guests);
	if (status.state != 1 || status.guests)
		return failed("the firmware does not think that all guests are gone");
	return 0;
}

static void wake(int signal)
{
	(void)signal;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} phases[] = {
		{ "guest", phase_guest },
		{ "two", phase_two },
		{ "asids", phase_asids },
		{ "pressure", phase_pressure },
		{ "status", phase_status },
	};
	/* Without SA_RESTART */
	struct sigaction action = { .sa_handler = wake };
	int failures = 0;
	unsigned int i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGALRM, &action, NULL);
	kvm = open("/dev/kvm", O_RDWR);
	sev = open("/dev/sev", O_RDWR);
	if (kvm < 0 || sev < 0)
		return -error("/dev/kvm, /dev/sev");

	for (; argc > 1; argc--, argv++) {
		for (i = 0; i < sizeof(phases) / sizeof(phases[0]); i++) {
			if (!strcmp(argv[1], phases[i].name))
				break;
		}
		if (i == sizeof(phases) / sizeof(phases[0]))
			return -failed("no phase %s", argv[1]);
		printf("workload: %s\n", argv[1]);
		if (phases[i].run())
			failures++;
		else
			printf("workload: %s: done\n", argv[1]);
	}
	return failures ? 1 : 0;
}
