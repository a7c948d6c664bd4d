"""How many bytes of a partition there are to read: what waiting fetches count, without looking into the log."""

from __future__ import annotations

from collections import deque

_MOST_NOTES = 64


class ReadableBytes:
    """Two numbers that only grow. Readers compare what they are with what they were.

    What was in the log above the high watermark before counts as one byte per record.
    """

    __slots__ = ("_notes", "visible", "written")

    def __init__(self, written: int) -> None:
        self.written = written
        """Bytes of batches written: what followers may read."""
        self.visible = 0
        """The part of them below the high watermark: what consumers may read."""
        self._notes: deque[tuple[int, int]] | None = None
        """Log end offset and `written` after writes above the high watermark. Made when the first one comes: an empty
        deque takes 600 bytes, and there may be thousands of partitions."""

    def note(self, end: int) -> None:
        """Remember where a write ended; a follower that stands still for long makes the notes coarser, not more."""
        notes = self._notes
        if notes is None:
            notes = self._notes = deque()
        elif len(notes) >= _MOST_NOTES:
            notes.pop()
        notes.append((end, self.written))

    def committed(self, mark: int, end: int) -> None:
        """The high watermark has moved to `mark`, in a log that ends at `end`."""
        if mark >= end:
            self.visible = self.written
            self._notes = None
            return
        visible = self.visible + 1  # at the least: a reader that waits for one byte has it now
        notes = self._notes
        while notes and notes[0][0] <= mark:
            visible = notes.popleft()[1]
        self.visible = min(visible, self.written)

    def forget_notes(self) -> None:
        """The log was cut: what was noted is no longer there."""
        self._notes = None
