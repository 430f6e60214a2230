# SPDX-License-Identifier: GPL-2.0-or-later
"""What could not be said or done at once is said and done later: nothing stays half changed."""
import contextlib
import socket
import subprocess
import threading

import pytest

from lab import Arrivals, batch, end, stopped, until


def rule(port):
    return {"name": f"p{port}", "action": "accept", "protocol": ["udp"], "dport": [port]}


def judged(lab, inner, outside, name, passes, fails):
    """The one port is open there, the other is not."""
    arrived = Arrivals(inner, passes, fails, families=[socket.AF_INET])
    seen = lab.stats(name)["packets"]["seen"]
    outside.send("10.77.0.1", fails, 10)
    outside.send("10.77.0.1", passes, 10)
    arrived.wait({(passes, 4): 10})
    lab.expect(name, {"packets.seen": seen + 20, "queue.pending": 0})
    assert arrived.drain()[fails, 4] == 0
    arrived.close()


@pytest.mark.parametrize("heard", ["at last", "not at all", "by a new broker"])
def test_detach_while_the_agent_is_stopped(own_lab, heard):
    """It goes through, and the agent lets go as soon as it runs, also if it could not be told."""
    lab = own_lab.start()
    inner, outside = lab.pair()
    name = lab.attach(inner, default="drop", rules=[rule(7)])
    fds = lab.fds()
    with stopped(lab.agent):
        if heard == "not at all":  # each new link is a message: the connection is full
            batch([f"link add a{n} type veth peer name b{n}" for n in range(150)], "-n", inner)
        lab.must("detach", name)
        assert inner.ruleset() == ""
        if heard == "by a new broker":
            end(lab.broker)
            lab.start_broker()
    until(lambda: not lab.names(), "the agent to let go of it")
    lab.wait_ready()
    assert inner.ruleset() == "" and not lab.names()
    until(lambda: lab.fds()[1] < fds[1], "its descriptors to be closed")
    name = lab.attach(inner, default="drop", rules=[rule(9)])
    judged(lab, inner, outside, name, 9, 7)


def test_policy_put_while_the_broker_is_stopped(own_lab):
    lab = own_lab.start()
    inner, outside = lab.pair()
    lab.put_policy("p", default="drop", rules=[rule(7)])
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    answers = []
    putter = threading.Thread(target=lambda: answers.append(lab.http(
        "PUT", "/v1/policies/p", {"version": 1, "default": "drop", "hooks": ["in", "out"],
                                  "rules": [rule(8)]})))
    with stopped(lab.broker):
        putter.start()
        until(lambda: lab.stats("x")["rules"][0]["name"] == "p8", "the policy to be bound")
        judged(lab, inner, outside, "x", 8, 7)
        assert not answers
    putter.join(20)
    assert answers and answers[0].status == 200
    assert lab.get("/v1/namespaces/x")["generation"] == int(answers[0].headers["Nsgate-Generation"])
    judged(lab, inner, outside, "x", 8, 7)


@contextlib.contextmanager
def stolen_table(inner):
    """Somebody inside owns the table for a while, where nsgate may not own it."""
    thief = inner.popen("nft", "-i", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL)
    # One transaction: in between, the broker would put its own back at once.
    thief.stdin.write(b"delete table inet nsgate; add table inet nsgate { flags owner; }\n")
    thief.stdin.flush()
    until(lambda: "flags owner" in inner.ruleset(), "the table to be somebody else's")
    yield
    end(thief)  # and its table with it


def test_rules_that_cannot_be_installed_are_tried_again(own_lab):
    lab = own_lab
    lab.start_broker("--no-owned-tables")
    lab.start_agent()
    lab.wait_ready()
    inner, outside = lab.pair()
    lab.put_policy("p", default="drop", hooks=["in"], rules=[rule(7)])
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    with stolen_table(inner):
        until(lambda: lab.get("/v1/namespaces/x")["state"] == "degraded",
              "the trouble to be noticed")
        answer = lab.http("PUT", "/v1/policies/p", {
            "version": 1, "default": "drop", "hooks": ["in"], "rules": [rule(8)]})
        assert answer.status == 500 and "not in force everywhere" in answer.json["detail"]
    until(lambda: lab.get("/v1/namespaces/x")["state"] == "attached", "it to heal")
    judged(lab, inner, outside, "x", 8, 7)


def test_flows_of_the_old_policy_are_not_taken_for_the_new_ones(own_lab):
    """The agent that changed the policy ends before the rules could follow."""
    lab = own_lab
    lab.start_broker("--no-owned-tables")
    lab.start_agent()
    lab.wait_ready()
    inner, outside = lab.pair()
    lab.put_policy("p", default="drop", hooks=["in"], offload=True, rules=[rule(7)])
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    arrived = Arrivals(inner, 7, 8, families=[socket.AF_INET])
    sender = outside.udp()
    for count in range(1, 4):
        outside.send("10.77.0.1", 7, 1, sender=sender)
        arrived.wait(count)
    assert lab.books("x")["packets"]["offloaded"] == 2
    with stolen_table(inner):
        answer = lab.http("PUT", "/v1/policies/p", {
            "version": 1, "default": "drop", "hooks": ["in"], "offload": True, "rules": [rule(8)]})
        assert answer.status == 500, answer
        end(lab.agent)
        lab.start_agent()
    lab.wait_ready()
    until(lambda: "ct label 43 counter" in inner.ruleset(),
          "rules of a second generation to be there")
    outside.send("10.77.0.1", 7, 5, sender=sender)
    outside.send("10.77.0.1", 8, 1)
    arrived.wait(4)
    assert arrived.drain() == {(7, 4): 3, (8, 4): 1}


def test_namespace_that_cannot_be_opened_is_tried_again(own_lab):
    """Nobody judges, the policy says open, and the rules cannot be changed for a while."""
    lab = own_lab
    lab.start_broker("--no-owned-tables")
    lab.start_agent()
    lab.wait_ready()
    inner, outside = lab.pair()
    lab.put_policy("p", default="drop", hooks=["in"], on_agent_down="open")
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    said = "event=open.failed netns=x"
    with stolen_table(inner):
        end(lab.agent)
        until(lambda: said in lab.log("nsgate-broker"), "the trouble to be said")
    until(lambda: "event=opened netns=x" in lab.log("nsgate-broker"), "it to be opened")
    assert lab.log("nsgate-broker").count(said) == 1
    arrived = Arrivals(inner, 7, families=[socket.AF_INET])
    outside.send("10.77.0.1", 7, 10)
    arrived.wait(10)
    lab.start_agent()
    lab.wait_ready()
    until(lambda: lab.get("/v1/namespaces/x")["state"] == "attached", "it to be judged again")
    outside.send("10.77.0.1", 7, 10)
    lab.expect("x", {"packets.dropped": 10})
