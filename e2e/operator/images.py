"""Images without docker or a registry: single files packed as an archive, and the project's Dockerfiles by buildah."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence

from e2e.apache.agent import agent_jar

BASE = "localhost/broadsheet-base:4"
BASE_PACKAGES = "python3,python3-venv,dash,coreutils,libstdc++6"
"""As in `python:3-slim`: compiled Python packages need the C++ library, or fall back on slow Python of their own."""
BUILD_BASE = "localhost/broadsheet-build-base:1"
BUILD_BASE_PACKAGES = f"{BASE_PACKAGES},python3-dev,gcc,libc6-dev"
"""Where the broker's modules are compiled; as `python:3`, which has a C compiler, is to `python:3-slim`."""
REMOVED = "usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/bug usr/share/lintian"
"""Of the base: what no program reads."""
STORAGE = pathlib.Path(os.environ.get("BROADSHEET_CACHE") or pathlib.Path.home() / ".cache/broadsheet") / "images"
BROKER = os.environ.get("BROADSHEET_E2E_BROKER_IMAGE") or "localhost/broadsheet-broker:test"
OPERATOR = os.environ.get("BROADSHEET_E2E_OPERATOR_IMAGE") or "localhost/broadsheet-operator:test"
AGENT = os.environ.get("BROADSHEET_E2E_JMX_AGENT_IMAGE") or "localhost/broadsheet-jmx-agent:test"
CONTEXT = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "requirements",
    "tools/compiled.py",
    "tools/compiled_hook.py",
    "broker-image/broadsheet_broker",
    "operator/broadsheet_operator",
)
"""All that an image is made of."""


class ImageError(Exception):
    """An image could not be built; the message ends with the last lines of the build."""


def build_all(repository: pathlib.Path, cache: pathlib.Path) -> dict[str, pathlib.Path]:
    """Archives of the project's images, by reference; built anew only when what is in them changed."""
    return {
        BROKER: build(repository, "broker-image/Dockerfile", BROKER, cache),
        OPERATOR: build(repository, "operator/Dockerfile", OPERATOR, cache),
        AGENT: build_agent(repository, cache),
    }


def build_agent(repository: pathlib.Path, cache: pathlib.Path) -> pathlib.Path:
    """The archive of the image with the JMX agent; the agent itself comes by Maven."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bs-image-") as folder:
        context = pathlib.Path(folder)
        shutil.copy(repository / "broker-image/jmx-agent/Dockerfile", context)
        jar = shutil.copy(agent_jar(), context)
        archive = cache / f"{AGENT.rpartition('/')[2].replace(':', '-')}-{fingerprint(context)}.tar"
        if not archive.exists():
            base_image(BASE, BASE_PACKAGES)
            options = [f"--build-arg=BASE={BASE}", f"--build-arg=JAR={pathlib.Path(jar).name}"]
            bake(context, context / "Dockerfile", AGENT, archive, options)
    return archive


def build(repository: pathlib.Path, dockerfile: str, reference: str, cache: pathlib.Path) -> pathlib.Path:
    """Build one of the project's Dockerfiles with buildah and write it as an archive that `ctr images import` reads.

    The slow layers (the base, the dependencies) are kept by buildah; the archive is kept by a hash of its sources.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bs-image-") as folder:
        context = pathlib.Path(folder, "context")
        for part in (dockerfile, *CONTEXT):
            target = context / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if (repository / part).is_dir():
                shutil.copytree(repository / part, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(repository / part, target)
        # Of the copy: somebody may be changing files just now, and what is built must be kept by what it was built of.
        archive = cache / f"{reference.rpartition('/')[2].replace(':', '-')}-{fingerprint(context)}.tar"
        if archive.exists():
            return archive
        base_image(BASE, BASE_PACKAGES)
        bases = [f"--build-arg=BASE={BASE}"]
        if "BUILD_BASE" in (context / dockerfile).read_text():
            base_image(BUILD_BASE, BUILD_BASE_PACKAGES)
            bases.append(f"--build-arg=BUILD_BASE={BUILD_BASE}")
        mounts = [f"--volume={path}:{path}:ro" for path in machine_settings()]
        pip = [f"--env={name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
        options = ["--network=host", "--layers", *bases, *mounts, *pip]
        bake(context, context / dockerfile, reference, archive, options)
    return archive


def bake(
    context: pathlib.Path,
    dockerfile: pathlib.Path,
    reference: str,
    archive: pathlib.Path,
    options: Sequence[str],
    inside: Sequence[str] = (),
) -> None:
    """Build a Dockerfile and write the image as an archive; older archives of the same image go.

    `inside` is a command that runs another one somewhere else: in a network of its own for example.
    """
    with tempfile.TemporaryDirectory(prefix="bs-image-") as folder:
        built = pathlib.Path(folder, "id")  # no tag: another checkout may build its own image just now
        command = ["bud", "--isolation=chroot", *options, f"--file={dockerfile}", f"--iidfile={built}", str(context)]
        buildah(command, inside)
        for old in archive.parent.glob(f"{archive.name.rpartition('-')[0]}-*.tar"):
            old.unlink()
        unfinished = pathlib.Path(folder, "image.tar")
        buildah(["push", built.read_text(), f"docker-archive:{unfinished}:{reference}"])
        shutil.move(unfinished, archive)


def fingerprint(context: pathlib.Path, *more: str) -> str:
    """A hash of everything that goes into an image."""
    digest = hashlib.sha256("\0".join(more or (BASE,)).encode())
    for path in sorted(context.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(context)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def machine_settings() -> list[str]:
    """How this machine reaches package registries: what a build needs of it and an image must not keep."""
    environment = [os.environ.get(name, "") for name in ("PIP_CERT", "PIP_FIND_LINKS")]
    candidates = ["/etc/resolv.conf", "/etc/ssl/certs", "/etc/pip.conf", *environment]
    return [path for path in candidates if path and os.path.exists(path)]


def base_image(reference: str, packages: str, removed: str = REMOVED) -> None:
    """A base from Debian's packages: what `python:3-slim`, for example, is where a registry can be reached."""
    if subprocess.run([*BUILDAH, "inspect", "--type=image", reference], capture_output=True).returncode == 0:
        return
    with tempfile.TemporaryDirectory(prefix="bs-base-") as folder:
        archive = pathlib.Path(folder, "base.tar")
        # `extract` unpacks the packages and runs none of their scripts: no package manager is in the image.
        options = ["--variant=extract", "--mode=root", f"--include={packages}"]
        # Nor is any hook run that comes after unpacking.
        trim = f'--extract-hook=cd "$1" && rm -rf {removed}'
        done = subprocess.run(["mmdebstrap", *options, trim, "bookworm", archive], capture_output=True, text=True)
        if done.returncode:
            raise ImageError(f"mmdebstrap: {done.stderr[-2000:]}")
        container = buildah(["from", "scratch"]).strip()
        buildah(["add", container, str(archive), "/"])
        buildah(["commit", "--rm", container, reference])


BUILDAH = ("buildah", "--storage-driver=overlay", f"--root={STORAGE}", f"--runroot={STORAGE}/run")


def buildah(arguments: Sequence[str], inside: Sequence[str] = ()) -> str:
    done = subprocess.run([*inside, *BUILDAH, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ImageError(f"buildah {' '.join(arguments)}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def pack_image(
    archive: pathlib.Path, reference: str, files: Mapping[str, pathlib.Path], entrypoint: Sequence[str]
) -> None:
    """Write a one-layer image in docker's archive format: `files` maps paths in the image to files here."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for target, source in files.items():
            info = tar.gettarinfo(str(source), arcname=target.lstrip("/"))
            info.mode, info.uid, info.gid, info.uname, info.gname = 0o755, 0, 0, "", ""
            with open(source, "rb") as content:
                tar.addfile(info, content)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint)},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        for member, content in ((name, config), ("layer.tar", layer.getvalue()), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
