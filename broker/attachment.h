/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * An attachment is one attached namespace as the broker has it. Its life:
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
	void (*checked)(struct attachment *attachment);
	struct opening *opening; /* of FOUND (opening.h) */
	void (*gone)(struct attachment *attachment);
	void (*linked)(struct attachment *attachment);
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
	char degraded[NSGATE_TEXT_MAX]; /* attachment_update_degraded() */
};

struct attachment *attachment_first(void);
struct attachment *attachment_find(const char *name);
struct attachment *attachment_find_cookie(uint64_t cookie);
unsigned int attachment_count(void);

/*
 * A new attachment in state FOUND that owns nothing yet. `gone` is called when the container behind
 * it has ended, `linked` when its links have changed. NULL: no memory.
 */
struct attachment *attachment_new(void (*gone)(struct attachment *attachment),
				  void (*linked)(struct attachment *attachment));

/*
 * Watch links and the container's end; to be called once the netns is open.
 * Return: 0 or -errno.
 */
int attachment_watch(struct attachment *attachment);

/* Is it degraded, and why? To be called when something of that has changed. */
void attachment_update_degraded(struct attachment *attachment);

/* Close everything. What the kernel has of it (rules) must be gone or be meant to stay. */
void attachment_free(struct attachment *attachment);

/* Everything about it is to be said to the agent. */
void attachment_offer(struct attachment *attachment);

/* The descriptors of NS_ADD in their order, all still the attachment's. Return: how many. */
unsigned int attachment_fds(const struct attachment *attachment, int *ret_fds);

#endif
