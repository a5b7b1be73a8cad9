/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The reverse map table of AMD SEV-SNP, which says who owns each page of the
 * system: the hypervisor, the firmware or a guest.
 */
#ifndef _ASM_X86_RMP_H
#define _ASM_X86_RMP_H

#include <linux/errno.h>
#include <linux/types.h>

#include <asm/pgtable_types.h>

#ifdef CONFIG_KVM_AMD_SEV
int rmp_lookup(u64 pfn, bool *assigned, enum pg_level *level);
bool rmp_2m_is_shared(u64 pfn);
int rmp_make_private(u64 pfn, u64 gpa, enum pg_level level, u32 asid,
		     bool immutable);
int rmp_make_shared(u64 pfn, enum pg_level level);
int rmp_split(u64 pfn);
void rmp_leak_pages(u64 pfn, unsigned long nr);
void rmp_dump(u64 pfn);

/* For the architecture's code and the IOMMU's driver only */
bool rmp_probe(void);
void rmp_setup_memory(void);
int rmp_enable(void);
bool rmp_write_denied(u64 pfn, enum pg_level level);
void rmp_crash_cpu(void);
void rmp_before_kexec(bool crash);
#else
static inline int rmp_lookup(u64 pfn, bool *assigned, enum pg_level *level)
{
	return -ENODEV;
}

static inline bool rmp_2m_is_shared(u64 pfn)
{
	return true;
}

static inline int rmp_make_private(u64 pfn, u64 gpa, enum pg_level level,
				   u32 asid, bool immutable)
{
	return -ENODEV;
}

static inline int rmp_make_shared(u64 pfn, enum pg_level level)
{
	return -ENODEV;
}

static inline int rmp_split(u64 pfn)
{
	return -ENODEV;
}

static inline void rmp_leak_pages(u64 pfn, unsigned long nr) { }
static inline void rmp_dump(u64 pfn) { }

static inline bool rmp_probe(void)
{
	return false;
}

static inline void rmp_setup_memory(void) { }

static inline int rmp_enable(void)
{
	return -ENODEV;
}

static inline bool rmp_write_denied(u64 pfn, enum pg_level level)
{
	return false;
}

static inline void rmp_crash_cpu(void) { }
static inline void rmp_before_kexec(bool crash) { }
#endif

#endif /* _ASM_X86_RMP_H */
