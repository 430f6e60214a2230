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


def unit_capabilities(program):
    text = (DEPLOY / "systemd" / f"{program}.service").read_text()
    return {name.removeprefix("CAP_") for name in
            re.search(r"^CapabilityBoundingSet=(.+)$", text, re.M)[1].split()}


@needs_kubectl
def test_base_renders_whole():
    text = run("kubectl", "kustomize", DEPLOY / "kubernetes").stdout
    assert re.findall(r"^kind: (\w+)$", text, re.M) == [
        "Namespace", "ServiceAccount", "ConfigMap", "DaemonSet", "PodMonitor"]
    # No object's name follows from its content: a policy is reloaded, not rolled out.
    assert "name: nsgate-policies\n" in text


# What the agent needs where it starts as root, to become its user in an empty network namespace.
# Under systemd it starts as that user; a container has no ambient capabilities.
AGENT_FROM_ROOT = {"NET_ADMIN", "SYS_ADMIN", "SETUID", "SETGID", "SETPCAP", "CHOWN", "FOWNER",
                   "DAC_OVERRIDE"}


@needs_kubectl
def test_containers_have_the_capabilities_of_the_daemons_and_no_more():
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
    assert found == {"broker": unit_capabilities("nsgate-broker"),
                     "agent": AGENT_FROM_ROOT, "metrics": set(),
                     "install-cni": set()}


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
