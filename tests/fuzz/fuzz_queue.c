/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: a script of what befalls a queue: packets, floods of them, turns, sends that fail, messages
 * that cannot be delivered, errors, forged messages, links that go down, new policies, and the
 * agent's death with a successor that takes over. Packets come by all of the queue's numbers.
 *
 * The kernel is a model (below) that keeps the packets which wait and the messages which nobody has
 * read, and does to them what nfnetlink_queue does on a verdict.
 *
 * Must hold: no packet is decided that this agent has not read; every packet that it has read gets
 * the very verdict that judging it alone gives, or is sent round its hook again; in the end nothing
 * waits. The fates count every verdict once, and the books balance: what was numbered was decided,
 * sent round, not delivered, or vanished. Only packets whose verdict could not be sent may be
 * counted without one.
 */
#include <errno.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>
#include <time.h>

#include "agent/queue/internal.h"
#include "fuzz.h"
#include "nsgate/hook.h"
#include "nsgate/flow.h"
#include "verdict.h"

#define NUMBER 3
#define STRIDE 2
#define PACKETS_MAX 4096
#define MESSAGES_MAX (8 * PACKETS_MAX)
#define ORDER_MAX (2 * PACKETS_MAX)
#define IDS 65536
#define CONTENT_MAX 420 /* more than deciding needs, less than rewriting */
#define SCRIPT_MAX 128	/* longer ones are slow and say nothing new */

/* ---- the model ---- */

struct packet {		       /* one that waits, or waited */
	enum nsgate_flow flow; /* by which number it comes */
	uint32_t id, mark;
	uint8_t hook, content[CONTENT_MAX];
	size_t length;
	bool odd;	  /* its headers may be anything, so the copy may cut into them */
	bool waits, read; /* read: by the agent that lives now */
	struct queue_verdict expected;
	uint8_t *payload; /* of `expected` */
};

struct message {
	struct packet *packet; /* NULL: an error, or rubbish */
	uint32_t id, copy_range;
	int error;
	uint32_t sender;
};

static struct {
	struct packet packets[PACKETS_MAX];
	/* Of each number: */
	struct line {
		struct packet *by_id[IDS]; /* at id % IDS */
		uint32_t order[ORDER_MAX]; /* the ids that were given out and may still wait */
		size_t order_first, order_end;
		uint32_t last_id, copy_range, undelivered;
	} lines[NSGATE_FLOW_MAX];
	size_t packet_count;
	struct message messages[MESSAGES_MAX];
	size_t first, end;
	uint32_t vanished, began_at; /* began_at: the sum of the last ids before the first */
	time_t clock;
	unsigned int sends_to_fail, receives_to_fail;
	uint64_t decided;
	bool sends_failed; /* a verdict, for good, some time; or what queue_check_flushed() asked */
	bool handed_over; /* the broker has connected the socket: only the kernel can write to it */
} kernel;

static struct queue queue;
static struct queue_buffers *buffers, *reference_buffers;
static struct shm_queue *shm, *reference_shm;
static struct shm_rule scratch[NSGATE_RULES_MAX];

static void put_message(const struct message *message)
{
	if (kernel.end == MESSAGES_MAX) {
		memmove(kernel.messages, kernel.messages + kernel.first,
			(kernel.end - kernel.first) * sizeof(*message));
		kernel.end -= kernel.first;
		kernel.first = 0;
	}
	MUST(kernel.end < MESSAGES_MAX);
	kernel.messages[kernel.end++] = *message;
}

/* Return: the packet that waits under this id, or NULL. */
static struct packet *find(const struct line *line, uint32_t id)
{
	struct packet *packet = line->by_id[id % IDS];
	const bool waits = packet && packet->waits && packet->id == id;

	return waits && &kernel.lines[packet->flow] == line ? packet : NULL;
}

/* Does the packet that the message is about still wait under that id? */
static bool is_current(const struct message *message)
{
	const struct packet *packet = message->packet;

	return find(&kernel.lines[packet->flow], message->id) == packet;
}

/* Leave only ids of what waits. */
static void compact_order(struct line *line)
{
	size_t to = 0;

	for (size_t i = line->order_first; i < line->order_end; i++)
		if (find(line, line->order[i]))
			line->order[to++] = line->order[i];
	line->order_first = 0;
	line->order_end = to;
}

/* Queue a packet under the next id. */
static void enqueue(struct packet *packet)
{
	struct line *line = &kernel.lines[packet->flow];

	if (line->order_end == ORDER_MAX)
		compact_order(line);
	MUST(line->order_end < ORDER_MAX);
	packet->id = ++line->last_id;
	packet->waits = true;
	packet->read = false;
	MUST(!find(line, packet->id - IDS));
	line->by_id[packet->id % IDS] = packet;
	line->order[line->order_end++] = packet->id;
	put_message(&(struct message){
		.packet = packet, .id = packet->id, .copy_range = line->copy_range});
}

static void forget(struct packet *packet)
{
	packet->waits = false;
	free(packet->payload);
	packet->payload = NULL;
}

static void decide(struct packet *packet, const struct verdict *verdict)
{
	const struct queue_verdict *expected = &packet->expected;

	/* With a mark it is an answer: such a packet ends in the rules. */
	if (verdict->verdict == NF_REPEAT && !verdict->set_mark) {
		MUST(!verdict->payload);
		forget(packet);
		enqueue(packet);
		return;
	}
	MUST(packet->read);
	MUST(expected->verdict == verdict->verdict);
	MUST(expected->set_mark == verdict->set_mark);
	MUST(!expected->set_mark || expected->mark == verdict->mark);
	MUST(!expected->payload == !verdict->payload);
	if (verdict->payload) {
		MUST(expected->payload_length == verdict->payload_length);
		MUST(memcmp(packet->payload, verdict->payload, verdict->payload_length) == 0);
	}
	kernel.decided++;
	forget(packet);
}

/* The number that a verdict names: one of ours. */
static struct line *line_of(const struct verdict *verdict)
{
	const unsigned int distance = verdict->number - NUMBER;

	MUST(verdict->number >= NUMBER && distance % STRIDE == 0);
	MUST(distance / STRIDE < NSGATE_FLOW_MAX);
	return &kernel.lines[distance / STRIDE];
}

/* nfqnl_recv_verdict(), nfqnl_recv_verdict_batch(); ids are given out in order. */
static void take_verdict(const struct verdict *verdict)
{
	static struct packet *chosen[ORDER_MAX];
	struct line *line = line_of(verdict);
	size_t count = 0;

	if (!verdict->up_to && find(line, verdict->id))
		chosen[count++] = find(line, verdict->id);
	for (; verdict->up_to && line->order_first < line->order_end; line->order_first++) {
		const uint32_t id = line->order[line->order_first];

		if ((int32_t)(id - verdict->id) > 0)
			break;
		if (find(line, id))
			chosen[count++] = find(line, id);
	}
	for (size_t i = 0; i < count; i++)
		decide(chosen[i], verdict);
	if (count == 0)
		put_message(&(struct message){.error = -ENOENT});
}

static size_t waiting_by(struct line *line)
{
	compact_order(line);
	return line->order_end;
}

static size_t waiting(void)
{
	size_t sum = 0;

	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++)
		sum += waiting_by(&kernel.lines[flow]);
	return sum;
}

/* ---- messages as the kernel writes them: nfqnl_build_packet_message() ---- */

struct writer {
	uint8_t bytes[1024] __attribute__((aligned(4)));
	size_t used;
};

static void write_attr(struct writer *writer, uint16_t type, const void *body, size_t length)
{
	const struct nlattr attr = {.nla_len = (uint16_t)(NLA_HDRLEN + length), .nla_type = type};

	memcpy(writer->bytes + writer->used, &attr, sizeof(attr));
	memcpy(writer->bytes + writer->used + NLA_HDRLEN, body, length);
	writer->used += NLA_HDRLEN + NLA_ALIGN(length);
}

static void write_u32(struct writer *writer, uint16_t type, uint32_t value)
{
	value = htonl(value);
	write_attr(writer, type, &value, sizeof(value));
}

static void write_packet(struct writer *writer, const struct message *message)
{
	const struct packet *packet = message->packet;
	const struct nfqnl_msg_packet_hdr header = {.packet_id = htonl(message->id),
						    .hw_protocol = htons(0x0800),
						    .hook = packet->hook};
	size_t copied = packet->length;

	if (copied > message->copy_range)
		copied = message->copy_range;
	write_attr(writer, NFQA_PACKET_HDR, &header, sizeof(header));
	write_u32(writer, NFQA_IFINDEX_INDEV, 2);
	if (packet->mark)
		write_u32(writer, NFQA_MARK, packet->mark);
	if (copied < packet->length)
		write_u32(writer, NFQA_CAP_LEN, (uint32_t)packet->length);
	if (copied)
		write_attr(writer, NFQA_PAYLOAD, packet->content, copied);
}

static void write_message(struct writer *writer, const struct message *message)
{
	struct nlmsghdr header = {.nlmsg_type = message->packet
							? NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET
							: NLMSG_ERROR};

	writer->used = NLMSG_HDRLEN;
	if (message->packet) {
		const struct nfgenmsg generic = {
			.version = NFNETLINK_V0,
			.res_id = htons((uint16_t)(NUMBER + STRIDE * message->packet->flow))};

		memcpy(writer->bytes + writer->used, &generic, sizeof(generic));
		writer->used += sizeof(generic);
		write_packet(writer, message);
	} else {
		memcpy(writer->bytes + writer->used, &message->error, sizeof(int));
		writer->used += sizeof(int);
	}
	header.nlmsg_len = (uint32_t)writer->used;
	memcpy(writer->bytes, &header, sizeof(header));
}

/*
 * What this message's packet must get, should it be judged: by itself, away from the others, and
 * from a copy of all of it.
 */
static void expect(const struct message *message)
{
	struct message whole = *message;
	struct packet *packet = message->packet;
	struct queue alone = queue;
	struct nfq_packet parsed;
	struct writer writer;
	int error;

	if (!packet || message->sender || !is_current(message))
		return;
	alone.shm = reference_shm;
	alone.in_force.state.counters = shm_rules(reference_shm);
	alone.in_force.state.touched = reference_shm->rules_touched;
	if (!packet->odd)
		whole.copy_range = CONTENT_MAX;
	memset(&writer, 0, sizeof(writer));
	write_message(&writer, &whole);
	MUST(nfq_parse(writer.bytes, writer.used, &parsed, &error) == NFQ_KIND_PACKET);
	queue_judge(&alone, reference_buffers, packet->flow, &parsed, &packet->expected);
	packet->read = true;
	free(packet->payload);
	packet->payload = NULL;
	if (packet->expected.payload) {
		packet->payload = malloc(packet->expected.payload_length);
		MUST(packet->payload);
		memcpy(packet->payload, packet->expected.payload, packet->expected.payload_length);
	}
}

/* ---- in place of the system calls (see fuzz.mk) ---- */

int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
		    struct timespec *timeout);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
ssize_t __wrap_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *from,
			socklen_t *from_size);
ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *length);
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset);

static size_t deliver(void *buffer, size_t size, struct sockaddr_nl *ret_sender)
{
	const struct message *message = &kernel.messages[kernel.first];
	struct writer writer;

	memset(&writer, 0, sizeof(writer));
	write_message(&writer, message);
	if (writer.used > size)
		writer.used = size;
	memcpy(buffer, writer.bytes, writer.used);
	if (ret_sender)
		*ret_sender =
			(struct sockaddr_nl){.nl_family = AF_NETLINK, .nl_pid = message->sender};
	return writer.used;
}

int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
		    struct timespec *timeout)
{
	unsigned int done = 0;

	(void)fd;
	(void)timeout;
	MUST(flags & MSG_DONTWAIT);
	if (kernel.receives_to_fail > 0) {
		kernel.receives_to_fail--;
		errno = kernel.receives_to_fail & 1 ? ENOBUFS : EINTR;
		return -1;
	}
	for (; done < count && kernel.first < kernel.end; done++) {
		struct msghdr *to = &messages[done].msg_hdr;
		const size_t got =
			deliver(to->msg_iov->iov_base, to->msg_iov->iov_len, to->msg_name);

		messages[done].msg_len = (unsigned int)got;
		expect(&kernel.messages[kernel.first]);
		kernel.first++;
	}
	if (done > 0)
		return (int)done;
	errno = EAGAIN;
	return -1;
}

ssize_t __wrap_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *from,
			socklen_t *from_size)
{
	struct sockaddr_nl sender;
	size_t got;

	(void)fd;
	MUST(flags == (MSG_PEEK | MSG_DONTWAIT) && *from_size == sizeof(sender));
	if (kernel.first == kernel.end) {
		errno = EAGAIN;
		return -1;
	}
	got = deliver(buffer, size, &sender);
	memcpy(from, &sender, sizeof(sender));
	return (ssize_t)got;
}

ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags)
{
	const struct message *message;
	struct sockaddr_nl sender;
	size_t got;

	(void)fd;
	MUST((flags & ~MSG_PEEK) == MSG_DONTWAIT);
	if (kernel.first == kernel.end) {
		errno = EAGAIN;
		return -1;
	}
	if (flags & MSG_PEEK)
		return (ssize_t)deliver(buffer, size, &sender);
	/* Thrown away unread: nobody may wait for it. */
	message = &kernel.messages[kernel.first];
	MUST(!message->packet || message->sender || !is_current(message));
	got = deliver(buffer, size, &sender);
	kernel.first++;
	return (ssize_t)got;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	const struct iovec *part = message->msg_iov;
	const uint8_t *bytes = part->iov_base;

	(void)fd;
	(void)flags;
	MUST(message->msg_iovlen == 1 && part->iov_len > 0);
	if (kernel.sends_to_fail > 0) {
		struct verdict first;

		kernel.sends_to_fail--;
		/* A lock that could not be passed: what vanishes cannot be told for certain. */
		verdict_read(bytes, part->iov_len, &first);
		kernel.sends_failed |= first.is_config && !first.has_copy_range;
		errno = ENOBUFS;
		return -1;
	}
	for (size_t at = 0; at < part->iov_len;) {
		struct verdict verdict;

		at += verdict_read(bytes + at, part->iov_len - at, &verdict);
		if (verdict.is_forget)
			continue;
		if (verdict.is_config) {
			struct line *line = line_of(&verdict);

			if (verdict.has_copy_range)
				line->copy_range = verdict.copy_range;
		} else {
			verdict_check(&verdict);
			take_verdict(&verdict);
		}
	}
	return (ssize_t)part->iov_len;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
	(void)clock;
	*ret = (struct timespec){.tv_sec = ++kernel.clock};
	return 0;
}

/* The socket is "half full" from sixteen messages on. */
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	uint32_t *memory = value;

	(void)fd;
	MUST(level == SOL_SOCKET && option == SO_MEMINFO &&
	     *length >= SK_MEMINFO_VARS * sizeof(*memory));
	memory[SK_MEMINFO_RMEM_ALLOC] = (uint32_t)(kernel.end - kernel.first);
	memory[SK_MEMINFO_RCVBUF] = 32;
	return 0;
}

/* A line of /proc/net/netfilter/nfnetlink_queue. */
static size_t print_line(char *text, size_t size, unsigned int number, size_t pending,
			 const struct line *line)
{
	return (size_t)snprintf(text, size, "%5u %6u %5zu %1u %5u %5u %5u %8u %2d\n", number, 1U,
				pending, 2U, line->copy_range, 0U, line->undelivered, line->last_id,
				1);
}

/* With lines of somebody else's queues before it and between its own. */
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset)
{
	static const struct line other = {.last_id = 99, .undelivered = 5};
	char text[4096];
	size_t length = print_line(text, sizeof(text), NUMBER - 1, 7, &other);

	(void)fd;
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		struct line *line = &kernel.lines[flow];

		length += print_line(text + length, sizeof(text) - length, NUMBER + flow * STRIDE,
				     waiting_by(line), line);
		length += print_line(text + length, sizeof(text) - length,
				     NUMBER + flow * STRIDE + 1, 7, &other);
	}
	MUST(length < sizeof(text));
	if ((size_t)offset >= length)
		return 0;
	length -= (size_t)offset;
	if (length > size)
		length = size;
	memcpy(buffer, text + offset, length);
	return (ssize_t)length;
}

/* ---- what can befall a queue ---- */

static const char *const texts[] = {
	"{'version':1,'default':'accept','rules':["
	"{'name':'d','action':'drop','dport':'0-63'},"
	"{'name':'r','action':'reject','dport':'64-95'},"
	"{'name':'m','action':'accept','dport':'96-127','mark':{'set':9}},"
	"{'name':'q','action':'queue','queue':8,'dport':'128-143'}]}",

	"{'version':1,'default':'drop','rules':["
	"{'name':'t','action':'accept','set':{'ttl':9},'dport':'0-127'},"
	"{'name':'a','action':'accept','dport':'128-200'}]}",

	"{'version':1,'default':'accept','rules':[]}",

	"{'version':1,'mode':'audit','rules':[{'name':'u','action':'accept','uid':5}]}",
};
#define TEXTS (sizeof(texts) / sizeof(texts[0]))

static struct policy *policies[TEXTS + 1]; /* the last is none */

static void set_up(void)
{
	for (size_t i = 0; i < TEXTS; i++)
		policies[i] = fuzz_compile(texts[i]);
	buffers = queue_buffers_new();
	reference_buffers = queue_buffers_new();
	shm = calloc(1, SHM_BLOCK_SIZE);
	reference_shm = calloc(1, SHM_BLOCK_SIZE);
	MUST(buffers && reference_buffers && shm && reference_shm);
	shm_lay_out(&reference_shm->layout);
}

static void bind_policy(struct policy *policy, bool accept)
{
	struct queue_binding binding = {.generation = 1,
					.scratch = scratch,
					.accept_without_policy = accept,
					.selective = accept};

	binding.policy = policy ? policy_ref(policy) : NULL;
	if (policy)
		MUST(policy_state_init(&binding.state, policy, NULL) == 0);
	queue_bind(&queue, &binding);
	queue.in_force.notes_denied = true; /* as when the rules have followed */
	policy_unref(binding.policy);
	policy_state_free(&binding.state);
}

/* Some by one number, then some by the next one. */
static enum nsgate_flow next_flow(void)
{
	return (enum nsgate_flow)(kernel.packet_count / 4 % NSGATE_FLOW_MAX);
}

static void arrive(struct input *input, unsigned int flavour)
{
	struct packet *packet;
	size_t length;
	const uint8_t *bytes;

	if (kernel.packet_count == PACKETS_MAX)
		return;
	packet = &kernel.packets[kernel.packet_count++];
	*packet = (struct packet){.hook = NSGATE_HOOK_OUT, .length = 28, .flow = next_flow()};
	if (flavour == 0) { /* UDP to a port below 256 */
		static const uint8_t udp[] = {0x45, 0, 0,  28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0,
					      0,    1, 10, 0,  0, 2, 1, 1, 0,  0,  0, 8, 0,  0};

		memcpy(packet->content, udp, sizeof(udp));
		if (kernel.packet_count % 3 == 0) { /* a long one */
			packet->length = CONTENT_MAX;
			packet->content[2] = CONTENT_MAX >> 8;
			packet->content[3] = CONTENT_MAX & 255;
			packet->content[24] = (CONTENT_MAX - 20) >> 8;
			packet->content[25] = (CONTENT_MAX - 20) & 255;
		}
		packet->content[23] = (uint8_t)input_take(input, 1);
		enqueue(packet);
		return;
	}
	packet->odd = true;
	packet->hook = (uint8_t)(input_take(input, 1) % 7);
	packet->mark = input_take(input, 1) << 24 | input_take(input, 1);
	length = input_take(input, 1) % (CONTENT_MAX + 1);
	bytes = input_bytes(input, &length);
	memcpy(packet->content, bytes, length);
	packet->length = length;
	enqueue(packet);
}

/* Somebody in the namespace writes to our socket: the id of a packet that waits, ports to pass. */
static void forge(struct input *input)
{
	static struct packet forged = {.hook = NSGATE_HOOK_OUT, .length = CONTENT_MAX};

	if (kernel.handed_over)
		return;
	put_message(&(struct message){.packet = &forged,
				      .id = kernel.lines[forged.flow].last_id -
					    input_take(input, 1) + 4,
				      .copy_range = CONTENT_MAX,
				      .sender = 1 + input_take(input, 1)});
}

/* The link of some packets goes down. */
static void flush(uint32_t every)
{
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		struct line *line = &kernel.lines[flow];

		compact_order(line);
		for (size_t i = 0; i < line->order_end; i += every % 4 + 1) {
			forget(find(line, line->order[i]));
			kernel.vanished++;
		}
		compact_order(line);
	}
}

static struct queue new_queue(void)
{
	return (struct queue){.fd = -1,
			      .proc_fd = -2,
			      .number = NUMBER,
			      .stride = STRIDE,
			      .answers = {0x01010101, 0x01010102, 0x01010103},
			      .shm = shm};
}

/* The agent dies having read `count` more messages; another one takes the queue over. */
static void die_and_succeed(uint32_t count, struct policy *policy)
{
	struct policy *old = queue.in_force.policy;

	kernel.handed_over = true;
	for (; count > 0 && kernel.first < kernel.end; count--)
		kernel.first++;
	for (size_t i = 0; i < kernel.packet_count; i++)
		kernel.packets[i].read = false;
	kernel.sends_to_fail = 0;
	policy_unref(old);
	policy_state_free(&queue.in_force.state);
	/* As new ones are, but for the cost of mapping them. */
	memset(&buffers->counters, 0, sizeof(buffers->counters));
	buffers->run.packets = 0;
	buffers->batch.used = 0;
	queue = new_queue();
	bind_policy(policy, false);
	MUST(queue_takeover(&queue) == 0);
}

static void turn(void)
{
	const bool owed = queue.has_unsent;

	kernel.handed_over = true;
	MUST(queue_turn(&queue, buffers) >= 0);
	kernel.sends_failed |= owed | queue.has_unsent;
}

static void befall(struct input *input)
{
	const uint32_t what = input_take(input, 1);

	switch (what % 16) {
	case 0:
	case 1:
	case 2:
		arrive(input, 0);
		break;
	case 3:
		arrive(input, 1);
		break;
	case 4:
		for (uint32_t i = input_take(input, 1) % 128; i > 0; i--)
			arrive(&(struct input){&(uint8_t){(uint8_t)(i * 7)}, 1}, 0);
		break;
	case 5:
	case 6:
	case 7:
		turn();
		break;
	case 8:
		kernel.sends_to_fail = input_take(input, 1);
		break;
	case 9:
		kernel.receives_to_fail = what >> 4;
		break;
	case 10: {
		const uint32_t which = input_take(input, 1);

		bind_policy(policies[which % (TEXTS + 1)], which & 0x80);
		break;
	}
	case 11:
		die_and_succeed(input_take(input, 1), policies[(what >> 4) % (TEXTS + 1)]);
		break;
	case 12:
		flush(what >> 4);
		break;
	case 13:
		forge(input);
		break;
	case 14:
		put_message(&(struct message){.error = -(int)input_take(input, 1)});
		break;
	case 15: /* not deliverable: the kernel drops the packet, its id is gone */
		kernel.lines[next_flow()].last_id += 1 + (what >> 4);
		kernel.lines[next_flow()].undelivered += 1 + (what >> 4);
		break;
	}
}

static void finish(void)
{
	kernel.sends_to_fail = 0;
	kernel.receives_to_fail = 0;
	for (int i = 0; i < 1000; i++) {
		turn();
		if (kernel.first == kernel.end && !queue_is_unfinished(&queue))
			break;
	}
}

static void begin_lines(uint32_t last_id)
{
	kernel.began_at = 0;
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		struct line *line = &kernel.lines[flow];

		line->order_first = line->order_end = 0;
		line->copy_range = QUEUE_COPY_DEFAULT;
		line->undelivered = 0;
		line->last_id = last_id * (flow + 1);
		kernel.began_at += line->last_id;
	}
}

/* How many ids were given out, modulo 2^32, and how many of them not delivered. */
static uint32_t numbered(uint32_t *ret_undelivered)
{
	uint32_t sum = 0;

	*ret_undelivered = 0;
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		sum += kernel.lines[flow].last_id;
		*ret_undelivered += kernel.lines[flow].undelivered;
	}
	return sum - kernel.began_at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	uint64_t fates = 0;

	if (size > SCRIPT_MAX)
		return 0;
	if (!shm)
		set_up();
	memset(shm, 0, sizeof(*shm));
	shm_lay_out(&shm->layout);
	kernel.packet_count = kernel.first = kernel.end = 0;
	kernel.decided = 0;
	kernel.sends_failed = kernel.handed_over = false;
	kernel.sends_to_fail = kernel.receives_to_fail = 0;
	kernel.vanished = 0;
	begin_lines(input_take(&input, 1) * 0x01010101U);
	shm->control.base = -(uint64_t)kernel.began_at;
	queue = new_queue();
	bind_policy(policies[input_take(&input, 1) % (TEXTS + 1)], false);

	while (input.left > 0)
		befall(&input);
	finish();

	for (int i = 0; i < SHM_FATE_MAX; i++)
		fates += shm->fate[i].packets;
	MUST(waiting() == 0);
	MUST(fates >= kernel.decided);
	if (!kernel.sends_failed) {
		uint32_t undelivered;
		const uint32_t given = numbered(&undelivered);

		MUST(fates == kernel.decided);
		MUST(given == (uint32_t)(fates + shm->readmitted) + undelivered + kernel.vanished);
	}
	bind_policy(NULL, false);
	for (size_t i = 0; i < kernel.packet_count; i++)
		forget(&kernel.packets[i]);
	return 0;
}
