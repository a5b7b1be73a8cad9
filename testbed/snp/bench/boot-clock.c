// SPDX-License-Identifier: GPL-2.0
/*
 * boot-clock ARGUMENT...: run /oracle/vmm with these arguments, and say how long it
 * takes from there to the line of a guest's init that its user space is up.
 *
 * Nothing of what the guest says is passed on before that: the host's serial port is
 * slow, and not what is measured.  Nor is how a kernel that has just booted gets random
 * numbers, for which a VMM would wait.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VMM	"/oracle/vmm"
#define MARK	"guest: begin"

static long long now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

int main(int argc, char **argv)
{
	static char said[1 << 20];
	long long start, took = -1;
	size_t length = 0;
	int fds[2], status;
	ssize_t n;
	pid_t vmm;
	char c;

	if (argc < 2)
		errx(1, "usage: boot-clock ARGUMENT...");
	if (pipe(fds))
		err(1, "pipe");
	if (getrandom(&c, 1, 0) != 1)
		err(1, "getrandom");

	start = now();
	vmm = fork();
	if (vmm < 0)
		err(1, "fork");
	if (!vmm) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		argv[0] = VMM;
		execv(VMM, argv);
		err(127, VMM);
	}
	close(fds[1]);

	while ((n = read(fds[0], said + length, sizeof(said) - 1 - length)) > 0) {
		length += n;
		if (took < 0 && strstr(said, MARK))
			took = now() - start;
	}
	fwrite(said, 1, length, stdout);
	if (waitpid(vmm, &status, 0) != vmm)
		err(1, "waitpid");
	if (took >= 0)
		printf("\n# figure snp_boot_512m %lld ns\n", took);
	else
		printf("\n# figure snp_boot_512m - the guest did not get to its init\n");
	fflush(stdout);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
