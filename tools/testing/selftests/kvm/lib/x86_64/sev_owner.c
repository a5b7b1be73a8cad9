// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the owner of a SEV or SEV-ES guest computes.  Small, and in no hurry; none
 * of it is careful with secrets.
 */
#include <string.h>
#include <sys/uio.h>
#include <linux/kernel.h>

#include "sev_owner.h"

/* --- SHA-256 (FIPS 180-4), HMAC (FIPS 198-1) --------------------------------- */

static uint32_t ror32(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static const uint32_t sha256_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
	0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
	0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
	0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
	0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
	0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static void sha256_block(uint32_t h[8], const uint8_t *p)
{
	uint32_t w[64], v[8], t1, t2;
	int i;

	for (i = 0; i < 16; i++)
		w[i] = (uint32_t)p[i * 4] << 24 | p[i * 4 + 1] << 16 |
		       p[i * 4 + 2] << 8 | p[i * 4 + 3];
	for (; i < 64; i++) {
		uint32_t a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + w[i - 7] +
		       (ror32(a, 7) ^ ror32(a, 18) ^ a >> 3) +
		       (ror32(b, 17) ^ ror32(b, 19) ^ b >> 10);
	}

	memcpy(v, h, sizeof(v));
	for (i = 0; i < 64; i++) {
		t1 = v[7] + (ror32(v[4], 6) ^ ror32(v[4], 11) ^ ror32(v[4], 25)) +
		     ((v[4] & v[5]) ^ (~v[4] & v[6])) + sha256_k[i] + w[i];
		t2 = (ror32(v[0], 2) ^ ror32(v[0], 13) ^ ror32(v[0], 22)) +
		     ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof(v[0]));
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (i = 0; i < 8; i++)
		h[i] += v[i];
}

void sha256_init(struct sha256 *sha)
{
	static const uint32_t h[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	};

	memcpy(sha->h, h, sizeof(h));
	sha->size = 0;
}

void sha256_add(struct sha256 *sha, const void *data, size_t size)
{
	const uint8_t *p = data;

	for (; size; size--) {
		sha->block[sha->size++ % 64] = *p++;
		if (sha->size % 64 == 0)
			sha256_block(sha->h, sha->block);
	}
}

void sha256_end(struct sha256 *sha, uint8_t digest[SHA256_SIZE])
{
	static const uint8_t end[64] = { 0x80 };
	uint64_t bits = sha->size * 8;
	uint8_t length[8];
	int i;

	/* Leave room for the length in the last block. */
	sha256_add(sha, end, (119 - sha->size % 64) % 64 + 1);
	for (i = 0; i < 8; i++)
		length[i] = bits >> (56 - i * 8);
	sha256_add(sha, length, sizeof(length));
	for (i = 0; i < SHA256_SIZE; i++)
		digest[i] = sha->h[i / 4] >> (24 - i % 4 * 8);
}

/* Of all the parts, one after the other; the key has at most 64 bytes. */
static void hmac_sha256(const uint8_t *key, int key_size, const struct iovec *parts,
			int nr, uint8_t mac[SHA256_SIZE])
{
	uint8_t inner[64], outer[64];
	struct sha256 sha;
	int i;

	memset(inner, 0x36, sizeof(inner));
	memset(outer, 0x5c, sizeof(outer));
	for (i = 0; i < key_size; i++) {
		inner[i] ^= key[i];
		outer[i] ^= key[i];
	}

	sha256_init(&sha);
	sha256_add(&sha, inner, sizeof(inner));
	for (i = 0; i < nr; i++)
		sha256_add(&sha, parts[i].iov_base, parts[i].iov_len);
	sha256_end(&sha, mac);

	sha256_init(&sha);
	sha256_add(&sha, outer, sizeof(outer));
	sha256_add(&sha, mac, SHA256_SIZE);
	sha256_end(&sha, mac);
}

#define PART(_p, _size)	((struct iovec) { (void *)(_p), _size })
#define HMAC(_key, _key_size, _mac, _parts...)					\
do {										\
	const struct iovec __parts[] = { _parts };				\
										\
	hmac_sha256(_key, _key_size, __parts, ARRAY_SIZE(__parts), _mac);	\
} while (0)

/* --- AES (FIPS 197) ----------------------------------------------------------- */

static uint8_t aes_sbox[256];

static uint8_t aes_xtime(uint8_t x)
{
	return x << 1 ^ (x & 0x80 ? 0x1b : 0);
}

static uint8_t rol8(uint8_t x, int n)
{
	return x << n | x >> (8 - n);
}

/* p runs through all of the field by powers of 3, q through the inverses. */
static void aes_make_sbox(void)
{
	uint8_t p = 1, q = 1;

	do {
		p ^= aes_xtime(p);
		q ^= q << 1;
		q ^= q << 2;
		q ^= q << 4;
		if (q & 0x80)
			q ^= 0x09;
		aes_sbox[p] = q ^ rol8(q, 1) ^ rol8(q, 2) ^ rol8(q, 3) ^
			      rol8(q, 4) ^ 0x63;
	} while (p != 1);
	aes_sbox[0] = 0x63;
}

void aes_init(struct aes *aes, const uint8_t *key, int key_size)
{
	uint8_t *round_keys = aes->round_keys, t[4], tmp, rcon = 1;
	int i, j;

	aes_make_sbox();
	aes->rounds = key_size / 4 + 6;
	memcpy(round_keys, key, key_size);
	for (i = key_size; i < 16 * (aes->rounds + 1); i += 4) {
		memcpy(t, round_keys + i - 4, 4);
		if (i % key_size == 0) {
			tmp = t[0];
			t[0] = aes_sbox[t[1]] ^ rcon;
			t[1] = aes_sbox[t[2]];
			t[2] = aes_sbox[t[3]];
			t[3] = aes_sbox[tmp];
			rcon = aes_xtime(rcon);
		} else if (key_size == 32 && i % 32 == 16) {
			for (j = 0; j < 4; j++)
				t[j] = aes_sbox[t[j]];
		}
		for (j = 0; j < 4; j++)
			round_keys[i + j] = round_keys[i - key_size + j] ^ t[j];
	}
}

void aes_encrypt(const struct aes *aes, const uint8_t in[16], uint8_t out[16])
{
	uint8_t s[16], t[16];
	int i, c, round;

	for (i = 0; i < 16; i++)
		s[i] = in[i] ^ aes->round_keys[i];
	for (round = 1; round <= aes->rounds; round++) {
		/* SubBytes and ShiftRows */
		for (i = 0; i < 16; i++)
			t[i] = aes_sbox[s[(i + i % 4 * 4) % 16]];
		/* MixColumns, but not in the last round */
		for (c = 0; c < 16 && round < aes->rounds; c += 4) {
			uint8_t a = t[c], all = a ^ t[c + 1] ^ t[c + 2] ^ t[c + 3];

			t[c] ^= all ^ aes_xtime(t[c] ^ t[c + 1]);
			t[c + 1] ^= all ^ aes_xtime(t[c + 1] ^ t[c + 2]);
			t[c + 2] ^= all ^ aes_xtime(t[c + 2] ^ t[c + 3]);
			t[c + 3] ^= all ^ aes_xtime(t[c + 3] ^ a);
		}
		for (i = 0; i < 16; i++)
			s[i] = t[i] ^ aes->round_keys[round * 16 + i];
	}
	memcpy(out, s, 16);
}

/* Counter mode (SP 800-38A); in place is fine. */
static void aes128_ctr(const uint8_t key[16], const uint8_t iv[16], const void *in,
		       void *out, size_t size)
{
	uint8_t counter[16], pad[16], *dst = out;
	const uint8_t *src = in;
	struct aes aes;
	size_t i;
	int j;

	aes_init(&aes, key, 16);
	memcpy(counter, iv, 16);
	for (i = 0; i < size; i++) {
		if (i % 16 == 0) {
			aes_encrypt(&aes, counter, pad);
			for (j = 15; j >= 0 && !++counter[j]; j--)
				;
		}
		dst[i] = src[i] ^ pad[i % 16];
	}
}

/* --- the session -------------------------------------------------------------- */

/* SP 800-108, counter mode with HMAC-SHA-256, for keys of 128 bits */
static void derive(const uint8_t *key, int key_size, const char *label,
		   const void *context, size_t size, uint8_t out[16])
{
	static const uint8_t counter[4] = { 1 }, bits[4] = { 128 };
	uint8_t mac[SHA256_SIZE];

	HMAC(key, key_size, mac, PART(counter, sizeof(counter)),
	     PART(label, strlen(label) + 1), PART(context, size),
	     PART(bits, sizeof(bits)));
	memcpy(out, mac, 16);
}

/* In certificates: version, usage, algorithm, and a public key */
#define CERT_VERSION		0x00
#define CERT_API		0x04
#define CERT_USAGE		0x08
#define CERT_ALGO		0x0c
#define CERT_CURVE		0x10
#define CERT_X			0x14
#define CERT_Y			0x5c
#define CERT_SIG1_USAGE		0x414
#define CERT_SIG2_USAGE		0x61c
#define USAGE_PDH		0x1003
#define USAGE_NONE		0x1000
#define ALGO_ECDH_SHA256	3
#define CURVE_P384		2
#define P384_SIZE		48

/* The base point of P-384 (FIPS 186-4, D.1.2.4), least significant byte first */
static const uint8_t p384_x[P384_SIZE] = {
	0xb7, 0x0a, 0x76, 0x72, 0x38, 0x5e, 0x54, 0x3a, 0x6c, 0x29, 0x55, 0xbf,
	0x5d, 0xf2, 0x02, 0x55, 0x38, 0x2a, 0x54, 0x82, 0xe0, 0x41, 0xf7, 0x59,
	0x98, 0x9b, 0xa7, 0x8b, 0x62, 0x3b, 0x1d, 0x6e, 0x74, 0xad, 0x20, 0xf3,
	0x1e, 0xc7, 0xb1, 0x8e, 0x37, 0x05, 0x8b, 0xbe, 0x22, 0xca, 0x87, 0xaa,
};

static const uint8_t p384_y[P384_SIZE] = {
	0x5f, 0x0e, 0xea, 0x90, 0x7c, 0x1d, 0x43, 0x7a, 0x9d, 0x81, 0x7e, 0x1d,
	0xce, 0xb1, 0x60, 0x0a, 0xc0, 0xb8, 0xf0, 0xb5, 0x13, 0x31, 0xda, 0xe9,
	0x7c, 0x14, 0x9a, 0x28, 0xbd, 0x1d, 0xf4, 0xf8, 0x29, 0xdc, 0x92, 0x92,
	0xbf, 0x98, 0x9e, 0x5d, 0x6f, 0x2c, 0x26, 0x96, 0x4a, 0xde, 0x17, 0x36,
};

static void put32(uint8_t *p, uint32_t value)
{
	memcpy(p, &value, sizeof(value));
}

/* Session data */
#define SESSION_NONCE		0x00
#define SESSION_WRAP_TK		0x10
#define SESSION_WRAP_IV		0x30
#define SESSION_WRAP_MAC	0x40
#define SESSION_POLICY_MAC	0x60

/*
 * Diffie-Hellman with the private key 1: the public one is the base point, and
 * what is shared with the platform is the platform's own.  Nobody else should.
 */
void sev_owner_session(const struct sev_owner *owner, const uint8_t pdh[SEV_CERT_SIZE],
		       uint32_t policy, uint8_t cert[SEV_CERT_SIZE],
		       uint8_t session[SEV_SESSION_SIZE])
{
	uint8_t z[P384_SIZE], master[16], kek[16], kik[16];
	int i;

	memset(cert, 0, SEV_CERT_SIZE);
	put32(cert + CERT_VERSION, 1);
	memcpy(cert + CERT_API, pdh + CERT_API, 2);
	put32(cert + CERT_USAGE, USAGE_PDH);
	put32(cert + CERT_ALGO, ALGO_ECDH_SHA256);
	put32(cert + CERT_CURVE, CURVE_P384);
	memcpy(cert + CERT_X, p384_x, P384_SIZE);
	memcpy(cert + CERT_Y, p384_y, P384_SIZE);
	put32(cert + CERT_SIG1_USAGE, USAGE_NONE);
	put32(cert + CERT_SIG2_USAGE, USAGE_NONE);

	for (i = 0; i < 16; i++) {
		session[SESSION_NONCE + i] = 0x10 + i;
		session[SESSION_WRAP_IV + i] = 0x80 + i;
	}
	for (i = 0; i < P384_SIZE; i++)
		z[i] = pdh[CERT_X + P384_SIZE - 1 - i];
	derive(z, sizeof(z), "sev-master-secret", session + SESSION_NONCE, 16, master);
	derive(master, sizeof(master), "sev-kek", NULL, 0, kek);
	derive(master, sizeof(master), "sev-kik", NULL, 0, kik);

	aes128_ctr(kek, session + SESSION_WRAP_IV, owner, session + SESSION_WRAP_TK,
		   sizeof(*owner));
	HMAC(kik, sizeof(kik), session + SESSION_WRAP_MAC,
	     PART(session + SESSION_WRAP_TK, sizeof(*owner)));
	HMAC(owner->tik, sizeof(owner->tik), session + SESSION_POLICY_MAC,
	     PART(&policy, sizeof(policy)));
}

/* --- measurement and secrets -------------------------------------------------- */

void sev_owner_measure(const struct sev_owner *owner, const uint8_t version[3],
		       uint32_t policy, const uint8_t digest[SHA256_SIZE],
		       struct sev_measurement *m)
{
	static const uint8_t context = 4;

	HMAC(owner->tik, sizeof(owner->tik), m->mac, PART(&context, 1),
	     PART(version, 3), PART(&policy, sizeof(policy)),
	     PART(digest, SHA256_SIZE), PART(m->nonce, sizeof(m->nonce)));
}

void sev_owner_seal(const struct sev_owner *owner, const struct sev_measurement *m,
		    const void *secret, uint32_t size,
		    struct sev_secret_header *header, void *packet)
{
	static const uint8_t context = 1;
	int i;

	header->flags = 0;
	for (i = 0; i < 16; i++)
		header->iv[i] = 0x40 + i;
	aes128_ctr(owner->tek, header->iv, secret, packet, size);
	/* The lengths of the secret and of its packet, which is not compressed */
	HMAC(owner->tik, sizeof(owner->tik), header->mac, PART(&context, 1),
	     PART(header, offsetof(struct sev_secret_header, mac)),
	     PART(&size, sizeof(size)), PART(&size, sizeof(size)),
	     PART(packet, size), PART(m->mac, sizeof(m->mac)));
}
