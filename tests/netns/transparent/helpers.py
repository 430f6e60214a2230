# SPDX-License-Identifier: GPL-2.0-or-later
"""
Connections that another one announces, and that the kernel's helpers expect: the data of FTP,
active and passive, TFTP's answers from another port, and what is heard in a call by SIP. In a few
lines of each protocol, as much as the helpers look at.
"""
import re
import struct

from transparent.traffic import PATIENCE, connect, readable, say

PORTS = {"ftp": ("tcp", 21), "tftp": ("udp", 69), "sip": ("udp", 5060)}
HELPER = """
    table ip helpers {{
        ct helper {name} {{ type "{name}" protocol {protocol}; }}
        chain {hook} {{ type filter hook {hook} priority -150;
            {protocol} dport {port} ct helper set "{name}"; }}
    }}"""
# What a policy means that drops by default, accepts these ports one way, and what is related.
STATEFUL = """
    table inet filter {{
        chain in {{ type filter hook input priority 0; policy drop;
            ct state {states} accept; {server} }}
        chain out {{ type filter hook output priority 0; policy drop;
            ct state {states} accept; {client} }}
    }}"""


def stateful(policed, related):
    ports = " ".join(f"{protocol} dport {port} accept;" for protocol, port in PORTS.values())
    return STATEFUL.format(states="established,related" if related else "established",
                           server=ports if policed == "server" else "",
                           client=ports if policed == "client" else "")


def policy(policed, related):
    direction = "in" if policed == "server" else "out"
    rules = [{"name": "control", "action": "accept", "direction": direction, "dport": [port for _, port in PORTS.values()]}]
    if related:
        rules.append({"name": "data", "action": "accept", "ct": "related"})
    return {"default": "drop", "rules": rules}


def play_in(stage, policed, name):
    box, peer = stage.pair()
    server, client = (box, peer) if policed == "server" else (peer, box)
    protocol, port = PORTS[name]
    box.nft(HELPER.format(name=name, protocol=protocol, port=port,
                          hook="prerouting" if policed == "server" else "output"))
    stage.police(box)
    addresses = ("10.77.0.1", "10.77.0.2") if policed == "server" else ("10.77.0.2", "10.77.0.1")
    return server, client, *addresses


def ftp(stage, policed, way, wait=PATIENCE):
    """A session whose data connection is made by the client (passive) or the server (active)."""
    server, client, server_address, client_address = play_in(stage, policed, "ftp")
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
    server, client, server_address, _ = play_in(stage, policed, "tftp")
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


# What both ends say: where they want to hear.
SIP = """{first}\r
Via: SIP/2.0/UDP {client}:5060;branch=z9hG4bK1\r
From: <sip:a@{client}>;tag=1\r
To: <sip:b@{server}>\r
Call-ID: 1@{client}\r
CSeq: 1 INVITE\r
Contact: <sip:x@{own}:5060>\r
Content-Type: application/sdp\r
Content-Length: {length}\r
\r
{body}"""
SDP = """v=0\r
o=- 1 1 IN IP4 {own}\r
s=-\r
c=IN IP4 {own}\r
t=0 0\r
m=audio {port} RTP/AVP 0\r
"""
HEARD = {"client": 40000, "server": 41000}


def say_where(sock, to, first, own, **addresses):
    who = "client" if own == addresses["client"] else "server"
    body = SDP.format(own=own, port=HEARD[who])
    sock.sendto(SIP.format(first=first, own=own, body=body, length=len(body), **addresses).encode(),
                to)


def hears(sock, sender, to, wait):
    try:
        sender.sendto(b"voice", to)
    except PermissionError:
        return False
    return readable(sock, wait) and sock.recv(512) == b"voice"


def sip(stage, policed, wait=PATIENCE):
    """A call: the invitation, its answer, and what both sides then hear."""
    server, client, server_address, client_address = play_in(stage, policed, "sip")
    addresses = {"server": server_address, "client": client_address}
    at_client, at_server = (netns.udp(bind=("", 5060)) for netns in (client, server))
    voices = {name: netns.udp(bind=("", HEARD[name]))
              for name, netns in (("client", client), ("server", server))}
    say_where(at_client, (server_address, 5060), f"INVITE sip:b@{server_address} SIP/2.0",
              client_address, **addresses)
    outcome = {"invited": readable(at_server)}
    say_where(at_server, (client_address, 5060), "SIP/2.0 200 OK", server_address, **addresses)
    outcome["answered"] = readable(at_client)
    for name, other in (("client", "server"), ("server", "client")):
        outcome[f"{name} hears"] = hears(voices[name], voices[other],
                                         (addresses[name], HEARD[name]), wait)
    return outcome
