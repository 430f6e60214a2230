/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers in network byte order, wherever they lie. */
#ifndef NSGATE_PROTO_BYTES_H
#define NSGATE_PROTO_BYTES_H

#include <stdint.h>

static inline uint16_t bytes_16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t bytes_24(const uint8_t *at)
{
	return (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2];
}

static inline uint32_t bytes_32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | bytes_24(at + 1);
}

static inline void bytes_put_16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

#endif
