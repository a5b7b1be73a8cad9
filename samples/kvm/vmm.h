/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The parts of the sample VMM:
 *
 *	vmm.c		options, and the loop around KVM_RUN
 *	vm.c		the VM, its memory, what of it is private
 *	boot.c		loads Linux and points the vCPU at it
 *	devices.c	a serial port and the rest of a very small PC
 *	claims.c	the demonstration: tries what must not work
 */
#ifndef _GUEST_MEMFD_VMM_H
#define _GUEST_MEMFD_VMM_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/kvm.h>

#define PAGE_SIZE	4096ull
#define PAGE_SHIFT	12
#define MIB		(1024 * 1024ull)

/* Exit statuses: every claim held, or did not, or there was nothing to run. */
enum { STATUS_HELD, STATUS_FAILED, STATUS_USAGE };

struct vm {
	int vm_fd;
	int vcpu_fd;
	struct kvm_run *run;
	bool ordinary;		/* control experiment: no private memory */

	__u64 ram_size;
	__u64 shared_size;	/* RAM below is shared, from here on private */

	/*
	 * All of the guest's RAM as the host has it mapped.  Where a page is
	 * shared this is the guest's memory.  Where it is private this is other
	 * memory: the guest's is in guest_memfd, which cannot be mapped.
	 */
	__u8 *ram;
	int guest_memfd;	/* backs RAM from shared_size on */

	/*
	 * By gfn: what guest and VMM have agreed on.  KVM has no ioctl that
	 * gets attributes, whoever sets them keeps the record.
	 */
	bool *private;
	__u64 private_pages;
};

/* vm.c */
void vm_alloc_ram(struct vm *vm);
void vm_create(struct vm *vm);
int vm_set_attributes(struct vm *vm, __u64 gpa, __u64 size, bool private);
int vm_convert(struct vm *vm, __u64 gpa, __u64 size, bool private);
int vm_punch(struct vm *vm, __u64 gpa, __u64 size);
__u64 vm_populated_pages(struct vm *vm);
void vm_irq_line(struct vm *vm, unsigned int irq, unsigned int level);

/* boot.c */
__u64 boot_load(struct vm *vm, const char *kernel, const char *initrd);
void boot_start(struct vm *vm, __u64 entry, const char *extra_cmdline);

/* devices.c */
bool device_io(struct vm *vm, __u16 port, bool write, __u32 *value);

/* claims.c */
void demo_start(struct vm *vm);
void demo_io(struct vm *vm, __u16 port, bool write, __u32 *value);
void demo_conversion(__u64 gpa, __u64 pages, bool private, int error);
bool demo_fault(struct vm *vm, __u64 gpa, __u64 size, bool private);
void demo_end(void);
void demo_summary(void);
bool demo_held(void);

#endif /* _GUEST_MEMFD_VMM_H */
