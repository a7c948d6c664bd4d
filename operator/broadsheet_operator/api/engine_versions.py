"""The one table of engines' versions: which features each knows, at which levels, and the names of metadata versions.

The levels are those that `kafka-features.sh version-mapping` and `kafka-storage.sh format --release-version` of each
version have (`MetadataVersion` and `Feature` of Apache Kafka's server-common). Our brokers work at the levels of 4.3:
what Apache Kafka has finalized there they keep, so that it finds it again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

Levels = tuple[int, int]
"""The lowest and the highest level of a feature that a version knows."""

METADATA_VERSION: Final = "metadata.version"
KRAFT_VERSION: Final = "kraft.version"
"""1: the voters of the metadata quorum may change (KIP-853). Every Cluster has it, so nobody sets it."""

METADATA_VERSIONS: Final[Mapping[str, int]] = {
    "3.9-IV0": 21,
    "4.0-IV0": 22,
    "4.0-IV1": 23,
    "4.0-IV2": 24,
    "4.0-IV3": 25,
    "4.1-IV0": 26,
    "4.1-IV1": 27,
    "4.2-IV0": 28,
    "4.2-IV1": 29,
    "4.3-IV0": 30,
    "4.4-IV0": 31,
    "4.4-IV1": 32,
    "4.4-IV2": 33,
}
"""Names of metadata.version and their levels, in their order. 3.9-IV0 is the first with voters that may change."""

_FEATURES_OF_4_3: Final[Mapping[str, Levels]] = {
    METADATA_VERSION: (7, 30),
    KRAFT_VERSION: (0, 1),
    "transaction.version": (0, 2),
    "group.version": (0, 1),
    "eligible.leader.replicas.version": (0, 1),
    "share.version": (0, 1),
    "streams.version": (0, 1),
}
VERSIONS: Final[Mapping[str, Mapping[str, Levels]]] = {
    "4.3": _FEATURES_OF_4_3,
    "4.4": {**_FEATURES_OF_4_3, METADATA_VERSION: (7, 33), "share.version": (0, 2)},
}
"""Apache Kafka's versions that can be an engine, without the patch: their features and levels."""
BROADSHEET: Final[Mapping[str, Levels]] = _FEATURES_OF_4_3
"""What our brokers can start on."""
SETTABLE: Final = tuple(name for name in _FEATURES_OF_4_3 if name not in (METADATA_VERSION, KRAFT_VERSION))
"""Features that a Cluster may set in `engine.features`."""

VERSION_PATTERN: Final = rf"^({'|'.join(re.escape(minor) for minor in VERSIONS)})[.][0-9]{{1,3}}$"
VERSION_HELP: Final = f"a version of Apache Kafka with its patch: {' or '.join(f'{minor}.x' for minor in VERSIONS)}"


def minor_of(version: str) -> str:
    """`4.3` of `4.3.0`."""
    return ".".join(version.split(".")[:2])


def names_up_to(level: int) -> tuple[str, ...]:
    """The metadata versions of at most this level, and `4.3` for the last one of 4.3, as Kafka's tools take them."""
    full = [name for name, found in METADATA_VERSIONS.items() if found <= level]
    short = {name.partition("-")[0]: None for name in full}
    return (*full, *(name for name in short if METADATA_VERSIONS[_last_of(name)] <= level))


def level_of(name: str) -> int | None:
    """The level of a metadata version, as `4.3-IV0` or `4.3`; None for one that is not in the table."""
    return METADATA_VERSIONS.get(name if "-" in name else _last_of(name))


def name_of(level: int) -> str:
    """The metadata version of a level, as `4.3-IV0`; of one that is not in the table, the level itself."""
    return next((name for name, found in METADATA_VERSIONS.items() if found == level), f"level {level}")


def shown(feature: str, level: int) -> str:
    """A level as people say it: a metadata version by its name."""
    return name_of(level) if feature == METADATA_VERSION else str(level)


def _last_of(release: str) -> str:
    return next((name for name in reversed(list(METADATA_VERSIONS)) if name.startswith(f"{release}-")), "")
