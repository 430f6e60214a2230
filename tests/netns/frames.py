# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets made by hand, for what no ordinary socket would send."""
import socket
import struct

from lab import checksum

ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
IP_NODEFRAG = 22


def ipv4(payload, protocol, src, dst, ihl=5, version=4, length=None, flags=0, offset=0, ident=1,
         ttl=64, options=b"", tos=0):
    header = struct.pack("!BBHHHBBH4s4s", version << 4 | ihl, tos,
                         length if length is not None else 20 + len(options) + len(payload),
                         ident, flags << 13 | offset, ttl, protocol, 0, socket.inet_aton(src),
                         socket.inet_aton(dst)) + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ipv6(payload, next_header, src, dst, length=None, hop_limit=64):
    return struct.pack("!IHBB16s16s", 6 << 28, length if length is not None else len(payload),
                       next_header, hop_limit, socket.inet_pton(socket.AF_INET6, src),
                       socket.inet_pton(socket.AF_INET6, dst)) + payload


def pseudo(src, dst, protocol, length):
    family = socket.AF_INET6 if ":" in src else socket.AF_INET
    addresses = socket.inet_pton(family, src) + socket.inet_pton(family, dst)
    if family == socket.AF_INET6:
        return addresses + struct.pack("!II", length, protocol)
    return addresses + struct.pack("!BBH", 0, protocol, length)


def udp(src, dst, sport, dport, data=b"x" * 20):
    header = struct.pack("!HHHH", sport, dport, 8 + len(data), 0)
    total = checksum(pseudo(src, dst, 17, 8 + len(data)) + header + data) or 0xffff
    return header[:6] + struct.pack("!H", total) + data


def tcp(src, dst, sport, dport, flags=2, offset=5, data=b"", numbers=(1, 0)):
    header = struct.pack("!HHIIBBHHH", sport, dport, *numbers, offset << 4, flags, 65535, 0, 0)
    total = checksum(pseudo(src, dst, 6, 20 + len(data)) + header + data)
    return header[:16] + struct.pack("!H", total) + header[18:] + data


class Wire:
    """Frames onto a link of a namespace, past its own stack."""

    def __init__(self, netns, dev="eth0"):
        self.socket = netns.open_socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.bind((dev, 0))
        own = self.socket.getsockname()[4]
        # The other end's address differs in the last byte: see Lab.link_commands().
        other = own[:5] + bytes([3 - own[5]])
        self.addresses = other + own

    def send(self, packet, ether_type=None):
        kind = ether_type or (ETH_P_IPV6 if packet[:1] and packet[0] >> 4 == 6 else ETH_P_IP)
        self.socket.send(self.addresses + struct.pack("!H", kind) + packet)


def raw_socket(netns, nodefrag=False):
    """Whole IPv4 packets out of the namespace's own stack."""
    made = netns.open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
    if nodefrag:
        made.setsockopt(socket.IPPROTO_IP, IP_NODEFRAG, 1)
    return made
