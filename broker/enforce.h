/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel is told of an attachment: the rules that its policy needs, also while no agent is
 * there. */
#ifndef NSGATE_ENFORCE_H
#define NSGATE_ENFORCE_H

#include "broker/attachment.h"
#include "broker/nft/rules.h"

#define ENFORCE_NO_GUARD                                                                           \
	"this kernel cannot guard what leaves by a link: take \"strict\" out of the policy, or "   \
	"use Linux 5.16 or later with CONFIG_NETFILTER_EGRESS, CONFIG_NF_TABLES_NETDEV and "       \
	"CONFIG_IP_ROUTE_CLASSID"

/*
 * Check a specification, put it in force and on record.
 * Return: 0; -EINVAL; -ENOSYS: strict, and this kernel cannot; else as rules_install(), and the
 * rules before stay in force.
 */
int enforce_rules(struct attachment *attachment, const struct nsgate_rules_spec *spec);

/*
 * Put the rules that are on record in force. Where that fails now, the namespace is degraded, and
 * it is tried again until it succeeds. The first time, it is told if somebody had changed them
 * while no broker watched.
 */
void enforce_record(struct attachment *attachment);

/*
 * Note on disk that the rules are about to change: a broker that comes after one that died
 * meanwhile does not take that for tampering. What changes them by other ways than enforce_rules()
 * calls it.
 */
void enforce_changing(const struct attachment *attachment);

/*
 * The bare installation of the rules on record, for a namespace that is not held yet.
 * @ret_state: had somebody changed them? Return: as enforce_rules().
 */
int enforce_install(int rules_fd, const struct nsgate_ns_record *record,
		    const struct rules_links *links, enum table_found *ret_state);

/*
 * Where tables cannot be owned (audit.h): are the rules still those that were installed? Else they
 * are put back, and that is told. Return: were they?
 */
bool enforce_audit(struct attachment *attachment);

/* Links have come, gone or been renamed. */
void enforce_links(struct attachment *attachment);

/* Another program took the queue that began at `before`, so the record names another now. */
void enforce_queue_moved(struct attachment *attachment, uint16_t before);

/* The agent went: after a while namespaces whose policy says open let everything pass. */
void enforce_agent_lost(void);

/* An agent serves again: their rules count again. */
void enforce_agent_back(void);

#endif
