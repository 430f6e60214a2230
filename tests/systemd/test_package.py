# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian package on a machine: it installs, upgrades under traffic, and goes without a trace."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile

import pytest

import lab as labs
import machine as machines
from lab import Arrivals, run, until
from machine import PATIENCE, ROOT, SERVICES, SOCKETS
from test_restarts import POLICY, Stream, never_lower

BROKER, AGENT = SERVICES
METRICS = "nsgate-metrics.service"
# Not the package's: the books of dpkg and apt, logs, and the copies that are made of /etc/passwd
# and the like when a user comes or goes.
NOT_OURS = re.compile(r"/(proc|sys|dev)/|/var/(lib|cache)/(dpkg|apt|debconf)/|/var/cache/ldconfig/"
                      r"|/var/log/|/run/(log|systemd/journal|lock)/"
                      r"|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$|/root/nsgate_")


def newest(paths):
    return max(os.stat(path).st_mtime for path in paths)


@pytest.fixture(scope="module")
def packages():
    """The package, and one of a later version that has the same in it."""
    def built():
        return [path for path in pathlib.Path(labs.BUILD, "deb").glob("nsgate_*.deb")]

    sources = [labs.program(name) for name in labs.PROGRAMS]
    sources += [ROOT / "Makefile", *(p for p in (ROOT / "deploy").rglob("*") if p.is_file())]
    if not built() or newest(built()) < newest(sources):
        run("make", "--silent", f"BUILD={labs.BUILD}", "deb", cwd=ROOT, timeout=300)
    old, = built()
    with tempfile.TemporaryDirectory(prefix=machines.PREFIX) as directory:
        run("dpkg-deb", "-R", old, f"{directory}/later")
        control = pathlib.Path(directory, "later/DEBIAN/control")
        control.write_text(re.sub(r"(?m)^Version: .*", r"\g<0>.1", control.read_text("utf-8")),
                           encoding="utf-8")
        later = pathlib.Path(directory, "nsgate_later.deb")
        run("dpkg-deb", "--root-owner-group", "-b", f"{directory}/later", later)
        yield old, later


@pytest.fixture(scope="module")
def machine(packages):
    with machines.Machine(installed=False) as made:
        for path in packages:
            shutil.copy(path, made.path(f"/root/{path.name}"))
        yield made


@pytest.fixture
def lab(machine):
    """Without daemons: install() brings them."""
    made = machines.Lab(machine)
    yield made
    made.delete_namespaces()
    machine.run("dpkg", "--purge", "nsgate")


def apt(machine, *args):
    """None of the package's scripts complains."""
    done = machine.run("apt-get", "-q", "-y", *args, timeout=2 * PATIENCE,
                       env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8",
                            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    said = done.stdout + done.stderr
    assert not re.search(r"(?i)warning|fail|error|cannot|could not", said), said
    return said


def install(lab, package):
    said = apt(lab.machine, "install", f"/root/{package.name}")
    assert "not starting" not in said, said
    lab.wait_ready()


def attached(lab):
    inner, outside = lab.pair()
    return inner, outside, lab.attach(inner, **POLICY)


def version(package):
    return run("dpkg-deb", "-f", package, "Version").stdout.strip()


def installed_version(machine):
    return machine.run("dpkg-query", "-W", "-f", "${Version}", "nsgate").stdout


def executable(pid):
    found = os.stat(f"/proc/{pid}/exe")
    return found.st_dev, found.st_ino


def trace(machine):
    """What a package could leave behind: files, mounts, users, groups, units, processes."""
    files = machine.run("find", "/", "/run", "/tmp", "-xdev", check=False).stdout.splitlines()
    mounts = pathlib.Path(f"/proc/{machine.leader}/mountinfo").read_text("utf-8").splitlines()
    return {
        "files": {file for file in files if not NOT_OURS.search(file)},
        "mounts": {line.split()[4] for line in mounts},
        "users": set(machine.run("getent", "passwd").stdout.splitlines()),
        "groups": set(machine.run("getent", "group").stdout.splitlines()),
        "units": {line.split()[0] for kind in ("list-units", "list-unit-files")
                  for line in machine.systemctl(kind, "--all", "--plain", "--no-legend", "nsgate*",
                                                check=False).stdout.splitlines()},
        "processes": set(machine.run("pgrep", "-l", "nsgate", check=False).stdout.splitlines()),
    }


def left_behind(machine, before):
    after = trace(machine)
    return {kind: sorted(after[kind] - before[kind]) for kind in before
            if after[kind] - before[kind]}


def test_install(lab, packages):
    machine = lab.machine
    install(lab, packages[0])
    assert machine.run("dpkg", "--verify", "nsgate").stdout == ""
    for unit in (*SERVICES, *SOCKETS):
        assert machine.show(unit, "ActiveState") == "active", unit
        state = "static" if unit == "nsgate-link.socket" else "enabled"
        assert machine.show(unit, "UnitFileState") == state, unit
    assert machine.show(METRICS, "UnitFileState") == "disabled"
    assert machine.show(METRICS, "ActiveState") == "inactive"
    assert machine.run("id", "-nG", "nsgate").stdout == "nsgate\n"
    assert lab.ctl("ready").returncode == 0
    assert lab.ctl("ls").returncode == 0
    inner, outside, name = attached(lab)
    arrivals = Arrivals(inner, 7, 8)
    outside.send("10.77.0.1", 7, 20)
    outside.send("10.77.0.1", 8, 10)
    lab.expect(name, {"packets.accepted": 20, "packets.dropped": 10})
    arrivals.wait({(7, 4): 20})
    assert arrivals.seen[8, 4] == 0


def test_content(lab, packages):
    """What others look for is where they look, and names what is there."""
    machine = lab.machine
    install(lab, packages[0])
    files = machine.run("dpkg", "-L", "nsgate").stdout.split()
    with open(machine.path("/usr/share/containers/oci/hooks.d/50-nsgate.json"),
              encoding="utf-8") as file:
        hook = json.load(file)["hook"]["path"]
    assert hook in files
    for program in ("/usr/bin/nsgatectl", "/usr/bin/nsgate-handoff", "/usr/sbin/nsgate-broker",
                    "/usr/sbin/nsgate-agent", "/usr/lib/cni/nsgate", hook,
                    "/usr/libexec/nsgate/nsgate-enter", "/usr/libexec/nsgate/nsgate-supervise",
                    "/usr/libexec/nsgate/nsgate-front"):
        assert machine.run(program, "--version").stdout.startswith("nsgate"), program
    assert "/usr/libexec/nsgate/nsgate-runc" in files
    for page in (ROOT / "doc" / "man").iterdir():
        assert f"/usr/share/man/man{page.suffix[1:]}/{page.name}.gz" in files
    assert "/usr/share/bash-completion/completions/nsgatectl" in files
    # Notes for readers of the source belong to the documents, and nowhere else.
    assert not [file for file in files if "/local" in file or
                file.endswith(".md") and not file.startswith("/usr/share/doc/nsgate/")]


def test_upgrade_under_traffic(lab, packages):
    """To a later version, and to the same again."""
    machine = lab.machine
    old, later = packages
    install(lab, old)
    machine.systemctl("enable", "--now", METRICS)
    inner, outside, name = attached(lab)
    with Stream(lab, outside, inner) as stream:
        for package in (later, later):
            before = {unit: machine.main_pid(unit) for unit in (*SERVICES, METRICS)}
            programs = {unit: executable(pid) for unit, pid in before.items()}
            stats = lab.stats(name)
            apt(machine, "install", "--reinstall", f"/root/{package.name}")
            assert installed_version(machine) == version(package)
            for unit, pid in before.items():
                now = machine.main_pid(unit)
                assert now and now != pid and executable(now) != programs[unit], unit
            lab.wait_ready()
            never_lower(stats, lab.stats(name))
            stream.flow()
        stream.complete()
    books = lab.books(name)
    assert books["packets"]["accepted"] == stream.sent
    assert books["queue"]["dropped"] == books["queue"]["user_dropped"] == 0
    machine.wait_stored(2)
    for unit in SERVICES:
        assert not re.search("level=error|failed", machine.journal(unit)), machine.journal(unit)
    arrivals = Arrivals(inner, 8)
    outside.send("10.77.0.1", 8, 10)
    lab.expect(name, {"packets.dropped": books["packets"]["dropped"] + 10})
    assert arrivals.total() == 0


def test_upgrade_leaves_stopped_what_is_stopped(lab, packages):
    machine = lab.machine
    old, later = packages
    install(lab, old)
    machine.systemctl("disable", "--now", *SOCKETS, *SERVICES)
    apt(machine, "install", f"/root/{later.name}")
    for unit in (*SERVICES, *SOCKETS, METRICS):
        assert machine.show(unit, "ActiveState") == "inactive", unit
        assert machine.show(unit, "UnitFileState") in ("disabled", "static"), unit


@pytest.mark.parametrize("stopped", [(), (AGENT,), (*SERVICES, *SOCKETS)])
def test_removal_detaches_and_keeps_what_was_set(lab, packages, stopped):
    machine = lab.machine
    install(lab, packages[0])
    inner, outside, _ = attached(lab)
    policies = os.listdir(machine.path("/etc/nsgate/policies"))
    if stopped:
        machine.systemctl("stop", *stopped)
    arrivals = Arrivals(inner, 8)
    apt(machine, "remove", "nsgate")
    assert inner.ruleset() == ""
    outside.send("10.77.0.1", 8, 10)
    arrivals.wait({(8, 4): 10})
    assert os.listdir(machine.path("/run/nsgate/attached")) == []
    assert not machine.run("pgrep", "-l", "nsgate", check=False).stdout
    assert os.listdir(machine.path("/etc/nsgate/policies")) == policies
    install(lab, packages[0])
    assert not lab.names()
    assert [policy["name"] + ".json" for policy in lab.get("/v1/policies")["policies"]] == policies


@pytest.mark.parametrize("removed_before", [False, True])
def test_purge_leaves_no_trace(lab, packages, removed_before):
    machine = lab.machine
    inner, outside = lab.pair()
    before = trace(machine)
    install(lab, packages[0])
    machine.systemctl("enable", "--now", METRICS)
    lab.attach(inner, **POLICY)
    with contextlib.closing(Arrivals(inner, 7, 8)) as arrivals:
        outside.send("10.77.0.1", 7, 20)
        arrivals.wait(20)
        assert set(left_behind(machine, before)) >= {"files", "users", "groups", "units",
                                                     "processes"}
        if removed_before:
            apt(machine, "remove", "nsgate")
        apt(machine, "purge", "nsgate")
        assert inner.ruleset() == ""
        outside.send("10.77.0.1", 8, 10)
        arrivals.wait(30)
    until(lambda: not left_behind(machine, before), lambda: left_behind(machine, before))
    assert machine.run("dpkg-query", "-W", "nsgate", check=False).returncode == 1
    assert machine.systemctl("--failed", "--no-legend").stdout == ""
