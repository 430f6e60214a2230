/* SPDX-License-Identifier: GPL-2.0-or-later */
/* broker.sock: who may ask, and what may be asked. */
#ifndef NSGATE_SERVER_H
#define NSGATE_SERVER_H

/* Listen on RUNTIME_DIR/broker.sock. Return: 0 or -errno. */
int server_open(const char *path);
void server_close(void);

#endif
