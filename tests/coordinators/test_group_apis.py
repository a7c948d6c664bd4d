"""The requests of groups in every version that is served: decoded, handled, answered, encoded."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broadsheet_broker.apis import find_coordinator, group_admin, group_membership, offsets
from broadsheet_broker.apis.notices import Notices
from broadsheet_broker.apis.registry import REGISTRY
from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.metadata.image import BrokerInfo, ClusterImage, Endpoint, PartitionImage, TopicImage
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.delete_groups_request import DeleteGroupsRequest
from broadsheet_broker.wire.messages.delete_groups_response import DeleteGroupsResponse
from broadsheet_broker.wire.messages.describe_groups_request import DescribeGroupsRequest
from broadsheet_broker.wire.messages.describe_groups_response import DescribeGroupsResponse
from broadsheet_broker.wire.messages.find_coordinator_request import FindCoordinatorRequest
from broadsheet_broker.wire.messages.find_coordinator_response import FindCoordinatorResponse
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.heartbeat_response import HeartbeatResponse
from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest, JoinGroupRequestProtocol
from broadsheet_broker.wire.messages.join_group_response import JoinGroupResponse
from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from broadsheet_broker.wire.messages.leave_group_response import LeaveGroupResponse
from broadsheet_broker.wire.messages.list_groups_request import ListGroupsRequest
from broadsheet_broker.wire.messages.list_groups_response import ListGroupsResponse
from broadsheet_broker.wire.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from broadsheet_broker.wire.messages.offset_commit_response import OffsetCommitResponse
from broadsheet_broker.wire.messages.offset_delete_request import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from broadsheet_broker.wire.messages.offset_delete_response import OffsetDeleteResponse
from broadsheet_broker.wire.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from broadsheet_broker.wire.messages.offset_fetch_response import OffsetFetchResponse
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest, SyncGroupRequestAssignment
from broadsheet_broker.wire.messages.sync_group_response import SyncGroupResponse
from tests.coordinators.support import GROUP, Bench, subscription

ORDERS = uuid.UUID(int=0x1234)
HANDLERS = {
    FindCoordinatorRequest: (find_coordinator.find_coordinator, FindCoordinatorResponse),
    JoinGroupRequest: (group_membership.join_group, JoinGroupResponse),
    HeartbeatRequest: (group_membership.heartbeat, HeartbeatResponse),
    LeaveGroupRequest: (group_membership.leave_group, LeaveGroupResponse),
    SyncGroupRequest: (group_membership.sync_group, SyncGroupResponse),
    OffsetCommitRequest: (offsets.offset_commit, OffsetCommitResponse),
    OffsetFetchRequest: (offsets.offset_fetch, OffsetFetchResponse),
    OffsetDeleteRequest: (offsets.offset_delete, OffsetDeleteResponse),
    DescribeGroupsRequest: (group_admin.describe_groups, DescribeGroupsResponse),
    ListGroupsRequest: (group_admin.list_groups, ListGroupsResponse),
    DeleteGroupsRequest: (group_admin.delete_groups, DeleteGroupsResponse),
}


def versions(message: Any) -> list[int]:
    api = REGISTRY[message.API_KEY]
    assert (api.lowest, api.highest) == (message.LOWEST_VERSION, message.HIGHEST_VERSION), "as Apache Kafka 4.3"
    return list(range(api.lowest, api.highest + 1))


class RecordedRequest(Request[Any]):
    """A request whose answer goes through the codec and is kept."""

    __slots__ = ("answers", "response_type")

    def __init__(self, body: Any, version: int) -> None:
        connection = cast(Any, SimpleNamespace(id=1, listener="PLAINTEXT", host="10.0.0.1", closed=False))
        wire = b"".join(bytes(part) for part in body.encode(version))
        decoded, end = type(body).decode(memoryview(wire), version)
        assert end == len(wire)
        super().__init__(body.API_KEY, version, 1, "client", decoded, connection, 0.0)
        self.response_type = HANDLERS[type(body)][1]
        self.answers: list[Any] = []

    def answer(self, message: Any) -> None:
        wire = b"".join(bytes(part) for part in message.encode(self.version))
        decoded, _ = cast(Any, self.response_type).decode(memoryview(wire), self.version)
        self.answers.append(decoded)


class Controller:
    """Creates internal topics, or fails to."""

    def __init__(self, broker: ApiBench) -> None:
        self.broker = broker
        self.error: KafkaError | None = None
        self.created: list[str] = []
        self.automatic_topics = self

    async def ensure_internal(self, name: str) -> None:
        if self.error is not None:
            raise self.error
        self.created.append(name)
        self.broker.add_topic(name, self.broker.bench.storage.partitions)


class ApiBench:
    """The services that handlers of groups call, with a topic `orders` of three partitions."""

    def __init__(self, partitions: int = 2) -> None:
        self.bench = Bench(partitions=partitions)
        self.topics: dict[str, TopicImage] = {}
        self.controller = Controller(self)
        self.metadata = SimpleNamespace(image=ClusterImage())
        self.add_topic("orders", 3, ORDERS)
        self.services = cast(
            Services,
            SimpleNamespace(
                groups=self.bench.coordinator, metadata=self.metadata, node=self.controller, notices=Notices()
            ),
        )

    def add_topic(self, name: str, count: int, topic_id: uuid.UUID | None = None) -> None:
        none = (uuid.UUID(int=0),)
        partition = PartitionImage((1,), none, (1,), (), (), (), (), 1, 0, 0, 0)
        self.topics[name] = TopicImage(name, topic_id or uuid.uuid4(), (partition,) * count)
        broker = BrokerInfo(1, 1, uuid.uuid4(), {"PLAINTEXT": Endpoint("localhost", 9092)}, fenced=False)
        self.metadata.image = ClusterImage(
            brokers={1: broker},
            topics_by_name=dict(self.topics),
            topics_by_id={topic.id: topic for topic in self.topics.values()},
        )

    def ask_later(self, body: Any, version: int) -> RecordedRequest:
        request = RecordedRequest(body, version)
        awaitable = cast(Any, HANDLERS[type(body)][0])(self.services, request)
        if inspect.isawaitable(awaitable):
            asyncio.run(cast(Any, awaitable))
        self.bench.loop.settle()
        return request

    def ask(self, body: Any, version: int) -> Any:
        (answer,) = self.ask_later(body, version).answers
        return answer

    def join(self, version: int = 5, member_id: str = "") -> Any:
        protocols = [JoinGroupRequestProtocol(name="range", metadata=subscription("orders"))]
        body = JoinGroupRequest(
            group_id=GROUP,
            session_timeout_ms=10_000,
            rebalance_timeout_ms=60_000,
            member_id=member_id,
            protocol_type="consumer",
            protocols=protocols,
        )
        answer = self.ask(body, version)
        if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            return self.join(version, answer.member_id)
        return answer

    def stable(self) -> str:
        member_id = str(self.join().member_id)
        assignments = [SyncGroupRequestAssignment(member_id=member_id, assignment=b"all")]
        body = SyncGroupRequest(group_id=GROUP, generation_id=1, member_id=member_id, assignments=assignments)
        assert self.ask(body, 3).error_code == 0
        return member_id


# FindCoordinator


@pytest.mark.parametrize("version", versions(FindCoordinatorRequest))
def test_the_coordinator_is_found_and_its_topic_created_on_the_way(version: int) -> None:
    broker = ApiBench()
    body = FindCoordinatorRequest(coordinator_keys=[GROUP, "b"]) if version >= 4 else FindCoordinatorRequest(key=GROUP)
    answer = broker.ask(body, version)
    assert broker.controller.created == ["__consumer_offsets"]
    rows = answer.coordinators if version >= 4 else [answer]
    assert [(row.error_code, row.node_id, row.host, row.port) for row in rows] == [(0, 1, "localhost", 9092)] * len(
        rows
    )
    if version >= 4:
        assert [row.key for row in rows] == [GROUP, "b"]
    broker.ask(body, version)
    assert len(broker.controller.created) == 1


def test_a_topic_that_cannot_be_created_is_a_reason_to_try_again() -> None:
    broker = ApiBench()
    broker.controller.error = KafkaError(ErrorCode.INVALID_REPLICATION_FACTOR, "3 replicas, 1 broker")
    (row,) = broker.ask(FindCoordinatorRequest(coordinator_keys=[GROUP]), 4).coordinators
    assert (row.error_code, row.node_id, row.port) == (ErrorCode.COORDINATOR_NOT_AVAILABLE, -1, -1)
    assert "3 replicas, 1 broker" in row.error_message


def test_transactions_are_refused_for_good_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    broker = ApiBench()
    for _ in range(20):
        answer = broker.ask(FindCoordinatorRequest(key="tx", key_type=1), 3)
        assert answer.error_code == ErrorCode.INVALID_REQUEST
        assert "transactions" in answer.error_message
    assert broker.controller.created == []
    assert caplog.text.count("client 'client' at 10.0.0.1 asks for transactions") == 1


# Membership


@pytest.mark.parametrize("version", versions(JoinGroupRequest))
def test_joining_in_every_version(version: int) -> None:
    broker = ApiBench()
    answer = broker.join(version)
    assert (answer.error_code, answer.generation_id, answer.leader) == (0, 1, answer.member_id)
    assert answer.protocol_name == "range"
    assert broker.bench.group.rebalance_timeout_ms == (10_000 if version == 0 else 60_000)
    assert broker.bench.group.members[answer.member_id].client_host == "/10.0.0.1"


@pytest.mark.parametrize("version", versions(JoinGroupRequest))
def test_a_refused_join_has_no_protocol(version: int) -> None:
    answer = ApiBench().join(version, "unknown")
    assert answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert answer.protocol_name == (None if version >= 7 else "")
    assert answer.member_id == "unknown"


@pytest.mark.parametrize("version", versions(SyncGroupRequest))
def test_syncing_in_every_version(version: int) -> None:
    broker = ApiBench()
    member_id = broker.join().member_id
    body = SyncGroupRequest(group_id=GROUP, generation_id=1, member_id=member_id)
    if version >= 5:
        assert broker.ask(body, version).error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        body.protocol_type, body.protocol_name = "consumer", "range"
    body.assignments = [SyncGroupRequestAssignment(member_id=member_id, assignment=b"all")]
    answer = broker.ask(body, version)
    assert (answer.error_code, answer.assignment) == (0, b"all")


@pytest.mark.parametrize("version", versions(HeartbeatRequest))
def test_heartbeats_in_every_version(version: int) -> None:
    broker = ApiBench()
    member_id = broker.stable()
    body = HeartbeatRequest(group_id=GROUP, generation_id=1, member_id=member_id)
    assert broker.ask(body, version).error_code == 0
    body.member_id = "unknown"
    assert broker.ask(body, version).error_code == ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("version", versions(LeaveGroupRequest))
def test_leaving_in_every_version(version: int) -> None:
    broker = ApiBench()
    member_id = broker.stable()
    for each, error in (("unknown", ErrorCode.UNKNOWN_MEMBER_ID), (member_id, ErrorCode.NONE)):
        if version >= 3:
            answer = broker.ask(LeaveGroupRequest(group_id=GROUP, members=[MemberIdentity(member_id=each)]), version)
            assert (answer.error_code, answer.members[0].error_code) == (0, error)
        else:
            answer = broker.ask(LeaveGroupRequest(group_id=GROUP, member_id=each), version)
            assert answer.error_code == error
    assert broker.bench.state() == "Empty"


# Offsets


def commit_request(version: int, *partitions: tuple[str, int, int]) -> OffsetCommitRequest:
    ids = {"orders": ORDERS, "unknown": uuid.UUID(int=99)}
    topics = []
    for name, index, offset in partitions:
        topic = OffsetCommitRequestTopic(topic_id=ids[name]) if version >= 10 else OffsetCommitRequestTopic(name=name)
        topic.partitions = [
            OffsetCommitRequestPartition(partition_index=index, committed_offset=offset, committed_metadata="m")
        ]
        topics.append(topic)
    return OffsetCommitRequest(group_id=GROUP, topics=topics)


@pytest.mark.parametrize("version", versions(OffsetCommitRequest))
def test_committing_in_every_version(version: int) -> None:
    broker = ApiBench()
    body = commit_request(version, ("orders", 0, 5), ("orders", 7, 5), ("unknown", 0, 5))
    answer = broker.ask(body, version)
    errors = {
        (topic.topic_id if version >= 10 else topic.name, each.partition_index): each.error_code
        for topic in answer.topics
        for each in topic.partitions
    }
    names = (ORDERS, uuid.UUID(int=99)) if version >= 10 else ("orders", "unknown")
    unknown = ErrorCode.UNKNOWN_TOPIC_ID if version >= 10 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert errors == {
        (names[0], 0): 0,
        (names[0], 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        (names[1], 0): unknown,
    }
    assert broker.bench.fetch() == {("orders", 0): 5}


def test_a_commit_of_nothing_that_exists_creates_no_group() -> None:
    broker = ApiBench()
    answer = broker.ask(commit_request(9, ("unknown", 0, 5)), 9)
    assert answer.topics[0].partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert broker.bench.state() == "Dead"


@pytest.mark.parametrize("version", versions(OffsetFetchRequest))
def test_fetching_offsets_in_every_version(version: int) -> None:
    broker = ApiBench()
    broker.ask(commit_request(9, ("orders", 1, 5)), 9)
    if version >= 8:
        topic = OffsetFetchRequestTopics(partition_indexes=[0, 1])
        topic.topic_id, topic.name = (ORDERS, "") if version >= 10 else (topic.topic_id, "orders")
        some = OffsetFetchRequestGroup(group_id=GROUP, topics=[topic])
        every = OffsetFetchRequestGroup(group_id=GROUP, topics=None)
        other = OffsetFetchRequestGroup(group_id="other", topics=None)
        answer = broker.ask(OffsetFetchRequest(groups=[some, every, other], require_stable=True), version)
        assert [group.group_id for group in answer.groups] == [GROUP, GROUP, "other"]
        found = [
            [(each.partition_index, each.committed_offset) for topic in group.topics for each in topic.partitions]
            for group in answer.groups
        ]
        assert found == [[(0, -1), (1, 5)], [(1, 5)], []]
        if version >= 10:
            assert {topic.topic_id for group in answer.groups for topic in group.topics} == {ORDERS}
        return
    body = OffsetFetchRequest(group_id=GROUP, topics=[OffsetFetchRequestTopic(name="orders", partition_indexes=[0, 1])])
    (topic,) = broker.ask(body, version).topics
    assert [(each.committed_offset, each.metadata) for each in topic.partitions] == [(-1, ""), (5, "m")]
    if version >= 2:
        (topic,) = broker.ask(OffsetFetchRequest(group_id=GROUP, topics=None), version).topics
        assert [(each.partition_index, each.committed_offset) for each in topic.partitions] == [(1, 5)]


def test_offsets_of_an_unknown_topic_id() -> None:
    broker = ApiBench()
    topic = OffsetFetchRequestTopics(topic_id=uuid.UUID(int=99), partition_indexes=[3])
    body = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=GROUP, topics=[topic])])
    (answer,) = broker.ask(body, 10).groups[0].topics
    assert answer.topic_id == uuid.UUID(int=99)
    assert [(each.error_code, each.committed_offset) for each in answer.partitions] == [
        (ErrorCode.UNKNOWN_TOPIC_ID, -1)
    ]


@pytest.mark.parametrize("version", versions(OffsetFetchRequest))
def test_a_fetch_at_the_wrong_broker(version: int) -> None:
    broker = ApiBench(partitions=1)
    broker.bench.coordinator.partitions.on_resign(0)
    if version >= 8:
        body = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=GROUP, topics=None)])
        assert broker.ask(body, version).groups[0].error_code == ErrorCode.NOT_COORDINATOR
        return
    body = OffsetFetchRequest(group_id=GROUP, topics=[OffsetFetchRequestTopic(name="orders", partition_indexes=[4])])
    answer = broker.ask(body, version)
    if version >= 2:
        assert (answer.error_code, answer.topics) == (ErrorCode.NOT_COORDINATOR, [])
    else:
        assert answer.topics[0].partitions[0].error_code == ErrorCode.NOT_COORDINATOR


def test_deleting_offsets() -> None:
    broker = ApiBench()
    broker.ask(commit_request(9, ("orders", 1, 5)), 9)
    partitions = [OffsetDeleteRequestPartition(partition_index=index) for index in (1, 9)]
    topics = [
        OffsetDeleteRequestTopic(name="orders", partitions=partitions),
        OffsetDeleteRequestTopic(name="unknown", partitions=partitions[:1]),
    ]
    answer = broker.ask(OffsetDeleteRequest(group_id=GROUP, topics=topics), 0)
    errors = {
        (topic.name, each.partition_index): each.error_code for topic in answer.topics for each in topic.partitions
    }
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert errors == {("orders", 1): 0, ("orders", 9): unknown, ("unknown", 1): unknown}
    assert broker.bench.fetch() == {}


# Administration


@pytest.mark.parametrize("version", versions(DescribeGroupsRequest))
def test_describing_in_every_version(version: int) -> None:
    broker = ApiBench()
    member_id = broker.stable()
    body = DescribeGroupsRequest(groups=[GROUP, "unknown", ""], include_authorized_operations=version >= 3)
    known, unknown, nameless = broker.ask(body, version).groups
    assert (known.error_code, known.group_state, known.protocol_type, known.protocol_data) == (
        0,
        "Stable",
        "consumer",
        "range",
    )
    (member,) = known.members
    assert (member.member_id, member.client_id, member.client_host) == (member_id, "client", "/10.0.0.1")
    assert (member.member_metadata, member.member_assignment) == (subscription("orders"), b"all")
    assert unknown.group_state == "Dead"
    assert unknown.error_code == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else 0)
    assert unknown.error_message == (f"Group {unknown.group_id} not found." if version >= 6 else None)
    assert nameless.error_code == ErrorCode.INVALID_GROUP_ID
    if version >= 3:
        assert known.authorized_operations == 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11


def test_subscriptions_are_shown_of_stable_groups_only() -> None:
    broker = ApiBench()
    broker.join()
    (group,) = broker.ask(DescribeGroupsRequest(groups=[GROUP]), 5).groups
    assert (group.group_state, group.protocol_data) == ("CompletingRebalance", "")
    assert [(member.member_metadata, member.member_assignment) for member in group.members] == [(b"", b"")]


@pytest.mark.parametrize("version", versions(ListGroupsRequest))
def test_listing_in_every_version(version: int) -> None:
    broker = ApiBench()
    broker.stable()
    broker.bench.commit({("orders", 0): 1}, group_id="simple")

    def listed(**filters: list[str]) -> dict[str, tuple[str, str, str]]:
        answer = broker.ask(ListGroupsRequest(**filters), version)
        assert answer.error_code == 0
        return {group.group_id: (group.protocol_type, group.group_state, group.group_type) for group in answer.groups}

    state, type_ = version >= 4, version >= 5
    assert listed() == {
        GROUP: ("consumer", "Stable" if state else "", "classic" if type_ else ""),
        "simple": ("", "Empty" if state else "", "classic" if type_ else ""),
    }
    if state:
        assert set(listed(states_filter=["stable"])) == {GROUP}
        assert set(listed(states_filter=["Empty", "Dead"])) == {"simple"}
    if type_:
        assert set(listed(types_filter=["Classic"])) == {GROUP, "simple"}
        assert listed(types_filter=["consumer"]) == {}


@pytest.mark.parametrize("version", versions(DeleteGroupsRequest))
def test_deleting_in_every_version(version: int) -> None:
    broker = ApiBench()
    broker.stable()
    broker.bench.commit({("orders", 0): 1}, group_id="simple")
    results = broker.ask(DeleteGroupsRequest(groups_names=[GROUP, "simple", "unknown"]), version).results
    assert {result.group_id: result.error_code for result in results} == {
        GROUP: ErrorCode.NON_EMPTY_GROUP,
        "simple": 0,
        "unknown": ErrorCode.GROUP_ID_NOT_FOUND,
    }
