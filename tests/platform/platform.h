/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the platform tests share. Each of them is a program that states facts about the kernel,
 * one line per fact ("ok - ..." or "not ok - ..."), in network namespaces of its own, and never
 * lasts longer than PLATFORM_SECONDS. It exits 0 where all facts hold, 1 where one does not, 77
 * where it may not make namespaces.
 */
#ifndef NSGATE_TESTS_PLATFORM_H
#define NSGATE_TESTS_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
/* In this order: the kernel's headers yield to what libc's have defined. */
#include <netinet/in.h>
#include <linux/netfilter.h>

#include "nsgate/flow.h"
#include "nsgate/proto.h"

/* NSGATE_TEST_SLOW in the environment multiplies them. */
#define PLATFORM_SECONDS (60 * platform_slow())
#define PLATFORM_WAIT_MS (3000 * (int)platform_slow()) /* for what has to happen */
#define PLATFORM_QUIET_MS 150			       /* for what must not happen */

/* How many times slower than others this machine is: 1 to 100. */
unsigned int platform_slow(void);

/* Move into a fresh network namespace, loopback up. Exits 77 without the privilege. */
void platform_begin(void);

/* State a fact. Return: `holds`. */
bool platform_ok(bool holds, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Return: what main() returns. */
int platform_end(void);

/* Give up, as something that is no fact under test went wrong (prints errno). */
void platform_fail(const char *what) __attribute__((noreturn));

/* Run a shell command, quietly. Return: its exit code. */
int platform_run(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* As platform_run(), for what has to succeed. */
void platform_must(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A further namespace, loopback up; the caller stays where it is. Return: descriptor of it. */
int platform_netns_new(void);
/* A descriptor of the namespace that the caller is in. */
int platform_netns_here(void);
void platform_netns_enter(int netns);
/* Return: a new socket of the namespace `netns` (-1: here); fails the test on error. */
int platform_socket(int netns, int family, int type, int protocol);
/* Return: a NETLINK_NETFILTER socket there, bound. */
int platform_netlink(int netns);

/*
 * Link the namespaces a and b: link `name` in both, 10.`net`.0.1 and .2, fd00:`net`::1 and ::2.
 */
void platform_link(int a, int b, const char *name, int net);

struct platform_packet {
	uint16_t number; /* of the queue, by which the id counts */
	uint32_t id;
	uint32_t mark;
	uint8_t hook;
	uint8_t version;  /* 4 or 6 */
	uint8_t protocol; /* IPPROTO_* of the first header after IPv4 or IPv6 */
	uint16_t sport, dport;
	uint8_t tcp_flags;
	uint8_t icmp_type, icmp_code;
	bool has_uid;
	uint32_t skbinfo; /* NFQA_SKB_* */
	size_t length;	  /* bytes copied */
};

struct platform_queue {
	int fd;
	uint16_t number; /* the first of NSGATE_FLOW_MAX in a row */
};

/* Bind the numbers from `number` on in the namespace `netns` (-1: here), by queue_setup(). */
void platform_queue_open(struct platform_queue *queue, int netns, uint16_t number);

/*
 * Wait for one packet.
 * Return: 1, 0 where none came in time, or the error of an NLMSG_ERROR that came instead.
 */
int platform_receive(const struct platform_queue *queue, struct platform_packet *ret,
		     int timeout_ms);

/* What the packet's number says of its flow. */
enum nsgate_flow platform_flow(const struct platform_queue *queue,
			       const struct platform_packet *packet);

/* Return: 0 or -errno of the send; a refusal comes by platform_receive(). `mark` may be NULL. */
int platform_verdict(const struct platform_queue *queue, const struct platform_packet *packet,
		     uint32_t verdict, const uint32_t *mark);
/* The same verdict for every packet up to `id` by number `number`. */
int platform_verdict_batch(const struct platform_queue *queue, uint16_t number, uint32_t id,
			   uint32_t verdict);

/* Return: the verdict (NF_*), with *mark changed to what is sent along. */
typedef uint32_t (*platform_judge)(const struct platform_packet *packet, uint32_t *mark,
				   void *data);

/*
 * Give verdicts until descriptor `until` is ready to read, write or in error as `events` says
 * (-1: never), at most for `timeout_ms`.
 * Return: was it?
 */
bool platform_serve(const struct platform_queue *queue, platform_judge judge, void *data, int until,
		    short events, int timeout_ms);

/*
 * Rules of nsgate in the namespace of `fd` by whatever the kernel has, an unowned table, that queue
 * under the numbers from 0 on.
 */
int platform_rules(int fd, uint32_t hooks, uint32_t flags, uint32_t generation);
int platform_rules_of(int fd, const struct nsgate_rules_spec *spec);
/* Add to a chain: such packets (`dport` 0: to any port) are queued under that number. */
void platform_queue_rule(int fd, const char *table, const char *chain, uint8_t protocol,
			 uint16_t dport, uint16_t number);
/* The mark by which these rules know an answer. */
uint32_t platform_answer(enum nsgate_answer answer);
/* Which queue expression that is. */
enum nsgate_backend platform_backend(void);

/* Loopback or `address` with `port`. */
struct sockaddr_storage platform_address(int family, const char *address, uint16_t port,
					 socklen_t *ret_length);
/* A UDP or TCP socket bound there (listening, for TCP). */
int platform_bound(int netns, int family, int type, const char *address, uint16_t port);
/* A non-blocking socket that is connected, or connecting, to there. */
int platform_connect(int netns, int family, int type, const char *address, uint16_t port);

/* Open nfnetlink_queue of the namespace that the caller is in. */
int platform_open_queue_stats(void);

/* Read a column (from 1) of the line of queue `number` in nfnetlink_queue; -1: no such line. */
long platform_queue_column(int proc_fd, uint16_t number, int column);

#endif
