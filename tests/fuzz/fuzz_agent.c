/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: what a broker on agent.sock does, in turns: connect, say a message that is right but for
 * what the input changes, hang up; and, in between, what the API would do: change a policy, bind a
 * namespace to another. The agent's table of namespaces, its policies and one worker thread are the
 * real ones. The queue sockets are real too, of the namespace the test runs in, where no queue is.
 *
 * Must hold: nothing is said before the greeting; NS_ADD is answered by what is wanted in force
 * there, or by a refusal with a reason; NS_REMOVE is answered; what is said is right, with the
 * descriptors of its type; whoever waits for a change is told once; no descriptor is left.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include "agent/agent.h"
#include "agent/broker_link.h"
#include "agent/ns/ns.h"
#include "agent/ns/policy.h"
#include "agent/ns/serve.h"
#include "agent/store/store.h"
#include "agent/worker/worker.h"
#include "log.h"
#include "loop.h"
#include "messages.h"
#include "nsgate/hook.h"
#include "nsgate/flow.h"
#include "record.h"

#define STEPS_MAX 64
#define NAMESPACES 4

struct agent_status agent_status;

static char root[64];
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static struct worker *worker;
static struct policy *policies[3]; /* the last one uses links and conflicts with queue 7 */

static void tear_down(void)
{
	char command[128];

	ns_close();
	broker_link_close();
	worker_stop(worker);
	store_close();
	for (int i = 0; i < 3; i++)
		policy_unref(policies[i]);
	snprintf(command, sizeof(command), "rm -rf %s", root);
	MUST(system(command) == 0);
}

static void set_up(void)
{
	static const char least[] = "{\"version\":1}";
	const bool memory = access("/dev/shm", W_OK) == 0;
	struct policy_problems problems = {.count = 0};
	int listen_fd;

	log_setup("fuzz_agent", LOG_LEVEL_ERROR);
	donors_open();
	/* Nothing waits in it, or every removal would wait for it. */
	fd_close(&donors[DONOR_PROC]);
	donors[DONOR_PROC] = memory_file("    0      1     0 2 65531     0     0        7  1\n", 0);
	snprintf(root, sizeof(root), "%s/nsgate-fuzz-XXXXXX", memory ? "/dev/shm" : "/tmp");
	MUST(mkdtemp(root));
	MUST(store_open(root, getuid(), getgid(), NULL) == 0);
	store_load();
	MUST(store_put("p", least, strlen(least), &problems) == 1);
	policies[0] = fuzz_compile("{'version':1,'offload':true}");
	policies[1] = fuzz_compile(every_match_json);
	policies[2] = fuzz_compile(
		"{'version':1,'hooks':['in','out','forward'],'on_agent_down':'open','rules':["
		"{'name':'a','action':'accept','iif':['eth*','lo']},"
		"{'name':'b','action':'queue','queue':7}]}");
	MUST(loop_open() == 0);
	worker = worker_start(0, false);
	MUST(worker);
	ns_open(&worker, NULL, 1, NULL);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/agent.sock", root);
	listen_fd = ipc_listen(address.sun_path, SOCK_SEQPACKET, 0600, getuid(), getgid());
	MUST(listen_fd >= 0 && broker_link_open(listen_fd) == 0);
	atexit(tear_down);
}

static void run_agent(void)
{
	for (int i = 0; i < 4; i++)
		MUST(loop_step(0) == 0);
	broker_link_pump();
}

/* ---- the broker ---- */

static struct {
	int fd;
	bool greeted;
	uint32_t unanswered; /* NS_REMOVEs */
	uint32_t rules_id;   /* of the last NS_RULES that was heard */
} broker = {.fd = -1};

static void broker_hang_up(void)
{
	fd_close(&broker.fd);
	run_agent();
	MUST(!broker_link_ready() && !agent_status.broker_connected);
	for (const struct ns *ns = ns_first(); ns; ns = ns->next)
		MUST(!ns->change && !ns->change_id);
}

static void broker_connect(void)
{
	if (broker.fd >= 0)
		return;
	memset(&broker, 0, sizeof(broker));
	broker.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	MUST(broker.fd >= 0);
	MUST(connect(broker.fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	run_agent();
}

static void fill_add(struct input *input, struct nsgate_ns_record *record)
{
	const uint32_t which = input_take(input, 1);

	record->cookie = record->inode = 1 + which % NAMESPACES;
	record->target_kind = NSGATE_TARGET_NETNS;
	record->flags = which & 0x10 ? NSGATE_ATTACH_PENDING : 0;
	record->queue_count = 1;
	record->backend = NSGATE_BACKEND_NFT_QUEUE;
	record->has_watch = (which & 0x20) != 0;
	if (which & 0x40)
		record->rules = (struct nsgate_rules_spec){.hooks = 3, .flags = 1, .generation = 2};
	snprintf(record->name, sizeof(record->name), "n%u", (unsigned int)which % NAMESPACES);
	strcpy(record->policy, which & 0x80 ? "other" : "p");
	snprintf(record->target, sizeof(record->target), "netns:%s", record->name);
}

static void fill_links(struct input *input, struct nsgate_msg_ns_links *links)
{
	static const char *const names[] = {"lo", "eth0", "veth-very-long", ""};

	links->cookie = 1 + input_take(input, 1) % NAMESPACES;
	links->count = input_take(input, 2) % (NSGATE_LINKS_MAX + 1);
	links->link_size = sizeof(links->links[0]);
	for (uint32_t i = 0; i < links->count; i++) {
		links->links[i].ifindex = links->count - i;
		strcpy(links->links[i].name, names[i % 4]);
	}
	links->header.length = (uint32_t)(offsetof(struct nsgate_msg_ns_links, links) +
					  links->count * sizeof(links->links[0]));
}

static void broker_say(struct input *input)
{
	static const enum donor plain_fds[] = {DONOR_SHM, DONOR_PROC, DONOR_NETFILTER,
					       DONOR_NETFILTER};
	static const enum donor watched_fds[] = {DONOR_SHM, DONOR_PROC, DONOR_NETFILTER,
						 DONOR_ALIVE, DONOR_NETFILTER};
	static union nsgate_msg message;
	const uint32_t type = input_take(input, 1) % (NSGATE_MSG_MAX + 1);
	unsigned int fd_count = 0;
	bool watched = false;

	memset(&message, 0, sizeof(message));
	ipc_header(&message.header, (enum nsgate_msg_type)type, broker.rules_id);
	if (type == NSGATE_MSG_NS_ADD) {
		fill_add(input, &message.ns.record);
		watched = message.ns.record.has_watch;
		fd_count = watched ? 5 : 4;
	} else if (type == NSGATE_MSG_NS_REMOVE) {
		message.ns_remove.cookie = 1 + input_take(input, 1) % NAMESPACES;
	} else if (type == NSGATE_MSG_NS_LINKS) {
		fill_links(input, &message.ns_links);
	} else if (type == NSGATE_MSG_NS_STATE) {
		message.ns_state.cookie = 1 + input_take(input, 1) % NAMESPACES;
		message.ns_state.orphaned = input_take(input, 1) & 1;
		message.ns_state.degraded = input_take(input, 1) & 1;
		strcpy(message.ns_state.text, "somebody pulled the rules away");
	} else if (type == NSGATE_MSG_NS_TAMPER) {
		message.ns_tamper.cookie = 1 + input_take(input, 1) % NAMESPACES;
		message.ns_tamper.kind = input_take(input, 1) % 3;
		message.ns_tamper.repairs = input_take(input, 1);
		strcpy(message.ns_tamper.text, "somebody pulled the rules away");
	} else if (type == NSGATE_MSG_REPLY) {
		message.reply.status = input_take(input, 1) % 6;
	}
	change_body(input, &message);
	if (send_message(input, broker.fd, &message, watched ? watched_fds : plain_fds, fd_count)) {
		broker.greeted |= message.header.type == NSGATE_MSG_HELLO;
		broker.unanswered += message.header.type == NSGATE_MSG_NS_REMOVE;
	}
	run_agent();
}

static void broker_hear_one(const union nsgate_msg *message, int *fds, unsigned int count)
{
	const uint16_t type = message->header.type;

	MUST(broker.greeted);
	if (type == NSGATE_MSG_NS_HELD) {
		MUST(record_valid(&message->ns.record));
		MUST(count == record_fd_count(&message->ns.record));
	} else if (type == NSGATE_MSG_NS_RULES) {
		const struct nsgate_rules_spec *rules = &message->ns_rules.rules;

		MUST(ns_find_cookie(message->ns_rules.cookie));
		MUST(rules->hooks && !(rules->hooks >> NSGATE_HOOK_MAX));
		MUST(rules->generation >= 1 && rules->generation <= NSGATE_GENERATION_MAX);
		MUST(ipc_text_valid(message->ns_rules.policy, NSGATE_NAME_MAX));
		broker.rules_id = message->header.id;
	} else if (type == NSGATE_MSG_REPLY) {
		check_reply(&message->reply);
		MUST(message->reply.status == NSGATE_STATUS_OK || message->reply.text[0]);
		if (message->reply.status == NSGATE_STATUS_OK)
			MUST(broker.unanswered-- > 0);
	} else {
		MUST(type == NSGATE_MSG_HELLO || type == NSGATE_MSG_HELD_END);
	}
	MUST(type == NSGATE_MSG_NS_HELD || count == 0);
	fds_close(fds, count);
}

static void broker_hear(void)
{
	static union nsgate_msg message;
	int fds[NSGATE_NSFD_MAX];
	unsigned int count;
	int err;

	while (broker.fd >= 0) {
		err = ipc_receive(broker.fd, &message, fds, NSGATE_NSFD_MAX, &count);
		if (err == -EAGAIN) {
			MUST(broker.unanswered == 0);
			return;
		}
		MUST(err != -EBADMSG);
		if (err)
			broker_hang_up();
		else
			broker_hear_one(&message, fds, count);
	}
}

/* ---- the API ---- */

#define CHANGES_MAX (2 * STEPS_MAX)

static struct ns_change changes[CHANGES_MAX];
static bool done[CHANGES_MAX];
static unsigned int change_count;

static void change_done(struct ns_change *change, void *context)
{
	bool *told = context;

	MUST(change->waiting == 0 && !*told && change->status <= NSGATE_STATUS_BUSY);
	*told = true;
}

static struct ns_change *new_change(void)
{
	struct ns_change *change = &changes[change_count];

	memset(change, 0, sizeof(*change));
	change->done = change_done;
	change->context = &done[change_count];
	done[change_count++] = false;
	return change;
}

static void change_policy(struct input *input)
{
	const uint32_t which = input_take(input, 1);
	struct policy *policy = which & 4 ? NULL : policies[which % 3];
	char name[NSGATE_NAME_MAX];
	struct ns *ns;

	snprintf(name, sizeof(name), "n%u", (unsigned int)(1 + (which >> 4)) % NAMESPACES);
	ns = ns_find(name);
	if (!(which & 8))
		ns_policy_changed(which & 0x80 ? "other" : "p", policy, new_change());
	else if (ns && policy)
		ns_rebind(ns, which & 0x80 ? "other" : "p", policy, new_change());
	broker_link_pump();
	run_agent();
}

/* ---- what happens ---- */

static void step(struct input *input)
{
	const uint32_t what = input_take(input, 1);

	switch (what & 7) {
	case 0:
		broker_hang_up();
		break;
	case 1:
		broker_connect();
		break;
	case 2:
		change_policy(input);
		break;
	case 3:
		agent_status.default_accept = (what & 8) != 0;
		break;
	default:
		if (broker.fd >= 0)
			broker_say(input);
	}
	broker_hear();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	unsigned int before, after;

	if (!root[0])
		set_up();
	before = count_open();
	change_count = 0;
	/* What an earlier input left in the counters would be this one's to inherit. */
	MUST(ftruncate(donors[DONOR_SHM], 0) == 0 &&
	     ftruncate(donors[DONOR_SHM], SHM_BLOCK_SIZE) == 0);
	lay_out(donors[DONOR_SHM], 1);
	for (int i = 0; i < STEPS_MAX && input.left > 0; i++)
		step(&input);
	broker_hang_up();
	ns_close();
	MUST(ns_count() == 0);
	for (unsigned int i = 0; i < change_count; i++)
		MUST(done[i]);
	after = count_open();
	MUST(before == after);
	return 0;
}
