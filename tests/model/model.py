# SPDX-License-Identifier: GPL-2.0-or-later
"""
nsgate-policy(5) once more, in Python, from the page and not from the engine: what a policy, a
document as json.loads() gives it, does with a packet. It is as plain as it can be, so that it can
be held against the page.

A packet is a packets.Packet: what it is, not its bytes. None is what a packet does not have.
"""
import dataclasses
import ipaddress
from fractions import Fraction

PROTOCOLS = {
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47,
    "esp": 50, "ah": 51, "icmpv6": 58, "ospf": 89, "pim": 103, "vrrp": 112, "l2tp": 115,
    "sctp": 132, "udplite": 136,
}  # fmt: skip

ICMP_TYPES = {
    4: {"echo-request": 8, "echo-reply": 0, "destination-unreachable": 3, "time-exceeded": 11,
        "parameter-problem": 12, "redirect": 5, "router-advertisement": 9,
        "router-solicitation": 10, "source-quench": 4, "timestamp-request": 13,
        "timestamp-reply": 14, "info-request": 15, "info-reply": 16, "address-mask-request": 17,
        "address-mask-reply": 18},
    6: {"echo-request": 128, "echo-reply": 129, "destination-unreachable": 1, "time-exceeded": 3,
        "parameter-problem": 4, "redirect": 137, "router-advertisement": 134,
        "router-solicitation": 133, "packet-too-big": 2, "neighbor-solicitation": 135,
        "neighbor-advertisement": 136, "mld-listener-query": 130, "mld-listener-report": 131,
        "mld-listener-done": 132, "mld2-listener-report": 143, "router-renumbering": 138,
        "ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "nd-router-solicit": 133,
        "nd-router-advert": 134, "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136,
        "nd-redirect": 137},
}  # fmt: skip

DSCPS = {"be": 0, "le": 1, "ef": 46, "va": 44, **{f"cs{n}": 8 * n for n in range(8)},
         **{f"af{c}{d}": 8 * c + 2 * d for c in range(1, 5) for d in range(1, 4)}}  # fmt: skip

TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}

PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
HOOKS = ("prerouting", "in", "forward", "out", "postrouting")
DIRECTIONS = {"prerouting": "in", "in": "in", "forward": "forward", "out": "out",
              "postrouting": "out"}  # fmt: skip
ALL_OF_A_MARK = 0xFFFFFFFF
CT_STATES = ("new", "established", "related", "invalid", "untracked")  # "reply" goes with each
FORBIDS = ("drop", "reject")


# ---- values: does one member of a list hold for what the packet has? ----


def in_range(value, number):
    if isinstance(value, int):
        return number == value
    low, high = map(int, value.split("-"))
    return low <= number <= high


def address_holds(value, address):
    if "-" in value:
        low, high = map(ipaddress.ip_address, value.split("-"))
        return low.version == address.version and low <= address <= high
    return address in ipaddress.ip_network(value)


def icmp_type_holds(value, packet):
    if isinstance(value, int):
        return packet.icmp_type == value
    return ICMP_TYPES[packet.family].get(value) == packet.icmp_type


def flags_of(names):
    return 0 if names == "none" else sum(TCP_FLAGS[name] for name in names.split(","))


def tcp_flags_hold(value, flags):
    wanted, _, mask = value.partition("/")
    return flags & flags_of(mask or wanted) == flags_of(wanted)


def link_holds(value, name):
    return name.startswith(value[:-1]) if value.endswith("*") else name == value


def number_of(text):
    return int(text, 0) if isinstance(text, str) else text


def mark_holds(value, mark):
    if isinstance(value, int):
        return mark == value
    wanted, _, mask = value.partition("/")
    return mark & (number_of(mask) if mask else ALL_OF_A_MARK) == number_of(wanted)


def bypass_mark(value):
    """(value, mask); without one nothing matches (0, 0)."""
    if value is None:
        return 0, 0
    wanted, _, mask = str(value).partition("/")
    return number_of(wanted), number_of(mask) if mask else ALL_OF_A_MARK


MATCHES = {  # has the packet such a field; does a value hold for it
    "direction": (lambda p: True, lambda v, p: v == p.direction),
    "family": (lambda p: True, lambda v, p: v == f"ipv{p.family}"),
    "protocol": (lambda p: True, lambda v, p: PROTOCOLS.get(v, v) == p.protocol),
    "src": (lambda p: True, lambda v, p: address_holds(v, p.src)),
    "dst": (lambda p: True, lambda v, p: address_holds(v, p.dst)),
    "sport": (lambda p: p.sport is not None, lambda v, p: in_range(v, p.sport)),
    "dport": (lambda p: p.dport is not None, lambda v, p: in_range(v, p.dport)),
    "icmp_type": (lambda p: p.icmp_type is not None, icmp_type_holds),
    "icmp_code": (lambda p: p.icmp_code is not None, lambda v, p: in_range(v, p.icmp_code)),
    "tcp_flags": (lambda p: p.tcp_flags is not None, lambda v, p: tcp_flags_hold(v, p.tcp_flags)),
    "iif": (lambda p: True, lambda v, p: p.iif is not None and link_holds(v, p.iif)),
    "oif": (lambda p: True, lambda v, p: p.oif is not None and link_holds(v, p.oif)),
    "src_mac": (lambda p: p.mac is not None, lambda v, p: v.lower() == p.mac),
    "mark": (lambda p: True, lambda v, p: mark_holds(v, p.mark)),
    "uid": (lambda p: p.uid is not None, lambda v, p: in_range(v, p.uid)),
    "gid": (lambda p: p.gid is not None, lambda v, p: in_range(v, p.gid)),
    "length": (lambda p: True, lambda v, p: in_range(v, min(p.length, 65535))),
    "dscp": (lambda p: True, lambda v, p: in_range(DSCPS.get(v, v), p.dscp)),
    "ttl": (lambda p: True, lambda v, p: in_range(v, p.ttl)),
    "fragment": (lambda p: True, lambda v, p: v == p.fragment),
    "ct": (lambda p: True, lambda v, p: v in p.ct),
}

# What all packets that go one way in a flow have in common. One with ports has no ICMP.
OF_THE_FLOW = ("direction", "family", "protocol", "src", "dst", "sport", "dport", "icmp_type",
               "icmp_code")  # fmt: skip


def is_match(key, value):
    """An object as `mark` sets the mark."""
    return key.removeprefix("not_") in MATCHES and not isinstance(value, dict)


def match_holds(key, value, packet):
    has, holds = MATCHES[key.removeprefix("not_")]
    values = value if isinstance(value, list) else [value]
    found = any(holds(v, packet) for v in values) if has(packet) else None
    return found is not None and found != key.startswith("not_")


# ---- replies ----


def turn_round(reply):
    """
    The packet that a reply answers, and what the reply does not tell of it. A fragment is taken to
    answer a fragment.
    """
    opposite = {"prerouting": "postrouting", "postrouting": "prerouting", "in": "out",
                "out": "in", "forward": "forward"}  # fmt: skip
    untold = {"mark", "length", "dscp", "ttl", "ct"}
    packet = dataclasses.replace(
        reply, hook=opposite[reply.hook], src=reply.dst, dst=reply.src, sport=reply.dport,
        dport=reply.sport, iif=reply.oif, oif=reply.iif, uid=None, gid=None, mac=None)  # fmt: skip
    if reply.tcp_flags is not None:
        untold.add("tcp_flags")
    if reply.icmp_type is not None:
        queries = {4: {0: 8, 14: 13, 16: 15, 18: 17}, 6: {129: 128}}[reply.family]
        if reply.icmp_type in queries:
            packet.icmp_type = queries[reply.icmp_type]
        else:
            untold |= {"icmp_type", "icmp_code"}
    # Only what a local socket sends has an owner, and only what came by a link has a sender.
    untold |= {"uid", "gid"} if packet.direction == "out" else {"src_mac"}
    return packet, untold


# ---- a policy ----


class Bucket:
    """Tokens to the last fraction."""

    def __init__(self, limit):
        rate, period = limit["rate"].split("/")
        self.per_ns = Fraction(int(rate), PERIODS[period] * 10**9)
        self.burst = limit.get("burst", max(int(rate), 5))
        self.tokens, self.filled_at = Fraction(self.burst), 0

    def take(self, now):
        self.tokens = min(self.burst, self.tokens + (now - self.filled_at) * self.per_ns)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclasses.dataclass
class Decision:
    verdict: str
    rule: int  # index, -1 for the default
    queue: tuple = ()  # its number, is a packet that finds nobody let pass, the bypass mark
    would_drop: bool = False
    repeated: bool = False
    log: tuple = ()  # rules with `log` that matched, and the one that an audit did not obey
    mark: int = 0
    ttl: int = -1
    dscp: int = -1
    flow: bool = False  # it holds for every packet of the flow


class Policy:
    def __init__(self, document):
        self.document = document
        self.rules = document.get("rules", [])
        self.buckets = {i: Bucket(r["limit"]) for i, r in enumerate(self.rules) if "limit" in r}
        self.counts = {}
        self.met = set()  # (key or action, what it did): what a run has tried

    def default(self, direction):
        default = self.document.get("default", "drop")
        return default if isinstance(default, str) else default.get(direction, "drop")

    def rule_matches(self, rule, packet, untold):
        for key, value in rule.items():
            if not is_match(key, value):
                continue
            if key.removeprefix("not_") in untold:
                holds = rule["action"] in FORBIDS
            else:
                holds = match_holds(key, value, packet)
                self.met.add((key, holds))
            if not holds:
                return False
        return True

    def limit_holds(self, index, now, asks):
        if index not in self.buckets:
            return True
        if asks:  # what other packets took is not told either
            return self.rules[index]["action"] in FORBIDS
        holds = self.buckets[index].take(now)
        self.met.add(("limit", holds))
        return holds

    def walk(self, packet, now, untold, again, decision):
        """One round: the index of the rule that ends it, -1 for none."""
        for index, rule in enumerate(self.rules):
            action = rule["action"]
            if action == "repeat" and again:
                continue
            asks = untold is not None
            if not self.rule_matches(rule, packet, untold or ()):
                continue
            if not self.limit_holds(index, now, asks):
                continue
            if not asks:
                packets, octets = self.counts.get(index, (0, 0))
                self.counts[index] = packets + 1, octets + packet.length
            if rule.get("log"):
                decision.log += (index,)
            change = rule.get("set", {}).get("mark") or rule.get("mark")
            if isinstance(change, dict):
                mask = number_of(change.get("mask", ALL_OF_A_MARK))
                packet.mark = packet.mark & ~mask | number_of(change["set"])
                if asks and mask == ALL_OF_A_MARK:
                    untold.discard("mark")
            self.met.add((action, "reply" if asks else "packet"))
            if action != "continue":
                return index
        return -1

    def decide(self, packet, now, untold=None):
        """`untold`: it is a question about the packet that a reply answers, see turn_round()."""
        packet = dataclasses.replace(packet)  # rules give it other marks
        decision = Decision("", -1)
        index = self.walk(packet, now, untold, False, decision)
        if index >= 0 and self.rules[index]["action"] == "repeat":
            decision.repeated = True
            index = self.walk(packet, now, untold, True, decision)
        rule = self.rules[index] if index >= 0 else {}
        action = rule.get("action") or self.default(packet.direction)
        if not rule:
            self.met.add(("default", action))
        decision.verdict = action
        decision.rule = index
        if action == "queue":
            down_open = rule.get("on_queue_down", "closed") == "open"
            decision.queue = (rule["queue"], down_open, bypass_mark(rule.get("bypass_mark")))
        decision.mark = packet.mark
        decision.ttl = rule.get("set", {}).get("ttl", -1)
        dscp = rule.get("set", {}).get("dscp", -1)
        decision.dscp = DSCPS.get(dscp, dscp)
        audit = self.document.get("mode") == "audit" or rule.get("audit", False)
        if audit and action in FORBIDS:
            decision.verdict, decision.would_drop = "accept", True
            if not rule.get("log"):
                decision.log += (index,)
            self.met.add(("audit", action))
        if untold is None and packet.sport is not None and not packet.fragment:
            decision.flow = self.holds_for_flow(packet, decision)
        return decision

    def holds_for_flow(self, packet, decision):
        """
        Could no rule decide otherwise about another packet of the flow? Those with a limit, a mark,
        or a match on more than the flow can, if the flow is one that they speak of.
        """
        if decision.repeated:
            return False
        end = len(self.rules) if decision.rule < 0 else decision.rule + 1
        return not any(
            self.is_fickle(rule) and self.speaks_of_flow(rule, packet) for rule in self.rules[:end]
        )

    @staticmethod
    def is_fickle(rule):
        sets_mark = isinstance(rule.get("mark"), dict) or "mark" in rule.get("set", {})
        asks_more = any(
            is_match(key, value) and key.removeprefix("not_") not in OF_THE_FLOW
            for key, value in rule.items()
        )
        return sets_mark or asks_more or "limit" in rule

    @staticmethod
    def speaks_of_flow(rule, packet):
        return all(
            match_holds(key, value, packet)
            for key, value in rule.items()
            if is_match(key, value) and key.removeprefix("not_") in OF_THE_FLOW
        )

    def info(self):
        """What the agent has to know of it, as the engine prints it."""
        keys = {key.removeprefix("not_") for rule in self.rules for key in rule}
        rewrites = {key for rule in self.rules for key in rule.get("set", {})} & {"ttl", "dscp"}
        hooks = self.document.get("hooks", ["in", "out"])
        return (
            f"good mode={self.document.get('mode', 'enforce')}"
            f" offload={self.document.get('offload', False):d}"
            f" strict={self.document.get('strict', False):d}"
            f" uid_gid={bool(keys & {'uid', 'gid'}):d}"
            f" no_gso={'length' in keys or bool(rewrites):d}"
            f" hooks={''.join(hook + ',' for hook in HOOKS if hook in hooks)}"
        )

    def rewrites(self):
        return any({"ttl", "dscp"} & set(rule.get("set", {})) for rule in self.rules)
