"""A simulated producer: as the Java client's, up to five batches in flight per partition, retried in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.init_producer_id_request import InitProducerIdRequest
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.records import build_batch
from tests.simulation.clients.connection import PROBLEMS, REQUEST_TIMEOUT, ClusterView
from tests.support.history.operations import UNKNOWN_OFFSET, History, Outcome, Partition, Send

_VERSION = 12
_IN_FLIGHT = 5
_REFUSED = {
    ErrorCode.MESSAGE_TOO_LARGE,
    ErrorCode.INVALID_RECORD,
    ErrorCode.RECORD_LIST_TOO_LARGE,
    ErrorCode.INVALID_TIMESTAMP,
}
"""What a broker refuses for good: nothing was written."""


class _Batch:
    """Records that travel together, with one sequence number each."""

    __slots__ = ("answer", "attempts", "broker_id", "invoked", "sequence", "values")

    def __init__(self, values: list[tuple[int, str]], invoked: float) -> None:
        self.values = values
        """Number and value of each."""
        self.invoked = invoked
        self.sequence = -1
        self.answer: asyncio.Future[Any] | None = None
        self.broker_id = -1
        """To whom it was sent last."""
        self.attempts = 0
        """How often it was sent: it may have been written from the first one on."""


class Producer:
    """Sends records, tries again until it knows or the delivery timeout has passed, and notes all of it."""

    def __init__(
        self,
        view: ClusterView,
        history: History,
        *,
        acks: int = -1,
        idempotent: bool = True,
        delivery_timeout: float = 60.0,
        timestamp_ms: Callable[[], int] = lambda: 1_700_000_000_000,
        on_surprise: Callable[[str, Partition, int], None] = lambda text, partition, broker_id: None,
    ) -> None:
        """`on_surprise` is told what no client should hear, about which partition and from whom."""
        self.name = view.client_id
        self._view = view
        self._history = history
        self._acks = acks
        self._idempotent = idempotent
        self._delivery_timeout = delivery_timeout
        self._timestamp_ms = timestamp_ms
        self._on_surprise = on_surprise
        self.forgetful_brokers = False
        """A batch that was sent before may be unknown and out of order to a broker that did write it: the snapshot with
        which a replica starts again, or goes on after a truncation, names the last batch of each producer only, as
        Kafka's format has it. With several brokers written batches can stay unanswered for that long."""
        self._producer_id = -1
        self._numbers = 0
        self._lanes: dict[Partition, _Lane] = {}

    def __repr__(self) -> str:
        waiting = {partition: lane.problem for partition, lane in self._lanes.items() if not lane.idle.is_set()}
        return f"{self.name} to {waiting}"

    def send(self, partition: Partition, count: int = 1, size: int = 0) -> None:
        """Hand over records for a partition; they go as one batch."""
        values = []
        for _ in range(count):
            values.append((self._numbers, f"{self.name}:{self._numbers}:{'x' * size}"))
            self._numbers += 1
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = _Lane(self, partition)
        lane.add(_Batch(values, self._view.time()))

    async def flush(self) -> None:
        """Wait until everything handed over is written, refused or given up."""
        for lane in self._lanes.values():
            await lane.idle.wait()

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.close()

    async def identity(self) -> int:
        """The producer id; asked for when it is first needed."""
        while self._idempotent and self._producer_id < 0:
            try:
                answer = await (await self._view.anybody()).call(InitProducerIdRequest(transactional_id=None), 4)
                if not answer.error_code and self._producer_id < 0:
                    self._producer_id = answer.producer_id
            except PROBLEMS:
                pass
            if self._producer_id < 0:
                await self._view.rest()
        return self._producer_id

    def ended(self, partition: Partition, batch: _Batch, outcome: Outcome, base_offset: int = UNKNOWN_OFFSET) -> None:
        now = self._view.time()
        for place, (number, value) in enumerate(batch.values):
            offset = base_offset + place if base_offset >= 0 else UNKNOWN_OFFSET
            self._history.sends.append(
                Send(
                    self.name, number, partition, value, self._acks, outcome, batch.invoked, now, offset,
                    ordered=self._idempotent,
                )
            )  # fmt: skip


class _Lane:
    """What one producer sends to one partition."""

    def __init__(self, producer: Producer, partition: Partition) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self.problem = ""
        """What went wrong last."""
        self._producer = producer
        self._partition = partition
        self._queue: deque[_Batch] = deque()
        self._flying: deque[_Batch] = deque()
        self._more = asyncio.Event()
        self._epoch = 0
        self._next_sequence = 0
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        self._task.cancel()

    def add(self, batch: _Batch) -> None:
        self._queue.append(batch)
        self.idle.clear()
        self._more.set()

    async def _run(self) -> None:
        view = self._producer._view
        while True:
            await self._more.wait()
            try:
                await self._fly()
            except PROBLEMS as error:
                self.problem = repr(error)
                await self._land()
                await view.rest()
                await view.refresh([self._partition[0]])

    async def _fly(self) -> None:
        """Keep up to five batches in flight until everything is answered."""
        producer, view = self._producer, self._producer._view
        while self._queue or self._flying:
            producer_id = await producer.identity()
            connection, leader = await view.leader(self._partition)
            while self._queue and len(self._flying) < _IN_FLIGHT:
                batch = self._queue.popleft()
                if batch.sequence < 0 and producer._idempotent:
                    batch.sequence = self._next_sequence
                    self._next_sequence += len(batch.values)
                self._flying.append(batch)
                batch.attempts += 1
                batch.broker_id = leader.broker_id
                batch.answer = connection.send(
                    self._request(batch, producer_id), _VERSION, answered=producer._acks != 0
                )
            first = self._flying[0]
            assert first.answer is not None
            more = asyncio.ensure_future(self._more_to_send())
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    await asyncio.wait((first.answer, more), return_when=asyncio.FIRST_COMPLETED)
            except TimeoutError:
                connection.close()
                raise
            finally:
                more.cancel()
            if first.answer.done():
                self._take(first, first.answer.result())
        self._more.clear()
        self.idle.set()

    async def _more_to_send(self) -> None:
        if len(self._flying) >= _IN_FLIGHT:
            await asyncio.get_running_loop().create_future()
        while not self._queue:
            self._more.clear()
            await self._more.wait()

    def _request(self, batch: _Batch, producer_id: int) -> ProduceRequest:
        producer = self._producer
        now = producer._timestamp_ms()
        rows = [(now, producer.name.encode(), value.encode(), ()) for _, value in batch.values]
        records = build_batch(
            rows,
            producer_id=producer_id,
            producer_epoch=self._epoch if producer_id >= 0 else -1,
            base_sequence=batch.sequence,
        )
        data = [PartitionProduceData(index=self._partition[1], records=records)]
        topics = [TopicProduceData(name=self._partition[0], partition_data=data)]
        return ProduceRequest(acks=producer._acks, timeout_ms=8000, topic_data=topics)

    def _take(self, batch: _Batch, body: Any) -> None:
        """The answer to the batch that is first in flight."""
        if body is None:  # acks=0: nobody will ever know
            self._end(batch, Outcome.UNKNOWN)
            return
        row = body.responses[0].partition_responses[0]
        code = ErrorCode(row.error_code)
        if code is ErrorCode.NONE:
            self._end(batch, Outcome.OK, row.base_offset)
        elif code is ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            self._end(batch, Outcome.OK)
        elif code in _REFUSED:
            # An earlier attempt may have been written: brokers look for duplicates last.
            self._end(batch, Outcome.FAILED if batch.attempts == 1 else Outcome.UNKNOWN)
            if self._producer._idempotent:
                self._begin_epoch()  # its sequence numbers will never be written
        elif code in (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.UNKNOWN_PRODUCER_ID):
            # The first in flight has nothing before it that could be missing: the broker forgot this producer.
            if batch.attempts == 1 or not self._producer.forgetful_brokers:
                text = f"{self._producer.name} was told {code.name} for {batch.values[0][1]!r}"
                self._producer._on_surprise(text, self._partition, batch.broker_id)
            self._begin_epoch()
            raise ConnectionError(code.name)
        else:
            raise ConnectionError(code.name)

    def _end(self, batch: _Batch, outcome: Outcome, offset: int = UNKNOWN_OFFSET) -> None:
        self._flying.popleft()
        self._producer.ended(self._partition, batch, outcome, offset)

    async def _land(self) -> None:
        """Something went wrong: wait for the other answers, then put what has none back in its order."""
        answers = [batch.answer for batch in self._flying if batch.answer is not None]
        if answers:
            await asyncio.wait(answers, timeout=REQUEST_TIMEOUT)
        while self._flying:
            first = self._flying[0]
            if first.answer is None or not first.answer.done() or first.answer.exception() is not None:
                break
            try:
                self._take(first, first.answer.result())
            except ConnectionError:
                break
        while self._flying:
            batch = self._flying.pop()
            if batch.answer is not None and not batch.answer.done():
                batch.answer.cancel()
            batch.answer = None
            self._queue.appendleft(batch)
        self._give_up_old()

    def _give_up_old(self) -> None:
        """What is older than the delivery timeout stays unknown, and so does everything after it that was sent."""
        producer = self._producer
        deadline = producer._view.time() - producer._delivery_timeout
        if self._queue and self._queue[0].invoked < deadline:
            while self._queue and self._queue[0].invoked < deadline:
                producer.ended(self._partition, self._queue.popleft(), Outcome.UNKNOWN)
            self._begin_epoch()
        if self._queue:
            self._more.set()
        else:
            self.idle.set()

    def _begin_epoch(self) -> None:
        """Leave a sequence behind that the broker will not take up again (KIP-360). What was sent in it may have been
        written, so sending it again in the new epoch could make duplicates."""
        self._epoch += 1
        self._next_sequence = 0
        batches = [*self._flying, *self._queue]
        self._flying.clear()
        self._queue.clear()
        for batch in batches:
            if batch.attempts:
                self._producer.ended(self._partition, batch, Outcome.UNKNOWN)
            else:
                self._queue.append(batch)
