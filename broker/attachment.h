/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * An attachment is one network namespace as the broker has it. There is one list of them, from the
 * first that is known of it until nobody has to hear of it any more:
 *
 *   FOUND     A client asked for it (`opening`), and nsgate-enter opens sockets there. Or it was
 *             attached when another broker ran (`recovering`): a record, or systemd's fd store,
 *             tells of it, and it is looked for
 *   OPENED    identified, queues bound; nothing is queued yet. Its name is looked at
 *   OFFERED   NS_ADD is on its way; the agent answers NS_RULES (it takes it) or REPLY (it refuses)
 *   IN_FORCE  rules are installed, packets are being verdicted; the caller has its answer
 *   DRAINING  rules are out, NS_REMOVE is on its way; the agent verdicts what waits
 *   GONE      Nothing of it is here any more, its name is free, and it may be attached again. The
 *             agent has not said yet that it has let go of it, because it is away or hangs; it is
 *             told again on each connection. One that does not know it answers all the same
 *
 * Who moves it; attachment_move() refuses all else:
 *
 *   FOUND -> OPENED -> OFFERED    attach.c, for a client
 *   OFFERED -> IN_FORCE           attach.c, when the agent has asked for rules and they are
 * installed FOUND -> IN_FORCE             recover.c, as all of it was found again IN_FORCE, OFFERED
 * -> DRAINING attach.c: it was detached, what kept it alive has ended, or it could not be put in
 * force to GONE                       attach.c: there is no agent to drain it, or it did not answer
 * in time. From FOUND recover.c: the agent holds what is not on record
 *
 * It leaves the list (release.h) where nobody else knows of it: FOUND and OPENED when the attach
 * came to nothing, OFFERED when the agent refused it, DRAINING and GONE when the agent has
 * answered.
 *
 * One that is recovering has the socket that owns its table (`netns.rules`), as soon as there is
 * one: an owned table is safe only while that is open. A client may attach the namespace meanwhile;
 * the socket is then lent to the new attachment, and comes back where that comes to nothing.
 *
 * The caller of an attach or a detach waits in `asker`; there is at most one. Messages to the
 * agent are not queued: what must still be said is a bit in `todo`, and agent_link pumps it out
 * when the socket takes it. So nothing grows when the agent is slow, and an agent that comes back
 * is told everything by setting TODO_OFFER again.
 */
#ifndef NSGATE_ATTACHMENT_H
#define NSGATE_ATTACHMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/netns_fds.h"
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

enum attachment_state {
	ATTACHMENT_FOUND,
	ATTACHMENT_OPENED,
	ATTACHMENT_OFFERED,
	ATTACHMENT_IN_FORCE,
	ATTACHMENT_DRAINING,
	ATTACHMENT_GONE,
	ATTACHMENT_STATES
};

enum attachment_todo {
	TODO_OFFER = 1 << 0,
	TODO_LINKS = 1 << 1,
	TODO_STATE = 1 << 2,
	TODO_RULES_REPLY = 1 << 3,
	TODO_REMOVE = 1 << 4,
	TODO_TAMPER = 1 << 5,
};

struct attachment {
	struct attachment *next;
	enum attachment_state state;
	unsigned int todo; /* enum attachment_todo */
	struct nsgate_ns_record record;
	struct netns_fds netns;
	int shm;
	struct links *links;
	struct loop_source links_source;
	struct loop_source watch_source;   /* the pidfd of the container's init */
	struct loop_source monitor_source; /* audit.h */
	int watch;
	int name_watch; /* of the directory that its name is in (names.h); negative: none */
	struct names_follower follower;
	struct place_question look; /* at what it was attached by (follow.h) */
	int named; /* what that led to when the attach began; -EINPROGRESS: not known yet */
	void (*checked)(struct attachment *attachment);
	struct opening *opening; /* of FOUND (opening.h) */

	/* Of FOUND, where another broker attached it (recover.h). */
	bool recovering;
	bool on_record;	 /* `record` is what that says; else only its cookie is known */
	bool searched;	 /* it is being looked for, or, as a handoff, cannot be */
	bool with_agent; /* the agent that is connected holds the queues; they are not ours yet */

	struct timer deadline; /* of OFFERED and DRAINING */

	uint32_t offer_id, remove_id; /* ids of the last NS_ADD and NS_REMOVE */
	struct client *asker;	      /* who waits for the outcome; NULL: nobody */
	uint32_t asker_id;
	struct member *members; /* containers that share it (members.h) */
	struct client *keeper;	/* a handoff's connection: its end is the end of the attachment */

	/* The answer to the agent's last NS_RULES. */
	uint32_t rules_id;
	uint32_t rules_status;
	char rules_text[NSGATE_TEXT_MAX];

	uint32_t ruleset; /* the namespace's generation of rules that was looked at last */
	bool noted;	  /* `print` is that of our rules and of nothing that others made of them */
	uint64_t print;	  /* of our rules (rules_print()), where tables cannot be owned */
	bool look_due;	  /* there is news of its rules */
	int64_t look_ms;  /* until when looks at them are paid for (audit.h) */
	uint32_t stored;  /* which descriptors systemd's fd store has: enum fdstore_has */
	enum table_found {
		TABLE_UNSEEN,
		TABLE_INTACT,
		TABLE_MENDED
	} table; /* how a new broker found the rules; UNSEEN: not looked yet */
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
	char degraded[NSGATE_TEXT_MAX]; /* attachment_update_degraded() */
};

struct attachment *attachment_first(void);

/* The one that has a name: not one that is gone, nor a handoff that is to come again. */
struct attachment *attachment_find(const char *name);

/* By its cookie, one that is here: neither gone nor still being recovered. */
struct attachment *attachment_find_cookie(uint64_t cookie);

/* By its cookie, one that is being recovered; one that is gone. */
struct attachment *attachment_find_recovering(uint64_t cookie);
struct attachment *attachment_find_gone(uint64_t cookie);

/* Does it stand for its namespace, also while it is being recovered? As attachment_find(). */
bool attachment_is_current(const struct attachment *attachment);

/* How many are here. */
unsigned int attachment_count(void);

/* What is called when the container behind one has ended, and when its links have changed. */
void attachment_handlers(void (*gone)(struct attachment *attachment),
			 void (*linked)(struct attachment *attachment));

/* A new one in state FOUND that owns nothing yet. NULL: no memory. */
struct attachment *attachment_new(void);

/* As if it were new: it owned nothing any more. Its place in the list stays. */
void attachment_clear(struct attachment *attachment);

/* Move it on; an assertion fails where the states do not follow one another. */
void attachment_move(struct attachment *attachment, enum attachment_state state);

/* Take it out of the list; see release.h. */
void attachment_unlist(struct attachment *attachment);

/* What kept it alive has ended. */
void attachment_ended(struct attachment *attachment);

/*
 * Watch links and the container's end; to be called once its sockets are open.
 * Return: 0 or -errno.
 */
int attachment_watch(struct attachment *attachment);

/* Is it degraded, and why? To be called when something of that has changed. */
void attachment_update_degraded(struct attachment *attachment);

/* Everything about it is to be said to the agent. */
void attachment_offer(struct attachment *attachment);

/* The descriptors of NS_ADD in their order, all still the attachment's. Return: how many. */
unsigned int attachment_fds(const struct attachment *attachment, int *ret_fds);

#endif
