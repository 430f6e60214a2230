/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: what three clients on broker.sock and an agent on agent.sock do, in turns: connect, say a
 * message that is right but for what the input changes, hang up, let time pass. Everything from the
 * sockets to the records on disk is the broker's own; cut off is only what needs privilege: opening
 * sockets in another namespace, binding queues, nftables. There the input says how it went, and
 * which namespace it was.
 *
 * Must hold: a request is answered at most once, with a status and a printable line; nothing is
 * answered, and nothing opened, before the greeting or for a uid that may change nothing; what the
 * agent is sent is right, with the descriptors of its type; a table is installed only for queues
 * that exist and by a specification that is valid; who left is waited for by nobody; no descriptor
 * and no attachment is left.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "broker/agent_link.h"
#include "broker/attach.h"
#include "broker/audit.h"
#include "broker/broker.h"
#include "broker/conntrack.h"
#include "broker/enforce.h"
#include "broker/enter.h"
#include "broker/members.h"
#include "broker/names.h"
#include "broker/deferred_close.h"
#include "broker/queue_setup.h"
#include "broker/records.h"
#include "broker/release.h"
#include "broker/server.h"
#include "broker/recover.h"
#include "log.h"
#include "loop.h"
#include "messages.h"
#include "nsgate/hook.h"
#include "nsgate/flow.h"
#include "record.h"
#include "timer.h"

#define CLIENTS 3
#define NAMESPACES 4
#define STEPS_MAX 64
#define STRANGER 1234

struct broker_config broker_config;
struct rules_features broker_features = {.backend = NSGATE_BACKEND_NFT_QUEUE, .guard = true};
bool broker_agent_here;
uint64_t broker_cookie = NAMESPACES; /* the last one is the host's */

/* ---- the kernel, as far as it takes privilege ---- */

static struct {
	uint32_t namespace; /* what is opened now belongs to this one, 1.. */
	bool opened;	    /* since the last message */
	int open_error, setup_error, rules_error;
} kernel;
static int64_t now_ms;
static uid_t next_uid;

int __wrap_netns_fds_open(int target, struct netns_fds *netns);
void __wrap_netns_fds_ask(struct netns_opening *opening, int target, struct netns_fds *netns,
			  void (*done)(struct netns_opening *opening, int err));
int __wrap_netns_fds_identify(int socket_fd, uint64_t *ret_cookie, uint64_t *ret_inode);
int __wrap_enter_call(const struct enter_question *question, struct enter_result *ret);
int __wrap_members_find_attachment(int pidfd, struct attachment **ret);
int __wrap_queue_setup(int fd, uint16_t number, uint16_t stride, uint32_t length);
void __wrap_queue_unbind(int fd, uint16_t number, uint16_t stride);
int __wrap_queue_release(int fd, uint16_t number, uint16_t stride, int proc);
int __wrap_rules_install(int fd, const struct rules_queues *queues,
			 const struct nsgate_rules_spec *spec);
int __wrap_rules_open(int fd, const struct rules_queues *queues,
		      const struct nsgate_rules_spec *spec);
int __wrap_rules_pause(int fd);
int __wrap_rules_remove(int fd);
int __wrap_rules_changed(int fd, uint32_t *generation);
int __wrap_rules_print(int fd, uint64_t *ret_print);
int __wrap_rules_follow_links(int fd, const struct rules_links *links);
int __wrap_conntrack_forget(int fd, uint32_t generation);
int __wrap_conntrack_forget_all(int fd);
int64_t __wrap_loop_now_ms(void);
int __wrap_ipc_peer(int fd, uid_t *ret_uid, gid_t *ret_gid, pid_t *ret_pid);
int __real_ipc_peer(int fd, uid_t *ret_uid, gid_t *ret_gid, pid_t *ret_pid);

static void lend(int *fd, enum donor donor)
{
	if (*fd < 0)
		*fd = fcntl(donors[donor], F_DUPFD_CLOEXEC, 3);
	MUST(*fd >= 0);
}

int __wrap_netns_fds_open(int target, struct netns_fds *netns)
{
	MUST(fcntl(target, F_GETFD) == FD_CLOEXEC && netns->queue_count <= NSGATE_QUEUES_MAX);
	kernel.opened = true;
	if (kernel.open_error)
		return -kernel.open_error;
	for (unsigned int i = 0; i < netns->queue_count; i++)
		lend(&netns->queues[i], DONOR_NETFILTER);
	lend(&netns->rules, DONOR_NETFILTER);
	lend(&netns->aux, DONOR_NETFILTER);
	lend(&netns->proc, DONOR_PROC);
	if (netns->route < 0) /* it is read, so it cannot be shared */
		netns->route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	return 0;
}

static void told(struct enter_pending *pending, int err, struct enter_result *result)
{
	struct netns_opening *opening = loop_owner(pending, struct netns_opening, pending);

	fds_close(result->fds, result->fd_count);
	opening->done(opening, err);
}

void __wrap_netns_fds_ask(struct netns_opening *opening, int target, struct netns_fds *netns,
			  void (*done)(struct netns_opening *opening, int err))
{
	const int err = __wrap_netns_fds_open(target, netns);

	opening->done = done;
	enter_answer(&opening->pending, err ? err : fcntl(target, F_DUPFD_CLOEXEC, 3), told);
}

int __wrap_netns_fds_identify(int socket_fd, uint64_t *ret_cookie, uint64_t *ret_inode)
{
	MUST(fcntl(socket_fd, F_GETFD) == FD_CLOEXEC);
	*ret_cookie = *ret_inode = kernel.namespace;
	return 0;
}

/* What a path leads to: nothing. */
int __wrap_enter_call(const struct enter_question *question, struct enter_result *ret)
{
	MUST(question->op < NSGATE_ENTER_OP_END &&
	     (!question->path || strlen(question->path) < NSGATE_ENTER_PATH_MAX));
	if (question->op != NSGATE_ENTER_PROCESS)
		return -ENOENT;
	*ret = (struct enter_result){
		.answer = {.number = 1, .cookie = kernel.namespace, .inode = kernel.namespace}};
	return 0;
}

int __wrap_members_find_attachment(int pidfd, struct attachment **ret)
{
	MUST(fcntl(pidfd, F_GETFD) == FD_CLOEXEC);
	*ret = attachment_find_cookie(kernel.namespace);
	return *ret ? 0 : -ENOENT;
}

/* The last number of the row is one, too. */
static void check_row(uint16_t number, uint16_t stride)
{
	MUST(stride >= 1 && stride <= NSGATE_QUEUES_MAX);
	MUST(number + (NSGATE_FLOW_MAX - 1) * stride < 0x10000);
}

int __wrap_queue_setup(int fd, uint16_t number, uint16_t stride, uint32_t length)
{
	(void)length;
	check_row(number, stride);
	MUST(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	return -kernel.setup_error;
}

void __wrap_queue_unbind(int fd, uint16_t number, uint16_t stride)
{
	check_row(number, stride);
	MUST(fcntl(fd, F_GETFD) == FD_CLOEXEC);
}

int __wrap_queue_release(int fd, uint16_t number, uint16_t stride, int proc)
{
	check_row(number, stride);
	MUST(fcntl(fd, F_GETFD) == FD_CLOEXEC && fcntl(proc, F_GETFD) == FD_CLOEXEC);
	return kernel.rules_error ? -kernel.rules_error : 7;
}

static struct attachment *attachment_of(int rules_fd)
{
	struct attachment *attachment = attachment_first();

	while (attachment && attachment->netns.rules != rules_fd)
		attachment = attachment->next;
	MUST(attachment);
	return attachment;
}

int __wrap_rules_install(int fd, const struct rules_queues *queues,
			 const struct nsgate_rules_spec *spec)
{
	const struct attachment *attachment = attachment_of(fd);

	MUST(spec->hooks && !(spec->hooks >> NSGATE_HOOK_MAX));
	MUST(spec->generation >= 1 && spec->generation <= NSGATE_GENERATION_MAX);
	MUST(queues->backend == NSGATE_BACKEND_NFT_QUEUE ||
	     queues->backend == NSGATE_BACKEND_NFT_XT);
	MUST(queues->count >= 1 && queues->first + NSGATE_FLOW_MAX * queues->count <= 0x10000);
	MUST(queues->cookie == attachment->record.cookie);
	if (queues->ret_generation)
		*queues->ret_generation = (uint32_t)now_ms;
	return -kernel.rules_error;
}

int __wrap_rules_open(int fd, const struct rules_queues *queues,
		      const struct nsgate_rules_spec *spec)
{
	return __wrap_rules_install(fd, queues, spec);
}

int __wrap_rules_pause(int fd)
{
	(void)attachment_of(fd);
	return -kernel.rules_error;
}

int __wrap_rules_remove(int fd)
{
	(void)attachment_of(fd);
	return -kernel.rules_error;
}

int __wrap_rules_changed(int fd, uint32_t *generation)
{
	(void)attachment_of(fd);
	return ++*generation % 3 == 0;
}

/* Now and then somebody was at the rules. */
int __wrap_rules_print(int fd, uint64_t *ret_print)
{
	(void)attachment_of(fd);
	*ret_print = (uint64_t)now_ms / 512;
	return -kernel.rules_error;
}

int __wrap_rules_follow_links(int fd, const struct rules_links *links)
{
	(void)attachment_of(fd);
	MUST(links->count <= NSGATE_LINKS_MAX);
	return -kernel.rules_error;
}

int __wrap_conntrack_forget(int fd, uint32_t generation)
{
	(void)generation;
	(void)attachment_of(fd);
	return -kernel.rules_error;
}

int __wrap_conntrack_forget_all(int fd)
{
	(void)attachment_of(fd);
	return -kernel.rules_error;
}

int64_t __wrap_loop_now_ms(void)
{
	return now_ms;
}

int __wrap_ipc_peer(int fd, uid_t *ret_uid, gid_t *ret_gid, pid_t *ret_pid)
{
	const int err = __real_ipc_peer(fd, ret_uid, ret_gid, ret_pid);

	*ret_uid = next_uid;
	return err;
}

/* ---- the broker ---- */

static char root[64];
static struct sockaddr_un broker_address = {.sun_family = AF_UNIX};

static void tear_down(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", root);
	MUST(system(command) == 0);
}

static void set_up(void)
{
	const bool memory = access("/dev/shm", W_OK) == 0;

	log_setup("fuzz_broker", LOG_LEVEL_ERROR);
	MUST(freopen("/dev/null", "w", stdout));
	donors_open();
	snprintf(root, sizeof(root), "%s/nsgate-fuzz-XXXXXX", memory ? "/dev/shm" : "/tmp");
	MUST(mkdtemp(root));
	atexit(tear_down);
	broker_config.runtime_dir = broker_config.netns_dir = root;
	broker_config.queue_length = 16;
	MUST(records_open(root) == 0);
	snprintf(broker_address.sun_path, sizeof(broker_address.sun_path), "%s/broker.sock", root);
	MUST(loop_open() == 0);
	attachment_handlers(attach_orphaned, enforce_links);
	MUST(server_open(broker_address.sun_path) == 0);
	MUST(agent_link_open() == 0);
	MUST(names_watch(root, attach_name_removed) == 0);
}

/* As main.c has it. */
static void run_broker(void)
{
	for (int i = 0; i < 6; i++) {
		enter_tick();
		timer_run();
		agent_link_pump();
		attach_answer();
		MUST(loop_step(0) == 0);
	}
	agent_link_pump();
	attach_answer();
}

/* ---- the clients ---- */

static struct {
	int fd;
	bool greeted, may_change;
	uint32_t unanswered[256]; /* how many requests with that id */
	uint16_t asked[256];	  /* the type of the last of them */
} clients[CLIENTS];

static void client_connect(unsigned int which, uid_t uid)
{
	if (clients[which].fd >= 0)
		return;
	memset(&clients[which], 0, sizeof(clients[which]));
	clients[which].fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	clients[which].may_change = uid == 0;
	MUST(clients[which].fd >= 0);
	next_uid = uid;
	MUST(connect(clients[which].fd, (struct sockaddr *)&broker_address,
		     sizeof(broker_address)) == 0);
	run_broker();
}

static const enum donor attach_fds[][NSGATE_HANDOFF_FDS] = {
	[NSGATE_TARGET_NETNS] = {DONOR_NETNS},
	[NSGATE_TARGET_PID] = {DONOR_ALIVE},
	[NSGATE_TARGET_PATH] = {DONOR_NETNS},
	[NSGATE_TARGET_SELF] = {DONOR_NETNS},
	[NSGATE_TARGET_HANDOFF] = {DONOR_NETFILTER, DONOR_NETFILTER, DONOR_NETFILTER, DONOR_ROUTE,
				   DONOR_PROC},
};

static void fill_name(struct input *input, char name[NSGATE_NAME_MAX])
{
	snprintf(name, NSGATE_NAME_MAX, "n%u", (unsigned int)input_take(input, 1) % 4);
}

static void client_say(struct input *input, unsigned int which)
{
	union nsgate_msg message;
	const uint32_t type = input_take(input, 1) % (NSGATE_MSG_MAX + 1);
	const uint32_t id = input_take(input, 1);
	const enum donor *fds = NULL;
	unsigned int fd_count = 0, kind;

	memset(&message, 0, sizeof(message));
	ipc_header(&message.header, (enum nsgate_msg_type)type, id);
	if (type == NSGATE_MSG_ATTACH) {
		kind = input_take(input, 1) % (NSGATE_TARGET_HANDOFF + 1);
		message.attach.target_kind = kind;
		message.attach.flags = input_take(input, 1) & 15;
		if (message.attach.flags & NSGATE_ATTACH_CONTAINER)
			snprintf(message.attach.labels, sizeof(message.attach.labels),
				 NSGATE_LABEL_CONTAINER "=c%u", id % 4);
		message.attach.queue_count = (uint16_t)(1 + (kind == NSGATE_TARGET_NETNS));
		fill_name(input, message.attach.name);
		strcpy(message.attach.policy, "p");
		snprintf(message.attach.target, sizeof(message.attach.target), "%s%s",
			 kind == NSGATE_TARGET_NETNS ? "netns:" : "path:/nowhere/",
			 message.attach.name);
		fds = attach_fds[kind];
		fd_count = kind != NSGATE_TARGET_HANDOFF || id % 2 ? 1 : NSGATE_HANDOFF_FDS;
	} else if (type == NSGATE_MSG_DETACH) {
		fill_name(input, message.detach.name);
	} else if (type == NSGATE_MSG_LEAVE) {
		snprintf(message.leave.container, sizeof(message.leave.container), "c%u", id % 4);
	}
	change_body(input, &message);
	kernel.opened = false;
	if (send_message(input, clients[which].fd, &message, fds, fd_count)) {
		clients[which].unanswered[message.header.id & 0xff]++;
		clients[which].asked[message.header.id & 0xff] = message.header.type;
	}
	run_broker();
	MUST(!kernel.opened || (clients[which].greeted && clients[which].may_change));
	clients[which].greeted |= message.header.type == NSGATE_MSG_HELLO;
}

static void client_hear_reply(unsigned int which, const struct nsgate_msg_reply *reply)
{
	const uint32_t id = reply->header.id & 0xff;

	check_reply(reply);
	MUST(clients[which].greeted);
	/* Anybody may ask whether a policy can be strict. */
	MUST(clients[which].may_change || reply->status == NSGATE_STATUS_REFUSED ||
	     clients[which].asked[id] == NSGATE_MSG_PROBE_STRICT);
	MUST(clients[which].unanswered[id] > 0);
	clients[which].unanswered[id]--;
}

static void client_hang_up(unsigned int which)
{
	fd_close(&clients[which].fd);
	run_broker();
}

static void client_hear(unsigned int which)
{
	union nsgate_msg message;
	unsigned int count;
	int err;

	while (clients[which].fd >= 0) {
		err = ipc_receive(clients[which].fd, &message, NULL, 0, &count);
		if (err == -EAGAIN)
			return;
		MUST(err != -EBADMSG);
		if (err)
			client_hang_up(which);
		else if (message.header.type == NSGATE_MSG_REPLY)
			client_hear_reply(which, &message.reply);
		else
			MUST(message.header.type == NSGATE_MSG_HELLO ||
			     message.header.type == NSGATE_MSG_FEATURES ||
			     message.header.type == NSGATE_MSG_DETACH);
	}
}

/* ---- the agent ---- */

static struct {
	int listen_fd, fd;
	uint32_t add_id, remove_id; /* of the last NS_ADD, NS_REMOVE that was heard */
	uint64_t cookie;	    /* it was about */
	bool answers;		    /* every NS_REMOVE, as it should */
} agent = {.listen_fd = -1, .fd = -1};

static void agent_hang_up(bool listening_too)
{
	char path[128];

	fd_close(&agent.fd);
	if (listening_too && agent.listen_fd >= 0) {
		fd_close(&agent.listen_fd);
		snprintf(path, sizeof(path), "%s/agent.sock", root);
		unlink(path);
	}
	run_broker();
}

static void agent_connect(void)
{
	char path[128];

	if (agent.listen_fd < 0) {
		snprintf(path, sizeof(path), "%s/agent.sock", root);
		agent.listen_fd = ipc_listen(path, SOCK_SEQPACKET, 0600, getuid(), getgid());
		MUST(agent.listen_fd >= 0);
	}
	now_ms += 1000;
	run_broker();
	if (agent.fd < 0)
		agent.fd = accept4(agent.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static void agent_send(enum nsgate_msg_type type)
{
	union nsgate_msg message;

	memset(&message, 0, sizeof(message));
	ipc_header(&message.header, type, agent.remove_id);
	(void)ipc_send(agent.fd, &message.header, NULL, 0);
}

static void agent_hear_one(const union nsgate_msg *message, int *fds, unsigned int count)
{
	const uint16_t type = message->header.type;

	if (type == NSGATE_MSG_NS_ADD) {
		MUST(record_valid(&message->ns.record));
		MUST(count == record_fd_count(&message->ns.record));
		agent.add_id = message->header.id;
		agent.cookie = message->ns.record.cookie;
	} else if (type == NSGATE_MSG_NS_REMOVE) {
		agent.remove_id = message->header.id;
		if (agent.answers)
			agent_send(NSGATE_MSG_REPLY);
	} else if (type == NSGATE_MSG_NS_STATE) {
		MUST(ipc_text_valid(message->ns_state.text, sizeof(message->ns_state.text)));
	} else if (type == NSGATE_MSG_NS_TAMPER) {
		MUST(ipc_text_valid(message->ns_tamper.text, sizeof(message->ns_tamper.text)));
		MUST(message->ns_tamper.repairs > 0);
	} else if (type == NSGATE_MSG_REPLY) {
		check_reply(&message->reply);
	} else {
		MUST(type == NSGATE_MSG_HELLO || type == NSGATE_MSG_HELD_END ||
		     type == NSGATE_MSG_NS_LINKS);
	}
	MUST(type == NSGATE_MSG_NS_ADD || count == 0);
	fds_close(fds, count);
}

static void agent_hear(void)
{
	union nsgate_msg message;
	int fds[NSGATE_NSFD_MAX];
	unsigned int count;
	int err;

	while (agent.fd >= 0) {
		err = ipc_receive(agent.fd, &message, fds, NSGATE_NSFD_MAX, &count);
		if (err == -EAGAIN)
			return;
		MUST(err != -EBADMSG);
		if (err)
			agent_hang_up(false);
		else
			agent_hear_one(&message, fds, count);
	}
}

static void fill_held(struct input *input, struct nsgate_ns_record *record)
{
	record->cookie = record->inode = kernel.namespace;
	record->queue_count = 1;
	record->backend = NSGATE_BACKEND_NFT_QUEUE;
	record->rules = (struct nsgate_rules_spec){.hooks = 3, .flags = 1, .generation = 2};
	fill_name(input, record->name);
	/* By its name it is found to be gone; what has none is believed to live. */
	record->target_kind = record->name[1] & 1 ? NSGATE_TARGET_SELF : NSGATE_TARGET_NETNS;
	strcpy(record->policy, "p");
	snprintf(record->target, sizeof(record->target), "netns:%s", record->name);
}

static void agent_say(struct input *input)
{
	static const enum donor held_fds[] = {DONOR_SHM, DONOR_PROC, DONOR_NETFILTER,
					      DONOR_NETFILTER};
	const uint32_t type = input_take(input, 1) % (NSGATE_MSG_MAX + 1);
	unsigned int fd_count = 0;
	union nsgate_msg message;

	memset(&message, 0, sizeof(message));
	ipc_header(&message.header, (enum nsgate_msg_type)type, agent.remove_id);
	if (type == NSGATE_MSG_NS_HELD) {
		fill_held(input, &message.ns.record);
		fd_count = 4;
	} else if (type == NSGATE_MSG_NS_RULES) {
		message.ns_rules.cookie = agent.cookie;
		message.ns_rules.rules.hooks = 3;
		message.ns_rules.rules.generation = 1 + input_take(input, 1) % 4;
		message.ns_rules.rules.flags = input_take(input, 1) & 3;
		strcpy(message.ns_rules.policy, "p");
	} else if (type == NSGATE_MSG_REPLY && input_take(input, 1) & 1) {
		message.header.id = agent.add_id;
		message.reply.status = NSGATE_STATUS_NOT_FOUND;
		strcpy(message.reply.text, "no such policy");
	}
	change_body(input, &message);
	(void)send_message(input, agent.fd, &message, held_fds, fd_count);
	run_broker();
}

/* ---- what happens ---- */

static void set_errors(struct input *input)
{
	static const int errors[] = {0, 0, EPERM, ESRCH, EMFILE, EBUSY, ENOENT, ENOBUFS};
	const uint32_t how = input_take(input, 2);

	kernel.namespace = 1 + how % NAMESPACES;
	kernel.open_error = errors[how >> 2 & 7];
	kernel.setup_error = errors[how >> 5 & 7];
	kernel.rules_error = errors[how >> 8 & 7];
}

static void step(struct input *input)
{
	const uint32_t what = input_take(input, 1);
	const unsigned int which = (what >> 4) % CLIENTS;
	char name[NSGATE_NAME_MAX];

	switch (what & 15) {
	case 0:
	case 1:
		client_connect(which, what & 1 ? STRANGER : 0);
		break;
	case 2:
	case 3:
	case 4:
	case 5:
		if (clients[which].fd >= 0)
			client_say(input, which);
		break;
	case 6:
		client_hang_up(which);
		break;
	case 7:
	case 8:
		agent_connect();
		break;
	case 9:
	case 10:
	case 11:
		if (agent.fd >= 0)
			agent_say(input);
		break;
	case 12:
		agent_hang_up(what & 16);
		break;
	case 13:
		now_ms += input_take(input, 2);
		run_broker();
		break;
	case 14:
		set_errors(input);
		break;
	default:
		fill_name(input, name);
		attach_name_removed(name);
		run_broker();
	}
	agent_hear();
	for (unsigned int i = 0; i < CLIENTS; i++)
		client_hear(i);
}

static void begin(void)
{
	memset(&kernel, 0, sizeof(kernel));
	kernel.namespace = 1;
	for (unsigned int i = 0; i < CLIENTS; i++)
		clients[i].fd = -1;
}

/* An agent that does what it should: what was detached while it was away it hears now. */
static void settle(void)
{
	agent_hang_up(true);
	agent_connect();
	agent.answers = true;
	agent_send(NSGATE_MSG_HELLO);
	agent_send(NSGATE_MSG_HELD_END);
	for (int i = 0; i < 4; i++) {
		run_broker();
		agent_hear();
	}
	agent.answers = false;
	agent_hang_up(true);
}

/* Everybody goes. What stays is in force, and nobody waits; forget that too. */
static void end(void)
{
	memset(&kernel, 0, sizeof(kernel));
	for (unsigned int i = 0; i < CLIENTS; i++)
		client_hang_up(i);
	settle();
	for (int i = 0; i < 2; i++) {
		now_ms += 100000; /* past every deadline */
		run_broker();
	}
	while (attachment_first()) {
		MUST(attachment_first()->state == ATTACHMENT_IN_FORCE);
		MUST(!attachment_first()->asker && !attachment_first()->keeper);
		records_remove(attachment_first()->record.cookie);
		release(attachment_first());
	}
	for (uint64_t cookie = 0; cookie <= NAMESPACES; cookie++)
		records_remove(cookie);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	unsigned int before, after;

	if (!root[0])
		set_up();
	before = count_open();
	begin();
	for (int i = 0; i < STEPS_MAX && input.left > 0; i++)
		step(&input);
	end();
	after = count_open();
	MUST(before == after);
	return 0;
}
