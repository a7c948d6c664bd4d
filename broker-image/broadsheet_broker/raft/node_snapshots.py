"""Snapshots of a replica of the metadata log: those that it takes, sends and gets from its leader."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from broadsheet_broker.raft import messages as m
from broadsheet_broker.raft.messages import SnapshotId
from broadsheet_broker.raft.snapshot import encode_snapshot
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.raft.node import RaftNode

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
"""Pause after the disk refused what the leader sent."""


def reply_piece(node: RaftNode, effect: m.ReplySnapshot) -> None:
    """Answer with the piece that a replica asks for, or why there is none."""
    answer = effect.answer
    try:
        size, data = node.storage.read_piece(answer.snapshot, effect.position, max(effect.max_bytes, 1))
        answer = replace(answer, size=size, position=effect.position, data=data)
    except KafkaError as error:
        answer = replace(answer, error=error.code)
    except OSError as error:
        log.error("The snapshot %s cannot be read: %s", answer.snapshot, error)
        answer = replace(answer, error=ErrorCode.KAFKA_STORAGE_ERROR)
    effect.token(answer)


def store_piece(node: RaftNode, effect: m.StoreSnapshotPiece) -> None:
    """Keep a piece of the leader's snapshot; after the last one, install it."""
    try:
        node.storage.write_piece(effect.id, effect.position, effect.data)
    except OSError as error:
        log.error("The snapshot %s of the leader cannot be written: %s", effect.id, error)
        node._step(m.AppendRefused())
        node._listener.handle_refusal(KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)))
        node._environment.loop.call_later(_RETRY_SECONDS, node._step, m.SnapshotRefused(effect.id))
        return
    if effect.last:
        node._installing = node._environment.loop.create_task(_install(node, effect.id))


async def _install(node: RaftNode, id: SnapshotId) -> None:
    try:
        await node.flushed()
        snapshot = await node._environment.offload(node.storage.finish_pieces, id)
    except (KafkaError, OSError) as error:
        log.error("The snapshot %s of the leader cannot be used: %s", id, error)
        node._step(m.SnapshotRefused(id))
        return
    finally:
        node._installing = None
    if not node._running:
        return
    node._truncations += 1
    if node.storage.adopt(id):
        node._synced_end = node.storage.end_offset
        node._history.truncate(0)
    if id.offset > node._applied:
        log.info("Loaded the snapshot %s of the leader", id)
        node.give_snapshot(id, snapshot)
        node._raft.voters = node.voters
    node._step(m.SnapshotInstalled(id))
    node._step(m.VotersChanged(node.voters))


def consider(node: RaftNode) -> None:
    """Take a snapshot if enough has been committed, or enough time has passed, since the last one."""
    interval = node._settings.snapshot_interval_ms
    due = node._bytes_since_snapshot >= node._settings.snapshot_bytes or (
        0 < interval <= node.now_ms() - node._snapshot_at_ms
    )
    if due and node._snapshot is None:
        node._snapshot = node._environment.loop.create_task(take(node))


async def take(node: RaftNode) -> None:
    """Write one now; a failure is told, and the next one comes when it is due again."""
    node._bytes_since_snapshot = 0
    node._snapshot_at_ms = node.now_ms()
    try:
        await write(node)
    except (KafkaError, OSError) as error:
        log.error("A snapshot of the cluster metadata could not be written: %s; trying again later", error)
    finally:
        node._snapshot = None


async def write(node: RaftNode) -> SnapshotId | None:
    """Write what the listener has now, and let go of what retention no longer wants."""
    source = node._listener.snapshot_source()
    if source is None:
        return None
    id = SnapshotId(source.last_offset + 1, source.epoch)
    if id not in node.storage.snapshots:
        now = node._environment.clock.time_ms()
        voters = node._history.before(id.offset)

        def write() -> None:
            data = encode_snapshot(source.values(), id.epoch, source.timestamp_ms, now, voters)
            node.storage.write_snapshot(id, data)

        await node._environment.offload(write)
        node.storage.add_snapshot(id)
        log.info("Wrote the snapshot %s of the cluster metadata", id.file_name)
    node._history.forget_before(id.offset)
    node.storage.clean(node._settings.retention_bytes, node._settings.retention_ms, node._environment.clock.time_ms())
    return id
