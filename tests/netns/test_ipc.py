# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever is sent to broker.sock, the broker goes on and keeps no descriptor of it."""
import contextlib
import os
import socket
import struct
import subprocess

import pytest

import ipc
from lab import until

HELLO = ipc.message(ipc.HELLO, struct.pack("=II", 1, 0))
DETACH = ipc.message(ipc.DETACH, b"nobody".ljust(64, b"\0"))
PROBE = ipc.message(ipc.PROBE)
ATTACH = ipc.message(ipc.ATTACH, ipc.attach_body("x"))

# What is sent after a greeting: message and number of descriptors.
CLOSES = {
    "an empty one": (b"", 0),
    "one byte": (b"N", 0),
    "half a header": (PROBE[:8], 0),
    "a header without its body": (DETACH[:16], 0),
    "a truncated one": (DETACH[:-1], 0),
    "an oversized one": (DETACH + b"\0", 0),
    "a huge one": (DETACH + b"\0" * 100000, 0),
    "a length that lies": (ipc.message(ipc.DETACH, bytes(64), length=81), 0),
    "a wrong magic": (ipc.message(ipc.PROBE, magic=0x12345678), 0),
    "a wrong version": (ipc.message(ipc.PROBE, version=2), 0),
    "type 0": (ipc.message(0), 0),
    "an unknown type": (ipc.message(99), 0),
    "the highest type": (ipc.message(0xffff), 0),
    "a second greeting": (HELLO, 0),
    "an answer": (ipc.message(ipc.REPLY, bytes(8 + 512)), 0),
    "a message of the agent's": (ipc.message(ipc.NS_REMOVE, bytes(8)), 0),
    "an attach without its descriptor": (ATTACH, 0),
    "an attach with surplus descriptors": (ATTACH, 6),
    "an attach with very many descriptors": (ATTACH, 200),
    "a detach with a descriptor": (DETACH, 1),
    "a probe with five": (PROBE, 5),
}


def works(lab):
    client = ipc.Client(lab)
    client.send(PROBE)
    assert client.receive()[0] == ipc.FEATURES
    client.close()


@pytest.mark.parametrize("kind", CLOSES)
def test_closes_on(lab, kind):
    data, count = CLOSES[kind]
    before = lab.fds()
    null = os.open("/dev/null", os.O_RDONLY)
    client = ipc.Client(lab)
    client.send(data, [null] * count)
    assert client.receive() == (None, b"")
    client.close()
    os.close(null)
    lab.wait_fds(before)
    works(lab)


@pytest.mark.parametrize("first", [PROBE, DETACH, ATTACH, ipc.message(ipc.HELLO, bytes(8),
                                                                      version=9)])
def test_nothing_goes_before_the_greeting(lab, first):
    before = lab.fds()
    client = ipc.Client(lab, greet=False)
    client.send(first)
    assert client.receive() == (None, b"")
    client.close()
    lab.wait_fds(before)
    works(lab)


def test_who_never_greets_is_sent_away(lab):
    before = lab.fds()
    client = ipc.Client(lab, greet=False)
    assert client.receive() == (None, b"")
    lab.wait_fds(before)


@pytest.mark.parametrize("kind, status, words", [
    (ipc.TARGET_NETNS, 2, "not a network namespace"),
    (ipc.TARGET_PATH, 2, "not a network namespace"),
    (ipc.TARGET_SELF, 2, "not a network namespace"),
    (ipc.TARGET_PID, 1, ""),
    (ipc.TARGET_HANDOFF, 5, "handoff is refused"),
    (0, 2, ""), (99, 2, ""),
])
def test_descriptors_of_the_wrong_kind_are_refused(lab, kind, status, words):
    lab.put_policy("ok")
    before = lab.fds()
    for make in (lambda: os.open("/dev/null", os.O_RDONLY),
                 lambda: os.open("/proc/self/ns/mnt", os.O_RDONLY),
                 lambda: socket.socket(socket.AF_UNIX).detach(),
                 lambda: socket.socket(socket.AF_INET).detach(),
                 lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).detach()):
        client = ipc.Client(lab)
        fd = make()
        got = client.ask(ipc.message(ipc.ATTACH, ipc.attach_body("x", "ok", kind=kind)), [fd])
        os.close(fd)
        assert got[0] == status and words in got[1], got
        assert "\n" not in got[1]
        client.close()
    lab.wait_fds(before)
    works(lab)


@pytest.mark.parametrize("change", [
    {"name": ""}, {"name": "a b"}, {"name": "a\n"}, {"name": "x" * 64}, {"policy": ""},
    {"policy": "../etc"}, {"policy": "p" * 64}, {"target": "\x1b[2J"}, {"target": "t" * 256},
    {"count": 0}, {"count": 17}, {"queue": 65535, "count": 2}, {"labels": b"x" * 1024},
])
def test_bad_fields_are_usage_errors(lab, change):
    netns = lab.netns()
    before = lab.fds()
    fields = {"name": "x", "policy": "default"} | change
    client = ipc.Client(lab)
    fd = os.open(netns.path, os.O_RDONLY)
    status, text = client.ask(ipc.message(ipc.ATTACH, ipc.attach_body(**fields)), [fd])
    os.close(fd)
    assert status == 2 and text and "\n" not in text and "\x1b" not in text
    client.close()
    lab.wait_fds(before)


def test_labels_that_are_no_labels_do_not_break_the_documents(lab):
    netns = lab.netns()
    lab.put_policy("ok")
    for labels in (b"novalue\0", b"a=\xff\xfe\"\\\0b=2\0", b"=x\0", b"a=1\0a=2\0"):
        client = ipc.Client(lab)
        fd = os.open(netns.path, os.O_RDONLY)
        client.ask(ipc.message(ipc.ATTACH, ipc.attach_body("x", "ok", labels=labels)), [fd])
        os.close(fd)
        client.close()
        lab.stats_sock()
        lab.get("/v1/namespaces")
        assert lab.http("GET", "/metrics").status == 200
        lab.ctl("detach", "x")


def test_a_crowd_of_clients_leaves_room(lab):
    """Silent ones, and those that go away in the middle of an attach."""
    netns, other = lab.netns(), lab.netns("b")
    lab.put_policy("ok")
    before = lab.fds()
    crowd = []
    with contextlib.suppress(OSError):
        for _ in range(100):
            crowd.append(ipc.Client(lab))
    lab.must("attach", f"netns:{other}", "--policy", "ok", "--name", "other")
    for client in crowd:
        client.close()
    fd = os.open(netns.path, os.O_RDONLY)
    for number in range(20):
        client = ipc.Client(lab)
        client.send(ipc.message(ipc.ATTACH, ipc.attach_body(f"x{number}", "ok")), [fd])
        client.close()
    os.close(fd)
    works(lab)
    until(lambda: set(lab.names()) - {"other"}, "one of the attachments whose client went away")
    lab.must("detach", "other")

    def let_go():  # when one is, another that was under way may take its place
        for name in lab.names():
            lab.must("detach", name)
        return all(now <= then for now, then in zip(lab.fds(), before)) and not lab.names()
    until(let_go, lambda: f"all of them to be let go of: {lab.names()}")


CROWD = """
import resource, socket, struct, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))
hello = struct.pack("=IHHIIII", 0x4741544e, 1, 1, 24, 1, 0, 0)
crowd = []
for _ in range(1200):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    crowd.append(client)
    try:
        client.connect(sys.argv[1])
        client.send(hello)
        client.recv(64)
    except OSError:
        pass
print("here", flush=True)
sys.stdin.read()
"""


def test_a_crowd_of_strangers_leaves_room(lab):
    """Anybody may ask where --admin is given; that does not keep those out who may do more."""
    netns = lab.netns()
    lab.put_policy("ok")
    with subprocess.Popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                           "/usr/bin/python3", "-c", CROWD, f"{lab.runtime}/broker.sock"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as crowd:
        assert crowd.stdout.readline() == b"here\n"
        lab.must("attach", f"netns:{netns}", "--policy", "ok", "--name", "x")
        crowd.stdin.close()
        assert crowd.wait(20) == 0
    lab.must("detach", "x")
    works(lab)


def test_every_byte_of_a_message_may_be_wrong(lab):
    """One byte wrong at a time, in greeting, probe and attach."""
    before = lab.fds()
    netns = lab.netns()
    fd = os.open(netns.path, os.O_RDONLY)
    for good, fds in ((PROBE, []), (ATTACH[:32 + 128 + 8], [fd])):
        tail = (ATTACH if fds else PROBE)[len(good):]
        for at in range(len(good)):
            client = ipc.Client(lab)
            client.send(good[:at] + bytes([good[at] ^ 0xff]) + good[at + 1:] + tail, fds)
            client.receive()
            client.close()
    os.close(fd)
    works(lab)
    for name in lab.names():
        lab.must("detach", name)
    lab.wait_fds(before)
