# SPDX-License-Identifier: GPL-2.0-or-later
"""What the targets of lib/proto begin with, from the formats alone; make_corpus.py calls make()."""
import struct


def make_domain(put):
    put("fuzz_proto_domain", "kinds", b"=0a.b\n=1*.a.b\n=2.a.b\n=3x*y.a.b\n=4*\na.b\nx.a.b\nxy.a.b\nx.y.a.b\n")
    put("fuzz_proto_domain", "letters", "=0*.bücher.de\n=1faß.de\nxn--bcher-kva.de\n".encode())
    put("fuzz_proto_domain", "addresses", b"=010.0.0.1\n10.0.0.1\n0x7f\n::1\nfe80::1%eth0\n1.example\n")
    put("fuzz_proto_domain", "long", b"\n".join(b"a" * n + b".de" for n in (62, 63, 64)))
    put("fuzz_proto_domain", "case", b"=9A.Example.ORG.\na.EXAMPLE.org\na.example.org.\na.example.org..\n")


# ---- DNS: RFC 1035, 6891, 9460 ----


def name(text):
    """Of labels; "@N" at its end points to N."""
    text, _, pointer = text.partition("@")
    labels = b"".join(bytes([len(label)]) + label.encode() for label in text.split(".") if label)
    return labels + (struct.pack("!H", 0xc000 | int(pointer)) if pointer else b"\0")


def record(owner, kind, data, ttl=60):
    return name(owner) + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def message(flags, asked, kind, answers=(), more=()):
    return struct.pack("!HHHHHH", 7, flags, 1, len(answers), 0, len(more)) + name(asked) + \
        struct.pack("!HH", kind, 1) + b"".join(answers) + b"".join(more)


def opt(options=b""):
    return b"\0" + struct.pack("!HHIH", 41, 4096, 0, len(options)) + options


def make_dns(put):
    a, https = bytes([192, 0, 2, 1]), b"\0\1\0\0\1\0\3\2h3\0\4\0\4" + bytes([192, 0, 2, 1]) + b"\0\6\0\x10" + bytes(16)
    ask = message(0x100, "www.example.org", 1)
    answer = message(0x8180, "www.example.org", 1, [
        record("@12", 5, name("e.cdn.example")), record("@45", 5, name("f@16")),
        record("f.example.org", 1, a), record("f.example.org", 1, a)])
    for key, data in (
            ("query", ask), ("edns", message(0x120, "a.b", 28, more=[opt()])), ("root", message(0x100, "", 2)),
            ("cookie", message(0x100, "a.b", 1, more=[opt(b"\0\x0a\0\x10" + bytes(16) + b"\0\x0c\0\0")])),
            ("answer", answer), ("nxdomain", message(0x8183, "a.b", 1)), ("truncated", message(0x8380, "a.b", 1)),
            ("https", message(0x8180, "a.b", 65, [record("@12", 65, https)])),
            ("alias", message(0x8180, "a.b", 65, [record("@12", 65, b"\0\0" + name("c.d"))])),
            ("any", message(0x8180, "a.b", 255, [record("@12", 65, https), record("@12", 1, a), record("@12", 28, a * 4)])),
            ("circle", message(0x8180, "a", 1, [record("a", 5, name("b")), record("b", 5, name("a"))])),
            ("backwards", message(0x8180, "a", 1, [record("c", 1, a), record("b", 5, name("c")), record("a", 5, name("b"))])),
            ("many", message(0x8180, "a", 1, [record("@12", 1, a)] * 66)),
            ("long-chain", message(0x8180, "a", 1, [record("a" * n, 5, name("a" * (n + 1))) for n in range(1, 18)])),
            ("stream", b"".join(struct.pack("!H", len(m)) + m for m in (ask, answer, ask)))):
        put("fuzz_proto_dns", key, b"\7" + data)


def make(put):
    make_domain(put)
    make_dns(put)
