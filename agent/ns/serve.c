// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/ns/serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/stats/counters.h"
#include "ipc.h"
#include "loop.h"
#include "agent/ns/names.h"
#include "agent/ns/policy.h"
#include "agent/ns/state.h"
#include "agent/ns/silence.h"
#include "agent/packet_log.h"
#include "agent/stats/rule_counters.h"
#include "agent/store/store.h"
#include "agent/worker/worker.h"

#define DRAIN_TIMEOUT_MS 500

static struct worker *const *quiet_workers, *const *flood_workers;
static unsigned int worker_count; /* of each */

void ns_open(struct worker *const *workers, struct worker *const *for_floods, unsigned int n,
	     ns_note_fn *note_fn)
{
	quiet_workers = workers;
	flood_workers = for_floods;
	worker_count = n;
	ns_tell(note_fn);
}

/* ---- coming and going ---- */

static struct worker *least_busy(struct worker *const *workers)
{
	struct worker *best = workers[0];

	for (unsigned int i = 1; i < worker_count; i++)
		if (worker_queue_count(workers[i]) < worker_queue_count(best))
			best = workers[i];
	return best;
}

/* The queue was bound anew (both daemons had died): its ids and columns begin again. */
static void follow_binding(struct shm_queue *block, uint64_t bound_at_ns)
{
	struct shm_control *control = &block->control;

	if (control->bound_at_ns == bound_at_ns)
		return;
	control->bound_at_ns = bound_at_ns;
	control->bindings++;
	control->base = counters_decided(block) + block->readmitted + control->flushed +
			control->unaccounted;
	control->taken = control->base + control->dropped + control->user_dropped;
	control->taken += block->requeueing;
	control->dropped_raw = 0;
	control->user_dropped_raw = 0;
	block->requeueing = 0; /* what was sent round went with the old queue */
}

/*
 * The layout of the blocks in the file, which the broker has made. Return: 0; -EPROTO where what is
 * there makes no sense; -errno.
 */
static int read_layout(const struct ns *ns, uint64_t *ret_file_size, struct shm_layout *ret)
{
	struct shm_layout other;
	struct stat st;

	if (fstat(ns->shm_fd, &st) < 0)
		return -errno;
	*ret_file_size = (uint64_t)st.st_size;
	if (pread(ns->shm_fd, ret, sizeof(*ret), 0) != sizeof(*ret) ||
	    !shm_layout_valid(ret, ns->record.queue_count, *ret_file_size))
		return -EPROTO;
	for (unsigned int i = 1; i < ns->record.queue_count; i++)
		if (pread(ns->shm_fd, &other, sizeof(other), (off_t)i * ret->size) !=
			    sizeof(other) ||
		    memcmp(&other, ret, sizeof(other)) != 0)
			return -EPROTO;
	return 0;
}

/* Begin them anew, as this release lays them out. */
static int lay_out_anew(const struct ns *ns, char *map, const struct shm_layout *layout)
{
	if (shm_reach(map, ns->shm_size) < 0)
		return -ENOSPC;
	memset(map, 0, ns->shm_size);
	for (unsigned int i = 0; i < ns->record.queue_count; i++)
		memcpy(map + (size_t)i * layout->size, layout, sizeof(*layout));
	return 0;
}

static int map_counters(struct ns *ns)
{
	struct shm_layout layout = {.size = 0};
	uint64_t file_size = 0;
	bool is_fresh;
	char *map;
	const int err = read_layout(ns, &file_size, &layout);

	if (err && err != -EPROTO)
		return err;
	if (err)
		shm_lay_out(&layout);
	ns->shm_size = (size_t)ns->record.queue_count * layout.size;
	if (file_size < ns->shm_size && pwrite(ns->shm_fd, "", 1, (off_t)ns->shm_size - 1) != 1)
		return -EPROTO;
	map = mmap(NULL, ns->shm_size, PROT_READ | PROT_WRITE, MAP_SHARED, ns->shm_fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	ns->shm[0] = (struct shm_queue *)(void *)map;
	/* Elsewhere than on a tmpfs the kernel would read ahead: pages that nobody looks at. */
	(void)madvise(map, ns->shm_size, MADV_RANDOM);
	if (err && lay_out_anew(ns, map, &layout) < 0)
		return -ENOSPC;
	is_fresh = !ns->shm[0]->control.bindings;
	for (unsigned int i = 0; i < ns->record.queue_count; i++) {
		ns->shm[i] = shm_block(map, i);
		follow_binding(ns->shm[i], ns->record.bound_at_ns);
		/* A predecessor may have died in the middle of a turn. */
		if (ns->shm[i]->turn & 1)
			ns->shm[i]->turn++;
	}
	if (is_fresh)
		rule_counters_begin(ns);
	return 0;
}

static void take_fds(struct ns *ns, const int *fds)
{
	unsigned int n = NSGATE_NSFD_FIXED;

	ns->shm_fd = fds[NSGATE_NSFD_SHM];
	ns->proc_fd = fds[NSGATE_NSFD_PROC];
	ns->aux_fd = fds[NSGATE_NSFD_AUX];
	ns->watch_fd = ns->record.has_watch ? fds[n++] : -1;
	for (unsigned int i = 0; i < ns->record.queue_count; i++) {
		ns->queues[i] = (struct queue){
			.fd = fds[n++],
			.proc_fd = ns->proc_fd,
			.number = (uint16_t)(ns->record.queue_first + i),
			.stride = ns->record.queue_count,
			.cookie = ns->record.cookie,
		};
		for (unsigned int answer = 0; answer < NSGATE_ANSWER_MAX; answer++)
			ns->queues[i].answers[answer] =
				nsgate_answer_mark(ns->record.cookie, (enum nsgate_answer)answer);
	}
}

static void ns_free(struct ns *ns)
{
	for (unsigned int i = 0; i < ns->record.queue_count; i++) {
		struct queue *queue = &ns->queues[i];

		policy_unref(queue->in_force.policy);
		policy_state_free(&queue->in_force.state);
		free(queue->links);
		fd_close(&queue->fd);
	}
	ns_change_end(ns, NSGATE_STATUS_OK, "");
	policy_unref(ns->policy);
	ns_names_close(ns);
	if (ns->shm[0])
		munmap(ns->shm[0], ns->shm_size);
	fd_close(&ns->shm_fd);
	fd_close(&ns->proc_fd);
	fd_close(&ns->aux_fd);
	fd_close(&ns->watch_fd);
	free(ns->links);
	free(ns);
}

static void serve_begin(struct ns *ns)
{
	for (unsigned int i = 0; i < ns->record.queue_count; i++) {
		ns->workers[i] = least_busy(quiet_workers);
		ns->queues[i].shm = ns->shm[i];
		ns->queues[i].events = worker_events(ns->workers[i]);
		worker_add_begin(ns->workers[i], &ns->queues[i], &ns->adding[i]);
	}
	ns->adding_count = ns->record.queue_count;
}

/* Return: 0, or -errno where not every queue of it is served. */
static int serve_end(struct ns *ns)
{
	int err = 0;

	for (unsigned int i = 0; i < ns->adding_count; i++) {
		int result = worker_add_end(&ns->adding[i]);

		if (!result)
			continue;
		err = result;
		ns->workers[i] = NULL;
	}
	ns->adding_count = 0;
	return err;
}

static void stop_serving(struct ns *ns)
{
	for (unsigned int i = 0; i < ns->record.queue_count; i++)
		if (ns->workers[i])
			worker_remove(ns->workers[i], &ns->queues[i]);
}

/* Return: false where it is to be tried again, as memory was short. */
static bool rebalance(struct ns *ns, unsigned int i)
{
	const bool flooded = __atomic_load_n(&ns->queues[i].flooded, __ATOMIC_RELAXED);
	struct worker *to;

	if (flooded == ns->flooded[i] || !ns->workers[i] ||
	    __atomic_load_n(&ns->queues[i].broken, __ATOMIC_RELAXED))
		return true;
	to = least_busy(flooded ? flood_workers : quiet_workers);
	ns->workers[i] = worker_move(ns->workers[i], to, &ns->queues[i]);
	if (ns->workers[i] != to)
		return false;
	ns->flooded[i] = flooded;
	ns_log(LOG_LEVEL_INFO, flooded ? "flooded" : "calm", ns,
	       flooded ? "more packets than are judged" : NULL);
	return true;
}

/* A consumer has gone or come back, as far as packets for it have met it. */
static void tell_unserved(struct ns *ns, unsigned int i)
{
	const uint32_t unserved = __atomic_load_n(&ns->queues[i].unserved, __ATOMIC_RELAXED);
	char what[NSGATE_TEXT_MAX];

	if (unserved == ns->unserved[i])
		return;
	snprintf(what, sizeof(what),
		 unserved ? "nobody serves queue %u, to which rules of the policy hand packets: "
			    "start that program again"
			  : "queue %u is served again",
		 (unserved ? unserved : ns->unserved[i]) - 1);
	ns_log(unserved ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
	       unserved ? "consumer.gone" : "consumer.back", ns, what);
	ns->unserved[i] = unserved;
}

#define REBALANCE_MS 1000

static int64_t rebalance_at_ms; /* 0: every queue is with a worker of its kind */

void ns_rebalance(void)
{
	bool done = true;

	for (struct ns *ns = ns_first(); ns; ns = ns->next)
		for (unsigned int i = 0; i < ns->record.queue_count; i++) {
			done = (!flood_workers || rebalance(ns, i)) && done;
			tell_unserved(ns, i);
		}
	rebalance_at_ms = done ? 0 : loop_now_ms() + REBALANCE_MS;
	ns_state_update_all(); /* a worker may have given a queue up */
}

static int rebalance_timeout_ms(void)
{
	return rebalance_at_ms ? loop_left_ms(rebalance_at_ms) : -1;
}

int ns_timeout_ms(void)
{
	return loop_nearest(rebalance_timeout_ms(),
			    loop_nearest(loop_nearest(ns_policy_timeout_ms(), silence_timeout_ms()),
					 ns_state_timeout_ms()));
}

void ns_tick(void)
{
	if (rebalance_at_ms && rebalance_at_ms <= loop_now_ms())
		ns_rebalance();
	ns_policy_tick();
	if (silence_tick())
		ns_state_update_all();
	ns_state_tick();
}

static int start(struct ns *ns, struct policy *policy)
{
	int err = map_counters(ns);

	if (err)
		return err;
	for (unsigned int i = 0; i < ns->record.queue_count; i++)
		ns->queues[i].shm = ns->shm[i];
	err = ns_policy_start(ns, policy);
	if (!err)
		serve_begin(ns);
	return err;
}

static bool is_new(const struct ns *ns)
{
	return !ns->record.rules.generation;
}

enum nsgate_status ns_add(uint32_t offer_id, const struct nsgate_ns_record *record, int *fds,
			  unsigned int fd_count, char ret_text[NSGATE_TEXT_MAX])
{
	struct ns *ns;

	if (ns_find_cookie(record->cookie)) {
		/* held already: the connection was new, not the namespace */
		fds_close(fds, fd_count);
		return NSGATE_STATUS_OK;
	}
	ns = calloc(1, sizeof(*ns));
	if (!ns) {
		fds_close(fds, fd_count);
		snprintf(ret_text, NSGATE_TEXT_MAX, "nsgate-agent is out of memory");
		return NSGATE_STATUS_FAILED;
	}
	ns->record = *record;
	ns->offer_id = offer_id;
	take_fds(ns, fds);
	ns_list_offered(ns);
	return NSGATE_STATUS_OK;
}

static void refuse_errno(struct ns *ns, int err)
{
	ns->refused = NSGATE_STATUS_FAILED;
	snprintf(ns->reason, sizeof(ns->reason), "nsgate-agent cannot serve %s: %s",
		 ns->record.name, strerror(-err));
}

/* Its links are known: have it served, or note why not. */
static void begin(struct ns *ns)
{
	const struct store_entry *entry = store_find(ns->record.policy);
	struct policy *policy = entry ? entry->policy : NULL;
	int err;

	if (!policy && is_new(ns) && !(ns->record.flags & NSGATE_ATTACH_PENDING)) {
		snprintf(ns->reason, sizeof(ns->reason),
			 "policy %s does not exist%s: make it with `nsgatectl policy set %s FILE`, "
			 "or attach "
			 "with --pending",
			 ns->record.policy, entry ? " in a form that can be used" : "",
			 ns->record.policy);
		ns->refused = NSGATE_STATUS_NOT_FOUND;
		return;
	}
	if (ns_policy_conflicts(ns, policy, ns->conflict)) {
		if (is_new(ns)) {
			memcpy(ns->reason, ns->conflict, sizeof(ns->reason));
			ns->refused = NSGATE_STATUS_FAILED;
			return;
		}
		policy = NULL; /* as if it were missing: ns_state_update() says why */
	}
	err = start(ns, policy);
	if (err)
		refuse_errno(ns, err);
}

/* The workers serve it. */
static void begin_serving(struct ns *ns)
{
	ns->begun = false;
	ns_list(ns);
	silence_begin();
	if (is_new(ns) || !ns_rules_in_force(ns))
		ns->todo |= NS_TODO_RULES;
	ns_log(LOG_LEVEL_INFO, is_new(ns) ? "attached" : "taken_over", ns, NULL);
	ns_state_update(ns);
}

void ns_admit(ns_refuse_fn *refuse_fn)
{
	struct ns *next;

	for (struct ns *ns = ns_first_offered(); ns; ns = next) {
		int err = serve_end(ns);

		next = ns->next;
		if (err)
			refuse_errno(ns, err);
		if (!ns->begun)
			continue;
		ns_unlist_offered(ns);
		if (!ns->refused) {
			begin_serving(ns);
			continue;
		}
		stop_serving(ns);
		refuse_fn(ns->offer_id, ns->refused, ns->reason);
		ns_free(ns);
	}
}

void ns_remove(struct ns *ns)
{
	if (ns_is_offered(ns)) {
		ns_unlist_offered(ns);
		ns_free(ns);
		return;
	}
	for (unsigned int i = 0; i < ns->record.queue_count; i++)
		if (worker_drain(ns->workers[i], &ns->queues[i], DRAIN_TIMEOUT_MS) < 0)
			ns_log(LOG_LEVEL_WARNING, "drain.timeout", ns,
			       "packets were left undecided");
	ns_unlist(ns);
	packet_log_end(ns);
	ns_log(LOG_LEVEL_INFO, "detached", ns, NULL);
	ns_free(ns);
}

static void drop_offered(void)
{
	while (ns_first_offered()) {
		struct ns *ns = ns_first_offered();

		ns_unlist_offered(ns);
		ns_free(ns);
	}
}

void ns_close(void)
{
	drop_offered();
	while (ns_first()) {
		struct ns *ns = ns_first();

		stop_serving(ns);
		ns_unlist(ns);
		ns_free(ns);
	}
}

unsigned int ns_fds(const struct ns *ns, int *ret_fds)
{
	unsigned int n = NSGATE_NSFD_FIXED;

	ret_fds[NSGATE_NSFD_SHM] = ns->shm_fd;
	ret_fds[NSGATE_NSFD_PROC] = ns->proc_fd;
	ret_fds[NSGATE_NSFD_AUX] = ns->aux_fd;
	if (ns->record.has_watch)
		ret_fds[n++] = ns->watch_fd;
	for (unsigned int i = 0; i < ns->record.queue_count; i++)
		ret_fds[n++] = ns->queues[i].fd;
	return n;
}

/* ---- news ---- */

void ns_set_links(struct ns *ns, const struct nsgate_link *links, uint32_t link_count)
{
	struct nsgate_link *copy = calloc(link_count ? link_count : 1, sizeof(*copy));
	int err;

	if (!copy)
		return;
	memcpy(copy, links, link_count * sizeof(*copy));
	free(ns->links);
	ns->links = copy;
	ns->link_count = link_count;
	if (ns_is_offered(ns)) {
		ns->begun = true;
		begin(ns);
		return;
	}
	err = ns_policy_refresh(ns);
	if (err)
		ns_log(LOG_LEVEL_ERROR, "links.failed", ns, log_errno(err));
}

void ns_set_state(struct ns *ns, bool orphaned, bool degraded, const char *text)
{
	ns->orphaned = orphaned;
	snprintf(ns->broker_says, sizeof(ns->broker_says), "%s", degraded ? text : "");
	if (degraded && !*text)
		snprintf(ns->broker_says, sizeof(ns->broker_says),
			 "nsgate-broker says so; see its log");
	ns_state_update(ns);
}

/* The broker says it at most twice a second for a namespace; more than that was one. */
void ns_tampered(struct ns *ns, const struct nsgate_msg_ns_tamper *tamper)
{
	if (tamper->repairs > ns->record.repairs)
		ns->record.repairs = tamper->repairs;
	ns->record.table_inet = tamper->table_inet;
	ns->record.table_netdev = tamper->table_netdev;
	ns_log(LOG_LEVEL_WARNING,
	       tamper->kind == NSGATE_TAMPER_QUEUE   ? "queue.moved"
	       : tamper->kind == NSGATE_TAMPER_TABLE ? "table.moved"
						     : "repaired",
	       ns, tamper->text);
}

void ns_broker_connected(void)
{
	for (struct ns *ns = ns_first(); ns; ns = ns->next) {
		ns->todo |= NS_TODO_HELD;
		if (!ns_rules_in_force(ns))
			ns->todo |= NS_TODO_RULES;
		ns->broker_says[0] = '\0'; /* it says so again where it is so */
		ns_state_update(ns);
	}
}

void ns_broker_lost(void)
{
	drop_offered(); /* the next one offers them again */
	for (struct ns *ns = ns_first(); ns; ns = ns->next) {
		ns->todo = 0;
		ns->change_id = 0;
		ns->rules_error[0] = '\0'; /* the next one is asked for them */
		ns_state_update(ns);
		ns_change_end(ns, NSGATE_STATUS_UNREACHABLE,
			      "nsgate-broker went away before the rules were in force: they "
			      "follow when it "
			      "is back");
	}
}
