/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Why a CNI operation failed, as the CNI specification (version 1.1.0, section 5) wants it told. */
#ifndef NSGATE_CTL_CNI_ERROR_H
#define NSGATE_CTL_CNI_ERROR_H

#include "client/failure.h"

enum cni_code {
	CNI_CODE_OK = 0,
	/* the specification's */
	CNI_CODE_VERSION = 1,
	CNI_CODE_UNSUPPORTED = 2,
	CNI_CODE_NO_CONTAINER = 3,
	CNI_CODE_ENVIRONMENT = 4,
	CNI_CODE_IO = 5,
	CNI_CODE_DECODE = 6,
	CNI_CODE_CONFIG = 7,
	CNI_CODE_AGAIN = 11,
	CNI_CODE_UNAVAILABLE = 50,
	CNI_CODE_LIMITED = 51,
	/* ours */
	CNI_CODE_REFUSED = 100,
	CNI_CODE_NOT_ATTACHED = 101,
	CNI_CODE_NOT_IN_FORCE = 102,
};

struct cni_error {
	enum cni_code code;
	char details[1024]; /* what: why; what to do */
};

/* Return: `code`. */
enum cni_code cni_error_set(struct cni_error *error, enum cni_code code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* A daemon's or nsgatectl's word for it: away is worth another try, the rest is refused. */
enum cni_code cni_error_take(struct cni_error *error, enum nsgate_status status,
			     const struct failure *fail);

/* The error document, on the standard output. */
void cni_error_print(const struct cni_error *error, const char *version);

#endif
