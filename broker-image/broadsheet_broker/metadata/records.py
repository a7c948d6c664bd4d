"""Metadata records as they stand in the metadata log: a frame of three varints, then the body.

Frame version (1), the API key of the record type, the version of the body: unsigned varints, as Kafka's
MetadataRecordSerde writes them (KIP-631). The frame is the value of a log record; its key is null.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from broadsheet_broker.metadata.delta import corrupt
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.primitives import decode_uvarint

FRAME_VERSION: Final = 1

V3_3_IV3: Final = 7
"""The oldest metadata.version that Kafka 4 reads, and so do we."""
V3_7_IV2: Final = 17
"""Log directories have ids (KIP-858)."""
V4_0_IV1: Final = 23
"""Eligible leader replicas (KIP-966)."""
V4_3_IV0: Final = 30
"""What new clusters get."""

RECORD_TYPES: Final[dict[int, str]] = {
    0: "RegisterBrokerRecord",
    1: "UnregisterBrokerRecord",
    2: "TopicRecord",
    3: "PartitionRecord",
    4: "ConfigRecord",
    5: "PartitionChangeRecord",
    7: "FenceBrokerRecord",
    8: "UnfenceBrokerRecord",
    9: "RemoveTopicRecord",
    10: "DelegationTokenRecord",
    11: "UserScramCredentialRecord",
    12: "FeatureLevelRecord",
    14: "ClientQuotaRecord",
    15: "ProducerIdsRecord",
    17: "BrokerRegistrationChangeRecord",
    18: "AccessControlEntryRecord",
    19: "RemoveAccessControlEntryRecord",
    20: "NoOpRecord",
    21: "ZkMigrationStateRecord",
    22: "RemoveUserScramCredentialRecord",
    23: "BeginTransactionRecord",
    24: "EndTransactionRecord",
    25: "AbortTransactionRecord",
    26: "RemoveDelegationTokenRecord",
    27: "RegisterControllerRecord",
    28: "ClearElrRecord",
}
"""Record types by API key, as their descriptions in Kafka 4.3 number them."""

_KEYS: Final = {name: key for key, name in RECORD_TYPES.items()}
_classes: dict[int, Any] = {}


def _class_of(key: int) -> Any:
    """The class of an API key, imported when the first record of that type is read."""
    found = _classes.get(key)
    if found is None:
        name = RECORD_TYPES.get(key)
        if name is None:
            raise _unsupported(f"a record of type {key}, which")
        snake = "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
        module = import_module(f"broadsheet_broker.wire.messages.{snake}")
        found = _classes[key] = getattr(module, name)
    return found


def _unsupported(what: str) -> KafkaError:
    return KafkaError(
        ErrorCode.UNSUPPORTED_VERSION,
        f"The metadata log has {what} this version of Broadsheet does not know: a newer version of Kafka or Broadsheet "
        "wrote it. Start that version on these directories",
    )


def _version_of(name: str, record: Any, metadata_version: int) -> int:
    """The body version that every node at this metadata.version can read (org.apache.kafka MetadataVersion)."""
    match name:
        case "RegisterBrokerRecord":
            return 4 if metadata_version >= V4_3_IV0 else 3 if metadata_version >= V3_7_IV2 else 2
        case "PartitionRecord" | "PartitionChangeRecord":
            return 2 if metadata_version >= V4_0_IV1 else 1 if metadata_version >= V3_7_IV2 else 0
        case "BrokerRegistrationChangeRecord":  # the lowest that holds what is said, as Kafka does
            if record.cordoned_log_dirs is not None:
                return 3
            return 2 if record.log_dirs else 1 if record.in_controlled_shutdown else 0
        case _:
            return 0


def encode_record(record: Any, metadata_version: int = V4_3_IV0) -> bytes:
    """A record as the value of a log record."""
    name = type(record).__name__
    version = _version_of(name, record, metadata_version)
    if version == 0 and name in ("PartitionRecord", "PartitionChangeRecord") and record.directories:
        # Nodes this old know nothing of directories.
        record.directories = [] if name == "PartitionRecord" else None
    # Keys and versions are below 128, so each varint is one byte.
    return bytes((FRAME_VERSION, _KEYS[name], version)) + b"".join(record.encode(version))


def frame_of(value: bytes | memoryview) -> tuple[int, int, int]:
    """Number of the record's type, version of its body, and where the body begins; CORRUPT_MESSAGE if there is none."""
    try:
        frame_version, position = decode_uvarint(value, 0)
        key, position = decode_uvarint(value, position)
        version, position = decode_uvarint(value, position)
    except IndexError:
        raise corrupt("a metadata record ends within its frame") from None
    if frame_version != FRAME_VERSION:
        raise corrupt(f"a metadata record has frame version {frame_version}, and only {FRAME_VERSION} is known")
    return key, version, position


def decode_record(value: bytes | memoryview | None) -> Any:
    """A record from the value of a log record.

    Raises KafkaError: UNSUPPORTED_VERSION for a type or version that is not known, else CORRUPT_MESSAGE; and
    ProtocolError for a bad body.
    """
    view = memoryview(value if value is not None else b"")
    key, version, position = frame_of(view)
    record_class = _class_of(key)
    if not record_class.LOWEST_VERSION <= version <= record_class.HIGHEST_VERSION:
        raise _unsupported(f"a {record_class.__name__} of version {version}, which")
    record, end = record_class.decode(view, version, position)
    if end != len(view):
        raise corrupt(f"{len(view) - end} bytes follow a {record_class.__name__}")
    return record
