"""What must hold of the metadata that each broker has published, checked whenever a broker publishes an image.

State machine safety, one level above the log: images of the same offset are the same on every node. And what every
image promises: a leader is in sync and not fenced, epochs never go back, no replica is in sync and eligible at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broadsheet_broker.metadata.image import NO_LEADER, ClusterImage, PartitionImage
from tests.simulation.quorum_invariants import InvariantBroken

if TYPE_CHECKING:
    from tests.simulation.cluster import Node

_Key = tuple[Any, int]
"""Topic id and index."""


class MetadataInvariants:
    """Remembers the images of every node, and compares."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], ClusterImage] = {}
        """The last image, by node and its life."""
        self._states: dict[int, tuple[Any, ...]] = {}
        """What the first node that published an image of an offset had in it."""
        self._newest_epochs: dict[int, int] = {}
        """The newest epoch that a broker was ever registered with, by the broker's id."""

    def look(self, node: Node, image: ClusterImage) -> None:
        """Check an image unless it is the one that was checked last; called after every event."""
        own = (node.id, node.lives)
        before = self._seen.get(own)
        if before is image:
            return
        self._seen[own] = image
        if before is not None:
            self._compare(node, before, image)
        self._check(node, image)
        state = _state(image)
        first = self._states.setdefault(image.offset, state)
        if first != state:
            raise InvariantBroken(f"{node.name} has other metadata at offset {image.offset}: {first} and {state}")

    def _compare(self, node: Node, before: ClusterImage, image: ClusterImage) -> None:
        if image.offset < before.offset:
            raise InvariantBroken(f"the metadata of {node.name} went back from {before.offset} to {image.offset}")
        known = _partitions(before)
        for key, (name, partition) in _partitions(image).items():
            old = known.get(key, (name, None))[1]
            if old is None or old is partition:
                continue
            if partition.leader_epoch < old.leader_epoch or partition.partition_epoch < old.partition_epoch:
                raise InvariantBroken(f"{node.name} has epochs of {name} go back: {old} and {partition}")
            if partition.leader not in (old.leader, NO_LEADER) and partition.leader_epoch == old.leader_epoch:
                raise InvariantBroken(f"{node.name} has {name} led by another in one epoch: {old} and {partition}")

    def _check(self, node: Node, image: ClusterImage) -> None:
        for broker in image.brokers.values():
            if broker.epoch < self._newest_epochs.get(broker.id, -1) and image.offset >= self._newest_epochs[broker.id]:
                raise InvariantBroken(f"{node.name} has broker {broker.id} in epoch {broker.epoch}, which is over")
            self._newest_epochs[broker.id] = max(broker.epoch, self._newest_epochs.get(broker.id, -1))
        for name, partition in _partitions(image).values():
            wrong = _fault(image, partition)
            if wrong:
                raise InvariantBroken(f"{node.name} has {name} {wrong}: {partition}")


def _fault(image: ClusterImage, partition: PartitionImage) -> str:
    """What may never be in the metadata of a partition; empty when it is sound."""
    replicas = set(partition.replicas)
    eligible = {*partition.elr, *partition.last_known_elr}
    if not {*partition.isr, *eligible} <= replicas:
        return "with an in-sync or eligible replica that is not a replica"
    if eligible & set(partition.isr):
        return "with a replica that is in sync and eligible at once"
    if not partition.isr and not eligible:
        return "with no replica that could ever lead"
    if partition.leader == NO_LEADER:
        return ""
    if partition.leader not in partition.isr:
        return "led by a replica that is not in sync"
    leader = image.brokers.get(partition.leader)
    return "led by a broker that is fenced" if leader is None or leader.fenced else ""


def _partitions(image: ClusterImage) -> dict[_Key, tuple[str, PartitionImage]]:
    return {
        (topic.id, index): (f"{topic.name}-{index}", partition)
        for topic in image.topics_by_id.values()
        for index, partition in enumerate(topic.partitions)
    }


def _state(image: ClusterImage) -> tuple[Any, ...]:
    brokers = sorted((each.id, each.epoch, each.fenced, each.in_controlled_shutdown) for each in image.brokers.values())
    topics = sorted((topic.name, topic.id, topic.partitions) for topic in image.topics_by_id.values())
    return (image.epoch, tuple(brokers), tuple(topics), image.next_producer_id)
