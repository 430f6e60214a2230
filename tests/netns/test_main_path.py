# SPDX-License-Identifier: GPL-2.0-or-later
"""Two namespaces under two policies at once: every count is what was sent and what arrived."""
import socket

from lab import Arrivals, Tap, check_books, eventually

EACH = 4000  # datagrams to each port, family and namespace
TCP_EACH = 60  # connections to each allowed port and family

SERVER = {"default": {"in": "drop", "out": "accept"}, "rules": [
    {"name": "dns", "action": "accept", "direction": "in", "protocol": ["udp"], "dport": [53]},
    {"name": "web", "action": "accept", "direction": "in", "protocol": ["tcp"],
     "dport": [80, "8000-8099"]}]}
CLIENT = {"default": {"in": "accept", "out": "drop"}, "rules": [
    {"name": "metrics", "action": "accept", "direction": "out", "protocol": ["udp"],
     "dport": ["9000-9009"]},
    {"name": "no-telnet", "action": "drop", "direction": "out", "dport": [23]},
    {"name": "web", "action": "accept", "direction": "out", "protocol": ["tcp"], "dport": [443]}]}


def addresses(number):
    return ("10.77.0.%d" % number, "fd77:0::%d" % number)


def talk(client, listener, address, port):
    """One connection with a word each way. Return: bytes that arrived."""
    connection = client.tcp_connect(address, port)
    served, _ = listener.accept()
    connection.sendall(b"q" * 100)
    assert served.recv(1000)
    served.sendall(b"a" * 200)
    got = 0
    while got < 200:
        got += len(connection.recv(1000))
    connection.close()
    assert served.recv(10) == b""
    served.close()
    return got


def test_counts_equal_what_was_sent_and_what_arrived(lab):
    server, outside = lab.pair("server")
    client, world = lab.pair("client")
    taps = Tap(server), Tap(client)
    a = lab.attach(server, **SERVER)
    b = lab.attach(client, **CLIENT)

    at_server = Arrivals(server, 53, 54)
    at_world = Arrivals(world, 9003, 23, 9999)
    pace_a, pace_b = server.pending(), client.pending()
    for six in (0, 1):
        outside.send(addresses(1)[six], 53, EACH, pace=pace_a)
        outside.send(addresses(1)[six], 54, EACH, pace=pace_a)
        client.send(addresses(2)[six], 9003, EACH, pace=pace_b)
        client.send(addresses(2)[six], 23, EACH, pace=pace_b)
        client.send(addresses(2)[six], 9999, EACH, pace=pace_b)

    for six, family in enumerate((socket.AF_INET, socket.AF_INET6)):
        for port in (80, 8042):
            listener = server.tcp_listen(port, family)
            for _ in range(TCP_EACH):
                talk(outside, listener, addresses(1)[six], port)
        listener = world.tcp_listen(443, family)
        for _ in range(TCP_EACH):
            talk(client, listener, addresses(2)[six], 443)
        # Closed at once, as a second later each would be sent again.
        for _ in range(20):
            outside.tcp_knock(addresses(1)[six], 22).close()
            client.tcp_knock(addresses(2)[six], 25).close()

    at_server.wait(2 * EACH)
    at_world.wait(2 * EACH)
    assert at_server.seen == {(53, 4): EACH, (53, 6): EACH, (54, 4): 0, (54, 6): 0}
    assert at_world.seen == {(9003, 4): EACH, (9003, 6): EACH, (23, 4): 0, (23, 6): 0,
                             (9999, 4): 0, (9999, 6): 0}

    # What the kernel saw on both sides of nsgate, at rest.
    def at_rest():
        document = lab.stats_sock()["namespaces"]
        for name, tap in ((a, taps[0]), (b, taps[1])):
            stats = document[name]
            check_books(stats)
            assert stats["queue"]["pending"] == 0
            assert stats == lab.stats(name) | {k: stats[k] for k in ("verdict_latency_us",)}
            assert (stats["packets"]["seen"], stats["bytes"]["seen"]) == tap.total("before")
            assert (stats["packets"]["accepted"],
                    stats["bytes"]["accepted"]) == tap.total("behind")
            for direction, hook in (("in", "input"), ("out", "output")):
                assert tuple(stats["direction"][direction].values()) == tap.total("before", hook)
            for protocol in ("tcp", "udp"):
                assert stats["protocol"][protocol] == tap.total("before", None, protocol)[0]
            assert stats["packets"]["rejected"] == stats["packets"]["malformed"] == 0
            assert stats["queue"]["dropped"] == stats["queue"]["user_dropped"] == 0
            assert stats["state"] == "attached" and stats["mode"] == "enforce"
        return document
    document = eventually(at_rest)

    rules = {r["name"]: r for r in document[a]["rules"]}
    assert rules["dns"]["packets"] == 2 * EACH
    assert rules["dns"]["bytes"] == EACH * (20 + 8 + 20) + EACH * (40 + 8 + 20)
    assert rules["web"]["packets"] == taps[0].total("behind", "input", "tcp")[0]
    assert document[a]["packets"]["dropped"] == 2 * EACH + 40
    assert document[a]["protocol"]["udp"] == 4 * EACH

    rules = {r["name"]: r for r in document[b]["rules"]}
    assert rules["metrics"]["packets"] == 2 * EACH
    assert rules["no-telnet"]["packets"] == 2 * EACH
    assert rules["no-telnet"]["bytes"] == EACH * 48 + EACH * 68
    assert rules["web"]["packets"] == taps[1].total("behind", "output", "tcp")[0]
    assert document[b]["packets"]["dropped"] == 4 * EACH + 40
    # Forbidden UDP and the SYNs, decided by the default; what comes in is a reply.
    assert document[b]["default"]["packets"] == 2 * EACH + 40
    for name, allowed in ((a, "dns"), (b, "metrics")):
        assert document[name]["policy"] == lab.stats(name)["policy"]


def test_identity_and_labels_are_those_of_the_namespace(lab):
    inner, _ = lab.pair()
    name = lab.attach(inner, "--label", "app=shop", "--label", "tier=web", name="shop",
                      default="accept")
    stats = lab.stats(name)
    cookie, inode = inner.identity()
    assert stats["netns"] == {"inode": inode, "cookie": cookie}
    assert stats["labels"] == {"app": "shop", "tier": "web"}
    assert stats["queue"]["backend"] in ("nft-queue", "nft-xt")
    assert lab.get("/v1/namespaces/shop")["netns"]["cookie"] == cookie
    assert "shop" in lab.must("ls").stdout
    assert lab.must("--json", "stats", "shop").stdout.startswith("{")


def test_without_a_rule_the_default_drops_both_ways(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, rules=[])
    arrived = Arrivals(inner, 7), Arrivals(outside, 7)
    for six in (0, 1):
        outside.send(addresses(1)[six], 7, 10)
        inner.send(addresses(2)[six], 7, 10)
    lab.expect(name, {"packets.seen": 40, "packets.dropped": 40, "default.packets": 40,
                      "direction.in.packets": 20, "direction.out.packets": 20})
    assert arrived[0].total() == arrived[1].total() == 0


def test_several_queues_count_as_one_namespace(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, "--queue", "4", "--queues", "3", default="drop",
                      rules=[{"name": "ok", "action": "accept", "dport": [7]}])
    arrived = Arrivals(inner, 7)
    for port in (7, 8):
        for _ in range(20):
            outside.send("10.77.0.1", port, 50)
    arrived.wait(1000)
    stats = lab.expect(name, {"packets.seen": 2000, "packets.accepted": 1000, "rules.ok": 1000,
                              "packets.dropped": 1000})
    assert (stats["queue"]["first"], stats["queue"]["count"]) == (4, 3)
