// SPDX-License-Identifier: GPL-2.0-or-later
#include "packet_log.h"

#include "api.h"
#include "log.h"
#include "ns.h"

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

void packet_log(const struct event *event)
{
	struct ns *ns = ns_find_cookie(event->cookie);
	const struct policy_info *info = ns && ns->policy ? policy_info(ns->policy) : NULL;
	const char *rule = "default";
	unsigned int suppressed;

	api_event_packet(event);
	if (!ns || !log_allowed(&ns->log_limit, LOG_LINES_PER_SECOND, &suppressed))
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
