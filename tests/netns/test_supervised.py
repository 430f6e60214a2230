# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a service manager is told, and what it keeps and passes on. The manager here is a few lines
that play systemd's part; tests/systemd has the real one.
"""
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from lab import OLDER, QUEUE, Arrivals, answers, end, freeze, program, run, until
from nfqueue import Consumer
from test_restarts import POLICY, Stream

# Moves the descriptors that it was passed to 3 and on, says whom they are for, and becomes it.
LAUNCHER = """
import fcntl, os, sys
fds, names = eval(sys.argv[1])
high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 1000) for fd in fds]
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number)
if fds:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)),
                      LISTEN_FDNAMES=":".join(names))
if "WATCHDOG_USEC" in os.environ:
    os.environ.setdefault("WATCHDOG_PID", str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Service:
    """A daemon, started again and again, with what it has stored."""

    def __init__(self, lab, name, *args, watchdog_us=None, build=None, through=()):
        self.lab = lab
        self.through = through  # the command that starts it
        self.build = build  # where the program is; None: where all are
        self.name = name
        self.args = args
        self.messages = []
        self.store = {}  # name -> descriptor
        self.sockets = {}
        self.path = f"{lab.dir}/{name}.notify"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(self.path)
        self.notify.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": self.path}
        if watchdog_us:
            self.environment["WATCHDOG_USEC"] = str(watchdog_us)
        self.process = None

    def listen(self, name, kind):
        made = socket.socket(socket.AF_UNIX, kind)
        os.makedirs(self.lab.runtime, exist_ok=True)
        made.bind(f"{self.lab.runtime}/{name}")
        made.listen()
        self.sockets[name] = made

    def start(self, wait=True):
        passed = {name: made.fileno() for name, made in self.sockets.items()} | self.store
        path = os.path.join(self.build, self.name) if self.build else program(self.name)
        command = [*self.through, path, "--runtime-dir", self.lab.runtime, "--config-dir",
                   self.lab.config, *self.args]
        with open(f"{self.lab.dir}/{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER,
                 repr((list(passed.values()), list(passed))), *command],
                pass_fds=list(passed.values()), env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        with open(f"{self.lab.dir}/pids", "a", encoding="ascii") as file:
            file.write(f"{self.process.pid}\n")
        self.lab.children.append(self.process)
        self.messages.clear()
        if wait:
            self.wait_for("READY=1")
        return self

    def read(self):
        """Take in what was said; keep and drop descriptors as asked."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.notify, 4096, 8)
            except BlockingIOError:
                return self.messages
            said = dict(line.split("=", 1) for line in data.decode().splitlines())
            self.messages.append(said)
            if "FDSTORE" in said:
                assert said["FDPOLL"] == "0" and len(fds) == 1
                # systemd has a closer look and recognizes what it has
                if said["FDNAME"] in self.store:
                    os.close(fds[0])
                else:
                    self.store[said["FDNAME"]] = fds[0]
            elif "FDSTOREREMOVE" in said and said["FDNAME"] in self.store:
                os.close(self.store.pop(said["FDNAME"]))

    def wait_for(self, *lines):
        """Until these were said, in this order."""
        def said():
            self.read()
            left = list(lines)
            for message in self.messages:
                if left and left[0] in [f"{k}={v}" for k, v in message.items()]:
                    left.pop(0)
            return not left
        until(said, lambda: f"{lines}; it said {self.messages}")

    def kill(self, sig=signal.SIGKILL):
        code = end(self.process, sig)
        self.read()
        return code

    def close(self):
        for fd in self.store.values():
            os.close(fd)
        for made in self.sockets.values():
            made.close()
        self.notify.close()


@pytest.fixture
def services(own_lab):
    """(lab, broker, agent), both running"""
    broker = Service(own_lab, "nsgate-broker")
    agent = Service(own_lab, "nsgate-agent", "--user", "nobody")
    try:
        own_lab.broker = broker.start().process
        own_lab.agent = agent.start().process
        own_lab.wait_ready()
        yield own_lab, broker, agent
    finally:
        broker.close()
        agent.close()


def restart(lab, *dead):
    for service in dead:
        service.start()
        setattr(lab, service.name.split("-")[1], service.process)
    lab.wait_ready()


def stored(broker, count):
    def enough():
        broker.read()
        return len(broker.store) == count
    until(enough, lambda: f"{count} descriptors to be stored; there are {broker.store}")


# ---- what they say ----


def test_states_are_told(services):
    lab, broker, agent = services
    inner = lab.netns()
    lab.attach(inner, **POLICY)
    broker.wait_for("READY=1", "STATUS=1 attached, agent connected")
    agent.wait_for("READY=1", "STATUS=1 attached, broker connected")
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_for("READY=1", "RELOADING=1", "READY=1")
    reloading = next(m for m in agent.messages if "RELOADING" in m)
    assert 0 < int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert agent.kill(signal.SIGTERM) == 0
    agent.wait_for("READY=1", "STOPPING=1")
    broker.wait_for("STATUS=1 attached, agent away")
    assert broker.kill(signal.SIGTERM) == 0
    broker.wait_for("READY=1", "STOPPING=1")


PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000  # __WALL of waitpid(2): threads, too


class Held:
    """One thread of a process, stopped for a while; the others go on."""

    def __init__(self, tid):
        self.tid = tid
        self.libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(self, request):
        done = self.libc.ptrace(ctypes.c_long(request), ctypes.c_long(self.tid), None, None)
        assert done == 0, os.strerror(ctypes.get_errno())

    def __enter__(self):
        self.ptrace(PTRACE_SEIZE)
        self.ptrace(PTRACE_INTERRUPT)
        os.waitpid(self.tid, WALL)  # it has stopped
        return self

    def __exit__(self, *unused):
        self.ptrace(PTRACE_DETACH)

    def has_died(self):
        """Its end is for whoever holds it to see; nobody else can till then."""
        pid, status = os.waitpid(self.tid, os.WNOHANG | WALL)
        return pid == self.tid and os.WIFSIGNALED(status)


def worker_of(pid):
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm", encoding="ascii") as file:
            if file.read().startswith("nsgate/"):
                return int(task)
    raise AssertionError(f"{pid} has no worker")


def test_watchdog_is_pinged_while_all_threads_go_on(own_lab):
    lab = own_lab
    agent = Service(lab, "nsgate-agent", "--user", "nobody", watchdog_us=400000).start()
    broker = Service(lab, "nsgate-broker", watchdog_us=400000).start()
    for service in (agent, broker):
        service.wait_for("READY=1", *["WATCHDOG=1"] * 5)
    with Held(worker_of(agent.process.pid)):
        def silent():
            agent.messages.clear()
            time.sleep(1)
            agent.read()
            return not agent.messages
        until(silent, "the agent to ping no more")
    agent.wait_for(*["WATCHDOG=1"] * 5)
    agent.close()
    broker.close()


def test_supervised_agent_that_hangs_is_replaced(own_lab):
    """Stopped as a whole, or with a worker that makes no progress."""
    lab = own_lab
    lab.start_broker("--supervise", "--watchdog", "1", "--", "--user", "nobody", "--group", "daemon",
                     wait=False)

    def agent_pid():
        found = re.findall(r"event=confined", lab.log("nsgate-broker"))
        pids = [agent for child in children(lab.broker.pid) for agent in children(child)]
        return pids[0] if found and pids else None

    until(agent_pid, "an agent")
    lab.wait_broker()
    lab.wait_ready()
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    arrivals = Arrivals(inner, 7)
    first = agent_pid()
    freeze(first)
    outside.send("10.77.0.1", 7, 50)
    until(lambda: agent_pid() not in (None, first), "another agent")
    arrivals.wait(50)
    lab.wait_ready()
    second = agent_pid()
    held = Held(worker_of(second))
    held.__enter__()
    outside.send("10.77.0.1", 7, 50)
    until(held.has_died, "the second agent to be ended")
    until(lambda: agent_pid() not in (None, second), "a third agent")
    arrivals.wait(100)
    lab.wait_ready()
    lab.expect(name, {"packets.accepted": 100})
    assert lab.log("nsgate-broker").count("event=supervise.hung") >= 2
    end(lab.broker, signal.SIGTERM)


def pid_of(name, parent):
    return int(run("pgrep", "-P", str(parent), "-x", name).stdout)


def has_ended(pid):
    """Whether or not the machine's init has noticed."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("victim", ["front", "agent"])
def test_front_and_agent_end_together_and_no_packet_is_lost(own_lab, victim):
    """On a kernel before 6.16."""
    lab = own_lab
    lab.through["nsgate-broker"] = OLDER
    lab.start_broker("--supervise", "--", "--user", "nobody", "--group", "daemon", wait=False)
    until(lambda: answers(f"{lab.runtime}/api.sock"), "an agent")
    lab.wait_ready()
    inner, outside = lab.pair("web")
    lab.attach(inner, default="accept")
    supervisor = pid_of("nsgate-supervis", lab.broker.pid)  # as long as the kernel has it
    agent = pid_of("nsgate-agent", supervisor)
    front = pid_of("nsgate-front", agent)
    arrived = Arrivals(inner, 7)
    outside.send("10.77.0.1", 7, 10)
    arrived.wait(10)
    os.kill(front if victim == "front" else agent, signal.SIGKILL)
    for _ in range(100):
        outside.send("10.77.0.1", 7, 1)
        time.sleep(0.002)
    arrived.wait(110)
    until(lambda: answers(f"{lab.runtime}/api.sock"), "the next agent")
    lab.wait_ready()
    assert lab.get("/healthz")["status"] == "ok"
    assert has_ended(front) and has_ended(agent)
    assert pid_of("nsgate-front", pid_of("nsgate-agent", supervisor)) != front
    if victim == "front":
        assert "event=front.gone" in lab.log("nsgate-broker")
    end(lab.broker, signal.SIGTERM)


def test_supervisor_has_little_and_hears_root_alone(own_lab):
    lab = own_lab
    lab.start_broker("--supervise", "--", "--user", "nobody", "--group", "daemon", wait=False)
    until(lambda: "event=started" in lab.log("nsgate-broker") and os.path.exists(
        f"{lab.runtime}/api.sock"), "an agent")
    lab.wait_ready()
    (supervisor,) = [child for child in children(lab.broker.pid) if children(child)]
    (agent,) = children(supervisor)
    facts = status(supervisor)
    assert facts["Name"] == "nsgate-supervis"  # 15 characters
    assert int(facts["CapEff"], 16) == CAP_KILL
    for caps in ("CapPrm", "CapBnd"):
        assert int(facts[caps], 16) & ~AT_AGENTS_START == 0, caps
    assert int(facts["CapInh"], 16) == 0
    assert facts["NoNewPrivs"] == "1" and facts["Seccomp"] == "2"
    for caps in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status(agent)[caps], 16) == 1 << 12
    place = os.stat(f"{lab.runtime}/supervise.sock")
    assert (place.st_mode & 0o777, place.st_uid) == (0o600, 0)
    numbers = re.findall(r"socket:\[(\d+)\]", lab.fd_listing(supervisor))
    with open(f"/proc/{supervisor}/net/unix", encoding="ascii") as file:
        names = [line.split()[7] for line in file if line.split()[6] in numbers and
                 len(line.split()) > 7]
    assert names == [f"{lab.runtime}/supervise.sock"]
    assert "/3 ->" not in lab.fd_listing(agent) or "pipe:" not in re.search(
        r"/3 -> (.*)", lab.fd_listing(agent))[1]
    end(lab.broker, signal.SIGTERM)
    assert not os.path.exists(f"{lab.runtime}/supervise.sock")


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


CAP_KILL = 1 << 5
# CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID, SETPCAP, NET_ADMIN, SYS_ADMIN
AT_AGENTS_START = CAP_KILL | sum(1 << cap for cap in (0, 1, 3, 6, 7, 8, 12, 21))


def children(pid):
    """None where it has ended: those of the broker that step into a namespace live for a moment."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


# ---- what is kept for them ----


def test_both_dead_for_long_and_nothing_is_lost(services):
    """What the agent had read, what it had not, and what came while nobody was there."""
    lab, broker, agent = services
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    arrivals = Arrivals(inner, 7, 8)
    pending = inner.pending()
    stored(broker, 2)
    freeze(agent.process.pid)
    outside.send("10.77.0.1", 7, 300)
    broker.kill()
    agent.kill()
    outside.send("10.77.0.1", 7, 200)
    outside.send("10.77.0.1", 8, 100)
    until(lambda: pending() == 600, lambda: f"{pending()} packets to wait")
    # The queue and the rules have an owner that is neither.
    with pytest.raises(PermissionError):
        Consumer(inner, QUEUE)
    rules = inner.ruleset()
    inner.exec("nft", "flush", "ruleset", check=False)
    assert inner.exec("nft", "delete", "table", "inet", "nsgate", check=False).returncode != 0
    assert inner.ruleset() == rules and "judge_in" in rules
    assert arrivals.total() == 0
    restart(lab, broker, agent)
    arrivals.wait({(7, 4): 500})
    lab.expect(name, {"packets.accepted": 500, "packets.dropped": 100, "queue.flushed": 0})
    assert arrivals.seen[8, 4] == 0
    assert len(broker.store) == 2
    lab.detach(name)
    stored(broker, 0)
    assert inner.ruleset() == ""


@pytest.mark.parametrize("first", ["broker", "agent"])
def test_both_killed_under_load(services, first):
    lab, broker, agent = services
    inner, outside = lab.pair()
    name = lab.attach(inner, "--queues", "2", **POLICY)
    stored(broker, 3)
    order = (broker, agent) if first == "broker" else (agent, broker)
    with Stream(lab, outside, inner) as stream:
        for _ in range(5):
            broker.kill()
            agent.kill()
            stream.hold()
            restart(lab, *order)
            stream.flow()
        stream.complete()
    lab.books(name)
    assert len(broker.store) == 3


def test_broker_killed_with_the_agent_alive(services):
    """The store and the agent tell of the same; nothing is held twice."""
    lab, broker, agent = services
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    stored(broker, 2)
    before = lab.fds()
    with Stream(lab, outside, inner) as stream:
        for _ in range(5):
            broker.kill()
            stream.flow()
            restart(lab, broker)
        stream.complete()
    assert lab.names() == [name]
    lab.wait_fds((before[0] + 2, before[1]))  # what was passed goes by other numbers, not by more
    lab.detach(name)
    stored(broker, 0)


def test_policy_of_the_time_without_a_broker_comes_into_force(services):
    lab, broker, agent = services
    inner, outside = lab.pair()
    lab.put_policy("p", **POLICY)
    lab.must("attach", f"netns:{inner}", "--name", "n", "--policy", "p")
    stored(broker, 2)
    broker.kill()
    assert lab.http("PUT", "/v1/policies/p", {"version": 1, "default": "drop"}).status == 503
    restart(lab, broker)
    arrivals = Arrivals(inner, 7)
    until(lambda: lab.get("/v1/namespaces/n")["generation"] == 2, "the new rules to be in force")
    outside.send("10.77.0.1", 7, 10)
    lab.expect("n", {"packets.dropped": 10})
    assert arrivals.total() == 0


def test_pid_and_self_and_what_ended_meanwhile(services):
    lab, broker, agent = services
    first, second, third = lab.netns("a"), lab.netns("b"), lab.netns("c")
    policy = lab.policy(**POLICY)
    sleeper = first.popen("sleep", "1000")
    other = second.popen("sleep", "1000")
    until(lambda: os.readlink(f"/proc/{other.pid}/ns/net") != os.readlink("/proc/self/ns/net"),
          "it to be inside")
    until(lambda: os.readlink(f"/proc/{sleeper.pid}/ns/net") != os.readlink("/proc/self/ns/net"),
          "it to be inside")
    lab.must("attach", f"pid:{sleeper.pid}", "--name", "ends", "--policy", policy)
    lab.must("attach", f"pid:{other.pid}", "--name", "stays", "--policy", policy)
    third.exec(program("nsgatectl"), "--runtime-dir", lab.runtime, "attach", "self", "--name",
               "self", "--policy", policy)
    stored(broker, 3 + 3 + 2)
    broker.kill()
    agent.kill()
    end(sleeper)
    restart(lab, broker, agent)
    until(lambda: sorted(lab.names()) == ["self", "stays"], lambda: lab.names())
    stored(broker, 3 + 2)
    end(other)
    until(lambda: lab.names() == ["self"], lambda: lab.names())
    stored(broker, 2)


def test_store_that_kept_only_half(services):
    """As if there had been no room for the queue: that is bound anew, and enforcement never ends."""
    lab, broker, agent = services
    inner, outside = lab.pair()
    name = lab.attach(inner, **POLICY)
    stored(broker, 2)
    broker.kill()
    agent.kill()
    queue = next(n for n in broker.store if n.endswith(".q0"))
    os.close(broker.store.pop(queue))
    arrivals = Arrivals(inner, 7, 8)
    outside.send("10.77.0.1", 7, 10)
    restart(lab, broker, agent)
    outside.send("10.77.0.1", 7, 20)
    outside.send("10.77.0.1", 8, 20)
    arrivals.wait({(7, 4): 20})
    until(lambda: lab.stats(name)["packets"]["dropped"] == 20, "the rest to be dropped")
    assert arrivals.seen[8, 4] == 0
    stored(broker, 2)
    lab.detach(name)
    stored(broker, 0)


def test_what_nobody_knows_is_not_kept(services):
    """Sockets without a record, and names that nobody gave."""
    lab, broker, agent = services
    broker.kill()
    stray = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    broker.store["deadbeef.q0"] = os.dup(stray.fileno())
    broker.store["deadbeef.r"] = os.dup(stray.fileno())
    broker.store["0.x"] = os.dup(stray.fileno())
    broker.store[""] = stray.detach()
    restart(lab, broker)
    stored(broker, 2)  # those that are none of ours are left alone
    assert sorted(broker.store) == ["", "0.x"]
    inner = lab.netns()
    lab.attach(inner, **POLICY)
    stored(broker, 4)


def test_detach_before_the_agent_is_back(services):
    lab, broker, agent = services
    inner = lab.netns()
    name = lab.attach(inner, **POLICY)
    stored(broker, 2)
    broker.kill()
    agent.kill()
    broker.start()
    lab.broker = broker.process
    lab.detach(name)
    stored(broker, 0)
    assert inner.ruleset() == ""
    restart(lab, agent)
    assert lab.names() == []


# ---- sockets that are passed ----


def test_passed_sockets_are_served_and_stay(own_lab):
    lab = own_lab
    broker = Service(lab, "nsgate-broker")
    agent = Service(lab, "nsgate-agent", "--user", "nobody")
    broker.listen("broker.sock", socket.SOCK_SEQPACKET)
    agent.listen("agent.sock", socket.SOCK_SEQPACKET)
    agent.listen("api.sock", socket.SOCK_STREAM)
    agent.listen("stats.sock", socket.SOCK_STREAM)
    for _ in range(3):
        restart(lab, broker, agent)
        inner = lab.netns()
        lab.attach(inner, **POLICY)
        assert inner.name in lab.stats_sock()["namespaces"]
        inodes = [os.stat(f"{lab.runtime}/{n}").st_ino for n in (*broker.sockets, *agent.sockets)]
        assert broker.kill(signal.SIGTERM) == 0
        assert agent.kill(signal.SIGTERM) == 0
        # They are their maker's: whoever comes now waits for the next daemon.
        assert inodes == [os.stat(f"{lab.runtime}/{n}").st_ino
                          for n in (*broker.sockets, *agent.sockets)]
        assert answers(f"{lab.runtime}/broker.sock", socket.SOCK_SEQPACKET)
    broker.close()
    agent.close()


# As the units start it: a user with one capability, and nothing to give up.
AS_UNIT = ("/usr/bin/setpriv", "--reuid=65534", "--regid=1", "--clear-groups",
           "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin",
           "--bounding-set=-all,+net_admin", "--no-new-privs", *OLDER)


@pytest.mark.parametrize("through", [OLDER, AS_UNIT], ids=["root", "unit"])
def test_passed_sockets_go_to_the_front(own_lab, through):
    """On a kernel before 6.16."""
    lab = own_lab
    os.chown(lab.policies, 65534, 1)
    agent = Service(lab, "nsgate-agent", through=through)
    os.chmod(agent.path, 0o777)
    for name, kind in (("agent.sock", socket.SOCK_SEQPACKET), ("api.sock", socket.SOCK_STREAM),
                       ("stats.sock", socket.SOCK_STREAM)):
        agent.listen(name, kind)
    lab.start_broker()
    for _ in range(2):
        restart(lab, agent)
        inner = lab.netns()
        lab.attach(inner, **POLICY)
        assert inner.name in lab.stats_sock()["namespaces"]
        with open(f"/proc/{pid_of('nsgate-front', agent.process.pid)}/status",
                  encoding="ascii") as file:
            status = dict(line.split(":\t", 1) for line in file)
        assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")} == {0}
        assert status["Uid"].split() == 4 * [status["Uid"].split()[0]] != 4 * ["0"]
        assert agent.kill(signal.SIGTERM) == 0
    agent.close()


def test_supervisor_keeps_nothing_that_is_passed(own_lab):
    """It would hold a queue's socket, and with it the namespace, after the detach."""
    lab = own_lab
    broker = Service(lab, "nsgate-broker", "--supervise", "--", "--user", "nobody")
    broker.listen("broker.sock", socket.SOCK_SEQPACKET)
    passed = f"/3 -> socket:[{os.stat(broker.sockets['broker.sock'].fileno()).st_ino}]"
    lab.broker = broker.start().process
    lab.wait_ready()
    assert passed in lab.fd_listing(lab.broker.pid)
    supervisor = next(child for child in children(lab.broker.pid) if children(child))
    assert passed not in lab.fd_listing(supervisor)
    broker.kill(signal.SIGTERM)
    broker.close()


def test_passed_socket_of_the_wrong_type_is_refused(own_lab):
    lab = own_lab
    for name, wrong in (("nsgate-broker", "broker.sock"), ("nsgate-agent", "api.sock")):
        service = Service(lab, name)
        service.sockets[wrong] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        service.start(wait=False)
        assert service.process.wait(15) == 1
        assert wrong in lab.log(name)
        service.close()
