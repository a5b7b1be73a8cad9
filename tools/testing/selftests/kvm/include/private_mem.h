/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Private guest memory: guest_memfd files, memory attributes, memory regions
 * that have both kinds of memory, and a guest that touches them on command.
 */
#ifndef SELFTEST_KVM_PRIVATE_MEM_H
#define SELFTEST_KVM_PRIVATE_MEM_H

#include "kvm_util.h"

/*
 * Files
 */
int __vm_create_guest_memfd(struct kvm_vm *vm, uint64_t size, uint64_t flags);
int vm_create_guest_memfd(struct kvm_vm *vm, uint64_t size);

/* Both return 0 or -1 with errno, as fallocate() does. */
int guest_memfd_alloc(int fd, uint64_t offset, uint64_t size);
int guest_memfd_punch(int fd, uint64_t offset, uint64_t size);

/* The number of pages that the file holds, by st_blocks. */
uint64_t guest_memfd_nr_pages(int fd);

/* A file of the kernel's takes the value. */
bool write_file(const char *path, const char *value);

/* Punch whatever backs [gpa, gpa + size) of the VM's regions. */
void vm_mem_punch(struct kvm_vm *vm, uint64_t gpa, uint64_t size);

/*
 * Attributes
 */
int __vm_set_memory_attributes(struct kvm_vm *vm, uint64_t gpa, uint64_t size,
			       uint64_t attributes);
void vm_set_memory_attributes(struct kvm_vm *vm, uint64_t gpa, uint64_t size,
			      uint64_t attributes);

static inline void vm_mem_set_private(struct kvm_vm *vm, uint64_t gpa,
				      uint64_t size)
{
	vm_set_memory_attributes(vm, gpa, size, KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

static inline void vm_mem_set_shared(struct kvm_vm *vm, uint64_t gpa,
				     uint64_t size)
{
	vm_set_memory_attributes(vm, gpa, size, 0);
}

/*
 * Memory regions
 */
int __vm_set_user_memory_region2(struct kvm_vm *vm, uint32_t slot,
				 uint32_t flags, uint64_t gpa, uint64_t size,
				 void *hva, int guest_memfd,
				 uint64_t guest_memfd_offset);
void vm_set_user_memory_region2(struct kvm_vm *vm, uint32_t slot,
				uint32_t flags, uint64_t gpa, uint64_t size,
				void *hva, int guest_memfd,
				uint64_t guest_memfd_offset);

/* For lib/kvm_util.c: the ioctl that @region->region.flags ask for. */
int vm_mem_region_ioctl(struct kvm_vm *vm, struct userspace_mem_region *region);
void vm_mem_region_set_guest_memfd(struct kvm_vm *vm,
				   struct userspace_mem_region *region,
				   int guest_memfd, uint64_t offset);

/*
 * A region of anonymous memory that also has a guest_memfd: @guest_memfd from
 * @offset on, or a new file of the region's size if @guest_memfd is -1.
 */
static inline void vm_mem_region_add_private(struct kvm_vm *vm, uint64_t gpa,
					     uint32_t slot, uint64_t npages,
					     int guest_memfd, uint64_t offset)
{
	__vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, gpa, slot,
				      npages, KVM_MEM_GUEST_MEMFD, guest_memfd,
				      offset);
}

/*
 * The pattern that is written to memory, one word in each cache line: each
 * depends on its address, so that a page which turns up in another's place is
 * noticed.
 */
#define MEM_PATTERN_STEP	64

static inline uint64_t mem_pattern(uint64_t seed, uint64_t gpa)
{
	return (gpa ^ seed) * 0x9e3779b97f4a7c15ULL + seed;
}

/* Fill, or check, the host's view of [gpa, gpa + size) of the VM. */
void vm_mem_fill(struct kvm_vm *vm, uint64_t gpa, uint64_t size, uint64_t seed);
void vm_mem_check(struct kvm_vm *vm, uint64_t gpa, uint64_t size, uint64_t seed);

#ifdef __x86_64__
/*
 * Virtual machines of the type KVM_X86_SW_PROTECTED_VM
 */

/* Skip the whole program unless there is private memory here. */
void require_private_mem(void);

struct kvm_vm *vm_create_private_barebones(void);
struct kvm_vm *vm_create_private(uint32_t nr_vcpus, uint64_t nr_extra_pages,
				 void *guest_code, struct kvm_vcpu *vcpus[]);

/* Guest physical address where tests put their memory, clear of slot 0. */
#define PRIVATE_MEM_GPA		(4ULL << 30)
#define PRIVATE_MEM_SLOT	10

/*
 * The agent is a guest program that does one command after the other, on the
 * memory that the host names.  Guest virtual addresses of the tests' memory
 * are its physical addresses.
 */
enum agent_op {
	AGENT_NOP,
	AGENT_READ,		/* result = *addr */
	AGENT_WRITE,		/* *addr = value */
	AGENT_ADD,		/* atomically *addr += value, size times */
	AGENT_FILL,		/* pattern with the seed value */
	AGENT_CHECK,		/* pattern; result is the number of bad words */
	AGENT_CHECK_CONST,	/* all words equal value; result as above */
	AGENT_EXEC,		/* call addr with the argument value */
	AGENT_READ_EACH,	/* one word of each page; results in words[] */
	AGENT_MAP_GPA_RANGE,	/* the hypercall; result is what it returned */
	AGENT_OUTS,		/* rep outsb, size bytes from addr to port value */
};

#define AGENT_MAX_WORDS		256

struct agent_cmd {
	uint64_t op;
	uint64_t addr;
	uint64_t size;
	uint64_t value;
	uint64_t result;
	uint64_t bad_addr;
	uint64_t use_vmmcall;
	uint64_t words[AGENT_MAX_WORDS];
};

struct agent {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct agent_cmd *cmd;	/* the host's address of the shared page */
};

/* A VM with @nr_vcpus agents, ready for commands.  @agents is filled in. */
struct kvm_vm *vm_create_agents(uint32_t nr_vcpus, uint64_t nr_extra_pages,
				struct agent *agents);
struct kvm_vm *__vm_create_agents(unsigned long type, uint32_t nr_vcpus,
				  uint64_t nr_extra_pages,
				  struct agent *agents);

/*
 * Start a command, or go on with one after an exit.  0: it is done; negative:
 * the errno of KVM_RUN; positive: an exit reason that is for the test.
 */
int agent_start(struct agent *agent, enum agent_op op, uint64_t addr,
		uint64_t size, uint64_t value);
int agent_resume(struct agent *agent);

/* A command that has to be done without an exit; the result is returned. */
uint64_t agent_do(struct agent *agent, enum agent_op op, uint64_t addr,
		  uint64_t size, uint64_t value);

static inline uint64_t agent_read(struct agent *agent, uint64_t addr)
{
	return agent_do(agent, AGENT_READ, addr, 0, 0);
}

static inline void agent_write(struct agent *agent, uint64_t addr,
			       uint64_t value)
{
	agent_do(agent, AGENT_WRITE, addr, 0, value);
}

static inline void agent_fill(struct agent *agent, uint64_t addr, uint64_t size,
			      uint64_t seed)
{
	agent_do(agent, AGENT_FILL, addr, size, seed);
}

/* How many faults KVM has resolved for the vCPU. */
uint64_t agent_nr_faults(struct agent *agent);

/* The guest's view of the memory, which must be the pattern or a constant. */
void agent_check(struct agent *agent, uint64_t addr, uint64_t size,
		 uint64_t seed);
void agent_check_const(struct agent *agent, uint64_t addr, uint64_t size,
		       uint64_t value);

/* What KVM_RUN gave, @rc as from agent_start(), is a memory fault at @gpa. */
void agent_assert_memory_fault(struct agent *agent, int rc, uint64_t gpa,
			       uint64_t flags);

/* Ask for a conversion by hypercall, grant it as a VMM would, and return. */
void agent_convert(struct agent *agent, uint64_t gpa, uint64_t size,
		   bool to_private);
#endif /* __x86_64__ */

#endif /* SELFTEST_KVM_PRIVATE_MEM_H */
