# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of it, for the scenarios that are the same at any size."""

KILLED = 64  # namespaces under load whose agent is killed
KILLS = 5
