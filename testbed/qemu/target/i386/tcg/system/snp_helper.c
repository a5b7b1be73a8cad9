/*
 * SEV-SNP guests: the checks of their accesses, PVALIDATE and RMPADJUST
 *
 * References: APM volume 2, sections 15.36.7 to 15.36.10, and volume 3.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/helper-proto.h"
#include "exec/page-protection.h"
#include "tcg/helper-tcg.h"
#include "target/i386/rmp.h"
#include "target/i386/trace.h"

static bool snp_owns(CPUX86State *env, hwaddr gpa, const RMPEntry *e)
{
    return e->assigned && e->asid == env->sev.asid && !e->immutable &&
           e->gpa == QEMU_ALIGN_DOWN(gpa, RMP_PAGE_SIZE);
}

/* What a VMPL may do with a page, as PAGE_...; exec: by user or supervisor */
static int vmpl_prot(uint8_t perms)
{
    if ((perms & RMP_PERM_WRITE) && !(perms & RMP_PERM_READ)) {
        return 0;
    }
    return (perms & RMP_PERM_READ ? PAGE_READ : 0) |
           (perms & RMP_PERM_WRITE ? PAGE_WRITE : 0) |
           (perms & (RMP_PERM_EXEC_USER | RMP_PERM_EXEC_SUP) ? PAGE_EXEC : 0);
}

/*
 * snp_check_access: may the running SNP guest do that?
 * @addr: guest-physical address, with the C-bit
 * @pa: where the nested page tables map it
 * @page_size: with a page of how many bytes
 * @prot: what they allow; loses what the reverse map table forbids
 *
 * Returns 0, or bits of EXITINFO1, or SNP_NOT_VALIDATED.
 */
uint64_t snp_check_access(CPUX86State *env, hwaddr addr, hwaddr pa,
                          int page_size, MMUAccessType access_type, int *prot)
{
    hwaddr gpa = addr & ~env->sev.cbit;
    RMPEntry e;
    bool covered = rmp_get(pa, &e);
    int allowed;

    if (!(addr & env->sev.cbit)) {
        if (rmp_write_denied(pa, page_size)) {
            *prot &= ~PAGE_WRITE;
            return access_type == MMU_DATA_STORE ? PG_ERROR_RMP_MASK : 0;
        }
        return 0;
    }
    if (!covered || !snp_owns(env, gpa, &e) ||
        e.large != (page_size >= RMP_LARGE_SIZE)) {
        return PG_ERROR_RMP_MASK;
    }
    if (!e.validated) {
        return SNP_NOT_VALIDATED;
    }
    allowed = vmpl_prot(e.perms[env->sev.vmpl]);
    if (e.vmsa) {
        allowed &= ~PAGE_WRITE;     /* only the processor writes there */
    }
    *prot &= allowed;
    return allowed & (1 << access_type) ?
           0 : PG_ERROR_RMP_MASK | SVM_NPTEXIT_VMPL;
}

/* The same check's last part: a VMPL's user and supervisor code differ */
bool snp_may_execute(CPUX86State *env, hwaddr pa, bool is_user)
{
    RMPEntry e;

    return rmp_get(pa, &e) && (e.perms[env->sev.vmpl] &
                               (is_user ? RMP_PERM_EXEC_USER :
                                          RMP_PERM_EXEC_SUP));
}

/*
 * The page that rAX and rCX name, which has to be the guest's and mutable; its
 * entry is @e. Returns false, with @status set, if the instruction fails.
 */
static bool snp_operand(CPUX86State *env, SNPOperand *op, RMPEntry *e,
                        int *status, uintptr_t ra)
{
    bool large = env->regs[R_ECX] & 1;
    hwaddr size = large ? RMP_LARGE_SIZE : RMP_PAGE_SIZE;
    /* The offset in a 4 KiB page does not matter; OVMF leaves it there */
    vaddr addr = env->regs[R_EAX] & ~(vaddr)(RMP_PAGE_SIZE - 1);
    bool npt_large;

    if (!(env->hflags & HF_CS64_MASK)) {
        addr = (uint32_t)addr;
    } else if (addr != sextract64(addr, 0, cpu_x86_virtual_addr_width(env))) {
        raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
    }
    if ((addr & (size - 1)) || (uint32_t)env->regs[R_ECX] > 1) {
        *status = RMP_FAIL_INPUT;
        return false;
    }
    x86_translate_snp_operand(env, addr, op, ra);
    npt_large = op->npt_size >= RMP_LARGE_SIZE;
    /* The guest may map a 2 MiB address with 4 KiB pages to anywhere */
    if (large && (!npt_large ||
                  ((op->gpa & ~env->sev.cbit) & (RMP_LARGE_SIZE - 1)))) {
        *status = PVALIDATE_FAIL_SIZEMISMATCH;
        return false;
    }
    if (!(op->gpa & env->sev.cbit) || !rmp_get(op->pa, e) ||
        !snp_owns(env, op->gpa & ~env->sev.cbit, e)) {
        snp_raise_npf(env, op->gpa, PG_ERROR_RMP_MASK, ra);
    }
    if (e->large && !large) {
        snp_raise_npf(env, op->gpa, PG_ERROR_RMP_MASK | SVM_NPTEXIT_SIZEM, ra);
    }
    if (large && !e->large) {
        *status = PVALIDATE_FAIL_SIZEMISMATCH;
        return false;
    }
    if (npt_large && !e->large) {
        snp_raise_npf(env, op->gpa, PG_ERROR_RMP_MASK, ra);
    }
    return true;
}

/*
 * Take the lock to change the operand's entry. The hypervisor may have changed
 * it since it was checked: the guest tries again then.
 */
static void snp_operand_lock(CPUX86State *env, const SNPOperand *op,
                             RMPEntry *e, uintptr_t ra)
{
    bool large = e->large;

    rmp_lock();
    if (!rmp_get(op->pa, e) || e->large != large ||
        !snp_owns(env, op->gpa & ~env->sev.cbit, e)) {
        rmp_unlock();
        snp_raise_npf(env, op->gpa, PG_ERROR_RMP_MASK, ra);
    }
}

static void check_snp_guest(CPUX86State *env, uintptr_t ra)
{
    if (!env->sev.snp) {
        raise_exception_ra(env, EXCP06_ILLOP, ra);
    }
}

void helper_pvalidate(CPUX86State *env)
{
    uintptr_t ra = GETPC();
    bool validate = env->regs[R_EDX] & 1;
    bool unchanged = false;
    int status = RMP_OK;
    SNPOperand op;
    RMPEntry e;

    check_snp_guest(env, ra);
    if (env->sev.vmpl) {
        raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
    }
    if (snp_operand(env, &op, &e, &status, ra)) {
        snp_operand_lock(env, &op, &e, ra);
        if (e.in_use && !validate) {
            status = RMP_FAIL_INUSE;
        } else if (e.validated == validate) {
            unchanged = true;
        } else {
            e.validated = validate;
            rmp_set(op.pa, &e);
        }
        rmp_unlock();
        if (!validate && !unchanged) {
            rmp_flush();
        }
        trace_pvalidate(op.gpa & ~env->sev.cbit, op.pa, e.large, validate,
                        unchanged, status);
    }
    rmp_set_status(env, status);
    if (unchanged) {
        CC_SRC |= CC_C;
    }
}

void helper_rmpadjust(CPUX86State *env)
{
    uintptr_t ra = GETPC();
    unsigned vmpl = extract32(env->regs[R_EDX], 0, 8);
    uint8_t perms = extract32(env->regs[R_EDX], 8, 8);
    bool vmsa = extract32(env->regs[R_EDX], 16, 1);
    int status = RMP_OK;
    SNPOperand op;
    RMPEntry e;

    check_snp_guest(env, ra);
    if (vmpl >= RMP_VMPLS) {
        rmp_set_status(env, RMP_FAIL_INPUT);
        return;
    }
    if (snp_operand(env, &op, &e, &status, ra)) {
        snp_operand_lock(env, &op, &e, ra);
        if (!e.validated) {
            rmp_unlock();
            snp_raise_npf(env, op.gpa, SNP_NOT_VALIDATED, ra);
        }
        if (vmpl <= env->sev.vmpl || (perms & ~e.perms[env->sev.vmpl])) {
            status = RMP_FAIL_PERMISSION;
        } else if (vmsa && e.large) {
            status = RMP_FAIL_INPUT;
        } else if (e.in_use) {
            status = RMP_FAIL_INUSE;
        } else {
            e.perms[vmpl] = perms;
            if (!env->sev.vmpl) {
                e.vmsa = vmsa;
            }
            rmp_set(op.pa, &e);
        }
        rmp_unlock();
        if (status == RMP_OK) {
            rmp_flush();
        }
        trace_rmpadjust(op.gpa & ~env->sev.cbit, op.pa, e.large, vmpl, perms,
                        vmsa, status);
    }
    rmp_set_status(env, status);
}
