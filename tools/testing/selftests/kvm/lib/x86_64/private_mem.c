// SPDX-License-Identifier: GPL-2.0-only
/*
 * Software-protected virtual machines, and a guest that acts on command.
 */
#define _GNU_SOURCE
#include <linux/kvm_para.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "processor.h"

void require_private_mem(void)
{
	unsigned int types = kvm_check_cap(KVM_CAP_VM_TYPES);

	__TEST_REQUIRE(types & (1u << KVM_X86_SW_PROTECTED_VM),
		       "KVM_X86_SW_PROTECTED_VM not supported");
}

struct kvm_vm *vm_create_private_barebones(void)
{
	return ____vm_create_type(VM_MODE_DEFAULT, KVM_X86_SW_PROTECTED_VM, 0);
}

static struct kvm_vm *vm_create_vcpus(unsigned long type, uint32_t nr_vcpus,
				      uint64_t nr_extra_pages, void *guest_code,
				      struct kvm_vcpu *vcpus[])
{
	struct kvm_vm *vm;
	int i;

	vm = __vm_create_type(VM_MODE_DEFAULT, type, nr_vcpus, nr_extra_pages);
	for (i = 0; i < nr_vcpus; i++)
		vcpus[i] = vm_vcpu_add(vm, i, guest_code);
	return vm;
}

struct kvm_vm *vm_create_private(uint32_t nr_vcpus, uint64_t nr_extra_pages,
				 void *guest_code, struct kvm_vcpu *vcpus[])
{
	return vm_create_vcpus(KVM_X86_SW_PROTECTED_VM, nr_vcpus,
			       nr_extra_pages, guest_code, vcpus);
}

/*
 * Not kvm_hypercall(): that relies on KVM patching the other vendor's
 * instruction, which is not what is tested here.
 */
static uint64_t guest_hypercall(struct agent_cmd *cmd, uint64_t nr, uint64_t a0,
				uint64_t a1, uint64_t a2)
{
	uint64_t ret;

	if (cmd->use_vmmcall)
		asm volatile("vmmcall" : "=a"(ret)
			     : "a"(nr), "b"(a0), "c"(a1), "d"(a2) : "memory");
	else
		asm volatile("vmcall" : "=a"(ret)
			     : "a"(nr), "b"(a0), "c"(a1), "d"(a2) : "memory");
	return ret;
}

static void guest_bad_word(struct agent_cmd *cmd, uint64_t addr)
{
	if (!cmd->result++)
		cmd->bad_addr = addr;
}

static void guest_do(struct agent_cmd *cmd)
{
	uint64_t start = cmd->addr, end = cmd->addr + cmd->size, addr, i;

	cmd->result = 0;

	switch (cmd->op) {
	case AGENT_READ:
		cmd->result = READ_ONCE(*(uint64_t *)start);
		break;
	case AGENT_WRITE:
		WRITE_ONCE(*(uint64_t *)start, cmd->value);
		break;
	case AGENT_ADD:
		for (i = 0; i < cmd->size; i++)
			__atomic_fetch_add((uint64_t *)start, cmd->value,
					   __ATOMIC_SEQ_CST);
		break;
	case AGENT_FILL:
		for (addr = start; addr < end; addr += MEM_PATTERN_STEP)
			WRITE_ONCE(*(uint64_t *)addr, mem_pattern(cmd->value, addr));
		break;
	case AGENT_CHECK:
		for (addr = start; addr < end; addr += MEM_PATTERN_STEP)
			if (READ_ONCE(*(uint64_t *)addr) != mem_pattern(cmd->value, addr))
				guest_bad_word(cmd, addr);
		break;
	case AGENT_CHECK_CONST:
		for (addr = start; addr < end; addr += 8)
			if (READ_ONCE(*(uint64_t *)addr) != cmd->value)
				guest_bad_word(cmd, addr);
		break;
	case AGENT_EXEC:
		((void (*)(uint64_t))start)(cmd->value);
		break;
	case AGENT_READ_EACH:
		for (i = 0; i < AGENT_MAX_WORDS && i < cmd->size / PAGE_SIZE; i++)
			cmd->words[i] = READ_ONCE(*(uint64_t *)(start + i * PAGE_SIZE));
		break;
	case AGENT_MAP_GPA_RANGE:
		cmd->result = guest_hypercall(cmd, KVM_HC_MAP_GPA_RANGE, start,
					      cmd->size / PAGE_SIZE, cmd->value);
		break;
	case AGENT_OUTS:
		asm volatile("rep outsb"
			     : "+S"(start), "+c"(cmd->size)
			     : "d"(cmd->value) : "memory");
		break;
	default:
		break;
	}
}

static void guest_agent(struct agent_cmd *cmd)
{
	for (;;) {
		GUEST_SYNC(0);
		guest_do(cmd);
	}
}

struct kvm_vm *__vm_create_agents(unsigned long type, uint32_t nr_vcpus,
				  uint64_t nr_extra_pages,
				  struct agent *agents)
{
	struct kvm_vcpu *vcpus[KVM_MAX_VCPUS];
	struct kvm_vm *vm;
	int i;

	vm = vm_create_vcpus(type, nr_vcpus, nr_extra_pages, guest_agent, vcpus);

	for (i = 0; i < nr_vcpus; i++) {
		struct agent *agent = &agents[i];
		vm_vaddr_t gva = vm_vaddr_alloc_page(vm);
		int rc;

		agent->vm = vm;
		agent->vcpu = vcpus[i];
		agent->cmd = addr_gva2hva(vm, gva);
		agent->cmd->use_vmmcall = is_amd_cpu();
		vcpu_args_set(vcpus[i], 1, gva);

		rc = agent_resume(agent);
		TEST_ASSERT(!rc, "vCPU %d does not start, rc: %d", i, rc);
	}

	return vm;
}

struct kvm_vm *vm_create_agents(uint32_t nr_vcpus, uint64_t nr_extra_pages,
				struct agent *agents)
{
	return __vm_create_agents(KVM_X86_SW_PROTECTED_VM, nr_vcpus,
				  nr_extra_pages, agents);
}

int agent_resume(struct agent *agent)
{
	struct kvm_run *run = agent->vcpu->run;
	struct ucall uc;
	int rc;

	/*
	 * A stale description must not pass for this run's.  Other exits may
	 * have userspace's answer in the same place.
	 */
	if (run->exit_reason == KVM_EXIT_MEMORY_FAULT)
		memset(&run->memory_fault, 0xa5, sizeof(run->memory_fault));
	run->exit_reason = KVM_EXIT_UNKNOWN;

	rc = _vcpu_run(agent->vcpu);
	if (rc)
		return rc == -1 ? -errno : -EPROTO;

	if (run->exit_reason != KVM_EXIT_IO)
		return run->exit_reason;

	switch (get_ucall(agent->vcpu, &uc)) {
	case UCALL_SYNC:
		return 0;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		return KVM_EXIT_IO;
	}
}

int agent_start(struct agent *agent, enum agent_op op, uint64_t addr,
		uint64_t size, uint64_t value)
{
	agent->cmd->op = op;
	agent->cmd->addr = addr;
	agent->cmd->size = size;
	agent->cmd->value = value;

	return agent_resume(agent);
}

uint64_t agent_do(struct agent *agent, enum agent_op op, uint64_t addr,
		  uint64_t size, uint64_t value)
{
	int rc = agent_start(agent, op, addr, size, value);
	struct kvm_run *run = agent->vcpu->run;

	TEST_ASSERT(!rc, "Command %d at 0x%lx: rc %d (%s), exit reason %s,\n"
		    "  memory fault at 0x%llx size 0x%llx flags 0x%llx",
		    op, addr, rc, rc < 0 ? strerror(-rc) : "exit",
		    exit_reason_str(run->exit_reason), run->memory_fault.gpa,
		    run->memory_fault.size, run->memory_fault.flags);
	return agent->cmd->result;
}

uint64_t agent_nr_faults(struct agent *agent)
{
	struct kvm_stats_desc *descs, *desc = NULL;
	struct kvm_stats_header header;
	uint64_t nr = 0;
	size_t size;
	int fd, i;

	fd = __vcpu_ioctl(agent->vcpu, KVM_GET_STATS_FD, NULL);
	TEST_ASSERT(fd >= 0, KVM_IOCTL_ERROR(KVM_GET_STATS_FD, fd));
	read_stats_header(fd, &header);
	descs = read_stats_descriptors(fd, &header);
	size = get_stats_descriptor_size(&header);

	for (i = 0; i < header.num_desc; i++) {
		desc = (void *)descs + i * size;
		if (!strcmp(desc->name, "pf_fixed"))
			break;
	}
	TEST_ASSERT(i < header.num_desc, "There is no statistic pf_fixed");
	read_stat_data(fd, &header, desc, &nr, 1);

	free(descs);
	close(fd);
	return nr;
}

static void agent_assert_good(struct agent *agent, uint64_t nr_bad)
{
	TEST_ASSERT(!nr_bad, "Guest finds %lu bad words, the first at 0x%lx",
		    nr_bad, agent->cmd->bad_addr);
}

void agent_check(struct agent *agent, uint64_t addr, uint64_t size,
		 uint64_t seed)
{
	agent_assert_good(agent, agent_do(agent, AGENT_CHECK, addr, size, seed));
}

void agent_check_const(struct agent *agent, uint64_t addr, uint64_t size,
		       uint64_t value)
{
	agent_assert_good(agent, agent_do(agent, AGENT_CHECK_CONST, addr, size,
					  value));
}

void agent_assert_memory_fault(struct agent *agent, int rc, uint64_t gpa,
			       uint64_t flags)
{
	struct kvm_run *run = agent->vcpu->run;
	uint64_t page = gpa & ~((uint64_t)getpagesize() - 1);

	TEST_ASSERT(rc == -EFAULT, "KVM_RUN: rc %d (%s), exit reason %s, not EFAULT",
		    rc, rc < 0 ? strerror(-rc) : "exit",
		    exit_reason_str(run->exit_reason));
	TEST_ASSERT(run->exit_reason == KVM_EXIT_MEMORY_FAULT,
		    "Exit reason %u (%s), not a memory fault",
		    run->exit_reason, exit_reason_str(run->exit_reason));
	TEST_ASSERT(run->memory_fault.flags == flags &&
		    run->memory_fault.gpa == page &&
		    run->memory_fault.size == PAGE_SIZE,
		    "Memory fault at 0x%llx size 0x%llx flags 0x%llx, not at 0x%lx flags 0x%lx",
		    run->memory_fault.gpa, run->memory_fault.size,
		    run->memory_fault.flags, page, flags);
}

void agent_convert(struct agent *agent, uint64_t gpa, uint64_t size,
		   bool to_private)
{
	uint64_t flags = to_private ? KVM_MAP_GPA_RANGE_ENCRYPTED :
				      KVM_MAP_GPA_RANGE_DECRYPTED;
	struct kvm_run *run = agent->vcpu->run;
	int rc;

	rc = agent_start(agent, AGENT_MAP_GPA_RANGE, gpa, size, flags);
	TEST_ASSERT(rc == KVM_EXIT_HYPERCALL, "KVM_RUN: rc %d, not a hypercall", rc);
	TEST_ASSERT(run->hypercall.nr == KVM_HC_MAP_GPA_RANGE &&
		    run->hypercall.args[0] == gpa &&
		    run->hypercall.args[1] == size / PAGE_SIZE &&
		    run->hypercall.args[2] == flags,
		    "Hypercall %llu (0x%llx, 0x%llx, 0x%llx)", run->hypercall.nr,
		    run->hypercall.args[0], run->hypercall.args[1],
		    run->hypercall.args[2]);

	vm_set_memory_attributes(agent->vm, gpa, size,
				 to_private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0);
	run->hypercall.ret = 0;

	rc = agent_resume(agent);
	TEST_ASSERT(!rc && !agent->cmd->result,
		    "The hypercall returns %ld, rc %d", agent->cmd->result, rc);
}
