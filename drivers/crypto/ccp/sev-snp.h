/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * AMD SEV-SNP: what the SEV driver needs of it
 *
 * All of these are for process context, with sev_cmd_mutex held. As long as SNP is
 * not initialized, there is nothing to lend, and the functions for commands, for
 * shutdown and for ioctls do nothing.
 */
#ifndef __SEV_SNP_H__
#define __SEV_SNP_H__

#include <linux/notifier.h>
#include <linux/psp-sev.h>
#include <linux/types.h>

struct sev_device;
struct sev_issue_cmd;

/* No command names more buffers to write to than this */
#define SNP_MAX_OUT		2

/*
 * When so many buffers of commands have not come back, something is wrong with
 * the firmware, and it gets no more of them.
 */
#define SNP_MAX_LOST		16

/**
 * struct snp_out - a buffer that a legacy command writes to
 * @buf: SEV_FW_BLOB_MAX_SIZE bytes for the firmware, NULL until needed
 * @lent: bytes of @buf that are the firmware's now
 * @address: what the caller has in the command
 * @where: offset of @address in the command
 */
struct snp_out {
	void *buf;
	u32 lent;
	u64 address;
	unsigned int where;
};

/**
 * struct snp_device - what there is while SNP is initialized in the firmware
 * @sev: the master device
 * @fixed_buf: command buffers of PAGE_RECLAIM and of the panic path; never lent
 * @cmd_buf: command buffer of legacy commands that write to it, NULL until needed
 * @cmd_buf_lent: whether @cmd_buf is the firmware's now
 * @out: what legacy commands write to; the first one also takes the platform's
 *	status
 * @lost: number of buffers that did not come back
 * @panic: entry in panic_notifier_list
 */
struct snp_device {
	struct sev_device *sev;
	struct snp_fixed_buf {
		struct sev_data_snp_page_reclaim reclaim;
		u64 pad;
		struct sev_data_snp_shutdown_ex shutdown;
	} *fixed_buf;
	void *cmd_buf;
	bool cmd_buf_lent;
	struct snp_out out[SNP_MAX_OUT];
	unsigned int lost;
	struct notifier_block panic;
};

/* Whether guests can be launched; written with sev_cmd_mutex held */
extern bool snp_ready;

int snp_cmd_buffer_len(int cmd);

int snp_lend(struct sev_device *sev, void **va, size_t size);
int snp_take_back(struct sev_device *sev, void **va, size_t size);
int snp_lend_part(struct sev_device *sev, void **va, size_t size, size_t used);
int snp_take_back_part(struct sev_device *sev, void **va, size_t size, size_t used);
void snp_leak(void **va, size_t size);
void snp_free(void **va, size_t size);
void *snp_need(void **va, size_t size);

int snp_lend_out(struct sev_device *sev, struct snp_out *out, u32 len);
void snp_take_back_out(struct sev_device *sev, struct snp_out *out);

int snp_begin_legacy_cmd(struct sev_device *sev, int cmd, int len, void **buf);
void snp_end_legacy_cmd(struct sev_device *sev, void *data, unsigned int status);
void snp_abort_legacy_cmd(struct sev_device *sev);

void snp_init_locked(struct sev_device *sev);
void snp_shutdown_locked(struct sev_device *sev);
void snp_destroy(struct sev_device *sev);

int snp_ioctl_platform_status(struct sev_issue_cmd *argp);
int snp_ioctl_commit(struct sev_issue_cmd *argp, bool writable);
int snp_ioctl_set_config(struct sev_issue_cmd *argp, bool writable);
int snp_ioctl_vlek_load(struct sev_issue_cmd *argp, bool writable);

#endif /* __SEV_SNP_H__ */
