# SPDX-License-Identifier: GPL-2.0-or-later
"""
One noisy namespace harms only itself: beside it others send at a steady rate. What holds at any
load is asserted; the figures are printed by `make soak` and recorded in doc/RELIABILITY.md.
"""
import contextlib
import json
import os
import signal
import subprocess

import pytest

from lab import Tap, end, eventually, program, run, until
from sizes import QUIET, QUIET_RATE, QUIET_SECONDS, report

POLICY = {"default": "drop", "rules": [
    {"name": "beat", "action": "accept", "direction": "out", "protocol": ["udp"], "dport": [7]},
    {"name": "flood", "action": "drop", "direction": "in", "protocol": ["udp"]}]}
# Every packet goes by every rule, so that a flood is many times what can be judged.
COSTLY = {"default": "drop", "rules": [
    {"name": f"r{number}", "action": "continue", "protocol": ["udp"]} for number in range(2000)]}


def beat(lab, hub, senders):
    path = f"{lab.dir}/senders"
    with open(path, "w", encoding="ascii") as file:
        file.writelines(f"{leaf} 10.77.{number}.1\n" for number, leaf in enumerate(senders))
    done = run(program("bench/load"), "beat", hub, 7, path, QUIET_RATE, QUIET_SECONDS, timeout=90)
    return json.loads(done.stdout)


@contextlib.contextmanager
def flood(hub, target):
    """Two senders, as fast as they can."""
    senders = [subprocess.Popen([program("bench/load"), "udp", str(hub), target, str(port), "8",
                                 "20", "0", "60"], stdout=subprocess.DEVNULL)
               for port in (1000, 2000)]
    try:
        yield
    finally:
        for sender in senders:
            end(sender, signal.SIGKILL)


@pytest.mark.soak
def test_quiet_namespaces_beside_a_noisy_one(own_lab):
    lab = own_lab.start()
    hub, leaves = lab.star(QUIET + 1)
    lab.put_policy("quiet", **POLICY)
    lab.put_policy("noisy", **COSTLY)
    quiet, noisy, target = leaves[:QUIET], f"n{QUIET}", f"10.77.{QUIET}.2"
    for number, leaf in enumerate(quiet):
        lab.must("attach", f"netns:{leaf}", "--name", f"n{number}", "--policy", "quiet")
    alone = beat(lab, hub, quiet)
    with flood(hub, target):  # what the flood alone costs, judged by nobody
        unjudged = beat(lab, hub, quiet)
    lab.must("attach", f"netns:{leaves[QUIET]}", "--name", noisy, "--policy", "noisy")
    tap = Tap(leaves[QUIET], hooks=("input",))
    with flood(hub, target):
        until(lambda: lab.stats(noisy)["queue"]["dropped"] > 0, "it to be more than is judged")
        beside = beat(lab, hub, quiet)
    told = [line for line in lab.log("nsgate-agent").splitlines() if " event=flooded " in line]
    assert told and all(f" netns={noisy} " in line for line in told)
    for each in (alone, unjudged, beside):
        assert each["received"] == each["sent"] and not each["twice"]
    sent = (alone["sent"] + unjudged["sent"] + beside["sent"]) // QUIET
    for number in range(QUIET):
        lab.expect(f"n{number}", {"rules.beat": sent, "queue.dropped": 0, "queue.user_dropped": 0})

    def flood_is_counted():
        stats = lab.books(noisy)
        flooded, queue = tap.total("before")[0], stats["queue"]
        assert tap.total("behind")[0] == stats["packets"]["accepted"] == 0
        assert stats["packets"]["seen"] + queue["dropped"] + queue["user_dropped"] == flooded
        return stats, flooded
    stats, flooded = eventually(flood_is_counted)  # the last of it may still be under way
    report("noisy namespace",
           f"{QUIET} quiet ones at {QUIET_RATE}/s on {os.cpu_count()} processors, rate of each and "
           "delay in us, " + "; ".join(
               f"{what}: {each['rate']:.0f}/s, p50 {each['p50']:.0f} p99 {each['p99']:.0f}"
               for what, each in (("alone", alone), ("beside a flood that nobody judges", unjudged),
                                  ("beside one that is judged", beside))) +
           f"; of that, {stats['packets']['seen']} of {flooded} packets were judged")


def cpus_of_workers(agent):
    """{name of a worker: the CPUs it may use}"""
    found = {}
    for task in os.listdir(f"/proc/{agent}/task"):
        with open(f"/proc/{agent}/task/{task}/status", encoding="ascii") as file:
            facts = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        if facts["Name"].startswith("nsgate/") and not facts["Name"].startswith("nsgate/flood"):
            found[facts["Name"]] = facts["Cpus_allowed_list"]
    return found


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is only one CPU")
def test_a_worker_with_a_stream_of_packets_stays_on_a_cpu_of_its_own(own_lab):
    lab = own_lab.start()
    inner, outside = lab.pair()
    lab.attach(inner, **POLICY)
    free = set(cpus_of_workers(lab.agent.pid).values())
    assert len(free) == 1  # all of them may use the same
    sender = subprocess.Popen([program("bench/load"), "udp", str(inner), "10.77.0.2", "7", "1", "20",
                               "20000", "20"], stdout=subprocess.DEVNULL)
    try:
        until(lambda: any(cpus.isdigit() for cpus in cpus_of_workers(lab.agent.pid).values()),
              lambda: f"a worker to have a CPU of its own: {cpus_of_workers(lab.agent.pid)}")
    finally:
        end(sender, signal.SIGKILL)
    # It looks after a round, so it takes packets to show that there are few.
    probe = inner.udp()

    def let_go():
        probe.sendto(b"", ("10.77.0.2", 7))
        return set(cpus_of_workers(lab.agent.pid).values()) == free
    until(let_go, lambda: f"it to be let go: {cpus_of_workers(lab.agent.pid)}")
    lab.books(inner.name)
