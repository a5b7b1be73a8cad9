/*
 * Guests with encrypted memory and encrypted state: SEV and SEV-ES
 *
 * A SEV guest's page tables say by the C-bit which memory is private. Here
 * the C-bit stays in the guest-physical address that the second stage
 * translates: private and shared views of a page have TLB entries of their
 * own, and it is taken off there.
 *
 * A SEV-ES guest's registers are in the VMSA, a page with the layout of the
 * VMCB's save area and more. They are loaded from there by VMRUN and stored
 * by #VMEXIT; of the host's, those that VMSAVE does not cover come back from
 * the host save area (APM volume 2, section 15.35.8 and table B-3). Only some
 * events leave such a guest ("automatic exits"); all others are #VC in it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/helper-proto.h"
#include "exec/cpu_ldst.h"
#include "tcg/helper-tcg.h"
#include "target/i386/rmp.h"

/* VMSA, APM volume 2, table B-4; rAX to R15 in the order of their numbers */
static const uint16_t vmsa_gpr[CPU_NB_REGS64] = {
    0x1f8, 0x308, 0x310, 0x318, 0x1d8, 0x328, 0x330, 0x338,
    0x340, 0x348, 0x350, 0x358, 0x360, 0x368, 0x370, 0x378,
};

#define VMSA_VMPL           0x0ca
#define VMSA_G_PAT          0x268
#define VMSA_PKRU           0x2e8
#define VMSA_SEV_FEATURES   0x3b0
#define VMSA_XCR0           0x3e8
#define VMSA_MXCSR          0x408
#define VMSA_X87_FTW        0x40c
#define VMSA_X87_FSW        0x40e
#define VMSA_X87_FCW        0x410
#define VMSA_X87_LOW        0x420   /* 8 x 8 bytes, then 8 x 2 bytes */
#define VMSA_X87_HIGH       0x460
#define VMSA_XMM            0x470
#define VMSA_YMM            0x570

/* Within the pages, what VMLOAD and VMSAVE find in a VMCB's save area */
#define SAVE(f)             offsetof(struct vmcb_save_area, f)

static uint64_t vmsa_ldq(CPUX86State *env, hwaddr offset)
{
    return x86_ldq_phys(env_cpu(env), env->sev.vmsa + offset);
}

static uint64_t xcr0_supported(CPUX86State *env)
{
    return env->features[FEAT_XSAVE_XCR0_LO] |
           (uint64_t)env->features[FEAT_XSAVE_XCR0_HI] << 32;
}

/* The rules of XSETBV */
static bool xcr0_valid(CPUX86State *env, uint64_t xcr0)
{
    return (xcr0 & XSTATE_FP_MASK) && !(xcr0 & ~xcr0_supported(env)) &&
           ((xcr0 & XSTATE_SSE_MASK) || !(xcr0 & XSTATE_YMM_MASK)) &&
           !(xcr0 & XSTATE_BNDREGS_MASK) == !(xcr0 & XSTATE_BNDCSR_MASK);
}

/*
 * The memory checks of the VMSA, with the page marked as in use if they are
 * passed; APM volume 2, section 15.36.12
 */
static bool vmsa_enter(CPUX86State *env, bool snp, uint64_t *exit_code)
{
    hwaddr pa = env->sev.vmsa;
    RMPEntry e;

    *exit_code = SVM_EXIT_ERR;
    if (!(env->msr_syscfg & MSR_AMD_SYSCFG_SNP_EN)) {
        return !snp;
    }
    if (!rmp_begin_use(pa, &e)) {
        *exit_code = SVM_EXIT_BUSY;
        return false;
    }
    if (snp ? rmp_covers(pa) && e.assigned && e.vmsa && !e.immutable &&
              e.validated && !e.large && e.asid == env->sev.asid :
              !e.assigned) {
        return true;
    }
    rmp_end_use(pa);
    return false;
}

/*
 * sev_vmrun: the part of VMRUN that concerns encrypted guests
 *
 * Returns the address to take for the VMCB where the guest's state is meant:
 * with encrypted state, that is in the VMSA. Exits if the processor refuses
 * the guest.
 */
hwaddr sev_vmrun(CPUX86State *env, uint64_t nested_ctl, uint32_t asid)
{
    CPUState *cs = env_cpu(env);
    hwaddr vmcb = env->vm_vmcb;
    uint64_t exit_code = SVM_EXIT_ERR;
    bool es = nested_ctl & SVM_SEV_ES_ENABLED;

    memset(&env->sev, 0, sizeof(env->sev));
    if (!env_archcpu(env)->sev_host || !(nested_ctl & SVM_SEV_ENABLED)) {
        if (env_archcpu(env)->sev_host && es) {
            cpu_vmexit(env, SVM_EXIT_ERR, 0, 0);
        }
        return vmcb;
    }
    if (!(env->msr_syscfg & MSR_AMD_SYSCFG_MEM_ENC) ||
        !(nested_ctl & SVM_NPT_ENABLED) || asid > SEV_HOST_ASIDS ||
        es != (asid < SEV_HOST_MIN_ASID)) {
        cpu_vmexit(env, SVM_EXIT_ERR, 0, 0);
    }
    env->sev.asid = asid;
    if (es) {
        uint32_t lbr_ctl = x86_ldl_phys(cs, vmcb + offsetof(struct vmcb,
                                                            control.lbr_ctl));
        uint64_t features;
        bool snp;

        env->sev.vmsa = x86_ldq_phys(cs, vmcb + offsetof(struct vmcb,
                                                         control.vmsa_pa));
        if (!(lbr_ctl & SVM_LBR_ENABLED) ||
            (env->sev.vmsa & ~MAKE_64BIT_MASK(12,
                                    env_archcpu(env)->phys_bits - 12))) {
            cpu_vmexit(env, SVM_EXIT_ERR, 0, 0);
        }
        features = vmsa_ldq(env, VMSA_SEV_FEATURES);
        snp = features & SEV_FEATURES_SNP;
        if ((features & ~SEV_FEATURES_SNP) ||
            !xcr0_valid(env, vmsa_ldq(env, VMSA_XCR0)) ||
            !vmsa_enter(env, snp, &exit_code)) {
            cpu_vmexit(env, exit_code, 0, 0);
        }
        env->sev.es = true;
        env->sev.snp = snp;
        env->sev.features = features;
        env->sev.vmpl = x86_ldub_phys(cs, env->sev.vmsa + VMSA_VMPL) &
                        (RMP_VMPLS - 1);
        env->sev.ghcb = x86_ldq_phys(cs, vmcb + offsetof(struct vmcb,
                                                         control.ghcb_gpa));
    }
    env->sev.active = true;
    env->sev.cbit = 1ULL << SEV_HOST_CBIT;
    return es ? env->sev.vmsa - offsetof(struct vmcb, save) : vmcb;
}

static void load_syscall_state(CPUX86State *env, hwaddr page)
{
    CPUState *cs = env_cpu(env);

    svm_load_seg_cache(env, MMU_PHYS_IDX, page + SAVE(fs), R_FS);
    svm_load_seg_cache(env, MMU_PHYS_IDX, page + SAVE(gs), R_GS);
    svm_load_seg(env, MMU_PHYS_IDX, page + SAVE(tr), &env->tr);
    svm_load_seg(env, MMU_PHYS_IDX, page + SAVE(ldtr), &env->ldt);
#ifdef TARGET_X86_64
    env->kernelgsbase = x86_ldq_phys(cs, page + SAVE(kernel_gs_base));
    env->lstar = x86_ldq_phys(cs, page + SAVE(lstar));
    env->cstar = x86_ldq_phys(cs, page + SAVE(cstar));
    env->fmask = x86_ldq_phys(cs, page + SAVE(sfmask));
#endif
    env->star = x86_ldq_phys(cs, page + SAVE(star));
    env->sysenter_cs = x86_ldq_phys(cs, page + SAVE(sysenter_cs));
    env->sysenter_esp = x86_ldq_phys(cs, page + SAVE(sysenter_esp));
    env->sysenter_eip = x86_ldq_phys(cs, page + SAVE(sysenter_eip));
}

static void save_syscall_state(CPUX86State *env, hwaddr page)
{
    CPUState *cs = env_cpu(env);

    svm_save_seg(env, MMU_PHYS_IDX, page + SAVE(fs), &env->segs[R_FS]);
    svm_save_seg(env, MMU_PHYS_IDX, page + SAVE(gs), &env->segs[R_GS]);
    svm_save_seg(env, MMU_PHYS_IDX, page + SAVE(tr), &env->tr);
    svm_save_seg(env, MMU_PHYS_IDX, page + SAVE(ldtr), &env->ldt);
#ifdef TARGET_X86_64
    x86_stq_phys(cs, page + SAVE(kernel_gs_base), env->kernelgsbase);
    x86_stq_phys(cs, page + SAVE(lstar), env->lstar);
    x86_stq_phys(cs, page + SAVE(cstar), env->cstar);
    x86_stq_phys(cs, page + SAVE(sfmask), env->fmask);
#endif
    x86_stq_phys(cs, page + SAVE(star), env->star);
    x86_stq_phys(cs, page + SAVE(sysenter_cs), env->sysenter_cs);
    x86_stq_phys(cs, page + SAVE(sysenter_esp), env->sysenter_esp);
    x86_stq_phys(cs, page + SAVE(sysenter_eip), env->sysenter_eip);
}

static void load_gprs(CPUX86State *env, hwaddr page)
{
    for (int i = 0; i < CPU_NB_REGS; i++) {
        env->regs[i] = x86_ldq_phys(env_cpu(env), page + vmsa_gpr[i]);
    }
}

static void load_xcr0(CPUX86State *env, uint64_t xcr0)
{
    /* The page may have changed since it was checked */
    env->xcr0 = (xcr0 & xcr0_supported(env)) | XSTATE_FP_MASK;
    cpu_sync_bndcs_hflags(env);
    cpu_sync_avx_hflag(env);
}

static void load_fpu(CPUX86State *env, hwaddr page)
{
    CPUState *cs = env_cpu(env);
    uint16_t fsw = x86_lduw_phys(cs, page + VMSA_X87_FSW);
    uint16_t ftw = x86_lduw_phys(cs, page + VMSA_X87_FTW);

    cpu_set_mxcsr(env, x86_ldl_phys(cs, page + VMSA_MXCSR));
    cpu_set_fpuc(env, x86_lduw_phys(cs, page + VMSA_X87_FCW));
    env->fpus = fsw & ~0x3800;
    env->fpstt = extract16(fsw, 11, 3);
    for (int i = 0; i < 8; i++) {
        floatx80 *st = &env->fpregs[(env->fpstt + i) & 7].d;

        env->fptags[i] = !extract16(ftw, i, 1);
        st->low = x86_ldq_phys(cs, page + VMSA_X87_LOW + i * 8);
        st->high = x86_lduw_phys(cs, page + VMSA_X87_HIGH + i * 2);
    }
    for (int i = 0; i < CPU_NB_REGS; i++) {
        for (int j = 0; j < 2; j++) {
            env->xmm_regs[i].ZMM_Q(j) =
                x86_ldq_phys(cs, page + VMSA_XMM + i * 16 + j * 8);
            env->xmm_regs[i].ZMM_Q(j + 2) =
                x86_ldq_phys(cs, page + VMSA_YMM + i * 16 + j * 8);
        }
    }
}

static void save_fpu(CPUX86State *env, hwaddr page)
{
    CPUState *cs = env_cpu(env);
    uint16_t ftw = 0;

    x86_stl_phys(cs, page + VMSA_MXCSR, env->mxcsr);
    x86_stw_phys(cs, page + VMSA_X87_FCW, env->fpuc);
    x86_stw_phys(cs, page + VMSA_X87_FSW,
                 (env->fpus & ~0x3800) | (env->fpstt & 7) << 11);
    for (int i = 0; i < 8; i++) {
        floatx80 *st = &env->fpregs[(env->fpstt + i) & 7].d;

        ftw |= !env->fptags[i] << i;
        x86_stq_phys(cs, page + VMSA_X87_LOW + i * 8, st->low);
        x86_stw_phys(cs, page + VMSA_X87_HIGH + i * 2, st->high);
    }
    x86_stw_phys(cs, page + VMSA_X87_FTW, ftw);
    for (int i = 0; i < CPU_NB_REGS; i++) {
        for (int j = 0; j < 2; j++) {
            x86_stq_phys(cs, page + VMSA_XMM + i * 16 + j * 8,
                         env->xmm_regs[i].ZMM_Q(j));
            x86_stq_phys(cs, page + VMSA_YMM + i * 16 + j * 8,
                         env->xmm_regs[i].ZMM_Q(j + 2));
        }
    }
}

/* The guest's state beyond what VMRUN loads for every guest */
void sev_es_load(CPUX86State *env)
{
    x86_stq_phys(env_cpu(env), env->vm_hsave + offsetof(struct vmcb, save) +
                 VMSA_G_PAT, env->pat);
    load_syscall_state(env, env->sev.vmsa);
    load_gprs(env, env->sev.vmsa);
    env->pat = vmsa_ldq(env, VMSA_G_PAT);
    env->pkru = x86_ldl_phys(env_cpu(env), env->sev.vmsa + VMSA_PKRU);
    load_xcr0(env, vmsa_ldq(env, VMSA_XCR0));
    load_fpu(env, env->sev.vmsa);
    env->sev.loaded = true;
}

/* The host's state, of which the guest's has taken the place */
static void sev_es_load_host(CPUX86State *env)
{
    CPUState *cs = env_cpu(env);
    hwaddr host = env->vm_hsave + offsetof(struct vmcb, save);

    load_syscall_state(env, host);
    load_gprs(env, host);
    env->pat = x86_ldq_phys(cs, host + VMSA_G_PAT);
    env->pkru = x86_ldl_phys(cs, host + VMSA_PKRU);
    load_xcr0(env, x86_ldq_phys(cs, host + VMSA_XCR0));
    cpu_set_fpuc(env, 0x37f);
    cpu_set_mxcsr(env, 0x1f80);
    env->fpus = 0;
    env->fpstt = 0;
    memset(env->fptags, 1, sizeof(env->fptags));
    memset(env->xmm_regs, 0, sizeof(env->xmm_regs));
}

/* #VMEXIT: the guest's state goes back to its page */
static void sev_es_exit(CPUX86State *env)
{
    CPUState *cs = env_cpu(env);
    hwaddr vmsa = env->sev.vmsa, vmcb = env->vm_vmcb;
    hwaddr int_state = vmcb + offsetof(struct vmcb, control.int_state);

    x86_stq_phys(cs, vmcb + offsetof(struct vmcb, control.ghcb_gpa),
                 env->sev.ghcb);
    x86_stl_phys(cs, int_state, x86_ldl_phys(cs, int_state) |
                 (env->eflags & IF_MASK ? SVM_GUEST_INTERRUPT_MASK : 0));
    for (int i = 0; i < CPU_NB_REGS; i++) {
        x86_stq_phys(cs, vmsa + vmsa_gpr[i], env->regs[i]);
    }
    save_syscall_state(env, vmsa);
    x86_stq_phys(cs, vmsa + VMSA_G_PAT, env->pat);
    x86_stl_phys(cs, vmsa + VMSA_PKRU, env->pkru);
    x86_stq_phys(cs, vmsa + VMSA_XCR0, env->xcr0);
    save_fpu(env, vmsa);
    sev_es_load_host(env);
}

/* The part of #VMEXIT; a guest that was refused leaves nothing behind */
void sev_vmexit(CPUX86State *env)
{
    if (env->sev.es) {
        if (env->sev.loaded) {
            sev_es_exit(env);
        }
        rmp_end_use(env->sev.vmsa);
    }
    memset(&env->sev, 0, sizeof(env->sev));
}

/*
 * INIT ends a guest without #VMEXIT: it must not leave its pages in use, nor
 * its registers in what INIT preserves
 */
void x86_guest_lost(CPUX86State *env)
{
    if (env->sev.es) {
        if (env->sev.loaded) {
            sev_es_load_host(env);
        }
        rmp_end_use(env->sev.vmsa);
    }
    if (env->msr_syscfg & MSR_AMD_SYSCFG_SNP_EN) {
        rmp_end_use(env->vm_vmcb);
    }
}

/*
 * The events by which a SEV-ES guest leaves to the hypervisor; APM volume 2,
 * table 15-33. For MMIO see raise_stage2().
 */
bool sev_es_automatic_exit(uint64_t exit_code)
{
    switch (exit_code) {
    case SVM_EXIT_EXCP_BASE + EXCP12_MCHK:
    case SVM_EXIT_INTR ... SVM_EXIT_VINTR:
    case SVM_EXIT_PAUSE:
    case SVM_EXIT_HLT:
    case SVM_EXIT_SHUTDOWN:
    case SVM_EXIT_EFER_WRITE_TRAP:
    case SVM_EXIT_CR0_WRITE_TRAP ... SVM_EXIT_CR0_WRITE_TRAP + 15:
    case SVM_EXIT_NPF:
    case SVM_EXIT_VMGEXIT:
        return true;
    }
    return (int64_t)exit_code < 0;
}

/* A write of CRn or EFER is done: tell the hypervisor, if it wants to know */
void sev_es_write_trap(CPUX86State *env, uint32_t exit_code, uint64_t value,
                       uintptr_t ra)
{
    if (env->sev.es && cpu_svm_has_intercept(env, exit_code)) {
        cpu_restore_state(env_cpu(env), ra);
        svm_skip_instruction(env);
        cpu_vmexit(env, exit_code, value, 0);
    }
}

/* MSRs that belong to the guest, and cannot be intercepted */
bool sev_guest_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *value)
{
    if (env->sev.active && msr == MSR_AMD_SEV_STATUS) {
        *value = 1 | (env->sev.es ? 2 : 0) | (env->sev.snp ? 4 : 0) |
                 (env->sev.features & ~SEV_FEATURES_SNP) << 2;
        return true;
    }
    if (env->sev.es && msr == MSR_AMD_GHCB) {
        *value = env->sev.ghcb;
        return true;
    }
    return false;
}

bool sev_guest_wrmsr(CPUX86State *env, uint32_t msr, uint64_t value)
{
    if (env->sev.es && msr == MSR_AMD_GHCB) {
        env->sev.ghcb = value;
        return true;
    }
    return false;
}

void helper_vmgexit(CPUX86State *env)
{
    CPUState *cs = env_cpu(env);

    if (!env->sev.es) {
        helper_vmmcall(env);
        return;
    }
    cpu_restore_state(cs, GETPC());
    svm_skip_instruction(env);
    cpu_vmexit(env, SVM_EXIT_VMGEXIT, 0, 0);
}
