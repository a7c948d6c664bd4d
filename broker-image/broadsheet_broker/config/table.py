"""All the keys, by name, and what is nearest to a name that is none."""

from __future__ import annotations

from collections.abc import Iterable

from broadsheet_broker.config.coordinator_keys import COORDINATOR_KEYS
from broadsheet_broker.config.key import Key
from broadsheet_broker.config.passive_keys import PASSIVE_KEYS, REFUSED_KEYS
from broadsheet_broker.config.server_keys import SERVER_KEYS
from broadsheet_broker.config.storage_keys import STORAGE_KEYS, TOPIC_KEYS

REFUSED: frozenset[str] = frozenset(key.name for key in REFUSED_KEYS)
"""Keys that stop a broker when they are set to anything but Kafka's default."""

KEYS: dict[str, Key] = {
    key.name: key
    for key in sorted(
        (*SERVER_KEYS, *STORAGE_KEYS, *COORDINATOR_KEYS, *PASSIVE_KEYS, *REFUSED_KEYS), key=lambda key: key.name
    )
}
"""Every property of a broker, by name."""

__all__ = ["KEYS", "REFUSED", "TOPIC_KEYS", "nearest"]


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, or None when nothing is near."""
    import difflib  # only for a typing mistake

    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.85)
    return matches[0] if matches else None
