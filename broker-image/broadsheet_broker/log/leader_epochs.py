"""Which leader epoch began at which offset (KIP-101, KIP-279): what replicas truncate by."""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter
from typing import Final

UNDEFINED_EPOCH: Final = -1
UNDEFINED_OFFSET: Final = -1

_EPOCH: Final = itemgetter(0)
_OFFSET: Final = itemgetter(1)


class LeaderEpochs:
    """Entries (epoch, start offset), both strictly ascending. Kept in memory; `dirty` until the owner stored them.

    One list, so that the thread that stores them copies a whole state.
    """

    __slots__ = ("_entries", "dirty", "latest")

    def __init__(self, entries: list[tuple[int, int]]) -> None:
        self._entries: list[tuple[int, int]] = []
        self.latest = UNDEFINED_EPOCH
        """Epoch of the last entry; asked for at every append."""
        self.dirty = False
        for epoch, offset in entries:
            self.assign(epoch, offset)
        self.dirty = False

    def entries(self) -> list[tuple[int, int]]:
        return list(self._entries)

    def _become(self, entries: list[tuple[int, int]]) -> None:
        self._entries = entries
        self.latest = entries[-1][0] if entries else UNDEFINED_EPOCH
        self.dirty = True

    def assign(self, epoch: int, offset: int) -> None:
        """The batch at `offset` was written in `epoch`. Entries that contradict it give way."""
        entries = self._entries
        if epoch < 0 or (entries and epoch == entries[-1][0] and offset >= entries[-1][1]):
            return
        self._become([entry for entry in entries if entry[0] < epoch and entry[1] < offset] + [(epoch, offset)])

    def learn(self, epoch: int, offset: int) -> None:
        """A batch that is already in the log has this epoch: news only if it is later than all that are known."""
        if epoch > self.latest:
            self.assign(epoch, offset)

    def epoch_of(self, offset: int) -> int:
        """The epoch in which `offset` was (or is being) written; -1 when unknown."""
        index = bisect_right(self._entries, offset, key=_OFFSET) - 1
        return self._entries[index][0] if index >= 0 else UNDEFINED_EPOCH

    def end_offset_of(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """The largest epoch not above the asked one, and where it ended; (-1, -1) when nothing is known of it.

        An epoch before the first known one ends where that begins, and is answered with the asked epoch itself.
        """
        if epoch == UNDEFINED_EPOCH or epoch > self.latest:
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        if epoch == self.latest:
            return epoch, log_end_offset
        index = bisect_right(self._entries, epoch, key=_EPOCH)
        end = self._entries[index][1]
        return (self._entries[index - 1][0], end) if index else (epoch, end)

    def truncate_from_end(self, end_offset: int) -> None:
        """Forget the epochs that begin at or after `end_offset`, the new end of the log."""
        if self._entries and self._entries[-1][1] >= end_offset:
            self._become([entry for entry in self._entries if entry[1] < end_offset])

    def truncate_from_start(self, start_offset: int) -> None:
        """Forget the epochs that ended before `start_offset`, the new start; the one that spans it begins there."""
        index = bisect_right(self._entries, start_offset, key=_OFFSET) - 1
        if index > 0 or (index == 0 and self._entries[0][1] < start_offset):
            self._become([(self._entries[index][0], start_offset), *self._entries[index + 1 :]])

    def clear(self) -> None:
        if self._entries:
            self._become([])
