// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtimes/cni_error.h"

#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>

enum cni_code cni_error_set(struct cni_error *error, enum cni_code code, const char *format, ...)
{
	va_list arguments;

	error->code = code;
	va_start(arguments, format);
	vsnprintf(error->details, sizeof(error->details), format, arguments);
	va_end(arguments);
	text_clean(error->details);
	return code;
}

enum cni_code cni_error_take(struct cni_error *error, enum nsgate_status status,
			     const struct failure *fail)
{
	const enum cni_code code =
		status == NSGATE_STATUS_UNREACHABLE ? CNI_CODE_AGAIN : CNI_CODE_REFUSED;

	return cni_error_set(error, code, "%s", fail->text);
}

static const char *message_of(enum cni_code code)
{
	switch (code) {
	case CNI_CODE_OK:
		break;
	case CNI_CODE_VERSION:
		return "incompatible CNI version";
	case CNI_CODE_UNSUPPORTED:
		return "unsupported field in the network configuration";
	case CNI_CODE_NO_CONTAINER:
		return "the container does not exist";
	case CNI_CODE_ENVIRONMENT:
		return "invalid environment variable";
	case CNI_CODE_IO:
		return "input or output failed";
	case CNI_CODE_DECODE:
		return "the network configuration cannot be decoded";
	case CNI_CODE_CONFIG:
		return "invalid network configuration";
	case CNI_CODE_AGAIN:
		return "nsgate does not answer now, try again later";
	case CNI_CODE_UNAVAILABLE:
		return "nsgate is not available";
	case CNI_CODE_LIMITED:
		return "nsgate is not available, and packets of containers may wait or be dropped";
	case CNI_CODE_REFUSED:
		return "nsgate refuses";
	case CNI_CODE_NOT_ATTACHED:
		return "the container is not under its policy";
	case CNI_CODE_NOT_IN_FORCE:
		return "the container's policy is not in force as it should be";
	}
	return "";
}

/* The message itself must name what is wrong in these two, says the specification. */
static bool message_tells_all(enum cni_code code)
{
	return code == CNI_CODE_UNSUPPORTED || code == CNI_CODE_ENVIRONMENT;
}

void cni_error_print(const struct cni_error *error, const char *version)
{
	struct json_object *document = json_object_new_object();
	char whole[sizeof(error->details) + 128];

	snprintf(whole, sizeof(whole), "%s: %s", message_of(error->code), error->details);
	json_object_object_add(document, "cniVersion", json_object_new_string(version));
	json_object_object_add(document, "code", json_object_new_int(error->code));
	if (message_tells_all(error->code)) {
		json_object_object_add(document, "msg", json_object_new_string(whole));
	} else {
		/* Runtimes show the two as "MSG: DETAILS" or "MSG; DETAILS". */
		json_object_object_add(document, "msg",
				       json_object_new_string(message_of(error->code)));
		json_object_object_add(document, "details", json_object_new_string(error->details));
	}
	printf("%s\n", json_object_to_json_string_ext(document, JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(document);
}
