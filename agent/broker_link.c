// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/broker_link.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/agent.h"
#include "ipc.h"
#include "log.h"
#include "loop.h"
#include "agent/ns/ns.h"
#include "agent/ns/policy.h"
#include "agent/ns/serve.h"
#include "record.h"

/* Answers to what the broker asked: as many as it has questions under way. */
struct answer {
	struct answer *next;
	struct nsgate_msg_reply message;
};

static struct {
	struct loop_source listener;
	struct loop_source source;
	bool greeted;
	bool held_end_due;
	bool wants_write;
	bool knows_ping; /* it answers PING */
	bool ping_due;
	uint32_t ping_id; /* 0: none is under way */
	void (*pinged)(bool alive);
	uint32_t next_id;
	struct answer *answers, **answers_end;
} broker = {.listener.fd = -1, .source.fd = -1, .answers_end = &broker.answers};

bool broker_link_ready(void)
{
	return broker.greeted;
}

static void drop_answers(void)
{
	while (broker.answers) {
		struct answer *answer = broker.answers;

		broker.answers = answer->next;
		free(answer);
	}
	broker.answers_end = &broker.answers;
}

static void reply(uint32_t id, enum nsgate_status status, const char *text)
{
	struct answer *answer = calloc(1, sizeof(*answer));

	if (!answer) {
		shutdown(broker.source.fd, SHUT_RDWR); /* better than to let it wait in vain */
		return;
	}
	ipc_header(&answer->message.header, NSGATE_MSG_REPLY, id);
	answer->message.status = status;
	memcpy(answer->message.text, text, strnlen(text, NSGATE_TEXT_MAX - 1));
	*broker.answers_end = answer;
	broker.answers_end = &answer->next;
	broker_link_pump();
}

bool broker_link_ping(void (*answered)(bool alive))
{
	if (!broker.greeted || !broker.knows_ping)
		return false;
	broker.pinged = answered;
	broker.ping_due = !broker.ping_id;
	return true;
}

static void ping_over(bool alive)
{
	const bool was_asked = broker.ping_due || broker.ping_id;

	broker.ping_due = false;
	broker.ping_id = 0;
	if (was_asked)
		broker.pinged(alive);
}

static void settle(void)
{
	ns_admit(reply);
}

static void link_lost(const char *why)
{
	int fd = broker.source.fd;

	settle();
	log_event(LOG_LEVEL_WARNING, "broker.lost", "why", why, NULL);
	loop_remove(&broker.source);
	fd_close(&fd);
	broker.greeted = false;
	broker.held_end_due = false;
	broker.wants_write = false;
	agent_status.broker_connected = false;
	agent_status.taking_over = false;
	drop_answers();
	ping_over(false);
	ns_broker_lost();
}

/* Return: false where the message must wait or the link is gone. */
static bool say(const struct nsgate_msg_header *message, const int *fds, unsigned int fd_count)
{
	int err = ipc_send(broker.source.fd, message, fds, fd_count);

	if (!err)
		return true;
	if (err == -EAGAIN || err == -ETOOMANYREFS) {
		broker.wants_write = true;
		loop_change(&broker.source, EPOLLIN | EPOLLOUT);
		return false;
	}
	shutdown(broker.source.fd, SHUT_RDWR); /* the loop sees the end and calls link_lost() */
	return false;
}

static bool say_held(struct ns *ns)
{
	struct nsgate_msg_ns message = {.record = ns->record};
	int fds[NSGATE_NSFD_MAX];
	unsigned int fd_count = ns_fds(ns, fds);

	ipc_header(&message.header, NSGATE_MSG_NS_HELD, ++broker.next_id);
	return say(&message.header, fds, fd_count);
}

static bool say_rules(struct ns *ns)
{
	struct nsgate_msg_ns_rules message = {.cookie = ns->record.cookie, .rules = ns->wanted};

	memcpy(message.policy, ns->record.policy, sizeof(message.policy));
	ns->asked = ns->wanted;
	ns->change_id = ++broker.next_id;
	ipc_header(&message.header, NSGATE_MSG_NS_RULES, ns->change_id);
	return say(&message.header, NULL, 0);
}

static bool pump_todo(enum ns_todo todo, bool (*say_it)(struct ns *ns))
{
	for (struct ns *ns = ns_first(); ns; ns = ns->next) {
		if (!(ns->todo & todo))
			continue;
		if (!say_it(ns))
			return false;
		ns->todo &= ~(unsigned int)todo;
	}
	return true;
}

static bool pump_held_end(void)
{
	struct nsgate_msg_plain message;

	if (!broker.held_end_due)
		return true;
	ipc_header(&message.header, NSGATE_MSG_HELD_END, ++broker.next_id);
	if (!say(&message.header, NULL, 0))
		return false;
	broker.held_end_due = false;
	return true;
}

static bool pump_ping(void)
{
	struct nsgate_msg_plain message;

	if (!broker.ping_due)
		return true;
	ipc_header(&message.header, NSGATE_MSG_PING, ++broker.next_id);
	if (!say(&message.header, NULL, 0))
		return false;
	broker.ping_due = false;
	broker.ping_id = broker.next_id;
	return true;
}

static bool pump_answers(void)
{
	while (broker.answers) {
		struct answer *answer = broker.answers;

		if (!say(&answer->message.header, NULL, 0))
			return false;
		broker.answers = answer->next;
		if (!broker.answers)
			broker.answers_end = &broker.answers;
		free(answer);
	}
	return true;
}

void broker_link_pump(void)
{
	if (!broker.greeted || broker.wants_write)
		return;
	if (pump_todo(NS_TODO_HELD, say_held) && pump_held_end() && pump_answers() &&
	    pump_todo(NS_TODO_RULES, say_rules))
		pump_ping();
}

/* ---- what the broker may say ---- */

static bool on_hello(const union nsgate_msg *message, int *fds, unsigned int fd_count)
{
	struct nsgate_msg_hello hello = {.pid = (uint32_t)getpid()};

	(void)fds;
	(void)fd_count;
	ipc_header(&hello.header, NSGATE_MSG_HELLO, message->header.id);
	if (!say(&hello.header, NULL, 0))
		return false;
	broker.greeted = true;
	broker.held_end_due = true;
	broker.knows_ping = message->hello.features & NSGATE_HELLO_PING;
	agent_status.broker_connected = true;
	agent_status.taking_over = true;
	log_event(LOG_LEVEL_INFO, "broker.connected", NULL);
	ns_broker_connected();
	broker_link_pump();
	return true;
}

static bool on_ns_add(const union nsgate_msg *message, int *fds, unsigned int fd_count)
{
	char text[NSGATE_TEXT_MAX] = "";
	enum nsgate_status status;
	unsigned int known;

	if (!record_valid(&message->ns.record) || fd_count < record_fd_count(&message->ns.record)) {
		fds_close(fds, fd_count);
		return false;
	}
	known = record_fd_count(&message->ns.record);
	fds_close(fds + known, fd_count - known); /* of a later release */
	status = ns_add(message->header.id, &message->ns.record, fds, known, text);
	if (status != NSGATE_STATUS_OK)
		reply(message->header.id, status, text);
	return true;
}

static bool on_held_end(const union nsgate_msg *message, int *fds, unsigned int fd_count)
{
	(void)message;
	(void)fds;
	(void)fd_count;
	agent_status.taking_over = false;
	return true;
}

static bool on_ns_remove(const union nsgate_msg *message, int *fds, unsigned int fd_count)
{
	struct ns *ns = ns_find_cookie(message->ns_remove.cookie);

	(void)fds;
	(void)fd_count;
	if (ns)
		ns_remove(ns);
	reply(message->header.id, NSGATE_STATUS_OK, "");
	return true;
}

static bool on_ns_links(const union nsgate_msg *message, int *fds, unsigned int fd_count)
{
	const struct nsgate_msg_ns_links *links = &message->ns_links;
	struct ns *ns = ns_find_cookie(links->cookie);

	(void)fds;
	(void)fd_count;
	for (uint32_t i = 0; i < links->count; i++)
		if (strnlen(links->links[i].name, sizeof(links->links[i].name)) ==
		    sizeof(links->links[i].name))
			return false;
	if (ns && ns->begun) {
		settle();
		ns = ns_find_cookie(links->cookie);
	}
	if (ns)
		ns_set_links(ns, links->links, links->count);
	return true;
}

static bool on_ns_state(const union nsgate_msg *message, int *fds, unsigned int fd_count)
{
	const struct nsgate_msg_ns_state *state = &message->ns_state;
	struct ns *ns = ns_find_cookie(state->cookie);

	(void)fds;
	(void)fd_count;
	if (!ipc_text_valid(state->text, sizeof(state->text)))
		return false;
	if (ns)
		ns_set_state(ns, state->orphaned, state->degraded, state->text);
	return true;
}

static bool on_ns_tamper(const union nsgate_msg *message, int *fds, unsigned int fd_count)
{
	const struct nsgate_msg_ns_tamper *tamper = &message->ns_tamper;
	struct ns *ns = ns_find_cookie(tamper->cookie);

	(void)fds;
	(void)fd_count;
	if (!ipc_text_valid(tamper->text, sizeof(tamper->text)))
		return false;
	if (ns)
		ns_tampered(ns, tamper);
	return true;
}

static bool on_reply(const union nsgate_msg *message, int *fds, unsigned int fd_count)
{
	(void)fds;
	(void)fd_count;
	if (!ipc_reply_valid(&message->reply))
		return false;
	if (broker.ping_id && message->header.id == broker.ping_id)
		ping_over(true);
	else
		ns_rules_answer(&message->reply);
	return true;
}

static const struct {
	bool before_hello;
	unsigned int fds_max;
	bool (*handle)(const union nsgate_msg *message, int *fds, unsigned int fd_count);
} requests[NSGATE_MSG_MAX] = {
	[NSGATE_MSG_HELLO] = {true, 0, on_hello},
	[NSGATE_MSG_NS_ADD] = {false, NSGATE_NSFD_MAX, on_ns_add},
	[NSGATE_MSG_HELD_END] = {false, 0, on_held_end},
	[NSGATE_MSG_NS_REMOVE] = {false, 0, on_ns_remove},
	[NSGATE_MSG_NS_LINKS] = {false, 0, on_ns_links},
	[NSGATE_MSG_NS_STATE] = {false, 0, on_ns_state},
	[NSGATE_MSG_NS_TAMPER] = {false, 0, on_ns_tamper},
	[NSGATE_MSG_REPLY] = {false, 0, on_reply},
};

static bool dispatch(const union nsgate_msg *message, int *fds, unsigned int fd_count)
{
	uint16_t type = message->header.type;

	if (!requests[type].handle || requests[type].before_hello == broker.greeted ||
	    fd_count > requests[type].fds_max) {
		fds_close(fds, fd_count);
		return false;
	}
	if (type != NSGATE_MSG_NS_ADD && type != NSGATE_MSG_NS_LINKS)
		settle();
	return requests[type].handle(message, fds, fd_count);
}

/* The namespace is refused, and the link has done nothing wrong. Return: as dispatch(). */
static bool refuse_for_fds(const union nsgate_msg *message)
{
	if (message->header.type != NSGATE_MSG_NS_ADD || !broker.greeted ||
	    !record_valid(&message->ns.record))
		return false;
	log_event(LOG_LEVEL_ERROR, "attach.refused", "netns", message->ns.record.name, "error",
		  log_errno(EMFILE), NULL);
	reply(message->header.id, NSGATE_STATUS_FAILED,
	      "nsgate-agent has no file descriptor left: raise its LimitNOFILE");
	return true;
}

/* Return: false where there is no further message, or no link any more. */
static bool take_message(void)
{
	static union nsgate_msg message;
	int fds[NSGATE_NSFD_MAX];
	unsigned int fd_count;
	int err = ipc_receive(broker.source.fd, &message, fds, NSGATE_NSFD_MAX, &fd_count);

	if (err == -EAGAIN)
		return false;
	agent_status.broker_heard_ms = loop_now_ms();
	if (err == -EMFILE && refuse_for_fds(&message))
		return true;
	if (err)
		link_lost(err == -ENOTCONN ? "closed" : log_errno(err));
	else if (!dispatch(&message, fds, fd_count))
		link_lost("it said what it may not say now");
	else
		return true;
	return false;
}

/*
 * Many namespaces are offered at once when an agent begins. The workers take them over while the
 * next messages are read; whoever else wants something waits until they have.
 */
#define MESSAGES_AT_ONCE 128
#define LAST_WORDS 1024 /* more than a socket holds */

void broker_link_read(void)
{
	if (broker.source.fd < 0)
		return;
	for (int i = 0; i < MESSAGES_AT_ONCE && take_message(); i++)
		;
	settle();
}

static void broker_ready(struct loop_source *source, uint32_t events)
{
	if (events & EPOLLOUT) {
		broker.wants_write = false;
		loop_change(source, EPOLLIN);
		broker_link_pump();
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		broker_link_read();
}

/* What the old one had said last, a removal perhaps, the new one knows nothing of. */
static void leave_for_another(void)
{
	for (int i = 0; i < LAST_WORDS && take_message(); i++)
		;
	if (broker.source.fd >= 0)
		link_lost("another broker connected");
}

static void listener_ready(struct loop_source *source, uint32_t events)
{
	uid_t uid;
	gid_t gid;
	pid_t pid;
	int fd = ipc_accept(source->fd);

	(void)events;
	if (fd < 0)
		return;
	if (ipc_peer(fd, &uid, &gid, &pid) < 0 || uid != 0) {
		log_event(LOG_LEVEL_WARNING, "broker.refused", "uid", log_number(uid), NULL);
		close(fd);
		return;
	}
	if (broker.source.fd >= 0)
		leave_for_another();
	broker.source.ready = broker_ready;
	if (loop_add(&broker.source, fd, EPOLLIN) < 0)
		close(fd);
}

int broker_link_open(int listen_fd)
{
	broker.listener.ready = listener_ready;
	return loop_add(&broker.listener, listen_fd, EPOLLIN);
}

void broker_link_close(void)
{
	int listener = broker.listener.fd, source = broker.source.fd;

	loop_remove(&broker.listener);
	loop_remove(&broker.source);
	fd_close(&listener);
	fd_close(&source);
	broker.greeted = false;
	drop_answers();
}
