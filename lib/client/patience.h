/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long this program waits for a daemon: --timeout, or what is usual. Milliseconds. */
#ifndef NSGATE_CTL_PATIENCE_H
#define NSGATE_CTL_PATIENCE_H

#define PATIENCE_MS 5000 /* for an answer, unless told otherwise */
#define PATIENCE_LONG_MS                                                                           \
	30000		     /* for one that may take long, while its daemon shows that it lives */
#define PATIENCE_SIGN_MS 500 /* for a sign of life, to tell who does not answer */

/* --timeout: for every answer, also for one that may take long. */
void patience_set(int ms);

/* From now on, for all answers together. */
void patience_deadline(int ms);

/* One command that asks `daemons` of them, each of which may hang, is to last no longer. */
void patience_share(int daemons);

/* For the next answer, or the next sign of life. */
int patience_ms(void);

/* For an answer that may take long. */
int patience_long_ms(void);

#endif
