# SPDX-License-Identifier: GPL-2.0-or-later
"""podman: the hook from hooks.d, and `nsgatectl attach podman:NAME`."""
import json
import os
import signal

import pytest

from containers import send
from lab import Arrivals, until

POLICY = {"default": {"in": "accept", "out": "drop"},
          "rules": [{"name": "ok", "action": "accept", "direction": "out", "protocol": "udp",
                     "dport": [7]}]}
ASK = ("--annotation", "io.nsgate.policy=web")


@pytest.fixture
def web(machine):
    machine.lab.put_policy("web", **POLICY)
    return machine


def podman_pid(machine, name):
    return int(machine.podman("inspect", "--format", "{{.State.Pid}}", name).stdout)


def attach(machine, target, *args):
    """nsgatectl, with the podman that these tests use."""
    return machine.lab.ctl("attach", target, *args,
                           env={**os.environ, "PATH": f"{machine.podman_wrapper()}:{os.environ['PATH']}"})


def test_hook(web):
    lab = web.lab
    netns, peer = lab.pair()
    arrivals = Arrivals(peer, 7, 9)
    web.podman_run("--detach", "--name", "web1", "--network", f"ns:{netns.path}", *ASK,
                   script=send("10.77.0.2", 9, 7) + "; exec sleep 600")
    arrivals.wait({(7, 4): 1})
    assert arrivals.seen[(9, 4)] == 0
    identity = web.podman("inspect", "--format", "{{.Id}}", "web1").stdout.strip()
    document = lab.expect(identity[:12], {"packets.accepted": 1, "packets.dropped": 1})
    assert document["labels"] == {"io.nsgate.container": identity}
    web.podman("rm", "--force", "--time", "0", "web1")
    assert lab.names() == []


def test_without_an_annotation(web):
    assert web.podman_run("--rm", "--network", "none", script="echo in").stdout == "in\n"


def test_does_not_start(web):
    done = web.podman_run("--rm", "--network", "none", "--annotation", "io.nsgate.policy=nosuch",
                          script="echo in", check=False)
    assert done.returncode != 0 and done.stdout == ""
    assert "policy nosuch does not exist" in done.stderr
    done = web.podman_run("--rm", "--network", "host", *ASK, script="echo in", check=False)
    assert done.returncode != 0 and done.stdout == ""
    assert "it has the host's network" in done.stderr


def test_killed_and_started_again(web):
    lab = web.lab
    web.podman_run("--detach", "--name", "again", "--network", "none", *ASK,
                   "--annotation", "io.nsgate.name=again")
    for _ in range(2):
        assert lab.names() == ["again"]
        os.kill(podman_pid(web, "again"), signal.SIGKILL)
        until(lambda: lab.names() == [], "it to be let go of")
        web.podman("wait", "again")
        web.podman("start", "again")
    assert lab.names() == ["again"]


def test_network_of_another_container(web):
    """`--network container:`: the two are counted."""
    lab = web.lab
    web.podman_run("--detach", "--name", "first", "--network", "none", *ASK,
                   "--annotation", "io.nsgate.name=both")
    web.podman_run("--detach", "--name", "second", "--network", "container:first", *ASK)
    assert lab.names() == ["both"]
    web.podman("rm", "--force", "--time", "0", "second")
    assert lab.names() == ["both"]
    web.podman("rm", "--force", "--time", "0", "first")
    assert lab.names() == []


def test_attach_by_name(web):
    lab = web.lab
    netns, peer = lab.pair()
    arrivals = Arrivals(peer, 7, 9)
    web.podman_run("--detach", "--name", "shop.1", "--network", f"ns:{netns.path}")
    pid = podman_pid(web, "shop.1")
    done = attach(web, "podman:shop.1", "--policy", "web")
    assert (done.returncode, done.stderr) == (0, "")
    assert lab.names() == ["shop.1"]
    assert lab.get("/v1/namespaces/shop.1")["target"] == f"pid:{pid} (podman:shop.1)"
    web.podman("exec", "shop.1", "sh", "-c", send("10.77.0.2", 9, 7))
    arrivals.wait({(7, 4): 1})
    assert arrivals.seen[(9, 4)] == 0
    web.podman("kill", "shop.1")
    until(lambda: lab.names() == [], "it to be let go of")

    # It does not run any more; and one that never was.
    for name in ("shop.1", "nosuch"):
        done = attach(web, f"podman:{name}", "--policy", "web")
        assert done.returncode == 4 and done.stderr.count("\n") == 1, done.stderr
        assert f"podman:{name}" in done.stderr


def test_attach_by_id_with_a_name(web):
    web.podman_run("--detach", "--name", "shop", "--network", "none")
    identity = web.podman("inspect", "--format", "{{.Id}}", "shop").stdout.strip()
    done = attach(web, f"podman:{identity[:12]}", "--policy", "web")
    assert done.returncode == 0, done.stderr
    assert web.lab.names() == ["shop"]
    web.lab.detach("shop")
    assert attach(web, f"podman:{identity}", "--policy", "web", "--name", "x").returncode == 0
    assert web.lab.names() == ["x"]


def test_no_podman(web):
    done = web.lab.ctl("attach", "podman:web", env={"PATH": "/nonexistent"})
    assert done.returncode == 3 and "podman: no such program" in done.stderr


@pytest.mark.parametrize("answer, code, why", [
    ("", 1, "not JSON"), ("[]", 1, "not the document"), ("{}", 1, "not the document"),
    ("[{}]", 1, "no good Id"),
    ('[{"Id":"a","Name":"b","State":{"StartedAt":"c","Pid":"7"}}]', 4, "does not run"),
    ('[{"Id":"a","Name":"b","State":{"StartedAt":"c","Pid":99999999999}}]', 4, "does not run"),
    ('[{"Id":"a","Name":"b","State":{"StartedAt":"c","Pid":4194303}}]', 4, "no such process"),
], ids=range(7))
def test_what_podman_may_say(web, answer, code, why):
    directory = f"{web.dir}/fake-{abs(hash(answer))}"
    os.makedirs(directory)
    with open(f"{directory}/podman", "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\necho '{answer}'\n")
    os.chmod(f"{directory}/podman", 0o755)
    done = web.lab.ctl("attach", "podman:web", env={"PATH": f"{directory}:{os.environ['PATH']}"})
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert why in done.stderr
    assert web.lab.names() == []


def test_restarted_in_between(web):
    """The pid of the first look-up is of another process by the second."""
    state = {"Id": "a", "Name": "b", "State": {"StartedAt": "1", "Pid": os.getpid()}}
    later = {**state, "State": {"StartedAt": "2", "Pid": os.getpid()}}
    directory = f"{web.dir}/restarted"
    os.makedirs(directory)
    with open(f"{directory}/podman", "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\nif [ -e {directory}/asked ]; then echo '[{json.dumps(later)}]'; "
                   f"else echo '[{json.dumps(state)}]'; : >{directory}/asked; fi\n")
    os.chmod(f"{directory}/podman", 0o755)
    done = web.lab.ctl("attach", "podman:b", env={"PATH": f"{directory}:{os.environ['PATH']}"})
    assert done.returncode == 4 and "restarted just now" in done.stderr
