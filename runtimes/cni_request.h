/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a container runtime asks of the CNI plugin: variables of the environment, and the network
 * configuration on the standard input (CNI specification 1.1.0, sections 1 to 3).
 */
#ifndef NSGATE_CTL_CNI_REQUEST_H
#define NSGATE_CTL_CNI_REQUEST_H

#include <stdbool.h>

#include "runtimes/cni_error.h"

struct json_object;

enum cni_command {
	CNI_COMMAND_ADD,
	CNI_COMMAND_DEL,
	CNI_COMMAND_CHECK,
	CNI_COMMAND_STATUS,
	CNI_COMMAND_GC,
	CNI_COMMAND_VERSION,
	CNI_COMMAND_MAX
};

struct cni_request {
	enum cni_command command;
	const char *container, *netns, *ifname; /* NULL where the command needs none */
	const char *args;			/* CNI_ARGS; "" where there are none */

	struct json_object *document; /* owns what is below */
	const char *version;
	const char *network;
	const char *policy; /* NULL: this container gets none */
	const char *runtime_dir;
	struct json_object *previous; /* prevResult; NULL: none */
	struct json_object *valid;    /* cni.dev/valid-attachments */
};

#define CNI_VERSION_NEWEST "1.1.0"

/* The versions of the specification that are spoken, as a new array of JSON. */
struct json_object *cni_versions(void);

/*
 * Read both and check all that can be checked without asking anybody.
 * @ret: zeroed by the caller, cni_request_free()d by the caller whatever the outcome; its version
 *	 is set, at the latest to the newest one
 */
enum cni_code cni_request_read(struct cni_request *ret, struct cni_error *error);

void cni_request_free(struct cni_request *request);

/* The name under which a container is attached: its id, or where that is too long, what is left. */
void cni_request_name(const char *container, char ret[NSGATE_NAME_MAX]);

/* The value of `key` in CNI_ARGS ("K=V;K=V"), its length in *ret_length; NULL: it is not there. */
const char *cni_request_arg(const struct cni_request *request, const char *key, int *ret_length);

#endif
