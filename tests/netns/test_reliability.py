# SPDX-License-Identifier: GPL-2.0-or-later
"""
What doc/RELIABILITY.md promises, on real packets: crashes, policy changes under fire, tampering
from within, overload, churn. What test_restarts.py and test_policies.py show is not shown again.

Every packet is numbered, so that a lost, a repeated and a forbidden one can each be told. After
each scenario the books are compared with two witnesses that are not nsgate: the kernel's own
numbering of what it queued, and counters of a table of the test's in front of nsgate's chains.
"""
import contextlib
import ctypes
import errno
import hashlib
import os
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import threading
import time

import pytest

import ipc
from lab import (CLONE_NEWNET, QUEUE, QUEUE_NUMBERS, Arrivals, Netns, Tap, batch, check_books, end, eventually,
                 inside, libc, lookup, owns_tables, run, stopped, until)
from nfqueue import Consumer
from sizes import AT_ONCE, CYCLES, KILLED, KILLS, ROUNDS, SWAPS, report

TURN = 64  # packets that an agent's worker judges at once: what a crash may count twice
WORKERS = os.cpu_count()
LOST = ("dropped", "user_dropped", "unbound_dropped")  # of "queue", not among the seen
OK, NO, WEB = 7, 8, 80
POLICY = {"default": "drop", "rules": [
    {"name": "ok", "action": "accept", "direction": "in", "protocol": ["udp"], "dport": [OK]},
    {"name": "no", "action": "drop", "direction": "in", "protocol": ["udp"], "dport": [NO]},
    {"name": "web", "action": "accept", "protocol": ["tcp"], "dport": [WEB]}]}


def address(number=0):
    """Of the leaf `number` of a star; the inner end of a pair is 10.77.0.1."""
    return f"10.77.{number}.2"


def addresses(number=0):
    return address(number), f"fd77:{number:x}::2"


def family(target):
    return socket.AF_INET6 if ":" in target else socket.AF_INET


# ---- traffic ----


class Load:
    """
    Numbered datagrams to several receivers in turn: `allowed` to port 7 and one forbidden one to
    port 8 per round and receiver. Held up while much waits, so that no queue overflows.
    """

    def __init__(self, sender, receivers, allowed=3, pause=0.001, judged=None):
        """
        `receivers`: [(namespace, its address)]; `judged`: the namespace whose queue is looked at,
        if not the first receiver's.
        """
        self.arrivals = [Arrivals(netns, OK, NO, families=[family(target)])
                         for netns, target in receivers]
        self.pending = (judged or receivers[0][0]).pending()
        sockets = {f: sender.udp(f) for f in (socket.AF_INET, socket.AF_INET6)}
        self.targets = [(sockets[family(target)], target) for _, target in receivers]
        self.allowed = allowed
        self.pause = pause
        self.rounds = 0
        self.error = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.loop)

    def loop(self):
        try:
            while not self.stop.wait(self.pause):
                if self.pending() > 1000:
                    continue
                for sender, target in self.targets:
                    for number in range(self.rounds * self.allowed,
                                        (self.rounds + 1) * self.allowed):
                        sender.sendto(struct.pack("!I", number), (target, OK))
                    sender.sendto(struct.pack("!I", self.rounds), (target, NO))
                self.rounds += 1
        except Exception as error:  # reported by finish()
            self.error = error

    @property
    def sent(self):
        """Allowed ones, to each receiver."""
        return self.rounds * self.allowed

    def collect(self):
        """How many allowed ones came to each receiver."""
        return [sum(count for (port, _), count in arrived.drain(keep=True).items() if port == OK)
                for arrived in self.arrivals]

    def numbers(self, index):
        """Those of the packets that came to a receiver: (allowed, forbidden)."""
        arrived = self.arrivals[index].payloads
        return tuple([struct.unpack("!I", p)[0] for (port, _), payloads in arrived.items()
                      for p in payloads if port == wanted] for wanted in (OK, NO))

    def flow(self, count=30):
        """Until each receiver got so many more."""
        target = [seen + count for seen in self.collect()]
        until(lambda: all(s >= t for s, t in zip(self.collect(), target)), "packets to arrive")

    def hold(self, rounds=20):
        target = self.rounds + rounds
        until(lambda: self.rounds >= target or self.pending() > 1000, "packets to be sent")

    def __enter__(self):
        self.thread.start()
        self.flow()
        return self

    def __exit__(self, *unused):
        self.stop.set()
        self.thread.join(10)

    def finish(self):
        """Everything allowed arrived once, nothing forbidden did."""
        self.__exit__()
        assert self.error is None
        until(lambda: all(seen >= self.sent for seen in self.collect()),
              lambda: f"{self.sent} packets to arrive at each; there are {self.collect()}")
        for index in range(len(self.arrivals)):
            allowed, forbidden = self.numbers(index)
            assert sorted(allowed) == list(range(self.sent))
            assert not forbidden


class Streams:
    """A TCP connection to each of several namespaces, written to and read without a stop."""

    BLOCK = 16384

    def __init__(self, sender, receivers):
        self.connections = []
        for netns, target in receivers:
            listener = netns.tcp_listen(WEB, family(target))
            client = sender.tcp_connect(target, WEB, 20)
            served, _ = listener.accept()
            for one in (client, served):
                one.setblocking(False)
            self.connections.append(
                {"client": client, "served": served, "sent": 0, "got": 0, "rest": b"",
                 "dice": random.Random(target), "out": hashlib.sha256(), "in": hashlib.sha256()})
        self.error = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.loop)

    def write(self, one):
        if not one["rest"] and not self.stop.is_set():
            one["rest"] = one["dice"].randbytes(self.BLOCK)
        if one["rest"]:
            count = one["client"].send(one["rest"])
            one["out"].update(one["rest"][:count])
            one["rest"] = one["rest"][count:]
            one["sent"] += count

    def read(self, one):
        data = one["served"].recv(1 << 18)
        assert data, "the connection ended"
        one["in"].update(data)
        one["got"] += len(data)

    def loop(self):
        try:
            while not self.stop.wait(0.004):
                for one in self.connections:
                    with contextlib.suppress(BlockingIOError):
                        self.write(one)
                    with contextlib.suppress(BlockingIOError):
                        self.read(one)
        except Exception as error:  # reported by finish()
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.stop.set()
        self.thread.join(10)

    def finish(self):
        """What was written was read, byte for byte."""
        self.__exit__()
        assert self.error is None

        def all_read():
            for one in self.connections:
                with contextlib.suppress(BlockingIOError):
                    self.write(one)
                with contextlib.suppress(BlockingIOError):
                    self.read(one)
            return all(o["got"] == o["sent"] and not o["rest"] for o in self.connections)
        until(all_read, lambda: "TCP to bring the rest: " +
              str([(o["sent"], o["got"]) for o in self.connections]))
        for one in self.connections:
            assert one["sent"] > 5 * self.BLOCK
            assert one["in"].digest() == one["out"].digest()


# ---- the books ----


def kernel_line(netns, queue=QUEUE):
    """(waiting, dropped because it was full, dropped undelivered, packets numbered)"""
    with netns.inside(), open("/proc/thread-self/net/netfilter/nfnetlink_queue",
                              encoding="ascii") as file:
        lines = [[int(c) for c in line.split()] for line in file]
    ours = [line for line in lines if line[0] in range(queue, queue + QUEUE_NUMBERS)]
    assert ours, f"nobody has bound queue {queue} in {netns}"
    return tuple(sum(line[column] for line in ours) for column in (2, 5, 6, 7))


def shared_words(lab, stats):
    """
    Of the shared counters, what no document shows: (numbers of an earlier queue, packets let pass
    by the kernel on overload, packets that waited and were let pass by the broker, packets that
    takeovers sent round and that were numbered twice).
    """
    with open(f"{lab.runtime}/attached/{stats['netns']['cookie']}.counters", "rb") as file:
        head = file.read(512)
    assert head[:4] == struct.pack("=I", 0x4e534736), "include/nsgate/shm.h has changed"
    return [struct.unpack("=Q", head[at:at + 8])[0] for at in (72, 96, 104, 360)]


def asked(netns):
    """
    Packets that came before the queue, or where it would be if anybody judged, by the rules' own
    counts: they outlive daemons and queue.
    """
    texts = [run("ip", "netns", "exec", netns.name, "nft", "list", "counter", "inet", "nsgate",
                 name).stdout for name in ("asked", "passed_agent_down")]
    return sum(int(re.search(r"packets (\d+)", text)[1]) for text in texts)


def books(lab, netns, name="x", crashes=0, unbound=0, counter=True, expected=None):
    """
    What the kernel numbered is what was decided, flushed, undelivered or numbered twice; and what
    came before the queue is that and what found it full, or nobody there. A crash may leave one
    turn of each worker counted twice, never one uncounted. `unbound`: packets that found nobody, or
    None if that is not known; `counter`: the rules have stood since the attachment; `expected`: what
    else holds when the last packet has come, as Lab.expect() has it. Return: the statistics.
    """
    def at_rest():
        stats = lab.stats(name)
        line = kernel_line(netns)
        if stats["queue"]["pending"] or line[0] or lab.stats(name) != stats:
            return None
        packets, queue = stats["packets"], stats["queue"]
        decided = (packets["accepted"] + packets["dropped"] + packets["rejected"] +
                   packets["queued_elsewhere"] - packets["offloaded_dropped"])
        base, unseen, released, twice = shared_words(lab, stats)
        last.update(decided=decided, base=base, unseen=unseen, twice=twice, line=line)
        surplus = decided - base + unseen + twice + line[2] - line[3]
        of_all = (decided + twice + sum(queue[key] for key in LOST) +
                  sum(stats["unjudged"].values()) - released) - asked(netns)
        last.update(surplus=surplus, of_all=of_all)
        balanced = (0 <= surplus <= crashes * TURN and
                    (not counter or 0 <= of_all <= crashes * TURN) and
                    unbound in (None, queue["unbound_dropped"]) and
                    (base or (queue["dropped"], queue["user_dropped"]) == line[1:3]) and
                    all(lookup(stats, key) == value for key, value in (expected or {}).items()))
        return balanced and stats
    last = {}
    stats = until(at_rest, lambda: f"the books of {name} to balance{expected or ''}: {last} "
                                   f"{lab.stats(name)}")
    check_books(stats)
    return stats


@pytest.fixture
def scene(lab):
    inner, outside = lab.pair()
    lab.put_policy("p", **POLICY)
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    yield lab, inner, outside


# ---- the agent dies ----


# By the names of the links, which an agent learns anew.
KILL_POLICY = {"default": "drop", "rules": [
    {**POLICY["rules"][0], "iif": ["eth0"]}, *POLICY["rules"][1:]]}
ROUTER_POLICY = {"hooks": ["forward"], "default": "drop", "rules": [
    {**rule, "direction": "forward", **links} for rule, links in zip(
        POLICY["rules"], ({"iif": ["left"], "oif": ["right"]}, {}, {"iif": ["left"]}))]}


def kill_again_and_again(lab, loads):
    """Return: how often."""
    kills = 0
    for turn in range(KILLS):
        early = (None, 0.01, 0.02, None, 0.03)[turn % 5]
        end(lab.agent, signal.SIGKILL)
        for load in loads:
            load.hold()
        kills += 1
        if early:  # and one that dies while it takes over
            lab.start_agent(wait=False)
            time.sleep(early)
            end(lab.agent, signal.SIGKILL)
            kills += 1
        lab.start_agent()
        lab.wait_ready()
        for load in loads:
            load.flow()
    return kills


def books_after(lab, load, taps, kills):
    """`taps`: {name: (namespace, Tap, how many of the load's receivers are behind it)}"""
    surplus = {"ok": 0, "no": 0, "seen": 0}

    def counted_and_true(name, netns, tap, receivers):
        stats = books(lab, netns, name, crashes=kills)
        rules = {r["name"]: r["packets"] for r in stats["rules"]}
        assert stats["queue"]["flushed"] == stats["queue"]["dropped"] == 0
        assert stats["queue"]["user_dropped"] == 0
        pairs = {"ok": (rules["ok"], receivers * load.sent),
                 "no": (rules["no"], receivers * load.rounds),
                 "seen": (stats["packets"]["seen"], tap.total("before")[0])}
        for key, (counted, true) in pairs.items():
            assert counted >= true, f"{name}: {key}"
        return pairs

    for name, (netns, tap, receivers) in taps.items():
        # The last forbidden one may still be under way.
        pairs = eventually(lambda n=name, w=(netns, tap, receivers): counted_and_true(n, *w))
        for key, (counted, true) in pairs.items():
            surplus[key] += counted - true
    assert max(surplus.values()) <= kills * TURN * WORKERS, surplus


@pytest.mark.soak
def test_agent_killed_again_and_again_with_64_namespaces(own_lab):
    """IPv4 and IPv6, TCP and UDP, by rules that name a link."""
    lab = own_lab.start()
    hub, leaves = lab.star(KILLED)
    lab.put_policy("p", **KILL_POLICY)
    taps = {f"n{number}": (leaf, Tap(leaf, hooks=("input", "output")), 2)
            for number, leaf in enumerate(leaves)}
    for name, (leaf, _, _) in taps.items():
        lab.must("attach", f"netns:{leaf}", "--name", name, "--policy", "p")
    receivers = [(leaf, target) for number, leaf in enumerate(leaves)
                 for target in addresses(number)]
    with Streams(hub, receivers) as streams, Load(hub, receivers) as load:
        kills = kill_again_and_again(lab, [load])
        streams.finish()
        load.finish()
    books_after(lab, load, taps, kills)


@pytest.mark.soak
def test_agent_killed_again_and_again_with_a_router(own_lab):
    """What is judged is forwarded, and its source is another afterwards."""
    lab = own_lab.start()
    left, middle, right = lab.router()
    middle.nft("table inet nat { chain post { type nat hook postrouting priority 100;\n"
               "oif right masquerade\n}\n}\n")
    tap = Tap(middle, hooks=("forward",))
    lab.put_policy("p", **ROUTER_POLICY)
    lab.must("attach", f"netns:{middle}", "--name", "x", "--policy", "p")
    receivers = [(right, target) for target in addresses(2)]
    with Streams(left, receivers) as streams, Load(left, receivers, allowed=10,
                                                   judged=middle) as load:
        kills = kill_again_and_again(lab, [load])
        streams.finish()
        load.finish()
    books_after(lab, load, {"x": (middle, tap, 2)}, kills)


@pytest.mark.parametrize("on_agent_down", ["closed", "open"])
def test_agent_that_is_stopped_for_a_second(lab, on_agent_down):
    """A stopped process is not a dead one: packets wait for it, also where the policy is open."""
    inner, outside = lab.pair()
    lab.put_policy("p", on_agent_down=on_agent_down, **POLICY)
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    with Load(outside, [(inner, "10.77.0.1")], pause=0.005) as load:
        with stopped(lab.agent):
            load.collect()
            before, rounds = load.collect()[0], load.rounds
            time.sleep(1.2)  # longer than the grace of a policy that is open
            assert load.collect()[0] == before and load.rounds > rounds
        load.flow()
        load.finish()
    books(lab, inner, expected={"packets.accepted": load.sent, "packets.dropped": load.rounds})


# ---- both die ----


@pytest.mark.parametrize("order", [("agent", "broker"), ("broker", "agent")])
def test_both_killed_and_back_under_load(own_lab, order):
    """Two namespaces that differ in on_agent_down: what is forbidden passes in the open one."""
    lab = own_lab.start()
    hub, leaves = lab.star(2)
    for name, leaf in zip(("closed", "open"), leaves):
        lab.put_policy(name, on_agent_down=name, **POLICY)
        lab.must("attach", f"netns:{leaf}", "--name", name, "--policy", name)
    arrived = [Arrivals(leaf, OK, NO, families=[socket.AF_INET]) for leaf in leaves]
    sender = hub.udp()

    def burst(port, count=20):
        for number in range(2):
            for _ in range(count):
                sender.sendto(b"x" * 20, (address(number), port))

    def counts(port):
        return [a.drain()[port, 4] for a in arrived]

    def judged():
        before = counts(OK), counts(NO)
        burst(NO)
        burst(OK)
        until(lambda: counts(OK) == [n + 20 for n in before[0]], "what is allowed to arrive")
        until(lambda: all(lab.stats(n)["queue"]["pending"] == 0 for n in ("closed", "open")),
              "all to be judged")
        assert counts(NO) == before[1]

    judged()
    lost = 0
    for _ in range(2):
        for which in order:
            end(getattr(lab, which), signal.SIGKILL)
        for port in (OK, NO):
            closed, opened = counts(port)
            burst(port)
            until(lambda p=port, n=opened: counts(p)[1] == n + 20, "all to pass in the open one")
            assert counts(port)[0] == closed
        lost += 2 * 20
        lab.start()
        until(lambda: sorted(lab.names()) == ["closed", "open"], "both to be attached again")
        until(lambda: all(lab.stats(n)["state"] == "attached" for n in ("closed", "open")),
              "both to be judged again")
        judged()
    for name, leaf in zip(("closed", "open"), leaves):
        stats = books(lab, leaf, name, unbound=lost if name == "closed" else 0)
        passed = 2 * (20 + 20) if name == "open" else 0  # twice both ports, with nobody there
        assert stats["unjudged"] == {"agent_down": passed, "queue_full": 0, "undelivered": 0}
        lab.must("detach", name)
        assert leaf.ruleset() == ""


@pytest.mark.parametrize("queues", [1, 2])
def test_packets_that_find_nobody_are_counted(own_lab, queues):
    """Those that waited in a queue which nobody holds any more, and those that came to none."""
    lab = own_lab.start()
    inner, outside = lab.pair()
    lab.put_policy("p", **POLICY)
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p", "--queues", queues)
    tap = Tap(inner, hooks=("input",))
    Arrivals(inner, OK, NO)  # or the kernel would answer that nobody listens
    waiting = [inner.pending(queue, queues) for queue in range(QUEUE, QUEUE + queues)]
    for turn in range(1, 4):
        for port in (OK, NO):
            outside.send("10.77.0.1", port, 10)
        lab.expect("x", {"rules.ok": 10 * turn, "rules.no": 10 * turn})
        end(lab.agent, signal.SIGKILL)
        outside.send("10.77.0.1", OK, 7)
        until(lambda: sum(w() for w in waiting) == 7, "the packets to wait")
        end(lab.broker, signal.SIGKILL)
        for port in (OK, NO):
            outside.send("10.77.0.1", port, 10)
        until(lambda t=turn: tap.total("before")[0] == 47 * t, "the packets to come")
        lab.start()
        until(lambda: lab.names() == ["x"], "the namespace to be attached again")
        for _ in range(2):  # asked for again, and of another agent
            lab.expect("x", {"state": "attached", "queue.unbound_dropped": 27 * turn,
                             "packets.seen": 20 * turn})
            end(lab.agent)
            lab.start_agent()
            lab.wait_ready()
        assert asked(inner) == tap.total("before")[0]
    if queues == 1:
        books(lab, inner, unbound=27 * 3)


# ---- policies change under fire ----


@pytest.mark.soak
def test_swap_after_swap_under_load(scene):
    """Every version allows 7 and forbids 8; they differ in rules, and in offload."""
    lab, inner, outside = scene
    generations = []
    with Load(outside, [(inner, "10.77.0.1")], allowed=10) as load:
        for turn in range(SWAPS):
            fillers = [{"name": f"f{i}", "action": "drop", "dport": [1000 + turn + i]}
                       for i in range(turn % 4)]
            answer = lab.http("PUT", "/v1/policies/p", {
                "version": 1, "default": "drop", "offload": turn % 3 == 2,
                "rules": [*fillers, *POLICY["rules"]]})
            assert answer.status == 200, answer
            generations.append(int(answer.headers["Nsgate-Generation"]))
            assert lab.get("/v1/namespaces/x")["generation"] == generations[-1]
            if turn % 20 == 0:
                load.collect()
        load.finish()
    steps = {(b - a) % 18 for a, b in zip(generations, generations[1:])}
    assert steps == {1}, generations
    stats = books(lab, inner, expected={"packets.dropped": load.rounds})
    packets = stats["packets"]
    assert packets["accepted"] + packets["offloaded"] == load.sent
    assert stats["queue"]["flushed"] == stats["queue"]["dropped"] == 0


@pytest.mark.parametrize("offload", [False, True])
def test_flow_ends_with_the_answer_that_forbids_it(lab, offload):
    """One flow without a pause; what is sent after the answer to a stricter PUT never arrives."""
    inner, outside = lab.pair()
    loose = {"version": 1, "default": "drop", "offload": offload, "rules": POLICY["rules"]}
    strict = {"version": 1, "default": "drop", "offload": offload}
    assert lab.http("PUT", "/v1/policies/p", loose).status == 201
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    tap = Tap(inner, hooks=("input",))
    with Load(outside, [(inner, "10.77.0.1")], allowed=10, pause=0.0005) as load:
        forbidden = []
        for _ in range(25):
            assert lab.http("PUT", "/v1/policies/p", strict).status == 200
            first = load.sent + 2 * load.allowed  # the round under way may have begun before
            load.hold(4)
            rounds = load.rounds
            last = rounds * load.allowed
            until(lambda r=rounds: tap.total("before")[0] >= r * (load.allowed + 1),
                  "all of them to come")
            load.hold(2)
            numbered = kernel_line(inner)[3]
            until(lambda n=numbered: (line := kernel_line(inner))[3] - line[0] >= n,
                  "all of them to be judged by this policy, and not by the next")
            assert lab.http("PUT", "/v1/policies/p", loose).status == 200
            forbidden.append((first, last))
            load.flow(20)
        load.__exit__()
    until(lambda: lab.stats("x")["queue"]["pending"] == 0, "all to be judged")
    load.collect()
    arrived = set(load.numbers(0)[0])
    assert sum(max(0, last - first) for first, last in forbidden) > 100
    for first, last in forbidden:
        late = arrived & set(range(first, last))
        assert not late, f"{len(late)} of {first}..{last} passed"
    stats = books(lab, inner)
    if offload:
        assert stats["packets"]["offloaded"] > 0


def test_offloaded_packets_stay_counted(own_lab):
    """Nobody looks while they are offloaded; then another policy comes, then another agent."""
    lab = own_lab.start()
    inner, outside = lab.pair()
    tap = Tap(inner, hooks=("input", "output"))
    lab.put_policy("p", offload=True, **POLICY)
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    arrived = Arrivals(inner, OK, families=[socket.AF_INET])
    sent = outside.send("10.77.0.1", OK, 100, sender=(sender := outside.udp()))
    arrived.wait(sent)
    outside.send("10.77.0.1", OK, 200, sender=sender)
    arrived.wait(300)
    for change in (lambda: lab.put_policy("p", **POLICY), lambda: end(lab.agent)):
        change()
        if lab.agent.poll() is not None:
            lab.start_agent()
            lab.wait_ready()
        packets = books(lab, inner)["packets"]
        assert packets["offloaded"] >= 200
        assert packets["seen"] + packets["offloaded"] == tap.total("before")[0] == 300


# ---- tampering from within ----

TAMPERING = (
    "flush ruleset", "delete table inet nsgate", "destroy table inet nsgate",
    "flush table inet nsgate", "delete chain inet nsgate judge_in",
    "flush chain inet nsgate judge_in", "flush chain inet nsgate settle_in", "insert rule inet nsgate judge_in accept",
    "add table inet nsgate { flags dormant; }", "add chain inet nsgate mine",
    "add table inet mine; add chain inet mine c { type filter hook input priority -400; "
    "policy accept; }; add rule inet mine c meta mark set 0x04000000 accept")


@contextlib.contextmanager
def container(lab, rootless):
    """
    A namespace by name, the one that it is linked to, and how its root runs a command in it: as
    root of a user namespace of its own, or as root of the host who stepped inside.
    """
    outside = lab.netns("outside")
    if not rootless:
        inner = lab.netns("inner")
        lab.link(inner, outside)
        yield inner, outside, lambda *args: inner.exec(*args, check=False)
        return
    with process("unshare", "--user", "--map-root-user", "--net") as child:
        inner = Netns(f"{outside}-inner")
        lab.namespaces.append(inner)
        run("ip", "netns", "attach", inner, child.pid)
        inner.ip("link", "set", "lo", "up")
        lab.link(inner, outside)
        yield inner, outside, lambda *args: run(
            "nsenter", "-t", child.pid, "--user", "--net", "--preserve-credentials", *args,
            check=False)
        inner.close()


@contextlib.contextmanager
def process(*args):
    child = subprocess.Popen([*args, "sh", "-c", "echo ready; exec sleep 600"],
                             stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        end(child)


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
def test_root_inside_cannot_take_the_rules_away(lab, rootless):
    if not owns_tables(lab):
        pytest.skip("this kernel has no owned tables")
    with container(lab, rootless) as (inner, outside, inside_root):
        name = lab.attach(inner, **POLICY)
        rules = inner.ruleset()
        arrived = Arrivals(inner, OK, NO, families=[socket.AF_INET])
        sent = 0

        def judged():
            nonlocal sent
            sent += 10
            for port in (NO, OK):
                outside.send("10.77.0.1", port, 10)
            lab.expect(name, {"rules.ok": sent, "rules.no": sent})
            assert arrived.drain() == {(OK, 4): sent, (NO, 4): 0}

        judged()
        for command in TAMPERING:
            done = inside_root("nft", command)
            judged()
            if "mine c" not in command and command != "flush ruleset":
                assert done.returncode != 0, command
        with pytest.raises(OSError):
            Consumer(inner, QUEUE)
        assert inside_root("nft", "flush ruleset").returncode == 0  # what is theirs goes
        assert inner.ruleset() == rules
        for _ in range(3):
            assert inside_root("ip", "link", "set", "eth0", "down").returncode == 0
            assert inside_root("ip", "link", "set", "eth0", "up").returncode == 0
            until(lambda: "LOWER_UP" in outside.ip("link", "show", "eth0").stdout, "the link")
            judged()
        assert books(lab, inner, name)["queue"]["flushed"] == 0
        lab.detach(name)
        assert inner.ruleset() == ""


def test_rules_flushed_while_no_broker_runs_are_put_back(own_lab):
    """The window is documented; what is held is that it ends with the next broker's start."""
    lab = own_lab.start()
    with container(lab, True) as (inner, outside, inside_root):
        name = lab.attach(inner, **POLICY)
        rules = inner.ruleset()
        arrived = Arrivals(inner, OK, NO, families=[socket.AF_INET])
        end(lab.broker)
        assert inside_root("nft", "flush ruleset").returncode == 0
        assert inner.ruleset() == ""
        lab.start_broker()
        ipc.Client(lab).close()  # it answers: it has taken custody
        before = arrived.drain()[NO, 4]
        for port in (NO, OK):
            outside.send("10.77.0.1", port, 10)
        until(lambda: arrived.drain()[OK, 4] == 10, "what is allowed to arrive")
        lab.expect(name, {"rules.ok": 10, "rules.no": 10})
        assert arrived.drain()[NO, 4] == before
        lab.wait_ready()
        assert inside_root("nft", "flush ruleset").returncode == 0
        assert sorted(inner.ruleset().split()) == sorted(rules.split())
        books(lab, inner, name)


def flush(inner, inside_root, how, expected):
    """Root inside has the kernel drop what waits."""
    until(lambda: kernel_line(inner)[0] == expected, "the packets to wait")
    if how == "chain":
        assert inside_root("nft", "flush ruleset").returncode == 0
    else:
        assert inside_root("ip", "link", "set", "eth0", "down").returncode == 0
        assert inside_root("ip", "link", "set", "eth0", "up").returncode == 0
    until(lambda: kernel_line(inner)[0] == 0, "the packets to be flushed")


def flushed_while(lab, how, away, late=0):
    """`late`: packets that arrive after those that are flushed, before the agent is back."""
    with container(lab, True) as (inner, outside, inside_root):
        name = lab.attach(inner, **POLICY)
        arrived = Arrivals(inner, OK, NO, families=[socket.AF_INET])
        for turn in range(1, 4):
            if how == "chain":
                assert inside_root("nft", "add table inet mine; add chain inet mine c "
                                   "{ type filter hook input priority 0; }").returncode == 0
            before = arrived.total()
            with away():
                outside.send("10.77.0.1", OK, 100)
                outside.send("10.77.0.1", NO, 50)
                flush(inner, inside_root, how, 150)
                until(lambda: "LOWER_UP" in outside.ip("link", "show", "eth0").stdout, "the link")
                outside.send("10.77.0.1", OK, late)
                until(lambda: kernel_line(inner)[0] == late, "the late ones to wait")
            arrived.wait(before + late)
            before = arrived.total()
            until(lambda b=before: outside.send("10.77.0.1", OK, 1) and arrived.total() > b,
                  "packets to pass")
            stats = books(lab, inner, name)
            assert arrived.seen[NO, 4] == 0
            assert stats["queue"]["flushed"] == 150 * turn
            assert stats["packets"]["dropped"] == 150 * turn
            assert stats["packets"]["accepted"] == arrived.total()


@pytest.mark.parametrize("late", [0, 20])
@pytest.mark.parametrize("how", ["link", "chain"])
def test_packets_flushed_without_an_agent_are_counted(own_lab, how, late):
    lab = own_lab.start()

    @contextlib.contextmanager
    def dead():
        end(lab.agent)
        yield
        lab.start_agent()
        # Not just ready: it must have looked at the queue before the next packet comes.
        until(lambda: [n["state"] for n in lab.get("/v1/namespaces")["namespaces"]] ==
              ["attached"], "the namespace to be judged again")
    flushed_while(lab, how, dead, late)


@pytest.mark.parametrize("late", [0, 20])
@pytest.mark.parametrize("how", ["link", "chain"])
def test_packets_flushed_before_a_slow_agent_reads_are_counted(lab, how, late):
    """Their messages were delivered: they look as if they could be judged."""
    flushed_while(lab, how, lambda: stopped(lab.agent), late)


def test_agent_killed_in_its_takeover_again_and_again(own_lab):
    """What each of them sent round is counted by none of them; the next one settles it."""
    lab, leaves_count, kills = own_lab.start(), 4, 12
    hub, leaves = lab.star(leaves_count)
    lab.put_policy("p", **POLICY)
    for number, leaf in enumerate(leaves):
        lab.must("attach", f"netns:{leaf}", "--name", f"n{number}", "--policy", "p")
    with Load(hub, [(leaf, address(n)) for n, leaf in enumerate(leaves)]) as load:
        for kill in range(kills):
            end(lab.agent, signal.SIGKILL)
            load.hold(5)
            lab.start_agent(wait=False)
            # Not waiting for anything: whatever it is doing by then is to be interrupted.
            time.sleep(0.004 * kill)
        end(lab.agent, signal.SIGKILL)
        lab.start_agent()
        lab.wait_ready()
        load.flow()
        load.finish()
    for number, leaf in enumerate(leaves):
        stats = books(lab, leaf, f"n{number}", crashes=kills + 1)
        assert stats["queue"]["flushed"] == 0
        assert stats["packets"]["accepted"] >= load.sent


# ---- overload ----

WHOLE = [{"name": "ok", "action": "accept", "protocol": ["udp"], "dport": [OK],
          "set": {"ttl": 33}}]  # has every packet copied as a whole


@pytest.mark.parametrize("what", ["closed", "open", "undelivered", "undelivered-open"])
def test_queue_full_while_the_agent_is_stopped(own_lab, what):
    lab, length, sent = own_lab, 100, 400
    lab.start_broker("--queue-length", str(length))
    lab.start_agent()
    lab.wait_ready()
    inner, outside = lab.pair()
    lab.put_policy("p", default="drop", on_overload="open" if "open" in what else "closed",
                   rules=WHOLE if "undelivered" in what else POLICY["rules"])
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    tap = Tap(inner, hooks=("input",))
    arrived = Arrivals(inner, OK, NO, families=[socket.AF_INET])
    payload = b"x" * (1400 if "undelivered" in what else 20)
    for turn in range(1, 4):
        with stopped(lab.agent):
            outside.send("10.77.0.1", OK, sent // 2, payload)
            outside.send("10.77.0.1", NO, sent // 2, payload)
            until(lambda t=turn: tap.total("before")[0] == t * sent, "the packets to come")
            waiting = kernel_line(inner)[0]
            assert 0 < waiting <= length
        until(lambda: kernel_line(inner)[0] == 0, "what waited to be judged")
        stats = books(lab, inner)
        packets, queue = stats["packets"], stats["queue"]
        assert tap.total("before")[0] == turn * sent
        until(lambda: arrived.total() == tap.total("behind")[0], "what passed to arrive")
        passed = arrived.total()
        unjudged = stats["unjudged"]
        assert unjudged["agent_down"] == 0
        if "open" in what:
            # The rest passed unjudged, forbidden ones too.
            assert passed + packets["dropped"] == tap.total("before")[0]
            assert passed == tap.total("behind")[0]
            assert queue["dropped"] == queue["user_dropped"] == 0
            assert arrived.seen[NO, 4] + packets["dropped"] == turn * sent // 2
            assert unjudged["queue_full"] + unjudged["undelivered"] + packets["seen"] == turn * sent
        else:
            assert unjudged["queue_full"] == unjudged["undelivered"] == 0
            assert packets["seen"] + queue["dropped"] + queue["user_dropped"] == turn * sent
            assert passed == packets["accepted"] == tap.total("behind")[0]
            assert arrived.seen[NO, 4] == 0
        assert queue["flushed"] == 0
    if what == "open":
        assert packets["accepted"] == 3 * length
        assert unjudged == {"agent_down": 0, "queue_full": 3 * (sent - length), "undelivered": 0}
    if what == "undelivered-open":
        assert unjudged["undelivered"] > 0
    if what == "closed":
        assert queue["dropped"] == 3 * (sent - length)
    if what == "undelivered":
        assert queue["user_dropped"] > 0
    outside.send("10.77.0.1", OK, 10)
    arrived.wait(passed + 10)
    books(lab, inner)


FLOOD = """
import os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    try:
        while True:
            s.send(b"x" * 20)
    except OSError:
        pass
"""


def test_noisy_namespace_harms_only_itself(lab):
    quiet, rate, seconds = 8, 200, 3.0
    hub, leaves = lab.star(quiet + 1)
    lab.put_policy("p", **POLICY)
    for number, leaf in enumerate(leaves):
        lab.must("attach", f"netns:{leaf}", "--name", f"n{number}", "--policy", "p")
    arrivals = [Arrivals(leaf, OK, families=[socket.AF_INET]) for leaf in leaves[:quiet]]
    tap = Tap(leaves[quiet], hooks=("input", "output"))
    floods = [hub.popen("python3", "-c", FLOOD, address(quiet), port, stdout=subprocess.PIPE)
              for port in (OK, NO, NO)]
    try:
        for flood in floods:
            assert flood.stdout.readline() == b"ready\n"
        until(lambda: tap.total("before")[0] > 5000, "the flood")
        sender, sent = hub.udp(), 0
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds:
            for _ in range(min(int(now * rate) + 1 - sent, 20)):
                for number in range(quiet):
                    sender.sendto(struct.pack("!I", sent), (address(number), OK))
                sent += 1
            time.sleep(0.002)
    finally:
        for flood in floods:
            end(flood)
    for number, arrived in enumerate(arrivals):
        arrived.wait(sent, keep=True)
        numbers = sorted(struct.unpack("!I", p)[0] for p in arrived.payloads[OK, 4])
        assert numbers == list(range(sent))
        stats = books(lab, leaves[number], f"n{number}")
        assert stats["packets"]["accepted"] == stats["packets"]["seen"] == sent

    def flood_is_counted():
        stats = books(lab, leaves[quiet], f"n{quiet}")
        packets, queue = stats["packets"], stats["queue"]
        flooded = tap.total("before")[0]
        assert packets["seen"] + queue["dropped"] + queue["user_dropped"] == flooded
        assert packets["accepted"] == tap.total("behind")[0]
        assert flooded > 20 * sent
    eventually(flood_is_counted)  # the last of it may still be under way


# ---- they come and go ----

AT_FDCWD, AT_EMPTY_PATH, FD_NSFS_ROOT = -100, 0x1000, -10003
RSS_SLACK = 2 << 20


def rss(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def memory(lab):
    return rss(lab.broker.pid), rss(lab.agent.pid)


class Attacher:
    """Attach and detach by broker.sock, without a process for each."""

    def __init__(self, lab):
        self.client = ipc.Client(lab)

    def ask(self, data, fds=()):
        status, text = until(lambda: (a := self.client.ask(data, fds))[0] != 3 and a,
                             "the broker to have taken stock")
        assert status == 0, text

    def request(self, netns, name):
        return ipc.message(ipc.ATTACH, ipc.attach_body(name, "p", f"netns:{netns}"))

    def attach(self, netns, name):
        fd = os.open(netns.path, os.O_RDONLY)
        self.ask(self.request(netns, name), [fd])
        os.close(fd)

    def detach(self, name):
        self.ask(ipc.message(ipc.DETACH, name.encode().ljust(64, b"\0")))


def handle_of(netns):
    """A weak reference to a namespace by a descriptor of it; None on a kernel that has none."""
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 64, 0) + bytes(64), 72)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(netns, b"", handle, ctypes.byref(mount), AT_EMPTY_PATH) < 0:
        return None
    return handle


def file_handle(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return handle_of(fd)
    finally:
        os.close(fd)


def handle_error(handle):
    fd = libc.open_by_handle_at(FD_NSFS_ROOT, handle, os.O_RDONLY)
    if fd >= 0:
        os.close(fd)
        return 0
    return ctypes.get_errno()


def fresh_namespace():
    """A descriptor of a namespace that nothing else holds."""
    with inside("/proc/thread-self/ns/net"):
        if libc.unshare(CLONE_NEWNET) < 0:
            raise OSError(ctypes.get_errno(), "unshare")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@pytest.mark.soak
def test_cycle_after_cycle(own_lab):
    """Each on a namespace of its own, now and then one on a namespace that stays, with traffic."""
    lab = own_lab.start()
    inner, outside = lab.pair()
    lab.put_policy("p", offload=True, **POLICY)
    attacher = Attacher(lab)
    arrived = Arrivals(inner, OK, NO, families=[socket.AF_INET])
    handles, idle = [], lab.fds()

    def with_traffic():
        attacher.attach(inner, "x")
        before = arrived.total()
        for port in (NO, OK):
            outside.send("10.77.0.1", port, 5)
        arrived.wait(before + 5)
        attacher.detach("x")

    def cycles(count):
        for number in range(count):
            if number % 50 == 0:
                with_traffic()
            netns = fresh_namespace()
            handles.append(handle_of(netns))
            attacher.ask(attacher.request("fresh", "y"), [netns])
            os.close(netns)
            attacher.detach("y")
    cycles(100)  # the allocator's first pages
    until(lambda: not lab.names(), "it to be gone")
    lab.wait_fds(idle)
    before = memory(lab)
    began = time.monotonic()
    cycles(CYCLES)
    took = time.monotonic() - began
    assert lab.names() == [] and inner.ruleset() == ""
    assert arrived.seen[NO, 4] == 0
    lab.wait_fds(idle)
    assert all(a - b < RSS_SLACK for a, b in zip(memory(lab), before)), (before, memory(lab))
    assert os.listdir(f"{lab.runtime}/attached") == []
    if handles[0]:
        until(lambda: all(handle_error(one) == errno.ESTALE for one in handles),
              "every namespace to be destroyed", 5)
    report("cycles", f"{CYCLES} in {took:.1f} s, {1000 * took / CYCLES:.1f} ms each; resident KiB "
           f"of broker and agent {[m >> 10 for m in before]}, then {[m >> 10 for m in memory(lab)]}")


@pytest.mark.soak
def test_many_at_once_again_and_again(own_lab):
    lab = own_lab.start()
    lab.put_policy("p", **POLICY)
    fds = lab.fds()
    attachers = [Attacher(lab) for _ in range(10)]
    sizes, took = [], []
    for _ in range(1 + ROUNDS):  # the first warms up
        made = [Netns(f"ngt-{os.getpid()}-{next(lab.links)}-c") for _ in range(AT_ONCE)]
        lab.namespaces += made
        batch([f"netns add {n}" for n in made])
        handles = [file_handle(n.path) for n in made]
        opened = [os.open(n.path, os.O_RDONLY) for n in made]
        began = time.monotonic()
        for number in range(0, AT_ONCE, len(attachers)):
            for i, attacher in enumerate(attachers):
                attacher.client.send(attacher.request(made[number + i], f"n{number + i}"),
                                     [opened[number + i]])
            for attacher in attachers:
                kind, body = attacher.client.receive()
                assert kind == ipc.REPLY and struct.unpack("=I", body[:4])[0] == 0, body
        took.append(time.monotonic() - began)
        for fd in opened:
            os.close(fd)
        assert len(lab.names()) == AT_ONCE
        full = memory(lab)
        for number in range(0, AT_ONCE, 2):  # half is detached, half just ends
            attachers[0].detach(f"n{number}")
        lab.delete_namespaces()
        until(lambda: not lab.names(), "all to be released", 5)
        if handles[0]:
            until(lambda h=handles: all(handle_error(one) == errno.ESTALE for one in h),
                  "every namespace to be destroyed", 5)
        assert os.listdir(f"{lab.runtime}/attached") == []
        sizes.append(memory(lab))
    for attacher in attachers:
        attacher.client.close()
    lab.wait_fds(fds)
    assert all(a - b < RSS_SLACK for a, b in zip(sizes[-1], sizes[0])), sizes
    report("at once", f"{AT_ONCE} attached in {statistics.median(took):.1f} s; resident KiB of "
           f"broker and agent {[m >> 10 for m in full]}, without any {[m >> 10 for m in sizes[-1]]}")


# ---- policies that are not there ----


def write_policy(lab, text, mode):
    with open(f"{lab.policies}/.p.tmp", "w", encoding="ascii") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
    os.rename(f"{lab.policies}/.p.tmp", f"{lab.policies}/p.json")


def passes(lab, inner, outside, expected):
    """Ten datagrams to the port that the policy allows: how many arrive."""
    arrived = Arrivals(inner, OK, families=[socket.AF_INET])
    seen = lab.stats("x")["packets"]["seen"]
    outside.send("10.77.0.1", OK, 10)
    lab.expect("x", {"packets.seen": seen + 10, "queue.pending": 0})
    arrived.wait(expected)
    arrived.close()


@pytest.mark.parametrize("how", ["missing", "unreadable"])
def test_policy_that_a_new_agent_does_not_find(own_lab, how):
    """Closed without a policy, whatever the one before said, and healed when it is there again."""
    lab = own_lab.start()
    inner, outside = lab.pair()
    lab.put_policy("p", on_agent_down="closed", **POLICY)
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    passes(lab, inner, outside, 10)
    path = f"{lab.policies}/p.json"
    with open(path, encoding="ascii") as file:
        text = file.read()
    end(lab.agent)
    if how == "missing":
        os.unlink(path)
    else:
        write_policy(lab, text, 0)
    lab.start_agent()
    lab.wait_ready()
    lab.expect("x", {"state": "degraded"}, 3)
    passes(lab, inner, outside, 0)
    assert lab.stats("x")["no_policy"]["packets"] == 10
    if how == "unreadable":
        os.chmod(path, 0o644)
    else:
        write_policy(lab, text, 0o644)
    lab.expect("x", {"state": "attached"}, 5)
    passes(lab, inner, outside, 10)
    books(lab, inner)


def test_policy_that_becomes_unreadable_stays_in_force(scene):
    lab, inner, outside = scene
    with open(f"{lab.policies}/p.json", encoding="ascii") as file:
        text = file.read()
    write_policy(lab, '{"version": 1, "default": "accept"}', 0)
    until(lambda: lab.get("/v1/policies")["policies"][0].get("problem"), "it to be reported")
    passes(lab, inner, outside, 10)
    forbidden = Arrivals(inner, NO)
    outside.send("10.77.0.1", NO, 10)
    lab.expect("x", {"rules.no": 10, "state": "attached"})
    assert forbidden.total() == 0
    write_policy(lab, text, 0o644)
    until(lambda: "problem" not in lab.get("/v1/policies")["policies"][0], "the problem to end")
    passes(lab, inner, outside, 10)
