/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel is told of a holding: the rules that its policy needs, also while no agent is
 * there. */
#ifndef NSGATE_ENFORCE_H
#define NSGATE_ENFORCE_H

#include "holding.h"

/*
 * Check a specification, put it in force and on record.
 * Return: 0; -EINVAL; else as rules_install(), and the rules before stay in force.
 */
int enforce_rules(struct holding *holding, const struct nsgate_rules_spec *spec);

/*
 * Put the rules that are on record in force. Where that fails now, the namespace is degraded, and
 * it is tried again until it succeeds.
 */
void enforce_record(struct holding *holding);

/* The bare installation, for a namespace that is not held yet. Return: as rules_install(). */
int enforce_install(int rules_fd, const struct nsgate_ns_record *record,
		    const struct nsgate_rules_spec *spec);

/* The agent went: after a while namespaces whose policy says open let everything pass. */
void enforce_agent_lost(void);

/* An agent serves again: their rules count again. */
void enforce_agent_back(void);

/* Milliseconds until enforce_tick() has something to do; -1: nothing. */
int enforce_timeout_ms(void);
void enforce_tick(void);

#endif
