/*
 * Exceptions, the second processor's start, and the world switch of the
 * SEV-SNP tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

        .code64
        .text

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
        push    %rax
        push    %rcx
        push    %rdx
        push    %rbx
        push    %rbp
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, %rdi
        mov     %rsp, %rbp
        and     $-16, %rsp
        call    exc_handler
        mov     %rbp, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rbp
        pop     %rbx
        pop     %rdx
        pop     %rcx
        pop     %rax
        add     $16, %rsp
        iretq

        /* -- call_user_asm(fn, arg, user stack): comes back through TRY --- */

        .global call_user_asm
call_user_asm:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
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
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret

        /*
         * -- insn_call(insn, rax, rcx, rdx): call what may change all
         * registers but RSP; comes back through TRY
         */
        .global insn_call
insn_call:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        lea     1f(%rip), %r11
        mov     %r11, %gs:0x08
        mov     %rsp, %gs:0x10
        mov     %rdi, %r10
        mov     %rsi, %rax
        xchg    %rcx, %rdx
        call    *%r10
1:      movq    $0, %gs:0x08
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
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
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        push    %rdi
        clgi
        mov     0x88(%rdi), %rax
        vmsave  %rax
        mov     0x08(%rdi), %rcx
        mov     0x10(%rdi), %rdx
        mov     0x18(%rdi), %rbx
        mov     0x28(%rdi), %rbp
        mov     0x30(%rdi), %rsi
        mov     0x40(%rdi), %r8
        mov     0x48(%rdi), %r9
        mov     0x50(%rdi), %r10
        mov     0x58(%rdi), %r11
        mov     0x60(%rdi), %r12
        mov     0x68(%rdi), %r13
        mov     0x70(%rdi), %r14
        mov     0x78(%rdi), %r15
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
        mov     %rcx, 0x08(%rdi)
        mov     %rdx, 0x10(%rdi)
        mov     %rbx, 0x18(%rdi)
        mov     %rbp, 0x28(%rdi)
        mov     %rsi, 0x30(%rdi)
        mov     %r8,  0x40(%rdi)
        mov     %r9,  0x48(%rdi)
        mov     %r10, 0x50(%rdi)
        mov     %r11, 0x58(%rdi)
        mov     %r12, 0x60(%rdi)
        mov     %r13, 0x68(%rdi)
        mov     %r14, 0x70(%rdi)
        mov     %r15, 0x78(%rdi)
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
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
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
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        push    %rdi
        clgi
        mov     %rsi, %rax
        vmsave  %rax
        mov     0x88(%rdi), %rax
        vmsave  %rax
        mov     0x80(%rdi), %rax
        /* nothing of the host's may be seen by the guest: fill them */
        movabs  $0x5ec7e75ec7e75ec7, %r15
        mov     %r15, %rcx
        mov     %r15, %rdx
        mov     %r15, %rbx
        mov     %r15, %rbp
        mov     %r15, %rsi
        mov     %r15, %rdi
        mov     %r15, %r8
        mov     %r15, %r9
        mov     %r15, %r10
        mov     %r15, %r11
        mov     %r15, %r12
        mov     %r15, %r13
        mov     %r15, %r14
        sti
        .global svm_vmrun_es
svm_vmrun_es:
        vmrun   %rax
        cli
        movdqu  %xmm0, svm_es_regs+0x90(%rip)
        movdqu  %xmm15, svm_es_regs+0xa0(%rip)
        stmxcsr svm_es_regs+0xb0(%rip)
        mov     %rax, svm_es_regs+0x00(%rip)
        mov     %rcx, svm_es_regs+0x08(%rip)
        mov     %rdx, svm_es_regs+0x10(%rip)
        mov     %rbx, svm_es_regs+0x18(%rip)
        mov     %rsp, svm_es_regs+0x20(%rip)
        mov     %rbp, svm_es_regs+0x28(%rip)
        mov     %rsi, svm_es_regs+0x30(%rip)
        mov     %rdi, svm_es_regs+0x38(%rip)
        mov     %r8,  svm_es_regs+0x40(%rip)
        mov     %r9,  svm_es_regs+0x48(%rip)
        mov     %r10, svm_es_regs+0x50(%rip)
        mov     %r11, svm_es_regs+0x58(%rip)
        mov     %r12, svm_es_regs+0x60(%rip)
        mov     %r13, svm_es_regs+0x68(%rip)
        mov     %r14, svm_es_regs+0x70(%rip)
        mov     %r15, svm_es_regs+0x78(%rip)
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
