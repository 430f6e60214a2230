# SPDX-License-Identifier: GPL-2.0-or-later
"""
A namespace under a policy that accepts everything behaves as one without nsgate, and what a
stricter policy accepts comes to no harm: one row for each scenario, played in each of its modes.
One alone: pytest tests/netns/test_transparent.py -k 'NAME and MODE'.
"""
import pytest

from transparent import errors, links, marks, stage
from transparent.stage import ALL, MOST, Row, STRICTER, TWO, accept

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


# Where the promise does not hold: doc/RELIABILITY.md, "What is not there".
NOT_THERE = {"bridged-True-hooks", "big_tcp_with_length-judged"}


@pytest.mark.parametrize(**stage.cases(ROUTING + ERRORS + LINKS, NOT_THERE))
def test_transparent(lab, row, mode):
    stage.play(lab, row, mode)
