/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the owner of an SNP guest computes: the launch digest, and the messages by
 * which a guest gets its attestation report (SEV-SNP Firmware ABI, 56860).
 */
#ifndef SELFTEST_KVM_SNP_REPORT_H
#define SELFTEST_KVM_SNP_REPORT_H

#include <stddef.h>
#include <stdint.h>

#define SHA384_SIZE	48

void sha384(const void *data, size_t size, uint8_t digest[SHA384_SIZE]);

/* Add a page to the launch digest, which starts as zeroes (56860, 8.17.2). */
void snp_digest_page(uint8_t digest[SHA384_SIZE], uint8_t type,
		     const void *contents, uint64_t gpa);

/* Types of pages; VMSA is the firmware's and KVM's only */
#define SNP_PAGE_NORMAL		1
#define SNP_PAGE_VMSA		2
#define SNP_PAGE_ZERO		3
#define SNP_PAGE_UNMEASURED	4
#define SNP_PAGE_SECRETS	5
#define SNP_PAGE_CPUID		6

/* AES-256-GCM with a 96-bit IV and a tag of 16 bytes; in place is fine. */
void aes256_gcm(const uint8_t key[32], const uint8_t iv[12], const void *aad,
		size_t aad_size, const void *in, void *out, size_t size,
		int encrypt, uint8_t tag[16]);

/* A guest message: a page with a header of 0x60 bytes, then the payload */
#define SNP_MSG_REPORT_REQ	5
#define SNP_MSG_REPORT_RSP	6
#define SNP_MSG_PAYLOAD		0x60

void snp_msg_seal(uint8_t page[4096], const uint8_t vmpck[32], uint64_t seqno,
		  uint8_t type, const void *payload, uint16_t size);
/* The size of the payload, or -1 if it is not authentic. */
int snp_msg_open(const uint8_t page[4096], const uint8_t vmpck[32],
		 uint64_t seqno, uint8_t type, void *payload);

/* The secrets page (56860, 8.17.2.5) */
#define SNP_SECRETS_VMPCK0	0x20

struct snp_report_req {
	uint8_t data[64];
	uint32_t vmpl;
	uint32_t key_sel;
	uint8_t rsvd[24];
};

/* The answer: a status, 0 or, for instance, */
#define SNP_REPORT_INVALID_KEY	0x27
/* and the report (56860, 7.3) at 0x20 */
#define SNP_REPORT_SIZE		0x4a0
#define SNP_REPORT_GUEST_SVN	0x004
#define SNP_REPORT_POLICY	0x008
#define SNP_REPORT_FAMILY_ID	0x010
#define SNP_REPORT_IMAGE_ID	0x020
#define SNP_REPORT_CURRENT_TCB	0x038
#define SNP_REPORT_KEY_INFO	0x048
#define SNP_REPORT_DATA		0x050
#define SNP_REPORT_MEASUREMENT	0x090
#define SNP_REPORT_HOST_DATA	0x0c0
#define SNP_REPORT_ID_KEY	0x0e0
#define SNP_REPORT_REPORTED_TCB	0x180
#define SNP_REPORT_CHIP_ID	0x1a0
#define SNP_REPORT_COMMITTED_TCB	0x1e0
#define SNP_REPORT_CURRENT_VERSION	0x1e8
#define SNP_REPORT_COMMITTED_VERSION	0x1ec
#define SNP_REPORT_SIGNATURE	0x2a0

struct sev_agent;

/*
 * Let the guest ask the firmware for a report, by a message that we seal, number
 * @seqno; the answer is the next one.  Its secrets page is at @secrets_gva, and
 * there are two pages at @msg_gpa that are shared.  The result is the firmware's
 * status; with 0 there is a report, which snp_get_report() insists on.
 */
uint32_t __snp_get_report(struct sev_agent *agent, uint64_t secrets_gva,
			  uint64_t msg_gpa, uint64_t seqno, const uint8_t data[64],
			  uint8_t report[SNP_REPORT_SIZE]);
void snp_get_report(struct sev_agent *agent, uint64_t secrets_gva, uint64_t msg_gpa,
		    uint64_t seqno, const uint8_t data[64],
		    uint8_t report[SNP_REPORT_SIZE]);

#endif /* SELFTEST_KVM_SNP_REPORT_H */
