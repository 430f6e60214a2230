# SPDX-License-Identifier: GPL-2.0-or-later
"""
podman of an ordinary user: its containers live in a child user namespace. The user is one that the
shared lab's broker was told of by --admin; the files that make it one are mounted for it alone.
"""
import contextlib
import os
import shutil
import signal
import subprocess

import pytest

from containers import send
from lab import end, run, until

USER = "ngt-user"
UID = 4321  # of --admin, see Lab.start()
STRANGER = 4322
POLICY = {"default": "drop",
          "rules": [{"name": "ok", "action": "accept", "protocol": "udp", "dport": [7]}]}
TALK = "ip link set lo up; " + send("127.0.0.1", 9, 7) + "; exec sleep 600"


class Rootless:
    def __init__(self, machine, uid):
        self.machine, self.uid = machine, uid
        self.dir = f"{machine.dir}/rootless-{uid}"
        self.home = f"{self.dir}/home"
        self.run_dir = f"{self.dir}/run"
        os.makedirs(self.home)
        os.makedirs(self.run_dir, 0o700)
        shutil.copytree(machine.rootfs, f"{self.home}/rootfs", symlinks=True)
        for path in (self.home, self.run_dir):
            run("chown", "-R", f"{uid}:{uid}", path)
        shutil.copy("/etc/passwd", self.dir)
        with open(f"{self.dir}/passwd", "a", encoding="ascii") as file:
            file.write(f"{USER}:x:{uid}:{uid}::{self.home}:/bin/sh\n")
        with open(f"{self.dir}/subid", "w", encoding="ascii") as file:
            file.write(f"{USER}:{uid * 100000}:65536\n")
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec",
             'mount --bind "$0/passwd" /etc/passwd; mount --bind "$0/subid" /etc/subuid; '
             'mount --bind "$0/subid" /etc/subgid; umount /sys/fs/cgroup/unified || true; '
             "mount --make-rshared /; echo ready; exec sleep 3600", self.dir],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.holder.stdout.readline() == "ready\n"

    def command(self, *args):
        return ["nsenter", "--mount", f"--target={self.holder.pid}", f"--wd={self.home}",
                "setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups",
                "env", "-i", f"PATH={self.home}/bin:/usr/bin:/usr/sbin:/bin", f"HOME={self.home}",
                f"XDG_RUNTIME_DIR={self.run_dir}", *args]

    def __call__(self, *args, check=True):
        return run(*self.command(*args), check=check, stdin=subprocess.DEVNULL)

    def podman(self, *args, **kwargs):
        return self("podman", "--runtime", "crun", "--storage-driver", "vfs", "--events-backend",
                    "none", "--cgroup-manager", "cgroupfs", "--hooks-dir", self.machine.hooks,
                    *args, **kwargs)

    def start(self, name, *options, **kwargs):
        return self.podman("run", "--detach", "--name", name, "--cgroups", "disabled",
                           "--cap-add", "NET_ADMIN", "--ulimit", "nofile=1024:1024", "--ulimit",
                           "nproc=1024:1024", "--network", "none", *options, "--rootfs",
                           f"{self.home}/rootfs", "sh", "-c", TALK, **kwargs)

    def close(self):
        self.podman("rm", "--all", "--force", "--time", "0", check=False)
        # What podman leaves to keep the user namespace.
        with contextlib.suppress(OSError, ValueError):
            with open(f"{self.run_dir}/libpod/tmp/pause.pid", encoding="ascii") as file:
                os.kill(int(file.read()), signal.SIGKILL)
        end(self.holder)


@pytest.fixture
def user(machine):
    machine.lab.put_policy("web", **POLICY)
    with contextlib.ExitStack() as stack:
        def make(uid):
            made = Rootless(machine, uid)
            stack.callback(shutil.rmtree, made.dir, ignore_errors=True)
            stack.callback(made.close)
            return made
        yield make


def is_rootless(pid):
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
        return int(file.read().split()[1]) == UID


def test_hook(machine, user):
    """The hook is the user's own process, in the user namespace."""
    lab, rootless = machine.lab, user(UID)
    rootless.start("shop", "--annotation", "io.nsgate.policy=web", "--annotation",
                   "io.nsgate.name=shop")
    pid = rootless.podman("inspect", "--format", "{{.State.Pid}}", "shop").stdout
    assert is_rootless(int(pid))
    until(lambda: lab.stats("shop")["rules"][0]["packets"] == 2,
          lambda: f"it to talk: {lab.stats('shop')}")
    assert lab.books("shop")["packets"]["dropped"] >= 1
    rootless.podman("rm", "--force", "--time", "0", "shop")
    until(lambda: lab.names() == [], "it to be let go of")


def test_hook_of_a_stranger(machine, user):
    """Who may not attach starts no container that asks for it."""
    rootless = user(STRANGER)
    done = rootless.start("shop", "--annotation", "io.nsgate.policy=web", check=False)
    assert done.returncode != 0
    assert machine.lab.names() == []
    assert rootless.start("other").returncode == 0


def test_attach(machine, user):
    lab, rootless = machine.lab, user(UID)
    rootless.start("shop")
    pid = int(rootless.podman("inspect", "--format", "{{.State.Pid}}", "shop").stdout)
    assert is_rootless(pid)
    # By root, whose podman knows nothing of it; and by the user, by name.
    lab.must("attach", f"pid:{pid}", "--policy", "web", "--name", "by-pid")
    rootless.podman("exec", "shop", "sh", "-c", send("127.0.0.1", 9, 7))
    until(lambda: lab.stats("by-pid")["rules"][0]["packets"] == 2,
          lambda: f"it to talk: {lab.stats('by-pid')}")
    assert lab.books("by-pid")["packets"]["dropped"] >= 1
    lab.detach("by-pid")
    done = rootless(f"{machine.prefix}/bin/nsgatectl", "--runtime-dir", lab.runtime, "attach",
                    "podman:shop", "--policy", "web", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert lab.names() == ["shop"]
