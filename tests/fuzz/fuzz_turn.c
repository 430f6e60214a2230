/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: a choice of policy, queue number and state, then one netlink message, which goes through a
 * whole turn of a queue: received into its slot, judged, answered.
 *
 * Must hold: a packet with an id gets exactly one verdict, of a kind that the kernel takes, about
 * that id by that number alone; exactly one of the fates grows, by one packet of the packet's
 * length, and with it the other counters as they belong together; anything else than a packet gets
 * nothing. What a message that did not come from the kernel says is not even looked at.
 */
#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#include "agent/event.h"
#include "agent/queue/internal.h"
#include "fuzz.h"
#include "nsgate/flow.h"
#include "verdict.h"

#define NUMBER 9
#define STRIDE 3

/* ---- the kernel's side: linked in place of the system calls (see fuzz.mk) ---- */

static struct {
	const uint8_t *message;
	size_t size;
	bool delivered;
	uint32_t sender;
	uint16_t number; /* of the queue, put into the message; 0: as it is */

	unsigned int verdicts, configs;
	struct verdict verdict;
} kernel;

int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
		    struct timespec *timeout);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);

int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
		    struct timespec *timeout)
{
	struct msghdr *to = &messages[0].msg_hdr;
	struct sockaddr_nl sender = {.nl_family = AF_NETLINK, .nl_pid = kernel.sender};

	(void)fd;
	(void)timeout;
	MUST(count > 0 && flags & MSG_DONTWAIT && to->msg_iovlen == 1);
	if (kernel.delivered) {
		errno = EAGAIN;
		return -1;
	}
	MUST(to->msg_namelen == sizeof(sender));
	kernel.delivered = true;
	memcpy(to->msg_name, &sender, sizeof(sender));
	if (kernel.size > to->msg_iov->iov_len)
		kernel.size = to->msg_iov->iov_len;
	memcpy(to->msg_iov->iov_base, kernel.message, kernel.size);
	if (kernel.number && kernel.size >= NLMSG_HDRLEN + sizeof(struct nfgenmsg)) {
		const uint16_t number = htons(kernel.number);

		memcpy((uint8_t *)to->msg_iov->iov_base + NLMSG_HDRLEN +
			       offsetof(struct nfgenmsg, res_id),
		       &number, sizeof(number));
	}
	messages[0].msg_len = (unsigned int)kernel.size;
	return 1;
}

/* Asked only whether there is more. */
ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags)
{
	(void)fd;
	(void)buffer;
	MUST(flags == (MSG_PEEK | MSG_DONTWAIT) && kernel.delivered && size == 1);
	errno = EAGAIN;
	return -1;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	const struct iovec *part = message->msg_iov;
	const uint8_t *bytes = part->iov_base;
	struct verdict verdict;

	(void)fd;
	(void)flags;
	MUST(message->msg_iovlen == 1 && part->iov_len > 0);
	for (size_t at = 0; at < part->iov_len;) {
		at += verdict_read(bytes + at, part->iov_len - at, &verdict);
		if (verdict.is_forget)
			continue;
		MUST(verdict.number >= NUMBER && (verdict.number - NUMBER) % STRIDE == 0);
		MUST((verdict.number - NUMBER) / STRIDE < NSGATE_FLOW_MAX);
		if (verdict.is_config) {
			kernel.configs++;
			continue;
		}
		verdict_check(&verdict);
		kernel.verdicts++;
		kernel.verdict = verdict;
	}
	return (ssize_t)part->iov_len;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
	(void)clock;
	*ret = (struct timespec){.tv_sec = 1000};
	return 0;
}

/* ---- the agent's side ---- */

static const char rewriting[] =
	"{'version':1,'default':'accept','rules':[{'name':'a','action':'accept','log':true,"
	"'set':{'ttl':9,'dscp':10,'mark':{'set':5}}}]}";
static const char auditing[] = "{'version':1,'mode':'audit','default':'reject','rules':["
			       "{'name':'a','action':'drop','iif':'eth*'},"
			       "{'name':'q','action':'queue','queue':65535,'dport':'0-99'}]}";

enum { POLICY_EVERY, POLICY_REWRITING, POLICY_AUDITING, POLICY_NONE, POLICIES };

static struct policy *policies[POLICIES];
static struct queue_buffers *buffers;
static struct shm_queue *shm, *before;
static struct event_ring *events;
static struct shm_rule scratch[NSGATE_RULES_MAX];

static void set_up(void)
{
	policies[POLICY_EVERY] = fuzz_compile(every_match_json);
	policies[POLICY_REWRITING] = fuzz_compile(rewriting);
	policies[POLICY_AUDITING] = fuzz_compile(auditing);
	buffers = queue_buffers_new();
	shm = calloc(1, SHM_BLOCK_SIZE);
	before = calloc(1, sizeof(*before));
	events = event_ring_new();
	MUST(buffers && shm && before && events);
	shm_lay_out(&shm->layout);
}

static void bind_policy(struct queue *queue, struct policy *policy)
{
	struct queue_binding binding = {.generation = 1, .scratch = scratch};

	binding.policy = policy ? policy_ref(policy) : NULL;
	if (policy)
		MUST(policy_state_init(&binding.state, policy, NULL) == 0);
	queue_bind(queue, &binding);
	policy_unref(binding.policy);
	policy_state_free(&binding.state);
}

/* ---- what must hold ---- */

static uint64_t grown(const struct shm_count *now, const struct shm_count *then, size_t count,
		      uint64_t *ret_bytes)
{
	uint64_t packets = 0;

	*ret_bytes = 0;
	for (size_t i = 0; i < count; i++) {
		MUST(now[i].packets >= then[i].packets);
		packets += now[i].packets - then[i].packets;
		*ret_bytes += now[i].bytes - then[i].bytes;
	}
	return packets;
}

/* Sent round to be dropped and noted, as the rules in force know that mark. */
static bool is_noted_denied(const struct queue *queue)
{
	const struct verdict *verdict = &kernel.verdict;

	return queue->in_force.notes_denied && verdict->verdict == NF_REPEAT && verdict->set_mark &&
	       verdict->mark == queue->answers[NSGATE_ANSWER_DENY] && !verdict->payload;
}

/* What a rejected segment becomes for its receiver: headers alone, and no flag but RST. */
static bool is_reset(const struct verdict *verdict)
{
	const size_t ip = verdict->payload && verdict->payload[0] >> 4 == 4 ? 20 : 40;

	return (verdict->verdict == NF_STOP || verdict->verdict == NF_ACCEPT) &&
	       !verdict->set_mark && verdict->payload && verdict->payload_length == ip + 20 &&
	       verdict->payload[ip + 13] == 4;
}

/* Or it waits for its sender to send one that can become that. */
static bool ends_both(const struct nfq_packet *packet)
{
	const struct verdict *verdict = &kernel.verdict;

	if (verdict->verdict == NF_DROP && packet->skbinfo & NFQA_SKB_GSO)
		return !verdict->payload;
	return is_reset(verdict);
}

static void check_fate(const struct queue *queue, const struct nfq_packet *packet)
{
	static const uint32_t of_fate[SHM_FATE_MAX] = {
		[SHM_FATE_ACCEPTED] = NF_ACCEPT,
		[SHM_FATE_DROPPED] = NF_DROP,
		[SHM_FATE_REJECTED] = NF_REPEAT,
		[SHM_FATE_QUEUED_ELSEWHERE] = NF_QUEUE,
	};
	const struct verdict *verdict = &kernel.verdict;
	const uint32_t reject = queue->answers[NSGATE_ANSWER_REJECT];

	for (int i = 0; i < SHM_FATE_MAX; i++) {
		if (shm->fate[i].packets == before->fate[i].packets)
			continue;
		if (i == SHM_FATE_DROPPED && is_noted_denied(queue))
			return;
		/* One that came with that mark has been round. */
		if (i == SHM_FATE_REJECTED && packet->mark == reject) {
			MUST(verdict->verdict == NF_DROP);
			continue;
		}
		if (i == SHM_FATE_REJECTED && ends_both(packet))
			return;
		MUST((verdict->verdict & NF_VERDICT_MASK) == of_fate[i]);
		if (i == SHM_FATE_REJECTED)
			MUST(verdict->set_mark && verdict->mark == reject);
	}
	/* Nothing goes round but an answer, so nothing goes round for ever. */
	if (verdict->verdict == NF_REPEAT)
		MUST(verdict->set_mark && verdict->mark != packet->mark);
	/* A mark that is no other would cost a look at the routes; of what is dropped nobody reads
	 * it. */
	MUST(!verdict->set_mark || verdict->mark != packet->mark);
	MUST(!verdict->set_mark || verdict->verdict != NF_DROP);
	if (verdict->set_mark && verdict->mark == queue->answers[NSGATE_ANSWER_REMEMBER])
		MUST(queue->in_force.selective && verdict->verdict == NF_ACCEPT);
	MUST(!verdict->payload || verdict->payload_length == packet->caplen);
}

static void check_counters(const struct nfq_packet *packet, bool is_packet)
{
	uint64_t bytes, protocols = 0, directions;

	MUST(grown(shm->fate, before->fate, SHM_FATE_MAX, &bytes) == is_packet);
	MUST(bytes == (is_packet ? packet->length : 0));
	directions = grown(shm->direction, before->direction, SHM_DIRECTION_MAX, &bytes);
	MUST(directions <= is_packet && (directions || bytes == 0));
	for (int i = 0; i < SHM_PROTO_MAX; i++)
		protocols += shm->protocol[i] - before->protocol[i];
	MUST(protocols == is_packet);
	MUST(shm->turn % 2 == 0);
	MUST(shm->readmitted == before->readmitted);
}

/* Did it come by one of the queue's numbers? */
static bool is_ours(struct nfq_packet *packet)
{
	const unsigned int distance = (uint16_t)(packet->number - NUMBER);

	return distance % STRIDE == 0 && distance / STRIDE < NSGATE_FLOW_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint16_t patterns = 7;
	struct input input = {data, size};
	const uint8_t which = (uint8_t)input_take(&input, 1), how = (uint8_t)input_take(&input, 1);
	struct queue_link links[] = {{1, 1}, {2, patterns}, {5, 2}, {UINT32_MAX, 4}};
	struct queue queue = {.fd = -1,
			      .proc_fd = -1,
			      .number = NUMBER,
			      .stride = STRIDE,
			      .answers = {0x01010101, 0x01010102, 0x01010103}};
	struct nfq_packet packet;
	enum nfq_kind kind;
	struct event event;
	bool judged;
	int error = 0;

	if (!shm)
		set_up();
	queue.shm = shm;
	queue.events = how & 1 ? events : NULL;
	queue.in_force.accept_without_policy = how & 2;
	memset(&kernel, 0, sizeof(kernel));
	bind_policy(&queue, policies[which % POLICIES]);
	queue.links = links;
	queue.link_count = sizeof(links) / sizeof(links[0]);
	queue.in_force.notes_denied = how & 8;
	queue.in_force.selective = how & 16;

	kernel.message = input.at;
	kernel.size = input.left;
	kernel.sender = how & 4 ? 4711 : 0;
	if (which / POLICIES < NSGATE_FLOW_MAX)
		kernel.number = (uint16_t)(NUMBER + which / POLICIES * STRIDE);
	memcpy(before, shm, sizeof(*shm));
	MUST(queue_turn(&queue, buffers) == 1);

	/* What was received, cut to the slot as it was. */
	kind = kernel.sender ? NFQ_KIND_OTHER
			     : nfq_parse(kernel.message, kernel.size, &packet, &error);
	if (kind == NFQ_KIND_PACKET && kernel.number)
		packet.number = kernel.number;
	judged = kind == NFQ_KIND_PACKET && is_ours(&packet);
	check_counters(&packet, judged);
	MUST(kernel.verdicts == judged);
	if (kind == NFQ_KIND_PACKET && !judged)
		MUST(queue.errors == 1 && queue.last_error == EBADMSG);
	if (judged) {
		MUST(kernel.verdict.number == packet.number);
		MUST(!kernel.verdict.up_to && kernel.verdict.id == packet.id);
		check_fate(&queue, &packet);
	}
	MUST(queue.forged == (kernel.sender != 0));
	MUST(queue_turn(&queue, buffers) == 0 && !queue.has_unsent);

	queue.links = NULL;
	bind_policy(&queue, NULL);
	while (event_ring_get(events, &event))
		MUST(event.verdict < POLICY_VERDICT_MAX);
	return 0;
}
