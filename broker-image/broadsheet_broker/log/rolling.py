"""New segments: when the active one is full or old enough, and what is written at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.log.segment import Segment, stem_of
from broadsheet_broker.log.writing import failure_of, write_pending_or_raise

if TYPE_CHECKING:
    from broadsheet_broker.log.log import Log


def roll_due(log: Log, max_timestamp: int, now_ms: int) -> bool:
    """Whether the active segment is too old (by record time, once it has records) or its indexes are full."""
    active = log._active
    if not active.size:
        return False
    first = active.first_timestamp
    if first is None:
        first = active.load_first_timestamp(log._pool.file(active))
    waited = max_timestamp - first if first >= 0 and max_timestamp >= 0 else now_ms - active.created_ms
    config = log._config
    return waited > config.max_segment_ms - active.jitter_ms or active.index_is_full(config.segment_index_bytes)


def roll_if_needed(log: Log, now_ms: int) -> bool:
    """What `Log.roll_if_needed` does."""
    active = log._active
    if not active.size or log.offline is not None:
        return False
    if now_ms - active.created_ms > log._config.max_segment_ms - active.jitter_ms:
        roll(log, now_ms)
        return True
    return False


def roll(log: Log, now_ms: int, base_offset: int | None = None) -> None:
    """What `Log.roll` does."""
    write_pending_or_raise(log)
    base = log._end if base_offset is None else max(base_offset, log._end)
    old = log._active
    if not old.size and old.base_offset == base:
        return
    segment = new_segment(log, base, now_ms)
    try:
        log._pool.file(segment, create=True)
        write_snapshot(log)
        old.finish(log.files)
    except OSError as error:
        log._pool.close(segment)
        _discard(log, segment.path)
        raise failure_of(log, segment.path, error) from error
    log.segments.append(segment)
    log._bases.append(base)
    log._active = segment
    log._end = base
    log.producers.end_offset = base
    log._directory_dirty = True


def new_segment(log: Log, base_offset: int, now_ms: int) -> Segment:
    segment = Segment(
        stem_of(log.directory, base_offset),
        base_offset,
        0,
        created_ms=now_ms,
        jitter_ms=log._config.random_jitter_ms(log.environment.random),
    )
    segment.begin_empty()
    return segment


def write_snapshot(log: Log) -> None:
    """What `Log.write_snapshot` does."""
    offset = log._end
    if (log.snapshots and log.snapshots[-1] >= offset) or offset <= log.log_start_offset:
        return
    path = f"{log.directory}/{offset:020d}.snapshot"
    file = log.files.open(path, create=True)
    try:
        file.truncate(0)
        file.append([log.producers.to_snapshot()])
    finally:
        file.close()
    log.snapshots.append(offset)


def _discard(log: Log, path: str) -> None:
    try:
        log.files.remove(path)
    except OSError:
        return
