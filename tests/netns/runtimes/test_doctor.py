# SPDX-License-Identifier: GPL-2.0-or-later
"""What `nsgatectl doctor` says of container runtimes, on machines that are made up by bind mounts."""
import json
import os

import pytest

from lab import program, run


@pytest.fixture
def doctor(machine):
    """A function: {path below /usr/share/containers or /etc: contents} -> [(name, status, detail)]."""

    def look(files):
        number = len(os.listdir(machine.dir))
        roots = {place: f"{machine.dir}/doctor-{number}{place}"
                 for place in ("/usr/share/containers", "/etc")}
        for root in roots.values():
            os.makedirs(root)
        for path, contents in files.items():
            place = next(p for p in roots if path.startswith(p))
            target = roots[place] + path[len(place):]
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "w", encoding="utf-8") as file:
                file.write(contents if isinstance(contents, str) else json.dumps(contents))
        mounts = "".join(f"mount --bind {root} {place}; " for place, root in roots.items())
        done = run("unshare", "--mount", "sh", "-ec", mounts + 'exec "$@"', "sh",
                   program("nsgatectl"), "--runtime-dir", machine.lab.runtime, "doctor", "--json",
                   check=False)
        return {check["name"]: (check["status"], check["detail"], check["remedy"])
                for check in json.loads(done.stdout)["checks"]}
    return look


def test_cgroups(doctor):
    status, detail, _ = doctor({})["cgroups"]
    mode = next(m for m in ("unified", "hybrid", "legacy") if detail.startswith(m))
    with open("/proc/mounts", encoding="ascii") as file:
        mounts = [line.split()[1:3] for line in file]
    assert (mode == "unified") == (["/sys/fs/cgroup", "cgroup2"] in mounts)
    assert (mode == "hybrid") == (["/sys/fs/cgroup/unified", "cgroup2"] in mounts)
    assert status == ("warn" if mode == "hybrid" else "ok")


def test_nothing_is_set_up(doctor):
    found = doctor({})
    for name in ("oci-hook", "docker-runtime"):
        status, detail, remedy = found[name]
        assert status == "warn" and "no effect" in detail and remedy


@pytest.mark.parametrize("where", ["/usr/share", "/etc"])
def test_hook(doctor, machine, where):
    path = f"{where}/containers/oci/hooks.d/50-nsgate.json"
    with open(f"{machine.hooks}/50-nsgate.json", encoding="utf-8") as file:
        document = json.load(file)
    others = {f"{where}/containers/oci/hooks.d/a.json": "{",
              f"{where}/containers/oci/hooks.d/b.json": {"hook": {"path": "/bin/true"}},
              f"{where}/containers/oci/hooks.d/c": document}
    assert doctor(others)["oci-hook"][0] == "warn"
    assert doctor({**others, path: document})["oci-hook"] == (
        "ok", f"{path} starts {machine.hook}", "")
    document["hook"]["path"] = "/nowhere/nsgate/oci-hook"
    status, detail, remedy = doctor({path: document})["oci-hook"]
    assert status == "fail" and "/nowhere/nsgate/oci-hook: No such file" in detail and remedy


def test_docker(doctor, machine):
    path = "/etc/docker/daemon.json"
    assert doctor({path: {"runtimes": {"a": {"path": "/bin/true"}, "b": 1}}})[
        "docker-runtime"][0] == "warn"
    assert doctor({path: {"runtimes": {"nsgate": {"path": machine.shim}}}})["docker-runtime"] == (
        "ok", f"{path} starts {machine.shim}", "")
    assert doctor({path: {"runtimes": {"nsgate": {"path": "/x/nsgate/nsgate-runc"}}}})[
        "docker-runtime"][0] == "fail"
    assert doctor({path: "nonsense"})["docker-runtime"][0] == "warn"
