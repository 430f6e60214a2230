# SPDX-License-Identifier: GPL-2.0-or-later
"""Replies of accepted flows, the forward hook, NAT, and flows that the kernel goes on with."""
import socket
import time

import pytest

from lab import Arrivals, Tap, eventually, rule_counts, until

ADDRESS = {(1, 4): "10.77.0.1", (2, 4): "10.77.0.2", (1, 6): "fd77:0::1", (2, 6): "fd77:0::2"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
CLIENT = {"default": {"in": "drop", "out": "drop"}, "rules": [
    {"name": "ask", "action": "accept", "direction": "out", "dport": [53, 80]}]}


def ask(client, server, version, rounds=3, port=53):
    """A UDP exchange: how many of the answers came back."""
    at_server = server.udp(FAMILY[version], bind=("", port))
    at_server.settimeout(5)
    asker = client.udp(FAMILY[version])
    asker.settimeout(5)
    answers = 0
    for _ in range(rounds):
        asker.sendto(b"question", (ADDRESS[2, version], port))
        try:
            _, peer = at_server.recvfrom(100)
            at_server.sendto(b"answer", peer)
            asker.recv(100)
            answers += 1
        except TimeoutError:
            break
    at_server.close()
    asker.close()
    return answers


def exchange(client, listener, address, port, size=100000):
    """A TCP connection that carries `size` bytes each way."""
    connection = client.tcp_connect(address, port)
    served, _ = listener.accept()
    transfer(connection, served, size)
    transfer(served, connection, size)
    connection.close()
    served.close()


def transfer(source, target, size, timeout=10):
    """Return: how many of them came through, given up after `timeout` seconds of standstill."""
    source.setblocking(False)
    target.setblocking(False)
    sent = got = 0
    last = time.monotonic()
    while got < size and time.monotonic() - last < timeout:
        progress = False
        if sent < size:
            try:
                sent += source.send(b"x" * min(16384, size - sent))
                progress = True
            except BlockingIOError:
                pass
        try:
            part = len(target.recv(65536))
            got += part
            progress = progress or part > 0
        except BlockingIOError:
            pass
        if progress:
            last = time.monotonic()
        else:
            time.sleep(0.001)  # the loop's condition and deadline are above
    source.settimeout(10)
    target.settimeout(10)
    return min(got, size)


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_replies_pass_without_a_rule(lab, version, offload):
    client, server = lab.pair()
    name = lab.attach(client, offload=offload, **CLIENT)
    assert ask(client, server, version) == 3
    listener = server.tcp_listen(80, FAMILY[version])
    exchange(client, listener, ADDRESS[2, version], 80)
    # What is no reply does not pass.
    arrived = Arrivals(client, 53)
    server.send(ADDRESS[1, version], 53, 10)
    lab.expect(name, {"packets.dropped": 10})
    assert arrived.total() == 0


def test_inbound_connections_with_the_out_hook_alone(lab):
    server, client = lab.pair()
    name = lab.attach(server, hooks=["out"], default="drop")
    for version in (4, 6):
        listener = server.tcp_listen(80, FAMILY[version])
        exchange(client, listener, ADDRESS[1, version], 80)
    stats = lab.stats(name)
    assert stats["packets"]["dropped"] == 0 and stats["direction"]["in"]["packets"] == 0
    server.send("10.77.0.2", 53, 5)
    lab.expect(name, {"packets.dropped": 5})


def test_inbound_service_of_a_namespace_that_may_send_nothing(lab):
    server, client = lab.pair()
    lab.attach(server, default="drop", rules=[
        {"name": "web", "action": "accept", "direction": "in", "protocol": ["tcp"],
         "dport": [80]}])
    for version in (4, 6):
        exchange(client, server.tcp_listen(80, FAMILY[version]), ADDRESS[1, version], 80)


def test_offloaded_packets_are_counted(lab):
    client, server = lab.pair()
    tap = Tap(client)
    name = lab.attach(client, offload=True, **CLIENT)
    listener = server.tcp_listen(80)
    exchange(client, listener, "10.77.0.2", 80, 1000000)

    def complete():
        stats = lab.stats(name)
        return (stats["packets"]["seen"] + stats["packets"]["offloaded"],
                stats["bytes"]["seen"] + stats["bytes"]["offloaded"]) == tap.total(
                    "before") and stats
    stats = until(complete, lambda: f"every packet to be counted: {lab.stats(name)['packets']}, "
                                    f"{tap.read()}")
    assert stats["packets"]["seen"] < 10 < stats["packets"]["offloaded"]
    assert stats["bytes"]["offloaded"] > 2000000


def test_without_offload_every_packet_is_seen(lab):
    client, server = lab.pair()
    tap = Tap(client)
    name = lab.attach(client, **CLIENT)
    exchange(client, server.tcp_listen(80), "10.77.0.2", 80, 1000000)

    def all_is_seen():
        stats = lab.stats(name)
        assert (stats["packets"]["seen"], stats["bytes"]["seen"]) == tap.total("before")
        assert stats["packets"]["offloaded"] == 0
        assert stats["replies"]["packets"] == tap.total("before", "input")[0]
    eventually(all_is_seen)


@pytest.mark.parametrize("offload", [False, True])
def test_stricter_policy_ends_a_running_flow_and_a_looser_one_lets_it_go_on(lab, offload):
    client, server = lab.pair()
    lab.put_policy("p", offload=offload, **CLIENT)
    lab.must("attach", f"netns:{client}", "--name", "x", "--policy", "p")
    listener = server.tcp_listen(80)
    connection = client.tcp_connect("10.77.0.2", 80)
    served, _ = listener.accept()
    assert transfer(connection, served, 100000) == 100000
    assert transfer(served, connection, 100000) == 100000
    lab.put_policy("p", offload=offload, default="drop")
    assert transfer(connection, served, 1000, 0.3) == 0
    assert transfer(served, connection, 1000, 0.3) == 0
    assert lab.stats("x")["packets"]["dropped"] > 0
    lab.put_policy("p", offload=offload, **CLIENT)
    # What was in the way is sent again by TCP itself.
    assert transfer(connection, served, 3000) == 3000
    assert transfer(served, connection, 3000) == 3000
    connection.close()
    served.close()


@pytest.mark.parametrize("offload", [False, True])
def test_udp_flow_obeys_a_change(lab, offload):
    client, server = lab.pair()
    lab.put_policy("p", offload=offload, **CLIENT)
    lab.must("attach", f"netns:{client}", "--name", "x", "--policy", "p")
    at_server = server.udp(bind=("", 53))
    asker = client.udp()

    def question(timeout=5):
        at_server.settimeout(timeout)
        asker.sendto(b"q", ("10.77.0.2", 53))
        try:
            at_server.sendto(b"a", at_server.recvfrom(10)[1])
        except TimeoutError:
            return "no question"
        asker.settimeout(timeout)
        try:
            return asker.recv(10) and "both"
        except TimeoutError:
            return "no answer"
    for _ in range(3):
        assert [question() for _ in range(5)] == ["both"] * 5
        lab.put_policy("p", offload=offload, default="drop")
        assert question(0.3) == "no question"
        lab.put_policy("p", offload=offload, **CLIENT)


def test_established_before_the_attach_is_judged_too(lab):
    """A connection older than the policy gets nothing by its age."""
    client, server = lab.pair()
    listener = server.tcp_listen(99)
    connection = client.tcp_connect("10.77.0.2", 99)
    served, _ = listener.accept()
    assert transfer(connection, served, 1000) == 1000
    lab.attach(client, **CLIENT)
    assert transfer(connection, served, 1000, 0.3) == 0
    assert transfer(served, connection, 1000, 0.3) == 0


# ---- forwarding ----


FORWARD = {"hooks": ["forward"], "default": "drop", "rules": [
    {"name": "dns", "action": "accept", "direction": "forward", "protocol": ["udp"],
     "iif": ["left"], "oif": ["right"], "dport": [53]},
    {"name": "web", "action": "accept", "protocol": ["tcp"], "src": ["10.77.1.0/24", "fd77:1::/64"],
     "dport": [80]},
    {"name": "no", "action": "reject", "dport": [99]}]}


def test_forwarded_packets(lab):
    left, middle, right = lab.router()
    name = lab.attach(middle, **FORWARD)
    arrived = Arrivals(right, 53, 54)
    for address in ("10.77.2.2", "fd77:2::2"):
        left.send(address, 53, 50)
        left.send(address, 54, 50)
    arrived.wait(100)
    back = Arrivals(left, 53)
    for address in ("10.77.1.1", "fd77:1::1"):
        right.send(address, 53, 10)  # not by the links that the rule names
    for version, address in ((4, "10.77.2.2"), (6, "fd77:2::2")):
        exchange(left, right.tcp_listen(80, FAMILY[version]), address, 80)
        right.tcp_listen(99, FAMILY[version])
        with pytest.raises(ConnectionRefusedError):
            left.tcp_connect(address, 99)
    stats = lab.expect(name, {"rules.dns": 100, "packets.dropped": 120, "rules.no": 2,
                              "packets.rejected": 2})
    assert arrived.drain() == {(53, 4): 50, (53, 6): 50, (54, 4): 0, (54, 6): 0}
    assert back.total() == 0
    assert stats["direction"]["forward"]["packets"] == stats["packets"]["seen"]
    # The router's own traffic is none of that policy's business.
    own = Arrivals(right, 60)
    middle.send("10.77.2.2", 60, 5)
    own.wait(5)
    assert lab.stats(name)["packets"]["seen"] == stats["packets"]["seen"]


@pytest.mark.parametrize("offload", [False, True])
def test_masquerading_router(lab, offload):
    left, middle, right = lab.router()
    middle.nft("table ip nat { chain post { type nat hook postrouting priority 100;\n"
               "oif right masquerade\n}\n}\n")
    name = lab.attach(middle, offload=offload, **FORWARD)
    at_right = right.udp(bind=("", 53))
    at_right.settimeout(5)
    asker = left.udp()
    asker.settimeout(5)
    for _ in range(20):
        asker.sendto(b"q", ("10.77.2.2", 53))
        _, peer = at_right.recvfrom(10)
        assert peer[0] == "10.77.2.1"
        at_right.sendto(b"a", peer)
        assert asker.recv(10) == b"a"
    exchange(left, right.tcp_listen(80), "10.77.2.2", 80)
    stats = lab.books(name)
    assert stats["packets"]["dropped"] == 0
    if not offload:
        assert stats["rules"][0]["packets"] == 20


def test_all_hooks_of_a_router_at_once(lab):
    left, middle, right = lab.router()
    name = lab.attach(middle, hooks=["prerouting", "in", "forward", "out", "postrouting"],
                      default="drop",
                      rules=[{"name": "dns", "action": "accept", "protocol": ["udp"],
                              "dport": [53]},
                             {"name": "reports", "action": "drop", "protocol": ["icmpv6"]}])
    arrived = Arrivals(right, 53, 54)
    left.send("10.77.2.2", 53, 20)
    left.send("10.77.2.2", 54, 20)
    arrived.wait(20)
    # Allowed ones pass prerouting, forward and postrouting; forbidden ones end at the first.

    def counted():
        stats = lab.stats(name)
        # Reports of multicast listeners are judged in postrouting, whenever the kernel makes one.
        reports = rule_counts(stats)["reports"]
        directions = {key: value["packets"] for key, value in stats["direction"].items()}
        assert rule_counts(stats)["dns"] == 60, stats
        assert stats["packets"]["dropped"] == 20 + reports, stats
        assert directions == {"in": 40, "forward": 20, "out": 20 + reports}, stats
    eventually(counted)
