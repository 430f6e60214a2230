# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of others, started inside a namespace and ended with all that they started."""
import contextlib
import os
import subprocess
import tempfile

from lab import end, run, until

START = 20.0  # seconds: until a server listens
RUN = 30.0  # seconds: for a client's whole work


def directory(stage):
    """For the files of one scenario; it goes with the laboratory."""
    made = tempfile.mkdtemp(prefix="program-", dir=stage.lab.dir)
    os.chmod(made, 0o755)
    return made


def write(path, text, mode=0o644):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def blob(path, size=2000000):
    """A file that no two places of are alike."""
    with open(path, "wb") as file:
        file.write(os.urandom(size))
    return path


def same(one, other):
    with contextlib.suppress(FileNotFoundError), open(one, "rb") as a, open(other, "rb") as b:
        return a.read() == b.read()
    return False


class Daemon:
    """
    In the foreground, the first process of a process namespace, so that its children end with it,
    and in a mount namespace, where the directories `private` are empty ones of its own. It is there
    once it listens at `ports`, TCP or UDP, and has `said` something.
    """

    def __init__(self, netns, *command, private=(), ports=(), said="", env=None):
        self.log = tempfile.TemporaryFile()
        mounts = "".join(f"mkdir -p {path}; mount -t tmpfs -o mode=755 none {path}; "
                         for path in private)
        self.process = netns.popen(
            "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--mount-proc",
            "sh", "-c", mounts + 'exec "$@"', "sh", *command, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})

        def ready():
            assert self.process.poll() is None, f"{command[0]} ended: {self.output()}"
            if said and said not in self.output():
                return False
            sockets = netns.exec("ss", "-Htuln").stdout
            return all(f":{port} " in sockets for port in ports)
        until(ready, lambda: f"{command[0]} to be there: {self.output()}", START)

    def output(self):
        return os.pread(self.log.fileno(), 1 << 20, 0).decode(errors="replace")

    def stop(self):
        end(self.process)
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop()


def client(netns, *command, timeout=RUN, **kwargs):
    """Run to its end. Return: the CompletedProcess, whose returncode is None where it hung."""
    try:
        return run("nsenter", "--net=" + netns.path, *command, check=False, timeout=timeout,
                   **kwargs)
    except subprocess.TimeoutExpired as late:
        text = [(part or b"").decode(errors="replace") for part in (late.stdout, late.stderr)]
        return subprocess.CompletedProcess(command, None, *text)
