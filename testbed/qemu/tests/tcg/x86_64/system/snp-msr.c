/*
 * What CPUID and the model-specific registers say of SEV-SNP, before and after
 * it is enabled
 *
 * AMD64 APM volume 2, 15.34.1, 15.36.1, 15.36.2; volume 3, CPUID 8000001F
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "snp-lib.h"

static const struct {
    const char *name;
    u32 leaf, reg;              /* 0 to 3: EAX to EDX */
    u32 mask, want;
} leaves[] = {
    { "8000001F EAX: SEV", 0x8000001f, 0, BIT(1), BIT(1) },
    { "8000001F EAX: SEV-ES", 0x8000001f, 0, BIT(3), BIT(3) },
    { "8000001F EAX: SEV-SNP", 0x8000001f, 0, BIT(4), BIT(4) },
    { "8000001F EAX: VMPL", 0x8000001f, 0, BIT(5), BIT(5) },
    { "8000001F EBX: C-bit", 0x8000001f, 1, 0x3f, 51 },
    { "8000001F EBX: 4 VMPLs", 0x8000001f, 1, 0xf000, 0x4000 },
    { "8000001F ECX: largest ASID", 0x8000001f, 2, ~0u, 509 },
    { "8000001F EDX: smallest ASID of SEV without ES", 0x8000001f, 3, ~0u,
      100 },
    { "8000000A EDX: nested paging", 0x8000000a, 3, BIT(0), BIT(0) },
    { "8000000A EDX: LBR virtualization", 0x8000000a, 3, BIT(1), BIT(1) },
    { "8000000A EDX: next RIP", 0x8000000a, 3, BIT(3), BIT(3) },
    { "8000000A EDX: flush by ASID", 0x8000000a, 3, BIT(6), BIT(6) },
    { "8000000A EDX: decode assists", 0x8000000a, 3, BIT(7), BIT(7) },
    { "1 ECX: no hypervisor", 1, 2, BIT(31), 0 },
    { "80000008 EAX: 48 bits of physical address", 0x80000008, 0, 0xff, 48 },
};

static u32 leaf(u32 n, u32 reg)
{
    struct cpuid c = cpuid(n, 0);

    return reg == 0 ? c.a : reg == 1 ? c.b : reg == 2 ? c.c : c.d;
}

static void test_cpuid(void)
{
    unsigned int i;

    tap(leaf(0x80000000, 0) >= 0x8000001f, "80000000 EAX");
    tap(leaf(0x8000000a, 1) >= 510, "8000000A EBX: ASIDs");
    for (i = 0; i < ARRAY_SIZE(leaves); i++) {
        tap_eq(leaves[i].name, leaf(leaves[i].leaf, leaves[i].reg) &
               leaves[i].mask, leaves[i].want);
    }
}

static struct rmp_state shared;

static u64 ap_rmpupdate(u64 pa)
{
    return do_rmpupdate(pa, &shared).vector;
}

static u64 ap_rdmsr(u64 msr)
{
    return rdmsr(msr);
}

static u64 ap_set_syscfg(u64 bits)
{
    wrmsr(MSR_SYSCFG, rdmsr(MSR_SYSCFG) | bits);
    return rdmsr(MSR_SYSCFG);
}

/* A write either faults or does nothing: the manual is not of one mind */
static void locked(const char *name, u32 msr, u64 val)
{
    u64 old = rdmsr(msr);

    try_wrmsr(msr, val);
    tap_eq(name, rdmsr(msr), old);
}

int main(void)
{
    static const u8 reserved[] = { 0, 17, 26, 31, 32, 63 };
    u64 base, end, page = region(), syscfg;
    unsigned int i, bad = 0;

    lib_init();
    if (!ap_start()) {
        bail("needs two processors");
    }
    test_cpuid();

    syscfg = rdmsr(MSR_SYSCFG);
    tap_eq("SYSCFG: memory encryption is enabled", syscfg & SYSCFG_MEM_ENC,
           SYSCFG_MEM_ENC);
    tap_eq("SYSCFG: SNP is not", syscfg & (SYSCFG_SNP | SYSCFG_VMPL), 0);
    tap_eq("SYSCFG is the same on the other processor",
           ap_call(ap_rdmsr, MSR_SYSCFG), syscfg);
    tap_eq("HWCR: SMM is locked", rdmsr(MSR_HWCR) & 1, 1);
    try_wrmsr(MSR_HWCR, rdmsr(MSR_HWCR) & ~1ULL);
    tap_eq("HWCR: and stays locked", rdmsr(MSR_HWCR) & 1, 1);
    tap_eq("SEV_STATUS of the host", try_rdmsr(MSR_SEV_STATUS), 0);

    base = rdmsr(MSR_RMP_BASE);
    end = rdmsr(MSR_RMP_END);
    tap(base && end > base, "RMP_BASE and RMP_END are set");
    tap(!(base & (MB - 1)) && !((end + 1) & (MB - 1)),
        "RMP_BASE and RMP_END are 1M aligned");
    tap((end + 1 - base - 16 * KB) / 16 * PAGE > end,
        "the RMP covers all memory, itself included");
    tap(base == ap_call(ap_rdmsr, MSR_RMP_BASE) &&
        end == ap_call(ap_rdmsr, MSR_RMP_END), "also on the other processor");

    for (i = 0; i < ARRAY_SIZE(reserved); i++) {
        try_wrmsr(MSR_SYSCFG, syscfg | BIT(reserved[i]));
        bad += exc_vector() != VEC_GP || this_cpu()->exc.error ||
               rdmsr(MSR_SYSCFG) != syscfg;
    }
    tap_eq("SYSCFG: #GP for reserved bits", bad, 0);
    try_wrmsr(MSR_SYSCFG, syscfg | SYSCFG_MFDM);
    tap_eq("SYSCFG: MFDM can be set", rdmsr(MSR_SYSCFG) & SYSCFG_MFDM,
           SYSCFG_MFDM);
    syscfg = rdmsr(MSR_SYSCFG);
    memset_((void *)base, 0, end + 1 - base);
    try_wrmsr(MSR_SYSCFG, syscfg | SYSCFG_SNP | SYSCFG_VMPL);
    tap_eq("SYSCFG: SNP can be enabled", exc_vector(), VEC_NONE);
    tap_eq("SYSCFG: and is", rdmsr(MSR_SYSCFG),
           syscfg | SYSCFG_SNP | SYSCFG_VMPL);
    tap_eq("RMPUPDATE works", do_rmpupdate(page, &shared).eax, OK);
    tap_eq("but not on the other processor, which is not enabled",
           ap_call(ap_rmpupdate, page), VEC_UD);
    tap_eq("whose SYSCFG says so",
           ap_call(ap_rdmsr, MSR_SYSCFG) & (SYSCFG_SNP | SYSCFG_VMPL), 0);
    ap_call(ap_set_syscfg, SYSCFG_SNP | SYSCFG_VMPL | SYSCFG_MFDM);
    tap_eq("until it is", ap_call(ap_rmpupdate, page), VEC_NONE);

    syscfg = rdmsr(MSR_SYSCFG);
    locked("SYSCFG: SNP cannot be disabled", MSR_SYSCFG, syscfg & ~SYSCFG_SNP);
    locked("SYSCFG: VMPL cannot be disabled", MSR_SYSCFG,
           syscfg & ~SYSCFG_VMPL);
    locked("SYSCFG: memory encryption cannot be disabled", MSR_SYSCFG,
           syscfg & ~SYSCFG_MEM_ENC);
    locked("SYSCFG: nothing of them can", MSR_SYSCFG,
           syscfg & ~(SYSCFG_SNP | SYSCFG_VMPL | SYSCFG_MEM_ENC));
    locked("RMP_BASE is locked", MSR_RMP_BASE, base + LARGE);
    locked("RMP_END is locked", MSR_RMP_END, end - LARGE);
    tap_eq("RMPUPDATE still works", do_rmpupdate(page, &shared).eax, OK);
    return tap_end();
}
