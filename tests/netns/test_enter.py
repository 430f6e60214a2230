# SPDX-License-Identifier: GPL-2.0-or-later
"""nsgate-enter, asked as the broker asks it (nsgate/enter.h)."""
import array
import contextlib
import itertools
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys

import ipc
from lab import SLOW, program, until
from test_targets import process

OPEN_AS_OWNER = 2
REQUEST, ANSWER = struct.Struct("=IIIII4096s"), struct.Struct("=IiiiQQ")
USER = 4444


@contextlib.contextmanager
def entering(nofile):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(10 * SLOW)

    def prepare():
        os.dup2(theirs.fileno(), 3)
        resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))

    with ours:
        child = subprocess.Popen([program("nsgate-enter")], pass_fds=[3], preexec_fn=prepare)
        theirs.close()
        yield ours
    child.wait(10 * SLOW)


def rights(*fds):
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]


@contextlib.contextmanager
def in_flight(count):
    """Descriptors that root has sent and nobody has received; at most 250 go into a message."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for _ in range(count // 250):
            ours.sendmsg([b"x"], rights(*[0] * 250))
        yield


def test_answer_that_cannot_be_sent_is_told_of():
    """
    More of root's descriptors are in flight than one may have: in the owner's user namespace that
    is no longer overridden, so what was opened cannot be sent. Who asked must not wait for ever.
    """
    with process("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "unshare", "-Ur",
                 "unshare", "-n") as child, entering(nofile=1024) as enter:
        path = f"/proc/{child.pid}/net/netfilter/nfnetlink_queue"
        until(lambda: os.stat(path).st_uid == USER, "the namespace")
        with open(f"/proc/{child.pid}/ns/net", "rb") as netns:
            for ident, count, worked in ((1, 0, True), (2, 2000, False)):
                with in_flight(count):
                    enter.sendmsg([REQUEST.pack(ident, OPEN_AS_OWNER, 0, 0, 0, b"")],
                                  rights(netns.fileno()))
                    answer = ANSWER.unpack(enter.recv(ANSWER.size))
                assert answer[0] == ident and (answer[1] == 0) == worked, answer


# An nsgate-enter for a broker: it passes on what it is asked, an attach's sockets only by and by.
HOLDING_BACK = """
import array, os, select, socket, struct, subprocess, sys
broker = socket.socket(fileno=3)
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.dup2(theirs.fileno(), 9)
subprocess.Popen(["sh", "-c", f"exec {sys.argv[1]} 3<&9 9<&-"], pass_fds=[9])
theirs.close()
os.close(9)
held, released = [], 0

def receive(source):
    data, control, _, _ = source.recvmsg(8192, socket.CMSG_SPACE(64 * 4))
    fds = array.array("i", b"".join(item[2] for item in control))
    return data, fds

def send(to, data, fds):
    to.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else [])
    for fd in fds:
        os.close(fd)

while True:
    ready = select.select([broker, ours], [], [], 0.02)[0]
    if ours in ready:
        send(broker, *receive(ours))
    if broker in ready:
        data, fds = receive(broker)
        if not data:
            break
        _, op, queues = struct.unpack("=III", data[:12])
        if op == 1 and queues:
            held.append((data, fds))
        else:
            send(ours, data, fds)
    if held and os.path.exists(f"{sys.argv[2]}/{released}"):
        send(ours, *held.pop(0))
        released += 1
"""
ATTACH_CONTAINER = 1 << 3


def hold_back(lab):
    """Of this lab's broker. Return: release the next one."""
    directory, gates = f"{lab.dir}/held-back", itertools.count()
    os.mkdir(directory)
    shutil.copy(program("nsgate-broker"), f"{directory}/nsgate-broker")
    with open(f"{directory}/nsgate-enter", "w", encoding="ascii") as script:
        script.write(f"#!/bin/sh\nexec {sys.executable} -c '{HOLDING_BACK}' "
                     f"{program('nsgate-enter')} {directory}\n")
    os.chmod(f"{directory}/nsgate-enter", 0o755)
    lab.through["nsgate-broker"] = ["sh", "-c", 'shift; exec "$0" "$@"',
                                    f"{directory}/nsgate-broker"]
    return lambda: open(f"{directory}/{next(gates)}", "wb").close()


def ask_for_container(lab, client, child, container, policy):
    label = f"io.nsgate.container={container}\0".encode()
    pidfd = os.pidfd_open(child.pid)
    client.send(ipc.message(ipc.ATTACH, ipc.attach_body(
        container, policy, f"pid:{child.pid}", ipc.TARGET_PID, ATTACH_CONTAINER,
        labels=label)), [pidfd])
    os.close(pidfd)
    with contextlib.closing(ipc.Client(lab)) as other:
        other.send(ipc.message(ipc.PROBE))
        assert other.receive()[0] == ipc.FEATURES  # so it was read


def test_two_containers_of_one_namespace_at_once(own_lab):
    """The second is on its way when the first is in force: it is counted in, and not refused."""
    lab = own_lab
    release = hold_back(lab)
    lab.start()
    policy = lab.policy(default="accept")
    with process("unshare", "-n") as child, contextlib.closing(ipc.Client(lab)) as first, \
            contextlib.closing(ipc.Client(lab)) as second:
        ask_for_container(lab, first, child, "one", policy)
        ask_for_container(lab, second, child, "two", policy)
        for client in (first, second):
            release()
            kind, body = client.receive()
            assert (kind, body[:4]) == (ipc.REPLY, bytes(4)), body
        assert lab.names() == ["one"]
    assert "event=member.joined netns=one container=two" in lab.log("nsgate-broker")
