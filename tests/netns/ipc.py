# SPDX-License-Identifier: GPL-2.0-or-later
"""The messages of nsgate/proto.h on broker.sock, written out anew: right ones and wrong ones."""
import array
import os
import socket
import struct

SLOW = float(os.environ.get("NSGATE_TEST_SLOW") or 1)
MAGIC = 0x4741544E
VERSION = 1
HELLO, REPLY, ATTACH, DETACH, PROBE, FEATURES, NS_ADD = range(1, 8)
HELD_END, NS_RULES, NS_REMOVE = 9, 10, 11
PROBE_STRICT, PING = 16, 17
BUSY = 6  # a status
TARGET_NETNS, TARGET_PID, TARGET_PATH, TARGET_SELF, TARGET_HANDOFF = range(1, 6)


def message(kind, body=b"", ident=1, magic=MAGIC, version=VERSION, length=None):
    return struct.pack("=IHHII", magic, version, kind, length if length is not None else
                       16 + len(body), ident) + body


def attach_body(name, policy="default", target="test", kind=TARGET_NETNS, flags=0, queue=32768,
                count=1, labels=b""):
    return struct.pack("=IIHHI64s64s256s1024s", kind, flags, queue, count, 0, name.encode(),
                       policy.encode(), target.encode(), labels)


class Client:
    def __init__(self, lab, greet=True, timeout=10):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(timeout * SLOW)
        self.socket.connect(f"{lab.runtime}/broker.sock")
        if greet:
            self.send(message(HELLO, struct.pack("=II", 0, 0)))
            kind, _ = self.receive()
            assert kind == HELLO

    def send(self, data, fds=()):
        self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                      array.array("i", fds))] if fds else [])

    def receive(self):
        """(type, body); (None, b"") where the connection was closed."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            return None, b""
        magic, version, kind, length, _ = struct.unpack("=IHHII", data[:16])
        assert (magic, version, length) == (MAGIC, VERSION, len(data))
        return kind, data[16:]

    def ask(self, data, fds=()):
        """(status, text) of the REPLY."""
        self.send(data, fds)
        kind, body = self.receive()
        assert kind == REPLY
        return struct.unpack("=I", body[:4])[0], body[8:].split(b"\0")[0].decode()

    def close(self):
        self.socket.close()
