# SPDX-License-Identifier: GPL-2.0-or-later
"""
Connections that another one announces, and that the kernel's helpers expect: the data of FTP,
active and passive, and TFTP's answers from another port. In a few lines of each protocol, as much
as the helpers look at.
"""
import re
import struct

from transparent.traffic import PATIENCE, connect, readable, say

HELPERS = """
    table ip helpers {{
        ct helper ftp {{ type "ftp" protocol tcp; }}
        ct helper tftp {{ type "tftp" protocol udp; }}
        chain {hook} {{ type filter hook {hook} priority -150;
            tcp dport 21 ct helper set "ftp";
            udp dport 69 ct helper set "tftp"; }}
    }}"""
# What a policy means that drops by default, accepts port 21 or 69 one way, and what is related.
STATEFUL = """
    table inet filter {{
        chain in {{ type filter hook input priority 0; policy drop;
            ct state {states} accept; {server} }}
        chain out {{ type filter hook output priority 0; policy drop;
            ct state {states} accept; {client} }}
    }}"""


def stateful(policed, related):
    ports = "tcp dport 21 accept; udp dport 69 accept;"
    return STATEFUL.format(states="established,related" if related else "established",
                           server=ports if policed == "server" else "",
                           client=ports if policed == "client" else "")


def policy(policed, related):
    direction = "in" if policed == "server" else "out"
    rules = [{"name": "control", "action": "accept", "direction": direction, "dport": [21, 69]}]
    if related:
        rules.append({"name": "data", "action": "accept", "ct": "related"})
    return {"default": "drop", "rules": rules}


def play_in(stage, policed):
    box, peer = stage.pair()
    server, client = (box, peer) if policed == "server" else (peer, box)
    box.nft(HELPERS.format(hook="prerouting" if policed == "server" else "output"))
    stage.police(box)
    addresses = ("10.77.0.1", "10.77.0.2") if policed == "server" else ("10.77.0.2", "10.77.0.1")
    return server, client, *addresses


def ftp(stage, policed, way, wait=PATIENCE):
    """A session whose data connection is made by the client (passive) or the server (active)."""
    server, client, server_address, client_address = play_in(stage, policed)
    listener = server.tcp_listen(21)
    at_client, at_server = connect(client, listener, 4, server_address, 21)
    outcome = {"welcome": say(at_server, at_client, b"220 here\r\n")}
    say(at_client, at_server, b"USER anonymous\r\n")  # the helper heeds no side's first line
    maker, taker, taker_address = ((client, server, server_address) if way == "passive" else
                                   (server, client, client_address))
    data = taker.tcp_listen(0)
    port = data.getsockname()[1]
    numbers = ",".join([*taker_address.split("."), str(port >> 8), str(port & 255)])
    if way == "passive":
        say(at_client, at_server, b"PASV\r\n")
        said = say(at_server, at_client, f"227 Entering Passive Mode ({numbers}).\r\n".encode())
    else:
        said = say(at_client, at_server, f"PORT {numbers}\r\n".encode())
        say(at_server, at_client, b"200 done\r\n")
    numbers = re.search(r"(?:\d+,){4}(\d+),(\d+)", said)
    port = int(numbers[1]) * 256 + int(numbers[2])
    pair = connect(maker, data, 4, taker_address, port,
                   bind=("", 20) if way == "active" else None, timeout=wait)
    outcome["data"] = say(*pair) == say(*pair[::-1]) == "line" if isinstance(pair, tuple) else False
    return outcome


def tftp(stage, policed, wait=PATIENCE):
    """A request to port 69, the answer from another port, and an acknowledgement to that."""
    server, client, server_address, _ = play_in(stage, policed)
    at_server = server.udp(bind=("", 69))
    at_client = client.udp()
    at_client.sendto(struct.pack("!H", 1) + b"file\0octet\0", (server_address, 69))
    if not readable(at_server):
        return {"asked": False}
    _, peer = at_server.recvfrom(512)
    answering = server.udp(bind=("", 0))
    try:
        answering.sendto(struct.pack("!HH", 3, 1) + b"contents", peer)
    except PermissionError:
        return {"asked": True, "answered": False, "acknowledged": False}
    if not readable(at_client, wait):
        return {"asked": True, "answered": False, "acknowledged": False}
    _, peer = at_client.recvfrom(600)
    at_client.sendto(struct.pack("!HH", 4, 1), peer)
    return {"asked": True, "answered": True, "acknowledged": readable(answering)}
