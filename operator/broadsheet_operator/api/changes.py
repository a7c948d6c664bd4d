"""Changes of a resource that are refused: on Kubernetes by rules of the CRD, with `broadsheet up` by these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from broadsheet_operator.api.engine import NO_EXCHANGE, EngineType
from broadsheet_operator.api.quantities import parse_size

FIXED = {"Topic": ("cluster", "topicName"), "ConsumerGroup": ("cluster", "groupId"), "Cluster": ()}
"""Fields of spec that never change."""
NOT_EXTERNAL_NOW = "a cluster that we run cannot become an external one, nor the other way round"
NO_STORAGE_CHANGE = "brokers with volumes cannot lose them, and brokers without get none; make a new Cluster instead"
NO_SHRINKING = "a volume can grow but never shrink; set the size back, or make a new Cluster"
NO_OTHER_CLASS = "storageClass cannot be changed; make a new Cluster instead"


def refused_changes(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, why) for every change from the spec `old` to the spec `new` that is refused. Pure."""
    for field in FIXED[kind]:
        if old.get(field) != new.get(field):
            yield f"spec.{field}", "cannot be changed; make a new resource instead"
    if kind != "Cluster":
        return
    if ("external" in old) != ("external" in new):
        yield "spec", NOT_EXTERNAL_NOW
    if "brokers" not in old or "brokers" not in new:
        return
    was, now = ((spec.get("engine") or {}).get("type") or EngineType.BROADSHEET for spec in (old, new))
    engine = new.get("engine") or {}
    # A type that is left out is no order: another field manager may still own the exchange.
    if was != now and not (engine.get("exchange") and engine.get("type")):
        yield "spec.engine.type", NO_EXCHANGE
    before, after = ((spec["brokers"] or {}).get("storage") or {} for spec in (old, new))
    if (before.get("size") is None) != (after.get("size") is None):
        yield "spec.brokers.storage", NO_STORAGE_CHANGE
    elif before.get("size") is not None and parse_size(after["size"]) < parse_size(before["size"]):
        yield "spec.brokers.storage.size", NO_SHRINKING
    if before and after and before.get("storageClass") != after.get("storageClass"):
        yield "spec.brokers.storage.storageClass", NO_OTHER_CLASS
