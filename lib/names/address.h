/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_NAMES_ADDRESS_H
#define NSGATE_NAMES_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "pkt.h"

/*
 * Is the address one that no public name should have: private, of the loopback or the link, of
 * many, reserved, a cloud's metadata service, or one of these in the clothes of IPv6? RFC 6890, RFC
 * 6598, RFC 4193, RFC 6052, RFC 3056.
 */
bool names_address_is_private(uint8_t family, const struct pkt_addr *address);

#endif
