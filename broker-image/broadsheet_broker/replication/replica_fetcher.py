"""Copying what another broker leads: one fetch session per leader, one Fetch in flight, no work per record.

An answer is handled in three steps. First every partition's batches go from the answer's memory to its log, with one
write each; then the next Fetch leaves, which reports what has been written and so lets the leader's high watermark
move; only then come high watermarks and readers here. A partition that cannot go on (an error, a truncation to be
negotiated, a throttle) leaves the session until it can, so that it delays no other.

A Fetch waits at the leader while there is nothing to copy. What has to be said in the meantime (a partition to follow,
a moved log start) is said with a second Fetch: the leader then answers the first at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from broadsheet_broker.replication.following import Following
from broadsheet_broker.replication.truncation import start_within_batch, truncation_offset
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.fetch_request import (
    FetchPartition,
    FetchRequest,
    FetchTopic,
    ForgottenTopic,
    ReplicaState,
)

if TYPE_CHECKING:
    from broadsheet_broker.replication.partition import Partition
    from broadsheet_broker.replication.throttle import Throttle
    from broadsheet_broker.wire.messages.fetch_response import FetchResponse, PartitionData
    from broadsheet_broker.wire.peers import Address, PeerError, Peers

logger = logging.getLogger(__name__)

FETCH_VERSION = 17
NO_SESSION = 0
FIRST_PAUSE_SECONDS = 0.02
"""Pause after a first failure; it doubles up to `replica.fetch.backoff.ms`."""
_MOST_IN_FLIGHT = 2
_SESSION_ERRORS = (
    ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
    ErrorCode.INVALID_FETCH_SESSION_EPOCH,
    ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
)


class ReplicaFetcherHost(Protocol):
    """What a fetcher needs of its broker."""

    loop: asyncio.AbstractEventLoop
    peers: Peers
    broker_id: int
    wait_max_ms: int
    """replica.fetch.wait.max.ms"""
    min_bytes: int
    response_max_bytes: int
    partition_max_bytes: int
    socket_timeout: float
    """Seconds; replica.socket.timeout.ms"""
    backoff: float
    """Seconds; replica.fetch.backoff.ms"""
    throttle: Throttle

    def own_epoch(self) -> int: ...
    def address(self, broker_id: int) -> Address | None: ...
    def is_throttled(self, partition: Partition) -> bool: ...
    def truncate(self, partition: Partition, offset: int) -> None: ...
    def start_again(self, partition: Partition, offset: int) -> None: ...
    def ask_range(self, fetcher: Fetcher, following: Following) -> None: ...
    def replicated(self, size: int) -> None: ...


class Fetcher:
    """Copies partitions from one leader."""

    def __init__(self, hosts: ReplicaFetcherHost, leader_id: int, number: int) -> None:
        self._hosts = hosts
        self.leader_id = leader_id
        self._lane = f"fetch-{number}"
        self._topics: dict[UUID, dict[int, Following]] = {}
        self._changed: dict[Following, None] = {}
        """Whose place the leader has to hear of with the next request."""
        self._forgotten: dict[tuple[UUID, int], None] = {}
        """Who is in the leader's session and should not be."""
        self._session_id = NO_SESSION
        self._session_epoch = 0
        self._life = 0
        """Answers to requests of an earlier life (another session) are stale."""
        self._in_flight = 0
        self._number = 0
        """Of the last request sent."""
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"Fetcher(leader {self.leader_id}, {self._lane})"

    def __len__(self) -> int:
        return sum(map(len, self._topics.values()))

    def followings(self) -> Iterator[Following]:
        for followings in self._topics.values():
            yield from followings.values()

    # -- who is copied ------------------------------------------------------------------------------------------------

    def add(self, following: Following) -> None:
        partition = following.partition
        self._topics.setdefault(partition.topic_id, {})[partition.index] = following
        self.resume(following)

    def remove(self, following: Following) -> None:
        partition = following.partition
        followings = self._topics.get(partition.topic_id, {})
        if followings.pop(partition.index, None) is None:
            return
        if not followings:
            self._topics.pop(partition.topic_id, None)
        self.pause(following)
        if not self._topics:
            self._end_session()
        else:
            self._kick()

    def renew(self, following: Following) -> None:
        """The same leader leads in another epoch: forget what was asked in the old one."""
        following.leader_epoch = following.partition.leader_epoch
        following.failures = 0
        self.resume(following)

    def pause(self, following: Following, seconds: float = -1) -> None:
        """Leave a partition out, for ever (until it is resumed) or for a time."""
        following.stop_timer()
        following.active = False
        self._changed.pop(following, None)
        partition = following.partition
        if following.in_session:
            following.in_session = False
            self._forgotten[partition.topic_id, partition.index] = None
        if seconds >= 0:
            following.timer = self._hosts.loop.call_later(seconds, self.resume, following)

    def resume(self, following: Following) -> None:
        following.stop_timer()
        following.active = True
        self._changed[following] = None
        self._kick()

    def holds(self, following: Following) -> bool:
        partition = following.partition
        return self._topics.get(partition.topic_id, {}).get(partition.index) is following

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for following in self.followings():
            following.stop_timer()
        self._topics = {}
        self._changed = {}

    def _end_session(self) -> None:
        """Nothing is left to copy: the leader need not keep our places."""
        session_id = self._session_id
        self._new_life()
        address = self._hosts.address(self.leader_id)
        if session_id != NO_SESSION and address is not None and not self._closed:
            request = FetchRequest(
                replica_state=self._state(), session_id=session_id, session_epoch=-1, max_wait_ms=0, min_bytes=0
            )
            self._hosts.peers.send(
                *(self.leader_id, address, request, FETCH_VERSION, _ignore),
                timeout=self._hosts.socket_timeout,
                lane=self._lane,
            )

    def _new_life(self) -> None:
        self._life += 1
        self._in_flight = 0
        self._session_id = NO_SESSION
        self._session_epoch = 0
        self._forgotten = {}
        self._changed = {}
        for following in self.followings():
            following.in_session = False
            if following.active:
                self._changed[following] = None

    # -- asking -------------------------------------------------------------------------------------------------------

    def _kick(self) -> None:
        """Send at the end of this loop turn: partitions that come together share a request."""
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._hosts.loop.call_soon(self._kicked)

    def _kicked(self) -> None:
        self._scheduled = False
        self._send_if_useful()

    def _send_if_useful(self) -> None:
        if self._closed or self._timer is not None or not self._topics:
            return
        news = bool(self._changed or self._forgotten) and self._session_id != NO_SESSION
        if not self._in_flight or (news and self._in_flight < _MOST_IN_FLIGHT):
            self._send()

    def _send(self) -> None:
        hosts = self._hosts
        address = hosts.address(self.leader_id)
        if address is None:
            self._back_off()
            return
        if hosts.throttle.delay(hosts.loop.time()) > 0:
            self._hold_back(hosts.throttle.delay(hosts.loop.time()))
        full = self._session_id == NO_SESSION
        self._number += 1
        if full:
            self._changed = {following: None for following in self.followings() if following.active}
            if not self._changed:
                return
        request = FetchRequest(
            replica_state=self._state(),
            max_wait_ms=hosts.wait_max_ms,
            min_bytes=hosts.min_bytes,
            max_bytes=hosts.response_max_bytes,
            session_id=self._session_id,
            session_epoch=self._session_epoch,
            topics=self._places(),
            forgotten_topics_data=self._gone() if self._forgotten else [],
        )
        if not full:
            self._session_epoch = self._session_epoch + 1 if self._session_epoch < 2**31 - 1 else 1
        self._in_flight += 1
        life, number = self._life, self._number

        def answered(answer: FetchResponse | None, error: PeerError | None) -> None:
            if life == self._life and not self._closed:
                self._answered(number, answer, error)

        hosts.peers.send(
            self.leader_id,
            address,
            request,
            FETCH_VERSION,
            answered,
            timeout=hosts.socket_timeout,
            lane=self._lane,
        )

    def _state(self) -> ReplicaState:
        return ReplicaState(replica_id=self._hosts.broker_id, replica_epoch=self._hosts.own_epoch())

    def _places(self) -> list[FetchTopic]:
        """The changed places, by topic."""
        changed, self._changed = self._changed, {}
        topics: dict[UUID, FetchTopic] = {}
        max_bytes = self._hosts.partition_max_bytes
        for following in changed:
            partition = following.partition
            own = partition.log
            following.in_session = True
            following.sent_number = self._number
            following.sent_epoch = following.leader_epoch
            following.sent_offset = own.log_end_offset
            topic = topics.get(partition.topic_id)
            if topic is None:
                topic = topics[partition.topic_id] = FetchTopic(topic_id=partition.topic_id, partitions=[])
            if self._forgotten:
                self._forgotten.pop((partition.topic_id, partition.index), None)
            topic.partitions.append(
                FetchPartition(
                    partition=partition.index,
                    current_leader_epoch=following.leader_epoch,
                    fetch_offset=following.sent_offset,
                    last_fetched_epoch=own.latest_epoch,
                    log_start_offset=own.log_start_offset,
                    partition_max_bytes=max_bytes,
                )
            )
        return list(topics.values())

    def _gone(self) -> list[ForgottenTopic]:
        gone: dict[UUID, ForgottenTopic] = {}
        for topic_id, index in self._forgotten:
            gone.setdefault(topic_id, ForgottenTopic(topic_id=topic_id, partitions=[])).partitions.append(index)
        self._forgotten = {}
        return list(gone.values())

    def _hold_back(self, seconds: float) -> None:
        for following in list(self._changed):
            if self._hosts.is_throttled(following.partition):
                self.pause(following, seconds)

    # -- hearing ------------------------------------------------------------------------------------------------------

    def _answered(self, number: int, answer: FetchResponse | None, error: PeerError | None) -> None:
        self._in_flight -= 1
        if answer is None:
            if not self._failures:
                logger.info("%s: fetching from it is tried again: %s", self, error)
            self._back_off()
            return
        if answer.error_code:
            self._session_refused(_error(answer.error_code))
            return
        self._failures = 0
        if self._session_id == NO_SESSION:
            self._session_id = answer.session_id
            self._session_epoch = 1 if answer.session_id != NO_SESSION else 0
        marks: list[tuple[Following, PartitionData]] = []
        for topic in answer.responses:
            followings = self._topics.get(topic.topic_id)
            if followings is None:
                continue
            for row in topic.partitions:
                following = followings.get(row.partition_index)
                if (
                    following is not None
                    and following.active
                    and following.sent_number <= number
                    and following.sent_epoch == following.leader_epoch
                ):
                    self._take(following, row, marks)
        self._send_if_useful()
        for following, row in marks:
            try:
                following.partition.follow_marks(row.high_watermark, row.log_start_offset)
            except (KafkaError, OSError) as failure:
                self._failed(following, failure)

    def _take(self, following: Following, row: PartitionData, marks: list[tuple[Following, PartitionData]]) -> None:
        """One partition of an answer: errors and truncations at once, batches to the log, marks for later."""
        if row.error_code:
            self._refused(following, row.error_code)
            return
        partition = following.partition
        own = partition.log
        try:
            if row.diverging_epoch.end_offset >= 0:
                self._diverged(following, row.diverging_epoch.epoch, row.diverging_epoch.end_offset)
                return
            following.leader_end = row.high_watermark
            records = row.records
            if records:
                assert not isinstance(records, list)
                self._changed[following] = None
                if following.sent_offset != own.log_end_offset:
                    return  # asked for before something else moved the end
                within = start_within_batch(records, own.log_start_offset, own.log_end_offset)
                if within is not None:
                    self._hosts.start_again(partition, within)  # the leader's start offset comes with the records
                partition.append_fetched(records)
                following.failures = 0
                self._hosts.replicated(len(records))
                if self._hosts.is_throttled(partition):
                    self._hosts.throttle.record(len(records), self._hosts.loop.time())
            if row.log_start_offset > own.log_start_offset:
                partition.follow_marks(row.high_watermark, row.log_start_offset)
                self._changed[following] = None
            elif row.high_watermark > partition.high_watermark:
                marks.append((following, row))
        except (KafkaError, OSError) as failure:
            self._failed(following, failure)

    def _diverged(self, following: Following, epoch: int, end_offset: int) -> None:
        partition = following.partition
        own = partition.log
        before = own.log_end_offset, own.latest_epoch
        target = truncation_offset(own, epoch, end_offset)
        if target < before[0]:
            logger.info(
                "%s-%d: the leader's epoch %d ended at %d; cutting this log from %d to %d",
                *(partition.topic, partition.index, epoch, end_offset, before[0], target),
            )
        self._hosts.truncate(partition, target)
        if (own.log_end_offset, own.latest_epoch) != before:
            self._changed[following] = None
        else:
            self.pause(following, self._pause_of(following))

    def _refused(self, following: Following, code: int) -> None:
        partition = following.partition
        if code == ErrorCode.OFFSET_OUT_OF_RANGE:
            self.pause(following)
            self._hosts.ask_range(self, following)
        elif code == ErrorCode.FENCED_LEADER_EPOCH:
            self.pause(following)  # there is a newer leader: the metadata will tell
        else:
            if following.failures == 3:
                logger.info(
                    "%s-%d: leader %d answers %s",
                    partition.topic,
                    partition.index,
                    self.leader_id,
                    _error(code).name,
                )
            self.pause(following, self._pause_of(following))

    def out_of_range(self, following: Following, start: int, end: int) -> None:
        """What ListOffsets said of the leader's log, after it had refused our offset (AbstractFetcherThread)."""
        partition = following.partition
        own_end = partition.log.log_end_offset
        try:
            if end < own_end:
                logger.warning(
                    "%s-%d: the leader's log ends at %d, before ours at %d: cutting it",
                    *(partition.topic, partition.index, end, own_end),
                )
                self._hosts.truncate(partition, end)
            elif start > own_end:
                logger.info(
                    "%s-%d: the leader's log begins at %d, ours ends at %d: starting again",
                    *(partition.topic, partition.index, start, own_end),
                )
                self._hosts.start_again(partition, start)
            elif start > partition.log.log_start_offset:
                partition.follow_marks(partition.high_watermark, start)
        except (KafkaError, OSError) as failure:
            self._failed(following, failure)
            return
        self.resume(following)

    def later(self, following: Following) -> None:
        """Try a partition again after a pause."""
        self.pause(following, self._pause_of(following))

    def _failed(self, following: Following, failure: Exception) -> None:
        """This broker could not take what it was given."""
        partition = following.partition
        if not following.failures:
            logger.error("%s-%d is not copied: %s", partition.topic, partition.index, failure)
        self.pause(following, self._pause_of(following))

    def _pause_of(self, following: Following) -> float:
        following.failures += 1
        return min(FIRST_PAUSE_SECONDS * 2.0 ** min(following.failures - 1, 16), self._hosts.backoff)

    def _session_refused(self, code: ErrorCode) -> None:
        if code in _SESSION_ERRORS and not self._failures:
            self._failures = 1
            self._new_life()
            self._send_if_useful()
        else:
            logger.info("%r: the leader refuses: %s", self, code.name)
            self._back_off()

    def _back_off(self) -> None:
        self._new_life()
        seconds = min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 16), self._hosts.backoff)
        self._failures += 1
        if self._timer is None and not self._closed:
            self._timer = self._hosts.loop.call_later(seconds, self._again)

    def _again(self) -> None:
        self._timer = None
        self._send_if_useful()


def _error(code: int) -> ErrorCode:
    try:
        return ErrorCode(code)  # type: ignore[call-arg]
    except ValueError:  # from a leader that knows more than we do
        return ErrorCode.UNKNOWN_SERVER_ERROR


def _ignore(answer: object, error: object) -> None:
    return
