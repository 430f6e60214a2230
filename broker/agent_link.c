// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/agent_link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/attach.h"
#include "broker/broker.h"
#include "broker/attachment.h"
#include "ipc.h"
#include "log.h"
#include "loop.h"
#include "broker/recover.h"
#include "timer.h"

/* A socket file that was just made may not listen yet: try often for a moment, then seldom. */
#define RETRY_SOON_MS 2
#define RETRY_SOON_TIMES 100
#define RETRY_LATER_MS 1000
/* Messages of the agent taken at once: a new policy is asked for in all its namespaces in a row. */
#define MESSAGES_IN_A_ROW 16

enum link_state { LINK_ABSENT, LINK_GREETING, LINK_READY };

static void retry_connect(struct timer *timer);

static struct {
	enum link_state state;
	struct loop_source source;
	struct loop_source inotify;
	char path[108];
	struct timer retry;
	unsigned int retries_soon;
	uint32_t next_id;
	bool wants_write;
	bool told_all; /* that every namespace was offered */
	bool pong_due;
	uint32_t pong_id; /* of the last PING */
} agent = {.source.fd = -1, .inotify.fd = -1, .retry.due = retry_connect};

static void link_lost(const char *why)
{
	int fd = agent.source.fd;

	log_event(LOG_LEVEL_WARNING, "agent.lost", "why", why, NULL);
	loop_remove(&agent.source);
	fd_close(&fd);
	agent.state = LINK_ABSENT;
	agent.wants_write = false;
	agent.told_all = false;
	agent.pong_due = false;
	agent.retries_soon = RETRY_SOON_TIMES;
	timer_set(&agent.retry, loop_now_ms() + RETRY_SOON_MS);
	attach_agent_lost();
}

/* Return: false where the message must wait or the link is gone. */
static bool send_to_agent(const struct nsgate_msg_header *message, const int *fds,
			  unsigned int fd_count)
{
	int err = ipc_send(agent.source.fd, message, fds, fd_count);

	if (!err)
		return true;
	/* ETOOMANYREFS: more descriptors in flight than the limit; they land when it reads. */
	if (err == -EAGAIN || err == -ETOOMANYREFS) {
		agent.wants_write = true;
		loop_change(&agent.source, EPOLLIN | EPOLLOUT);
		return false;
	}
	shutdown(agent.source.fd, SHUT_RDWR); /* the loop sees the end and calls link_lost() */
	return false;
}

static bool say_offer(struct attachment *attachment)
{
	struct nsgate_msg_ns message = {.record = attachment->record};
	int fds[NSGATE_NSFD_MAX];
	unsigned int fd_count = attachment_fds(attachment, fds);

	attachment->offer_id = ++agent.next_id;
	ipc_header(&message.header, NSGATE_MSG_NS_ADD, attachment->offer_id);
	return send_to_agent(&message.header, fds, fd_count);
}

static bool say_links(struct attachment *attachment)
{
	static struct nsgate_msg_ns_links message; /* 20 KiB: not for the stack */
	const struct nsgate_link *list = links_list(attachment->links, &message.count);

	ipc_header(&message.header, NSGATE_MSG_NS_LINKS, ++agent.next_id);
	message.header.length = (uint32_t)(offsetof(struct nsgate_msg_ns_links, links) +
					   message.count * sizeof(message.links[0]));
	message.cookie = attachment->record.cookie;
	message.link_size = sizeof(message.links[0]);
	if (message.count)
		memcpy(message.links, list, message.count * sizeof(message.links[0]));
	return send_to_agent(&message.header, NULL, 0);
}

static bool say_state(struct attachment *attachment)
{
	struct nsgate_msg_ns_state message = {
		.cookie = attachment->record.cookie,
		.orphaned = attachment->orphaned,
		.degraded = attachment->degraded[0] != '\0',
#ifdef NSGATE_TEST_GROWN
		.grown = NSGATE_TEST_GROWN,
#endif
	};

	ipc_header(&message.header, NSGATE_MSG_NS_STATE, ++agent.next_id);
	memcpy(message.text, attachment->degraded, sizeof(message.text));
	return send_to_agent(&message.header, NULL, 0);
}

static bool say_rules_reply(struct attachment *attachment)
{
	struct nsgate_msg_reply message = {
		.status = attachment->rules_status,
		.generation = attachment->record.rules.generation,
	};

	ipc_header(&message.header, NSGATE_MSG_REPLY, attachment->rules_id);
	memcpy(message.text, attachment->rules_text, sizeof(message.text));
	return send_to_agent(&message.header, NULL, 0);
}

static bool say_remove(struct attachment *attachment)
{
	struct nsgate_msg_ns_remove message = {.cookie = attachment->record.cookie};

	ipc_header(&message.header, NSGATE_MSG_NS_REMOVE, ++agent.next_id);
	if (!send_to_agent(&message.header, NULL, 0))
		return false;
	attachment->remove_id = agent.next_id;
	return true;
}

static bool say_tamper(struct attachment *attachment)
{
	struct nsgate_msg_ns_tamper message = {
		.cookie = attachment->record.cookie,
		.kind = attachment->tamper,
		.repairs = attachment->record.repairs,
		.table_inet = attachment->record.table_inet,
		.table_netdev = attachment->record.table_netdev,
	};

	ipc_header(&message.header, NSGATE_MSG_NS_TAMPER, ++agent.next_id);
	memcpy(message.text, attachment->tampered, sizeof(message.text));
	return send_to_agent(&message.header, NULL, 0);
}

static bool say_pong(void)
{
	struct nsgate_msg_reply message = {.status = NSGATE_STATUS_OK};

	if (!agent.pong_due)
		return true;
	ipc_header(&message.header, NSGATE_MSG_REPLY, agent.pong_id);
	agent.pong_due = !send_to_agent(&message.header, NULL, 0);
	return !agent.pong_due;
}

static bool say_held_end(void)
{
	struct nsgate_msg_plain message;

	ipc_header(&message.header, NSGATE_MSG_HELD_END, ++agent.next_id);
	return send_to_agent(&message.header, NULL, 0);
}

/* In the order in which they must be said of one attachment. */
static const struct {
	enum attachment_todo todo;
	bool (*say)(struct attachment *attachment);
} messages[] = {
	{TODO_OFFER, say_offer},
	{TODO_LINKS, say_links},
	{TODO_STATE, say_state},
	{TODO_TAMPER, say_tamper},
	{TODO_RULES_REPLY, say_rules_reply},
	{TODO_REMOVE, say_remove},
};

static bool pump_attachment(struct attachment *attachment)
{
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		if (!(attachment->todo & messages[i].todo))
			continue;
		if (!messages[i].say(attachment))
			return false;
		attachment->todo &= ~(unsigned int)messages[i].todo;
	}
	return true;
}

static bool pump_state(enum attachment_state state)
{
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		if (attachment->state == state && !pump_attachment(attachment))
			return false;
	return true;
}

/* Those that end come first: another may take over their namespace, or their name. */
void agent_link_pump(void)
{
	if (recover_wants_held() && agent.state == LINK_READY)
		link_lost("to hear again what it holds");
	if (agent.state != LINK_READY || agent.wants_write)
		return;
	if (!pump_state(ATTACHMENT_GONE) || !say_pong() || !pump_state(ATTACHMENT_DRAINING))
		return;
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		if (!pump_attachment(attachment))
			return;
	if (!agent.told_all)
		agent.told_all = say_held_end();
}

static void note_ping(uint32_t id)
{
	agent.pong_due = true;
	agent.pong_id = id;
}

/* What the agent may say, and when. Return: false to drop the link. `fds` are taken over. */
static bool take_agent_message(const union nsgate_msg *message, int *fds, unsigned int fd_count)
{
	uint16_t type = message->header.type;

	if (type == NSGATE_MSG_NS_HELD && agent.state == LINK_GREETING) {
		recover_adopt(message->ns.record.cookie, fds, fd_count);
		return true;
	}
	fds_close(fds, fd_count);
	if (fd_count)
		return false;
	if (type == NSGATE_MSG_HELLO && agent.state == LINK_GREETING)
		return true;
	if (type == NSGATE_MSG_HELD_END && agent.state == LINK_GREETING) {
		agent.state = LINK_READY;
		log_event(LOG_LEVEL_INFO, "agent.connected", NULL);
		attach_agent_connected();
		return true;
	}
	if (agent.state != LINK_READY)
		return false;
	if (type == NSGATE_MSG_NS_RULES)
		attach_agent_rules(&message->ns_rules);
	else if (type == NSGATE_MSG_PING)
		note_ping(message->header.id);
	else if (type == NSGATE_MSG_REPLY && ipc_reply_valid(&message->reply))
		attach_agent_reply(&message->reply);
	else
		return false;
	return true;
}

/* Return: whether there was a message, and there may be more. */
static bool receive_one(int fd)
{
	static union nsgate_msg message;
	int fds[NSGATE_NSFD_MAX];
	unsigned int fd_count = 0;
	int err = ipc_receive(fd, &message, fds, NSGATE_NSFD_MAX, &fd_count);

	if (err == -EAGAIN)
		return false;
	if (err == -EMFILE && message.header.type == NSGATE_MSG_NS_HELD &&
	    agent.state == LINK_GREETING) {
		recover_failed(message.ns.record.cookie, err);
		return true;
	}
	/* Rules with more to them than we know are answered as such. */
	if (err == -E2BIG && message.header.type == NSGATE_MSG_NS_RULES) {
		message.ns_rules.rules.flags |= NSGATE_RULES_UNKNOWN;
		err = 0;
	}
	if (err)
		link_lost(err == -ENOTCONN ? "closed" : log_errno(err));
	else if (!take_agent_message(&message, fds, fd_count))
		link_lost("it said what it may not say now");
	return agent.state != LINK_ABSENT;
}

static void agent_ready(struct loop_source *source, uint32_t events)
{
	if (events & EPOLLOUT) {
		agent.wants_write = false;
		loop_change(source, EPOLLIN);
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	for (int i = 0; i < MESSAGES_IN_A_ROW && receive_one(source->fd); i++)
		;
}

/* It will be handed sockets of every namespace. */
static bool is_agent(int fd)
{
	static struct log_limit limit;
	unsigned int suppressed;
	uid_t uid;
	int err = ipc_peer_check(fd, broker_config.runtime_dir, &uid);

	if (err == -EACCES && log_allowed(&limit, 1, &suppressed))
		log_event(LOG_LEVEL_ERROR, "agent.untrusted", "uid", log_number(uid), "why",
			  "neither root nor whose runtime directory it is answers on agent.sock: "
			  "check who may write there",
			  NULL);
	return err == 0;
}

static void try_connect(void)
{
	struct nsgate_msg_hello hello = {.pid = (uint32_t)getpid(), .features = NSGATE_HELLO_PING};
	int fd = ipc_connect(agent.path, SOCK_SEQPACKET | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	ipc_header(&hello.header, NSGATE_MSG_HELLO, 0);
	agent.source.ready = agent_ready;
	if (!is_agent(fd) || ipc_send(fd, &hello.header, NULL, 0) < 0 ||
	    loop_add(&agent.source, fd, EPOLLIN) < 0) {
		close(fd);
		return;
	}
	agent.state = LINK_GREETING;
}

static void retry_connect(struct timer *timer)
{
	if (agent.state != LINK_ABSENT)
		return;
	try_connect();
	if (agent.retries_soon)
		agent.retries_soon--;
	if (agent.state == LINK_ABSENT)
		timer_set(timer,
			  loop_now_ms() + (agent.retries_soon ? RETRY_SOON_MS : RETRY_LATER_MS));
}

static void directory_ready(struct loop_source *source, uint32_t events)
{
	char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

	(void)events;
	if (read(source->fd, buffer, sizeof(buffer)) <= 0 || agent.state != LINK_ABSENT)
		return;
	agent.retries_soon = RETRY_SOON_TIMES;
	timer_set(&agent.retry, loop_now_ms());
}

int agent_link_open(void)
{
	int fd, err;

	err = snprintf(agent.path, sizeof(agent.path), "%s/agent.sock", broker_config.runtime_dir);
	if (err >= (int)sizeof(agent.path))
		return -ENAMETOOLONG;
	fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (fd < 0)
		return -errno;
	agent.inotify.ready = directory_ready;
	err = inotify_add_watch(fd, broker_config.runtime_dir, IN_CREATE | IN_ATTRIB) < 0
		      ? -errno
		      : loop_add(&agent.inotify, fd, EPOLLIN);
	if (err) {
		close(fd);
		return err;
	}
	timer_set(&agent.retry, loop_now_ms());
	return 0;
}

void agent_link_close(void)
{
	int fd = agent.source.fd, inotify = agent.inotify.fd;

	loop_remove(&agent.source);
	loop_remove(&agent.inotify);
	fd_close(&fd);
	fd_close(&inotify);
	agent.state = LINK_ABSENT;
}
