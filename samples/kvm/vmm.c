// SPDX-License-Identifier: GPL-2.0
/*
 * guest_memfd_vmm - boot Linux with private memory, and try to get at it
 *
 * An example for those who write a VMM: a Linux guest with one vCPU, on raw
 * ioctls.  Its kernel is loaded into shared low memory, the rest of its RAM is
 * private, in a guest_memfd.  A module in the guest then leads through a series
 * of claims about that memory, see guest_memfd_demo.h.
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/kvm_para.h>

#include "guest_memfd_demo.h"
#include "vmm.h"

static struct vm vm = {
	.ram_size = 256 * MIB,
	.shared_size = 64 * MIB,
};

static void on_alarm(int sig)
{
	(void)sig;
	/* KVM looks at it, so the signal may also come just before KVM_RUN. */
	vm.run->immediate_exit = 1;
}

static bool handle_io(void)
{
	struct kvm_run *run = vm.run;
	__u8 *data = (__u8 *)run + run->io.data_offset;
	bool write = run->io.direction == KVM_EXIT_IO_OUT;
	__u16 port = run->io.port;
	__u32 i;

	for (i = 0; i < run->io.count; i++, data += run->io.size) {
		__u32 value = 0;

		if (write)
			memcpy(&value, data, run->io.size);
		if (port >= DEMO_PORT_BASE && port < DEMO_PORT_END)
			demo_io(&vm, port, write, &value);
		else if (!device_io(&vm, port, write, &value))
			return false;
		if (!write)
			memcpy(data, &value, run->io.size);
	}
	return true;
}

/* The guest asks for a range to become private or shared. */
static void handle_hypercall(void)
{
	__u64 gpa = vm.run->hypercall.args[0];
	__u64 pages = vm.run->hypercall.args[1];
	bool private = vm.run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED;
	int error = 0;

	if (vm.run->hypercall.nr != KVM_HC_MAP_GPA_RANGE ||
	    pages > vm.ram_size >> PAGE_SHIFT)
		error = EINVAL;
	else if (vm_convert(&vm, gpa, pages << PAGE_SHIFT, private))
		error = errno;

	demo_conversion(gpa, pages, private, error);
	vm.run->hypercall.ret = error ? -KVM_EINVAL : 0;
}

/*
 * KVM cannot serve an access: the page's attribute, its backing and the kind of
 * the access do not go together.  With guests that convert a page by accessing
 * it the other way, this is the place for vm_convert().  Our guest always asks
 * first, so there is only what the demonstration has brought about on purpose.
 */
static void handle_memory_fault(void)
{
	__u64 gpa = vm.run->memory_fault.gpa;
	__u64 size = vm.run->memory_fault.size;
	bool private = vm.run->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE;

	if (!demo_fault(&vm, gpa, size, private))
		errx(STATUS_FAILED, "memory fault of the guest: %s access, gpa 0x%llx, size 0x%llx",
		     private ? "private" : "shared", gpa, size);
}

/* Until the guest resets the machine, which it does in the end. */
static void run_guest(void)
{
	struct kvm_run *run = vm.run;

	for (;;) {
		int ret = ioctl(vm.vcpu_fd, KVM_RUN, 0);

		if (run->immediate_exit)
			errx(STATUS_FAILED, "the guest has not come to its end in time");
		/* The one exit that comes with an error. */
		if (ret && errno == EFAULT &&
		    run->exit_reason == KVM_EXIT_MEMORY_FAULT) {
			handle_memory_fault();
			continue;
		}
		if (ret && (errno == EINTR || errno == EAGAIN))
			continue;
		if (ret)
			err(STATUS_FAILED, "KVM_RUN");

		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			if (!handle_io())
				return;
			break;
		case KVM_EXIT_HYPERCALL:
			handle_hypercall();
			break;
		case KVM_EXIT_MMIO:
			/* No RAM and no device: reads as ones, takes writes. */
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0xff, run->mmio.len);
			break;
		case KVM_EXIT_SHUTDOWN:
			return;
		case KVM_EXIT_INTERNAL_ERROR:
			errx(STATUS_FAILED, "KVM: internal error %u", run->internal.suberror);
		default:
			errx(STATUS_FAILED, "KVM: exit %u, which nobody expected",
			     run->exit_reason);
		}
	}
}

static __u64 parse_size(const char *what, const char *arg, __u64 min,
			__u64 max)
{
	char *end;
	__u64 size;

	errno = 0;
	size = strtoull(arg, &end, 0);
	if (*end == 'M' || *end == 'G') {
		__u64 unit = *end++ == 'M' ? MIB : 1024 * MIB;

		if (size > max / unit)
			errno = ERANGE;
		size *= unit;
	}
	if (end == arg || *end || *arg == '-')
		errx(STATUS_USAGE, "%s: '%s' is not a size, such as 256M", what, arg);
	if (errno || size < min || size > max)
		errx(STATUS_USAGE, "%s: %s is not between %llu and %llu MiB",
		     what, arg, min / MIB, max / MIB);
	if (size % PAGE_SIZE)
		errx(STATUS_USAGE, "%s: %s is not a whole number of pages", what, arg);
	return size;
}

static void print_help(FILE *out)
{
	fprintf(out,
		"usage: guest_memfd_vmm [options] BZIMAGE INITRAMFS\n"
		"  --memory SIZE    RAM of the guest, 256M\n"
		"  --shared SIZE    of it, the low part that is shared, 64M\n"
		"  --timeout SEC    to the end of the guest, 300\n"
		"  --append ARGS    more for the guest's command line\n"
		"  --ordinary       an ordinary VM, to see the claims not hold\n");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "memory", required_argument, NULL, 'm' },
		{ "shared", required_argument, NULL, 's' },
		{ "timeout", required_argument, NULL, 't' },
		{ "append", required_argument, NULL, 'a' },
		{ "ordinary", no_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	struct sigaction alarm_action = { .sa_handler = on_alarm };
	const char *append = "";
	int timeout = 300;
	__u64 entry;
	int opt;

	setvbuf(stdout, NULL, _IOLBF, 0);

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'm':
			vm.ram_size = parse_size("--memory", optarg, 64 * MIB,
						 3072 * MIB);
			break;
		case 's':
			vm.shared_size = parse_size("--shared", optarg, 32 * MIB,
						    3072 * MIB);
			break;
		case 't':
			timeout = atoi(optarg);
			if (timeout <= 0)
				errx(STATUS_USAGE,
				     "--timeout: '%s' is not a number of seconds",
				     optarg);
			break;
		case 'a':
			append = optarg;
			break;
		case 'o':
			vm.ordinary = true;
			break;
		case 'h':
			print_help(stdout);
			return 0;
		default:
			print_help(stderr);
			return STATUS_USAGE;
		}
	}
	if (argc - optind != 2) {
		print_help(stderr);
		return STATUS_USAGE;
	}
	if (vm.shared_size >= vm.ram_size)
		errx(STATUS_USAGE, "--shared leaves nothing private of --memory");

	/* What the user may have got wrong comes before the VM. */
	vm_alloc_ram(&vm);
	entry = boot_load(&vm, argv[optind], argv[optind + 1]);
	vm_create(&vm);
	boot_start(&vm, entry, append);
	demo_start(&vm);

	/* Whatever ends it from here on, the summary is last. */
	atexit(demo_summary);
	sigaction(SIGALRM, &alarm_action, NULL);
	alarm(timeout);
	run_guest();
	demo_end();
	return demo_held() ? STATUS_HELD : STATUS_FAILED;
}
