# SPDX-License-Identifier: GPL-2.0-or-later
"""
Every call that can fail does, once and for good, in everything that the programs do: nobody
crashes or hangs, nothing leaks, nothing forbidden passes, and all is well again afterwards.

By default some of all cases are tried, always the same; with NSGATE_FAULTS=all every one.
"""
import json
import os
import signal

import pytest

import ipc
from harness import FaultLab, Sweep, cases, error_name, policy
from lab import until

ALL = os.environ.get("NSGATE_FAULTS") == "all"
SHARE = 3 if os.environ.get("NSGATE_SANITIZER") else 1
AGENT, BROKER = "nsgate-agent", "nsgate-broker"
once_and_for_good = pytest.mark.parametrize("for_good", [False, True], ids=["once", "for-good"])


def sweep(program, for_good, prepare, suffer, budget, restarts=False):
    """Half of the budget for memory, as there are so many allocations, half for all else."""
    made = Sweep(program, for_good, prepare, restarts)
    try:
        memory = {name: n for name, n in made.counts.items() if name == "malloc"}
        others = {name: n for name, n in made.counts.items() if name != "malloc"}
        budget = 0 if ALL else max(budget // SHARE, 4)
        todo = cases(memory, for_good, budget // 2) + cases(others, for_good, budget)
        made.run(todo, suffer)
    finally:
        made.close()
    assert not made.complaints, "\n".join(made.complaints)
    # Not every round makes each call as often, and a slow one is not waited for.
    assert made.fired > len(todo) / 4, f"only {made.fired} of {len(todo)} calls were made"


@once_and_for_good
@pytest.mark.parametrize("program", [AGENT, BROKER])
def test_a_day(program, for_good):
    """Attach, packets, policies, documents, detach."""
    sweep(program, for_good, lambda lab: lab.count(program), lambda lab: lab.suffer(for_good),
          12)


@once_and_for_good
@pytest.mark.parametrize("killed, program", [(AGENT, AGENT), (BROKER, BROKER), (AGENT, BROKER)],
                         ids=["agent", "broker", "broker-while-agent"])
def test_takeover(killed, program, for_good):
    """A daemon is killed and the next one takes over what is attached."""
    sweep(program, for_good, lambda lab: lab.count_restart(killed, program),
          lambda lab: lab.suffer_restart(killed, for_good), 6, restarts=True)


def test_an_answer_that_is_lost():
    """An agent that is killed after it was told of a detachment: nobody owes it for good."""
    with FaultLab() as lab:
        lab.start()
        before = lab.holdings_at_rest()
        lab.attach_fresh()
        assert "queue" in lab.fresh.ruleset()
        lab.agent.send_signal(signal.SIGSTOP)
        client = ipc.Client(lab)
        client.send(ipc.message(ipc.DETACH, b"fresh".ljust(64, b"\0")))
        until(lambda: "queue" not in lab.fresh.ruleset(), "the broker to tell the agent")
        lab.restart(AGENT)
        client.receive()
        client.close()
        lab.heal()
        agent = lab.holdings_at_rest()  # a new one: no more than it has now
        lab.lost_nothing((before[0], agent[1], before[2], agent[3]))


COMMANDS = (
    ("attach", "netns:FRESH", "--name", "fresh", "--policy", "p"),
    ("ls",),
    ("stats", "steady"),
    ("policy", "set", "p", "FILE"),
    ("detach", "fresh"),
)


@once_and_for_good
def test_nsgatectl(for_good):
    """It says in one line what failed, with the right sort of exit status."""
    with FaultLab() as lab:
        lab.start()
        with open(f"{lab.dir}/policy.json", "w", encoding="ascii") as file:
            json.dump(policy(0), file)
        plan = lab.plans["nsgatectl"]
        for words in COMMANDS:
            words = [{"netns:FRESH": f"netns:{lab.fresh}",
                      "FILE": f"{lab.dir}/policy.json"}.get(word, word) for word in words]

            def again():
                attached = "fresh" in lab.names()
                if words[0] == "attach" and attached:
                    lab.detach_fresh()
                elif words[0] == "detach" and not attached:
                    lab.attach_fresh()

            again()
            plan.arm()
            lab.must(*words)
            plan.disarm()
            counts = plan.counts
            for call, error, nth in cases(counts, for_good, 0 if ALL else 6 // SHARE):
                again()
                plan.arm(call, error, nth, for_good)
                done = lab.ctl(*words)
                plan.disarm()
                what = f"{words[0]}: {call}() number {nth}: {error_name(error)}"
                assert done.returncode >= 0, f"{what}: signal {-done.returncode}"
                assert done.returncode == 0 or done.stderr, f"{what}: {done.returncode}, silent"
        lab.heal()
        lab.forbidden_held()
