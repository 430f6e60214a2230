// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The API over real sockets: server and clients take turns in this one thread, so the order of
 * things is the test's. The table of namespaces is a stub that holds one, "web".
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/agent.h"
#include "agent/api/api.h"
#include "agent/api/request.h"
#include "agent/broker_link.h"
#include "agent/ns/ns.h"
#include "agent/ns/policy.h"
#include "agent/store/store.h"
#include "block_fixture.h"
#include "ipc.h"
#include "log.h"
#include "policy/policy.h"

#define NOBODY 65534
#define ADMIN 12345
#define GOOD "{\"version\":1,\"rules\":[{\"name\":\"a\",\"action\":\"accept\"}]}"

/* ---- the stub of the namespaces ---- */

struct agent_status agent_status;
const char *const ns_state_names[NS_STATE_MAX] = {"attached", "orphaned", "degraded"};

static bool broker_knows_ping;
static void (*pinged)(bool alive);

static struct ns web;
static union block_fixture memory;
static struct shm_queue *const block = &memory.block;
static size_t users; /* of every policy */

static struct {
	bool later;	 /* `done` is called by the test */
	uint32_t status; /* what comes of changes */
	struct ns_change *waiting;
	unsigned int calls;
	struct policy *policy;
} changes;

struct ns *ns_first(void)
{
	return &web;
}

struct ns *ns_find(const char *name)
{
	return strcmp(name, "web") == 0 ? &web : NULL;
}

struct ns *ns_find_cookie(uint64_t cookie)
{
	return cookie == web.record.cookie ? &web : NULL;
}

bool broker_link_ping(void (*answered)(bool alive))
{
	pinged = answered;
	return broker_knows_ping;
}

size_t ns_count(void)
{
	return 1;
}

size_t ns_count_policy(const char *policy)
{
	(void)policy;
	return users;
}

static void finish_change(struct ns_change *change)
{
	change->status = changes.status;
	change->generation = 42;
	if (changes.status)
		strcpy(change->text, "the broker is away: start nsgate-broker");
	change->done(change, change->context);
}

void ns_policy_changed(const char *name, struct policy *policy, struct ns_change *change)
{
	(void)name;
	changes.calls++;
	changes.policy = policy;
	if (changes.later)
		changes.waiting = change;
	else
		finish_change(change);
}

void ns_rebind(struct ns *ns, const char *policy_name, struct policy *policy,
	       struct ns_change *change)
{
	snprintf(ns->record.policy, sizeof(ns->record.policy), "%s", policy_name);
	ns_policy_changed(policy_name, policy, change);
}

int queue_kernel_read(int proc_fd, uint16_t number, uint16_t stride, struct queue_kernel *ret)
{
	(void)proc_fd;
	(void)number;
	(void)stride;
	(void)ret;
	return -ENOENT;
}

/* ---- server and clients ---- */

static char root[64], api_path[96], stats_path[96];
static int api_listen_fd, stats_listen_fd;

static int setup(void **state)
{
	static const struct daemon_admins admins = {.uids = {ADMIN}, .count = 1};
	struct api_config config = {.admins = &admins};

	(void)state;
	strcpy(root, "/tmp/nsgate-api-XXXXXX");
	if (!mkdtemp(root) || chmod(root, 0755) < 0)
		return -1;
	snprintf(api_path, sizeof(api_path), "%s/api.sock", root);
	snprintf(stats_path, sizeof(stats_path), "%s/stats.sock", root);
	memset(&web, 0, sizeof(web));
	memset(&changes, 0, sizeof(changes));
	agent_status = (struct agent_status){.workers = 1, .broker_connected = true};
	users = 0;
	strcpy(web.record.name, "web");
	strcpy(web.record.policy, "ci");
	strcpy(web.record.target, "netns:web");
	web.record.queue_count = 1;
	web.record.cookie = 77;
	web.record.rules.generation = 1;
	web.record.rules.hooks = web.wanted.hooks = 1U << 1 | 1U << 3;
	web.shm[0] = block_begin(&memory);
	web.aux_fd = -1;
	if (store_open(root, getuid(), getgid(), NULL) < 0)
		return -1;
	store_load();
	api_listen_fd = ipc_listen(api_path, SOCK_STREAM, 0666, getuid(), getgid());
	stats_listen_fd = ipc_listen(stats_path, SOCK_STREAM, 0666, getuid(), getgid());
	config.api_fd = api_listen_fd;
	config.stats_fd = stats_listen_fd;
	return api_start(&config);
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	api_stop();
	store_close();
	close(api_listen_fd);
	close(stats_listen_fd);
	snprintf(command, sizeof(command), "rm -r %s", root);
	return system(command);
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

/* One round of the control loop; returns soon whether or not anything happened. */
static void serve(int client, short events)
{
	struct pollfd fds[] = {{.fd = api_fd(), .events = POLLIN},
			       {.fd = client, .events = events}};
	int timeout = api_timeout_ms();

	if (timeout < 0 || timeout > 10)
		timeout = 10;
	poll(fds, client < 0 ? 1 : 2, timeout);
	if (fds[0].revents || api_timeout_ms() == 0)
		api_run();
}

struct reply {
	char *text; /* the whole of it */
	size_t length;
	int status;
	const char *body;
};

static void reply_free(struct reply *reply)
{
	free(reply->text);
}

static void send_all(int fd, const char *data, size_t length)
{
	while (length > 0) {
		const ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);

		if (sent < 0 && errno == EPIPE)
			return; /* answered early */
		if (sent > 0) {
			data += sent;
			length -= (size_t)sent;
		}
		serve(fd, POLLOUT);
	}
}

/* Read until the end of file, or until `until` was read. */
static struct reply receive(int fd, const char *until)
{
	struct reply reply = {.text = calloc(1, 1)};

	for (int rounds = 0; rounds < 100000; rounds++) {
		char part[65536];
		const ssize_t got = recv(fd, part, sizeof(part), 0);

		if (got == 0 || (got < 0 && errno != EAGAIN))
			break;
		if (got < 0) {
			serve(fd, POLLIN);
			continue;
		}
		reply.text = realloc(reply.text, reply.length + (size_t)got + 1);
		memcpy(reply.text + reply.length, part, (size_t)got);
		reply.length += (size_t)got;
		reply.text[reply.length] = '\0';
		if (until && strstr(reply.text, until))
			break;
	}
	reply.body = strstr(reply.text, "\r\n\r\n");
	reply.body = reply.body ? reply.body + 4 : reply.text + reply.length;
	sscanf(reply.text, "HTTP/1.1 %d", &reply.status);
	return reply;
}

static int begin_with(const char *method, const char *path, const char *body, size_t length)
{
	char head[512];
	const int fd = connect_to(api_path);
	int used = snprintf(head, sizeof(head),
			    "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", method,
			    path);

	if (body)
		used += snprintf(head + used, sizeof(head) - (size_t)used,
				 "Content-Length: %zu\r\n", length);
	used += snprintf(head + used, sizeof(head) - (size_t)used, "\r\n");
	send_all(fd, head, (size_t)used);
	if (body)
		send_all(fd, body, length);
	return fd;
}

static int begin(const char *method, const char *path, const char *body)
{
	return begin_with(method, path, body, body ? strlen(body) : 0);
}

static struct reply ask(const char *method, const char *path, const char *body)
{
	const int fd = begin(method, path, body);
	struct reply reply = receive(fd, NULL);

	close(fd);
	return reply;
}

static struct json_object *parse(const struct reply *reply)
{
	struct json_object *object = json_tokener_parse(reply->body);

	if (!object)
		fail_msg("not JSON: %s", reply->text);
	return object;
}

static const char *member(struct json_object *object, const char *key)
{
	return json_object_get_string(json_object_object_get(object, key));
}

static void assert_status(const struct reply *reply, int status)
{
	if (reply->status != status)
		fail_msg("not %d: %s", status, reply->text);
}

/* A problem document of that status and code, with all that it must have. */
static void expect_problem(struct reply reply, int status, const char *code)
{
	struct json_object *problem;

	assert_status(&reply, status);
	assert_non_null(strstr(reply.text, "Content-Type: application/problem+json\r\n"));
	problem = parse(&reply);
	assert_string_equal(member(problem, "type"), "about:blank");
	assert_int_equal(atoi(member(problem, "status")), status);
	assert_true(strlen(member(problem, "title")) > 0);
	assert_true(strlen(member(problem, "detail")) > 0);
	assert_string_equal(member(problem, "code"), code);
	json_object_put(problem);
	reply_free(&reply);
}

static void expect(struct reply reply, int status)
{
	assert_status(&reply, status);
	reply_free(&reply);
}

/* ---- reading ---- */

static void lists_namespaces(void **state)
{
	struct reply reply = ask("GET", "/v1/namespaces", NULL);
	struct json_object *list = parse(&reply), *first;

	(void)state;
	assert_status(&reply, 200);
	assert_non_null(strstr(reply.text, "Content-Type: application/json\r\n"));
	assert_string_equal(member(list, "schema"), "1");
	first = json_object_array_get_idx(json_object_object_get(list, "namespaces"), 0);
	assert_string_equal(member(first, "name"), "web");
	assert_string_equal(member(first, "policy"), "ci");
	assert_string_equal(member(first, "mode"), "enforce");
	assert_string_equal(member(first, "target"), "netns:web");
	assert_string_equal(member(first, "hooks"), "[ \"in\", \"out\" ]");
	json_object_put(list);
	reply_free(&reply);
	expect(ask("GET", "/v1/namespaces/web", NULL), 200);
	expect(ask("GET", "/v1/namespaces/w%65b", NULL), 200);
	expect_problem(ask("GET", "/v1/namespaces/other", NULL), 404, "no-such-namespace");
}

static void both_sockets_send_the_same(void **state)
{
	struct reply http = ask("GET", "/v1/stats", NULL);
	const int fd = connect_to(stats_path);
	struct reply plain = receive(fd, NULL);
	struct json_object *one = parse(&http), *other = json_tokener_parse(plain.text);

	(void)state;
	assert_non_null(other);
	/* The time may have gone on. */
	json_object_object_del(json_object_object_get(one, "agent"), "uptime_s");
	json_object_object_del(json_object_object_get(other, "agent"), "uptime_s");
	assert_true(json_object_equal(one, other));
	json_object_put(one);
	json_object_put(other);
	reply_free(&http);
	reply_free(&plain);
	close(fd);
	expect(ask("GET", "/v1/namespaces/web/stats", NULL), 200);
}

static void a_crowd_at_the_stats_socket_is_served(void **state)
{
	int fds[150];

	(void)state;
	for (size_t i = 0; i < 100; i++)
		fds[i] = connect_to(stats_path);
	for (size_t i = 0; i < 100; i++) {
		struct reply reply = receive(fds[i], NULL);

		assert_int_equal(reply.text[reply.length - 1], '\n');
		reply_free(&reply);
		close(fds[i]);
	}
}

static void a_reader_that_does_not_read_is_dropped(void **state)
{
	const int small = 1;
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct policy_problems problems = {.count = 0};
	char *document = malloc(1 << 20);
	size_t used = (size_t)sprintf(document, "{\"version\":1,\"rules\":[");
	struct reply reply;

	(void)state;
	/* Large enough that no socket takes it at once. */
	for (int i = 0; i < 8000; i++)
		used += (size_t)sprintf(document + used, "%s{\"name\":\"r%d\",\"action\":\"drop\"}",
					i ? "," : "", i);
	used += (size_t)sprintf(document + used, "]}");
	assert_int_equal(policy_compile(document, used, &web.policy, &problems), 0);
	free(document);
	strcpy(address.sun_path, stats_path);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	for (int i = 0; i < 3; i++)
		serve(-1, 0);
	/* Others are not held up by it. */
	reply = ask("GET", "/v1/stats", NULL);
	assert_true(reply.length > 300000);
	expect(reply, 200);
	assert_in_range(api_timeout_ms(), 0, 5000);
	while (api_timeout_ms() >= 0 && api_timeout_ms() <= 5000)
		serve(-1, 0);	   /* its time runs out */
	reply = receive(fd, NULL); /* what was sent, and then an early end */
	assert_true(reply.length < 300000);
	reply_free(&reply);
	close(fd);
	policy_unref(web.policy);
}

static void head_has_no_body(void **state)
{
	struct reply reply = ask("HEAD", "/v1/namespaces/web", NULL);

	(void)state;
	assert_status(&reply, 200);
	assert_string_equal(reply.body, "");
	assert_non_null(strstr(reply.text, "Content-Length: "));
	reply_free(&reply);
	expect(ask("HEAD", "/v1/namespaces/other", NULL), 404);
	expect(ask("HEAD", "/v1/events", NULL), 200);
}

static void says_whether_it_is_ready(void **state)
{
	(void)state;
	expect(ask("GET", "/healthz", NULL), 200);
	expect(ask("GET", "/readyz", NULL), 200);
	agent_status.broker_connected = false;
	expect(ask("GET", "/healthz", NULL), 200);
	expect_problem(ask("GET", "/readyz", NULL), 503, "broker-away");
}

static int ask_whether_ready(void)
{
	int fd;

	broker_knows_ping = true;
	pinged = NULL;
	fd = begin("GET", "/readyz", NULL);
	for (int i = 0; i < 100 && !pinged; i++)
		serve(-1, 0);
	assert_non_null(pinged);
	return fd;
}

static void asks_the_broker_whether_it_is_ready(void **state)
{
	char byte;
	int fd;

	(void)state;
	fd = ask_whether_ready();
	assert_int_equal(recv(fd, &byte, 1, 0), -1); /* not yet */
	assert_in_range(api_timeout_ms(), 1, API_READY_MS);
	pinged(true);
	expect(receive(fd, NULL), 200);
	close(fd);

	fd = ask_whether_ready();
	expect_problem(receive(fd, NULL), 503, "broker-silent");
	close(fd);
	pinged(true); /* too late */

	close(ask_whether_ready());
	for (int i = 0; i < 3; i++)
		serve(-1, 0);
	pinged(true); /* nobody waits for it any more */
	expect(ask("GET", "/healthz", NULL), 200);
}

/* ---- faults ---- */

static void wrong_paths_are_not_found(void **state)
{
	static const char *const paths[] = {
		"/",
		"/v1",
		"/v2/stats",
		"/v1/stats/",
		"//v1/stats",
		"/v1/namespaces/",
		"/v1/namespaces/..",
		"/v1/namespaces/-web",
		"/v1/namespaces/web/stats/x",
		"/v1/namespaces/web%00",
		"/v1/namespaces/web%2Fstats%2fx",
		"/v1/policies/%C3%A4",
		"/v1/policies:chec",
		("/v1/namespaces/"
		 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		expect_problem(ask("GET", paths[i], NULL), 404, "no-such-path");
	expect_problem(ask("PUT", "/v1/policies/..", GOOD), 404, "no-such-path");
}

static void wrong_methods_are_told_the_right_ones(void **state)
{
	static const struct {
		const char *method, *path, *allow;
	} cases[] = {
		{"POST", "/v1/namespaces", "Allow: GET, HEAD\r\n"},
		{"DELETE", "/v1/namespaces/web", "Allow: GET, HEAD\r\n"},
		{"PUT", "/v1/namespaces/web/stats", "Allow: GET, HEAD\r\n"},
		{"GET", "/v1/namespaces/web/policy", "Allow: PUT\r\n"},
		{"PUT", "/v1/stats", "Allow: GET, HEAD\r\n"},
		{"POST", "/v1/policies", "Allow: GET, HEAD\r\n"},
		{"GET", "/v1/policies:check", "Allow: POST\r\n"},
		{"PATCH", "/v1/policies/ci", "Allow: GET, HEAD, PUT, DELETE\r\n"},
		{"POST", "/v1/events", "Allow: GET, HEAD\r\n"},
		{"OPTIONS", "/metrics", "Allow: GET, HEAD\r\n"},
		{"NONSENSE", "/healthz", "Allow: GET, HEAD\r\n"},
		{"DELETE", "/readyz", "Allow: GET, HEAD\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct reply reply = ask(cases[i].method, cases[i].path, "body");

		if (!strstr(reply.text, cases[i].allow))
			fail_msg("%s %s: %s", cases[i].method, cases[i].path, reply.text);
		expect_problem(reply, 405, "method-not-allowed");
	}
}

static void a_body_that_nobody_wants_is_ignored(void **state)
{
	(void)state;
	expect(ask("GET", "/v1/stats", "{\"what\":1}"), 200);
}

static void bodies_have_a_limit(void **state)
{
	const size_t most = NSGATE_POLICY_BYTES_MAX;
	char *body = malloc(20 * most);
	int fd;

	(void)state;
	memset(body, ' ', 20 * most);
	/* At the limit it is a policy's text, above it is not looked at. */
	memcpy(body, GOOD, strlen(GOOD));
	fd = begin_with("PUT", "/v1/policies/ci", body, most);
	expect(receive(fd, NULL), 201);
	close(fd);
	fd = begin_with("PUT", "/v1/policies/ci", body, most + 1);
	expect_problem(receive(fd, NULL), 413, "body-too-large");
	close(fd);
	fd = begin_with("POST", "/v1/policies:check", body, 20 * most);
	expect_problem(receive(fd, NULL), 413, "body-too-large");
	close(fd);
	fd = begin_with("GET", "/v1/stats", body, 20 * most);
	expect_problem(receive(fd, NULL), 413, "body-too-large");
	close(fd);
	free(body);
}

static void chunked_bodies_have_the_same_limit(void **state)
{
	static const char head[] = "POST /v1/policies:check HTTP/1.1\r\nHost: x\r\n"
				   "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
	char chunk[7 + 0x10000 + 2] = "10000\r\n";
	const int fd = connect_to(api_path);

	(void)state;
	memset(chunk + 7, ' ', 0x10000);
	memcpy(chunk + 7 + 0x10000, "\r\n", 2);
	send_all(fd, head, sizeof(head) - 1);
	for (int i = 0; i < 17; i++)
		send_all(fd, chunk, sizeof(chunk));
	send_all(fd, "0\r\n\r\n", 5);
	expect_problem(receive(fd, NULL), 413, "body-too-large");
	close(fd);
}

static void headers_have_a_limit(void **state)
{
	char *head = malloc(100000);
	const int fd = connect_to(api_path);
	struct reply reply;

	(void)state;
	memset(head, 'a', 100000);
	memcpy(head, "GET /v1/stats HTTP/1.1\r\nX: ", 27);
	send_all(fd, head, 100000);
	reply = receive(fd, NULL);
	assert_true(reply.status == 431 || reply.status == 413 || reply.status == 0);
	reply_free(&reply);
	close(fd);
	free(head);
	expect(ask("GET", "/healthz", NULL), 200);
}

static void garbage_is_survived(void **state)
{
	static const char *const garbage[] = {"\r\n\r\n\r\n", "GET\r\n\r\n",
					      "GET / HTTP/9.9\r\n\r\n",
					      ("PUT /v1/policies/a HTTP/1.1\r\nHost: x\r\n"
					       "Content-Length: banana\r\n\r\n"),
					      "\x16\x03\x01\x02"};

	(void)state;
	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		const int fd = connect_to(api_path);

		send_all(fd, garbage[i], strlen(garbage[i]));
		for (int rounds = 0; rounds < 3; rounds++)
			serve(-1, 0);
		close(fd);
	}
	expect(ask("GET", "/healthz", NULL), 200);
}

/* ---- policies ---- */

static void puts_gets_and_deletes(void **state)
{
	struct reply reply = ask("PUT", "/v1/policies/ci", GOOD);
	struct json_object *list, *first;

	(void)state;
	assert_non_null(strstr(reply.text, "Nsgate-Generation: 42\r\n"));
	assert_string_equal(reply.body, GOOD);
	expect(reply, 201);
	assert_int_equal(changes.calls, 1);
	assert_ptr_equal(changes.policy, store_find("ci")->policy);
	expect(ask("PUT", "/v1/policies/ci", GOOD), 200);
	reply = ask("GET", "/v1/policies/ci", NULL);
	assert_string_equal(reply.body, GOOD);
	expect(reply, 200);
	reply = ask("GET", "/v1/policies", NULL);
	list = parse(&reply);
	first = json_object_array_get_idx(json_object_object_get(list, "policies"), 0);
	assert_string_equal(member(first, "name"), "ci");
	assert_string_equal(member(first, "rules"), "1");
	json_object_put(list);
	expect(reply, 200);

	users = 1;
	expect_problem(ask("DELETE", "/v1/policies/ci", NULL), 409, "policy-in-use");
	expect_problem(ask("DELETE", "/v1/policies/ci?force=no", NULL), 409, "policy-in-use");
	assert_non_null(store_find("ci"));
	reply = ask("DELETE", "/v1/policies/ci?force=true", NULL);
	assert_string_equal(reply.body, "");
	expect(reply, 204);
	assert_null(changes.policy);
	assert_null(store_find("ci"));
	expect_problem(ask("GET", "/v1/policies/ci", NULL), 404, "no-such-policy");
	expect_problem(ask("DELETE", "/v1/policies/ci", NULL), 404, "no-such-policy");
}

static void tells_every_problem_of_a_document(void **state)
{
	static const char bad[] =
		"{\"version\":2,\"rules\":[{\"name\":\"a\",\"action\":\"jump\"}]}";
	static const char *const paths[] = {"/v1/policies/ci", "/v1/policies:check"};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct reply reply = ask(i ? "POST" : "PUT", paths[i], bad);
		struct json_object *problem = parse(&reply);
		struct json_object *errors = json_object_object_get(problem, "errors");

		assert_int_equal(json_object_array_length(errors), 2);
		for (size_t e = 0; e < 2; e++) {
			struct json_object *error = json_object_array_get_idx(errors, e);

			assert_int_equal(member(error, "pointer")[0], '/');
			assert_true(strlen(member(error, "message")) > 0);
		}
		json_object_put(problem);
		expect_problem(reply, 422, "document-bad");
	}
	assert_int_equal(changes.calls, 0);
	assert_null(store_find("ci"));
	expect_problem(ask("PUT", "/v1/policies/ci", ""), 400, "body-empty");
	expect_problem(ask("PUT", "/v1/policies/ci", NULL), 400, "body-empty");
	expect_problem(ask("POST", "/v1/policies:check", NULL), 400, "body-empty");
	expect_problem(ask("PUT", "/v1/policies/ci", "\xff"), 422, "document-bad");
}

static void checks_without_changing(void **state)
{
	struct reply reply = ask("POST", "/v1/policies:check", GOOD);
	struct json_object *answer = parse(&reply);

	(void)state;
	assert_string_equal(member(answer, "schema"), "1");
	assert_string_equal(member(answer, "ok"), "true");
	assert_string_equal(member(answer, "rules"), "1");
	json_object_put(answer);
	expect(reply, 200);
	assert_null(store_first());
	assert_int_equal(changes.calls, 0);
}

static void a_put_waits_for_the_kernel(void **state)
{
	char byte;
	int fd;

	(void)state;
	changes.later = true;
	fd = begin("PUT", "/v1/policies/ci", GOOD);
	for (int i = 0; i < 100 && !changes.waiting; i++)
		serve(-1, 0);
	assert_non_null(changes.waiting);
	expect(ask("GET", "/v1/policies/ci", NULL), 200); /* others are served meanwhile */
	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_in_range(api_timeout_ms(), 1, 30000);
	finish_change(changes.waiting);
	expect(receive(fd, NULL), 201);
	close(fd);
}

static void a_client_that_leaves_early_does_no_harm(void **state)
{
	int fd;

	(void)state;
	changes.later = true;
	fd = begin("PUT", "/v1/policies/ci", GOOD);
	for (int i = 0; i < 100 && !changes.waiting; i++)
		serve(-1, 0);
	close(fd);
	for (int i = 0; i < 3; i++)
		serve(-1, 0);
	finish_change(changes.waiting);
	expect(ask("GET", "/v1/policies/ci", NULL), 200);
}

static void stopping_ends_what_waits(void **state)
{
	struct api_config config = {.api_fd = api_listen_fd, .stats_fd = stats_listen_fd};
	int put, stream;

	(void)state;
	changes.later = true;
	put = begin("PUT", "/v1/policies/ci", GOOD);
	stream = begin("GET", "/v1/events", NULL);
	for (int i = 0; i < 100 && !changes.waiting; i++)
		serve(-1, 0);
	for (int i = 0; i < 3; i++)
		serve(-1, 0);
	api_stop();
	finish_change(changes.waiting); /* the broker answers too late */
	assert_int_equal(fcntl(api_listen_fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(api_start(&config), 0);
	close(put);
	close(stream);
}

static void says_when_the_kernel_does_not_follow(void **state)
{
	(void)state;
	changes.status = NSGATE_STATUS_UNREACHABLE;
	expect_problem(ask("PUT", "/v1/policies/ci", GOOD), 503, "broker-away");
	assert_non_null(store_find("ci")); /* stored all the same */
	changes.status = NSGATE_STATUS_FAILED;
	expect_problem(ask("PUT", "/v1/policies/ci", GOOD), 500, "not-in-force");
}

static void a_directory_that_cannot_be_written_is_a_conflict(void **state)
{
	char path[128];
	pid_t child;
	int status;

	(void)state;
	if (getuid() != 0)
		skip();
	/* What root may is too much for this test: a child without privileges is the agent. */
	snprintf(path, sizeof(path), "%s/policies", root);
	fflush(stdout);
	child = fork();
	if (child == 0) {
		struct policy_problems problems = {.count = 0};

		if (setuid(NOBODY) < 0)
			_exit(2);
		_exit(store_put("ci", GOOD, strlen(GOOD), &problems) == -EACCES ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* ---- rebinding ---- */

static void rebinds(void **state)
{
	struct reply reply;
	struct json_object *ns;

	(void)state;
	expect(ask("PUT", "/v1/policies/other", GOOD), 201);
	reply = ask("PUT", "/v1/namespaces/web/policy", "{\"policy\":\"other\"}");
	ns = parse(&reply);
	assert_string_equal(member(ns, "name"), "web");
	assert_string_equal(member(ns, "policy"), "other");
	json_object_put(ns);
	expect(reply, 200);

	expect_problem(ask("PUT", "/v1/namespaces/no/policy", "{\"policy\":\"other\"}"), 404,
		       "no-such-namespace");
	expect_problem(ask("PUT", "/v1/namespaces/web/policy", "{\"policy\":\"no\"}"), 404,
		       "no-such-policy");
	expect_problem(ask("PUT", "/v1/namespaces/web/policy", "{\"policy\":\"../x\"}"), 404,
		       "no-such-policy");
	assert_string_equal(web.record.policy, "other");
}

static void bad_bindings_are_refused(void **state)
{
	static const char *const bad[] = {
		"{}",
		"[]",
		"{\"policy\":7}",
		"{\"policy\":\"a\\u0000b\"}",
		"{\"policy\":\"a\",\"more\":1}",
		"{\"policy\":\"a\",\"policy\":\"b\"}",
		"{\"policy\":\"a\"} trailing",
		"{\"policy\"",
		"null",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect_problem(ask("PUT", "/v1/namespaces/web/policy", bad[i]), 422,
			       "document-bad");
	expect_problem(ask("PUT", "/v1/namespaces/web/policy", NULL), 400, "body-empty");
	assert_int_equal(changes.calls, 0);
}

/* ---- permission ---- */

/* What another user is answered: the status. */
static int status_for(uid_t uid, const char *method, const char *path, const char *body)
{
	int status, pipe_fds[2];
	pid_t child;

	assert_int_equal(pipe(pipe_fds), 0);
	fflush(stdout);
	child = fork();
	if (child == 0) {
		char request[512], answer[16] = "";
		struct sockaddr_un address = {.sun_family = AF_UNIX};
		const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		const int length =
			snprintf(request, sizeof(request),
				 "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
				 method, path, strlen(body), body);

		strcpy(address.sun_path, api_path);
		if (setuid(uid) < 0 ||
		    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		    write(fd, request, (size_t)length) != length || read(fd, answer, 12) != 12)
			_exit(255);
		_exit(atoi(answer + 9) / 100 * 50 + atoi(answer + 9) % 100);
	}
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	while (waitpid(child, &status, WNOHANG) == 0)
		serve(-1, 0);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) / 50 * 100 + WEXITSTATUS(status) % 50;
}

static void changing_needs_permission(void **state)
{
	(void)state;
	if (getuid() != 0)
		skip();
	assert_int_equal(status_for(NOBODY, "GET", "/v1/stats", ""), 200);
	assert_int_equal(status_for(NOBODY, "POST", "/v1/policies:check", GOOD), 200);
	assert_int_equal(status_for(NOBODY, "PUT", "/v1/policies/ci", GOOD), 403);
	assert_int_equal(status_for(NOBODY, "DELETE", "/v1/policies/ci", ""), 403);
	assert_int_equal(
		status_for(NOBODY, "PUT", "/v1/namespaces/web/policy", "{\"policy\":\"ci\"}"), 403);
	assert_null(store_find("ci"));
	assert_int_equal(status_for(ADMIN, "PUT", "/v1/policies/ci", GOOD), 201);
	assert_int_equal(status_for(0, "PUT", "/v1/policies/ci", GOOD), 200);
}

/* ---- events ---- */

static struct event packet(enum policy_verdict verdict)
{
	return (struct event){
		.cookie = 77,
		.time_ns = UINT64_C(1767225600123456789),
		.rule = POLICY_RULE_DEFAULT,
		.length = 60,
		.verdict = (uint8_t)verdict,
		.family = AF_INET,
		.protocol = 6,
		.direction = 1,
		.has_ports = true,
		.sport = 40000,
		.dport = 80,
		.src.bytes = {10, 0, 0, 2},
		.dst.bytes = {192, 0, 2, 1},
	};
}

/* A stream that is established when this returns. */
static int open_stream(const char *path)
{
	const int fd = begin("GET", path, NULL);
	struct reply reply = receive(fd, "\r\n\r\n");

	assert_status(&reply, 200);
	assert_non_null(strstr(reply.text, "application/x-ndjson"));
	reply_free(&reply);
	for (int i = 0; i < 3; i++)
		serve(-1, 0);
	return fd;
}

static void streams_events(void **state)
{
	const int all = open_stream("/v1/events");
	const int drops = open_stream("/v1/events?netns=web&verdict=drop");
	const int other = open_stream("/v1/events?netns=other");
	const struct event accepted = packet(POLICY_VERDICT_ACCEPT);
	const struct event dropped = packet(POLICY_VERDICT_DROP);
	struct reply reply;
	char byte;

	(void)state;
	api_event_packet(&accepted);
	api_event_packet(&dropped);
	api_event_note("attached", "web", "by \"test\"");
	reply = receive(all, "by \\\"test\\\"\"}\n");
	assert_non_null(strstr(reply.text, "{\"event\":\"packet\","
					   "\"time\":\"2026-01-01T00:00:00.123456Z\","
					   "\"netns\":\"web\",\"policy\":\"ci\","));
	assert_non_null(strstr(reply.text, "\"rule\":\"default\",\"verdict\":\"accept\","
					   "\"direction\":\"out\",\"family\":\"ipv4\","
					   "\"protocol\":\"tcp\",\"src\":\"10.0.0.2\","
					   "\"dst\":\"192.0.2.1\",\"sport\":40000,\"dport\":80,"
					   "\"length\":60}\n"));
	reply_free(&reply);
	reply = receive(drops, "\"length\":60}\n");
	assert_non_null(strstr(reply.text, "\"verdict\":\"drop\""));
	assert_null(strstr(reply.text, "\"verdict\":\"accept\""));
	reply_free(&reply);
	assert_int_equal(recv(drops, &byte, 1, 0) == 1 && byte == '{', 0);
	assert_int_equal(recv(other, &byte, 1, 0), -1);
	close(all);
	close(drops);
	close(other);
	expect_problem(ask("GET", "/v1/events?verdict=maybe", NULL), 400, "filter-bad");
	expect_problem(ask("GET", "/v1/events?netns=-", NULL), 400, "filter-bad");
}

static void slow_readers_are_told_what_they_lost(void **state)
{
	const struct event event = packet(POLICY_VERDICT_DROP);
	const int fd = open_stream("/v1/events");
	unsigned int lines = 0, lost = 0;
	struct reply reply;

	(void)state;
	for (int i = 0; i < 10000; i++) {
		api_event_packet(&event);
		if (i % 100 == 0)
			serve(-1, 0);
	}
	reply = receive(fd, "\"lost\"");
	for (const char *c = reply.text; (c = strstr(c, "{\"event\":\"packet\"")); c++)
		lines++;
	sscanf(strstr(reply.text, "{\"event\":\"lost\""), "{\"event\":\"lost\",\"count\":%u}",
	       &lost);
	assert_int_equal(lines + lost, 10000);
	assert_true(lost > 0);
	reply_free(&reply);
	api_event_note("after", NULL, NULL);
	reply = receive(fd, "\"after\"");
	assert_non_null(strstr(reply.text, "\"after\""));
	reply_free(&reply);
	close(fd);
}

static void streams_are_limited_and_let_go(void **state)
{
	int fds[32];

	(void)state;
	for (int i = 0; i < 32; i++)
		fds[i] = open_stream("/v1/events");
	expect_problem(ask("GET", "/v1/events", NULL), 503, "too-many-streams");
	close(fds[0]); /* a silent stream whose reader went away */
	for (int i = 0; i < 5; i++)
		serve(-1, 0);
	fds[0] = open_stream("/v1/events");
	for (int i = 0; i < 32; i++)
		close(fds[i]);
}

/* ---- metrics ---- */

/* Each sample belongs to the TYPE line before it, and has a value. */
static void metrics_are_in_the_text_format(void **state)
{
	struct policy_problems problems = {.count = 0};
	struct reply reply;
	char family[128] = "", line[512];

	(void)state;
	assert_int_equal(policy_compile(GOOD, strlen(GOOD), &web.policy, &problems), 0);
	shm_rule_touch(block->rules_touched, 0);
	shm_rules(block)[0].name_hash = policy_info(web.policy)->rules[0].name_hash;
	shm_rules(block)[0].count.packets = 9;
	block->fate[SHM_FATE_DROPPED].packets = 3;
	strcpy(web.record.policy, "c\"i\\\n");
	reply = ask("GET", "/metrics", NULL);
	assert_non_null(strstr(reply.text, "Content-Type: text/plain; version=0.0.4"));
	assert_non_null(strstr(reply.body,
			       "nsgate_packets_total{netns=\"web\",policy=\"c\\\"i\\\\\\n"
			       "\",verdict=\"drop\"} 3\n"));
	assert_non_null(strstr(reply.body, ",rule=\"a\"} 9\n"));
	for (const char *at = reply.body; *at; at += strcspn(at, "\n") + 1) {
		char name[128] = "";

		snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\n"), at);
		if (sscanf(line, "# TYPE %127s", name) == 1) {
			strcpy(family, name);
			assert_true(strstr(line, " counter") || strstr(line, " gauge"));
			assert_int_equal(strstr(line, " counter") != NULL,
					 strlen(name) > 6 &&
						 strcmp(name + strlen(name) - 6, "_total") == 0);
		} else if (line[0] != '#') {
			assert_int_equal(strcspn(line, "{ "), strlen(family));
			assert_memory_equal(line, family, strlen(family));
			assert_non_null(strrchr(line, ' '));
		}
	}
	reply_free(&reply);
	policy_unref(web.policy);
}

#define API_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(lists_namespaces),
		API_TEST(both_sockets_send_the_same),
		API_TEST(a_crowd_at_the_stats_socket_is_served),
		API_TEST(a_reader_that_does_not_read_is_dropped),
		API_TEST(head_has_no_body),
		API_TEST(says_whether_it_is_ready),
		API_TEST(asks_the_broker_whether_it_is_ready),
		API_TEST(wrong_paths_are_not_found),
		API_TEST(wrong_methods_are_told_the_right_ones),
		API_TEST(a_body_that_nobody_wants_is_ignored),
		API_TEST(bodies_have_a_limit),
		API_TEST(chunked_bodies_have_the_same_limit),
		API_TEST(headers_have_a_limit),
		API_TEST(garbage_is_survived),
		API_TEST(puts_gets_and_deletes),
		API_TEST(tells_every_problem_of_a_document),
		API_TEST(checks_without_changing),
		API_TEST(a_put_waits_for_the_kernel),
		API_TEST(a_client_that_leaves_early_does_no_harm),
		API_TEST(stopping_ends_what_waits),
		API_TEST(says_when_the_kernel_does_not_follow),
		API_TEST(a_directory_that_cannot_be_written_is_a_conflict),
		API_TEST(rebinds),
		API_TEST(bad_bindings_are_refused),
		API_TEST(changing_needs_permission),
		API_TEST(streams_events),
		API_TEST(slow_readers_are_told_what_they_lost),
		API_TEST(streams_are_limited_and_let_go),
		API_TEST(metrics_are_in_the_text_format),
	};

	signal(SIGPIPE, SIG_IGN);
	alarm(300); /* nothing may hang */
	log_setup("test", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
