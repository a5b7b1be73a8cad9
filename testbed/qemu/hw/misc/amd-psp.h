/*
 * AMD platform security processor (PSP), private declarations
 *
 * The device runs the SEV firmware: amd-psp.c is the PCI device and its
 * mailbox, amd-psp-sev.c has the commands of the SEV API (55766), amd-psp-snp.c
 * those of the SEV-SNP Firmware ABI (56860), amd-psp-guest.c the messages of
 * SNP guests, amd-psp-cpuid.c the CPUID policy, amd-psp-crypto.c what we need
 * of the crypto library.
 *
 * Every command runs to its end in the MMIO write that starts it, with the
 * BQL held: there is no concurrency among commands, only between a command and
 * what other processors do to the RMP.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_MISC_AMD_PSP_H
#define HW_MISC_AMD_PSP_H

#include "hw/pci/pci_device.h"
#include "qemu/bitmap.h"
#include "qemu/units.h"
#include "target/i386/rmp.h"

#define TYPE_AMD_PSP "amd-psp"
OBJECT_DECLARE_SIMPLE_TYPE(AMDPSPState, AMD_PSP)

/* Status codes; SEV-SNP Firmware ABI, table of status codes */
typedef enum PSPStatus {
    PSP_SUCCESS = 0x00,
    PSP_INVALID_PLATFORM_STATE = 0x01,
    PSP_INVALID_GUEST_STATE = 0x02,
    PSP_INVALID_CONFIG = 0x03,
    PSP_INVALID_LENGTH = 0x04,
    PSP_ALREADY_OWNED = 0x05,
    PSP_INVALID_CERTIFICATE = 0x06,
    PSP_POLICY_FAILURE = 0x07,
    PSP_INACTIVE = 0x08,
    PSP_INVALID_ADDRESS = 0x09,
    PSP_BAD_SIGNATURE = 0x0a,
    PSP_BAD_MEASUREMENT = 0x0b,
    PSP_ASID_OWNED = 0x0c,
    PSP_INVALID_ASID = 0x0d,
    PSP_WBINVD_REQUIRED = 0x0e,
    PSP_DFFLUSH_REQUIRED = 0x0f,
    PSP_INVALID_GUEST = 0x10,
    PSP_INVALID_COMMAND = 0x11,
    PSP_ACTIVE = 0x12,
    PSP_HWERROR_PLATFORM = 0x13,
    PSP_HWERROR_UNSAFE = 0x14,
    PSP_UNSUPPORTED = 0x15,
    PSP_INVALID_PARAM = 0x16,
    PSP_RESOURCE_LIMIT = 0x17,
    PSP_SECURE_DATA_INVALID = 0x18,
    PSP_INVALID_PAGE_SIZE = 0x19,
    PSP_INVALID_PAGE_STATE = 0x1a,
    PSP_INVALID_MDATA_ENTRY = 0x1b,
    PSP_INVALID_PAGE_OWNER = 0x1c,
    PSP_AEAD_OFLOW = 0x1d,
    PSP_RMP_INIT_REQUIRED = 0x20,
    PSP_INVALID_KEY = 0x27,
} PSPStatus;

/* What this firmware says it is */
#define PSP_API_MAJOR       1
#define PSP_API_MINOR       55
#define PSP_BUILD           21
/* TCB_VERSION: boot loader 4, TEE 0, SNP 24, microcode 219 */
#define PSP_TCB_VERSION     0xdb18000000000004ULL

#define PSP_MAX_ASID        1024
#define PSP_MAX_GUESTS      1024    /* of each kind */
#define PSP_CHIP_ID_SIZE    64

/* -- crypto ---------------------------------------------------------------- */

#define PSP_SHA256_SIZE     32
#define PSP_SHA384_SIZE     48
#define PSP_P384_SIZE       48
/* Numbers in AMD's structures: little endian, padded to 576 bits */
#define PSP_ECC_FIELD       72
#define PSP_ECC_KEY_SIZE    0x404
#define PSP_ECC_SIG_SIZE    0x200
#define PSP_CURVE_P384      2

/* A key pair on P-384; big endian as in the standards */
typedef struct PSPKey {
    uint8_t d[PSP_P384_SIZE];
    uint8_t x[PSP_P384_SIZE];
    uint8_t y[PSP_P384_SIZE];
} PSPKey;

extern const uint8_t psp_vcek_private[PSP_P384_SIZE];
extern const uint8_t psp_chip_id[PSP_CHIP_ID_SIZE];

typedef struct PSPBuf {
    const void *p;
    size_t len;
} PSPBuf;

void psp_random(void *p, size_t len);
void psp_sha384(const void *p, size_t len, uint8_t out[PSP_SHA384_SIZE]);
void psp_sha256(const void *p, size_t len, uint8_t out[PSP_SHA256_SIZE]);
/* SHA-256 in pieces; psp_hash_end() frees it, psp_hash_free() takes NULL */
typedef struct PSPHash PSPHash;
PSPHash *psp_hash_new(void);
void psp_hash_add(PSPHash *h, const void *p, size_t len);
void psp_hash_end(PSPHash *h, uint8_t out[PSP_SHA256_SIZE]);
void psp_hash_free(PSPHash *h);
/* SP 800-108 in counter mode, 128 bits */
void psp_kdf_sha256(const uint8_t *key, size_t key_len, const char *label,
                    const uint8_t *context, size_t context_len,
                    uint8_t out[16]);
void psp_hmac_sha256(const uint8_t *key, size_t key_len, const PSPBuf *buf,
                     unsigned nbuf, uint8_t out[PSP_SHA256_SIZE]);
void psp_hmac_sha384(const uint8_t *key, size_t key_len, const void *p,
                     size_t len, uint8_t out[PSP_SHA384_SIZE]);
void psp_aes128_ctr(const uint8_t key[16], const uint8_t iv[16],
                    const uint8_t *in, uint8_t *out, size_t len);
void psp_gcm_encrypt(const uint8_t key[32], const uint8_t iv[12],
                     const void *aad, size_t aad_len, const uint8_t *in,
                     uint8_t *out, size_t len, uint8_t tag[16]);
bool psp_gcm_decrypt(const uint8_t key[32], const uint8_t iv[12],
                     const void *aad, size_t aad_len, const uint8_t *in,
                     uint8_t *out, size_t len, const uint8_t tag[16]);
void psp_key_generate(PSPKey *key);
/* @key: private part, big endian; @sig: R and S in AMD's format */
void psp_ecdsa_sign(const uint8_t key[PSP_P384_SIZE], const uint8_t *digest,
                    size_t digest_len, uint8_t sig[2 * PSP_ECC_FIELD]);
/* @pub: curve, QX, QY in AMD's format. False for anything that is not a key */
bool psp_ecdsa_verify(const uint8_t pub[PSP_ECC_KEY_SIZE],
                      const uint8_t *digest, size_t digest_len,
                      const uint8_t sig[2 * PSP_ECC_FIELD]);
/* X of the common point, big endian. False if @pub is not a key */
bool psp_ecdh(const uint8_t key[PSP_P384_SIZE],
              const uint8_t pub[PSP_ECC_KEY_SIZE], uint8_t z[PSP_P384_SIZE]);
/* The public half in AMD's format */
void psp_key_public(const PSPKey *key, uint8_t pub[PSP_ECC_KEY_SIZE]);

/* -- state ----------------------------------------------------------------- */

/* Memory that the firmware itself uses: no command may write or free it */
typedef struct PSPHeld {
    hwaddr base;
    uint64_t size;
    const char *what;
} PSPHeld;
#define PSP_MAX_HELD        8

typedef enum PSPAsidState {
    PSP_ASID_FREE,
    PSP_ASID_SEV,
    PSP_ASID_SNP,
} PSPAsidState;

/* SEV API, table of platform states */
typedef enum SEVState {
    SEV_UNINIT = 0,
    SEV_INIT = 1,
    SEV_WORKING = 2,
} SEVState;

typedef struct SEVGuest SEVGuest;

typedef struct SEVPlatform {
    SEVState state;
    bool es;                    /* INIT with SEV-ES */
    bool have_cek;
    bool have_identity;         /* the other keys below are there */
    bool external_owner;
    PSPKey cek, oca, pek, pdh;
    uint8_t oca_cert[0x824];
    uint8_t pek_cert[0x824];
    GHashTable *guests;         /* handle -> SEVGuest */
} SEVPlatform;

/* SEV-SNP Firmware ABI, guest states */
typedef enum SNPGuestState {
    SNP_GSTATE_INIT = 0,
    SNP_GSTATE_LAUNCH = 1,
    SNP_GSTATE_RUNNING = 2,
} SNPGuestState;

#define SNP_GCTX_COOKIE     32

/* Guest context. The page in memory holds only the cookie. */
typedef struct SNPGuest {
    hwaddr gctx;
    uint8_t cookie[SNP_GCTX_COOKIE];
    SNPGuestState state;
    uint32_t asid;              /* 0: not active */
    uint64_t policy;
    uint64_t launch_tcb;
    bool vcek_disabled;
    bool author_key_en;
    uint32_t guest_svn;
    uint8_t family_id[16];
    uint8_t image_id[16];
    uint8_t gosvw[16];
    uint8_t ld[PSP_SHA384_SIZE];
    uint8_t host_data[32];
    uint8_t report_id[32];
    uint8_t vmrk[32];
    uint8_t id_key_digest[PSP_SHA384_SIZE];
    uint8_t author_key_digest[PSP_SHA384_SIZE];
    uint8_t vmpck[RMP_VMPLS][32];
    uint64_t msg_count[RMP_VMPLS];
} SNPGuest;

typedef struct SNPPlatform {
    bool init;
    bool rmp_init;              /* SNP_INIT has filled the RMP since reset */
    bool rapl_dis;
    bool mask_chip_id;
    bool mask_chip_key;
    uint64_t current_tcb;
    uint64_t committed_tcb;
    uint64_t reported_tcb;
    GHashTable *guests;         /* context page -> SNPGuest */
} SNPPlatform;

struct AMDPSPState {
    PCIDevice parent_obj;

    MemoryRegion mmio;
    uint32_t cmdresp;
    uint32_t addr_lo;
    uint32_t addr_hi;
    uint32_t inten;
    uint32_t intsts;

    /* Injected failure */
    uint32_t fail_command;
    uint32_t fail_status;
    uint32_t fail_nth;

    PSPHeld held[PSP_MAX_HELD];

    uint8_t asid_state[PSP_MAX_ASID];
    DECLARE_BITMAP(asid_dirty, PSP_MAX_ASID);

    SEVPlatform sev;
    SNPPlatform snp;
};

/* -- dispatch -------------------------------------------------------------- */

/* The buffer is written back, whatever the status */
#define PSP_CMD_OUT         1
/* The state that the platform has to be in */
#define PSP_CMD_SNP_INIT    2
#define PSP_CMD_SEV_INIT    4       /* INIT or WORKING */
#define PSP_CMD_SEV_WORKING 8

#define PSP_CMD_MAX_SIZE    0x60

/**
 * struct PSPCommand: one command
 * @id: number of the command
 * @size: bytes of the command buffer
 * @flags: PSP_CMD_...
 * @run: does it; @c is a copy of the command buffer
 */
typedef struct PSPCommand {
    uint16_t id;
    uint8_t size;
    uint8_t flags;
    const char *name;
    PSPStatus (*run)(AMDPSPState *s, uint8_t *c);
} PSPCommand;

extern const PSPCommand sev_commands[];
extern const unsigned sev_num_commands;
extern const PSPCommand snp_commands[];
extern const unsigned snp_num_commands;

/* -- services of amd-psp.c ------------------------------------------------- */

/* Addresses may carry the C-bit, which means nothing here */
hwaddr psp_pa(uint64_t addr);
bool psp_is_ram(hwaddr pa, uint64_t len);
PSPStatus psp_read_mem(hwaddr pa, void *p, uint64_t len);
void psp_write_mem(hwaddr pa, const void *p, uint64_t len);

/*
 * Whether the firmware may write there: RAM, and in pages that the hypervisor
 * has given to the firmware as soon as SNP is initialized.
 */
PSPStatus psp_check_output(AMDPSPState *s, hwaddr pa, uint64_t len);

void psp_hold(AMDPSPState *s, hwaddr base, uint64_t size, const char *what);
void psp_release(AMDPSPState *s, const char *what);
bool psp_is_held(AMDPSPState *s, hwaddr pa, uint64_t len);

void psp_cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4]);
bool psp_smt_enabled(void);
uint32_t psp_max_asid(void);
/* Lowest ASID of guests without encrypted state */
uint32_t psp_min_sev_asid(void);

/* No guest may get an ASID in the range before the next DF_FLUSH */
void psp_asids_dirty(AMDPSPState *s, uint32_t first, uint32_t last);
PSPStatus psp_df_flush(AMDPSPState *s);

/* -- between the files ----------------------------------------------------- */

void sev_reset(AMDPSPState *s);
void snp_reset(AMDPSPState *s);
void sev_finalize(AMDPSPState *s);
void snp_finalize(AMDPSPState *s);

PSPStatus snp_guest_request(AMDPSPState *s, SNPGuest *g, hwaddr req,
                            hwaddr resp);

#define SNP_CPUID_COUNT_MAX     64
#define SNP_CPUID_ENTRY_SIZE    0x30
/*
 * Check @count CPUID functions against the policy; entries that break it are
 * corrected in place, and the answer is false.
 */
bool snp_cpuid_check(uint8_t *entry, uint32_t count);

#endif
