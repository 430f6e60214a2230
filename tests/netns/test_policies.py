# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies come by HTTP and from the directory, are swapped whole, and heal what lacks them."""
import contextlib
import json
import os
import socket
import threading

import pytest

from lab import Arrivals, UnixHTTP, end, rule_counts, until

SEVEN = {"version": 1, "default": "drop",
         "rules": [{"name": "seven", "action": "accept", "direction": "in", "dport": [7]}]}
EIGHT = {"version": 1, "default": "drop",
         "rules": [{"name": "eight", "action": "accept", "direction": "in", "dport": [8]}]}


def write(lab, name, document, directory=None):
    """As an editor does: a temporary file, then a rename."""
    directory = directory or lab.policies
    text = document if isinstance(document, str) else json.dumps(document)
    with open(f"{directory}/.{name}.tmp", "w", encoding="ascii") as file:
        file.write(text)
    os.rename(f"{directory}/.{name}.tmp", f"{directory}/{name}.json")


@pytest.fixture
def scene(lab):
    inner, outside = lab.pair()
    lab.put_policy("p", **SEVEN)
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    yield lab, inner, outside


def judges_by(lab, inner, outside, rule):
    """Five datagrams each to 7 and 8: what the namespace accepts is what `rule` says."""
    open_port = {"seven": 7, "eight": 8, None: 0}[rule]
    arrived = Arrivals(inner, 7, 8, families=[socket.AF_INET])
    before = lab.stats("x")["packets"]
    for port in (7, 8):
        outside.send("10.77.0.1", port, 5)
    passed = 5 if rule else 0
    lab.expect("x", {"packets.seen": before["seen"] + 10,
                     "packets.accepted": before["accepted"] + passed,
                     "packets.dropped": before["dropped"] + 10 - passed})
    arrived.wait(passed)
    assert arrived.seen == {(p, 4): 5 if p == open_port else 0 for p in (7, 8)}
    arrived.close()


# ---- by HTTP ----


def test_put_is_in_force_when_it_is_answered(scene):
    lab, inner, outside = scene
    for turn in range(20):
        policy, rule = ((EIGHT, "eight"), (SEVEN, "seven"))[turn % 2]
        answer = lab.http("PUT", "/v1/policies/p", policy)
        assert answer.status == 200 and answer.json == policy
        assert lab.stats("x")["rules"][0]["name"] == rule
        judges_by(lab, inner, outside, rule)


def test_put_get_list_delete(lab):
    assert lab.http("PUT", "/v1/policies/p", SEVEN).status == 201
    assert lab.http("PUT", "/v1/policies/p", EIGHT).status == 200
    assert lab.get("/v1/policies/p") == EIGHT
    with open(f"{lab.policies}/p.json", encoding="ascii") as file:
        assert json.load(file) == EIGHT
    listed = lab.get("/v1/policies")["policies"]
    assert [(p["name"], p["rules"], p["namespaces"]) for p in listed] == [("p", 1, 0)]
    assert lab.http("DELETE", "/v1/policies/p").status == 204
    assert not os.path.exists(f"{lab.policies}/p.json")
    assert lab.http("GET", "/v1/policies/p").status == 404
    assert lab.get("/v1/policies")["policies"] == []


def test_check_changes_nothing(lab):
    assert lab.http("POST", "/v1/policies:check", SEVEN).status == 200
    assert lab.http("POST", "/v1/policies:check", SEVEN | {"version": 3}).status == 422
    assert lab.get("/v1/policies")["policies"] == []


def test_ctl_does_the_same(lab):
    file = f"{lab.dir}/seven.json"
    with open(file, "w", encoding="ascii") as out:
        json.dump(SEVEN, out)
    assert lab.must("policy", "check", file).stderr == ""
    lab.must("policy", "set", "p", file)
    assert json.loads(lab.must("policy", "get", "p").stdout) == SEVEN
    assert "p" in lab.must("policy", "ls").stdout
    lab.must("policy", "rm", "p")
    assert lab.get("/v1/policies")["policies"] == []
    schema = json.loads(lab.must("schema").stdout)
    assert schema["$schema"].endswith("2020-12/schema")


def test_policy_in_use_is_not_deleted_without_force(scene):
    lab, inner, outside = scene
    answer = lab.http("DELETE", "/v1/policies/p")
    assert answer.status == 409 and "bound" in answer.json["detail"]
    done = lab.ctl("policy", "rm", "p")
    assert done.returncode == 1 and "force" in done.stderr, done.stderr
    judges_by(lab, inner, outside, "seven")
    lab.must("policy", "rm", "p", "--force")
    stats = lab.expect("x", {"state": "degraded"})
    assert "p" in stats["reason"]
    judges_by(lab, inner, outside, None)
    assert lab.stats("x")["no_policy"]["packets"] == 10
    lab.put_policy("p", **SEVEN)
    assert lab.stats("x")["state"] == "attached"
    judges_by(lab, inner, outside, "seven")


def test_pending_attach_heals_when_the_policy_comes(lab):
    inner, outside = lab.pair()
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "late", "--pending")
    assert lab.stats("x")["state"] == "degraded" and "late" in lab.stats("x")["reason"]
    judges_by(lab, inner, outside, None)
    write(lab, "late", SEVEN)
    lab.expect("x", {"state": "attached"})
    judges_by(lab, inner, outside, "seven")


def test_default_policy_accept(own_lab):
    lab = own_lab
    lab.start_broker()
    lab.start_agent("--default-policy", "accept")
    lab.wait_ready()
    inner, outside = lab.pair()
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "late", "--pending")
    arrived = Arrivals(inner, 7)
    outside.send("10.77.0.1", 7, 5)
    arrived.wait(5)
    stats = lab.expect("x", {"packets.accepted": 5, "no_policy.packets": 5})
    assert stats["state"] == "degraded"


def test_rebind(scene):
    lab, inner, outside = scene
    lab.put_policy("q", **EIGHT)
    judges_by(lab, inner, outside, "seven")
    lab.must("namespace", "policy", "x", "q")
    assert lab.stats("x")["policy"] == "q"
    judges_by(lab, inner, outside, "eight")
    answer = lab.http("PUT", "/v1/namespaces/x/policy", {"policy": "p"})
    assert answer.status == 200 and answer.json["policy"] == "p"
    judges_by(lab, inner, outside, "seven")
    # The one that is not in use any more may go.
    assert lab.http("DELETE", "/v1/policies/q").status == 204


def test_hooks_may_change(scene):
    lab, inner, outside = scene
    lab.put_policy("p", hooks=["out"], default="drop")
    arrived = Arrivals(inner, 9), Arrivals(outside, 9)
    outside.send("10.77.0.1", 9, 5)
    arrived[0].wait(5)
    inner.send("10.77.0.2", 9, 5)
    lab.expect("x", {"packets.seen": 5, "packets.dropped": 5, "direction.out.packets": 5})
    lab.put_policy("p", hooks=["in"], default="drop")
    inner.send("10.77.0.2", 9, 5)
    arrived[1].wait(5)
    outside.send("10.77.0.1", 9, 5)
    lab.expect("x", {"packets.seen": 10, "packets.dropped": 10, "direction.in.packets": 5})


def test_counters_of_rules_that_keep_their_name_go_on(scene):
    lab, inner, outside = scene
    judges_by(lab, inner, outside, "seven")
    lab.put_policy("p", default="drop", rules=[
        {"name": "other", "action": "drop", "dport": [9]}, *SEVEN["rules"]])
    judges_by(lab, inner, outside, "seven")
    assert rule_counts(lab.stats("x")) == {"other": 0, "seven": 10}


def test_counters_come_back_with_their_policy(scene):
    """They never fall while they can be seen, and a restart of the agent changes nothing."""
    lab, inner, outside = scene
    lab.put_policy("q", default="drop", rules=[*EIGHT["rules"]])
    judges_by(lab, inner, outside, "seven")
    lab.must("namespace", "policy", "x", "q")
    assert rule_counts(lab.stats("x")) == {"eight": 0}
    assert lab.stats("x")["default"]["packets"] == 0
    judges_by(lab, inner, outside, "eight")
    end(lab.agent)
    lab.start_agent()
    lab.wait_ready()
    assert rule_counts(lab.stats("x")) == {"eight": 5}
    assert lab.stats("x")["default"]["packets"] == 5
    lab.must("namespace", "policy", "x", "p")
    assert rule_counts(lab.stats("x")) == {"seven": 5}
    assert lab.stats("x")["default"]["packets"] == 5
    judges_by(lab, inner, outside, "seven")
    # A change of the policy takes a rule away and brings it back.
    lab.put_policy("p", default="drop")
    judges_by(lab, inner, outside, None)
    lab.put_policy("p", **SEVEN)
    assert rule_counts(lab.stats("x")) == {"seven": 10}
    assert lab.stats("x")["default"]["packets"] == 20
    lab.must("namespace", "policy", "x", "q")
    assert rule_counts(lab.stats("x")) == {"eight": 5}
    assert lab.stats("x")["default"]["packets"] == 5


# ---- from the directory ----


def test_file_that_changes_is_loaded(scene):
    lab, inner, outside = scene
    write(lab, "p", EIGHT)
    until(lambda: lab.stats("x")["rules"][0]["name"] == "eight", "the file to be loaded")
    judges_by(lab, inner, outside, "eight")
    with open(f"{lab.policies}/p.json", "w", encoding="ascii") as file:  # in place
        json.dump(SEVEN, file)
    until(lambda: lab.stats("x")["rules"][0]["name"] == "seven", "the file to be loaded")
    judges_by(lab, inner, outside, "seven")


def test_bad_file_keeps_the_old_policy_and_is_reported(scene):
    lab, inner, outside = scene
    for text in ("", "{", '{"version":1,"rulez":[]}', '{"version":1}' + " " * (1 << 20)):
        write(lab, "p", text)
        problem = until(lambda: lab.get("/v1/policies")["policies"][0].get("problem"),
                        "the problem to be reported")
        assert "\n" not in problem
        assert lab.stats("x")["state"] == "attached"
        judges_by(lab, inner, outside, "seven")
        assert lab.get("/v1/policies/p") == SEVEN
        write(lab, "p", SEVEN)
        until(lambda: "problem" not in lab.get("/v1/policies")["policies"][0],
              "the problem to be over")


def doctor(lab, check):
    checks = json.loads(lab.ctl("--json", "doctor").stdout)["checks"]
    return next((c for c in checks if c["name"] == check), None)


def metric(lab, name):
    return [line.rsplit(" ", 1)[1] for line in lab.http("GET", "/metrics").body.decode().splitlines()
            if line.startswith(name) and line[len(name)] in "{ "]


def test_bad_file_is_told_wherever_one_looks(scene):
    lab, *_ = scene
    assert "policy_problem" not in lab.stats("x") and metric(lab, "nsgate_policies_bad") == ["0"]
    assert doctor(lab, "policy files")["status"] == "ok"
    connection = UnixHTTP(f"{lab.runtime}/api.sock", 10)
    connection.request("GET", "/v1/events?netns=x")
    events = connection.getresponse()
    write(lab, "p", '{"version":1,"rulez":[]}')
    event = json.loads(events.readline())
    assert event["event"] == "policy.bad" and event["netns"] == "x" and "rulez" in event["detail"]
    assert lab.stats("x")["state"] == "attached"
    for document in (lab.stats("x"), lab.get("/v1/namespaces/x"),
                     json.loads(lab.must("--json", "ls").stdout)["namespaces"][0]):
        assert "rulez" in document["policy_problem"], document
    for words in (("show", "x"), ("stats", "x"), ("policy", "ls")):
        assert "rulez" in lab.must(*words).stdout, words
    assert "p (bad file)" in lab.must("ls").stdout
    finding = doctor(lab, "policy p")
    assert finding["status"] == "warn" and "rulez" in finding["detail"]
    assert metric(lab, "nsgate_namespace_policy_bad") == ["1"]
    assert metric(lab, "nsgate_policies_bad") == ["1"]
    write(lab, "p", SEVEN)
    assert json.loads(events.readline())["event"] == "policy.mended"
    assert "policy_problem" not in lab.stats("x")
    assert "bad file" not in lab.must("ls").stdout
    assert metric(lab, "nsgate_namespace_policy_bad") == ["0"]
    connection.close()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_last_good_version_serves_after_a_restart(own_lab, when):
    """The file goes bad, the agent ends, and the next one has never seen it good."""
    lab = own_lab.start()
    inner, outside = lab.pair()
    write(lab, "p", EIGHT)
    lab.put_policy("p", **SEVEN)
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    judges_by(lab, inner, outside, "seven")
    for bad in ('{"version":1,"rulez":[]}', "{"):
        if when == "before":
            write(lab, "p", bad)
            until(lambda: "policy_problem" in lab.stats("x"), "the file to be found bad")
        end(lab.agent)
        write(lab, "p", bad)
        lab.start_agent()
        lab.wait_ready()
        lab.expect("x", {"state": "attached"})
        assert "policy_problem" in lab.stats("x")
        judges_by(lab, inner, outside, "seven")
        assert lab.get("/v1/policies/p") == SEVEN
        # Whoever comes now is judged by it, too, as before the restart.
        other, _ = lab.pair("b")
        lab.must("attach", f"netns:{other}", "--name", "y", "--policy", "p")
        lab.detach("y")
    write(lab, "p", EIGHT)
    lab.expect("x", {"rules.eight": 0})
    judges_by(lab, inner, outside, "eight")
    # What is removed while no agent runs does not come back, though the file is bad again.
    end(lab.agent)
    os.unlink(f"{lab.policies}/p.json")
    lab.start_agent()
    lab.wait_ready()
    lab.expect("x", {"state": "degraded"})
    write(lab, "p", "{")
    until(lambda: "policy_problem" in lab.stats("x"), "the file to be found bad")
    assert lab.stats("x")["state"] == "degraded"
    judges_by(lab, inner, outside, None)


def test_last_good_versions_are_the_agents_alone(lab):
    lab.put_policy("p", **SEVEN)
    state = os.stat(f"{lab.runtime}/last-good")
    assert state.st_mode & 0o777 == 0o700 and state.st_uid != 0
    with open(f"{lab.runtime}/last-good/p.json", encoding="ascii") as file:
        assert json.load(file)["rules"] == SEVEN["rules"]
    assert lab.http("DELETE", "/v1/policies/p").status == 204
    assert os.listdir(f"{lab.runtime}/last-good") == []


def test_removed_file_degrades_and_heals(scene):
    lab, inner, outside = scene
    os.unlink(f"{lab.policies}/p.json")
    lab.expect("x", {"state": "degraded"})
    judges_by(lab, inner, outside, None)
    write(lab, "p", EIGHT)
    lab.expect("x", {"state": "attached"})
    judges_by(lab, inner, outside, "eight")


def test_configmap_symlink_swap(own_lab):
    """The directory as Kubernetes mounts it: NAME.json -> ..data/NAME.json, ..data swapped."""
    lab = own_lab

    def version(number, document):
        directory = f"{lab.policies}/..{number}"
        os.mkdir(directory)
        write(lab, "p", document, directory)
        os.symlink(f"..{number}", f"{lab.policies}/..data_tmp")
        os.rename(f"{lab.policies}/..data_tmp", f"{lab.policies}/..data")

    version(1, SEVEN)
    os.symlink("..data/p.json", f"{lab.policies}/p.json")
    lab.start()
    inner, outside = lab.pair()
    lab.must("attach", f"netns:{inner}", "--name", "x", "--policy", "p")
    judges_by(lab, inner, outside, "seven")
    for number in range(2, 6):
        document, rule = ((EIGHT, "eight"), (SEVEN, "seven"))[number % 2]
        version(number, document)
        os.unlink(f"{lab.policies}/..{number - 1}/p.json")
        os.rmdir(f"{lab.policies}/..{number - 1}")
        until(lambda r=rule: lab.stats("x")["rules"] and lab.stats("x")["rules"][0]["name"] == r,
              "the swap to be noticed")
        until(lambda: lab.stats("x")["state"] == "attached", "the kernel to have its rules")
        judges_by(lab, inner, outside, rule)


def test_files_that_are_no_policies_are_left_alone(lab):
    for name in ("README", "x.json~", ".hidden.json", "a b.json"):
        with open(f"{lab.policies}/{name}", "w", encoding="ascii") as file:
            file.write("nonsense")
    os.mkdir(f"{lab.policies}/dir.json")
    os.mkfifo(f"{lab.policies}/fifo.json")
    try:
        lab.put_policy("good")
        until(lambda: "good" in [p["name"] for p in lab.get("/v1/policies")["policies"]], "good")
        assert lab.http("GET", "/v1/policies/fifo").status == 404
        assert lab.http("GET", "/v1/policies/dir").status == 404
    finally:
        for name in ("README", "x.json~", ".hidden.json", "a b.json", "fifo.json"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{lab.policies}/{name}")
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(f"{lab.policies}/dir.json")


# ---- under load ----


def test_swaps_under_load_lose_nothing(scene):
    """Two policies that both let 7 pass and differ in 8; no packet is judged by a mixture."""
    lab, inner, outside = scene
    arrived = Arrivals(inner, 7, families=[socket.AF_INET])
    pending = inner.pending()
    sender = outside.udp()
    stop = threading.Event()
    sent = [0]

    def load():
        while not stop.is_set():
            if pending() > 2000:
                stop.wait(0.001)
                continue
            for _ in range(20):
                sender.sendto(sent[0].to_bytes(4, "big"), ("10.77.0.1", 7))
                sent[0] += 1
            stop.wait(0.001)
    thread = threading.Thread(target=load)
    thread.start()
    try:
        for turn in range(100):
            lab.put_policy("p", default="drop", rules=[
                {"name": f"filler{i}", "action": "drop", "dport": [100 + i]}
                for i in range(turn % 3)] + [
                {"name": "seven", "action": "accept", "dport": [7]}])
    finally:
        stop.set()
        thread.join(10)
    until(lambda: arrived.total(keep=True) >= sent[0],
          lambda: f"{sent[0]} to arrive; there are {arrived.seen}")
    numbers = sorted(int.from_bytes(p, "big") for p in arrived.payloads[7, 4])
    assert numbers == list(range(sent[0]))
    lab.expect("x", {"rules.seven": sent[0], "packets.accepted": sent[0],
                     "packets.seen": sent[0], "queue.dropped": 0, "queue.user_dropped": 0})
