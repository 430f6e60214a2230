# SPDX-License-Identifier: GPL-2.0-or-later
"""Everyday programs, policed at either end: they do what they do without nsgate."""
import glob
import os
import re
import shutil
import socket
import subprocess
import time

from lab import run, until
from transparent.daemons import Daemon, blob, client, directory, same, write
from transparent.errors import without_limits
from transparent.traffic import PATIENCE, connect, pour


def sides(stage, policed):
    """(server, client, the server's address) of a pair whose policed end is one or the other."""
    box, peer = stage.pair()
    return (box, peer, "10.77.0.1") if policed == "server" else (peer, box, "10.77.0.2")


# ---- WireGuard ----


def wireguard(stage, mark):
    """
    wg-quick with AllowedIPs of everything: a mark, rules of routing and chains of its own. The
    other end is behind the default route.
    """
    box, peer = stage.two_links()
    box.sysctl("ipv4/conf/all/rp_filter", 1)
    files = directory(stage)
    keys = {}
    for name in ("box", "peer"):
        private = run("wg", "genkey").stdout
        keys[name] = private.strip(), run("wg", "pubkey", input=private).stdout.strip()
    links = {name: f"wg{os.getpid() % 100000}{name[0]}" for name in keys}
    write(f"{files}/{links['box']}.conf", f"""[Interface]
Address = 10.88.0.1/24, fd88::1/64
PrivateKey = {keys['box'][0]}
FwMark = {mark}
[Peer]
PublicKey = {keys['peer'][1]}
Endpoint = 10.99.0.1:51820
AllowedIPs = 0.0.0.0/0, ::/0
""", 0o600)
    write(f"{files}/{links['peer']}.conf", f"""[Interface]
Address = 10.88.0.2/24, fd88::2/64
ListenPort = 51820
PrivateKey = {keys['peer'][0]}
[Peer]
PublicKey = {keys['box'][1]}
AllowedIPs = 10.88.0.1/32, fd88::1/128
""", 0o600)
    stage.police(box)
    up = 'wg-quick up "$1" && echo is up && exec sleep 100'
    tunnels = [Daemon(netns, "bash", "-c", up, "up", f"{files}/{links[name]}.conf", said="is up",
                      env={"WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go",
                           "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1"})
               for name, netns in (("peer", peer), ("box", box))]
    outcome = {}
    for version, address in ((4, "10.88.0.2"), (6, "fd88::2")):
        outcome[f"pings {version}"] = box.ping(address, 3, PATIENCE)
        with peer.tcp_listen(80, socket.AF_INET6 if version == 6 else socket.AF_INET) as listener:
            for flow in ("up", "down"):
                pair = connect(box, listener, version, address, 80)
                outcome[f"{flow} {version}"] = isinstance(pair, tuple) and pour(
                    *(pair if flow == "up" else pair[::-1]), 2000000)
    # Anything else leaves by the tunnel as well.
    outcome["route"] = links["box"] in box.ip("route", "get", "10.99.0.1").stdout
    for tunnel in tunnels:
        tunnel.stop()
    return outcome


WIREGUARD = {"pings 4": 3, "up 4": 2000000, "down 4": 2000000, "pings 6": 3, "up 6": 2000000,
             "down 6": 2000000, "route": True}


# ---- files ----


def vsftpd(stage, policed, way):
    server, asker, address = sides(stage, policed)
    files = directory(stage)
    os.makedirs(f"{files}/ftp/up")
    os.chmod(f"{files}/ftp/up", 0o777)
    os.makedirs(f"{files}/empty")
    blob(f"{files}/ftp/down", 1000000)
    os.chmod(f"{files}/ftp/down", 0o644)
    configuration = write(f"{files}/vsftpd.conf", f"""
listen=YES
background=NO
anonymous_enable=YES
anon_root={files}/ftp
anon_upload_enable=YES
anon_umask=022
write_enable=YES
no_anon_password=YES
secure_chroot_dir={files}/empty
connect_from_port_20=YES
seccomp_sandbox=NO
""")
    stage.police(server if policed == "server" else asker)
    with Daemon(server, "vsftpd", configuration, ports=[21]):
        done = client(asker, "lftp", "-c", f"""
            set net:max-retries 1; set net:timeout 5; set ssl:verify-certificate no;
            set ftp:passive-mode {"yes" if way == "passive" else "no"}; set ftp:use-feat no;
            open ftp://{address}; get down -o {files}/got; put {files}/got -o up/sent; ls""")
    return {"exit": done.returncode, "got": same(f"{files}/got", f"{files}/ftp/down"),
            "sent": same(f"{files}/got", f"{files}/ftp/up/sent"), "listed": "up" in done.stdout}


VSFTPD = {"exit": 0, "got": True, "sent": True, "listed": True}


def tftp(stage, policed):
    server, asker, address = sides(stage, policed)
    files = directory(stage)
    os.makedirs(f"{files}/boot")
    blob(f"{files}/boot/image", 200000)
    os.chmod(f"{files}/boot/image", 0o666)
    stage.police(server if policed == "server" else asker)
    with Daemon(server, "in.tftpd", "-L", "-s", "-u", "nobody", f"{files}/boot", ports=[69]):
        done = client(asker, "tftp", "-m", "binary", address, "-c", "get", "image", f"{files}/got")
    return {"exit": done.returncode, "got": same(f"{files}/got", f"{files}/boot/image")}


TFTP = {"exit": 0, "got": True}


def samba(stage, policed):
    server, asker, address = sides(stage, policed)
    files = directory(stage)
    for name in ("share", "state"):
        os.makedirs(f"{files}/{name}")
        os.chmod(f"{files}/{name}", 0o777)
    blob(f"{files}/share/down")
    configuration = write(f"{files}/smb.conf", f"""[global]
private dir = {files}/state
lock directory = {files}/state
state directory = {files}/state
cache directory = {files}/state
pid directory = {files}/state
ncalrpc dir = {files}/state/ncalrpc
log file = {files}/state/log
map to guest = Bad User
guest account = root
load printers = no
disable spoolss = yes
smb ports = 445
[share]
path = {files}/share
guest ok = yes
read only = no
""")
    stage.police(server if policed == "server" else asker)
    with Daemon(server, "smbd", "--foreground", "--no-process-group", "-s", configuration,
                ports=[445]):
        done = client(asker, "smbclient", "-N", "-s", configuration, f"//{address}/share", "-c",
                      f"get down {files}/got; put {files}/got sent; ls")
    return {"exit": done.returncode, "got": same(f"{files}/got", f"{files}/share/down"),
            "sent": same(f"{files}/got", f"{files}/share/sent")}


SAMBA = {"exit": 0, "got": True, "sent": True}


def ssh(stage, policed):
    """sshd, ssh and rsync."""
    server, asker, address = sides(stage, policed)
    files = directory(stage)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{files}/{name}"],
                       check=True)
    shutil.copy(f"{files}/user.pub", f"{files}/authorized")
    configuration = write(f"{files}/sshd_config", f"""
HostKey {files}/host
AuthorizedKeysFile {files}/authorized
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
""")
    options = ["-i", f"{files}/user", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes",
               "-o", "UserKnownHostsFile=/dev/null", "-F", "none"]
    os.makedirs(f"{files}/tree")
    for number in range(20):
        blob(f"{files}/tree/{number}", 100000)
    stage.police(server if policed == "server" else asker)
    with Daemon(server, "/usr/sbin/sshd", "-D", "-e", "-f", configuration, ports=[22],
                private=["/run/sshd"]):
        said = client(asker, "ssh", *options, f"root@{address}", "echo hello; cat >/dev/null",
                      input="x" * 1000000)
        copied = client(asker, "rsync", "-a", "-e", " ".join(["ssh", *options]), f"{files}/tree/",
                        f"root@{address}:{files}/copy/")
    return {"said": said.stdout, "rsync": copied.returncode,
            "copied": sum(same(path, path.replace("/tree/", "/copy/"))
                          for path in glob.glob(f"{files}/tree/*"))}


SSH = {"said": "hello\n", "rsync": 0, "copied": 20}


# ---- servers of requests ----


def redis(stage, policed):
    """A primary, its replica at the other end, and redis-benchmark."""
    server, asker, address = sides(stage, policed)
    files = directory(stage)
    stage.police(server if policed == "server" else asker)
    common = ["--save", "", "--appendonly", "no", "--protected-mode", "no", "--bind", "* -::*",
              "--dir", files]
    with Daemon(server, "redis-server", "--port", "6379", *common, ports=[6379]), \
            Daemon(asker, "redis-server", "--port", "6380", "--replicaof", f"{address} 6379",
                   *common, ports=[6380]):
        bench = client(asker, "redis-benchmark", "-h", address, "-n", "3000", "-c", "20", "-P", "4",
                       "-d", "512", "-t", "set,get,lpush", "-q")
        client(asker, "redis-cli", "-h", address, "set", "last", "word")
        until(lambda: "word" in client(asker, "redis-cli", "-p", "6380", "get", "last").stdout,
              "the replica to follow")
    return {"exit": bench.returncode, "tests": bench.stdout.count("requests per second")}


REDIS = {"exit": 0, "tests": 3}


def http2(stage, policed):
    """nginx behind HAProxy, both with HTTP/2, under h2load; `policed` serves, or balances."""
    server, asker, address = sides(stage, policed)
    files = directory(stage)
    os.makedirs(f"{files}/www")
    blob(f"{files}/www/blob", 100000)
    nginx = write(f"{files}/nginx.conf", f"""
daemon off; user root; worker_processes 1; pid {files}/nginx.pid; error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log off; client_body_temp_path {files}/body; proxy_temp_path {files}/proxy;
    fastcgi_temp_path {files}/fastcgi; uwsgi_temp_path {files}/uwsgi;
    scgi_temp_path {files}/scgi;
    server {{ listen 8080 http2; listen [::]:8080 http2; root {files}/www; }}
}}""")
    haproxy = write(f"{files}/haproxy.cfg", f"""
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend web
    bind 127.0.0.1:8081 proto h2
    default_backend nginx
backend nginx
    server one {address}:8080 proto h2 check
    server two [{"fd77::1" if address.endswith("1") else "fd77::2"}]:8080 proto h2 check
""")
    stage.police(server if policed == "server" else asker)
    with Daemon(server, "nginx", "-c", nginx, ports=[8080]), \
            Daemon(asker, "haproxy", "-db", "-f", haproxy, ports=[8081]):
        done = client(asker, "h2load", "-n", "2000", "-c", "8", "-m", "16",
                      "http://127.0.0.1:8081/blob")
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
    status = re.search(r"status codes: (\d+) 2xx", done.stdout)
    return {"requests": found and found.groups(), "ok": status and status[1]}


HTTP2 = {"requests": ("2000", "0", "0", "0"), "ok": "2000"}


def etcd(stage):
    """A cluster of two members: what is put at one is read at the other."""
    box, peer = stage.pair()
    files = directory(stage)
    stage.police(box)
    members = {"box": (box, "10.77.0.1"), "peer": (peer, "10.77.0.2")}
    cluster = ",".join(f"{name}=http://{address}:2380" for name, (_, address) in members.items())
    daemons = []
    for name, (netns, address) in members.items():
        daemons.append(Daemon(
            netns, "etcd", "--name", name, "--data-dir", f"{files}/{name}",
            "--listen-peer-urls", f"http://{address}:2380", "--initial-advertise-peer-urls",
            f"http://{address}:2380", "--listen-client-urls", f"http://{address}:2379",
            "--advertise-client-urls", f"http://{address}:2379", "--initial-cluster", cluster,
            "--unsafe-no-fsync", ports=[2380]))
    endpoints = {name: f"--endpoints=http://{address}:2379"
                 for name, (_, address) in members.items()}
    environment = {**os.environ, "ETCDCTL_API": "3"}

    def put():
        return client(box, "etcdctl", endpoints["box"], "put", "key", "value",
                      env=environment).stdout == "OK\n"
    until(put, "the cluster to have a leader", 25)
    got = client(peer, "etcdctl", endpoints["peer"], "get", "--print-value-only", "key",
                 env=environment).stdout
    crossed = client(peer, "etcdctl", endpoints["box"], "get", "--print-value-only", "key",
                     env=environment).stdout
    members = client(box, "etcdctl", f"{endpoints['box']},http://10.77.0.2:2379", "endpoint",
                     "health", env=environment)
    for daemon in daemons:
        daemon.stop()
    return {"got": got, "crossed": crossed,
            "healthy": (members.stdout + members.stderr).count("is healthy")}


ETCD = {"got": "value\n", "crossed": "value\n", "healthy": 2}


def mosquitto(stage, policed):
    server, asker, address = sides(stage, policed)
    files = directory(stage)
    configuration = write(f"{files}/mosquitto.conf", "listener 1883\nallow_anonymous true\n"
                                                     "user root\n")
    stage.police(server if policed == "server" else asker)
    with Daemon(server, "mosquitto", "-c", configuration, ports=[1883]):
        subscriber = asker.popen("mosquitto_sub", "-h", address, "-t", "news", "-q", "2", "-C",
                                 "30", "-W", "20", stdout=subprocess.PIPE, text=True)
        until(lambda: "estab" in asker.exec("ss", "-Htn", "dport", "=", ":1883").stdout.lower(),
              "the subscriber to be connected")
        sent = 0
        deadline = time.monotonic() + 15
        while subscriber.poll() is None and time.monotonic() < deadline:
            done = client(asker, "mosquitto_pub", "-h", address, "-t", "news", "-q", "2", "-l",
                          input="\n".join(f"line {number}" for number in range(30)))
            sent += done.returncode == 0
        lines = subscriber.stdout.read().splitlines()
    return {"lines": len(lines), "sent": sent > 0, "exit": subscriber.wait(10)}


MOSQUITTO = {"lines": 30, "sent": True, "exit": 0}


# ---- of the network itself ----


def extracted(stage, package, program):
    """A program of a package that cannot be installed beside what is there (a time daemon)."""
    tree = f"{stage.lab.dir}/{package}"
    if not os.path.exists(tree):
        os.makedirs(tree)
        os.chmod(tree, 0o777)  # apt's own user writes there
        subprocess.run(["apt-get", "-qq", "download", package], cwd=tree, check=True)
        subprocess.run(["dpkg-deb", "-x", *glob.glob(f"{tree}/*.deb"), tree], check=True)
    return f"{tree}/{program}"


def chrony(stage, policed):
    chronyd = extracted(stage, "chrony", "usr/sbin/chronyd")
    server, asker, address = sides(stage, policed)
    files = directory(stage)
    configuration = write(f"{files}/chrony.conf", f"""
local stratum 3
allow all
cmdport 0
bindcmdaddress /
pidfile {files}/pid
""")
    stage.police(server if policed == "server" else asker)
    with Daemon(server, chronyd, "-x", "-d", "-U", "-u", "root", "-f", configuration, ports=[123]):
        done = client(asker, chronyd, "-Q", "-t", "15", "-U", "-u", "root", "-f", "/dev/null",
                      f"server {address} iburst", f"pidfile {files}/asker")
    return {"exit": done.returncode, "measured": "System clock wrong by" in done.stderr}


CHRONY = {"exit": 0, "measured": True}


def udhcp(stage, policed):
    """udhcpd and udhcpc: frames by packet(7) until there is an address."""
    server, asker, _ = sides(stage, policed)
    files = directory(stage)
    asker.ip("addr", "flush", "dev", "eth0")
    own = "10.77.0.1" if policed == "server" else "10.77.0.2"
    write(f"{files}/leases", "")
    configuration = write(f"{files}/udhcpd.conf", f"""
start 10.77.0.100
end 10.77.0.109
interface eth0
lease_file {files}/leases
pidfile {files}/pid
option subnet 255.255.255.0
option router {own}
""")
    script = write(f"{files}/script", """#!/bin/sh
[ "$1" = bound ] && ip addr add "$ip/24" dev "$interface"
exit 0
""", 0o755)
    stage.police(server if policed == "server" else asker)
    with Daemon(server, "busybox", "udhcpd", "-f", configuration, ports=[67]):
        done = client(asker, "busybox", "udhcpc", "-f", "-q", "-n", "-t", "5", "-T", "1", "-i",
                      "eth0", "-s", script)
        renewed = asker.ping(own, 2)
    return {"exit": done.returncode, "pings": renewed,
            "address": "10.77.0.10" in asker.ip("addr", "show", "eth0").stdout}


UDHCP = {"exit": 0, "pings": 2, "address": True}


def iptables(stage):
    """A firewall of iptables: REJECT of each kind, CONNMARK, LOG, TEE, and owner matches."""
    box, peer = stage.pair()
    without_limits(box, peer)
    for command, kinds in (("iptables", ("icmp-port-unreachable", "icmp-admin-prohibited")),
                           ("ip6tables", ("icmp6-port-unreachable", "icmp6-adm-prohibited"))):
        for number, kind in enumerate((*kinds, "tcp-reset")):
            for chain in ("INPUT", "OUTPUT"):
                box.exec(command, "-A", chain, "-p", "tcp", "--dport", 90 + number, "-j", "REJECT",
                         "--reject-with", kind)
        box.exec(command, "-t", "mangle", "-A", "PREROUTING", "-j", "CONNMARK", "--restore-mark")
        box.exec(command, "-t", "mangle", "-A", "OUTPUT", "-m", "owner", "--uid-owner", "0", "-j",
                 "MARK", "--set-mark", "0x40000000")
        box.exec(command, "-t", "mangle", "-A", "POSTROUTING", "-j", "CONNMARK", "--save-mark")
        box.exec(command, "-A", "INPUT", "-p", "tcp", "--sport", "80", "-m", "connmark", "!",
                 "--mark", "0x40000000", "-j", "DROP")
    stage.police(box)
    outcome = {}
    for version in (4, 6):
        inside, outside = (f"fd77::{end}" if version == 6 else f"10.77.0.{end}" for end in (1, 2))
        for port in (90, 91, 92):
            outcome[f"in {port} {version}"] = connect(peer, None, version, inside, port)
            outcome[f"out {port} {version}"] = connect(box, None, version, outside, port)
        with peer.tcp_listen(80, socket.AF_INET6 if version == 6 else socket.AF_INET) as listener:
            pair = connect(box, listener, version, outside, 80)
            outcome[f"marked {version}"] = isinstance(pair, tuple) and pour(*pair[::-1], 300000)
    return outcome


IPTABLES = {
    **{f"{way} 9{number} {version}": error for way in ("in", "out") for version, errors in (
        (4, ("ECONNREFUSED", "EHOSTUNREACH", "ECONNREFUSED")),
        (6, ("ECONNREFUSED", "EACCES", "ECONNREFUSED"))) for number, error in enumerate(errors)},
    "marked 4": 300000, "marked 6": 300000}


def neighbours(stage):
    """rdisc6 and ndisc6."""
    box, peer = stage.pair()
    stage.police(box)
    asked = client(box, "ndisc6", "-1", "-q", "fd77::2", "eth0")
    responder = write(f"{directory(stage)}/radvd.py", """
import socket, struct
router = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
router.setsockopt(41, 18, 255)  # IPV6_MULTICAST_HOPS
router.setsockopt(41, 17, struct.pack("=I", socket.if_nametoindex("eth0")))
router.setsockopt(41, 20, socket.inet_pton(socket.AF_INET6, "ff02::2") +
                  struct.pack("=I", socket.if_nametoindex("eth0")))
print("is up", flush=True)
while True:
    if router.recv(2048)[0] == 133:
        router.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0))
""")
    with Daemon(peer, "/usr/bin/python3", responder, said="is up"):
        found = client(box, "rdisc6", "-1", "eth0")
    return {"ndisc6": (asked.returncode, bool(re.match(r"02:77:", asked.stdout, re.I))),
            "rdisc6": (found.returncode, "Router lifetime" in found.stdout)}


NEIGHBOURS = {"ndisc6": (0, True), "rdisc6": (0, True)}


def traceroute(stage, policed):
    left, router, right = stage.router()
    without_limits(left, router, right)
    stage.police({"left": left, "router": router, "right": right}[policed])
    outcome = {}
    for version, target in ((4, "10.77.2.2"), (6, "fd77:2::2")):
        for kind in ("-U", "-I", "-T"):
            done = client(left, "traceroute", f"-{version}", kind, "-n", "-q", "1", "-w", "2",
                          "-m", "4", target)
            hops = [line.split()[1] for line in done.stdout.splitlines()[1:]]
            outcome[f"{kind} {version}"] = hops
    return outcome


TRACEROUTE = {f"{kind} {version}": hops for kind in ("-U", "-I", "-T") for version, hops in (
    (4, ["10.77.1.2", "10.77.2.2"]), (6, ["fd77:1::2", "fd77:2::2"]))}


def keepalived(stage):
    """Two routers share an address by VRRP; the second takes it when the first ends."""
    box, peer = stage.pair()
    files = directory(stage)
    stage.police(box)
    daemons = {}
    for name, netns, priority in (("box", box, 150), ("peer", peer, 100)):
        configuration = write(f"{files}/{name}.conf", f"""
global_defs {{
    vrrp_version 3
}}
vrrp_instance one {{
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int 0.2
    virtual_ipaddress {{
        10.77.0.50/24
    }}
}}
""")
        daemons[name] = Daemon(netns, "keepalived", "--dont-fork", "--log-console", "--vrrp", "-f",
                               configuration, "-p", f"{files}/{name}.pid", "-r",
                               f"{files}/{name}.vrrp", said="VRRP")

    def holders():
        return [name for name, netns in (("box", box), ("peer", peer))
                if "10.77.0.50" in netns.ip("addr", "show", "eth0").stdout]
    until(lambda: holders() == ["box"], lambda: f"one router, not {holders()}")
    time.sleep(1)  # five advertisements later it is still so, or somebody did not hear them
    steady = holders()
    daemons["box"].stop()
    box.ip("addr", "del", "10.77.0.50/24", "dev", "eth0")
    until(lambda: holders() == ["peer"], lambda: f"the other router, not {holders()}")
    daemons["peer"].stop()
    return {"steady": steady}


KEEPALIVED = {"steady": ["box"]}
