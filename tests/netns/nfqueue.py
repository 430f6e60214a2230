# SPDX-License-Identifier: GPL-2.0-or-later
"""A program of somebody else's that consumes an NFQUEUE queue: raw netlink, nothing shared."""
import contextlib
import os
import select
import socket
import struct
import threading

NETLINK_NETFILTER = 12
NFNL_SUBSYS_QUEUE = 3
PACKET, VERDICT, CONFIG = 0, 1, 2
NF_DROP, NF_ACCEPT = 0, 1


def attribute(kind, data):
    padding = b"\0" * (-len(data) % 4)
    return struct.pack("=HH", 4 + len(data), kind) + data + padding


def netlink_message(kind, queue, *attributes, flags=1):
    body = struct.pack("!BBH", socket.AF_UNSPEC, 0, queue) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), NFNL_SUBSYS_QUEUE << 8 | kind, flags, 0,
                       0) + body


def attributes(data):
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack("=HH", data[:4])
        found[kind & 0x7fff] = data[4:length]
        data = data[(length + 3) & ~3:]
    return found


class Consumer:
    """`decide(payload, mark)` returns NF_ACCEPT or NF_DROP, or (verdict, new mark)."""

    def __init__(self, netns, queue, decide=lambda payload, mark: NF_ACCEPT):
        self.queue = queue
        self.decide = decide
        self.seen = []
        self.error = None
        self.socket = netns.open_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.socket.bind((0, 0))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self.configure(attribute(1, struct.pack("!BBH", 1, 0, 0)))  # bind
        self.configure(attribute(2, struct.pack("!IB", 65531, 2)))  # copy whole packets
        self.configure(attribute(3, struct.pack("!I", 65536)))  # a slow machine must not lose any
        self.wake, self.stop = os.pipe()
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def configure(self, what):
        self.socket.send(netlink_message(CONFIG, self.queue, what, flags=5))
        answer = self.socket.recv(65536)
        error = struct.unpack("=i", answer[16:20])[0]
        if error:
            raise OSError(-error, os.strerror(-error))

    def loop(self):
        while self.socket in (ready := select.select([self.socket, self.wake], [], [])[0]):
            data = self.socket.recv(1 << 17)
            while data:
                length, kind = struct.unpack("=IH", data[:6])
                if kind == NFNL_SUBSYS_QUEUE << 8 | PACKET:
                    self.packet(attributes(data[20:length]))
                elif kind == 2:
                    self.error = struct.unpack("=i", data[16:20])[0]
                data = data[(length + 3) & ~3:]
            if self.wake in ready:
                break

    def packet(self, found):
        ident = found[1][:4]
        mark = struct.unpack("!I", found[3])[0] if 3 in found else 0
        payload = found.get(10, b"")
        self.seen.append((payload, mark))
        verdict = self.decide(payload, mark)
        new = []
        if isinstance(verdict, tuple):
            verdict, new_mark = verdict
            new = [attribute(3, struct.pack("!I", new_mark))]
        self.socket.send(netlink_message(VERDICT, self.queue, attribute(
            2, struct.pack("!I", verdict) + ident), *new))

    def close(self):
        with contextlib.suppress(OSError):
            os.write(self.stop, b"x")
        self.thread.join(10)
        self.socket.close()
        os.close(self.wake)
        os.close(self.stop)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
