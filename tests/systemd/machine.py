# SPDX-License-Identifier: GPL-2.0-or-later
"""
A machine with a systemd of its own: a fresh Debian tree, with nsgate installed in a copy of it that
shares its files, booted in systemd-nspawn. Everything it is made of lies in one directory and one
cgroup, and goes with them.

Where NSGATE_TREE names a directory the tree is made there and stays, for the next run.
"""
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import archive
import booted
import lab
from lab import run, until

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PREFIX = "nsgate-machine-"
SERVICES = ("nsgate-broker.service", "nsgate-agent.service")
SOCKETS = ("nsgate-broker.socket", "nsgate-agent.socket", "nsgate-stats.socket",
           "nsgate-link.socket")
# How long a boot and what systemd does may take on a busy machine.
PATIENCE = 60.0

# Alone with its mounts: the unified cgroup hierarchy, whatever the host has mounted, and a /run
# that nspawn may leave things in. Its cgroup is one of its own below the root.
BOOT = """
set -e
mount --make-rprivate /
while umount -l /sys/fs/cgroup 2>/dev/null; do :; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
mkdir "/sys/fs/cgroup/$2"
echo $$ > "/sys/fs/cgroup/$2/cgroup.procs"
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --keep-unit --register=no --directory="$1" --volatile=overlay \\
    --private-network --machine="$2" --console=pipe --link-journal=no \\
    --system-call-filter=@sandbox --boot systemd.log_target=journal systemd.show_status=0
"""


def make_tree(directory):
    """Unless it is there, of the same packages, from a run before."""
    libraries = archive.libraries([lab.program(name) for name in lab.PROGRAMS])
    packages = ",".join(["systemd", "systemd-sysv", "dbus", "iproute2", "procps", *libraries])
    made_of = directory / "etc" / "nsgate-packages"
    if made_of.exists() and made_of.read_text(encoding="ascii") == packages:
        return
    with archive.made(directory) as tree:
        archive.debootstrap(tree, archive.release(), packages)
        (tree / "etc" / "nsgate-packages").write_text(packages, encoding="ascii")


def copy_tree(tree, directory):
    """With the same files, where that is possible: whoever changes one has to replace it."""
    if run("cp", "-al", tree, directory, check=False).returncode:
        shutil.rmtree(directory, ignore_errors=True)
        run("cp", "-a", tree, directory)


def install(directory):
    run("make", "--silent", "--no-print-directory", "-C", ROOT, f"BUILD={lab.BUILD}",
        f"DESTDIR={directory}", "PREFIX=/usr", "install", timeout=300)
    run("chroot", directory, "systemctl", "enable", *SERVICES)


class Machine(booted.Booted):
    """`installed`: with the programs and units of this source; else with nothing of nsgate."""

    def __init__(self, installed=True):
        remove_leftovers()
        self.installed = installed
        self.name = f"{PREFIX}{os.getpid()}-{next(lab.NUMBERS)}"
        self.dir = f"/var/tmp/{self.name}"
        os.mkdir(self.dir, 0o700)
        self.nspawn = None
        self.leader = None

    def boot(self):
        tree = pathlib.Path(os.environ.get("NSGATE_TREE") or f"{self.dir}/tree")
        make_tree(tree)
        root = f"{self.dir}/root"
        copy_tree(tree, root)
        if self.installed:
            install(root)
        with open(f"{self.dir}/console", "wb") as console:
            self.nspawn = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "sh", "-c", BOOT, "boot", root,
                 self.name],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True)
        until(self.find_leader, lambda: "a first process\n" + self.console(), PATIENCE)
        until(lambda: self.state() in ("running", "degraded"),
              lambda: f"the boot to end; it is {self.state()}\n" + self.console(), PATIENCE)

    def console(self):
        with open(f"{self.dir}/console", encoding="utf-8", errors="replace") as file:
            return file.read()[-2000:]

    def find_leader(self):
        assert self.nspawn.poll() is None, self.console()
        for pid in children(self.nspawn.pid):
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="ascii") == "systemd\n":
                    self.leader = pid
                    return True
        return False

    def state(self):
        return self.run("systemctl", "is-system-running", check=False).stdout.strip()

    # ---- inside ----

    def run(self, *args, **kwargs):
        return run("nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net",
                   "--pid", "--cgroup", *args, **kwargs)

    def path(self, path):
        """A path of the machine's, for us."""
        return f"/proc/{self.leader}/root{path}"

    def write(self, path, text):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(self.path(path), "w", encoding="utf-8") as file:
            file.write(text)

    def systemctl(self, *args, **kwargs):
        return self.run("systemctl", *args, timeout=PATIENCE, **kwargs)

    def show(self, unit, key):
        return self.systemctl("show", "--value", f"--property={key}", unit).stdout.strip()

    def main_pid(self, unit):
        """As it is called out here."""
        inside = self.show(unit, "MainPID")
        for pid in children(self.leader):
            with contextlib.suppress(OSError):
                status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
                if re.search(rf"^NSpid:.*\t{inside}$", status, re.M):
                    return pid
        return None

    def stored(self):
        return int(self.show("nsgate-broker.service", "NFileDescriptorStore"))

    def wait_stored(self, count):
        """systemd takes what it is sent when it comes to it."""
        until(lambda: self.stored() == count,
              lambda: f"{count} descriptors to be stored; there are {self.stored()}", PATIENCE)

    def journal(self, unit):
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    @contextlib.contextmanager
    def override(self, unit, text):
        """Settings of a service for a while."""
        path = f"/run/systemd/system/{unit}.d/test.conf"
        self.write(path, f"[Service]\n{text}\n")
        self.systemctl("daemon-reload")
        try:
            yield
        finally:
            os.unlink(self.path(path))
            self.systemctl("daemon-reload")

    # ---- the end ----

    def close(self):
        if self.nspawn:
            lab.end(self.nspawn)  # its payload has nspawn's death as its own
        remove_cgroup(self.name)
        shutil.rmtree(self.dir)


def children(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text(encoding="ascii").split()]
    return found


def remove_cgroup(name):
    """The cgroup of a machine, and what still runs in it."""
    mount = tempfile.mkdtemp(prefix=PREFIX)
    run("mount", "-t", "cgroup2", "cgroup2", mount)
    try:
        group = pathlib.Path(mount) / name
        if group.exists():
            with contextlib.suppress(OSError):
                (group / "cgroup.kill").write_text("1", encoding="ascii")
            until(lambda: "populated 0" in (group / "cgroup.events").read_text(encoding="ascii"),
                  "the machine to end", PATIENCE)
            for directory, _, _ in os.walk(group, topdown=False):
                os.rmdir(directory)
    finally:
        run("umount", mount)
        os.rmdir(mount)


def remove_leftovers():
    """What a run left behind whose process is no more."""
    for path in pathlib.Path("/var/tmp").glob(f"{PREFIX}[0-9]*-*"):
        if not lab.alive(int(re.match(rf"{PREFIX}(\d+)-", path.name)[1])):
            remove_cgroup(path.name)
            shutil.rmtree(path)


# ---- namespaces in the machine ----


class Netns(lab.Netns):
    def __init__(self, machine, name):
        super().__init__(name)
        self.machine = machine
        self.path = machine.path(f"/run/netns/{name}")

    def ip(self, *args, **kwargs):
        return self.exec("ip", *args, **kwargs)

    def delete(self):
        self.close()
        self.machine.run("ip", "netns", "del", self.name, check=False)


class Lab(lab.Lab):
    """What the tests between namespaces have, for the machine's own daemons."""

    def __init__(self, machine):  # pylint: disable=super-init-not-called
        self.machine = machine
        self.runtime = machine.path("/run/nsgate")
        self.namespaces = []
        self.links = lab.itertools.count()

    def netns(self, label="a"):
        made = Netns(self.machine, f"t{next(lab.NUMBERS)}-{label}")
        self.machine.run("ip", "netns", "add", made.name)
        self.namespaces.append(made)
        made.ip("link", "set", "lo", "up")
        return made

    def link(self, a, b, net=0, names=("eth0", "eth0"), reach=False):
        add, ends = self.link_commands(a, b, net, names)
        self.machine.run("ip", *add.split())
        for netns, commands in zip((a, b), ends):
            netns.ip("-batch", "-", input="\n".join(commands))
        for netns, dev in zip((a, b), names):
            until(lambda n=netns, d=dev: "LOWER_UP" in n.ip("link", "show", d).stdout,
                  "the link to come up")

    def ctl(self, *args, **kwargs):
        return self.machine.run("nsgatectl", *map(str, args), check=False, **kwargs)

    def delete_namespaces(self):
        for netns in self.namespaces:
            netns.delete()
        self.namespaces.clear()
