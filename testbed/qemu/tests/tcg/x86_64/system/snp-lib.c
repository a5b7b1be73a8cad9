/*
 * Library of the SEV-SNP tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "snp-lib.h"

#define AP_PAGE     0x8000
#define APIC        0xfee00000ULL
#define CR_PAE      BIT(5)
#define CR_OSFXSR   BIT(9)

struct cpu cpus[NR_CPUS];
enum vm_kind guest_kind;
u64 svm_es_regs[23];
u64 ap_stack;

static u64 idt[512] __attribute__((aligned(16)));
static u64 host_pages[32][512] PAGE_ALIGNED;
static u64 guest_root;
u64 *guest_walk_pde;
void (*snp_launch_more)(struct vm *vm);
static struct pool host_pool = {
    (u64 *)host_pages, 0, 32, PTE_P | PTE_W | PTE_U | PTE_A
};
static u64 guest_pages[24][512] PAGE_ALIGNED;
static u64 npt_pages[128][512] PAGE_ALIGNED;
static u8 vmcb_pages[2][PAGE] PAGE_ALIGNED;
static u8 shared_pages[2][PAGE] PAGE_ALIGNED;
static u8 es_vmsa_pages[2][PAGE] PAGE_ALIGNED;
static u8 iopm[3 * PAGE] PAGE_ALIGNED;
static u8 msrpm[2 * PAGE] PAGE_ALIGNED;
static u32 cpu_count = 1;
static struct exc vmrun_exc;


void memcpy_(void *to, const void *from, u64 n)
{
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

void memset_(void *to, int c, u64 n)
{
    asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(c) : "memory");
}

/* GCC may call these whatever it is told */
void *memcpy(void *to, const void *from, size_t n)
{
    memcpy_(to, from, n);
    return to;
}

void *memset(void *to, int c, size_t n)
{
    memset_(to, c, n);
    return to;
}

/* -- results -------------------------------------------------------------- */

static unsigned int tests, failures;

void quit(int status)
{
    asm volatile("outb %0, $0xf4" : : "a"((u8)status));
    /* Without that device: ACPI power-off */
    asm volatile("outw %0, %1" : : "a"((u16)0x2000), "d"((u16)0x604));
    for (;;) {
        asm volatile("cli; hlt");
    }
}

void tap(bool ok, const char *name)
{
    ml_printf("%sok %u - %s\n", ok ? "" : "not ", ++tests, name);
    failures += !ok;
}

void tap_eq(const char *name, u64 got, u64 want)
{
    tap(got == want, name);
    if (got != want) {
        ml_printf("# got 0x%lx, want 0x%lx\n", got, want);
    }
}

int tap_end(void)
{
    ml_printf("1..%u\n", tests);
    ml_printf("# %u of %u failed\n", failures, tests);
    return failures != 0;
}

/* -- exceptions ----------------------------------------------------------- */

struct frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8;
    u64 rdi, rsi, rbp, rbx, rdx, rcx, rax;
    u64 vector, error, rip, cs, rflags, rsp, ss;
};

void exc_handler(struct frame *f)
{
    struct cpu *c;

    /* GS is not the host's there */
    if (f->rip == (u64)svm_vmrun || f->rip == (u64)svm_vmrun_es) {
        vmrun_exc = (struct exc){ f->vector, f->error, read_cr2(), f->rip };
        f->rip = (u64)svm_vmrun_faulted;
        return;
    }
    c = this_cpu();
    if (f->vector == VEC_WAKE) {
        c->wakeups++;
        apic_write(0xb0, 0);
        return;
    }
    if (f->vector == VEC_INJECTED) {
        c->injected++;
        return;
    }
    if (!c->recover_rip) {
        bail("vector %u error 0x%lx rip 0x%lx cr2 0x%lx on processor %u",
             (u32)f->vector, f->error, f->rip, read_cr2(),
             (u32)(c - cpus));
    }
    if (f->vector != VEC_USER) {
        c->exc.vector = f->vector;
        c->exc.error = f->error;
        c->exc.rip = f->rip;
        c->exc.cr2 = read_cr2();
    }
    f->rip = c->recover_rip;
    f->rsp = c->recover_rsp;
    f->cs = SEL_CS;
    f->ss = SEL_SS;
    f->rflags = 2;
    c->recover_rip = 0;
}

u64 try_read(u64 va)
{
    u64 v = 0;

    exc_clear();
    asm volatile(TRY_BEGIN "mov (%1), %0" TRY_END
                 : "+&r"(v) : "r"(va) : TRY_CLOBBER);
    return v;
}

void try_write(u64 va, u64 val)
{
    exc_clear();
    asm volatile(TRY_BEGIN "mov %0, (%1)" TRY_END
                 : : "r"(val), "r"(va) : TRY_CLOBBER);
}

void try_write8(u64 va, u8 val)
{
    exc_clear();
    asm volatile(TRY_BEGIN "movb %b0, (%1)" TRY_END
                 : : "r"(val), "r"(va) : TRY_CLOBBER);
}

void try_exec(u64 va)
{
    exc_clear();
    asm volatile(TRY_BEGIN "call *%0" TRY_END : : "r"(va) : TRY_CLOBBER);
}

u64 try_rdmsr(u32 msr)
{
    u32 lo = 0, hi = 0;

    exc_clear();
    asm volatile(TRY_BEGIN "rdmsr" TRY_END
                 : "+a"(lo), "+d"(hi) : "c"(msr) : TRY_CLOBBER);
    return (u64)hi << 32 | lo;
}

void try_wrmsr(u32 msr, u64 val)
{
    exc_clear();
    asm volatile(TRY_BEGIN "wrmsr" TRY_END
                 : : "c"(msr), "a"((u32)val), "d"((u32)(val >> 32))
                 : TRY_CLOBBER);
}

void call_user(void (*fn)(u64), u64 arg)
{
    struct cpu *c = this_cpu();

    exc_clear();
    call_user_asm(fn, arg, (u64)c->stacks[1] + sizeof(c->stacks[1]) - 8);
}

void user_exit(void)
{
    asm volatile("int $0x80");
}

/* -- instructions --------------------------------------------------------- */

/* The flags are taken before anything can change them */
#define RES_INSN(bytes, ...) ({ \
    struct res r_; \
    u64 a_ = rax, f_ = 0; \
    exc_clear(); \
    asm volatile(TRY_BEGIN bytes "\n\tpushfq\n\tpop %1" TRY_END \
                 : "+a"(a_), "+&r"(f_) : __VA_ARGS__ : TRY_CLOBBER, "cc"); \
    r_ = (struct res){ this_cpu()->exc.vector, a_, f_ }; \
    r_; })

struct res do_rmpupdate(u64 rax, const void *state)
{
    return RES_INSN(".byte 0xf2, 0x0f, 0x01, 0xfe", "c"(state));
}

struct res do_psmash(u64 rax)
{
    return RES_INSN(".byte 0xf3, 0x0f, 0x01, 0xff", "c"(0));
}

struct res do_pvalidate(u64 rax, u64 ecx, u64 edx)
{
    return RES_INSN(".byte 0xf2, 0x0f, 0x01, 0xff", "c"(ecx), "d"(edx));
}

struct res do_rmpadjust(u64 rax, u64 rcx, u64 rdx)
{
    return RES_INSN(".byte 0xf3, 0x0f, 0x01, 0xfe", "c"(rcx), "d"(rdx));
}

u32 rmpupdate(u64 pa, u64 gpa, bool assigned, bool large, bool immutable,
              u32 asid)
{
    struct rmp_state s = { gpa, assigned, large, immutable, 0, asid };
    struct res r = do_rmpupdate(pa, &s);

    return r.vector == VEC_NONE ? r.eax : 0x1000 + r.vector;
}

/* -- page tables ---------------------------------------------------------- */

u64 *pt_alloc(struct pool *p)
{
    must(p->used < p->count);
    return p->pages + 512 * p->used++;
}

u64 *pt_map(struct pool *p, u64 *root, u64 va, u64 pa, u64 size, u64 flags)
{
    u64 *table = root, *e;
    int level;

    for (level = 3; ; level--) {
        e = &table[(va >> (12 + 9 * level)) & 511];
        if (size == PAGE << (9 * level)) {
            break;
        }
        if (!(*e & PTE_P) || (*e & PTE_PS)) {
            *e = (u64)pt_alloc(p) | p->table_flags;
        }
        table = (u64 *)(*e & PTE_ADDR & ~PTE_C);
    }
    *e = pa | flags | (level ? PTE_PS : 0);
    return e;
}

u64 *host_map(u64 va, u64 pa, u64 size, u64 flags)
{
    u64 *e = pt_map(&host_pool, (u64 *)(read_cr3() & PTE_ADDR), va, pa, size,
                    flags);

    write_cr3(read_cr3());
    return e;
}

/* -- the machine ---------------------------------------------------------- */

void cpu_relax(void)
{
    asm volatile("pause" : : : "memory");
}

u32 apic_read(u32 reg)
{
    return F32(APIC, reg);
}

void apic_write(u32 reg, u32 val)
{
    F32(APIC, reg) = val;
}

void send_ipi(u32 apic_id, u32 icr_lo)
{
    apic_write(0x310, apic_id << 24);
    apic_write(0x300, icr_lo);
    while (apic_read(0x300) & BIT(12)) {
        cpu_relax();
    }
}

static void cpu_init(struct cpu *c)
{
    u64 tss = (u64)c->tss, stack = (u64)c->stacks[2] + sizeof(c->stacks[2]);

    c->self = c;
    c->exc.vector = VEC_NONE;
    c->hsave = (u64)c->hsave_area;
    c->gdt[SEL_CS / 8] = 0x00af9b000000ffffULL;
    c->gdt[SEL_SS / 8] = 0x00cf93000000ffffULL;
    c->gdt[SEL_USS / 8] = 0x00cff3000000ffffULL;
    c->gdt[SEL_UCS / 8] = 0x00affb000000ffffULL;
    c->gdt[SEL_TSS / 8] = 0x0000890000000067ULL | (tss & 0xffffff) << 16 |
                (tss >> 24 & 0xff) << 56;
    c->gdt[SEL_TSS / 8 + 1] = tss >> 32;
    c->gdt[SEL_CS32 / 8] = 0x00cf9b000000ffffULL;
    memcpy_(c->tss + 4, &stack, 8);
    c->tss[0x66] = 0x68;
}

struct desc {
    u16 limit;
    u64 base;
} __attribute__((packed));

/* On the processor itself, on whatever GDT it started with */
static void cpu_load(struct cpu *c)
{
    struct desc gdt = { sizeof(c->gdt) - 1, (u64)c->gdt };
    struct desc idtr = { sizeof(idt) - 1, (u64)idt };

    asm volatile("lgdt %0\n\tlidt %1" : : "m"(gdt), "m"(idtr));
    asm volatile("mov %0, %%ds\n\tmov %0, %%es\n\tmov %0, %%ss\n\t"
                 "mov %1, %%fs\n\tmov %1, %%gs\n\tltr %w2\n\tlldt %w1"
                 : : "r"(SEL_SS), "r"(0), "r"(SEL_TSS));
    wrmsr(MSR_GS_BASE, (u64)c);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    write_cr4(read_cr4() | CR_PAE | CR_OSFXSR);
    apic_write(0xf0, 0x1ff);
}

void lib_init(void)
{
    /* boot.S has but the first entry of its top-level table */
    u64 *pml4 = pt_alloc(&host_pool), addr, *pdp;
    int i;

    for (i = 0; i < 256; i++) {
        addr = (u64)exc_stubs + 16 * i;
        idt[2 * i] = (addr & 0xffff) | SEL_CS << 16 |
                     (i == VEC_USER ? 0xeeULL : 0x8eULL) << 40 |
                     (addr >> 16 & 0xffff) << 48;
        idt[2 * i + 1] = addr >> 32;
    }
    for (i = 0; i < NR_CPUS; i++) {
        cpu_init(&cpus[i]);
    }
    cpu_load(&cpus[CPU_BSP]);
    /* The BIOS left its timer running */
    asm volatile("outb %%al, $0x21\n\toutb %%al, $0xa1" : : "a"(0xff));
    pml4[0] = *(u64 *)(read_cr3() & PTE_ADDR);
    pdp = (u64 *)(pml4[0] & PTE_ADDR);
    for (i = 4; i < 8; i++) {
        pdp[i] = i * GB | PTE_PS | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
    }
    write_cr3((u64)pml4);
}

/* Volatile: what one processor writes and the other one waits for */
static volatile struct {
    u32 up, posted, done;
    u64 (*fn)(u64);
    u64 arg, ret;
} ap;

void ap_main(void)
{
    cpu_load(&cpus[CPU_AP]);
    ap.up = 1;
    for (;;) {
        asm volatile("cli" : : : "memory");
        while (ap.posted == ap.done) {
            asm volatile("sti; hlt; cli" : : : "memory");
        }
        ap.ret = ap.fn(ap.arg);
        asm volatile("" : : : "memory");
        ap.done++;
    }
}

bool ap_start(void)
{
    struct desc *gdt = (void *)(AP_PAGE + (ap_tramp_gdt - ap_trampoline));
    u64 spin;

    /* Whatever it did before */
    cpu_init(&cpus[CPU_AP]);
    ap.up = 0;
    ap.done = ap.posted;
    memcpy_((void *)AP_PAGE, ap_trampoline, ap_trampoline_end - ap_trampoline);
    gdt->base = (u64)cpus[CPU_AP].gdt;
    F32(AP_PAGE, ap_tramp_cr3 - ap_trampoline) = read_cr3();
    ap_stack = (u64)cpus[CPU_AP].stacks[0] + sizeof(cpus[CPU_AP].stacks[0]);
    send_ipi(1, 0x4500);
    for (spin = 0; spin < 100000; spin++) {
        cpu_relax();
    }
    send_ipi(1, 0x4600 | AP_PAGE >> 12);
    for (spin = 0; spin < 20000000 && !ap.up; spin++) {
        cpu_relax();
    }
    if (ap.up) {
        cpu_count = 2;
    }
    return ap.up;
}

void ap_post(u64 (*fn)(u64), u64 arg)
{
    ap.fn = fn;
    ap.arg = arg;
    asm volatile("" : : : "memory");
    ap.posted++;
    send_ipi(1, 0x4000 | VEC_WAKE);
}

u64 ap_wait(void)
{
    while (ap.posted != ap.done) {
        cpu_relax();
    }
    return ap.ret;
}

u64 ap_call(u64 (*fn)(u64), u64 arg)
{
    ap_post(fn, arg);
    return ap_wait();
}

/* On all processors */
static void on_all(u64 (*fn)(u64), u64 arg)
{
    if (cpu_count > 1) {
        ap_call(fn, arg);
    }
    fn(arg);
}

void svm_enable(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_HSAVE, this_cpu()->hsave);
}

static u64 syscfg_set(u64 bits)
{
    wrmsr(MSR_SYSCFG, rdmsr(MSR_SYSCFG) | bits);
    return 0;
}

static u64 do_wbinvd(u64 arg)
{
    wbinvd();
    return arg;
}

static u64 set_hsave(u64 on)
{
    if (rdmsr(MSR_EFER) & EFER_SVME) {
        wrmsr(MSR_HSAVE, on ? this_cpu()->hsave : 0);
    }
    return 0;
}

void snp_enable(void)
{
    u64 base = rdmsr(MSR_RMP_BASE), end = rdmsr(MSR_RMP_END);

    must(base && end > base);
    memset_((void *)base, 0, end + 1 - base);
    on_all(do_wbinvd, 0);
    on_all(syscfg_set, SYSCFG_MFDM);
    on_all(syscfg_set, SYSCFG_SNP | SYSCFG_VMPL);
}

u64 *rmp_entry(u64 pa)
{
    return (u64 *)(rdmsr(MSR_RMP_BASE) + 16 * KB + pa / PAGE * 16);
}

/* -- the firmware --------------------------------------------------------- */

static u64 psp_bar;

static u32 pci_read(u32 dev, u32 reg)
{
    outl(0xcf8, BIT(31) | dev << 11 | reg);
    return inl(0xcfc);
}

static bool psp_init(void)
{
    u32 dev;

    for (dev = 0; dev < 32; dev++) {
        if (pci_read(dev, 0) != 0x14861022) {
            continue;
        }
        psp_bar = pci_read(dev, 0x18);
        if ((psp_bar & 6) == 4) {
            psp_bar |= (u64)pci_read(dev, 0x1c) << 32;
        }
        psp_bar &= ~0xfULL;
        outl(0xcf8, BIT(31) | dev << 11 | 4);
        outl(0xcfc, (inl(0xcfc) & 0xffff) | 6);
        return psp_bar;
    }
    return false;
}

u32 psp_cmd(u32 cmd, const void *buf)
{
    u64 spin;

    F32(psp_bar, 0x109e4) = (u64)buf >> 32;
    F32(psp_bar, 0x109e0) = (u64)buf;
    F32(psp_bar, 0x10980) = cmd << 16;
    for (spin = 0; !(F32(psp_bar, 0x10980) & BIT(31)); spin++) {
        must(spin < 100000000);
        cpu_relax();
    }
    return F32(psp_bar, 0x10980) & 0xffff;
}

static void psp_must(u32 cmd, const void *buf)
{
    u32 status = psp_cmd(cmd, buf);

    if (status) {
        bail("firmware command 0x%x: status 0x%x", cmd, status);
    }
}

/* The firmware wants it; with no valid device table entry, DMA passes */
static void iommu_enable(void)
{
    static u64 table[512] PAGE_ALIGNED;
    u32 dev, cap;
    u64 base;

    for (dev = 0; dev < 32; dev++) {
        if (pci_read(dev, 0) != ~0u && pci_read(dev, 8) >> 16 == 0x0806) {
            break;
        }
    }
    if (dev == 32) {
        bail("no IOMMU");
    }
    for (cap = pci_read(dev, 0x34) & 0xfc; cap;
         cap = pci_read(dev, cap) >> 8 & 0xfc) {
        if ((pci_read(dev, cap) & 0xff) == 0x0f) {
            break;
        }
    }
    must(cap);
    base = (u64)pci_read(dev, cap + 8) << 32 |
           (pci_read(dev, cap + 4) & ~0x3fffu);
    F64(base, 0) = (u64)table;
    F64(base, 0x18) |= 1;
}

void snp_firmware_init(void)
{
    if (!psp_init()) {
        bail("no firmware");
    }
    iommu_enable();
    on_all(set_hsave, 0);
    on_all(do_wbinvd, 0);
    psp_must(SNP_INIT, NULL);
    on_all(do_wbinvd, 0);
    psp_must(SNP_DF_FLUSH, NULL);
    on_all(set_hsave, 1);
}

u64 region(void)
{
    static unsigned int used;

    must(used < 256);
    return P_POOL + LARGE * used++;
}

/* -- guests: the inside --------------------------------------------------- */

static void guest_exit(void)
{
    if (guest_kind >= VM_SEV_ES) {
        asm volatile("rep; vmmcall" : : : "memory");
    } else {
        asm volatile("vmmcall" : : : "memory");
    }
}

void guest_main(u64 index)
{
    /* Volatile: the host fills it in while the guest does not run */
    volatile struct request *q = (void *)(G_SHARED + index * PAGE);

    for (;;) {
        q->done = 1;
        guest_exit();
        exc_clear();
        q->ret = q->fn(q->arg[0], q->arg[1], q->arg[2], q->arg[3]);
        q->exc = this_cpu()->exc;
    }
}

void request_res(struct res r)
{
    ((struct request *)(G_SHARED + (this_cpu() - &cpus[CPU_GUEST]) * PAGE))
        ->res = r;
}

u64 g_nop(u64 a, u64 b, u64 c, u64 d)
{
    return 0x900d;
}

u64 g_read(u64 va, u64 b, u64 c, u64 d)
{
    return try_read(va);
}

u64 g_write(u64 va, u64 val, u64 c, u64 d)
{
    try_write(va, val);
    return 0;
}

u64 g_exec(u64 va, u64 b, u64 c, u64 d)
{
    try_exec(va);
    return 0;
}

static void user_exec(u64 va)
{
    asm volatile("call *%0" : : "r"(va) : "memory");
    user_exit();
}

u64 g_user_exec(u64 va, u64 b, u64 c, u64 d)
{
    call_user(user_exec, va);
    return 0;
}

u64 g_pvalidate(u64 rax, u64 ecx, u64 edx, u64 d)
{
    struct res r = do_pvalidate(rax, ecx, edx);

    request_res(r);
    return r.eax;
}

u64 g_rmpadjust(u64 rax, u64 rcx, u64 rdx, u64 d)
{
    struct res r = do_rmpadjust(rax, rcx, rdx);

    request_res(r);
    return r.eax;
}

/* -- guests: the outside -------------------------------------------------- */

static u64 *guest_tables(enum vm_kind kind)
{
    u64 c = kind == VM_PLAIN ? 0 : PTE_C;
    u64 leaf = PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
    struct pool p = {
        (u64 *)guest_pages, 0, ARRAY_SIZE(guest_pages), leaf | c
    };
    u64 *root, a;
    int i;

    memset_(guest_pages, 0, sizeof(guest_pages));
    root = pt_alloc(&p);
    for (a = 0; a < G_IMAGE_END; a += PAGE) {
        pt_map(&p, root, a, a, PAGE, leaf | c);
    }
    for (a = G_SHARED; a < G_SHARED + 2 * PAGE; a += PAGE) {
        pt_map(&p, root, a, a, PAGE, leaf);
    }
    for (i = 0; i < 2; i++) {
        u64 off = i * G_PUBLIC, bit = i ? 0 : c;

        for (a = G_TEST; a < G_TEST + G_TEST_PAGES * PAGE; a += PAGE) {
            pt_map(&p, root, a + off, a, PAGE, leaf | bit);
        }
        pt_map(&p, root, G_LARGE + off, G_LARGE, LARGE, leaf | bit);
        pt_map(&p, root, G_MMIO + off, G_MMIO, PAGE, leaf | bit);
    }
    /* The last test page is the table that maps G_WALK */
    a = G_TEST + (G_TEST_PAGES - 1) * PAGE;
    guest_walk_pde = pt_map(&p, root, G_WALK, a, LARGE, leaf | c);
    *guest_walk_pde &= ~PTE_PS;
    F64(P_TEST + (G_TEST_PAGES - 1) * PAGE, 0) =
        (G_TEST + (G_TEST_PAGES - 2) * PAGE) | leaf | c;
    return root;
}

static void seg(void *s, u16 sel, u16 attr, u32 limit, u64 base)
{
    F16(s, 0) = sel;
    F16(s, 2) = attr;
    F32(s, 4) = limit;
    F64(s, 8) = base;
}

void save_init(void *s, enum vm_kind kind, int cpu)
{
    struct cpu *c = &cpus[cpu];
    u8 *p = s;

    memset_(s, 0, 0x648);
    seg(p + S_ES, SEL_SS, 0xc93, ~0u, 0);
    seg(p + S_CS, SEL_CS, 0xa9b, ~0u, 0);
    seg(p + S_SS, SEL_SS, 0xc93, ~0u, 0);
    seg(p + S_DS, SEL_SS, 0xc93, ~0u, 0);
    seg(p + S_FS, 0, 0xc93, ~0u, 0);
    seg(p + S_GS, 0, 0xc93, ~0u, (u64)c);
    seg(p + S_GDTR, 0, 0, sizeof(c->gdt) - 1, (u64)c->gdt);
    seg(p + S_LDTR, 0, 0x82, 0xffff, 0);
    seg(p + S_IDTR, 0, 0, sizeof(idt) - 1, (u64)idt);
    seg(p + S_TR, SEL_TSS, 0x8b, 0x67, (u64)c->tss);
    F64(s, S_EFER) = EFER_LME | EFER_LMA | EFER_NXE | EFER_SVME;
    F64(s, S_CR4) = CR_PAE | CR_OSFXSR;
    F64(s, S_CR3) = guest_root | (kind == VM_PLAIN ? 0 : PTE_C);
    F64(s, S_CR0) = 0x80050033;
    F64(s, S_DR7) = 0x400;
    F64(s, S_DR6) = 0xffff0ff0;
    F64(s, S_RFLAGS) = 2;
    F64(s, S_RIP) = (u64)guest_start;
    F64(s, S_RSP) = (u64)c->stacks[0] + sizeof(c->stacks[0]) - 64;
    F64(s, S_PAT) = 0x0007040600070406ULL;
    if (kind >= VM_SEV_ES) {
        F64(s, S_RDI) = cpu - CPU_GUEST;
        F64(s, S_XCR0) = 1;
        F32(s, S_MXCSR) = 0x1f80;
        F16(s, S_FCW) = 0x37f;
        F64(s, S_SEV_FEATURES) = kind == VM_SNP;
    }
}

u64 *npt_entry(struct vm *vm, u64 gpa)
{
    u64 *table = vm->npt, *e;
    int level;

    for (level = 3; ; level--) {
        e = &table[(gpa >> (12 + 9 * level)) & 511];
        if (!level || !(*e & PTE_P) || (*e & PTE_PS)) {
            return e;
        }
        table = (u64 *)(*e & PTE_ADDR);
    }
}

void npt_map(struct vm *vm, u64 gpa, u64 pa, u64 size, u64 flags)
{
    pt_map(&vm->npt_pool, vm->npt, gpa, pa, size, flags);
}

#define NPT_ALL (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)

void vm_init(struct vm *vm, enum vm_kind kind, u32 asid)
{
    u64 a;

    memset_(vm, 0, sizeof(*vm));
    vm->kind = kind;
    vm->asid = asid;
    guest_kind = kind;
    guest_root = (u64)guest_tables(kind);
    memset_(npt_pages, 0, sizeof(npt_pages));
    vm->npt_pool = (struct pool) {
        (u64 *)npt_pages, 0, ARRAY_SIZE(npt_pages), NPT_ALL
    };
    vm->npt = pt_alloc(&vm->npt_pool);
    for (a = 0; a < G_IMAGE_END; a += PAGE) {
        npt_map(vm, a, kind == VM_SNP ? P_IMAGE + a : a, PAGE, NPT_ALL);
    }
    for (a = 0; a < 2 * PAGE; a += PAGE) {
        npt_map(vm, G_SHARED + a, (u64)shared_pages + a, PAGE, NPT_ALL);
    }
    for (a = 0; a < G_TEST_PAGES * PAGE; a += PAGE) {
        npt_map(vm, G_TEST + a, P_TEST + a, PAGE, NPT_ALL);
    }
    npt_map(vm, G_LARGE, P_LARGE, LARGE, NPT_ALL);
}

void vcpu_init(struct vm *vm, struct vcpu *v, int cpu)
{
    int i = cpu - CPU_GUEST;
    void *c = vmcb_pages[i];

    memset_(v, 0, sizeof(*v));
    memset_(c, 0, PAGE);
    v->vm = vm;
    v->vmcb = (u64)c;
    v->req = (struct request *)shared_pages[i];
    memset_(v->req, 0, PAGE);
    F32(c, C_MISC1) = BIT(0) | BIT(1) | BIT(31);
    F32(c, C_MISC2) = BIT(0) | BIT(1);
    F64(c, C_IOPM) = (u64)iopm;
    F64(c, C_MSRPM) = (u64)msrpm;
    F32(c, C_ASID) = vm->asid;
    F64(c, C_NCR3) = (u64)vm->npt;
    F64(c, C_NESTED) = NESTED_NP | (vm->kind >= VM_SEV ? NESTED_SEV : 0) |
                       (vm->kind >= VM_SEV_ES ? NESTED_ES : 0);
    v->regs[7] = i;
    if (vm->kind < VM_SEV_ES) {
        save_init((u8 *)c + C_SAVE, vm->kind, cpu);
        return;
    }
    F64(c, C_LBRV) = 1;
    v->vmsa = vm->kind == VM_SNP ? P_VMSA + i * LARGE + PAGE
                                 : (u64)es_vmsa_pages[i];
    F64(c, C_VMSA) = v->vmsa;
    memset_((void *)v->vmsa, 0, PAGE);
    save_init((void *)v->vmsa, vm->kind, cpu);
}

void snp_set_gctx(struct vm *vm)
{
    static u64 buf[8];

    vm->gctx = P_GCTX + PAGE;
    must(rmpupdate(vm->gctx, 0, true, false, true, 0) == OK);
    buf[0] = vm->gctx;
    psp_must(SNP_GCTX_CREATE, buf);
    memset_(buf, 0, sizeof(buf));
    buf[0] = vm->gctx;
    buf[1] = 0x30000;           /* SMT allowed; must be one */
    psp_must(SNP_LAUNCH_START, buf);
    buf[1] = vm->asid;
    psp_must(SNP_ACTIVATE, buf);
}

u32 snp_launch_page(struct vm *vm, u64 pa, u64 gpa, bool large, u32 type)
{
    static u64 buf[4];
    u32 r = rmpupdate(pa, gpa, true, large, true, vm->asid);

    if (r) {
        return 0x10000 + r;
    }
    buf[0] = vm->gctx;
    buf[1] = type << 1 | large;
    buf[2] = pa;
    buf[3] = 0;
    return psp_cmd(SNP_LAUNCH_UPDATE, buf);
}

void snp_launch(struct vm *vm, struct vcpu *v)
{
    static u64 buf[8];
    u64 start = (u64)__load_st & ~(PAGE - 1), end = (u64)__bss_en, a;

    must(end < G_IMAGE_END);
    /* RET, in all pages but the one that is a table */
    memset_((void *)P_TEST, 0xc3, (G_TEST_PAGES - 1) * PAGE);
    memset_((void *)P_LARGE, 0xc3, LARGE);
    snp_set_gctx(vm);
    memcpy_((void *)(P_IMAGE + start), (void *)start, end - start);
    for (a = start; a < end; a += PAGE) {
        must(snp_launch_page(vm, P_IMAGE + a, a, false, 1) == OK);
    }
    for (a = 0; a < G_TEST_PAGES * PAGE; a += PAGE) {
        must(snp_launch_page(vm, P_TEST + a, G_TEST + a, false, 1) == OK);
    }
    must(snp_launch_page(vm, P_LARGE, G_LARGE, true, 1) == OK);
    if (snp_launch_more) {
        snp_launch_more(vm);
    }
    must(snp_launch_page(vm, v->vmsa, 0xfffffffff000ULL, false, 2) == OK);
    memset_(buf, 0, sizeof(buf));
    buf[0] = vm->gctx;
    psp_must(SNP_LAUNCH_FINISH, buf);
    must(vm_resume(v).code == EXIT_DONE);
}

struct exit vcpu_run(struct vcpu *v)
{
    F8(v->vmcb, C_TLB) = 1;
    F32(v->vmcb, C_CLEAN) = 0;
    F64(v->vmcb, C_EXITCODE) = 0xdead;
    return vcpu_enter(v);
}

struct exit vcpu_enter(struct vcpu *v)
{
    u8 *c = (u8 *)v->vmcb;
    struct cpu *cpu = this_cpu();
    u8 *h = (u8 *)cpu->hsave + C_SAVE;
    int i;

    v->host = (u64)cpu->host_area;
    vmrun_exc.vector = VEC_NONE;
    if (v->vm->kind >= VM_SEV_ES) {
        for (i = 0; i < 16; i++) {
            F64(h, S_RCX - 8 + 8 * i) = 0xb0b0000000000000ULL + i;
        }
        F64(h, S_XCR0) = 1;
        svm_enter_es(v, cpu->hsave);
    } else {
        svm_enter(v);
    }
    cpu->exc = vmrun_exc;
    v->vmrun_vector = vmrun_exc.vector;
    return (struct exit) { F64(c, C_EXITCODE), F64(c, C_INFO1),
                           F64(c, C_INFO2) };
}

struct exit vm_resume(struct vcpu *v)
{
    struct exit e = vcpu_run(v);

    if (v->req->done && (e.code == EXIT_VMMCALL || e.code == EXIT_VMGEXIT)) {
        if (e.code == EXIT_VMMCALL) {
            F64(v->vmcb, C_SAVE + S_RIP) += 3;
        }
        e.code = EXIT_DONE;
    }
    return e;
}

struct exit vm_call(struct vcpu *v, void *fn, u64 a, u64 b, u64 c, u64 d)
{
    memset_(v->req, 0, sizeof(*v->req));
    v->req->fn = fn;
    v->req->arg[0] = a;
    v->req->arg[1] = b;
    v->req->arg[2] = c;
    v->req->arg[3] = d;
    return vm_resume(v);
}
