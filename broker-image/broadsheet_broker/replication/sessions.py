"""Fetch sessions (KIP-227): what a client reads is kept here, so that a request and its answer carry changes only.

A session is a set of positions. Those that may have something to say are in `changed`; the others wait on their
partitions (`Partition.watch`) and come back when something happens there. So an incremental fetch costs what has
changed, not what is read: a consumer of 1,000 quiet partitions costs nothing while it waits.

Which session may be evicted when the cache is full follows Kafka's FetchSessionCache: a stale one goes first; else a
session may take the place of one that is smaller and not new, and a follower's that of any consumer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.replication.fetch_request import Fetch
    from broadsheet_broker.replication.partition import Partition
    from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchTopic, ForgottenTopic
    from broadsheet_broker.wire.messages.fetch_response import PartitionData

NO_SESSION: Final = 0
INITIAL_EPOCH: Final = 0
FINAL_EPOCH: Final = -1
TOPIC_IDS_FROM: Final = 13
"""Fetch version from which topics are known by id only."""
EVICTABLE_AFTER_SECONDS: Final = 120.0
"""A session unused for this time is stale; one younger than that is never evicted for size (Kafka: 2 minutes)."""


def next_epoch(epoch: int) -> int:
    """Epochs go 1, 2 ... 2^31-1 and start again at 1: 0 and -1 have a meaning of their own."""
    return epoch + 1 if epoch < 2**31 - 1 else 1


class TimeSource(Protocol):
    """What the cache needs of `Environment`."""

    def monotonic(self) -> float: ...


class TopicPositions:
    """The positions of one reader in one topic."""

    __slots__ = ("id", "name", "positions")

    def __init__(self, name: str, id: UUID) -> None:
        self.name = name
        """Empty where the request knows the topic by id."""
        self.id = id
        self.positions: dict[int, Position] = {}


class Position:
    """Where a reader stands in one partition, and what the last response said of it."""

    __slots__ = (
        "checked_epoch",
        "current_leader_epoch",
        "fetch_offset",
        "index",
        "last_fetched_epoch",
        "log_start_offset",
        "max_bytes",
        "partition",
        "seen_bytes",
        "sent_high_watermark",
        "sent_log_start_offset",
        "session",
        "topic",
    )

    def __init__(self, session: FetchSession, topic: TopicPositions, index: int) -> None:
        self.session = session
        self.topic = topic
        self.index = index
        self.checked_epoch = -1
        """The leader epoch in which the reader's log was found not to diverge from ours up to its fetch offset."""
        self.partition: Partition | None = None
        """Where it was found last; looked up again once that is deleted."""
        self.sent_high_watermark = -1
        self.sent_log_start_offset = -1
        self.seen_bytes = 0
        """`ReadableBytes.visible` when this position began to wait."""

    def update(self, wanted: FetchPartition) -> None:
        self.fetch_offset = wanted.fetch_offset
        self.max_bytes = wanted.partition_max_bytes
        self.current_leader_epoch = wanted.current_leader_epoch
        self.last_fetched_epoch = wanted.last_fetched_epoch
        self.log_start_offset = wanted.log_start_offset
        self.checked_epoch = -1

    def wake(self) -> None:
        """Something happened in the partition that this position waits on."""
        session = self.session
        session.changed[self] = True
        if session.waiting is not None:
            session.waiting.progress(self)

    def release(self) -> None:
        if self.partition is not None:
            self.partition.unwatch(self)
            self.partition = None


class FetchSession:
    """The positions of one reader; with an id in the cache, or for one request only."""

    __slots__ = (
        "changed",
        "created",
        "epoch",
        "id",
        "last_used",
        "privileged",
        "size",
        "topics",
        "uses_topic_ids",
        "waiting",
    )

    def __init__(self, *, uses_topic_ids: bool, privileged: bool) -> None:
        self.id = NO_SESSION
        self.epoch = INITIAL_EPOCH
        self.uses_topic_ids = uses_topic_ids
        self.privileged = privileged
        """Made by a follower."""
        self.topics: dict[str | UUID, TopicPositions] = {}
        self.size = 0
        """How many positions there are."""
        self.changed: dict[Position, bool] = {}
        """An ordered set: the partition read first is first. A partition that returned records goes to the end."""
        self.waiting: Fetch | None = None
        self.created = 0.0
        self.last_used = 0.0

    def positions(self) -> Iterator[Position]:
        for topic in self.topics.values():
            yield from topic.positions.values()

    def add(self, topics: Iterable[FetchTopic]) -> None:
        """Positions that are new, or that have moved."""
        changed = self.changed
        for wanted in topics:
            key = wanted.topic_id if self.uses_topic_ids else wanted.topic
            topic = self.topics.get(key)
            if topic is None:
                topic = self.topics[key] = TopicPositions(wanted.topic, wanted.topic_id)
            positions = topic.positions
            for partition in wanted.partitions:
                index = partition.partition
                position = positions.get(index)
                if position is None:
                    position = positions[index] = Position(self, topic, index)
                    self.size += 1
                position.update(partition)
                changed[position] = True

    def forget(self, topics: Iterable[ForgottenTopic]) -> None:
        for gone in topics:
            topic = self.topics.get(gone.topic_id if self.uses_topic_ids else gone.topic)
            if topic is None:
                continue
            for index in gone.partitions:
                position = topic.positions.pop(index, None)
                if position is not None:
                    self.size -= 1
                    self.changed.pop(position, None)
                    position.release()

    def release(self) -> None:
        """Take all positions off their partitions."""
        for position in self.positions():
            position.release()

    def told(self, rows: Sequence[tuple[Position, PartitionData]]) -> list[tuple[Position, PartitionData]]:
        """The rows that an incremental answer must carry; remembers them as sent and moves the served to the end."""
        news: list[tuple[Position, PartitionData]] = []
        for row in rows:
            position, data = row
            served = bool(data.records)
            if (
                served
                or data.error_code
                or data.high_watermark != position.sent_high_watermark
                or data.log_start_offset != position.sent_log_start_offset
                or data.diverging_epoch.end_offset >= 0
                or data.preferred_read_replica >= 0
            ):
                news.append(row)
            # After an error the partition is sent again as soon as the error has gone.
            position.sent_high_watermark = -1 if data.error_code else data.high_watermark
            position.sent_log_start_offset = data.log_start_offset
            if served and position in self.changed:
                del self.changed[position]
                self.changed[position] = True
        return news


class FetchContext:
    """One Fetch request in the light of its session: which positions to read, and how to answer."""

    __slots__ = ("_cache", "_create", "_expected_epoch", "_session_id", "incremental", "session")

    def __init__(self, cache: FetchSessions, session: FetchSession, *, incremental: bool, create: bool) -> None:
        self._cache = cache
        self._create = create
        self._expected_epoch = session.epoch
        self._session_id = session.id
        self.session = session
        self.incremental = incremental
        """True: partitions without news are left out."""

    def finish(
        self, rows: list[tuple[Position, PartitionData]]
    ) -> tuple[int, int, list[tuple[Position, PartitionData]]]:
        """Error code, session id and the rows of the answer."""
        session = self.session
        if self.incremental:
            if session.epoch != self._expected_epoch:
                return ErrorCode.INVALID_FETCH_SESSION_EPOCH, self._session_id, []
            return ErrorCode.NONE, self._session_id, session.told(rows)
        if self._create and self._cache.admit(session):
            session.told(rows)
        else:
            session.release()
        return ErrorCode.NONE, session.id, rows


class FetchSessions:
    """The broker's cache of sessions (`max.incremental.fetch.session.cache.slots`)."""

    __slots__ = ("_random", "_sessions", "_slots", "_time", "evictions")

    def __init__(self, slots: int, random: Random, time: TimeSource) -> None:
        self._slots = slots
        self._random = random
        self._time = time
        self._sessions: dict[int, FetchSession] = {}
        """The least recently used first."""
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def partition_count(self) -> int:
        return sum(session.size for session in self._sessions.values())

    def begin(
        self,
        version: int,
        session_id: int,
        epoch: int,
        topics: Iterable[FetchTopic],
        forgotten: Iterable[ForgottenTopic],
        *,
        privileged: bool,
    ) -> FetchContext:
        """Bring the session up to date with a request; refuses with one of the fetch session errors."""
        by_id = version >= TOPIC_IDS_FROM
        if epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            if session_id != NO_SESSION:
                self.remove(session_id)
            session = FetchSession(uses_topic_ids=by_id, privileged=privileged)
            session.add(topics)
            create = epoch == INITIAL_EPOCH and session.size > 0
            return FetchContext(self, session, incremental=False, create=create)
        return self._resume(session_id, epoch, by_id, topics, forgotten)

    def _resume(
        self,
        session_id: int,
        epoch: int,
        by_id: bool,
        topics: Iterable[FetchTopic],
        forgotten: Iterable[ForgottenTopic],
    ) -> FetchContext:
        found = self._sessions.get(session_id)
        if found is None:
            raise KafkaError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if found.epoch != epoch:
            raise KafkaError(ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        if found.uses_topic_ids != by_id:
            raise KafkaError(ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR)
        if found.waiting is not None:  # an earlier request of this session waits: its sender no longer waits
            found.waiting.complete()
        found.add(topics)
        found.forget(forgotten)
        if not found.size:
            self.remove(session_id)
            return FetchContext(self, found, incremental=False, create=False)
        found.last_used = self._time.monotonic()
        del self._sessions[session_id]
        self._sessions[session_id] = found
        found.epoch = next_epoch(epoch)
        return FetchContext(self, found, incremental=True, create=False)

    def admit(self, session: FetchSession) -> bool:
        """Give a new session an id and a place; False when there is no room for it."""
        now = self._time.monotonic()
        if len(self._sessions) >= self._slots and not self._evict(session, now):
            return False
        session.id = self._new_id()
        session.epoch = next_epoch(INITIAL_EPOCH)
        session.created = session.last_used = now
        self._sessions[session.id] = session
        return True

    def remove(self, session_id: int) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            if session.waiting is not None:
                session.waiting.complete()
            session.id = NO_SESSION
            session.release()

    def _evict(self, newcomer: FetchSession, now: float) -> bool:
        stalest = next(iter(self._sessions.values()), None)
        if stalest is None:
            return False
        victim: FetchSession | None = stalest
        if now - stalest.last_used <= EVICTABLE_AFTER_SECONDS:
            victim = self._least_valuable(newcomer, now)
        if victim is None:
            return False
        self.evictions += 1
        self.remove(victim.id)
        return True

    def _least_valuable(self, newcomer: FetchSession, now: float) -> FetchSession | None:
        candidates = [
            session
            for session in self._sessions.values()
            if now - session.created > EVICTABLE_AFTER_SECONDS or (newcomer.privileged and not session.privileged)
        ]
        if not candidates:
            return None
        least = min(candidates, key=_value)
        return least if _value(least) < _value(newcomer) else None

    def _new_id(self) -> int:
        while True:
            session_id = self._random.randint(1, 2**31 - 1)
            if session_id not in self._sessions:
                return session_id


def _value(session: FetchSession) -> tuple[bool, int]:
    """What eviction goes by: followers before consumers, then the number of partitions."""
    return session.privileged, session.size
