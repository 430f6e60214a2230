/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_POLICY_READ_H
#define NSGATE_POLICY_READ_H

#include "policy/doc.h"

/*
 * Read a whole document. Everything wrong with it is noted in reader->problems; reader->doc is
 * complete only if nothing is. The caller policy_doc_free()s it either way.
 */
void policy_read(struct policy_reader *reader, struct json_object *document);

#endif
