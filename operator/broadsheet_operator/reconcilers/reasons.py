"""The reasons of conditions: one table of what each means, whether a person should look, and what to do.

Reasons that Strimzi has are named as there, because people's alerts know them. docs/reference/conditions.md is
generated from this table. What reads conditions by machine decides by `Health`.
"""

from __future__ import annotations

from enum import Enum, StrEnum


class Health(Enum):
    """What a reason says about the resource."""

    GOOD = "good"
    """Nothing is to be done."""
    WAITING = "waiting"
    """Not as declared yet, and nothing is wrong: it goes on by itself, or waits for what was asked to wait for."""
    BAD = "bad"
    """A person should look."""


class Reason(StrEnum):
    """The reason of a condition, as it stands in a status."""

    health: Health
    meaning: str
    """One sentence."""
    remedy: str
    """What to do; empty when nothing is to be done."""

    def __new__(cls, value: str, health: Health, meaning: str, remedy: str = "") -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.health, member.meaning, member.remedy = health, meaning, remedy
        return member

    # -- as declared, or on the way ------------------------------------------------------------------------------------

    READY = "Ready", Health.GOOD, "It is as declared."
    ALL_IN_SYNC = "AllInSync", Health.GOOD, "Every replica of the topic is in sync."
    WITHIN_LIMITS = "WithinLimits", Health.GOOD, "The group is within the limits of spec.lag."
    RESET_DONE = "ResetDone", Health.GOOD, "The reset of spec.reset was done; lastReset has the offsets of before."
    RESET_PLANNED = (
        "ResetPlanned",
        Health.GOOD,
        "The reset is a dry run; lastReset has the offsets that it would set.",
        "Set dryRun to false to have it done.",
    )
    CANARY_HEALTHY = "RecordsPass", Health.GOOD, "The canary's records pass through every broker within the limit."
    CANARY_STARTING = "CanaryStarting", Health.WAITING, "The canary has not measured enough yet."
    PENDING = "Pending", Health.WAITING, "No operator has looked at the resource yet.", "Check that the operator runs."
    CREATING = "Creating", Health.WAITING, "It is being created, or its brokers start."
    UPDATING = "Updating", Health.WAITING, "It is being changed to what is declared."
    REASSIGNING = "Reassigning", Health.WAITING, "Replicas move to other brokers."
    EXCHANGING_ENGINE = (
        "ExchangingEngine",
        Health.WAITING,
        "All brokers are stopped for an exchange of the engine, or have not come back from it.",
    )
    DELETING = "Deleting", Health.WAITING, "It is being deleted."
    WAITING_FOR_WINDOW = (
        "WaitingForMaintenanceWindow",
        Health.WAITING,
        "A change waits for the next window of the Cluster's spec.maintenanceWindows.",
    )
    PAUSED = (
        "Paused",
        Health.WAITING,
        "The Cluster is paused. Where Ready is False, something that is declared waits for the end of the pause.",
        "Set spec.paused of the Cluster to false.",
    )
    CLUSTER_NOT_READY = (
        "ClusterNotReady",
        Health.WAITING,
        "The Cluster of the resource does not take requests yet.",
        "The Cluster's own conditions say why.",
    )
    GROUP_NOT_FOUND = (
        "GroupNotFound",
        Health.WAITING,
        "No consumer has joined the group or committed an offset yet. It is watched, so Ready is True.",
        "If it should be there, compare spec.groupId with group.id of the consumers.",
    )

    PENDING_IN_KAFKA = (
        "PendingInKafka",
        Health.WAITING,
        "It is one of Kafka's own topics, and Kafka has not created it yet.",
        "Nothing; it goes on by itself when Kafka has created it.",
    )

    # -- refused, or in conflict ---------------------------------------------------------------------------------------

    NOT_SUPPORTED = (
        "NotSupported",
        Health.BAD,
        "What is declared cannot be done: Kafka cannot do it, or this cluster cannot.",
        "Change the resource as the message says.",
    )
    INVALID_RESOURCE = (
        "InvalidResource",
        Health.BAD,
        "The resource is not valid; it was stored before a rule against it existed.",
        "Correct the field that the message names.",
    )
    INVALID_CONFIG = (
        "InvalidConfig",
        Health.BAD,
        "Kafka refuses a property.",
        "Correct the property that the message names.",
    )
    INVALID_REQUEST = "InvalidRequest", Health.BAD, "Kafka refuses the request.", "Change the resource as it says."
    POLICY_VIOLATION = "PolicyViolation", Health.BAD, "A policy of the Kafka cluster refuses it.", "Ask who runs it."
    RESOURCE_CONFLICT = (
        "ResourceConflict",
        Health.BAD,
        "An older resource declares the same topic or group.",
        "Delete one of the two.",
    )
    NAMESPACE_NOT_ALLOWED = (
        "NamespaceNotAllowed",
        Health.BAD,
        "The Cluster does not let this namespace declare this name.",
        "Add it to spec.allowedNamespaces of the Cluster.",
    )
    CLUSTER_NOT_FOUND = (
        "ClusterNotFound",
        Health.BAD,
        "There is no Cluster of the name in spec.cluster, or it is being deleted.",
        "Declare the Cluster, or correct spec.cluster.",
    )
    TOPIC_EXISTS = (
        "TopicExists",
        Health.BAD,
        "The topic exists already and differs from what is declared.",
        "Declare it as it is, or set adoption: Always to have it changed.",
    )
    RESET_REFUSED = "ResetRefused", Health.BAD, "The reset cannot be done.", "Correct spec.reset as the message says."
    RESET_PASSED_OVER = (
        "ResetPassedOver",
        Health.BAD,
        "The reset was in a new resource of a group that had offsets already, so it was not done.",
        "Apply the resource without it, then with it.",
    )
    GROUP_NOT_EMPTY = (
        "GroupNotEmpty",
        Health.BAD,
        "The group has members, so its offsets can be neither set nor deleted.",
        "Stop its consumers; it goes on by itself then.",
    )
    STATUS_REFUSED = (
        "StatusRefused",
        Health.BAD,
        "The API server refuses a part of the status, which is left out.",
        "Update the CRDs to the operator's version.",
    )
    KUBERNETES_REFUSED = (
        "RefusedByKubernetes",
        Health.BAD,
        "The API server refuses an object that the Cluster needs.",
        "Change the Cluster, or the quota or policy that the message names.",
    )

    # -- in trouble ----------------------------------------------------------------------------------------------------

    BROKER_DOWN = "BrokerDown", Health.BAD, "A broker does not run.", "The message has its last words; read its log."
    QUORUM_LOST = (
        "QuorumLost",
        Health.BAD,
        "The volumes of most voters of the metadata quorum are lost.",
        "Follow the message: put the volumes back, or start from scratch.",
    )
    PARTITION_OFFLINE = (
        "PartitionOffline",
        Health.BAD,
        "A partition has no leader.",
        "Bring back the brokers that keep its replicas.",
    )
    UNDER_REPLICATED = (
        "UnderReplicated",
        Health.BAD,
        "Some replicas are not in sync.",
        "If it lasts, check the brokers that are missing.",
    )
    LAG_TOO_HIGH = (
        "LagTooHigh",
        Health.BAD,
        "The group is further behind than spec.lag allows.",
        "Add consumers, or find what slows them down.",
    )
    CANARY_FAILING = (
        "BrokerUnavailable",
        Health.BAD,
        "The canary's records do not pass through a broker, or through none.",
        "The message has the broker and its last error; check that broker, and whether its replicas are in sync.",
    )
    CANARY_SLOW = (
        "RecordsSlow",
        Health.BAD,
        "The canary's records take longer than spec.canary.maxLatency.",
        "Compare the brokers in the canary's dashboard: one that is slow has a slow disk or too much work.",
    )
    RECORDS_LOST = (
        "RecordsLost",
        Health.BAD,
        "Records of the canary that were acknowledged cannot be read.",
        "Look for an unclean leader election, or a broker that lost its disk; compare min.insync.replicas.",
    )
    CANARY_NOT_RUNNING = (
        "CanaryNotRunning",
        Health.BAD,
        "The canary does not run or does not answer, so nothing is known.",
        "The message has why: an image, a quota, a node without room.",
    )
    TIMEOUT = "Timeout", Health.BAD, "The cluster did not answer in time.", "It is tried again; check the brokers."
    UNREACHABLE = (
        "Unreachable",
        Health.BAD,
        "No broker can be reached.",
        "It is tried again; check the addresses, the network and the brokers.",
    )
    COORDINATOR_LOADING = (
        "CoordinatorLoading",
        Health.BAD,
        "The group's coordinator still loads its offsets.",
        "It is tried again.",
    )
    COORDINATOR_NOT_AVAILABLE = (
        "CoordinatorNotAvailable",
        Health.BAD,
        "The group has no coordinator now.",
        "It is tried again; if it lasts, check the brokers.",
    )
    NOT_CONTROLLER = "NotController", Health.BAD, "The cluster elects a controller.", "It is tried again."
    THROTTLED = "Throttled", Health.BAD, "The cluster limits how fast it is changed.", "It is tried again."
    UNAUTHORIZED = "Unauthorized", Health.BAD, "The operator may not do this in Kafka.", "Grant it the permission."
    KAFKA_ERROR = "KafkaError", Health.BAD, "Kafka answers with another error.", "The message has Kafka's words."
    KUBERNETES_FAILED = (
        "KubernetesError",
        Health.BAD,
        "The API server does not answer as it should.",
        "It is tried again; the message has its words.",
    )
    INTERNAL_ERROR = (
        "InternalError",
        Health.BAD,
        "The operator met an error that it does not know.",
        "It is tried again; please report it with the message.",
    )


CONDITIONS = {
    "Ready": "Whether it is as declared. Always there.",
    "Reconciling": "True while the operator changes something. Absent otherwise.",
    "Stalled": "True when only a change by a person helps; on Kubernetes also when it has not been Ready for ten "
    "minutes for a reason that a person should look at. Absent otherwise.",
    "Paused": "True while the Cluster, or the Cluster of the resource, is paused. Absent otherwise.",
    "CanaryHealthy": "Of a Cluster with spec.canary: whether records pass through every broker. Ready stays.",
    "InSync": "Of a Topic: whether every replica is in sync.",
    "LagWithinLimits": "Of a ConsumerGroup with spec.lag: whether it is within the limits.",
    "Reset": "Of a ConsumerGroup with spec.reset: whether that was done.",
}
"""Types of conditions, and what each says."""


_BY_NAME = {str(reason): reason for reason in Reason}


def health_of(reason: str) -> Health:
    """What a reason says; one that is not in the table, as a newer operator may write it, is worth a look."""
    found = _BY_NAME.get(reason)
    return found.health if found is not None else Health.BAD


def reason_of(text: str) -> Reason | None:
    """The reason of this name; None for one that is not in the table."""
    return _BY_NAME.get(text)
