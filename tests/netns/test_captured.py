# SPDX-License-Identifier: GPL-2.0-or-later
"""
What an agent that was taken over can do: it tries, from inside the confined process. Each test is
an attack that worked once.
"""
import array
import contextlib
import ctypes
import errno
import os
import resource
import signal
import socket
import struct
import subprocess
import threading
import time

import ipc
import pytest
from captured import FORGE_FD, FORGE_HOOKS, KEEP, KEPT, LIBRARY, NUMBERS, SAY_AGAIN, Captured
from lab import (Arrivals, OLDER, UnixHTTP, connect_stream, end, fd_count, run,
                 until)

SO_ATTACH_FILTER, SO_LOCK_FILTER, SO_PASSRIGHTS = 26, 44, 83
F_SETLEASE, F_SETOWN, F_SETSIG, F_DUPFD = 1024, 8, 10, 0
F_GETFL = 3
PROT_READ, PROT_WRITE, PROT_EXEC, MAP_SHARED = 1, 2, 4, 1
O_WRONLY_CREAT = os.O_WRONLY | os.O_CREAT
RLIMIT_FSIZE = resource.RLIMIT_FSIZE
MIB = 1 << 20
REFUSED = -errno.EPERM


@pytest.fixture
def captured(own_lab):
    if not NUMBERS or not os.path.exists(LIBRARY):
        pytest.skip(f"{LIBRARY} is not built, or not for this machine")
    own_lab.captured = Captured(own_lab)
    yield own_lab.captured
    own_lab.captured.close_page()


@pytest.fixture
def attached(captured):
    lab = captured.lab.start()
    inner, lab.outside = lab.pair("web")
    lab.attach(inner, default="accept")
    lab.inner = inner
    return captured


def queue_of(captured):
    """Its socket for packets is the netlink socket that is no other."""
    lab = captured.lab
    numbers = set()
    with lab.inner.inside(), open("/proc/thread-self/net/netlink", encoding="ascii") as file:
        for line in list(file)[1:]:
            numbers.add(line.split()[-1])
    found = [fd for fd in captured.fds("socket:")
             if os.readlink(f"/proc/{lab.agent.pid}/fd/{fd}")[8:-1] in numbers]
    assert len(found) == 2  # that for counters, too
    return found


# ---- options and commands ----


def test_no_option_of_a_socket_can_be_set(attached):
    """Nor the filter that would outlive it on a socket which its successors share."""
    code = attached.buffer(struct.pack("=HBBI", 6, 0, 0, 0))  # BPF_RET | BPF_K: nothing passes
    program = attached.buffer(struct.pack("=HxxxxxxQ", 1, code))
    one = attached.buffer(struct.pack("=i", 1))
    for fd in queue_of(attached):
        assert attached.setsockopt(fd, socket.SOL_SOCKET, SO_ATTACH_FILTER, program, 16) == REFUSED
        assert attached.setsockopt(fd, socket.SOL_SOCKET, SO_LOCK_FILTER, one, 4) == REFUSED
    lab = attached.lab
    arrived = Arrivals(lab.inner, 7)
    lab.outside.send("10.77.0.1", 7, 10)
    arrived.wait(10)


def test_foreign_descriptors_do_not_arrive(attached):
    """A socket of the host's namespace, from an accomplice who may connect to the API."""
    lab = attached.lab
    if not can_refuse_rights():
        pytest.skip("this kernel cannot refuse them")
    one = attached.buffer(struct.pack("=i", 1))
    before = set(attached.fds("socket:"))
    client = connect_stream(f"{lab.runtime}/api.sock")
    client.sendall(b"GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.recv(16)
    (connection,) = set(attached.fds("socket:")) - before
    assert attached.setsockopt(connection, socket.SOL_SOCKET, SO_PASSRIGHTS, one, 4) == REFUSED
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as accomplice:
        with contextlib.suppress(PermissionError):
            client.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                     array.array("i", [accomplice.fileno()]))])
        message, room = attached.message(bytes(64), control=64)
        attached.recvmsg(connection, message, socket.MSG_DONTWAIT)
    assert struct.unpack("=Q", attached.bytes_at(room, 8))[0] == 0  # no control message
    assert set(attached.fds("socket:")) - before == {connection}
    client.close()


def can_refuse_rights():
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
        except OSError:
            return False
    return True


@pytest.fixture
def older(captured):
    """nsgate-front stands before it."""
    lab = captured.lab
    lab.through["nsgate-agent"] = OLDER
    lab.start()
    lab.inner = lab.pair("web")[0]
    lab.attach(lab.inner, default="accept")
    return captured


def front_of(pid):
    return int(run("pgrep", "-P", str(pid), "-x", "nsgate-front").stdout)


def send_fd(client, fd, data=b"x", flags=0):
    client.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))], flags)


def cut_off(client):
    """Has it been ended, whatever it was sent before?"""
    with contextlib.suppress(ConnectionError):
        while client.recv(65536):
            pass
    return True


EVENTS = b"GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n"
WAYS = {  # (what is sent before, what comes with the descriptor, flags)
    "at once": (b"", EVENTS, 0),
    "amid a request": (EVENTS[:20], EVENTS[20:], 0),
    "later": (EVENTS, b"x", 0),
    "out of band": (b"", b"x", socket.MSG_OOB),
    "out of band later": (EVENTS, b"x", socket.MSG_OOB),
}
# stats.sock sends what it has and closes.
PATHS = [("api.sock", way) for way in WAYS] + [("stats.sock", way) for way in ("at once", "out of band")]


@pytest.mark.parametrize("path, way", PATHS)
def test_foreign_descriptors_do_not_get_past_the_front(older, path, way):
    lab = older.lab
    first, data, flags = WAYS[way]
    client = connect_stream(f"{lab.runtime}/{path}")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as accomplice:
        foreign = f"socket:[{os.fstat(accomplice.fileno()).st_ino}]"
        with contextlib.suppress(BrokenPipeError):  # it has all of the statistics
            client.sendall(first)
            if path == "api.sock" and first == EVENTS:
                assert client.recv(16)
            send_fd(client, accomplice.fileno(), data, flags)
        for fd in older.fds("socket:"):
            message, room = older.message(bytes(64), control=64)
            older.recvmsg(fd, message, socket.MSG_DONTWAIT)
            assert struct.unpack("=Q", older.bytes_at(room, 8))[0] == 0  # no control message
        assert cut_off(client)
        assert foreign not in held(lab.agent.pid) | held(front_of(lab.agent.pid))
    if path == "api.sock":
        assert "event=api.descriptors uid=0" in lab.log("nsgate-agent")
    assert lab.names() == [lab.inner.name]


def held(pid):
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def test_behind_the_front_it_has_no_socket_of_strangers(older):
    """Neither those that listen nor those that clients are connected to."""
    lab = older.lab
    client = UnixHTTP(f"{lab.runtime}/api.sock")
    client.request("GET", "/healthz")
    assert client.getresponse().status == 200
    strangers = set()
    for pid in ("self", lab.agent.pid):  # connected in our namespace, listening in the agent's
        with open(f"/proc/{pid}/net/unix", encoding="ascii") as file:
            strangers |= {f"socket:[{line.split()[6]}]" for line in file if line.rstrip().endswith(
                (f"{lab.runtime}/api.sock", f"{lab.runtime}/stats.sock"))}
    assert len(strangers & held(front_of(lab.agent.pid))) == 3
    assert not strangers & held(lab.agent.pid)
    client.close()


def test_commands_of_descriptors_are_few(attached):
    """No lease that holds up who edits a policy, no signal to an owner, no copy, no new mode."""
    directory = attached.fds(attached.lab.policies)[0]
    path = attached.buffer(b"lease\0")
    fd = attached.openat(directory, path, os.O_RDWR | os.O_CREAT, 0o600)
    assert fd >= 0
    assert attached.fcntl(fd, F_GETFL, 0) >= 0
    for command in (F_SETLEASE, F_SETOWN, F_SETSIG, F_DUPFD):
        assert attached.fcntl(fd, command, 1) == REFUSED
    assert attached.dup(fd) == REFUSED
    assert attached.fchmod(fd, 0o777) == REFUSED
    assert attached.close(fd) == 0


def test_nothing_becomes_code(attached):
    page = attached.mmap(0, 4096, PROT_READ | PROT_WRITE, 0x22, -1, 0)
    assert page > 0
    assert attached.mprotect(page, 4096, PROT_READ | PROT_EXEC) == REFUSED
    assert attached.mmap(0, 4096, PROT_READ | PROT_EXEC, 0x22, -1, 0) == REFUSED


def test_no_other_process_of_its_user_is_signalled(attached):
    lab = attached.lab
    with subprocess.Popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sleep",
                           "30"]) as other:
        try:
            until(lambda: os.stat(f"/proc/{other.pid}").st_uid == 65534, "the other to be nobody")
            assert attached.tgkill(other.pid, other.pid, signal.SIGKILL) == REFUSED
            assert attached.tgkill(lab.agent.pid, lab.agent.pid, 0) == 0
            assert other.poll() is None
        finally:
            other.kill()


def test_it_can_notify_and_reach_no_other_socket(captured):
    """A datagram socket sends to whatever name it is given."""
    lab = captured.lab
    heard = {}
    for name in (f"\0nsgate-test-{os.getpid()}", f"{lab.dir}/journal", f"{lab.dir}/notify"):
        heard[name] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        heard[name].bind(name)
        heard[name].setblocking(False)
        if name[0] != "\0":
            os.chmod(name, 0o777)
    notify = heard.pop(f"{lab.dir}/notify")
    lab.environments["nsgate-agent"]["NOTIFY_SOCKET"] = f"{lab.dir}/notify"
    lab.start()
    said = notify.recv(256)
    assert b"READY=1" in said or b"STATUS" in said
    text = captured.buffer(b"reached")
    for name in heard:
        address = struct.pack("=H", socket.AF_UNIX) + name.encode() + b"\0" * (name[0] != "\0")
        for fd in captured.fds("socket:"):
            captured.sendto(fd, text, 7, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
                            captured.buffer(address), len(address))
    for listener in heard.values():
        with pytest.raises(BlockingIOError):
            listener.recv(256)
        listener.close()
    notify.close()


# ---- files ----


@pytest.fixture
def logs_to_pipe(captured):
    """A log that is a file sets no limit: here it goes to a pipe."""
    lab = captured.lab
    lab.through["nsgate-agent"] = ("sh", "-c", '"$@" 2>&1 | cat', "sh")
    lab.start_broker(wait=False)
    lab.start_agent(wait=False)
    lab.wait_agent()
    lab.wait_ready()
    shell = lab.agent
    lab.agent = Pid(int(run("pgrep", "-P", str(shell.pid), "nsgate-agent").stdout))
    yield captured
    os.kill(lab.agent.pid, signal.SIGKILL)
    lab.agent = shell


def test_no_file_grows(logs_to_pipe):
    """The counters' least of all: their file system is the one that the daemons need."""
    captured, lab = logs_to_pipe, logs_to_pipe.lab
    inner = lab.netns("web")
    lab.attach(inner, default="accept")
    (counters,) = captured.fds(f"{lab.runtime}/attached/")
    file = f"/proc/{lab.agent.pid}/fd/{counters}"
    data = captured.buffer(b"filled")
    size = os.stat(file).st_size
    for offset in (2 * MIB, 64 * MIB):
        assert captured.pwrite64(counters, data, 6, offset) == -errno.EFBIG
    assert os.stat(file).st_size == size
    more = captured.buffer(struct.pack("=QQ", MIB << 20, MIB << 20))
    assert captured.prlimit64(0, RLIMIT_FSIZE, more, 0) == REFUSED
    lab.put_policy("large", default="accept", rules=[
        {"name": f"{number}-" + "x" * 50, "action": "accept"} for number in range(4000)])


class Pid:
    def __init__(self, pid):
        self.pid = pid


def queue_socket(pid, netns):
    """A copy of its socket for the packets of that namespace."""
    with netns.inside():
        with open("/proc/thread-self/net/netfilter/nfnetlink_queue", encoding="ascii") as file:
            port = file.readline().split()[1]
        with open("/proc/thread-self/net/netlink", encoding="ascii") as file:
            (number,) = [line.split()[-1] for line in file if line.split()[1:3] == ["12", port]]
    pidfd = os.pidfd_open(pid)
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{number}]":
                copy = ctypes.CDLL(None).syscall(438, pidfd, int(fd), 0)  # pidfd_getfd
                return socket.socket(fileno=copy)
        raise AssertionError("the queue's socket is not there")
    finally:
        os.close(pidfd)


def test_successor_says_that_nothing_comes(own_lab):
    """What an agent of an earlier release could do: no packet passes its filter, and it is locked."""
    lab = own_lab.start()
    inner, outside = lab.pair("web")
    lab.attach(inner, default="accept", name="web")
    end(lab.agent)
    code = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))  # nothing passes
    program = struct.pack("=HxxxxxxQ", 1, ctypes.addressof(code))
    with queue_socket(lab.broker.pid, inner) as shared:
        shared.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        shared.setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)
    lab.start_agent()
    lab.wait_ready()
    until(lambda: lab.stats("web")["state"] == "attached", "the next agent to serve it")
    outside.send("10.77.0.1", 7, 10)
    until(lambda: lab.stats("web")["state"] == "degraded", "the agent to notice", timeout=20)
    assert "none reaches nsgate-agent" in lab.stats("web")["reason"]
    assert "none reaches nsgate-agent" in lab.log("nsgate-agent")
    lab.must("detach", "web")
    lab.attach(inner, default="accept", name="web")
    arrived = Arrivals(inner, 7)
    outside.send("10.77.0.1", 7, 10)
    arrived.wait(10)
    assert lab.stats("web")["state"] == "attached"


# ---- what strangers send ----


@pytest.fixture(params=["now", "before 6.16"])
def kernel(request, own_lab):
    if request.param != "now":
        own_lab.through["nsgate-broker"] = OLDER
    return request.param


def lingering(lab):
    """A TCP socket whose close takes a minute: its peer does not read."""
    inner, outside = lab.pair("tcp")
    listener = outside.tcp_listen(99)
    made = inner.tcp_connect("10.77.0.2", 99)
    lab.peer = listener.accept()[0]
    made.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            made.send(bytes(1 << 16))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 60))
    return made


@contextlib.contextmanager
def stranger():
    os.setegid(12345)
    os.seteuid(12345)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize("messages", [1, 3])
def test_strangers_descriptors_hold_up_nobody(own_lab, kernel, messages):
    lab = own_lab.start()
    bad = lingering(lab)
    before = {fd_count(lab.broker.pid)}
    with stranger():
        client = ipc.Client(lab, greet=messages > 1)
    for _ in range(messages):
        try:
            client.send(ipc.message(ipc.PROBE), [bad.fileno()])
        except PermissionError:  # the kernel refuses them: the last one is ours
            bad.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 0, 0))
    # The last one of ours is closed by a thread, as it may be the last of all by now.
    threading.Thread(target=bad.close, daemon=True).start()
    client.close()
    started = time.monotonic()
    ipc.Client(lab).close()
    assert time.monotonic() - started < 10
    until(lambda: fd_count(lab.broker.pid) in before, "the broker to have closed it")
    if kernel != "now":
        assert "descriptors from one who may change nothing" in lab.log("nsgate-broker")
    lab.peer.close()


@pytest.mark.parametrize("path, way", PATHS)
def test_traps_hold_up_neither_the_front_nor_the_agent(own_lab, path, way):
    """All who had a copy are gone when nsgate-front comes to look."""
    lab = own_lab
    lab.through["nsgate-agent"] = OLDER
    lab.start()
    bad = lingering(lab)
    front = front_of(lab.agent.pid)
    first, data, flags = WAYS[way]
    clients = [connect_stream(f"{lab.runtime}/{path}") for _ in range(30 if first else 0)]
    for client in clients:
        client.sendall(first)
        assert first != EVENTS or client.recv(16)
    os.kill(front, signal.SIGSTOP)
    try:
        clients += [connect_stream(f"{lab.runtime}/{path}") for _ in range(0 if first else 100)]
        for client in clients:
            send_fd(client, bad.fileno(), data, flags)
            client.close()
        bad.close()
    finally:
        os.kill(front, signal.SIGCONT)
    started = time.monotonic()
    assert lab.get("/healthz")["status"] == "ok"
    lab.stats_sock()
    assert time.monotonic() - started < 5
    until(lambda: len(os.listdir(f"/proc/{front}/fd")) <= 8, "the front to have closed all")
    assert "event=api.descriptors" in lab.log("nsgate-agent")
    lab.peer.close()


def test_trap_behind_the_last_word(own_lab):
    """It comes when nobody reads any more: the agent has closed, and its answer is not all taken."""
    lab = own_lab
    lab.through["nsgate-agent"] = OLDER
    lab.start()
    bad = lingering(lab)
    lab.put_policy("large", default="accept", rules=[
        {"name": f"{number}-" + "x" * 50, "action": "accept"} for number in range(3500)])
    front = front_of(lab.agent.pid)
    before = len(held(lab.agent.pid))
    client = connect_stream(f"{lab.runtime}/api.sock")
    client.sendall(b"GET /v1/policies/large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    until(lambda: len(client.recv(1 << 20, socket.MSG_PEEK)) > 100000, "half of the answer")
    until(lambda: len(held(lab.agent.pid)) == before, "the agent to have closed")
    client.sendall(b"x")
    send_fd(client, bad.fileno())
    os.kill(front, signal.SIGSTOP)
    try:
        client.close()
        bad.close()
    finally:
        os.kill(front, signal.SIGCONT)
    started = time.monotonic()
    assert lab.get("/healthz")["status"] == "ok"
    assert time.monotonic() - started < 5
    until(lambda: "event=api.descriptors" in lab.log("nsgate-agent"), "it to be noticed")
    lab.peer.close()


def test_admins_hand_in_descriptors_still(own_lab, kernel):
    lab = own_lab.start()
    inner = lab.netns("web")
    lab.attach(inner, default="accept")
    assert lab.names() == [inner.name]
    refused = lab.ctl("attach", f"netns:{inner}", uid=65534, gid=65534)
    assert refused.returncode == 5 and "uid 65534 may not change anything" in refused.stderr
    assert kernel


# ---- what it says to a new broker ----


def next_broker(lab):
    end(lab.broker)
    lab.start_broker()
    lab.wait_ready()


def test_no_detached_namespace_comes_back(attached):
    """It kept the sockets, and says to a new broker that it judges there, in five hooks."""
    lab = attached.lab
    attached.set(KEEP, 1)
    next_broker(lab)
    assert attached.word(KEPT) >= 4
    lab.detach(lab.inner.name)
    assert lab.inner.ruleset() == ""
    attached.set(SAY_AGAIN, 1)
    attached.set(FORGE_HOOKS, 31)
    next_broker(lab)
    until(lambda: "event=adopt.unknown" in lab.log("nsgate-broker"), "the broker to notice")
    assert lab.inner.ruleset() == ""
    assert lab.names() == []
    assert os.listdir(f"{lab.runtime}/attached") == []


def test_rules_are_those_on_record(attached):
    lab = attached.lab
    before = lab.inner.ruleset()
    assert "judge_in" in before and "judge_pre" not in before
    attached.set(FORGE_HOOKS, 31)
    next_broker(lab)
    assert f"adopted netns={lab.inner.name}" in lab.log("nsgate-broker")
    assert lab.inner.ruleset() == before


def test_end_of_a_container_is_not_made_up(attached):
    """A descriptor that is readable, in place of the pidfd: the rules would stay for good."""
    lab = attached.lab
    inner = lab.netns("pid")
    first = inner.popen("sleep", "60")
    until(lambda: os.stat(f"/proc/{first.pid}/ns/net").st_ino == os.stat(inner.path).st_ino,
          "the process to be in there")
    lab.must("attach", f"pid:{first.pid}", "--name", "pid", "--policy",
             lab.policy(default="accept"))
    event = attached.eventfd2(1, 0)
    assert event >= 0
    attached.set(FORGE_FD, event)
    next_broker(lab)
    assert "adopt.failed netns=pid" in lab.log("nsgate-broker")
    assert "orphaned netns=pid" not in lab.log("nsgate-broker")
    attached.set(FORGE_FD, 0)
    until(lambda: "adopted netns=pid" in lab.log("nsgate-broker"), "it to be adopted after all")
    end(first)
    until(lambda: "pid" not in lab.names(), "the true end to be noticed")


def test_pidfd_of_another_is_not_taken(attached):
    """One that has ended, of an attachment before."""
    lab = attached.lab
    inner, other = lab.netns("pid"), lab.netns("other")
    first, second = inner.popen("sleep", "60"), other.popen("sleep", "60")
    for process, netns in ((first, inner), (second, other)):
        until(lambda p=process, n=netns: os.stat(f"/proc/{p.pid}/ns/net").st_ino ==
              os.stat(n.path).st_ino, "the process to be in there")
    policy = lab.policy(default="accept")
    lab.must("attach", f"pid:{first.pid}", "--name", "pid", "--policy", policy)
    before = set(attached.fds("anon_inode:[pidfd]", "pidfd:"))
    lab.must("attach", f"pid:{second.pid}", "--name", "other", "--policy", policy)
    (pidfd,) = set(attached.fds("anon_inode:[pidfd]", "pidfd:")) - before
    attached.set(FORGE_FD, pidfd)
    end(lab.broker)
    end(second)
    lab.start_broker()
    lab.wait_ready()
    until(lambda: "other" not in lab.names(), "the one whose process has ended to be let go of")
    assert "orphaned netns=pid" not in lab.log("nsgate-broker")
    assert "pid" in lab.names()
    end(first)
    until(lambda: "pid" not in lab.names(), "the true end to be noticed")
