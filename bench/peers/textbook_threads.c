/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The same in two threads: one reads and hands the ids over, the other sends the verdicts. */
#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/socket.h>

#include "peer.h"

#define RING_SIZE 16384 /* more than the kernel's queue holds: it never runs over */

struct ring {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	uint32_t ids[RING_SIZE];
	unsigned int head, tail; /* under `lock` */
};

static struct ring ring = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};
static struct peer peer;

static void put(uint32_t id)
{
	pthread_mutex_lock(&ring.lock);
	ring.ids[ring.head++ % RING_SIZE] = id;
	pthread_cond_signal(&ring.filled);
	pthread_mutex_unlock(&ring.lock);
}

static bool take(uint32_t *ret_id)
{
	bool found;

	pthread_mutex_lock(&ring.lock);
	while (ring.head == ring.tail && !peer_stop)
		pthread_cond_wait(&ring.filled, &ring.lock);
	found = ring.head != ring.tail;
	if (found)
		*ret_id = ring.ids[ring.tail++ % RING_SIZE];
	pthread_mutex_unlock(&ring.lock);
	return found;
}

static void *send_verdicts(void *queue)
{
	uint32_t id;

	while (take(&id)) {
		nfq_set_verdict(queue, id, NF_ACCEPT, 0, NULL);
		peer_accepted(&peer, 1);
	}
	return NULL;
}

static int on_packet(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *data,
		     void *arg)
{
	const struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(data);

	(void)queue;
	(void)message;
	(void)arg;
	if (header)
		put(ntohl(header->packet_id));
	return 0;
}

int main(int argc, char **argv)
{
	char buffer[4096] __attribute__((aligned(8)));
	struct nfq_handle *handle;
	struct nfq_q_handle *queue;
	pthread_t thread;

	peer_start(&peer, argc, argv);
	peer_enter(argv[1]);
	handle = nfq_open();
	peer_need(handle, "nfq_open");
	queue = nfq_create_queue(handle, PEER_QUEUE, on_packet, NULL);
	peer_need(queue && nfq_set_queue_maxlen(queue, PEER_QUEUE_LENGTH) >= 0 &&
			  nfq_set_mode(queue, NFQNL_COPY_PACKET, 256) >= 0,
		  "queue");
	peer_buffer(nfq_fd(handle));
	peer_need(pthread_create(&thread, NULL, send_verdicts, queue) == 0, "thread");
	peer_rules(peer_hooks(argv));
	peer_ready();
	while (!peer_stop) {
		const ssize_t length = recv(nfq_fd(handle), buffer, sizeof(buffer), 0);

		if (length > 0)
			nfq_handle_packet(handle, buffer, (int)length);
		else
			peer_need(length < 0 && (errno == EAGAIN || errno == EINTR), "recv");
	}
	pthread_mutex_lock(&ring.lock);
	pthread_cond_signal(&ring.filled);
	pthread_mutex_unlock(&ring.lock);
	pthread_join(thread, NULL);
	nfq_destroy_queue(queue);
	nfq_close(handle);
	return 0;
}
