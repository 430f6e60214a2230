/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * Packets that have to do with names, for lib/judge.c. A query is what goes to port 53 by UDP or
 * TCP, and on the loopback what goes to a resolver by whatever port, as others redirect it there.
 * What answers it comes the other way. Names are bound to addresses only by what a resolver of the
 * policy answers to a query that was accepted, by the link that the query left by.
 *
 * A query that passes is noted before its verdict is given, and an address is entered before that
 * of the answer; so nobody can be answered, or use an answer, too early.
 */
#ifndef NSGATE_NAMES_GATE_H
#define NSGATE_NAMES_GATE_H

#include "judge.h"
#include "names/names.h"

/* Is it a refusal that we made? Then *ret_mark is the mark that it is to have. */
bool gate_is_turned(struct judge_policy *judge, const struct judge_packet *packet,
		    uint32_t *ret_mark);

enum gate_kind {
	GATE_KIND_OTHER,
	GATE_KIND_QUERY,  /* gate_open() */
	GATE_KIND_ANSWER, /* gate_answer() */
};
enum gate_kind gate_kind(const struct judge_policy *judge, const struct judge_packet *packet);

enum gate_answer {
	GATE_ANSWER_PASS,    /* it is the answer to a query that was accepted */
	GATE_ANSWER_UNKNOWN, /* judge it as any other packet */
	GATE_ANSWER_DROP,    /* not in order: it will come again */
};
enum gate_answer gate_answer(struct judge_policy *judge, const struct judge_packet *packet);

/* The queries of a packet: one, or those of a segment. */
struct gate_queries {
	const uint8_t *data;
	size_t length; /* of `data`, what is not read yet */
	bool is_stream;
	struct names_flow flow;
	struct names_segment segment;
	struct dns_question question; /* the last one that was read */
	uint32_t count;		      /* that were read */
};

enum gate_queries_state {
	GATE_QUERIES_SOME,  /* gate_next() reads the first one */
	GATE_QUERIES_NONE,  /* none yet, or they were judged: packet->pkt.query says so */
	GATE_QUERIES_STRAY, /* not in order: it is to be dropped */
};
enum gate_queries_state gate_open(struct judge_policy *judge, struct judge_packet *packet,
				  struct gate_queries *ret);

/* Read the next query into packet->pkt. Return: false where there is none left. */
bool gate_next(struct judge_policy *judge, struct judge_packet *packet,
	       struct gate_queries *queries);

/* The query that was read last is accepted. */
void gate_accepted(struct judge_policy *judge, const struct judge_packet *packet,
		   const struct gate_queries *queries);

/* All of them are. */
void gate_close(struct judge_policy *judge, const struct gate_queries *queries);

/* The packet is refused. */
void gate_refused(struct judge_policy *judge);

/* Fill in what the remote address is called. */
void gate_look_up(struct judge_policy *judge, struct judge_packet *packet, struct pkt *pkt);

/* Is it a query by UDP that gate_turn() can turn round, and that nobody redirects? */
bool gate_is_datagram(const struct judge_packet *packet);

/*
 * Make of a query, to which the verdict is JUDGE_VERDICT_TURN, the packet that refuses it.
 * @ret_packet: NAMES_TURNED_BYTES
 * Return: its length, or 0 where the query is too long for it.
 */
size_t gate_turn(struct judge_policy *judge, const struct judge_packet *packet,
		 uint8_t *ret_packet);

#endif
