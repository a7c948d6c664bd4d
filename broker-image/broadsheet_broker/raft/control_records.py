"""Control records of the metadata log and its snapshots, and the voters that they speak of."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

from broadsheet_broker.raft.voters import ReplicaKey, Voter, VoterSet
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages import leader_change_message as leader_change
from broadsheet_broker.wire.messages import voters_record as voters_message
from broadsheet_broker.wire.messages.k_raft_version_record import KRaftVersionRecord
from broadsheet_broker.wire.messages.snapshot_footer_record import SnapshotFooterRecord
from broadsheet_broker.wire.messages.snapshot_header_record import SnapshotHeaderRecord
from broadsheet_broker.wire.records import Record

LEADER_CHANGE: Final = 2
SNAPSHOT_HEADER: Final = 3
SNAPSHOT_FOOTER: Final = 4
KRAFT_VERSION: Final = 5
KRAFT_VOTERS: Final = 6
"""Types of control records (org.apache.kafka.common.record.ControlRecordType)."""

MAX_KRAFT_VERSION: Final = 1

Row = tuple[int, bytes, bytes, tuple[()]]
"""What build_batch takes: timestamp (ms), key, value, headers."""


def control_row(type: int, message: Any, timestamp: int) -> Row:
    return timestamp, struct.pack(">hh", 0, type), b"".join(message.encode(0)), ()


def control_type(record: Record) -> int:
    if record.key is None or len(record.key) < 4:
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"The control record at offset {record.offset} has no type.")
    (number,) = struct.unpack_from(">h", record.key, 2)
    return int(number)


def leader_change_row(
    leader_id: int, voters: Iterable[ReplicaKey], granting: Iterable[ReplicaKey], timestamp: int
) -> Row:
    """The first record of an epoch, in version 0 whatever the quorum: Kafka 4.3 reads no other."""

    def rows(keys: Iterable[ReplicaKey]) -> list[leader_change.Voter]:
        return [leader_change.Voter(voter_id=key.id) for key in keys]

    message = leader_change.LeaderChangeMessage(
        version=0, leader_id=leader_id, voters=rows(voters), granting_voters=rows(granting)
    )
    return control_row(LEADER_CHANGE, message, timestamp)


def voter_rows(voters: VoterSet, timestamp: int) -> list[Row]:
    """What says who votes, where voters stand in the log; nothing for a static quorum."""
    if not voters.dynamic:
        return []
    supported = voters_message.KRaftVersionFeature(min_supported_version=0, max_supported_version=MAX_KRAFT_VERSION)
    message = voters_message.VotersRecord(
        voters=[
            voters_message.Voter(
                voter_id=voter.key.id,
                voter_directory_id=voter.key.directory_id,
                endpoints=[
                    voters_message.Endpoint(name=name, host=host, port=port)
                    for name, (host, port) in voter.endpoints.items()
                ],
                k_raft_version_feature=supported,
            )
            for voter in (voters.voters[id] for id in voters.ids)
        ]
    )
    version = KRaftVersionRecord(k_raft_version=1)
    return [control_row(KRAFT_VERSION, version, timestamp), control_row(KRAFT_VOTERS, message, timestamp)]


def header_rows(voters: VoterSet, last_contained_timestamp: int, timestamp: int) -> list[Row]:
    """The first batch of a snapshot."""
    header = SnapshotHeaderRecord(last_contained_log_timestamp=last_contained_timestamp)
    return [control_row(SNAPSHOT_HEADER, header, timestamp), *voter_rows(voters, timestamp)]


def footer_row(timestamp: int) -> Row:
    """The last record of a snapshot: without it, the file was not finished."""
    return control_row(SNAPSHOT_FOOTER, SnapshotFooterRecord(), timestamp)


def voters_of(records: Sequence[Record]) -> VoterSet | None:
    """The voters that a control batch sets; None when it does not speak of them."""
    for record in records:
        if control_type(record) != KRAFT_VOTERS or record.value is None:
            continue
        message, _ = voters_message.VotersRecord.decode(memoryview(record.value), 0)
        return VoterSet(
            {
                voter.voter_id: Voter(
                    ReplicaKey(voter.voter_id, voter.voter_directory_id),
                    {endpoint.name: (endpoint.host, endpoint.port) for endpoint in voter.endpoints},
                )
                for voter in message.voters
            },
            dynamic=True,
        )
    return None
