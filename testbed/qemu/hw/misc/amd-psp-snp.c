/*
 * AMD platform security processor (PSP): SEV-SNP
 *
 * The commands of the SEV-SNP Firmware ABI Specification (AMD publication
 * 56860), revision 1.55.
 *
 * The state of a guest lives in the device, not in the guest context page,
 * where nothing could protect it; the page holds a cookie by which we
 * recognize it.
 *
 * Not modelled: migration agents, page swapping and moving, the installation
 * of firmware and of a VLEK. Commands that belong to them check what they can
 * and fail.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "exec/hwaddr.h"
#include "hw/boards.h"
#include "hw/core/cpu.h"
#include "hw/i386/amd_iommu.h"
#include "amd-psp.h"
#include "trace.h"

#define SYSCFG_MFDM         BIT_ULL(19)
#define SYSCFG_MEM_ENC      BIT_ULL(23)
#define SYSCFG_SNP_EN       BIT_ULL(24)
#define SYSCFG_VMPL_EN      BIT_ULL(25)
#define SYSCFG_NEEDED       (SYSCFG_MFDM | SYSCFG_MEM_ENC | SYSCFG_SNP_EN | \
                             SYSCFG_VMPL_EN)

/* Guest policy */
#define POLICY_ABI_MINOR(p)     extract64(p, 0, 8)
#define POLICY_ABI_MAJOR(p)     extract64(p, 8, 8)
#define POLICY_SMT              BIT_ULL(16)
#define POLICY_ONE              BIT_ULL(17)
#define POLICY_DEBUG            BIT_ULL(19)
#define POLICY_SINGLE_SOCKET    BIT_ULL(20)
#define POLICY_AES_256_XTS      BIT_ULL(22)
#define POLICY_RAPL_DIS         BIT_ULL(23)
#define POLICY_CIPHERTEXT       BIT_ULL(24)
#define POLICY_RESERVED         MAKE_64BIT_MASK(25, 39)

/* LAUNCH_UPDATE */
enum {
    PAGE_NORMAL = 1,
    PAGE_VMSA = 2,
    PAGE_ZERO = 3,
    PAGE_UNMEASURED = 4,
    PAGE_SECRETS = 5,
    PAGE_CPUID = 6,
};

#define RANGE_LIST_MAX      ((RMP_PAGE_SIZE - 8) / 16)
#define HELD_RMP            "rmp"

static hwaddr page_of(hwaddr pa)
{
    return pa & ~(hwaddr)(RMP_PAGE_SIZE - 1);
}

static bool is_aligned(hwaddr pa, uint64_t size)
{
    return !(pa & (size - 1));
}

static RMPState snp_page_state(hwaddr pa, RMPEntry *e)
{
    return rmp_state(e, rmp_get(pa, e));
}

static PSPStatus snp_bad_page(const char *what, hwaddr pa, PSPStatus status)
{
    RMPEntry e;
    RMPState state = snp_page_state(pa, &e);

    trace_amd_psp_bad_page(what, pa, rmp_state_name(state), e.asid);
    return status;
}

/*
 * Replace an entry that has been checked. Processors may have changed it
 * meanwhile, if it was not immutable.
 */
static PSPStatus snp_page_change(const char *what, hwaddr pa,
                                 const RMPEntry *old, const RMPEntry *new)
{
    RMPEntry now;
    bool same;

    rmp_lock();
    same = rmp_get(pa, &now) && now.assigned == old->assigned &&
           now.large == old->large && now.immutable == old->immutable &&
           now.vmsa == old->vmsa && now.validated == old->validated &&
           now.asid == old->asid && now.gpa == old->gpa;
    if (same) {
        rmp_set(pa, new);
    }
    rmp_unlock();
    if (!same) {
        return snp_bad_page(what, pa, PSP_INVALID_PAGE_STATE);
    }
    rmp_flush();
    trace_amd_psp_page(what, pa, rmp_state_name(rmp_state(old, true)),
                       rmp_state_name(rmp_state(new, true)));
    return PSP_SUCCESS;
}

/* -- platform -------------------------------------------------------------- */

static PSPStatus snp_check_processors(void)
{
    CPUState *cs;
    hwaddr base, end;

    if (!rmp_enabled) {
        return PSP_INVALID_CONFIG;
    }
    CPU_FOREACH(cs) {
        X86CPU *cpu = X86_CPU(cs);

        /* HWCR.SMMLOCK is always set in these */
        if (!cpu->sev_host || cpu->env.vm_hsave ||
            (cpu->env.msr_syscfg & SYSCFG_NEEDED) != SYSCFG_NEEDED) {
            return PSP_INVALID_CONFIG;
        }
    }

    rmp_range(&base, &end);
    if (base >= end || !is_aligned(base, MiB) || !is_aligned(end + 1, MiB) ||
        !rmp_covers(base) || !rmp_covers(end)) {
        return PSP_INVALID_CONFIG;
    }
    return PSP_SUCCESS;
}

static AMDVIState *snp_iommu(void)
{
    Object *obj = object_resolve_path_type("", TYPE_AMD_IOMMU_DEVICE, NULL);

    return obj ? AMD_IOMMU_DEVICE(obj) : NULL;
}

static const RMPEntry firmware_entry = { .assigned = true, .immutable = true };
static const RMPEntry reclaim_entry = { .assigned = true };
static const RMPEntry fixed_entry = { .immutable = true };

/* The table's own pages; with rmp_lock() held */
static void snp_fill_firmware(hwaddr base, hwaddr end)
{
    hwaddr pa;

    for (pa = base; pa < end; pa += RMP_PAGE_SIZE) {
        rmp_set(pa, &firmware_entry);
    }
}

static hwaddr range_end(const uint8_t *range)
{
    uint32_t pages = ldl_le_p(range + 8);

    return ldq_le_p(range) + pages * RMP_PAGE_SIZE;
}

/* To HV-Fixed, what the hypervisor has now; with rmp_lock() held */
static void snp_fix_range(const uint8_t *range)
{
    hwaddr pa = ldq_le_p(range);
    hwaddr end = MIN(range_end(range), rmp_entries() * RMP_PAGE_SIZE);

    for (; pa < end; pa += RMP_PAGE_SIZE) {
        RMPEntry e;

        if (snp_page_state(pa, &e) == RMP_HYPERVISOR) {
            rmp_set(pa, &fixed_entry);
        }
    }
}

static void snp_hold_iommu(AMDPSPState *s)
{
    AMDVIBuffer buf[AMDVI_NUM_BUFFERS];
    unsigned i, n = amdvi_snp_buffers(snp_iommu(), buf);

    for (i = 0; i < n; i++) {
        hwaddr base = page_of(buf[i].base);
        uint64_t size = ROUND_UP(buf[i].base + buf[i].size, RMP_PAGE_SIZE) -
                        base;
        hwaddr pa;

        /* An address from a register: it must not free what is ours later */
        if (psp_is_held(s, base, size)) {
            continue;
        }
        psp_hold(s, base, size, buf[i].name);
        rmp_lock();
        for (pa = base; pa < base + size; pa += RMP_PAGE_SIZE) {
            RMPEntry e;

            if (snp_page_state(pa, &e) == RMP_HYPERVISOR) {
                rmp_set(pa, &firmware_entry);
            }
        }
        rmp_unlock();
    }
}

/* The hypervisor gets the buffers back that are held, wherever they are now */
static void snp_reclaim_iommu(AMDPSPState *s)
{
    unsigned i;

    for (i = 0; i < PSP_MAX_HELD; i++) {
        PSPHeld *h = &s->held[i];
        hwaddr pa;

        if (!h->size || !strstart(h->what, "iommu", NULL)) {
            continue;
        }
        rmp_lock();
        for (pa = h->base; pa < h->base + h->size; pa += RMP_PAGE_SIZE) {
            RMPEntry e;

            /* What lies in a large page is the hypervisor's to reclaim */
            if (snp_page_state(pa, &e) == RMP_FIRMWARE && !e.large) {
                rmp_set(pa, &reclaim_entry);
            }
        }
        rmp_unlock();
        h->size = 0;
    }
    rmp_flush();
}

/*
 * Ranges of pages: a header of 8 bytes, then base, number of pages, reserved.
 * They may lie beyond the RMP, but not name more pages of it than it has: the
 * work that a command makes has a limit.
 */
static PSPStatus snp_read_ranges(hwaddr list, uint8_t *ranges, uint32_t *count)
{
    PSPStatus status;
    uint64_t total = 0;
    uint8_t header[8];
    uint32_t i;

    status = psp_read_mem(list, header, sizeof(header));
    if (status) {
        return status;
    }
    *count = ldl_le_p(header);
    if (*count > RANGE_LIST_MAX || ldl_le_p(header + 4)) {
        return PSP_INVALID_PARAM;
    }
    status = psp_read_mem(list + sizeof(header), ranges, *count * 16);
    if (status) {
        return status;
    }
    for (i = 0; i < *count; i++) {
        uint8_t *r = ranges + i * 16;
        uint64_t base = ldq_le_p(r), end = range_end(r);

        if (ldl_le_p(r + 12)) {
            return PSP_INVALID_PARAM;
        }
        if (!is_aligned(base, RMP_PAGE_SIZE) ||
            end < base) {
            return PSP_INVALID_ADDRESS;
        }
        end = MIN(end / RMP_PAGE_SIZE, rmp_entries());
        base = MIN(base / RMP_PAGE_SIZE, end);
        total += end - base;
        if (total > rmp_entries()) {
            return PSP_INVALID_PARAM;
        }
    }
    return PSP_SUCCESS;
}

static PSPStatus snp_do_init(AMDPSPState *s, bool init_rmp, bool rapl_dis,
                             const uint8_t *ranges, uint32_t count)
{
    AMDVIState *iommu = snp_iommu();
    PSPStatus status;
    hwaddr base, end;
    uint32_t i;

    status = snp_check_processors();
    if (status) {
        return status;
    }
    if (!iommu || !iommu->snp || !iommu->enabled) {
        return PSP_INVALID_CONFIG;
    }
    if (!init_rmp && !s->snp.rmp_init) {
        return PSP_RMP_INIT_REQUIRED;
    }

    rmp_range(&base, &end);
    rmp_lock();
    if (init_rmp) {
        rmp_clear();
    }
    /* First: the hypervisor cannot know better about the table itself */
    snp_fill_firmware(base, end + 1);
    for (i = 0; i < count; i++) {
        snp_fix_range(ranges + i * 16);
    }
    rmp_unlock();

    psp_release(s, HELD_RMP);
    psp_hold(s, base, end + 1 - base, HELD_RMP);
    for (i = 0; i < PSP_MAX_HELD; i++) {
        if (s->held[i].size && strstart(s->held[i].what, "iommu", NULL)) {
            s->held[i].size = 0;
        }
    }
    snp_hold_iommu(s);
    rmp_flush();

    s->snp.init = true;
    s->snp.rmp_init = true;
    s->snp.rapl_dis = rapl_dis;
    s->snp.mask_chip_id = false;
    s->snp.mask_chip_key = false;
    s->snp.reported_tcb = s->snp.committed_tcb;
    /* Caches may hold lines of any key from before */
    psp_asids_dirty(s, 1, psp_max_asid());
    return PSP_SUCCESS;
}

static PSPStatus snp_cmd_init(AMDPSPState *s, uint8_t *c)
{
    if (s->snp.init || s->sev.state != SEV_UNINIT) {
        return PSP_INVALID_PLATFORM_STATE;
    }
    return snp_do_init(s, true, false, NULL, 0);
}

static PSPStatus snp_cmd_init_ex(AMDPSPState *s, uint8_t *c)
{
    uint8_t ranges[RMP_PAGE_SIZE];
    uint32_t flags = ldl_le_p(c), count = 0;

    if (s->snp.init || s->sev.state != SEV_UNINIT) {
        return PSP_INVALID_PLATFORM_STATE;
    }
    /* Bits 0 to 2: INIT_RMP, LIST_PADDR_EN, RAPL_DIS */
    if (flags & ~7u || ldl_le_p(c + 4) || !buffer_is_zero(c + 0x10, 0x30)) {
        return PSP_INVALID_PARAM;
    }
    if (flags & 2) {
        PSPStatus status = snp_read_ranges(psp_pa(ldq_le_p(c + 8)), ranges,
                                           &count);

        if (status) {
            return status;
        }
    }
    return snp_do_init(s, flags & 1, flags & 4, ranges, count);
}

static PSPStatus snp_do_shutdown(AMDPSPState *s, bool iommu)
{
    if (s->sev.state != SEV_UNINIT) {
        return PSP_INVALID_PLATFORM_STATE;
    }
    if (g_hash_table_size(s->snp.guests)) {
        return PSP_ACTIVE;
    }
    if (!bitmap_empty(s->asid_dirty, PSP_MAX_ASID)) {
        return PSP_DFFLUSH_REQUIRED;
    }
    if (iommu) {
        snp_reclaim_iommu(s);
    }
    s->snp.init = false;
    return PSP_SUCCESS;
}

static PSPStatus snp_cmd_shutdown(AMDPSPState *s, uint8_t *c)
{
    return snp_do_shutdown(s, false);
}

static PSPStatus snp_cmd_shutdown_ex(AMDPSPState *s, uint8_t *c)
{
    uint32_t flags = ldl_le_p(c + 4);

    if (ldl_le_p(c) != 8) {
        return PSP_INVALID_LENGTH;
    }
    if (flags & ~1u) {
        return PSP_INVALID_PARAM;
    }
    return snp_do_shutdown(s, flags & 1);
}

static PSPStatus snp_cmd_platform_status(AMDPSPState *s, uint8_t *c)
{
    hwaddr pa = psp_pa(ldq_le_p(c));
    uint8_t b[0x20] = { 0 };
    PSPStatus status = psp_check_output(s, pa, sizeof(b));

    if (status) {
        return status;
    }
    b[0x00] = PSP_API_MAJOR;
    b[0x01] = PSP_API_MINOR;
    b[0x02] = s->snp.init;
    b[0x03] = s->snp.rmp_init;
    stl_le_p(b + 0x04, PSP_BUILD);
    stl_le_p(b + 0x08, s->snp.mask_chip_id | s->snp.mask_chip_key << 1 |
             s->snp.rapl_dis << 4);
    stl_le_p(b + 0x0c, g_hash_table_size(s->snp.guests));
    stq_le_p(b + 0x10, s->snp.current_tcb);
    stq_le_p(b + 0x18, s->snp.reported_tcb);
    psp_write_mem(pa, b, sizeof(b));
    return PSP_SUCCESS;
}

static PSPStatus snp_cmd_df_flush(AMDPSPState *s, uint8_t *c)
{
    return psp_df_flush(s);
}

/* Each component of a TCB version counts for itself */
static bool tcb_at_most(uint64_t tcb, uint64_t limit)
{
    unsigned i;

    for (i = 0; i < 64; i += 8) {
        if (extract64(tcb, i, 8) > extract64(limit, i, 8)) {
            return false;
        }
    }
    return true;
}

static PSPStatus snp_cmd_config(AMDPSPState *s, uint8_t *c)
{
    uint64_t tcb = ldq_le_p(c);
    uint32_t flags = ldl_le_p(c + 8);

    if (flags & ~3u || !buffer_is_zero(c + 0xc, 0x34) ||
        !tcb_at_most(tcb, s->snp.committed_tcb)) {
        return PSP_INVALID_PARAM;
    }
    s->snp.reported_tcb = tcb ?: s->snp.committed_tcb;
    s->snp.mask_chip_id = flags & 1;
    s->snp.mask_chip_key = flags & 2;
    return PSP_SUCCESS;
}

static PSPStatus snp_cmd_commit(AMDPSPState *s, uint8_t *c)
{
    if (ldl_le_p(c) != 4) {
        return PSP_INVALID_LENGTH;
    }
    if (s->snp.reported_tcb == s->snp.committed_tcb) {
        s->snp.reported_tcb = s->snp.current_tcb;
    }
    s->snp.committed_tcb = s->snp.current_tcb;
    return PSP_SUCCESS;
}

/* No one can have wrapped a VLEK for this chip, nor signed firmware for it */
static PSPStatus snp_cmd_vlek_load(AMDPSPState *s, uint8_t *c)
{
    uint8_t blob[0x1b0];
    PSPStatus status;

    if (ldl_le_p(c) != 0x10) {
        return PSP_INVALID_LENGTH;
    }
    if (c[4] || c[5] || c[6] || c[7]) {
        return PSP_INVALID_PARAM;
    }
    status = psp_read_mem(psp_pa(ldq_le_p(c + 8)), blob, sizeof(blob));
    return status ?: PSP_BAD_SIGNATURE;
}

static PSPStatus snp_cmd_download_firmware_ex(AMDPSPState *s, uint8_t *c)
{
    uint8_t byte;
    PSPStatus status;

    if (ldl_le_p(c) != 0x20) {
        return PSP_INVALID_LENGTH;
    }
    status = psp_read_mem(psp_pa(ldq_le_p(c + 8)), &byte, 1);
    return status ?: PSP_BAD_SIGNATURE;
}

/* -- guests ---------------------------------------------------------------- */

static PSPStatus snp_guest(AMDPSPState *s, uint64_t addr, SNPGuest **g)
{
    uint8_t cookie[SNP_GCTX_COOKIE];
    hwaddr pa = psp_pa(addr);
    RMPEntry e;

    if (!is_aligned(pa, RMP_PAGE_SIZE) || !psp_is_ram(pa, RMP_PAGE_SIZE)) {
        return PSP_INVALID_ADDRESS;
    }
    if (snp_page_state(pa, &e) != RMP_CONTEXT) {
        return snp_bad_page("guest context", pa, PSP_INVALID_GUEST);
    }
    *g = g_hash_table_lookup(s->snp.guests, &pa);
    if (!*g || psp_read_mem(pa, cookie, sizeof(cookie)) ||
        memcmp(cookie, (*g)->cookie, sizeof(cookie))) {
        return PSP_INVALID_GUEST;
    }
    return PSP_SUCCESS;
}

static PSPStatus snp_cmd_gctx_create(AMDPSPState *s, uint8_t *c)
{
    hwaddr pa = psp_pa(ldq_le_p(c));
    uint8_t page[RMP_PAGE_SIZE] = { 0 };
    RMPEntry e, new;
    PSPStatus status;
    SNPGuest *g;

    if (!is_aligned(pa, RMP_PAGE_SIZE) || !psp_is_ram(pa, RMP_PAGE_SIZE)) {
        return PSP_INVALID_ADDRESS;
    }
    if (snp_page_state(pa, &e) != RMP_FIRMWARE ||
        psp_is_held(s, pa, RMP_PAGE_SIZE)) {
        return snp_bad_page("GCTX_CREATE", pa, PSP_INVALID_PAGE_STATE);
    }
    if (e.large) {
        return PSP_INVALID_PAGE_SIZE;
    }
    if (g_hash_table_size(s->snp.guests) >= PSP_MAX_GUESTS) {
        return PSP_RESOURCE_LIMIT;
    }

    new = e;
    new.vmsa = true;
    status = snp_page_change("GCTX_CREATE", pa, &e, &new);
    if (status) {
        return status;
    }
    g = g_new0(SNPGuest, 1);
    g->gctx = pa;
    psp_random(g->cookie, sizeof(g->cookie));
    memcpy(page, g->cookie, sizeof(g->cookie));
    psp_write_mem(pa, page, sizeof(page));
    g_hash_table_insert(s->snp.guests, &g->gctx, g);
    return PSP_SUCCESS;
}

static PSPStatus snp_check_policy(AMDPSPState *s, uint64_t policy)
{
    unsigned major = POLICY_ABI_MAJOR(policy);
    unsigned minor = POLICY_ABI_MINOR(policy);

    if (policy & POLICY_RESERVED || !(policy & POLICY_ONE)) {
        return PSP_INVALID_PARAM;
    }
    if (major > PSP_API_MAJOR ||
        (major == PSP_API_MAJOR && minor > PSP_API_MINOR)) {
        return PSP_POLICY_FAILURE;
    }
    if (!(policy & POLICY_SMT) && psp_smt_enabled()) {
        return PSP_POLICY_FAILURE;
    }
    if (policy & POLICY_RAPL_DIS && !s->snp.rapl_dis) {
        return PSP_POLICY_FAILURE;
    }
    /* Not in this processor */
    if (policy & (POLICY_AES_256_XTS | POLICY_CIPHERTEXT)) {
        return PSP_POLICY_FAILURE;
    }
    return PSP_SUCCESS;
}

static PSPStatus snp_cmd_launch_start(AMDPSPState *s, uint8_t *c)
{
    uint64_t policy = ldq_le_p(c + 8);
    uint32_t flags = ldl_le_p(c + 0x18);
    PSPStatus status;
    SNPGuest *g;

    status = snp_guest(s, ldq_le_p(c), &g);
    if (status) {
        return status;
    }
    if (g->state != SNP_GSTATE_INIT) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (flags & ~3u) {
        return PSP_INVALID_PARAM;
    }
    status = snp_check_policy(s, policy);
    if (status) {
        return status;
    }
    /* MA_EN, IMI_EN: there are no migration agents here */
    if (flags) {
        return PSP_UNSUPPORTED;
    }

    g->policy = policy;
    g->launch_tcb = s->snp.current_tcb;
    memcpy(g->gosvw, c + 0x20, sizeof(g->gosvw));
    psp_random(g->vmpck, sizeof(g->vmpck));
    psp_random(g->vmrk, sizeof(g->vmrk));
    psp_random(g->report_id, sizeof(g->report_id));
    g->state = SNP_GSTATE_LAUNCH;
    return PSP_SUCCESS;
}

static PSPStatus snp_do_activate(AMDPSPState *s, SNPGuest *g, uint32_t asid)
{
    if (g->state == SNP_GSTATE_INIT) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (g->asid) {
        return PSP_ACTIVE;
    }
    if (!asid || asid >= psp_min_sev_asid()) {
        return PSP_INVALID_ASID;
    }
    if (s->asid_state[asid] != PSP_ASID_FREE) {
        return PSP_ASID_OWNED;
    }
    if (test_bit(asid, s->asid_dirty)) {
        return PSP_DFFLUSH_REQUIRED;
    }
    if (rmp_asid_pages(asid)) {
        return PSP_INVALID_CONFIG;
    }
    rmp_new_key(asid);
    s->asid_state[asid] = PSP_ASID_SNP;
    g->asid = asid;
    return PSP_SUCCESS;
}

static PSPStatus snp_cmd_activate(AMDPSPState *s, uint8_t *c)
{
    PSPStatus status;
    SNPGuest *g;

    status = snp_guest(s, ldq_le_p(c), &g);
    if (status) {
        return status;
    }
    /* ACTIVATE is for all core complexes of all sockets */
    if (g->policy & POLICY_SINGLE_SOCKET &&
        MACHINE(qdev_get_machine())->smp.sockets > 1) {
        return PSP_POLICY_FAILURE;
    }
    return snp_do_activate(s, g, ldl_le_p(c + 8));
}

static X86CPU *snp_find_cpu(uint32_t apic_id)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (X86_CPU(cs)->apic_id == apic_id) {
            return X86_CPU(cs);
        }
    }
    return NULL;
}

static PSPStatus snp_cmd_activate_ex(AMDPSPState *s, uint8_t *c)
{
    uint32_t i, count = ldl_le_p(c + 0x14);
    hwaddr ids = psp_pa(ldq_le_p(c + 0x18));
    int32_t socket = -1;
    PSPStatus status;
    SNPGuest *g;

    if (ldl_le_p(c) != 0x20) {
        return PSP_INVALID_LENGTH;
    }
    status = snp_guest(s, ldq_le_p(c + 8), &g);
    if (status) {
        return status;
    }
    if (ldl_le_p(c + 4) || !count || count > RMP_PAGE_SIZE / 4) {
        return PSP_INVALID_PARAM;
    }
    for (i = 0; i < count; i++) {
        uint8_t id[4];
        X86CPU *cpu;

        status = psp_read_mem(ids + i * 4, id, sizeof(id));
        if (status) {
            return status;
        }
        cpu = snp_find_cpu(ldl_le_p(id));
        if (!cpu) {
            return PSP_INVALID_PARAM;
        }
        if (g->policy & POLICY_SINGLE_SOCKET && socket >= 0 &&
            cpu->socket_id != socket) {
            return PSP_POLICY_FAILURE;
        }
        socket = cpu->socket_id;
    }
    return snp_do_activate(s, g, ldl_le_p(c + 0x10));
}

static PSPStatus snp_cmd_decommission(AMDPSPState *s, uint8_t *c)
{
    uint8_t page[RMP_PAGE_SIZE] = { 0 };
    RMPEntry e, new;
    PSPStatus status;
    SNPGuest *g;
    hwaddr pa;

    status = snp_guest(s, ldq_le_p(c), &g);
    if (status) {
        return status;
    }
    pa = g->gctx;
    rmp_get(pa, &e);
    new = e;
    new.vmsa = false;
    psp_write_mem(pa, page, sizeof(page));
    status = snp_page_change("DECOMMISSION", pa, &e, &new);
    if (status) {
        return status;
    }
    if (g->asid) {
        s->asid_state[g->asid] = PSP_ASID_FREE;
        psp_asids_dirty(s, g->asid, g->asid);
    }
    g_hash_table_remove(s->snp.guests, &pa);
    return PSP_SUCCESS;
}

static PSPStatus snp_cmd_guest_status(AMDPSPState *s, uint8_t *c)
{
    hwaddr pa = psp_pa(ldq_le_p(c + 8));
    uint8_t b[0x20] = { 0 };
    PSPStatus status;
    SNPGuest *g;

    status = snp_guest(s, ldq_le_p(c), &g);
    if (status) {
        return status;
    }
    status = psp_check_output(s, pa, sizeof(b));
    if (status) {
        return status;
    }
    stq_le_p(b, g->policy);
    stl_le_p(b + 0x08, g->asid);
    b[0x0c] = g->state;
    b[0x10] = g->vcek_disabled;
    psp_write_mem(pa, b, sizeof(b));
    return PSP_SUCCESS;
}

/* The launch digest covers the hash of a description of each page */
static void snp_measure(SNPGuest *g, unsigned type, const uint8_t vmpl[3],
                        const uint8_t *contents, uint64_t gpa)
{
    uint8_t info[0x70] = { 0 };

    memcpy(info, g->ld, sizeof(g->ld));
    if (contents) {
        psp_sha384(contents, RMP_PAGE_SIZE, info + 0x30);
    }
    stw_le_p(info + 0x60, sizeof(info));
    info[0x62] = type;
    info[0x64] = vmpl[2];
    info[0x65] = vmpl[1];
    info[0x66] = vmpl[0];
    stq_le_p(info + 0x68, gpa);
    psp_sha384(info, sizeof(info), g->ld);
}

static void snp_secrets(SNPGuest *g, uint8_t p[RMP_PAGE_SIZE])
{
    uint32_t r[4];

    psp_cpuid(1, 0, r);
    memset(p, 0, RMP_PAGE_SIZE);
    stl_le_p(p, 3);                     /* VERSION */
    stl_le_p(p + 0x08, r[0]);           /* FMS */
    memcpy(p + 0x10, g->gosvw, sizeof(g->gosvw));
    memcpy(p + 0x20, g->vmpck, sizeof(g->vmpck));
}

static PSPStatus snp_cmd_launch_update(AMDPSPState *s, uint8_t *c)
{
    uint32_t flags = ldl_le_p(c + 8);
    bool large = flags & 1;
    unsigned type = extract32(flags, 1, 3), i;
    hwaddr pa = psp_pa(ldq_le_p(c + 0x10));
    uint64_t size = large ? RMP_LARGE_SIZE : RMP_PAGE_SIZE, done;
    const uint8_t *vmpl = c + 0x19;
    uint8_t page[RMP_PAGE_SIZE];
    RMPEntry e, new;
    PSPStatus status;
    SNPGuest *g;

    status = snp_guest(s, ldq_le_p(c), &g);
    if (status) {
        return status;
    }
    if (g->state != SNP_GSTATE_LAUNCH) {
        return PSP_INVALID_GUEST_STATE;
    }
    /* IMI_PAGE, like every bit above, is reserved without an IMI */
    if (flags & ~0xfu || ldl_le_p(c + 0xc) || ldl_le_p(c + 0x1c) ||
        c[0x18] || type < PAGE_NORMAL || type > PAGE_CPUID) {
        return PSP_INVALID_PARAM;
    }
    for (i = 0; i < 3; i++) {
        if (vmpl[i] & ~RMP_PERM_ALL) {
            return PSP_INVALID_PARAM;
        }
    }
    if (!g->asid) {
        return PSP_INACTIVE;
    }
    if (!is_aligned(pa, size) || !psp_is_ram(pa, size)) {
        return PSP_INVALID_ADDRESS;
    }
    if (snp_page_state(pa, &e) != RMP_PRE_GUEST) {
        return snp_bad_page("LAUNCH_UPDATE", pa, PSP_INVALID_PAGE_STATE);
    }
    if (e.large != large ||
        (large && (type == PAGE_VMSA || type == PAGE_SECRETS ||
                   type == PAGE_CPUID))) {
        return snp_bad_page("LAUNCH_UPDATE", pa, PSP_INVALID_PAGE_SIZE);
    }
    if (e.asid != g->asid) {
        return snp_bad_page("LAUNCH_UPDATE", pa, PSP_INVALID_PAGE_OWNER);
    }

    /*
     * Encryption in place. Devices write there still, so a page is read once,
     * and what was measured or checked is what goes back.
     */
    rmp_scramble(pa, size, g->asid);
    if (type == PAGE_CPUID) {
        uint32_t count;

        psp_read_mem(pa, page, sizeof(page));
        count = ldl_le_p(page);
        if (count > SNP_CPUID_COUNT_MAX ||
            !snp_cpuid_check(page + 0x10, count)) {
            /* The page stays the hypervisor's to take back and to read */
            psp_write_mem(pa, page, sizeof(page));
            rmp_scramble(pa, size, g->asid);
            return PSP_INVALID_PARAM;
        }
        psp_write_mem(pa, page, sizeof(page));
    }

    new = e;
    new.immutable = false;
    new.validated = true;
    new.vmsa = type == PAGE_VMSA;
    new.perms[0] = RMP_PERM_ALL;
    memcpy(new.perms + 1, vmpl, 3);
    for (done = 0; done < size; done += RMP_PAGE_SIZE) {
        bool hashed = type == PAGE_NORMAL || type == PAGE_VMSA;

        if (hashed) {
            psp_read_mem(pa + done, page, sizeof(page));
            psp_write_mem(pa + done, page, sizeof(page));
        } else if (type == PAGE_ZERO) {
            memset(page, 0, sizeof(page));
            psp_write_mem(pa + done, page, sizeof(page));
        } else if (type == PAGE_SECRETS) {
            snp_secrets(g, page);
            psp_write_mem(pa + done, page, sizeof(page));
        }
        snp_measure(g, type, vmpl, hashed ? page : NULL, e.gpa + done);
    }
    return snp_page_change("LAUNCH_UPDATE", pa, &e, &new);
}

/* The ID block, its signature by the ID key, and that one by the author key */
static PSPStatus snp_check_id(SNPGuest *g, hwaddr block_pa, hwaddr auth_pa,
                              bool author)
{
    uint8_t block[0x60], auth[0x1000], digest[PSP_SHA384_SIZE];
    uint8_t *id_key = auth + 0x240, *author_key = auth + 0x880;
    PSPStatus status;

    status = psp_read_mem(block_pa, block, sizeof(block));
    if (!status) {
        status = psp_read_mem(auth_pa, auth, sizeof(auth));
    }
    if (status) {
        return status;
    }

    /* VERSION; the algorithms: ECDSA P-384 with SHA-384 */
    if (ldl_le_p(block + 0x50) != 1 || ldl_le_p(auth) != 1 ||
        (author && ldl_le_p(auth + 4) != 1)) {
        return PSP_INVALID_PARAM;
    }
    psp_sha384(block, sizeof(block), digest);
    if (!psp_ecdsa_verify(id_key, digest, sizeof(digest), auth + 0x40)) {
        return PSP_BAD_SIGNATURE;
    }
    psp_sha384(id_key, PSP_ECC_KEY_SIZE, digest);
    if (author &&
        !psp_ecdsa_verify(author_key, digest, sizeof(digest), auth + 0x680)) {
        return PSP_BAD_SIGNATURE;
    }
    if (memcmp(block, g->ld, sizeof(g->ld))) {
        return PSP_BAD_MEASUREMENT;
    }
    if (ldq_le_p(block + 0x58) != g->policy) {
        return PSP_POLICY_FAILURE;
    }

    memcpy(g->id_key_digest, digest, sizeof(digest));
    if (author) {
        psp_sha384(author_key, PSP_ECC_KEY_SIZE, g->author_key_digest);
    }
    g->author_key_en = author;
    memcpy(g->family_id, block + 0x30, sizeof(g->family_id));
    memcpy(g->image_id, block + 0x40, sizeof(g->image_id));
    g->guest_svn = ldl_le_p(block + 0x54);
    return PSP_SUCCESS;
}

static PSPStatus snp_cmd_launch_finish(AMDPSPState *s, uint8_t *c)
{
    uint64_t flags = ldq_le_p(c + 0x18);
    char digest[2 * PSP_SHA384_SIZE + 1];
    PSPStatus status;
    SNPGuest *g;
    unsigned i;

    status = snp_guest(s, ldq_le_p(c), &g);
    if (status) {
        return status;
    }
    if (g->state != SNP_GSTATE_LAUNCH) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (!g->asid) {
        return PSP_INACTIVE;
    }
    /* ID_BLOCK_EN, AUTH_KEY_EN, VCEK_DISABLED */
    if (flags & ~7ull || (flags & 3) == 2) {
        return PSP_INVALID_PARAM;
    }
    for (i = 0; i < PSP_SHA384_SIZE; i++) {
        snprintf(digest + 2 * i, 3, "%02x", g->ld[i]);
    }
    trace_amd_psp_launch_digest(g->gctx, digest);
    if (flags & 1) {
        status = snp_check_id(g, psp_pa(ldq_le_p(c + 8)),
                              psp_pa(ldq_le_p(c + 0x10)), flags & 2);
        if (status) {
            return status;
        }
    }
    g->vcek_disabled = flags & 4;
    memcpy(g->host_data, c + 0x20, sizeof(g->host_data));
    g->state = SNP_GSTATE_RUNNING;
    return PSP_SUCCESS;
}

static PSPStatus snp_cmd_guest_request(AMDPSPState *s, uint8_t *c)
{
    hwaddr req = psp_pa(ldq_le_p(c + 8)), resp = psp_pa(ldq_le_p(c + 0x10));
    PSPStatus status;
    SNPGuest *g;

    status = snp_guest(s, ldq_le_p(c), &g);
    if (status) {
        return status;
    }
    if (g->state != SNP_GSTATE_RUNNING) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (!is_aligned(req, RMP_PAGE_SIZE) || !is_aligned(resp, RMP_PAGE_SIZE)) {
        return PSP_INVALID_ADDRESS;
    }
    status = psp_check_output(s, resp, RMP_PAGE_SIZE);
    if (status) {
        return snp_bad_page("GUEST_REQUEST", resp, status);
    }
    return snp_guest_request(s, g, req, resp);
}

/* Memory holds plaintext: what remains of the command is its checks */
static PSPStatus snp_debug(AMDPSPState *s, uint8_t *c, bool decrypt)
{
    hwaddr src = psp_pa(ldq_le_p(c + 8)), dst = psp_pa(ldq_le_p(c + 0x10));
    hwaddr guest = decrypt ? src : dst;
    uint8_t page[RMP_PAGE_SIZE];
    PSPStatus status;
    SNPGuest *g;
    RMPEntry e;

    status = snp_guest(s, ldq_le_p(c), &g);
    if (status) {
        return status;
    }
    if (g->state == SNP_GSTATE_INIT) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (!(g->policy & POLICY_DEBUG)) {
        return PSP_POLICY_FAILURE;
    }
    if (!g->asid) {
        return PSP_INACTIVE;
    }
    if (!is_aligned(src, RMP_PAGE_SIZE) || !psp_is_ram(src, RMP_PAGE_SIZE) ||
        !is_aligned(dst, RMP_PAGE_SIZE) || !psp_is_ram(dst, RMP_PAGE_SIZE)) {
        return PSP_INVALID_ADDRESS;
    }
    if (decrypt) {
        status = psp_check_output(s, dst, RMP_PAGE_SIZE);
        if (status) {
            return snp_bad_page("DBG", dst, status);
        }
    }

    /* The guest's page may be taken away from it at any time, but not here */
    rmp_lock();
    switch (snp_page_state(guest, &e)) {
    case RMP_PRE_GUEST:
    case RMP_PRE_SWAP:
    case RMP_GUEST_INVALID:
    case RMP_GUEST_VALID:
        if (e.asid != g->asid) {
            status = PSP_INVALID_PAGE_OWNER;
        }
        break;
    default:
        status = PSP_INVALID_PAGE_STATE;
        break;
    }
    if (!status) {
        psp_read_mem(src, page, sizeof(page));
        psp_write_mem(dst, page, sizeof(page));
    }
    rmp_unlock();
    return status ? snp_bad_page("DBG", guest, status) : PSP_SUCCESS;
}

static PSPStatus snp_cmd_dbg_decrypt(AMDPSPState *s, uint8_t *c)
{
    return snp_debug(s, c, true);
}

static PSPStatus snp_cmd_dbg_encrypt(AMDPSPState *s, uint8_t *c)
{
    return snp_debug(s, c, false);
}

/* -- pages ----------------------------------------------------------------- */

static PSPStatus snp_cmd_page_reclaim(AMDPSPState *s, uint8_t *c)
{
    uint64_t arg = ldq_le_p(c);
    bool large = arg & 1;
    hwaddr pa = psp_pa(arg & ~1ull);
    uint64_t size = large ? RMP_LARGE_SIZE : RMP_PAGE_SIZE;
    RMPEntry e, new;
    RMPState state;

    if (!is_aligned(pa, size)) {
        return PSP_INVALID_ADDRESS;
    }
    state = snp_page_state(pa, &e);
    if (state == RMP_DEFAULT) {
        return PSP_INVALID_ADDRESS;
    }
    if (e.assigned && e.large != large) {
        return snp_bad_page("PAGE_RECLAIM", pa, PSP_INVALID_PAGE_SIZE);
    }
    if (psp_is_held(s, pa, size)) {
        return snp_bad_page("PAGE_RECLAIM", pa, PSP_INVALID_PAGE_STATE);
    }

    new = e;
    switch (state) {
    case RMP_METADATA:
    case RMP_FIRMWARE:
        new = reclaim_entry;
        new.large = large;
        break;
    case RMP_PRE_GUEST:
    case RMP_PRE_SWAP:
        /* To Guest-Invalid, and to Guest-Valid */
        new.immutable = false;
        break;
    case RMP_RECLAIM:
    case RMP_GUEST_INVALID:
    case RMP_GUEST_VALID:
        return PSP_SUCCESS;
    default:
        return snp_bad_page("PAGE_RECLAIM", pa, PSP_INVALID_PAGE_STATE);
    }
    return snp_page_change("PAGE_RECLAIM", pa, &e, &new);
}

/* To HV-Fixed, for good */
static PSPStatus snp_cmd_page_set_state(AMDPSPState *s, uint8_t *c)
{
    uint8_t ranges[RMP_PAGE_SIZE];
    PSPStatus status;
    uint32_t i, count;
    hwaddr pa, end;
    RMPEntry e;

    if (ldl_le_p(c) != 0x10) {
        return PSP_INVALID_LENGTH;
    }
    if (ldl_le_p(c + 4)) {
        return PSP_INVALID_PARAM;
    }
    status = snp_read_ranges(psp_pa(ldq_le_p(c + 8)), ranges, &count);
    if (status) {
        return status;
    }
    for (i = 0; i < count; i++) {
        pa = ldq_le_p(ranges + i * 16);
        end = range_end(ranges + i * 16);
        if (end > rmp_entries() * RMP_PAGE_SIZE) {
            return PSP_INVALID_ADDRESS;
        }
        for (; pa < end; pa += RMP_PAGE_SIZE) {
            RMPState state = snp_page_state(pa, &e);

            if (state != RMP_HYPERVISOR && state != RMP_HV_FIXED) {
                return snp_bad_page("PAGE_SET_STATE", pa,
                                    PSP_INVALID_PAGE_STATE);
            }
        }
    }
    for (i = 0; i < count; i++) {
        rmp_lock();
        snp_fix_range(ranges + i * 16);
        rmp_unlock();
    }
    rmp_flush();
    return PSP_SUCCESS;
}

static PSPStatus snp_cmd_page_unsmash(AMDPSPState *s, uint8_t *c)
{
    hwaddr pa = psp_pa(ldq_le_p(c));
    RMPEntry first, e;
    RMPState state;
    PSPStatus status = PSP_SUCCESS;
    unsigned i;

    if (!is_aligned(pa, RMP_LARGE_SIZE) || !psp_is_ram(pa, RMP_LARGE_SIZE)) {
        return PSP_INVALID_ADDRESS;
    }

    rmp_lock();
    state = snp_page_state(pa, &first);
    if ((state != RMP_PRE_GUEST && state != RMP_PRE_SWAP) || first.vmsa) {
        status = PSP_INVALID_PAGE_STATE;
    } else if (first.large) {
        status = PSP_INVALID_PAGE_SIZE;
    } else if (!is_aligned(first.gpa, RMP_LARGE_SIZE)) {
        status = PSP_INVALID_ADDRESS;
    }
    for (i = 1; i < RMP_LARGE_PAGES && !status; i++) {
        if (snp_page_state(pa + i * RMP_PAGE_SIZE, &e) != state || e.vmsa ||
            memcmp(e.perms, first.perms, sizeof(e.perms))) {
            status = PSP_INVALID_PAGE_STATE;
        } else if (e.asid != first.asid) {
            status = PSP_INVALID_PAGE_OWNER;
        } else if (e.gpa != first.gpa + i * RMP_PAGE_SIZE) {
            status = PSP_INVALID_ADDRESS;
        }
    }
    if (!status) {
        first.large = true;
        rmp_set(pa, &first);
    }
    rmp_unlock();
    if (!status) {
        rmp_flush();
    }
    return status;
}

static PSPStatus snp_cmd_unsupported(AMDPSPState *s, uint8_t *c)
{
    return PSP_UNSUPPORTED;
}

#define INIT PSP_CMD_SNP_INIT

const PSPCommand snp_commands[] = {
    { 0x081, 0x00, 0, "SNP_INIT", snp_cmd_init },
    { 0x082, 0x00, INIT, "SNP_SHUTDOWN", snp_cmd_shutdown },
    { 0x083, 0x08, 0, "SNP_PLATFORM_STATUS", snp_cmd_platform_status },
    { 0x084, 0x00, INIT, "SNP_DF_FLUSH", snp_cmd_df_flush },
    { 0x085, 0x40, 0, "SNP_INIT_EX", snp_cmd_init_ex },
    { 0x086, 0x08, INIT, "SNP_SHUTDOWN_EX", snp_cmd_shutdown_ex },
    { 0x090, 0x08, INIT, "SNP_DECOMMISSION", snp_cmd_decommission },
    { 0x091, 0x0c, INIT, "SNP_ACTIVATE", snp_cmd_activate },
    { 0x092, 0x10, INIT, "SNP_GUEST_STATUS", snp_cmd_guest_status },
    { 0x093, 0x08, INIT, "SNP_GCTX_CREATE", snp_cmd_gctx_create },
    { 0x094, 0x18, INIT, "SNP_GUEST_REQUEST", snp_cmd_guest_request },
    { 0x095, 0x20, INIT, "SNP_ACTIVATE_EX", snp_cmd_activate_ex },
    { 0x0a0, 0x30, INIT, "SNP_LAUNCH_START", snp_cmd_launch_start },
    { 0x0a1, 0x20, INIT, "SNP_LAUNCH_UPDATE", snp_cmd_launch_update },
    { 0x0a2, 0x40, INIT, "SNP_LAUNCH_FINISH", snp_cmd_launch_finish },
    { 0x0b0, 0x18, INIT, "SNP_DBG_DECRYPT", snp_cmd_dbg_decrypt },
    { 0x0b1, 0x18, INIT, "SNP_DBG_ENCRYPT", snp_cmd_dbg_encrypt },
    { 0x0c0, 0x00, INIT, "SNP_PAGE_SWAP_OUT", snp_cmd_unsupported },
    { 0x0c1, 0x00, INIT, "SNP_PAGE_SWAP_IN", snp_cmd_unsupported },
    { 0x0c2, 0x00, INIT, "SNP_PAGE_MOVE", snp_cmd_unsupported },
    { 0x0c3, 0x00, INIT, "SNP_PAGE_MD_INIT", snp_cmd_unsupported },
    { 0x0c6, 0x10, INIT, "SNP_PAGE_SET_STATE", snp_cmd_page_set_state },
    { 0x0c7, 0x08, INIT, "SNP_PAGE_RECLAIM", snp_cmd_page_reclaim },
    { 0x0c8, 0x08, INIT, "SNP_PAGE_UNSMASH", snp_cmd_page_unsmash },
    { 0x0c9, 0x40, INIT, "SNP_CONFIG", snp_cmd_config },
    { 0x0ca, 0x20, 0, "SNP_DOWNLOAD_FIRMWARE_EX",
      snp_cmd_download_firmware_ex },
    { 0x0cb, 0x04, INIT, "SNP_COMMIT", snp_cmd_commit },
    { 0x0cd, 0x10, INIT, "SNP_VLEK_LOAD", snp_cmd_vlek_load },
};
const unsigned snp_num_commands = ARRAY_SIZE(snp_commands);

void snp_finalize(AMDPSPState *s)
{
    g_clear_pointer(&s->snp.guests, g_hash_table_destroy);
}

void snp_reset(AMDPSPState *s)
{
    snp_finalize(s);
    memset(&s->snp, 0, sizeof(s->snp));
    s->snp.guests = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                          g_free);
    s->snp.current_tcb = PSP_TCB_VERSION;
    s->snp.committed_tcb = PSP_TCB_VERSION;
    s->snp.reported_tcb = PSP_TCB_VERSION;
}
