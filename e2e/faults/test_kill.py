"""kill -9 during produce: every acknowledged record is there afterwards, exactly, and where the broker said it was."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from broadsheet_broker.log.scan import BadBatchError, walk
from broadsheet_broker.seams import LocalFiles
from tests.support.broadsheet import Broadsheet
from tests.support.waiting import wait_until

SEED = int(os.environ.get("SEED", "20260101"))
KILLS = int(os.environ.get("KILLS", "60"))
TOPIC = "orders"
PARTITIONS = 3


class Sender:
    """Produces numbered records without end, and remembers which were acknowledged, and where."""

    def __init__(self, bootstrap: str, name: str, **config: object) -> None:
        self.name = name
        self.acknowledged: dict[tuple[int, int], str] = {}
        self.refused: list[str] = []
        self.fatal: str | None = None
        """Why the producer has given up for good."""
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                # No sender gives up, however slow the machine is: that would tell nothing of what was acknowledged.
                "message.timeout.ms": 900_000,
                "reconnect.backoff.ms": 5,
                "reconnect.backoff.max.ms": 20,
                "retry.backoff.ms": 10,
                "linger.ms": 1,
                "queue.buffering.max.messages": 500,
                "log_level": 0,
                **{key.replace("_", "."): value for key, value in config.items()},
            }
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def _send(self) -> None:
        try:
            self._send_numbers()
        except KafkaException as error:
            self.fatal = str(error)

    def has(self, goal: int) -> bool:
        """Whether as many records are acknowledged; AssertionError when no more will be."""
        assert self.fatal is None, f"the producer of {self.name} has given up: {self.fatal}"
        return len(self.acknowledged) >= goal

    def _send_numbers(self) -> None:
        number = 0
        while not self._stop.is_set():
            value = f"{self.name}:{number}:{'x' * (number * 37 % 300)}"
            try:
                self._producer.produce(TOPIC, value, partition=number % PARTITIONS, on_delivery=self._delivered)
                number += 1
            except BufferError:
                self._producer.poll(0.01)
            self._producer.poll(0)
            if number % 20 == 0:
                self._stop.wait(0.002)  # some thousand records a second are enough

    def _delivered(self, error: object, record: Message) -> None:
        if error is not None:
            self.refused.append(str(error))
            return
        partition, offset, value = record.partition(), record.offset(), record.value()
        assert partition is not None and offset is not None and value is not None
        if offset >= 0:  # librdkafka knows no offset for a batch that the broker has found to be a duplicate
            self.acknowledged[partition, offset] = value.decode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush(60)


def everything(bootstrap: str) -> dict[tuple[int, int], str]:
    """All records of the topic by partition and offset."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "check", "log_level": 0})
    ends = {
        partition: consumer.get_watermark_offsets(TopicPartition(TOPIC, partition), timeout=20)[1]
        for partition in range(PARTITIONS)
    }
    consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    found: dict[tuple[int, int], str] = {}
    progress = time.monotonic()
    while len(found) < sum(ends.values()):
        records = consumer.consume(5000, 0.5)
        progress = time.monotonic() if records else progress
        silence = time.monotonic() - progress
        assert silence < 60, f"{len(found)} of {sum(ends.values())} records could be read, and none in {silence:.0f} s"
        for record in records:
            assert record.error() is None, record.error()
            partition, offset, value = record.partition(), record.offset(), record.value()
            assert partition is not None and offset is not None and value is not None
            found[partition, offset] = value.decode()
    consumer.close()
    return found


def last_batches(log_dir: Path, count: int = 8) -> str:
    """What idempotent producers wrote last to each partition, as it stands in the log."""
    lines = []
    for partition in range(PARTITIONS):
        directory = log_dir / f"{TOPIC}-{partition}"
        found: list[str] = []
        for path in sorted(directory.glob("*.log")):
            try:
                for position, header in walk(LocalFiles().open(str(path), read_only=True), 0, path.stat().st_size):
                    if header.producer_id >= 0:
                        found.append(
                            f"  byte {position}, offset {header.base_offset}: producer {header.producer_id} epoch "
                            f"{header.producer_epoch}, sequences {header.base_sequence} to {header.last_sequence}"
                        )
            except BadBatchError as error:  # the write that the last kill interrupted
                found.append(f"  {path.name} ends {error}")
        lines += [directory.name, *found[-count:]]
    return "\n".join(lines)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broadsheet]:
    """Its directory stays after a failure: the logs are what a loss is understood from."""
    with Broadsheet(tmp_path / "broker") as broker:
        yield broker
    if not (broker.directory / "keep").exists():
        shutil.rmtree(broker.directory)


def test_every_acknowledged_record_survives_kill_9(broker: Broadsheet) -> None:
    try:
        kill_and_compare(broker)
    except BaseException as error:
        (broker.directory / "keep").touch()
        broker.kill()
        error.add_note(f"what is left is in {broker.directory}\n{last_batches(broker.log_dir)}")
        raise


def kill_and_compare(broker: Broadsheet) -> None:
    chance = random.Random(SEED)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(20)
    with (
        Sender(broker.bootstrap, "one", acks=1, enable_idempotence=False) as one,
        Sender(broker.bootstrap, "all", acks="all", enable_idempotence=False) as every,
        Sender(broker.bootstrap, "idempotent", acks="all", enable_idempotence=True) as idempotent,
    ):
        senders = (one, every, idempotent)
        for kill in range(KILLS):
            sender = chance.choice(senders)
            goal = len(sender.acknowledged) + chance.randint(1, 300)
            wait_until(
                lambda sender=sender, goal=goal: sender.has(goal),  # type: ignore[misc]
                f"acknowledgements to {sender.name} before kill {kill} (SEED={SEED})",
                every_s=0.001,
            )
            broker.kill()
            broker.start()
            if kill % 100 == 99:
                print(f"{kill + 1} kills", flush=True)
        goals = {sender: len(sender.acknowledged) + 1 for sender in senders}
        wait_until(lambda: all(sender.has(goal) for sender, goal in goals.items()), "every sender to come back")
    found = everything(broker.bootstrap)
    for sender in senders:
        assert not sender.refused, sender.refused[:3]
        lost = {place: value for place, value in sender.acknowledged.items() if found.get(place) != value}
        assert not lost, f"{len(lost)} of {len(sender.acknowledged)} records acknowledged to {sender.name}: {lost}"[
            :2000
        ]
    in_order: dict[int, list[int]] = defaultdict(list)
    for (partition, _), value in sorted(found.items()):
        name, number, _ = value.split(":")
        if name == "idempotent":
            in_order[partition].append(int(number))
    for partition, numbers in in_order.items():
        assert numbers == list(range(partition, numbers[-1] + 1, PARTITIONS)), "duplicates, gaps or another order"
    print(f"{KILLS} kills, {len(found)} records, acknowledged: { {s.name: len(s.acknowledged) for s in senders} }")
