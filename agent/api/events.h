/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Readers of GET /v1/events?netns=NAME&verdict=VERDICT. One JSON object a line:
 *
 *   {"event":"packet","time","netns","policy","generation","rule","verdict","would_drop"?,
 *    "direction","family","protocol","src","dst","sport"?,"dport"?,"icmp_type"?,"icmp_code"?,
 *    "length"}          `rule` is "default" for the policy's default, null where not known any more
 *          a packet that several rules log is as many events. VERDICT is accept, drop, reject,
 *          queue, or would_drop (with "would_drop":true): an audit let it pass. Who asks for
 *          accept gets these, too
 *   {"event":KIND,"time","netns"?,"detail"}          of the control thread; not with ?verdict=
 *   {"event":"lost","count":N}          so many were lost here because the reader was slow
 */
#ifndef NSGATE_API_EVENTS_H
#define NSGATE_API_EVENTS_H

int api_events_start(void); /* 0 or -errno */
void api_events_end(void);  /* end every stream; the daemon stops after it */
void api_events_stop(void); /* after the daemon stopped */

int api_events_fd(void); /* an epoll fd: readable means call api_events_run() */
void api_events_run(void);

#endif
