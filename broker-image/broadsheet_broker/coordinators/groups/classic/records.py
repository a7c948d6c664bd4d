"""What the state of a classic group looks like in the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from broadsheet_broker.coordinators.groups import records
from broadsheet_broker.coordinators.groups.classic.group import ClassicGroup
from broadsheet_broker.coordinators.groups.classic.member import Member
from broadsheet_broker.coordinators.groups.classic.state import EMPTY, STABLE
from broadsheet_broker.coordinators.groups.group import CONSUMER_PROTOCOL_TYPE
from broadsheet_broker.coordinators.runtime.turn import Record
from broadsheet_broker.wire.errors import ProtocolError
from broadsheet_broker.wire.messages.consumer_protocol_subscription import ConsumerProtocolSubscription
from broadsheet_broker.wire.messages.group_metadata_value import GroupMetadataValue, MemberMetadata

if TYPE_CHECKING:
    from broadsheet_broker.coordinators.groups.classic.protocol import ClassicProtocol

logger = logging.getLogger(__name__)


def group_metadata(group: ClassicGroup, assignment: dict[str, bytes] | None = None) -> Record:
    """The group as it is now, or with a new assignment that is being stored."""
    members = [
        MemberMetadata(
            member_id=member.member_id,
            group_instance_id=member.instance_id,
            client_id=member.client_id,
            client_host=member.client_host,
            rebalance_timeout=member.rebalance_timeout_ms,
            session_timeout=member.session_timeout_ms,
            subscription=member.metadata(group.protocol_name),
            assignment=member.assignment if assignment is None else assignment.get(member.member_id, b""),
        )
        for member in group.members.values()
    ]
    message = GroupMetadataValue(
        protocol_type=group.protocol_type or "",
        generation=group.generation,
        protocol=group.protocol_name,
        leader=group.leader,
        current_state_timestamp=group.state_changed_ms,
        members=members,
    )
    return records.group_metadata(group.group_id, message)


def new_group_metadata(group: ClassicGroup) -> Record:
    """A group that has just been created and has no member yet."""
    message = GroupMetadataValue(
        protocol_type="",
        generation=0,
        protocol=None,
        leader=None,
        current_state_timestamp=group.state_changed_ms,
        members=[],
    )
    return records.group_metadata(group.group_id, message)


def group_of(group_id: str, message: GroupMetadataValue, protocol: ClassicProtocol) -> ClassicGroup:
    """The group that a record describes."""
    group = ClassicGroup(group_id, message.current_state_timestamp, protocol)
    group.state = STABLE if message.members else EMPTY
    group.generation = message.generation
    group.protocol_type = message.protocol_type or None
    group.protocol_name = message.protocol
    group.leader = message.leader
    for each in message.members:
        timeout = each.session_timeout if each.rebalance_timeout == -1 else each.rebalance_timeout
        group.add(
            Member(
                each.member_id,
                each.group_instance_id,
                each.client_id,
                each.client_host,
                timeout,
                each.session_timeout,
                message.protocol_type,
                [(message.protocol or "", each.subscription)],
                each.assignment,
            )
        )
    group.subscribed = subscribed_topics(group)
    return group


def subscribed_topics(group: ClassicGroup) -> frozenset[str] | None:
    """The topics of all members' subscriptions, None when they cannot be known.

    Every version of the consumer protocol begins as version 0 does: a version, then the topics.
    """
    if group.protocol_type != CONSUMER_PROTOCOL_TYPE:
        return None
    if not group.members:
        return frozenset()
    if group.protocol_name is None:
        return None
    topics: set[str] = set()
    try:
        for member in group.members.values():
            subscription, _ = ConsumerProtocolSubscription.decode(
                memoryview(member.metadata(group.protocol_name)), 0, 2
            )
            topics.update(subscription.topics)
    except ProtocolError:
        logger.warning("Group %s: the subscription of protocol %s cannot be read", group.group_id, group.protocol_name)
        return None
    return frozenset(topics)
