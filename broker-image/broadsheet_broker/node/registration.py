"""What a node registers when it starts: as a broker (KIP-631), and as a controller (KIP-919)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from broadsheet_broker.config import BrokerConfig
from broadsheet_broker.controller.brokers import Registration, supported_features
from broadsheet_broker.metadata.image import ClusterImage, Endpoint
from broadsheet_broker.node.forwarding import Call
from broadsheet_broker.node.identity import Identity
from broadsheet_broker.wire.errors import KafkaError
from broadsheet_broker.wire.messages import broker_registration_request as broker_request
from broadsheet_broker.wire.messages import controller_registration_request as controller_request
from broadsheet_broker.wire.messages.controller_registration_response import ControllerRegistrationResponse

logger = logging.getLogger(__name__)

_ATTEMPT: Final = 30.0
_RETRY: Final = 0.2


class NodeRegistration:
    """One life of a node."""

    def __init__(
        self,
        config: BrokerConfig,
        identity: Identity,
        incarnation_id: UUID,
        bound_ports: Mapping[str, int],
        previous_broker_epoch: int,
    ) -> None:
        """`bound_ports`: by listener, where the configuration asks for port 0. `previous_broker_epoch`: of this
        broker's former life, -1 unless that ended cleanly."""
        self._config = config
        self._identity = identity
        self._ports = dict(bound_ports)
        self._previous_broker_epoch = previous_broker_epoch
        self.incarnation_id = incarnation_id

    def controller_endpoints(self) -> dict[str, Endpoint]:
        """Where other nodes reach this controller, by listener; empty on a node that is only a broker."""
        if not self._config.is_controller:
            return {}
        return {
            item.name: Endpoint(item.host or "localhost", item.port or self._ports.get(item.name, 0))
            for item in self._config.advertised_controller_listeners
        }

    def broker(self, image: ClusterImage) -> Registration:
        """What this node registers as a broker; `image` has the features that the cluster has finalized."""
        return Registration(
            broker_id=self._config.node_id,
            incarnation_id=self.incarnation_id,
            endpoints={item.name: Endpoint(item.host, item.port) for item in self._config.advertised(self._ports)},
            log_dirs=tuple(self._identity.directories.values()),
            rack=self._config.rack,
            features=supported_features(image),
            previous_epoch=self._previous_broker_epoch,
        )

    async def register_controller(self, image: ClusterImage, call: Call) -> None:
        """Register this controller with the active one, once for each life; retries until it is accepted."""
        request = controller_request.ControllerRegistrationRequest(
            controller_id=self._config.node_id,
            incarnation_id=self.incarnation_id,
            listeners=[
                controller_request.Listener(
                    name=name, host=item.host, port=item.port, security_protocol=item.security_protocol
                )
                for name, item in self.controller_endpoints().items()
            ],
            features=[
                controller_request.Feature(name=name, min_supported_version=low, max_supported_version=high)
                for name, (low, high) in supported_features(image).items()
            ],
        )
        while True:
            try:
                answer = await call(request, ControllerRegistrationResponse, 0, _ATTEMPT)
                if not answer.error_code:
                    return
            except KafkaError as error:
                logger.debug("This controller is not registered yet: %s", error.message)
            await asyncio.sleep(_RETRY)


def broker_message(registration: Registration, cluster_id: str) -> broker_request.BrokerRegistrationRequest:
    """A broker's registration as it goes to the active controller."""
    return broker_request.BrokerRegistrationRequest(
        broker_id=registration.broker_id,
        cluster_id=cluster_id,
        incarnation_id=registration.incarnation_id,
        listeners=[
            broker_request.Listener(
                name=name, host=endpoint.host, port=endpoint.port, security_protocol=endpoint.security_protocol
            )
            for name, endpoint in registration.endpoints.items()
        ],
        features=[
            broker_request.Feature(name=name, min_supported_version=low, max_supported_version=high)
            for name, (low, high) in (registration.features or {}).items()
        ],
        rack=registration.rack,
        log_dirs=list(registration.log_dirs),
        previous_broker_epoch=registration.previous_epoch,
    )
