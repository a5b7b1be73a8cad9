// SPDX-License-Identifier: GPL-2.0
/*
 * talk ADDRESS PORT BYTES: send that much of standard input by TCP, and write the same
 * amount, as it comes back, to standard output.
 */
#include <arpa/inet.h>
#include <err.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	/* Nobody waits for ever for an answer that does not come */
	const struct timeval limit = { .tv_sec = 60 };
	struct sockaddr_in to = { .sin_family = AF_INET };
	size_t bytes, done;
	char buf[4096];
	ssize_t n, m;
	int fd;

	if (argc != 4 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		errx(1, "usage: talk ADDRESS PORT BYTES");
	to.sin_port = htons(atoi(argv[2]));
	bytes = strtoul(argv[3], NULL, 0);

	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		err(1, "socket");
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		err(1, "connect");
	for (done = 0; done < bytes; done += n) {
		n = bytes - done < sizeof(buf) ? bytes - done : sizeof(buf);
		n = read(0, buf, n);
		if (n <= 0)
			errx(1, "standard input is too short");
		if (send(fd, buf, n, 0) != n)
			err(1, "send, after %zu bytes", done);
	}
	for (done = 0; done < bytes; done += n) {
		n = recv(fd, buf, sizeof(buf), 0);
		if (n <= 0)
			err(1, "receive, after %zu bytes", done);
		m = write(1, buf, n);
		if (m != n)
			err(1, "standard output");
	}
	return 0;
}
