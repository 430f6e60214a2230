# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bench measures in: namespaces, peers and daemons of its own, all removed at the end."""
import ctypes
import json
import mmap
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

import policy

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PREFIX = f"nb{os.getpid() % 10000}"  # of every namespace made here
HOOKS = 1 << 1 | 1 << 3              # in, out
CPUS = sorted(os.sched_getaffinity(0))
SENDER_CPU, JUDGE_CPU = CPUS[0], CPUS[-1]
SINK_PORTS = range(7000, 7008)
START_TIMEOUT = 10
DRAIN_TIMEOUT = 5


class Trouble(Exception):
    """A run that counts for nothing; the text says why."""


def sh(*command, timeout=60):
    subprocess.run(command, check=True, timeout=timeout, stdout=subprocess.DEVNULL)


def inside(name, function):
    """Call in the namespace, in a thread of its own so that this one stays where it is."""
    result = []

    def run():
        try:
            fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if LIBC.setns(fd, CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), name)
            finally:
                os.close(fd)
            result.append((function(), None))
        except Exception as e:  # handed to the caller
            result.append((None, e))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    value, error = result[0]
    if error:
        raise error
    return value


def open_inside(name, path):
    return inside(name, lambda: os.open(f"/proc/thread-self/net/{path}", os.O_RDONLY | os.O_CLOEXEC))


class Pair:
    """Two namespaces and a veth between them. The queue is in `a`. UDP goes out of it or into it,
    to sinks that nobody reads: what they cost is the same for all."""

    def __init__(self, lab, key):
        self.key, self.a, self.b = key, f"{PREFIX}{key}0", f"{PREFIX}{key}1"
        lab.make(f"{PREFIX}{key}", 2)
        sh("ip", "link", "add", "v", "netns", self.a, "address", "02:00:00:00:00:01", "type", "veth",
           "peer", "name", "v", "netns", self.b, "address", "02:00:00:00:00:02")
        for name, own, other, mac in ((self.a, "10.9.0.1", "10.9.0.2", "02:00:00:00:00:02"),
                                      (self.b, "10.9.0.2", "10.9.0.1", "02:00:00:00:00:01")):
            sh("ip", "-n", name, "addr", "add", own + "/24", "dev", "v")
            sh("ip", "-n", name, "link", "set", "v", "up")
            sh("ip", "-n", name, "neigh", "replace", other, "lladdr", mac, "nud", "permanent", "dev", "v")
        sh("ip", "-n", self.a, "route", "add", "10.9.1.0/24", "via", "10.9.0.2")
        sh("ip", "-n", self.b, "route", "add", "local", "10.9.1.0/24", "dev", "lo")
        sh("ip", "-n", self.b, "route", "add", "10.9.3.0/24", "via", "10.9.0.1")
        sh("ip", "-n", self.a, "route", "add", "local", "10.9.3.0/24", "dev", "lo")
        self.sinks = [inside(name, lambda: [self.sink(p) for p in SINK_PORTS]) for name in (self.a, self.b)]
        self.dev_fd = open_inside(self.a, "dev")
        self.snmp_fd = open_inside(self.a, "snmp")

    @staticmethod
    def sink(port):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.bind(("", port))
        return s

    def transmitted(self):
        """Packets that left `a`, or were lost right after leaving."""
        for line in os.pread(self.dev_fd, 65536, 0).decode().splitlines():
            if line.strip().startswith("v:"):
                field = line.split(":")[1].split()
                return int(field[9]) + int(field[11])
        raise Trouble("no link v")

    def arrived(self):
        """UDP packets that came to the sinks of `a`, which are full from the first moment on."""
        lines = [line.split() for line in os.pread(self.snmp_fd, 65536, 0).decode().splitlines()
                 if line.startswith("Udp:")]
        return int(dict(zip(*lines))["InErrors"])


class Queue:
    """Columns of nfnetlink_queue in a namespace, of all queues together."""

    def __init__(self, name):
        self.fd = open_inside(name, "netfilter/nfnetlink_queue")

    def read(self):
        lines = [[int(x) for x in line.split()] for line in os.pread(self.fd, 4096, 0).decode().splitlines()]
        if not lines:
            raise Trouble("the queue is gone")
        return {"pending": sum(field[2] for field in lines),
                "dropped": sum(field[5] + field[6] for field in lines)}

    def drain(self):
        deadline = time.monotonic() + DRAIN_TIMEOUT
        while self.read()["pending"]:
            if time.monotonic() > deadline:
                raise Trouble("packets left in the queue")
            time.sleep(0.01)


def cpu_ns(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total


def pin(pid, cpus):
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), cpus)


class Peer:
    """A program of bench/peers at the queue of a namespace."""

    def __init__(self, lab, program, name, *arguments, hooks=HOOKS):
        path = os.path.join(lab.dir, f"count-{name}")
        with open(path, "wb") as f:
            f.write(bytes(4096))
        with open(path, "rb") as f:
            self.map = mmap.mmap(f.fileno(), 4096, prot=mmap.PROT_READ)
        self.process = lab.spawn([lab.program(f"bench/peers/{program}"), name, path, str(hooks), *arguments],
                                 stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{program} did not start")
        self.pid = self.process.pid

    def counts(self):
        return {"accepted": struct.unpack_from("Q", self.map)[0], "denied": 0}


class Agent:
    """Broker and agent with a runtime directory of their own."""

    def __init__(self, lab, policies):
        self.lab, self.dir = lab, tempfile.mkdtemp(dir=lab.dir)
        os.chmod(self.dir, 0o755)
        os.makedirs(self.dir + "/etc/policies")
        for name, text in policies.items():
            with open(f"{self.dir}/etc/policies/{name}.json", "w") as f:
                f.write(text)
        log = open(self.dir + "/log", "a")
        where = ["--runtime-dir", self.dir + "/run"]
        self.broker = lab.spawn([lab.program("nsgate-broker")] + where, stderr=log)
        self.agent = lab.spawn([lab.program("nsgate-agent")] + where + ["--config-dir", self.dir + "/etc"],
                               stderr=log)
        self.pid = self.agent.pid
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                if self.lab.load("ask", self.dir + "/run/api.sock", "1", "0", self.request("GET /readyz")):
                    break
            except Trouble:
                if time.monotonic() > deadline:
                    raise RuntimeError("the daemons did not start: " + open(self.dir + "/log").read()[-2000:])
                time.sleep(0.1)

    def request(self, line, body=""):
        path = os.path.join(self.dir, "request")
        with open(path, "w") as f:
            f.write(f"{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        return path

    def ask(self, line, body="", times=1, interval_ms=0):
        return self.lab.load("ask", self.dir + "/run/api.sock", str(times), str(interval_ms),
                             self.request(line, body))

    def ask_stats(self, times, interval_ms=0):
        return self.lab.load("ask", self.dir + "/run/stats.sock", str(times), str(interval_ms), "/dev/null")

    def attach(self, prefix, first, count, policy_name):
        return self.lab.load("attach", self.dir + "/run/broker.sock", prefix, str(first), str(count),
                             policy_name, timeout=300)

    def attach_wide(self, name, queues, policy_name):
        sh(self.lab.program("nsgatectl"), "--runtime-dir", self.dir + "/run", "attach", f"netns:{name}",
           "--name", name, "--policy", policy_name, "--queues", str(queues))

    def stats(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(self.dir + "/run/stats.sock")
            parts = []
            while part := s.recv(1 << 20):
                parts.append(part)
        return json.loads(b"".join(parts))["namespaces"]

    def rss_kib(self, pid):
        with open(f"/proc/{pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    def stop(self):
        for process in (self.agent, self.broker):
            self.lab.end(process)


class Judged:
    """One namespace of an agent, as a Peer looks from outside."""

    def __init__(self, agent, name):
        self.agent, self.name, self.pid = agent, name, agent.pid

    def counts(self):
        packets = self.agent.stats()[self.name]["packets"]
        return {"accepted": packets["accepted"],
                "denied": packets["dropped"] + packets["rejected"] + packets["queued_elsewhere"]}


class Lab:
    def __init__(self, build):
        self.build = os.path.abspath(build)
        self.dir = tempfile.mkdtemp(prefix="nsgate-bench-")
        os.chmod(self.dir, 0o755)
        self.made, self.processes = [], []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for process in reversed(self.processes):
            self.end(process)
        for prefix, count in self.made:
            subprocess.run([self.program("bench/load"), "unmake", prefix, str(count)], timeout=60)
        shutil.rmtree(self.dir, ignore_errors=True)

    def program(self, name):
        return os.path.join(self.build, name)

    def make(self, prefix, count):
        self.made.append((prefix, count))
        sh(self.program("bench/load"), "make", prefix, str(count))

    def spawn(self, command, **kwargs):
        process = subprocess.Popen(command, **kwargs)
        self.processes.append(process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)

    def load(self, *arguments, cpu=None, timeout=90):
        """Run a load to its end. Return: what it says."""
        command = [self.program("bench/load"), *arguments]
        if cpu is not None:
            command = ["taskset", "-c", str(cpu)] + command
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Trouble(f"load {arguments[0]}: no end")
        if done.returncode:
            raise Trouble(f"load {arguments[0]}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def serve(self, *arguments):
        """Start the other end of a load and wait until it listens."""
        process = self.spawn([self.program("bench/load"), *arguments], stdout=subprocess.PIPE)
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"load {arguments[0]} did not start")
        return process


def standard_policies():
    return {"r10": policy.text(10), "r1000": policy.text(1000), "r10000": policy.text(10000),
            "offload": policy.text(1000, offload=True)}
