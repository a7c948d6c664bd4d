"""All fetchers of a broker: which partition is copied by which, and what they share."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from broadsheet_broker.replication.following import Following
from broadsheet_broker.replication.replica_fetcher import Fetcher
from broadsheet_broker.replication.throttle import Throttle
from broadsheet_broker.wire.messages.list_offsets_request import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from broadsheet_broker.wire.peers import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broadsheet_broker.config import BrokerConfig
    from broadsheet_broker.log import LogManager
    from broadsheet_broker.metadata import MetadataCache
    from broadsheet_broker.replication.partition import Partition
    from broadsheet_broker.seams import Environment
    from broadsheet_broker.wire.messages.list_offsets_response import ListOffsetsResponse
    from broadsheet_broker.wire.peers import PeerError, Peers

logger = logging.getLogger(__name__)

LIST_OFFSETS_VERSION = 9
_LATEST, _EARLIEST = -1, -2
_LANE = "replica"
"""Questions that must not wait behind a Fetch."""


class ReplicaFetchers:
    """Starts, moves and ends the copying of partitions (Kafka's ReplicaFetcherManager)."""

    def __init__(
        self,
        environment: Environment,
        config: BrokerConfig,
        metadata: MetadataCache,
        logs: LogManager,
        peers: Peers,
        is_throttled: Callable[[Partition], bool],
    ) -> None:
        self.loop = environment.loop
        self.peers = peers
        self.broker_id = config.node_id
        self.wait_max_ms = config.get_int("replica.fetch.wait.max.ms")
        self.min_bytes = config.get_int("replica.fetch.min.bytes")
        self.response_max_bytes = config.get_int("replica.fetch.response.max.bytes")
        self.partition_max_bytes = config.get_int("replica.fetch.max.bytes")
        self.socket_timeout = config.get_int("replica.socket.timeout.ms") / 1000
        self.backoff = config.get_int("replica.fetch.backoff.ms") / 1000
        self.throttle = Throttle()
        """follower.replication.throttled.rate"""
        self.is_throttled = is_throttled
        self._listener = config.inter_broker_listener
        self.per_leader = config.get_int("num.replica.fetchers")
        """Connections to each leader: for partitions followed from now on."""
        self._metadata = metadata
        self._logs = logs
        self._fetchers: dict[tuple[int, int], Fetcher] = {}
        self._followings: dict[tuple[UUID, int], tuple[Fetcher, Following]] = {}
        self._bytes = environment.metrics.counter(
            "kafka_server_brokertopicmetrics_replicationbytesin_total", "Bytes of batches copied from leaders."
        )

    # -- for the manager ----------------------------------------------------------------------------------------------

    def follow(self, partition: Partition) -> None:
        """Copy a partition from its leader; nothing changes where that is done already in this leader epoch."""
        key = partition.topic_id, partition.index
        fetcher = self._fetcher(partition)
        found = self._followings.get(key)
        if found is not None:
            known, following = found
            if known is fetcher and following.partition is partition:
                if following.leader_epoch != partition.leader_epoch:
                    known.renew(following)
                return
            known.remove(following)
        if partition.log.latest_epoch < 0 and partition.log.log_end_offset > partition.high_watermark:
            # Without epochs there is no other way to tell what the leader has, too.
            self.truncate(partition, partition.high_watermark)
        following = Following(partition)
        self._followings[key] = fetcher, following
        fetcher.add(following)

    def stop(self, partition: Partition) -> None:
        """Stop copying it: it is led here, has no leader, or goes away."""
        found = self._followings.pop((partition.topic_id, partition.index), None)
        if found is not None:
            found[0].remove(found[1])

    def close(self) -> None:
        for fetcher in self._fetchers.values():
            fetcher.close()
        self._followings = {}

    def followings(self) -> Iterator[Following]:
        for _, following in self._followings.values():
            yield following

    def _fetcher(self, partition: Partition) -> Fetcher:
        number = (partition.topic_id.int + partition.index) % self.per_leader
        key = partition.leader_id, number
        found = self._fetchers.get(key)
        if found is None:
            found = self._fetchers[key] = Fetcher(self, partition.leader_id, number)
        return found

    # -- for the fetchers ---------------------------------------------------------------------------------------------

    def own_epoch(self) -> int:
        own = self._metadata.image.brokers.get(self.broker_id)
        return -1 if own is None else own.epoch

    def address(self, broker_id: int) -> Address | None:
        broker = self._metadata.image.brokers.get(broker_id)
        endpoint = None if broker is None else broker.endpoints.get(self._listener)
        return None if endpoint is None else Address(endpoint.host, endpoint.port)

    def truncate(self, partition: Partition, offset: int) -> None:
        self._logs.prepare_truncation(partition.log, offset)
        partition.truncate_to(offset)

    def start_again(self, partition: Partition, offset: int) -> None:
        self._logs.prepare_truncation(partition.log, offset)
        partition.start_again_at(offset)

    def replicated(self, size: int) -> None:
        self._bytes.value += size

    def ask_range(self, fetcher: Fetcher, following: Following) -> None:
        """Ask the leader where its log begins, then where it ends."""
        _RangeQuestion(self, fetcher, following).ask(_EARLIEST)


class _RangeQuestion:
    """Two ListOffsets for one partition, one after the other."""

    __slots__ = ("_epoch", "_fetcher", "_fetchers", "_following", "_start")

    def __init__(self, fetchers: ReplicaFetchers, fetcher: Fetcher, following: Following) -> None:
        self._fetchers = fetchers
        self._fetcher = fetcher
        self._following = following
        self._epoch = following.leader_epoch
        self._start = -1

    def ask(self, place: int) -> None:
        fetchers, partition = self._fetchers, self._following.partition
        address = fetchers.address(self._fetcher.leader_id)
        if address is None:
            self._fetcher.later(self._following)
            return
        wanted = ListOffsetsPartition(
            partition_index=partition.index, current_leader_epoch=self._epoch, timestamp=place
        )
        request = ListOffsetsRequest(
            replica_id=fetchers.broker_id, topics=[ListOffsetsTopic(name=partition.topic, partitions=[wanted])]
        )
        fetchers.peers.send(
            self._fetcher.leader_id,
            address,
            request,
            LIST_OFFSETS_VERSION,
            partial(self._answered, place),
            timeout=fetchers.socket_timeout,
            lane=_LANE,
        )

    def _answered(self, place: int, answer: ListOffsetsResponse | None, error: PeerError | None) -> None:
        following = self._following
        if not self._fetcher.holds(following) or following.leader_epoch != self._epoch or following.active:
            return  # something else has happened to it
        row = None
        if answer is not None and answer.topics and answer.topics[0].partitions:
            row = answer.topics[0].partitions[0]
        if row is None or row.error_code or row.offset < 0:
            logger.debug("no range of %r: %s", following.partition, error or (row and row.error_code))
            self._fetcher.later(following)
        elif place == _EARLIEST:
            self._start = row.offset
            self.ask(_LATEST)
        else:
            self._fetcher.out_of_range(following, self._start, row.offset)
