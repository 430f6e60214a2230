# SPDX-License-Identifier: GPL-2.0-or-later
"""
Marks and routes. All 32 bits of the packet's mark and of the connection's belong to the namespace:
its rules of routing, its chains and its tunnels see what it has set, and what it has not set is 0.
"""
import contextlib
import socket
import struct

from lab import batch
from nfqueue import Consumer, NF_ACCEPT
from transparent.traffic import (
    FAMILIES, FAMILY, IP_PKTINFO, IP_UNICAST_IF, IPV6_PKTINFO, IPV6_UNICAST_IF, NftSet, Receiver,
    SO_BINDTODEVICE, ask, connect, far, flow_marks, here, level, link_index, pour, say,
    sender, there)

# Those of Kubernetes, wg-quick, Tailscale, Mullvad, and bits that look like anybody's.
MARKS = (0x1, 0x4000, 0xca6c, 0x80000, 0xff0000, 0x6d6f6c65, 0x10000000, 0x20000000, 0x40000000,
         0x80000000, 0xa9c35e71, 0xffffffff)


def rules(netns, *lines):
    """Rules of routing, in both families."""
    for version in FAMILIES:
        batch([f"rule add {line}" for line in lines], f"-{version}", "-n", netns)


def routed_by_mark(stage):
    """SO_MARK picks the route, bit by bit."""
    box, peer = stage.two_links()
    rules(box, *(f"fwmark {mark:#x} lookup 100" for mark in MARKS))
    stage.police(box)
    receiver = Receiver(peer)
    return {f"{mark:#x} v{version}": ask(box, receiver, version, far(version), mark)
            for mark in (0, *MARKS) for version in FAMILIES}


def routed_by_mark_outcome():
    return {f"{mark:#x} v{version}": ("eth1" if mark else "eth0", True)
            for mark in (0, *MARKS) for version in FAMILIES}


def marks_arrive(stage, source):
    """What sets a mark before nsgate is seen by what reads it after, in and out."""
    box, peer = stage.pair()
    setting = {"socket": "", "chain": "".join(
        f"chain set_{hook} {{ type filter hook {hook} priority -150;"
        f" meta mark set udp dport map {{ "
        + ", ".join(f"{6000 + i} : {mark:#x}" for i, mark in enumerate(MARKS)) + " }; }\n"
        for hook in ("prerouting", "output"))}[source]
    collected = NftSet(box, "meta mark", setting + "".join(
        f"chain read_{hook} {{ type filter hook {hook} priority 400;"
        f" udp dport 6000-6100 update @seen {{ meta mark }}; }}\n"
        for hook in (("input", "output", "postrouting") if source == "chain" else
                     ("output", "postrouting"))))
    stage.police(box)
    delivered = 0
    for version in FAMILIES:
        for number, mark in enumerate(MARKS):
            outwards = box, peer, there(version), mark if source == "socket" else None
            inwards = peer, box, here(version), None
            for origin, target, address, own in (outwards, inwards):
                with contextlib.closing(Receiver(target, 6000 + number, [version])) as receiver:
                    with contextlib.closing(sender(origin, version, own)) as sock:
                        sock.sendto(b"x", (address, 6000 + number))
                        delivered += receiver.count(version, 1)
    return {"delivered": delivered, "marks": collected.read()}


MARKS_ARRIVE = {"delivered": 4 * len(MARKS), "marks": {hex(mark) for mark in MARKS}}


def marks_of_connections(stage):
    """Every packet of a TCP connection has its socket's mark, and none has another."""
    box, peer = stage.pair()
    collected = NftSet(box, "meta mark", "".join(
        f"chain read_{hook} {{ type filter hook {hook} priority 400;"
        f" tcp dport 80 update @seen {{ meta mark }}; }}\n" for hook in ("output", "postrouting")))
    incoming = NftSet(box, "meta mark", "chain read_input { type filter hook input priority 400;"
                      " tcp sport 80 update @seen { meta mark }; }", table="inet incoming")
    stage.police(box)
    said = []
    for version in FAMILIES:
        listener = peer.tcp_listen(80, FAMILY[version])
        for mark in MARKS:
            ours, theirs = connect(box, listener, version, there(version), 80, mark)
            said += [say(ours, theirs), say(theirs, ours)]
            ours.close()
            theirs.close()
    return {"said": set(said), "out": collected.read(), "in": incoming.read()}


MARKS_OF_CONNECTIONS = {"said": {"line"}, "out": {hex(mark) for mark in MARKS}, "in": {"0x0"}}


def connection_marks(stage, mark):
    """The connection's mark is what a chain of the namespace made it, for each packet."""
    box, peer = stage.pair()
    chains = "".join(f"chain read_{hook} {{ type filter hook {hook} priority 400;"
                     f" meta l4proto {{ tcp, udp }} update @seen {{ ct mark }}; }}\n"
                     for hook in ("input", "output"))
    if mark:
        chains += "".join(f"chain set_{hook} {{ type filter hook {hook} priority -150;"
                          f" ct state new ct mark set {mark:#x}; }}\n"
                          for hook in ("prerouting", "output"))
    collected = NftSet(box, "ct mark", chains)
    stage.police(box)
    exchanges(stage, box, peer)
    return {"chains": collected.read(), "table": flow_marks(box)}


def exchanges(stage, box, peer):
    """Datagrams and connections, from and to box, both families."""
    for version in FAMILIES:
        for client, server, address in ((box, peer, there(version)), (peer, box, here(version))):
            with contextlib.closing(Receiver(server)) as receiver:
                assert ask(client, receiver, version, address)[1]
            with contextlib.closing(server.tcp_listen(80, FAMILY[version])) as listener:
                ours, theirs = connect(client, listener, version, address, 80)
                assert say(theirs, ours) == say(ours, theirs) == "line"


# ---- tunnels ----


def tunnel(stage, mark):
    """
    What wg-quick sets up for AllowedIPs = 0.0.0.0/0: all goes by the tunnel (eth1 here) but what
    the tunnel itself sends, which has `mark`; its connections remember it, as rp_filter asks.
    """
    box, peer = stage.two_links()
    rules(box, f"not fwmark {mark:#x} table 100", "table main suppress_prefixlength 0")
    box.sysctl("ipv4/conf/all/src_valid_mark", 1)
    box.sysctl("ipv4/conf/all/rp_filter", 1)
    box.nft(f"""
        table inet wg-quick {{
            chain preraw {{ type filter hook prerouting priority -300;
                iifname != "eth1" ip daddr 10.77.1.1 fib saddr type != local drop
                iifname != "eth1" ip6 daddr fd77:1::1 fib saddr type != local drop; }}
            chain premangle {{ type filter hook prerouting priority -150;
                meta l4proto udp meta mark set ct mark; }}
            chain postmangle {{ type filter hook postrouting priority -150;
                meta l4proto udp meta mark {mark:#x} ct mark set meta mark; }}
        }}""")
    stage.police(box)
    receiver = Receiver(peer)
    outcome = {}
    for version in FAMILIES:
        outcome[f"outer {version}"] = ask(box, receiver, version, far(version), mark)
        outcome[f"inner {version}"] = ask(box, receiver, version, far(version))
        with contextlib.closing(peer.tcp_listen(443, FAMILY[version])) as listener:
            ours, theirs = connect(box, listener, version, far(version), 443)
            outcome[f"stream {version}"] = (ours.getsockname()[0], pour(theirs, ours, 300000))
    return outcome


TUNNEL = {"outer 4": ("eth0", True), "inner 4": ("eth1", True), "stream 4": ("10.77.1.1", 300000),
          "outer 6": ("eth0", True), "inner 6": ("eth1", True), "stream 6": ("fd77:1::1", 300000)}


def marked_syn_keeps_out(stage, mark):
    """A TCP connection with the tunnel's mark, as Mullvad's daemon makes it, goes beside it."""
    box, peer = stage.two_links()
    rules(box, f"not fwmark {mark:#x} table 100")
    box.nft(f"""
        table inet mullvad {{
            chain mangle {{ type route hook output priority -150;
                oif "eth0" udp dport 53 meta mark set {mark:#x} ct mark set 0xf41
                ct mark 0xf41 meta mark set {mark:#x}; }}
            chain nat {{ type nat hook postrouting priority 100;
                oif "eth0" ct mark 0xf41 masquerade; }}
        }}""")
    stage.police(box)
    outcome = {}
    for version in FAMILIES:
        with contextlib.closing(peer.tcp_listen(443, FAMILY[version])) as listener:
            for name, own in (("marked", mark), ("other", None)):
                ours, theirs = connect(box, listener, version, far(version), 443, own)
                outcome[f"{name} {version}"] = ours.getsockname()[0], say(theirs, ours)
    return outcome


MARKED_SYN = {"marked 4": ("10.77.0.1", "line"), "other 4": ("10.77.1.1", "line"),
              "marked 6": ("fd77::1", "line"), "other 6": ("fd77:1::1", "line")}


def tailscale(stage):
    """The rules of Tailscale: bits 0xff0000 are kept with the connection and given back."""
    box, peer = stage.two_links()
    rules(box, "pref 5210 fwmark 0x80000/0xff0000 lookup main",
          "pref 5250 fwmark 0x80000/0xff0000 unreachable", "pref 5270 lookup 100")
    box.sysctl("ipv4/conf/all/src_valid_mark", 1)
    box.sysctl("ipv4/conf/all/rp_filter", 2)
    box.nft("""
        table inet mangle {
            chain prerouting { type filter hook prerouting priority -150;
                ct state established,related ct mark & 0xff0000 != 0 \
                    meta mark set ct mark & 0xff0000; }
            chain output { type route hook output priority -150;
                ct state new meta mark & 0xff0000 != 0 ct mark set meta mark & 0xff0000; }
        }""")
    collected = NftSet(box, "meta mark", "chain read { type filter hook input priority 400;"
                       " meta l4proto { tcp, udp } update @seen { meta mark }; }")
    stage.police(box)
    receiver = Receiver(peer)
    outcome = {}
    for version in FAMILIES:
        outcome[f"daemon {version}"] = ask(box, receiver, version, far(version), 0x80000)
        outcome[f"others {version}"] = ask(box, receiver, version, far(version))
        with contextlib.closing(peer.tcp_listen(443, FAMILY[version])) as listener:
            for name, own in (("daemon", 0x80000), ("others", None)):
                ours, theirs = connect(box, listener, version, far(version), 443, own)
                outcome[f"{name}, tcp {version}"] = ours.getsockname()[0], say(theirs, ours)
    outcome["marks"] = collected.read()
    return outcome


TAILSCALE = {"daemon 4": ("eth0", True), "daemon 6": ("eth0", True), "others 4": ("eth1", True),
             "others 6": ("eth1", True), "marks": {"0x0", "0x80000"},
             "daemon, tcp 4": ("10.77.0.1", "line"), "daemon, tcp 6": ("fd77::1", "line"),
             "others, tcp 4": ("10.77.1.1", "line"), "others, tcp 6": ("fd77:1::1", "line")}


def proxied(stage):
    """A transparent proxy: what comes for others is marked, routed by that and served here."""
    left, box, _ = stage.router()
    rules(box, "fwmark 0x1 lookup 100")
    for version in FAMILIES:
        box.ip(f"-{version}", "route", "add", "local", "default", "dev", "lo", "table", "100")
    box.nft("""table inet proxy { chain pre { type filter hook prerouting priority -150;
        tcp dport 80 tproxy to :1080 meta mark set 1 accept; }
        }""")
    stage.police(box)
    outcome = {}
    for version, target in ((4, "10.77.2.2"), (6, "fd77:2::2")):
        listener = box.open_socket(FAMILY[version], socket.SOCK_STREAM)
        listener.setsockopt(level(version), 75 if version == 6 else 19, 1)  # IP(V6)_TRANSPARENT
        listener.bind(("", 1080))
        listener.listen()
        ours, theirs = connect(left, listener, version, target, 80)
        outcome[version] = theirs.getsockname()[:2], say(ours, theirs), say(theirs, ours)
        listener.close()
    return outcome


PROXIED = {4: (("10.77.2.2", 80), "line", "line"), 6: (("fd77:2::2", 80), "line", "line")}


def masqueraded(stage):
    """What Kubernetes does to a service's packets: mark 0x4000, DNAT, masquerade by the mark."""
    left, box, right = stage.router()
    box.nft("""table inet kube {
        chain pre { type nat hook prerouting priority -100;
            tcp dport 8080 meta mark set meta mark | 0x4000 jump there; }
        chain there { meta nfproto ipv4 tcp dport 8080 dnat ip to 10.77.2.2:80
            meta nfproto ipv6 tcp dport 8080 dnat ip6 to [fd77:2::2]:80; }
        chain post { type nat hook postrouting priority 100;
            meta mark & 0x4000 != 0x4000 return
            meta mark set meta mark ^ 0x4000 masquerade; }
        }""")
    stage.police(box)
    outcome = {}
    for version, service in ((4, "10.77.1.2"), (6, "fd77:1::2")):
        with contextlib.closing(right.tcp_listen(80, FAMILY[version])) as listener:
            ours, theirs = connect(left, listener, version, service, 8080)
            outcome[version] = theirs.getpeername()[0], say(ours, theirs), say(theirs, ours)
    return outcome


MASQUERADED = {4: ("10.77.2.1", "line", "line"), 6: ("fd77:2::1", "line", "line")}


# ---- which link ----


def packet_info(version, index):
    kind = IPV6_PKTINFO if version == 6 else IP_PKTINFO
    any_address = b"\0" * 16
    value = any_address + struct.pack("=i", index) if version == 6 else struct.pack(
        "=i", index) + any_address[:8]
    return [(level(version), kind, value)]


def first_packets_link(stage):
    """A program asks for eth1 for the first packet of a flow, where eth0 is the default."""
    box, peer = stage.two_links()
    stage.police(box)
    index = link_index(box, "eth1")
    receiver = Receiver(peer)
    outcome = {}
    for version in FAMILIES:
        target = far(version), 5300
        with contextlib.closing(sender(box, version)) as sock:
            sock.sendto(b"x", target)
            outcome[f"default {version}"] = receiver.link(version)
        with contextlib.closing(sender(box, version)) as sock:
            sock.sendmsg([b"x"], packet_info(version, index), 0, target)
            outcome[f"pktinfo {version}"] = receiver.link(version)
        with contextlib.closing(sender(box, version)) as sock:
            option = IPV6_UNICAST_IF if version == 6 else IP_UNICAST_IF
            sock.setsockopt(level(version), option, struct.pack("!i", index))
            sock.sendto(b"x", target)
            outcome[f"unicast_if {version}"] = receiver.link(version)
        with contextlib.closing(sender(box, version, device="eth1")) as sock:
            sock.sendto(b"x", target)
            outcome[f"bound {version}"] = receiver.link(version)
        with contextlib.closing(sender(box, version, bind=(here(version, 1), 0))) as sock:
            sock.sendto(b"x", target)
            outcome[f"source {version}"] = receiver.link(version)
    return outcome


FIRST_PACKETS_LINK = {f"{name} {version}": link for version in FAMILIES for name, link in (
    ("default", "eth0"), ("pktinfo", "eth1"), ("unicast_if", "eth1"), ("bound", "eth1"),
    ("source", "eth0"))}


def responder(stage):
    """A server with two links answers each by the link by which it was asked."""
    box, peer = stage.two_links()
    for version in FAMILIES:  # asked by an address to which both links lead
        box.ip(f"-{version}", "route", "replace", far(version), "via", there(version), "dev",
               "eth0")
    receiver = Receiver(box)
    stage.police(box)
    outcome = {}
    for version in FAMILIES:
        for link in ("eth0", "eth1"):
            asker = sender(peer, version, bind=(far(version), 0))
            answers = Receiver(peer, asker.getsockname()[1] ^ 1, [version])
            asker.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, link.encode() + b"\0")
            asker.sendto(b"x", (here(version, int(link[-1])), 5300))
            got = receiver.next(version)
            # The answer opens a flow of its own: from another port, to another.
            with contextlib.closing(sender(box, version)) as sock:
                sock.sendmsg([b"y"], packet_info(version, got["index"]), 0,
                             (got["sender"][0], answers.sockets[version].getsockname()[1]))
            outcome[f"{link} {version}"] = got["link"], answers.link(version)
            answers.close()
            asker.close()
    return outcome


RESPONDER = {f"{link} {version}": (link, link) for link in ("eth0", "eth1") for version in FAMILIES}


def routed_by_port(stage):
    """Rules of routing that look at more than a mark: port, protocol, user, source."""
    box, peer = stage.two_links()
    rules(box, "ipproto udp dport 5301 lookup 100", "uidrange 4000-4000 lookup 100",
          "sport 7000 lookup 100")
    stage.police(box)
    outcome = {}
    receivers = {port: Receiver(peer, port) for port in (5300, 5301)}
    for version in FAMILIES:
        for name, port, options in (
                ("plain", 5300, {}), ("port", 5301, {}), ("user", 5300, {"uid": 4000}),
                ("source", 5300, {"bind": ("", 7000)})):
            with contextlib.closing(sender(box, version, **options)) as sock:
                sock.sendto(b"x", (far(version), port))
                outcome[f"{name} {version}"] = receivers[port].link(version)
    return outcome


ROUTED_BY_PORT = {f"{name} {version}": link for version in FAMILIES for name, link in (
    ("plain", "eth0"), ("port", "eth1"), ("user", "eth1"), ("source", "eth1"))}


def consumer_marks(stage):
    """A program behind a rule `queue` marks as it likes: its packets pass, with that mark."""
    box, peer = stage.pair()
    collected = NftSet(box, "meta mark", "chain read { type filter hook output priority 400;"
                       " udp dport 5300 update @seen { meta mark }; }")
    stage.police(box)
    given = iter(MARKS)
    receiver = Receiver(peer)
    with Consumer(box, 7, lambda payload, mark: (NF_ACCEPT, next(given))):
        for _ in MARKS:
            with contextlib.closing(sender(box, 4)) as sock:
                sock.sendto(b"x", (there(4), 5300))
        delivered = receiver.count(4, len(MARKS))
    return {"delivered": delivered, "marks": collected.read()}


def fwmark_of_kernel(stage):
    """What the kernel itself answers has the mark of what it answers, where that is asked for."""
    box, peer = stage.pair()
    box.sysctl("ipv4/fwmark_reflect", 1)
    box.sysctl("ipv6/fwmark_reflect", 1)
    collected = NftSet(box, "meta mark", """
        chain setting { type filter hook prerouting priority -150; meta mark set 0xa9c35e71; }
        chain read { type filter hook output priority 400;
            tcp flags & rst == rst update @seen { meta mark }
            icmp type echo-reply update @seen { meta mark }
            icmpv6 type echo-reply update @seen { meta mark }; }""")
    stage.police(box)
    outcome = {}
    for version in FAMILIES:
        outcome[f"refused {version}"] = connect(peer, None, version, here(version), 81)
        outcome[f"pings {version}"] = peer.ping(here(version), 2)
    return {**outcome, "marks": collected.read()}


FWMARK_OF_KERNEL = {"refused 4": "ECONNREFUSED", "refused 6": "ECONNREFUSED", "pings 4": 2,
                    "pings 6": 2, "marks": {"0xa9c35e71"}}
