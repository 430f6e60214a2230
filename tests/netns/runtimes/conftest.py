# SPDX-License-Identifier: GPL-2.0-or-later
"""
Beside the fixtures of tests/netns: `machine` has container runtimes and an installation of nsgate
for them to find; `own_machine` the same around daemons of its own, not started yet.
"""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from containers import Machine  # noqa: E402


@pytest.fixture(scope="session")
def shared_machine(shared_lab):
    with Machine(shared_lab) as machine:
        yield machine


@pytest.fixture
def machine(lab, shared_machine):
    yield shared_machine
    shared_machine.clean()


@pytest.fixture
def own_machine(own_lab):
    with Machine(own_lab) as machine:
        yield machine
