// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdio.h>
#include <string.h>

#include "agent/api/request.h"
#include "name.h"

/* HEAD is answered wherever GET is. The methods of a path are next to each other. */
static const struct api_route routes[] = {
	/* method, path, handler, changes, takes a body */
	{"GET", "/v1/namespaces", api_get_namespaces, false, false},
	{"GET", "/v1/namespaces/*", api_get_namespace, false, false},
	{"GET", "/v1/namespaces/*/stats", api_get_namespace_stats, false, false},
	{"PUT", "/v1/namespaces/*/policy", api_put_namespace_policy, true, true},
	{"GET", "/v1/stats", api_get_stats, false, false},
	{"GET", "/v1/policies", api_get_policies, false, false},
	{"POST", "/v1/policies:check", api_check_policy, false, true},
	{"GET", "/v1/policies/*", api_get_policy, false, false},
	{"PUT", "/v1/policies/*", api_put_policy, true, true},
	{"DELETE", "/v1/policies/*", api_delete_policy, true, false},
	{"GET", "/v1/events", api_get_events, false, false},
	{"GET", "/metrics", api_get_metrics, false, false},
	{"GET", "/healthz", api_get_health, false, false},
	{"GET", "/readyz", api_get_ready, false, false},
};

#define ROUTE_COUNT (sizeof(routes) / sizeof(routes[0]))

/* Does a path fit a pattern? `name` gets what the '*' stands for, which must be a valid name. */
static bool matches(const char *pattern, const char *path, char name[NSGATE_NAME_MAX])
{
	const char *star = strchr(pattern, '*');
	const size_t before = star ? (size_t)(star - pattern) : strlen(pattern);
	size_t length;

	name[0] = '\0';
	if (strncmp(pattern, path, before) != 0)
		return false;
	path += before;
	if (!star)
		return !*path;
	length = strcspn(path, "/");
	if (length >= NSGATE_NAME_MAX || strcmp(path + length, star + 1) != 0)
		return false;
	memcpy(name, path, length);
	name[length] = '\0';
	return name_valid(name);
}

unsigned int api_route_find(struct api_request *request, const char *method, const char *path)
{
	unsigned int status = MHD_HTTP_NOT_FOUND;
	char name[NSGATE_NAME_MAX];

	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	for (size_t i = 0; i < ROUTE_COUNT; i++) {
		if (!matches(routes[i].path, path, name))
			continue;
		if (strcmp(routes[i].method, method) == 0) {
			request->route = &routes[i];
			memcpy(request->name, name, sizeof(name));
			return 0;
		}
		status = MHD_HTTP_METHOD_NOT_ALLOWED;
	}
	return status;
}

void api_route_methods(const char *path, char *ret, size_t size)
{
	char name[NSGATE_NAME_MAX];
	size_t used = 0;

	ret[0] = '\0';
	for (size_t i = 0; i < ROUTE_COUNT && used < size; i++) {
		const char *method = routes[i].method;

		if (!matches(routes[i].path, path, name))
			continue;
		used += (size_t)snprintf(ret + used, size - used, "%s%s%s", used ? ", " : "",
					 method, strcmp(method, "GET") == 0 ? ", HEAD" : "");
	}
}
