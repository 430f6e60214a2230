/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A packet wakes a worker that sleeps, and by default the worker then interrupts at once whoever
 * sent the packet. On an idle machine that is the worst moment: the sender was about to sleep, and
 * would have left its CPU with all that is warm there. Interrupted, it is one more that is ready to
 * run, so the scheduler moves the next one in the chain to another CPU, and waking a CPU up takes
 * longer than to judge the packet. As a SCHED_BATCH thread the worker waits for those few
 * microseconds (sched(7): such a thread is not put before others when it wakes). Measured at 1,000
 * round trips a second: half of the delay, a third of the CPU time (bench/NOTES.md).
 *
 * On a machine whose CPUs are all busy it is the other way about: nobody leaves the CPU, and who
 * does not interrupt waits for milliseconds. There the worker is an ordinary thread, with the
 * shortest time slice there is (sched_attr.sched_runtime; since Linux 6.12, before without effect),
 * which lets it run before those with longer ones.
 *
 * Which of the two, the kernel says: /proc/thread-self/schedstat holds how long the thread was
 * ready and had no CPU, and how often it ran (Documentation/scheduler/sched-stats.rst). Crowded is
 * where it waits for longer than CROWDED_NS each time, CROWDED_LOOKS times in a row: a CPU that the
 * host takes from a virtual machine for a moment is no crowd. After a while the other way is tried
 * again, after a longer one if that was of no use. Where the kernel does not count or does not let
 * us, or where the operator chose a policy himself, all stays as it is.
 *
 * A worker to which many packets come has a CPU of its own (agent/worker/cpu.h). A thread that is
 * woken by who is about to sleep is put on the CPU of that one (WF_SYNC), which is right for a
 * packet now and then. But in a stream of them sender, worker and receiver all end up on one CPU,
 * while others are idle: which made TCP transfers a quarter slower (bench/NOTES.md). If the CPU
 * turns out to be somebody else's, the worker lets go of it.
 *
 * A worker of flooded queues always waits and goes where it is put: it makes the crowd.
 */
#include "agent/worker/sched.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOOK_NS 10000000U
#define CROWDED_NS 50000U	 /* mean wait for a CPU */
#define CROWDED_LOOKS 4		 /* at which it was so long */
#define BUSY_RATE 10		 /* packets per millisecond that make a stream, */
#define QUIET_RATE 5		 /* and below which it has ended */
#define SLICE_NS 100000U	 /* the least that the kernel takes */
#define PATIENCE_NS 1000000000U	 /* before the calm way is tried again, at first */
#define PATIENCE_MAX 64000000000 /* at last */

static bool set_policy(const struct worker_sched *sched, uint32_t policy, uint64_t slice_ns)
{
	struct sched_attr attr = {
		.size = sizeof(attr),
		.sched_policy = policy,
		.sched_nice = sched->nice,
		.sched_runtime = slice_ns,
	};

	return syscall(SYS_sched_setattr, 0, &attr, 0) == 0;
}

static bool set_crowded(struct worker_sched *sched, bool crowded)
{
	sched->crowded = crowded;
	return crowded ? set_policy(sched, SCHED_NORMAL, SLICE_NS)
		       : set_policy(sched, SCHED_BATCH, 0);
}

/* Return: whether there was something to read. */
static bool read_stat(struct worker_sched *sched, uint64_t *ret_waited_ns, uint64_t *ret_turns)
{
	char line[96];
	const ssize_t length = pread(sched->stat_fd, line, sizeof(line) - 1, 0);

	if (length <= 0)
		return false;
	line[length] = '\0';
	return sscanf(line, "%*u %" SCNu64 " %" SCNu64, ret_waited_ns, ret_turns) == 2;
}

void worker_sched_open(struct worker_sched *sched, bool last)
{
	struct sched_attr attr;

	*sched = (struct worker_sched){.stat_fd = -1, .patience_ns = PATIENCE_NS};
	if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) < 0 ||
	    attr.sched_policy != SCHED_NORMAL)
		return;
	sched->nice = attr.sched_nice;
	sched->stat_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	if (sched->stat_fd < 0)
		return;
	/* A kernel that does not count says 0: this thread has had a turn, as it runs. */
	if (!read_stat(sched, &sched->waited_ns, &sched->turns) || sched->turns == 0 ||
	    !set_crowded(sched, false) || last)
		worker_sched_close(sched);
}

void worker_sched_close(struct worker_sched *sched)
{
	if (sched->stat_fd >= 0)
		close(sched->stat_fd);
	sched->stat_fd = -1;
}

static void change(struct worker_sched *sched, bool crowded, uint64_t now)
{
	const uint64_t lasted = now - sched->changed_at_ns;

	if (crowded && lasted < PATIENCE_NS && sched->patience_ns < PATIENCE_MAX)
		sched->patience_ns *= 2;
	else if (crowded)
		sched->patience_ns = PATIENCE_NS;
	sched->changed_at_ns = now;
	sched->long_waits = 0;
	sched->stuck = false;
	set_crowded(sched, crowded);
}

static void note_wait(struct worker_sched *sched, uint64_t now_ns)
{
	uint64_t waited_ns, turns, mean_ns;

	if (!read_stat(sched, &waited_ns, &turns) || turns == sched->turns)
		return;
	mean_ns = (waited_ns - sched->waited_ns) / (turns - sched->turns);
	sched->waited_ns = waited_ns;
	sched->turns = turns;
	sched->long_waits = mean_ns > CROWDED_NS ? sched->long_waits + 1 : 0;
	if (sched->crowded && now_ns - sched->changed_at_ns > sched->patience_ns)
		change(sched, false, now_ns);
	else if (sched->crowded)
		sched->stuck |= sched->long_waits >= CROWDED_LOOKS;
	else if (sched->long_waits >= CROWDED_LOOKS)
		change(sched, true, now_ns);
}

bool worker_sched_after_round(struct worker_sched *sched, unsigned int packets, uint64_t now_ns)
{
	const uint64_t elapsed = now_ns - sched->looked_at_ns;

	sched->packets += packets;
	if (sched->stat_fd < 0 || elapsed < LOOK_NS)
		return false;
	sched->busy =
		sched->packets * 1000000ULL / elapsed >= (sched->busy ? QUIET_RATE : BUSY_RATE);
	sched->packets = 0;
	sched->looked_at_ns = now_ns;
	note_wait(sched, now_ns);
	sched->wants_cpu = sched->busy && !sched->stuck;
	return true;
}
