/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * usage: mutated_frames PROGRAMS POLICY CORPUS COUNT [SEED]
 *
 * Sends mutated frames from one network namespace to another until COUNT packets have been queued
 * there, where the real nsgate-broker and nsgate-agent of the directory PROGRAMS judge them by
 * POLICY. The frames are made from those in the directory CORPUS (fuzz_pkt's); most are mended far
 * enough that the kernel does not throw them away before they are queued.
 *
 * Must hold in the end: the agent is the process it was; nothing waits in the queue; what was seen
 * is accepted, dropped, rejected or handed on; and the kernel numbered and lost as many packets as
 * the agent says.
 *
 * Daemons, namespaces and the directory in /tmp are gone afterwards, whatever happens. Exits 77
 * where it may not make namespaces, and gives up after DEADLINE_S.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEADLINE_S 900
#define START_MS 10000	 /* for the daemons to come up */
#define SETTLE_MS 60000	 /* for the queue to run empty */
#define PENDING_MAX 2048 /* more are not sent before fewer wait */
#define FRAMES_AT_ONCE 64
#define FRAME_MAX 1514 /* Ethernet header and MTU */
#define CORPUS_HEAD 25 /* bytes of an input of fuzz_pkt before the packet */
#define ORIGINALS_MAX 256

static char directory[64];
static const char *programs;
static pid_t broker, agent, holder;

/* ---- leaving nothing behind ---- */

static void end_process(pid_t *pid, int number)
{
	if (*pid <= 0)
		return;
	kill(*pid, number);
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

static void clean_up(void)
{
	char command[128];

	end_process(&agent, SIGKILL);
	end_process(&broker, SIGKILL);
	end_process(&holder, SIGKILL); /* and its namespace */
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	if (directory[0] && system(command) != 0)
		fprintf(stderr, "%s is left\n", directory);
	directory[0] = '\0';
}

static void give_up(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void give_up(const char *format, ...)
{
	char command[128];
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	if (directory[0]) {
		snprintf(command, sizeof(command), "tail -n 20 %s/log >&2", directory);
		(void)!system(command);
	}
	clean_up();
	exit(1);
}

static void need(bool good, const char *what)
{
	if (!good)
		give_up("%s: %s", what, strerror(errno));
}

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	stopped = number;
}

/* Nothing here waits for longer than this many rounds of a millisecond. */
static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
	if (stopped)
		give_up(stopped == SIGALRM ? "took longer than %d s" : "interrupted (%d)",
			stopped == SIGALRM ? DEADLINE_S : stopped);
}

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *format, ...)
{
	char command[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command) != 0)
		give_up("failed: %s", command);
}

/* ---- the daemons ---- */

static pid_t start(const char *name)
{
	char path[512], runtime[80], config[80], log[80];
	const pid_t pid = fork();

	need(pid >= 0, "fork");
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(path, sizeof(path), "%s/%s", programs, name);
	snprintf(runtime, sizeof(runtime), "%s/run", directory);
	snprintf(config, sizeof(config), "%s/config", directory);
	snprintf(log, sizeof(log), "%s/log", directory);
	if (!freopen(log, "a", stderr))
		_exit(127);
	execl(path, path, "--runtime-dir", runtime, "--config-dir", config, (char *)NULL);
	_exit(127);
}

static void must_live(void)
{
	int status;

	if (waitpid(agent, &status, WNOHANG) != 0) {
		agent = 0;
		give_up("the agent died: status 0x%x", (unsigned int)status);
	}
	if (waitpid(broker, &status, WNOHANG) != 0) {
		broker = 0;
		give_up("the broker died: status 0x%x", (unsigned int)status);
	}
}

static int connect_stats(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	need(fd >= 0, "socket");
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/run/stats.sock", directory);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static void start_daemons(const char *policy)
{
	int fd = -1;

	run("mkdir -p %s/run %s/config/policies && cp '%s' %s/config/policies/every.json && "
	    "chmod -R a+rX %s",
	    directory, directory, policy, directory, directory);
	broker = start("nsgate-broker");
	agent = start("nsgate-agent");
	for (int i = 0; i < START_MS && fd < 0; i++) {
		must_live();
		fd = connect_stats();
		pause_ms(1);
	}
	need(fd >= 0, "the agent does not answer");
	close(fd);
}

static void attach(void)
{
	/* The broker may not have found the agent yet. */
	run("for i in 1 2 3 4 5 6 7 8 9 10; do %s/nsgatectl --runtime-dir %s/run attach pid:%d "
	    "--name frames --policy every >>%s/log 2>&1 && exit 0; sleep 0.5; done; exit 1",
	    programs, directory, (int)holder, directory);
}

/* ---- the namespaces: this process moves to one, `holder` lives in the other ---- */

static void hold(int ready)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(CLONE_NEWNET) < 0 || write(ready, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static void make_namespaces(void)
{
	int ready[2];
	char byte;

	need(pipe2(ready, O_CLOEXEC) == 0, "pipe");
	holder = fork();
	need(holder >= 0, "fork");
	if (holder == 0)
		hold(ready[1]);
	need(read(ready[0], &byte, 1) == 1 && unshare(CLONE_NEWNET) == 0, "namespaces");
	close(ready[0]);
	close(ready[1]);
	run("ip link add out0 address 02:00:00:00:00:01 type veth peer name eth0 "
	    "address 02:00:00:00:00:02 netns %d && ip link set lo up && ip link set out0 up",
	    (int)holder);
	run("nsenter -t %d -n sh -e -c '"
	    "for f in all default eth0; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done; "
	    "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 "
	    ">/proc/sys/net/ipv6/conf/all/forwarding; "
	    "ip link set lo up; ip link set eth0 up; ip address add 10.0.0.2/24 dev eth0; "
	    "ip address add fd00::2/64 dev eth0 nodad; ip route add default via 10.0.0.1; "
	    "ip neighbour add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent; "
	    "ip -6 route add default via fd00::1 dev eth0; "
	    "ip neighbour add fd00::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent'",
	    (int)holder);
}

/* ---- what the kernel says of the queue: /proc/net/netfilter/nfnetlink_queue ---- */

struct kernel {
	unsigned int pending, dropped, user_dropped, numbered;
};

static int open_kernel(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/net/netfilter/nfnetlink_queue", (int)holder);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	need(fd >= 0, path);
	return fd;
}

/* The sum over the queue's numbers: nobody else has any there. */
static struct kernel read_kernel(int fd)
{
	char text[4096] = "";
	struct kernel kernel = {0};
	unsigned int lines = 0;

	if (pread(fd, text, sizeof(text) - 1, 0) <= 0)
		give_up("the queue is gone");
	for (char *rest = text, *line; (line = strsep(&rest, "\n")) && *line; lines++) {
		struct kernel one;
		unsigned int ignored;

		if (sscanf(line, "%u %u %u %u %u %u %u %u", &ignored, &ignored, &one.pending,
			   &ignored, &ignored, &one.dropped, &one.user_dropped, &one.numbered) != 8)
			give_up("the queue's lines are odd");
		kernel.pending += one.pending;
		kernel.dropped += one.dropped;
		kernel.user_dropped += one.user_dropped;
		kernel.numbered += one.numbered;
	}
	if (lines == 0)
		give_up("the queue is gone");
	return kernel;
}

/* ---- frames ---- */

struct frame {
	uint8_t bytes[FRAME_MAX];
	size_t length;
};

static struct frame originals[ORIGINALS_MAX];
static size_t original_count;
static uint64_t seed = 1;

static uint32_t below(uint32_t bound)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 32) % bound;
}

static void read_corpus(const char *path)
{
	DIR *list = opendir(path);
	const struct dirent *entry;

	need(list, path);
	while ((entry = readdir(list)) && original_count < ORIGINALS_MAX) {
		struct frame *frame = &originals[original_count];
		const int fd = openat(dirfd(list), entry->d_name, O_RDONLY | O_CLOEXEC);
		const ssize_t got = fd < 0 ? -1
					   : pread(fd, frame->bytes + ETH_HLEN,
						   FRAME_MAX - ETH_HLEN, CORPUS_HEAD);

		if (fd >= 0)
			close(fd);
		if (entry->d_name[0] == '.' || got < 20)
			continue;
		frame->length = ETH_HLEN + (size_t)got;
		original_count++;
	}
	closedir(list);
	need(original_count > 0, "no frames in the corpus");
}

static void mutate(struct frame *frame)
{
	static const uint8_t telling[] = {0, 1, 0x7f, 0x80, 0xff, 4, 5, 6, 17, 44, 58, 60, 0x20};
	uint8_t *packet = frame->bytes + ETH_HLEN;
	const uint32_t length = (uint32_t)(frame->length - ETH_HLEN);
	/* Headers matter most. */
	const uint32_t at = below(2) ? below(length < 48 ? length : 48) : below(length);

	switch (below(8)) {
	case 0:
		packet[at] ^= (uint8_t)(1U << below(8));
		break;
	case 1:
		packet[at] = (uint8_t)below(256);
		break;
	case 2:
		packet[at] = telling[below(sizeof(telling))];
		break;
	case 3:
		packet[at] = (uint8_t)(packet[at] + 1 - 2 * below(2));
		break;
	case 4: /* cut */
		if (length > 21)
			frame->length -= below(length - 20);
		break;
	case 5: { /* grow, with whatever was in the buffer, now and then to the full */
		const uint32_t room = (uint32_t)(FRAME_MAX - frame->length);

		frame->length += below(4) ? below(room < 64 ? room + 1 : 64) : room;
		break;
	}
	case 6: { /* a piece of another frame */
		const struct frame *other = &originals[below((uint32_t)original_count)];
		uint32_t size = below(32);

		if (size > length - at)
			size = length - at;
		if (size <= other->length - ETH_HLEN)
			memcpy(packet + at, other->bytes + ETH_HLEN, size);
		break;
	}
	default: /* a piece doubled */
		if (at + 8 < length && frame->length + 8 <= FRAME_MAX) {
			memmove(packet + at + 8, packet + at, length - at);
			frame->length += 8;
		}
		break;
	}
}

/* RFC 1071, over what is there already in `sum`. */
static void put_checksum(uint8_t *to, uint32_t sum, const uint8_t *bytes, size_t length)
{
	to[0] = to[1] = 0;
	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	sum = (sum >> 16) + (sum & 0xffff);
	sum = ~(sum + (sum >> 16));
	to[0] = (uint8_t)(sum >> 8);
	to[1] = (uint8_t)sum;
}

/* Connection tracking takes a packet with a wrong checksum for no part of any flow. */
static void mend_transport(uint8_t protocol, const uint8_t *addresses, size_t addresses_length,
			   uint8_t *header, size_t length)
{
	const size_t at = protocol == 6 ? 16 : protocol == 17 ? 6 : 2;
	uint32_t sum = 0;

	if ((protocol != 6 && protocol != 17 && protocol != 1 && protocol != 58) || length < at + 2)
		return;
	if (protocol == 17) {
		header[4] = (uint8_t)(length >> 8);
		header[5] = (uint8_t)length;
	}
	if (protocol != 1) {
		for (size_t i = 0; i < addresses_length; i += 2)
			sum += (uint32_t)addresses[i] << 8 | addresses[i + 1];
		sum += protocol + (uint32_t)length;
	}
	put_checksum(header + at, sum, header, length);
}

/* What the kernel looks at before any hook: version, lengths, checksum, addresses. */
static void mend_ip4(uint8_t *packet, size_t length)
{
	size_t header = (size_t)(packet[0] & 15) * 4;
	size_t total;

	packet[0] = (uint8_t)(0x40 | (packet[0] & 15));
	if (header < 20 || header > length) {
		packet[0] = 0x45;
		header = 20;
	}
	if (((size_t)packet[2] << 8 | packet[3]) > length || below(4)) {
		packet[2] = (uint8_t)(length >> 8);
		packet[3] = (uint8_t)length;
	}
	if (packet[12] == 0 || packet[12] >= 127)
		packet[12] = 10;
	if (below(4))
		memcpy(packet + 16, (const uint8_t[]){10, 0, 0, 2}, 4);
	total = (size_t)packet[2] << 8 | packet[3];
	if (below(4) && total > header)
		mend_transport(packet[9], packet + 12, 8, packet + header, total - header);
	put_checksum(packet + 10, 0, packet, header);
}

static void mend_ip6(uint8_t *packet, size_t length)
{
	packet[0] = (uint8_t)(0x60 | (packet[0] & 15));
	if (((size_t)packet[4] << 8 | packet[5]) + 40 > length || below(4)) {
		packet[4] = (uint8_t)((length - 40) >> 8);
		packet[5] = (uint8_t)(length - 40);
	}
	memcpy(packet + 8, (const uint8_t[]){0x20, 0x01, 0x0d, 0xb8}, 4);
	if (below(4))
		memcpy(packet + 24, (const uint8_t[16]){0xfd, [15] = 2}, 16);
	if (below(4))
		mend_transport(packet[6], packet + 8, 32, packet + 40,
			       (size_t)packet[4] << 8 | packet[5]);
}

static void make_frame(struct frame *frame)
{
	const uint8_t ethernet[] = {
		2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, (const uint8_t[]){1, 1, 1, 0x66, 0x77}[below(5)]};
	uint8_t *packet = frame->bytes + ETH_HLEN;
	size_t length;
	bool ip6;

	*frame = originals[below((uint32_t)original_count)];
	ip6 = packet[0] >> 4 == 6;
	for (uint32_t i = 1 + below(6); i > 0; i--)
		mutate(frame);
	length = frame->length - ETH_HLEN;
	if (below(16)) {
		if (ip6 && length >= 40)
			mend_ip6(packet, length);
		else if (!ip6)
			mend_ip4(packet, length);
	}
	memcpy(frame->bytes, ethernet, sizeof(ethernet));
	frame->bytes[12] = ip6 ? 0x86 : 0x08;
	frame->bytes[13] = ip6 ? 0xdd : 0x00;
	if (below(64) == 0)
		frame->bytes[12 + below(2)] = (uint8_t)below(256);
}

static int open_wire(void)
{
	const struct sockaddr_ll address = {.sll_family = AF_PACKET,
					    .sll_ifindex = (int)if_nametoindex("out0")};
	/* Protocol 0: it only sends. */
	const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1;

	need(fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0, "wire");
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
	return fd;
}

static void send_frames(int wire, unsigned int count)
{
	static struct frame frames[FRAMES_AT_ONCE];
	struct mmsghdr messages[FRAMES_AT_ONCE];
	struct iovec parts[FRAMES_AT_ONCE];

	memset(messages, 0, sizeof(messages));
	for (unsigned int i = 0; i < count; i++) {
		make_frame(&frames[i]);
		parts[i] = (struct iovec){frames[i].bytes, frames[i].length};
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	for (unsigned int sent = 0; sent < count;) {
		const int now = sendmmsg(wire, messages + sent, count - sent, 0);

		if (now > 0)
			sent += (unsigned int)now;
		else if (errno == ENOBUFS || errno == EAGAIN)
			pause_ms(1);
		else
			need(false, "send");
	}
}

/* Send until `count` packets have been queued. Return: frames sent. */
static unsigned long send_all(int kernel_fd, unsigned long count)
{
	const int wire = open_wire();
	struct kernel kernel = read_kernel(kernel_fd);
	unsigned long sent = 0;

	for (int waited = 0; kernel.numbered < count; kernel = read_kernel(kernel_fd)) {
		if (kernel.pending > PENDING_MAX) {
			if (++waited == SETTLE_MS)
				give_up("the agent has stopped judging");
			pause_ms(1);
			continue;
		}
		waited = 0;
		send_frames(wire, FRAMES_AT_ONCE);
		sent += FRAMES_AT_ONCE;
		if (stopped || sent % 4096 < FRAMES_AT_ONCE)
			must_live();
		/* Else this is no test of the agent. */
		if (sent > 10000 + 8 * count)
			give_up("only %u of %lu frames reached the queue", kernel.numbered, sent);
	}
	close(wire);
	return sent;
}

/* ---- the books ---- */

static int64_t figure(struct json_object *stats, const char *group, const char *name)
{
	struct json_object *value = NULL;

	if (!json_object_object_get_ex(stats, group, &value) ||
	    !json_object_object_get_ex(value, name, &value))
		give_up("the statistics lack %s.%s", group, name);
	return json_object_get_int64(value);
}

static struct json_object *read_stats(void)
{
	struct json_object *document = NULL, *all, *one;
	size_t length = 0, size = 1 << 20;
	char *text = malloc(size);
	const int fd = connect_stats();
	ssize_t got;

	need(text && fd >= 0, "stats.sock");
	while ((got = read(fd, text + length, size - 1 - length)) > 0)
		length += (size_t)got;
	close(fd);
	text[length] = '\0';
	document = json_tokener_parse(text);
	free(text);
	if (!document || !json_object_object_get_ex(document, "namespaces", &all) ||
	    !json_object_object_get_ex(all, "frames", &one))
		give_up("the statistics do not have the namespace");
	json_object_get(one);
	json_object_put(document);
	return one;
}

static void settle(int kernel_fd)
{
	struct kernel before = read_kernel(kernel_fd), now;
	int quiet = 0;

	for (int i = 0; quiet < 20; i++) {
		if (i == SETTLE_MS / 10)
			give_up("%u packets are left without a verdict", before.pending);
		pause_ms(10);
		now = read_kernel(kernel_fd);
		quiet = now.pending == 0 && now.numbered == before.numbered ? quiet + 1 : 0;
		before = now;
	}
}

static void expect(int64_t is, int64_t should_be, const char *what)
{
	if (is != should_be)
		give_up("%s: %lld, but should be %lld", what, (long long)is, (long long)should_be);
}

static int64_t check_books(int kernel_fd)
{
	const struct kernel kernel = read_kernel(kernel_fd);
	struct json_object *stats = read_stats();
	const int64_t seen = figure(stats, "packets", "seen");
	const int64_t accepted = figure(stats, "packets", "accepted");
	const int64_t dropped = figure(stats, "packets", "dropped");
	const int64_t rejected = figure(stats, "packets", "rejected");
	const int64_t elsewhere = figure(stats, "packets", "queued_elsewhere");

	expect(figure(stats, "queue", "pending"), 0, "queue.pending");
	expect(figure(stats, "queue", "flushed"), 0, "queue.flushed");
	expect(figure(stats, "queue", "dropped"), kernel.dropped, "queue.dropped");
	expect(figure(stats, "queue", "user_dropped"), kernel.user_dropped, "queue.user_dropped");
	expect(accepted + dropped + rejected + elsewhere, seen, "the sum of the fates");
	expect((uint32_t)(seen + kernel.user_dropped), kernel.numbered, "what the kernel numbered");
	if (!accepted || !rejected || !figure(stats, "packets", "unserved") ||
	    !figure(stats, "packets", "malformed") || !figure(stats, "packets", "repeated"))
		give_up("some fate befell no packet: %s", json_object_to_json_string(stats));
	fprintf(stderr, "%s\n", json_object_to_json_string(stats));
	json_object_put(stats);
	return seen;
}

/* ---- */

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void stop_daemon(pid_t *pid, const char *name)
{
	int status = -1;

	kill(*pid, SIGTERM);
	for (int i = 0; waitpid(*pid, &status, WNOHANG) == 0; i++) {
		if (i == START_MS)
			give_up("%s does not stop", name);
		pause_ms(1);
	}
	*pid = 0;
	expect(status, 0, name);
}

static void skip_without_privilege(void)
{
	const pid_t pid = fork();
	int status = 1;

	if (pid == 0)
		_exit(geteuid() == 0 && unshare(CLONE_NEWNET) == 0 ? 0 : 1);
	if (pid > 0)
		waitpid(pid, &status, 0);
	if (status == 0)
		return;
	puts("no privilege to make network namespaces");
	exit(77);
}

int main(int argc, char **argv)
{
	const struct sigaction action = {.sa_handler = stop};
	unsigned long count, sent;
	double begun;
	int kernel_fd;
	int64_t seen;

	if (argc < 5) {
		fputs("usage: mutated_frames PROGRAMS POLICY CORPUS COUNT [SEED]\n", stderr);
		return 2;
	}
	programs = argv[1];
	count = strtoul(argv[4], NULL, 10);
	if (argc > 5)
		seed = strtoull(argv[5], NULL, 10) | 1;
	skip_without_privilege();
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
	alarm(DEADLINE_S);
	read_corpus(argv[3]);
	strcpy(directory, "/tmp/nsgate-frames-XXXXXX");
	need(mkdtemp(directory), directory);

	start_daemons(argv[2]);
	make_namespaces();
	attach();
	kernel_fd = open_kernel();
	begun = seconds();
	sent = send_all(kernel_fd, count);
	settle(kernel_fd);
	begun = seconds() - begun;
	must_live();
	seen = check_books(kernel_fd);
	run("%s/nsgatectl --runtime-dir %s/run detach frames >>%s/log 2>&1", programs, directory,
	    directory);
	stop_daemon(&agent, "nsgate-agent");
	stop_daemon(&broker, "nsgate-broker");
	clean_up();
	printf("%lu frames, %lld judged, %.1f s\n", sent, (long long)seen, begun);
	return 0;
}
