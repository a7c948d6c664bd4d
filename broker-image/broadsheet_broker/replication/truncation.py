"""Where a follower cuts its log, or begins it, by what the leader says (KIP-101, KIP-279, KIP-320, KIP-595)."""

from __future__ import annotations

from typing import Protocol

from broadsheet_broker.wire.records import HEADER, HEADER_BYTES, BatchHeader

UNDEFINED_EPOCH = -1


class EpochLog(Protocol):
    """What the decision needs of a log."""

    @property
    def log_end_offset(self) -> int: ...

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]: ...


def truncation_offset(log: EpochLog, leader_epoch: int, leader_end_offset: int) -> int:
    """The end that the log is to have, given the leader's largest epoch not above ours and where that ended there.

    When this log does not know that epoch, its next smaller one is the last that both may share, so everything after
    that goes, and the next fetch asks again from there: one step per epoch that only one of them has seen (KIP-279).
    """
    end = log.log_end_offset
    own_epoch, own_end = log.end_offset_for_epoch(leader_epoch)
    if own_epoch == UNDEFINED_EPOCH:
        return min(leader_end_offset, end)
    if own_epoch != leader_epoch:
        return min(own_end, end)
    return min(own_end, leader_end_offset, end)


def start_within_batch(
    records: bytes | bytearray | memoryview, log_start_offset: int, log_end_offset: int
) -> int | None:
    """Where an empty log has to begin to take these records; None where it can take them as it is, or not at all.

    That is before its start offset when the leader's start lies in the middle of a batch (DeleteRecords).
    """
    if log_start_offset != log_end_offset or len(records) < HEADER_BYTES:
        return None
    first = BatchHeader(*HEADER.unpack_from(records, 0))
    return first.base_offset if first.base_offset < log_end_offset <= first.last_offset else None
