# SPDX-License-Identifier: GPL-2.0-or-later
"""Random policies, good ones, over values that packets.py draws, too, so that rules do match."""
import ipaddress

import model
import packets

MARKS = (0, 1, 0x10, 0x11, 0xFF, 0x10000, 0xA9000010, 0x40000000)
RATES = ("1/s", "3/s", "5/s", "6/s", "50/s", "1000/s", "20/m", "7/h", "2/d", "1000000000/s")


def some(chance, draw, most=3):
    """A list of values, or one that stands for a list of one."""
    values = [draw(chance) for _ in range(chance.randint(1, most))]
    return values[0] if len(values) == 1 and chance.random() < 0.5 else values


def span(chance, numbers, most):
    low, high = sorted((chance.choice(numbers), chance.choice((*numbers, chance.randrange(most)))))
    return low if chance.random() < 0.5 else f"{low}-{high}"


def address(chance):
    family = chance.choice((4, 6))
    one = ipaddress.ip_address(chance.choice(packets.ADDRESSES[family]))
    form = chance.randrange(3)
    if form == 0:
        return str(one)
    if form == 1:
        length = chance.randint(0, one.max_prefixlen)
        return str(ipaddress.ip_network((one, length), strict=False))
    other = ipaddress.ip_address(chance.choice(packets.ADDRESSES[family]))
    return f"{min(one, other)}-{max(one, other)}"


def tcp_flags(chance):
    mask = chance.sample(sorted(model.TCP_FLAGS), chance.randint(1, 4))
    wanted = chance.sample(mask, chance.randint(0, len(mask)))
    if chance.random() < 0.3:
        return ",".join(mask)
    return f"{','.join(wanted) or 'none'}/{','.join(mask)}"


def mark(chance):
    value = chance.choice(MARKS)
    if chance.random() < 0.4:
        return chance.choice((value, hex(value)))
    mask = value | chance.choice((*MARKS, model.ALL_OF_A_MARK))
    return f"{value:#x}/{mask:#x}"


def icmp_type(chance):
    names = [*model.ICMP_TYPES[4], *model.ICMP_TYPES[6]]
    return chance.choice((*names, 8, 0, 128, chance.randrange(256)))


VALUES = {
    "direction": lambda c: c.choice(("in", "out", "forward")),
    "family": lambda c: c.choice(("ipv4", "ipv6")),
    "protocol": lambda c: c.choice((*model.PROTOCOLS, "tcp", "udp", "icmp", "icmpv6", 6, 17,
                                    c.randrange(256))),
    "src": address,
    "dst": address,
    "sport": lambda c: span(c, packets.PORTS, 65536),
    "dport": lambda c: span(c, packets.PORTS, 65536),
    "icmp_type": icmp_type,
    "icmp_code": lambda c: span(c, (0, 1, 3, 4, 255), 256),
    "tcp_flags": tcp_flags,
    "iif": lambda c: c.choice((*packets.LINKS, "eth*", "veth*", "veth1*", "*")),
    "oif": lambda c: c.choice((*packets.LINKS, "eth*", "veth*", "veth1*", "*")),
    "src_mac": lambda c: c.choice((*packets.MACS, packets.MACS[2].upper())),
    "mark": mark,
    "uid": lambda c: span(c, (0, 34, 1000, 4294967294), 4294967295),
    "gid": lambda c: span(c, (0, 34, 1000), 4294967295),
    "length": lambda c: span(c, (20, 40, 60, 100, 1500, 65535), 65536),
    "dscp": lambda c: c.choice((*model.DSCPS, span(c, (0, 1, 10, 46, 63), 64))),
    "ttl": lambda c: span(c, (0, 1, 63, 64, 255), 256),
    "fragment": lambda c: c.random() < 0.5,
    "ct": lambda c: c.choice((*model.CT_STATES, "reply")),
}  # fmt: skip
assert set(VALUES) == set(model.MATCHES)

ACTIONS = ("accept", "accept", "drop", "drop", "reject", "queue", "repeat", "continue", "continue")


def rewritten_mark(chance):
    if chance.random() < 0.3:
        return {"set": chance.choice(MARKS)}
    value = chance.choice(MARKS)
    return {"set": hex(value), "mask": value | chance.choice(MARKS)}


def rule(chance, name, may_reject, matches):
    action = chance.choice(ACTIONS)
    if action == "reject" and not may_reject:
        action = "drop"
    made = {"name": name, "action": action}
    for key in chance.sample(sorted(VALUES), matches):
        most = 1 if key == "fragment" else 3
        made[chance.choice(("", "", "", "not_")) + key] = some(chance, VALUES[key], most)
        if chance.random() < 0.1:
            made["not_" + key] = some(chance, VALUES[key], most)
    if action == "queue":
        made["queue"] = chance.choice((0, 7, 65535))
        if chance.random() < 0.5:
            made["on_queue_down"] = chance.choice(("open", "closed"))
    if chance.random() < 0.15:
        made["log"] = True
    if chance.random() < 0.1:
        made["audit"] = True
    if chance.random() < 0.15:
        made["limit"] = {"rate": chance.choice(RATES)}
        if chance.random() < 0.5:
            made["limit"]["burst"] = chance.choice((1, 2, 3, 10, 1000000000))
    sets_mark = action == "repeat" or (action in ("accept", "continue", "queue")
                                       and chance.random() < 0.3)  # fmt: skip
    if action == "accept" and chance.random() < 0.3:
        rewrites = {"ttl": chance.randint(1, 255), "dscp": chance.choice((0, 63, "ef", "af42")),
                    "mark": rewritten_mark(chance)}  # fmt: skip
        keys = chance.sample(sorted(rewrites), chance.randint(1, 3))
        made["set"] = {key: rewrites[key] for key in keys}
    elif sets_mark:
        made["mark"] = rewritten_mark(chance)  # in the place of a match on it
    if action == "queue" and not sets_mark and chance.random() < 0.5:
        made["bypass_mark"] = chance.choice(("0x1/0x3", 5, "0xa9000010"))
    return made


def every_name(chance):
    """Rules that only count, one for each name of a number; a few decide."""
    names = {"icmp_type": {**model.ICMP_TYPES[4], **model.ICMP_TYPES[6]}, "dscp": model.DSCPS,
             "protocol": model.PROTOCOLS}  # fmt: skip
    return [
        {"name": f"{key}-{name}", key: name,
         "action": "accept" if chance.random() < 0.05 else "continue"}
        for key, known in names.items() for name in known
    ]  # fmt: skip


def draw(chance):
    hooks = chance.sample(model.HOOKS, chance.randint(1, 5))
    may_reject = "postrouting" not in hooks
    verdicts = ("accept", "drop", "reject") if may_reject else ("accept", "drop")
    document = {"version": 1, "hooks": hooks}
    if chance.random() < 0.9:
        document["default"] = chance.choice(verdicts)
    if chance.random() < 0.5:
        document["default"] = {
            d: chance.choice(verdicts)
            for d in chance.sample(("in", "out", "forward"), chance.randint(0, 3))
        }
    for key, value in (("offload", True), ("strict", True), ("mode", "audit"),
                       ("mode", "enforce")):  # fmt: skip
        if chance.random() < 0.1:
            document[key] = value
    if chance.random() < 0.05:
        document["rules"] = every_name(chance)
        return document
    count = chance.choices((0, 3, 12, 40, 600), (3, 30, 40, 22, 5))[0]
    # In a short policy few matches, else its rules would hardly ever decide; in a long one many.
    most = 2 if count <= 12 else 3
    document["rules"] = [
        rule(chance, f"r{i}", may_reject, chance.randint(0 if i > count * 2 // 3 else 1, most))
        for i in range(count)
    ]  # fmt: skip
    return document
