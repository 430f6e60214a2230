# SPDX-License-Identifier: GPL-2.0-or-later
"""
A namespace under a policy that accepts everything behaves as one without nsgate, and what a
stricter policy accepts comes to no harm: one row for each scenario, played in each of its modes.
One alone: pytest tests/netns/test_transparent.py -k 'NAME and MODE'.
"""
import itertools
import re

import pytest

from transparent import errors, helpers, links, marks, stage
from transparent.stage import ALL, MOST, Row, TWO
from transparent.traffic import IN_VAIN

STRICTER = ("plain", "judged", "offload")  # in the five hooks these policies mean something else


def accept(**match):
    name = re.sub("[^a-z0-9]+", "-", str(match).lower()).strip("-")
    return {"name": name, "action": "accept", **match}


PINGS = [accept(protocol=["icmp", "icmpv6"])]

ROUTING = [
    Row(marks.routed_by_mark, marks.routed_by_mark_outcome(), modes=ALL),
    Row(marks.marks_arrive, marks.MARKS_ARRIVE, ("socket",)),
    Row(marks.marks_arrive, marks.MARKS_ARRIVE, ("chain",)),
    Row(marks.marks_of_connections, marks.MARKS_OF_CONNECTIONS),
    Row(marks.connection_marks, {"chains": {"0x0"}, "table": {"0x0"}}, (0,)),
    Row(marks.connection_marks, {"chains": {"0xdeadbeef"}, "table": {"0xdeadbeef"}}, (0xdeadbeef,)),
    Row(marks.tunnel, marks.TUNNEL, (0xca6c,)),
    Row(marks.tunnel, marks.TUNNEL, (0x6d6f6c65,)),
    Row(marks.tunnel, marks.TUNNEL, (0x40000000,)),
    Row(marks.marked_syn_keeps_out, marks.MARKED_SYN, (0x6d6f6c65,)),
    Row(marks.tailscale, marks.TAILSCALE, modes=ALL),
    Row(marks.proxied, marks.PROXIED, modes=ALL),
    Row(marks.masqueraded, marks.MASQUERADED, policy={
        "default": "accept", "hooks": ["in", "out", "forward"]}),
    Row(marks.first_packets_link, marks.FIRST_PACKETS_LINK, modes=ALL),
    Row(marks.responder, marks.RESPONDER),
    Row(marks.routed_by_port, marks.ROUTED_BY_PORT),
    Row(marks.fwmark_of_kernel, marks.FWMARK_OF_KERNEL),
    Row(marks.consumer_marks, {"delivered": len(marks.MARKS),
                               "marks": {hex(mark) for mark in marks.MARKS}},
        modes=("judged", "offload"), policy={"default": "accept", "rules": [
            {"name": "ids", "action": "queue", "queue": 7, "direction": "out",
             "protocol": "udp"}]}),
]

ERRORS = [
    *(Row(errors.errors_about_first_packets, errors.ERRORS, (policed,), modes=ALL)
      for policed in ("left", "router", "right")),
    *(Row(errors.own_firewall, errors.own_firewall_outcome(hook), (hook,))
      for hook in ("input", "output")),
    Row(errors.errors_of_calls, errors.ERRORS_OF_CALLS, modes=ALL),
    *(Row(errors.narrow, errors.NARROW, (policed, flow)) for policed, flow in (
        ("server", "down"), ("client", "up"), ("router", "down"))),
    Row(errors.narrow, errors.NARROW, ("server", "down"), name="narrow-closed", policy={
        "default": "drop", "rules": [accept(direction="in", protocol="tcp", dport=80)]},
        modes=STRICTER),
    Row(errors.narrow, errors.NARROW, ("client", "up"), name="narrow-closed", policy={
        "default": "reject", "rules": [accept(direction="out", protocol="tcp", dport=80)]},
        modes=STRICTER),
    Row(errors.narrow, errors.NARROW, ("router", "down"), name="narrow-closed", policy={
        "default": "drop", "rules": [accept(direction="forward", protocol="tcp", dport=80)],
        "hooks": ["in", "out", "forward"]}, modes=STRICTER),
]

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

LINKS = [
    Row(links.looped_copies, links.LOOPED, modes=ALL),
    # A strict policy is there to stop what is bridged: nsgate-policy(5).
    *(Row(links.bridged, links.BRIDGED, (filtered,), modes=MOST)
      for filtered in (False, True)),
    *(Row(links.duplicated, links.DUPLICATED[hook], (hook,), modes=ALL)
      for hook in ("output", "prerouting")),
    Row(links.over_loopback, links.OVER_LOOPBACK, modes=ALL),
    Row(links.over_loopback, links.OVER_LOOPBACK, name="rewritten_loopback", policy={
        "default": "accept", "rules": [{**accept(oif="lo"), "set": {"ttl": 9, "dscp": 46}}]}),
    Row(links.big_tcp, links.BIG_TCP, modes=ALL),
    Row(links.big_tcp, links.BIG_TCP, name="big_tcp_with_length", modes=STRICTER, policy={
        "default": "accept", "rules": [accept(length="0-1000", sport=9)]}),
    Row(links.large_datagrams, links.LARGE_DATAGRAMS, modes=ALL),
    Row(links.headers, links.HEADERS, modes=ALL),
    Row(links.other_protocols, links.OTHER_PROTOCOLS, modes=ALL),
    Row(links.discovery_by_a_program, links.DISCOVERY, modes=ALL),
    Row(links.discovery_by_a_program, links.DISCOVERY, policy={"default": "drop"}, modes=TWO,
        name="discovery_in_closed"),
    Row(links.listener_reports, {"report 4": True, "report 6": True}, modes=ALL),
    # Reports of such groups are judged: nsgate-policy(5). A rule for them lets them pass.
    *(Row(links.listener_reports, {"report 4": True, "report 6": bool(types)},
          name=f"reports_in_closed-{'accepted' if types else 'dropped'}",
          policy={"default": "drop", "rules": [accept(protocol="igmp"), *(
              accept(icmp_type=kind) for kind in types)]},
          plain=links.REPORTS.format("143," if types else ""), modes=(*TWO, "hooks"))
      for types in ((), ("mld2-listener-report",))),
    Row(links.unprivileged_pings, links.PINGS, modes=ALL),
    *(Row(links.at_once, links.AT_ONCE, (policed,), modes=ALL)
      for policed in ("left", "router", "right")),
    Row(links.queue_number_free, {"bound": True}, modes=TWO),
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

# Where the promise does not hold: doc/RELIABILITY.md, "What is not there".
NOT_THERE = {"bridged-True-hooks", "big_tcp_with_length-judged"}


@pytest.mark.parametrize(**stage.cases(ROUTING + ERRORS + FLOWS + LINKS + HELPERS, NOT_THERE))
def test_transparent(lab, row, mode):
    stage.play(lab, row, mode)
