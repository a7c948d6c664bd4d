"""Bringing the producers' state forward over batches that are already in a segment."""

from __future__ import annotations

from broadsheet_broker.log.producer_state import ProducerState, read_marker
from broadsheet_broker.log.scan import walk
from broadsheet_broker.log.segment import TRANSACTION_INDEX_SUFFIX, Segment
from broadsheet_broker.log.transaction_index import AbortedTransaction, read_aborted
from broadsheet_broker.seams import Files


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
