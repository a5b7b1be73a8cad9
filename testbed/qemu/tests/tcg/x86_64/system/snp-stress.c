/*
 * Two processors run a vCPU each of one SEV-SNP guest, while the host gives
 * and takes pages, so that every processor's cached translations keep changing;
 * and one of them is reset in the guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "snp-lib.h"

#define ASID    5
#define ROUNDS  400
#define NPT     (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)

static struct vm vm;
static struct vcpu v0, v1;

static void launch_more(struct vm *m)
{
    must(snp_launch_page(m, v1.vmsa, 0xfffffffff000ULL, false, 2) == OK);
}

/* Fill @count pages from @page with what depends on @seed, and add it up */
static u64 g_mix(u64 page, u64 count, u64 seed, u64 d)
{
    u64 a, sum = 0;

    for (a = page; a < page + count * PAGE; a += 264) {
        F64(a, 0) = seed ^ a;
    }
    /* New translations now and then, and an exit in between */
    write_cr3(read_cr3());
    asm volatile("rep; vmmcall" : : : "memory");
    for (a = page; a < page + count * PAGE; a += 264) {
        sum += F64(a, 0);
    }
    return sum;
}

static u64 mix(u64 page, u64 count, u64 seed)
{
    u64 a, sum = 0;

    for (a = page; a < page + count * PAGE; a += 264) {
        sum += seed ^ a;
    }
    return sum;
}

/* Calls that went wrong */
static u64 run(struct vcpu *v, u64 page, u64 count, u64 seed)
{
    struct exit e = vm_call(v, g_mix, page, count, seed, 0);

    if (e.code == EXIT_VMGEXIT) {
        e = vm_resume(v);
    }
    if (e.code != EXIT_DONE || v->req->ret != mix(page, count, seed)) {
        ml_printf("# exit 0x%lx info1 0x%lx info2 0x%lx sum 0x%lx\n", e.code,
                  e.info1, e.info2, v->req->ret);
        return 1;
    }
    return 0;
}

static u64 ap_loop(u64 seed)
{
    u64 i, bad = 0;

    svm_enable();
    for (i = 0; i < ROUNDS && !bad; i++) {
        bad += run(&v1, G_TEST + 8 * PAGE, 8, seed + i);
    }
    return bad;
}

static u64 loop(bool change)
{
    u64 base = region(), gpa = G_TEST + 3 * PAGE, i, bad = 0;

    for (i = 0; i < ROUNDS && !bad; i++) {
        bad += run(&v0, G_TEST + 16 * PAGE, 8, i);
        if (!change) {
            continue;
        }
        must(rmpupdate(base, gpa, true, false, false, ASID) == OK);
        npt_map(&vm, gpa, base, PAGE, NPT);
        must(vm_call(&v0, g_pvalidate, gpa, 0, 1, 0).code == EXIT_DONE);
        bad += v0.req->res.eax != OK || (v0.req->res.flags & FLAG_CF);
        bad += run(&v0, gpa, 1, i);
        must(vm_call(&v0, g_pvalidate, gpa, 0, 0, 0).code == EXIT_DONE);
        must(rmpupdate(base, 0, false, false, false, 0) == OK);
        F64(base, 0) = i;
        bad += vm_call(&v0, g_read, gpa, 0, 0, 0).code != EXIT_NPF;
        npt_map(&vm, gpa, P_TEST + gpa - G_TEST, PAGE, NPT);
        bad += vm_resume(&v0).code != EXIT_DONE;
    }
    return bad;
}

/* The same vCPU, now on one processor, now on the other */
static u64 ap_once(u64 seed)
{
    return run(&v0, G_TEST + 24 * PAGE, 4, seed);
}

/* A guest that only INIT can stop */
static u64 g_spin(u64 a, u64 b, u64 c, u64 d)
{
    u64 ones[2] = { ~0ULL, ~0ULL };

    wrmsr(MSR_LSTAR, 0x1234);
    asm volatile("movdqu %0, %%xmm5" : : "m"(ones));
    request_res((struct res) { .eax = 1 });
    for (;;) {
        cpu_relax();
    }
    return 0;
}

static u64 ap_spin(u64 arg)
{
    return vm_call(&v1, g_spin, 0, 0, 0, 0).code;
}

static u64 ap_rdmsr(u64 msr)
{
    return rdmsr(msr);
}

static u64 ap_xmm5(u64 arg)
{
    u64 val[2];

    asm volatile("movdqu %%xmm5, %0" : "=m"(val));
    return val[0] | val[1];
}

static u64 ap_write(u64 page)
{
    try_write(page, 1);
    return exc_vector();
}

static u64 ap_once_again(u64 seed)
{
    svm_enable();
    return ap_once(seed);
}

/* INIT in the guest: no #VMEXIT, but nothing of the guest's may stay behind */
static void test_init(void)
{
    u64 vmcb = region(), page = region();
    volatile struct request *q = v1.req;    /* the guest writes there */
    u64 lstar = ap_call(ap_rdmsr, MSR_LSTAR);

    /* Not within the 2M that the host's writes need */
    memcpy_((void *)vmcb, (void *)v1.vmcb, PAGE);
    v1.vmcb = vmcb;
    must(rmpupdate(page, 0, true, false, false, 0) == OK);
    q->res.eax = 0;
    ap_post(ap_spin, 0);
    while (!q->res.eax) {
        cpu_relax();
    }
    tap_eq("VMSA in use", rmpupdate(v1.vmsa, 0, false, false, false, 0),
           FAIL_INUSE);
    tap_eq("VMCB in use", rmpupdate(vmcb, 0, true, false, false, 0),
           FAIL_INUSE);
    tap(ap_start(), "INIT, start");
    tap_eq("VMSA not in use", rmpupdate(v1.vmsa, 0, false, false, false, 0),
           OK);
    tap_eq("VMCB not in use", rmpupdate(vmcb, 0, true, false, false, 0), OK);
    tap_eq("SEV_STATUS is the host's again",
           ap_call(ap_rdmsr, MSR_SEV_STATUS), 0);
    tap_eq("LSTAR is the host's", ap_call(ap_rdmsr, MSR_LSTAR), lstar);
    tap_eq("nothing of the guest's is in XMM5", ap_call(ap_xmm5, 0), 0);
    tap_eq("the host's writes are checked", ap_call(ap_write, page), VEC_PF);
    tap_eq("a guest runs there again", ap_call(ap_once_again, 1), 0);
}

int main(void)
{
    u64 i, bad = 0;

    lib_init();
    if (!ap_start()) {
        bail("needs two processors");
    }
    svm_enable();
    snp_enable();
    snp_firmware_init();
    vm_init(&vm, VM_SNP, ASID);
    vcpu_init(&vm, &v0, CPU_GUEST);
    vcpu_init(&vm, &v1, CPU_GUEST2);
    snp_launch_more = launch_more;
    snp_launch(&vm, &v0);
    tap_eq("second vCPU", vm_resume(&v1).code, EXIT_DONE);

    tap_eq("one vCPU", loop(false), 0);
    tap_eq("one vCPU, pages change", loop(true), 0);
    ap_post(ap_loop, 1000000);
    tap_eq("two vCPUs", loop(false), 0);
    tap_eq("  on the other processor", ap_wait(), 0);
    ap_post(ap_loop, 2000000);
    tap_eq("two vCPUs, pages change", loop(true), 0);
    tap_eq("  on the other processor", ap_wait(), 0);
    for (i = 0; i < 100; i++) {
        bad += run(&v0, G_TEST + 24 * PAGE, 4, i);
        bad += ap_call(ap_once, i + 1000);
    }
    tap_eq("a vCPU that moves", bad, 0);
    test_init();
    return tap_end();
}
