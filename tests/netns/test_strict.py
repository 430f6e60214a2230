# SPDX-License-Identifier: GPL-2.0-or-later
"""
A strict policy: what leaves a namespace without having passed nsgate's hooks is dropped on every
link, whoever sends it and whatever capabilities it has, and everything else goes on.
"""
import contextlib
import errno
import re
import socket
import struct
import threading

import pytest

import frames
import ipc
from frames import ETH_P_IP, Wire
from lab import Arrivals, batch, end, eventually, rule_counts, until

PORT = 5300
OTHER = 5301
HERE, THERE = "10.77.0.1", "10.77.0.2"
HERE6, THERE6 = "fd77:0::1", "fd77:0::2"
OPEN = {"default": "accept"}
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
ETH_P_ARP, ETH_P_LLDP = 0x0806, 0x88CC
SO_MARK, SO_PRIORITY = 36, 12


def strict(**keys):
    return {"strict": True, **OPEN, **keys}


def datagram(src=HERE, dst=THERE, port=PORT, data=b"x" * 20):
    payload = frames.udp(src, dst, 4000, port, data)
    if ":" in src:
        return frames.ipv6(payload, socket.IPPROTO_UDP, src, dst)
    return frames.ipv4(payload, socket.IPPROTO_UDP, src, dst)


class Guard:
    """What the guard dropped, as the statistics say."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name

    def count(self):
        guard = self.lab.stats(self.name)["guard"]
        return guard["packets"], guard["bytes"]

    def expect(self, packets, octets=None):
        def check():
            assert self.count()[0] == packets
            assert octets is None or self.count()[1] == octets
        eventually(check)


def refused(send):
    """The sender is told."""
    try:
        send()
    except OSError as error:
        assert error.errno in (errno.ENOBUFS, errno.EPERM), error
        return
    raise AssertionError("the kernel took what the guard has to drop")


def probe_strict(lab):
    client = ipc.Client(lab)
    client.send(ipc.message(ipc.PROBE_STRICT))
    kind, body = client.receive()
    client.close()
    assert kind == ipc.REPLY
    return struct.unpack_from("=I", body)[0], body[8:].split(b"\0")[0].decode()


@pytest.fixture(autouse=True)
def _needs_guard(request):
    if "lab" in request.fixturenames and probe_strict(request.getfixturevalue("lab"))[0]:
        pytest.skip("this kernel cannot guard what leaves")


def test_packet_sockets_send_nothing(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, **OPEN)
    arrived = Arrivals(outside, PORT)
    wire = Wire(inner)
    wire.send(datagram())
    wire.send(datagram(HERE6, THERE6))
    arrived.wait({(PORT, 4): 1, (PORT, 6): 1})  # so they do get through otherwise
    lab.must("namespace", "policy", name, lab.policy(**strict()))
    guard = Guard(lab, name)
    sent = octets = 0
    for bypass in (0, 1):
        wire.socket.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, bypass)
        for packet in (datagram(), datagram(HERE6, THERE6)):
            # No mark and no priority that the sender sets makes a difference.
            for mark in (0, 1, 0xff, 0x10000000, 0x80010000, 0xffffffff):
                wire.socket.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", mark))
                refused(lambda p=packet: wire.send(p))
                sent, octets = sent + 1, octets + len(packet) + 14
    flat = inner.open_socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    flat.setsockopt(socket.SOL_SOCKET, SO_PRIORITY, 6)
    refused(lambda: flat.sendto(datagram(), ("eth0", ETH_P_IP, 0, 0, wire.addresses[:6])))
    refused(lambda: wire.send(b"\0" * 46, ETH_P_LLDP))
    guard.expect(sent + 2, octets + len(datagram()) + 14 + 60)
    inner.send(THERE, PORT, 5)
    inner.send(THERE6, PORT, 5)
    arrived.wait({(PORT, 4): 6, (PORT, 6): 6})
    guard.expect(sent + 2)
    assert lab.books(name)["packets"]["dropped"] == 0


def test_honest_traffic_passes(lab):
    """Small and large, both families, TCP, replies of the kernel, ARP, discovery, multicast."""
    inner, outside = lab.pair()
    name = lab.attach(inner, **strict(offload=True))
    for netns, other in ((inner, 2), (outside, 1)):  # addresses have to be resolved
        for address in (f"10.77.0.{other}", f"fd77:0::{other}"):
            netns.ip("neigh", "del", address, "dev", "eth0")
    arrived = Arrivals(outside, PORT)
    back = Arrivals(inner, PORT)
    for address in (THERE, THERE6):
        assert inner.ping(address) == 1
        inner.send(address, PORT, 3)
        inner.send(address, PORT, 3, payload=b"x" * 9000)  # goes out in pieces
    for address in (HERE, HERE6):
        assert outside.ping(address) == 1
        outside.send(address, PORT, 3, payload=b"x" * 9000)
        with pytest.raises(ConnectionRefusedError):  # the kernel's reset
            outside.tcp_connect(address, OTHER)
    for family, address in ((socket.AF_INET, HERE), (socket.AF_INET6, HERE6)):
        # The kernel's unreachable.
        knock = outside.udp(family)
        knock.connect((address, OTHER))
        knock.settimeout(5)
        knock.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            knock.recv(1)
    arrived.wait({(PORT, 4): 6, (PORT, 6): 6})
    back.wait({(PORT, 4): 3, (PORT, 6): 3})
    for family, address in ((socket.AF_INET, THERE), (socket.AF_INET6, THERE6)):
        listener = outside.tcp_listen(PORT, family)
        client = inner.tcp_connect(address, PORT)
        server = listener.accept()[0]
        client.sendall(b"y" * 100000)
        client.shutdown(socket.SHUT_WR)
        server.settimeout(10)
        got = 0
        while part := server.recv(1 << 16):
            got += len(part)
        assert got == 100000
    member = inner.udp(socket.AF_INET)
    member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                      socket.inet_aton("239.1.2.3") + socket.inet_aton(HERE))
    member.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HERE))
    member.sendto(b"x", ("239.1.2.3", PORT))
    inner.send("127.0.0.1", PORT, 3)
    inner.send("::1", PORT, 3)
    back.wait({(PORT, 6): 6})
    assert Guard(lab, name).count() == (0, 0)


def raw6(netns):
    made = netns.open_socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    return made


def test_raw_fragments_are_dropped_and_whole_packets_judged(lab):
    inner, outside = lab.pair()
    arrived = Arrivals(outside, PORT, families=[socket.AF_INET])
    payload = frames.udp(HERE, THERE, 4000, PORT, b"x" * 24)
    pieces = [frames.ipv4(payload[:16], 17, HERE, THERE, flags=1, ident=7),
              frames.ipv4(payload[16:], 17, HERE, THERE, offset=2, ident=7)]
    raw = frames.raw_socket(inner, nodefrag=True)

    def send_pieces():
        for piece in pieces:
            raw.sendto(piece, (THERE, 0))

    name = lab.attach(inner, **OPEN)
    send_pieces()
    arrived.wait(1)
    assert lab.books(name)["packets"]["seen"] == 2
    lab.must("namespace", "policy", name, lab.policy(**strict()))
    guard = Guard(lab, name)
    for piece in pieces:
        refused(lambda p=piece: raw.sendto(p, (THERE, 0)))
    guard.expect(2, sum(len(p) for p in pieces))
    # Put together by the kernel, they are one packet that is judged.
    whole = frames.raw_socket(inner)
    for piece in pieces:
        whole.sendto(piece, (THERE, 0))
    arrived.wait(2)
    raw.sendto(datagram(), (THERE, 0))
    arrived.wait(3)
    guard.expect(2)
    assert lab.books(name)["packets"]["seen"] == 4
    # Not put together, as the outer fragment header hides another.
    hidden = struct.pack("!BBHI", 17, 0, 0, 1) + frames.udp(HERE6, THERE6, 4000, PORT)
    nested = frames.ipv6(struct.pack("!BBHI", 44, 0, 0, 2) + hidden, 44, HERE6, THERE6)
    with contextlib.suppress(OSError):
        raw6(inner).sendto(nested, (THERE6, 0))
    guard.expect(3)
    # Also where the policy leaves the hook alone.
    lab.must("namespace", "policy", name, lab.policy(hooks=["in"], **strict()))
    for piece in pieces:
        refused(lambda p=piece: raw.sendto(p, (THERE, 0)))
    guard.expect(5)
    raw.sendto(datagram(), (THERE, 0))
    arrived.wait(4)


def test_kernels_arp_passes_and_forged_arp_does_not(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, **strict())
    for netns, other in ((inner, 2), (outside, 1)):
        netns.ip("neigh", "del", f"10.77.0.{other}", "dev", "eth0")
    assert inner.ping(THERE) == 1  # asks, and is asked
    outside.ip("neigh", "flush", "dev", "eth0")
    assert outside.ping(HERE) == 1  # answers
    wire = Wire(inner)
    forged = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, wire.addresses[6:],
                         socket.inet_aton("10.77.0.9"), wire.addresses[:6],
                         socket.inet_aton(THERE))
    refused(lambda: wire.send(forged, ETH_P_ARP))
    Guard(lab, name).expect(1, 14 + len(forged))
    assert "10.77.0.9" not in outside.ip("neigh", "show").stdout


def test_loopback_cannot_be_fed(lab):
    """Else a forged notice of the kernel's would come in by it."""
    inner, _ = lab.pair()
    name = lab.attach(inner, **strict())
    arrived = Arrivals(inner, PORT, families=[socket.AF_INET])
    feed = inner.open_socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    feed.bind(("lo", 0))
    refused(lambda: feed.send(b"\0" * 12 + struct.pack("!H", ETH_P_IP) +
                              datagram("127.0.0.1", "127.0.0.1")))
    Guard(lab, name).expect(1)
    inner.send("127.0.0.1", PORT, 1)
    arrived.wait(1)
    assert arrived.total() == 1


def guarded(netns, dev="eth0"):
    wire = netns.open_socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        wire.bind((dev, 0))
        wire.send(b"\xff" * 12 + struct.pack("!H", ETH_P_IP) + datagram())
    except OSError as error:
        return error.errno == errno.ENOBUFS
    finally:
        wire.close()
    return False


def has_chains_of_its_links(inner):
    links = {line.split(":")[0] for line in inner.ip("-o", "link").stdout.splitlines()}
    return {f"egress_{index}" for index in links} == {
        word for word in inner.ruleset().split() if word.startswith("egress_")}


def test_largest_rule_set_there_can_be(own_lab):
    """All that a policy asks for, 254 links, and 252 that others took the place of meanwhile."""
    lab = own_lab.start()
    inner, _ = lab.pair()
    pairs = [f"link add a{number} type veth peer name b{number}" for number in range(126)]
    batch(pairs, "-n", inner)
    name = lab.attach(
        inner, default="accept", strict=True, offload=True, on_agent_down="open",
        on_overload="open", hooks=["in", "out", "forward", "prerouting", "postrouting"],
        rules=[{"name": f"q{number}", "action": "queue", "queue": 7, "dport": [number],
                "bypass_mark": number} for number in range(1, 9)])
    until(lambda: has_chains_of_its_links(inner), "every link to have its chain")
    end(lab.broker)
    batch([f"link del a{number}" for number in range(126)] + pairs, "-n", inner)
    lab.start_broker()
    lab.wait_ready()
    until(lambda: has_chains_of_its_links(inner), "the new links to have theirs")
    assert lab.stats(name)["state"] == "attached"


def test_links_that_come_later_are_guarded(lab):
    """New ones, renamed ones, ones that moved in, and those that went down and up."""
    inner, outside = lab.pair()
    name = lab.attach(inner, **strict())
    inner.ip("link", "add", "new0", "type", "veth", "peer", "name", "new1")
    batch(["link set new0 up", "link set new1 up"], "-n", inner)
    for dev in ("new0", "new1"):
        until(lambda d=dev: guarded(inner, d), f"{dev} to be guarded")
    batch(["link set new0 down", "link set new0 name other0", "link set other0 up"], "-n", inner)
    until(lambda: guarded(inner, "other0"), "the renamed link to be guarded")
    outside.ip("link", "add", "far0", "type", "veth", "peer", "name", "far1")
    outside.ip("link", "set", "far0", "netns", inner)
    inner.ip("link", "set", "far0", "up")
    outside.ip("link", "set", "far1", "up")
    until(lambda: "LOWER_UP" in inner.ip("link", "show", "far0").stdout, "the link to come up")
    until(lambda: guarded(inner, "far0"), "the link that moved in to be guarded")
    for _ in range(3):
        batch(["link set eth0 down", "link set eth0 up"], "-n", inner)
        until(lambda: "LOWER_UP" in inner.ip("link", "show", "eth0").stdout, "the link")
        assert guarded(inner)
    for number in range(20):  # chains go with their links
        inner.ip("link", "add", f"t{number}", "type", "veth", "peer", "name", "peer")
        inner.ip("link", "del", f"t{number}")
    inner.ip("link", "del", "other0")
    inner.ip("link", "del", "far0")

    until(lambda: has_chains_of_its_links(inner),
          lambda: "the chains to be those of the links: " + inner.ruleset())
    assert lab.get(f"/v1/namespaces/{name}")["state"] == "attached"


def test_switched_on_and_off_under_waiting_packets(own_lab):
    """No packet that waits is dropped by it, and none is let past in between."""
    lab = own_lab.start()
    if probe_strict(lab)[0]:
        pytest.skip("this kernel cannot guard what leaves")
    inner, outside = lab.pair()
    counted = {**OPEN, "rules": [{"name": "sent", "action": "accept", "direction": "out",
                                  "protocol": ["udp"], "dport": [PORT]}]}
    name = lab.attach(inner, **counted)
    policies = [lab.policy(strict=True, **counted), lab.policy(**counted)]
    arrived = Arrivals(outside, PORT, families=[socket.AF_INET])
    others = Arrivals(outside, OTHER, families=[socket.AF_INET])
    sent, over = [0], threading.Event()

    def send():
        sender = inner.udp()
        while not over.is_set():
            sender.sendto(b"x" * 20, (THERE, PORT))
            sent[0] += 1
            over.wait(0.0005)
        sender.close()

    thread = threading.Thread(target=send)
    wire = Wire(inner)
    guard = Guard(lab, name)
    dropped = 0
    thread.start()
    try:
        for turn in range(20):
            lab.must("namespace", "policy", name, policies[turn % 2])
            if turn % 2 == 0:
                refused(lambda: wire.send(datagram(port=OTHER)))
                dropped += 1
            else:
                wire.send(datagram(port=OTHER))
    finally:
        over.set()
        thread.join()
    arrived.wait(sent[0])
    document = lab.books(name)
    assert document["queue"]["flushed"] == 0
    assert rule_counts(document) == {"sent": sent[0]}
    others.wait(10)
    guard.expect(dropped)
    # Counted on when the agent is another, and when it is not strict any more.
    end(lab.agent)
    lab.start_agent()
    lab.wait_ready()
    guard.expect(dropped)
    end(lab.broker)
    lab.start_broker()
    lab.wait_ready()
    guard.expect(dropped)
    lab.must("namespace", "policy", name, policies[0])
    refused(lambda: wire.send(datagram(port=OTHER)))
    guard.expect(dropped + 1)
    metrics = lab.http("GET", "/metrics").body.decode()
    assert re.search(rf'nsgate_guard_dropped_packets_total{{netns="{name}",[^}}]*}} {dropped + 1}\n',
                     metrics)
    lab.detach(name)
    assert inner.ruleset() == ""
    assert wire.send(datagram(port=OTHER)) is None


def test_guard_stands_without_daemons(own_lab):
    lab = own_lab.start()
    if probe_strict(lab)[0]:
        pytest.skip("this kernel cannot guard what leaves")
    inner, outside = lab.pair()
    lab.attach(inner, **strict())
    wire = Wire(inner)
    arrived = Arrivals(outside, PORT)
    end(lab.broker)
    refused(lambda: wire.send(datagram()))
    end(lab.agent)
    refused(lambda: wire.send(datagram(HERE6, THERE6)))
    lab.start_broker()  # rules anew, from the record
    refused(lambda: wire.send(datagram()))
    lab.start_agent()
    lab.wait_ready()
    refused(lambda: wire.send(datagram()))
    assert arrived.total() == 0


def test_bridged_frames_do_not_leave(lab):
    """With NET_ADMIN inside, frames could be carried past the hooks of IP."""
    inner, outside = lab.pair()
    far = lab.netns("far")
    lab.link(inner, far, net=1, names=("eth1", "eth0"))
    name = lab.attach(inner, **OPEN)
    batch(["link add br0 type bridge", "link set eth0 master br0", "link set eth1 master br0",
           "link set br0 up"], "-n", inner)
    arrived = Arrivals(outside, PORT, families=[socket.AF_INET])
    wire = Wire(far)
    wire.addresses = Wire(outside).addresses[6:] + wire.addresses[6:]

    def crosses():
        wire.send(datagram("10.77.0.77"))
        return arrived.total() > 0
    until(crosses, "a frame to cross the bridge")
    lab.must("namespace", "policy", name, lab.policy(**strict()))
    until(lambda: arrived.total() == arrived.total(), "what is under way")
    guard = Guard(lab, name)
    before, packets = arrived.total(), guard.count()[0]
    for _ in range(10):
        wire.send(datagram("10.77.0.77"))
    eventually(lambda: check(guard.count()[0] >= packets + 10))
    assert arrived.total() == before


def check(holds):
    assert holds


def test_packets_over_stacked_links_pass(lab):
    """A packet of the own stack leaves by a macvlan or a bridge, then by the link below."""
    inner, outside = lab.pair()
    name = lab.attach(inner, **strict())
    arrived = Arrivals(outside, PORT, families=[socket.AF_INET])
    batch(["link add mac0 link eth0 type macvlan mode private", "addr flush dev eth0",
           f"addr add {HERE}/24 dev mac0", "link set mac0 up"], "-n", inner)
    outside.ip("neigh", "del", HERE, "dev", "eth0")
    inner.send(THERE, PORT, 3)
    arrived.wait(3)
    batch(["link del mac0", "link add br0 type bridge", "link set eth0 master br0",
           f"addr add {HERE}/24 dev br0", "link set br0 up"], "-n", inner)
    outside.ip("neigh", "flush", "dev", "eth0")
    until(lambda: inner.ping(THERE, timeout=0.5), "the bridge to learn")
    inner.send(THERE, PORT, 3)
    arrived.wait(6)
    # Multicast listener reports of the bridge itself, and nothing that was sent, may be dropped.
    assert lab.books(name)["packets"]["dropped"] == 0


def test_kernel_without_guards_says_so(own_lab):
    lab = own_lab
    lab.start_broker("--no-egress-guard", wait=False)
    lab.start_agent(wait=False)
    lab.wait_broker()
    lab.wait_agent()
    lab.wait_ready()
    inner, _ = lab.pair()
    status, text = probe_strict(lab)
    assert status == 1 and "strict" in text and "5.16" in text
    done = lab.ctl("attach", f"netns:{inner}", "--policy", lab.policy(**strict()))
    assert done.returncode == 1
    assert '"strict"' in done.stderr and "5.16" in done.stderr
    assert lab.names() == []
    assert inner.ruleset() == ""
    doctor = lab.ctl("doctor").stdout
    assert "warn  egress-guard" in doctor and "5.16" in doctor
    name = lab.attach(inner, **OPEN)
    done = lab.ctl("namespace", "policy", name, lab.policy(**strict()))
    assert done.returncode == 1 and '"strict"' in done.stderr
    assert lab.get(f"/v1/namespaces/{name}")["state"] == "degraded"


def test_policy_says_that_it_is_strict(lab):
    lab.put_policy("guarded", **strict())
    lab.put_policy("plain", **OPEN)
    listed = {p["name"]: p["strict"] for p in lab.get("/v1/policies")["policies"]}
    assert listed["guarded"] is True and listed["plain"] is False
    bad = lab.http("POST", "/v1/policies:check", {"version": 1, "strict": "yes"})
    assert bad.status == 422 and bad.json["errors"][0]["pointer"] == "/strict"
    assert "ok    egress-guard" in lab.ctl("doctor").stdout


def test_doctor_names_who_could_send_raw(lab):
    inner, _ = lab.pair()
    lab.put_policy("p", default="accept")
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    finding = "warn  namespace x"
    inner.popen("setpriv", "--inh-caps=-net_raw", "--bounding-set=-net_raw", "sleep", "1000")
    assert finding not in lab.ctl("doctor").stdout
    inner.popen("sleep", "1000")
    until(lambda: finding in lab.ctl("doctor").stdout, "doctor to see the process")
    line = next(line for line in lab.ctl("doctor").stdout.splitlines() if finding in line)
    assert "raw sockets: 1;" in line and '"strict"' in line
    lab.put_policy("p", default="accept", strict=True)
    assert finding not in lab.ctl("doctor").stdout
