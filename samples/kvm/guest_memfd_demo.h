/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the guest's module (guest_memfd_guest.c) and the VMM say to each other.
 *
 * The guest leads.  It names a page by its guest frame number and asks for
 * something with port I/O; the VMM has done it when the out instruction
 * retires.  It reports what it found in its own memory the same way.  All ports
 * are 32 bits wide.  Conversions are asked for as any guest would, with the
 * KVM_HC_MAP_GPA_RANGE hypercall.
 */
#ifndef _GUEST_MEMFD_DEMO_H
#define _GUEST_MEMFD_DEMO_H

#include <linux/types.h>

#define DEMO_PORT_BASE		0x600
#define DEMO_PORT_GFN		0x600	/* out: the page of the next request */
#define DEMO_PORT_REQUEST	0x604	/* out: enum demo_request */
#define DEMO_PORT_REPORT	0x608	/* out: enum demo_claim, DEMO_HELD or not */
#define DEMO_PORT_PRIVATE	0x60c	/* in: the first private gfn */
#define DEMO_PORT_END		0x610

#define DEMO_HELD		0x80000000u

enum demo_request {
	DEMO_STARTED,		/* the module runs */
	DEMO_STEAL,		/* the page holds a secret: try to get at it */
	DEMO_TALK,		/* the page was converted to shared: read, answer */
	DEMO_PEEK,		/* the page was converted back: look again */
	DEMO_PUNCH,		/* free the page under the guest */
	DEMO_FLIP,		/* flip its attribute behind the guest's back */
	DEMO_DONE,		/* the guest has reached its planned end */
};

/* Every claim that the demonstration makes, in the order in which it does. */
enum demo_claim {
	CLAIM_PRIVATE,
	CLAIM_POPULATED,
	CLAIM_READ,
	CLAIM_WRITE,
	CLAIM_MMAP,
	CLAIM_REOPEN,
	CLAIM_ALIAS,
	CLAIM_PROC_MEM,
	CLAIM_VM_READV,
	CLAIM_VM_READV_OTHER,
	CLAIM_SCAN,
	CLAIM_SECRET,		/* judged by the guest */
	CLAIM_TO_SHARED,
	CLAIM_HOST_READS,
	CLAIM_ANSWER,		/* guest */
	CLAIM_TO_PRIVATE,
	CLAIM_DISCARDED,	/* guest */
	CLAIM_HOST_BLIND,
	CLAIM_PUNCH,
	CLAIM_ZERO,		/* guest */
	CLAIM_FAULT_PRIVATE,
	CLAIM_RESUMED_SHARED,	/* guest */
	CLAIM_FAULT_SHARED,
	CLAIM_RESUMED_PRIVATE,	/* guest */
	CLAIM_END,
	NR_CLAIMS,
};

/* What a page holds: its byte number @i, different for every page and author. */
enum demo_author { DEMO_GUEST = 1, DEMO_HOST = 2 };

/*
 * Both sides compute the contents, so the host can recognise what it must not
 * find, and neither needs a second copy, which the host might find instead.
 */
static inline unsigned char demo_byte(enum demo_author author, __u32 gfn,
				      unsigned int i)
{
	return ((gfn + i) * 2654435761u + author * 40503u) >> 16;
}

#endif /* _GUEST_MEMFD_DEMO_H */
