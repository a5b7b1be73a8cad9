// SPDX-License-Identifier: GPL-2.0-only
/*
 * SEV-SNP guests: launch and end
 *
 * Private memory is in a guest_memfd.  At launch KVM gives pages with their first
 * content to the firmware, which encrypts and measures them, page by page, and
 * then the state of the vCPUs.  Meanwhile they are immutable: only the firmware
 * can let go of them.
 *
 * A page that cannot be taken back is leaked: whoever got it next would die
 * from writing to it.  As long as there is one, or if the firmware does not let
 * go of the guest, nobody else can have the guest's ASID.
 *
 * Sources: AMD64 APM volume 2 (24593), 15.36; SEV-SNP Firmware ABI (56860).
 */
#include <linux/cacheflush.h>
#include <linux/highmem.h>
#include <linux/kvm_gmem.h>
#include <linux/kvm_host.h>
#include <linux/psp-sev.h>
#include <linux/uaccess.h>

#include <asm/rmp.h>

#include "snp.h"
#include "x86.h"

/* Where the firmware says that KVM's VMSAs are, Firmware ABI 8.18 */
#define SNP_LAUNCH_VMSA_GPA	0xfffffffff000ULL

/* What the ID block and its authentication take, Firmware ABI 8.18 */
#define SNP_ID_BLOCK_SIZE	96
#define SNP_ID_AUTH_SIZE	4096

/* --- the VM ------------------------------------------------------------- */

/* Let the firmware forget a guest.  If it does not, nobody can use the ASID. */
static void snp_decommission(struct kvm_sev_info *sev, void *context)
{
	struct sev_data_snp_addr cmd = { .address = __psp_pa(context) };
	int error = 0, r;

	/* Not while others flush: the ASID is dirty from then on. */
	down_write(&sev_deactivate_lock);
	r = sev_do_cmd(SEV_CMD_SNP_DECOMMISSION, &cmd, &error);
	up_write(&sev_deactivate_lock);
	if (r) {
		pr_err_ratelimited("SEV-SNP: cannot decommission a guest, error %#x: its context and ASID are lost\n",
				   error);
		rmp_leak_pages(PHYS_PFN(__pa(context)), 1);
		sev->snp_asid_lost = true;
		return;
	}

	/* It is the firmware's now, which gives it back, or it is leaked. */
	snp_free_firmware_page(context);
}

/**
 * snp_destroy_vm() - let the firmware forget a guest
 * @kvm: the VM, which has no private memory any more, and whose vCPUs do not run
 *
 * If the ASID must not be used again, snp_asid_lost is set.
 */
void snp_destroy_vm(struct kvm *kvm)
{
	struct kvm_sev_info *sev = to_kvm_sev_info(kvm);
	struct kvm_vcpu *vcpu;
	unsigned long i;

	/* The ASID is not free before the last page that has it. */
	kvm_for_each_vcpu(i, vcpu, kvm)
		snp_free_vmsa(to_svm(vcpu));

	if (sev->snp_context)
		snp_decommission(sev, sev->snp_context);
	sev->snp_context = NULL;
}

/* --- launch ------------------------------------------------------------- */

/* All launch commands: kvm->lock held. */

/**
 * snp_launch_start() - KVM_SEV_SNP_LAUNCH_START
 * @kvm: the VM
 * @argp: the command; its error is set
 *
 * Return: 0; -EINVAL for bad arguments, or if it has been done; -EFAULT;
 * -ENOMEM; -EIO and others if the firmware refuses; -EIO if the ASID is lost.
 */
int snp_launch_start(struct kvm *kvm, struct kvm_sev_cmd *argp)
{
	struct kvm_sev_info *sev = to_kvm_sev_info(kvm);
	struct sev_data_snp_launch_start start = {};
	struct kvm_sev_snp_launch_start params;
	struct sev_data_snp_activate activate = {};
	struct sev_data_snp_addr create = {};
	void *context;
	int r;

	if (copy_from_user(&params, u64_to_user_ptr(argp->data), sizeof(params)))
		return -EFAULT;

	if (sev->snp_context || params.flags ||
	    params.policy & ~SNP_POLICY_BITS ||
	    !(params.policy & SNP_POLICY_RSVD_MBO))
		return -EINVAL;

	/* Each try would cost another page. */
	if (sev->snp_asid_lost) {
		argp->error = SEV_RET_NO_FW_CALL;
		return -EIO;
	}

	context = snp_alloc_firmware_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!context)
		return -ENOMEM;

	create.address = __psp_pa(context);
	r = sev_issue_cmd_fd(argp->sev_fd, SEV_CMD_SNP_GCTX_CREATE, &create,
			     &argp->error);
	if (r) {
		snp_free_firmware_page(context);
		return r;
	}

	start.gctx_paddr = __psp_pa(context);
	start.policy = params.policy;
	memcpy(start.gosvw, params.gosvw, sizeof(params.gosvw));
	r = sev_issue_cmd_fd(argp->sev_fd, SEV_CMD_SNP_LAUNCH_START, &start,
			     &argp->error);
	if (r)
		goto out_decommission;

	activate.gctx_paddr = __psp_pa(context);
	activate.asid = sev->asid;
	r = sev_issue_cmd_fd(argp->sev_fd, SEV_CMD_SNP_ACTIVATE, &activate,
			     &argp->error);
	/*
	 * Pages of an earlier guest that had the ASID could not be taken back.
	 * They are leaked, and so is the ASID.
	 */
	if (r && argp->error == SEV_RET_INAVLID_CONFIG)
		sev->snp_asid_lost = true;
	if (r)
		goto out_decommission;

	sev->snp_context = context;
	sev->fd = argp->sev_fd;
	return 0;

out_decommission:
	snp_decommission(sev, context);
	return r;
}

struct snp_fill {
	struct kvm_sev_cmd *argp;
	u8 type;
};

static int snp_fill_page(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn,
			 struct page *src, void *opaque)
{
	struct kvm_sev_info *sev = to_kvm_sev_info(kvm);
	struct sev_data_snp_launch_update cmd = {};
	struct snp_fill *fill = opaque;
	struct page *page = pfn_to_page(pfn);
	enum pg_level level;
	bool assigned;
	int r;

	r = rmp_lookup(pfn, &assigned, &level);
	if (r || assigned)
		return r ?: -EINVAL;

	if (src)
		copy_highpage(page, src);

	r = rmp_make_private(pfn, gfn_to_gpa(gfn), PG_LEVEL_4K, sev->asid, true);
	if (r)
		return r;

	cmd.gctx_paddr = __psp_pa(sev->snp_context);
	cmd.address = __sme_set(pfn_to_hpa(pfn));
	cmd.page_type = fill->type;
	r = sev_issue_cmd_fd(fill->argp->sev_fd, SEV_CMD_SNP_LAUNCH_UPDATE,
			     &cmd, &fill->argp->error);
	if (!r)
		return 0;

	/*
	 * If it does not come back nobody may touch it: it stays in the file as
	 * if the memory had failed, and is leaked when it leaves.  Up to date,
	 * so that it is not zeroed even by a kernel that knows no such failures.
	 */
	if (snp_reclaim_page(pfn)) {
		SetPageHWPoison(page);
		SetPageUptodate(page);
		to_kvm_sev_info(kvm)->snp_asid_lost = true;
		return r;
	}

	/* The firmware has corrected what it did not like in the table. */
	if (fill->type == KVM_SEV_SNP_PAGE_TYPE_CPUID && src &&
	    fill->argp->error == SEV_RET_INVALID_PARAM)
		copy_highpage(src, page);
	return r;
}

/**
 * snp_launch_update() - KVM_SEV_SNP_LAUNCH_UPDATE
 * @kvm: the VM
 * @argp: the command; its error is set, and what is left to do is written to
 *	userspace's parameters
 *
 * Return: 0 if there was progress; -EINVAL for bad arguments, or if a page is not
 * private memory or not the host's; -EEXIST if the guest has it already;
 * -EFAULT; -EINTR; -ENOMEM; -EAGAIN if a huge folio cannot be split now; -EIO and
 * others if the firmware refuses; -EHWPOISON if a page was lost when it did so
 * before.
 */
int snp_launch_update(struct kvm *kvm, struct kvm_sev_cmd *argp)
{
	void __user *data = u64_to_user_ptr(argp->data);
	struct kvm_sev_snp_launch_update params;
	struct snp_fill fill = { .argp = argp };
	void __user *src = NULL;
	long done;

	if (!to_kvm_sev_info(kvm)->snp_context)
		return -EINVAL;

	if (copy_from_user(&params, data, sizeof(params)))
		return -EFAULT;

	if (params.flags || !params.len || !PAGE_ALIGNED(params.len))
		return -EINVAL;

	switch (params.type) {
	case KVM_SEV_SNP_PAGE_TYPE_ZERO:
		break;
	case KVM_SEV_SNP_PAGE_TYPE_NORMAL:
	case KVM_SEV_SNP_PAGE_TYPE_UNMEASURED:
	case KVM_SEV_SNP_PAGE_TYPE_SECRETS:
	case KVM_SEV_SNP_PAGE_TYPE_CPUID:
		if (!params.uaddr || !PAGE_ALIGNED(params.uaddr))
			return -EINVAL;
		src = u64_to_user_ptr(params.uaddr);
		break;
	default:
		return -EINVAL;
	}
	fill.type = params.type;

	if (mutex_lock_killable(&kvm->slots_lock))
		return -EINTR;
	done = kvm_gmem_populate(kvm, params.gfn_start, src,
				 params.type == KVM_SEV_SNP_PAGE_TYPE_CPUID,
				 params.len >> PAGE_SHIFT, snp_fill_page, &fill);
	mutex_unlock(&kvm->slots_lock);
	if (done < 0)
		return done;

	/* Whatever stopped it will say so again. */
	argp->error = 0;
	params.gfn_start += done;
	params.len -= done << PAGE_SHIFT;
	if (src)
		params.uaddr += done << PAGE_SHIFT;
	return copy_to_user(data, &params, sizeof(params)) ? -EFAULT : 0;
}

static int snp_launch_vmsa(struct kvm_vcpu *vcpu, struct kvm_sev_cmd *argp)
{
	struct kvm_sev_info *sev = to_kvm_sev_info(vcpu->kvm);
	struct sev_data_snp_launch_update cmd = {};
	struct vcpu_svm *svm = to_svm(vcpu);
	u64 pfn;
	int r;

	/* From a try that failed later. */
	if (vcpu->arch.guest_state_protected)
		return 0;

	/* From a try in which it was lost. */
	if (!svm->sev_es.vmsa)
		return -EIO;

	r = sev_es_sync_vmsa(svm);
	if (r)
		return r;

	pfn = __pa(svm->sev_es.vmsa) >> PAGE_SHIFT;
	r = rmp_make_private(pfn, SNP_LAUNCH_VMSA_GPA, PG_LEVEL_4K, sev->asid,
			     true);
	if (r)
		return r;

	cmd.gctx_paddr = __psp_pa(sev->snp_context);
	cmd.address = __sme_pa(svm->sev_es.vmsa);
	cmd.page_type = SNP_PAGE_TYPE_VMSA;
	r = sev_issue_cmd_fd(argp->sev_fd, SEV_CMD_SNP_LAUNCH_UPDATE, &cmd,
			     &argp->error);
	if (r) {
		if (snp_reclaim_page(pfn)) {
			rmp_leak_pages(pfn, 1);
			sev->snp_asid_lost = true;
			svm->sev_es.vmsa = NULL;
			svm->vmcb->control.vmsa_pa = INVALID_PAGE;
		}
		return r;
	}

	fpstate_set_confidential(&vcpu->arch.guest_fpu);
	vcpu->arch.guest_state_protected = true;
	return 0;
}

/* None of the vCPUs may run, or be created, while their state is taken. */
static int snp_lock_vcpus(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long i, j;

	if (kvm->created_vcpus != atomic_read(&kvm->online_vcpus))
		return -EBUSY;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		if (!mutex_trylock(&vcpu->mutex))
			goto busy;
#ifdef CONFIG_DEBUG_LOCK_ALLOC
		/* Lockdep can follow one of them only; see sev.c. */
		if (i)
			mutex_release(&vcpu->mutex.dep_map, _THIS_IP_);
#endif
	}
	return 0;

busy:
	kvm_for_each_vcpu(j, vcpu, kvm) {
		if (j == i)
			break;
#ifdef CONFIG_DEBUG_LOCK_ALLOC
		if (j)
			mutex_acquire(&vcpu->mutex.dep_map, 0, 0, _THIS_IP_);
#endif
		mutex_unlock(&vcpu->mutex);
	}
	return -EBUSY;
}

static void snp_unlock_vcpus(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvm_for_each_vcpu(i, vcpu, kvm) {
#ifdef CONFIG_DEBUG_LOCK_ALLOC
		if (i)
			mutex_acquire(&vcpu->mutex.dep_map, 0, 0, _THIS_IP_);
#endif
		mutex_unlock(&vcpu->mutex);
	}
}

static int snp_finish(struct kvm *kvm, struct kvm_sev_cmd *argp,
		      const struct kvm_sev_snp_launch_finish *params)
{
	struct kvm_sev_info *sev = to_kvm_sev_info(kvm);
	struct sev_data_snp_launch_finish cmd = {};
	void *id_block = NULL, *id_auth = NULL;
	struct kvm_vcpu *vcpu;
	unsigned long i;
	int r;

	if (params->id_block_en) {
		id_block = psp_copy_user_blob(params->id_block_uaddr,
					      SNP_ID_BLOCK_SIZE);
		if (IS_ERR(id_block))
			return PTR_ERR(id_block);

		id_auth = psp_copy_user_blob(params->id_auth_uaddr,
					     SNP_ID_AUTH_SIZE);
		if (IS_ERR(id_auth)) {
			r = PTR_ERR(id_auth);
			id_auth = NULL;
			goto out;
		}
		cmd.id_block_en = 1;
		cmd.id_block_paddr = __sme_pa(id_block);
		cmd.id_auth_paddr = __sme_pa(id_auth);
		cmd.auth_key_en = !!params->auth_key_en;
	}
	cmd.vcek_disabled = !!params->vcek_disabled;
	memcpy(cmd.host_data, params->host_data, sizeof(params->host_data));

	/* What has been measured of them cannot be taken back. */
	kvm_for_each_vcpu(i, vcpu, kvm) {
		r = snp_launch_vmsa(vcpu, argp);
		if (r)
			goto out;
	}

	cmd.gctx_paddr = __psp_pa(sev->snp_context);
	r = sev_issue_cmd_fd(argp->sev_fd, SEV_CMD_SNP_LAUNCH_FINISH, &cmd,
			     &argp->error);
	if (!r)
		kvm->arch.pre_fault_allowed = true;
out:
	kfree(id_auth);
	kfree(id_block);
	return r;
}

/**
 * snp_launch_finish() - KVM_SEV_SNP_LAUNCH_FINISH
 * @kvm: the VM
 * @argp: the command; its error is set
 *
 * Return: 0; -EINVAL for bad arguments; -EBUSY if a vCPU runs or is being
 * created; -EFAULT; -ENOMEM; -EIO and others if the firmware refuses.
 */
int snp_launch_finish(struct kvm *kvm, struct kvm_sev_cmd *argp)
{
	struct kvm_sev_snp_launch_finish params;
	int r;

	if (!to_kvm_sev_info(kvm)->snp_context)
		return -EINVAL;

	if (copy_from_user(&params, u64_to_user_ptr(argp->data), sizeof(params)))
		return -EFAULT;

	if (params.flags)
		return -EINVAL;

	r = snp_lock_vcpus(kvm);
	if (r)
		return r;
	r = snp_finish(kvm, argp, &params);
	snp_unlock_vcpus(kvm);
	return r;
}

/**
 * snp_free_vmsa() - free the page that KVM has allocated for a vCPU's state
 * @svm: the vCPU, which does not run any more
 */
void snp_free_vmsa(struct vcpu_svm *svm)
{
	void *vmsa = svm->sev_es.vmsa;
	u64 pfn;

	if (!vmsa)
		return;

	pfn = __pa(vmsa) >> PAGE_SHIFT;
	svm->sev_es.vmsa = NULL;
	if (svm->vcpu.arch.guest_state_protected &&
	    rmp_make_shared(pfn, PG_LEVEL_4K)) {
		rmp_leak_pages(pfn, 1);
		to_kvm_sev_info(svm->vcpu.kvm)->snp_asid_lost = true;
		return;
	}
	clflush_cache_range(vmsa, PAGE_SIZE);
	__free_page(virt_to_page(vmsa));
}
