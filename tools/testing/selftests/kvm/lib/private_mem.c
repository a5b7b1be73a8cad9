// SPDX-License-Identifier: GPL-2.0-only
/*
 * Private guest memory: guest_memfd files, memory attributes and regions.
 */
#define _GNU_SOURCE
#include <sys/stat.h>

#include "test_util.h"
#include "kvm_util.h"
#include "private_mem.h"

int __vm_create_guest_memfd(struct kvm_vm *vm, uint64_t size, uint64_t flags)
{
	struct kvm_create_guest_memfd args = {
		.size = size,
		.flags = flags,
	};

	return __vm_ioctl(vm, KVM_CREATE_GUEST_MEMFD, &args);
}

int vm_create_guest_memfd(struct kvm_vm *vm, uint64_t size)
{
	int fd = __vm_create_guest_memfd(vm, size, 0);

	TEST_ASSERT(fd >= 0, KVM_IOCTL_ERROR(KVM_CREATE_GUEST_MEMFD, fd));
	return fd;
}

int guest_memfd_alloc(int fd, uint64_t offset, uint64_t size)
{
	return fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, size);
}

int guest_memfd_punch(int fd, uint64_t offset, uint64_t size)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 offset, size);
}

uint64_t guest_memfd_nr_pages(int fd)
{
	struct stat st;
	int ret = fstat(fd, &st);

	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("fstat()", ret));
	TEST_ASSERT(!(st.st_blocks * 512 % getpagesize()),
		    "st_blocks (%lu) is no whole number of pages",
		    (unsigned long)st.st_blocks);
	return st.st_blocks * 512 / getpagesize();
}

bool write_file(const char *path, const char *value)
{
	int file = open(path, O_WRONLY);
	bool ok;

	if (file < 0)
		return false;
	ok = write(file, value, strlen(value)) == strlen(value);
	close(file);
	return ok;
}

/* The region that has @gpa, and how much of @size from there it holds. */
static struct userspace_mem_region *region_at(struct kvm_vm *vm, uint64_t gpa,
					      uint64_t *size)
{
	struct kvm_userspace_memory_region *mem;
	uint64_t end;

	mem = kvm_userspace_memory_region_find(vm, gpa, gpa);
	TEST_ASSERT(mem, "No memory at 0x%lx", gpa);

	end = mem->guest_phys_addr + mem->memory_size;
	if (*size > end - gpa)
		*size = end - gpa;
	return container_of(mem, struct userspace_mem_region, region);
}

void vm_mem_punch(struct kvm_vm *vm, uint64_t gpa, uint64_t size)
{
	while (size) {
		struct userspace_mem_region *region;
		uint64_t offset, len = size;
		int ret;

		region = region_at(vm, gpa, &len);
		TEST_ASSERT(region->guest_memfd >= 0,
			    "No guest_memfd at 0x%lx", gpa);

		offset = region->guest_memfd_offset +
			 gpa - region->region.guest_phys_addr;
		ret = guest_memfd_punch(region->guest_memfd, offset, len);
		TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("fallocate()", ret));

		gpa += len;
		size -= len;
	}
}

int __vm_set_memory_attributes(struct kvm_vm *vm, uint64_t gpa, uint64_t size,
			       uint64_t attributes)
{
	struct kvm_memory_attributes args = {
		.address = gpa,
		.size = size,
		.attributes = attributes,
	};

	return __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &args);
}

void vm_set_memory_attributes(struct kvm_vm *vm, uint64_t gpa, uint64_t size,
			      uint64_t attributes)
{
	int ret = __vm_set_memory_attributes(vm, gpa, size, attributes);

	TEST_ASSERT(!ret, KVM_IOCTL_ERROR(KVM_SET_MEMORY_ATTRIBUTES, ret));
}

int __vm_set_user_memory_region2(struct kvm_vm *vm, uint32_t slot,
				 uint32_t flags, uint64_t gpa, uint64_t size,
				 void *hva, int guest_memfd,
				 uint64_t guest_memfd_offset)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
		.guest_memfd = guest_memfd,
		.guest_memfd_offset = guest_memfd_offset,
	};

	return __vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region);
}

void vm_set_user_memory_region2(struct kvm_vm *vm, uint32_t slot,
				uint32_t flags, uint64_t gpa, uint64_t size,
				void *hva, int guest_memfd,
				uint64_t guest_memfd_offset)
{
	int ret = __vm_set_user_memory_region2(vm, slot, flags, gpa, size, hva,
					       guest_memfd, guest_memfd_offset);

	TEST_ASSERT(!ret, KVM_IOCTL_ERROR(KVM_SET_USER_MEMORY_REGION2, ret));
}

int vm_mem_region_ioctl(struct kvm_vm *vm, struct userspace_mem_region *region)
{
	struct kvm_userspace_memory_region *mem = &region->region;

	if (!(mem->flags & KVM_MEM_GUEST_MEMFD))
		return __vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, mem);

	return __vm_set_user_memory_region2(vm, mem->slot, mem->flags,
					    mem->guest_phys_addr,
					    mem->memory_size,
					    (void *)(uintptr_t)mem->userspace_addr,
					    region->guest_memfd,
					    region->guest_memfd_offset);
}

/* The region has a descriptor of its own, so that the caller may close his. */
void vm_mem_region_set_guest_memfd(struct kvm_vm *vm,
				   struct userspace_mem_region *region,
				   int guest_memfd, uint64_t offset)
{
	region->guest_memfd = -1;
	region->guest_memfd_offset = offset;
	if (!(region->region.flags & KVM_MEM_GUEST_MEMFD))
		return;

	if (guest_memfd < 0) {
		region->guest_memfd =
			vm_create_guest_memfd(vm, offset + region->region.memory_size);
		return;
	}

	region->guest_memfd = dup(guest_memfd);
	TEST_ASSERT(region->guest_memfd >= 0,
		    __KVM_SYSCALL_ERROR("dup()", region->guest_memfd));
}

void vm_mem_fill(struct kvm_vm *vm, uint64_t gpa, uint64_t size, uint64_t seed)
{
	while (size) {
		uint64_t i, len = size, *mem;

		region_at(vm, gpa, &len);
		mem = addr_gpa2hva(vm, gpa);
		for (i = 0; i < len; i += MEM_PATTERN_STEP)
			mem[i / sizeof(*mem)] = mem_pattern(seed, gpa + i);

		gpa += len;
		size -= len;
	}
}

void vm_mem_check(struct kvm_vm *vm, uint64_t gpa, uint64_t size, uint64_t seed)
{
	while (size) {
		uint64_t i, len = size, *mem;

		region_at(vm, gpa, &len);
		mem = addr_gpa2hva(vm, gpa);
		for (i = 0; i < len; i += MEM_PATTERN_STEP) {
			uint64_t got = mem[i / sizeof(*mem)];
			uint64_t want = mem_pattern(seed, gpa + i);

			TEST_ASSERT(got == want,
				    "Host reads 0x%lx at gpa 0x%lx, not 0x%lx",
				    got, gpa + i, want);
		}

		gpa += len;
		size -= len;
	}
}
