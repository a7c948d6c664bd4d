"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_operator.api.quantities import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_size,
    parse_time,
)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("500ms", 500), ("1s", 1000), ("90m", 5_400_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("unlimited", -1)],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1024", 1024), ("1k", 1000), ("1Ki", 1024), ("10Gi", 10 * 2**30), ("1.5Mi", 1572864), ("1G", 10**9)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "7", "7 d", "d", "-1d", "1.5h", "7days", "999999999999w"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "GB", "10GB", "-1", "1,5G", "1e3", "99999999999999Pi"])
def test_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0ms"),
        (250, "250ms"),
        (41_000, "41s"),
        (60_000, "1m"),
        (3_725_000, "1h2m"),
        (90_000_000, "1d1h"),
        (-1, "unlimited"),
    ],
)
def test_durations_are_written_with_their_two_largest_units(milliseconds: int, text: str) -> None:
    assert format_duration(milliseconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (1023, "1023"), (1024, "1.0Ki"), (12_900, "13Ki"), (10**9, "954Mi"), (2**40, "1.0Ti")]
)
def test_sizes_are_written_in_round_figures(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 10**15))
def test_what_is_written_is_not_longer_than_what_was(milliseconds: int) -> None:
    text = format_duration(milliseconds)
    assert parse_duration(text) <= milliseconds
    assert milliseconds - parse_duration(text) < max(1000, milliseconds * 0.05)


def test_times_need_a_zone() -> None:
    assert parse_time("2026-01-31T08:00:00Z").timestamp() == 1769846400
    with pytest.raises(ValueError, match="zone"):
        parse_time("2026-01-31T08:00:00")


@pytest.mark.parametrize("text", ["50Mi", "100k", "1M", "200Ki", "7", "1500", "3Gi"])
def test_rates_read_as_they_were_written(text: str) -> None:
    assert format_rate(parse_size(text)) == text
