"""Whether another engine, or another version of one, may take a cluster's directories over. Pure.

What one engine has finalized or stored the next one must know: a feature beyond its levels keeps it from starting, and
records that it does not know would be there and of no effect. Both are refused before a broker stops, with what to do.
What is stored is read from the directories (`broadsheet contents`), or asked of the running brokers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from broadsheet_operator.api import engine_versions
from broadsheet_operator.api.engine import EngineType
from broadsheet_operator.api.engine_versions import METADATA_VERSION
from broadsheet_operator.reconcilers.engines import Engine
from broadsheet_operator.reconcilers.engines.levels import unreadable

_RECORDS_OF_4_3: Final[Mapping[int, int]] = {
    **dict.fromkeys((1, 2, 4, *range(7, 13), 14, 15, *range(18, 29)), 0),
    0: 4,
    3: 2,
    5: 2,
    17: 3,
}
METADATA_RECORDS: Final[Mapping[str, Mapping[int, int]]] = {
    "4.3": _RECORDS_OF_4_3,
    "4.4": {**_RECORDS_OF_4_3, 29: 0},
}
"""By version of Apache Kafka the types of metadata records that it reads, and their highest versions (the files of
`common/metadata` in kafka-metadata.jar). Broadsheet reads those of 4.3."""

GROUP_TYPES: Final[Mapping[str, str]] = {
    "consumer": "restart their consumers with group.protocol=classic, which makes them classic groups and keeps their "
    "offsets (a group without consumers needs one that joins), or delete these groups with their offsets "
    "(kafka-consumer-groups.sh --delete)",
    "share": "delete these groups",
    "streams": "restart their applications with group.protocol=classic, or delete these groups",
}
"""Types of groups that only Apache Kafka serves (KIP-848, KIP-932, KIP-1071), and what to do about them."""

_MOST_NAMES: Final = 3
"""How many groups or topics a refusal names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a cluster has finalized and stored."""

    features: Mapping[str, int] = field(default_factory=dict)
    """Finalized levels."""
    metadata_records: Mapping[int, int] = field(default_factory=dict)
    """By type the highest version of its metadata records; empty where nobody could ask."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """By id the type of each group that is not a classic one."""
    unknown_group_records: Sequence[int] = ()
    """Types of records in __consumer_offsets that Broadsheet does not know."""
    transactional_ids: Mapping[str, str] = field(default_factory=dict)
    """By id the state of a transaction that is open; empty for one that has ended."""
    acls: int = 0
    scram_users: int = 0
    delegation_tokens: int = 0
    tiered_topics: Sequence[str] = ()
    """Topics with records in a remote storage."""

    @classmethod
    def from_contents(cls, contents: Mapping[str, Any]) -> Stored:
        """From what `broadsheet contents --output json` prints."""
        return cls(
            features=contents["features"],
            metadata_records={row["type"]: row["version"] for row in contents["metadataRecords"]},
            groups={row["id"]: row["type"] for row in contents["groups"]},
            unknown_group_records=contents["unknownGroupRecords"],
            transactional_ids={row["id"]: row["open"] for row in contents["transactionalIds"]},
            acls=contents["acls"],
            scram_users=contents["scramUsers"],
            delegation_tokens=contents["delegationTokens"],
            tiered_topics=contents["tieredTopics"],
        )


def refusal(target: Engine, stored: Stored) -> str:
    """Why this engine cannot take over what is stored, with everything that is in its way; empty when it can."""
    reasons = [*_features(target, stored), *_metadata_records(target, stored)]
    if target.type is EngineType.BROADSHEET:
        reasons += [*_groups(stored), *_transactions(stored), *_access(stored), *_tiers(stored)]
    return "; ".join(reasons)


def _features(target: Engine, stored: Stored) -> Iterable[str]:
    for each in unreadable(target, stored.features):
        name, shown = each.name, each.show(each.level)
        if each.high == 0:
            yield f"feature {name} is finalized at {shown}, and {target.title} does not know it"
        elif each.level < each.low:
            low = each.show(each.low)
            yield f"{name} is finalized at {shown}, and {target.title} knows it from {low} on: raise it first"
        else:
            high = each.show(each.high)
            option = f"--metadata {high}" if name == METADATA_VERSION else f"--feature {name}={each.high}"
            yield (
                f"{name} is finalized at {shown}, and {target.title} knows it up to {high}: lower it first "
                f"(kafka-features.sh downgrade {option}), if the engine that runs allows it"
            )


def _metadata_records(target: Engine, stored: Stored) -> Iterable[str]:
    minor = engine_versions.minor_of(target.version) if target.type is EngineType.APACHE_KAFKA else "4.3"
    known = METADATA_RECORDS[minor]
    unknown = [
        f"{type} in version {version}"
        for type, version in sorted(stored.metadata_records.items())
        if version > known.get(type, -1)
    ]
    if unknown:
        yield (
            f"the metadata log has records of type {_some(unknown)}, which {target.title} does not know: keep the "
            "engine that wrote them"
        )


def _groups(stored: Stored) -> Iterable[str]:
    for type, what_to_do in GROUP_TYPES.items():
        names = [id for id, found in sorted(stored.groups.items()) if found == type]
        if names:
            yield f"Broadsheet does not serve groups of type {type}, and there are {_some(names)}: {what_to_do}"
    if stored.unknown_group_records:
        types = _some([str(type) for type in stored.unknown_group_records])
        yield f"__consumer_offsets has records of type {types}, which Broadsheet does not know: delete their groups"


def _transactions(stored: Stored) -> Iterable[str]:
    waiting = [f"{id} ({state})" for id, state in sorted(stored.transactional_ids.items()) if state]
    ended = [id for id, state in sorted(stored.transactional_ids.items()) if not state]
    if waiting:
        yield (
            f"transactions of {_some(waiting)} are open, and Broadsheet would not end them: stop their producers, and "
            "wait for transaction.timeout.ms"
        )
    if ended:
        yield (
            f"Broadsheet does not serve transactions, and there are the transactional ids {_some(ended)}: stop their "
            "producers, and wait until the ids have expired, by default 7 days after their last transaction (to have "
            "it sooner, set engine.type back, and transactional.id.expiration.ms and "
            "transaction.remove.expired.transaction.cleanup.interval.ms in config)"
        )


def _access(stored: Stored) -> Iterable[str]:
    for count, what, tool in (
        (stored.acls, "ACL", "kafka-acls.sh --remove"),
        (stored.scram_users, "SCRAM credential", "kafka-configs.sh --delete-config"),
        (stored.delegation_tokens, "delegation token", "kafka-delegation-tokens.sh --expire"),
    ):
        if count:
            some = f"there are {count} {what}s" if count > 1 else f"there is 1 {what}"
            yield f"{some}, which Broadsheet would not enforce: remove all of them first ({tool})"


def _tiers(stored: Stored) -> Iterable[str]:
    if stored.tiered_topics:
        yield (
            f"records of {_some(stored.tiered_topics)} are in a remote storage, which Broadsheet does not read: set "
            "remote.storage.enable to false there first"
        )


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")
