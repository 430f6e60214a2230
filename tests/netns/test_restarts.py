# SPDX-License-Identifier: GPL-2.0-or-later
"""Either daemon may die, be stopped, or come first: packets are neither lost nor doubled."""
import contextlib
import os
import signal
import socket
import struct
import threading
import time

import pytest

import ipc
from lab import QUEUE, SLOW, Arrivals, end, eventually, until

POLICY = {"default": "drop", "rules": [
    {"name": "ok", "action": "accept", "direction": "in", "protocol": ["udp"], "dport": [7]},
    {"name": "no", "action": "drop", "direction": "in", "protocol": ["udp"], "dport": [8]},
    {"name": "tcp", "action": "accept", "protocol": ["tcp"]}]}


class Stream:
    """Numbered datagrams, sent until told to stop; the sender waits while the queue is long."""

    def __init__(self, lab, sender, receiver):
        self.arrivals = Arrivals(receiver, 7, families=[socket.AF_INET])
        self.sender = sender.udp()
        self.pending = receiver.pending()
        self.stop = threading.Event()
        self.sent = 0
        self.error = None
        self.thread = threading.Thread(target=self.loop)
        self.lab = lab

    def loop(self):
        try:
            while not self.stop.is_set():
                if self.sent % 50 == 0 and self.pending() > 2000:
                    self.stop.wait(0.001)
                    continue
                self.sender.sendto(struct.pack("!I", self.sent), ("10.77.0.1", 7))
                if self.sent % 10 == 0:
                    self.sender.sendto(b"no", ("10.77.0.1", 8))
                    self.stop.wait(0.001)
                self.sent += 1
        except Exception as error:  # reported by __exit__
            self.error = error

    def flow(self, count=300):
        """Until so many more have arrived."""
        target = self.arrivals.total(keep=True) + count
        until(lambda: self.arrivals.total(keep=True) >= target, "packets to arrive again")

    def hold(self, count=50):
        """Until so many more were sent."""
        target = self.sent + count
        until(lambda: self.sent >= target or self.pending() > 2000, "packets to be sent")

    def __enter__(self):
        self.thread.start()
        self.flow()
        return self

    def __exit__(self, kind, *unused):
        self.stop.set()
        self.thread.join(10)
        if kind is None:
            assert self.error is None

    def complete(self):
        """Everything that was sent has arrived once."""
        self.stop.set()
        self.thread.join(10)
        until(lambda: self.arrivals.total(keep=True) >= self.sent,
              lambda: f"{self.sent} packets to arrive; there are {self.arrivals.seen}")
        numbers = [struct.unpack("!I", p)[0] for p in self.arrivals.payloads[7, 4]]
        assert sorted(numbers) == list(range(self.sent))


def never_lower(before, after, path=""):
    """No counter of a document of statistics fell."""
    for key, value in before.items():
        if key in ("queue", "verdict_latency_us", "generation"):
            continue
        if isinstance(value, dict):
            never_lower(value, after[key], f"{path}.{key}")
        elif isinstance(value, list):
            for one, other in zip(value, after[key]):
                never_lower(one, other, f"{path}.{one['name']}")
        elif isinstance(value, int):
            assert after[key] >= value, f"{path}.{key}: {value}, then {after[key]}"


@pytest.fixture
def scene(own_lab):
    own_lab.start()
    inner, outside = own_lab.pair()
    own_lab.put_policy("p", **POLICY)
    own_lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    yield own_lab, inner, outside


def books_of(lab, stream, kills=0):
    """What was counted is what was sent, but for the turns that were cut short."""
    forbidden = (stream.sent + 9) // 10

    def add_up():  # the last of them may still be under way
        stats = lab.stats("x")
        packets = stats["packets"]
        assert stats["queue"]["pending"] == 0, stats
        assert abs(packets["accepted"] - stream.sent) <= 64 * kills, (stream.sent, stats)
        assert abs(packets["dropped"] - forbidden) <= 64 * kills, (forbidden, stats)
        assert packets["seen"] == packets["accepted"] + packets["dropped"], stats
        assert stats["queue"]["dropped"] == stats["queue"]["user_dropped"] == 0
        return stats
    return eventually(add_up)


def test_agent_killed_under_load(scene):
    lab, inner, outside = scene
    kills = 8
    attached_at = lab.stats("x")["attached_at"]
    with Stream(lab, outside, inner) as stream:
        for _ in range(kills):
            before = lab.stats("x")
            end(lab.agent, signal.SIGKILL)
            stream.hold()
            lab.start_agent()
            lab.wait_ready()
            never_lower(before, lab.stats("x"))
            stream.flow()
        stream.complete()
        stats = books_of(lab, stream, kills)
    assert stats["attached_at"] == attached_at and stats["state"] == "attached"


def test_agent_stopped_and_started_under_load(scene):
    lab, inner, outside = scene
    with Stream(lab, outside, inner) as stream:
        for _ in range(4):
            before = lab.stats("x")
            assert end(lab.agent, signal.SIGTERM) == 0
            stream.hold()
            lab.start_agent()
            lab.wait_ready()
            never_lower(before, lab.stats("x"))
            stream.flow()
        stream.complete()
        books_of(lab, stream)


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_broker_restarted_under_load(scene, sig):
    lab, inner, outside = scene
    with Stream(lab, outside, inner) as stream:
        for _ in range(3):
            end(lab.broker, sig)
            stream.flow()
            assert lab.ctl("detach", "x").returncode == 3
            lab.must("stats", "x")
            lab.start_broker()
            lab.wait_ready()
            stream.flow()
        stream.complete()
        books_of(lab, stream)
    # The new broker does for it what the old one did: policies, links, the end.
    lab.put_policy("p", default="drop", rules=[{"name": "all", "action": "accept"}])
    arrived = Arrivals(inner, 8)
    outside.send("10.77.0.1", 8, 10)
    arrived.wait(10)
    assert lab.stats("x")["rules"][0]["name"] == "all"
    before = lab.fds()
    lab.must("detach", "x")
    assert inner.ruleset() == ""
    until(lambda: sum(lab.fds()) < sum(before), "its descriptors to be closed")


def test_new_broker_notices_the_end_of_the_namespace(scene):
    lab, inner, outside = scene
    end(lab.broker)
    lab.start_broker()
    lab.wait_ready()
    inner.delete()
    until(lambda: lab.names() == [], "the namespace to be released", 2)
    until(lambda: outside.ip("link", "show", "eth0", check=False).returncode != 0,
          "the peer of its link to go", 5)


def test_namespace_that_ends_while_the_broker_is_away(scene):
    lab, inner, outside = scene
    end(lab.broker)
    inner.delete()
    lab.start_broker()
    lab.wait_ready()
    until(lambda: lab.names() == [], "the namespace to be released", 5)
    until(lambda: outside.ip("link", "show", "eth0", check=False).returncode != 0,
          "the peer of its link to go", 5)


def test_policy_put_while_the_broker_is_away_comes_into_force_with_it(scene):
    lab, inner, outside = scene
    end(lab.broker)
    answer = lab.http("PUT", "/v1/policies/p", {"version": 1, "hooks": ["out"],
                                                "default": "drop"})
    assert answer.status in (200, 503)
    lab.start_broker()
    lab.wait_ready()
    arrived = Arrivals(inner, 9, families=[socket.AF_INET])
    until(lambda: outside.send("10.77.0.1", 9, 1) and arrived.total(),
          "packets to come in unjudged under the new policy")
    assert lab.get("/v1/namespaces/x")["hooks"] == ["out"]


def test_policy_changed_on_disk_while_the_agent_is_away(scene):
    lab, inner, outside = scene
    end(lab.agent, signal.SIGTERM)
    with open(f"{lab.policies}/p.json", "w", encoding="ascii") as file:
        file.write('{"version":1,"default":"accept"}')
    lab.start_agent()
    lab.wait_ready()
    arrived = Arrivals(inner, 8)
    outside.send("10.77.0.1", 8, 10)
    arrived.wait(10)


def test_packets_wait_while_the_agent_is_away(scene):
    lab, inner, outside = scene
    arrived = Arrivals(inner, 7, 8)
    end(lab.agent)
    pending = inner.pending()
    outside.send("10.77.0.1", 7, 500)
    outside.send("10.77.0.1", 8, 500)
    until(lambda: pending() == 1000, "the packets to wait")
    assert arrived.total() == 0
    lab.start_agent()
    arrived.wait({(7, 4): 500})
    lab.wait_ready()
    lab.expect("x", {"rules.ok": 500, "rules.no": 500, "packets.seen": 1000,
                     "packets.accepted": 500, "packets.dropped": 500})
    assert arrived.total() == 500


def test_counters_of_an_earlier_release_are_begun_anew(scene):
    """A new agent beside the old broker, whose file has another layout and less in it."""
    lab, inner, outside = scene
    cookie = lab.stats("x")["netns"]["cookie"]
    end(lab.agent)
    path = f"{lab.runtime}/attached/{cookie}.counters"
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.write(struct.pack("=I", 0x4e534733))
        file.truncate(size // 2)
    lab.start_agent()
    lab.wait_ready()
    assert os.path.getsize(path) == size
    before = lab.stats("x")["packets"]["seen"]
    arrived = Arrivals(inner, 7)
    outside.send("10.77.0.1", 7, 10)
    arrived.wait(10)
    lab.expect("x", {"packets.seen": before + 10, "rules.ok": 10})


def test_tcp_connection_survives_both(scene):
    lab, inner, outside = scene
    listener = inner.tcp_listen(80)
    client = outside.tcp_connect("10.77.0.1", 80, 20)
    server, _ = listener.accept()
    server.settimeout(20)

    def echo():
        client.sendall(b"x" * 50000)
        got = 0
        while got < 50000:
            got += len(server.recv(65536))
        server.sendall(b"ok")
        assert client.recv(10) == b"ok"
    echo()
    for kill, start in ((lambda: lab.agent, lab.start_agent),
                        (lambda: lab.broker, lab.start_broker)):
        end(kill())
        start()
        echo()
    lab.wait_ready()
    echo()


def test_both_killed_means_closed_and_all_comes_back(scene):
    lab, inner, outside = scene
    before = lab.stats("x")
    end(lab.agent)
    end(lab.broker)
    arrived = Arrivals(inner, 7, 8)
    outside.send("10.77.0.1", 7, 20)
    outside.send("10.77.0.1", 8, 20)
    assert arrived.total() == 0
    lab.start()
    until(lambda: lab.names() == ["x"], "the namespace to be attached again")
    until(lambda: lab.stats("x")["state"] == "attached", "it to be judged")
    assert lab.stats("x")["netns"] == before["netns"]
    outside.send("10.77.0.1", 7, 20)
    outside.send("10.77.0.1", 8, 20)
    arrived.wait({(7, 4): 20})
    until(lambda: lab.stats("x")["packets"]["dropped"] >= 20, "the forbidden ones to be dropped")
    assert arrived.total() == 20
    lab.must("detach", "x")
    assert inner.ruleset() == ""


def test_namespace_that_cannot_be_adopted_holds_up_no_other(own_lab):
    """The agent holds one that a new broker cannot take over, and another is only on record."""
    lab = own_lab.start()
    (bad, bad_outside), (good, outside) = lab.pair("bad"), lab.pair("good")
    lab.put_policy("p", **POLICY)
    files = [f"{lab.runtime}/attached/{n.identity()[0]}" for n in (bad, good)]
    lab.attach(good, "--policy", "p", name="good")
    with open(files[1], "rb") as file:
        record = file.read()
    lab.detach("good")
    lab.attach(bad, "--policy", "p", name="bad")
    end(lab.broker)
    with open(files[1], "wb") as file:
        file.write(record)
    os.mkdir(f"{files[0]}.members")  # no file: who is in there cannot be read
    lab.start_broker()
    until(lambda: sorted(lab.names()) == ["bad", "good"], "the one to be restored")
    until(lambda: lab.stats("good")["state"] == "attached", "it to be judged")
    assert "adopt.failed netns=bad" in lab.log("nsgate-broker")
    assert lab.stats("bad")["queue"]["first"] == QUEUE
    for name, inner, sender in (("bad", bad, bad_outside), ("good", good, outside)):
        arrived = Arrivals(inner, 7, 8, families=[socket.AF_INET])
        for port in (7, 8):
            sender.send("10.77.0.1", port, 10)
        arrived.wait({(7, 4): 10})
        lab.expect(name, {"packets.accepted": 10, "packets.dropped": 10})
    os.rmdir(f"{files[0]}.members")
    until(lambda: "adopted netns=bad" in lab.log("nsgate-broker"), "the other to follow")
    lab.wait_ready()
    lab.detach("bad")
    lab.detach("good")
    assert bad.ruleset() == good.ruleset() == ""


def test_both_killed_with_on_agent_down_open(own_lab):
    lab = own_lab.start()
    inner, outside = lab.pair()
    lab.attach(inner, default="drop", on_agent_down="open")
    arrived = Arrivals(inner, 7)
    outside.send("10.77.0.1", 7, 10)
    lab.expect(inner.name, {"packets.dropped": 10})
    end(lab.agent)
    end(lab.broker)
    outside.send("10.77.0.1", 7, 20)
    arrived.wait(20)


def test_agent_dead_with_on_agent_down_open(own_lab):
    lab = own_lab.start()
    inner, outside = lab.pair()
    name = lab.attach(inner, default="drop", on_agent_down="open")
    arrived = Arrivals(inner, 7)
    end(lab.agent)
    outside.send("10.77.0.1", 7, 20)
    arrived.wait(20, timeout=5)
    outside.send("10.77.0.1", 7, 30)  # these do not even wait
    arrived.wait(50)
    for _ in range(2):
        lab.start_agent()
        lab.wait_ready()
        lab.expect(name, {"unjudged.agent_down": 50, "packets.accepted": 20})
        end(lab.agent)
    lab.start_agent()
    lab.wait_ready()
    lab.expect(name, {"state": "attached"})
    seen = lab.stats(name)["packets"]["seen"]
    outside.send("10.77.0.1", 7, 10)
    lab.expect(name, {"packets.seen": seen + 10, "unjudged.agent_down": 50})
    assert arrived.total() == 50


@pytest.mark.parametrize("first", ["broker", "agent"])
def test_either_may_start_first(own_lab, first):
    lab = own_lab
    if first == "broker":
        lab.start_broker()
        lab.start_agent()
    else:
        lab.start_agent()
        lab.start_broker()
    lab.wait_ready()
    inner, outside = lab.pair()
    lab.attach(inner, **POLICY)
    arrived = Arrivals(inner, 7)
    outside.send("10.77.0.1", 7, 10)
    arrived.wait(10)


def test_broker_that_takes_stock_denies_nothing(own_lab):
    """Right after its start it may ask for patience, but what is attached is attached."""
    lab = own_lab.start()
    _, leaves = lab.star(20)
    lab.put_policy("p", **POLICY)
    for number, leaf in enumerate(leaves):
        lab.must("attach", f"netns:{leaf}", "--name", f"n{number}", "--policy", "p")
    for number in range(len(leaves)):
        lab.wait_ready()
        end(lab.broker)
        lab.start_broker()
        client = ipc.Client(lab)
        detach = ipc.message(ipc.DETACH, f"n{number}".encode().ljust(64, b"\0"))
        status, text = until(lambda c=client, d=detach: (a := c.ask(d))[0] != 3 and a,
                             "the broker to have taken stock")
        client.close()
        assert status == 0, text
        assert leaves[number].ruleset() == ""


def test_broker_killed_at_any_moment_can_be_started_at_once(own_lab):
    """Also while a child of its is inside a namespace: nothing of it may be in the way."""
    lab = own_lab.start()
    _, leaves = lab.star(10)
    lab.put_policy("p", **POLICY)
    for number, leaf in enumerate(leaves):
        lab.must("attach", f"netns:{leaf}", "--name", f"n{number}", "--policy", "p")
    for _ in range(30):
        end(lab.broker)
        lab.start_broker("--admin", "4321")
    lab.wait_ready()
    assert len(lab.names()) == len(leaves)
    for number in range(len(leaves)):
        lab.must("detach", f"n{number}")


def test_many_namespaces_survive_a_killed_agent(own_lab):
    lab = own_lab.start()
    hub, leaves = lab.star(30)
    lab.put_policy("p", **POLICY)
    for number, leaf in enumerate(leaves):
        lab.must("attach", f"netns:{leaf}", "--name", f"n{number}", "--policy", "p")
    arrivals = [Arrivals(leaf, 7, families=[socket.AF_INET]) for leaf in leaves]
    sender = hub.udp()

    def burst():
        for number in range(len(leaves)):
            for _ in range(10):
                sender.sendto(b"x", (f"10.77.{number}.2", 7))
    burst()
    # One that dies between the count and the verdict has its packets counted twice.
    for arrived in arrivals:
        arrived.wait(10)
    end(lab.agent)
    burst()
    lab.start_agent()
    lab.wait_ready()
    end(lab.broker)
    burst()
    lab.start_broker()
    lab.wait_ready()
    burst()
    for arrived in arrivals:
        arrived.wait(40)
    stats = until(lambda: (s := lab.stats_sock()["namespaces"]) and all(
        one["packets"]["accepted"] + 10 >= 40 and one["queue"]["pending"] == 0
        for one in s.values()) and s, "the counts")
    assert len(stats) == 30 and all(s["state"] == "attached" for s in stats.values())
    assert [s["packets"]["accepted"] for s in stats.values()] == [40] * 30
    for number in range(len(leaves)):
        lab.must("detach", f"n{number}")
    assert all(leaf.ruleset() == "" for leaf in leaves[::10])


def test_stopping_both_is_clean(own_lab):
    lab = own_lab.start()
    started = time.monotonic()
    for _ in range(2):
        lab.attach(lab.netns(), default="accept")
    assert end(lab.agent, signal.SIGTERM) == 0
    assert end(lab.broker, signal.SIGTERM) == 0
    assert time.monotonic() - started < 5 * SLOW
    assert lab.ctl("ls").returncode == 3
    with contextlib.suppress(FileNotFoundError):
        assert "event=stopping" in lab.log("nsgate-agent")
