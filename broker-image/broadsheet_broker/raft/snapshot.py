"""Snapshots of the metadata log: `<offset>-<epoch>.checkpoint` (KIP-630).

A snapshot stands for every record below its offset. It is a file of ordinary batches: a control batch with the header,
the records, a control batch with the footer. `bootstrap.checkpoint`, which formatting writes, has the same form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from broadsheet_broker.raft.control_records import (
    SNAPSHOT_FOOTER,
    SNAPSHOT_HEADER,
    control_type,
    footer_row,
    header_rows,
    voters_of,
)
from broadsheet_broker.raft.messages import SnapshotId
from broadsheet_broker.raft.voters import VoterSet
from broadsheet_broker.seams import Files
from broadsheet_broker.wire.errors import ErrorCode, KafkaError, ProtocolError
from broadsheet_broker.wire.messages.snapshot_header_record import SnapshotHeaderRecord
from broadsheet_broker.wire.records import batch_crc, build_batch, decode_records, iterate_batches

__all__ = ["Snapshot", "SnapshotId", "encode_snapshot", "list_snapshots", "parse_file_name", "read_snapshot"]

SUFFIX: Final = ".checkpoint"
_NAME: Final = re.compile(r"(\d{20})-(\d{10})\.checkpoint")

_RECORDS_PER_BATCH: Final = 1000


def parse_file_name(name: str) -> SnapshotId | None:
    match = _NAME.fullmatch(name)
    return SnapshotId(int(match[1]), int(match[2])) if match else None


def encode_snapshot(
    values: Iterable[bytes], epoch: int, last_contained_timestamp: int, now_ms: int, voters: VoterSet
) -> bytes:
    """The content of a snapshot file around encoded records."""
    rows = header_rows(voters, last_contained_timestamp, now_ms)
    file = bytearray(build_batch(rows, leader_epoch=epoch, control=True))
    offset = len(rows)
    group: list[tuple[int, None, bytes, tuple[()]]] = []
    for value in values:
        group.append((now_ms, None, value, ()))
        if len(group) == _RECORDS_PER_BATCH:
            file += build_batch(group, base_offset=offset, leader_epoch=epoch)
            offset += len(group)
            group = []
    if group:
        file += build_batch(group, base_offset=offset, leader_epoch=epoch)
        offset += len(group)
    file += build_batch([footer_row(now_ms)], base_offset=offset, leader_epoch=epoch, control=True)
    return bytes(file)


class Snapshot:
    """A snapshot file, checked whole and decoded."""

    __slots__ = ("last_contained_timestamp", "size", "values", "voters")

    def __init__(self, data: bytes, path: str) -> None:
        """Raises KafkaError(CORRUPT_MESSAGE) for a file that is damaged or was not finished."""
        self.last_contained_timestamp = -1
        self.voters: VoterSet | None = None
        """Who votes, if the snapshot says so."""
        self.values: list[bytes] = []
        self.size = len(data)
        try:
            self._read(data)
        except (KafkaError, ProtocolError, IndexError) as error:
            raise KafkaError(
                ErrorCode.CORRUPT_MESSAGE, f"{path} is damaged: {getattr(error, 'message', error)}"
            ) from error

    def _read(self, data: bytes) -> None:
        position, finished, first = 0, False, True
        for header, batch in iterate_batches(memoryview(data)):
            if batch_crc(batch) != header.crc:
                raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"the batch at byte {position} fails its checksum")
            records = decode_records(batch)
            if header.is_control:
                types = [control_type(record) for record in records]
                if first:
                    if types[0] != SNAPSHOT_HEADER:
                        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "it does not begin with a snapshot header")
                    message, _ = SnapshotHeaderRecord.decode(memoryview(records[0].value or b""), 0)
                    self.last_contained_timestamp = message.last_contained_log_timestamp
                self.voters = voters_of(records) or self.voters
                finished = SNAPSHOT_FOOTER in types
            else:
                self.values += (bytes(record.value or b"") for record in records)
            first = False
            position += header.size
        if position < len(data) or not finished:
            raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"it ends after byte {position} without a snapshot footer")


def read_snapshot(files: Files, path: str) -> Snapshot:
    return Snapshot(files.read_bytes(path), path)


def list_snapshots(files: Files, directory: str) -> Iterator[SnapshotId]:
    """The finished snapshots of a directory, oldest first."""
    for name in files.list(directory):
        id = parse_file_name(name)
        if id is not None:
            yield id
