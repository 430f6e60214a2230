/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The links (interfaces) of a namespace by index and name, kept fresh by rtnetlink's news. */
#ifndef NSGATE_LINKS_H
#define NSGATE_LINKS_H

#include "nsgate/proto.h"

struct links;

/*
 * Watch the links of the namespace in which `route_fd` (NETLINK_ROUTE; stays the caller's) was
 * opened. The links of now are known when this returns.
 * Return: NULL with errno set.
 */
struct links *links_open(int route_fd);
void links_close(struct links *links); /* takes NULL */

/*
 * The socket is readable: take in the news.
 * Return: 1 something changed, and all links are known; 0 nothing did; -ENOMEM some news was missed
 * and links_renew() is to be called in a while; another -errno where the socket failed for good.
 */
int links_update(struct links *links);

/*
 * Ask for all links anew; links_update() returns 1 when they are known. Return: 0, or -ENOMEM where
 * it could not be asked: again in a while.
 */
int links_renew(struct links *links);

/* The links, at most NSGATE_LINKS_MAX. The array is the watcher's, valid until the next update. */
const struct nsgate_link *links_list(const struct links *links, unsigned int *ret_count);

#endif
