/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: how many descriptors go with a datagram, in how many control messages, how many the receiver
 * has room for, and the datagram: raw, or a message whose header is right but for what the input
 * changes. Several one after the other, over one connection.
 *
 * Must hold: what ipc_receive() accepts has our magic and version, a known type, all that we know
 * of that type, zero where the sender knew less, and all the descriptors that were sent,
 * close-on-exec; what it refuses leaves no descriptor open.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "ipc.h"

#define FDS_MAX 253 /* SCM_MAX_FD */

static int ends[2] = {-1, -1};
static int donors[FDS_MAX]; /* one descriptor, many times */
static DIR *open_files;

static void set_up(void)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC), room = 1 << 20;

	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	open_files = opendir("/proc/self/fd");
	MUST(null >= 0 && open_files);
	for (int i = 0; i < FDS_MAX; i++)
		donors[i] = null;
}

static unsigned int count_open(void)
{
	unsigned int count = 0;

	rewinddir(open_files);
	while (readdir(open_files))
		count++;
	return count;
}

/* Return: whether the datagram was sent. */
static bool send_datagram(const uint8_t *data, size_t size, unsigned int fds, bool split)
{
	struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
	union {
		char bytes[CMSG_SPACE(FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr datagram = {.msg_iov = &part, .msg_iovlen = 1};
	const unsigned int first = split && fds > 1 ? fds - 1 : fds;
	struct cmsghdr *cmsg;

	memset(&control, 0, sizeof(control));
	if (fds > 0) {
		datagram.msg_control = control.bytes;
		datagram.msg_controllen =
			CMSG_SPACE(first * sizeof(int)) +
			(first < fds ? CMSG_SPACE((fds - first) * sizeof(int)) : 0);
		cmsg = CMSG_FIRSTHDR(&datagram);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(first * sizeof(int));
		memcpy(CMSG_DATA(cmsg), donors, first * sizeof(int));
		if (first < fds) {
			cmsg = CMSG_NXTHDR(&datagram, cmsg);
			cmsg->cmsg_level = SOL_SOCKET;
			cmsg->cmsg_type = SCM_RIGHTS;
			cmsg->cmsg_len = CMSG_LEN((fds - first) * sizeof(int));
			memcpy(CMSG_DATA(cmsg), donors, (fds - first) * sizeof(int));
		}
	}
	return sendmsg(ends[0], &datagram, MSG_NOSIGNAL) == (ssize_t)size;
}

static size_t right_length(const union nsgate_msg *message)
{
	if (message->header.type != NSGATE_MSG_NS_LINKS)
		return ipc_length((enum nsgate_msg_type)message->header.type);
	MUST(message->ns_links.count <= NSGATE_LINKS_MAX);
	return offsetof(struct nsgate_msg_ns_links, links) +
	       message->ns_links.count * sizeof(struct nsgate_link);
}

static void receive(size_t sent, unsigned int fds, unsigned int room)
{
	static union nsgate_msg message;
	int received[FDS_MAX];
	unsigned int count = 4711;
	size_t length;
	int err;

	memset(&message, 0xff, sizeof(message));
	err = ipc_receive(ends[1], &message, received, room, &count);

	if (err) {
		MUST(count == 4711);
		/* A good message whose descriptors were cut looks as if none were left. */
		MUST(err == (sent == 0 ? -ENOTCONN : -EBADMSG) || (err == -EMFILE && fds > 0) ||
		     (err == -E2BIG && sent > right_length(&message)));
		return;
	}
	MUST(message.header.magic == NSGATE_PROTO_MAGIC);
	MUST(message.header.version == NSGATE_PROTO_VERSION);
	MUST(message.header.type > 0 && message.header.type < NSGATE_MSG_MAX);
	length = right_length(&message);
	if (message.header.type == NSGATE_MSG_NS_LINKS)
		MUST(message.header.length == length);
	else
		MUST(message.header.length == sent && sent >= sizeof(message.header));
	for (size_t i = sent; i < length && message.header.type != NSGATE_MSG_NS_LINKS; i++)
		MUST(message.room[i] == 0);
	MUST(count == fds && count <= room);
	for (unsigned int i = 0; i < count; i++)
		MUST(fcntl(received[i], F_GETFD) == FD_CLOEXEC);
	fds_close(received, count);
}

/* A datagram that is right in everything but what the input says. */
static size_t compose(struct input *input, uint8_t *ret, size_t size)
{
	const uint32_t type = input_take(input, 1) % (NSGATE_MSG_MAX + 1);
	const int32_t off = (int32_t)(input_take(input, 1) & 0xff) - 128;
	const uint32_t count = input_take(input, 2) % (NSGATE_LINKS_MAX + 2);
	const uint32_t link_size = 16 + 4 * (count % 8);
	size_t length = ipc_length((enum nsgate_msg_type)type), body;
	struct nsgate_msg_header header;

	ipc_header(&header, (enum nsgate_msg_type)type, 1);
	if (type == NSGATE_MSG_NS_LINKS)
		length = offsetof(struct nsgate_msg_ns_links, links) + count * link_size;
	header.length = (uint32_t)length;
	body = input_take(input, 1) % 64;
	memset(ret, 0, size);
	memcpy(ret, &header, sizeof(header));
	if (type == NSGATE_MSG_NS_LINKS) {
		memcpy(ret + offsetof(struct nsgate_msg_ns_links, count), &count, sizeof(count));
		memcpy(ret + offsetof(struct nsgate_msg_ns_links, link_size), &link_size,
		       sizeof(link_size));
	}
	/* What the input has goes over the header's length, its magic ... or behind. */
	for (size_t at = input_take(input, 1) % 32; body > 0 && input->left > 0; body--, at++)
		ret[at] ^= (uint8_t)input_take(input, 1);
	if (off < 0 && (size_t)-off > length)
		return 0;
	return length + (size_t)off <= size ? length + (size_t)off : size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t composed[sizeof(union nsgate_msg) + 256];
	struct input input = {data, size};
	unsigned int before, after;

	if (ends[0] < 0)
		set_up();
	before = count_open();
	for (int i = 0; i < 8 && input.left > 0; i++) {
		const uint32_t how = input_take(&input, 1);
		const unsigned int fds = input_take(&input, 1) % (FDS_MAX + 1);
		const unsigned int room = input_take(&input, 1) % (FDS_MAX + 1);
		const int credentials = (how & 4) != 0;
		const uint8_t *datagram = composed;
		size_t length;

		/* Credentials that come along make the control data larger than room was made. */
		setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &credentials, sizeof(credentials));
		if (how & 1) {
			length = input_take(&input, 2);
			datagram = input_bytes(&input, &length);
		} else {
			length = compose(&input, composed, sizeof(composed));
		}
		if (send_datagram(datagram, length, fds, how & 2))
			receive(length, fds, room);
	}
	after = count_open();
	MUST(before == after);
	return 0;
}
