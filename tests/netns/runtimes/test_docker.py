# SPDX-License-Identifier: GPL-2.0-or-later
"""Docker: nsgate-runc alone, as containerd calls it; then under a real dockerd; docker:NAME."""
import json
import os
import signal
import socket
import stat
import subprocess
import threading

import pytest

from containers import send
from lab import Arrivals, answers, end, run, until

POLICY = {"default": {"in": "accept", "out": "drop"},
          "rules": [{"name": "ok", "action": "accept", "direction": "out", "protocol": "udp",
                     "dport": [7]}]}
WEB = {"io.nsgate.policy": "web"}


@pytest.fixture
def web(machine):
    machine.lab.put_policy("web", **POLICY)
    return machine


# ---- the shim alone ----


def shim(machine, *args, real="/bin/true", **kwargs):
    return run(machine.shim, f"--nsgate-runtime={real}",
               f"--nsgate-runtime-dir={machine.lab.runtime}", *args, check=False, **kwargs)


def read_config(bundle):
    with open(f"{bundle}/config.json", encoding="utf-8") as file:
        return json.load(file)


def hooks_of(bundle):
    hooks = read_config(bundle)["hooks"]
    return {stage: [hook["path"] for hook in hooks[stage]] for stage in hooks}


@pytest.mark.parametrize("command", [
    ["create", "--bundle", "BUNDLE", "a"], ["run", "-b", "BUNDLE", "a"],
    ["create", "--bundle=BUNDLE", "a"], ["run", "-b=BUNDLE", "a"], ["create", "-bundle", "BUNDLE", "a"],
    ["--root", "create", "--log", "run", "--log-format", "json", "create", "--bundle", "BUNDLE",
     "--pid-file", "x", "a"],
    ["--log=l", "--systemd-cgroup", "--debug", "run", "--detach", "--bundle", "BUNDLE", "a"],
    ["restore", "--image-path", "x", "--bundle", "BUNDLE", "a"],
], ids=range(8))
def test_shim_finds_the_bundle(web, command):
    bundle = web.bundle(f"shim-{abs(hash(str(command)))}", annotations=WEB, hooks=False)
    words = [word.replace("BUNDLE", bundle) for word in command]
    for _ in range(2):  # again is nothing new
        done = shim(web, *words, real="/bin/echo")
        assert (done.returncode, done.stdout) == (0, " ".join(words) + "\n"), done.stderr
        assert hooks_of(bundle) == {"createRuntime": [web.hook], "poststop": [web.hook]}


def test_shim_in_the_bundle(web):
    bundle = web.bundle("shim-cwd", annotations=WEB, hooks=False)
    assert shim(web, "run", "a", cwd=bundle).returncode == 0
    assert hooks_of(bundle)["poststop"] == [web.hook]


def test_shim_keeps_what_is_there(web):
    bundle = web.bundle("shim-keeps", annotations=WEB)
    config = read_config(bundle)
    mine = {"path": "/bin/true", "args": ["a", "b"], "env": ["A=/b"], "timeout": 3}
    config["hooks"] = {"prestart": [mine], "createRuntime": [mine]}
    config["process"]["rlimits"] = [{"type": "RLIMIT_AS", "hard": 2**64 - 1, "soft": 2**63}]
    config["process"]["env"].append("TEXT=\u00e9\"/\\\u2028")
    config["x"] = [1.25, -1, None, True, {}]
    path = f"{bundle}/config.json"
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)
    os.chmod(path, 0o640)
    assert shim(web, "create", "--bundle", bundle, "a").returncode == 0
    changed = read_config(bundle)
    assert changed["hooks"]["prestart"] == [mine]
    assert changed["hooks"]["createRuntime"][0] == mine
    assert [h["path"] for h in changed["hooks"]["createRuntime"]] == ["/bin/true", web.hook]
    del changed["hooks"], config["hooks"]
    assert changed == config
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
    assert sorted(os.listdir(bundle)) == ["config.json"]


@pytest.mark.parametrize("command", ["start", "state", "kill", "delete", "exec", "--version"])
def test_shim_leaves_other_commands_alone(web, command):
    bundle = web.bundle(f"shim-{command}", annotations={"io.nsgate.polcy": "x"}, hooks=False)
    done = shim(web, command, "--bundle", bundle, "create", real="/bin/echo")
    assert done.stdout == f"{command} --bundle {bundle} create\n"
    assert hooks_of(bundle) == {}


def test_shim_without_annotations(web):
    bundle = web.bundle("shim-none", hooks=False)
    before = os.stat(f"{bundle}/config.json").st_ino
    assert shim(web, "create", "--bundle", bundle, "a").returncode == 0
    assert os.stat(f"{bundle}/config.json").st_ino == before
    # Unless the runtime has a policy for those.
    assert shim(web, "--nsgate-policy", "web", "create", "--bundle", bundle, "a").returncode == 0
    assert read_config(bundle)["annotations"] == WEB
    assert hooks_of(bundle)["createRuntime"] == [web.hook]


@pytest.mark.parametrize("text, why", [
    ("", "not JSON"), ("[]", "not JSON"), ('{"annotations": {"io.nsgate.polcy": "web"}}', "polcy"),
    ('{"annotations": {"io.nsgate.policy": 1}}', "not a string"),
    ('{"annotations": {"io.nsgate.policy": "web"}, "hooks": []}', "not the configuration"),
    ('{"annotations": {"io.nsgate.policy": "web"}, "hooks": {"poststop": 1}}',
     "not the configuration"), (None, "no such file"),
], ids=range(7))
def test_shim_refuses(web, text, why):
    """No container starts, and the reason is where docker looks for it."""
    bundle = web.bundle(f"shim-refuses-{abs(hash(text))}")
    path = f"{bundle}/config.json"
    os.unlink(path)
    if text is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    done = shim(web, "--log", f"{bundle}/log", "--log-format", "json", "create", "--bundle",
                bundle, "a", real="/bin/echo")
    assert done.returncode != 0 and done.stdout == ""
    assert why in done.stderr and done.stderr.count("\n") == 1
    with open(f"{bundle}/log", encoding="utf-8") as file:
        line = json.loads(file.read())
    assert line["level"] == "error" and why in line["msg"]


def test_shim_refuses_what_may_hide_a_container(web):
    """The value of an option that it does not know must not pass for a command."""
    bundle = web.bundle("shim-hides", hooks=False, annotations=WEB)
    done = shim(web, "--log-level", "debug", "create", "--bundle", bundle, "a", real="/bin/echo")
    assert done.returncode == 2 and done.stdout == "" and "--OPTION=debug" in done.stderr
    done = shim(web, "--log-level=debug", "create", "--bundle", bundle, "a", real="/bin/echo")
    assert done.returncode == 0 and hooks_of(bundle)["createRuntime"] == [web.hook]


def test_shim_without_a_runtime(web):
    bundle = web.bundle("shim-nowhere", annotations=WEB)
    done = shim(web, "create", "--bundle", bundle, "a", real="/nowhere/runc")
    assert done.returncode == 1 and "/nowhere/runc: No such file" in done.stderr
    assert shim(web, "--nsgate-nonsense", "create").returncode == 2
    assert run(web.shim, "--nsgate-version").stdout.startswith("nsgate-runc ")
    assert "--nsgate-policy" in run(web.shim, "--nsgate-help").stdout


def test_shim_and_real_runc(web):
    netns, peer = web.lab.pair()
    arrivals = Arrivals(peer, 7, 9)
    command = [web.shim, f"--nsgate-runtime-dir={web.lab.runtime}", *web.command("runc")[1:]]
    container = web.start("runc", send("10.77.0.2", 9, 7) + "; exec sleep 600", name="shimmed",
                          command=command, hooks=False, annotations=WEB, netns=netns)
    arrivals.wait({(7, 4): 1})
    assert arrivals.seen[(9, 4)] == 0
    web.lab.expect("shimmed", {"packets.accepted": 1, "packets.dropped": 1})
    container.kill()
    container.wait()
    assert web.lab.names() == []


# ---- under docker ----


class Docker:
    """An engine of our own, without a bridge and without rules of its own on the host."""

    def __init__(self, machine):
        self.machine = machine
        self.dir = f"{machine.dir}/docker"
        os.makedirs(self.dir)
        self.socket = f"{self.dir}/docker.sock"
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{self.socket}"}
        ours = [f"--nsgate-runtime-dir={machine.lab.runtime}"]
        runtimes = {"nsgate-web": {"path": machine.shim, "runtimeArgs": [
            *ours, "--nsgate-policy=web"]}, "nsgate-nosuch": {"path": machine.shim, "runtimeArgs": [
                *ours, "--nsgate-policy=nosuch"]}, "nsgate-broken": {
                    "path": machine.shim, "runtimeArgs": [*ours, "--nsgate-policy=web",
                                                          "--nsgate-runtime=/nowhere/runc"]}}
        with open(f"{self.dir}/daemon.json", "w", encoding="utf-8") as file:
            json.dump({"runtimes": runtimes}, file)
        self.log = f"{self.dir}/log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c",
                 "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"", "sh", "dockerd",
                 "--config-file", f"{self.dir}/daemon.json", "--data-root", f"{self.dir}/data",
                 "--exec-root", f"{self.dir}/exec", "--pidfile", f"{self.dir}/pid",
                 "--host", f"unix://{self.socket}", "--bridge=none", "--iptables=false",
                 "--ip-forward=false", "--ip-masq=false", "--storage-driver=vfs"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            until(self.ready, self.last_words, 60)
            with subprocess.Popen(["tar", "-C", machine.rootfs, "-c", "."],
                                  stdout=subprocess.PIPE) as tar:
                run("/usr/bin/docker", "import", "-", "little", env=self.environment,
                    stdin=tar.stdout)
        except BaseException:
            self.close()
            raise

    def ready(self):
        assert self.process.poll() is None, self.last_words()
        return os.path.exists(self.socket) and answers(self.socket)

    def last_words(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()[-3000:]

    def __call__(self, *args, check=True):
        return run("/usr/bin/docker", *args, env=self.environment, check=check,
                   stdin=subprocess.DEVNULL)

    def run(self, name, *options, script="exec sleep 600", **kwargs):
        return self("run", "--detach", "--name", name, "--ulimit", "nofile=1024:1024",
                    *options, "little", "sh", "-c", script, **kwargs)

    def clean(self):
        if names := self("ps", "--all", "--quiet").stdout.split():
            self("rm", "--force", *names)

    def close(self):
        end(self.process, signal.SIGTERM, 30)


@pytest.fixture(scope="module")
def engine(shared_machine):
    made = Docker(shared_machine)
    yield made
    made.close()


@pytest.fixture
def docker(engine, web):
    yield engine
    engine.clean()


def test_docker_runtime(docker, web):
    lab = web.lab
    docker.run("shop", "--runtime", "nsgate-web", "--network", "none", "--cap-add", "NET_ADMIN",
               script=send("127.0.0.1", 9, 7) + "; exec sleep 600")
    name = docker("inspect", "--format", "{{.Id}}", "shop").stdout[:12]
    assert lab.names() == [name]
    lab.expect(name, {"policy": "web", "packets.dropped": 1, "rules.ok": 1})
    docker("kill", "shop")
    until(lambda: lab.names() == [], "it to be let go of")
    docker("start", "shop")
    assert lab.names() == [name]


@pytest.mark.parametrize("runtime, why", [("nsgate-nosuch", "policy nosuch does not exist"),
                                          ("nsgate-broken", "/nowhere/runc: No such file")])
def test_docker_shows_why(docker, web, runtime, why):
    done = docker.run("fails", "--runtime", runtime, "--network", "none", check=False)
    assert done.returncode != 0 and why in done.stderr
    assert web.lab.names() == []


def test_docker_host_network(docker, web):
    done = docker.run("fails", "--runtime", "nsgate-web", "--network", "host", check=False)
    assert done.returncode != 0 and "it has the host's network" in done.stderr


def test_docker_shared_network(docker, web):
    docker.run("first", "--runtime", "nsgate-web", "--network", "none")
    docker.run("second", "--runtime", "nsgate-web", "--network", "container:first")
    assert len(web.lab.names()) == 1
    docker("rm", "--force", "first")
    assert len(web.lab.names()) == 1
    docker("rm", "--force", "second")
    until(lambda: web.lab.names() == [], "it to be let go of")


def attach(web, docker, *args):
    return web.lab.ctl("attach", *args, "--policy", "web", env=docker.environment)


def test_docker_target(docker, web):
    lab = web.lab
    docker.run("plain", "--network", "none")
    pid = docker("inspect", "--format", "{{.State.Pid}}", "plain").stdout.strip()
    identity = docker("inspect", "--format", "{{.Id}}", "plain").stdout.strip()
    for target in ("plain", identity, identity[:12]):
        done = attach(web, docker, f"docker:{target}")
        assert (done.returncode, done.stderr) == (0, "")
        assert lab.names() == ["plain"]
        assert lab.get("/v1/namespaces/plain")["target"] == f"pid:{pid} (docker:{target})"
        lab.detach("plain")
    docker("kill", "plain")
    for target in ("plain", "nosuch"):
        done = attach(web, docker, f"docker:{target}")
        assert (done.returncode, done.stderr.count("\n")) == (4, 1), done.stderr


# ---- what may answer instead of docker ----


def test_no_docker(web):
    where = {**os.environ, "DOCKER_HOST": f"unix://{web.dir}/nobody"}
    done = web.lab.ctl("attach", "docker:web", env=where)
    assert done.returncode == 3 and f"{web.dir}/nobody: No such file" in done.stderr
    where["DOCKER_HOST"] = "tcp://127.0.0.1:2375"
    done = web.lab.ctl("attach", "docker:web", env=where)
    assert done.returncode == 2 and "DOCKER_HOST" in done.stderr
    for name in ("", "..", "a/b", "a?b", "-x", "a b", "a" * 300):
        assert web.lab.ctl("attach", f"docker:{name}", env=where).returncode == 2


@pytest.mark.parametrize("answer, code", [
    (b"HTTP/1.1 500 x\r\nContent-Length: 2\r\n\r\n{}", 1),
    (b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\n{}", 1),
    (b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\n[]", 1), (b"nonsense", 1), (b"", 1),
], ids=range(5))
def test_bad_answers(web, answer, code):
    path = f"{web.dir}/bad-{abs(hash(answer))}.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()

        def serve():
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(answer)
        server = threading.Thread(target=serve)
        server.start()
        done = web.lab.ctl("attach", "docker:web",
                           env={**os.environ, "DOCKER_HOST": f"unix://{path}"})
        server.join(10)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
