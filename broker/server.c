// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/server.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "broker/attach.h"
#include "broker/broker.h"
#include "broker/enforce.h"
#include "broker/client.h"
#include "broker/discard.h"
#include "broker/attachment.h"
#include "ipc.h"
#include "listen_fds.h"
#include "log.h"
#include "loop.h"

#define CLIENTS_MAX 1024 /* a handoff keeps its connection, so there can be many */
#define STRANGERS_MAX 64 /* of them, such as may only ask: they must leave room for the others */
#define GREETING_TIMEOUT_MS 5000

static struct loop_source listener = {.fd = -1};
static char own_path[108]; /* empty: the socket was passed to us and is not ours to remove */
static struct client *clients;
static unsigned int client_count, stranger_count;
static struct log_limit refused_limit;
static bool rights_refused; /* by the kernel, where nobody who may change things sends them */

/* May descriptors lie in there that nobody asked for? */
static bool is_suspect(const struct client *client)
{
	return !client->may_change && !rights_refused;
}

/* `drained`: nothing was left to read. */
static void client_close(struct client *client, bool drained)
{
	struct client **at = &clients;
	int fd = client->source.fd;

	while (*at != client)
		at = &(*at)->next;
	*at = client->next;
	client_count--;
	stranger_count -= !client->may_change;
	timer_clear(&client->greeting);
	loop_remove(&client->source);
	if (is_suspect(client) && !drained)
		discard(&fd);
	fd_close(&fd);
	free(client);
}

/* ---- what may be asked; anything else closes the connection ---- */

static void on_hello(struct client *client, const union nsgate_msg *message, int *fds,
		     unsigned int fd_count)
{
	struct nsgate_msg_hello hello = {.pid = (uint32_t)getpid()};

	(void)fds;
	(void)fd_count;
	client->greeted = true;
	timer_clear(&client->greeting);
	ipc_header(&hello.header, NSGATE_MSG_HELLO, message->header.id);
	if (ipc_send(client->source.fd, &hello.header, NULL, 0) < 0)
		shutdown(client->source.fd, SHUT_RDWR);
}

static void on_attach(struct client *client, const union nsgate_msg *message, int *fds,
		      unsigned int fd_count)
{
	attach_request(client, &message->attach, fds, fd_count);
}

static void on_detach(struct client *client, const union nsgate_msg *message, int *fds,
		      unsigned int fd_count)
{
	(void)fds;
	(void)fd_count;
	attach_detach(client, &message->detach);
}

static void on_leave(struct client *client, const union nsgate_msg *message, int *fds,
		     unsigned int fd_count)
{
	(void)fds;
	(void)fd_count;
	attach_leave(client, &message->leave);
}

static void on_probe(struct client *client, const union nsgate_msg *message, int *fds,
		     unsigned int fd_count)
{
	struct rlimit nofile = {.rlim_cur = 0};
	struct nsgate_msg_features features = {
		.backend = broker_features.backend,
		.owned_tables = broker_features.owned_tables,
		.label = broker_features.label,
		.attached = attachment_count(),
		.agent = broker_agent_here,
	};

	(void)fds;
	(void)fd_count;
	getrlimit(RLIMIT_NOFILE, &nofile);
	features.nofile = (uint32_t)nofile.rlim_cur;
	ipc_header(&features.header, NSGATE_MSG_FEATURES, message->header.id);
	if (ipc_send(client->source.fd, &features.header, NULL, 0) < 0)
		shutdown(client->source.fd, SHUT_RDWR);
}

static void on_probe_strict(struct client *client, const union nsgate_msg *message, int *fds,
			    unsigned int fd_count)
{
	(void)fds;
	(void)fd_count;
	client_reply(client, message->header.id,
		     broker_features.guard ? NSGATE_STATUS_OK : NSGATE_STATUS_FAILED, "%s",
		     broker_features.guard ? "" : ENFORCE_NO_GUARD);
}

struct request {
	bool before_hello; /* valid as the first message, and only then */
	bool changes;	   /* needs permission to change things */
	unsigned int fds_min, fds_max;
	void (*handle)(struct client *client, const union nsgate_msg *message, int *fds,
		       unsigned int fd_count);
};

static const struct request requests[NSGATE_MSG_MAX] = {
	[NSGATE_MSG_HELLO] = {true, false, 0, 0, on_hello},
	[NSGATE_MSG_ATTACH] = {false, true, 1, NSGATE_HANDOFF_FDS, on_attach},
	[NSGATE_MSG_DETACH] = {false, true, 0, 0, on_detach},
	[NSGATE_MSG_LEAVE] = {false, true, 0, 0, on_leave},
	[NSGATE_MSG_PROBE] = {false, false, 0, 0, on_probe},
	[NSGATE_MSG_PROBE_STRICT] = {false, false, 0, 0, on_probe_strict},
};

static bool may_change(uid_t uid)
{
	return uid == 0 || daemon_is_admin(&broker_config.admins, uid);
}

static void log_refused(const struct client *client, const char *why)
{
	unsigned int suppressed;

	if (log_allowed(&refused_limit, 5, &suppressed))
		log_event(LOG_LEVEL_WARNING, "client.refused", "uid", log_number(client->uid),
			  "pid", log_number(client->pid), "why", why, "suppressed",
			  suppressed ? log_number(suppressed) : NULL, NULL);
}

static void reply_no_permission(struct client *client, uint32_t id)
{
	client_reply(client, id, NSGATE_STATUS_REFUSED,
		     "uid %u may not change anything: ask root, or have the broker started with "
		     "--admin %u",
		     client->uid, client->uid);
}

/* Return: false to close the client. `fds` are taken over. */
static bool dispatch_request(struct client *client, const union nsgate_msg *message, int *fds,
			     unsigned int fd_count)
{
	const struct request *request = &requests[message->header.type];

	if (!request->handle || request->before_hello == client->greeted) {
		fds_close(fds, fd_count);
		log_refused(client, "a message that may not come now");
		return false;
	}
	if (request->changes && !client->may_change) {
		fds_close(fds, fd_count);
		log_refused(client, "no permission");
		reply_no_permission(client, message->header.id);
		return true;
	}
	if (fd_count < request->fds_min || fd_count > request->fds_max) {
		fds_close(fds, fd_count);
		log_refused(client, "a message with too few or too many fds");
		return false;
	}
	request->handle(client, message, fds, fd_count);
	return true;
}

/*
 * What was sent stays unread, and to close the connection now would take the answer back: it is
 * closed when the client has closed it.
 */
static void refuse_rights(struct client *client, uint32_t id, uint32_t events)
{
	if (!(events & EPOLLHUP) && id && client->greeted) {
		reply_no_permission(client, id);
		loop_change(&client->source, 0);
	} else {
		log_refused(client, "descriptors from one who may change nothing");
		client_close(client, false);
	}
}

static void client_ready(struct loop_source *source, uint32_t events)
{
	static union nsgate_msg message;
	struct client *client = loop_owner(source, struct client, source);
	int fds[NSGATE_HANDOFF_FDS];
	unsigned int fd_count;
	uint32_t id;
	int err = is_suspect(client) ? ipc_brings_rights(source->fd, &id) : 0;

	if (err > 0)
		refuse_rights(client, id, events);
	if (err > 0 || err == -EAGAIN)
		return;
	err = ipc_receive(source->fd, &message, fds, NSGATE_HANDOFF_FDS, &fd_count);
	if (err == -EAGAIN)
		return;
	if (err == -EMFILE && client->greeted && message.header.type == NSGATE_MSG_ATTACH) {
		log_refused(client, "no file descriptor is left");
		client_reply(client, message.header.id, NSGATE_STATUS_FAILED,
			     "nsgate-broker has no file descriptor left: raise its LimitNOFILE");
		return;
	}
	if (err == -E2BIG && client->greeted && requests[message.header.type].handle) {
		log_refused(client, "it asks for what a later release knows");
		client_reply(
			client, message.header.id, NSGATE_STATUS_USAGE,
			"this nsgate-broker is of an earlier release and does not know all that "
			"is asked for: restart it");
		return;
	}
	if (err == -EBADMSG)
		log_refused(client, "not a message of this protocol's version");
	if (err || !dispatch_request(client, &message, fds, fd_count)) {
		attach_client_gone(client);
		client_close(client, err == -ENOTCONN);
	}
}

static void not_greeted(struct timer *timer)
{
	struct client *client = loop_owner(timer, struct client, greeting);

	log_refused(client, "no hello in time");
	client_close(client, false);
}

/* Return: false: no room for it, or it has gone already. */
static bool client_open(struct client *client, int fd)
{
	gid_t gid;

	client->source.ready = client_ready;
	client->greeting.due = not_greeted;
	if (ipc_peer(fd, &client->uid, &gid, &client->pid) < 0)
		return false;
	client->may_change = may_change(client->uid);
	if (client->may_change && rights_refused && ipc_pass_rights(fd, true) < 0)
		return false;
	if (client->may_change || stranger_count < STRANGERS_MAX)
		return loop_add(&client->source, fd, EPOLLIN) == 0;
	log_refused(client, "too many clients that may change nothing");
	return false;
}

static void turn_away(int *fd)
{
	if (!rights_refused)
		discard(fd);
	fd_close(fd);
}

static void listener_ready(struct loop_source *source, uint32_t events)
{
	struct client *client;
	int fd = ipc_accept(source->fd);

	(void)events;
	if (fd < 0)
		return;
	client = client_count < CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;
	if (!client) {
		unsigned int suppressed;

		if (log_allowed(&refused_limit, 5, &suppressed))
			log_event(LOG_LEVEL_WARNING, "client.refused", "why", "too many clients",
				  NULL);
		turn_away(&fd);
		return;
	}
	if (!client_open(client, fd)) {
		turn_away(&fd);
		free(client);
		return;
	}
	timer_set(&client->greeting, loop_now_ms() + GREETING_TIMEOUT_MS);
	client->next = clients;
	clients = client;
	client_count++;
	stranger_count += !client->may_change;
}

int server_open(const char *path)
{
	/* Who may change things is decided by uid. Where nobody but root may, nobody else needs to
	 * connect. */
	mode_t mode = broker_config.admins.count ? 0666 : 0600;
	int err, fd = listen_fds_claim_socket("broker.sock", SOCK_SEQPACKET);

	if (fd == -ENOENT) {
		fd = ipc_listen(path, SOCK_SEQPACKET, mode, geteuid(), getegid());
		snprintf(own_path, sizeof(own_path), "%s", path);
	}
	if (fd < 0)
		return fd;
	rights_refused = ipc_pass_rights(fd, false) == 0;
	listener.ready = listener_ready;
	err = loop_add(&listener, fd, EPOLLIN);
	if (err)
		close(fd);
	return err;
}

/* What is attached stays attached: the next broker finds it. */
void server_close(void)
{
	int fd = listener.fd;

	loop_remove(&listener);
	fd_close(&fd);
	if (own_path[0])
		unlink(own_path);
	while (clients)
		client_close(clients, false);
}
