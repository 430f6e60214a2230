# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames that no honest sender makes: every one gets a verdict, and none holds up another."""
import contextlib
import os
import random
import socket
import struct

import pytest

from frames import ETH_P_IP, ETH_P_IPV6, Wire, ipv4, ipv6, raw_socket, tcp, udp
from lab import Arrivals, Tap, until

IN4, OUT4, IN6, OUT6 = "10.77.0.1", "10.77.0.2", "fd77:0::1", "fd77:0::2"
POLICY = {"default": "drop", "rules": [
    {"name": "ok", "action": "accept", "protocol": ["udp"], "dport": [7]}]}


def extension(next_header, octets=8):
    return struct.pack("!BB", next_header, octets // 8 - 1) + b"\1\4" + b"\0" * (octets - 4)


def chain(count, last, payload):
    """`count` destination options one after the other."""
    return 60, b"".join(extension(60) for _ in range(count - 1)) + extension(last) + payload


SHORT = {
    "TCP of 4 bytes": ipv4(b"\0\7\0\7", 6, OUT4, IN4),
    "TCP of 19 bytes": ipv4(tcp(OUT4, IN4, 1, 7)[:19], 6, OUT4, IN4),
    "TCP whose header is longer than the packet": ipv4(tcp(OUT4, IN4, 1, 7, offset=15), 6, OUT4,
                                                       IN4),
    "TCP whose header is too short to be one": ipv4(tcp(OUT4, IN4, 1, 7, offset=2), 6, OUT4, IN4),
    "UDP of 1 byte": ipv4(b"\0", 17, OUT4, IN4),
    "UDP of 7 bytes": ipv4(udp(OUT4, IN4, 1, 7)[:7], 17, OUT4, IN4),
    "no UDP at all": ipv4(b"", 17, OUT4, IN4),
    "ICMP of 1 byte": ipv4(b"\x08", 1, OUT4, IN4),
    "v6 TCP of 4 bytes": ipv6(b"\0\7\0\7", 6, OUT6, IN6),
    "v6 UDP of 7 bytes": ipv6(udp(OUT6, IN6, 1, 7)[:7], 17, OUT6, IN6),
    "v6 no UDP at all": ipv6(b"", 17, OUT6, IN6),
}


@pytest.mark.parametrize("kind", SHORT)
def test_header_that_is_cut_short_is_dropped_and_counted(lab, kind):
    inner, outside = lab.pair()
    name = lab.attach(inner, default="accept")
    wire = Wire(outside)
    for _ in range(5):
        wire.send(SHORT[kind])
    lab.expect(name, {"packets.seen": 5, "packets.malformed": 5, "packets.dropped": 5,
                      "queue.pending": 0})


def test_bad_header_length_on_the_way_out(lab):
    """A raw socket's packet meets no check of the kernel's before the queue."""
    inner, outside = lab.pair()
    name = lab.attach(inner, default="accept")
    sender = raw_socket(inner)
    sent = 0
    for ihl in range(5):
        with contextlib.suppress(OSError):
            sender.sendto(ipv4(udp(IN4, OUT4, 1, 7), 17, IN4, OUT4, ihl=ihl), (OUT4, 0))
            sent += 1
    stats = lab.expect(name, {"packets.seen": sent, "packets.dropped": sent})
    assert stats["packets"]["malformed"] == sent
    assert stats["queue"]["pending"] == 0


ODD = {
    "options of IPv4": ipv4(udp(OUT4, IN4, 1, 7), 17, OUT4, IN4, ihl=15, options=b"\1" * 40),
    "one extension": ipv6(chain(1, 17, udp(OUT6, IN6, 1, 7))[1], 60, OUT6, IN6),
    "ten extensions": ipv6(chain(10, 17, udp(OUT6, IN6, 1, 7))[1], 60, OUT6, IN6),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_but_right_packets_are_judged_by_their_ports(lab, kind):
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    arrived = Arrivals(inner, 7)
    wire = Wire(outside)
    for _ in range(5):
        wire.send(ODD[kind])
    lab.expect(name, {"packets.seen": 5, "rules.ok": 5, "packets.accepted": 5})
    arrived.wait(5)


def test_chain_without_end_does_not_pass_a_rule_for_ports(lab):
    """However deep the ports are: a rule that forbids them is not evaded."""
    inner, outside = lab.pair()
    name = lab.attach(inner, default="accept", rules=[
        {"name": "no", "action": "drop", "protocol": ["udp"], "dport": [7]}])
    arrived = Arrivals(inner, 7)
    wire = Wire(outside)
    sent = 0
    for count in (1, 8, 16, 32, 64, 150):
        wire.send(ipv6(chain(count, 17, udp(OUT6, IN6, 1, 7))[1], 60, OUT6, IN6))
        sent += 1
    lab.expect(name, {"packets.seen": sent, "packets.dropped": sent})
    assert arrived.total() == 0


def test_overlapping_and_incomplete_fragments(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    arrived = Arrivals(outside, 7)
    sender = raw_socket(inner, nodefrag=True)
    packet = udp(IN4, OUT4, 4000, 7, b"x" * 792)
    parts = [(packet[:400], 1, 0), (packet[:408], 1, 0), (packet[8:400], 1, 1),
             (packet[392:], 0, 49), (packet[:8], 1, 0), (b"", 1, 0), (b"x" * 8, 0, 0x1fff)]
    for ident, (part, flags, offset) in enumerate(parts):
        with contextlib.suppress(OSError):
            sender.sendto(ipv4(part, 17, IN4, OUT4, flags=flags, offset=offset, ident=ident),
                          (OUT4, 0))
    until(lambda: lab.stats(name)["packets"]["seen"] >= 6, "the fragments")
    lab.books(name)
    assert arrived.total() == 0


def test_bad_checksums_are_no_business_of_the_judge(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    arrived = Arrivals(inner, 7)
    bad = bytearray(udp(OUT4, IN4, 1, 7))
    bad[6] ^= 0xff
    Wire(outside).send(ipv4(bytes(bad), 17, OUT4, IN4))
    lab.expect(name, {"packets.seen": 1, "packets.malformed": 0})
    assert arrived.total() == 0


def test_data_in_a_syn_and_flags_that_make_no_sense(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, default="drop")
    wire = Wire(outside)
    for flags in range(256):
        wire.send(ipv4(tcp(OUT4, IN4, 1000 + flags, 80, flags=flags, data=b"GET /"), 6, OUT4, IN4))
    lab.expect(name, {"packets.seen": 256, "packets.dropped": 256})


def test_mutated_frames_all_get_a_verdict(lab):
    inner, outside = lab.pair()
    tap = Tap(inner)
    name = lab.attach(inner, **POLICY)
    seed = int.from_bytes(os.urandom(4), "big")
    dice = random.Random(seed)
    good = [ipv4(udp(OUT4, IN4, 1, 7), 17, OUT4, IN4), ipv4(tcp(OUT4, IN4, 1, 80), 6, OUT4, IN4),
            ipv4(b"\x08\0\xf7\xff\0\0\0\0", 1, OUT4, IN4), *SHORT.values(), *ODD.values(),
            ipv6(tcp(OUT6, IN6, 1, 80), 6, OUT6, IN6)]
    wire = Wire(outside)
    pending = inner.pending()
    for number in range(6000):
        frame = bytearray(dice.choice(good))
        kind = ETH_P_IPV6 if frame[0] >> 4 == 6 else ETH_P_IP
        for _ in range(dice.randrange(1, 4)):
            frame[dice.randrange(len(frame))] = dice.randrange(256)
        if kind == ETH_P_IP and len(frame) >= 20 and dice.random() < 0.8:
            frame[0:1] = b"\x45"
            frame[10:12] = b"\0\0"
            total = sum(struct.unpack("!10H", frame[:20]))
            total = (total & 0xffff) + (total >> 16)
            frame[10:12] = struct.pack("!H", ~(total + (total >> 16)) & 0xffff)
        wire.send(bytes(frame[:dice.randrange(1, len(frame) + 1)] if dice.random() < 0.3 else
                        frame), kind)
        if number % 500 == 499:
            until(lambda: pending() < 1000, "the queue to drain")

    def at_rest():
        return lab.stats(name)["queue"]["pending"] == 0 and pending() == 0
    until(at_rest, f"nothing to wait any more (seed {seed})")
    stats = lab.books(name)
    assert stats["packets"]["malformed"] > 0, f"seed {seed}"
    assert stats["queue"]["dropped"] == stats["queue"]["user_dropped"] == 0
    assert stats["packets"]["seen"] <= tap.total("before")[0]
    arrived = Arrivals(inner, 7)
    outside.send(IN4, 7, 20)
    arrived.wait(20)


def test_mutated_packets_on_the_way_out(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    seed = int.from_bytes(os.urandom(4), "big")
    dice = random.Random(seed)
    good = [ipv4(udp(IN4, OUT4, 1, 7), 17, IN4, OUT4), ipv4(tcp(IN4, OUT4, 1, 80), 6, IN4, OUT4),
            ipv4(udp(IN4, OUT4, 1, 7)[:16], 17, IN4, OUT4, flags=1)]
    sender = raw_socket(inner, nodefrag=True)
    pending = inner.pending()
    for number in range(3000):
        frame = bytearray(dice.choice(good))
        for _ in range(dice.randrange(1, 4)):
            frame[dice.choice([0, 1, 2, 3, 6, 7, 8, 9, *range(20, len(frame))])] = dice.randrange(
                256)
        with contextlib.suppress(OSError):
            sender.sendto(bytes(frame), (OUT4, 0))
        if number % 500 == 499:
            until(lambda: pending() < 1000, "the queue to drain")
    until(lambda: pending() == 0 and lab.stats(name)["queue"]["pending"] == 0,
          f"nothing to wait any more (seed {seed})")
    lab.books(name)
    arrived = Arrivals(outside, 7)
    inner.send(OUT4, 7, 20)
    arrived.wait(20)


def test_link_that_goes_down_flushes_and_the_books_balance(lab):
    """What another program holds when its link goes down is dropped by the kernel."""
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    pending = inner.pending()
    arrived = Arrivals(inner, 7, families=[socket.AF_INET])
    for _ in range(5):
        outside.send(IN4, 7, 200, pace=pending)
        inner.ip("link", "set", "eth0", "down")
        inner.ip("link", "set", "eth0", "up")
        until(lambda: "LOWER_UP" in outside.ip("link", "show", "eth0").stdout, "the link")
    until(lambda: pending() == 0, "nothing to wait any more")
    lab.books(name)
    before = arrived.total()
    until(lambda: outside.send(IN4, 7, 1) and arrived.total() > before, "packets to pass again")
    lab.books(name)
