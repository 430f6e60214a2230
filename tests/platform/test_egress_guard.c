/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What leaves by a link passes its egress hook, where frames of AF_PACKET sockets differ from
 * packets of the kernel's IP by having no route. And what becomes of packets that wait in a queue
 * when links are bound to such a hook, or are not any more.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/nft/rules.h"
#include "nsgate/hook.h"
#include "platform.h"

#define PORT 6300
#define PACKETS 5
#define PENDING_COLUMN 3
#define ID_COLUMN 8 /* of the last packet that was queued */

struct bed {
	struct platform_queue queue;
	int rules, proc;
	int sender, receiver;
};

static struct nsgate_link links[] = {{.ifindex = 1, .name = "lo"}, {.name = "v0"}, {.name = "v1"}};

static int install(const struct bed *bed, uint32_t flags, uint32_t generation, unsigned int count)
{
	const struct rules_queues queues = {.backend = platform_backend(),
					    .count = 1,
					    .links = {.list = links, .count = count}};
	const struct nsgate_rules_spec spec = {.hooks = NSGATE_HOOK_BIT(NSGATE_HOOK_OUT),
					       .flags = flags,
					       .generation = generation};

	return rules_install(bed->rules, &queues, &spec);
}

static void make_links(void)
{
	platform_must("ip link add v0 type veth peer name v1");
	platform_must("ip link set v0 up");
	platform_must("ip link set v1 up");
	links[1].ifindex = if_nametoindex("v0");
	links[2].ifindex = if_nametoindex("v1");
}

/* Return: 0, or the errno with which the kernel refused a frame. */
static int send_frame(const char *link, bool bypass)
{
	const int fd = platform_socket(-1, AF_PACKET, SOCK_RAW, 0);
	const struct sockaddr_ll address = {.sll_family = AF_PACKET,
					    .sll_ifindex = (int)if_nametoindex(link),
					    .sll_protocol = htons(ETH_P_IP)};
	const int on = bypass;
	char frame[ETH_ZLEN] = {[12] = 0x08};
	int error = 0;

	if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) < 0)
		platform_fail("PACKET_QDISC_BYPASS");
	if (sendto(fd, frame, sizeof(frame), 0, (const struct sockaddr *)&address,
		   sizeof(address)) < 0)
		error = errno;
	close(fd);
	return error;
}

static void send_all(const struct bed *bed)
{
	for (int i = 0; i < PACKETS; i++)
		if (send(bed->sender, "x", 1, 0) != 1)
			platform_fail("send");
}

static long pending(const struct bed *bed)
{
	return platform_queue_column(bed->proc, 0, PENDING_COLUMN);
}

static int arrived(const struct bed *bed)
{
	struct pollfd pfd = {.fd = bed->receiver, .events = POLLIN};
	struct platform_packet packet;
	char byte;
	int count = 0, r;

	/* A verdict for what was dropped meanwhile is answered by an error. */
	while ((r = platform_receive(&bed->queue, &packet, PLATFORM_QUIET_MS)) != 0)
		if (r == 1)
			platform_verdict(&bed->queue, &packet, NF_ACCEPT, NULL);
	while (poll(&pfd, 1, PLATFORM_QUIET_MS) == 1 && recv(bed->receiver, &byte, 1, 0) == 1)
		count++;
	return count;
}

static void check_frames(const struct bed *bed)
{
	platform_ok(send_frame("v0", false) == 0 && send_frame("lo", false) == 0,
		    "AF_PACKET frames pass where nobody guards");
	if (install(bed, 0, 1, 3) < 0)
		platform_fail("rules_install");
	send_all(bed);
	if (install(bed, NSGATE_RULES_STRICT, 1, 3) < 0)
		platform_fail("rules_install");
	platform_ok(arrived(bed) == PACKETS &&
			    platform_queue_column(bed->proc, 0, ID_COLUMN) == PACKETS,
		    "packets that wait when a guard comes are queued once");
	platform_ok(send_frame("v0", false) == ENOBUFS && send_frame("lo", false) == ENOBUFS,
		    "they have no route at the egress hook");
	platform_ok(send_frame("v0", true) == ENOBUFS, "PACKET_QDISC_BYPASS passes the hook, too");
	send_all(bed);
	platform_ok(arrived(bed) == PACKETS, "packets of the kernel's IP have one");
	platform_must("ip link set v0 down; ip link set v0 up");
	platform_ok(send_frame("v0", false) == ENOBUFS, "a link that was down is guarded");
}

static void check_waiting(const struct bed *bed)
{
	const struct rules_links all = {.list = links, .count = 3};

	send_all(bed);
	if (install(bed, 0, 2, 3) < 0)
		platform_fail("rules_install");
	platform_ok(pending(bed) == PACKETS, "packets wait on when the guard is emptied");
	platform_ok(send_frame("v0", false) == 0, "it is empty then");
	if (install(bed, NSGATE_RULES_STRICT, 3, 3) < 0)
		platform_fail("rules_install");
	platform_ok(pending(bed) == PACKETS && send_frame("v0", false) == ENOBUFS,
		    "and when it is filled again");
	platform_must("ip link add w0 type veth peer name w1");
	links[2].ifindex = if_nametoindex("w0");
	strcpy(links[2].name, "w0");
	platform_ok(rules_follow_links(bed->rules, &all) == 0 && send_frame("w0", false) != 0 &&
			    pending(bed) == PACKETS,
		    "and when a link is bound");
	platform_ok(arrived(bed) == PACKETS, "and arrive");

	send_all(bed);
	platform_must("ip link del w0");
	platform_ok(pending(bed) == 0 && arrived(bed) == 0,
		    "the end of a link that is guarded drops all that waits");
	send_all(bed);
	platform_ok(rules_follow_links(bed->rules, &all) == 0 && pending(bed) == PACKETS,
		    "deleting the chain that it left behind does not");
	platform_ok(arrived(bed) == PACKETS, "and they arrive");
}

int main(void)
{
	struct rules_features features;
	struct bed bed;

	platform_begin();
	bed.rules = platform_netlink(-1);
	if (rules_probe(bed.rules, &features) < 0)
		platform_fail("rules_probe");
	if (!features.guard) {
		printf("skip - this kernel cannot guard what leaves by a link\n");
		return 77;
	}
	platform_ok(platform_run("nft list tables | grep ."), "trying it leaves nothing behind");
	make_links();
	bed.proc = platform_open_queue_stats();
	platform_queue_open(&bed.queue, -1, 0);
	bed.receiver = platform_bound(-1, AF_INET, SOCK_DGRAM, NULL, PORT);
	bed.sender = platform_connect(-1, AF_INET, SOCK_DGRAM, NULL, PORT);
	check_frames(&bed);
	check_waiting(&bed);
	platform_ok(rules_remove(bed.rules) == 0 &&
			    !platform_run("test -z \"$(nft list ruleset)\""),
		    "both tables are removed");
	return platform_end();
}
