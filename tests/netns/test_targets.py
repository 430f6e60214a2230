# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that can be attached, judged by real packets each time, and let go of."""
import contextlib
import itertools
import os
import re
import signal
import socket
import struct
import subprocess

import pytest

import ipc
from lab import Arrivals, end, inside, program, run, stopped, until

ATTACH_REPLACE = 4  # enum nsgate_attach_flag
PID_MAX = 4194304  # no process has it: proc(5), pid_max
ADMIN = 4321  # a uid that the broker of the shared lab was told of
LO_POLICY = {"default": "drop", "rules": [{"name": "ok", "action": "accept", "dport": [7]}]}


def judge_on_loopback(lab, name, path):
    """
    Ten datagrams each to an allowed and a forbidden port over the namespace's own loopback: an
    allowed one is seen twice (out and in), a forbidden one once.
    """
    before = lab.stats(name)["packets"]
    with inside(path):
        run("ip", "link", "set", "lo", "up")
        receivers = {p: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for p in (7, 8)}
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with contextlib.ExitStack() as stack:
        for thing in (*receivers.values(), sender):
            stack.callback(thing.close)
        for port, receiver in receivers.items():
            receiver.bind(("127.0.0.1", port))
            receiver.settimeout(10)
            for _ in range(10):
                sender.sendto(b"x" * 20, ("127.0.0.1", port))
        for _ in range(10):
            receivers[7].recv(100)
        lab.expect(name, {"packets.seen": before["seen"] + 30,
                          "packets.accepted": before["accepted"] + 20,
                          "packets.dropped": before["dropped"] + 10})
        receivers[8].setblocking(False)
        with pytest.raises(BlockingIOError):
            receivers[8].recv(100)


@contextlib.contextmanager
def process(*args, **kwargs):
    """A process that has made its namespace by the time that it says so on its stdout."""
    child = subprocess.Popen([*args, "sh", "-c", "echo ready; exec sleep 600"],
                             stdout=subprocess.PIPE, text=True, **kwargs)
    try:
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        end(child)


def tables(path):
    with inside(path):
        return run("nft", "list", "tables").stdout


def attach_and_judge(lab, target, path, name="thing"):
    before = lab.fds()
    lab.put_policy("lo", **LO_POLICY)
    lab.must("attach", target, "--name", name, "--policy", "lo")
    # A path below /proc of a process may come back as that process.
    assert lab.get(f"/v1/namespaces/{name}")["target"].split(":")[0] in ("netns", "pid", "path")
    judge_on_loopback(lab, name, path)
    lab.must("detach", name)
    assert tables(path) == ""
    lab.wait_fds(before)


def test_netns_name(lab):
    netns = lab.netns()
    attach_and_judge(lab, f"netns:{netns}", netns.path)


def test_name_is_made_of_the_target(lab):
    netns = lab.netns()
    lab.put_policy("default", default="accept")
    lab.must("attach", f"netns:{netns}")
    assert lab.names() == [netns.name]
    assert lab.stats(netns.name)["policy"] == "default"


def test_path_of_a_bind_mount(lab):
    netns = lab.netns()
    attach_and_judge(lab, f"path:{netns.path}", netns.path)


def test_pid(lab):
    with process("unshare", "-n") as child:
        attach_and_judge(lab, f"pid:{child.pid}", f"/proc/{child.pid}/ns/net")


def test_path_below_proc(lab):
    with process("unshare", "-n") as child:
        path = f"/proc/{child.pid}/ns/net"
        attach_and_judge(lab, f"path:{path}", path)


def test_rootless_pid(lab):
    """A namespace whose owner is a child user namespace of an ordinary user."""
    with process("setpriv", "--reuid=4444", "--regid=4444", "--clear-groups", "unshare",
                 "-Urn") as child:
        attach_and_judge(lab, f"pid:{child.pid}", f"/proc/{child.pid}/ns/net")


def test_rootless_pid_with_files_of_its_own(lab):
    """
    As container runtimes make it: the user is known in the user namespace before there is a
    network namespace, so the files of that below /proc are the user's, not root's.
    """
    with process("setpriv", "--reuid=4444", "--regid=4444", "--clear-groups", "unshare", "-Ur",
                 "unshare", "-n") as child:
        assert os.stat(f"/proc/{child.pid}/net/netfilter/nfnetlink_queue").st_uid == 4444
        attach_and_judge(lab, f"pid:{child.pid}", f"/proc/{child.pid}/ns/net")


def test_self(lab):
    netns = lab.netns()
    lab.put_policy("lo", **LO_POLICY)
    netns.exec(program("nsgatectl"), "--runtime-dir", lab.runtime, "attach", "self", "--name",
               "me", "--policy", "lo")
    judge_on_loopback(lab, "me", netns.path)
    assert lab.stats("me")["netns"]["cookie"] == netns.identity()[0]


def test_descriptor_of_a_namespace_without_a_name(lab):
    with process("unshare", "-n") as child:
        path = f"/proc/{child.pid}/ns/net"
        fd = os.open(path, os.O_RDONLY)
        before = lab.fds()
        lab.put_policy("lo", **LO_POLICY)
        client = ipc.Client(lab)
        assert client.ask(ipc.message(ipc.ATTACH, ipc.attach_body(
            "anon", "lo", "fd", ipc.TARGET_PATH)), [fd]) == (0, "")
        client.close()
        os.close(fd)
        judge_on_loopback(lab, "anon", path)
        lab.detach("anon")
        lab.wait_fds(before)


def test_replace_moves_a_name(lab):
    a, b = lab.netns("a"), lab.netns("b")
    before = lab.fds()
    lab.put_policy("lo", **LO_POLICY)
    lab.must("attach", f"netns:{a}", "--name", "web", "--policy", "lo")
    lab.must("attach", f"netns:{b}", "--name", "web", "--policy", "lo", "--replace")
    until(lambda: lab.names() == ["web"], "the old one to be detached")
    assert lab.stats("web")["netns"]["cookie"] == b.identity()[0]
    judge_on_loopback(lab, "web", b.path)
    until(lambda: a.ruleset() == "", "the rules of the old one to go")
    lab.detach("web")
    lab.wait_fds(before)


def test_two_that_want_one_name_at_once(lab):
    """One has it in the end, and the other is told so."""
    lab.put_policy("ok", default="accept")
    namespaces = [lab.netns(), lab.netns("b")]
    clients = [ipc.Client(lab) for _ in namespaces]
    with stopped(lab.agent):
        for netns, client in zip(namespaces, clients):
            fd = os.open(netns.path, os.O_RDONLY)
            client.send(ipc.message(ipc.ATTACH, ipc.attach_body(
                "x", "ok", target=f"netns:{netns}", flags=ATTACH_REPLACE)), [fd])
            os.close(fd)
            client.send(ipc.message(ipc.PROBE))
            assert client.receive()[0] == ipc.FEATURES  # so the attach has begun
    answers = [client.receive() for client in clients]
    assert sorted(struct.unpack("=I", body[:4])[0] for _, body in answers) == [0, 1], answers
    until(lambda: lab.names() == ["x"], "one of them to go")
    for client in clients:
        client.close()


def test_attached_namespace_is_shown_whole_at_once(lab):
    """What is in force when the broker answers is what the agent says from then on."""
    netns = lab.netns()
    lab.put_policy("lo", **LO_POLICY)
    fd = os.open(netns.path, os.O_RDONLY)
    try:
        for _ in range(30):
            client = ipc.Client(lab)
            assert client.ask(ipc.message(ipc.ATTACH, ipc.attach_body("x", "lo")), [fd])[0] == 0
            shown = lab.get("/v1/namespaces/x")
            client.close()
            assert (shown["state"], shown["hooks"]) == ("attached", ["in", "out"])
            lab.detach("x")
    finally:
        os.close(fd)


def test_attach_again_after_detach_starts_at_zero(lab):
    netns = lab.netns()
    for _ in range(3):
        attach_and_judge(lab, f"netns:{netns}", netns.path)


# ---- handoff ----


HANDOFFS = itertools.count()


@contextlib.contextmanager
def handoff(lab, *prefix, name="inner", expect_attached=True, **kwargs):
    log = f"{lab.dir}/handoff-{next(HANDOFFS)}.log"
    with open(log, "wb") as file:
        child = subprocess.Popen([*map(str, prefix), program("nsgate-handoff"), "--runtime-dir",
                                  lab.runtime, "--name", name, "--policy", "lo"],
                                 stderr=file, **kwargs)

    def heard():
        with open(log, encoding="utf-8") as file:
            return file.read()
    try:
        until(lambda: "handoff.attached" in heard() or child.poll() is not None,
              lambda: f"the handoff to be attached; it says {heard()}")
        assert child.poll() is None or not expect_attached, heard()
        child.heard = heard
        yield child
    finally:
        end(child)


ONLY_NET_ADMIN = ("setpriv", "--bounding-set", "-all,+net_admin", "--inh-caps", "-all")


def handoff_in(netns):
    return ("nsenter", "--net=" + netns.path, *ONLY_NET_ADMIN)


def judge_handoff(lab, child, path):
    judge_on_loopback(lab, "inner", path)
    with open(f"/proc/{child.pid}/status", encoding="ascii") as file:
        assert re.search(r"CapEff:\s*0+$", file.read(), re.M)


def test_handoff_with_net_admin_alone(lab):
    netns = lab.netns()
    before = lab.fds()
    lab.put_policy("lo", **LO_POLICY)
    with handoff(lab, *handoff_in(netns)) as child:
        judge_handoff(lab, child, netns.path)
        assert end(child, signal.SIGTERM) == 0
    until(lambda: lab.names() == [], "the end of the handoff to detach")
    assert netns.ruleset() == ""
    lab.wait_fds(before)


def test_handoff_that_is_killed_detaches(lab):
    netns = lab.netns()
    before = lab.fds()
    lab.put_policy("lo", **LO_POLICY)
    with handoff(lab, *handoff_in(netns)):
        pass
    until(lambda: lab.names() == [], "the end of the handoff to detach")
    lab.wait_fds(before)
    assert netns.ruleset() == ""


def test_handoff_ends_when_it_is_detached(lab):
    netns = lab.netns()
    before = lab.fds()
    lab.put_policy("lo", **LO_POLICY)
    with handoff(lab, *handoff_in(netns)) as child:
        lab.detach("inner")
        assert child.wait(10) == 0
    assert netns.ruleset() == ""
    lab.wait_fds(before)


def test_handoff_from_a_child_user_namespace(lab):
    """By an ordinary user whom the broker was told of, with rights in there alone."""
    before = lab.fds()
    lab.put_policy("lo", **LO_POLICY)
    with handoff(lab, "setpriv", f"--reuid={ADMIN}", f"--regid={ADMIN}", "--clear-groups",
                 "unshare", "-Urn") as child:
        judge_handoff(lab, child, f"/proc/{child.pid}/ns/net")
    until(lambda: lab.names() == [], "the end of the handoff to detach")
    lab.wait_fds(before)


def test_handoff_by_a_stranger_is_refused(lab):
    lab.put_policy("lo", **LO_POLICY)
    with handoff(lab, "setpriv", "--reuid=4444", "--regid=4444", "--clear-groups", "unshare",
                 "-Urn", expect_attached=False) as child:
        assert child.wait(10) == 5
        assert re.fullmatch("nsgate-handoff: uid 4444 .*--admin 4444",
                            child.heard().splitlines()[-1])
    assert lab.names() == []


def test_handoff_without_the_capability_says_so(lab):
    with handoff(lab, "setpriv", "--bounding-set", "-net_admin", expect_attached=False) as child:
        assert child.wait(10) == 5
        assert "CAP_NET_ADMIN" in child.heard()


def test_handoff_outlives_the_broker(own_lab):
    own_lab.start()
    netns = own_lab.netns()
    own_lab.put_policy("lo", **LO_POLICY)
    with handoff(own_lab, *handoff_in(netns)) as child:
        judge_on_loopback(own_lab, "inner", netns.path)
        end(own_lab.broker)
        own_lab.start_broker()
        own_lab.wait_ready()
        until(lambda: "handoff.resumed" in own_lab.log("nsgate-broker"), "the handoff to resume")
        judge_on_loopback(own_lab, "inner", netns.path)
        assert end(child, signal.SIGTERM) == 0
    until(lambda: own_lab.names() == [], "the end of the handoff to detach")
    assert netns.ruleset() == ""


def test_broker_that_may_enter_nothing_says_so(own_lab):
    done = run("setpriv", "--bounding-set", "-sys_admin,-sys_ptrace", program("nsgate-broker"),
               "--runtime-dir", own_lab.runtime, check=False)
    assert done.returncode == 5
    assert "CAP_SYS_ADMIN" in done.stderr and len(done.stderr.splitlines()) == 1


# ---- letting go ----


def test_detach_all(lab):
    pair = lab.pair()
    for netns in pair:
        lab.attach(netns, default="accept")
    done = lab.must("detach", "--all")
    assert sorted(done.stdout.splitlines()) == sorted(f"detached {n}" for n in pair)
    assert lab.names() == []
    assert lab.must("detach", "--all").stdout == ""
    for arguments in (["--all", "x"], []):
        done = lab.ctl("detach", *arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_detach_leaves_nothing(lab):
    netns, outside = lab.pair()
    before = lab.fds()
    name = lab.attach(netns, default="accept", offload=True)
    arrived = Arrivals(netns, 7)
    outside.send("10.77.0.1", 7, 100)
    arrived.wait(100)
    until(lambda: (p := lab.stats(name)["packets"])["seen"] + p["offloaded"] == 100,
          lambda: f"every packet to be counted: {lab.stats(name)['packets']}")
    lab.detach(name)
    assert lab.names() == [] == list(lab.stats_sock()["namespaces"])
    assert netns.ruleset() == ""
    assert netns.exec("cat", "/proc/net/netfilter/nfnetlink_queue").stdout == ""
    lab.wait_fds(before)
    netns.delete()
    until(lambda: outside.ip("link", "show", "eth0", check=False).returncode != 0,
          "the namespace, and with it the peer of its link, to go", 5)


def gone_within_a_second(lab, outside, before):
    until(lambda: lab.names() == [], "the namespace to be released", 1.0)
    lab.wait_fds(before)
    until(lambda: outside.ip("link", "show", "eth0", check=False).returncode != 0,
          "the namespace, and with it the peer of its link, to go", 5)


@pytest.mark.parametrize("kind", ["netns", "path"])
def test_deletion_of_the_namespace_is_noticed(lab, kind):
    netns, outside = lab.pair()
    lab.put_policy("ok", default="accept")
    before = lab.fds()
    target = f"netns:{netns}" if kind == "netns" else f"path:{netns.path}"
    lab.must("attach", target, "--name", "x", "--policy", "ok")
    netns.delete()
    gone_within_a_second(lab, outside, before)


def watches(pid):
    """The directories that a process watches."""
    found = 0
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as f:
            found += f.read().count("inotify wd:")
    return found


def bind_name(netns, name):
    os.close(os.open(name, os.O_CREAT))
    run("mount", "--bind", netns.path, name)


def unbind_name(name, **kwargs):
    """As `ip netns del` does it, who may look at it as we do: the broker, right after an attach."""
    run("umount", "--lazy", name, **kwargs)
    os.unlink(name)


@contextlib.contextmanager
def name_in(place, netns):
    """A name of a namespace, in a directory that is made where need be."""
    os.makedirs(place, exist_ok=True)
    name = f"{place}/{netns}"
    bind_name(netns, name)
    try:
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            unbind_name(name, check=False)


def test_directory_is_watched_as_long_as_a_name_in_it_counts(lab):
    place = f"{lab.dir}/names"
    a, b = lab.netns("a"), lab.netns("b")
    lab.put_policy("ok", default="accept")
    before = watches(lab.broker.pid)
    with name_in(place, a) as first, name_in(place, b) as second:
        for name, path in (("a", first), ("b", second)):
            lab.must("attach", f"path:{path}", "--name", name, "--policy", "ok")
            until(lambda: watches(lab.broker.pid) == before + 1, "one watch")
        lab.detach("a")
        assert watches(lab.broker.pid) == before + 1
        unbind_name(second)
        until(lambda: lab.names() == [], "the namespace to be released")
        until(lambda: watches(lab.broker.pid) == before, "nobody to watch the directory")
    lab.must("attach", f"path:{a.path}", "--policy", "ok")  # where `ip netns` keeps names
    lab.must("detach", "--all")
    assert watches(lab.broker.pid) == before
    os.rmdir(place)


def test_deletion_in_a_crowd_is_noticed(lab):
    """More names go than the kernel keeps news of."""
    netns, outside = lab.pair()
    lab.put_policy("ok", default="accept")
    place = f"{lab.dir}/names"
    os.mkdir(place)
    bind_name(netns, f"{place}/x")
    netns.delete()
    before, watched = lab.fds(), watches(lab.broker.pid)
    lab.must("attach", f"path:{place}/x", "--policy", "ok")
    until(lambda: watches(lab.broker.pid) == watched + 1, "the directory to be watched")
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
        news = int(file.read())
    with stopped(lab.broker):
        for number in range(news + 1):
            os.close(os.open(f"{place}/{number}", os.O_CREAT))
            os.unlink(f"{place}/{number}")
        unbind_name(f"{place}/x")
    until(lambda: lab.names() == [], "the namespace to be released")
    lab.wait_fds(before)
    until(lambda: outside.ip("link", "show", "eth0", check=False).returncode != 0,
          "the namespace, and with it the peer of its link, to go", 5)
    os.rmdir(place)


def test_end_of_the_process_is_noticed(lab):
    outside = lab.netns("outside")
    lab.put_policy("ok", default="accept")
    with process("unshare", "-n") as child:
        run("ip", "link", "add", "eth0", "netns", outside, "type", "veth", "peer", "name", "eth0",
            "netns", child.pid)
        before = lab.fds()
        lab.must("attach", f"pid:{child.pid}", "--name", "x", "--policy", "ok")
        end(child)
        gone_within_a_second(lab, outside, before)


def test_pid_that_means_nothing_outside_its_pid_namespace(own_lab):
    """Whoever attaches from inside one types numbers that lead nowhere from the broker's place."""
    lab = own_lab.start()
    lab.put_policy("lo", **LO_POLICY)
    with process("unshare", "-n") as child:
        pidfd = os.pidfd_open(child.pid)
        client = ipc.Client(lab)
        assert client.ask(ipc.message(ipc.ATTACH, ipc.attach_body(
            "x", "lo", kind=ipc.TARGET_PID, target=f"pid:{PID_MAX}")), [pidfd]) == (0, "")
        os.close(pidfd)
        client.close()
        end(lab.agent)
        lab.start_agent()
        lab.wait_ready()
        judge_on_loopback(lab, "x", f"/proc/{child.pid}/ns/net")
        end(child)
        until(lambda: lab.names() == [], "its end to be noticed")


@pytest.mark.parametrize("kind", ["nothing", "file", "other"])
def test_name_of_another_mount_namespace(own_lab, kind):
    """From where the broker is it leads to nothing, to a file, or to another namespace."""
    lab = own_lab.start()
    netns, other = lab.netns(), lab.netns("other")
    lab.put_policy("lo", **LO_POLICY)
    place = f"{lab.dir}/place"
    path = f"{place}/x"
    os.mkdir(place)
    hidden = "mount -t tmpfs none \"$1\"; touch \"$1/x\"; " if kind == "nothing" else ""
    with contextlib.ExitStack() as stack:
        if kind == "file":
            os.close(os.open(path, os.O_CREAT))
            stack.callback(os.unlink, path)
        elif kind == "other":
            stack.enter_context(name_in(place, other))
            path = f"{place}/{other}"
        done = run("unshare", "-m", "sh", "-ec",
                   hidden + "mount --bind \"$2\" \"$3\"; shift 3; exec \"$@\"", "sh", place,
                   netns.path, path, program("nsgatectl"), "--runtime-dir", lab.runtime, "attach",
                   f"path:{path}", "--name", "x", "--policy", "lo", check=False)
        assert done.returncode == 0, done.stderr
        assert "event=name.unseen netns=x" in lab.log("nsgate-broker")
        for daemon, start in (("agent", lab.start_agent), ("broker", lab.start_broker)):
            end(getattr(lab, daemon))
            start()
            lab.wait_ready()
            judge_on_loopback(lab, "x", netns.path)
    judge_on_loopback(lab, "x", netns.path)
    assert "orphaned" not in lab.log("nsgate-broker")
    lab.detach("x")
    assert netns.ruleset() == ""


def test_two_hundred_at_once(lab):
    count = 200
    hub, inner = lab.star(count)
    before = lab.fds()
    lab.put_policy("seven", rules=[{"name": "ok", "action": "accept", "dport": [7]}])
    lab.put_policy("eight", rules=[{"name": "ok", "action": "accept", "dport": [8]}])
    for number, netns in enumerate(inner):
        lab.must("attach", f"netns:{netns}", "--name", f"n{number}", "--policy",
                 "eight" if number % 2 else "seven", "--label", f"number={number}")
    assert len(lab.names()) == count

    receivers = {}
    for number, netns in enumerate(inner):
        for port in (7, 8):
            receivers[number, port] = netns.udp(socket.AF_INET, bind=("", port))
    senders = hub.udp(), hub.udp(socket.AF_INET6)
    sent = [5 + number % 7 for number in range(count)]
    for number in range(count):
        for _ in range(sent[number]):
            for port in (7, 8):
                senders[0].sendto(b"x" * 20, (f"10.77.{number}.2", port))
            senders[1].sendto(b"x" * 20, (f"fd77:{number:x}::2", 9))

    def complete():
        stats = lab.stats_sock()["namespaces"]
        counts = [(stats[f"n{n}"]["packets"]["seen"], stats[f"n{n}"]["queue"]["pending"])
                  for n in range(count)]
        return counts == [(3 * s, 0) for s in sent] and stats
    stats = until(complete, "every packet to be seen")
    for number in range(count):
        one = stats[f"n{number}"]
        assert one["packets"]["accepted"] == sent[number] == one["rules"][0]["packets"]
        assert one["packets"]["dropped"] == 2 * sent[number] == one["default"]["packets"]
        assert one["labels"] == {"number": str(number)}
        for port in (7, 8):
            receiver = receivers[number, port]
            receiver.settimeout(5)
            for _ in range(sent[number] if port == 7 + number % 2 else 0):
                receiver.recv(100)
            receiver.setblocking(False)
            with pytest.raises(BlockingIOError):
                receiver.recv(100)
    # One policy changed, a hundred namespaces follow before the answer.
    lab.put_policy("seven", default="accept")
    listed = lab.get("/v1/stats")["namespaces"]
    assert all(listed[f"n{n}"]["rules"] == [] for n in range(0, count, 2))
    for number in range(count):
        lab.must("detach", f"n{number}")
    assert lab.names() == []
    assert all(n.ruleset() == "" for n in inner[::20])
    lab.wait_fds(before)
