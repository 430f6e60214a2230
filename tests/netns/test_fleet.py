# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs nsgate on many hosts: manifests, alerts and the dashboard fit the programs."""
import json
import pathlib
import re
import shutil

import pytest

from lab import run, until

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
METRIC = re.compile(r"nsgate_[a-z0-9_]+")

needs_kubectl = pytest.mark.skipif(not shutil.which("kubectl"),
                                   reason="Debian's package kubernetes-client is not installed")


def metric_names(lab):
    return {line.split()[2] for line in lab.must("metrics").stdout.splitlines()
            if line.startswith("# TYPE")}


@pytest.mark.parametrize("file", ["grafana/nsgate.json", "prometheus/nsgate.rules.yml"])
def test_metrics_that_are_asked_for_exist(lab, file):
    asked = set(METRIC.findall((DEPLOY / file).read_text()))
    assert len(asked) > 3
    assert asked - metric_names(lab) == set()


@pytest.mark.skipif(not shutil.which("promtool"), reason="Debian's package prometheus is missing")
def test_alerts_and_the_dashboards_queries_are_valid(tmp_path):
    run("promtool", "check", "rules", DEPLOY / "prometheus" / "nsgate.rules.yml")
    dashboard = json.loads((DEPLOY / "grafana" / "nsgate.json").read_text())
    rules = [{"record": f"check:{n}", "expr": target["expr"].replace("$__rate_interval", "5m")
              .replace("$netns", ".*").replace("$instance", ".*")}
             for n, target in enumerate(t for p in dashboard["panels"] for t in p["targets"])]
    assert len(rules) > 10
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "x", "rules": rules}]}))
    run("promtool", "check", "rules", tmp_path / "rules.yml")


@needs_kubectl
def test_base_renders_whole():
    text = run("kubectl", "kustomize", DEPLOY / "kubernetes").stdout
    assert re.findall(r"^kind: (\w+)$", text, re.M) == [
        "Namespace", "ServiceAccount", "ConfigMap", "DaemonSet", "PodMonitor"]
    # No object's name follows from its content: a policy is reloaded, not rolled out.
    assert "name: nsgate-policies\n" in text


# More than their systemd units have: there the agent starts as its user, and both are given their
# sockets. A container's program starts as root, and gives up what it no longer needs by itself.
CAPABILITIES = {
    "broker": {"NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "SETPCAP", "CHOWN"},
    "agent": {"NET_ADMIN", "SYS_ADMIN", "SETUID", "SETGID", "SETPCAP", "CHOWN", "FOWNER",
              "DAC_OVERRIDE"},
    "metrics": set(), "install-cni": set()}


@needs_kubectl
def test_containers_have_the_capabilities_that_they_need_and_no_more():
    text = run("kubectl", "kustomize", DEPLOY / "kubernetes").stdout
    daemon_set = next(p for p in text.split("\n---\n") if "kind: DaemonSet" in p)
    assert "privileged: true" not in daemon_set
    found = {}
    for container in re.split(r"^      - (?=\w)", daemon_set, flags=re.M)[1:]:
        name = re.search(r"^        name: (\S+)$", container, re.M)
        added = re.search(r"add:\n((?: +- \w+\n)+)", container)
        if name and "securityContext" in container:
            assert re.search(r"drop:\n +- ALL", container), name[1]
            assert "allowPrivilegeEscalation: false" in container
            assert "readOnlyRootFilesystem: true" in container
            found[name[1]] = set(re.findall(r"- (\w+)", added[1])) if added else set()
    assert found == CAPABILITIES


def test_policies_of_the_base_are_valid(lab):
    policies = list((DEPLOY / "kubernetes" / "policies").glob("*.json"))
    assert policies
    for policy in policies:
        lab.must("policy", "check", policy)


def test_ready(own_lab):
    assert own_lab.ctl("ready").returncode == 3
    own_lab.start_agent()
    done = own_lab.ctl("ready")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    own_lab.start_broker()
    until(lambda: own_lab.ctl("ready").returncode == 0, "to be ready")
    assert own_lab.must("ready").stdout == ""
    assert json.loads(own_lab.must("ready", "--json").stdout)
