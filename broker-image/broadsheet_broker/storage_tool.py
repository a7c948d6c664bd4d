"""Formatting log directories, and reading what they say they are: `meta.properties` and `bootstrap.checkpoint`.

A directory belongs to one node of one cluster. That is written into it once, by formatting, so that a volume that was
mounted in the wrong place is refused instead of being filled with another cluster's topics (KIP-631, KIP-858).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from broadsheet_broker.config import BrokerConfig, parse_properties
from broadsheet_broker.controller import eligible_replicas
from broadsheet_broker.controller.features import DEFAULT_FEATURES
from broadsheet_broker.metadata.image import METADATA_VERSION
from broadsheet_broker.metadata.records import V4_0_IV1, encode_record
from broadsheet_broker.node.identity import Identity
from broadsheet_broker.node.quorum import BOOTSTRAP_CHECKPOINT
from broadsheet_broker.raft.snapshot import SnapshotId, encode_snapshot
from broadsheet_broker.raft.storage import DIRECTORY
from broadsheet_broker.raft.voters import ReplicaKey, Voter, VoterSet
from broadsheet_broker.seams import Environment, Files
from broadsheet_broker.wire.messages.feature_level_record import FeatureLevelRecord
from broadsheet_broker.wire.primitives import parse_uuid_text, uuid_text

logger = logging.getLogger(__name__)

META_PROPERTIES: Final = "meta.properties"

RELEASES: Final[Mapping[str, int]] = {
    "3.3-IV3": 7,
    "3.4-IV0": 8,
    "3.5-IV2": 11,
    "3.6-IV2": 14,
    "3.7-IV4": 19,
    "3.8-IV0": 20,
    "3.9-IV0": 21,
    "4.0-IV3": 25,
    "4.1-IV1": 27,
    "4.2-IV1": 29,
    "4.3-IV0": 30,
}
"""The last metadata.version of each release of Kafka that 4.3 can still read."""

_ELR_BY_DEFAULT: Final = 26
"""The metadata.version (4.1-IV0) from which new clusters start with eligible leader replicas."""


class StorageError(Exception):
    """A directory that this node may not use: says what is wrong, where, and what to do."""


@dataclass(frozen=True, slots=True)
class MetaProperties:
    """The content of one meta.properties file."""

    cluster_id: str
    node_id: int
    directory_id: UUID | None


def format_directories(
    environment: Environment,
    config: BrokerConfig,
    cluster_id: str,
    *,
    ignore_formatted: bool = False,
    standalone: bool = False,
    initial_controllers: str = "",
    release: str | None = None,
    features: Mapping[str, int] | None = None,
) -> list[str]:
    """Format the node's directories as kafka-storage.sh does; returns a line for each that says what was done.

    `standalone` makes a dynamic quorum (kraft.version 1) whose first and only voter is this node (KIP-853);
    `initial_controllers` one with several first voters, `id@host:port:directory-id` by comma, the same on all of them.
    With neither, a node without controller.quorum.voters joins as an observer.
    """
    _check_cluster_id(cluster_id)
    if standalone and initial_controllers:
        raise StorageError("--standalone and --initial-controllers exclude each other.")
    if standalone or initial_controllers:
        _check_quorum(config, "--standalone" if standalone else "--initial-controllers")
    first_voters = _parse_voters(config, initial_controllers) if initial_controllers else None
    levels = _levels(release, features or {})
    found = _formatted_before(environment.files, config, cluster_id, ignore_formatted)
    ids = _new_ids(environment, config, found, first_voters)
    lines = [f"Directory {path} is already formatted." for path in found]
    for path, directory_id in ids.items():
        try:
            environment.files.make_directory(path)
            if path == config.metadata_log_dir:
                _write_bootstrap(environment, path, levels)
                if standalone:
                    first_voters = _own_voter(config, directory_id)
                if first_voters is not None:
                    _write_voters(environment, path, first_voters)
            # Last, since it says that the directory is ready.
            meta = MetaProperties(cluster_id, config.node_id, directory_id)
            environment.files.replace(f"{path}/{META_PROPERTIES}", _meta_text(meta, environment.clock.time_ms()))
        except OSError as error:
            raise StorageError(f"Log directory {path} cannot be formatted: {error}") from error
        lines.append(f"Formatting {path} with metadata.version {_release_of(levels[METADATA_VERSION])}.")
    return lines


def _formatted_before(
    files: Files, config: BrokerConfig, cluster_id: str, ignore_formatted: bool
) -> dict[str, MetaProperties]:
    """The node's directories that are formatted already, by path; StorageError unless they may be left alone."""
    found = {}
    for path in _all_directories(config):
        meta = _read_meta(files, path)
        if meta is None:
            continue
        _check_owner(path, meta, config, cluster_id)
        if not ignore_formatted:
            raise StorageError(
                f"Log directory {path} is already formatted for cluster {meta.cluster_id}. "
                "Use --ignore-formatted to format the others and leave this one as it is."
            )
        found[path] = meta
    return found


def _new_ids(
    environment: Environment, config: BrokerConfig, found: Mapping[str, MetaProperties], first_voters: VoterSet | None
) -> dict[str, UUID]:
    """An id for each directory that is not formatted yet, by path: the one of --initial-controllers, or a new one."""
    ids: dict[str, UUID] = {}
    taken = {meta.directory_id for meta in found.values()}
    for path in _all_directories(config):
        if path in found:
            continue
        if path == config.metadata_log_dir and first_voters is not None and config.node_id in first_voters:
            id = first_voters.voters[config.node_id].key.directory_id
        else:
            id = environment.uuid()
            while id in taken:
                id = environment.uuid()
        ids[path] = id
        taken.add(id)
    return ids


def load_identity(environment: Environment, config: BrokerConfig) -> Identity:
    """Read what the directories are. Format them first if they are all empty and the configuration says so."""
    files = environment.files
    paths = _all_directories(config)
    failures: dict[str, str] = {}
    found: dict[str, MetaProperties] = {}
    empty: list[str] = []
    for path in paths:
        try:
            files.make_directory(path)
            meta = _read_meta(files, path)
            files.free_bytes(path)
        except (OSError, StorageError) as error:
            failures[path] = str(error)
            continue
        if meta is None:
            empty.append(path)
        else:
            found[path] = meta
    metadata = config.metadata_log_dir
    if metadata in failures:
        raise StorageError(f"The directory of the metadata log, {metadata}, cannot be used: {failures[metadata]}")
    if empty:
        return _fill_empty(environment, config, found, empty)
    for path, reason in failures.items():
        logger.error("Log directory %s is offline: %s", path, reason)
    return _identity(config, found, failures)


def _fill_empty(
    environment: Environment, config: BrokerConfig, found: Mapping[str, MetaProperties], empty: list[str]
) -> Identity:
    """Some directories are not formatted: format them if that is safe, else refuse."""
    files = environment.files
    known = {meta.cluster_id for meta in found.values()}
    metadata_known = config.metadata_log_dir in found
    for path in empty:
        names = [name for name in files.list(path) if name != "lost+found" and not name.startswith(".")]
        if names:
            shown = ", ".join(names[:3])
            raise StorageError(
                f"Log directory {path} has no {META_PROPERTIES}, yet it is not empty ({shown}). If it belongs to this "
                f"node, restore its {META_PROPERTIES} from a copy; else give an empty directory in log.dirs."
            )
    if metadata_known and len(known) == 1:
        cluster_id = known.pop()  # a directory was added to a node that is formatted
    elif not found and config.auto_format:
        cluster_id = config.cluster_id or uuid_text(environment.uuid())
    else:
        raise StorageError(
            f"Log directory {empty[0]} is not formatted. Format it with `broadsheet format --config FILE "
            "--cluster-id ID`, or set broadsheet.cluster.id (the image: CLUSTER_ID), with which an empty directory is "
            "formatted at the start."
        )
    # First voters are for a node that knows nothing yet: one that lost its metadata's directory alone joins.
    first_voters = "" if found else config.initial_controllers
    standalone = not config.quorum_voters and not first_voters and _is_own_address(config, config.bootstrap_servers)
    lines = format_directories(
        environment,
        config,
        cluster_id,
        ignore_formatted=True,
        standalone=standalone,
        initial_controllers=first_voters,
    )
    for line in lines:
        logger.info("%s", line)
    return load_identity(environment, config)


def _is_own_address(config: BrokerConfig, servers: list[tuple[str, int]]) -> bool:
    """Whether the quorum is to be found at this node alone: then it is there to begin one."""
    own = {(host, item.port) for item in config.controller_listeners for host in (item.host, "localhost", "127.0.0.1")}
    return bool(servers) and all(server in own for server in servers)


def _identity(config: BrokerConfig, found: Mapping[str, MetaProperties], failures: Mapping[str, str]) -> Identity:
    cluster_id = config.cluster_id or found[config.metadata_log_dir].cluster_id
    directories: dict[str, UUID] = {}
    for path, meta in found.items():
        _check_owner(path, meta, config, cluster_id)
        if meta.directory_id is None:
            raise StorageError(
                f"{path}/{META_PROPERTIES} has no directory.id, as Kafka before 3.7 wrote it. Start Apache Kafka 3.7 "
                "to 4.x once on this directory; it adds one."
            )
        for other, id in directories.items():
            if id == meta.directory_id:
                raise StorageError(
                    f"Log directories {other} and {path} have the same directory.id {uuid_text(id)}: one is a copy of "
                    "the other. Remove the copy from log.dirs."
                )
        directories[path] = meta.directory_id
    usable = {path: id for path, id in directories.items() if path in config.log_dirs}
    return Identity(
        cluster_id,
        config.node_id,
        usable,
        config.metadata_log_dir,
        directories[config.metadata_log_dir],
        dict(failures),
    )


def _check_owner(path: str, meta: MetaProperties, config: BrokerConfig, cluster_id: str) -> None:
    if meta.cluster_id != cluster_id:
        raise StorageError(
            f"Log directory {path} belongs to cluster {meta.cluster_id}, and this node is configured for cluster "
            f"{cluster_id}. Mount the right volume, or give an empty directory in log.dirs."
        )
    if meta.node_id != config.node_id:
        raise StorageError(
            f"Log directory {path} belongs to node {meta.node_id}, and this node is node {config.node_id}. "
            "Mount the right volume, or set node.id to what the directory says."
        )


def _check_cluster_id(cluster_id: str) -> None:
    if not cluster_id or not cluster_id.isascii() or any(c.isspace() for c in cluster_id):
        raise StorageError(
            f"Invalid cluster id {cluster_id!r}: allowed is ASCII text without blanks. Leave --cluster-id and "
            "broadsheet.cluster.id out to have an id made (22 characters of base64)."
        )


def _check_quorum(config: BrokerConfig, option: str) -> None:
    if config.quorum_voters:
        raise StorageError(f"{option} makes a dynamic quorum: leave out controller.quorum.voters.")
    if not config.is_controller:
        raise StorageError(f"{option} needs a node with the controller role in process.roles.")


def _levels(release: str | None, features: Mapping[str, int]) -> dict[str, int]:
    levels = dict(DEFAULT_FEATURES)
    if release is not None:
        names = [name for name in RELEASES if name == release or name.split("-")[0] == release]
        if not names:
            allowed = ", ".join(name.split("-")[0] for name in RELEASES)
            raise StorageError(f"Unknown release version {release}: allowed is {allowed}.")
        levels[METADATA_VERSION] = RELEASES[names[0]]
    levels[eligible_replicas.FEATURE] = int(features.get(METADATA_VERSION, levels[METADATA_VERSION]) >= _ELR_BY_DEFAULT)
    levels.update(features)
    if levels[eligible_replicas.FEATURE] and levels[METADATA_VERSION] < V4_0_IV1:
        raise StorageError(
            f"{eligible_replicas.FEATURE} could not be set to {levels[eligible_replicas.FEATURE]} because it depends "
            f"on metadata.version level {V4_0_IV1}. Choose a release from 4.0 on, or {eligible_replicas.FEATURE}=0."
        )
    return {name: level for name, level in levels.items() if level or name == METADATA_VERSION}


def _release_of(level: int) -> str:
    return next((name for name, number in RELEASES.items() if number == level), str(level))


def _all_directories(config: BrokerConfig) -> list[str]:
    return list(dict.fromkeys((*config.log_dirs, config.metadata_log_dir)))


def _read_meta(files: Files, path: str) -> MetaProperties | None:
    name = f"{path}/{META_PROPERTIES}"
    if not files.exists(name):
        return None
    try:
        values = parse_properties(files.read_bytes(name).decode())
    except UnicodeDecodeError:
        raise StorageError(f"{name} is damaged: it is not text. Restore it from a copy.") from None
    if values.get("version") != "1":
        raise StorageError(
            f"{name} has version {values.get('version')}; version 1, as KRaft nodes write it, is supported."
        )
    try:
        node_id = int(values["node.id"])
        cluster_id = values["cluster.id"]
        text = values.get("directory.id")
        return MetaProperties(cluster_id, node_id, parse_uuid_text(text) if text else None)
    except KeyError as error:
        raise StorageError(f"{name} is damaged: {error.args[0]} is missing. Restore it from a copy.") from None
    except ValueError as error:
        raise StorageError(f"{name} is damaged: {error}. Restore it from a copy.") from None


def _meta_text(meta: MetaProperties, now_ms: int) -> bytes:
    when = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%a %b %d %H:%M:%S UTC %Y")
    directory = "" if meta.directory_id is None else f"directory.id={uuid_text(meta.directory_id)}\n"
    return f"#\n#{when}\nnode.id={meta.node_id}\n{directory}version=1\ncluster.id={meta.cluster_id}\n".encode()


def _write_bootstrap(environment: Environment, path: str, levels: Mapping[str, int]) -> None:
    """The records that the first leader of a new quorum appends to the empty metadata log."""
    records = [encode_record(FeatureLevelRecord(name=name, feature_level=level)) for name, level in levels.items()]
    data = encode_snapshot(records, 0, 0, environment.clock.time_ms(), VoterSet({}))
    environment.files.replace(f"{path}/{BOOTSTRAP_CHECKPOINT}", data)


def _own_voter(config: BrokerConfig, directory_id: UUID) -> VoterSet:
    endpoints = {item.name: (item.host or "localhost", item.port) for item in config.controller_listeners}
    return VoterSet({config.node_id: Voter(ReplicaKey(config.node_id, directory_id), endpoints)}, dynamic=True)


def _parse_voters(config: BrokerConfig, text: str) -> VoterSet:
    """`0@host:port:directory-id,1@...`, as kafka-storage.sh takes it."""
    listener = next(iter(config.controller_listener_names), "CONTROLLER")
    voters = {}
    for part in text.split(","):
        id, at, rest = part.strip().partition("@")
        address, _, directory = rest.rpartition(":")
        host, _, port = address.rpartition(":")
        try:
            key = ReplicaKey(int(id), parse_uuid_text(directory))
            voters[key.id] = Voter(key, {listener: (host.strip("[]"), int(port))})
        except ValueError:
            at = ""
        if not at or not host:
            raise StorageError(f"Invalid initial controller {part.strip()!r}: allowed is id@host:port:directory-id.")
    return VoterSet(voters, dynamic=True)


def _write_voters(environment: Environment, path: str, voters: VoterSet) -> None:
    """The snapshot before the first offset, which says who votes."""
    now = environment.clock.time_ms()
    directory = f"{path}/{DIRECTORY}"
    environment.files.make_directory(directory)
    environment.files.replace(f"{directory}/{SnapshotId(0, 0).file_name}", encode_snapshot([], 0, now, now, voters))
