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


# ---- segments ----


def make_stream(put):
    def segment(op, shift, length, change=0, changed=0):
        return struct.pack("!BHHBB", op, shift, length, change, changed)
    honest = b"".join(segment(2, 192, 100) + struct.pack("!BH", 0, 384) for _ in range(20))
    put("fuzz_proto_stream", "honest", struct.pack("!I", 1000) + honest)
    put("fuzz_proto_stream", "round", struct.pack("!I", 0xffffff00) + honest)
    put("fuzz_proto_stream", "overlap", struct.pack("!I", 0) + segment(2, 192, 100) + segment(2, 150, 100)
        + segment(2, 150, 60, 1, 3) + segment(1, 60, 10) + segment(2, 200, 5) + segment(2, 192, 300))
    put("fuzz_proto_stream", "full", struct.pack("!I", 7) + segment(2, 192, 255) + segment(2, 192, 2)
        + segment(2, 192, 1) + struct.pack("!BH", 0, 284) + segment(2, 192, 150))


# ---- TLS: RFC 8446, 6066, 7301 ----


def extension(kind, data):
    return struct.pack("!HH", kind, len(data)) + data


def sni(*names, kind=0):
    listed = b"".join(bytes([kind]) + struct.pack("!H", len(n)) + n for n in names)
    return extension(0, struct.pack("!H", len(listed)) + listed)


def hello(*extensions, session=32):
    listed = b"".join(extensions)
    body = b"\3\3" + bytes(32) + bytes([session]) + bytes(session) + b"\0\4\x13\1\x13\2\1\0" + \
        struct.pack("!H", len(listed)) + listed
    return b"\1" + struct.pack("!I", len(body))[1:] + body


def records(data, size=16384, kind=22):
    return b"".join(bytes([kind, 3, 1]) + struct.pack("!H", len(data[i:i + size])) + data[i:i + size]
                    for i in range(0, len(data), size))


VERSIONS, ALPN = extension(43, b"\4\3\4\3\3"), extension(16, b"\0\x0c\2h2\x08http/1.1")
RETRY = bytes.fromhex("020000300303cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def make_tls(put):
    plain = hello(sni(b"www.example.org"), VERSIONS, ALPN)
    for key, data in (
            ("hello", records(plain)), ("small-records", records(plain, 20)), ("no-name", records(hello(VERSIONS))),
            ("ech", records(hello(sni(b"a.b"), extension(0xfe0d, b"\0")))), ("two-names", records(hello(sni(b"a.b", b"c.d")))),
            ("twice", records(hello(sni(b"a.b"), sni(b"a.b")))), ("address", records(hello(sni(b"10.0.0.1")))),
            ("nul", records(hello(sni(b"a.b\0.c")))), ("kind", records(hello(sni(b"a.b", kind=1)))),
            ("early", records(plain) + records(b"early", kind=23)), ("http", b"GET / HTTP/1.1\r\n"),
            ("long", records(hello(sni(b"a.b"), extension(21, bytes(16200))))),
            ("retry", records(RETRY + bytes(14))), ("warned", records(b"\1\x70", kind=21) + records(RETRY + bytes(14), 9))):
        put("fuzz_proto_tls", key, b"\6" + data)
    put("fuzz_proto_tls", "second", b"\5" + records(b"\1", kind=20) + records(b"early", kind=23) + records(plain, 99))


# ---- QUIC: RFC 9000, 9001 ----


def crypto(data, begin, end):
    return b"\6" + struct.pack("!HH", 0x4000 | begin, 0x4000 | end - begin) + data[begin:end]


def make_quic(put):
    def datagram(how, data):
        return struct.pack("!BH", how, len(data)) + data
    first, second = hello(sni(b"www.example.org"), VERSIONS, ALPN), hello(sni(b"b.c"), VERSIONS)
    size, both = len(first), first + second
    scattered = b"".join(crypto(first, i * 10, i * 10 + 10) + b"\1\0\0" for i in (3, 1, 7, 0, 5, 2, 9, 4, 8, 6))
    for key, datagrams in (
            ("one", [(1, crypto(first, 0, size) + bytes(20))]), ("version-2", [(3, crypto(first, 0, size))]),
            ("two", [(1, crypto(first, 80, size)), (1, crypto(first, 0, 90))]), ("scattered", [(1, scattered), (1, crypto(first, 90, size))]),
            ("conflict", [(1, crypto(first, 0, 90)), (1, crypto(bytes(200), 50, 90))]),
            ("other", [(1, crypto(first, 0, 9)), (5, crypto(first, 0, 9)), (9, crypto(first, 0, size))]),
            ("ack", [(1, b"\2\5\0\1\0\1\2\3\5\0\0\0\1\2\3\x1c\0\0\3bye")]),
            ("retry", [(1, crypto(both, 0, size)), (1, crypto(both, size, len(both)))]),
            ("many", [(1, crypto(first, 0, 9))] * 9),
            ("pieces", [(1, b"".join(crypto(first, i, i + 1) for i in range(0, 70, 2)))]),
            ("raw", [(0, bytes.fromhex("c00000000108") + bytes(8) + b"\0\0\x40\x20" + bytes(32)),
                     (0, b"\xd0\0\0\0\1\1a\0\4abcd"), (0, b"\x40abc"), (0, b"\xf0\0\0\0\1\1a\3new")])):
        put("fuzz_proto_quic", key, b"".join(datagram(*d) for d in datagrams))


# ---- HTTP: RFC 9112 ----


def make_http(put):
    get, post = b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\n", b"POST /x HTTP/1.1\r\nHost: a.b:80\r\n"
    for key, data in (
            ("get", get), ("pipelined", get * 3), ("length", post + b"Content-Length: 5\r\n\r\nhello" + get),
            ("chunks", post + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0a\r\n0123456789\r\n0\r\n\r\n" + get),
            ("both", post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), ("lf", b"GET / HTTP/1.1\nHost: a.b\n\n"),
            ("absolute", b"GET http://a.b:80/ HTTP/1.0\r\nHost: a.b:80\r\n\r\n"), ("upgrade", post + b"Upgrade: h2c\r\n\r\n"),
            ("addresses", b"GET http://[::1]/ HTTP/1.1\r\nHost: [::1]\r\n\r\nGET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"),
            ("connect", b"CONNECT a.b:1 HTTP/1.1\r\nHost: a.b:1\r\n\r\n"), ("fold", post + b"X: y\r\n z\r\n\r\n"),
            ("underscore", post + b"Content_Length: 5\r\n\r\n"), ("options", b"OPTIONS * HTTP/1.1\r\nHost: a.b\r\n\r\n"),
            ("h2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ("long", post + b"X: " + b"y" * 8140 + b"\r\n\r\n")):
        put("fuzz_proto_http", key, b"\6" + data)


def make(put):
    make_domain(put)
    make_dns(put)
    make_stream(put)
    make_tls(put)
    make_quic(put)
    make_http(put)
