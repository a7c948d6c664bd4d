"""The runtime of coordinators under another coordinator than groups: counters that expire, on a topic of their own."""

from __future__ import annotations

import gc
import logging
import re
import weakref
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from broadsheet_broker.config.internal_topics import TRANSACTION_STATE_TOPIC
from broadsheet_broker.coordinators import runtime
from broadsheet_broker.coordinators.runtime import (
    NEVER,
    CoordinatedPartition,
    CoordinatedPartitions,
    RuntimeSettings,
    StoredBatch,
    Turn,
    Write,
)
from broadsheet_broker.coordinators.runtime.metrics import collector
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from tests.coordinators.support import MemoryStorage, Replies, virtual_environment
from tests.support.virtual_time import VirtualLoop

TOPIC = TRANSACTION_STATE_TOPIC
IDLE_SECONDS = 10.0


class CounterShard:
    """Counters by name. One that is left alone for `IDLE_SECONDS` goes; those at zero go in the cleanup."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.idle_at: dict[str, float] = {}
        self.woken: list[str] = []
        self.errors: list[ErrorCode] = []
        self.unloaded: ErrorCode | None = None
        self._uncertain: dict[int, list[tuple[str, int]]] = {}

    # Requests

    def add(self, name: str, number: int, turn: Turn, reply: Any) -> None:
        """Answers (error, value) when the new value is committed."""
        value = self.values.get(name, 0) + number
        turn.write(
            [(name.encode(), b"%d" % value)],
            done=lambda turn, error: turn.reply(reply, (error, value)),
            apply=partial(self._added, name, value),
            key=name,
        )

    def _added(self, name: str, value: int, turn: Turn, error: ErrorCode) -> None:
        self.errors.append(error)
        if not error:
            self.values[name] = value
            self.idle_at[name] = turn.now + IDLE_SECONDS

    # What the runtime asks

    def replay(self, key: bytes | None, value: bytes | None, producer_id: int | None) -> None:
        assert key is not None
        name = key.decode()
        if value is None:
            self.values.pop(name, None)
        elif producer_id is not None:
            self._uncertain.setdefault(producer_id, []).append((name, int(value)))
        else:
            self.values[name] = int(value)

    def replay_transaction_end(self, producer_id: int, committed: bool) -> None:
        for name, value in self._uncertain.pop(producer_id, ()):
            if committed:
                self.values[name] = value

    def loaded(self, turn: Turn) -> None:
        self.idle_at = dict.fromkeys(self.values, turn.now + IDLE_SECONDS)

    def contents(self) -> str:
        return f"{len(self.values)} counters"

    def deadlines(self) -> Iterable[str]:
        return self.idle_at

    def deadline(self, key: str) -> float:
        return self.idle_at.get(key, NEVER)

    def wake(self, key: str, turn: Turn) -> None:
        self.woken.append(key)
        if self.idle_at.get(key, NEVER) <= turn.now:
            self._remove(key, turn)

    def cleanup(self, turn: Turn) -> int:
        doomed = [name for name, value in self.values.items() if not value]
        for name in doomed:
            self._remove(name, turn)
        return len(doomed)

    def _remove(self, name: str, turn: Turn) -> None:
        self.idle_at.pop(name, None)
        turn.write([(name.encode(), None)], apply=lambda turn, error: self.values.pop(name, None) and None)

    def unload(self, turn: Turn, error: ErrorCode) -> None:
        self.unloaded = error
        self.values.clear()


class Counters:
    """A coordinator of counters."""

    def __init__(self, *, partitions: int = 1, storage: MemoryStorage | None = None, **settings: int) -> None:
        self.loop = VirtualLoop()
        self.storage = storage or MemoryStorage(partitions, TOPIC)
        environment = virtual_environment(self.loop)
        self.partitions = CoordinatedPartitions(environment, RuntimeSettings(**settings), self.storage, CounterShard)

    def lead(self, *indexes: int, epoch: int = 0) -> Counters:
        for index in indexes or range(self.storage.partitions):
            self.partitions.on_leadership_change(TOPIC, index, epoch)
        self.loop.settle()
        return self

    @property
    def states(self) -> dict[int, str]:
        return {partition.index: partition.state.value for partition in self.partitions}

    def partition(self, name: str = "hits") -> CoordinatedPartition[CounterShard]:
        found = self.partitions.find(name)
        assert isinstance(found, CoordinatedPartition)
        return found

    def add(self, number: int, name: str = "hits", *, settle: bool = True) -> Replies:
        replies = Replies()
        found = self.partition(name)
        turn = found.turn()
        found.shard.add(name, number, turn, replies)
        found.run(turn, name)
        if settle:
            self.loop.settle()
        return replies


def batch(*rows: tuple[str, int | None], **more: Any) -> StoredBatch:
    return StoredBatch([(name.encode(), None if value is None else b"%d" % value) for name, value in rows], **more)


def test_the_runtime_names_no_coordinator() -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(runtime.__path__[0]).glob("*.py")]
    assert not any(re.search(r"group_id|classic|__consumer_offsets|coordinators\.groups", text) for text in texts)


# Loading


def test_a_partition_is_loaded_when_this_broker_leads_it() -> None:
    storage = MemoryStorage(1, TOPIC)
    storage.logs[0] = [
        batch(("hits", 1), ("misses", 4)),
        batch(("hits", 7), producer_id=9),
        batch(("lost", 8), producer_id=10),
        StoredBatch((), 9, True),
        StoredBatch((), 10, False),
        batch(("misses", None)),
    ]
    counters = Counters(storage=storage)
    assert counters.partitions.find("hits") is ErrorCode.NOT_COORDINATOR
    counters.partitions.on_leadership_change("another-topic", 0, 3)
    assert counters.partitions.find("hits") is ErrorCode.NOT_COORDINATOR
    counters.partitions.on_leadership_change(TOPIC, 0, 3)
    assert counters.partitions.find("hits") is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert counters.states == {0: "loading"}
    counters.loop.settle()
    assert counters.partition().shard.values == {"hits": 7}
    assert counters.partition().epoch == 3
    assert counters.states == {0: "active"}


def test_keys_are_spread_over_the_partitions_and_found_in_their_own() -> None:
    counters = Counters(partitions=4).lead()
    names = [f"counter-{number}" for number in range(40)]
    for name in names:
        assert counters.add(1, name).one == (ErrorCode.NONE, 1)
    held = {each.index: set(each.shard.values) for each in counters.partitions.active()}
    assert all(held[index] for index in range(4))
    assert all(name in held[counters.partitions.index_of(name)] for name in names)


def test_a_log_that_cannot_be_read_fails_its_own_partition_until_it_is_led_again() -> None:
    class Damaged(MemoryStorage):
        broken = True

        def read(self, partition: int) -> Iterator[StoredBatch]:
            if self.broken and partition == 1:
                raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "bad batch at 7")
            yield from super().read(partition)

    storage = Damaged(2, TOPIC)
    counters = Counters(storage=storage).lead()
    assert counters.states == {0: "active", 1: "failed"}
    storage.broken = False
    counters.lead(epoch=1)
    assert counters.states == {0: "active", 1: "active"}


# Writing


def test_writes_of_one_turn_are_one_batch_and_are_answered_in_order_once_committed() -> None:
    counters = Counters().lead()
    counters.storage.hold = True
    order: list[str] = []
    for name in ("a", "b", "c"):
        found = counters.partition()
        turn = found.turn()
        found.shard.add(name, 1, turn, lambda _, name=name: order.append(name))
        found.run(turn)
    counters.loop.settle()
    assert counters.storage.appends == 1
    assert order == [] and counters.partition().shard.values == {}
    counters.storage.release()
    assert order == ["a", "b", "c"]
    assert counters.partition().shard.values == {"a": 1, "b": 1, "c": 1}


def test_a_write_larger_than_a_batch_goes_alone() -> None:
    counters = Counters(max_batch_bytes=100).lead()
    replies = [counters.add(1, name, settle=False) for name in ("a", "b" * 200, "c", "d")]
    counters.loop.settle()
    assert [len(each.records) for each in counters.storage.logs[0]] == [1, 1, 2]
    assert all(each.one[0] is ErrorCode.NONE for each in replies)


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_a_failed_write_changes_nothing_and_says_what_a_client_understands(error: ErrorCode, seen: ErrorCode) -> None:
    counters = Counters().lead()
    counters.add(1)
    counters.storage.fail = error
    assert counters.add(1).one == (seen, 2)
    assert counters.partition().shard.values == {"hits": 1}
    counters.storage.fail = None
    assert counters.add(1).one == (ErrorCode.NONE, 2)


def test_a_storage_that_breaks_fails_the_write_and_not_the_coordinator() -> None:
    class Broken(MemoryStorage):
        def append(self, *arguments: Any) -> None:
            raise RuntimeError("a defect")

    counters = Counters(storage=Broken(1, TOPIC)).lead()
    assert counters.add(1).one == (ErrorCode.UNKNOWN_SERVER_ERROR, 1)
    assert counters.partition().shard.errors == [ErrorCode.UNKNOWN_SERVER_ERROR]


# Giving up


def test_a_write_that_takes_too_long_is_answered_and_still_counts_when_it_is_committed() -> None:
    counters = Counters(write_timeout_ms=5_000).lead()
    counters.storage.hold = True
    replies = counters.add(1)
    counters.loop.run_for(4.9)
    assert not replies
    counters.loop.run_for(0.2)
    assert replies.one == (ErrorCode.COORDINATOR_NOT_AVAILABLE, 1)
    assert counters.partition().shard.errors == []
    counters.storage.release()
    assert counters.partition().shard.values == {"hits": 1}


def test_every_batch_is_given_up_about_its_own_timeout_after_it_was_sent() -> None:
    counters = Counters(write_timeout_ms=5_000).lead()
    counters.storage.hold = True
    waited: list[float] = []
    for number in range(8):
        found = counters.partition()
        turn = found.turn()
        sent = counters.loop.now
        found.shard.add(f"counter-{number}", 1, turn, lambda _, sent=sent: waited.append(counters.loop.now - sent))
        found.run(turn)
        counters.loop.run_for(0.9)
    counters.loop.run_for(20)
    assert len(waited) == 8
    assert all(5.0 <= seconds <= 5.0 * 17 / 16 for seconds in waited)


# Resigning


def test_what_waits_is_answered_when_another_broker_leads_and_what_comes_late_is_ignored() -> None:
    counters = Counters().lead()
    counters.add(1, "old")
    counters.storage.hold = True
    in_flight, queued = counters.add(1), counters.add(1, "b", settle=False)
    before = counters.partition()
    counters.partitions.on_leadership_change(TOPIC, 0, None)
    assert in_flight.one == queued.one == (ErrorCode.NOT_COORDINATOR, 1)
    assert before.shard.unloaded is ErrorCode.NOT_COORDINATOR
    assert counters.partitions.find("hits") is ErrorCode.NOT_COORDINATOR
    counters.storage.release()
    counters.loop.run_for(1_000)
    assert before.shard.values == {} and before.shard.woken == []
    counters.storage.hold = False
    assert counters.lead(epoch=2).partition().shard.values == {"old": 1, "hits": 1}


def test_a_broker_that_may_be_replaced_coordinates_nothing() -> None:
    counters = Counters().lead()
    counters.partitions.may_be_replaced = lambda index: True
    assert counters.partitions.find("hits") is ErrorCode.NOT_COORDINATOR


# Time


def test_keys_are_woken_at_their_deadlines_also_after_a_load() -> None:
    counters = Counters().lead()
    counters.add(1, "a")
    counters.loop.run_for(6)
    counters.add(1, "b")
    again = Counters(storage=counters.storage).lead()
    for each in (counters, again):
        each.loop.run_for(IDLE_SECONDS + 0.1)
        each.loop.settle()
    assert counters.partition().shard.woken == ["a", "b"]
    assert sorted(again.partition().shard.woken) == ["a", "b"]
    assert again.partition().shard.values == {}
    assert counters.storage.latest() == {b"a": None, b"b": None}


def test_a_deadline_that_moved_is_kept() -> None:
    counters = Counters().lead()
    for _ in range(5):
        counters.add(1)
        counters.loop.run_for(6)
    assert counters.partition().shard.values == {"hits": 5}
    counters.loop.run_for(6)
    assert counters.partition().shard.values == {}


def test_cleanup_comes_at_its_interval() -> None:
    counters = Counters(cleanup_interval_ms=3_000).lead()
    counters.add(0, "zero")
    counters.add(1, "one")
    counters.loop.run_for(2.9)
    assert counters.partition().shard.values == {"zero": 0, "one": 1}
    counters.loop.run_for(0.2)
    assert counters.partition().shard.values == {"one": 1}


# Bounds


@pytest.mark.parametrize("bound", [{"max_waiting_writes": 3}, {"max_waiting_bytes": 3 * 34}])
def test_requests_are_refused_while_too_many_writes_wait(
    bound: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters(**bound).lead()
    counters.storage.hold = True
    replies = [counters.add(1, name, settle=settle) for name, settle in zip("abcde", (1, 0, 0, 0, 1), strict=True)]
    assert [bool(each) for each in replies] == [False, False, False, True, True]
    assert replies[4].one == (ErrorCode.COORDINATOR_NOT_AVAILABLE, 1)
    assert counters.partition().shard.errors == [ErrorCode.COORDINATOR_NOT_AVAILABLE] * 2
    assert caplog.text.count("wait to be committed") == 1
    counters.storage.release()
    assert counters.partition().shard.values == {"a": 1, "b": 1, "c": 1}
    counters.storage.hold = False
    assert counters.add(1, "d").one == (ErrorCode.NONE, 1)


def test_what_the_coordinator_writes_of_its_own_accord_is_not_refused() -> None:
    counters = Counters(max_waiting_writes=3, cleanup_interval_ms=1_000).lead()
    for number in range(20):
        counters.add(0, f"zero-{number}")
    counters.loop.run_for(1.1)
    assert counters.partition().shard.values == {}


def test_a_read_that_waits_for_writes_is_let_go_when_it_is_answered() -> None:
    counters = Counters(write_timeout_ms=5_000).lead()
    counters.storage.hold = True
    counters.add(1)
    partition = counters.partition()
    answers: list[ErrorCode] = []
    reads = [Write([], lambda turn, error: answers.append(error)) for _ in range(10)]
    watched = [weakref.ref(read.done) for read in reads if read.done is not None]
    for read in reads:
        assert partition.after_writes(read)
    del read, reads
    counters.loop.run_for(6)
    gc.collect()
    assert answers == [ErrorCode.COORDINATOR_NOT_AVAILABLE] * 10
    assert [each() for each in watched] == [None] * 10


def test_a_read_waits_for_nothing_when_nothing_is_being_written() -> None:
    assert not Counters().lead().partition().after_writes(Write([], lambda turn, error: None))


def test_the_keys_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadsheet_broker.coordinators.runtime.partitions._REMEMBERED_KEYS", 10)
    counters = Counters(partitions=7)
    indexes = {name: counters.partitions.index_of(name) for name in map(str, range(100))}
    assert len(counters.partitions._indexes) <= 10
    assert {name: counters.partitions.index_of(name) for name in indexes} == indexes


def test_loading_is_logged_with_what_was_found(caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage(1, TOPIC)
    storage.logs[0] = [batch(("a", 1), ("b", 2))]
    with caplog.at_level(logging.INFO):
        Counters(storage=storage).lead()
    assert "__transaction_state-0: 2 counters from 2 records" in caplog.text


def test_states_and_waiting_writes_are_metrics() -> None:
    counters = Counters(partitions=3).lead(0, 1)
    counters.partitions.on_leader(2, 0)  # loading
    counters.storage.hold = True
    for name in map(str, range(20)):
        if counters.partitions.index_of(name) < 2:
            counters.add(1, name)
    found = {family.name: family.samples for family in collector("counter", counters.partitions)()}
    states = {labels[0][1]: value for labels, value in found["kafka_server_counter_coordinator_metrics_num_partitions"]}
    assert sum(states.values()) == 3 and states["failed"] == 0
    ((_, waiting),) = found["broadsheet_counter_coordinator_waiting_writes"]
    assert waiting == len(counters.storage.held) > 0
    counters.storage.release()
    ((_, waiting),) = list(collector("counter", counters.partitions)())[1].samples
    assert waiting == 0
