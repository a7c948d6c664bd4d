"""What the three definitions have beside the schemas of their models: names, columns and CEL rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broadsheet_operator.api.canary_limits import RULES as CANARY_RULES
from broadsheet_operator.api.changes import NO_OTHER_CLASS, NO_SHRINKING, NO_STORAGE_CHANGE
from broadsheet_operator.api.cluster import (
    EXTERNAL_NAME,
    EXTERNAL_NAME_HELP,
    NAME,
    NAME_HELP,
    TAKEN_NAMES,
    TAKEN_NAMES_HELP,
    TAKEN_PORTS_HELP,
    Cluster,
)
from broadsheet_operator.api.consumer_group import ConsumerGroup
from broadsheet_operator.api.engine_rules import RULES as ENGINE_RULES
from broadsheet_operator.api.maintenance import SCHEDULE_HELP, SCHEDULE_PATTERN
from broadsheet_operator.api.meta import Resource
from broadsheet_operator.api.owned import (
    ANNOTATIONS,
    KUBERNETES_PROPERTIES,
    LABELS,
    PREFIX,
    PROPERTIES,
    TOPIC_PROPERTIES,
    refused_property,
)
from broadsheet_operator.api.scheduling import TOLERATION_RULES
from broadsheet_operator.api.topic import FIELD_OF_CONFIG, Topic

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`. Priority 1 shows with -o wide only."""

    name: str
    path: str
    description: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule at a place of the schema: spec.reset, or spec.listeners[] for each of a list; empty for the root."""

    place: str
    rule: str
    message: str
    field_path: str = ""
    at_creation: bool = False
    """Only a new object is checked: what can never change would otherwise forbid every later change, and deletion."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a CRD has beside its schema."""

    model: type[Resource]
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    scale: Schema | None = None
    status_default: Schema = field(default_factory=dict)


def _same(name: str, path: str) -> Rule:
    """A field of spec that never changes, whether it is there or not."""
    return Rule(
        "spec",
        f"has(self.{path}) == has(oldSelf.{path}) && (!has(self.{path}) || self.{path} == oldSelf.{path})",
        f"{name} cannot be changed; make a new resource instead",
        f".{path}",
    )


def _ready(description: str) -> tuple[Column, ...]:
    return (
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', description),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why it is ready or not.", priority=1),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "The reason, as a sentence.", priority=1),
        Column("Age", ".metadata.creationTimestamp", "How long it has been declared.", type="date"),
    )


def _not_twice(key: str, field_name: str) -> tuple[Rule, ...]:
    """Kafka's name of a property, and the field that means the same, exclude each other."""
    parent, _, leaf = field_name.rpartition(".")
    there = f"has(self.{parent}) && has(self.{parent}.{leaf})" if parent else f"has(self.{leaf})"
    return tuple(
        Rule(
            "spec",
            f"!({there} && has(self.{place}) && '{key}' in self.{place})",
            f"{place} {key} and {field_name} are about the same thing; keep one of them",
        )
        for place in ("config", "unmanagedConfig")
    )


_MANAGED_OR_NOT = Rule(
    "spec",
    "!has(self.config) || !has(self.unmanagedConfig) || !self.unmanagedConfig.exists(key, key in self.config)",
    "a key is in config and in unmanagedConfig; either it is set here or somewhere else",
    ".unmanagedConfig",
)


def _not_ours(owned: Mapping[str, str]) -> tuple[Rule, ...]:
    return tuple(
        Rule("spec", f"!has(self.config) || !('{key}' in self.config)", refused_property(key, instead), ".config")
        for key, instead in sorted(owned.items())
    )


def _keys_not_ours(place: str, also: tuple[str, ...]) -> Rule:
    return Rule(
        "spec.brokers.template",
        f"!has(self.{place}) || !self.{place}.exists(key, key.startsWith('{PREFIX}') || key in {list(also)})",
        f"{place} {', '.join(also)} and those that begin with {PREFIX} are set by Broadsheet; use other keys",
        f".{place}",
    )


def _reset_needs(to: str, name: str) -> Rule:
    return Rule(
        "spec.reset",
        f"(self.to == '{to}') == has(self.{name})",
        f"the field {name} goes with to: {to}, and only with it",
    )


DEFINITIONS = (
    Definition(
        Cluster,
        ("bsc",),
        ("broadsheet", "all"),
        (
            Column("Brokers", ".status.replicas", "Number of brokers.", type="integer"),
            Column("Up", ".status.readyReplicas", "How many brokers take requests.", type="integer"),
            Column("Topics", ".status.topics", "How many topics it holds.", type="integer"),
            Column("Engine", ".status.engine", "The engine that its volumes are run with.", priority=1),
            Column("Under-min-ISR", ".status.underMinIsrPartitions", "Partitions without writes.", type="integer"),
            Column("Offline", ".status.offlinePartitions", "Partitions without a leader.", type="integer"),
            Column("Lagging", ".status.underReplicatedPartitions", "Partitions not fully in sync.", "integer", 1),
            Column("Rollout", ".status.rollout", "What a rolling change does or waits for.", priority=1),
            Column("Scaling", ".status.scaling", "What is being done to grow, shrink or rebalance.", priority=1),
            Column("Bootstrap", ".status.bootstrapServers", "What clients connect to.", priority=1),
            *_ready("Whether it takes requests as declared."),
        ),
        (
            Rule(
                "spec",
                "has(self.brokers) != has(self.external)",
                "give either brokers (we run them) or external (someone else does), one of the two",
            ),
            Rule(
                "spec",
                "has(self.external) == has(oldSelf.external)",
                "a cluster that we run cannot become an external one, nor the other way round",
            ),
            Rule(
                "spec",
                "!has(self.listeners) || self.listeners.all(a, self.listeners.exists_one(b, a.port == b.port))",
                "two listeners have the same port",
            ),
            Rule(
                "spec.listeners[]",
                f"!(self.name in {list(TAKEN_NAMES)})",
                TAKEN_NAMES_HELP,
                ".name",
            ),
            # Not in the models: with `broadsheet up` these ports are free.
            Rule("spec.listeners[]", "!(self.port in [9093, 9404])", TAKEN_PORTS_HELP, ".port"),
            _MANAGED_OR_NOT,
            Rule("", f"has(self.spec.external) || self.metadata.name.matches('{NAME}')", NAME_HELP, at_creation=True),
            Rule(
                "",
                f"!has(self.spec.external) || self.metadata.name.matches('{EXTERNAL_NAME}')",
                EXTERNAL_NAME_HELP,
                at_creation=True,
            ),
            Rule(
                "spec.brokers",
                "(has(self.storage) && has(self.storage.size)) == (has(oldSelf.storage) && has(oldSelf.storage.size))",
                NO_STORAGE_CHANGE,
                ".storage",
            ),
            Rule(
                "spec.brokers.storage",
                "!has(self.size) || !has(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
                NO_SHRINKING,
                ".size",
            ),
            Rule(
                "spec.brokers.storage",
                "!has(self.size) || quantity(self.size).isGreaterThan(quantity('0'))",
                "a volume must have room for something",
                ".size",
            ),
            Rule(
                "spec.brokers.storage",
                "has(self.storageClass) == has(oldSelf.storageClass) && "
                "(!has(self.storageClass) || self.storageClass == oldSelf.storageClass)",
                NO_OTHER_CLASS,
                ".storageClass",
            ),
            *(Rule(place, rule, words, field) for place, rule, words, field in ENGINE_RULES),
            *(Rule("spec.canary", rule, words, field) for rule, words, field in CANARY_RULES),
            *(Rule("spec.brokers.template.tolerations[]", rule, words) for rule, words in TOLERATION_RULES),
            *_not_ours({**PROPERTIES, **KUBERNETES_PROPERTIES}),
            _keys_not_ours("labels", LABELS),
            _keys_not_ours("annotations", ANNOTATIONS),
            # A rule and no pattern: kubectl would show the whole pattern to a person who mistypes a schedule.
            Rule(
                "spec.maintenanceWindows[]", f"self.schedule.matches(r'{SCHEDULE_PATTERN}')", SCHEDULE_HELP, ".schedule"
            ),
        ),
        scale={
            "specReplicasPath": ".spec.brokers.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
    Definition(
        Topic,
        ("bst",),
        ("broadsheet",),
        (
            Column("Cluster", ".spec.cluster", "The Cluster that holds it."),
            Column("Topic", ".status.topicName", "Its name in Kafka.", priority=1),
            Column("Partitions", ".status.partitions", "How many partitions there are.", type="integer"),
            Column("Replicas", ".status.replicationFactor", "How many replicas each partition has.", type="integer"),
            Column("In-Sync", ".status.inSync", "Replicas in sync of all replicas."),
            Column("Size", ".status.size", "Bytes on the brokers' disks.", priority=1),
            Column("Moving", ".status.reassignment.message", "How far replicas are that move.", priority=1),
            *_ready("Whether it is as declared."),
        ),
        (
            _same("cluster", "cluster"),
            _same("topicName", "topicName"),
            Rule(
                "spec",
                "!has(self.partitions) || !has(oldSelf.partitions) || self.partitions >= oldSelf.partitions",
                "partitions can grow but never shrink: Kafka cannot take a partition away without losing its records",
                ".partitions",
            ),
            Rule(
                "spec",
                "!has(self.replicationFactor) || !has(self.minInSyncReplicas)"
                " || self.minInSyncReplicas <= self.replicationFactor",
                "minInSyncReplicas is larger than replicationFactor: nothing could ever be written with acks=all",
            ),
            Rule(
                "",
                "has(self.spec.topicName) || size(self.metadata.name) <= 249",
                "a topic's name has at most 249 characters; set spec.topicName",
                at_creation=True,
            ),
            Rule(
                "spec",
                "!has(self.topicName) || !(self.topicName in ['.', '..'])",
                "Kafka keeps the names . and .. for itself",
                ".topicName",
            ),
            *(rule for key, name in FIELD_OF_CONFIG.items() for rule in _not_twice(key, name)),
            _MANAGED_OR_NOT,
            *_not_ours(TOPIC_PROPERTIES),
        ),
    ),
    Definition(
        ConsumerGroup,
        ("bsg",),
        ("broadsheet",),
        (
            Column("Cluster", ".spec.cluster", "The Cluster where it reads.", priority=1),
            Column("Group", ".status.groupId", "Its id in Kafka."),
            Column("State", ".status.state", "Kafka's word for its state."),
            Column("Members", ".status.members", "How many members it has.", type="integer"),
            Column("Lag", ".status.lag", "Records still to be read.", type="integer"),
            Column("Lag-Seconds", ".status.lagSeconds", "Age of the oldest record still to be read.", type="integer"),
            Column("Verdict", ".status.verdict", "What the last minutes say about it."),
            *_ready("Whether it is there and could be looked at."),
        ),
        (
            _same("cluster", "cluster"),
            _same("groupId", "groupId"),
            _reset_needs("offset", "offset"),
            _reset_needs("time", "time"),
            _reset_needs("shift", "shiftBy"),
            _reset_needs("offsets", "offsets"),
            Rule(
                "spec.reset",
                "!(self.to == 'offsets' && has(self.topics))",
                "the field topics does not go with to: offsets, which names its topics itself",
            ),
        ),
    ),
)
