"""An answer that is encoded once and sent many times."""

from __future__ import annotations

import struct
from typing import Any

from broadsheet_broker.seams import Buffer


class EncodedAnswer:
    """The bytes of a response in one version. Clients that do not read them share the memory.

    Not for Fetch and Produce. The throttle time, where the version has one, must be the first field.
    """

    __slots__ = ("_data", "_throttled", "size", "throttle_time_ms", "version")

    def __init__(self, message: Any, version: int) -> None:
        self.version = version
        self._data: bytes = b"".join(message.encode(version))
        self.size = len(self._data)
        """Bytes."""
        first = message.FIELDS[0]
        self._throttled = first.name == "throttle_time_ms" and version in first.versions
        self.throttle_time_ms = 0

    def encode(self, version: int) -> list[Buffer]:
        """The bytes, as `Message.encode` gives them; raises ValueError for another version than its own."""
        if version != self.version:
            raise ValueError(f"encoded in version {self.version}, asked for in {version}")
        throttle_ms, self.throttle_time_ms = self.throttle_time_ms, 0
        if throttle_ms and self._throttled:
            return [struct.pack(">i", throttle_ms) + self._data[4:]]
        return [self._data]
