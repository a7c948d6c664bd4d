"""One node's part in the metadata: it reads the log, publishes what is committed, and rules while it leads the quorum.

* Every node reads the metadata log (as a voter or an observer) and publishes images: `metadata.publisher`.
* The leader of the quorum is the active controller: `active.ActiveController`, one for each reign.
* Orders are given to this class, on whatever node: it carries them out here, or sends them to the active controller.
* A broker registers and reports: `lifecycle.BrokerLifecycle`.

A quorum of one that is broker as well has all of this in one process, and nobody to wait for: it registers itself and
takes part with its first records, so that it is up after one fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from broadsheet_broker.config import BrokerConfig
from broadsheet_broker.config.internal_topics import INTERNAL_TOPICS
from broadsheet_broker.controller import brokers
from broadsheet_broker.controller.active import ActiveController, Order
from broadsheet_broker.controller.brokers import Registration
from broadsheet_broker.controller.liveness import ProcessWatch
from broadsheet_broker.metadata.cache import MetadataCache
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import METADATA_VERSION, BrokerInfo, ClusterImage, Endpoint
from broadsheet_broker.metadata.publisher import MetadataPublisher, Position
from broadsheet_broker.metadata.records import V4_3_IV0, decode_record, encode_record
from broadsheet_broker.metadata.snapshot_records import records_of
from broadsheet_broker.node.directory_reports import DirectoryReports
from broadsheet_broker.node.forwarding import Forwarder, Leader, error_code
from broadsheet_broker.node.identity import Identity
from broadsheet_broker.node.isr_proposals import IsrProposals
from broadsheet_broker.node.lifecycle import BrokerLifecycle
from broadsheet_broker.node.quorum import first_records, raft_settings, voter_set
from broadsheet_broker.node.stepping_aside import SteppingAside, may_step_aside
from broadsheet_broker.raft.node import Committed, RaftNode, SnapshotSource
from broadsheet_broker.raft.snapshot import SnapshotId
from broadsheet_broker.raft.voters import ReplicaKey
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages import controller_registration_request as registration_request
from broadsheet_broker.wire.messages.allocate_producer_ids_request import AllocateProducerIdsRequest
from broadsheet_broker.wire.messages.allocate_producer_ids_response import AllocateProducerIdsResponse
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
from broadsheet_broker.wire.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState
from broadsheet_broker.wire.messages.delete_topics_response import DeleteTopicsResponse
from broadsheet_broker.wire.messages.elect_leaders_request import ElectLeadersRequest
from broadsheet_broker.wire.messages.elect_leaders_response import ElectLeadersResponse
from broadsheet_broker.wire.messages.incremental_alter_configs_request import IncrementalAlterConfigsRequest
from broadsheet_broker.wire.messages.incremental_alter_configs_response import IncrementalAlterConfigsResponse
from broadsheet_broker.wire.messages.unregister_broker_request import UnregisterBrokerRequest
from broadsheet_broker.wire.messages.unregister_broker_response import UnregisterBrokerResponse
from broadsheet_broker.wire.messages.update_features_request import UpdateFeaturesRequest
from broadsheet_broker.wire.messages.update_features_response import UpdateFeaturesResponse
from broadsheet_broker.wire.peers import Peers
from broadsheet_broker.wire.schema import Message

log = logging.getLogger(__name__)

_LEAST_PATIENCE: Final = 5.0
"""Seconds that an order has at least, whatever the client says: a disk may be slow."""
_REGISTRATION_SECONDS: Final = 30.0
_SHUTDOWN_SECONDS: Final = 20.0
"""How long a controlled shutdown may take."""
_RETRY: Final = 0.2
_SEEN_SECONDS: Final = 2.0
"""How long an answer waits for this node's metadata to follow."""

HERE: Final[Mapping[str, Callable[[ActiveController, Any, int], Awaitable[Any]]]] = {
    "CreateTopicsRequest": lambda active, request, version: active.create_topics(request),
    "DeleteTopicsRequest": lambda active, request, version: active.delete_topics(request),
    "CreatePartitionsRequest": lambda active, request, version: active.create_partitions(request),
    "AlterConfigsRequest": lambda active, request, version: active.alter_configs(request),
    "IncrementalAlterConfigsRequest": lambda active, request, version: active.incremental_alter_configs(request),
    "ElectLeadersRequest": lambda active, request, version: active.elect_leaders(request),
    "UpdateFeaturesRequest": lambda active, request, version: active.update_features(request, version),
    "AlterPartitionReassignmentsRequest": lambda active, request, version: active.alter_partition_reassignments(
        request
    ),
    "AllocateProducerIdsRequest": lambda active, request, version: active.allocate_producer_ids(request),
    "AlterPartitionRequest": lambda active, request, version: active.alter_partition(request, version),
    "AssignReplicasToDirsRequest": lambda active, request, version: active.assign_replicas(request),
    "BrokerRegistrationRequest": lambda active, request, version: active.register_broker(request),
    "BrokerHeartbeatRequest": lambda active, request, version: active.heartbeat(request),
    "UnregisterBrokerRequest": lambda active, request, version: active.unregister_broker(request),
    "ControllerRegistrationRequest": lambda active, request, version: active.register_controller(request),
}
"""What the active controller does with a request."""


class MetadataNode:
    """The way of one node to the cluster's metadata: `metadata` has the images, the methods take orders."""

    def __init__(
        self,
        environment: Environment,
        config: BrokerConfig,
        metadata: MetadataCache,
        identity: Identity,
        *,
        bound_ports: Mapping[str, int] | None = None,
        peers: Peers | None = None,
        previous_broker_epoch: int = -1,
    ) -> None:
        """`bound_ports`: by listener, where the configuration asks for port 0. `previous_broker_epoch`: of the life
        that this broker ended cleanly; -1 when it did not."""
        self._environment = environment
        self._config = config
        self._identity = identity
        self._ports = dict(bound_ports or {})
        self._peers = peers
        self._previous_broker_epoch = previous_broker_epoch
        self.incarnation_id = environment.uuid()
        self._publisher = MetadataPublisher(metadata, identity.cluster_id)
        self._metadata = metadata
        self.raft = self._make_raft()
        self._active: ActiveController | None = None
        self._watch: ProcessWatch | None = None
        self._awaiting_reign = False
        """This node was elected, and what former leaders wrote is not all committed."""
        self._forwarder = Forwarder(environment, peers, self._leader_elsewhere)
        self.lifecycle = BrokerLifecycle(environment, config, self, self._call_of_broker)
        self._stepping_aside = SteppingAside(
            environment, lambda: may_step_aside(metadata.image, config.node_id), self.lifecycle.step_aside
        )
        metadata.subscribe(self._notice_departures)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: list[asyncio.Future[None]] = []
        self._stopping = False
        self._next_producer_id = 0
        self._last_producer_id = 0
        self._producer_block: asyncio.Task[None] | None = None
        self.on_failure: Callable[[KafkaError], None] | None = None
        """Called when the metadata log can no longer be written: the node should stop."""

    def _make_raft(self) -> RaftNode:
        identity = self._identity
        return RaftNode(
            self._environment,
            identity.metadata_directory,
            ReplicaKey(self._config.node_id, identity.metadata_directory_id),
            voter_set(self._config),
            raft_settings(self._config),
            self,
            peers=self._peers,
            cluster_id=identity.cluster_id,
            endpoints={name: (item.host, item.port) for name, item in self._endpoints().items()}
            if self._config.is_controller
            else {},
            bootstrap_servers=self._config.bootstrap_servers,
        )

    @property
    def cluster_id(self) -> str:
        return self._identity.cluster_id

    @property
    def is_active(self) -> bool:
        """Whether this node leads the quorum."""
        return self.raft.is_leader

    @property
    def active(self) -> ActiveController:
        """The active controller, if it is on this node; else KafkaError(NOT_CONTROLLER)."""
        if self._active is None or not self.raft.is_leader:
            raise KafkaError(ErrorCode.NOT_CONTROLLER)
        return self._active

    @property
    def broker_epoch(self) -> int:
        """Of this life of this broker; -1 before it is registered."""
        return self.lifecycle.epoch

    @property
    def offset(self) -> int:
        """Of the last record that was published on this node."""
        return self._publisher.position.offset if self._publisher.is_released else -1

    def may_be_replaced(self) -> bool:
        """Others may lead what this broker leads, as far as it knows: it has not run for longer than its session."""
        return not self._is_whole_quorum and self.lifecycle.may_be_replaced()

    def knows_broker(self, broker_id: int, epoch: int) -> bool:
        return self._publisher.knows_broker(broker_id, epoch)

    @property
    def _is_whole_quorum(self) -> bool:
        return self.raft.voters.is_only_voter(self._config.node_id)

    # Life.

    async def start(self) -> None:
        """Load the metadata, find the leader or win the election, register this node, publish the first image.

        A quorum of one takes part as a broker when this returns; other brokers do after `join`.
        """
        await self.raft.start()
        if self._is_whole_quorum and self._active is not None:
            await self._start_alone()
            return
        if self._config.is_controller:
            self._spawn(self._register_controller())
        if self._config.is_broker:
            await self._reach(lambda: self.raft.leader_id is not None)
            await self.lifecycle.register(self._registration(), self.cluster_id)
            await self._reach(lambda: self.knows_broker(self._config.node_id, self.lifecycle.epoch))
            self._publisher.release()
            self.lifecycle.begin()
        else:
            await self._reach(lambda: self.raft.leader_id is not None)
            self._publisher.release()

    async def _start_alone(self) -> None:
        active = self.active
        registration = self._registration() if self._config.is_broker else None
        active.register_own_node(self.incarnation_id, self._endpoints(), registration)
        await active.all_committed()
        self._publisher.release()
        if registration is not None:
            self.lifecycle.adopt(self._metadata.image.brokers[self._config.node_id].epoch)
            self.lifecycle.begin()

    async def join(self) -> None:
        """Clients are served from now on: take part, and return when the cluster has it so."""
        if self._config.is_broker:
            self.lifecycle.set_ready()
            await self.lifecycle.joined()

    def disk_full(self) -> None:
        """A log of this broker had no room for what it was given."""
        if self._config.is_broker and self.lifecycle.epoch >= 0:
            self._stepping_aside.disk_full()

    def directory_failed(self, path: str) -> None:
        """A log directory of this broker is offline from now on."""
        directory_id = self._identity.directories.get(path)
        if directory_id is not None:
            self.lifecycle.directory_failed(directory_id)

    async def leave(self) -> None:
        """Let others take over what this broker leads, while it still serves. At once if there are no others."""
        others = any(id != self._config.node_id for id in self._metadata.image.brokers)
        if self._config.is_broker and others and self._publisher.is_released:
            await self.lifecycle.leave(_SHUTDOWN_SECONDS)

    async def stop(self) -> None:
        """Take this broker out of the cluster and close the metadata log."""
        self._stopping = True
        self._stepping_aside.close()
        await self.lifecycle.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._active is not None and self._publisher.is_released and self.raft.failure is None:
            if self._is_whole_quorum and self._config.is_broker:
                try:
                    self._active.fence(self._config.node_id, "is stopping")
                except KafkaError as error:
                    log.warning("The broker could not be fenced before it stops: %s", error.message)
            self._publisher.hold_back()  # nobody is told that this broker is gone
        await self.raft.stop()
        self._end_reign(KafkaError(ErrorCode.NOT_CONTROLLER))

    def kill(self) -> None:
        """End as a killed process would: no timer of ours fires again (simulation)."""
        self.raft.kill()
        self._stepping_aside.close()
        self.lifecycle.kill()
        for task in self._tasks:
            task.cancel()
        self._end_reign(KafkaError(ErrorCode.NOT_CONTROLLER))

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = self._environment.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reach(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so; looked at whenever the log or the leader tells something new."""
        while not reached():
            if self.raft.failure is not None:
                raise self.raft.failure
            waiter: asyncio.Future[None] = self._environment.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def _news(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _registration(self) -> Registration:
        return Registration(
            broker_id=self._config.node_id,
            incarnation_id=self.incarnation_id,
            endpoints={item.name: Endpoint(item.host, item.port) for item in self._config.advertised(self._ports)},
            log_dirs=tuple(self._identity.directories.values()),
            rack=self._config.rack,
            features=brokers.supported_features(self._publisher.committed),
            previous_epoch=self._previous_broker_epoch,
        )

    def _endpoints(self) -> dict[str, Endpoint]:
        return {
            item.name: Endpoint(item.host or "localhost", item.port or self._ports.get(item.name, 0))
            for item in self._config.advertised_controller_listeners
        }

    async def _register_controller(self) -> None:
        """Tell the quorum's leader where this controller is, once for each life (KIP-919)."""
        features = brokers.supported_features(self._publisher.committed)
        request = registration_request.ControllerRegistrationRequest(
            controller_id=self._config.node_id,
            incarnation_id=self.incarnation_id,
            listeners=[
                registration_request.Listener(
                    name=name, host=item.host, port=item.port, security_protocol=item.security_protocol
                )
                for name, item in self._endpoints().items()
            ],
            features=[
                registration_request.Feature(name=name, min_supported_version=low, max_supported_version=high)
                for name, (low, high) in features.items()
            ],
        )
        while True:
            try:
                answer = await self._call(request, 0, _REGISTRATION_SECONDS)
                if not answer.error_code:
                    return
            except KafkaError as error:
                log.debug("This controller is not registered yet: %s", error.message)
            await asyncio.sleep(_RETRY)

    # Orders.

    async def _call(self, request: Message, version: int, seconds: float, lane: str | None = None) -> Any:
        """Have a request carried out by the active controller, here or elsewhere."""

        def here() -> Any:
            active = self._active
            if active is None or not self.raft.is_leader:
                if self.raft.failure is not None and self._is_whole_quorum:
                    raise self.raft.failure
                return None
            return HERE[type(request).__name__](active, request, version)

        return await self._forwarder.call(request, version, here, seconds, lane=lane)

    async def _call_of_broker(self, request: Message, version: int, seconds: float) -> Any:
        return await self._call(request, version, seconds, lane="heartbeat")

    async def ask_leader(self, request: Message, version: int, here: Callable[[], Any]) -> Any:
        """Have the quorum's leader answer; `here()` gives a coroutine that does, or None when it is elsewhere."""
        return await self._forwarder.call(request, version, here, self._config.get_int("request.timeout.ms") / 1000)

    async def _order(self, request: Any, version: int | None = None) -> Any:
        """An order of a client. What it allows in `timeout_ms` is what it gets, but never too little for a disk."""
        seconds = getattr(request, "timeout_ms", self._config.get_int("request.timeout.ms")) / 1000
        highest = type(request).HIGHEST_VERSION if version is None else version
        return await self._call(request, highest, max(seconds, _LEAST_PATIENCE))

    async def _see(self, seen: Callable[[], bool]) -> None:
        """Wait until this node's image shows what the active controller has done, so that a client finds it here."""
        if not seen() and self._active is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SEEN_SECONDS):
                    await self._reach(seen)

    async def create_topics(self, request: CreateTopicsRequest) -> CreateTopicsResponse:
        answer: CreateTopicsResponse = await self._order(request)
        created = [topic.name for topic in answer.topics if not topic.error_code]
        if not request.validate_only:
            await self._see(lambda: all(name in self._metadata.image.topics_by_name for name in created))
        return answer

    async def delete_topics(self, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
        if self._active is None and request.topic_names:  # the newest version has names and ids in one list
            request = _with_states(request)
        answer: DeleteTopicsResponse = await self._order(request)
        gone = [topic.topic_id for topic in answer.responses if not topic.error_code]
        await self._see(lambda: not any(topic_id in self._metadata.image.topics_by_id for topic_id in gone))
        return answer

    async def create_partitions(self, request: CreatePartitionsRequest) -> CreatePartitionsResponse:
        answer: CreatePartitionsResponse = await self._order(request)
        done = {topic.name for topic in answer.results if not topic.error_code}
        grown = [(topic.name, topic.count - 1) for topic in request.topics if topic.name in done]
        if not request.validate_only:
            await self._see(lambda: all(self._metadata.image.partition(*last) is not None for last in grown))
        return answer

    async def alter_configs(self, request: AlterConfigsRequest) -> AlterConfigsResponse:
        answer: AlterConfigsResponse = await self._order(request)
        return answer

    async def incremental_alter_configs(
        self, request: IncrementalAlterConfigsRequest
    ) -> IncrementalAlterConfigsResponse:
        answer: IncrementalAlterConfigsResponse = await self._order(request)
        return answer

    async def elect_leaders(self, request: ElectLeadersRequest) -> ElectLeadersResponse:
        answer: ElectLeadersResponse = await self._order(request)
        return answer

    async def update_features(self, request: UpdateFeaturesRequest, version: int) -> UpdateFeaturesResponse:
        answer: UpdateFeaturesResponse = await self._order(request, version)
        return answer

    async def alter_partition_reassignments(
        self, request: AlterPartitionReassignmentsRequest
    ) -> AlterPartitionReassignmentsResponse:
        answer: AlterPartitionReassignmentsResponse = await self._order(request)
        return answer

    async def unregister_broker(self, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse:
        answer: UnregisterBrokerResponse = await self._order(request)
        return answer

    async def ensure_internal_topic(self, name: str) -> None:
        """Create a topic that Kafka keeps for itself, as configured, unless it exists."""
        if name in self._metadata.image.topics_by_name:
            return
        request = CreateTopicsRequest(topics=[self._internal_topic(name)], timeout_ms=30_000)
        response = await self.create_topics(request)
        result = response.topics[0]
        if result.error_code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
            raise KafkaError(error_code(result.error_code), result.error_message)

    def _internal_topic(self, name: str) -> CreatableTopic:
        topic, config = INTERNAL_TOPICS[name], self._config
        return CreatableTopic(
            name=name,
            num_partitions=config.get_int(topic.partitions_key),
            replication_factor=config.get_int(topic.replication_factor_key),
            configs=[CreatableTopicConfig(name=key, value=value) for key, value in topic.topic_configs(config).items()],
        )

    async def create_automatically(self, names: Sequence[str]) -> CreateTopicsResponse:
        """Create topics that a client asked about (auto.create.topics.enable); internal ones as configured."""
        wanted = [
            self._internal_topic(name)
            if name in INTERNAL_TOPICS
            else CreatableTopic(name=name, num_partitions=-1, replication_factor=-1)
            for name in names
        ]
        return await self.create_topics(CreateTopicsRequest(topics=wanted, timeout_ms=30_000))

    # Producer ids.

    async def allocate_producer_ids(self) -> tuple[int, int]:
        """The first id of a new block, and how many there are (KIP-730)."""
        request = AllocateProducerIdsRequest(broker_id=self._config.node_id, broker_epoch=self.broker_epoch)
        answer: AllocateProducerIdsResponse = await self._order(request)
        if answer.error_code:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, error_code(answer.error_code).message)
        return answer.producer_id_start, answer.producer_id_len

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

    # In-sync replicas.

    def isr_proposals(self, answer: Callable[[int, int, int, tuple[int, ...], int], Any]) -> IsrProposals:
        """The way for this broker's leaders to have ISRs changed; `answer` makes what a partition is told."""

        async def call(request: Message, version: int, seconds: float) -> Any:
            return await self._call(request, version, seconds, lane="isr")

        return IsrProposals(self._environment, self._config.node_id, lambda: self.broker_epoch, call, answer)

    def directory_reports(self, where: Callable[[str, int], str | None]) -> DirectoryReports:
        """Tells in which directories this broker's replicas are; `where` knows the path of each."""
        own = dict(self._identity.directories)
        return DirectoryReports(
            self._environment, self._config.node_id, own, where, lambda: self.broker_epoch, self._call
        )

    def _notice_departures(self, delta: MetadataDelta, image: ClusterImage) -> None:
        """A broker that stops waits until all others know who leads instead: tell the controller at once."""
        for id in delta.changed_brokers:
            broker = image.brokers.get(id)
            if broker is not None and broker.in_controlled_shutdown and not broker.fenced:
                self.lifecycle.report_soon()

    # Who leads the quorum.

    def _leader_elsewhere(self) -> Leader | None:
        leader_id = self.raft.leader_id
        if leader_id is None or leader_id == self._config.node_id:
            return None
        address = self.raft.leader_address
        return None if address is None else Leader(leader_id, address)

    def handle_leader(self, epoch: int, leader_id: int | None) -> None:
        """The quorum has another leader, or none (raft.node.RaftListener)."""
        self._publisher.set_controller(leader_id)
        if leader_id == self._config.node_id:
            self._end_reign(KafkaError(ErrorCode.NOT_CONTROLLER))
            if self._is_whole_quorum or self._publisher.position.epoch == epoch:
                self._begin_reign()  # everything from before this epoch is committed already
            else:
                self._awaiting_reign = True
        else:
            self._awaiting_reign = False
            self._end_reign(KafkaError(ErrorCode.NOT_CONTROLLER))
        self._forwarder.news()
        self._news()
        self.lifecycle.news()

    def _begin_reign(self) -> None:
        self._awaiting_reign = False
        active = self._active = ActiveController(self._environment, self._config, self.raft, self._publisher.committed)
        first = (
            first_records(
                self._environment, self._identity.metadata_directory, self._config.get_int("min.insync.replicas")
            )
            if METADATA_VERSION not in active.pending.features
            else []
        )
        active.begin(first, in_transaction=self._publisher.in_transaction)
        if self._peers is not None:
            self._watch = ProcessWatch(
                self._environment,
                self._peers,
                self._config.inter_broker_listener,
                self._other_brokers,
                active.sessions.beats,
                self._process_died,
            )
            self._watch.start()
        self._forwarder.news()
        self._news()

    def _end_reign(self, error: KafkaError) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()
        active, self._active = self._active, None
        if active is not None:
            active.depose(error)

    def _other_brokers(self) -> list[BrokerInfo]:
        if self._active is None:
            return []
        return [broker for broker in self._active.pending.brokers.values() if broker.id != self._config.node_id]

    def _process_died(self, broker_id: int, epoch: int) -> None:
        active = self._active
        broker = None if active is None else active.pending.brokers.get(broker_id)
        if active is None or broker is None or broker.epoch != epoch or broker.fenced:
            return
        try:
            active.fence(broker_id, "is gone: its port refuses connections")
        except KafkaError as error:
            log.warning("Broker %d cannot be fenced: %s", broker_id, error.message)

    # What the log says (raft.node.RaftListener).

    def load_snapshot(self, id: SnapshotId, timestamp_ms: int, values: Sequence[bytes]) -> None:
        self._publisher.load_snapshot(values, Position(id.offset - 1, id.epoch, timestamp_ms))
        self._news()

    def handle_commit(self, batches: Sequence[Committed]) -> None:
        self._publisher.commit(
            [
                (
                    batch.tag.records if batch.tag is not None else list(map(decode_record, batch.values)),
                    Position(batch.last_offset, batch.epoch, batch.timestamp_ms),
                )
                for batch in batches
            ]
        )
        for batch in batches:
            if batch.tag is not None:
                if self._active is not None:
                    self._active.committed(batch.tag)
                else:
                    batch.tag.succeed()
        if self._awaiting_reign and self.raft.is_leader and batches and batches[-1].epoch == self.raft.epoch:
            self._begin_reign()
        if self._waiters:
            self._news()

    def handle_append_failure(self, tags: Sequence[Order], error: KafkaError) -> None:
        """These appends never happened."""
        if self._active is not None:
            self._active.refused(tags, error, self._publisher.committed)
        for order in tags:
            order.fail(error)
        if self.raft.failure is not None:
            self._news()
            if self.on_failure is not None:
                self.on_failure(self.raft.failure)

    def snapshot_source(self) -> SnapshotSource | None:
        if not self._publisher.is_released or self._publisher.in_transaction:
            return None
        image = self._publisher.committed
        level = image.features.get(METADATA_VERSION, V4_3_IV0)
        return SnapshotSource(
            image.offset,
            image.epoch,
            image.timestamp_ms,
            lambda: (encode_record(record, level) for record in records_of(image)),
        )


def _with_states(request: DeleteTopicsRequest) -> DeleteTopicsRequest:
    """Names as the newest version of DeleteTopics has them."""
    states = [DeleteTopicState(name=name) for name in request.topic_names]
    return DeleteTopicsRequest(topics=[*request.topics, *states], timeout_ms=request.timeout_ms)
