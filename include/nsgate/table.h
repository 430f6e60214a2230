/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The names of our nftables tables: nsgate, or nsgate-XXXXXXXX (a number in hexadecimal) where
 * somebody else owns that. lib/table.c.
 */
#ifndef NSGATE_TABLE_H
#define NSGATE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#define NSGATE_TABLE "nsgate"
#define NSGATE_TABLE_NAME_MAX 16

void nsgate_table_name(char name[NSGATE_TABLE_NAME_MAX], uint32_t number);

/* Return: is it such a name? */
bool nsgate_table_number(const char *name, uint32_t *ret_number);

#endif
