"""The answers that wait for appends: first for the write at the end of the loop turn, then for the replicas.

Every batch that one turn of the event loop brings is appended to its log's queue; one write per partition follows at
the end of the turn (`AppendTurn.flush`), and only then are high watermarks moved, requests answered and readers woken.
A write that fails fails every request that had a part in it, and nothing of it is acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from broadsheet_broker.wire.errors import ErrorCode

if TYPE_CHECKING:
    from broadsheet_broker.replication.fetch_request import Fetch
    from broadsheet_broker.replication.partition import Partition
    from broadsheet_broker.seams import Environment
    from broadsheet_broker.wire.messages.produce_response import PartitionProduceResponse

logger = logging.getLogger(__name__)


class Written(Protocol):
    """Somebody who appended in this turn."""

    def written(self) -> None:
        """The write has been tried: `Partition.flush_error` says how it went."""
        ...


class Waits(Protocol):
    """A request that may have to wait for replicas."""

    waits_since: float
    """When it began to."""


class AppendTurn:
    """Appends of the current turn of the loop, and who waits for their end."""

    __slots__ = ("_dirty", "_fetches", "_killed", "_loop", "_scheduled", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dirty: list[Partition] = []
        self._waiting: list[Written] = []
        self._fetches: list[Fetch] = []
        self._scheduled = False
        self._killed = False

    def needs_flush(self, partition: Partition) -> None:
        self._dirty.append(partition)
        if not self._scheduled:
            self._schedule()

    def after_flush(self, waiting: Written) -> None:
        """Tell `waiting` when everything appended so far has been written, or could not be."""
        self._waiting.append(waiting)
        if not self._scheduled:
            self._schedule()

    def finish_soon(self, fetch: Fetch) -> None:
        """Answer a delayed fetch when the other partitions of this turn have been written too."""
        self._fetches.append(fetch)
        if not self._scheduled:
            self._schedule()

    def kill(self) -> None:
        """Drop what is gathered; nothing more is written."""
        self._killed = True

    def _schedule(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write, advance, answer, wake: in this order."""
        if self._killed:
            return
        dirty, self._dirty = self._dirty, []
        waiting, self._waiting = self._waiting, []
        for partition in dirty:
            try:
                partition.flush()
            except Exception:
                logger.exception("writing to %r failed", partition)
                partition.flush_error = ErrorCode.UNKNOWN_SERVER_ERROR
        for each in waiting:
            try:
                each.written()
            except Exception:
                logger.exception("answering an append failed")
        for partition in dirty:
            partition.flush_error = None
        fetches, self._fetches = self._fetches, []
        for fetch in fetches:
            try:
                fetch.complete()
            except Exception:
                logger.exception("answering a delayed fetch failed")
        self._scheduled = False
        if self._dirty or self._waiting or self._fetches:  # a callback has appended
            self._schedule()


class PendingProduce:
    """A Produce request whose batches are appended: answers when acks are satisfied."""

    __slots__ = (
        "_answer",
        "_appended",
        "_environment",
        "_open",
        "_request",
        "_required_acks",
        "_timeout_ms",
        "_timer",
        "_waits",
    )

    def __init__(
        self,
        environment: Environment,
        required_acks: int,
        timeout_ms: int,
        appended: list[tuple[Partition, int, PartitionProduceResponse]],
        answer: Callable[[], None],
        request: Waits,
    ) -> None:
        self._environment = environment
        self._request: Waits | None = request
        self._required_acks = required_acks
        self._timeout_ms = timeout_ms
        self._appended = appended
        """Partition, offset that the high watermark must reach, row of the answer."""
        self._answer: Callable[[], None] | None = answer
        self._waits: list[_Replicated] = []
        self._open = 0
        self._timer: asyncio.TimerHandle | None = None

    def written(self) -> None:
        waits: list[_Replicated] = []
        for partition, offset, row in self._appended:
            if partition.flush_error is not None:
                refuse(row, partition.flush_error)
            elif self._required_acks == -1 and partition.high_watermark < offset:
                waits.append(_Replicated(self, partition, offset, row))
        if waits:
            self._wait_for_replicas(waits)
        else:
            self._finish()

    def _wait_for_replicas(self, waits: list[_Replicated]) -> None:
        self._open = len(waits)
        self._waits = waits
        if self._request is not None:
            self._request.waits_since = self._environment.timer()
        self._timer = self._environment.loop.call_later(max(self._timeout_ms, 0) / 1000, self._expire)
        for each in waits:
            each.partition.on_high_watermark(each.offset, each)

    def replicated(self, row: PartitionProduceResponse, code: ErrorCode) -> None:
        if not self._open:
            return
        if code:
            refuse(row, code)
        self._open -= 1
        if not self._open:
            if self._timer is not None:
                self._timer.cancel()
            self._finish()

    def abandon(self) -> None:
        """The client is gone: wait for nothing any longer."""
        self._timeout_ms = 0
        self._expire()

    def _expire(self) -> None:
        if not self._open:
            return
        self._open = 0
        for each in self._waits:
            if not each.row.error_code and each.partition.high_watermark < each.offset:
                each.row.error_code = ErrorCode.REQUEST_TIMED_OUT
                each.partition.stop_waiting(each.offset, each)
        self._finish()

    def _finish(self) -> None:
        """Answer, and let go of the request: something may know of this object for longer."""
        answer, self._answer = self._answer, None
        self._request = None
        self._appended = []
        self._waits = []
        if answer is not None:
            answer()


class _Replicated:
    """The high watermark passed one batch of a pending produce, or never will."""

    __slots__ = ("_pending", "offset", "partition", "row")

    def __init__(
        self, pending: PendingProduce, partition: Partition, offset: int, row: PartitionProduceResponse
    ) -> None:
        self._pending = pending
        self.partition = partition
        self.offset = offset
        self.row = row

    def __call__(self, code: ErrorCode) -> None:
        partition = self.partition
        if not code and len(partition.isr) < partition.effective_min_insync_replicas:
            code = ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
        self._pending.replicated(self.row, code)


class InternalAppend:
    """An append of the broker itself (coordinators), committed when the high watermark has passed it."""

    __slots__ = ("_base_offset", "_callback", "_next_offset", "_partition")

    def __init__(
        self,
        partition: Partition,
        base_offset: int,
        next_offset: int,
        callback: Callable[[ErrorCode, int], None],
    ) -> None:
        self._partition = partition
        self._base_offset = base_offset
        self._next_offset = next_offset
        self._callback = callback

    def written(self) -> None:
        error = self._partition.flush_error
        if error is not None:
            self._callback(error, -1)
        else:
            self._partition.on_high_watermark(self._next_offset, self._committed)

    def _committed(self, code: ErrorCode) -> None:
        self._callback(code, -1 if code else self._base_offset)


class RefusedAppend:
    """An append of the broker itself that was refused: reported in order, after those before it."""

    __slots__ = ("_callback", "_code")

    def __init__(self, code: ErrorCode, callback: Callable[[ErrorCode, int], None]) -> None:
        self._code = code
        self._callback = callback

    def written(self) -> None:
        self._callback(self._code, -1)


def refuse(row: PartitionProduceResponse, code: ErrorCode, message: str | None = None) -> None:
    """Turn a row into a refusal: no offsets in it."""
    row.error_code = code
    row.error_message = message
    row.base_offset = -1
    row.log_append_time_ms = -1
    row.log_start_offset = -1
