"""One broker: the rooms, put together. The only module that knows them all.

The order of the start follows what needs what: directories, sockets reserved (a port in use is found before anything is
opened), logs, metadata, and only then clients. The stop goes the other way round.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from broadsheet_broker import apis
from broadsheet_broker.apis.request import Services
from broadsheet_broker.config.internal_topics import GROUP_METADATA_TOPIC
from broadsheet_broker.coordinators import GroupCoordinator, ReplicatedStorage
from broadsheet_broker.log import LogConfig, LogManager, LogManagerSettings
from broadsheet_broker.metadata import MetadataCache
from broadsheet_broker.network import Server
from broadsheet_broker.network.http import HttpEndpoint
from broadsheet_broker.network.peers import NodePeers
from broadsheet_broker.node import MetadataNode
from broadsheet_broker.replication import ReplicaManager
from broadsheet_broker.replication.in_sync import IsrAnswer
from broadsheet_broker.storage_tool import load_identity
from broadsheet_broker.wire.errors import KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broadsheet_broker.config import BrokerConfig
    from broadsheet_broker.log import Log, StorageError
    from broadsheet_broker.node.directory_reports import DirectoryReports
    from broadsheet_broker.node.isr_proposals import IsrProposals
    from broadsheet_broker.replication.partition import Partition
    from broadsheet_broker.seams import Environment

logger = logging.getLogger(__name__)

CLEANER_BUFFER_BYTES = 16 * 1024 * 1024
"""Most memory for one compaction, whatever log.cleaner.dedupe.buffer.size says: it is only taken while one runs."""


class Inspection(NamedTuple):
    """Parts of a broker, None before they exist. To look at only."""

    node: MetadataNode | None
    replicas: ReplicaManager | None

    @property
    def partitions(self) -> Iterator[Partition]:
        """Every partition that this broker has a replica of and serves."""
        return iter(()) if self.replicas is None else self.replicas.partitions()


class Broker:
    """A node: broker, controller, or both."""

    def __init__(self, environment: Environment, config: BrokerConfig) -> None:
        self.environment = environment
        self.config = config
        self.failure: str | None = None
        """Why this broker can no longer do its work; the liveness endpoint reports it."""
        self.on_failure: Callable[[str], None] = lambda reason: None
        self._serving = False
        self._http: HttpEndpoint | None = None
        self._server: Server | None = None
        self._logs: LogManager | None = None
        self._replicas: ReplicaManager | None = None
        self._node: MetadataNode | None = None
        self._groups: GroupCoordinator | None = None
        self._peers: NodePeers | None = None
        self._isr_proposals: IsrProposals | None = None
        self._directory_reports: DirectoryReports | None = None

    @property
    def ports(self) -> dict[str, int]:
        """The port of each listener, by its name: what was bound where the configuration says 0."""
        return dict(self._server.bound_ports) if self._server else {}

    def inspect(self) -> Inspection:
        """The parts whose state tests and the simulation check, as far as they exist already."""
        return Inspection(self._node, self._replicas)

    async def start(self) -> None:
        """Returns when clients are served. Raises what keeps the broker from starting, as a readable message."""
        environment, config = self.environment, self.config
        await self._start_http()
        identity = load_identity(environment, config)
        metadata = MetadataCache(config)
        logs = self._logs = LogManager(
            environment,
            list(identity.directories),
            config_for=lambda topic: LogConfig.of(metadata.topic_config(topic)),
            settings=_log_settings(config),
        )
        replicas, groups = self._make_replicas(logs, metadata)
        # The node is made with the ports that were bound, and the server with services that hold the node.
        services = Services(environment, config, metadata, None, replicas, groups)  # type: ignore[arg-type]
        server = self._server = Server(environment, config, services, apis.load())
        await server.bind()
        await logs.start()
        replicas.start()
        peers = self._peers = NodePeers(environment, f"broker-{config.node_id}")
        node = services.node = self._node = MetadataNode(
            environment,
            config,
            metadata,
            identity,
            bound_ports=server.bound_ports,
            peers=peers,
            previous_broker_epoch=logs.previous_broker_epoch,
        )
        self._connect(node, logs, replicas, peers)
        replicas.may_be_replaced = node.may_be_replaced
        groups.partitions.may_be_replaced = partial(replicas.is_in_doubt, GROUP_METADATA_TOPIC)
        # Controllers talk before there is metadata: that is how the quorum finds its leader.
        await server.start(config.controller_listener_names)
        await node.start()
        logs.complete = True
        await server.start()
        await node.join()
        replicas.set_strays_aside()
        self._serving = True

    def _make_replicas(self, logs: LogManager, metadata: MetadataCache) -> tuple[ReplicaManager, GroupCoordinator]:
        """What follows the metadata: the replicas first, then the coordinators that live in their logs."""
        replicas = self._replicas = ReplicaManager(self.environment, self.config, logs, metadata)
        groups = self._groups = GroupCoordinator(
            self.environment, self.config, ReplicatedStorage(replicas, metadata, GROUP_METADATA_TOPIC)
        )
        logs.high_watermark_of = _high_watermark(replicas)
        logs.on_directory_failure = self._directory_failed
        replicas.on_leadership_change(groups.partitions.on_leadership_change)
        metadata.subscribe(replicas.apply)
        metadata.subscribe(groups.on_metadata)
        return replicas, groups

    def _connect(self, node: MetadataNode, logs: LogManager, replicas: ReplicaManager, peers: NodePeers) -> None:
        """Let the disks and the replicas report to the controller through this node."""
        node.on_failure = self._metadata_failed
        logs.on_full_disk = node.disk_full
        for path in logs.offline_directories:  # found before there was a node to report them
            node.directory_failed(path)
        self._isr_proposals = node.isr_proposals(IsrAnswer)
        replicas.connect(peers, self._isr_proposals)
        self._directory_reports = node.directory_reports(_directory_of(replicas))
        replicas.metadata.subscribe(self._directory_reports.apply)
        replicas.on_served_again = self._directory_reports.look

    async def stop(self) -> None:
        """Serve no more, hand everything to the disk and mark the directories as cleanly stopped."""
        was_serving, self._serving = self._serving, False
        if self._node is not None and was_serving and self.failure is None:  # a sick broker goes at once
            await self._node.leave()
        if self._server is not None:
            await self._server.stop()
        if self._groups is not None:
            self._groups.partitions.close()
        for reports in (self._isr_proposals, self._directory_reports):
            if reports is not None:
                reports.kill()
        epoch = -1 if self._node is None else self._node.broker_epoch
        if self._node is not None:
            await self._node.stop()
        if self._replicas is not None:
            await self._replicas.close()
        if self._peers is not None:
            await self._peers.close()
        if self._logs is not None:
            await self._logs.close(broker_epoch=epoch)
        if self._http is not None:
            await self._http.stop()

    def kill(self) -> None:
        """What a simulated kill -9 leaves behind: nothing is written, no peer is notified."""
        self._serving = False
        if self._node is not None:
            self._node.kill()
        for reports in (self._isr_proposals, self._directory_reports):
            if reports is not None:
                reports.kill()
        if self._server is not None:
            for connection in list(self._server.connections):
                connection.abort()

    async def _start_http(self) -> None:
        listener = self.config.http_listener
        if listener is not None:
            self._http = HttpEndpoint(self.environment, listener, healthy=self._unhealthy, ready=self._unready)
            await self._http.start()

    def _unhealthy(self) -> list[str]:
        return [self.failure] if self.failure else []

    def _unready(self) -> list[str]:
        complaints = self._unhealthy()
        if not self._serving:
            complaints.append("the broker is starting" if self._logs is None or not self._logs.closing else "stopping")
        return complaints

    def _directory_failed(self, path: str, error: StorageError) -> None:
        logger.error("log directory %s is offline: %s", path, error)
        if self._node is not None:
            self._node.directory_failed(path)
        if self._logs is not None and not self._logs.directories:
            self._fail(f"every log directory is offline; the last one was {path}: {error}")

    def _metadata_failed(self, error: KafkaError) -> None:
        self._fail(f"the metadata log cannot be used: {error.message}")

    def _fail(self, reason: str) -> None:
        if self.failure is None:
            self.failure = reason
            logger.critical("%s", reason)
            self.on_failure(reason)


def _high_watermark(replicas: ReplicaManager) -> Callable[[Log], int]:
    """Retention and compaction stop at what is committed, or at the log's start when this broker does not know."""

    def of(own: Log) -> int:
        try:
            return replicas.partition(own.topic, own.partition).high_watermark
        except KafkaError:
            return own.log_start_offset

    return of


def _directory_of(replicas: ReplicaManager) -> Callable[[str, int], str | None]:
    """The log directory in which a replica lives; None when it is not here."""

    def of(topic: str, index: int) -> str | None:
        try:
            return replicas.partition(topic, index).log.parent
        except KafkaError:
            return None

    return of


def _log_settings(config: BrokerConfig) -> LogManagerSettings:
    return LogManagerSettings(
        retention_check_interval_ms=config.get_int("log.retention.check.interval.ms"),
        flush_scheduler_interval_ms=config.get_int("log.flush.scheduler.interval.ms"),
        flush_offset_checkpoint_interval_ms=config.get_int("log.flush.offset.checkpoint.interval.ms"),
        flush_start_offset_checkpoint_interval_ms=config.get_int("log.flush.start.offset.checkpoint.interval.ms"),
        recovery_threads=config.get_int("num.recovery.threads.per.data.dir"),
        producer_id_expiration_ms=config.get_int("producer.id.expiration.ms"),
        cleaner_enable=config.get_bool("log.cleaner.enable"),
        cleaner_backoff_ms=config.get_int("log.cleaner.backoff.ms"),
        cleaner_dedupe_buffer_bytes=min(CLEANER_BUFFER_BYTES, config.get_int("log.cleaner.dedupe.buffer.size")),
    )
