/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the peers of the bench share: they enter a namespace, put rules in force that queue
 * everything there, bind its queue as the broker does, and count in a file that the bench maps.
 */
#ifndef NSGATE_BENCH_PEER_H
#define NSGATE_BENCH_PEER_H

#include <stdbool.h>
#include <stdint.h>

#define PEER_QUEUE 0
#define PEER_QUEUE_LENGTH 8192

struct peer_count { /* the file: one line of the cache, one writer */
	uint64_t accepted;
};

struct peer {
	struct peer_count *count;
};

/* argv: NETNS COUNT-FILE HOOKS (a mask). Ends the program where something is missing. */
void peer_start(struct peer *peer, int argc, char **argv);

/* Move into the namespace of that name. */
void peer_enter(const char *name);

/* Put the rules in force in this namespace, after the queue is bound. */
void peer_rules(uint32_t hooks);

/* Say on stdout that packets are welcome. */
void peer_ready(void);

/* The hooks of the command line. */
uint32_t peer_hooks(char **argv);

/* Set by SIGTERM and SIGINT, which interrupt blocking calls once a second at the latest. */
extern volatile bool peer_stop;

/* Size the receive buffer as the agent's is, set NETLINK_NO_ENOBUFS and a time limit for recv. */
void peer_buffer(int fd);

void peer_need(bool good, const char *what);

static inline void peer_accepted(struct peer *peer, uint64_t packets)
{
	__atomic_store_n(&peer->count->accepted, peer->count->accepted + packets, __ATOMIC_RELAXED);
}

#endif
