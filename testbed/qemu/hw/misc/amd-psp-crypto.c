/*
 * AMD platform security processor (PSP): crypto
 *
 * A thin layer over nettle and hogweed that speaks AMD's formats. All
 * randomness, the nonces of signatures too, comes from QEMU's generator for
 * guests, so that a run with -seed repeats.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/guest-random.h"
#include "amd-psp.h"

#include <nettle/aes.h>
#include <nettle/bignum.h>
#include <nettle/ctr.h>
#include <nettle/dsa.h>
#include <nettle/ecc.h>
#include <nettle/ecc-curve.h>
#include <nettle/ecdsa.h>
#include <nettle/gcm.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>

void psp_random(void *p, size_t len)
{
    qemu_guest_getrandom_nofail(p, len);
}

static void psp_random_func(void *opaque, size_t len, uint8_t *p)
{
    psp_random(p, len);
}

void psp_sha384(const void *p, size_t len, uint8_t out[PSP_SHA384_SIZE])
{
    struct sha384_ctx ctx;

    sha384_init(&ctx);
    sha384_update(&ctx, len, p);
    sha384_digest(&ctx, PSP_SHA384_SIZE, out);
}

void psp_sha256(const void *p, size_t len, uint8_t out[PSP_SHA256_SIZE])
{
    struct sha256_ctx ctx;

    sha256_init(&ctx);
    sha256_update(&ctx, len, p);
    sha256_digest(&ctx, PSP_SHA256_SIZE, out);
}

struct PSPHash {
    struct sha256_ctx ctx;
};

PSPHash *psp_hash_new(void)
{
    PSPHash *h = g_new(PSPHash, 1);

    sha256_init(&h->ctx);
    return h;
}

void psp_hash_add(PSPHash *h, const void *p, size_t len)
{
    sha256_update(&h->ctx, len, p);
}

void psp_hash_end(PSPHash *h, uint8_t out[PSP_SHA256_SIZE])
{
    sha256_digest(&h->ctx, PSP_SHA256_SIZE, out);
    psp_hash_free(h);
}

void psp_hash_free(PSPHash *h)
{
    g_free(h);
}

void psp_kdf_sha256(const uint8_t *key, size_t key_len, const char *label,
                    const uint8_t *context, size_t context_len,
                    uint8_t out[16])
{
    uint8_t mac[PSP_SHA256_SIZE], counter[4], bits[4];

    stl_le_p(counter, 1);
    stl_le_p(bits, 128);
    psp_hmac_sha256(key, key_len, (PSPBuf[]) {
        { counter, sizeof(counter) },
        { label, strlen(label) + 1 },
        { context, context_len },
        { bits, sizeof(bits) },
    }, 4, mac);
    memcpy(out, mac, 16);
}

void psp_hmac_sha256(const uint8_t *key, size_t key_len, const PSPBuf *buf,
                     unsigned nbuf, uint8_t out[PSP_SHA256_SIZE])
{
    struct hmac_sha256_ctx ctx;
    unsigned i;

    hmac_sha256_set_key(&ctx, key_len, key);
    for (i = 0; i < nbuf; i++) {
        hmac_sha256_update(&ctx, buf[i].len, buf[i].p);
    }
    hmac_sha256_digest(&ctx, PSP_SHA256_SIZE, out);
}

void psp_hmac_sha384(const uint8_t *key, size_t key_len, const void *p,
                     size_t len, uint8_t out[PSP_SHA384_SIZE])
{
    struct hmac_sha384_ctx ctx;

    hmac_sha384_set_key(&ctx, key_len, key);
    hmac_sha384_update(&ctx, len, p);
    hmac_sha384_digest(&ctx, PSP_SHA384_SIZE, out);
}

void psp_aes128_ctr(const uint8_t key[16], const uint8_t iv[16],
                    const uint8_t *in, uint8_t *out, size_t len)
{
    struct aes128_ctx ctx;
    uint8_t ctr[16];

    memcpy(ctr, iv, sizeof(ctr));
    aes128_set_encrypt_key(&ctx, key);
    ctr_crypt(&ctx, (nettle_cipher_func *)aes128_encrypt, sizeof(ctr), ctr,
              len, out, in);
}

void psp_gcm_encrypt(const uint8_t key[32], const uint8_t iv[12],
                     const void *aad, size_t aad_len, const uint8_t *in,
                     uint8_t *out, size_t len, uint8_t tag[16])
{
    struct gcm_aes256_ctx ctx;

    gcm_aes256_set_key(&ctx, key);
    gcm_aes256_set_iv(&ctx, 12, iv);
    gcm_aes256_update(&ctx, aad_len, aad);
    gcm_aes256_encrypt(&ctx, len, out, in);
    gcm_aes256_digest(&ctx, 16, tag);
}

bool psp_gcm_decrypt(const uint8_t key[32], const uint8_t iv[12],
                     const void *aad, size_t aad_len, const uint8_t *in,
                     uint8_t *out, size_t len, const uint8_t tag[16])
{
    struct gcm_aes256_ctx ctx;
    uint8_t real[16];

    gcm_aes256_set_key(&ctx, key);
    gcm_aes256_set_iv(&ctx, 12, iv);
    gcm_aes256_update(&ctx, aad_len, aad);
    gcm_aes256_decrypt(&ctx, len, out, in);
    gcm_aes256_digest(&ctx, 16, real);
    return memeql_sec(real, tag, sizeof(real));
}

static void psp_put_le(const mpz_t n, uint8_t *p, size_t len)
{
    size_t i;

    nettle_mpz_get_str_256(len, p, n);
    for (i = 0; i < len / 2; i++) {
        uint8_t t = p[i];

        p[i] = p[len - 1 - i];
        p[len - 1 - i] = t;
    }
}

static void psp_get_le(mpz_t n, const uint8_t *p, size_t len)
{
    mpz_import(n, len, -1, 1, 0, 0, p);
}

void psp_key_generate(PSPKey *key)
{
    struct ecc_point pub;
    struct ecc_scalar d;
    mpz_t x, y;

    ecc_point_init(&pub, nettle_get_secp_384r1());
    ecc_scalar_init(&d, nettle_get_secp_384r1());
    mpz_inits(x, y, NULL);

    ecdsa_generate_keypair(&pub, &d, NULL, psp_random_func);
    ecc_point_get(&pub, x, y);
    nettle_mpz_get_str_256(PSP_P384_SIZE, key->x, x);
    nettle_mpz_get_str_256(PSP_P384_SIZE, key->y, y);
    ecc_scalar_get(&d, x);
    nettle_mpz_get_str_256(PSP_P384_SIZE, key->d, x);

    mpz_clears(x, y, NULL);
    ecc_scalar_clear(&d);
    ecc_point_clear(&pub);
}

void psp_ecdsa_sign(const uint8_t key[PSP_P384_SIZE], const uint8_t *digest,
                    size_t digest_len, uint8_t sig[2 * PSP_ECC_FIELD])
{
    struct dsa_signature rs;
    struct ecc_scalar d;
    mpz_t n;

    ecc_scalar_init(&d, nettle_get_secp_384r1());
    nettle_mpz_init_set_str_256_u(n, PSP_P384_SIZE, key);
    if (!ecc_scalar_set(&d, n)) {
        g_assert_not_reached();     /* ours, never the guest's */
    }
    dsa_signature_init(&rs);
    ecdsa_sign(&d, NULL, psp_random_func, digest_len, digest, &rs);
    psp_put_le(rs.r, sig, PSP_ECC_FIELD);
    psp_put_le(rs.s, sig + PSP_ECC_FIELD, PSP_ECC_FIELD);
    dsa_signature_clear(&rs);
    mpz_clear(n);
    ecc_scalar_clear(&d);
}

/* The library takes coordinates below the prime for granted */
static bool psp_point_set(struct ecc_point *q,
                          const uint8_t pub[PSP_ECC_KEY_SIZE])
{
    mpz_t x, y;
    bool ok;

    if (ldl_le_p(pub) != PSP_CURVE_P384) {
        return false;
    }
    mpz_inits(x, y, NULL);
    psp_get_le(x, pub + 4, PSP_ECC_FIELD);
    psp_get_le(y, pub + 4 + PSP_ECC_FIELD, PSP_ECC_FIELD);
    ok = mpz_sizeinbase(x, 2) <= 384 && mpz_sizeinbase(y, 2) <= 384 &&
         ecc_point_set(q, x, y);
    mpz_clears(x, y, NULL);
    return ok;
}

bool psp_ecdh(const uint8_t key[PSP_P384_SIZE],
              const uint8_t pub[PSP_ECC_KEY_SIZE], uint8_t z[PSP_P384_SIZE])
{
    struct ecc_point q;
    struct ecc_scalar d;
    mpz_t n, y;
    bool ok;

    ecc_point_init(&q, nettle_get_secp_384r1());
    ecc_scalar_init(&d, nettle_get_secp_384r1());
    mpz_init(y);
    nettle_mpz_init_set_str_256_u(n, PSP_P384_SIZE, key);
    ok = psp_point_set(&q, pub) && ecc_scalar_set(&d, n);
    if (ok) {
        ecc_point_mul(&q, &d, &q);
        ecc_point_get(&q, n, y);
        nettle_mpz_get_str_256(PSP_P384_SIZE, z, n);
    }
    mpz_clears(n, y, NULL);
    ecc_scalar_clear(&d);
    ecc_point_clear(&q);
    return ok;
}

bool psp_ecdsa_verify(const uint8_t pub[PSP_ECC_KEY_SIZE],
                      const uint8_t *digest, size_t digest_len,
                      const uint8_t sig[2 * PSP_ECC_FIELD])
{
    struct dsa_signature rs;
    struct ecc_point q;
    bool ok;

    ecc_point_init(&q, nettle_get_secp_384r1());
    dsa_signature_init(&rs);
    psp_get_le(rs.r, sig, PSP_ECC_FIELD);
    psp_get_le(rs.s, sig + PSP_ECC_FIELD, PSP_ECC_FIELD);
    ok = psp_point_set(&q, pub) &&
         mpz_sizeinbase(rs.r, 2) <= 384 && mpz_sizeinbase(rs.s, 2) <= 384 &&
         ecdsa_verify(&q, digest_len, digest, &rs);
    dsa_signature_clear(&rs);
    ecc_point_clear(&q);
    return ok;
}

void psp_key_public(const PSPKey *key, uint8_t pub[PSP_ECC_KEY_SIZE])
{
    int i;

    memset(pub, 0, PSP_ECC_KEY_SIZE);
    stl_le_p(pub, PSP_CURVE_P384);
    for (i = 0; i < PSP_P384_SIZE; i++) {
        pub[4 + i] = key->x[PSP_P384_SIZE - 1 - i];
        pub[4 + PSP_ECC_FIELD + i] = key->y[PSP_P384_SIZE - 1 - i];
    }
}
