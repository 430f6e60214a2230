# SPDX-License-Identifier: GPL-2.0-or-later
"""
PostgreSQL at work, with a standby and pgbench, while nsgate comes, changes its mind, dies and goes.
The policy allows the database's port and rejects all else; the connections are older than it.
"""
import os
import re
import shutil
import signal
import subprocess
import time

from lab import SLOW, end, until
from transparent.daemons import Daemon, client, directory

BIN = "/usr/lib/postgresql/15/bin"
AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
LONGEST = 600  # seconds that pgbench would work; it is told when to end
ENDS = 24  # seconds within which it has, or somebody else
SERVER = {"default": "reject", "rules": [
    {"name": "sql", "action": "accept", "direction": "in", "protocol": "tcp", "dport": 5432}]}
CLIENT = {"default": "reject", "rules": [
    {"name": "sql", "action": "accept", "direction": "out", "protocol": "tcp", "dport": 5432}]}


def as_postgres(*command):
    done = subprocess.run([*AS_POSTGRES, *command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Cluster:
    """A primary in `server`, its standby in `asker`."""

    def __init__(self, stage, server, asker, address):
        self.files = directory(stage)
        shutil.chown(self.files, "postgres", "postgres")
        as_postgres(f"{BIN}/initdb", "-N", "-A", "trust", "-D", f"{self.files}/primary")
        with open(f"{self.files}/primary/pg_hba.conf", "a", encoding="ascii") as file:
            file.write("host all all 10.77.0.0/24 trust\nhost replication all 10.77.0.0/24 trust\n")
        self.primary = self.start(server, "primary")
        base = client(asker, *AS_POSTGRES, f"{BIN}/pg_basebackup", "-h", address, "-R", "-c",
                      "fast", "-N", "-D", f"{self.files}/standby")
        assert base.returncode == 0, base.stderr
        self.standby = self.start(asker, "standby")
        as_postgres(f"{BIN}/pgbench", "-q", "-i", "-s", "1", "-h", self.files, "postgres")
        until(lambda: self.walsender(), "the standby to stream")

    def start(self, netns, which):
        options = ["-c", "listen_addresses=*", "-c", "fsync=off", "-c", "unix_socket_directories=" +
                   (self.files if which == "primary" else f"{self.files}/standby"),
                   "-c", "shared_buffers=16MB"]
        daemon = Daemon(netns, *AS_POSTGRES, f"{BIN}/postgres", "-D", f"{self.files}/{which}",
                        *options, ports=[5432])
        # It listens before it answers.
        where = self.files if which == "primary" else f"{self.files}/standby"
        until(lambda: subprocess.run([*AS_POSTGRES, f"{BIN}/pg_isready", "-q", "-h", where],
                                     check=False).returncode == 0, f"the {which} to answer")
        return daemon

    def ask(self, question, which="primary"):
        where = self.files if which == "primary" else f"{self.files}/standby"
        return as_postgres(f"{BIN}/psql", "-h", where, "-At", "-c", question, "postgres").strip()

    def walsender(self):
        """Of the replication that streams: its pid, "" where there is none."""
        return self.ask("select pid from pg_stat_replication where state = 'streaming'")

    def caught_up(self):
        here = self.ask("select pg_current_wal_lsn()")
        return self.ask(f"select pg_last_wal_replay_lsn() >= '{here}'::pg_lsn", "standby") == "t"

    def stop(self):
        self.standby.stop()
        self.primary.stop()


def pause():
    time.sleep(0.5)  # for work to be done in the state that was just made


def trouble(stage, box):
    """What may happen to nsgate while a database is at work."""
    lab = stage.lab
    stage.police(box)
    pause()
    for number in range(3):
        stage.change(comment=f"version {number}")
        pause()
    for start, which in ((lab.start_agent, "agent"), (lab.start_broker, "broker")):
        end(getattr(lab, which))
        start(*(("--admin", "4321") if which == "broker" else ()))
        lab.wait_ready()
        pause()
    name = stage.attached.pop()
    lab.detach(name)
    pause()
    stage.police(box)


def cut_off(stage, cluster, asker, address):
    """
    A policy that forbids the database, while a client waits for its answer: both ends are told when
    that is sent. Return: were they?
    """
    waiting = asker.popen(*AS_POSTGRES, f"{BIN}/psql", "-h", address, "-c", "select pg_sleep(2)",
                          "postgres", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    asleep = "select count(*) from pg_stat_activity where query = 'select pg_sleep(2)'"
    until(lambda: cluster.ask(asleep) == "1", "the client to wait")
    stage.change(rules=[])
    told = waiting.communicate(timeout=ENDS * SLOW)[1]
    until(lambda: cluster.ask(asleep) == "0", "the server to have given it up")
    return "closed the connection" in told or "reset by peer" in told


def at_work(stage, policed):
    box, peer = stage.pair()
    server, asker, address = ((box, peer, "10.77.0.1") if policed == "server" else
                              (peer, box, "10.77.0.2"))
    cluster = Cluster(stage, server, asker, address)
    stage.policy = SERVER if policed == "server" else CLIENT
    sender = cluster.walsender()
    bench = asker.popen(*AS_POSTGRES, f"{BIN}/pgbench", "-h", address, "-T", LONGEST, "-c", "4",
                        "-j", "2", "postgres", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                        text=True, env={**os.environ, "PGOPTIONS": "-c synchronous_commit=on"})
    pause()
    if stage.mode != "plain":
        trouble(stage, box)
    pause()
    bench.send_signal(signal.SIGALRM)  # by which it ends itself when its time is over
    try:
        text = bench.communicate(timeout=ENDS * SLOW)[0]
    except subprocess.TimeoutExpired:
        text = "it hangs"
    failed = re.search(r"failed transactions: (\d+)", text)
    done = re.search(r"actually processed: (\d+)", text)
    outcome = {"exit": bench.poll(), "failed": failed and failed[1],
               "worked": bool(done) and int(done[1]) > 100,
               "replication lives": cluster.walsender() == sender}
    until(cluster.caught_up, "the standby to have caught up")
    if stage.mode != "plain":
        outcome["cut off"] = cut_off(stage, cluster, asker, address)
    cluster.stop()
    return {"cut off": True, **outcome}


AT_WORK = {"exit": 0, "failed": "0", "worked": True, "replication lives": True, "cut off": True}
