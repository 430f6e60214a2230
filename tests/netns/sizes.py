# SPDX-License-Identifier: GPL-2.0-or-later
"""
How much of it. `make check` takes the sizes that it has time for, `make soak` (NSGATE_SOAK in the
environment) those that doc/RELIABILITY.md names; the scenarios are the same. Tests whose size is
from here are marked `soak`, and what they measured they report, never assert.
"""
import os

SOAK = bool(os.environ.get("NSGATE_SOAK"))


def size(quick, full):
    return full if SOAK else quick


def report(what, text):
    """A figure, for the soak's record; make check does not show it."""
    print(f"\nfigure: {what}: {text}", flush=True)


KILLED = 64  # namespaces under load whose agent is killed
KILLS = size(5, 25)
GAPS = size(3, 20)  # kills whose gap is measured
AT_ONCE = size(200, 1000)  # namespaces attached at once
ROUNDS = size(2, 5)  # of them
CYCLES = size(300, 10000)  # attachments and detachments in a row
SWAPS = size(200, 10000)  # policies one after the other
PAUSE_SECONDS = size(1, 15)  # of swaps without a pause
QUIET = size(15, 63)  # namespaces beside a noisy one
QUIET_RATE = size(200, 1000)  # packets a second of each of them
QUIET_SECONDS = size(2, 15)
