# SPDX-License-Identifier: GPL-2.0-or-later
"""
How long packets wait while the agent is exchanged, and while policies are. No packet is lost or
repeated; how long they waited is reported, not asserted: processors are shared.
"""
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from lab import end, program, until
from sizes import GAPS, KILLED, PAUSE_SECONDS, report

POLICY = {"default": "drop", "rules": [
    {"name": "beat", "action": "accept", "direction": "out", "protocol": ["udp"], "dport": [7],
     "oif": ["eth0"]}]}
SO_TIMESTAMPNS = 35
PACKET = struct.Struct("!HI")


def percentile(values, share):
    return sorted(values)[int((len(values) - 1) * share)]


def in_ms(values):
    return f"p50 {1000 * percentile(values, .5):.1f} p99 {1000 * percentile(values, .99):.1f} ms"


class Beats:
    """Out of each namespace of a star into its middle, stamped by the kernel as they come there."""

    def __init__(self, hub, leaves, rate):
        self.receiver = hub.udp(bind=("", 7))
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.receiver.setblocking(False)
        self.senders = [leaf.udp() for leaf in leaves]
        for number, sender in enumerate(self.senders):
            sender.connect((f"10.77.{number}.1", 7))
        self.pause = 1 / rate
        self.sent = 0
        self.seen = set()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.loop)
        self.thread.start()

    def loop(self):
        while not self.stop.wait(self.pause):
            for number, sender in enumerate(self.senders):
                sender.send(PACKET.pack(number, self.sent))
            self.sent += 1

    def read(self):
        """[(namespace, time of arrival)] of what came since."""
        result = []
        try:
            while True:
                data, control, _, _ = self.receiver.recvmsg(64, 64)
                seconds, rest = struct.unpack("qq", control[0][2])
                beat = PACKET.unpack(data)
                assert beat not in self.seen
                self.seen.add(beat)
                result.append((beat[0], seconds + rest / 1e9))
        except BlockingIOError:
            return result

    def finish(self):
        self.stop.set()
        self.thread.join(10)
        until(lambda: self.read() is None or len(self.seen) == self.sent * len(self.senders),
              lambda: f"{self.sent} of each to arrive; {len(self.seen)} did of all")


def gaps_of_a_kill(lab, beats, count):
    """Seconds from the moment that it is gone to the next packet of each namespace."""
    lab.agent.kill()
    lab.agent.wait()
    beats.read()
    began = time.time()
    lab.start_agent(wait=False)
    first = {}

    def all_back():
        for number, arrived in beats.read():
            first.setdefault(number, arrived - began)
        return len(first) == count
    until(all_back, "packets out of every namespace")
    lab.wait_ready()
    return list(first.values())


@pytest.mark.soak
def test_gap_of_a_killed_agent(own_lab):
    lab = own_lab.start()
    hub, leaves = lab.star(KILLED)
    lab.put_policy("p", **POLICY)
    for number, leaf in enumerate(leaves):
        lab.must("attach", f"netns:{leaf}", "--name", f"n{number}", "--policy", "p")
    beats = Beats(hub, leaves, 100)
    gaps = []
    try:
        for _ in range(GAPS):
            until(lambda s=beats.sent: beats.sent > s + 10, "packets to be sent")
            beats.read()
            gaps.append(gaps_of_a_kill(lab, beats, KILLED))
    finally:
        beats.stop.set()
    beats.finish()
    every = [gap for kill in gaps for gap in kill]
    report("gap", f"{GAPS} kills, {KILLED} namespaces at 100/s, {os.cpu_count()} processors with a "
           f"load of {os.getloadavg()[0]:.1f}: {in_ms(every)}; the last namespace of a kill "
           f"{in_ms([max(kill) for kill in gaps])}")


def delays(lab, hub, leaf, during):
    """Of 2,000 packets a second, while `during` is called again and again."""
    path = f"{lab.dir}/senders"
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{leaf} 10.77.0.1\n")
    process = subprocess.Popen([program("bench/load"), "beat", str(hub), "7", path, "2000",
                                str(PAUSE_SECONDS)], stdout=subprocess.PIPE)
    lab.children.append(process)
    while process.poll() is None:
        during()
    measured = json.loads(process.stdout.read())
    end(process, signal.SIGKILL)
    assert measured["received"] == measured["sent"] and not measured["twice"]
    return measured


@pytest.mark.soak
@pytest.mark.parametrize("rules", [0, 1000])
def test_pause_of_a_swap(own_lab, rules):
    lab = own_lab.start()
    hub, (leaf,) = lab.star(1)
    versions = [json.dumps({"version": 1, **POLICY, "rules": [
        {"name": f"f{number}", "action": "drop", "dport": [1000 + version + number]}
        for number in range(rules + version)] + POLICY["rules"]}) for version in (0, 1)]
    swaps = []

    def swap():
        began = time.monotonic()
        assert lab.http("PUT", "/v1/policies/p", versions[len(swaps) % 2]).status in (200, 201)
        swaps.append(time.monotonic() - began)
    swap()
    lab.must("attach", f"netns:{leaf}", "--name", "x", "--policy", "p")
    calm = delays(lab, hub, leaf, lambda: time.sleep(0.01))
    swaps.clear()
    under_fire = delays(lab, hub, leaf, swap)
    sent = calm["sent"] + under_fire["sent"]
    assert lab.books("x")["packets"]["accepted"] == sent
    report("swaps", f"{len(swaps)} of {rules} rules in {PAUSE_SECONDS} s, {in_ms(swaps)} each, at "
           f"a load of {os.getloadavg()[0]:.1f}; delay of packets without swaps p50 "
           f"{calm['p50']:.0f} p99 {calm['p99']:.0f} us, with them p50 {under_fire['p50']:.0f} p99 "
           f"{under_fire['p99']:.0f} us")
