"""Images without docker or a registry: single files packed as an archive, and the project's Dockerfiles by buildah."""

from __future__ import annotations

import hashlib
import io
import json
import pathlib
import tarfile
from collections.abc import Mapping, Sequence


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
