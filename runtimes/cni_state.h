/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the CNI plugin remembers between ADD and DEL.
 *
 * Theory of Operation
 *
 * A container may be added to several networks, or to one by several interfaces, and has one
 * network namespace all the same: it is attached at the first ADD and detached at the last DEL. So
 * there is a directory RUNTIME/cni/CONTAINERID for every container, with a file NETWORK:IFNAME for
 * every ADD; the file holds the policy that was asked for. The directory is made before the broker
 * is asked to attach and removed after it has detached: one that is empty stands for a detachment
 * that is still to be made. The runtime directory lives as long as the broker's own records do.
 *
 * Whoever works on a container holds a lock on its directory. Runtimes must not start two
 * operations on one container, but GC may meet a DEL.
 */
#ifndef NSGATE_CTL_CNI_STATE_H
#define NSGATE_CTL_CNI_STATE_H

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>

#include "runtimes/cni_error.h"

struct cni_state {
	int parent; /* RUNTIME/cni */
	int dir;    /* of the container, locked; -1: there is none */
	char container[NAME_MAX + 1];
};

#define CNI_STATE_NONE                                                                             \
	{                                                                                          \
		.parent = -1, .dir = -1                                                            \
	}

/*
 * Open a container's directory and lock it. `make`: make it where it is missing.
 * Return: OK, also where there is none and none is made (`dir` is -1); IO; AGAIN where there is no
 * runtime directory to make it in.
 */
enum cni_code cni_state_open(const char *runtime_dir, const char *container, bool make,
			     struct cni_state *ret, struct cni_error *error);

/* Unlock and close. The directory stays. */
void cni_state_close(struct cni_state *state);

/* Note an ADD. */
enum cni_code cni_state_put(const struct cni_state *state, const char *network, const char *ifname,
			    const char *policy, struct cni_error *error);

/* Forget one; it need not be there. */
enum cni_code cni_state_drop(const struct cni_state *state, const char *network, const char *ifname,
			     struct cni_error *error);

/* Is that one noted? */
bool cni_state_has(const struct cni_state *state, const char *network, const char *ifname);

/*
 * How many are noted, and the policy that one of them asked for, but for the one named ("": of
 * all).
 * @ret_policy: "" where there is no other
 */
unsigned int cni_state_count(const struct cni_state *state, const char *network, const char *ifname,
			     char ret_policy[NSGATE_NAME_MAX]);

/* Remove the directory, which must be empty, and close. */
void cni_state_remove(struct cni_state *state);

/*
 * Call `visit` for every ADD of a container on that network, in no order; it may drop it.
 */
void cni_state_each(const struct cni_state *state, const char *network,
		    void (*visit)(const struct cni_state *state, const char *ifname, void *context),
		    void *context);

/* The containers there are: a stream of RUNTIME/cni, NULL where there are none. */
DIR *cni_state_containers(const char *runtime_dir);

#endif
