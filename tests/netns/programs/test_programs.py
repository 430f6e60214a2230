# SPDX-License-Identifier: GPL-2.0-or-later
"""
Real programs under a policy that accepts everything, at either end: they do what they do without
nsgate. A program that is missing is a failure: deploy/deps.sh programs installs them.
"""
import pytest

from transparent import postgres, programs, stage
from transparent.stage import Row

MODES = ("plain", "judged", "offload", "strict")
BY_PACKET_SOCKETS = ("plain", "judged", "offload")  # what strict policies forbid: nsgate-policy(5)
ENDS = ("server", "client")

TABLE = [
    *(Row(programs.wireguard, programs.WIREGUARD, (mark,), modes=MODES)
      for mark in ("0xca6c", "0x6d6f6c65")),
    *(Row(programs.vsftpd, programs.VSFTPD, (policed, way), modes=MODES)
      for policed in ENDS for way in ("passive", "active")),
    *(Row(scenario, outcome, (policed,), modes=MODES) for scenario, outcome in (
        (programs.tftp, programs.TFTP), (programs.samba, programs.SAMBA),
        (programs.ssh, programs.SSH), (programs.redis, programs.REDIS),
        (programs.http2, programs.HTTP2), (programs.mosquitto, programs.MOSQUITTO),
        (programs.chrony, programs.CHRONY)) for policed in ENDS),
    Row(programs.etcd, programs.ETCD, modes=MODES),
    *(Row(programs.udhcp, programs.UDHCP, (policed,), modes=BY_PACKET_SOCKETS)
      for policed in ENDS),
    Row(programs.iptables, programs.IPTABLES, modes=MODES),
    Row(programs.neighbours, programs.NEIGHBOURS, modes=MODES),
    *(Row(programs.traceroute, programs.TRACEROUTE, (policed,), modes=MODES)
      for policed in ("left", "router", "right")),
    Row(programs.keepalived, programs.KEEPALIVED, modes=MODES),
]


DATABASE = [Row(postgres.at_work, postgres.AT_WORK, (policed,), modes=BY_PACKET_SOCKETS)
            for policed in ENDS]


@pytest.mark.parametrize(**stage.cases(TABLE))
def test_programs(lab, row, mode):
    stage.play(lab, row, mode)


@pytest.mark.parametrize(**stage.cases(DATABASE))
def test_database(own_lab, row, mode):
    """Its daemons are killed on the way."""
    own_lab.start()
    stage.play(own_lab, row, mode)
