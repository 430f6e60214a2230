# SPDX-License-Identifier: GPL-2.0-or-later
"""
A laboratory of network namespaces around the real programs.

A Lab owns a temporary directory (runtime and configuration directories of its own), the two
daemons, and every namespace that a test asked it for; close() removes all of it, and a later
Lab removes what a killed run left behind. Namespaces are named ngt-<pid>-<number>-<label>.

Sockets belong for ever to the namespace that they were made in, so tests stay in one process:
Netns.open_socket() steps inside, makes the socket, and steps back. Nothing here waits without a
condition and a deadline.
"""
import atexit
import contextlib
import ctypes
import errno
import functools
import glob
import http.client
import itertools
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import time

import ipc

CLONE_NEWNET = 0x40000000
NETNS_DIR = "/run/netns"
PREFIX = "ngt-"
SO_RCVBUFFORCE = 33
DEADLINE = 15.0  # seconds: for what takes milliseconds on an idle machine
SLOW = ipc.SLOW  # every deadline is that many times as long
RECEIVE_BUFFER = 64 << 20
QUEUE = 32768  # the first of a namespace, where nobody says another
QUEUE_NUMBERS = 13  # of a queue: one for each thing that the kernel knows of a flow (nsgate/flow.h)

libc = ctypes.CDLL(None, use_errno=True)
HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ.get("NSGATE_BUILD") or os.path.join(HERE, "..", "..", "build"))
OLDER = ("/usr/bin/python3", os.path.join(HERE, "older.py"))  # as on a kernel before 6.16
PROGRAMS = ("nsgate-broker", "nsgate-enter", "nsgate-supervise", "nsgate-front", "nsgate-agent", "nsgatectl", "nsgate-handoff", "oci-hook",
            "nsgate-runc", "nsgate-cni")


@functools.cache
def programs():
    """
    A directory with the programs that other users may enter: tests run some of them as such. It is
    BUILD, or has copies where that lies below a directory like /root.
    """
    above = [BUILD, *map(str, pathlib.Path(BUILD).parents)]
    if all(os.stat(directory).st_mode & stat.S_IXOTH for directory in above):
        return BUILD
    copies = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-programs-", dir="/tmp")
    atexit.register(shutil.rmtree, copies, True)
    os.chmod(copies, 0o755)
    for name in PROGRAMS:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(os.path.join(BUILD, name), copies)
    return copies


def program(name):
    return os.path.join(programs(), name)


def until(condition, what, timeout=DEADLINE):
    """Wait for a true value of `condition` and return it."""
    timeout *= SLOW
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"waited {timeout:g} s in vain: {text}")
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def eventually(check, timeout=DEADLINE):
    """
    Call `check` until it raises no AssertionError and return what it returns; after `timeout` its
    last error is raised. For figures read one after the other while packets may still be under way.
    """
    deadline = time.monotonic() + timeout * SLOW
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def run(*args, check=True, timeout=60, **kwargs):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True,
                          timeout=timeout * SLOW, **kwargs)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, args))}: exit {done.returncode}: {done.stderr}")
    return done


def setns(fd):
    if libc.setns(fd, CLONE_NEWNET) < 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside(path):
    """Be in the namespace behind `path` for a while (this thread alone)."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            setns(home)
    finally:
        os.close(home)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def freeze(pid):
    """Stop a process, and see that all its threads have: the first may have while others go on."""
    def held(task):
        with open(f"/proc/{pid}/task/{task}/stat", encoding="ascii") as file:
            return file.read().rpartition(") ")[2][0] in "Tt"
    os.kill(pid, signal.SIGSTOP)
    until(lambda: all(held(task) for task in os.listdir(f"/proc/{pid}/task")),
          "all threads to have stopped")


@contextlib.contextmanager
def stopped(process):
    """It does nothing meanwhile."""
    freeze(process.pid)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def fd_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


# ---- namespaces ----


class Netns:
    """One that is there, made by Lab.netns() or Lab.star()."""

    def __init__(self, name):
        self.name = name
        self.path = f"{NETNS_DIR}/{name}"
        self.open_things = []

    def __str__(self):
        return self.name

    def ip(self, *args, **kwargs):
        return run("ip", "-n", self.name, *args, **kwargs)

    def nft(self, text, **kwargs):
        return self.exec("nft", "-f", "-", input=text, **kwargs)

    def ruleset(self):
        """Without what its counters hold: a report of the kernel's own (MLD) may come at any time."""
        return self.exec("nft", "--stateless", "list", "ruleset").stdout

    def popen(self, *args, **kwargs):
        process = subprocess.Popen(["nsenter", "--net=" + self.path, *map(str, args)], **kwargs)
        self.open_things.append(process)
        return process

    def exec(self, *args, **kwargs):
        return run("nsenter", "--net=" + self.path, *args, **kwargs)

    def inside(self):
        return inside(self.path)

    def open_socket(self, family, kind, protocol=0, uid=None, gid=None):
        """A socket made in there, by another user where `uid` or `gid` is given."""
        with self.inside():
            try:
                if gid is not None:
                    os.setegid(gid)
                if uid is not None:
                    os.seteuid(uid)
                made = socket.socket(family, kind, protocol)
            finally:
                os.seteuid(0)
                os.setegid(0)
        self.open_things.append(made)
        return made

    def sysctl(self, key, value):
        with self.inside(), open(f"/proc/sys/net/{key}", "w", encoding="ascii") as file:
            file.write(str(value))

    def identity(self):
        """(cookie, inode)"""
        probe = self.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
        cookie = struct.unpack("=Q", probe.getsockopt(socket.SOL_SOCKET, 71, 8))[0]
        probe.close()
        return cookie, os.stat(self.path).st_ino

    # ---- senders ----

    def udp(self, family=socket.AF_INET, bind=None, **kwargs):
        made = self.open_socket(family, socket.SOCK_DGRAM, **kwargs)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        if bind is not None:
            made.bind(bind)
        return made

    def send(self, address, port, count, payload=b"x" * 20, pace=None, sender=None):
        """
        Send `count` datagrams. `pace`: a function that says how many packets wait in the queue
        on the way; the sender lets it drain so that the queue never overflows.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        own = sender is None
        sender = sender or self.udp(family)
        for number in range(count):
            if pace and number % 500 == 499:
                until(lambda: pace() < 1000, "the queue to drain")
            sender.sendto(payload(number) if callable(payload) else payload, (address, port))
        if own:
            sender.close()
        return count

    def pending(self, queue=QUEUE, queues=1):
        """A function that says how many packets wait in that queue, of so many, of this namespace."""
        numbers = range(queue, queue + QUEUE_NUMBERS * queues, queues)
        with self.inside():
            file = open("/proc/thread-self/net/netfilter/nfnetlink_queue", "rb", buffering=0)
        self.open_things.append(file)

        def read():
            lines = os.pread(file.fileno(), 65536, 0).decode().splitlines()
            columns = [[int(column) for column in line.split()] for line in lines]
            return sum(column[2] for column in columns if column[0] in numbers)
        return read

    def tcp_listen(self, port, family=socket.AF_INET, backlog=4096):
        made = self.open_socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("", port))
        made.listen(backlog)
        return made

    def tcp_connect(self, address, port, timeout=5.0):
        """A connected socket; raises ConnectionRefusedError or TimeoutError."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = self.open_socket(family, socket.SOCK_STREAM)
        made.settimeout(timeout)
        try:
            made.connect((address, port))
        except OSError:
            made.close()
            raise
        return made

    def tcp_knock(self, address, port):
        """Send a SYN and do not wait: one packet, if closed within a second."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = self.open_socket(family, socket.SOCK_STREAM)
        made.setblocking(False)
        try:
            made.connect((address, port))
        except BlockingIOError:
            pass
        return made

    def ping(self, address, count=1, timeout=2.0, ident=None):
        """Send echo requests one after the other. Return: how many replies came."""
        six = ":" in address
        ping = self.open_socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW,
                           socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
        ident = ident or (id(ping) >> 4) & 0xffff
        want = 129 if six else 0
        replies = 0
        for number in range(count):
            ping.sendto(echo_request(six, ident, number), (address, 0))
            deadline = time.monotonic() + timeout
            while (left := deadline - time.monotonic()) > 0:
                if not select.select([ping], [], [], left)[0]:
                    break
                data = ping.recv(2048)
                data = data if six else data[(data[0] & 15) * 4:]
                if data[0] == want and struct.unpack("!HH", data[4:8]) == (ident, number):
                    replies += 1
                    break
        ping.close()
        return replies

    def close(self):
        for thing in self.open_things:
            if isinstance(thing, subprocess.Popen):
                end(thing)
            else:
                with contextlib.suppress(OSError):
                    thing.close()
        self.open_things.clear()

    def delete(self):
        self.close()
        batch([f"netns del {self.name}"], check=False)


def batch(lines, *options, check=True):
    """Many commands of ip in one process."""
    return run("ip", *options, "-batch", "-", input="\n".join(lines), check=check)


def end(process, sig=signal.SIGKILL, timeout=10):
    """End a process of ours and wait for it."""
    if process.poll() is None:
        process.send_signal(sig)
    try:
        code = process.wait(timeout * SLOW)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout * SLOW)
        raise AssertionError(f"pid {process.pid} does not end on signal {sig}") from None
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()
    return code


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def echo_request(six, ident, number, size=20):
    kind = 128 if six else 8
    body = struct.pack("!BBHHH", kind, 0, 0, ident, number) + b"p" * size
    # The kernel fills in the checksum of ICMPv6 itself.
    return body if six else body[:2] + struct.pack("!H", checksum(body)) + body[4:]


class Arrivals:
    """Counts datagrams that arrive at ports of a namespace, in both families."""

    def __init__(self, netns, *ports, families=(socket.AF_INET, socket.AF_INET6)):
        self.seen = {}
        self.payloads = {}
        self.sockets = {}
        for port, family in itertools.product(ports, families):
            receiver = netns.udp(family, bind=("", port))
            receiver.setblocking(False)
            key = (port, 6 if family == socket.AF_INET6 else 4)
            self.sockets[receiver] = key
            self.seen[key] = 0
            self.payloads[key] = []

    def close(self):
        for receiver in self.sockets:
            receiver.close()

    def drain(self, keep=False):
        for receiver, key in self.sockets.items():
            with contextlib.suppress(BlockingIOError):
                while True:
                    data = receiver.recv(65536)
                    self.seen[key] += 1
                    if keep:
                        self.payloads[key].append(data)
        return self.seen

    def total(self, keep=False):
        return sum(self.drain(keep).values())

    def wait(self, expected, timeout=DEADLINE, keep=False):
        """Until exactly `expected` came: a number, or one for each (port, 4 or 6) named."""
        def enough():
            total = self.total(keep)
            if isinstance(expected, int):
                return total >= expected
            return all(self.seen[key] >= count for key, count in expected.items())
        until(enough, lambda: f"{expected} to arrive; there are {self.seen}", timeout)
        got = sum(self.seen.values()) if isinstance(expected, int) else {
            key: self.seen[key] for key in expected}
        assert got == expected


TAP_PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "other")


class Tap:
    """
    What the kernel itself counts before nsgate's chains (priorities 10 and 20) and behind them,
    apart from nsgate: packets and bytes by hook and protocol. Upkeep of the link (neighbour
    discovery, multicast listeners) is left out, and so are the kernel's own errors, as nsgate never
    asks about them.
    """

    def __init__(self, netns, hooks=("input", "output", "forward")):
        self.netns = netns
        text = ["table inet tap {"]
        for hook, place in itertools.product(hooks, ("before", "behind")):
            text += [f"counter {place}_{hook}_{p} {{}}" for p in TAP_PROTOCOLS]
        for hook, (place, priority) in itertools.product(hooks, (("before", 5), ("behind", 30))):
            text.append(f"chain {place}_{hook} {{ type filter hook {hook} priority {priority};")
            text.append("icmpv6 type { 130-137, 143 } accept")
            if hook == "output":
                text.append("ct state related ct status ! expected accept")
            for p in TAP_PROTOCOLS[:-1]:
                name = "ipv6-icmp" if p == "icmpv6" else p
                text.append(f"meta l4proto {name} counter name {place}_{hook}_{p} accept")
            text.append(f"counter name {place}_{hook}_other\n}}")
        text.append("}")
        netns.nft("\n".join(text))

    def read(self):
        """{(place, hook, protocol): (packets, bytes)}"""
        document = json.loads(run("ip", "netns", "exec", self.netns.name, "nft", "-j", "list",
                                  "counters", "table", "inet", "tap").stdout)
        result = {}
        for item in document["nftables"]:
            if "counter" in item:
                counter = item["counter"]
                result[tuple(counter["name"].split("_", 2))] = (counter["packets"],
                                                                counter["bytes"])
        return result

    def total(self, place, hook=None, protocol=None):
        """(packets, bytes)"""
        picked = [value for (p, h, l4), value in self.read().items()
                  if p == place and hook in (None, h) and protocol in (None, l4)]
        return sum(v[0] for v in picked), sum(v[1] for v in picked)


# ---- the daemons and everything ----


def connect_stream(path, timeout=DEADLINE):
    """Connected, and with a timeout. Waits where the listening queue is full."""
    timeout *= SLOW
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO,
                    struct.pack("=qq", int(timeout), int(timeout % 1 * 1000000)))
    try:
        made.connect(path)
    except OSError:
        made.close()
        raise
    made.settimeout(timeout)
    return made


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path, timeout=DEADLINE):
        super().__init__("nsgate", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = connect_stream(self.path, self.timeout)


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Lab:
    def __init__(self):
        remove_leftovers()
        self.dir = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.runtime = f"{self.dir}/run"
        self.config = f"{self.dir}/etc"
        self.policies = f"{self.config}/policies"
        os.makedirs(self.policies)
        self.namespaces = []
        self.children = []
        self.broker = self.agent = None
        self.links = itertools.count()
        self.through = {}  # commands that start a program, by its name
        if os.environ.get("NSGATE_TEST_OLDER"):
            self.through["nsgate-agent"] = OLDER
        self.environments = {}  # what it is started with, by its name; none: what we have

    # ---- daemons ----

    def environment(self, name):
        """What a program is started with; None: what we have."""
        return self.environments.get(name)

    def spawn(self, name, *args):
        with open(f"{self.dir}/{name}.log", "ab") as log:
            process = subprocess.Popen(
                [*self.through.get(name, ()), program(name), "--runtime-dir", self.runtime, "--config-dir", self.config, *args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=self.environment(name))
        with open(f"{self.dir}/pids", "a", encoding="ascii") as file:
            file.write(f"{process.pid}\n")
        self.children.append(process)
        return process

    def start_broker(self, *args, wait=True):
        self.broker = self.spawn("nsgate-broker", *args)
        if wait:
            self.wait_broker()

    def start_agent(self, *args, wait=True):
        self.agent = self.spawn("nsgate-agent", "--user", "nobody", "--group", "daemon", *args)
        if wait:
            self.wait_agent()

    def wait_broker(self):
        until(lambda: answers(f"{self.runtime}/broker.sock", socket.SOCK_SEQPACKET) or
              self.check_running(self.broker), "the broker to answer")

    def wait_agent(self):
        until(lambda: answers(f"{self.runtime}/api.sock") or self.check_running(self.agent),
              "the agent to answer")

    def wait_ready(self):
        """Until the two have found each other and the broker has taken stock."""
        def ready():
            try:
                if self.http("GET", "/readyz").status != 200:
                    return False
                client = ipc.Client(self)
            except OSError:
                return False
            client.send(ipc.message(ipc.PROBE))
            features = client.receive()[1]
            client.close()
            return struct.unpack("=6I", features)[4]
        until(ready, "broker and agent to find each other")

    def check_running(self, process):
        if process.poll() is not None:
            name = next(name for name in PROGRAMS if program(name) in process.args)
            raise AssertionError(f"{name} ended with {process.returncode}: {self.log(name)[-2000:]}")

    def start(self):
        self.start_broker("--admin", "4321", wait=False)
        self.start_agent(wait=False)
        self.wait_broker()
        self.wait_agent()
        self.wait_ready()
        return self

    def log(self, name):
        with open(f"{self.dir}/{name}.log", encoding="utf-8", errors="replace") as file:
            return file.read()

    def fds(self):
        return fd_count(self.broker.pid), fd_count(self.agent.pid)

    def wait_fds(self, before, timeout=DEADLINE):
        """Until both daemons hold no more descriptors than `before`."""
        until(lambda: all(a <= b for a, b in zip(self.fds(), before)),
              lambda: f"descriptors of broker and agent {self.fds()} to be {before} again\n" +
              "\n".join(self.fd_listing(p) for p in (self.broker.pid, self.agent.pid)), timeout)

    @staticmethod
    def fd_listing(pid):
        lines = []
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                lines.append(f"{pid}/{fd} -> " + os.readlink(f"/proc/{pid}/fd/{fd}"))
        return "\n".join(lines)

    # ---- namespaces ----

    def netns(self, label="a"):
        made = Netns(f"{PREFIX}{os.getpid()}-{next(NUMBERS)}-{label}")
        self.namespaces.append(made)
        batch([f"netns add {made}"])
        made.ip("link", "set", "lo", "up")
        return made

    def link(self, a, b, net=0, names=("eth0", "eth0"), reach=False):
        """
        A veth pair: `a` is 10.77.NET.1 and fd77:NET::1, `b` is .2. The neighbours are known
        from the start, so that a burst never waits for (and overflows) address resolution.
        """
        add, ends = self.link_commands(a, b, net, names)
        batch([add])
        for netns, commands in zip((a, b), ends):
            batch(commands, "-n", netns)
        for netns, dev in zip((a, b), names):
            until(lambda n=netns, d=dev: "LOWER_UP" in n.ip("link", "show", d).stdout,
                  "the link to come up")

    def link_commands(self, a, b, net, names):
        number = next(self.links)
        macs = [f"02:77:{number >> 8:02x}:{number & 255:02x}:00:0{i}" for i in (1, 2)]
        add = (f"link add {names[0]} netns {a} address {macs[0]} type veth "
               f"peer name {names[1]} address {macs[1]} netns {b}")
        return add, [(
            f"addr add 10.77.{net}.{i + 1}/24 dev {dev}",
            f"addr add fd77:{net:x}::{i + 1}/64 dev {dev} nodad",
            f"link set {dev} up",
            f"neigh replace 10.77.{net}.{2 - i} lladdr {macs[1 - i]} dev {dev} nud permanent",
            f"neigh replace fd77:{net:x}::{2 - i} lladdr {macs[1 - i]} dev {dev} nud permanent",
        ) for i, dev in enumerate(names)]

    def star(self, count):
        """A namespace and `count` others, each linked to it: number N by 10.77.N.0/24."""
        hub = self.netns("hub")
        leaves = [Netns(f"{PREFIX}{os.getpid()}-{next(NUMBERS)}-{n}") for n in range(count)]
        self.namespaces += leaves
        batch([f"netns add {leaf}" for leaf in leaves])
        adds, at_hub, at_leaf = [], [], []
        for number, leaf in enumerate(leaves):
            add, ends = self.link_commands(hub, leaf, number, (f"v{number}", "eth0"))
            adds.append(add)
            at_hub += ends[0]
            at_leaf.append(ends[1])
        batch(adds)
        for leaf, commands in zip(leaves, at_leaf):
            batch(commands, "-n", leaf)
        batch(at_hub, "-n", hub)
        until(lambda: hub.ip("link", "show").stdout.count("LOWER_UP") == count + 1,
              "the links to come up")
        return hub, leaves

    def router(self):
        """left (10.77.1.1) - router (.2 and 10.77.2.1) - right (10.77.2.2), routes included."""
        left, middle, right = self.netns("left"), self.netns("router"), self.netns("right")
        self.link(left, middle, 1, names=("eth0", "left"))
        self.link(middle, right, 2, names=("right", "eth0"))
        for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            middle.sysctl(key, 1)
        left.ip("route", "add", "default", "via", "10.77.1.2")
        left.ip("-6", "route", "add", "default", "via", "fd77:1::2")
        right.ip("route", "add", "default", "via", "10.77.2.1")
        right.ip("-6", "route", "add", "default", "via", "fd77:2::1")
        return left, middle, right

    def pair(self, label="a"):
        a, b = self.netns(label), self.netns(label + "-peer")
        self.link(a, b)
        return a, b

    # ---- asking ----

    def ctl(self, *args, uid=None, gid=None, runtime=None, **kwargs):
        command = [program("nsgatectl"), "--runtime-dir", runtime or self.runtime,
                   "--config-dir", self.config, *map(str, args)]
        if uid is not None:
            command = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *command]
        kwargs.setdefault("env", self.environment("nsgatectl"))
        return run(*command, check=False, **kwargs)

    def must(self, *args, **kwargs):
        done = self.ctl(*args, **kwargs)
        assert done.returncode == 0, f"nsgatectl {args}: exit {done.returncode}: {done.stderr}"
        return done

    def http(self, method, path, body=None, headers=None, timeout=DEADLINE):
        connection = UnixHTTP(f"{self.runtime}/api.sock", timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path):
        answer = self.http("GET", path)
        assert answer.status == 200, answer
        return answer.json

    def stats_sock(self):
        """The document that stats.sock sends."""
        client = connect_stream(f"{self.runtime}/stats.sock")
        data = b""
        while part := client.recv(1 << 20):
            data += part
        client.close()
        return json.loads(data)

    def stats(self, name):
        return self.get(f"/v1/namespaces/{name}/stats")

    def put_policy(self, name, **keys):
        keys.setdefault("version", 1)
        answer = self.http("PUT", f"/v1/policies/{name}", keys)
        assert answer.status in (200, 201), answer
        return name

    def policy(self, **keys):
        """A new policy under a name of its own."""
        return self.put_policy(f"p{next(NUMBERS)}", **keys)

    def attach(self, netns, *args, name=None, **keys):
        """Attach; the keywords are the keys of a new policy. Return: the name attached as."""
        name = name or netns.name
        if keys:
            args = (*args, "--policy", self.policy(**keys))
        self.must("attach", f"netns:{netns.name}", "--name", name, *args)
        return name

    def detach(self, name):
        self.must("detach", name)

    def names(self):
        return [n["name"] for n in self.get("/v1/namespaces")["namespaces"]]

    def expect(self, name, expected, timeout=DEADLINE):
        """
        Until the statistics say so: {"packets.dropped": 5, "rules.web": 3, ...}; "rules.NAME"
        stands for that rule's packets. Packets that still wait are among those seen: where these are
        asked for, all of them have been decided too. Return: the whole document.
        """
        last = {}
        if "packets.seen" in expected:
            expected = {"queue.pending": 0, **expected}

        def holds():
            last["doc"] = self.stats(name)
            last["got"] = {key: lookup(last["doc"], key) for key in expected}
            return last["got"] == expected and at_rest(last["doc"])
        until(holds, lambda: f"statistics of {name} to be {expected}\n they are {last['got']}\n"
              f"{json.dumps(last['doc'])}", timeout)
        check_books(last["doc"])
        return last["doc"]

    def books(self, name):
        """The statistics once nothing waits; their sums have been checked."""
        def settled():
            document = self.stats(name)
            return at_rest(document) and not document["queue"]["pending"] and document
        document = until(settled, lambda: f"the packets to add up: {self.stats(name)}")
        check_books(document)
        return document

    # ---- the end ----

    def clean(self):
        """Detach everything, remove every policy and namespace; the daemons live on."""
        for name in self.names():
            self.ctl("detach", name)
        self.delete_namespaces()
        until(lambda: not self.names(), "everything to be detached")
        for policy in self.get("/v1/policies")["policies"]:
            self.http("DELETE", f"/v1/policies/{policy['name']}?force=true")

    def delete_namespaces(self):
        for netns in self.namespaces:
            netns.close()
        batch([f"netns del {n}" for n in self.namespaces if os.path.exists(n.path)], "-force",
              check=False)
        self.namespaces.clear()

    def close(self):
        self.delete_namespaces()
        for process in self.children:
            end(process)
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


NUMBERS = itertools.count(1)


def answers(path, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                return False
            raise
        return True


def owns_tables(lab):
    """Root inside a namespace cannot change the rules of an nsgate that lives."""
    checks = json.loads(lab.ctl("--json", "doctor").stdout)["checks"]
    return any(c["name"] == "owned-tables" and c["status"] == "ok" for c in checks)


def lookup(document, key):
    if key.startswith("rules."):
        return next((r["packets"] for r in document["rules"] if r["name"] == key[6:]), None)
    for part in key.split("."):
        document = document[part]
    return document


def rule_counts(document):
    return {rule["name"]: rule["packets"] for rule in document["rules"]}


def at_rest(document):
    """
    Do the packets add up? They need not while a worker is busy: a packet can be pending when the
    queue is read and be decided when the decisions are.
    """
    packets = document["packets"]
    return packets["seen"] == (packets["accepted"] + packets["dropped"] + packets["rejected"] +
                               packets["queued_elsewhere"] + document["queue"]["pending"])


def check_books(document):
    """What INTERFACE.md promises of the statistics at rest."""
    packets, octets = document["packets"], document["bytes"]
    assert at_rest(document), document
    if not document["queue"]["flushed"] and not packets["queued_elsewhere"]:
        assert octets["seen"] == octets["accepted"] + octets["dropped"] + octets["rejected"]
    # Nobody has read what was flushed, or what the broker let pass.
    unread = document["queue"]["flushed"] + document["unjudged"]["agent_down"]
    if not unread and not document["queue"]["pending"]:
        assert packets["seen"] == sum(d["packets"] for d in document["direction"].values())
        assert packets["seen"] == sum(document["protocol"].values())
        assert octets["seen"] == sum(d["bytes"] for d in document["direction"].values())


def remove_leftovers():
    """What a run left behind whose process is no more: namespaces, daemons, directories."""
    for path in glob.glob(f"/tmp/{PREFIX}[0-9]*-*"):
        owner = re.match(rf"{PREFIX}(\d+)-", os.path.basename(path))
        if not owner or alive(int(owner[1])):
            continue
        with contextlib.suppress(OSError):
            with open(f"{path}/pids", encoding="ascii") as file:
                for pid in file.read().split():
                    kill_daemon(int(pid), path)
        shutil.rmtree(path, ignore_errors=True)
    for path in glob.glob(f"{NETNS_DIR}/{PREFIX}[0-9]*-*"):
        name = os.path.basename(path)
        owner = re.match(rf"{PREFIX}(\d+)-", name)
        if owner and not alive(int(owner[1])):
            run("ip", "netns", "del", name, check=False)


def kill_daemon(pid, directory):
    """Kill it, if it is the daemon that was started on that directory and not a later process."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if f"{directory}/".encode() in file.read():
                os.kill(pid, signal.SIGKILL)
