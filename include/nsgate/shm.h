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
 * A namespace's file holds `queue_count` blocks one after the other. Each begins with its layout,
 * written by the broker that made it: of which size the block is, and where the slots of rules are
 * (shm_block(), shm_rules(), shm_kept()). The counters before them are words with places of their
 * own, and every list among them has room to grow. A plain counter is the word of its number
 * (nsgate/figure.h). A place is never used for anything else again: so whoever knows fewer counters
 * leaves the others alone, and whoever knows more finds zero where nobody counted. doc/FORMATS.md
 * has the rules.
 *
 * The file is sparse, and a page that was only read takes memory like one that was written. So the
 * slot of a rule is left alone, by writer and readers, until the rule is hit for the first time;
 * `rules_touched` says in which groups of slots any was. A slot in use holds the name of the rule
 * at its place in the policy in force. The counts of rules that were hit and are in it no more are
 * in `kept`, and so are those of other policies' defaults: they go on from there when they come
 * back.
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

#include "nsgate/figure.h"
#include "nsgate/limits.h"

#define NSGATE_SHM_MAGIC 0x4e534736U /* "NSG6"; what has a place in struct shm_queue keeps it */

/*
 * Of one block; all in bytes from its start, but for the counts. Larger numbers than this release's
 * are those of a later one.
 */
struct shm_layout {
	uint32_t magic;
	uint32_t size;		  /* of the block: the next queue's follows */
	uint32_t words;		  /* how many 64-bit words there are before the slots */
	uint32_t rules_at, rules; /* slots of the rules in force, and how many */
	uint32_t kept_at, kept;	  /* slots of others */
	uint32_t spare[9];	  /* 0 */
};
static_assert(sizeof(struct shm_layout) == 64, "shm layout");

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
	/* What agent/stats/unbound.c knows; all but `taken` in the first block for all of a
	 * namespace. */
	uint64_t asked, asked_raw; /* came before the queue: as the two above */
	uint64_t unasked;	   /* taken by a queue without having been asked about */
	uint64_t unbound;	   /* asked about, and lost for want of a queue */
	uint64_t refused;	   /* the same, though there was one: the kernel took it not */
	uint64_t bindings;	   /* of the queue since it was attached */
	uint64_t settled_at_ns;	   /* the binding up to which that is known */
	uint64_t taken; /* by earlier bindings of the queue: accounted for, or found it full */
	uint64_t spare[10];
};
static_assert(sizeof(struct shm_control) == 32 * 8, "shm layout");

/* Slots that share a bit of `rules_touched`. */
#define SHM_RULES_GROUP 64
#define SHM_RULES_TOUCHED_WORDS 16

/* Slots that every block has, and that this release makes. Beyond, those kept first begin anew. */
#define SHM_RULES NSGATE_RULES_MAX
#define SHM_KEPT_MAX NSGATE_RULES_MAX

/* Room of the lists: an entry that is added takes the next place in it. */
#define SHM_FATE_ROOM 8
#define SHM_DIRECTION_ROOM 4
#define SHM_PROTO_ROOM 8
#define SHM_LATENCY_ROOM 127
#define SHM_COUNTS 160 /* numbers of plain counters, from 1 */
#define SHM_WORDS 512

struct shm_rule {
	uint64_t name_hash; /* FNV-1a of the rule's name; 0 is an unused slot */
	struct shm_count count;
};

/* What is before the slots. A member that is added takes the first words of a `spare`. */
struct shm_queue {
	struct shm_layout layout;
	struct shm_control control;
	uint64_t turn;
	uint64_t policy_hash;  /* FNV-1a of the policy in force; written by the control thread */
	uint64_t fallback_key; /* whose `fallback` is: queue_binding.fallback_key; 0: nobody's */
	uint64_t rules_used;
	uint64_t kept_used;  /* of the kept slots, the oldest first */
	uint64_t readmitted; /* packets that a takeover sent round again: counted twice by the
				kernel */
	/*
	 * Not 0: at most so many are being sent round and are not in `readmitted` yet. Before that
	 * the kernel had numbered `requeue_lost` packets (a 32-bit difference) that were nowhere.
	 */
	uint64_t requeueing;
	uint64_t requeue_lost;
	struct shm_count fate[SHM_FATE_ROOM];
	struct shm_count direction[SHM_DIRECTION_ROOM];
	struct shm_count fallback;  /* what the default of the policy in force decided */
	struct shm_count replies;   /* accepted as reply of an accepted flow */
	struct shm_count no_policy; /* decided while the namespace's policy was missing */
	struct shm_count spare_counts[5];
	uint64_t protocol[SHM_PROTO_ROOM];
	uint64_t latency_max_us;
	uint64_t latency[SHM_LATENCY_ROOM];
	uint64_t rules_touched[SHM_RULES_TOUCHED_WORDS];
	uint64_t count[SHM_COUNTS]; /* by number: enum nsgate_figure */
	uint64_t spare[112];
};

static_assert(sizeof(struct shm_rule) == 24, "shm layout");
static_assert(sizeof(struct shm_queue) == SHM_WORDS * 8, "shm layout");
static_assert(offsetof(struct shm_queue, control) == 8 * 8 &&
		      offsetof(struct shm_queue, turn) == 40 * 8 &&
		      offsetof(struct shm_queue, fate) == 48 * 8 &&
		      offsetof(struct shm_queue, direction) == 64 * 8 &&
		      offsetof(struct shm_queue, fallback) == 72 * 8 &&
		      offsetof(struct shm_queue, protocol) == 88 * 8 &&
		      offsetof(struct shm_queue, latency) == 97 * 8 &&
		      offsetof(struct shm_queue, rules_touched) == 224 * 8 &&
		      offsetof(struct shm_queue, count) == 240 * 8 &&
		      offsetof(struct shm_queue, spare) == 400 * 8,
	      "nothing ever moves");
static_assert((int)SHM_FATE_MAX <= SHM_FATE_ROOM && (int)SHM_DIRECTION_MAX <= SHM_DIRECTION_ROOM &&
		      (int)SHM_PROTO_MAX <= SHM_PROTO_ROOM &&
		      SHM_LATENCY_BUCKETS <= SHM_LATENCY_ROOM,
	      "the lists fit into their room");
#define SHM_CHECK_NUMBER(number, ...)                                                              \
	static_assert((number) >= 1 && (number) < SHM_COUNTS, "a number has its word");
NSGATE_FIGURES(SHM_CHECK_NUMBER, SHM_CHECK_NUMBER, NSGATE_FIGURE_NONE)
#undef SHM_CHECK_NUMBER
static_assert(SHM_RULES % SHM_RULES_GROUP == 0 &&
		      SHM_RULES / SHM_RULES_GROUP / 64 <= SHM_RULES_TOUCHED_WORDS,
	      "every slot has its bit");

/* Bytes of a block that this release makes. */
#define SHM_BLOCK_SIZE                                                                             \
	(sizeof(struct shm_queue) + (SHM_RULES + SHM_KEPT_MAX) * sizeof(struct shm_rule))

/* The layout of a block that this release makes; what follows it is zero. */
void shm_lay_out(struct shm_layout *ret);

/*
 * Can `queues` blocks laid out so be in a file of that size, by this release or another with what
 * this one needs? The other side wrote it: nothing in it is believed before.
 */
bool shm_layout_valid(const struct shm_layout *layout, unsigned int queues, uint64_t file_size);

/* The block of queue `index`; `first` is that of the first one, with a valid layout. */
static inline struct shm_queue *shm_block(void *first, unsigned int index)
{
	const size_t size = ((const struct shm_layout *)first)->size;

	return (struct shm_queue *)(void *)((char *)first + index * size);
}

/* The slots of a block. */
static inline struct shm_rule *shm_rules(struct shm_queue *block)
{
	return (struct shm_rule *)(void *)((char *)block + block->layout.rules_at);
}
static inline struct shm_rule *shm_kept(struct shm_queue *block)
{
	return (struct shm_rule *)(void *)((char *)block + block->layout.kept_at);
}

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
