/*
 * The reverse map table (RMP) of AMD SEV-SNP
 *
 * One per machine. The table itself is guest memory, see target/i386/rmp.h;
 * here is what reads and writes it, a count of assigned pages for each 2 MiB,
 * which makes the check of large mappings cheap, and the audit.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qapi/error.h"
#include "hw/boards.h"
#include "hw/qdev-core.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "exec/address-spaces.h"
#include "system/system.h"
#include "system/reset.h"
#include "exec/cputlb.h"
#include "hw/core/cpu.h"
#include "target/i386/rmp.h"

OBJECT_DECLARE_SIMPLE_TYPE(X86RMPState, X86_RMP)

/* What the table begins with, the processors' own bookkeeping; PPR 55898 */
#define RMP_BOOKKEEPING     (16 * KiB)
#define RMP_ENTRY_SIZE      16

/* First quadword of an entry */
#define RMP_ASSIGNED        BIT_ULL(0)
#define RMP_2M              BIT_ULL(1)
#define RMP_IMMUTABLE       BIT_ULL(2)
#define RMP_GPA_MASK        MAKE_64BIT_MASK(12, 39)
#define RMP_ASID_SHIFT      51
#define RMP_ASID_LENGTH     10
#define RMP_VMSA            BIT_ULL(61)
#define RMP_VALIDATED       BIT_ULL(62)
#define RMP_LOCK            BIT_ULL(63)
/* The second one has the permissions, a byte for each VMPL: our own choice */

#define RMP_ASIDS           (1 << RMP_ASID_LENGTH)

struct X86RMPState {
    DeviceState parent_obj;

    hwaddr base;
    hwaddr end;
    bool audit_at_exit;
    uint32_t fail_inuse;
    uint32_t fail_overlap;

    QemuMutex lock;
    Notifier exit;
    uint64_t entries;
    uint64_t *table;            /* host address of entry 0 */
    uint16_t *assigned_2m;      /* assigned 4 KiB pages of each 2 MiB */
    uint32_t asid_pages[RMP_ASIDS];
    uint32_t key[RMP_ASIDS];    /* how many keys an ASID has had */
    uint32_t changes;           /* RMPUPDATE and PSMASH so far */
    uint32_t cache_gen;
};

static X86RMPState *rmp;
bool rmp_enabled;

void rmp_lock(void)
{
    qemu_mutex_lock(&rmp->lock);
}

void rmp_unlock(void)
{
    qemu_mutex_unlock(&rmp->lock);
}

bool rmp_covers(hwaddr pa)
{
    return qatomic_load_acquire(&rmp_enabled) && (pa >> 12) < rmp->entries;
}

uint64_t rmp_entries(void)
{
    return rmp_enabled ? rmp->entries : 0;
}

void rmp_range(hwaddr *base, hwaddr *end)
{
    *base = rmp ? rmp->base : 0;
    *end = rmp ? rmp->end : 0;
}

uint64_t rmp_asid_pages(uint32_t asid)
{
    return asid < RMP_ASIDS ? qatomic_read(&rmp->asid_pages[asid]) : 0;
}

/* -- entries -------------------------------------------------------------- */

static uint64_t *rmp_slot(hwaddr pa)
{
    return rmp->table + (pa >> 12) * (RMP_ENTRY_SIZE / sizeof(uint64_t));
}

static uint64_t rmp_read(hwaddr pa, int word)
{
    return le64_to_cpu(qatomic_read_u64(rmp_slot(pa) + word));
}

static uint32_t rmp_asid_of(uint64_t lo)
{
    return extract64(lo, RMP_ASID_SHIFT, RMP_ASID_LENGTH);
}

static void rmp_count(hwaddr pa, uint64_t lo, int n)
{
    if (lo & RMP_ASSIGNED) {
        uint16_t *count = &rmp->assigned_2m[pa / RMP_LARGE_SIZE];
        uint32_t *pages = &rmp->asid_pages[rmp_asid_of(lo)];

        qatomic_set(count, *count + n);
        qatomic_set(pages, *pages + n);
    }
}

static void rmp_put(hwaddr pa, int word, uint64_t value)
{
    qatomic_set_u64(rmp_slot(pa) + word, cpu_to_le64(value));
}

static void rmp_write(hwaddr pa, uint64_t lo, uint64_t hi)
{
    uint64_t old = rmp_read(pa, 0);

    rmp_count(pa, old, -1);
    rmp_count(pa, lo, 1);
    /* The lock is the processors', each page has its own */
    rmp_put(pa, 1, hi);
    rmp_put(pa, 0, (lo & ~RMP_LOCK) | (old & RMP_LOCK));
}

/* Whether the 2 MiB around @pa are one entry */
static bool rmp_is_large(hwaddr pa)
{
    uint64_t lo = rmp_read(QEMU_ALIGN_DOWN(pa, RMP_LARGE_SIZE), 0);

    return (lo & RMP_ASSIGNED) && (lo & RMP_2M);
}

bool rmp_get(hwaddr pa, RMPEntry *e)
{
    uint64_t lo, hi;

    memset(e, 0, sizeof(*e));
    if (!rmp_covers(pa)) {
        return false;
    }
    lo = rmp_read(pa, 0);
    hi = rmp_read(pa, 1);
    e->assigned = lo & RMP_ASSIGNED;
    e->large = rmp_is_large(pa);
    e->immutable = lo & RMP_IMMUTABLE;
    e->vmsa = lo & RMP_VMSA;
    e->validated = lo & RMP_VALIDATED;
    e->in_use = lo & RMP_LOCK;
    e->gpa = lo & RMP_GPA_MASK;
    e->asid = rmp_asid_of(lo);
    for (int i = 0; i < RMP_VMPLS; i++) {
        e->perms[i] = extract64(hi, i * 8, 8);
    }
    return true;
}

static void rmp_pack(const RMPEntry *e, uint64_t *lo, uint64_t *hi)
{
    *lo = (e->assigned ? RMP_ASSIGNED : 0) | (e->large ? RMP_2M : 0) |
          (e->immutable ? RMP_IMMUTABLE : 0) | (e->vmsa ? RMP_VMSA : 0) |
          (e->validated ? RMP_VALIDATED : 0) | (e->in_use ? RMP_LOCK : 0) |
          (e->gpa & RMP_GPA_MASK) | (uint64_t)e->asid << RMP_ASID_SHIFT;
    *hi = 0;
    for (int i = 0; i < RMP_VMPLS; i++) {
        *hi |= (uint64_t)e->perms[i] << (i * 8);
    }
}

void rmp_set(hwaddr pa, const RMPEntry *e)
{
    uint64_t lo, hi;

    rmp_pack(e, &lo, &hi);
    if (!e->large) {
        rmp_write(pa, lo, hi);
        return;
    }
    assert(QEMU_IS_ALIGNED(pa, RMP_LARGE_SIZE));
    for (int i = 0; i < RMP_LARGE_PAGES; i++) {
        /* A guest's pages follow each other, the firmware's have no address */
        rmp_write(pa + i * RMP_PAGE_SIZE,
                  e->asid ? lo + i * RMP_PAGE_SIZE : lo, hi);
    }
}

void rmp_fill(hwaddr pa, uint64_t count, const RMPEntry *e)
{
    uint64_t lo, hi;

    rmp_pack(e, &lo, &hi);
    for (uint64_t i = 0; i < count; i++) {
        rmp_write(pa + i * RMP_PAGE_SIZE, lo, hi);
    }
}

void rmp_clear(void)
{
    for (uint64_t i = 0; i < rmp->entries; i++) {
        rmp_put(i * RMP_PAGE_SIZE, 0, 0);
        rmp_put(i * RMP_PAGE_SIZE, 1, 0);
    }
    memset(rmp->assigned_2m, 0, sizeof(*rmp->assigned_2m) *
           DIV_ROUND_UP(rmp->entries, RMP_LARGE_PAGES));
    memset(rmp->asid_pages, 0, sizeof(rmp->asid_pages));
}

void rmp_flush(void)
{
    tlb_flush_all_cpus_synced(current_cpu ?: first_cpu);
}

RMPState rmp_state(const RMPEntry *e, bool covered)
{
    if (!covered) {
        return RMP_DEFAULT;
    }
    if (!e->assigned) {
        return e->immutable ? RMP_HV_FIXED : RMP_HYPERVISOR;
    }
    if (e->asid) {
        if (e->validated) {
            return e->immutable ? RMP_PRE_SWAP : RMP_GUEST_VALID;
        }
        return e->immutable ? RMP_PRE_GUEST : RMP_GUEST_INVALID;
    }
    if (e->validated) {
        return RMP_INVALID;
    }
    if (!e->immutable) {
        return RMP_RECLAIM;
    }
    if (e->gpa) {
        return RMP_METADATA;
    }
    return e->vmsa ? RMP_CONTEXT : RMP_FIRMWARE;
}

const char *rmp_state_name(RMPState state)
{
    static const char * const names[] = {
        [RMP_DEFAULT] = "default",
        [RMP_HYPERVISOR] = "hypervisor",
        [RMP_HV_FIXED] = "hv-fixed",
        [RMP_RECLAIM] = "reclaim",
        [RMP_FIRMWARE] = "firmware",
        [RMP_CONTEXT] = "context",
        [RMP_METADATA] = "metadata",
        [RMP_PRE_GUEST] = "pre-guest",
        [RMP_GUEST_INVALID] = "guest-invalid",
        [RMP_PRE_SWAP] = "pre-swap",
        [RMP_GUEST_VALID] = "guest-valid",
        [RMP_INVALID] = "invalid",
    };

    return names[state];
}

/* -- checks --------------------------------------------------------------- */

bool rmp_write_denied(hwaddr pa, uint64_t page_size)
{
    if (!rmp_covers(pa)) {
        return false;
    }
    if (page_size >= RMP_LARGE_SIZE &&
        qatomic_read(&rmp->assigned_2m[pa / RMP_LARGE_SIZE])) {
        return true;
    }
    return rmp_read(pa, 0) & RMP_ASSIGNED;
}

bool rmp_begin_use(hwaddr pa, RMPEntry *e)
{
    bool free = true;

    memset(e, 0, sizeof(*e));
    if (!rmp_covers(pa)) {
        return true;
    }
    QEMU_LOCK_GUARD(&rmp->lock);
    if (rmp_get(pa, e)) {
        free = !e->in_use;
        rmp_put(pa, 0, rmp_read(pa, 0) | RMP_LOCK);
    }
    return free;
}

void rmp_end_use(hwaddr pa)
{
    if (rmp_covers(pa)) {
        QEMU_LOCK_GUARD(&rmp->lock);
        rmp_put(pa, 0, rmp_read(pa, 0) & ~RMP_LOCK);
    }
}

/* -- RMPUPDATE and PSMASH ------------------------------------------------- */

/* Every Nth change fails for no reason, if the user wants that */
static int rmp_injected_failure(void)
{
    uint32_t n = qatomic_fetch_inc(&rmp->changes) + 1;

    if (rmp->fail_inuse && n % rmp->fail_inuse == 0) {
        return RMP_FAIL_INUSE;
    }
    if (rmp->fail_overlap && n % rmp->fail_overlap == 0) {
        return RMP_FAIL_OVERLAP;
    }
    return RMP_OK;
}

static int rmp_update_check(hwaddr pa, const RMPEntry *new)
{
    bool was_large = rmp_is_large(pa);
    hwaddr first = pa;
    int n = 1;

    if (new->large || was_large) {
        first = QEMU_ALIGN_DOWN(pa, RMP_LARGE_SIZE);
        n = RMP_LARGE_PAGES;
    }
    for (int i = 0; i < n; i++) {
        if (rmp_read(first + i * RMP_PAGE_SIZE, 0) & RMP_LOCK) {
            return RMP_FAIL_INUSE;
        }
    }
    if (rmp_read(pa, 0) & RMP_IMMUTABLE) {
        return RMP_FAIL_PERMISSION;
    }
    if (was_large && !new->large) {
        return RMP_FAIL_OVERLAP;
    }
    if (new->large && !was_large) {
        for (int i = 0; i < n; i++) {
            uint64_t lo = rmp_read(first + i * RMP_PAGE_SIZE, 0);

            if (lo & RMP_ASSIGNED) {
                return RMP_FAIL_OVERLAP;
            }
            if (lo & RMP_IMMUTABLE) {
                return RMP_FAIL_PERMISSION;
            }
        }
    }
    return RMP_OK;
}

int rmp_update(hwaddr pa, const RMPEntry *new)
{
    uint64_t size = new->large ? RMP_LARGE_SIZE : RMP_PAGE_SIZE;
    hwaddr last = pa + size - 1;
    RMPEntry e = *new, old;
    int r;

    if ((pa & (size - 1)) || last < pa || !rmp_covers(last) ||
        (new->gpa & ~RMP_GPA_MASK) ||
        (!new->assigned && (new->asid || new->immutable)) ||
        (new->assigned && new->asid && (new->gpa & (size - 1))) ||
        new->asid > SEV_HOST_ASIDS) {
        return RMP_FAIL_INPUT;
    }
    r = rmp_injected_failure();
    if (r) {
        return r;
    }

    rmp_lock();
    r = rmp_update_check(pa, new);
    if (r) {
        rmp_unlock();
        return r;
    }
    rmp_get(pa, &old);
    /* Before the new owner can see it */
    if (old.asid != e.asid) {
        if (old.asid) {
            rmp_scramble(pa, size, old.asid);
        }
        if (e.asid) {
            rmp_scramble(pa, size, e.asid);
        }
    }
    e.validated = e.vmsa = false;
    memset(e.perms, 0, sizeof(e.perms));
    if (e.assigned) {
        e.perms[0] = e.asid ? RMP_PERM_ALL : 0;
        rmp_set(pa, &e);
    } else {
        e.gpa = 0;
        e.large = false;
        rmp_fill(pa, size / RMP_PAGE_SIZE, &e);
    }
    rmp_unlock();
    rmp_flush();
    return RMP_OK;
}

int rmp_smash(hwaddr pa)
{
    int r = RMP_OK;

    if ((pa & (RMP_LARGE_SIZE - 1)) || !rmp_covers(pa)) {
        return RMP_FAIL_INPUT;
    }
    r = rmp_injected_failure();
    if (r) {
        return r == RMP_FAIL_OVERLAP ? RMP_FAIL_INUSE : r;
    }

    rmp_lock();
    if (!rmp_is_large(pa)) {
        r = PSMASH_FAIL_BADADDR;
    } else if (rmp_read(pa, 0) & RMP_IMMUTABLE) {
        r = RMP_FAIL_PERMISSION;
    } else if (rmp_read(pa, 0) & RMP_LOCK) {
        r = RMP_FAIL_INUSE;
    } else {
        for (int i = 0; i < RMP_LARGE_PAGES; i++) {
            hwaddr p = pa + i * RMP_PAGE_SIZE;

            rmp_put(p, 0, rmp_read(p, 0) & ~RMP_2M);
        }
    }
    rmp_unlock();
    if (r == RMP_OK) {
        rmp_flush();
    }
    return r;
}

/* An involution, and different for every page and every owner */
static uint64_t rmp_pattern(hwaddr pa, uint32_t asid)
{
    uint64_t x = pa ^ (uint64_t)asid << 48 ^ (uint64_t)rmp->key[asid] << 32;

    x *= 0x9e3779b97f4a7c15ULL;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9ULL;
    return x ^ x >> 32;
}

void rmp_scramble(hwaddr pa, uint64_t size, uint32_t asid)
{
    uint64_t page[RMP_PAGE_SIZE / sizeof(uint64_t)];
    MemTxAttrs attrs = { .memory = true };  /* devices stay as they are */

    for (; size; size -= RMP_PAGE_SIZE, pa += RMP_PAGE_SIZE) {
        if (address_space_read(&address_space_memory, pa, attrs, page,
                               sizeof(page)) != MEMTX_OK) {
            continue;
        }
        for (int i = 0; i < ARRAY_SIZE(page); i++) {
            page[i] ^= rmp_pattern(pa + i * sizeof(uint64_t), asid);
        }
        address_space_write(&address_space_memory, pa, attrs, page,
                            sizeof(page));
    }
}

void rmp_new_key(uint32_t asid)
{
    if (rmp) {
        rmp->key[asid % RMP_ASIDS]++;
    }
}

/* -- caches --------------------------------------------------------------- */

void x86_cache_dirty(void)
{
    if (rmp) {
        qatomic_inc(&rmp->cache_gen);
    }
}

bool x86_caches_clean(void)
{
    uint32_t gen = rmp ? qatomic_read(&rmp->cache_gen) : 0;
    CPUState *cs;

    CPU_FOREACH(cs) {
        CPUX86State *env = cpu_env(cs);

        if (cs->halted && !(env->eflags & IF_MASK) &&
            !(env->hflags & HF_GUEST_MASK)) {
            continue;   /* off, its caches are empty */
        }
        if (qatomic_read(&env->wbinvd_gen) != gen) {
            return false;
        }
    }
    return true;
}

void x86_cache_written_back(CPUX86State *env)
{
    if (rmp) {
        qatomic_set(&env->wbinvd_gen, qatomic_read(&rmp->cache_gen));
    }
}

/* -- the audit ------------------------------------------------------------ */

/*
 * What is not the hypervisor's, a line for each range of pages that are alike.
 * The pages of the table itself, which the firmware keeps for ever, do not
 * count.
 */
static uint64_t rmp_audit(GString *text)
{
    uint64_t total = 0;
    RMPEntry first = { 0 };
    hwaddr start = 0;
    bool open = false;

    if (!rmp_enabled) {
        return 0;
    }
    for (hwaddr pa = 0; pa <= rmp->entries * RMP_PAGE_SIZE;
         pa += RMP_PAGE_SIZE) {
        RMPEntry e;
        bool covered = rmp_get(pa, &e);
        bool foreign = covered && e.assigned &&
                       (pa < rmp->base || pa > rmp->end);

        if (open && (!foreign || e.asid != first.asid ||
                     rmp_state(&e, true) != rmp_state(&first, true) ||
                     e.large != first.large || e.vmsa != first.vmsa ||
                     (e.asid && e.gpa - first.gpa != pa - start))) {
            g_string_append_printf(text, "0x%" HWADDR_PRIx "-0x%" HWADDR_PRIx
                                   " %s%s%s", start, pa - 1,
                                   rmp_state_name(rmp_state(&first, true)),
                                   first.large ? " 2M" : "",
                                   first.vmsa ? " vmsa" : "");
            if (first.asid) {
                g_string_append_printf(text, " asid %u gpa 0x%" HWADDR_PRIx,
                                       first.asid, first.gpa);
            }
            g_string_append_c(text, '\n');
            open = false;
        }
        if (foreign) {
            total++;
            if (!open) {
                first = e;
                start = pa;
                open = true;
            }
        }
    }
    return total;
}

static char *rmp_get_audit(Object *obj, Error **errp)
{
    GString *text = g_string_new(NULL);

    rmp_lock();
    rmp_audit(text);
    rmp_unlock();
    return g_string_free(text, false);
}

static void rmp_exit(Notifier *n, void *data)
{
    GString *text = g_string_new(NULL);
    g_auto(GStrv) lines = NULL;
    uint64_t total;

    rmp_lock();
    total = rmp_audit(text);
    rmp_unlock();
    lines = g_strsplit(text->str, "\n", 0);
    for (int i = 0; lines[i] && *lines[i]; i++) {
        fprintf(stderr, "rmp-audit: %s\n", lines[i]);
    }
    fprintf(stderr, "rmp-audit: %" PRIu64 " pages not hypervisor-owned\n",
            total);
    g_string_free(text, true);
}

/* -- the device ----------------------------------------------------------- */

/* The table in the host's memory, unless software has put a device over it */
static void *rmp_map(void)
{
    hwaddr size = rmp->end + 1 - rmp->base, len = size, xlat;
    MemoryRegion *mr;

    RCU_READ_LOCK_GUARD();
    mr = address_space_translate(&address_space_memory, rmp->base, &xlat, &len,
                                 true, MEMTXATTRS_UNSPECIFIED);
    return memory_region_is_ram(mr) && len == size ?
           memory_region_get_ram_ptr(mr) + xlat : NULL;
}

bool rmp_enable(void)
{
    hwaddr len;
    void *table;

    if (!rmp) {
        return false;
    }
    rmp_lock();
    if (!rmp_enabled) {
        table = rmp_map();
        if (!table) {
            rmp_unlock();
            qemu_log_mask(LOG_GUEST_ERROR, "RMP: the table is not in memory\n");
            return false;
        }
        len = rmp->end + 1 - rmp->base;
        rmp->table = table + RMP_BOOKKEEPING;
        rmp->entries = (len - RMP_BOOKKEEPING) / RMP_ENTRY_SIZE;
        g_free(rmp->assigned_2m);
        rmp->assigned_2m = g_new0(uint16_t,
                                  DIV_ROUND_UP(rmp->entries, RMP_LARGE_PAGES));
        memset(rmp->asid_pages, 0, sizeof(rmp->asid_pages));
        for (uint64_t i = 0; i < rmp->entries; i++) {
            rmp_count(i * RMP_PAGE_SIZE, rmp_read(i * RMP_PAGE_SIZE, 0), 1);
        }
        qatomic_store_release(&rmp_enabled, true);
    }
    rmp_unlock();
    rmp_flush();
    return true;
}

static void rmp_reset(DeviceState *dev)
{
    rmp->changes = 0;
    rmp_enabled = false;
}

static void rmp_realize(DeviceState *dev, Error **errp)
{
    X86RMPState *s = X86_RMP(dev);

    if (rmp) {
        error_setg(errp, "a machine has one reverse map table");
        return;
    }
    qemu_mutex_init(&s->lock);
    rmp = s;
    if (s->audit_at_exit) {
        s->exit.notify = rmp_exit;
        qemu_add_exit_notifier(&s->exit);
    }
}

static const VMStateDescription rmp_vmstate = {
    .name = TYPE_X86_RMP,
    .unmigratable = 1,
};

static const Property rmp_properties[] = {
    DEFINE_PROP_UINT64("base", X86RMPState, base, 0),
    DEFINE_PROP_UINT64("end", X86RMPState, end, 0),
    DEFINE_PROP_BOOL("audit-at-exit", X86RMPState, audit_at_exit, false),
    DEFINE_PROP_UINT32("fail-inuse", X86RMPState, fail_inuse, 0),
    DEFINE_PROP_UINT32("fail-overlap", X86RMPState, fail_overlap, 0),
};

static void rmp_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->realize = rmp_realize;
    dc->desc = "reverse map table of SEV-SNP";
    dc->user_creatable = false;
    dc->vmsd = &rmp_vmstate;
    device_class_set_legacy_reset(dc, rmp_reset);
    device_class_set_props(dc, rmp_properties);
    object_class_property_add_str(klass, "audit", rmp_get_audit, NULL);
}

static const TypeInfo rmp_info = {
    .name = TYPE_X86_RMP,
    .parent = TYPE_DEVICE,
    .instance_size = sizeof(X86RMPState),
    .class_init = rmp_class_init,
};

static void rmp_register(void)
{
    type_register_static(&rmp_info);
}
type_init(rmp_register)

/*
 * The firmware of the machine would do this: set memory aside for the table
 * and put its place into RMP_BASE and RMP_END.
 */
hwaddr rmp_create(hwaddr top)
{
    hwaddr size = ROUND_UP((top / RMP_PAGE_SIZE) * RMP_ENTRY_SIZE +
                           RMP_BOOKKEEPING, RMP_LARGE_SIZE);
    DeviceState *dev = qdev_new(TYPE_X86_RMP);

    qdev_prop_set_uint64(dev, "base", top - size);
    qdev_prop_set_uint64(dev, "end", top - 1);
    object_property_add_child(qdev_get_machine(), "rmp", OBJECT(dev));
    qdev_realize_and_unref(dev, NULL, &error_fatal);
    qemu_register_resettable(OBJECT(dev));
    return size;
}
