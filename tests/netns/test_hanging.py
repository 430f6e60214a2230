# SPDX-License-Identifier: GPL-2.0-or-later
"""
A path that does not come back: below a FUSE mount that nobody serves. Whoever names it waits, and
everybody else is served.
"""
import contextlib
import ctypes
import os
import re
import signal
import threading
import time

import pytest

import ipc
from lab import SLOW, until

LIBC = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2


@contextlib.contextmanager
def hanging(lab):
    """A directory. Its requests are answered by nobody, and end when the descriptor is closed."""
    directory = f"{lab.dir}/hung"
    os.makedirs(directory, exist_ok=True)
    try:
        fuse = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("this kernel has no FUSE")
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if LIBC.mount(b"hung", directory.encode(), b"fuse", 0, options) < 0:
        os.close(fuse)
        pytest.skip("FUSE cannot be mounted here")
    yield directory
    os.close(fuse)
    LIBC.umount2(directory.encode(), MNT_DETACH)
    os.rmdir(directory)


def ask(lab, name, netns, target, answers):
    with contextlib.closing(ipc.Client(lab, timeout=20)) as client:
        fd = os.open(netns.path, os.O_RDONLY)
        body = ipc.attach_body(name, lab.policy(default="accept"), target, ipc.TARGET_PATH)
        answers.append(client.ask(ipc.message(ipc.ATTACH, body), [fd]))
        os.close(fd)


def test_path_that_hangs_holds_up_nobody_else(lab):
    with hanging(lab) as hung:
        attach_beside(lab, hung)


def attach_beside(lab, hung):
    slow, quick = lab.netns(), lab.netns()
    answers = []
    asker = threading.Thread(target=ask, args=(lab, "slow", slow, f"path:{hung}/x", answers))
    asker.start()
    until(lambda: children_of_enter(lab), "a child to be on the way")
    began = time.monotonic()
    assert ipc_probe(lab) and not answers
    took = time.monotonic() - began
    name = lab.attach(quick, default="accept")
    assert asker.is_alive() or answers  # whether it is done by now is the machine's business
    asker.join(20 * SLOW)
    # It cannot be told where the path leads, so it is believed.
    assert [status for status, _ in answers] == [0], answers
    assert took < 0.5 * SLOW
    lab.must("detach", name)
    lab.must("detach", "slow")


def ipc_probe(lab):
    with contextlib.closing(ipc.Client(lab)) as client:
        client.send(ipc.message(ipc.PROBE))
        return client.receive()[0] == ipc.FEATURES


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def children_of_enter(lab):
    [enter] = [child for child in children_of(lab.broker.pid)
               if open(f"/proc/{child}/comm", encoding="ascii").read() == "nsgate-enter\n"]
    return children_of(enter)


def test_what_hangs_is_not_waited_for_when_all_is_restored(own_lab):
    lab = own_lab
    lab.start()
    slow, quick = lab.netns(), lab.netns()
    with hanging(lab) as hung:
        answers = []
        ask(lab, "slow", slow, f"path:{hung}/x", answers)
        assert answers[0][0] == 0, answers
        name = lab.attach(quick, default="accept")
        for process in (lab.broker, lab.agent):
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
        lab.start()
        until(lambda: lab.names() == [name], "the one that can be found to be back")
        assert ipc_probe(lab)
    # Now the path leads nowhere.
    until(lambda: re.search(r"event=restore.failed netns=slow .*nothing leads to", lab.log("nsgate-broker")),
          "the other to be given up", 70)
    assert len(os.listdir(f"{lab.runtime}/attached")) == 2  # a record and counters, of one


def test_name_that_is_looked_for_is_given_to_nobody_else(own_lab):
    """Both daemons died: what had the name comes back first, and else is not judged ever again."""
    lab = own_lab
    lab.start()
    slow, other = lab.netns(), lab.netns()
    with hanging(lab) as hung:
        answers = []
        ask(lab, "slow", slow, f"path:{hung}/x", answers)
        for process in (lab.broker, lab.agent):
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
        lab.start_broker(wait=False)
        lab.start_agent(wait=False)
        until(lambda: lab.log("nsgate-broker").count("event=agent.connected") == 2, "the agent")
        ask(lab, "slow", other, f"path:{other.path}", answers)
    assert [status for status, _ in answers] == [0, ipc.BUSY], answers
