// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's side of the guest_memfd demonstration, a module that runs in a
 * guest of guest_memfd_vmm.  It leads the VMM through the scenario, see
 * guest_memfd_demo.h, and looks after every step at what its memory holds.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/io.h>
#include <linux/kvm_para.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/processor.h>

#include "guest_memfd_demo.h"

static void demo_request(enum demo_request what, unsigned long gfn)
{
	outl(gfn, DEMO_PORT_GFN);
	/* The VMM looks at memory, or changes it, which outl() does not say. */
	barrier();
	outl(what, DEMO_PORT_REQUEST);
	barrier();
}

static void demo_report(enum demo_claim claim, bool held)
{
	outl(claim | (held ? DEMO_HELD : 0), DEMO_PORT_REPORT);
}

static void demo_write(struct page *page, enum demo_author author)
{
	u8 *data = page_address(page);
	unsigned int i;

	for (i = 0; i < PAGE_SIZE; i++)
		data[i] = demo_byte(author, page_to_pfn(page), i);
}

static bool demo_holds(struct page *page, enum demo_author author)
{
	u8 *data = page_address(page);
	unsigned int i;

	for (i = 0; i < PAGE_SIZE; i++)
		if (data[i] != demo_byte(author, page_to_pfn(page), i))
			return false;
	return true;
}

static bool demo_holds_zeros(struct page *page)
{
	return !memchr_inv(page_address(page), 0, PAGE_SIZE);
}

/* Ask for a page to become private or shared, as any guest would. */
static int demo_convert(struct page *page, bool private)
{
	return kvm_hypercall3(KVM_HC_MAP_GPA_RANGE, page_to_phys(page), 1,
			      KVM_MAP_GPA_RANGE_PAGE_SZ_4K |
			      (private ? KVM_MAP_GPA_RANGE_ENCRYPTED :
					 KVM_MAP_GPA_RANGE_DECRYPTED));
}

/*
 * The allocator knows nothing of private memory: take pages until one is on the
 * right side of @boundary, then give the others back.
 */
static struct page *demo_alloc(unsigned long boundary, bool private)
{
	struct page *page, *other, *next;
	LIST_HEAD(others);

	for (;;) {
		page = alloc_page(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
		if (!page || (page_to_pfn(page) >= boundary) == private)
			break;
		list_add(&page->lru, &others);
	}
	if (!page)
		pr_err("no free page is %s\n", private ? "private" : "shared");
	else
		pr_info("has a %s page at gpa 0x%llx\n",
			private ? "private" : "shared", page_to_phys(page));
	list_for_each_entry_safe(other, next, &others, lru)
		__free_page(other);
	return page;
}

static void demo_run(struct page *private, struct page *shared)
{
	unsigned long gfn = page_to_pfn(private);
	int err;

	pr_info("writes a secret into the private page\n");
	demo_write(private, DEMO_GUEST);
	demo_request(DEMO_STEAL, gfn);
	demo_report(CLAIM_SECRET, demo_holds(private, DEMO_GUEST));

	pr_info("asks for the page to be shared, and writes to it\n");
	err = demo_convert(private, false);
	if (err)
		pr_err("the conversion failed: %d\n", err);
	demo_write(private, DEMO_GUEST);
	demo_request(DEMO_TALK, gfn);
	demo_report(CLAIM_ANSWER, demo_holds(private, DEMO_HOST));

	pr_info("asks for the page to be private again\n");
	err = demo_convert(private, true);
	if (err)
		pr_err("the conversion failed: %d\n", err);
	demo_report(CLAIM_DISCARDED, demo_holds_zeros(private));
	demo_write(private, DEMO_GUEST);
	demo_request(DEMO_PEEK, gfn);

	pr_info("lets the host punch a hole where the page is\n");
	demo_request(DEMO_PUNCH, gfn);
	demo_report(CLAIM_ZERO, demo_holds_zeros(private));

	pr_info("lets the host flip a shared page, then uses it\n");
	demo_write(shared, DEMO_GUEST);
	demo_request(DEMO_FLIP, page_to_pfn(shared));
	demo_report(CLAIM_RESUMED_SHARED, demo_holds(shared, DEMO_GUEST));

	pr_info("lets the host flip a private page, then uses it\n");
	demo_write(private, DEMO_GUEST);
	demo_request(DEMO_FLIP, gfn);
	demo_report(CLAIM_RESUMED_PRIVATE, demo_holds(private, DEMO_GUEST));

	demo_request(DEMO_DONE, gfn);
}

static int __init guest_memfd_guest_init(void)
{
	struct page *private, *shared;
	unsigned long boundary;
	u32 base;

	/* Without CONFIG_KVM_GUEST too, so ask CPUID rather than the kernel. */
	base = hypervisor_cpuid_base(KVM_SIGNATURE, 1);
	if (!base || !(cpuid_eax(base | KVM_CPUID_FEATURES) &
		       BIT(KVM_FEATURE_HC_MAP_GPA_RANGE))) {
		pr_err("not in a KVM guest that can convert memory\n");
		return -ENODEV;
	}
	boundary = inl(DEMO_PORT_PRIVATE);
	if (boundary == U32_MAX) {
		pr_err("the VMM is not guest_memfd_vmm\n");
		return -ENODEV;
	}

	demo_request(DEMO_STARTED, 0);
	private = demo_alloc(boundary, true);
	shared = demo_alloc(boundary, false);
	if (private && shared)
		demo_run(private, shared);
	if (private)
		__free_page(private);
	if (shared)
		__free_page(shared);
	return 0;
}

static void __exit guest_memfd_guest_exit(void)
{
}

module_init(guest_memfd_guest_init);
module_exit(guest_memfd_guest_exit);
MODULE_DESCRIPTION("Guest side of the guest_memfd sample");
MODULE_LICENSE("GPL");
