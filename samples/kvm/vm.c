// SPDX-License-Identifier: GPL-2.0
/*
 * The VM and its memory.
 *
 * Guest RAM is two slots.  The low one is ordinary memory, shared with the
 * host.  The high one has two backings, and for each page an attribute says
 * which of them the guest gets: private pages are in a guest_memfd, where only
 * the guest can reach them, shared ones are at the slot's userspace_addr.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <linux/kvm_para.h>

#include "vmm.h"

static const struct {
	int cap;
	int needed;	/* a value, or bits, that the answer has to contain */
	const char *name;
} caps[] = {
	{ KVM_CAP_VM_TYPES, 1 << KVM_X86_SW_PROTECTED_VM,
	  "KVM_CAP_VM_TYPES with KVM_X86_SW_PROTECTED_VM" },
	{ KVM_CAP_USER_MEMORY2, 1, "KVM_CAP_USER_MEMORY2" },
	{ KVM_CAP_MEMORY_ATTRIBUTES, KVM_MEMORY_ATTRIBUTE_PRIVATE,
	  "KVM_CAP_MEMORY_ATTRIBUTES with KVM_MEMORY_ATTRIBUTE_PRIVATE" },
	{ KVM_CAP_GUEST_MEMFD, 1, "KVM_CAP_GUEST_MEMFD" },
	{ KVM_CAP_MEMORY_FAULT_INFO, 1, "KVM_CAP_MEMORY_FAULT_INFO" },
	{ }
};

static void check_caps(int kvm_fd)
{
	char missing[512] = "";
	int i;

	for (i = 0; caps[i].name; i++) {
		int got = ioctl(kvm_fd, KVM_CHECK_EXTENSION, caps[i].cap);

		if (got >= 0 && (got & caps[i].needed) == caps[i].needed)
			continue;
		if (missing[0])
			strcat(missing, ", ");
		strcat(missing, caps[i].name);
	}
	if (missing[0])
		errx(STATUS_USAGE, "this kernel's KVM has no private memory; missing: %s",
		     missing);
}

static void vm_ioctl(struct vm *vm, unsigned long cmd, const void *arg,
		     const char *name)
{
	if (ioctl(vm->vm_fd, cmd, arg) < 0)
		err(STATUS_FAILED, "%s", name);
}

static void add_slots(struct vm *vm)
{
	struct kvm_userspace_memory_region low = {
		.slot = 0,
		.memory_size = vm->shared_size,
		.userspace_addr = (unsigned long)vm->ram,
	};
	struct kvm_userspace_memory_region2 high = {
		.slot = 1,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = vm->shared_size,
		.memory_size = vm->ram_size - vm->shared_size,
		.userspace_addr = (unsigned long)vm->ram + vm->shared_size,
		.guest_memfd_offset = 0,
	};
	struct kvm_create_guest_memfd gmem = { .size = high.memory_size };

	if (vm->ordinary) {
		low.memory_size = vm->ram_size;
		vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &low,
			 "KVM_SET_USER_MEMORY_REGION");
		return;
	}

	vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &low,
		 "KVM_SET_USER_MEMORY_REGION");

	vm->guest_memfd = ioctl(vm->vm_fd, KVM_CREATE_GUEST_MEMFD, &gmem);
	if (vm->guest_memfd < 0)
		err(STATUS_FAILED, "KVM_CREATE_GUEST_MEMFD");
	/* The kernel leaves close-on-exec to us. */
	fcntl(vm->guest_memfd, F_SETFD, FD_CLOEXEC);

	high.guest_memfd = vm->guest_memfd;
	vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &high,
		 "KVM_SET_USER_MEMORY_REGION2");

	/* A VM starts with every page shared, a guest_memfd or not. */
	if (vm_convert(vm, high.guest_phys_addr, high.memory_size, true))
		err(STATUS_FAILED, "KVM_SET_MEMORY_ATTRIBUTES");
}

static void add_cpu(struct vm *vm, int kvm_fd)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = { .head.nent = 256 };
	int run_size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	__u32 i;

	vm->vcpu_fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, 0);
	if (vm->vcpu_fd < 0)
		err(STATUS_FAILED, "KVM_CREATE_VCPU");
	vm->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		       vm->vcpu_fd, 0);
	if (vm->run == MAP_FAILED)
		err(STATUS_FAILED, "mmap of the vCPU");

	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, &cpuid))
		err(STATUS_FAILED, "KVM_GET_SUPPORTED_CPUID");
	for (i = 0; i < cpuid.head.nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid.entries[i];

		/*
		 * A paravirtual clock, steal time, asynchronous page faults and
		 * PV EOI have KVM write to pages that the guest picks, which it
		 * cannot do when the guest picks a private one.  Offer only the
		 * hypercall that converts memory.
		 */
		if (e->function == KVM_CPUID_FEATURES)
			e->eax = 1u << KVM_FEATURE_HC_MAP_GPA_RANGE;
	}
	if (ioctl(vm->vcpu_fd, KVM_SET_CPUID2, &cpuid))
		err(STATUS_FAILED, "KVM_SET_CPUID2");
}

void vm_alloc_ram(struct vm *vm)
{
	vm->ram = mmap(NULL, vm->ram_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	vm->private = calloc(vm->ram_size >> PAGE_SHIFT, sizeof(bool));
	if (vm->ram == MAP_FAILED || !vm->private)
		errx(STATUS_USAGE, "no memory for a guest of %llu MiB",
		     (vm->ram_size / MIB));
	/* A child of ours has no use for it, and copy-on-write would hurt. */
	madvise(vm->ram, vm->ram_size, MADV_DONTFORK);
	vm->guest_memfd = -1;
}

void vm_create(struct vm *vm)
{
	struct kvm_enable_cap hypercall_exit = {
		.cap = KVM_CAP_EXIT_HYPERCALL,
		.args[0] = 1 << KVM_HC_MAP_GPA_RANGE,
	};
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm_fd < 0)
		err(STATUS_USAGE, "/dev/kvm");
	if (ioctl(kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		errx(STATUS_USAGE, "/dev/kvm does not speak version %d of the API",
		     KVM_API_VERSION);
	if (!vm->ordinary)
		check_caps(kvm_fd);

	vm->vm_fd = ioctl(kvm_fd, KVM_CREATE_VM,
			  vm->ordinary ? KVM_X86_DEFAULT_VM :
					 KVM_X86_SW_PROTECTED_VM);
	if (vm->vm_fd < 0)
		err(STATUS_FAILED, "KVM_CREATE_VM");

	vm_ioctl(vm, KVM_ENABLE_CAP, &hypercall_exit, "KVM_CAP_EXIT_HYPERCALL");
	/* Intel wants three pages for itself: below the BIOS, in no slot. */
	if (ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, 0xfffbd000))
		err(STATUS_FAILED, "KVM_SET_TSS_ADDR");
	vm_ioctl(vm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
	vm_ioctl(vm, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2");
	add_slots(vm);
	add_cpu(vm, kvm_fd);
	close(kvm_fd);
}

/* Only tells KVM.  Neither backing changes, and neither does our record. */
int vm_set_attributes(struct vm *vm, __u64 gpa, __u64 size, bool private)
{
	struct kvm_memory_attributes attrs = {
		.address = gpa,
		.size = size,
		.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
	};

	return ioctl(vm->vm_fd, KVM_SET_MEMORY_ATTRIBUTES, &attrs);
}

/*
 * A conversion that the guest wants.  What the page held is discarded both
 * ways: it would cost memory twice, and stale contents that come back are a
 * trap.  A guest that wants to keep something copies it.  The order matters:
 * first no vCPU can get at the old backing, then it is freed.
 */
int vm_convert(struct vm *vm, __u64 gpa, __u64 size, bool private)
{
	__u64 gfn;

	if (gpa < vm->shared_size || gpa >= vm->ram_size ||
	    size > vm->ram_size - gpa) {
		errno = EINVAL;
		return -1;
	}
	if (vm->ordinary)
		return 0;

	if (vm_set_attributes(vm, gpa, size, private))
		return -1;
	for (gfn = gpa >> PAGE_SHIFT; gfn < (gpa + size) >> PAGE_SHIFT; gfn++) {
		vm->private_pages += private - vm->private[gfn];
		vm->private[gfn] = private;
	}
	if (private)
		return madvise(vm->ram + gpa, size, MADV_DONTNEED);
	return vm_punch(vm, gpa, size);
}

int vm_punch(struct vm *vm, __u64 gpa, __u64 size)
{
	return fallocate(vm->guest_memfd,
			 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 gpa - vm->shared_size, size);
}

/* How much of its private memory the guest has touched. */
__u64 vm_populated_pages(struct vm *vm)
{
	struct stat st;

	if (fstat(vm->guest_memfd, &st))
		return 0;
	return st.st_blocks * 512 / PAGE_SIZE;
}

void vm_irq_line(struct vm *vm, unsigned int irq, unsigned int level)
{
	struct kvm_irq_level line = { .irq = irq, .level = level };

	vm_ioctl(vm, KVM_IRQ_LINE, &line, "KVM_IRQ_LINE");
}
