/*
 * The reverse map table (RMP) of AMD SEV-SNP, and what the firmware model
 * shares with the processors
 *
 * The table says of every 4 KiB page of system memory who owns it. It lies in
 * guest RAM, in the format of family 19h processors (PPR for AMD Family 19h
 * Model 01h, 55898), because operating systems read it there. Only RMPUPDATE,
 * PSMASH, PVALIDATE, RMPADJUST and the firmware (PSP) change it.
 *
 * References: AMD64 Architecture Programmer's Manual volume 2 (24593),
 * section 15.36; SEV-SNP Firmware ABI (56860), chapter 5.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef I386_RMP_H
#define I386_RMP_H

#include "exec/hwaddr.h"
#include "qemu/units.h"
#include "target/i386/cpu.h"

#define RMP_PAGE_SIZE       (4 * KiB)
#define RMP_LARGE_SIZE      (2 * MiB)
#define RMP_LARGE_PAGES     512
#define RMP_VMPLS           4

/* VMPL permissions; APM volume 2, table 15-38 */
#define RMP_PERM_READ       0x01
#define RMP_PERM_WRITE      0x02
#define RMP_PERM_EXEC_USER  0x04
#define RMP_PERM_EXEC_SUP   0x08
#define RMP_PERM_ALL        0x0f

/**
 * struct RMPEntry: one entry, unpacked
 * @gpa: guest-physical address that a guest has to reach the page by
 * @asid: address space that owns the page; 0 is the hypervisor or the firmware
 * @assigned: the page is not the hypervisor's
 * @large: the entry covers the 2 MiB around the page; for a 4 KiB page inside,
 *      @gpa is that of the page
 * @immutable: RMPUPDATE refuses to change it
 * @vmsa: the page is a VMSA; with @asid 0, a guest context
 * @validated: the guest has accepted the page
 * @in_use: a processor runs a guest from this VMSA
 * @perms: what each VMPL may do, RMP_PERM_...
 */
typedef struct RMPEntry {
    hwaddr gpa;
    uint32_t asid;
    bool assigned;
    bool large;
    bool immutable;
    bool vmsa;
    bool validated;
    bool in_use;
    uint8_t perms[RMP_VMPLS];
} RMPEntry;

/* Page states; SEV-SNP Firmware ABI, section 5.1 */
typedef enum RMPState {
    RMP_DEFAULT,            /* not covered by the table */
    RMP_HYPERVISOR,
    RMP_HV_FIXED,
    RMP_RECLAIM,
    RMP_FIRMWARE,
    RMP_CONTEXT,
    RMP_METADATA,
    RMP_PRE_GUEST,
    RMP_GUEST_INVALID,
    RMP_PRE_SWAP,
    RMP_GUEST_VALID,
    RMP_INVALID,            /* a combination that the ABI does not name */
} RMPState;

/* What RMPUPDATE and PSMASH return in EAX */
enum {
    RMP_OK = 0,
    RMP_FAIL_INPUT = 1,
    RMP_FAIL_PERMISSION = 2,
    RMP_FAIL_INUSE = 3,
    RMP_FAIL_OVERLAP = 4,
    PSMASH_FAIL_BADADDR = 4,
    PVALIDATE_FAIL_SIZEMISMATCH = 6,
};

/*
 * What CPUID 8000_001F says of the machine: the C-bit of a page table entry,
 * the number of physical address bits that it costs, the highest ASID, and
 * the lowest that a guest may have whose state is not encrypted
 */
#define SEV_HOST_CBIT       51
#define SEV_HOST_REDUCTION  1
#define SEV_HOST_ASIDS      509
#define SEV_HOST_MIN_ASID   100

#define TYPE_X86_RMP "x86-rmp"

/* True once a processor has set SYSCFG.SNP_EN. Read by every TLB fill. */
extern bool rmp_enabled;

/* -- the table as the firmware and the processors see it ----------------- */

/*
 * Changes to the table are made with this lock held; readers need none, and
 * rmp_flush() makes what they have cached go away. It nests inside the BQL
 * and nothing is taken inside it but the locks of translated code's pages.
 */
void rmp_lock(void);
void rmp_unlock(void);

/**
 * rmp_covers: whether the table has an entry for the page at @pa
 *
 * False for any page as long as SNP is not enabled.
 */
bool rmp_covers(hwaddr pa);

/**
 * rmp_get: read the entry of the 4 KiB page at @pa
 *
 * Returns false, and an entry of zeroes, if the table does not cover @pa.
 */
bool rmp_get(hwaddr pa, RMPEntry *e);

/**
 * rmp_set: write the entry of @pa, with rmp_lock() held
 *
 * If @e->large, @pa is a multiple of 2 MiB, and all 512 entries are written;
 * otherwise @pa does not lie in a large page. The in_use of the pages stays as
 * it is. The caller calls rmp_flush() after rmp_unlock().
 */
void rmp_set(hwaddr pa, const RMPEntry *e);

/**
 * rmp_fill: set @count entries from @pa on to those of 4 KiB pages like @e
 *
 * With @e->gpa as it is in all of them. For the firmware's SNP_INIT.
 */
void rmp_fill(hwaddr pa, uint64_t count, const RMPEntry *e);

/* Make all pages the hypervisor's, whatever was there; with rmp_lock() held */
void rmp_clear(void);

/* All processors forget what they have cached; from a vCPU, or with the BQL */
void rmp_flush(void);

RMPState rmp_state(const RMPEntry *e, bool covered);
const char *rmp_state_name(RMPState state);

/* First byte and last byte of the table, RMP_BASE and RMP_END; 0, 0: none */
void rmp_range(hwaddr *base, hwaddr *end);

/* Number of entries, which is the first page frame that is not covered */
uint64_t rmp_entries(void);

/* How many 4 KiB pages of the table belong to @asid */
uint64_t rmp_asid_pages(uint32_t asid);

/**
 * rmp_scramble: what a change of @asid's key does to the bytes of a page
 *
 * Memory holds a guest's plaintext here, never ciphertext, but a page that goes
 * to a guest or comes from it must not keep its bytes: RMPUPDATE scrambles
 * them with a pattern made of @asid and @pa when the page enters or leaves
 * the address space @asid (not 0). Doing it twice undoes it: that is how the
 * firmware encrypts in place a page which the hypervisor filled before it
 * assigned it.
 */
void rmp_scramble(hwaddr pa, uint64_t size, uint32_t asid);

/* @asid gets another pattern; it owns no page now */
void rmp_new_key(uint32_t asid);

/* -- for the processors -------------------------------------------------- */

/*
 * rmp_create: make the table at the end of the memory that ends at @top
 *
 * Returns its size. For the board, once.
 */
hwaddr rmp_create(hwaddr top);

/* SYSCFG.SNP_EN is to be set: from now on the table counts, if there is one */
bool rmp_enable(void);

/**
 * rmp_write_denied: whether the hypervisor, or a guest without SNP, may not
 * write the page at @pa through a mapping of @page_size bytes
 */
bool rmp_write_denied(hwaddr pa, uint64_t page_size);

/**
 * rmp_begin_use: a processor enters a guest that has its state in page @pa
 *
 * Reads the entry into @e. False if another processor is there already.
 * Until rmp_end_use() RMPUPDATE fails with RMP_FAIL_INUSE.
 */
bool rmp_begin_use(hwaddr pa, RMPEntry *e);
void rmp_end_use(hwaddr pa);

/* RMPUPDATE and PSMASH, without their operands' decoding; return EAX */
int rmp_update(hwaddr pa, const RMPEntry *new);
int rmp_smash(hwaddr pa);

/* WBINVD on this processor */
void x86_cache_written_back(CPUX86State *env);

/* -- what the firmware asks of the processors ---------------------------- */

/*
 * Data in the caches under the key of a guest that is gone: each call of
 * x86_cache_dirty() starts a new generation, WBINVD on a processor brings that
 * processor up to date, and x86_caches_clean() tells whether all are.
 */
void x86_cache_dirty(void);
bool x86_caches_clean(void);

#endif
