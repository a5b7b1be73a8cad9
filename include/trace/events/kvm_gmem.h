/* SPDX-License-Identifier: GPL-2.0-only */
#if !defined(_TRACE_KVM_GMEM_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_KVM_GMEM_H

#include <linux/tracepoint.h>
#include <linux/kvm_types.h>

#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm_gmem

TRACE_EVENT(kvm_gmem_allocate,
	TP_PROTO(unsigned long ino, pgoff_t index, kvm_pfn_t pfn, int order),
	TP_ARGS(ino, index, pfn, order),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(pgoff_t, index)
		__field(kvm_pfn_t, pfn)
		__field(int, order)
	),

	TP_fast_assign(
		__entry->ino = ino;
		__entry->index = index;
		__entry->pfn = pfn;
		__entry->order = order;
	),

	TP_printk("ino %lu index 0x%lx pfn 0x%llx order %d", __entry->ino,
		  __entry->index, __entry->pfn, __entry->order)
);

TRACE_EVENT(kvm_gmem_split,
	TP_PROTO(unsigned long ino, pgoff_t index, int ret),
	TP_ARGS(ino, index, ret),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(pgoff_t, index)
		__field(int, ret)
	),

	TP_fast_assign(
		__entry->ino = ino;
		__entry->index = index;
		__entry->ret = ret;
	),

	TP_printk("ino %lu index 0x%lx ret %d", __entry->ino, __entry->index,
		  __entry->ret)
);

TRACE_EVENT(kvm_gmem_prepare,
	TP_PROTO(gfn_t gfn, kvm_pfn_t pfn, int order, int ret),
	TP_ARGS(gfn, pfn, order, ret),

	TP_STRUCT__entry(
		__field(gfn_t, gfn)
		__field(kvm_pfn_t, pfn)
		__field(int, order)
		__field(int, ret)
	),

	TP_fast_assign(
		__entry->gfn = gfn;
		__entry->pfn = pfn;
		__entry->order = order;
		__entry->ret = ret;
	),

	TP_printk("gfn 0x%llx pfn 0x%llx order %d ret %d", __entry->gfn,
		  __entry->pfn, __entry->order, __entry->ret)
);

TRACE_EVENT(kvm_gmem_invalidate,
	TP_PROTO(kvm_pfn_t start, kvm_pfn_t end),
	TP_ARGS(start, end),

	TP_STRUCT__entry(
		__field(kvm_pfn_t, start)
		__field(kvm_pfn_t, end)
	),

	TP_fast_assign(
		__entry->start = start;
		__entry->end = end;
	),

	TP_printk("pfn [0x%llx, 0x%llx)", __entry->start, __entry->end)
);

#endif /* _TRACE_KVM_GMEM_H */

#include <trace/define_trace.h>
