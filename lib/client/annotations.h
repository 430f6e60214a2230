/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a container's annotations ask of nsgate. Never its labels or environment: images set those.
 */
#ifndef NSGATE_CTL_ANNOTATIONS_H
#define NSGATE_CTL_ANNOTATIONS_H

#include "client/failure.h"

struct json_object;

#define ANNOTATION_POLICY "io.nsgate.policy"
#define ANNOTATION_NAME "io.nsgate.name"

struct annotations {
	const char *policy; /* NULL: nothing is asked */
	const char *name;   /* NULL: not given */
};

/*
 * Read them from the object "annotations", which may be NULL. Others that begin as ours are
 * refused: a misspelt one must not let a container start without its policy.
 * @ret: points into the object
 * Return: OK, or USAGE with the reason in `fail`.
 */
enum nsgate_status annotations_read(struct json_object *object, struct annotations *ret,
				    struct failure *fail);

#endif
