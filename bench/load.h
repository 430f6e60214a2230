/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The load generators of the bench: one program, a subcommand each. Each prints one JSON object. */
#ifndef NSGATE_BENCH_LOAD_H
#define NSGATE_BENCH_LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOAD_SECONDS_MAX 60

/* Arguments after the subcommand's name; their number has been checked. */
int load_udp(char **argv);
int load_spread(char **argv);
int load_beat(char **argv);
int load_echo(char **argv);
int load_rtt(char **argv);
int load_wake(char **argv);
int load_tcp_sink(char **argv);
int load_tcp_send(char **argv);
int load_tcp_answer(char **argv);
int load_tcp_connect(char **argv);
int load_attach(char **argv);
int load_ask(char **argv);
int load_make(char **argv);
int load_unmake(char **argv);

/* End the program with a message unless `good`. */
void load_need(bool good, const char *what);

uint64_t load_now_ns(void);
void load_sleep_until(uint64_t when_ns);
uint64_t load_number(const char *text, uint64_t max);
double load_seconds(const char *text);

/* Move into the namespace /run/netns/NAME. */
void load_enter(const char *name);

struct sockaddr_in load_address(const char *host, const char *port);

/* "p50": 1.2, "p99": ... of `count` values in ns, as microseconds. Sorts them. */
void load_print_percentiles(uint64_t *values, size_t count);

#endif
