/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The names by which namespaces are known: those of `ip netns` and other bind mounts. The removal
 * of the name that a namespace was attached by is taken for its end.
 */
#ifndef NSGATE_NAMES_H
#define NSGATE_NAMES_H

#include "broker/enter.h"

/*
 * Watch `dir`, where `ip netns` keeps names, or, while it does not exist, its parent.
 * `removed` is told the last part of each name that goes, here or where names_follow() looks.
 * Return: 0 or -errno.
 */
int names_watch(const char *dir, void (*removed)(const char *name));
void names_close(void);

/* A name that is followed: nsgate-enter walks the way to its directory. */
struct names_follower {
	struct enter_pending pending;
	char *dir;
	/* `wd`: the watch, of all names in that directory one, or -errno. */
	void (*done)(struct names_follower *follower, int wd);
};

/* Watch the directory of `path` too. */
void names_follow(struct names_follower *follower, const char *path,
		  void (*done)(struct names_follower *follower, int wd));

/* Harmless where nothing was asked. */
void names_forget(struct names_follower *follower);

/* Nobody needs that watch any more. */
void names_unfollow(int wd);

#endif
