"""Which leader epoch began at which offset (KIP-101, KIP-279): what replicas truncate by."""

from __future__ import annotations

from bisect import bisect_right

UNDEFINED_EPOCH = -1
UNDEFINED_OFFSET = -1


class LeaderEpochs:
    """Entries (epoch, start offset), both strictly ascending. Kept in memory; `dirty` until the owner stored them."""

    __slots__ = ("dirty", "epochs", "offsets")

    def __init__(self, entries: list[tuple[int, int]]) -> None:
        self.epochs: list[int] = []
        self.offsets: list[int] = []
        self.dirty = False
        for epoch, offset in entries:
            self.assign(epoch, offset)
        self.dirty = False

    @property
    def latest(self) -> int:
        return self.epochs[-1] if self.epochs else UNDEFINED_EPOCH

    def entries(self) -> list[tuple[int, int]]:
        return list(zip(self.epochs, self.offsets, strict=True))

    def assign(self, epoch: int, offset: int) -> None:
        """The batch at `offset` was written in `epoch`. Entries that contradict it give way."""
        if epoch < 0 or (self.epochs and epoch == self.epochs[-1] and offset >= self.offsets[-1]):
            return
        while self.epochs and (self.epochs[-1] >= epoch or self.offsets[-1] >= offset):
            self.epochs.pop()
            self.offsets.pop()
        self.epochs.append(epoch)
        self.offsets.append(offset)
        self.dirty = True

    def learn(self, epoch: int, offset: int) -> None:
        """A batch that is already in the log has this epoch: news only if it is later than all that are known."""
        if epoch > self.latest:
            self.assign(epoch, offset)

    def epoch_of(self, offset: int) -> int:
        """The epoch in which `offset` was (or is being) written; -1 when unknown."""
        index = bisect_right(self.offsets, offset) - 1
        return self.epochs[index] if index >= 0 else UNDEFINED_EPOCH

    def end_offset_of(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """The largest epoch not above the asked one, and where it ended; (-1, -1) when nothing is known of it.

        An epoch before the first known one ends where that begins, and is answered with the asked epoch itself.
        """
        if epoch == UNDEFINED_EPOCH or not self.epochs or epoch > self.epochs[-1]:
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        if epoch == self.epochs[-1]:
            return epoch, log_end_offset
        index = bisect_right(self.epochs, epoch)
        end = self.offsets[index]
        return (self.epochs[index - 1], end) if index else (epoch, end)

    def truncate_from_end(self, end_offset: int) -> None:
        """Forget the epochs that begin at or after `end_offset`, the new end of the log."""
        while self.offsets and self.offsets[-1] >= end_offset:
            self.offsets.pop()
            self.epochs.pop()
            self.dirty = True

    def truncate_from_start(self, start_offset: int) -> None:
        """Forget the epochs that ended before `start_offset`, the new start; the one that spans it begins there."""
        index = bisect_right(self.offsets, start_offset) - 1
        if index > 0 or (index == 0 and self.offsets[0] < start_offset):
            del self.epochs[:index]
            del self.offsets[:index]
            self.offsets[0] = start_offset
            self.dirty = True

    def clear(self) -> None:
        if self.epochs:
            self.epochs.clear()
            self.offsets.clear()
            self.dirty = True
