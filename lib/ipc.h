/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SOCK_SEQPACKET sockets and the messages of nsgate/proto.h on them. Receiving checks magic,
 * version, length and truncation, and makes a message of another release one of ours (grow.h);
 * descriptors arrive close-on-exec.
 */
#ifndef NSGATE_IPC_H
#define NSGATE_IPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "nsgate/proto.h"

/* A listening, non-blocking socket at `path` (a dead one is replaced). Return: the fd or -errno
 * (-EADDRINUSE: another process answers there). `type`: SOCK_SEQPACKET or SOCK_STREAM. */
int ipc_listen(const char *path, int type, mode_t mode, uid_t owner, gid_t group);

/*
 * May descriptors come over it, or over what it accepts? Closing one can take as long as its sender
 * likes. Return: 0 or -errno; -ENOPROTOOPT before Linux 6.16, where they always may.
 */
int ipc_pass_rights(int fd, bool pass);

/*
 * Are there descriptors with the message that is next on it? They stay where they are.
 * @ret_id: of that message; 0: it is none
 * Return: 1 there are; 0 there are none, or it is the end; -EAGAIN nothing has come; -errno.
 */
int ipc_brings_rights(int fd, uint32_t *ret_id);

/*
 * A connected, blocking socket. Return: the fd or -errno. `type` as above. A listener that hangs
 * makes connecting wait when its queue is full; the second waits no longer than timeout_ms
 * (-ETIMEDOUT), and what is sent later neither.
 */
int ipc_connect(const char *path, int type);
int ipc_connect_within(const char *path, int type, int timeout_ms);

/*
 * A connection to a listening socket, non-blocking. Pauses where descriptors or memory are short.
 * Return: the fd or -errno.
 */
int ipc_accept(int listener);

/* Who is at the other end. Return: 0 or -errno. */
int ipc_peer(int fd, uid_t *ret_uid, gid_t *ret_gid, pid_t *ret_pid);

/*
 * May be believed who answers on a socket in `dir`: root, we ourselves, or whose directory it is?
 * (In a user namespace root outside shows as the overflow uid, as peer and as owner alike.)
 * Return: 0; -EACCES somebody else, who is in *ret_uid; -errno.
 */
int ipc_peer_check(int fd, const char *dir, uid_t *ret_uid);

/* Fill in a header: magic, version, type, and the length of that type's message. */
void ipc_header(struct nsgate_msg_header *header, enum nsgate_msg_type type, uint32_t id);

/* The length of our messages of that type, of NS_LINKS before its links; 0: no such type. */
size_t ipc_length(enum nsgate_msg_type type);

/*
 * Send one message of header->length bytes with descriptors, which stay the caller's.
 * Return: 0; -EAGAIN on a full non-blocking socket; -errno.
 */
int ipc_send(int fd, const struct nsgate_msg_header *message, const int *fds,
	     unsigned int fd_count);

/*
 * Receive one message.
 * @ret_fds: room for `fds_max`; those received are the caller's to close
 * Return: 0; -ENOTCONN end of file; -EAGAIN; -EBADMSG not a message of ours (wrong magic, version,
 * type, length, a truncated one, or more descriptors than `fds_max`: all of them are closed);
 * -EMFILE: *ret is a good message, but this process may have no more descriptors; -E2BIG: *ret is
 * as far as we know it, and asks for more than that; -errno. Nothing is left open on failure.
 */
int ipc_receive(int fd, union nsgate_msg *ret, int *ret_fds, unsigned int fds_max,
		unsigned int *ret_fd_count);

/* Ask and wait for the answer with the same id, at most timeout_ms. Return: 0 or -errno
 * (-ETIMEDOUT). `ret` holds whatever message answered. */
int ipc_ask(int fd, const struct nsgate_msg_header *message, const int *fds, unsigned int fd_count,
	    union nsgate_msg *ret, int timeout_ms);

/* Go on waiting for the answer to a question of that id. */
int ipc_await(int fd, uint32_t id, union nsgate_msg *ret, int timeout_ms);

/* Close and set to -1; takes -1. */
void fd_close(int *fd);
void fds_close(int *fds, unsigned int count);

/* A text field of a message: does it end in NUL inside its size, and is it printable ASCII? */
bool ipc_text_valid(const char *text, size_t size);

/* An answer: is its status one that we give, and its text one? */
bool ipc_reply_valid(const struct nsgate_msg_reply *reply);

#endif
