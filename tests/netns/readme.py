# SPDX-License-Identifier: GPL-2.0-or-later
"""Examples of README.md, so that tests try what people copy."""
import json
import os
import textwrap

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def blocks():
    """The indented blocks, one text each."""
    block = []
    with open(os.path.join(SOURCE, "README.md"), encoding="utf-8") as file:
        for line in [*file, "end"]:
            if line.startswith("    ") or (block and not line.strip()):
                block.append(line)
            elif block:
                yield textwrap.dedent("".join(block))
                block = []


def cni_network():
    """The network configuration, and the commands that stand below it."""
    (text,) = [block for block in blocks() if block.startswith('{"cniVersion"')]
    network, end = json.JSONDecoder().raw_decode(text)
    commands = [line[2:] for line in text[end:].splitlines() if line.startswith("# ")]
    return network, commands
