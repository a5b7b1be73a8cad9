// SPDX-License-Identifier: GPL-2.0
/*
 * Plant one deliberate error in the SEV-SNP host code of a running kernel
 *
 * A mutation probes a function by its name, and changes its arguments or its result, or
 * leaves it out. It works on any kernel whose functions go by these names; a symbol that
 * does not exist is an error. Each mutation says in the log when it strikes for
 * the first time. "none" changes nothing.
 *
 * /sys/module/mutator/parameters: hits, how often the mutation struck; rmp_faults, how many
 * nested page faults with the RMP bit KVM has seen, and rmp_error and rmp_gpa, what the
 * last of them was; smash, see below.
 */
#define pr_fmt(fmt) "mutator: " fmt

#include <linux/bitmap.h>
#include <linux/gfp.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>

#define SNP_CMD_DF_FLUSH	0x084
#define SNP_CMD_SHUTDOWN_EX	0x086
#define SNP_CMD_DECOMMISSION	0x090
#define SNP_CMD_ACTIVATE	0x091
#define SNP_CMD_GCTX_CREATE	0x093
#define SNP_CMD_LAUNCH_START	0x0a0
#define SNP_CMD_LAUNCH_UPDATE	0x0a1
#define SNP_CMD_PAGE_RECLAIM	0x0c7

#define PAGE_TYPE_VMSA		2
#define VMSA_GPA		0xfffffffff000ULL
#define LEVEL_4K		1
#define LEVEL_2M		2

/* What RMPUPDATE reads */
struct rmp_new {
	u64 gpa;
	u8 assigned, pagesize, immutable, reserved;
	u32 asid;
} __packed;

struct launch_update {
	u64 gctx;
	u32 flags;	/* 0 page size, 3:1 type */
	u32 reserved;
	u64 paddr;
	u32 perms;
} __packed;

struct mutation {
	const char *name;
	const char *symbol;
	/* Returns 1 when the function is not to run */
	int (*entry)(struct pt_regs *regs);
	/* Not at the function's first instruction, but at that of these four bytes */
	const char *code;
	/* Or: may change the result */
	void (*ret)(struct pt_regs *regs);
	/* What has to be there before */
	int (*prepare)(void);
};

static char *mutation = "none";
module_param(mutation, charp, 0444);
static int hits;
module_param(hits, int, 0444);
static int rmp_faults;
module_param(rmp_faults, int, 0444);
static ulong rmp_error, rmp_gpa;
module_param(rmp_error, ulong, 0444);
module_param(rmp_gpa, ulong, 0444);

static const struct mutation *planted;

static int (*rmp_make_private)(u64 pfn, u64 gpa, int level, u32 asid, bool immutable);

static struct page *spare;
static u64 vmsa_pfn, vmsa_asid;

static void hit(void)
{
	if (!hits++)
		pr_info("%s: the error strikes\n", planted->name);
}

/* As if the function had returned @value at once */
static int skip(struct pt_regs *regs, unsigned long value)
{
	hit();
	regs->ax = value;
	regs->ip = *(unsigned long *)regs->sp;
	regs->sp += sizeof(unsigned long);
	return 1;
}

static int skip_it(struct pt_regs *regs)
{
	return skip(regs, 0);
}

/*
 * set_memory_4k(address, pages). Not where the kernel has what it needs for an oops, such as
 * the ring buffer that it turns off: that would fault again, for ever. There is nothing of
 * that kind in what was free as a whole when the first guest came, one bit for each 2M;
 * workload's ballast() sees to it that guests have pages there.
 */
static unsigned long *unused;
static bool looked;

static int no_split_prepare(void)
{
	unused = bitmap_zalloc(DIV_ROUND_UP(__pa(high_memory), PMD_SIZE), GFP_KERNEL);
	return unused ? 0 : -ENOMEM;
}

static void find_unused(void)
{
	unsigned long pfn, pages, end = PHYS_PFN(__pa(high_memory));

	for (pfn = 0; pfn < end; pfn += pages) {
		struct page *page = pfn_valid(pfn) ? pfn_to_page(pfn) : NULL;
		unsigned long order = page && PageBuddy(page) ? page_private(page) : 0;

		pages = order > HPAGE_PMD_ORDER ? MAX_ORDER_NR_PAGES : PTRS_PER_PMD;
		if (order >= HPAGE_PMD_ORDER)
			bitmap_set(unused, pfn / PTRS_PER_PMD, pages / PTRS_PER_PMD);
	}
	looked = true;
}

static int no_split(struct pt_regs *regs)
{
	return test_bit(__pa(regs->di) / PMD_SIZE, unused) ? skip(regs, 0) : 0;
}

/*
 * rmp_make_private(pfn, gpa, level, asid, immutable). Pages are launched as immutable, those
 * that a running guest gets are not. ASID 0: for the firmware.
 */
static bool for_launch(struct pt_regs *regs)
{
	return (u32)regs->cx && (u8)regs->r8 && regs->si != VMSA_GPA;
}

static bool for_running(struct pt_regs *regs)
{
	return (u32)regs->cx && !(u8)regs->r8;
}

static int launch_not_private(struct pt_regs *regs)
{
	return for_launch(regs) ? skip(regs, 0) : 0;
}

static int launch_wrong_asid(struct pt_regs *regs)
{
	if (for_launch(regs)) {
		hit();
		regs->cx++;
	}
	return 0;
}

static int running_not_private(struct pt_regs *regs)
{
	return for_running(regs) ? skip(regs, 0) : 0;
}

static int running_wrong_gpa(struct pt_regs *regs)
{
	if (for_running(regs)) {
		hit();
		regs->si ^= PAGE_SIZE;
	}
	return 0;
}

static int running_wrong_asid(struct pt_regs *regs)
{
	if (for_running(regs)) {
		hit();
		regs->cx++;
	}
	return 0;
}

static int running_immutable(struct pt_regs *regs)
{
	if (for_running(regs)) {
		hit();
		regs->r8 = 1;
	}
	return 0;
}

static int vmsa_not_private(struct pt_regs *regs)
{
	return (u32)regs->cx && regs->si == VMSA_GPA ? skip(regs, 0) : 0;
}

/* The instruction RMPUPDATE, in rmpupdate(): a size that the address cannot have */
static int misaligned_2m(struct pt_regs *regs)
{
	struct rmp_new *new = (void *)regs->cx;

	if (new->assigned && new->asid && regs->ax % PMD_SIZE) {
		hit();
		new->pagesize = 1;
	}
	return 0;
}

/* No processor has so many */
static int asid_too_big(struct pt_regs *regs)
{
	struct rmp_new *new = (void *)regs->cx;

	if (new->assigned && new->asid) {
		hit();
		new->asid = 0xffff;
	}
	return 0;
}

/* Assigned to the guest, but at an address that has nothing to do with the page */
static int wrong_page(struct pt_regs *regs)
{
	struct rmp_new *new = (void *)regs->cx;

	if (new->assigned && new->asid) {
		hit();
		regs->ax ^= PAGE_SIZE;
	}
	return 0;
}

/* Firmware commands: __sev_do_cmd_locked(command, buffer, error) */
static int skip_command(struct pt_regs *regs, int command)
{
	int *error = (int *)regs->dx;

	if ((int)regs->di != command)
		return 0;
	if (error)
		*error = 0;
	return skip(regs, 0);
}

static int no_reclaim(struct pt_regs *regs)
{
	return skip_command(regs, SNP_CMD_PAGE_RECLAIM);
}

static int no_df_flush(struct pt_regs *regs)
{
	return skip_command(regs, SNP_CMD_DF_FLUSH);
}

static int no_decommission(struct pt_regs *regs)
{
	return skip_command(regs, SNP_CMD_DECOMMISSION);
}

static int no_activate(struct pt_regs *regs)
{
	return skip_command(regs, SNP_CMD_ACTIVATE);
}

static int no_gctx_create(struct pt_regs *regs)
{
	return skip_command(regs, SNP_CMD_GCTX_CREATE);
}

static int no_launch_start(struct pt_regs *regs)
{
	return skip_command(regs, SNP_CMD_LAUNCH_START);
}

static int activate_taken_asid(struct pt_regs *regs)
{
	if ((int)regs->di == SNP_CMD_ACTIVATE) {
		hit();
		*(u32 *)(regs->si + 8) = 1;
	}
	return 0;
}

static int activate_sev_asid(struct pt_regs *regs)
{
	if ((int)regs->di == SNP_CMD_ACTIVATE) {
		hit();
		*(u32 *)(regs->si + 8) += 200;
	}
	return 0;
}

static int launch_update_2m(struct pt_regs *regs)
{
	struct launch_update *update = (void *)regs->si;

	if ((int)regs->di == SNP_CMD_LAUNCH_UPDATE) {
		hit();
		update->flags |= 1;
	}
	return 0;
}

static int vmsa_not_launched(struct pt_regs *regs)
{
	struct launch_update *update = (void *)regs->si;

	if ((int)regs->di != SNP_CMD_LAUNCH_UPDATE ||
	    (update->flags >> 1 & 7) != PAGE_TYPE_VMSA)
		return 0;
	return skip_command(regs, SNP_CMD_LAUNCH_UPDATE);
}

static int shutdown_keeps_iommu(struct pt_regs *regs)
{
	if ((int)regs->di == SNP_CMD_SHUTDOWN_EX) {
		hit();
		*(u32 *)(regs->si + 4) &= ~1U;
	}
	return 0;
}

/* snp_free_firmware_page(address): as if it were any page */
static int free_firmware_page(struct pt_regs *regs)
{
	free_page(regs->di);
	return skip(regs, 0);
}

/* rmp_make_shared(pfn, level): of all pages, forget the VMSA */
static int stale_vmsa(struct pt_regs *regs)
{
	if (!vmsa_pfn || regs->di != vmsa_pfn)
		return 0;
	vmsa_pfn = 0;
	return skip(regs, 0);
}

/* For probes, which may not sleep, as the kernel's function does */
static void assign(u64 pfn, u64 gpa, u32 asid)
{
	struct rmp_new new = { .gpa = gpa, .assigned = 1, .asid = asid };
	unsigned long result = pfn << PAGE_SHIFT;

	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xfe" : "+a" (result) : "c" (&new) : "memory", "cc");
	if (result)
		pr_err("%s: RMPUPDATE of PFN 0x%llx: %lu\n", planted->name, pfn, result);
	else
		hit();
}

/* pre_sev_run(): the VMSA's page is given away, and to the same guest at that */
static int vmsa_reassigned(struct pt_regs *regs)
{
	if (vmsa_pfn && !hits)
		assign(vmsa_pfn, VMSA_GPA, vmsa_asid);
	return 0;
}

/*
 * snp_safe_alloc_page_node(): the first page that it returns is in Reclaim state. That is
 * done first where it can sleep, for the direct map, and then again, as the firmware may
 * have been started in between.
 */
static int assign_spare(void)
{
	int error;

	spare = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!spare)
		return -ENOMEM;
	error = rmp_make_private(page_to_pfn(spare), 0, LEVEL_4K, 0, false);
	if (error)
		pr_err("cannot make a page private: %d\n", error);
	return error;
}

static void return_spare(struct pt_regs *regs)
{
	if (hits)
		return;
	assign(page_to_pfn(spare), 0, 0);
	regs->ax = (unsigned long)spare;
}

static const struct mutation mutations[] = {
	{ "none" },
	{ "no-split", "set_memory_4k", no_split, .prepare = no_split_prepare },
	{ "no-reset", "rmp_make_shared", skip_it },
	{ "no-invalidate", "sev_gmem_invalidate", skip_it },
	{ "gctx-freed", "snp_free_firmware_page", free_firmware_page },
	{ "stale-vmsa", "rmp_make_shared", stale_vmsa },
	{ "launch-not-private", "rmp_make_private", launch_not_private },
	{ "launch-wrong-asid", "rmp_make_private", launch_wrong_asid },
	{ "launch-update-2m", "__sev_do_cmd_locked", launch_update_2m },
	{ "vmsa-not-private", "rmp_make_private", vmsa_not_private },
	{ "vmsa-not-launched", "__sev_do_cmd_locked", vmsa_not_launched },
	{ "vmsa-reassigned", "pre_sev_run", vmsa_reassigned },
	{ "running-not-private", "rmp_make_private", running_not_private },
	{ "running-wrong-gpa", "rmp_make_private", running_wrong_gpa },
	{ "running-wrong-asid", "rmp_make_private", running_wrong_asid },
	{ "running-immutable", "rmp_make_private", running_immutable },
	{ "misaligned-2m", "rmpupdate", misaligned_2m, .code = "\xf2\x0f\x01\xfe" },
	{ "asid-too-big", "rmpupdate", asid_too_big, .code = "\xf2\x0f\x01\xfe" },
	{ "wrong-page", "rmpupdate", wrong_page, .code = "\xf2\x0f\x01\xfe" },
	{ "no-psmash", "psmash", skip_it },
	{ "not-firmware", "rmp_mark_pages_firmware", skip_it },
	{ "no-reclaim", "__sev_do_cmd_locked", no_reclaim },
	{ "no-gctx-create", "__sev_do_cmd_locked", no_gctx_create },
	{ "no-launch-start", "__sev_do_cmd_locked", no_launch_start },
	{ "no-activate", "__sev_do_cmd_locked", no_activate },
	{ "activate-taken-asid", "__sev_do_cmd_locked", activate_taken_asid },
	{ "activate-sev-asid", "__sev_do_cmd_locked", activate_sev_asid },
	{ "no-decommission", "__sev_do_cmd_locked", no_decommission },
	{ "no-df-flush", "__sev_do_cmd_locked", no_df_flush },
	{ "no-wbinvd", "wbinvd_on_all_cpus", skip_it },
	{ "no-clflush", "clflush_cache_range", skip_it },
	{ "hsave-assigned", "snp_safe_alloc_page_node", .ret = return_spare,
	  .prepare = assign_spare },
	{ "vmcb-assigned", "snp_safe_alloc_page_node", .ret = return_spare,
	  .prepare = assign_spare },
	{ "shutdown-keeps-iommu", "__sev_do_cmd_locked", shutdown_keeps_iommu },
};

/* Probes: the mutation's, and the witnesses, which only look */
static int mutation_entry(struct kprobe *p, struct pt_regs *regs)
{
	return planted->entry(regs);
}

/* A probe with one of these is not optimised into a jump, which could not skip */
static void after(struct kprobe *p, struct pt_regs *regs, unsigned long flags)
{
}

static int mutation_return(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	planted->ret(regs);
	return 0;
}

/* sev_handle_rmp_fault(vcpu, gpa, error_code) */
static int see_rmp_fault(struct kprobe *p, struct pt_regs *regs)
{
	rmp_faults++;
	rmp_gpa = regs->si;
	rmp_error = regs->dx;
	return 0;
}

/* rmp_make_private() */
static int see_private(struct kprobe *p, struct pt_regs *regs)
{
	if (unused && !looked)
		find_unused();
	if ((u32)regs->cx && regs->si == VMSA_GPA) {
		vmsa_pfn = regs->di;
		vmsa_asid = (u32)regs->cx;
	}
	return 0;
}

static struct kprobe entry_probe = { .pre_handler = mutation_entry, .post_handler = after };
static struct kretprobe return_probe = { .handler = mutation_return, .maxactive = 16 };
static struct kprobe fault_witness = {
	.symbol_name = "sev_handle_rmp_fault", .pre_handler = see_rmp_fault,
};

static struct kprobe private_witness = {
	.symbol_name = "rmp_make_private", .pre_handler = see_private,
};

/* Which of them are registered */
static struct {
	bool entry, ret, fault, private;
} done;

static void *find(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	void *address = NULL;

	if (!register_kprobe(&probe)) {
		address = probe.addr;
		unregister_kprobe(&probe);
	}
	return address;
}

static void *find_code(const char *name, const char *code)
{
	char *start = find(name);
	unsigned int i;

	for (i = 0; start && i < 512; i++) {
		if (!memcmp(start + i, code, 4))
			return start + i;
	}
	return NULL;
}

static int plant_one(struct kprobe *probe, bool *done)
{
	int error;

	if (*done)
		return 0;
	error = register_kprobe(probe);
	if (!error) {
		*done = true;
		return 0;
	}
	/* Only a failed registration leaves these behind */
	probe->addr = NULL;
	probe->flags = 0;
	return error;
}

static int plant(void)
{
	int error, first = 0;

	error = plant_one(&private_witness, &done.private);
	first = first ?: error;
	error = plant_one(&fault_witness, &done.fault);
	first = first ?: error;
	if (planted->entry && !done.entry) {
		error = 0;
		if (planted->code) {
			entry_probe.addr = find_code(planted->symbol, planted->code);
			error = entry_probe.addr ? 0 : -ENOENT;
		} else {
			entry_probe.symbol_name = planted->symbol;
		}
		error = error ?: plant_one(&entry_probe, &done.entry);
		first = first ?: error;
	}
	if (planted->ret && !done.ret) {
		return_probe.kp.symbol_name = planted->symbol;
		error = register_kretprobe(&return_probe);
		if (!error) {
			done.ret = true;
		} else {
			return_probe.kp.addr = NULL;
			return_probe.kp.flags = 0;
		}
		first = first ?: error;
	}
	return first;
}

static void uproot(void)
{
	if (done.private)
		unregister_kprobe(&private_witness);
	if (done.fault)
		unregister_kprobe(&fault_witness);
	if (done.entry)
		unregister_kprobe(&entry_probe);
	if (done.ret)
		unregister_kretprobe(&return_probe);
	bitmap_free(unused);
}

static int module_comes(struct notifier_block *nb, unsigned long action, void *data)
{
	struct module *mod = data;

	if (action == MODULE_STATE_COMING && !strcmp(mod->name, "kvm_amd")) {
		int error = plant();

		if (error)
			pr_err("%s: not in the kernel: %d\n", planted->name, error);
		else
			pr_info("%s: planted\n", planted->name);
	}
	return NOTIFY_DONE;
}

static struct notifier_block module_notifier = { .notifier_call = module_comes };

/*
 * Writing to "smash" gives a guest that does not exist a page of 2M, as a guest_memfd with
 * large pages would, and has KVM free it, the first 4K before the rest.
 */
static int smash(const char *value, const struct kernel_param *kp)
{
	void (*invalidate)(u64 start, u64 end) = find("sev_gmem_invalidate");
	struct page *page;
	u64 pfn;
	int error;

	if (!invalidate)
		return -ENOENT;
	page = alloc_pages(GFP_KERNEL, HPAGE_PMD_ORDER);
	if (!page)
		return -ENOMEM;
	pfn = page_to_pfn(page);
	error = rmp_make_private(pfn, 0x40000000, LEVEL_2M, 99, false);
	if (error) {
		pr_err("cannot make 2M private: %d\n", error);
		return error;
	}
	pr_info("smash: 4K of a private page of 2M\n");
	invalidate(pfn, pfn + 1);
	pr_info("smash: the rest\n");
	invalidate(pfn + 1, pfn + PTRS_PER_PMD);
	memset(page_address(page), 0x5a, PMD_SIZE);
	__free_pages(page, HPAGE_PMD_ORDER);
	pr_info("smash: done\n");
	return 0;
}

static const struct kernel_param_ops smash_ops = { .set = smash };
module_param_cb(smash, &smash_ops, NULL, 0200);

static int __init mutator_init(void)
{
	unsigned int i;
	int error;

	for (i = 0; i < ARRAY_SIZE(mutations); i++) {
		if (!strcmp(mutation, mutations[i].name))
			planted = &mutations[i];
	}
	if (!planted) {
		pr_err("no such mutation: %s\n", mutation);
		return -EINVAL;
	}
	rmp_make_private = find("rmp_make_private");
	if (!rmp_make_private) {
		pr_err("not a kernel with SEV-SNP\n");
		return -ENOENT;
	}
	if (planted->prepare) {
		error = planted->prepare();
		if (error)
			return error;
	}
	error = plant();
	if (!error) {
		pr_info("%s: planted\n", planted->name);
	} else if (error != -ENOENT) {
		uproot();
		return error;
	}
	/* Whatever was not found may be in a module that is to come */
	return register_module_notifier(&module_notifier);
}

static void __exit mutator_exit(void)
{
	unregister_module_notifier(&module_notifier);
	uproot();
}

module_init(mutator_init);
module_exit(mutator_exit);

MODULE_DESCRIPTION("Deliberate errors in the kernel's SEV-SNP host code");
MODULE_LICENSE("GPL");
