/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * The kernel's rules and the agent talk about a packet's flow through two 32-bit marks.
 *
 * The packet mark (skb mark). Its top byte is nsgate's between the chain that queues a packet
 * ("judge_*") and the chain that settles its fate ("settle_*", a later priority of the same
 * hook). The judge chain clears the byte first, so nothing a container sets by SO_MARK counts.
 * Then it says what conntrack knows of the flow; the agent answers in the same byte; the settle
 * chain acts on the answer and clears the byte again. The lower 24 bits belong to the policy
 * ("mark") and to the namespace.
 *
 * The connection mark (ct mark). Its upper half is nsgate's: which directions of the policy
 * accepted the flow's first packet, and the policy generation that did. A flow is "known" in a
 * hook when the generation is the one in force there and the bit of that hook's direction is
 * set; for packets of the reply direction it is the bit of the opposite direction. Prerouting and
 * postrouting borrow a bit that no named hook reads (rules_remember_bit()). A new policy
 * means a new generation, hence no known flows, by replacing rules in place. The lower half
 * belongs to the namespace.
 *
 * A denied packet bears a mark that is a number as a whole, as it goes nowhere any more.
 */
#ifndef NSGATE_MARK_H
#define NSGATE_MARK_H

#include <assert.h>

#define NSGATE_MARK_MASK 0xff000000U

/* Kernel to agent. */
#define NSGATE_MARK_NEW 0x01000000U   /* conntrack state new */
#define NSGATE_MARK_REPLY 0x02000000U /* conntrack direction reply */
#define NSGATE_MARK_KNOWN 0x04000000U /* flow accepted under the generation in force */
#define NSGATE_MARK_STALE 0x08000000U /* flow accepted under an earlier generation */
/*
 * Queued where it may pass without a verdict. The agent clears it, so what still has it in the
 * settle chain was let pass by the kernel: nobody was bound to the queue, or it was overloaded.
 */
#define NSGATE_MARK_UNJUDGED 0x40000000U

/* Agent to kernel. */
#define NSGATE_MARK_REMEMBER 0x10000000U /* accepted: note it in the connection mark */
#define NSGATE_MARK_REJECT 0x20000000U	 /* TCP reset or ICMP unreachable, then drop */

/*
 * Agent to kernel, the whole mark of a packet that is sent round its hook again (NF_REPEAT): drop
 * it, and note its flow as denied. The judge chain does so before it clears the byte. Wherever else
 * it may come up it has the bit of a rejection, and is dropped by the settle chain.
 */
#define NSGATE_MARK_DENIED 0xa9c35e71U
static_assert(NSGATE_MARK_DENIED & NSGATE_MARK_REJECT &&
		      !(NSGATE_MARK_DENIED & NSGATE_MARK_UNJUDGED),
	      "wherever it comes up it is dropped, and is not taken for a packet let pass");

#define NSGATE_CTMARK_MASK 0xffff0000U
#define NSGATE_CTMARK_IN 0x80000000U
#define NSGATE_CTMARK_OUT 0x40000000U
#define NSGATE_CTMARK_FORWARD 0x20000000U
#define NSGATE_CTMARK_REJECTED 0x10000000U /* lets the reset or unreachable itself pass */
#define NSGATE_CTMARK_GEN_MASK 0x0fff0000U
#define NSGATE_CTMARK_GEN_SHIFT 16
#define NSGATE_CTMARK_GEN_MAX 4095U /* generations run 1..4095 and wrap to 1 */

#endif
