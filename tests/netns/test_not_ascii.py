# SPDX-License-Identifier: GPL-2.0-or-later
"""
Letters outside ASCII in every place that reads JSON, and what is refused there: bytes that are no
UTF-8, and a number that fits into nothing. Whatever json-c thinks of them.
"""
import json
import os
import subprocess

import pytest

from lab import end, program, until

TEXT = "café Zürich €5 \U0001f6aa"
BAD_BYTES = b"caf\xe9"
BAD_NUMBER = b"99999999999999999999999"


def raw(document):
    """Not escaped, as most programs write it."""
    return json.dumps(document, ensure_ascii=False).encode()


def policy(comment=TEXT):
    return {"version": 1, "default": "accept", "comment": comment,
            "rules": [{"name": "web", "action": "accept", "dport": 80, "comment": comment}]}


# A document with one of these in it, for a place where a string may be.
REFUSED = [b'"' + BAD_BYTES + b'"', BAD_NUMBER]
refused = pytest.mark.parametrize("value", REFUSED, ids=["utf8", "number"])


def spoilt(document, value):
    """`document` with that value where it has the text."""
    return raw(document).replace(raw(TEXT), value)


def call(name, *args, text=b"", **kwargs):
    return subprocess.run([program(name), *args], input=text, capture_output=True, timeout=60,
                          check=False, **kwargs)


# ---- the API, and the files ----


def test_api(lab):
    assert lab.http("PUT", "/v1/policies/paris", raw(policy())).status == 201
    assert lab.get("/v1/policies/paris")["comment"] == TEXT
    netns = lab.netns()
    lab.must("attach", f"netns:{netns}", "--name", "a", "--policy", "paris")
    assert lab.stats("a")["state"] == "attached"


@refused
def test_api_refuses(lab, value):
    """As a bad document, which to send again would not help."""
    answer = lab.http("PUT", "/v1/policies/paris", spoilt(policy(), value))
    assert answer.status == 422 and len(answer.json["errors"]) == 1, answer
    assert lab.http("GET", "/v1/policies/paris").status == 404
    lab.put_policy("rome")
    netns = lab.netns()
    lab.must("attach", f"netns:{netns}", "--name", "a", "--policy", "rome")
    answer = lab.http("PUT", "/v1/namespaces/a/policy", spoilt({"policy": TEXT}, value))
    assert answer.status == 422, answer


def test_files_of_an_agent_that_starts(own_lab):
    """What is there when the system has been upgraded below it."""
    with open(f"{own_lab.policies}/paris.json", "wb") as file:
        file.write(raw(policy()))
    own_lab.start()
    netns = own_lab.netns()
    own_lab.must("attach", f"netns:{netns}", "--name", "a", "--policy", "paris")
    assert own_lab.stats("a")["state"] == "attached"
    end(own_lab.agent)
    own_lab.start_agent()
    own_lab.wait_ready()
    assert own_lab.stats("a")["state"] == "attached"


@refused
def test_files_that_are_bad(lab, value):
    """It is said, and not that memory is wanting."""
    path = f"{lab.policies}/paris.json"
    with open(f"{path}.new", "wb") as file:
        file.write(spoilt(policy(), value))
    os.rename(f"{path}.new", path)
    try:
        listed = until(lambda: [p for p in lab.get("/v1/policies")["policies"]
                                if p["name"] == "paris"], "the file to be seen")
        assert "memory" not in listed[0]["problem"] and "line 1" in listed[0]["problem"]
    finally:
        os.unlink(path)


# ---- the commands ----


def test_ctl(lab, tmp_path):
    path = tmp_path / "straße.json"
    path.write_bytes(raw(policy()))
    lab.must("policy", "check", path)
    lab.must("policy", "set", "paris", path)
    assert json.loads(lab.must("--json", "policy", "get", "paris").stdout)["comment"] == TEXT
    netns = lab.netns()
    lab.must("attach", f"netns:{netns}", "--name", "a", "--policy", "paris")


@refused
def test_ctl_refuses(lab, tmp_path, value):
    path = tmp_path / "p.json"
    path.write_bytes(spoilt(policy(), value))
    done = lab.ctl("policy", "check", path)
    assert done.returncode == 1 and "line 1" in done.stderr, done.stderr


# ---- runc's shim ----


def bundle(directory, text):
    path = directory / "config.json"
    path.write_bytes(text)
    return call("nsgate-runc", "--nsgate-runtime", "/bin/echo", "create", "--bundle", directory, "a")


def container():
    return {"ociVersion": "1.0.2", "annotations": {"io.nsgate.policy": "paris", TEXT: TEXT},
            "process": {"args": ["sh"], "env": [f"CITY={TEXT}", TEXT],
                        "rlimits": [{"type": "RLIMIT_AS", "hard": 2**64 - 1, "soft": -2**63}]}}


def test_shim(tmp_path):
    done = bundle(tmp_path, raw(container()))
    assert done.returncode == 0 and done.stdout.startswith(b"create"), done.stderr
    changed = json.loads((tmp_path / "config.json").read_bytes())
    assert len(changed.pop("hooks")["createRuntime"]) == 1
    assert changed == container()


@refused
def test_shim_refuses(tmp_path, value):
    text = spoilt(container(), value)
    done = bundle(tmp_path, text)
    assert done.returncode != 0 and done.stdout == b"" and b"not JSON" in done.stderr
    assert (tmp_path / "config.json").read_bytes() == text


# ---- the OCI hook ----


def hook(lab, text):
    return call("oci-hook", "--runtime-dir", lab.runtime, text=text)


def state(process, container_id):
    return {"ociVersion": "1.0.2", "id": container_id, "status": "created", "pid": process.pid,
            "bundle": f"/run/{TEXT}",
            "annotations": {"io.nsgate.policy": "paris", "city": TEXT}}


def sleeper(netns):
    process = netns.popen("sleep", "600")
    until(lambda: os.path.samefile(f"/proc/{process.pid}/ns/net", netns.path),
          "the process to be in its namespace")
    return process


def test_hook(lab):
    lab.put_policy("paris", **policy())
    process = sleeper(lab.netns())
    try:
        done = hook(lab, raw(state(process, "shop-1")))
        assert done.returncode == 0, done.stderr
        assert lab.names() == ["shop-1"]
    finally:
        end(process)


@refused
def test_hook_refuses(lab, value):
    lab.put_policy("paris", **policy())
    process = sleeper(lab.netns())
    try:
        done = hook(lab, spoilt(state(process, "shop-1"), value))
        assert done.returncode != 0 and b"not the state of a container" in done.stderr
        assert lab.names() == []
    finally:
        end(process)


# ---- CNI ----


def network(lab):
    return {"cniVersion": "1.0.0", "name": "net", "type": "nsgate", "policy": "paris",
            "runtimeDir": lab.runtime, "note": TEXT,
            "prevResult": {"cniVersion": "1.0.0", "dns": {"search": [TEXT]}}}


def plugin(lab, netns, text):
    variables = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "0123456789abcdef", "CNI_IFNAME": "eth0",
                 "CNI_NETNS": netns.path, "CNI_PATH": "/nowhere"}
    return call("nsgate-cni", text=text, env=variables)


def test_cni(lab):
    lab.put_policy("paris", **policy())
    done = plugin(lab, lab.netns(), raw(network(lab)))
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["dns"] == {"search": [TEXT]}
    assert len(lab.names()) == 1


@refused
def test_cni_refuses(lab, value):
    lab.put_policy("paris", **policy())
    done = plugin(lab, lab.netns(), spoilt(network(lab), value))
    assert done.returncode == 1 and json.loads(done.stdout)["code"] == 6
    assert lab.names() == []
