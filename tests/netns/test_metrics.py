# SPDX-License-Identifier: GPL-2.0-or-later
"""The metrics as Prometheus takes them: its own linter, and the real one that scrapes."""
import json
import os
import shutil
import signal
import socket
import stat
import subprocess

import pytest

from lab import Arrivals, program, run, until

needs_prometheus = pytest.mark.skipif(not shutil.which("promtool"),
                                      reason="Debian's package prometheus is not installed")

PORT = 9469  # in a namespace of the test's own
LABELS = {"netns", "policy", "verdict", "rule"}


@pytest.fixture
def busy(lab):
    """Attached as `a.b-c`, with packets of every verdict."""
    inner, outside = lab.pair()
    lab.attach(inner, name="a.b-c", default="drop", rules=[
        {"name": "ok", "action": "accept", "protocol": ["udp"], "dport": [53]},
        {"name": "no", "action": "reject", "protocol": ["udp"], "dport": [54]}])
    arrived = Arrivals(inner, 53)  # else the kernel would answer, and that be counted too
    for port, count in ((53, 7), (54, 5), (55, 3)):
        outside.send("10.77.0.1", port, count)
    lab.expect("a.b-c", {"packets.accepted": 7, "packets.rejected": 5, "packets.dropped": 3})
    arrived.wait(7)
    return lab


def samples(text):
    """{name: {labels of a sample, sorted: value}}"""
    result = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            name, _, labels = series.partition("{")
            result.setdefault(name, {})[labels.rstrip("}")] = float(value)
    return result


@needs_prometheus
def test_promtool_has_nothing_to_say(busy):
    text = busy.must("metrics").stdout
    done = run("promtool", "check", "metrics", input=text, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_labels_are_the_four_and_figures_are_those_of_the_statistics(busy):
    text = busy.must("metrics").stdout
    found = samples(text)
    for name, series in found.items():
        for labels in series:
            keys = {part.split('="')[0] for part in labels.split('",') if part}
            assert keys <= LABELS, (name, labels)
    packets = found["nsgate_packets_total"]
    for verdict, count in (("accept", 7), ("reject", 5), ("drop", 3), ("queue", 0)):
        assert [v for k, v in packets.items() if f'verdict="{verdict}"' in k] == [count]
    assert all(v < 60 for v in found["nsgate_verdict_latency_p99_seconds"].values())


def test_file_for_a_textfile_collector(busy, tmp_path):
    file = tmp_path / "nsgate.prom"
    busy.must("metrics", "--output", file)
    assert "nsgate_packets_total" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["nsgate.prom"]
    done = busy.ctl("metrics", "--output", tmp_path / "no" / "nsgate.prom")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


class Exporter:
    """nsgatectl metrics --listen in a namespace of its own."""

    def __init__(self, lab, address="127.0.0.1"):
        self.netns = lab.netns("metrics")
        self.address = address
        self.process = self.netns.popen(
            program("nsgatectl"), "--runtime-dir", lab.runtime, "metrics", "--listen",
            f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}")
        until(self.listens, "the exporter to listen")

    def listens(self):
        assert self.process.poll() is None
        try:
            self.ask(b"")
        except ConnectionRefusedError:
            return False
        return True

    def ask(self, request):
        client = self.netns.tcp_connect(self.address, PORT)
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while request and (part := client.recv(65536)):
            answer += part
        client.close()
        return answer.decode()

    def get(self, path, method="GET"):
        return self.ask(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                        .encode())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_listen(busy, address):
    exporter = Exporter(busy, address)
    answer = exporter.get("/metrics")
    assert answer.startswith("HTTP/1.1 200 ") and "nsgate_packets_total{" in answer
    assert exporter.get("/").startswith("HTTP/1.1 404 ")
    assert exporter.get("/v1/policies").startswith("HTTP/1.1 404 ")
    assert exporter.get("/metrics", "POST").startswith("HTTP/1.1 405 ")
    exporter.process.send_signal(signal.SIGTERM)
    assert exporter.process.wait(10) == 0


def test_listen_without_an_agent_says_so(lab, tmp_path):
    netns = lab.netns("metrics")
    process = netns.popen(program("nsgatectl"), "--runtime-dir", tmp_path, "metrics", "--listen",
                          f"127.0.0.1:{PORT}")
    done = until(lambda: (d := netns.exec("curl", "-s", "-i", f"http://127.0.0.1:{PORT}/metrics",
                                          check=False)).returncode == 0 and d, "an answer")
    assert " 503 " in done.stdout.splitlines()[0] and "nsgate-agent" in done.stdout
    process.terminate()
    assert process.wait(10) == 0


@pytest.mark.parametrize("address", ["localhost:1", "127.0.0.1", "127.0.0.1:70000", ":1", "::1:1"])
def test_listen_on_nonsense(lab, address):
    done = lab.ctl("metrics", "--listen", address)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


@needs_prometheus
def test_prometheus_scrapes(busy, tmp_path):
    exporter = Exporter(busy)
    config = tmp_path / "prometheus.yml"
    config.write_text(json.dumps({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "nsgate", "static_configs": [
            {"targets": [f"127.0.0.1:{PORT}"]}]}]}))
    with open(tmp_path / "log", "wb") as log:
        exporter.netns.popen("prometheus", f"--config.file={config}",
                             f"--storage.tsdb.path={tmp_path}/data",
                             "--web.listen-address=127.0.0.1:9090", stdout=log,
                             stderr=subprocess.STDOUT)

    def query(expression):
        done = exporter.netns.exec("curl", "-sf", "-G", "--data-urlencode", f"query={expression}",
                                   "http://127.0.0.1:9090/api/v1/query", check=False)
        if done.returncode != 0:
            return []
        return json.loads(done.stdout).get("data", {}).get("result", [])
    found = until(lambda: query('nsgate_packets_total{netns="a.b-c"}'),
                  lambda: "a sample:\n" + (tmp_path / "log").read_text()[-2000:], 60)
    assert {s["metric"]["verdict"]: s["value"][1] for s in found} == {
        "accept": "7", "reject": "5", "drop": "3", "queue": "0"}
    assert query("up")[0]["value"][1] == "1"
