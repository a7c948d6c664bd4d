"""Images without docker or a registry: single files packed as an archive, and the project's Dockerfiles by buildah."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence

BASE = "localhost/broadsheet-base:1"
BASE_PACKAGES = "python3,python3-venv,ca-certificates"


class ImageError(Exception):
    """An image could not be built; the message ends with the last lines of the build."""


def build(dockerfile: pathlib.Path, reference: str, archive: pathlib.Path, context: pathlib.Path) -> pathlib.Path:
    """Build one of the project's Dockerfiles with buildah and write it as an archive that `ctr images import` reads."""
    base_image()
    mounts = [f"--volume={path}:{path}:ro" for path in machine_settings()]
    pip = [f"--env={name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
    options = ["--isolation=chroot", "--network=host", "--layers", f"--build-arg=BASE={BASE}", *mounts, *pip]
    buildah(["bud", *options, f"--file={dockerfile}", f"--tag={reference}", str(context)])
    archive.unlink(missing_ok=True)
    buildah(["push", reference, f"docker-archive:{archive}:{reference}"])
    return archive


def machine_settings() -> list[str]:
    """How this machine reaches package registries: what a build needs of it and an image must not keep."""
    candidates = ["/etc/resolv.conf", "/etc/ssl/certs", "/etc/pip.conf", os.environ.get("PIP_CERT", "")]
    return [path for path in candidates if path and os.path.exists(path)]


def base_image() -> None:
    """A base with Python, from Debian's packages: what `python:3-slim` is where a registry can be reached."""
    if (
        subprocess.run(
            ["buildah", "--storage-driver=vfs", "inspect", "--type=image", BASE], capture_output=True
        ).returncode
        == 0
    ):
        return
    with tempfile.TemporaryDirectory(prefix="bs-base-") as folder:
        archive = pathlib.Path(folder, "base.tar")
        command = ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={BASE_PACKAGES}", "bookworm", archive]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ImageError(f"mmdebstrap: {done.stderr[-2000:]}")
        container = buildah(["from", "scratch"]).strip()
        buildah(["add", container, str(archive), "/"])
        buildah(["commit", "--rm", container, BASE])


def buildah(arguments: Sequence[str]) -> str:
    command = ["buildah", "--storage-driver=vfs", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
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
