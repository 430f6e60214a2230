# SPDX-License-Identifier: GPL-2.0-or-later
"""A namespace is called attached only while the kernel holds what its policy asks for."""
import contextlib
import json
import time

import pytest

from lab import UnixHTTP, end, stopped, until

BEFORE = {"version": 1, "default": "accept", "hooks": ["in"]}
CHANGES = {
    "forward": {**BEFORE, "hooks": ["in", "forward"], "default": "drop"},
    "strict": {**BEFORE, "strict": True},
    "rules": {**BEFORE, "rules": [{"name": "r", "action": "drop", "dport": [9]}]},
    "offload": {**BEFORE, "offload": True},
}
HOLDS = {"forward": "chain judge_forward", "strict": "table netdev nsgate",
         "rules": "chain judge_in", "offload": "counter name \"offloaded_in\""}


def state(lab, name):
    document = lab.get(f"/v1/namespaces/{name}")
    return document["state"], document.get("reason", "")


def degraded_metric(lab, name):
    text = lab.http("GET", "/metrics").body.decode()
    return [line.split()[-1] for line in text.splitlines()
            if line.startswith(f"nsgate_namespace_degraded{{netns=\"{name}\"")]


@contextlib.contextmanager
def told(lab, name):
    """Gives a function that reads events until one of that kind comes."""
    connection = UnixHTTP(f"{lab.runtime}/api.sock", 10)
    connection.request("GET", f"/v1/events?netns={name}")
    answer = connection.getresponse()

    def take(kind):
        while True:
            event = json.loads(answer.readline())
            if event["event"] == kind:
                return event
    yield take
    connection.close()


def check_degraded(lab, name):
    now, reason = state(lab, name)
    assert now == "degraded" and "nsgate-broker" in reason
    assert degraded_metric(lab, name) == ["1"]
    assert lab.stats(name)["state"] == "degraded"
    assert "degraded" in lab.must("ls").stdout


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("way", ["put", "rebind"])
def test_policy_changes_while_the_broker_is_away(own_lab, what, way):
    lab = own_lab.start()
    inner = lab.netns()
    lab.put_policy("p", **BEFORE)
    lab.put_policy("other", **CHANGES[what])
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    assert state(lab, "x") == ("attached", "")
    with told(lab, "x") as take:
        end(lab.broker)
        until(lambda: lab.http("GET", "/readyz").status == 503, "the broker to be missed")
        assert state(lab, "x") == ("attached", "")  # the kernel still holds all of it
        if way == "put":
            answer = lab.http("PUT", "/v1/policies/p", CHANGES[what])
        else:
            answer = lab.http("PUT", "/v1/namespaces/x/policy", {"policy": "other"})
        assert answer.status == 503 and answer.json["code"] == "broker-away"
        check_degraded(lab, "x")
        assert "nsgate-broker" in take("degraded")["detail"]
        lab.start_broker()
        take("healed")
    assert state(lab, "x") == ("attached", "")
    assert HOLDS[what] in inner.ruleset()
    assert degraded_metric(lab, "x") == ["0"]


def test_broker_that_does_not_answer(own_lab):
    lab = own_lab.start()
    inner = lab.netns()
    lab.put_policy("p", **BEFORE)
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    with told(lab, "x") as take:
        with stopped(lab.broker):
            started = time.monotonic()
            answer = lab.http("GET", "/readyz")
            assert answer.status == 503 and answer.json["code"] == "broker-silent"
            answer = lab.http("PUT", "/v1/policies/p", CHANGES["forward"])
            assert answer.status == 503 and "nsgate-broker does not answer" in answer.json["detail"]
            assert time.monotonic() - started < 10
            check_degraded(lab, "x")
            assert "has not answered" in take("degraded")["detail"]
            assert lab.http("GET", "/readyz").json["code"] == "broker-silent"
        take("healed")
    assert state(lab, "x") == ("attached", "")
    assert HOLDS["forward"] in inner.ruleset()
    assert lab.http("GET", "/readyz").status == 200


def test_all_is_well_once_it_is_said(lab):
    """Whoever has been answered finds the namespace attached, and no event tells of a fall."""
    inner = lab.netns()
    policies = [lab.policy(**BEFORE), lab.policy(**CHANGES["forward"])]
    with told(lab, inner.name) as take:
        for number in range(25):
            lab.must("attach", f"netns:{inner}", "--policy", policies[0])
            assert state(lab, inner.name) == ("attached", "")
            lab.must("namespace", "policy", inner.name, policies[1])
            assert state(lab, inner.name) == ("attached", "")
            lab.put_policy(policies[1], **CHANGES["strict" if number % 2 else "forward"])
            assert state(lab, inner.name) == ("attached", "")
            lab.detach(inner.name)
        for _ in range(25):
            take("detached")
    log = lab.log("nsgate-agent")
    assert f"event=degraded netns={inner.name}" not in log
    assert f"event=healed netns={inner.name}" not in log
