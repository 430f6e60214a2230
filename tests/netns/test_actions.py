# SPDX-License-Identifier: GPL-2.0-or-later
"""Every action of a rule, as those at both ends of the wire notice it."""
import errno
import itertools
import re
import select
import socket

import pytest

from lab import QUEUE as OWN_QUEUE
from lab import Arrivals, Tap, eventually, rule_counts, until
from nfqueue import NF_ACCEPT, NF_DROP, Consumer

ADDRESS = {(1, 4): "10.77.0.1", (2, 4): "10.77.0.2", (1, 6): "fd77:0::1", (2, 6): "fd77:0::2"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def refusal(netns, address, port):
    """Send a datagram on a connected socket. Return: the errno that comes back, 0 for none."""
    sender = netns.udp(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sender.connect((address, port))
    sender.send(b"x" * 20)
    poll = select.poll()
    poll.register(sender, select.POLLERR)
    poll.poll(2000)
    error = sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    sender.close()
    return error


def tcp_outcome(netns, address, port, timeout):
    """`timeout`: how long silence has to last; long where an answer is to come."""
    try:
        netns.tcp_connect(address, port, timeout).close()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silence"
    return "connected"


@pytest.mark.parametrize("direction", ["in", "out"])
def test_reject_is_refused_at_once(lab, direction):
    inner, outside = lab.pair()
    name = lab.attach(inner, default="accept", rules=[
        {"name": "no", "action": "reject", "direction": direction, "dport": [99]}])
    sender, receiver, to = (inner, outside, 2) if direction == "out" else (outside, inner, 1)
    arrived = Arrivals(receiver, 99)
    for version in (4, 6):
        receiver.tcp_listen(99, FAMILY[version])
        assert refusal(sender, ADDRESS[to, version], 99) == errno.ECONNREFUSED
        assert tcp_outcome(sender, ADDRESS[to, version], 99, 5) == "refused"
    stats = lab.expect(name, {"packets.rejected": 4, "rules.no": 4})
    assert stats["protocol"]["tcp"] == stats["protocol"]["udp"] == 2
    assert stats["packets"]["dropped"] == 0
    assert arrived.total() == 0


@pytest.mark.parametrize("direction", ["in", "out"])
def test_drop_is_silence(lab, direction):
    inner, outside = lab.pair()
    name = lab.attach(inner, default="accept", rules=[
        {"name": "no", "action": "drop", "direction": direction, "dport": [99]}])
    sender, receiver, to = (inner, outside, 2) if direction == "out" else (outside, inner, 1)
    arrived = Arrivals(receiver, 99)
    tap = Tap(inner, hooks=("input", "output"))
    for version in (4, 6):
        receiver.tcp_listen(99, FAMILY[version])
        sender.send(ADDRESS[to, version], 99, 10)
        assert tcp_outcome(sender, ADDRESS[to, version], 99, 0.5) == "silence"

    def all_dropped():  # a SYN may have been sent again
        sent = tap.total("before")[0]
        assert sent >= 22 and tap.total("behind")[0] == 0
        stats = lab.stats(name)
        assert stats["packets"]["dropped"] == stats["packets"]["seen"] == sent
        assert rule_counts(stats) == {"no": sent} and stats["packets"]["rejected"] == 0
    eventually(all_dropped)
    assert arrived.total() == 0


@pytest.mark.parametrize("default, outcome", [("accept", "connected"), ("drop", "silence"),
                                              ("reject", "refused")])
def test_default(lab, default, outcome):
    inner, outside = lab.pair()
    lab.attach(inner, default={"in": default, "out": "accept"})
    for version in (4, 6):
        inner.tcp_listen(99, FAMILY[version])
        timeout = 0.5 if outcome == "silence" else 5
        assert tcp_outcome(outside, ADDRESS[1, version], 99, timeout) == outcome
        # Over its own loopback.
        assert tcp_outcome(inner, ADDRESS[1, version], 99, timeout) == outcome


def test_the_first_rule_that_matches_decides(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, default="accept", rules=[
        {"name": "one", "action": "accept", "direction": "in", "dport": [5]},
        {"name": "two", "action": "drop", "direction": "in", "dport": ["1-9"]},
        {"name": "three", "action": "accept", "direction": "in", "dport": ["1-9"]}])
    arrived = Arrivals(inner, 5, 6)
    outside.send("10.77.0.1", 5, 10)
    outside.send("10.77.0.1", 6, 10)
    arrived.wait({(5, 4): 10})
    stats = lab.expect(name, {"packets.seen": 20, "packets.accepted": 10})
    assert rule_counts(stats) == {"one": 10, "two": 10, "three": 0}
    assert arrived.total() == 10


def test_continue_counts_and_goes_on(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, rules=[
        {"name": "all", "action": "continue"},
        {"name": "small", "action": "continue", "dport": [5], "mark": {"set": "0x7"}},
        {"name": "marked", "action": "accept", "mark": ["0x7"]}])
    arrived = Arrivals(inner, 5, 6)
    outside.send("10.77.0.1", 5, 10)
    outside.send("10.77.0.1", 6, 10)
    arrived.wait(10)
    stats = lab.expect(name, {"packets.seen": 20, "packets.dropped": 10, "default.packets": 10})
    assert rule_counts(stats) == {"all": 20, "small": 10, "marked": 10}


QUEUE = {"default": "drop", "rules": [
    {"name": "ids", "action": "queue", "queue": 7, "protocol": ["udp"], "dport": [25]},
    {"name": "tagged", "action": "queue", "queue": 7, "protocol": ["udp"], "dport": [26],
     "mark": {"set": "0x21"}},
    {"name": "out", "action": "accept", "direction": "out"}]}


@pytest.mark.parametrize("direction", ["in", "out"])
def test_queue_hands_packets_to_another_program(lab, direction):
    inner, outside = lab.pair()
    policy = QUEUE if direction == "in" else QUEUE | {"rules": QUEUE["rules"][:2]}
    name = lab.attach(inner, **policy)
    sender, receiver, to = (inner, outside, 2) if direction == "out" else (outside, inner, 1)
    arrived = Arrivals(receiver, 25, 26, 27)
    odd = (lambda payload, mark: NF_ACCEPT if payload[-1] % 2 else NF_DROP)
    with Consumer(inner, 7, odd) as other:
        for version, port in itertools.product((4, 6), (25, 26, 27)):
            sender.send(ADDRESS[to, version], port, 300,
                        payload=lambda number: bytes([number % 256] * 20))
        stats = lab.expect(name, {"packets.queued_elsewhere": 1200, "packets.dropped": 600,
                                  "rules.ids": 600, "rules.tagged": 600})
        until(lambda: len(other.seen) >= 1200, "the other program to see all of them")
        arrived.wait({(p, v): 150 for p in (25, 26) for v in (4, 6)})
        assert len(other.seen) == 1200 and other.error is None
        assert sorted(mark for _, mark in other.seen) == [0] * 600 + [0x21] * 600
    assert stats["packets"]["seen"] == 1800
    assert arrived.total() == 600


def test_queue_that_nobody_reads_drops(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, **QUEUE)
    arrived = Arrivals(inner, 25)
    outside.send("10.77.0.1", 25, 10)
    lab.expect(name, {"packets.dropped": 10, "packets.unserved": 10,
                      "packets.queued_elsewhere": 0})
    assert arrived.total() == 0
    with Consumer(inner, 7) as other:
        until(lambda: outside.send("10.77.0.1", 25, 1) and other.seen, "the program to be asked")
        until(lambda: arrived.total() == len(other.seen), "what it accepts to arrive")


def test_queue_that_nobody_reads_is_open_if_the_rule_says_so(lab):
    inner, outside = lab.pair()
    rules = [{**rule, "on_queue_down": "open"} if rule["action"] == "queue" else rule
             for rule in QUEUE["rules"]]
    name = lab.attach(inner, **QUEUE | {"rules": rules}, offload=True)
    arrived = Arrivals(inner, 25)
    sender = outside.udp()
    outside.send("10.77.0.1", 25, 10, sender=sender)
    arrived.wait(10)
    lab.expect(name, {"packets.accepted": 10, "packets.unserved": 10, "packets.offloaded": 0})
    with Consumer(inner, 7) as other:  # the flow was let pass, not accepted
        until(lambda: outside.send("10.77.0.1", 25, 1, sender=sender) and other.seen,
              "the program to be asked")


def test_programs_inside_may_have_the_low_numbers(lab):
    """Queue 0 is what they take: nsgate is in nobody's way, and a rule may name it."""
    inner, outside = lab.pair()
    with Consumer(inner, 0) as other:
        name = lab.attach(inner, default="drop", rules=[
            {"name": "ids", "action": "queue", "queue": 0, "protocol": ["udp"], "dport": [25]}])
        assert lab.stats(name)["queue"]["first"] == OWN_QUEUE > 32767
        arrived = Arrivals(inner, 25)
        outside.send("10.77.0.1", 25, 10)
        arrived.wait(10)
        assert len(other.seen) == 10


def test_queue_of_its_own_is_refused(lab):
    """A rule that hands packets to the very queue that they come from would never end."""
    inner = lab.netns()
    lab.put_policy("loop", rules=[{"name": "x", "action": "queue", "queue": OWN_QUEUE}])
    done = lab.ctl("attach", f"netns:{inner}", "--policy", "loop")
    assert done.returncode != 0 and "queue" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert lab.names() == []
    lab.must("attach", f"netns:{inner}", "--policy", "loop", "--queue", "1")


def test_packets_take_the_route_of_their_mark(lab):
    """Their own one or the one that the policy gave them; nsgate's byte leads nowhere else."""
    inner, _ = lab.pair()
    lab.attach(inner, default="accept", rules=[
        {"name": "given", "action": "accept", "dport": [6], "mark": {"set": "0x5"}}])
    for command in ("link add d0 type veth peer name d1", "link set d0 up", "link set d1 up",
                    "route add default dev d0 table 100", "rule add fwmark 0x5 lookup 100",
                    "neigh add 10.77.0.2 lladdr 02:00:00:00:00:99 dev d0 nud permanent"):
        inner.ip(*command.split())
    inner.nft("table inet tap { counter side {}; counter main {}\n"
              "chain p { type filter hook postrouting priority 30; udp dport != { 5, 6, 7 } accept\n"
              "meta l4proto != udp accept\n"
              "oifname d0 counter name side accept; counter name main\n}\n}\n")
    plain, marked = inner.udp(), inner.udp()
    marked.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 5)
    for port, sender in ((5, marked), (6, plain), (7, plain)):
        inner.send("10.77.0.2", port, 10, sender=sender)

    def routed():
        text = inner.exec("nft", "list", "counters", "table", "inet", "tap").stdout
        return re.findall(r"counter (\w+) .*?packets (\d+)", text, re.DOTALL)

    until(lambda: sorted(routed()) == [("main", "10"), ("side", "20")], "20 packets by d0, 10 not")


def test_repeat_sends_a_packet_round_once_with_its_mark(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, rules=[
        {"name": "again", "action": "repeat", "dport": [5], "mark": {"set": "0x10",
                                                                     "mask": "0xff"}},
        {"name": "marked", "action": "accept", "mark": ["0x10/0xff"]},
        {"name": "once", "action": "accept", "dport": [6]}])
    arrived = Arrivals(inner, 5, 6)
    for version in (4, 6):
        outside.send(ADDRESS[1, version], 5, 20)
        outside.send(ADDRESS[1, version], 6, 20)
    arrived.wait(80)
    stats = lab.expect(name, {"packets.repeated": 40, "packets.accepted": 80})
    assert rule_counts(stats) == {"again": 40, "marked": 40, "once": 40}
    assert stats["queue"]["pending"] == 0


def test_repeat_that_nothing_follows_falls_to_the_default(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, rules=[{"name": "again", "action": "repeat", "mark": {"set": 1}}])
    outside.send("10.77.0.1", 5, 20)
    lab.expect(name, {"packets.repeated": 20, "packets.dropped": 20, "default.packets": 20,
                      "queue.pending": 0})


def test_mark_is_set_on_what_is_accepted(lab):
    """Seen by a chain behind nsgate's; the top byte, nsgate's own, is gone again."""
    inner, outside = lab.pair()
    lab.attach(inner, default="accept", rules=[
        {"name": "whole", "action": "accept", "dport": [5], "mark": {"set": "0x123456"}},
        {"name": "part", "action": "accept", "dport": [6], "mark": {"set": "0x10",
                                                                    "mask": "0xff"}},
        {"name": "set", "action": "accept", "dport": [7], "set": {"mark": {"set": "0x9"}}}])
    inner.nft("table inet tap { counter a {}; counter b {}; counter c {}; counter rest {}\n"
              "chain o { type filter hook output priority 30; meta l4proto != udp accept\n"
              "meta mark 0x123456 counter name a accept; meta mark 0x710 counter name b accept\n"
              "meta mark 0x9 counter name c accept; counter name rest\n}\n}\n")
    arrived = Arrivals(outside, 5, 6, 7)
    sender = inner.udp()
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x7ff)
    for port in (5, 6, 7):
        inner.send("10.77.0.2", port, 10, sender=sender)
    arrived.wait(30)
    text = inner.exec("nft", "list", "counters", "table", "inet", "tap").stdout
    assert text.count("packets 10 ") == 3 and "packets 0 " in text, text


def test_audit_mode_drops_nothing_and_says_what_it_would_have(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, mode="audit", rules=[
        {"name": "ok", "action": "accept", "dport": [5]},
        {"name": "bad", "action": "reject", "dport": [6]}])
    arrived = Arrivals(inner, 5, 6, 7)
    for port in (5, 6, 7):
        outside.send("10.77.0.1", port, 10)
    arrived.wait(30)
    stats = lab.expect(name, {"packets.accepted": 30, "audit.would_drop": 20,
                              "packets.dropped": 0, "packets.rejected": 0, "mode": "audit"})
    assert rule_counts(stats) == {"ok": 10, "bad": 10}
    assert stats["default"]["packets"] == 10


def test_audit_of_one_rule(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, rules=[
        {"name": "maybe", "action": "drop", "dport": [6], "audit": True},
        {"name": "bad", "action": "drop", "dport": [7]},
        {"name": "rest", "action": "accept"}])
    arrived = Arrivals(inner, 6, 7, 8)
    for port in (6, 7, 8):
        outside.send("10.77.0.1", port, 10)
    arrived.wait({(6, 4): 10, (8, 4): 10})
    lab.expect(name, {"audit.would_drop": 10, "rules.maybe": 10, "rules.bad": 10,
                      "packets.dropped": 10, "packets.accepted": 20})
