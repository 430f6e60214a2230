/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rewriting of packets. No I/O, no allocation. */
#ifndef NSGATE_MANGLE_H
#define NSGATE_MANGLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pkt;

struct mangle {
	int16_t ttl;  /* TTL or hop limit; -1: leave */
	int16_t dscp; /* the six bits; ECN stays; -1: leave */
	/*
	 * The transport checksum was left to hardware (NFQA_SKB_CSUMNOTREADY). The kernel takes a
	 * rewritten packet for finished, so it is filled in here. Otherwise it is not touched: a
	 * sender's wrong checksum must stay wrong.
	 */
	bool fill_checksum;
};

/*
 * Rewrite `packet`, whole and parsed as `pkt`, in place; its length does not change.
 * @packet: aligned to 4 bytes
 * Return: 0; -EBADMSG where its lengths contradict each other; -EPROTONOSUPPORT where the
 * checksum of its transport protocol cannot be filled in. The packet must not be sent then.
 */
int mangle_packet(uint8_t *packet, size_t length, const struct pkt *pkt,
		  const struct mangle *mangle);

#endif
