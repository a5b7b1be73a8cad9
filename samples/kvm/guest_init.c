// SPDX-License-Identifier: GPL-2.0
/*
 * All of the guest's user space: loads the module, whose initialisation is the
 * demonstration, and resets the machine, which ends the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MODULE "/guest_memfd_guest.ko"

int main(void)
{
	int fd = open(MODULE, O_RDONLY | O_CLOEXEC);

	printf("init: user space is up, loading " MODULE "\n");
	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		printf("init: " MODULE ": %s\n", strerror(errno));
	printf("init: good bye\n");
	fflush(stdout);
	fsync(STDOUT_FILENO);
	reboot(RB_AUTOBOOT);
	return 1;
}
