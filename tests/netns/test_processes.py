# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of processes in doc/PRIVSEP.md, held against /proc."""
import contextlib
import os
import pathlib
import pwd
import re
import signal

from captured import NUMBERS
from lab import HERE, OLDER, end, until

import pytest

PAGE = pathlib.Path(HERE).parents[1] / "doc" / "PRIVSEP.md"
# linux/capability.h, those that any process of nsgate has
CAPABILITIES = {0: "CHOWN", 1: "DAC_OVERRIDE", 3: "FOWNER", 5: "KILL", 6: "SETGID", 7: "SETUID",
                8: "SETPCAP", 12: "NET_ADMIN", 19: "SYS_PTRACE", 21: "SYS_ADMIN"}
KINDS = (  # of what a descriptor leads to; the first that fits
    (r"socket:", "sockets"), (r"pipe:", "a pipe"), (r"anon_inode:\[eventpoll\]", "epoll"),
    (r"anon_inode:\[signalfd\]", "signals"), (r"(anon_inode:)?inotify", "inotify"),
    (r"anon_inode:\[eventfd\]", "eventfds"), (r"anon_inode:\[timerfd\]", "timers"),
    (r"(anon_inode:\[)?pidfd", "pidfds"), (r"/proc/.*/nfnetlink_queue$", "the queues' proc file"),
    (r"/proc/.*/schedstat$", "schedstat"), (r"RUN/attached$", "the records"),
    (r"RUN/attached/.*\.counters$", "counters"), (r"RUN/last-good$", "last-good"),
    (r"RUN/.*\.lock$", "a lock"), (r"ETC/policies$", "the policies"),
)
LEFT_OUT = (r"/dev/null", r".*\.log$")


def table():
    """{name: {column: words}}"""
    rows, heading = {}, None
    for line in PAGE.read_text(encoding="ascii").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| process |"):
            heading = cells
        elif heading and line.startswith("| "):
            rows[cells[0]] = dict(zip(heading[1:], cells[1:]))
        elif heading and not line.startswith("|"):
            return rows
    raise AssertionError("the page has no such table")


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def family(pid):
    """It and all that it started."""
    found = [pid]
    with contextlib.suppress(FileNotFoundError):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            for child in file.read().split():
                found += family(int(child))
    return found


def capabilities(mask):
    bits = [bit for bit in range(64) if int(mask, 16) >> bit & 1]
    return ", ".join(CAPABILITIES.get(bit, f"bit {bit}") for bit in bits) or "none"


def holds(lab, pid):
    kinds = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            link = os.readlink(f"/proc/{pid}/fd/{fd}")
            link = link.replace(lab.runtime, "RUN").replace(lab.config, "ETC")
            if not any(re.match(pattern, link) for pattern in LEFT_OUT):
                kinds.add(next((kind for pattern, kind in KINDS if re.match(pattern, link)), link))
    return ", ".join(sorted(kinds))


def row(lab, pid, namespaces):
    facts = status(pid)
    uid = facts["Uid"].split()
    assert len(set(uid)) == 1
    assert facts["CapBnd"] == facts["CapPrm"] or int(facts["CapPrm"], 16) == 0
    assert int(facts["CapInh"], 16) == int(facts["CapAmb"], 16) == 0
    net = os.readlink(f"/proc/{pid}/ns/net")
    return {"uid": "0" if uid[0] == "0" else pwd.getpwuid(int(uid[0])).pw_name,
            "in effect": capabilities(facts["CapEff"]), "permitted": capabilities(facts["CapPrm"]),
            "no_new_privs": facts["NoNewPrivs"], "seccomp": facts["Seccomp"],
            "network namespace": namespaces[net], "holds": holds(lab, pid)}


def test_processes_are_what_the_page_says(own_lab):
    lab = own_lab
    if not NUMBERS:
        pytest.skip("older.py does not know this machine")
    lab.through["nsgate-broker"] = OLDER
    lab.start_broker("--supervise", "--", "--user", "nobody", "--group", "daemon", wait=False)
    until(lambda: os.path.exists(f"{lab.runtime}/api.sock"), "an agent")
    lab.wait_ready()
    inner = lab.netns("pid")
    first = inner.popen("sleep", "60")
    until(lambda: os.stat(f"/proc/{first.pid}/ns/net").st_ino == os.stat(inner.path).st_ino,
          "the process to be in there")
    lab.must("attach", f"pid:{first.pid}", "--name", "pid", "--policy",
             lab.policy(default="accept"))
    pids = {}
    for pid in family(lab.broker.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a child for a moment
            pids.setdefault(status(pid)["Name"], pid)
    namespaces = {os.readlink(f"/proc/{pids['nsgate-broker']}/ns/net"): "b",
                  os.readlink(f"/proc/{pids['nsgate-agent']}/ns/net"): "a"}
    assert len(namespaces) == 2 and os.readlink("/proc/self/ns/net") not in namespaces
    for pid in (pids["nsgate-broker"], pids["nsgate-agent"]):
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            assert [line.split(":")[0].strip() for line in file if ":" in line] == ["lo"]
    page = {name[:15]: cells for name, cells in table().items()}
    found = {name: row(lab, pid, namespaces) for name, pid in pids.items()}
    lines = [f"| {name} | " + " | ".join(cells.values()) + " |" for name, cells in found.items()]
    assert found == page, "\n" + "\n".join(lines)
    end(first)
    end(lab.broker, signal.SIGTERM)
