// SPDX-License-Identifier: GPL-2.0-only
/*
 * What private memory costs.
 *
 * Only the ABI of guest_memfd is used, so that one binary measures any kernel.
 * Each figure is the time, or the slab, of the operation alone: VMs, slots and
 * guest page tables are made before the clock starts.  Without options all of it
 * is done in small sizes, as a test of the program: what an operation should
 * have done is checked, what it costs is not.  A figure is a line
 *
 *   # figure NAME VALUE UNIT
 *
 * with "-" for what cannot be had here, and the reason in place of the unit.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <pthread.h>
#include <sys/utsname.h>
#include <time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"
#include "processor.h"
#include "subtest.h"

/* Not in the headers of every kernel that this is built with. */
#define CAP_PRE_FAULT_MEMORY	236

struct pre_fault_memory {
	uint64_t gpa;
	uint64_t size;
	uint64_t flags;
	uint64_t padding[5];
};

#define PRE_FAULT_MEMORY	_IOWR(KVMIO, 0xd5, struct pre_fault_memory)

#define MB		BIT_ULL(20)
#define GB		BIT_ULL(30)
#define HUGE_SIZE	(2 * MB)
#define GPA		PRIVATE_MEM_GPA
#define SLOT		PRIVATE_MEM_SLOT
#define PORT		0x2f0
#define MAX_VCPUS	4
#define MAX_REPEAT	101
#define NR_SIZES	3

static struct params {
	uint64_t attr_size[NR_SIZES];
	uint64_t alternating_size;
	uint64_t touch_size;
	uint64_t convert_size;
	uint64_t vcpus_size;
	uint64_t nr_slots[NR_SIZES];
	unsigned int nr_rounds;
} quick = {
	.attr_size = { 64 * MB, 256 * MB, GB },
	.alternating_size = 4 * MB,
	.touch_size = 4 * MB,
	.convert_size = 4 * MB,
	.vcpus_size = 4 * MB,
	.nr_slots = { 16, 32, 64 },
	.nr_rounds = 1,
}, full = {
	.attr_size = { GB, 64 * GB, 1024 * GB },
	.alternating_size = GB,
	.touch_size = 256 * MB,
	.convert_size = 64 * MB,
	.vcpus_size = 64 * MB,
	.nr_slots = { 16, 1024, 16384 },
	.nr_rounds = 4,
}, *params = &quick;

static uint64_t max_attr_size = -1ull;
static unsigned int repeat = 1;

/*
 * Figures: all samples of one case, then their medians
 */
#define MAX_FIGURES	64

static struct figure {
	char name[48];
	const char *unit;
	const char *reason;
	unsigned int nr;
	int64_t samples[MAX_REPEAT];
} figures[MAX_FIGURES];

static unsigned int nr_figures;

static struct figure *get_figure(const char *fmt, va_list ap)
{
	char name[sizeof(figures->name)];
	unsigned int i;

	vsnprintf(name, sizeof(name), fmt, ap);
	for (i = 0; i < nr_figures; i++) {
		if (!strcmp(figures[i].name, name))
			return &figures[i];
	}

	TEST_ASSERT(nr_figures < MAX_FIGURES, "Too many figures");
	strcpy(figures[nr_figures].name, name);
	return &figures[nr_figures++];
}

static void __printf(3, 4) record(int64_t value, const char *unit,
				  const char *fmt, ...)
{
	struct figure *figure;
	va_list ap;

	va_start(ap, fmt);
	figure = get_figure(fmt, ap);
	va_end(ap);

	figure->unit = unit;
	figure->samples[figure->nr++] = value;
}

static void __printf(2, 3) record_none(const char *reason, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	get_figure(fmt, ap)->reason = reason;
	va_end(ap);
}

static int compare_samples(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static void measure(void (*fn)(void))
{
	struct figure *figure;
	unsigned int i;

	for (i = 0; i < repeat; i++)
		fn();

	for (figure = figures; figure < figures + nr_figures; figure++) {
		if (figure->reason) {
			ksft_print_msg("figure %s - %s\n", figure->name, figure->reason);
			continue;
		}
		qsort(figure->samples, figure->nr, sizeof(*figure->samples),
		      compare_samples);
		ksft_print_msg("figure %s %ld %s\n", figure->name,
			       figure->samples[figure->nr / 2], figure->unit);
	}
}

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return timespec_to_ns(ts);
}

/* All slab of the machine, in KiB, with what its processors have not added up. */
static int64_t slab(void)
{
	int64_t value = -1;
	char line[128];
	FILE *file;

	file = fopen("/proc/sys/vm/stat_refresh", "r");
	if (file) {
		while (fgets(line, sizeof(line), file))
			;
		fclose(file);
	}

	file = fopen("/proc/meminfo", "r");
	TEST_ASSERT(file, "No /proc/meminfo");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Slab: %ld", &value) == 1)
			break;
	}
	fclose(file);
	TEST_ASSERT(value >= 0, "No Slab: in /proc/meminfo");
	return value;
}

static const char *size_name(uint64_t size)
{
	static char name[24];

	snprintf(name, sizeof(name), "%llu%c", size < GB ? size / MB : size / GB,
		 size < GB ? 'm' : 'g');
	return name;
}

/*
 * Memory: a slot at any address, on a file, with address space that is aligned
 * as a VMM's, so that huge pages are possible wherever the kernel has them.
 */
struct memory {
	struct kvm_vm *vm;
	uint64_t size;
	void *hva;
	int fd;
};

static void *map_aligned(uint64_t size)
{
	void *hva;

	hva = mmap(NULL, size + GB, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TEST_ASSERT(hva != MAP_FAILED, __KVM_SYSCALL_ERROR("mmap()", -1));
	return (void *)(((uintptr_t)hva + GB - 1) & ~(GB - 1));
}

static void create_memory(struct memory *mem, struct kvm_vm *vm, uint64_t gpa,
			  uint64_t size)
{
	mem->vm = vm;
	mem->size = size;
	mem->hva = map_aligned(size);
	mem->fd = vm_create_guest_memfd(vm, size);
	vm_set_user_memory_region2(vm, SLOT, KVM_MEM_GUEST_MEMFD, gpa, size,
				   mem->hva, mem->fd, 0);
}

static void free_memory(struct memory *mem)
{
	close(mem->fd);
	kvm_vm_free(mem->vm);
	munmap(mem->hva, mem->size);
}

/* Not every kernel tells how many pages a file has. */
static bool has_st_blocks;

static void probe_st_blocks(void)
{
	struct kvm_vm *vm = vm_create_private_barebones();
	int ret, fd = vm_create_guest_memfd(vm, HUGE_SIZE);

	ret = guest_memfd_alloc(fd, 0, HUGE_SIZE);
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("fallocate()", ret));
	has_st_blocks = guest_memfd_nr_pages(fd);
	close(fd);
	kvm_vm_free(vm);
}

static void assert_pages(int fd, uint64_t size)
{
	if (!has_st_blocks)
		return;
	ASSERT_EQ(guest_memfd_nr_pages(fd), size / PAGE_SIZE);
}

/*
 * The guest: writes one word each @stride bytes.  It exits by a port of its own,
 * as a ucall would be most of what a small command costs.
 */
struct cmd {
	uint64_t addr;
	uint64_t end;
	uint64_t stride;
};

struct worker {
	struct kvm_vcpu *vcpu;
	struct cmd *cmd;
	pthread_t thread;
	pthread_barrier_t *barrier;
};

static void guest_code(struct cmd *cmd)
{
	uint64_t addr;

	for (;;) {
		asm volatile("outb %%al, %%dx" : : "a"(0), "d"(PORT) : "memory");
		for (addr = cmd->addr; addr < cmd->end; addr += cmd->stride)
			WRITE_ONCE(*(uint64_t *)addr, addr);
	}
}

static void run_guest(struct worker *worker)
{
	struct kvm_run *run = worker->vcpu->run;
	int ret;

	do {
		ret = __vcpu_run(worker->vcpu);
	} while (ret == -1 && errno == EINTR);

	TEST_ASSERT(!ret && run->exit_reason == KVM_EXIT_IO && run->io.port == PORT,
		    "KVM_RUN: %d, errno %d (%s), exit reason %s", ret, errno,
		    strerror(errno), exit_reason_str(run->exit_reason));
}

static void set_cmd(struct worker *worker, uint64_t addr, uint64_t size,
		    uint64_t stride)
{
	worker->cmd->addr = addr;
	worker->cmd->end = addr + size;
	worker->cmd->stride = stride;
}

static void touch(struct worker *worker, uint64_t addr, uint64_t size)
{
	set_cmd(worker, addr, size, PAGE_SIZE);
	run_guest(worker);
}

static int64_t time_touch(struct worker *worker, uint64_t addr, uint64_t size)
{
	int64_t start;

	set_cmd(worker, addr, size, PAGE_SIZE);
	start = now();
	run_guest(worker);
	return now() - start;
}

/* Huge pages in the guest's own page table: only the host's are measured. */
static struct kvm_vm *create_guest(struct worker *workers, unsigned int nr)
{
	struct kvm_vcpu *vcpus[MAX_VCPUS];
	struct kvm_vm *vm;
	unsigned int i;

	vm = vm_create_private(nr, 0, guest_code, vcpus);
	virt_map_level(vm, GPA, GPA, GB, PG_LEVEL_1G);

	for (i = 0; i < nr; i++) {
		vm_vaddr_t gva = vm_vaddr_alloc_page(vm);

		workers[i].vcpu = vcpus[i];
		workers[i].cmd = addr_gva2hva(vm, gva);
		vcpu_args_set(vcpus[i], 1, gva);
		run_guest(&workers[i]);
	}
	return vm;
}

static void create_private_guest(struct memory *mem, struct worker *workers,
				 unsigned int nr, uint64_t size)
{
	create_memory(mem, create_guest(workers, nr), GPA, size);
	vm_mem_set_private(mem->vm, GPA, size);
}

/* What the figures depend on, other than KVM. */
static void print_setting(const char *name, const char *path)
{
	char line[128];
	FILE *file;

	file = fopen(path, "r");
	if (!file)
		return;
	if (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		ksft_print_msg("setting %s %s\n", name, line);
	}
	fclose(file);
}

SUBTEST(settings)
{
	struct utsname uts;

	uname(&uts);
	ksft_print_msg("setting kernel %s\n", uts.release);
	ksft_print_msg("setting cpus %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
	ksft_print_msg("setting repeat %u\n", repeat);
	print_setting("clock",
		      "/sys/devices/system/clocksource/clocksource0/current_clocksource");
	print_setting("thp", "/sys/kernel/mm/transparent_hugepage/enabled");
}

/*
 * Attributes
 */
static struct kvm_vm *create_attributes_vm(struct memory *mem, uint64_t size,
					   bool bound)
{
	struct kvm_vm *vm = vm_create_private_barebones();

	if (bound)
		create_memory(mem, vm, 0, size);
	return vm;
}

static void free_attributes_vm(struct memory *mem, struct kvm_vm *vm, bool bound)
{
	if (bound)
		free_memory(mem);
	else
		kvm_vm_free(vm);
}

static void range_once(uint64_t size, bool bound)
{
	const char *suffix = bound ? "_bound" : "";
	const char *name = size_name(size);
	int64_t start, t_set, t_clear, used;
	struct memory mem;
	struct kvm_vm *vm;

	if (size > max_attr_size) {
		const char *why = "not run: the size is limited";

		record_none(why, "attr_set_%s%s", name, suffix);
		record_none(why, "attr_clear_%s%s", name, suffix);
		record_none(why, "attr_slab_%s%s", name, suffix);
		return;
	}

	vm = create_attributes_vm(&mem, size, bound);

	used = slab();
	start = now();
	vm_mem_set_private(vm, 0, size);
	t_set = now() - start;
	used = slab() - used;

	start = now();
	vm_mem_set_shared(vm, 0, size);
	t_clear = now() - start;

	record(t_set, "ns", "attr_set_%s%s", name, suffix);
	record(t_clear, "ns", "attr_clear_%s%s", name, suffix);
	record(used, "KiB", "attr_slab_%s%s", name, suffix);
	free_attributes_vm(&mem, vm, bound);
}

static void ranges_once(void)
{
	int i;

	for (i = 0; i < NR_SIZES; i++)
		range_once(params->attr_size[i], false);
	for (i = 0; i < NR_SIZES; i++)
		range_once(params->attr_size[i], true);
}

SUBTEST(attributes)
{
	measure(ranges_once);
}

static void __alternating_once(bool bound)
{
	uint64_t gpa, size = params->alternating_size;
	uint64_t nr = size / (2 * PAGE_SIZE);
	const char *suffix = bound ? "_bound" : "";
	int64_t start, t_set, t_clear, used;
	struct memory mem;
	struct kvm_vm *vm;

	vm = create_attributes_vm(&mem, size, bound);

	used = slab();
	start = now();
	for (gpa = 0; gpa < size; gpa += 2 * PAGE_SIZE)
		vm_mem_set_private(vm, gpa, PAGE_SIZE);
	t_set = now() - start;
	used = slab() - used;

	start = now();
	for (gpa = 0; gpa < size; gpa += 2 * PAGE_SIZE)
		vm_mem_set_shared(vm, gpa, PAGE_SIZE);
	t_clear = now() - start;

	record(t_set / nr, "ns", "alternating_set%s", suffix);
	record(t_clear / nr, "ns", "alternating_clear%s", suffix);
	record(used, "KiB", "alternating_slab%s", suffix);
	free_attributes_vm(&mem, vm, bound);
}

static void alternating_once(void)
{
	__alternating_once(false);
	__alternating_once(true);
}

SUBTEST(alternating)
{
	measure(alternating_once);
}

/*
 * Populating a file, and emptying it
 */
static int64_t time_punch(int fd, uint64_t offset, uint64_t size)
{
	int64_t start = now();
	int ret;

	ret = guest_memfd_punch(fd, offset, size);
	start = now() - start;
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("fallocate()", ret));
	return start;
}

static int64_t time_alloc(int fd, uint64_t size)
{
	int64_t start = now();
	int ret;

	ret = guest_memfd_alloc(fd, 0, size);
	start = now() - start;
	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("fallocate()", ret));
	return start;
}

static void touch_once(void)
{
	uint64_t size = params->touch_size;
	const char *name = size_name(size);
	struct worker worker;
	struct memory mem;

	create_private_guest(&mem, &worker, 1, size);
	assert_pages(mem.fd, 0);
	record(time_touch(&worker, GPA, size), "ns", "touch_cold_%s", name);
	assert_pages(mem.fd, size);
	record(time_touch(&worker, GPA, size), "ns", "touch_warm_%s", name);
	record(time_punch(mem.fd, 0, size), "ns", "punch_%s", name);
	assert_pages(mem.fd, 0);
	free_memory(&mem);

	create_private_guest(&mem, &worker, 1, size);
	record(time_alloc(mem.fd, size), "ns", "fallocate_%s", name);
	assert_pages(mem.fd, size);
	record(time_touch(&worker, GPA, size), "ns", "touch_fallocated_%s", name);
	assert_pages(mem.fd, size);
	free_memory(&mem);

	create_private_guest(&mem, &worker, 1, size);
	time_alloc(mem.fd, size);
	record(time_punch(mem.fd, 0, size), "ns", "punch_unmapped_%s", name);
	assert_pages(mem.fd, 0);
	free_memory(&mem);

	/* For comparison: an ordinary page of the same VM. */
	create_memory(&mem, create_guest(&worker, 1), GPA, size);
	record(time_touch(&worker, GPA, size), "ns", "touch_shared_%s", name);
	assert_pages(mem.fd, 0);
	free_memory(&mem);
}

SUBTEST(populate)
{
	measure(touch_once);
}

static void pre_fault_once(void)
{
	struct pre_fault_memory args = {
		.gpa = GPA,
		.size = params->touch_size,
	};
	const char *name = size_name(params->touch_size);
	struct worker worker;
	struct memory mem;
	int64_t start;
	int ret;

	if (!kvm_check_cap(CAP_PRE_FAULT_MEMORY)) {
		record_none("no KVM_PRE_FAULT_MEMORY", "pre_fault_%s", name);
		record_none("no KVM_PRE_FAULT_MEMORY", "touch_pre_faulted_%s", name);
		return;
	}

	create_private_guest(&mem, &worker, 1, params->touch_size);
	start = now();
	do {
		ret = ioctl(worker.vcpu->fd, PRE_FAULT_MEMORY, &args);
	} while (args.size && (!ret || errno == EINTR || errno == EAGAIN));
	start = now() - start;
	TEST_ASSERT(!ret, KVM_IOCTL_ERROR(KVM_PRE_FAULT_MEMORY, ret));
	assert_pages(mem.fd, params->touch_size);

	record(start, "ns", "pre_fault_%s", name);
	record(time_touch(&worker, GPA, params->touch_size), "ns",
	       "touch_pre_faulted_%s", name);
	free_memory(&mem);
}

SUBTEST(pre_fault)
{
	measure(pre_fault_once);
}

/*
 * Conversions: a round trip to shared memory and back, and a touch after each.
 * Both sides of the memory have their pages already, unless they are discarded, as
 * a VMM may do that does not want to pay for both.
 */
struct trip {
	const char *name;
	uint64_t size;
	bool around;		/* touch all of the huge page */
	bool discard;		/* free the side that is left */
};

/* In each huge page another page, as bounce buffers are found here and there. */
static uint64_t trip_offset(const struct trip *trip, uint64_t i)
{
	return i * HUGE_SIZE + i * 7 * trip->size % HUGE_SIZE;
}

static void trip_touch(const struct trip *trip, struct worker *worker,
		       uint64_t i)
{
	if (trip->around)
		touch(worker, GPA + i * HUGE_SIZE, HUGE_SIZE);
	else
		touch(worker, GPA + trip_offset(trip, i), trip->size);
}

static void make_trips(const struct trip *trip, struct memory *mem,
		       struct worker *worker, unsigned int nr_rounds)
{
	uint64_t i, offset, nr = mem->size / HUGE_SIZE;
	int ret;

	while (nr_rounds--) {
		for (i = 0; i < nr; i++) {
			offset = trip_offset(trip, i);

			vm_mem_set_shared(mem->vm, GPA + offset, trip->size);
			if (trip->discard) {
				ret = guest_memfd_punch(mem->fd, offset, trip->size);
				TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("fallocate()", ret));
			}
			trip_touch(trip, worker, i);

			vm_mem_set_private(mem->vm, GPA + offset, trip->size);
			if (trip->discard) {
				ret = madvise(mem->hva + offset, trip->size, MADV_DONTNEED);
				TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("madvise()", ret));
			}
			trip_touch(trip, worker, i);
		}
	}
}

static void convert_once(void)
{
	static const struct trip trips[] = {
		{ "convert_4k", PAGE_SIZE },
		{ "convert_4k_touch_2m", PAGE_SIZE, .around = true },
		{ "convert_4k_discard", PAGE_SIZE, .discard = true },
		{ "convert_2m", HUGE_SIZE },
		{ "convert_2m_discard", HUGE_SIZE, .discard = true },
	};
	uint64_t nr = params->nr_rounds * (params->convert_size / HUGE_SIZE);
	struct worker worker;
	struct memory mem;
	int64_t start;
	int i;

	for (i = 0; i < ARRAY_SIZE(trips); i++) {
		create_private_guest(&mem, &worker, 1, params->convert_size);
		touch(&worker, GPA, mem.size);
		make_trips(&trips[i], &mem, &worker, 1);
		assert_pages(mem.fd, mem.size);

		start = now();
		make_trips(&trips[i], &mem, &worker, params->nr_rounds);
		record((now() - start) / nr, "ns", "%s", trips[i].name);

		assert_pages(mem.fd, mem.size);
		free_memory(&mem);
	}
}

SUBTEST(convert)
{
	measure(convert_once);
}

/*
 * Several vCPUs, each with its part of the file, or with every n-th page
 */
static void *worker_thread(void *arg)
{
	struct worker *worker = arg;
	struct cmd cmd = *worker->cmd;

	/* In a new thread, a vCPU's first KVM_RUN waits for an RCU grace period. */
	worker->cmd->end = 0;
	run_guest(worker);
	*worker->cmd = cmd;

	pthread_barrier_wait(worker->barrier);
	pthread_barrier_wait(worker->barrier);
	run_guest(worker);
	return NULL;
}

static void vcpus_run(unsigned int nr, bool interleaved)
{
	uint64_t size = params->vcpus_size;
	struct worker workers[MAX_VCPUS];
	pthread_barrier_t barrier;
	struct memory mem;
	unsigned int i;
	int64_t start;

	create_private_guest(&mem, workers, nr, size);
	pthread_barrier_init(&barrier, NULL, nr + 1);
	for (i = 0; i < nr; i++) {
		if (interleaved)
			set_cmd(&workers[i], GPA + i * PAGE_SIZE,
				size - i * PAGE_SIZE, nr * PAGE_SIZE);
		else
			set_cmd(&workers[i], GPA + i * (size / nr), size / nr,
				PAGE_SIZE);
		workers[i].barrier = &barrier;
		pthread_create(&workers[i].thread, NULL, worker_thread, &workers[i]);
	}

	/* All are ready; then go. */
	pthread_barrier_wait(&barrier);
	start = now();
	pthread_barrier_wait(&barrier);
	for (i = 0; i < nr; i++)
		pthread_join(workers[i].thread, NULL);
	record(now() - start, "ns", "vcpus_%u_touch_%s%s", nr, size_name(size),
	       interleaved ? "_interleaved" : "");

	assert_pages(mem.fd, size);
	pthread_barrier_destroy(&barrier);
	free_memory(&mem);
}

static void vcpus_once(void)
{
	vcpus_run(1, false);
	vcpus_run(2, false);
	vcpus_run(4, false);
	vcpus_run(4, true);
}

SUBTEST(vcpus)
{
	measure(vcpus_once);
}

/*
 * Many slots of one page each on one file.  However many they are, they are spread
 * evenly over the same guest memory, and over the same file in another order,
 * and the same pages are tried: nothing but the number of slots differs.
 */
#define SLOTS_SIZE		(64 * MB)
#define NR_SLOT_PAGES		16
#define NR_SLOT_SAMPLES		(4 * NR_SLOT_PAGES)

static void slots_run(uint64_t nr)
{
	uint64_t i, k, gpa, stride = SLOTS_SIZE / nr;
	int64_t start, t_punch = 0, t_convert = 0;
	struct worker worker;
	struct kvm_vm *vm;
	void *hva;
	int fd;

	vm = create_guest(&worker, 1);
	if (vm_check_cap(vm, KVM_CAP_NR_MEMSLOTS) < nr + SLOT) {
		record_none("not that many slots", "slots_%lu_punch", nr);
		record_none("not that many slots", "slots_%lu_convert", nr);
		kvm_vm_free(vm);
		return;
	}
	hva = map_aligned(SLOTS_SIZE);
	fd = vm_create_guest_memfd(vm, SLOTS_SIZE);
	vm_mem_set_private(vm, GPA, SLOTS_SIZE);
	for (i = 0; i < nr; i++)
		vm_set_user_memory_region2(vm, SLOT + i, KVM_MEM_GUEST_MEMFD,
					   GPA + i * stride, PAGE_SIZE,
					   hva + i * stride, fd,
					   i * 11 % nr * stride);

	for (i = 0; i < NR_SLOT_SAMPLES; i++) {
		k = i % NR_SLOT_PAGES * (nr / NR_SLOT_PAGES);

		touch(&worker, GPA + k * stride, PAGE_SIZE);
		assert_pages(fd, PAGE_SIZE);
		t_punch += time_punch(fd, k * 11 % nr * stride, PAGE_SIZE);
		assert_pages(fd, 0);
	}

	for (i = 0; i < NR_SLOT_SAMPLES; i++) {
		gpa = GPA + i % NR_SLOT_PAGES * (SLOTS_SIZE / NR_SLOT_PAGES);

		touch(&worker, gpa, PAGE_SIZE);
		start = now();
		vm_mem_set_shared(vm, gpa, PAGE_SIZE);
		t_convert += now() - start;
		vm_mem_set_private(vm, gpa, PAGE_SIZE);
	}

	record(t_punch / NR_SLOT_SAMPLES, "ns", "slots_%lu_punch", nr);
	record(t_convert / NR_SLOT_SAMPLES, "ns", "slots_%lu_convert", nr);
	close(fd);
	kvm_vm_free(vm);
	munmap(hva, SLOTS_SIZE);
}

static void slots_once(void)
{
	int i;

	for (i = 0; i < NR_SIZES; i++)
		slots_run(params->nr_slots[i]);
}

SUBTEST(slots)
{
	measure(slots_once);
}

static void __noreturn help(const char *name, int status)
{
	printf("usage: %s [OPTION]... [CASE]...\n\n"
	       "  --quick       small sizes, to test the program (default)\n"
	       "  --full        the sizes that the figures are for\n"
	       "  --max-attr=N  attributes over no more than N GiB\n"
	       "  --repeat=N    the medians of N samples, at most %d\n",
	       name, MAX_REPEAT);
	exit(status);
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "quick", no_argument, NULL, 'q' },
		{ "full", no_argument, NULL, 'f' },
		{ "max-attr", required_argument, NULL, 'm' },
		{ "repeat", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'q':
			params = &quick;
			break;
		case 'f':
			params = &full;
			break;
		case 'm':
			max_attr_size = strtoull(optarg, NULL, 0) * GB;
			break;
		case 'r':
			repeat = strtoul(optarg, NULL, 0);
			if (repeat < 1 || repeat > MAX_REPEAT)
				help(argv[0], KSFT_FAIL);
			break;
		case 'h':
			help(argv[0], KSFT_PASS);
		default:
			help(argv[0], KSFT_FAIL);
		}
	}
	require_private_mem();
	probe_st_blocks();

	/* What is left are the names of cases. */
	argv[optind - 1] = argv[0];
	subtest_main(argc - optind + 1, argv + optind - 1);
}
