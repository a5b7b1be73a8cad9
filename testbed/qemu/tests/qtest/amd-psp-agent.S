/*
 * Firmware image for amd-psp-test: a processor that does what it is told
 *
 * Enters 64-bit mode, then runs one operation after the other from a mailbox
 * in memory, because the instructions of an SNP host can be executed by no
 * other means. Linked at 0xf0000, the last 64 KiB below 1 MiB.
 *
 *   as -o a.o amd-psp-agent.S && ld -e start -Ttext 0xf0000 -o a.elf a.o
 *   objcopy -O binary a.elf a.bin && xxd -i < a.bin
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
        .set    MBOX, 0x8000    /* operation, 0 when it is done */
        .set    RESULT, 0x8008
        .set    ARG0, 0x8010
        .set    ARG1, 0x8018
        .set    ENTRY, 0x8020   /* operand of RMPUPDATE */
        .set    PML4, 0x10000
        .set    PDPT, 0x11000

        .text
        .code16
start:
        cli
        lgdtl   %cs:(gdt_ptr - 0xf0000)
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmpl   $8, $start32

        .code32
start32:
        movl    $16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $0x7000, %esp
        /* 16 GiB, identity, in pages of 1 GiB */
        movl    $PML4, %edi
        xorl    %eax, %eax
        movl    $2048, %ecx
        rep stosl
        movl    $PDPT + 7, PML4
        movl    $PDPT, %edi
        xorl    %edx, %edx
        movl    $0x83, %eax
1:
        movl    %eax, (%edi)
        movl    %edx, 4(%edi)
        addl    $0x40000000, %eax
        adcl    $0, %edx
        addl    $8, %edi
        cmpl    $PDPT + 16 * 8, %edi
        jne     1b
        movl    $PML4, %eax
        movl    %eax, %cr3
        movl    $0x20, %eax
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx
        movl    $0x100, %eax
        xorl    %edx, %edx
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        ljmpl   $24, $start64

        .code64
start64:
next:
        pause
        movl    MBOX, %ebx
        testl   %ebx, %ebx
        jz      next
        movq    ARG0, %rax
        movq    ARG1, %rdx
        cmpl    $1, %ebx
        je      op_rmpupdate
        cmpl    $2, %ebx
        je      op_psmash
        cmpl    $3, %ebx
        je      op_wbinvd
        cmpl    $4, %ebx
        je      op_wrmsr
        cmpl    $5, %ebx
        je      op_rdmsr
        movq    $-1, %rax
done:
        movq    %rax, RESULT
        movl    $0, MBOX
        jmp     next

op_rmpupdate:
        movl    $ENTRY, %ecx
        .byte   0xf2, 0x0f, 0x01, 0xfe
        movl    %eax, %eax
        jmp     done
op_psmash:
        .byte   0xf3, 0x0f, 0x01, 0xff
        movl    %eax, %eax
        jmp     done
op_wbinvd:
        wbinvd
        xorl    %eax, %eax
        jmp     done
op_wrmsr:
        movl    %eax, %ecx
        movl    %edx, %eax
        shrq    $32, %rdx
        wrmsr
        xorl    %eax, %eax
        jmp     done
op_rdmsr:
        movl    %eax, %ecx
        rdmsr
        shlq    $32, %rdx
        orq     %rdx, %rax
        jmp     done

        .balign 8
gdt:
        .quad   0
        .quad   0x00cf9b000000ffff
        .quad   0x00cf93000000ffff
        .quad   0x00af9b000000ffff
gdt_ptr:
        .word   . - gdt - 1
        .long   gdt
