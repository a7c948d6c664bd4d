"""A spec with every field of each kind, as a person would write it: numbers and quantities in all their forms."""

from __future__ import annotations

from typing import Any

_EXPRESSIONS = [{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]
_SELECTOR = {"matchLabels": {"app": "web"}, "matchExpressions": _EXPRESSIONS}
_POD_TERM = {
    "topologyKey": "kubernetes.io/hostname",
    "labelSelector": _SELECTOR,
    "namespaces": ["a", "b"],
    "namespaceSelector": _SELECTOR,
    "matchLabelKeys": ["version"],
    "mismatchLabelKeys": ["owner"],
}
_POD_AFFINITY = {
    "requiredDuringSchedulingIgnoredDuringExecution": [_POD_TERM],
    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5, "podAffinityTerm": _POD_TERM}],
}
_NODE_TERM = {
    "matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}],
    "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-9"]}],
}
_TOLERATIONS = [
    {"key": "kafka", "value": "only", "effect": "NoSchedule"},
    {"key": "slow", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
]
_TEMPLATE = {
    "labels": {"team": "paper"},
    "annotations": {"example.org/note": "x: y, {z}"},
    "nodeSelector": {"disk": "ssd"},
    "priorityClassName": "system-cluster-critical",
    "tolerations": _TOLERATIONS,
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_NODE_TERM]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 3, "preference": _NODE_TERM}],
        },
        "podAffinity": _POD_AFFINITY,
        "podAntiAffinity": _POD_AFFINITY,
    },
}
FULL: dict[str, list[dict[str, Any]]] = {
    "Cluster": [
        {
            "brokers": {
                "replicas": 1,
                "storage": {"size": "1024Mi", "storageClass": "standard", "deletionPolicy": "Retain"},
                "resources": {
                    "requests": {"cpu": 1, "memory": "0.5Gi"},
                    "limits": {"cpu": "1500m", "memory": "2048Mi"},
                },
                "rack": {"topologyKey": "topology.kubernetes.io/zone"},
                "template": _TEMPLATE,
            },
            "image": "broker:1",
            "listeners": [{"name": "plain", "port": 9092}, {"name": "inside", "port": 9095, "type": "internal"}],
            "config": {"log.retention.hours": 5, "log.roll.hours": "07"},
            "unmanagedConfig": ["num.io.threads"],
            "allowedNamespaces": [{"namespace": "other", "prefix": "o."}, {"namespace": "*"}],
            "metrics": {"consumerGroups": "Declared", "excludeGroups": ["console-consumer-*", "a?"]},
            "canary": {
                "interval": "1000ms",
                "maxLatency": "3000ms",
                "topicName": "__watch",
                "resources": {"requests": {"cpu": "0.05"}, "limits": {"memory": "128Mi"}},
                "metricsPort": 9405,
            },
            "podDisruptionBudget": {"maxUnavailable": 0},
            "maintenanceWindows": [
                {"schedule": "0 2 * * 6", "duration": "240m"},
                {"schedule": "0 3 29 2 *", "duration": "1h", "timeZone": "Europe/Berlin"},
            ],
            "reassignment": {"throttle": "51200Ki"},
            "paused": False,
        },
        {"external": {"bootstrapServers": ["b.example.org:9092", "a.example.org:9092"]}},
        {
            "brokers": {"replicas": 1, "resources": {"limits": {"memory": "1Gi"}}},
            "engine": {
                "type": "apache-kafka",
                "version": "4.3.0",
                "metadataVersion": "4.3",
                "features": {"share.version": 1, "group.version": 0},
                "exchange": "Stop",
                "jvm": {"heap": "0.5Gi", "options": ["-XX:+UseZGC", "-Da=b"]},
            },
        },
    ],
    "Topic": [
        {
            "cluster": "news",
            "topicName": "Orders_of.all",
            "partitions": 3,
            "replicationFactor": 1,
            "retention": {"time": "168h", "sizePerPartition": "1024Mi"},
            "cleanupPolicy": "compact,delete",
            "minInSyncReplicas": 1,
            "config": {"segment.bytes": 1048576, "max.message.bytes": "0100000"},
            "unmanagedConfig": ["flush.ms"],
            "deletionPolicy": "Retain",
            "adoption": "IfIdentical",
        }
    ],
    "ConsumerGroup": [
        {
            "cluster": "news",
            "groupId": "Billing of all",
            "lag": {"maxRecords": 0, "maxTime": "300s", "window": "5m"},
            "reset": {"to": "earliest", "topics": ["b", "a"], "dryRun": True},
            "deletionPolicy": "Delete",
        },
        {"cluster": "news", "reset": {"to": "offset", "offset": 0}},
        {"cluster": "news", "reset": {"to": "time", "time": "2026-01-01T00:00:00+01:00"}},
        {"cluster": "news", "reset": {"to": "shift", "shiftBy": -5}},
        {"cluster": "news", "reset": {"to": "offsets", "offsets": [{"topic": "a", "partition": 0, "offset": 7}]}},
    ],
}
"""Together the specs of a kind have every field."""
