"""Open descriptors of segment files, bounded over all partitions of the broker.

A thousand partitions need not mean a thousand descriptors: what was opened longest ago is closed when the limit is
reached and opened again when it is used again.
"""

from __future__ import annotations

from broadsheet_broker.log.segment import Segment
from broadsheet_broker.seams import File, Files

DEFAULT_LIMIT = 512
"""Half of the usual soft limit of descriptors (1,024), leaving the rest to connections."""


class FilePool:
    """Used on the event loop only."""

    __slots__ = ("_files", "_open", "limit")

    def __init__(self, files: Files, limit: int = DEFAULT_LIMIT) -> None:
        self._files = files
        self._open: dict[Segment, None] = {}
        self.limit = limit

    def file(self, segment: Segment, *, create: bool = False) -> File:
        """The segment's open file."""
        file = segment.file
        if file is None:
            if len(self._open) >= self.limit:
                self.close(next(iter(self._open)))
            file = segment.file = self._files.open(segment.path, create=create)
            self._open[segment] = None
        return file

    def close(self, segment: Segment) -> None:
        self._open.pop(segment, None)
        segment.close_file()

    def adopt(self, segment: Segment) -> None:
        """Take over a file that recovery opened, or close it when the pool is full."""
        if segment.file is not None:
            if len(self._open) >= self.limit:
                segment.close_file()
            else:
                self._open[segment] = None
