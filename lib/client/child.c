// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc.h"
#include "loop.h"

extern char **environ;

enum { STREAM_OUT, STREAM_ERROR, STREAM_MAX };

struct reader {
	struct child_output *output;
	size_t max, complained;
	struct pollfd streams[STREAM_MAX]; /* fd -1: at its end */
};

static int spawn(char *const argv[], const int out[2], const int error[2], pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	int err = posix_spawn_file_actions_init(&actions);

	if (err)
		return -err;
	err = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (!err)
		err = posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	if (!err)
		err = posix_spawn_file_actions_adddup2(&actions, error[1], STDERR_FILENO);
	if (!err)
		err = posix_spawnp(ret, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return -err;
}

static int take_out(struct reader *reader, const char *data, size_t length)
{
	struct child_output *output = reader->output;
	char *grown;

	if (output->length + length > reader->max)
		return -EMSGSIZE;
	grown = realloc(output->text, output->length + length + 1);
	if (grown == NULL)
		return -ENOMEM;
	memcpy(grown + output->length, data, length);
	output->text = grown;
	output->length += length;
	output->text[output->length] = '\0';
	return 0;
}

/* What does not fit is let go by. */
static void take_complaint(struct reader *reader, const char *data, size_t length)
{
	size_t room = sizeof(reader->output->complaint) - 1 - reader->complained;

	if (length > room)
		length = room;
	memcpy(reader->output->complaint + reader->complained, data, length);
	reader->complained += length;
}

static int read_stream(struct reader *reader, int which)
{
	struct pollfd *stream = &reader->streams[which];
	char data[8192];
	ssize_t length = read(stream->fd, data, sizeof(data));

	if (length < 0)
		return errno == EINTR ? 0 : -errno;
	if (length == 0)
		fd_close(&stream->fd);
	else if (which == STREAM_OUT)
		return take_out(reader, data, (size_t)length);
	else
		take_complaint(reader, data, (size_t)length);
	return 0;
}

/* Until both streams are at their end. Return: 0 or -errno. */
static int read_all(struct reader *reader, int timeout_ms)
{
	int64_t deadline = loop_now_ms() + timeout_ms;
	int err = 0;

	while (!err &&
	       (reader->streams[STREAM_OUT].fd >= 0 || reader->streams[STREAM_ERROR].fd >= 0)) {
		int64_t left = deadline - loop_now_ms();
		int n = left > 0 ? poll(reader->streams, STREAM_MAX, (int)left) : 0;

		if (n == 0)
			err = -ETIMEDOUT;
		else if (n < 0 && errno != EINTR)
			err = -errno;
		for (int which = 0; n > 0 && !err && which < STREAM_MAX; which++)
			if (reader->streams[which].fd >= 0 && reader->streams[which].revents != 0)
				err = read_stream(reader, which);
	}
	return err;
}

int child_run(char *const argv[], size_t max, int timeout_ms, struct child_output *ret)
{
	struct reader reader = {.output = ret, .max = max};
	int out[2] = {-1, -1}, error[2] = {-1, -1};
	pid_t pid = -1;
	int err;

	*ret = (struct child_output){0};
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(error, O_CLOEXEC) < 0) {
		err = -errno;
		fds_close(out, 2);
		return err;
	}
	err = spawn(argv, out, error, &pid);
	fd_close(&out[1]);
	fd_close(&error[1]);
	reader.streams[STREAM_OUT] = (struct pollfd){.fd = out[0], .events = POLLIN};
	reader.streams[STREAM_ERROR] = (struct pollfd){.fd = error[0], .events = POLLIN};
	if (!err) {
		err = read_all(&reader, timeout_ms);
		if (err)
			kill(pid, SIGKILL);
		while (waitpid(pid, &ret->status, 0) < 0 && errno == EINTR)
			;
	}
	fd_close(&reader.streams[STREAM_OUT].fd);
	fd_close(&reader.streams[STREAM_ERROR].fd);
	ret->complaint[strcspn(ret->complaint, "\n")] = '\0';
	return err;
}
