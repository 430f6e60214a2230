#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The traffic of `make demo`: real TCP and UDP in IPv4 and IPv6, and a count of it at both ends.

usage: demo_traffic.py receive PROTOCOL:PORT...
       demo_traffic.py send ADDRESS4 ADDRESS6 [--pace SECONDS] PROTOCOL:PORT:COUNT...

`receive` prints "ready" on stderr, counts until SIGTERM, and prints {"udp:53": [IPv4, IPv6], ...}: datagrams
received, TCP connections over which a whole message came. `send` sends COUNT datagrams, or opens
COUNT connections, in each family, and prints what it sent in the same form. With --pace it waits
that long after each of them.
"""

import json
import selectors
import signal
import socket
import sys
import time

FAMILIES = (socket.AF_INET, socket.AF_INET6)
SO_RCVBUFFORCE = 33
BUFFER = 16 << 20  # holds everything that the demo sends, so that no socket loses any
QUIET = 0.3  # seconds without a packet after which all have come
MESSAGE = b"nsgate demo\n"


def listen(family, protocol, port):
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    sock = socket.socket(family, kind)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", port))
    if protocol == "tcp":
        sock.listen(128)
    return sock


def take(sock):
    """Return whether a whole message came."""
    if sock.type == socket.SOCK_DGRAM:
        return sock.recv(2048) == MESSAGE
    connection, _ = sock.accept()
    with connection:
        connection.settimeout(2)
        try:
            return connection.recv(2048, socket.MSG_WAITALL) == MESSAGE
        except OSError:
            return False


def receive(ports):
    counts = {port: [0, 0] for port in ports}
    stopping = []
    selector = selectors.DefaultSelector()
    for port in ports:
        protocol, number = port.split(":")
        for index, family in enumerate(FAMILIES):
            sock = listen(family, protocol, int(number))
            selector.register(sock, selectors.EVENT_READ, (port, index))
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    print("ready", file=sys.stderr, flush=True)

    while True:
        events = selector.select(QUIET)
        if stopping and not events:
            break
        for key, _ in events:
            port, index = key.data
            counts[port][index] += take(key.fileobj)
    print(json.dumps(counts), flush=True)


def connect(family, address, port):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(2)
        try:
            sock.connect((address, port))
            sock.sendall(MESSAGE)
        except OSError:
            pass  # refused: the policy's doing


def send(addresses, ports, pace):
    counts = {}
    for entry in ports:
        protocol, port, count = entry.split(":")
        for family, address in zip(FAMILIES, addresses):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                for _ in range(int(count)):
                    if protocol == "udp":
                        sock.sendto(MESSAGE, (address, int(port)))
                    else:
                        connect(family, address, int(port))
                    if pace:
                        time.sleep(pace)
        counts[f"{protocol}:{port}"] = [int(count)] * 2
    print(json.dumps(counts), flush=True)


def main(arguments):
    if arguments[:1] == ["receive"] and arguments[1:]:
        receive(arguments[1:])
    elif arguments[:1] == ["send"] and len(arguments) > 3:
        rest, pace = arguments[3:], 0
        if rest[0] == "--pace":
            rest, pace = rest[2:], float(rest[1])
        send(arguments[1:3], rest, pace)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
