# SPDX-License-Identifier: GPL-2.0-or-later
"""
Every way past a policy that anybody has thought of, for test_no_way_past.py.

An attack is a function and a row: the decorator says who may try it, in which families, which way
it goes, and what it has to beat where nsgate is not, so that it is known to work at all. It runs in
a process of its own, in the namespace that it comes from, with no capability or only those it
names, and does what it can to bring `go.payload` (which holds `go.marker`), or an address that
holds `go.marker`, past. It may yield what somebody else does for it in between: see Ask.

usage: attacks.py none|raw|all, and then one request a line on stdin, a JSON object; see serve().
"""
import contextlib
import ctypes
import dataclasses
import errno
import inspect
import ipaddress
import json
import mmap
import os
import socket
import struct
import sys
import time

import frames

UDP_OPEN, TCP_OPEN = 7000, 7001  # out, to the accomplice
UDP_SERVED, TCP_SERVED = 7100, 7101  # in
FENCE = 9999  # passes both ways: what was sent before it has been judged when it arrives
OWNED, OWNER = 7200, 4242  # a port that one user may send to
SENDER = 4000  # whose datagrams to UDP_OPEN are allowed, whatever is in them
RENAMED = 7300  # a port to which only links named lan* lead

SO_BINDTODEVICE, SO_MARK, SO_ZEROCOPY = 25, 36, 60
IP_FREEBIND, IP_TRANSPARENT, IP_UNICAST_IF, IP_PKTINFO, IP_OPTIONS = 15, 19, 50, 8, 4
IPV6_FREEBIND, IPV6_TRANSPARENT, IPV6_UNICAST_IF, IPV6_PKTINFO = 78, 75, 76, 50
IPV6_HOPOPTS, IPV6_RTHDR, IPV6_DSTOPTS, IPV6_HDRINCL = 54, 57, 59, 36
MCAST_JOIN_SOURCE_GROUP = 46
TCP_FASTOPEN_NO_COOKIE, UDP_SEGMENT, MSG_ZEROCOPY = 34, 103, 0x4000000
PROTO_MPTCP, PROTO_UDPLITE = 262, 136
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
AF_XDP, SOL_XDP, XDP_MMAP_OFFSETS, XDP_TX_RING, XDP_UMEM_REG = 44, 283, 1, 3, 4
XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_PGOFF_TX_RING = 5, 6, 0x80000000
CLONE_NEWUSER = 0x10000000
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

REFUSALS = (errno.EPERM, errno.EACCES, errno.ECONNREFUSED, errno.ENOBUFS, errno.EHOSTUNREACH,
            errno.ENETUNREACH, errno.EAGAIN, errno.EINPROGRESS, errno.ETIMEDOUT, errno.ECONNRESET,
            errno.EPIPE, errno.ENOTCONN)

libc = ctypes.CDLL(None, use_errno=True)

# What the attack has to beat where nsgate is not: nothing, a common stateful filter, or one that
# rejects.
ACCEPTED = """
    ct state established,related accept
    icmpv6 type { 130-137, 143 } accept
"""
STATEFUL = f"""table inet naive {{
  chain in {{ type filter hook input priority 0; policy drop; {ACCEPTED}
    iif lo accept; udp dport {UDP_SERVED} accept; tcp dport {TCP_SERVED} accept; }}
  chain out {{ type filter hook output priority 0; policy drop; {ACCEPTED}
    oif lo accept; ip daddr 127.0.0.0/8 accept; ip6 daddr ::1 accept
    udp dport {{ {UDP_OPEN}, {FENCE} }} accept; tcp dport {TCP_OPEN} accept; }}
}}"""
REJECTING = f"""table inet naive {{
  chain in {{ type filter hook input priority 0; iif lo udp dport 20000-29999 reject; }}
  chain out {{ type filter hook output priority 0; icmpv6 type {{ 1, 130-137, 143 }} accept
    ip protocol icmp accept; oif lo accept; tcp flags rst accept; udp dport {FENCE} accept
    meta l4proto tcp reject with tcp reset; reject; }}
}}"""
FORWARD_REJECTING = """table inet naive {
  chain forward { type filter hook forward priority 0; udp dport 20000-29999 reject; }
}"""


@dataclasses.dataclass
class Attack:
    """A row."""
    run: object
    caps: str = "none"  # what the process may: "none", "raw" (CAP_NET_RAW), "all"
    families: tuple = (4, 6)
    side: str = "out"  # or "in", or "forward": which way it wants to go
    control: str = None  # what it has to beat where nsgate is not: rules of nft, or nothing
    rules: str = "usual"  # the policy's, see test_no_way_past.py
    both: bool = False  # it means something only where both directions are judged
    wait: float = 0.0  # seconds until what the kernel puts off must have come
    beyond: str = None  # words of nsgate-policy(5) that say that nothing holds this one
    heavy: bool = False  # too much for `make check`, and for more than two modes


ATTACKS = {}


def attack(name=None, **keys):
    def add(run):
        ATTACKS[name or run.__name__] = Attack(run, **keys)
        return run
    return add


class Ask:
    """What others do meanwhile."""
    POLICY_AGAIN = {"policy": "usual"}  # another generation of the same
    POLICY_TIGHT = {"policy": "tight"}  # nothing of what was allowed is any more

    @staticmethod
    def connect(port):
        """The accomplice connects to us, and says something."""
        return {"connect": port}

    @staticmethod
    def rename(link, name):
        return {"rename": [link, name]}

    @staticmethod
    def frame(packet):
        """The accomplice sends this IP packet in."""
        return {"frame": packet.hex()}

    @staticmethod
    def send_on(descriptor):
        """Another user sends the payload by a socket of ours."""
        return {"send_on": descriptor}


class Go:
    """What an attack is given."""

    def __init__(self, request):
        self.__dict__.update(request)  # family, here, there, other, forbidden
        self.marker = bytes.fromhex(request["marker"])
        self.payload = b"no way past " + self.marker + b"." * 44
        self.af = socket.AF_INET if self.family == 4 else socket.AF_INET6
        self.level = socket.IPPROTO_IP if self.family == 4 else socket.IPPROTO_IPV6
        self.icmp = 1 if self.family == 4 else 58
        self.things = []

    def close(self):
        for thing in self.things:
            with contextlib.suppress(OSError):
                thing.close()

    # ---- addresses that hold the marker ----

    def strange(self):
        """Routed by the accomplice. In IPv4 there is room for three bytes of the marker."""
        if self.family == 4:
            return ".".join(map(str, (100, *self.marker[:3])))
        return str(ipaddress.ip_address(bytes.fromhex("fd66000000000000") + self.marker))

    def group(self, number=0):
        if self.family == 4:
            return ".".join(map(str, (239, *self.marker[:3])))
        return str(ipaddress.ip_address(
            bytes.fromhex("ff0e0000") + struct.pack("!I", number) + self.marker))

    # ---- sockets ----

    def socket(self, kind, protocol=0, family=None):
        made = socket.socket(family or self.af, kind, protocol)
        self.things.append(made)
        made.settimeout(0.2)
        return made

    def udp(self, *bind):
        made = self.socket(socket.SOCK_DGRAM)
        if bind:
            made.bind(bind)
        return made

    def tcp(self, *bind):
        made = self.socket(socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bind:
            made.bind(bind)
        return made

    def foreign(self, kind, address, port, protocol=0, option=None):
        """Bound to an address that is not ours."""
        made = self.socket(kind, protocol)
        made.setsockopt(self.level, option or (
            IP_FREEBIND if self.family == 4 else IPV6_FREEBIND), 1)
        made.bind((address, port))
        return made

    def transparent(self, kind, address, port):
        return self.foreign(kind, address, port, option=(
            IP_TRANSPARENT if self.family == 4 else IPV6_TRANSPARENT))

    @property
    def link(self):
        return socket.if_nametoindex("eth0")

    # ---- sending; to be refused is no surprise ----

    def send(self, sock, data, address, port=None, flags=0):
        with self.refusals():
            sock.sendto(data, flags, (address, port if port is not None else self.forbidden))

    @staticmethod
    @contextlib.contextmanager
    def refusals():
        try:
            yield
        except TimeoutError:
            pass
        except OSError as error:
            if error.errno not in REFUSALS:
                raise

    def raw(self, payload, protocol, src=None, dst=None, nodefrag=False, **header):
        """A whole IP packet of ours, through the stack."""
        dst = dst or self.there
        packet = self.packet(payload, protocol, src, dst, **header)
        made = self.socket(socket.SOCK_RAW, socket.IPPROTO_RAW)
        if self.family == 6:
            made.setsockopt(self.level, IPV6_HDRINCL, 1)
        elif nodefrag:
            made.setsockopt(self.level, frames.IP_NODEFRAG, 1)
        with self.refusals():
            made.sendto(packet, (dst, 0))
        made.close()

    def packet(self, payload, protocol, src=None, dst=None, **header):
        make = frames.ipv4 if self.family == 4 else frames.ipv6
        return make(payload, protocol, src or self.here, dst or self.there, **header)

    def datagram(self, src=None, dst=None, sport=SENDER, dport=None, data=None):
        return frames.udp(src or self.here, dst or self.there, sport,
                          self.forbidden if dport is None else dport,
                          self.payload if data is None else data)

    def segment(self, flags, src=None, dst=None, sport=SENDER, dport=None, data=None):
        return frames.tcp(src or self.here, dst or self.there, sport,
                          self.forbidden if dport is None else dport, flags,
                          data=self.payload if data is None else data)

    def icmp_message(self, kind, code, body, src=None, dst=None):
        """`body`: from the fifth byte on."""
        message = struct.pack("!BBH", kind, code, 0) + body
        before = b"" if self.family == 4 else frames.pseudo(
            src or self.here, dst or self.there, 58, len(message))
        return message[:2] + struct.pack("!H", frames.checksum(before + message)) + message[4:]

    def wire(self, data, ether_type=None, dev="eth0", bypass=False, flat=False):
        made = self.socket(socket.SOCK_DGRAM if flat else socket.SOCK_RAW, 0, socket.AF_PACKET)
        if bypass:
            made.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        kind = ether_type or (0x0800 if data[0] >> 4 == 4 else 0x86DD)
        target = bytes(6) if dev == "lo" else bytes.fromhex(self.there_mac)
        with self.refusals():
            if flat:
                made.sendto(data, (dev, kind, 0, 0, target))
            else:
                made.bind((dev, 0))
                own = made.getsockname()[4]
                made.send(target + own + struct.pack("!H", kind) + data)

    # ---- allowed flows, to start from ----

    def ask(self, sock=None):
        """A datagram that is allowed, and its answer. Return: the socket."""
        sock = sock or self.udp(self.here, 0)
        sock.settimeout(5)
        sock.sendto(b"question", (self.there, UDP_OPEN))
        sock.recv(100)
        return sock

    def fetch(self, sock=None):
        """A connection that is allowed, and some of it. Return: the socket."""
        sock = sock or self.tcp()
        sock.settimeout(5)
        sock.connect((self.there, TCP_OPEN))
        sock.send(b"question")
        sock.recv(100)
        return sock


# ---- what anybody can send ----


@attack()
def datagram(go):
    go.send(go.udp(), go.payload, go.there)


@attack()
def connected_datagram(go):
    sender = go.udp()
    with go.refusals():
        sender.connect((go.there, go.forbidden))
        sender.send(go.payload)
        sender.send(go.payload)


@attack()
def datagram_in_pieces(go):
    go.send(go.udp(), go.payload * 150, go.there)


@attack(families=(4,))
def datagram_to_a_mapped_address(go):
    """By a socket of IPv6."""
    go.send(go.socket(socket.SOCK_DGRAM, 0, socket.AF_INET6), go.payload, "::ffff:" + go.there)


@attack()
def large_datagram(go):
    """Segmentation offload: one to the hooks, many on the wire."""
    sender = go.udp()
    sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 64)
    go.send(sender, go.payload * 20, go.there)


@attack()
def datagram_without_copying(go):
    sender = go.udp()
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    go.send(sender, go.payload * 10, go.there, flags=MSG_ZEROCOPY)


@attack()
def corked_datagram(go):
    """Begun for an allowed port, ended for another: the kernel must not mix them."""
    sender = go.udp()
    go.send(sender, go.payload, go.there, flags=socket.MSG_MORE)
    go.send(sender, go.payload, go.there)


@attack(families=(4,))
def broadcast(go):
    for address in ("255.255.255.255", go.here.rpartition(".")[0] + ".255"):
        sender = go.udp()
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"eth0\0")
        go.send(sender, go.payload, address)


@attack()
def multicast(go):
    sender = go.udp()
    if go.family == 4:
        sender.setsockopt(go.level, socket.IP_MULTICAST_IF, socket.inet_aton(go.here))
    else:
        sender.setsockopt(go.level, socket.IPV6_MULTICAST_IF, go.link)
    for group in ("224.0.0.1", "239.1.2.3") if go.family == 4 else ("ff02::1", "ff0e::1"):
        go.send(sender, go.payload, group)


@attack()
def ping(go):
    """The socket that needs no capability."""
    sender = go.socket(socket.SOCK_DGRAM, go.icmp)
    go.send(sender, struct.pack("!BBHHH", 8 if go.family == 4 else 128, 0, 0, 0, 1) + go.payload,
            go.there, 0)


@attack()
def udplite(go):
    go.send(go.socket(socket.SOCK_DGRAM, PROTO_UDPLITE), go.payload, go.there)


@attack(caps="raw", families=(4,))
def source_route(go):
    """Loose, by the accomplice: the header's destination is not the packet's."""
    sender = go.udp()
    sender.setsockopt(go.level, IP_OPTIONS,
                      bytes([1, 131, 7, 4]) + socket.inet_aton(go.there))
    go.send(sender, go.payload, go.other)


@attack(families=(4,))
def record_route(go):
    sender = go.udp()
    sender.setsockopt(go.level, IP_OPTIONS, bytes([7, 39, 4]) + bytes(36) + b"\0")
    go.send(sender, go.payload, go.there)


@attack(families=(6,))
def segment_route(go):
    """A routing header of type 4 needs no capability (RFC 8754)."""
    sender = go.udp()
    segments = [ipaddress.ip_address(a).packed for a in (go.other, go.there)]
    sender.setsockopt(go.level, IPV6_RTHDR, struct.pack(
        "!BBBBBBH", 0, 2 * len(segments), 4, len(segments) - 1, len(segments) - 1, 0,
        0) + b"".join(segments))
    go.send(sender, go.payload, go.there)


@attack()
def many_flows(go):
    """More than a cache of denied flows likes."""
    for number in range(300):
        sender = go.udp()
        go.send(sender, go.payload, go.there, go.forbidden + number % 7)
        go.send(sender, go.payload, go.there, go.forbidden + number % 7)
        sender.close()


# ---- TCP ----


@attack()
def fast_open(go):
    """Data in the SYN, without a cookie."""
    sender = go.tcp()
    sender.setblocking(False)
    sender.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    go.send(sender, go.payload, go.there, flags=socket.MSG_FASTOPEN)


@attack()
def fast_open_multipath(go):
    sender = go.socket(socket.SOCK_STREAM, PROTO_MPTCP)
    sender.setblocking(False)
    sender.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    go.send(sender, go.payload, go.there, flags=socket.MSG_FASTOPEN)


@attack()
def fast_open_from_a_port_in_use(go):
    """The source port is that of an allowed connection."""
    known = go.fetch(go.tcp(go.here, 0))
    sender = go.tcp(*known.getsockname()[:2])
    sender.setblocking(False)
    sender.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    go.send(sender, go.payload, go.there, flags=socket.MSG_FASTOPEN)


@attack(both=True)
def connection_that_is_no_longer_allowed(go):
    known = go.fetch()
    yield Ask.POLICY_TIGHT
    for _ in range(3):
        with go.refusals():
            known.send(go.payload)
    known.close()


@attack()
def datagram_flow_that_is_no_longer_allowed(go):
    known = go.ask()
    yield Ask.POLICY_TIGHT
    for _ in range(3):
        go.send(known, go.payload, go.there, UDP_OPEN)


@attack(both=True)
def closing_that_is_no_longer_allowed(go):
    """The FIN carries the data."""
    known = go.fetch()
    known.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    yield Ask.POLICY_TIGHT
    with go.refusals():
        known.send(go.payload)
        known.shutdown(socket.SHUT_WR)


@attack(both=True)
def served_connection_that_is_no_longer_allowed(go):
    listener = go.tcp(go.here, TCP_SERVED)
    listener.listen()
    yield Ask.connect(TCP_SERVED)
    listener.settimeout(5)
    known = listener.accept()[0]
    go.things.append(known)
    known.recv(100)
    yield Ask.POLICY_TIGHT
    for _ in range(3):
        with go.refusals():
            known.send(go.payload)


@attack(both=True)
def served_datagrams_that_are_no_longer_allowed(go):
    known = go.udp(go.here, UDP_SERVED)
    known.settimeout(5)
    yield Ask.frame(go.packet(go.datagram(go.there, go.here, SENDER, UDP_SERVED, b"x"), 17,
                              go.there, go.here))
    known.recv(100)
    yield Ask.POLICY_TIGHT
    for _ in range(3):
        go.send(known, go.payload, go.there, SENDER)


@attack(heavy=True, families=(4,))
def flows_that_slept_through_many_policies(go):
    """What tells one version from another has so many values, and comes round."""
    known = [go.ask() for _ in range(300)]
    for each in known:
        yield Ask.POLICY_TIGHT
        go.send(each, go.payload, go.there, UDP_OPEN)


@attack(heavy=True, families=(6,), wait=0.5)
def datagram_into_a_crowded_table(go):
    """As many flows as connection tracking takes, all of them allowed, and what comes then."""
    with open("/proc/sys/net/netfilter/nf_conntrack_max", encoding="ascii") as file:
        most = int(file.read())
    senders = [go.udp(go.here, 0) for _ in range(most // 50000 + 1)]
    for sender in senders:
        sender.settimeout(5)
        for port in range(10000, 60000):
            with go.refusals():
                sender.sendto(b"", (go.here, port))
    with open("/proc/sys/net/netfilter/nf_conntrack_count", encoding="ascii") as file:
        flows = int(file.read())
    assert flows == 0 or flows > 0.9 * most, f"{flows} of {most} flows"
    for _ in range(100):
        go.send(go.udp(), go.payload, go.there)
        go.send(senders[0], go.payload, go.there)


@attack(both=True)
def port_of_a_connection_that_ended(go):
    """TIME_WAIT: conntrack still knows it, and a SYN makes it new."""
    known = go.fetch(go.tcp(go.here, 0))
    port = known.getsockname()[1]
    known.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    known.close()
    yield Ask.POLICY_TIGHT
    sender = go.tcp(go.here, port)
    sender.setblocking(False)
    sender.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    go.send(sender, go.payload, go.there, TCP_OPEN, flags=socket.MSG_FASTOPEN)


@attack()
def port_of_an_allowed_flow(go):
    known = go.ask()
    go.send(known, go.payload, go.there)


@attack(both=True)
def simultaneous_open(go):
    """Our SYN, with data, and one of the accomplice from the forbidden port, cross."""
    sender = go.tcp(go.here, 0)
    port = sender.getsockname()[1]
    yield Ask.frame(go.packet(go.segment(SYN, go.there, go.here, go.forbidden, port, b""), 6,
                              go.there, go.here))
    sender.setblocking(False)
    sender.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    go.send(sender, go.payload, go.there, flags=socket.MSG_FASTOPEN)
    yield Ask.frame(go.packet(go.segment(SYN, go.there, go.here, go.forbidden, port, b""), 6,
                              go.there, go.here))


# ---- flows that were forged over the loopback ----


def answer_forged(go, forger):
    """The packet that comes by the loopback makes what leaves an answer."""
    mine = go.udp(go.here, 0)
    go.send(forger, b"x", go.here, mine.getsockname()[1])
    with go.refusals():
        mine.recv(100)
    return mine


@attack(families=(6,), control=STATEFUL)
def forged_flow(go):
    mine = answer_forged(go, go.foreign(socket.SOCK_DGRAM, go.there, go.forbidden))
    go.send(mine, go.payload, go.there)


@attack(families=(6,), control=STATEFUL)
def forged_flow_before_a_change(go):
    mine = answer_forged(go, go.foreign(socket.SOCK_DGRAM, go.there, go.forbidden))
    yield Ask.POLICY_AGAIN
    go.send(mine, go.payload, go.there)


@attack(families=(6,), control=STATEFUL)
def forged_flow_used_across_a_change(go):
    mine = answer_forged(go, go.foreign(socket.SOCK_DGRAM, go.there, go.forbidden))
    go.send(mine, b"x", go.there)
    yield Ask.POLICY_AGAIN
    go.send(mine, go.payload, go.there)
    yield Ask.POLICY_AGAIN
    go.send(mine, go.payload, go.there)


@attack(families=(6,), control=STATEFUL)
def forged_flow_to_loopback(go):
    forger = go.foreign(socket.SOCK_DGRAM, go.there, go.forbidden)
    mine = go.udp("::1", 0)
    go.send(forger, b"x", "::1", mine.getsockname()[1])
    mine.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"eth0\0")
    go.send(mine, go.payload, go.there)


@attack(caps="raw", control=STATEFUL)
def forged_flow_by_transparent_socket(go):
    mine = answer_forged(go, go.transparent(socket.SOCK_DGRAM, go.there, go.forbidden))
    go.send(mine, go.payload, go.there)


@attack(caps="raw", control=STATEFUL)
def forged_flow_by_raw_socket(go):
    mine = go.udp(go.here, 0)
    go.raw(go.datagram(go.there, go.here, go.forbidden, mine.getsockname()[1], b"x"), 17,
           go.there, go.here)
    with go.refusals():
        mine.recv(100)
    go.send(mine, go.payload, go.there)


@attack(families=(6,), control=STATEFUL, both=True)
def forged_flow_that_the_accomplice_uses(go):
    """What comes in is a packet of the flow's own direction, what leaves its answer."""
    mine = answer_forged(go, go.foreign(socket.SOCK_DGRAM, go.there, go.forbidden))
    yield Ask.frame(go.packet(go.datagram(go.there, go.here, go.forbidden,
                                          mine.getsockname()[1], b"x"), 17, go.there, go.here))
    go.send(mine, go.payload, go.there)


# ---- answers of the kernel to what came by the loopback ----


@attack(families=(6,), control=STATEFUL)
def reflected_echo(go):
    sender = go.foreign(socket.SOCK_DGRAM, go.there, 0, go.icmp)
    go.send(sender, struct.pack("!BBHHH", 128, 0, 0, 0, 1) + go.payload, go.here, 0)


@attack(families=(6,), control=STATEFUL)
def reflected_unreachable(go):
    go.send(go.foreign(socket.SOCK_DGRAM, go.there, 4001), go.payload, go.here)


@attack(families=(6,), control=STATEFUL)
def reflected_reset(go):
    """Of a port that nobody serves, to an address that says it all."""
    sender = go.foreign(socket.SOCK_STREAM, go.strange(), 0)
    sender.setblocking(False)
    with go.refusals():
        sender.connect((go.here, go.forbidden))


@attack(families=(6,), control=STATEFUL)
def reflected_handshake(go):
    listener = go.tcp(go.here, 0)
    listener.listen()
    sender = go.foreign(socket.SOCK_STREAM, go.strange(), 0)
    sender.setblocking(False)
    with go.refusals():
        sender.connect(listener.getsockname()[:2])


@attack(caps="raw", control=STATEFUL)
def reflected_echo_raw(go):
    kind = 8 if go.family == 4 else 128
    body = struct.pack("!HH", 1, 1) + go.payload
    go.raw(go.icmp_message(kind, 0, body, go.there, go.here), go.icmp, go.there, go.here)


@attack(caps="raw", control=STATEFUL)
def reflected_unreachable_raw(go):
    go.raw(go.datagram(go.there, go.here, 4001), 17, go.there, go.here)


@attack(caps="raw", control=STATEFUL)
def reflected_reset_raw(go):
    go.raw(go.segment(SYN, go.strange(), go.here), 6, go.strange(), go.here)


@attack(caps="raw", families=(6,), control=STATEFUL)
def reflected_parameter_problem(go):
    """An option that nobody knows and that asks for an error (RFC 8200 4.2)."""
    options = struct.pack("!BB", 17, 0) + bytes([0x80 | 0x3e, 4]) + bytes(4)
    go.raw(options + go.datagram(go.there, go.here, 4001, UDP_SERVED), 60, go.there, go.here)


# ---- answers to what is rejected ----


@attack(families=(6,), control=REJECTING)
def rejected_datagram(go):
    go.send(go.foreign(socket.SOCK_DGRAM, go.there, 4002), go.payload * 15, go.other)


@attack(families=(6,), control=REJECTING)
def rejected_connection(go):
    sender = go.foreign(socket.SOCK_STREAM, go.strange(), 0)
    sender.setblocking(False)
    with go.refusals():
        sender.connect((go.there, go.forbidden))


@attack(families=(6,), control=REJECTING, rules="no loopback")
def rejected_over_the_loopback(go):
    go.send(go.foreign(socket.SOCK_DGRAM, go.there, 4003), go.payload * 15, go.here)


@attack(caps="raw", control=REJECTING)
def rejected_datagram_raw(go):
    go.raw(go.datagram(go.there, go.other, 4002), 17, go.there, go.other)


@attack(caps="raw", control=REJECTING)
def rejected_segment_raw(go):
    go.raw(go.segment(SYN, go.strange(), go.there), 6, go.strange(), go.there)


@attack(caps="raw", control=REJECTING)
def rejected_datagram_of_transparent_socket(go):
    go.send(go.transparent(socket.SOCK_DGRAM, go.there, 4004), go.payload, go.other)


# ---- addresses of the loopback by another link ----


def loopback(go):
    return "127.0.0.1" if go.family == 4 else "::1"


@attack()
def loopback_address_by_bound_link(go):
    sender = go.udp()
    sender.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"eth0\0")
    go.send(sender, go.payload, loopback(go))


@attack()
def loopback_address_by_chosen_link(go):
    """IP_UNICAST_IF does not bind."""
    sender = go.udp()
    index = struct.pack("!I", go.link)
    sender.setsockopt(go.level, IP_UNICAST_IF if go.family == 4 else IPV6_UNICAST_IF, index)
    go.send(sender, go.payload, loopback(go))


@attack()
def loopback_address_by_packet_information(go):
    sender = go.udp()
    if go.family == 4:
        info = (socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=I8s", go.link, bytes(8)))
    else:
        info = (socket.IPPROTO_IPV6, IPV6_PKTINFO, bytes(16) + struct.pack("=I", go.link))
    with go.refusals():
        sender.sendmsg([go.payload], [info], 0, (loopback(go), go.forbidden))


@attack()
def loopback_address_in_a_connection(go):
    sender = go.tcp()
    sender.setblocking(False)
    sender.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"eth0\0")
    sender.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    go.send(sender, go.payload, loopback(go), flags=socket.MSG_FASTOPEN)


# ---- what the kernel sends for us ----


@attack(families=(6,), wait=0.5)
def listener_reports(go):
    for number in range(16):
        go.udp().setsockopt(go.level, socket.IPV6_JOIN_GROUP, ipaddress.ip_address(
            go.group(number)).packed + struct.pack("=I", go.link))


@attack(families=(6,), wait=0.5)
def listener_reports_of_sources(go):
    member = go.udp()

    def sockaddr(address):
        return struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, ipaddress.ip_address(
            address).packed, 0).ljust(128, b"\0")
    for number in range(8):
        source = ipaddress.ip_address(bytes.fromhex("20010db80000") + struct.pack("!H", number) +
                                      go.marker)
        member.setsockopt(go.level, MCAST_JOIN_SOURCE_GROUP, struct.pack("=I4x", go.link) +
                          sockaddr("ff0e::7") + sockaddr(source))


@attack(families=(4,), wait=0.5)
def group_reports(go):
    go.udp().setsockopt(go.level, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(go.group()) +
                        socket.inet_aton(go.here))


@attack(families=(6,))
def neighbours_asked_for(go):
    """The address to be resolved holds it."""
    prefix = ipaddress.ip_address(go.there).packed[:8]
    go.send(go.udp(), b"x", str(ipaddress.ip_address(prefix + go.marker)))


# ---- who sends ----


@attack(rules="owner")
def root_of_a_user_namespace(go):
    """Whoever it takes itself for in there, it is no other user."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(OSError):
            if libc.unshare(CLONE_NEWUSER) == 0:
                with open("/proc/self/uid_map", "w", encoding="ascii") as file:
                    file.write(f"{OWNER} 65534 1")
                go.send(go.udp(), go.payload, go.there, OWNED)
                status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@attack(rules="owner")
def socket_given_away(go):
    sender = go.udp()
    with go.refusals():
        os.fchown(sender.fileno(), OWNER, -1)
    go.send(sender, go.payload, go.there, OWNED)


@attack(rules="owner")
def socket_used_by_another_user(go):
    """Who made it counts."""
    sender = go.udp()
    sender.connect((go.there, OWNED))
    yield Ask.send_on(sender.fileno())


@attack(rules="links")
def link_with_another_name(go):
    """It was lan0 when the policy came into force."""
    yield Ask.rename("eth0", "lan0")
    go.send(go.udp(), b"allowed", go.there, RENAMED)
    yield Ask.rename("lan0", "eth0")
    go.send(go.udp(), go.payload, go.there, RENAMED)


# ---- with raw sockets: protocols ----


def raw_protocol(protocol, header=b""):
    @attack(f"raw_protocol_{protocol}", caps="raw")
    def _run(go):
        go.raw(header + go.payload, protocol)


for each, start in ((2, b"\x16" + bytes(7)), (4, b"\x45"), (41, b"\x60"), (47, bytes(4)),
                    (50, bytes(8)), (89, bytes(8)), (103, bytes(8)), (112, bytes(8)),
                    (115, bytes(8)), (253, b""), (255, b"")):
    raw_protocol(each, start)


@attack(caps="raw")
def raw_sctp(go):
    go.raw(struct.pack("!HHII", SENDER, go.forbidden, 0, 0) + go.payload, 132)


@attack(caps="raw")
def raw_dccp(go):
    go.raw(struct.pack("!HHBBHBBH4x", SENDER, go.forbidden, 4, 0, 0, 0, 0, 0) + go.payload, 33)


@attack(caps="raw")
def raw_udplite(go):
    go.raw(struct.pack("!HHHH", SENDER, go.forbidden, 8, 0) + go.payload, PROTO_UDPLITE)


@attack(caps="raw")
def raw_datagram_from_elsewhere(go):
    go.raw(go.datagram(go.strange(), go.there), 17, go.strange())


@attack(caps="raw")
def raw_datagram_of_the_loopback(go):
    go.raw(go.datagram(loopback(go), go.there), 17, loopback(go))


def raw_segment(name, flags):
    @attack(f"raw_segment_{name}", caps="raw")
    def _run(go):
        go.raw(go.segment(flags), 6)


for each, bits in (("syn", SYN), ("ack", ACK), ("psh_ack", PSH | ACK), ("rst", RST),
                   ("rst_ack", RST | ACK), ("fin", FIN), ("fin_ack", FIN | ACK),
                   ("syn_ack", SYN | ACK), ("none", 0), ("all", 0xFF)):
    raw_segment(each, bits)


def speaking_segment(go):
    """Of no connection; its numbers are the marker, for whoever sees no more than its headers."""
    signs = go.marker if go.family == 6 else bytes([239]) + go.marker[:7]  # as an address
    return go.packet(frames.tcp(go.here, go.there, SENDER, go.forbidden, PSH | ACK, data=b"x",
                                numbers=struct.unpack("!II", signs)), 6)


@attack(caps="raw")
def raw_segment_whose_numbers_speak(go):
    packet = speaking_segment(go)
    go.raw(packet[20 if go.family == 4 else 40:], 6)


@attack(caps="raw", both=True)
def raw_segment_of_a_served_port(go):
    """Of no connection: it only looks as if the accomplice had asked."""
    go.raw(go.segment(PSH | ACK, sport=TCP_SERVED, dport=4009), 6)


@attack(caps="raw", both=True)
def raw_datagram_of_a_served_port(go):
    go.raw(go.datagram(sport=UDP_SERVED, dport=4009), 17)


@attack(caps="raw")
def raw_mark(go):
    """Every mark that could mean something."""
    sender = go.udp()
    marks = [1 << bit for bit in range(32)] + [0xffffffff, 0xff000000, 0x80010000, 0x40010000,
                                               0x28000001, 0x11000000, 0xa9c35e71]
    for mark in marks:
        sender.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", mark))
        go.send(sender, go.payload, go.there)


# ---- with raw sockets: fragments and headers ----


def in_pieces(go, payload, protocol, cuts, nodefrag=False):
    """`cuts`: (from, to, more) in bytes of the payload; fragments of one packet."""
    for start, end, more in cuts:
        if go.family == 4:
            go.raw(payload[start:end], protocol, nodefrag=nodefrag, flags=int(more),
                   offset=start // 8, ident=go.forbidden)
        else:
            header = struct.pack("!BBHI", protocol, 0, start | more, go.forbidden)
            go.raw(header + payload[start:end], 44)


@attack(caps="raw")
def raw_fragments(go):
    in_pieces(go, go.datagram(), 17, ((0, 16, True), (16, 72, False)), nodefrag=True)


@attack(caps="raw")
def raw_later_fragment_alone(go):
    in_pieces(go, go.datagram(), 17, ((8, 72, False),), nodefrag=True)


@attack(caps="raw")
def raw_fragments_put_together(go):
    in_pieces(go, go.datagram(), 17, ((0, 16, True), (16, 72, False)))


@attack(caps="raw")
def raw_overlapping_fragments(go):
    """One that names an allowed port lies over the first."""
    in_pieces(go, go.datagram(), 17, ((0, 16, True),), nodefrag=True)
    in_pieces(go, go.datagram(dport=UDP_OPEN), 17, ((0, 16, True),), nodefrag=True)
    in_pieces(go, go.datagram(), 17, ((16, 72, False),), nodefrag=True)


@attack(caps="raw", families=(6,))
def raw_fragment_that_is_whole(go):
    go.raw(struct.pack("!BBHI", 17, 0, 0, 5) + go.datagram(), 44)


@attack(caps="raw", families=(6,))
def raw_fragment_in_a_fragment(go):
    inner = struct.pack("!BBHI", 17, 0, 0, 5) + go.datagram()
    go.raw(struct.pack("!BBHI", 44, 0, 0, 6) + inner, 44)


def long_header():
    """A routing header of no known type and with nothing left to do, 256 bytes of it."""
    return struct.pack("!BBBB", 17, 31, 253, 0) + bytes(252)


@attack(caps="raw", families=(6,))
def raw_headers_beyond_what_is_copied(go):
    """A port that is allowed where a short-sighted reader would look for it."""
    go.raw(long_header() + go.datagram(), 43)


@attack(caps="raw", families=(6,))
def raw_many_headers(go):
    chain = b"".join(struct.pack("!BBBB4x", 60, 0, 1, 4) for _ in range(20))
    go.raw(chain + struct.pack("!BBBB4x", 17, 0, 1, 4) + go.datagram(), 60)


@attack(caps="raw", families=(6,))
def raw_jumbogram(go):
    option = struct.pack("!BBBBI", 17, 0, 0xc2, 4, 70000)
    go.raw(option + go.datagram(), 0)


@attack(caps="raw", families=(6,))
def raw_routing_header(go):
    """Type 0: the destination is not where it ends."""
    header = struct.pack("!BBBB4x", 17, 2, 0, 1) + ipaddress.ip_address(go.other).packed
    go.raw(header + go.datagram(), 43)


@attack(caps="raw", families=(4,))
def raw_options(go):
    go.raw(go.datagram(), 17, ihl=15, options=b"\x01" * 40)


@attack(caps="raw", families=(6,))
def raw_header_options_of_socket(go):
    for option in (IPV6_HOPOPTS, IPV6_DSTOPTS):
        sender = go.udp()
        sender.setsockopt(go.level, option, struct.pack("!BBBB4x", 0, 0, 1, 4))
        go.send(sender, go.payload, go.there)


# ---- with raw sockets: what passes for the kernel's own ----


def carrier(name, kind, body, hop_limit, families=(6,)):
    @attack(f"raw_{name}", caps="raw", families=families)
    def _run(go):
        message = go.icmp_message(kind, 0, body + go.payload * 15)
        limit = {"hop_limit": hop_limit} if go.family == 6 else {}
        go.raw(message, go.icmp, **limit)


carrier("router_solicitation", 133, bytes(4), 255)
carrier("router_advertisement", 134, bytes(12), 255)
carrier("neighbour_solicitation", 135, bytes(20), 255)
carrier("neighbour_advertisement", 136, bytes(20), 255)
carrier("redirect", 137, bytes(36), 255)
carrier("listener_query", 130, bytes(20), 1)
carrier("listener_report", 131, bytes(20), 1)
carrier("listener_report_2", 143, bytes(4), 1)
carrier("echo_reply", 0, bytes(4), 64, families=(4,))
carrier("echo_reply_6", 129, bytes(4), 64)
carrier("icmp_253", 253, bytes(4), 64, families=(4, 6))


@attack(caps="raw", families=(6,))
def raw_neighbour_target(go):
    """Short enough for any limit: the address asked for holds it."""
    target = bytes(8) + go.marker
    go.raw(go.icmp_message(135, 0, bytes(4) + target), 58, hop_limit=255)


def errors(go, quoted):
    """Each kind of error that there is about a packet, with more than it needs to quote."""
    kinds = ((3, 3), (3, 4), (11, 0), (12, 0), (4, 0)) if go.family == 4 else (
        (1, 4), (2, 0), (3, 0), (4, 0))
    for kind, code in kinds:
        go.raw(go.icmp_message(kind, code, struct.pack("!I", 1300) + quoted + go.payload * 8),
               go.icmp)


@attack(caps="raw")
def raw_errors_about_an_allowed_flow(go):
    port = go.ask().getsockname()[1]
    answer = go.packet(go.datagram(go.there, go.here, UDP_OPEN, port, b"answer"), 17, go.there,
                       go.here)
    errors(go, answer)


@attack(caps="raw", both=True)
def raw_errors_about_a_served_flow(go):
    """Such as the kernel would send where nobody serves the port."""
    served = go.udp(go.here, UDP_SERVED)
    served.settimeout(5)
    asked = go.packet(go.datagram(go.there, go.here, SENDER, UDP_SERVED, b"x"), 17, go.there,
                      go.here)
    yield Ask.frame(asked)
    served.recv(100)
    errors(go, asked)


@attack(caps="raw")
def raw_errors_about_our_own_packets(go):
    port = go.ask().getsockname()[1]
    errors(go, go.packet(go.datagram(sport=port, dport=UDP_OPEN, data=b"question"), 17))


@attack(caps="raw")
def raw_errors_about_nothing(go):
    errors(go, go.packet(go.datagram(go.there, go.here, 4005, 4006, b"x"), 17, go.there,
                         go.here))


# ---- with packet sockets ----


@attack(caps="raw")
def frame(go):
    go.wire(go.packet(go.datagram(), 17))


@attack(caps="raw")
def frame_past_the_discipline(go):
    go.wire(go.packet(go.datagram(), 17), bypass=True)


@attack(caps="raw")
def frame_without_header(go):
    go.wire(go.packet(go.datagram(), 17), flat=True)


def frame_of_type(ether_type):
    @attack(f"frame_of_type_{ether_type:04x}", caps="raw", families=(4,))
    def _run(go):
        go.wire(go.payload, ether_type)


for each in (0x0806, 0x88cc, 0x888e, 0x8863, 0x1234, 0x0004):
    frame_of_type(each)


@attack(caps="raw")
def frame_with_a_tag(go):
    inner = go.packet(go.datagram(), 17)
    kind = 0x0800 if go.family == 4 else 0x86dd
    go.wire(struct.pack("!HH", 7, kind) + inner, 0x8100)


@attack(caps="raw", beyond="AF_XDP sockets are not held")
def frame_by_express_data_path(go):
    """AF_XDP: what is put into a ring in memory goes straight to the link (linux/if_xdp.h)."""
    own = bytes.fromhex(go.here_mac)
    packet = go.packet(go.datagram(), 17)
    frame = bytes.fromhex(go.there_mac) + own + struct.pack(
        "!H", 0x0800 if go.family == 4 else 0x86dd) + packet
    made = go.socket(socket.SOCK_RAW, 0, AF_XDP)
    area = mmap.mmap(-1, 16 * 4096)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    made.setsockopt(SOL_XDP, XDP_UMEM_REG, struct.pack("=QQIII4x", start, len(area), 4096, 0, 0))
    for ring in (XDP_TX_RING, XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING):
        made.setsockopt(SOL_XDP, ring, 16)
    # Of the ring of receiving first, then of sending: producer, consumer, descriptors, flags.
    places = struct.unpack("=16Q", made.getsockopt(SOL_XDP, XDP_MMAP_OFFSETS, 128))
    producer, descriptors = places[4], places[6]
    ring = mmap.mmap(made.fileno(), descriptors + 16 * 16, offset=XDP_PGOFF_TX_RING)
    if not bind_express(made, go.link):
        return
    area[: len(frame)] = frame
    ring[descriptors : descriptors + 16] = struct.pack("=QII", 0, len(frame), 0)
    ring[producer : producer + 4] = struct.pack("=I", 1)
    with go.refusals():
        made.send(b"")


def bind_express(made, link):
    """Return: is the link's first queue ours? What somebody else has had is free a bit later."""
    deadline = time.monotonic() + 1
    while libc.bind(made.fileno(), struct.pack("=HHIII", AF_XDP, 0, link, 0, 0), 16) < 0:
        if ctypes.get_errno() != errno.EBUSY:
            raise OSError(ctypes.get_errno(), "bind")
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@attack(caps="raw", control=STATEFUL, families=(6,))
def frame_fed_to_the_loopback(go):
    """It would come in as what the kernel has sent, and be answered outside."""
    go.wire(go.packet(go.icmp_message(128, 0, struct.pack("!HH", 1, 1) + go.payload, go.there,
                                      go.here), 58, go.there, go.here), dev="lo")


# ---- from outside ----


@attack(caps="all", side="in")
def in_datagram(go):
    go.send(go.udp(), go.payload, go.there)


@attack(caps="all", side="in")
def in_datagram_in_pieces(go):
    go.send(go.udp(), go.payload * 150, go.there)


@attack(caps="all", side="in")
def in_ping(go):
    go.wire(go.packet(go.icmp_message(8 if go.family == 4 else 128, 0,
                                      struct.pack("!HH", 1, 1) + go.payload), go.icmp))


def frames_that(side, make, name, **keys):
    """`make` makes a packet, or a list of them."""
    @attack(name, caps="all", side=side, **keys)
    def _run(go):
        packets = make(go)
        for packet in packets if isinstance(packets, list) else [packets]:
            go.wire(packet)


def in_frame(make, name, **keys):
    frames_that("in", make, name, **keys)


for each, bits in (("syn", SYN), ("ack", ACK), ("psh_ack", PSH | ACK), ("rst", RST),
                   ("fin_ack", FIN | ACK), ("syn_ack", SYN | ACK), ("none", 0), ("all", 0xFF)):
    # Where only what comes in is judged, it may be of a connection that went out.
    in_frame(lambda go, bits=bits: go.packet(go.segment(bits), 6), f"in_segment_{each}",
             both=not bits & SYN)
in_frame(speaking_segment, "in_segment_whose_numbers_speak", both=True)
for each, start in ((2, b"\x16" + bytes(7)), (4, b"\x45"), (41, b"\x60"), (47, bytes(4)),
                    (253, b"")):
    in_frame(lambda go, each=each, start=start: go.packet(start + go.payload, each),
             f"in_protocol_{each}")
in_frame(lambda go: go.packet(struct.pack("!HHII", SENDER, go.forbidden, 0, 0) + go.payload, 132),
         "in_sctp")
in_frame(lambda go: go.packet(struct.pack("!HHBBHBBH4x", SENDER, go.forbidden, 4, 0, 0, 0, 0, 0) +
                              go.payload, 33), "in_dccp")
in_frame(lambda go: go.packet(struct.pack("!HHHH", SENDER, go.forbidden, 8, 0) + go.payload, 136),
         "in_udplite")
in_frame(lambda go: go.packet(go.datagram(sport=UDP_OPEN), 17), "in_from_an_allowed_servers_port")
in_frame(lambda go: go.packet(go.datagram(dst="127.0.0.1"), 17, dst="127.0.0.1"),
         "in_to_the_loopback", families=(4,))
in_frame(lambda go: go.packet(go.datagram(go.strange()), 17, go.strange()), "in_from_elsewhere")
in_frame(lambda go: [go.packet(go.datagram(dst=group), 17, dst=group) for group in (
    ("224.0.0.1",) if go.family == 4 else ("ff02::1",))], "in_multicast")
in_frame(lambda go: [go.packet(go.datagram(dst=each), 17, dst=each) for each in (
    "255.255.255.255", go.there.rpartition(".")[0] + ".255")], "in_broadcast", families=(4,))
in_frame(lambda go: go.packet(struct.pack("!BBHI", 17, 0, 0, 5) + go.datagram(), 44),
         "in_fragment_that_is_whole", families=(6,))
in_frame(lambda go: go.packet(long_header() + go.datagram(), 43),
         "in_headers_beyond_what_is_copied", families=(6,))
in_frame(lambda go: go.packet(go.datagram(), 17, ihl=15, options=b"\x01" * 40), "in_options",
         families=(4,))
for each, kind, body in (("advertisement", 134, bytes(12)), ("solicitation", 135, bytes(20)),
                         ("answer", 136, bytes(20)), ("redirect", 137, bytes(36))):
    in_frame(lambda go, kind=kind, body=body: go.packet(
        go.icmp_message(kind, 0, body + go.payload * 21), 58, hop_limit=255),
        f"in_long_neighbour_{each}", families=(6,))
in_frame(lambda go: go.packet(go.icmp_message(130, 0, bytes(20) + go.payload * 21), 58,
                              hop_limit=1), "in_long_listener_query", families=(6,))
in_frame(lambda go: go.packet(go.icmp_message(
    3 if go.family == 4 else 1, 3 if go.family == 4 else 4, bytes(4) + go.packet(
        go.datagram(go.there, go.here, 4007, 4008, b"x"), 17, go.there, go.here) + go.payload),
    go.icmp), "in_error_about_nothing")


def cut(go, payload, protocol, start, end, more):
    if go.family == 4:
        return go.packet(payload[start:end], protocol, flags=int(more), offset=start // 8,
                         ident=go.forbidden)
    return go.packet(struct.pack("!BBHI", protocol, 0, start | more, go.forbidden) +
                     payload[start:end], 44)


in_frame(lambda go: [cut(go, go.datagram(), 17, 0, 16, True),
                     cut(go, go.datagram(), 17, 16, 72, False)], "in_fragments")
in_frame(lambda go: [cut(go, go.datagram(), 17, 16, 72, False),
                     cut(go, go.datagram(), 17, 0, 16, True)], "in_fragments_last_first")


# ---- through a router ----


def through(make, name, **keys):
    frames_that("forward", make, name, **keys)


through(lambda go: go.packet(go.datagram(), 17), "through_datagram")
through(lambda go: go.packet(go.segment(SYN), 6), "through_segment_syn")
through(lambda go: go.packet(go.segment(PSH | ACK), 6), "through_segment_ack")
through(speaking_segment, "through_segment_whose_numbers_speak")
through(lambda go: go.packet(go.segment(PSH | ACK, sport=UDP_OPEN), 6),
        "through_segment_from_an_allowed_port")
through(lambda go: go.packet(go.datagram(sport=UDP_OPEN), 17),
        "through_datagram_from_an_allowed_port")
through(lambda go: go.packet(go.payload, 253), "through_protocol_253")
through(lambda go: go.packet(struct.pack("!HHII", SENDER, go.forbidden, 0, 0) + go.payload, 132),
        "through_sctp")
through(lambda go: go.packet(go.icmp_message(8 if go.family == 4 else 128, 0, struct.pack(
    "!HH", 1, 1) + go.payload), go.icmp), "through_ping")
through(lambda go: [cut(go, go.datagram(), 17, 0, 16, True),
                    cut(go, go.datagram(), 17, 16, 72, False)], "through_fragments")
through(lambda go: go.packet(long_header() + go.datagram(), 43),
        "through_headers_beyond_what_is_copied", families=(6,))
through(lambda go: go.packet(go.icmp_message(
    3 if go.family == 4 else 1, 3 if go.family == 4 else 4, bytes(4) + go.packet(
        go.datagram(go.there, go.here, 4007, 4008, b"x"), 17, go.there, go.here) + go.payload),
    go.icmp), "through_error_about_nothing")
through(lambda go: go.packet(go.icmp_message(135, 0, bytes(20) + go.payload), 58, hop_limit=255),
        "through_neighbour_solicitation", families=(6,))
through(lambda go: go.packet(go.icmp_message(135, 0, bytes(12) + go.marker), 58, hop_limit=255),
        "through_neighbour_target", families=(6,))
through(lambda go: [cut(go, go.datagram(), 17, 0, 16, True),
                    cut(go, go.datagram(dport=UDP_OPEN), 17, 0, 16, True),
                    cut(go, go.datagram(), 17, 16, 72, False)], "through_overlapping_fragments")
through(lambda go: cut(go, go.datagram(), 17, 8, 72, False), "through_later_fragment_alone")
through(lambda go: go.packet(go.datagram(go.there, go.other), 17, go.there, go.other),
        "through_reject", control=FORWARD_REJECTING)


@attack(caps="all", side="forward", both=True, beyond="A router's own errors")
def through_an_error_of_the_router(go):
    """It answers the wrong one, who reads the quotation: a time that is over."""
    limit = {"ttl": 1} if go.family == 4 else {"hop_limit": 1}
    go.wire(go.packet(go.datagram(go.there, go.other), 17, go.there, go.other, **limit))


@attack(caps="all", side="forward", both=True)
def through_an_echo_of_the_router(go):
    go.wire(go.packet(go.icmp_message(8 if go.family == 4 else 128, 0, struct.pack(
        "!HH", 1, 1) + go.payload, go.there, go.router), go.icmp, go.there, go.router))


@attack(caps="all", side="forward", both=True)
def through_an_unreachable_of_the_router(go):
    go.wire(go.packet(go.datagram(go.there, go.router), 17, go.there, go.router))


# ---- the process ----


def drop_capabilities(caps):
    if caps == "all":
        return
    libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    raw = 1 << 13 if caps == "raw" else 0  # CAP_NET_RAW
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    data = struct.pack("=6I", raw, raw, 0, 0, 0, 0)
    if libc.capset(header, data) < 0:
        raise OSError(ctypes.get_errno(), "capset")
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: its uid_map may be written


def say(**what):
    print(json.dumps(what), flush=True)


def carry_out(request):
    go = Go(request)
    try:
        steps = ATTACKS[request["attack"]].run(go)
        if inspect.isgenerator(steps):
            for ask in steps:
                say(ask=ask)
                sys.stdin.readline()
        say(done=True)
    except Exception as error:  # pylint: disable=broad-except
        say(failed=f"{type(error).__name__}: {error}")
    finally:
        go.close()


def serve():
    drop_capabilities(sys.argv[1])
    say(ready=True)
    for line in iter(sys.stdin.readline, ""):
        carry_out(json.loads(line))


if __name__ == "__main__":
    serve()
