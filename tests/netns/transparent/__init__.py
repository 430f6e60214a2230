# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a namespace does without nsgate it does under an accepting policy as well: the scenarios of
tests/netns/test_transparent.py and of tests/netns/programs.

stage.py    where a scenario plays, and the ways in which it is run
traffic.py  senders, receivers, connections
the rest    scenarios by what they are about; tables with one row for each are in the tests
"""
