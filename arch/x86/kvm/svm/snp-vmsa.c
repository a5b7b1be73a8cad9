// SPDX-License-Identifier: GPL-2.0-only
/*
 * SEV-SNP guests: the VMSAs that a guest makes
 *
 * The state of a vCPU is in a page that only the guest, at launch the firmware,
 * can make.  Another vCPU asks for it to be used (GHCB specification, 4.1.9);
 * the vCPU takes it when it comes by, before it enters the guest.
 *
 * The page is private memory and can leave.  KVM looks it up as a page fault
 * would, by the invalidation protocol, keeps no reference, and looks again when
 * it hears that the page may leave.
 *
 * Sources: GHCB specification (56421); AMD64 APM volume 2 (24593), 15.36.
 */
#include <linux/kvm_gmem.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>

#include <asm/sev-common.h>

#include "cpuid.h"
#include "snp.h"
#include "x86.h"

/* Of which there is no VMSA */
#define SNP_NO_GFN	(~(gfn_t)0)

/**
 * snp_init_vcpu() - set up what a vCPU needs to get VMSAs
 * @svm: the vCPU
 */
void snp_init_vcpu(struct vcpu_svm *svm)
{
	mutex_init(&svm->snp_vmsa_lock);
	svm->sev_es.snp_vmsa_gpa = INVALID_PAGE;
	svm->sev_es.snp_vmsa_gfn = SNP_NO_GFN;
}

/* The guest's firmware or kernel has made a VMSA for @target, or takes it. */
static void snp_set_vmsa(struct vcpu_svm *target, gpa_t gpa, bool on_init)
{
	struct vcpu_sev_es_state *es = &target->sev_es;

	mutex_lock(&target->snp_vmsa_lock);
	es->snp_vmsa_gpa = gpa;
	es->snp_vmsa_on_init = on_init;
	es->snp_vmsa_pending = true;
	mutex_unlock(&target->snp_vmsa_lock);

	if (on_init)
		return;

	kvm_make_request(KVM_REQ_UPDATE_PROTECTED_STATE, &target->vcpu);
	kvm_vcpu_kick(&target->vcpu);
}

/**
 * snp_vcpu_init() - INIT has come, for which a VMSA may wait
 * @svm: the vCPU
 */
void snp_vcpu_init(struct vcpu_svm *svm)
{
	struct vcpu_sev_es_state *es = &svm->sev_es;
	bool update;

	mutex_lock(&svm->snp_vmsa_lock);
	update = es->snp_vmsa_pending && es->snp_vmsa_on_init;
	es->snp_vmsa_on_init = false;
	mutex_unlock(&svm->snp_vmsa_lock);
	if (update)
		kvm_make_request(KVM_REQ_UPDATE_PROTECTED_STATE, &svm->vcpu);
}

/*
 * Let a vCPU use the guest's page @gfn as its VMSA.  No reference is kept: before
 * the page leaves, snp_gmem_drop_pfns() makes the vCPU come here again.
 *
 * Return: 0; -EAGAIN if the page is about to leave; another error if there is
 * none.
 */
static int snp_load_vmsa(struct vcpu_svm *svm, gfn_t gfn)
{
	struct kvm *kvm = svm->vcpu.kvm;
	struct kvm_memory_slot *slot;
	unsigned long mmu_seq;
	kvm_pfn_t pfn;
	int order, r;

	mmu_seq = kvm->mmu_invalidate_seq;
	/* Pairs with the barriers of kvm_mmu_invalidate_end(). */
	smp_rmb();

	slot = gfn_to_memslot(kvm, gfn);
	if (!slot || !kvm_slot_has_gmem(slot) || !kvm_mem_is_private(kvm, gfn))
		return -EFAULT;
	if (slot->flags & KVM_MEMSLOT_INVALID ||
	    mmu_invalidate_retry_gfn_unlocked(kvm, mmu_seq, gfn))
		return -EAGAIN;

	r = kvm_gmem_get_pfn(kvm, slot, gfn, &pfn, &order);
	if (r)
		return r;

	read_lock(&kvm->mmu_lock);
	if (mmu_invalidate_retry_gfn(kvm, mmu_seq, gfn)) {
		r = -EAGAIN;
	} else {
		svm->sev_es.snp_vmsa_gfn = gfn;
		svm->vmcb->control.vmsa_pa = pfn_to_hpa(pfn);
	}
	read_unlock(&kvm->mmu_lock);
	kvm_release_pfn_clean(pfn);
	return r;
}

/* The guest wants another VMSA for the vCPU, or none. */
static int snp_change_vmsa(struct vcpu_svm *svm)
{
	struct vcpu_sev_es_state *es = &svm->sev_es;
	struct kvm_vcpu *vcpu = &svm->vcpu;
	int r = -ENOENT;

	if (VALID_PAGE(es->snp_vmsa_gpa))
		r = snp_load_vmsa(svm, gpa_to_gfn(es->snp_vmsa_gpa));
	if (r == -EAGAIN)
		return r;

	es->snp_vmsa_pending = false;
	es->snp_has_guest_vmsa = true;
	if (!r) {
		fpstate_set_confidential(&vcpu->arch.guest_fpu);
		vcpu->arch.guest_state_protected = true;
		vcpu->arch.mp_state = KVM_MP_STATE_RUNNABLE;
		/* As after INIT: it knows nothing of what it was before. */
		kvm_make_request(KVM_REQ_TLB_FLUSH_GUEST, vcpu);
		return 0;
	}

	/* Without a VMSA it stands still until it gets one. */
	WRITE_ONCE(es->snp_vmsa_gfn, SNP_NO_GFN);
	svm->vmcb->control.vmsa_pa = INVALID_PAGE;
	vcpu->arch.mp_state = KVM_MP_STATE_UNINITIALIZED;
	return 0;
}

/**
 * snp_update_vmsa() - let a vCPU use the VMSA that the guest wants
 * @vcpu: the vCPU, which is loaded
 *
 * If that has to wait, the vCPU cannot enter the guest: the request stays.
 *
 * Context: kvm->srcu held.  May sleep.
 */
void snp_update_vmsa(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	struct vcpu_sev_es_state *es = &svm->sev_es;
	int r = 0;

	mutex_lock(&svm->snp_vmsa_lock);
	if (es->snp_vmsa_pending && !es->snp_vmsa_on_init) {
		r = snp_change_vmsa(svm);
	} else if (es->snp_vmsa_gfn != SNP_NO_GFN) {
		/* Its page may have left: if so, the next VMRUN fails. */
		r = snp_load_vmsa(svm, es->snp_vmsa_gfn);
		if (r && r != -EAGAIN)
			svm->vmcb->control.vmsa_pa = INVALID_PAGE;
	} else if (!VALID_PAGE(svm->vmcb->control.vmsa_pa)) {
		/* Has SIPI come?  It goes on waiting for a VMSA. */
		vcpu->arch.mp_state = KVM_MP_STATE_UNINITIALIZED;
	}
	vmcb_mark_all_dirty(svm->vmcb);
	mutex_unlock(&svm->snp_vmsa_lock);

	if (r == -EAGAIN)
		kvm_make_request(KVM_REQ_UPDATE_PROTECTED_STATE, vcpu);
}

/**
 * snp_gmem_drop_pfns() - stop vCPUs from using pages as their VMSAs; see
 * kvm_arch_gmem_drop_pfns()
 * @kvm: the VM
 * @start: first gfn
 * @end: gfn past the last one
 *
 * While a vCPU is in the guest its VMSA is in use, and could not be taken back.
 *
 * Context: mmu_lock held for write.
 */
void snp_gmem_drop_pfns(struct kvm *kvm, gfn_t start, gfn_t end)
{
	struct kvm_vcpu *vcpu;
	bool found = false;
	unsigned long i;
	gfn_t gfn;

	lockdep_assert_held_write(&kvm->mmu_lock);

	if (!sev_snp_guest(kvm))
		return;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		gfn = READ_ONCE(to_svm(vcpu)->sev_es.snp_vmsa_gfn);
		if (gfn < start || gfn >= end)
			continue;
		kvm_make_request(KVM_REQ_UPDATE_PROTECTED_STATE, vcpu);
		found = true;
	}

	/* Waits until they have left the guest. */
	if (found)
		kvm_make_all_cpus_request(kvm, KVM_REQ_OUTSIDE_GUEST_MODE);
}

/**
 * snp_ap_creation() - let a vCPU run a VMSA of the guest's, or none
 * @svm: the vCPU that asks for it, its GHCB mapped
 *
 * Return: as exit handlers do.
 */
int snp_ap_creation(struct vcpu_svm *svm)
{
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct kvm_vcpu *vcpu = &svm->vcpu, *target;
	u32 request = lower_32_bits(control->exit_info_1);
	gpa_t gpa = control->exit_info_2;

	target = kvm_get_vcpu_by_id(vcpu->kvm,
				    upper_32_bits(control->exit_info_1));
	if (!target)
		goto invalid;

	switch (request) {
	case SVM_VMGEXIT_AP_CREATE_ON_INIT:
	case SVM_VMGEXIT_AP_CREATE:
		/* The features are the VM's; each VMSA has the same. */
		if (vcpu->arch.regs[VCPU_REGS_RAX] !=
		    to_kvm_sev_info(vcpu->kvm)->vmsa_features)
			goto invalid;
		/*
		 * By an erratum, see snp_safe_alloc_page(), it must not be the
		 * first page of a huge one.  A small page that happens to be
		 * aligned has no huge mapping around it.
		 */
		if (!kvm_vcpu_is_legal_gpa(vcpu, gpa) || !PAGE_ALIGNED(gpa) ||
		    IS_ALIGNED(gpa, PMD_SIZE))
			goto invalid;
		snp_set_vmsa(to_svm(target), gpa,
			     request == SVM_VMGEXIT_AP_CREATE_ON_INIT);
		return 1;
	case SVM_VMGEXIT_AP_DESTROY:
		snp_set_vmsa(to_svm(target), INVALID_PAGE, false);
		return 1;
	}
invalid:
	return sev_es_bad_request(svm, GHCB_ERR_INVALID_INPUT);
}
