/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The network of `nsgatectl run`: a veth pair into a namespace, addresses, routes, masquerade. */
#ifndef NSGATE_CTL_WIRE_H
#define NSGATE_CTL_WIRE_H

#include <stdbool.h>
#include <sys/types.h>

#include "client/failure.h"

#define WIRE_LOCK "run.lock" /* in the runtime directory */

struct nft_ctx;

struct wire {
	unsigned int number;   /* which pair of addresses; unique among the running ones */
	bool has_ipv6;	       /* the host forwards IPv6, so the namespace is given an address */
	int lock;	       /* WIRE_LOCK, open as long as the wire is up; -1: none */
	struct nft_ctx *rules; /* owns the table of the masquerade, which ends with it */
	char link[16];	       /* the host's end */
};

#define WIRE_NONE ((struct wire){.lock = -1})

/*
 * The host's side: a veth pair whose other end is "eth0" in the namespace of process `pid`, its
 * address, masquerade for what comes from it, and IPv4 forwarding, which is switched on where it
 * is off.
 * @ret: wire_down()ed by the caller whatever the outcome
 * Return: OK, or the status with its reason in `fail`.
 */
enum nsgate_status wire_up(const char *runtime_dir, pid_t pid, struct wire *ret,
			   struct failure *fail);

/*
 * Inside the namespace: lo, and with `wire` (NULL: none) eth0, its addresses and default routes.
 * Return: 0 or -errno.
 */
int wire_inside(const struct wire *wire);

/* Remove the pair and the masquerade; the last to go puts forwarding back as it was found. */
void wire_down(struct wire *wire);

#endif
