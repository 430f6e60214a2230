/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue that real packets pass, for tests that link agent and broker: a network namespace of
 * the test's own with only a loopback in it, the rules that the broker would install, and UDP
 * sockets on both ends. Skips (exit 77) without the privilege or the kernel for it.
 */
#ifndef NSGATE_TEST_LIVE_H
#define NSGATE_TEST_LIVE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "agent/queue/queue.h"
#include "broker/queue_setup.h"
#include "broker/nft/rules.h"
#include "netlink.h"
#include "nsgate/hook.h"
#include "nsgate/shm.h"
#include "policy/policy.h"

#define LIVE_SKIP 77
#define LIVE_QUEUE 3 /* the first number */
#define LIVE_STRIDE 1
#define LIVE_COOKIE 4711 /* of the namespace, as broker and agent are told */
#define LIVE_DEADLINE_MS 10000

struct live {
	struct queue queue;
	struct queue_buffers *buffers;
	int rules_fd, sender, receiver;
	uint16_t port; /* of `receiver` */
};

static inline void live_need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

/* Enter a namespace of one's own and bring up its loopback. */
static inline void live_enter(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd;

	if (unshare(CLONE_NEWNET) < 0) {
		fprintf(stderr, "skipped: no privilege to make a network namespace\n");
		exit(LIVE_SKIP);
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	live_need(fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &lo) == 0, "loopback");
	close(fd);
}

static inline int live_socket(uint16_t *ret_port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = 64 << 20;

	live_need(fd >= 0 && bind(fd, (struct sockaddr *)&address, length) == 0 &&
			  getsockname(fd, (struct sockaddr *)&address, &length) == 0,
		  "UDP socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	*ret_port = ntohs(address.sin_port);
	return fd;
}

static inline void live_rules(struct live *live, uint32_t hooks, uint32_t flags,
			      uint32_t generation)
{
	const struct nsgate_rules_spec spec = {
		.hooks = hooks, .flags = flags, .generation = generation};
	struct rules_features features = {0};
	struct rules_queues queues = {
		.first = LIVE_QUEUE, .count = LIVE_STRIDE, .cookie = LIVE_COOKIE};
	const int err = rules_probe(live->rules_fd, &features);

	if (err || features.backend == NSGATE_BACKEND_NONE) {
		fprintf(stderr, "skipped: this kernel cannot queue from nftables\n");
		exit(LIVE_SKIP);
	}
	queues.backend = features.backend;
	queues.fib = features.fib;
	errno = -rules_install(live->rules_fd, &queues, &spec);
	live_need(errno == 0, "rules");
}

/* Counters are shared with children: MAP_SHARED, as the broker's file is. */
static inline void live_open(struct live *live)
{
	void *shm = mmap(NULL, SHM_BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			 -1, 0);
	uint16_t ignored;

	memset(live, 0, sizeof(*live));
	live_enter();
	live->rules_fd = netlink_open(NETLINK_NETFILTER);
	if (live->rules_fd == -EPROTONOSUPPORT || live->rules_fd == -EPFNOSUPPORT) {
		fprintf(stderr, "skipped: no netfilter here (qemu's user mode has none)\n");
		exit(LIVE_SKIP);
	}
	live->queue.fd = netlink_open(NETLINK_NETFILTER);
	live->queue.number = LIVE_QUEUE;
	live->queue.stride = LIVE_STRIDE;
	live->queue.cookie = LIVE_COOKIE;
	for (unsigned int i = 0; i < NSGATE_ANSWER_MAX; i++)
		live->queue.answers[i] = nsgate_answer_mark(LIVE_COOKIE, (enum nsgate_answer)i);
	live->queue.proc_fd =
		open("/proc/self/net/netfilter/nfnetlink_queue", O_RDONLY | O_CLOEXEC);
	live->queue.shm = shm;
	live->buffers = queue_buffers_new();
	live_need(live->rules_fd >= 0 && live->queue.fd >= 0 && shm != MAP_FAILED && live->buffers,
		  "sockets and memory");
	shm_lay_out(&live->queue.shm->layout);
	errno = -queue_setup(live->queue.fd, LIVE_QUEUE, LIVE_STRIDE, QUEUE_LENGTH_DEFAULT);
	live_need(errno == 0, "queue");
	live_need(live->queue.proc_fd >= 0, "nfnetlink_queue");
	live->sender = live_socket(&ignored);
	live->receiver = live_socket(&live->port);
}

static inline void live_unbind(struct queue_binding *binding)
{
	policy_unref(binding->policy);
	policy_state_free(&binding->state);
	free(binding->links);
	free(binding->scratch);
}

/* A binding of the policy in `json`, or of none where that is NULL. */
static inline struct queue_binding live_binding(const char *json, uint32_t generation)
{
	struct queue_binding binding = {.generation = generation};
	struct policy_problems problems = {0};

	if (!json)
		return binding;
	if (policy_compile(json, strlen(json), &binding.policy, &problems) < 0) {
		for (size_t i = 0; i < problems.count; i++)
			fprintf(stderr, "policy: %s: %s\n", problems.list[i].pointer,
				problems.list[i].message);
		exit(1);
	}
	binding.scratch =
		calloc(policy_info(binding.policy)->rule_count + 1, sizeof(*binding.scratch));
	live_need(binding.scratch && policy_state_init(&binding.state, binding.policy, NULL) == 0,
		  "memory");
	return binding;
}

static inline void live_bind(struct live *live, const char *json)
{
	struct queue_binding binding = live_binding(json, 1);

	queue_bind(&live->queue, &binding);
	live_unbind(&binding);
}

static inline void live_close(struct live *live)
{
	live_bind(live, NULL);
	free(live->queue.links);
	queue_buffers_free(live->buffers);
	munmap(live->queue.shm, SHM_BLOCK_SIZE);
	close(live->queue.proc_fd);
	close(live->queue.fd);
	close(live->rules_fd);
	close(live->sender);
	close(live->receiver);
}

static inline bool live_send(const struct live *live, uint16_t port, const void *data,
			     size_t length)
{
	const struct sockaddr_in to = {.sin_family = AF_INET,
				       .sin_port = htons(port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	return sendto(live->sender, data, length, 0, (const struct sockaddr *)&to, sizeof(to)) >= 0;
}

/* Send packets that carry their number, from `first` on. */
static inline void live_send_numbers(const struct live *live, uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < first + count; i++)
		live_need(live_send(live, live->port, &i, sizeof(i)), "send");
}

static inline struct queue_kernel live_kernel(const struct live *live)
{
	struct queue_kernel kernel = {0};

	errno = -queue_kernel_read(live->queue.proc_fd, live->queue.number, live->queue.stride,
				   &kernel);
	live_need(errno == 0, "nfnetlink_queue");
	return kernel;
}

/* Give turns until nothing waits: everything sent so far is decided then. */
static inline void live_drain(struct live *live)
{
	for (int i = 0; i < 100000; i++) {
		live_need(queue_turn(&live->queue, live->buffers) >= 0, "turn");
		if (live_kernel(live).pending == 0 && !queue_is_unfinished(&live->queue))
			return;
	}
	live_need(false, "packets left undecided");
}

/* What has arrived there. Return: the number of packets; `seen[number]` counts each. */
static inline uint32_t live_receive_at(int fd, uint8_t *seen, uint32_t size)
{
	uint32_t number, count = 0;

	while (recv(fd, &number, sizeof(number), MSG_DONTWAIT) == sizeof(number)) {
		count++;
		if (number < size)
			seen[number]++;
	}
	return count;
}

static inline uint32_t live_receive(const struct live *live, uint8_t *seen, uint32_t size)
{
	return live_receive_at(live->receiver, seen, size);
}

/* Wait for something to arrive at a socket: what has its verdict may still be on its way. */
static inline bool live_arrives(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, LIVE_DEADLINE_MS) == 1;
}

/* Give turns until something arrives there, by way of several hooks. */
static inline void live_drain_until(struct live *live, int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	for (int waited = 0; waited < LIVE_DEADLINE_MS; waited += 10) {
		live_drain(live);
		if (poll(&pfd, 1, 10) == 1)
			return;
	}
	live_need(false, "nothing arrives");
}

static inline struct queue_lines live_lines(const struct live *live)
{
	struct queue_lines lines;

	errno = -queue_kernel_read_lines(live->queue.proc_fd, live->queue.number,
					 live->queue.stride, &lines);
	live_need(errno == 0, "nfnetlink_queue");
	return lines;
}

/* Where packets that leave are judged: a flow to the receiver, accepted and answered. */
static inline int live_known_flow(struct live *live)
{
	const struct sockaddr_in to = {.sin_family = AF_INET,
				       .sin_port = htons(live->port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in from;
	socklen_t length = sizeof(from);
	uint32_t number = 0;
	uint16_t ignored;
	const int known = live_socket(&ignored);

	live_need(connect(known, (const struct sockaddr *)&to, sizeof(to)) == 0 &&
			  send(known, &number, sizeof(number), 0) == sizeof(number),
		  "first packet");
	live_drain_until(live, live->receiver);
	live_need(recvfrom(live->receiver, &number, sizeof(number), 0, (struct sockaddr *)&from,
			   &length) == sizeof(number) &&
			  sendto(live->receiver, &number, sizeof(number), 0,
				 (const struct sockaddr *)&from, length) == sizeof(number),
		  "reply");
	live_drain_until(live, known);
	live_need(recv(known, &number, sizeof(number), 0) == sizeof(number), "reply");
	return known;
}

/*
 * In turn, `each` times: a packet 0.. of a flow that is new; one `each`.. of the known flow, to the
 * receiver too; and a reply 0.. of that, to `known`.
 */
static inline void live_send_by_three_numbers(const struct live *live, int known, uint32_t each)
{
	struct sockaddr_in back;
	socklen_t length = sizeof(back);

	live_need(getsockname(known, (struct sockaddr *)&back, &length) == 0, "getsockname");
	for (uint32_t i = 0; i < each; i++) {
		const uint32_t next = each + i;

		live_send_numbers(live, i, 1);
		live_need(send(known, &next, sizeof(next), 0) == sizeof(next) &&
				  sendto(live->receiver, &i, sizeof(i), 0,
					 (const struct sockaddr *)&back, length) == sizeof(i),
			  "send");
	}
}

/* Wait for `count` packets. Return: how many came; `seen` and `size` as above. */
static inline uint32_t live_await(const struct live *live, uint8_t *seen, uint32_t size,
				  uint32_t count)
{
	uint32_t received = live_receive(live, seen, size);

	while (received < count && live_arrives(live->receiver))
		received += live_receive(live, seen, size);
	return received;
}

static inline uint64_t live_decided(const struct live *live)
{
	uint64_t decided = 0;

	for (int i = 0; i < SHM_FATE_MAX; i++)
		decided += live->queue.shm->fate[i].packets;
	return decided;
}

#endif
