"""Bringing the producers' state forward over batches that are already in a segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from broadsheet_broker.log.producer_state import (
    PRODUCER_ID_EXPIRATION_MS,
    ProducerState,
    SnapshotCorruptError,
    read_marker,
)
from broadsheet_broker.log.scan import BadBatchError, walk
from broadsheet_broker.log.segment import TRANSACTION_INDEX_SUFFIX, Segment
from broadsheet_broker.log.transaction_index import AbortedTransaction, read_aborted
from broadsheet_broker.seams import Files


def rebuild_producers(
    files: Files,
    segments: Sequence[Segment],
    state: ProducerState,
    end_offset: int,
    snapshots: list[int],
    snapshot_path: Callable[[int], str],
    open_file: Callable[[Segment], object],
    *,
    newest: int | None = None,
    now_ms: int | None = None,
    expiration_ms: int = PRODUCER_ID_EXPIRATION_MS,
) -> None:
    """Bring the empty state of a log's start to its end: the newest snapshot that is whole, and the batches after it.

    `snapshots` are the offsets of those on disk, ascending; damaged ones go. Those above `newest` are not used, and of
    the one that is used producers that were silent for `expiration_ms` at `now_ms` are left out. `open_file` is called
    before a segment is read. Raises CorruptLogError.
    """
    for offset in [offset for offset in reversed(snapshots) if newest is None or offset <= newest]:
        try:
            state.load_snapshot(files.read_bytes(snapshot_path(offset)), offset, now_ms, expiration_ms)
            break
        except (SnapshotCorruptError, FileNotFoundError):
            files.remove(snapshot_path(offset))
            snapshots.remove(offset)
    for number, segment in enumerate(segments):
        following = segments[number + 1].base_offset if number + 1 < len(segments) else end_offset
        if following > state.end_offset:
            open_file(segment)
            try:
                replay(files, segment, state)
            except BadBatchError as error:
                raise segment.corrupt(error) from error
    state.end_offset = end_offset
    state.commit()


def replay(files: Files, segment: Segment, state: ProducerState) -> None:
    """From the state's end offset to the end of the segment; completes the transaction index. The file is open."""
    file = segment.file
    assert file is not None
    segment.load_indexes(files, file)
    known = {entry.last_offset for entry in read_aborted(files, segment.stem)} if segment.aborted else set()
    start = segment.position_floor(files, state.end_offset)
    for position, header in walk(file, start, segment.size, segment.base_offset):
        if header.base_offset < state.end_offset:
            continue
        state.end_offset = header.last_offset + 1
        if header.producer_id < 0:
            continue
        if not header.is_control:
            state.apply(
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
                header.last_sequence,
                header.base_offset,
                header.last_offset,
                header.max_timestamp,
                header.is_transactional,
            )
            continue
        if header.record_count == 0:
            continue  # the cleaner took the marker, since nothing of its transaction is left
        marker = read_marker(memoryview(file.read(position, header.size)))
        if marker is None:
            continue
        completed = state.apply_marker(
            header.producer_id, header.producer_epoch, *marker, header.base_offset, header.max_timestamp
        )
        if completed is not None and completed.aborted and completed.last_offset not in known:
            AbortedTransaction.of(completed).append_to(files, segment.stem + TRANSACTION_INDEX_SUFFIX)
            segment.aborted = True
    state.commit()
