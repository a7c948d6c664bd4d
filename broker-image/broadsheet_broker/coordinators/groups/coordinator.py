"""The group coordinator of a broker: finds the partition of a group, and refuses groups that it does not lead.

Requests come in as bodies with a callback for the answer, which is called at once or later, exactly once. Errors are in
the answers, as Kafka 4.3's GroupCoordinatorService gives them; nothing is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from broadsheet_broker.coordinators.groups.answers import JoinReply, LeaveReply, SyncReply, join_error, sync_error
from broadsheet_broker.coordinators.groups.classic import ClassicProtocol
from broadsheet_broker.coordinators.groups.metrics import collector
from broadsheet_broker.coordinators.groups.offsets import commit_error
from broadsheet_broker.coordinators.groups.settings import Context, GroupSettings
from broadsheet_broker.coordinators.groups.shard import GroupShard
from broadsheet_broker.coordinators.runtime.metrics import collector as partitions_collector
from broadsheet_broker.coordinators.runtime.partition import CoordinatedPartition, PartitionState
from broadsheet_broker.coordinators.runtime.partitions import CoordinatedPartitions
from broadsheet_broker.coordinators.runtime.settings import IntegerSettings
from broadsheet_broker.coordinators.runtime.storage import Storage
from broadsheet_broker.coordinators.runtime.turn import Turn, Write
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.delete_groups_response import DeletableGroupResult
from broadsheet_broker.wire.messages.describe_groups_response import DescribedGroup
from broadsheet_broker.wire.messages.heartbeat_response import HeartbeatResponse
from broadsheet_broker.wire.messages.leave_group_response import LeaveGroupResponse
from broadsheet_broker.wire.messages.list_groups_response import ListGroupsResponse
from broadsheet_broker.wire.messages.offset_delete_response import OffsetDeleteResponse
from broadsheet_broker.wire.messages.offset_fetch_response import OffsetFetchResponseGroup

if TYPE_CHECKING:
    from broadsheet_broker.coordinators.groups.offsets import CommitReply
    from broadsheet_broker.metadata.delta import MetadataDelta
    from broadsheet_broker.metadata.image import ClusterImage
    from broadsheet_broker.seams import Environment
    from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
    from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest
    from broadsheet_broker.wire.messages.leave_group_request import LeaveGroupRequest
    from broadsheet_broker.wire.messages.offset_commit_request import OffsetCommitRequest
    from broadsheet_broker.wire.messages.offset_delete_request import OffsetDeleteRequest
    from broadsheet_broker.wire.messages.offset_fetch_request import OffsetFetchRequestGroup
    from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest

GroupPartition = CoordinatedPartition[GroupShard]


class GroupCoordinator:
    """All groups that this broker coordinates."""

    def __init__(self, environment: Environment, config: IntegerSettings | GroupSettings, storage: Storage) -> None:
        self.settings = config if isinstance(config, GroupSettings) else GroupSettings.of(config)
        self._environment = environment
        protocol = ClassicProtocol(self.settings, environment.uuid)
        self.partitions = CoordinatedPartitions(
            environment, self.settings.runtime, storage, lambda: GroupShard(self.settings, protocol)
        )
        environment.metrics.collector(collector(self.snapshot))
        environment.metrics.collector(partitions_collector("group", self.partitions))

    def on_metadata(self, delta: MetadataDelta, image: ClusterImage) -> None:
        """The cluster's metadata changed: delete offsets of deleted topics."""
        deleted = {topic.name: topic_id for topic_id, topic in delta.deleted_topics.items()}
        if deleted:
            self.on_topics_deleted(deleted.keys(), deleted)

    def on_topics_deleted(self, names: Collection[str], ids: Mapping[str, UUID] | None = None) -> None:
        """Delete what groups have committed for topics that are gone."""
        for partition in self.partitions.active():
            turn = partition.turn()
            partition.shard.topics_deleted(names, ids or {}, turn)
            partition.run_internal(turn)

    def _named(self, group_id: str) -> GroupPartition | ErrorCode:
        return self.partitions.find(group_id) if group_id else ErrorCode.INVALID_GROUP_ID

    # Membership

    def join_group(self, request: JoinGroupRequest, context: Context, reply: JoinReply) -> None:
        """JoinGroup. Waits until the rebalance is done."""
        found = self._named(request.group_id)
        if isinstance(found, ErrorCode):
            reply(join_error(found, request.member_id))
            return
        turn = found.turn()
        found.shard.join(request, context, turn, reply)
        found.run(turn, request.group_id)

    def sync_group(self, request: SyncGroupRequest, context: Context, reply: SyncReply) -> None:
        """SyncGroup. Waits until the leader has brought the assignment and it is stored."""
        found = self._named(request.group_id)
        if isinstance(found, ErrorCode):
            reply(sync_error(found))
            return
        turn = found.turn()
        found.shard.sync(request, turn, reply)
        found.run(turn, request.group_id)

    def heartbeat(
        self, request: HeartbeatRequest, context: Context | None, reply: Callable[[HeartbeatResponse], None]
    ) -> None:
        """Heartbeat."""
        found = self._named(request.group_id)
        if isinstance(found, ErrorCode):
            # No session expires while the log is loaded, so the heartbeat counts as fine.
            error: ErrorCode = ErrorCode.NONE if found is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS else found
        else:
            error = found.shard.heartbeat(request, self._environment.monotonic())
        reply(HeartbeatResponse(error_code=error))

    def leave_group(self, request: LeaveGroupRequest, context: Context, reply: LeaveReply) -> None:
        """LeaveGroup, with the members in `members` also where the version has a single one."""
        found = self._named(request.group_id)
        if isinstance(found, ErrorCode):
            reply(LeaveGroupResponse(error_code=found))
            return
        turn = found.turn()
        found.shard.leave(request, turn, reply)
        found.run(turn, request.group_id)

    # Offsets

    def commit_offsets(self, request: OffsetCommitRequest, context: Context, reply: CommitReply) -> None:
        """OffsetCommit. Topics must have names, and ids where the client gave ids."""
        found = self.partitions.find(request.group_id)
        if isinstance(found, ErrorCode):
            reply(commit_error(request, found))
            return
        turn = found.turn()
        found.shard.commit(request, context, turn, reply)
        found.run(turn)

    def fetch_offsets(
        self, request: OffsetFetchRequestGroup, require_stable: bool, reply: Callable[[OffsetFetchResponseGroup], None]
    ) -> None:
        """OffsetFetch, one group; all its topics when `topics` is None. Topics must have names.

        Reads what is committed in the log. With `require_stable` it also waits for all that came before it.
        """
        found = self.partitions.find(request.group_id)
        if isinstance(found, ErrorCode):
            reply(OffsetFetchResponseGroup(group_id=request.group_id, error_code=found))
            return
        if require_stable:

            def done(turn: Turn, error: ErrorCode) -> None:
                # The outcome of earlier writes is unknown: another broker may coordinate by now.
                replaced = self.partitions.may_be_replaced(found.index)
                if not error and found.state is PartitionState.ACTIVE and not replaced:
                    turn.reply(reply, _fetched(found, request))
                else:
                    answer = OffsetFetchResponseGroup(group_id=request.group_id, error_code=ErrorCode.NOT_COORDINATOR)
                    turn.reply(reply, answer)

            if found.after_writes(Write([], done)):
                return
        reply(_fetched(found, request))

    def delete_offsets(
        self, request: OffsetDeleteRequest, context: Context, reply: Callable[[OffsetDeleteResponse], None]
    ) -> None:
        """OffsetDelete."""
        found = self._named(request.group_id)
        if isinstance(found, ErrorCode):
            reply(OffsetDeleteResponse(error_code=found))
            return
        turn = found.turn()
        found.shard.delete_offsets(request, turn, reply)
        found.run(turn)

    # Administration

    def describe(self, group_ids: Iterable[str], version: int) -> list[DescribedGroup]:
        """DescribeGroups."""
        answers = []
        for group_id in group_ids:
            found = self._named(group_id)
            if isinstance(found, ErrorCode):
                answers.append(DescribedGroup(error_code=found, group_id=group_id))
            else:
                answers.append(found.shard.describe(group_id, version))
        return answers

    def list_groups(self, states: Sequence[str] = (), types: Sequence[str] = ()) -> ListGroupsResponse:
        """ListGroups: the groups that this broker coordinates. All or, while a partition is loaded
        or may be coordinated elsewhere, none."""
        wanted_states = [state.lower() for state in states]
        wanted_types = [type_.lower() for type_ in types]
        response = ListGroupsResponse(error_code=0, groups=[])
        for partition in self.partitions:
            if partition.state is PartitionState.LOADING or self.partitions.may_be_replaced(partition.index):
                return ListGroupsResponse(error_code=ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, groups=[])
            response.groups.extend(partition.shard.list_groups(wanted_states, wanted_types))
        return response

    def delete(
        self, group_ids: Iterable[str], context: Context, reply: Callable[[list[DeletableGroupResult]], None]
    ) -> None:
        """DeleteGroups. Answers once the last of them is settled."""
        results = {group_id: DeletableGroupResult(group_id=group_id) for group_id in group_ids}
        waiting = set(results)

        def settled(group_id: str, error: ErrorCode) -> None:
            results[group_id].error_code = error
            waiting.discard(group_id)
            if not waiting:
                reply(list(results.values()))

        if not results:
            reply([])
        for group_id in results:
            found = self._named(group_id)
            if isinstance(found, ErrorCode):
                settled(group_id, found)
                continue
            turn = found.turn()
            found.shard.delete(group_id, turn, partial(settled, group_id))
            found.run(turn)

    # For metrics and health

    def snapshot(self) -> Iterator[dict[str, Any]]:
        """Every group as plain values: group, type, state, protocol_type, generation, members, offsets."""
        for partition in self.partitions.active():
            yield from partition.shard.snapshot()


def _fetched(partition: GroupPartition, request: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup:
    topics = partition.shard.fetch(request.group_id, request.topics)
    return OffsetFetchResponseGroup(group_id=request.group_id, topics=topics, error_code=0)
