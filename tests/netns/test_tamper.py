# SPDX-License-Identifier: GPL-2.0-or-later
"""
Somebody inside pulls at the rules, and somebody outside learns of it: an event, a log line that
names the namespace, a counter. Both families.
"""
import errno
import json
import os
import select
import socket
import struct
import subprocess
import threading
import time

import pytest

from lab import QUEUE, SLOW, Arrivals, end, eventually, libc, owns_tables, program, until
from nfqueue import Consumer, attribute
from test_events import Events

OK, NO = 7, 8
INNER, INNER6 = "10.77.0.1", "fd77:0::1"
POLICY = {"default": "drop", "rules": [
    {"name": "ok", "action": "accept", "direction": "in", "protocol": ["udp"], "dport": [OK]},
    {"name": "no", "action": "drop", "direction": "in", "protocol": ["udp"], "dport": [NO]}]}

# What it does in a namespace whose tables anybody there can change.
TAMPERING = (
    "flush ruleset",
    "delete table inet nsgate",
    "flush table inet nsgate",
    "flush chain inet nsgate judge_in",
    "flush chain inet nsgate settle_in",
    "insert rule inet nsgate judge_in accept",
    "add table inet nsgate { flags dormant; }",
    "flush chain inet nsgate judge_in; delete chain inet nsgate judge_in",
    "delete table inet nsgate; add table inet nsgate; add chain inet nsgate judge_in",
)


def plain(lab):
    """Daemons that cannot own tables, whatever this kernel can."""
    lab.start_broker("--no-owned-tables", wait=False)
    lab.start_agent(wait=False)
    lab.wait_broker()
    lab.wait_agent()
    lab.wait_ready()
    return lab


class Traffic:
    """What is allowed arrives, and what is forbidden does not, in both families."""

    def __init__(self, lab, inner, outside):
        self.outside = outside
        self.arrived = Arrivals(inner, OK, NO)
        self.lab = lab

    def forbidden(self):
        seen = self.arrived.drain()
        return seen[NO, 4] + seen[NO, 6]

    def judged(self):
        """Until one of each family goes through and the forbidden one sent before does not."""
        def held():
            self.arrived.drain()
            before = dict(self.arrived.seen)
            for address in (INNER, INNER6):
                self.outside.send(address, NO, 1)
                self.outside.send(address, OK, 1)
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                select.select(list(self.arrived.sockets), [], [], 0.1)
                now = self.arrived.drain()
                if all(now[OK, f] > before[OK, f] for f in (4, 6)):
                    return all(now[NO, f] == before[NO, f] for f in (4, 6))
            return False
        until(held, "packets to be judged again")


def repairs(lab, name):
    return lab.stats(name)["repairs"]


def intact(netns, rules):
    """The order in which chains were made does not matter."""
    def check():
        assert sorted(netns.ruleset().split()) == sorted(rules.split())
    eventually(check)


def nft(netns, commands):
    return netns.nft(commands.replace("; ", "\n") if "{" not in commands else commands)


def repaired_lines(lab, name, event="repaired"):
    return [line for line in lab.log("nsgate-broker").splitlines()
            if f"event={event} " in line and f"netns={name} " in line]


@pytest.mark.parametrize("strict", [False, True], ids=["plain", "strict"])
def test_changed_rules_are_put_back_and_told(own_lab, strict):
    lab = plain(own_lab)
    inner, outside = lab.pair()
    name = lab.attach(inner, strict=strict, **POLICY)
    traffic = Traffic(lab, inner, outside)
    traffic.judged()
    rules = inner.ruleset()
    assert repairs(lab, name) == 0
    tampering = TAMPERING
    if strict:
        tampering += ("delete table netdev nsgate", "flush chain netdev nsgate guard",
                      "insert rule netdev nsgate guard accept")
    with Events(lab, f"?netns={name}") as events:
        for number, commands in enumerate(tampering, 1):
            nft(inner, commands)
            event = events.take(1, "repaired")[0]
            assert event["netns"] == name
            assert "changed the rules" in event["detail"]
            traffic.judged()
            assert repairs(lab, name) == number
            intact(inner, rules)
    assert repaired_lines(lab, name)
    assert f"event=repaired netns={name} " in lab.log("nsgate-agent")
    metrics = lab.http("GET", "/metrics").body.decode()
    assert any(line.startswith("nsgate_repairs_total{") and line.endswith(f"}} {len(tampering)}")
               for line in metrics.splitlines())
    # Neither daemon forgets.
    end(lab.agent)
    lab.start_agent()
    lab.wait_ready()
    until(lambda: lab.names() == [name], "the namespace to be taken over")
    assert repairs(lab, name) == len(tampering)
    end(lab.broker)
    lab.start_broker("--no-owned-tables")
    lab.wait_ready()
    assert repairs(lab, name) == len(tampering)


SOL_NETLINK, ADD_MEMBERSHIP, NFNLGRP_NFTABLES = 270, 1, 7
NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES, NFPROTO_INET = 12, 10, 1
BATCH_BEGIN, BATCH_END, DELTABLE = 0x10, 0x11, 2
NLM_F_REQUEST, NLM_F_ACK, NLMSG_ERROR = 1, 4, 2


def nftables_message(kind, family, subsystem, flags, *attributes):
    body = struct.pack("!BBH", family, 0, subsystem) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | flags, 0, 0) + body


class Saboteur:
    """
    Deletes the table as soon as the kernel says that somebody has changed it, `count` times: while
    whoever installed it still looks at what it installed.
    """
    DELETE = (nftables_message(BATCH_BEGIN, 0, NFNL_SUBSYS_NFTABLES, 0) +
              nftables_message(NFNL_SUBSYS_NFTABLES << 8 | DELTABLE, NFPROTO_INET, 0, NLM_F_ACK,
                               attribute(1, b"nsgate\0")) +
              nftables_message(BATCH_END, 0, NFNL_SUBSYS_NFTABLES, 0))

    def __init__(self, netns, count):
        self.left = count
        self.ears = netns.open_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.hand = netns.open_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.ears.bind((0, 0))  # who has no number hears nothing
        self.ears.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        self.stopped = False
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def deletes(self):
        """Did it delete one?"""
        self.hand.send(self.DELETE)
        while True:
            data = self.hand.recv(65536)
            if struct.unpack("=H", data[4:6])[0] == NLMSG_ERROR:
                error = -struct.unpack("=i", data[16:20])[0]
                assert error in (0, errno.ENOENT), error
                return not error

    def loop(self):
        self.ears.settimeout(0.1)
        while self.left and not self.stopped:
            try:
                self.ears.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError as error:  # more news than fit
                assert error.errno == errno.ENOBUFS, error
            time.sleep(self.left % 10 * 0.0002 * SLOW)
            self.left -= self.deletes()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.stopped = True
        self.thread.join(10)


def test_rules_deleted_while_they_are_being_installed_come_back(own_lab):
    """However often: no deleted table is ever taken for what was installed."""
    lab = plain(own_lab)
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    traffic = Traffic(lab, inner, outside)
    rules = inner.ruleset()
    # The broker gives a namespace a fifth of its time: a slow machine undoes fewer in a minute.
    with Saboteur(inner, max(50, int(300 / SLOW))) as saboteur:
        def spent():
            done = lab.ctl("namespace", "policy", name, lab.policy(**POLICY))
            # Where the machine is slow, tables go faster than they come, and it says so.
            late = SLOW > 1 and "the rules follow when it does" in done.stderr
            assert done.returncode == 0 or late, done.stderr
            return not saboteur.left
        until(spent, lambda: f"{saboteur.left} more tables to delete", 60)
    traffic.judged()
    assert repairs(lab, name) > 0
    assert len(inner.ruleset().splitlines()) == len(rules.splitlines())


def test_rules_of_others_are_no_tampering(own_lab):
    """What a container does with tables of its own is its own affair."""
    lab = plain(own_lab)
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    traffic = Traffic(lab, inner, outside)
    with Events(lab) as events:
        inner.nft("add table inet mine\nadd chain inet mine c { type filter hook input "
                  "priority 0; }\nadd rule inet mine c counter")
        inner.nft("delete table inet mine")
        nft(inner, "flush chain inet nsgate judge_in")  # the audit has come by
        events.take(1, "repaired")
    traffic.judged()
    assert repairs(lab, name) == 1


# As nsgate-broker(8) has it.
SAVE = """nft list tables | grep -v ' nsgate$' | while read -r _ table; do
        nft list table $table
done >"$1"
"""


def test_tables_of_others_are_saved_and_restored(lab):
    """
    A listing of all is refused where ours is owned; where it is not, a flush takes it away, and it
    comes back. What the manual says works, and lasts.
    """
    inner, _ = lab.pair()
    inner.nft("add table inet mine\nadd chain inet mine c { type filter hook input priority 0; }\n"
              "add rule inet mine c tcp dport 1 counter\nadd table ip other")
    before = inner.ruleset()
    name = lab.attach(inner, strict=True, **POLICY)
    saved = f"{lab.dir}/saved.nft"
    inner.exec("sh", "-c", SAVE, "sh", saved)
    attached = inner.ruleset()
    everything = f"{lab.dir}/everything.nft"
    inner.exec("sh", "-c", 'nft list ruleset >"$1"', "sh", everything)
    inner.nft("flush ruleset")
    if owns_tables(lab):
        refused = inner.exec("nft", "-f", everything, check=False)
        # EPERM for each of our rules; where so many errors have no room, the kernel says that. Where
        # a queue is an xt target, nft itself takes no listing of it (since 1.1).
        assert refused.returncode and any(why in refused.stderr for why in (
            "Operation not permitted", "No buffer space", "unsupported xtables compat"))
        assert "table ip other" not in inner.ruleset()  # nothing of it was taken
    inner.exec("nft", "-f", saved)
    intact(inner, attached)
    if owns_tables(lab):
        assert repairs(lab, name) == 0
    else:
        until(lambda: repairs(lab, name) > 0, "the flush to be told")
    lab.detach(name)
    assert sorted(inner.ruleset().split()) == sorted(before.split())


def test_rules_flushed_while_no_broker_runs_are_told(own_lab):
    lab = own_lab.start()
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    traffic = Traffic(lab, inner, outside)
    rules = inner.ruleset()
    # Nobody was there: nothing to tell.
    end(lab.broker)
    lab.start_broker()
    lab.wait_ready()
    assert repairs(lab, name) == 0
    end(lab.broker)
    inner.nft("flush ruleset")
    with Events(lab) as events:
        lab.start_broker()
        event = events.take(1, "repaired")[0]
        assert event["netns"] == name and "no nsgate-broker ran" in event["detail"]
    lab.wait_ready()
    traffic.judged()
    assert traffic.forbidden() == 0
    assert repairs(lab, name) == 1
    intact(inner, rules)
    assert len(repaired_lines(lab, name)) == 1


def tables(netns):
    return sorted(netns.exec("nft", "list", "tables").stdout.splitlines())


@pytest.mark.parametrize("strict", [False, True], ids=["plain", "strict"])
def test_table_that_somebody_owns_is_left_to_him(own_lab, strict):
    """Root inside, while no broker runs, owns tables of our names, which nobody else can change."""
    lab = own_lab.start()
    if not owns_tables(lab):
        pytest.skip("no owned tables")
    inner, outside = lab.pair()
    name = lab.attach(inner, strict=strict, offload=True, **POLICY)
    traffic = Traffic(lab, inner, outside)
    traffic.judged()
    families = ["inet", "netdev"] if strict else ["inet"]
    end(lab.broker)
    thief = inner.popen("nft", "-i", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL)
    for family in families:
        thief.stdin.write(f"delete table {family} nsgate; add table {family} nsgate "
                          "{ flags owner; }\n".encode())
    thief.stdin.flush()
    until(lambda: inner.ruleset().count("flags owner") == len(families), "tables to be his")
    with Events(lab) as events:
        lab.start_broker()
        event = events.take(1, "table.moved")[0]
        assert event["netns"] == name and "another program there owns" in event["detail"]
    lab.wait_ready()
    assert repaired_lines(lab, name, "table.moved")

    # Judged and counted again, in tables that he cannot touch.
    traffic.judged()
    assert traffic.forbidden() == 0
    table = lab.stats(name)["table"]
    assert table.startswith("nsgate-") and table in lab.ctl("show", name).stdout
    assert f"inet {table}" in lab.ctl("stats", name).stdout
    assert f"owns a table nsgate, so the rules are in {table}" in lab.ctl("doctor").stdout
    assert inner.nft(f"delete table inet {table}", check=False).returncode != 0
    assert len(tables(inner)) == 2 * len(families)
    before, sender = lab.books(name)["packets"]["offloaded"], outside.udp()
    for _ in range(3):
        outside.send(INNER, OK, 1, sender=sender)
        time.sleep(0.05)
    until(lambda: lab.books(name)["packets"]["offloaded"] >= before + 2, "flows to be known")

    # The next broker finds them, and leaves nothing beside them.
    ours = [line for line in tables(inner) if "nsgate-" in line]
    end(lab.broker)
    inner.nft("add table inet nsgate-00000001\nadd table inet nsgate-run-1")
    lab.start_broker()
    lab.wait_ready()
    until(lambda: "table inet nsgate-00000001" not in tables(inner), "what is left over to go")
    assert [line for line in tables(inner) if "nsgate-run" not in line and "-" in line] == ours
    assert lab.stats(name)["table"] == table
    traffic.judged()
    assert repairs(lab, name) == 1

    lab.must("detach", name)
    his = [f"table {family} nsgate" for family in families]
    assert tables(inner) == sorted([*his, "table inet nsgate-run-1"])
    end(thief)


class Killer:
    """Ends the broker as soon as it has changed rules, before it runs on: on the same CPU."""

    def __init__(self, lab, netns):
        self.broker = lab.broker
        self.ears = netns.open_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.ears.bind((0, 0))
        self.ears.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        self.ears.settimeout(20)
        os.sched_setaffinity(self.broker.pid, {min(os.sched_getaffinity(0))})
        self.thread = threading.Thread(target=self.wait, daemon=True)
        self.thread.start()

    def wait(self):
        ident = threading.get_native_id()
        os.sched_setaffinity(ident, os.sched_getaffinity(self.broker.pid))
        os.sched_setscheduler(ident, os.SCHED_FIFO, os.sched_param(1))
        self.ears.recv(1 << 16)
        self.broker.kill()

    def done(self):
        self.thread.join(20)
        assert not self.thread.is_alive()
        assert self.broker.wait(10) == -9
        self.ears.close()


def test_broker_that_dies_right_after_a_change_tells_no_tampering(own_lab):
    """The kernel has the new rules, the record the old ones: that was nobody but ourselves."""
    lab = own_lab.start()
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    for turn in range(6):
        policy = lab.policy(**POLICY, hooks=["in"] if turn % 2 else ["in", "out"])
        change = ("namespace", "policy", name, policy) if turn < 5 else ("detach", name)
        killer = Killer(lab, inner)
        with subprocess.Popen([program("nsgatectl"), "--runtime-dir", lab.runtime, *change],
                              stderr=subprocess.DEVNULL) as asking:
            killer.done()
            lab.start_broker()
            lab.wait_ready()
            asking.wait(60)
        until(lambda: lab.stats(name)["state"] == "attached", "the rules to be those asked for")
        assert repairs(lab, name) == 0
    assert not repaired_lines(lab, name)
    Traffic(lab, inner, outside).judged()
    # What others do meanwhile is told all the same.
    end(lab.broker)
    inner.nft("flush ruleset")
    lab.start_broker()
    lab.wait_ready()
    until(lambda: repairs(lab, name) == 1, "it to be told")


def test_queue_bound_while_both_are_away_is_left_to_whoever_bound_it(own_lab):
    """Its packets go to another queue, at once, and that is told."""
    lab = own_lab.start()
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    traffic = Traffic(lab, inner, outside)
    traffic.judged()
    end(lab.agent)
    end(lab.broker)
    thief = Consumer(inner, QUEUE)  # accepts everything
    outside.send(INNER, NO, 1)
    until(lambda: traffic.forbidden() == 1, "the gap to show")  # the documented one
    lab.start_agent()
    with Events(lab) as events:
        lab.start_broker()
        event = events.take(1, "queue.moved")[0]
        assert event["netns"] == name and f"queue {QUEUE} " in event["detail"]
    lab.wait_ready()
    traffic.judged()
    assert traffic.forbidden() == 1
    document = lab.stats(name)
    assert document["queue"]["first"] > QUEUE
    assert document["repairs"] == 1 and document["state"] == "attached"
    assert f"queue {document['queue']['first']} " in event["detail"]
    thief.close()
    # It is where it is: the next ones find it there.
    end(lab.agent)
    end(lab.broker)
    lab.start_agent()
    lab.start_broker()
    lab.wait_ready()
    traffic.judged()
    assert lab.stats(name)["queue"]["first"] == document["queue"]["first"]
    assert lab.stats(name)["repairs"] == 1
    lab.detach(name)
    assert inner.ruleset() == ""


def test_queue_cannot_be_bound_while_one_of_them_lives(own_lab):
    lab = own_lab.start()
    inner, outside = lab.pair()
    lab.attach(inner, **POLICY)
    traffic = Traffic(lab, inner, outside)

    def bind():
        with pytest.raises(OSError):
            Consumer(inner, QUEUE)

    bind()
    end(lab.agent)
    bind()
    lab.start_agent()
    lab.wait_ready()
    end(lab.broker)
    bind()
    lab.start_broker()
    lab.wait_ready()
    bind()
    traffic.judged()


def test_taken_queue_refuses_the_attachment(lab):
    inner, _ = lab.pair()
    taken = Consumer(inner, QUEUE)
    done = lab.ctl("attach", f"netns:{inner}", "--policy", lab.policy(**POLICY))
    assert done.returncode == 1 and f"queue {QUEUE} is taken" in done.stderr
    assert inner.ruleset() == ""
    taken.close()


def test_links_down_and_up_change_nothing(lab):
    """Both families, judged before, between and after; nothing forbidden passes."""
    inner, outside = lab.pair()
    name = lab.attach(inner, strict=True, **POLICY)
    traffic = Traffic(lab, inner, outside)
    rules = inner.ruleset()
    for _ in range(3):
        inner.ip("link", "set", "eth0", "down")
        inner.ip("link", "set", "eth0", "up")
        # The address of IPv6 goes with the link, and the neighbours with it.
        inner.ip("addr", "replace", f"{INNER6}/64", "dev", "eth0", "nodad")
        until(lambda: "LOWER_UP" in outside.ip("link", "show", "eth0").stdout, "the link")
        traffic.judged()
    assert traffic.forbidden() == 0
    assert inner.ruleset() == rules
    assert repairs(lab, name) == 0


def test_tamper_floods_are_told_twice_a_second(own_lab):
    """All of it is counted; a loop of flushes fills neither log nor events."""
    lab = plain(own_lab)
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    started = time.monotonic()
    with Events(lab, f"?netns={name}") as events:
        for _ in range(100):
            inner.nft("flush ruleset")
        events.take(1, "repaired")
    Traffic(lab, inner, outside).judged()

    def told():
        return lab.log("nsgate-agent").count(f"event=repaired netns={name} ")

    lines = len(repaired_lines(lab, name))
    eventually(lambda: repairs(lab, name) >= lines or pytest.fail("not all is counted"))
    elapsed = time.monotonic() - started
    assert 1 <= told() <= 2 * elapsed + 1
    assert lines <= 5 * (int(elapsed) + 2)  # five in each second of the clock
    assert repairs(lab, name) >= told()
    json.dumps(lab.stats(name))


# ---- how long they are gone ----

BIG = "\n".join(["add table inet big", "add chain inet big c"] +
                [f"add rule inet big c ip daddr 192.0.2.{n % 250} tcp dport {n + 1} counter accept"
                 for n in range(1000)])
FLUSHES = 10


def install_seconds(lab, name):
    """What a change of rules takes on this machine, as busy as it is: the longest of a few."""
    took = []
    for hooks in (["in"], ["in", "out"]) * 3:
        policy = lab.policy(**POLICY, hooks=hooks)
        started = time.monotonic()
        lab.must("--timeout", "60", "namespace", "policy", name, policy)
        took.append(time.monotonic() - started)
    return max(took)


def open_after(lab, inner, outside, tampering):
    """
    Forbidden packets are sent, one each millisecond, while the rules are taken away every quarter of
    a second, or four times as often as they can be changed where that takes longer. Return: the
    seconds from the first packet that passed to the last, of each time, added up; of how many; and
    how many passed, of how many. Seconds, as a slow machine sends more where packets pass than where
    they are judged.
    """
    pause = max(0.25, 4 * install_seconds(lab, inner.name))
    arrived = Arrivals(inner, NO, families=(socket.AF_INET,))
    sender = outside.udp()
    sent, starts = [], []
    for _ in range(FLUSHES):
        starts.append(time.monotonic())
        process = inner.popen("nft", "-f", "-", stdin=-1)
        process.stdin.write(tampering.encode())
        process.stdin.close()
        while process.poll() is None or time.monotonic() < starts[-1] + pause:
            sender.sendto(struct.pack("=I", len(sent)), (INNER, NO))
            sent.append(time.monotonic())
            time.sleep(0.001)
        assert process.returncode == 0
        inner.open_things.remove(process)
    seconds = time.monotonic() - starts[0]
    eventually(lambda: lab.expect(inner.name, {"queue.pending": 0}))
    arrived.drain(keep=True)
    passed = [sent[struct.unpack("=I", data)[0]] for data in arrived.payloads[NO, 4]]
    arrived.close()
    times = [[t for t in passed if start <= t < end]
             for start, end in zip(starts, [*starts[1:], sent[-1] + 1])]
    return sum(max(t) - min(t) for t in times if t), seconds, len(passed), len(sent)


@pytest.mark.parametrize("tampering", ["flush ruleset", f"{BIG}\nflush ruleset"],
                         ids=["flush", "overrun"])
def test_a_flush_lets_next_to_nothing_pass(own_lab, tampering):
    """The kernel tells the broker, also where it has more to tell than its socket holds."""
    lab = plain(own_lab)
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    opened, seconds, passed, sent = open_after(lab, inner, outside, tampering)
    print(f"{passed} of {sent} forbidden packets passed, {FLUSHES} flushes, "
          f"{opened:.3f} of {seconds:.1f} s")
    until(lambda: repairs(lab, name) >= FLUSHES - 1, "the repairs to be told")
    assert 4 * opened < seconds  # with looks twice a second: nearly all
    Traffic(lab, inner, outside).judged()


SYS_PIDFD_GETFD = 438
DROP_MEMBERSHIP = 2


def listeners(netns):
    """Inodes of the sockets there that get news of rules."""
    with netns.inside(), open("/proc/thread-self/net/netlink", encoding="ascii") as file:
        rows = [line.split() for line in file][1:]
    return {row[9] for row in rows
            if int(row[1]) == NETLINK_NETFILTER and int(row[3], 16) >> NFNLGRP_NFTABLES - 1 & 1}


def make_deaf(lab, netns):
    """The broker's socket there gets no more news."""
    wanted = listeners(netns)
    assert len(wanted) == 1
    pidfd = os.pidfd_open(lab.broker.pid)
    for fd in os.listdir(f"/proc/{lab.broker.pid}/fd"):
        if os.readlink(f"/proc/{lab.broker.pid}/fd/{fd}") == f"socket:[{min(wanted)}]":
            copy = libc.syscall(SYS_PIDFD_GETFD, pidfd, int(fd), 0)
            assert copy >= 0
            with socket.socket(fileno=copy) as monitor:
                monitor.setsockopt(SOL_NETLINK, DROP_MEMBERSHIP, NFNLGRP_NFTABLES)
    os.close(pidfd)


def test_without_news_of_rules_they_are_looked_at_all_the_same(own_lab):
    lab = plain(own_lab)
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    make_deaf(lab, inner)
    with Events(lab, f"?netns={name}") as events:
        inner.nft("flush ruleset")
        events.take(1, "repaired")
    Traffic(lab, inner, outside).judged()
    assert repairs(lab, name) == 1


def test_news_of_rules_is_wanted_only_where_tables_are_not_owned(own_lab):
    """It takes a descriptor for each namespace, a new one after a restart; none stays behind."""
    lab = own_lab.start()
    for options, count in ((), int(not owns_tables(lab))), (("--no-owned-tables",), 1):
        end(lab.broker)
        lab.start_broker(*options)
        lab.wait_ready()
        before = lab.fds()
        inner, _ = lab.pair()
        name = lab.attach(inner, **POLICY)
        assert len(listeners(inner)) == count
        end(lab.broker)
        lab.start_broker(*options)
        lab.wait_ready()
        assert len(listeners(inner)) == count
        lab.detach(name)
        lab.wait_fds(before)
        until(lambda n=inner: not listeners(n), "the last socket to be closed")
