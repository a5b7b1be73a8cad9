// SPDX-License-Identifier: GPL-2.0
/*
 * What is left of a PC on port I/O: the first serial port, as an 8250 without
 * FIFO that only sends, a clock, and the reset line of the keyboard controller.
 * KVM has the PIC and the PIT.
 */
#include <stdio.h>
#include <time.h>
#include <linux/serial_reg.h>

#include "vmm.h"

#define UART_BASE	0x3f8
#define UART_IRQ	4

#define RTC_INDEX	0x70
#define RTC_DATA	0x71

#define KBD_STATUS	0x64
#define KBD_RESET	0xfe

static struct {
	__u8 ier, lcr, mcr, scr;
	__u8 divisor[2];
	bool sent;		/* THR has become empty, nobody was told yet */
	char line[512];
	size_t len;
} uart;

static void uart_putc(char c)
{
	if (c == '\r')
		return;
	if (c != '\n')
		uart.line[uart.len++] = c;
	if (c == '\n' || uart.len == sizeof(uart.line) - 1) {
		printf("guest| %.*s\n", (int)uart.len, uart.line);
		uart.len = 0;
	}
}

static __u8 uart_read(unsigned int reg)
{
	bool pending = uart.sent && (uart.ier & UART_IER_THRI);

	if (reg <= UART_DLM && (uart.lcr & UART_LCR_DLAB))
		return uart.divisor[reg];
	switch (reg) {
	case UART_RX:
		return 0;
	case UART_IER:
		return uart.ier;
	case UART_IIR:
		/* Reading it tells the guest, and takes the interrupt back. */
		if (!pending)
			return UART_IIR_NO_INT;
		uart.sent = false;
		return UART_IIR_THRI;
	case UART_LCR:
		return uart.lcr;
	case UART_MCR:
		return uart.mcr;
	case UART_LSR:
		return UART_LSR_TEMT | UART_LSR_THRE;
	case UART_MSR:
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	default:
		return uart.scr;
	}
}

static void uart_write(unsigned int reg, __u8 value)
{
	if (reg <= UART_DLM && (uart.lcr & UART_LCR_DLAB)) {
		uart.divisor[reg] = value;
		return;
	}
	switch (reg) {
	case UART_TX:
		uart_putc(value);
		uart.sent = true;
		break;
	case UART_IER:
		/* Enabling it with an empty THR raises the interrupt. */
		if (value & ~uart.ier & UART_IER_THRI)
			uart.sent = true;
		uart.ier = value & 0xf;
		break;
	case UART_LCR:
		uart.lcr = value;
		break;
	case UART_MCR:
		uart.mcr = value;
		break;
	case UART_SCR:
		uart.scr = value;
		break;
	}
}

static __u8 bcd(int value)
{
	return value / 10 << 4 | value % 10;
}

/* Linux waits long for a clock that is not there. */
static __u8 rtc_read(unsigned int index)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	switch (index) {
	case 0x00:
		return bcd(tm.tm_sec);
	case 0x02:
		return bcd(tm.tm_min);
	case 0x04:
		return bcd(tm.tm_hour);
	case 0x07:
		return bcd(tm.tm_mday);
	case 0x08:
		return bcd(tm.tm_mon + 1);
	case 0x09:
		return bcd(tm.tm_year % 100);
	case 0x0b:
		return 0x02;	/* 24 hours, BCD */
	case 0x0d:
		return 0x80;	/* the battery is good */
	default:
		return 0;
	}
}

/* One access by the guest.  False: it has reset the machine. */
bool device_io(struct vm *vm, __u16 port, bool write, __u32 *value)
{
	static unsigned int level, rtc_index;
	unsigned int want;

	if (port == KBD_STATUS) {
		if (write && (__u8)*value == KBD_RESET)
			return false;
		*value = 0;	/* ready for a command */
		return true;
	}
	if (port == RTC_INDEX && write) {
		rtc_index = *value & 0x7f;	/* the top bit masks NMIs */
		return true;
	}
	if (port == RTC_DATA && !write) {
		*value = rtc_read(rtc_index);
		return true;
	}
	if (port < UART_BASE || port >= UART_BASE + 8) {
		*value = ~0u;	/* nobody is there */
		return true;
	}

	if (write)
		uart_write(port - UART_BASE, *value);
	else
		*value = uart_read(port - UART_BASE);
	want = uart.sent && (uart.ier & UART_IER_THRI);
	if (want != level)
		vm_irq_line(vm, UART_IRQ, want);
	level = want;
	return true;
}
