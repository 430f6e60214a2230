# SPDX-License-Identifier: GPL-2.0-or-later
"""
A virtual machine with a kernel of Debian's, without the help of the processor (qemu's TCG). Its two
processors take turns: side by side, in qemu 7.2 and 8.0, one may run into a breakpoint that is gone
already while the other changes the kernel's code (a static key), as each first and last base chain
makes it do, and the kernel panics (linux-kernel, July 2023, "still see int3").

    disk 0   the tree, written to in memory alone (snapshot=on)
    disk 1   the kernel's modules
    source   the source with what was built of it, by virtiofs, where the host has it
    talk     a directory of the run: the guest does N.sh, and leaves N.log and N.rc (guest-init)

Its processes end with it, and whatever they made lies in one temporary directory.
"""
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import archive
import booted

VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")
FIRST_MODULES = ("virtio_pci", "virtio_blk", "ext4", "virtiofs")  # until the tree is mounted
BOOT_SECONDS = 180
MEMORY = 2048  # MB
PREFIX = "nsgate-qemu-"
HERE = pathlib.Path(__file__).resolve().parent


def first_modules(tree):
    """Files of modules in the order in which they must be loaded."""
    base = tree if (tree / "lib").is_dir() else tree / "usr"
    files = []
    for name in FIRST_MODULES:
        shown = archive.run("modprobe", "--dirname", base, "--set-version", archive.version(tree),
                            "--show-depends", name)
        files += re.findall(r"^insmod (\S+)", shown, re.M)
    return list(dict.fromkeys(files))


def make_initrd(tree, file, source):
    """busybox, the first modules and guest-init."""
    with tempfile.TemporaryDirectory(prefix="nsgate-initrd-", dir="/var/tmp") as name:
        place = pathlib.Path(name)
        for directory in ("bin", "modules", "proc", "dev", "root"):
            (place / directory).mkdir()
        shutil.copy("/bin/busybox", place / "bin" / "busybox")
        for number, module in enumerate(first_modules(tree)):
            unpack(module, place / "modules" / f"{number:02}.ko")
        init = (HERE / "guest-init").read_text().replace("@SOURCE@", str(source))
        (place / "init").write_text(init)
        (place / "init").chmod(0o755)
        with open(file, "wb") as out:
            subprocess.run("find . | cpio --quiet -o -H newc | gzip -1", shell=True, cwd=place,
                           stdout=out, check=True)


def unpack(module, file):
    """busybox takes no compressed modules."""
    tool = {".xz": "xz", ".gz": "gzip", ".zst": "zstd"}.get(pathlib.Path(module).suffix)
    with open(file, "wb") as out:
        subprocess.run([*([tool, "-dc"] if tool else ["cat"]), module], stdout=out, check=True)


def remove_leftovers():
    """Of runs that were killed: their processes have died with them."""
    for left in pathlib.Path("/var/tmp").glob(f"{PREFIX}*-*"):
        if not os.path.exists(f"/proc/{left.name.removeprefix(PREFIX).split('-')[0]}"):
            shutil.rmtree(left, ignore_errors=True)


class Machine(booted.Booted):
    def __init__(self, cache, suite, programs, source):
        remove_leftovers()
        with archive.alone(cache):
            self.tree = archive.kernel(cache, suite)
            self.root = archive.root(cache, programs)
        self.source = source
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/var/tmp"))
        self.talk = self.dir / "talk"
        self.processes = []
        self.scripts = 0

    def start(self, name, *command):
        with open(self.dir / f"{name}.log", "wb") as log:
            self.processes.append(subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))

    def share(self, tag, directory):
        """Return: qemu's options for it."""
        socket = self.dir / f"{tag}.socket"
        program = next((p for p in VIRTIOFSD if os.access(p, os.X_OK)), None)
        if not program:
            raise RuntimeError("there is no virtiofsd: see deploy/deps.sh kernels")
        self.start(f"virtiofsd-{tag}", program, f"--socket-path={socket}", "-o",
                   f"source={directory}", "-o", "cache=auto")
        self.until(socket.exists, 20, f"virtiofsd for {directory}")
        return ["-chardev", f"socket,id={tag},path={socket}",
                "-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"]

    def boot(self):
        self.talk.mkdir()
        modules, initrd = self.dir / "modules.image", self.dir / "initrd"
        archive.filesystem(archive.modules(self.tree).parent, modules, 512)
        make_initrd(self.tree, initrd, self.source)
        disk = "file={},if=virtio,format=raw,snapshot=on"
        self.start(
            "qemu", "nice", "-n", "5", "qemu-system-x86_64", "-accel", "tcg,thread=single",
            "-cpu", "max", "-smp", "2", "-m", MEMORY, "-nodefaults", "-nographic", "-no-reboot",
            "-object", f"memory-backend-memfd,id=memory,size={MEMORY}M,share=on",
            "-numa", "node,memdev=memory", "-serial", f"file:{self.dir / 'console'}",
            "-drive", disk.format(self.root), "-drive", disk.format(modules),
            *self.share("source", self.source), *self.share("talk", self.talk),
            "-kernel", archive.image(self.tree), "-initrd", initrd, "-append",
            "console=ttyS0 mitigations=off nokaslr quiet panic=-1")
        self.until((self.talk / "ready").exists, BOOT_SECONDS, "the guest to boot")

    def console(self):
        file = self.dir / "console"
        return file.read_text(errors="replace")[-3000:] if file.exists() else ""

    def until(self, condition, seconds, what):
        deadline = time.monotonic() + seconds
        while not condition():
            ended = [p.args[2] for p in self.processes if p.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"waited {seconds} s for {what}; ended: {ended}; the console:\n"
                                   + self.console())
            time.sleep(0.1)

    def sh(self, script, seconds):
        """Run a script in the guest. Return: (exit status, what it printed)."""
        self.scripts += 1
        base = self.talk / str(self.scripts)
        unfinished = self.talk / "unfinished"
        unfinished.write_text(script)
        unfinished.rename(f"{base}.sh")
        status = pathlib.Path(f"{base}.rc")
        self.until(status.exists, seconds, "a script in the guest to end")
        return int(status.read_text()), pathlib.Path(f"{base}.log").read_text(errors="replace")

    def close(self):
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
