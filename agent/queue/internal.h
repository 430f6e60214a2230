/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files of this folder alone. */
#ifndef NSGATE_QUEUE_INTERNAL_H
#define NSGATE_QUEUE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <linux/netlink.h>

#include "agent/stats/counters.h"
#include "agent/queue/nfq.h"
#include "pkt.h"
#include "agent/queue/queue.h"

#define QUEUE_BATCH 64		/* messages of one turn */
#define QUEUE_COPY_MAX 65531U	/* what the kernel copies at most: an attribute's length */
#define QUEUE_COPY_DEFAULT 256U /* where no policy has asked for more */
#define QUEUE_METADATA 388U	/* room for everything in a message but the payload */
#define QUEUE_SLOT_MAX (QUEUE_COPY_MAX + 1 + QUEUE_METADATA)
/*
 * Verdicts of one send: two with the largest payload. Less than the smallest send buffer in use
 * (net.core.wmem_default is 208 KiB), which a netlink datagram must not exceed.
 */
#define QUEUE_SEND_SIZE (2 * (QUEUE_COPY_MAX + 1 + 64))

/* What is to become of one packet. */
struct queue_verdict {
	uint32_t verdict; /* NF_* */
	bool set_mark;
	uint32_t mark;		/* the whole new mark */
	const uint8_t *payload; /* the rewritten packet, or NULL */
	size_t payload_length;
};

/* A packet: which of the queue's numbers it came by, and its id there. */
struct queue_id {
	enum nsgate_flow flow;
	uint32_t id;
};

/* A run of packets, one after the other by one number, that get the same verdict and mark. */
struct queue_run {
	unsigned int packets; /* 0: no run */
	struct queue_id last;
	struct queue_verdict verdict;
};

/* A flow of which a segment became a reset (end.c). */
struct queue_ended {
	uint64_t flow;	/* hash */
	uint64_t at_ns; /* 0: none */
};
#define QUEUE_ENDED_SETS 1024
#define QUEUE_ENDED_WAYS 4

struct queue_buffers {
	uint8_t *slab;
	size_t stride; /* of the receive slots now */
	bool named;    /* they have their sender filled in */
	struct mmsghdr messages[QUEUE_BATCH];
	struct iovec slots[QUEUE_BATCH];
	struct sockaddr_nl senders[QUEUE_BATCH];
	uint8_t *rewritten; /* the packet being rewritten */

	/* The turn's. */
	struct counters counters;
	struct queue_run run;
	struct nfq_batch batch;
	uint32_t batch_flows; /* mask of 1 << flow: of whose packets it has verdicts */
	uint32_t batch_last_id[NSGATE_FLOW_MAX]; /* of these */

	struct queue_ended ended[QUEUE_ENDED_SETS * QUEUE_ENDED_WAYS];
};

/* ---- the socket (agent/queue/socket.c) ---- */

/*
 * Receive a batch into the slots, without waiting. Return: how many messages; -errno where the
 * socket failed for good.
 */
int queue_receive(const struct queue *queue, struct queue_buffers *buffers);

/* Has all been read? */
bool queue_socket_is_empty(const struct queue *queue);

/* Is so much unread that more packets may find no room? */
bool queue_socket_is_half_full(const struct queue *queue);

/* Send `batch` as it is. Return: 0 or -errno. */
int queue_send(const struct queue *queue, const struct nfq_batch *batch);

/* Note that the kernel refused something. */
void queue_note_error(struct queue *queue, int error);

/* ---- verdicts on their way out (agent/queue/send.c) ---- */

/* Decide a packet. Sends what has been gathered where the batch is full. */
void queue_add_verdict(struct queue *queue, struct queue_buffers *buffers, struct queue_id id,
		       const struct queue_verdict *verdict);

/* Send every packet up to `id` round its hook again: a message of its own in the batch. */
void queue_requeue_up_to(struct queue *queue, struct queue_buffers *buffers, struct queue_id id);

/*
 * Publish the counters and send what has been gathered. Where the kernel has no memory for it the
 * verdicts are unsent; queue_retry_unsent() sends these packets round their hooks in a later turn.
 */
void queue_flush(struct queue *queue, struct queue_buffers *buffers);
void queue_retry_unsent(struct queue *queue, struct queue_buffers *buffers);

/*
 * Have the conntrack entry of that flow deleted, after the verdicts that were added so far and
 * before the next one.
 */
void queue_forget(struct queue *queue, struct queue_buffers *buffers,
		  const struct nfq_tuple *tuple);

/* ---- judging (agent/queue/judge.c) ---- */

/* Decide and count one packet, of whose flow the kernel knows that. */
void queue_judge(struct queue *queue, struct queue_buffers *buffers, enum nsgate_flow flow,
		 const struct nfq_packet *in, struct queue_verdict *ret);

/* ---- both ends of a connection (end.c) ---- */

/*
 * A segment of a connection at work is rejected. Return: true where the other end is told by it,
 * or by what its sender will send again, and `ret` says what becomes of it; false where it is to be
 * rejected.
 */
bool queue_end_other(struct queue *queue, struct queue_buffers *buffers, enum nsgate_flow flow,
		     const struct nfq_packet *in, const struct pkt *pkt, struct queue_verdict *ret);

/* ---- packets that open the same flow (agent/queue/clash.c) ---- */

/*
 * A packet of NSGATE_FLOW_NEW and of ICMP is about to be accepted. If it is not the first of its
 * flow (`is_first`), the conntrack entry of that flow is to be deleted before it (queue_forget()).
 * Return: what queue_clash_accept() is to be told then; NULL where nothing is to be done.
 */
struct queue_clash *queue_clash_find(struct queue *queue, const struct nfq_packet *in,
				     const struct pkt *pkt, struct nfq_tuple *ret_flow);

/* Its verdict is added next. */
void queue_clash_accept(struct queue *queue, struct queue_clash *clash);

/* Verdicts were sent. */
void queue_clash_sent(struct queue *queue);

/* ---- the kernel's lines (agent/queue/lines.c) ---- */

/* Return: 0 or -errno. */
int queue_read_lines(const struct queue *queue, struct queue_lines *ret);

/*
 * The same, of one moment. Return: 1 where all figures are of one moment and no packet is on its
 * way in; 0 where packets came in all the while, and then it is the reading of several in which
 * the least is missing; -errno.
 */
int queue_snapshot(const struct queue *queue, unsigned int tries, struct queue_lines *ret);

/* ---- what waits is sent round its hook again (agent/queue/requeue.c) ---- */

/* Between two turns: begin with all that waits, as `kernel` says. */
void queue_requeue_begin(struct queue *queue, const struct queue_lines *kernel);

/* Before a turn, while the queue is `requeueing`: the next portion, if there is room for it. */
void queue_requeue_portion(struct queue *queue, struct queue_buffers *buffers);

/*
 * A packet of a number that `is_requeued`. Return: true where it has gone round already and the
 * message is to be ignored.
 */
bool queue_requeue_ignores(struct queue *queue, struct queue_id id);

/* ---- packets that vanish (agent/queue/flushed.c) ---- */

/*
 * Before a turn: were packets flushed whose messages are still to be read? Then all that waits is
 * requeued, and these messages are ignored.
 */
void queue_check_flushed(struct queue *queue);

/* May packets pass without a verdict, because the queue is full or the message undeliverable? */
bool queue_fails_open(const struct queue *queue);

/*
 * Is a message from the kernel? Whoever has CAP_NET_ADMIN in a namespace can write to any netlink
 * socket there: a forged packet under the id of a waiting one would get it accepted.
 */
static inline bool queue_sent_by_kernel(const struct sockaddr_nl *sender)
{
	return sender->nl_pid == 0;
}

static inline uint16_t queue_number_of(const struct queue *queue, enum nsgate_flow flow)
{
	return (uint16_t)(queue->number + nsgate_flow_offset(flow, queue->stride));
}

/* Is id `a` at or before `b`? Ids wrap around. */
static inline bool queue_id_reached(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) <= 0;
}

/* Tell the kernel how much of each packet the policy looks at, and what else it asks for. */
void queue_configure(struct queue *queue);

#endif
