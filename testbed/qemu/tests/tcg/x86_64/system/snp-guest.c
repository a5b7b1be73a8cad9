/*
 * An SEV-SNP guest: the checks of its accesses, PVALIDATE, RMPADJUST, and the
 * privilege levels (VMPL)
 *
 * AMD64 APM volume 2, 15.36.3 to 15.36.10; volume 3, "PVALIDATE", "RMPADJUST".
 * The guest is launched by the firmware.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "snp-lib.h"

#define ASID        5
#define UNCOVERED   BIT(40)
#define ANY         (~0ULL)

static struct vm vm;
static struct vcpu v0, v1;

/* The page that most cases use, and how the guest sees it */
#define INDEX       3
#define T_GPA       (G_TEST + INDEX * PAGE)
#define NPT         (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)

#define NPF_R       (PF_P | PF_U | NPF_GPA | NPF_ENC)
#define NPF_W       (NPF_R | PF_W)
#define NPF_X       (NPF_R | PF_I)
#define NPF_PT      (PF_P | PF_U | PF_W | NPF_WALK | NPF_ENC)
#define SHARED      G_PUBLIC

/* How the page is backed */
enum state {
    VALID,          /* in all respects the guest's: what it was launched with */
    HV,             /* the hypervisor's */
    HV_NPT2M,       /* the same, mapped with 2M, of which a page is assigned */
    HV_NPT2M_FREE,  /* the same, of which none is assigned */
    UNVALIDATED,    /* the guest's, but it has not accepted it */
    REVALIDATED,    /* not launched, but accepted */
    RESCINDED,      /* accepted, then not any more */
    OTHER_ASID,
    OTHER_GPA,
    IMMUTABLE,
    FIRMWARE,
    NOT_COVERED,
    NPT_ABSENT,
    NPT_RO,         /* VALID, but the nested mapping is read-only */
    HV_NPT_RO,
    UNVALIDATED_NPT_RO,
    /* the rest is 2M in the guest: G_LARGE */
    LARGE_VALID,
    LARGE_UNVALIDATED,
    LARGE_REVALIDATED,
    LARGE_NPT4K,    /* accepted, 2M in the RMP, 4K in the nested tables */
    LARGE_NPT4K_UNVALIDATED,
    LARGE_RMP4K,    /* 4K in the RMP, 2M in the nested tables */
    LARGE_BOTH4K,   /* 4K in both; the first page is accepted */
    LARGE_BOTH4K_UNVALIDATED,
    LARGE_HV,
    LARGE_SMASHED,  /* accepted as 2M; PSMASH and 4K nested mappings since */
};

/* The system-physical address behind the page in the last case */
static u64 backing;

static u32 guest_pvalidate(u64 va, u64 size, u64 on)
{
    must(vm_call(&v0, g_pvalidate, va, size, on, 0).code == EXIT_DONE);
    must(v0.req->res.vector == VEC_NONE);
    return v0.req->res.eax;
}

static void map_4k_of_large(u64 base)
{
    u64 a;

    for (a = 0; a < LARGE; a += PAGE) {
        npt_map(&vm, G_LARGE + a, base + a, PAGE, NPT);
    }
}

static void set_state(enum state s)
{
    u64 base = region(), flags = NPT;

    backing = base;
    switch (s) {
    case VALID:
    case NPT_RO:
        backing = P_TEST + INDEX * PAGE;
        flags &= s == NPT_RO ? ~PTE_W : ~0;
        break;
    case HV:
        break;
    case HV_NPT_RO:
        flags &= ~PTE_W;
        break;
    case HV_NPT2M:
        must(rmpupdate(base + 9 * PAGE, 0, true, false, false, 0) == OK);
        /* fall through */
    case HV_NPT2M_FREE:
    case LARGE_HV:
        npt_map(&vm, G_LARGE, base, LARGE, NPT);
        return;
    case UNVALIDATED_NPT_RO:
        flags &= ~PTE_W;
        /* fall through */
    case UNVALIDATED:
        must(rmpupdate(base, T_GPA, true, false, false, ASID) == OK);
        break;
    case REVALIDATED:
    case RESCINDED:
        must(rmpupdate(base, T_GPA, true, false, false, ASID) == OK);
        npt_map(&vm, T_GPA, base, PAGE, NPT);
        must(guest_pvalidate(T_GPA, 0, 1) == OK);
        if (s == RESCINDED) {
            must(guest_pvalidate(T_GPA, 0, 0) == OK);
        }
        return;
    case OTHER_ASID:
        must(rmpupdate(base, T_GPA, true, false, false, ASID + 1) == OK);
        break;
    case OTHER_GPA:
        must(rmpupdate(base, T_GPA + PAGE, true, false, false, ASID) == OK);
        break;
    case IMMUTABLE:
        must(rmpupdate(base, T_GPA, true, false, true, ASID) == OK);
        break;
    case FIRMWARE:
        must(rmpupdate(base, 0, true, false, true, 0) == OK);
        break;
    case NOT_COVERED:
        backing = UNCOVERED;
        break;
    case NPT_ABSENT:
        flags = 0;
        break;
    case LARGE_VALID:
        backing = P_LARGE;
        npt_map(&vm, G_LARGE, backing, LARGE, NPT);
        return;
    case LARGE_UNVALIDATED:
    case LARGE_NPT4K_UNVALIDATED:
    case LARGE_REVALIDATED:
    case LARGE_NPT4K:
    case LARGE_SMASHED:
        must(rmpupdate(base, G_LARGE, true, true, false, ASID) == OK);
        npt_map(&vm, G_LARGE, base, LARGE, NPT);
        if (s != LARGE_UNVALIDATED && s != LARGE_NPT4K_UNVALIDATED) {
            must(guest_pvalidate(G_LARGE, 1, 1) == OK);
        }
        if (s == LARGE_SMASHED) {
            must(do_psmash(base).eax == OK);
        }
        if (s == LARGE_SMASHED || s == LARGE_NPT4K ||
            s == LARGE_NPT4K_UNVALIDATED) {
            map_4k_of_large(base);
        }
        return;
    case LARGE_RMP4K:
    case LARGE_BOTH4K:
    case LARGE_BOTH4K_UNVALIDATED:
        for (flags = 0; flags < LARGE; flags += PAGE) {
            must(rmpupdate(base + flags, G_LARGE + flags, true, false, false,
                           ASID) == OK);
        }
        map_4k_of_large(base);
        if (s != LARGE_BOTH4K_UNVALIDATED) {
            must(guest_pvalidate(G_LARGE, 0, 1) == OK);
        }
        if (s == LARGE_RMP4K) {
            npt_map(&vm, G_LARGE, base, LARGE, NPT);
        }
        return;
    }
    npt_map(&vm, T_GPA, backing, PAGE, flags);
}

/* Let the guest's access get through, after it was refused */
static void repair(struct exit e)
{
    u64 page = e.info2 & ~(PAGE - 1);

    if (e.info1 & NPF_SIZEM) {
        do_psmash(backing);
        map_4k_of_large(backing);
    } else if (e.info1 & NPF_ENC) {
        if (page >= G_LARGE && page < G_LARGE + LARGE) {
            npt_map(&vm, G_LARGE, P_LARGE, LARGE, NPT);
        } else {
            npt_map(&vm, page, P_TEST + page - G_TEST, PAGE, NPT);
        }
    } else {
        u64 base = region();

        if (page >= G_LARGE && page < G_LARGE + LARGE) {
            npt_map(&vm, G_LARGE, base, LARGE, NPT);
        } else {
            npt_map(&vm, page, base, PAGE, NPT);
        }
    }
}

static struct exit finish(struct vcpu *v, struct exit e)
{
    int tries;

    for (tries = 0; tries < 4 && e.code == EXIT_NPF; tries++) {
        if (tries < 2) {
            repair(e);
        } else {
            /* There is no way but out: #GP, error code 0 */
            F64(v->vmcb, C_EVENTINJ) = BIT(31) | BIT(11) | 3 << 8 | VEC_GP;
        }
        e = vm_resume(v);
        F64(v->vmcb, C_EVENTINJ) = 0;
    }
    if (e.code != EXIT_DONE) {
        bail("guest does not go on: exit 0x%lx info1 0x%lx info2 0x%lx",
             e.code, e.info1, e.info2);
    }
    return e;
}

enum outcome { FINE, NPF, VC, PF, GP, UD };
static const u8 outcome_vector[] = { VEC_NONE, VEC_NONE, VEC_VC, VEC_PF,
                                     VEC_GP, VEC_UD };

/*
 * What became of a call of the guest, and of the access to @gpa as @va.
 * @error: EXITINFO1, or the error code; @mask says which bits count
 */
static bool as_expected(struct vcpu *v, struct exit first, enum outcome want,
                        u64 error, u64 mask, u64 gpa, u64 va)
{
    struct exc *x = &v->req->exc;

    if (want == NPF) {
        return first.code == EXIT_NPF && (first.info1 & mask) == error &&
               first.info2 == gpa;
    }
    if (first.code != EXIT_DONE || x->vector != outcome_vector[want]) {
        return false;
    }
    switch (want) {
    case FINE:
        return true;
    case VC:
    case PF:
        return x->error == error && x->cr2 == va;
    default:
        return x->error == 0;
    }
}

static void report(bool ok, const char *name, struct vcpu *v,
                   struct exit first, enum outcome want, u64 error)
{
    static const char *what[] = { "nothing", "#NPF", "#VC", "#PF", "#GP",
                                  "#UD" };

    tap(ok, name);
    if (!ok) {
        if (first.code == EXIT_DONE) {
            ml_printf("# got vector 0x%lx error 0x%lx cr2 0x%lx",
                      v->req->exc.vector, v->req->exc.error, v->req->exc.cr2);
        } else {
            ml_printf("# got exit 0x%lx info1 0x%lx info2 0x%lx", first.code,
                      first.info1, first.info2);
        }
        ml_printf(", want %s 0x%lx\n", what[want], error);
    }
}

#define RD  g_read
#define WR  g_write
#define EX  g_exec

static const struct {
    const char *name;
    enum state state;
    void *fn;
    u64 alias;                  /* SHARED: by an address without the C-bit */
    enum outcome want;
    u64 error;
} accesses[] = {
    { "private read", VALID, RD, 0, FINE, 0 },
    { "private write", VALID, WR, 0, FINE, 0 },
    { "fetch", VALID, EX, 0, FINE, 0 },
    { "private read, accepted later", REVALIDATED, RD, 0, FINE, 0 },
    { "private write, accepted later", REVALIDATED, WR, 0, FINE, 0 },
    { "private read, hypervisor's", HV, RD, 0, NPF, NPF_R | PF_RMP },
    { "private write, hypervisor's", HV, WR, 0, NPF, NPF_W | PF_RMP },
    { "fetch, hypervisor's", HV, EX, 0, NPF, NPF_X | PF_RMP },
    { "private read, not validated", UNVALIDATED, RD, 0, VC, 0x404 },
    { "private write, not validated", UNVALIDATED, WR, 0, VC, 0x404 },
    { "fetch, not validated", UNVALIDATED, EX, 0, VC, 0x404 },
    { "private read, not validated any more", RESCINDED, RD, 0, VC, 0x404 },
    { "private read, other guest's", OTHER_ASID, RD, 0, NPF, NPF_R | PF_RMP },
    { "private write, other guest's", OTHER_ASID, WR, 0, NPF,
      NPF_W | PF_RMP },
    { "fetch, other guest's", OTHER_ASID, EX, 0, NPF, NPF_X | PF_RMP },
    { "private read, other GPA", OTHER_GPA, RD, 0, NPF, NPF_R | PF_RMP },
    { "private write, other GPA", OTHER_GPA, WR, 0, NPF, NPF_W | PF_RMP },
    { "private read, immutable", IMMUTABLE, RD, 0, NPF, NPF_R | PF_RMP },
    { "private write, immutable", IMMUTABLE, WR, 0, NPF, NPF_W | PF_RMP },
    { "private read, firmware's", FIRMWARE, RD, 0, NPF, NPF_R | PF_RMP },
    { "private read, not covered", NOT_COVERED, RD, 0, NPF, NPF_R | PF_RMP },
    { "private write, not covered", NOT_COVERED, WR, 0, NPF, NPF_W | PF_RMP },
    { "private read, not mapped", NPT_ABSENT, RD, 0, NPF, NPF_R & ~PF_P },
    { "private write, not mapped", NPT_ABSENT, WR, 0, NPF, NPF_W & ~PF_P },
    { "fetch, not mapped", NPT_ABSENT, EX, 0, NPF, NPF_X & ~PF_P },
    { "private write, mapped read-only", NPT_RO, WR, 0, NPF, NPF_W },
    { "private read, mapped read-only", NPT_RO, RD, 0, FINE, 0 },
    { "private write, hypervisor's, mapped read-only", HV_NPT_RO, WR, 0, NPF,
      NPF_W },
    { "private write, not validated, mapped read-only", UNVALIDATED_NPT_RO,
      WR, 0, NPF, NPF_W },

    { "shared read", HV, RD, SHARED, FINE, 0 },
    { "shared write", HV, WR, SHARED, FINE, 0 },
    { "fetch by a shared address", VALID, EX, SHARED, FINE, 0 },
    { "fetch by a shared address, hypervisor's", HV, EX, SHARED, NPF,
      NPF_X | PF_RMP },
    { "fetch by a shared address, not validated", UNVALIDATED, EX, SHARED, VC,
      0x404 },
    { "shared read, own private", VALID, RD, SHARED, FINE, 0 },
    { "shared write, own private", VALID, WR, SHARED, NPF,
      (NPF_W & ~NPF_ENC) | PF_RMP },
    { "shared write, not validated", UNVALIDATED, WR, SHARED, NPF,
      (NPF_W & ~NPF_ENC) | PF_RMP },
    { "shared write, other guest's", OTHER_ASID, WR, SHARED, NPF,
      (NPF_W & ~NPF_ENC) | PF_RMP },
    { "shared write, firmware's", FIRMWARE, WR, SHARED, NPF,
      (NPF_W & ~NPF_ENC) | PF_RMP },
    { "shared read, other guest's", OTHER_ASID, RD, SHARED, FINE, 0 },
    { "shared read, not covered", NOT_COVERED, RD, SHARED, FINE, 0 },
    { "shared write, not covered", NOT_COVERED, WR, SHARED, FINE, 0 },
    { "shared read, not mapped", NPT_ABSENT, RD, SHARED, NPF,
      NPF_R & ~PF_P & ~NPF_ENC },
    { "shared write, mapped read-only", HV_NPT_RO, WR, SHARED, NPF,
      NPF_W & ~NPF_ENC },

    { "2M: shared write, mapped with 2M", HV_NPT2M_FREE, WR, SHARED, FINE, 0 },
    { "2M: shared write, another page assigned", HV_NPT2M, WR, SHARED, NPF,
      (NPF_W & ~NPF_ENC) | PF_RMP },
    { "2M: shared read, another page assigned", HV_NPT2M, RD, SHARED, FINE,
      0 },
    { "2M: private read", LARGE_VALID, RD, 0, FINE, 0 },
    { "2M: private write", LARGE_VALID, WR, 0, FINE, 0 },
    { "2M: fetch", LARGE_VALID, EX, 0, FINE, 0 },
    { "2M: private write, accepted later", LARGE_REVALIDATED, WR, 0, FINE, 0 },
    { "2M: private read, not validated", LARGE_UNVALIDATED, RD, 0, VC, 0x404 },
    { "2M: private read, hypervisor's", LARGE_HV, RD, 0, NPF, NPF_R | PF_RMP },
    { "2M: private read, mapped with 4K", LARGE_NPT4K, RD, 0, NPF,
      NPF_R | PF_RMP },
    { "2M: private write, mapped with 4K", LARGE_NPT4K, WR, 0, NPF,
      NPF_W | PF_RMP },
    { "2M: private read, not validated, mapped with 4K",
      LARGE_NPT4K_UNVALIDATED, RD, 0, NPF, NPF_R | PF_RMP },
    { "4K: private read, mapped with 2M", LARGE_RMP4K, RD, 0, NPF,
      NPF_R | PF_RMP },
    { "4K: private write, mapped with 2M", LARGE_RMP4K, WR, 0, NPF,
      NPF_W | PF_RMP },
    { "2M after PSMASH: private read", LARGE_SMASHED, RD, 0, FINE, 0 },
    { "2M after PSMASH: private write", LARGE_SMASHED, WR, 0, FINE, 0 },
};

static bool state_is_large(enum state s)
{
    return s >= LARGE_VALID || s == HV_NPT2M || s == HV_NPT2M_FREE;
}

static void test_access(void)
{
    unsigned int i;

    for (i = 0; i < ARRAY_SIZE(accesses); i++) {
        bool large = state_is_large(accesses[i].state), ok;
        u64 gpa = large ? G_LARGE + 0x10 : T_GPA + 0x10;
        u64 va = gpa + accesses[i].alias;
        struct exit e;

        set_state(accesses[i].state);
        e = vm_call(&v0, accesses[i].fn, va, 0xc3c3c3c3c3c3c3c3ULL, 0, 0);
        ok = as_expected(&v0, e, accesses[i].want, accesses[i].error, ANY, gpa,
                         va);
        report(ok, accesses[i].name, &v0, e, accesses[i].want,
               accesses[i].error);
        finish(&v0, e);
    }
}

/* The guest's page tables; always private, whatever the C-bit says */
static u64 g_walk_cbit(u64 on, u64 b, u64 c, u64 d)
{
    *guest_walk_pde = on ? *guest_walk_pde | PTE_C : *guest_walk_pde & ~PTE_C;
    write_cr3(read_cr3());
    return 0;
}

static void test_walk(void)
{
    u64 index = G_TEST_PAGES - 1, gpa = G_TEST + index * PAGE, base;
    struct exit e;
    bool ok;
    int c;

    for (c = 1; c >= 0; c--) {
        must(vm_call(&v0, g_walk_cbit, c, 0, 0, 0).code == EXIT_DONE);
        e = vm_call(&v0, g_read, G_WALK + 8, 0, 0, 0);
        report(as_expected(&v0, e, FINE, 0, 0, 0, 0),
               c ? "walk" : "walk, table without C-bit", &v0, e, FINE, 0);
        finish(&v0, e);
        npt_map(&vm, gpa, region(), PAGE, NPT);
        e = vm_call(&v0, g_read, G_WALK + 8, 0, 0, 0);
        ok = as_expected(&v0, e, NPF, NPF_PT | PF_RMP, ANY, gpa, 0);
        report(ok, c ? "walk, table is the hypervisor's"
               : "walk, table without C-bit is the hypervisor's", &v0, e, NPF,
               NPF_PT | PF_RMP);
        finish(&v0, e);
    }
    must(vm_call(&v0, g_walk_cbit, 1, 0, 0, 0).code == EXIT_DONE);
    base = region();
    must(rmpupdate(base, gpa, true, false, false, ASID) == OK);
    npt_map(&vm, gpa, base, PAGE, NPT);
    e = vm_call(&v0, g_read, G_WALK + 8, 0, 0, 0);
    report(as_expected(&v0, e, VC, 0x404, ANY, gpa, G_WALK + 8),
           "walk, table is not validated", &v0, e, VC, 0x404);
    finish(&v0, e);
    npt_map(&vm, gpa, P_TEST + index * PAGE, PAGE, 0);
    e = vm_call(&v0, g_read, G_WALK + 8, 0, 0, 0);
    report(as_expected(&v0, e, NPF, NPF_PT & ~PF_P, ANY, gpa, 0),
           "walk, table is not mapped", &v0, e, NPF, NPF_PT & ~PF_P);
    finish(&v0, e);
}

/* -- PVALIDATE, RMPADJUST ------------------------------------------------- */

/* Whether an operand that is not to be changed counts as written is not told */
#define OPERAND     (~(PF_W | PF_I))
#define OPERAND_NPF (PF_P | PF_U | NPF_GPA | NPF_ENC | PF_RMP)
#define NO_ENTRY    (~0ULL)
#define CF(x)       (x)
#define NO_CF       2

static const struct {
    const char *name;
    enum state state;
    void *fn;
    u64 rax;                    /* if an offset: of the page */
    u64 rcx, rdx;
    enum outcome want;
    u64 error;
    u32 eax, cf;
    u64 bits;                   /* of the entry, afterwards: VALIDATED, VMSA */
} insns[] = {
#define PV  g_pvalidate
#define RA  g_rmpadjust
    { "PVALIDATE", UNVALIDATED, PV, 0, 0, 1, FINE, 0, OK, 0, RMP_VALIDATED },
    { "PVALIDATE twice", REVALIDATED, PV, 0, 0, 1, FINE, 0, OK, 1,
      RMP_VALIDATED },
    { "PVALIDATE, rescind", REVALIDATED, PV, 0, 0, 0, FINE, 0, OK, 0, 0 },
    { "PVALIDATE, rescind twice", RESCINDED, PV, 0, 0, 0, FINE, 0, OK, 1, 0 },
    { "PVALIDATE, rescind what never was", UNVALIDATED, PV, 0, 0, 0, FINE, 0,
      OK, 1, 0 },
    { "PVALIDATE, launched page", VALID, PV, 0, 0, 1, FINE, 0, OK, 1,
      RMP_VALIDATED },
    { "PVALIDATE 2M", LARGE_UNVALIDATED, PV, 0, 1, 1, FINE, 0, OK, 0,
      RMP_VALIDATED },
    { "PVALIDATE 2M twice", LARGE_REVALIDATED, PV, 0, 1, 1, FINE, 0, OK, 1,
      RMP_VALIDATED },
    { "PVALIDATE 2M, rescind", LARGE_REVALIDATED, PV, 0, 1, 0, FINE, 0, OK, 0,
      0 },
    { "PVALIDATE 2M, not aligned", LARGE_UNVALIDATED, PV, 0x1000, 1, 1, FINE,
      0, FAIL_INPUT, NO_CF, 0 },
    { "PVALIDATE 2M, mapped with 4K", LARGE_NPT4K_UNVALIDATED, PV, 0, 1, 1,
      FINE, 0, FAIL_SIZEMISMATCH, NO_CF, 0 },
    { "PVALIDATE 2M of 4K, mapped with 2M", LARGE_RMP4K, PV, 0, 1, 0, FINE, 0,
      FAIL_SIZEMISMATCH, NO_CF, RMP_VALIDATED },
    { "PVALIDATE 2M of 4K, mapped with 4K", LARGE_BOTH4K, PV, 0, 1, 0, FINE, 0,
      FAIL_SIZEMISMATCH, NO_CF, RMP_VALIDATED },
    { "PVALIDATE 2M, hypervisor's, mapped with 4K", HV, PV,
      -INDEX * PAGE, 1, 1, FINE, 0, FAIL_SIZEMISMATCH, NO_CF, 0 },
    { "PVALIDATE 4K of 2M", LARGE_UNVALIDATED, PV, 0, 0, 1, NPF,
      OPERAND_NPF | NPF_SIZEM, 0, NO_CF, 0 },
    { "PVALIDATE 4K inside 2M", LARGE_UNVALIDATED, PV, 0x5000, 0, 1, NPF,
      OPERAND_NPF | NPF_SIZEM, 0, NO_CF, 0 },
    { "PVALIDATE 4K of 2M, mapped with 4K", LARGE_NPT4K_UNVALIDATED, PV, 0, 0,
      1, NPF, OPERAND_NPF | NPF_SIZEM, 0, NO_CF, 0 },
    { "PVALIDATE, hypervisor's", HV, PV, 0, 0, 1, NPF, OPERAND_NPF, 0, NO_CF,
      0 },
    { "PVALIDATE, other guest's", OTHER_ASID, PV, 0, 0, 1, NPF, OPERAND_NPF, 0,
      NO_CF, 0 },
    { "PVALIDATE, other GPA", OTHER_GPA, PV, 0, 0, 1, NPF, OPERAND_NPF, 0,
      NO_CF, 0 },
    { "PVALIDATE, immutable", IMMUTABLE, PV, 0, 0, 1, NPF, OPERAND_NPF, 0,
      NO_CF, 0 },
    { "PVALIDATE, firmware's", FIRMWARE, PV, 0, 0, 1, NPF, OPERAND_NPF, 0,
      NO_CF, 0 },
    { "PVALIDATE, not covered", NOT_COVERED, PV, 0, 0, 1, NPF, OPERAND_NPF, 0,
      NO_CF, NO_ENTRY },
    { "PVALIDATE, nested not mapped", NPT_ABSENT, PV, 0, 0, 1, NPF,
      OPERAND_NPF & ~PF_P & ~PF_RMP, 0, NO_CF, 0 },
    { "PVALIDATE, shared address", UNVALIDATED, PV, SHARED, 0, 1, NPF,
      OPERAND_NPF & ~NPF_ENC, 0, NO_CF, 0 },
    { "PVALIDATE, not mapped", UNVALIDATED, PV, 16 * GB, 0, 1, PF, 0, 0, NO_CF,
      0 },
    { "PVALIDATE, not canonical", UNVALIDATED, PV, BIT(62), 0, 1, GP, 0, 0,
      NO_CF, 0 },

    { "RMPADJUST", REVALIDATED, RA, 0, 0, 0xf01, FINE, 0, OK, NO_CF,
      RMP_VALIDATED },
    { "RMPADJUST, VMPL 3", REVALIDATED, RA, 0, 0, 0x103, FINE, 0, OK, NO_CF,
      RMP_VALIDATED },
    { "RMPADJUST, no permissions", REVALIDATED, RA, 0, 0, 0x001, FINE, 0, OK,
      NO_CF, RMP_VALIDATED },
    { "RMPADJUST, own VMPL", REVALIDATED, RA, 0, 0, 0xf00, FINE, 0,
      FAIL_PERMISSION, NO_CF, RMP_VALIDATED },
    { "RMPADJUST, no such VMPL", REVALIDATED, RA, 0, 0, 0xf04, FINE, 0,
      FAIL_INPUT, NO_CF, RMP_VALIDATED },
    { "RMPADJUST, make a VMSA", REVALIDATED, RA, 0, 0, 0x10001, FINE, 0, OK,
      NO_CF, RMP_VALIDATED | RMP_VMSA },
    { "RMPADJUST 2M", LARGE_REVALIDATED, RA, 0, 1, 0xf01, FINE, 0, OK, NO_CF,
      RMP_VALIDATED },
    { "RMPADJUST 2M, not aligned", LARGE_REVALIDATED, RA, 0x1000, 1, 0xf01,
      FINE, 0, FAIL_INPUT, NO_CF, ANY },
    { "RMPADJUST 2M, mapped with 4K", LARGE_NPT4K, RA, 0, 1, 0xf01, FINE, 0,
      FAIL_SIZEMISMATCH, NO_CF, RMP_VALIDATED },
    { "RMPADJUST 2M of 4K", LARGE_RMP4K, RA, 0, 1, 0xf01, FINE, 0,
      FAIL_SIZEMISMATCH, NO_CF, RMP_VALIDATED },
    { "RMPADJUST 4K of 2M", LARGE_REVALIDATED, RA, 0, 0, 0xf01, NPF,
      OPERAND_NPF | NPF_SIZEM, 0, NO_CF, RMP_VALIDATED },
    { "RMPADJUST, not validated", UNVALIDATED, RA, 0, 0, 0xf01, VC, 0x404, 0,
      NO_CF, 0 },
    { "RMPADJUST, hypervisor's", HV, RA, 0, 0, 0xf01, NPF, OPERAND_NPF, 0,
      NO_CF, 0 },
    { "RMPADJUST, other guest's", OTHER_ASID, RA, 0, 0, 0xf01, NPF,
      OPERAND_NPF, 0, NO_CF, 0 },
    { "RMPADJUST, other GPA", OTHER_GPA, RA, 0, 0, 0xf01, NPF, OPERAND_NPF, 0,
      NO_CF, 0 },
    { "RMPADJUST, immutable", IMMUTABLE, RA, 0, 0, 0xf01, NPF, OPERAND_NPF, 0,
      NO_CF, 0 },
    { "RMPADJUST, nested not mapped", NPT_ABSENT, RA, 0, 0, 0xf01, NPF,
      OPERAND_NPF & ~PF_P & ~PF_RMP, 0, NO_CF, 0 },
    { "RMPADJUST, shared address", REVALIDATED, RA, SHARED, 0, 0xf01, NPF,
      OPERAND_NPF & ~NPF_ENC, 0, NO_CF, RMP_VALIDATED },
    { "RMPADJUST, not mapped", REVALIDATED, RA, 16 * GB, 0, 0xf01, PF, 0, 0,
      NO_CF, RMP_VALIDATED },
};

static void test_insns(void)
{
    unsigned int i;

    for (i = 0; i < ARRAY_SIZE(insns); i++) {
        u64 page = state_is_large(insns[i].state) ? G_LARGE : T_GPA;
        u64 va = page + insns[i].rax, gpa;
        struct res *r = &v0.req->res;
        struct exit e;
        u64 entry = 0;
        bool ok;

        gpa = insns[i].rax == SHARED ? page : va;
        set_state(insns[i].state);
        e = vm_call(&v0, insns[i].fn, va, insns[i].rcx, insns[i].rdx, 0);
        if (insns[i].bits != NO_ENTRY) {
            entry = *rmp_entry(backing) & (RMP_VALIDATED | RMP_VMSA);
        }
        ok = as_expected(&v0, e, insns[i].want, insns[i].error, OPERAND, gpa,
                         va);
        if (insns[i].want == FINE) {
            ok = ok && r->eax == insns[i].eax &&
                 !(r->flags & FLAG_ZF) == !!r->eax &&
                 (insns[i].cf == NO_CF ||
                  !!(r->flags & FLAG_CF) == insns[i].cf);
        }
        if (insns[i].bits != NO_ENTRY) {
            ok = ok && entry == insns[i].bits;
        }
        report(ok, insns[i].name, &v0, e, insns[i].want, insns[i].error);
        if (!ok) {
            ml_printf("# eax %u flags 0x%x entry 0x%lx, want eax %u cf %u "
                      "entry 0x%lx\n", r->eax, r->flags, entry, insns[i].eax,
                      insns[i].cf, insns[i].bits);
        }
        finish(&v0, e);
    }
}

static u64 g_cr0(u64 a, u64 b, u64 c, u64 d)
{
    return do_rmpupdate(a, (void *)b).vector;
}

static u64 g_psmash(u64 a, u64 b, u64 c, u64 d)
{
    return do_psmash(a).vector;
}

static void user_pvalidate(u64 va)
{
    asm volatile(".byte 0xf2, 0x0f, 0x01, 0xff" : "+a"(va)
                 : "c"(0), "d"(1) : "memory");
    user_exit();
}

static void user_rmpadjust(u64 va)
{
    asm volatile(".byte 0xf3, 0x0f, 0x01, 0xfe" : "+a"(va)
                 : "c"(0), "d"(0xf01) : "memory");
    user_exit();
}

static u64 g_call_user(u64 fn, u64 arg, u64 c, u64 d)
{
    call_user((void (*)(u64))fn, arg);
    return 0;
}

static void test_insn_faults(void)
{
    static const struct {
        const char *name;
        void *fn;
        u64 a, b, vector;
    } c[] = {
        { "RMPUPDATE in the guest", g_cr0, T_GPA, T_GPA, VEC_UD },
        { "PSMASH in the guest", g_psmash, T_GPA, 0, VEC_UD },
        { "PVALIDATE at CPL 3", g_call_user, (u64)user_pvalidate, T_GPA,
          VEC_GP },
        { "RMPADJUST at CPL 3", g_call_user, (u64)user_rmpadjust, T_GPA,
          VEC_GP },
    };
    unsigned int i;

    set_state(REVALIDATED);
    for (i = 0; i < ARRAY_SIZE(c); i++) {
        finish(&v0, vm_call(&v0, c[i].fn, c[i].a, c[i].b, 0, 0));
        tap_eq(c[i].name, v0.req->exc.vector, c[i].vector);
    }
}

/* What RMPUPDATE does to a page that the guest has accepted */
static void test_update_clears(void)
{
    struct exit e;
    u64 base;

    set_state(REVALIDATED);
    base = backing;
    must(rmpupdate(base, T_GPA, true, false, false, ASID) == OK);
    tap_eq("RMPUPDATE to the same state clears Validated",
           *rmp_entry(base) & RMP_VALIDATED, 0);
    e = vm_call(&v0, g_read, T_GPA, 0, 0, 0);
    report(as_expected(&v0, e, VC, 0x404, ANY, T_GPA, T_GPA),
           "  and the guest notices", &v0, e, VC, 0x404);
    finish(&v0, e);
    set_state(REVALIDATED);
    base = backing;
    finish(&v0, vm_call(&v0, g_rmpadjust, T_GPA, 0, 0x10001, 0));
    must(*rmp_entry(base) & RMP_VMSA);
    must(rmpupdate(base, T_GPA, true, false, false, ASID) == OK);
    tap_eq("RMPUPDATE clears VMSA", *rmp_entry(base) & RMP_VMSA, 0);

    set_state(LARGE_REVALIDATED);
    must(do_psmash(backing).eax == OK);
    tap_eq("PSMASH keeps Validated",
           *rmp_entry(backing + 77 * PAGE), RMP_ASSIGNED | RMP_VALIDATED |
           RMP_ASID(ASID) | (G_LARGE + 77 * PAGE));
    set_state(LARGE_VALID);
}

/* What one side has written, the other cannot read after a change of owner */
static void test_contents(void)
{
    u64 base = region(), i, secret = 0x5ec3e7ULL * 0x100000001ULL;
    struct exit e;

    for (i = 0; i < PAGE; i += 8) {
        *(u64 *)(base + i) = secret;
    }
    must(rmpupdate(base, T_GPA, true, false, false, ASID) == OK);
    npt_map(&vm, T_GPA, base, PAGE, NPT);
    must(guest_pvalidate(T_GPA, 0, 1) == OK);
    e = vm_call(&v0, g_read, T_GPA + 0x100, 0, 0, 0);
    must(e.code == EXIT_DONE);
    tap(v0.req->ret != secret, "the guest cannot read what the host wrote");
    must(vm_call(&v0, g_write, T_GPA + 0x100, secret, 0, 0).code == EXIT_DONE);
    must(rmpupdate(base, 0, false, false, false, 0) == OK);
    tap(*(u64 *)(base + 0x100) != secret,
        "the host cannot read what the guest wrote");
    must(rmpupdate(base, T_GPA, true, false, false, ASID) == OK);
    must(guest_pvalidate(T_GPA, 0, 1) == OK);
    e = vm_call(&v0, g_read, T_GPA + 0x100, 0, 0, 0);
    must(e.code == EXIT_DONE);
    tap_eq("the guest can read what it wrote before", v0.req->ret, secret);
    must(rmpupdate(base, T_GPA, true, false, false, ASID + 1) == OK);
    must(rmpupdate(base, 0, false, false, false, 0) == OK);
    tap(*(u64 *)(base + 0x100) != secret,
        "the host cannot read it by way of another guest");
}

static void test_host(void)
{
    u64 rmp = rdmsr(MSR_RMP_BASE), end = rdmsr(MSR_RMP_END);

    try_write(rmp + 16 * KB, try_read(rmp + 16 * KB));
    tap_eq("the host cannot write to the RMP", exc_vector(), VEC_PF);
    tap_eq("  error code", this_cpu()->exc.error, PF_P | PF_W | PF_RMP);
    try_write(end & ~7ULL, try_read(end & ~7ULL));
    tap_eq("  nor to its end", exc_vector(), VEC_PF);
    tap_eq("  nor have it changed",
           rmpupdate(rmp, 0, false, false, false, 0), FAIL_PERMISSION);
    try_write(P_IMAGE + (u64)&vm, 0);
    tap_eq("the host cannot write to the guest", exc_vector(), VEC_PF);
    try_write(v0.vmsa + S_RIP, 0);
    tap_eq("the host cannot write to the VMSA", exc_vector(), VEC_PF);
}

/* -- VMPL 1 --------------------------------------------------------------- */

#define V1_INDEX    40          /* the test page that is the VMSA */
#define V1_VMSA     (G_TEST + V1_INDEX * PAGE)

static u64 g_adjust_range(u64 from, u64 to, u64 rdx, u64 d)
{
    u64 a, bad = 0;

    for (a = from; a < to; a += PAGE) {
        bad += do_rmpadjust(a, 0, rdx).eax != OK;
    }
    return bad;
}

static u64 g_make_vmsa(u64 va, u64 b, u64 c, u64 d)
{
    save_init((void *)va, VM_SNP, CPU_GUEST2);
    F8(va, S_VMPL) = 1;
    return do_rmpadjust(va, 0, 0x10001).eax;
}

static void vmpl1_start(void)
{
    struct exit e;

    vcpu_init(&vm, &v1, CPU_GUEST2);
    v1.vmsa = P_TEST + V1_INDEX * PAGE;
    F64(v1.vmcb, C_VMSA) = v1.vmsa;
    npt_map(&vm, V1_VMSA, v1.vmsa, PAGE, NPT);
    must(vm_call(&v0, g_adjust_range, (u64)__load_st, (u64)__bss_en, 0xf01,
                 0).code == EXIT_DONE);
    must(v0.req->ret == 0);
    must(vm_call(&v0, g_adjust_range, G_TEST + 62 * PAGE, G_TEST + 64 * PAGE,
                 0xf01, 0).code == EXIT_DONE);
    must(v0.req->ret == 0);
    must(vm_call(&v0, g_make_vmsa, V1_VMSA, 0, 0, 0).code == EXIT_DONE);
    must(v0.req->ret == OK);
    e = vm_resume(&v1);
    tap_eq("VMPL 1: the vCPU starts", e.code, EXIT_DONE);
    if (e.code != EXIT_DONE) {
        bail("info1 0x%lx info2 0x%lx", e.info1, e.info2);
    }
}

enum { PR = 1, PW = 2, PUX = 4, PSX = 8 };

static u64 g_user_read(u64 va, u64 b, u64 c, u64 d);
static u64 g_user_write(u64 va, u64 b, u64 c, u64 d);

static const struct {
    const char *name;
    u32 perms;
    void *fn;
    u64 error;                  /* of #NPF, without RMP and VMPL; 0: none */
} vmpl[] = {
#define UX g_user_exec
#define UR g_user_read
#define UW g_user_write
    { "VMPL 1: read, with R", PR, RD, 0 },
    { "VMPL 1: write, with RW", PR | PW, WR, 0 },
    { "VMPL 1: fetch, with R and supervisor X", PR | PSX, EX, 0 },
    { "VMPL 1: user fetch, with R and user X", PR | PUX, UX, 0 },
    { "VMPL 1: user read, with R", PR, UR, 0 },
    { "VMPL 1: user write, with RW", PR | PW, UW, 0 },
    { "VMPL 1: read, with all", 15, RD, 0 },
    { "VMPL 1: read, with none", 0, RD, NPF_R },
    { "VMPL 1: write, with none", 0, WR, NPF_W },
    { "VMPL 1: fetch, with none", 0, EX, NPF_X },
    { "VMPL 1: user read, with none", 0, UR, NPF_R },
    { "VMPL 1: write, with R", PR, WR, NPF_W },
    { "VMPL 1: user write, with R", PR, UW, NPF_W },
    { "VMPL 1: fetch, with R", PR, EX, NPF_X },
    { "VMPL 1: fetch, with RW", PR | PW, EX, NPF_X },
    { "VMPL 1: fetch, with R and user X", PR | PUX, EX, NPF_X },
    { "VMPL 1: user fetch, with R and supervisor X", PR | PSX, UX,
      NPF_X },
    { "VMPL 1: user fetch, with RW", PR | PW, UX, NPF_X },
};

static void user_rd(u64 va)
{
    (void)F64(va, 0);
    user_exit();
}

static void user_wr(u64 va)
{
    F64(va, 0) = 0xc3c3c3c3c3c3c3c3ULL;
    user_exit();
}

static u64 g_user_read(u64 va, u64 b, u64 c, u64 d)
{
    call_user(user_rd, va);
    return 0;
}

static u64 g_user_write(u64 va, u64 b, u64 c, u64 d)
{
    call_user(user_wr, va);
    return 0;
}

static u32 adjust(struct vcpu *v, u64 va, u64 rdx)
{
    must(vm_call(v, g_rmpadjust, va, 0, rdx, 0).code == EXIT_DONE);
    return v->req->res.vector == VEC_NONE ? v->req->res.eax
                                          : 0x100 + v->req->res.vector;
}

static struct exit finish_v1(struct exit e)
{
    int i;

    for (i = 0; i < 4 && e.code == EXIT_NPF; i++) {
        must(adjust(&v0, e.info2 & ~(PAGE - 1), 0xf01) == OK);
        e = vm_resume(&v1);
    }
    if (e.code != EXIT_DONE) {
        bail("VMPL 1 does not go on: exit 0x%lx info1 0x%lx info2 0x%lx",
             e.code, e.info1, e.info2);
    }
    return e;
}

static void test_vmpl(void)
{
    u64 gpa = G_TEST + 5 * PAGE, base, error;
    enum outcome want;
    struct exit e;
    unsigned int i;

    for (i = 0; i < ARRAY_SIZE(vmpl); i++) {
        must(adjust(&v0, gpa, vmpl[i].perms << 8 | 1) == OK);
        e = vm_call(&v1, vmpl[i].fn, gpa + 0x10, 0xc3c3c3c3c3c3c3c3ULL, 0, 0);
        want = vmpl[i].error ? NPF : FINE;
        error = vmpl[i].error | PF_RMP | NPF_VMPL;
        report(as_expected(&v1, e, want, error, ANY, gpa + 0x10, 0),
               vmpl[i].name, &v1, e, want, error);
        finish_v1(e);
    }

    /* Its page tables */
    must(adjust(&v0, G_TEST + 63 * PAGE, 0x001) == OK);
    e = vm_call(&v1, g_read, G_WALK, 0, 0, 0);
    report(as_expected(&v1, e, NPF, NPF_PT | PF_RMP | NPF_VMPL, ANY,
                       G_TEST + 63 * PAGE, 0),
           "VMPL 1: walk, table with no permissions", &v1, e, NPF,
           NPF_PT | PF_RMP | NPF_VMPL);
    finish_v1(e);

    /* A page that VMPL 0 accepts, no other VMPL may use at first */
    set_state(REVALIDATED);
    base = backing;
    e = vm_call(&v1, g_read, T_GPA, 0, 0, 0);
    report(as_expected(&v1, e, NPF, NPF_R | PF_RMP | NPF_VMPL, ANY, T_GPA, 0),
           "VMPL 1: a page new to the guest", &v1, e, NPF,
           NPF_R | PF_RMP | NPF_VMPL);
    finish_v1(e);
    /* ... nor after it was given again */
    must(rmpupdate(base, T_GPA, true, false, false, ASID) == OK);
    must(guest_pvalidate(T_GPA, 0, 1) == OK);
    e = vm_call(&v1, g_read, T_GPA, 0, 0, 0);
    report(as_expected(&v1, e, NPF, NPF_R | PF_RMP | NPF_VMPL, ANY, T_GPA, 0),
           "VMPL 1: a page given to the guest again", &v1, e, NPF,
           NPF_R | PF_RMP | NPF_VMPL);
    finish_v1(e);
    set_state(UNVALIDATED);
    e = vm_call(&v1, g_read, T_GPA, 0, 0, 0);
    report(as_expected(&v1, e, VC, 0x404, ANY, T_GPA, T_GPA),
           "VMPL 1: a page that is not validated", &v1, e, VC, 0x404);
    if (e.code != EXIT_DONE) {
        set_state(VALID);
        finish_v1(e);
    }

    /* Instructions */
    set_state(VALID);
    must(adjust(&v0, T_GPA, 0x301) == OK);
    must(vm_call(&v1, g_pvalidate, T_GPA, 0, 1, 0).code == EXIT_DONE);
    tap_eq("VMPL 1: PVALIDATE", v1.req->res.vector, VEC_GP);
    tap_eq("VMPL 1: RMPADJUST for VMPL 2", adjust(&v1, T_GPA, 0x302), OK);
    tap_eq("VMPL 1: RMPADJUST for VMPL 0", adjust(&v1, T_GPA, 0x300),
           FAIL_PERMISSION);
    tap_eq("VMPL 1: RMPADJUST for VMPL 1", adjust(&v1, T_GPA, 0x301),
           FAIL_PERMISSION);
    tap_eq("VMPL 1: RMPADJUST with permissions that it lacks",
           adjust(&v1, T_GPA, 0x702), FAIL_PERMISSION);
    adjust(&v1, T_GPA, 0x10102);
    tap_eq("VMPL 1: cannot make a VMSA",
           *rmp_entry(P_TEST + INDEX * PAGE) & RMP_VMSA, 0);
}

/* -- pages in use by a running guest -------------------------------------- */

#define FLAG    (G_SHARED + PAGE + 0x800)   /* in the second request's page */

static u64 g_spin(u64 a, u64 b, u64 c, u64 d)
{
    F64(FLAG, 8) = 1;
    while (!F64(FLAG, 0)) {
        cpu_relax();
    }
    return 0x5914;
}

static struct exit ap_exit;

static u64 ap_run(u64 arg)
{
    svm_enable();
    ap_exit = vm_call(&v1, g_spin, 0, 0, 0, 0);
    return 0;
}

static void test_in_use(void)
{
    u64 spin, vmsa = v1.vmsa, vmcb = region();
    u64 flags = (u64)v1.req + 0x800;
    struct vcpu twin = v0;
    u32 r;

    /* The VMCB must have 2M of its own, lest its neighbours be affected */
    memcpy_((void *)vmcb, (void *)v1.vmcb, PAGE);
    v1.vmcb = vmcb;
    F64(flags, 0) = 0;
    F64(flags, 8) = 0;
    ap_post(ap_run, 0);
    for (spin = 0; spin < 10000000 && !F64(flags, 8); spin++) {
        cpu_relax();
    }
    must(F64(flags, 8));
    r = rmpupdate(vmsa, V1_VMSA, true, false, false, ASID);
    tap_eq("in use: RMPUPDATE of a running vCPU's VMSA", r, FAIL_INUSE);
    if (r == OK) {
        F64(flags, 0) = 1;
        ap_wait();
        return;
    }
    tap_eq("in use: RMPADJUST of it", adjust(&v0, V1_VMSA, 0x00001),
           FAIL_INUSE);
    r = rmpupdate(vmcb, 0, true, false, false, 0);
    tap_eq("in use: RMPUPDATE of its VMCB", r, FAIL_INUSE);
    if (r == OK) {
        must(rmpupdate(vmcb, 0, false, false, false, 0) == OK);
    }
    F64(twin.vmcb, C_VMSA) = vmsa;
    F32(twin.vmcb, C_INT_CTL) = INT_CTL_HELD;
    tap_eq("in use: VMRUN with the same VMSA", vcpu_run(&twin).code,
           EXIT_BUSY);
    tap_eq("  int_ctl is as before", F32(twin.vmcb, C_INT_CTL), INT_CTL_HELD);
    F64(twin.vmcb, C_VMSA) = v0.vmsa;
    F64(flags, 0) = 1;
    ap_wait();
    tap_eq("in use: the vCPU ends", ap_exit.code, EXIT_DONE);
    tap_eq("in use: RMPUPDATE of the VMSA afterwards",
           rmpupdate(vmsa, 0, false, false, false, 0), OK);
    tap_eq("in use: and of the VMCB",
           rmpupdate(vmcb, 0, true, false, false, 0), OK);
}

int main(void)
{
    lib_init();
    if (!ap_start()) {
        bail("needs two processors");
    }
    svm_enable();
    snp_enable();
    snp_firmware_init();
    vm_init(&vm, VM_SNP, ASID);
    vcpu_init(&vm, &v0, CPU_GUEST);
    snp_launch(&vm, &v0);
    test_access();
    test_walk();
    test_insns();
    test_insn_faults();
    test_update_clears();
    test_contents();
    test_host();
    vmpl1_start();
    test_vmpl();
    test_in_use();
    return tap_end();
}
