/* SPDX-License-Identifier: GPL-2.0 */
/* SEV-SNP guests */
#ifndef __KVM_X86_SVM_SNP_H
#define __KVM_X86_SVM_SNP_H

#include "svm.h"

#define SNP_HUGE_PAGES		KVM_PAGES_PER_HPAGE(PG_LEVEL_2M)

/*
 * Guest policy, Firmware ABI 4.3; what it means is up to the firmware.  Nobody can
 * be asked to migrate a guest.
 */
#define SNP_POLICY_RSVD_MBO	BIT_ULL(17)
#define SNP_POLICY_MIGRATE_MA	BIT_ULL(18)
#define SNP_POLICY_BITS		(GENMASK_ULL(25, 0) & ~SNP_POLICY_MIGRATE_MA)

#ifdef CONFIG_KVM_AMD_SEV

/* snp.c: launch and end */
int snp_launch_start(struct kvm *kvm, struct kvm_sev_cmd *argp);
int snp_launch_update(struct kvm *kvm, struct kvm_sev_cmd *argp);
int snp_launch_finish(struct kvm *kvm, struct kvm_sev_cmd *argp);
void snp_destroy_vm(struct kvm *kvm);
void snp_free_vmsa(struct vcpu_svm *svm);

/* snp-mem.c: private memory */
int snp_handle_rmp_fault(struct kvm_vcpu *vcpu, gpa_t gpa, u64 error_code);
int snp_gmem_prepare(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn, int order);
void snp_gmem_invalidate(kvm_pfn_t start, kvm_pfn_t end);
int snp_gmem_max_level(struct kvm *kvm, kvm_pfn_t pfn);

/* snp-psc.c: changes of pages' states */
int snp_psc(struct vcpu_svm *svm);
int snp_handle_vmgexit_msr(struct vcpu_svm *svm);

/* snp-vmsa.c: the VMSAs that the guest makes */
void snp_init_vcpu(struct vcpu_svm *svm);
void snp_vcpu_init(struct vcpu_svm *svm);
void snp_update_vmsa(struct kvm_vcpu *vcpu);
void snp_gmem_drop_pfns(struct kvm *kvm, gfn_t start, gfn_t end);
int snp_ap_creation(struct vcpu_svm *svm);

/* snp-request.c: messages to the firmware */
int snp_init_requests(struct kvm *kvm);
void snp_free_requests(struct kvm *kvm);
int snp_guest_request(struct vcpu_svm *svm, gpa_t req, gpa_t resp);
int snp_ext_guest_request(struct vcpu_svm *svm, gpa_t req, gpa_t resp);

#else

static inline int snp_launch_start(struct kvm *kvm, struct kvm_sev_cmd *argp)
{
	return -ENOTTY;
}

static inline int snp_launch_update(struct kvm *kvm, struct kvm_sev_cmd *argp)
{
	return -ENOTTY;
}

static inline int snp_launch_finish(struct kvm *kvm, struct kvm_sev_cmd *argp)
{
	return -ENOTTY;
}

static inline int snp_handle_rmp_fault(struct kvm_vcpu *vcpu, gpa_t gpa,
				       u64 error_code)
{
	return 1;
}

static inline int snp_psc(struct vcpu_svm *svm)
{
	return 1;
}

static inline int snp_handle_vmgexit_msr(struct vcpu_svm *svm)
{
	return -ENOENT;
}

static inline int snp_ap_creation(struct vcpu_svm *svm)
{
	return 1;
}

static inline int snp_init_requests(struct kvm *kvm)
{
	return -ENODEV;
}

static inline int snp_guest_request(struct vcpu_svm *svm, gpa_t req, gpa_t resp)
{
	return 1;
}

static inline int snp_ext_guest_request(struct vcpu_svm *svm, gpa_t req,
					gpa_t resp)
{
	return 1;
}

static inline void snp_destroy_vm(struct kvm *kvm) { }
static inline void snp_free_vmsa(struct vcpu_svm *svm) { }
static inline void snp_init_vcpu(struct vcpu_svm *svm) { }
static inline void snp_vcpu_init(struct vcpu_svm *svm) { }
static inline void snp_free_requests(struct kvm *kvm) { }

#endif

/* Of sev.c */
extern struct rw_semaphore sev_deactivate_lock;
int sev_es_sync_vmsa(struct vcpu_svm *svm);
int sev_issue_cmd_fd(int fd, int id, void *data, int *error);

#endif /* __KVM_X86_SVM_SNP_H */
