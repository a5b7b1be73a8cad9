/*
 * RMPUPDATE, PSMASH, and the host's own accesses to memory with SNP enabled
 *
 * AMD64 APM volume 3, "PSMASH", "RMPUPDATE"; volume 2, 15.36.3 to 15.36.5 and
 * 15.36.10. No firmware and no guest takes part.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "snp-lib.h"

#define ASID    5
#define GPA     0x12345000ULL
#define GPA2M   0x12400000ULL

/* An address that no table of this machine covers */
#define UNCOVERED   BIT(40)

/* The entry of a page in use by a guest, as RMPUPDATE leaves it */
#define ENTRY(gpa, asid, more)  (RMP_ASSIGNED | (gpa) | RMP_ASID(asid) | (more))
#define ANY     (~0ULL)

static bool flags_ok(struct res r)
{
    return !(r.flags & FLAG_ZF) == !!r.eax;
}

struct update {
    u64 offset;                 /* in the region, or in memory if UNCOVERED */
    u64 gpa;
    u32 assigned, large, immutable, asid;
};

#define GUEST(off)      { off, GPA, 1, 0, 0, ASID }
#define GUEST_2M        { 0, GPA2M, 1, 1, 0, ASID }
#define SHARED(off)     { off, 0, 0, 0, 0, 0 }
#define SHARED_2M       { 0, 0, 0, 1, 0, 0 }
#define FIRMWARE(off)   { off, 0, 1, 0, 1, 0 }
#define NONE            { ANY }

static const struct {
    const char *name;
    struct update before[2];
    struct update op;
    u32 eax;
    u64 entry;                  /* of the page, afterwards */
} updates[] = {
    { "assign a page", { NONE, NONE }, GUEST(0x3000),
      OK, ENTRY(GPA, ASID, 0) },
    { "assign a page, immutable", { NONE, NONE }, { 0, GPA, 1, 0, 1, ASID },
      OK, ENTRY(GPA, ASID, RMP_IMMUTABLE) },
    { "assign a page to the firmware", { NONE, NONE }, FIRMWARE(0x1000),
      OK, ENTRY(0, 0, RMP_IMMUTABLE) },
    { "assign with the largest ASID", { NONE, NONE }, { 0, GPA, 1, 0, 0, 509 },
      OK, ENTRY(GPA, 509, 0) },
    { "assign 2M", { NONE, NONE }, GUEST_2M,
      OK, ENTRY(GPA2M, ASID, RMP_2M) },
    { "assign 2M, immutable", { NONE, NONE }, { 0, GPA2M, 1, 1, 1, ASID },
      OK, ENTRY(GPA2M, ASID, RMP_2M | RMP_IMMUTABLE) },
    { "take a page back", { GUEST(0), NONE }, SHARED(0), OK, 0 },
    { "take 2M back", { GUEST_2M, NONE }, SHARED_2M, OK, 0 },
    { "take back a page that is not assigned", { NONE, NONE }, SHARED(0),
      OK, 0 },
    { "take back 2M that are not assigned", { NONE, NONE }, SHARED_2M, OK, 0 },
    { "give a guest's page to another guest", { GUEST(0), NONE },
      { 0, GPA + PAGE, 1, 0, 0, 7 }, OK, ENTRY(GPA + PAGE, 7, 0) },
    { "assign 2M again", { GUEST_2M, NONE }, { 0, GPA2M + LARGE, 1, 1, 0, 7 },
      OK, ENTRY(GPA2M + LARGE, 7, RMP_2M) },
    { "assign 2M that were taken back", { GUEST(0x5000), SHARED(0x5000) },
      GUEST_2M, OK, ENTRY(GPA2M, ASID, RMP_2M) },
    { "neighbours in 2M are independent", { GUEST(0x5000), FIRMWARE(0x7000) },
      GUEST(0x6000), OK, ENTRY(GPA, ASID, 0) },

    { "an address that is no page's", { NONE, NONE }, GUEST(0x10),
      FAIL_INPUT, 0 },
    { "2M: an address that is not 2M aligned", { NONE, NONE },
      { 0x1000, GPA2M, 1, 1, 0, ASID }, FAIL_INPUT, 0 },
    { "2M: a GPA that is not 2M aligned", { NONE, NONE },
      { 0, GPA2M + PAGE, 1, 1, 0, ASID }, FAIL_INPUT, 0 },
    { "a page that the table does not cover", { NONE, NONE },
      { UNCOVERED, GPA, 1, 0, 0, ASID }, FAIL_INPUT, ANY },
    { "2M that the table does not cover", { NONE, NONE },
      { UNCOVERED, GPA2M, 1, 1, 0, ASID }, FAIL_INPUT, ANY },
    { "taking back what the table does not cover", { NONE, NONE },
      { UNCOVERED, 0, 0, 0, 0, 0 }, FAIL_INPUT, ANY },
    { "an ASID above the largest", { NONE, NONE }, { 0, GPA, 1, 0, 0, 510 },
      FAIL_INPUT, 0 },
    { "an ASID of 11 bits", { NONE, NONE }, { 0, GPA, 1, 0, 0, 1024 },
      FAIL_INPUT, 0 },
    { "an ASID of 32 bits", { NONE, NONE },
      { 0, GPA, 1, 0, 0, 0x80000001 }, FAIL_INPUT, 0 },
    { "not assigned, but with an ASID", { NONE, NONE },
      { 0, 0, 0, 0, 0, ASID }, FAIL_INPUT, 0 },
    { "not assigned, but immutable", { NONE, NONE },
      { 0, 0, 0, 0, 1, 0 }, FAIL_INPUT, 0 },

    { "immutable: take back", { FIRMWARE(0), NONE }, SHARED(0),
      FAIL_PERMISSION, ENTRY(0, 0, RMP_IMMUTABLE) },
    { "immutable: the same again", { FIRMWARE(0), NONE }, FIRMWARE(0),
      FAIL_PERMISSION, ENTRY(0, 0, RMP_IMMUTABLE) },
    { "immutable: give to a guest",
      { { 0x1000, GPA, 1, 0, 1, ASID }, NONE }, GUEST(0x1000),
      FAIL_PERMISSION, ENTRY(GPA, ASID, RMP_IMMUTABLE) },
    { "immutable 2M: take back", { { 0, GPA2M, 1, 1, 1, ASID }, NONE },
      SHARED_2M, FAIL_PERMISSION,
      ENTRY(GPA2M, ASID, RMP_2M | RMP_IMMUTABLE) },

    { "overlap: take back the first page of 2M", { GUEST_2M, NONE }, SHARED(0),
      FAIL_OVERLAP, ENTRY(GPA2M, ASID, RMP_2M) },
    { "overlap: take back the last page of 2M", { GUEST_2M, NONE },
      SHARED(0x1ff000), FAIL_OVERLAP, ANY },
    { "overlap: assign the first page of 2M", { GUEST_2M, NONE }, GUEST(0),
      FAIL_OVERLAP, ENTRY(GPA2M, ASID, RMP_2M) },
    { "overlap: assign a page of 2M", { GUEST_2M, NONE }, GUEST(0x7000),
      FAIL_OVERLAP, ANY },
    { "overlap: 2M over an assigned page", { GUEST(0x7000), NONE }, GUEST_2M,
      FAIL_OVERLAP, 0 },
    { "overlap: 2M over an assigned last page", { GUEST(0x1ff000), NONE },
      GUEST_2M, FAIL_OVERLAP, 0 },
    { "overlap: 2M over a page of the firmware", { FIRMWARE(0x7000), NONE },
      GUEST_2M, FAIL_OVERLAP, 0 },
    { "overlap: take back 2M with an assigned page", { GUEST(0x7000), NONE },
      SHARED_2M, FAIL_OVERLAP, 0 },
};

static struct res update(u64 base, const struct update *u)
{
    struct rmp_state s = { u->gpa, u->assigned, u->large, u->immutable, 0,
                           u->asid };

    return do_rmpupdate(u->offset >= UNCOVERED ? u->offset : base + u->offset,
                        &s);
}

static void test_rmpupdate(void)
{
    unsigned int i, j;

    for (i = 0; i < ARRAY_SIZE(updates); i++) {
        u64 base = region();
        const struct update *u = &updates[i].op;
        u64 *e = rmp_entry(base + u->offset);
        struct res r;
        bool ok;

        for (j = 0; j < 2; j++) {
            if (updates[i].before[j].offset != ANY) {
                r = update(base, &updates[i].before[j]);
                must(r.vector == VEC_NONE && r.eax == OK);
            }
        }
        r = update(base, u);
        ok = r.vector == VEC_NONE && r.eax == updates[i].eax && flags_ok(r) &&
             (updates[i].entry == ANY || *e == updates[i].entry);
        tap(ok, updates[i].name);
        if (!ok) {
            ml_printf("# RMPUPDATE: vector 0x%lx eax %u flags 0x%x",
                      r.vector, r.eax, r.flags);
            if (updates[i].entry != ANY) {
                ml_printf(" entry 0x%lx, want eax %u entry 0x%lx", *e,
                          updates[i].eax, updates[i].entry);
            } else {
                ml_printf(", want eax %u", updates[i].eax);
            }
            ml_printf("\n");
        }
    }
}

/* How many of the 512 entries are assigned */
static u32 assigned(u64 base)
{
    u32 i, n = 0;

    for (i = 0; i < 512; i++) {
        n += *rmp_entry(base + i * PAGE) & RMP_ASSIGNED;
    }
    return n;
}

static void test_2m_entries(void)
{
    u64 base = region();

    must(rmpupdate(base, GPA2M, true, true, false, ASID) == OK);
    tap_eq("2M: all 512 entries are assigned", assigned(base), 512);
    must(rmpupdate(base, 0, false, true, false, 0) == OK);
    tap_eq("2M: no entry is assigned afterwards", assigned(base), 0);
}

static const struct {
    const char *name;
    struct update before;
    u64 offset;
    u32 eax;
    u64 more;                   /* bits that all entries have afterwards */
} smashes[] = {
    { "PSMASH 2M", GUEST_2M, 0, OK, 0 },
    { "PSMASH 2M, owned by nobody", { 0, 0, 1, 1, 0, 0 }, 0, OK, ANY },
    { "PSMASH immutable 2M", { 0, GPA2M, 1, 1, 1, ASID }, 0,
      FAIL_PERMISSION, ANY },
    { "PSMASH: not assigned", NONE, 0, FAIL_BADADDR, ANY },
    { "PSMASH: a page of 4K", GUEST(0), 0, FAIL_BADADDR, ANY },
    { "PSMASH: not 2M aligned", GUEST_2M, 0x1000, FAIL_INPUT, ANY },
    { "PSMASH: not 4K aligned", GUEST_2M, 0x8, FAIL_INPUT, ANY },
    { "PSMASH: not covered", NONE, UNCOVERED, FAIL_INPUT, ANY },
};

/* OF, ZF, SF and PF are set as by a comparison of EAX with 0 */
static void test_flags(void)
{
    static const struct {
        const char *name;
        u32 eax;
        u64 flags;
    } want[] = {
        { "flags after OK", OK, FLAG_ZF | FLAG_PF },
        { "flags after FAIL_INPUT", FAIL_INPUT, 0 },
        { "flags after FAIL_PERMISSION", FAIL_PERMISSION, 0 },
        { "flags after FAIL_OVERLAP", FAIL_OVERLAP, 0 },
    };
    u64 base = region();
    struct rmp_state shared = { 0 }, fw = { 0, 1, 0, 1, 0, 0 };
    struct rmp_state large = { 0, 1, 1, 0, 0, 0 };
    struct res r[4];
    int i;

    r[0] = do_rmpupdate(base + PAGE, &fw);
    r[1] = do_rmpupdate(UNCOVERED, &shared);
    r[2] = do_rmpupdate(base + PAGE, &shared);
    r[3] = do_rmpupdate(base, &large);
    for (i = 0; i < 4; i++) {
        must(r[i].eax == want[i].eax);
        tap_eq(want[i].name,
               r[i].flags & (FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_PF),
               want[i].flags);
    }
}

static void test_psmash(void)
{
    unsigned int i, j, bad;

    for (i = 0; i < ARRAY_SIZE(smashes); i++) {
        u64 base = region(), old;
        struct res r;
        bool ok;

        if (smashes[i].before.offset != ANY) {
            r = update(base, &smashes[i].before);
            must(r.vector == VEC_NONE && r.eax == OK);
        }
        old = *rmp_entry(base);
        r = do_psmash(smashes[i].offset >= UNCOVERED ? smashes[i].offset
                      : base + smashes[i].offset);
        ok = r.vector == VEC_NONE && r.eax == smashes[i].eax && flags_ok(r);
        tap(ok, smashes[i].name);
        if (!ok) {
            ml_printf("# vector 0x%lx eax %u flags 0x%x, want eax %u\n",
                      r.vector, r.eax, r.flags, smashes[i].eax);
        }
        if (smashes[i].eax) {
            tap_eq("  and the entry is as before", *rmp_entry(base), old);
            continue;
        }
        if (smashes[i].more == ANY) {
            continue;
        }
        for (j = bad = 0; j < 512; j++) {
            bad += *rmp_entry(base + j * PAGE) !=
                   ENTRY(GPA2M + j * PAGE, ASID, 0);
        }
        tap_eq("  and all 512 entries are of 4K, GPAs going up", bad, 0);
        tap_eq("  and can be taken back one by one",
               rmpupdate(base + 7 * PAGE, 0, false, false, false, 0), OK);
        tap_eq("  and not as 2M", rmpupdate(base, 0, false, true, false, 0),
               FAIL_OVERLAP);
        tap_eq("  and cannot be smashed again", do_psmash(base).eax,
               FAIL_BADADDR);
    }
}

/* -- faults of the instructions ------------------------------------------- */

static struct rmp_state shared_state;
static u64 fault_page;

static void user_rmpupdate(u64 arg)
{
    asm volatile(".byte 0xf2, 0x0f, 0x01, 0xfe" : : "a"(fault_page),
                 "c"(&shared_state) : "memory");
    user_exit();
}

static void user_psmash(u64 arg)
{
    asm volatile(".byte 0xf3, 0x0f, 0x01, 0xff" : : "a"(fault_page)
                 : "memory");
    user_exit();
}

/* In a 32-bit code segment, at CPL 0 */
#define IN_COMPAT(bytes) ({ \
    exc_clear(); \
    asm volatile(TRY_BEGIN \
                 "pushq %0\n\tlea 1f(%%rip), %%r10\n\tpush %%r10\n\tlretq\n" \
                 "1:\t" bytes "\n\t" \
                 ".byte 0xea\n\t.long 99f\n\t.word %c1" \
                 TRY_END \
                 : : "i"(SEL_CS32), "i"(SEL_CS), "a"(fault_page), \
                 "c"(&shared_state), "d"(0) : TRY_CLOBBER, "r10"); \
    exc_vector(); })

/* What has the same opcode, or almost, and is not there: see CPUID */
INSN(invlpgb, ".byte 0x0f, 0x01, 0xfe");
INSN(tlbsync, ".byte 0x0f, 0x01, 0xff");
INSN(rmpread, ".byte 0xf2, 0x0f, 0x01, 0xfd");
INSN(rmpquery, ".byte 0xf3, 0x0f, 0x01, 0xfd");

static void test_undefined(void)
{
    static const struct {
        const char *name;
        u8 *insn;
    } c[] = {
        { "0F 01 FE without F2 or F3", i_invlpgb },
        { "0F 01 FF without F2 or F3", i_tlbsync },
        { "RMPREAD", i_rmpread },
        { "RMPQUERY", i_rmpquery },
    };
    unsigned int i;

    must(!(cpuid(0x80000008, 0).b & BIT(3)));
    must(!(cpuid(0x8000001f, 0).a & (BIT(6) | BIT(21))));
    for (i = 0; i < ARRAY_SIZE(c); i++) {
        exc_clear();
        insn_call((u64)c[i].insn, fault_page, 0, 0);
        tap_eq(c[i].name, exc_vector(), VEC_UD);
    }
}

static void test_faults_disabled(void)
{
    fault_page = region();
    tap_eq("SNP_EN clear: RMPUPDATE",
           do_rmpupdate(fault_page, &shared_state).vector, VEC_UD);
    tap_eq("SNP_EN clear: PSMASH", do_psmash(fault_page).vector, VEC_UD);
    tap_eq("SNP_EN clear: PVALIDATE", do_pvalidate(fault_page, 0, 1).vector,
           VEC_UD);
    tap_eq("SNP_EN clear: RMPADJUST", do_rmpadjust(fault_page, 0, 1).vector,
           VEC_UD);
}

static void test_faults(void)
{
    u64 base = region();
    struct rmp_state *s;
    struct res r;

    fault_page = base;
    tap_eq("PVALIDATE of the host", do_pvalidate(base, 0, 1).vector, VEC_UD);
    tap_eq("RMPADJUST of the host", do_rmpadjust(base, 0, 1).vector, VEC_UD);
    call_user(user_rmpupdate, 0);
    tap_eq("RMPUPDATE at CPL 3", exc_vector(), VEC_GP);
    tap_eq("  error code", this_cpu()->exc.error, 0);
    call_user(user_psmash, 0);
    tap_eq("PSMASH at CPL 3", exc_vector(), VEC_GP);
    tap_eq("RMPUPDATE in compatibility mode",
           IN_COMPAT(".byte 0xf2, 0x0f, 0x01, 0xfe"), VEC_UD);
    tap_eq("PSMASH in compatibility mode",
           IN_COMPAT(".byte 0xf3, 0x0f, 0x01, 0xff"), VEC_UD);
    r = do_rmpupdate(base, (void *)(WINDOW + GB));
    tap_eq("RMPUPDATE: RCX is not mapped", r.vector, VEC_PF);
    tap_eq("  error code", this_cpu()->exc.error, 0);
    tap_eq("  CR2", this_cpu()->exc.cr2, WINDOW + GB);
    r = do_rmpupdate(base, (void *)BIT(62));
    tap_eq("RMPUPDATE: RCX is not canonical", r.vector, VEC_GP);

    /* The state may lie across pages, in memory that is only readable */
    host_map(WINDOW, base + LARGE - 2 * PAGE, PAGE, PTE_P);
    host_map(WINDOW + PAGE, base + LARGE - PAGE, PAGE, PTE_P);
    s = (void *)(base + LARGE - PAGE - 8);
    *s = (struct rmp_state) { GPA, 1, 0, 1, 0, ASID };
    r = do_rmpupdate(base, (void *)(WINDOW + PAGE - 8));
    tap(r.vector == VEC_NONE && r.eax == OK, "RMPUPDATE: RCX across two pages");
    tap_eq("  entry", *rmp_entry(base), ENTRY(GPA, ASID, RMP_IMMUTABLE));
    host_map(WINDOW + PAGE, 0, PAGE, 0);
    r = do_rmpupdate(base + PAGE, (void *)(WINDOW + PAGE - 8));
    tap_eq("RMPUPDATE: half of what RCX points to is not mapped", r.vector,
           VEC_PF);
    tap_eq("  CR2", this_cpu()->exc.cr2, WINDOW + PAGE);
    tap_eq("  entry", *rmp_entry(base + PAGE), 0);
}

/* -- the host's accesses -------------------------------------------------- */

enum { RD, WR, WR8, EX, UWR, URD, RMW, CROSS };

static void user_write(u64 va)
{
    F64(va, 0) = 1;
    user_exit();
}

static void user_read(u64 va)
{
    (void)F64(va, 0);
    user_exit();
}

static void access(int how, u64 va)
{
    switch (how) {
    case RD:
        try_read(va);
        break;
    case WR:
        try_write(va, 0xc3c3c3c3c3c3c3c3ULL);
        break;
    case WR8:
        try_write8(va, 0xc3);
        break;
    case EX:
        try_exec(va);
        break;
    case UWR:
        call_user(user_write, va);
        break;
    case URD:
        call_user(user_read, va);
        break;
    case RMW:
        exc_clear();
        asm volatile(TRY_BEGIN "lock addl $0, (%0)" TRY_END
                     : : "r"(va) : TRY_CLOBBER);
        break;
    case CROSS:
        try_write(va - 4, 0);
        break;
    }
}

#define M4  PAGE
#define M2  LARGE
#define M1  GB
#define RW  (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)
#define RW0 (PTE_P | PTE_W | PTE_U)     /* A and D are to be set */
#define RO  (PTE_P | PTE_U | PTE_A)
/* Of the firmware, but not immutable: the model must not scramble the page */
#define OWNED(off)  { off, 0, 1, 0, 0, 0 }
#define OWNED_2M    { 0, 0, 1, 1, 0, 0 }
#define WFAULT      (PF_P | PF_W | PF_RMP)

static const struct {
    const char *name;
    struct update state;
    u64 mapping, flags;
    u64 offset;                 /* of the access */
    int how;
    u64 error;                  /* of #PF; 0 is none */
} accesses[] = {
    { "4K: write, not assigned", NONE, M4, RW, 0x3000, WR, 0 },
    { "4K: read", OWNED(0x3000), M4, RW, 0x3000, RD, 0 },
    { "4K: read by user", OWNED(0x3000), M4, RW, 0x3000, URD, 0 },
    { "4K: fetch", OWNED(0x3000), M4, RW, 0x3000, EX, 0 },
    { "4K: write", OWNED(0x3000), M4, RW, 0x3000, WR, WFAULT },
    { "4K: write of a byte", OWNED(0x3000), M4, RW, 0x3fff, WR8, WFAULT },
    { "4K: write, A and D clear", OWNED(0x3000), M4, RW0, 0x3000, WR, WFAULT },
    { "4K: read, A and D clear", OWNED(0x3000), M4, RW0, 0x3000, RD, 0 },
    { "4K: locked RMW", OWNED(0x3000), M4, RW, 0x3000, RMW, WFAULT },
    { "4K: write by user", OWNED(0x3000), M4, RW, 0x3000, UWR,
      WFAULT | PF_U },
    { "4K: write to a guest's", GUEST(0x3000), M4, RW, 0x3000, WR, WFAULT },
    { "4K: write to the firmware's", FIRMWARE(0x3000), M4, RW, 0x3000, WR,
      WFAULT },
    { "4K: write to the page before", OWNED(0x3000), M4, RW, 0x2ff8, WR, 0 },
    { "4K: write to the page after", OWNED(0x3000), M4, RW, 0x4000, WR, 0 },
    { "4K: write into the page from before", OWNED(0x3000), M4, RW, 0x3000,
      CROSS, WFAULT },
    { "4K: write through a read-only mapping", OWNED(0x3000), M4, RO, 0x3000,
      UWR, PF_P | PF_W | PF_U },
    { "4K: write to the first page of 2M", OWNED_2M, M4, RW, 0, WR, WFAULT },
    { "4K: write to a page of 2M", OWNED_2M, M4, RW, 0x123000, WR, WFAULT },
    { "4K: read a page of 2M", OWNED_2M, M4, RW, 0x123000, RD, 0 },
    { "2M: write, not assigned", NONE, M2, RW, 0x3000, WR, 0 },
    { "2M: write to the page", OWNED(0x3000), M2, RW, 0x3000, WR, WFAULT },
    { "2M: write to another page", OWNED(0x3000), M2, RW, 0x1ff000, WR,
      WFAULT },
    { "2M: write to another, last assigned", OWNED(0x1ff000), M2, RW, 0, WR,
      WFAULT },
    { "2M: write by user", OWNED(0x3000), M2, RW, 0x8000, UWR, WFAULT | PF_U },
    { "2M: read", OWNED(0x3000), M2, RW, 0x3000, RD, 0 },
    { "2M: fetch", OWNED(0x3000), M2, RW, 0x3000, EX, 0 },
    { "2M: read another page", OWNED(0x3000), M2, RW, 0x4000, RD, 0 },
    { "2M: write to 2M", OWNED_2M, M2, RW, 0x123000, WR, WFAULT },
    { "2M: write, A and D clear", OWNED(0x3000), M2, RW0, 0x9000, WR, WFAULT },
    { "1G: write, not assigned", NONE, M1, RW, 0x3000, WR, 0 },
    { "1G: write to the page", OWNED(0x3000), M1, RW, 0x3000, WR, WFAULT },
    { "1G: write in the same 2M", OWNED(0x3000), M1, RW, 0x1ff000, WR,
      WFAULT },
    { "1G: write to the 2M after", OWNED(0x3000), M1, RW, 0x200000, WR, 0 },
    { "1G: write to the 2M before", OWNED(0x3000), M1, RW, -0x1000ULL, WR, 0 },
    { "1G: read", OWNED(0x3000), M1, RW, 0x3000, RD, 0 },
};

/* The window that shows physical addresses of the first 2 GB as @mapping */
static u64 window(u64 mapping, u64 pa, u64 flags)
{
    static u64 next = WINDOW + 2 * GB;
    u64 va, a;

    if (mapping == GB) {
        va = next + (pa & (GB - 1));
        host_map(next, pa & ~(GB - 1), GB, flags);
        next += GB;
        return va;
    }
    va = WINDOW + GB + (pa & (LARGE - 1));
    if (mapping == LARGE) {
        host_map(va & ~(LARGE - 1), pa & ~(LARGE - 1), LARGE, flags);
    } else {
        u64 from = pa & ~(PAGE - 1);

        /* with the pages around it */
        va += 8 * MB;
        for (a = from - PAGE; a != from + 2 * PAGE; a += PAGE) {
            host_map((va & ~(PAGE - 1)) + (a - from), a, PAGE, flags);
        }
    }
    return va;
}

static void test_access(void)
{
    unsigned int i;

    for (i = 0; i < ARRAY_SIZE(accesses); i++) {
        u64 apart = region(), base = region();
        u64 pa = base + accesses[i].offset, va, want_cr2;
        struct exc *x = &this_cpu()->exc;
        struct res r;
        bool ok;

        (void)apart;
        memset_((void *)(base & ~(LARGE - 1)), 0xc3, LARGE);
        if (accesses[i].state.offset != ANY) {
            r = update(base, &accesses[i].state);
            must(r.vector == VEC_NONE && r.eax == OK);
        }
        va = window(accesses[i].mapping, pa, accesses[i].flags);
        access(accesses[i].how, va);
        want_cr2 = va;
        if (accesses[i].error) {
            ok = x->vector == VEC_PF && x->error == accesses[i].error &&
                 x->cr2 == want_cr2;
        } else {
            ok = x->vector == VEC_NONE;
        }
        tap(ok, accesses[i].name);
        if (!ok) {
            ml_printf("# vector 0x%lx error 0x%lx cr2 0x%lx, want error 0x%lx "
                      "cr2 0x%lx\n", x->vector, x->error, x->cr2,
                      accesses[i].error, want_cr2);
        }
    }
}

/* A page table in a page that is not the hypervisor's */
static void test_walk(void)
{
    static const char *name[] = {
        "walk: read, table assigned", "walk: write, table assigned",
        "walk: fetch, table assigned",
    };
    static const u64 error[] = {
        PF_P | PF_RMP, PF_P | PF_RMP | PF_W, PF_P | PF_RMP | PF_I,
    };
    u64 base = region(), va = WINDOW + 512 * GB * 2, *table = (u64 *)base;
    struct exc *x = &this_cpu()->exc;
    int i, how[] = { RD, WR, EX };

    memset_((void *)(base + PAGE), 0xc3, PAGE);
    memset_(table, 0, PAGE);
    table[0] = (base + PAGE) | RW;
    *host_map(va, base, LARGE, RW) &= ~PTE_PS;
    write_cr3(read_cr3());
    access(RD, va);
    must(x->vector == VEC_NONE);
    for (i = 0; i < 3; i++) {
        must(rmpupdate(base, 0, true, false, false, 0) == OK);
        access(how[i], va);
        tap(x->vector == VEC_PF && x->error == error[i] && x->cr2 == va,
            name[i]);
        if (x->vector != VEC_PF || x->error != error[i] || x->cr2 != va) {
            ml_printf("# vector 0x%lx error 0x%lx cr2 0x%lx, want error "
                      "0x%lx\n", x->vector, x->error, x->cr2, error[i]);
        }
        must(rmpupdate(base, 0, false, false, false, 0) == OK);
        access(how[i], va);
        tap_eq("  and afterwards", x->vector, VEC_NONE);
    }
}

/* What processors have cached does not outlive RMPUPDATE and PSMASH */
static u64 ap_write(u64 va)
{
    try_write(va, 0);
    return exc_vector();
}

static void test_tlb(void)
{
    u64 base = region(), va = window(PAGE, base + PAGE, RW);
    u64 big;

    must(rmpupdate(base + PAGE, 0, false, false, false, 0) == OK);
    try_write(va, 0);
    must(exc_vector() == VEC_NONE);
    must(ap_call(ap_write, va) == VEC_NONE);
    must(rmpupdate(base + PAGE, 0, true, false, false, 0) == OK);
    try_write(va, 0);
    tap_eq("TLB: write after assignment", exc_vector(), VEC_PF);
    tap_eq("TLB: and on the other processor", ap_call(ap_write, va), VEC_PF);
    try_read(va);
    must(exc_vector() == VEC_NONE);
    must(rmpupdate(base + PAGE, 0, false, false, false, 0) == OK);
    try_write(va, 0);
    tap_eq("TLB: write after taking back", exc_vector(), VEC_NONE);
    tap_eq("TLB: and on the other processor", ap_call(ap_write, va), VEC_NONE);

    base = region();
    va = window(PAGE, base + PAGE, RW);
    big = window(LARGE, base, RW);
    try_write(big, 0);
    must(exc_vector() == VEC_NONE);
    must(rmpupdate(base + 5 * PAGE, 0, true, false, false, 0) == OK);
    try_write(big, 0);
    tap_eq("TLB: 2M mapping, another page was assigned", exc_vector(), VEC_PF);
    try_write(va, 0);
    tap_eq("TLB: 4K mapping beside it", exc_vector(), VEC_NONE);
    must(rmpupdate(base + 5 * PAGE, 0, false, false, false, 0) == OK);
    try_write(big, 0);
    tap_eq("TLB: 2M mapping, taken back", exc_vector(), VEC_NONE);

    must(rmpupdate(base, GPA2M, true, true, false, ASID) == OK);
    must(do_psmash(base).eax == OK);
    must(rmpupdate(base + PAGE, 0, false, false, false, 0) == OK);
    try_write(va, 0);
    tap_eq("TLB: page taken out of 2M", exc_vector(), VEC_NONE);
    try_write(big, 0);
    tap_eq("TLB: 2M mapping of the rest", exc_vector(), VEC_PF);
}

/* Both processors change entries of the same 2 MB; none may be lost */
static u64 race_base;

static u64 race(u64 odd)
{
    u64 i, n, bad = 0;

    for (n = 0; n < 20; n++) {
        for (i = odd; i < 64; i += 2) {
            u32 r;

            do {
                r = rmpupdate(race_base + i * PAGE, GPA + i * PAGE, !(n & 1),
                              false, false, n & 1 ? 0 : ASID);
            } while (r == FAIL_OVERLAP || r == FAIL_INUSE);
            bad += r != OK;
        }
    }
    return bad;
}

static void test_race(void)
{
    u64 bad;

    race_base = region();
    ap_post(race, 1);
    bad = race(0);
    bad += ap_wait();
    tap_eq("two processors in the same 2M", bad, 0);
    tap_eq("  entries left", assigned(race_base), 0);
    try_write(window(LARGE, race_base, RW), 0);
    tap_eq("  writable through a 2M mapping", exc_vector(), VEC_NONE);
}

/* Memory does not change by changes of ownership alone */
static void test_contents(void)
{
    u64 base = region(), i, bad = 0;

    for (i = 0; i < PAGE; i += 8) {
        *(u64 *)(base + i) = i * 0x9e3779b97f4a7c15ULL;
    }
    must(rmpupdate(base, GPA, true, false, false, ASID) == OK);
    must(rmpupdate(base, 0, false, false, false, 0) == OK);
    for (i = 0; i < PAGE; i += 8) {
        bad += *(u64 *)(base + i) != i * 0x9e3779b97f4a7c15ULL;
    }
    tap_eq("a page that a guest had but did not touch", bad, 0);
}

int main(void)
{
    lib_init();
    if (!ap_start()) {
        bail("needs two processors");
    }
    test_faults_disabled();
    snp_enable();
    test_rmpupdate();
    test_2m_entries();
    test_flags();
    test_psmash();
    test_faults();
    test_undefined();
    test_access();
    test_walk();
    test_tlb();
    test_race();
    test_contents();
    return tap_end();
}
