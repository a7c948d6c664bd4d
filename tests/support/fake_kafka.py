"""A Kafka in memory, for everything of the operator that takes a gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from broadsheet_operator.api.engine_versions import VERSIONS
from broadsheet_operator.reconcilers.consumer_group import CommitOffsets, DeleteGroup, GroupAction
from broadsheet_operator.reconcilers.exchange import Stored
from broadsheet_operator.reconcilers.features import FeatureChange
from broadsheet_operator.reconcilers.observed import (
    BrokerView,
    ClusterHealth,
    ClusterView,
    ConfigView,
    Failure,
    FeaturesView,
    GroupQuery,
    GroupView,
    LackingPartition,
    LagQuery,
    LagView,
    LogDirectory,
    LogView,
    PartitionView,
    QuorumView,
    ReplicaView,
    Storage,
    TopicPartition,
    TopicView,
)
from broadsheet_operator.reconcilers.quorum import AddVoter, VoterChange
from broadsheet_operator.reconcilers.spreading import Placed
from broadsheet_operator.reconcilers.topic_actions import (
    AddPartitions,
    AlterConfigs,
    CreateTopic,
    DeleteTopic,
    Throttle,
    TopicAction,
    Unthrottle,
)


class FakeKafka:
    """A KafkaGateway without a Kafka: topics, groups and properties of some brokers. It counts what it is asked."""

    def __init__(self) -> None:
        self.cluster_id = ""
        self.calls: list[str] = []
        """What was asked about topics and groups, in its order."""
        self.topics: dict[str, tuple[int, dict[str, str]]] = {}
        """The number of partitions and the configs of each."""
        self.out_of_sync: set[str] = set()
        """Topics none of whose replicas is in sync."""
        self.refuses: dict[str, Failure] = {}
        """What becomes of actions on a topic, by its name."""
        self.made: dict[str, int] = {}
        """How often a topic was made: each time it has another id."""
        self.properties: dict[str, str | None] = {"min.insync.replicas": "1"}
        self.features: dict[str, int] = {"metadata.version": 30}
        """The levels that are finalized."""
        self.supported: dict[str, tuple[int, int]] = dict(VERSIONS["4.3"])
        """The levels that brokers know."""
        self.fenced: set[int] = set()
        """Brokers that run and take no requests."""
        self.down = False
        self.quorum_lost = False
        self.refuses_properties: Failure | None = None
        self.groups: dict[str, GroupView] = {}
        self.closed = 0
        self.logs: tuple[LogView, ...] = ()
        """Of all topics."""
        self.brokers = [0]
        """Registered. A broker registers when its pod runs."""
        self.pods: Callable[[], list[int]] = lambda: [0]
        self.voters = [0]
        self.placement: dict[TopicPartition, tuple[int, ...]] = {}
        self.lacking: list[LackingPartition] = []
        self.limited: dict[str, Throttle] = {}
        self.limits_set = 0
        self.stored: Stored | Failure = Stored()
        """What another engine would have to take over."""
        self.bytes = 1000
        """On each broker."""

    def observe_cluster(self) -> ClusterView | Failure:
        self.calls.append("cluster")
        if self.down:
            return Failure("Timeout", "look at the cluster: no answer in time")
        self.brokers = sorted({*self.brokers, *self.pods()})
        brokers = tuple(
            BrokerView(id, f"broker-{id}", 9092, f"zone-{id}") for id in self.brokers if id not in self.fenced
        )
        return ClusterView(self.cluster_id, self.voters[0], brokers)

    def observe_health(self) -> ClusterHealth | Failure:
        return ClusterHealth(len(self.topics), len(self.lacking), 0, {}, {}, tuple(self.lacking))

    def observe_stored(self) -> Stored | Failure:
        return self.stored

    def observe_topics(self, names: Sequence[str]) -> dict[str, TopicView | Failure | None]:
        self.calls.append("topics")
        return {name: self._view(name) for name in names}

    def _view(self, name: str) -> TopicView | None:
        if name not in self.topics:
            return None
        count, configs = self.topics[name]
        in_sync = () if name in self.out_of_sync else (0,)
        partitions = tuple(PartitionView(i, 0, (0,), in_sync) for i in range(count))
        topic_id = f"{name}-{self.made.get(name, 0)}"
        return TopicView(name, topic_id, partitions, {k: ConfigView(v, True) for k, v in configs.items()}, False, 0)

    def observe_groups(self, queries: Mapping[str, GroupQuery]) -> dict[str, GroupView | Failure]:
        self.calls.append("groups")
        return {name: self.groups.get(name, GroupView(name, False, "Dead")) for name in queries}

    def observe_lag(self, query: LagQuery) -> LagView | Failure:
        self.calls.append("lag")
        if self.down:
            return Failure("Timeout", "list groups: no answer in time")
        wanted = [view for name, view in sorted(self.groups.items()) if name not in query.known]
        kept = [view for view in wanted if not any(fnmatchcase(view.group_id, p) for p in query.excluded)]
        logs = self.logs if query.all_topics else ()
        fitting: list[GroupView] = []
        for view in kept:
            if sum(len(v.ends) for v in (*fitting, view)) <= query.most_partitions:
                fitting.append(view)
        return LagView(
            groups=tuple(fitting),
            left_out=len(kept) - len(fitting),
            failed=0,
            logs=logs,
            times={},
        )

    def apply_topics(self, actions: Sequence[TopicAction]) -> list[Failure | None]:
        self.calls.append("apply")
        return [self.refuses.get(action.name) or self._apply(action) for action in actions]

    def _apply(self, action: TopicAction) -> None:
        match action:
            case CreateTopic(name, partitions, _, configs):
                self.topics[name] = (partitions or 1, dict(configs))
                self.made[name] = self.made.get(name, 0) + 1
            case AddPartitions(name, count):
                self.topics[name] = (count, self.topics[name][1])
            case AlterConfigs(name, changes, resets):
                count, configs = self.topics[name]
                self.topics[name] = (count, {k: v for k, v in configs.items() if k not in resets} | dict(changes))
            case DeleteTopic(name):
                self.topics.pop(name, None)
            case Throttle(name):
                self.limited[name] = action
                self.limits_set += 1
            case Unthrottle(name):
                self.limited.pop(name, None)

    def apply_groups(self, actions: Sequence[GroupAction]) -> list[Failure | None]:
        for action in actions:
            match action:
                case CommitOffsets(group_id, offsets):
                    group = self.groups[group_id]
                    self.groups[group_id] = replace(group, committed={**group.committed, **offsets})
                case DeleteGroup(group_id):
                    del self.groups[group_id]
        return [None] * len(actions)

    def put_group(self, name: str, committed: Mapping[TopicPartition, int], end: int) -> None:
        """An empty group whose partitions begin at 0 and end at `end`."""
        starts, ends = dict.fromkeys(committed, 0), dict.fromkeys(committed, end)
        self.groups[name] = GroupView(name, True, "Empty", committed=dict(committed), starts=starts, ends=ends)

    def observe_properties(self) -> dict[str, str | None] | Failure:
        return dict(self.properties)

    def observe_known_properties(self, broker_id: int) -> frozenset[str] | Failure:
        return frozenset({"log.retention.ms", "log.retention.hours", "log.roll.hours"})

    def alter_properties(self, changes: Mapping[str, str], resets: Iterable[str]) -> Failure | None:
        if self.refuses_properties is None:
            self.properties.update(changes)
            for key in resets:
                self.properties.pop(key, None)
        return self.refuses_properties

    def list_topics(self) -> list[str] | Failure:
        return sorted(self.topics)

    def observe_quorum(self) -> QuorumView | Failure:
        if self.quorum_lost:
            return Failure("Timeout", "look at the metadata quorum: no answer in time")
        voters = tuple(ReplicaView(id, f"directory-{id}", 10, 0.0) for id in self.voters)
        observers = tuple(ReplicaView(id, f"directory-{id}", 10, 0.0) for id in self.brokers if id not in self.voters)
        return QuorumView(self.voters[0], 10, voters, observers)

    def change_voters(self, change: VoterChange) -> Failure | None:
        if isinstance(change, AddVoter):
            self.voters.append(change.id)
        else:
            self.voters.remove(change.id)
        return None

    def unregister_broker(self, broker_id: int) -> Failure | None:
        self.brokers.remove(broker_id)
        return None

    def observe_features(self, broker_ids: Sequence[int]) -> FeaturesView | Failure:
        return FeaturesView(dict(self.features), dict.fromkeys(broker_ids, self.supported))

    def update_features(self, change: FeatureChange) -> Failure | None:
        self.features.update(change.levels)
        return None

    def observe_placement(self) -> tuple[Placed, ...] | Failure:
        return tuple(Placed(name, replicas, replicas) for name, replicas in sorted(self.placement.items()))

    def observe_storage(self, broker_ids: Sequence[int]) -> dict[int, Storage]:
        disk = LogDirectory("/var/lib/kafka/data", 1 << 30, (1 << 30) - self.bytes)
        return dict.fromkeys(broker_ids, Storage(self.bytes, (disk,)))

    def move_replicas(
        self, moves: Mapping[TopicPartition, tuple[int, ...]], cancel: Sequence[TopicPartition] = ()
    ) -> Failure | None:
        assert all(name.topic in self.limited for name in moves), "a move begins under its limit"
        self.placement.update(moves)
        return None

    def close(self) -> None:
        self.closed += 1
