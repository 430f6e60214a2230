# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong is refused whole: one line that names thing and remedy, the right exit code."""
import json
import os
import re
import signal
import subprocess

import pytest

from lab import QUEUE, Arrivals, end, run
from nfqueue import Consumer

NOBODY, NOGROUP, DAEMON = 65534, 65534, 1


def refused(done, code, *words):
    """One line on stderr with those words in it, nothing on stdout."""
    lines = done.stderr.splitlines()
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == ""
    assert lines and lines[0].startswith("nsgatectl: "), done.stderr
    for word in words:
        assert re.search(word, done.stderr), f"{word!r} is not in {done.stderr!r}"
    return lines


def refused_in_a_line(done, code, *words):
    assert len(refused(done, code, *words)) == 1, done.stderr


@pytest.mark.parametrize("target, code, words", [
    ("netns:ngt-nope", 4, ("netns:ngt-nope", "no such", "ip netns")),
    ("pid:4194303", 4, ("4194303", "no such process")),
    ("path:/nonexistent/ns", 4, ("/nonexistent/ns", "no such file")),
    ("path:/etc/passwd", 2, ("/etc/passwd", "not a network namespace", "/proc/PID/ns/net")),
    ("path:/proc/self/ns/mnt", 2, ("not a network namespace",)),
    ("path:relative", 2, ("absolute",)),
    ("pid:0", 2, ("from 1",)),
    ("pid:x", 2, ("not a number",)),
    ("netns:../../etc/passwd", 2, ("not a name",)),
    ("somewhere", 2, ("netns:NAME, pid:N, path:/FILE or self",)),
    ("self", 5, ("host's own", "--allow-host")),
    (f"pid:{os.getpid()}", 5, ("host's own", "--allow-host")),
    ("path:/proc/self/ns/net", 5, ("host's own", "--allow-host")),
])
def test_bad_target(lab, target, code, words):
    lab.put_policy("ok")
    fds = lab.fds()
    refused_in_a_line(lab.ctl("attach", target, "--name", "x", "--policy", "ok"), code, *words)
    assert lab.names() == []
    lab.wait_fds(fds)


def test_pid_that_died_is_no_such_thing(lab):
    lab.put_policy("ok")
    gone = subprocess.Popen(["sleep", "60"])
    end(gone)
    refused_in_a_line(lab.ctl("attach", f"pid:{gone.pid}", "--policy", "ok"), 4, str(gone.pid))
    # Dead, but not reaped: its namespace is gone all the same.
    zombie = subprocess.Popen(["unshare", "-n", "sleep", "60"])
    try:
        zombie.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        refused_in_a_line(lab.ctl("attach", f"pid:{zombie.pid}", "--policy", "ok"), 4,
                          str(zombie.pid))
    finally:
        zombie.wait()
    assert lab.names() == []


def test_name_that_no_namespace_is_behind(lab):
    lab.put_policy("ok")
    netns = lab.netns()
    run("umount", netns.path)
    try:
        refused_in_a_line(lab.ctl("attach", f"netns:{netns}", "--policy", "ok"), 4, netns.name,
                          "ip netns del")
    finally:
        os.unlink(netns.path)


def test_name_in_use_and_namespace_attached_already(lab):
    a, b = lab.netns("a"), lab.netns("b")
    lab.attach(a, name="one", default="accept")
    lab.put_policy("ok")
    fds = lab.fds()
    refused_in_a_line(lab.ctl("attach", f"netns:{b}", "--name", "one", "--policy", "ok"), 1,
                      "one is in use", "detach|--name")
    refused_in_a_line(lab.ctl("attach", f"netns:{a}", "--name", "two", "--policy", "ok"), 1,
                      "attached already, as one")
    refused_in_a_line(lab.ctl("attach", f"path:{a.path}", "--name", "two", "--policy", "ok"), 1,
                      "attached already, as one")
    assert lab.names() == ["one"]
    assert b.ruleset() == ""
    lab.wait_fds(fds)


def test_queue_that_somebody_else_has(lab):
    netns = lab.netns()
    lab.put_policy("ok")
    with Consumer(netns, QUEUE):
        fds = lab.fds()
        refused_in_a_line(lab.ctl("attach", f"netns:{netns}", "--policy", "ok"), 1,
                          f"queue {QUEUE}", "taken", "--queue")
        assert netns.ruleset() == ""
        lab.wait_fds(fds)
        lab.must("attach", f"netns:{netns}", "--policy", "ok", "--queue", "3")


@pytest.mark.parametrize("options, words", [
    (("--name", "a/b"), ("--name", "a name is")),
    (("--name", "n" * 64), ("63 at most",)),
    (("--policy", "../x"), ("--policy", "a name is")),
    (("--label", "novalue"), ("KEY=VALUE",)),
    (("--queue", "65536"), ("65535",)),
    (("--queue", "-1"), ("--queue", "not a number")),
    (("--queues", "17"), ("16",)),
    (("--queue", "65535", "--queues", "2"), ("65535",)),
    (("--nonsense",), ("--nonsense", "--help")),
])
def test_bad_options(lab, options, words):
    netns = lab.netns()
    refused_in_a_line(lab.ctl("attach", f"netns:{netns}", *options), 2, *words)


@pytest.mark.parametrize("words", [(), ("frob",), ("attach",), ("detach",), ("policy", "frob"),
                                   ("policy", "set", "x"), ("attach", "self", "too", "many")])
def test_bad_command(lab, words):
    refused_in_a_line(lab.ctl(*words), 2, "help|takes")


def test_what_is_not_there(lab):
    netns = lab.netns()
    refused_in_a_line(lab.ctl("attach", f"netns:{netns}", "--policy", "nope"), 4, "nope",
                      "policy set", "--pending")
    assert os.listdir(f"{lab.runtime}/attached") == []
    refused_in_a_line(lab.ctl("detach", "nope"), 4, "nope", "nsgatectl ls")
    refused_in_a_line(lab.ctl("show", "nope"), 4, "nope", "attach")
    refused_in_a_line(lab.ctl("stats", "nope"), 4, "nope", "attach")
    refused_in_a_line(lab.ctl("policy", "get", "nope"), 4, "nope")
    refused_in_a_line(lab.ctl("policy", "rm", "nope"), 4, "nope")
    refused_in_a_line(lab.ctl("namespace", "policy", "nope", "nope"), 4, "nope")
    lab.attach(netns, name="here", default="accept")
    refused_in_a_line(lab.ctl("namespace", "policy", "here", "nope"), 4, "policy")
    assert lab.names() == ["here"]


# ---- permissions ----


def test_user_outside_the_group_may_not_even_read(lab):
    netns = lab.netns()
    refused_in_a_line(lab.ctl("ls", uid=NOBODY, gid=NOGROUP), 5, "api.sock", "permission denied",
                      "root|group")
    refused_in_a_line(lab.ctl("attach", f"netns:{netns}", uid=NOBODY, gid=NOGROUP), 5,
                      "uid 65534", "root|--admin")


def test_member_of_the_group_may_read_and_not_change(lab, tmp_path):
    netns = lab.netns()
    lab.attach(netns, name="here", default="accept")
    os.chmod(tmp_path, 0o755)
    file = f"{lab.dir}/ok.json"
    with open(file, "w", encoding="ascii") as out:
        out.write('{"version":1}')
    member = {"uid": NOBODY, "gid": DAEMON}
    assert "here" in lab.must("ls", **member).stdout
    assert json.loads(lab.must("--json", "stats", "here", **member).stdout)["name"] == "here"
    lab.put_policy("other")
    refused_in_a_line(lab.ctl("policy", "set", "new", file, **member), 5, "--admin|root")
    refused_in_a_line(lab.ctl("policy", "rm", "other", **member), 5, "--admin|root")
    refused_in_a_line(lab.ctl("namespace", "policy", "here", "other", **member), 5,
                      "--admin|root")
    refused_in_a_line(lab.ctl("detach", "here", **member), 5, "uid 65534")
    assert lab.names() == ["here"]
    assert "new" not in lab.must("policy", "ls").stdout

    script = ("import http.client, socket\n"
              "c = http.client.HTTPConnection('x'); c.sock = socket.socket(socket.AF_UNIX)\n"
              f"c.sock.connect('{lab.runtime}/api.sock')\n"
              "c.request('PUT', '/v1/policies/new', '{\"version\":1}')\n"
              "r = c.getresponse(); print(r.status, r.getheader('Content-Type'))\n")
    done = run("setpriv", "--reuid=65534", "--regid=1", "--clear-groups", "/usr/bin/python3", "-c",
               script)
    assert done.stdout.split() == ["403", "application/problem+json"]


# ---- daemons that do not run ----


def test_neither_daemon_runs(own_lab):
    netns = own_lab.netns()
    refused_in_a_line(own_lab.ctl("attach", f"netns:{netns}"), 3, "broker.sock", "nsgate-broker")
    refused_in_a_line(own_lab.ctl("detach", "x"), 3, "broker.sock", "nsgate-broker")
    refused_in_a_line(own_lab.ctl("ls"), 3, "api.sock", "nsgate-agent")
    refused_in_a_line(own_lab.ctl("stats"), 3, "nsgate-agent")


def test_only_the_broker_runs(own_lab):
    netns = own_lab.netns()
    own_lab.start_broker()
    refused_in_a_line(own_lab.ctl("attach", f"netns:{netns}"), 3, "nsgate-agent", "start")
    assert netns.ruleset() == ""
    # A socket file without anybody behind it is no better than none.
    own_lab.start_agent()
    own_lab.wait_ready()
    end(own_lab.agent)
    refused_in_a_line(own_lab.ctl("ls"), 3, "api.sock", "nsgate-agent")
    assert own_lab.ctl("attach", f"netns:{netns}").returncode == 3


def test_only_the_agent_runs(own_lab):
    netns = own_lab.netns()
    own_lab.start_agent()
    refused_in_a_line(own_lab.ctl("attach", f"netns:{netns}"), 3, "broker.sock", "nsgate-broker")
    own_lab.must("ls")
    assert own_lab.http("GET", "/readyz").status == 503
    assert own_lab.http("GET", "/healthz").status == 200


def test_a_second_daemon_on_the_same_directory_refuses(own_lab):
    own_lab.start()
    for name in ("nsgate-broker", "nsgate-agent"):
        before = len(own_lab.log(name))
        second = own_lab.spawn(name, *(("--user", "nobody") if name == "nsgate-agent" else ()))
        assert second.wait(10) != 0
        assert own_lab.runtime in own_lab.log(name)[before:]
    own_lab.must("ls")


# ---- policies ----

DEEP = "[" * 17 + "]" * 17
BAD_POLICIES = {
    "empty": ("", ("",)),
    "not JSON": ("rules: []", ("line 1",)),
    "cut off": ('{"version":1,', ("line 1",)),
    "an array": ("[]", ("object",)),
    "no version": ("{}", ("version",)),
    "version 2": ('{"version":2}', ("/version",)),
    "wrong key": ('{"version":1,"rulez":[]}', ("/rulez", "unknown")),
    "wrong key of a rule": ('{"version":1,"rules":[{"name":"a","action":"drop","dprt":[1]}]}',
                            ("/rules/0/dprt", "unknown")),
    "repeated key": ('{"version":1,"version":1}', ("version",)),
    "repeated rule": ('{"version":1,"rules":[{"name":"a","action":"drop"},'
                      '{"name":"a","action":"drop"}]}', ("/rules/1", "a")),
    "bad port": ('{"version":1,"rules":[{"name":"a","action":"drop","dport":[65536]}]}',
                 ("/rules/0/dport/0",)),
    "bad range": ('{"version":1,"rules":[{"name":"a","action":"drop","dport":["9-1"]}]}',
                  ("/rules/0/dport/0",)),
    "bad address": ('{"version":1,"rules":[{"name":"a","action":"drop","dst":["10.0.0.300"]}]}',
                    ("/rules/0/dst/0",)),
    "too deep": ('{"version":1,"rules":' + DEEP + "}", ("16|deep",)),
    "repeat without mark": ('{"version":1,"rules":[{"name":"a","action":"repeat"}]}',
                            ("/rules/0", "mark")),
    "queue without number": ('{"version":1,"rules":[{"name":"a","action":"queue"}]}',
                             ("/rules/0", "queue")),
}


@pytest.mark.parametrize("kind", BAD_POLICIES)
def test_bad_policy(lab, kind):
    text, words = BAD_POLICIES[kind]
    file = f"{lab.dir}/bad.json"
    with open(file, "w", encoding="ascii") as out:
        out.write(text)
    checked = lab.ctl("policy", "check", file)
    assert checked.returncode == 1
    for word in words:
        assert re.search(word, checked.stdout + checked.stderr), (word, checked)
    lines = refused(lab.ctl("policy", "set", "bad", file), 1, "bad.json", *words)
    assert len(lines) >= 2 or not text
    answer = lab.http("PUT", "/v1/policies/bad", text)
    assert answer.status == (422 if text else 400)
    assert answer.headers["Content-Type"] == "application/problem+json"
    if text:
        errors = answer.json["errors"]
        assert errors and all(set(e) == {"pointer", "message"} for e in errors)
        assert lab.http("POST", "/v1/policies:check", text).json["errors"] == errors
    assert lab.http("GET", "/v1/policies/bad").status == 404
    assert not os.path.exists(f"{lab.policies}/bad.json")


def test_policy_too_large(lab):
    text = '{"version":1}' + " " * (1 << 20)
    file = f"{lab.dir}/large.json"
    with open(file, "w", encoding="ascii") as out:
        out.write(text)
    refused_in_a_line(lab.ctl("policy", "set", "large", file), 1, "large.json", "1048576")
    answer = lab.http("PUT", "/v1/policies/large", text)
    assert answer.status == 413
    fits = text[:1 << 20]
    assert lab.http("PUT", "/v1/policies/large", fits).status == 201


def test_policy_file_that_cannot_be_read(lab):
    lab.put_policy("ok")
    refused_in_a_line(lab.ctl("policy", "set", "x", f"{lab.dir}/nope.json"), 4, "nope.json",
                      "no such file")
    assert lab.ctl("policy", "set", "x", lab.dir).returncode == 1
    assert lab.ctl("policy", "check", "/root/.nope.json", uid=NOBODY,
                   gid=NOGROUP).returncode == 5


def test_bad_rule_keeps_the_policy_in_force(lab):
    netns, outside = lab.pair()
    lab.put_policy("web", default="drop", rules=[{"name": "a", "action": "accept", "dport": [7]}])
    name = lab.attach(netns, "--policy", "web")
    answer = lab.http("PUT", "/v1/policies/web",
                      {"version": 1, "default": "accept", "rules": [{"name": "", "action": "x"}]})
    assert answer.status == 422
    arrived = Arrivals(netns, 7, 8)
    outside.send("10.77.0.1", 7, 5)
    outside.send("10.77.0.1", 8, 5)
    lab.expect(name, {"packets.accepted": 5, "packets.dropped": 5, "state": "attached"})
    assert arrived.drain() == {(7, 4): 5, (7, 6): 0, (8, 4): 0, (8, 6): 0}
