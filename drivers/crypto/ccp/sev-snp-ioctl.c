// SPDX-License-Identifier: GPL-2.0-only
/*
 * AMD SEV-SNP: ioctls of /dev/sev
 *
 * All are called with sev_cmd_mutex held.
 */

#include <linux/build_bug.h>
#include <linux/err.h>
#include <linux/errno.h>
#include <linux/mm.h>
#include <linux/psp-sev.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "psp-dev.h"
#include "sev-dev.h"
#include "sev-snp.h"

/* The layouts are the ABI */
static_assert(sizeof(struct sev_user_data_snp_status) == 32);
static_assert(sizeof(struct sev_user_data_snp_config) == 64);
static_assert(sizeof(struct sev_user_data_snp_vlek_load) == 16);
static_assert(sizeof(struct sev_user_data_snp_wrapped_vlek_hashstick) == 432);

/* Returns the master device if SNP is initialized */
static struct sev_device *snp_ioctl_device(void)
{
	struct sev_device *sev = psp_master ? psp_master->sev_data : NULL;

	lockdep_assert_held(&sev_cmd_mutex);
	return sev && sev->snp ? sev : NULL;
}

int snp_ioctl_platform_status(struct sev_issue_cmd *argp)
{
	struct sev_device *sev = snp_ioctl_device();
	struct sev_user_data_snp_status status;
	struct sev_data_snp_addr data;
	struct snp_out *out;
	int ret;

	if (!sev || !argp->data)
		return -EINVAL;

	argp->error = SEV_RET_NO_FW_CALL;
	if (sev->snp->lost >= SNP_MAX_LOST)
		return -EIO;

	out = &sev->snp->out[0];
	ret = snp_lend_out(sev, out, sizeof(status));
	if (ret)
		return ret;

	data.address = __psp_pa(out->buf);
	ret = __sev_do_cmd_locked(SEV_CMD_SNP_PLATFORM_STATUS, &data, &argp->error);
	/* If the firmware has not answered, the buffer may be gone already. */
	if (!ret)
		memcpy(&status, out->buf, sizeof(status));
	snp_take_back_out(sev, out);
	if (ret)
		return ret;

	if (copy_to_user((void __user *)argp->data, &status, sizeof(status)))
		return -EFAULT;

	return 0;
}

/* There is no way back from it, so that a file open for reading does not do */
int snp_ioctl_commit(struct sev_issue_cmd *argp, bool writable)
{
	struct sev_data_snp_commit data = { .len = sizeof(data) };

	if (!snp_ioctl_device())
		return -EINVAL;

	if (!writable)
		return -EPERM;

	return __sev_do_cmd_locked(SEV_CMD_SNP_COMMIT, &data, &argp->error);
}

int snp_ioctl_set_config(struct sev_issue_cmd *argp, bool writable)
{
	struct sev_user_data_snp_config config;

	if (!snp_ioctl_device() || !argp->data)
		return -EINVAL;

	if (!writable)
		return -EPERM;

	if (copy_from_user(&config, (void __user *)argp->data, sizeof(config)))
		return -EFAULT;

	return __sev_do_cmd_locked(SEV_CMD_SNP_CONFIG, &config, &argp->error);
}

int snp_ioctl_vlek_load(struct sev_issue_cmd *argp, bool writable)
{
	struct sev_user_data_snp_vlek_load input;
	void *blob;
	int ret;

	if (!snp_ioctl_device() || !argp->data)
		return -EINVAL;

	if (!writable)
		return -EPERM;

	if (copy_from_user(&input, (void __user *)argp->data, sizeof(input)))
		return -EFAULT;

	if (input.len != sizeof(input) || input.vlek_wrapped_version != 0)
		return -EINVAL;

	blob = psp_copy_user_blob(input.vlek_wrapped_address,
				  sizeof(struct sev_user_data_snp_wrapped_vlek_hashstick));
	if (IS_ERR(blob))
		return PTR_ERR(blob);

	input.vlek_wrapped_address = __psp_pa(blob);
	ret = __sev_do_cmd_locked(SEV_CMD_SNP_VLEK_LOAD, &input, &argp->error);
	kfree(blob);

	return ret;
}
