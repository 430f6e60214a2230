// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Each running command has a number N. Its addresses are the two of the N-th /30 of 10.203.0.0/16
 * and of fd6e:7367:6174:N::/126; the host's end of the pair is called nsg<N>, its table of rules
 * nsgate-run-<N>. Numbers are chosen under a lock on the first byte of WIRE_LOCK: the first whose
 * link does not exist and whose /30 overlaps no route of the host but very wide ones.
 *
 * Nothing outlives a kill: the pair goes with the namespace, the table with the socket that owns
 * it (NFT_TABLE_F_OWNER without PERSIST). Only forwarding does. Who switches it on writes so into
 * the lock file; every wire keeps a shared lock on its second byte, and who is alone at its end
 * (the exclusive lock can be had) puts it back: after a kill, the next one does.
 *
 * IPv6 is not forwarded by this: switching that on makes a host ignore router advertisements, and
 * perhaps lose its own network. Where the host forwards already, the namespace has IPv6.
 */
#include "ctl/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/rtnetlink.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/route.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc.h"

#define NUMBERS 16384U			  /* of /30 in a /16 */
#define POOL_IPV4 0x0acb0000U		  /* 10.203.0.0 */
#define POOL_IPV6 "fd6e:7367:6174:%x::%u" /* RFC 4193; the middle spells "nsgat" */
#define WIDE_ROUTE_BITS 15 /* a shorter prefix is somebody's whole space, not a network in use */

#define INSIDE_LINK "eth0"
#define FORWARD_IPV4 "/proc/sys/net/ipv4/ip_forward"
#define FORWARD_IPV6 "/proc/sys/net/ipv6/conf/all/forwarding"
#define NOTE_SWITCHED_ON '1' /* in the lock file: IPv4 forwarding was off before us */

/* What the bytes of the lock file are locked for. */
enum lock { LOCK_CHANGE, LOCK_IN_USE };

enum end { END_HOST = 1, END_INSIDE = 2 }; /* the last number of its address */

/* ---- addresses ---- */

static void ipv6_text(unsigned int number, enum end end, char ret[INET6_ADDRSTRLEN])
{
	snprintf(ret, INET6_ADDRSTRLEN, POOL_IPV6, number, (unsigned int)end);
}

static uint32_t ipv4_of(unsigned int number, enum end end)
{
	return htonl(POOL_IPV4 + 4 * number + (unsigned int)end);
}

static struct nl_addr *address(int family, unsigned int number, enum end end)
{
	struct nl_addr *result = NULL;
	char text[INET6_ADDRSTRLEN];
	uint32_t ipv4 = ipv4_of(number, end);
	struct in6_addr ipv6;

	if (family == AF_INET) {
		result = nl_addr_build(AF_INET, &ipv4, sizeof(ipv4));
	} else {
		ipv6_text(number, end, text);
		if (inet_pton(AF_INET6, text, &ipv6) == 1)
			result = nl_addr_build(AF_INET6, &ipv6, sizeof(ipv6));
	}
	if (result != NULL)
		nl_addr_set_prefixlen(result, family == AF_INET ? 30 : 126);
	return result;
}

/* libnl-3's errors as errno, as far as the kernel's own go. */
static int to_errno(int err)
{
	switch (-err) {
	case NLE_SUCCESS:
		return 0;
	case NLE_PERM:
	case NLE_NOACCESS:
		return -EPERM;
	case NLE_NOMEM:
		return -ENOMEM;
	case NLE_EXIST:
		return -EEXIST;
	case NLE_OPNOTSUPP:
		return -EOPNOTSUPP;
	default:
		return -EIO;
	}
}

static int open_route(struct nl_sock **ret)
{
	struct nl_sock *route = nl_socket_alloc();
	int err = route != NULL ? nl_connect(route, NETLINK_ROUTE) : -NLE_NOMEM;

	if (err < 0) {
		nl_socket_free(route);
		return to_errno(err);
	}
	*ret = route;
	return 0;
}

static int set_up(struct nl_sock *route, int ifindex)
{
	struct rtnl_link *link = rtnl_link_alloc(), *change = rtnl_link_alloc();
	int err = -NLE_NOMEM;

	if (link != NULL && change != NULL) {
		rtnl_link_set_ifindex(link, ifindex);
		rtnl_link_set_flags(change, IFF_UP);
		err = rtnl_link_change(route, link, change, 0);
	}
	rtnl_link_put(link);
	rtnl_link_put(change);
	return to_errno(err);
}

static int index_of(struct nl_sock *route, const char *name)
{
	struct rtnl_link *link = NULL;
	int err = rtnl_link_get_kernel(route, 0, name, &link);
	int index = err < 0 ? to_errno(err) : rtnl_link_get_ifindex(link);

	rtnl_link_put(link);
	return index;
}

static int add_address(struct nl_sock *route, int ifindex, int family, unsigned int number,
		       enum end end)
{
	struct rtnl_addr *added = rtnl_addr_alloc();
	struct nl_addr *local = address(family, number, end);
	int err = -NLE_NOMEM;

	if (added != NULL && local != NULL) {
		rtnl_addr_set_ifindex(added, ifindex);
		err = rtnl_addr_set_local(added, local);
		/* Nobody else can have it: no time for duplicate address detection. */
		rtnl_addr_set_flags(added, family == AF_INET6 ? IFA_F_NODAD : 0);
		if (err == 0)
			err = rtnl_addr_add(route, added, 0);
	}
	nl_addr_put(local);
	rtnl_addr_put(added);
	return to_errno(err);
}

static int add_default_route(struct nl_sock *route, int ifindex, int family, unsigned int number)
{
	struct rtnl_route *added = rtnl_route_alloc();
	struct rtnl_nexthop *hop = rtnl_route_nh_alloc();
	struct nl_addr *gateway = address(family, number, END_HOST);
	struct nl_addr *all = nl_addr_alloc(0);
	int err = -NLE_NOMEM;

	if (added != NULL && hop != NULL && gateway != NULL && all != NULL) {
		nl_addr_set_family(all, family);
		nl_addr_set_prefixlen(gateway, family == AF_INET ? 32 : 128);
		rtnl_route_nh_set_ifindex(hop, ifindex);
		rtnl_route_nh_set_gateway(hop, gateway);
		rtnl_route_set_family(added, (uint8_t)family);
		rtnl_route_set_dst(added, all);
		rtnl_route_add_nexthop(added, hop); /* the route's from here on */
		hop = NULL;
		err = rtnl_route_add(route, added, NLM_F_CREATE);
	}
	if (hop != NULL)
		rtnl_route_nh_free(hop);
	nl_addr_put(all);
	nl_addr_put(gateway);
	rtnl_route_put(added);
	return to_errno(err);
}

/* ---- the host's side ---- */

static bool taken_by_route(struct nl_cache *routes, unsigned int number)
{
	uint32_t wanted = ntohl(ipv4_of(number, END_HOST));

	for (struct nl_object *each = nl_cache_get_first(routes); each != NULL;
	     each = nl_cache_get_next(each)) {
		struct nl_addr *to = rtnl_route_get_dst((struct rtnl_route *)each);
		unsigned int bits = to != NULL ? nl_addr_get_prefixlen(to) : 0;
		unsigned int apart = 32 - (bits < 30 ? bits : 30); /* of the wider one */
		uint32_t network;

		if (to == NULL || nl_addr_get_family(to) != AF_INET || bits <= WIDE_ROUTE_BITS ||
		    bits > 32 || nl_addr_get_len(to) != sizeof(network))
			continue;
		memcpy(&network, nl_addr_get_binary_addr(to), sizeof(network));
		if (((ntohl(network) ^ wanted) >> apart) == 0)
			return true;
	}
	return false;
}

static void name_link(struct wire *wire, unsigned int number)
{
	wire->number = number;
	snprintf(wire->link, sizeof(wire->link), "nsg%u", number);
}

/* Make the pair under the first number that is free. Under LOCK_CHANGE. */
static int make_pair(struct nl_sock *route, pid_t pid, struct wire *wire)
{
	struct nl_cache *routes = NULL;
	int err = rtnl_route_alloc_cache(route, AF_INET, 0, &routes);

	if (err < 0)
		return to_errno(err);
	err = -EEXIST;
	for (unsigned int number = 0; err == -EEXIST && number < NUMBERS; number++) {
		if (taken_by_route(routes, number))
			continue;
		name_link(wire, number);
		err = to_errno(rtnl_link_veth_add(route, wire->link, INSIDE_LINK, pid));
	}
	if (err != 0)
		wire->link[0] = '\0';
	nl_cache_free(routes);
	return err;
}

static bool is_on(const char *path)
{
	char value = '0';
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool on = fd >= 0 && read(fd, &value, 1) == 1 && value != '0';

	fd_close(&fd);
	return on;
}

static int switch_ipv4(bool on)
{
	int fd = open(FORWARD_IPV4, O_WRONLY | O_CLOEXEC);
	int err = fd >= 0 && write(fd, on ? "1" : "0", 1) == 1 ? 0 : -errno;

	fd_close(&fd);
	return err;
}

/* Under LOCK_CHANGE. */
static int forward_ipv4(const struct wire *wire)
{
	const char note = NOTE_SWITCHED_ON;

	if (is_on(FORWARD_IPV4))
		return 0;
	if (pwrite(wire->lock, &note, 1, 0) != 1)
		return -errno;
	return switch_ipv4(true);
}

static int masquerade(struct wire *wire)
{
	uint32_t inside = ipv4_of(wire->number, END_INSIDE);
	char ipv4[INET_ADDRSTRLEN], ipv6[INET6_ADDRSTRLEN], text[512];

	inet_ntop(AF_INET, &inside, ipv4, sizeof(ipv4));
	ipv6_text(wire->number, END_INSIDE, ipv6);
	wire->rules = nft_ctx_new(NFT_CTX_DEFAULT);
	if (wire->rules == NULL)
		return -ENOMEM;
	snprintf(text, sizeof(text),
		 "table inet nsgate-run-%u { flags owner; chain leave { "
		 "type nat hook postrouting priority srcnat; "
		 "ip saddr %s masquerade; ip6 saddr %s masquerade; }; }",
		 wire->number, ipv4, ipv6);
	nft_ctx_buffer_error(wire->rules);
	return nft_run_cmd_from_buffer(wire->rules, text) == 0 ? 0 : -EOPNOTSUPP;
}

static int raise_host_end(struct nl_sock *route, const struct wire *wire)
{
	int index = index_of(route, wire->link);
	int err = index < 0 ? index : add_address(route, index, AF_INET, wire->number, END_HOST);

	if (err == 0 && wire->has_ipv6)
		err = add_address(route, index, AF_INET6, wire->number, END_HOST);
	return err != 0 ? err : set_up(route, index);
}

/* @type: of fcntl(2). @command: F_OFD_SETLKW waits, F_OFD_SETLK does not. */
static int lock(const struct wire *wire, enum lock byte, short type, int command)
{
	struct flock range = {.l_type = type, .l_start = (off_t)byte, .l_len = 1};

	return fcntl(wire->lock, command, &range) == 0 ? 0 : -errno;
}

static enum nsgate_status open_lock(const char *runtime_dir, struct wire *wire,
				    struct failure *fail)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/" WIRE_LOCK, runtime_dir);
	wire->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (wire->lock >= 0 && lock(wire, LOCK_CHANGE, F_WRLCK, F_OFD_SETLKW) == 0 &&
	    lock(wire, LOCK_IN_USE, F_RDLCK, F_OFD_SETLKW) == 0)
		return NSGATE_STATUS_OK;
	return failure_set(
		fail, errno == EACCES ? NSGATE_STATUS_REFUSED : NSGATE_STATUS_UNREACHABLE,
		"%s: %s; run as root, with nsgate-broker running there", path, strerror(errno));
}

enum nsgate_status wire_up(const char *runtime_dir, pid_t pid, struct wire *ret,
			   struct failure *fail)
{
	struct nl_sock *route = NULL;
	const char *what = "veth pair";
	enum nsgate_status status;
	int err;

	*ret = WIRE_NONE;
	status = open_lock(runtime_dir, ret, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	err = open_route(&route);
	if (err == 0)
		err = make_pair(route, pid, ret);
	if (err == 0) {
		what = "addresses of the veth pair";
		ret->has_ipv6 = is_on(FORWARD_IPV6);
		err = raise_host_end(route, ret);
	}
	if (err == 0) {
		what = FORWARD_IPV4;
		err = forward_ipv4(ret);
	}
	if (err == 0) {
		what = "masquerade (nftables)";
		err = masquerade(ret);
	}
	nl_socket_free(route);
	lock(ret, LOCK_CHANGE, F_UNLCK, F_OFD_SETLK);
	if (err == 0)
		return NSGATE_STATUS_OK;
	return failure_set(fail, err == -EPERM ? NSGATE_STATUS_REFUSED : NSGATE_STATUS_FAILED,
			   "%s: %s; --network none needs none of it", what, strerror(-err));
}

/* Nobody else has a wire: put forwarding back, if one of us switched it on. */
static void restore_forwarding(const struct wire *wire)
{
	char note;

	if (lock(wire, LOCK_CHANGE, F_WRLCK, F_OFD_SETLKW) == 0 &&
	    lock(wire, LOCK_IN_USE, F_WRLCK, F_OFD_SETLK) == 0 &&
	    pread(wire->lock, &note, 1, 0) == 1 && note == NOTE_SWITCHED_ON &&
	    switch_ipv4(false) == 0 && ftruncate(wire->lock, 0) < 0)
		return; /* the note stays: the next one only switches off what is off */
}

void wire_down(struct wire *wire)
{
	struct nl_sock *route = NULL;
	struct rtnl_link *link = NULL;

	if (wire->link[0] != '\0' && open_route(&route) == 0) {
		if (rtnl_link_get_kernel(route, 0, wire->link, &link) == 0)
			rtnl_link_delete(route, link);
		rtnl_link_put(link);
		nl_socket_free(route);
	}
	if (wire->rules != NULL)
		nft_ctx_free(wire->rules);
	if (wire->lock >= 0)
		restore_forwarding(wire);
	fd_close(&wire->lock); /* and with it the locks */
	*wire = WIRE_NONE;
}

/* ---- inside ---- */

static int raise_inside_end(struct nl_sock *route, const struct wire *wire)
{
	static const int families[] = {AF_INET, AF_INET6};
	int index = index_of(route, INSIDE_LINK);
	int err = index < 0 ? index : 0;

	for (size_t i = 0; err == 0 && i < (wire->has_ipv6 ? 2 : 1); i++)
		err = add_address(route, index, families[i], wire->number, END_INSIDE);
	if (err == 0)
		err = set_up(route, index);
	for (size_t i = 0; err == 0 && i < (wire->has_ipv6 ? 2 : 1); i++)
		err = add_default_route(route, index, families[i], wire->number);
	return err;
}

int wire_inside(const struct wire *wire)
{
	struct nl_sock *route = NULL;
	int index, err = open_route(&route);

	if (err != 0)
		return err;
	index = index_of(route, "lo");
	err = index < 0 ? index : set_up(route, index);
	if (err == 0 && wire != NULL)
		err = raise_inside_end(route, wire);
	nl_socket_free(route);
	return err;
}
