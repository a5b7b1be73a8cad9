// SPDX-License-Identifier: GPL-2.0-only
/*
 * SEV-SNP guests: changes of pages' states
 *
 * The guest asks for pages to become private or shared: a page by the GHCB MSR,
 * or a list of them in its GHCB, a page that is shared.  It is userspace that
 * makes the change.  Nothing in the GHCB can be relied on: what is looked at
 * twice can be two things.
 *
 * Source: GHCB specification (56421), 2.3 and 4.1.6.
 */
#include <linux/bitfield.h>
#include <linux/kvm_host.h>

#include <asm/sev-common.h>

#include "snp.h"
#include "x86.h"

static bool snp_can_ask_userspace(struct kvm *kvm)
{
	return kvm->arch.hypercall_exit_enabled & BIT(KVM_HC_MAP_GPA_RANGE);
}

static void snp_exit_map_gpa_range(struct kvm_vcpu *vcpu, gfn_t gfn, u64 npages,
				   bool private, bool huge,
				   int (*complete)(struct kvm_vcpu *vcpu))
{
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_HYPERCALL;
	run->hypercall.nr = KVM_HC_MAP_GPA_RANGE;
	/* Old userspace does not answer: that is a success. */
	run->hypercall.ret = 0;
	run->hypercall.args[0] = gfn_to_gpa(gfn);
	run->hypercall.args[1] = npages;
	run->hypercall.args[2] = private ? KVM_MAP_GPA_RANGE_ENCRYPTED :
					   KVM_MAP_GPA_RANGE_DECRYPTED;
	run->hypercall.args[2] |= huge ? KVM_MAP_GPA_RANGE_PAGE_SZ_2M :
					 KVM_MAP_GPA_RANGE_PAGE_SZ_4K;
	run->hypercall.longmode = 1;
	run->hypercall.pad = 0;
	vcpu->arch.complete_userspace_io = complete;
}

static bool snp_answer_is_valid(struct kvm_vcpu *vcpu)
{
	u64 ret = vcpu->run->hypercall.ret;

	return !ret || ret == EINVAL || ret == EAGAIN;
}

#define PSC_OP_PRIVATE		1
#define PSC_OP_SHARED		2
#define PSC_OP_PSMASH		3
#define PSC_OP_UNSMASH		4

#define PSC_CUR_PAGE		GENMASK_ULL(11, 0)
#define PSC_GFN			GENMASK_ULL(51, 12)
#define PSC_OP			GENMASK_ULL(55, 52)
#define PSC_HUGE		BIT_ULL(56)

#define PSC_ERROR_HDR		(BIT_ULL(32) | 1)
#define PSC_ERROR_ENTRY		(BIT_ULL(32) | 2)
#define PSC_ERROR_GENERIC	(0x100ULL << 32)

static u64 *snp_psc_entry(struct vcpu_svm *svm, u16 idx)
{
	return svm->sev_es.ghcb_sa + sizeof(struct psc_hdr) + idx * sizeof(u64);
}

static u64 snp_psc_pages(u64 entry)
{
	return entry & PSC_HUGE ? SNP_HUGE_PAGES : 1;
}

static int snp_psc_next(struct kvm_vcpu *vcpu);

static int snp_psc_end(struct vcpu_svm *svm, u64 result)
{
	struct psc_hdr *hdr = svm->sev_es.ghcb_sa;

	WRITE_ONCE(hdr->cur_entry, svm->sev_es.psc_idx);
	ghcb_set_sw_exit_info_2(svm->sev_es.ghcb, result);
	return 1;
}

/* Userspace has done the entries that it was asked to. */
static int snp_psc_complete(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	struct vcpu_sev_es_state *es = &svm->sev_es;
	u64 entry, *p;

	/* Reset in between: there is nobody to tell. */
	if (!es->ghcb)
		return 1;

	/* The next KVM_RUN goes on without coming here. */
	if (!snp_answer_is_valid(vcpu)) {
		snp_psc_end(svm, PSC_ERROR_GENERIC);
		return -EINVAL;
	}

	if (vcpu->run->hypercall.ret)
		return snp_psc_end(svm, PSC_ERROR_GENERIC);

	for (; es->psc_inflight; es->psc_inflight--) {
		p = snp_psc_entry(svm, es->psc_idx);
		entry = READ_ONCE(*p);
		WRITE_ONCE(*p, (entry & ~PSC_CUR_PAGE) | snp_psc_pages(entry));
		es->psc_idx++;
	}
	return snp_psc_next(vcpu);
}

/*
 * Ask userspace for the next entries: as many as are of one kind and in one
 * range.  The guest can write to the buffer all the time: each entry is read once.
 */
static int snp_psc_next(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	struct vcpu_sev_es_state *es = &svm->sev_es;
	u64 entry, next, npages, op, *p;
	gfn_t gfn;

	for (; es->psc_idx <= es->psc_end; es->psc_idx++) {
		p = snp_psc_entry(svm, es->psc_idx);
		entry = READ_ONCE(*p);
		npages = snp_psc_pages(entry);
		gfn = FIELD_GET(PSC_GFN, entry);
		op = FIELD_GET(PSC_OP, entry);

		if ((entry & PSC_CUR_PAGE) > npages || gfn & (npages - 1) ||
		    op < PSC_OP_PRIVATE || op > PSC_OP_UNSMASH)
			return snp_psc_end(svm, PSC_ERROR_ENTRY);
		if ((entry & PSC_CUR_PAGE) == npages)
			continue;
		if (op != PSC_OP_PSMASH && op != PSC_OP_UNSMASH)
			break;
		/* Hints, of which KVM makes no use. */
		WRITE_ONCE(*p, (entry & ~PSC_CUR_PAGE) | npages);
	}
	if (es->psc_idx > es->psc_end)
		return snp_psc_end(svm, 0);

	/* One that was interrupted goes on, alone and page by page. */
	es->psc_inflight = 1;
	if (entry & PSC_CUR_PAGE) {
		gfn += entry & PSC_CUR_PAGE;
		npages -= entry & PSC_CUR_PAGE;
		entry &= ~PSC_HUGE;
		goto out;
	}

	while (es->psc_idx + es->psc_inflight <= es->psc_end) {
		next = READ_ONCE(*snp_psc_entry(svm, es->psc_idx +
						     es->psc_inflight));
		if (FIELD_GET(PSC_GFN, next) != gfn + npages ||
		    (next ^ entry) & (PSC_OP | PSC_HUGE | PSC_CUR_PAGE))
			break;
		npages += snp_psc_pages(next);
		es->psc_inflight++;
	}
out:
	snp_exit_map_gpa_range(vcpu, gfn, npages, op == PSC_OP_PRIVATE,
			       entry & PSC_HUGE, snp_psc_complete);
	return 0;
}

/**
 * snp_psc() - do what the list in the GHCB says
 * @svm: the vCPU, its GHCB mapped
 *
 * Return: as exit handlers do.
 */
int snp_psc(struct vcpu_svm *svm)
{
	u64 start = svm->vmcb->control.ghcb_gpa +
		    offsetof(struct ghcb, shared_buffer);
	struct vcpu_sev_es_state *es = &svm->sev_es;
	u64 offset = es->sw_scratch - start;
	struct psc_hdr *hdr;
	u16 end;

	/* The list is in the GHCB, and as long as there is room. */
	if (es->sw_scratch < start || offset & 7 ||
	    offset > GHCB_SHARED_BUF_SIZE - sizeof(*hdr))
		return sev_es_bad_request(svm, GHCB_ERR_INVALID_SCRATCH_AREA);

	es->ghcb_sa = es->ghcb->shared_buffer + offset;
	hdr = es->ghcb_sa;
	es->psc_idx = READ_ONCE(hdr->cur_entry);
	end = READ_ONCE(hdr->end_entry);
	if (end >= (GHCB_SHARED_BUF_SIZE - offset - sizeof(*hdr)) / sizeof(u64))
		return snp_psc_end(svm, PSC_ERROR_HDR);
	es->psc_end = end;

	if (!snp_can_ask_userspace(svm->vcpu.kvm))
		return snp_psc_end(svm, PSC_ERROR_GENERIC);

	return snp_psc_next(&svm->vcpu);
}

static int snp_psc_msr_complete(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	svm->vmcb->control.ghcb_gpa =
		GHCB_MSR_PSC_RESP | (vcpu->run->hypercall.ret ? BIT_ULL(32) : 0);
	return snp_answer_is_valid(vcpu) ? 1 : -EINVAL;
}

static int snp_psc_msr(struct vcpu_svm *svm, u64 msr)
{
	u64 op = FIELD_GET(PSC_OP, msr);

	if ((op != PSC_OP_PRIVATE && op != PSC_OP_SHARED) ||
	    !snp_can_ask_userspace(svm->vcpu.kvm)) {
		svm->vmcb->control.ghcb_gpa = GHCB_MSR_PSC_RESP | BIT_ULL(32);
		return 1;
	}

	snp_exit_map_gpa_range(&svm->vcpu, FIELD_GET(PSC_GFN, msr), 1,
			       op == PSC_OP_PRIVATE, false,
			       snp_psc_msr_complete);
	return 0;
}

/**
 * snp_handle_vmgexit_msr() - requests by the GHCB MSR that only SNP has
 * @svm: the vCPU
 *
 * Return: as exit handlers do; -ENOENT if it is no such request.
 */
int snp_handle_vmgexit_msr(struct vcpu_svm *svm)
{
	u64 msr = svm->vmcb->control.ghcb_gpa;
	u64 gfn = msr >> GHCB_DATA_LOW;

	switch (msr & GHCB_MSR_INFO_MASK) {
	case GHCB_MSR_PREF_GPA_REQ:
		/* Anywhere will do. */
		svm->vmcb->control.ghcb_gpa = GHCB_MSR_PREF_GPA_RESP |
					      GENMASK_ULL(63, GHCB_DATA_LOW);
		return 1;
	case GHCB_MSR_REG_GPA_REQ:
		svm->sev_es.ghcb_registered_gpa = gfn_to_gpa(gfn);
		svm->vmcb->control.ghcb_gpa = GHCB_MSR_REG_GPA_RESP |
					      gfn << GHCB_DATA_LOW;
		return 1;
	case GHCB_MSR_PSC_REQ:
		return snp_psc_msr(svm, msr);
	default:
		return -ENOENT;
	}
}
