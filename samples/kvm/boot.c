// SPDX-License-Identifier: GPL-2.0
/*
 * Loads a bzImage by the 64-bit boot protocol, see
 * Documentation/x86/boot.rst.  No firmware, and no real mode: the vCPU starts
 * in long mode at the kernel's 64-bit entry.  Everything here is written
 * through the host's mapping, so it lies in shared memory.
 *
 *	0x01000		GDT
 *	0x07000		boot_params ("zero page")
 *	0x09000		page tables, the first 4 GiB mapped as they are
 *	0x20000		command line
 *	16 MiB or so	the kernel, where it prefers to be
 *	shared_size	initramfs ends here
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <asm/bootparam.h>

#include "vmm.h"

#define GDT_ADDR	0x1000ul
#define PARAMS_ADDR	0x7000ul
#define PML4_ADDR	0x9000ul
#define PDPT_ADDR	0xa000ul
#define PD_ADDR		0xb000ul
#define CMDLINE_ADDR	0x20000ul
#define LOW_END		0x9fc00ul

#define BOOT_CS		0x10
#define BOOT_DS		0x18

#define PTE_TABLE	0x003ull	/* present, writable */
#define PTE_2M		0x083ull	/* and a large page */

#define ARGS		"console=ttyS0 8250.nr_uarts=1 rdinit=/init nokaslr"

/*
 * A local APIC, an IO-APIC and what ACPI describes are MMIO, for which KVM has
 * to emulate instructions of the guest, from memory that may be private.  The
 * guest makes do with the PIC and the PIT.
 */
#define ARGS_NO_MMIO	"noapic nolapic acpi=off pci=off no_timer_check"

/* KVM would have to write to the guest's memory, see also add_cpu(). */
#define ARGS_NO_PV	"no-kvmclock"

/* By the keyboard controller: what we take as the end, panics included. */
#define ARGS_REBOOT	"reboot=k panic=-1"

static void *map_file(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *map;

	if (fd < 0 || fstat(fd, &st))
		err(STATUS_USAGE, "%s", path);
	if (!S_ISREG(st.st_mode) || !st.st_size)
		errx(STATUS_USAGE, "%s: not a file with something in it", path);
	map = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		err(STATUS_USAGE, "%s", path);
	close(fd);
	*size = st.st_size;
	return map;
}

static void add_e820(struct boot_params *params, __u64 from, __u64 to)
{
	params->e820_table[params->e820_entries++] = (struct boot_e820_entry) {
		.addr = from,
		.size = to - from,
		.type = 1,	/* RAM */
	};
}

/* Fills the guest's low memory, returns where the kernel is entered. */
__u64 boot_load(struct vm *vm, const char *kernel, const char *initrd)
{
	struct boot_params *params = (void *)(vm->ram + PARAMS_ADDR);
	size_t kernel_size, initrd_size, setup_size, header_size;
	__u64 load_addr, initrd_addr;
	const struct setup_header *hdr;
	const __u8 *image;
	const void *ramdisk;

	image = map_file(kernel, &kernel_size);
	ramdisk = map_file(initrd, &initrd_size);

	hdr = (const void *)(image + offsetof(struct boot_params, hdr));
	if (kernel_size < sizeof(*params) || hdr->boot_flag != 0xaa55 ||
	    memcmp(&hdr->header, "HdrS", 4))
		errx(STATUS_USAGE, "%s: not a bzImage", kernel);
	if (hdr->version < 0x20c || !(hdr->xloadflags & XLF_KERNEL_64))
		errx(STATUS_USAGE, "%s: not a 64-bit bzImage of Linux 3.8 or later",
		     kernel);
	setup_size = ((hdr->setup_sects ?: 4) + 1) * 512;
	if (setup_size + hdr->syssize * 16ull > kernel_size)
		errx(STATUS_USAGE, "%s: a bzImage that is cut short", kernel);

	/* The kernel needs init_size from where it runs, to unpack itself. */
	load_addr = hdr->pref_address;
	if (initrd_size > vm->shared_size)
		initrd_size = vm->shared_size;
	initrd_addr = (vm->shared_size - initrd_size) & ~(PAGE_SIZE - 1);
	if (load_addr < MIB || load_addr > initrd_addr ||
	    hdr->init_size > initrd_addr - load_addr ||
	    kernel_size - setup_size > initrd_addr - load_addr)
		errx(STATUS_USAGE, "%s and %s do not fit in %llu MiB of shared memory",
		     kernel, initrd, vm->shared_size / MIB);

	memcpy(vm->ram + load_addr, image + setup_size, kernel_size - setup_size);
	memcpy(vm->ram + initrd_addr, ramdisk, initrd_size);

	/* The header says itself how long it is: its jump goes to its end. */
	header_size = 0x202 + image[0x201] - offsetof(struct boot_params, hdr);
	if (header_size > sizeof(*hdr))
		header_size = sizeof(*hdr);
	memcpy(&params->hdr, hdr, header_size);
	params->hdr.type_of_loader = 0xff;
	params->hdr.ramdisk_image = initrd_addr;
	params->hdr.ramdisk_size = initrd_size;
	add_e820(params, 0, LOW_END);
	add_e820(params, MIB, vm->ram_size);

	return load_addr + 0x200;
}

static void write_cmdline(struct vm *vm, const char *extra)
{
	struct boot_params *params = (void *)(vm->ram + PARAMS_ADDR);
	int room = params->hdr.cmdline_size;
	int len;

	/* It could only measure the TSC, which goes wrong on a busy host. */
	len = snprintf((char *)vm->ram + CMDLINE_ADDR, room,
		       "%s %s %s %s tsc=reliable tsc_early_khz=%d %s", ARGS, ARGS_NO_MMIO,
		       ARGS_NO_PV, ARGS_REBOOT,
		       ioctl(vm->vcpu_fd, KVM_GET_TSC_KHZ, 0), extra);
	if (len >= room)
		errx(STATUS_USAGE, "the command line is longer than the kernel takes");
	params->hdr.cmd_line_ptr = CMDLINE_ADDR;
}

/* What the 64-bit boot protocol wants at the kernel's entry. */
void boot_start(struct vm *vm, __u64 entry, const char *extra_cmdline)
{
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = BOOT_CS, .type = 0xb,
		.present = 1, .s = 1, .l = 1, .g = 1,
	};
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = BOOT_DS, .type = 0x3,
		.present = 1, .s = 1, .db = 1, .g = 1,
	};
	__u64 gdt[] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
	struct kvm_regs regs = {
		.rip = entry,
		.rsi = PARAMS_ADDR,
		.rflags = 0x2,	/* interrupts off */
	};
	__u64 *pd = (__u64 *)(vm->ram + PD_ADDR);
	struct kvm_sregs sregs;
	__u64 i;

	*(__u64 *)(vm->ram + PML4_ADDR) = PDPT_ADDR | PTE_TABLE;
	for (i = 0; i < 4; i++)
		((__u64 *)(vm->ram + PDPT_ADDR))[i] =
			(PD_ADDR + i * PAGE_SIZE) | PTE_TABLE;
	for (i = 0; i < 4 * 512; i++)
		pd[i] = i * 2 * MIB | PTE_2M;
	memcpy(vm->ram + GDT_ADDR, gdt, sizeof(gdt));
	write_cmdline(vm, extra_cmdline);

	if (ioctl(vm->vcpu_fd, KVM_GET_SREGS, &sregs))
		err(STATUS_FAILED, "KVM_GET_SREGS");
	sregs.cs = code;
	sregs.ds = data;
	sregs.es = data;
	sregs.fs = data;
	sregs.gs = data;
	sregs.ss = data;
	sregs.gdt.base = GDT_ADDR;
	sregs.gdt.limit = sizeof(gdt) - 1;
	sregs.cr0 = 0x80000011;		/* PG, ET, PE */
	sregs.cr3 = PML4_ADDR;
	sregs.cr4 = 0x20;		/* PAE */
	sregs.efer = 0x500;		/* LMA, LME */
	if (ioctl(vm->vcpu_fd, KVM_SET_SREGS, &sregs))
		err(STATUS_FAILED, "KVM_SET_SREGS");
	if (ioctl(vm->vcpu_fd, KVM_SET_REGS, &regs))
		err(STATUS_FAILED, "KVM_SET_REGS");
}
