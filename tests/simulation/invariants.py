"""What must hold after every single event, whatever goes wrong: looked at from outside, inside every broker.

It looks at plain attributes, so that it costs little: it is called tens of thousands of times in a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broadsheet_broker.wire.records import iterate_batches

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster, Node
    from tests.simulation.simulated_loop import Host


class InvariantBroken(AssertionError):
    """Something that must never be, even for a moment, no client needs to have noticed."""


class Invariants:
    """Remembers what it saw, and compares."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._by_host = {node.host: node for node in cluster.nodes.values()}
        self._leaders: dict[int, int] = {}
        """Who led the metadata quorum in each epoch."""
        self._established: dict[int, int] = {}
        """In which of its lives the leader of an epoch had something committed: who starts again leads it no more."""
        self._epochs: dict[int, int] = {}
        """The newest epoch that each node took part in, across its lives."""
        self._marks: dict[tuple[int, int], int] = {}
        """The high watermark of the metadata log, by node and life."""
        self._committed: dict[int, tuple[int, int, int]] = {}
        """Last offset, epoch and CRC of each committed batch of the metadata log, by its base offset."""
        self._compared: dict[tuple[int, int], int] = {}
        """How far the metadata log of a node in one life has been compared with it."""
        self._partition_committed: dict[tuple[str, int], int] = {}
        """The highest high watermark that a leader of the partition ever had."""
        self.may_lose = False
        """A fault has come that is beyond what replication promises."""
        self._partition_leaders: dict[tuple[str, int, int], int] = {}
        """Who led a partition in each leader epoch."""
        self._partition_marks: dict[tuple[int, int, str, int], int] = {}
        self._partition_led: set[tuple[str, int, int]] = set()
        self._seen: dict[int, tuple[Any, ...]] = {}

    def look(self, host: Host) -> None:
        """Look at the quorum as the host sees it where something has just happened; the network's may be any."""
        own = self._by_host.get(host)
        for node in self._cluster.nodes.values() if own is None else (own,):
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
        if not epoch or raft.failure is not None:
            return  # it has not read its quorum-state yet; or could not write it, and takes no part any more
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

        if raft.failure is None:
            self._compare_committed(node, raft.storage, own, mark)

    def _compare_committed(self, node: Node, storage: Any, own: tuple[int, int], mark: int) -> None:
        """What is committed is the same everywhere, and stays so."""
        begin = max(self._compared.get(own, 0), storage.log.log_start_offset)
        if begin >= mark:
            return
        for header, _ in storage.read(begin):
            if header.last_offset >= mark:
                break
            found = (header.last_offset, header.partition_leader_epoch, header.crc)
            known = self._committed.setdefault(header.base_offset, found)
            if known != found:
                raise InvariantBroken(
                    f"{node.name} has committed {found} (last offset, epoch, CRC) at {header.base_offset} of the "
                    f"metadata log, and {known} was committed there before"
                )
            self._compared[own] = header.last_offset + 1

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
            if key not in self._partition_led:
                self._partition_led.add(key)
                self._look_at_new_leader(node, partition)
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
            if mark > self._partition_committed.get((name, index), -1):
                self._partition_committed[name, index] = mark

    def _look_at_new_leader(self, node: Node, partition: Any) -> None:
        """Who begins to lead has everything that was committed."""
        name, index = partition.topic, partition.index
        committed = self._partition_committed.get((name, index), 0)
        if partition.log.log_end_offset < committed and not self.may_lose:
            raise InvariantBroken(
                f"{node.name} leads {name}-{index} in epoch {partition.leader_epoch} with a log that ends at "
                f"{partition.log.log_end_offset}, and {committed} was committed"
            )

    def compare_replicas(self) -> None:
        """At the end: below the high watermark all replicas have the same batches."""
        batches: dict[tuple[str, int, int], tuple[int, int, str]] = {}
        for node in self._cluster.nodes.values():
            if node.broker is None or node.broker._replicas is None:
                continue
            for partition in node.broker._replicas.partitions():
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
