# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixture: `own_lab` has daemons of its own, not started yet."""
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "netns"))

import lab as laboratory  # noqa: E402


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="namespaces need root"))


@pytest.fixture
def own_lab():
    with laboratory.Lab() as lab:
        yield lab
