# SPDX-License-Identifier: GPL-2.0-or-later
"""GET /v1/events: what happens, as it happens, to readers of every speed."""
import contextlib
import json
import re
import socket
import time

import pytest

from lab import SLOW, Arrivals, UnixHTTP, end, until
from nfqueue import Consumer

POLICY = {"default": {"in": "drop", "out": "accept"}, "rules": [
    {"name": "logged", "action": "accept", "dport": [7], "log": True},
    {"name": "refused", "action": "reject", "dport": [8], "log": True},
    {"name": "silent", "action": "accept", "dport": [9]}]}


class Events:
    def __init__(self, lab, query=""):
        self.connection = UnixHTTP(f"{lab.runtime}/api.sock", 10)
        self.connection.request("GET", "/v1/events" + query)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        assert self.answer.headers["Content-Type"] == "application/x-ndjson"

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.connection.close()

    def take(self, count, kind="packet"):
        """The next `count` events of that kind."""
        found = []
        while len(found) < count:
            line = self.answer.readline()
            assert line.endswith(b"\n"), line
            event = json.loads(line)
            if event["event"] == kind:
                found.append(event)
        return found


def test_logged_packets_are_streamed(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    arrived = Arrivals(inner, 7, 9)
    with Events(lab) as events:
        sender = outside.udp(bind=("", 4000))
        for port in (9, 7, 8, 10):
            outside.send("10.77.0.1", port, 3, sender=sender)
        arrived.wait(6)
        found = events.take(6)
        assert [e["rule"] for e in found] == ["logged"] * 3 + ["refused"] * 3
        first = found[0]
        assert {k: first[k] for k in ("netns", "verdict", "direction", "family", "protocol", "src",
                                      "dst", "sport", "dport", "length")} == {
            "netns": name, "verdict": "accept", "direction": "in", "family": "ipv4",
            "protocol": "udp", "src": "10.77.0.2", "dst": "10.77.0.1", "sport": 4000, "dport": 7,
            "length": 48}
        assert found[5]["verdict"] == "reject"
        assert abs(time.time() - time.mktime(time.strptime(
            first["time"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 60
        outside.ping("fd77:0::1", 1, timeout=0.05)
        outside.send("fd77:0::1", 7, 1)
        assert events.take(1)[0]["src"] == "fd77::2"


def test_filters(lab):
    a, a_peer = lab.pair("a")
    b, b_peer = lab.pair("b")
    names = [lab.attach(netns, **POLICY) for netns in (a, b)]
    with Events(lab, f"?netns={names[1]}") as of_b, Events(lab, "?verdict=reject") as rejected:
        for peer in (a_peer, b_peer):
            peer.send("10.77.0.1", 7, 2)
            peer.send("10.77.0.1", 8, 2)
        assert [e["netns"] for e in of_b.take(4)] == [names[1]] * 4
        assert {(e["netns"], e["verdict"]) for e in rejected.take(4)} == {
            (name, "reject") for name in names}


def test_audit_says_what_it_would_have_dropped(lab):
    inner, outside = lab.pair()
    lab.attach(inner, mode="audit", rules=[
        {"name": "bad", "action": "drop", "dport": [7], "log": True}])
    arrived = Arrivals(inner, 7)
    with Events(lab) as events:
        outside.send("10.77.0.1", 7, 2)
        assert [(e["rule"], e["verdict"], e["would_drop"]) for e in events.take(2)] == [
            ("bad", "would_drop", True)] * 2
    arrived.wait(2)


def test_audit_needs_no_rule_that_logs(lab):
    """The default too, in the log as well; and who asks for what was accepted is told, as it was."""
    inner, outside = lab.pair()
    name = lab.attach(inner, mode="audit", rules=[
        {"name": "good", "action": "accept", "dport": [9]},
        {"name": "bad", "action": "reject", "dport": [7]}])
    arrived = Arrivals(inner, 7, 8, 9, families=[socket.AF_INET])
    with Events(lab, "?verdict=would_drop") as events, Events(lab, "?verdict=accept") as accepted:
        for port in (9, 7, 8):
            outside.send("10.77.0.1", port, 1)
        for reader in (events, accepted):
            assert [(e["rule"], e["dport"], e["verdict"]) for e in reader.take(2)] == [
                ("bad", 7, "would_drop"), ("default", 8, "would_drop")]
    arrived.wait(3)
    lab.expect(name, {"audit.would_drop": 2, "packets.accepted": 3})
    lines = [line for line in lab.log("nsgate-agent").splitlines()
             if f" event=packet netns={name} " in line]
    assert len(lines) == 2 and all(" verdict=would_drop " in line for line in lines), lines


def test_every_rule_that_logs_a_packet_is_told(lab):
    inner, outside = lab.pair()
    lab.attach(inner, default="accept", rules=[
        {"name": "first", "action": "continue", "log": True},
        {"name": "between", "action": "continue"},
        {"name": "second", "action": "continue", "dport": [7], "log": True},
        {"name": "last", "action": "drop", "log": True}])
    with Events(lab) as events:
        outside.send("10.77.0.1", 7, 1)
        outside.send("10.77.0.1", 8, 1)
        assert [(e["rule"], e["dport"], e["verdict"]) for e in events.take(5)] == [
            ("first", 7, "drop"), ("second", 7, "drop"), ("last", 7, "drop"),
            ("first", 8, "drop"), ("last", 8, "drop")]


def test_what_the_log_left_out_is_told_when_the_flood_ends(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    outside.send("10.77.0.1", 7, 300)
    lab.expect(name, {"rules.logged": 300})

    def told():
        lines = [line for line in lab.log("nsgate-agent").splitlines()
                 if f" netns={name} " in f"{line} "]
        printed = [line for line in lines if " event=packet " in line]
        left_out = [int(number) for line in lines for number in re.findall(
            r"(?:suppressed| event=packets.suppressed netns=\S+ count)=(\d+)", line)]
        return len(printed) + sum(left_out) == 300 and left_out
    # No further packet is sent: time alone tells.
    assert until(told, "the lines that were left out", 5)


def test_attach_and_detach_are_events(lab):
    inner = lab.netns()
    with Events(lab, f"?netns={inner}") as events:
        name = lab.attach(inner, default="accept")
        lab.detach(name)
        kinds = []
        while len(kinds) < 2:
            kinds.append(json.loads(events.answer.readline())["event"])
    assert kinds[0] != kinds[1] and "packet" not in kinds


def test_consumer_that_goes_and_comes_back_is_told(lab):
    """Once each, whatever the number of packets."""
    inner, outside = lab.pair()
    name = lab.attach(inner, rules=[
        {"name": "ids", "action": "queue", "queue": 7, "dport": [7]}])
    with Events(lab, f"?netns={name}") as events:
        with Consumer(inner, 7) as other:
            outside.send("10.77.0.1", 7, 5)
            until(lambda: len(other.seen) == 5, "the program to be asked")
        until(lambda: outside.send("10.77.0.1", 7, 5) and
              lab.stats(name)["packets"]["unserved"], "packets to find nobody")
        outside.send("10.77.0.1", 7, 20)
        assert "queue 7" in events.take(1, "consumer.gone")[0]["detail"]
        with Consumer(inner, 7) as other:
            until(lambda: outside.send("10.77.0.1", 7, 1) and other.seen, "the program's return")
            assert "queue 7 is served again" in events.take(1, "consumer.back")[0]["detail"]
    lines = [line for line in lab.log("nsgate-agent").splitlines() if f" netns={name} " in line]
    for level, kind in (("warning", "gone"), ("info", "back")):
        assert len([line for line in lines
                    if f" level={level} event=consumer.{kind} " in line]) == 1, lines


@pytest.mark.parametrize("readers", [1, 10])
def test_reader_that_does_not_read_holds_up_nothing(lab, readers):
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    before = lab.fds()
    with contextlib.ExitStack() as stack:
        for _ in range(readers):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(f"{lab.runtime}/api.sock")
            client.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            stack.callback(client.close)
        arrived = Arrivals(inner, 7, families=[socket.AF_INET])
        started = time.monotonic()
        outside.send("10.77.0.1", 7, 10000, pace=inner.pending())
        arrived.wait(10000)
        lab.expect(name, {"rules.logged": 10000})
        assert name in lab.stats_sock()["namespaces"]
        assert time.monotonic() - started < 10 * SLOW
        # A reader that comes now gets what comes now.
        with Events(lab) as events:
            outside.send("10.77.0.1", 7, 5)
            assert events.take(1)[0]["rule"] == "logged"
    lab.wait_fds(before)


def test_slow_reader_is_told_how_much_it_lost(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    arrived = Arrivals(inner, 7, families=[socket.AF_INET])
    with Events(lab, f"?netns={name}") as events:
        sent = outside.send("10.77.0.1", 7, 8000, pace=inner.pending())
        arrived.wait(sent)
        lab.expect(name, {"rules.logged": sent})
        got, lost = 0, 0
        while got + lost < sent and not lost:
            event = json.loads(events.answer.readline())
            got += event["event"] == "packet"
            lost += event.get("count", 0)
        rings = lab.get("/v1/stats")["agent"]["events_lost"]
        assert lost > 0 and got > 100
        # So many packets in a row may make it a flood, which is one more event.
        floods = lab.log("nsgate-agent").count(f" event=flooded netns={name} ")
        assert got + lost <= sent + floods and rings >= 0


def test_more_readers_than_there_is_room_for(lab):
    before = lab.fds()
    with contextlib.ExitStack() as stack:
        for _ in range(32):
            stack.enter_context(Events(lab))
        answer = lab.http("GET", "/v1/events")
        assert answer.status == 503
        assert answer.headers["Content-Type"] == "application/problem+json"
        lab.get("/v1/stats")

    def room():
        with contextlib.suppress(AssertionError), Events(lab):
            return True
        return False
    until(room, "the places of readers that went away")
    lab.wait_fds(before)


def test_streams_end_with_the_agent(own_lab):
    lab = own_lab.start()
    with Events(lab) as events:
        started = time.monotonic()
        assert end(lab.agent, 15) == 0
        with contextlib.suppress(Exception):
            while events.answer.readline():
                pass
        assert time.monotonic() - started < 5 * SLOW
