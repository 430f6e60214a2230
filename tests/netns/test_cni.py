# SPDX-License-Identifier: GPL-2.0-or-later
"""The CNI plugin as a container runtime calls it, with real daemons and real packets."""
import concurrent.futures
import hashlib
import itertools
import json
import os
import subprocess

import pytest

from lab import Arrivals, inside, program, run, until
from readme import SOURCE, cni_network

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = VERSIONS[-1]
POLICY = {"default": "drop", "rules": [{"name": "ok", "action": "accept", "dport": [7]}]}
IDS = itertools.count(1)
MISSING = object()

# Of every type that a result may have, and in an order of its own.
RESULT = {
    "cniVersion": NEWEST,
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.77.0.2", "mtu": 1400}],
    "ips": [{"address": "10.77.0.1/24", "gateway": "10.77.0.2", "interface": 0}],
    "interfaces": [{"name": "eth0", "mac": "02:77:00:00:00:01", "sandbox": "/run/netns/x"}],
    "dns": {"nameservers": ["10.77.0.2"], "search": ["a/b", "é"], "options": []},
    "x-other": {"number": 18446744073709551615, "negative": -7, "real": 1.50, "none": None,
                "deep": [[True, False, {}], []]},
}


def new_id():
    """Of the length that podman, docker and containerd make."""
    return hashlib.sha256(f"{os.getpid()}-{next(IDS)}".encode()).hexdigest()


class Outcome:
    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    @property
    def json(self):
        return json.loads(self.out)

    def succeeded(self, empty=True):
        assert self.code == 0, (self.out, self.err)
        assert not empty or self.out == ""
        return self

    def failed(self, code, *texts):
        """With that code of the specification, and a reason that holds `texts`."""
        assert self.code == 1, self.out
        document = self.json
        assert document["code"] == code, document
        assert document["cniVersion"] in VERSIONS
        assert document["msg"] and set(document) <= {"cniVersion", "code", "msg", "details"}
        told = document["msg"] if code in (2, 4) else document["msg"] + document["details"]
        assert "\n" not in told
        for text in texts:
            assert text in told
        return document


class Plugin:
    """One container, as a runtime sees it."""

    def __init__(self, lab, netns=None, policy="cni", container=None):
        self.lab = lab
        self.container = container or new_id()
        self.netns = netns.path if netns else "/run/netns/there-is-none"
        self.conf = {"cniVersion": NEWEST, "name": "net", "type": "nsgate", "policy": policy,
                     "runtimeDir": lab.runtime, "prevResult": RESULT}

    @property
    def name(self):
        return self.container[:12]

    def call(self, command, ifname="eth0", environment=None, text=None, **keys):
        conf = {key: value for key, value in {**self.conf, **keys}.items() if value is not MISSING}
        variables = {"CNI_COMMAND": command, "CNI_CONTAINERID": self.container,
                     "CNI_NETNS": self.netns, "CNI_IFNAME": ifname, "CNI_PATH": "/nowhere",
                     **(environment or {})}
        variables = {key: value for key, value in variables.items() if value is not None}
        return Outcome(subprocess.run(
            [program("nsgate-cni")], env=variables, capture_output=True, text=True, timeout=60,
            input=json.dumps(conf) if text is None else text, check=False))

    def add(self, **kwargs):
        outcome = self.call("ADD", **kwargs).succeeded(empty=False)
        assert outcome.json == {**RESULT, **kwargs.get("prevResult", {})}
        return outcome

    def delete(self, **kwargs):
        return self.call("DEL", **kwargs).succeeded()

    def noted(self):
        path = f"{self.lab.runtime}/cni/{self.container}"
        return sorted(os.listdir(path)) if os.path.isdir(path) else None

    def attached(self):
        return self.lab.get(f"/v1/namespaces/{self.name}")


@pytest.fixture(name="plugin")
def fixture_plugin(lab):
    lab.put_policy("cni", **POLICY)
    made = Plugin(lab, lab.netns())
    yield made
    made.call("DEL")


def has_table(path):
    with inside(path):
        return "inet nsgate" in run("nft", "list", "tables").stdout


# ---- versions ----


@pytest.mark.parametrize("version", [*VERSIONS, "0.1.0", "9.9.9"])
def test_version_tells_what_is_spoken(lab, version):
    plugin = Plugin(lab)
    for text in (f'{{"cniVersion":"{version}"}}', f'{{"name":"x","cniVersion":"{version}"}}'):
        outcome = plugin.call("VERSION", text=text, environment={
            "CNI_CONTAINERID": None, "CNI_NETNS": None, "CNI_IFNAME": None, "CNI_PATH": None})
        assert outcome.succeeded(empty=False).json == {"cniVersion": version,
                                                       "supportedVersions": list(VERSIONS)}


def test_version_without_a_version_names_the_newest(lab):
    assert Plugin(lab).call("VERSION", text="{}").json["cniVersion"] == NEWEST


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "STATUS", "GC"])
@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", "1.2.0", "2.0.0", "", "1.0", MISSING])
def test_other_versions_are_refused(lab, command, version):
    document = Plugin(lab).call(command, cniVersion=version).failed(1, "0.3.1")
    assert document["cniVersion"] == NEWEST


@pytest.mark.parametrize("command, since", [("CHECK", "0.4.0"), ("STATUS", "1.1.0"),
                                            ("GC", "1.1.0")])
@pytest.mark.parametrize("version", VERSIONS)
def test_commands_belong_to_versions(lab, command, since, version):
    outcome = Plugin(lab).call(command, cniVersion=version, prevResult=MISSING)
    if VERSIONS.index(version) < VERSIONS.index(since):
        document = outcome.failed(1, command, since)
        assert document["cniVersion"] == version
    else:
        assert outcome.out == "" or outcome.json["code"] != 1


# ---- the environment ----


@pytest.mark.parametrize("command, needed", [
    ("ADD", ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME")),
    ("DEL", ("CNI_CONTAINERID", "CNI_IFNAME")),
    ("CHECK", ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))])
def test_missing_variables_are_named(lab, command, needed):
    plugin = Plugin(lab)
    for name, nothing in itertools.product(needed, (None, "")):
        document = plugin.call(command, environment={name: nothing}).failed(4, name)
        assert not any(other in document["msg"] for other in needed if other != name)
    plugin.call(command, environment=dict.fromkeys(needed)).failed(4, *needed)


@pytest.mark.parametrize("command", [None, "", "add", "UPDATE"])
def test_unknown_command(lab, command):
    Plugin(lab).call(command).failed(4, "CNI_COMMAND")


@pytest.mark.parametrize("name, value", [
    ("CNI_CONTAINERID", "-a"), ("CNI_CONTAINERID", "../../etc"), ("CNI_CONTAINERID", "a b"),
    ("CNI_CONTAINERID", "a" * 256), ("CNI_IFNAME", "a" * 16), ("CNI_IFNAME", "."),
    ("CNI_IFNAME", ".."), ("CNI_IFNAME", "a/b"), ("CNI_IFNAME", "a:b"), ("CNI_IFNAME", "a b"),
    ("CNI_NETNS", "run/netns/x")])
def test_bad_variables_are_named(lab, name, value):
    Plugin(lab).call("ADD", environment={name: value}).failed(4, name)


@pytest.mark.parametrize("path", ["/run/netns/there-is-none", "/etc/passwd", "/dev/null", "/tmp",
                                  "/proc/self/ns/mnt"])
def test_add_needs_a_network_namespace(lab, path):
    lab.put_policy("cni", **POLICY)
    plugin = Plugin(lab)
    plugin.netns = path
    plugin.call("ADD").failed(4, "CNI_NETNS", path)
    assert plugin.noted() is None
    plugin.delete()


def test_host_is_refused(lab):
    lab.put_policy("cni", **POLICY)
    plugin = Plugin(lab)
    plugin.netns = "/proc/self/ns/net"
    plugin.call("ADD").failed(100, "host")
    assert plugin.noted() is None and not has_table("/proc/self/ns/net")


# ---- the configuration ----


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "{} {}", "\0", '{"cniVersion":1}'])
@pytest.mark.parametrize("command", ["ADD", "DEL", "VERSION"])
def test_what_is_no_configuration(lab, command, text):
    Plugin(lab).call(command, text=text).failed(6)


def test_standard_input_that_cannot_be_read(lab):
    directory = os.open("/", os.O_RDONLY)
    done = subprocess.run([program("nsgate-cni")], stdin=directory, capture_output=True, text=True,
                          env={"CNI_COMMAND": "VERSION"}, check=False, timeout=60)
    os.close(directory)
    Outcome(done).failed(5)
    assert lab


@pytest.mark.parametrize("keys, texts", [
    ({"name": MISSING}, ("name",)), ({"name": "../x"}, ("../x",)), ({"name": 5}, ("5",)),
    ({"policy": MISSING}, ("policy",)), ({"policy": "a b"}, ("a b",)), ({"policy": 7}, ("7",)),
    ({"runtimeDir": "run"}, ("runtimeDir",)), ({"runtimeDir": []}, ("runtimeDir",)),
    ({"prevResult": MISSING}, ("prevResult", "bridge")), ({"podPolicies": "x"}, ("podPolicies",))])
@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_bad_configurations(lab, command, keys, texts):
    Plugin(lab).call(command, **keys).failed(7, *texts)


def test_result_that_is_no_object(lab):
    Plugin(lab).call("ADD", prevResult=[]).failed(6, "prevResult")


@pytest.mark.parametrize("key, value", [("ipam", {"type": "host-local"}), ("ipMasq", True),
                                        ("dns", {"nameservers": ["10.0.0.1"]})])
def test_unsupported_fields_are_named_with_their_value(lab, key, value):
    text = json.dumps(value, separators=(",", ":")).replace('"', "")
    document = Plugin(lab).call("ADD", **{key: value}).failed(2, key)
    assert text in document["msg"].replace('"', "").replace(" ", "")


def test_other_keys_are_none_of_our_business(plugin):
    plugin.add(**{"ipMasq": False, "ipam": {}, "other": [1], "args": {"cni": {}}, "cni.dev/x": 1})


def test_policy_that_does_not_exist(plugin):
    plugin.call("ADD", policy="nowhere").failed(100, "nowhere")
    assert plugin.noted() is None and not has_table(plugin.netns)


# ---- ADD and DEL ----


@pytest.mark.parametrize("version", VERSIONS)
def test_container_is_under_its_policy(lab, version):
    lab.put_policy("cni", **POLICY)
    a, b = lab.pair()
    plugin = Plugin(lab, a)
    plugin.add(cniVersion=version, prevResult={**RESULT, "cniVersion": version})
    found = plugin.attached()
    assert found["policy"] == "cni" and found["netns"]["inode"] == os.stat(a.path).st_ino
    assert found["labels"] == {"io.nsgate.container": plugin.container, "io.nsgate.network": "net"}
    with Closing(Arrivals(b, 7, 8)) as arrivals:
        a.send("10.77.0.2", 8, 10)
        a.send("10.77.0.2", 7, 10)
        arrivals.wait({(7, 4): 10, (8, 4): 0})
    lab.expect(plugin.name, {"packets.accepted": 10, "packets.dropped": 10, "rules.ok": 10})
    plugin.delete(cniVersion=version)
    assert plugin.noted() is None and not has_table(a.path) and plugin.name not in lab.names()
    plugin.delete(cniVersion=version)


class Closing:
    def __init__(self, thing):
        self.thing = thing

    def __enter__(self):
        return self.thing

    def __exit__(self, *unused):
        self.thing.close()


def test_result_gets_the_version_that_it_lacks(plugin):
    bare = {"interfaces": [], "ips": []}
    outcome = plugin.call("ADD", prevResult=bare).succeeded(empty=False)
    assert outcome.json == {**bare, "cniVersion": NEWEST}


@pytest.mark.parametrize("container", ["web", "a" * 63, "a" * 64, "A.b_c-d" * 30])
def test_ids_of_any_length(lab, container):
    lab.put_policy("cni", **POLICY)
    plugin = Plugin(lab, lab.netns(), container=container)
    plugin.add()
    (name,) = lab.names()
    assert name[:12] == container[:12]
    plugin.call("CHECK").succeeded()
    plugin.delete()
    assert not lab.names()


def test_del_with_nothing_there(lab):
    plugin = Plugin(lab)
    plugin.delete()
    plugin.delete(environment={"CNI_NETNS": None})
    plugin.delete(prevResult=MISSING)
    plugin.delete(runtimeDir="/run/there-is-none")
    # What has become wrong meanwhile must not keep a container alive.
    plugin.delete(policy=MISSING, ipam={"type": "x"})


def test_del_after_the_namespace_is_gone(lab, plugin):
    plugin.add()
    lab.delete_namespaces()
    plugin.delete()
    assert plugin.noted() is None
    until(lambda: plugin.name not in lab.names(), "the broker to notice")


def test_one_attachment_for_several_interfaces(lab, plugin):
    plugin.add()
    attached = plugin.attached()
    plugin.add()  # once more, as a careless runtime does
    plugin.add(ifname="eth1")
    plugin.add(name="other", ifname="eth2")
    assert plugin.attached() == attached and lab.names() == [plugin.name]
    assert plugin.noted() == ["net:eth0", "net:eth1", "other:eth2"]
    plugin.delete(name="other", ifname="eth0")  # never added
    for key in ("eth0", "eth1"):
        plugin.delete(ifname=key)
        assert plugin.attached() == attached and has_table(plugin.netns)
        plugin.call("CHECK", ifname=key).failed(101)
        plugin.call("CHECK", name="other", ifname="eth2").succeeded()
    plugin.delete(name="other", ifname="eth2")
    assert not lab.names() and not has_table(plugin.netns)


def test_networks_of_a_container_agree_on_the_policy(lab, plugin):
    other = lab.policy(default="accept")
    plugin.add()
    plugin.call("ADD", name="other", ifname="eth1", policy=other).failed(7, other, "cni")
    assert plugin.noted() == ["net:eth0"] and plugin.attached()["policy"] == "cni"
    plugin.delete(name="other", ifname="eth1", policy=other)
    assert plugin.attached()["policy"] == "cni"


def test_added_again_with_another_policy(lab, plugin):
    other = lab.policy(default="accept")
    plugin.add()
    plugin.add(policy=other)
    assert plugin.attached()["policy"] == other and plugin.noted() == ["net:eth0"]


def test_same_id_in_a_new_namespace(lab, plugin):
    plugin.add()
    plugin.netns = lab.netns("new").path
    plugin.add()
    assert plugin.attached()["netns"]["inode"] == os.stat(plugin.netns).st_ino


def test_name_that_somebody_else_uses(lab):
    lab.put_policy("cni", **POLICY)
    lab.attach(lab.netns(), "--policy", "cni", name="web")
    mine = lab.get("/v1/namespaces/web")
    plugin = Plugin(lab, lab.netns(), container="web")
    plugin.call("ADD").failed(100, "web")
    plugin.call("CHECK").failed(101)
    os.makedirs(f"{lab.runtime}/cni/web")  # as after an ADD or a DEL that got no answer
    plugin.call("ADD").failed(100, "web")
    os.makedirs(f"{lab.runtime}/cni/web")
    plugin.delete()
    plugin.call("GC", **valid()).succeeded()
    assert lab.get("/v1/namespaces/web") == mine


def test_namespace_that_somebody_else_has_attached(lab):
    lab.put_policy("cni", **POLICY)
    netns = lab.netns()
    lab.attach(netns, "--policy", "cni", name="mine")
    plugin = Plugin(lab, netns)
    plugin.call("ADD").failed(100, "mine")
    plugin.delete()
    assert lab.names() == ["mine"]


def test_many_at_once(lab):
    lab.put_policy("cni", **POLICY)
    plugins = [Plugin(lab, lab.netns()) for _ in range(12)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(Plugin.add, plugins))
        assert sorted(lab.names()) == sorted(p.name for p in plugins)
        list(pool.map(Plugin.delete, plugins))
    assert not lab.names() and not os.listdir(f"{lab.runtime}/cni")


def test_operations_on_one_container_wait_for_each_other(lab, plugin):
    names = [f"eth{number}" for number in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: plugin.add(ifname=name), names))
        assert lab.names() == [plugin.name] and len(plugin.noted()) == 8
        list(pool.map(lambda name: plugin.delete(ifname=name), names))
    assert not lab.names() and plugin.noted() is None


def test_labels_of_a_pod(plugin):
    plugin.add(environment={
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;X=;junk"})
    assert plugin.attached()["labels"]["io.nsgate.pod"] == "shop/web-0"


# ---- the policy that a pod asks for ----


def asking(policy):
    return {"io.kubernetes.cri.pod-annotations": {"io.nsgate.policy": policy, "other": "x"}}


def test_pod_may_choose_what_is_offered(lab, plugin):
    other = lab.policy(default="accept")
    keys = {"podPolicies": [other], "runtimeConfig": asking(other)}
    plugin.add(**keys)
    assert plugin.attached()["policy"] == other
    plugin.call("CHECK", **keys).succeeded()
    plugin.delete(**keys)
    plugin.add(podPolicies=["*"], runtimeConfig=asking(other))
    assert plugin.attached()["policy"] == other


def test_pod_may_not_choose_what_is_not_offered(lab, plugin):
    other = lab.policy(default="accept")
    plugin.call("ADD", podPolicies=["x"], runtimeConfig=asking(other)).failed(7, other)
    plugin.call("ADD", podPolicies=["*"], runtimeConfig=asking(5)).failed(7, "io.nsgate.policy")
    assert plugin.noted() is None
    plugin.add(runtimeConfig=asking(other))
    assert plugin.attached()["policy"] == "cni"


def test_pod_that_asks_for_nothing(lab, plugin):
    plugin.add(podPolicies=["*"])
    assert plugin.attached()["policy"] == "cni"
    plugin.delete()
    plugin.add(podPolicies=["*"], policy=MISSING)
    plugin.call("CHECK", podPolicies=["*"], policy=MISSING).succeeded()
    assert not lab.names() and plugin.noted() is None


# ---- CHECK ----


def test_check(lab, plugin):
    plugin.call("CHECK").failed(101, plugin.container)
    plugin.add()
    plugin.call("CHECK").succeeded()
    plugin.call("CHECK", ifname="eth1").failed(101, "eth1")
    plugin.call("CHECK", prevResult=MISSING).failed(7)
    lab.http("DELETE", "/v1/policies/cni?force=true")
    plugin.call("CHECK").failed(102, "cni")
    lab.put_policy("cni", **POLICY)
    plugin.call("CHECK").succeeded()
    lab.must("detach", plugin.name)
    plugin.call("CHECK").failed(101)
    plugin.call("CHECK", environment={"CNI_NETNS": "/run/netns/there-is-none"}).failed(3)


def test_check_of_another_namespace(lab, plugin):
    plugin.add()
    plugin.call("CHECK", environment={"CNI_NETNS": lab.netns("new").path}).failed(101)


# ---- GC ----


def valid(*plugins):
    return {"cni.dev/valid-attachments": [
        {"containerID": p.container, "ifname": "eth0"} for p in plugins]}


def test_gc_lets_go_of_what_is_not_valid(lab):
    lab.put_policy("cni", **POLICY)
    kept, stale, foreign = (Plugin(lab, lab.netns()) for _ in range(3))
    kept.add()
    kept.add(ifname="eth1")
    stale.add()
    foreign.add(name="other")
    lab.attach(lab.netns(), "--policy", "cni", name="mine")
    stale.call("GC", **valid(kept)).succeeded()
    assert sorted(lab.names()) == sorted([kept.name, foreign.name, "mine"])
    assert kept.noted() == ["net:eth0"] and stale.noted() is None
    assert not has_table(stale.netns) and has_table(kept.netns)
    stale.call("GC", **valid(kept)).succeeded()
    kept.call("GC", **{"cni.dev/valid-attachments": None}).succeeded()
    assert sorted(lab.names()) == sorted([foreign.name, "mine"])
    foreign.call("GC", name="other", **valid()).succeeded()
    assert lab.names() == ["mine"]


def test_gc_that_does_not_say_what_is_valid(plugin):
    plugin.add()
    plugin.call("GC").failed(7, "valid-attachments")
    plugin.call("GC", **{"cni.dev/valid-attachments": {}}).failed(6, "valid-attachments")
    assert plugin.noted()


def test_gc_with_nothing_there(lab):
    Plugin(lab).call("GC", runtimeDir="/run/there-is-none", **valid()).succeeded()


# ---- daemons that are away ----


def test_status(own_lab):
    plugin = Plugin(own_lab)
    plugin.call("STATUS").failed(50, own_lab.runtime)
    own_lab.start()
    bare = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))
    plugin.call("STATUS", environment=bare, name=MISSING).succeeded()
    own_lab.agent.kill()
    until(lambda: plugin.call("STATUS").code, "the broker to notice")
    plugin.call("STATUS").failed(51, "nsgate-agent")


def test_daemons_that_are_away(own_lab):
    lab = own_lab
    early = Plugin(lab, lab.netns())
    early.call("ADD").failed(11, lab.runtime)
    lab.start()
    lab.put_policy("cni", **POLICY)
    plugin, late = Plugin(lab, lab.netns()), Plugin(lab, lab.netns())
    plugin.add()
    lab.broker.kill()
    lab.broker.wait()
    plugin.call("CHECK").succeeded()  # it is judged on
    late.call("ADD").failed(11, "nsgate-broker")
    late.delete()
    # DEL frees the container whatever is away; its rules go with its namespace, or with GC.
    outcome = plugin.delete()
    assert "nsgate-broker" in outcome.err and plugin.noted() == [] and has_table(plugin.netns)
    plugin.call("GC", **valid()).failed(11)
    lab.start_broker()
    lab.wait_ready()
    plugin.call("GC", **valid()).succeeded()
    assert not lab.names() and not has_table(plugin.netns)
    assert plugin.noted() is None and late.noted() is None
    plugin.add()
    lab.agent.kill()
    until(lambda: plugin.call("STATUS").code, "the broker to notice")
    late.call("ADD").failed(11, "nsgate-agent")
    plugin.call("CHECK").failed(11)
    plugin.delete()
    assert not has_table(plugin.netns)


def test_add_after_a_del_that_nobody_heard(own_lab):
    lab = own_lab.start()
    lab.put_policy("cni", **POLICY)
    plugin = Plugin(lab, lab.netns())
    plugin.add()
    lab.broker.kill()
    lab.broker.wait()
    plugin.delete()
    lab.start_broker()
    lab.wait_ready()
    other = lab.policy(default="accept")
    plugin.add(policy=other)
    assert plugin.attached()["policy"] == other and plugin.noted() == ["net:eth0"]


def test_del_that_nobody_heard_ends_with_the_namespace(own_lab):
    lab = own_lab.start()
    lab.put_policy("cni", **POLICY)
    plugin = Plugin(lab, lab.netns())
    plugin.add()
    lab.broker.kill()
    lab.broker.wait()
    plugin.delete()
    lab.delete_namespaces()
    lab.start_broker()
    lab.wait_ready()
    until(lambda: not lab.names(), "the broker to notice")


# ---- beside ----


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_what_people_ask(option):
    assert "CNI" in run(program("nsgate-cni"), option).stdout


def test_only_root(plugin):
    """Another user is told so; nothing is done."""
    environment = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": plugin.container,
                   "CNI_NETNS": plugin.netns, "CNI_IFNAME": "eth0"}
    done = subprocess.run(
        ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", program("nsgate-cni")],
        input=json.dumps(plugin.conf), env={**environment, "PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False, timeout=60)
    Outcome(done).failed(5, "Permission denied")
    assert plugin.noted() is None


# ---- the example of README.md ----


def plugin_path(kind):
    """Where a plugin of others is; None: nowhere."""
    paths = [f"{directory}/{kind}" for directory in
             (*os.environ.get("CNI_PATH", "").split(":"), "/usr/lib/cni", "/opt/cni/bin")]
    return next((path for path in paths if os.access(path, os.X_OK)), None)


class Chain:
    """A network's plugins one after the other, as a runtime calls them."""

    def __init__(self, lab, network, netns, host):
        self.lab = lab
        self.network = network
        self.netns = netns
        self.host = host
        self.container = new_id()

    def call(self, command, plugin, previous):
        conf = {"cniVersion": self.network["cniVersion"], "name": self.network["name"], **plugin}
        if previous:
            conf["prevResult"] = previous
        path = program("nsgate-cni") if plugin["type"] == "nsgate" else plugin_path(plugin["type"])
        done = self.host.exec(path, input=json.dumps(conf), check=False, env={
            **os.environ, "CNI_COMMAND": command, "CNI_CONTAINERID": self.container,
            "CNI_NETNS": self.netns.path, "CNI_IFNAME": "eth0",
            "CNI_PATH": os.path.dirname(plugin_path("host-local") or "/usr/lib/cni/x"),
            "NSGATE_RUNTIME_DIR": self.lab.runtime})
        assert done.returncode == 0, (plugin, done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout else previous

    def add(self):
        previous = None
        for plugin in self.network["plugins"]:
            previous = self.call("ADD", plugin, previous)
        return previous

    def delete(self):
        for plugin in reversed(self.network["plugins"]):
            self.call("DEL", plugin, None)


def set_policies(lab, commands):
    """Those commands, on the policies of the source tree."""
    for command in commands:
        words = command.replace("/usr/share/nsgate/policies", f"{SOURCE}/deploy/policies").split()
        assert words[0] == "nsgatectl"
        lab.must(*words[1:])


def test_readme_example_attaches(lab):
    """As it stands there; where no plugin of others is installed, on a result like theirs."""
    network, commands = cni_network()
    set_policies(lab, commands)
    if not plugin_path(network["plugins"][0]["type"]):
        result = {key: value for key, value in RESULT.items() if key != "x-other"}
        plugin = Plugin(lab, lab.netns())
        plugin.conf = {"cniVersion": network["cniVersion"], "name": network["name"],
                       **network["plugins"][1], "runtimeDir": lab.runtime,
                       "prevResult": {**result, "cniVersion": network["cniVersion"]}}
        plugin.call("ADD").succeeded(empty=False)
        assert plugin.attached()["policy"] == "web-client"
        plugin.delete()
        return
    network["plugins"][0]["ipam"]["dataDir"] = f"{lab.dir}/ipam"  # nothing of the machine's own
    chain = Chain(lab, network, lab.netns("cni"), lab.netns("host"))
    result = chain.add()
    assert result["ips"][0]["address"].startswith("10.79.0.")
    (name,) = lab.names()
    assert lab.get(f"/v1/namespaces/{name}")["policy"] == "web-client"
    server = chain.host.tcp_listen(80)
    connection = chain.netns.tcp_connect("10.79.0.1", 80)
    with pytest.raises(ConnectionRefusedError):
        chain.netns.tcp_connect("10.79.0.1", 81)
    assert lab.books(name)["packets"]["rejected"] >= 1
    connection.close()
    server.close()
    chain.delete()
    assert lab.names() == []
