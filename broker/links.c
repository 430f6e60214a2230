// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * One socket serves both the first dump and the notifications: RTM_NEWLINK means the same in both,
 * so they go through one handler and no order between them matters. After news were missed, by an
 * overrun (ENOBUFS) or for want of memory, all links are asked for anew. Those known before stay
 * known until the answer is complete, and stand behind those that it has confirmed.
 */
#include "broker/links.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <netlink/netlink.h>
#include <netlink/msg.h>
#include <netlink/route/link.h>
#include <netlink/route/rtnl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct links {
	struct nl_sock *socket;
	struct nsgate_link *list;
	unsigned int count;
	unsigned int confirmed; /* the first so many */
	bool changed;
	bool dump_done;
	bool missed;  /* there is news that is not in the list */
	bool renewed; /* asked for anew, and not all has come yet */
};

static struct nsgate_link *find_link(struct links *links, uint32_t ifindex)
{
	for (unsigned int i = 0; i < links->count; i++)
		if (links->list[i].ifindex == ifindex)
			return &links->list[i];
	return NULL;
}

static void confirm_link(struct links *links, struct nsgate_link *link)
{
	struct nsgate_link *place = &links->list[links->confirmed];
	const struct nsgate_link moved = *link;

	if (link < place)
		return;
	*link = *place;
	*place = moved;
	links->confirmed++;
}

/* Return: NULL where there is no room for one more. */
static struct nsgate_link *append_link(struct links *links)
{
	struct nsgate_link *list;

	if (links->count == NSGATE_LINKS_MAX)
		return NULL;
	list = realloc(links->list, (links->count + 1) * sizeof(*list));
	if (!list) {
		links->missed = true;
		return NULL;
	}
	links->list = list;
	return &list[links->count++];
}

static void set_link(struct links *links, uint32_t ifindex, const char *name)
{
	struct nsgate_link *link = find_link(links, ifindex);
	const bool known = link && strncmp(link->name, name, sizeof(link->name)) == 0;

	if (!link)
		link = append_link(links);
	if (!link)
		return;
	if (!known) {
		memset(link, 0, sizeof(*link));
		link->ifindex = ifindex;
		strncpy(link->name, name, sizeof(link->name) - 1);
		links->changed = true;
	}
	confirm_link(links, link);
}

static void unset_link(struct links *links, uint32_t ifindex)
{
	struct nsgate_link *link = find_link(links, ifindex);

	if (!link)
		return;
	if (link < &links->list[links->confirmed]) {
		*link = links->list[--links->confirmed];
		link = &links->list[links->confirmed];
	}
	*link = links->list[--links->count];
	links->changed = true;
}

static void take_link(struct nl_object *object, void *arg)
{
	struct links *links = arg;
	struct rtnl_link *link = (struct rtnl_link *)object;
	uint32_t ifindex = (uint32_t)rtnl_link_get_ifindex(link);

	if (nl_object_get_msgtype(object) == RTM_DELLINK)
		unset_link(links, ifindex);
	else if (rtnl_link_get_name(link))
		set_link(links, ifindex, rtnl_link_get_name(link));
}

static int take_news(struct nl_msg *message, void *arg)
{
	struct links *links = arg;

	if (nl_msg_parse(message, take_link, links) == -NLE_NOMEM)
		links->missed = true;
	return NL_OK;
}

static int take_done(struct nl_msg *message, void *arg)
{
	struct links *links = arg;

	(void)message;
	links->dump_done = true;
	return NL_STOP;
}

static int dump_links(struct links *links)
{
	int err = nl_rtgen_request(links->socket, RTM_GETLINK, AF_UNSPEC, NLM_F_DUMP);

	links->dump_done = false;
	while (err >= 0 && !links->dump_done)
		err = nl_recvmsgs_default(links->socket);
	if (links->missed || err == -NLE_NOMEM)
		return -ENOMEM;
	return err < 0 ? -EIO : 0;
}

struct links *links_open(int route_fd)
{
	struct links *links = calloc(1, sizeof(*links));
	int err, fd = -1;

	if (!links)
		return NULL;
	links->socket = nl_socket_alloc();
	fd = fcntl(route_fd, F_DUPFD_CLOEXEC, 3); /* libnl closes the one it is given */
	if (!links->socket || fd < 0 || nl_socket_set_fd(links->socket, NETLINK_ROUTE, fd) < 0) {
		if (fd >= 0)
			close(fd);
		goto fail;
	}
	nl_socket_disable_seq_check(links->socket);
	nl_socket_disable_auto_ack(links->socket);
	nl_socket_modify_cb(links->socket, NL_CB_VALID, NL_CB_CUSTOM, take_news, links);
	nl_socket_modify_cb(links->socket, NL_CB_FINISH, NL_CB_CUSTOM, take_done, links);
	err = nl_socket_add_membership(links->socket, RTNLGRP_LINK) < 0 ? -EIO : dump_links(links);
	if (!err && nl_socket_set_nonblocking(links->socket) < 0)
		err = -EIO;
	errno = -err;
	if (!err)
		return links;
fail:
	links_close(links);
	return NULL;
}

void links_close(struct links *links)
{
	if (!links)
		return;
	nl_socket_free(links->socket);
	free(links->list);
	free(links);
}

int links_renew(struct links *links)
{
	/* The end of an answer that is still under way would be taken for that of the next one. */
	if (!links->dump_done ||
	    nl_rtgen_request(links->socket, RTM_GETLINK, AF_UNSPEC, NLM_F_DUMP) < 0)
		return -ENOMEM;
	links->confirmed = 0;
	links->dump_done = false;
	links->missed = false;
	links->renewed = true;
	return 0;
}

/* The answer is complete: what it did not confirm is gone. */
static void end_renewal(struct links *links)
{
	links->renewed = false;
	links->count = links->confirmed;
	links->changed = true;
}

int links_update(struct links *links)
{
	int err;

	links->changed = false;
	do
		err = nl_recvmsgs_default(links->socket);
	while (err >= 0 && !links->dump_done);
	if (err == -NLE_NOMEM || err == -NLE_DUMP_INTR) /* also ENOBUFS */
		links->missed = true;
	else if (err < 0 && err != -NLE_AGAIN)
		return -EIO;
	if (links->missed)
		return links->renewed ? -ENOMEM : links_renew(links);
	if (links->renewed && links->dump_done)
		end_renewal(links);
	return links->dump_done && links->changed;
}

const struct nsgate_link *links_list(const struct links *links, unsigned int *ret_count)
{
	*ret_count = links->count;
	return links->list;
}
