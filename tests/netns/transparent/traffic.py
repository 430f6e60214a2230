# SPDX-License-Identifier: GPL-2.0-or-later
"""Senders, receivers and connections of the scenarios."""
import contextlib
import errno
import json
import select
import socket
import struct
import time

from lab import run, until

PATIENCE = 3.0  # seconds: for what takes milliseconds where it works
IN_VAIN = 0.4  # seconds: for what is not to come
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
FAMILIES = tuple(FAMILY)
SO_MARK, SO_BINDTODEVICE = 36, 25
IP_TOS, IP_TTL, IP_PKTINFO, IP_RECVERR, IP_RECVTTL, IP_RECVTOS = 1, 2, 8, 11, 12, 13
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2
IP_UNICAST_IF, IPV6_UNICAST_IF = 50, 76
IPV6_RECVERR, IPV6_RECVPKTINFO, IPV6_PKTINFO, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT = 25, 49, 50, 51, 52
IPV6_RECVTCLASS, IPV6_TCLASS = 66, 67
MSG_ERRQUEUE = 0x2000
TCP_INFO = 11


def level(version):
    return socket.IPPROTO_IPV6 if version == 6 else socket.IPPROTO_IP


def here(version, net=0):
    """The policed end of link `net`."""
    return f"fd77:{net}::1" if version == 6 else f"10.77.{net}.1"


def there(version, net=0):
    return f"fd77:{net}::2" if version == 6 else f"10.77.{net}.2"


def far(version):
    """The address that Stage.two_links() gives peer beside those of the links."""
    return "fd99::1" if version == 6 else "10.99.0.1"


def link_index(netns, link):
    with netns.inside():
        return socket.if_nametoindex(link)


def readable(sock, timeout=PATIENCE):
    return bool(select.select([sock], [], [], timeout)[0])


def errno_name(error):
    return errno.errorcode.get(error.errno, "timeout") if error.errno else "timeout"


class Receiver:
    """Datagrams at a port, with the link that each came by and what its header says."""

    def __init__(self, netns, port=5300, versions=FAMILIES):
        self.netns, self.sockets = netns, {}
        with netns.inside():
            self.links = dict(socket.if_nameindex())
        for version in versions:
            made = netns.udp(FAMILY[version], bind=("", port))
            options = (IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS) if version == 6 else (
                IP_PKTINFO, IP_RECVTTL, IP_RECVTOS)
            for option in options:
                made.setsockopt(level(version), option, 1)
            self.sockets[version] = made

    def next(self, version, timeout=PATIENCE):
        """The next one as a dict, or None."""
        sock = self.sockets[version]
        if not readable(sock, timeout):
            return None
        data, ancillary, _, sender = sock.recvmsg(65535, 512)
        got = {"data": data, "sender": sender}
        for _, kind, value in ancillary:
            if version == 4 and kind == IP_PKTINFO or version == 6 and kind == IPV6_PKTINFO:
                index = struct.unpack_from("=i", value, 0 if version == 4 else 16)[0]
                got["index"], got["link"] = index, self.links.get(index)
            elif kind == (IP_TTL if version == 4 else IPV6_HOPLIMIT):
                got["ttl"] = struct.unpack("=i", value)[0]
            elif kind == (IP_TOS if version == 4 else IPV6_TCLASS):
                got["tos"] = value[0]
        return got

    def link(self, version, timeout=PATIENCE):
        """By which link the next one comes."""
        got = self.next(version, timeout)
        return got and got["link"]

    def count(self, version, expected, timeout=PATIENCE):
        """How many come, `expected` at the most."""
        deadline = time.monotonic() + timeout
        got = 0
        while got < expected and self.next(version, max(deadline - time.monotonic(), 0)):
            got += 1
        return got

    def answer(self, version, timeout=PATIENCE):
        """Send the next one back to whom it came from. Return: what came."""
        got = self.next(version, timeout)
        if got:
            self.sockets[version].sendto(got["data"], got["sender"])
        return got

    def close(self):
        for sock in self.sockets.values():
            sock.close()


def sender(netns, version, mark=None, device=None, **kwargs):
    made = netns.udp(FAMILY[version], **kwargs)
    if mark is not None:
        made.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", mark))
    if device:
        made.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode() + b"\0")
    return made


def ask(netns, receiver, version, address, mark=None, port=5300):
    """
    A datagram there and its answer. Return: the link by which the question came to the other
    end, and whether the answer came back.
    """
    with contextlib.closing(sender(netns, version, mark)) as sock:
        try:
            sock.sendto(b"question", (address, port))
        except OSError as error:
            return errno_name(error), False
        got = receiver.answer(version)
        if not got:
            return None, False
        if not readable(sock):
            return got["link"], False
        return got["link"], sock.recv(100) == b"question"


def connect(netns, listener, version, address, port, mark=None, bind=None, timeout=PATIENCE):
    """A TCP connection: (ours, theirs), or the name of the error."""
    ours = netns.open_socket(FAMILY[version], socket.SOCK_STREAM)
    if mark is not None:
        ours.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", mark))
    if bind:
        ours.bind(bind)
    ours.settimeout(timeout)
    try:
        ours.connect((address, port))
        listener.settimeout(timeout)
        theirs = listener.accept()[0]
        theirs.settimeout(PATIENCE)
        return ours, theirs
    except OSError as error:
        ours.close()
        return errno_name(error)


def say(source, target, text=b"line", timeout=PATIENCE):
    """A line from one end to the other. Return: the text, "closed", "silence", or an error."""
    try:
        source.sendall(text)
        if not readable(target, timeout):
            return "silence"
        return target.recv(100).decode() or "closed"
    except OSError as error:
        return errno_name(error)


def pour(source, target, size, standstill=PATIENCE):
    """Return: how many of `size` bytes came through, given up after a standstill."""
    source.setblocking(False)
    target.setblocking(False)
    chunk = b"x" * 262144
    sent = got = 0
    while got < size:
        wanting = [source] if sent < size else []
        ready, room, _ = select.select([target], wanting, [], standstill)
        # Room alone is no progress: what was sent must arrive, too.
        if not ready and not (room and sent - got < 1 << 26):
            break
        with contextlib.suppress(BlockingIOError):
            if room:
                sent += source.send(chunk[:size - sent])
        with contextlib.suppress(BlockingIOError):
            if ready:
                part = len(target.recv(1 << 20))
                if not part:
                    break
                got += part
        if not ready and sent == size and not readable(target, standstill):
            break
    for sock in (source, target):
        sock.settimeout(PATIENCE)
    return got


def retransmits(sock):
    """Of a TCP socket: tcpi_total_retrans."""
    return struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 104), 100)[0]


class NftSet:
    """
    What a rule of the namespace's own collected by `update @NAME { ... }`: {"0x10", ...}. The set
    stands in a table of its own, made from `chains`.
    """

    def __init__(self, netns, kind, chains, name="seen", table="inet collect"):
        self.netns, self.name, self.table = netns, name, table
        netns.nft(f"table {table} {{\n set {name} {{ typeof {kind}; flags dynamic; size 65535; }}\n"
                  f"{chains}\n}}\n")

    def read(self):
        text = run("ip", "netns", "exec", self.netns.name, "nft", "-j", "list", "set",
                   *self.table.split(), self.name).stdout
        for item in json.loads(text)["nftables"]:
            if "set" in item:
                found = [e["elem"]["val"] if isinstance(e, dict) and "elem" in e else e
                         for e in item["set"].get("elem", [])]
                return {hex(number) for number in found}
        raise AssertionError(text)


def flow_marks(netns):
    """The connection marks of all that connection tracking knows."""
    with netns.inside(), open("/proc/thread-self/net/nf_conntrack", encoding="ascii") as file:
        return {hex(int(word[5:])) for line in file for word in line.split()
                if word.startswith("mark=")}


def flush_conntrack(netns):
    """As conntrack -F."""
    with netns.inside(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as asker:
        # IPCTNL_MSG_CT_DELETE (2) of NFNL_SUBSYS_CTNETLINK (1), NLM_F_REQUEST and NLM_F_ACK
        asker.send(struct.pack("=IHHIIBBH", 20, 1 << 8 | 2, 5, 0, 0, 0, 0, 0))
        assert struct.unpack_from("=i", asker.recv(4096), 16)[0] == 0


def flow_count(netns):
    with netns.inside(), open("/proc/thread-self/net/nf_conntrack", encoding="ascii") as file:
        return len(file.readlines())


def wait_for_flows(netns, count=1):
    until(lambda: flow_count(netns) >= count, "connection tracking to know the flow")
