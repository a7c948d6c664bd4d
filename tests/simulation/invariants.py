"""What must hold after every single event, whatever goes wrong: looked at from outside, inside every broker.

It looks at plain attributes, and closely only at what has changed: it is called tens of thousands of times in a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broadsheet_broker.wire.records import iterate_batches
from tests.simulation.metadata_invariants import MetadataInvariants
from tests.simulation.quorum_invariants import InvariantBroken, QuorumInvariants

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster, Node
    from tests.support.simulated_loop import Host

__all__ = ["InvariantBroken", "Invariants"]


class Invariants:
    """Remembers what it saw, and compares."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._by_host = {node.host: node for node in cluster.nodes.values()}
        self._wire = cluster.simulation.network.wire.host
        self._quorum = QuorumInvariants(cluster)
        self._metadata = MetadataInvariants()
        self._committed: dict[tuple[str, int], int] = {}
        """The highest high watermark that a leader of a partition ever had."""
        self.may_lose = False
        """A fault has come that is beyond what replication promises."""
        self._leaders: dict[tuple[str, int, int], int] = {}
        """Who led a partition in each leader epoch."""
        self._marks: dict[tuple[int, int, str, int], int] = {}
        """The high watermark of each leader, by node, its life and partition."""
        self._seen: dict[Any, tuple[Any, ...]] = {}
        """What each replica was when it was looked at last."""

    def look(self, host: Host) -> None:
        """Look at the host where something has just happened; faults of the network's doing may have touched any."""
        own = self._by_host.get(host)
        if own is not None:
            self._look_at(own)
        elif host is self._wire:
            for node in self._cluster.nodes.values():
                self._look_at(node)

    def _look_at(self, node: Node) -> None:
        broker = node.broker
        if broker is None:
            return
        self._quorum.look(node)
        replicas = broker.inspect().replicas
        if not node.serving or replicas is None:
            return
        self._metadata.look(node, replicas.metadata.image)
        seen = self._seen
        for partition in replicas.partitions():
            log = partition.log
            state = (partition.leader_epoch, partition.high_watermark, log.log_end_offset, log.log_start_offset)
            before = seen.get(partition)
            if before != state:
                if before is not None:
                    self._compare(node, partition, before, state)
                self._look_at_partition(node, partition)
                seen[partition] = state

    def _compare(self, node: Node, partition: Any, before: tuple[int, ...], now: tuple[int, ...]) -> None:
        """What never goes back as long as a broker has a replica open, whether it leads or follows."""
        what = f"{node.name} has {partition.topic}-{partition.index}"
        if now[0] < before[0]:
            raise InvariantBroken(f"{what} go back from leader epoch {before[0]} to {now[0]}")
        if now[1] < before[1]:
            raise InvariantBroken(f"{what} take its high watermark back from {before[1]} to {now[1]}")
        if now[3] < before[3]:
            raise InvariantBroken(f"{what} begin at {now[3]}, and it began at {before[3]} before")

    def _look_at_partition(self, node: Node, partition: Any) -> None:
        name, index = partition.topic, partition.index
        mark = partition.high_watermark
        if mark > partition.log.log_end_offset:
            raise InvariantBroken(f"{node.name} has {name}-{index} committed up to {mark}, beyond the end of its log")
        if partition.log.log_start_offset > mark:
            raise InvariantBroken(f"{node.name} has {name}-{index} begin above its high watermark {mark}")
        if not partition.is_leader:
            return
        key = (name, index, partition.leader_epoch)
        if key not in self._leaders:
            self._look_at_new_leader(node, partition)
        if self._leaders.setdefault(key, node.id) != node.id:
            first = self._leaders[key]
            raise InvariantBroken(f"{name}-{index} has two leaders in epoch {key[2]}: brokers {first} and {node.id}")
        own = (node.id, node.lives, name, index)
        before = self._marks.get(own, -1)
        if mark < before:
            raise InvariantBroken(f"{node.name}: the high watermark of {name}-{index} went from {before} to {mark}")
        if mark > before:
            self._marks[own] = mark
            self._committed[name, index] = max(mark, self._committed.get((name, index), -1))
            if before >= 0 and partition.followers:
                self._look_at_members(node, partition)

    def _look_at_new_leader(self, node: Node, partition: Any) -> None:
        """Who begins to lead has everything that was committed."""
        name, index = partition.topic, partition.index
        committed = self._committed.get((name, index), 0)
        if partition.log.log_end_offset < committed and not self.may_lose:
            raise InvariantBroken(
                f"{node.name} leads {name}-{index} in epoch {partition.leader_epoch} with a log that ends at "
                f"{partition.log.log_end_offset}, and {committed} was committed"
            )

    def _look_at_members(self, node: Node, partition: Any) -> None:
        """What a leader calls committed is in the log of every in-sync replica that follows it, in the life that the
        leader has heard of."""
        for id in partition.isr:
            follower, broker = partition.followers.get(id), self._cluster.nodes[id].broker
            replicas = None if broker is None else broker.inspect().replicas
            if follower is None or replicas is None:
                continue
            for replica in replicas.partitions():
                if (
                    replica.topic_id == partition.topic_id
                    and replica.index == partition.index
                    and replica.leader_epoch == partition.leader_epoch
                    and replicas.broker_epoch(id) == follower.broker_epoch
                    and replica.log.log_end_offset < partition.high_watermark
                ):
                    raise InvariantBroken(
                        f"{node.name} has {partition.topic}-{partition.index} committed up to "
                        f"{partition.high_watermark}, and broker {id} of the ISR {list(partition.isr)} has it up to "
                        f"{replica.log.log_end_offset}"
                    )

    def compare_replicas(self) -> None:
        """At the end: below the high watermark all replicas have the same batches."""
        batches: dict[tuple[str, int, int], tuple[int, int, str]] = {}
        for node in self._cluster.nodes.values():
            for partition in node.broker.inspect().partitions if node.broker is not None else ():
                log, offset = partition.log, partition.log.log_start_offset
                while offset < partition.high_watermark:
                    fetched = log.read(offset, 1 << 20, limit_offset=partition.high_watermark, min_one=True)
                    for header, _ in iterate_batches(memoryview(fetched.data)):
                        place = (partition.topic, partition.index, header.base_offset)
                        found = (header.last_offset, header.crc, node.name)
                        known = batches.setdefault(place, found)
                        if known[:2] != found[:2]:
                            raise InvariantBroken(f"replicas differ at {place}: {known} and {found}")
                    if fetched.next_offset <= offset:
                        break
                    offset = fetched.next_offset
