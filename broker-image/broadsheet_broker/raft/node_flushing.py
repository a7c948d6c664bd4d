"""How a replica of the metadata log makes it durable, with one fsync for all that came meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from broadsheet_broker.log.errors import StorageError
from broadsheet_broker.raft import messages as m
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.raft.node import RaftNode

log = logging.getLogger(__name__)


async def flush_all(node: RaftNode) -> None:
    """Make appends durable, one group after the other, until there are none."""
    try:
        while (node.storage.end_offset > node._synced_end or _is_taken_back(node)) and node.failure is None:
            try:
                node.storage.log.flush_appends()
                if _is_taken_back(node):
                    raise StorageError("what was appended to the metadata log was taken back")
            except StorageError as error:
                _refuse_waiting(node, error)
                continue
            await _sync(node, node.storage.end_offset, node._truncations)
    except Exception as error:  # a defect: whoever waits must hear of it, and nothing more may be promised
        log.exception("The metadata log stopped working")
        fail(node, KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"The metadata log stopped working: {error!r}"))
    finally:
        node._flush = None


async def _sync(node: RaftNode, end: int, truncations: int) -> None:
    if node.is_leader:
        node._step(m.Appended(end))  # followers may have it while this disk works
    began = node.now_ms()
    try:
        await node._environment.offload(node.storage.sync)
    except StorageError as error:
        # After a failed fsync nobody knows what is on the disk: this replica may not lead any more.
        fail(node, KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, error.message))
        return
    node.last_fsync_ms = node.now_ms() - began
    if truncations == node._truncations:  # else what is there now may be other records than those synced
        node._synced_end = end
        node._step(m.Flushed(end))


def _is_taken_back(node: RaftNode) -> bool:
    """The log ends before what was appended last: a reader made it write, and the disk refused."""
    return bool(node._waiting) and node._waiting[-1].last_offset >= node.storage.end_offset


def _refuse_waiting(node: RaftNode, error: KafkaError) -> None:
    """The disk refused what was not written yet: the log is as if it had never been appended."""
    refused = []
    while node._waiting and node._waiting[-1].last_offset >= node.storage.end_offset:
        refused.append(node._waiting.pop().tag)
    node._refusal = error.message
    log.error("The metadata log cannot be written: %s", error.message)
    before = node.voters
    node._history.truncate(node.storage.end_offset)
    _tell_refused(node, refused, error)
    if node.voters != before:
        node._step(m.VotersChanged(node.voters))
    if len(node.voters) > 1:
        node._step(m.Resign())  # others may have room


def fail(node: RaftNode, error: KafkaError) -> None:
    """The log can be trusted no more. What it holds that is not committed will not be by this replica."""
    node.failure = error.again()
    node._step(m.LogFailed())
    waiting = [batch.tag for batch in node._waiting]
    node._waiting.clear()
    node._refusal = error.message
    log.error("The metadata log cannot be written: %s", error.message)
    _tell_refused(node, waiting, error)


def _tell_refused(node: RaftNode, tags: Iterable[Any], error: KafkaError) -> None:
    refused = [tag for tag in tags if tag is not None]
    node._listener.handle_append_failure(refused, KafkaError(error.code, error.message))
