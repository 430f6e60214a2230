# SPDX-License-Identifier: GPL-2.0-or-later
"""
Connections that a policy finds at work, and those that belong to another: rows as in
test_transparent.py, played in the same way.
"""
import itertools

import pytest

from transparent import errors, helpers, stage
from transparent.stage import PINGS, Row, STRICTER, accept
from transparent.traffic import IN_VAIN

SERVER = [accept(direction="in", protocol="tcp", dport=5432)]
CLIENT = [accept(direction="out", protocol="tcp", dport=5432)]
FLOWS = [
    *(Row(scenario, outcome, (policed, first), modes=STRICTER,
          policy={"default": default, "rules": SERVER if policed == "server" else CLIENT},
          name=f"{scenario.__name__}-{default}")
      for scenario, outcome in ((errors.joined_midway, errors.JOINED),
                                (errors.forgotten, errors.FORGOTTEN))
      for default, first in (("drop", "server"), ("reject", "server"), ("reject", "client"))
      for policed in ("server", "client")),
    Row(errors.joined_strictly, errors.JOINED_STRICTLY, modes=("strict",),
        policy={"default": "reject", "rules": SERVER}),
    *(Row(errors.tracked_midway, errors.TRACKED, (policed,), modes=STRICTER, policy={
        "default": "reject", "rules": [accept(direction="in" if policed == "server" else "out",
                                              protocol=["tcp", "udp"], dport=5432)]})
      for policed in ("server", "client")),
    *(Row(errors.busy_midway, errors.BUSY, (policed,), modes=STRICTER, policy={
        "default": "reject", "rules": SERVER if policed == "server" else CLIENT})
      for policed in ("server", "client")),
    *(Row(errors.forbidden_midway, errors.FORBIDDEN, (first,), modes=("judged", "offload"),
          policy={"default": "reject", "rules": SERVER}) for first in ("inside", "outside")),
    # Conntrack takes a FIN or a reset that comes first for invalid, and such is never answered.
    *(Row(errors.told_midway, errors.OTHER_RESET if act == "aborts" else errors.RESET,
          (where, first, act), modes=("judged", "offload", "strict"))
      for where, first, act in itertools.product(
          ("attached", "changed", "loopback", "forwarded"), ("client", "server"), errors.ACTS)
      if where != "attached" or act in ("speaks", "pours")),
    *(Row(errors.told_midway, errors.IN_SILENCE, (where, first, "speaks", "drop"),
          modes=("judged", "offload"))
      for where, first in itertools.product(("attached", "changed"), ("client", "server"))),
    *(Row(errors.stray_segment, errors.STRAY, (origin,), modes=STRICTER,
          policy={"default": "reject", "rules": SERVER + PINGS})
      for origin in ("outside", "inside")),
    Row(errors.reused_port, errors.REUSED),
    Row(errors.untracked, errors.UNTRACKED),
    Row(errors.syn_proxy, errors.SYN_PROXY),
]


def expected(scenario, outcome, policed, related, *arguments):
    """A row whose policy has a rule for what is related, or has not; in "plain", rules of nft."""
    patience = () if related else (IN_VAIN,)
    return Row(scenario, outcome, (policed, *arguments, *patience),
               helpers.policy(policed, related), STRICTER, helpers.stateful(policed, related),
               f"{scenario.__name__}-{'related' if related else 'unrelated'}")


FTP = {"welcome": "220 here\r\n", "data": True}
TFTP = {"asked": True, "answered": True, "acknowledged": True}
SIP = {"invited": True, "answered": True, "client hears": True, "server hears": True}
HELPERS = [
    *(Row(helpers.ftp, FTP, (policed, way))
      for policed in ("server", "client") for way in ("passive", "active")),
    *(Row(helpers.tftp, TFTP, (policed,)) for policed in ("server", "client")),
    *(Row(helpers.sip, SIP, (policed,)) for policed in ("server", "client")),
    *(expected(helpers.sip, {**SIP, "client hears": related, "server hears": related}, policed,
               related) for related in (True, False) for policed in ("server", "client")),
    *(expected(helpers.ftp, {**FTP, "data": related}, policed, related, way)
      for related in (True, False) for policed in ("server", "client")
      for way in ("passive", "active")),
    *(expected(helpers.tftp, TFTP if related else {**TFTP, "answered": False,
               "acknowledged": False}, policed, related)
      for related in (True, False) for policed in ("server", "client")),
]


@pytest.mark.parametrize(**stage.cases(FLOWS + HELPERS))
def test_transparent(lab, row, mode):
    stage.play(lab, row, mode)
