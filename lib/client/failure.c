// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void text_clean(char *text)
{
	unsigned char *byte = (unsigned char *)text;

	for (; *byte != '\0'; byte++) {
		if (*byte < 0x20 || *byte == 0x7f)
			*byte = '?';
		else if (byte[0] == 0xc2 && byte[1] >= 0x80 && byte[1] <= 0x9f)
			byte[0] = byte[1] = '?';
	}
}

enum nsgate_status failure_set(struct failure *fail, enum nsgate_status status, const char *format,
			       ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(fail->text, sizeof(fail->text), format, arguments);
	va_end(arguments);
	text_clean(fail->text);
	return status;
}

void failure_add(struct failure *fail, const char *format, ...)
{
	va_list arguments;
	char **grown, *line;
	int length;

	va_start(arguments, format);
	length = vasprintf(&line, format, arguments);
	va_end(arguments);
	if (length < 0)
		return;
	text_clean(line);

	grown = reallocarray(fail->details, fail->detail_count + 1, sizeof(*grown));
	if (grown == NULL) {
		free(line);
		return;
	}
	fail->details = grown;
	fail->details[fail->detail_count++] = line;
}

enum nsgate_status failure_connect(struct failure *fail, const char *runtime_dir,
				   const char *socket, const char *daemon, int error)
{
	error = abs(error);
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		return failure_set(fail, NSGATE_STATUS_UNREACHABLE,
				   "%s: no such file; is %s running with --runtime-dir %s?", socket,
				   daemon, runtime_dir);
	case ECONNREFUSED:
	case ECONNRESET:
	case EPIPE:
		return failure_set(fail, NSGATE_STATUS_UNREACHABLE,
				   "%s/%s: nobody answers there; start %s", runtime_dir, socket,
				   daemon);
	case EAGAIN:
	case ETIMEDOUT:
		return failure_set(fail, NSGATE_STATUS_UNREACHABLE,
				   "%s/%s: no answer in time from %s; look at its log, or restart "
				   "it",
				   runtime_dir, socket, daemon);
	case EACCES:
	case EPERM:
		return failure_set(fail, NSGATE_STATUS_REFUSED,
				   "%s/%s: permission denied; run as root or as a member of the "
				   "socket's group",
				   runtime_dir, socket);
	case ENAMETOOLONG:
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "--runtime-dir: too long for a unix socket: %s; choose a "
				   "shorter directory",
				   runtime_dir);
	default:
		return failure_set(fail, NSGATE_STATUS_UNREACHABLE, "%s/%s: %s; is it %s's socket?",
				   runtime_dir, socket, strerror(error), daemon);
	}
}

void failure_print(const struct failure *fail, const char *program, FILE *to)
{
	if (fail->text[0] != '\0')
		fprintf(to, "%s: %s\n", program, fail->text);
	for (size_t i = 0; i < fail->detail_count; i++)
		fprintf(to, "%s\n", fail->details[i]);
}

void failure_free(struct failure *fail)
{
	for (size_t i = 0; i < fail->detail_count; i++)
		free(fail->details[i]);
	free(fail->details);
	*fail = (struct failure){0};
}
