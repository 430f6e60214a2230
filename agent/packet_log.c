// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/packet_log.h"

#include "agent/api/api.h"
#include "log.h"
#include "loop.h"
#include "agent/ns/ns.h"

static const char *verdict_name(const struct event *event)
{
	static const char *const names[POLICY_VERDICT_MAX] = {
		[POLICY_VERDICT_ACCEPT] = "accept",
		[POLICY_VERDICT_DROP] = "drop",
		[POLICY_VERDICT_REJECT] = "reject",
		[POLICY_VERDICT_QUEUE] = "queue",
	};

	if (event->would_drop)
		return "would_drop";
	return event->verdict < POLICY_VERDICT_MAX ? names[event->verdict] : NULL;
}

#define LOG_LINES_PER_SECOND 10 /* of one namespace's packets */
#define SUPPRESSED_MS 1000

static int64_t tell_at_ms; /* lines of some namespace are suppressed; 0: of none */

static void tell_suppressed(const struct ns *ns, unsigned int count)
{
	if (count)
		log_event(LOG_LEVEL_INFO, "packets.suppressed", "netns", ns->record.name, "count",
			  log_number(count), NULL);
}

int packet_log_timeout_ms(void)
{
	return tell_at_ms ? loop_left_ms(tell_at_ms) : -1;
}

/* The next line of a namespace says how many there would have been. Where none comes, this does. */
void packet_log_tick(void)
{
	const int64_t now = loop_now_ms();

	if (!tell_at_ms || tell_at_ms > now)
		return;
	tell_at_ms = 0;
	for (struct ns *ns = ns_first(); ns; ns = ns->next) {
		tell_suppressed(ns, log_suppressed(&ns->log_limit));
		if (ns->log_limit.suppressed)
			tell_at_ms = now + SUPPRESSED_MS;
	}
}

void packet_log_end(struct ns *ns)
{
	tell_suppressed(ns, ns->log_limit.suppressed);
	ns->log_limit.suppressed = 0;
}

static bool is_allowed(struct ns *ns, unsigned int *ret_suppressed)
{
	if (log_allowed(&ns->log_limit, LOG_LINES_PER_SECOND, ret_suppressed))
		return true;
	if (!tell_at_ms)
		tell_at_ms = loop_now_ms() + SUPPRESSED_MS;
	return false;
}

void packet_log(const struct event *event)
{
	struct ns *ns = ns_find_cookie(event->cookie);
	const struct policy_info *info = ns && ns->policy ? policy_info(ns->policy) : NULL;
	const char *rule = "default";
	unsigned int suppressed;

	api_event_packet(event);
	if (!ns || !is_allowed(ns, &suppressed))
		return;
	if (event->rule >= 0)
		rule = info && event->generation == ns->generation &&
				       (size_t)event->rule < info->rule_count
			       ? info->rules[event->rule].name
			       : NULL;
	log_event(LOG_LEVEL_INFO, "packet", "netns", ns->record.name, "verdict",
		  verdict_name(event), "rule", rule, "length", log_number(event->length),
		  "protocol", log_number(event->protocol), "sport",
		  event->has_ports ? log_number(event->sport) : NULL, "dport",
		  event->has_ports ? log_number(event->dport) : NULL, "suppressed",
		  suppressed ? log_number(suppressed) : NULL, NULL);
}
