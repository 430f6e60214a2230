# SPDX-License-Identifier: GPL-2.0-or-later
"""nsgatectl run: a command in a namespace of its own, under policy from its first packet."""
import json
import os
import signal
import subprocess

import pytest

from lab import Arrivals, alive, program, until

OK, NO = 53, 54
POLICY = {"default": {"in": "accept", "out": "drop"}, "rules": [
    {"name": "ok", "action": "accept", "direction": "out", "protocol": ["udp"], "dport": [OK]}]}

# The first thing that it does is to send.
SENDER = f"""
import socket, sys
for family, address in ((socket.AF_INET, "10.77.0.2"), (socket.AF_INET6, "fd77:0::2")):
    if family == socket.AF_INET6 and "6" not in sys.argv[1]:
        continue
    sender = socket.socket(family, socket.SOCK_DGRAM)
    for port in ({NO}, {OK}):
        for turn in range(20):
            try:
                sender.sendto(b"x", (address, port))
            except PermissionError:
                pass  # what the host's own kernel says of a dropped packet
"""


class Host:
    """A namespace that stands for the host on which nsgatectl runs."""

    def __init__(self, lab):
        self.lab = lab
        self.netns, self.world = lab.pair("host")
        self.netns.sysctl("ipv4/ip_forward", 0)  # a new one has what the machine has
        lab.put_policy("p", **POLICY)

    def command(self, *args):
        return ["ip", "netns", "exec", self.netns.name, program("nsgatectl"), "--runtime-dir",
                self.lab.runtime, "run", "--policy", "p", *args]

    def run(self, *args, **kwargs):
        return subprocess.run(self.command(*args), capture_output=True, text=True, timeout=60,
                              check=False, **kwargs)

    def start(self, *args):
        process = subprocess.Popen(self.command(*args), stdout=subprocess.PIPE, text=True,
                                   start_new_session=True)
        self.netns.open_things.append(process)
        return process

    def forwards(self):
        return self.netns.exec("cat", "/proc/sys/net/ipv4/ip_forward").stdout.strip() == "1"

    def links(self):
        return {link["ifname"] for link in
                json.loads(self.netns.ip("-j", "link", "show").stdout)} - {"lo", "eth0"}

    def check_clean(self):
        until(lambda: not self.links(), lambda: f"links to go: {self.links()}")
        until(lambda: not self.netns.ruleset(), lambda: f"rules to go: {self.netns.ruleset()}")
        until(lambda: not self.lab.names(), lambda: f"{self.lab.names()} to be detached")


@pytest.fixture
def host(lab):
    return Host(lab)


@pytest.mark.parametrize("command, code", [
    (["true"], 0), (["false"], 1), (["sh", "-c", "exit 3"], 3),
    (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM), (["/no/such/program"], 127),
    (["/tmp"], 126)])
@pytest.mark.parametrize("network", ["veth", "none"])
def test_exit_code(host, network, command, code):
    done = host.run("--network", network, "--", *command)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == (1 if code in (126, 127) else 0)
    host.check_clean()
    assert not host.forwards()


def test_own_failures(host):
    for arguments, code in ((["--policy", "p", "--", "true"], 2), (["--network", "x", "true"], 2),
                            (["--user", "no-such-user", "true"], 2), ([], 2)):
        done = host.run(*arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    host.lab.http("DELETE", "/v1/policies/p?force=true")
    done = host.run("--", "true")
    assert (done.returncode, len(done.stderr.splitlines())) == (125, 1)
    assert "policy" in done.stderr
    host.check_clean()


def test_options_of_the_command_are_its_own(host):
    done = host.run("--network", "none", "echo", "--policy", "--", "-x")
    assert (done.returncode, done.stdout) == (0, "--policy -- -x\n")


@pytest.mark.parametrize("versions", ["4", "46"])
def test_first_packets_are_under_policy_and_leave_by_the_host(host, versions):
    host.netns.sysctl("ipv6/conf/all/forwarding", int("6" in versions))
    arrived = Arrivals(host.world, OK, NO)
    done = host.run("--", "python3", "-c", SENDER, versions)
    assert done.returncode == 0, done.stderr
    until(lambda: arrived.total() >= 20 * len(versions), "what is allowed")
    assert {key: count for key, count in arrived.seen.items() if count} == {
        (OK, int(version)): 20 for version in versions}
    host.check_clean()
    assert not host.forwards()


def test_answers_come_back_and_others_find_no_way_in(host):
    host.lab.put_policy("p", default="drop", rules=[
        {"name": "web", "action": "accept", "direction": "out", "protocol": ["tcp"],
         "dport": [80]}])
    listener = host.world.tcp_listen(80)
    client = host.start("--", "python3", "-c",
                        "import socket; s = socket.create_connection(('10.77.0.2', 80), 10); "
                        "print(s.getsockname()[0], s.recv(100).decode())")
    listener.settimeout(20)
    served, peer = listener.accept()
    served.sendall(b"hello")
    served.close()
    address, said = client.stdout.read().split()
    assert client.wait(20) == 0
    assert said == "hello"
    assert peer[0] == "10.77.0.1" and address.startswith("10.203.")
    host.check_clean()


def test_network_none_has_only_loopback(host):
    done = host.run("--network", "none", "--", "ip", "-br", "link", "show")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["lo"]


def test_what_the_command_leaves_running_ends_with_it(host):
    done = host.run("--", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!")
    assert done.returncode == 0
    assert not alive(int(done.stdout))
    host.check_clean()


def test_two_at_once_have_addresses_of_their_own(host):
    both = [host.start("--", "sh", "-c", "ip -br -4 addr show eth0; exec sleep 1000")
            for _ in range(2)]
    assert len({process.stdout.readline() for process in both}) == 2
    assert len(host.links()) == 2 and len(host.lab.names()) == 2
    assert host.forwards()
    for number, process in enumerate(both):
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
        assert host.forwards() == (number == 0)  # until the last has gone
    host.check_clean()


@pytest.mark.parametrize("user", [[], ["--user", "nobody"]])
def test_killed_it_leaves_nothing_but_forwarding_which_the_next_one_puts_back(host, user):
    process = host.start(*user, "--", "sh", "-c", "echo $$; exec sleep 1000")
    pid = int(process.stdout.readline())
    process.kill()
    process.wait(20)
    until(lambda: not alive(pid), "the command to be killed too")
    host.check_clean()
    assert host.run("--", "true").returncode == 0
    assert not host.forwards()


def test_user(host):
    done = host.run("--user", "nobody", "--", "sh", "-c", "id -un; grep CapEff /proc/self/status")
    assert done.stdout.split() == ["nobody", "CapEff:", "0000000000000000"]


def test_number_of_a_route_of_the_host_is_left_out(host):
    host.netns.ip("route", "add", "10.203.0.0/24", "via", "10.77.0.2")
    done = host.run("--", "ip", "-br", "-4", "addr", "show", "eth0")
    assert " 10.203.1.2/30" in done.stdout


# ---- lend ----

CONSUMER = """
import os, socket, struct, sys
assert os.environ["LISTEN_FDS"] == "1" and os.environ["LISTEN_PID"] == str(os.getpid())
print(os.environ["LISTEN_FDNAMES"], os.readlink("/proc/self/ns/net"), flush=True)
s = socket.socket(fileno=3)

def send(kind, queue, attribute, data):
    size = 4 + len(data)
    body = struct.pack("=BBH", 0, 0, socket.htons(queue)) + struct.pack("=HH", size, attribute)
    body += data + bytes(-size % 4)
    s.send(struct.pack("=IHHII", 16 + len(body), 0x300 | kind, 1, 0, 0) + body)

send(2, 7, 1, struct.pack("!BxH", 1, 0))  # NFQA_CFG_CMD: bind
send(2, 7, 2, struct.pack("!IB", 0, 1))   # NFQA_CFG_PARAMS: metadata only
print("bound", flush=True)
for turn in range(5):
    while True:
        message = s.recv(65536)
        if struct.unpack("=H", message[4:6])[0] & 0xff == 0:  # NFQNL_MSG_PACKET
            break
    packet_id = struct.unpack("!I", message[24:28])[0]
    send(1, 7, 2, struct.pack("!II", 1, packet_id))  # NFQA_VERDICT_HDR: accept
sys.exit(9)
"""


def test_a_lent_socket_serves_a_queue_there(lab):
    inner, outside = lab.pair()
    name = lab.attach(inner, default="accept", rules=[
        {"name": "ids", "action": "queue", "queue": 7, "direction": "in", "protocol": ["udp"],
         "dport": [OK]}])
    arrived = Arrivals(inner, OK)
    command = [program("nsgatectl"), "--runtime-dir", lab.runtime, "lend", name, "--",
               "/usr/bin/python3", "-c", CONSUMER]
    consumer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    inner.open_things.append(consumer)
    assert consumer.stdout.readline().split() == [name, os.readlink("/proc/self/ns/net")]
    assert consumer.stdout.readline() == "bound\n"
    outside.send("10.77.0.1", OK, 5)
    arrived.wait(5)
    assert consumer.wait(20) == 9
    lab.expect(name, {"rules.ids": 5, "packets.queued_elsewhere": 5})


def test_lending_fails_in_one_line(lab):
    inner, _ = lab.pair()
    name = lab.attach(inner, default="accept")
    for arguments, code in (([name, "--", "/no/such/program"], 127), ([name, "/tmp"], 126),
                            (["nosuch", "--", "true"], 4), ([name, "--"], 2), ([name], 2)):
        done = lab.ctl("lend", *arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), (arguments, done)
    assert lab.ctl("lend", name, "--", "sh", "-c", "exit 3").returncode == 3
