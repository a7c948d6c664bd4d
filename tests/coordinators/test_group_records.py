"""Records of `__consumer_offsets`, against bytes that Apache Kafka 4.3.0's own classes wrote."""

from __future__ import annotations

from uuid import UUID, uuid4

from broadsheet_broker.coordinators.groups import GroupSettings, records
from broadsheet_broker.coordinators.groups.classic import ClassicGroup, ClassicProtocol, GroupState
from broadsheet_broker.coordinators.groups.classic.member import Member
from broadsheet_broker.coordinators.groups.classic.records import (
    group_metadata,
    group_of,
    new_group_metadata,
    subscribed_topics,
)
from broadsheet_broker.coordinators.groups.records import CommittedOffset
from broadsheet_broker.wire.primitives import ZERO_UUID
from tests.coordinators.support import subscription

TIME_MS = 1_700_000_000_000
PROTOCOL = ClassicProtocol(GroupSettings(), uuid4)

OFFSET_KEY = "00010002673100066f726465727300000002"
OFFSET_VALUE_WITH_TOPIC_ID = "0004000000000000002a00000003026d0000018bcfe5680001001000000000000000010000000000000002"
OFFSET_VALUE = "0004000000000000002affffffff010000018bcfe5680000"
OFFSET_VALUE_WITH_EXPIRY = "0001000000000000002a00016d0000018bcfe568000000018bcfe57610"
GROUP_KEY = "000200026731"
NEW_GROUP_VALUE = "0003000000000000ffffffff0000018bcfe5680000000000"
GROUP_VALUE = (
    "00030008636f6e73756d657200000005000572616e676500026d310000018bcfe568000000000200026d31ffff00016300092f31302e302e"
    "302e310000ea6000002710000000020102000000010300026d320002693200016300092f31302e302e302e310000ea6000002710000000020"
    "10200000000"
)


def group_of_two(first: bytes = b"\x01\x02") -> ClassicGroup:
    group = ClassicGroup("g1", TIME_MS, PROTOCOL)
    for member_id, instance, assignment in (("m1", None, b"\x03"), ("m2", "i2", b"")):
        group.add(
            Member(member_id, instance, "c", "/10.0.0.1", 60_000, 10_000, "consumer", [("range", first)], assignment)
        )
    group.state = GroupState.STABLE
    group.generation = 5
    group.protocol_name = "range"
    return group


def test_offset_commits_are_kafkas() -> None:
    topic_id = UUID(int=1 << 64 | 2)
    for value, expected in (
        (CommittedOffset(42, 3, "m", TIME_MS, -1, topic_id), OFFSET_VALUE_WITH_TOPIC_ID),
        (CommittedOffset(42, -1, "", TIME_MS, -1, ZERO_UUID), OFFSET_VALUE),
        (CommittedOffset(42, -1, "m", TIME_MS, TIME_MS + 3_600, ZERO_UUID), OFFSET_VALUE_WITH_EXPIRY),
    ):
        key, written = records.offset_commit("g1", "orders", 2, value)
        assert written is not None
        assert (key.hex(), written.hex()) == (OFFSET_KEY, expected)
        assert records.read(key, written) == records.OffsetRecord("g1", "orders", 2, value)


def test_offset_tombstones_are_kafkas() -> None:
    key, value = records.offset_tombstone("g1", "orders", 2)
    assert (key.hex(), value) == (OFFSET_KEY, None)
    assert records.read(key, value) == records.OffsetRecord("g1", "orders", 2, None)


def test_group_metadata_is_kafkas() -> None:
    key, value = group_metadata(group_of_two())
    assert value is not None
    assert (key.hex(), value.hex()) == (GROUP_KEY, GROUP_VALUE)
    key, value = new_group_metadata(ClassicGroup("g1", TIME_MS, PROTOCOL))
    assert value is not None
    assert (key.hex(), value.hex()) == (GROUP_KEY, NEW_GROUP_VALUE)
    key, value = records.group_tombstone("g1")
    assert (key.hex(), value) == (GROUP_KEY, None)


def test_group_metadata_comes_back_as_it_was() -> None:
    record = records.read(bytes.fromhex(GROUP_KEY), bytes.fromhex(GROUP_VALUE))
    assert isinstance(record, records.GroupRecord)
    assert record.value is not None
    group = group_of("g1", record.value, PROTOCOL)
    assert (group.state, group.generation, group.leader) == (GroupState.STABLE, 5, "m1")
    assert (group.protocol_type, group.protocol_name, group.state_changed_ms) == ("consumer", "range", TIME_MS)
    assert group.static_members == {"i2": "m2"}
    assert [(member.member_id, member.assignment) for member in group.members.values()] == [
        ("m1", b"\x03"),
        ("m2", b""),
    ]
    assert group_metadata(group) == (bytes.fromhex(GROUP_KEY), bytes.fromhex(GROUP_VALUE))


def test_an_assignment_that_is_about_to_be_replaces_the_old_one() -> None:
    _, value = group_metadata(group_of_two(), {"m2": b"\x09"})
    record = records.read(bytes.fromhex(GROUP_KEY), value)
    assert isinstance(record, records.GroupRecord)
    assert record.value is not None
    assert {member.member_id: member.assignment for member in record.value.members} == {
        "m1": b"",
        "m2": b"\x09",
    }


def test_the_subscriptions_of_a_group_are_read_whatever_follows_the_topics() -> None:
    assert subscribed_topics(group_of_two(subscription("orders", "payments"))) == {"orders", "payments"}
    assert subscribed_topics(group_of_two(b"\x00")) is None
    assert subscribed_topics(ClassicGroup("g1", TIME_MS, PROTOCOL)) is None
