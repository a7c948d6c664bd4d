"""A reassignment that begins between two requests: the metadata that a broker answers is from before it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from broadsheet_operator.kafka.brokers import observe_placement
from broadsheet_operator.kafka.topics import observe_topics
from broadsheet_operator.kafka.wire import Call, Wire
from broadsheet_operator.reconcilers.observed import TopicView

BEFORE = SimpleNamespace(partition_index=0, leader_id=0, replica_nodes=[0, 1, 2], isr_nodes=[0, 1, 2])
MOVE = SimpleNamespace(partition_index=0, replicas=[3, 1, 2, 0], adding_replicas=[3], removing_replicas=[0])
TOPIC = SimpleNamespace(name="orders", topic_id="t", error_code=0, is_internal=False, partitions=[BEFORE])
METADATA = SimpleNamespace(brokers=[], topics=[TOPIC])
REASSIGNMENTS = SimpleNamespace(
    error_code=0, error_message=None, topics=[SimpleNamespace(name="orders", partitions=[MOVE])]
)
CONFIGS = SimpleNamespace(
    results=[SimpleNamespace(resource_name="orders", error_code=0, error_message=None, configs=[])]
)
ANSWERS = {"Metadata": METADATA, "ListPartitionReassignments": REASSIGNMENTS, "DescribeConfigs": CONFIGS}


class LateMetadata:
    """Brokers whose metadata is older than what the controller does."""

    def ask(self, calls: Sequence[Call]) -> list[Any]:
        return [ANSWERS[type(call.request).__name__.removesuffix("Request")] for call in calls]

    def ask_one(self, call: Call) -> Any:
        return self.ask([call])[0]


WIRE = cast(Wire, LateMetadata())


def test_a_move_that_the_metadata_does_not_have_yet_leads_to_as_many_replicas_as_before() -> None:
    """A rebalance onto a fourth broker was taken back: without the replica that is made, the target was too small."""
    view = observe_topics(WIRE, ["orders"])["orders"]
    assert isinstance(view, TopicView)
    (partition,) = view.partitions
    assert (partition.replicas, partition.adding, partition.removing) == ((3, 1, 2, 0), (3,), (0,))
    assert partition.settled == (1, 2, 0)


def test_the_placement_of_all_partitions_has_the_target_of_a_move_that_has_just_begun() -> None:
    placed = observe_placement(WIRE)
    assert isinstance(placed, tuple)
    assert placed[0].target == (3, 1, 2)
