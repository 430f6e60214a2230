# SPDX-License-Identifier: GPL-2.0-or-later
"""
A laboratory whose programs run with libfault.so, and what is done in it while calls fail.

A round is all that goes on in a day, once: attach, packets, a policy by HTTP, one by file, every
document, detach. It is made three ways: to count how often each call is made (`count`), with one
call failing (`suffer`: every answer is taken, but a hang), and as it should be (`round`).

A forbidden packet is sent every millisecond throughout and must never arrive.
"""
import contextlib
import ctypes
import errno
import functools
import http.client
import json
import mmap
import os
import socket
import struct
import threading
import time

import ipc
import lab as laboratory
from lab import Arrivals, end, eventually, until

LIBRARY = f"{laboratory.BUILD}/tests/faults/libfault.so"
ALLOWED, FORBIDDEN = 7, 8
DEADLINE = 10.0  # for an answer: longer than any that the daemons give each other
IMPATIENT = 0.1
SHORT, CTRUNC = 4001, 4002


PATHS = ("/v1/namespaces", "/v1/namespaces/steady/stats", "/v1/stats", "/v1/policies",
         "/v1/policies/p", "/metrics")


def policy(number):
    """Two of them differ in what must be told to the broker, the kernel and the rules' counters."""
    return {"version": 1, "default": "drop", "rules": [
        {"name": "ok", "action": "accept", "direction": "in", "protocol": ["udp"],
         "dport": [ALLOWED]},
        {"name": f"no-{number % 2}", "action": "drop", "direction": "in", "protocol": ["udp"],
         "dport": [FORBIDDEN]}]}


def call_names():
    library = ctypes.CDLL(LIBRARY)
    count = ctypes.c_uint.in_dll(library, "fault_call_count").value
    names = (ctypes.c_char_p * count).in_dll(library, "fault_call_names")
    return [name.decode() for name in names]


class Plan:
    """The file that tells a program's libfault.so what shall fail: struct plan of libfault.c."""

    LAYOUT = struct.Struct("=IIQIiQq")

    def __init__(self, path):
        self.path = path
        self.names = call_names()
        self.size = self.LAYOUT.size + 8 * len(self.names)
        with open(path, "w+b") as file:
            file.truncate(self.size)
            os.chmod(path, 0o600)
            self.map = mmap.mmap(file.fileno(), self.size)

    def arm(self, call=None, error=0, nth=0, for_good=False):
        self.disarm()
        self.map[self.LAYOUT.size:] = bytes(self.size - self.LAYOUT.size)
        number = self.names.index(call) if call else 0
        struct.pack_into("=IQIiQ", self.map, 4, number, nth, for_good, error, 0)
        struct.pack_into("=I", self.map, 0, 1)

    def disarm(self):
        struct.pack_into("=I", self.map, 0, 0)

    @property
    def fired(self):
        return self.LAYOUT.unpack_from(self.map)[5]

    @property
    def blocks(self):
        return self.LAYOUT.unpack_from(self.map)[6]

    @property
    def counts(self):
        values = struct.unpack_from(f"={len(self.names)}Q", self.map, self.LAYOUT.size)
        return {name: value for name, value in zip(self.names, values) if value}


class FaultLab(laboratory.Lab):
    def __init__(self):
        super().__init__()
        self.plans = {name: Plan(f"{self.dir}/{name}.plan") for name in laboratory.PROGRAMS}
        self.number = 0
        self.sender = None
        self.patience = DEADLINE

    def environment(self, name):
        preload = LIBRARY
        if os.environ.get("NSGATE_SANITIZER"):
            preload = f"{os.environ['NSGATE_SANITIZER']}:{LIBRARY}"
        return {**os.environ, "LD_PRELOAD": preload, "NSGATE_FAULT_PLAN": self.plans[name].path}

    # ---- the stage ----

    def start(self):
        super().start()
        self.steady, self.steady_peer = self.netns("steady"), self.netns("steady-peer")
        self.fresh, self.fresh_peer = self.netns("fresh"), self.netns("fresh-peer")
        self.link(self.steady, self.steady_peer, 0)
        self.link(self.fresh, self.fresh_peer, 1)
        self.arrivals = {netns: Arrivals(netns, ALLOWED, FORBIDDEN, families=[socket.AF_INET])
                         for netns in (self.steady, self.fresh)}
        self.senders = {self.steady: (self.steady_peer.udp(), "10.77.0.1"),
                        self.fresh: (self.fresh_peer.udp(), "10.77.1.1")}
        self.put_policy("p", **policy(0))
        self.attach(self.steady, "--policy", "p", name="steady")
        self.sender = Sender(*self.senders[self.steady])
        for _ in range(3):
            self.round()
        return self

    def close(self):
        if self.sender:
            self.sender.close()
        super().close()

    def send(self, netns, port):
        sender, address = self.senders[netns]
        sender.sendto(b"x", (address, port))

    def flows(self, netns):
        """What is allowed passes, sooner or later."""
        before = self.seen(netns, ALLOWED)

        def passes():
            self.send(netns, ALLOWED)
            return self.seen(netns, ALLOWED) > before
        until(passes, "an allowed packet to pass")

    def seen(self, netns, port):
        return self.arrivals[netns].drain()[port, 4]

    def forbidden_held(self):
        assert self.seen(self.steady, FORBIDDEN) == 0, "a forbidden packet passed"

    # ---- what is asked; each raises where the answer is not success ----

    def attach_fresh(self):
        client = ipc.Client(self, timeout=self.patience)
        try:
            body = ipc.attach_body("fresh", policy="p", target=f"netns:{self.fresh}")
            fd = os.open(self.fresh.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                status, text = client.ask(ipc.message(ipc.ATTACH, body), [fd])
            finally:
                os.close(fd)
        finally:
            client.close()
        assert status == 0, text

    def detach_fresh(self):
        client = ipc.Client(self, timeout=self.patience)
        try:
            status, text = client.ask(ipc.message(ipc.DETACH, b"fresh".ljust(64, b"\0")))
        finally:
            client.close()
        assert status == 0, text

    def swap(self):
        self.number += 1
        answer = self.http("PUT", "/v1/policies/p", policy(self.number), timeout=self.patience)
        assert answer.status == 200, answer

    def write_file(self):
        """A policy that nobody uses."""
        self.number += 1
        with open(f"{self.policies}/.q.json.new", "w", encoding="ascii") as file:
            json.dump(policy(self.number), file)
        os.rename(f"{self.policies}/.q.json.new", f"{self.policies}/q.json")

    def look(self, path):
        answer = self.http("GET", path, timeout=self.patience)
        assert answer.status == 200, answer
        assert answer.body

    def look_at_socket(self):
        client = laboratory.connect_stream(f"{self.runtime}/stats.sock", self.patience)
        with client, client.makefile("rb") as file:
            assert json.load(file)

    def requests(self):
        yield self.swap
        yield self.write_file
        for path in PATHS:
            yield functools.partial(self.look, path)
        yield self.look_at_socket

    # ---- rounds ----

    def round(self):
        """As it should be."""
        self.attach_fresh()
        before = self.seen(self.fresh, FORBIDDEN)
        self.send(self.fresh, FORBIDDEN)
        self.flows(self.fresh)
        self.flows(self.steady)
        for request in self.requests():
            request()
        assert self.seen(self.fresh, FORBIDDEN) == before, "a forbidden packet passed"
        self.detach_fresh()
        self.forbidden_held()

    def attempt(self, request, complaints):
        """Return: whether the answer was success. No answer at all is none that is tolerated."""
        try:
            request()
            return True
        except TimeoutError as error:
            complaints.append(repr(error))
            assert self.patience < DEADLINE, f"no answer: {complaints}"
        except (AssertionError, OSError, ValueError, http.client.HTTPException) as error:
            complaints.append(repr(error))
        return False

    def suffer(self, for_good):
        """
        With something failing. Return: what was not answered well.
        Where a call fails for good there may be nobody to answer: then we are not patient.
        """
        complaints = []
        self.patience = IMPATIENT if for_good else DEADLINE
        before = self.seen(self.fresh, FORBIDDEN)
        if self.attempt(self.attach_fresh, complaints):
            self.send(self.fresh, FORBIDDEN)
            self.send(self.fresh, ALLOWED)
        self.send(self.steady, ALLOWED)
        for request in self.requests():
            self.attempt(request, complaints)
        assert self.seen(self.fresh, FORBIDDEN) == before, "a forbidden packet passed"
        self.attempt(self.detach_fresh, complaints)
        self.forbidden_held()
        self.patience = DEADLINE
        return complaints

    def count(self, program):
        """How often a round makes each call."""
        self.plans[program].arm()
        self.round()
        self.plans[program].disarm()
        return self.plans[program].counts

    # ---- restarts ----

    def restart(self, program):
        """Kill a daemon and start it again, without waiting for it."""
        if program == "nsgate-agent":
            end(self.agent)
            self.start_agent(wait=False)
        else:
            end(self.broker)
            self.start_broker("--admin", "4321", wait=False)
        return self.broker if program == "nsgate-broker" else self.agent

    def is_served(self):
        """A packet to the steady namespace passes."""
        before = self.seen(self.steady, ALLOWED)
        self.send(self.steady, ALLOWED)
        with contextlib.suppress(AssertionError):
            return until(lambda: self.seen(self.steady, ALLOWED) > before, "", 0.02)

    def count_restart(self, killed, program):
        """How often the takeover makes each call."""
        self.attach_fresh()
        self.plans[program].arm()
        self.restart(killed)
        until(lambda: self.is_served() and self.is_ready(), "it to start")
        self.plans[program].disarm()
        counts = self.plans[program].counts
        self.heal()
        return counts

    def suffer_restart(self, program, for_good):
        """Kill `program` and start it anew while something fails. Return: whether it lives."""
        process = self.restart(program)

        def is_over():
            return process.poll() is not None or (self.is_served() and self.is_ready())
        with contextlib.suppress(AssertionError):
            until(is_over, "it to start", 1 if for_good else DEADLINE)
        self.forbidden_held()
        return process.poll() is None

    def is_ready(self):
        try:
            return (laboratory.answers(f"{self.runtime}/broker.sock", socket.SOCK_SEQPACKET) and
                    self.http("GET", "/readyz", timeout=IMPATIENT).status == 200)
        except (OSError, http.client.HTTPException):
            return False

    def last_line(self, program):
        lines = self.log(program).splitlines()
        return lines[-1] if lines else ""

    def revive(self):
        """
        A daemon that gave up at its start has said why, and the next one starts. One whose calls
        fail no more gets well by itself, but for its start: it may be left half started.
        """
        for name, process in (("nsgate-broker", self.broker), ("nsgate-agent", self.agent)):
            if process.poll() is None:
                continue
            assert process.returncode > 0, f"{name} ended with {process.returncode}"
            assert self.last_line(name).startswith(f"{name}: "), self.last_line(name)
            self.restart(name)

    def last_words(self):
        return "\n".join(f"    {line}" for name in ("nsgate-broker", "nsgate-agent")
                         for line in self.log(name).splitlines()[-5:])

    def heal(self):
        """Nothing fails any more: a whole round goes well, sooner or later."""
        def whole():
            try:
                self.revive()  # what failed for good may end a daemon only now
                if "fresh" in self.names():
                    self.detach_fresh()
                self.round()
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise AssertionError(f"no whole round: {error!r}") from error
        eventually(whole)

    def holdings(self):
        """Descriptors and blocks of memory of both daemons."""
        return (*self.fds(), *(self.plans[name].blocks for name in
                               ("nsgate-broker", "nsgate-agent")))

    def holdings_at_rest(self):
        """The same for a third of a second: every client has been seen to be gone."""
        seen = []

        def still():
            seen.append((time.monotonic(), self.holdings()))
            while seen[0][1] != seen[-1][1]:
                seen.pop(0)
            return seen[-1][0] - seen[0][0] > 0.3
        until(still, "both daemons to be at rest")
        return seen[-1][1]

    def lost_nothing(self, before, memory=True):
        """Another process need not have as many blocks of memory."""
        kept = slice(None if memory else 2)

        def as_before():
            now = self.holdings()
            assert all(n <= b for n, b in zip(now[kept], before[kept])), (
                f"descriptors and blocks are {now}, they were {before}")
        eventually(as_before)


# What no call says again and again of the same: a caller may try without end.
PASSING = (errno.EINTR, errno.EAGAIN, errno.ECONNABORTED, errno.ETOOMANYREFS, SHORT)

# How each call fails, beside ENOMEM. recv() does not say EAGAIN where there is something to read,
# and libmicrohttpd relies on it.
ERRORS = {
    "accept4": (errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EAGAIN, errno.ECONNABORTED),
    "clone": (errno.EAGAIN,),
    "connect": (errno.EINTR, errno.EAGAIN),
    "descriptors": (CTRUNC,),
    "epoll_create1": (errno.EMFILE,),
    "epoll_ctl": (errno.ENOSPC,),
    "epoll_wait": (errno.EINTR,),
    "eventfd": (errno.EMFILE,),
    "eventfd_read": (errno.EINTR, errno.EAGAIN),
    "eventfd_write": (errno.EINTR, ),
    "fork": (errno.EAGAIN,),
    "ftruncate": (errno.EINTR, errno.ENOSPC),
    "fsync": (errno.EIO,),
    "inotify_add_watch": (errno.ENOSPC,),
    "inotify_init1": (errno.EMFILE,),
    "ioctl": (errno.EMFILE,),
    "mkdir": (errno.ENOSPC,),
    "open": (errno.EMFILE, errno.EINTR),
    "openat": (errno.EMFILE, errno.ENFILE, errno.EINTR, errno.ENOSPC),
    "poll": (errno.EINTR,),
    "pread": (errno.EINTR, errno.EIO, SHORT),
    "pthread_create": (errno.EAGAIN,),
    "pwrite": (errno.EINTR, errno.ENOSPC, SHORT),
    "read": (errno.EINTR, errno.EAGAIN, errno.EIO, SHORT),
    "readdir": (errno.EIO,),
    "recv": (errno.EINTR, errno.ENOBUFS, SHORT),
    "recvfrom": (errno.EINTR, errno.EAGAIN, errno.ENOBUFS),
    "recvmmsg": (errno.EINTR, errno.EAGAIN, errno.ENOBUFS),
    "recvmsg": (errno.EINTR, errno.EAGAIN, errno.ENOBUFS, SHORT),
    "renameat": (errno.ENOSPC,),
    "send": (errno.EINTR, errno.EAGAIN, errno.ENOBUFS, SHORT),
    "sendmsg": (errno.EINTR, errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS),
    "sendto": (errno.EINTR, errno.EAGAIN, errno.ENOBUFS),
    "signalfd": (errno.EMFILE,),
    "socket": (errno.EMFILE, errno.ENOBUFS),
    "timerfd_create": (errno.EMFILE,),
    "waitpid": (errno.EINTR,),
    "write": (errno.EINTR, errno.EAGAIN, errno.ENOSPC, SHORT),
}
NO_ENOMEM = {"waitpid", "epoll_wait", "eventfd_read", "eventfd_write", "descriptors", "poll"}


def errors_of(call, for_good):
    errors = ERRORS.get(call, ())
    if call not in NO_ENOMEM:
        errors += (errno.ENOMEM,)
    if for_good:
        errors = tuple(e for e in errors if e not in PASSING)
    return errors


COMPLAINTS_MAX = 10


def thin(cases, budget):
    """At most `budget` of them, evenly spread, the first and the last among them."""
    if not budget or len(cases) <= budget:
        return cases
    return [cases[i * (len(cases) - 1) // (budget - 1)] for i in range(budget)]


def cases(counts, for_good, budget):
    """(call, error, number of the call): all there are, or `budget` of them."""
    return thin([(call, error, nth) for call, count in sorted(counts.items())
                 for error in errors_of(call, for_good) for nth in range(1, count + 1)], budget)


def error_name(error):
    return {SHORT: "short", CTRUNC: "MSG_CTRUNC"}.get(error) or errno.errorcode[error]


class Sweep:
    """
    Makes one call after the other fail, and notes what does not hold; after that the laboratory
    is another one.
    """

    def __init__(self, program, for_good, prepare, restarts):
        self.program, self.for_good, self.prepare = program, for_good, prepare
        self.restarts = restarts  # `suffer` does
        self.complaints = []
        self.fired = 0
        self.open()

    def open(self):
        self.lab = FaultLab()
        try:
            self.lab.start()
            self.counts = self.prepare(self.lab)
            self.before = self.lab.holdings_at_rest()
        except BaseException:
            self.lab.close()
            raise

    def one(self, call, error, nth, suffer):
        plan = self.lab.plans[self.program]
        if self.restarts:
            self.lab.attach_fresh()
        plan.arm(call, error, nth, self.for_good)
        try:
            suffer(self.lab)
        finally:
            self.fired += plan.fired > 0
            plan.disarm()
        self.lab.heal()
        self.lab.lost_nothing(self.before, memory=not self.restarts)

    def run(self, todo, suffer):
        for call, error, nth in todo:
            try:
                self.one(call, error, nth, suffer)
            except (AssertionError, OSError) as problem:
                self.complaints.append(
                    f"{self.program}: {call}() number {nth} fails with {error_name(error)}"
                    f"{' for good' * self.for_good}: {problem}\n{self.lab.last_words()}")
                self.lab.close()
                if len(self.complaints) == COMPLAINTS_MAX:
                    return
                self.open()

    def close(self):
        self.lab.close()


class Sender:
    """Sends forbidden packets."""

    def __init__(self, sender, address):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.loop, args=(sender, (address, FORBIDDEN)))
        self.thread.start()

    def loop(self, sender, address):
        while not self.stop.wait(0.001):
            with contextlib.suppress(OSError):
                sender.sendto(b"no", address)

    def close(self):
        self.stop.set()
        self.thread.join()
