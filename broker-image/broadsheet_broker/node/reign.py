"""A reign: this node is the active controller for as long as it leads the metadata quorum."""

from __future__ import annotations

import logging

from broadsheet_broker.config import BrokerConfig
from broadsheet_broker.controller.active import ActiveController
from broadsheet_broker.controller.liveness import ProcessWatch
from broadsheet_broker.metadata.image import METADATA_VERSION, BrokerInfo, ClusterImage
from broadsheet_broker.node.quorum import first_records
from broadsheet_broker.raft.node import RaftNode
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import KafkaError
from broadsheet_broker.wire.peers import Peers

logger = logging.getLogger(__name__)


class Reign:
    """The active controller of this node, and the watch that it keeps over the processes of the other brokers."""

    def __init__(
        self,
        environment: Environment,
        config: BrokerConfig,
        raft: RaftNode,
        image: ClusterImage,
        metadata_directory: str,
        peers: Peers | None,
    ) -> None:
        """`image` has everything that was committed before; without `peers` no process is watched."""
        self._environment = environment
        self._config = config
        self._metadata_directory = metadata_directory
        self.active = ActiveController(environment, config, raft, image)
        self._watch: ProcessWatch | None = None
        if peers is not None:
            self._watch = ProcessWatch(
                environment,
                peers,
                config.inter_broker_listener,
                self._other_brokers,
                self.active.sessions.beats,
                self._process_died,
            )

    def begin(self, *, in_transaction: bool) -> None:
        """Write the first records of a new cluster, or end the metadata transaction that the former leader left."""
        first = []
        if METADATA_VERSION not in self.active.pending.features:
            min_isr = self._config.get_int("min.insync.replicas")
            first = first_records(self._environment, self._metadata_directory, min_isr)
        self.active.begin(first, in_transaction=in_transaction)
        if self._watch is not None:
            self._watch.start()

    def end(self, error: KafkaError) -> None:
        """Answer everything that waits with this error; the records may be committed all the same."""
        if self._watch is not None:
            self._watch.stop()
        self.active.depose(error)

    def _other_brokers(self) -> list[BrokerInfo]:
        return [broker for broker in self.active.pending.brokers.values() if broker.id != self._config.node_id]

    def _process_died(self, broker_id: int, epoch: int) -> None:
        broker = self.active.pending.brokers.get(broker_id)
        if broker is None or broker.epoch != epoch or broker.fenced:
            return
        try:
            self.active.fence(broker_id, "is gone: its port refuses connections")
        except KafkaError as error:
            logger.warning("Broker %d cannot be fenced: %s", broker_id, error.message)
