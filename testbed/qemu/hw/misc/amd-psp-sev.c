/*
 * AMD platform security processor (PSP): SEV and SEV-ES
 *
 * The commands of the Secure Encrypted Virtualization API (AMD publication
 * 55766), version 0.24 and what it became in API 1.55.
 *
 * Memory of these guests holds plaintext here, so that encryption in place
 * leaves nothing to do but the measurement.
 *
 * Not modelled: guests that share a key (a handle in LAUNCH_START answers
 * UNSUPPORTED), sending and receiving guests (the states are checked, then
 * SEND_START and RECEIVE_START answer UNSUPPORTED), storage in INIT_EX's NV
 * buffer (UNSUPPORTED; keys live as long as the device), installation of
 * firmware (no image has a good signature), ring buffers, compressed packets.
 * Keys from a guest owner's session follow the API's text; they were not
 * checked against another implementation. The certificate of the chip's
 * endorsement key (CEK) has no signature, as AMD's server adds it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "exec/hwaddr.h"
#include "hw/core/cpu.h"
#include "amd-psp.h"
#include "trace.h"

#define SYSCFG_MEM_ENC      BIT_ULL(23)
#define INIT_ES             BIT(0)
#define TMR_MIN             (1 * MiB)
#define HELD_TMR            "tmr"

/* Guest policy */
#define POLICY_NODBG        BIT(0)
#define POLICY_NOKS         BIT(1)
#define POLICY_ES           BIT(2)
#define POLICY_NOSEND       BIT(3)
#define POLICY_RESERVED     0xffc0u
#define POLICY_API_MAJOR(p) extract32(p, 16, 8)
#define POLICY_API_MINOR(p) extract32(p, 24, 8)

typedef enum SEVGuestState {
    SEV_GSTATE_UNINIT = 0,
    SEV_GSTATE_LUPDATE = 1,
    SEV_GSTATE_LSECRET = 2,
    SEV_GSTATE_RUNNING = 3,
    SEV_GSTATE_SUPDATE = 4,
    SEV_GSTATE_RUPDATE = 5,
    SEV_GSTATE_SENT = 6,
} SEVGuestState;

struct SEVGuest {
    uint32_t handle;
    uint32_t policy;
    uint32_t asid;              /* 0: not active */
    SEVGuestState state;
    uint8_t tek[16];
    uint8_t tik[16];
    PSPHash *hash;              /* until LAUNCH_MEASURE */
    uint8_t ld[PSP_SHA256_SIZE];
    uint8_t measure[PSP_SHA256_SIZE];
};

/* Certificates */
#define CERT_SIZE           0x824
#define CERT_BODY           0x414   /* what signatures cover */
#define CERT_API_MAJOR      0x004
#define CERT_USAGE          0x008
#define CERT_ALGO           0x00c
#define CERT_PUBKEY         0x010
#define CERT_SIG1           0x414
#define CERT_SIG2           0x61c
/* in a signature's slot */
#define SIG_USAGE           0x000
#define SIG_ALGO            0x004
#define SIG_VALUE           0x008

enum {
    USAGE_INVALID = 0x1000,
    USAGE_OCA = 0x1001,
    USAGE_PEK = 0x1002,
    USAGE_PDH = 0x1003,
    USAGE_CEK = 0x1004,
};

enum {
    ALGO_INVALID = 0,
    ALGO_ECDSA_SHA256 = 2,
    ALGO_ECDH_SHA256 = 3,
    ALGO_ECDSA_SHA384 = 0x102,
    ALGO_ECDH_SHA384 = 0x103,
};

#define SESSION_SIZE        0x80
#define SECRET_HEADER_SIZE  0x34
#define SECRET_MAX          (16 * KiB)
#define UPDATE_MAX          (64 * MiB)  /* the BQL is held meanwhile */
#define MEASURE_SIZE        0x30
#define ATTESTATION_SIZE    0xd0
#define ID_SIZE             0x80    /* two sockets */

/* -- certificates ---------------------------------------------------------- */

static size_t cert_digest(const uint8_t *cert, uint32_t algo,
                          uint8_t digest[PSP_SHA384_SIZE])
{
    switch (algo) {
    case ALGO_ECDSA_SHA256:
        psp_sha256(cert, CERT_BODY, digest);
        return PSP_SHA256_SIZE;
    case ALGO_ECDSA_SHA384:
        psp_sha384(cert, CERT_BODY, digest);
        return PSP_SHA384_SIZE;
    default:
        return 0;
    }
}

static void cert_init(uint8_t cert[CERT_SIZE], uint32_t usage, uint32_t algo,
                      const PSPKey *key)
{
    memset(cert, 0, CERT_SIZE);
    stl_le_p(cert, 1);
    cert[CERT_API_MAJOR] = PSP_API_MAJOR;
    cert[CERT_API_MAJOR + 1] = PSP_API_MINOR;
    stl_le_p(cert + CERT_USAGE, usage);
    stl_le_p(cert + CERT_ALGO, algo);
    psp_key_public(key, cert + CERT_PUBKEY);
    stl_le_p(cert + CERT_SIG1 + SIG_USAGE, USAGE_INVALID);
    stl_le_p(cert + CERT_SIG2 + SIG_USAGE, USAGE_INVALID);
}

static void cert_sign(uint8_t cert[CERT_SIZE], unsigned slot, uint32_t usage,
                      const PSPKey *key)
{
    uint8_t digest[PSP_SHA384_SIZE];
    size_t len = cert_digest(cert, ALGO_ECDSA_SHA256, digest);

    stl_le_p(cert + slot + SIG_USAGE, usage);
    stl_le_p(cert + slot + SIG_ALGO, ALGO_ECDSA_SHA256);
    psp_ecdsa_sign(key->d, digest, len, cert + slot + SIG_VALUE);
}

/* Whether @signer has signed @cert, in either of its two slots */
static bool cert_verify(const uint8_t cert[CERT_SIZE], uint32_t usage,
                        const uint8_t signer[CERT_SIZE])
{
    static const unsigned slots[] = { CERT_SIG1, CERT_SIG2 };
    uint8_t digest[PSP_SHA384_SIZE];
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(slots); i++) {
        const uint8_t *sig = cert + slots[i];
        size_t len = cert_digest(cert, ldl_le_p(sig + SIG_ALGO), digest);

        if (len && ldl_le_p(sig + SIG_USAGE) == usage &&
            psp_ecdsa_verify(signer + CERT_PUBKEY, digest, len,
                             sig + SIG_VALUE)) {
            return true;
        }
    }
    return false;
}

static void sev_new_pek(AMDPSPState *s)
{
    SEVPlatform *p = &s->sev;

    psp_key_generate(&p->oca);
    psp_key_generate(&p->pek);
    psp_key_generate(&p->pdh);
    p->external_owner = false;

    cert_init(p->oca_cert, USAGE_OCA, ALGO_ECDSA_SHA256, &p->oca);
    cert_sign(p->oca_cert, CERT_SIG1, USAGE_OCA, &p->oca);
    cert_init(p->pek_cert, USAGE_PEK, ALGO_ECDSA_SHA256, &p->pek);
    cert_sign(p->pek_cert, CERT_SIG1, USAGE_OCA, &p->oca);
    cert_sign(p->pek_cert, CERT_SIG2, USAGE_CEK, &p->cek);
}

static void sev_need_identity(AMDPSPState *s)
{
    /* The chip's own: PLATFORM_RESET does not change it */
    if (!s->sev.have_cek) {
        psp_key_generate(&s->sev.cek);
        s->sev.have_cek = true;
    }
    if (!s->sev.have_identity) {
        sev_new_pek(s);
        s->sev.have_identity = true;
    }
}

/* -- platform -------------------------------------------------------------- */

static void sev_guest_free(gpointer data)
{
    SEVGuest *g = data;

    psp_hash_free(g->hash);
    g_free(g);
}

static PSPStatus sev_hold_tmr(AMDPSPState *s, hwaddr tmr, uint32_t len)
{
    hwaddr pa;

    if (tmr & (TMR_MIN - 1)) {
        return PSP_INVALID_ADDRESS;
    }
    if (len < TMR_MIN) {
        return PSP_INVALID_LENGTH;
    }
    if (!psp_is_ram(tmr, len)) {
        return PSP_INVALID_ADDRESS;
    }
    if (psp_is_held(s, tmr, len)) {
        return PSP_INVALID_PAGE_STATE;
    }
    for (pa = tmr; s->snp.init && pa < tmr + len; pa += RMP_PAGE_SIZE) {
        RMPEntry e;

        if (rmp_state(&e, rmp_get(pa, &e)) != RMP_FIRMWARE) {
            return PSP_INVALID_PAGE_STATE;
        }
    }
    psp_hold(s, tmr, len, HELD_TMR);
    return PSP_SUCCESS;
}

static PSPStatus sev_do_init(AMDPSPState *s, uint32_t flags, uint64_t tmr,
                             uint32_t tmr_len)
{
    CPUState *cs;

    if (flags & ~INIT_ES) {
        return PSP_INVALID_PARAM;
    }
    CPU_FOREACH(cs) {
        if (!(X86_CPU(cs)->env.msr_syscfg & SYSCFG_MEM_ENC)) {
            return PSP_INVALID_CONFIG;
        }
    }
    if (flags & INIT_ES) {
        PSPStatus status = sev_hold_tmr(s, psp_pa(tmr), tmr_len);

        if (status) {
            return status;
        }
    }
    sev_need_identity(s);
    s->sev.state = SEV_INIT;
    s->sev.es = flags & INIT_ES;
    psp_asids_dirty(s, 1, psp_max_asid());
    return PSP_SUCCESS;
}

static PSPStatus sev_cmd_init(AMDPSPState *s, uint8_t *c)
{
    if (s->sev.state != SEV_UNINIT) {
        return PSP_INVALID_PLATFORM_STATE;
    }
    if (ldl_le_p(c + 4)) {
        return PSP_INVALID_PARAM;
    }
    return sev_do_init(s, ldl_le_p(c), ldq_le_p(c + 8), ldl_le_p(c + 0x10));
}

static PSPStatus sev_cmd_init_ex(AMDPSPState *s, uint8_t *c)
{
    if (s->sev.state != SEV_UNINIT) {
        return PSP_INVALID_PLATFORM_STATE;
    }
    if (ldl_le_p(c) != 0x24) {
        return PSP_INVALID_LENGTH;
    }
    if (ldl_le_p(c + 0x14)) {
        return PSP_INVALID_PARAM;
    }
    if (ldq_le_p(c + 0x18) || ldl_le_p(c + 0x20)) {
        return PSP_UNSUPPORTED;
    }
    return sev_do_init(s, ldl_le_p(c + 4), ldq_le_p(c + 8),
                       ldl_le_p(c + 0x10));
}

static void sev_free_asid(AMDPSPState *s, SEVGuest *g)
{
    if (g->asid) {
        s->asid_state[g->asid] = PSP_ASID_FREE;
        psp_asids_dirty(s, g->asid, g->asid);
        g->asid = 0;
    }
}

static PSPStatus sev_cmd_shutdown(AMDPSPState *s, uint8_t *c)
{
    GHashTableIter iter;
    gpointer g;

    g_hash_table_iter_init(&iter, s->sev.guests);
    while (g_hash_table_iter_next(&iter, NULL, &g)) {
        sev_free_asid(s, g);
    }
    g_hash_table_remove_all(s->sev.guests);
    psp_release(s, HELD_TMR);
    s->sev.state = SEV_UNINIT;
    s->sev.es = false;
    return PSP_SUCCESS;
}

static PSPStatus sev_cmd_factory_reset(AMDPSPState *s, uint8_t *c)
{
    if (s->sev.state != SEV_UNINIT) {
        return PSP_INVALID_PLATFORM_STATE;
    }
    s->sev.have_identity = false;
    s->sev.external_owner = false;
    return PSP_SUCCESS;
}

static PSPStatus sev_cmd_platform_status(AMDPSPState *s, uint8_t *c)
{
    c[0] = PSP_API_MAJOR;
    c[1] = PSP_API_MINOR;
    c[2] = s->sev.state;
    /* 32 bits at offset 3: OWNER is bit 0, CONFIG.ES is bit 8 */
    stl_le_p(c + 3, s->sev.external_owner | s->sev.es << 8);
    c[7] = PSP_BUILD;
    stl_le_p(c + 8, g_hash_table_size(s->sev.guests));
    return PSP_SUCCESS;
}

static PSPStatus sev_cmd_pek_gen(AMDPSPState *s, uint8_t *c)
{
    if (s->sev.state != SEV_INIT) {
        return PSP_INVALID_PLATFORM_STATE;
    }
    sev_new_pek(s);
    return PSP_SUCCESS;
}

static PSPStatus sev_cmd_pdh_gen(AMDPSPState *s, uint8_t *c)
{
    psp_key_generate(&s->sev.pdh);
    return PSP_SUCCESS;
}

/*
 * Answer with @data at the address at offset @addr of the command, if the
 * length at offset @len allows. The length that is needed comes back.
 */
static PSPStatus sev_output(AMDPSPState *s, uint8_t *c, unsigned addr,
                            unsigned len, const void *data, uint32_t size)
{
    hwaddr pa = psp_pa(ldq_le_p(c + addr));
    uint32_t given = ldl_le_p(c + len);
    PSPStatus status;

    stl_le_p(c + len, size);
    if (given < size) {
        return PSP_INVALID_LENGTH;
    }
    status = psp_check_output(s, pa, size);
    if (!status && data) {
        psp_write_mem(pa, data, size);
    }
    return status;
}

static PSPStatus sev_cmd_pek_csr(AMDPSPState *s, uint8_t *c)
{
    uint8_t cert[CERT_SIZE];

    cert_init(cert, USAGE_PEK, ALGO_ECDSA_SHA256, &s->sev.pek);
    return sev_output(s, c, 0, 8, cert, sizeof(cert));
}

static PSPStatus sev_cmd_pek_cert_import(AMDPSPState *s, uint8_t *c)
{
    uint8_t pek[CERT_SIZE], oca[CERT_SIZE];
    PSPStatus status;

    if (s->sev.state != SEV_INIT) {
        return PSP_INVALID_PLATFORM_STATE;
    }
    if (s->sev.external_owner) {
        return PSP_ALREADY_OWNED;
    }
    if (ldl_le_p(c + 8) != CERT_SIZE || ldl_le_p(c + 0x18) != CERT_SIZE) {
        return PSP_INVALID_LENGTH;
    }
    status = psp_read_mem(psp_pa(ldq_le_p(c)), pek, sizeof(pek));
    if (!status) {
        status = psp_read_mem(psp_pa(ldq_le_p(c + 0x10)), oca, sizeof(oca));
    }
    if (status) {
        return status;
    }
    if (memcmp(pek, s->sev.pek_cert, CERT_BODY) || ldl_le_p(oca) != 1 ||
        ldl_le_p(oca + CERT_USAGE) != USAGE_OCA) {
        return PSP_INVALID_CERTIFICATE;
    }
    if (!cert_verify(oca, USAGE_OCA, oca) ||
        !cert_verify(pek, USAGE_OCA, oca)) {
        return PSP_BAD_SIGNATURE;
    }
    memcpy(s->sev.oca_cert, oca, sizeof(oca));
    memcpy(s->sev.pek_cert, pek, sizeof(pek));
    /* The other slot is the chip's own */
    cert_sign(s->sev.pek_cert,
              ldl_le_p(pek + CERT_SIG1 + SIG_USAGE) == USAGE_OCA ?
              CERT_SIG2 : CERT_SIG1, USAGE_CEK, &s->sev.cek);
    s->sev.external_owner = true;
    psp_key_generate(&s->sev.pdh);
    return PSP_SUCCESS;
}

static PSPStatus sev_cmd_pdh_cert_export(AMDPSPState *s, uint8_t *c)
{
    uint8_t pdh[CERT_SIZE], chain[3 * CERT_SIZE];
    PSPStatus status, chain_status;

    cert_init(pdh, USAGE_PDH, ALGO_ECDH_SHA256, &s->sev.pdh);
    cert_sign(pdh, CERT_SIG1, USAGE_PEK, &s->sev.pek);
    memcpy(chain, s->sev.pek_cert, CERT_SIZE);
    memcpy(chain + CERT_SIZE, s->sev.oca_cert, CERT_SIZE);
    cert_init(chain + 2 * CERT_SIZE, USAGE_CEK, ALGO_ECDSA_SHA256,
              &s->sev.cek);

    /* Both lengths come back, and nothing is written unless both fit */
    status = sev_output(s, c, 0x00, 0x08, NULL, sizeof(pdh));
    chain_status = sev_output(s, c, 0x10, 0x18, NULL, sizeof(chain));
    if (status || chain_status) {
        return status ?: chain_status;
    }
    psp_write_mem(psp_pa(ldq_le_p(c)), pdh, sizeof(pdh));
    psp_write_mem(psp_pa(ldq_le_p(c + 0x10)), chain, sizeof(chain));
    return PSP_SUCCESS;
}

static PSPStatus sev_cmd_get_id(AMDPSPState *s, uint8_t *c)
{
    uint8_t id[ID_SIZE] = { 0 };

    memcpy(id, psp_chip_id, PSP_CHIP_ID_SIZE);
    return sev_output(s, c, 0, 8, id, sizeof(id));
}

static PSPStatus sev_cmd_df_flush(AMDPSPState *s, uint8_t *c)
{
    return psp_df_flush(s);
}

static PSPStatus sev_cmd_download_firmware(AMDPSPState *s, uint8_t *c)
{
    uint8_t byte;
    PSPStatus status;

    if (s->sev.state != SEV_UNINIT) {
        return PSP_INVALID_PLATFORM_STATE;
    }
    if (!ldl_le_p(c + 8)) {
        return PSP_INVALID_LENGTH;
    }
    status = psp_read_mem(psp_pa(ldq_le_p(c)), &byte, 1);
    return status ?: PSP_BAD_SIGNATURE;
}

static PSPStatus sev_cmd_nop(AMDPSPState *s, uint8_t *c)
{
    return PSP_SUCCESS;
}

/* -- guests ---------------------------------------------------------------- */

static SEVGuest *sev_guest(AMDPSPState *s, uint32_t handle)
{
    return g_hash_table_lookup(s->sev.guests, GUINT_TO_POINTER(handle));
}

/* What most commands want: a guest, in that state, with an ASID */
static PSPStatus sev_guest_in(AMDPSPState *s, uint8_t *c, SEVGuestState state,
                              SEVGuest **g)
{
    *g = sev_guest(s, ldl_le_p(c));
    if (!*g) {
        return PSP_INVALID_GUEST;
    }
    if ((*g)->state != state) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (!(*g)->asid) {
        return PSP_INACTIVE;
    }
    return PSP_SUCCESS;
}

/* Guest memory: the hypervisor's, for the RMP knows nothing of these guests */
static PSPStatus sev_check_memory(AMDPSPState *s, hwaddr pa, uint64_t len)
{
    hwaddr page;

    if (!psp_is_ram(pa, len)) {
        return PSP_INVALID_ADDRESS;
    }
    if (psp_is_held(s, pa, len)) {
        return PSP_INVALID_PAGE_STATE;
    }
    for (page = pa & ~(hwaddr)(RMP_PAGE_SIZE - 1);
         s->snp.init && page < pa + len; page += RMP_PAGE_SIZE) {
        RMPEntry e;

        switch (rmp_state(&e, rmp_get(page, &e))) {
        case RMP_DEFAULT:
        case RMP_HYPERVISOR:
        case RMP_HV_FIXED:
        case RMP_FIRMWARE:
            break;
        default:
            return PSP_INVALID_PAGE_STATE;
        }
    }
    return PSP_SUCCESS;
}

/* A processor may assign such a page to a guest at any time, but not here */
static PSPStatus sev_write(AMDPSPState *s, hwaddr pa, const void *p,
                           uint64_t len)
{
    bool locked = s->snp.init;      /* without SNP there may be no table */
    PSPStatus status;

    if (locked) {
        rmp_lock();
    }
    status = sev_check_memory(s, pa, len);
    if (!status) {
        psp_write_mem(pa, p, len);
    }
    if (locked) {
        rmp_unlock();
    }
    return status;
}

static bool sev_es(SEVGuest *g)
{
    return g->policy & POLICY_ES;
}

/* Session keys, from the guest owner's half of a Diffie-Hellman exchange */
static PSPStatus sev_session(AMDPSPState *s, SEVGuest *g, hwaddr cert_pa,
                             hwaddr session_pa)
{
    uint8_t cert[CERT_SIZE], session[SESSION_SIZE];
    uint8_t *nonce = session, *wrap_tk = session + 0x10;
    uint8_t *wrap_iv = session + 0x30, *wrap_mac = session + 0x40;
    uint8_t *policy_mac = session + 0x60;
    uint8_t z[PSP_P384_SIZE], master[16], kek[16], kik[16], keys[32];
    uint8_t mac[PSP_SHA256_SIZE], policy[4];
    PSPBuf buf;
    uint32_t algo;
    PSPStatus status;

    status = psp_read_mem(cert_pa, cert, sizeof(cert));
    if (!status) {
        status = psp_read_mem(session_pa, session, sizeof(session));
    }
    if (status) {
        return status;
    }
    algo = ldl_le_p(cert + CERT_ALGO);
    if (ldl_le_p(cert) != 1 || ldl_le_p(cert + CERT_USAGE) != USAGE_PDH ||
        (algo != ALGO_ECDH_SHA256 && algo != ALGO_ECDH_SHA384) ||
        !psp_ecdh(s->sev.pdh.d, cert + CERT_PUBKEY, z)) {
        return PSP_INVALID_CERTIFICATE;
    }

    psp_kdf_sha256(z, sizeof(z), "sev-master-secret", nonce, 16, master);
    psp_kdf_sha256(master, sizeof(master), "sev-kek", NULL, 0, kek);
    psp_kdf_sha256(master, sizeof(master), "sev-kik", NULL, 0, kik);
    buf = (PSPBuf) { wrap_tk, 32 };
    psp_hmac_sha256(kik, sizeof(kik), &buf, 1, mac);
    if (memcmp(mac, wrap_mac, sizeof(mac))) {
        return PSP_BAD_MEASUREMENT;
    }
    psp_aes128_ctr(kek, wrap_iv, wrap_tk, keys, sizeof(keys));
    stl_le_p(policy, g->policy);
    buf = (PSPBuf) { policy, sizeof(policy) };
    psp_hmac_sha256(keys + 16, 16, &buf, 1, mac);
    if (memcmp(mac, policy_mac, sizeof(mac))) {
        return PSP_BAD_MEASUREMENT;
    }
    memcpy(g->tek, keys, 16);
    memcpy(g->tik, keys + 16, 16);
    return PSP_SUCCESS;
}

static uint32_t sev_new_handle(AMDPSPState *s)
{
    uint32_t handle = 1;

    while (sev_guest(s, handle)) {
        handle++;
    }
    return handle;
}

static PSPStatus sev_cmd_launch_start(AMDPSPState *s, uint8_t *c)
{
    uint32_t handle = ldl_le_p(c), policy = ldl_le_p(c + 4);
    uint64_t cert = ldq_le_p(c + 8), session = ldq_le_p(c + 0x18);
    g_autofree SEVGuest *g = NULL;

    if (handle) {
        SEVGuest *other = sev_guest(s, handle);

        if (!other) {
            return PSP_INVALID_GUEST;
        }
        if ((policy | other->policy) & POLICY_NOKS) {
            return PSP_POLICY_FAILURE;
        }
        /* To share the other guest's key */
        return PSP_UNSUPPORTED;
    }
    if (policy & POLICY_RESERVED) {
        return PSP_INVALID_PARAM;
    }
    if (POLICY_API_MAJOR(policy) > PSP_API_MAJOR ||
        (POLICY_API_MAJOR(policy) == PSP_API_MAJOR &&
         POLICY_API_MINOR(policy) > PSP_API_MINOR) ||
        (policy & POLICY_ES && !s->sev.es)) {
        return PSP_POLICY_FAILURE;
    }
    if (g_hash_table_size(s->sev.guests) >= PSP_MAX_GUESTS) {
        return PSP_RESOURCE_LIMIT;
    }

    g = g_new0(SEVGuest, 1);
    g->policy = policy;
    if (cert || session) {
        PSPStatus status;

        if (ldl_le_p(c + 0x10) != CERT_SIZE ||
            ldl_le_p(c + 0x20) != SESSION_SIZE) {
            return PSP_INVALID_LENGTH;
        }
        status = sev_session(s, g, psp_pa(cert), psp_pa(session));
        if (status) {
            return status;
        }
    } else {
        psp_random(g->tek, sizeof(g->tek));
        psp_random(g->tik, sizeof(g->tik));
    }
    g->handle = sev_new_handle(s);
    g->state = SEV_GSTATE_LUPDATE;
    g->hash = psp_hash_new();
    stl_le_p(c, g->handle);
    g_hash_table_insert(s->sev.guests, GUINT_TO_POINTER(g->handle), g);
    g_steal_pointer(&g);
    s->sev.state = SEV_WORKING;
    return PSP_SUCCESS;
}

static PSPStatus sev_launch_update(AMDPSPState *s, SEVGuest *g, uint8_t *c)
{
    hwaddr pa = psp_pa(ldq_le_p(c + 8));
    uint32_t len = ldl_le_p(c + 0x10), done, n;
    uint8_t page[RMP_PAGE_SIZE];
    PSPStatus status;

    if (!len || len % 16 || len > UPDATE_MAX) {
        return PSP_INVALID_LENGTH;
    }
    if (pa % 16) {
        return PSP_INVALID_ADDRESS;
    }
    status = sev_check_memory(s, pa, len);
    if (status) {
        return status;
    }
    for (done = 0; done < len && !status; done += n) {
        n = MIN(len - done, sizeof(page));
        psp_read_mem(pa + done, page, n);
        /* Encryption in place: what was measured is what stands there */
        status = sev_write(s, pa + done, page, n);
        psp_hash_add(g->hash, page, n);
    }
    return status;
}

static PSPStatus sev_cmd_launch_update_data(AMDPSPState *s, uint8_t *c)
{
    SEVGuest *g;
    PSPStatus status = sev_guest_in(s, c, SEV_GSTATE_LUPDATE, &g);

    return status ?: sev_launch_update(s, g, c);
}

static PSPStatus sev_cmd_launch_update_vmsa(AMDPSPState *s, uint8_t *c)
{
    SEVGuest *g;
    PSPStatus status = sev_guest_in(s, c, SEV_GSTATE_LUPDATE, &g);

    if (status) {
        return status;
    }
    if (!sev_es(g)) {
        return PSP_POLICY_FAILURE;
    }
    if (ldl_le_p(c + 0x10) != RMP_PAGE_SIZE) {
        return PSP_INVALID_LENGTH;
    }
    if (ldq_le_p(c + 8) % RMP_PAGE_SIZE) {
        return PSP_INVALID_ADDRESS;
    }
    return sev_launch_update(s, g, c);
}

static PSPStatus sev_cmd_launch_measure(AMDPSPState *s, uint8_t *c)
{
    uint8_t head[8] = { 0x04, PSP_API_MAJOR, PSP_API_MINOR, PSP_BUILD };
    uint8_t out[MEASURE_SIZE], *mnonce = out + PSP_SHA256_SIZE;
    SEVGuest *g;
    PSPStatus status = sev_guest_in(s, c, SEV_GSTATE_LUPDATE, &g);

    if (status) {
        return status;
    }
    status = sev_output(s, c, 0x08, 0x10, NULL, sizeof(out));
    if (status) {
        return status;
    }

    psp_hash_end(g->hash, g->ld);
    g->hash = NULL;
    psp_random(mnonce, 16);
    stl_le_p(head + 4, g->policy);
    psp_hmac_sha256(g->tik, sizeof(g->tik), (PSPBuf[]) {
        { head, sizeof(head) },
        { g->ld, sizeof(g->ld) },
        { mnonce, 16 },
    }, 3, g->measure);
    memcpy(out, g->measure, sizeof(g->measure));
    psp_write_mem(psp_pa(ldq_le_p(c + 8)), out, sizeof(out));
    g->state = SEV_GSTATE_LSECRET;
    return PSP_SUCCESS;
}

static PSPStatus sev_cmd_launch_secret(AMDPSPState *s, uint8_t *c)
{
    hwaddr guest = psp_pa(ldq_le_p(c + 0x18));
    uint32_t guest_len = ldl_le_p(c + 0x20), trans_len = ldl_le_p(c + 0x30);
    uint8_t header[SECRET_HEADER_SIZE], mac[PSP_SHA256_SIZE];
    g_autofree uint8_t *data = NULL;
    static const uint8_t first = 0x01;
    SEVGuest *g;
    PSPStatus status = sev_guest_in(s, c, SEV_GSTATE_LSECRET, &g);

    if (status) {
        return status;
    }
    if (ldl_le_p(c + 0x10) != sizeof(header) || !guest_len ||
        guest_len % 16 || guest_len > SECRET_MAX || trans_len < guest_len ||
        trans_len > SECRET_MAX) {
        return PSP_INVALID_LENGTH;
    }
    if (guest % 16) {
        return PSP_INVALID_ADDRESS;
    }
    status = sev_check_memory(s, guest, guest_len);
    if (!status) {
        status = psp_read_mem(psp_pa(ldq_le_p(c + 8)), header, sizeof(header));
    }
    if (!status) {
        data = g_malloc(trans_len);
        status = psp_read_mem(psp_pa(ldq_le_p(c + 0x28)), data, trans_len);
    }
    if (status) {
        return status;
    }
    /* FLAGS: bit 0 is COMPRESSED */
    if (ldl_le_p(header)) {
        return PSP_UNSUPPORTED;
    }
    psp_hmac_sha256(g->tik, sizeof(g->tik), (PSPBuf[]) {
        { &first, 1 },
        { header, 0x14 },           /* FLAGS, IV */
        { c + 0x20, 4 },
        { c + 0x30, 4 },
        { data, trans_len },
        { g->measure, sizeof(g->measure) },
    }, 6, mac);
    if (memcmp(mac, header + 0x14, sizeof(mac))) {
        return PSP_BAD_MEASUREMENT;
    }
    psp_aes128_ctr(g->tek, header + 4, data, data, guest_len);
    return sev_write(s, guest, data, guest_len);
}

static PSPStatus sev_cmd_launch_finish(AMDPSPState *s, uint8_t *c)
{
    SEVGuest *g;
    PSPStatus status = sev_guest_in(s, c, SEV_GSTATE_LSECRET, &g);

    if (!status) {
        g->state = SEV_GSTATE_RUNNING;
    }
    return status;
}

static PSPStatus sev_cmd_attestation_report(AMDPSPState *s, uint8_t *c)
{
    uint8_t r[ATTESTATION_SIZE] = { 0 }, digest[PSP_SHA256_SIZE];
    SEVGuest *g = sev_guest(s, ldl_le_p(c));

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    if (g->state != SEV_GSTATE_LSECRET && g->state != SEV_GSTATE_RUNNING) {
        return PSP_INVALID_GUEST_STATE;
    }
    memcpy(r, c + 0x10, 16);            /* MNONCE */
    memcpy(r + 0x10, g->ld, sizeof(g->ld));
    stl_le_p(r + 0x30, g->policy);
    psp_sha256(r, 0x34, digest);
    stl_le_p(r + 0x34, USAGE_PEK);
    stl_le_p(r + 0x38, ALGO_ECDSA_SHA256);
    psp_ecdsa_sign(s->sev.pek.d, digest, sizeof(digest), r + 0x40);
    return sev_output(s, c, 0x08, 0x20, r, sizeof(r));
}

static PSPStatus sev_cmd_activate(AMDPSPState *s, uint8_t *c)
{
    SEVGuest *g = sev_guest(s, ldl_le_p(c));
    uint32_t asid = ldl_le_p(c + 4), first_sev = psp_min_sev_asid();

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    if (g->asid) {
        return PSP_ACTIVE;
    }
    /* Guests with encrypted state have the low ASIDs */
    if (!asid || asid > psp_max_asid() || (asid < first_sev) != sev_es(g)) {
        return PSP_INVALID_ASID;
    }
    if (s->asid_state[asid] != PSP_ASID_FREE) {
        return PSP_ASID_OWNED;
    }
    if (test_bit(asid, s->asid_dirty)) {
        return PSP_DFFLUSH_REQUIRED;
    }
    if (s->snp.init && rmp_asid_pages(asid)) {
        return PSP_INVALID_CONFIG;
    }
    s->asid_state[asid] = PSP_ASID_SEV;
    g->asid = asid;
    return PSP_SUCCESS;
}

static PSPStatus sev_cmd_deactivate(AMDPSPState *s, uint8_t *c)
{
    SEVGuest *g = sev_guest(s, ldl_le_p(c));

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    if (!g->asid) {
        return PSP_INACTIVE;
    }
    sev_free_asid(s, g);
    return PSP_SUCCESS;
}

static PSPStatus sev_cmd_decommission(AMDPSPState *s, uint8_t *c)
{
    SEVGuest *g = sev_guest(s, ldl_le_p(c));

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    if (g->asid) {
        return PSP_ACTIVE;
    }
    g_hash_table_remove(s->sev.guests, GUINT_TO_POINTER(g->handle));
    if (!g_hash_table_size(s->sev.guests)) {
        s->sev.state = SEV_INIT;
    }
    return PSP_SUCCESS;
}

static PSPStatus sev_cmd_guest_status(AMDPSPState *s, uint8_t *c)
{
    SEVGuest *g = sev_guest(s, ldl_le_p(c));

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    stl_le_p(c + 0x4, g->policy);
    stl_le_p(c + 0x8, g->asid);
    c[0xc] = g->state;
    return PSP_SUCCESS;
}

/*
 * Memory holds plaintext: what remains of the commands is their checks.
 * Decryption answers into a buffer like any other; encryption writes to the
 * guest's memory.
 */
static PSPStatus sev_debug(AMDPSPState *s, uint8_t *c, bool decrypt)
{
    hwaddr src = psp_pa(ldq_le_p(c + 8)), dst = psp_pa(ldq_le_p(c + 0x10));
    uint32_t len = ldl_le_p(c + 0x18), done, n;
    SEVGuest *g = sev_guest(s, ldl_le_p(c));
    uint8_t page[RMP_PAGE_SIZE];
    PSPStatus status;

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    if (g->policy & POLICY_NODBG) {
        return PSP_POLICY_FAILURE;
    }
    if (!g->asid) {
        return PSP_INACTIVE;
    }
    if (!len || len % 16 || len > UPDATE_MAX) {
        return PSP_INVALID_LENGTH;
    }
    if (src % 16 || dst % 16 || !psp_is_ram(src, len)) {
        return PSP_INVALID_ADDRESS;
    }
    status = decrypt ? psp_check_output(s, dst, len) :
                       sev_check_memory(s, dst, len);
    if (status) {
        return status;
    }
    for (done = 0; done < len && !status; done += n) {
        n = MIN(len - done, sizeof(page));
        psp_read_mem(src + done, page, n);
        if (decrypt) {
            psp_write_mem(dst + done, page, n);
        } else {
            status = sev_write(s, dst + done, page, n);
        }
    }
    return status;
}

static PSPStatus sev_cmd_dbg_decrypt(AMDPSPState *s, uint8_t *c)
{
    return sev_debug(s, c, true);
}

static PSPStatus sev_cmd_dbg_encrypt(AMDPSPState *s, uint8_t *c)
{
    return sev_debug(s, c, false);
}

/* -- migration: states only ------------------------------------------------ */

static PSPStatus sev_cmd_send_start(AMDPSPState *s, uint8_t *c)
{
    SEVGuest *g = sev_guest(s, ldl_le_p(c));

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    if (g->state != SEV_GSTATE_RUNNING) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (g->policy & POLICY_NOSEND) {
        return PSP_POLICY_FAILURE;
    }
    return PSP_UNSUPPORTED;
}

/* No guest gets into the state that these want */
static PSPStatus sev_cmd_migrate(AMDPSPState *s, uint8_t *c)
{
    return sev_guest(s, ldl_le_p(c)) ? PSP_INVALID_GUEST_STATE :
                                       PSP_INVALID_GUEST;
}

static PSPStatus sev_cmd_receive_start(AMDPSPState *s, uint8_t *c)
{
    if (ldl_le_p(c) && !sev_guest(s, ldl_le_p(c))) {
        return PSP_INVALID_GUEST;
    }
    return PSP_UNSUPPORTED;
}

#define OUT PSP_CMD_OUT
#define INIT PSP_CMD_SEV_INIT
#define WORK PSP_CMD_SEV_WORKING

const PSPCommand sev_commands[] = {
    { 0x001, 0x14, 0, "INIT", sev_cmd_init },
    { 0x002, 0x00, 0, "SHUTDOWN", sev_cmd_shutdown },
    { 0x003, 0x00, 0, "PLATFORM_RESET", sev_cmd_factory_reset },
    { 0x004, 0x0c, OUT, "PLATFORM_STATUS", sev_cmd_platform_status },
    { 0x005, 0x00, INIT, "PEK_GEN", sev_cmd_pek_gen },
    { 0x006, 0x0c, INIT | OUT, "PEK_CSR", sev_cmd_pek_csr },
    { 0x007, 0x1c, INIT, "PEK_CERT_IMPORT", sev_cmd_pek_cert_import },
    { 0x008, 0x1c, INIT | OUT, "PDH_CERT_EXPORT", sev_cmd_pdh_cert_export },
    { 0x009, 0x00, INIT, "PDH_GEN", sev_cmd_pdh_gen },
    { 0x00a, 0x00, INIT, "DF_FLUSH", sev_cmd_df_flush },
    { 0x00b, 0x0c, 0, "DOWNLOAD_FIRMWARE", sev_cmd_download_firmware },
    { 0x00c, 0x0c, OUT, "GET_ID", sev_cmd_get_id },
    { 0x00d, 0x24, 0, "INIT_EX", sev_cmd_init_ex },
    { 0x00e, 0x00, 0, "NOP", sev_cmd_nop },
    { 0x020, 0x04, WORK, "DECOMMISSION", sev_cmd_decommission },
    { 0x021, 0x08, WORK, "ACTIVATE", sev_cmd_activate },
    { 0x022, 0x04, WORK, "DEACTIVATE", sev_cmd_deactivate },
    { 0x023, 0x0d, WORK | OUT, "GUEST_STATUS", sev_cmd_guest_status },
    { 0x030, 0x24, INIT | OUT, "LAUNCH_START", sev_cmd_launch_start },
    { 0x031, 0x14, WORK, "LAUNCH_UPDATE_DATA", sev_cmd_launch_update_data },
    { 0x032, 0x14, WORK, "LAUNCH_UPDATE_VMSA", sev_cmd_launch_update_vmsa },
    { 0x033, 0x14, WORK | OUT, "LAUNCH_MEASURE", sev_cmd_launch_measure },
    { 0x034, 0x34, WORK, "LAUNCH_SECRET", sev_cmd_launch_secret },
    { 0x035, 0x04, WORK, "LAUNCH_FINISH", sev_cmd_launch_finish },
    { 0x036, 0x24, WORK | OUT, "ATTESTATION", sev_cmd_attestation_report },
    { 0x040, 0x04, WORK, "SEND_START", sev_cmd_send_start },
    { 0x041, 0x04, WORK, "SEND_UPDATE_DATA", sev_cmd_migrate },
    { 0x042, 0x04, WORK, "SEND_UPDATE_VMSA", sev_cmd_migrate },
    { 0x043, 0x04, WORK, "SEND_FINISH", sev_cmd_migrate },
    { 0x044, 0x04, WORK, "SEND_CANCEL", sev_cmd_migrate },
    { 0x050, 0x04, INIT, "RECEIVE_START", sev_cmd_receive_start },
    { 0x051, 0x04, WORK, "RECEIVE_UPDATE_DATA", sev_cmd_migrate },
    { 0x052, 0x04, WORK, "RECEIVE_UPDATE_VMSA", sev_cmd_migrate },
    { 0x053, 0x04, WORK, "RECEIVE_FINISH", sev_cmd_migrate },
    { 0x060, 0x1c, WORK, "DBG_DECRYPT", sev_cmd_dbg_decrypt },
    { 0x061, 0x1c, WORK, "DBG_ENCRYPT", sev_cmd_dbg_encrypt },
};
const unsigned sev_num_commands = ARRAY_SIZE(sev_commands);

void sev_finalize(AMDPSPState *s)
{
    g_clear_pointer(&s->sev.guests, g_hash_table_destroy);
}

/* The keys survive: the chip and its storage are the same */
void sev_reset(AMDPSPState *s)
{
    sev_finalize(s);
    s->sev.state = SEV_UNINIT;
    s->sev.es = false;
    s->sev.guests = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL,
                                          sev_guest_free);
}
