/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A queue is a row of NFQUEUE numbers of one namespace, by which the kernel tells what it knows of
 * a packet's flow (nsgate/flow.h), and what goes with them: the socket that serves all of them, the
 * policy that judges their packets, the counters it keeps. Each number counts its ids by itself.
 * One worker thread owns it. A turn is: receive a batch, judge every packet, send every verdict in
 * one datagram. Whatever else must happen to a queue (a new policy, new links, its end) happens
 * between two turns of its worker (worker_call()), so the hot path takes no lock and a batch is
 * never judged by a mixture of two policies.
 *
 * Every message received gets a verdict on every path; what cannot be parsed is dropped. In four
 * cases a packet is sent round its hook again (NF_REPEAT) instead of being decided. That loses
 * nothing and costs it a place or two in the order:
 *   - the agent that read it died (queue_takeover());
 *   - others that waited with it were flushed (queue_check_flushed());
 *   - it was copied under a configuration that is too small for a new policy (`stale_id`);
 *   - the send of its verdict failed (`unsent_id`).
 *
 * Two answers go round the hook as well, with a mark that the rules look out for: a rejection, and
 * a denial that the kernel is to remember. These packets do not come back.
 */
#ifndef NSGATE_QUEUE_H
#define NSGATE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/consumer.h"
#include "judge.h"
#include "nsgate/flow.h"
#include "nsgate/shm.h"
#include "policy/policy.h"
#include "queue_kernel.h"

struct event_ring;

struct queue_link { /* a link of the namespace, sorted by index */
	uint32_t ifindex;
	uint64_t bits; /* of the policy's interface patterns */
};

/* What the worker has to remember of one of the queue's numbers. Ids up to ... */
struct queue_number {
	bool is_requeued, to_requeue, has_stale, has_unsent;
	uint32_t requeued_id; /* are requeued: ignore their messages */
	uint32_t portion_id;  /* are in the next portion of that, while `to_requeue` */
	uint32_t stale_id;    /* were copied under an earlier configuration: send them round */
	uint32_t unsent_id;   /* have verdicts that could not be sent: send them round */
};

/* A flow of ICMP whose first packet was let go (agent/queue/clash.c). */
struct queue_clash {
	uint64_t flow; /* hash; 0: none */
	uint64_t at_ns;
	bool is_first; /* nothing of it was there, when it was found last */
	bool is_sent;
	uint32_t last_id; /* of NSGATE_FLOW_NEW, when its verdict had been sent */
};
#define QUEUE_CLASHES 16

struct queue {
	int fd;		 /* the queue's socket; the ns owns it */
	int proc_fd;	 /* nfnetlink_queue in that namespace's /proc; the ns owns it */
	uint16_t number; /* the first: NSGATE_FLOW_NEW; the others are `stride` apart */
	uint16_t stride;
	struct queue_number numbers[NSGATE_FLOW_MAX];
	uint64_t cookie; /* of the namespace, for events */
	struct shm_queue *shm;

	/* Replaced between turns only. */
	struct judge_policy in_force; /* its policy is a reference, the state's memory its own */
	uint32_t generation;
	struct queue_link *links;
	uint32_t link_count;
	uint32_t answers[NSGATE_ANSWER_MAX]; /* marks */

	/* The worker's own. */
	bool requeueing;	    /* there are portions left (agent/queue/requeue.c) */
	unsigned int requeue_waits; /* turns since the last portion */
	uint32_t requeued_count;    /* packets that are requeued and not counted yet, at most */
	uint32_t lost;		    /* numbered and nowhere (counters_missing()), and no news */
	unsigned int unchecked;	    /* packets read since queue_check_flushed() checked */
	uint64_t checked_at_ns;	    /* CLOCK_MONOTONIC */
	bool drained;		    /* the last turn read all there was */
	uint64_t empty_at_ns;	    /* nothing was waiting then, or later; 0: not known */
	unsigned int backlog_turns; /* in a row that did not read all there was */
	uint64_t backlog_at_ns;	    /* of the first of them */
	uint64_t flooded_at_ns;	    /* when that last had lasted for too long; 0: never */
	bool config_unsent;	    /* the kernel was not told yet what the policy wants to see */
	bool has_unsent;	    /* any of the numbers has */
	bool older_undecided; /* something older than the turn waits: decide nothing by range */
	bool broken;	      /* the socket failed for good: no longer polled */
	bool kernel_only;     /* nobody but the kernel can have sent what is to be read */
	uint32_t config_flags, copy_range; /* as last told to the kernel */
	uint32_t new_flags;		   /* the flags of NSGATE_FLOW_NEW, which has more */
	struct consumer consumers[CONSUMERS_KNOWN];
	struct queue_clash clashes[QUEUE_CLASHES];
	bool has_unsent_clash;
	struct queue *worker_next; /* the queues of one worker */

	/* Written by the worker, read by the control thread (relaxed loads). */
	bool flooded; /* has had more than was judged: wants a worker that quiet queues do not share
		       */
	uint32_t unserved; /* 1 + number of the consumer's queue that nobody serves, or 0 */
	/* What the kernel refused. */
	uint64_t errors;
	int last_error;	 /* errno */
	uint64_t forged; /* messages that came from somebody else than the kernel: ignored */
	struct event_ring *events;
};

/* Buffers of one worker, used by all its queues in turn. */
struct queue_buffers;
struct queue_buffers *queue_buffers_new(void); /* NULL: no memory */
void queue_buffers_free(struct queue_buffers *buffers);

/*
 * One turn: at most one batch. Never blocks.
 * Return: the number of packets received; 0 none waiting; -errno where the socket failed for good.
 */
int queue_turn(struct queue *queue, struct queue_buffers *buffers);

/* Is there something to be done that no message announces? A turn does it. */
static inline bool queue_is_unfinished(const struct queue *queue)
{
	return queue->requeueing || queue->has_unsent;
}

/*
 * Take over a queue that another process may have served: what it had read but not decided
 * re-enters its hook under a new id (NF_REPEAT), in the turns that follow. Call once, in the
 * worker, before the first turn. Return: 0 or -errno.
 */
int queue_takeover(struct queue *queue);

/*
 * Put a policy in force (NULL: none). Call between turns. Counters of rules go by their names: a
 * rule keeps them, whatever its position, and finds them again if a rule of that name was in force
 * before; those of a default go by its policy's. Tells the kernel the new copy range and flags.
 * `state` is made by policy_state_init() beforehand and taken over, as are a reference to
 * `policy` and the array `links`; what they replace is handed back in the same struct for the
 * caller to free outside the worker.
 */
struct queue_binding {
	struct policy *policy;
	struct policy_state state; /* buckets; counters are set by queue_bind() */
	struct queue_link *links;
	uint32_t link_count;
	uint32_t generation;
	bool accept_without_policy;
	bool selective;	       /* as struct judge_policy */
	struct names *names;   /* the same; not the queue's, and to be there until it is replaced */
	uint64_t fallback_key; /* tells the default of one policy from another's; no rule's hash */
	/*
	 * For each rule of the new policy the counters it starts with, in order (the old rule of
	 * the same name, else zero). Filled in by queue_bind() itself between the turns by name
	 * hash, into this array made by the caller (rule_count of the new policy).
	 */
	struct shm_rule *scratch;
};
void queue_bind(struct queue *queue, struct queue_binding *binding);

#endif
