/*
 * AMD platform security processor (PSP): messages of SNP guests
 *
 * SNP_GUEST_REQUEST carries a message from a guest to the firmware and the
 * answer back, both protected with AES-256-GCM under a key that the guest has
 * found in its secrets page; SEV-SNP Firmware ABI, chapter 7.
 *
 * What is wrong with the envelope fails the command; what is wrong with the
 * contents of an authentic message is told to the guest, in the answer.
 *
 * Messages of migration agents (EXPORT, IMPORT, ABSORB, VMRK) and TSC_INFO
 * are not there.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "amd-psp.h"
#include "trace.h"

/* Header */
#define MSG_TAG             0x00
#define MSG_SEQNO           0x20
#define MSG_RESERVED1       0x28
#define MSG_AAD             0x30
#define MSG_ALGO            0x30
#define MSG_HDR_VERSION     0x31
#define MSG_HDR_SIZE        0x32
#define MSG_TYPE            0x34
#define MSG_VERSION         0x35
#define MSG_SIZE            0x36
#define MSG_RESERVED2       0x38
#define MSG_VMPCK           0x3c
#define MSG_RESERVED3       0x3d
#define MSG_PAYLOAD         0x60
#define MSG_MAX_PAYLOAD     (RMP_PAGE_SIZE - MSG_PAYLOAD)

#define MSG_ALGO_AES_256_GCM 1

enum {
    MSG_CPUID_REQ = 1,
    MSG_KEY_REQ = 3,
    MSG_REPORT_REQ = 5,
};

/* Attestation report, version 2 */
#define REPORT_SIZE         0x4a0
#define REPORT_SIGNED       0x2a0

enum {
    KEY_SEL_DEFAULT = 0,        /* VLEK if there is one, else VCEK */
    KEY_SEL_VCEK = 1,
    KEY_SEL_VLEK = 2,
};

enum {
    SIGNING_KEY_VCEK = 0,
    SIGNING_KEY_NONE = 7,
};

/* The chip has a VCEK, but no VLEK */
static bool guest_key_valid(SNPGuest *g, unsigned sel)
{
    return sel != KEY_SEL_VLEK && !g->vcek_disabled;
}

static void guest_report(AMDPSPState *s, SNPGuest *g, const uint8_t *in,
                         uint8_t *r)
{
    static const uint8_t version[] = {
        PSP_BUILD, PSP_API_MINOR, PSP_API_MAJOR
    };
    uint8_t digest[PSP_SHA384_SIZE];
    bool sign = !s->snp.mask_chip_key;

    stl_le_p(r, 2);
    stl_le_p(r + 0x04, g->guest_svn);
    stq_le_p(r + 0x08, g->policy);
    memcpy(r + 0x10, g->family_id, 16);
    memcpy(r + 0x20, g->image_id, 16);
    memcpy(r + 0x30, in + 0x40, 4);             /* VMPL */
    stl_le_p(r + 0x34, 1);                      /* ECDSA P-384, SHA-384 */
    stq_le_p(r + 0x38, s->snp.current_tcb);
    stq_le_p(r + 0x40, psp_smt_enabled() | s->snp.rapl_dis << 3);
    stl_le_p(r + 0x48, g->author_key_en | s->snp.mask_chip_key << 1 |
             (sign ? SIGNING_KEY_VCEK : SIGNING_KEY_NONE) << 2);
    memcpy(r + 0x50, in, 64);                   /* REPORT_DATA */
    memcpy(r + 0x90, g->ld, PSP_SHA384_SIZE);
    memcpy(r + 0xc0, g->host_data, 32);
    memcpy(r + 0xe0, g->id_key_digest, PSP_SHA384_SIZE);
    memcpy(r + 0x110, g->author_key_digest, PSP_SHA384_SIZE);
    memcpy(r + 0x140, g->report_id, 32);
    memset(r + 0x160, 0xff, 32);                /* no migration agent */
    stq_le_p(r + 0x180, s->snp.reported_tcb);
    if (!s->snp.mask_chip_id) {
        memcpy(r + 0x1a0, psp_chip_id, PSP_CHIP_ID_SIZE);
    }
    stq_le_p(r + 0x1e0, s->snp.committed_tcb);
    memcpy(r + 0x1e8, version, sizeof(version)); /* current */
    memcpy(r + 0x1ec, version, sizeof(version)); /* committed */
    stq_le_p(r + 0x1f0, g->launch_tcb);

    if (sign) {
        psp_sha384(r, REPORT_SIGNED, digest);
        psp_ecdsa_sign(psp_vcek_private, digest, sizeof(digest),
                       r + REPORT_SIGNED);
    }
}

static uint32_t guest_report_req(AMDPSPState *s, SNPGuest *g, unsigned vmpl,
                                 const uint8_t *in, unsigned in_len,
                                 uint8_t *out, unsigned *out_len)
{
    uint32_t sel = ldl_le_p(in + 0x44), for_vmpl = ldl_le_p(in + 0x40);

    *out_len = 0x20;
    if (for_vmpl < vmpl || for_vmpl >= RMP_VMPLS ||
        sel > KEY_SEL_VLEK || !buffer_is_zero(in + 0x48, 0x18)) {
        return PSP_INVALID_PARAM;
    }
    if (!guest_key_valid(g, sel)) {
        return PSP_INVALID_KEY;
    }
    stl_le_p(out + 4, REPORT_SIZE);
    guest_report(s, g, in, out + 0x20);
    *out_len = 0x20 + REPORT_SIZE;
    return PSP_SUCCESS;
}

/*
 * The ABI does not say how keys are derived. Ours: HMAC-SHA384 with the root
 * key, of all that the guest may mix in.
 */
static uint32_t guest_key_req(AMDPSPState *s, SNPGuest *g, unsigned vmpl,
                              const uint8_t *in, unsigned in_len,
                              uint8_t *out, unsigned *out_len)
{
    uint32_t root = ldl_le_p(in);
    uint64_t select = ldq_le_p(in + 0x08);
    uint32_t svn = ldl_le_p(in + 0x14), for_vmpl = ldl_le_p(in + 0x10);
    uint64_t tcb = ldq_le_p(in + 0x18);
    uint8_t mix[0x140] = "SNP derived key";
    uint8_t key[PSP_SHA384_SIZE];
    bool vmrk = root & 1;
    unsigned i;

    *out_len = 0x40;
    /* ROOT_KEY_SELECT, KEY_SEL; GUEST_FIELD_SELECT */
    if (root & ~7u || extract32(root, 1, 2) > KEY_SEL_VLEK ||
        ldl_le_p(in + 4) || select & ~0x3full ||
        for_vmpl < vmpl || for_vmpl >= RMP_VMPLS ||
        svn > g->guest_svn) {
        return PSP_INVALID_PARAM;
    }
    for (i = 0; i < 64; i += 8) {
        if (extract64(tcb, i, 8) > extract64(s->snp.committed_tcb, i, 8)) {
            return PSP_INVALID_PARAM;
        }
    }
    if (!vmrk && !guest_key_valid(g, extract32(root, 1, 2))) {
        return PSP_INVALID_KEY;
    }

    stq_le_p(mix + 0x10, select);
    memcpy(mix + 0x18, in + 0x10, 4);           /* VMPL */
    mix[0x1c] = vmrk;
    mix[0x1d] = g->author_key_en;
    memcpy(mix + 0x20, g->host_data, 32);
    memcpy(mix + 0x40, g->id_key_digest, PSP_SHA384_SIZE);
    memcpy(mix + 0x70, g->author_key_digest, PSP_SHA384_SIZE);
    if (select & BIT(0)) {
        stq_le_p(mix + 0xa0, g->policy);
    }
    if (select & BIT(1)) {
        memcpy(mix + 0xa8, g->image_id, 16);
    }
    if (select & BIT(2)) {
        memcpy(mix + 0xb8, g->family_id, 16);
    }
    if (select & BIT(3)) {
        memcpy(mix + 0xc8, g->ld, PSP_SHA384_SIZE);
    }
    if (select & BIT(4)) {
        stl_le_p(mix + 0xf8, svn);
    }
    if (select & BIT(5)) {
        stq_le_p(mix + 0x100, tcb);
    }
    if (vmrk) {
        psp_hmac_sha384(g->vmrk, sizeof(g->vmrk), mix, sizeof(mix), key);
    } else {
        psp_hmac_sha384(psp_vcek_private, PSP_P384_SIZE, mix, sizeof(mix),
                        key);
    }
    memcpy(out + 0x20, key, 32);
    return PSP_SUCCESS;
}

static uint32_t guest_cpuid_req(AMDPSPState *s, SNPGuest *g, unsigned vmpl,
                                const uint8_t *in, unsigned in_len,
                                uint8_t *out, unsigned *out_len)
{
    uint32_t count = ldl_le_p(in);

    *out_len = 0x10;
    if (count > SNP_CPUID_COUNT_MAX ||
        in_len != 0x10 + count * SNP_CPUID_ENTRY_SIZE) {
        return PSP_INVALID_PARAM;
    }
    *out_len = in_len;
    stl_le_p(out + 4, count);
    memcpy(out + 0x10, in + 0x10, count * SNP_CPUID_ENTRY_SIZE);
    return snp_cpuid_check(out + 0x10, count) ? PSP_SUCCESS :
                                                PSP_INVALID_PARAM;
}

/*
 * The answer starts with the status in each of them. @min and @max bound the
 * size of the request, and nothing is read beyond @min that was not counted.
 */
static const struct {
    uint8_t type;
    uint16_t min, max;
    uint32_t (*run)(AMDPSPState *s, SNPGuest *g, unsigned vmpl,
                    const uint8_t *in, unsigned in_len,
                    uint8_t *out, unsigned *out_len);
} guest_messages[] = {
    { MSG_CPUID_REQ, 0x10, MSG_MAX_PAYLOAD, guest_cpuid_req },
    { MSG_KEY_REQ, 0x20, 0x20, guest_key_req },
    { MSG_REPORT_REQ, 0x60, 0x60, guest_report_req },
};

static void guest_iv(uint64_t seqno, uint8_t iv[12])
{
    stq_le_p(iv, seqno);
    stl_le_p(iv + 8, 0);
}

PSPStatus snp_guest_request(AMDPSPState *s, SNPGuest *g, hwaddr req,
                            hwaddr resp)
{
    uint8_t m[RMP_PAGE_SIZE], answer[RMP_PAGE_SIZE] = { 0 };
    uint8_t in[MSG_MAX_PAYLOAD] = { 0 }, out[MSG_MAX_PAYLOAD] = { 0 };
    unsigned type, vmpl, in_len, out_len, i;
    uint32_t msg_status;
    uint8_t iv[12];
    uint64_t seqno;
    PSPStatus status;

    status = psp_read_mem(req, m, sizeof(m));
    if (status) {
        return status;
    }

    seqno = ldq_le_p(m + MSG_SEQNO);
    type = m[MSG_TYPE];
    vmpl = m[MSG_VMPCK];
    in_len = lduw_le_p(m + MSG_SIZE);
    trace_amd_psp_guest_request(g->gctx, vmpl, type, seqno);
    if (m[MSG_ALGO] != MSG_ALGO_AES_256_GCM || m[MSG_HDR_VERSION] != 1 ||
        lduw_le_p(m + MSG_HDR_SIZE) != MSG_PAYLOAD || vmpl >= RMP_VMPLS ||
        in_len > MSG_MAX_PAYLOAD || ldq_le_p(m + MSG_RESERVED1) ||
        ldl_le_p(m + MSG_RESERVED2) ||
        !buffer_is_zero(m + MSG_RESERVED3, MSG_PAYLOAD - MSG_RESERVED3)) {
        return PSP_INVALID_PARAM;
    }
    for (i = 0; i < ARRAY_SIZE(guest_messages); i++) {
        if (guest_messages[i].type == type) {
            break;
        }
    }
    if (i == ARRAY_SIZE(guest_messages) || m[MSG_VERSION] != 1 ||
        in_len < guest_messages[i].min || in_len > guest_messages[i].max) {
        return PSP_INVALID_PARAM;
    }

    /* A number is an IV: each is used once, for a request and its answer */
    if (g->msg_count[vmpl] > UINT64_MAX - 2) {
        return PSP_AEAD_OFLOW;
    }
    if (seqno != g->msg_count[vmpl] + 1) {
        return PSP_INVALID_PARAM;
    }
    guest_iv(seqno, iv);
    if (!psp_gcm_decrypt(g->vmpck[vmpl], iv, m + MSG_AAD,
                         MSG_PAYLOAD - MSG_AAD, m + MSG_PAYLOAD, in, in_len,
                         m + MSG_TAG)) {
        return PSP_BAD_MEASUREMENT;
    }

    msg_status = guest_messages[i].run(s, g, vmpl, in, in_len, out, &out_len);
    assert(out_len <= sizeof(out));
    stl_le_p(out, msg_status);
    trace_amd_psp_guest_status(type, msg_status);

    seqno++;
    stq_le_p(answer + MSG_SEQNO, seqno);
    answer[MSG_ALGO] = MSG_ALGO_AES_256_GCM;
    answer[MSG_HDR_VERSION] = 1;
    stw_le_p(answer + MSG_HDR_SIZE, MSG_PAYLOAD);
    answer[MSG_TYPE] = type + 1;
    answer[MSG_VERSION] = 1;
    stw_le_p(answer + MSG_SIZE, out_len);
    answer[MSG_VMPCK] = vmpl;
    guest_iv(seqno, iv);
    psp_gcm_encrypt(g->vmpck[vmpl], iv, answer + MSG_AAD,
                    MSG_PAYLOAD - MSG_AAD, out, answer + MSG_PAYLOAD, out_len,
                    answer + MSG_TAG);
    g->msg_count[vmpl] = seqno;
    psp_write_mem(resp, answer, sizeof(answer));
    return PSP_SUCCESS;
}
