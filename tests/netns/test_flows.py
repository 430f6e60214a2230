# SPDX-License-Identifier: GPL-2.0-or-later
"""Replies of accepted flows, the forward hook, NAT, and flows that the kernel goes on with."""
import contextlib
import socket
import time

import pytest

from lab import SLOW, Arrivals, Tap, end, eventually, rule_counts, until

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
    while got < size and time.monotonic() - last < timeout * SLOW:
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


# ---- denied flows that the kernel remembers ----


SOURCE = 40000  # port of the flows


def numbered(netns):
    """How many packets the kernel has put into the only queue."""
    with netns.inside(), open("/proc/thread-self/net/netfilter/nfnetlink_queue",
                              encoding="ascii") as file:
        return int(file.readline().split()[7])


def flow(netns, version=4):
    """A socket whose packets to one address and port are one flow."""
    return netns.udp(FAMILY[version], bind=("", SOURCE))


def send_denied(sender, address, port, count, judged):
    """
    The first one, and the others when the agent has said what it thinks of it. Who sends learns of
    what the kernel drops at once, as with any filter. `judged` is a function that waits.
    """
    for number in range(count):
        with contextlib.suppress(PermissionError):
            sender.sendto(b"x" * 20, (address, port))
        if number == 0:
            judged()


def when_dropped(lab, name):
    """A function that waits until one more than now has been dropped."""
    lab.stats(name)  # what the agent had to do before this question was put is done before the next
    before = lab.stats(name)["packets"]["dropped"]

    def judged():
        stats = lab.stats(name)
        return stats["packets"]["dropped"] > before and stats["queue"]["pending"] == 0
    return lambda: until(judged, "the packet to be judged")


@pytest.mark.parametrize("version", [4, 6])
def test_denied_flow_is_asked_about_once(lab, version):
    client, server = lab.pair()
    name = lab.attach(client, offload=True, **CLIENT)
    tap = Tap(client)
    arrived = Arrivals(client, 99)
    incoming, outgoing = flow(server, version), flow(client, version)
    send_denied(incoming, ADDRESS[1, version], 99, 100, when_dropped(lab, name))
    send_denied(outgoing, ADDRESS[2, version], 99, 50, when_dropped(lab, name))
    stats = lab.expect(name, {
        "packets.seen": 150, "packets.dropped": 150, "packets.offloaded_dropped": 148,
        "packets.offloaded": 0, "direction.in.packets": 100, "direction.out.packets": 50,
        "protocol.udp": 150, "default.packets": 2})
    assert (150, stats["bytes"]["dropped"]) == tap.total("before")
    assert stats["bytes"]["offloaded_dropped"] * 150 == stats["bytes"]["dropped"] * 148
    assert numbered(client) == 2
    assert arrived.total() == 0
    # Another flow is another question; and the allowed ones go on.
    send_denied(incoming, ADDRESS[1, version], 98, 10, when_dropped(lab, name))
    lab.expect(name, {"packets.dropped": 160, "packets.offloaded_dropped": 157})
    assert ask(client, server, version) == 3


def test_without_offload_every_denied_packet_is_judged(lab):
    client, server = lab.pair()
    name = lab.attach(client, **CLIENT)
    sender = flow(server)
    server.send("10.77.0.1", 99, 100, sender=sender)
    lab.expect(name, {"packets.dropped": 100, "packets.offloaded_dropped": 0,
                      "default.packets": 100})
    assert numbered(client) == 100


def test_policy_that_allows_a_denied_flow_lets_the_next_packet_pass(lab):
    client, server = lab.pair()
    lab.put_policy("p", offload=True, **CLIENT)
    lab.must("attach", f"netns:{client}", "--name", "x", "--policy", "p")
    at_server, at_client = server.udp(bind=("", 99)), client.udp(bind=("", 99))
    outgoing, incoming = flow(client), flow(server)
    allowing = {"default": "drop", "rules": [{"name": "a", "action": "accept", "dport": [99]}]}
    for turn in range(1, 6):
        send_denied(outgoing, "10.77.0.2", 99, 10, when_dropped(lab, "x"))
        send_denied(incoming, "10.77.0.1", 99, 10, when_dropped(lab, "x"))
        lab.expect("x", {"packets.dropped": 20 * turn})
        lab.put_policy("p", offload=bool(turn % 2), **allowing)
        for sender, target, receiver in ((outgoing, "10.77.0.2", at_server),
                                         (incoming, "10.77.0.1", at_client)):
            receiver.settimeout(5)
            sender.sendto(b"now", (target, 99))
            assert receiver.recv(10) == b"now"
        lab.put_policy("p", offload=True, **CLIENT)
    assert lab.stats("x")["packets"]["offloaded_dropped"] == 5 * 18


def test_denial_that_depends_on_more_than_the_flow_is_not_remembered(lab):
    client, server = lab.pair()
    name = lab.attach(client, offload=True, default="drop", rules=[
        {"name": "first", "action": "drop", "dport": [53], "limit": {"rate": "1/h", "burst": 3}},
        {"name": "then", "action": "accept", "dport": [53]},
        {"name": "long", "action": "accept", "dport": [54], "length": ["100-200"]}])
    arrived = Arrivals(client, 53, 54, families=[socket.AF_INET])
    sender = flow(server)
    for dropped in (1, 2, 3):
        server.send("10.77.0.1", 53, 1, sender=sender)
        lab.expect(name, {"packets.dropped": dropped})
    server.send("10.77.0.1", 53, 7, sender=sender)
    arrived.wait(7)
    for dropped in (4, 5, 6):
        server.send("10.77.0.1", 54, 1, sender=sender)
        lab.expect(name, {"packets.dropped": dropped})
    server.send("10.77.0.1", 54, 5, payload=b"x" * 100, sender=sender)
    arrived.wait(7 + 5)
    lab.expect(name, {"packets.dropped": 6, "packets.offloaded_dropped": 0, "rules.first": 3})


def test_denied_syn_is_asked_about_once(lab):
    client, server = lab.pair()
    name = lab.attach(client, offload=True, **CLIENT)
    server.tcp_listen(99)
    connecting = client.tcp_knock("10.77.0.2", 99)
    until(lambda: lab.stats(name)["packets"]["offloaded_dropped"] >= 2, "TCP to try again twice")
    stats = lab.books(name)
    assert numbered(client) == 1
    assert stats["protocol"]["tcp"] == stats["packets"]["dropped"] >= 3
    # It waits on, as it did before the kernel knew.
    assert connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    connecting.close()


def test_rejection_is_not_remembered(lab):
    client, server = lab.pair()
    name = lab.attach(client, offload=True, default="reject")
    sender = flow(server)
    for rejected in range(1, 6):
        with contextlib.suppress(ConnectionRefusedError):
            server.send("10.77.0.1", 99, 1, sender=sender)
        lab.expect(name, {"packets.rejected": rejected})
    lab.expect(name, {"packets.rejected": 5, "packets.offloaded_dropped": 0})


def test_denied_forwarded_flow(lab):
    left, middle, right = lab.router()
    name = lab.attach(middle, offload=True, hooks=["forward"], default="drop", rules=[
        {"name": "dns", "action": "accept", "dport": [53]}])
    arrived = Arrivals(right, 53, 54)
    for version, address in ((4, "10.77.2.2"), (6, "fd77:2::2")):
        sender = flow(left, version)
        send_denied(sender, address, 54, 50, when_dropped(lab, name))
        left.send(address, 53, 50, sender=sender)
    arrived.wait(100)
    stats = lab.expect(name, {"packets.dropped": 100, "packets.offloaded_dropped": 98})
    assert stats["direction"]["forward"]["packets"] == stats["packets"]["seen"]
    assert arrived.drain() == {(53, 4): 50, (53, 6): 50, (54, 4): 0, (54, 6): 0}


def test_more_denied_flows_than_are_remembered(lab):
    """Twice as many as a set holds, twice over: what finds no room is decided as ever."""
    client, server = lab.pair()
    name = lab.attach(client, offload=True, **CLIENT)
    ports = range(20000, 21600)
    arrived = Arrivals(client, ports[0], ports[-1], families=[socket.AF_INET])
    sender, pending = flow(server), client.pending()
    for _ in range(2):
        for port in ports:
            sender.sendto(b"x", ("10.77.0.1", port))
            if port % 200 == 0:
                until(lambda: pending() < 200, "the queue to drain")
    stats = lab.expect(name, {"packets.seen": 2 * len(ports), "packets.dropped": 2 * len(ports)})
    assert 500 < stats["packets"]["offloaded_dropped"] < len(ports) // 2
    assert arrived.total() == 0


def test_denied_stays_denied_without_an_agent(own_lab):
    lab = own_lab.start()
    client, server = lab.pair()
    name = lab.attach(client, offload=True, **CLIENT)
    arrived = Arrivals(client, 99)
    sender = flow(server)
    send_denied(sender, "10.77.0.1", 99, 10, when_dropped(lab, name))
    before = lab.expect(name, {"packets.dropped": 10, "packets.offloaded_dropped": 9})
    end(lab.agent)
    server.send("10.77.0.1", 99, 50, sender=sender)
    assert client.pending()() == 0
    lab.start_agent()
    lab.wait_ready()
    stats = lab.expect(name, {"packets.dropped": 60, "packets.offloaded_dropped": 59})
    assert stats["bytes"]["dropped"] == 6 * before["bytes"]["dropped"]
    # The next agent has flows noted, too; and a broker that comes back asks about them once more.
    send_denied(sender, "10.77.0.1", 98, 10, when_dropped(lab, name))
    lab.expect(name, {"packets.dropped": 70, "packets.offloaded_dropped": 68})
    end(lab.broker)
    server.send("10.77.0.1", 98, 10, sender=sender)
    lab.expect(name, {"packets.dropped": 80, "packets.offloaded_dropped": 78})
    lab.start_broker()
    lab.wait_ready()
    send_denied(sender, "10.77.0.1", 98, 10, when_dropped(lab, name))
    lab.expect(name, {"packets.dropped": 90, "packets.offloaded_dropped": 87})
    assert arrived.total() == 0


def test_nothing_is_noted_under_rules_of_another_policy(own_lab):
    """The broker is away: the agent judges by the new policy, the rules are the old one's."""
    lab = own_lab.start()
    client, server = lab.pair()
    lab.put_policy("p", offload=True, **CLIENT)
    lab.must("attach", f"netns:{client}", "--name", "x", "--policy", "p")
    end(lab.broker)
    until(lambda: lab.get("/v1/stats")["agent"]["broker"] == "away", "the broker to be missed")
    answer = lab.http("PUT", "/v1/policies/p", {"version": 1, "offload": True, "default": "drop"})
    assert answer.status == 503, answer
    sender = flow(server)
    for dropped in range(1, 6):
        server.send("10.77.0.1", 53, 1, sender=sender)
        lab.expect("x", {"packets.dropped": dropped, "packets.offloaded_dropped": 0})
    lab.start_broker()
    lab.wait_ready()

    def noted():
        server.send("10.77.0.1", 53, 1, sender=sender)
        return lab.stats("x")["packets"]["offloaded_dropped"] > 0
    until(noted, "the rules of the new policy to note it")
    lab.books("x")
