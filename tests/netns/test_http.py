# SPDX-License-Identifier: GPL-2.0-or-later
"""What the API makes of bad requests and bad clients, while packets go on."""
import contextlib
import grp
import json
import os
import socket
import time

import pytest

from lab import SLOW, Arrivals, UnixHTTP, connect_stream, until


def raw(lab, data=b"", path="api.sock", timeout=10):
    client = connect_stream(f"{lab.runtime}/{path}", timeout)
    if data:  # even nothing cannot be sent to who has said all and gone
        client.sendall(data)
    return client


def read_all(client):
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 20):
            data += part
    return data


def is_problem(answer, status):
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = answer.json
    assert document["status"] == status and document["title"] and document["detail"]
    assert "type" in document


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/", 404), ("GET", "/v1", 404), ("GET", "/v1/namespaces/", 404),
    ("GET", "/v1/namespaces/nope", 404), ("GET", "/v1/namespaces/nope/stats", 404),
    ("GET", "/v1/namespaces/../../etc/passwd", 404), ("GET", "/v1/policies/%2e%2e%2fx", 404),
    ("GET", "/v1/policies/" + "x" * 64, 404), ("GET", "/v1/policies/a%00b", 404),
    ("GET", "/v1/policies/nope", 404), ("DELETE", "/v1/policies/nope", 404),
    ("POST", "/v1/policies", 405), ("PUT", "/v1/namespaces/nope", 405),
    ("DELETE", "/v1/stats", 405), ("POST", "/healthz", 405), ("PATCH", "/v1/policies/x", 405),
    ("PUT", "/v1/policies/x", 400), ("PUT", "/v1/policies/" + "x" * 64, 404),
    ("POST", "/v1/policies:check", 400), ("GET", "/v1/events?verdict=maybe", 400),
    ("GET", "/v1/events?netns=..", 400),
])
def test_wrong_method_and_path(lab, method, path, status):
    answer = lab.http(method, path)
    is_problem(answer, status)
    if status == 405:
        assert answer.headers["Allow"] and method not in answer.headers["Allow"]


@pytest.mark.parametrize("body, status", [
    ("", 400), ("{}", 422), ('{"policy":1}', 422), ('{"policy":"other","x":1}', 422),
    ("[]", 422), ("nonsense", 422), ('{"policy":"nope"}', 404), ('{"policy":"../x"}', 404),
])
def test_bad_bodies_of_a_rebind_change_nothing(lab, body, status):
    lab.put_policy("other")
    name = lab.attach(lab.netns(), default="accept")
    before = until(lambda: (n := lab.get(f"/v1/namespaces/{name}"))["hooks"] and n, "its hooks")
    is_problem(lab.http("PUT", f"/v1/namespaces/{name}/policy", body), status)
    assert lab.get(f"/v1/namespaces/{name}") == before


def test_change_waits_for_no_later_event(own_lab):
    """
    Each request comes by a connection of its own, and nothing else happens in the agent: what one
    leaves to be said to the broker is said by itself.
    """
    lab = own_lab.start()
    name = lab.attach(lab.netns(), default="accept")
    policies = [lab.policy(default="drop"), lab.policy(default="accept")]
    for number in range(80):
        started = time.monotonic()
        answer = lab.http("PUT", f"/v1/namespaces/{name}/policy", {"policy": policies[number % 2]})
        assert answer.status == 200 and time.monotonic() - started < 5 * SLOW, (number, answer)


def test_body_beyond_the_limit_is_413(lab):
    is_problem(lab.http("PUT", "/v1/policies/x", b" " * (1024 * 1024 + 1)), 413)
    # Announced, and never sent.
    client = raw(lab, b"PUT /v1/policies/x HTTP/1.1\r\nHost: x\r\n"
                      b"Content-Length: 99999999999\r\n\r\n")
    assert b" 413 " in client.recv(4096)
    client.close()
    # Not announced: in chunks, without an end.
    client = raw(lab, b"PUT /v1/policies/x HTTP/1.1\r\nHost: x\r\n"
                      b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(100):
            client.sendall(chunk)
        client.sendall(b"0\r\n\r\n")
    answer = read_all(client)
    assert answer == b"" or b" 413 " in answer
    client.close()
    assert lab.http("GET", "/v1/policies/x").status == 404


NOT_HTTP = {
    "binary": b"\x00\x01\x02\xff" * 100 + b"\r\n\r\n",
    "method alone": b"GET\r\n\r\n",
    "no version": b"GET /v1/stats\r\n\r\n",
    "version 9.9": b"GET /v1/stats HTTP/9.9\r\n\r\n",
    "long path": b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
    "many headers": b"GET /v1/stats HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
    "negative length": b"PUT /v1/policies/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"PUT /v1/policies/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
                   b"Content-Length: 2\r\n\r\n{}",
    "short body": b"PUT /v1/policies/x HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n"
                  b"{\"version\":1}",
}


@pytest.mark.parametrize("kind", NOT_HTTP)
def test_what_is_not_http_hurts_nobody(lab, kind):
    client, first = raw(lab), b""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(NOT_HTTP[kind])
    # What is not complete is waited for: silence is an answer too.
    client.settimeout(0.3)
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        first = client.recv(4096).split(b"\r\n")[0]
    assert first == b"" or first.startswith(b"HTTP/1."), first
    assert b" 20" not in first or kind in ("no version", "version 9.9")
    client.close()
    assert lab.http("GET", "/v1/policies/x").status == 404
    lab.get("/v1/stats")


@pytest.mark.parametrize("kind", ["request", "nothing"])
def test_client_that_closes_its_side_is_answered_at_once(lab, kind):
    """As `socat - UNIX-CONNECT:api.sock` does at the end of its input."""
    data = {"request": b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "nothing": b""}[kind]
    for _ in range(200):
        client = raw(lab, data, timeout=3)
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
        client.close()
        if kind == "request":
            assert answer.startswith(b"HTTP/1.1 200"), answer


def test_documents_are_json_and_agree(lab):
    name = lab.attach(lab.netns(), default="accept")
    for path in ("/v1/namespaces", "/v1/stats", "/v1/policies", f"/v1/namespaces/{name}",
                 f"/v1/namespaces/{name}/stats", "/healthz", "/readyz"):
        answer = lab.http("GET", path)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.json["schema"] == 1
        head = lab.http("HEAD", path)
        assert head.status == 200 and head.body == b""
    assert set(lab.stats_sock()["namespaces"]) == {name} == set(lab.get("/v1/stats")["namespaces"])
    metrics = lab.http("GET", "/metrics")
    assert metrics.status == 200 and metrics.headers["Content-Type"].startswith("text/plain")
    assert name in metrics.body.decode()


def test_a_connection_serves_many_requests(lab):
    connection = UnixHTTP(f"{lab.runtime}/api.sock")
    for _ in range(200):
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read()
    connection.close()


def test_slow_clients_hold_up_neither_packets_nor_others(lab):
    netns, outside = lab.pair()
    name = lab.attach(netns, rules=[{"name": "ok", "action": "accept", "dport": [7]}])
    before = lab.fds()
    clients = []
    for _ in range(20):  # half a request, and then nothing
        clients.append(raw(lab, b"PUT /v1/policies/slow HTTP/1.1\r\nHost: x\r\n"
                                b"Content-Length: 1000\r\n\r\n{\"vers"))
    for _ in range(20):  # half a header
        clients.append(raw(lab, b"GET /v1/sta"))
    for _ in range(20):  # asks and asks, and reads nothing
        clients.append(raw(lab))
        clients[-1].setblocking(False)
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            for _ in range(200):
                clients[-1].send(b"GET /v1/stats HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
    for _ in range(20):
        clients.append(raw(lab, path="stats.sock"))
    arrived = Arrivals(netns, 7)
    started = time.monotonic()
    outside.send("10.77.0.1", 7, 5000, pace=netns.pending())
    arrived.wait(5000)
    lab.expect(name, {"rules.ok": 5000})
    lab.stats_sock()
    assert time.monotonic() - started < 5 * SLOW
    for client in clients:
        client.close()
    lab.wait_fds(before)


def test_more_connections_than_there_is_room_for(lab):
    name = lab.attach(lab.netns(), default="accept")
    before = lab.fds()
    for _ in range(20):
        clients = []
        for path in ("api.sock", "stats.sock"):
            for _ in range(300):
                client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                client.setblocking(False)
                clients.append(client)
                with contextlib.suppress(BlockingIOError):
                    client.connect(f"{lab.runtime}/{path}")
        for client in clients:
            client.close()
        assert name in lab.stats_sock()["namespaces"]
        assert lab.stats(name)["state"] == "attached"
    lab.wait_fds(before)


@contextlib.contextmanager
def as_reader(uid):
    """One who may read and not change: a member of the socket's group."""
    os.setegid(grp.getgrnam("daemon").gr_gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def hold(lab, uid, count):
    """Connections of that uid, as many as connect at once."""
    held = []
    with as_reader(uid):
        for _ in range(count):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.setblocking(False)
            held.append(client)
            with contextlib.suppress(BlockingIOError):
                client.connect(f"{lab.runtime}/api.sock")
    return held


def ask_as(lab, uid):
    """
    Who is turned away is told so before it has asked, and nothing of it is read any more: what it
    sends may fail, and the answer is there nevertheless. Return: (status, body).
    """
    with as_reader(uid):
        client = raw(lab, timeout=3)
    with contextlib.suppress(BrokenPipeError):
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = read_all(client).partition(b"\r\n\r\n")
    client.close()
    return int(head.split()[1]), body


def test_readers_cannot_hold_all_connections(lab):
    before = lab.fds()
    held = hold(lab, 4001, 300)
    try:
        for _ in range(20):
            assert lab.http("GET", "/healthz", timeout=3).status == 200
        with as_reader(4002):  # nor does one of them keep others out
            assert lab.http("GET", "/healthz", timeout=3).status == 200
        status, body = ask_as(lab, 4001)
        assert status == 503 and json.loads(body)["code"] == "too-many-connections"
        for uid in range(4003, 4010):
            held += hold(lab, uid, 40)
        for _ in range(20):
            assert lab.http("GET", "/healthz", timeout=3).status == 200
        changed = lab.http("PUT", "/v1/policies/x", {"version": 1}, timeout=3)
        assert changed.status == 201
    finally:
        for client in held:
            client.close()

    until(lambda: ask_as(lab, 4001)[0] == 200, "the places to be free again")
    lab.wait_fds(before)


def test_readers_cannot_hold_all_streams(lab):
    streams = []

    def follow():
        streams.append(UnixHTTP(f"{lab.runtime}/api.sock"))
        streams[-1].request("GET", "/v1/events")
        return streams[-1].getresponse().status
    with as_reader(4001):
        while (status := follow()) == 200:
            assert len(streams) < 32
        assert status == 503
    assert follow() == 200
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("target", ["http://localhost/v1/stats", "HTTP://a.b:80/v1/stats?x=y",
                                    "http://[::1]:1/v1/stats", "http:///v1/stats"])
def test_targets_in_absolute_form(lab, target):
    """RFC 9112, 3.2.2: a server must accept them."""
    answer = lab.http("GET", target)
    assert answer.status == 200 and "namespaces" in answer.json


@pytest.mark.parametrize("method, target, status", [
    ("GET", "http://localhost", 404), ("GET", "http://localhost/", 404),
    ("GET", "http://localhost?x=y", 404), ("GET", "ftp://localhost/v1/stats", 404),
    ("DELETE", "http://localhost/v1/stats", 405), ("GET", "http://x/v1/policies/nope", 404)])
def test_wrong_targets_in_absolute_form(lab, method, target, status):
    is_problem(lab.http(method, target), status)


def test_changes_by_targets_in_absolute_form(lab):
    put = lab.http("PUT", "http://localhost/v1/policies/x", {"version": 1})
    assert put.status == 201 and lab.get("/v1/policies/x") == {"version": 1}
    assert lab.http("DELETE", "http://localhost/v1/policies/x").status == 204


@pytest.mark.parametrize("version, hosts, status", [
    ("1.1", [], 400), ("1.1", ["a", "a"], 400), ("1.1", ["a", "b"], 400), ("1.1", ["a/b"], 400),
    ("1.1", ["a b"], 400), ("1.1", ["a@b"], 400), ("1.1", [""], 200), ("1.1", ["a:80"], 200),
    ("1.1", ["[::1]:80"], 200), ("1.0", [], 200), ("1.0", ["a"], 200)])
@pytest.mark.parametrize("target", ["/healthz", "http://localhost/healthz"])
def test_host_is_there_once(lab, version, hosts, status, target):
    """RFC 9112, 3.2: else 400, for HTTP/1.1."""
    lines = [f"GET {target} HTTP/{version}", *(f"Host: {host}" for host in hosts),
             "Connection: close", "", ""]
    client = raw(lab, "\r\n".join(lines).encode())
    answer = read_all(client)
    client.close()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    # One without any is refused by libmicrohttpd 1.0 itself, in words of its own.
    if hosts or version == "1.0":
        assert (b"application/problem+json" in answer) == (status == 400)


def test_change_without_a_host_is_none(lab):
    client = raw(lab, b"PUT /v1/policies/x HTTP/1.1\r\nContent-Length: 13\r\n"
                      b"Connection: close\r\n\r\n{\"version\":1}")
    assert read_all(client).startswith(b"HTTP/1.1 400 ")
    client.close()
    assert lab.http("GET", "/v1/policies/x").status == 404


def test_large_policies_travel_whole(lab):
    rules = [{"name": f"r{i}", "action": "drop", "dport": [i + 1], "comment": "c" * 40}
             for i in range(8000)]
    policy = json.dumps({"version": 1, "default": "accept", "rules": rules})
    assert 900000 > len(policy) > 600000
    assert lab.http("PUT", "/v1/policies/large", policy).status == 201
    assert lab.get("/v1/policies/large")["rules"] == rules
    netns, outside = lab.pair()
    name = lab.attach(netns, "--policy", "large")
    arrived = Arrivals(netns, 8000, 9000)
    outside.send("10.77.0.1", 8000, 10)
    outside.send("10.77.0.1", 9000, 10)
    arrived.wait({(9000, 4): 10})
    lab.expect(name, {"rules.r7999": 10, "packets.accepted": 10})
    assert len(lab.stats_sock()["namespaces"][name]["rules"]) == 8000
