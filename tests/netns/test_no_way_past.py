# SPDX-License-Identifier: GPL-2.0-or-later
"""
No way past: whatever is tried, nothing gets out or in that the policy forbids. A row of attacks.py
is an attack, and a test; it is tried in each mode, hooks x default x offload x strict, and bytes
that arrive are counted where they arrive. Each is first seen to work in a namespace that nsgate
does not hold, against nothing or against a filter that it is said to beat.

`make check` takes the modes of LIGHT, `make no-way-past` (NSGATE_NO_WAY_PAST in the environment)
all of them.
"""
import contextlib
import ctypes
import itertools
import json
import os
import secrets
import select
import socket
import struct
import sys
import threading
import time

import pytest

import attacks
import lab as laboratory
from attacks import ATTACKS
from frames import Wire
from lab import end, until

FULL = bool(os.environ.get("NSGATE_NO_WAY_PAST"))
PACKET_OUTGOING, ETH_P_ALL = 4, 3
HERE, THERE = {4: "10.77.0.1", 6: "fd77:0::1"}, {4: "10.77.0.2", 6: "fd77:0::2"}
OTHER = {4: "192.0.2.99", 6: "fd66::99"}
LEFT, RIGHT = {4: "10.77.1.1", 6: "fd77:1::1"}, {4: "10.77.2.2", 6: "fd77:2::2"}
ROUTER = {4: "10.77.2.1", 6: "fd77:2::1"}
RECEIVED = (1, 2, 4, 6, 17, 33, 41, 47, 58, 132, 136, 253)  # protocols of raw sockets
HOST_HOOKS = (["in", "out"], ["in"], ["out"], ["prerouting"], ["postrouting"],
              ["prerouting", "postrouting"], ["in", "out", "forward"],
              ["prerouting", "in", "forward", "out", "postrouting"])
ROUTER_HOOKS = (["forward"], ["in", "out", "forward"], ["prerouting"], ["postrouting"],
                ["prerouting", "in", "forward", "out", "postrouting"])
PORTS = itertools.cycle(range(20000, 30000, 8))
NUMBERS = itertools.count()
MANUAL = os.path.join(laboratory.HERE, "..", "..", "doc", "man", "nsgate-policy.5")


class Mode:
    def __init__(self, hooks, default, offload, strict):
        self.hooks, self.default, self.offload, self.strict = hooks, default, offload, strict

    def __str__(self):
        more = [word for word in ("offload", "strict") if getattr(self, word)]
        return "/".join(("+".join(self.hooks), self.default, *more))

    def judges(self, side):
        hooks = {"out": ("out", "postrouting"), "in": ("in", "prerouting"),
                 "forward": ("forward", "prerouting", "postrouting")}[side]
        return bool(set(hooks) & set(self.hooks))


def every_mode(all_hooks):
    for mode in itertools.product(all_hooks, ("drop", "reject"), (False, True), (False, True)):
        if mode[1] != "reject" or "postrouting" not in mode[0]:
            yield Mode(*mode)


LIGHT = {
    "host": [
        Mode(["in", "out"], "reject", False, True),
        Mode(["in", "out"], "drop", True, False),
        Mode(["in", "out", "forward"], "reject", True, True),
        Mode(["prerouting", "postrouting"], "drop", True, True),
        Mode(["out"], "drop", False, False),
        Mode(["in"], "drop", True, False),
    ],
    "router": [
        Mode(["forward"], "reject", True, False),
        Mode(["in", "out", "forward"], "drop", False, True),
        Mode(["prerouting"], "drop", False, False),
        Mode(["prerouting", "in", "forward", "out", "postrouting"], "drop", True, False),
    ],
}
MODES = LIGHT if not FULL else {"host": list(every_mode(HOST_HOOKS)),
                                "router": list(every_mode(ROUTER_HOOKS))}


def modes_for(attack):
    """CAP_NET_RAW is held by a strict policy alone. What is heavy: with and without offload."""
    modes = MODES["router" if attack.side == "forward" else "host"]
    for mode in modes[:4:2] if attack.heavy else modes:
        if attack.caps == "raw" and not mode.strict:
            continue
        if mode.judges(attack.side) and (not attack.both or mode.judges("in") and
                                         mode.judges("out")):
            yield mode


# ---- policies ----


def accept(name, **keys):
    return {"name": name, "action": "accept", **keys}


FENCE_RULES = [accept("fence", protocol="udp", dst=[*THERE.values(), *HERE.values(),
                                                   *RIGHT.values()], dport=attacks.FENCE)]
LOOPBACK_OUT = [accept("lo-out", direction="out", oif="lo")]
LOOPBACK_IN = [accept("local", direction="out", dst=["127.0.0.0/8", "::1"]),
               accept("lo-in", direction="in", iif="lo")]
OPEN = [
    accept("ask", direction="out", protocol="udp", dst=[*THERE.values()], dport=attacks.UDP_OPEN),
    accept("fetch", direction="out", protocol="tcp", dst=[*THERE.values()],
           dport=attacks.TCP_OPEN),
    accept("serve", direction="in", protocol="udp", dport=attacks.UDP_SERVED),
    accept("serve-tcp", direction="in", protocol="tcp", dport=attacks.TCP_SERVED),
    accept("through", direction="forward", protocol=["udp", "tcp"], dst=[*RIGHT.values()],
           dport=attacks.UDP_OPEN),
]
USUAL = FENCE_RULES + LOOPBACK_OUT + LOOPBACK_IN + OPEN
RULES = {
    "usual": USUAL,
    "tight": FENCE_RULES,
    "no loopback": FENCE_RULES + LOOPBACK_OUT + OPEN,
    "owner": [accept("owner", direction="out", uid=attacks.OWNER, protocol="udp",
                     dport=attacks.OWNED), *USUAL],
    "links": [accept("links", direction="out", oif="lan*", protocol="udp",
                     dport=attacks.RENAMED), *USUAL],
}


# ---- who receives ----


class Wiretap:
    """What arrives by a link: whole frames."""

    def __init__(self, netns, dev="eth0"):
        self.socket = netns.open_socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, laboratory.SO_RCVBUFFORCE, 32 << 20)
        self.socket.bind((dev, ETH_P_ALL))
        self.socket.setblocking(False)
        self.seen = []

    def read(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                data, address = self.socket.recvfrom(1 << 17)
                if address[2] != PACKET_OUTGOING:
                    self.seen.append(data)
        return self.seen

    def wait(self, timeout):
        return select.select([self.socket], [], [], timeout)


class Receivers:
    """What is delivered in a namespace, behind all hooks: raw sockets of every protocol."""

    def __init__(self, netns):
        self.sockets = [
            netns.open_socket(family, socket.SOCK_RAW, protocol)
            for family in (socket.AF_INET, socket.AF_INET6) for protocol in RECEIVED
        ]
        for each in self.sockets:
            each.setsockopt(socket.SOL_SOCKET, laboratory.SO_RCVBUFFORCE, 1 << 20)
            each.setblocking(False)
        self.seen = []

    def read(self):
        for each in self.sockets:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.seen.append(each.recv(1 << 17))
        return self.seen

    def wait(self, timeout):
        return select.select(self.sockets, [], [], timeout)


class Accomplice:
    """Outside: answers what is allowed."""

    def __init__(self, netns):
        self.datagrams = []
        self.streams = []
        for family in (socket.AF_INET, socket.AF_INET6):
            self.datagrams.append(netns.udp(family, bind=("", attacks.UDP_OPEN)))
            self.streams.append(netns.tcp_listen(attacks.TCP_OPEN, family))
        self.wake, self.stop = os.pipe()
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def loop(self):
        connections = []
        while True:
            ready = select.select([*self.datagrams, *self.streams, *connections, self.wake], [],
                                  [])[0]
            if self.wake in ready:
                break
            for each in ready:
                with contextlib.suppress(OSError):
                    if each in self.datagrams:
                        each.sendto(b"answer", each.recvfrom(1 << 16)[1])
                    elif each in self.streams:
                        connections.append(each.accept()[0])
                    elif not self.answer(each):
                        connections.remove(each)
        for each in connections:
            each.close()

    @staticmethod
    def answer(connection):
        """Return: does it go on?"""
        try:
            if connection.recv(1 << 16):
                connection.send(b"answer")
                return True
        except OSError:
            pass
        connection.close()
        return False

    def close(self):
        os.write(self.stop, b"x")
        self.thread.join(10)
        os.close(self.wake)
        os.close(self.stop)


class Attacker:
    """The process of attacks.py, in a namespace."""

    def __init__(self, netns, caps):
        self.process = netns.popen(sys.executable, "-B", attacks.__file__, caps,
                                   stdin=laboratory.subprocess.PIPE,
                                   stdout=laboratory.subprocess.PIPE, text=True)
        assert self.listen() == {"ready": True}

    def say(self, what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def listen(self):
        ready = select.select([self.process.stdout], [], [], 150)[0]
        line = self.process.stdout.readline() if ready else ""
        assert line, "the attacker is gone"
        return json.loads(line)


# ---- the ground ----


class Ground:
    """
    Namespaces to attack: `held` by nsgate, under a name, or not. One sends, one receives, and what
    comes between them is judged.
    """

    def __init__(self, lab, side, guarded):
        self.lab, self.side = lab, side
        if side == "forward":
            self.source, self.held, self.target = lab.router()
            self.addresses = (LEFT, RIGHT)
        else:
            inner, outside = lab.pair()
            self.held = inner
            self.source, self.target = (inner, outside) if side == "out" else (outside, inner)
            self.addresses = (HERE, THERE) if side == "out" else (THERE, HERE)
        self.prepare()
        self.receiver = Receivers(self.target) if side == "in" else Wiretap(self.target)
        self.macs = Wire(self.source).addresses
        self.attackers = {}
        self.accomplice = Accomplice(self.target) if side == "out" else None
        self.outside = Wire(self.target) if side == "out" else None
        self.name = lab.attach(self.held, version=1, default="accept") if guarded else None

    def prepare(self):
        if self.side == "out":
            for args in (("route", "add", "default", "via", THERE[4]),
                         ("-6", "route", "add", "default", "via", THERE[6])):
                self.held.ip(*args)
            self.held.sysctl("ipv4/ping_group_range", "0 2147483647")
            for key in ("ipv4/conf/eth0/igmpv2", "ipv4/conf/eth0/igmpv3", "ipv6/conf/eth0/mldv1",
                        "ipv6/conf/eth0/mldv2"):  # else a second or ten
                self.held.sysctl(f"{key}_unsolicited_report_interval", 50)
        if self.side == "forward":
            for args in (("route", "add", "default", "via", RIGHT[4]),
                         ("-6", "route", "add", "default", "via", RIGHT[6])):
                self.held.ip(*args)
        if self.side == "in":
            self.held.sysctl("ipv4/conf/eth0/route_localnet", 1)
        for each in ("all", "left", "right") if self.side == "forward" else ("all", "eth0"):
            self.held.sysctl(f"ipv4/conf/{each}/rp_filter", 0)
        # Answers of the kernel to packets that were forged are no measure of the rate.
        self.held.sysctl("ipv4/icmp_ratemask", 0)
        self.held.sysctl("ipv6/icmp/ratemask", "")

    def attacker(self, caps):
        if caps not in self.attackers:
            self.attackers[caps] = Attacker(self.source, caps)
        return self.attackers[caps]

    def request(self, row, family, marker):
        sender, receiver = self.addresses
        return {"attack": row, "family": family, "here": sender[family],
                "there": receiver[family], "other": OTHER[family], "router": ROUTER[family],
                "forbidden": next(PORTS), "marker": marker.hex(),
                "there_mac": self.macs[:6].hex(), "here_mac": self.macs[6:].hex()}

    def fence(self, family):
        """
        Until a packet that is allowed has come, and another one: what was before is decided. Each
        opens a flow, as with offload the further ones of a flow overtake what waits.
        """
        af = socket.AF_INET if family == 4 else socket.AF_INET6
        for _ in range(2):
            token = secrets.token_bytes(12)
            with self.source.udp(af) as sock:
                sock.sendto(token, (self.addresses[1][family], attacks.FENCE))
            until(lambda t=token: any(t in seen for seen in self.receiver.read()),
                  "the fence to come through", 10)

    def count(self, row, family, act):
        """Carry out an attack. Return: bytes of what came and holds its marker."""
        attack = ATTACKS[row]
        marker = secrets.token_bytes(8)
        self.receiver.read()
        self.receiver.seen.clear()
        attacker = self.attacker(attack.caps)
        attacker.say(self.request(row, family, marker))
        while "ask" in (answer := attacker.listen()):
            act(answer["ask"], attacker, marker)
            attacker.say({})
        assert "failed" not in answer, f"{row} could not be carried out: {answer['failed']}"
        self.fence(family)
        self.linger(attack.wait, marker, family)
        return self.past(marker, family)

    def past(self, marker, family):
        signs = [marker]
        if family == 4:  # as an address, see attacks.Go
            signs += [bytes([100]) + marker[:3], bytes([239]) + marker[:3]]
        # What was put together again may well be a datagram that is allowed.
        allowed = struct.pack("!HH", attacks.SENDER, attacks.UDP_OPEN)
        return sum(len(data) for data in self.receiver.read()
                   if allowed not in data and any(sign in data for sign in signs))

    def linger(self, seconds, marker, family):
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.past(marker, family):
            self.receiver.wait(min(left, 0.1))

    def close(self):
        for attacker in self.attackers.values():
            end(attacker.process)
        if self.accomplice:
            self.accomplice.close()


def borrowed(pid, descriptor):
    """A copy of another process's descriptor."""
    pidfd = os.pidfd_open(pid)
    try:
        copy = ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, descriptor, 0)  # pidfd_getfd
        assert copy >= 0, os.strerror(ctypes.get_errno())
        return socket.socket(fileno=copy)
    finally:
        os.close(pidfd)


class Field:
    """The grounds, made once, and the policies, each as it is needed."""

    def __init__(self, lab):
        self.lab = lab
        self.grounds = {}
        self.policies = {}

    def ground(self, side, guarded):
        if (side, guarded) not in self.grounds:
            self.grounds[side, guarded] = Ground(self.lab, side, guarded)
        return self.grounds[side, guarded]

    def policy(self, rules, mode, copy=0):
        key = (rules, str(mode), copy)
        if key not in self.policies:
            self.policies[key] = self.lab.policy(
                hooks=mode.hooks, default=mode.default, offload=mode.offload, strict=mode.strict,
                rules=RULES[rules])
        return self.policies[key]

    def bind(self, ground, rules, mode, copy=0):
        """
        In force when this returns. After a crowd of flows the broker may be busy with their labels
        for longer than an answer is waited for (503).
        """
        def put():
            answer = self.lab.http("PUT", f"/v1/namespaces/{ground.name}/policy",
                                   {"policy": self.policy(rules, mode, copy)})
            assert answer.status in (200, 503), answer
            return answer.status == 200
        until(put, "the policy to be in force", 30)

    def bare(self, row, family):
        """Where nsgate is not."""
        attack = ATTACKS[row]
        ground = self.ground(attack.side, False)
        if attack.control:
            ground.held.nft(attack.control)
        try:
            return ground.count(row, family, lambda *ask: self.act(ground, None, row, family, *ask))
        finally:
            if attack.control:
                ground.held.nft("flush ruleset")

    def held(self, row, family, mode):
        attack = ATTACKS[row]
        ground = self.ground(attack.side, True)
        self.bind(ground, attack.rules, mode)
        return ground.count(row, family, lambda *ask: self.act(ground, mode, row, family, *ask))

    # ---- what attacks ask for ----

    def act(self, ground, mode, row, family, ask, attacker, marker):
        if "policy" in ask and mode:
            rules = ATTACKS[row].rules if ask["policy"] == "usual" else ask["policy"]
            self.bind(ground, rules, mode, next(NUMBERS) % 2 + 1)
        elif "frame" in ask:
            ground.outside.send(bytes.fromhex(ask["frame"]))
        elif "connect" in ask:
            ground.target.tcp_connect(HERE[family], ask["connect"]).send(b"question")
        elif "send_on" in ask:
            self.send_on(borrowed(self.pid(attacker), ask["send_on"]), marker)
        elif "rename" in ask:
            link, name = ask["rename"]
            ground.held.ip("link", "set", link, "name", name)
            if mode:
                self.wait_renamed(ground, name.startswith("lan"))

    @staticmethod
    def pid(attacker):
        return attacker.process.pid  # nsenter has become it

    @staticmethod
    def send_on(theirs, marker):
        with theirs:
            os.seteuid(attacks.OWNER)
            try:
                theirs.send(b"no way past " + marker)
            except OSError as error:
                if error.errno not in attacks.REFUSALS:
                    raise
            finally:
                os.seteuid(0)

    @staticmethod
    def wait_renamed(ground, allowed):
        """Until the rules know the link's new name: a flow of ours passes, or does not any more."""
        def passes():
            token = secrets.token_bytes(12)
            with ground.held.udp() as probe, contextlib.suppress(OSError):
                probe.sendto(token, (THERE[4], attacks.RENAMED))
            ground.fence(4)
            return any(token in seen for seen in ground.receiver.read())
        # A packet may get lost while the guard of the link is made anew.
        until(passes if allowed else lambda: not any(passes() for _ in range(3)),
              "the link's new name to be known")

    def close(self):
        for ground in self.grounds.values():
            ground.close()


@pytest.fixture(scope="module")
def field():
    with laboratory.Lab() as lab:
        made = Field(lab.start())
        try:
            yield made
        finally:
            made.close()


@pytest.mark.parametrize("row", [name for name, attack in ATTACKS.items()
                                 if FULL or not attack.heavy])
def test_no_way_past(field, row):
    attack = ATTACKS[row]
    past = {}
    for family in attack.families:
        assert field.bare(row, family), f"{row} does not even work without nsgate, in IPv{family}"
        for mode in modes_for(attack):
            octets = field.held(row, family, mode)
            if octets:
                past[f"IPv{family} {mode}"] = octets
    if attack.beyond:
        with open(MANUAL, encoding="utf-8") as file:
            assert attack.beyond in file.read(), f"{row} gets past, and the manual does not say so"
        return
    assert not past, "bytes past: " + "; ".join(f"{mode}: {n}" for mode, n in past.items())
