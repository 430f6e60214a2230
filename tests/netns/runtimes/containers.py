# SPDX-License-Identifier: GPL-2.0-or-later
"""
Containers by the runtimes that people use, from a root file system of little but busybox, and an
installation of nsgate (`make install`) that they find their hook in.
"""
import itertools
import json
import os
import shutil
import subprocess

from lab import BUILD, HERE, end, run, until

NUMBERS = itertools.count(1)
APPLETS = ("sh", "sleep", "ip", "true", "cat", "echo")
ROOT = os.path.dirname(os.path.dirname(HERE))


def send(address, *ports):
    """The command of a container that sends a datagram to each port."""
    return " ".join(["datagrams", address, *map(str, ports)])


class Container:
    """One that was started in the background; its name is its id too."""

    def __init__(self, machine, runtime, name, process, log):
        self.machine, self.runtime, self.name, self.process = machine, runtime, name, process
        self.log = log

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def state(self):
        done = run(*self.machine.command(self.runtime), "state", self.name, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def pid(self):
        return until(lambda: self.state().get("status") == "running" and self.state().get("pid"),
                     lambda: f"{self.name} to run: {self.text()}")

    def kill(self, signal="KILL"):
        run(*self.machine.command(self.runtime), "kill", self.name, signal, check=False)

    def wait(self, timeout=30):
        return self.process.wait(timeout)

    def remove(self):
        run(*self.machine.command(self.runtime), "delete", "--force", self.name, check=False)
        end(self.process)


class Machine:
    def __init__(self, lab):
        self.lab = lab
        self.dir = f"{lab.dir}/machine"
        self.prefix = f"{self.dir}/prefix"
        self.rootfs = f"{self.dir}/rootfs"
        self.hooks = f"{self.dir}/hooks.d"
        self.containers = []
        self.podman_used = False
        os.makedirs(self.dir)
        run("make", "--silent", "-C", ROOT, f"BUILD={BUILD}", f"PREFIX={self.prefix}", "install",
            env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")})
        self.hook = f"{self.prefix}/libexec/nsgate/oci-hook"
        self.shim = f"{self.prefix}/libexec/nsgate/nsgate-runc"
        self.make_rootfs()
        self.make_hooks_dir()

    def make_rootfs(self):
        for directory in ("bin", "proc", "sys", "dev", "etc", "tmp"):
            os.makedirs(f"{self.rootfs}/{directory}")
        shutil.copy(shutil.which("busybox"), f"{self.rootfs}/bin/busybox")
        run("cc", "-static", "-o", f"{self.rootfs}/bin/datagrams",
            os.path.join(os.path.dirname(os.path.abspath(__file__)), "datagrams.c"))
        for applet in APPLETS:
            os.symlink("busybox", f"{self.rootfs}/bin/{applet}")

    def make_hooks_dir(self):
        """The file that is installed, told where these daemons are as an operator would."""
        os.makedirs(self.hooks)
        with open(f"{self.prefix}/share/containers/oci/hooks.d/50-nsgate.json",
                  encoding="utf-8") as file:
            document = json.load(file)
        assert document["hook"]["path"] == self.hook
        document["hook"]["env"] = [f"NSGATE_RUNTIME_DIR={self.lab.runtime}"]
        with open(f"{self.hooks}/50-nsgate.json", "w", encoding="utf-8") as file:
            json.dump(document, file)

    # ---- runc and crun ----

    def command(self, runtime):
        root = ["--root", f"{self.dir}/{runtime}"]
        if runtime == "crun" and os.path.exists("/sys/fs/cgroup/unified"):
            # crun takes a machine with both kinds of cgroups for one that it does not know.
            return ["unshare", "--mount", "sh", "-c",
                    "umount /sys/fs/cgroup/unified; exec crun \"$@\"", "crun", *root]
        return [runtime, *root]

    def spec(self, script, annotations, netns, hooks):
        hook = {"path": self.hook, "timeout": 15,
                "args": ["nsgate-oci-hook", "--runtime-dir", self.lab.runtime]}
        namespaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
        if netns is not None:
            namespaces.append({"type": "network", **({"path": netns.path} if netns else {})})
        return {
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", script], "cwd": "/",
                        "env": ["PATH=/bin"], "capabilities": {
                            kind: ["CAP_NET_ADMIN"] for kind in
                            ("bounding", "effective", "permitted")}},
            "root": {"path": self.rootfs},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                       {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
            "annotations": annotations,
            "hooks": {"createRuntime": [hook], "poststop": [hook]} if hooks else {},
            "linux": {"namespaces": namespaces},
        }

    def bundle(self, name, script="exec sleep 600", annotations=None, netns=False, hooks=True):
        """
        A directory with a config.json. `netns`: the Netns to be in; False: one of its own, None:
        the host's.
        """
        path = f"{self.dir}/bundles/{name}"
        os.makedirs(path)
        with open(f"{path}/config.json", "w", encoding="utf-8") as file:
            json.dump(self.spec(script, annotations or {}, netns, hooks), file)
        return path

    def start(self, runtime, script="exec sleep 600", name=None, command=None, **keys):
        """Start a container in the background. Its standard output goes to a file."""
        name = name or f"c{next(NUMBERS)}"
        bundle = self.bundle(f"{name}-{next(NUMBERS)}", script, **keys)
        log = f"{bundle}/log"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [*(command or self.command(runtime)), "run", "--bundle", bundle, name],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
        container = Container(self, runtime, name, process, log)
        self.containers.append(container)
        return container

    def run(self, runtime, script, **keys):
        """Run a container to its end. Return: (exit code, what it and the runtime said)."""
        container = self.start(runtime, script, **keys)
        code = container.wait()
        return code, container.text()

    # ---- podman ----

    def podman(self, *args, check=True, **kwargs):
        self.podman_used = True
        return run("podman", *self.podman_options(), *args, check=check, stdin=subprocess.DEVNULL,
                   **kwargs)

    def podman_wrapper(self):
        """A directory for PATH: podman as it is used here."""
        directory = f"{self.dir}/bin"
        if not os.path.exists(directory):
            os.makedirs(directory)
            with open(f"{directory}/podman", "w", encoding="ascii") as file:
                file.write(f"#!/bin/sh\nexec {shutil.which('podman')} "
                           f"{' '.join(self.podman_options())} \"$@\"\n")
            os.chmod(f"{directory}/podman", 0o755)
        return directory

    def podman_options(self):
        return ["--root", f"{self.dir}/podman", "--runroot", f"{self.dir}/podman-run",
                "--storage-driver", "vfs", "--events-backend", "none", "--runtime", "runc",
                "--cgroup-manager", "cgroupfs", "--hooks-dir", self.hooks]

    def podman_run(self, *options, script="exec sleep 600", **kwargs):
        return self.podman("run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
                           *options, "--rootfs", self.rootfs, "sh", "-c", script, **kwargs)

    # ---- the end ----

    def clean(self):
        for container in self.containers:
            container.remove()
        self.containers.clear()
        if self.podman_used:
            self.podman("rm", "--all", "--force", "--time", "0", check=False)
            self.podman_used = False

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.clean()
