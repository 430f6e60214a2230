# SPDX-License-Identifier: GPL-2.0-or-later
"""What the targets of lib/proto begin with, from the formats alone; make_corpus.py calls make()."""


def make_domain(put):
    put("fuzz_proto_domain", "kinds", b"=0a.b\n=1*.a.b\n=2.a.b\n=3x*y.a.b\n=4*\na.b\nx.a.b\nxy.a.b\nx.y.a.b\n")
    put("fuzz_proto_domain", "letters", "=0*.bücher.de\n=1faß.de\nxn--bcher-kva.de\n".encode())
    put("fuzz_proto_domain", "addresses", b"=010.0.0.1\n10.0.0.1\n0x7f\n::1\nfe80::1%eth0\n1.example\n")
    put("fuzz_proto_domain", "long", b"\n".join(b"a" * n + b".de" for n in (62, 63, 64)))
    put("fuzz_proto_domain", "case", b"=9A.Example.ORG.\na.EXAMPLE.org\na.example.org.\na.example.org..\n")


def make(put):
    make_domain(put)
