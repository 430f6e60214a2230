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
 * Documentation/networking/net_dim.rst): a window with a longer pause, and where markedly fewer
 * packets came in it, back again; now and then a window with a shorter one, and where markedly
 * more came, it stays.
 *
 * Below PAUSE_RATE there is none. That rate is above that of a request and its answer, both judged,
 * 20,000 times a second. Figures for each length are in bench/NOTES.md.
 */
#include "pause.h"

#define PAUSE_RATE 64		  /* packets per millisecond */
#define WINDOW_NS 4000000U	  /* over which the rate is measured, and length of a trial */
#define SILENCE_NS 16000000U	  /* a window that took so long says nothing of what was before */
#define BATCH_ENOUGH 64		  /* packets per round above which a longer pause gains nothing */
#define LONGER_AGAIN_NS 400000000 /* after a pause that was too long */
#define SHORTER_EVERY_NS 250000000

static const uint32_t lengths_ns[] = {0, 50000, 100000, 200000};

#define LEVELS (sizeof(lengths_ns) / sizeof(lengths_ns[0]))

/* By more than an eighth: what the same load differs by from window to window is less. */
static bool markedly_less(uint64_t rate, uint64_t than)
{
	return rate * 8 < than * 7;
}

static void try_level(struct pause *pause, enum pause_trial trial, uint64_t rate)
{
	pause->trial = trial;
	pause->rate_before = rate;
	if (trial == PAUSE_TRIAL_LONGER)
		pause->level++;
	else
		pause->level--;
}

/* Keep what was tried or take it back. */
static void end_trial(struct pause *pause, uint64_t rate, uint64_t now)
{
	const enum pause_trial trial = pause->trial;

	pause->trial = PAUSE_TRIAL_NONE;
	if (trial == PAUSE_TRIAL_LONGER && markedly_less(rate, pause->rate_before)) {
		pause->level--;
		pause->longer_at_ns = now + LONGER_AGAIN_NS;
	} else if (trial == PAUSE_TRIAL_SHORTER && markedly_less(pause->rate_before, rate)) {
		pause->shorter_at_ns = now; /* perhaps a still shorter one is better still */
		pause->longer_at_ns = now + LONGER_AGAIN_NS;
	} else if (trial == PAUSE_TRIAL_SHORTER) {
		pause->level++;
		pause->shorter_at_ns = now + SHORTER_EVERY_NS;
	}
}

static void begin_trial(struct pause *pause, uint64_t rate, uint64_t now)
{
	if (pause->level > 0 && now >= pause->shorter_at_ns)
		try_level(pause, PAUSE_TRIAL_SHORTER, rate);
	else if (pause->level + 1 < LEVELS && now >= pause->longer_at_ns &&
		 pause->window_packets < BATCH_ENOUGH * pause->window_rounds)
		try_level(pause, PAUSE_TRIAL_LONGER, rate);
}

static void end_window(struct pause *pause, uint64_t now)
{
	const uint64_t elapsed = now - pause->window_start_ns;
	const uint64_t rate = pause->window_packets * 1000000 / elapsed;

	if (elapsed >= SILENCE_NS)
		pause->trial = PAUSE_TRIAL_NONE;
	end_trial(pause, rate, now);
	if (rate < PAUSE_RATE)
		pause->level = 0;
	else
		begin_trial(pause, rate, now);
	if (pause->level == 0)
		pause->shorter_at_ns = now + SHORTER_EVERY_NS;
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
