#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes tests/fuzz/corpus/TARGET/NAME and the dictionaries, from the formats alone.

Run from anywhere; what it wrote before and would not write now is removed.
"""
import json
import os
import shutil
import struct

import proto_seeds

HERE = os.path.dirname(os.path.abspath(__file__))
CORPUS = os.path.join(HERE, "corpus")


def put(target, name, data):
    os.makedirs(os.path.join(CORPUS, target), exist_ok=True)
    with open(os.path.join(CORPUS, target, name), "wb") as file:
        file.write(data)


# ---- packets: RFC 791, 8200, 9293, 768, 792, 4443, 9260 ----


def tcp(sport=40000, dport=80, flags=2, options=b""):
    words = 5 + len(options) // 4
    return struct.pack("!HHIIBBHHH", sport, dport, 1, 0, words << 4, flags, 1024, 0, 0) + options


def udp(sport=40000, dport=53, data=b"data"):
    return struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def icmp(kind=8, code=0):
    return struct.pack("!BBHHH", kind, code, 0, 1, 1) + b"abcdefgh"


def sctp(sport=2000, dport=3000):
    return struct.pack("!HHII", sport, dport, 7, 0) + bytes([1, 0, 0, 4])


def ip4(payload, protocol, ttl=64, tos=0, fragment=0, options=b"", total=None,
        src="10.0.0.1", dst="10.0.0.2"):
    header = 20 + len(options)
    addresses = bytes(int(part) for part in (src + "." + dst).split("."))
    return struct.pack("!BBHHHBBH", 0x40 | header // 4, tos,
                       header + len(payload) if total is None else total, 1, fragment, ttl,
                       protocol, 0) + addresses + options + payload


ADDRESS6 = bytes.fromhex("20010db8000000000000000000000001")
PEER6 = bytes.fromhex("fd000000000000000000000000000002")


def ip6(payload, protocol, hops=64, tclass=0, length=None):
    return struct.pack("!IHBB", 6 << 28 | tclass << 20, len(payload) if length is None else length,
                       protocol, hops) + ADDRESS6 + PEER6 + payload


def extension(following, body=bytes(6)):
    """Hop-by-hop (0), routing (43) and destination options (60) look alike."""
    assert (len(body) + 2) % 8 == 0
    return bytes([following, (len(body) + 2) // 8 - 1]) + body


def fragment6(following, offset, more):
    return struct.pack("!BBHI", following, 0, offset << 3 | more, 1)


def authentication(following):
    return struct.pack("!BBHII", following, 4, 0, 1, 1) + bytes(12)


PACKETS = {
    "tcp-syn": ip4(tcp(), 6),
    "tcp-ack-options": ip4(tcp(flags=16, options=bytes([1, 1, 8, 10]) + bytes(8)), 6),
    "tcp-xmas": ip4(tcp(flags=0x29), 6),
    "tcp-null": ip4(tcp(flags=0), 6),
    "tcp-smtp": ip4(tcp(sport=25), 6),
    "udp-dns": ip4(udp(), 17),
    "udp-limited": ip4(udp(dport=5001), 17),
    "udp-empty": ip4(udp(data=b""), 17),
    "icmp-echo": ip4(icmp(), 1),
    "icmp-echo-ef": ip4(icmp(), 1, tos=46 << 2),
    "icmp-unreachable": ip4(icmp(3, 1) + ip4(udp(), 17), 1),
    "icmp-timestamp": ip4(icmp(14), 1),
    "sctp": ip4(sctp(), 132),
    "dccp": ip4(sctp(), 33),
    "udplite": ip4(udp(), 136),
    "gre": ip4(bytes(8), 47),
    "protocol-255": ip4(b"", 255),
    "options": ip4(udp(), 17, options=bytes([148, 4, 0, 0, 7, 3, 4, 0])),
    "first-fragment": ip4(udp(data=bytes(16)), 17, fragment=0x2000),
    "later-fragment": ip4(bytes(24), 17, fragment=0x0003),
    "tiny-fragment": ip4(tcp()[:8], 6, fragment=0x2000),
    "overlapping-tcp": ip4(bytes(16), 6, fragment=0x0001),
    "last-fragment": ip4(bytes(8), 17, fragment=0x1fff),
    "padded": ip4(udp(), 17) + bytes(14),
    "too-short": ip4(udp(), 17, total=200),
    "from-bad": ip4(udp(), 17, src="10.66.1.1"),
    "to-far": ip4(tcp(dport=443), 6, dst="192.0.2.9"),
    "ttl-1": ip4(tcp(), 6, ttl=1),
    "v6-tcp": ip6(tcp(), 6),
    "v6-udp": ip6(udp(), 17),
    "v6-echo": ip6(icmp(128), 58),
    "v6-echo-reply": ip6(icmp(129), 58),
    "v6-neighbour": ip6(icmp(135) + bytes(16), 58, hops=255),
    "v6-hop-by-hop": ip6(extension(6) + tcp(), 0),
    "v6-router-alert": ip6(extension(58, bytes([5, 2, 0, 0, 1, 0])) + icmp(131), 0),
    "v6-all": ip6(extension(60) + extension(43) + extension(51) + authentication(60) +
                  extension(17) + udp(), 0),
    "v6-first-fragment": ip6(fragment6(17, 0, 1) + udp(data=bytes(8)), 44),
    "v6-later-fragment": ip6(fragment6(17, 2, 1) + bytes(16), 44),
    "v6-atomic-fragment": ip6(fragment6(6, 0, 0) + tcp(), 44),
    "v6-two-fragments": ip6(fragment6(44, 0, 0) + fragment6(17, 0, 0) + udp(), 44),
    "v6-late-hop-by-hop": ip6(extension(0) + extension(17) + udp(), 60),
    "v6-17-headers": ip6(extension(60) * 16 + extension(17) + udp(), 60),
    "v6-no-next": ip6(b"", 59),
    "v6-jumbo": ip6(extension(17, bytes([0xc2, 4, 0, 1, 0, 0])) + udp(), 0, length=0),
}


def described(packet, how=0, cut=0, claimed=0, hook=3, direction=1, have=0, mark=0):
    """The head of an input of fuzz_pkt."""
    return bytes([how, cut]) + claimed.to_bytes(3, "big") + bytes(
        [hook, direction, have, 1, 0]) + mark.to_bytes(3, "big") + struct.pack(
            "!HH", 1000, 1000) + bytes([1, 1]) + bytes.fromhex("020000000066") + packet


def make_pkt():
    for name, packet in PACKETS.items():
        put("fuzz_pkt", name, described(packet))
    put("fuzz_pkt", "cut", described(PACKETS["v6-all"], how=0x30, cut=12, claimed=1400))
    put("fuzz_pkt", "rewritten", described(PACKETS["udp-dns"], how=7))
    put("fuzz_pkt", "rewritten-v6", described(PACKETS["v6-all"], how=7))
    put("fuzz_pkt", "super", described(ip4(tcp(), 6, total=0), how=0x20, claimed=70000))
    put("fuzz_pkt", "super-v6", described(PACKETS["v6-jumbo"], how=0x20, claimed=65536 + 40))
    put("fuzz_pkt", "owned", described(PACKETS["tcp-syn"], have=0x38, mark=0x10))
    put("fuzz_pkt", "forwarded", described(PACKETS["udp-dns"], hook=2, direction=2))


# ---- messages of a queue: linux/netfilter/nfnetlink_queue.h, linux/netlink.h ----

PACKET_HDR, MARK, TIMESTAMP, INDEV, OUTDEV, HWADDR, PAYLOAD = 1, 3, 4, 5, 6, 9, 10
CAP_LEN, SKB_INFO, UID, GID = 13, 14, 16, 17


def attr(kind, body):
    length = 4 + len(body)
    return struct.pack("=HH", length, kind) + body + bytes(-length % 4)


def netlink(kind, body, length=None):
    return struct.pack("=IHHII", 16 + len(body) if length is None else length, kind, 0, 0, 0) + body


def packet_message(attrs):
    return netlink(3 << 8, struct.pack("!BBH", 2, 0, 9) + attrs)


def packet_header(number=1, hook=3):
    return attr(PACKET_HDR, struct.pack("!IHB", number, 0x0800, hook))


def number(kind, value):
    return attr(kind, struct.pack("!I", value))


def usual(packet, mark=0x01000000, hook=3):
    return packet_message(packet_header(hook=hook) + number(OUTDEV, 2) + number(MARK, mark) +
                          attr(HWADDR, struct.pack("!HH", 6, 0) + bytes.fromhex("0200000000010000"))
                          + attr(PAYLOAD, packet))


def error(errno):
    return netlink(2, struct.pack("=i", errno) + bytes(16))


MESSAGES = {
    "usual": usual(PACKETS["tcp-syn"]),
    "rewritten": usual(PACKETS["udp-dns"]),
    "rejected": usual(PACKETS["to-far"]),
    "handed-on": usual(PACKETS["tcp-smtp"]),
    "echo-round": usual(PACKETS["icmp-echo-ef"]),
    "fragment": usual(PACKETS["v6-later-fragment"]),
    "known-reply": usual(PACKETS["tcp-syn"], mark=0x06000000, hook=1),
    "stale-reply": usual(PACKETS["udp-dns"], mark=0x0a000000, hook=1),
    "odd-answer": usual(PACKETS["tcp-syn"], mark=0x30000010),
    "forwarded": usual(PACKETS["v6-udp"], hook=2),
    "prerouting": usual(PACKETS["v6-tcp"], hook=0),
    "odd-hook": usual(PACKETS["v6-tcp"], hook=9),
    "capped": packet_message(packet_header(7) + number(CAP_LEN, 1500) + number(SKB_INFO, 3) +
                             number(UID, 1000) + number(GID, 2) + attr(PAYLOAD, PACKETS["v6-all"])),
    "super": packet_message(packet_header() + number(CAP_LEN, 70000) + number(SKB_INFO, 2) +
                            attr(PAYLOAD, ip4(tcp(), 6, total=0))),
    "no-payload": packet_message(packet_header(0xffffffff) + number(MARK, 1)),
    "payload-first": packet_message(attr(PAYLOAD, PACKETS["tcp-syn"]) + packet_header()),
    "no-header": packet_message(attr(PAYLOAD, PACKETS["tcp-syn"])),
    "short-header": packet_message(attr(PACKET_HDR, b"\0\0\0")),
    "nested-flag": packet_message(attr(PACKET_HDR | 0x8000, struct.pack("!IHB", 1, 0, 3))),
    "bad-attribute": packet_message(packet_header() + struct.pack("=HH", 3, PAYLOAD)),
    "long-attribute": packet_message(packet_header() + struct.pack("=HH", 500, PAYLOAD) + b"E"),
    "bare": netlink(3 << 8, b""),
    "error": error(-2),
    "acknowledgement": error(0),
    "short-error": netlink(2, b"\0"),
    "done": netlink(3, bytes(4)),
    "long-claim": netlink(3 << 8, packet_header(), length=4000),
    "short-claim": usual(PACKETS["tcp-syn"])[:40],
}


def make_messages():
    for name, message in MESSAGES.items():
        put("fuzz_nfq", name, message)
        put("fuzz_turn", name, bytes([0, 1]) + message)
    for policy in range(1, 4):
        for name in ("usual", "rewritten", "known-reply", "stale-reply", "capped"):
            put("fuzz_turn", "%s-policy-%d" % (name, policy), bytes([policy, 2]) + MESSAGES[name])
    put("fuzz_turn", "forged", bytes([0, 4]) + MESSAGES["usual"])


def make_judge():
    """Policy, how, flow, hook, mark, links, owner, what there is of it, bytes that are missing."""
    for number, (name, packet) in enumerate(sorted(PACKETS.items())):
        put("fuzz_judge", name,
            bytes([number, 0, number, number % 5, 0, 1, 2, 125, 0x38, 0]) + packet)
    put("fuzz_judge", "no-policy", bytes([0, 1, 0, 3]) + bytes(6) + PACKETS["tcp-syn"])
    put("fuzz_judge", "odd-hook", bytes([0, 0, 0, 5]) + bytes(6) + PACKETS["tcp-syn"])
    put("fuzz_judge", "nothing", bytes([0, 8, 0, 3]) + bytes(6) + PACKETS["tcp-syn"])


# ---- scripts of fuzz_queue: befall() ----

TURN, FLOOD, OTHER, FAIL, DEAF, BIND, DIE, DOWN, FORGE, ERROR, GAP = 5, 4, 3, 8, 9, 10, 11, 12, 13, 14, 15


def arrivals(*ports):
    return b"".join(bytes([0, port]) for port in ports)


def make_queue():
    begin = bytes([0, 0])
    put("fuzz_queue", "runs", begin + arrivals(200, 201, 1, 2, 200, 70, 71, 100, 130) + bytes([TURN]))
    put("fuzz_queue", "ids-wrap", b"\xff\x00" + arrivals(200, 1, 201, 2) + bytes([TURN, GAP | 0xf0]) +
        arrivals(3, 4) + bytes([TURN]))
    put("fuzz_queue", "flood", begin + bytes([FLOOD, 255, TURN, TURN, FLOOD, 100, TURN]))
    put("fuzz_queue", "rewriting", b"\0\1" + arrivals(1, 2, 130, 3, 250) + bytes([TURN]))
    put("fuzz_queue", "sends-fail", begin + arrivals(200, 1, 2) + bytes([FAIL, 40, TURN]) +
        arrivals(3, 200) + bytes([TURN, TURN]))
    put("fuzz_queue", "singly", begin + arrivals(200, 1, 2, 70) + bytes([FAIL, 3, TURN]))
    put("fuzz_queue", "stale", b"\0\2" + arrivals(200, 1, 2) + bytes([BIND, 1]) + arrivals(3) +
        bytes([TURN, BIND, 4, TURN]))
    put("fuzz_queue", "dies", begin + arrivals(200, 1, 2, 3, 201) + bytes([DIE, 3]) + arrivals(4, 202) +
        bytes([TURN]))
    put("fuzz_queue", "dies-unread", begin + arrivals(200, 1) + bytes([DIE, 0, TURN, DIE | 0x10, 255]))
    put("fuzz_queue", "dies-in-flood", begin + bytes([FLOOD, 255, FLOOD, 200, DIE, 255, TURN, DIE, 90]))
    put("fuzz_queue", "dies-owing", begin + arrivals(200, 1) + bytes([FAIL, 99, TURN, DIE, 1, TURN]))
    put("fuzz_queue", "link-down", begin + arrivals(200, 1, 200, 1) + bytes([DOWN | 0x10, TURN, DOWN]))
    put("fuzz_queue", "forged", begin + arrivals(1, 2, 3) + bytes([FORGE, 5, 7, FORGE, 4, 0, TURN]))
    put("fuzz_queue", "forged-in-takeover", begin + arrivals(1, 2) + bytes([FORGE, 6, 9, DIE, 1, TURN]))
    put("fuzz_queue", "errors", begin + bytes([ERROR, 2, ERROR, 1, DEAF | 0x30, TURN]) + arrivals(1) +
        bytes([TURN]))
    put("fuzz_queue", "odd", begin + bytes([OTHER, 3, 1, 0, 28]) + PACKETS["udp-empty"] +
        bytes([OTHER, 6, 9, 9, 0, OTHER, 1, 6, 0, 40]) + PACKETS["v6-tcp"][:40] + bytes([TURN]))


# ---- policies: the README's grammar ----

RULES = {
    "direction": ["in", "out", "forward"],
    "family": ["ipv4", "ipv6"],
    "protocol": ["tcp", 17, "icmpv6"],
    "src": ["10.0.0.0/8", "2001:db8::/32", "10.0.0.5-10.0.0.9", "::1"],
    "dst": ["0.0.0.0/0", "::/0", "192.0.2.1", "fe80::-fe80::ff"],
    "sport": [0, 65535, "1-1023"],
    "dport": ["80-90", 443],
    "icmp_type": ["echo-request", 3, "packet-too-big"],
    "icmp_code": [0, "1-15"],
    "tcp_flags": ["syn", "syn/syn,ack", "none/fin,rst"],
    "iif": ["eth0", "veth*", "*"],
    "oif": ["lo"],
    "src_mac": ["02:00:00:12:34:56"],
    "mark": ["0x10/0xff", 5, "0xffffffff"],
    "uid": [0, "1000-1999"],
    "gid": [4294967294],
    "length": [20, "1400-65535"],
    "dscp": ["ef", 0, "10-14"],
    "ttl": ["0-1", 255],
    "fragment": True,
    "ct": ["new", "reply", "established", "related", "invalid", "untracked"],
}

DOCUMENTS = {
    "least": {"version": 1},
    "whole": {"version": 1, "name": "ci", "comment": "c", "mode": "audit",
              "hooks": ["prerouting", "in", "forward", "out"],
              "default": {"in": "accept", "out": "reject", "forward": "drop"},
              "on_agent_down": "open", "on_overload": "open", "offload": True, "rules": []},
    "limit": {"version": 1, "rules": [{"name": "l", "action": "accept",
                                       "limit": {"rate": "50/s", "burst": 100}},
                                      {"name": "m", "action": "drop", "limit": {"rate": "1/h"}}]},
    "set": {"version": 1, "rules": [{"name": "s", "action": "accept", "log": True, "audit": False,
                                     "set": {"ttl": 64, "dscp": "cs1",
                                             "mark": {"set": "0x10", "mask": "0xff"}}}]},
    "repeat": {"version": 1, "rules": [{"name": "r", "action": "repeat", "mark": {"set": 7}},
                                       {"name": "c", "action": "continue", "mark": {"set": 1}},
                                       {"name": "q", "action": "queue", "queue": 65535,
                                        "on_queue_down": "open", "bypass_mark": "0x1/0x1"}]},
    "many": {"version": 1, "rules": [{"name": "n%d" % i, "action": "drop", "dport": [i, i + 7],
                                      "src": "10.%d.0.0/16" % i} for i in range(40)]},
    "wrong-version": {"version": 2},
    "twice": {"version": 1, "rules": [{"name": "a", "action": "drop"}, {"name": "a", "action": "drop"}]},
    "misspelt": {"version": 1, "rules": [{"nmae": "a", "action": "dorp", "dprot": 1}]},
    "postrouting": {"version": 1, "hooks": ["postrouting"], "default": "reject"},
    "bad-values": {"version": 1, "rules": [{"name": "a/b~c", "action": "drop", "src": ["10.0.0.1/8", 5],
                                            "dport": "9-1", "iif": "", "mark": "0x1/0", "uid": -1,
                                            "tcp_flags": "x", "length": 1e3}]},
    "later": {"version": 1, "rules": [{"name": "a", "action": "drop", "domain": ["a"], "tls": 1}]},
}

TEXTS = {
    "repeated-key": b'{"version":1,"version":1}',
    "deep": b'{"version":1,"rules":' + b"[" * 20 + b"]" * 20 + b"}",
    "escapes": b'{"version":1,"name":"\\u0061\\n","comment":"\\ud83d\\ude00\\u0000"}',
    "utf8": '{"version":1,"comment":"\u00e9\u2028\U0001f600"}'.encode(),
    "bad-utf8": b'{"version":1,"comment":"\xc0\x80\xed\xa0\x80"}',
    "numbers": b'{"version":1.0,"rules":[{"name":"a","action":"drop","ttl":1e999,"uid":-0}]}',
    "trailing": b'{"version":1} x',
    "cut": b'{"version":1,"rules":[{"name":"a',
    "array": b"[]",
    "empty": b"",
}


def policies():
    for name, document in DOCUMENTS.items():
        yield name, json.dumps(document, separators=(",", ":")).encode()
    for match, values in RULES.items():
        some = values if match == "fragment" else values[:1] if len(values) == 1 else values
        for prefix in ("", "not_"):
            rule = {"name": "r", "action": "drop", prefix + match: some}
            yield prefix + match, json.dumps({"version": 1, "rules": [rule]}).encode()
    yield from TEXTS.items()


def make_policy():
    for name, text in policies():
        put("fuzz_policy", name, text)
    with open(os.path.join(HERE, "every_match.json"), "rb") as file:
        put("fuzz_policy", "every-match", file.read())


# ---- messages between processes: include/nsgate/proto.h ----

LENGTHS = {1: 24, 2: 536, 3: 1440, 4: 80, 5: 16, 6: 40, 7: 1496, 8: 1496, 9: 16, 10: 104, 11: 24, 13: 544}


def raw(kind, length, body=b"", fds=0, room=20, how=1, magic=0x4741544e, version=1):
    message = struct.pack("=IHHII", magic, version, kind, length, 1) + body
    return bytes([how, fds, room]) + struct.pack("!H", len(message)) + message


def composed(kind, off=0, count=0, fds=0, room=20, how=0, change=b""):
    return bytes([how, fds, room, kind, off & 255]) + struct.pack("!H", count) + bytes(
        [len(change), 0]) + change


def make_ipc():
    for kind in list(LENGTHS) + [12]:
        put("fuzz_ipc", "type-%d" % kind, composed(kind, fds=kind % 5, count=kind))
    put("fuzz_ipc", "raw", raw(5, 16))
    put("fuzz_ipc", "old-version", raw(5, 16, version=0))
    put("fuzz_ipc", "other-magic", raw(5, 16, magic=1))
    put("fuzz_ipc", "no-type", raw(0, 16) + raw(14, 16))
    put("fuzz_ipc", "long-claim", raw(5, 17) + raw(4, 80))
    put("fuzz_ipc", "links-most", composed(12, count=1024))
    put("fuzz_ipc", "links-too-many", composed(12, count=1025))
    put("fuzz_ipc", "one-more", composed(7, off=1, fds=4) + composed(7, off=-1, fds=4))
    put("fuzz_ipc", "too-many-fds", composed(7, fds=21, room=20) + composed(7, fds=253, room=253))
    put("fuzz_ipc", "no-room", composed(7, fds=1, room=0))
    put("fuzz_ipc", "split", composed(7, fds=9, how=2))
    put("fuzz_ipc", "credentials", composed(7, fds=253, room=253, how=4) + composed(1, how=4))
    put("fuzz_ipc", "empty", bytes([1, 0, 1, 0, 0]))
    put("fuzz_ipc", "changed", composed(3, change=bytes(range(1, 30))))


# ---- what is said on broker.sock and agent.sock: the steps of fuzz_broker.c and fuzz_agent.c ----

HELLO, REPLY, ATTACH, DETACH, PROBE, FEATURES, NS_ADD, NS_HELD, HELD_END, NS_RULES, NS_REMOVE, \
    NS_LINKS, NS_STATE, LEAVE, NS_TAMPER, PROBE_STRICT, PING = range(1, 18)
NETNS, PID, PATH, SELF, HANDOFF = range(1, 6)
REPLACE = 4
CONTAINER = 8


def said(*body, change=b"", at=0, fds=None):
    """The end of a message's step: its fields, what is changed in it, its descriptors."""
    changes = struct.pack("!HB", at, len(change)) + change if change else b""
    return bytes(body) + changes + bytes(3) + (
        b"\0" if fds is None else bytes([len(fds) + 1, *fds]))


def client(which, kind, *fields, identity=7, **more):
    return bytes([which << 4 | 2]) + said(kind, identity, *fields, **more)


def connect(which, uid=0):
    return bytes([which << 4 | (uid != 0)]) + client(which, HELLO)


def from_agent(kind, *fields, **more):
    return b"\x09" + said(kind, *fields, **more)


def kernel(namespace=1, opening=0, binding=0, rules=0):
    return b"\x0e" + struct.pack("!H", namespace - 1 | opening << 2 | binding << 5 | rules << 8)


AGENT_HERE = b"\x07" + from_agent(HELLO) + from_agent(HELD_END)
IN_FORCE = from_agent(NS_RULES, 0, 1)
DONE = from_agent(REPLY, 0)
REFUSED = from_agent(REPLY, 1)
WAIT = b"\x0d\xff\xff"


def make_broker():
    begin = connect(0) + AGENT_HERE
    for kind in (NETNS, PID, PATH, SELF, HANDOFF):
        attach = client(0, ATTACH, kind, 0, 1)
        put("fuzz_broker", "attach-%d" % kind, begin + attach + IN_FORCE + client(0, DETACH, 1) + DONE)
        put("fuzz_broker", "refused-%d" % kind, begin + attach + REFUSED)
        put("fuzz_broker", "gone-%d" % kind, begin + attach + IN_FORCE + b"\x06")
    web = client(0, ATTACH, NETNS, 0, 1)
    stories = {
        "no-agent": connect(0) + web + client(0, DETACH, 1),
        "stranger": connect(0, 1) + web + client(0, PROBE) + client(0, DETACH, 1),
        "strict-stranger": connect(0, 1) + client(0, PROBE_STRICT) + client(0, DETACH, 1),
        "strict": begin + client(0, PROBE_STRICT) + client(0, ATTACH, NETNS, 0, 1) +
                  from_agent(NS_RULES, 0, 0, change=b"\4", at=28) + DONE,
        "probe": begin + client(0, PROBE),
        "ping": begin + from_agent(PING) + from_agent(PING) + web + IN_FORCE + from_agent(PING),
        "early": b"\0" + client(0, PROBE),
        "silent": b"\0" + WAIT,
        "no-answer": begin + web + WAIT,
        "no-drain": begin + web + IN_FORCE + client(0, DETACH, 1) + WAIT,
        "replace": begin + web + IN_FORCE + kernel(2) +
                   client(0, ATTACH, NETNS, REPLACE, 1) + IN_FORCE + DONE,
        "twice": begin + web + IN_FORCE + client(0, ATTACH, NETNS, 0, 2) + kernel(2) + web,
        "host": begin + kernel(4) + web + client(0, ATTACH, NETNS, 2, 1) + IN_FORCE,
        "ended": begin + client(0, ATTACH, PID, 0, 1, fds=[7]) + IN_FORCE + DONE,
        "no-namespace": begin + client(0, ATTACH, PATH, 0, 1, fds=[8]),
        "name-removed": begin + web + IN_FORCE + b"\x0f\1" + DONE,
        "cannot-enter": begin + kernel(1, opening=2) + web + kernel(1, opening=4) + web,
        "taken": begin + kernel(1, binding=5) + web,
        "no-rules": begin + web + kernel(1, rules=2) + IN_FORCE + DONE,
        "handoff-full": begin + client(0, ATTACH, HANDOFF, 0, 1, identity=8) + IN_FORCE +
                        connect(1) + client(1, DETACH, 1) + DONE,
        "handoff-full-alone": begin + kernel(1, opening=2) +
                              client(0, ATTACH, HANDOFF, 0, 1, identity=8) + IN_FORCE,
        "agent-lost": begin + web + IN_FORCE + b"\x0c" + WAIT + WAIT + AGENT_HERE,
        "agent-lost-early": begin + web + b"\x1c",
        "orphan-held": connect(0) + b"\x07" + from_agent(HELLO) + from_agent(NS_HELD, 2) +
                       from_agent(HELD_END) + client(0, DETACH, 2) + DONE,
        "held": connect(0) + b"\x07" + from_agent(HELLO) + from_agent(NS_HELD, 1) +
                from_agent(HELD_END) + client(0, DETACH, 1) + DONE,
        "held-pipe": connect(0) + b"\x07" + from_agent(HELLO) +
                     from_agent(NS_HELD, 1, fds=[4, 9, 1, 1]) + from_agent(HELD_END) + b"\x0c" + WAIT,
        "held-twice": connect(0) + b"\x07" + from_agent(HELLO) + from_agent(NS_HELD, 1) +
                      from_agent(NS_HELD, 2) + kernel(2) + from_agent(NS_HELD, 1) + from_agent(HELD_END),
        "rules-again": begin + web + IN_FORCE + from_agent(NS_RULES, 1, 3) + from_agent(NS_RULES, 0, 0),
        "bad-rules": begin + web + from_agent(NS_RULES, 0, 0, change=b"\xff" * 16, at=24),
        "early-rules": connect(0) + b"\x07" + from_agent(NS_RULES, 0, 0),
        "bad-name": begin + client(0, ATTACH, NETNS, 0, 1, change=b"../x\n", at=32) +
                    client(0, DETACH, 1, change=b"\xff" * 31, at=16),
        "queues": begin + client(0, ATTACH, NETNS, 0, 1, change=b"\xff\xff\1\0", at=24),
        "container": begin + client(0, ATTACH, PID, CONTAINER, 1) + IN_FORCE + client(0, LEAVE) + DONE,
        "containers": begin + client(0, ATTACH, PID, CONTAINER, 1) + IN_FORCE +
                      client(0, ATTACH, PID, CONTAINER, 1, identity=8) +
                      client(0, ATTACH, PID, CONTAINER, 1, identity=9, change=b"q", at=96) +
                      client(0, LEAVE) + client(0, LEAVE, identity=8) + DONE,
        "container-left-early": begin + client(0, ATTACH, PID, CONTAINER, 1) + client(0, LEAVE) +
                                client(0, LEAVE, identity=8) + IN_FORCE + DONE,
        "container-ended": begin + client(0, ATTACH, PID, CONTAINER, 1, fds=[7]) + IN_FORCE,
        "container-by-name": begin + client(0, ATTACH, NETNS, CONTAINER, 1),
        "container-lost": begin + client(0, ATTACH, PID, CONTAINER, 1) + IN_FORCE + b"\x0c" + WAIT +
                          client(0, LEAVE) + AGENT_HERE + client(0, LEAVE) + DONE,
        "labels": begin + client(0, ATTACH, NETNS, 0, 1, change=b"a=b\0c=d\0", at=416) + IN_FORCE,
    }
    for name, story in stories.items():
        put("fuzz_broker", name, story)


def broker_says(kind, *fields, **more):
    return b"\4" + said(kind, *fields, **more)


def make_agent():
    begin = b"\1" + broker_says(HELLO)
    add = broker_says(NS_ADD, 1)
    links = broker_says(NS_LINKS, 1, 0, 3)
    accepted, failed = broker_says(REPLY, 0), broker_says(REPLY, 1)
    served = begin + add + links + accepted
    stories = {
        "served": served + broker_says(NS_REMOVE, 1),
        "taken-over": begin + broker_says(NS_ADD, 0x41) + broker_says(HELD_END),
        "bad-generation": begin + broker_says(NS_ADD, 0x41, change=b"\1\xff\xff\xff", at=80) + links,
        "no-policy": begin + broker_says(NS_ADD, 0x81),
        "pending": begin + broker_says(NS_ADD, 0x91) + links + accepted,
        "watched": begin + broker_says(NS_ADD, 0x21) + links + accepted,
        "rules-failed": begin + add + links + failed,
        "broker-back": served + b"\0" + begin + accepted,
        "early": b"\1" + add,
        "replaced": served + b"\1",
        "state": served + broker_says(NS_STATE, 1, 0, 1) + broker_says(NS_STATE, 1, 0, 0) +
                 broker_says(NS_STATE, 1, 1, 0),
        "bad-state": served + broker_says(NS_STATE, 1, 0, 1, change=b"\n", at=32),
        "bad-links": served + broker_says(NS_LINKS, 1, 0, 3, change=b"x" * 16, at=36),
        "many-links": served + broker_says(NS_LINKS, 1, 4, 0),
        "other-counters": begin + broker_says(NS_ADD, 1, fds=[5, 3, 1, 1]),
        "no-counters": begin + broker_says(NS_ADD, 1, fds=[9, 9, 9, 9]),
        "directory": begin + broker_says(NS_ADD, 1, fds=[10, 10, 10, 10]),
        "unknown": begin + broker_says(NS_REMOVE, 3) + broker_says(NS_LINKS, 3, 0, 1),
        "several": begin + b"".join(broker_says(NS_ADD, n) + broker_says(NS_LINKS, n, 0, 2) + accepted
                                    for n in range(4)),
        "policies": served + b"".join(b"\2" + bytes([n]) + accepted for n in (0, 1, 2, 4, 0)),
        "rebound": served + b"".join(b"\2" + bytes([8 | n]) + failed for n in (0x10, 0x11, 0x12, 0x90)),
        "change-alone": served + b"\0\2\1" + begin,
        "overtaken": served + b"\2\0\2\1" + accepted,
        "accepting": b"\x0b" + begin + broker_says(NS_ADD, 0x91) + links,
    }
    for name, story in stories.items():
        put("fuzz_agent", name, story)


# ---- requests: RFC 9112 ----


def request(line, body=None, *headers):
    lines = [line + " HTTP/1.1", "Host: h", *headers]
    if body is not None:
        lines.append("Content-Length: %d" % len(body))
    return bytes([0]) + "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def form(which, body, cut=128, chunked=False, away=False):
    return bytes([1 | which << 1 | chunked << 6 | away << 7, cut]) + body


def make_http():
    least = b'{"version":1}'
    for path in ("/v1/namespaces", "/v1/namespaces/web", "/v1/namespaces/web/stats", "/v1/stats",
                 "/v1/policies", "/v1/policies/ci", "/v1/events?netns=web&verdict=drop", "/metrics",
                 "/healthz", "/readyz", "/v1/namespaces/w%65b", "/v1/policies/..%2fx", "/%00%zz%"):
        name = "".join(c if c.isalnum() else "-" for c in path)
        put("fuzz_http", "get" + name, request("GET " + path))
    put("fuzz_http", "head", request("HEAD /v1/stats"))
    put("fuzz_http", "method", request("PATCH /v1/policies/ci", b"x"))
    put("fuzz_http", "delete", request("DELETE /v1/policies/ci?force=true"))
    put("fuzz_http", "put", request("PUT /v1/policies/ci", least))
    put("fuzz_http", "two", request("PUT /v1/policies/ci", least) + request("GET /v1/policies/ci")[1:])
    put("fuzz_http", "bind", request("PUT /v1/policies/ci", least) +
        request("PUT /v1/namespaces/web/policy", b'{"policy":"ci"}')[1:])
    put("fuzz_http", "continue", request("PUT /v1/policies/ci", least, "Expect: 100-continue"))
    put("fuzz_http", "chunked", bytes([40 << 1]) + b"PUT /v1/policies/ci HTTP/1.1\r\nHost: h\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\n{\"ver\r\n8\r\nsion\":1}\r\n0\r\nT: t\r\n\r\n")
    put("fuzz_http", "huge", request("PUT /v1/policies/ci", None, "Content-Length: 99999999999"))
    put("fuzz_http", "large", request("PUT /v1/policies/ci", None, "Content-Length: 2000000"))
    put("fuzz_http", "negative", request("PUT /v1/policies/ci", None, "Content-Length: -1"))
    put("fuzz_http", "long-path", request("GET /v1/policies/" + "a" * 300))
    put("fuzz_http", "no-http", b"\0\x16\x03\x01\x02\x00\x01\x00")
    put("fuzz_http", "old", b"\0GET /v1/stats HTTP/1.0\r\n\r\n")
    for which in range(8):
        put("fuzz_http", "form-%d" % which, form(which, least))
    put("fuzz_http", "form-bind", form(1, b'{"policy":"ci"}'))
    put("fuzz_http", "form-bind-wrong", form(1, b'{"polciy":["ci"]}'))
    put("fuzz_http", "form-chunked", form(0, least, chunked=True))
    put("fuzz_http", "form-away", form(0, least, away=True))
    put("fuzz_http", "form-bad", form(0, b'{"version":2,"rules":[{"a\\u0000b":"\\n"}]}'))
    put("fuzz_http", "form-check-rule", form(2, json.dumps(DOCUMENTS["set"]).encode()))


# ---- dictionaries ----


def make_dictionaries():
    words = set(RULES) | {"not_" + name for name in RULES}
    words |= set("version name mode hooks default on_agent_down on_overload offload rules comment "
                 "action queue log audit limit set rate burst mask accept drop reject repeat "
                 "continue enforce closed open prerouting postrouting in out forward 50/s 1/m 1/h "
                 "syn,ack none/syn echo-request ipv4 ipv6 ef cs1 0x10/0xff".split())
    syntax = ['{', '}', '[', ']', ',', ':', 'true', 'false', 'null', '\\\\u0000', '\\\\"', '1e9', '-0']
    policy = ["\"\\\"%s\\\"\"" % word for word in sorted(words)] + ['"%s"' % s for s in syntax]
    http = ['"%s"' % word for word in (
        "GET ", "PUT ", "POST ", "DELETE ", "HEAD ", " HTTP/1.1\\x0d\\x0a", "Host: h\\x0d\\x0a",
        "Content-Length: ", "Transfer-Encoding: chunked\\x0d\\x0a", "Connection: close\\x0d\\x0a",
        "Expect: 100-continue\\x0d\\x0a", "\\x0d\\x0a\\x0d\\x0a", "/v1/policies/", "/v1/policies:check",
        "/v1/namespaces/web/policy", "/v1/events", "?force=true", "?netns=", "&verdict=", "%2f", "%00")]
    http += ['"\\"policy\\""', '"\\"version\\":1"', '"\\"rules\\""']
    numbers = ['"\\x%02x\\x00"' % kind for kind in (PACKET_HDR, MARK, INDEV, OUTDEV, HWADDR, PAYLOAD,
                                                   CAP_LEN, SKB_INFO, UID, GID)]
    headers = ['"\\x%02x"' % number for number in (0, 1, 6, 17, 33, 43, 44, 47, 50, 51, 58, 59, 60, 132,
                                                   136, 0x45, 0x46, 0x60, 0xc2)]
    for target, lines in (("fuzz_policy", policy), ("fuzz_http", http + policy),
                          ("fuzz_nfq", numbers), ("fuzz_turn", numbers + headers),
                          ("fuzz_pkt", headers), ("fuzz_judge", headers)):
        with open(os.path.join(HERE, target + ".dict"), "w", encoding="ascii") as file:
            file.write("# written by make_corpus.py\n" + "\n".join(lines) + "\n")


def main():
    shutil.rmtree(CORPUS, ignore_errors=True)
    make_pkt()
    make_messages()
    make_judge()
    make_queue()
    make_policy()
    make_ipc()
    make_broker()
    make_agent()
    make_http()
    proto_seeds.make(put)
    make_dictionaries()


if __name__ == "__main__":
    main()
