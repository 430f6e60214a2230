/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * Under load a worker that comes back at once finds only a few packets. It pays the same system
 * calls for them as for many, and each time it falls asleep the sender's CPU pays for waking it.
 * Where packets keep coming, a sleep between two rounds lets batches form. A quiet worker never
 * pauses: nobody's round trip gets longer.
 *
 * How long a pause pays depends on who sends. Packets that come by the clock, as in a flood, wait
 * in the queue meanwhile; the longer the pause, the cheaper each. But connections whose next packet
 * waits for our verdict send nothing in a pause, and only get slower. The two cannot be told apart
 * by looking at packets, so it is tried, as network drivers moderate their interrupts (Linux,
 * Documentation/networking/net_dim.rst): a window with a longer pause, and where far fewer packets
 * came in it than without any, back again; and now and then a window without one, to see whether
 * that is still so. A flood, too, gets a tenth slower by pauses, since its sender has to wake us;
 * who waits for verdicts gets slower by a quarter and more, unless there are so many that batches
 * are full and there is no pause.
 *
 * Below PAUSE_RATE there is none. That rate is above that of a request and its answer, both judged,
 * 20,000 times a second. Figures for each length are in bench/NOTES.md.
 */
#include "agent/worker/pause.h"

#define PAUSE_RATE 64		   /* packets per millisecond */
#define WINDOW_NS 4000000U	   /* over which the rate is measured, and length of a trial */
#define SILENCE_NS 16000000U	   /* a window that took so long says nothing of what was before */
#define BATCH_ENOUGH 64		   /* packets per round above which a longer pause gains nothing */
#define LONGER_AGAIN_NS 400000000  /* after a pause that was too long */
#define WITHOUT_EVERY_NS 250000000 /* a window without a pause */

static const uint32_t lengths_ns[] = {0, 50000, 100000, 200000};

#define LEVELS (sizeof(lengths_ns) / sizeof(lengths_ns[0]))

static bool is_harmed(uint64_t rate, uint64_t rate_without)
{
	return rate * 4 < rate_without * 3;
}

/* And up again not before a while has passed. */
static void step_down(struct pause *pause, unsigned int level, uint64_t now)
{
	pause->level = level;
	pause->longer_at_ns = now + LONGER_AGAIN_NS;
}

/* Keep what was tried or take it back. `rate` is that of the window that ends. */
static void end_trial(struct pause *pause, uint64_t rate, uint64_t now)
{
	const enum pause_trial trial = pause->trial;
	const bool without = pause->level == 0;

	pause->trial = PAUSE_TRIAL_NONE;
	if (trial == PAUSE_TRIAL_LONGER && is_harmed(rate, pause->rate_without)) {
		step_down(pause, pause->level_before, now);
	} else if (trial == PAUSE_TRIAL_WITHOUT) {
		pause->without_at_ns = now + WITHOUT_EVERY_NS;
		if (is_harmed(pause->rate_before, rate))
			step_down(pause, 0, now);
		else
			pause->level = pause->level_before;
	}
	if (without)
		pause->rate_without = rate;
}

static void begin_trial(struct pause *pause, uint64_t rate, uint64_t now)
{
	pause->level_before = pause->level;
	pause->rate_before = rate;
	if (pause->level > 0 && now >= pause->without_at_ns) {
		pause->trial = PAUSE_TRIAL_WITHOUT;
		pause->level = 0;
	} else if (pause->level + 1 < LEVELS && now >= pause->longer_at_ns &&
		   pause->window_packets < BATCH_ENOUGH * pause->window_rounds) {
		pause->trial = PAUSE_TRIAL_LONGER;
		pause->level++;
	}
}

static void end_window(struct pause *pause, uint64_t now)
{
	const uint64_t elapsed = now - pause->window_start_ns;
	const uint64_t rate = pause->window_packets * 1000000 / elapsed;

	if (elapsed >= SILENCE_NS)
		pause->trial = PAUSE_TRIAL_NONE;
	end_trial(pause, rate, now);
	if (rate < PAUSE_RATE) {
		pause->level = 0;
		pause->without_at_ns = now + WITHOUT_EVERY_NS;
	} else {
		begin_trial(pause, rate, now);
	}
	pause->window_start_ns = now;
	pause->window_packets = 0;
	pause->window_rounds = 0;
}

uint64_t pause_after_round(struct pause *pause, unsigned int packets, bool full, uint64_t now_ns)
{
	pause->window_packets += packets;
	pause->window_rounds++;
	if (now_ns - pause->window_start_ns >= WINDOW_NS)
		end_window(pause, now_ns);
	return full ? 0 : lengths_ns[pause->level];
}
