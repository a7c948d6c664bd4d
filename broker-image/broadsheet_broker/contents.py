"""Reads what the directories of a stopped or running node hold, whichever program wrote them. Changes nothing.

Before another program takes directories over, one has to know what is finalized and stored there: a Kafka of another
version, or Apache Kafka and this broker in turn, do not know the same features and records. What is read is what such a
decision needs: the finalized features, the types and versions of the records of `__cluster_metadata`, and who has
records in `__consumer_offsets` and `__transaction_state`. Records that are not known here are counted by their number.

The files of a running node can be read as well: what is being appended is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from broadsheet_broker.config.internal_topics import (
    CLUSTER_METADATA_TOPIC,
    GROUP_METADATA_TOPIC,
    TRANSACTION_STATE_TOPIC,
)
from broadsheet_broker.coordinators.groups.records import FOREIGN_GROUP_KEYS, FOREIGN_TYPES, ForeignRecord, GroupRecord
from broadsheet_broker.coordinators.groups.records import read as read_group_record
from broadsheet_broker.log.scan import BadBatchError, walk
from broadsheet_broker.metadata.records import RECORD_TYPES, frame_of
from broadsheet_broker.raft.snapshot import list_snapshots, read_snapshot
from broadsheet_broker.seams import Files
from broadsheet_broker.wire.errors import ErrorCode, KafkaError, ProtocolError
from broadsheet_broker.wire.messages.access_control_entry_record import AccessControlEntryRecord
from broadsheet_broker.wire.messages.client_quota_record import ClientQuotaRecord
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.delegation_token_record import DelegationTokenRecord
from broadsheet_broker.wire.messages.feature_level_record import FeatureLevelRecord
from broadsheet_broker.wire.messages.remove_access_control_entry_record import RemoveAccessControlEntryRecord
from broadsheet_broker.wire.messages.remove_delegation_token_record import RemoveDelegationTokenRecord
from broadsheet_broker.wire.messages.remove_topic_record import RemoveTopicRecord
from broadsheet_broker.wire.messages.remove_user_scram_credential_record import RemoveUserScramCredentialRecord
from broadsheet_broker.wire.messages.topic_record import TopicRecord
from broadsheet_broker.wire.messages.transaction_log_key import TransactionLogKey
from broadsheet_broker.wire.messages.transaction_log_value import TransactionLogValue
from broadsheet_broker.wire.messages.user_scram_credential_record import UserScramCredentialRecord
from broadsheet_broker.wire.records import decode_records

LOG_SUFFIX: Final = ".log"
TIERED: Final = "remote.storage.enable"
_TOPIC: Final = 2
"""ConfigResource.Type of topics."""
_OPEN: Final = {1: "Ongoing", 2: "PrepareCommit", 3: "PrepareAbort", 7: "PrepareEpochFence"}
"""Transactions of these states (org.apache.kafka TransactionState) wait for their coordinator."""


@dataclass(slots=True)
class Contents:
    """What was found."""

    features: dict[str, int] = field(default_factory=dict)
    """Finalized levels by feature."""
    metadata_records: dict[int, int] = field(default_factory=dict)
    """The highest version of each type of metadata record, by its number."""
    groups: dict[str, str] = field(default_factory=dict)
    """The type of each group that is not a classic one, by its id: consumer, share or streams (KIP-848, 932, 1071)."""
    unknown_group_records: set[int] = field(default_factory=set)
    """Types of records in `__consumer_offsets` that are not known here."""
    transactional_ids: dict[str, str] = field(default_factory=dict)
    """By transactional id the state of a transaction that is not finished; empty for one that is."""
    acls: int = 0
    scram_users: int = 0
    client_quotas: int = 0
    delegation_tokens: int = 0
    tiered_topics: list[str] = field(default_factory=list)
    """Topics with records in a remote storage (KIP-405)."""

    def as_json(self) -> dict[str, Any]:
        """As `broadsheet contents --output json` prints it; part of the interface."""
        return {
            "features": dict(sorted(self.features.items())),
            "metadataRecords": [
                {"type": type, "name": RECORD_TYPES.get(type, ""), "version": version}
                for type, version in sorted(self.metadata_records.items())
            ],
            "groups": [{"id": id, "type": type} for id, type in sorted(self.groups.items())],
            "unknownGroupRecords": sorted(self.unknown_group_records),
            "transactionalIds": [{"id": id, "open": state} for id, state in sorted(self.transactional_ids.items())],
            "acls": self.acls,
            "scramUsers": self.scram_users,
            "clientQuotas": self.client_quotas,
            "delegationTokens": self.delegation_tokens,
            "tieredTopics": sorted(self.tiered_topics),
        }

    def as_text(self) -> str:
        """For people: a line for each kind of thing that is there."""
        known = [f"{RECORD_TYPES.get(type, type)} {version}" for type, version in sorted(self.metadata_records.items())]
        unknown = sorted(self.unknown_group_records)
        open_ids = [f"{id} ({state})" for id, state in sorted(self.transactional_ids.items()) if state]
        ended_ids = [id for id, state in sorted(self.transactional_ids.items()) if not state]
        rows: list[tuple[str, list[str]]] = [
            ("finalized features", [f"{name} {level}" for name, level in sorted(self.features.items())]),
            ("metadata records, with their highest version", known),
            ("groups that are not classic", [f"{id} ({type})" for id, type in sorted(self.groups.items())]),
            ("unknown record types in __consumer_offsets", [str(type) for type in unknown]),
            ("transactional ids with an open transaction", open_ids),
            ("other transactional ids", ended_ids),
            ("topics in a remote storage", self.tiered_topics),
        ]
        counts = (self.acls, self.scram_users, self.client_quotas, self.delegation_tokens)
        names = ("ACLs", "SCRAM credentials", "client quotas", "delegation tokens")
        rows += [(name, [str(count)]) for name, count in zip(names, counts, strict=True) if count]
        return "".join(f"{name}: {', '.join(values)}\n" for name, values in rows if values)


def read_contents(files: Files, directories: Iterable[str]) -> Contents:
    """What these log directories hold together; those of several nodes of a cluster count as one.

    Of the replicas of a partition the one that goes furthest is read. KafkaError for damaged files, OSError for those
    that cannot be read.
    """
    found = Contents()
    replicas: dict[str, list[str]] = {}
    for directory in directories:
        for name in files.list(directory):
            if _topic_of(name) in (CLUSTER_METADATA_TOPIC, GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC):
                replicas.setdefault(name, []).append(f"{directory}/{name}")
    for name, paths in sorted(replicas.items()):
        path = max(paths, key=lambda path: _end(files, path)) if len(paths) > 1 else paths[0]
        match _topic_of(name):
            case topic if topic == CLUSTER_METADATA_TOPIC:
                _read_metadata(files, path, found)
            case topic if topic == GROUP_METADATA_TOPIC:
                _read_groups(_rows(files, path), found)
            case _:
                _read_transactions(_rows(files, path), found)
    return found


def _topic_of(directory: str) -> str:
    topic, _, partition = directory.rpartition("-")
    return topic if partition.isdigit() else ""


# -- files -------------------------------------------------------------------------------------------------------------

Row = tuple[bytes | None, bytes | None]
"""Key and value of a record."""


def _segments(files: Files, path: str) -> list[str]:
    return [f"{path}/{name}" for name in files.list(path) if name.endswith(LOG_SUFFIX)]


def _end(files: Files, path: str) -> tuple[int, int]:
    """The leader epoch and offset of the last batch: the replica with the larger one has all that the other has."""
    end = (-1, -1)
    for segment in reversed(_segments(files, path)):
        for header, _ in _batches(files, segment, is_last=True):
            end = (header.partition_leader_epoch, header.last_offset)
        if end != (-1, -1):
            break
    for snapshot in list_snapshots(files, path):
        end = max(end, (snapshot.epoch, snapshot.offset - 1))
    return end


def _batches(files: Files, segment: str, *, is_last: bool) -> Iterator[tuple[Any, Callable[[], bytes]]]:
    """Header of each batch of a segment, and how to read it whole. The last segment may end within a batch."""
    file = files.open(segment, read_only=True)
    try:
        for position, header in walk(file, 0, file.size()):
            yield header, partial(file.read, position, header.size)
    except BadBatchError as error:
        if not is_last:
            raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"{segment} is damaged {error}") from error
    finally:
        file.close()


def _rows(files: Files, path: str, start: int = 0) -> Iterator[Row]:
    """Keys and values of a partition's records from an offset on, control records left out."""
    segments = _segments(files, path)
    for segment in segments:
        for header, batch in _batches(files, segment, is_last=segment == segments[-1]):
            if header.is_control or header.last_offset < start:
                continue
            try:
                records = list(decode_records(batch()))
            except (KafkaError, ProtocolError) as error:
                why = error.message if isinstance(error, KafkaError) else error
                words = f"{segment} is damaged in the batch at offset {header.base_offset}: {why}"
                raise KafkaError(ErrorCode.CORRUPT_MESSAGE, words) from error
            for record in records:
                if record.offset >= start:
                    yield record.key, record.value


# -- __cluster_metadata ------------------------------------------------------------------------------------------------


def _read_metadata(files: Files, path: str, found: Contents) -> None:
    metadata = _Metadata(found)
    start = 0
    for id in reversed(list(list_snapshots(files, path))):
        try:
            values = read_snapshot(files, f"{path}/{id.file_name}").values
        except KafkaError:
            continue  # as at the start of a node: an older one stands for less of the log
        start = id.offset
        for value in values:
            metadata.take_in(value)
        break
    for _, row in _rows(files, path, start):
        if row is not None:
            metadata.take_in(row)
    if not found.metadata_records and any(files.size(segment) for segment in _segments(files, path)):
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"{path} is damaged: none of its records can be read")
    metadata.finish()


class _Metadata:
    """Adds up what metadata records say, as far as it is of interest."""

    def __init__(self, found: Contents) -> None:
        self._found = found
        self._acls: set[Any] = set()
        self._users: set[Any] = set()
        self._quotas: set[Any] = set()
        self._tokens: set[Any] = set()
        self._topics: dict[Any, str] = {}
        self._tiered: set[str] = set()

    def take_in(self, value: bytes) -> None:
        key, version, body = frame_of(value)
        records = self._found.metadata_records
        records[key] = max(version, records.get(key, 0))
        handler = _OF_INTEREST.get(RECORD_TYPES.get(key, ""))
        if handler is None:
            return
        record_class, take = handler
        if not record_class.LOWEST_VERSION <= version <= record_class.HIGHEST_VERSION:
            return
        record, _ = record_class.decode(memoryview(value), version, body)
        take(self, record)

    def finish(self) -> None:
        found = self._found
        found.acls, found.scram_users = len(self._acls), len(self._users)
        found.client_quotas, found.delegation_tokens = len(self._quotas), len(self._tokens)
        found.tiered_topics = sorted(self._tiered)

    def feature(self, record: FeatureLevelRecord) -> None:
        if record.feature_level:
            self._found.features[record.name] = record.feature_level
        else:
            self._found.features.pop(record.name, None)

    def acl(self, record: AccessControlEntryRecord) -> None:
        self._acls.add(record.id)

    def no_acl(self, record: RemoveAccessControlEntryRecord) -> None:
        self._acls.discard(record.id)

    def user(self, record: UserScramCredentialRecord) -> None:
        self._users.add((record.name, record.mechanism))

    def no_user(self, record: RemoveUserScramCredentialRecord) -> None:
        self._users.discard((record.name, record.mechanism))

    def token(self, record: DelegationTokenRecord) -> None:
        self._tokens.add(record.token_id)

    def no_token(self, record: RemoveDelegationTokenRecord) -> None:
        self._tokens.discard(record.token_id)

    def quota(self, record: ClientQuotaRecord) -> None:
        entity = (*sorted((e.entity_type, e.entity_name or "") for e in record.entity), record.key)
        if record.remove:
            self._quotas.discard(entity)
        else:
            self._quotas.add(entity)

    def topic(self, record: TopicRecord) -> None:
        self._topics[record.topic_id] = record.name

    def no_topic(self, record: RemoveTopicRecord) -> None:
        self._tiered.discard(self._topics.pop(record.topic_id, ""))

    def config(self, record: ConfigRecord) -> None:
        if record.resource_type == _TOPIC and record.name == TIERED:
            if record.value == "true":
                self._tiered.add(record.resource_name)
            else:
                self._tiered.discard(record.resource_name)


_OF_INTEREST: Final[dict[str, tuple[Any, Callable[[_Metadata, Any], None]]]] = {
    record.__name__: (record, take)
    for record, take in (
        (FeatureLevelRecord, _Metadata.feature),
        (AccessControlEntryRecord, _Metadata.acl),
        (RemoveAccessControlEntryRecord, _Metadata.no_acl),
        (UserScramCredentialRecord, _Metadata.user),
        (RemoveUserScramCredentialRecord, _Metadata.no_user),
        (DelegationTokenRecord, _Metadata.token),
        (RemoveDelegationTokenRecord, _Metadata.no_token),
        (ClientQuotaRecord, _Metadata.quota),
        (TopicRecord, _Metadata.topic),
        (RemoveTopicRecord, _Metadata.no_topic),
        (ConfigRecord, _Metadata.config),
    )
}


# -- coordinators' topics ----------------------------------------------------------------------------------------------


def _read_groups(rows: Iterator[Row], found: Contents) -> None:
    for key, value in rows:
        record = read_group_record(key or b"", value)
        if type(record) is GroupRecord and record.value is not None:
            found.groups.pop(record.group_id, None)  # it has become a classic group
        if type(record) is not ForeignRecord:
            continue
        if record.type not in FOREIGN_TYPES:
            found.unknown_group_records.add(record.type)
        elif record.type in FOREIGN_GROUP_KEYS and record.group_id is not None:
            if record.tombstone:
                found.groups.pop(record.group_id, None)
            else:
                found.groups[record.group_id] = FOREIGN_TYPES[record.type]


def _read_transactions(rows: Iterator[Row], found: Contents) -> None:
    for key, value in rows:
        if key is None or len(key) < 2:
            continue
        try:
            id, _ = TransactionLogKey.decode(memoryview(key), 0, 2)
            if value is None:
                found.transactional_ids.pop(id.transactional_id, None)
                continue
            version = int.from_bytes(value[:2], "big", signed=True)
            state, _ = TransactionLogValue.decode(
                memoryview(value), min(version, TransactionLogValue.HIGHEST_VERSION), 2
            )
        except ProtocolError:
            continue  # a version that is not known: its metadata.version says so
        found.transactional_ids[id.transactional_id] = _OPEN.get(state.transaction_status, "")
