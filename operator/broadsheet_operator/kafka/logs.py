"""The logs of topics: where they begin and end, and when the record at an offset was written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest

from broadsheet_operator.kafka.record_times import time_at
from broadsheet_operator.kafka.topics import metadata_request
from broadsheet_operator.kafka.wire import Call, Wire
from broadsheet_operator.reconcilers.observed import Failure, PartitionView, TopicPartition

LATEST, EARLIEST = -1, -2
FETCH_BYTES = 64 * 1024
"""Bytes fetched per partition to find the time of one record."""
LARGE_BYTES = 1024 * 1024 + 1024
"""The same where the batch is larger: the default of max.message.bytes and some more."""
LARGE_FETCHES = 16
"""The most partitions that are fetched with `LARGE_BYTES` in one round."""
FETCH_VERSION = 12
"""The last version of Fetch that names topics by name."""


@dataclass(frozen=True, slots=True)
class Logs:
    """What is known of the partitions."""

    leaders: Mapping[TopicPartition, int]
    starts: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    partitions: Mapping[TopicPartition, PartitionView] = field(default_factory=dict)
    """As the metadata has them, those without a leader too."""


def look_at_logs(wire: Wire, names: Collection[str] | None) -> Logs | Failure:
    """The logs of these topics; None: of all that are not Kafka's own."""
    if names is not None and not names:
        return Logs({}, {}, {})
    answer = wire.ask_one(
        Call(metadata_request(sorted(names) if names is not None else None), "look at the topics of the groups")
    )
    if isinstance(answer, Failure):
        return answer
    partitions = {
        TopicPartition(t.name, p.partition_index): PartitionView(
            p.partition_index,
            p.leader_id if p.leader_id >= 0 else None,
            tuple(p.replica_nodes),
            tuple(p.isr_nodes),
        )
        for t in answer.topics
        if t.error_code == 0 and (names is not None or not t.is_internal)
        for p in t.partitions
    }
    leaders = {at: p.leader for at, p in partitions.items() if p.leader is not None}
    found = list_offsets(wire, leaders, [dict.fromkeys(leaders, EARLIEST), dict.fromkeys(leaders, LATEST)])
    if isinstance(found, Failure):
        return found
    starts, ends = found
    return Logs(leaders, starts, ends, partitions)


def list_offsets(
    wire: Wire, leaders: Mapping[TopicPartition, int], questions: Sequence[Mapping[TopicPartition, int]]
) -> list[dict[TopicPartition, int]] | Failure:
    """For each question (partition to time) partition to offset; a partition with an error is left out."""
    calls: list[Call] = []
    belongs: list[int] = []
    topic = ListOffsetsRequest.ListOffsetsTopic
    for number, question in enumerate(questions):
        for node, places in by_leader(leaders, question).items():
            topics = [
                topic(
                    name=name,
                    partitions=[
                        topic.ListOffsetsPartition(
                            partition_index=i, current_leader_epoch=-1, timestamp=question[TopicPartition(name, i)]
                        )
                        for i in indexes
                    ],
                )
                for name, indexes in places.items()
            ]
            request = ListOffsetsRequest(replica_id=-1, isolation_level=0, topics=topics)
            calls.append(Call(request, "read the ends of the logs", node))
            belongs.append(number)
    result: list[dict[TopicPartition, int]] = [{} for _ in questions]
    for number, answer in zip(belongs, wire.ask(calls), strict=True):
        if isinstance(answer, Failure):
            return answer
        for entry in answer.topics:
            for p in entry.partitions:
                if p.error_code == 0:
                    result[number][TopicPartition(entry.name, p.partition_index)] = p.offset
    return result


def by_leader(
    leaders: Mapping[TopicPartition, int], places: Iterable[TopicPartition]
) -> dict[int, dict[str, list[int]]]:
    result: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at in places:
        if at in leaders:
            result[leaders[at]][at.topic].append(at.partition)
    return result


def record_times(
    wire: Wire, wanted: Mapping[TopicPartition, set[int]], logs: Logs
) -> dict[TopicPartition, dict[int, int]]:
    """For each partition: offset to the time (Unix ms) of the first record there, for those that have one to read.

    Groups that are at different offsets of one partition need a fetch each, so there are as many rounds as the
    partition with the most such offsets has; nearly always one.
    """
    left = {at: set(offsets) for at, offsets in wanted.items() if offsets}
    result: dict[TopicPartition, dict[int, int]] = defaultdict(dict)
    while left:
        some = {at: offsets.pop() for at, offsets in left.items()}
        left = {at: offsets for at, offsets in left.items() if offsets}
        found = _fetch_times(wire, some, logs, FETCH_BYTES)
        # A broker gives one whole batch for the first partition of a fetch, and nothing for another one whose batch is
        # larger than asked for. Those with most unread records are asked for again.
        silent = sorted((at for at in some if at not in found), key=lambda at: some[at] - logs.ends.get(at, 0))
        large = {at: some[at] for at in silent[:LARGE_FETCHES]}
        for at, time_ms in (found | _fetch_times(wire, large, logs, LARGE_BYTES)).items():
            result[at][some[at]] = time_ms
    return result


def _fetch_times(
    wire: Wire, offsets: Mapping[TopicPartition, int], logs: Logs, partition_bytes: int
) -> dict[TopicPartition, int]:
    if not offsets:
        return {}
    topic = FetchRequest.FetchTopic
    calls: list[Call] = []
    starts = {at: max(offset, logs.starts.get(at, 0)) for at, offset in offsets.items()}
    for node, places in by_leader(logs.leaders, offsets).items():
        topics = [
            topic(
                topic=name,
                partitions=[
                    topic.FetchPartition(
                        partition=i,
                        current_leader_epoch=-1,
                        fetch_offset=starts[TopicPartition(name, i)],
                        last_fetched_epoch=-1,
                        log_start_offset=-1,
                        partition_max_bytes=partition_bytes,
                    )
                    for i in indexes
                ],
            )
            for name, indexes in places.items()
        ]
        request = FetchRequest(
            replica_id=-1,
            max_wait_ms=100,
            min_bytes=1,
            max_bytes=LARGE_FETCHES * LARGE_BYTES,
            isolation_level=0,
            session_id=0,
            session_epoch=-1,
            topics=topics,
            forgotten_topics_data=[],
            rack_id="",
            max_version=FETCH_VERSION,
        )
        calls.append(Call(request, "read the time of a record", node))
    result: dict[TopicPartition, int] = {}
    for answer in wire.ask(calls):
        if isinstance(answer, Failure):
            continue  # lag in records is known all the same
        for entry in answer.responses:
            for p in entry.partitions:
                at = TopicPartition(entry.topic, p.partition_index)
                found = time_at(bytes(p.records or b""), starts[at]) if p.error_code == 0 else None
                if found is not None:
                    result[at] = found
    return result
