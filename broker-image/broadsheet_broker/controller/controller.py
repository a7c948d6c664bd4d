"""The active controller: takes orders, appends records to the metadata log, answers when they are committed.

Every order is planned by a pure function over the pending image: what will be once everything appended so far is
committed. Its records go to the log as one atomic batch and into the pending image at once, so that the next order sees
them. When the log reports them committed, they go into the published image, every room hears of it, and then the order
is answered: whoever created a topic can use it at once. Orders that come while an fsync is under way share the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from broadsheet_broker.config import BrokerConfig, validate_topic_configs
from broadsheet_broker.controller import brokers, configs, elections, features, reassignments, topics
from broadsheet_broker.controller.brokers import Registration
from broadsheet_broker.controller.names import GROUP_METADATA_TOPIC, NameIndex
from broadsheet_broker.controller.plan import MAX_RECORDS, Context, Plan
from broadsheet_broker.controller.quorum import first_records, raft_settings, voter_set
from broadsheet_broker.controller.storage_tool import Identity
from broadsheet_broker.metadata.cache import MetadataCache
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import (
    DIRECTORY_UNASSIGNED,
    METADATA_VERSION,
    ClusterImage,
    Endpoint,
)
from broadsheet_broker.metadata.loader import Replayer
from broadsheet_broker.metadata.records import V4_3_IV0, decode_record, encode_record
from broadsheet_broker.metadata.snapshot_records import records_of
from broadsheet_broker.raft.node import Committed, RaftNode, SnapshotSource
from broadsheet_broker.raft.snapshot import SnapshotId
from broadsheet_broker.raft.voters import ReplicaKey
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.abort_transaction_record import AbortTransactionRecord
from broadsheet_broker.wire.messages.alter_configs_request import AlterConfigsRequest
from broadsheet_broker.wire.messages.alter_configs_response import AlterConfigsResponse
from broadsheet_broker.wire.messages.alter_partition_reassignments_request import AlterPartitionReassignmentsRequest
from broadsheet_broker.wire.messages.alter_partition_reassignments_response import AlterPartitionReassignmentsResponse
from broadsheet_broker.wire.messages.create_partitions_request import CreatePartitionsRequest
from broadsheet_broker.wire.messages.create_partitions_response import CreatePartitionsResponse
from broadsheet_broker.wire.messages.create_topics_request import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from broadsheet_broker.wire.messages.create_topics_response import CreateTopicsResponse
from broadsheet_broker.wire.messages.delete_topics_request import DeleteTopicsRequest
from broadsheet_broker.wire.messages.delete_topics_response import DeleteTopicsResponse
from broadsheet_broker.wire.messages.elect_leaders_request import ElectLeadersRequest
from broadsheet_broker.wire.messages.elect_leaders_response import ElectLeadersResponse
from broadsheet_broker.wire.messages.incremental_alter_configs_request import IncrementalAlterConfigsRequest
from broadsheet_broker.wire.messages.incremental_alter_configs_response import IncrementalAlterConfigsResponse
from broadsheet_broker.wire.messages.producer_ids_record import ProducerIdsRecord
from broadsheet_broker.wire.messages.update_features_request import UpdateFeaturesRequest
from broadsheet_broker.wire.messages.update_features_response import UpdateFeaturesResponse

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

PRODUCER_ID_BLOCK: Final = 1000
"""Producer ids that a broker takes at once (KIP-730)."""


class _Order:
    """Records on their way to being committed."""

    __slots__ = ("done", "records")

    def __init__(self, records: Sequence[Any], done: asyncio.Future[None]) -> None:
        self.records = records
        self.done = done


class Controller:
    """One node of the metadata quorum together with the decisions of its leader."""

    def __init__(
        self,
        environment: Environment,
        config: BrokerConfig,
        metadata: MetadataCache,
        identity: Identity,
        *,
        bound_ports: Mapping[str, int] | None = None,
    ) -> None:
        """`bound_ports`: by listener, where the configuration asks for port 0."""
        self._environment = environment
        self._config = config
        self._metadata = metadata
        self._identity = identity
        self._ports = dict(bound_ports or {})
        self.incarnation_id = environment.uuid()
        self.raft = RaftNode(
            environment,
            identity.metadata_directory,
            ReplicaKey(config.node_id, identity.metadata_directory_id),
            voter_set(config),
            raft_settings(config),
            self,
        )
        self._replayer = Replayer()
        self._committed = ClusterImage(cluster_id=identity.cluster_id)
        """Everything committed; published from the end of `start` on."""
        self._pending = self._committed
        """With everything appended on top."""
        self._loading: MetadataDelta | None = MetadataDelta(self._committed)
        """Gathers what is committed until the first image is published; None afterwards."""
        self._position: tuple[int, int, int] = (-1, -1, -1)
        """Offset, epoch and timestamp (ms) of the last committed record while loading."""
        self._names = NameIndex()
        self._orders: dict[_Order, None] = {}
        self._next_producer_id = 0
        self._last_producer_id = 0
        self._producer_block: asyncio.Task[None] | None = None
        self.on_failure: Callable[[KafkaError], None] | None = None
        """Called when the metadata log can no longer be written: the node should stop."""

    @property
    def cluster_id(self) -> str:
        return self._identity.cluster_id

    @property
    def is_active(self) -> bool:
        return self.raft.is_leader

    # Life.

    async def start(self) -> None:
        """Load the metadata, win the election, register this node, publish the first image."""
        await self.raft.start()
        if self._replayer.in_transaction:
            await self._append([AbortTransactionRecord(reason="The controller stopped within it.")])
        if METADATA_VERSION not in self._pending.features:
            await self._append(first_records(self._environment, self._identity.metadata_directory))
        brokers.check_features(self._pending)
        node_id = self._config.node_id
        self._append(brokers.register_controller(self._pending, node_id, self.incarnation_id, self._endpoints()))
        if self._config.is_broker:
            registration = self._registration()
            self._append_in_parts(brokers.register_broker(self._pending, registration, self.raft.storage.end_offset))
            self._append_in_parts(brokers.unfence_broker(self._pending, node_id))
        await self._all_committed()
        delta, self._loading = self._loading, None
        assert delta is not None
        self._committed = self._pending = delta.apply(*self._position, node_id)
        self._metadata.publish(delta, self._committed)

    async def stop(self) -> None:
        """Take this broker out of the cluster and close the metadata log."""
        if self.is_active and self._loading is None and self.raft.failure is None:
            try:
                self._append_in_parts(brokers.fence_broker(self._pending, self._config.node_id))
            except KafkaError as error:
                log.warning("The broker could not be fenced before it stops: %s", error.message)
            self._loading = MetadataDelta(self._committed)  # nobody is told that this broker is gone
        await self.raft.stop()

    def _registration(self) -> Registration:
        return Registration(
            broker_id=self._config.node_id,
            incarnation_id=self.incarnation_id,
            endpoints={item.name: Endpoint(item.host, item.port) for item in self._config.advertised(self._ports)},
            log_dirs=tuple(self._identity.directories.values()),
            rack=self._config.rack,
        )

    def _endpoints(self) -> dict[str, Endpoint]:
        return {
            item.name: Endpoint(item.host or "localhost", item.port or self._ports.get(item.name, 0))
            for item in self._config.controller_listeners
        }

    # Orders.

    async def create_topics(self, request: CreateTopicsRequest) -> CreateTopicsResponse:
        return await self._carry_out(topics.create_topics(self._context(), request))

    async def delete_topics(self, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
        if not self._config.get_bool("delete.topic.enable"):
            raise KafkaError(ErrorCode.TOPIC_DELETION_DISABLED)
        return await self._carry_out(topics.delete_topics(self._pending, request))

    async def create_partitions(self, request: CreatePartitionsRequest) -> CreatePartitionsResponse:
        return await self._carry_out(topics.create_partitions(self._context(), request))

    async def alter_configs(self, request: AlterConfigsRequest) -> AlterConfigsResponse:
        return await self._carry_out(configs.alter_configs(self._context(), request))

    async def incremental_alter_configs(
        self, request: IncrementalAlterConfigsRequest
    ) -> IncrementalAlterConfigsResponse:
        return await self._carry_out(configs.incremental_alter_configs(self._context(), request))

    async def elect_leaders(self, request: ElectLeadersRequest) -> ElectLeadersResponse:
        return await self._carry_out(elections.elect_leaders(self._pending, request))

    async def update_features(self, request: UpdateFeaturesRequest, version: int) -> UpdateFeaturesResponse:
        return await self._carry_out(features.update_features(self._pending, request, version))

    async def alter_partition_reassignments(
        self, request: AlterPartitionReassignmentsRequest
    ) -> AlterPartitionReassignmentsResponse:
        return await self._carry_out(reassignments.alter_reassignments(self._context(), request))

    async def ensure_internal_topic(self, name: str) -> None:
        """Create a topic that Kafka keeps for itself, as configured, unless it exists."""
        if name in self._metadata.image.topics_by_name:
            return
        request = CreateTopicsRequest(topics=[self._internal_topic(name)], timeout_ms=30_000)
        response = await self.create_topics(request)
        result = response.topics[0]
        if result.error_code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
            code = next(code for code in ErrorCode if code == result.error_code)
            raise KafkaError(code, result.error_message)

    def _internal_topic(self, name: str) -> CreatableTopic:
        config = self._config
        if name != GROUP_METADATA_TOPIC:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{name} is not an internal topic of this build.")
        values = {
            "cleanup.policy": "compact",
            "compression.type": "producer",
            "segment.bytes": str(config.get_int("offsets.topic.segment.bytes")),
        }
        return CreatableTopic(
            name=name,
            num_partitions=config.get_int("offsets.topic.num.partitions"),
            replication_factor=config.get_int("offsets.topic.replication.factor"),
            configs=[CreatableTopicConfig(name=key, value=value) for key, value in values.items()],
        )

    async def create_automatically(self, names: Sequence[str]) -> CreateTopicsResponse:
        """Create topics that a client asked about (auto.create.topics.enable); internal ones as configured."""
        wanted = [
            self._internal_topic(name)
            if name == GROUP_METADATA_TOPIC
            else CreatableTopic(name=name, num_partitions=-1, replication_factor=-1)
            for name in names
        ]
        return await self.create_topics(CreateTopicsRequest(topics=wanted, timeout_ms=30_000))

    async def allocate_producer_ids(self) -> tuple[int, int]:
        """The first id of a new block, and how many there are (KIP-730)."""
        first = self._pending.next_producer_id
        broker = self._pending.brokers.get(self._config.node_id)
        record = ProducerIdsRecord(
            broker_id=self._config.node_id,
            broker_epoch=-1 if broker is None else broker.epoch,
            next_producer_id=first + PRODUCER_ID_BLOCK,
        )
        await self._append([record])
        return first, PRODUCER_ID_BLOCK

    async def next_producer_id(self) -> int:
        """One producer id that nobody else gets, from this broker's block."""
        while self._next_producer_id >= self._last_producer_id:
            if self._producer_block is None:
                self._producer_block = self._environment.loop.create_task(self._take_block())
            await asyncio.shield(self._producer_block)
        self._next_producer_id += 1
        return self._next_producer_id - 1

    async def _take_block(self) -> None:
        try:
            first, count = await self.allocate_producer_ids()
            self._next_producer_id, self._last_producer_id = first, first + count
        finally:
            self._producer_block = None

    def _context(self) -> Context:
        return Context(
            image=self._pending,
            random=self._environment.random,
            new_id=self._environment.uuid,
            num_partitions=self._config.get_int("num.partitions"),
            replication_factor=self._config.get_int("default.replication.factor"),
            validate_topic_config=validate_topic_configs,
            colliding=self._names.colliding,
            directory_of=self._directory_of,
        )

    def _directory_of(self, broker_id: int) -> UUID:
        """A broker with one directory puts every replica there; one with several chooses, and tells later (KIP-858)."""
        directories = self._pending.brokers[broker_id].log_dirs
        return directories[0] if len(directories) == 1 else DIRECTORY_UNASSIGNED

    async def _carry_out(self, plan: Plan[Answer]) -> Answer:
        if plan.records:
            await self._append(plan.records)
        else:
            # The answer may speak of what is appended and not yet committed ("already exists").
            await self._all_committed()
        return plan.answer

    # The log.

    def _append(self, records: Sequence[Any]) -> asyncio.Future[None]:
        """Append records as one atomic batch; the future is done when they are published."""
        level = self._pending.features.get(METADATA_VERSION, V4_3_IV0)
        delta = MetadataDelta(self._pending)
        Replayer().replay(delta, [r for r in records if not isinstance(r, AbortTransactionRecord)])
        values = [encode_record(record, level) for record in records]
        order = _Order(records, self._environment.loop.create_future())
        offset = self.raft.append(values, order)
        self._orders[order] = None
        self._pending = delta.apply(offset, self.raft.epoch, self._environment.clock.time_ms())
        self._note_names(delta)
        return order.done

    def _append_in_parts(self, records: Sequence[Any]) -> None:
        """Append what need not be atomic, and may be more than one batch holds."""
        for start in range(0, len(records), MAX_RECORDS):
            self._append(records[start : start + MAX_RECORDS])

    async def _all_committed(self) -> None:
        if self._orders:
            await asyncio.shield(next(reversed(self._orders)).done)

    def _note_names(self, delta: MetadataDelta) -> None:
        for gone in delta.deleted_topics.values():
            self._names.discard(gone.name)
        for topic in delta.changed_topics.values():
            if topic.is_new:
                self._names.add(topic.name)

    # What the log says (raft.node.RaftListener).

    def load_snapshot(self, id: SnapshotId, timestamp_ms: int, values: Sequence[bytes]) -> None:
        assert self._loading is not None
        self._replayer.replay(self._loading, map(decode_record, values))
        self._position = (id.offset - 1, id.epoch, timestamp_ms)

    def handle_commit(self, batches: Sequence[Committed]) -> None:
        delta = MetadataDelta(self._committed) if self._loading is None else self._loading
        for batch in batches:
            records = batch.tag.records if batch.tag is not None else map(decode_record, batch.values)
            self._replayer.replay(delta, records)
        last = batches[-1]
        self._position = (last.last_offset, last.epoch, last.timestamp_ms)
        if self._loading is None:
            self._committed = delta.apply(*self._position)
            self._metadata.publish(delta, self._committed)
        for batch in batches:
            if batch.tag is not None:
                self._orders.pop(batch.tag, None)
                if not batch.tag.done.done():
                    batch.tag.done.set_result(None)

    def handle_append_failure(self, tags: Sequence[Any], error: KafkaError) -> None:
        """The disk refused what was appended: forget it, and say so to whoever ordered it."""
        self._pending = self._committed
        self._names = NameIndex(self._committed.topics_by_name)
        for order in tags:
            self._orders.pop(order, None)
            if not order.done.done():
                order.done.set_exception(error)
                order.done.exception()  # an order that nobody awaits is no unheard failure
        if self.raft.failure is not None and self.on_failure is not None:
            self.on_failure(self.raft.failure)

    def handle_leader(self, epoch: int, leader_id: int | None) -> None:
        if leader_id == self._config.node_id:
            log.info("Node %d leads the metadata quorum in epoch %d", leader_id, epoch)
            if self._loading is not None:
                self._pending = self._loading.apply(*self._position, leader_id)
                self._names = NameIndex(self._pending.topics_by_name)

    def snapshot_source(self) -> SnapshotSource | None:
        if self._loading is not None:
            return None
        image = self._committed
        level = image.features.get(METADATA_VERSION, V4_3_IV0)
        return SnapshotSource(
            image.offset,
            image.epoch,
            image.timestamp_ms,
            lambda: (encode_record(record, level) for record in records_of(image)),
        )
