// SPDX-License-Identifier: GPL-2.0
/*
 * fill PERCENT: fill that much of the free memory with a pattern, each processor a
 * part of it, then read it again, and say how much it was.
 */
#define _GNU_SOURCE
#include <err.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	4096

/* Each word differs from its neighbours, and from the same one of other processors */
static uint64_t word(uint64_t part, size_t i)
{
	return ((part << 48) + i + 1) * 0x9e3779b97f4a7c15;
}

static void fill(unsigned int part, size_t pages)
{
	const size_t words = PAGE / sizeof(uint64_t);
	cpu_set_t cpu;
	uint64_t *mem;
	size_t i, page;

	CPU_ZERO(&cpu);
	CPU_SET(part, &cpu);
	if (sched_setaffinity(0, sizeof(cpu), &cpu))
		err(1, "processor %u", part);
	mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		err(1, "%zu pages", pages);
	for (i = 0; i < pages * words; i++)
		mem[i] = word(part, i);
	/* The pages written last may still be in some cache: they come first */
	for (page = pages; page--; )
		for (i = page * words; i < (page + 1) * words; i++)
			if (mem[i] != word(part, i))
				errx(1, "processor %u, page %zu of %zu: %#llx, not %#llx", part,
				     page, pages, (unsigned long long)mem[i],
				     (unsigned long long)word(part, i));
}

int main(int argc, char **argv)
{
	unsigned int cpus = sysconf(_SC_NPROCESSORS_ONLN), i;
	unsigned long kib = 0, percent = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;
	FILE *meminfo = fopen("/proc/meminfo", "r");
	int status, bad = 0;
	char line[80];

	if (percent < 1 || percent > 95)
		errx(1, "usage: fill PERCENT, of 1 to 95");
	while (meminfo && !kib && fgets(line, sizeof(line), meminfo))
		sscanf(line, "MemAvailable: %lu kB", &kib);
	if (!kib)
		errx(1, "/proc/meminfo does not say what is free");
	kib = kib * percent / 100;

	for (i = 0; i < cpus; i++) {
		switch (fork()) {
		case -1:
			err(1, "fork");
		case 0:
			fill(i, kib / cpus * 1024 / PAGE);
			return 0;
		}
	}
	while (wait(&status) > 0)
		bad |= status;
	if (bad)
		return 1;
	printf("%lu MiB by %u processors\n", kib / 1024, cpus);
	return 0;
}
