# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemons may still do, read from /proc while they are at work."""
import contextlib
import os
import pwd
import re
import signal
import socket
import struct
import subprocess

import ipc
import pytest
from lab import Arrivals, program, run, until

CAP_NET_ADMIN = 1 << 12


def status(pid, task=None):
    path = f"/proc/{pid}/task/{task}/status" if task else f"/proc/{pid}/status"
    with open(path, encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def held(pid):
    """What its descriptors lead to."""
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return links


def at_work(lab):
    inner, outside = lab.pair()
    lab.attach(inner, default="accept")
    arrived = Arrivals(inner, 7)
    outside.send("10.77.0.1", 7, 10)
    arrived.wait(10)


def test_agent_is_confined_in_every_thread(lab):
    at_work(lab)
    pid = lab.agent.pid
    nobody = pwd.getpwnam("nobody")
    tasks = os.listdir(f"/proc/{pid}/task")
    assert len(tasks) >= 2
    for task in tasks:
        facts = status(pid, task)
        assert facts["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert facts["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert facts["Groups"].strip() == ""
        for caps in ("CapPrm", "CapEff", "CapBnd"):
            assert int(facts[caps], 16) == CAP_NET_ADMIN, (task, caps)
        assert int(facts["CapInh"], 16) == int(facts["CapAmb"], 16) == 0
        assert facts["NoNewPrivs"] == "1"
        assert facts["Seccomp"] == "2"


def test_workers_choose_how_they_share_a_cpu(lab):
    """Confined as they are, they see how long they wait, and were let choose."""
    pid = lab.agent.pid
    if not int(open("/proc/self/schedstat", encoding="ascii").read().split()[2]):
        pytest.skip("this kernel does not count")
    workers = [task for task in os.listdir(f"/proc/{pid}/task")
               if re.match(r"nsgate/\d", open(f"/proc/{pid}/task/{task}/comm", encoding="ascii").read())]
    links = held(pid)
    for task in workers:
        assert f"/proc/{pid}/task/{task}/schedstat" in links
        assert os.sched_getscheduler(int(task)) in (os.SCHED_BATCH, os.SCHED_OTHER)
    assert os.sched_getscheduler(pid) == os.SCHED_OTHER


def test_agent_is_in_an_empty_namespace_of_its_own(lab):
    at_work(lab)
    pid = lab.agent.pid
    own = os.readlink(f"/proc/{pid}/ns/net")
    assert own != os.readlink("/proc/self/ns/net")
    for netns in lab.namespaces:
        assert own != f"net:[{os.stat(netns.path).st_ino}]"
    with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
        assert [line.split(":")[0].strip() for line in file if ":" in line] == ["lo"]
    done = run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-o", "addr")
    assert done.stdout == ""


def test_agent_cannot_be_traced_nor_looked_at_by_its_user(lab):
    done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ls",
               f"/proc/{lab.agent.pid}/fd", check=False)
    assert done.returncode != 0


def test_agent_holds_no_descriptor_that_enters_a_namespace(lab):
    at_work(lab)
    assert not [link for link in held(lab.agent.pid)
                if link.startswith(("net:", "/run/netns", "mnt:"))]


def keeps_only(pid, allowed):
    facts = status(pid)
    for caps in ("CapPrm", "CapEff", "CapBnd"):
        assert int(facts[caps], 16) & ~allowed == 0, caps
    assert int(facts["CapInh"], 16) == int(facts["CapAmb"], 16) == 0
    assert facts["NoNewPrivs"] == "1" and facts["Seccomp"] == "2"
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    assert run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-o", "addr").stdout == ""


def test_broker_keeps_one_capability_in_an_empty_namespace(lab):
    at_work(lab)
    keeps_only(lab.broker.pid, CAP_NET_ADMIN)


def children(pid, name):
    """Those processes of that name that it started itself."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        pids = [int(word) for word in file.read().split()]
    return [child for child in pids if status(child)["Name"] == name]


def test_nsgate_enter_alone_may_enter(lab):
    """And has nothing but the broker's end of a socket to hear from."""
    at_work(lab)
    [enter] = children(lab.broker.pid, "nsgate-enter")
    keeps_only(enter, CAP_NET_ADMIN | 1 << 21 | 1 << 19)  # SYS_ADMIN, SYS_PTRACE
    assert int(status(enter)["CapEff"], 16) & 1 << 21
    assert [link.split(":")[0] for link in held(enter)
            if not link.startswith((lab.dir, "/dev/null"))] == ["socket"]


def test_broker_and_nsgate_enter_end_together(own_lab):
    lab = own_lab
    lab.start_broker()
    [enter] = children(lab.broker.pid, "nsgate-enter")
    os.kill(enter, 9)
    assert lab.broker.wait(10) == 1
    assert "event=enter.gone" in lab.log("nsgate-broker")
    lab.start_broker()
    [enter] = children(lab.broker.pid, "nsgate-enter")
    os.kill(lab.broker.pid, 9)
    until(lambda: not os.path.exists(f"/proc/{enter}"), "nsgate-enter to end")


def test_nsgate_enter_is_not_run_by_hand():
    done = run(program("nsgate-enter"), check=False)
    assert done.returncode == 2 and "nsgate-broker" in done.stderr


def test_sockets_are_closed_to_strangers(lab):
    for name, mode in (("agent.sock", 0o600), ("api.sock", 0o660), ("stats.sock", 0o660)):
        facts = os.stat(f"{lab.runtime}/{name}")
        assert facts.st_mode & 0o777 & ~mode == 0, name
        assert facts.st_uid == 0
    assert os.stat(lab.runtime).st_mode & 0o022 == 0


FALSE_AGENT = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
listener.settimeout(20)
listener.listen()
print(listener.accept()[0].recv(64), flush=True)
"""


def test_broker_knows_a_false_agent(own_lab):
    """One that somebody else put into a directory where everybody may write."""
    lab = own_lab
    os.mkdir(lab.runtime)
    os.chmod(lab.runtime, 0o1777)
    with subprocess.Popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                           "/usr/bin/python3", "-c", FALSE_AGENT, f"{lab.runtime}/agent.sock"],
                          stdout=subprocess.PIPE) as false:
        until(lambda: os.path.exists(f"{lab.runtime}/agent.sock"), "the false one")
        lab.start_broker()
        assert false.stdout.readline() == b"b''\n"  # it was not even greeted
        assert false.wait(20) == 0
    until(lambda: re.search("event=agent.untrusted uid=65534", lab.log("nsgate-broker")),
          "the broker to say so")


def agent_side(listener):
    """An agent that holds nothing, and has heard that it is asked for nothing."""
    agent = listener.accept()[0]
    agent.settimeout(10 * ipc.SLOW)
    agent.send(ipc.message(ipc.HELLO, struct.pack("=II", 0, 0)))
    agent.send(ipc.message(ipc.HELD_END))
    kinds = []
    while ipc.HELD_END not in kinds:
        kinds.append(struct.unpack("=IHHII", agent.recv(65536)[:16])[2])
    return agent


def rules_for(cookie):
    rules = struct.pack("=IIII96x", 1 << 1, 0, 1, 0)
    return ipc.message(ipc.NS_RULES, struct.pack("=Q", cookie) + rules + b"p".ljust(64, b"\0"))


def test_agent_has_no_say_in_what_it_was_not_told_of(own_lab):
    """A namespace that is being opened has no cookie yet: the agent cannot mean it."""
    lab = own_lab
    os.mkdir(lab.runtime, 0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{lab.runtime}/agent.sock")
        listener.settimeout(20)
        listener.listen()
        lab.start_broker()
        with agent_side(listener) as agent, contextlib.closing(ipc.Client(lab)) as client:
            [enter] = children(lab.broker.pid, "nsgate-enter")
            os.kill(enter, signal.SIGSTOP)
            with open(lab.netns().path, "rb") as netns:
                client.send(ipc.message(ipc.ATTACH, ipc.attach_body("early", "p")), [netns.fileno()])
            client.send(ipc.message(ipc.PROBE))
            assert client.receive()[0] == ipc.FEATURES  # so the other was read, too
            agent.send(rules_for(0))
            agent.send(ipc.message(ipc.PING, ident=77))
            said = struct.unpack("=IHHII", agent.recv(65536)[:16])
            assert (said[2], said[4]) == (ipc.REPLY, 77)
            os.kill(enter, signal.SIGCONT)
            assert struct.unpack("=IHHII", agent.recv(65536)[:16])[2] == ipc.NS_ADD


def test_agent_refuses_to_stay_root(own_lab):
    child = own_lab.spawn("nsgate-agent", "--user", "root")
    assert child.wait(10) == 2
    assert "root" in own_lab.log("nsgate-agent")


def test_daemons_without_root_say_so_in_a_line(own_lab):
    os.chmod(own_lab.dir, 0o777)
    for name in ("nsgate-agent", "nsgate-broker"):
        done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                   program(name), "--runtime-dir", own_lab.dir + "/r2",
                   "--config-dir", own_lab.config, check=False)
        assert done.returncode == 5
        assert len(done.stderr.splitlines()) == 1 and "root" in done.stderr
