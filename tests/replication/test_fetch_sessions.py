"""Fetch sessions: a client that believes what it is told must know everything, whatever is left out (KIP-227)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadsheet_broker.replication.fetch_request import Fetch, Row
from broadsheet_broker.replication.sessions import EVICTABLE_AFTER_SECONDS, FetchSessions, next_epoch
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchTopic, ForgottenTopic
from tests.replication.support import Stage, State
from tests.support.virtual_time import VirtualLoop


def topics(*indexes: int, offset: int = 0) -> list[FetchTopic]:
    partitions = [
        FetchPartition(
            partition=index,
            fetch_offset=offset,
            partition_max_bytes=100,
            current_leader_epoch=-1,
            last_fetched_epoch=-1,
        )
        for index in indexes
    ]
    return [FetchTopic(topic="orders", partitions=partitions)] if partitions else []


class Client:
    """A consumer that keeps a session as the Java client does (FetchSessionHandler)."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.session_id = 0
        self.epoch = 0
        self.offsets: dict[int, int] = {}
        self.sent: dict[int, int] = {}
        """Offsets that the broker's session should have."""
        self.read: dict[int, bytes] = {}
        self.high_watermarks: dict[int, int] = {}
        self.starts: dict[int, int] = {}
        self.answered = True
        self.rows = 0

    def subscribe(self, index: int) -> None:
        self.offsets.setdefault(index, len(self.read.get(index, b"")))

    def unsubscribe(self, index: int) -> None:
        self.offsets.pop(index, None)

    def poll(self, *, max_wait_ms: int = 0, max_bytes: int = 1000, min_bytes: int = 1) -> None:
        changed = {index: offset for index, offset in self.offsets.items() if self.sent.get(index) != offset}
        forgotten = [index for index in self.sent if index not in self.offsets]
        if self.epoch == 0:
            changed, forgotten = dict(self.offsets), []
        wanted = [topic for index, offset in changed.items() for topic in topics(index, offset=offset)]
        gone = [ForgottenTopic(topic="orders", partitions=forgotten)] if forgotten else []
        self.sent = dict(self.offsets)
        try:
            context = self.stage.sessions.begin(12, self.session_id, self.epoch, wanted, gone, privileged=False)
        except KafkaError as error:
            self.failed(error.code)
            return
        self.answered = False

        def answer(rows: list[Row]) -> None:
            self.answered = True
            error, session_id, kept = context.finish(rows)
            if error:
                self.failed(error)
            else:
                self.take(session_id, kept)

        Fetch(
            self.stage,
            context.session,
            answer,
            incremental=context.incremental,
            read_committed=False,
            min_bytes=min_bytes,
            max_bytes=max_bytes,
        ).start(self.stage.loop.asyncio(), max_wait_ms)

    def failed(self, code: int) -> None:
        self.session_id = 0 if code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND else self.session_id
        self.epoch = 0
        self.sent = {}

    def take(self, session_id: int, rows: list[Row]) -> None:
        self.session_id = session_id
        self.epoch = next_epoch(self.epoch) if session_id else 0
        self.rows = len(rows)
        if not session_id:
            self.sent = {}
        for position, row in rows:
            index = position.index
            assert not row.error_code
            self.high_watermarks[index] = row.high_watermark
            self.starts[index] = row.log_start_offset
            if row.records and index in self.offsets:
                self.read[index] = self.read.get(index, b"") + bytes(row.records)  # type: ignore[arg-type]
                self.offsets[index] += len(row.records)


def test_only_news_is_answered() -> None:
    stage = Stage()
    partitions = [stage.partition(index) for index in range(5)]
    client = Client(stage)
    for index in range(5):
        client.subscribe(index)
    client.poll()
    assert client.session_id
    assert client.rows == 5
    client.poll()
    assert client.rows == 0
    stage.append(partitions[3], b"abc")
    stage.loop.settle()
    client.poll()
    assert client.rows == 1
    assert client.read == {3: b"abc"}
    client.poll()
    assert client.rows == 0


def test_quiet_partitions_cost_nothing() -> None:
    stage = Stage()
    partitions = [stage.partition(index) for index in range(50)]
    client = Client(stage)
    for index in range(50):
        client.subscribe(index)
    client.poll()
    client.poll()
    (session,) = stage.sessions._sessions.values()
    assert not session.changed, "nobody is looked at again before something happens"
    stage.append(partitions[7], b"x")
    stage.loop.settle()
    assert [position.index for position in session.changed] == [7]


def test_an_incremental_fetch_waits_for_news() -> None:
    stage = Stage()
    partitions = [stage.partition(index) for index in range(3)]
    client = Client(stage)
    for index in range(3):
        client.subscribe(index)
    client.poll()
    client.poll(max_wait_ms=500)
    assert not client.answered
    stage.append(partitions[1], b"hello")
    stage.loop.settle()
    assert client.answered
    assert client.read == {1: b"hello"}
    client.poll(max_wait_ms=500)
    assert not client.answered
    stage.loop.run_for(0.6)
    assert client.answered
    assert client.rows == 0


def test_partitions_that_were_served_go_to_the_back() -> None:
    stage = Stage()
    partitions = [stage.partition(index) for index in range(3)]
    client = Client(stage)
    for index in range(3):
        client.subscribe(index)
    client.poll()
    for _ in range(4):
        for partition in partitions:
            stage.append(partition, b"abcd")
    stage.loop.settle()
    served = []
    for _ in range(6):
        before = dict(client.read)
        client.poll(max_bytes=4)
        served += [index for index in client.read if client.read[index] != before.get(index)]
    assert sorted(served[:3]) == [0, 1, 2], "nobody starves"
    assert sorted(served[3:]) == [0, 1, 2]


def test_an_error_is_told_until_it_is_gone_and_then_the_partition_comes_again() -> None:
    stage = Stage()
    partition = stage.partition()
    context = stage.sessions.begin(12, 0, 0, topics(0), [], privileged=False)
    codes: list[list[int]] = []

    def poll(epoch: int) -> None:
        context = stage.sessions.begin(12, session_id, epoch, [], [], privileged=False)
        fetch(context.session, context.incremental, context)

    def fetch(session: object, incremental: bool, context: object) -> None:
        Fetch(
            stage,
            context.session,  # type: ignore[attr-defined]
            lambda rows: codes.append([row.error_code for _, row in context.finish(rows)[2]]),  # type: ignore[attr-defined]
            incremental=incremental,
            read_committed=False,
            min_bytes=1,
            max_bytes=100,
        ).start(stage.loop.asyncio(), 0)

    fetch(context.session, False, context)
    session_id = context.session.id
    poll(1)
    partition.become_follower(State(leader=2, leader_epoch=2))
    poll(2)
    poll(3)
    partition.become_leader(State(leader_epoch=3))
    poll(4)
    poll(5)
    moved = ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert codes == [[0], [], [moved], [moved], [0], []]


def test_session_errors() -> None:
    stage = Stage()
    stage.partition()
    client = Client(stage)
    client.subscribe(0)
    client.poll()
    sessions, session_id = stage.sessions, client.session_id

    def code(version: int, session_id: int, epoch: int) -> ErrorCode:
        with pytest.raises(KafkaError) as error:
            sessions.begin(version, session_id, epoch, [], [], privileged=False)
        return error.value.code

    assert code(12, session_id + 1, 1) == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert code(12, session_id, 2) == ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert code(13, session_id, 1) == ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR


def test_a_full_fetch_closes_the_session_it_names() -> None:
    stage = Stage()
    partition = stage.partition()
    client = Client(stage)
    client.subscribe(0)
    client.poll()
    client.poll()
    assert partition._watchers
    stage.sessions.begin(12, client.session_id, -1, [], [], privileged=False)
    assert len(stage.sessions) == 0
    assert not partition._watchers


def test_forgetting_everything_closes_the_session() -> None:
    stage = Stage()
    stage.partition()
    client = Client(stage)
    client.subscribe(0)
    client.poll()
    client.unsubscribe(0)
    client.poll()
    assert len(stage.sessions) == 0
    assert client.session_id == 0


def test_a_request_overtaken_by_the_next_of_its_session_is_answered_at_once() -> None:
    stage = Stage()
    stage.partition()
    client = Client(stage)
    client.subscribe(0)
    client.poll()
    client.poll(max_wait_ms=500)
    assert not client.answered
    stage.sessions.begin(12, client.session_id, client.epoch + 1, [], [], privileged=False)
    assert client.answered
    assert client.epoch == 2, "a follower that has something new to say sends it behind its waiting fetch"


class Cache:
    """A session cache of two places, and a clock."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.sessions = FetchSessions(2, Random(1), self.loop)

    def open(self, size: int, *, follower: bool = False) -> int:
        context = self.sessions.begin(12, 0, 0, topics(*range(size)), [], privileged=follower)
        return context.finish([])[1]


def test_a_full_cache_refuses_sessions_of_the_same_size() -> None:
    cache = Cache()
    assert cache.open(2)
    assert cache.open(2)
    assert cache.open(2) == 0
    cache.loop.now += EVICTABLE_AFTER_SECONDS + 1
    assert cache.open(2), "a stale one gives way"


def test_a_larger_session_takes_the_place_of_a_smaller_one_that_is_not_new() -> None:
    cache = Cache()
    small, large = cache.open(1), cache.open(5)
    assert cache.open(3) == 0, "both are new"
    cache.loop.now += EVICTABLE_AFTER_SECONDS / 2 + 1
    for session_id in (small, large):
        cache.sessions.begin(12, session_id, 1, [], [], privileged=False)
    cache.loop.now += EVICTABLE_AFTER_SECONDS / 2 + 1
    assert cache.open(1) == 0
    assert cache.open(3)
    assert set(cache.sessions._sessions) & {small, large} == {large}


def test_followers_take_the_place_of_consumers() -> None:
    cache = Cache()
    follower, consumer = cache.open(1, follower=True), cache.open(9)
    assert cache.open(1, follower=True)
    assert follower in cache.sessions._sessions
    assert consumer not in cache.sessions._sessions
    assert cache.open(1, follower=True) == 0


actions = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 4), st.integers(1, 5)),
        st.tuples(st.just("subscribe"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("unsubscribe"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("poll"), st.sampled_from([1, 4, 1000]), st.sampled_from([0, 200])),
        st.tuples(st.just("evict"), st.just(0), st.just(0)),
        st.tuples(st.just("time"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(actions)
def test_a_client_that_believes_its_session_misses_nothing(actions: list[tuple[str, int, int]]) -> None:
    stage = Stage()
    partitions = [stage.partition(index) for index in range(5)]
    written: dict[int, bytes] = dict.fromkeys(range(5), b"")
    client = Client(stage)
    for what, first, second in actions:
        if what == "append":
            batch = bytes(str(len(written[first]) % 10), "ascii") * second
            written[first] += batch
            stage.append(partitions[first], batch)
            stage.loop.settle()
        elif what == "subscribe" and client.answered:
            client.subscribe(first)
        elif what == "unsubscribe" and client.answered:
            client.unsubscribe(first)
        elif what == "poll" and client.answered:
            client.poll(max_bytes=first, max_wait_ms=second, min_bytes=1 + second // 100)
        elif what == "evict" and client.session_id:
            stage.sessions.remove(client.session_id)
        elif what == "time":
            stage.loop.run_for(0.3)
        for index, data in client.read.items():
            assert written[index].startswith(data)
    stage.loop.run_for(1)
    for _ in range(40):
        client.poll()
    for index in client.offsets:
        assert client.read.get(index, b"") == written[index]
        assert client.high_watermarks[index] == partitions[index].high_watermark
        assert client.starts[index] == 0
