"""The rules of spec.engine in CEL: what the models refuse, and what is refused on Kubernetes only."""

from __future__ import annotations

from broadsheet_operator.api import engine_versions as versions
from broadsheet_operator.api.engine import (
    HEAP_HELP,
    HEAP_OPTION,
    HEAP_OPTION_HELP,
    KAFKA_ONLY,
    LEAST_HEAP,
    LEAST_LIMIT,
    LIMIT_HELP,
    NEEDS_VERSION,
    NO_EXCHANGE,
    NO_HOME,
    NO_PROPERTIES_OF_OURS,
    NOT_EXTERNAL,
    EngineType,
    metadata_help,
)
from broadsheet_operator.api.engine_versions import METADATA_VERSION, VERSIONS

_IS_KAFKA = f"self.type == '{EngineType.APACHE_KAFKA}'"
_TYPE = "(has({0}.engine) && has({0}.engine.type) ? {0}.engine.type : 'broadsheet')"
_LIMITS = "self.brokers.resources.limits"
_LIMIT = f"string({_LIMITS}['memory'])"


def _features_help(minor: str) -> str:
    known = VERSIONS[minor]
    return ", ".join(f"{name} {known[name][0]} to {known[name][1]}" for name in versions.SETTABLE)


def _rules_of(minor: str) -> list[tuple[str, str, str, str]]:
    known, title = VERSIONS[minor], f"Apache Kafka {minor}"
    applies = f"has(self.version) && self.version.startsWith('{minor}.')"
    metadata = list(versions.names_up_to(known[METADATA_VERSION][1]))
    levels = " && ".join(f"(k != '{name}' || self.features[k] <= {known[name][1]})" for name in versions.SETTABLE)
    return [
        (
            "spec.engine",
            f"!({applies}) || !has(self.metadataVersion) || self.metadataVersion in {metadata}",
            f"write {metadata_help(title, known)}",
            ".metadataVersion",
        ),
        (
            "spec.engine",
            f"!({applies}) || !has(self.features) || self.features.all(k, {levels})",
            f"engine.features of {title}: {_features_help(minor)}",
            ".features",
        ),
    ]


def _rules_of_ours() -> list[tuple[str, str, str, str]]:
    applies, known = f"!has(self.type) || !({_IS_KAFKA})", versions.BROADSHEET
    levels = " && ".join(f"(k != '{name}' || self.features[k] <= {known[name][1]})" for name in versions.SETTABLE)
    metadata = list(versions.names_up_to(known[METADATA_VERSION][1]))
    return [
        *(
            (
                "spec.engine",
                f"!has(self.{name}) || (has(self.type) && {_IS_KAFKA})",
                f"{name} {KAFKA_ONLY}",
                f".{name}",
            )
            for name in ("version", "jvm")
        ),
        (
            "spec.engine",
            f"!({applies}) || !has(self.metadataVersion) || self.metadataVersion in {metadata}",
            f"write {metadata_help('Broadsheet', known)}",
            ".metadataVersion",
        ),
        (
            "spec.engine",
            f"!({applies}) || !has(self.features) || self.features.all(k, {levels})",
            f"engine.features of Broadsheet: {_features_help('4.3')}",
            ".features",
        ),
    ]


RULES: tuple[tuple[str, str, str, str], ...] = (
    ("spec", "!has(self.engine) || !has(self.external)", NOT_EXTERNAL, ".engine"),
    ("spec", f"{_TYPE.format('self')} == {_TYPE.format('oldSelf')} || "
     "(has(self.engine) && has(self.engine.type) && has(self.engine.exchange))",
     NO_EXCHANGE, ".engine"),
    ("spec", f"!has(self.config) || {_TYPE.format('self')} != '{EngineType.APACHE_KAFKA}'"
     " || !self.config.exists(key, key.startsWith('broadsheet.'))", NO_PROPERTIES_OF_OURS, ".config"),
    ("spec", "!has(self.engine) || !has(self.engine.jvm) || !has(self.engine.jvm.heap) || !has(self.brokers)"
     f" || !has(self.brokers.resources) || !has({_LIMITS}) || !('memory' in {_LIMITS}) || !isQuantity({_LIMIT})"
     f" || !isQuantity(self.engine.jvm.heap) || quantity(self.engine.jvm.heap).isLessThan(quantity({_LIMIT}))",
     HEAP_HELP, ".engine"),
    ("spec", f"{_TYPE.format('self')} != '{EngineType.APACHE_KAFKA}' || !has(self.brokers)"
     f" || !has(self.brokers.resources) || !has({_LIMITS}) || !('memory' in {_LIMITS}) || !isQuantity({_LIMIT})"
     f" || quantity({_LIMIT}).compareTo(quantity('{LEAST_LIMIT}')) >= 0", LIMIT_HELP, ".brokers"),
    ("spec.engine", f"!has(self.type) || !({_IS_KAFKA}) || has(self.version)", NEEDS_VERSION, ".version"),
    ("spec.engine", "!has(self.home)", NO_HOME, ".home"),
    *_rules_of_ours(),
    *(rule for minor in VERSIONS for rule in _rules_of(minor)),
    ("spec.engine", f"!has(self.features) || self.features.all(key, key in {list(versions.SETTABLE)})",
     f"engine.features: allowed are {', '.join(versions.SETTABLE)}; metadata.version is engine.metadataVersion",
     ".features"),
    ("spec.engine.jvm", "!has(self.heap) || !isQuantity(self.heap) ||"
     f" quantity(self.heap).compareTo(quantity('{LEAST_HEAP}')) >= 0",
     f"a heap has at least {LEAST_HEAP}", ".heap"),
    ("spec.engine.jvm", f"!has(self.options) || self.options.all(o, !o.matches(r'{HEAP_OPTION}'))",
     HEAP_OPTION_HELP, ".options"),
)  # fmt: skip
"""Place, rule, message and field. `home` is refused there only: with `broadsheet up` it is needed."""
