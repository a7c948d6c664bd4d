"""One node's part in the metadata: it reads the log, publishes what is committed, and decides while it leads.

* Every node reads the metadata log (as a voter or an observer) and publishes images: `metadata.publisher`.
* The leader of the quorum is the active controller: `active.ActiveController`, one for each reign.
* Every node takes orders: this class carries them out here, or sends them to the active controller.
* A broker registers and reports: `lifecycle.BrokerLifecycle`.

A quorum of one that is also a broker has all of this in one process and waits for no other node: it registers and
unfences itself with its first records, so that it is up after one fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from broadsheet_broker.config import BrokerConfig
from broadsheet_broker.controller import metrics as controller_metrics
from broadsheet_broker.controller.active import ActiveController, PendingAppend
from broadsheet_broker.controller.brokers import check_features
from broadsheet_broker.controller.orders import ORDERS, carry_out
from broadsheet_broker.log.errors import is_passing
from broadsheet_broker.metadata.cache import MetadataCache
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import METADATA_VERSION, ClusterImage
from broadsheet_broker.metadata.publisher import MetadataPublisher, Position
from broadsheet_broker.metadata.records import V4_3_IV0, decode_record, encode_record
from broadsheet_broker.metadata.snapshot_records import records_of
from broadsheet_broker.node.automatic_topics import AutomaticTopics
from broadsheet_broker.node.directory_reports import DirectoryReports
from broadsheet_broker.node.forwarding import Answer, Forwarder, Leader, expect
from broadsheet_broker.node.identity import Identity
from broadsheet_broker.node.isr_proposals import IsrProposals
from broadsheet_broker.node.lifecycle import BrokerLifecycle
from broadsheet_broker.node.producer_ids import ProducerIds
from broadsheet_broker.node.quorum import raft_settings, voter_set
from broadsheet_broker.node.registration import NodeRegistration
from broadsheet_broker.node.reign import Reign
from broadsheet_broker.node.stepping_aside import SteppingAside, may_step_aside
from broadsheet_broker.raft import metrics as raft_metrics
from broadsheet_broker.raft.node import Committed, RaftNode, SnapshotSource
from broadsheet_broker.raft.snapshot import SnapshotId
from broadsheet_broker.raft.voters import ReplicaKey
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.api_messages import response_class
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.peers import Peers
from broadsheet_broker.wire.schema import Message

logger = logging.getLogger(__name__)

_LEAST_PATIENCE: Final = 5.0
"""Seconds that an order has at least, whatever the client says: a disk may be slow."""
_SHUTDOWN_SECONDS: Final = 20.0
"""How long a controlled shutdown may take."""
_SEEN_SECONDS: Final = 2.0
"""How long an answer waits for this node's metadata to follow."""


class MetadataNode:
    """One node's access to the cluster's metadata: `metadata` has the images, the methods take orders."""

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
        self.identity = identity
        self._peers = peers
        self.registration = NodeRegistration(
            config, identity, environment.uuid(), bound_ports or {}, previous_broker_epoch
        )
        self._publisher = MetadataPublisher(metadata, identity.cluster_id)
        self._metadata = metadata
        self.raft = self._make_raft()
        self._reign: Reign | None = None
        self._awaiting_reign = False
        """This node was elected, and what former leaders wrote is not all committed."""
        self._checked_features: Mapping[str, int] | None = None
        """The finalized levels that were found to be supported last."""
        self._forwarder = Forwarder(environment, peers, self._leader_elsewhere)
        self.lifecycle = BrokerLifecycle(environment, config, self, self.call)
        self._stepping_aside = SteppingAside(
            environment, lambda: may_step_aside(metadata.image, config.node_id), self.lifecycle.step_aside
        )
        self.producer_ids = ProducerIds(environment, config.node_id, lambda: self.broker_epoch, self.order)
        self.automatic_topics = AutomaticTopics(config, metadata, self.order, self._spawn)
        metadata.subscribe(self._notice_departures)
        if config.is_controller:
            controller_metrics.register(environment.metrics, lambda: metadata.image, lambda: self._active is not None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: list[asyncio.Future[None]] = []
        self._directory_lost = False
        """The log directory of the metadata is offline."""
        self.on_failure: Callable[[KafkaError], None] | None = None
        """Called when the metadata log can no longer be written: the node should stop."""

    def _make_raft(self) -> RaftNode:
        identity = self.identity
        node = RaftNode(
            self._environment,
            identity.metadata_directory,
            ReplicaKey(self._config.node_id, identity.metadata_directory_id),
            voter_set(self._config),
            raft_settings(self._config),
            self,
            peers=self._peers,
            cluster_id=identity.cluster_id,
            endpoints={name: (item.host, item.port) for name, item in self.registration.controller_endpoints().items()},
            bootstrap_servers=self._config.bootstrap_servers,
        )
        raft_metrics.register(self._environment, node)
        return node

    @property
    def cluster_id(self) -> str:
        return self.identity.cluster_id

    @property
    def active(self) -> ActiveController:
        """The active controller, if it is on this node; else KafkaError(NOT_CONTROLLER)."""
        if self._active is None or not self.raft.is_leader:
            raise KafkaError(ErrorCode.NOT_CONTROLLER)
        return self._active

    @property
    def _active(self) -> ActiveController | None:
        return None if self._reign is None else self._reign.active

    @property
    def broker_epoch(self) -> int:
        """Of this life of this broker; -1 before it is registered."""
        return self.lifecycle.epoch

    @property
    def offset(self) -> int:
        """Of the last record that was published on this node."""
        return self._publisher.position.offset if self._publisher.is_released else -1

    @property
    def is_behind(self) -> bool:
        """More is decided than this node could write down."""
        return self.raft.is_behind

    @property
    def is_lost(self) -> bool:
        """The metadata log can no longer be written."""
        return self._directory_lost or self.raft.failure is not None

    def may_be_replaced(self) -> bool:
        """Others may lead what this broker leads, as far as it knows: `lifecycle.doubt` has the reasons."""
        return self.lifecycle.doubt() is not None and not self._is_whole_quorum

    def knows_broker(self, broker_id: int, epoch: int) -> bool:
        return self._publisher.knows_broker(broker_id, epoch)

    @property
    def _is_whole_quorum(self) -> bool:
        return self.raft.voters.is_only_voter(self._config.node_id)

    # Life.

    async def start(self) -> None:
        """Load the metadata, find the leader or win the election, register this node, publish the first image.

        The broker of a quorum of one is unfenced when this returns; other brokers are after `join`.
        """
        await self.raft.start()
        if self._is_whole_quorum and self._active is not None:
            await self._start_alone()
            return
        if self._config.is_controller:
            self._spawn(self.registration.register_controller(self._publisher.committed, self.call))
        if self._config.is_broker:
            await self._reach(lambda: self.raft.leader_id is not None)
            await self.lifecycle.register(self.registration.broker(self._publisher.committed), self.cluster_id)
            await self._reach(lambda: self.knows_broker(self._config.node_id, self.lifecycle.epoch))
            self._publisher.release()
            self.lifecycle.begin()
        else:
            await self._reach(lambda: self.raft.leader_id is not None)
            self._publisher.release()

    async def _start_alone(self) -> None:
        active = self.active
        registration = self.registration.broker(self._publisher.committed) if self._config.is_broker else None
        active.register_own_node(
            self.registration.incarnation_id, self.registration.controller_endpoints(), registration
        )
        await active.all_committed()
        self._publisher.release()
        if registration is not None:
            self.lifecycle.adopt(self._metadata.image.brokers[self._config.node_id].epoch)
            self.lifecycle.begin()

    async def join(self) -> None:
        """Clients are served from now on: ask to be unfenced, and return when the controller has done so."""
        if self._config.is_broker:
            self.lifecycle.set_ready()
            await self.lifecycle.joined()

    def disk_full(self) -> None:
        """A log of this broker had no room for what it was given."""
        if self._config.is_broker and self.lifecycle.epoch >= 0:
            self._stepping_aside.disk_full()

    def directory_failed(self, path: str) -> None:
        """A log directory of this broker is offline from now on."""
        if path == self.identity.metadata_directory:
            self._directory_lost = True
            if self.on_failure is not None:
                self.on_failure(KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"its log directory {path} is offline"))
        directory_id = self.identity.directories.get(path)
        if directory_id is not None:
            self.lifecycle.directory_failed(directory_id)

    async def leave(self) -> None:
        """Let others take over what this broker leads, while it still serves. At once if there are no others."""
        others = any(id != self._config.node_id for id in self._metadata.image.brokers)
        if self._config.is_broker and others and self._publisher.is_released:
            await self.lifecycle.leave(_SHUTDOWN_SECONDS)

    async def stop(self) -> None:
        """Take this broker out of the cluster and close the metadata log."""
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
                    logger.warning("The broker could not be fenced before it stops: %s", error.message)
            self._publisher.hold_back()  # clients need not learn that this broker is gone
        await self.raft.stop()
        self._end_reign()

    def kill(self) -> None:
        """End as a killed process would: no timer fires again (simulation)."""
        self.raft.kill()
        self._stepping_aside.close()
        self.lifecycle.kill()
        for task in self._tasks:
            task.cancel()
        self._end_reign()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a task that ends with this node."""
        task = self._environment.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _reach(self, reached: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is checked whenever the log or the leader changes."""
        while not reached():
            if self.raft.failure is not None:
                raise self.raft.failure.again()
            waiter: asyncio.Future[None] = self._environment.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def _news(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # Orders.

    async def call(
        self, request: Message, answer: type[Answer], version: int, seconds: float, lane: str | None = None
    ) -> Answer:
        """Have a request of this node carried out by the active controller, here or elsewhere (forwarding.Call)."""

        def here() -> Awaitable[Message] | None:
            active = self._active
            if active is None or not self.raft.is_leader:
                if self.raft.failure is not None and self._is_whole_quorum:
                    raise self.raft.failure.again()
                return None
            return carry_out(active, request, version)

        return expect(await self._forwarder.call(request, version, here, seconds, lane=lane), answer)

    async def order(self, request: Message, answer: type[Answer], version: int | None = None) -> Answer:
        """Have an order of a client carried out, and wait until this node shows what was done where that matters.

        `version` is the one that the request came in. The order gets the time that the client allows in `timeout_ms`,
        but never too little for a slow disk. Raises KafkaError when all of it is refused, or REQUEST_TIMED_OUT.
        """
        row = ORDERS[type(request)]
        if version is None or not row.by_version:
            version = type(request).HIGHEST_VERSION
            request = request if row.newest is None else row.newest(request)
        seconds = getattr(request, "timeout_ms", self._config.get_int("request.timeout.ms")) / 1000
        given = await self.call(request, answer, version, max(seconds, _LEAST_PATIENCE))
        seen = row.seen
        if seen is not None:
            await self._see(lambda: seen(request, given, self._metadata.image))
        return given

    async def ask_leader(
        self, request: Message, version: int, here: Callable[[], Awaitable[Message] | None]
    ) -> Message:
        """Have the quorum's leader answer; `here()` gives a coroutine that does, or None when it is elsewhere."""
        seconds = self._config.get_int("request.timeout.ms") / 1000
        return expect(await self._forwarder.call(request, version, here, seconds), response_class(request.API_KEY))

    async def _see(self, seen: Callable[[], bool]) -> None:
        """Wait until this node's image shows what the active controller has done, so that a client finds it here."""
        if not seen() and self._active is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SEEN_SECONDS):
                    await self._reach(seen)

    # In-sync replicas.

    def isr_proposals(self, answer: Callable[[int, int, int, tuple[int, ...], int], Any]) -> IsrProposals:
        """How this broker's leaders have ISRs changed; `answer` makes what a partition is called back with."""
        return IsrProposals(self._environment, self._config.node_id, lambda: self.broker_epoch, self.call, answer)

    def directory_reports(self, where: Callable[[str, int], str | None]) -> DirectoryReports:
        """Reports the directories of this broker's replicas; `where` returns the path of each."""
        own = dict(self.identity.directories)
        return DirectoryReports(
            self._environment, self._config.node_id, own, where, lambda: self.broker_epoch, self.call
        )

    def _notice_departures(self, delta: MetadataDelta, image: ClusterImage) -> None:
        """A broker that stops waits until all others have published who leads instead: report that at once."""
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
            self._end_reign()
            if self._is_whole_quorum or self._publisher.position.epoch == epoch:
                self._begin_reign()  # everything from before this epoch is committed already
            else:
                self._awaiting_reign = True
        else:
            self._awaiting_reign = False
            self._end_reign()
        self._forwarder.news()
        self._news()
        self.lifecycle.news()

    def _begin_reign(self) -> None:
        self._awaiting_reign = False
        image, directory = self._publisher.committed, self.identity.metadata_directory
        reign = self._reign = Reign(self._environment, self._config, self.raft, image, directory, self._peers)
        reign.begin(in_transaction=self._publisher.in_transaction)
        self._forwarder.news()
        self._news()

    def _end_reign(self) -> None:
        reign, self._reign = self._reign, None
        if reign is not None:
            reign.end(KafkaError(ErrorCode.NOT_CONTROLLER))

    # What the log says (raft.node.RaftListener).

    def load_snapshot(self, id: SnapshotId, timestamp_ms: int, values: Sequence[bytes]) -> None:
        self._publisher.load_snapshot(values, Position(id.offset - 1, id.epoch, timestamp_ms))
        self._check_features()
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
        self._check_features()
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

    def _check_features(self) -> None:
        """A cluster at levels that this build does not know is refused as soon as the log says so, on every node."""
        image = self._publisher.committed
        if image.features is not self._checked_features:
            check_features(image)
            self._checked_features = image.features

    def handle_append_failure(self, tags: Sequence[PendingAppend], error: KafkaError) -> None:
        """These appends never happened."""
        if self._active is not None:
            self._active.refused(tags, error, self._publisher.committed)
        for order in tags:
            order.fail(error)
        if self.raft.failure is not None:
            self._news()
            if self.on_failure is not None:
                self.on_failure(self.raft.failure)

    def handle_refusal(self, error: KafkaError) -> None:
        """The disk does not take what the leader of the quorum sent (raft.node.RaftListener)."""
        if is_passing(error):
            self.disk_full()

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
