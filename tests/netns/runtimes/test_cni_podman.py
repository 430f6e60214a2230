# SPDX-License-Identifier: GPL-2.0-or-later
"""podman's CNI backend with this plugin after `bridge`, on containers of little but busybox."""
import json
import os
import shutil
import subprocess

import pytest

from lab import inside, program, run, until

APPLETS = ("sh", "ip", "nc", "sleep", "cat", "echo", "ping")
PLUGINS = "/usr/lib/cni"  # of Debian's containernetworking-plugins
POLICY = {"default": "drop",
          "rules": [{"name": "ok", "action": "accept", "protocol": ["tcp", "icmp"],
                     "dst": ["10.79.200.1"]}]}


class Podman:
    """
    podman with storage, networks and plugins of its own, in a network namespace that stands for the
    host's.
    """

    def __init__(self, lab):
        self.lab = lab
        self.dir = f"{lab.dir}/podman"
        self.rootfs = f"{self.dir}/rootfs"
        self.host = lab.netns("host")
        for name in ("root", "runroot", "tmp", "net.d", "plugins", *(
                f"rootfs/{d}" for d in ("bin", "etc", "proc", "dev", "sys", "tmp"))):
            os.makedirs(f"{self.dir}/{name}")
        shutil.copy(shutil.which("busybox"), f"{self.rootfs}/bin/busybox")
        for applet in APPLETS:
            os.symlink("busybox", f"{self.rootfs}/bin/{applet}")
        os.symlink(program("nsgate-cni"), f"{self.dir}/plugins/nsgate")
        self.write("containers.conf", f"""
[network]
network_backend = "cni"
cni_plugin_dirs = ["{self.dir}/plugins", "{PLUGINS}"]
network_config_dir = "{self.dir}/net.d"
[engine]
events_logger = "none"
""")
        self.network("gated", 200, policy="web")

    def write(self, name, text):
        with open(f"{self.dir}/{name}", "w", encoding="utf-8") as file:
            file.write(text)

    def network(self, name, net, **keys):
        """A network 10.79.NET.0/24 behind a bridge, whose containers are attached."""
        self.write(f"net.d/{name}.conflist", json.dumps({
            "cniVersion": "0.4.0", "name": name, "plugins": [
                {"type": "bridge", "bridge": f"gated{net}", "isGateway": True, "ipam": {
                    "type": "host-local", "dataDir": f"{self.dir}/ipam",
                    "ranges": [[{"subnet": f"10.79.{net}.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "nsgate", "runtimeDir": self.lab.runtime, **keys}]}))

    def __call__(self, *args, check=True):
        return self.host.exec(
            "podman", "--root", f"{self.dir}/root", "--runroot", f"{self.dir}/runroot",
            "--tmpdir", f"{self.dir}/tmp", "--storage-driver", "vfs", "--runtime", "runc",
            "--cgroup-manager", "cgroupfs", *args, check=check, stdin=subprocess.DEVNULL,
            env={**os.environ, "CONTAINERS_CONF": f"{self.dir}/containers.conf"})

    def run(self, *options, script="exec sleep 600", check=True):
        return self("run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", *options,
                    "--rootfs", self.rootfs, "sh", "-c", script, check=check)

    def leases(self, network="gated"):
        path = f"{self.dir}/ipam/{network}"
        names = os.listdir(path) if os.path.isdir(path) else []
        return [name for name in names if name[0].isdigit()]

    def close(self):
        self("rm", "--all", "--force", "--time", "0", check=False)
        # podman leaves a mount over its storage.
        for line in reversed(run("cat", "/proc/mounts").stdout.splitlines()):
            if line.split()[1].startswith(f"{self.dir}/"):
                run("umount", line.split()[1], check=False)


@pytest.fixture(name="podman")
def fixture_podman(own_lab):
    for name in ("podman", "runc", "busybox", f"{PLUGINS}/bridge"):
        if not shutil.which(name):
            pytest.skip(f"{name} is missing: deploy/deps.sh runtimes")
    own_lab.start()
    own_lab.put_policy("web", **POLICY)
    podman = Podman(own_lab)
    try:
        done = podman.run("--rm", "--network", "none", script="exit 0", check=False)
        if done.returncode:
            pytest.skip(f"podman runs no container here: {done.stderr}")
        yield podman
    finally:
        podman.close()


def test_container_is_under_its_policy_before_it_starts(podman):
    """The first thing that it does is to send what it may not, and what it may."""
    lab = podman.lab
    server = podman.host.tcp_listen(80)
    podman.run("--detach", "--name", "web", "--network", "gated", script=(
        "ping -c 2 -i 0.1 -W 1 10.79.200.77; "
        "echo hello | nc -w 5 10.79.200.1 80; exec sleep 600"))
    server.settimeout(30)
    connection = server.accept()[0]
    connection.settimeout(30)
    assert connection.recv(100) == b"hello\n"
    (name,) = lab.names()
    assert podman("inspect", "--format", "{{.Id}}", "web").stdout.startswith(name)
    document = lab.books(name)
    assert document["packets"]["dropped"] == 2 and document["rules"][0]["packets"] >= 1
    assert document["policy"] == "web"
    assert document["labels"]["io.nsgate.network"] == "gated"
    connection.close()
    podman("rm", "--force", "--time", "0", "web")
    assert not lab.names() and not podman.leases() and not os.listdir(f"{lab.runtime}/cni")


def test_container_does_not_start_without_its_policy(podman):
    lab = podman.lab
    assert lab.http("DELETE", "/v1/policies/web").status == 204
    done = podman.run("--rm", "--network", "gated", script="echo started", check=False)
    assert done.returncode and "started" not in done.stdout
    assert "nsgate refuses" in done.stderr and "policy web does not exist" in done.stderr
    assert not lab.names()


def test_two_networks_and_one_container(podman):
    lab = podman.lab
    podman.network("second", 201, policy="web")
    podman.run("--detach", "--name", "web", "--network", "gated", "--network", "second")
    (name,) = lab.names()
    podman("network", "disconnect", "second", "web")
    assert lab.names() == [name] and not podman.leases("second")
    podman("network", "connect", "second", "web")
    assert lab.names() == [name] and len(podman.leases("second")) == 1
    podman("rm", "--force", "--time", "0", "web")
    assert not lab.names() and not podman.leases() and not podman.leases("second")


def test_containers_come_and_go(podman):
    for number in range(4):
        podman.run("--detach", "--name", f"web{number}", "--network", "gated")
    assert len(podman.lab.names()) == 4
    podman("restart", "--time", "0", "web0")
    assert len(podman.lab.names()) == 4
    podman("rm", "--all", "--force", "--time", "0")
    assert not podman.lab.names() and not podman.leases()


def test_container_ends_while_the_broker_is_away(podman):
    """Its address is free again at once; what was attached goes with its namespace."""
    lab = podman.lab
    podman.run("--detach", "--name", "web", "--network", "gated")
    lab.broker.kill()
    lab.broker.wait()
    podman("rm", "--force", "--time", "0", "web")
    assert not podman.leases()
    done = podman.run("--rm", "--network", "gated", check=False)
    assert done.returncode and "nsgate-broker" in done.stderr
    assert not podman.leases()
    lab.start_broker()
    lab.wait_ready()
    until(lambda: not lab.names(), "the broker to notice")
    podman.run("--rm", "--network", "gated", script="exit 0")


def test_rules_are_in_the_namespace_of_the_container(podman):
    podman.run("--detach", "--name", "web", "--network", "gated")
    path = podman("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", "web").stdout.strip()
    with inside(path):
        assert "inet nsgate" in run("nft", "list", "tables").stdout
