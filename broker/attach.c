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
#include "broker/prepare.h"
#include "broker/queue_setup.h"
#include "record.h"
#include "broker/records.h"
#include "broker/nft/rules.h"
#include "broker/recover.h"
#include "broker/release.h"

#define OFFER_TIMEOUT_MS 5000
#define DRAIN_TIMEOUT_MS 3000

static void start_draining(struct attachment *attachment);
static void set_deadline(struct attachment *attachment, int timeout_ms);

static void answer_asker(struct attachment *attachment, enum nsgate_status status, const char *text)
{
	if (attachment->asker)
		client_reply(attachment->asker, attachment->asker_id, status, "%s", text);
	attachment->asker = NULL;
}

/* Nothing of it is in the kernel yet but bound queues, and the agent has not heard of it. */
static bool is_early(const struct attachment *attachment)
{
	return (attachment->state == ATTACHMENT_FOUND && !attachment->recovering) ||
	       attachment->state == ATTACHMENT_OPENED;
}

/* The agent knows of it, or is about to. */
static bool is_served(const struct attachment *attachment)
{
	return attachment->state == ATTACHMENT_OFFERED ||
	       attachment->state == ATTACHMENT_IN_FORCE || attachment->state == ATTACHMENT_DRAINING;
}

/* An attach that came to nothing. */
static void abandon_attach(struct attachment *attachment)
{
	const uint64_t cookie = attachment->record.cookie;

	if (cookie && !recover_return_rules(attachment))
		records_discard(cookie);
	release(attachment);
}

/*
 * A handoff that outlived a broker comes again with the socket of a namespace which the agent has
 * held meanwhile: it only takes its place as keeper again.
 */
static bool resume_handoff(struct client *client, const struct nsgate_msg_attach *message, int *fds,
			   unsigned int fd_count)
{
	struct attachment *attachment = attachment_find(message->name);
	uint64_t cookie, inode;

	if (message->target_kind != NSGATE_TARGET_HANDOFF || !attachment || attachment->keeper ||
	    attachment->record.target_kind != NSGATE_TARGET_HANDOFF ||
	    attachment->state != ATTACHMENT_IN_FORCE ||
	    netns_fds_identify(fds[0], &cookie, &inode) < 0 || cookie != attachment->record.cookie)
		return false;
	fds_close(fds, fd_count);
	attachment->keeper = client;
	log_event(LOG_LEVEL_INFO, "handoff.resumed", "netns", message->name, NULL);
	client_reply(client, message->header.id, NSGATE_STATUS_OK, NULL);
	return true;
}

/* The name has moved: let go of the namespace that had it, now that another is in force. */
static void replace_others(const struct attachment *with)
{
	struct attachment *next;

	for (struct attachment *old = attachment_first(); old; old = next) {
		next = old->next;
		if (old == with || !attachment_is_current(old) ||
		    old->state == ATTACHMENT_DRAINING ||
		    strcmp(old->record.name, with->record.name) != 0)
			continue;
		answer_asker(
			old, NSGATE_STATUS_FAILED,
			"another namespace took the name in the middle of it: choose another with "
			"--name");
		start_draining(old);
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
static int join_attachment(struct attachment *attachment, const struct member_request *request,
			   struct refusal *refusal)
{
	const char *policy = members_policy(attachment);
	int err;

	if (attachment->state != ATTACHMENT_IN_FORCE || attachment->asker) {
		refusal->status = NSGATE_STATUS_BUSY;
		snprintf(refusal->text, sizeof(refusal->text),
			 "%s is being attached or detached by somebody else: try again",
			 attachment->record.name);
		return -1;
	}
	if (strcmp(policy, request->policy) != 0) {
		refusal->status = NSGATE_STATUS_FAILED;
		snprintf(refusal->text, sizeof(refusal->text),
			 "its network namespace is attached already, as %s with policy %s, not %s: "
			 "containers that share one must ask for the same policy",
			 attachment->record.name, policy, request->policy);
		return -1;
	}
	err = members_add(attachment, request);
	if (err)
		return refuse_member(refusal, request->container, err);
	log_event(LOG_LEVEL_INFO, "member.joined", "netns", attachment->record.name, "container",
		  request->container, NULL);
	return 0;
}

/* Return: is it a container, and is all done with it: answered, `fds` closed? */
static bool join_request(struct client *client, const struct nsgate_msg_attach *message, int *fds,
			 unsigned int fd_count)
{
	struct refusal refusal = {.status = NSGATE_STATUS_OK};
	struct member_request request;
	struct attachment *attachment;
	int err;

	if (!(message->flags & NSGATE_ATTACH_CONTAINER))
		return false;
	if (!members_request(message, fds[0], &request)) {
		refusal.status = NSGATE_STATUS_USAGE;
		snprintf(refusal.text, sizeof(refusal.text),
			 "the label " NSGATE_LABEL_CONTAINER " must be the container's id");
	} else {
		err = members_find_attachment(fds[0], &attachment);
		if (err == -ENOENT)
			return false;
		if (err)
			refuse_member(&refusal, request.container, err);
		else
			join_attachment(attachment, &request, &refusal);
	}
	fds_close(fds, fd_count);
	client_reply(client, message->header.id, refusal.status, "%s", refusal.text);
	return true;
}

/* The first container of a namespace counts itself in. Return: 0, or -1 with the refusal. */
static int add_first_member(struct attachment *attachment, struct refusal *refusal)
{
	const struct opening *opening = attachment->opening;
	struct member_request request;
	int err;

	if (!(opening->message.flags & NSGATE_ATTACH_CONTAINER) ||
	    !members_request(&opening->message, opening->target, &request))
		return 0;
	err = members_add(attachment, &request);
	return err ? refuse_member(refusal, request.container, err) : 0;
}

static void refuse_attach(struct attachment *attachment, const struct refusal *refusal)
{
	log_event(LOG_LEVEL_WARNING, "attach.refused", "netns", attachment->record.name, "why",
		  refusal->text, NULL);
	answer_asker(attachment, refusal->status, refusal->text);
	abandon_attach(attachment);
}

static void offer_to_agent(struct attachment *attachment)
{
	follow_name(attachment);
	attachment_move(attachment, ATTACHMENT_OFFERED);
	set_deadline(attachment, OFFER_TIMEOUT_MS);
	attachment_offer(attachment);
}

/*
 * While its sockets were opened another container of that namespace may have been attached.
 * Return: was it so? Then the container is counted in there, or refused, and this attachment is
 * gone.
 */
static bool join_late(struct attachment *attachment)
{
	struct refusal refusal = {.status = NSGATE_STATUS_OK};
	const struct opening *opening = attachment->opening;
	struct member_request request;
	struct attachment *other;

	if (!(opening->message.flags & NSGATE_ATTACH_CONTAINER) ||
	    !members_request(&opening->message, opening->target, &request) ||
	    members_find_attachment(opening->target, &other) < 0)
		return false;
	join_attachment(other, &request, &refusal);
	answer_asker(attachment, refusal.status, refusal.text);
	release(attachment);
	return true;
}

static void attach_opened(struct opening *opening, int err)
{
	struct refusal refusal = {.status = NSGATE_STATUS_OK};
	struct attachment *attachment = opening->attachment;

	if (!err && join_late(attachment))
		return;
	if (prepare_opened(attachment, err, &refusal) < 0 ||
	    add_first_member(attachment, &refusal) < 0) {
		refuse_attach(attachment, &refusal);
		return;
	}
	recover_lend_rules(attachment);
	opening_end(attachment);
	attachment_move(attachment, ATTACHMENT_OPENED);
	follow_check(attachment, offer_to_agent);
}

/* What can be told at once. Return: 0, or -1 with the refusal. */
static int check_request(const struct nsgate_msg_attach *message, const int *fds,
			 unsigned int fd_count, struct refusal *refusal)
{
	const bool container = message->flags & NSGATE_ATTACH_CONTAINER;

	/* A container that joins others has no use for its own name. */
	if (prepare_check(message, fds, fd_count, refusal) < 0 ||
	    (!container && prepare_check_name(message, refusal) < 0))
		return -1;
	if (broker_agent_here)
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
	struct attachment *attachment = attachment_new();

	if (!attachment) {
		fds_close(fds, fd_count);
		client_reply(client, message->header.id, no_memory.status, "%s", no_memory.text);
		return;
	}
	memcpy(attachment->record.name, message->name, sizeof(attachment->record.name));
	memcpy(attachment->record.target, message->target, sizeof(attachment->record.target));
	attachment->record.target_kind = message->target_kind;
	attachment->asker = client;
	attachment->asker_id = message->header.id;
	if (message->target_kind == NSGATE_TARGET_HANDOFF)
		attachment->keeper = client;
	if (opening_start(attachment, message, fds, fd_count, attach_opened) < 0)
		refuse_attach(attachment, &no_memory);
	else
		follow_ask(attachment);
}

void attach_request(struct client *client, const struct nsgate_msg_attach *message, int *fds,
		    unsigned int fd_count)
{
	struct refusal refusal = {.status = NSGATE_STATUS_OK};

	if (resume_handoff(client, message, fds, fd_count))
		return;
	if (check_request(message, fds, fd_count, &refusal) == 0) {
		if (join_request(client, message, fds, fd_count))
			return;
		if (prepare_check_name(message, &refusal) == 0) {
			start_attach(client, message, fds, fd_count);
			return;
		}
	}
	fds_close(fds, fd_count);
	client_reply(client, message->header.id, refusal.status, "%s", refusal.text);
}

/* ---- answers and ends ---- */

/* Return: 0 or -errno where its table could not be deleted. */
static int remove_rules(struct attachment *attachment)
{
	int err = attachment->netns.rules < 0 ? -ENOENT : rules_remove(attachment->netns.rules);

	for (unsigned int i = 0; i < attachment->netns.queue_count; i++)
		queue_unbind(attachment->netns.queues[i],
			     (uint16_t)(attachment->record.queue_first + i),
			     attachment->record.queue_count);
	if (err)
		log_event(LOG_LEVEL_ERROR, "detach.rules", "netns", attachment->record.name,
			  "error", log_errno(err), NULL);
	return err;
}

/*
 * The last step of every detach. The rules of an orphan stay: they go with the namespace, and
 * should something live on in it, it stays under them with nobody to judge: closed, unless the
 * policy says open.
 */
static void finish_detach(struct attachment *attachment)
{
	int err = attachment->orphaned ? 0 : remove_rules(attachment);

	log_event(LOG_LEVEL_INFO, "detached", "netns", attachment->record.name, NULL);
	records_remove(attachment->record.cookie);
	fdstore_drop(attachment);
	if (!attachment->recovering)
		recover_forget(attachment->record.cookie);
	if (attachment->keeper)
		client_detached(attachment->keeper, attachment->record.name);
	answer_asker(
		attachment, err ? NSGATE_STATUS_FAILED : NSGATE_STATUS_OK,
		err ? "detached, but its nftables table could not be deleted: see the broker's "
		      "log"
		    : "");
	if (!attachment->orphaned)
		netns_fds_close_deferred(&attachment->netns);
}

/* The agent has let go of it, or never had it. */
static void finish_heard(struct attachment *attachment)
{
	finish_detach(attachment);
	release(attachment);
}

/* The agent has not: it hears of it as soon as it listens. `said`: NS_REMOVE is on its way. */
static void finish_unheard(struct attachment *attachment, bool said)
{
	finish_detach(attachment);
	release_to_gone(attachment, said);
}

/* Stop feeding the queue and have the agent verdict what waits. May free the attachment. */
static void start_draining(struct attachment *attachment)
{
	int err = 0;

	if (is_early(attachment)) {
		answer_asker(attachment, NSGATE_STATUS_OK, "");
		abandon_attach(attachment);
		return;
	}
	if (attachment->recovering) { /* the agent has told all that it holds */
		if (attachment->with_agent)
			finish_unheard(attachment, false);
		else
			finish_heard(attachment);
		return;
	}
	if (!attachment->orphaned) {
		enforce_changing(attachment);
		err = rules_pause(attachment->netns.rules);
	}
	if (err)
		log_event(LOG_LEVEL_WARNING, "detach.pause", "netns", attachment->record.name,
			  "error", log_errno(err), NULL);
	if (!broker_agent_here) {
		finish_unheard(attachment, false);
		return;
	}
	attachment_move(attachment, ATTACHMENT_DRAINING);
	set_deadline(attachment, DRAIN_TIMEOUT_MS);
	/* What else was to be said of it matters no more, but that its container is gone. */
	attachment->todo = (attachment->todo & TODO_STATE) | TODO_REMOVE;
}

static void refuse_without_agent(struct client *client, uint32_t id)
{
	client_reply(client, id, NSGATE_STATUS_UNREACHABLE,
		     "nsgate-agent, which knows what is attached, does not answer on "
		     "%s/agent.sock: start it, then detach again",
		     broker_config.runtime_dir);
}

/* Detach and answer when it is done. */
static void detach_for(struct attachment *attachment, struct client *client, uint32_t id)
{
	if (attachment->asker) {
		client_reply(client, id, NSGATE_STATUS_BUSY,
			     "%s is being attached or detached by somebody else: try again",
			     attachment->record.name);
		return;
	}
	attachment->asker = client;
	attachment->asker_id = id;
	if (attachment->state != ATTACHMENT_DRAINING)
		start_draining(attachment);
}

void attach_detach(struct client *client, const struct nsgate_msg_detach *message)
{
	struct attachment *attachment;

	if (!ipc_text_valid(message->name, sizeof(message->name)) || !name_valid(message->name)) {
		client_reply(client, message->header.id, NSGATE_STATUS_USAGE,
			     "the name is not valid: use " NAME_RULE);
		return;
	}
	attachment = attachment_find(message->name);
	if ((!attachment || attachment->recovering) && !broker_agent_here) {
		refuse_without_agent(client, message->header.id);
		return;
	}
	if (!attachment) {
		client_reply(client, message->header.id, NSGATE_STATUS_NOT_FOUND,
			     "no namespace is attached as %s: `nsgatectl ls` shows those that are",
			     message->name);
		return;
	}
	detach_for(attachment, client, message->header.id);
}

void attach_leave(struct client *client, const struct nsgate_msg_leave *message)
{
	const uint32_t id = message->header.id;
	struct attachment *attachment;

	if (!ipc_text_valid(message->container, sizeof(message->container))) {
		client_reply(client, id, NSGATE_STATUS_USAGE, "the container's id is not text");
		return;
	}
	attachment = members_find(message->container);
	if (!attachment && !broker_agent_here) {
		refuse_without_agent(client, id);
	} else if (!attachment) {
		client_reply(client, id, NSGATE_STATUS_NOT_FOUND,
			     "no namespace is attached for container %s", message->container);
	} else if (members_remove(attachment, message->container)) {
		detach_for(attachment, client, id);
	} else {
		log_event(LOG_LEVEL_INFO, "member.left", "netns", attachment->record.name,
			  "container", message->container, NULL);
		client_reply(client, id, NSGATE_STATUS_OK, NULL);
	}
}

void attach_client_gone(const struct client *client)
{
	struct attachment *next;

	for (struct attachment *attachment = attachment_first(); attachment; attachment = next) {
		next = attachment->next;
		if (attachment->asker == client)
			attachment->asker = NULL;
		if (attachment->keeper != client)
			continue;
		attachment->keeper = NULL;
		log_event(LOG_LEVEL_INFO, "handoff.closed", "netns", attachment->record.name, NULL);
		if (attachment->state != ATTACHMENT_DRAINING)
			start_draining(attachment);
	}
}

void attach_orphaned(struct attachment *attachment)
{
	if (attachment->state == ATTACHMENT_DRAINING)
		return; /* it is let go of already, its rules too */
	log_event(LOG_LEVEL_INFO, "orphaned", "netns", attachment->record.name, "target",
		  attachment->record.target, NULL);
	attachment->orphaned = true;
	attachment->todo |= TODO_STATE;
	if (attachment->state == ATTACHMENT_OFFERED || is_early(attachment))
		answer_asker(attachment, NSGATE_STATUS_NOT_FOUND,
			     "the process ended while its namespace was being attached");
	start_draining(attachment);
}

static bool is_last_part(const char *target, const char *name)
{
	size_t length = strlen(target), wanted = strlen(name);
	const char *end = length > wanted ? target + length - wanted : NULL;

	return end && strcmp(end, name) == 0 && strchr(":/", end[-1]);
}

void attach_name_removed(const char *name)
{
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		if (!is_early(attachment) &&
		    (!name || is_last_part(attachment->record.target, name)))
			follow_look(attachment);
}

/* ---- what the agent says ---- */

static void rules_failed(struct attachment *attachment, int err, bool known)
{
	attachment->rules_status = known ? NSGATE_STATUS_FAILED : NSGATE_STATUS_USAGE;
	snprintf(attachment->rules_text, sizeof(attachment->rules_text),
		 "cannot install the rules in %s: %s%s", attachment->record.name,
		 err == -ENOSYS ? "strict" : strerror(-err),
		 err == -EPERM	  ? ": somebody there takes every table that rules could be in"
		 : err == -ENOSYS ? ": " ENFORCE_NO_GUARD
		 : err == -E2BIG  ? ": more links than a strict policy can guard"
		 : !known	  ? ": hooks, flags or a generation that this nsgate-broker does "
				    "not know: restart it, if nsgate-agent is of a later release"
		 : err == -ENOENT
			 ? ": the kernel lacks an nftables expression, see `nsgatectl doctor`"
			 : "");
	log_event(LOG_LEVEL_ERROR, "rules.failed", "netns", attachment->record.name, "error",
		  log_errno(err), NULL);
}

void attach_agent_rules(const struct nsgate_msg_ns_rules *message)
{
	struct attachment *attachment = attachment_find_cookie(message->cookie);
	int err;

	if (!attachment ||
	    is_early(attachment)) /* which the agent was not told of, and can but guess */
		return;
	if (attachment->state == ATTACHMENT_DRAINING)
		return; /* a detach was on its way: the agent gets NS_REMOVE */
	attachment->rules_id = message->header.id;
	attachment->rules_status = NSGATE_STATUS_OK;
	attachment->rules_text[0] = '\0';
	attachment->todo |= TODO_RULES_REPLY;
	if (ipc_text_valid(message->policy, sizeof(message->policy)) && name_valid(message->policy))
		memcpy(attachment->record.policy, message->policy, sizeof(message->policy));
	fdstore_keep(attachment);
	err = enforce_rules(attachment, &message->rules);
	if (err)
		rules_failed(attachment, err, record_rules_valid(&message->rules));
	if (attachment->state == ATTACHMENT_OFFERED) {
		timer_clear(&attachment->deadline);
		if (err) {
			answer_asker(attachment, NSGATE_STATUS_FAILED, attachment->rules_text);
			start_draining(attachment);
			return;
		}
		attachment_move(attachment, ATTACHMENT_IN_FORCE);
		recover_forget(attachment->record.cookie);
		log_event(LOG_LEVEL_INFO, "attached", "netns", attachment->record.name, "target",
			  attachment->record.target, "cookie",
			  log_number((int64_t)attachment->record.cookie), "policy",
			  attachment->record.policy, NULL);
		if (attachment->record.flags & NSGATE_ATTACH_REPLACE)
			replace_others(attachment);
	}
}

void attach_answer(void)
{
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		if (attachment->state == ATTACHMENT_IN_FORCE)
			answer_asker(attachment, NSGATE_STATUS_OK, "");
}

/* An attach ends here, and nothing was in force: "OK" is no answer to an offer. */
static void refused_by_agent(struct attachment *attachment, const struct nsgate_msg_reply *message)
{
	const enum nsgate_status status = message->status;

	answer_asker(attachment, status == NSGATE_STATUS_OK ? NSGATE_STATUS_FAILED : status,
		     message->text);
	abandon_attach(attachment);
}

void attach_agent_reply(const struct nsgate_msg_reply *message)
{
	const uint32_t id = message->header.id;
	struct attachment *next;

	for (struct attachment *attachment = attachment_first(); attachment; attachment = next) {
		next = attachment->next;
		if (attachment->state == ATTACHMENT_GONE && id && attachment->remove_id == id) {
			release(attachment);
		} else if (attachment->state == ATTACHMENT_DRAINING &&
			   attachment->remove_id == id) {
			finish_heard(attachment);
		} else if (attachment->state == ATTACHMENT_OFFERED && attachment->offer_id == id) {
			refused_by_agent(attachment, message);
		} else if (attachment->state == ATTACHMENT_IN_FORCE && attachment->offer_id == id &&
			   message->status) {
			/* A new agent will not have it. Its rules stay: closed is closed. */
			recover_refused(attachment);
			log_event(LOG_LEVEL_ERROR, "agent.refused", "netns",
				  attachment->record.name, "why", message->text, NULL);
		}
	}
}

void attach_agent_connected(void)
{
	broker_agent_here = true;
	recover_rest();
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		if (attachment->state == ATTACHMENT_IN_FORCE)
			attachment_offer(attachment);
	enforce_agent_back();
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		if (is_served(attachment))
			follow_look(attachment); /* it may have ended while no broker looked */
}

void attach_agent_lost(void)
{
	struct attachment *next;

	broker_agent_here = false;
	recover_agent_lost();
	enforce_agent_lost();
	for (struct attachment *attachment = attachment_first(); attachment; attachment = next) {
		next = attachment->next;
		attachment->todo = attachment->state == ATTACHMENT_GONE ? TODO_REMOVE : 0;
		attachment->remove_id = 0; /* of this connection */
		if (attachment->state == ATTACHMENT_OFFERED || is_early(attachment)) {
			answer_asker(
				attachment, NSGATE_STATUS_UNREACHABLE,
				"nsgate-agent went away in the middle of it: start it, then attach "
				"again");
			abandon_attach(attachment);
		} else if (attachment->state == ATTACHMENT_DRAINING) {
			/* It may only be the link that is lost. */
			finish_unheard(attachment, false);
		}
	}
}

/* ---- deadlines ---- */

static void too_late(struct timer *timer)
{
	struct attachment *attachment = loop_owner(timer, struct attachment, deadline);

	if (attachment->state == ATTACHMENT_OFFERED) {
		log_event(LOG_LEVEL_ERROR, "attach.timeout", "netns", attachment->record.name,
			  NULL);
		answer_asker(attachment, NSGATE_STATUS_UNREACHABLE,
			     "nsgate-agent does not answer: look at its log, then attach again");
		start_draining(attachment);
		return;
	}
	log_event(LOG_LEVEL_WARNING, "detach.timeout", "netns", attachment->record.name, NULL);
	finish_unheard(attachment, !(attachment->todo & TODO_REMOVE));
}

static void set_deadline(struct attachment *attachment, int timeout_ms)
{
	attachment->deadline.due = too_late;
	timer_set(&attachment->deadline, loop_now_ms() + timeout_ms);
}
