/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * The figures of a namespace, one row each. From the rows come the workers' sums (struct counters),
 * the words of the shared block (nsgate/shm.h), struct stats, the documents and the metrics.
 *
 * A row's number is for ever. It is the place of a COUNTED figure in `count` of the shared block,
 * where the next release looks for it; so it is never changed, nor given to another figure after
 * the row is gone. A new row takes the next number and stands last in its object. It also needs the
 * line that counts it, and its entry in doc/man/nsgate.7.
 *
 *     COUNTED(number, object, name, kind, metric, help)   summed up by the workers in `count`
 *     KNOWN(number, object, name, kind, metric, help)     from the kernel or the control thread
 *     ALSO(object, name, value)                           something else that stands there
 *
 * `object` and `name` say where it is in the document of a namespace; members stand in the order of
 * the rows, metrics in that of the numbers. `kind` is COUNTER or GAUGE.
 */
#ifndef NSGATE_FIGURE_H
#define NSGATE_FIGURE_H

/* For the suite that grows the formats: what a release with one more counter would have. */
#ifdef NSGATE_TEST_GROWN
#define NSGATE_FIGURES_GROWN(COUNTED)                                                              \
	COUNTED(13, packets, grown, COUNTER, "grown_packets", "Packets decided, counted anew.")
#else
#define NSGATE_FIGURES_GROWN(COUNTED)
#endif

// clang-format off
#define NSGATE_FIGURES(COUNTED, KNOWN, ALSO) \
	KNOWN(2, queue, pending, GAUGE, "queue_pending_packets", \
	      "Packets waiting in the kernel's queues.") \
	KNOWN(3, queue, dropped, COUNTER, "queue_dropped_packets", \
	      "Dropped by the kernel because a queue was full.") \
	KNOWN(4, queue, user_dropped, COUNTER, "queue_user_dropped_packets", \
	      "Dropped by the kernel because a socket's buffer was full.") \
	KNOWN(5, queue, flushed, COUNTER, "queue_flushed_packets", \
	      "Vanished from a queue undecided; contained in the dropped packets.") \
	KNOWN(6, queue, refused, COUNTER, "queue_refused_packets", \
	      "Dropped by the kernel as they could not be queued: no memory, or a conntrack entry " \
	      "shared with another packet.") \
	KNOWN(7, queue, unbound_dropped, COUNTER, "queue_unbound_dropped_packets", \
	      "Dropped by the kernel because nobody had bound a queue, or no longer.") \
	KNOWN(1, packets, seen, COUNTER, "seen_packets", \
	      "Packets that entered the namespace's queues.") \
	ALSO(packets, accepted, stats->fate[SHM_FATE_ACCEPTED].packets) \
	ALSO(packets, dropped, stats->fate[SHM_FATE_DROPPED].packets) \
	ALSO(packets, rejected, stats->fate[SHM_FATE_REJECTED].packets) \
	COUNTED(12, packets, repeated, COUNTER, "repeated_packets", \
		"Judged twice because of a repeat rule.") \
	ALSO(packets, queued_elsewhere, stats->fate[SHM_FATE_QUEUED_ELSEWHERE].packets) \
	COUNTED(9, packets, unserved, COUNTER, "unserved_packets", \
		"For another program's queue that nobody served; dropped, or accepted if the rule " \
		"says so.") \
	COUNTED(11, packets, malformed, COUNTER, "malformed_packets", \
		"Dropped because their headers cannot be trusted.") \
	ALSO(packets, offloaded, stats_offloaded(stats).packets) \
	ALSO(packets, offloaded_dropped, stats_denied(stats).packets) \
	KNOWN(10, packets, notices, COUNTER, "notice_packets", \
	      "Passed unasked: the kernel's own errors, neighbour discovery, multicast reports.") \
	COUNTED(8, audit, would_drop, COUNTER, "would_drop_packets", \
		"Accepted only because of audit.") \
	NSGATE_FIGURES_GROWN(COUNTED)
// clang-format on

#define NSGATE_FIGURE_NUMBER(number, object, name, ...) NSGATE_FIGURE_##name = (number),
#define NSGATE_FIGURE_NONE(...)

enum nsgate_figure {
	NSGATE_FIGURES(NSGATE_FIGURE_NUMBER, NSGATE_FIGURE_NUMBER, NSGATE_FIGURE_NONE)
};

/* Members of a struct: what the workers sum up, or all that have a number. */
#define NSGATE_FIGURE_MEMBER(number, object, name, ...) uint64_t name;
#define NSGATE_FIGURES_COUNTED                                                                     \
	NSGATE_FIGURES(NSGATE_FIGURE_MEMBER, NSGATE_FIGURE_NONE, NSGATE_FIGURE_NONE)
#define NSGATE_FIGURES_NUMBERED                                                                    \
	NSGATE_FIGURES(NSGATE_FIGURE_MEMBER, NSGATE_FIGURE_MEMBER, NSGATE_FIGURE_NONE)

#endif
