"""ApiVersions, versions 0-4: the APIs of this broker and the features of its cluster (KIP-35, KIP-511, KIP-584).

* The answer's header is always version 0; a version that is not served gets a body of version 0 with
  UNSUPPORTED_VERSION and the range that is (the network does both, before decoding).
* From version 3 on clients send their name and version; a malformed one gets INVALID_REQUEST (KIP-511).
* Features whose lowest level is 0 are left out below version 4, since older clients refuse them (KAFKA-17011).
* A controller's listener lists only the APIs that controllers serve.
"""

from __future__ import annotations

import re
from functools import lru_cache

from broadsheet_broker.apis.registry import REGISTRY, serves
from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.controller.brokers import supported_features
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.api_versions_request import ApiVersionsRequest
from broadsheet_broker.wire.messages.api_versions_response import (
    ApiVersion,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)

CONTROLLER_APIS = frozenset((1, *range(17, 21), *range(29, 34), *range(36, 42), *range(43, 47), 49, *range(51, 61))) | {
    *(62, 63, 64, 67, 70, 73),
    *range(80, 83),
}
"""API keys that Kafka serves on the listeners of controllers."""

CONTROLLER_ONLY = frozenset((52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 73, 82))
"""API keys that nodes use among themselves: Kafka serves them nowhere else."""

_SOFTWARE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")


@lru_cache(2)
def _advertised(controller: bool) -> list[ApiVersion]:
    """The registry as clients see it; it does not change after the start."""
    return [
        ApiVersion(api_key=api.key, min_version=api.lowest_advertised, max_version=api.highest)
        for api in sorted(REGISTRY.values(), key=lambda api: api.key)
        if (api.key in CONTROLLER_APIS if controller else api.key not in CONTROLLER_ONLY)
    ]


def version_answer(lowest: int, highest: int) -> ApiVersionsResponse:
    """The answer to a version of ApiVersions that is not served."""
    known = ApiVersion(api_key=18, min_version=lowest, max_version=highest)
    return ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=[known])


@serves(18, "ApiVersions", (0, 4))
def api_versions(services: Services, request: Request[ApiVersionsRequest]) -> None:
    body = request.body
    if request.version >= 3 and not (
        _SOFTWARE.fullmatch(body.client_software_name) and _SOFTWARE.fullmatch(body.client_software_version)
    ):
        request.answer(ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST))
        return
    image = services.metadata.image
    request.answer(
        ApiVersionsResponse(
            api_keys=_advertised(request.connection.listener in services.config.controller_listener_names),
            supported_features=[
                SupportedFeatureKey(name=name, min_version=low, max_version=high)
                for name, (low, high) in supported_features(image).items()
                if low > 0 or request.version >= 4
            ],
            finalized_features_epoch=image.offset,
            finalized_features=[
                FinalizedFeatureKey(name=name, min_version_level=level, max_version_level=level)
                for name, level in sorted(image.features.items())
            ],
        )
    )
