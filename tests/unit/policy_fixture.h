/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A compiled policy with its state, for the tests that decide packets. */
#ifndef NSGATE_TESTS_POLICY_FIXTURE_H
#define NSGATE_TESTS_POLICY_FIXTURE_H

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "nsgate/hook.h"
#include "nsgate/shm.h"
#include "policy/policy.h"

static struct shm_rule counters[NSGATE_RULES_MAX];

/* A policy with its state; the document may use ' for ". */
struct fixture {
	struct policy *policy;
	struct policy_state state;
};

static inline void open_text(struct fixture *fixture, const char *text, size_t length)
{
	struct policy_problems problems = {.count = 0};
	int err = policy_compile(text, length, &fixture->policy, &problems);

	if (err < 0)
		fail_msg("%s: %s", problems.count ? problems.list[0].pointer : "?",
			 problems.count ? problems.list[0].message : strerror(-err));
	memset(counters, 0, sizeof(counters));
	assert_int_equal(policy_state_init(&fixture->state, fixture->policy, counters), 0);
	fixture->state.now_ns = 1000000000;
}

static inline struct fixture open_policy(const char *text)
{
	struct fixture fixture;
	char *copy = strdup(text);

	assert_non_null(copy);
	for (char *c = copy; *c; c++)
		*c = *c == '\'' ? '"' : *c;
	open_text(&fixture, copy, strlen(copy));
	free(copy);
	return fixture;
}

static inline void close_policy(struct fixture *fixture)
{
	policy_state_free(&fixture->state);
	policy_unref(fixture->policy);
}

static inline struct policy_decision decide(struct fixture *fixture, const struct pkt *pkt)
{
	struct policy_decision decision;

	policy_decide(fixture->policy, &fixture->state, pkt, &decision);
	return decision;
}

static inline struct pkt tcp_to(const char *dst, uint16_t dport)
{
	struct pkt pkt = {
		.direction = PKT_DIRECTION_OUT,
		.hook = NSGATE_HOOK_OUT,
		.family = strchr(dst, ':') ? AF_INET6 : AF_INET,
		.protocol = IPPROTO_TCP,
		.ttl = 64,
		.length = 60,
		.have = PKT_HAVE_PORTS | PKT_HAVE_TCP_FLAGS,
		.tcp_flags = 0x02,
		.sport = 40000,
		.dport = dport,
	};

	assert_int_equal(inet_pton(pkt.family, dst, pkt.dst.bytes), 1);
	return pkt;
}

#endif
