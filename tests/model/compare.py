#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Random policies and packets, judged by the engine and by the model, must be judged the same.

usage: compare.py ENGINE [--policies N] [--seed TEXT] [--only NUMBER]

Every policy depends on the seed and its number alone, so --only brings back one that failed. A run
of 300 that has not tried each match, plain and negated, each action, each default and each answer
to what is known of a flow is a failure, too.
"""
import argparse
import dataclasses
import ipaddress
import json
import os
import random
import re
import subprocess
import sys

import flows
import model
import packets
import policies

PACKETS = 40  # of each policy
BATCH = 100  # policies of one engine
ENOUGH = 300  # policies to try everything
FAILURES_SHOWN = 5
STEERED = ("mark", "ttl", "dscp", "uid", "gid", "sport", "dport", "icmp_type", "icmp_code")


class Trial:
    """One policy with its packets: what the engine is asked, and what the model says."""

    def __init__(self, seed, number):
        self.number = number
        chance = random.Random(f"{seed}/{number}")
        self.document = policies.draw(chance)
        self.policy = model.Policy(self.document)
        self.requests, self.expected = [], []
        text = json.dumps(self.document)
        self.ask(f"policy {len(text)}\n{text}", self.policy.info(), "the policy")
        hooks = self.document["hooks"]
        now = chance.randrange(10**15)
        for bucket in self.policy.buckets.values():
            bucket.filled_at = now
        for _ in range(PACKETS):
            now += chance.choice((0, chance.randrange(10**6), chance.randrange(10**9),
                                  chance.randrange(10**13)))  # fmt: skip
            self.judge(chance, hooks, now)
        counts = "".join(f"{i}:{p}:{b} " for i, (p, b) in sorted(self.policy.counts.items()))
        self.ask("counts\n", counts.strip(), "the rules' counters")

    def ask(self, request, answer, about):
        self.requests.append(request)
        self.expected.append((answer, about))

    def judge(self, chance, hooks, now):
        packet = packets.draw(chance, hooks)
        rules = self.document["rules"]
        if rules and chance.random() < 0.7:
            steer(chance, packet, chance.choice(rules))
        packets.write(packet, chance)
        kind = chance.choices(("packet", "reply", "judge"), (50, 20, 30))[0]
        known = flows.draw(chance)
        request = f"judge {known}" if kind == "judge" else kind
        if packets.is_malformed(packet, self.policy.rewrites()):
            answer = "malformed"
        elif kind == "packet":
            answer = line(self.policy.decide(packet, now))
        elif kind == "judge":
            result = flows.judge(self.policy, packet, known, now)
            answer = flows.line(result) + (line(result.decision) if result.decision else "")
        else:
            original, untold = model.turn_round(packet)
            answer = line(self.policy.decide(original, now, untold))
        about = dataclasses.replace(packet, data=packet.data.hex())
        self.ask(packets.request(request, now, packet), answer, f"{request} {about}")


def steer(chance, packet, rule):
    """Give the packet what the rule asks for, where that is one value or the start of a range."""
    for key, value in rule.items():
        name = "mac" if key == "src_mac" else key
        value = chance.choice(value) if isinstance(value, list) else value
        if key not in model.MATCHES or isinstance(value, dict) or getattr(packet, name) is None:
            continue
        if key in ("iif", "oif", "src_mac"):
            setattr(packet, name, value.lower().replace("*", "0"))
        elif key in ("src", "dst"):
            start = ipaddress.ip_address(re.split("[-/]", value)[0])
            if start.version == packet.family:
                setattr(packet, name, start)
        elif key in STEERED:
            names = {"dscp": model.DSCPS, "icmp_type": model.ICMP_TYPES[packet.family]}
            value = names.get(key, {}).get(value, value)
            start = re.match("[0-9]+$|[0-9]+(?=-)|0x[0-9a-f]+", str(value))
            if start:
                setattr(packet, name, int(start[0], 0))


LOGGED = 16  # rules that one packet can be logged by


def line(decision):
    """As the engine prints it."""
    log = "".join(f"{rule}," for rule in decision.log[:LOGGED])
    queue = ""
    if decision.queue:
        number, down_open, (value, mask) = decision.queue
        queue = f" queue={number} open={down_open:d} bypass={value}/{mask}"
    return (
        f"{decision.verdict} rule={decision.rule} would_drop={decision.would_drop:d}"
        f" repeated={decision.repeated:d} log={log} mark={decision.mark}"
        f" ttl={decision.ttl} dscp={decision.dscp} flow={decision.flow:d}{queue}"
    )


def differences(engine, trials):
    """(trial, what it was about, the model's answer, the engine's)"""
    text = "".join(request for trial in trials for request in trial.requests)
    done = subprocess.run([engine], input=text, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"the engine ended with {done.returncode}: {done.stderr}")
    answers = iter(done.stdout.split("\n"))
    for trial in trials:
        for expected, about in trial.expected:
            answer = next(answers).strip()
            if answer != expected:
                yield trial, about, expected, answer


def untried(met):
    """What a run should have met and has not."""
    wanted = {(prefix + key, holds) for prefix in ("", "not_") for key in model.MATCHES
              for holds in (True, False)}  # fmt: skip
    wanted |= {(action, kind) for action in policies.ACTIONS for kind in ("packet", "reply")}
    wanted |= {("default", verdict) for verdict in ("accept", "drop", "reject")}
    wanted |= {("audit", verdict) for verdict in model.FORBIDS}
    wanted |= {("limit", True), ("limit", False)}
    wanted |= {("judge", *answer) for answer in flows.ANSWERS}
    wanted |= {("flow", flow) for flow in flows.FLOWS}
    return sorted(map(str, wanted - met))


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n")[0])
    parser.add_argument("engine")
    parser.add_argument("--policies", type=int, default=300)
    parser.add_argument("--seed", default=os.environ.get("MODEL_SEED", "1"))
    parser.add_argument("--only", type=int)
    arguments = parser.parse_args()
    numbers = range(arguments.policies) if arguments.only is None else [arguments.only]
    print(f"seed {arguments.seed}, {len(numbers)} policies of {PACKETS} packets")

    met, failures = set(), 0
    for start in range(0, len(numbers), BATCH):
        trials = [Trial(arguments.seed, number) for number in numbers[start : start + BATCH]]
        for trial, about, expected, answer in differences(arguments.engine, trials):
            failures += 1
            if failures > FAILURES_SHOWN:
                continue
            print(f"FAILED policy {trial.number}: {json.dumps(trial.document)}\n  {about}")
            print(f"  model:  {expected}\n  engine: {answer}")
            print(f"  again: {sys.argv[0]} {arguments.engine} --seed {arguments.seed}"
                  f" --only {trial.number}")  # fmt: skip
        for trial in trials:
            met |= trial.policy.met
    missing = untried(met) if len(numbers) >= ENOUGH else []
    if missing:
        print(f"FAILED: never tried: {', '.join(missing)}")
    print(f"{failures} differences")
    sys.exit(1 if failures or missing else 0)


if __name__ == "__main__":
    main()
