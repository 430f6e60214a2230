#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies for the bench: address prefixes, port ranges and protocols mixed, always the same.

The load goes to 10.9.1.0..3 or, the other way, 10.9.3.0..3, UDP ports 7000..7007. Four rules decide it, one per address, spread
evenly over the policy; the others look at much the same addresses, ports and protocols and never
match it whole."""
import json
import sys

TARGETS = 4


def decider(k):
    return {"name": f"load-{k}", "action": "accept", "protocol": ["udp"],
            "dst": [f"10.9.1.{k}", f"10.9.3.{k}"], "dport": ["7000-7007"]}


def filler(i):
    a, b = i // 256 % 256, i % 256
    port = 1024 + i * 7 % 5000  # below the load's ports
    kind = i % 8
    rule = {"name": f"r{i}", "action": "drop" if i % 3 else "accept"}
    if kind == 0:    # a prefix, a port range
        rule.update(protocol=["tcp"], dst=[f"172.{16 + a % 16}.{b}.0/24"], dport=[f"{port}-{port + 20}"])
    elif kind == 1:  # IPv6
        rule.update(protocol=["udp"], dst=[f"2001:db8:{i:x}::/48"], dport=[port])
    elif kind == 2:  # the load's network and protocol, other ports
        rule.update(protocol=["udp"], dst=["10.9.1.0/24"], dport=[f"{20000 + i * 3}-{20002 + i * 3}"])
    elif kind == 3:  # the load's ports, other networks
        rule.update(protocol=["udp"], dst=[f"10.{128 + a % 64}.{b}.0/25"], dport=["7000-7100"])
    elif kind == 4:  # many addresses
        rule.update(protocol=["tcp", "udp"], dst=[f"192.0.{a}.{b}", f"198.51.{a}.{b}"])
    elif kind == 5:  # by source
        rule.update(src=[f"100.{64 + a % 64}.{b}.0/26"], dport=[port])
    elif kind == 6:
        rule.update(protocol=["icmp"], dst=[f"10.{a}.{b}.0/24"], icmp_type=["echo-request"])
    else:            # everything of a network that the load is not in
        rule.update(dst=[f"10.{64 + a % 32}.{b}.0/24"])
    return rule


def policy(count, hooks=("in", "out"), offload=False):
    # Everything else that the bench sends: round trips, TCP, the loopback. Last in the policy.
    tail = [{"name": "echo", "action": "accept", "protocol": ["udp"], "dport": [7100]},
            {"name": "tcp", "action": "accept", "protocol": ["tcp"], "dport": ["7200-7300"]},
            {"name": "loopback", "action": "accept", "dst": ["127.0.0.0/8"]}]
    rules = [filler(i) for i in range(count - len(tail))]
    for k in range(TARGETS):
        rules[(k + 1) * len(rules) // TARGETS - 1] = decider(k)
    return {"version": 1, "mode": "enforce", "hooks": list(hooks), "default": "drop",
            "offload": offload, "rules": rules + tail}


def text(*args, **kwargs):
    return json.dumps(policy(*args, **kwargs), separators=(",", ":"))


if __name__ == "__main__":
    print(text(int(sys.argv[1])))
