/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>

#include "nsgate/hook.h"

const char *const nsgate_hook_names[NSGATE_HOOK_MAX] = {
	[NSGATE_HOOK_PREROUTING] = "prerouting",   [NSGATE_HOOK_IN] = "in",
	[NSGATE_HOOK_FORWARD] = "forward",	   [NSGATE_HOOK_OUT] = "out",
	[NSGATE_HOOK_POSTROUTING] = "postrouting",
};
static_assert(sizeof(nsgate_hook_names) / sizeof(nsgate_hook_names[0]) == NSGATE_HOOK_MAX,
	      "a name for every hook");
