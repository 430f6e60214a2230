/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A holding is one attached namespace as the broker has it. Its life:
 *
 *   FOUND     nsgate-enter opens sockets there
 *   OPENED    identified, queues bound; nothing is queued yet. Its name is looked at
 *   OFFERED   NS_ADD is on its way; the agent answers NS_RULES (it takes it) or REPLY (it refuses)
 *   IN_FORCE  rules are installed, packets are being verdicted; the caller has its answer
 *   DRAINING  rules are out, NS_REMOVE is on its way; the agent verdicts what waits
 *
 * The caller of an attach or a detach waits in `asker`; there is at most one. Messages to the
 * agent are not queued: what must still be said is a bit in `todo`, and agent_link pumps it out
 * when the socket takes it. So nothing grows when the agent is slow, and an agent that comes back
 * is told everything by setting TODO_OFFER again.
 */
#ifndef NSGATE_HOLDING_H
#define NSGATE_HOLDING_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/kit.h"
#include "broker/links.h"
#include "log.h"
#include "loop.h"
#include "broker/names.h"
#include "nsgate/proto.h"
#include "broker/place.h"
#include "timer.h"

struct client;
struct member;
struct opening;

enum holding_state {
	HOLDING_FOUND,
	HOLDING_OPENED,
	HOLDING_OFFERED,
	HOLDING_IN_FORCE,
	HOLDING_DRAINING,
};

enum holding_todo {
	TODO_OFFER = 1 << 0,
	TODO_LINKS = 1 << 1,
	TODO_STATE = 1 << 2,
	TODO_RULES_REPLY = 1 << 3,
	TODO_REMOVE = 1 << 4,
	TODO_TAMPER = 1 << 5,
};

struct holding {
	struct holding *next;
	enum holding_state state;
	unsigned int todo; /* enum holding_todo */
	struct nsgate_ns_record record;
	struct kit kit;
	int shm;
	struct links *links;
	struct loop_source links_source;
	struct loop_source watch_source;   /* the pidfd of the container's init */
	struct loop_source monitor_source; /* audit.h */
	int watch;
	int name_watch; /* of the directory that its name is in (names.h); negative: none */
	struct names_follower follower;
	struct place_question look; /* at what it was attached by (follow.h) */
	void (*checked)(struct holding *holding);
	struct opening *opening; /* of FOUND (opening.h) */
	void (*gone)(struct holding *holding);
	void (*linked)(struct holding *holding);
	struct timer deadline; /* of OFFERED and DRAINING */

	uint32_t offer_id, remove_id; /* ids of the last NS_ADD and NS_REMOVE */
	struct client *asker;	      /* who waits for the outcome; NULL: nobody */
	uint32_t asker_id;
	struct member *members; /* containers that share it (members.h) */
	struct client *keeper;	/* a handoff's connection: its end is the end of the holding */

	/* The answer to the agent's last NS_RULES. */
	uint32_t rules_id;
	uint32_t rules_status;
	char rules_text[NSGATE_TEXT_MAX];

	uint32_t ruleset; /* the namespace's generation of rules that was looked at last */
	bool noted;	  /* `print` is that of our rules and of nothing that others made of them */
	uint64_t print;	  /* of our rules (rules_print()), where tables cannot be owned */
	bool look_due;	  /* there is news of its rules */
	int64_t look_ms;  /* until when looks at them are paid for (audit.h) */
	bool stored;	  /* systemd's fd store has its sockets */
	enum custody_state {
		CUSTODY_NONE,
		CUSTODY_INTACT,
		CUSTODY_MENDED
	} custody; /* how a new broker found the rules; NONE: not looked yet */
	enum nsgate_tamper tamper;
	char tampered[NSGATE_TEXT_MAX]; /* what TODO_TAMPER is to tell */
	bool untold;			/* and what it will be about later */
	int64_t tell_ms;		/* when that may be, at the earliest */
	struct log_limit tamper_limit;
	bool refused; /* by the agent, though its rules are in force */
	bool orphaned;
	bool opened; /* no agent, and the policy says that packets then pass: rules are paused */
	bool open_failed; /* it could not be opened yet, which was said */
	bool unsaved;	  /* its record could not be written: tried again */
	struct log_limit unsaved_limit;
	int rules_owed; /* why those on record could not be installed, -errno: tried again */
	enum links_known {
		LINKS_ALL,
		LINKS_SHORT, /* of memory: they are looked up again */
		LINKS_LOST   /* their socket has failed */
	} links_known;
	char degraded[NSGATE_TEXT_MAX]; /* holding_judge_state() */
};

struct holding *holding_first(void);
struct holding *holding_find(const char *name);
struct holding *holding_find_cookie(uint64_t cookie);
unsigned int holding_count(void);

/*
 * A new holding in state FOUND that owns nothing yet. `gone` is called when the container behind
 * it has ended, `linked` when its links have changed. NULL: no memory.
 */
struct holding *holding_new(void (*gone)(struct holding *holding),
			    void (*linked)(struct holding *holding));

/*
 * Watch links and the container's end; to be called once the kit is open.
 * Return: 0 or -errno.
 */
int holding_watch(struct holding *holding);

/* Is it degraded, and why? To be called when something of that has changed. */
void holding_judge_state(struct holding *holding);

/* Close everything. What the kernel has of it (rules) must be gone or be meant to stay. */
void holding_free(struct holding *holding);

/* Everything about it is to be said to the agent. */
void holding_offer(struct holding *holding);

/* The descriptors of NS_ADD in their order, all still the holding's. Return: how many. */
unsigned int holding_fds(const struct holding *holding, int *ret_fds);

#endif
