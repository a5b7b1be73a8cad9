/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the owner of a SEV or SEV-ES guest computes: the keys of a session with the
 * platform, the measurement of the launch, and secrets for the guest (SEV API,
 * 55766).
 */
#ifndef SELFTEST_KVM_SEV_OWNER_H
#define SELFTEST_KVM_SEV_OWNER_H

#include <stddef.h>
#include <stdint.h>
#include <linux/compiler.h>

#define SHA256_SIZE	32

struct sha256 {
	uint32_t h[8];
	uint64_t size;
	uint8_t block[64];
};

void sha256_init(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *data, size_t size);
void sha256_end(struct sha256 *sha, uint8_t digest[SHA256_SIZE]);

/* AES with keys of 16 or 32 bytes; only encryption */
struct aes {
	int rounds;
	uint8_t round_keys[240];
};

void aes_init(struct aes *aes, const uint8_t *key, int key_size);
void aes_encrypt(const struct aes *aes, const uint8_t in[16], uint8_t out[16]);

/* Certificates (appendix C.1), session data (table 46), in bytes */
#define SEV_CERT_SIZE		0x824
#define SEV_SESSION_SIZE	0x80

/* The keys that the owner chooses: for transport, and for integrity */
struct sev_owner {
	uint8_t tek[16];
	uint8_t tik[16];
};

/*
 * What LAUNCH_START takes for a guest with that policy, on the platform with that
 * Diffie-Hellman certificate: the owner's certificate, and the keys, wrapped.
 */
void sev_owner_session(const struct sev_owner *owner, const uint8_t pdh[SEV_CERT_SIZE],
		       uint32_t policy, uint8_t cert[SEV_CERT_SIZE],
		       uint8_t session[SEV_SESSION_SIZE]);

/* What LAUNCH_MEASURE gives (6.5.1): a MAC, and the nonce that went into it. */
struct sev_measurement {
	uint8_t mac[SHA256_SIZE];
	uint8_t nonce[16];
};

/* @version: of the firmware, i.e. major, minor, build */
void sev_owner_measure(const struct sev_owner *owner, const uint8_t version[3],
		       uint32_t policy, const uint8_t digest[SHA256_SIZE],
		       struct sev_measurement *m);

/* The header of a packet for LAUNCH_SECRET (table 55) */
struct sev_secret_header {
	uint32_t flags;
	uint8_t iv[16];
	uint8_t mac[SHA256_SIZE];
} __packed;

void sev_owner_seal(const struct sev_owner *owner, const struct sev_measurement *m,
		    const void *secret, uint32_t size,
		    struct sev_secret_header *header, void *packet);

/* ATTESTATION's report (6.8.2), without its signature */
struct sev_report {
	uint8_t nonce[16];
	uint8_t digest[SHA256_SIZE];
	uint32_t policy;
	uint32_t sig_usage;
	uint32_t sig_algo;
	uint32_t rsvd;
	uint8_t sig[144];
} __packed;

#endif /* SELFTEST_KVM_SEV_OWNER_H */
