/*
 * AMD platform security processor (PSP): CPUID policy
 *
 * The firmware lets a hypervisor show an SNP guest less than the processor
 * has, but never more. Which bits and values it compares is not in the ABI
 * specification but in the processor's PPR; the choice here is the bits that
 * announce a feature, the limits of leaf ranges, the vendor, and the places
 * where a wrong number would make a guest use memory wrongly (position of the
 * C-bit, physical address size, XSAVE area). Everything else is the
 * hypervisor's to say: topology, caches, brand string, family and model, its
 * own range of leaves.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "amd-psp.h"
#include "trace.h"

enum {
    POLICY_SUBSET,          /* no bit within the mask that we do not have */
    POLICY_EQUAL,           /* the same in the mask */
    POLICY_MAX,             /* a number no higher, in the mask */
};

#define ANY_SUB     UINT32_MAX
#define ALL         UINT32_MAX

static const struct CPUIDRule {
    uint32_t leaf;
    uint32_t sub;           /* ANY_SUB: the leaf has none */
    uint8_t reg;            /* EAX, EBX, ECX, EDX */
    uint8_t policy;
    uint32_t mask;
} cpuid_rules[] = {
    { 0x00000000, ANY_SUB, 0, POLICY_MAX, ALL },
    { 0x00000000, ANY_SUB, 1, POLICY_EQUAL, ALL },
    { 0x00000000, ANY_SUB, 2, POLICY_EQUAL, ALL },
    { 0x00000000, ANY_SUB, 3, POLICY_EQUAL, ALL },
    /*
     * Not: OSXSAVE, which follows CR4; x2APIC and the hypervisor bit, which
     * are the hypervisor's; HTT, which is about topology
     */
    { 0x00000001, ANY_SUB, 2, POLICY_SUBSET,
      ~(1u << 21 | 1u << 27 | 1u << 31) },
    { 0x00000001, ANY_SUB, 3, POLICY_SUBSET, ~(1u << 28) },
    { 0x00000007, 0, 1, POLICY_SUBSET, ALL },
    { 0x00000007, 0, 2, POLICY_SUBSET, ~(1u << 4) },       /* OSPKE: CR4 */
    { 0x00000007, 0, 3, POLICY_SUBSET, ALL },
    { 0x0000000d, 0, 0, POLICY_SUBSET, ALL },
    { 0x0000000d, 0, 2, POLICY_MAX, ALL },
    { 0x0000000d, 0, 3, POLICY_SUBSET, ALL },
    { 0x0000000d, 1, 0, POLICY_SUBSET, ALL },
    { 0x0000000d, 1, 2, POLICY_SUBSET, ALL },
    { 0x0000000d, 1, 3, POLICY_SUBSET, ALL },
    { 0x80000000, ANY_SUB, 0, POLICY_MAX, ALL },
    { 0x80000000, ANY_SUB, 1, POLICY_EQUAL, ALL },
    { 0x80000000, ANY_SUB, 2, POLICY_EQUAL, ALL },
    { 0x80000000, ANY_SUB, 3, POLICY_EQUAL, ALL },
    /* Not: CmpLegacy and TopologyExtensions, which are about topology */
    { 0x80000001, ANY_SUB, 2, POLICY_SUBSET, ~(1u << 1 | 1u << 22) },
    { 0x80000001, ANY_SUB, 3, POLICY_SUBSET, ALL },
    { 0x80000008, ANY_SUB, 0, POLICY_MAX, 0xff },
    { 0x80000008, ANY_SUB, 1, POLICY_SUBSET, ALL },
    { 0x8000001f, ANY_SUB, 0, POLICY_SUBSET, ALL },
    { 0x8000001f, ANY_SUB, 1, POLICY_EQUAL, 0x3f },
};

/* Size of the XSAVE area for @xcr0 | @xss; @compacted as XSAVEC lays it out */
static uint32_t cpuid_xsave_size(uint64_t features, bool compacted)
{
    uint32_t size = 512 + 64, r[4];
    unsigned i;

    for (i = 2; i < 63; i++) {
        if (!(features & BIT_ULL(i))) {
            continue;
        }
        psp_cpuid(0xd, i, r);
        if (!compacted) {
            size = MAX(size, r[1] + r[0]);
        } else {
            size = (r[2] & 2 ? ROUND_UP(size, 64) : size) + r[0];
        }
    }
    return size;
}

static bool cpuid_fix(uint32_t leaf, uint32_t sub, unsigned reg, uint8_t *p,
                      uint32_t want)
{
    static const char *const names[] = { "EAX", "EBX", "ECX", "EDX" };
    uint32_t is = ldl_le_p(p);

    if (is == want) {
        return true;
    }
    trace_amd_psp_cpuid(leaf, sub, names[reg], is, want);
    stl_le_p(p, want);
    return false;
}

static bool cpuid_check_one(uint8_t *e)
{
    uint32_t leaf = ldl_le_p(e), sub = ldl_le_p(e + 4), host[4];
    uint64_t xcr0 = ldq_le_p(e + 8), xss = ldq_le_p(e + 0x10);
    bool ok = true;
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(cpuid_rules); i++) {
        const struct CPUIDRule *r = &cpuid_rules[i];
        uint8_t *p = e + 0x18 + 4 * r->reg;
        uint32_t is = ldl_le_p(p), want = is;

        if (r->leaf != leaf || (r->sub != ANY_SUB && r->sub != sub)) {
            continue;
        }
        psp_cpuid(leaf, sub, host);
        switch (r->policy) {
        case POLICY_SUBSET:
            want = is & (host[r->reg] | ~r->mask);
            break;
        case POLICY_EQUAL:
            want = (is & ~r->mask) | (host[r->reg] & r->mask);
            break;
        case POLICY_MAX:
            if ((is & r->mask) > (host[r->reg] & r->mask)) {
                want = (is & ~r->mask) | (host[r->reg] & r->mask);
            }
            break;
        }
        ok &= cpuid_fix(leaf, sub, r->reg, p, want);
    }

    if (leaf == 0xd && sub < 2) {
        /* The guest may ask before it sets XCR0: x87 is always on */
        ok &= cpuid_fix(leaf, sub, 1, e + 0x1c,
                        cpuid_xsave_size(sub ? xcr0 | xss : xcr0, sub));
    } else if (leaf == 0xd && sub < 64) {
        /* Size, offset and alignment of a component, if it is there at all */
        psp_cpuid(leaf, sub, host);
        if (ldl_le_p(e + 0x18)) {
            for (i = 0; i < 3; i++) {
                ok &= cpuid_fix(leaf, sub, i, e + 0x18 + 4 * i, host[i]);
            }
        }
    }
    return ok;
}

bool snp_cpuid_check(uint8_t *entry, uint32_t count)
{
    bool ok = true;
    uint32_t i;

    for (i = 0; i < count; i++) {
        ok &= cpuid_check_one(entry + i * SNP_CPUID_ENTRY_SIZE);
    }
    return ok;
}
