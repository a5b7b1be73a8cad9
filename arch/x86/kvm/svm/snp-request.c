// SPDX-License-Identifier: GPL-2.0-only
/*
 * SEV-SNP guests: messages to the firmware
 *
 * Guest and firmware talk in messages that KVM cannot read.  The request is
 * copied, for the guest must not change what the firmware looks at; the answer
 * is written to a page that is the firmware's, and copied from there.
 *
 * Sources: GHCB specification (56421), 4.1.7 and 4.1.8; SEV-SNP Firmware ABI
 * (56860), 8.26.
 */
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/psp-sev.h>

#include <asm/sev-common.h>

#include "snp.h"

/* For the upper half of SW_EXITINFO2: the guest may try again; 56421, 4.1.7 */
#define SNP_REQUEST_BUSY	(2ULL << 32)

/**
 * snp_free_requests() - undo snp_init_requests()
 * @kvm: the VM
 */
void snp_free_requests(struct kvm *kvm)
{
	struct kvm_sev_info *sev = to_kvm_sev_info(kvm);

	if (sev->snp_response)
		snp_free_firmware_page(sev->snp_response);
	free_page((unsigned long)sev->snp_request);
	sev->snp_response = NULL;
	sev->snp_request = NULL;
}

/**
 * snp_init_requests() - get what a VM's messages to the firmware need
 * @kvm: the VM, whose SEV part is being initialised
 *
 * Return: 0 or -ENOMEM.
 */
int snp_init_requests(struct kvm *kvm)
{
	struct kvm_sev_info *sev = to_kvm_sev_info(kvm);

	mutex_init(&sev->snp_request_lock);
	sev->snp_request = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!sev->snp_request)
		return -ENOMEM;

	sev->snp_response = snp_alloc_firmware_page(GFP_KERNEL_ACCOUNT |
						    __GFP_ZERO);
	if (sev->snp_response)
		return 0;

	snp_free_requests(kvm);
	return -ENOMEM;
}

/**
 * snp_guest_request() - carry a message to the firmware, and its answer back
 * @svm: the vCPU, its GHCB mapped
 * @req: where the guest has its message, a page
 * @resp: where it wants the answer, a page
 *
 * Return: as exit handlers do.
 */
int snp_guest_request(struct vcpu_svm *svm, gpa_t req, gpa_t resp)
{
	struct kvm *kvm = svm->vcpu.kvm;
	struct kvm_sev_info *sev = to_kvm_sev_info(kvm);
	struct sev_data_snp_guest_request cmd = {};
	int error = 0, r;

	if (!sev->snp_context || !PAGE_ALIGNED(req) || !PAGE_ALIGNED(resp) ||
	    req == resp)
		return sev_es_bad_request(svm, GHCB_ERR_INVALID_INPUT);

	if (mutex_lock_killable(&sev->snp_request_lock))
		return -EINTR;

	if (kvm_read_guest(kvm, req, sev->snp_request, PAGE_SIZE)) {
		r = sev_es_bad_request(svm, GHCB_ERR_INVALID_INPUT);
		goto out;
	}

	cmd.gctx_paddr = __psp_pa(sev->snp_context);
	cmd.req_paddr = __psp_pa(sev->snp_request);
	cmd.res_paddr = __psp_pa(sev->snp_response);
	r = sev_do_cmd(SEV_CMD_SNP_GUEST_REQUEST, &cmd, &error);
	/*
	 * Not the firmware's verdict, but no firmware.  If the vCPU is run again
	 * nevertheless, it must not take this for an answer: it can try again.
	 */
	if (r && (!error || error == -1)) {
		ghcb_set_sw_exit_info_2(svm->sev_es.ghcb, SNP_REQUEST_BUSY);
		goto out;
	}

	if (kvm_write_guest(kvm, resp, sev->snp_response, PAGE_SIZE)) {
		r = sev_es_bad_request(svm, GHCB_ERR_INVALID_INPUT);
		goto out;
	}

	/* The firmware's error is the lower half, the upper one is KVM's. */
	ghcb_set_sw_exit_info_2(svm->sev_es.ghcb, (u32)error);
	r = 1;
out:
	mutex_unlock(&sev->snp_request_lock);
	return r;
}

/* Where a message has its type, and that of a request for a report; 8.26 */
#define SNP_MSG_TYPE_OFFSET	0x34
#define SNP_MSG_REPORT_REQ	5

/**
 * snp_ext_guest_request() - the same, and a chain of certificates is wanted
 * @svm: the vCPU, its GHCB mapped
 * @req: where the guest has its message, a page
 * @resp: where it wants the answer, a page
 *
 * The chain is to be put in RBX pages at RAX.  There is none: a table of which the
 * first entry is the last, all zeroes.
 *
 * Return: as exit handlers do.
 */
int snp_ext_guest_request(struct vcpu_svm *svm, gpa_t req, gpa_t resp)
{
	struct kvm_vcpu *vcpu = &svm->vcpu;
	gpa_t data = vcpu->arch.regs[VCPU_REGS_RAX];
	u64 npages = vcpu->arch.regs[VCPU_REGS_RBX];
	static const u8 last_entry[24];
	u8 type;

	if (!PAGE_ALIGNED(req) ||
	    kvm_read_guest(vcpu->kvm, req + SNP_MSG_TYPE_OFFSET, &type, 1))
		return sev_es_bad_request(svm, GHCB_ERR_INVALID_INPUT);

	if (type == SNP_MSG_REPORT_REQ && npages) {
		if (!PAGE_ALIGNED(data) ||
		    kvm_write_guest(vcpu->kvm, data, last_entry,
				    sizeof(last_entry)))
			return sev_es_bad_request(svm, GHCB_ERR_INVALID_INPUT);
	}
	return snp_guest_request(svm, req, resp);
}
