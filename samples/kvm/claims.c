// SPDX-License-Identifier: GPL-2.0
/*
 * The demonstration.  The guest's module leads, see guest_memfd_demo.h; here is
 * the host, which tries what must not work, and what must.
 *
 * The host has root's rights and tries only what any such process could: the
 * kernel itself is trusted on a software-protected VM.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest_memfd_demo.h"
#include "vmm.h"

static const char * const claims[NR_CLAIMS] = {
	[CLAIM_PRIVATE] = "most of the guest's RAM is private",
	[CLAIM_POPULATED] = "the guest lives in the guest_memfd",
	[CLAIM_READ] = "a guest_memfd cannot be read",
	[CLAIM_WRITE] = "a guest_memfd cannot be written",
	[CLAIM_MMAP] = "a guest_memfd cannot be mapped",
	[CLAIM_REOPEN] = "a guest_memfd cannot be opened again",
	[CLAIM_ALIAS] = "the page's shared alias is other memory",
	[CLAIM_PROC_MEM] = "/proc/self/mem does not show the secret",
	[CLAIM_VM_READV] = "process_vm_readv does not show the secret",
	[CLAIM_VM_READV_OTHER] = "process_vm_readv by another process neither",
	[CLAIM_SCAN] = "the secret is nowhere in what the host has mapped",
	[CLAIM_SECRET] = "the guest finds its secret, whatever the host did",
	[CLAIM_TO_SHARED] = "the guest makes the page shared",
	[CLAIM_HOST_READS] = "the host reads what the guest writes now",
	[CLAIM_ANSWER] = "the guest reads the host's answer",
	[CLAIM_TO_PRIVATE] = "the guest makes the page private again",
	[CLAIM_DISCARDED] = "the converted page starts fresh",
	[CLAIM_HOST_BLIND] = "the host does not see what the guest writes now",
	[CLAIM_PUNCH] = "a hole frees the guest's page",
	[CLAIM_ZERO] = "the punched page comes back zero",
	[CLAIM_FAULT_PRIVATE] = "a private access without a guest_memfd faults",
	[CLAIM_RESUMED_SHARED] = "the guest goes on with its shared data",
	[CLAIM_FAULT_SHARED] = "a shared access without a mapping faults",
	[CLAIM_RESUMED_PRIVATE] = "the guest goes on with its secret",
	[CLAIM_END] = "the guest runs to its planned end",
};

/* What the guest reads where a claim holds that it has to judge. */
static const char * const guest_reads[NR_CLAIMS] = {
	[CLAIM_SECRET] = "its secret",
	[CLAIM_ANSWER] = "the answer",
	[CLAIM_DISCARDED] = "zeros",
	[CLAIM_ZERO] = "zeros",
	[CLAIM_RESUMED_SHARED] = "what it wrote",
	[CLAIM_RESUMED_PRIVATE] = "its secret",
};

static enum { UNTRIED, HELD, NOT_HELD } verdicts[NR_CLAIMS];

static bool started, done;

/* The page that DEMO_FLIP has flipped behind the guest's back. */
static struct {
	__u64 gpa;
	bool pending, private;
} flipped;

static void verdict(unsigned int number, bool held)
{
	/* A claim that is tried twice has to hold twice. */
	if (verdicts[number] != NOT_HELD)
		verdicts[number] = held ? HELD : NOT_HELD;
	printf("%s %s: ", held ? "[ ok ]" : "[FAIL]", claims[number]);
}

/* What was tried, and the result.  A macro: the compiler checks the format. */
#define claim(number, held, ...)	\
do {					\
	verdict(number, held);		\
	printf(__VA_ARGS__);		\
	putchar('\n');			\
} while (0)

/* Every claim was tried, and held. */
bool demo_held(void)
{
	int i;

	for (i = 0; i < NR_CLAIMS; i++)
		if (verdicts[i] != HELD)
			return false;
	return true;
}

void demo_summary(void)
{
	int held = 0;
	int i;

	putchar('\n');
	for (i = 0; i < NR_CLAIMS; i++) {
		held += verdicts[i] == HELD;
		if (verdicts[i] != HELD)
			printf("%s: %s\n", verdicts[i] == UNTRIED ?
			       "not tried" : "did not hold", claims[i]);
	}
	printf("%d of %d claims held\n", held, NR_CLAIMS);
}

/* The guest has reset the machine. */
void demo_end(void)
{
	claim(CLAIM_END, done, "reset -> %s the module has said it is done",
	      done ? "after" : "before");
}

/* How many leading bytes of @data are what @author writes to page @gfn. */
static size_t matches(const __u8 *data, size_t len, enum demo_author author,
		      __u32 gfn)
{
	size_t i;

	for (i = 0; i < len && data[i] == demo_byte(author, gfn, i); i++)
		;
	return i;
}

static const char *describe(const __u8 *data, size_t len, __u32 gfn)
{
	static const __u8 zeros[PAGE_SIZE];

	if (matches(data, len, DEMO_GUEST, gfn) == len)
		return "what the guest wrote";
	if (matches(data, len, DEMO_HOST, gfn) == len)
		return "what the host wrote";
	return memcmp(data, zeros, len) ? "something else" : "zeros";
}

static void print_memory(struct vm *vm)
{
	printf("[info] %llu of %llu MiB are private, %llu pages of them (%llu KiB) populated\n",
	       (vm->private_pages * PAGE_SIZE / MIB),
	       (vm->ram_size / MIB),
	       vm_populated_pages(vm),
	       (vm_populated_pages(vm) * PAGE_SIZE / 1024));
}

void demo_start(struct vm *vm)
{
	__u64 want = vm->ram_size - vm->shared_size;

	claim(CLAIM_PRIVATE, vm->private_pages * PAGE_SIZE == want,
	      "KVM_SET_MEMORY_ATTRIBUTES on %llu MiB from gpa 0x%llx -> %llu pages private",
	      (want / MIB), vm->shared_size,
	      vm->private_pages);
	print_memory(vm);
}

/* A system call on the guest_memfd that has to fail. */
static void must_fail(struct vm *vm, unsigned int number, const char *what,
		      long ret)
{
	claim(number, ret < 0 && vm->guest_memfd >= 0, "%s -> %s", what,
	      ret < 0 ? strerror(errno) : "success");
}

static void try_file(struct vm *vm, __u64 offset)
{
	__u8 buf[64] = { 0 };
	int fd = vm->guest_memfd;
	char path[32];

	must_fail(vm, CLAIM_READ, "read", read(fd, buf, sizeof(buf)));
	must_fail(vm, CLAIM_READ, "pread at the page",
		  pread(fd, buf, sizeof(buf), offset));
	must_fail(vm, CLAIM_WRITE, "pwrite at the page",
		  pwrite(fd, buf, sizeof(buf), offset));
	/* MAP_FAILED is -1, too. */
	must_fail(vm, CLAIM_MMAP, "mmap, MAP_SHARED",
		  (long)mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, fd, offset));
	must_fail(vm, CLAIM_MMAP, "mmap, MAP_PRIVATE",
		  (long)mmap(NULL, PAGE_SIZE, PROT_READ, MAP_PRIVATE, fd, offset));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	must_fail(vm, CLAIM_REOPEN, path, open(path, O_RDWR | O_CLOEXEC));
}

/* Got @got bytes by a way that must not lead to the secret of page @gfn. */
static void must_not_show(unsigned int number, const char *what,
			  const __u8 *data, ssize_t got, __u32 gfn)
{
	if (got != PAGE_SIZE)
		claim(number, got < 0 && errno == EFAULT, "%s -> %s", what,
		      got < 0 ? strerror(errno) : "part of a page");
	else
		claim(number, matches(data, 16, DEMO_GUEST, gfn) < 16, "%s -> %s",
		      what, describe(data, got, gfn));
}

static ssize_t read_process(pid_t pid, void *from, void *to)
{
	struct iovec local = { to, PAGE_SIZE };
	struct iovec remote = { from, PAGE_SIZE };

	return process_vm_readv(pid, &local, 1, &remote, 1, 0);
}

static void try_memory(struct vm *vm, __u32 gfn)
{
	__u64 gpa = (__u64)gfn << PAGE_SHIFT;
	__u8 *alias = vm->ram + gpa;
	__u8 buf[PAGE_SIZE];
	__u8 *found;
	ssize_t got;
	int fd, i;
	pid_t child;

	must_not_show(CLAIM_ALIAS, "load from userspace_addr", alias, PAGE_SIZE,
		      gfn);

	fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	got = pread(fd, buf, PAGE_SIZE, (off_t)(unsigned long)alias);
	must_not_show(CLAIM_PROC_MEM, "pread", buf, got, gfn);
	close(fd);

	got = read_process(getpid(), alias, buf);
	must_not_show(CLAIM_VM_READV, "on itself", buf, got, gfn);

	/* The child inherits none of the guest's RAM, it has to ask for it. */
	child = fork();
	if (!child) {
		got = read_process(getppid(), alias, buf);
		if (got != PAGE_SIZE)
			_exit(2);
		_exit(matches(buf, 16, DEMO_GUEST, gfn) < 16 ? 0 : 1);
	}
	if (child < 0 || waitpid(child, &i, 0) != child || !WIFEXITED(i))
		err(STATUS_FAILED, "fork");
	claim(CLAIM_VM_READV_OTHER, WEXITSTATUS(i) == 0,
	      "by a child -> %s",
	      WEXITSTATUS(i) == 0 ? "not the secret" :
	      WEXITSTATUS(i) == 1 ? "the secret" : "the call failed");

	for (i = 0; i < 64; i++)
		buf[i] = demo_byte(DEMO_GUEST, gfn, i);
	found = memmem(vm->ram, vm->ram_size, buf, 64);
	claim(CLAIM_SCAN, !found, "search all %llu MiB for it -> %s",
	      (vm->ram_size / MIB), found ? "found" : "not found");
}

static void fill_as_host(__u8 *alias, __u32 gfn)
{
	unsigned int i;

	for (i = 0; i < PAGE_SIZE; i++)
		alias[i] = demo_byte(DEMO_HOST, gfn, i);
}

static void steal(struct vm *vm, __u32 gfn)
{
	__u64 gpa = (__u64)gfn << PAGE_SHIFT;

	printf("[info] the guest has a secret at gpa 0x%llx\n", gpa);
	try_file(vm, gpa - vm->shared_size);
	try_memory(vm, gfn);
	if (vm->ordinary)
		return;
	/* Whether writing there reaches the guest, the guest will say. */
	fill_as_host(vm->ram + gpa, gfn);
	printf("[info] the host has overwritten the page's shared alias\n");
}

static void punch(struct vm *vm, __u64 gpa)
{
	__u64 before = vm_populated_pages(vm);
	int error = vm_punch(vm, gpa, PAGE_SIZE) ? errno : 0;
	__u64 after = vm_populated_pages(vm);

	claim(CLAIM_PUNCH, !error && after + 1 == before,
	      "fallocate(PUNCH_HOLE) -> %s, %llu pages populated, then %llu",
	      error ? strerror(error) : "success", before,
	      after);
}

/*
 * Make the guest's next access to the page one of the wrong kind.  A page of
 * the low slot becomes private, but there is no guest_memfd for it.  A page of
 * the high slot becomes shared, but the host has no memory to share.
 */
static void flip(struct vm *vm, __u64 gpa)
{
	bool private = gpa < vm->shared_size;

	if (vm->ordinary)
		return;
	if (!private && mprotect(vm->ram + gpa, PAGE_SIZE, PROT_NONE))
		err(STATUS_FAILED, "mprotect");
	if (vm_set_attributes(vm, gpa, PAGE_SIZE, private))
		err(STATUS_FAILED, "KVM_SET_MEMORY_ATTRIBUTES");
	flipped.gpa = gpa;
	flipped.private = private;
	flipped.pending = true;
	printf("[info] gpa 0x%llx is %s now, and the guest does not know\n",
	       gpa, private ? "private" : "shared");
}

/*
 * The guest's access and the page's attribute or backing do not go together,
 * and KVM leaves it to us.  What guest and VMM have agreed on counts: put that
 * in force again, and the guest's next try goes through.  False where it is in
 * force already, so that trying again would never end.
 */
bool demo_fault(struct vm *vm, __u64 gpa, __u64 size, bool private)
{
	if (!flipped.pending || gpa != flipped.gpa)
		return false;
	flipped.pending = false;

	claim(private ? CLAIM_FAULT_PRIVATE : CLAIM_FAULT_SHARED,
	      private == flipped.private && size == PAGE_SIZE,
	      "KVM_RUN -> EFAULT, memory fault, gpa 0x%llx, size 0x%llx, %s",
	      gpa, size,
	      private ? "private" : "shared");

	if (!flipped.private)
		mprotect(vm->ram + gpa, PAGE_SIZE, PROT_READ | PROT_WRITE);
	if (vm_set_attributes(vm, gpa, PAGE_SIZE, vm->private[gpa >> PAGE_SHIFT]))
		err(STATUS_FAILED, "KVM_SET_MEMORY_ATTRIBUTES");
	return true;
}

void demo_conversion(__u64 gpa, __u64 pages, bool private, int error)
{
	claim(private ? CLAIM_TO_PRIVATE : CLAIM_TO_SHARED, !error,
	      "hypercall MAP_GPA_RANGE, gpa 0x%llx, %llu page(s), %s -> %s",
	      gpa, pages,
	      private ? "private" : "shared", error ? strerror(error) : "success");
}

static void handle_request(struct vm *vm, __u32 what, __u32 gfn)
{
	__u64 gpa = (__u64)gfn << PAGE_SHIFT;
	__u8 *alias = vm->ram + gpa;

	/* The guest is not trusted, not in its own demonstration either. */
	if (gpa >= vm->ram_size ||
	    (gpa < vm->shared_size && (what == DEMO_STEAL || what == DEMO_PUNCH)))
		errx(STATUS_FAILED, "request %u of the guest for gpa 0x%llx, which cannot be",
		     what, gpa);

	switch (what) {
	case DEMO_STARTED:
		started = true;
		print_memory(vm);
		claim(CLAIM_POPULATED, vm_populated_pages(vm) > 0,
		      "fstat, st_blocks -> %llu pages",
		      vm_populated_pages(vm));
		break;
	case DEMO_STEAL:
		steal(vm, gfn);
		break;
	case DEMO_TALK:
		claim(CLAIM_HOST_READS,
		      matches(alias, PAGE_SIZE, DEMO_GUEST, gfn) == PAGE_SIZE,
		      "load from userspace_addr -> %s",
		      describe(alias, PAGE_SIZE, gfn));
		fill_as_host(alias, gfn);
		break;
	case DEMO_PEEK:
		must_not_show(CLAIM_HOST_BLIND, "load from userspace_addr",
			      alias, PAGE_SIZE, gfn);
		break;
	case DEMO_PUNCH:
		punch(vm, gpa);
		break;
	case DEMO_FLIP:
		flip(vm, gpa);
		break;
	case DEMO_DONE:
		print_memory(vm);
		done = started;
		break;
	default:
		errx(STATUS_FAILED, "request %u of the guest, which does not exist", what);
	}
}

/* What the guest's module says, see guest_memfd_demo.h. */
void demo_io(struct vm *vm, __u16 port, bool write, __u32 *value)
{
	static __u32 gfn;
	__u32 number = *value & ~DEMO_HELD;
	bool held = *value & DEMO_HELD;

	if (!write) {
		*value = port == DEMO_PORT_PRIVATE ?
			 vm->shared_size >> PAGE_SHIFT : ~0u;
	} else if (port == DEMO_PORT_GFN) {
		gfn = *value;
	} else if (port == DEMO_PORT_REQUEST) {
		handle_request(vm, *value, gfn);
	} else if (port == DEMO_PORT_REPORT) {
		/* It judges its own claims only. */
		if (number >= NR_CLAIMS || !guest_reads[number])
			errx(STATUS_FAILED, "report %u of the guest, which does not exist",
			     number);
		claim(number, held, "guest reads the page -> %s",
		      held ? guest_reads[number] : "something else");
	}
}
