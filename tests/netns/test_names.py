# SPDX-License-Identifier: GPL-2.0-or-later
"""
Queries and the addresses that answers give, on real packets: a resolver and servers in one
namespace, what is policed in the other.
"""
import random
import socket
import struct
import threading
import time

import pytest

from lab import until

SERVER = {4: "10.77.0.2", 6: "fd77:0::2"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
# No private ones: these bind for the names in "private" alone.
GOOD, OTHER, PRIVATE = "203.0.113.80", "203.0.113.81", "10.77.0.2"
ADDRESSES = {"good.example": GOOD, "a.files.example": OTHER, "evil.example": OTHER,
             "rebind.example": PRIVATE, "x.corp.example": PRIVATE}
RULES = [
    {"name": "ask", "action": "accept", "direction": "out",
     "dns": {"name": ["good.example", "*.files.example", "rebind.example", "*.corp.example"],
             "type": ["A", "AAAA"]}},
    {"name": "noask", "action": "reject", "direction": "out", "dns": {}},
    {"name": "web", "action": "accept", "direction": "out", "protocol": "tcp", "dport": 80,
     "domain": ["good.example", "rebind.example", "*.corp.example"]},
]


def query(name, kind=1):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return (struct.pack("!H", random.randrange(65536)) + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0"
            + struct.pack("!HH", kind, 1))


def answer(message, ttl=1):
    end, labels = 12, []
    while message[end]:
        labels.append(message[end + 1:end + 1 + message[end]].decode())
        end += message[end] + 1
    name, kind = ".".join(labels), struct.unpack("!H", message[end + 1:end + 3])[0]
    record = b""
    if kind == 1 and name in ADDRESSES:
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, ttl, 4) + socket.inet_aton(ADDRESSES[name])
    return (message[:2] + b"\x81\x80\0\1" + struct.pack("!H", bool(record)) + b"\0\0\0\0"
            + message[12:end + 5] + record), name


class Server:
    """A resolver, by UDP and TCP, and something at port 80 of every address."""

    def __init__(self, netns):
        self.asked = []
        self.sockets = []
        for family in FAMILY.values():
            udp = netns.udp(family, bind=("", 53))
            self.serve(self.datagrams, udp)
            self.serve(self.streams, netns.tcp_listen(53, family))
        self.serve(self.hello, netns.tcp_listen(80))

    def serve(self, function, sock):
        self.sockets.append(sock)
        sock.settimeout(60)
        threading.Thread(target=self.until_closed, args=(function, sock), daemon=True).start()

    @staticmethod
    def until_closed(function, sock):
        while True:
            try:
                function(sock)
            except OSError:
                if sock.fileno() < 0:
                    return

    def datagrams(self, sock):
        message, sender = sock.recvfrom(4096)
        reply, name = answer(message)
        self.asked.append(name)
        sock.sendto(reply, sender)

    def streams(self, sock):
        client, _ = sock.accept()
        with client:
            client.settimeout(2)
            reply, name = answer(client.recv(4096)[2:])
            self.asked.append(name)
            client.sendall(struct.pack("!H", len(reply)) + reply)

    @staticmethod
    def hello(sock):
        client, _ = sock.accept()
        client.close()

    def close(self):
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def bed(lab):
    inner, outside = lab.pair()
    for address in (GOOD, OTHER):
        outside.ip("addr", "add", f"{address}/32", "dev", "lo")
    inner.ip("route", "add", "203.0.113.0/24", "via", SERVER[4])
    server = Server(outside)
    yield lab, inner, server
    server.close()


def attach(bed, offload=False, **names):
    lab, inner, _ = bed
    return lab.attach(inner, default={"in": "drop", "out": "reject"}, offload=offload,
                      names={"resolvers": list(SERVER.values()), **names}, rules=RULES)


def ask(bed, name, kind=1, version=4):
    """Return: the answer's rcode and address, and how long it took."""
    sock = bed[1].udp(FAMILY[version])
    sock.settimeout(3)
    sock.connect((SERVER[version], 53))
    message, begin = query(name, kind), time.monotonic()
    sock.send(message)
    reply = sock.recv(4096)
    assert reply[:2] == message[:2]
    sock.close()
    return reply[3] & 15, socket.inet_ntoa(reply[-4:]) if reply[7] else None, time.monotonic() - begin


def connects(bed, address):
    try:
        bed[1].tcp_connect(address, 80).close()
        return True
    except OSError:
        return False


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_a_query_is_judged_and_its_answer_is_the_licence(bed, version, offload):
    attach(bed, offload)
    assert not connects(bed, GOOD), "nobody has asked yet"
    assert ask(bed, "good.example", version=version)[:2] == (0, GOOD)
    assert connects(bed, GOOD)
    assert ask(bed, "a.files.example", version=version)[:2] == (0, OTHER)
    assert not connects(bed, OTHER), "the name may be asked for, and not be reached"
    assert ask(bed, "good.example", 16, version)[0] == 3, "a type that is not allowed"
    rcode, _, took = ask(bed, "evil.example", version=version)
    assert rcode == 3 and took < 1
    assert "evil.example" not in bed[2].asked


def test_refused(bed):
    attach(bed, refuse="refused")
    assert ask(bed, "evil.example")[0] == 5


def test_dropped(bed):
    attach(bed, refuse="drop")
    with pytest.raises(TimeoutError):
        ask(bed, "evil.example")
    assert bed[2].asked == []


def test_private_addresses_are_for_private_names(bed):
    attach(bed, private=["*.corp.example"])
    assert ask(bed, "rebind.example")[:2] == (0, PRIVATE)
    assert not connects(bed, PRIVATE)
    assert ask(bed, "x.corp.example")[:2] == (0, PRIVATE)
    assert connects(bed, PRIVATE)


def ask_tcp(bed, name):
    with bed[1].tcp_connect(SERVER[4], 53) as sock:
        message = query(name)
        sock.sendall(struct.pack("!H", len(message)) + message)
        return sock.recv(4096)


def test_tcp(bed):
    attach(bed)
    with pytest.raises(OSError):
        ask_tcp(bed, "evil.example")
    assert ask_tcp(bed, "good.example")[5] & 15 == 0
    assert connects(bed, GOOD)
    assert "evil.example" not in bed[2].asked


def test_expiry(bed):
    attach(bed, ttl_min=1, grace=0)
    ask(bed, "good.example")
    assert connects(bed, GOOD)
    until(lambda: not connects(bed, GOOD), "the name expires")


def test_names_outlive_the_agent(bed):
    lab = bed[0]
    attach(bed)
    ask(bed, "good.example")
    lab.agent.kill()
    lab.agent.wait()
    lab.start_agent()
    until(lambda: connects(bed, GOOD), "the name is known")


def test_the_source_of_a_refusal_is_ours(bed):
    """A query from an address that is not ours is not answered, and nothing leaves."""
    attach(bed)
    sock = bed[1].udp(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND
    sock.bind(("fd77::99", 0))
    sock.sendto(query("evil.example"), (SERVER[6], 53))
    assert ask(bed, "evil.example", version=6)[0] == 3  # the first is through
    assert bed[2].asked == []
    sock.close()


def test_each_look_up_is_in_time(bed):
    attach(bed, ttl_min=0, grace=3)
    for _ in range(300):
        assert ask(bed, "good.example")[:2] == (0, GOOD)
        assert connects(bed, GOOD)


def test_a_policy_without_lists(bed):
    """No name is asked for: whatever is a query is rejected."""
    lab, inner, server = bed
    lab.attach(inner, default="accept", rules=[{"name": "no", "action": "reject", "dns": {}}])
    assert ask(bed, "good.example")[0] == 3
    assert server.asked == []
