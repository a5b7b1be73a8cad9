/*
 * Exceptions, the second processor's start, and the world switch of the
 * SEV-SNP tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

        .code64
        .text

        /* -- registers ---------------------------------------------------- */

        .macro  SAVE regs:vararg
        .irp    reg, \regs
        push    %\reg
        .endr
        .endm

        .macro  RESTORE regs:vararg
        .irp    reg, \regs
        pop     %\reg
        .endr
        .endm

        /* What a C function has to keep */
        .macro  SAVE_KEPT
        SAVE    rbx, rbp, r12, r13, r14, r15
        .endm

        .macro  RESTORE_KEPT
        RESTORE r15, r14, r13, r12, rbp, rbx
        .endm

        /* For all but RAX, RSP and RDI, with the place in an array of all */
        .macro  EACH_REG what
        \what   rcx, 0x08
        \what   rdx, 0x10
        \what   rbx, 0x18
        \what   rbp, 0x28
        \what   rsi, 0x30
        \what   r8,  0x40
        \what   r9,  0x48
        \what   r10, 0x50
        \what   r11, 0x58
        \what   r12, 0x60
        \what   r13, 0x68
        \what   r14, 0x70
        \what   r15, 0x78
        .endm

        .macro  LOAD reg, offset
        mov     \offset(%rdi), %\reg
        .endm

        .macro  STORE reg, offset
        mov     %\reg, \offset(%rdi)
        .endm

        .macro  FILL reg, offset
        mov     %r15, %\reg
        .endm

        .macro  KEEP reg, offset
        mov     %\reg, svm_es_regs+\offset(%rip)
        .endm

        /* -- exceptions: an address for each of the 256 vectors ----------- */

        .altmacro
        .macro  STUB vec
        .align  16
        .set    num, \vec
        /* 8, 10 to 14, 17, 21, 29, 30 push an error code */
        .if     num >= 32
        pushq   $0
        .elseif !((0x60227d00 >> num) & 1)
        pushq   $0
        .endif
        pushq   $\vec
        jmp     common
        .endm

        .global exc_stubs
        .align  16
exc_stubs:
        .set    vnum, 0
        .rept   256
        STUB    %vnum
        .set    vnum, vnum + 1
        .endr
        .noaltmacro

        /* struct frame of exc_handler() */
common:
        cld
        SAVE    rax, rcx, rdx, rbx, rbp, rsi, rdi
        SAVE    r8, r9, r10, r11, r12, r13, r14, r15
        mov     %rsp, %rdi
        mov     %rsp, %rbp
        and     $-16, %rsp
        call    exc_handler
        mov     %rbp, %rsp
        RESTORE r15, r14, r13, r12, r11, r10, r9, r8
        RESTORE rdi, rsi, rbp, rbx, rdx, rcx, rax
        add     $16, %rsp
        iretq

        /* -- call_user_asm(fn, arg, user stack): comes back through TRY --- */

        .global call_user_asm
call_user_asm:
        SAVE_KEPT
        lea     1f(%rip), %r11
        mov     %r11, %gs:0x08
        mov     %rsp, %gs:0x10
        mov     %rdi, %rax
        mov     %rsi, %rdi
        push    $0x1b
        push    %rdx
        push    $2
        push    $0x23
        push    %rax
        iretq
1:      movq    $0, %gs:0x08
        RESTORE_KEPT
        ret

        /*
         * -- insn_call(insn, rax, rcx, rdx): call what may change all
         * registers but RSP; comes back through TRY
         */
        .global insn_call
insn_call:
        SAVE_KEPT
        lea     1f(%rip), %r11
        mov     %r11, %gs:0x08
        mov     %rsp, %gs:0x10
        mov     %rdi, %r10
        mov     %rsi, %rax
        xchg    %rcx, %rdx
        call    *%r10
1:      movq    $0, %gs:0x08
        RESTORE_KEPT
        ret

        /* -- guest_start: RSP is set, RDI is the index of the vCPU -------- */

        .global guest_start
guest_start:
        xor     %ebp, %ebp
        call    guest_main
        ud2

        /*
         * -- svm_enter(vcpu): VMRUN; registers in vcpu->regs --------------
         *
         * Only the host's own registers that a C function has to keep are
         * kept. Interrupts are enabled, but held off by GIF: they end the
         * guest's run, if the VMCB says so, and stay pending.
         */
        .global svm_enter
svm_enter:
        SAVE_KEPT
        push    %rdi
        clgi
        mov     0x88(%rdi), %rax
        vmsave  %rax
        EACH_REG LOAD
        mov     0x80(%rdi), %rax
        mov     0x38(%rdi), %rdi
        vmload  %rax
        sti
        .global svm_vmrun
svm_vmrun:
        vmrun   %rax
        cli
        vmsave  %rax
        push    %rax
        push    %rdi
        mov     0x10(%rsp), %rdi
        EACH_REG STORE
        pop     %rax
        mov     %rax, 0x38(%rdi)
        pop     %rax
        /* Also where an exception of VMRUN itself goes on */
        .global svm_vmrun_faulted
svm_vmrun_faulted:
        cli
        mov     (%rsp), %rdi
        mov     0x88(%rdi), %rax
        vmload  %rax
        stgi
        pop     %rdi
        RESTORE_KEPT
        ret

        /*
         * -- svm_enter_es(vcpu, save area): VMRUN of an SEV-ES guest -------
         *
         * What VMRUN does not save of the host but #VMEXIT loads goes to the
         * save area (APM volume 2, appendix B). svm_es_regs[] is what is in
         * the registers after #VMEXIT: 16 general ones, FS and GS base, XMM0,
         * XMM15, MXCSR.
         */
        .global svm_enter_es
svm_enter_es:
        SAVE_KEPT
        push    %rdi
        clgi
        mov     %rsi, %rax
        vmsave  %rax
        mov     0x88(%rdi), %rax
        vmsave  %rax
        mov     0x80(%rdi), %rax
        /* nothing of the host's may be seen by the guest: fill them */
        movabs  $0x5ec7e75ec7e75ec7, %r15
        EACH_REG FILL
        mov     %r15, %rdi
        sti
        .global svm_vmrun_es
svm_vmrun_es:
        vmrun   %rax
        cli
        movdqu  %xmm0, svm_es_regs+0x90(%rip)
        movdqu  %xmm15, svm_es_regs+0xa0(%rip)
        stmxcsr svm_es_regs+0xb0(%rip)
        mov     %rax, svm_es_regs+0x00(%rip)
        mov     %rsp, svm_es_regs+0x20(%rip)
        mov     %rdi, svm_es_regs+0x38(%rip)
        EACH_REG KEEP
        /* as it is, before anything of it is put right: FS base, GS base */
        mov     $0xc0000100, %ecx
        rdmsr
        mov     %eax, svm_es_regs+0x80(%rip)
        mov     %edx, svm_es_regs+0x84(%rip)
        mov     $0xc0000101, %ecx
        rdmsr
        mov     %eax, svm_es_regs+0x88(%rip)
        mov     %edx, svm_es_regs+0x8c(%rip)
        jmp     svm_vmrun_faulted

        /* -- the second processor: copied to AP_PAGE, in real mode -------- */

        .code16
        .global ap_trampoline, ap_trampoline_end, ap_tramp_cr3, ap_tramp_gdt
        .set    AP_PAGE, 0x8000
        .align  16
ap_trampoline:
        cli
        xor     %ax, %ax
        mov     %ax, %ds
        lgdtl   AP_PAGE + (ap_tramp_gdt - ap_trampoline)
        mov     %cr4, %eax
        or      $0x220, %eax
        mov     %eax, %cr4
        mov     AP_PAGE + (ap_tramp_cr3 - ap_trampoline), %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx
        rdmsr
        or      $0x900, %eax
        wrmsr
        mov     %cr0, %eax
        and     $0x9fffffff, %eax
        or      $0x80010001, %eax
        mov     %eax, %cr0
        ljmpl   $0x08, $ap_long
        .align  8
ap_tramp_gdt:
        .word   0x3f
        .long   0
        .align  8
ap_tramp_cr3:
        .long   0
ap_trampoline_end:

        .code64
ap_long:
        mov     $0x10, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     ap_stack(%rip), %rsp
        xor     %ebp, %ebp
        call    ap_main
        ud2
