/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sub-tests, each in a process of its own.
 *
 * TEST_ASSERT() ends the process, and a fault of the kernel can hang it.  A
 * program with many independent cases that should all be run, and be reported
 * one by one, declares each with SUBTEST() and lets subtest_main() fork for
 * it: a failed assertion, a crash or a timeout is the one case's "not ok".
 */
#ifndef SELFTEST_KVM_SUBTEST_H
#define SELFTEST_KVM_SUBTEST_H

#include <linux/compiler.h>

struct subtest {
	const char *name;
	void (*fn)(void);
	struct subtest *next;
};

/* Cases run in the order of their registration, i.e. of their definition. */
void subtest_register(struct subtest *test);

#define SUBTEST(_name)							\
static void _name(void);						\
static struct subtest _name##_subtest = {				\
	.name = #_name,							\
	.fn = _name,							\
};									\
static void __attribute__((constructor)) _name##_register(void)		\
{									\
	subtest_register(&_name##_subtest);				\
}									\
static void _name(void)

/*
 * Run the cases named on the command line, or all of them, and report TAP.
 * Never returns.
 */
void __noreturn subtest_main(int argc, char *argv[]);

/* End the case that calls this; it is reported as skipped, with the reason. */
void __noreturn __printf(1, 2) subtest_skip(const char *fmt, ...);

#endif /* SELFTEST_KVM_SUBTEST_H */
