// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nsgate-handoff: attaches the network namespace that it runs in, from inside.
 *
 * Theory of Operation
 *
 * A netlink socket belongs for ever to the namespace that it was made in, and the kernel asks for
 * the rights of whoever made it. So a process that has CAP_NET_ADMIN in there and nowhere else can
 * make the sockets, and pass them out to a broker that perhaps may not even enter.
 *
 *   1. open the descriptors of NSGATE_TARGET_HANDOFF
 *   2. give up every capability: from here on nothing is done but passing them on
 *   3. connect to the broker, hand them over, be attached
 *   4. wait. The namespace stays attached as long as the connection is open, so ending this
 *      process detaches. When the broker goes away, back to 3 with the same descriptors: the queue
 *      is bound to the socket, and others would find it taken.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/netlink.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/dial.h"
#include "client/failure.h"
#include "ipc.h"
#include "log.h"
#include "notify.h"
#include "options.h"
#include "queue_proc.h"
#include "client/request.h"

#define PROGRAM "nsgate-handoff"
#define ATTACH_ID 1

#define BACKOFF_FIRST_MS 200
#define BACKOFF_MAX_MS 10000

struct handoff {
	const char *runtime_dir;
	bool retry;
	struct nsgate_msg_attach message;
	int fds[NSGATE_HANDOFF_FDS]; /* in the order of NSGATE_TARGET_HANDOFF */
	unsigned int fd_count;
	int signals; /* a signalfd: readable means stop */
};

/* ---- the command line ---- */

enum {
	OPTION_NAME = 256,
	OPTION_POLICY,
	OPTION_LABEL,
	OPTION_QUEUE,
	OPTION_PENDING,
	OPTION_WAIT,
	OPTION_NO_RETRY,
	OPTION_RUNTIME_DIR,
	OPTION_CONFIG_DIR,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option options[] = {
	{"name", required_argument, NULL, OPTION_NAME},
	{"policy", required_argument, NULL, OPTION_POLICY},
	{"label", required_argument, NULL, OPTION_LABEL},
	{"queue", required_argument, NULL, OPTION_QUEUE},
	{"pending", no_argument, NULL, OPTION_PENDING},
	{"wait", no_argument, NULL, OPTION_WAIT},
	{"no-retry", no_argument, NULL, OPTION_NO_RETRY},
	{"runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR},
	{"config-dir", required_argument, NULL, OPTION_CONFIG_DIR},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{0},
};

static void print_help(void)
{
	printf("usage: " PROGRAM " --name NAME [options]\n"
	       "Attach the network namespace that this runs in, until it is told to stop.\n\n"
	       "  --name NAME         name of the attached namespace\n"
	       "  --policy POLICY     the policy to judge by; default: \"default\"\n"
	       "  --label K=V         a label for people and for metrics; may be repeated\n"
	       "  --queue N           number of the queue; default 32768\n"
	       "  --pending           attach even where the policy does not exist yet\n"
	       "  --wait              stay until told to stop (the default)\n"
	       "  --no-retry          exit when the broker goes away\n"
	       "  --runtime-dir DIR   where broker.sock is; default $NSGATE_RUNTIME_DIR "
	       "or " NSGATE_RUNTIME_DIR "\n"
	       "  --config-dir DIR    taken as by the other programs; not used\n"
	       "  --help, --version\n");
}

/* Return: -1 go on, or the exit code. */
static int take_option(int option, struct handoff *handoff, const char **queue,
		       const char **runtime_dir, struct failure *fail)
{
	struct nsgate_msg_attach *message = &handoff->message;
	enum nsgate_status status = NSGATE_STATUS_OK;

	switch (option) {
	case OPTION_NAME:
		status = request_take_name("--name", optarg, message->name, fail);
		break;
	case OPTION_POLICY:
		status = request_take_name("--policy", optarg, message->policy, fail);
		break;
	case OPTION_LABEL:
		status = request_add_label(message->labels, optarg, fail);
		break;
	case OPTION_QUEUE:
		*queue = optarg;
		break;
	case OPTION_PENDING:
		message->flags |= NSGATE_ATTACH_PENDING;
		break;
	case OPTION_NO_RETRY:
		handoff->retry = false;
		break;
	case OPTION_RUNTIME_DIR:
		*runtime_dir = optarg;
		break;
	case OPTION_WAIT:
	case OPTION_CONFIG_DIR:
		break;
	case OPTION_HELP:
		print_help();
		return NSGATE_STATUS_OK;
	case OPTION_VERSION:
		printf(PROGRAM " %s\n", NSGATE_VERSION);
		return NSGATE_STATUS_OK;
	default:
		status = NSGATE_STATUS_USAGE;
	}
	return status == NSGATE_STATUS_OK ? -1 : (int)status;
}

/* Return: -1 go on, or the exit code. */
static int parse(int argc, char **argv, struct handoff *handoff, struct failure *fail)
{
	struct nsgate_msg_attach *message = &handoff->message;
	const char *queue = NULL, *runtime_dir = NULL;
	enum nsgate_status status;
	int option, code;

	ipc_header(&message->header, NSGATE_MSG_ATTACH, ATTACH_ID);
	message->target_kind = NSGATE_TARGET_HANDOFF;
	strcpy(message->target, "handoff");
	strcpy(message->policy, "default");
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (option == ':' || option == '?')
			return failure_set(fail, NSGATE_STATUS_USAGE,
					   "%s: %s; see " PROGRAM " --help", argv[optind - 1],
					   option == ':' ? "it needs a value" : "no such option");
		code = take_option(option, handoff, &queue, &runtime_dir, fail);
		if (code >= 0)
			return code;
	}
	if (optind < argc)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "%s: there are no arguments beside options; see " PROGRAM
				   " --help",
				   argv[optind]);
	if (message->name[0] == '\0')
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "--name: not given; give the name to attach as");
	status = request_take_queues(queue, NULL, message, fail);
	handoff->runtime_dir = options_runtime_dir(runtime_dir);
	return status == NSGATE_STATUS_OK ? -1 : (int)status;
}

/* ---- stage 1: the descriptors ---- */

static enum nsgate_status check_capability(struct failure *fail)
{
	cap_flag_value_t value = CAP_CLEAR;
	cap_t caps = cap_get_proc();

	if (caps != NULL) {
		cap_get_flag(caps, CAP_NET_ADMIN, CAP_EFFECTIVE, &value);
		cap_free(caps);
	}
	if (value == CAP_SET)
		return NSGATE_STATUS_OK;
	return failure_set(fail, NSGATE_STATUS_REFUSED,
			   "CAP_NET_ADMIN: not held here; start this container with it, such as "
			   "--cap-add NET_ADMIN");
}

static enum nsgate_status open_netlink(struct handoff *handoff, int protocol, const char *title,
				       struct failure *fail)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	if (fd >= 0) {
		handoff->fds[handoff->fd_count++] = fd;
		return NSGATE_STATUS_OK;
	}
	if (errno == EPROTONOSUPPORT)
		return failure_set(fail, NSGATE_STATUS_FAILED,
				   "%s: the kernel has not loaded " QUEUE_PROC_NETLINK_MODULE
				   "; " QUEUE_PROC_REMEDY,
				   title);
	return failure_set(fail, NSGATE_STATUS_FAILED,
			   "%s: %s; let this container's seccomp profile allow netlink sockets",
			   title, strerror(errno));
}

static enum nsgate_status open_all(struct handoff *handoff, struct failure *fail)
{
	static const struct {
		int protocol;
		const char *title;
	} sockets[] = {
		{NETLINK_NETFILTER, "the queue's socket"},
		{NETLINK_NETFILTER, "the rules' socket"},
		{NETLINK_NETFILTER, "the counters' socket"},
		{NETLINK_ROUTE, "the links' socket"},
	};
	enum nsgate_status status = check_capability(fail);
	int counters;

	static_assert(sizeof(sockets) / sizeof(*sockets) + 1 == NSGATE_HANDOFF_FDS,
		      "the sockets and the proc file are all there is");
	for (size_t i = 0; status == NSGATE_STATUS_OK && i < sizeof(sockets) / sizeof(*sockets);
	     i++)
		status = open_netlink(handoff, sockets[i].protocol, sockets[i].title, fail);
	if (status != NSGATE_STATUS_OK)
		return status;

	counters = queue_proc_open();
	if (counters >= 0) {
		handoff->fds[handoff->fd_count++] = counters;
		return NSGATE_STATUS_OK;
	}
	if (counters == -ENOENT && access("/proc/thread-self/net", F_OK) == 0)
		return failure_set(fail, NSGATE_STATUS_FAILED,
				   "the kernel has not loaded " QUEUE_PROC_MODULE
				   "; " QUEUE_PROC_REMEDY);
	log_event(LOG_LEVEL_WARNING, "handoff.partial", "error", log_errno(-counters), "why",
		  "no /proc/net/netfilter/nfnetlink_queue: the broker must enter the namespace",
		  NULL);
	fds_close(handoff->fds + 1, handoff->fd_count - 1);
	handoff->fd_count = 1;
	return NSGATE_STATUS_OK;
}

/* ---- stage 2 ---- */

static enum nsgate_status give_up_privileges(struct failure *fail)
{
	cap_t none = cap_init();
	bool done = none != NULL && cap_set_proc(none) == 0 &&
		    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
	int error = errno;

	cap_free(none);
	if (done)
		return NSGATE_STATUS_OK;
	return failure_set(fail, NSGATE_STATUS_FAILED,
			   "cannot give up capabilities: %s; check the container's seccomp profile",
			   strerror(error));
}

static enum nsgate_status open_signals(struct handoff *handoff, struct failure *fail)
{
	sigset_t stop;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	if (sigprocmask(SIG_BLOCK, &stop, NULL) == 0)
		handoff->signals = signalfd(-1, &stop, SFD_CLOEXEC);
	if (handoff->signals >= 0)
		return NSGATE_STATUS_OK;
	return failure_set(fail, NSGATE_STATUS_FAILED, "signalfd: %s; raise RLIMIT_NOFILE",
			   strerror(errno));
}

/* ---- stages 3 and 4 ---- */

static enum nsgate_status hand_over(const struct handoff *handoff, int *ret_fd,
				    struct failure *fail)
{
	union nsgate_msg answer;
	enum nsgate_status status;
	int fd;

	status = dial_broker(handoff->runtime_dir, &fd, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	status = dial_ask(fd, &handoff->message.header, handoff->fds, handoff->fd_count,
			  NSGATE_MSG_REPLY, &answer, fail);
	if (status != NSGATE_STATUS_OK) {
		fd_close(&fd);
		return status;
	}
	log_event(LOG_LEVEL_INFO, "handoff.attached", "netns", handoff->message.name, "policy",
		  handoff->message.policy, "queue", log_number(handoff->message.queue_first), NULL);
	notify_send("READY=1");
	*ret_fd = fd;
	return NSGATE_STATUS_OK;
}

/* Wait. Return: true where it is over (a signal, or somebody detached), false where the broker
 * went. */
static bool stay(const struct handoff *handoff, int broker)
{
	struct pollfd ready[] = {{.fd = handoff->signals, .events = POLLIN},
				 {.fd = broker, .events = POLLIN}};
	union nsgate_msg message;
	unsigned int none;

	for (;;) {
		if (poll(ready, 2, -1) < 0)
			continue;
		if (ready[0].revents != 0)
			return true;
		if (ready[1].revents == 0)
			continue;
		if (ipc_receive(broker, &message, NULL, 0, &none) != 0)
			return false;
		if (message.header.type == NSGATE_MSG_DETACH)
			return true;
	}
}

/* Return: true where a signal came first. */
static bool pause_ms(const struct handoff *handoff, int ms)
{
	struct pollfd ready = {.fd = handoff->signals, .events = POLLIN};

	return poll(&ready, 1, ms) > 0;
}

/* Is it worth to ask again? A broker that has just started may still be taking stock. */
static bool passing(enum nsgate_status status)
{
	return status == NSGATE_STATUS_UNREACHABLE || status == NSGATE_STATUS_FAILED;
}

/* The broker went away: hand over again. Return: OK where attached or told to stop (*ret_stop). */
static enum nsgate_status hand_over_again(const struct handoff *handoff, int *ret_fd,
					  bool *ret_stop, struct failure *fail)
{
	int backoff_ms = BACKOFF_FIRST_MS;
	enum nsgate_status status;

	for (;;) {
		*ret_stop = pause_ms(handoff, backoff_ms);
		if (*ret_stop)
			return NSGATE_STATUS_OK;
		status = hand_over(handoff, ret_fd, fail);
		if (!passing(status))
			return status;
		log_event(LOG_LEVEL_WARNING, "handoff.retry", "netns", handoff->message.name, "why",
			  fail->text, NULL);
		backoff_ms = 2 * backoff_ms < BACKOFF_MAX_MS ? 2 * backoff_ms : BACKOFF_MAX_MS;
	}
}

static enum nsgate_status serve(const struct handoff *handoff, struct failure *fail)
{
	enum nsgate_status status;
	bool stop = false;
	int broker = -1;

	status = hand_over(handoff, &broker, fail);
	while (status == NSGATE_STATUS_OK && !stop) {
		stop = stay(handoff, broker);
		fd_close(&broker);
		if (stop)
			break;
		if (!handoff->retry)
			return failure_set(fail, NSGATE_STATUS_UNREACHABLE,
					   DIAL_BROKER_SOCKET
					   ": the broker closed the connection; start " PROGRAM
					   " again once it runs, or leave out --no-retry");
		log_event(LOG_LEVEL_WARNING, "handoff.lost", "netns", handoff->message.name, NULL);
		status = hand_over_again(handoff, &broker, &stop, fail);
	}
	if (status == NSGATE_STATUS_OK) {
		notify_send("STOPPING=1");
		log_event(LOG_LEVEL_INFO, "handoff.stopped", "netns", handoff->message.name, NULL);
	}
	return status;
}

int main(int argc, char **argv)
{
	struct handoff handoff = {.retry = true, .fds = {-1, -1, -1, -1, -1}, .signals = -1};
	struct failure fail = {0};
	int code;

	log_setup(PROGRAM, LOG_LEVEL_INFO);
	code = parse(argc, argv, &handoff, &fail);
	if (code < 0) {
		notify_open();
		code = open_all(&handoff, &fail);
		if (code == NSGATE_STATUS_OK)
			code = give_up_privileges(&fail);
		if (code == NSGATE_STATUS_OK)
			code = open_signals(&handoff, &fail);
		if (code == NSGATE_STATUS_OK)
			code = serve(&handoff, &fail);
	}
	fds_close(handoff.fds, NSGATE_HANDOFF_FDS);
	fd_close(&handoff.signals);
	if (code != NSGATE_STATUS_OK)
		failure_print(&fail, PROGRAM, stderr);
	failure_free(&fail);
	return code;
}
