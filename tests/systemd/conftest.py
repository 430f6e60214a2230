# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures: `machine` is booted once for all tests; `lab` leaves nothing behind of one test."""
import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, *(os.path.join(os.path.dirname(HERE), name) for name in ("netns", "debian"))]

import machine as machines  # noqa: E402


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="a machine needs root"))


@pytest.fixture(scope="session")
def machine():
    with machines.Machine() as made:
        yield made


@pytest.fixture
def lab(machine):
    made = machines.Lab(machine)
    machine.systemctl("start", *machines.SOCKETS, *machines.SERVICES)
    made.wait_ready()
    yield made
    machine.systemctl("start", *machines.SOCKETS, *machines.SERVICES)
    made.wait_ready()
    made.clean()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """The daemons' last words go with a failure."""
    report = (yield).get_result()
    machine = item.funcargs.get("machine")
    if report.when == "teardown" or not report.failed or not machine:
        return
    for unit in machines.SERVICES:
        report.sections.append((unit, "\n".join(machine.journal(unit).splitlines()[-30:])))
