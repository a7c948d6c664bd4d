"""What appends and reads answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broadsheet_broker.seams import Buffer
    from broadsheet_broker.seams.files import StoredBytes


class AppendInfo:
    """Where a batch went. With `duplicate`, where it had gone before: nothing was written."""

    __slots__ = ("duplicate", "first_offset", "last_offset", "log_append_time", "max_timestamp", "size")

    def __init__(
        self,
        first_offset: int,
        last_offset: int,
        log_append_time: int,
        max_timestamp: int,
        size: int,
        duplicate: bool = False,
    ) -> None:
        self.first_offset = first_offset
        self.last_offset = last_offset
        self.log_append_time = log_append_time
        """ms; -1 unless the topic has LogAppendTime."""
        self.max_timestamp = max_timestamp
        self.size = size
        self.duplicate = duplicate


class Fetched:
    """Whole batches; the first may begin before the offset asked for.

    `data` is their bytes; or they are `stored` and `data` is empty, if the caller allowed that.
    """

    __slots__ = ("data", "next_offset", "position", "segment_base_offset", "stored")

    def __init__(
        self,
        data: Buffer,
        next_offset: int,
        segment_base_offset: int = -1,
        position: int = -1,
        stored: StoredBytes | None = None,
    ) -> None:
        self.data = data
        self.stored = stored
        self.next_offset = next_offset
        """Where a reader goes on that takes all of `data`."""
        self.segment_base_offset = segment_base_offset
        self.position = position
