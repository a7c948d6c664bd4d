"""What a replica of the metadata log counts about itself: plain numbers that `raft.metrics` exports."""

from __future__ import annotations


class Mean:
    """Values added up, for a mean over any span."""

    __slots__ = ("count", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.count += 1
        self.sum += value
