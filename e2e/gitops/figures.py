"""What is measured on the way; the end of a run shows it as a table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Figures:
    """Rows of the table: what was measured, and the value with its unit."""

    rows: list[tuple[str, str]]

    def add(self, what: str, value: float | str, unit: str = "") -> None:
        shown = value if isinstance(value, str) else f"{value:.1f}"
        self.rows.append((what, f"{shown} {unit}".rstrip()))
