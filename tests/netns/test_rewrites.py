# SPDX-License-Identifier: GPL-2.0-or-later
"""TTL, hop limit and DSCP set on what is accepted; a wrong checksum would not arrive."""
import os
import socket
import struct

import pytest

from lab import Arrivals, until
from test_flows import exchange

ADDRESS = {(1, 4): "10.77.0.1", (2, 4): "10.77.0.2", (1, 6): "fd77:0::1", (2, 6): "fd77:0::2"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
SET = {"ttl": 33, "dscp": 46}
POLICY = {"default": "accept", "rules": [
    {"name": "set", "action": "accept", "dport": [7, 80], "set": SET}]}


def receiver_of(netns, version, port):
    """(socket, function that receives: payload, hop limit, traffic class)"""
    made = netns.udp(FAMILY[version], bind=("", port))
    made.settimeout(5)
    if version == 4:
        made.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        made.setsockopt(socket.IPPROTO_IP, 13, 1)  # IP_RECVTOS
    else:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)

    def receive():
        data, ancillary, _, _ = made.recvmsg(65536, 256)
        found = {kind: value for _, kind, value in ancillary}
        if version == 4:
            return data, struct.unpack("=i", found[socket.IP_TTL])[0], found[socket.IP_TOS][0]
        return (data, struct.unpack("=i", found[socket.IPV6_HOPLIMIT])[0],
                struct.unpack("=i", found[socket.IPV6_TCLASS])[0])
    return receive


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("direction", ["in", "out"])
def test_udp(lab, version, direction):
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    sender, receiver, to = (inner, outside, 2) if direction == "out" else (outside, inner, 1)
    receive = receiver_of(receiver, version, 7)
    other = receiver_of(receiver, version, 8)
    sizes = [0, 1, 2, 3, 20, 21, 1000, 1400]
    for size in sizes:
        payload = os.urandom(size)
        sender.send(ADDRESS[to, version], 7, 1, payload=payload)
        assert receive() == (payload, 33, 46 << 2)
    sender.send(ADDRESS[to, version], 8, 1)
    assert other() == (b"x" * 20, 64, 0)
    lab.expect(name, {"rules.set": len(sizes), "packets.accepted": len(sizes) + 1,
                      "packets.malformed": 0})


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("direction", ["in", "out"])
def test_datagram_that_is_fragmented(lab, version, direction):
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    sender, receiver, to = (inner, outside, 2) if direction == "out" else (outside, inner, 1)
    receive = receiver_of(receiver, version, 7)
    for size in (2000, 9000, 60000):
        payload = os.urandom(size)
        sender.send(ADDRESS[to, version], 7, 1, payload=payload)
        data, ttl, tos = receive()
        assert data == payload and ttl == 33
    lab.expect(name, {"packets.malformed": 0, "packets.dropped": 0})


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("direction", ["in", "out"])
def test_tcp(lab, version, direction):
    """A transfer both ways; the receiver's kernel counts what came with the new values."""
    inner, outside = lab.pair()
    client, server, to = (inner, outside, 2) if direction == "out" else (outside, inner, 1)
    # Behind the rewriting: at the other end, or in here after nsgate's chains.
    ttl, dscp = ("ip ttl", "ip dscp") if version == 4 else ("ip6 hoplimit", "ip6 dscp")
    server.nft("table inet tap { counter right {}; counter wrong {}\n"
               "chain i { type filter hook input priority 30; meta l4proto != tcp accept\n"
               f"{ttl} 33 {dscp} 46 counter name right accept\n counter name wrong\n}}\n}}\n")
    name = lab.attach(inner, **POLICY)
    exchange(client, server.tcp_listen(80, FAMILY[version]), ADDRESS[to, version], 80, 1000000)
    text = server.exec("nft", "list", "counters", "table", "inet", "tap").stdout
    right, wrong = (int(part.split()[0]) for part in text.split("packets ")[1:])
    assert right > 10 and wrong == 0, text
    stats = lab.stats(name)
    assert stats["packets"]["malformed"] == stats["packets"]["dropped"] == 0


@pytest.mark.parametrize("what", ["ttl", "dscp"])
def test_one_alone_leaves_the_other(lab, what):
    inner, outside = lab.pair()
    lab.attach(inner, default="accept", rules=[
        {"name": "set", "action": "accept", "set": {what: SET[what]}}])
    for version in (4, 6):
        receive = receiver_of(outside, version, 7)
        sender = inner.udp(FAMILY[version])
        level, key = ((socket.IPPROTO_IP, socket.IP_TOS) if version == 4 else
                      (socket.IPPROTO_IPV6, socket.IPV6_TCLASS))
        sender.setsockopt(level, key, 10 << 2 | 1)  # ECN bits stay
        inner.send(ADDRESS[2, version], 7, 1, sender=sender)
        expected = (33, 10 << 2 | 1) if what == "ttl" else (64, 46 << 2 | 1)
        assert receive()[1:] == expected


def test_ping_with_another_ttl(lab):
    inner, outside = lab.pair()
    lab.attach(inner, default="accept", rules=[
        {"name": "set", "action": "accept", "direction": "out", "set": SET}])
    assert inner.ping(ADDRESS[2, 4], 5) == 5
    assert inner.ping(ADDRESS[2, 6], 5) == 5
    assert lab.stats(inner.name)["packets"]["dropped"] == 0


def test_change_of_rewriting_under_way(lab):
    """A policy that starts to rewrite needs whole packets: none is lost at the change."""
    inner, outside = lab.pair()
    lab.put_policy("p", default="accept")
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    arrived = Arrivals(outside, 7)
    sent = 0
    for turn in range(10):
        lab.put_policy("p", **(POLICY if turn % 2 else {"default": "accept"}))
        sent += inner.send(ADDRESS[2, 4], 7, 300, payload=b"x" * 1300)
    arrived.wait(sent)
    lab.expect("x", {"packets.accepted": sent, "packets.malformed": 0})
    until(lambda: lab.stats("x")["queue"]["pending"] == 0, "nothing to wait")
