# SPDX-License-Identifier: GPL-2.0-or-later
"""
What becomes of a packet of whose flow the kernel knows something, once more, in Python, from
doc/DESIGN.md ("Answers", "What the agent does with what it is told", "Denied flows").
"""
import dataclasses
import ipaddress

import model

FLOWS = {  # what a rule's "ct" matches
    "new": {"new"},
    "original": {"established"},
    "known": {"established"},
    "unsure": {"established"},
    "reply": {"established", "reply"},
    "reply_known": {"established", "reply"},
    "reply_stale": {"established", "reply"},
    "reply_unsure": {"established", "reply"},
    "expected": {"related"},
    "error": {"related"},
    "error_known": {"related"},
    "invalid": {"invalid"},
    "untracked": {"untracked"},
}
NOTED = ("new", "original", "unsure", "expected")  # original direction, not noted as accepted yet
ANSWERS = [("accept", "policy"), ("drop", "policy"), ("deny", "policy"), ("reject", "policy"),
           ("queue", "policy"), ("accept", "reply"), ("drop", "loopback")]  # fmt: skip
FIRST_OF_CLIENTS = 32768
SYN = 2
RST = 4
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
HOOKS_OF = {"in": {"in", "prerouting"}, "out": {"out", "postrouting"}, "forward": {"forward"}}


@dataclasses.dataclass
class Known:
    """What the kernel and its rules say: as the engine is asked."""

    flow: str
    selective: bool
    notes_denied: bool

    def __str__(self):
        return f"{self.flow} {'s' * self.selective + 'd' * self.notes_denied or '-'}"


@dataclasses.dataclass
class Result:
    verdict: str
    reason: str
    mark: int = None
    remember: bool = False
    decision: object = None


def draw(chance):
    return Known(chance.choice(list(FLOWS)), chance.random() < 0.3, chance.random() < 0.7)


def line(result):
    """As the engine prints it."""
    mark = "" if result.mark is None else f" mark={result.mark}"
    decision = " decision=" if result.decision else ""
    return f"{result.verdict} by={result.reason} remember={result.remember:d}{mark}{decision}"


def is_policed(policy, direction):
    return bool(HOOKS_OF[direction] & set(policy.document.get("hooks", ["in", "out"])))


def answers_accepted(policy, packet, now):
    original, untold = model.turn_round(packet)
    if not is_policed(policy, original.direction):
        return True
    decision = policy.decide(original, now, untold)
    return decision.verdict == "queue" or (decision.verdict == "accept" and not decision.would_drop)


def nobody_knows_the_way(packet, flow):
    """A segment that is no SYN and opens a flow, what is invalid likewise, what is not tracked."""
    midstream = packet.tcp_flags is not None and not packet.tcp_flags & SYN
    return flow in ("unsure", "untracked") or (flow in ("new", "invalid") and midstream)


def might_go_back(policy, packet, flow, now):
    if not nobody_knows_the_way(packet, flow):
        return False
    opposite = model.turn_round(packet)[0].direction
    if (flow != "untracked" and packet.hook in ("prerouting", "postrouting")
            and not is_policed(policy, opposite)):  # fmt: skip
        return False  # it may be one that is forwarded
    if packet.sport is None or packet.fragment:
        return False
    if packet.sport >= FIRST_OF_CLIENTS > packet.dport:
        return False
    return answers_accepted(policy, packet, now)


def is_taken_as_it_is(policy, packet):
    return policy.document.get("strict", False) and packet.direction == "out"


def may_go_back(policy, packet, flow, now):
    if flow == "reply_unsure":
        return answers_accepted(policy, packet, now)
    return not is_taken_as_it_is(policy, packet) and might_go_back(policy, packet, flow, now)


def has_plain_ports(packet):
    """And no header of IPv6 before them."""
    plain = packet.family == 4 or packet.data[6] == packet.protocol
    return packet.sport is not None and not packet.fragment and plain


def decide(policy, packet, flow, now):
    packet = dataclasses.replace(packet, ct=frozenset(FLOWS[flow]))
    decision = policy.decide(packet, now)
    if flow == "known" and decision.verdict in model.FORBIDS:
        packet.ct |= {"new", "related"}  # as its first packet was
        decision = policy.decide(packet, now)
    return decision


def follow(policy, packet, known, decision):
    """What the policy's decision means for the flow."""
    verdict = decision.verdict
    if verdict == "accept":
        remember = known.selective and known.flow in NOTED and decision.mark == 0
        return Result("accept", "policy", decision.mark, remember, decision)
    if verdict == "queue":
        return Result("queue", "policy", decision.mark, False, decision)
    if verdict == "reject":
        alive = known.flow == "invalid"
        return Result("drop" if alive else "reject", "policy", decision=decision)
    notes = (known.notes_denied and known.flow in NOTED and known.flow != "unsure"
             and packet.hook in ("in", "out", "forward") and has_plain_ports(packet)
             and decision.flow)  # fmt: skip
    return Result("deny" if notes else "drop", "policy", decision=decision)


def is_own_reset(packet, flow):
    """What the action reject tells a sender here."""
    by_loopback = "lo" in (packet.iif, packet.oif)
    return flow == "error" and by_loopback and packet.tcp_flags is not None and packet.tcp_flags & RST


def answer(policy, packet, known, now):
    flow = known.flow
    stray = packet.direction == "out" and packet.oif != "lo"
    if stray and any(packet.dst in network for network in LOOPBACK):
        return Result("drop", "loopback")
    if flow in ("reply_known", "error_known") or is_own_reset(packet, flow):
        return Result("accept", "reply", packet.mark)
    if flow == "reply_stale" and answers_accepted(policy, packet, now):
        return Result("accept", "reply", packet.mark)
    decision = decide(policy, packet, flow, now)
    if decision.verdict in model.FORBIDS and may_go_back(policy, packet, flow, now):
        remember = known.selective and flow in NOTED and packet.mark == 0
        return Result("accept", "reply", packet.mark, remember)
    if (decision.verdict == "reject" and is_taken_as_it_is(policy, packet)
            and might_go_back(policy, packet, flow, now)):  # fmt: skip
        decision.verdict = "drop"  # nothing ends a connection that may be alive
    return follow(policy, packet, known, decision)


def judge(policy, packet, known, now):
    result = answer(policy, packet, known, now)
    policy.met |= {("judge", result.verdict, result.reason), ("flow", known.flow)}
    if result.decision:
        result.decision.flow = False  # that is the verdict's
    return result
