"""The first process of a test cluster's namespaces: a control plane and nodes, started in order, reaped until the end.

Run by `providers.py` as `inside.py init RUN BINARIES` under
`unshare --net --mount --pid --fork --kill-child --mount-proc`.
Everything below it ends with it: the kernel kills the pid namespace, and takes the mounts and the network away.
A node can be stopped and started again from outside through `nsenter` (`inside.py node RUN BINARIES 2`).

Only the standard library is imported: the interpreter of the machine runs it.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from ssl import CERT_NONE, SSLContext, create_default_context

NODES = 3
HOST = "10.99.0.1"
"""Address of the control plane and of the cluster's DNS, on the bridge that the nodes hang on."""
SERVICES = "10.96.0.0/16"
PODS = "10.244.{node}.0/24"
TOKEN = "test-cluster-admin"
CGROUP = pathlib.Path("/sys/fs/cgroup")


class Machine:
    """Paths of one cluster and the processes it started."""

    def __init__(self, run: pathlib.Path, binaries: pathlib.Path) -> None:
        self.run = run
        self.binaries = binaries
        self.log = run / "log"
        self.kubeconfig = run / "kubeconfig"

    def start(self, name: str, command: Sequence[str | pathlib.Path], netns: str | None = None) -> int:
        """Start a process with its output in `log/NAME` and its pid in `pid/NAME`."""
        argv = [str(part) for part in command]
        if netns:  # `ip netns exec` would hide /sys/fs/cgroup
            argv = ["nsenter", f"--net=/run/netns/{netns}", *argv]
        with open(self.log / name, "ab") as output:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        process.returncode = 0  # reaped by the first process, not by this object
        (self.run / "pid" / name).write_text(str(process.pid))
        return process.pid

    def write(self, path: pathlib.Path, content: str | dict[str, object]) -> pathlib.Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
        return path


def sh(command: str) -> None:
    subprocess.run(["sh", "-ec", command], check=True, stdin=subprocess.DEVNULL)


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def network() -> None:
    """A bridge for the nodes. `ip netns` keeps its names in /run/netns, so this cluster gets its own."""
    pathlib.Path("/run/netns").mkdir(exist_ok=True)
    sh(
        "mount -t tmpfs none /run/netns; ip link set lo up; ip link add br0 type bridge;"
        f"ip addr add {HOST}/24 dev br0; ip link set br0 up;"
        # A route for Services, so that kube-proxy's rules get to see packets of programs beside the control plane.
        f"ip route add {SERVICES} dev br0; sysctl -qw net.ipv4.ip_forward=1"
    )


def name_service(machine: Machine) -> None:
    """Programs beside the control plane resolve names as pods of the namespace `default` do."""
    search = "default.svc.cluster.local svc.cluster.local cluster.local"
    path = machine.write(machine.run / "resolv.conf", f"nameserver {HOST}\nsearch {search}\noptions ndots:5\n")
    sh(f"mount --bind {path} /etc/resolv.conf")


def control_plane(machine: Machine) -> None:
    run, bin = machine.run, machine.binaries
    sh(f"openssl genrsa -out {run}/sa.key 2048 2>/dev/null")
    machine.write(run / "tokens", f'{TOKEN},admin,admin,"system:masters"\n')
    machine.write(machine.kubeconfig, kubeconfig())
    # No fsync: the cluster lives for one test run.
    machine.start("etcd", [bin / "etcd", "--data-dir", run / "etcd", "--unsafe-no-fsync", "--log-level=warn"])
    machine.start(
        "kube-apiserver",
        [
            bin / "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--cert-dir={run}/pki",
            "--secure-port=6443",
            f"--advertise-address={HOST}",
            f"--service-cluster-ip-range={SERVICES}",
            f"--service-account-key-file={run}/sa.key",
            f"--service-account-signing-key-file={run}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={run}/tokens",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
        ],
    )
    wait_for("kube-apiserver ready", api_ready)
    config = f"--kubeconfig={machine.kubeconfig}"
    machine.start(
        "kube-controller-manager",
        [
            bin / "kube-controller-manager",
            config,
            f"--service-account-private-key-file={run}/sa.key",
            f"--root-ca-file={run}/pki/apiserver.crt",
            "--leader-elect=false",
            "--node-monitor-grace-period=12s",
        ],
    )
    machine.start("kube-scheduler", [bin / "kube-scheduler", config, "--leader-elect=false"])
    corefile = machine.write(
        run / "Corefile",
        f"cluster.local:53 {{\n bind {HOST}\n errors\n cache 2\n kubernetes cluster.local {{\n"
        f"  kubeconfig {machine.kubeconfig}\n }}\n}}\n",
    )
    machine.start("coredns", [bin / "coredns", "-conf", corefile])
    proxy(machine, "control", None)
    machine.start("volumes", [sys.executable, pathlib.Path(__file__).with_name("volumes.py"), run])


def kubeconfig() -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"https://{HOST}:6443", "insecure-skip-tls-verify": True}}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "admin"}}],
        "current-context": "test",
    }


def api_ready() -> bool:
    context: SSLContext = create_default_context()
    context.check_hostname = False
    context.verify_mode = CERT_NONE
    request = urllib.request.Request(f"https://{HOST}:6443/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        with urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        ).open(request, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def proxy(machine: Machine, name: str, netns: str | None) -> None:
    config = machine.write(
        machine.run / f"proxy-{name}.json",
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(machine.kubeconfig)},
            "hostnameOverride": name,
            "clusterCIDR": "10.244.0.0/16",
            "conntrack": {"maxPerCore": 0},
        },
    )
    machine.start(f"kube-proxy-{name}", [machine.binaries / "kube-proxy", f"--config={config}"], netns)


def node(machine: Machine, number: int) -> list[subprocess.Popen[bytes]]:
    """Start, or start again, one node: a network namespace on the bridge, containerd, kube-proxy and kubelet.

    Its images are still being loaded when this returns.
    """
    name = f"node-{number}"
    home = machine.run / name
    for folder in ("cni", "kubelet", "podlogs", "volumes"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    if not pathlib.Path("/run/netns", name).exists():
        node_network(name, number)
    cgroup(home)
    machine.write(home / "cni/10-bridge.conflist", cni(home, number))
    machine.write(home / "containerd.toml", containerd(home))
    socket = home / "containerd.sock"
    socket.unlink(missing_ok=True)
    machine.start(f"containerd-{name}", ["containerd", "-c", home / "containerd.toml"], name)
    wait_for(f"containerd of {name}", socket.exists, 30)
    archives = sorted((machine.run / "images").glob("*.tar"))
    loading = [load_images(machine, name, archives)]
    proxy(machine, name, name)
    config = machine.write(home / "kubelet.json", kubelet(home, name))
    machine.start(
        f"kubelet-{name}",
        [
            machine.binaries / "kubelet",
            f"--config={config}",
            f"--kubeconfig={machine.kubeconfig}",
            f"--root-dir={home}/kubelet",
            f"--hostname-override={name}",
            f"--node-ip=10.99.0.1{number}",
            f"--node-labels=topology.kubernetes.io/zone=zone-{number},topology.kubernetes.io/region=test",
        ],
        name,
    )
    return loading


def load_images(machine: Machine, name: str, archives: Sequence[pathlib.Path]) -> subprocess.Popen[bytes]:
    """Import the archives one after the other; a node that is started again has them already."""
    ctr = f"ctr -a {machine.run / name / 'containerd.sock'} -n k8s.io images"
    script = "".join(f"{ctr} import {archive}\n" for archive in archives)
    with open(machine.log / f"images-{name}", "ab") as output:
        have = f'[ "$({ctr} ls -q | wc -l)" -ge {len(archives)} ] && exit 0\n' if archives else ""
        return subprocess.Popen(["sh", "-ec", have + script], stdout=output, stderr=output)


def node_network(name: str, number: int) -> None:
    routes = "; ".join(
        f"ip route add {PODS.format(node=other)} via 10.99.0.1{other}"
        for other in range(1, NODES + 1)
        if other != number
    )
    inside = (
        f"ip link set lo up; ip addr add 10.99.0.1{number}/24 dev eth0; ip link set eth0 up;"
        f"ip route add default via {HOST}; sysctl -qw net.ipv4.ip_forward=1; {routes}"
    )
    sh(
        f"ip netns add {name}; ip link add {name} type veth peer name eth0 netns {name};"
        f"ip link set {name} master br0 up; ip netns exec {name} sh -ec '{inside}';"
        f"ip route add {PODS.format(node=number)} via 10.99.0.1{number}"
    )


def cgroup_of(home: pathlib.Path) -> str:
    """A name that no other cluster has: a kubelet ends what it does not know under its root."""
    return f"{home.parent.name}-{home.name}"


def cgroup(home: pathlib.Path) -> None:
    """The kubelet wants its root cgroup to exist, in every hierarchy of cgroup v1 or in the one of v2."""
    name = cgroup_of(home)
    if (CGROUP / "cgroup.controllers").exists():
        (CGROUP / name).mkdir(exist_ok=True)
        return
    for hierarchy in ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"):
        if (CGROUP / hierarchy).is_dir():
            (CGROUP / hierarchy / name).mkdir(exist_ok=True)
    for setting in ("cpuset.cpus", "cpuset.mems"):
        source = CGROUP / "cpuset" / setting
        if source.exists():
            (CGROUP / "cpuset" / name / setting).write_text(source.read_text())


def cni(home: pathlib.Path, number: int) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(home / "ipam"),
            "ranges": [[{"subnet": PODS.format(node=number)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "bridge", "plugins": [bridge, portmap]}


def containerd(home: pathlib.Path) -> str:
    return f"""version = 2
root = "{home}/containerd/root"
state = "{home}/containerd/state"
[grpc]
address = "{home}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{home}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def kubelet(home: pathlib.Path, name: str) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup_of(home)}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{home}/containerd.sock",
        "clusterDNS": [HOST],
        "clusterDomain": "cluster.local",
        "podLogsDir": str(home / "podlogs"),
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "resolvConf": "/dev/null",
        "nodeStatusUpdateFrequency": "3s",
    }


def wait_for_images(loading: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in loading:
        if process.wait():
            raise SystemExit("an image could not be loaded; see log/images-*")


def reap_for_ever() -> None:
    """A pid namespace's first process inherits every orphan in it."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(1)


def main() -> None:
    command, run, binaries, *rest = sys.argv[1:]
    machine = Machine(pathlib.Path(run), pathlib.Path(binaries))
    if command == "node":
        wait_for_images(node(machine, int(rest[0])))
        return
    for folder in ("log", "pid", "images"):
        (machine.run / folder).mkdir(parents=True, exist_ok=True)
    if not shutil.which("containerd"):
        raise SystemExit("containerd is not installed")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    network()
    name_service(machine)
    control_plane(machine)
    wait_for_images([process for number in range(1, NODES + 1) for process in node(machine, number)])
    (machine.run / "started").touch()
    reap_for_ever()


if __name__ == "__main__":
    main()
