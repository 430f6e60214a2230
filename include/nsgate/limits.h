/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bounds that more than one program must agree on. */
#ifndef NSGATE_LIMITS_H
#define NSGATE_LIMITS_H

#define NSGATE_NAME_MAX 64     /* namespace and policy names, with the NUL */
#define NSGATE_TARGET_MAX 256  /* what the operator typed as TARGET, with the NUL */
#define NSGATE_ID_MAX 256      /* a container as its runtime calls it, with the NUL */
#define NSGATE_LABELS_MAX 1024 /* "K=V\0K=V\0", all of them */
#define NSGATE_TEXT_MAX 512    /* an error text, with the NUL */
#define NSGATE_QUEUES_MAX 16   /* queues of one namespace */
#define NSGATE_LINKS_MAX 1024  /* links (interfaces) of one namespace told to the agent */
#define NSGATE_RULES_MAX 16384 /* rules of one policy */
#define NSGATE_POLICY_BYTES_MAX (1024 * 1024)
#define NSGATE_POLICY_DEPTH_MAX 16
#define NSGATE_IFPATTERNS_MAX 64 /* distinct interface patterns of one policy */

#endif
