"""All partitions that this broker holds, kept in step with the cluster's metadata.

The metadata image says what should be; `ReplicaManager.apply` makes it so: opens and deletes logs, hands over
leadership, follows configuration. Everybody else asks here for a partition and gets it or one of Kafka's errors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from broadsheet_broker.log.config import LogConfig
from broadsheet_broker.log.errors import kept
from broadsheet_broker.metadata.image import DIRECTORY_UNASSIGNED, ResourceType
from broadsheet_broker.replication import metrics, selector
from broadsheet_broker.replication.appending import AppendTurn, InternalAppend, RefusedAppend
from broadsheet_broker.replication.in_sync import ANY_EPOCH, IsrAnswered, IsrChange, IsrChanges
from broadsheet_broker.replication.partition import ALL_ACKS, Partition
from broadsheet_broker.replication.reopening import Reopening
from broadsheet_broker.replication.replica_fetchers import ReplicaFetchers
from broadsheet_broker.replication.sessions import FetchSessions, Position
from broadsheet_broker.replication.throttle import Throttle, ThrottledTopics
from broadsheet_broker.replication.watermarks import Watermarks
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.config import BrokerConfig
    from broadsheet_broker.log import LogManager, StorageError
    from broadsheet_broker.metadata import MetadataCache
    from broadsheet_broker.metadata.delta import MetadataDelta
    from broadsheet_broker.metadata.image import ClusterImage, PartitionImage, TopicImage
    from broadsheet_broker.replication.fetch_request import Fetch
    from broadsheet_broker.replication.position_reader import Reader
    from broadsheet_broker.seams import Environment
    from broadsheet_broker.wire.peers import Peers

logger = logging.getLogger(__name__)

LeadershipCallback = Callable[[str, int, int | None], None]
"""Topic, partition, and the leader epoch in which this broker leads it now, or None when it does not."""

FOLLOWER_ANSWER_BYTES = 4 * 1024 * 1024
"""Most bytes of records in one answer to a follower, which appends all of them in one turn of its loop."""

ISR_RETRY_SECONDS = 0.1
"""Pause before a proposal is sent again that the controller could not carry out."""

_READ_BYTES = 1024 * 1024
"""How much `read_committed_log` takes from a log at a time."""


class ReplicaManager:
    """The partitions of this broker."""

    def __init__(
        self, environment: Environment, config: BrokerConfig, logs: LogManager, metadata: MetadataCache
    ) -> None:
        self.environment = environment
        self.config = config
        self.logs: LogManager = logs
        self.metadata = metadata
        self.broker_id: int = config.node_id
        self.turn = AppendTurn(environment.loop)
        self.sessions: FetchSessions = FetchSessions(
            config.get_int("max.incremental.fetch.session.cache.slots"), environment.random, environment
        )
        self.fetch_max_bytes = config.get_int("fetch.max.bytes")
        self._by_name: dict[str, dict[int, Partition]] = {}
        self._by_id: dict[UUID, dict[int, Partition]] = {}
        self._offline: dict[tuple[str, int], KafkaError] = {}
        """Partitions that should be here but whose log cannot be opened, and why."""
        self.on_served_again: Callable[[TopicImage, int], None] = lambda topic, index: None
        """Told of each of them that is served later than the metadata were taken up."""
        self.may_be_replaced: Callable[[], bool] = lambda: False
        """Whether others may lead what this broker leads, as far as it knows."""
        self._leadership_callbacks: list[LeadershipCallback] = []
        self.watermarks = Watermarks(
            environment,
            logs,
            config.get_int("replica.high.watermark.checkpoint.interval.ms") / 1000,
            self.partitions,
        )
        self._reopening: Reopening | None = None
        self._parsed_config: tuple[Mapping[str, str], LogConfig] | None = None
        self.lag_ms = config.get_int("replica.lag.time.max.ms")
        self.last_fetch_ms: dict[int, int] = {}
        self.leader_throttle = Throttle()
        """leader.replication.throttled.rate"""
        self.prefers_own_rack = config.get_optional_str("replica.selector.class") == selector.RACK_AWARE
        self._fetchers: ReplicaFetchers | None = None
        self._isr_changes: IsrChanges | None = None
        self._shrink_timer: asyncio.TimerHandle | None = None
        self._throttled = ThrottledTopics(self.broker_id)
        self._isr_shrinks = environment.metrics.counter(
            "kafka_server_replicamanager_isrshrinks_total", "ISRs of partitions led here that lost a member."
        )
        self._isr_expands = environment.metrics.counter(
            "kafka_server_replicamanager_isrexpands_total", "ISRs of partitions led here that gained a member."
        )
        self._isr_failures = environment.metrics.counter(
            "kafka_server_replicamanager_failedisrupdates_total", "Proposals of ISRs that the controller refused."
        )
        self._bytes_out = environment.metrics.counter(
            "kafka_server_brokertopicmetrics_replicationbytesout_total", "Bytes of batches sent to followers."
        )
        metrics.register(environment.metrics, self)

    # -- life ---------------------------------------------------------------------------------------------------------

    def connect(self, peers: Peers, isr_changes: IsrChanges) -> None:
        """Be one of several brokers: copy from leaders, and have ISRs changed. Call before the first `apply`."""
        self._isr_changes = isr_changes
        self._fetchers = ReplicaFetchers(
            self.environment,
            self.config,
            self.metadata,
            self.logs,
            peers,
            self._throttled.follower_is_held_back,
        )

    def start(self) -> None:
        """Read the high watermark checkpoints and write them from now on. Call before the first `apply`."""
        self.watermarks.start()
        tell = self.logs.on_directory_failure

        def directory_failed(path: str, error: StorageError) -> None:
            self._lose_directory(path, error)
            tell(path, error)

        self.logs.on_directory_failure = directory_failed
        self._schedule_shrinking()
        self._reopening = Reopening(self, self._offline)

    def _lose_directory(self, path: str, error: StorageError) -> None:
        """Every partition in a failed log directory is offline until the broker starts again."""
        for partition in [found for found in self.partitions() if found.log.parent == path]:
            self._offline[partition.topic, partition.index] = error
            self._forget(partition, ErrorCode.KAFKA_STORAGE_ERROR)

    async def close(self) -> None:
        """Finish what this loop turn appended and write the checkpoints. The logs are closed by their manager."""
        self._stop_copying()
        await self.watermarks.stop()
        if self._reopening is not None:
            await self._reopening.close()
        self.turn.flush()
        self.watermarks.checkpoint()

    def kill(self) -> None:
        """End as a killed process would: no timer fires again, nothing more is written (simulation)."""
        self._stop_copying()
        self.watermarks.kill()
        if self._reopening is not None:
            self._reopening.kill()
        self.turn.kill()

    def _stop_copying(self) -> None:
        if self._fetchers is not None:
            self._fetchers.close()
            self._fetchers = None
        if self._shrink_timer is not None:
            self._shrink_timer.cancel()
            self._shrink_timer = None

    # -- metadata -----------------------------------------------------------------------------------------------------

    def apply(self, delta: MetadataDelta, image: ClusterImage) -> None:
        """Follow one change of the metadata: deletions, then configuration, then new and changed partitions.

        A smaller ISR is taken up with the `min.insync.replicas` that the controller had in mind for it (KIP-966).
        """
        for gone in delta.deleted_topics.values():
            self._delete_topic(gone)
        for resource in delta.changed_configs:
            if resource.type == ResourceType.TOPIC:
                self._reconfigure(resource.name)
            elif resource.type == ResourceType.BROKER:
                self._reconfigure_broker()
        for changed in delta.changed_topics.values():
            topic = image.topics_by_id.get(changed.id)
            if topic is not None:
                for index in changed.changed:
                    self._apply_partition(topic, index, topic.partitions[index])

    def serve_again(self, name: str, index: int) -> None:
        """Serve a partition that is offline, as the metadata have it now, if its log can be opened."""
        topic = self.metadata.image.topics_by_name.get(name)
        if topic is not None and index < len(topic.partitions):
            self._apply_partition(topic, index, topic.partitions[index])
            if index in self._by_name.get(name, {}):
                self.on_served_again(topic, index)

    def _apply_partition(self, topic: TopicImage, index: int, state: PartitionImage) -> None:
        name = topic.name
        hosted = self._by_name.get(name, {}).get(index)
        if self.broker_id not in state.replicas:
            if hosted is not None:
                self._drop(hosted)
            elif (name, index) in self._offline:
                self._give_up(name, index)
            return
        if hosted is None:
            assigned = state.directories[state.replicas.index(self.broker_id)]
            hosted = self._open(topic, index, None if assigned == DIRECTORY_UNASSIGNED else assigned)
            if hosted is None:
                return
        if state.leader == self.broker_id:
            if self._fetchers is not None:
                self._fetchers.stop(hosted)
            if hosted.become_leader(state):
                self._tell_leadership(name, index, state.leader_epoch)
            return
        if hosted.become_follower(state):
            self._tell_leadership(name, index, None)
        if self._fetchers is not None:
            if state.leader >= 0:
                self._fetchers.follow(hosted)
            else:
                self._fetchers.stop(hosted)

    def _open(self, topic: TopicImage, index: int, directory_id: UUID | None) -> Partition | None:
        name = topic.name
        try:
            config = self._log_config(name)
            partition_log = self.logs.get_or_create(name, index, topic.id, config, directory_id)
        except (KafkaError, OSError, ValueError) as error:
            reason = kept(error)
            if str(reason) != str(self._offline.get((name, index))):  # it may be tried again and again
                logger.error("%s-%d is offline: %s", name, index, error)
            self._offline[name, index] = reason
            return None
        self._offline.pop((name, index), None)
        partition = Partition(
            name,
            index,
            topic.id,
            partition_log,
            broker_id=self.broker_id,
            queue=self.turn,
            counters=self.environment.metrics.topic(name),
            high_watermark=self.watermarks.take(name, index),
            min_insync_replicas=config.min_insync_replicas,
            cluster=self,
        )
        partitions = self._by_name.get(name)
        if partitions is None:
            partitions = self._by_name[name] = self._by_id[topic.id] = {}
            self._throttled.read(name, self.metadata.topic_config(name))
        partitions[index] = partition
        return partition

    def _log_config(self, name: str) -> LogConfig:
        """Parsed once for all topics that have the same effective values object: those without values of their own."""
        values = self.metadata.topic_config(name)
        if self._parsed_config is None or self._parsed_config[0] is not values:
            self._parsed_config = values, LogConfig.of(values)
        return self._parsed_config[1]

    def _drop(self, partition: Partition) -> None:
        """Stop serving a replica and delete its log."""
        self._forget(partition, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        try:
            self.logs.delete(partition.topic, partition.index)
        except (KafkaError, OSError) as error:
            logger.error("the log of %s-%d could not be deleted: %s", partition.topic, partition.index, error)

    def _forget(self, partition: Partition, code: ErrorCode) -> None:
        """Stop serving a replica: requests that wait for it are answered with `code`."""
        was_leader = partition.is_leader
        if self._fetchers is not None:
            self._fetchers.stop(partition)
        partitions = self._by_name.get(partition.topic, {})
        partitions.pop(partition.index, None)
        if not partitions:
            self._by_name.pop(partition.topic, None)
            self._by_id.pop(partition.topic_id, None)
        partition.retire(code)
        if was_leader:
            self._tell_leadership(partition.topic, partition.index, None)

    def set_strays_aside(self) -> None:
        """Logs of replicas that were taken from this broker, or whose topic was deleted, while it was away.

        Call once the metadata are up to date: an old image would know nothing of a new replica.
        """
        image = self.metadata.image
        for own in list(self.logs):
            if own.topic_id is None or (own.topic, own.partition) in self._offline:
                continue
            topic = image.topics_by_id.get(own.topic_id)
            known = topic is not None and own.partition < len(topic.partitions)
            if topic is None or not known or self.broker_id not in topic.partitions[own.partition].replicas:
                try:
                    self.logs.set_aside(own)
                except (KafkaError, OSError) as error:
                    logger.error("%s-%d cannot be set aside: %s", own.topic, own.partition, error)

    def _delete_topic(self, topic: TopicImage) -> None:
        for partition in list(self._by_id.get(topic.id, {}).values()):
            self._drop(partition)
        for name, index in [key for key in self._offline if key[0] == topic.name]:
            self._give_up(name, index)
        self.environment.metrics.forget_topic(topic.name)
        self._throttled.forget(topic.name)

    def _give_up(self, name: str, index: int) -> None:
        """An offline replica was moved away or deleted. Its log, if there is one, is kept under another name."""
        del self._offline[name, index]
        try:
            self.logs.delete(name, index)
        except (KafkaError, OSError) as error:
            logger.error("the log of %s-%d could not be moved aside: %s", name, index, error)

    def _reconfigure(self, name: str) -> None:
        partitions = self._by_name.get(name)
        if not partitions:
            return
        try:
            config = self._log_config(name)
        except ValueError as error:
            logger.error("%s keeps its old configuration: %s", name, error)
            return
        self._throttled.read(name, self.metadata.topic_config(name))
        for partition in partitions.values():
            partition.log.reconfigure(config)
            partition.require_replicas(config.min_insync_replicas)

    def _reconfigure_broker(self) -> None:
        now = self.environment.monotonic()
        for name in self._by_name:
            self._reconfigure(name)
        self.leader_throttle.set_rate(self._dynamic_int("leader.replication.throttled.rate"), now)
        if self._fetchers is not None:
            self._fetchers.throttle.set_rate(self._dynamic_int("follower.replication.throttled.rate"), now)
            self._fetchers.per_leader = self._dynamic_int("num.replica.fetchers")

    def _dynamic_int(self, name: str) -> int:
        value = self.metadata.broker_config(name)
        return self.config.get_int(name) if value is None else int(value)

    def on_leadership_change(self, callback: LeadershipCallback) -> None:
        """Call back whenever this broker begins or ceases to lead a partition."""
        self._leadership_callbacks.append(callback)

    def _tell_leadership(self, topic: str, index: int, leader_epoch: int | None) -> None:
        for callback in self._leadership_callbacks:
            callback(topic, index, leader_epoch)

    # -- finding ------------------------------------------------------------------------------------------------------

    def partition(self, topic: str, index: int) -> Partition:
        """The replica held here, leader or not; else the KafkaError for the client."""
        partitions = self._by_name.get(topic)
        found = partitions.get(index) if partitions is not None else None
        if found is None:
            raise self._missing(topic, index)
        return found

    def partition_by_id(self, topic_id: UUID, index: int) -> Partition:
        partitions = self._by_id.get(topic_id)
        found = partitions.get(index) if partitions is not None else None
        if found is None:
            topic = self.metadata.image.topics_by_id.get(topic_id)
            if topic is None:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
            raise self._missing(topic.name, index)
        return found

    def locate(self, position: Position) -> Partition:
        """The partition that a reader asks for, in the way it asks: by name or by id."""
        topic = position.topic
        if topic.name:
            return self.partition(topic.name, position.index)
        return self.partition_by_id(topic.id, position.index)

    def _missing(self, topic: str, index: int) -> KafkaError:
        reason = self._offline.get((topic, index))
        if reason is not None:
            return KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"Partition {topic}-{index} is offline: {reason}")
        if self.metadata.image.partition(topic, index) is not None:
            return KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def partitions(self) -> Iterator[Partition]:
        """Every replica held here."""
        for partitions in self._by_name.values():
            yield from partitions.values()

    def is_in_doubt(self, topic: str, index: int) -> bool:
        """Whether another broker may lead a partition that is led here."""
        found = self._by_name.get(topic, {}).get(index)
        return found is not None and found.is_leader and found.may_be_replaced

    def finish_soon(self, fetch: Fetch) -> None:
        self.turn.finish_soon(fetch)

    def time_ms(self) -> int:
        return self.environment.clock.time_ms()

    def preferred_replica(self, partition: Partition, reader: Reader, fetch_offset: int) -> int:
        return selector.preferred_replica(partition, self.metadata.image, reader.listener, reader.rack, fetch_offset)

    def may_send(self, partition: Partition, replica: int) -> bool:
        """False while the throttle of leaders holds a follower back."""
        return (
            not self._throttled
            or not self._throttled.leader_counts(partition, replica)
            or self.leader_throttle.delay(self.environment.monotonic()) <= 0
        )

    def sent_to_follower(self, partition: Partition, replica: int, size: int) -> None:
        self._bytes_out.value += size
        if self._throttled and self._throttled.leader_counts(partition, replica):
            self.leader_throttle.record(size, self.environment.monotonic())

    @property
    def offline_count(self) -> int:
        """Partitions that should be here and cannot be served."""
        return len(self._offline)

    # -- in sync ------------------------------------------------------------------------------------------------------

    def follower_fetches(self, broker_id: int) -> None:
        """A Fetch of a follower is here: it lives and asks."""
        self.last_fetch_ms[broker_id] = self.environment.clock.time_ms()

    def broker_epoch(self, broker_id: int) -> int:
        broker = self.metadata.image.brokers.get(broker_id)
        return ANY_EPOCH if broker is None or broker.fenced else broker.epoch

    def may_join_isr(self, broker_id: int, broker_epoch: int) -> bool:
        broker = self.metadata.image.brokers.get(broker_id)
        return broker is not None and broker.is_active and broker_epoch in (ANY_EPOCH, broker.epoch)

    def alter_partition(self, change: IsrChange, answered: IsrAnswered) -> None:
        if self._isr_changes is not None:
            self._isr_changes.alter_partition(change, answered)

    def isr_changed(self, grown: int) -> None:
        if grown:
            (self._isr_expands if grown > 0 else self._isr_shrinks).value += 1

    def isr_refused(self) -> None:
        self._isr_failures.value += 1

    @property
    def largest_lag(self) -> int:
        """Records by which the replica that is furthest behind is behind its leader's high watermark."""
        if self._fetchers is None:
            return 0
        return max((following.lag for following in self._fetchers.followings()), default=0)

    def alter_partition_later(self, change: IsrChange, answered: IsrAnswered) -> None:
        self.environment.loop.call_later(ISR_RETRY_SECONDS, self.alter_partition, change, answered)

    def _schedule_shrinking(self) -> None:
        self._shrink_timer = self.environment.loop.call_later(self.lag_ms / 2000, self._shrink)

    def _shrink(self) -> None:
        self._schedule_shrinking()
        now_ms = self.time_ms()
        for partition in self.partitions():
            partition.shrink_isr(now_ms)

    # -- for the coordinators -----------------------------------------------------------------------------------------

    def append_internal(
        self, topic: str, index: int, batch: bytes | bytearray, callback: Callable[[ErrorCode, int], None]
    ) -> None:
        """Append with acks=all; call back with the base offset when committed, or with why not."""
        try:
            partition = self.partition(topic, index)
            now = self.environment.clock.time_ms()
            info = partition.append(batch, ALL_ACKS, now, origin="coordinator")
        except KafkaError as error:
            self.turn.after_flush(RefusedAppend(error.code, callback))
            return
        self.turn.after_flush(InternalAppend(partition, info.first_offset, info.last_offset + 1, callback))

    def read_committed_log(self, topic: str, index: int, from_offset: int = 0) -> Iterator[bytes]:
        """A partition led here, in chunks of whole batches: for loading coordinators.

        All of it: what was committed under the last leader is in this log, but this leader's high watermark may be
        behind until its followers have fetched. What was not committed will be, unless this broker loses the lead.
        """
        partition = self.partition(topic, index)
        if not partition.is_leader:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        offset = max(from_offset, partition.log.log_start_offset)
        while offset < partition.flushed_end_offset:
            fetched = partition.log.read(offset, _READ_BYTES, limit_offset=partition.flushed_end_offset, min_one=True)
            if not fetched.data:
                return
            yield bytes(fetched.data)
            offset = fetched.next_offset
