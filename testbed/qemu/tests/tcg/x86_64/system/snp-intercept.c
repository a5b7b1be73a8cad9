/*
 * Intercepted instructions: in an ordinary guest, with the next RIP and the
 * decode assists; and in an SEV-SNP guest, where they become #VC, or where the
 * guest's state is protected
 *
 * AMD64 APM volume 2, 15.7 to 15.12, 15.33.5 (SEV-ES: 15.35.5 to 15.35.9)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "snp-lib.h"

#define ANY     (~0ULL)

static struct vm vm;
static struct vcpu v;

/* -- the instructions ----------------------------------------------------- */

INSN(cpuid, "cpuid");
INSN(rdtsc, "rdtsc");
INSN(rdtscp, "rdtscp");
INSN(rdpmc, "rdpmc");
INSN(hlt, "hlt");
INSN(pause, "pause");
INSN(invd, "invd");
INSN(wbinvd, "wbinvd");
INSN(invlpg, "invlpg 0x123(%rax)");
INSN(invlpga, "invlpga %rax, %ecx");
INSN(rdmsr, "rdmsr");
INSN(wrmsr, "wrmsr");
INSN(in8, "inb $0x80, %al");
INSN(in32, "inl %dx, %eax");
INSN(out8, "outb %al, $0x80");
INSN(out16, "outw %ax, %dx");
INSN(vmmcall, "vmmcall");
INSN(monitor, "monitor");
INSN(mwait, "mwait");
INSN(xsetbv, "xsetbv");
INSN(sgdt, "sgdt -16(%rsp)");
INSN(sidt, "sidt -16(%rsp)");
INSN(pushf, "pushfq");
INSN(int3, "int3");
INSN(int_3, ".byte 0xcd, 3");
INSN(intn, "int $0x80");
INSN(ud2, "ud2");
INSN(rcr0, "mov %cr0, %rbx");
INSN(rcr3, "mov %cr3, %r13");
INSN(rcr4, "mov %cr4, %r8");
INSN(rcr8, "mov %cr8, %rsi");
INSN(wcr0, "mov %rax, %cr0");
INSN(wcr4, "mov %rdx, %cr4");
INSN(wcr8, "mov %rcx, %cr8");
INSN(smsw, "smsw %rax");
INSN(clts, "clts");
INSN(rdr0, "mov %db0, %r9");
INSN(rdr7, "mov %db7, %rcx");
INSN(wdr1, "mov %rdx, %db1");
INSN(wdr7, "mov %rax, %db7");
INSN(vmrun, "vmrun %rax");
INSN(vmload, "vmload %rax");
INSN(clgi, "clgi");

static u64 g_insn(u64 insn, u64 rax, u64 rcx, u64 rdx)
{
    exc_clear();
    return insn_call(insn, rax, rcx, rdx);
}

/* Where the intercept's bit is */
#define MISC1(n)    (C_MISC1 << 8 | (n))
#define MISC2(n)    (C_MISC2 << 8 | (n))
#define CRR(n)      (C_CR_READ << 8 | (n))
#define CRW(n)      (C_CR_WRITE << 8 | (n))
#define DRR(n)      (C_DR_READ << 8 | (n))
#define DRW(n)      (C_DR_WRITE << 8 | (n))
#define EXC(n)      (C_EXC << 8 | (n))
#define MOV         BIT(63)
/* Bits of address size and segment, of string instructions, do not count */
#define IO_MASK     (~0x1f80ULL)
#define IO(port, bits)  ((u64)(port) << 16 | (bits))
#define IO_IN   1
#define IO_8    0x10
#define IO_16   0x20
#define IO_32   0x40

/* What an SEV-ES guest's becomes */
enum es {
    ES_VC,                      /* #VC, with the exit code */
    ES_AUTO,                    /* an exit */
    ES_NOT,                     /* not tested */
};


static const struct {
    const char *name;
    u8 *insn, *end;
    u64 rax, rcx, rdx;
    u32 bit;                    /* of the intercept */
    u64 exit;
    u64 info1;
    enum es es;
} insns[] = {
    { "cpuid", i_cpuid, e_cpuid, 0, 0, 0, MISC1(18), EXIT_CPUID, ANY, ES_VC },
    { "rdtsc", i_rdtsc, e_rdtsc, 0, 0, 0, MISC1(14), EXIT_RDTSC, ANY, ES_VC },
    { "rdtscp", i_rdtscp, e_rdtscp,
      0, 0, 0, MISC2(7), EXIT_RDTSCP, ANY, ES_VC },
    { "rdpmc", i_rdpmc, e_rdpmc, 0, 0, 0, MISC1(15), 0x6f, ANY, ES_VC },
    { "hlt", i_hlt, e_hlt, 0, 0, 0, MISC1(24), EXIT_HLT, ANY, ES_AUTO },
    { "pause", i_pause, e_pause, 0, 0, 0, MISC1(23), EXIT_PAUSE, ANY, ES_AUTO },
    { "invd", i_invd, e_invd, 0, 0, 0, MISC1(22), EXIT_INVD, ANY, ES_VC },
    { "wbinvd", i_wbinvd, e_wbinvd,
      0, 0, 0, MISC2(9), EXIT_WBINVD, ANY, ES_VC },
    { "invlpg", i_invlpg, e_invlpg,
      G_TEST, 0, 0, MISC1(25), EXIT_INVLPG, G_TEST + 0x123, ES_VC },
    { "invlpga", i_invlpga, e_invlpga,
      G_TEST, 0, 0, MISC1(26), 0x7a, ANY, ES_VC },
    { "rdmsr", i_rdmsr, e_rdmsr,
      0, MSR_STAR, 0, MISC1(28), EXIT_MSR, 0, ES_VC },
    { "wrmsr", i_wrmsr, e_wrmsr,
      0, MSR_STAR, 0, MISC1(28), EXIT_MSR, 1, ES_VC },
    { "in8", i_in8, e_in8,
      0, 0, 0, MISC1(27), EXIT_IOIO, IO(0x80, IO_IN | IO_8), ES_VC },
    { "in32", i_in32, e_in32,
      0, 0, 0xcfc, MISC1(27), EXIT_IOIO, IO(0xcfc, IO_IN | IO_32), ES_VC },
    { "out8", i_out8, e_out8,
      0, 0, 0, MISC1(27), EXIT_IOIO, IO(0x80, IO_8), ES_VC },
    { "out16", i_out16, e_out16,
      0, 0, 0x1234, MISC1(27), EXIT_IOIO, IO(0x1234, IO_16), ES_VC },
    { "vmmcall", i_vmmcall, e_vmmcall,
      0, 0, 0, MISC2(1), EXIT_VMMCALL, ANY, ES_VC },
    { "monitor", i_monitor, e_monitor,
      G_TEST, 0, 0, MISC2(10), 0x8a, ANY, ES_VC },
    { "mwait", i_mwait, e_mwait, 0, 0, 0, MISC2(11), 0x8b, ANY, ES_VC },
    { "xsetbv", i_xsetbv, e_xsetbv, 1, 0, 0, MISC2(13), 0x8d, ANY, ES_NOT },
    { "sidt", i_sidt, e_sidt, 0, 0, 0, MISC1(6), 0x66, ANY, ES_VC },
    { "sgdt", i_sgdt, e_sgdt, 0, 0, 0, MISC1(7), 0x67, ANY, ES_VC },
    { "int3", i_int3, e_int3, 0, 0, 0, EXC(3), 0x43, ANY, ES_NOT },
    { "intn", i_intn, e_intn, 0, 0, 0, MISC1(21), 0x75, 0x80, ES_NOT },
    { "int 3", i_int_3, e_int_3, 0, 0, 0, MISC1(21), 0x75, 3, ES_NOT },
    { "ud2", i_ud2, e_ud2, 0, 0, 0, EXC(6), 0x46, ANY, ES_VC },
    { "rcr0", i_rcr0, e_rcr0, 0, 0, 0, CRR(0), 0x00, MOV | 3, ES_VC },
    { "rcr3", i_rcr3, e_rcr3, 0, 0, 0, CRR(3), 0x03, MOV | 13, ES_VC },
    { "rcr4", i_rcr4, e_rcr4, 0, 0, 0, CRR(4), 0x04, MOV | 8, ES_VC },
    { "rcr8", i_rcr8, e_rcr8, 0, 0, 0, CRR(8), 0x08, MOV | 6, ES_VC },
    { "wcr0", i_wcr0, e_wcr0, 0x80050033, 0, 0, CRW(0), 0x10, MOV | 0, ES_VC },
    { "wcr4", i_wcr4, e_wcr4, 0, 0, 0x220, CRW(4), 0x14, MOV | 2, ES_VC },
    { "wcr8", i_wcr8, e_wcr8, 0, 0, 0, CRW(8), 0x18, MOV | 1, ES_VC },
    { "smsw", i_smsw, e_smsw, 0, 0, 0, CRR(0), 0x00, 0, ES_VC },
    { "clts", i_clts, e_clts, 0, 0, 0, CRW(0), 0x10, 0, ES_VC },
    { "rdr0", i_rdr0, e_rdr0, 0, 0, 0, DRR(0), 0x20, 9, ES_VC },
    { "rdr7", i_rdr7, e_rdr7, 0, 0, 0, DRR(7), 0x27, 1, ES_VC },
    { "wdr1", i_wdr1, e_wdr1, 0, 0, 0, DRW(1), 0x31, 2, ES_VC },
    { "wdr7", i_wdr7, e_wdr7, 0x400, 0, 0, DRW(7), 0x37, 0, ES_VC },
    { "vmrun", i_vmrun, e_vmrun, 0, 0, 0, MISC2(0), EXIT_VMRUN, ANY, ES_NOT },
    { "vmload", i_vmload, e_vmload, 0, 0, 0, MISC2(2), 0x82, ANY, ES_NOT },
    { "clgi", i_clgi, e_clgi, 0, 0, 0, MISC2(5), 0x85, ANY, ES_NOT },
};

static void intercept(u32 where, bool on)
{
    u32 word = where >> 8, bit = where & 0xff;

    if (word < C_EXC) {
        F16(v.vmcb, word) = on ? F16(v.vmcb, word) | BIT(bit)
                               : F16(v.vmcb, word) & ~BIT(bit);
    } else {
        F32(v.vmcb, word) = on ? F32(v.vmcb, word) | BIT(bit)
                               : F32(v.vmcb, word) & ~BIT(bit);
    }
}

/* All ports and all MSRs are intercepted, if any */
static void start(enum vm_kind kind, u32 asid)
{
    vm_init(&vm, kind, asid);
    vcpu_init(&vm, &v, CPU_GUEST);
    memset_((void *)F64(v.vmcb, C_IOPM), 0xff, 3 * PAGE);
    memset_((void *)F64(v.vmcb, C_MSRPM), 0xff, 2 * PAGE);
    if (kind == VM_SNP) {
        snp_launch(&vm, &v);
    } else {
        must(vm_resume(&v).code == EXIT_DONE);
    }
}

static void say(const char *kind, const char *name)
{
    ml_printf("# %s: %s\n", kind, name);
}

static void test_plain(void)
{
    unsigned int i;

    for (i = 0; i < ARRAY_SIZE(insns); i++) {
        u64 rip, len = insns[i].end - insns[i].insn;
        bool keep = insns[i].bit == MISC2(0) || insns[i].bit == MISC2(1), fault;
        struct exit e;
        bool ok;

        intercept(insns[i].bit, true);
        e = vm_call(&v, g_insn, (u64)insns[i].insn, insns[i].rax,
                    insns[i].rcx, insns[i].rdx);
        if (!keep) {
            intercept(insns[i].bit, false);
        }
        rip = F64(v.vmcb, C_SAVE + S_RIP);
        if (insns[i].exit == EXIT_IOIO) {
            e.info1 &= IO_MASK;
        }
        /* An exception that is not a software interrupt has no next RIP */
        fault = insns[i].bit == EXC(VEC_UD);
        ok = e.code == insns[i].exit && rip == (u64)insns[i].insn &&
             (insns[i].info1 == ANY || e.info1 == insns[i].info1) &&
             (insns[i].exit != EXIT_IOIO || e.info2 == rip + len) &&
             (fault || F64(v.vmcb, C_NRIP) == rip + len);
        tap(ok, insns[i].name);
        if (!ok) {
            ml_printf("# got exit 0x%lx info1 0x%lx info2 0x%lx rip +%lu nrip "
                      "+%ld, want exit 0x%lx info1 0x%lx nrip +%lu\n", e.code,
                      e.info1, e.info2, rip - (u64)insns[i].insn,
                      F64(v.vmcb, C_NRIP) - rip, insns[i].exit,
                      insns[i].info1, len);
        }
        if (e.code != EXIT_DONE) {
            F64(v.vmcb, C_SAVE + S_RIP) = (u64)insns[i].end;
            must(vm_resume(&v).code == EXIT_DONE);
        }
    }
}

/* In a 32-bit code segment: 64-bit mode does not have it */
static u64 g_into(u64 a, u64 b, u64 c, u64 d)
{
    exc_clear();
    asm volatile(TRY_BEGIN
                 "pushq %0\n\tlea 1f(%%rip), %%r10\n\tpush %%r10\n\tlretq\n"
                 "1:\tmovb $0x7f, %%al\n\taddb $1, %%al\n\t.byte 0xce\n\t"
                 ".byte 0xea\n\t.long 99f\n\t.word %c1" TRY_END
                 : : "i"(SEL_CS32), "i"(SEL_CS) : TRY_CLOBBER, "rax", "r10",
                 "cc");
    return 0;
}

/* What @fn does with the intercept @bit: the exit code, or the vector */
static u64 with_intercept(u32 bit, void *fn, u8 *insn)
{
    struct exit e;

    intercept(bit, true);
    e = vm_call(&v, fn, (u64)insn, 0, 0, 0);
    intercept(bit, false);
    if (e.code == EXIT_DONE) {
        return v.req->exc.vector;
    }
    /* All of one byte, and it is not done yet */
    must(F64(v.vmcb, C_NRIP) == F64(v.vmcb, C_SAVE + S_RIP) + 1);
    F64(v.vmcb, C_SAVE + S_RIP) = F64(v.vmcb, C_NRIP);
    must(vm_resume(&v).code == EXIT_DONE);
    return e.code;
}

/* Instructions that another one's intercept does not concern */
static void test_not_intercepted(void)
{
    static const struct {
        const char *name;
        u8 *insn;
        u32 bit;
        u64 vector;
    } t[] = {
        { "RDTSCP, with RDTSC's intercept", i_rdtscp, MISC1(14), VEC_NONE },
        { "RDTSC, with RDTSCP's intercept", i_rdtsc, MISC2(7), VEC_NONE },
        { "INT3, with INTn's intercept", i_int3, MISC1(21), VEC_BP },
        { "INT 3, with #BP's intercept", i_int_3, EXC(VEC_BP), VEC_BP },
    };
    unsigned int i;

    for (i = 0; i < ARRAY_SIZE(t); i++) {
        tap_eq(t[i].name, with_intercept(t[i].bit, g_insn, t[i].insn),
               t[i].vector);
    }
    tap_eq("INTO, with INTn's intercept",
           with_intercept(MISC1(21), g_into, NULL), VEC_OF);
    tap_eq("INTO, with #OF's intercept",
           with_intercept(EXC(VEC_OF), g_into, NULL), EXIT_EXC + VEC_OF);
}

INSN(store, "movl $0x12345678, 0x40(%rax)");
INSN(load, "mov (%rax), %rbx");

/* #NPF and #PF: the bytes of the instruction */
static void insn_bytes(const char *name, u8 *insn, u64 rax, u64 code, u64 info1,
                       u64 info2)
{
    struct exit e = vm_call(&v, g_insn, (u64)insn, rax, 0, 0);
    u32 n = F8(v.vmcb, C_INSN), i;
    bool ok = e.code == code && e.info1 == info1 && e.info2 == info2;

    tap(ok, name);
    if (!ok) {
        ml_printf("# got exit 0x%lx info1 0x%lx info2 0x%lx, want 0x%lx 0x%lx "
                  "0x%lx\n", e.code, e.info1, e.info2, code, info1, info2);
    }
    ok = n == 15;
    for (i = 0; i < n && i < 15; i++) {
        ok = ok && F8(v.vmcb, C_INSN + 1 + i) == insn[i];
    }
    tap(ok, "  instruction bytes");
    if (!ok) {
        ml_printf("# %u bytes, the first is 0x%x, want 15, 0x%x\n", n,
                  F8(v.vmcb, C_INSN + 1), insn[0]);
    }
    if (e.code != EXIT_DONE) {
        F64(v.vmcb, C_SAVE + S_RIP) = (u64)(insn == i_store ? e_store
                                                            : e_load);
        must(vm_resume(&v).code == EXIT_DONE);
    }
}

static void test_plain_faults(void)
{
    insn_bytes("#NPF, read", i_load, G_MMIO, EXIT_NPF, PF_U | NPF_GPA, G_MMIO);
    insn_bytes("#NPF, write", i_store, G_MMIO, EXIT_NPF,
               PF_U | PF_W | NPF_GPA, G_MMIO + 0x40);
    npt_map(&vm, G_MMIO, BIT(50), PAGE, PTE_P | PTE_W | PTE_U);
    insn_bytes("#NPF, reserved bit", i_load, G_MMIO, EXIT_NPF,
               PF_P | PF_U | PF_RSVD | NPF_GPA, G_MMIO);
    npt_map(&vm, G_MMIO, 0, PAGE, 0);
    intercept(EXC(VEC_PF), true);
    insn_bytes("#PF, write", i_store, 16 * GB, EXIT_EXC + VEC_PF, PF_W,
               16 * GB + 0x40);
    intercept(EXC(VEC_PF), false);
}

/* -- SEV-SNP -------------------------------------------------------------- */

static void test_snp(void)
{
    unsigned int i;

    for (i = 0; i < ARRAY_SIZE(insns); i++) {
        struct exc *x = &v.req->exc;
        struct exit e;
        bool ok;

        if (insns[i].es == ES_NOT) {
            continue;
        }
        intercept(insns[i].bit, true);
        e = vm_call(&v, g_insn, (u64)insns[i].insn, insns[i].rax,
                    insns[i].rcx, insns[i].rdx);
        if (insns[i].es == ES_VC) {
            ok = e.code == EXIT_DONE && x->vector == VEC_VC &&
                 x->error == insns[i].exit && x->rip == (u64)insns[i].insn;
        } else {
            ok = e.code == insns[i].exit;
        }
        tap(ok, insns[i].name);
        if (!ok && e.code == EXIT_DONE) {
            ml_printf("# got vector 0x%lx error 0x%lx rip +%ld, want 0x%lx\n",
                      x->vector, x->error, x->rip - (u64)insns[i].insn,
                      insns[i].exit);
        } else if (!ok) {
            ml_printf("# got exit 0x%lx, want 0x%lx\n", e.code, insns[i].exit);
        }
        if (e.code != EXIT_DONE) {
            /* The host cannot move RIP: it has been moved */
            e = vm_resume(&v);
            tap_eq("  and goes on", e.code == EXIT_DONE ? x->vector : e.code,
                   VEC_NONE);
            intercept(insns[i].bit, false);
            if (e.code != EXIT_DONE) {
                must(vm_resume(&v).code == EXIT_DONE);
            }
        }
        intercept(insns[i].bit, false);
    }
}

/* A guest that is not SNP-active has #VC just as well */
static void test_es(void)
{
    struct exit e;

    intercept(MISC1(18), true);
    e = vm_call(&v, g_insn, (u64)i_cpuid, 0, 0, 0);
    tap(e.code == EXIT_DONE && v.req->exc.vector == VEC_VC &&
        v.req->exc.error == EXIT_CPUID, "CPUID");
    intercept(MISC1(18), false);
    intercept(MISC1(24), true);
    e = vm_call(&v, g_insn, (u64)i_hlt, 0, 0, 0);
    tap_eq("HLT", e.code, EXIT_HLT);
    intercept(MISC1(24), false);
    e = vm_resume(&v);
    tap_eq("  and goes on", e.code, EXIT_DONE);
}

static u64 g_ghcb(u64 val, u64 b, u64 c, u64 d)
{
    wrmsr(MSR_GHCB, val);
    asm volatile("rep; vmmcall" : : : "memory");
    return rdmsr(MSR_GHCB);
}

static u64 g_repne_vmgexit(u64 a, u64 b, u64 c, u64 d)
{
    asm volatile("repne; vmmcall" : : : "memory");
    return 0x6e;
}

static u64 g_rdmsr(u64 msr, u64 b, u64 c, u64 d)
{
    return try_rdmsr(msr);
}

static u64 g_wrmsr(u64 msr, u64 val, u64 c, u64 d)
{
    try_wrmsr(msr, val);
    return 0;
}

static void test_ghcb(void)
{
    struct exit e;

    intercept(MISC1(28), true);
    e = vm_call(&v, g_ghcb, 0x1234002, 0, 0, 0);
    tap_eq("VMGEXIT", e.code, EXIT_VMGEXIT);
    tap_eq("  GHCB MSR in the VMCB", F64(v.vmcb, C_GHCB), 0x1234002);
    F64(v.vmcb, C_GHCB) = 0x5678001;
    e = vm_resume(&v);
    tap_eq("  goes on", e.code, EXIT_DONE);
    tap_eq("  GHCB MSR from the VMCB", v.req->ret, 0x5678001);
    e = vm_call(&v, g_repne_vmgexit, 0, 0, 0, 0);
    tap_eq("VMGEXIT with F2", e.code, EXIT_VMGEXIT);
    e = vm_resume(&v);
    tap_eq("  goes on", v.req->ret, 0x6e);
    vm_call(&v, g_rdmsr, MSR_SEV_STATUS, 0, 0, 0);
    tap_eq("SEV_STATUS is not intercepted", v.req->exc.vector, VEC_NONE);
    tap_eq("  its value", v.req->ret, 7);
    vm_call(&v, g_wrmsr, MSR_SEV_STATUS, 0, 0, 0);
    tap(v.req->exc.vector == VEC_GP || v.req->exc.vector == VEC_VC,
        "  it cannot be written");
    intercept(MISC1(28), false);
}

/* Traps: what was written is in force, and RIP is that after it */
INSN(trap_cr0, "mov %rax, %cr0");
INSN(trap_cr4, "mov %rax, %cr4");
INSN(trap_cr8, "mov %rax, %cr8");
INSN(trap_efer, "wrmsr");

static u64 g_read_state(u64 which, u64 b, u64 c, u64 d)
{
    u64 val;

    switch (which) {
    case 0:
        asm volatile("mov %%cr0, %0" : "=r"(val));
        return val;
    case 4:
        return read_cr4();
    case 8:
        asm volatile("mov %%cr8, %0" : "=r"(val));
        return val;
    default:
        return rdmsr(MSR_EFER);
    }
}

static void test_traps(void)
{
    static const struct {
        const char *name;
        u8 *insn;
        u64 which, flip;
        u32 bit;
        u64 exit;
    } t[] = {
        { "CR0 write trap", i_trap_cr0, 0, BIT(18), 16, 0x90 },
        { "CR4 write trap", i_trap_cr4, 4, BIT(10), 20, 0x94 },
        { "CR8 write trap", i_trap_cr8, 8, 5, 24, 0x98 },
        { "EFER write trap", i_trap_efer, MSR_EFER, BIT(0), 15, 0x8f },
    };
    unsigned int i;

    for (i = 0; i < ARRAY_SIZE(t); i++) {
        struct exit e;
        u64 val;

        must(vm_call(&v, g_read_state, t[i].which, 0, 0, 0).code == EXIT_DONE);
        val = v.req->ret ^ t[i].flip;
        intercept(MISC2(t[i].bit), true);
        e = vm_call(&v, g_insn, (u64)t[i].insn, (u32)val, t[i].which, 0);
        intercept(MISC2(t[i].bit), false);
        tap_eq(t[i].name, e.code, t[i].exit);
        tap_eq("  EXITINFO1 is the value", e.info1, val);
        if (e.code != EXIT_DONE) {
            e = vm_resume(&v);
        }
        tap_eq("  goes on", e.code, EXIT_DONE);
        tap_eq("  without an exception", v.req->exc.vector, VEC_NONE);
        vm_call(&v, g_read_state, t[i].which, 0, 0, 0);
        tap_eq("  and the value is in force", v.req->ret, val);
    }
}

/* -- protected state ------------------------------------------------------ */

static u64 g_regs(u64 a, u64 b, u64 c, u64 d)
{
    u64 bad;

    asm volatile("push %%rbp\n\t"
                 "movabs $0x1111111111111111, %%rax\n\t"
                 "lea 1(%%rax), %%rbx\n\tlea 2(%%rax), %%rcx\n\t"
                 "lea 3(%%rax), %%rdx\n\tlea 4(%%rax), %%rsi\n\t"
                 "lea 5(%%rax), %%rdi\n\tlea 6(%%rax), %%rbp\n\t"
                 "lea 7(%%rax), %%r8\n\tlea 8(%%rax), %%r9\n\t"
                 "lea 9(%%rax), %%r10\n\tlea 10(%%rax), %%r11\n\t"
                 "lea 11(%%rax), %%r12\n\tlea 12(%%rax), %%r13\n\t"
                 "lea 13(%%rax), %%r14\n\tlea 14(%%rax), %%r15\n\t"
                 "rep; vmmcall\n\t"
                 "sub %%rax, %%rbx\n\tsub %%rax, %%rcx\n\t"
                 "sub %%rax, %%rdx\n\tsub %%rax, %%rsi\n\t"
                 "sub %%rax, %%rdi\n\tsub %%rax, %%rbp\n\t"
                 "sub %%rax, %%r8\n\tsub %%rax, %%r9\n\t"
                 "sub %%rax, %%r10\n\tsub %%rax, %%r11\n\t"
                 "sub %%rax, %%r12\n\tsub %%rax, %%r13\n\t"
                 "sub %%rax, %%r14\n\tsub %%rax, %%r15\n\t"
                 /* 1 to 14: the sum of their squares */
                 "imul %%rbx, %%rbx\n\timul %%rcx, %%rcx\n\t"
                 "imul %%rdx, %%rdx\n\timul %%rsi, %%rsi\n\t"
                 "imul %%rdi, %%rdi\n\timul %%rbp, %%rbp\n\t"
                 "imul %%r8, %%r8\n\timul %%r9, %%r9\n\t"
                 "imul %%r10, %%r10\n\timul %%r11, %%r11\n\t"
                 "imul %%r12, %%r12\n\timul %%r13, %%r13\n\t"
                 "imul %%r14, %%r14\n\timul %%r15, %%r15\n\t"
                 "add %%rbx, %%rax\n\tadd %%rcx, %%rax\n\t"
                 "add %%rdx, %%rax\n\tadd %%rsi, %%rax\n\t"
                 "add %%rdi, %%rax\n\tadd %%rbp, %%rax\n\t"
                 "add %%r8, %%rax\n\tadd %%r9, %%rax\n\t"
                 "add %%r10, %%rax\n\tadd %%r11, %%rax\n\t"
                 "add %%r12, %%rax\n\tadd %%r13, %%rax\n\t"
                 "add %%r14, %%rax\n\tadd %%r15, %%rax\n\t"
                 "pop %%rbp"
                 : "=&a"(bad) : : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9",
                 "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
    return bad - 0x1111111111111111ULL;
}

static u64 fpu_pattern[2] __attribute__((aligned(16))) = {
    0x0123456789abcdefULL, 0xfedcba9876543210ULL
};

#define FPU_PI_PLUS_1 0x401090fdaa22168cULL

static u64 g_fpu(u64 a, u64 b, u64 c, u64 d)
{
    u64 out[4], st = 0;
    u32 mxcsr = 0x5f80, mxcsr2 = 0;
    u16 fcw = 0x27f, fcw2 = 0;

    asm volatile("fninit\n\tfldcw %6\n\tfldpi\n\tfld1\n\t"
                 "movdqu %4, %%xmm0\n\tmovdqu %4, %%xmm15\n\tldmxcsr %5\n\t"
                 "rep; vmmcall\n\t"
                 "movdqu %%xmm0, %0\n\tmovdqu %%xmm15, 16%0\n\t"
                 "stmxcsr %1\n\tfnstcw %2\n\tfaddp\n\tfstpl %3\n\tfninit"
                 : "=m"(out), "=m"(mxcsr2), "=m"(fcw2), "=m"(st)
                 : "m"(fpu_pattern), "m"(mxcsr), "m"(fcw) : "memory");
    return (out[0] == fpu_pattern[0] && out[1] == fpu_pattern[1]) |
           (out[2] == fpu_pattern[0] && out[3] == fpu_pattern[1]) << 1 |
           (mxcsr2 == mxcsr) << 2 | (fcw2 == fcw) << 3 |
           (st == FPU_PI_PLUS_1) << 4;
}

static u64 g_msrs(u64 on, u64 b, u64 c, u64 d)
{
    static const u32 msr[] = { MSR_STAR, MSR_LSTAR, MSR_FS_BASE,
                               MSR_KGS_BASE };
    u64 i, bad = 0;

    for (i = 0; i < ARRAY_SIZE(msr); i++) {
        wrmsr(msr[i], 0x7700000000ULL + i);
    }
    asm volatile("rep; vmmcall" : : : "memory");
    for (i = 0; i < ARRAY_SIZE(msr); i++) {
        bad += rdmsr(msr[i]) != 0x7700000000ULL + i;
    }
    return bad;
}

/* Whether anything of the VMCB's state save area is set */
static bool save_area_used(void)
{
    u32 i;

    for (i = C_SAVE; i < PAGE; i += 8) {
        if (F64(v.vmcb, i)) {
            ml_printf("# VMCB offset 0x%x: 0x%lx\n", i, F64(v.vmcb, i));
            return true;
        }
    }
    return false;
}

static void test_state(void)
{
    static const char *name[] = {
        "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9",
        "R10", "R11", "R12", "R13", "R14", "R15",
    };
    u64 lstar = rdmsr(MSR_LSTAR), ones[2] = { ~0ULL, ~0ULL };
    u32 mxcsr = 0x7f80;
    struct exit e;
    u32 i;

    memset_((void *)(v.vmcb + C_SAVE), 0, PAGE - C_SAVE);
    wrmsr(MSR_LSTAR, 0x1234567);
    wrmsr(MSR_FS_BASE, 0x7654321);
    asm volatile("movdqu %0, %%xmm0\n\tmovdqu %0, %%xmm15\n\tldmxcsr %1"
                 : : "m"(ones), "m"(mxcsr));
    e = vm_call(&v, g_regs, 0, 0, 0, 0);
    must(e.code == EXIT_VMGEXIT);
    for (i = 0; i < 16; i++) {
        if (i != 0 && i != 4) {
            say("after #VMEXIT", name[i]);
            tap_eq("host's register is from the save area", svm_es_regs[i],
                   0xb0b0000000000000ULL + i);
        }
    }
    tap_eq("host's RAX is what it was", svm_es_regs[0], v.vmcb);
    tap_eq("host's FS base is from the save area", svm_es_regs[16], 0x7654321);
    tap_eq("host's GS base is from the save area", svm_es_regs[17],
           (u64)this_cpu());
    tap_eq("host's LSTAR is from the save area", rdmsr(MSR_LSTAR), 0x1234567);
    tap(!svm_es_regs[18] && !svm_es_regs[19] && !svm_es_regs[20] &&
        !svm_es_regs[21], "host's XMM registers are reset");
    tap_eq("host's MXCSR is reset", (u32)svm_es_regs[22], 0x1f80);
    e = vm_resume(&v);
    tap_eq("guest's registers are kept", v.req->ret, 1015);
    e = vm_call(&v, g_fpu, 0, 0, 0, 0);
    must(e.code == EXIT_VMGEXIT);
    tap(!svm_es_regs[18] && !svm_es_regs[19] && !svm_es_regs[20] &&
        !svm_es_regs[21], "guest's XMM registers are not to be seen");
    asm volatile("movdqu %0, %%xmm0\n\tmovdqu %0, %%xmm15\n\tfninit"
                 : : "m"(ones));
    e = vm_resume(&v);
    tap_eq("guest's XMM, MXCSR, x87 are kept", v.req->ret, 31);
    e = vm_call(&v, g_msrs, 0, 0, 0, 0);
    must(e.code == EXIT_VMGEXIT);
    tap_eq("guest's MSRs are not to be seen", rdmsr(MSR_LSTAR), 0x1234567);
    wrmsr(MSR_STAR, 0);
    wrmsr(MSR_KGS_BASE, 0);
    e = vm_resume(&v);
    tap_eq("guest's MSRs are kept", v.req->ret, 0);
    tap(!save_area_used(), "nothing of the guest's state is in the VMCB");
    wrmsr(MSR_LSTAR, lstar);
}

/* MMIO: a reserved bit of the nested tables is the host's way to say so */
static void test_mmio(void)
{
    struct exit e;

    npt_map(&vm, G_MMIO, BIT(50), PAGE, PTE_P | PTE_W | PTE_U);
    e = vm_call(&v, g_read, G_MMIO + G_PUBLIC, 0, 0, 0);
    tap(e.code == EXIT_DONE && v.req->exc.vector == VEC_VC &&
        v.req->exc.error == EXIT_NPF, "MMIO read: #VC");
    e = vm_call(&v, g_write, G_MMIO + G_PUBLIC, 1, 0, 0);
    tap(e.code == EXIT_DONE && v.req->exc.vector == VEC_VC &&
        v.req->exc.error == EXIT_NPF, "MMIO write: #VC");
    npt_map(&vm, G_MMIO, 0, PAGE, 0);
    e = vm_call(&v, g_read, G_MMIO + G_PUBLIC, 0, 0, 0);
    tap(e.code == EXIT_NPF && e.info1 == (PF_U | NPF_GPA) &&
        e.info2 == G_MMIO, "not mapped: #NPF");
    tap_eq("  no instruction bytes", F8(v.vmcb, C_INSN), 0);
    F64(v.vmcb, C_EVENTINJ) = BIT(31) | BIT(11) | 3 << 8 | VEC_GP;
    e = vm_resume(&v);
    F64(v.vmcb, C_EVENTINJ) = 0;
    tap_eq("  #GP injected", v.req->exc.vector, VEC_GP);
}

/* An interrupt of the host's ends the guest's run */
static u64 g_count(u64 a, u64 b, u64 c, u64 d)
{
    u64 i, n = 0;

    for (i = 0; i < 1000; i++) {
        n += i;
        asm volatile("" : "+r"(n));
    }
    return n;
}

static void test_intr(const char *name)
{
    u32 before = this_cpu()->wakeups;
    struct exit e;

    F32(v.vmcb, C_INT_CTL) |= BIT(24);
    send_ipi(apic_read(0x20) >> 24, 0x4000 | VEC_WAKE);
    e = vm_call(&v, g_count, 0, 0, 0, 0);
    tap_eq(name, e.code, EXIT_INTR);
    tap_eq("  it is still pending", this_cpu()->wakeups, before);
    asm volatile("sti; nop; nop; cli" : : : "memory");
    tap_eq("  and taken by the host", this_cpu()->wakeups, before + 1);
    while (e.code == EXIT_INTR) {
        e = vm_resume(&v);
    }
    tap(e.code == EXIT_DONE && v.req->ret == 499500, "  the guest goes on");
    F32(v.vmcb, C_INT_CTL) &= ~BIT(24);
}

/*
 * An interrupt that the host injects is taken once, also if the emulator has
 * something to do for the processor soon after: here, because the memory map
 * changes
 */
static u64 g_injected(u64 a, u64 b, u64 c, u64 d)
{
    u32 pam;

    this_cpu()->injected = 0;
    asm volatile("vmmcall" : : : "memory");
    outl(0xcf8, BIT(31) | 0x90);
    pam = inl(0xcfc);
    outl(0xcfc, pam ^ 0x30);
    outl(0xcfc, pam);
    return this_cpu()->injected;
}

static void test_injected(void)
{
    struct exit e = vm_call(&v, g_injected, 0, 0, 0, 0);

    must(e.code == EXIT_VMMCALL);
    F64(v.vmcb, C_SAVE + S_RIP) = F64(v.vmcb, C_NRIP);
    F64(v.vmcb, C_EVENTINJ) = BIT(31) | VEC_INJECTED;
    e = vm_resume(&v);
    F64(v.vmcb, C_EVENTINJ) = 0;
    tap(e.code == EXIT_DONE && v.req->ret == 1, "an injected interrupt: once");
    if (e.code != EXIT_DONE || v.req->ret != 1) {
        ml_printf("# exit 0x%lx, %lu times\n", e.code, v.req->ret);
    }
}

int main(void)
{
    lib_init();
    if (!ap_start()) {
        bail("needs two processors");
    }
    svm_enable();
    snp_enable();

    ml_printf("# an ordinary guest\n");
    start(VM_PLAIN, 1);
    test_plain();
    test_not_intercepted();
    test_plain_faults();
    test_intr("INTR");
    test_injected();
    vm_call(&v, g_rdmsr, MSR_SEV_STATUS, 0, 0, 0);
    tap_eq("SEV_STATUS of an ordinary guest", v.req->ret, 0);

    ml_printf("# an SEV guest\n");
    start(VM_SEV, 200);
    intercept(MISC1(28), true);
    vm_call(&v, g_rdmsr, MSR_SEV_STATUS, 0, 0, 0);
    tap_eq("SEV_STATUS of an SEV guest", v.req->ret, 1);
    intercept(MISC1(28), false);

    ml_printf("# an SEV-ES guest\n");
    start(VM_SEV_ES, 20);
    test_es();
    intercept(MISC1(28), true);
    vm_call(&v, g_rdmsr, MSR_SEV_STATUS, 0, 0, 0);
    tap_eq("SEV_STATUS of an SEV-ES guest", v.req->ret, 3);
    intercept(MISC1(28), false);
    test_state();

    ml_printf("# an SEV-SNP guest\n");
    snp_firmware_init();
    start(VM_SNP, 5);
    test_snp();
    test_ghcb();
    test_traps();
    test_state();
    test_mmio();
    test_intr("INTR");
    return tap_end();
}
