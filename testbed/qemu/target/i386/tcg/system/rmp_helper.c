/*
 * The hypervisor's instructions on the reverse map table: RMPUPDATE, PSMASH
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/helper-proto.h"
#include "exec/cpu_ldst.h"
#include "tcg/helper-tcg.h"
#include "target/i386/rmp.h"
#include "target/i386/trace.h"

/* The flags follow EAX as if by TEST */
void rmp_set_status(CPUX86State *env, int status)
{
    env->regs[R_EAX] = status;
    CC_SRC = (status ? 0 : CC_Z) | (ctpop8(status) & 1 ? 0 : CC_P);
    CC_OP = CC_OP_EFLAGS;
}

static void check_hypervisor(CPUX86State *env, uintptr_t ra)
{
    if (!(env->msr_syscfg & MSR_AMD_SYSCFG_SNP_EN) ||
        (env->hflags & HF_GUEST_MASK)) {
        raise_exception_ra(env, EXCP06_ILLOP, ra);
    }
}

/*
 * RMPUPDATE: rAX is a system physical address, rCX that of a new entry in
 * memory; APM volume 3
 */
void helper_rmpupdate(CPUX86State *env)
{
    uintptr_t ra = GETPC();
    hwaddr pa = env->regs[R_EAX];
    vaddr p = env->regs[R_ECX];
    RMPEntry e = { 0 };
    int r;

    check_hypervisor(env, ra);
    e.gpa = cpu_ldq_data_ra(env, p, ra);
    e.assigned = cpu_ldub_data_ra(env, p + 8, ra) & 1;
    e.large = cpu_ldub_data_ra(env, p + 9, ra) & 1;
    e.immutable = cpu_ldub_data_ra(env, p + 10, ra) & 1;
    e.asid = cpu_ldl_data_ra(env, p + 12, ra);
    r = rmp_update(pa, &e);
    trace_rmpupdate(pa, e.gpa, e.assigned, e.large, e.immutable, e.asid, r);
    rmp_set_status(env, r);
}

void helper_psmash(CPUX86State *env)
{
    hwaddr pa = env->regs[R_EAX];
    int r;

    check_hypervisor(env, GETPC());
    r = rmp_smash(pa);
    trace_psmash(pa, r);
    rmp_set_status(env, r);
}

void helper_wbinvd(CPUX86State *env)
{
    x86_cache_written_back(env);
}
