/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the HTTP API: one request, the table of routes that handle requests, and the ways to
 * answer. Control thread only.
 */
#ifndef NSGATE_API_REQUEST_H
#define NSGATE_API_REQUEST_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nsgate/limits.h"

struct api_change;
struct api_route;
struct jw;
struct policy_problems;

#define API_BODY_MAX NSGATE_POLICY_BYTES_MAX	/* bytes of a request's body: 413 above */
#define API_IDLE_S 30				/* a connection where nothing moves is closed */
#define API_HEADER_BYTES_MAX (32 * 1024)	/* memory for a request's headers */
#define API_IN_FLIGHT_MAX (128UL * 1024 * 1024) /* bytes of answers not yet sent: 503 above */
#define API_STREAMS_MAX 32			/* readers of /v1/events: 503 above */
#define API_STREAMS_KEPT 8			/* of them for those who may change things */
#define API_CHANGE_TIMEOUT_MS 30000		/* for the kernel to follow a change: 503 above */
#define API_READY_MS 2000			/* for the broker's sign of life: 503 above */

struct api_request {
	struct MHD_Connection *connection;
	const char *url; /* valid during the handler only */
	const struct api_route *route;
	char name[NSGATE_NAME_MAX]; /* the path's NAME; "" where its pattern has none */
	bool dispatched;

	/* What is already known to be wrong when the headers are read; answered after the body. */
	unsigned int refused; /* an HTTP status; 0: nothing */

	char *body; /* NUL-terminated once complete */
	size_t body_length, body_size;
	uint64_t body_seen; /* bytes that came, kept or not */

	struct api_change *change; /* what the request waits for; NULL: nothing */
	struct {
		struct api_request *next;
		int64_t deadline_ms;
		bool waits; /* for the broker's sign of life (agent/api/ready.c) */
		bool suspended, alive;
	} ready;
};

typedef enum MHD_Result api_handler(struct api_request *request);

struct api_route {
	const char *method;
	const char *path; /* one '*' stands for a NAME */
	api_handler *handler;
	bool changes; /* asks for the permission to change */
	bool takes_body;
};

/* ---- the table (agent/api/route.c) ---- */

/*
 * Find the route of a method and path, and the path's NAME.
 * Return: 0 with request->route and name set; MHD_HTTP_NOT_FOUND or _METHOD_NOT_ALLOWED.
 */
unsigned int api_route_find(struct api_request *request, const char *method, const char *path);

/* "GET, HEAD, PUT": the methods of a path. */
void api_route_methods(const char *path, char *ret, size_t size);

api_handler api_get_namespaces, api_get_namespace, api_get_namespace_stats, api_get_stats,
	api_put_namespace_policy;
api_handler api_get_policies, api_get_policy, api_put_policy, api_delete_policy, api_check_policy;
api_handler api_get_events, api_get_metrics, api_get_health, api_get_ready;

/* ---- answers (agent/api/answer.c) ---- */

/* A further header of an answer. */
struct api_header {
	const char *name, *value;
};

/* Answer with malloc()ed data, which is taken over (NULL: no memory). */
enum MHD_Result api_answer(struct api_request *request, unsigned int status,
			   const char *content_type, char *data, size_t length,
			   const struct api_header *header);

/* Answer with what the writer holds, which is taken over. */
enum MHD_Result api_answer_json(struct api_request *request, unsigned int status, struct jw *w);

/* Answer with a copy of `data`. */
enum MHD_Result api_answer_copy(struct api_request *request, unsigned int status, const char *data,
				size_t length, const struct api_header *header);

enum MHD_Result api_answer_empty(struct api_request *request, const struct api_header *header);

/*
 * Answer with a problem document (RFC 9457).
 * @code: a stable word for scripts, such as "policy-in-use"
 */
enum MHD_Result api_problem(struct api_request *request, unsigned int status, const char *code,
			    const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The same for a document that is bad; each problem with its pointer. */
enum MHD_Result api_problem_list(struct api_request *request, const char *detail,
				 const struct policy_problems *problems);

/* A 405 with the methods that the path has. */
enum MHD_Result api_problem_method(struct api_request *request, const char *path);

/* A problem with one more header. */
enum MHD_Result api_problem_header(struct api_request *request, unsigned int status,
				   const char *code, const char *detail,
				   const struct api_header *header);

/* ---- what handlers ask ---- */

/* The value of a query parameter; NULL where it is absent. */
const char *api_query(const struct api_request *request, const char *key);

/*
 * Resume a suspended connection and have api_run() called soon: the library does so only in its
 * next run, and nothing on the connection's socket would cause one.
 */
void api_resume(struct MHD_Connection *connection);
bool api_resume_due(void);
void api_resume_done(void); /* api_run() comes now */

#endif
