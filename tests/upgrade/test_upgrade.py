# SPDX-License-Identifier: GPL-2.0-or-later
"""
One release is replaced by another while packets pass, one daemon after the other, and back again:
no packet is lost, and no counter falls or comes to mean something else.

The releases: `base`, the commit that tests/upgrade/base names; `head`, this tree; `grown`, this tree
with one more counter, message field and record field and a larger block (NSGATE_TEST_GROWN).
"""
import itertools
import os
import pathlib
import signal
import struct

import pytest

import lab as laboratory
from lab import eventually
from test_restarts import POLICY, Stream, books_of, never_lower
from test_supervised import Service

BUILDS = {"head": laboratory.BUILD, "base": f"{laboratory.BUILD}/upgrade/base",
          "grown": f"{laboratory.BUILD}/upgrade/grown"}
GROWN = 4711  # what the grown release writes into its fields
SPARE_AT = 8 + 1584  # broker/records.c: `spare` of struct nsgate_ns_record


class Scene:
    """Two daemons, with what systemd would keep of the broker or without, and a namespace."""

    def __init__(self, lab, release, stores):
        self.lab = lab
        self.stores = stores
        self.services = {
            "broker": Service(lab, "nsgate-broker", build=BUILDS[release]),
            "agent": Service(lab, "nsgate-agent", "--user", "nobody", build=BUILDS[release])}
        self.rounds = itertools.count(1)

    def __enter__(self):
        for name in self.services:
            self.start(name)
        self.lab.wait_ready()
        self.inner, self.outside = self.lab.pair()
        self.lab.put_policy("p", **POLICY)
        self.lab.must("attach", f"netns:{self.inner}", "--name", "x", "--policy", "p")
        return self

    def __exit__(self, *unused):
        for service in self.services.values():
            service.close()

    def start(self, name):
        service = self.services[name]
        if not self.stores:
            service.environment = {}
        setattr(self.lab, name, service.start(wait=self.stores).process)

    def replace(self, name, release):
        """By that of another release. Where the store is there, both are down at once."""
        service = self.services[name]
        down = [name] + [other for other in self.services if other != name and self.stores]
        for one in down:
            assert self.services[one].kill(signal.SIGTERM) == 0
        service.build = BUILDS[release]
        for one in down:
            self.start(one)
        self.lab.wait_ready()

    def change_policy(self):
        """A rule that no packet meets: the broker is asked for rules, and writes its record."""
        extra = {"name": f"n{next(self.rounds)}", "action": "drop", "dport": [9],
                 "protocol": ["udp"]}
        self.lab.put_policy("p", **{**POLICY, "rules": [*POLICY["rules"], extra]})

    def is_served(self):
        def whole():
            stats = self.lab.stats("x")
            assert stats["state"] == "attached", stats
            return stats
        return eventually(whole)

    def record(self):
        cookie = self.lab.stats("x")["netns"]["cookie"]
        with open(f"{self.lab.runtime}/attached/{cookie}", "rb") as file:
            return file.read()


def known(stats):
    """Without what one of the releases does not have."""
    return {**stats, "packets": {key: value for key, value in stats["packets"].items()
                                 if key != "grown"}}


PAIRS = [("base", "head"), ("head", "base"), ("base", "grown"), ("grown", "base"),
         ("head", "grown"), ("grown", "head")]


@pytest.mark.parametrize("stores", [False, True], ids=["alone", "stored"])
@pytest.mark.parametrize("order", [("broker", "agent"), ("agent", "broker")], ids="-".join)
@pytest.mark.parametrize("before, after", PAIRS)
def test_up_and_back(own_lab, before, after, order, stores):
    counted = 0  # by the grown release, of its own counter
    with Scene(own_lab, before, stores) as scene, \
            Stream(own_lab, scene.outside, scene.inner) as stream:
        for release in (after, before):
            for name in order:
                old = scene.is_served()
                scene.replace(name, release)
                stream.flow(100)
                scene.change_policy()
                new = scene.is_served()
                never_lower(known(old), known(new))
                if scene.services["agent"].build == BUILDS["grown"]:
                    counted, was = new["packets"]["grown"], counted
                    assert counted >= was and counted > 0
                else:
                    assert "grown" not in new["packets"]
        stream.complete()
        stats = books_of(own_lab, stream)
        assert stats["packets"]["malformed"] == stats["packets"]["repeated"] == 0
        assert stats["direction"]["in"]["packets"] >= stream.sent
        record = scene.record()
    if before == "grown":  # its record went through the hands of a release that does not know all
        assert struct.unpack_from("=Q", record, SPARE_AT)[0] == GROWN
        assert counted > 0


def test_builds_are_what_they_should_be():
    """Else nothing above would have been tried."""
    assert os.access(f"{BUILDS['base']}/nsgate-broker", os.X_OK)
    texts = {name: pathlib.Path(f"{build}/nsgate-agent").read_bytes()
             for name, build in BUILDS.items()}
    assert {name for name, text in texts.items() if b"grown_packets" in text} == {"grown"}
