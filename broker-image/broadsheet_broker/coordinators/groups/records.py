"""Records of `__consumer_offsets`: what the state of groups looks like in the log.

A key begins with its type (int16), a value with its version (int16); see Kafka's GroupCoordinatorRecordSerde. Values
are written in the versions that Kafka 4.3 writes: group metadata 3, offset commits 4 (1 when the client asked for a
retention time of its own, which only old versions can hold).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from broadsheet_broker.coordinators.runtime.turn import Record
from broadsheet_broker.wire.errors import ProtocolError
from broadsheet_broker.wire.messages.group_metadata_key import GroupMetadataKey
from broadsheet_broker.wire.messages.group_metadata_value import GroupMetadataValue
from broadsheet_broker.wire.messages.offset_commit_key import OffsetCommitKey
from broadsheet_broker.wire.messages.offset_commit_value import OffsetCommitValue

LEGACY_OFFSET_COMMIT = 0
OFFSET_COMMIT = 1
GROUP_METADATA = 2

FOREIGN_TYPES = {
    **dict.fromkeys((3, 4, 5, 6, 7, 8, 16), "consumer"),
    **dict.fromkeys((10, 11, 12, 13, 14, 15), "share"),
    **dict.fromkeys((17, 18, 19, 20, 21, 22, 23), "streams"),
}
"""Group types of the record types that belong to groups which this broker does not run (KIP-848, 932, 1071)."""
FOREIGN_GROUP_KEYS = frozenset((3, 11, 17))
"""Record types that hold the epoch of such a group, and so its existence. A tombstone ends the group."""

OFFSET_VALUE_VERSION = 4
OFFSET_VALUE_VERSION_WITH_EXPIRY = 1
GROUP_VALUE_VERSION = 3

_INT16 = struct.Struct(">h")
_KEY_TYPE = {type_: _INT16.pack(type_) for type_ in (OFFSET_COMMIT, GROUP_METADATA)}
_VALUE_VERSION = {version: _INT16.pack(version) for version in range(5)}


class CommittedOffset(NamedTuple):
    """What a group has committed for one partition."""

    offset: int
    leader_epoch: int
    """Of the last record read, -1 when the client did not say."""
    metadata: str
    commit_ms: int
    """Wall clock of the commit, milliseconds since the Unix epoch."""
    expire_ms: int
    """When the client set a retention of its own (OffsetCommit 2-4); else -1."""
    topic_id: UUID
    """Zero when the client committed by topic name."""


class OffsetRecord(NamedTuple):
    """An offset commit read from the log; without a value it is a tombstone."""

    group_id: str
    topic: str
    partition: int
    value: CommittedOffset | None


class GroupRecord(NamedTuple):
    """Metadata of a classic group read from the log; without a value it is a tombstone."""

    group_id: str
    value: GroupMetadataValue | None


@dataclass(slots=True)
class ForeignRecord:
    """A record of an unknown kind."""

    type: int
    group_id: str | None
    """None if the key cannot be decoded."""
    tombstone: bool


LoadedRecord = OffsetRecord | GroupRecord | ForeignRecord


def offset_key(group_id: str, topic: str, partition: int) -> bytes:
    """The key of an offset commit."""
    return _KEY_TYPE[OFFSET_COMMIT] + b"".join(
        OffsetCommitKey(group=group_id, topic=topic, partition=partition).encode(0)
    )


def offset_commit(group_id: str, topic: str, partition: int, value: CommittedOffset) -> Record:
    """An offset commit."""
    version = OFFSET_VALUE_VERSION if value.expire_ms == -1 else OFFSET_VALUE_VERSION_WITH_EXPIRY
    message = OffsetCommitValue(
        offset=value.offset,
        leader_epoch=value.leader_epoch,
        metadata=value.metadata,
        commit_timestamp=value.commit_ms,
        expire_timestamp=value.expire_ms,
        topic_id=value.topic_id,
    )
    return offset_key(group_id, topic, partition), _VALUE_VERSION[version] + b"".join(message.encode(version))


def offset_tombstone(group_id: str, topic: str, partition: int) -> Record:
    """The end of a committed offset."""
    return offset_key(group_id, topic, partition), None


def group_key(group_id: str) -> bytes:
    """The key of a classic group's metadata."""
    return _KEY_TYPE[GROUP_METADATA] + b"".join(GroupMetadataKey(group=group_id).encode(0))


def group_metadata(group_id: str, message: GroupMetadataValue) -> Record:
    """The metadata of a classic group."""
    return group_key(group_id), _VALUE_VERSION[GROUP_VALUE_VERSION] + b"".join(message.encode(GROUP_VALUE_VERSION))


def group_tombstone(group_id: str) -> Record:
    """The end of a group."""
    return group_key(group_id), None


def read(key: bytes, value: bytes | None) -> LoadedRecord:
    """Decode a record of the log; one of an unknown kind becomes a `ForeignRecord`."""
    if len(key) < 2:
        return ForeignRecord(-1, None, value is None)
    (type_,) = _INT16.unpack_from(key)
    try:
        if type_ in (OFFSET_COMMIT, LEGACY_OFFSET_COMMIT):
            offset_key_, _ = OffsetCommitKey.decode(memoryview(key), 0, 2)  # the legacy key has the same fields
            return OffsetRecord(
                offset_key_.group, offset_key_.topic, offset_key_.partition, None if value is None else _offset(value)
            )
        if type_ == GROUP_METADATA:
            group_key_, _ = GroupMetadataKey.decode(memoryview(key), 0, 2)
            return GroupRecord(group_key_.group, None if value is None else _group(value))
        # Keys of all other types begin with the group's id, as this one does.
        other_key, _ = GroupMetadataKey.decode(memoryview(key), 0, 2)
        return ForeignRecord(type_, other_key.group, value is None)
    except ProtocolError:
        return ForeignRecord(type_, None, value is None)


def _version(value: bytes) -> int:
    if len(value) < 2:
        raise ProtocolError("a value without a version")
    (version,) = _INT16.unpack_from(value)
    if not 0 <= version <= 4:
        raise ProtocolError(f"version {version} is not known")
    return int(version)


def _offset(value: bytes) -> CommittedOffset:
    message, _ = OffsetCommitValue.decode(memoryview(value), _version(value), 2)
    return CommittedOffset(
        message.offset,
        message.leader_epoch,
        message.metadata,
        message.commit_timestamp,
        message.expire_timestamp,
        message.topic_id,
    )


def _group(value: bytes) -> GroupMetadataValue:
    message, _ = GroupMetadataValue.decode(memoryview(value), _version(value), 2)
    return message
