/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A segment of TCP becomes a reset for whoever it was to. No I/O, no allocation. */
#ifndef NSGATE_RESET_H
#define NSGATE_RESET_H

#include <stddef.h>
#include <stdint.h>

struct pkt;

#define RESET_BYTES_MAX 60 /* IPv6 and TCP without options */

/*
 * Make a reset of the `caplen` bytes of a segment that were copied and parsed as `pkt`. It has the
 * segment's addresses, ports and sequence number, and nothing else of it.
 * @ret: RESET_BYTES_MAX bytes, aligned to 4
 * Return: its length; 0 where the segment's sender would not send it again (an acknowledgement
 * alone), or where there is anything between the headers of IP and TCP.
 */
size_t reset_make(const uint8_t *segment, size_t caplen, const struct pkt *pkt, uint8_t *ret);

#endif
