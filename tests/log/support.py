"""What the tests of the log share: batches of records, logs of them, and what is in a log."""

from __future__ import annotations

from typing import Any

from broadsheet_broker.log import AppendInfo, Log, LogConfig
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.records import Record, build_batch, decode_records, iterate_batches
from tests.support.virtual_time import START_MS

NOW_MS = START_MS
DIRECTORY = "/logs/orders-0"


def open_log(environment: Environment, *, config: LogConfig | None = None, **options: Any) -> Log:
    return Log.open(environment, DIRECTORY, config=config or LogConfig(), **options)


def batch(*values: str | None, key: str | None = "k", timestamp: int = NOW_MS, **options: Any) -> memoryview:
    """A writable batch as it comes from a connection."""
    rows = [
        (timestamp, None if key is None else key.encode(), None if value is None else value.encode(), [])
        for value in values
    ]
    return memoryview(build_batch(rows, **options))


def keyed(*pairs: tuple[str, str | None], timestamp: int = NOW_MS, **options: Any) -> memoryview:
    rows = [(timestamp, key.encode(), None if value is None else value.encode(), []) for key, value in pairs]
    return memoryview(build_batch(rows, **options))


def append(log: Log, records: memoryview, epoch: int = 0, now_ms: int = NOW_MS, **options: Any) -> AppendInfo:
    info = log.append_as_leader(records, epoch, now_ms, **options)
    log.flush_appends()
    return info


def records_of(log: Log, offset: int | None = None) -> list[Record]:
    """Everything that a consumer would read."""
    at = log.log_start_offset if offset is None else offset
    found: list[Record] = []
    while at < log.log_end_offset:
        fetched = log.read(at, 1_000_000)
        if not fetched.data:
            break
        for _, part in iterate_batches(fetched.data):
            found += [record for record in decode_records(part) if record.offset >= at]
        assert fetched.next_offset > at
        at = fetched.next_offset
    return found


def values_of(log: Log, offset: int | None = None) -> list[tuple[int, str | None]]:
    return [
        (record.offset, None if record.value is None else record.value.decode()) for record in records_of(log, offset)
    ]
