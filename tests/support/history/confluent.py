"""Keeps the history of real clients (librdkafka through confluent-kafka), for the tests with real brokers and faults.

    history = History()
    with RecordingProducer(bootstrap, history, "producer-1", topic="orders", partitions=3, acks="all") as producer:
        producer.send(n % 3)
    history.finals += read_finals(bootstrap, "orders", 3)
    assert not check(history)

Each object belongs to one thread; several may share a history.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.support.history.operations import (
    UNKNOWN_OFFSET,
    Commit,
    Final,
    History,
    Outcome,
    Partition,
    Poll,
    ReadCommit,
    Seek,
    Send,
)

_REFUSED = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError._PURGE_QUEUE,
    KafkaError._QUEUE_FULL,
}
"""Errors after which a record has certainly not been written; any other leaves it open."""

_ACKS = {"0": 0, "1": 1, "-1": -1, "all": -1}


def settings(bootstrap: str, config: dict[str, object]) -> dict[str, Any]:
    return {"bootstrap.servers": bootstrap, "log_level": 0} | {
        key.replace("_", "."): value for key, value in config.items()
    }


class RecordingProducer:
    """Sends numbered records and notes what became of each."""

    def __init__(self, bootstrap: str, history: History, name: str, topic: str, **config: object) -> None:
        self.name = name
        self._history = history
        self._topic = topic
        self._acks = _ACKS[str(config.get("acks", "all"))]
        self._ordered = bool(config.get("enable_idempotence", False))
        self._number = 0
        self._producer = Producer(settings(bootstrap, config))

    def send(self, partition: int, padding: str = "") -> None:
        """Hand one record over; waits only while the producer's queue is full."""
        number, invoked = self._number, time.monotonic()
        self._number += 1
        value = f"{self.name}:{number}:{padding}"

        def delivered(error: KafkaError | None, record: Message) -> None:
            outcome, offset = Outcome.OK, record.offset()
            if error is not None:
                outcome = Outcome.FAILED if error.code() in _REFUSED else Outcome.UNKNOWN
            if offset is None or offset < 0 or error is not None:
                offset = UNKNOWN_OFFSET  # librdkafka knows none for a batch that turned out to be a duplicate
            self._history.sends.append(
                Send(
                    self.name, number, (self._topic, partition), value, self._acks, outcome, invoked,
                    time.monotonic(), offset, ordered=self._ordered,
                )
            )  # fmt: skip

        while True:
            try:
                self._producer.produce(self._topic, value, partition=partition, on_delivery=delivered)
                break
            except BufferError:
                self._producer.poll(0.05)
        self._producer.poll(0)

    def poll(self, seconds: float = 0.0) -> None:
        """Let deliveries be noted."""
        self._producer.poll(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for what is under way; what is left after its delivery timeout has been noted as unknown."""
        while self._producer.flush(10):
            continue


class RecordingConsumer:
    """Reads, in a group if it has one, and notes what it was given, where it began, and what it committed."""

    def __init__(self, bootstrap: str, history: History, name: str, topic: str, **config: object) -> None:
        self.name = name
        self._history = history
        self._topic = topic
        self._group = str(config.get("group_id", ""))
        self._places: dict[Partition, int] = {}
        self._closing = False
        base: dict[str, object] = {"group_id": name, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
        self._consumer = Consumer(settings(bootstrap, base | config))

    def subscribe(self) -> None:
        self._consumer.subscribe([self._topic], on_assign=self._assigned)

    def assign(self, partitions: int) -> None:
        """Read all partitions from their beginning, without a group."""
        found = [TopicPartition(self._topic, index, OFFSET_BEGINNING) for index in range(partitions)]
        self._consumer.assign(found)
        for partition in found:
            self._begin(partition.partition, 0)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Begin where the group is."""
        self._places = {}
        if self._closing:
            return  # librdkafka hands out what a rebalance brought last, but asks nothing any more
        for _ in range(30):
            invoked = time.monotonic()
            try:
                committed = consumer.committed(partitions, timeout=10)
                break
            except KafkaException:
                continue
        else:
            raise AssertionError(f"{self.name} was not told the committed offsets")
        now = time.monotonic()
        for partition in committed:
            offset = partition.offset if partition.offset >= 0 else -1
            key = (self._topic, partition.partition)
            self._history.committed.append(ReadCommit(self._group, key, offset, invoked, now))
            partition.offset = max(0, offset)
            self._begin(partition.partition, partition.offset)
        consumer.assign(committed)

    def _begin(self, index: int, offset: int) -> None:
        self._history.reads.append(Seek(self.name, time.monotonic(), (self._topic, index), offset))

    def poll(self, seconds: float = 0.2, most: int = 1000) -> int:
        """Take what is there; returns how many records came."""
        count = 0
        for record in self._consumer.consume(most, seconds):
            offset, index, value = record.offset(), record.partition(), record.value()
            if record.error() is not None or offset is None or index is None or value is None:
                continue
            key = (self._topic, index)
            self._history.reads.append(Poll(self.name, time.monotonic(), key, offset, value.decode()))
            self._places[key] = offset + 1
            count += 1
        return count

    def commit(self) -> None:
        """Store the group's place in everything that was read since the assignment."""
        places = dict(self._places)
        if not places:
            return
        rows = [TopicPartition(name, index, offset) for (name, index), offset in places.items()]
        invoked, outcomes = time.monotonic(), dict.fromkeys(places, Outcome.UNKNOWN)
        try:
            for done in self._consumer.commit(offsets=rows, asynchronous=False) or ():
                if done.error is None:
                    outcomes[done.topic, done.partition] = Outcome.OK
        except KafkaException:
            pass
        now = time.monotonic()
        for key, offset in places.items():
            self._history.commits.append(Commit(self._group, key, offset, outcomes[key], invoked, now))

    def close(self) -> None:
        self._closing = True
        self._consumer.close()


def read_finals(bootstrap: str, topic: str, partitions: int, *, deadline: float = 120.0) -> list[Final]:
    """All of a topic, when nothing is written to it any more. `deadline` is in seconds."""
    consumer = Consumer(settings(bootstrap, {"group_id": "the-end", "enable_auto_commit": False}))
    until = time.monotonic() + deadline
    finals = []
    for index in range(partitions):
        start, end = consumer.get_watermark_offsets(TopicPartition(topic, index), timeout=30)
        consumer.assign([TopicPartition(topic, index, start)])
        records: list[tuple[int, str]] = []
        while consumer.position([TopicPartition(topic, index)])[0].offset < end > start:
            if time.monotonic() > until:
                raise AssertionError(f"{topic}-{index} could not be read to its end at {end}: {len(records)} came")
            for record in consumer.consume(5000, 0.5):
                offset, value = record.offset(), record.value()
                if record.error() is None and offset is not None and value is not None and offset < end:
                    records.append((offset, value.decode()))
        finals.append(Final((topic, index), start, end, records))
    consumer.close()
    return finals
