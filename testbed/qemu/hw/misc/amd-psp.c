/*
 * AMD platform security processor (PSP), the device
 *
 * PCI function with the mailbox by which the hypervisor talks to the SEV
 * firmware, as in family 19h models 00h-0fh (PCI 1022:1486). The cryptographic
 * coprocessor (CCP) in the same function is not there.
 *
 * Properties to inject failures, which can also be changed at run time:
 *   fail-command=N   number of the command to fail, 0xffff for any; 0: off
 *   fail-status=N    the status it returns instead of being run
 *   fail-nth=N       only the Nth such command from now on, which clears both
 *                    fail-nth and fail-command; 0: every one
 * Property "held": the memory that the firmware holds for itself, one range a
 * line. It stays in the Firmware state without being a leak: the RMP's own
 * pages from the first SNP_INIT to reset, the buffers of the IOMMU from
 * SNP_INIT to SNP_SHUTDOWN_EX, the TMR from INIT to SHUTDOWN.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/log.h"
#include "qemu/module.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "hw/boards.h"
#include "hw/core/cpu.h"
#include "hw/pci/msi.h"
#include "migration/vmstate.h"
#include "amd-psp.h"
#include "trace.h"

#define PSP_BAR             2
#define PSP_BAR_SIZE        (1 * MiB)

#define PSP_INTEN           0x10690
#define PSP_INTSTS          0x10694
#define   PSP_INT_SEV       BIT(1)
#define PSP_CMDRESP         0x10980     /* C2PMSG_32 */
#define   PSP_CMD_IOC       BIT(0)
#define   PSP_CMD_RESP      BIT(31)
#define PSP_ADDR_LO         0x109e0     /* C2PMSG_56 */
#define PSP_ADDR_HI         0x109e4     /* C2PMSG_57 */
#define PSP_FEATURE         0x109fc     /* C2PMSG_63 */
#define   PSP_FEATURE_SEV   BIT(0)
/* Without it drivers look for a second mailbox, which is not there */
#define   PSP_FEATURE_SECURITY_REPORTING BIT(7)

#define PSP_FAIL_ANY        0xffff

/* -- memory ---------------------------------------------------------------- */

hwaddr psp_pa(uint64_t addr)
{
    uint32_t r[4];

    psp_cpuid(0x8000001f, 0, r);
    return addr & ~BIT_ULL(r[1] & 0x3f ?: 63);
}

bool psp_is_ram(hwaddr pa, uint64_t len)
{
    RCU_READ_LOCK_GUARD();

    if (pa + len < pa) {
        return false;
    }
    while (len) {
        hwaddr xlat, n = len;
        MemoryRegion *mr = address_space_translate(&address_space_memory, pa,
                                                   &xlat, &n, true,
                                                   MEMTXATTRS_UNSPECIFIED);

        if (!n || !memory_region_is_ram(mr) || memory_region_is_rom(mr) ||
            memory_region_is_romd(mr)) {
            return false;
        }
        pa += n;
        len -= n;
    }
    return true;
}

PSPStatus psp_read_mem(hwaddr pa, void *p, uint64_t len)
{
    if (!psp_is_ram(pa, len) ||
        address_space_read(&address_space_memory, pa, MEMTXATTRS_UNSPECIFIED,
                           p, len) != MEMTX_OK) {
        return PSP_INVALID_ADDRESS;
    }
    return PSP_SUCCESS;
}

void psp_write_mem(hwaddr pa, const void *p, uint64_t len)
{
    address_space_write(&address_space_memory, pa, MEMTXATTRS_UNSPECIFIED,
                        p, len);
}

void psp_hold(AMDPSPState *s, hwaddr base, uint64_t size, const char *what)
{
    unsigned i;

    for (i = 0; i < PSP_MAX_HELD; i++) {
        if (!s->held[i].size) {
            s->held[i] = (PSPHeld) { base, size, what };
            return;
        }
    }
    g_assert_not_reached();
}

void psp_release(AMDPSPState *s, const char *what)
{
    unsigned i;

    for (i = 0; i < PSP_MAX_HELD; i++) {
        if (s->held[i].size && !strcmp(s->held[i].what, what)) {
            s->held[i].size = 0;
        }
    }
}

bool psp_is_held(AMDPSPState *s, hwaddr pa, uint64_t len)
{
    unsigned i;

    for (i = 0; i < PSP_MAX_HELD; i++) {
        PSPHeld *h = &s->held[i];

        if (h->size && pa < h->base + h->size && h->base < pa + len) {
            return true;
        }
    }
    return false;
}

PSPStatus psp_check_output(AMDPSPState *s, hwaddr pa, uint64_t len)
{
    hwaddr page;

    if (!psp_is_ram(pa, len)) {
        return PSP_INVALID_ADDRESS;
    }
    if (psp_is_held(s, pa, len)) {
        return PSP_INVALID_PAGE_STATE;
    }
    if (!s->snp.init) {
        return PSP_SUCCESS;
    }
    for (page = pa & ~(hwaddr)(RMP_PAGE_SIZE - 1); page < pa + len;
         page += RMP_PAGE_SIZE) {
        RMPEntry e;
        RMPState state = rmp_state(&e, rmp_get(page, &e));

        if (state != RMP_FIRMWARE && state != RMP_DEFAULT) {
            return PSP_INVALID_PAGE_STATE;
        }
        if (e.large) {
            return PSP_INVALID_PAGE_SIZE;
        }
    }
    return PSP_SUCCESS;
}

/* -- processors ------------------------------------------------------------ */

void psp_cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    cpu_x86_cpuid(&X86_CPU(first_cpu)->env, leaf, sub,
                  &r[0], &r[1], &r[2], &r[3]);
}

bool psp_smt_enabled(void)
{
    return MACHINE(qdev_get_machine())->smp.threads > 1;
}

uint32_t psp_max_asid(void)
{
    uint32_t r[4];

    psp_cpuid(0x8000001f, 0, r);
    return MIN(r[2], PSP_MAX_ASID - 1);
}

uint32_t psp_min_sev_asid(void)
{
    uint32_t r[4];

    psp_cpuid(0x8000001f, 0, r);
    return MIN(r[3], PSP_MAX_ASID);
}

void psp_asids_dirty(AMDPSPState *s, uint32_t first, uint32_t last)
{
    if (first <= last && last < PSP_MAX_ASID) {
        bitmap_set(s->asid_dirty, first, last - first + 1);
        x86_cache_dirty();
    }
}

PSPStatus psp_df_flush(AMDPSPState *s)
{
    if (bitmap_empty(s->asid_dirty, PSP_MAX_ASID)) {
        return PSP_SUCCESS;
    }
    if (!x86_caches_clean()) {
        return PSP_WBINVD_REQUIRED;
    }
    bitmap_zero(s->asid_dirty, PSP_MAX_ASID);
    return PSP_SUCCESS;
}

/* -- mailbox --------------------------------------------------------------- */

static const char *psp_status_name(PSPStatus status)
{
    static const char *const names[] = {
        [PSP_SUCCESS] = "SUCCESS",
        [PSP_INVALID_PLATFORM_STATE] = "INVALID_PLATFORM_STATE",
        [PSP_INVALID_GUEST_STATE] = "INVALID_GUEST_STATE",
        [PSP_INVALID_CONFIG] = "INVALID_CONFIG",
        [PSP_INVALID_LENGTH] = "INVALID_LENGTH",
        [PSP_ALREADY_OWNED] = "ALREADY_OWNED",
        [PSP_INVALID_CERTIFICATE] = "INVALID_CERTIFICATE",
        [PSP_POLICY_FAILURE] = "POLICY_FAILURE",
        [PSP_INACTIVE] = "INACTIVE",
        [PSP_INVALID_ADDRESS] = "INVALID_ADDRESS",
        [PSP_BAD_SIGNATURE] = "BAD_SIGNATURE",
        [PSP_BAD_MEASUREMENT] = "BAD_MEASUREMENT",
        [PSP_ASID_OWNED] = "ASID_OWNED",
        [PSP_INVALID_ASID] = "INVALID_ASID",
        [PSP_WBINVD_REQUIRED] = "WBINVD_REQUIRED",
        [PSP_DFFLUSH_REQUIRED] = "DFFLUSH_REQUIRED",
        [PSP_INVALID_GUEST] = "INVALID_GUEST",
        [PSP_INVALID_COMMAND] = "INVALID_COMMAND",
        [PSP_ACTIVE] = "ACTIVE",
        [PSP_HWERROR_PLATFORM] = "HWERROR_PLATFORM",
        [PSP_HWERROR_UNSAFE] = "HWERROR_UNSAFE",
        [PSP_UNSUPPORTED] = "UNSUPPORTED",
        [PSP_INVALID_PARAM] = "INVALID_PARAM",
        [PSP_RESOURCE_LIMIT] = "RESOURCE_LIMIT",
        [PSP_SECURE_DATA_INVALID] = "SECURE_DATA_INVALID",
        [PSP_INVALID_PAGE_SIZE] = "INVALID_PAGE_SIZE",
        [PSP_INVALID_PAGE_STATE] = "INVALID_PAGE_STATE",
        [PSP_INVALID_MDATA_ENTRY] = "INVALID_MDATA_ENTRY",
        [PSP_INVALID_PAGE_OWNER] = "INVALID_PAGE_OWNER",
        [PSP_AEAD_OFLOW] = "AEAD_OFLOW",
        [PSP_RMP_INIT_REQUIRED] = "RMP_INIT_REQUIRED",
        [PSP_INVALID_KEY] = "INVALID_KEY",
    };

    return status < ARRAY_SIZE(names) && names[status] ? names[status] : "?";
}

static const PSPCommand *psp_find(unsigned id)
{
    unsigned i;

    for (i = 0; i < sev_num_commands; i++) {
        if (sev_commands[i].id == id) {
            return &sev_commands[i];
        }
    }
    for (i = 0; i < snp_num_commands; i++) {
        if (snp_commands[i].id == id) {
            return &snp_commands[i];
        }
    }
    return NULL;
}

static bool psp_fail(AMDPSPState *s, unsigned id)
{
    if (!s->fail_command ||
        (s->fail_command != PSP_FAIL_ANY && s->fail_command != id)) {
        return false;
    }
    if (s->fail_nth > 1) {
        s->fail_nth--;
        return false;
    }
    if (s->fail_nth == 1) {
        s->fail_nth = 0;
        s->fail_command = 0;
    }
    return true;
}

static PSPStatus psp_run(AMDPSPState *s, const PSPCommand *cmd, hwaddr buf)
{
    uint8_t c[PSP_CMD_MAX_SIZE] = { 0 };
    PSPStatus status;

    assert(cmd->size <= sizeof(c));
    if ((cmd->flags & PSP_CMD_SNP_INIT && !s->snp.init) ||
        (cmd->flags & PSP_CMD_SEV_INIT && s->sev.state == SEV_UNINIT) ||
        (cmd->flags & PSP_CMD_SEV_WORKING && s->sev.state != SEV_WORKING)) {
        return PSP_INVALID_PLATFORM_STATE;
    }
    if (cmd->size) {
        status = psp_read_mem(buf, c, cmd->size);
        if (status) {
            return status;
        }
        if (cmd->flags & PSP_CMD_OUT) {
            status = psp_check_output(s, buf, cmd->size);
            if (status) {
                return status;
            }
        }
    }
    status = cmd->run(s, c);
    if (cmd->flags & PSP_CMD_OUT) {
        psp_write_mem(buf, c, cmd->size);
    }
    return status;
}

static void psp_command(AMDPSPState *s, uint32_t val)
{
    unsigned id = extract32(val, 16, 11);
    hwaddr buf = psp_pa((uint64_t)s->addr_hi << 32 | s->addr_lo);
    const PSPCommand *cmd = psp_find(id);
    PSPStatus status;

    trace_amd_psp_command(id, cmd ? cmd->name : "?", buf);
    if (psp_fail(s, id)) {
        status = s->fail_status;
        trace_amd_psp_injected(id, status);
    } else if (!cmd) {
        status = PSP_INVALID_COMMAND;
    } else {
        status = psp_run(s, cmd, buf);
    }
    trace_amd_psp_status(id, cmd ? cmd->name : "?", status,
                         psp_status_name(status));

    s->cmdresp = PSP_CMD_RESP | (status & 0xffff);
    if (val & PSP_CMD_IOC) {
        s->intsts |= PSP_INT_SEV;
        if ((s->inten & PSP_INT_SEV) && msi_enabled(PCI_DEVICE(s))) {
            msi_notify(PCI_DEVICE(s), 0);
        }
    }
}

static uint64_t psp_mmio_read(void *opaque, hwaddr addr, unsigned size)
{
    AMDPSPState *s = opaque;

    switch (addr) {
    case PSP_INTEN:
        return s->inten;
    case PSP_INTSTS:
        return s->intsts;
    case PSP_CMDRESP:
        return s->cmdresp;
    case PSP_ADDR_LO:
        return s->addr_lo;
    case PSP_ADDR_HI:
        return s->addr_hi;
    case PSP_FEATURE:
        return PSP_FEATURE_SEV | PSP_FEATURE_SECURITY_REPORTING;
    default:
        trace_amd_psp_unknown_read(addr);
        return 0;
    }
}

static void psp_mmio_write(void *opaque, hwaddr addr, uint64_t val,
                           unsigned size)
{
    AMDPSPState *s = opaque;

    switch (addr) {
    case PSP_INTEN:
        s->inten = val;
        break;
    case PSP_INTSTS:
        s->intsts &= ~val;
        break;
    case PSP_CMDRESP:
        if (val & PSP_CMD_RESP) {
            s->cmdresp = val;
        } else {
            psp_command(s, val);
        }
        break;
    case PSP_ADDR_LO:
        s->addr_lo = val;
        break;
    case PSP_ADDR_HI:
        s->addr_hi = val;
        break;
    default:
        trace_amd_psp_unknown_write(addr, val);
        break;
    }
}

static const MemoryRegionOps psp_mmio_ops = {
    .read = psp_mmio_read,
    .write = psp_mmio_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .impl = {
        .min_access_size = 4,
        .max_access_size = 4,
    },
};

/* -- device ---------------------------------------------------------------- */

static char *psp_get_held(Object *obj, Error **errp)
{
    AMDPSPState *s = AMD_PSP(obj);
    GString *str = g_string_new("");
    unsigned i;

    for (i = 0; i < PSP_MAX_HELD; i++) {
        PSPHeld *h = &s->held[i];

        if (h->size) {
            g_string_append_printf(str, "%016" PRIx64 "-%016" PRIx64 " %s\n",
                                   h->base, h->base + h->size - 1, h->what);
        }
    }
    return g_string_free(str, false);
}

static void psp_reset(DeviceState *dev)
{
    AMDPSPState *s = AMD_PSP(dev);

    s->cmdresp = 0;
    s->addr_lo = 0;
    s->addr_hi = 0;
    s->inten = 0;
    s->intsts = 0;
    memset(s->held, 0, sizeof(s->held));
    memset(s->asid_state, 0, sizeof(s->asid_state));
    bitmap_zero(s->asid_dirty, PSP_MAX_ASID);
    sev_reset(s);
    snp_reset(s);
}

static void psp_realize(PCIDevice *pdev, Error **errp)
{
    AMDPSPState *s = AMD_PSP(pdev);

    if (!object_resolve_path_type("", TYPE_AMD_PSP, NULL)) {
        error_setg(errp, "a machine has one security processor");
        return;
    }
    if (s->fail_command && !s->fail_status) {
        error_setg(errp, "fail-command needs fail-status");
        return;
    }
    if (msi_init(pdev, 0, 1, true, false, errp) < 0) {
        return;
    }
    memory_region_init_io(&s->mmio, OBJECT(s), &psp_mmio_ops, s,
                          TYPE_AMD_PSP, PSP_BAR_SIZE);
    pci_register_bar(pdev, PSP_BAR, PCI_BASE_ADDRESS_SPACE_MEMORY |
                     PCI_BASE_ADDRESS_MEM_TYPE_64, &s->mmio);
}

static void psp_exit(PCIDevice *pdev)
{
    msi_uninit(pdev);
}

static void psp_instance_init(Object *obj)
{
    AMDPSPState *s = AMD_PSP(obj);

    object_property_add_uint32_ptr(obj, "fail-command", &s->fail_command,
                                   OBJ_PROP_FLAG_READWRITE);
    object_property_add_uint32_ptr(obj, "fail-status", &s->fail_status,
                                   OBJ_PROP_FLAG_READWRITE);
    object_property_add_uint32_ptr(obj, "fail-nth", &s->fail_nth,
                                   OBJ_PROP_FLAG_READWRITE);
}

static void psp_instance_finalize(Object *obj)
{
    AMDPSPState *s = AMD_PSP(obj);

    sev_finalize(s);
    snp_finalize(s);
}

static const VMStateDescription vmstate_psp = {
    .name = TYPE_AMD_PSP,
    .unmigratable = 1,
};

static void psp_class_init(ObjectClass *oc, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(oc);

    k->realize = psp_realize;
    k->exit = psp_exit;
    k->vendor_id = PCI_VENDOR_ID_AMD;
    k->device_id = 0x1486;
    k->class_id = PCI_CLASS_CRYPT_OTHER;
    dc->desc = "AMD platform security processor (SEV firmware)";
    dc->vmsd = &vmstate_psp;
    /* The state of the RMP is the firmware's: one that comes later is wrong */
    dc->hotpluggable = false;
    device_class_set_legacy_reset(dc, psp_reset);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);

    object_class_property_add_str(oc, "held", psp_get_held, NULL);
}

static const TypeInfo psp_info = {
    .name = TYPE_AMD_PSP,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(AMDPSPState),
    .instance_init = psp_instance_init,
    .instance_finalize = psp_instance_finalize,
    .class_init = psp_class_init,
    .interfaces = (InterfaceInfo[]) {
        { INTERFACE_CONVENTIONAL_PCI_DEVICE },
        { },
    },
};

static void psp_register_types(void)
{
    type_register_static(&psp_info);
}

type_init(psp_register_types)
