# SPDX-License-Identifier: GPL-2.0-or-later
"""
Debian's own kernels, unpacked, and a Debian tree that holds what the tests need.

Everything comes from the archive that this machine's apt is set up for, by apt and debootstrap, with
apt's lists and state in a directory of our own. A directory is made beside its place and moved
there when it is whole, so what a run that was ended left is made anew. Kernels, and the trees of
tests/userlands, are fetched again after a week. Used by tests/kernels, tests/userlands and
tests/systemd.
"""
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
KERNEL = "linux-image-cloud-amd64"  # for virtual machines: a tenth of the drivers
# Packages that a kernel consists of; others that it asks for are how it is installed.
KERNEL_PARTS = re.compile(r"linux-(base|image|binary|modules)-(\d\S*-)?cloud-amd64$")
TOOLS = ("iproute2", "nftables", "procps", "netbase", "socat", "curl", "jq", "kmod", "python3",
         "python3-pytest", "python3-jsonschema")
KEPT_SECONDS = 7 * 24 * 3600


def run(*args, **kwargs):
    done = subprocess.run([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, text=True, **kwargs)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, args))}: exit {done.returncode}: "
                           f"{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def release():
    """The Debian release that this machine runs, whose libraries the programs are linked with."""
    with open("/etc/os-release", encoding="utf-8") as file:
        return re.search(r"^VERSION_CODENAME=(\w+)", file.read(), re.M)[1]


def mirror():
    listed = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
                 "Created-By: Packages")
    for line in listed.splitlines():
        uri, suite, component = line.split()
        if suite == release() and component == "main":
            return uri
    raise RuntimeError(f"apt knows no archive of {release()}: run apt-get update")


@contextlib.contextmanager
def alone(cache):
    """One run at a time makes what is missing."""
    os.makedirs(cache, exist_ok=True)
    with open(cache / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def made(directory):
    """A directory to fill, which gets the name `directory` when that went well."""
    os.makedirs(directory.parent, exist_ok=True)
    for left in directory.parent.glob(f".{directory.name}-*"):
        shutil.rmtree(left)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        os.utime(unfinished)  # packages give it a time of theirs
        shutil.rmtree(directory, ignore_errors=True)
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def recent(directory):
    """Is it there, from a run within the last days?"""
    return directory.is_dir() and time.time() - directory.stat().st_mtime < KEPT_SECONDS


# ---- kernels ----


@contextlib.contextmanager
def apt(suite):
    """The environment for an apt that knows `suite` alone and has nothing installed."""
    with tempfile.TemporaryDirectory(prefix="nsgate-apt-", dir="/var/tmp") as name:
        directory = pathlib.Path(name)
        for needed in ("lists/partial", "cache/archives/partial"):
            (directory / needed).mkdir(parents=True)
        (directory / "status").touch()
        (directory / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n")
        (directory / "apt.conf").write_text(
            f'Dir::Etc::sourcelist "{directory}/sources.list";\n'
            'Dir::Etc::sourceparts "-";\n'
            'Dir::Etc::preferencesparts "-";\n'
            f'Dir::State "{directory}";\n'
            f'Dir::State::status "{directory}/status";\n'
            f'Dir::Cache "{directory}/cache";\n'
            'Acquire::Languages "none";\n'
            'APT::Sandbox::User "root";\n')
        environment = {**os.environ, "APT_CONFIG": str(directory / "apt.conf"), "LC_ALL": "C.UTF-8"}
        run("apt-get", "-qq", "update", env=environment)
        yield environment


def parts(environment):
    """The packages of the suite's kernel, by name."""
    found, look = set(), [KERNEL]
    while look:
        listed = run("apt-cache", "depends", "--important", look.pop(), env=environment)
        for name in re.findall(r"Depends: (\S+)", listed):
            if KERNEL_PARTS.match(name) and name not in found:
                found.add(name)
                look.append(name)
    if not found:
        raise RuntimeError(f"{KERNEL} consists of nothing that is known here")
    return sorted(found)


def kernel(cache, suite):
    """The directory of the unpacked kernel of a suite, with boot/vmlinuz-* and its modules."""
    directory = cache / "kernels" / suite
    if recent(directory):
        return directory
    with apt(suite) as environment, made(directory) as tree:
        with tempfile.TemporaryDirectory(prefix="nsgate-deb-", dir="/var/tmp") as debs:
            run("apt-get", "-qq", "download", *parts(environment), cwd=debs, env=environment)
            for deb in pathlib.Path(debs).glob("*.deb"):
                run("dpkg-deb", "-x", deb, tree)
        run("depmod", "-b", tree if (tree / "lib").is_dir() else tree / "usr", version(tree))
    return directory


def modules(tree):
    """The directory of its modules: newer packages have it below usr."""
    found = [*tree.glob("lib/modules/*"), *tree.glob("usr/lib/modules/*")]
    return found[0]


def version(tree):
    return modules(tree).name


def image(tree):
    return next(tree.glob("boot/vmlinuz-*"), None) or modules(tree) / "vmlinuz"


# ---- the tree ----


def libraries(programs):
    """The packages of all libraries that they are linked with."""
    files = set()
    for line in run("ldd", *programs).splitlines():
        if found := re.search(r"=> (?:/usr)?(/lib/\S+)", line):
            files |= {found[1], "/usr" + found[1]}
    listed = subprocess.run(["dpkg-query", "-S", *sorted(files)], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, check=False).stdout
    return sorted({line.split(":")[0] for line in listed.splitlines()})


def debootstrap(tree, suite, packages):
    """
    A small Debian in the directory `tree`; `packages`: more, with commas between them. Whether it
    outlives a power cut is nothing to wait for: what is half made is made anew.
    """
    settings = tree / "etc" / "dpkg" / "dpkg.cfg.d" / "unsafe-io"
    settings.parent.mkdir(parents=True)
    settings.write_text("force-unsafe-io\n")
    proxy = re.search(r'"(.+)"', run("apt-config", "dump", "Acquire::http::Proxy"))
    # What it mounts in the tree must go with it, or who removes a tree half made meets /proc.
    run("unshare", "--mount", "--propagation", "private",
        "debootstrap", "--variant=minbase", f"--include={packages}", suite, tree, mirror(),
        env={**os.environ, **({"http_proxy": proxy[1]} if proxy else {}), "LC_ALL": "C.UTF-8"})
    if proxy:
        (tree / "etc" / "apt" / "apt.conf.d" / "proxy").write_text(
            f'Acquire::http::Proxy "{proxy[1]}";\n')


def root(cache, programs):
    """An ext4 image of a Debian tree; one for all kernels."""
    packages = ",".join([*TOOLS, *libraries(programs)])
    directory = cache / "root"
    made_of = directory / "packages"
    if made_of.exists() and made_of.read_text() == packages:
        return directory / "image"
    with made(directory) as place:
        tree = place / "tree"
        debootstrap(tree, release(), packages)
        shutil.rmtree(tree / "var" / "cache" / "apt" / "archives")
        (tree / "etc" / "hostname").write_text("nsgate\n")
        (tree / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        filesystem(tree, place / "image", 2048)
        shutil.rmtree(tree)
        (place / "packages").write_text(packages)
    return directory / "image"


def filesystem(tree, file, megabytes):
    """An ext4 image with what is in `tree`; needs no mount."""
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, file, f"{megabytes}M")
