# SPDX-License-Identifier: GPL-2.0-or-later
"""The file system of the runtime directory is full, or no descriptor is left: it is said."""
import contextlib
import errno
import os
import socket

import pytest

from lab import Arrivals, end, rule_counts, run, until

MANY = 1000  # rules: their counters take some six pages
PORTS = (7, 8)


@pytest.fixture
def small(own_lab):
    """A laboratory whose runtime directory has a file system of its own, of one megabyte."""
    os.makedirs(own_lab.runtime)
    run("mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "none", own_lab.runtime)
    try:
        yield own_lab.start()
    finally:
        for process in own_lab.children:
            end(process)
        run("umount", own_lab.runtime)


@contextlib.contextmanager
def filled(directory):
    path = f"{directory}/filler"
    with open(path, "wb", buffering=0) as file:
        with pytest.raises(OSError) as failure:
            while True:
                file.write(bytes(4096))
        assert failure.value.errno == errno.ENOSPC
    try:
        yield
    finally:
        os.unlink(path)


def put_policy(lab, moved=0):
    """The ports are decided by the first rule and by one of the last; `moved`: by how much."""
    rules = [{"name": f"n{n}", "action": "drop", "direction": "in", "protocol": "udp",
              "dport": 20000 + n} for n in range(MANY)]
    for name, place, port in (("late", MANY - moved, 8), ("first", moved, 7)):
        rules.insert(place, {"name": name, "action": "accept", "protocol": "udp", "dport": port})
    lab.put_policy("p", default="drop", hooks=["in"], rules=rules)


def pass_some(lab, inner, outside, count=10):
    arrived = Arrivals(inner, *PORTS, families=[socket.AF_INET])
    for port in PORTS:
        outside.send("10.77.0.1", port, count)
    arrived.wait({(port, 4): count for port in PORTS})
    arrived.close()


def test_attach_is_refused(small):
    lab = small
    inner, outside = lab.pair()
    put_policy(lab)
    with filled(lab.runtime):
        done = lab.ctl("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
        assert done.returncode == 1
        assert "cannot make the counters" in done.stderr and "make room" in done.stderr
        assert not lab.names() and inner.ruleset() == ""
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    pass_some(lab, inner, outside)


@pytest.mark.parametrize("queues", [1, 3])
def test_rules_that_are_hit_for_the_first_time(small, queues):
    """Their counters have no place; packets are judged all the same, and the rest is counted."""
    lab = small
    inner, outside = lab.pair()
    put_policy(lab)
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p", "--queues", queues)
    with filled(lab.runtime):
        pass_some(lab, inner, outside)
        stats = lab.expect("x", {"packets.accepted": 20, "rules.late": 0})
        assert not stats["packets"]["dropped"]
        assert "event=rules.uncounted netns=x" in lab.log("nsgate-agent")
        end(lab.agent)
        lab.start_agent()
        lab.wait_ready()
        pass_some(lab, inner, outside)
        lab.expect("x", {"packets.accepted": 40, "rules.late": 0})
    with_room = lab.stats("x")["packets"]["accepted"]

    def counted():
        pass_some(lab, inner, outside)
        return rule_counts(lab.stats("x"))["late"]
    until(counted, "hits to be counted")
    counts = rule_counts(lab.books("x"))
    assert 0 < counts["late"] < lab.stats("x")["packets"]["accepted"] - with_room
    assert sum(counts.values()) == counts["first"] + counts["late"]
    assert counts["first"] == lab.stats("x")["packets"]["accepted"] // 2
    assert lab.agent.poll() is None


def test_counters_that_move_with_their_rules(small):
    """Another policy has them in another place, for which there is no room."""
    lab = small
    inner, outside = lab.pair()
    put_policy(lab)
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    pass_some(lab, inner, outside)
    lab.expect("x", {"rules.first": 10, "rules.late": 10})
    with filled(lab.runtime):
        put_policy(lab, moved=MANY // 2)
        pass_some(lab, inner, outside)
        lab.expect("x", {"packets.accepted": 40})
    assert lab.agent.poll() is None


def start_short(lab, daemon, spare):
    """Start it again with room for what it has and `spare` descriptors more."""
    process = getattr(lab, daemon)
    limit = max(int(fd) for fd in os.listdir(f"/proc/{process.pid}/fd")) + 1 + spare
    end(process)
    lab.through[f"nsgate-{daemon}"] = ["prlimit", f"--nofile={limit}:{limit}"]
    getattr(lab, f"start_{daemon}")()
    lab.wait_ready()


@pytest.mark.parametrize("spare", range(4, 8))
@pytest.mark.parametrize("daemon", ["agent", "broker"])
def test_no_descriptor_left_refuses_one_attach(own_lab, daemon, spare):
    """And that alone: the two go on talking, and what is attached is judged."""
    lab = own_lab.start()
    inner, outside = lab.pair()
    lab.put_policy("p", default="drop", rules=[{"name": "first", "action": "accept", "dport": 7}])
    lab.must("attach", f"netns:{inner}", "--policy", "p", "--name", "x")
    start_short(lab, daemon, spare)
    lost = lab.log("nsgate-broker").count("event=agent.lost")
    attached = []
    for netns in [lab.netns("late") for _ in range(4)]:
        done = lab.ctl("attach", f"netns:{netns}", "--policy", "p", "--name", netns.name)
        if done.returncode:
            break
        attached.append(netns.name)
    assert done.returncode == 1 and "descriptor" in done.stderr and "NOFILE" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert netns.ruleset() == ""
    arrived = Arrivals(inner, 7, families=[socket.AF_INET])
    outside.send("10.77.0.1", 7, 1)
    arrived.wait(1)
    lab.must("detach", "x")  # over the same link, and then there is room, when all of it is closed
    until(lambda: lab.ctl("attach", f"netns:{netns}", "--policy", "p", "--name",
                          "late").returncode == 0, "room for another")
    lab.must("detach", "late")  # who asks needs one, too
    assert lab.names() == attached
    assert lab.log("nsgate-broker").count("event=agent.lost") == lost
