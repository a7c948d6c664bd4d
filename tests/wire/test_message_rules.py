"""What holds for all messages beyond their bytes: defaults, versions, fields that a version lacks, tagged fields."""

from __future__ import annotations

import copy
import uuid

import pytest

from broadsheet_broker.wire.errors import ProtocolError
from broadsheet_broker.wire.messages.create_topics_request import CreateTopicsRequest
from broadsheet_broker.wire.messages.fetch_response import (
    FetchableTopicResponse,
    FetchResponse,
    LeaderIdAndEpoch,
    PartitionData,
)
from broadsheet_broker.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.primitives import ZERO_UUID
from tests.wire.message_strategies import all_message_classes, all_versions


def test_a_message_of_defaults_survives_in_every_version() -> None:
    for cls, version in all_versions():
        data = b"".join(cls().encode(version))
        message, end = cls.decode(memoryview(data), version)
        assert (message, end) == (cls(), len(data)), f"{cls.__name__} version {version}"


def test_defaults_are_those_of_the_description() -> None:
    request = CreateTopicsRequest()
    assert (request.topics, request.timeout_ms, request.validate_only) == ([], 60000, False)
    partition = PartitionData()
    assert partition.records is None
    assert partition.current_leader == LeaderIdAndEpoch(leader_id=-1, leader_epoch=-1)
    assert MetadataRequestTopic().topic_id == ZERO_UUID
    assert MetadataRequest().topics == []


def test_lists_are_not_shared_between_messages() -> None:
    MetadataRequest().topics = None
    first, second = CreateTopicsRequest(), CreateTopicsRequest()
    assert first.topics is not second.topics


def test_the_shared_default_of_a_struct_cannot_be_changed() -> None:
    partition = PartitionData()
    with pytest.raises(AttributeError, match="assign a new one"):
        partition.current_leader.leader_id = 1
    partition.current_leader = LeaderIdAndEpoch(leader_id=1)
    assert PartitionData().current_leader.leader_id == -1
    assert copy.deepcopy(PartitionData()) == PartitionData()


def test_offsets_other_than_zero() -> None:
    data = b"head" + b"".join(MetadataRequest(topics=[MetadataRequestTopic(name="orders")]).encode(12)) + b"tail"
    message, end = MetadataRequest.decode(memoryview(data), 12, 4)
    assert message.topics == [MetadataRequestTopic(name="orders")]
    assert end == len(data) - 4


@pytest.mark.parametrize("version", [-1, 2, 14])
def test_versions_that_do_not_exist_are_protocol_errors(version: int) -> None:
    with pytest.raises(ProtocolError, match="has versions 3 to 13"):
        ProduceRequest.decode(memoryview(b""), version)


def test_a_field_that_the_version_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="include_topic_authorized_operations is set, and version 7 lacks it"):
        MetadataRequest(include_topic_authorized_operations=True).encode(7)
    MetadataRequest(include_topic_authorized_operations=False).encode(7)


def test_a_field_that_the_version_lacks_is_left_out_when_it_may_be_ignored() -> None:
    request = MetadataRequest(topics=[MetadataRequestTopic(name="orders", topic_id=uuid.uuid4())])
    data = b"".join(request.encode(9))
    assert MetadataRequest.decode(memoryview(data), 9)[0].topics == [MetadataRequestTopic(name="orders")]


def test_unknown_tagged_fields_are_skipped() -> None:
    data = b"".join(MetadataRequest(topics=None).encode(12))
    assert data.endswith(b"\x00")
    tagged = data[:-1] + b"\x02\x05\x03abc\xff\x01\x00"
    message, end = MetadataRequest.decode(memoryview(tagged), 12)
    assert message == MetadataRequest(topics=None)
    assert end == len(tagged)


def test_known_tagged_fields_are_written_in_order_and_only_when_set() -> None:
    plain = b"".join(FetchResponse(responses=[FetchableTopicResponse(partitions=[PartitionData()])]).encode(12))
    leader = LeaderIdAndEpoch(leader_id=3, leader_epoch=4)
    response = FetchResponse(responses=[FetchableTopicResponse(partitions=[PartitionData(current_leader=leader)])])
    tagged = b"".join(response.encode(12))
    assert len(tagged) == len(plain) + 2 + 9  # tag and size, two numbers and their own empty section
    assert FetchResponse.decode(memoryview(tagged), 12)[0] == response


def test_a_tagged_field_of_another_length_than_it_says_is_refused() -> None:
    leader = LeaderIdAndEpoch(leader_id=3, leader_epoch=4)
    response = FetchResponse(responses=[FetchableTopicResponse(partitions=[PartitionData(current_leader=leader)])])
    data = bytearray(b"".join(response.encode(12)))
    position = data.index(b"\x01\x01\x09") + 2
    data[position] = 8
    with pytest.raises(ProtocolError, match="current_leader"):
        FetchResponse.decode(memoryview(bytes(data)), 12)


def test_records_are_not_copied() -> None:
    batches = [b"first" * 300, memoryview(b"second" * 300)]
    request = ProduceRequest(
        topic_data=[TopicProduceData(name="orders", partition_data=[PartitionProduceData(index=1, records=batches)])]
    )
    buffers = request.encode(9)
    assert buffers[1] is batches[0]
    assert buffers[2] is batches[1]
    frame = memoryview(b"".join(buffers))
    records = ProduceRequest.decode(frame, 9)[0].topic_data[0].partition_data[0].records
    assert isinstance(records, memoryview)
    assert records.obj is frame.obj
    assert records == b"first" * 300 + b"second" * 300


def test_small_records_are_joined_with_what_surrounds_them() -> None:
    partitions = [PartitionData(partition_index=index, records=b"tiny") for index in range(20)]
    assert len(FetchResponse(responses=[FetchableTopicResponse(partitions=partitions)]).encode(12)) == 1


def test_null_where_it_is_not_allowed_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="name may not be null"):
        ProduceRequest.decode(memoryview(b"\x00" + bytes(6) + b"\x02" + b"\x00" * 8), 9)


def test_strings_that_are_not_utf8_are_protocol_errors() -> None:
    data = b"".join(MetadataRequest(topics=[MetadataRequestTopic(name="orders")]).encode(12))
    with pytest.raises(ProtocolError, match="UTF-8"):
        MetadataRequest.decode(memoryview(data.replace(b"orders", b"\xff\xfe\xfd\xff\xff\xff")), 12)


def test_messages_show_their_fields() -> None:
    assert repr(LeaderIdAndEpoch(leader_id=1)) == "LeaderIdAndEpoch(leader_id=1, leader_epoch=-1)"


def test_messages_of_other_classes_are_never_equal() -> None:
    assert LeaderIdAndEpoch() != object()
    assert len({cls.__name__ for cls in all_message_classes()}) == len(all_message_classes())
