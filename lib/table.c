// SPDX-License-Identifier: GPL-2.0-or-later
#include "nsgate/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void nsgate_table_name(char name[NSGATE_TABLE_NAME_MAX], uint32_t number)
{
	if (number)
		snprintf(name, NSGATE_TABLE_NAME_MAX, NSGATE_TABLE "-%08" PRIx32, number);
	else
		snprintf(name, NSGATE_TABLE_NAME_MAX, NSGATE_TABLE);
}

bool nsgate_table_number(const char *name, uint32_t *ret_number)
{
	char same[NSGATE_TABLE_NAME_MAX];
	uint32_t number = 0;

	if (strcmp(name, NSGATE_TABLE) != 0 &&
	    sscanf(name, NSGATE_TABLE "-%08" SCNx32, &number) != 1)
		return false;
	nsgate_table_name(same, number);
	if (strcmp(name, same) != 0)
		return false;
	*ret_number = number;
	return true;
}
