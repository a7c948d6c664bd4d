"""What DescribeConfigs returns for a property: value, source, type, documentation, synonyms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broadsheet_broker.config.broker import BrokerConfig
from broadsheet_broker.config.key import READ_ONLY, Key, Kind, text_of
from broadsheet_broker.config.table import KEYS, TOPIC_KEYS
from broadsheet_broker.config.topics import Setting, Source, topic_settings, topic_value

_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of DescribeConfigs."""

    name: str
    value: str | None
    """None for a secret, and for a property without a value."""
    source: Source
    kind: Kind
    read_only: bool
    sensitive: bool
    documentation: str
    synonyms: list[Setting]
    """Every setting of the property, the one that counts first."""


def _documentation(key: Key) -> str:
    return f"Has no effect here: {key.no_effect}." if key.no_effect else key.doc


def describe_topic(
    config: BrokerConfig,
    own: Mapping[str, str],
    dynamic: Mapping[str, str] = _NOTHING,
    dynamic_default: Mapping[str, str] = _NOTHING,
) -> list[Entry]:
    """All properties of a topic that has these own settings; see `topic_settings` for the other two."""
    entries = []
    for name, key in TOPIC_KEYS.items():
        settings = topic_settings(key, config, own, dynamic, dynamic_default)
        if name.startswith("internal.") and name not in own:
            continue
        value, source = topic_value(key, settings), settings[0].source
        named = settings if key.synonyms else settings[:-1]  # Kafka's default is named as that of a broker's property
        entries.append(Entry(name, value, source, key.kind, False, key.sensitive, _documentation(key), named))
    return entries


def describe_broker(
    config: BrokerConfig, dynamic: Mapping[str, str] = _NOTHING, dynamic_default: Mapping[str, str] = _NOTHING
) -> list[Entry]:
    """All properties of this broker, with what was changed for it (`dynamic`) and for all brokers while running."""
    entries = []
    for name, key in KEYS.items():
        if name.startswith(("internal.", "unstable.")):
            continue
        settings = broker_settings(key, config, dynamic, dynamic_default)
        value = None if key.sensitive else text_of(key.parse(settings[0].value)) if settings else None
        source = settings[0].source if settings else Source.DEFAULT
        read_only = key.update == READ_ONLY
        entries.append(Entry(name, value, source, key.kind, read_only, key.sensitive, _documentation(key), settings))
    return entries


def broker_settings(
    key: Key, config: BrokerConfig, dynamic: Mapping[str, str] = _NOTHING, dynamic_default: Mapping[str, str] = _NOTHING
) -> list[Setting]:
    """All settings of a broker property, the one that counts first."""
    settings = []
    for values, source in (
        (dynamic, Source.DYNAMIC_BROKER),
        (dynamic_default, Source.DYNAMIC_DEFAULT_BROKER),
        (config.values, Source.STATIC_BROKER),
    ):
        if key.name in values:
            settings.append(Setting(key.name, None if key.sensitive else values[key.name], source))
    if key.default is not None:
        settings.append(Setting(key.name, key.default, Source.DEFAULT))
    return settings
