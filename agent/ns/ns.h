/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The namespaces that the agent serves: the control thread's table. Everything here is called
 * from the control thread only.
 */
#ifndef NSGATE_NS_H
#define NSGATE_NS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nsgate/proto.h"
#include "nsgate/shm.h"
#include "log.h"
#include "agent/queue/queue.h"
#include "agent/stats/last.h"
#include "agent/worker/worker.h"

struct policy;

/* Attached: policy, hooks, flags and guard that the kernel holds are those of the policy. */
enum ns_state { NS_STATE_ATTACHED, NS_STATE_ORPHANED, NS_STATE_DEGRADED, NS_STATE_MAX };

extern const char *const ns_state_names[NS_STATE_MAX];

struct ns {
	struct ns *next;		/* in the order of attachment */
	struct nsgate_ns_record record; /* name, policy's name, identity, labels, rules in force */
	enum ns_state state;		/* worked out by agent/ns/state.c alone */
	char reason[NSGATE_TEXT_MAX];	/* why degraded; empty otherwise */
	bool orphaned;			/* the broker's word */
	char broker_says[NSGATE_TEXT_MAX]; /* why it calls it degraded; empty: it does not */
	char conflict[NSGATE_TEXT_MAX];	   /* why the policy of that name cannot be in force here */
	struct ns_silence {
		bool begun, heard;
		uint64_t turn;	      /* of the queue's counters, when it was looked at first */
		unsigned int looks;   /* in a row at which packets waited; 2 is enough */
	} silence[NSGATE_QUEUES_MAX]; /* silence.h */
	struct {
		enum ns_state state;
		uint64_t reason_hash; /* 0: none */
		int64_t due_ms;	      /* when to tell that the broker has not answered; 0: it has */
	} told;			      /* to log and events */
	struct policy *policy;	      /* in force; NULL: missing */
	uint32_t generation;	      /* of the policy in this namespace */
	struct nsgate_link *links;    /* as the broker last told */
	uint32_t link_count;

	struct shm_queue *shm[NSGATE_QUEUES_MAX]; /* record.queue_count blocks, in one mapping */
	size_t shm_size;
	int shm_fd, proc_fd, aux_fd, watch_fd;
	struct names *names; /* what is known of names here; NULL: no policy has asked yet */
	void *names_area;    /* where that is kept */
	struct queue queues[NSGATE_QUEUES_MAX]; /* record.queue_count of them */
	struct worker *workers[NSGATE_QUEUES_MAX];
	uint32_t unserved[NSGATE_QUEUES_MAX];		/* as struct queue says, when it was told */
	bool flooded[NSGATE_QUEUES_MAX];		/* is with a worker for such */
	struct worker_adding adding[NSGATE_QUEUES_MAX]; /* until ns_admit() */
	unsigned int adding_count;
	uint32_t offer_id;	    /* of the NS_ADD that brought it */
	bool begun;		    /* its links are known, it waits for ns_admit() */
	enum nsgate_status refused; /* 0: served, or about to be; else `reason` says why not */

	struct stats_last last; /* the statistics' memory */

	/* What the kernel should have, and what must still be said to the broker. */
	struct nsgate_rules_spec wanted;
	struct nsgate_rules_spec asked;	   /* by the last NS_RULES */
	unsigned int todo;		   /* enum ns_todo */
	struct ns_change *change;	   /* waits for the broker's answer to NS_RULES */
	int64_t change_ms;		   /* when `change` began to wait */
	uint32_t change_id;		   /* id of the last NS_RULES, 0: none unanswered */
	char rules_error[NSGATE_TEXT_MAX]; /* the answer to it; empty: none */
	struct log_limit log_limit;
};

enum ns_todo {
	NS_TODO_HELD = 1 << 0,	/* tell a new broker that this namespace is here */
	NS_TODO_RULES = 1 << 1, /* ask for `wanted` */
};

/*
 * A change (a policy, a binding) that is finished when every namespace it touches is under it:
 * agent and kernel rules both.
 */
struct ns_change {
	unsigned int waiting; /* namespaces still to answer, plus one while it is being set up */
	unsigned int touched;
	uint32_t status; /* enum nsgate_status: the worst so far */
	char text[NSGATE_TEXT_MAX];
	uint32_t generation; /* the highest put in force */
	void (*done)(struct ns_change *change,
		     void *context); /* called once; frees the change's owner */
	void *context;
};

/* ---- looking them up ---- */

struct ns *ns_first(void);
struct ns *ns_find(const char *name);	    /* NULL: no such */
struct ns *ns_find_cookie(uint64_t cookie); /* offered ones too */
size_t ns_count(void);
size_t ns_count_policy(const char *policy); /* namespaces bound to that policy's name */

/* Those that the broker offered and no worker serves yet: in no other list, and nobody sees them.
 */
struct ns *ns_first_offered(void);
bool ns_is_offered(const struct ns *wanted);

/* ---- coming and going ---- */

void ns_list_offered(struct ns *ns);
void ns_unlist_offered(const struct ns *ns);
void ns_list(struct ns *ns);
void ns_unlist(const struct ns *ns);

/* ---- about one of them ---- */

/* Are the rules in force those that are wanted? */
bool ns_rules_in_force(const struct ns *ns);

/* Told of what happens to a namespace (beside the log): a short name of it, whose, and why. */
typedef void ns_note_fn(const char *kind, const char *netns, const char *detail);

void ns_tell(ns_note_fn *note); /* NULL: nobody */

/* A log line and an event about a namespace. */
void ns_log(enum log_level level, const char *event, const struct ns *ns, const char *detail);

#endif
