/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The loop of every tutorial: one recv, one callback, one verdict per packet. */
#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <stddef.h>
#include <sys/socket.h>

#include "peer.h"

static int on_packet(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *data,
		     void *arg)
{
	const struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(data);
	unsigned char *payload;
	int r;

	(void)message;
	if (!header)
		return 0;
	(void)nfq_get_payload(data, &payload);
	r = nfq_set_verdict(queue, ntohl(header->packet_id), NF_ACCEPT, 0, NULL);
	peer_accepted(arg, 1);
	return r;
}

int main(int argc, char **argv)
{
	char buffer[4096] __attribute__((aligned(8)));
	struct peer peer;
	struct nfq_handle *handle;
	struct nfq_q_handle *queue;

	peer_start(&peer, argc, argv);
	peer_enter(argv[1]);
	handle = nfq_open();
	peer_need(handle, "nfq_open");
	queue = nfq_create_queue(handle, PEER_QUEUE, on_packet, &peer);
	peer_need(queue && nfq_set_queue_maxlen(queue, PEER_QUEUE_LENGTH) >= 0 &&
			  nfq_set_mode(queue, NFQNL_COPY_PACKET, 256) >= 0,
		  "queue");
	peer_buffer(nfq_fd(handle));
	peer_rules(peer_hooks(argv));
	peer_ready();
	while (!peer_stop) {
		const ssize_t length = recv(nfq_fd(handle), buffer, sizeof(buffer), 0);

		if (length > 0)
			nfq_handle_packet(handle, buffer, (int)length);
		else
			peer_need(length < 0 && (errno == EAGAIN || errno == EINTR), "recv");
	}
	nfq_destroy_queue(queue);
	nfq_close(handle);
	return 0;
}
