// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nsgatectl metrics: the agent's metrics where Prometheus reads them: on standard output, in a file
 * for node_exporter's textfile collector, or over TCP. The agent has no network of its own, so what
 * listens is this: a program without privileges that may read api.sock and nothing else.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ipc.h"
#include "notify.h"
#include "client/problem.h"
#include "client/query.h"
#include "client/request.h"

#define METRICS_PATH "/metrics"
#define TEXT "text/plain; version=0.0.4; charset=utf-8" /* Prometheus' text format */
#define PORT_MAX 65535
#define CLIENTS_MAX 16
#define CLIENT_TIMEOUT_S 10

static enum nsgate_status read_metrics(const struct ctl *ctl, struct http_answer *ret,
				       struct failure *fail)
{
	const struct query query = {.method = "GET", .path = METRICS_PATH};
	enum nsgate_status status = query_answer(ctl, &query, ret, fail);

	if (status == NSGATE_STATUS_OK && problem_status(ret->code) != NSGATE_STATUS_OK)
		status = problem_read(ret->code, ret->body, ret->length, query.path, NULL, fail);
	return status;
}

/* ---- into a file ---- */

static enum nsgate_status cannot_write(const char *path, struct failure *fail)
{
	return failure_set(fail, errno == EACCES ? NSGATE_STATUS_REFUSED : NSGATE_STATUS_FAILED,
			   "%s: %s; check its directory", path, strerror(errno));
}

static int write_all(int fd, const char *data, size_t length)
{
	while (length > 0) {
		ssize_t written = write(fd, data, length);

		if (written < 0)
			return -1;
		data += written;
		length -= (size_t)written;
	}
	return 0;
}

/* By another name first: whoever collects must never see half of it. */
static enum nsgate_status write_file(const struct http_answer *answer, const char *path,
				     struct failure *fail)
{
	char other[4096];
	int fd, length = snprintf(other, sizeof(other), "%s.XXXXXX", path);

	if ((size_t)length >= sizeof(other)) {
		errno = ENAMETOOLONG;
		return cannot_write(path, fail);
	}
	fd = mkostemp(other, O_CLOEXEC);
	if (fd < 0)
		return cannot_write(path, fail);
	if (write_all(fd, answer->body, answer->length) < 0 || fchmod(fd, 0644) < 0 ||
	    rename(other, path) < 0) {
		enum nsgate_status status = cannot_write(path, fail);

		fd_close(&fd);
		unlink(other);
		return status;
	}
	fd_close(&fd);
	return NSGATE_STATUS_OK;
}

/* ---- over TCP ---- */

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned int code, char *text,
				   size_t length, enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(length, text, mode);
	enum MHD_Result done;

	if (response == NULL) {
		if (mode == MHD_RESPMEM_MUST_FREE)
			free(text);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, TEXT);
	done = MHD_queue_response(connection, code, response);
	MHD_destroy_response(response);
	return done;
}

/* A MHD_AccessHandlerCallback. */
static enum MHD_Result answer_request(void *context, struct MHD_Connection *connection,
				      const char *url, const char *method, const char *version,
				      const char *upload, size_t *upload_size, void **request)
{
	static char only_get[] = "only GET " METRICS_PATH " is here\n";
	struct http_answer answer = {0};
	struct failure fail = {0};
	enum MHD_Result done;

	(void)version;
	(void)upload;
	(void)request;
	*upload_size = 0;
	if (strcmp(url, METRICS_PATH) != 0)
		return answer_text(connection, MHD_HTTP_NOT_FOUND, only_get, sizeof(only_get) - 1,
				   MHD_RESPMEM_PERSISTENT);
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, only_get,
				   sizeof(only_get) - 1, MHD_RESPMEM_PERSISTENT);
	if (read_metrics(context, &answer, &fail) == NSGATE_STATUS_OK) {
		done = answer_text(connection, MHD_HTTP_OK, answer.body, answer.length,
				   MHD_RESPMEM_MUST_FREE);
		answer.body = NULL; /* the response's */
	} else {
		done = answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE, fail.text,
				   strlen(fail.text), MHD_RESPMEM_MUST_COPY);
	}
	http_answer_free(&answer);
	failure_free(&fail);
	return done;
}

/* ADDRESS:PORT, an IPv6 address in brackets. */
static enum nsgate_status listen_on(const char *text, int *ret, struct failure *fail)
{
	const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				       .ai_socktype = SOCK_STREAM};
	char host[INET6_ADDRSTRLEN] = "", port[6] = "", end;
	struct addrinfo *found = NULL;
	int fd = -1, on = 1;
	enum nsgate_status status;
	unsigned long number;
	bool done;

	if ((sscanf(text, "[%45[0-9a-fA-F:.]]:%5[0-9]%c", host, port, &end) != 2 &&
	     sscanf(text, "%45[0-9.]:%5[0-9]%c", host, port, &end) != 2) ||
	    request_number("--listen", port, 1, PORT_MAX, &number, fail) != NSGATE_STATUS_OK ||
	    getaddrinfo(host, port, &hints, &found) != 0)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "--listen: %s: not an address and a port; give them as "
				   "127.0.0.1:9469 or [::1]:9469",
				   text);
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	done = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	       bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, CLIENTS_MAX) == 0;
	freeaddrinfo(found);
	if (done) {
		*ret = fd;
		return NSGATE_STATUS_OK;
	}
	status = failure_set(fail, errno == EACCES ? NSGATE_STATUS_REFUSED : NSGATE_STATUS_FAILED,
			     "--listen: %s: %s; choose another address", text, strerror(errno));
	fd_close(&fd);
	return status;
}

/* Until SIGTERM or SIGINT. */
static enum nsgate_status serve(const struct ctl *ctl, const char *address, struct failure *fail)
{
	struct MHD_Daemon *daemon;
	enum nsgate_status status;
	sigset_t stop;
	int fd = -1, number;

	status = listen_on(address, &fd, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL); /* in the server's thread too */
	daemon = MHD_start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL,
				  answer_request, (void *)(uintptr_t)ctl, MHD_OPTION_LISTEN_SOCKET,
				  fd, MHD_OPTION_CONNECTION_LIMIT, CLIENTS_MAX,
				  MHD_OPTION_CONNECTION_TIMEOUT, CLIENT_TIMEOUT_S, MHD_OPTION_END);
	if (daemon == NULL) {
		fd_close(&fd);
		return failure_set(fail, NSGATE_STATUS_FAILED,
				   "--listen: the HTTP server did not start; raise ulimit -n");
	}
	notify_open();
	notify_send("READY=1");
	sigwait(&stop, &number);
	notify_send("STOPPING=1");
	MHD_stop_daemon(daemon); /* closes the socket */
	return NSGATE_STATUS_OK;
}

int ctl_metrics(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	const char *address = command_value(args, "listen"), *path = command_value(args, "output");
	struct http_answer answer = {0};
	enum nsgate_status status;

	if (address != NULL && path != NULL)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "metrics: --listen and --output exclude each other");
	if (address != NULL)
		return serve(ctl, address, fail);
	status = read_metrics(ctl, &answer, fail);
	if (status == NSGATE_STATUS_OK && path != NULL)
		status = write_file(&answer, path, fail);
	else if (status == NSGATE_STATUS_OK)
		fwrite(answer.body, 1, answer.length, stdout); /* main() looks for its errors */
	http_answer_free(&answer);
	return status;
}
