// SPDX-License-Identifier: GPL-2.0
/*
 * report [HEX]: ask the security processor for an attestation report with
 * these (up to 64) bytes of report data, and print it in hex, 32 bytes a line.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/sev-guest.h>

/* MSG_REPORT_RSP of the firmware's ABI: what the driver returns, decrypted */
struct report_rsp {
	uint32_t status;
	uint32_t size;
	uint8_t reserved[24];
	uint8_t report[1184];
};

int main(int argc, char **argv)
{
	static struct snp_report_req req;
	static struct snp_report_resp resp;
	const struct report_rsp *rsp = (const void *)resp.data;
	struct snp_guest_request_ioctl arg = {
		.msg_version = 1,
		.req_data = (uintptr_t)&req,
		.resp_data = (uintptr_t)&resp,
	};
	size_t i;
	int fd;

	_Static_assert(sizeof(*rsp) <= sizeof(resp.data), "room for a report");
	for (i = 0; argc > 1 && argv[1][2 * i]; i++)
		if (i >= sizeof(req.user_data) ||
		    sscanf(argv[1] + 2 * i, "%2hhx", &req.user_data[i]) != 1 ||
		    !argv[1][2 * i + 1])
			errx(1, "report data: up to 64 bytes in hex");

	fd = open("/dev/sev-guest", O_RDWR);
	if (fd < 0)
		err(1, "/dev/sev-guest");
	if (ioctl(fd, SNP_GET_REPORT, &arg))
		err(1, "SNP_GET_REPORT: firmware's error %#llx",
		    (unsigned long long)arg.exitinfo2);
	if (rsp->status || rsp->size != sizeof(rsp->report))
		errx(1, "status %#x, %u bytes", rsp->status, rsp->size);

	for (i = 0; i < sizeof(rsp->report); i++)
		printf("%s%02x%s", i % 32 ? "" : "report: ", rsp->report[i],
		       i % 32 == 31 ? "\n" : "");
	return 0;
}
