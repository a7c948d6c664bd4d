"""Features: the levels that are finalized, those that each broker supports, and changes of them (KIP-584, KIP-1022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka.protocol.admin import UpdateFeaturesRequest
from kafka.protocol.metadata import ApiVersionsRequest

from broadsheet_operator.kafka.failures import failure_of_code
from broadsheet_operator.kafka.wire import CLIENT_ID, Call, Wire
from broadsheet_operator.reconcilers.features import FeatureChange
from broadsheet_operator.reconcilers.observed import Failure, FeaturesView
from broadsheet_operator.reconcilers.reasons import Reason

UPGRADE, SAFE_DOWNGRADE = 1, 2
TIMEOUT_MS = 5000
WHAT = "look at the cluster's features"


def observe_features(wire: Wire, broker_ids: Sequence[int]) -> FeaturesView | Failure:
    """What is finalized, as the broker with the newest metadata has it. Brokers that do not answer are left out."""
    request = ApiVersionsRequest(client_software_name=CLIENT_ID, client_software_version="1")
    answers = wire.ask([Call(request, WHAT, broker) for broker in broker_ids])
    found: dict[int, Any] = {}
    failure: Failure | None = None
    for broker, answer in zip(broker_ids, answers, strict=True):
        failed = answer if isinstance(answer, Failure) else failure_of_code(answer.error_code, None, WHAT)
        if failed is None:
            found[broker] = answer
        failure = failure or failed
    # -1: this broker has no metadata yet.
    newest = max(found.values(), key=lambda answer: int(answer.finalized_features_epoch), default=None)
    if newest is None or newest.finalized_features_epoch < 0:
        return failure or Failure(Reason.KAFKA_ERROR, f"{WHAT}: no broker has the cluster's metadata yet")
    return FeaturesView(
        finalized={f.name: f.max_version_level for f in newest.finalized_features or ()},
        supported={
            broker: {f.name: (f.min_version, f.max_version) for f in answer.supported_features or ()}
            for broker, answer in found.items()
        },
    )


def update_features(wire: Wire, change: FeatureChange) -> Failure | None:
    """All of these levels, or none. A level is lowered only where Kafka knows that nothing is lost."""
    update = UpdateFeaturesRequest.FeatureUpdateKey
    updates = [
        update(
            feature=name,
            max_version_level=level,
            allow_downgrade=name in change.lowered,
            upgrade_type=SAFE_DOWNGRADE if name in change.lowered else UPGRADE,
        )
        for name, level in sorted(change.levels.items())
    ]
    request = UpdateFeaturesRequest(timeout_ms=TIMEOUT_MS, feature_updates=updates, validate_only=False)
    answer = wire.ask_one(Call(request, change.words()))
    if isinstance(answer, Failure):
        return answer
    failure = failure_of_code(answer.error_code, answer.error_message, change.words())
    results = (failure_of_code(r.error_code, r.error_message, change.words()) for r in answer.results or ())
    return failure or next((found for found in results if found), None)
