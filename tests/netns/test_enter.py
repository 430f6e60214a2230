# SPDX-License-Identifier: GPL-2.0-or-later
"""nsgate-enter, asked as the broker asks it (nsgate/enter.h)."""
import array
import contextlib
import os
import resource
import socket
import struct
import subprocess

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
