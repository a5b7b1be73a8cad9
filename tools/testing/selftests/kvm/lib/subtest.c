// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sub-tests, each in a process of its own.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "test_util.h"
#include "subtest.h"

/* Generous: a debug kernel on an emulated machine is slow. */
#define SUBTEST_TIMEOUT_S	300
#define SUBTEST_SLOW_MS		1000

static struct subtest *subtests, **subtests_tail = &subtests;

/* Shared with the children, for the reason of a skip. */
static char *skip_reason;
#define SKIP_REASON_SIZE	4096

void subtest_register(struct subtest *test)
{
	*subtests_tail = test;
	subtests_tail = &test->next;
}

void subtest_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(skip_reason, SKIP_REASON_SIZE, fmt, ap);
	va_end(ap);
	exit(KSFT_SKIP);
}

static bool subtest_selected(struct subtest *test, int argc, char *argv[])
{
	int i;

	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], test->name))
			return true;
	}
	return argc < 2;
}

static void __noreturn subtest_child(struct subtest *test)
{
	/* A group of its own, so that nothing it starts survives it. */
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(SUBTEST_TIMEOUT_S);

	test->fn();
	exit(KSFT_PASS);
}

static void subtest_run(struct subtest *test)
{
	struct timespec start;
	int64_t elapsed_ms;
	int status;
	pid_t pid;

	skip_reason[0] = 0;
	clock_gettime(CLOCK_MONOTONIC, &start);

	fflush(NULL);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed, errno: %d", errno);
	if (!pid)
		subtest_child(test);

	while (waitpid(pid, &status, 0) < 0)
		TEST_ASSERT(errno == EINTR, "waitpid() failed, errno: %d", errno);
	kill(-pid, SIGKILL);

	elapsed_ms = timespec_to_ns(timespec_elapsed(start)) / 1000000;
	if (elapsed_ms >= SUBTEST_SLOW_MS)
		ksft_print_msg("%s took %ld ms\n", test->name, elapsed_ms);

	if (WIFEXITED(status) && !WEXITSTATUS(status))
		ksft_test_result_pass("%s\n", test->name);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_SKIP &&
		 skip_reason[0])
		ksft_test_result_skip("%s: %s\n", test->name, skip_reason);
	else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		ksft_test_result_fail("%s: timed out\n", test->name);
	else if (WIFSIGNALED(status))
		ksft_test_result_fail("%s: signal %d\n", test->name, WTERMSIG(status));
	else
		ksft_test_result_fail("%s\n", test->name);
}

void subtest_main(int argc, char *argv[])
{
	unsigned int nr = 0;
	struct subtest *test;

	setvbuf(stdout, NULL, _IOLBF, 0);

	skip_reason = mmap(NULL, SKIP_REASON_SIZE, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(skip_reason != MAP_FAILED, "mmap() failed, errno: %d", errno);

	for (test = subtests; test; test = test->next)
		nr += subtest_selected(test, argc, argv);
	TEST_ASSERT(nr, "No such case");

	ksft_print_header();
	ksft_set_plan(nr);
	for (test = subtests; test; test = test->next) {
		if (subtest_selected(test, argc, argv))
			subtest_run(test);
	}

	/* A program that could do nothing has not passed. */
	if (ksft_get_xskip_cnt() == nr) {
		ksft_print_cnts();
		exit(KSFT_SKIP);
	}
	ksft_finished();
	__builtin_unreachable();
}
