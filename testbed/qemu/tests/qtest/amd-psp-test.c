/*
 * QTest testcase for the AMD platform security processor
 *
 * The state machine of the SEV and SEV-SNP firmware: what it does, and the
 * status it answers to each wrong use. A processor runs, with a small image of
 * ours for a BIOS, because only instructions turn SNP on and change the RMP;
 * the tests tell it which. What a guest would do, they do themselves.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "qemu/cutils.h"
#include "libqtest.h"
#include "libqos/pci-pc.h"
#include "amd-psp-agent.h"

#include <nettle/aes.h>
#include <nettle/bignum.h>
#include <nettle/ctr.h>
#include <nettle/ecc-curve.h>
#include <nettle/ecdsa.h>
#include <nettle/gcm.h>
#include <nettle/hmac.h>
#include <nettle/sha2.h>

enum {
    OK = 0x00,
    INVALID_PLATFORM_STATE = 0x01,
    INVALID_GUEST_STATE = 0x02,
    INVALID_CONFIG = 0x03,
    INVALID_LENGTH = 0x04,
    ALREADY_OWNED = 0x05,
    INVALID_CERTIFICATE = 0x06,
    POLICY_FAILURE = 0x07,
    INACTIVE = 0x08,
    INVALID_ADDRESS = 0x09,
    BAD_SIGNATURE = 0x0a,
    BAD_MEASUREMENT = 0x0b,
    ASID_OWNED = 0x0c,
    INVALID_ASID = 0x0d,
    WBINVD_REQUIRED = 0x0e,
    DFFLUSH_REQUIRED = 0x0f,
    INVALID_GUEST = 0x10,
    INVALID_COMMAND = 0x11,
    ACTIVE = 0x12,
    UNSUPPORTED = 0x15,
    INVALID_PARAM = 0x16,
    INVALID_PAGE_SIZE = 0x19,
    INVALID_PAGE_STATE = 0x1a,
    INVALID_PAGE_OWNER = 0x1c,
    RMP_INIT_REQUIRED = 0x20,
};

enum {
    INIT = 0x001,
    SHUTDOWN = 0x002,
    PLATFORM_RESET = 0x003,
    PLATFORM_STATUS = 0x004,
    PEK_GEN = 0x005,
    PEK_CSR = 0x006,
    PEK_CERT_IMPORT = 0x007,
    PDH_CERT_EXPORT = 0x008,
    PDH_GEN = 0x009,
    DF_FLUSH = 0x00a,
    DOWNLOAD_FIRMWARE = 0x00b,
    GET_ID = 0x00c,
    DECOMMISSION = 0x020,
    ACTIVATE = 0x021,
    DEACTIVATE = 0x022,
    GUEST_STATUS = 0x023,
    LAUNCH_START = 0x030,
    LAUNCH_UPDATE_DATA = 0x031,
    LAUNCH_UPDATE_VMSA = 0x032,
    LAUNCH_MEASURE = 0x033,
    LAUNCH_SECRET = 0x034,
    LAUNCH_FINISH = 0x035,
    ATTESTATION = 0x036,
    SEND_START = 0x040,
    SEND_FINISH = 0x043,
    DBG_DECRYPT = 0x060,
    DBG_ENCRYPT = 0x061,
    SNP_INIT = 0x081,
    SNP_PLATFORM_STATUS = 0x083,
    SNP_DF_FLUSH = 0x084,
    SNP_INIT_EX = 0x085,
    SNP_SHUTDOWN_EX = 0x086,
    SNP_DECOMMISSION = 0x090,
    SNP_ACTIVATE = 0x091,
    SNP_GUEST_STATUS = 0x092,
    SNP_GCTX_CREATE = 0x093,
    SNP_GUEST_REQUEST = 0x094,
    SNP_ACTIVATE_EX = 0x095,
    SNP_LAUNCH_START = 0x0a0,
    SNP_LAUNCH_UPDATE = 0x0a1,
    SNP_LAUNCH_FINISH = 0x0a2,
    SNP_DBG_DECRYPT = 0x0b0,
    SNP_PAGE_RECLAIM = 0x0c7,
    SNP_PAGE_UNSMASH = 0x0c8,
    SNP_CONFIG = 0x0c9,
    SNP_COMMIT = 0x0cb,
    SNP_VLEK_LOAD = 0x0cd,
    SNP_FEATURE_INFO = 0x0ce,
};

enum {
    AGENT_RMPUPDATE = 1,
    AGENT_PSMASH = 2,
    AGENT_WBINVD = 3,
    AGENT_WRMSR = 4,
    AGENT_RDMSR = 5,
};

#define AGENT_MBOX      0x8000
#define MSR_SYSCFG      0xc0010010
#define MSR_HSAVE       0xc0010117
#define MSR_RMP_BASE    0xc0010132
#define SYSCFG_MFDM     BIT_ULL(19)
#define SYSCFG_SNP_EN   BIT_ULL(24)
#define SYSCFG_VMPL_EN  BIT_ULL(25)

#define IOMMU_EVENT_BASE    0xfed80010
#define IOMMU_CONTROL       0xfed80018
#define IOMMU_EVENT_LOG     0x1c00000

/* Memory, each thing in 2 MiB of its own where the RMP tells them apart */
#define CMD             0x2000000
#define DATA            0x2001000
#define FW              0x2200000   /* pages to give to the firmware */
#define PAGE(n)         (0x2400000 + (n) * 4096ull)
#define LARGE           0x2600000
#define NOT_RAM         0xfed00000ull

#define GPA             0x100000ull
#define POLICY          (1ull << 17)
#define MIN_SEV_ASID    100
#define ASID            7

/* RMP entries as they are in memory */
#define E_ASSIGNED      BIT_ULL(0)
#define E_2M            BIT_ULL(1)
#define E_IMMUTABLE     BIT_ULL(2)
#define E_ASID(n)       ((uint64_t)(n) << 51)
#define E_VMSA          BIT_ULL(61)
#define E_VALIDATED     BIT_ULL(62)
#define E_FIRMWARE      (E_ASSIGNED | E_IMMUTABLE)
#define E_CONTEXT       (E_FIRMWARE | E_VMSA)
#define E_RECLAIM       E_ASSIGNED

typedef struct Machine {
    QTestState *qts;
    QPCIBus *bus;
    QPCIDevice *dev;
    QPCIBar bar;
    char *bios;
    uint64_t rmp;
} Machine;

/* -- the machine ----------------------------------------------------------- */

static uint64_t agent(Machine *m, unsigned op, uint64_t a0, uint64_t a1)
{
    unsigned i;

    qtest_writeq(m->qts, AGENT_MBOX + 0x10, a0);
    qtest_writeq(m->qts, AGENT_MBOX + 0x18, a1);
    qtest_writel(m->qts, AGENT_MBOX, op);
    for (i = 0; i < 300000; i++) {
        if (!qtest_readl(m->qts, AGENT_MBOX)) {
            return qtest_readq(m->qts, AGENT_MBOX + 8);
        }
        g_usleep(100);
    }
    g_error("the processor does not answer");
}

static uint64_t rdmsr(Machine *m, uint32_t msr)
{
    return agent(m, AGENT_RDMSR, msr, 0);
}

static void wrmsr(Machine *m, uint32_t msr, uint64_t val)
{
    agent(m, AGENT_WRMSR, msr, val);
}

static void wbinvd(Machine *m)
{
    agent(m, AGENT_WBINVD, 0, 0);
}

static unsigned rmpupdate(Machine *m, uint64_t pa, bool large, uint32_t asid,
                          uint64_t gpa, bool assigned, bool immutable)
{
    uint8_t e[16] = { 0 };

    stq_le_p(e, gpa);
    e[8] = assigned;
    e[9] = large;
    e[10] = immutable;
    stl_le_p(e + 12, asid);
    qtest_memwrite(m->qts, AGENT_MBOX + 0x20, e, sizeof(e));
    return agent(m, AGENT_RMPUPDATE, pa, 0);
}

static void to_firmware(Machine *m, uint64_t pa)
{
    g_assert_cmphex(rmpupdate(m, pa, false, 0, 0, true, true), ==, 0);
}

static void to_pre_guest(Machine *m, uint64_t pa, uint32_t asid, uint64_t gpa)
{
    g_assert_cmphex(rmpupdate(m, pa, false, asid, gpa, true, true), ==, 0);
}

static unsigned to_hypervisor(Machine *m, uint64_t pa)
{
    return rmpupdate(m, pa, false, 0, 0, false, false);
}

static uint64_t entry(Machine *m, uint64_t pa)
{
    return qtest_readq(m->qts, m->rmp + 0x4000 + (pa >> 12) * 16);
}

/* As no one can in a machine: the table is the firmware's */
static void set_vmsa(Machine *m, uint64_t pa, bool vmsa)
{
    qtest_writeq(m->qts, m->rmp + 0x4000 + (pa >> 12) * 16,
                 (entry(m, pa) & ~E_VMSA) | (vmsa ? E_VMSA : 0));
}

static uint64_t entry_perms(Machine *m, uint64_t pa)
{
    return qtest_readq(m->qts, m->rmp + 0x4000 + (pa >> 12) * 16 + 8);
}

static void find_device(Machine *m)
{
    m->bus = qpci_new_pc(m->qts, NULL);
    m->dev = qpci_device_find(m->bus, QPCI_DEVFN(4, 0));
    g_assert_nonnull(m->dev);
    qpci_device_enable(m->dev);
    m->bar = qpci_iomap(m->dev, 2, NULL);
    m->rmp = rdmsr(m, MSR_RMP_BASE);
}

static void forget_device(Machine *m)
{
    qpci_iounmap(m->dev, m->bar);
    g_free(m->dev);
    qpci_free_pc(m->bus);
}

static void restart(Machine *m)
{
    forget_device(m);
    qtest_system_reset(m->qts);
    find_device(m);
}

static char *make_bios(void)
{
    g_autofree uint8_t *image = g_malloc0(64 * KiB);
    /* ljmp $0xf000, $0 */
    static const uint8_t jump[] = { 0xea, 0x00, 0x00, 0x00, 0xf0 };
    char *name;
    int fd = g_file_open_tmp("amd-psp-test.XXXXXX", &name, NULL);

    g_assert_cmpint(fd, >=, 0);
    memcpy(image, amd_psp_agent, sizeof(amd_psp_agent));
    memcpy(image + 0xfff0, jump, sizeof(jump));
    g_assert_cmpint(qemu_write_full(fd, image, 64 * KiB), ==, 64 * KiB);
    close(fd);
    return name;
}

static Machine *start(const char *psp_args)
{
    Machine *m = g_new0(Machine, 1);

    m->bios = make_bios();
    m->qts = qtest_initf("-accel tcg -machine q35,sata=off -m 5G -nodefaults "
                         "-cpu EPYC-Milan,sev-host=on,hypervisor=off,"
                         "phys-bits=48 -device amd-iommu,snp=on "
                         "-device amd-psp,id=psp,addr=04.0%s -bios %s",
                         psp_args, m->bios);
    find_device(m);
    return m;
}

static void stop(Machine *m)
{
    forget_device(m);
    qtest_quit(m->qts);
    unlink(m->bios);
    g_free(m->bios);
    g_free(m);
}

static unsigned psp_at(Machine *m, unsigned cmd, uint64_t buf)
{
    uint32_t r;

    qpci_io_writel(m->dev, m->bar, 0x109e4, buf >> 32);
    qpci_io_writel(m->dev, m->bar, 0x109e0, buf);
    qpci_io_writel(m->dev, m->bar, 0x10980, cmd << 16);
    r = qpci_io_readl(m->dev, m->bar, 0x10980);
    g_assert_cmphex(r & 0x80000000, ==, 0x80000000);
    return r & 0xffff;
}

/* The command buffer stays where it is between commands */
static unsigned psp(Machine *m, unsigned cmd, const void *c, size_t len)
{
    uint8_t buf[128] = { 0 };

    g_assert_cmpuint(len, <=, sizeof(buf));
    memcpy(buf, c, len);
    qtest_memwrite(m->qts, CMD, buf, sizeof(buf));
    return psp_at(m, cmd, CMD);
}

static unsigned psp_addr(Machine *m, unsigned cmd, uint64_t addr)
{
    uint8_t c[8];

    stq_le_p(c, addr);
    return psp(m, cmd, c, sizeof(c));
}

static void is(unsigned status, unsigned want, int line)
{
    if (status != want) {
        g_error("line %d: status 0x%x instead of 0x%x", line, status, want);
    }
}
#define IS(status, want) is(status, want, __LINE__)

/* -- commands -------------------------------------------------------------- */

static unsigned sev_init(Machine *m, uint32_t flags, uint64_t tmr, uint32_t len)
{
    uint8_t c[0x14] = { 0 };

    stl_le_p(c, flags);
    stq_le_p(c + 8, tmr);
    stl_le_p(c + 0x10, len);
    return psp(m, INIT, c, sizeof(c));
}

static unsigned sev_state(Machine *m)
{
    IS(psp_at(m, PLATFORM_STATUS, DATA), OK);
    g_assert_cmpint(qtest_readb(m->qts, DATA), ==, 1);
    g_assert_cmpint(qtest_readb(m->qts, DATA + 1), ==, 55);
    return qtest_readb(m->qts, DATA + 2);
}

static unsigned sev_u32(Machine *m, unsigned cmd, uint32_t a, uint32_t b)
{
    uint8_t c[8];

    stl_le_p(c, a);
    stl_le_p(c + 4, b);
    return psp(m, cmd, c, sizeof(c));
}

/* handle, reserved, address, length: LAUNCH_UPDATE_*, LAUNCH_MEASURE */
static unsigned sev_mem(Machine *m, unsigned cmd, uint32_t handle,
                        uint64_t addr, uint32_t len)
{
    uint8_t c[0x14] = { 0 };

    stl_le_p(c, handle);
    stq_le_p(c + 8, addr);
    stl_le_p(c + 0x10, len);
    return psp(m, cmd, c, sizeof(c));
}

static unsigned sev_dbg(Machine *m, unsigned cmd, uint32_t handle,
                        uint64_t src, uint64_t dst, uint32_t len)
{
    uint8_t c[0x1c] = { 0 };

    stl_le_p(c, handle);
    stq_le_p(c + 8, src);
    stq_le_p(c + 0x10, dst);
    stl_le_p(c + 0x18, len);
    return psp(m, cmd, c, sizeof(c));
}

static void flush(Machine *m, unsigned cmd)
{
    wbinvd(m);
    IS(psp_at(m, cmd, 0), OK);
}

static unsigned snp_init_ex(Machine *m, uint32_t flags, uint64_t list)
{
    uint8_t c[0x40] = { 0 };

    stl_le_p(c, flags);
    stq_le_p(c + 8, list);
    return psp(m, SNP_INIT_EX, c, sizeof(c));
}

static unsigned snp_shutdown(Machine *m, uint32_t len, uint32_t flags)
{
    return sev_u32(m, SNP_SHUTDOWN_EX, len, flags);
}

static unsigned snp_launch_start(Machine *m, uint64_t gctx, uint64_t policy)
{
    uint8_t c[0x30] = { 0 };

    stq_le_p(c, gctx);
    stq_le_p(c + 8, policy);
    return psp(m, SNP_LAUNCH_START, c, sizeof(c));
}

static unsigned snp_activate(Machine *m, uint64_t gctx, uint32_t asid)
{
    uint8_t c[0x0c];

    stq_le_p(c, gctx);
    stl_le_p(c + 8, asid);
    return psp(m, SNP_ACTIVATE, c, sizeof(c));
}

static unsigned snp_activate_ex(Machine *m, uint64_t gctx, uint32_t asid,
                                uint32_t count, uint64_t ids)
{
    uint8_t c[0x20] = { 0 };

    stl_le_p(c, sizeof(c));
    stq_le_p(c + 8, gctx);
    stl_le_p(c + 0x10, asid);
    stl_le_p(c + 0x14, count);
    stq_le_p(c + 0x18, ids);
    return psp(m, SNP_ACTIVATE_EX, c, sizeof(c));
}

static unsigned snp_update(Machine *m, uint64_t gctx, unsigned type,
                           bool large, uint64_t pa, uint32_t perms)
{
    uint8_t c[0x20] = { 0 };

    stq_le_p(c, gctx);
    stl_le_p(c + 8, type << 1 | large);
    stq_le_p(c + 0x10, pa);
    stl_le_p(c + 0x18, perms);
    return psp(m, SNP_LAUNCH_UPDATE, c, sizeof(c));
}

static unsigned snp_finish(Machine *m, uint64_t gctx, uint64_t flags,
                           uint64_t block, uint64_t auth)
{
    uint8_t c[0x40] = { 0 };

    stq_le_p(c, gctx);
    stq_le_p(c + 8, block);
    stq_le_p(c + 0x10, auth);
    stq_le_p(c + 0x18, flags);
    memset(c + 0x20, 0x5a, 32);
    return psp(m, SNP_LAUNCH_FINISH, c, sizeof(c));
}

static unsigned snp_3(Machine *m, unsigned cmd, uint64_t a, uint64_t b,
                      uint64_t d)
{
    uint8_t c[0x18];

    stq_le_p(c, a);
    stq_le_p(c + 8, b);
    stq_le_p(c + 0x10, d);
    return psp(m, cmd, c, sizeof(c));
}

static void snp_enable(Machine *m)
{
    wrmsr(m, MSR_SYSCFG, rdmsr(m, MSR_SYSCFG) | SYSCFG_MFDM |
          SYSCFG_VMPL_EN | SYSCFG_SNP_EN);
    qtest_writeq(m->qts, IOMMU_EVENT_BASE, IOMMU_EVENT_LOG | 8ull << 56);
    qtest_writeq(m->qts, IOMMU_CONTROL, 1);
}

static void snp_up(Machine *m)
{
    snp_enable(m);
    IS(psp_at(m, SNP_INIT, 0), OK);
    flush(m, SNP_DF_FLUSH);
}

/* A guest that has just been started, active with @asid */
static void snp_guest(Machine *m, uint64_t gctx, uint32_t asid,
                      uint64_t policy)
{
    to_firmware(m, gctx);
    IS(psp_addr(m, SNP_GCTX_CREATE, gctx), OK);
    IS(snp_launch_start(m, gctx, policy), OK);
    IS(snp_activate(m, gctx, asid), OK);
}

static void fill(Machine *m, uint64_t pa, uint8_t byte)
{
    qtest_memset(m->qts, pa, byte, 4096);
}

static void hold_is(Machine *m, const char *what, bool there)
{
    QDict *r = qtest_qmp(m->qts, "{'execute': 'qom-get', 'arguments': {"
                         "'path': '/machine/peripheral/psp', "
                         "'property': 'held'}}");

    g_assert(qdict_haskey(r, "return"));
    g_assert((strstr(qdict_get_str(r, "return"), what) != NULL) == there);
    qobject_unref(r);
}

static void set_fail(Machine *m, const char *property, unsigned value)
{
    qtest_qmp_assert_success(m->qts, "{'execute': 'qom-set', 'arguments': {"
                             "'path': '/machine/peripheral/psp', "
                             "'property': %s, 'value': %u}}", property, value);
}

static unsigned get_fail(Machine *m, const char *property)
{
    QDict *r = qtest_qmp(m->qts, "{'execute': 'qom-get', 'arguments': {"
                         "'path': '/machine/peripheral/psp', "
                         "'property': %s}}", property);
    unsigned value = qdict_get_int(r, "return");

    qobject_unref(r);
    return value;
}

/* -- tests ----------------------------------------------------------------- */

static void test_mailbox(void)
{
    Machine *m = start("");
    uint32_t r;

    g_assert_cmphex(qpci_io_readl(m->dev, m->bar, 0x109fc), ==, 0x81);
    /* Unknown commands, and one that this version does not have */
    IS(psp_at(m, 0x7ff, CMD), INVALID_COMMAND);
    IS(psp_at(m, SNP_FEATURE_INFO, CMD), INVALID_COMMAND);
    /* No memory there; the end of memory; around the end of the world */
    IS(psp_at(m, PLATFORM_STATUS, NOT_RAM), INVALID_ADDRESS);
    IS(psp_at(m, PLATFORM_STATUS, 0x7ffffffcull), INVALID_ADDRESS);
    IS(psp_at(m, PLATFORM_STATUS, -4ull), INVALID_ADDRESS);
    /* The C-bit does not matter */
    IS(psp_at(m, PLATFORM_STATUS, DATA | 1ull << 51), OK);

    /* No interrupt status without a wish for it; cleared by writing 1 */
    g_assert_cmphex(qpci_io_readl(m->dev, m->bar, 0x10694), ==, 0);
    qpci_io_writel(m->dev, m->bar, 0x10980, 0x00e << 16 | 1);
    r = qpci_io_readl(m->dev, m->bar, 0x10980);
    g_assert_cmphex(r, ==, 0x80000000);
    g_assert_cmphex(qpci_io_readl(m->dev, m->bar, 0x10694), ==, 2);
    qpci_io_writel(m->dev, m->bar, 0x10694, 2);
    g_assert_cmphex(qpci_io_readl(m->dev, m->bar, 0x10694), ==, 0);
    stop(m);
}

static void test_inject(void)
{
    Machine *m = start(",fail-command=0x004,fail-status=0x13,fail-nth=2");

    IS(psp_at(m, PLATFORM_STATUS, DATA), OK);
    IS(psp_at(m, 0x00e, 0), OK);
    IS(psp_at(m, PLATFORM_STATUS, DATA), 0x13);
    IS(psp_at(m, PLATFORM_STATUS, DATA), OK);
    /* Spent; it can be loaded again, which counts from now on */
    g_assert_cmpuint(get_fail(m, "fail-nth"), ==, 0);
    g_assert_cmpuint(get_fail(m, "fail-command"), ==, 0);
    set_fail(m, "fail-nth", 3);
    set_fail(m, "fail-status", 0x14);
    set_fail(m, "fail-command", 0xffff);
    IS(psp_at(m, PLATFORM_STATUS, DATA), OK);
    IS(psp_at(m, 0x00e, 0), OK);
    g_assert_cmpuint(get_fail(m, "fail-nth"), ==, 1);
    IS(psp_at(m, 0x00e, 0), 0x14);
    IS(psp_at(m, 0x00e, 0), OK);
    /* Without a count, every one */
    set_fail(m, "fail-command", PLATFORM_STATUS);
    IS(psp_at(m, PLATFORM_STATUS, DATA), 0x14);
    IS(psp_at(m, PLATFORM_STATUS, DATA), 0x14);
    IS(psp_at(m, 0x00e, 0), OK);
    stop(m);
}

/* Command lines that are refused */
static void test_refused(void)
{
    static const struct {
        const char *first, *second, *message;
    } t[] = {
        { "amd-psp,fail-command=4", "amd-iommu", "needs fail-status" },
        { "amd-psp", "amd-psp", "one security processor" },
    };
    char *bios = make_bios();
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(t); i++) {
        const char *argv[] = {
            getenv("QTEST_QEMU_BINARY"), "-accel", "qtest", "-machine", "q35",
            "-nodefaults", "-display", "none", "-bios", bios,
            "-device", t[i].first, "-device", t[i].second,
            "-loadvm", "none", NULL
        };
        g_autofree char *err = NULL;
        int status;

        /* -loadvm ends QEMU if the devices do not: there is no snapshot */
        g_assert(g_spawn_sync(NULL, (char **)argv, NULL, 0, NULL, NULL, NULL,
                              &err, &status, NULL));
        g_assert_cmpint(status, !=, 0);
        g_assert_nonnull(strstr(err, t[i].message));
    }
    unlink(bios);
    g_free(bios);
}

static void test_sev_platform(void)
{
    static const unsigned need_init[] = {
        PEK_GEN, PEK_CSR, PDH_CERT_EXPORT, PDH_GEN, DF_FLUSH, LAUNCH_START,
    };
    static const unsigned need_working[] = {
        DECOMMISSION, ACTIVATE, DEACTIVATE, GUEST_STATUS, LAUNCH_UPDATE_DATA,
        LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE, LAUNCH_FINISH, SEND_START,
        SEND_FINISH, DBG_DECRYPT,
    };
    uint8_t none[128] = { 0 }, c[0x1c] = { 0 };
    Machine *m = start("");
    unsigned i;

    g_assert_cmpint(sev_state(m), ==, 0);
    for (i = 0; i < ARRAY_SIZE(need_init); i++) {
        IS(psp(m, need_init[i], none, sizeof(none)), INVALID_PLATFORM_STATE);
    }
    for (i = 0; i < ARRAY_SIZE(need_working); i++) {
        IS(psp(m, need_working[i], none, sizeof(none)),
           INVALID_PLATFORM_STATE);
    }
    IS(psp(m, PLATFORM_RESET, none, 0), OK);
    IS(sev_u32(m, DOWNLOAD_FIRMWARE, DATA, 0), INVALID_LENGTH);

    IS(sev_init(m, 2, 0, 0), INVALID_PARAM);
    IS(sev_init(m, 1, DATA, 1 * MiB), INVALID_ADDRESS);
    IS(sev_init(m, 1, NOT_RAM & ~0xfffffull, 1 * MiB), INVALID_ADDRESS);
    IS(sev_init(m, 1, LARGE, 4096), INVALID_LENGTH);
    g_assert_cmpint(sev_state(m), ==, 0);
    IS(sev_init(m, 1, LARGE, 1 * MiB), OK);
    g_assert_cmpint(sev_state(m), ==, 1);
    g_assert_cmphex(qtest_readl(m->qts, DATA + 3), ==, 1 << 8 | 21u << 24 << 8);
    hold_is(m, "tmr", true);
    IS(sev_init(m, 0, 0, 0), INVALID_PLATFORM_STATE);
    IS(psp(m, PLATFORM_RESET, none, 0), INVALID_PLATFORM_STATE);
    IS(psp(m, DOWNLOAD_FIRMWARE, none, sizeof(none)), INVALID_PLATFORM_STATE);
    for (i = 0; i < ARRAY_SIZE(need_working); i++) {
        IS(psp(m, need_working[i], none, sizeof(none)),
           INVALID_PLATFORM_STATE);
    }
    /* The firmware's own memory is no place for answers */
    IS(psp_at(m, PLATFORM_STATUS, LARGE), INVALID_PAGE_STATE);

    IS(psp(m, PEK_GEN, none, 0), OK);
    IS(psp(m, PDH_GEN, none, 0), OK);
    /* The length that is needed comes back */
    IS(psp(m, PDH_CERT_EXPORT, none, sizeof(none)), INVALID_LENGTH);
    g_assert_cmphex(qtest_readl(m->qts, CMD + 0x08), ==, 0x824);
    g_assert_cmphex(qtest_readl(m->qts, CMD + 0x18), ==, 3 * 0x824);
    stq_le_p(c, DATA);
    stl_le_p(c + 0x08, 0x824);
    stq_le_p(c + 0x10, DATA + 0x1000);
    stl_le_p(c + 0x18, 3 * 0x824);
    IS(psp(m, PDH_CERT_EXPORT, c, sizeof(c)), OK);
    g_assert_cmphex(qtest_readl(m->qts, DATA + 8), ==, 0x1003);
    g_assert_cmphex(qtest_readl(m->qts, DATA + 0x1008), ==, 0x1002);
    g_assert_cmphex(qtest_readl(m->qts, DATA + 0x1824 + 8), ==, 0x1001);
    IS(psp(m, GET_ID, none, sizeof(none)), INVALID_LENGTH);
    g_assert_cmphex(qtest_readl(m->qts, CMD + 8), ==, 0x80);

    IS(psp(m, SHUTDOWN, none, 0), OK);
    IS(psp(m, SHUTDOWN, none, 0), OK);
    g_assert_cmpint(sev_state(m), ==, 0);
    hold_is(m, "tmr", false);
    stop(m);
}

#define CERT 0x824

static void export(Machine *m, uint8_t *pdh, uint8_t *chain)
{
    uint8_t c[0x1c] = { 0 };

    stq_le_p(c, DATA);
    stl_le_p(c + 0x08, CERT);
    stq_le_p(c + 0x10, DATA + 0x1000);
    stl_le_p(c + 0x18, 3 * CERT);
    IS(psp(m, PDH_CERT_EXPORT, c, sizeof(c)), OK);
    qtest_memread(m->qts, DATA, pdh, CERT);
    qtest_memread(m->qts, DATA + 0x1000, chain, 3 * CERT);
}

static uint32_t sev_start(Machine *m, uint32_t policy)
{
    uint8_t c[0x24] = { 0 };

    stl_le_p(c + 4, policy);
    IS(psp(m, LAUNCH_START, c, sizeof(c)), OK);
    return qtest_readl(m->qts, CMD);
}

static void test_sev_guest(void)
{
    uint8_t c[0x24] = { 0 };
    Machine *m = start("");
    uint32_t h, es;

    IS(sev_init(m, 1, LARGE, 1 * MiB), OK);

    stl_le_p(c + 4, 0x40);
    IS(psp(m, LAUNCH_START, c, sizeof(c)), INVALID_PARAM);
    stl_le_p(c + 4, 2 << 16);
    IS(psp(m, LAUNCH_START, c, sizeof(c)), POLICY_FAILURE);
    stl_le_p(c, 1);
    stl_le_p(c + 4, 0);
    IS(psp(m, LAUNCH_START, c, sizeof(c)), INVALID_GUEST);
    h = sev_start(m, 0);
    g_assert_cmpint(sev_state(m), ==, 2);
    es = sev_start(m, 4 | 1);
    g_assert_cmpint(h, !=, es);
    /* A key for two guests: one of them forbids it; it is not there */
    memset(c, 0, sizeof(c));
    stl_le_p(c, es);
    stl_le_p(c + 4, 2);
    IS(psp(m, LAUNCH_START, c, sizeof(c)), POLICY_FAILURE);
    stl_le_p(c + 4, 0);
    IS(psp(m, LAUNCH_START, c, sizeof(c)), UNSUPPORTED);

    /* ASIDs: after INIT none is clean */
    IS(sev_u32(m, ACTIVATE, 77, MIN_SEV_ASID), INVALID_GUEST);
    IS(sev_u32(m, ACTIVATE, h, MIN_SEV_ASID), DFFLUSH_REQUIRED);
    IS(psp_at(m, DF_FLUSH, 0), WBINVD_REQUIRED);
    flush(m, DF_FLUSH);
    IS(sev_u32(m, ACTIVATE, h, 0), INVALID_ASID);
    IS(sev_u32(m, ACTIVATE, h, MIN_SEV_ASID - 1), INVALID_ASID);
    IS(sev_u32(m, ACTIVATE, h, 510), INVALID_ASID);
    IS(sev_u32(m, ACTIVATE, h, -1), INVALID_ASID);
    IS(sev_u32(m, ACTIVATE, es, MIN_SEV_ASID), INVALID_ASID);
    IS(sev_mem(m, LAUNCH_UPDATE_DATA, h, DATA, 4096), INACTIVE);
    IS(sev_u32(m, ACTIVATE, h, MIN_SEV_ASID), OK);
    IS(sev_u32(m, ACTIVATE, h, MIN_SEV_ASID), ACTIVE);
    IS(sev_u32(m, ACTIVATE, es, ASID), OK);

    /* Launch, in this order only */
    IS(sev_u32(m, LAUNCH_FINISH, h, 0), INVALID_GUEST_STATE);
    IS(sev_u32(m, SEND_START, h, 0), INVALID_GUEST_STATE);
    IS(sev_mem(m, LAUNCH_UPDATE_DATA, 77, DATA, 4096), INVALID_GUEST);
    IS(sev_mem(m, LAUNCH_UPDATE_DATA, h, DATA, 0), INVALID_LENGTH);
    IS(sev_mem(m, LAUNCH_UPDATE_DATA, h, DATA, 4095), INVALID_LENGTH);
    IS(sev_mem(m, LAUNCH_UPDATE_DATA, h, DATA + 1, 4096), INVALID_ADDRESS);
    IS(sev_mem(m, LAUNCH_UPDATE_DATA, h, NOT_RAM, 4096), INVALID_ADDRESS);
    IS(sev_mem(m, LAUNCH_UPDATE_DATA, h, 0x7ffff000, 0x3000000),
       INVALID_ADDRESS);
    IS(sev_mem(m, LAUNCH_UPDATE_DATA, h, 0, 64 * MiB + 16), INVALID_LENGTH);
    IS(sev_mem(m, LAUNCH_UPDATE_DATA, h, DATA, 8192), OK);
    IS(sev_mem(m, LAUNCH_UPDATE_VMSA, h, DATA, 4096), POLICY_FAILURE);
    IS(sev_mem(m, LAUNCH_UPDATE_VMSA, es, DATA, 16), INVALID_LENGTH);
    IS(sev_mem(m, LAUNCH_UPDATE_VMSA, es, DATA, 4096), OK);
    IS(sev_mem(m, LAUNCH_MEASURE, h, 0, 0), INVALID_LENGTH);
    g_assert_cmphex(qtest_readl(m->qts, CMD + 0x10), ==, 48);
    IS(sev_mem(m, LAUNCH_MEASURE, h, NOT_RAM, 48), INVALID_ADDRESS);
    IS(sev_mem(m, LAUNCH_MEASURE, h, DATA, 48), OK);
    IS(sev_mem(m, LAUNCH_MEASURE, h, DATA, 48), INVALID_GUEST_STATE);
    IS(sev_mem(m, LAUNCH_UPDATE_DATA, h, DATA, 4096), INVALID_GUEST_STATE);
    IS(sev_u32(m, LAUNCH_FINISH, h, 0), OK);
    IS(sev_u32(m, LAUNCH_FINISH, h, 0), INVALID_GUEST_STATE);
    IS(sev_u32(m, GUEST_STATUS, h, 0), OK);
    g_assert_cmphex(qtest_readl(m->qts, CMD + 8), ==, MIN_SEV_ASID);
    g_assert_cmphex(qtest_readb(m->qts, CMD + 12), ==, 3);
    IS(sev_u32(m, SEND_START, h, 0), UNSUPPORTED);
    IS(sev_u32(m, SEND_FINISH, h, 0), INVALID_GUEST_STATE);

    IS(sev_dbg(m, DBG_DECRYPT, es, DATA, DATA + 64, 16), POLICY_FAILURE);
    IS(sev_dbg(m, DBG_DECRYPT, h, DATA, DATA + 64, 8), INVALID_LENGTH);
    IS(sev_dbg(m, DBG_DECRYPT, h, DATA, DATA, 64 * MiB + 16), INVALID_LENGTH);
    IS(sev_dbg(m, DBG_DECRYPT, h, DATA + 8, DATA + 64, 16), INVALID_ADDRESS);
    IS(sev_dbg(m, DBG_DECRYPT, h, DATA, DATA + 64, 16), OK);
    IS(sev_dbg(m, DBG_DECRYPT, h, DATA, LARGE, 16), INVALID_PAGE_STATE);
    IS(sev_dbg(m, DBG_ENCRYPT, h, DATA, DATA + 64, 16), OK);
    IS(sev_dbg(m, DBG_ENCRYPT, h, DATA, LARGE, 16), INVALID_PAGE_STATE);

    /* The end */
    IS(sev_u32(m, DECOMMISSION, h, 0), ACTIVE);
    IS(sev_u32(m, DEACTIVATE, h, 0), OK);
    IS(sev_u32(m, DEACTIVATE, h, 0), INACTIVE);
    IS(sev_u32(m, ACTIVATE, h, MIN_SEV_ASID), DFFLUSH_REQUIRED);
    IS(sev_u32(m, ACTIVATE, h, MIN_SEV_ASID + 1), OK);
    IS(psp_at(m, DF_FLUSH, 0), WBINVD_REQUIRED);
    IS(sev_u32(m, DEACTIVATE, h, 0), OK);
    IS(sev_u32(m, DECOMMISSION, h, 0), OK);
    IS(sev_u32(m, DECOMMISSION, h, 0), INVALID_GUEST);
    IS(sev_u32(m, DEACTIVATE, es, 0), OK);
    IS(sev_u32(m, DECOMMISSION, es, 0), OK);
    g_assert_cmpint(sev_state(m), ==, 1);
    stop(m);
}

/* With SNP, decryption's destination is an answer, encryption's the guest's */
static void test_sev_debug(void)
{
    const uint64_t fw = FW, guest = PAGE(0);
    Machine *m = start("");
    uint32_t h;

    snp_up(m);
    IS(sev_init(m, 0, 0, 0), OK);
    flush(m, DF_FLUSH);
    to_firmware(m, CMD);
    h = sev_start(m, 0);
    IS(sev_u32(m, ACTIVATE, h, MIN_SEV_ASID), OK);

    fill(m, guest, 0x5a);
    fill(m, DATA, 0x11);
    fill(m, fw, 0x22);
    fill(m, fw + 0x1000, 0x33);

    IS(sev_dbg(m, DBG_DECRYPT, h, guest, DATA, 32), INVALID_PAGE_STATE);
    g_assert_cmphex(qtest_readb(m->qts, DATA), ==, 0x11);
    to_firmware(m, fw);
    IS(sev_dbg(m, DBG_DECRYPT, h, guest, fw + 0xff0, 32), INVALID_PAGE_STATE);
    g_assert_cmphex(qtest_readb(m->qts, fw + 0xff0), ==, 0x22);
    IS(sev_dbg(m, DBG_DECRYPT, h, guest, fw + 0x10, 32), OK);
    g_assert_cmphex(qtest_readb(m->qts, fw + 0x0f), ==, 0x22);
    g_assert_cmphex(qtest_readb(m->qts, fw + 0x10), ==, 0x5a);
    g_assert_cmphex(qtest_readb(m->qts, fw + 0x2f), ==, 0x5a);
    g_assert_cmphex(qtest_readb(m->qts, fw + 0x30), ==, 0x22);

    IS(sev_dbg(m, DBG_ENCRYPT, h, DATA, guest + 0x10, 32), OK);
    g_assert_cmphex(qtest_readb(m->qts, guest + 0x0f), ==, 0x5a);
    g_assert_cmphex(qtest_readb(m->qts, guest + 0x10), ==, 0x11);
    to_pre_guest(m, PAGE(1), ASID, GPA);
    IS(sev_dbg(m, DBG_ENCRYPT, h, DATA, PAGE(1), 32), INVALID_PAGE_STATE);
    stop(m);
}

static void test_snp_platform(void)
{
    static const unsigned need_init[] = {
        0x082, 0x084, 0x086, 0x090, 0x091, 0x092, 0x093, 0x094, 0x095, 0x0a0,
        0x0a1, 0x0a2, 0x0b0, 0x0b1, 0x0c6, 0x0c7, 0x0c8, 0x0c9, 0x0cb, 0x0cd,
    };
    uint8_t c[0x40] = { 0 }, list[24] = { 0 };
    uint64_t many[5] = { 0 };
    Machine *m = start("");
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(need_init); i++) {
        IS(psp(m, need_init[i], c, sizeof(c)), INVALID_PLATFORM_STATE);
    }

    /* Each precondition by itself */
    IS(psp_at(m, SNP_INIT, 0), INVALID_CONFIG);
    wrmsr(m, MSR_HSAVE, 0x3000000);
    snp_enable(m);
    IS(psp_at(m, SNP_INIT, 0), INVALID_CONFIG);
    wrmsr(m, MSR_HSAVE, 0);
    qtest_writeq(m->qts, IOMMU_CONTROL, 0);
    IS(psp_at(m, SNP_INIT, 0), INVALID_CONFIG);
    qtest_writeq(m->qts, IOMMU_CONTROL, 1);
    IS(sev_init(m, 0, 0, 0), OK);
    IS(psp_at(m, SNP_INIT, 0), INVALID_PLATFORM_STATE);
    IS(psp_at(m, SHUTDOWN, 0), OK);
    IS(snp_init_ex(m, 8, 0), INVALID_PARAM);
    IS(snp_init_ex(m, 0, 0), RMP_INIT_REQUIRED);
    IS(snp_init_ex(m, 3, NOT_RAM), INVALID_ADDRESS);
    stl_le_p(list, 256);
    qtest_memwrite(m->qts, DATA, list, sizeof(list));
    IS(snp_init_ex(m, 3, DATA), INVALID_PARAM);
    stl_le_p(list, 1);
    stq_le_p(list + 8, PAGE(0) + 1);
    stl_le_p(list + 16, 2);
    qtest_memwrite(m->qts, DATA, list, sizeof(list));
    IS(snp_init_ex(m, 3, DATA), INVALID_ADDRESS);
    /* All of the RMP, and a page of it once more; what it does not cover */
    many[0] = cpu_to_le64(2);
    many[2] = cpu_to_le64(UINT32_MAX);
    many[3] = cpu_to_le64(PAGE(0));
    many[4] = cpu_to_le64(1);
    qtest_memwrite(m->qts, DATA, many, sizeof(many));
    IS(snp_init_ex(m, 3, DATA), INVALID_PARAM);
    many[1] = cpu_to_le64(1ull << 40);
    qtest_memwrite(m->qts, DATA, many, sizeof(many));
    IS(snp_init_ex(m, 2, DATA), RMP_INIT_REQUIRED);
    stq_le_p(list + 8, PAGE(0));
    qtest_memwrite(m->qts, DATA, list, sizeof(list));
    IS(psp_addr(m, SNP_PLATFORM_STATUS, DATA), OK);
    g_assert_cmphex(qtest_readw(m->qts, DATA + 2), ==, 0);

    qtest_memwrite(m->qts, DATA, list, sizeof(list));
    IS(snp_init_ex(m, 3, DATA), OK);
    g_assert_cmphex(entry(m, PAGE(0)), ==, E_IMMUTABLE);
    g_assert_cmphex(entry(m, PAGE(1)), ==, E_IMMUTABLE);
    g_assert_cmphex(entry(m, PAGE(2)), ==, 0);
    g_assert_cmphex(entry(m, m->rmp), ==, E_FIRMWARE);
    g_assert_cmphex(entry(m, IOMMU_EVENT_LOG), ==, E_FIRMWARE);
    g_assert_cmphex(entry(m, IOMMU_EVENT_LOG + 4096), ==, 0);
    hold_is(m, "rmp", true);
    hold_is(m, "iommu-event-log", true);
    IS(psp_at(m, SNP_INIT, 0), INVALID_PLATFORM_STATE);

    /* From now on the firmware writes to its own pages only */
    IS(psp_at(m, PLATFORM_STATUS, DATA), INVALID_PAGE_STATE);
    IS(psp_addr(m, SNP_PLATFORM_STATUS, DATA), INVALID_PAGE_STATE);
    IS(psp_addr(m, SNP_PLATFORM_STATUS, m->rmp), INVALID_PAGE_STATE);
    IS(psp_addr(m, SNP_PLATFORM_STATUS, IOMMU_EVENT_LOG), INVALID_PAGE_STATE);
    to_firmware(m, FW);
    IS(psp_at(m, PLATFORM_STATUS, FW), OK);
    IS(psp_addr(m, SNP_PLATFORM_STATUS, FW), OK);
    g_assert_cmphex(qtest_readw(m->qts, FW + 2), ==, 0x0101);
    g_assert_cmphex(rmpupdate(m, LARGE, true, 0, 0, true, true), ==, 0);
    IS(psp_at(m, PLATFORM_STATUS, LARGE), INVALID_PAGE_SIZE);

    /* SEV-ES wants firmware pages for the TMR */
    IS(sev_init(m, 1, 0x2800000, 1 * MiB), INVALID_PAGE_STATE);
    IS(sev_init(m, 1, LARGE, 1 * MiB), OK);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, LARGE | 1), INVALID_PAGE_STATE);
    IS(snp_shutdown(m, 8, 0), INVALID_PLATFORM_STATE);
    IS(psp_at(m, SHUTDOWN, 0), OK);

    /* Pages back */
    IS(psp_addr(m, SNP_PAGE_RECLAIM, LARGE), INVALID_PAGE_SIZE);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, LARGE | 1), OK);
    g_assert_cmphex(entry(m, LARGE), ==, E_RECLAIM | E_2M);
    g_assert_cmphex(rmpupdate(m, FW, false, 0, 0, false, false), ==, 2);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, FW | 1), INVALID_PAGE_SIZE);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, FW), OK);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, FW), OK);
    g_assert_cmphex(to_hypervisor(m, FW), ==, 0);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, FW), INVALID_PAGE_STATE);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, m->rmp), INVALID_PAGE_STATE);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, PAGE(0)), INVALID_PAGE_STATE);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, FW | 2), INVALID_ADDRESS);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, 1ull << 47), INVALID_ADDRESS);

    /* Configuration */
    memset(c, 0, sizeof(c));
    c[0] = 5;
    IS(psp(m, SNP_CONFIG, c, sizeof(c)), INVALID_PARAM);
    c[0] = 3;
    c[8] = 4;
    IS(psp(m, SNP_CONFIG, c, sizeof(c)), INVALID_PARAM);
    c[8] = 1;
    IS(psp(m, SNP_CONFIG, c, sizeof(c)), OK);
    IS(sev_u32(m, SNP_COMMIT, 3, 0), INVALID_LENGTH);
    IS(sev_u32(m, SNP_COMMIT, 4, 0), OK);
    IS(sev_u32(m, SNP_VLEK_LOAD, 15, 0), INVALID_LENGTH);

    /* Shutdown */
    IS(snp_shutdown(m, 4, 1), INVALID_LENGTH);
    IS(snp_shutdown(m, 8, 2), INVALID_PARAM);
    IS(snp_shutdown(m, 8, 1), DFFLUSH_REQUIRED);
    IS(psp_at(m, SNP_DF_FLUSH, 0), WBINVD_REQUIRED);
    flush(m, SNP_DF_FLUSH);
    IS(snp_shutdown(m, 8, 1), OK);
    g_assert_cmphex(entry(m, IOMMU_EVENT_LOG), ==, E_RECLAIM);
    hold_is(m, "iommu", false);
    hold_is(m, "rmp", true);
    IS(snp_shutdown(m, 8, 1), INVALID_PLATFORM_STATE);

    /* An IOMMU whose log lies in the RMP gains nothing by it */
    qtest_writeq(m->qts, IOMMU_EVENT_BASE, m->rmp | 8ull << 56);
    IS(snp_init_ex(m, 0, 0), OK);
    flush(m, SNP_DF_FLUSH);
    IS(snp_shutdown(m, 8, 1), OK);
    g_assert_cmphex(entry(m, m->rmp), ==, E_FIRMWARE);
    qtest_writeq(m->qts, IOMMU_EVENT_BASE, (m->rmp - 4096) | 9ull << 56);

    /* Without INIT_RMP, only pages of the hypervisor become HV-Fixed */
    to_firmware(m, PAGE(5));
    to_pre_guest(m, PAGE(6), ASID, GPA);
    g_assert_cmphex(rmpupdate(m, PAGE(7), false, 0, 0, true, false), ==, 0);
    memset(list, 0, sizeof(list));
    stl_le_p(list, 1);
    stq_le_p(list + 8, PAGE(4));
    stl_le_p(list + 16, 5);
    qtest_memwrite(m->qts, DATA, list, sizeof(list));
    IS(snp_init_ex(m, 2, DATA), OK);
    g_assert_cmphex(entry(m, PAGE(3)), ==, 0);
    g_assert_cmphex(entry(m, PAGE(4)), ==, E_IMMUTABLE);
    g_assert_cmphex(entry(m, PAGE(5)), ==, E_FIRMWARE);
    g_assert_cmphex(entry(m, PAGE(6)), ==, E_FIRMWARE | E_ASID(ASID) | GPA);
    g_assert_cmphex(entry(m, PAGE(7)), ==, E_RECLAIM);
    g_assert_cmphex(entry(m, PAGE(8)), ==, E_IMMUTABLE);
    g_assert_cmphex(entry(m, PAGE(9)), ==, 0);
    /* A log that begins before the RMP, and ends in it */
    flush(m, SNP_DF_FLUSH);
    IS(snp_shutdown(m, 8, 1), OK);
    g_assert_cmphex(entry(m, m->rmp), ==, E_FIRMWARE);

    /* With INIT_RMP all of it goes; a list of the RMP itself does not count */
    stq_le_p(list + 8, m->rmp - 4096);
    qtest_memwrite(m->qts, DATA, list, sizeof(list));
    IS(snp_init_ex(m, 3, DATA), OK);
    g_assert_cmphex(entry(m, m->rmp - 4096), ==, E_IMMUTABLE);
    g_assert_cmphex(entry(m, m->rmp), ==, E_FIRMWARE);
    for (i = 0; i < 9; i++) {
        g_assert_cmphex(entry(m, PAGE(i)), ==, 0);
    }
    stop(m);
}

/* What a reset leaves: the chip's keys, and nothing else */
static void test_reset(void)
{
    Machine *m = start("");
    uint8_t pdh[CERT], chain[3 * CERT], again[3 * CERT];

    IS(sev_init(m, 0, 0, 0), OK);
    export(m, pdh, chain);
    IS(psp_at(m, SHUTDOWN, 0), OK);
    snp_up(m);
    snp_guest(m, FW, ASID, POLICY);
    g_assert_cmphex(rmpupdate(m, LARGE, true, 0, 0, true, true), ==, 0);
    IS(sev_init(m, 1, LARGE, 1 * MiB), OK);
    hold_is(m, "tmr", true);
    IS(snp_activate(m, FW, ASID), ACTIVE);

    restart(m);
    hold_is(m, "-", false);
    g_assert_cmphex(qpci_io_readl(m->dev, m->bar, 0x10980), ==, 0);
    g_assert_cmpint(sev_state(m), ==, 0);
    /* No SNP any more: not even in the processor */
    IS(psp_addr(m, SNP_PLATFORM_STATUS, DATA), OK);
    g_assert_cmphex(qtest_readw(m->qts, DATA + 2), ==, 0);
    g_assert_cmphex(qtest_readl(m->qts, DATA + 0xc), ==, 0);
    IS(psp_addr(m, SNP_DECOMMISSION, FW), INVALID_PLATFORM_STATE);
    IS(psp_at(m, SNP_INIT, 0), INVALID_CONFIG);
    snp_enable(m);
    IS(snp_init_ex(m, 0, 0), RMP_INIT_REQUIRED);
    IS(psp_at(m, SNP_INIT, 0), OK);
    g_assert_cmphex(entry(m, FW), ==, 0);
    g_assert_cmphex(entry(m, LARGE), ==, 0);
    to_firmware(m, FW);
    IS(snp_launch_start(m, FW, POLICY), INVALID_GUEST);
    IS(psp_addr(m, SNP_GCTX_CREATE, FW), OK);
    IS(snp_launch_start(m, FW, POLICY), OK);
    IS(snp_activate(m, FW, ASID), DFFLUSH_REQUIRED);
    flush(m, SNP_DF_FLUSH);
    IS(snp_activate(m, FW, ASID), OK);

    restart(m);
    IS(sev_init(m, 0, 0, 0), OK);
    export(m, pdh, again);
    g_assert(!memcmp(chain, again, sizeof(chain)));

    /* The owner's reset leaves the CEK, too, and only that */
    IS(psp_at(m, SHUTDOWN, 0), OK);
    IS(psp_at(m, PLATFORM_RESET, 0), OK);
    IS(sev_init(m, 0, 0, 0), OK);
    export(m, pdh, again);
    g_assert(memcmp(chain + 0x10, again + 0x10, 0x94));
    g_assert(memcmp(chain + CERT + 0x10, again + CERT + 0x10, 0x94));
    g_assert(!memcmp(chain + 2 * CERT, again + 2 * CERT, CERT));
    stop(m);
}

static void measure(uint8_t ld[48], unsigned type, uint32_t perms,
                    const uint8_t *page, uint64_t gpa)
{
    uint8_t info[0x70] = { 0 };
    struct sha384_ctx ctx;

    memcpy(info, ld, 48);
    sha384_init(&ctx);
    if (page) {
        sha384_update(&ctx, 4096, page);
        sha384_digest(&ctx, 48, info + 48);
    }
    info[0x60] = 0x70;
    info[0x62] = type;
    info[0x64] = perms >> 24;
    info[0x65] = perms >> 16;
    info[0x66] = perms >> 8;
    stq_le_p(info + 0x68, gpa);
    sha384_init(&ctx);
    sha384_update(&ctx, sizeof(info), info);
    sha384_digest(&ctx, 48, ld);
}

static void test_snp_launch(void)
{
    const uint64_t gctx = FW, other = FW + 0x1000, status = FW + 0x2000;
    Machine *m = start("");
    uint8_t page[4096], want[4096], cipher[4096];
    unsigned i;

    snp_up(m);

    /* Context */
    IS(psp_addr(m, SNP_GCTX_CREATE, gctx), INVALID_PAGE_STATE);
    IS(psp_addr(m, SNP_GCTX_CREATE, gctx + 1), INVALID_ADDRESS);
    IS(psp_addr(m, SNP_GCTX_CREATE, NOT_RAM), INVALID_ADDRESS);
    IS(psp_addr(m, SNP_GCTX_CREATE, m->rmp), INVALID_PAGE_STATE);
    to_firmware(m, gctx);
    IS(snp_launch_start(m, gctx, POLICY), INVALID_GUEST);
    IS(psp_addr(m, SNP_GCTX_CREATE, gctx), OK);
    g_assert_cmphex(entry(m, gctx), ==, E_CONTEXT);
    IS(psp_addr(m, SNP_GCTX_CREATE, gctx), INVALID_PAGE_STATE);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, gctx), INVALID_PAGE_STATE);
    IS(snp_activate(m, gctx, ASID), INVALID_GUEST_STATE);
    IS(snp_update(m, gctx, 1, false, PAGE(0), 0), INVALID_GUEST_STATE);

    /* Policy */
    IS(snp_launch_start(m, gctx, 0), INVALID_PARAM);
    IS(snp_launch_start(m, gctx, POLICY | 1ull << 40), INVALID_PARAM);
    IS(snp_launch_start(m, gctx, POLICY | 2 << 8), POLICY_FAILURE);
    IS(snp_launch_start(m, gctx, POLICY | 1 << 8 | 56), POLICY_FAILURE);
    IS(snp_launch_start(m, gctx, POLICY | 1 << 23), POLICY_FAILURE);
    IS(snp_launch_start(m, gctx, POLICY | 1 << 8 | 55 | 1 << 16), OK);
    IS(snp_launch_start(m, gctx, POLICY), INVALID_GUEST_STATE);
    IS(snp_finish(m, gctx, 0, 0, 0), INACTIVE);

    /* ASID */
    IS(snp_activate(m, FW + 0x3000, ASID), INVALID_GUEST);
    IS(snp_activate(m, gctx, 0), INVALID_ASID);
    IS(snp_activate(m, gctx, MIN_SEV_ASID), INVALID_ASID);
    IS(snp_update(m, gctx, 1, false, PAGE(0), 0), INACTIVE);
    to_pre_guest(m, PAGE(9), ASID, GPA);
    IS(snp_activate(m, gctx, ASID), INVALID_CONFIG);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, PAGE(9)), OK);
    g_assert_cmphex(entry(m, PAGE(9)), ==, E_ASSIGNED | E_ASID(ASID) | GPA);
    g_assert_cmphex(to_hypervisor(m, PAGE(9)), ==, 0);
    IS(snp_activate(m, gctx, ASID), OK);
    IS(snp_activate(m, gctx, ASID), ACTIVE);
    to_firmware(m, other);
    IS(psp_addr(m, SNP_GCTX_CREATE, other), OK);
    IS(snp_launch_start(m, other, POLICY), OK);
    IS(snp_activate(m, other, ASID), ASID_OWNED);
    /* On which processors: at least one, and ours is number 0 */
    IS(snp_activate_ex(m, other, ASID + 1, 0, DATA), INVALID_PARAM);
    IS(snp_activate_ex(m, other, ASID + 1, 1025, DATA), INVALID_PARAM);
    IS(snp_activate_ex(m, other, ASID + 1, 1, NOT_RAM), INVALID_ADDRESS);
    qtest_writeq(m->qts, DATA, 77ull << 32);
    IS(snp_activate_ex(m, other, ASID + 1, 2, DATA), INVALID_PARAM);
    IS(snp_activate_ex(m, other, ASID, 1, DATA), ASID_OWNED);
    IS(snp_activate_ex(m, other, ASID + 1, 1, DATA), OK);

    /* Pages */
    fill(m, PAGE(0), 0x11);
    IS(snp_update(m, gctx, 1, false, PAGE(0), 0), INVALID_PAGE_STATE);
    to_pre_guest(m, PAGE(0), ASID, GPA);
    IS(snp_update(m, gctx, 0, false, PAGE(0), 0), INVALID_PARAM);
    IS(snp_update(m, gctx, 7, false, PAGE(0), 0), INVALID_PARAM);
    IS(snp_update(m, gctx, 8 | 1, false, PAGE(0), 0), INVALID_PARAM);
    IS(snp_update(m, gctx, 1, false, PAGE(0), 0x1000), INVALID_PARAM);
    IS(snp_update(m, gctx, 1, false, PAGE(0) + 8, 0), INVALID_ADDRESS);
    IS(snp_update(m, gctx, 1, false, NOT_RAM, 0), INVALID_ADDRESS);
    IS(snp_update(m, gctx, 1, true, PAGE(0), 0), INVALID_PAGE_SIZE);
    IS(snp_update(m, other, 1, false, PAGE(0), 0), INVALID_PAGE_OWNER);
    qtest_memread(m->qts, PAGE(0), cipher, sizeof(cipher));
    memset(want, 0x11, sizeof(want));
    g_assert(memcmp(cipher, want, sizeof(cipher)));
    IS(snp_update(m, gctx, 1, false, PAGE(0), 0x0f030100), OK);
    g_assert_cmphex(entry(m, PAGE(0)), ==,
                    E_ASSIGNED | E_VALIDATED | E_ASID(ASID) | GPA);
    g_assert_cmphex(entry_perms(m, PAGE(0)), ==, 0x0f03010f);
    qtest_memread(m->qts, PAGE(0), page, sizeof(page));
    g_assert(!memcmp(page, want, sizeof(page)));
    IS(snp_update(m, gctx, 1, false, PAGE(0), 0), INVALID_PAGE_STATE);

    /* VMSA, ZERO, SECRETS */
    for (i = 1; i < 4; i++) {
        fill(m, PAGE(i), i);
        to_pre_guest(m, PAGE(i), ASID, GPA + i * 4096);
    }
    IS(snp_update(m, gctx, 2, false, PAGE(1), 0), OK);
    g_assert_cmphex(entry(m, PAGE(1)), ==, E_ASSIGNED | E_VALIDATED | E_VMSA |
                    E_ASID(ASID) | (GPA + 4096));
    IS(snp_update(m, gctx, 3, false, PAGE(2), 0), OK);
    qtest_memread(m->qts, PAGE(2), page, sizeof(page));
    g_assert(buffer_is_zero(page, sizeof(page)));
    IS(snp_update(m, gctx, 5, false, PAGE(3), 0), OK);
    g_assert_cmphex(qtest_readl(m->qts, PAGE(3)), ==, 3);

    /* Two MiB, and only for what is not one page by nature */
    qtest_memset(m->qts, LARGE, 0x22, 2 * MiB);
    g_assert_cmphex(rmpupdate(m, LARGE, true, ASID, 0x200000, true, true), ==,
                    0);
    IS(snp_update(m, gctx, 1, false, LARGE, 0), INVALID_PAGE_SIZE);
    IS(snp_update(m, gctx, 5, true, LARGE, 0), INVALID_PAGE_SIZE);
    IS(snp_update(m, gctx, 1, true, LARGE + 4096, 0), INVALID_ADDRESS);
    IS(snp_update(m, gctx, 1, true, LARGE, 0), OK);
    qtest_memread(m->qts, LARGE + 511 * 4096, page, sizeof(page));
    memset(want, 0x22, sizeof(want));
    g_assert(!memcmp(page, want, sizeof(page)));

    /* Debugging needs the policy; status needs a firmware page */
    to_firmware(m, status);
    IS(snp_3(m, SNP_DBG_DECRYPT, gctx, PAGE(0), status), POLICY_FAILURE);
    IS(snp_3(m, SNP_GUEST_STATUS, gctx, DATA, 0), INVALID_PAGE_STATE);
    IS(snp_3(m, SNP_GUEST_STATUS, gctx, status, 0), OK);
    g_assert_cmphex(qtest_readl(m->qts, status + 8), ==, ASID);
    g_assert_cmphex(qtest_readb(m->qts, status + 12), ==, 1);

    IS(snp_3(m, SNP_GUEST_REQUEST, gctx, DATA, status), INVALID_GUEST_STATE);
    IS(snp_finish(m, gctx, 8, 0, 0), INVALID_PARAM);
    IS(snp_finish(m, gctx, 2, 0, 0), INVALID_PARAM);
    IS(snp_finish(m, gctx, 0, 0, 0), OK);
    IS(snp_finish(m, gctx, 0, 0, 0), INVALID_GUEST_STATE);
    IS(snp_update(m, gctx, 1, false, PAGE(0), 0), INVALID_GUEST_STATE);

    /* The end: pages of the guest do not matter to DECOMMISSION */
    IS(snp_shutdown(m, 8, 1), ACTIVE);
    IS(psp_addr(m, SNP_DECOMMISSION, gctx), OK);
    IS(psp_addr(m, SNP_DECOMMISSION, gctx), INVALID_GUEST);
    g_assert_cmphex(entry(m, gctx), ==, E_FIRMWARE);
    IS(psp_addr(m, SNP_DECOMMISSION, other), OK);
    IS(snp_shutdown(m, 8, 1), DFFLUSH_REQUIRED);
    IS(psp_addr(m, SNP_GCTX_CREATE, gctx), OK);
    IS(snp_launch_start(m, gctx, POLICY), OK);
    IS(snp_activate(m, gctx, ASID), DFFLUSH_REQUIRED);
    flush(m, SNP_DF_FLUSH);
    IS(snp_activate(m, gctx, ASID), INVALID_CONFIG);
    for (i = 0; i < 4; i++) {
        g_assert_cmphex(to_hypervisor(m, PAGE(i)), ==, 0);
    }
    g_assert_cmphex(rmpupdate(m, LARGE, true, 0, 0, false, false), ==, 0);
    /* What the guest had is not readable any more */
    qtest_memread(m->qts, PAGE(2), page, sizeof(page));
    g_assert(!buffer_is_zero(page, sizeof(page)));
    /* Another key each time: not what the same page was under the last one */
    fill(m, PAGE(0), 0x11);
    IS(snp_activate(m, gctx, ASID), OK);
    to_pre_guest(m, PAGE(0), ASID, GPA);
    qtest_memread(m->qts, PAGE(0), page, sizeof(page));
    g_assert(memcmp(page, cipher, sizeof(page)));
    IS(snp_update(m, gctx, 1, false, PAGE(0), 0), OK);
    g_assert_cmphex(qtest_readb(m->qts, PAGE(0)), ==, 0x11);
    stop(m);
}

static void test_snp_cpuid(void)
{
    uint8_t page[4096] = { 0 }, *e = page + 0x10;
    const uint64_t gctx = FW, pa = PAGE(0);
    Machine *m = start("");

    snp_up(m);
    snp_guest(m, gctx, ASID, POLICY);

    /* Leaf 0x8000001f, and an EBX with the C-bit somewhere else */
    stl_le_p(page, 1);
    stl_le_p(e, 0x8000001f);
    stl_le_p(e + 0x18, 0x1a);
    stl_le_p(e + 0x1c, 47);
    qtest_memwrite(m->qts, pa, page, sizeof(page));
    to_pre_guest(m, pa, ASID, GPA);
    IS(snp_update(m, gctx, 6, false, pa, 0), INVALID_PARAM);
    /* The page has not changed hands; taken back, it shows what would do */
    g_assert_cmphex(entry(m, pa), ==, E_FIRMWARE | E_ASID(ASID) | GPA);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, pa), OK);
    g_assert_cmphex(to_hypervisor(m, pa), ==, 0);
    qtest_memread(m->qts, pa, page, sizeof(page));
    g_assert_cmphex(ldl_le_p(page), ==, 1);
    g_assert_cmphex((uint32_t)ldl_le_p(e), ==, 0x8000001f);
    g_assert_cmphex(ldl_le_p(e + 0x18), ==, 0x1a);
    g_assert_cmphex(ldl_le_p(e + 0x1c), ==, 51);
    to_pre_guest(m, pa, ASID, GPA);
    IS(snp_update(m, gctx, 6, false, pa, 0), OK);
    qtest_memread(m->qts, pa, page, sizeof(page));
    g_assert_cmphex(ldl_le_p(e + 0x1c), ==, 51);

    /* Too many entries */
    stl_le_p(page, 65);
    qtest_memwrite(m->qts, PAGE(1), page, sizeof(page));
    to_pre_guest(m, PAGE(1), ASID, GPA + 4096);
    IS(snp_update(m, gctx, 6, false, PAGE(1), 0), INVALID_PARAM);
    stop(m);
}

/* -- keys and certificates of SEV ------------------------------------------ */

static void test_rnd(void *ctx, size_t len, uint8_t *p)
{
    while (len--) {
        *p++ = g_test_rand_int();
    }
}

static void put_le(uint8_t *p, const mpz_t n)
{
    memset(p, 0, 72);
    mpz_export(p, NULL, -1, 1, 0, 0, n);
}

static void sha256(const void *p, size_t len, uint8_t out[32])
{
    struct sha256_ctx ctx;

    sha256_init(&ctx);
    sha256_update(&ctx, len, p);
    sha256_digest(&ctx, 32, out);
}

/* ECDSA with SHA-256; @pub: curve, X, Y and @sig: R, S as AMD has them */
static bool verify256(const uint8_t *pub, const void *p, size_t len,
                      const uint8_t *sig)
{
    struct dsa_signature rs;
    struct ecc_point q;
    uint8_t digest[32];
    mpz_t x, y;
    bool ok;

    mpz_inits(x, y, NULL);
    mpz_import(x, 72, -1, 1, 0, 0, pub + 4);
    mpz_import(y, 72, -1, 1, 0, 0, pub + 4 + 72);
    ecc_point_init(&q, nettle_get_secp_384r1());
    g_assert(ecc_point_set(&q, x, y));
    dsa_signature_init(&rs);
    mpz_import(rs.r, 72, -1, 1, 0, 0, sig);
    mpz_import(rs.s, 72, -1, 1, 0, 0, sig + 72);
    sha256(p, len, digest);
    ok = ecdsa_verify(&q, 32, digest, &rs);
    dsa_signature_clear(&rs);
    ecc_point_clear(&q);
    mpz_clears(x, y, NULL);
    return ok;
}

static void sign256(struct ecc_scalar *key, const void *p, size_t len,
                    uint8_t *out)
{
    struct dsa_signature rs;
    uint8_t digest[32];

    sha256(p, len, digest);
    dsa_signature_init(&rs);
    ecdsa_sign(key, NULL, test_rnd, 32, digest, &rs);
    put_le(out, rs.r);
    put_le(out + 72, rs.s);
    dsa_signature_clear(&rs);
}

static void hmac256(const uint8_t *key, size_t key_len, const void *p,
                    size_t len, uint8_t out[32])
{
    struct hmac_sha256_ctx ctx;

    hmac_sha256_set_key(&ctx, key_len, key);
    hmac_sha256_update(&ctx, len, p);
    hmac_sha256_digest(&ctx, 32, out);
}

static void kdf(const uint8_t *key, size_t key_len, const char *label,
                const uint8_t *context, size_t context_len, uint8_t out[16])
{
    uint8_t in[64] = { 1 }, mac[32];
    size_t n = 4;

    memcpy(in + n, label, strlen(label) + 1);
    n += strlen(label) + 1;
    if (context_len) {
        memcpy(in + n, context, context_len);
    }
    n += context_len;
    stl_le_p(in + n, 128);
    hmac256(key, key_len, in, n + 4, mac);
    memcpy(out, mac, 16);
}

static void ctr128(const uint8_t key[16], const uint8_t iv[16], uint8_t *p,
                   size_t len)
{
    struct aes128_ctx ctx;
    uint8_t ctr[16];

    memcpy(ctr, iv, 16);
    aes128_set_encrypt_key(&ctx, key);
    ctr_crypt(&ctx, (nettle_cipher_func *)aes128_encrypt, 16, ctr, len, p, p);
}

/* A certificate for a key of the test */
static void make_cert(uint8_t *cert, uint32_t usage, uint32_t algo,
                      struct ecc_point *pub)
{
    mpz_t x, y;

    memset(cert, 0, CERT);
    mpz_inits(x, y, NULL);
    ecc_point_get(pub, x, y);
    stl_le_p(cert, 1);
    stl_le_p(cert + 8, usage);
    stl_le_p(cert + 0xc, algo);
    stl_le_p(cert + 0x10, 2);
    put_le(cert + 0x14, x);
    put_le(cert + 0x14 + 72, y);
    stl_le_p(cert + 0x414, 0x1000);
    stl_le_p(cert + 0x61c, 0x1000);
    mpz_clears(x, y, NULL);
}

static void test_sev_keys(void)
{
    const uint64_t cert_pa = 0x2800000, session_pa = 0x2801000;
    const uint64_t header_pa = 0x2802000, secret_pa = 0x2803000;
    uint8_t pdh[CERT], chain[3 * CERT], *pek = chain, *oca = chain + CERT;
    uint8_t cert[CERT], session[0x80], c[0x34] = { 0 }, keys[32], z[48];
    uint8_t master[16], kek[16], kik[16], policy[4], buf[256], mac[32];
    uint8_t data[4096], measure[48], header[0x34] = { 0 }, secret[64];
    uint8_t report[0xd0];
    struct ecc_point pub, q;
    struct ecc_scalar key;
    Machine *m = start("");
    mpz_t x, y;
    uint32_t h;

    IS(sev_init(m, 0, 0, 0), OK);
    export(m, pdh, chain);
    g_assert(verify256(oca + 0x10, oca, 0x414, oca + 0x41c));
    g_assert(verify256(oca + 0x10, pek, 0x414, pek + 0x41c));
    g_assert(verify256(chain + 2 * CERT + 0x10, pek, 0x414, pek + 0x624));
    g_assert(verify256(pek + 0x10, pdh, 0x414, pdh + 0x41c));
    g_assert(!verify256(pek + 0x10, pdh, 0x413, pdh + 0x41c));

    mpz_inits(x, y, NULL);
    ecc_point_init(&pub, nettle_get_secp_384r1());
    ecc_point_init(&q, nettle_get_secp_384r1());
    ecc_scalar_init(&key, nettle_get_secp_384r1());
    ecdsa_generate_keypair(&pub, &key, NULL, test_rnd);

    /* A session: the guest owner's certificate, and keys wrapped for the PDH */
    make_cert(cert, 0x1003, 3, &pub);
    mpz_import(x, 72, -1, 1, 0, 0, pdh + 0x14);
    mpz_import(y, 72, -1, 1, 0, 0, pdh + 0x14 + 72);
    g_assert(ecc_point_set(&q, x, y));
    ecc_point_mul(&q, &key, &q);
    ecc_point_get(&q, x, y);
    nettle_mpz_get_str_256(48, z, x);
    test_rnd(NULL, sizeof(session), session);
    test_rnd(NULL, sizeof(keys), keys);
    kdf(z, 48, "sev-master-secret", session, 16, master);
    kdf(master, 16, "sev-kek", NULL, 0, kek);
    kdf(master, 16, "sev-kik", NULL, 0, kik);
    memcpy(session + 0x10, keys, 32);
    ctr128(kek, session + 0x30, session + 0x10, 32);
    hmac256(kik, 16, session + 0x10, 32, session + 0x40);
    stl_le_p(policy, 1);
    hmac256(keys + 16, 16, policy, 4, session + 0x60);
    stl_le_p(c + 4, 1);
    stq_le_p(c + 8, cert_pa);
    stl_le_p(c + 0x10, CERT);
    stq_le_p(c + 0x18, session_pa);
    stl_le_p(c + 0x20, 0x7f);
    qtest_memwrite(m->qts, cert_pa, cert, sizeof(cert));
    qtest_memwrite(m->qts, session_pa, session, sizeof(session));
    IS(psp(m, LAUNCH_START, c, 0x24), INVALID_LENGTH);
    stl_le_p(c + 0x20, 0x80);
    stl_le_p(c + 4, 0);                         /* not the policy signed */
    IS(psp(m, LAUNCH_START, c, 0x24), BAD_MEASUREMENT);
    stl_le_p(c + 4, 1);
    cert[0x14] ^= 1;                            /* no point of the curve */
    qtest_memwrite(m->qts, cert_pa, cert, sizeof(cert));
    IS(psp(m, LAUNCH_START, c, 0x24), INVALID_CERTIFICATE);
    cert[0x14] ^= 1;
    qtest_memwrite(m->qts, cert_pa, cert, sizeof(cert));
    IS(psp(m, LAUNCH_START, c, 0x24), OK);
    h = qtest_readl(m->qts, CMD);

    /* The measurement can be checked by who knows the TIK */
    flush(m, DF_FLUSH);
    IS(sev_u32(m, ACTIVATE, h, MIN_SEV_ASID), OK);
    memset(data, 0x44, sizeof(data));
    qtest_memwrite(m->qts, DATA, data, sizeof(data));
    IS(sev_mem(m, LAUNCH_UPDATE_DATA, h, DATA, 4096), OK);
    IS(sev_mem(m, LAUNCH_MEASURE, h, DATA, 48), OK);
    qtest_memread(m->qts, DATA, measure, 48);
    memcpy(buf, "\x04\x01\x37\x15", 4);
    stl_le_p(buf + 4, 1);
    sha256(data, sizeof(data), buf + 8);
    memcpy(buf + 40, measure + 32, 16);
    hmac256(keys + 16, 16, buf, 56, mac);
    g_assert(!memcmp(mac, measure, 32));

    /* A secret; its packet is bound to the measurement */
    test_rnd(NULL, 16, header + 4);
    memset(secret, 0x66, sizeof(secret));
    ctr128(keys, header + 4, secret, sizeof(secret));
    buf[0] = 1;
    memcpy(buf + 1, header, 0x14);
    stl_le_p(buf + 0x15, 64);
    stl_le_p(buf + 0x19, 64);
    memcpy(buf + 0x1d, secret, 64);
    memcpy(buf + 0x5d, measure, 32);
    hmac256(keys + 16, 16, buf, 0x7d, header + 0x14);
    memset(c, 0, sizeof(c));
    stl_le_p(c, h);
    stq_le_p(c + 0x08, header_pa);
    stl_le_p(c + 0x10, 0x34);
    stq_le_p(c + 0x18, DATA + 0x100);
    stl_le_p(c + 0x20, 64);
    stq_le_p(c + 0x28, secret_pa);
    stl_le_p(c + 0x30, 64);
    header[0x14] ^= 1;
    qtest_memwrite(m->qts, header_pa, header, sizeof(header));
    qtest_memwrite(m->qts, secret_pa, secret, sizeof(secret));
    IS(psp(m, LAUNCH_SECRET, c, sizeof(c)), BAD_MEASUREMENT);
    header[0x14] ^= 1;
    qtest_memwrite(m->qts, header_pa, header, sizeof(header));
    stl_le_p(c + 0x20, 0x8000);
    IS(psp(m, LAUNCH_SECRET, c, sizeof(c)), INVALID_LENGTH);
    stl_le_p(c + 0x20, 64);
    IS(psp(m, LAUNCH_SECRET, c, sizeof(c)), OK);
    g_assert_cmphex(qtest_readb(m->qts, DATA + 0x100), ==, 0x66);
    g_assert_cmphex(qtest_readb(m->qts, DATA + 0x13f), ==, 0x66);
    IS(sev_u32(m, LAUNCH_FINISH, h, 0), OK);
    IS(psp(m, LAUNCH_SECRET, c, sizeof(c)), INVALID_GUEST_STATE);

    memset(c, 0, sizeof(c));
    stl_le_p(c, h);
    stq_le_p(c + 8, DATA);
    stl_le_p(c + 0x20, sizeof(report));
    IS(psp(m, ATTESTATION, c, 0x24), OK);
    qtest_memread(m->qts, DATA, report, sizeof(report));
    g_assert(verify256(pek + 0x10, report, 0x34, report + 0x40));

    /* An owner comes, once, with an OCA of his */
    IS(sev_u32(m, DEACTIVATE, h, 0), OK);
    IS(sev_u32(m, DECOMMISSION, h, 0), OK);
    make_cert(cert, 0x1001, 2, &pub);
    memset(c, 0, sizeof(c));
    stq_le_p(c, DATA);
    stl_le_p(c + 8, CERT);
    IS(psp(m, PEK_CSR, c, 0x0c), OK);
    qtest_memread(m->qts, DATA, pek, CERT);
    stl_le_p(pek + 0x414, 0x1001);
    stl_le_p(pek + 0x418, 2);
    sign256(&key, pek, 0x414, pek + 0x41c);
    stq_le_p(c, DATA);
    stl_le_p(c + 8, CERT);
    stq_le_p(c + 0x10, cert_pa);
    stl_le_p(c + 0x18, CERT);
    qtest_memwrite(m->qts, DATA, pek, CERT);
    qtest_memwrite(m->qts, cert_pa, cert, CERT);
    IS(psp(m, PEK_CERT_IMPORT, c, 0x1c), BAD_SIGNATURE);
    stl_le_p(cert + 0x414, 0x1001);
    stl_le_p(cert + 0x418, 2);
    sign256(&key, cert, 0x414, cert + 0x41c);
    qtest_memwrite(m->qts, cert_pa, cert, CERT);
    qtest_writeb(m->qts, DATA + 0x20, pek[0x20] ^ 1);
    IS(psp(m, PEK_CERT_IMPORT, c, 0x1c), INVALID_CERTIFICATE);
    qtest_memwrite(m->qts, DATA, pek, CERT);
    IS(psp(m, PEK_CERT_IMPORT, c, 0x1c), OK);
    IS(psp(m, PEK_CERT_IMPORT, c, 0x1c), ALREADY_OWNED);
    export(m, pdh, chain);
    g_assert(!memcmp(oca, cert, CERT));
    g_assert(verify256(cert + 0x10, pek, 0x414, pek + 0x41c));
    g_assert(verify256(pek + 0x10, pdh, 0x414, pdh + 0x41c));
    IS(psp_at(m, PLATFORM_STATUS, DATA), OK);
    g_assert_cmphex(qtest_readb(m->qts, DATA + 3), ==, 1);

    ecc_scalar_clear(&key);
    ecc_point_clear(&q);
    ecc_point_clear(&pub);
    mpz_clears(x, y, NULL);
    stop(m);
}

/* -- guest messages -------------------------------------------------------- */

typedef struct Guest {
    uint8_t vmpck[4][32];
    uint8_t ld[48];
    uint64_t gctx, resp;
} Guest;

/* A message whose header has the byte @bad at @at */
static unsigned bad_request(Machine *m, Guest *g, unsigned vmpck,
                            uint64_t seqno, unsigned type, const void *in,
                            size_t in_len, void *out, size_t out_len,
                            unsigned at, uint8_t bad)
{
    uint8_t msg[4096] = { 0 }, iv[12] = { 0 }, tag[16];
    struct gcm_aes256_ctx ctx;
    unsigned status;

    stq_le_p(msg + 0x20, seqno);
    stq_le_p(iv, seqno);
    msg[0x30] = 1;
    msg[0x31] = 1;
    msg[0x32] = 0x60;
    msg[0x34] = type;
    msg[0x35] = 1;
    stw_le_p(msg + 0x36, in_len);
    msg[0x3c] = vmpck;
    if (at) {
        msg[at] = bad;
    }
    gcm_aes256_set_key(&ctx, g->vmpck[vmpck]);
    gcm_aes256_set_iv(&ctx, 12, iv);
    gcm_aes256_update(&ctx, 48, msg + 0x30);
    gcm_aes256_encrypt(&ctx, in_len, msg + 0x60, in);
    gcm_aes256_digest(&ctx, 16, msg);
    qtest_memwrite(m->qts, DATA, msg, sizeof(msg));
    status = snp_3(m, SNP_GUEST_REQUEST, g->gctx, DATA, g->resp);
    if (status) {
        return status;
    }

    qtest_memread(m->qts, g->resp, msg, sizeof(msg));
    g_assert_cmphex(ldq_le_p(msg + 0x20), ==, seqno + 1);
    g_assert_cmphex(msg[0x34], ==, type + 1);
    g_assert_cmphex(lduw_le_p(msg + 0x36), <=, out_len);
    stq_le_p(iv, seqno + 1);
    gcm_aes256_set_iv(&ctx, 12, iv);
    gcm_aes256_update(&ctx, 48, msg + 0x30);
    gcm_aes256_decrypt(&ctx, lduw_le_p(msg + 0x36), out, msg + 0x60);
    gcm_aes256_digest(&ctx, 16, tag);
    g_assert(!memcmp(tag, msg, 16));
    return status;
}

static unsigned raw_request(Machine *m, Guest *g, unsigned vmpck,
                            uint64_t seqno, unsigned type, const void *in,
                            size_t in_len, void *out, size_t out_len)
{
    return bad_request(m, g, vmpck, seqno, type, in, in_len, out, out_len,
                       0, 0);
}

/* The public key in the certificate that comes with the device */
static void vcek(mpz_t x, mpz_t y)
{
    /* id-ecPublicKey's curve, then a bit string with an uncompressed point */
    static const uint8_t head[] = {
        0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04,
    };
    g_autofree char *name = g_build_filename(getenv("G_TEST_SRCDIR") ?: ".",
                                             "..", "data", "amd-psp",
                                             "vcek.pem", NULL);
    g_autofree char *pem = NULL;
    g_autofree uint8_t *der = NULL;
    char *from, *to;
    gsize len, i;

    g_assert(g_file_get_contents(name, &pem, NULL, NULL));
    from = strstr(pem, "-----BEGIN CERTIFICATE-----");
    g_assert_nonnull(from);
    from += strlen("-----BEGIN CERTIFICATE-----");
    to = strstr(from, "-----END");
    g_assert_nonnull(to);
    *to = 0;
    der = g_base64_decode(from, &len);
    for (i = 0; i + sizeof(head) + 96 <= len; i++) {
        if (!memcmp(der + i, head, sizeof(head))) {
            nettle_mpz_set_str_256_u(x, 48, der + i + sizeof(head));
            nettle_mpz_set_str_256_u(y, 48, der + i + sizeof(head) + 48);
            return;
        }
    }
    g_assert_not_reached();
}

static bool report_verify(const uint8_t *r)
{
    struct dsa_signature sig;
    struct sha384_ctx ctx;
    struct ecc_point q;
    uint8_t digest[48];
    mpz_t x, y;
    bool ok;

    mpz_inits(x, y, NULL);
    vcek(x, y);
    ecc_point_init(&q, nettle_get_secp_384r1());
    g_assert(ecc_point_set(&q, x, y));
    dsa_signature_init(&sig);
    mpz_import(sig.r, 72, -1, 1, 0, 0, r + 0x2a0);
    mpz_import(sig.s, 72, -1, 1, 0, 0, r + 0x2a0 + 72);
    sha384_init(&ctx);
    sha384_update(&ctx, 0x2a0, r);
    sha384_digest(&ctx, 48, digest);
    ok = ecdsa_verify(&q, 48, digest, &sig);
    dsa_signature_clear(&sig);
    ecc_point_clear(&q);
    mpz_clears(x, y, NULL);
    return ok;
}

/* A running guest, of a page of data and its secrets */
static void run_guest(Machine *m, Guest *g)
{
    uint8_t page[4096];

    snp_up(m);
    g->gctx = FW;
    g->resp = FW + 0x1000;
    snp_guest(m, g->gctx, ASID, POLICY);
    memset(page, 0x33, sizeof(page));
    qtest_memwrite(m->qts, PAGE(0), page, sizeof(page));
    to_pre_guest(m, PAGE(0), ASID, GPA);
    to_pre_guest(m, PAGE(1), ASID, GPA + 4096);
    IS(snp_update(m, g->gctx, 1, false, PAGE(0), 0x0f030100), OK);
    IS(snp_update(m, g->gctx, 5, false, PAGE(1), 0), OK);
    measure(g->ld, 1, 0x0f030100, page, GPA);
    measure(g->ld, 5, 0, NULL, GPA + 4096);
    qtest_memread(m->qts, PAGE(1) + 0x20, g->vmpck, sizeof(g->vmpck));
}

/*
 * Each field of the header. The messages are authentic, so that none but the
 * check of the field can refuse them.
 */
static void test_snp_header(void)
{
    static const struct {
        uint8_t at, bad;
    } t[] = {
        { 0x20, 0x02 },                             /* sequence number */
        { 0x27, 0x01 },
        { 0x28, 0x01 }, { 0x2f, 0x80 },             /* reserved */
        { 0x30, 0x00 }, { 0x30, 0x02 },             /* algorithm */
        { 0x31, 0x00 }, { 0x31, 0x02 },             /* header version */
        { 0x32, 0x5f }, { 0x32, 0x61 }, { 0x33, 0x01 }, /* header size */
        { 0x34, 0x00 }, { 0x34, 0x02 }, { 0x34, 0x04 }, /* type */
        { 0x34, 0x06 }, { 0x34, 0xff },
        { 0x35, 0x00 }, { 0x35, 0x02 },             /* version */
        { 0x36, 0x5f }, { 0x36, 0x61 }, { 0x37, 0x10 }, /* size */
        { 0x37, 0xff },
        { 0x38, 0x01 }, { 0x3b, 0x80 },             /* reserved */
        { 0x3c, 0x04 }, { 0x3c, 0xff },             /* VMPCK */
        { 0x3d, 0x01 }, { 0x40, 0x01 }, { 0x5f, 0x80 }, /* reserved */
    };
    uint8_t in[0x60] = { 0 }, out[4000] = { 0 };
    Machine *m = start("");
    Guest g = { 0 };
    unsigned i;

    run_guest(m, &g);
    to_firmware(m, g.resp);
    IS(snp_finish(m, g.gctx, 0, 0, 0), OK);
    fill(m, g.resp, 0xee);
    for (i = 0; i < ARRAY_SIZE(t); i++) {
        unsigned status = bad_request(m, &g, 0, 1, 5, in, 0x60, out,
                                      sizeof(out), t[i].at, t[i].bad);

        if (status != INVALID_PARAM) {
            g_error("byte 0x%x = 0x%x: status 0x%x", t[i].at, t[i].bad,
                    status);
        }
        g_assert_cmphex(qtest_readb(m->qts, g.resp), ==, 0xee);
    }
    /* None of them has used up a number */
    IS(raw_request(m, &g, 0, 1, 5, in, 0x60, out, sizeof(out)), OK);
    g_assert_cmphex(ldl_le_p(out), ==, 0);

    /* The VMPL that is asked for, in a report and in a key */
    for (i = 0; i < 2; i++) {
        static const uint32_t vmpl[] = { 0, 4, -1 };
        unsigned j, at = i ? 0x10 : 0x40, seqno = 1;

        for (j = 0; j < ARRAY_SIZE(vmpl); j++, seqno += 2) {
            stl_le_p(in + at, vmpl[j]);
            IS(raw_request(m, &g, 1 + i, seqno, i ? 3 : 5, in,
                           i ? 0x20 : 0x60, out, sizeof(out)), OK);
            g_assert_cmphex(ldl_le_p(out), ==, INVALID_PARAM);
        }
        stl_le_p(in + at, 3);
        IS(raw_request(m, &g, 1 + i, seqno, i ? 3 : 5, in, i ? 0x20 : 0x60,
                       out, sizeof(out)), OK);
        g_assert_cmphex(ldl_le_p(out), ==, 0);
        stl_le_p(in + at, 0);
    }
    stop(m);
}

/* Every type of page, and one of 2 MiB, in the launch digest */
static void test_snp_digest(void)
{
    static const uint8_t types[] = { 2, 3, 4, 6 };
    uint8_t page[4096], in[0x60] = { 0 }, out[4000] = { 0 };
    Machine *m = start("");
    Guest g = { 0 };
    unsigned i;

    run_guest(m, &g);
    to_firmware(m, g.resp);
    for (i = 0; i < ARRAY_SIZE(types); i++) {
        const uint64_t pa = PAGE(2 + i), gpa = GPA + (2 + i) * 4096;
        unsigned type = types[i];
        uint32_t perms = 0x07030100;

        memset(page, 0x50 + i, sizeof(page));
        if (type == 6) {
            memset(page, 0, sizeof(page));
        }
        qtest_memwrite(m->qts, pa, page, sizeof(page));
        to_pre_guest(m, pa, ASID, gpa);
        IS(snp_update(m, g.gctx, type, false, pa, perms), OK);
        measure(g.ld, type, perms, type == 2 ? page : NULL, gpa);
        if (type != 3) {
            uint8_t now[4096];

            qtest_memread(m->qts, pa, now, sizeof(now));
            g_assert(!memcmp(now, page, sizeof(page)));
        }
    }
    for (i = 0; i < 512; i++) {
        memset(page, i, sizeof(page));
        page[0] = i >> 8;
        qtest_memwrite(m->qts, LARGE + i * 4096, page, sizeof(page));
        measure(g.ld, 1, 0x01020300, page, 0x200000 + i * 4096);
    }
    g_assert_cmphex(rmpupdate(m, LARGE, true, ASID, 0x200000, true, true), ==,
                    0);
    IS(snp_update(m, g.gctx, 1, true, LARGE, 0x01020300), OK);
    IS(snp_finish(m, g.gctx, 0, 0, 0), OK);
    IS(raw_request(m, &g, 0, 1, 5, in, 0x60, out, sizeof(out)), OK);
    g_assert_cmphex(ldl_le_p(out), ==, 0);
    g_assert(!memcmp(out + 0x20 + 0x90, g.ld, 48));
    stop(m);
}

static void test_snp_messages(void)
{
    uint8_t in[0x60] = { 0 }, out[4000] = { 0 }, *r = out + 0x20, key[32];
    Machine *m = start("");
    Guest g = { 0 };

    run_guest(m, &g);
    IS(snp_finish(m, g.gctx, 0, 0, 0), OK);

    memset(in, 0xab, 64);
    IS(raw_request(m, &g, 0, 1, 5, in, 0x60, out, sizeof(out)),
       INVALID_PAGE_STATE);
    to_firmware(m, g.resp);
    IS(raw_request(m, &g, 0, 2, 5, in, 0x60, out, sizeof(out)),
       INVALID_PARAM);
    IS(raw_request(m, &g, 0, 1, 5, in, 0x5f, out, sizeof(out)),
       INVALID_PARAM);
    IS(raw_request(m, &g, 0, 1, 13, in, 0x60, out, sizeof(out)),
       INVALID_PARAM);
    g.vmpck[0][0] ^= 1;
    IS(raw_request(m, &g, 0, 1, 5, in, 0x60, out, sizeof(out)),
       BAD_MEASUREMENT);
    g.vmpck[0][0] ^= 1;
    IS(snp_3(m, SNP_GUEST_REQUEST, g.gctx, DATA + 8, g.resp),
       INVALID_ADDRESS);

    /* A report, and what is in it */
    IS(raw_request(m, &g, 0, 1, 5, in, 0x60, out, sizeof(out)), OK);
    g_assert_cmphex(ldl_le_p(out), ==, 0);
    g_assert_cmphex(ldl_le_p(out + 4), ==, 0x4a0);
    g_assert_cmphex(ldl_le_p(r), ==, 2);
    g_assert_cmphex(ldq_le_p(r + 8), ==, POLICY);
    g_assert(!memcmp(r + 0x50, in, 64));
    g_assert(!memcmp(r + 0x90, g.ld, 48));
    g_assert_cmphex(r[0xc0], ==, 0x5a);
    g_assert(report_verify(r));
    r[0x90] ^= 1;
    g_assert(!report_verify(r));

    /* The same number again; the counters of VMPCKs are apart */
    IS(raw_request(m, &g, 0, 1, 5, in, 0x60, out, sizeof(out)),
       INVALID_PARAM);
    stl_le_p(in + 0x40, 0);
    IS(raw_request(m, &g, 1, 1, 5, in, 0x60, out, sizeof(out)), OK);
    g_assert_cmphex(ldl_le_p(out), ==, INVALID_PARAM);
    stl_le_p(in + 0x40, 1);
    IS(raw_request(m, &g, 1, 3, 5, in, 0x60, out, sizeof(out)), OK);
    g_assert_cmphex(ldl_le_p(out), ==, 0);
    g_assert_cmphex(ldl_le_p(r + 0x30), ==, 1);
    stl_le_p(in + 0x44, 2);
    IS(raw_request(m, &g, 1, 5, 5, in, 0x60, out, sizeof(out)), OK);
    g_assert_cmphex(ldl_le_p(out), ==, 0x27);

    /* Keys: the same again for the same wish, another for another */
    memset(in, 0, sizeof(in));
    IS(raw_request(m, &g, 0, 3, 3, in, 0x20, out, sizeof(out)), OK);
    g_assert_cmphex(ldl_le_p(out), ==, 0);
    memcpy(key, out + 0x20, 32);
    IS(raw_request(m, &g, 0, 5, 3, in, 0x20, out, sizeof(out)), OK);
    g_assert(!memcmp(key, out + 0x20, 32));
    in[8] = 8;
    IS(raw_request(m, &g, 0, 7, 3, in, 0x20, out, sizeof(out)), OK);
    g_assert(memcmp(key, out + 0x20, 32));
    stl_le_p(in + 0x14, 1);
    IS(raw_request(m, &g, 0, 9, 3, in, 0x20, out, sizeof(out)), OK);
    g_assert_cmphex(ldl_le_p(out), ==, INVALID_PARAM);

    /* CPUID: a count that the message does not have */
    memset(in, 0, sizeof(in));
    stl_le_p(in, 2);
    IS(raw_request(m, &g, 0, 11, 1, in, 0x40, out, sizeof(out)), OK);
    g_assert_cmphex(ldl_le_p(out), ==, INVALID_PARAM);
    stl_le_p(in, 1);
    stl_le_p(in + 0x10, 0x8000001f);
    stl_le_p(in + 0x2c, 51);
    IS(raw_request(m, &g, 0, 13, 1, in, 0x40, out, sizeof(out)), OK);
    g_assert_cmphex(ldl_le_p(out), ==, 0);
    stop(m);
}

static void sign(struct ecc_scalar *key, const void *p, size_t len,
                 uint8_t *out)
{
    struct dsa_signature sig;
    struct sha384_ctx ctx;
    uint8_t digest[48];

    sha384_init(&ctx);
    sha384_update(&ctx, len, p);
    sha384_digest(&ctx, 48, digest);
    dsa_signature_init(&sig);
    ecdsa_sign(key, NULL, test_rnd, 48, digest, &sig);
    put_le(out, sig.r);
    put_le(out + 72, sig.s);
    dsa_signature_clear(&sig);
}

static void test_snp_id(void)
{
    const uint64_t block_pa = 0x2800000, auth_pa = 0x2801000;
    uint8_t block[0x60] = { 0 }, auth[4096] = { 0 }, bad[4096];
    uint8_t in[0x60] = { 0 };
    uint8_t out[4000], *r = out + 0x20, digest[48];
    struct ecc_point pub[2];
    struct ecc_scalar key[2];
    struct sha384_ctx ctx;
    Machine *m = start("");
    Guest g = { 0 };
    mpz_t x, y;
    unsigned i;

    run_guest(m, &g);
    to_firmware(m, g.resp);

    memcpy(block, g.ld, 48);
    memset(block + 0x30, 'f', 16);
    memset(block + 0x40, 'i', 16);
    stl_le_p(block + 0x50, 1);
    stl_le_p(block + 0x54, 9);
    stq_le_p(block + 0x58, POLICY);
    mpz_inits(x, y, NULL);
    for (i = 0; i < 2; i++) {
        uint8_t *p = auth + (i ? 0x880 : 0x240);

        ecc_point_init(&pub[i], nettle_get_secp_384r1());
        ecc_scalar_init(&key[i], nettle_get_secp_384r1());
        ecdsa_generate_keypair(&pub[i], &key[i], NULL, test_rnd);
        ecc_point_get(&pub[i], x, y);
        stl_le_p(p, 2);
        put_le(p + 4, x);
        put_le(p + 4 + 72, y);
        stl_le_p(auth + 4 * i, 1);
    }
    sign(&key[0], block, sizeof(block), auth + 0x40);
    sign(&key[1], auth + 0x240, 0x404, auth + 0x680);
    qtest_memwrite(m->qts, block_pa, block, sizeof(block));

#define TRY(at, flags, want) do {                                       \
        memcpy(bad, auth, sizeof(auth));                                \
        bad[at] ^= 1;                                                   \
        qtest_memwrite(m->qts, auth_pa, bad, sizeof(bad));              \
        IS(snp_finish(m, g.gctx, flags, block_pa, auth_pa), want);      \
    } while (0)
    TRY(0x000, 3, INVALID_PARAM);           /* algorithm */
    TRY(0x004, 3, INVALID_PARAM);
    TRY(0x040, 3, BAD_SIGNATURE);           /* of the block */
    TRY(0x240, 3, BAD_SIGNATURE);           /* curve */
    TRY(0x244, 3, BAD_SIGNATURE);           /* a point not on it */
    TRY(0x28a, 3, BAD_SIGNATURE);           /* more than 384 bits */
    TRY(0x680, 3, BAD_SIGNATURE);           /* of the ID key */
    TRY(0x884, 3, BAD_SIGNATURE);
#undef TRY

    block[0] ^= 1;
    sign(&key[0], block, sizeof(block), auth + 0x40);
    qtest_memwrite(m->qts, block_pa, block, sizeof(block));
    qtest_memwrite(m->qts, auth_pa, auth, sizeof(auth));
    IS(snp_finish(m, g.gctx, 3, block_pa, auth_pa), BAD_MEASUREMENT);
    block[0] ^= 1;
    block[0x58] ^= 1;
    sign(&key[0], block, sizeof(block), auth + 0x40);
    qtest_memwrite(m->qts, block_pa, block, sizeof(block));
    qtest_memwrite(m->qts, auth_pa, auth, sizeof(auth));
    IS(snp_finish(m, g.gctx, 3, block_pa, auth_pa), POLICY_FAILURE);
    block[0x58] ^= 1;
    sign(&key[0], block, sizeof(block), auth + 0x40);
    qtest_memwrite(m->qts, block_pa, block, sizeof(block));
    qtest_memwrite(m->qts, auth_pa, auth, sizeof(auth));
    IS(snp_finish(m, g.gctx, 3, NOT_RAM, auth_pa), INVALID_ADDRESS);
    IS(snp_finish(m, g.gctx, 3, block_pa, NOT_RAM), INVALID_ADDRESS);
    IS(snp_finish(m, g.gctx, 3, block_pa, auth_pa), OK);

    IS(raw_request(m, &g, 0, 1, 5, in, 0x60, out, sizeof(out)), OK);
    g_assert(report_verify(r));
    g_assert_cmphex(ldl_le_p(r + 4), ==, 9);
    g_assert_cmphex(r[0x10], ==, 'f');
    g_assert_cmphex(r[0x20], ==, 'i');
    g_assert_cmphex(ldl_le_p(r + 0x48), ==, 1);
    sha384_init(&ctx);
    sha384_update(&ctx, 0x404, auth + 0x240);
    sha384_digest(&ctx, 48, digest);
    g_assert(!memcmp(r + 0xe0, digest, 48));
    sha384_update(&ctx, 0x404, auth + 0x880);
    sha384_digest(&ctx, 48, digest);
    g_assert(!memcmp(r + 0x110, digest, 48));

    for (i = 0; i < 2; i++) {
        ecc_point_clear(&pub[i]);
        ecc_scalar_clear(&key[i]);
    }
    mpz_clears(x, y, NULL);
    stop(m);
}

static void test_snp_pages(void)
{
    const uint64_t gctx = FW, page = FW + 0x1000;
    Machine *m = start("");
    unsigned i;

    snp_up(m);
    snp_guest(m, gctx, ASID, POLICY | 1 << 19);
    fill(m, PAGE(0), 0x77);
    to_pre_guest(m, PAGE(0), ASID, GPA);
    IS(snp_update(m, gctx, 1, false, PAGE(0), 0), OK);
    IS(snp_3(m, SNP_DBG_DECRYPT, gctx, PAGE(0), DATA), INVALID_PAGE_STATE);
    IS(snp_3(m, SNP_DBG_DECRYPT, gctx, DATA, page), INVALID_PAGE_STATE);
    to_firmware(m, page);
    IS(snp_3(m, SNP_DBG_DECRYPT, gctx, PAGE(0), page), OK);
    g_assert_cmphex(qtest_readb(m->qts, page), ==, 0x77);
    g_assert_cmphex(qtest_readb(m->qts, page + 4095), ==, 0x77);

    /* 512 pages become one, if they are alike */
    for (i = 0; i < 512; i++) {
        to_pre_guest(m, LARGE + i * 4096, ASID, 0x200000 + i * 4096);
    }
    IS(psp_addr(m, SNP_PAGE_UNSMASH, LARGE + 4096), INVALID_ADDRESS);
    IS(psp_addr(m, SNP_PAGE_UNSMASH, 0x2800000), INVALID_PAGE_STATE);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, LARGE + 511 * 4096), OK);
    IS(psp_addr(m, SNP_PAGE_UNSMASH, LARGE), INVALID_PAGE_STATE);
    to_pre_guest(m, LARGE + 511 * 4096, ASID + 1, 0x200000 + 511 * 4096);
    IS(psp_addr(m, SNP_PAGE_UNSMASH, LARGE), INVALID_PAGE_OWNER);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, LARGE + 511 * 4096), OK);
    to_pre_guest(m, LARGE + 511 * 4096, ASID, 0x200000);
    IS(psp_addr(m, SNP_PAGE_UNSMASH, LARGE), INVALID_ADDRESS);
    IS(psp_addr(m, SNP_PAGE_RECLAIM, LARGE + 511 * 4096), OK);
    to_pre_guest(m, LARGE + 511 * 4096, ASID, 0x200000 + 511 * 4096);
    /* A state that no command leaves behind, for the first page and others */
    set_vmsa(m, LARGE, true);
    IS(psp_addr(m, SNP_PAGE_UNSMASH, LARGE), INVALID_PAGE_STATE);
    set_vmsa(m, LARGE, false);
    set_vmsa(m, LARGE + 4096, true);
    IS(psp_addr(m, SNP_PAGE_UNSMASH, LARGE), INVALID_PAGE_STATE);
    set_vmsa(m, LARGE + 4096, false);
    IS(psp_addr(m, SNP_PAGE_UNSMASH, LARGE), OK);
    g_assert_cmphex(entry(m, LARGE) & E_2M, ==, E_2M);
    IS(psp_addr(m, SNP_PAGE_UNSMASH, LARGE), INVALID_PAGE_SIZE);
    stop(m);
}

/*
 * Anything at all, from a hypervisor that has lost its mind: the device stands,
 * and still answers to a sane command.
 */
static void test_random(void)
{
    static const uint64_t addresses[] = {
        0, CMD, DATA, FW, FW + 0x1000, PAGE(0), PAGE(1), LARGE, NOT_RAM,
        0x7ffffff0, 0x17ffffff8, -8ull, 1ull << 51, IOMMU_EVENT_LOG,
    };
    /* Commands of SEV guests, and whether one has found its guest */
    static const unsigned sev[] = {
        DECOMMISSION, ACTIVATE, DEACTIVATE, GUEST_STATUS, LAUNCH_UPDATE_DATA,
        LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE, LAUNCH_SECRET, LAUNCH_FINISH,
        ATTESTATION, SEND_START, SEND_FINISH, DBG_DECRYPT,
    };
    bool reached[0x100] = { false };
    Machine *m = start("");
    uint32_t handle = 0;
    unsigned i, j;

    snp_up(m);
    IS(sev_init(m, 0, 0, 0), OK);
    flush(m, DF_FLUSH);
    snp_guest(m, FW, ASID, POLICY);
    to_firmware(m, FW + 0x1000);
    for (i = 0; i < 20000; i++) {
        unsigned cmd = g_test_rand_int_range(0, 0xd0), status;
        uint64_t c[12];

        if (i % 100 == 0) {
            rmpupdate(m, PAGE(0), false, ASID, GPA, true, true);
            /* Where the SEV API answers, as long as nobody reclaims it */
            rmpupdate(m, CMD, false, 0, 0, true, true);
            handle = sev_start(m, 0);
            sev_u32(m, ACTIVATE, handle, MIN_SEV_ASID + i / 100);
        }
        /* These end the game too soon */
        if (cmd == SHUTDOWN || cmd == SNP_SHUTDOWN_EX ||
            cmd == SNP_DECOMMISSION || cmd == 0x082) {
            continue;
        }
        for (j = 0; j < ARRAY_SIZE(c); j++) {
            switch (g_test_rand_int_range(0, 4)) {
            case 0:
                c[j] = addresses[g_test_rand_int_range(0,
                                                ARRAY_SIZE(addresses))];
                break;
            case 1:
                c[j] = g_test_rand_int_range(0, 0x100);
                break;
            case 2:
                c[j] = FW;
                break;
            default:
                c[j] = (uint64_t)g_test_rand_int() << 32 |
                       (uint32_t)g_test_rand_int();
                break;
            }
            c[j] = cpu_to_le64(c[j]);
        }
        /* The first word names a guest */
        if (g_test_rand_int_range(0, 2)) {
            c[0] = cpu_to_le64(cmd < 0x80 ? handle : FW);
        }
        /* The processor's code and its mailbox are no place for results */
        if (cmd == DBG_DECRYPT || cmd == DBG_ENCRYPT) {
            c[2] |= cpu_to_le64(CMD);
        }
        /* A context for good, and no place for answers */
        if (cmd == SNP_GCTX_CREATE && c[0] == cpu_to_le64(CMD)) {
            continue;
        }
        status = psp(m, cmd, c, sizeof(c));
        if (status != INVALID_PLATFORM_STATE && status != INVALID_GUEST &&
            status != INVALID_PAGE_STATE) {
            reached[cmd] = true;
        }
    }
    for (i = 0; i < ARRAY_SIZE(sev); i++) {
        if (!reached[sev[i]]) {
            g_error("command 0x%x has found no guest", sev[i]);
        }
    }
    IS(psp_at(m, 0x00e, 0), OK);
    /* What is the firmware's has stayed so */
    g_assert_cmphex(entry(m, m->rmp), ==, E_FIRMWARE);
    g_assert_cmphex(entry(m, IOMMU_EVENT_LOG), ==, E_FIRMWARE);
    g_assert_cmphex(entry(m, FW), ==, E_CONTEXT);
    g_assert_cmphex(entry(m, DATA) & ~E_IMMUTABLE, ==, 0);
    stop(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    if (!qtest_has_accel("tcg") || !qtest_has_device("amd-psp")) {
        g_test_skip("needs TCG and amd-psp");
        return 0;
    }
    qtest_add_func("/amd-psp/mailbox", test_mailbox);
    qtest_add_func("/amd-psp/inject", test_inject);
    qtest_add_func("/amd-psp/refused", test_refused);
    qtest_add_func("/amd-psp/reset", test_reset);
    qtest_add_func("/amd-psp/sev/platform", test_sev_platform);
    qtest_add_func("/amd-psp/sev/guest", test_sev_guest);
    qtest_add_func("/amd-psp/sev/debug", test_sev_debug);
    qtest_add_func("/amd-psp/sev/keys", test_sev_keys);
    qtest_add_func("/amd-psp/snp/platform", test_snp_platform);
    qtest_add_func("/amd-psp/snp/launch", test_snp_launch);
    qtest_add_func("/amd-psp/snp/cpuid", test_snp_cpuid);
    qtest_add_func("/amd-psp/snp/digest", test_snp_digest);
    qtest_add_func("/amd-psp/snp/header", test_snp_header);
    qtest_add_func("/amd-psp/snp/messages", test_snp_messages);
    qtest_add_func("/amd-psp/snp/id", test_snp_id);
    qtest_add_func("/amd-psp/snp/pages", test_snp_pages);
    qtest_add_func("/amd-psp/random", test_random);
    return g_test_run();
}
