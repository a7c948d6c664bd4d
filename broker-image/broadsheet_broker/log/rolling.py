"""New segments: when the active one is full or old enough, and what is written at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broadsheet_broker.log.tail import Tail


def roll_due(tail: Tail, max_timestamp: int, now_ms: int) -> bool:
    """Whether the active segment is too old (by record time, once it has records) or its indexes are full."""
    active = tail.active
    if not active.size:
        return False
    first = active.first_timestamp
    if first is None:
        first = active.load_first_timestamp(tail.segments.file(active))
    waited = max_timestamp - first if first >= 0 and max_timestamp >= 0 else now_ms - active.created_ms
    config = tail.segments.config
    return waited > config.max_segment_ms - active.jitter_ms or active.index_is_full(config.segment_index_bytes)


def roll_if_old(tail: Tail, now_ms: int) -> bool:
    """Roll when the active segment is too old (`LogConfig.max_segment_ms`) by the wall clock; True when it was."""
    active = tail.active
    segments = tail.segments
    if not active.size or segments.offline is not None:
        return False
    if now_ms - active.created_ms > segments.config.max_segment_ms - active.jitter_ms:
        roll(tail, now_ms)
        return True
    return False


def roll(tail: Tail, now_ms: int, base_offset: int | None = None) -> None:
    """Begin a new segment at the log's end, or above it at `base_offset`.

    Raises StorageError, with nothing changed, when the disk refuses.
    """
    tail.write_or_raise()
    base = tail.end if base_offset is None else max(base_offset, tail.end)
    old = tail.active
    if not old.size and old.base_offset == base:
        return
    segments = tail.segments
    segment = segments.new(base, now_ms)
    try:
        segments.file(segment, create=True)
        segments.write_snapshot(tail.end)
        old.finish(segments.files)
    except OSError as error:
        segments.give_up(segment)
        raise segments.failure(segment.path, error) from error
    segments.add(segment)
    tail.begin(segment)
