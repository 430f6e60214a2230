/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decide path without a kernel: nfq_parse() and judge_packet() on messages as the kernel writes
 * them. `micro POLICY PACKETS` prints nanoseconds per packet; under callgrind only
 * micro_run() is counted (see bench/micro).
 */
#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/queue/nfq.h"
#include "judge.h"
#include "nsgate/hook.h"
#include "nsgate/shm.h"
#include "policy/policy.h"

#define FLOWS 32
#define MESSAGE_SIZE 256
#define POLICY_MAX (2 << 20)
#define UDP_PAYLOAD 36

struct message {
	uint8_t bytes[MESSAGE_SIZE];
	size_t length;
};

static struct message messages[FLOWS];

static void put(struct message *message, uint16_t type, const void *body, size_t length)
{
	const struct nlattr attr = {.nla_len = (uint16_t)(NLA_HDRLEN + length), .nla_type = type};

	memcpy(message->bytes + message->length, &attr, sizeof(attr));
	memcpy(message->bytes + message->length + NLA_HDRLEN, body, length);
	message->length += NLA_HDRLEN + NLA_ALIGN(length);
}

/* The attributes of a packet on its way out, in the kernel's order. */
static void make_message(struct message *message, unsigned int flow)
{
	const struct nfqnl_msg_packet_hdr header = {.packet_id = htonl(flow + 1),
						    .hw_protocol = htons(0x0800),
						    .hook = NSGATE_HOOK_OUT};
	const uint32_t oif = htonl(2), mark = htonl(0x05000000), none = 0;
	const struct nfgenmsg generic = {.nfgen_family = AF_INET};
	struct nlmsghdr nlh = {.nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET};
	uint8_t packet[28 + UDP_PAYLOAD] = {
		0x45, 0, 0, sizeof(packet), 0, 0, 0x40, 0, 64, IPPROTO_UDP, 0, 0, 10, 9, 0, 1,
		10,   9, 1};
	const uint16_t ports[3] = {htons(40000), htons((uint16_t)(7000 + flow % 8)),
				   htons(8 + UDP_PAYLOAD)};

	packet[19] = (uint8_t)(flow / 8);
	memcpy(packet + 20, ports, sizeof(ports));
	message->length = NLMSG_HDRLEN + sizeof(generic);
	memcpy(message->bytes + NLMSG_HDRLEN, &generic, sizeof(generic));
	put(message, NFQA_PACKET_HDR, &header, sizeof(header));
	put(message, NFQA_IFINDEX_OUTDEV, &oif, sizeof(oif));
	put(message, NFQA_MARK, &mark, sizeof(mark));
	put(message, NFQA_SKB_INFO, &none, sizeof(none));
	put(message, NFQA_PAYLOAD, packet, sizeof(packet));
	nlh.nlmsg_len = (uint32_t)message->length;
	memcpy(message->bytes, &nlh, sizeof(nlh));
}

/* What agent/queue/judge.c does with a message, without its counters and marks. */
static enum judge_verdict judge(struct judge_policy *policy, const struct message *message)
{
	struct judge_packet judged = {.flow = NSGATE_FLOW_NEW};
	struct judge_result result;
	struct nfq_packet packet;
	int error;

	if (nfq_parse(message->bytes, message->length, &packet, &error) != NFQ_KIND_PACKET)
		return JUDGE_VERDICT_DROP;
	judged.data = packet.data;
	judged.caplen = packet.caplen;
	judged.pkt.mark = packet.mark;
	judged.pkt.length = packet.length;
	judged.pkt.hook = packet.hook;
	judge_packet(policy, &judged, &result);
	return result.verdict;
}

/* Return: packets accepted. */
unsigned long micro_run(struct judge_policy *policy, unsigned long packets);
__attribute__((noinline)) unsigned long micro_run(struct judge_policy *policy,
						  unsigned long packets)
{
	unsigned long accepted = 0;

	for (unsigned long i = 0; i < packets; i++)
		accepted += judge(policy, &messages[i % FLOWS]) == JUDGE_VERDICT_ACCEPT;
	return accepted;
}

static struct policy *load_policy(const char *path)
{
	struct policy_problems problems = {0};
	struct policy *policy = NULL;
	char *text = malloc(POLICY_MAX);
	FILE *file = fopen(path, "re");
	size_t length;

	if (!text || !file)
		return NULL;
	length = fread(text, 1, POLICY_MAX, file);
	fclose(file);
	if (policy_compile(text, length, &policy, &problems) < 0 && problems.count)
		fprintf(stderr, "%s: %s: %s\n", path, problems.list[0].pointer,
			problems.list[0].message);
	policy_problems_free(&problems);
	free(text);
	return policy;
}

int main(int argc, char **argv)
{
	struct judge_policy in_force = {.policy = argc == 3 ? load_policy(argv[1]) : NULL};
	const unsigned long packets = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	struct shm_rule *counters = calloc(NSGATE_RULES_MAX, sizeof(*counters));
	struct timespec from, to;
	unsigned long accepted;

	if (!in_force.policy || !counters || !packets ||
	    policy_state_init(&in_force.state, in_force.policy, counters) < 0) {
		fprintf(stderr, "usage: micro POLICY PACKETS\n");
		return 2;
	}
	for (unsigned int i = 0; i < FLOWS; i++)
		make_message(&messages[i], i);
	clock_gettime(CLOCK_MONOTONIC, &from);
	accepted = micro_run(&in_force, packets);
	clock_gettime(CLOCK_MONOTONIC, &to);
	if (accepted != packets) {
		fprintf(stderr, "micro: %lu of %lu packets accepted\n", accepted, packets);
		return 1;
	}
	printf("%.1f\n",
	       ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) /
		       (double)packets);
	policy_state_free(&in_force.state);
	policy_unref(in_force.policy);
	free(counters);
	return 0;
}
