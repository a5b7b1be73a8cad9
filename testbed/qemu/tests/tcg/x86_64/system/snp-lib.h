/*
 * Library of the SEV-SNP tests: exceptions that come back, page tables,
 * a second processor, a small hypervisor, and the firmware's mailbox
 *
 * The same image runs everywhere: on the processors of the machine, and in the
 * guests, which see a copy of it (or it itself) at the same addresses. So
 * any function of the image can be called in a guest, see vm_call().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef SNP_LIB_H
#define SNP_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <minilib.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define KB              1024ULL
#define MB              (1024 * KB)
#define GB              (1024 * MB)
#define PAGE            4096ULL
#define LARGE           (2 * MB)
#define ARRAY_SIZE(a)   (sizeof(a) / sizeof((a)[0]))
#define BIT(n)          (1ULL << (n))
#define PAGE_ALIGNED    __attribute__((aligned(4096)))

/* -- results, in TAP ------------------------------------------------------ */

void tap(bool ok, const char *name);
/* One line: ok if both are equal; otherwise both are shown */
void tap_eq(const char *name, u64 got, u64 want);
#define bail(...) do { \
    ml_printf("Bail out! "); \
    ml_printf(__VA_ARGS__); \
    ml_printf("\n"); \
    quit(1); \
} while (0)
/* For steps that are not what the test is about */
#define must(e) do { \
    if (!(e)) { \
        bail("%s:%d: %s", __func__, __LINE__, #e); \
    } \
} while (0)
void quit(int status) __attribute__((noreturn));
int tap_end(void);

/* -- exceptions ----------------------------------------------------------- */

#define VEC_NONE    0xff
#define VEC_DB      1
#define VEC_BP      3
#define VEC_OF      4
#define VEC_UD      6
#define VEC_DF      8
#define VEC_GP      13
#define VEC_PF      14
#define VEC_VC      29
#define VEC_USER    0x80        /* int $0x80: back from CPL 3 */
#define VEC_WAKE    0xf0
#define VEC_INJECTED 0xf1       /* of a guest: by its host */

#define SEL_CS      0x08
#define SEL_SS      0x10
#define SEL_USS     0x1b
#define SEL_UCS     0x23
#define SEL_TSS     0x28
#define SEL_CS32    0x38

struct exc {
    u64 vector, error, cr2, rip;
};

/* What a processor, or a guest's, has of its own; at its GS base */
struct cpu {
    struct cpu *self;           /* the offsets of the first ones: snp-entry.S */
    u64 recover_rip;            /* 0x08 */
    u64 recover_rsp;            /* 0x10 */
    struct exc exc;
    u64 hsave;                  /* what MSR VM_HSAVE_PA is when it is in use */
    u64 gdt[8];
    u8 tss[104];
    u32 wakeups;
    u32 injected;               /* VEC_INJECTED */
    u8 host_area[PAGE] PAGE_ALIGNED;    /* for VMSAVE and VMLOAD */
    u8 hsave_area[PAGE] PAGE_ALIGNED;
    u8 stacks[3][16 * KB] PAGE_ALIGNED;
};

enum { CPU_BSP, CPU_AP, CPU_GUEST, CPU_GUEST2, NR_CPUS };
extern struct cpu cpus[NR_CPUS];

static inline struct cpu *this_cpu(void)
{
    struct cpu *c;

    asm volatile("mov %%gs:0, %0" : "=r"(c));
    return c;
}

/*
 * Around instructions that may fault. If one does, this_cpu()->exc says how,
 * and execution goes on after TRY_END.
 */
#define TRY_BEGIN \
    "lea 99f(%%rip), %%r11\n\t" \
    "mov %%r11, %%gs:0x08\n\t" \
    "mov %%rsp, %%gs:0x10\n\t"
#define TRY_END \
    "\n99:\tmovq $0, %%gs:0x08\n\t"
#define TRY_CLOBBER "r11", "memory"

static inline void exc_clear(void)
{
    struct cpu *c = this_cpu();

    c->exc = (struct exc){ .vector = VEC_NONE };
}

/* Each leaves in this_cpu()->exc what happened */
u64 try_read(u64 va);
void try_write(u64 va, u64 val);
void try_write8(u64 va, u8 val);
void try_exec(u64 va);          /* calls what is there: leave a RET */
u64 try_rdmsr(u32 msr);
void try_wrmsr(u32 msr, u64 val);
/* Call @fn(@arg) at CPL 3; fn must not end but by INT 0x80 or an exception */
void call_user(void (*fn)(u64), u64 arg);
void user_exit(void);
static inline u64 exc_vector(void)
{
    return this_cpu()->exc.vector;
}

/* -- instructions --------------------------------------------------------- */

static inline u64 rdmsr(u32 msr)
{
    u32 lo, hi;

    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (u64)hi << 32 | lo;
}

static inline void wrmsr(u32 msr, u64 val)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((u32)val), "d"((u32)(val >> 32))
                 : "memory");
}

static inline void outl(u16 port, u32 val)
{
    asm volatile("outl %0, %1" : : "a"(val), "Nd"(port));
}

static inline u32 inl(u16 port)
{
    u32 val;

    asm volatile("inl %1, %0" : "=a"(val) : "Nd"(port));
    return val;
}

struct cpuid {
    u32 a, b, c, d;
};

static inline struct cpuid cpuid(u32 leaf, u32 sub)
{
    struct cpuid r;

    asm volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
                 : "a"(leaf), "c"(sub));
    return r;
}

static inline u64 read_cr2(void)
{
    u64 v;

    asm volatile("mov %%cr2, %0" : "=r"(v));
    return v;
}

static inline u64 read_cr3(void)
{
    u64 v;

    asm volatile("mov %%cr3, %0" : "=r"(v));
    return v;
}

static inline void write_cr3(u64 v)
{
    asm volatile("mov %0, %%cr3" : : "r"(v) : "memory");
}

static inline u64 read_cr4(void)
{
    u64 v;

    asm volatile("mov %%cr4, %0" : "=r"(v));
    return v;
}

static inline void write_cr4(u64 v)
{
    asm volatile("mov %0, %%cr4" : : "r"(v) : "memory");
}

static inline void wbinvd(void)
{
    asm volatile("wbinvd" : : : "memory");
}

static inline void invlpg(u64 va)
{
    asm volatile("invlpg (%0)" : : "r"(va) : "memory");
}

#define FLAG_CF     0x001
#define FLAG_PF     0x004
#define FLAG_AF     0x010
#define FLAG_ZF     0x040
#define FLAG_SF     0x080
#define FLAG_OF     0x800

/* Name some code, followed by a return: i_NAME to e_NAME */
#define INSN(name, ...) \
    extern u8 i_##name[], e_##name[]; \
    asm(".text\ni_" #name ":\n\t" __VA_ARGS__ "\ne_" #name ":\n\tret\n")
/* Call it; this_cpu()->exc says whether it faulted, see exc_clear() */
u64 insn_call(u64 insn, u64 rax, u64 rcx, u64 rdx);

/* What RMPUPDATE and the others return */
struct res {
    u64 vector;         /* VEC_NONE: it did not fault */
    u32 eax;
    u32 flags;
};

enum { OK, FAIL_INPUT, FAIL_PERMISSION, FAIL_INUSE, FAIL_OVERLAP,
       FAIL_BADADDR = 4, FAIL_SIZEMISMATCH = 6 };

struct rmp_state {
    u64 gpa;
    u8 assigned, size, immutable, rsvd;
    u32 asid;
};

struct res do_rmpupdate(u64 rax, const void *state);
struct res do_psmash(u64 rax);
struct res do_pvalidate(u64 rax, u64 ecx, u64 edx);
struct res do_rmpadjust(u64 rax, u64 rcx, u64 rdx);

/* -- page tables, the host's ---------------------------------------------- */

#define PTE_P       BIT(0)
#define PTE_W       BIT(1)
#define PTE_U       BIT(2)
#define PTE_A       BIT(5)
#define PTE_D       BIT(6)
#define PTE_PS      BIT(7)
#define PTE_NX      BIT(63)
#define PTE_C       BIT(51)
#define PTE_ADDR    0x000ffffffffff000ULL

#define PF_P        BIT(0)
#define PF_W        BIT(1)
#define PF_U        BIT(2)
#define PF_RSVD     BIT(3)
#define PF_I        BIT(4)
#define PF_RMP      BIT(31)
#define NPF_GPA     BIT(32)
#define NPF_WALK    BIT(33)
#define NPF_ENC     BIT(34)
#define NPF_SIZEM   BIT(35)
#define NPF_VMPL    BIT(36)

/* Addresses that the host's tables do not identity-map: 512 GB and up */
#define WINDOW      (512 * GB)

/* Tables made of pages from a pool */
struct pool {
    u64 *pages;
    unsigned int used, count;
    u64 table_flags;            /* of entries that point to tables */
};

/* Map @va to @pa with a page of 4K, 2M or 1G; returns the entry */
u64 *pt_map(struct pool *p, u64 *root, u64 va, u64 pa, u64 size, u64 flags);
u64 *pt_alloc(struct pool *p);
/* In the host's own tables, and forget what the TLB has */
u64 *host_map(u64 va, u64 pa, u64 size, u64 flags);

/* -- the machine ---------------------------------------------------------- */

#define MSR_EFER        0xc0000080
#define MSR_STAR        0xc0000081
#define MSR_LSTAR       0xc0000082
#define MSR_FS_BASE     0xc0000100
#define MSR_GS_BASE     0xc0000101
#define MSR_KGS_BASE    0xc0000102
#define MSR_TSC_AUX     0xc0000103
#define MSR_SYSCFG      0xc0010010
#define MSR_HWCR        0xc0010015
#define MSR_VM_CR       0xc0010114
#define MSR_HSAVE       0xc0010117
#define MSR_GHCB        0xc0010130
#define MSR_SEV_STATUS  0xc0010131
#define MSR_RMP_BASE    0xc0010132
#define MSR_RMP_END     0xc0010133

#define SYSCFG_MFDM     BIT(19)
#define SYSCFG_MEM_ENC  BIT(23)
#define SYSCFG_SNP      BIT(24)
#define SYSCFG_VMPL     BIT(25)

#define EFER_LME        BIT(8)
#define EFER_LMA        BIT(10)
#define EFER_NXE        BIT(11)
#define EFER_SVME       BIT(12)

/* IDT, GDT, NXE, tables for all of memory; to be called first */
void lib_init(void);
/* Start the second processor with INIT, or restart it; false: there is none */
bool ap_start(void);
/* Call @fn(@arg) there and wait for what it returns */
u64 ap_call(u64 (*fn)(u64), u64 arg);
/* ... without waiting; then wait */
void ap_post(u64 (*fn)(u64), u64 arg);
u64 ap_wait(void);
void send_ipi(u32 apic_id, u32 icr_lo);
u32 apic_read(u32 reg);
void apic_write(u32 reg, u32 val);
void cpu_relax(void);

/* Enable SVM here, with an HSAVE area */
void svm_enable(void);
/* Clear the RMP, set SNP_EN and VMPL_EN on all processors */
void snp_enable(void);
/* The entry of @pa as it is in memory: family 19h layout */
u64 *rmp_entry(u64 pa);

#define RMP_ASSIGNED    BIT(0)
#define RMP_2M          BIT(1)
#define RMP_IMMUTABLE   BIT(2)
#define RMP_GPA         0x0007fffffffff000ULL
#define RMP_ASID(a)     ((u64)(a) << 51)
#define RMP_VMSA        BIT(61)
#define RMP_VALIDATED   BIT(62)

u32 rmpupdate(u64 pa, u64 gpa, bool assigned, bool large, bool immutable,
              u32 asid);

/* -- the firmware --------------------------------------------------------- */

u32 psp_cmd(u32 cmd, const void *buf);
#define SNP_INIT            0x081
#define SNP_SHUTDOWN_EX     0x086
#define SNP_PLATFORM_STATUS 0x083
#define SNP_DF_FLUSH        0x084
#define SNP_DECOMMISSION    0x090
#define SNP_ACTIVATE        0x091
#define SNP_GCTX_CREATE     0x093
#define SNP_LAUNCH_START    0x0a0
#define SNP_LAUNCH_UPDATE   0x0a1
#define SNP_LAUNCH_FINISH   0x0a2
#define SNP_PAGE_RECLAIM    0x0c7
/* Find it; HSAVE_PA 0, WBINVD, SNP_INIT, SNP_DF_FLUSH; after snp_enable() */
void snp_firmware_init(void);

/* -- guests --------------------------------------------------------------- */

/* Offsets in the VMCB */
#define C_CR_READ       0x000
#define C_CR_WRITE      0x002
#define C_DR_READ       0x004
#define C_DR_WRITE      0x006
#define C_EXC           0x008
#define C_MISC1         0x00c
#define C_MISC2         0x010
#define C_MISC3         0x014
#define C_IOPM          0x040
#define C_MSRPM         0x048
#define C_ASID          0x058
#define C_TLB           0x05c
#define C_INT_CTL       0x060
#define C_INT_STATE     0x068
#define C_EXITCODE      0x070
#define C_INFO1         0x078
#define C_INFO2         0x080
#define C_EXITINTINFO   0x088
#define C_NESTED        0x090
#define C_GHCB          0x0a0
#define C_EVENTINJ      0x0a8
#define C_NCR3          0x0b0
#define C_LBRV          0x0b8
#define C_CLEAN         0x0c0
#define C_NRIP          0x0c8
#define C_INSN          0x0d0
#define C_VMSA          0x108
#define C_SAVE          0x400

/* Offsets in the state save area, which is the VMSA */
#define S_ES            0x000
#define S_CS            0x010
#define S_SS            0x020
#define S_DS            0x030
#define S_FS            0x040
#define S_GS            0x050
#define S_GDTR          0x060
#define S_LDTR          0x070
#define S_IDTR          0x080
#define S_TR            0x090
#define S_VMPL          0x0ca
#define S_CPL           0x0cb
#define S_EFER          0x0d0
#define S_XSS           0x140
#define S_CR4           0x148
#define S_CR3           0x150
#define S_CR0           0x158
#define S_DR7           0x160
#define S_DR6           0x168
#define S_RFLAGS        0x170
#define S_RIP           0x178
#define S_RSP           0x1d8
#define S_RAX           0x1f8
#define S_STAR          0x200
#define S_LSTAR         0x208
#define S_KGS_BASE      0x220
#define S_CR2           0x240
#define S_PAT           0x268
#define S_PKRU          0x2e8
#define S_RCX           0x308
#define S_RDX           0x310
#define S_RBX           0x318
#define S_RBP           0x328
#define S_RSI           0x330
#define S_RDI           0x338
#define S_R8            0x340
#define S_R15           0x378
#define S_SEV_FEATURES  0x3b0
#define S_XCR0          0x3e8
#define S_MXCSR         0x408
#define S_FTW           0x40c
#define S_FSW           0x40e
#define S_FCW           0x410
#define S_X87           0x420
#define S_XMM           0x470

/* Volatile: guests, hardware and other processors read and write there */
#define F8(p, off)     (*(volatile u8 *)((u64)(p) + (off)))
#define F16(p, off)    (*(volatile u16 *)((u64)(p) + (off)))   /* see F8 */
#define F32(p, off)    (*(volatile u32 *)((u64)(p) + (off)))   /* see F8 */
#define F64(p, off)    (*(volatile u64 *)((u64)(p) + (off)))   /* see F8 */

#define EXIT_CR0_READ   0x000
#define EXIT_CR0_WRITE  0x010
#define EXIT_DR0_READ   0x020
#define EXIT_DR0_WRITE  0x030
#define EXIT_EXC        0x040
#define EXIT_INTR       0x060
#define EXIT_RDTSC      0x06e
#define EXIT_PUSHF      0x070
#define EXIT_CPUID      0x072
#define EXIT_INVD       0x076
#define EXIT_PAUSE      0x077
#define EXIT_HLT        0x078
#define EXIT_INVLPG     0x079
#define EXIT_IOIO       0x07b
#define EXIT_MSR        0x07c
#define EXIT_SHUTDOWN   0x07f
#define EXIT_VMRUN      0x080
#define EXIT_VMMCALL    0x081
#define EXIT_RDTSCP     0x087
#define EXIT_WBINVD     0x089
#define EXIT_EFER_TRAP  0x08f
#define EXIT_CR0_TRAP   0x090
#define EXIT_NPF        0x400
#define EXIT_NOT_VALIDATED 0x404        /* as an error code of #VC only */
#define EXIT_VMGEXIT    0x403
#define EXIT_INVALID    (~0ULL)
#define EXIT_BUSY       (~1ULL)

#define NESTED_NP       BIT(0)
#define NESTED_SEV      BIT(1)
#define NESTED_ES       BIT(2)

/* C_INT_CTL: V_INTR_MASKING, and a V_IRQ that V_TPR holds off */
#define INT_CTL_HELD    (BIT(24) | BIT(16) | BIT(8) | 5)

enum vm_kind { VM_PLAIN, VM_SEV, VM_SEV_ES, VM_SNP };

/* What the host asks of a guest; in a page both can read and write */
struct request {
    u64 (*fn)(u64, u64, u64, u64);
    u64 arg[4];
    u64 done;
    u64 ret;
    struct res res;             /* if fn leaves one: request_res() */
    struct exc exc;
};

struct vcpu {
    u64 regs[16];               /* - rcx rdx rbx - rbp rsi rdi r8 ... */
    u64 vmcb;                   /* 0x80 */
    u64 host;                   /* 0x88: VMSAVE area of the processor below */
    struct vm *vm;
    u64 vmsa;                   /* address of the page, 0 if there is none */
    struct request *req;
    u64 vmrun_vector;           /* of an exception that VMRUN itself raised */
};

struct exit {
    u64 code, info1, info2;
};

struct vm {
    enum vm_kind kind;
    u32 asid;
    u64 gctx;
    u64 *npt;
    struct pool npt_pool;
};

/* The guest's view: image at its own addresses; these are its own */
#define G_IMAGE_END     (4 * MB)
#define G_SHARED        (8 * MB)        /* GPA of the requests, C-bit clear */
#define G_TEST          (1 * GB)        /* 64 private pages of 4K */
#define G_LARGE         (1 * GB + 2 * MB)       /* a private page of 2M */
#define G_MMIO          (1 * GB + 6 * MB)       /* GPA that nothing backs */
#define G_PUBLIC        (1 * GB)        /* add it: the same with C-bit clear */
#define G_WALK          (4 * GB)        /* mapped by a table that can move */
#define G_TEST_PAGES    64

/* Where they are in system memory, if the guest has copies: all unassigned */
#define P_IMAGE         (256 * MB)
#define P_TEST          (384 * MB)
#define P_LARGE         (386 * MB)
#define P_OTHER         (388 * MB)      /* pages for the tests to play with */
#define P_VMSA          (400 * MB)
#define P_GCTX          (410 * MB)
#define P_POOL          (512 * MB)      /* 256 times 2 MB, see region() */

void vm_init(struct vm *vm, enum vm_kind kind, u32 asid);
/* @cpu: CPU_GUEST...; its stack and the rest of its state at the start */
void vcpu_init(struct vm *vm, struct vcpu *v, int cpu);
void save_init(void *save, enum vm_kind kind, int cpu);
void npt_map(struct vm *vm, u64 gpa, u64 pa, u64 size, u64 flags);
u64 *npt_entry(struct vm *vm, u64 gpa);
/* Launch through the firmware; the vCPU runs to its first request */
void snp_launch(struct vm *vm, struct vcpu *v);
void snp_set_gctx(struct vm *vm);
u32 snp_launch_page(struct vm *vm, u64 pa, u64 gpa, bool large, u32 type);
/* To launch other pages with it */
extern void (*snp_launch_more)(struct vm *vm);
/* VMRUN once */
struct exit vcpu_run(struct vcpu *v);
/* ... without writing to the VMCB before */
struct exit vcpu_enter(struct vcpu *v);
/* Have the guest call @fn; .code is EXIT_DONE when it has returned */
#define EXIT_DONE       0xd07eULL
struct exit vm_call(struct vcpu *v, void *fn, u64 a, u64 b, u64 c, u64 d);
/* VMRUN again, after an exit of a call */
struct exit vm_resume(struct vcpu *v);
/* In the guest, for a function that was called: @r is to be in the answer */
void request_res(struct res r);

extern enum vm_kind guest_kind;
/* Points to the table that maps G_WALK, the last one of the test pages */
extern u64 *guest_walk_pde;

/* Functions to call in guests */
u64 g_nop(u64, u64, u64, u64);
u64 g_read(u64 va, u64, u64, u64);
u64 g_write(u64 va, u64 val, u64, u64);
u64 g_exec(u64 va, u64, u64, u64);
u64 g_user_exec(u64 va, u64, u64, u64);
u64 g_pvalidate(u64 rax, u64 ecx, u64 edx, u64);
u64 g_rmpadjust(u64 rax, u64 rcx, u64 rdx, u64);

extern u64 svm_es_regs[23];

/* 2 MB of memory that no other test has used */
u64 region(void);

/* Of snp-entry.S, and the image's bounds */
extern u8 exc_stubs[], ap_trampoline[], ap_trampoline_end[], ap_tramp_cr3[],
          ap_tramp_gdt[], svm_vmrun[], svm_vmrun_es[], svm_vmrun_faulted[],
          __load_st[], __bss_en[];

/* Between snp-lib.c and snp-entry.S; and what the compiler makes of loops */
void call_user_asm(void (*fn)(u64), u64 arg, u64 stack);
void svm_enter(struct vcpu *v);
void svm_enter_es(struct vcpu *v, u64 hsave);
void guest_start(void);
struct frame;
void exc_handler(struct frame *f);
void ap_main(void);
void guest_main(u64 index);
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);

void memcpy_(void *to, const void *from, u64 n);
void memset_(void *to, int c, u64 n);

#endif
