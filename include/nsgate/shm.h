/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * The counters of one queue, in a file that the broker makes at attach and keeps, so that they
 * outlive the agent. Exactly one thread writes a block (the worker that serves the queue); any
 * number read. Every field is an aligned 64-bit word stored whole, so a reader, or the next
 * agent after a crash, can see an old value but never a torn or a lower one.
 *
 * `turn` is odd while the writer counts packets whose verdicts are not sent yet. A reader that
 * sees the same even value before and after has a snapshot in which every packet counted has
 * left the kernel's queue; that is what lets "seen = decided + pending" be exact.
 *
 * A namespace's file holds `queue_count` blocks one after the other. The file is sparse, and a
 * page that was only read takes memory like one that was written. So the slot of a rule is left
 * alone, by writer and readers, until the rule is hit for the first time; `rules_touched` says in
 * which groups of slots any was. A slot in use holds the name of the rule at its place in the
 * policy in force. The counts of rules that were hit and are in it no more are in `kept`, and so
 * are those of other policies' defaults: they go on from there when they come back.
 *
 * Where the file system is full, to touch a page that is not there ends the program (SIGBUS). What
 * is before the rules is allocated when the file is made, with the first group of slots; others by
 * shm_rule_reach() before they are touched.
 */
#ifndef NSGATE_SHM_H
#define NSGATE_SHM_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nsgate/limits.h"

#define NSGATE_SHM_MAGIC 0x4e534735U /* "NSG5"; changes with the layout */

enum shm_fate {
	SHM_FATE_ACCEPTED,
	SHM_FATE_DROPPED,
	SHM_FATE_REJECTED,
	SHM_FATE_QUEUED_ELSEWHERE,
	SHM_FATE_MAX
};

enum shm_direction {
	SHM_DIRECTION_IN,
	SHM_DIRECTION_OUT,
	SHM_DIRECTION_FORWARD,
	SHM_DIRECTION_MAX
};

enum shm_proto {
	SHM_PROTO_TCP,
	SHM_PROTO_UDP,
	SHM_PROTO_ICMP,
	SHM_PROTO_ICMPV6,
	SHM_PROTO_OTHER,
	SHM_PROTO_MAX
};

/*
 * Latency histogram: log-linear, 4 buckets per power of two, of microseconds between the receipt
 * of a packet and the sending of its verdict. Bucket of v: v < 4 is v itself; else
 * 4 * (log2(v) - 1) + the two bits below v's top bit.
 */
#define SHM_LATENCY_BUCKETS 124

struct shm_count {
	uint64_t packets;
	uint64_t bytes;
};

/*
 * What the statistics remember between two readings. Written by the control thread, but for
 * `released`, which the broker writes while no agent is there.
 */
struct shm_control {
	uint64_t bound_at_ns; /* which binding of the queue the rest is about */
	uint64_t base;	      /* packets accounted for when it was bound: its ids begin at 1 */
	uint64_t seen;
	uint64_t flushed;
	uint64_t unaccounted;	       /* let pass by the kernel on overload */
	uint64_t released;	       /* let pass by the broker while no agent was there */
	uint64_t dropped, dropped_raw; /* the kernel's column: sum of its steps, as last read */
	uint64_t user_dropped, user_dropped_raw;
	/*
	 * Let pass without a verdict, in the first block for all of a namespace: because nobody
	 * judged, and on overload. Sums of the steps of the rules' counters, as last read.
	 */
	uint64_t passed_down, passed_down_raw;
	uint64_t passed_unbound, passed_overload;
	/* What agent/unbound.c knows; all but `taken` in the first block for all of a namespace. */
	uint64_t asked, asked_raw; /* came before the queue: as the two above */
	uint64_t unasked;	   /* taken by a queue without having been asked about */
	uint64_t unbound;	   /* asked about, and lost for want of a queue */
	uint64_t refused;	   /* the same, though there was one: the kernel took it not */
	uint64_t bindings;	   /* of the queue since it was attached */
	uint64_t settled_at_ns;	   /* the binding up to which that is known */
	uint64_t taken; /* by earlier bindings of the queue: accounted for, or found it full */
};

/* Slots that share a bit of `rules_touched`. */
#define SHM_RULES_GROUP 64
#define SHM_RULES_TOUCHED_WORDS (NSGATE_RULES_MAX / SHM_RULES_GROUP / 64)

#define SHM_KEPT_MAX NSGATE_RULES_MAX /* beyond that, those that left first begin anew */

struct shm_rule {
	uint64_t name_hash; /* FNV-1a of the rule's name; 0 is an unused slot */
	struct shm_count count;
};

struct shm_queue {
	uint32_t magic;
	uint32_t rules_used;
	uint64_t policy_hash; /* FNV-1a of the policy in force; written by the control thread */
	struct shm_control control;
	uint64_t turn;
	uint64_t fallback_key; /* whose `fallback` is: queue_binding.fallback_key; 0: nobody's */
	uint64_t kept_used;    /* of `kept`, the oldest first */
	struct shm_count fate[SHM_FATE_MAX];
	struct shm_count direction[SHM_DIRECTION_MAX];
	struct shm_count fallback;  /* what the default of the policy in force decided */
	struct shm_count replies;   /* accepted as reply of an accepted flow */
	struct shm_count no_policy; /* decided while the namespace's policy was missing */
	uint64_t protocol[SHM_PROTO_MAX];
	uint64_t malformed;
	uint64_t repeated;
	uint64_t would_drop;
	uint64_t unserved; /* for another program's queue that nobody served: dropped or accepted */
	uint64_t readmitted; /* packets that a takeover sent round again: counted twice by the
				kernel */
	/*
	 * Not 0: at most so many are being sent round and are not in `readmitted` yet. Before that
	 * the kernel had numbered `resend_lost` packets (a 32-bit difference) that were nowhere.
	 */
	uint64_t resending;
	uint64_t resend_lost;
	uint64_t latency_max_us;
	uint64_t latency[SHM_LATENCY_BUCKETS];
	uint64_t rules_touched[SHM_RULES_TOUCHED_WORDS];
	struct shm_rule rules[NSGATE_RULES_MAX];
	struct shm_rule kept[SHM_KEPT_MAX];
};

static_assert(sizeof(struct shm_rule) == 24, "shm layout");
static_assert(sizeof(struct shm_queue) % 8 == 0, "shm layout");
static_assert(NSGATE_RULES_MAX % (64 * SHM_RULES_GROUP) == 0, "every slot has its bit");

/* May the slot of rule `index` be in use? If not, it is all zero. */
static inline bool shm_rule_touched(const uint64_t *touched, uint32_t index)
{
	const uint32_t group = index / SHM_RULES_GROUP;

	return __atomic_load_n(&touched[group / 64], __ATOMIC_RELAXED) >> group % 64 & 1;
}

/* Is any? */
static inline bool shm_rules_any_touched(const uint64_t *touched)
{
	uint64_t any = 0;

	for (int i = 0; i < SHM_RULES_TOUCHED_WORDS; i++)
		any |= __atomic_load_n(&touched[i], __ATOMIC_RELAXED);
	return any != 0;
}

/* The slot of rule `index` is used from now on. One thread writes. */
static inline void shm_rule_touch(uint64_t *touched, uint32_t index)
{
	const uint32_t group = index / SHM_RULES_GROUP;

	__atomic_store_n(&touched[group / 64], touched[group / 64] | UINT64_C(1) << group % 64,
			 __ATOMIC_RELEASE);
}

/*
 * Have that memory, of a shared mapping, be there. Return: 0, or -ENOSPC where to touch it would
 * be the end.
 */
int shm_reach(const void *start, size_t size);

/*
 * Before the slot of rule `index` is used or looked at: have its group be there, and touched.
 * Return: 0, or -ENOSPC: leave it alone.
 */
int shm_rule_reach(uint64_t *touched, const struct shm_rule *rules, uint32_t index);

#endif
