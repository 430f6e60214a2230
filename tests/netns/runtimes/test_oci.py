# SPDX-License-Identifier: GPL-2.0-or-later
"""The OCI hook in containers of runc and crun: judged from the first packet, let go of at the end."""
import json
import os
import signal
import socket
import subprocess
import threading

import pytest

from containers import send
from lab import Arrivals, inside, program, run, until

POLICY = {"default": {"in": "accept", "out": "drop"},
          "rules": [{"name": "ok", "action": "accept", "direction": "out", "protocol": "udp",
                     "dport": [7]}]}
WEB = {"io.nsgate.policy": "web"}
RUNTIMES = ["runc", "crun"]


@pytest.fixture
def web(machine):
    machine.lab.put_policy("web", **POLICY)
    return machine


def only_allowed(arrivals):
    """One datagram came to the allowed port; to the other none, though it was sent first."""
    arrivals.wait({(7, 4): 1})
    assert arrivals.seen[(9, 4)] == 0


def hook(machine, state, runtime_dir=None):
    """Call the hook as a runtime does."""
    return run(machine.hook, "--runtime-dir", runtime_dir or machine.lab.runtime, check=False,
               input=state if isinstance(state, str) else json.dumps(state))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_first_packet_is_judged(web, runtime):
    lab = web.lab
    netns, peer = lab.pair()
    arrivals = Arrivals(peer, 7, 9)
    container = web.start(runtime, send("10.77.0.2", 9, 7) + "; exec sleep 600", name="first",
                          netns=netns, annotations=WEB)
    only_allowed(arrivals)
    document = lab.expect("first", {"packets.accepted": 1, "packets.dropped": 1, "rules.ok": 1})
    assert document["policy"] == "web" and document["labels"] == {"io.nsgate.container": "first"}
    assert document["netns"]["cookie"] == netns.identity()[0]
    container.kill()
    container.wait()
    assert lab.names() == []  # poststop has been, and waits until it is done


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_without_an_annotation_nothing_happens(web, runtime):
    netns, peer = web.lab.pair()
    arrivals = Arrivals(peer, 7, 9)
    code, text = web.run(runtime, send("10.77.0.2", 9, 7), netns=netns,
                         annotations={"io.nsgatecat": "x", "other": "y"})
    assert code == 0, text
    arrivals.wait({(7, 4): 1, (9, 4): 1})
    assert netns.ruleset() == ""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_network_of_its_own(web, runtime):
    """The namespace that the runtime makes; judged on its loopback."""
    container = web.start(runtime, "ip link set lo up; " + send("127.0.0.1", 9, 7) +
                          "; exec sleep 600", name="own",
                          annotations={**WEB, "io.nsgate.name": "mine"})
    # The accepted datagram goes out and comes in. That nobody listens is answered, as a reply.
    until(lambda: "mine" in web.lab.names(), container.text)
    web.lab.expect("mine", {"packets.dropped": 1, "rules.ok": 1, "default.packets": 2})
    assert web.lab.get("/v1/namespaces/mine")["target"].startswith("pid:")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("annotations, why", [
    ({"io.nsgate.policy": "nosuch"}, "policy nosuch does not exist"),
    ({"io.nsgate.policy": "../web"}, '../web'),
    ({"io.nsgate.policy": ""}, "is not a name"),
    ({"io.nsgate.policy": "web", "io.nsgate.name": "a b"}, 'a b'),
    ({"io.nsgate.name": "web"}, "add io.nsgate.policy=POLICY"),
    ({"io.nsgate.polcy": "web"}, "annotation io.nsgate.polcy: not known"),
], ids=["missing", "path", "empty", "name", "no-policy", "misspelt"])
def test_a_container_that_cannot_be_judged_does_not_start(web, runtime, annotations, why):
    netns, peer = web.lab.pair()
    arrivals = Arrivals(peer, 7, 9)
    with Syslog() as syslog:
        code, text = web.run(runtime, send("10.77.0.2", 7, 9), netns=netns,
                             annotations=annotations)
        assert code != 0
        if runtime == "runc":  # crun keeps what a hook says to itself
            assert why in text
        if syslog.listening:
            syslog.wait(why)
    assert web.lab.names() == []
    assert arrivals.total() == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_hosts_network_is_refused(web, runtime):
    code, text = web.run(runtime, "true", netns=None, annotations=WEB)
    assert code != 0
    if runtime == "runc":
        assert "it has the host's network" in text
    assert web.lab.names() == []
    assert "nsgate" not in run("nft", "list", "tables").stdout


def test_no_daemon_no_container(own_machine):
    lab = own_machine.lab
    with open(f"{lab.policies}/web.json", "w", encoding="utf-8") as file:
        json.dump({"version": 1, **POLICY}, file)

    def refused(why):
        netns = lab.netns()
        code, text = own_machine.run("runc", "echo started", netns=netns, annotations=WEB)
        assert code != 0 and why in text and "started\n" not in text, text
        assert netns.ruleset() == ""

    refused("is nsgate-broker running")
    lab.start_broker()
    refused("nsgate-agent does not answer")
    lab.start_agent()
    lab.wait_ready()
    code, text = own_machine.run("runc", "echo started", netns=lab.netns(), annotations=WEB)
    assert (code, text) == (0, "started\n")
    # An agent that hangs: bounded, and nothing of it stays.
    lab.agent.send_signal(signal.SIGSTOP)
    try:
        refused("does not answer")
    finally:
        lab.agent.send_signal(signal.SIGCONT)
    until(lambda: lab.names() == [], "nothing to be attached")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_killed(web, runtime):
    """The first process is killed, by nobody the runtime knows of."""
    netns = web.lab.netns()
    container = web.start(runtime, annotations=WEB, netns=netns)
    os.kill(container.pid(), signal.SIGKILL)
    container.wait()
    assert web.lab.names() == []


def test_runtime_killed(web):
    """Neither runtime nor poststop: the end of the process is enough."""
    netns = web.lab.netns()
    before = web.lab.fds()
    container = web.start("runc", annotations=WEB, netns=netns)
    pid = container.pid()
    container.process.kill()
    container.wait()
    assert web.lab.names() == [container.name]
    os.kill(pid, signal.SIGKILL)
    until(lambda: web.lab.names() == [], "it to be let go of")
    web.lab.wait_fds(before)


def test_again_in_the_same_namespace(web):
    """The rules of one that was killed are still there; the next one is judged by its own policy."""
    lab = web.lab
    lab.put_policy("other", default="drop", rules=[{"name": "nine", "action": "accept",
                                                     "dport": [9]}])
    netns, peer = lab.pair()
    arrivals = Arrivals(peer, 7, 9)
    for _ in range(3):
        first = web.start("runc", annotations={**WEB, "io.nsgate.name": "same"}, netns=netns,
                          name="again")
        os.kill(first.pid(), signal.SIGKILL)
        first.wait()
        first.remove()
    last = web.start("runc", send("10.77.0.2", 7, 9) + "; exec sleep 600", netns=netns,
                     annotations={"io.nsgate.policy": "other", "io.nsgate.name": "same"})
    arrivals.wait({(9, 4): 1})
    assert arrivals.seen[(7, 4)] == 0
    last.kill()
    last.wait()
    assert lab.names() == []


def test_containers_that_share_are_counted(web):
    lab = web.lab
    netns, peer = lab.pair()
    before = lab.fds()
    arrivals = Arrivals(peer, 7, 9)
    members = [web.start("runc", annotations=WEB, netns=netns, name="pod-a")]
    members[0].pid()
    for name in ("pod-b", "pod-c"):
        members.append(web.start("runc", annotations=WEB, netns=netns, name=name))
        members[-1].pid()
    assert lab.names() == ["pod-a"]

    # The first may go before the others.
    os.kill(members[0].pid(), signal.SIGKILL)
    members[0].wait()
    assert lab.names() == ["pod-a"]
    netns.send("10.77.0.2", 9, 3)
    netns.send("10.77.0.2", 7, 3)
    arrivals.wait({(7, 4): 3})
    assert arrivals.seen[(9, 4)] == 0

    # One that asks for another policy is refused, and changes nothing.
    lab.put_policy("other", default="accept")
    code, text = web.run("runc", "true", netns=netns, annotations={"io.nsgate.policy": "other"})
    assert code != 0 and "as pod-a with policy web, not other" in text
    assert lab.stats("pod-a")["policy"] == "web"

    # Rebound by people, it still takes what asks for what was asked for.
    lab.must("namespace", "policy", "pod-a", "other")
    code, text = web.run("runc", "true", netns=netns, annotations=WEB)
    assert code == 0, text
    lab.expect("pod-a", {"policy": "other"})

    for member in members[1:]:
        assert lab.names() == ["pod-a"]
        member.kill()
        member.wait()
    assert lab.names() == []
    lab.wait_fds(before)


def test_one_that_never_asked_is_left(web):
    """It was judged with the others; now nobody judges, so nothing of it passes."""
    netns, peer = web.lab.pair()
    arrivals = Arrivals(peer, 7, 9)
    asked = web.start("runc", annotations=WEB, netns=netns)
    asked.pid()
    web.start("runc", netns=netns).pid()
    netns.send("10.77.0.2", 7, 1)
    arrivals.wait({(7, 4): 1})
    asked.kill()
    asked.wait()
    assert web.lab.names() == []
    netns.send("10.77.0.2", 7, 5)
    # Whoever asks next is judged; what was sent meanwhile does not come any more.
    web.start("runc", send("10.77.0.2", 7) + "; exec sleep 600", annotations=WEB,
              netns=netns).pid()
    arrivals.wait({(7, 4): 2})


def test_hook_of_a_broker_that_hangs(own_machine):
    """Bounded, though nothing answers."""
    lab = own_machine.lab.start()
    with subprocess.Popen(["unshare", "-n", "sleep", "600"]) as child:
        try:
            until(lambda: os.readlink(f"/proc/{child.pid}/ns/net") !=
                  os.readlink("/proc/self/ns/net"), "the namespace")
            lab.broker.send_signal(signal.SIGSTOP)
            state = {"id": "a", "pid": child.pid, "annotations": WEB}
            done = hook(own_machine, {**state, "status": "creating"})
            assert done.returncode == 3 and "no answer in time" in done.stderr
        finally:
            lab.broker.send_signal(signal.SIGCONT)
            child.kill()


def test_pods_started_at_once(web):
    """Whoever comes while another is at it waits."""
    netns = web.lab.netns()
    members = [web.start("runc", annotations=WEB, netns=netns) for _ in range(4)]
    for member in members:
        member.pid()
    assert len(web.lab.names()) == 1
    for member in members:
        member.kill()
    for member in members:
        member.wait()
    assert web.lab.names() == []


def test_attached_by_somebody_else(web):
    """By name before: the container is judged by that, and its end does not detach it."""
    lab = web.lab
    netns = lab.netns()
    lab.must("attach", f"netns:{netns}", "--name", "before", "--policy", "web")
    code, text = web.run("runc", "true", netns=netns, annotations=WEB)
    assert code == 0, text
    assert lab.names() == ["before"]
    code, text = web.run("runc", "true", netns=netns, annotations={"io.nsgate.policy": "no"})
    assert code != 0 and "as before with policy web" in text


@pytest.mark.parametrize("ends", ["agent", "broker", "both"])
def test_restarts_of_the_daemons(own_machine, ends):
    """Who shares a namespace is known to the next broker, and who has ended meanwhile is not."""
    lab = own_machine.lab.start()
    lab.put_policy("web", **POLICY)
    netns, peer = lab.pair()
    arrivals = Arrivals(peer, 7, 9)
    members = [own_machine.start("runc", annotations=WEB, netns=netns, name=f"r{n}")
               for n in range(3)]
    pids = [member.pid() for member in members]
    name = lab.names()[0]

    for daemon, process in (("agent", lab.agent), ("broker", lab.broker)):
        if ends in (daemon, "both"):
            process.kill()
            process.wait()
    os.kill(pids[0], signal.SIGKILL)
    members[0].wait()
    if ends != "agent":
        lab.start_broker("--admin", "4321")
    if ends != "broker":
        lab.start_agent()
    lab.wait_ready()
    until(lambda: lab.names() == [name], "it to be attached again")

    netns.send("10.77.0.2", 9, 3)
    netns.send("10.77.0.2", 7, 3)
    arrivals.wait({(7, 4): 3})
    assert arrivals.seen[(9, 4)] == 0
    members[1].kill()
    members[1].wait()
    assert lab.names() == [name]
    members[2].kill()
    members[2].wait()
    assert lab.names() == []
    assert os.listdir(f"{lab.runtime}/attached") == []


def test_all_gone_while_no_broker_looked(own_machine):
    lab = own_machine.lab.start()
    lab.put_policy("web", **POLICY)
    members = [own_machine.start("runc", annotations=WEB, netns=netns)
               for netns in [lab.netns()] * 2]
    pids = [member.pid() for member in members]
    lab.broker.kill()
    lab.broker.wait()
    for member, pid in zip(members, pids):
        os.kill(pid, signal.SIGKILL)
        assert member.wait() == 137  # a poststop that reaches nobody does no harm
    lab.start_broker()
    until(lambda: lab.names() == [], "it to be let go of")


# ---- the hook alone ----


def test_hook_states(web):
    lab = web.lab
    with subprocess.Popen(["unshare", "-n", "sleep", "600"]) as child:
        try:
            until(lambda: os.readlink(f"/proc/{child.pid}/ns/net") !=
                  os.readlink("/proc/self/ns/net"), "the namespace")
            state = {"ociVersion": "1.0", "id": "a" * 64, "pid": child.pid, "bundle": "/",
                     "annotations": WEB}
            for status in ("creating", "created", "created"):  # again is nothing new
                assert hook(web, {**state, "status": status}).returncode == 0
                assert lab.names() == ["a" * 12]
            running = hook(web, {**state, "status": "running"})
            assert running.returncode == 2 and "createRuntime" in running.stderr
            assert lab.names() == ["a" * 12]
            stopped = {**state, "status": "stopped"}
            del stopped["pid"]
            for _ in range(2):
                done = hook(web, stopped)
                assert (done.returncode, done.stderr) == (0, "")
                assert lab.names() == []
            with inside(f"/proc/{child.pid}/ns/net"):
                assert run("nft", "list", "tables").stdout == ""
        finally:
            child.kill()


@pytest.mark.parametrize("state", ["", "{", "[]", "null", '{"id":"a"}', '{"status":"creating"}',
                                   '{"id":"' + "x" * 256 + '","status":"creating","pid":1}'])
def test_hook_bad_input(web, state):
    done = hook(web, state)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "not the state of a container" in done.stderr


def test_hook_bad_pids(web):
    for pid in (None, 0, -1, "7", 1 << 40):
        state = {"id": "a", "status": "created", "pid": pid, "annotations": WEB}
        assert hook(web, state).returncode in (2, 4)
    assert web.lab.names() == []


def test_hook_without_annotations_asks_nobody(web):
    state = {"id": "a", "status": "creating", "pid": 1, "annotations": {"a": "b"}}
    done = hook(web, state, runtime_dir="/nowhere")
    assert (done.returncode, done.stderr) == (0, "")
    del state["annotations"]
    assert hook(web, state, runtime_dir="/nowhere").returncode == 0


def test_hook_help_and_version(web):
    for path in (web.hook, program("oci-hook")):
        assert "createRuntime" in run(path, "--help").stdout
        assert run(path, "--version").stdout.startswith("nsgate-oci-hook ")
    assert run(web.hook, "--nonsense", check=False).returncode == 2


class Syslog:
    """/dev/log, where nobody else listens on it."""

    def __init__(self):
        self.text = ""
        self.listening = False
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def read(self):
        while data := self.socket.recv(65536):
            self.text += data.decode(errors="replace") + "\n"

    def __enter__(self):
        try:
            self.socket.bind("/dev/log")
        except OSError:
            return self
        self.listening = True
        threading.Thread(target=self.read, daemon=True).start()
        return self

    def wait(self, why):
        until(lambda: why in self.text, lambda: f"syslog to say {why}: {self.text}")
        assert "nsgate-oci-hook" in self.text

    def __exit__(self, *unused):
        if self.listening:
            os.unlink("/dev/log")
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
