/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of the rules belongs to the socket that made it: nobody else in the namespace can
 * change it. It outlives that socket, but then it is anybody's until a new owner adopts it. The
 * other socket is always nft's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/nft/rules.h"
#include "nsgate/hook.h"
#include "platform.h"

static int install(int fd, uint32_t generation)
{
	struct rules_queues queues = {
		.backend = platform_backend(), .owned = true, .first = 0, .count = 1};
	struct nsgate_rules_spec spec = {.hooks = NSGATE_HOOK_BIT(NSGATE_HOOK_OUT),
					 .generation = generation};

	return rules_install(fd, &queues, &spec);
}

static bool has_rules(void)
{
	return !platform_run("nft list chain inet nsgate judge_out | grep 'jump odd_out'");
}

static bool has_tables(unsigned int count)
{
	return !platform_run("test $(nft list tables | wc -l) = %u", count);
}

static void check_owned(void)
{
	struct rules_table_numbers numbers;
	int other = platform_netlink(-1);

	platform_ok(has_rules(), "an owned table can be read by others");
	platform_ok(platform_run("nft add rule inet nsgate judge_out accept"),
		    "nobody else adds a rule to it");
	platform_ok(platform_run("nft flush chain inet nsgate judge_out"),
		    "nobody else takes rules out of it");
	platform_ok(platform_run("nft 'add table inet nsgate { flags dormant; }'"),
		    "nobody else puts it to sleep");
	platform_ok(platform_run("nft delete table inet nsgate") && has_rules(),
		    "nobody else deletes it");
	platform_ok(!platform_run("nft flush ruleset") && has_rules(),
		    "a flush of the whole rule set leaves it out");
	platform_ok(install(other, 2) == 0 && has_rules() && has_tables(2),
		    "another owner gets a table of another name");
	platform_ok(rules_table_numbers(other, &numbers) == 0 && numbers.inet != 0,
		    "and is told which");
	platform_ok(install(other, 3) == 0 && has_tables(2), "which he finds again");
	platform_ok(rules_pause(other) == 0 && has_rules(), "pausing goes for his");
	platform_ok(rules_remove(other) == 0 && has_rules() && has_tables(1),
		    "removing goes for his");
	close(other);
}

/* The name is taken before the broker comes. */
static void check_taken(int fd)
{
	platform_must("nft add table inet nsgate");
	platform_must(
		"nft 'add chain inet nsgate judge_out { type filter hook input priority 1; }'");
	platform_must("nft add chain inet nsgate foreign");
	platform_ok(install(fd, 1) == 0 && has_rules(), "a table of that name is replaced");
	platform_ok(platform_run("nft list chain inet nsgate foreign"), "with all that it held");
	platform_ok(rules_remove(fd) == 0, "and removed");
}

int main(void)
{
	struct rules_features features;
	int owner, copy;

	platform_begin();
	owner = platform_netlink(-1);
	if (rules_probe(owner, &features) < 0)
		platform_fail("rules_probe");
	if (!features.owned_tables) {
		printf("skip - this kernel has no owned persistent tables\n");
		return 77;
	}
	platform_ok(install(owner, 1) == 0, "an owned persistent table is made");
	check_owned();
	copy = dup(owner);
	close(owner);
	platform_ok(platform_run("nft delete table inet nsgate"), "a duplicate keeps it owned");
	close(copy);
	platform_ok(has_rules(), "it outlives its owner");

	owner = platform_netlink(-1);
	platform_ok(install(owner, 2) == 0, "a new owner adopts it");
	check_owned();
	close(owner);
	platform_ok(!platform_run("nft flush chain inet nsgate judge_out") && !has_rules(),
		    "while it has no owner, others can change it");
	owner = platform_netlink(-1);
	platform_ok(install(owner, 3) == 0 && has_rules(), "adoption puts the rules back");
	platform_ok(rules_remove(owner) == 0 && rules_remove(owner) == 0 && rules_pause(owner) == 0,
		    "its owner removes it; once more is no error");
	check_taken(owner);
	close(owner);
	return platform_end();
}
