# SPDX-License-Identifier: GPL-2.0-or-later
"""The units under a real systemd: what they promise is kept, and what they may do is little."""
import contextlib
import os
import re
import signal
import time

import pytest

import ipc
from lab import Arrivals, freeze, until
from machine import PATIENCE, SERVICES, SOCKETS, children
from test_restarts import POLICY, Stream
from test_targets import LO_POLICY, judge_on_loopback, process

BROKER, AGENT = SERVICES
CAP_NET_ADMIN = 1 << 12
ENTERING = CAP_NET_ADMIN | 1 << 19 | 1 << 21  # CAP_SYS_PTRACE, CAP_SYS_ADMIN
EXPOSURE = {AGENT: 1.0, BROKER: 3.5}


def attached(lab, **policy):
    """A namespace under a policy, a neighbour to talk to it, and the name."""
    inner, outside = lab.pair()
    name = lab.attach(inner, **(policy or POLICY))
    lab.machine.wait_stored(2)  # or systemd would not know whose it is if the broker were killed
    return inner, outside, name


def facts(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def wait_new_pid(machine, unit, before):
    def new():
        pid = machine.main_pid(unit)
        return pid if pid and pid != before else None
    return until(new, f"{unit} to be started again", PATIENCE)


def kill_both(machine):
    """At once, as it were. Return: their pids."""
    pids = {unit: machine.main_pid(unit) for unit in SERVICES}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    return pids


def wait_both(machine, lab, before):
    for unit, pid in before.items():
        wait_new_pid(machine, unit, pid)
    lab.wait_ready()


# ---- what is there after a boot ----


def test_units_come_up_with_the_machine(machine, lab):
    for unit in (*SERVICES, *SOCKETS):
        assert machine.show(unit, "ActiveState") == "active", unit
    assert machine.systemctl("--failed", "--no-legend").stdout == ""
    until(lambda: machine.show(BROKER, "StatusText") == "0 attached, agent connected",
          lambda: machine.show(BROKER, "StatusText"))
    until(lambda: machine.show(AGENT, "StatusText") == "0 attached, broker connected",
          lambda: machine.show(AGENT, "StatusText"))


def test_units_are_well_formed(machine):
    done = machine.run("systemd-analyze", "verify", "--man=no", *SERVICES, *SOCKETS, check=False)
    complaints = [line for line in done.stderr.splitlines() if "nsgate" in line]
    assert done.returncode == 0 and not complaints, done.stderr


def test_user_and_directories_are_made(machine):
    user = machine.run("id", "nsgate").stdout
    uid = re.match(r"uid=(\d+)\(nsgate\) gid=\d+\(nsgate\) groups=\d+\(nsgate\)$", user.strip())
    assert uid and 0 < int(uid[1]) < 1000, user
    for path, owner in (("/run/nsgate", 0), ("/etc/nsgate", 0),
                        ("/etc/nsgate/policies", int(uid[1]))):
        found = os.stat(machine.path(path))
        assert (found.st_uid, found.st_mode & 0o7777) == (owner, 0o755), path


@pytest.mark.parametrize("unit", SERVICES)
@pytest.mark.parametrize("offline", [False, True])
def test_exposure(machine, unit, offline):
    """By the running manager's account, and by that of the file alone."""
    what = ("--offline=true", f"/usr/lib/systemd/system/{unit}") if offline else (unit,)
    text = machine.run("systemd-analyze", "security", "--no-pager", *what).stdout
    exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", text)[1])
    assert exposure <= EXPOSURE[unit], text


def test_rootless_containers_are_attached(machine, lab):
    """The broker opens as their owner what it may not open itself; the unit lets it."""
    with process("setpriv", "--reuid=4444", "--regid=4444", "--clear-groups", "unshare", "-Ur",
                 "unshare", "-n") as child:
        # nsgatectl in the machine has other pids.
        pidfd = os.pidfd_open(child.pid)
        client = ipc.Client(lab)
        answer = client.ask(ipc.message(ipc.ATTACH, ipc.attach_body(
            "rootless", lab.policy(**LO_POLICY), f"pid:{child.pid}", ipc.TARGET_PID)), [pidfd])
        client.close()
        os.close(pidfd)
        assert answer == (0, "")
        judge_on_loopback(lab, "rootless", f"/proc/{child.pid}/ns/net")


def test_agent_is_its_own_user_with_one_capability(machine, lab):
    uid = int(machine.run("id", "-u", "nsgate").stdout)
    pid = machine.main_pid(AGENT)
    for task in os.listdir(f"/proc/{pid}/task"):
        found = facts(f"{pid}/task/{task}")
        assert found["Uid"].split() == [str(uid)] * 4
        for caps in ("CapPrm", "CapEff", "CapBnd"):
            assert int(found[caps], 16) == CAP_NET_ADMIN, caps
        assert int(found["CapAmb"], 16) == 0
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert os.readlink(f"/proc/{pid}/ns/net") not in (
        os.readlink(f"/proc/{machine.leader}/ns/net"), os.readlink("/proc/self/ns/net"))


def test_broker_keeps_one_capability_and_its_helper_three(machine, lab):
    pid = machine.main_pid(BROKER)
    helper, = children(pid)
    for pid, mask in ((pid, CAP_NET_ADMIN), (helper, ENTERING)):
        found = facts(pid)
        for caps in ("CapPrm", "CapEff"):
            assert int(found[caps], 16) == mask, caps
        assert int(found["CapBnd"], 16) == ENTERING
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


# ---- packets ----


def test_policy_and_attachment(machine, lab):
    """Also: what is mounted after the broker's start is seen by it, and its end is."""
    inner, outside, name = attached(lab)
    arrivals = Arrivals(inner, 7, 8)
    outside.send("10.77.0.1", 7, 20)
    outside.send("10.77.0.1", 8, 10)
    arrivals.wait({(7, 4): 20})
    lab.expect(name, {"packets.accepted": 20, "packets.dropped": 10})
    assert arrivals.seen[8, 4] == 0
    machine.wait_stored(2)
    arrivals.close()
    inner.close()
    machine.run("ip", "netns", "del", inner.name)
    until(lambda: not lab.names(), "the end of the namespace to be noticed")
    machine.wait_stored(0)
    # Nobody holds it any more: with it the other end of its link goes.
    until(lambda: "eth0" not in outside.ip("link", "show").stdout, "the namespace to be destroyed")


@pytest.mark.parametrize("unit", SERVICES)
def test_restart_of_one(machine, lab, unit):
    inner, outside, name = attached(lab)
    with Stream(lab, outside, inner) as stream:
        for _ in range(3):
            before = machine.main_pid(unit)
            machine.systemctl("restart", unit)
            assert machine.main_pid(unit) != before
            stream.flow()
        stream.complete()
    lab.wait_ready()
    books = lab.books(name)
    assert books["packets"]["accepted"] == stream.sent
    machine.wait_stored(2)


def test_kill_of_both_loses_nothing_that_waits(machine, lab):
    """Neither what the agent had read, nor what it had not."""
    inner, outside, name = attached(lab)
    arrivals = Arrivals(inner, 7, 8)
    pending = inner.pending()
    freeze(machine.main_pid(AGENT))
    outside.send("10.77.0.1", 7, 500)
    outside.send("10.77.0.1", 8, 100)
    until(lambda: pending() == 600, lambda: f"{pending()} packets to wait")
    with machine.override(BROKER, "RestartSec=5"):
        killed = kill_both(machine)
        until(lambda: not machine.main_pid(BROKER), "the broker to be dead")
        # Nobody of ours is there: the queue lives, and the table has an owner.
        assert pending() == 600
        rules = inner.ruleset()
        assert inner.nft("delete table inet nsgate", check=False).returncode != 0
        inner.nft("flush ruleset", check=False)
        assert inner.ruleset() == rules and "judge_in" in rules
        assert not machine.main_pid(BROKER)
        wait_both(machine, lab, killed)
    arrivals.wait({(7, 4): 500})
    lab.expect(name, {"packets.accepted": 500, "packets.dropped": 100, "queue.flushed": 0,
                      "queue.dropped": 0})
    assert arrivals.seen[8, 4] == 0
    outside.send("10.77.0.1", 8, 10)
    lab.expect(name, {"packets.dropped": 110})
    machine.wait_stored(2)
    assert "from=fdstore" in machine.journal(BROKER)


def test_kill_of_both_under_load(machine, lab):
    inner, outside, name = attached(lab)
    with Stream(lab, outside, inner) as stream:
        for _ in range(5):
            wait_both(machine, lab, kill_both(machine))
            stream.flow()
        stream.complete()
    books = lab.books(name)
    assert books["packets"]["accepted"] >= stream.sent
    assert books["queue"]["dropped"] == 0
    arrivals = Arrivals(inner, 8)
    outside.send("10.77.0.1", 8, 10)
    lab.expect(name, {"packets.dropped": books["packets"]["dropped"] + 10})
    assert arrivals.total() == 0


def test_kill_of_both_where_the_policy_is_open(machine, lab):
    """The queue outlives them, so somebody has to open it: the broker, before there is an agent."""
    inner, outside, name = attached(lab, on_agent_down="open", **POLICY)
    arrivals = Arrivals(inner, 8)
    with machine.override(AGENT, "RestartSec=1h"):
        killed = kill_both(machine)
        wait_new_pid(machine, BROKER, killed[BROKER])

        def passes():
            outside.send("10.77.0.1", 8, 1)
            return arrivals.total()
        until(passes, "packets to pass while there is no agent", PATIENCE)
    machine.systemctl("restart", AGENT)
    lab.wait_ready()
    until(lambda: not lab.stats(name)["queue"]["pending"], "what waits to be judged")
    dropped = lab.stats(name)["packets"]["dropped"]
    passed = arrivals.total()
    outside.send("10.77.0.1", 8, 10)
    until(lambda: lab.stats(name)["packets"]["dropped"] == dropped + 10, "ten to be dropped")
    assert arrivals.total() == passed


def test_what_ended_while_both_were_dead_is_let_go(machine, lab):
    """The store keeps the namespace alive until the broker has looked."""
    inner, outside, _ = attached(lab)
    inner.close()
    with machine.override(BROKER, "RestartSec=1"):
        killed = kill_both(machine)
        machine.run("ip", "netns", "del", inner.name)
        wait_both(machine, lab, killed)
    until(lambda: machine.stored() == 0 and not lab.names(), "it to be let go")
    until(lambda: "eth0" not in outside.ip("link", "show").stdout, "the namespace to be destroyed")


# ---- what systemd can tell them ----


def test_reload(machine, lab):
    pid = machine.main_pid(AGENT)
    machine.write("/etc/nsgate/policies/new.json", '{"version": 1, "default": "drop"}')
    machine.systemctl("reload", AGENT)
    until(lambda: machine.show(AGENT, "ActiveState") == "active", "the reload to end")
    until(lambda: "new" in [p["name"] for p in lab.get("/v1/policies")["policies"]],
          "the policy to be read")
    assert machine.main_pid(AGENT) == pid


def test_watchdog_restarts_an_agent_that_hangs(machine, lab):
    with machine.override(AGENT, "WatchdogSec=1"):
        machine.systemctl("restart", AGENT)
        lab.wait_ready()
        inner, outside, name = attached(lab)
        arrivals = Arrivals(inner, 7)
        pid = machine.main_pid(AGENT)
        freeze(pid)
        outside.send("10.77.0.1", 7, 100)
        wait_new_pid(machine, AGENT, pid)
        arrivals.wait({(7, 4): 100})
        lab.wait_ready()
        lab.expect(name, {"packets.accepted": 100})
        # The one that came is well: it is left alone for longer than it may hang.
        pid = machine.main_pid(AGENT)
        begun = time.monotonic()
        while time.monotonic() - begun < 3:
            outside.send("10.77.0.1", 7, 10)
            assert machine.main_pid(AGENT) == pid
    machine.systemctl("restart", AGENT)
    assert "Watchdog timeout" in machine.journal(AGENT)


def test_watchdog_restarts_a_broker_that_hangs(machine, lab):
    with machine.override(BROKER, "WatchdogSec=1"):
        machine.systemctl("restart", BROKER)
        lab.wait_ready()
        pid = machine.main_pid(BROKER)
        freeze(pid)
        wait_new_pid(machine, BROKER, pid)
    machine.systemctl("restart", BROKER)
    lab.wait_ready()
    inner, _, _ = attached(lab)
    lab.detach(inner.name)


def test_sockets_start_the_services(machine, lab):
    """Either daemon is started by who asks for it, and the two find each other."""
    for ask in (("ls",), ("attach", "self", "--name", "none", "--policy", "none")):
        machine.systemctl("stop", *SERVICES)
        for unit in SERVICES:
            assert machine.show(unit, "ActiveState") == "inactive"
        lab.ctl(*ask)
        for unit in SERVICES:
            until(lambda u=unit: machine.show(u, "ActiveState") == "active", f"{unit} to be up")
        lab.wait_ready()


def test_agent_that_is_stopped_stays_so(machine, lab):
    """Though the broker tries to reach it; packets wait."""
    inner, outside, _ = attached(lab)
    machine.systemctl("stop", AGENT)
    pending = inner.pending()
    outside.send("10.77.0.1", 7, 10)
    until(lambda: pending() == 10, "packets to wait")
    until(lambda: machine.show(BROKER, "StatusText") == "1 attached, agent away", "it to be missed")
    assert machine.show(AGENT, "ActiveState") == "inactive"
    assert machine.show("nsgate-link.socket", "ActiveState") == "inactive"
    arrivals = Arrivals(inner, 7)
    machine.systemctl("start", AGENT)
    arrivals.wait({(7, 4): 10})


def test_stop_of_the_broker_gives_the_store_up_and_the_agent_goes_on(machine, lab):
    """systemd keeps nothing for a service that is stopped; the agent has the queue."""
    inner, outside, name = attached(lab)
    arrivals = Arrivals(inner, 7)
    machine.systemctl("stop", "nsgate-broker.socket", BROKER)
    outside.send("10.77.0.1", 7, 50)
    arrivals.wait({(7, 4): 50})
    machine.systemctl("start", BROKER)
    lab.wait_ready()
    outside.send("10.77.0.1", 7, 50)
    arrivals.wait({(7, 4): 100})
    lab.expect(name, {"packets.accepted": 100})
    machine.wait_stored(2)


def test_many_are_stored_and_let_go(machine, lab):
    """As many datagrams at once as systemd's socket does not hold."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(20):
            inner = lab.netns()
            made.append(inner.name)
            stack.callback(inner.close)
        policy = lab.policy(**POLICY)
        for name in made:
            lab.must("attach", f"netns:{name}", "--name", name, "--policy", policy, "--queues", "8")
        machine.wait_stored(20 * 9)
        wait_both(machine, lab, kill_both(machine))
        assert sorted(lab.names()) == sorted(made)
        machine.wait_stored(20 * 9)
        for name in made:
            lab.detach(name)
        machine.wait_stored(0)
