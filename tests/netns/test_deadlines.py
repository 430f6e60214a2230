# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that hangs is named in time, by every command; those that can do without it work."""
import contextlib
import json
import os
import socket
import subprocess
import time

import pytest

import lab as laboratory
from lab import program, run, stopped, until

POLICY = json.dumps({"version": 1, "default": "accept"})
RUN_FAILED = 125  # what `run` exits with of its own: others are the command's
SPARE = 2.5  # seconds: to see that the other daemon lives, to start a program on a busy machine

# The command, and who is to be named where broker or agent hangs; None: it does without, and works.
COMMANDS = {
    "attach": (["attach", "netns:{other}", "--policy", "p"], "nsgate-broker", "nsgate-agent"),
    "detach": (["detach", "x"], "nsgate-broker", "nsgate-agent"),
    "detach --all": (["detach", "--all"], "nsgate-broker", "nsgate-agent"),
    "ls": (["ls"], None, "nsgate-agent"),
    "show": (["show", "x"], None, "nsgate-agent"),
    "stats": (["stats"], None, "nsgate-agent"),
    "stats of one": (["stats", "x"], None, "nsgate-agent"),
    "policy check": (["policy", "check", "-"], None, None),
    "policy set": (["policy", "set", "p", "-"], "nsgate-broker", "nsgate-agent"),
    "policy get": (["policy", "get", "p"], None, "nsgate-agent"),
    "policy ls": (["policy", "ls"], None, "nsgate-agent"),
    "policy rm": (["policy", "rm", "p", "--force"], "nsgate-broker", "nsgate-agent"),
    "namespace policy": (["namespace", "policy", "x", "q"], "nsgate-broker", "nsgate-agent"),
    "metrics": (["metrics"], None, "nsgate-agent"),
    "run": (["run", "--network", "none", "--policy", "p", "--", "true"], "nsgate-broker",
            "nsgate-agent"),
    "lend": (["lend", "x", "--", "true"], None, "nsgate-agent"),
    "ready": (["ready"], "nsgate-broker", "nsgate-agent"),
    "ready --wait": (["ready", "--wait", "500ms"], "nsgate-broker", "nsgate-agent"),
    "doctor": (["doctor"], "nsgate-broker", "nsgate-agent"),
    "schema": (["schema"], None, None),
}


@pytest.fixture
def attached(own_lab):
    lab = own_lab.start()
    lab.other = lab.netns()
    for name in ("p", "q"):
        lab.put_policy(name, default="accept")
    lab.must("attach", f"netns:{lab.netns()}", "--name", "x", "--policy", "p")
    return lab


def timed(lab, words, *options):
    started = time.monotonic()
    done = lab.ctl(*options, *[w.format(other=lab.other) for w in words], input=POLICY)
    return done, time.monotonic() - started


def check_named(done, named, code=3):
    """That one is blamed, or nobody is and it works."""
    text = done.stdout + done.stderr
    assert done.returncode == (code if named else 0) and (named or "") in text, text


@pytest.mark.parametrize("hung", ["nsgate-broker", "nsgate-agent"])
def test_every_command_has_a_deadline(attached, hung):
    lab = attached
    process = lab.broker if hung == "nsgate-broker" else lab.agent
    for what, (words, broker, agent) in COMMANDS.items():
        named = broker if hung == "nsgate-broker" else agent
        with stopped(process):
            done, lasted = timed(lab, words, "--timeout", "1")
        assert lasted < 1 + SPARE, (what, lasted)
        check_named(done, named, RUN_FAILED if what == "run" else 3)
        lab.wait_ready()


@pytest.mark.parametrize("hung", ["nsgate-broker", "nsgate-agent"])
@pytest.mark.parametrize("words", [["policy", "set", "p", "-"],
                                   ["attach", "netns:{other}", "--policy", "p"]],
                         ids=lambda w: w[0])
def test_five_seconds_unless_told_otherwise(attached, hung, words):
    lab = attached
    with stopped(lab.broker if hung == "nsgate-broker" else lab.agent):
        done, lasted = timed(lab, words)
    check_named(done, hung)
    assert lasted < 5 + SPARE


def test_what_lasts_long_is_waited_for(attached):
    """The broker lives and takes three seconds, as the agent does not answer it."""
    lab = attached
    with stopped(lab.agent):
        done, lasted = timed(lab, ["detach", "x"])
    assert done.returncode == 0 and 2 < lasted < 5 + SPARE, done.stderr


def connections(path, kind):
    """As many as the listening queue holds of a daemon that hangs, and one more that waits."""
    made = []
    for _ in range(400):
        one = socket.socket(socket.AF_UNIX, kind)
        one.setblocking(False)
        made.append(one)
        try:
            one.connect(path)
        except BlockingIOError:
            return made
    raise AssertionError("the queue is never full")


@pytest.mark.parametrize("hung", ["nsgate-broker", "nsgate-agent"])
def test_daemon_whose_queue_is_full(attached, hung):
    lab = attached
    is_broker = hung == "nsgate-broker"
    path = f"{lab.runtime}/{'broker' if is_broker else 'api'}.sock"
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopped(lab.broker if is_broker else lab.agent))
        for one in connections(path, socket.SOCK_SEQPACKET if is_broker else socket.SOCK_STREAM):
            stack.callback(one.close)
        done, lasted = timed(lab, ["attach", "netns:{other}", "--policy", "p"] if is_broker
                             else ["ls"], "--timeout", "1")
    check_named(done, hung)
    assert lasted < 1 + SPARE


@pytest.mark.parametrize("hung", ["nsgate-broker", "nsgate-agent"])
def test_hook_and_plugin_have_deadlines(attached, hung, tmp_path):
    """Those that container runtimes start: they end before a runtime gives up on them."""
    lab = attached
    conf = json.dumps({"cniVersion": "1.0.0", "name": "n", "type": "nsgate", "policy": "p",
                       "runtimeDir": lab.runtime, "prevResult": {"cniVersion": "1.0.0"}})
    environment = {**os.environ, "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1",
                   "CNI_NETNS": lab.other.path, "CNI_IFNAME": "eth0", "CNI_PATH": "/nonexistent"}
    with (stopped(lab.broker if hung == "nsgate-broker" else lab.agent),
          subprocess.Popen(["nsenter", f"--net={lab.other.path}", "cat"],
                           stdin=subprocess.PIPE) as container):
        until(lambda: os.stat(f"/proc/{container.pid}/ns/net").st_ino ==
              os.stat(lab.other.path).st_ino, "the container to be in its namespace")
        state = json.dumps({"ociVersion": "1.0.2", "id": "c1", "status": "creating",
                            "pid": container.pid, "bundle": str(tmp_path),
                            "annotations": {"io.nsgate.policy": "p"}})
        started = time.monotonic()
        hook = run(program("oci-hook"), "--runtime-dir", lab.runtime, input=state, check=False)
        assert hook.returncode == 3 and hung in hook.stderr, hook.stderr
        assert time.monotonic() - started < 10 + SPARE
        started = time.monotonic()
        plugin = run(program("nsgate-cni"), input=conf, check=False, env=environment)
        assert plugin.returncode == 1 and hung in plugin.stdout, plugin.stdout
        assert time.monotonic() - started < 20 + SPARE


@pytest.mark.parametrize("words", [*sorted({tuple(w[:2]) if w[0] in ("policy", "namespace")
                                            else (w[0],) for w, _, _ in COMMANDS.values()}),
                                   ("policy",), ("namespace",), ()], ids=" ".join)
def test_help_of_every_command(words):
    done = run(laboratory.program("nsgatectl"), *words, "--help")
    assert all(word in done.stdout for word in words)
    assert "--timeout" in done.stdout or len(words) == 1 and words[0] in ("policy", "namespace")


def test_ready_waits_for_the_daemons(own_lab):
    lab = own_lab
    lab.start_broker(wait=False)
    lab.start_agent(wait=False)
    assert lab.must("ready", "--wait", "15").returncode == 0


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "1x", "1d", "1e3", "99999999999", ".", "1.2.3"])
def test_bad_times_are_refused(value):
    done = run(program("nsgatectl"), "--timeout", value, "schema", check=False)
    assert done.returncode == 2 and "--timeout" in done.stderr
