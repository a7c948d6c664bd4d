"""The canary's connections, over kafka-python's: carries out what the state machine asks for, and reports what came.

Writing, reading and looking have connections of their own, because a broker answers the requests of one connection in
their order: a Fetch that waits, or a record that waits for its replicas, must not delay the others. Everything here
runs in one thread, the library's loop; times are taken where bytes arrive.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import errors as kafka_errors
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest
from kafka.protocol.metadata import MetadataRequest
from kafka.protocol.producer import ProduceRequest
from kafka.record import MemoryRecords, MemoryRecordsBuilder

from broadsheet_operator.canary.messages import (
    Acknowledged,
    Answer,
    Effect,
    Event,
    FindEnd,
    Found,
    Look,
    Looked,
    NotConnected,
    NotFound,
    NotLooked,
    NotRead,
    Outcome,
    PartitionPlace,
    PartitionRead,
    Read,
    Refused,
    Send,
    payload,
)

logger = logging.getLogger(__name__)

CLIENT_ID = "broadsheet-canary"
LATEST, EARLIEST = -1, -2
CONNECT_MS = 3000
LOOK_MS = 3000
READ_WAIT_MS = 2000
"""How long a broker may hold a Fetch back while there is nothing to read."""
READ_MS = READ_WAIT_MS + 3000
READ_BYTES = 256 * 1024
IN_FLIGHT = 64
"""kafka-python holds further requests of a connection back when so many are on their way."""
BY_NAME = {"produce": 12, "fetch": 12}
"""The last versions of Produce and Fetch that name topics by name."""
UNKNOWN_TOPIC = 3
_NOT_STORED = frozenset(["NOT_ENOUGH_REPLICAS", "THROTTLING_QUOTA_EXCEEDED"])
"""Errors that a broker finds before it appends. Others may come after it, NOT_LEADER_OR_FOLLOWER as well: a leader that
has appended and is replaced before its followers have the record answers with that."""
_MEANING = {
    "NOT_ENOUGH_REPLICAS": "fewer replicas are in sync than min.insync.replicas asks for",
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": "fewer replicas are in sync than min.insync.replicas asks for",
    "TOPIC_AUTHORIZATION_FAILED": "the canary may not use the topic",
    "REQUEST_TIMED_OUT": "its followers did not answer in time",
}


class Network:
    """Connections to one cluster."""

    def __init__(
        self,
        servers: Sequence[str],
        topic: str,
        session: str,
        post: Callable[[Event], None],
        attempt_seconds: float = 5.0,
    ) -> None:
        """`post` takes what happened, from another thread. `attempt_seconds`: what a broker may take for a record."""
        self._topic = topic
        self._session = session
        self._post = post
        self._attempt_ms = int(attempt_seconds * 1000)
        self._net = NetworkSelector(client_id=CLIENT_ID)
        self._writing, self._reading, self._looking = (self._manager(servers) for _ in range(3))
        self._connections: dict[tuple[int, int | str], Any] = {}
        """The connection that was last made, by manager and broker."""
        self._why: dict[int | str, str] = {}
        """Why a broker could not be connected to."""
        self._turn = 0
        self._net.start()

    def _manager(self, servers: Sequence[str]) -> Any:
        return KafkaConnectionManager(
            self._net,
            bootstrap_servers=list(servers),
            client_id=CLIENT_ID,
            reconnect_backoff_ms=50,
            reconnect_backoff_max_ms=1000,
            max_in_flight_requests_per_connection=IN_FLIGHT,
        )

    @property
    def is_alive(self) -> bool:
        """Whether the library's loop runs."""
        try:
            self._net.call_soon_threadsafe(lambda: None)
        except Exception:  # what ended it
            return False
        return True

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Begin requests; their outcomes are posted."""
        if effects:
            self._net.call_soon_threadsafe(lambda: self._begin(effects))

    def close(self) -> None:
        """Let go of connections and of the thread."""
        for manager in (self._writing, self._reading, self._looking):
            self._net.call_soon_threadsafe(manager.close)
        self._net.stop(timeout_ms=2000)

    # -- requests (in the library's thread) ----------------------------------------------------------------------------

    def _begin(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Look():
                    self._look()
                case FindEnd():
                    self._find(effect)
                case Send():
                    self._send(effect)
                case Read():
                    self._read(effect)

    def _ask(
        self,
        manager: Any,
        node: int | str,
        request: Any,
        timeout_ms: int,
        done: Callable[[Any], None],
        failed: Callable[[str, bool], None],
    ) -> None:
        """One request. `failed` is given why, and whether the request may have reached the broker."""
        try:
            connection = manager.get_connection(node, timeout_ms=CONNECT_MS, refresh_metadata_on_err=False)
        except kafka_errors.NodeNotReadyError:
            failed(self._why.get(node, f"broker {node} cannot be reached"), False)
            return
        except kafka_errors.UnknownBrokerIdError:
            failed(f"broker {node} is not in the metadata", False)
            return
        except Exception as error:  # what the library remembers of a refused login, for example
            failed(_plain(error), False)
            return
        if self._connections.get((id(manager), node)) is not connection:
            self._connections[id(manager), node] = connection
            connection.init_future.add_errback(lambda error: self._not_connected(node, error))
        pending = connection.send_request(request, request_timeout_ms=timeout_ms)
        pending.add_callback(lambda answer: self._guarded(done, answer, failed))
        pending.add_errback(lambda error: failed(_plain(error), not connection.init_future.failed()))

    def _guarded(self, done: Callable[[Any], None], answer: Any, failed: Callable[[str, bool], None]) -> None:
        try:
            done(answer)
        except Exception as error:
            logger.exception("an answer could not be read")
            failed(f"an answer could not be read: {error!r}", True)

    def _not_connected(self, node: int | str, error: BaseException) -> None:
        self._why[node] = words = f"cannot connect to broker {node}: {_plain(error)}"
        if isinstance(node, int):
            self._post(NotConnected(time.monotonic(), node, words))

    def _look(self) -> None:
        cluster = self._looking.cluster
        known = [broker.node_id for broker in cluster.brokers()] + [b.node_id for b in cluster.bootstrap_brokers()]
        node = known[self._turn % len(known)]
        topic = MetadataRequest.MetadataRequestTopic(name=self._topic)
        request = MetadataRequest(topics=[topic], allow_auto_topic_creation=False)

        def failed(words: str, _: bool) -> None:
            self._turn += 1  # another broker is asked next time
            self._post(NotLooked(time.monotonic(), words))

        self._ask(self._looking, node, request, LOOK_MS, self._looked, failed)

    def _looked(self, answer: Any) -> None:
        now = time.monotonic()
        for manager in (self._writing, self._reading, self._looking):
            manager.cluster.update_metadata(answer)
        topic = next((t for t in answer.topics if t.name == self._topic), None)
        if topic is None or topic.error_code not in (0, UNKNOWN_TOPIC):
            name = _name(topic.error_code) if topic is not None else "the topic is not in the answer"
            self._post(NotLooked(now, _explained(name)))
            return
        partitions = {
            p.partition_index: PartitionPlace(
                p.leader_id if p.leader_id >= 0 else None, p.replica_nodes[0] if p.replica_nodes else None
            )
            for p in topic.partitions
        }
        brokers = frozenset(b.node_id for b in answer.brokers)
        topic_id = str(getattr(topic, "topic_id", "") or "-") if topic.error_code == 0 else None
        self._post(Looked(now, topic_id, partitions, brokers))

    def _find(self, effect: FindEnd) -> None:
        ends: dict[int, int] = {}
        failed = False

        def fail(words: str, _: bool = False) -> None:
            nonlocal failed
            if not failed:
                failed = True
                self._post(NotFound(time.monotonic(), effect.partition, words))

        def found(timestamp: int, answer: Any) -> None:
            place = answer.topics[0].partitions[0]
            if place.error_code:
                fail(_name(place.error_code))
                return
            ends[timestamp] = place.offset
            if len(ends) == 2 and not failed:
                now = time.monotonic()
                self._post(Found(now, effect.partition, ends[EARLIEST], ends[LATEST]))

        topic = ListOffsetsRequest.ListOffsetsTopic
        for timestamp in (EARLIEST, LATEST):
            place = topic.ListOffsetsPartition(
                partition_index=effect.partition, current_leader_epoch=-1, timestamp=timestamp
            )
            request = ListOffsetsRequest(
                replica_id=-1, isolation_level=0, topics=[topic(name=self._topic, partitions=[place])]
            )
            self._ask(self._looking, effect.node, request, LOOK_MS, _bound(found, timestamp), fail)

    def _send(self, effect: Send) -> None:
        builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1024)
        value = payload(self._session, effect.partition, effect.number)
        builder.append(timestamp=int(time.time() * 1000), key=None, value=value)
        builder.close()
        topic = ProduceRequest.TopicProduceData
        part = topic.PartitionProduceData(index=effect.partition, records=builder.buffer())
        request = ProduceRequest(
            transactional_id=None,
            acks=-1,
            timeout_ms=self._attempt_ms,
            topic_data=[topic(name=self._topic, partition_data=[part])],
            min_version=3,
            max_version=BY_NAME["produce"],
        )

        def refused(words: str, may_be_stored: bool) -> None:
            outcome = Outcome.UNKNOWN if may_be_stored else Outcome.NOT_STORED
            now = time.monotonic()
            self._post(Refused(now, effect.node, effect.partition, effect.number, outcome, words))

        def answered(answer: Any) -> None:
            now = time.monotonic()
            place = answer.responses[0].partition_responses[0]
            if not place.error_code:
                self._post(Acknowledged(now, effect.node, effect.partition, effect.number, place.base_offset))
                return
            name = _name(place.error_code)
            outcome = _outcome(place.error_code, name)
            self._post(Refused(now, effect.node, effect.partition, effect.number, outcome, _explained(name)))

        self._ask(self._writing, effect.node, request, self._attempt_ms, answered, refused)

    def _read(self, effect: Read) -> None:
        asked_at = time.monotonic()
        topic = FetchRequest.FetchTopic
        request = FetchRequest(
            max_wait_ms=READ_WAIT_MS,
            min_bytes=1,
            max_bytes=READ_BYTES,
            isolation_level=0,
            session_id=0,
            session_epoch=-1,
            topics=[topic(topic=self._topic, partitions=_fetched(topic, effect.offsets))],
            forgotten_topics_data=[],
            rack_id="",
            min_version=4,
            max_version=BY_NAME["fetch"],
        )

        def answered(answer: Any) -> None:
            now = time.monotonic()
            code = getattr(answer, "error_code", 0)
            if code:
                self._post(NotRead(now, effect.node, _name(code)))
                return
            partitions = {p.partition_index: _partition_read(p) for entry in answer.responses for p in entry.partitions}
            self._post(Answer(now, effect.node, asked_at, partitions))

        self._ask(
            self._reading, effect.node, request, READ_MS, answered,
            lambda words, _: self._post(NotRead(time.monotonic(), effect.node, words)),
        )  # fmt: skip


def _bound(function: Callable[[int, Any], None], first: int) -> Callable[[Any], None]:
    return lambda second: function(first, second)


def _fetched(topic: Any, offsets: Mapping[int, int]) -> list[Any]:
    return [
        topic.FetchPartition(
            partition=index,
            current_leader_epoch=-1,
            fetch_offset=offset,
            last_fetched_epoch=-1,
            log_start_offset=-1,
            partition_max_bytes=READ_BYTES,
        )
        for index, offset in offsets.items()
    ]


def _partition_read(place: Any) -> PartitionRead:
    if place.error_code:
        return PartitionRead(error=_name(place.error_code))
    records: list[tuple[int, bytes | None]] = []
    behind = None
    data = MemoryRecords(place.records or b"")
    while data.has_next():
        batch = data.next_batch()
        if not batch.validate_crc():
            return PartitionRead(error="CORRUPT_MESSAGE")
        records += [(record.offset, record.value) for record in batch]
        behind = batch.next_offset
    return PartitionRead(getattr(place, "log_start_offset", 0), tuple(records), behind)


def _name(code: int) -> str:
    error = kafka_errors.for_code(code)
    return str(getattr(error, "message", "") or error.__name__)


def _outcome(code: int, name: str) -> Outcome:
    if name in _NOT_STORED:
        return Outcome.NOT_STORED
    error = kafka_errors.for_code(code)
    retriable = name == "UNKNOWN" or (isinstance(error, type) and issubclass(error, kafka_errors.RetriableError))
    return Outcome.UNKNOWN if retriable else Outcome.FINAL


def _explained(name: str) -> str:
    return f"{name} ({_MEANING[name]})" if name in _MEANING else name


def _plain(error: BaseException) -> str:
    name = type(error).__name__
    text = re.sub(rf"^(\[Error -?\d+\] )?{name}(: )?", "", str(error).strip()).strip()
    return text or {"KafkaConnectionError": "the connection was closed"}.get(name, name)
