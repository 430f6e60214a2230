# SPDX-License-Identifier: GPL-2.0-or-later
"""
Errors: what the kernel, its routers and a namespace's own firewall tell a program about its packets
is told under nsgate as well.
"""
import contextlib
import errno
import select
import socket
import struct
import threading
import time

import frames
from lab import batch, until
from transparent.traffic import (
    FAMILIES, FAMILY, IN_VAIN, IP_MTU_DISCOVER, IP_RECVERR, IP_TTL, IPV6_MTU_DISCOVER, IPV6_RECVERR,
    MSG_ERRQUEUE, PATIENCE, PMTUDISC_DO, Receiver, ask, connect, errno_name, flush_conntrack, here,
    level, pour, readable, say, sender, there)

IPV6_UNICAST_HOPS = 16
IPV4_ERRORS = {(11, 0): "time-exceeded", (3, 0): "no-route", (3, 1): "no-host", (3, 3): "no-port",
               (3, 4): "too-big", (3, 13): "prohibited"}
IPV6_ERRORS = {(3, 0): "time-exceeded", (1, 0): "no-route", (1, 3): "no-host", (1, 4): "no-port",
               (2, 0): "too-big", (1, 1): "prohibited"}


def without_limits(*namespaces):
    """The kernel says every error, not one a second."""
    for netns in namespaces:
        netns.sysctl("ipv4/icmp_ratemask", 0)
        netns.sysctl("ipv6/icmp/ratelimit", 0)


def told(sock, version, timeout=PATIENCE):
    """What the error queue of a socket says: (name, who said it, how large it may be)."""
    poller = select.poll()
    poller.register(sock, select.POLLERR)
    if not poller.poll(timeout * 1000):
        return None
    _, ancillary, _, _ = sock.recvmsg(2048, 1024, MSG_ERRQUEUE)
    for _, kind, value in ancillary:
        if kind == (IPV6_RECVERR if version == 6 else IP_RECVERR):
            _, origin, what, code, _, info, _ = struct.unpack_from("=IBBBBII", value)
            offender = value[16:]
            address = socket.inet_ntop(FAMILY[version], offender[8:24] if version == 6 else
                                       offender[4:8]) if origin in (2, 3) else "here"
            names = IPV6_ERRORS if version == 6 else IPV4_ERRORS
            return names.get((what, code), (what, code)), address, info
    return None


def told_about(netns, version, address, port=33434, ttl=None, size=20):
    """What comes back about a datagram that is the first of its flow."""
    with contextlib.closing(sender(netns, version)) as sock:
        sock.setsockopt(level(version), IPV6_RECVERR if version == 6 else IP_RECVERR, 1)
        sock.setsockopt(level(version), IPV6_MTU_DISCOVER if version == 6 else IP_MTU_DISCOVER,
                        PMTUDISC_DO)
        if ttl:
            sock.setsockopt(level(version), IPV6_UNICAST_HOPS if version == 6 else IP_TTL, ttl)
        sock.sendto(b"x" * size, (address, port))
        return told(sock, version)


def errors_about_first_packets(stage, policed):
    """Time exceeded, no route, too big, no port: `policed` sends, forwards or answers."""
    left, router, right = stage.router()
    without_limits(left, router, right)
    batch(["route add unreachable 10.66.0.0/16", "route add prohibit 10.67.0.0/16",
           "route add unreachable fd66::/16", "link set right mtu 1300"], "-n", router)
    stage.police({"left": left, "router": router, "right": right}[policed])
    outcome = {}
    for version, target, no_route in ((4, "10.77.2.2", "10.66.0.1"), (6, "fd77:2::2", "fd66::1")):
        for name, words in (("ttl", {"address": target, "ttl": 1}),
                            ("route", {"address": no_route}),
                            ("size", {"address": target, "size": 1400}),
                            ("port", {"address": target})):
            outcome[f"{name} {version}"] = told_about(left, version, **words)
    outcome["prohibited 4"] = told_about(left, 4, "10.67.0.1")
    outcome["tcp 4"] = connect(left, None, 4, "10.66.0.1", 80)
    outcome["tcp 6"] = connect(left, None, 6, "fd66::1", 80)
    outcome["refused 4"] = connect(left, None, 4, "10.77.2.2", 80)
    outcome["refused 6"] = connect(left, None, 6, "fd77:2::2", 80)
    return outcome


ERRORS = {"ttl 4": ("time-exceeded", "10.77.1.2", 0), "ttl 6": ("time-exceeded", "fd77:1::2", 0),
          "route 4": ("no-host", "10.77.1.2", 0), "route 6": ("no-route", "fd77:1::2", 0),
          "size 4": ("too-big", "10.77.1.2", 1300), "size 6": ("too-big", "fd77:1::2", 1300),
          "port 4": ("no-port", "10.77.2.2", 0), "port 6": ("no-port", "fd77:2::2", 0),
          "prohibited 4": ("prohibited", "10.77.1.2", 0),
          "tcp 4": "EHOSTUNREACH", "tcp 6": "ENETUNREACH",
          "refused 4": "ECONNREFUSED", "refused 6": "ECONNREFUSED"}


def narrow(stage, policed, flow):
    """
    A link of 1,400 bytes in the middle of the path that neither end's MSS tells of. `policed`
    serves or asks, or routes; `flow` says who sends the data.
    """
    client, router, server = stage.router()
    without_limits(client, router, server)
    slow = "left" if flow == "down" else "right"
    router.ip("link", "set", slow, "mtu", 1400)
    stage.police({"client": client, "router": router, "server": server}[policed])
    outcome = {}
    for version, address in ((4, "10.77.2.2"), (6, "fd77:2::2")):
        with contextlib.closing(server.tcp_listen(80, FAMILY[version])) as listener:
            pair = connect(client, listener, version, address, 80)
            if isinstance(pair, tuple):
                ours, theirs = pair
                outcome[version] = pour(*((theirs, ours) if flow == "down" else (ours, theirs)),
                                        1000000)
            else:
                outcome[version] = pair
    return outcome


NARROW = {4: 1000000, 6: 1000000}


def own_firewall(stage, hook):
    """The namespace rejects by rules of its own, as iptables -j REJECT does."""
    box, peer = stage.pair()
    without_limits(box, peer)
    box.nft(f"""
        table inet filter {{
            chain own {{ type filter hook {hook} priority 0;
                tcp dport 81 reject with tcp reset
                tcp dport 82 reject with icmpx type admin-prohibited
                udp dport 81 reject
                udp dport 82 reject with icmpx type host-unreachable
            }}
        }}""")
    stage.police(box)
    outcome = {}
    for version in FAMILIES:
        origin, address = (peer, here(version)) if hook == "input" else (box, there(version))
        for port in (81, 82):
            outcome[f"tcp {port} {version}"] = connect(origin, None, version, address, port)
            with contextlib.closing(sender(origin, version)) as sock:
                sock.setsockopt(level(version), IPV6_RECVERR if version == 6 else IP_RECVERR, 1)
                try:
                    sock.connect((address, port))
                    sock.send(b"x")
                    error = ""
                except OSError as refusal:
                    error = errno_name(refusal)
                what = told(sock, version)
                outcome[f"udp {port} {version}"] = error, what and what[:2]
    return outcome


def own_firewall_outcome(hook):
    outcome = {}
    for version in FAMILIES:
        who = here(version).replace(":0:", ":")
        error = "" if hook == "input" else "EPERM"
        outcome.update({
            f"tcp 81 {version}": "ECONNREFUSED",
            f"tcp 82 {version}": "EHOSTUNREACH" if version == 4 else "EACCES",
            f"udp 81 {version}": (error, ("no-port", who)),
            f"udp 82 {version}": (error, ("no-host", who))})
    return outcome


def errors_of_calls(stage):
    """What the calls themselves say."""
    box, peer = stage.pair()
    without_limits(box, peer)
    batch(["route add unreachable 10.66.0.0/16", "route add prohibit 10.67.0.0/16",
           "route add blackhole 10.68.0.0/16"], "-n", box)
    stage.police(box)
    outcome = {}
    for name, address in (("no route", "10.11.0.1"), ("unreachable", "10.66.0.1"),
                          ("prohibited", "10.67.0.1"), ("blackhole", "10.68.0.1"),
                          ("broadcast", "10.77.0.255")):
        with contextlib.closing(sender(box, 4)) as sock:
            try:
                outcome[name] = sock.sendto(b"x", (address, 5300))
            except OSError as error:
                outcome[name] = errno_name(error)
    for version in FAMILIES:
        with contextlib.closing(sender(box, version)) as sock:
            sock.setsockopt(level(version), IPV6_MTU_DISCOVER if version == 6 else IP_MTU_DISCOVER,
                            PMTUDISC_DO)
            try:
                outcome[f"size {version}"] = sock.sendto(b"x" * 2000, (there(version), 5300))
            except OSError as error:
                outcome[f"size {version}"] = errno_name(error)
        for name, address in (("peer", there(version)), ("lo", "::1" if version == 6 else
                                                         "127.0.0.1"), ("own", here(version))):
            outcome[f"tcp to {name} {version}"] = connect(box, None, version, address, 81)
            with contextlib.closing(sender(box, version)) as sock:
                sock.connect((address, 5301))
                sock.send(b"x")
                try:
                    outcome[f"udp to {name} {version}"] = readable(sock) and sock.recv(10)
                except OSError as error:
                    outcome[f"udp to {name} {version}"] = errno_name(error)
    return outcome


ERRORS_OF_CALLS = {
    "no route": "ENETUNREACH", "unreachable": "EHOSTUNREACH", "prohibited": "EACCES",
    "blackhole": "EINVAL", "broadcast": "EACCES", "size 4": "EMSGSIZE", "size 6": "EMSGSIZE",
    **{f"{kind} to {name} {version}": "ECONNREFUSED" for kind in ("tcp", "udp")
       for name in ("peer", "lo", "own") for version in FAMILIES}}


# ---- flows that nsgate did not see from their start ----


def joined_midway(stage, policed, first):
    """
    A connection that is there before the policy which allows it. `first`: whose word is the first
    that is judged.
    """
    box, peer = stage.pair()
    server, client = (box, peer) if policed == "server" else (peer, box)
    address = {4: here, 6: here} if policed == "server" else {4: there, 6: there}
    pairs = {}
    for version in FAMILIES:
        with contextlib.closing(server.tcp_listen(5432, FAMILY[version])) as listener:
            pairs[version] = connect(client, listener, version, address[version](version), 5432)
    stage.police(box)
    outcome = {}
    for version, (at_client, at_server) in pairs.items():
        ways = ((at_server, at_client), (at_client, at_server))
        for source, target in (ways if first == "server" else ways[::-1]) * 2:
            outcome.setdefault(version, []).append(say(source, target))
    return outcome


JOINED = {4: ["line"] * 4, 6: ["line"] * 4}


def joined_strictly(stage):
    """
    As joined_midway(), but under a strict policy, which believes no answer that it has not seen the
    question of: the server is not heard until the client speaks, and then all of it is.
    """
    box, peer = stage.pair()
    pairs = {}
    for version in FAMILIES:
        with contextlib.closing(box.tcp_listen(5432, FAMILY[version])) as listener:
            pairs[version] = connect(peer, listener, version, here(version), 5432)
    stage.police(box)
    return {version: [say(at_server, at_client, timeout=IN_VAIN), say(at_client, at_server),
                      readable(at_client) and at_client.recv(100), say(at_server, at_client)]
            for version, (at_client, at_server) in pairs.items()}


JOINED_STRICTLY = {version: ["silence", "line", b"line", "line"] for version in FAMILIES}


def forgotten(stage, policed, first):
    """As joined_midway(), but connection tracking is emptied under a policy in force."""
    box, peer = stage.pair()
    server, client = (box, peer) if policed == "server" else (peer, box)
    stage.police(box)
    outcome = {}
    for version in FAMILIES:
        address = (here if policed == "server" else there)(version)
        with contextlib.closing(server.tcp_listen(5432, FAMILY[version])) as listener:
            at_client, at_server = connect(client, listener, version, address, 5432)
        outcome[version] = [say(at_client, at_server)]
        flush_conntrack(box)
        ways = ((at_server, at_client), (at_client, at_server))
        for source, target in ways if first == "server" else ways[::-1]:
            outcome[version].append(say(source, target))
    return outcome


FORGOTTEN = {4: ["line"] * 3, 6: ["line"] * 3}


def tracked_midway(stage, policed):
    """
    As joined_midway(), but the namespace's own rules have looked at the connection for a while: for
    them it was opened by its server, which was the first to speak.
    """
    box, peer = stage.pair()
    server, client = (box, peer) if policed == "server" else (peer, box)
    pairs = {}
    for version in FAMILIES:
        address = (here if policed == "server" else there)(version)
        with contextlib.closing(server.tcp_listen(5432, FAMILY[version])) as listener:
            pairs[f"tcp {version}"] = connect(client, listener, version, address, 5432)
        asker, answerer = client.udp(FAMILY[version]), server.udp(FAMILY[version],
                                                                  bind=(address, 5432))
        asker.connect((address, 5432))
        say(asker, answerer)
        answerer.connect(asker.getsockname())
        pairs[f"udp {version}"] = asker, answerer
    box.nft("""
        table inet own {
            chain in { type filter hook input priority 0;
                ct state new
            }
        }""")
    for at_client, at_server in pairs.values():
        say(at_server, at_client)
        say(at_client, at_server)
    stage.police(box)
    return {name: [say(*way) for way in ((at_server, at_client), (at_client, at_server)) * 2]
            for name, (at_client, at_server) in pairs.items()}


TRACKED = {f"{kind} {version}": ["line"] * 4 for kind in ("tcp", "udp") for version in FAMILIES}


class Talk:
    """Two ends that answer each other as fast as they can, the server's first."""

    def __init__(self, at_client, at_server):
        self.ends, self.ending, self.lost, self.turns = (at_client, at_server), False, False, 0
        self.threads = [threading.Thread(target=self.answer, args=(end,)) for end in self.ends]
        for end in self.ends:
            end.settimeout(None)
        at_server.sendall(b"line")
        for thread in self.threads:
            thread.start()

    def answer(self, end):
        try:
            while end.recv(100):
                end.sendall(b"line")
                self.turns += 1
        except OSError:
            pass
        self.lost |= not self.ending

    def goes_on(self):
        before = self.turns
        until(lambda: self.lost or self.turns > before + 10, "the talk to go on")
        return not self.lost

    def stop(self):
        self.ending = True
        for end in self.ends:
            with contextlib.suppress(OSError):  # it is not connected any more
                end.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()


def busy_midway(stage, policed):
    """Connections at work while nsgate comes, has another policy, goes, and comes again."""
    box, peer = stage.pair()
    server, client = (box, peer) if policed == "server" else (peer, box)
    talks = []

    def connect_more():
        for version in FAMILIES:
            address = (here if policed == "server" else there)(version)
            with contextlib.closing(server.tcp_listen(5432, FAMILY[version])) as listener:
                talks.extend(Talk(*connect(client, listener, version, address, 5432))
                             for _ in range(3))

    def leave():
        for name in stage.attached[:]:
            stage.lab.detach(name)
            stage.attached.remove(name)

    outcome = {}
    steps = (("there", connect_more), ("policed", lambda: stage.police(box)),
             ("changed", lambda: stage.change(comment="another")), ("more", connect_more),
             ("left", leave), ("policed again", lambda: stage.police(box)), ("left again", leave),
             ("policed at last", lambda: stage.police(box)))
    try:
        for name, step in steps:
            step()
            outcome[name] = all([talk.goes_on() for talk in talks])
    finally:
        for talk in talks:
            talk.stop()
    return outcome


BUSY = dict.fromkeys(("there", "policed", "changed", "more", "left", "policed again", "left again",
                      "policed at last"), True)


def forbidden_midway(stage, first):
    """A connection that is there before the policy which forbids it ends at both ends."""
    box, peer = stage.pair()
    pairs = {}
    for version in FAMILIES:
        with contextlib.closing(box.tcp_listen(5433, FAMILY[version])) as listener:
            pairs[version] = connect(peer, listener, version, here(version), 5433)
    stage.police(box)
    outcome = {}
    for version, (outside, inside) in pairs.items():
        speaker, other = (inside, outside) if first == "inside" else (outside, inside)
        heard = say(speaker, other, timeout=IN_VAIN)
        outcome[version] = heard == "line", ended(inside), ended(outside)
    return outcome


FORBIDDEN = {4: (False, True, True), 6: (False, True, True)}


ACTS = {
    "speaks": lambda sock: sock.sendall(b"line"),
    "pours": lambda sock: sock.send(b"x" * 65000),  # of several segments
    "ends": lambda sock: sock.shutdown(socket.SHUT_WR),
    "aborts": lambda sock: (sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                            struct.pack("=ii", 1, 0)), sock.close()),
}
TOLD_WITHIN = 2.0  # seconds: what is sent again after 0.2 of them comes in time


def told_midway(stage, where, first, act="speaks", verdict="reject"):
    """
    A policy forbids a connection at work: one end does one thing, the other one waits and does
    nothing, and both are told. `where`: policed is an end of it that has just been attached
    ("attached"), or had a policy before that accepted it ("changed"); both ends ("loopback"); or
    the router between them ("forwarded").
    """
    client, server, policed, address = meeting(stage, where)
    tight = {"default": verdict, "rules": [{"name": "sql", "action": "accept", "direction": "in",
                                            "protocol": "tcp", "dport": 5432}]}
    if where == "attached":
        stage.policy = tight
    else:  # the policy before has seen it work
        stage.policy = {"default": "accept", "hooks": ["in", "out", "forward"]}
        stage.police(policed)
    pairs = {}
    for version in FAMILIES:
        with contextlib.closing(server.tcp_listen(5433, FAMILY[version])) as listener:
            pairs[version] = connect(client, listener, version, address(version), 5433)
        assert [say(*pairs[version]), say(*pairs[version][::-1])] == ["line"] * 2
    if where == "attached":
        stage.police(policed)
    else:
        stage.change(**tight)
    outcome = {}
    for version, ends in pairs.items():
        speaker, other = ends if first == "client" else ends[::-1]
        patience = TOLD_WITHIN if verdict == "reject" else IN_VAIN
        ACTS[act](speaker)
        outcome[version] = (act == "aborts" or told_end(speaker, patience),
                            told_end(other, patience))
    return outcome


def meeting(stage, where):
    """Return: the namespaces of client and server, which of them all is policed, an address."""
    if where == "forwarded":
        left, router, right = stage.router()
        return left, right, router, {4: "10.77.2.2", 6: "fd77:2::2"}.get
    box, peer = stage.pair()
    if where == "loopback":
        return box, box, box, {4: "127.0.0.1", 6: "::1"}.get
    return peer, box, box, here


RESET = {version: ("ECONNRESET",) * 2 for version in FAMILIES}
OTHER_RESET = {version: (True, "ECONNRESET") for version in FAMILIES}
IN_SILENCE = {version: ("silence",) * 2 for version in FAMILIES}


def told_end(sock, timeout):
    """What one who only waits is told of the end of the connection."""
    poller = select.poll()
    poller.register(sock, select.POLLERR | select.POLLHUP)
    if not poller.poll(timeout * 1000):
        return "silence"
    return errno.errorcode.get(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


def ended(sock, timeout=PATIENCE):
    """Whether the connection has come to its end, as its owner finds when using it."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            sock.send(b"x")
            if readable(sock, 0.05) and not sock.recv(100):
                return True
        except OSError as error:
            return error.errno in (errno.ECONNRESET, errno.EPIPE)
    return False


def stray_segment(stage, origin):
    """A segment out of a live connection's window does it no harm, whichever side it comes from."""
    box, peer = stage.pair()
    stage.police(box)
    listener = box.tcp_listen(5432)
    outside, inside = connect(peer, listener, 4, here(4), 5432)
    outcome = [say(outside, inside), say(inside, outside)]
    ours, theirs = inside.getsockname(), inside.getpeername()
    source, target = (theirs, ours) if origin == "outside" else (ours, theirs)
    raw = frames.raw_socket(peer if origin == "outside" else box)
    for flags in (0x10, 0x18):  # ACK, PSH and ACK; sequence number 1 is nowhere near
        segment = frames.tcp(source[0], target[0], source[1], target[1], flags, data=b"stray")
        raw.sendto(frames.ipv4(segment, socket.IPPROTO_TCP, source[0], target[0]), (target[0], 0))
    box.ping(there(4))  # what the strays caused is behind us
    return {"said": outcome + [say(outside, inside), say(inside, outside)]}


STRAY = {"said": ["line"] * 4}


def reused_port(stage):
    """The next connection from the same port, while the last one's memory is there."""
    box, peer = stage.pair()
    stage.police(box)
    outcome = []
    for version in FAMILIES:
        listener = peer.tcp_listen(80, FAMILY[version])
        for _ in range(3):
            ours = box.open_socket(FAMILY[version], socket.SOCK_STREAM)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
            ours.bind(("", 7000))
            ours.settimeout(PATIENCE)
            ours.connect((there(version), 80))
            theirs = listener.accept()[0]
            outcome += [say(ours, theirs), say(theirs, ours)]
            ours.close()
            theirs.close()
    return {"said": outcome}


REUSED = {"said": ["line"] * 12}


def untracked(stage):
    """A DNS server whose packets connection tracking does not see, and a client of the kind."""
    box, peer = stage.pair()
    box.nft("table inet raw {" + "".join(
        f"chain {hook} {{ type filter hook {hook} priority raw;"
        f" udp dport 53 notrack; udp sport 53 notrack; }}\n"
        for hook in ("prerouting", "output")) + "}")
    stage.police(box)
    outcome = {}
    for version in FAMILIES:
        for name, client, server, address in (("serves", peer, box, here(version)),
                                              ("asks", box, peer, there(version))):
            with contextlib.closing(Receiver(server, 53, [version])) as receiver:
                outcome[f"{name} {version}"] = ask(client, receiver, version, address, port=53)[1]
    return outcome


UNTRACKED = {f"{name} {version}": True for name in ("serves", "asks") for version in FAMILIES}


def syn_proxy(stage):
    """A server behind the kernel's SYN proxy."""
    box, peer = stage.pair()
    box.sysctl("ipv4/tcp_syncookies", 1)
    box.sysctl("netfilter/nf_conntrack_tcp_loose", 0)
    box.nft("""
        table inet proxy {
            chain raw { type filter hook prerouting priority raw;
                tcp dport 80 tcp flags syn notrack; }
            chain in { type filter hook input priority 0;
                tcp dport 80 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp \
                    sack-perm
                ct state invalid drop; }
        }""")
    stage.police(box)
    listener = box.tcp_listen(80)
    pair = connect(peer, listener, 4, here(4), 80)
    if not isinstance(pair, tuple):
        return {"said": pair}
    return {"said": [say(*pair), say(*pair[::-1])], "poured": pour(*pair, 300000)}


SYN_PROXY = {"said": ["line", "line"], "poured": 300000}
