# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a rule can ask for, asked of real packets. Rules that only count ("continue") stand side by
side, so one burst shows which of them match.
"""
import os
import socket
import struct
import time

from frames import ipv4, raw_socket, udp
from lab import Arrivals, eventually, rule_counts, until

IN4, OUT4, IN6, OUT6 = "10.77.0.1", "10.77.0.2", "fd77:0::1", "fd77:0::2"
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def counting(**rules):
    return [{"name": name.replace("_", "-"), "action": "continue", **match}
            for name, match in rules.items()]


def attach(lab, netns, **rules):
    return lab.attach(netns, default="accept", rules=counting(**rules))


def counts(lab, name, seen):
    stats = lab.expect(name, {"packets.seen": seen})
    return {key: value for key, value in rule_counts(stats).items() if value}


def test_addresses_ports_family_protocol_direction(lab):
    inner, outside = lab.pair()
    name = attach(
        lab, inner, src4={"src": [OUT4]}, src6={"src": ["fd77::/64"]}, not_src={"not_src": [OUT4]},
        either={"src": [OUT4, OUT6]}, nobody={"src": ["10.78.0.0/16", "fd78::/16"]},
        dst={"dst": ["10.77.0.0/24"]}, dst_range={"dst": ["10.77.0.1-10.77.0.9"]},
        dst_range6={"dst": ["fd77::-fd77::9"]}, dst_other={"dst": ["10.77.0.2-10.77.0.9"]},
        dport={"dport": [5000]}, dports={"dport": [5000, "6000-6009"]},
        not_dport={"not_dport": ["5000-5001"]}, sport={"sport": [4000]},
        sport_other={"sport": ["1-3999"]}, v4={"family": ["ipv4"]}, v6={"family": ["ipv6"]},
        not_v4={"not_family": ["ipv4"]}, udp={"protocol": ["udp"]}, seventeen={"protocol": [17]},
        tcp={"protocol": ["tcp"]}, not_tcp={"not_protocol": ["tcp"]}, inward={"direction": "in"},
        outward={"direction": ["out", "forward"]}, not_in={"not_direction": ["in"]},
        all_of={"src": [OUT4], "protocol": ["udp"], "dport": [5000], "sport": [4000]},
        all_but_one={"src": [OUT4], "protocol": ["udp"], "dport": [5000], "sport": [4001]})
    arrived = Arrivals(inner, 5000, 5001, 6000)
    for version, address in ((4, IN4), (6, IN6)):
        sender = outside.udp(FAMILY[version], bind=("", 4000))
        for port, number in ((5000, 3), (5001, 5), (6000, 7)):
            outside.send(address, port, number, sender=sender)
    arrived.wait(30)
    assert counts(lab, name, 30) == {
        "src4": 15, "src6": 15, "not-src": 15, "either": 30, "dst": 15, "dst-range": 15,
        "dst-range6": 15, "dport": 6, "dports": 20, "not-dport": 14, "sport": 30, "v4": 15,
        "v6": 15, "not-v4": 15, "udp": 30, "seventeen": 30, "not-tcp": 30, "inward": 30,
        "all-of": 3}


def test_icmp_types_and_codes(lab):
    inner, outside = lab.pair()
    name = attach(lab, inner, request={"icmp_type": ["echo-request"]}, eight={"icmp_type": [8]},
                  one28={"icmp_type": [128]}, reply={"icmp_type": ["echo-reply"]},
                  code={"icmp_code": [0]}, other_code={"icmp_code": ["1-255"]},
                  not_request={"not_icmp_type": ["echo-request"]},
                  ported={"dport": ["0-65535"]}, not_ported={"not_dport": [1]},
                  icmp={"protocol": ["icmp"]}, icmpv6={"protocol": ["icmpv6"]})
    assert outside.ping(IN4, 5) == 5
    assert outside.ping(IN6, 7) == 7
    # Replies pass by the flow and are judged by no rule.
    assert counts(lab, name, 24) == {"request": 12, "eight": 5, "one28": 7, "code": 12, "icmp": 5,
                                     "icmpv6": 7}
    stats = lab.stats(name)
    assert stats["replies"]["packets"] == 12
    assert (stats["protocol"]["icmp"], stats["protocol"]["icmpv6"]) == (10, 14)


def test_tcp_flags(lab):
    inner, outside = lab.pair()
    name = attach(lab, inner, syn={"tcp_flags": ["syn/syn,ack"]}, syn_ack={"tcp_flags": ["syn,ack"]},
                  fin={"tcp_flags": ["fin"]}, rst={"tcp_flags": ["rst"]},
                  ack={"tcp_flags": ["ack"]}, first={"ct": ["new"], "protocol": ["tcp"]},
                  none={"tcp_flags": ["none/syn,fin,rst,ack"]},
                  not_syn={"not_tcp_flags": ["syn"]})
    listener = inner.tcp_listen(80)
    for _ in range(5):
        client = outside.tcp_connect(IN4, 80)
        served, _ = listener.accept()
        client.close()
        assert served.recv(1) == b""
        served.close()

    def add_up():
        stats = lab.stats(name)
        got = rule_counts(stats)
        assert got["fin"] == 5 and got["ack"] >= 10, got
        assert got["syn"] == got["first"] == 5 and got["syn-ack"] == 0
        assert got["rst"] == got["none"] == 0
        assert got["not-syn"] == got["ack"]
        assert got["ack"] + got["syn"] == stats["direction"]["in"]["packets"]
    eventually(add_up)


def test_links_by_name_pattern_and_those_that_come_later(lab):
    inner, outside = lab.pair()
    name = attach(lab, inner, eth0={"iif": ["eth0"]}, eth={"iif": ["eth*"]}, lo={"iif": ["lo"]},
                  tun={"iif": ["tun*"]}, tun7={"iif": ["tun7"]}, wan={"iif": ["wan0"]},
                  any_in={"iif": ["*"]}, out={"oif": ["eth0"]}, out_tun={"oif": ["tun7"]},
                  not_eth0={"not_iif": ["eth0"]})
    arrived, left = Arrivals(inner, 7, 8), Arrivals(outside, 5)
    outside.send(IN4, 7, 10)
    inner.send(OUT4, 5, 3)
    left.wait(3)
    inner.send("127.0.0.1", 8, 2)
    arrived.wait(12)
    until(lambda: rule_counts(lab.stats(name))["out"] >= 3, "the packets to be judged")
    got = rule_counts(lab.stats(name))
    assert (got["eth0"], got["eth"], got["lo"], got["out"]) == (10, 10, 2, 3), got
    assert got["tun"] == got["tun7"] == got["wan"] == got["out-tun"] == 0

    other = lab.netns("other")
    lab.link(inner, other, 5, names=("tun7", "eth0"))
    more = Arrivals(inner, 9)

    def told(rule):
        return other.send("10.77.5.1", 9, 1) and rule_counts(lab.stats(name))[rule] > 0
    until(lambda: told("tun7"), "the new link to be known by its name")
    before = rule_counts(lab.stats(name))
    other.send("10.77.5.1", 9, 10)
    until(lambda: rule_counts(lab.stats(name))["tun7"] == before["tun7"] + 10, "its packets")
    assert rule_counts(lab.stats(name))["tun"] == before["tun"] + 10

    inner.ip("link", "set", "tun7", "down")
    inner.ip("link", "set", "tun7", "name", "wan0")
    inner.ip("link", "set", "wan0", "up")
    until(lambda: told("wan"), "the link to be known by its new name")
    before = rule_counts(lab.stats(name))
    other.send("10.77.5.1", 9, 10)
    until(lambda: rule_counts(lab.stats(name))["wan"] == before["wan"] + 10, "its packets")
    after = rule_counts(lab.stats(name))
    assert (after["tun"], after["tun7"]) == (before["tun"], before["tun7"])
    until(lambda: more.total() > 20, "its packets to arrive")


def test_mark_of_a_socket(lab):
    inner, outside = lab.pair()
    name = attach(lab, inner, five={"mark": [5]}, masked={"mark": ["0x5/0xf"]},
                  not_five={"not_mark": ["0x5"]}, zero={"mark": [0]})
    arrived = Arrivals(outside, 7)
    sender = inner.udp()
    for mark, number in ((0, 1), (5, 3), (0x15, 7)):
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        inner.send(OUT4, 7, number, sender=sender)
    arrived.wait(11)
    assert counts(lab, name, 11) == {"five": 3, "masked": 10, "not-five": 8, "zero": 1}


def test_marks_of_nsgate_cannot_be_forged(lab):
    """The top byte says what conntrack knows; a socket's own mark there counts for nothing."""
    inner, outside = lab.pair()
    name = lab.attach(inner, default="drop")
    arrived = Arrivals(outside, 7)
    sender = inner.udp()
    for bit in range(24, 32):
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", 1 << bit))
        inner.send(OUT4, 7, 3, sender=sender)
    lab.expect(name, {"packets.dropped": 24, "packets.seen": 24})
    assert arrived.total() == 0


def test_user_and_group_of_the_sender(lab):
    inner, outside = lab.pair()
    name = attach(lab, inner, root={"uid": [0]}, alice={"uid": [1000]}, users={"uid": ["1000-1999"]},
                  not_alice={"not_uid": [1000]}, staff={"gid": [50]}, not_staff={"not_gid": [50]})
    arrived = Arrivals(outside, 7)
    for uid, gid, number in ((None, None, 1), (1000, None, 2), (1500, 50, 4)):
        inner.send(OUT4, 7, number, sender=inner.udp(uid=uid, gid=gid))
    arrived.wait(7)
    back = Arrivals(inner, 8)
    outside.send(IN4, 8, 8)  # nobody's socket in here sent these
    back.wait(8)
    assert counts(lab, name, 15) == {"root": 1, "alice": 2, "users": 6, "not-alice": 5, "staff": 4,
                                     "not-staff": 3}


def test_length_dscp_ttl(lab):
    inner, outside = lab.pair()
    name = attach(lab, inner, small={"length": ["0-100"]}, exact={"length": [128]},
                  large={"length": ["1000-65535"]}, not_small={"not_length": ["0-100"]},
                  ef={"dscp": ["ef"]}, number={"dscp": [46]}, some={"dscp": ["1-63"]},
                  not_ef={"not_dscp": ["ef"]}, near={"ttl": [5]}, nearer={"ttl": ["1-10"]},
                  not_near={"not_ttl": ["0-10"]})
    arrived = Arrivals(outside, 7)
    for version, address, header in ((4, OUT4, 28), (6, OUT6, 48)):
        sender = inner.udp(FAMILY[version])
        inner.send(address, 7, 1, payload=b"x" * (100 - header), sender=sender)
        inner.send(address, 7, 2, payload=b"x" * (128 - header), sender=sender)
        inner.send(address, 7, 4, payload=b"x" * 1300, sender=sender)
        ip = (socket.IPPROTO_IP, socket.IP_TOS, socket.IP_TTL) if version == 4 else (
            socket.IPPROTO_IPV6, socket.IPV6_TCLASS, socket.IPV6_UNICAST_HOPS)
        sender.setsockopt(ip[0], ip[1], 46 << 2)
        inner.send(address, 7, 8, sender=sender)
        sender.setsockopt(ip[0], ip[1], 0)
        sender.setsockopt(ip[0], ip[2], 5)
        inner.send(address, 7, 16, sender=sender)
    arrived.wait(62)
    assert counts(lab, name, 62) == {
        "small": 50, "exact": 4, "large": 8, "not-small": 12, "ef": 16, "number": 16, "some": 16,
        "not-ef": 46, "near": 32, "nearer": 32, "not-near": 30}


def test_link_layer_address_of_the_sender(lab):
    inner, outside = lab.pair()
    mac = outside.open_socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    mac.bind(("eth0", 0))
    address = mac.getsockname()[4].hex(":")
    name = attach(lab, inner, it={"src_mac": [address]}, other={"src_mac": ["02:00:00:00:00:01"]},
                  not_it={"not_src_mac": [address]})
    arrived = Arrivals(inner, 7), Arrivals(outside, 7)
    outside.send(IN4, 7, 5)
    inner.send(OUT4, 7, 3)  # has none yet
    arrived[0].wait(5)
    arrived[1].wait(3)
    assert counts(lab, name, 8) == {"it": 5}


def test_large_datagram_is_judged_whole_where_it_is_reassembled(lab):
    inner, outside = lab.pair()
    name = attach(lab, inner, ported={"dport": [7]}, large={"length": ["4000-65535"]},
                  fragment={"fragment": True}, whole={"fragment": False})
    arrived = Arrivals(inner, 7), Arrivals(outside, 7)
    for version in (4, 6):
        inner.send((OUT4, OUT6)[version == 6], 7, 5, payload=b"x" * 4000)
        outside.send((IN4, IN6)[version == 6], 7, 5, payload=b"x" * 4000)
    arrived[0].wait(10)
    arrived[1].wait(10)
    got = counts(lab, name, 20)
    assert got["ported"] == got["large"] == 20, got


def test_fragments_without_ports_match_no_rule_that_asks_for_them(lab):
    """A socket with IP_NODEFRAG sends fragments past the reassembly of connection tracking."""
    inner, outside = lab.pair()
    name = attach(lab, inner, ported={"dport": [7]}, not_ported={"not_dport": [9]},
                  fragment={"fragment": True}, not_fragment={"not_fragment": True},
                  udp={"protocol": ["udp"]})
    arrived = Arrivals(outside, 7)
    packet = udp(IN4, OUT4, 4000, 7, b"x" * 1192)
    sender = raw_socket(inner, nodefrag=True)
    for ident in range(1, 6):
        for part, flags, offset in ((packet[:800], 1, 0), (packet[800:], 0, 100)):
            sender.sendto(ipv4(part, 17, IN4, OUT4, flags=flags, offset=offset, ident=ident),
                          (OUT4, 0))
    arrived.wait(5)
    assert counts(lab, name, 10) == {"ported": 5, "not-ported": 5, "fragment": 10, "udp": 10}


def test_fragments_cannot_slip_past_a_rule_for_ports(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, default="accept",
                      rules=[{"name": "no", "action": "drop", "dport": [7]}])
    arrived = Arrivals(outside, 7)
    packet = udp(IN4, OUT4, 4000, 7, b"x" * 1192)
    sender = raw_socket(inner, nodefrag=True)
    # Cut inside the header of UDP: the first fragment has no ports either.
    for part, flags, offset in ((packet[:800], 1, 0), (packet[800:], 0, 100)):
        sender.sendto(ipv4(part, 17, IN4, OUT4, flags=flags, offset=offset), (OUT4, 0))
    stats = lab.expect(name, {"packets.seen": 2})
    assert stats["rules"][0]["packets"] >= 1
    outside_ok = Arrivals(outside, 8)
    inner.send(OUT4, 8, 1)
    outside_ok.wait(1)
    assert arrived.total() == 0


def test_state_of_the_flow(lab):
    inner, outside = lab.pair()
    # Conntrack must know the flow before the attach.
    inner.nft("table inet t { chain c { type filter hook output priority 0; ct state new accept\n"
              "}\n}\n")
    older = inner.udp(bind=("", 4000))
    there = outside.udp(bind=("", 5000))
    older.sendto(b"x", (OUT4, 5000))
    there.settimeout(5)
    _, peer = there.recvfrom(10)
    name = attach(lab, inner, new={"ct": ["new"]}, reply={"ct": ["reply"]},
                  not_new={"not_ct": ["new"]})
    older.settimeout(5)
    for _ in range(4):
        there.sendto(b"y", peer)
        older.recv(10)
    assert counts(lab, name, 4) == {"reply": 4, "not-new": 4}
    arrived = Arrivals(inner, 7)
    outside.send(IN4, 7, 3)
    arrived.wait(3)
    assert counts(lab, name, 7) == {"reply": 4, "not-new": 4, "new": 3}


def test_limit_is_a_token_bucket(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, default="drop", rules=[
        {"name": "some", "action": "accept", "dport": [7], "limit": {"rate": "50/s", "burst": 20}},
        {"name": "few", "action": "accept", "dport": [8], "limit": {"rate": "1/h", "burst": 5}}])
    arrived = Arrivals(inner, 7, 8)
    started = time.monotonic()
    outside.send(IN4, 7, 300)
    outside.send(IN4, 8, 300)
    stats = lab.expect(name, {"packets.seen": 600})
    elapsed = time.monotonic() - started
    got = rule_counts(stats)
    assert 20 <= got["some"] <= 20 + 50 * elapsed + 1
    assert got["few"] == 5
    assert got["some"] + got["few"] == stats["packets"]["accepted"]
    arrived.wait(stats["packets"]["accepted"])
    # The bucket fills again.
    until(lambda: outside.send(IN4, 7, 1) and rule_counts(lab.stats(name))["some"] > got["some"],
          "a token")


def packets_by_queue(netns):
    with netns.inside():
        with open("/proc/thread-self/net/netfilter/nfnetlink_queue") as file:
            return {int(line.split()[0]): int(line.split()[7]) for line in file}


def test_limit_is_one_for_all_queues(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, "--queue", "4", "--queues", "3", default="drop", rules=[
        {"name": "few", "action": "accept", "dport": [7], "limit": {"rate": "1/h", "burst": 25}}])
    arrived = Arrivals(inner, 7)
    cpus = sorted(os.sched_getaffinity(0))
    try:
        for cpu in cpus:  # which queue a packet gets goes by the processor
            os.sched_setaffinity(0, {cpu})
            outside.send(IN4, 7, 200)
    finally:
        os.sched_setaffinity(0, cpus)
    sent = 200 * len(cpus)
    stats = lab.expect(name, {"packets.seen": sent, "packets.accepted": 25, "packets.dropped": sent - 25})
    assert rule_counts(stats) == {"few": 25}
    assert len([n for n in packets_by_queue(inner).values() if n]) >= min(2, len(cpus))
    arrived.wait(25)
