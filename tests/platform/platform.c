/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "platform.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "broker/nft/batch.h"
#include "broker/nft/expr.h"
#include "broker/queue_setup.h"
#include "broker/nft/rules.h"
#include "clock.h"
#include "netlink.h"

#define EXIT_SKIP 77
#define COOKIE 4711 /* of whatever namespace the rules are made for */

static unsigned int failures;

/* --- Facts and commands --- */

unsigned int platform_slow(void)
{
	const char *text = getenv("NSGATE_TEST_SLOW");
	int factor = text ? atoi(text) : 1;

	return factor < 1 ? 1 : factor > 100 ? 100 : (unsigned int)factor;
}

void platform_begin(void)
{
	alarm(PLATFORM_SECONDS);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (unshare(CLONE_NEWNET) < 0) {
		printf("skip - no privilege to make network namespaces: %s\n", strerror(errno));
		exit(EXIT_SKIP);
	}
	platform_must("ip link set lo up");
}

bool platform_ok(bool holds, const char *format, ...)
{
	va_list args;

	printf(holds ? "ok - " : "not ok - ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	failures += !holds;
	return holds;
}

int platform_end(void)
{
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

void platform_fail(const char *what)
{
	printf("not ok - %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static int run(const char *command)
{
	char quiet[1024];
	int status;

	snprintf(quiet, sizeof(quiet), "{ %s; } >/dev/null 2>&1", command);
	status = system(quiet);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

int platform_run(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	return run(command);
}

void platform_must(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (run(command)) {
		errno = 0;
		platform_fail(command);
	}
}

/* --- Namespaces --- */

int platform_netns_here(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		platform_fail("open namespace");
	return fd;
}

void platform_netns_enter(int netns)
{
	if (setns(netns, CLONE_NEWNET) < 0)
		platform_fail("setns");
}

int platform_netns_new(void)
{
	int back = platform_netns_here();
	int fresh;

	if (unshare(CLONE_NEWNET) < 0)
		platform_fail("unshare");
	platform_must("ip link set lo up");
	fresh = platform_netns_here();
	platform_netns_enter(back);
	close(back);
	return fresh;
}

int platform_socket(int netns, int family, int type, int protocol)
{
	int back = platform_netns_here();
	int fd;

	if (netns >= 0)
		platform_netns_enter(netns);
	fd = socket(family, type | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		platform_fail("socket");
	platform_netns_enter(back);
	close(back);
	return fd;
}

int platform_netlink(int netns)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK};
	int fd = platform_socket(netns, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);

	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		platform_fail("bind netlink");
	return fd;
}

static void link_end(int netns, const char *from, const char *name, int net, int host)
{
	platform_netns_enter(netns);
	platform_must("ip link set %s name %s", from, name);
	platform_must("ip addr add 10.%d.0.%d/24 dev %s", net, host, name);
	platform_must("ip addr add fd00:%d::%d/64 dev %s nodad", net, host, name);
	platform_must("ip link set %s up", name);
}

void platform_link(int a, int b, const char *name, int net)
{
	int back = platform_netns_here();

	platform_netns_enter(a);
	platform_must("ip link add end_a type veth peer name end_b netns /proc/%d/fd/%d", getpid(),
		      b);
	link_end(a, "end_a", name, net, 1);
	link_end(b, "end_b", name, net, 2);
	platform_netns_enter(back);
	close(back);
}

/* --- Queues --- */

void platform_queue_open(struct platform_queue *queue, int netns, uint16_t number)
{
	int r;

	queue->fd = platform_netlink(netns);
	queue->number = number;
	r = queue_setup(queue->fd, number, 1, QUEUE_LENGTH_DEFAULT);
	if (r < 0) {
		errno = -r;
		platform_fail("queue_setup");
	}
}

static uint16_t port_at(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static void read_headers(struct platform_packet *packet, const uint8_t *data)
{
	size_t offset = 0;

	packet->version = packet->length ? data[0] >> 4 : 0;
	if (packet->version == 4 && packet->length >= 20) {
		packet->protocol = data[9];
		offset = (data[0] & 15U) * 4;
	} else if (packet->version == 6 && packet->length >= 40) {
		packet->protocol = data[6];
		offset = 40;
	}
	if (!offset || packet->length < offset + 4)
		return;
	packet->icmp_type = data[offset];
	packet->icmp_code = data[offset + 1];
	packet->sport = port_at(data + offset);
	packet->dport = port_at(data + offset + 2);
	if (packet->protocol == IPPROTO_TCP && packet->length >= offset + 14)
		packet->tcp_flags = data[offset + 13];
}

static int read_attribute(const struct nlattr *attr, void *data)
{
	struct platform_packet *packet = data;
	const void *payload = mnl_attr_get_payload(attr);

	switch (mnl_attr_get_type(attr)) {
	case NFQA_PACKET_HDR:
		packet->id = ntohl(((const struct nfqnl_msg_packet_hdr *)payload)->packet_id);
		packet->hook = ((const struct nfqnl_msg_packet_hdr *)payload)->hook;
		break;
	case NFQA_MARK:
		packet->mark = ntohl(mnl_attr_get_u32(attr));
		break;
	case NFQA_UID:
		packet->has_uid = true;
		break;
	case NFQA_SKB_INFO:
		packet->skbinfo = ntohl(mnl_attr_get_u32(attr));
		break;
	case NFQA_PAYLOAD:
		packet->length = mnl_attr_get_payload_len(attr);
		read_headers(packet, payload);
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

int platform_receive(const struct platform_queue *queue, struct platform_packet *ret,
		     int timeout_ms)
{
	_Alignas(struct nlmsghdr) char buffer[70000];
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)buffer;
	struct pollfd pfd = {.fd = queue->fd, .events = POLLIN};
	ssize_t n;

	*ret = (struct platform_packet){.id = 0};
	if (poll(&pfd, 1, timeout_ms) <= 0)
		return 0;
	n = recv(queue->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	if (!mnl_nlmsg_ok(nlh, (int)n))
		return -EBADMSG;
	if (nlh->nlmsg_type == NLMSG_ERROR)
		return ((const struct nlmsgerr *)mnl_nlmsg_get_payload(nlh))->error;
	ret->number = ntohs(((const struct nfgenmsg *)mnl_nlmsg_get_payload(nlh))->res_id);
	mnl_attr_parse(nlh, sizeof(struct nfgenmsg), read_attribute, ret);
	return 1;
}

enum nsgate_flow platform_flow(const struct platform_queue *queue,
			       const struct platform_packet *packet)
{
	return (enum nsgate_flow)(packet->number - queue->number);
}

static int send_verdict(int fd, uint16_t number, uint16_t type, uint32_t id, uint32_t verdict,
			const uint32_t *mark)
{
	_Alignas(struct nlmsghdr) char buffer[128];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	struct nfqnl_msg_verdict_hdr header = {.verdict = htonl(verdict), .id = htonl(id)};

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_QUEUE << 8 | type);
	nlh->nlmsg_flags = NLM_F_REQUEST;
	nfg->version = NFNETLINK_V0;
	nfg->res_id = htons(number);
	mnl_attr_put(nlh, NFQA_VERDICT_HDR, sizeof(header), &header);
	if (mark)
		mnl_attr_put_u32(nlh, NFQA_MARK, htonl(*mark));
	return netlink_send(fd, nlh, nlh->nlmsg_len);
}

int platform_verdict(const struct platform_queue *queue, const struct platform_packet *packet,
		     uint32_t verdict, const uint32_t *mark)
{
	return send_verdict(queue->fd, packet->number, NFQNL_MSG_VERDICT, packet->id, verdict,
			    mark);
}

int platform_verdict_batch(const struct platform_queue *queue, uint16_t number, uint32_t id,
			   uint32_t verdict)
{
	return send_verdict(queue->fd, number, NFQNL_MSG_VERDICT_BATCH, id, verdict, NULL);
}

static int64_t now_ms(void)
{
	return (int64_t)(clock_ns(CLOCK_MONOTONIC) / 1000000);
}

static void serve_one(const struct platform_queue *queue, platform_judge judge, void *data)
{
	struct platform_packet packet;
	uint32_t mark, verdict;

	if (platform_receive(queue, &packet, 0) != 1)
		return;
	mark = packet.mark;
	verdict = judge(&packet, &mark, data);
	platform_verdict(queue, &packet, verdict, mark == packet.mark ? NULL : &mark);
}

bool platform_serve(const struct platform_queue *queue, platform_judge judge, void *data, int until,
		    short events, int timeout_ms)
{
	int64_t deadline = now_ms() + timeout_ms;
	struct pollfd pfds[2] = {{.fd = queue->fd, .events = POLLIN},
				 {.fd = until, .events = events}};

	for (;;) {
		int64_t left = deadline - now_ms();

		if (left <= 0 || poll(pfds, 2, (int)left) <= 0)
			return false;
		if (pfds[0].revents)
			serve_one(queue, judge, data);
		else if (pfds[1].revents)
			return true;
	}
}

/* --- Rules --- */

static const struct rules_features *kernel_features(void)
{
	static struct rules_features features;
	int netns, fd;

	if (features.backend != NSGATE_BACKEND_NONE)
		return &features;
	netns = platform_netns_new();
	fd = platform_netlink(netns);
	if (rules_probe(fd, &features) < 0 || features.backend == NSGATE_BACKEND_NONE)
		platform_fail("rules_probe");
	close(fd);
	close(netns);
	return &features;
}

enum nsgate_backend platform_backend(void)
{
	return kernel_features()->backend;
}

void platform_queue_rule(int fd, const char *table, const char *chain, uint8_t protocol,
			 uint16_t dport, uint16_t number)
{
	const struct nft_queue_range range = {
		.backend = kernel_features()->backend, .first = number, .count = 1};
	const uint16_t port = htons(dport);
	struct nft_batch batch;
	int r;

	nft_batch_begin(&batch, table);
	nft_rule_begin(&batch, chain);
	nft_match_protocol(&batch, NFT_META_L4PROTO, protocol);
	if (dport)
		nft_match_prefix(&batch, NFT_PAYLOAD_TRANSPORT_HEADER, 2, &port, 16);
	nft_queue(&batch, &range);
	nft_rule_end(&batch);
	r = nft_batch_commit(&batch, fd);
	errno = -r;
	if (r < 0)
		platform_fail("queue rule");
}

uint32_t platform_answer(enum nsgate_answer answer)
{
	return nsgate_answer_mark(COOKIE, answer);
}

int platform_rules_of(int fd, const struct nsgate_rules_spec *spec)
{
	struct rules_queues queues = {.backend = kernel_features()->backend,
				      .fib = kernel_features()->fib,
				      .cookie = COOKIE,
				      .first = 0,
				      .count = 1};

	return rules_install(fd, &queues, spec);
}

int platform_rules(int fd, uint32_t hooks, uint32_t flags, uint32_t generation)
{
	const struct nsgate_rules_spec spec = {
		.hooks = hooks, .flags = flags, .generation = generation};

	return platform_rules_of(fd, &spec);
}

/* --- Traffic --- */

struct sockaddr_storage platform_address(int family, const char *address, uint16_t port,
					 socklen_t *ret_length)
{
	struct sockaddr_storage storage = {.ss_family = (sa_family_t)family};
	struct sockaddr_in *in4 = (struct sockaddr_in *)&storage;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&storage;
	bool v4 = family == AF_INET;

	if (!address)
		address = v4 ? "127.0.0.1" : "::1";
	if (v4)
		in4->sin_port = htons(port);
	else
		in6->sin6_port = htons(port);
	if (inet_pton(family, address, v4 ? (void *)&in4->sin_addr : &in6->sin6_addr) != 1)
		platform_fail(address);
	*ret_length = v4 ? sizeof(*in4) : sizeof(*in6);
	return storage;
}

int platform_bound(int netns, int family, int type, const char *address, uint16_t port)
{
	socklen_t length;
	struct sockaddr_storage storage = platform_address(family, address, port, &length);
	int fd = platform_socket(netns, family, type | SOCK_NONBLOCK, 0);
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&storage, length) < 0)
		platform_fail("bind");
	if (type == SOCK_STREAM && listen(fd, 16) < 0)
		platform_fail("listen");
	return fd;
}

int platform_connect(int netns, int family, int type, const char *address, uint16_t port)
{
	socklen_t length;
	struct sockaddr_storage storage = platform_address(family, address, port, &length);
	int fd = platform_socket(netns, family, type | SOCK_NONBLOCK, 0);

	if (connect(fd, (struct sockaddr *)&storage, length) < 0 && errno != EINPROGRESS)
		platform_fail("connect");
	return fd;
}

/* --- /proc/net/netfilter/nfnetlink_queue --- */

int platform_open_queue_stats(void)
{
	int fd = open("/proc/thread-self/net/netfilter/nfnetlink_queue", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		platform_fail("open nfnetlink_queue");
	return fd;
}

long platform_queue_column(int proc_fd, uint16_t number, int column)
{
	char text[4096], *save = NULL;
	ssize_t n = pread(proc_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *word_save = NULL;
		char *word = strtok_r(line, " ", &word_save);

		if (!word || strtol(word, NULL, 10) != number)
			continue;
		for (int i = 1; i < column && word; i++)
			word = strtok_r(NULL, " ", &word_save);
		return word ? strtol(word, NULL, 10) : -1;
	}
	return -1;
}
