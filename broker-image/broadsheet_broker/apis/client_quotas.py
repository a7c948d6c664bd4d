"""DescribeClientQuotas (key 48): the quotas in the metadata. None can be set here; Apache Kafka may have left some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.describe_client_quotas_response import (
    DescribeClientQuotasResponse,
    EntityData,
    EntryData,
    ValueData,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.wire.messages.describe_client_quotas_request import (
        ComponentData,
        DescribeClientQuotasRequest,
    )

EXACT, DEFAULT, ANY = 0, 1, 2
"""Match types of a filter: one name, the default entity, any name."""

_USER, _CLIENT, _IP = "user", "client-id", "ip"


@serves(48, "DescribeClientQuotas", (0, 1), without="enforcement: shows what Apache Kafka has left")
def describe_client_quotas(services: Services, request: Request[DescribeClientQuotasRequest]) -> None:
    body = request.body
    exact, any_name = _filters(body.components)
    entries = []
    for entity, values in services.metadata.image.client_quotas.items():
        names = dict(entity)
        if body.strict and len(names) != len(exact) + len(any_name):
            continue
        if any_name <= names.keys() and all(type in names and names[type] == name for type, name in exact.items()):
            entries.append(
                EntryData(
                    entity=[EntityData(entity_type=type, entity_name=name) for type, name in entity],
                    values=[ValueData(key=key, value=value) for key, value in values.items()],
                )
            )
    request.answer(DescribeClientQuotasResponse(error_message=None, entries=entries))


def _filters(components: Sequence[ComponentData]) -> tuple[dict[str, str | None], set[str]]:
    """The names asked for by type (None: the default entity), and the types of which any name will do."""
    exact: dict[str, str | None] = {}
    any_name: set[str] = set()
    for component in components:
        type, name = component.entity_type, component.match
        if not type:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Invalid empty entity type.")
        if type in exact or type in any_name:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"Entity type {type} cannot appear more than once in the filter."
            )
        if type not in (_USER, _CLIENT, _IP):
            raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, f"Unsupported entity type {type}")
        if component.match_type not in _MATCHES:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown match type {component.match_type}")
        if (component.match_type == EXACT) != (name is not None):
            problem = "needs a match string" if name is None else "takes no match string"
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"{_MATCHES[component.match_type]} {problem}.")
        if component.match_type == ANY:
            any_name.add(type)
        else:
            exact[type] = name
    types = {*exact, *any_name}
    if _IP in types and len(types) > 1:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, "The IP filter component must not be used with user or client-id components."
        )
    return exact, any_name


_MATCHES: Final = {EXACT: "MATCH_TYPE_EXACT", DEFAULT: "MATCH_TYPE_DEFAULT", ANY: "MATCH_TYPE_SPECIFIED"}
