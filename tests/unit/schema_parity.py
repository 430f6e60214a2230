#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The published JSON Schema and the parser must call the same documents good.

usage: schema_parity.py POLICY_LINT

Every document of policies/good must pass both. Every one of policies/bad must fail both, but for
those named parser-*: these are wrong in a way that a schema cannot say, and must pass the schema.
The schema's rule has the matches of the parser's table, each with its not_ form, and no others.
Then the good documents are changed at random, and each mutant is judged by both. Where the schema
refuses, the parser must; where only the parser refuses, all that it says must be such a thing.
Exits 77 where Debian's python3-jsonschema is not installed.
"""

import copy
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

try:
    import jsonschema
except ImportError:
    print("skipped: python3-jsonschema is not installed")
    sys.exit(77)

HERE = pathlib.Path(__file__).resolve().parent
SCHEMA = HERE.parent.parent / "lib" / "policy" / "policy-v1.schema.json"
MUTANTS = 3000

# Made once by a test run instead of being kept: they are large.
LARGE = {
    "bad/parser-too-large": {"version": 1, "comment": "x" * (1 << 20)},
    "bad/rules-too-many": {
        "version": 1,
        "rules": [{"name": f"r{i}", "action": "drop"} for i in range(16385)],
    },
    "good/rules-most": {
        "version": 1,
        "rules": [{"name": f"r{i}", "action": "drop"} for i in range(16384)],
    },
}

# What only the parser can say of a mutant.
PARSER_ONLY = re.compile(
    r"is already taken by|is reversed|has bits set after|could never match|"
    r"outside of the mask|must be a whole number|must be 1, the only version|"
    r"is above 0xffffffff|must have a bit that is set|is what the rule's own|at most 8 different bypass|is not an IP address|is not in 0\.\.4294967294|"
    r"is not a pattern of names|needs \"names\" with|is one too many|is more than \"ttl_max\"|"
    r"a resolver is one address|whose answers come in by"
)

# Values that a mutation puts in the place of another.
VALUES = [
    None, True, False, 0, 1, -1, 7, 80, 255, 256, 65535, 65536, 16777216, 0xffffffff, 1 << 32,
    1 << 70, 1.5, "", "x", "in", "out", "accept", "drop", "reject", "queue", "repeat", "continue",
    "tcp", "ipv4", "10.0.0.0/8", "10.0.0.1/8", "::1", "1-2", "2-1", "0x10", "0x10/0xff", "syn",
    "syn/ack", "eth0", "*", "new", "related", "ef", "open", "0x1/0x3", "postrouting", "5/s", [], [1], ["in"], {}, {"set": 1},
    {"rate": "1/s"}, {"ttl": 1}, {"out": "reject"},
]  # fmt: skip
KEYS = [
    "version", "name", "action", "mode", "hooks", "default", "rules", "queue", "mark", "not_mark",
    "set", "limit", "log", "dport", "not_dport", "dst", "protocol", "ttl", "dscp", "rate", "burst",
    "mask", "unknown", "comment",
    "on_queue_down", "bypass_mark", "ct", "not_ct",
]  # fmt: skip


def containers(node):
    """Every object and list of a document."""
    if isinstance(node, (dict, list)):
        yield node
        for child in node.values() if isinstance(node, dict) else node:
            yield from containers(child)


def mutate(document, chance):
    mutant = copy.deepcopy(document)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        places = list(containers(mutant))
        node = chance.choice(places)
        value = copy.deepcopy(chance.choice(VALUES))
        what = chance.randrange(3)
        if isinstance(node, list):
            at = chance.randrange(len(node) + 1)
            if what == 0 and at < len(node):
                del node[at]
            elif what == 1 and at < len(node):
                node[at] = value
            else:
                node.insert(at, copy.deepcopy(chance.choice(node)) if node else value)
        elif what == 0 and node:
            del node[chance.choice(list(node))]
        elif what == 1 and node:
            node[chance.choice(list(node))] = value
        else:
            node[chance.choice(KEYS)] = value
    return mutant


def refuse_constant(name):
    raise ValueError(name)


def read_strictly(data):
    """The document, or None where it is not JSON. Python reads NaN and a few more; JSON has not."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=refuse_constant), True
    except ValueError:
        return None, False


def lint(program, files):
    """What the parser says: a list of problems for each file, empty where it is good."""
    result = {str(file): None for file in files}
    names = list(result)
    for start in range(0, len(names), 500):
        output = subprocess.run(
            [program, *names[start : start + 500]], check=True, capture_output=True
        ).stdout.decode("utf-8")
        for line in output.splitlines():
            verdict, file, *rest = line.split(" ", 2)
            if result[file] is None:
                result[file] = []
            if verdict == "bad":
                result[file].append(rest[0])
            elif verdict != "good":
                raise SystemExit(f"policy_lint: {line}")
    for file, problems in result.items():
        if problems is None:
            raise SystemExit(f"policy_lint said nothing of {file}")
    return result


# What a rule has beside its matches.
OTHER_KEYS = {"name", "comment", "action", "queue", "on_queue_down", "bypass_mark", "log", "audit", "limit", "set"}


def keys_alone(program, schema):
    """The keys of a rule that the schema or the parser's table of matches has alone."""
    names = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()
    table = set(names) | {f"not_{name}" for name in names}
    return (set(schema["$defs"]["rule"]["properties"]) - OTHER_KEYS) ^ table


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    program = sys.argv[1]
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    failures = []

    def expect(condition, text):
        if not condition:
            failures.append(text)

    alone = keys_alone(program, schema)
    expect(not alone, f"either the schema or the table of matches lacks {sorted(alone)}")

    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        files = sorted((HERE / "policies").glob("*/*.json"))
        for name, document in LARGE.items():
            file = scratch / (name + ".json")
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(document), encoding="utf-8")
            files.append(file)

        good = []
        for file, problems in lint(program, files).items():
            path = pathlib.Path(file)
            document, is_json = read_strictly(path.read_bytes())
            schema_good = is_json and validator.is_valid(document)
            name = f"{path.parent.name}/{path.stem}"
            if path.parent.name == "good":
                expect(not problems, f"{name}: the parser refuses it: {problems}")
                expect(schema_good, f"{name}: the schema refuses it")
                if path.stem != "rules-most":
                    good.append(document)
            else:
                expect(problems, f"{name}: the parser accepts it")
                if path.stem.startswith("parser-"):
                    expect(schema_good, f"{name}: the schema refuses it: not parser only")
                else:
                    expect(not schema_good, f"{name}: the schema accepts it")

        chance = random.Random(20260101)
        mutants = {}
        for i in range(MUTANTS):
            mutant = mutate(chance.choice(good), chance)
            file = scratch / f"m{i}.json"
            file.write_text(json.dumps(mutant), encoding="utf-8")
            mutants[str(file)] = mutant
        counts = {True: 0, False: 0}
        for file, problems in lint(program, mutants).items():
            mutant = mutants[file]
            schema_good = validator.is_valid(mutant)
            counts[schema_good] += 1
            if not schema_good:
                expect(problems, f"the schema alone refuses {json.dumps(mutant)}")
            else:
                other = [p for p in problems if not PARSER_ONLY.search(p)]
                expect(not other, f"the parser alone says {other} of {json.dumps(mutant)}")
        expect(min(counts.values()) > MUTANTS / 10, f"lopsided mutants: {counts}")

    for failure in failures[:20]:
        print("FAILED", failure)
    print(f"{len(files)} documents, {MUTANTS} mutants, {len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
