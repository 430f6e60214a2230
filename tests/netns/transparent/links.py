# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the kernel copies, cuts up or says by itself: multicast, broadcast, bridges, duplicates, large
segments, fragments, neighbour discovery; and headers that must arrive as they were sent.
"""
import contextlib
import socket
import struct
import time

from lab import until
from nfqueue import Consumer
from transparent.errors import without_limits
from transparent.traffic import (
    FAMILIES, FAMILY, IP_TOS, IP_TTL, IPV6_TCLASS, PATIENCE, Receiver,
    SO_BINDTODEVICE, connect, far, here, level, link_index, pour, readable, retransmits, say,
    sender, there)

IP_MULTICAST_IF, IP_MULTICAST_LOOP, IP_ADD_MEMBERSHIP = 32, 34, 35
IPV6_UNICAST_HOPS, IPV6_MULTICAST_IF, IPV6_MULTICAST_LOOP, IPV6_JOIN_GROUP = 16, 17, 19, 20
GROUPS = {4: "239.1.2.3", 6: "ff05::123"}
COPIES = 3


def join(sock, version, netns, link="eth0"):
    group = socket.inet_pton(FAMILY[version], GROUPS[version])
    index = link_index(netns, link)
    if version == 6:
        sock.setsockopt(level(6), IPV6_JOIN_GROUP, group + struct.pack("=I", index))
    else:
        sock.setsockopt(level(4), IP_ADD_MEMBERSHIP, group + struct.pack("=4xi", index))


def group_sender(netns, version, link="eth0"):
    made = sender(netns, version)
    index = link_index(netns, link)
    if version == 6:
        made.setsockopt(level(6), IPV6_MULTICAST_IF, struct.pack("=I", index))
        made.setsockopt(level(6), IPV6_MULTICAST_LOOP, 1)
    else:
        made.setsockopt(level(4), IP_MULTICAST_IF, struct.pack("=8xi", index))
        made.setsockopt(level(4), IP_MULTICAST_LOOP, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    return made


def looped_copies(stage):
    """Multicast and broadcast reach the sender's own namespace and the link, each packet once."""
    box, peer = stage.pair()
    receivers = {"own": Receiver(box), "peer": Receiver(peer)}
    for version in FAMILIES:
        join(receivers["own"].sockets[version], version, box)
        join(receivers["peer"].sockets[version], version, peer)
    stage.police(box)
    outcome = {}
    for name, version, address in (("group", 4, GROUPS[4]), ("group", 6, GROUPS[6]),
                                   ("broadcast", 4, "10.77.0.255"),
                                   ("everybody", 4, "255.255.255.255")):
        with contextlib.closing(group_sender(box, version)) as sock:
            if name == "everybody":
                sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"eth0\0")
            for _ in range(COPIES):
                sock.sendto(b"x", (address, 5300))
        for who, receiver in receivers.items():
            outcome[f"{name} {version} {who}"] = receiver.count(version, COPIES)
    for receiver in receivers.values():
        for version, sock in receiver.sockets.items():
            outcome[f"more {version}"] = outcome.get(f"more {version}", 0) + readable(sock, 0)
    return outcome


LOOPED = {**{f"{name} {version} {who}": COPIES for who in ("own", "peer") for name, version in (
    ("group", 4), ("group", 6), ("broadcast", 4), ("everybody", 4))}, "more 4": 0, "more 6": 0}


def bridged(stage, filtered):
    """
    A bridge inside, as Docker in a container makes one: its own broadcasts go out by every port,
    and what its ports say to each other passes, with br_netfilter's hooks or without.
    """
    box, one, two = stage.netns("box"), stage.netns("one"), stage.netns("two")
    stage.link(box, one, 0, ("port1", "eth0"))
    stage.link(box, two, 1, ("port2", "eth0"))
    box.ip("link", "add", "br0", "type", "bridge")
    for port in ("port1", "port2"):
        box.ip("addr", "flush", "dev", port)
        box.ip("link", "set", port, "master", "br0")
    for netns, link, number in ((box, "br0", 1), (one, "eth0", 2), (two, "eth0", 3)):
        netns.ip("addr", "flush", "dev", link)
        netns.ip("neigh", "flush", "all", "nud", "permanent")
        netns.ip("addr", "add", f"10.77.9.{number}/24", "brd", "+", "dev", link)
        netns.ip("addr", "add", f"fd77:9::{number}/64", "dev", link, "nodad")
    box.ip("link", "set", "br0", "up")
    until(lambda: "LOWER_UP" in box.ip("link", "show", "br0").stdout, "the bridge to be up")
    for kind in ("iptables", "ip6tables", "arptables"):
        box.sysctl(f"bridge/bridge-nf-call-{kind}", int(filtered))
    stage.police(box)
    outcome = {}
    receivers = {"one": Receiver(one), "two": Receiver(two), "box": Receiver(box)}
    for origin, netns in (("box", box), ("one", one)):
        with contextlib.closing(sender(netns, 4)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for _ in range(COPIES):
                sock.sendto(b"x", ("10.77.9.255", 5300))
        for who, receiver in receivers.items():
            outcome[f"{origin} to {who}"] = receiver.count(4, COPIES)
    for version, address in ((4, "10.77.9.3"), (6, "fd77:9::3")):
        with contextlib.closing(two.tcp_listen(80, FAMILY[version])) as listener:
            pair = connect(one, listener, version, address, 80)
            outcome[f"tcp {version}"] = isinstance(pair, tuple) and (
                say(*pair), pour(*pair[::-1], 300000))
    return outcome


BRIDGED = {**{f"{origin} to {who}": COPIES for origin in ("box", "one")
              for who in ("one", "two", "box")},
           "tcp 4": ("line", 300000), "tcp 6": ("line", 300000)}


def duplicated(stage, hook):
    """A rule of the namespace's own sends a copy elsewhere (nft dup, iptables TEE)."""
    box, peer = stage.two_links()
    for family, address in (("ip", "10.77.1.2"), ("ip6", "fd77:1::2")):
        box.nft(f"""table {family} copies {{
            chain copy {{ type filter hook {hook} priority -150;
                udp dport 5300 dup to {address} device "eth1"; }}
            }}""")
    stage.police(box)
    outcome = {}
    inside = Receiver(box)
    outside = Receiver(peer)
    for version in FAMILIES:
        if hook == "output":
            with contextlib.closing(sender(box, version)) as sock:
                for _ in range(COPIES):
                    sock.sendto(b"x", (far(version), 5300))
            links = sorted(outside.link(version) or "" for _ in range(2 * COPIES))
            outcome[version] = links
        else:
            # The copy is for an address that peer does not have: its link sees it nevertheless.
            wire = tapped(peer, "eth1")
            with contextlib.closing(sender(peer, version)) as sock:
                for _ in range(COPIES):
                    sock.sendto(b"copied", (here(version), 5300))
            outcome[version] = inside.count(version, COPIES), seen_on(wire, b"copied", COPIES)
    return outcome


DUPLICATED = {"output": {version: ["eth0"] * COPIES + ["eth1"] * COPIES for version in FAMILIES},
              "prerouting": {version: (COPIES, COPIES) for version in FAMILIES}}


def tapped(netns, link):
    """Sees every frame of a link."""
    wire = netns.open_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.bind((link, 3))
    return wire


def seen_on(wire, text, expected, timeout=PATIENCE):
    """How many frames with `text` in them come, `expected` at the most."""
    deadline = time.monotonic() + timeout
    got = 0
    while got < expected and readable(wire, max(deadline - time.monotonic(), 0)):
        got += text in wire.recv(65536)
    return got


# ---- large ones ----


def over_loopback(stage):
    """Bulk over the loopback, whose segments are as large as any."""
    box, _ = stage.pair()
    stage.police(box)
    outcome = {}
    for version, address in ((4, "127.0.0.1"), (6, "::1")):
        with contextlib.closing(box.tcp_listen(80, FAMILY[version])) as listener:
            pair = connect(box, listener, version, address, 80)
            outcome[version] = pour(*pair, 20 << 20) >> 20
    return outcome


OVER_LOOPBACK = {4: 20, 6: 20}


def big_tcp(stage):
    """IPv6 segments of up to 192 KiB, as hosts with fast links use them."""
    box, peer = stage.pair()
    for netns in (box, peer):
        netns.ip("link", "set", "eth0", "gso_max_size", 196608, "gro_max_size", 196608)
    stage.police(box)
    outcome = {}
    for version in FAMILIES:
        for flow in ("in", "out"):
            server, client, address = ((box, peer, here(version)) if flow == "in" else
                                       (peer, box, there(version)))
            with contextlib.closing(server.tcp_listen(80, FAMILY[version])) as listener:
                ours, theirs = connect(client, listener, version, address, 80)
                outcome[f"{flow} {version}"] = (pour(ours, theirs, 20 << 20) >> 20,
                                                retransmits(ours) < 200)
    return outcome


BIG_TCP = {f"{flow} {version}": (20, True) for flow in ("in", "out") for version in FAMILIES}


def large_datagrams(stage):
    """Datagrams that go in fragments, over a link and over the loopback."""
    box, peer = stage.pair()
    stage.police(box)
    outcome = {}
    outside, inside = Receiver(peer), Receiver(box)
    for version in FAMILIES:
        local = "::1" if version == 6 else "127.0.0.1"
        for name, origin, target, address in (
                ("out", box, outside, there(version)), ("in", peer, inside, here(version)),
                ("lo", box, inside, local)):
            sizes = []
            with contextlib.closing(sender(origin, version)) as sock:
                for size in (0, 1, 1473, 9000, 65507):
                    sock.sendto(b"x" * size, (address, 5300))
                    got = target.next(version)
                    sizes.append(got and len(got["data"]))
            outcome[f"{name} {version}"] = sizes
    return outcome


LARGE_DATAGRAMS = {f"{name} {version}": [0, 1, 1473, 9000, 65507]
                   for name in ("out", "in", "lo") for version in FAMILIES}


# ---- headers ----


def headers(stage):
    """Type of service, time to live, options and extension headers arrive as they were sent."""
    box, peer = stage.pair()
    stage.police(box)
    outcome = {}
    receiver = Receiver(peer)
    receiver.sockets[4].setsockopt(level(4), 6, 1)  # IP_RECVOPTS
    for version in FAMILIES:
        with contextlib.closing(sender(box, version)) as sock:
            if version == 6:
                sock.setsockopt(level(6), IPV6_UNICAST_HOPS, 9)
                sock.setsockopt(level(6), IPV6_TCLASS, 0xb9)
                # IPV6_HOPOPTS (54), IPV6_DSTOPTS (59): a PadN each
                sock.setsockopt(level(6), 54, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
                sock.setsockopt(level(6), 59, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
            else:
                sock.setsockopt(level(4), IP_TTL, 9)
                sock.setsockopt(level(4), IP_TOS, 0xb8)
                sock.setsockopt(level(4), 4, bytes([7, 11, 4, *([0] * 8), 0]))  # record route
            wire = tapped(peer, "eth0")
            sock.sendto(b"marker", (there(version), 5300))
            got = receiver.next(version)
            outcome[version] = got and (got["ttl"], got["tos"])
            while readable(wire):
                frame = wire.recv(65536)
                if b"marker" in frame:
                    outcome[f"before {version}"] = frame.index(b"marker") - 14
                    break
            wire.close()
    return outcome


HEADERS = {4: (9, 0xb8), "before 4": 20 + 12 + 8, 6: (9, 0xb9), "before 6": 40 + 8 + 8 + 8}


def other_protocols(stage):
    """Protocols that the kernel has no idea of, SCTP and UDP-Lite among them."""
    box, peer = stage.pair()
    stage.police(box)
    outcome = {}
    for version in FAMILIES:
        for protocol in (132, 136, 112, 253, 47, 50):
            source, target = (netns.open_socket(FAMILY[version], socket.SOCK_RAW, protocol)
                              for netns in (box, peer))
            text = struct.pack("!HHHH", 4000, 5300, 28, 0) + b"x" * 20
            source.sendto(text, (there(version), 0))
            got = readable(target) and target.recv(2048)
            outcome[f"{protocol} {version}"] = bool(got) and got.endswith(text)
    return outcome


OTHER_PROTOCOLS = {f"{protocol} {version}": True for version in FAMILIES
                   for protocol in (132, 136, 112, 253, 47, 50)}


# ---- neighbours ----


def discovery_by_a_program(stage):
    """As rdisc6, ndisc6, network managers: solicitations from a raw socket and their answers."""
    box, peer = stage.pair()
    stage.police(box)
    asker = box.open_socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    router = peer.open_socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    wire = tapped(peer, "eth0")
    for sock, netns in ((asker, box), (router, peer)):
        sock.setsockopt(level(6), 18, 255)  # IPV6_MULTICAST_HOPS
        sock.setsockopt(level(6), IPV6_UNICAST_HOPS, 255)
        sock.setsockopt(level(6), IPV6_MULTICAST_IF, struct.pack("=I", link_index(netns, "eth0")))
    own_link = bytes([1, 1]) + b"\2\x77\0\0\0\1"
    outcome = {}
    # NS for the peer's address; its kernel answers.
    solicited = socket.inet_pton(socket.AF_INET6, there(6))
    asker.sendto(struct.pack("!BBHI", 135, 0, 0, 0) + solicited + own_link,
                 ("ff02::1:ff00:2", 0))
    outcome["advertised"] = bool(heard(asker, 136))
    # RS; a router's program answers all nodes.
    asker.sendto(struct.pack("!BBHI", 133, 0, 0, 0) + own_link, ("ff02::2", 0))
    outcome["solicited"] = seen_on(wire, own_link, 2) == 2
    router.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0), ("ff02::1", 0))
    outcome["router"] = bool(heard(asker, 134))
    return outcome


DISCOVERY = {"advertised": True, "solicited": True, "router": True}


def heard(sock, kind, timeout=PATIENCE):
    """The next message of that kind that a raw ICMPv6 socket gets."""
    deadline = time.monotonic() + timeout
    while readable(sock, max(deadline - time.monotonic(), 0)):
        data = sock.recv(2048)
        if data[0] == kind:
            return data
    return None


def listener_reports(stage):
    """The kernel tells the link which groups it listens to (MLD, IGMP)."""
    box, peer = stage.pair()
    stage.police(box)
    wire = tapped(peer, "eth0")
    receiver = Receiver(box)
    for version in FAMILIES:
        join(receiver.sockets[version], version, box)
    return {f"report {version}": seen_on(wire, socket.inet_pton(FAMILY[version], GROUPS[version]),
                                         1) for version in FAMILIES}


# What that policy means as rules of nft.
REPORTS = """
    table inet filter {{
        chain out {{ type filter hook output priority 0; policy drop;
            meta l4proto igmp accept; icmpv6 type {{ {} 133-136 }} accept; }}
    }}"""


def unprivileged_pings(stage):
    """Datagram sockets of ICMP, out and in."""
    box, peer = stage.pair()
    without_limits(box, peer)
    for netns in (box, peer):
        netns.sysctl("ipv4/ping_group_range", "0 2147483647")
    stage.police(box)
    outcome = {}
    for version in FAMILIES:
        for name, origin, address in (("out", box, there(version)), ("in", peer, here(version))):
            protocol = socket.IPPROTO_ICMPV6 if version == 6 else socket.IPPROTO_ICMP
            sock = origin.open_socket(FAMILY[version], socket.SOCK_DGRAM, protocol)
            kind = 128 if version == 6 else 8
            sock.sendto(struct.pack("!BBHHH", kind, 0, 0, 0, 1) + b"p" * 1400, (address, 0))
            outcome[f"{name} {version}"] = readable(sock) and len(sock.recv(2048))
    return outcome


PINGS = {f"{name} {version}": 1408 for name in ("out", "in") for version in FAMILIES}


def at_once(stage, policed):
    """
    Packets that are all on their way before the first is through, and that conntrack cannot tell
    apart: echo requests with one number, as by traceroute -I, and packets without ports. Twice, as
    the second time there is an entry.
    """
    left, router, right = stage.router()
    without_limits(left, router, right)
    left.sysctl("ipv4/ping_group_range", "0 2147483647")
    for version in FAMILIES:  # neighbours are known
        left.ping(BEYOND[version])
    stage.police({"left": left, "router": router, "right": right}[policed])
    outcome = {}
    for version in FAMILIES:
        asker = left.open_socket(FAMILY[version], socket.SOCK_DGRAM,
                                 socket.IPPROTO_ICMPV6 if version == 6 else socket.IPPROTO_ICMP)
        source, target = (netns.open_socket(FAMILY[version], socket.SOCK_RAW, 253)
                          for netns in (left, right))
        answered, arrived = set(), set()
        for number in range(2 * COPIES_AT_ONCE):
            if number == COPIES_AT_ONCE:
                answered |= sequences(asker, COPIES_AT_ONCE)
                arrived |= texts(target, COPIES_AT_ONCE)
            asker.sendto(struct.pack("!BBHHH", 128 if version == 6 else 8, 0, 0, 0, number) +
                         b"p" * 56, (BEYOND[version], 0))
            source.sendto(b"%04d" % number, (BEYOND[version], 0))
        answered |= sequences(asker, COPIES_AT_ONCE)
        arrived |= texts(target, COPIES_AT_ONCE)
        outcome[f"requests {version}"] = len(answered)
        outcome[f"packets {version}"] = len(arrived)
    return outcome


COPIES_AT_ONCE = 8
BEYOND = {4: "10.77.2.2", 6: "fd77:2::2"}  # right
AT_ONCE = {f"{what} {version}": 2 * COPIES_AT_ONCE
           for what in ("requests", "packets") for version in FAMILIES}


def received(sock, count):
    got = []
    while len(got) < count and readable(sock):
        got.append(sock.recv(2048))
    return got


def sequences(sock, count):
    return {answer[6:8] for answer in received(sock, count)}


def texts(sock, count):
    return {packet[-4:] for packet in received(sock, count)}


def queue_number_free(stage):
    """Programs inside take queue 0, as every tutorial does."""
    box, _ = stage.pair()
    stage.police(box)
    box.ping(there(4))
    with Consumer(box, 0):
        return {"bound": True}
