// SPDX-License-Identifier: GPL-2.0-only
/*
 * Virtual machines of the types SEV, SEV-ES and SEV-SNP, and the agent in them.
 */
#define _GNU_SOURCE
#include <linux/kvm_para.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "processor.h"
#include "sev_vm.h"

#define SEV_PORT	0x2e8
#define HUGE_SIZE	(2ULL << 20)

/* Slot 0: as much as lib/kvm_util.c has, and page tables for the test's memory */
#define SLOT0_PAGES	1024

/* --- the host's side of commands ------------------------------------------ */

bool sev_type_supported(unsigned long type)
{
	return kvm_check_cap(KVM_CAP_VM_TYPES) & (1u << type);
}

void require_sev_type(unsigned long type)
{
	static const char *const names[] = {
		[KVM_X86_SEV_VM] = "KVM_X86_SEV_VM",
		[KVM_X86_SEV_ES_VM] = "KVM_X86_SEV_ES_VM",
		[KVM_X86_SNP_VM] = "KVM_X86_SNP_VM",
	};

	__TEST_REQUIRE(sev_type_supported(type), "%s not supported", names[type]);
}

static struct sev_vm *sev_vm_alloc(unsigned long type)
{
	struct sev_vm *sev = calloc(1, sizeof(*sev));
	uint32_t eax, ebx, ecx, edx;

	TEST_ASSERT(sev, "calloc() failed");
	sev->type = type;
	sev->sev_fd = open_path_or_exit("/dev/sev", O_RDWR);
	sev->shared_gfns = sparsebit_alloc();
	cpuid(0x8000001f, &eax, &ebx, &ecx, &edx);
	sev->c_bit = 1ULL << (ebx & 0x3f);
	return sev;
}

struct sev_vm *sev_vm_create_barebones(unsigned long type)
{
	struct sev_vm *sev = sev_vm_alloc(type);

	sev->vm = ____vm_create_type(VM_MODE_DEFAULT, type, 0);
	return sev;
}

void sev_vm_free(struct sev_vm *sev)
{
	kvm_vm_free(sev->vm);
	sparsebit_free(&sev->shared_gfns);
	close(sev->sev_fd);
	free(sev);
}

int __sev_cmd(struct sev_vm *sev, uint32_t id, void *data)
{
	struct kvm_sev_cmd cmd = {
		.id = id,
		.data = (uintptr_t)data,
		.error = SEV_FW_NOT_CALLED,
		.sev_fd = sev->sev_fd,
	};
	/* The number has the size of a pointer, not of what it points to. */
	int ret = ioctl(sev->vm->fd, KVM_MEMORY_ENCRYPT_OP, &cmd);

	sev->fw_error = cmd.error;
	return ret ? errno : 0;
}

void sev_cmd(struct sev_vm *sev, uint32_t id, void *data)
{
	int err = __sev_cmd(sev, id, data);

	TEST_ASSERT(!err, "SEV command %u: errno %d (%s), firmware error 0x%x",
		    id, err, strerror(err), sev->fw_error);
}

int __sev_init2(struct sev_vm *sev, uint64_t vmsa_features, uint32_t flags,
		uint16_t ghcb_version)
{
	struct kvm_sev_init init = {
		.vmsa_features = vmsa_features,
		.flags = flags,
		.ghcb_version = ghcb_version,
	};

	return __sev_cmd(sev, KVM_SEV_INIT2, &init);
}

void sev_init2(struct sev_vm *sev)
{
	int err = __sev_init2(sev, 0, 0, 0);

	TEST_ASSERT(!err, "KVM_SEV_INIT2: errno %d, firmware error 0x%x", err,
		    sev->fw_error);
}

/* --- the agent -------------------------------------------------------------- */

static void guest_out(void)
{
	asm volatile("outb %%al, %%dx" : : "a"(0), "d"(SEV_PORT) : "memory");
}

static void guest_vmgexit(uint64_t msr)
{
	asm volatile("wrmsr\n\t"
		     "rep; vmmcall"
		     : : "a"((uint32_t)msr), "d"((uint32_t)(msr >> 32)),
			 "c"(GHCB_MSR) : "memory");
}

static uint64_t guest_read_msr(void)
{
	uint32_t eax, edx;

	asm volatile("rdmsr" : "=a"(eax), "=d"(edx) : "c"(GHCB_MSR) : "memory");
	return (uint64_t)edx << 32 | eax;
}

static void guest_copy(void *to, const void *from, uint64_t size)
{
	asm volatile("rep movsb"
		     : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

static void guest_register_ghcb(struct sev_agent_cmd *cmd)
{
	if (cmd->vm_type == KVM_X86_SNP_VM)
		guest_vmgexit(cmd->ghcb_gpa | GHCB_MSR_REG_GPA_REQ);
}

/* Tell the host that it is its turn. */
static void guest_signal(struct sev_agent_cmd *cmd)
{
	struct ghcb_page *ghcb = (void *)cmd->ghcb_gva;
	int i;

	if (cmd->vm_type == KVM_X86_SEV_VM) {
		guest_out();
		return;
	}

	for (i = 0; i < 512; i++)
		WRITE_ONCE(ghcb->words[i], 0);
	ghcb_put(ghcb, GHCB_EXIT_CODE, NAE_IOIO);
	ghcb_put(ghcb, GHCB_EXIT_INFO1, IOIO_OUTB(SEV_PORT));
	ghcb_put(ghcb, GHCB_EXIT_INFO2, 0);
	ghcb_put(ghcb, GHCB_RAX, 0);
	guest_vmgexit(cmd->ghcb_gpa);
}

static uint64_t guest_pvalidate(uint64_t addr, uint64_t page_size, uint64_t value)
{
	uint64_t rax = addr;
	bool unchanged;

	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xff"
		     : "+a"(rax), "=@ccc"(unchanged)
		     : "c"((uint32_t)(page_size == HUGE_SIZE)),
		       "d"((uint32_t)value) : "memory");
	return (uint32_t)rax | (unchanged ? PVALIDATE_UNCHANGED : 0);
}

static uint64_t guest_rmpadjust(uint64_t addr, uint64_t page_size, uint64_t rdx)
{
	uint64_t rax = addr, rcx = page_size == HUGE_SIZE;

	asm volatile(".byte 0xf3, 0x0f, 0x01, 0xfe"
		     : "+a"(rax), "+c"(rcx), "+d"(rdx) : : "memory", "cc");
	return (uint32_t)rax;
}

static void guest_bad_word(struct sev_agent_cmd *cmd, uint64_t addr)
{
	if (!cmd->result++)
		cmd->bad_addr = addr;
}

static void guest_do(struct sev_agent_cmd *cmd)
{
	uint64_t start = cmd->addr, end = cmd->addr + cmd->size, addr;
	uint64_t to_gpa = cmd->gpa - cmd->addr;

	cmd->result = 0;

	switch (cmd->op) {
	case SEV_READ:
		cmd->result = READ_ONCE(*(uint64_t *)start);
		break;
	case SEV_WRITE:
		WRITE_ONCE(*(uint64_t *)start, cmd->value);
		break;
	case SEV_FILL:
		for (addr = start; addr < end; addr += MEM_PATTERN_STEP)
			WRITE_ONCE(*(uint64_t *)addr,
				   mem_pattern(cmd->value, addr + to_gpa));
		break;
	case SEV_CHECK:
		for (addr = start; addr < end; addr += MEM_PATTERN_STEP)
			if (READ_ONCE(*(uint64_t *)addr) !=
			    mem_pattern(cmd->value, addr + to_gpa))
				guest_bad_word(cmd, addr);
		break;
	case SEV_CHECK_CONST:
		for (addr = start; addr < end; addr += 8)
			if (READ_ONCE(*(uint64_t *)addr) != cmd->value)
				guest_bad_word(cmd, addr);
		break;
	case SEV_COPY:
		guest_copy((void *)cmd->value, (void *)start, cmd->size);
		break;
	case SEV_EXEC:
		((void (*)(uint64_t))start)(cmd->value);
		break;
	case SEV_PVALIDATE:
		for (addr = start; addr < end; addr += cmd->page_size) {
			cmd->bad_addr = addr;
			cmd->result = guest_pvalidate(addr, cmd->page_size,
						      cmd->value);
			if (cmd->result)
				break;
		}
		break;
	case SEV_RMPADJUST:
		cmd->result = guest_rmpadjust(start, cmd->page_size, cmd->value);
		break;
	case SEV_MSR:
		guest_vmgexit(cmd->value);
		cmd->result = guest_read_msr();
		guest_register_ghcb(cmd);
		break;
	case SEV_VMGEXIT:
	case SEV_VMGEXIT_AT:
		guest_copy((void *)cmd->ghcb_gva, &cmd->ghcb_in, PAGE_SIZE);
		guest_vmgexit(cmd->op == SEV_VMGEXIT ? cmd->ghcb_gpa : cmd->value);
		guest_copy(&cmd->ghcb_out, (void *)cmd->ghcb_gva, PAGE_SIZE);
		break;
	case SEV_HANG:
		for (;;)
			asm volatile("pause");
	default:
		break;
	}
}

void __noreturn sev_agent_main(struct sev_agent_cmd *cmd)
{
	guest_register_ghcb(cmd);
	for (;;) {
		guest_signal(cmd);
		guest_do(cmd);
	}
}

/* --- creation --------------------------------------------------------------- */

static void region_add(struct sev_vm *sev, uint64_t gpa, uint32_t slot,
		       uint64_t npages)
{
	uint32_t flags = sev->type == KVM_X86_SNP_VM ? KVM_MEM_GUEST_MEMFD : 0;

	__vm_userspace_mem_region_add(sev->vm, VM_MEM_SRC_ANONYMOUS, gpa, slot,
				      npages, flags, -1, 0);
}

vm_vaddr_t sev_vm_alloc_private(struct sev_vm *sev, size_t size, uint64_t *gpa)
{
	vm_vaddr_t gva = vm_vaddr_alloc(sev->vm, size, KVM_UTIL_MIN_VADDR);

	/* vm_vaddr_alloc() allocates what is contiguous in both. */
	*gpa = addr_gva2gpa(sev->vm, gva);
	return gva;
}

vm_vaddr_t sev_vm_alloc_shared(struct sev_vm *sev, size_t size, uint64_t *gpa)
{
	vm_vaddr_t gva = sev_vm_alloc_private(sev, size, gpa);

	sparsebit_set_num(sev->shared_gfns, *gpa / PAGE_SIZE,
			  (size + PAGE_SIZE - 1) / PAGE_SIZE);
	return gva;
}

static void sev_vm_add_agent(struct sev_vm *sev, uint32_t id)
{
	struct sev_agent *agent = &sev->agents[id];
	uint64_t gpa, ghcb_gva;

	agent->sev = sev;
	agent->vcpu = vm_vcpu_add(sev->vm, id, sev_agent_main);

	agent->cmd_gva = sev_vm_alloc_shared(sev, sizeof(*agent->cmd), &gpa);
	agent->cmd = addr_gpa2hva(sev->vm, gpa);
	ghcb_gva = sev_vm_alloc_shared(sev, PAGE_SIZE, &agent->ghcb_gpa);
	agent->ghcb = addr_gpa2hva(sev->vm, agent->ghcb_gpa);

	agent->cmd->vm_type = sev->type;
	agent->cmd->ghcb_gpa = agent->ghcb_gpa;
	agent->cmd->ghcb_gva = ghcb_gva;
	agent->cmd->self = agent->cmd_gva;
	vcpu_args_set(agent->vcpu, 1, agent->cmd_gva);
}

struct sev_vm *__sev_vm_create_agents(unsigned long type, uint32_t nr_vcpus,
				      uint16_t ghcb_version)
{
	struct sev_vm *sev = sev_vm_create_barebones(type);
	uint32_t i;
	int err;

	TEST_ASSERT(nr_vcpus <= SEV_MAX_VCPUS, "Too many vCPUs");

	/* Before there are vCPUs */
	err = __sev_init2(sev, 0, 0, ghcb_version);
	TEST_ASSERT(!err, "KVM_SEV_INIT2: errno %d, firmware error 0x%x", err,
		    sev->fw_error);

	region_add(sev, 0, 0, SLOT0_PAGES);
	kvm_vm_elf_load(sev->vm, program_invocation_name);
	vm_create_irqchip(sev->vm);
	vm_enable_cap(sev->vm, KVM_CAP_EXIT_HYPERCALL, 1 << KVM_HC_MAP_GPA_RANGE);

	sev->nr_vcpus = nr_vcpus;
	for (i = 0; i < nr_vcpus; i++)
		sev_vm_add_agent(sev, i);
	return sev;
}

struct sev_vm *sev_vm_create_agents(unsigned long type, uint32_t nr_vcpus)
{
	return __sev_vm_create_agents(type, nr_vcpus, 0);
}

void sev_vm_map(struct sev_vm *sev, uint64_t gpa, uint64_t size)
{
	virt_map_level(sev->vm, gpa, gpa, size, PG_LEVEL_2M);
	virt_map_level(sev->vm, SEV_SHARED(gpa), gpa, size, PG_LEVEL_2M);
}

/* --- launch ----------------------------------------------------------------- */

static struct userspace_mem_region *slot0(struct sev_vm *sev)
{
	return memslot2region(sev->vm, 0);
}

static bool is_used(struct sev_vm *sev, uint64_t gfn)
{
	return !sparsebit_is_set(slot0(sev)->unused_phy_pages, gfn) &&
	       !sparsebit_is_set(sev->shared_gfns, gfn);
}

/* Page tables need no C-bit themselves: processors walk them as private. */
static void set_c_bits(struct sev_vm *sev, uint64_t table_gpa, int level,
		       uint64_t gva)
{
	uint64_t *table = addr_gpa2hva(sev->vm, table_gpa);
	int i;

	for (i = 0; i < 512; i++) {
		uint64_t at = gva + i * PG_LEVEL_SIZE(level);

		if (!(table[i] & PTE_PRESENT_MASK))
			continue;

		if (level > PG_LEVEL_4K && !(table[i] & PTE_LARGE_MASK)) {
			set_c_bits(sev, table[i] & PHYSICAL_PAGE_MASK, level - 1,
				   at);
			continue;
		}

		if (at < SEV_SHARED(0) &&
		    !sparsebit_is_set(sev->shared_gfns, PTE_GET_PFN(table[i])))
			table[i] |= sev->c_bit;
	}
}

void sev_vm_seal(struct sev_vm *sev)
{
	uint64_t gfn;

	set_c_bits(sev, sev->vm->pgd, PG_LEVEL_512G, 0);

	if (sev->type != KVM_X86_SNP_VM)
		return;

	vm_mem_set_private(sev->vm, 0, SLOT0_PAGES * PAGE_SIZE);
	for (gfn = 0; gfn < SLOT0_PAGES; gfn++) {
		if (sparsebit_is_set(sev->shared_gfns, gfn))
			vm_mem_set_shared(sev->vm, gfn * PAGE_SIZE, PAGE_SIZE);
	}
}

typedef void (*range_fn)(struct sev_vm *sev, uint64_t gpa, void *hva,
			 uint64_t size);

/* Call @fn for each contiguous range of slot 0 that is private and used. */
static void call_for_ranges(struct sev_vm *sev, range_fn fn)
{
	uint64_t gfn, end;

	for (gfn = 0; gfn < SLOT0_PAGES; gfn = end + 1) {
		for (end = gfn; end < SLOT0_PAGES && is_used(sev, end); end++)
			;
		if (end > gfn)
			fn(sev, gfn * PAGE_SIZE,
			   addr_gpa2hva(sev->vm, gfn * PAGE_SIZE),
			   (end - gfn) * PAGE_SIZE);
	}
}

int __snp_launch_start(struct sev_vm *sev, uint64_t policy)
{
	struct kvm_sev_snp_launch_start start = { .policy = policy };

	return __sev_cmd(sev, KVM_SEV_SNP_LAUNCH_START, &start);
}

void snp_launch_start(struct sev_vm *sev)
{
	int err = __snp_launch_start(sev, SNP_POLICY);

	TEST_ASSERT(!err, "SNP_LAUNCH_START: errno %d, firmware error 0x%x", err,
		    sev->fw_error);
}

int __snp_launch_update(struct sev_vm *sev, uint64_t gpa, void *src,
			uint64_t size, uint8_t type)
{
	struct kvm_sev_snp_launch_update update = {
		.gfn_start = gpa / PAGE_SIZE,
		.uaddr = (uintptr_t)src,
		.len = size,
		.type = type,
	};
	int err;

	/* KVM may stop where it likes, but not where it started. */
	do {
		uint64_t left = update.len;

		err = __sev_cmd(sev, KVM_SEV_SNP_LAUNCH_UPDATE, &update);
		if (err)
			break;
		TEST_ASSERT(update.len < left &&
			    update.gfn_start * PAGE_SIZE + update.len == gpa + size &&
			    (type == KVM_SEV_SNP_PAGE_TYPE_ZERO || !src ||
			     update.uaddr + update.len == (uintptr_t)src + size),
			    "LAUNCH_UPDATE leaves gfn 0x%llx uaddr 0x%llx len 0x%llx",
			    update.gfn_start, update.uaddr, update.len);
	} while (update.len);
	return err;
}

void snp_launch_update(struct sev_vm *sev, uint64_t gpa, void *src,
		       uint64_t size, uint8_t type)
{
	int err = __snp_launch_update(sev, gpa, src, size, type);

	TEST_ASSERT(!err, "SNP_LAUNCH_UPDATE at 0x%lx: errno %d, firmware error 0x%x",
		    gpa, err, sev->fw_error);
}

int __snp_launch_finish(struct sev_vm *sev,
			struct kvm_sev_snp_launch_finish *finish)
{
	struct kvm_sev_snp_launch_finish none = {};

	return __sev_cmd(sev, KVM_SEV_SNP_LAUNCH_FINISH, finish ?: &none);
}

static void (*update_done)(uint64_t gpa, void *page);

static void snp_update_range(struct sev_vm *sev, uint64_t gpa, void *hva,
			     uint64_t size)
{
	uint64_t i;

	snp_launch_update(sev, gpa, hva, size, KVM_SEV_SNP_PAGE_TYPE_NORMAL);
	for (i = 0; update_done && i < size; i += PAGE_SIZE)
		update_done(gpa + i, hva + i);
}

void snp_launch_update_slot0(struct sev_vm *sev,
			     void (*done)(uint64_t gpa, void *page))
{
	update_done = done;
	call_for_ranges(sev, snp_update_range);
}

static void snp_launch(struct sev_vm *sev)
{
	int err;

	snp_launch_start(sev);
	snp_launch_update_slot0(sev, NULL);
	err = __snp_launch_finish(sev, NULL);
	TEST_ASSERT(!err, "SNP_LAUNCH_FINISH: errno %d, firmware error 0x%x", err,
		    sev->fw_error);
}

static void (*update_before)(const void *data, uint64_t size);

static void sev_update_range(struct sev_vm *sev, uint64_t gpa, void *hva,
			     uint64_t size)
{
	struct kvm_sev_launch_update_data update = {
		.uaddr = (uintptr_t)hva,
		.len = size,
	};

	if (update_before)
		update_before(hva, size);
	sev_cmd(sev, KVM_SEV_LAUNCH_UPDATE_DATA, &update);
}

void sev_launch_update_slot0(struct sev_vm *sev,
			     void (*before)(const void *data, uint64_t size))
{
	struct kvm_enc_region region = {
		.addr = slot0(sev)->region.userspace_addr,
		.size = slot0(sev)->region.memory_size,
	};

	vm_ioctl(sev->vm, KVM_MEMORY_ENCRYPT_REG_REGION, &region);
	update_before = before;
	call_for_ranges(sev, sev_update_range);
}

static void sev_launch(struct sev_vm *sev)
{
	bool es = sev->type == KVM_X86_SEV_ES_VM;
	struct kvm_sev_launch_start start = {
		.policy = es ? SEV_POLICY_ES : 0,
	};
	struct kvm_sev_launch_measure measure = {};
	uint8_t blob[256];

	sev_cmd(sev, KVM_SEV_LAUNCH_START, &start);
	sev_launch_update_slot0(sev, NULL);
	if (es)
		sev_cmd(sev, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);

	/* A measurement has to be taken, though nobody looks at it. */
	measure.uaddr = (uintptr_t)blob;
	measure.len = sizeof(blob);
	sev_cmd(sev, KVM_SEV_LAUNCH_MEASURE, &measure);
	sev_cmd(sev, KVM_SEV_LAUNCH_FINISH, NULL);
}

static void vmsa_put(struct snp_vmsa *vmsa, unsigned int offset, uint64_t value,
		     int size)
{
	memcpy(vmsa->bytes + offset, &value, size);
}

static void vmsa_put_segment(struct snp_vmsa *vmsa, unsigned int offset,
			     const struct kvm_segment *s)
{
	uint16_t attr = s->type | s->s << 4 | s->dpl << 5 | s->present << 7 |
			s->avl << 8 | s->l << 9 | s->db << 10 | s->g << 11;

	/* What is unusable is not present, but else as it was. */
	if (s->unusable)
		attr &= ~(1 << 7);

	vmsa_put(vmsa, offset, s->selector, 2);
	vmsa_put(vmsa, offset + 2, attr, 2);
	vmsa_put(vmsa, offset + 4, s->limit, 4);
	vmsa_put(vmsa, offset + 8, s->base, 8);
}

static void vmsa_put_table(struct snp_vmsa *vmsa, unsigned int offset,
			   const struct kvm_dtable *t)
{
	vmsa_put(vmsa, offset + 4, t->limit, 4);
	vmsa_put(vmsa, offset + 8, t->base, 8);
}

/* Layout: APM volume 2, table B-4 */
void snp_vmsa_init(struct snp_vmsa *vmsa, const struct kvm_sregs *sregs,
		   const struct kvm_regs *regs, const uint8_t *xsave)
{
	int i;

	memset(vmsa, 0, sizeof(*vmsa));
	vmsa_put_segment(vmsa, 0x00, &sregs->es);
	vmsa_put_segment(vmsa, 0x10, &sregs->cs);
	vmsa_put_segment(vmsa, 0x20, &sregs->ss);
	vmsa_put_segment(vmsa, 0x30, &sregs->ds);
	vmsa_put_segment(vmsa, 0x40, &sregs->fs);
	vmsa_put_segment(vmsa, 0x50, &sregs->gs);
	vmsa_put_table(vmsa, 0x60, &sregs->gdt);
	vmsa_put_segment(vmsa, 0x70, &sregs->ldt);
	vmsa_put_table(vmsa, 0x80, &sregs->idt);
	vmsa_put_segment(vmsa, 0x90, &sregs->tr);
	vmsa_put(vmsa, 0x0d0, sregs->efer | 1 << 12, 8);	/* SVME */
	vmsa_put(vmsa, 0x148, sregs->cr4, 8);
	vmsa_put(vmsa, 0x150, sregs->cr3, 8);
	vmsa_put(vmsa, 0x158, sregs->cr0, 8);
	vmsa_put(vmsa, 0x160, 0x400, 8);			/* DR7 */
	vmsa_put(vmsa, 0x168, 0xffff0ff0, 8);			/* DR6 */
	vmsa_put(vmsa, 0x170, regs->rflags, 8);
	vmsa_put(vmsa, 0x178, regs->rip, 8);
	vmsa_put(vmsa, 0x1d8, regs->rsp, 8);
	vmsa_put(vmsa, 0x1f8, regs->rax, 8);
	/* CR2 is not: KVM has it elsewhere until the vCPU runs. */
	vmsa_put(vmsa, 0x268, 0x0007040600070406, 8);		/* PAT */
	vmsa_put(vmsa, 0x308, regs->rcx, 8);
	vmsa_put(vmsa, 0x310, regs->rdx, 8);
	vmsa_put(vmsa, 0x318, regs->rbx, 8);
	vmsa_put(vmsa, 0x328, regs->rbp, 8);
	vmsa_put(vmsa, 0x330, regs->rsi, 8);
	vmsa_put(vmsa, 0x338, regs->rdi, 8);
	vmsa_put(vmsa, 0x340, regs->r8, 8);
	vmsa_put(vmsa, 0x348, regs->r9, 8);
	vmsa_put(vmsa, 0x350, regs->r10, 8);
	vmsa_put(vmsa, 0x358, regs->r11, 8);
	vmsa_put(vmsa, 0x360, regs->r12, 8);
	vmsa_put(vmsa, 0x368, regs->r13, 8);
	vmsa_put(vmsa, 0x370, regs->r14, 8);
	vmsa_put(vmsa, 0x378, regs->r15, 8);
	vmsa_put(vmsa, 0x3b0, SEV_FEAT_SNP_ACTIVE, 8);
	vmsa_put(vmsa, SNP_VMSA_XCR0, 1, 8);

	vmsa_put(vmsa, 0x408, 0x1f80, 4);			/* MXCSR */
	vmsa_put(vmsa, 0x410, 0x37f, 2);			/* FCW */
	if (!xsave)
		return;
	memcpy(vmsa->bytes + 0x400, xsave + 16, 8);		/* data pointer */
	memcpy(vmsa->bytes + 0x408, xsave + 24, 4);
	memcpy(vmsa->bytes + 0x40c, xsave + 4, 2);		/* FTW */
	memcpy(vmsa->bytes + 0x40e, xsave + 2, 2);		/* FSW */
	memcpy(vmsa->bytes + 0x410, xsave, 2);
	memcpy(vmsa->bytes + 0x412, xsave + 6, 2);		/* FOP */
	memcpy(vmsa->bytes + 0x418, xsave + 8, 8);		/* RIP */
	/* The low 8 bytes of all ST registers, then the high 2 bytes of all */
	for (i = 0; i < 8; i++) {
		memcpy(vmsa->bytes + 0x420 + i * 8, xsave + 32 + i * 16, 8);
		memcpy(vmsa->bytes + 0x460 + i * 2, xsave + 32 + i * 16 + 8, 2);
	}
	memcpy(vmsa->bytes + 0x470, xsave + 160, 256);		/* XMM */
	memcpy(vmsa->bytes + 0x570, xsave + 576, 256);		/* upper half of YMM */
}

void sev_agent_boot(struct sev_agent *agent)
{
	int rc = sev_agent_resume(agent);
	struct kvm_run *run = agent->vcpu->run;

	TEST_ASSERT(!rc, "vCPU %u does not start: rc %d, %s (memory fault at 0x%llx 0x%llx)",
		    agent->vcpu->id, rc, exit_reason_str(run->exit_reason),
		    run->memory_fault.gpa, run->memory_fault.flags);
}

void sev_vm_launch(struct sev_vm *sev)
{
	uint32_t i;

	sev_vm_seal(sev);
	if (sev->type == KVM_X86_SNP_VM)
		snp_launch(sev);
	else
		sev_launch(sev);

	for (i = 0; i < sev->nr_vcpus; i++)
		sev_agent_boot(&sev->agents[i]);
}

/* --- commands --------------------------------------------------------------- */

int sev_agent_resume(struct sev_agent *agent)
{
	struct kvm_run *run = agent->vcpu->run;
	int rc;

	/* Not this run's; hypercalls have their answer there, though. */
	if (run->exit_reason == KVM_EXIT_MEMORY_FAULT)
		memset(&run->memory_fault, 0xa5, sizeof(run->memory_fault));
	run->exit_reason = KVM_EXIT_UNKNOWN;

	rc = _vcpu_run(agent->vcpu);
	if (rc)
		return rc == -1 ? -errno : -EPROTO;

	if (run->exit_reason == KVM_EXIT_IO && run->io.port == SEV_PORT &&
	    run->io.direction == KVM_EXIT_IO_OUT)
		return 0;
	return run->exit_reason;
}

int sev_agent_start(struct sev_agent *agent, enum sev_agent_op op, uint64_t addr,
		    uint64_t size, uint64_t value)
{
	struct sev_agent_cmd *cmd = agent->cmd;

	cmd->op = op;
	cmd->addr = addr;
	cmd->gpa = addr >= SEV_SHARED(0) ? addr - SEV_SHARED(0) : addr;
	cmd->size = size;
	cmd->value = value;
	return sev_agent_resume(agent);
}

uint64_t sev_agent_do(struct sev_agent *agent, enum sev_agent_op op,
		      uint64_t addr, uint64_t size, uint64_t value)
{
	int rc = sev_agent_start(agent, op, addr, size, value);
	struct kvm_run *run = agent->vcpu->run;

	TEST_ASSERT(!rc, "Command %d at 0x%lx: rc %d (%s), exit reason %s,\n"
		    "  memory fault at 0x%llx size 0x%llx flags 0x%llx",
		    op, addr, rc, rc < 0 ? strerror(-rc) : "exit",
		    exit_reason_str(run->exit_reason), run->memory_fault.gpa,
		    run->memory_fault.size, run->memory_fault.flags);
	return agent->cmd->result;
}

static void assert_good(struct sev_agent *agent, uint64_t nr_bad)
{
	TEST_ASSERT(!nr_bad, "Guest finds %lu bad words, the first at 0x%lx",
		    nr_bad, agent->cmd->bad_addr);
}

void sev_agent_fill(struct sev_agent *agent, uint64_t addr, uint64_t size,
		    uint64_t seed)
{
	sev_agent_do(agent, SEV_FILL, addr, size, seed);
}

void sev_agent_check(struct sev_agent *agent, uint64_t addr, uint64_t size,
		     uint64_t seed)
{
	assert_good(agent, sev_agent_do(agent, SEV_CHECK, addr, size, seed));
}

void sev_agent_check_const(struct sev_agent *agent, uint64_t addr,
			   uint64_t size, uint64_t value)
{
	assert_good(agent, sev_agent_do(agent, SEV_CHECK_CONST, addr, size, value));
}

uint64_t sev_agent_pvalidate(struct sev_agent *agent, uint64_t gpa,
			     uint64_t size, uint64_t page_size, bool validate)
{
	agent->cmd->page_size = page_size;
	return sev_agent_do(agent, SEV_PVALIDATE, gpa, size, validate);
}

void sev_validate(struct sev_agent *agent, uint64_t gpa, uint64_t size,
		  uint64_t page_size)
{
	uint64_t result = sev_agent_pvalidate(agent, gpa, size, page_size, true);

	TEST_ASSERT(!result, "PVALIDATE at 0x%lx gives 0x%lx",
		    agent->cmd->bad_addr, result);
}

uint64_t sev_agent_rmpadjust(struct sev_agent *agent, uint64_t gpa,
			     uint64_t page_size, uint64_t rdx)
{
	agent->cmd->page_size = page_size;
	return sev_agent_do(agent, SEV_RMPADJUST, gpa, page_size, rdx);
}

void ghcb_init(struct ghcb_page *ghcb, uint64_t exit_code, uint64_t info1,
	       uint64_t info2)
{
	memset(ghcb, 0, sizeof(*ghcb));
	ghcb_put(ghcb, GHCB_EXIT_CODE, exit_code);
	ghcb_put(ghcb, GHCB_EXIT_INFO1, info1);
	ghcb_put(ghcb, GHCB_EXIT_INFO2, info2);
	ghcb->bytes[GHCB_VERSION] = 2;
}

void sev_agent_vmgexit(struct sev_agent *agent)
{
	sev_agent_do(agent, SEV_VMGEXIT, 0, 0, 0);
}

uint64_t sev_agent_msr(struct sev_agent *agent, uint64_t msr)
{
	return sev_agent_do(agent, SEV_MSR, 0, 0, msr);
}

void sev_agent_wrmsr(struct sev_agent *agent, uint32_t index, uint64_t value)
{
	struct ghcb_page *ghcb = &agent->cmd->ghcb_in;

	ghcb_init(ghcb, NAE_MSR, 1, 0);
	ghcb_put(ghcb, GHCB_RCX, index);
	ghcb_put(ghcb, GHCB_RAX, (uint32_t)value);
	ghcb_put(ghcb, GHCB_RDX, value >> 32);
	sev_agent_vmgexit(agent);
	TEST_ASSERT(!ghcb_info1(agent), "WRMSR 0x%x of 0x%lx: result 0x%lx 0x%lx",
		    index, value, ghcb_info1(agent), ghcb_info2(agent));
}

void sev_agent_assert_memory_fault(struct sev_agent *agent, int rc, uint64_t gpa,
				   uint64_t flags)
{
	struct agent plain = { .vm = agent->sev->vm, .vcpu = agent->vcpu };

	agent_assert_memory_fault(&plain, rc, gpa, flags);
}

void sev_assert_map_gpa_range(struct sev_agent *agent, int rc, uint64_t gpa,
			      uint64_t size, bool to_private, bool huge)
{
	struct kvm_run *run = agent->vcpu->run;
	uint64_t flags = (to_private ? KVM_MAP_GPA_RANGE_ENCRYPTED :
				       KVM_MAP_GPA_RANGE_DECRYPTED) |
			 (huge ? KVM_MAP_GPA_RANGE_PAGE_SZ_2M :
				 KVM_MAP_GPA_RANGE_PAGE_SZ_4K);

	TEST_ASSERT(rc == KVM_EXIT_HYPERCALL, "KVM_RUN: rc %d, not a hypercall", rc);
	TEST_ASSERT(run->hypercall.nr == KVM_HC_MAP_GPA_RANGE &&
		    run->hypercall.args[0] == gpa &&
		    run->hypercall.args[1] == size / PAGE_SIZE &&
		    run->hypercall.args[2] == flags && !run->hypercall.ret,
		    "Hypercall %llu (0x%llx, 0x%llx, 0x%llx) ret %lld, not (0x%lx, 0x%llx, 0x%lx)",
		    run->hypercall.nr, run->hypercall.args[0],
		    run->hypercall.args[1], run->hypercall.args[2],
		    run->hypercall.ret, gpa, size / PAGE_SIZE, flags);
}

void sev_grant_map_gpa_range(struct sev_agent *agent)
{
	struct kvm_run *run = agent->vcpu->run;
	uint64_t gpa = run->hypercall.args[0];
	uint64_t size = run->hypercall.args[1] * PAGE_SIZE;
	bool to_private = run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED;

	vm_set_memory_attributes(agent->sev->vm, gpa, size,
				 to_private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0);
	if (!to_private)
		vm_mem_punch(agent->sev->vm, gpa, size);
	run->hypercall.ret = 0;
}

void sev_convert(struct sev_agent *agent, uint64_t gpa, uint64_t size,
		 bool to_private)
{
	uint64_t end = gpa + size, result;
	int rc;

	for (; gpa < end; gpa += PAGE_SIZE) {
		if (!to_private) {
			result = sev_agent_pvalidate(agent, gpa, PAGE_SIZE,
						     PAGE_SIZE, false);
			TEST_ASSERT(!(result & ~PVALIDATE_UNCHANGED),
				    "PVALIDATE at 0x%lx gives 0x%lx", gpa, result);
		}

		rc = sev_agent_start(agent, SEV_MSR, 0, 0,
				     PSC_ENTRY(gpa, to_private ? PSC_PRIVATE :
								 PSC_SHARED) |
				     GHCB_MSR_PSC_REQ);
		sev_assert_map_gpa_range(agent, rc, gpa, PAGE_SIZE, to_private,
					 false);
		sev_grant_map_gpa_range(agent);
		rc = sev_agent_resume(agent);
		TEST_ASSERT(!rc && agent->cmd->result == GHCB_MSR_PSC_RESP,
			    "Page state change at 0x%lx: rc %d, MSR 0x%lx", gpa, rc,
			    agent->cmd->result);

		if (to_private)
			sev_validate(agent, gpa, PAGE_SIZE, PAGE_SIZE);
	}
}
