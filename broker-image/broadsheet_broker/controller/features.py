"""UpdateFeatures: the levels at which the cluster works (KIP-584, KIP-1022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broadsheet_broker.controller import eligible_replicas
from broadsheet_broker.controller.brokers import supported_features
from broadsheet_broker.controller.partition_change import Defaults
from broadsheet_broker.controller.plan import Plan
from broadsheet_broker.metadata.image import METADATA_VERSION, ClusterImage
from broadsheet_broker.metadata.records import V4_0_IV1, V4_3_IV0
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.feature_level_record import FeatureLevelRecord
from broadsheet_broker.wire.messages.update_features_request import FeatureUpdateKey, UpdateFeaturesRequest
from broadsheet_broker.wire.messages.update_features_response import UpdatableFeatureResult, UpdateFeaturesResponse

DEFAULT_FEATURES: Final[Mapping[str, int]] = {METADATA_VERSION: V4_3_IV0, eligible_replicas.FEATURE: 1}
"""What a new cluster starts with. Kafka 4.3 also turns on group, share, streams and transaction versions; they stay
off until they are built here, since clients act on them."""

UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE = 1, 2, 3


def update_features(
    image: ClusterImage, request: UpdateFeaturesRequest, version: int, defaults: Defaults
) -> Plan[UpdateFeaturesResponse]:
    """Plan new levels: all of them, or none when one is refused."""
    plan = Plan(UpdateFeaturesResponse(error_message=None))
    wanted = dict(image.features) | {update.feature: update.max_version_level for update in request.feature_updates}
    for update in request.feature_updates:
        try:
            plan.records += _update(image, update, version, wanted)
        except KafkaError as error:
            plan.records = []
            plan.answer.error_code = error.code
            plan.answer.error_message = (
                "The update failed for all features since the following feature had an error: " + error.message
            )
            return plan
    if version < 2:
        plan.answer.results = [
            UpdatableFeatureResult(feature=update.feature, error_message=None) for update in request.feature_updates
        ]
    if request.validate_only:
        plan.records = []
    if any(record.name == eligible_replicas.FEATURE for record in plan.records):
        if wanted[eligible_replicas.FEATURE]:
            plan.records[:0] = eligible_replicas.agree_on_min_isr(image, defaults.min_isr)
        else:
            plan.records += eligible_replicas.do_without(image)
    return plan


def _update(
    image: ClusterImage, update: FeatureUpdateKey, version: int, wanted: Mapping[str, int]
) -> list[FeatureLevelRecord]:
    name, level = update.feature, update.max_version_level
    kind = update.upgrade_type
    if version == 0:
        kind = SAFE_DOWNGRADE if update.allow_downgrade else UPGRADE
    if kind not in (UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE):
        raise _invalid(name, level, "The controller does not support the given upgrade type.")
    low, high = supported_features(image).get(name, (0, 0))
    if not low <= level <= high:
        raise _invalid(name, level, f"This node supports levels {low} to {high} of it.")
    for broker in image.brokers.values():
        low, high = broker.features.get(name, (0, 0))
        if not low <= level <= high:
            raise _invalid(name, level, f"Broker {broker.id} supports levels {low} to {high} of it.")
    for controller in image.controllers.values():
        low, high = controller.features.get(name, (0, 0))
        if not low <= level <= high:
            raise _invalid(name, level, f"Controller {controller.id} supports levels {low} to {high} of it.")
    current = image.features.get(name, 0)
    if level == current:
        return []
    if level < current and kind == UPGRADE:
        raise _invalid(
            name,
            level,
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe "
            "downgrade.",
        )
    if level > current and kind != UPGRADE:
        raise _invalid(name, level, "Can't downgrade to a newer version.")
    if name == METADATA_VERSION and level < current:
        raise _invalid(name, level, "Records that are in the metadata log already need the current version.")
    if name == eligible_replicas.FEATURE and level and wanted.get(METADATA_VERSION, 0) < V4_0_IV1:
        raise _invalid(
            name, level, f"{name} could not be set to {level} because it depends on metadata.version level {V4_0_IV1}"
        )
    if name == "kraft.version":
        raise _invalid(name, level, "The quorum keeps the form that it was formatted with.")
    return [FeatureLevelRecord(name=name, feature_level=level)]


def _invalid(name: str, level: int, why: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_UPDATE_VERSION, f"Invalid update version {level} for feature {name}. {why}")
