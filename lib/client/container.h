/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asking docker and podman which process a container runs as. */
#ifndef NSGATE_CTL_CONTAINER_H
#define NSGATE_CTL_CONTAINER_H

#include <stdbool.h>
#include <sys/types.h>

#include "client/failure.h"

enum container_engine { CONTAINER_ENGINE_NONE, CONTAINER_ENGINE_DOCKER, CONTAINER_ENGINE_PODMAN };

struct container {
	char id[NSGATE_ID_MAX];
	char name[NSGATE_ID_MAX];
	char started[64]; /* when, as the engine writes it */
	pid_t pid;	  /* of its first process */
};

/*
 * Look up a running container by its name or id.
 * Return: OK; USAGE not a name; NOT_FOUND there is none, or it does not run; UNREACHABLE, REFUSED
 * or FAILED: the engine, each with the reason in `fail`.
 */
enum nsgate_status container_look_up(enum container_engine engine, const char *name,
				     struct container *ret, struct failure *fail);

/* Is it the same container, running since the same time as the same process? */
bool container_same(const struct container *a, const struct container *b);

#endif
