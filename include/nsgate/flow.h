/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * What the kernel's rules and the agent tell each other of a packet's flow. Neither the packet's
 * mark nor the connection's is used for it: both belong to the namespace, all 32 bits.
 *
 * **The kernel tells by the queue's number.** A queue is a row of numbers that one socket serves,
 * one for each thing that conntrack can know of a packet (enum nsgate_flow). Of several queues
 * that packets are spread over, number `first + flow * count + i` is that of queue i.
 *
 * **The kernel remembers by conntrack labels**, 128 bits of an entry that rules can set and test.
 * Setting only adds bits, so each generation of the policy has bits of its own, and the broker
 * clears them before a generation's number is used again (broker/conntrack.c). The lower 32 bits
 * belong to the namespace. Above them are:
 *
 *     32        the first packet seen was none that opens a flow, or the flow was established
 *               before the rules: its direction is a guess
 *     33..37    a packet of the original direction was let pass, by path: any policy
 *     38..127   the same, accepted by the policy of generation 1..18: five bits for each
 *
 * A path is a hook and the kind of link. A packet of a flow's original direction is known where
 * that direction was accepted by the same path; a reply is known where the original direction was
 * accepted by the path that answers take. So a flow that somebody opened over the loopback, with an
 * address that is not ours, is no licence for packets on a link.
 *
 * **The agent tells by the verdict.** To accept is to accept, and the rules that follow note the
 * flow. A rejection, and a denial that the kernel is to remember, go round the hook again
 * (NF_REPEAT) with a mark that says so; such a packet ends in the rules, so its mark need not be
 * restored. Where being accepted is not enough (a policy that hands packets to other programs, or
 * lets them pass without a verdict), the agent's mark "remember" says what to note, for packets
 * that have no mark of their own. The three marks are numbers of the namespace, made of its cookie.
 * Whoever sets one by himself has his own packets rejected, denied, or dropped.
 */
#ifndef NSGATE_FLOW_H
#define NSGATE_FLOW_H

#include <stdint.h>

enum nsgate_flow {
	NSGATE_FLOW_NEW,	  /* original direction, conntrack state new */
	NSGATE_FLOW_ORIGINAL,	  /* original direction, established, not accepted yet */
	NSGATE_FLOW_KNOWN,	  /* original direction, accepted under the generation in force */
	NSGATE_FLOW_UNSURE,	  /* as ORIGINAL, but which direction it is, is a guess */
	NSGATE_FLOW_REPLY,	  /* reply direction of a flow that came by another path */
	NSGATE_FLOW_REPLY_KNOWN,  /* reply of a flow accepted under the generation in force */
	NSGATE_FLOW_REPLY_STALE,  /* reply of a flow let pass, under whichever policy */
	NSGATE_FLOW_REPLY_UNSURE, /* reply direction, which may be a guess */
	NSGATE_FLOW_EXPECTED,	  /* first packet of a connection that another one announced */
	NSGATE_FLOW_ERROR,	  /* an ICMP error about a flow that is not known */
	NSGATE_FLOW_ERROR_KNOWN,  /* about one that is */
	NSGATE_FLOW_INVALID,	  /* conntrack state invalid */
	NSGATE_FLOW_UNTRACKED,	  /* conntrack was told to look away */
	NSGATE_FLOW_MAX
};

#define NSGATE_LOOPBACK_INDEX 1 /* of lo in every namespace: include/net/net_namespace.h */

/* How a packet passes a hook. Prerouting counts as in, postrouting as out. */
enum nsgate_path {
	NSGATE_PATH_IN_LINK, /* came by a link */
	NSGATE_PATH_IN_LOOP, /* came by the loopback */
	NSGATE_PATH_OUT_LINK,
	NSGATE_PATH_OUT_LOOP,
	NSGATE_PATH_FORWARD,
	NSGATE_PATH_MAX
};

#define NSGATE_GENERATION_MAX 18U /* generations run 1..18 and wrap to 1 */

#define NSGATE_LABEL_BITS 128
#define NSGATE_LABEL_UNSURE 32U
#define NSGATE_LABEL_PASSED(path) (33U + (path))
#define NSGATE_LABEL_ACCEPTED(generation, path) (33U + 5U * (generation) + (path))

/* The marks of an answer. Never 0. */
enum nsgate_answer {
	NSGATE_ANSWER_REJECT,	/* NF_REPEAT: TCP reset or ICMP unreachable, then drop */
	NSGATE_ANSWER_DENY,	/* NF_REPEAT: drop, and note the flow as denied */
	NSGATE_ANSWER_REMEMBER, /* NF_ACCEPT: note the flow as accepted, clear the mark */
	NSGATE_ANSWER_TURNED,	/* NF_REPEAT: queue it if it is for an address of ours, else drop */
	NSGATE_ANSWER_MAX
};

/* The mark of an answer in the namespace of that cookie (SO_NETNS_COOKIE). lib/flow.c. */
uint32_t nsgate_answer_mark(uint64_t cookie, enum nsgate_answer answer);

/* Which of a queue's numbers says that: to be added to that of the queue itself. */
static inline uint16_t nsgate_flow_offset(enum nsgate_flow flow, uint16_t queue_count)
{
	return (uint16_t)((uint16_t)flow * queue_count);
}

#endif
