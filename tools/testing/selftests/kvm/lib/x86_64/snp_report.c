// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the owner of an SNP guest computes.  Small, and in no hurry; none of it is
 * careful with secrets.
 */
#include <string.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "sev_owner.h"
#include "sev_vm.h"
#include "snp_report.h"

/* --- SHA-384 (FIPS 180-4) --------------------------------------------------- */

static uint64_t ror64(uint64_t x, int n)
{
	return x >> n | x << (64 - n);
}

static const uint64_t sha512_k[80] = {
	0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f,
	0xe9b5dba58189dbbc, 0x3956c25bf348b538, 0x59f111f1b605d019,
	0x923f82a4af194f9b, 0xab1c5ed5da6d8118, 0xd807aa98a3030242,
	0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
	0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235,
	0xc19bf174cf692694, 0xe49b69c19ef14ad2, 0xefbe4786384f25e3,
	0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65, 0x2de92c6f592b0275,
	0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
	0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f,
	0xbf597fc7beef0ee4, 0xc6e00bf33da88fc2, 0xd5a79147930aa725,
	0x06ca6351e003826f, 0x142929670a0e6e70, 0x27b70a8546d22ffc,
	0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
	0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6,
	0x92722c851482353b, 0xa2bfe8a14cf10364, 0xa81a664bbc423001,
	0xc24b8b70d0f89791, 0xc76c51a30654be30, 0xd192e819d6ef5218,
	0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
	0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99,
	0x34b0bcb5e19b48a8, 0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb,
	0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3, 0x748f82ee5defb2fc,
	0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
	0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915,
	0xc67178f2e372532b, 0xca273eceea26619c, 0xd186b8c721c0c207,
	0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178, 0x06f067aa72176fba,
	0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
	0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc,
	0x431d67c49c100d4c, 0x4cc5d4becb3e42b6, 0x597f299cfc657e2a,
	0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
};

static void sha512_block(uint64_t h[8], const uint8_t *p)
{
	uint64_t w[80], v[8], t1, t2;
	int i, j;

	for (i = 0; i < 16; i++) {
		w[i] = 0;
		for (j = 0; j < 8; j++)
			w[i] = w[i] << 8 | p[i * 8 + j];
	}
	for (; i < 80; i++) {
		uint64_t a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + w[i - 7] +
		       (ror64(a, 1) ^ ror64(a, 8) ^ a >> 7) +
		       (ror64(b, 19) ^ ror64(b, 61) ^ b >> 6);
	}

	memcpy(v, h, sizeof(v));
	for (i = 0; i < 80; i++) {
		t1 = v[7] + (ror64(v[4], 14) ^ ror64(v[4], 18) ^ ror64(v[4], 41)) +
		     ((v[4] & v[5]) ^ (~v[4] & v[6])) + sha512_k[i] + w[i];
		t2 = (ror64(v[0], 28) ^ ror64(v[0], 34) ^ ror64(v[0], 39)) +
		     ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof(v[0]));
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (i = 0; i < 8; i++)
		h[i] += v[i];
}

void sha384(const void *data, size_t size, uint8_t digest[SHA384_SIZE])
{
	uint64_t h[8] = {
		0xcbbb9d5dc1059ed8, 0x629a292a367cd507, 0x9159015a3070dd17,
		0x152fecd8f70e5939, 0x67332667ffc00b31, 0x8eb44a8768581511,
		0xdb0c2e0d64f98fa7, 0x47b5481dbefa4fa4,
	};
	uint8_t last[256] = {};
	size_t done = size & ~127ul, rest = size - done, padded;
	const uint8_t *p = data;
	size_t i;

	for (i = 0; i < done; i += 128)
		sha512_block(h, p + i);

	memcpy(last, p + done, rest);
	last[rest] = 0x80;
	padded = rest < 112 ? 128 : 256;
	for (i = 0; i < 8; i++)
		last[padded - 1 - i] = (uint64_t)size * 8 >> (8 * i);
	for (i = 0; i < padded; i += 128)
		sha512_block(h, last + i);

	for (i = 0; i < SHA384_SIZE; i++)
		digest[i] = h[i / 8] >> (56 - i % 8 * 8);
}

/* --- AES-256-GCM (SP 800-38D) -------------------------------------------------- */

/* y = (y ^ block) * h in GF(2^128), bits in GCM's order */
static void ghash(uint8_t y[16], const uint8_t h[16], const uint8_t *data,
		  size_t size)
{
	uint8_t z[16], v[16];
	int i, j, carry;

	memcpy(v, h, 16);
	memset(z, 0, 16);
	for (i = 0; i < 16; i++)
		y[i] ^= i < size ? data[i] : 0;
	for (i = 0; i < 128; i++) {
		if (y[i / 8] & 0x80 >> i % 8) {
			for (j = 0; j < 16; j++)
				z[j] ^= v[j];
		}
		carry = v[15] & 1;
		for (j = 15; j > 0; j--)
			v[j] = v[j] >> 1 | v[j - 1] << 7;
		v[0] >>= 1;
		if (carry)
			v[0] ^= 0xe1;
	}
	memcpy(y, z, 16);
}

static void ghash_all(uint8_t y[16], const uint8_t h[16], const uint8_t *data,
		      size_t size)
{
	size_t i;

	for (i = 0; i < size; i += 16)
		ghash(y, h, data + i, size - i);
}

void aes256_gcm(const uint8_t key[32], const uint8_t iv[12], const void *aad,
		size_t aad_size, const void *in, void *out, size_t size,
		int encrypt, uint8_t tag[16])
{
	uint8_t h[16] = {}, counter[16] = {}, pad[16];
	uint8_t y[16] = {}, lengths[16] = {};
	const uint8_t *src = in;
	uint8_t *dst = out;
	struct aes aes;
	size_t i;
	int j;

	aes_init(&aes, key, 32);
	aes_encrypt(&aes, h, h);
	memcpy(counter, iv, 12);

	ghash_all(y, h, aad, aad_size);
	if (!encrypt)
		ghash_all(y, h, in, size);
	for (i = 0; i < size; i++) {
		if (i % 16 == 0) {
			for (j = 0; j < 4; j++)
				counter[15 - j] = (i / 16 + 2) >> (8 * j);
			aes_encrypt(&aes, counter, pad);
		}
		dst[i] = src[i] ^ pad[i % 16];
	}
	if (encrypt)
		ghash_all(y, h, out, size);

	for (j = 0; j < 8; j++) {
		lengths[7 - j] = (uint64_t)aad_size * 8 >> (8 * j);
		lengths[15 - j] = (uint64_t)size * 8 >> (8 * j);
	}
	ghash(y, h, lengths, 16);

	memset(counter + 12, 0, 4);
	counter[15] = 1;
	aes_encrypt(&aes, counter, tag);
	for (j = 0; j < 16; j++)
		tag[j] ^= y[j];
}

/* --- launch digest ------------------------------------------------------------ */

void snp_digest_page(uint8_t digest[SHA384_SIZE], uint8_t type,
		     const void *contents, uint64_t gpa)
{
	struct {
		uint8_t digest_cur[SHA384_SIZE];
		uint8_t contents[SHA384_SIZE];
		uint16_t length;
		uint8_t page_type;
		uint8_t imi_page;
		uint8_t vmpl3_perms;
		uint8_t vmpl2_perms;
		uint8_t vmpl1_perms;
		uint8_t rsvd;
		uint64_t gpa;
	} info = {
		.length = 0x70,
		.page_type = type,
		.gpa = gpa,
	};

	memcpy(info.digest_cur, digest, SHA384_SIZE);
	if (type == SNP_PAGE_NORMAL || type == SNP_PAGE_VMSA)
		sha384(contents, 4096, info.contents);
	sha384(&info, sizeof(info), digest);
}

/* --- guest messages ----------------------------------------------------------- */

#define MSG_TAG		0x00
#define MSG_SEQNO	0x20
#define MSG_AAD		0x30
#define MSG_ALGO	0x30
#define MSG_HDR_VERSION	0x31
#define MSG_HDR_SIZE	0x32
#define MSG_TYPE	0x34
#define MSG_VERSION	0x35
#define MSG_SIZE	0x36

void snp_msg_seal(uint8_t page[4096], const uint8_t vmpck[32], uint64_t seqno,
		  uint8_t type, const void *payload, uint16_t size)
{
	uint8_t iv[12] = {};

	memcpy(iv, &seqno, sizeof(seqno));
	memset(page, 0, 4096);
	memcpy(page + MSG_SEQNO, &seqno, sizeof(seqno));
	page[MSG_ALGO] = 1;
	page[MSG_HDR_VERSION] = 1;
	page[MSG_HDR_SIZE] = SNP_MSG_PAYLOAD;
	page[MSG_TYPE] = type;
	page[MSG_VERSION] = 1;
	memcpy(page + MSG_SIZE, &size, sizeof(size));
	aes256_gcm(vmpck, iv, page + MSG_AAD, SNP_MSG_PAYLOAD - MSG_AAD, payload,
		   page + SNP_MSG_PAYLOAD, size, 1, page + MSG_TAG);
}

int snp_msg_open(const uint8_t page[4096], const uint8_t vmpck[32],
		 uint64_t seqno, uint8_t type, void *payload)
{
	uint8_t iv[12] = {}, tag[16];
	uint16_t size;

	memcpy(iv, &seqno, sizeof(seqno));
	memcpy(&size, page + MSG_SIZE, sizeof(size));
	if (memcmp(page + MSG_SEQNO, &seqno, sizeof(seqno)) ||
	    page[MSG_TYPE] != type || size > 4096 - SNP_MSG_PAYLOAD)
		return -1;

	aes256_gcm(vmpck, iv, page + MSG_AAD, SNP_MSG_PAYLOAD - MSG_AAD,
		   page + SNP_MSG_PAYLOAD, payload, size, 0, tag);
	return memcmp(tag, page + MSG_TAG, sizeof(tag)) ? -1 : size;
}

uint32_t __snp_get_report(struct sev_agent *agent, uint64_t secrets_gva,
			  uint64_t msg_gpa, uint64_t seqno, const uint8_t data[64],
			  uint8_t report[SNP_REPORT_SIZE])
{
	uint8_t *msg = addr_gpa2hva(agent->sev->vm, msg_gpa);
	uint8_t *resp = addr_gpa2hva(agent->sev->vm, msg_gpa + PAGE_SIZE);
	struct snp_report_req req = {};
	uint8_t vmpck[32], answer[4096];
	int size;

	sev_agent_do(agent, SEV_COPY, secrets_gva + SNP_SECRETS_VMPCK0, 32,
		     agent->cmd_gva + offsetof(struct sev_agent_cmd, data));
	memcpy(vmpck, agent->cmd->data, sizeof(vmpck));

	memcpy(req.data, data, sizeof(req.data));
	snp_msg_seal(msg, vmpck, seqno, SNP_MSG_REPORT_REQ, &req, sizeof(req));
	memset(resp, 0, PAGE_SIZE);
	ghcb_init(&agent->cmd->ghcb_in, NAE_GUEST_REQUEST, msg_gpa,
		  msg_gpa + PAGE_SIZE);
	sev_agent_vmgexit(agent);
	TEST_ASSERT(!ghcb_info1(agent) && !ghcb_info2(agent),
		    "Guest request: 0x%lx 0x%lx", ghcb_info1(agent), ghcb_info2(agent));

	size = snp_msg_open(resp, vmpck, seqno + 1, SNP_MSG_REPORT_RSP, answer);
	TEST_ASSERT(size >= 0x20, "No answer: %d", size);
	if (*(uint32_t *)answer)
		return *(uint32_t *)answer;

	ASSERT_EQ(size, 0x20 + SNP_REPORT_SIZE);
	ASSERT_EQ(*(uint32_t *)(answer + 4), (uint32_t)SNP_REPORT_SIZE);
	memcpy(report, answer + 0x20, SNP_REPORT_SIZE);
	return 0;
}

void snp_get_report(struct sev_agent *agent, uint64_t secrets_gva, uint64_t msg_gpa,
		    uint64_t seqno, const uint8_t data[64],
		    uint8_t report[SNP_REPORT_SIZE])
{
	uint32_t status = __snp_get_report(agent, secrets_gva, msg_gpa, seqno, data,
					   report);

	TEST_ASSERT(!status, "No report: 0x%x", status);
}
