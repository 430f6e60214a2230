# SPDX-License-Identifier: GPL-2.0-or-later
"""
Random packets: what each is, and its bytes, which only the engine sees. Those that nobody may
understand in two ways are malformed, and known to be.
"""
import dataclasses
import ipaddress
import struct

import model

SEEN_AT_MOST = 256  # bytes within which all headers must lie, see nsgate-policy(5)

LINKS = ("eth0", "eth1", "veth0", "veth12", "lo", "wlan0")
MACS = ("02:00:00:12:34:56", "02:00:00:12:34:57", "aa:bb:cc:dd:ee:ff")
ADDRESSES = {
    4: ["10.0.0.1", "10.0.0.7", "10.0.1.1", "192.0.2.1", "192.0.2.200", "198.51.100.9",
        "127.0.0.1", "224.0.0.251", "255.255.255.255", "0.0.0.0"],
    6: ["2001:db8::1", "2001:db8::7", "2001:db8:1::1", "fe80::1", "ff02::fb", "::1", "::",
        "::ffff:10.0.0.1", "fd00::9"],
}  # fmt: skip
PORTS = (0, 22, 53, 80, 443, 8080, 32768, 65535)
OTHER_PROTOCOLS = (2, 4, 41, 47, 50, 89, 103, 112, 115, 253)
WITH_PORTS = {"tcp": 6, "udp": 17, "dccp": 33, "sctp": 132, "udplite": 136}
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, OPTIONS = 0, 43, 44, 51, 60


@dataclasses.dataclass
class Packet:
    hook: str
    family: int
    protocol: int
    src: object
    dst: object
    length: int = 0
    dscp: int = 0
    ttl: int = 64
    sport: int = None
    dport: int = None
    icmp_type: int = None
    icmp_code: int = None
    tcp_flags: int = None
    fragment: bool = False
    iif: str = None
    oif: str = None
    mac: str = None
    mark: int = 0
    uid: int = None
    gid: int = None
    ct: frozenset = frozenset()
    malformed: bool = False
    data: bytes = b""  # the first of it, at least up to the end of its headers
    headers: int = 0  # bytes up to the end of the transport header

    @property
    def direction(self):
        return model.DIRECTIONS[self.hook]


# ---- what it is ----


def draw(chance, hooks):
    """Everything but the bytes."""
    family = chance.choice((4, 6))
    packet = Packet(chance.choice(hooks), family, 0, draw_address(chance, family),
                    draw_address(chance, family))  # fmt: skip
    draw_transport(packet, chance)
    packet.dscp = chance.choice((0, 0, 1, 10, 46, chance.randrange(64)))
    packet.ttl = chance.choice((1, 63, 64, 255, chance.randrange(256)))
    if packet.hook != "out":
        packet.iif = chance.choice(LINKS)
        packet.mac = chance.choice((None, *MACS))
    if packet.hook in ("out", "forward", "postrouting"):
        packet.oif = chance.choice(LINKS)
    if packet.hook in ("out", "postrouting"):
        packet.iif = packet.mac = None
        packet.uid = chance.choice((None, 0, 34, 1000, 4294967294))
        packet.gid = chance.choice((None, 0, 34, 1000))
    packet.mark = chance.choice((0, 0, 1, 0x10, 0x11, 0xA9000010, chance.getrandbits(32)))
    states = chance.choice(((), *((state,) for state in model.CT_STATES)))
    packet.ct = frozenset(states + chance.choice(((), (), ("reply",))))
    return packet


def draw_address(chance, family):
    if chance.random() < 0.8:
        return ipaddress.ip_address(chance.choice(ADDRESSES[family]))
    return ipaddress.ip_address(chance.getrandbits(32 if family == 4 else 128).to_bytes(
        4 if family == 4 else 16, "big"))  # fmt: skip


def draw_transport(packet, chance):
    kind = chance.choice((*WITH_PORTS, "tcp", "tcp", "udp", "udp", "icmp", "icmp", "other"))
    if kind in WITH_PORTS:
        packet.protocol = WITH_PORTS[kind]
        packet.sport = draw_port(chance)
        packet.dport = draw_port(chance)
        if kind == "tcp":
            packet.tcp_flags = chance.choice((0x02, 0x12, 0x10, 0x18, 0x14, 0, 0xFF,
                                              chance.randrange(256)))  # fmt: skip
    elif kind == "icmp":
        packet.protocol = chance.choice((1, 58))
        if packet.protocol == (1 if packet.family == 4 else 58):  # the other is just a number
            names = model.ICMP_TYPES[packet.family]
            packet.icmp_type = chance.choice((*names.values(), chance.randrange(256)))
            packet.icmp_code = chance.choice((0, 0, 1, 3, 4, chance.randrange(256)))
    else:
        packet.protocol = chance.choice(OTHER_PROTOCOLS)


def draw_port(chance):
    return chance.choice((*PORTS, chance.randrange(65536)))


# ---- its bytes ----


def transport_header(packet, size):
    """`size`: of what follows the IP header and its extensions, all fragments together."""
    ports = struct.pack("!HH", packet.sport or 0, packet.dport or 0)
    if packet.protocol == 6:
        return ports + struct.pack("!IIBBHHH", 1, 2, 5 << 4, packet.tcp_flags, 1000, 0, 0)
    if packet.protocol == 17:
        return ports + struct.pack("!HH", size if size <= 65535 else 0, 0)
    if packet.protocol == 136:
        return ports + struct.pack("!HH", 8, 0)
    if packet.protocol in (33, 132):
        return ports + struct.pack("!II", 0x05000000, 7)
    if packet.icmp_type is not None:
        return struct.pack("!BBHHH", packet.icmp_type, packet.icmp_code, 0, 1, 2)
    return b""


def ip_header(packet, next_protocol, options, total, fragment_word):
    """`total`: of the packet; one that is longer than a length field can say leaves it 0."""
    if packet.family == 4:
        return struct.pack(
            "!BBHHHBBH4s4s", 4 << 4 | (20 + len(options)) // 4, packet.dscp << 2 | 1,
            total if total <= 65535 else 0, 9, fragment_word, packet.ttl, next_protocol, 0,
            packet.src.packed, packet.dst.packed) + options  # fmt: skip
    payload = total - 40
    return struct.pack(
        "!IHBB16s16s", 6 << 28 | packet.dscp << 22 | 1 << 20, payload if payload <= 65535 else 0,
        next_protocol, packet.ttl, packet.src.packed, packet.dst.packed)  # fmt: skip


def extension(kind, next_header, size):
    """`size` bytes of it, a multiple of 8."""
    if kind == AUTHENTICATION:
        return struct.pack("!BBHII", next_header, size // 4 - 2, 0, 1, 2) + bytes(size - 12)
    if kind == ROUTING:  # of an unknown type, no segment left
        return struct.pack("!BBBB", next_header, size // 8 - 1, 253, 0) + bytes(size - 4)
    padding = size - 4
    options = b""
    while padding > 255:
        options += b"\x01\xfd" + bytes(253)
        padding -= 255
    return struct.pack("!BB", next_header, size // 8 - 1) + (
        options + (b"\x01" + bytes([padding]) + bytes(padding)))  # fmt: skip


def draw_extensions(chance):
    """(kind, size) of each, before the transport header of IPv6."""
    kinds = []
    if chance.random() < 0.3:
        kinds.append((HOP_BY_HOP, 8 * chance.randint(1, 3)))
    for kind in (OPTIONS, ROUTING, AUTHENTICATION):
        if chance.random() < 0.15:
            kinds.append((kind, 8 * chance.randint(2, 4)))
    return kinds


def join_extensions(extensions, protocol):
    """Return: the first next header, the bytes of all."""
    data, following = b"", protocol
    for kind, size in reversed(extensions):
        data, following = extension(kind, following, size) + data, kind
    return following, data


def write(packet, chance):
    """Give a packet its bytes, in one of the forms that it may have."""
    form = chance.choices(("whole", "first", "later", "atomic", "huge", "far", "malformed"),
                          (60, 8, 8, 3, 4, 3, 12))[0]  # fmt: skip
    fragment_word = 0
    if form in ("first", "later"):
        packet.fragment = True
        fragment_word = 0 if form == "first" else chance.choice((8, 9, 185, 4000))
    if form == "later":
        packet.sport = packet.dport = packet.tcp_flags = None
        packet.icmp_type = packet.icmp_code = None
    payload = 8 * chance.randint(3, 12) if form == "first" else chance.randrange(0, 90)
    if form == "huge":
        payload = chance.randrange(66000, 200000)
    more = form == "first" or (form == "later" and chance.random() < 0.5)
    if more and form == "later":
        payload = 8 * (payload // 8)
    put_together(packet, chance, form, payload, fragment_word, more)
    if form == "malformed":
        packet.malformed = spoil(packet, chance)
    return packet


def put_together(packet, chance, form, payload, offset, more):
    """`payload`: bytes after the transport header; `offset` in words of eight bytes."""
    fragmented = form in ("first", "later")
    header = b"" if form == "later" else transport_header(packet, 0)
    # The bytes of a fragment but the last are a multiple of eight, its transport header included.
    payload += -(len(header) + payload) % 8 if more else 0
    header = header and transport_header(packet, len(header) + payload)
    if packet.family == 4:
        options = bytes([1]) * (4 * chance.choice((0, 0, 0, 1, 5, 10)))
        word = (offset | more << 13) if fragmented else 0
        total = 20 + len(options) + len(header) + payload
        before = ip_header(packet, packet.protocol, options, total, word)
    else:
        extensions = [(OPTIONS, 240)] if form == "far" else draw_extensions(chance)
        following, data = join_extensions(extensions, packet.protocol)
        if fragmented or form == "atomic":
            following, data = with_fragment_header(extensions, packet.protocol, offset, more)
        total = 40 + len(data) + len(header) + payload
        before = ip_header(packet, following, b"", total, 0) + data
    packet.headers = len(before) + len(header)
    packet.length = total
    packet.data = before + header + bytes(min(payload, 120))


def with_fragment_header(extensions, protocol, offset, more):
    """The fragment header comes behind the hop-by-hop header, before all others; in a fragment
    other than the first nothing of the others is left."""
    first = [e for e in extensions if e[0] == HOP_BY_HOP]
    rest = [e for e in extensions if e[0] != HOP_BY_HOP] if offset == 0 else []
    following, data = join_extensions(rest, protocol)
    data = struct.pack("!BBHI", following, 0, offset << 3 | more, 77) + data
    following, before = join_extensions(first, FRAGMENT)
    return following, before + data


# ---- malformed ----


def spoil(packet, chance):
    """Return: is it malformed now? Not every way is open to every packet."""
    data = bytearray(packet.data)
    transport = packet.headers - len(transport_header(packet, 0))
    way = chance.choice(("version", "total", "cut", "ihl", "tcp", "udp-short", "udp-long",
                         "two-fragment-headers", "late-hop-by-hop", "many-extensions"))  # fmt: skip
    if way == "version":
        data[0] = chance.choice((0, 5, 7, 15)) << 4 | data[0] & 15
    elif way == "total":  # more than there is
        at = 2 if packet.family == 4 else 4
        struct.pack_into("!H", data, at, struct.unpack_from("!H", data, at)[0] + 1)
    elif way == "cut" and packet.headers > transport:
        cut_at = chance.randrange(transport, packet.headers)
        del data[cut_at:]
        struct.pack_into("!H", data, 2 if packet.family == 4 else 4,
                         cut_at - (0 if packet.family == 4 else 40))  # fmt: skip
    elif way == "ihl" and packet.family == 4:
        data[0] = 4 << 4 | chance.randrange(5)
    elif way == "tcp" and packet.protocol == 6:
        data[transport + 12] = chance.randrange(5) << 4
    elif way == "udp-short" and packet.protocol == 17:
        struct.pack_into("!H", data, transport + 4, chance.randrange(8))
    elif way == "udp-long" and packet.protocol == 17:
        struct.pack_into("!H", data, transport + 4, packet.length - transport + 1)
    elif way in ("two-fragment-headers", "late-hop-by-hop", "many-extensions"):
        if packet.family == 4:
            return False
        data = bytearray(bad_extensions(packet, way))
    else:
        return False
    packet.data = bytes(data)
    packet.length = len(data)
    return True


def bad_extensions(packet, way):
    if way == "two-fragment-headers":
        atomic = struct.pack("!BBHI", packet.protocol, 0, 0, 1)
        following, data = FRAGMENT, struct.pack("!BBHI", FRAGMENT, 0, 0, 1) + atomic
    elif way == "late-hop-by-hop":
        following, data = join_extensions([(OPTIONS, 8), (HOP_BY_HOP, 8)], packet.protocol)
    else:
        following, data = join_extensions([(OPTIONS, 8)] * 17, packet.protocol)
    rest = transport_header(packet, 8) + bytes(8)
    return ip_header(packet, following, b"", 40 + len(data) + len(rest), 0) + data + rest


def is_malformed(packet, rewrites):
    """Headers beyond what is looked at are as bad as none; a policy that rewrites sees all."""
    return packet.malformed or (packet.headers > SEEN_AT_MOST and not rewrites)


def request(kind, now, packet):
    """The line for the engine."""
    def text(value):
        return "-" if value is None else str(value)
    mac = packet.mac and packet.mac.replace(":", "")
    return " ".join((
        kind, str(now), packet.hook, text(packet.iif), text(packet.oif), text(mac),
        str(packet.mark), text(packet.uid), text(packet.gid), ",".join(sorted(packet.ct)) or "-",
        str(packet.length), packet.data.hex())) + "\n"  # fmt: skip
