"""`meta.properties` of a log directory: to which cluster and node the directory belongs (KIP-631, KIP-858).

version=1
cluster.id=MkU3OEVBNTcwNTJENDM2Qg
node.id=1
directory.id=mSsUSS0kQcqI1KHNpg4dQw
"""

from __future__ import annotations

from dataclasses import dataclass

from broadsheet_broker.seams import Files

META_PROPERTIES = "meta.properties"


class MetaPropertiesError(ValueError):
    """A `meta.properties` that cannot be read, or is of another cluster or node. Says which and what to do."""


@dataclass(frozen=True, slots=True)
class MetaProperties:
    cluster_id: str
    node_id: int
    directory_id: str | None = None
    """A UUID in base64url, as Kafka writes it."""
    version: int = 1

    def to_bytes(self) -> bytes:
        lines = ["#", f"cluster.id={self.cluster_id}"]
        if self.directory_id is not None:
            lines.append(f"directory.id={self.directory_id}")
        lines += [f"node.id={self.node_id}", f"version={self.version}"]
        return ("\n".join(lines) + "\n").encode()


def read_meta_properties(files: Files, directory: str) -> MetaProperties | None:
    """None when the directory is not formatted. `broker.id` (version 0) is taken for `node.id`."""
    path = f"{directory}/{META_PROPERTIES}"
    try:
        text = files.read_bytes(path).decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise MetaPropertiesError(f"{path}: not a text file: {error}") from error
    values: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith(("#", "!")):
            key, _, value = line.partition("=")
            values[key.strip()] = value.strip().replace("\\:", ":").replace("\\=", "=")
    try:
        version = int(values.get("version", "0"))
        node = values["node.id"] if version else values["broker.id"]
        return MetaProperties(values["cluster.id"], int(node), values.get("directory.id"), version)
    except KeyError as error:
        raise MetaPropertiesError(f"{path}: {error.args[0]} is missing") from error
    except ValueError as error:
        raise MetaPropertiesError(f"{path}: {error}") from error


def write_meta_properties(files: Files, directory: str, properties: MetaProperties) -> None:
    files.replace(f"{directory}/{META_PROPERTIES}", properties.to_bytes())


def check_meta_properties(found: MetaProperties, directory: str, *, cluster_id: str | None, node_id: int) -> None:
    """Raise MetaPropertiesError when the directory belongs to another cluster or node."""
    path = f"{directory}/{META_PROPERTIES}"
    if cluster_id is not None and found.cluster_id != cluster_id:
        raise MetaPropertiesError(
            f"{path}: the directory belongs to cluster {found.cluster_id}, this broker to {cluster_id}. "
            "Give this broker its own log.dirs, or the directory its own cluster"
        )
    if found.node_id != node_id:
        raise MetaPropertiesError(
            f"{path}: the directory belongs to node {found.node_id}, this is node {node_id}. "
            "Set node.id, or use other log.dirs"
        )
