"""Handing committed records over to the listener of the metadata log, in order and each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.raft.listener import Committed
from broadsheet_broker.raft.node_snapshots import consider
from broadsheet_broker.wire.records import BatchHeader, decode_records

if TYPE_CHECKING:
    from broadsheet_broker.raft.node import RaftNode

_DELIVERED_BYTES = 4 * 1024 * 1024
"""Committed bytes that the listener gets in one call when they are read from the log."""


def deliver(node: RaftNode, high_watermark: int) -> None:
    """Tell the listener of everything below the high watermark that it has not heard of."""
    batches: list[Committed] = []
    size = 0
    while node._applied < high_watermark:
        while node._waiting and node._waiting[0].last_offset < node._applied:
            node._waiting.popleft()
        if node._waiting and node._waiting[0].base_offset <= node._applied:
            if node._waiting[0].last_offset >= high_watermark:
                break
            batches.append(node._waiting.popleft())
            node._applied = batches[-1].last_offset + 1
            node._bytes_since_snapshot += batches[-1].size
            continue
        before = node._applied
        limit = node._waiting[0].base_offset if node._waiting else high_watermark
        for header, batch in node.storage.read(node._applied, min(limit, high_watermark)):
            if header.last_offset >= high_watermark:
                break
            batches.append(_read_committed(node, header, batch))
            node._applied = header.last_offset + 1
            node._bytes_since_snapshot += header.size
            size += header.size
            if size > _DELIVERED_BYTES:
                break
        if node._applied == before:
            break
        if size > _DELIVERED_BYTES:
            node._listener.handle_commit(batches)
            batches, size = [], 0
    if batches:
        node._listener.handle_commit(batches)
        consider(node)


def _read_committed(node: RaftNode, header: BatchHeader, batch: memoryview) -> Committed:
    values: list[bytes] = []
    if not header.is_control:
        values = [record.value or b"" for record in decode_records(batch) if record.offset >= node._applied]
    return Committed(
        header.base_offset,
        header.last_offset,
        header.partition_leader_epoch,
        header.max_timestamp,
        header.size,
        values,
    )
