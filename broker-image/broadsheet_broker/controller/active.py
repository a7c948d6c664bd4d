"""The active controller: takes orders, appends records to the metadata log, answers when they are committed.

It exists for one reign: as long as this node leads the metadata quorum in one epoch. Every order is planned by a pure
function over the pending image, which is the cluster once everything appended so far is committed. The records go to
the log as one atomic batch and into the pending image at once, so that the next order sees them. When the log reports
them committed, they go into the published image, its subscribers are called, and then the order is answered: a client
can use a topic as soon as its creation is answered. Orders that arrive during an fsync share the next one. When the
reign ends, orders that still wait are answered with NOT_CONTROLLER; the next leader may commit their records all the
same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from broadsheet_broker.config import BrokerConfig, validate_topic_configs
from broadsheet_broker.controller import (
    brokers,
    configs,
    elections,
    eligible_replicas,
    topics,
)
from broadsheet_broker.controller.brokers import Registration
from broadsheet_broker.controller.heartbeats import Sessions, State, next_state
from broadsheet_broker.controller.metrics import Elections
from broadsheet_broker.controller.names import NameIndex
from broadsheet_broker.controller.partition_change import Defaults
from broadsheet_broker.controller.plan import MAX_RECORDS, Context, Plan
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import (
    DIRECTORY_UNASSIGNED,
    METADATA_VERSION,
    ClusterImage,
    ResourceType,
)
from broadsheet_broker.metadata.loader import Replayer
from broadsheet_broker.metadata.records import V4_3_IV0, encode_record
from broadsheet_broker.raft.node import RaftNode
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.abort_transaction_record import AbortTransactionRecord
from broadsheet_broker.wire.messages.allocate_producer_ids_request import AllocateProducerIdsRequest
from broadsheet_broker.wire.messages.allocate_producer_ids_response import AllocateProducerIdsResponse
from broadsheet_broker.wire.messages.alter_configs_request import AlterConfigsRequest
from broadsheet_broker.wire.messages.alter_configs_response import AlterConfigsResponse
from broadsheet_broker.wire.messages.broker_heartbeat_request import BrokerHeartbeatRequest
from broadsheet_broker.wire.messages.broker_heartbeat_response import BrokerHeartbeatResponse
from broadsheet_broker.wire.messages.broker_registration_request import BrokerRegistrationRequest
from broadsheet_broker.wire.messages.broker_registration_response import BrokerRegistrationResponse
from broadsheet_broker.wire.messages.controller_registration_request import ControllerRegistrationRequest
from broadsheet_broker.wire.messages.controller_registration_response import ControllerRegistrationResponse
from broadsheet_broker.wire.messages.delete_topics_request import DeleteTopicsRequest
from broadsheet_broker.wire.messages.delete_topics_response import DeleteTopicsResponse
from broadsheet_broker.wire.messages.incremental_alter_configs_request import IncrementalAlterConfigsRequest
from broadsheet_broker.wire.messages.incremental_alter_configs_response import IncrementalAlterConfigsResponse
from broadsheet_broker.wire.messages.producer_ids_record import ProducerIdsRecord
from broadsheet_broker.wire.messages.unregister_broker_request import UnregisterBrokerRequest
from broadsheet_broker.wire.messages.unregister_broker_response import UnregisterBrokerResponse

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

PRODUCER_ID_BLOCK: Final = 1000
"""Producer ids that a broker takes at once (KIP-730)."""

_TICK: Final = 0.5
"""Seconds between two checks of the brokers' sessions."""


class PendingAppend:
    """Records that are in the log and not committed yet."""

    __slots__ = ("done", "records")

    def __init__(self, records: Sequence[Any], done: asyncio.Future[None]) -> None:
        self.records = records
        self.done = done

    def succeed(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, error: KafkaError) -> None:
        if not self.done.done():
            self.done.set_exception(error.again())
            self.done.exception()  # mark it as retrieved: nothing may be awaiting this order


class ActiveController:
    """One reign. `image` is everything committed when it begins."""

    def __init__(self, environment: Environment, config: BrokerConfig, raft: RaftNode, image: ClusterImage) -> None:
        self._environment = environment
        self._config = config
        self._raft = raft
        self._epoch = raft.epoch
        self._pending = image
        """`image` with everything that was appended since."""
        self._began_at = image.offset
        self._elections = Elections(environment.metrics)
        self._names = NameIndex(image.topics_by_name)
        self._orders: dict[PendingAppend, None] = {}
        self._deposed: KafkaError | None = None
        self._defaults = Defaults(
            config.get_bool("unclean.leader.election.enable"), config.get_int("min.insync.replicas")
        )
        self.sessions = Sessions(
            config.get_int("broker.session.timeout.ms") / 1000, config.get_int("broker.heartbeat.interval.ms") / 1000
        )
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._next_tick = 0.0

    @property
    def pending(self) -> ClusterImage:
        """The cluster as it will be when everything appended is committed."""
        return self._pending

    # The reign.

    def begin(self, first_records: Sequence[Any], *, in_transaction: bool) -> None:
        """End an unfinished metadata transaction, write the first records of a new cluster, and start the timers."""
        if in_transaction:
            self.append([AbortTransactionRecord(reason="The controller stopped within it.")])
        if METADATA_VERSION not in self._pending.features:
            self.append(first_records)
        brokers.check_features(self._pending)
        if self._config.get_bool("broadsheet.min.insync.replicas.of.cluster"):
            changes = eligible_replicas.follow_configuration(self._pending, self._defaults.min_isr)
            if changes:
                self.append(changes)  # as one batch: partitions without a leader keep what is cleared for the others
        now, former = self._environment.monotonic(), self._raft.former_leader
        self.sessions.begin(self._pending.brokers.values(), now, former, offset=self._began_at)
        self._next_tick = self._environment.monotonic() + _TICK
        self._later("sessions", _TICK, self._check_sessions)
        if self._config.get_bool("auto.leader.rebalance.enable"):
            self._later("rebalance", self._config.get_int("leader.imbalance.check.interval.seconds"), self._rebalance)

    def depose(self, error: KafkaError) -> None:
        """End the reign: every order that still waits fails with this error."""
        self._deposed = error
        for timer in self._timers.values():
            timer.cancel()
        orders, self._orders = self._orders, {}
        for order in orders:
            order.fail(error)

    def _later(self, name: str, seconds: float, action: Any) -> None:
        self._timers[name] = self._environment.loop.call_later(seconds, action)

    # Orders.

    async def carry_out(self, planner: Callable[[Context], Plan[Answer]]) -> Answer:
        """Have a planner decide, write its records, and return its answer once they are committed."""
        plan = planner(self._context())
        if plan.records:
            await asyncio.shield(self.append(plan.records))
        else:
            # The answer may be about records that are not committed yet ("already exists").
            await self.all_committed()
        return plan.answer

    # Orders that take more than a planner.

    async def delete_topics(self, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
        if not self._config.get_bool("delete.topic.enable"):
            raise KafkaError(ErrorCode.TOPIC_DELETION_DISABLED)
        return await self.carry_out(lambda context: topics.delete_topics(context.image, request))

    async def alter_configs(self, request: AlterConfigsRequest) -> AlterConfigsResponse:
        answer = await self.carry_out(lambda context: configs.alter_configs(context, request))
        self._elect_after_config(request.resources)
        return answer

    async def incremental_alter_configs(
        self, request: IncrementalAlterConfigsRequest
    ) -> IncrementalAlterConfigsResponse:
        answer = await self.carry_out(lambda context: configs.incremental_alter_configs(context, request))
        self._elect_after_config(request.resources)
        return answer

    def _elect_after_config(self, resources: Iterable[Any]) -> None:
        """Enabling unclean elections brings offline partitions back at once."""
        changed = [item for item in resources if any(c.name == elections.UNCLEAN_KEY for c in item.configs)]
        names = [item.resource_name for item in changed if item.resource_type == ResourceType.TOPIC]
        if len(names) < len(changed):
            names = list(self._pending.topics_by_name)
        self._append_in_parts(elections.elect_where_allowed(self._pending, self._defaults, names))

    async def allocate_producer_ids(self, request: AllocateProducerIdsRequest) -> AllocateProducerIdsResponse:
        brokers.check_epoch(self._pending, request.broker_id, request.broker_epoch)
        first = self._pending.next_producer_id
        record = ProducerIdsRecord(
            broker_id=request.broker_id,
            broker_epoch=request.broker_epoch,
            next_producer_id=first + PRODUCER_ID_BLOCK,
        )
        await asyncio.shield(self.append([record]))
        return AllocateProducerIdsResponse(producer_id_start=first, producer_id_len=PRODUCER_ID_BLOCK)

    async def register_broker(self, request: BrokerRegistrationRequest) -> BrokerRegistrationResponse:
        if request.cluster_id != self._pending.cluster_id:
            raise KafkaError(
                ErrorCode.INCONSISTENT_CLUSTER_ID,
                f"Expected cluster ID {self._pending.cluster_id}, but got cluster ID {request.cluster_id}",
            )
        now = self._environment.monotonic()
        known = self._pending.brokers.get(request.broker_id)
        if known is not None and known.incarnation_id == request.incarnation_id:
            self.sessions.heard(known.id, known.epoch, now)
            await self.all_committed()
            return BrokerRegistrationResponse(broker_epoch=known.epoch)
        # A process locks its directories: a broker that has those of the former process has outlived it. Without this
        # proof a whole session of silence is needed, since another broker may be configured with the same id.
        proven = known is not None and bool(known.log_dirs) and set(known.log_dirs) == set(request.log_dirs)
        if known is not None and not proven and self.sessions.is_valid(known.id, now):
            raise KafkaError(
                ErrorCode.DUPLICATE_BROKER_REGISTRATION, "Another broker is registered with that broker id."
            )
        registration = Registration.of(request)
        epoch = self._raft.storage.end_offset
        records = brokers.register_broker(self._pending, registration, epoch, self._defaults)
        self.sessions.forget(request.broker_id)
        await asyncio.shield(self._append_in_parts(records))
        self.sessions.heard(request.broker_id, epoch, self._environment.monotonic())
        logger.info("Broker %d is registered with epoch %d", request.broker_id, epoch)
        return BrokerRegistrationResponse(broker_epoch=epoch)

    async def heartbeat(self, request: BrokerHeartbeatRequest) -> BrokerHeartbeatResponse:
        image, id = self._pending, request.broker_id
        broker = brokers.check_epoch(image, id, request.broker_epoch)
        self.sessions.heard(id, broker.epoch, self._environment.monotonic(), request.current_metadata_offset)
        if request.offline_log_dirs:
            self._append_in_parts(brokers.lose_directories(image, id, request.offline_log_dirs, self._defaults))
            image = self._pending
        stopping = broker.in_controlled_shutdown and not broker.fenced
        active = [other.id for other in image.brokers.values() if other.is_active]
        caught_up = self.sessions.has_caught_up(broker, request.current_metadata_offset)
        state = next_state(
            broker,
            request,
            leads_any=stopping and elections.leads_any(image, id),
            all_know=self.sessions.all_know_of_shutdown(id, active),
            caught_up=caught_up,
        )
        await self._become(broker.id, state)
        return BrokerHeartbeatResponse(
            is_caught_up=caught_up,
            is_fenced=state in (State.FENCED, State.SHUTDOWN_NOW),
            should_shut_down=state is State.SHUTDOWN_NOW,
        )

    async def _become(self, id: int, state: State) -> None:
        broker = self._pending.brokers[id]
        match state:
            case State.UNFENCED if broker.fenced:
                logger.info("Broker %d is unfenced", id)
                await asyncio.shield(self._append_in_parts(brokers.unfence_broker(self._pending, id, self._defaults)))
            case State.FENCED | State.SHUTDOWN_NOW if not broker.fenced:
                reason = "is stopping" if state is State.SHUTDOWN_NOW else "asks for it"
                await asyncio.shield(self.fence(id, reason))
            case State.CONTROLLED_SHUTDOWN if not broker.in_controlled_shutdown:
                logger.info("Broker %d is shutting down: others take over what it leads", id)
                done = self._append_in_parts(brokers.shut_down_broker(self._pending, id, self._defaults))
                self.sessions.begin_shutdown(id, self._raft.storage.end_offset - 1)
                await asyncio.shield(done)
            case _:
                pass

    def fence(self, broker_id: int, reason: str) -> asyncio.Future[None]:
        """Fence a broker: it leads nothing from now on. The future is done when that is published."""
        logger.info("Broker %d is fenced: it %s", broker_id, reason)
        done = self._append_in_parts(brokers.fence_broker(self._pending, broker_id, self._defaults))
        self.sessions.fenced(broker_id, self._raft.storage.end_offset - 1)
        return done

    async def unregister_broker(self, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse:
        records = brokers.unregister_broker(self._pending, request.broker_id, self._defaults)
        self.sessions.forget(request.broker_id)
        await asyncio.shield(self._append_in_parts(records))
        return UnregisterBrokerResponse(error_message=None)

    async def register_controller(self, request: ControllerRegistrationRequest) -> ControllerRegistrationResponse:
        await asyncio.shield(self._append_in_parts(brokers.register_other_controller(self._pending, request)))
        return ControllerRegistrationResponse(error_message=None)

    def register_own_node(
        self, incarnation_id: UUID, endpoints: Any, registration: Registration | None
    ) -> asyncio.Future[None]:
        """Register the only node of a quorum as controller and as unfenced broker, with one flush of the log."""
        node_id = self._config.node_id
        done = self.append(brokers.register_controller(self._pending, node_id, incarnation_id, endpoints))
        if registration is not None:
            epoch = self._raft.storage.end_offset
            self._append_in_parts(brokers.register_broker(self._pending, registration, epoch, self._defaults))
            done = self._append_in_parts(brokers.unfence_broker(self._pending, node_id, self._defaults))
        return done

    # Timers.

    def _check_sessions(self) -> None:
        now = self._environment.monotonic()
        late, self._next_tick = now - self._next_tick, now + _TICK
        self._later("sessions", _TICK, self._check_sessions)
        if late > _TICK:
            self.sessions.excuse(late)
        for id in self.sessions.silent(now):
            broker = self._pending.brokers.get(id)
            if broker is None or broker.fenced or id == self._config.node_id:
                if id != self._config.node_id:
                    self.sessions.forget(id)
                continue
            try:
                self.fence(id, f"was not heard for {self._config.get_int('broker.session.timeout.ms')} ms")
            except KafkaError as error:
                logger.warning("Broker %d cannot be fenced: %s", id, error.message)

    def _rebalance(self) -> None:
        self._later("rebalance", self._config.get_int("leader.imbalance.check.interval.seconds"), self._rebalance)
        changes = elections.rebalance_leaders(self._pending)
        if changes:
            logger.info("Giving %d partitions back to their preferred leaders", len(changes))
            try:
                self._append_in_parts(changes)
            except KafkaError as error:
                logger.warning("Leaders cannot be rebalanced: %s", error.message)

    # Planning.

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
            defaults=self._defaults,
        )

    def _directory_of(self, broker_id: int) -> UUID:
        """The only directory of a broker. A broker with several chooses one and reports it later (KIP-858)."""
        known = self._pending.brokers[broker_id].log_dirs
        return known[0] if len(known) == 1 else DIRECTORY_UNASSIGNED

    # The log.

    def append(self, records: Sequence[Any]) -> asyncio.Future[None]:
        """Append records as one atomic batch; the future is done when they are published."""
        if self._deposed is not None:
            raise self._deposed.again()
        level = self._pending.features.get(METADATA_VERSION, V4_3_IV0)
        delta = MetadataDelta(self._pending)
        Replayer().replay(delta, [r for r in records if not isinstance(r, AbortTransactionRecord)])
        values = [encode_record(record, level) for record in records]
        order = PendingAppend(records, self._environment.loop.create_future())
        offset = self._raft.append(values, order)
        self._orders[order] = None
        assert offset >= self._pending.offset + len(records), "the log gives every record an offset of its own"
        self._pending = delta.apply(offset, self._epoch, self._environment.clock.time_ms())
        self._elections.count(delta)
        for gone in delta.deleted_topics.values():
            self._names.discard(gone.name)
        for topic in delta.changed_topics.values():
            if topic.is_new:
                self._names.add(topic.name)
        return order.done

    def _append_in_parts(self, records: Sequence[Any]) -> asyncio.Future[None]:
        """Append records that need not be atomic, in as many batches as they take."""
        done: asyncio.Future[None] = self._environment.loop.create_future()
        if not records:
            done.set_result(None)
        for start in range(0, len(records), MAX_RECORDS):
            done = self.append(records[start : start + MAX_RECORDS])
        return done

    async def all_committed(self) -> None:
        if self._orders:
            await asyncio.shield(next(reversed(self._orders)).done)

    def committed(self, order: PendingAppend) -> None:
        """The records of an order are committed and published: answer it."""
        self._orders.pop(order, None)
        order.succeed()

    def refused(self, orders: Iterable[PendingAppend], error: KafkaError, committed: ClusterImage) -> None:
        """The disk refused these records: go back to the committed image and fail their orders."""
        self._pending = committed
        self._names = NameIndex(committed.topics_by_name)
        for order in orders:
            self._orders.pop(order, None)
            order.fail(error)
