"""What a running cluster has finalized and stored that another engine may not know.

It is asked over Kafka's protocol. An API that the brokers do not have stands for something that they cannot have
stored. The types of metadata records cannot be asked for: a feature's level says which of them there may be. Delegation
tokens are shown to no client without authentication, and made for none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kafka.protocol.admin import (
    DescribeAclsRequest,
    DescribeUserScramCredentialsRequest,
    ListGroupsRequest,
    ListTransactionsRequest,
)
from kafka.protocol.metadata import ApiVersionsRequest

from broadsheet_operator.kafka.failures import failure_of_code
from broadsheet_operator.kafka.topics import observe_cluster
from broadsheet_operator.kafka.wire import CLIENT_ID, Call, Wire
from broadsheet_operator.reconcilers.exchange import Stored
from broadsheet_operator.reconcilers.observed import Failure
from broadsheet_operator.reconcilers.reasons import Reason

WHAT = "look at what is stored"
FEATURES_VERSION = 4
"""ApiVersions has features from version 3 on; 4 lets their lowest level be 0."""
ANY, ANY_PATTERN = 1, 1
"""In a filter of DescribeAcls."""
SECURITY_DISABLED = 54
OPEN = frozenset(("Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"))
"""States of a transaction that has no end yet."""


def observe_stored(wire: Wire) -> Stored | Failure:
    """Everything that `exchange.refusal` looks at, as far as brokers tell it."""
    cluster = observe_cluster(wire)
    if isinstance(cluster, Failure):
        return cluster
    nodes = [broker.id for broker in cluster.alive]
    if not nodes:
        return Failure(Reason.UNREACHABLE, f"{WHAT}: the cluster has no broker that takes requests")
    calls = [Call(ListGroupsRequest(states_filter=[], types_filter=[]), WHAT, node) for node in nodes]
    calls += [Call(ListTransactionsRequest(state_filters=[], producer_id_filters=[]), WHAT, node) for node in nodes]
    calls += [
        Call(DescribeAclsRequest(**_EVERY_ACL), WHAT),
        Call(DescribeUserScramCredentialsRequest(users=None), WHAT),
    ]
    features = ApiVersionsRequest(version=FEATURES_VERSION, client_software_name=CLIENT_ID, client_software_version="1")
    answers = wire.ask([*calls, Call(features, WHAT)])
    failure = next((found for answer in answers if (found := _failure(answer)) is not None), None)
    if failure is not None:
        return failure
    groups, transactions = answers[: len(nodes)], answers[len(nodes) : 2 * len(nodes)]
    acls, users, versions = answers[2 * len(nodes) :]
    if isinstance(versions, Failure):
        return versions
    return Stored(
        features={feature.name: feature.max_version_level for feature in versions.finalized_features or ()},
        groups=_groups(groups),
        transactional_ids=_transactions(transactions),
        acls=sum(len(resource.acls) for resource in _rows(acls, "resources")),
        scram_users=sum(len(user.credential_infos) for user in _rows(users, "results")),
    )


_EVERY_ACL: Mapping[str, Any] = {
    "resource_type_filter": ANY,
    "resource_name_filter": None,
    "pattern_type_filter": ANY_PATTERN,
    "principal_filter": None,
    "host_filter": None,
    "operation": ANY,
    "permission_type": ANY,
}


def _failure(answer: Any) -> Failure | None:
    """Why this is not known; None where it is, and where there can be nothing."""
    if isinstance(answer, Failure):
        return None if answer.reason is Reason.NOT_SUPPORTED else answer
    code = answer.error_code
    return None if code == SECURITY_DISABLED else failure_of_code(code, getattr(answer, "error_message", None), WHAT)


def _rows(answer: Any, name: str) -> Sequence[Any]:
    return () if isinstance(answer, Failure) else getattr(answer, name) or ()


def _groups(answers: Sequence[Any]) -> dict[str, str]:
    """By id the types of groups that are not classic ones."""
    found = {
        group.group_id: str(getattr(group, "group_type", None) or "classic").lower()
        for answer in answers
        for group in _rows(answer, "groups")
    }
    return {id: type for id, type in sorted(found.items()) if type != "classic"}


def _transactions(answers: Sequence[Any]) -> dict[str, str]:
    """By transactional id the state of a transaction that is open; empty for one that has ended."""
    found = {
        row.transactional_id: str(row.transaction_state)
        for answer in answers
        for row in _rows(answer, "transaction_states")
    }
    return {id: state if state in OPEN else "" for id, state in sorted(found.items()) if state != "Dead"}
