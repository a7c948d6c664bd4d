"""The .properties format as java.util.Properties reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.config import ConfigError, parse_overrides, parse_properties


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a=b", {"a": "b"}),
        ("a = b", {"a": "b"}),
        ("a:b", {"a": "b"}),
        ("a b c", {"a": "b c"}),
        ("a  =  b ", {"a": "b "}),
        ("  a=b=c:d", {"a": "b=c:d"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("=b", {"": "b"}),
        ("# a=b\n! c=d\n\n  \t\ne=f", {"e": "f"}),
        ("a=b\r\nc=d\re=f", {"a": "b", "c": "d", "e": "f"}),
        ("a=b\\\n   c", {"a": "bc"}),
        ("a=b\\\\\nc=d", {"a": "b\\", "c": "d"}),
        ("# comment \\\na=b", {"a": "b"}),
        ("a=b\\\n# c", {"a": "b# c"}),
        ("a\\ b\\:c\\=d=e", {"a b:c=d": "e"}),
        ("a=\\u0041\\t\\n\\r\\f\\q", {"a": "A\t\n\r\fq"}),
        ("a=1\na=2", {"a": "2"}),
        ("listeners=PLAINTEXT://:9092,CONTROLLER://:9093", {"listeners": "PLAINTEXT://:9092,CONTROLLER://:9093"}),
        ("a=b\\", {"a": "b"}),
    ],
)
def test_it_is_read(text: str, pairs: dict[str, str]) -> None:
    assert parse_properties(text) == pairs


def escape(text: str) -> str:
    """As Properties.store writes keys and values."""
    short = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\f": "\\f"}
    return "".join(
        short.get(c, f"\\u{ord(c):04x}" if ord(c) > 126 else "\\" + c if c in " \\=:#!" else c) for c in text
    )


TEXTS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=("Cs",)))


@given(st.dictionaries(TEXTS, TEXTS))
def test_what_java_writes_is_read_back(pairs: dict[str, str]) -> None:
    lines = [f"{escape(key)}={escape(value)}" for key, value in pairs.items() if key]
    assert parse_properties("\n".join(lines)) == {key: value for key, value in pairs.items() if key}


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_properties(text)
    except ConfigError:
        assert "\\u" in text


def test_a_broken_escape_is_refused() -> None:
    with pytest.raises(ConfigError, match="four hexadecimal digits"):
        parse_properties("a=\\u00g0")


def test_overrides() -> None:
    assert parse_overrides(["a=b", " c = d=e "]) == {"a": "b", "c": "d=e"}
    with pytest.raises(ConfigError, match="allowed is key=value"):
        parse_overrides(["a"])
