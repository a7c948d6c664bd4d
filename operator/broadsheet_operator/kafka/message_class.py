"""Classes for messages that kafka-python has none for.

The library makes a class from a description of Kafka's by the class's name; here the description is given instead.
"""

from __future__ import annotations

from typing import Any

from kafka.protocol.api_message import ApiMessage


def message(key: int, name: str, kind: str, fields: list[dict[str, Any]], versions: str = "0") -> Any:
    """The class of a message. `kind`: request or response; `fields` as Kafka's JSON descriptions have them."""
    description = {
        "apiKey": key,
        "type": kind,
        "name": name,
        "validVersions": versions,
        "flexibleVersions": "0+",
        "fields": fields,
    }

    class DescribeQuorumRequest(ApiMessage):  # type: ignore[misc]  # a name that the library finds a description for
        @classmethod
        def json_patch(cls, json: Any) -> Any:
            return description

    DescribeQuorumRequest.__name__ = DescribeQuorumRequest.__qualname__ = name
    return DescribeQuorumRequest
