// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/audit.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "broker/broker.h"
#include "broker/enforce.h"
#include "log.h"
#include "loop.h"
#include "timer.h"

#define AUDIT_MS 500
#define NEWS_MAX 64 /* that are taken off a socket before others get their turn */

/*
 * What one look costs its namespace, and how much of that it may run into debt. It looks every
 * AUDIT_MS anyway, so on a machine where a look takes long one costs no more than that.
 */
#define LOOK_MS 10   /* at least */
#define LOOK_SHARE 5 /* times what it took */
#define LOOK_DEBT_MS 500

static void look_at_all(struct timer *timer);
static void look_at_due(struct timer *timer);

static struct timer audit = {.due = look_at_all};
static struct timer next_look = {.due = look_at_due}; /* the earliest */

static int64_t cost_of_look(int64_t took_ms)
{
	const int64_t cost = took_ms * LOOK_SHARE;

	if (cost < LOOK_MS)
		return LOOK_MS;
	return cost < AUDIT_MS ? cost : AUDIT_MS;
}

static void look_at_rules(struct attachment *attachment)
{
	const int64_t began = loop_now_ms();

	attachment->look_due = false;
	(void)enforce_audit(attachment);
	if (attachment->look_ms < began)
		attachment->look_ms = began;
	attachment->look_ms += cost_of_look(loop_now_ms() - began);
}

static void look_soon(struct attachment *attachment)
{
	const int64_t at = attachment->look_ms - LOOK_DEBT_MS;

	if (at <= loop_now_ms()) {
		look_at_rules(attachment);
		return;
	}
	attachment->look_due = true;
	timer_set_by(&next_look, at);
}

/* Return: 0 or -errno where there will be no more of it. */
static int drop_news(int fd)
{
	char byte;

	for (int i = 0; i < NEWS_MAX; i++) {
		if (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0)
			continue;
		if (errno == EAGAIN)
			return 0;
		if (errno != ENOBUFS && errno != EINTR)
			return -errno;
	}
	return 0;
}

/* What changes after the news was taken off brings new news, so the look comes last. */
static void monitor_ready(struct loop_source *source, uint32_t events)
{
	struct attachment *attachment = loop_owner(source, struct attachment, monitor_source);
	int err = drop_news(source->fd);

	(void)events;
	if (err) {
		log_event(LOG_LEVEL_WARNING, "audit.deaf", "netns", attachment->record.name,
			  "error", log_errno(err), NULL);
		loop_remove(source);
	}
	look_soon(attachment);
}

/* The least room that the kernel gives: one message is enough to be woken by. */
int audit_watch(struct attachment *attachment)
{
	const int fd = attachment->netns.monitor, group = NFNLGRP_NFTABLES, room = 1;

	if (!broker_features.owned_tables && !timer_is_set(&audit))
		timer_set(&audit, loop_now_ms());
	if (fd < 0)
		return 0;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)) < 0 ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		return -errno;
	attachment->monitor_source.ready = monitor_ready;
	return loop_add(&attachment->monitor_source, fd, EPOLLIN);
}

static void look_at_due(struct timer *timer)
{
	(void)timer;
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		if (attachment->look_due)
			look_soon(attachment);
}

static void look_at_all(struct timer *timer)
{
	if (attachment_count())
		timer_set(timer, loop_now_ms() + AUDIT_MS);
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		look_at_rules(attachment);
}
