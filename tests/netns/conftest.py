# SPDX-License-Identifier: GPL-2.0-or-later
"""
Fixtures: `lab` shares two daemons among all tests and leaves nothing behind of one test;
`own_lab` has daemons of its own, for tests that kill or restart them, not started yet.
"""
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import lab as laboratory  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "soak: also run at full size, by `make soak`")


def in_a_chroot():
    """There root may make no user namespace (user_namespaces(7)); more fails than those who try."""
    done = subprocess.run(["unshare", "--user", "true"], stderr=subprocess.PIPE, check=False,
                          env={**os.environ, "LC_ALL": "C"})
    return done.returncode != 0 and b"Operation not permitted" in done.stderr


def pytest_collection_modifyitems(items):
    missing = [p for p in laboratory.PROGRAMS if not os.access(laboratory.program(p), os.X_OK)]
    reason = None
    if os.geteuid() != 0:
        reason = "namespaces need root"
    elif in_a_chroot():
        reason = "namespaces need more than a chroot: tests/userlands/enter enters a tree"
    elif missing:
        reason = f"{missing[0]} is not built in {laboratory.BUILD}"
    if reason:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_lab():
    with laboratory.Lab() as lab:
        yield lab.start()


@pytest.fixture
def lab(shared_lab):
    yield shared_lab
    for process in (shared_lab.broker, shared_lab.agent):
        shared_lab.check_running(process)
    shared_lab.clean()


@pytest.fixture
def own_lab():
    with laboratory.Lab() as lab:
        yield lab


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """The daemons' last words go with a failure."""
    report = (yield).get_result()
    if report.when != "call" or not report.failed:
        return
    for name in ("lab", "own_lab"):
        lab = item.funcargs.get(name)
        for daemon in ("nsgate-broker", "nsgate-agent"):
            if lab and os.path.exists(f"{lab.dir}/{daemon}.log"):
                report.sections.append((daemon, "\n".join(lab.log(daemon).splitlines()[-20:])))
