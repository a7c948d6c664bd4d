"""How figures stand in a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def figure(value: float) -> str:
    """Three digits, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values: Sequence[float]) -> str:
    """The median, and in brackets the lowest and the highest where they differ."""
    low, median, high = (figure(value) for value in (min(values), statistics.median(values), max(values)))
    return median if low == high else f"{median} ({low}–{high})"  # noqa: RUF001
