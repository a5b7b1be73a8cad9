// SPDX-License-Identifier: GPL-2.0-only
/*
 * AMD SEV-SNP: initialization and shutdown of the firmware
 *
 * References are to the SEV-SNP Firmware ABI Specification (AMD publication
 * 56860).
 */

#include <linux/cc_platform.h>
#include <linux/device.h>
#include <linux/err.h>
#include <linux/errno.h>
#include <linux/amd-iommu.h>	/* needs errno.h */
#include <linux/gfp.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/notifier.h>
#include <linux/panic_notifier.h>
#include <linux/psp-sev.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include <asm/msr.h>
#include <asm/rmp.h>
#include <asm/smp.h>
#include <asm/special_insns.h>

#include "psp-dev.h"
#include "sev-dev.h"
#include "sev-snp.h"

/* The oldest firmware that KVM's SNP guests can be run with */
#define SNP_MIN_API_MAJOR	1
#define SNP_MIN_API_MINOR	51
/* The first one that takes a list of ranges */
#define SNP_INIT_EX_API_MINOR	52

/* The list is one page (8.8.3, SNP_INIT_EX) */
#define SNP_MAX_RANGES \
	((PAGE_SIZE - sizeof(struct sev_data_range_list)) / sizeof(struct sev_data_range))

/*
 * SNP_INIT wants VM_HSAVE_PA to be 0 everywhere. It is not KVM's then. This is
 * the best that can be done: if SNP is initialized late (psp_init_on_probe=0), KVM
 * can enable SVM on a processor right after this, and even run a guest while the
 * command is carried out. The firmware refuses if it finds another value.
 */
static void snp_clear_hsave(void *arg)
{
	atomic_t *busy = arg;
	u64 efer;

	rdmsrl(MSR_EFER, efer);
	if (efer & EFER_SVME)
		atomic_inc(busy);
	else
		wrmsrl(MSR_VM_HSAVE_PA, 0);
}

static int snp_add_range(struct resource *res, void *arg)
{
	struct sev_data_range_list *list = arg;
	u64 start = round_down(res->start, PAGE_SIZE);
	u64 nr = PHYS_PFN(round_up(res->end + 1, PAGE_SIZE) - start);
	struct sev_data_range *range = &list->ranges[list->num_elements];

	if (list->num_elements >= SNP_MAX_RANGES || nr > U32_MAX)
		return -E2BIG;

	range->base = start;
	range->page_count = nr;
	list->num_elements++;

	return 0;
}

/* Memory that is the platform's or a file system's: no one may assign it */
static struct sev_data_range_list *snp_fixed_ranges(void)
{
	static const unsigned long descs[] = {
		IORES_DESC_RESERVED,
		IORES_DESC_ACPI_TABLES,
		IORES_DESC_ACPI_NV_STORAGE,
		IORES_DESC_PERSISTENT_MEMORY,
		IORES_DESC_PERSISTENT_MEMORY_LEGACY,
	};
	struct sev_data_range_list *list;
	unsigned int i;

	list = (void *)get_zeroed_page(GFP_KERNEL);
	if (!list)
		return ERR_PTR(-ENOMEM);

	for (i = 0; i < ARRAY_SIZE(descs); i++) {
		/* -EINVAL means that there is none */
		if (walk_iomem_res_desc(descs[i], IORESOURCE_MEM, 0, -1, list,
					snp_add_range) == -E2BIG) {
			free_page((unsigned long)list);
			return ERR_PTR(-E2BIG);
		}
	}

	return list;
}

static int snp_do_init(struct sev_device *sev, int *error)
{
	struct sev_data_snp_init_ex data = { .init_rmp = 1 };
	struct sev_data_range_list *list;
	int ret;

	if (sev->api_minor < SNP_INIT_EX_API_MINOR && sev->api_major == SNP_MIN_API_MAJOR) {
		wbinvd_on_all_cpus();
		return __sev_do_cmd_locked(SEV_CMD_SNP_INIT, NULL, error);
	}

	list = snp_fixed_ranges();
	if (IS_ERR(list))
		return PTR_ERR(list);

	data.list_paddr_en = 1;
	data.list_paddr = __psp_pa(list);

	/* What the caches hold must not be written back over the firmware's */
	wbinvd_on_all_cpus();
	ret = __sev_do_cmd_locked(SEV_CMD_SNP_INIT_EX, &data, error);
	/* The firmware may read it later, if it did not answer. */
	if (ret == -ETIMEDOUT)
		rmp_leak_pages(PHYS_PFN(__pa(list)), 1);
	else
		free_page((unsigned long)list);

	return ret;
}

static void snp_free_device(struct snp_device *snp)
{
	unsigned int i;

	for (i = 0; i < SNP_MAX_OUT; i++)
		snp_free(&snp->out[i].buf, SEV_FW_BLOB_MAX_SIZE);
	snp_free(&snp->cmd_buf, PAGE_SIZE);
	free_page((unsigned long)snp->fixed_buf);
	kfree(snp);
}

static struct snp_device *snp_alloc_device(struct sev_device *sev)
{
	struct snp_device *snp;

	snp = kzalloc(sizeof(*snp), GFP_KERNEL);
	if (!snp)
		return NULL;

	snp->sev = sev;
	snp->fixed_buf = (void *)get_zeroed_page(GFP_KERNEL);
	if (!snp->fixed_buf) {
		kfree(snp);
		return NULL;
	}

	return snp;
}

static int snp_df_flush(int *error)
{
	wbinvd_on_all_cpus();
	return __sev_do_cmd_locked(SEV_CMD_SNP_DF_FLUSH, NULL, error);
}

/*
 * The firmware has to forget the memory that it, the IOMMU included, writes to,
 * or the next kernel cannot use it. All other processors have been stopped, and
 * have written back their caches on the way; sev_cmd_mutex may be held by one of
 * them, or by whom this has interrupted. Pages that are lent stay so: the
 * next kernel initializes the RMP.
 *
 * Firmware may refuse to shut down while SNP guests exist, and it is not
 * the time to destroy them. A kernel that dumps the crashed one then runs
 * with SNP initialized, which it need not care about in memory of its own.
 */
static int snp_panic(struct notifier_block *nb, unsigned long reason, void *arg)
{
	struct snp_device *snp = container_of(nb, struct snp_device, panic);
	struct sev_data_snp_shutdown_ex *cmd = &snp->fixed_buf->shutdown;
	struct sev_device *sev = snp->sev;
	unsigned int status, tries;
	int ret;

	ret = sev_mailbox_panic(sev, SEV_CMD_SHUTDOWN, 0, &status);
	if (ret || status)
		dev_err(sev->dev, "SEV: SHUTDOWN failed, error %#x, rc %d\n",
			ret ? SEV_RET_NO_FW_CALL : status, ret);

	cmd->len = sizeof(*cmd);
	cmd->iommu_snp_shutdown = 1;
	for (tries = 0; tries < 2; tries++) {
		wbinvd();
		ret = sev_mailbox_panic(sev, SEV_CMD_SNP_SHUTDOWN_EX, __psp_pa(cmd), &status);
		if (ret || status != SEV_RET_DFFLUSH_REQUIRED || tries)
			break;

		ret = sev_mailbox_panic(sev, SEV_CMD_SNP_DF_FLUSH, 0, &status);
		if (ret || status)
			break;
	}

	if (ret || status) {
		dev_err(sev->dev, "SEV-SNP: shutdown failed, error %#x, rc %d\n",
			ret ? SEV_RET_NO_FW_CALL : status, ret);
		return NOTIFY_DONE;
	}

	if (amd_iommu_snp_disable())
		dev_err(sev->dev, "SEV-SNP: the IOMMU's buffers stay the firmware's\n");

	return NOTIFY_DONE;
}

/**
 * snp_shutdown_locked - shut down SNP in the firmware
 * @sev: the master device
 *
 * What has been lent must have been taken back or leaked, as the firmware gives
 * back nothing afterwards. On failure, which is reported, SNP remains initialized.
 *
 * Context: process context, with sev_cmd_mutex held.
 */
void snp_shutdown_locked(struct sev_device *sev)
{
	struct sev_data_snp_shutdown_ex data = {
		.len = sizeof(data),
		.iommu_snp_shutdown = 1,
	};
	int error = SEV_RET_NO_FW_CALL, ret;
	unsigned int tries;

	if (!sev->snp)
		return;

	WRITE_ONCE(snp_ready, false);

	/* ASIDs that guests had, or all of them, may have to be flushed first. */
	for (tries = 0; tries < 2; tries++) {
		wbinvd_on_all_cpus();
		ret = __sev_do_cmd_locked(SEV_CMD_SNP_SHUTDOWN_EX, &data, &error);
		if (!ret || error != SEV_RET_DFFLUSH_REQUIRED || tries)
			break;

		ret = snp_df_flush(&error);
		if (ret)
			break;
	}

	if (ret) {
		dev_err(sev->dev, "SEV-SNP: shutdown failed, error %#x, rc %d\n", error, ret);
		return;
	}

	if (amd_iommu_snp_disable())
		dev_err(sev->dev, "SEV-SNP: the IOMMU's buffers stay the firmware's\n");

	snp_destroy(sev);
	dev_dbg(sev->dev, "SEV-SNP firmware shutdown\n");
}

/**
 * snp_destroy - forget about SNP
 * @sev: the master device
 *
 * If the firmware has not been shut down, it is left alone from now on.
 */
void snp_destroy(struct sev_device *sev)
{
	struct snp_device *snp = sev->snp;

	if (!snp)
		return;

	atomic_notifier_chain_unregister(&panic_notifier_list, &snp->panic);
	sev->snp = NULL;
	snp_free_device(snp);
}

/**
 * snp_init_locked - initialize SNP, if the host has it
 * @sev: the master device
 *
 * Tried once: the older firmware must not be initialized, and KVM must not run,
 * which is so when this driver is loaded before KVM is. Later it is likely only,
 * see snp_clear_hsave(). Failure, which is reported, leaves SEV and SEV-ES usable
 * as without SNP.
 *
 * Context: process context, with sev_cmd_mutex held.
 */
void snp_init_locked(struct sev_device *sev)
{
	int error = SEV_RET_NO_FW_CALL, ret;
	struct snp_device *snp;
	static bool tried;
	atomic_t busy = ATOMIC_INIT(0);

	if (tried || !cc_platform_has(CC_ATTR_HOST_SEV_SNP))
		return;

	/* An ioctl while the driver is still being loaded */
	if (!sev->api_major)
		return;
	tried = true;

	if (sev->api_major < SNP_MIN_API_MAJOR ||
	    (sev->api_major == SNP_MIN_API_MAJOR && sev->api_minor < SNP_MIN_API_MINOR)) {
		dev_info(sev->dev, "SEV-SNP: needs API %d.%d, the firmware's is %d.%d\n",
			 SNP_MIN_API_MAJOR, SNP_MIN_API_MINOR, sev->api_major, sev->api_minor);
		return;
	}

	if (sev->state != SEV_STATE_UNINIT) {
		dev_err(sev->dev, "SEV-SNP: SEV is initialized already\n");
		return;
	}

	on_each_cpu(snp_clear_hsave, &busy, 1);
	if (atomic_read(&busy)) {
		dev_err(sev->dev, "SEV-SNP: virtual machines run already\n");
		return;
	}

	snp = snp_alloc_device(sev);
	if (!snp) {
		dev_err(sev->dev, "SEV-SNP: out of memory\n");
		return;
	}

	ret = snp_do_init(sev, &error);
	if (ret) {
		dev_err(sev->dev, "SEV-SNP: failed to INIT error %#x, rc %d\n", error, ret);
		snp_free_device(snp);
		return;
	}

	sev->snp = snp;
	snp->panic.notifier_call = snp_panic;
	atomic_notifier_chain_register(&panic_notifier_list, &snp->panic);

	/* Before the first guest is launched */
	ret = snp_df_flush(&error);
	if (ret) {
		dev_err(sev->dev, "SEV-SNP: failed to flush, error %#x, rc %d\n", error, ret);
		snp_shutdown_locked(sev);
		return;
	}

	WRITE_ONCE(snp_ready, true);
	dev_info(sev->dev, "SEV-SNP API:%d.%d build:%d\n", sev->api_major,
		 sev->api_minor, sev->build);
}
