/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: a request to the API, as bytes on the connection or as a choice of method and path with a
 * body, and where the stream is cut into parts. The API is the real one, over a real socket, with a
 * real store in a directory of its own; the table of namespaces is a stub that holds one, "web".
 *
 * Must hold: every request is answered or the connection closed; an answer is HTTP with a status
 * that we or the library give, and where it says JSON it is JSON, a problem document with what it
 * must have; a policy that was stored is the one that was sent; no descriptor is left.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/api/api.h"
#include "agent/broker_link.h"
#include "agent/ns/ns.h"
#include "agent/ns/policy.h"
#include "name.h"
#include "agent/store/store.h"
#include "fuzz.h"
#include "ipc.h"
#include "log.h"
#include "policy/json.h"

/* ---- the stub of the namespaces ---- */

struct agent_status agent_status = {.workers = 1, .broker_connected = true};
const char *const ns_state_names[NS_STATE_MAX] = {"attached", "orphaned", "degraded"};

static struct ns web;
static uint32_t change_status;

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
	(void)answered;
	return false;
}

size_t ns_count(void)
{
	return 1;
}

size_t ns_count_policy(const char *policy)
{
	return strcmp(policy, web.record.policy) == 0;
}

void ns_policy_changed(const char *name, struct policy *policy, struct ns_change *change)
{
	(void)name;
	(void)policy;
	if (!change)
		return;
	change->status = change_status;
	change->generation = 42;
	change->done(change, change->context);
}

void ns_rebind(struct ns *ns, const char *policy_name, struct policy *policy,
	       struct ns_change *change)
{
	MUST(ns == &web && policy && name_valid(policy_name));
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

/* ---- the server ---- */

static char root[64];
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int listen_fds[2];
static struct shm_queue *block;
static DIR *open_files;

static void tear_down(void)
{
	char command[128];

	api_stop();
	store_close();
	snprintf(command, sizeof(command), "rm -rf %s", root);
	MUST(system(command) == 0);
}

static void set_up(void)
{
	const bool memory = access("/dev/shm", W_OK) == 0;
	static struct daemon_admins admins = {.count = 1};
	struct api_config config = {.admins = &admins};
	char path[96];

	log_setup("fuzz_http", LOG_LEVEL_ERROR);
	admins.uids[0] = getuid();
	snprintf(root, sizeof(root), "%s/nsgate-fuzz-XXXXXX", memory ? "/dev/shm" : "/tmp");
	MUST(mkdtemp(root));
	block = calloc(1, SHM_BLOCK_SIZE);
	MUST(block);
	shm_lay_out(&block->layout);
	strcpy(web.record.name, "web");
	strcpy(web.record.policy, "ci");
	strcpy(web.record.target, "netns:web");
	web.record.queue_count = 1;
	web.record.cookie = 77;
	web.shm[0] = block;
	web.aux_fd = -1;
	MUST(store_open(root, getuid(), getgid(), NULL) == 0);
	store_load();
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/api.sock", root);
	snprintf(path, sizeof(path), "%s/stats.sock", root);
	listen_fds[0] = ipc_listen(address.sun_path, SOCK_STREAM, 0600, getuid(), getgid());
	listen_fds[1] = ipc_listen(path, SOCK_STREAM, 0600, getuid(), getgid());
	MUST(listen_fds[0] >= 0 && listen_fds[1] >= 0);
	config.api_fd = listen_fds[0];
	config.stats_fd = listen_fds[1];
	MUST(api_start(&config) == 0);
	open_files = opendir("/proc/self/fd");
	MUST(open_files);
	atexit(tear_down);
}

static unsigned int count_open(void)
{
	unsigned int count = 0;

	rewinddir(open_files);
	while (readdir(open_files))
		count++;
	return count;
}

/* ---- the client ---- */

#define ANSWER_MAX (4u << 20)
#define IDLE_ROUNDS 4 /* a stream of events never ends by itself */

static char *answer;
static size_t answered;

/* Return: whether the connection has ended. */
static bool read_answer(int fd)
{
	ssize_t got;

	do {
		got = recv(fd, answer + answered, ANSWER_MAX - answered, MSG_DONTWAIT);
		if (got > 0)
			answered += (size_t)got;
	} while (got > 0 && answered < ANSWER_MAX);
	return got == 0 || (got < 0 && errno != EAGAIN);
}

static void send_part(int fd, const char *data, size_t length)
{
	while (length > 0) {
		const ssize_t sent = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno != EAGAIN)
			return; /* answered early */
		if (sent > 0) {
			data += sent;
			length -= (size_t)sent;
		}
		api_run();
		(void)read_answer(fd);
	}
}

static void exchange(const char *data, size_t length, size_t cut)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t before;

	answered = 0;
	MUST(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	if (cut > length)
		cut = length;
	send_part(fd, data, cut);
	send_part(fd, data + cut, length - cut);
	shutdown(fd, SHUT_WR);
	for (int idle = 0; idle < IDLE_ROUNDS; idle++) {
		before = answered;
		api_run();
		if (read_answer(fd))
			break;
		if (answered > before || api_timeout_ms() == 0)
			idle = 0;
	}
	close(fd);
	answer[answered < ANSWER_MAX ? answered : ANSWER_MAX - 1] = '\0';
}

/* ---- what must hold of an answer ---- */

static const char *body_of_answer(void)
{
	const char *body = strstr(answer, "\r\n\r\n");

	return body ? body + 4 : NULL;
}

static void check_problem(struct json_object *problem, int status)
{
	static const char *const strings[] = {"type", "title", "detail", "code"};
	struct json_object *value, *errors;

	MUST(json_object_object_get_ex(problem, "status", &value) &&
	     json_object_get_int(value) == status);
	for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
		MUST(json_object_object_get_ex(problem, strings[i], &value) &&
		     json_object_is_type(value, json_type_string) &&
		     json_object_get_string_len(value) > 0);
	if (!json_object_object_get_ex(problem, "errors", &errors))
		return;
	for (size_t i = 0; i < json_object_array_length(errors); i++) {
		struct json_object *error = json_object_array_get_idx(errors, i);

		MUST(json_object_object_get_ex(error, "pointer", &value));
		MUST(json_object_object_get_ex(error, "message", &value));
	}
}

/* Everything that we send as JSON must pass our own strict reader. */
static void check_document(const char *body, int status, bool is_problem)
{
	struct policy_problems problems = {.count = 0};
	struct json_object *document = NULL;

	MUST(policy_json_read(body, strlen(body), &document, &problems) == 0);
	if (is_problem)
		check_problem(document, status);
	json_object_put(document);
	policy_problems_free(&problems);
}

/* Return: the status of the first answer, 0 where there is none. */
static int check_answer(bool one_request)
{
	const char *body = body_of_answer(), *type;
	int status = 0;

	if (answered == 0)
		return 0;
	MUST(strncmp(answer, "HTTP/1.", 7) == 0 && sscanf(answer + 8, "%d", &status) == 1);
	MUST(status >= 100 && status < 600 && body);
	if (!one_request)
		return status;
	type = strstr(answer, "Content-Type: application/");
	if (type && type < body && strncmp(type + 26, "x-ndjson", 8) != 0)
		check_document(body, status, strncmp(type + 26, "problem", 7) == 0);
	return status;
}

/* ---- the requests ---- */

static const struct {
	const char *method, *path;
} forms[] = {
	{"PUT", "/v1/policies/fuzz"},	    {"PUT", "/v1/namespaces/web/policy"},
	{"POST", "/v1/policies:check"},	    {"DELETE", "/v1/policies/fuzz?force=1"},
	{"GET", "/v1/policies/fuzz"},	    {"GET", "/v1/namespaces/web/stats"},
	{"GET", "/v1/events?verdict=drop"}, {"PUT", "/v1/policies/.."},
};
#define FORMS (sizeof(forms) / sizeof(forms[0]))

static void forget_policies(void)
{
	while (store_first()) {
		char name[NSGATE_NAME_MAX];

		memcpy(name, store_first()->name, sizeof(name));
		MUST(store_delete(name) == 0);
	}
}

static void check_stored(unsigned int form, int status, const uint8_t *body, size_t length)
{
	const struct store_entry *entry = store_find("fuzz");
	struct policy_problems problems = {.count = 0};
	struct policy *policy = NULL;
	const char *source;
	size_t stored;

	if (form == 2 || form == 0) {
		const bool good = length > 0 && policy_compile((const char *)body, length, &policy,
							       &problems) == 0;

		MUST(status == (form == 2	? good	   ? 200
						  : length ? 422
							   : 400
				: !good		? length ? 422 : 400
				: change_status ? 503
						: 201));
		policy_problems_free(&problems);
		policy_unref(policy);
		MUST(!entry == !(form == 0 && good));
	}
	if (form != 0 || !entry)
		return;
	source = policy_source(entry->policy, &stored);
	MUST(stored == length && memcmp(source, body, length) == 0);
}

static void request_form(struct input *input, unsigned int how)
{
	const unsigned int form = (how >> 1) % FORMS;
	const size_t cut = input_take(input, 1);
	const bool has_body = forms[form].method[0] == 'P', chunked = how & 0x40;
	const size_t size = input->left + 512;
	char *request = malloc(size);
	int head;

	MUST(request);
	head = snprintf(request, size, "%s %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n",
			forms[form].method, forms[form].path);
	if (has_body && !chunked)
		head += snprintf(request + head, size - (size_t)head, "Content-Length: %zu\r\n\r\n",
				 input->left);
	else if (has_body)
		head += snprintf(request + head, size - (size_t)head,
				 "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", input->left);
	else
		head += snprintf(request + head, size - (size_t)head, "\r\n");
	if (has_body) {
		memcpy(request + head, input->at, input->left);
		head += (int)input->left;
		if (chunked)
			head += snprintf(request + head, size - (size_t)head, "%s",
					 input->left ? "\r\n0\r\n\r\n" : "\r\n");
	}
	exchange(request, (size_t)head, (size_t)head * cut / 256);
	free(request);
	MUST(answered > 0);
	check_stored(form, check_answer(true), input->at, input->left);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	unsigned int how = input_take(&input, 1), before;

	if (!block)
		set_up();
	if (!answer)
		answer = malloc(ANSWER_MAX);
	MUST(answer);
	change_status = how & 0x80 ? NSGATE_STATUS_UNREACHABLE : NSGATE_STATUS_OK;
	before = count_open();
	if (how & 1) {
		request_form(&input, how);
	} else {
		exchange((const char *)input.at, input.left, how >> 1);
		(void)check_answer(false);
	}
	forget_policies();
	for (int i = 0; i < 100 && count_open() != before; i++) /* the server's end */
		api_run();
	MUST(count_open() == before);
	return 0;
}
