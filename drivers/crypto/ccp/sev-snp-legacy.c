// SPDX-License-Identifier: GPL-2.0-only
/*
 * AMD SEV-SNP: the commands of SEV and SEV-ES while SNP is initialized
 *
 * Some of them write to their command buffer, or to buffers that it names. They get
 * copies, which are lent to the firmware for the time of the command, see
 * sev-snp-pages.c.
 */

#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/mem_encrypt.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/psp-sev.h>
#include <linux/stddef.h>
#include <linux/string.h>

#include <asm/unaligned.h>

#include "psp-dev.h"
#include "sev-dev.h"
#include "sev-snp.h"

/**
 * struct snp_legacy_cmd - a command that writes to memory of the host's
 * @id: SEV_CMD_*
 * @out: offsets of the address (u64) and the size in bytes (u32) of other
 *	buffers to which it writes
 * @nr_out: how many of those there are
 *
 * Guests' pages are no such buffers: memory of SEV and SEV-ES guests remains the
 * hypervisor's in the RMP, and the firmware encrypts and decrypts it in place
 * (LAUNCH_UPDATE_*, RECEIVE_UPDATE_*, DBG_ENCRYPT). What DBG_DECRYPT writes to
 * is the host's.
 */
struct snp_legacy_cmd {
	u16 id;
	u8 nr_out;
	struct {
		u8 address;
		u8 len;
	} out[SNP_MAX_OUT];
};

#define SNP_OUT(type, address, len) \
	{ offsetof(struct sev_data_##type, address), offsetof(struct sev_data_##type, len) }

/* SEV API (AMD publication 55766): parameters marked "Out" */
static const struct snp_legacy_cmd snp_legacy_cmds[] = {
	{ SEV_CMD_PLATFORM_STATUS },
	{ SEV_CMD_PEK_CSR, 1, { SNP_OUT(pek_csr, address, len) } },
	{ SEV_CMD_PDH_CERT_EXPORT, 2, {
		SNP_OUT(pdh_cert_export, pdh_cert_address, pdh_cert_len),
		SNP_OUT(pdh_cert_export, cert_chain_address, cert_chain_len) } },
	{ SEV_CMD_GET_ID, 1, { SNP_OUT(get_id, address, len) } },
	{ SEV_CMD_GUEST_STATUS },
	{ SEV_CMD_LAUNCH_START },
	{ SEV_CMD_LAUNCH_MEASURE, 1, { SNP_OUT(launch_measure, address, len) } },
	{ SEV_CMD_ATTESTATION_REPORT, 1, { SNP_OUT(attestation_report, address, len) } },
	{ SEV_CMD_SEND_START, 1, { SNP_OUT(send_start, session_address, session_len) } },
	{ SEV_CMD_SEND_UPDATE_DATA, 2, {
		SNP_OUT(send_update_data, hdr_address, hdr_len),
		SNP_OUT(send_update_data, trans_address, trans_len) } },
	{ SEV_CMD_SEND_UPDATE_VMSA, 2, {
		SNP_OUT(send_update_vmsa, hdr_address, hdr_len),
		SNP_OUT(send_update_vmsa, trans_address, trans_len) } },
	{ SEV_CMD_RECEIVE_START },
	{ SEV_CMD_DBG_DECRYPT, 1, { SNP_OUT(dbg, dst_addr, len) } },
};

static const struct snp_legacy_cmd *snp_find_legacy_cmd(int cmd)
{
	unsigned int i;

	/* There are many of those, one for each page of a launch. */
	if (cmd >= SEV_CMD_SNP_INIT)
		return NULL;

	for (i = 0; i < ARRAY_SIZE(snp_legacy_cmds); i++) {
		if (snp_legacy_cmds[i].id == cmd)
			return &snp_legacy_cmds[i];
	}

	return NULL;
}

/**
 * snp_lend_out - lend the firmware a buffer to write to
 * @sev: the master device, with SNP initialized
 * @out: the buffer
 * @len: its length in bytes, SEV_FW_BLOB_MAX_SIZE at most
 *
 * Context: process context, with sev_cmd_mutex held.
 * Return: 0, -ENOMEM, or an error of snp_lend().
 */
int snp_lend_out(struct sev_device *sev, struct snp_out *out, u32 len)
{
	int ret;

	if (!snp_need(&out->buf, SEV_FW_BLOB_MAX_SIZE))
		return -ENOMEM;

	memset(out->buf, 0, PAGE_ALIGN(len));
	ret = snp_lend_part(sev, &out->buf, SEV_FW_BLOB_MAX_SIZE, len);
	if (!ret)
		out->lent = len;

	return ret;
}

/**
 * snp_take_back_out - undo snp_lend_out(), if it has been done
 * @sev: the master device
 * @out: the buffer; its contents can be read even if it does not come back
 *
 * Context: process context, with sev_cmd_mutex held.
 */
void snp_take_back_out(struct sev_device *sev, struct snp_out *out)
{
	if (!out->lent)
		return;

	if (snp_take_back_part(sev, &out->buf, SEV_FW_BLOB_MAX_SIZE, out->lent))
		sev->snp->lost++;
	out->lent = 0;
}

/**
 * snp_abort_legacy_cmd - take back what snp_begin_legacy_cmd() has lent
 * @sev: the master device
 *
 * A firmware that does not answer gives nothing back, so that this leaks
 * everything it may still be using.
 */
void snp_abort_legacy_cmd(struct sev_device *sev)
{
	struct snp_device *snp = sev->snp;
	unsigned int i;

	if (!snp)
		return;

	for (i = 0; i < SNP_MAX_OUT; i++)
		snp_take_back_out(sev, &snp->out[i]);

	if (snp->cmd_buf_lent && snp_take_back(sev, &snp->cmd_buf, PAGE_SIZE))
		snp->lost++;
	snp->cmd_buf_lent = false;
}

/**
 * snp_begin_legacy_cmd - lend the firmware what a legacy command writes to
 * @sev: the master device
 * @cmd: number of the command
 * @len: size of its command buffer in bytes
 * @buf: where the pointer to the command buffer is; replaced for a command that
 *	writes there
 *
 * Buffers that the command names get replaced too. What is larger than
 * SEV_FW_BLOB_MAX_SIZE is presented to the firmware as of that size. Ends
 * with snp_end_legacy_cmd() or snp_abort_legacy_cmd().
 *
 * Context: process context, with sev_cmd_mutex held.
 * Return: 0; -ENOMEM; -EIO if too many buffers are gone; the error of RMPUPDATE.
 */
int snp_begin_legacy_cmd(struct sev_device *sev, int cmd, int len, void **buf)
{
	struct snp_device *snp = sev->snp;
	const struct snp_legacy_cmd *legacy;
	unsigned int i;
	int ret;

	if (!snp)
		return 0;

	legacy = snp_find_legacy_cmd(cmd);
	if (!legacy)
		return 0;

	if (snp->lost >= SNP_MAX_LOST)
		return -EIO;

	if (!snp_need(&snp->cmd_buf, PAGE_SIZE))
		return -ENOMEM;
	memcpy(snp->cmd_buf, *buf, len);

	for (i = 0; i < legacy->nr_out; i++) {
		u64 *address = snp->cmd_buf + legacy->out[i].address;
		u32 *size = snp->cmd_buf + legacy->out[i].len;
		struct snp_out *out = &snp->out[i];

		/* Who wants to know the size that is needed has no buffer. */
		out->address = get_unaligned(address);
		out->where = legacy->out[i].address;
		if (!out->address || !get_unaligned(size))
			continue;

		ret = snp_lend_out(sev, out, min_t(u32, get_unaligned(size), SEV_FW_BLOB_MAX_SIZE));
		if (ret)
			goto err;

		put_unaligned(__psp_pa(out->buf), address);
		put_unaligned(out->lent, size);
	}

	ret = snp_lend(sev, &snp->cmd_buf, PAGE_SIZE);
	if (ret)
		goto err;

	snp->cmd_buf_lent = true;
	*buf = snp->cmd_buf;

	return 0;

err:
	snp_abort_legacy_cmd(sev);
	return ret;
}

/**
 * snp_end_legacy_cmd - hand on what a legacy command has written
 * @sev: the master device
 * @data: the caller's command buffer, with what the firmware has written there
 * @status: the firmware's status code
 *
 * Pages that do not come back do not make a command fail that has been carried
 * out: what it wrote can be read nevertheless.
 *
 * Context: process context, with sev_cmd_mutex held.
 */
void snp_end_legacy_cmd(struct sev_device *sev, void *data, unsigned int status)
{
	struct snp_device *snp = sev->snp;
	unsigned int i;

	if (!snp || !snp->cmd_buf_lent)
		return;

	for (i = 0; i < SNP_MAX_OUT; i++) {
		struct snp_out *out = &snp->out[i];

		if (!out->lent)
			continue;

		/* The address is a kernel one's, in the direct map */
		if (!status)
			memcpy(__va(__sme_clr(out->address)), out->buf, out->lent);
		put_unaligned(out->address, (u64 *)(data + out->where));
	}

	snp_abort_legacy_cmd(sev);
}
