# SPDX-License-Identifier: GPL-2.0-or-later
"""
Where a scenario plays.

A scenario is a function that takes a Stage, makes the namespaces it needs, says with police() which
of them nsgate would be asked to police (before its traffic or in the middle of it), and returns its
outcome: a dict of plain values that says what programs noticed. A row of a table names the
scenario and the outcome it has in every mode. The mode "plain" runs without nsgate, or with rules
of nft that mean the same as the row's policy. It shows that the outcome is the kernel's own.
"""
import dataclasses
import json
import re

from lab import batch

FIVE_HOOKS = ["in", "out", "forward", "prerouting", "postrouting"]
MODES = {
    "plain": None,
    "judged": {},
    "offload": {"offload": True},
    "strict": {"strict": True, "offload": True},
    "hooks": {"hooks": FIVE_HOOKS},
}
ALL = tuple(MODES)
# For what leaves no differently under the guard of a strict policy.
MOST = ("plain", "judged", "offload", "hooks")
TWO = ("plain", "judged", "offload")  # for what is the same in the others, or forbidden there
STRICTER = ("plain", "judged", "offload")  # in the five hooks these policies mean something else
ACCEPT = {"default": "accept"}


def accept(**match):
    """A rule that lets pass what matches."""
    name = re.sub("[^a-z0-9]+", "-", str(match).lower()).strip("-")
    return {"name": name, "action": "accept", **match}


PINGS = [accept(protocol=["icmp", "icmpv6"])]


@dataclasses.dataclass
class Row:
    scenario: callable
    outcome: dict
    arguments: tuple = ()
    policy: dict = None  # ACCEPT where it is left out
    modes: tuple = MOST
    plain: str = ""  # rules of nft that mean what the policy means
    name: str = ""

    def __str__(self):
        words = [str(word) for word in self.arguments if not isinstance(word, float)]  # no waits
        return "-".join([self.name or self.scenario.__name__, *words])


class Stage:
    def __init__(self, lab, mode, policy=None, plain=""):
        self.lab, self.mode, self.plain = lab, mode, plain
        self.policy = ACCEPT if policy is None else policy
        self.attached = []

    def __getattr__(self, name):  # pair(), router(), netns(), link() of the laboratory
        return getattr(self.lab, name)

    def two_links(self):
        """
        box and peer with two links, eth0 (10.77.0.0/24) and eth1 (10.77.1.0/24), and 10.99.0.1 and
        fd99::1 in peer, to which box goes by eth0 or, with a second choice, by eth1, and in the
        table 100 by eth1 alone.
        """
        box, peer = self.netns("box"), self.netns("peer")
        for number in (0, 1):
            self.link(box, peer, number, (f"eth{number}",) * 2)
        for address in ("10.99.0.1/32", "fd99::1/128"):
            peer.ip("addr", "add", address, "dev", "lo")
        for netns in (box, peer):
            for key in ("all", "default", "eth0", "eth1"):
                netns.sysctl(f"ipv4/conf/{key}/rp_filter", 0)
        batch([f"route add default via {via.format(number)} {how}"
               for number, how in ((0, ""), (1, "metric 2000"), (1, "table 100"))
               for via in ("10.77.{}.2", "fd77:{}::2")], "-n", box)
        return box, peer

    def police(self, netns):
        """nsgate polices it from here on, in all modes but "plain"."""
        if self.mode != "plain":
            self.attached.append(self.lab.attach(netns, **{**self.policy, **MODES[self.mode]}))
        elif self.plain:
            netns.nft(self.plain)

    def change(self, **keys):
        """The policy in force becomes another."""
        for name in self.attached:
            self.lab.must("namespace", "policy", name,
                          self.lab.policy(**{**self.policy, **MODES[self.mode], **keys}))

    def check(self):
        """nsgate was there to the end: its rules are those of the policy."""
        for name in self.attached:
            stats = self.lab.stats(name)
            assert stats["state"] == "attached", json.dumps(stats)

    def books(self):
        """What nsgate counted, to go with a failure."""
        return [{key: self.lab.stats(name).get(key) for key in
                 ("state", "queue", "packets", "unjudged", "guard", "rules", "default")}
                for name in self.attached]


def cases(table, but=()):
    """For pytest.mark.parametrize(): each row in each of its modes, less those named ROW-MODE."""
    pairs = {f"{row}-{mode}": (row, mode) for row in table for mode in row.modes}
    assert set(but) <= set(pairs), set(but) - set(pairs)
    left = {name: pair for name, pair in pairs.items() if name not in but}
    return {"argnames": "row, mode", "argvalues": list(left.values()), "ids": list(left)}


def play(lab, row, mode):
    stage = Stage(lab, mode, row.policy, row.plain)
    outcome = row.scenario(stage, *row.arguments)
    assert outcome == row.outcome, "\n".join([
        f"{row} under {mode}:", *(f"  {key}: {outcome.get(key)}, not {row.outcome.get(key)}"
                                  for key in {**row.outcome, **outcome}
                                  if outcome.get(key) != row.outcome.get(key)),
        f"nsgate counted: {json.dumps(stage.books())}"])
    stage.check()
