"""The fewest faults with which a run still goes wrong (Zeller's delta debugging, from halves down to single ones).

Without a fault everything after it happens otherwise, so a shorter schedule may well go wrong in another way. What is
left is the shortest that was found: no single fault of it can be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def shrink(numbers: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """A part of `numbers` for which `fails` still holds, and for which it holds without none of its members.

    `fails(numbers)` must hold.
    """
    kept, pieces = list(numbers), 2
    if kept and fails([]):
        return []
    while len(kept) > 1:
        size = -(-len(kept) // pieces)
        without = [kept[:start] + kept[start + size :] for start in range(0, len(kept), size)]
        smaller = next((rest for rest in without if rest and fails(rest)), None)
        if smaller is not None:
            kept, pieces = smaller, max(pieces - 1, 2)
        elif size == 1:
            break
        else:
            pieces = min(2 * pieces, len(kept))
    return kept
