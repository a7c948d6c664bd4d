"""Committing, fetching, deleting and expiring offsets."""

from __future__ import annotations

import uuid

import pytest

from broadsheet_broker.coordinators import Context
from broadsheet_broker.coordinators.groups import records
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import ClusterImage, TopicImage
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from broadsheet_broker.wire.messages.offset_delete_request import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from broadsheet_broker.wire.messages.offset_fetch_request import OffsetFetchRequestGroup, OffsetFetchRequestTopics
from broadsheet_broker.wire.messages.remove_topic_record import RemoveTopicRecord
from tests.coordinators.support import GROUP, Bench, Replies

P0 = ("orders", 0)
P1 = ("orders", 1)
OTHER = ("payments", 0)
DAY_S = 24 * 3600.0


def delete_offsets(bench: Bench, *partitions: tuple[str, int], group_id: str = GROUP) -> Replies:
    replies = Replies()
    topics = [
        OffsetDeleteRequestTopic(name=name, partitions=[OffsetDeleteRequestPartition(partition_index=index)])
        for name, index in partitions
    ]
    context = Context("client", "/10.0.0.1", 0)
    bench.coordinator.delete_offsets(OffsetDeleteRequest(group_id=group_id, topics=topics), context, replies)
    bench.loop.settle()
    return replies


def delete_group(bench: Bench, *group_ids: str) -> dict[str, int]:
    replies = Replies()
    bench.coordinator.delete(group_ids, Context("client", "/10.0.0.1", 2), replies)
    bench.loop.settle()
    return {result.group_id: result.error_code for result in replies.one}


def live_keys(bench: Bench) -> set[bytes]:
    """Keys that compaction would keep."""
    return {key for key, value in bench.storage.latest().items() if value is not None}


def test_a_client_without_a_group_commits_and_fetches() -> None:
    bench = Bench()
    assert bench.commit_error({P0: 5, P1: 7}) is ErrorCode.NONE
    assert bench.fetch(P0, P1, OTHER) == {P0: 5, P1: 7, OTHER: -1}
    assert bench.fetch() == {P0: 5, P1: 7}
    assert bench.state() == "Empty"


def test_metadata_and_leader_epoch_come_back() -> None:
    bench = Bench()
    bench.commit({P0: 5}, metadata="from here")
    replies = bench.fetch_later(P0, P1)
    known, unknown = (topic.partitions[0] for topic in replies.one.topics)
    assert (known.metadata, known.committed_leader_epoch) == ("from here", -1)
    assert (unknown.committed_offset, unknown.metadata, unknown.committed_leader_epoch) == (-1, "", -1)


def test_a_group_that_does_not_exist_has_committed_nothing() -> None:
    bench = Bench()
    assert bench.fetch(P0) == {P0: -1}
    assert bench.fetch() == {}


def test_a_member_commits_in_its_generation() -> None:
    bench = Bench()
    (a,) = bench.form("a")
    assert bench.commit_error({P0: 1}, a, 1) is ErrorCode.NONE
    assert bench.fetch(P0) == {P0: 1}


@pytest.mark.parametrize(("version", "error"), [(9, ErrorCode.GROUP_ID_NOT_FOUND), (8, ErrorCode.ILLEGAL_GENERATION)])
def test_a_member_of_no_group_is_refused(version: int, error: ErrorCode) -> None:
    bench = Bench()
    assert bench.commit_error({P0: 1}, "a", 1, version=version) is error
    assert bench.state() == "Dead"


def test_commits_to_a_stable_group_are_checked() -> None:
    bench = Bench()
    (a,) = bench.form("a")
    assert bench.commit_error({P0: 1}, a, 0) is ErrorCode.ILLEGAL_GENERATION
    assert bench.commit_error({P0: 1}, a, 2) is ErrorCode.ILLEGAL_GENERATION
    assert bench.commit_error({P0: 1}, "b", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.commit_error({P0: 1}) is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.commit_error({P0: 1}, a, -1) is ErrorCode.ILLEGAL_GENERATION
    assert bench.commit_error({P0: 1}, "", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.fetch() == {}


def test_a_member_may_commit_while_the_others_rejoin_and_not_between_join_and_sync() -> None:
    bench = Bench()
    a, b = bench.form("a", "b")
    generation = bench.group.generation
    bench.join(a)
    assert bench.state() == "PreparingRebalance"
    assert bench.commit_error({P0: 1}, b, generation) is ErrorCode.NONE
    bench.join(b)
    assert bench.state() == "CompletingRebalance"
    assert bench.commit_error({P0: 2}, b, generation) is ErrorCode.ILLEGAL_GENERATION
    assert bench.commit_error({P0: 2}, b, generation + 1) is ErrorCode.REBALANCE_IN_PROGRESS
    assert bench.fetch(P0) == {P0: 1}


def test_anybody_may_commit_to_an_empty_group_without_a_generation() -> None:
    bench = Bench()
    (a,) = bench.form("a")
    bench.leave((a, None))
    assert bench.commit_error({P0: 3}) is ErrorCode.NONE
    assert bench.commit_error({P0: 4}, "somebody", -1) is ErrorCode.NONE
    assert bench.commit_error({P0: 4}, a, 2) is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_commit_keeps_the_session_alive() -> None:
    bench = Bench()
    (a,) = bench.form("a", session_ms=10_000)
    for offset in range(4):
        bench.loop.run_for(9)
        assert bench.commit_error({P0: offset}, a, 1) is ErrorCode.NONE
    assert bench.state() == "Stable"


def test_long_metadata_is_refused_for_its_partition_alone() -> None:
    bench = Bench(offset_metadata_max_bytes=5)
    assert bench.commit_error({P0: 1}, metadata="123456") is ErrorCode.OFFSET_METADATA_TOO_LARGE
    assert bench.state() == "Dead"
    assert bench.commit_error({P0: 1}, metadata="12345") is ErrorCode.NONE
    assert bench.commit_error({P0: 2}, metadata=None) is ErrorCode.NONE
    assert bench.fetch(P0) == {P0: 2}


def test_offsets_are_seen_when_they_are_committed_in_the_log() -> None:
    bench = Bench()
    bench.commit({P0: 1})
    bench.storage.hold = True
    waiting = bench.commit({P0: 2})
    assert not waiting
    assert bench.fetch(P0) == {P0: 1}
    bench.storage.release()
    assert waiting.one.topics[0].partitions[0].error_code == 0
    assert bench.fetch(P0) == {P0: 2}


def test_a_coordinator_that_may_be_replaced_tells_no_offsets_and_takes_none() -> None:
    bench = Bench()
    bench.commit({("orders", 0): 5})
    bench.coordinator.partitions.may_be_replaced = lambda index: True
    replies = Replies()
    bench.coordinator.fetch_offsets(OffsetFetchRequestGroup(group_id=GROUP, topics=None), False, replies)
    assert replies.one.error_code == ErrorCode.NOT_COORDINATOR
    assert bench.heartbeat("somebody", 1) is ErrorCode.NOT_COORDINATOR
    appends = bench.storage.appends
    bench.commit({("orders", 0): 6})
    assert bench.storage.appends == appends


def test_a_stable_fetch_waits_for_commits_before_it() -> None:
    bench = Bench()
    bench.storage.hold = True
    bench.commit({P0: 2})
    stable = bench.fetch_later(P0, require_stable=True)
    assert not stable
    bench.storage.release()
    assert stable.one.topics[0].partitions[0].committed_offset == 2
    bench.storage.hold = False
    assert bench.fetch(P0, require_stable=True) == {P0: 2}


def test_a_deposed_coordinator_does_not_answer_what_its_successor_has_replaced() -> None:
    """A fetch waited behind a commit. The commit failed because others lead by now, and only then did the coordinator
    hear that it is deposed: until then it answered from its old state."""
    bench = Bench()
    bench.commit({P0: 2})
    bench.storage.hold = True
    bench.commit({P0: 3})
    stable = bench.fetch_later(P0, require_stable=True)
    bench.storage.release(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert stable.one.error_code == ErrorCode.NOT_COORDINATOR and not stable.one.topics


@pytest.mark.parametrize(
    ("failure", "seen"),
    [
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_a_commit_that_fails_changes_nothing(failure: ErrorCode, seen: ErrorCode) -> None:
    bench = Bench()
    bench.storage.fail = failure
    assert bench.commit_error({P0: 1}) is seen
    assert bench.state() == "Dead"
    bench.storage.fail = None
    bench.commit({P0: 1})
    bench.storage.fail = failure
    assert bench.commit_error({P0: 2}) is seen
    assert bench.fetch(P0) == {P0: 1}


def test_commits_are_refused_while_too_many_wait_for_the_log() -> None:
    bench = Bench(max_waiting_writes=2)
    bench.commit({P0: 1})
    bench.storage.hold = True
    waiting = [bench.commit({P0: offset}) for offset in (2, 3)]
    assert bench.commit_error({P0: 4}) is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert bench.commit_error({P0: 4}, group_id="another") is ErrorCode.COORDINATOR_NOT_AVAILABLE
    bench.storage.release()
    bench.storage.hold = False
    assert all(each.one.topics[0].partitions[0].error_code == 0 for each in waiting)
    assert bench.fetch(P0) == {P0: 3}
    assert bench.state("another") == "Dead"  # the group that the refused commit would have made is not there
    assert bench.commit_error({P0: 5}) is ErrorCode.NONE


def test_a_commit_that_takes_too_long_is_answered_and_may_still_count() -> None:
    bench = Bench(write_timeout_ms=5_000)
    bench.storage.hold = True
    slow = bench.commit({P0: 1})
    bench.loop.run_for(5.1)
    assert slow.one.topics[0].partitions[0].error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    bench.storage.release()
    assert bench.fetch(P0) == {P0: 1}


def test_commits_of_one_turn_are_one_batch() -> None:
    bench = Bench()
    before = bench.storage.appends
    replies = [Replies() for _ in range(50)]
    for number, reply in enumerate(replies):
        partition = OffsetCommitRequestPartition(partition_index=number, committed_offset=number)
        request = OffsetCommitRequest(
            group_id=GROUP, topics=[OffsetCommitRequestTopic(name="orders", partitions=[partition])]
        )
        bench.coordinator.commit_offsets(request, Context("c", "/h", 9), reply)
    bench.loop.settle()
    assert bench.storage.appends == before + 1
    assert all(reply.one.topics[0].partitions[0].error_code == 0 for reply in replies)


def test_a_batch_has_a_limit() -> None:
    bench = Bench(max_batch_bytes=500)
    replies = [Replies() for _ in range(20)]
    for number, reply in enumerate(replies):
        partition = OffsetCommitRequestPartition(partition_index=number, committed_offset=number)
        request = OffsetCommitRequest(
            group_id=GROUP, topics=[OffsetCommitRequestTopic(name="orders", partitions=[partition])]
        )
        bench.coordinator.commit_offsets(request, Context("c", "/h", 9), reply)
    bench.loop.settle()
    assert bench.storage.appends > 3
    assert all(reply.one.topics[0].partitions[0].error_code == 0 for reply in replies)
    assert len(bench.fetch()) == 20


def test_offsets_by_topic_id_do_not_outlive_the_topic() -> None:
    bench = Bench()
    old, new = uuid.uuid4(), uuid.uuid4()
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=9)
    request = OffsetCommitRequest(
        group_id=GROUP, topics=[OffsetCommitRequestTopic(name="orders", topic_id=old, partitions=[partition])]
    )
    bench.coordinator.commit_offsets(request, Context("c", "/h", 10), Replies())
    bench.loop.settle()
    for topic_id, offset in ((old, 9), (new, -1)):
        replies = Replies()
        asked = OffsetFetchRequestTopics(name="orders", topic_id=topic_id, partition_indexes=[0])
        bench.coordinator.fetch_offsets(OffsetFetchRequestGroup(group_id=GROUP, topics=[asked]), False, replies)
        assert replies.one.topics[0].partitions[0].committed_offset == offset
    assert bench.fetch(P0) == {P0: 9}
    bench.coordinator.on_topics_deleted(["orders"], {"orders": new})
    bench.loop.settle()
    assert bench.fetch(P0) == {P0: 9}
    bench.coordinator.on_topics_deleted(["orders"], {"orders": old})
    bench.loop.settle()
    assert bench.fetch(P0) == {P0: -1}


def test_offsets_of_a_deleted_topic_are_deleted() -> None:
    bench = Bench()
    bench.commit({P0: 1, OTHER: 2})
    bench.coordinator.on_topics_deleted(["orders"])
    bench.loop.settle()
    assert bench.fetch() == {OTHER: 2}
    assert len(live_keys(bench)) == 1


def test_a_new_picture_of_the_cluster_says_which_topics_are_gone() -> None:
    bench = Bench()
    bench.commit({P0: 1, OTHER: 2})
    gone = TopicImage("payments", uuid.uuid4(), ())
    delta = MetadataDelta(ClusterImage(topics_by_name={gone.name: gone}, topics_by_id={gone.id: gone}))
    delta.replay(RemoveTopicRecord(topic_id=gone.id))
    bench.coordinator.on_metadata(delta, ClusterImage())
    bench.loop.settle()
    assert bench.fetch() == {P0: 1}


# Deleting


def test_a_deleted_group_leaves_nothing_behind() -> None:
    bench = Bench()
    (a,) = bench.form("a")
    bench.commit({P0: 1, P1: 2}, a, 1)
    assert delete_group(bench, GROUP, "unknown", "") == {
        GROUP: ErrorCode.NON_EMPTY_GROUP,
        "unknown": ErrorCode.GROUP_ID_NOT_FOUND,
        "": ErrorCode.INVALID_GROUP_ID,
    }
    bench.leave((a, None))
    assert delete_group(bench, GROUP) == {GROUP: 0}
    assert bench.state() == "Dead"
    assert bench.fetch() == {}
    assert live_keys(bench) == set()


def test_a_deletion_takes_commits_on_their_way_with_it() -> None:
    bench = Bench()
    bench.commit({P0: 1})
    bench.storage.hold = True
    bench.commit({P1: 2})
    replies = Replies()
    bench.coordinator.delete([GROUP], Context("c", "/h", 2), replies)
    bench.loop.settle()
    bench.storage.release()
    assert replies.one[0].error_code == 0
    assert bench.fetch() == {}
    assert live_keys(bench) == set()


def test_a_deletion_that_fails_leaves_the_group() -> None:
    bench = Bench()
    bench.commit({P0: 1})
    bench.storage.fail = ErrorCode.KAFKA_STORAGE_ERROR
    assert delete_group(bench, GROUP) == {GROUP: ErrorCode.NOT_COORDINATOR}
    bench.storage.fail = None
    assert bench.state() == "Empty"
    assert bench.fetch(P0) == {P0: 1}


def test_offsets_of_topics_that_are_read_cannot_be_deleted() -> None:
    bench = Bench()
    (a,) = bench.form("a")
    bench.commit({P0: 1, OTHER: 2}, a, 1)
    answer = delete_offsets(bench, P0, OTHER, ("payments", 5)).one
    errors = {
        (topic.name, each.partition_index): each.error_code for topic in answer.topics for each in topic.partitions
    }
    assert errors == {P0: ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, OTHER: 0, ("payments", 5): 0}
    assert bench.fetch() == {P0: 1}
    bench.leave((a, None))
    assert delete_offsets(bench, P0).one.error_code == 0
    assert bench.fetch() == {}


def test_offset_deletion_is_refused_where_it_makes_no_sense() -> None:
    bench = Bench()
    assert delete_offsets(bench, P0).one.error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert delete_offsets(bench, P0, group_id="").one.error_code == ErrorCode.INVALID_GROUP_ID
    bench.join(version=3, protocol_type="connect")
    assert delete_offsets(bench, P0).one.error_code == ErrorCode.NON_EMPTY_GROUP


# Expiry


def test_offsets_of_an_empty_group_expire_after_the_retention_time_and_the_group_with_them() -> None:
    bench = Bench()
    (a,) = bench.form("a", session_ms=1_800_000)
    bench.commit({P0: 1}, a, 1)
    for _ in range(8 * 24 * 4):
        bench.loop.run_for(900)
        bench.heartbeat(a, 1)
    assert bench.fetch(P0) == {P0: 1}, "a live group keeps the offsets of what it reads"
    bench.leave((a, None))
    bench.loop.run_for(6.9 * DAY_S)
    assert bench.fetch(P0) == {P0: 1}
    bench.loop.run_for(0.2 * DAY_S)
    assert bench.fetch(P0) == {P0: -1}
    assert bench.state() == "Dead"
    assert live_keys(bench) == set()


def test_offsets_of_a_client_without_a_group_expire_each_by_itself() -> None:
    bench = Bench()
    bench.commit({P0: 1})
    bench.loop.run_for(4 * DAY_S)
    bench.commit({P1: 2})
    bench.loop.run_for(4 * DAY_S)
    assert bench.fetch() == {P1: 2}
    bench.loop.run_for(4 * DAY_S)
    assert bench.state() == "Dead"


def test_a_live_group_loses_offsets_of_topics_it_no_longer_reads() -> None:
    bench = Bench(offsets_retention_ms=3_600_000)
    (a,) = bench.form("a", session_ms=1_800_000)
    bench.commit({P0: 1, OTHER: 2}, a, 1)
    for _ in range(5):
        bench.loop.run_for(900)
        bench.heartbeat(a, 1)
    assert bench.fetch() == {P0: 1}


def test_nothing_expires_during_a_rebalance() -> None:
    bench = Bench(offsets_retention_ms=3_600_000)
    a, b = bench.form("a", "b", session_ms=1_800_000, rebalance_ms=100_000_000)
    bench.commit({P0: 1, OTHER: 2}, a, bench.group.generation)
    bench.join(a, session_ms=1_800_000, rebalance_ms=100_000_000)
    for _ in range(6):
        bench.loop.run_for(900)
        bench.heartbeat(b, bench.group.generation)
    assert bench.fetch() == {P0: 1, OTHER: 2}


def test_a_retention_of_the_clients_own_counts_for_that_commit() -> None:
    bench = Bench()
    bench.commit({P0: 1}, retention_ms=3_600_000, version=4)
    bench.commit({P1: 1})
    key, value = next(iter(bench.storage.latest().items()))
    assert value is not None
    assert value[:2] == b"\x00\x01", "only version 1 has an expiry"
    stored = records.read(key, value)
    assert isinstance(stored, records.OffsetRecord)
    bench.loop.run_for(3_000)
    assert bench.fetch() == {P0: 1, P1: 1}
    bench.loop.run_for(1_300)
    assert bench.fetch() == {P1: 1}


def test_an_empty_group_without_offsets_goes_at_the_next_check() -> None:
    bench = Bench()
    (a,) = bench.form("a")
    bench.leave((a, None))
    bench.loop.run_for(601)
    assert bench.state() == "Dead"
    assert live_keys(bench) == set()
