// SPDX-License-Identifier: GPL-2.0-only
/*
 * AMD SEV-SNP: pages that go to the firmware and come back
 *
 * From SNP_INIT to SNP_SHUTDOWN the firmware writes only to pages that the
 * reverse map table (RMP) says are its own. A page is lent to the firmware by
 * RMPUPDATE, and is immutable from then on: only the firmware can let it go, by
 * PAGE_RECLAIM. The processor keeps the host from writing to it meanwhile, with a
 * page fault that has no handler. It may read.
 *
 * So a page that could not be taken back must never see the page allocator
 * again: it is leaked, which rmp_leak_pages() reports.
 *
 * The older commands, those of SEV and SEV-ES, are no exception. Some of them
 * write to their command buffer, or to buffers that it names. They get copies,
 * which are lent for the time of the command. While such a command's pages are
 * taken back, its buffer is still in use; PAGE_RECLAIM therefore has a page for
 * its own command buffer, which nothing else uses with the lock held, and goes to
 * the mailbox directly. It never nests in itself.
 *
 * sev_cmd_mutex protects everything here, except that the panic path takes
 * no lock, see snp_panic().
 *
 * References are to the SEV-SNP Firmware ABI Specification (AMD publication
 * 56860).
 */

#include <linux/build_bug.h>
#include <linux/device.h>
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/mem_encrypt.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/psp-sev.h>

#include <asm/rmp.h>

#include "psp-dev.h"
#include "sev-dev.h"
#include "sev-snp.h"

/* Chapter 8: the layouts are the firmware's */
static_assert(sizeof(struct sev_data_snp_addr) == 8);
static_assert(sizeof(struct sev_data_snp_activate) == 12);
static_assert(sizeof(struct sev_data_snp_guest_status) == 16);
static_assert(sizeof(struct sev_data_snp_launch_start) == 48);
static_assert(sizeof(struct sev_data_snp_launch_update) == 32);
static_assert(sizeof(struct sev_data_snp_launch_finish) == 64);
static_assert(sizeof(struct sev_data_snp_guest_request) == 24);
static_assert(sizeof(struct sev_data_snp_dbg) == 24);
static_assert(sizeof(struct sev_data_snp_page_reclaim) == 8);
static_assert(sizeof(struct sev_data_range) == 16);
static_assert(sizeof(struct sev_data_range_list) == 8);
static_assert(sizeof(struct sev_data_snp_init_ex) == 64);
static_assert(sizeof(struct sev_data_snp_shutdown_ex) == 8);
static_assert(sizeof(struct sev_data_snp_commit) == 4);
static_assert(sizeof(struct sev_data_snp_feature_info) == 16);

/* Whether guests can be launched; written with sev_cmd_mutex held */
bool snp_ready;

bool snp_platform_initialized(void)
{
	return READ_ONCE(snp_ready) && !sev_firmware_is_dead();
}
EXPORT_SYMBOL_GPL(snp_platform_initialized);

int snp_cmd_buffer_len(int cmd)
{
	switch (cmd) {
	case SEV_CMD_SNP_INIT_EX:		return sizeof(struct sev_data_snp_init_ex);
	case SEV_CMD_SNP_SHUTDOWN_EX:		return sizeof(struct sev_data_snp_shutdown_ex);
	case SEV_CMD_SNP_PLATFORM_STATUS:	return sizeof(struct sev_data_snp_addr);
	case SEV_CMD_SNP_DECOMMISSION:		return sizeof(struct sev_data_snp_addr);
	case SEV_CMD_SNP_ACTIVATE:		return sizeof(struct sev_data_snp_activate);
	case SEV_CMD_SNP_GUEST_STATUS:		return sizeof(struct sev_data_snp_guest_status);
	case SEV_CMD_SNP_GCTX_CREATE:		return sizeof(struct sev_data_snp_addr);
	case SEV_CMD_SNP_GUEST_REQUEST:		return sizeof(struct sev_data_snp_guest_request);
	case SEV_CMD_SNP_LAUNCH_START:		return sizeof(struct sev_data_snp_launch_start);
	case SEV_CMD_SNP_LAUNCH_UPDATE:		return sizeof(struct sev_data_snp_launch_update);
	case SEV_CMD_SNP_LAUNCH_FINISH:		return sizeof(struct sev_data_snp_launch_finish);
	case SEV_CMD_SNP_DBG_DECRYPT:		return sizeof(struct sev_data_snp_dbg);
	case SEV_CMD_SNP_DBG_ENCRYPT:		return sizeof(struct sev_data_snp_dbg);
	case SEV_CMD_SNP_PAGE_RECLAIM:		return sizeof(struct sev_data_snp_page_reclaim);
	case SEV_CMD_SNP_CONFIG:		return sizeof(struct sev_user_data_snp_config);
	case SEV_CMD_SNP_COMMIT:		return sizeof(struct sev_data_snp_commit);
	case SEV_CMD_SNP_VLEK_LOAD:		return sizeof(struct sev_user_data_snp_vlek_load);
	case SEV_CMD_SNP_FEATURE_INFO:		return sizeof(struct sev_data_snp_feature_info);
	default:				return 0;
	}
}

static int snp_reclaim_locked(struct sev_device *sev, u64 pfn)
{
	struct sev_data_snp_page_reclaim *cmd = &sev->snp->fixed_buf->reclaim;
	unsigned int status;
	int ret;

	cmd->paddr = __sme_set(PFN_PHYS(pfn));
	ret = sev_mailbox_locked(sev, SEV_CMD_SNP_PAGE_RECLAIM, __psp_pa(cmd), &status);
	if (ret)
		return ret;

	if (status) {
		dev_err_ratelimited(sev->dev, "SEV-SNP: reclaim of page %#llx failed, error %#x\n",
				    pfn, status);
		return -EIO;
	}

	return rmp_make_shared(pfn, PG_LEVEL_4K);
}

static int snp_take_back_pages(struct sev_device *sev, void *va, unsigned int nr)
{
	u64 pfn = PHYS_PFN(__pa(va));
	int ret = 0;

	while (nr-- && !ret)
		ret = snp_reclaim_locked(sev, pfn++);

	return ret;
}

/* Sets *@lost if pages that were lent already do not come back. */
static int snp_lend_pages(struct sev_device *sev, void *va, unsigned int nr, bool *lost)
{
	u64 pfn = PHYS_PFN(__pa(va));
	unsigned int i;
	int ret;

	*lost = false;

	/* It would keep them. */
	if (sev_firmware_is_dead())
		return -EBUSY;

	for (i = 0; i < nr; i++) {
		ret = rmp_make_private(pfn + i, 0, PG_LEVEL_4K, 0, true);
		if (ret) {
			*lost = snp_take_back_pages(sev, va, i);
			return ret;
		}
	}

	return 0;
}

/**
 * snp_leak - give up memory that the firmware may still use
 * @va: where the pointer to it is, which becomes NULL; may be NULL already
 * @size: its size in bytes, as it was allocated
 */
void snp_leak(void **va, size_t size)
{
	if (!*va)
		return;

	rmp_leak_pages(PHYS_PFN(__pa(*va)), 1UL << get_order(size));
	*va = NULL;
}

/**
 * snp_free - free memory that is the host's
 * @va: where the pointer to it is, which becomes NULL; may be NULL already
 * @size: its size in bytes, as it was allocated
 */
void snp_free(void **va, size_t size)
{
	if (*va)
		free_pages((unsigned long)*va, get_order(size));
	*va = NULL;
}

/**
 * snp_need - allocate memory that can be lent, unless there is some
 * @va: where the pointer to it is
 * @size: its size in bytes
 *
 * Return: the memory, or NULL.
 */
void *snp_need(void **va, size_t size)
{
	if (!*va)
		*va = (void *)__get_free_pages(GFP_KERNEL | __GFP_NOWARN, get_order(size));
	return *va;
}

/**
 * snp_lend_part - lend the first bytes of memory, see snp_lend()
 * @sev: the master device, with SNP initialized
 * @va: where the pointer to the memory is
 * @size: its size in bytes
 * @used: how many bytes of it to lend, rounded up to pages
 *
 * Context: process context, with sev_cmd_mutex held.
 * Return: as snp_lend().
 */
int snp_lend_part(struct sev_device *sev, void **va, size_t size, size_t used)
{
	bool lost;
	int ret;

	ret = snp_lend_pages(sev, *va, PAGE_ALIGN(used) >> PAGE_SHIFT, &lost);
	if (lost)
		snp_leak(va, size);
	else if (ret)
		snp_free(va, size);

	return ret;
}

/**
 * snp_take_back_part - undo snp_lend_part()
 * @sev: the master device
 * @va: where the pointer to the memory is
 * @size: its size in bytes
 * @used: how many bytes of it have been lent
 *
 * Context: process context, with sev_cmd_mutex held.
 * Return: as snp_take_back().
 */
int snp_take_back_part(struct sev_device *sev, void **va, size_t size, size_t used)
{
	int ret = snp_take_back_pages(sev, *va, PAGE_ALIGN(used) >> PAGE_SHIFT);

	if (ret)
		snp_leak(va, size);

	return ret;
}

/**
 * snp_lend - make memory the firmware's
 * @sev: the master device, with SNP initialized
 * @va: where the pointer to the memory is, which is from alloc_pages()
 * @size: its size in bytes
 *
 * Context: process context, with sev_cmd_mutex held.
 * Return: 0, -EBUSY if the firmware has stopped to answer commands, or the error
 * of RMPUPDATE. On error the memory is freed, or leaked if parts of it had to
 * stay with the firmware, and the pointer is NULL.
 */
int snp_lend(struct sev_device *sev, void **va, size_t size)
{
	return snp_lend_part(sev, va, size, size);
}

/**
 * snp_take_back - undo snp_lend()
 * @sev: the master device
 * @va: where the pointer to the memory is
 * @size: its size in bytes
 *
 * Context: process context, with sev_cmd_mutex held.
 * Return: 0, or an error. Then the memory is leaked and the pointer is NULL.
 */
int snp_take_back(struct sev_device *sev, void **va, size_t size)
{
	return snp_take_back_part(sev, va, size, size);
}

int snp_reclaim_page(u64 pfn)
{
	struct sev_device *sev;
	int ret = -ENODEV;

	mutex_lock(&sev_cmd_mutex);
	sev = psp_master ? psp_master->sev_data : NULL;
	if (sev && sev->snp)
		ret = snp_reclaim_locked(sev, pfn);
	mutex_unlock(&sev_cmd_mutex);

	return ret;
}
EXPORT_SYMBOL_GPL(snp_reclaim_page);

void *snp_alloc_firmware_page(gfp_t gfp)
{
	unsigned long va;

	if (!snp_platform_initialized())
		return NULL;

	va = get_zeroed_page(gfp);
	if (!va)
		return NULL;

	if (rmp_make_private(PHYS_PFN(__pa(va)), 0, PG_LEVEL_4K, 0, true)) {
		free_page(va);
		return NULL;
	}

	return (void *)va;
}
EXPORT_SYMBOL_GPL(snp_alloc_firmware_page);

void snp_free_firmware_page(void *addr)
{
	u64 pfn;

	if (!addr)
		return;

	pfn = PHYS_PFN(__pa(addr));
	if (snp_reclaim_page(pfn))
		rmp_leak_pages(pfn, 1);
	else
		free_page((unsigned long)addr);
}
EXPORT_SYMBOL_GPL(snp_free_firmware_page);
