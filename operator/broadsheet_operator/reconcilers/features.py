"""Which levels of features are finalized next, and which never. Pure.

A level is changed by an explicit field alone (`engine.metadataVersion`, `engine.features`), when all brokers have been
rolled and know it. A metadata.version is never lowered: what an older one cannot read may be in the log already.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from broadsheet_operator.api.engine_versions import METADATA_VERSION, shown
from broadsheet_operator.reconcilers.observed import FeaturesView


@dataclass(frozen=True, slots=True)
class FeatureChange:
    """Levels that are to be finalized."""

    levels: Mapping[str, int]
    lowered: frozenset[str] = frozenset()
    """Those that are lower than what is finalized."""

    def words(self) -> str:
        """For events and logs."""
        return f"finalize {', '.join(f'{name} {shown(name, level)}' for name, level in sorted(self.levels.items()))}"


@dataclass(frozen=True, slots=True)
class FeatureStep:
    """What is to be done about features now."""

    change: FeatureChange | None = None
    words: str = ""
    """What is going on or waited for."""
    refusal: str = ""
    """What of the Cluster is not done, and what is allowed."""


def next_step(wanted: Mapping[str, int], seen: FeaturesView, brokers: Collection[int], waits_for: str) -> FeatureStep:
    """`wanted`: the levels that the Cluster declares; `brokers`: those that must know them; `waits_for`: why nothing
    may be finalized yet, as words; empty when all brokers run what is declared."""
    different = {name: level for name, level in wanted.items() if seen.finalized.get(name, 0) != level}
    if not different:
        return FeatureStep()
    now, level = seen.finalized.get(METADATA_VERSION, 0), different.get(METADATA_VERSION, 0)
    if METADATA_VERSION in different and level < now:
        have, want = shown(METADATA_VERSION, now), shown(METADATA_VERSION, level)
        return FeatureStep(
            refusal=f"engine.metadataVersion is {want}, and the cluster has finalized {have}: a metadata.version is "
            f"never lowered, since the log may hold what {want} cannot read; set it to {have}, or leave it out"
        )
    change = FeatureChange(
        different, frozenset(n for n, level in different.items() if level < seen.finalized.get(n, 0))
    )
    if waits_for:
        return FeatureStep(words=f"{change.words()}: {waits_for}")
    silent = [broker for broker in sorted(brokers) if broker not in seen.supported]
    if silent:
        return FeatureStep(words=f"{change.words()}: waiting for broker {_names(silent)}")
    for name, level in sorted(different.items()):
        without = [broker for broker in sorted(brokers) if not _knows(seen.supported[broker], name, level)]
        if without:
            words = f"broker {_names(without)} does not know it"
            return FeatureStep(refusal=f"{name} {shown(name, level)} cannot be finalized: {words}")
    return FeatureStep(change, change.words())


def _knows(supported: Mapping[str, tuple[int, int]], name: str, level: int) -> bool:
    low, high = supported.get(name, (0, 0))
    return level == 0 or low <= level <= high


def _names(brokers: Collection[int]) -> str:
    return ", ".join(map(str, brokers))
