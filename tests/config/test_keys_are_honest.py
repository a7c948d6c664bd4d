"""A key that is documented as honoured is read by somebody."""

from __future__ import annotations

import re
from pathlib import Path

import broadsheet_broker
from broadsheet_broker.config import KEYS, TOPIC_KEYS

PACKAGE = Path(broadsheet_broker.__file__).parent


def names_in_the_source() -> set[str]:
    """Every text of the broker's modules that could be a key, but for the tables themselves."""
    names: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if not path.name.endswith("_keys.py"):
            names |= set(re.findall(r'"([a-z0-9.]+)"', path.read_text(encoding="utf-8")))
    return names


def test_every_honoured_key_is_read_somewhere() -> None:
    names = names_in_the_source()
    defaults_of_topics = {synonym for key in TOPIC_KEYS.values() for synonym in key.synonyms}
    honoured = {key.name for key in (*KEYS.values(), *TOPIC_KEYS.values()) if not key.no_effect}
    assert honoured - names - defaults_of_topics == set()
