/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Noticing that a namespace has gone of which only a name or a number is known. */
#ifndef NSGATE_FOLLOW_H
#define NSGATE_FOLLOW_H

#include "broker/attachment.h"

/*
 * An attach begins: ask what the name leads to, while its sockets are opened. Of its record the
 * target must be there.
 */
void follow_ask(struct attachment *attachment);

/*
 * Does the name that it is attached by lead there, as seen from here? To be called after
 * follow_ask(), once the namespace is known. If not, its end will not be
 * noticed, which is logged, and noted in the record. `then` is called either way, perhaps at once.
 */
void follow_check(struct attachment *attachment, void (*then)(struct attachment *attachment));

/* Follow the name that it was attached by, where that is a path. Not worth failing for. */
void follow_name(struct attachment *attachment);

/*
 * Does what it was attached by still lead to it? If not, `gone` of the attachment is called, later.
 * What cannot be told is believed to; a name that never led there from here tells nothing.
 */
void follow_look(struct attachment *attachment);

/* Nothing is to be told of it any more. */
void follow_forget(struct attachment *attachment);

#endif
