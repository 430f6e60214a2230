// SPDX-License-Identifier: GPL-2.0-or-later
#include "caps.h"

#include <errno.h>
#include <stddef.h>
#include <sys/capability.h>

void caps_bound(void)
{
	for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++)
		if (cap != CAP_NET_ADMIN && cap_get_bound(cap) == 1)
			cap_drop_bound(cap);
}

static int reduce_to(cap_t now, cap_t wanted)
{
	const int differs = cap_compare(now, wanted);

	if (!CAP_DIFFERS(differs, CAP_PERMITTED) && !CAP_DIFFERS(differs, CAP_EFFECTIVE))
		return 0;
	return cap_set_proc(wanted) < 0 ? -errno : 0;
}

int caps_keep_net_admin(void)
{
	static const cap_value_t kept = CAP_NET_ADMIN;
	cap_t now = cap_get_proc();
	cap_t wanted = cap_init();
	cap_flag_value_t has = CAP_CLEAR;
	int err = -ENOMEM;

	if (now && wanted && cap_get_flag(now, kept, CAP_PERMITTED, &has) == 0 &&
	    cap_set_flag(wanted, CAP_PERMITTED, 1, &kept, has) == 0 &&
	    cap_set_flag(wanted, CAP_EFFECTIVE, 1, &kept, has) == 0)
		err = reduce_to(now, wanted);
	cap_free(now);
	cap_free(wanted);
	return err;
}
