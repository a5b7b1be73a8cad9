/*
 * What VMRUN refuses once SNP is enabled, and the RMP checks of guests that
 * are not SEV-SNP guests
 *
 * AMD64 APM volume 2, 15.5.1, 15.34.2, 15.35.4, 15.36.9, 15.36.10, 15.36.12
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "snp-lib.h"

#define ASID_SEV    200         /* CPUID 8000001F: EDX 100 to ECX 509 */
#define ASID_ES     20
#define ASID_SNP    5
#define NPT         (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)

static struct vm vm;
static struct vcpu v;
static u8 vmcb_saved[PAGE], vmsa_saved[PAGE];

static void start(enum vm_kind kind, u32 asid)
{
    vm_init(&vm, kind, asid);
    vcpu_init(&vm, &v, CPU_GUEST);
    memcpy_(vmcb_saved, (void *)v.vmcb, PAGE);
    if (kind == VM_SEV_ES) {
        memcpy_(vmsa_saved, (void *)v.vmsa, PAGE);
    }
}

static void restart(void)
{
    memcpy_((void *)v.vmcb, vmcb_saved, PAGE);
    if (vm.kind == VM_SEV_ES) {
        memcpy_((void *)v.vmsa, vmsa_saved, PAGE);
    }
    memset_(v.req, 0, PAGE);
}

/* EXIT_DONE if the guest ran; with VMGEXIT or VMMCALL, which it does at once */
static u64 outcome(struct exit e)
{
    if (v.vmrun_vector != VEC_NONE) {
        return EXIT_EXC + v.vmrun_vector;
    }
    if (e.code == EXIT_VMMCALL || e.code == EXIT_VMGEXIT) {
        return EXIT_DONE;
    }
    return e.code;
}

enum where { VMCB, VMSA };

static const struct {
    const char *name;
    enum vm_kind kind;
    enum where where;
    u32 offset, size;
    u64 value;
    u64 want;
} fields[] = {
    { "plain", VM_PLAIN, VMCB, 0, 0, 0, EXIT_DONE },
    { "plain: ASID 0", VM_PLAIN, VMCB, C_ASID, 4, 0, EXIT_INVALID },
    { "plain: EFER.SVME clear", VM_PLAIN, VMCB, C_SAVE + S_EFER, 8,
      EFER_LME | EFER_LMA | EFER_NXE, EXIT_INVALID },
    { "plain: VMRUN not intercepted", VM_PLAIN, VMCB, C_MISC2, 4, BIT(1),
      EXIT_INVALID },
    { "plain: MSR map past the end of memory", VM_PLAIN, VMCB, C_MSRPM, 8,
      BIT(48) - PAGE, EXIT_INVALID },
    { "plain: CR0.NW without CD", VM_PLAIN, VMCB, C_SAVE + S_CR0, 8,
      0xa0050033, EXIT_INVALID },
    { "SEV", VM_SEV, VMCB, 0, 0, 0, EXIT_DONE },
    { "SEV: smallest ASID", VM_SEV, VMCB, C_ASID, 4, 100, EXIT_DONE },
    { "SEV: largest ASID", VM_SEV, VMCB, C_ASID, 4, 509, EXIT_DONE },
    { "SEV: ASID 0", VM_SEV, VMCB, C_ASID, 4, 0, EXIT_INVALID },
    { "SEV: ASID above the largest", VM_SEV, VMCB, C_ASID, 4, 510,
      EXIT_INVALID },
    { "SEV: ASID for SEV-ES only", VM_SEV, VMCB, C_ASID, 4, 99, EXIT_INVALID },
    { "SEV: nested paging off", VM_SEV, VMCB, C_NESTED, 8, NESTED_SEV,
      EXIT_INVALID },
    { "SEV-ES", VM_SEV_ES, VMCB, 0, 0, 0, EXIT_DONE },
    { "SEV-ES: largest ASID", VM_SEV_ES, VMCB, C_ASID, 4, 99, EXIT_DONE },
    { "SEV-ES: ASID 0", VM_SEV_ES, VMCB, C_ASID, 4, 0, EXIT_INVALID },
    { "SEV-ES: ASID above the largest", VM_SEV_ES, VMCB, C_ASID, 4, 510,
      EXIT_INVALID },
    { "SEV-ES: ASID for SEV only", VM_SEV_ES, VMCB, C_ASID, 4, 100,
      EXIT_INVALID },
    { "SEV-ES: nested paging off", VM_SEV_ES, VMCB, C_NESTED, 8,
      NESTED_SEV | NESTED_ES, EXIT_INVALID },
    { "SEV-ES: LBR virtualization off", VM_SEV_ES, VMCB, C_LBRV, 8, 0,
      EXIT_INVALID },
    { "SEV-ES: EFER.SVME clear", VM_SEV_ES, VMSA, S_EFER, 8,
      EFER_LME | EFER_LMA | EFER_NXE, EXIT_INVALID },
    { "SEV-ES: unknown SEV feature", VM_SEV_ES, VMSA, S_SEV_FEATURES, 8,
      BIT(40), EXIT_INVALID },
    { "SEV-ES: SNP active, but the VMSA is the hypervisor's", VM_SEV_ES, VMSA,
      S_SEV_FEATURES, 8, 1, EXIT_INVALID },
};

static void test_fields(void)
{
    enum vm_kind kind = VM_SNP;
    unsigned int i;

    for (i = 0; i < ARRAY_SIZE(fields); i++) {
        u64 page, got;

        if (fields[i].kind != kind) {
            static const u32 asid[] = { 1, ASID_SEV, ASID_ES };

            kind = fields[i].kind;
            start(kind, asid[kind]);
        }
        restart();
        F32(v.vmcb, C_INT_CTL) = INT_CTL_HELD;
        page = fields[i].where == VMCB ? v.vmcb : v.vmsa;
        if (fields[i].size == 4) {
            F32(page, fields[i].offset) = fields[i].value;
        } else if (fields[i].size == 8) {
            F64(page, fields[i].offset) = fields[i].value;
        }
        got = outcome(vcpu_run(&v));
        tap_eq(fields[i].name, got, fields[i].want);
        tap_eq("  int_ctl is as before", F32(v.vmcb, C_INT_CTL), INT_CTL_HELD);
    }
}

/* Where VMCB, VMSA and host save area are */
static void test_pages(void)
{
    u64 base = region(), large = region(), vmsa;

    start(VM_PLAIN, 1);
    memcpy_((void *)base, vmcb_saved, PAGE);
    memcpy_((void *)(large + 7 * PAGE), vmcb_saved, PAGE);
    v.vmcb = base;
    tap_eq("VMCB elsewhere", outcome(vcpu_run(&v)), EXIT_DONE);
    memcpy_((void *)base, vmcb_saved, PAGE);
    must(rmpupdate(base, 0, true, false, false, 0) == OK);
    vcpu_enter(&v);
    tap(v.vmrun_vector == VEC_GP && this_cpu()->exc.error == 0,
        "VMCB is not the hypervisor's");
    must(rmpupdate(base, 0, false, false, false, 0) == OK);
    must(rmpupdate(large, 2 * MB, true, true, false, ASID_SNP) == OK);
    v.vmcb = large + 7 * PAGE;
    vcpu_enter(&v);
    tap_eq("VMCB is in 2M that are not the hypervisor's", v.vmrun_vector,
           VEC_GP);
    memcpy_((void *)base, vmcb_saved, PAGE);
    v.vmcb = base;
    tap_eq("VMCB, taken back", outcome(vcpu_run(&v)), EXIT_DONE);

    memcpy_((void *)base, vmcb_saved, PAGE);
    wrmsr(MSR_HSAVE, 0);
    vcpu_run(&v);
    tap_eq("host save area 0", v.vmrun_vector, VEC_GP);
    wrmsr(MSR_HSAVE, this_cpu()->hsave);
    must(rmpupdate(base + PAGE, 0, true, false, false, 0) == OK);
    try_wrmsr(MSR_HSAVE, base + PAGE);
    tap_eq("VM_HSAVE_PA, page not the hypervisor's", exc_vector(), VEC_GP);
    tap_eq("  is as before", rdmsr(MSR_HSAVE), this_cpu()->hsave);
    try_wrmsr(MSR_HSAVE, large + PAGE);
    tap_eq("VM_HSAVE_PA, 2M not the hypervisor's", exc_vector(), VEC_GP);
    try_wrmsr(MSR_HSAVE, base + 2 * PAGE + 8);
    tap_eq("VM_HSAVE_PA, not aligned", exc_vector(), VEC_GP);
    try_wrmsr(MSR_HSAVE, base + 2 * PAGE);
    tap_eq("VM_HSAVE_PA, a page of the hypervisor's", exc_vector(), VEC_NONE);
    wrmsr(MSR_HSAVE, this_cpu()->hsave);

    start(VM_SEV_ES, ASID_ES);
    vmsa = region();
    memcpy_((void *)vmsa, vmsa_saved, PAGE);
    F64(v.vmcb, C_VMSA) = vmsa;
    tap_eq("SEV-ES: VMSA elsewhere", outcome(vcpu_run(&v)), EXIT_DONE);
    restart();
    memcpy_((void *)vmsa, vmsa_saved, PAGE);
    must(rmpupdate(vmsa, 0, true, false, false, 0) == OK);
    F64(v.vmcb, C_VMSA) = vmsa;
    tap_eq("SEV-ES: VMSA is not the hypervisor's", outcome(vcpu_run(&v)),
           EXIT_INVALID);
}

/* -- accesses of guests that are not SNP guests --------------------------- */

#define T_GPA   (G_TEST + 3 * PAGE)
#define L_GPA   G_LARGE

static const struct {
    const char *name;
    void *fn;
    u64 gpa;
    u64 assigned;               /* offset of the assigned page, in 2M */
    u64 error;                  /* EXITINFO1 of #NPF; 0: it works */
} accesses[] = {
    { "4K: read", g_read, T_GPA, 0, 0 },
    { "4K: fetch", g_exec, T_GPA, 0, 0 },
    { "4K: write", g_write, T_GPA, 0,
      PF_P | PF_W | PF_U | PF_RMP | NPF_GPA },
    { "4K: write, another assigned", g_write, T_GPA, 5 * PAGE, 0 },
    { "2M: read", g_read, L_GPA, 0, 0 },
    { "2M: write, another assigned", g_write, L_GPA, 5 * PAGE,
      PF_P | PF_W | PF_U | PF_RMP | NPF_GPA },
    { "2M: read, another assigned", g_read, L_GPA, 5 * PAGE, 0 },
};

static void show(bool ok, const char *name, struct exit e, u64 want)
{
    tap(ok, name);
    if (!ok) {
        ml_printf("# got exit 0x%lx info1 0x%lx info2 0x%lx vector 0x%lx, "
                  "want info1 0x%lx\n", e.code, e.info1, e.info2,
                  v.req->exc.vector, want);
    }
}

static void go_on(struct exit e, u64 gpa)
{
    if (e.code == EXIT_NPF) {
        npt_map(&vm, gpa, region(), gpa == L_GPA ? LARGE : PAGE, NPT);
        e = vm_resume(&v);
    }
    must(e.code == EXIT_DONE);
}

static void test_access(const char *kind)
{
    u64 gpa = G_TEST + (G_TEST_PAGES - 1) * PAGE, base, want, mask;
    unsigned int i;
    struct exit e;

    /* Whether ENC is set for a guest that is not an SNP guest is not told */
    mask = vm.kind == VM_PLAIN ? ~0ULL : ~NPF_ENC;
    ml_printf("# %s guest\n", kind);
    for (i = 0; i < ARRAY_SIZE(accesses); i++) {
        bool ok;

        base = region();
        memset_((void *)base, 0xc3, LARGE);
        must(rmpupdate(base + accesses[i].assigned, 0, true, false, false,
                       0) == OK);
        npt_map(&vm, accesses[i].gpa, base,
                accesses[i].gpa == L_GPA ? LARGE : PAGE, NPT);
        e = vm_call(&v, accesses[i].fn, accesses[i].gpa, 0, 0, 0);
        if (accesses[i].error) {
            ok = e.code == EXIT_NPF &&
                 (e.info1 & mask) == accesses[i].error &&
                 e.info2 == accesses[i].gpa;
        } else {
            ok = e.code == EXIT_DONE && v.req->exc.vector == VEC_NONE;
        }
        show(ok, accesses[i].name, e, accesses[i].error);
        go_on(e, accesses[i].gpa);
    }

    /* The guest's page table; the walk is a write at this level */
    base = region();
    memcpy_((void *)base, (void *)(P_TEST + gpa - G_TEST), PAGE);
    must(rmpupdate(base, 0, true, false, false, 0) == OK);
    npt_map(&vm, gpa, base, PAGE, NPT);
    e = vm_call(&v, g_read, G_WALK, 0, 0, 0);
    want = PF_P | PF_W | PF_U | PF_RMP | NPF_WALK;
    show(e.code == EXIT_NPF && (e.info1 & mask) == want && e.info2 == gpa,
         "walk", e, want);
    npt_map(&vm, gpa, P_TEST + gpa - G_TEST, PAGE, NPT);
    must(vm_resume(&v).code == EXIT_DONE);

    /* A nested page table */
    base = region();
    F64(base, 0) = (base + PAGE) | NPT;
    npt_map(&vm, G_MMIO, base, LARGE, NPT);
    *npt_entry(&vm, G_MMIO) &= ~PTE_PS;
    e = vm_call(&v, g_read, G_MMIO, 0, 0, 0);
    must(e.code == EXIT_DONE && v.req->exc.vector == VEC_NONE);
    must(rmpupdate(base, 0, true, false, false, 0) == OK);
    e = vm_call(&v, g_read, G_MMIO, 0, 0, 0);
    want = PF_P | PF_RMP;
    show(e.code == EXIT_NPF && (e.info1 & want) == want && e.info2 == G_MMIO,
         "nested page table", e, want);
    must(rmpupdate(base, 0, false, false, false, 0) == OK);
    if (e.code == EXIT_NPF) {
        must(vm_resume(&v).code == EXIT_DONE);
    }
    npt_map(&vm, G_MMIO, 0, LARGE, 0);
}

/* -- the VMSA of an SEV-SNP guest ----------------------------------------- */

static const struct {
    const char *name;
    u32 type;                   /* as the firmware has it: 1 normal, 2 VMSA */
    u64 efer, features;
    u32 asid;                   /* in the VMCB */
    u64 want;
} vmsas[] = {
#define EFER    (EFER_LME | EFER_LMA | EFER_NXE | EFER_SVME)
    { "SNP: VMSA", 2, EFER, 1, ASID_SNP, EXIT_DONE },
    { "SNP: VMSA of another guest", 2, EFER, 1, ASID_SNP + 1, EXIT_INVALID },
    { "SNP: ASID for SEV only", 2, EFER, 1, 100, EXIT_INVALID },
    { "SNP: page that is not a VMSA", 1, EFER, 1, ASID_SNP, EXIT_INVALID },
    { "SNP: EFER.SVME clear", 2, EFER & ~EFER_SVME, 1, ASID_SNP,
      EXIT_INVALID },
    { "SNP: unknown SEV feature", 2, EFER, 1 | BIT(40), ASID_SNP,
      EXIT_INVALID },
    { "SNP: not SNP-active, but the page is a guest's", 2, EFER, 0, ASID_SNP,
      EXIT_INVALID },
};

/* Two more that are right */
#define NR_VMSAS    (ARRAY_SIZE(vmsas) + 2)

static u64 vmsa_page[NR_VMSAS];

static void launch_more(struct vm *m)
{
    unsigned int i;

    for (i = 0; i < NR_VMSAS; i++) {
        u64 page = region() + PAGE, like = i < ARRAY_SIZE(vmsas) ? i : 0;

        vmsa_page[i] = page;
        save_init((void *)page, VM_SNP, CPU_GUEST);
        F64(page, S_EFER) = vmsas[like].efer;
        F64(page, S_SEV_FEATURES) = vmsas[like].features;
        must(snp_launch_page(m, page, 0xfffffffff000ULL, false,
                             vmsas[like].type) == OK);
    }
}

static void test_vmsa(void)
{
    unsigned int i;
    u64 page;

    start(VM_SNP, ASID_SNP);
    snp_launch_more = launch_more;
    snp_launch(&vm, &v);
    for (i = 0; i < ARRAY_SIZE(vmsas); i++) {
        F64(v.vmcb, C_VMSA) = vmsa_page[i];
        F32(v.vmcb, C_ASID) = vmsas[i].asid;
        tap_eq(vmsas[i].name, outcome(vcpu_run(&v)), vmsas[i].want);
    }
    F32(v.vmcb, C_ASID) = ASID_SNP;

    F64(v.vmcb, C_VMSA) = vmsa_page[NR_VMSAS - 2];
    F64(v.vmcb, C_NESTED) = NESTED_SEV | NESTED_ES;
    tap_eq("SNP: nested paging off", outcome(vcpu_run(&v)), EXIT_INVALID);
    F64(v.vmcb, C_NESTED) = NESTED_NP | NESTED_SEV | NESTED_ES;
    F64(v.vmcb, C_LBRV) = 0;
    tap_eq("SNP: LBR virtualization off", outcome(vcpu_run(&v)), EXIT_INVALID);
    F64(v.vmcb, C_LBRV) = 1;
    page = vmsa_page[NR_VMSAS - 1];
    F64(v.vmcb, C_VMSA) = page;
    tap_eq("SNP: VMSA, again", outcome(vcpu_run(&v)), EXIT_DONE);
    F64(v.vmcb, C_VMSA) = vm.gctx;
    tap_eq("SNP: VMSA is a guest context", outcome(vcpu_run(&v)),
           EXIT_INVALID);

    F64(v.vmcb, C_VMSA) = page;
    must(rmpupdate(page, 0xfffffffff000ULL, true, false, true, ASID_SNP) ==
         OK);
    tap_eq("SNP: VMSA is immutable", outcome(vcpu_run(&v)), EXIT_INVALID);
    page = region();
    save_init((void *)page, VM_SNP, CPU_GUEST);
    F64(v.vmcb, C_VMSA) = page;
    tap_eq("SNP: VMSA is the hypervisor's", outcome(vcpu_run(&v)),
           EXIT_INVALID);
    F64(v.vmcb, C_VMSA) = v.vmsa;
    tap_eq("SNP: the first vCPU goes on", vm_call(&v, g_nop, 0, 0, 0, 0).code,
           EXIT_DONE);
}

int main(void)
{
    lib_init();
    if (!ap_start()) {
        bail("needs two processors");
    }
    svm_enable();
    snp_enable();
    test_fields();
    test_pages();
    start(VM_PLAIN, 1);
    must(vm_resume(&v).code == EXIT_DONE);
    test_access("ordinary");
    start(VM_SEV, ASID_SEV);
    must(vm_resume(&v).code == EXIT_DONE);
    test_access("SEV");
    start(VM_SEV_ES, ASID_ES);
    must(vm_resume(&v).code == EXIT_DONE);
    test_access("SEV-ES");
    snp_firmware_init();
    test_vmsa();
    return tap_end();
}
