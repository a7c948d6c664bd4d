"""A node image for kind where no registry of images can be reached.

It is made of kind's own files (in its Go module), Debian's packages and the Kubernetes that `build.sh` builds, so it
needs podman, mmdebstrap and Go. `kind create cluster` takes it as any other; see `run`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from e2e.operator.images import pack_image
from e2e.operator.providers import CACHE, build_binaries

HERE = pathlib.Path(__file__).resolve().parent
VERSION = "1.36.3"
PACKAGES = (
    "systemd,systemd-sysv,dbus,iproute2,iptables,nftables,containerd,runc,containernetworking-plugins,conntrack,ethtool,socat,"
    "mount,util-linux,procps,kmod,jq,curl,ca-certificates,e2fsprogs,pigz"
)
ZONES = ("zone-1", "zone-2", "zone-3")
VOLUMES = 8
PROXY_PACKAGES = "iptables,conntrack,kmod,dash,coreutils"
TOOLS = {
    "kind": "sigs.k8s.io/kind",
    "kubeadm": "k8s.io/kubernetes/cmd/kubeadm",
    "coredns": ".",
}
STAMP = "".join(
    f" -X k8s.io/component-base/version.{name}={value}"
    for name, value in {"gitVersion": f"v{VERSION}", "gitMajor": "1", "gitMinor": VERSION.split(".")[1]}.items()
)


def run(command: list[str | pathlib.Path], **options: object) -> str:
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True, **options)  # type: ignore[call-overload]
    return str(done.stdout)


def key() -> str:
    """A hash of all that the image is made by."""
    made_by = [HERE / "node.py", *sorted((HERE / "files").iterdir()), *sorted((HERE / "tools").glob("*/*.*"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in made_by)).hexdigest()[:12]


def build() -> pathlib.Path:
    """The folder with `kind`, and the image's archive `node.tar`."""
    programs = build_binaries()
    folder = CACHE / f"kind-{key()}"
    if (folder / "node.tar").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in TOOLS.items():
        if (folder / name).exists():
            continue
        print(f"building {name}", file=sys.stderr, flush=True)
        command = ["go", "build", "-trimpath", "-ldflags", f"-s -w{STAMP}", "-o", folder / name, package]
        run(command, cwd=HERE / "tools" / name, env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"})
    with tempfile.TemporaryDirectory(prefix="bs-node-", dir=CACHE) as work:
        tree = pathlib.Path(work, "tree")
        fill(tree, folder, programs)
        unfinished = pathlib.Path(work, "node.tar")
        debian(unfinished, PACKAGES, f'cp -a {tree}/. "$1/" && chroot "$1" sh -ec "$(cat {HERE / "files/setup.sh"})"')
        shutil.move(unfinished, folder / "node.tar")
    return folder


def debian(archive: pathlib.Path, packages: str, hook: str) -> None:
    """A Debian with some packages, as a tar; `hook` is run with the root directory as $1."""
    options = ["--variant=minbase", "--mode=root", f"--include={packages}", f"--customize-hook={hook}"]
    run(
        [
            "mmdebstrap",
            "--quiet",
            *options,
            "--customize-hook=rm -rf $1/usr/share/doc $1/var/cache/apt",
            "bookworm",
            archive,
        ]
    )


def fill(tree: pathlib.Path, folder: pathlib.Path, programs: pathlib.Path) -> None:
    """What is in the image besides Debian's packages."""
    module = pathlib.Path(
        json.loads(run(["go", "list", "-m", "-json", "sigs.k8s.io/kind"], cwd=HERE / "tools/kind"))["Dir"]
    )
    shutil.copytree(module / "images/base/files", tree, copy_function=shutil.copyfile)
    for path in tree.rglob("*"):
        path.chmod(0o755)
    for name in ("network.sh", "images.sh"):
        place(HERE / "files" / name, tree / "kind" / name, 0o755)
    place(HERE / "files/node.service", tree / "etc/systemd/system/node.service")
    place(HERE / "files/default-cni.yaml", tree / "kind/manifests/default-cni.yaml")
    (tree / "kind/manifests/default-storage.yaml").write_text("\n---\n".join(map(json.dumps, storage())))
    (tree / "kind/version").write_text(f"v{VERSION}")
    for program in ("kubelet", "kubectl"):
        place(programs / program, tree / "usr/bin" / program, 0o755)
    place(folder / "kubeadm", tree / "usr/bin/kubeadm", 0o755)
    pack_images(tree / "kind/images", folder, programs)


def place(source: pathlib.Path, target: pathlib.Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def pack_images(target: pathlib.Path, folder: pathlib.Path, programs: pathlib.Path) -> None:
    """The images that kubeadm's pods want by name, each of one program."""
    target.mkdir(parents=True)
    for reference in run([folder / "kubeadm", "config", "images", "list", f"--kubernetes-version=v{VERSION}"]).split():
        name = reference.rpartition("/")[2].partition(":")[0]
        if name == "kube-proxy":
            pack_proxy(target / "kube-proxy.tar", reference, programs)
            continue
        place_in = {"coredns": "/coredns", "pause": "/pause"}.get(name, f"/usr/local/bin/{name}")
        source = folder if name == "coredns" else programs
        pack_image(target / f"{name}.tar", reference, {place_in: source / name}, [place_in])


def storage() -> list[dict[str, object]]:
    """The default StorageClass: some volumes in each zone, of directories that `network.sh` makes."""
    metadata = {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    made: list[dict[str, object]] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": metadata,
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    ]
    for zone, number in itertools.product(ZONES, range(VOLUMES)):
        here = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}
        spec = {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "standard",
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": f"/var/volumes/{number}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        }
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{zone}-{number}"},
            "spec": spec,
        }
        made.append(volume)
    return made


def pack_proxy(archive: pathlib.Path, reference: str, programs: pathlib.Path) -> None:
    """kube-proxy runs iptables, so its image has a Debian around it."""
    with tempfile.TemporaryDirectory(prefix="bs-proxy-", dir=CACHE) as work:
        root = pathlib.Path(work, "root.tar")
        debian(root, PROXY_PACKAGES, f'cp {programs / "kube-proxy"} "$1/usr/local/bin/"')
        tag = ["--quiet", "--change", "ENTRYPOINT=/usr/local/bin/kube-proxy", root, reference]
        run(["podman", "import", *tag])
        run(["podman", "save", "--quiet", "--output", archive, reference])


if __name__ == "__main__":
    print(build())
