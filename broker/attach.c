// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/client.h"
#include "broker/enforce.h"
#include "broker/fdstore.h"
#include "broker/follow.h"
#include "ipc.h"
#include "log.h"
#include "broker/members.h"
#include "name.h"
#include "broker/opening.h"
#include "broker/owed.h"
#include "broker/prepare.h"
#include "broker/queue_setup.h"
#include "record.h"
#include "broker/records.h"
#include "broker/nft/rules.h"
#include "broker/takeup.h"

#define OFFER_TIMEOUT_MS 5000
#define DRAIN_TIMEOUT_MS 3000

static bool agent_here; /* connected, and done with telling what it holds */

bool attach_agent_here(void)
{
	return agent_here;
}

static void drain(struct holding *holding);
static void set_deadline(struct holding *holding, int timeout_ms);

static void answer(struct holding *holding, enum nsgate_status status, const char *text)
{
	if (holding->asker)
		client_reply(holding->asker, holding->asker_id, status, "%s", text);
	holding->asker = NULL;
}

/* Nothing of it is in the kernel yet but bound queues, and the agent has not heard of it. */
static bool is_early(const struct holding *holding)
{
	return holding->state == HOLDING_FOUND || holding->state == HOLDING_OPENED;
}

/* An attach that came to nothing. */
static void abandon(struct holding *holding)
{
	if (holding->record.cookie)
		records_discard(holding->record.cookie);
	holding_free(holding);
}

/*
 * A handoff that outlived a broker comes again with the socket of a namespace which the agent has
 * held meanwhile: it only takes its place as keeper again.
 */
static bool resume_handoff(struct client *client, const struct nsgate_msg_attach *message, int *fds,
			   unsigned int fd_count)
{
	struct holding *holding = holding_find(message->name);
	uint64_t cookie, inode;

	if (message->target_kind != NSGATE_TARGET_HANDOFF || !holding || holding->keeper ||
	    holding->record.target_kind != NSGATE_TARGET_HANDOFF ||
	    holding->state != HOLDING_IN_FORCE || kit_identify(fds[0], &cookie, &inode) < 0 ||
	    cookie != holding->record.cookie)
		return false;
	fds_close(fds, fd_count);
	holding->keeper = client;
	log_event(LOG_LEVEL_INFO, "handoff.resumed", "netns", message->name, NULL);
	client_reply(client, message->header.id, NSGATE_STATUS_OK, NULL);
	return true;
}

/* The name has moved: let go of the namespace that had it, now that another is in force. */
static void replace_others(const struct holding *with)
{
	struct holding *next;

	for (struct holding *old = holding_first(); old; old = next) {
		next = old->next;
		if (old == with || old->state == HOLDING_DRAINING ||
		    strcmp(old->record.name, with->record.name) != 0)
			continue;
		answer(old, NSGATE_STATUS_FAILED,
		       "another namespace took the name in the middle of it: choose another with "
		       "--name");
		drain(old);
	}
}

static int refuse_member(struct refusal *refusal, const char *container, int err)
{
	refusal->status = NSGATE_STATUS_FAILED;
	if (err == -ESRCH) {
		refusal->status = NSGATE_STATUS_NOT_FOUND;
		snprintf(refusal->text, sizeof(refusal->text),
			 "container %s is gone: its first process has ended", container);
	} else if (err == -ENOSPC) {
		snprintf(refusal->text, sizeof(refusal->text),
			 "container %s would be one too many in its namespace: %d at most",
			 container, MEMBERS_MAX);
	} else {
		snprintf(refusal->text, sizeof(refusal->text),
			 "cannot look after the first process of container %s: %s", container,
			 strerror(-err));
	}
	return -1;
}

/*
 * A container in a namespace that is attached already: count it in. One that asks for another
 * policy is refused: whichever of the two would hold, somebody would be wrong about it.
 */
static int join(struct holding *holding, const struct member_request *request,
		struct refusal *refusal)
{
	const char *policy = members_policy(holding);
	int err;

	if (holding->state != HOLDING_IN_FORCE || holding->asker) {
		refusal->status = NSGATE_STATUS_BUSY;
		snprintf(refusal->text, sizeof(refusal->text),
			 "%s is being attached or detached by somebody else: try again",
			 holding->record.name);
		return -1;
	}
	if (strcmp(policy, request->policy) != 0) {
		refusal->status = NSGATE_STATUS_FAILED;
		snprintf(refusal->text, sizeof(refusal->text),
			 "its network namespace is attached already, as %s with policy %s, not %s: "
			 "containers that share one must ask for the same policy",
			 holding->record.name, policy, request->policy);
		return -1;
	}
	err = members_add(holding, request);
	if (err)
		return refuse_member(refusal, request->container, err);
	log_event(LOG_LEVEL_INFO, "member.joined", "netns", holding->record.name, "container",
		  request->container, NULL);
	return 0;
}

/* Return: is it a container, and is all done with it: answered, `fds` closed? */
static bool join_request(struct client *client, const struct nsgate_msg_attach *message, int *fds,
			 unsigned int fd_count)
{
	struct refusal refusal = {.status = NSGATE_STATUS_OK};
	struct member_request request;
	struct holding *holding;
	int err;

	if (!(message->flags & NSGATE_ATTACH_CONTAINER))
		return false;
	if (!members_request(message, fds[0], &request)) {
		refusal.status = NSGATE_STATUS_USAGE;
		snprintf(refusal.text, sizeof(refusal.text),
			 "the label " NSGATE_LABEL_CONTAINER " must be the container's id");
	} else {
		err = members_find_holding(fds[0], &holding);
		if (err == -ENOENT)
			return false;
		if (err)
			refuse_member(&refusal, request.container, err);
		else
			join(holding, &request, &refusal);
	}
	fds_close(fds, fd_count);
	client_reply(client, message->header.id, refusal.status, "%s", refusal.text);
	return true;
}

/* The first container of a namespace counts itself in. Return: 0, or -1 with the refusal. */
static int add_first_member(struct holding *holding, struct refusal *refusal)
{
	const struct opening *opening = holding->opening;
	struct member_request request;
	int err;

	if (!(opening->message.flags & NSGATE_ATTACH_CONTAINER) ||
	    !members_request(&opening->message, opening->target, &request))
		return 0;
	err = members_add(holding, &request);
	return err ? refuse_member(refusal, request.container, err) : 0;
}

static void refuse_attach(struct holding *holding, const struct refusal *refusal)
{
	log_event(LOG_LEVEL_WARNING, "attach.refused", "netns", holding->record.name, "why",
		  refusal->text, NULL);
	answer(holding, refusal->status, refusal->text);
	abandon(holding);
}

static void offer(struct holding *holding)
{
	follow_name(holding);
	holding->state = HOLDING_OFFERED;
	set_deadline(holding, OFFER_TIMEOUT_MS);
	holding_offer(holding);
}

/*
 * While its sockets were opened another container of that namespace may have been attached.
 * Return: was it so? Then the container is counted in there, or refused, and this holding is gone.
 */
static bool join_late(struct holding *holding)
{
	struct refusal refusal = {.status = NSGATE_STATUS_OK};
	const struct opening *opening = holding->opening;
	struct member_request request;
	struct holding *other;

	if (!(opening->message.flags & NSGATE_ATTACH_CONTAINER) ||
	    !members_request(&opening->message, opening->target, &request) ||
	    members_find_holding(opening->target, &other) < 0)
		return false;
	join(other, &request, &refusal);
	answer(holding, refusal.status, refusal.text);
	holding_free(holding);
	return true;
}

static void attach_opened(struct opening *opening, int err)
{
	struct refusal refusal = {.status = NSGATE_STATUS_OK};
	struct holding *holding = opening->holding;

	if (!err && join_late(holding))
		return;
	if (prepare_opened(holding, err, &refusal) < 0 || add_first_member(holding, &refusal) < 0) {
		refuse_attach(holding, &refusal);
		return;
	}
	opening_end(holding);
	holding->state = HOLDING_OPENED;
	follow_check(holding, offer);
}

/* Return: 0, or -1 with the refusal. */
static int check_name(const struct nsgate_msg_attach *message, struct refusal *refusal)
{
	if (!takeup_seeks(message->name))
		return prepare_check_name(message, refusal);
	refusal->status = NSGATE_STATUS_BUSY;
	snprintf(refusal->text, sizeof(refusal->text),
		 "the namespace that was attached as %s is being looked for: try again",
		 message->name);
	return -1;
}

/* What can be told at once. Return: 0, or -1 with the refusal. */
static int check(const struct nsgate_msg_attach *message, const int *fds, unsigned int fd_count,
		 struct refusal *refusal)
{
	const bool container = message->flags & NSGATE_ATTACH_CONTAINER;

	/* A container that joins others has no use for its own name. */
	if (prepare_check(message, fds, fd_count, refusal) < 0 ||
	    (!container && check_name(message, refusal) < 0))
		return -1;
	if (agent_here)
		return 0;
	refusal->status = NSGATE_STATUS_UNREACHABLE;
	snprintf(refusal->text, sizeof(refusal->text),
		 "nsgate-agent does not answer on %s/agent.sock: start it, then attach again",
		 broker_config.runtime_dir);
	return -1;
}

static void start_attach(struct client *client, const struct nsgate_msg_attach *message, int *fds,
			 unsigned int fd_count)
{
	const struct refusal no_memory = {NSGATE_STATUS_FAILED, "the broker is out of memory"};
	struct holding *holding = holding_new(attach_orphaned, enforce_links);

	if (!holding) {
		fds_close(fds, fd_count);
		client_reply(client, message->header.id, no_memory.status, "%s", no_memory.text);
		return;
	}
	memcpy(holding->record.name, message->name, sizeof(holding->record.name));
	holding->asker = client;
	holding->asker_id = message->header.id;
	if (message->target_kind == NSGATE_TARGET_HANDOFF)
		holding->keeper = client;
	if (opening_start(holding, message, fds, fd_count, attach_opened) < 0)
		refuse_attach(holding, &no_memory);
}

void attach_request(struct client *client, const struct nsgate_msg_attach *message, int *fds,
		    unsigned int fd_count)
{
	struct refusal refusal = {.status = NSGATE_STATUS_OK};

	if (resume_handoff(client, message, fds, fd_count))
		return;
	if (check(message, fds, fd_count, &refusal) == 0) {
		if (join_request(client, message, fds, fd_count))
			return;
		if (check_name(message, &refusal) == 0) {
			start_attach(client, message, fds, fd_count);
			return;
		}
	}
	fds_close(fds, fd_count);
	client_reply(client, message->header.id, refusal.status, "%s", refusal.text);
}

/* ---- answers and ends ---- */

/*
 * The last step of every detach. The rules of an orphan stay: they go with the namespace, and
 * should something live on in it, it stays under them with nobody to judge: closed, unless the
 * policy says open.
 */
static void finish(struct holding *holding)
{
	int err = holding->orphaned ? 0 : rules_remove(holding->kit.rules);

	if (!holding->orphaned)
		for (unsigned int i = 0; i < holding->kit.queue_count; i++)
			queue_unbind(holding->kit.queues[i],
				     (uint16_t)(holding->record.queue_first + i),
				     holding->record.queue_count);
	if (err)
		log_event(LOG_LEVEL_ERROR, "detach.rules", "netns", holding->record.name, "error",
			  log_errno(err), NULL);
	log_event(LOG_LEVEL_INFO, "detached", "netns", holding->record.name, NULL);
	records_remove(holding->record.cookie);
	fdstore_drop(holding);
	if (holding->keeper)
		client_detached(holding->keeper, holding->record.name);
	answer(holding, err ? NSGATE_STATUS_FAILED : NSGATE_STATUS_OK,
	       err ? "detached, but the table inet nsgate could not be deleted: see the broker's "
		     "log"
		   : "");
	if (!holding->orphaned)
		kit_part(&holding->kit);
	holding_free(holding);
}

/* Stop feeding the queue and have the agent verdict what waits. May free the holding. */
static void drain(struct holding *holding)
{
	int err = 0;

	if (is_early(holding)) {
		answer(holding, NSGATE_STATUS_OK, "");
		abandon(holding);
		return;
	}
	if (!holding->orphaned) {
		enforce_changing(holding);
		err = rules_pause(holding->kit.rules);
	}
	if (err)
		log_event(LOG_LEVEL_WARNING, "detach.pause", "netns", holding->record.name, "error",
			  log_errno(err), NULL);
	if (!agent_here) {
		owed_add(holding->record.cookie, 0);
		finish(holding);
		return;
	}
	holding->state = HOLDING_DRAINING;
	set_deadline(holding, DRAIN_TIMEOUT_MS);
	/* What else was to be said of it matters no more, but that its container is gone. */
	holding->todo = (holding->todo & TODO_STATE) | TODO_REMOVE;
}

static void refuse_without_agent(struct client *client, uint32_t id)
{
	client_reply(client, id, NSGATE_STATUS_UNREACHABLE,
		     "nsgate-agent, which knows what is attached, does not answer on "
		     "%s/agent.sock: start it, then detach again",
		     broker_config.runtime_dir);
}

/* Detach and answer when it is done. */
static void detach_for(struct holding *holding, struct client *client, uint32_t id)
{
	if (holding->asker) {
		client_reply(client, id, NSGATE_STATUS_BUSY,
			     "%s is being attached or detached by somebody else: try again",
			     holding->record.name);
		return;
	}
	holding->asker = client;
	holding->asker_id = id;
	if (holding->state != HOLDING_DRAINING)
		drain(holding);
}

void attach_detach(struct client *client, const struct nsgate_msg_detach *message)
{
	struct holding *holding;

	if (!ipc_text_valid(message->name, sizeof(message->name)) || !name_valid(message->name)) {
		client_reply(client, message->header.id, NSGATE_STATUS_USAGE,
			     "the name is not valid: use " NAME_RULE);
		return;
	}
	holding = holding_find(message->name);
	if (!holding && !agent_here) {
		refuse_without_agent(client, message->header.id);
		return;
	}
	if (!holding) {
		client_reply(client, message->header.id, NSGATE_STATUS_NOT_FOUND,
			     "no namespace is attached as %s: `nsgatectl ls` shows those that are",
			     message->name);
		return;
	}
	detach_for(holding, client, message->header.id);
}

void attach_leave(struct client *client, const struct nsgate_msg_leave *message)
{
	const uint32_t id = message->header.id;
	struct holding *holding;

	if (!ipc_text_valid(message->container, sizeof(message->container))) {
		client_reply(client, id, NSGATE_STATUS_USAGE, "the container's id is not text");
		return;
	}
	holding = members_find(message->container);
	if (!holding && !agent_here) {
		refuse_without_agent(client, id);
	} else if (!holding) {
		client_reply(client, id, NSGATE_STATUS_NOT_FOUND,
			     "no namespace is attached for container %s", message->container);
	} else if (members_remove(holding, message->container)) {
		detach_for(holding, client, id);
	} else {
		log_event(LOG_LEVEL_INFO, "member.left", "netns", holding->record.name, "container",
			  message->container, NULL);
		client_reply(client, id, NSGATE_STATUS_OK, NULL);
	}
}

void attach_client_gone(const struct client *client)
{
	struct holding *next;

	for (struct holding *holding = holding_first(); holding; holding = next) {
		next = holding->next;
		if (holding->asker == client)
			holding->asker = NULL;
		if (holding->keeper != client)
			continue;
		holding->keeper = NULL;
		log_event(LOG_LEVEL_INFO, "handoff.closed", "netns", holding->record.name, NULL);
		if (holding->state != HOLDING_DRAINING)
			drain(holding);
	}
}

void attach_orphaned(struct holding *holding)
{
	if (holding->state == HOLDING_DRAINING)
		return; /* it is let go of already, its rules too */
	log_event(LOG_LEVEL_INFO, "orphaned", "netns", holding->record.name, "target",
		  holding->record.target, NULL);
	holding->orphaned = true;
	holding->todo |= TODO_STATE;
	if (holding->state == HOLDING_OFFERED || is_early(holding))
		answer(holding, NSGATE_STATUS_NOT_FOUND,
		       "the process ended while its namespace was being attached");
	drain(holding);
}

static bool is_last_part(const char *target, const char *name)
{
	size_t length = strlen(target), wanted = strlen(name);
	const char *end = length > wanted ? target + length - wanted : NULL;

	return end && strcmp(end, name) == 0 && strchr(":/", end[-1]);
}

void attach_name_removed(const char *name)
{
	for (struct holding *holding = holding_first(); holding; holding = holding->next)
		if (!is_early(holding) && (!name || is_last_part(holding->record.target, name)))
			follow_look(holding);
}

/* ---- what the agent says ---- */

static void rules_failed(struct holding *holding, int err, bool known)
{
	holding->rules_status = known ? NSGATE_STATUS_FAILED : NSGATE_STATUS_USAGE;
	snprintf(holding->rules_text, sizeof(holding->rules_text),
		 "cannot install the rules in %s: %s%s", holding->record.name,
		 err == -ENOSYS ? "strict" : strerror(-err),
		 err == -EPERM	  ? ": the table inet nsgate belongs to another live program there"
		 : err == -ENOSYS ? ": " ENFORCE_NO_GUARD
		 : err == -E2BIG  ? ": more links than a strict policy can guard"
		 : !known	  ? ": hooks, flags or a generation that this nsgate-broker does "
				    "not know: restart it, if nsgate-agent is of a later release"
		 : err == -ENOENT
			 ? ": the kernel lacks an nftables expression, see `nsgatectl doctor`"
			 : "");
	log_event(LOG_LEVEL_ERROR, "rules.failed", "netns", holding->record.name, "error",
		  log_errno(err), NULL);
}

void attach_agent_rules(const struct nsgate_msg_ns_rules *message)
{
	struct holding *holding = holding_find_cookie(message->cookie);
	int err;

	if (!holding || is_early(holding)) /* which the agent was not told of, and can but guess */
		return;
	if (holding->state == HOLDING_DRAINING)
		return; /* a detach was on its way: the agent gets NS_REMOVE */
	holding->rules_id = message->header.id;
	holding->rules_status = NSGATE_STATUS_OK;
	holding->rules_text[0] = '\0';
	holding->todo |= TODO_RULES_REPLY;
	if (ipc_text_valid(message->policy, sizeof(message->policy)) && name_valid(message->policy))
		memcpy(holding->record.policy, message->policy, sizeof(message->policy));
	fdstore_keep(holding);
	err = enforce_rules(holding, &message->rules);
	if (err)
		rules_failed(holding, err, record_rules_valid(&message->rules));
	if (holding->state == HOLDING_OFFERED) {
		timer_clear(&holding->deadline);
		if (err) {
			answer(holding, NSGATE_STATUS_FAILED, holding->rules_text);
			drain(holding);
			return;
		}
		holding->state = HOLDING_IN_FORCE;
		log_event(LOG_LEVEL_INFO, "attached", "netns", holding->record.name, "target",
			  holding->record.target, "cookie",
			  log_number((int64_t)holding->record.cookie), "policy",
			  holding->record.policy, NULL);
		if (holding->record.flags & NSGATE_ATTACH_REPLACE)
			replace_others(holding);
	}
}

void attach_answer(void)
{
	for (struct holding *holding = holding_first(); holding; holding = holding->next)
		if (holding->state == HOLDING_IN_FORCE)
			answer(holding, NSGATE_STATUS_OK, "");
}

/* An attach ends here, and nothing was in force: "OK" is no answer to an offer. */
static void refused_by_agent(struct holding *holding, const struct nsgate_msg_reply *message)
{
	const enum nsgate_status status = message->status;

	answer(holding, status == NSGATE_STATUS_OK ? NSGATE_STATUS_FAILED : status, message->text);
	abandon(holding);
}

void attach_agent_reply(const struct nsgate_msg_reply *message)
{
	struct holding *next;

	if (owed_answered(message->header.id))
		return;
	for (struct holding *holding = holding_first(); holding; holding = next) {
		uint32_t id = message->header.id;

		next = holding->next;
		if (holding->state == HOLDING_DRAINING && holding->remove_id == id) {
			finish(holding);
		} else if (holding->state == HOLDING_OFFERED && holding->offer_id == id) {
			refused_by_agent(holding, message);
		} else if (holding->state == HOLDING_IN_FORCE && holding->offer_id == id &&
			   message->status) {
			/* A new agent will not have it. Its rules stay: closed is closed. */
			takeup_refused(holding);
			log_event(LOG_LEVEL_ERROR, "agent.refused", "netns", holding->record.name,
				  "why", message->text, NULL);
		}
	}
}

void attach_agent_connected(void)
{
	agent_here = true;
	takeup_rest();
	fdstore_forget_rest();
	for (struct holding *holding = holding_first(); holding; holding = holding->next)
		if (holding->state == HOLDING_IN_FORCE)
			holding_offer(holding);
	enforce_agent_back();
	for (struct holding *holding = holding_first(); holding; holding = holding->next)
		if (!is_early(holding))
			follow_look(holding); /* it may have ended while no broker looked */
}

void attach_agent_lost(void)
{
	struct holding *next;

	agent_here = false;
	owed_link_lost();
	takeup_agent_lost();
	enforce_agent_lost();
	for (struct holding *holding = holding_first(); holding; holding = next) {
		next = holding->next;
		holding->todo = 0;
		if (holding->state == HOLDING_OFFERED || is_early(holding)) {
			answer(holding, NSGATE_STATUS_UNREACHABLE,
			       "nsgate-agent went away in the middle of it: start it, then attach "
			       "again");
			abandon(holding);
		} else if (holding->state == HOLDING_DRAINING) {
			owed_add(holding->record.cookie,
				 0); /* it may only be the link that is lost */
			finish(holding);
		}
	}
}

/* ---- deadlines ---- */

static void too_late(struct timer *timer)
{
	struct holding *holding = loop_owner(timer, struct holding, deadline);

	if (holding->state == HOLDING_OFFERED) {
		log_event(LOG_LEVEL_ERROR, "attach.timeout", "netns", holding->record.name, NULL);
		answer(holding, NSGATE_STATUS_UNREACHABLE,
		       "nsgate-agent does not answer: look at its log, then attach again");
		drain(holding);
		return;
	}
	log_event(LOG_LEVEL_WARNING, "detach.timeout", "netns", holding->record.name, NULL);
	owed_add(holding->record.cookie, holding->todo & TODO_REMOVE ? 0 : holding->remove_id);
	finish(holding);
}

static void set_deadline(struct holding *holding, int timeout_ms)
{
	holding->deadline.due = too_late;
	timer_set(&holding->deadline, loop_now_ms() + timeout_ms);
}
