"""A real Kubernetes for tests, from one of three providers.

* `existing`: the cluster of `$KUBECONFIG`, which has the images or can pull them (BROADSHEET_E2E_BROKER_IMAGE,
  BROADSHEET_E2E_OPERATOR_IMAGE and BROADSHEET_E2E_JMX_AGENT_IMAGE name them); refused when anything of ours is in it.
* `kind`: where docker is.
* `namespaces`: etcd, the control plane and three kubelets in three zones, inside network, mount and pid namespaces that
  vanish with their first process. Needs root, Go and Debian's containerd; no docker and no image registry.

`python -m e2e.operator.providers` (which is `make kubernetes`) gives a person such a cluster and a shell.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
CACHE = pathlib.Path(os.environ.get("BROADSHEET_CACHE") or pathlib.Path.home() / ".cache/broadsheet")
PYTHON = "/usr/bin/python3"
"""The interpreter for the first process in the namespaces: the distribution's; only its library is needed."""
DEBIAN_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}


class KubernetesError(Exception):
    """The cluster could not be brought up, or a command in it failed; the message holds the command's own words."""


class Kubernetes:
    """What tests need of any provider."""

    name = "?"

    def run(self, command: Sequence[str | pathlib.Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program where the cluster's addresses are reachable, with KUBECONFIG set."""
        raise NotImplementedError

    def popen(self, command: Sequence[str | pathlib.Path], **options: Any) -> subprocess.Popen[str]:
        raise NotImplementedError

    def load_image(self, archive: pathlib.Path) -> None:
        """Make an image archive (docker format) known to every node."""
        raise NotImplementedError

    def shell(self) -> None:
        """A shell on this terminal, where `run` runs programs; in the directory that this was started in."""
        self.popen([os.environ.get("SHELL", "/bin/bash")]).wait()

    def kubectl(
        self, *arguments: str, check: bool = True, stdin: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        done = self.run(["kubectl", *arguments], input=stdin, timeout=timeout)
        if check and done.returncode:
            raise KubernetesError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def apply(self, manifest: str | dict[str, Any] | Sequence[dict[str, Any]]) -> str:
        if not isinstance(manifest, str):
            items = [manifest] if isinstance(manifest, dict) else list(manifest)
            # Documents, not a List: of what is in a List kubectl has opinions of its own, about null for one.
            manifest = "\n---\n".join(json.dumps(item) for item in items)
        return self.kubectl("apply", "-f", "-", stdin=manifest).stdout

    def collect_logs(self, folder: pathlib.Path) -> None:
        """Everything that helps after a failure: objects, events, logs of pods and of the cluster's own parts."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, arguments in {
            "objects.txt": ["get", "all,pvc,pv,broadsheet", "-A", "-o", "wide"],
            "events.txt": ["get", "events", "-A", "--sort-by=.lastTimestamp"],
            "pods.txt": ["describe", "pods", "-A"],
        }.items():  # fmt: skip
            done = self.kubectl(*arguments, check=False)
            (folder / name).write_text(done.stdout + done.stderr)
        for pod in self.get("pods", "-A")["items"]:
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            for previous in ([], ["--previous"]):
                done = self.kubectl("logs", "-n", namespace, name, "--all-containers", *previous, check=False)
                if done.stdout:
                    (folder / f"{namespace}.{name}{''.join(previous)}.log").write_text(done.stdout)


class ExistingKubernetes(Kubernetes):
    """The cluster that `$KUBECONFIG` (or kubectl's default) points to."""

    name = "existing"

    def run(self, command: Sequence[str | pathlib.Path], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(c) for c in command], text=True, capture_output=True, **options)

    def popen(self, command: Sequence[str | pathlib.Path], **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen([str(c) for c in command], text=True, **options)

    def load_image(self, archive: pathlib.Path) -> None:
        raise KubernetesError(f"{archive.name}: push it to a registry that this cluster can pull from")


class KindKubernetes(ExistingKubernetes):
    """A kind cluster of three workers in three zones, made and deleted here."""

    name = "kind"

    def __init__(self, name: str = "broadsheet-e2e") -> None:
        self.cluster_name = name
        self._kubeconfig = tempfile.NamedTemporaryFile(prefix="kubeconfig-")  # noqa: SIM115 - lives as long as this

    def start(self) -> None:
        workers = [
            {"role": "worker", "labels": {"topology.kubernetes.io/zone": f"zone-{number}"}} for number in (1, 2, 3)
        ]
        config = {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [{"role": "control-plane"}, *workers],
            # Where the machine has cgroups of version 1 the kubelet would refuse to start.
            "kubeadmConfigPatches": ["kind: KubeletConfiguration\nfailCgroupV1: false\n"],
        }
        arguments = ["create", "cluster", "--name", self.cluster_name, "--kubeconfig", self._kubeconfig.name]
        image = os.environ.get("BROADSHEET_E2E_KIND_IMAGE")
        if image:
            arguments.append(f"--image={image}")
        subprocess.run(
            ["kind", *arguments, "--config", "-", "--wait", "300s"], input=json.dumps(config), text=True, check=True
        )

    def stop(self) -> None:
        subprocess.run(["kind", "delete", "cluster", "--name", self.cluster_name], check=True)

    def run(self, command: Sequence[str | pathlib.Path], **options: Any) -> subprocess.CompletedProcess[str]:
        return super().run(command, env={**os.environ, "KUBECONFIG": self._kubeconfig.name}, **options)

    def popen(self, command: Sequence[str | pathlib.Path], **options: Any) -> subprocess.Popen[str]:
        return super().popen(command, env={**os.environ, "KUBECONFIG": self._kubeconfig.name}, **options)

    def load_image(self, archive: pathlib.Path) -> None:
        subprocess.run(["kind", "load", "image-archive", str(archive), "--name", self.cluster_name], check=True)


class EnteredProcess(subprocess.Popen[str]):
    """A program that nsenter has started: it is nsenter's child, so signals go to both."""

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.killpg(self.pid, sig)


class NamespacesKubernetes(Kubernetes):
    """Three nodes in three zones without docker; see `inside.py` for what runs in there."""

    name = "namespaces"

    def __init__(self, folder: pathlib.Path | None = None) -> None:
        self.folder = folder or pathlib.Path(tempfile.mkdtemp(prefix="bs-k8s-"))
        self.kubeconfig = self.folder / "kubeconfig"
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self.binaries = pathlib.Path()

    def start(self, images: Sequence[pathlib.Path] = (), seconds: float = 120) -> None:
        require_programs()
        self.binaries = build_binaries()
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        for archive in [pause_image(self.binaries), *images]:
            link(archive, self.folder / "images" / archive.name)
        # A failed start must leave nothing: --kill-child ends the pid namespace with its first process.
        with open(self.folder / "inside.log", "wb") as log:
            self._process = subprocess.Popen(
                ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                 PYTHON, HERE / "inside.py", "init", self.folder, self.binaries],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + seconds
        while not (self.folder / "started").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = (self.folder / "inside.log").read_text()[-2000:]
                self.stop()
                raise KubernetesError(
                    f"the cluster did not start within {seconds:.0f} s; logs in {self.folder}\n{words}"
                )
            time.sleep(0.1)
        self._pid = child_of(self._process.pid)
        (self.folder / "pid/init").write_text(str(self._pid))
        self.wait_for_nodes(deadline)
        self._default_storage_class()

    @classmethod
    def attach(cls, folder: pathlib.Path) -> NamespacesKubernetes:
        """A cluster that another process has started (`make kubernetes` prints its folder) and will end."""
        cluster = cls(folder)
        cluster.binaries = build_binaries()
        cluster._pid = int((folder / "pid/init").read_text())
        return cluster

    def wait_for_nodes(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            done = self.kubectl("get", "nodes", "--no-headers", check=False)
            if done.stdout.count(" Ready") == 3:
                return
            time.sleep(0.2)
        raise KubernetesError(
            f"three nodes were expected to be Ready:\n{done.stdout}{done.stderr}\nlogs in {self.folder}/log"
        )

    def _default_storage_class(self) -> None:
        self.apply(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
                "provisioner": "broadsheet.io/test-volumes",
                "volumeBindingMode": "WaitForFirstConsumer",
                "allowVolumeExpansion": True,
                "reclaimPolicy": "Delete",
            }
        )

    def _enter(self, command: Sequence[str | pathlib.Path], *namespaces: str) -> list[str]:
        first = str(command[0])
        program = self.binaries / first if "/" not in first and (self.binaries / first).exists() else command[0]
        return ["nsenter", f"--target={self._pid}", *namespaces, "--", str(program), *map(str, command[1:])]

    def _environment(self) -> dict[str, str]:
        path = f"{self.binaries}:{os.environ['PATH']}"
        keep = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        return {**keep, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def run(self, command: Sequence[str | pathlib.Path], **options: Any) -> subprocess.CompletedProcess[str]:
        entered = self._enter(command, "--net", "--mount", "--pid")
        return subprocess.run(entered, text=True, capture_output=True, env=self._environment(), **options)

    def popen(self, command: Sequence[str | pathlib.Path], **options: Any) -> subprocess.Popen[str]:
        entered = self._enter(command, "--net", "--mount", "--pid")
        return EnteredProcess(entered, text=True, env=self._environment(), start_new_session=True, **options)

    def load_image(self, archive: pathlib.Path) -> None:
        sockets = [self.folder / f"node-{number}/containerd.sock" for number in (1, 2, 3)]
        output: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        loading = [
            self.popen(["ctr", "-a", socket, "-n", "k8s.io", "images", "import", archive], **output)
            for socket in sockets
        ]
        words = [process.communicate()[1] for process in loading]
        if any(process.returncode for process in loading):
            raise KubernetesError(f"image {archive.name}: {' '.join(words)}")

    def shell(self) -> None:
        namespaces = ("--net", "--mount", "--pid", f"--wd={os.getcwd()}")
        subprocess.run(self._enter([os.environ.get("SHELL", "/bin/bash")], *namespaces), env=self._environment())

    def stop_node(self, number: int) -> None:
        """Take the power from a node: its network and every process in its namespace and cgroups end at once."""
        name = f"node-{number}"
        self.run(["ip", "link", "set", name, "down"], check=True)
        pids = self.run(["ip", "netns", "pids", name], check=True).stdout.split()
        for pid in pids:
            self.run(["kill", "-9", pid])

    def start_node(self, number: int) -> None:
        self.run(["ip", "link", "set", f"node-{number}", "up"], check=True)
        self.run([PYTHON, HERE / "inside.py", "node", self.folder, self.binaries, str(number)], check=True)

    def restart_control_plane_part(self, name: str, pause_seconds: float) -> None:
        """Stop a part (`kube-apiserver`) with SIGSTOP for a while: connections hang, as when it is overloaded."""
        pid = (self.folder / "pid" / name).read_text()
        self.run(["kill", "-STOP", pid], check=True)
        try:
            time.sleep(pause_seconds)
        finally:
            self.run(["kill", "-CONT", pid], check=True)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=30)
        remove_cgroups(self.folder.name)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def collect_logs(self, folder: pathlib.Path) -> None:
        super().collect_logs(folder)
        shutil.copytree(self.folder / "log", folder / "cluster", dirs_exist_ok=True)


def link(file: pathlib.Path, place: pathlib.Path) -> None:
    """The file under another name too. A hard link if possible: a build of another checkout removes older archives."""
    try:
        place.hardlink_to(file)
    except OSError:  # another file system
        place.symlink_to(file)


def child_of(pid: int) -> int:
    """The first process inside the pid namespace, by its pid out here."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0])


def remove_cgroups(cluster: str) -> None:
    """Containers' cgroups outlive their processes; only empty ones go, deepest first."""
    for node in pathlib.Path("/sys/fs/cgroup").glob(f"**/{cluster}-node-*"):
        for path, _, _ in os.walk(node, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def require_programs() -> None:
    if os.geteuid() != 0:
        raise KubernetesError("the namespaces provider needs root; BROADSHEET_E2E_PROVIDER=kind or existing needs none")
    missing = sorted({package for program, package in DEBIAN_PACKAGES.items() if not shutil.which(program)})
    if missing:
        raise KubernetesError(f"install these Debian packages first: apt-get install {' '.join(missing)}")


def build_binaries() -> pathlib.Path:
    done = subprocess.run([HERE / "build.sh"], text=True, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise KubernetesError("building Kubernetes failed; its output is above")
    return pathlib.Path(done.stdout.strip())


def pause_image(binaries: pathlib.Path) -> pathlib.Path:
    from e2e.operator.images import pack_image

    archive = binaries / "pause.tar"
    if not archive.exists():
        pack_image(archive, "localhost/pause:1", {"/pause": binaries / "pause"}, ["/pause"])
    return archive


def choose(provider: str | None = None) -> type[Kubernetes]:
    """The provider asked for, or the best that this machine can do."""
    provider = provider or os.environ.get("BROADSHEET_E2E_PROVIDER")
    if provider is None:
        docker = shutil.which("kind") and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
        provider = "kind" if docker else "namespaces"
    known: dict[str, type[Kubernetes]] = {c.name: c for c in (ExistingKubernetes, KindKubernetes, NamespacesKubernetes)}
    if provider not in known:
        raise KubernetesError(f"provider {provider!r} is not known; allowed: {', '.join(known)}")
    return known[provider]


@contextlib.contextmanager
def running(provider: str | None = None) -> Iterator[Kubernetes]:
    """A cluster of the provider, with our images, that ends with the block."""
    from e2e.operator import existing
    from e2e.operator.images import build_all

    kind = choose(provider)
    cluster = kind()
    if kind is ExistingKubernetes:
        before = existing.require(cluster)
        try:
            yield cluster
        finally:
            existing.clean_up(cluster, before)
        return
    archives = list(build_all(REPOSITORY, CACHE / "archives").values())
    try:
        if isinstance(cluster, NamespacesKubernetes):
            cluster.start(archives)
        elif isinstance(cluster, KindKubernetes):
            cluster.start()
            for archive in archives:
                cluster.load_image(archive)
        yield cluster
    finally:
        if isinstance(cluster, NamespacesKubernetes):
            cluster.remove()
        elif isinstance(cluster, KindKubernetes):
            cluster.stop()


def main() -> None:
    """A cluster and a shell in it; both end together."""
    if choose() is ExistingKubernetes:
        raise KubernetesError("with BROADSHEET_E2E_PROVIDER=existing there is a Kubernetes already; this makes one")
    with running() as cluster:
        if isinstance(cluster, NamespacesKubernetes):
            print(f"Three nodes are Ready; their files are in {cluster.folder}.")
        print("KUBECONFIG is set; kubectl and helm are on the PATH. Leave the shell to end it.", flush=True)
        cluster.shell()


if __name__ == "__main__":
    try:
        main()
    except KubernetesError as error:
        sys.exit(f"error: {error}")
