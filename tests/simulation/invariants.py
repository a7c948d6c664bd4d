"""What must hold after every single event, whatever goes wrong: looked at from outside, inside every broker.

It looks at plain attributes, so that it costs little: it is called tens of thousands of times in a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster, Node


class InvariantBroken(AssertionError):
    """Something that must never be, even for a moment, no client needs to have noticed."""


class Invariants:
    """Remembers what it saw, and compares."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._leaders: dict[int, int] = {}
        """Who led the metadata quorum in each epoch."""
        self._established: dict[int, int] = {}
        """In which of its lives the leader of an epoch had something committed: who starts again leads it no more."""
        self._epochs: dict[int, int] = {}
        """The newest epoch that each node took part in, across its lives."""
        self._marks: dict[tuple[int, int], int] = {}
        """The high watermark of the metadata log, by node and life."""
        self._partition_leaders: dict[tuple[str, int, int], int] = {}
        """Who led a partition in each leader epoch."""
        self._partition_marks: dict[tuple[int, int, str, int], int] = {}
        self._seen: dict[int, tuple[Any, ...]] = {}

    def look(self) -> None:
        for node in self._cluster.nodes.values():
            broker = node.broker
            controller = broker._controller if broker is not None else None
            if controller is not None:
                raft = controller.raft
                if hasattr(raft, "_raft") and hasattr(raft.storage, "log"):  # else it is still loading
                    self._look_at_quorum(node, raft)

    def _look_at_quorum(self, node: Node, raft: Any) -> None:
        epoch, leads, mark = raft.epoch, raft.is_leader, raft.high_watermark
        state = (node.lives, epoch, leads, mark)
        before = self._seen.get(node.id)
        if before == state:
            return
        self._seen[node.id] = state
        if not epoch:
            return  # it has not read its quorum-state yet, or never took part
        known = self._epochs.get(node.id, -1)
        if epoch < known:
            raise InvariantBroken(f"{node.name} went back from epoch {known} to {epoch}")
        self._epochs[node.id] = epoch
        own = (node.id, node.lives)
        if leads and self._leaders.setdefault(epoch, node.id) != node.id:
            raise InvariantBroken(f"epoch {epoch} has two leaders: {self._leaders[epoch]} and {node.id}")
        if leads and mark >= 0 and self._established.setdefault(epoch, node.lives) != node.lives:
            raise InvariantBroken(f"{node.name} leads epoch {epoch} again, which it led before it was started anew")
        if mark < 0:
            return  # not known: it does not lead any more, or not yet
        if mark < self._marks.get(own, -1):
            raise InvariantBroken(f"the high watermark of {node.name} went back from {self._marks[own]} to {mark}")
        self._marks[own] = mark
        if mark > raft.storage.end_offset:
            raise InvariantBroken(f"{node.name} has {mark} committed, and its log ends at {raft.storage.end_offset}")

    def look_closely(self) -> None:
        """What costs more; from time to time."""
        for node in self._cluster.nodes.values():
            if node.broker is not None and node.serving and node.broker._replicas is not None:
                for partition in node.broker._replicas.partitions():
                    self._look_at_partition(node, partition)

    def _look_at_partition(self, node: Node, partition: Any) -> None:
        name, index = partition.topic, partition.index
        if partition.is_leader:
            key = (name, index, partition.leader_epoch)
            if self._partition_leaders.setdefault(key, node.id) != node.id:
                first = self._partition_leaders[key]
                raise InvariantBroken(
                    f"{name}-{index} has two leaders in epoch {key[2]}: brokers {first} and {node.id}"
                )
        own = (node.id, node.lives, name, index)
        mark = partition.high_watermark
        if partition.high_watermark > partition.log.log_end_offset:
            raise InvariantBroken(f"{node.name} has {name}-{index} committed up to {mark}, beyond the end of its log")
        if partition.log.log_start_offset > mark:
            raise InvariantBroken(f"{node.name} has {name}-{index} begin above its high watermark {mark}")
        if partition.is_leader:
            if mark < self._partition_marks.get(own, -1):
                before = self._partition_marks[own]
                raise InvariantBroken(f"{node.name}: the high watermark of {name}-{index} went from {before} to {mark}")
            self._partition_marks[own] = mark
