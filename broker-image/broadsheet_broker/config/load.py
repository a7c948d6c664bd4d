"""Where a configuration comes from: defaults < file < environment of the image < --override."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from broadsheet_broker.config.broker import BrokerConfig
from broadsheet_broker.config.image import properties_of
from broadsheet_broker.config.internal_topics import INTERNAL_TOPICS
from broadsheet_broker.config.listeners import parse_listeners
from broadsheet_broker.config.properties import parse_overrides, parse_properties

LOG_FORMAT = "broadsheet.log.format"
LOCAL_DIRECTORY = "broadsheet-data"
"""Where `broadsheet broker` keeps its logs when nothing says where: below the working directory, in sight."""


def load_config(
    text: str | None = None,
    overrides: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
    *,
    hostname: str | Callable[[], str] = "localhost",
) -> BrokerConfig:
    """The configuration of a node. `text` is the content of a server.properties; None when no file was given.

    Without a file, what is missing is filled in with a combined broker and controller on localhost, so that
    `broadsheet broker` alone starts a Kafka on localhost:9092. With a file, what Kafka requires is required.
    """
    values = {} if text is None else parse_properties(text)
    values.update(properties_of(environment or {}))
    values.update(parse_overrides(overrides))
    return BrokerConfig(values if text is not None else with_local_defaults(values), hostname=hostname)


def log_format(text: str | None, overrides: Iterable[str], environment: Mapping[str, str]) -> str:
    """The value of `broadsheet.log.format` as far as it can be read, also when other properties are wrong.

    What is wrong with a configuration is reported in this format. Empty: nothing sets it.
    """
    found = "" if text is None else parse_properties(text, skip_broken=True).get(LOG_FORMAT, "")
    found = environment.get("KAFKA_" + LOG_FORMAT.upper().replace(".", "_"), found)
    for key, _, value in (argument.partition("=") for argument in overrides):
        if key.strip() == LOG_FORMAT:
            found = value
    return found.strip()


def with_local_defaults(values: Mapping[str, str]) -> dict[str, str]:
    """These properties, with those of a single node on localhost where they say nothing."""
    result = dict(values)
    result.setdefault("process.roles", "broker,controller")
    result.setdefault("node.id", result.get("broker.id", "1"))
    result.setdefault("controller.listener.names", "CONTROLLER")
    result.setdefault("listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093")
    if "log.dirs" not in result:
        result.setdefault("log.dir", LOCAL_DIRECTORY)
    result.setdefault("broadsheet.auto.format", "true")
    if "controller.quorum.voters" not in result and "controller.quorum.bootstrap.servers" not in result:
        names = [name.strip().upper() for name in result["controller.listener.names"].split(",")]
        texts = [text.strip() for text in result["listeners"].split(",")]
        for listener in parse_listeners("listeners", texts, distinct_ports=False):
            if listener.name in names:
                host = listener.host if listener.host not in ("", "0.0.0.0", "::") else "localhost"
                address = f"[{host}]:{listener.port}" if ":" in host else f"{host}:{listener.port}"
                result["controller.quorum.voters"] = f"{result['node.id'].strip()}@{address}"
                break
    for topic in INTERNAL_TOPICS.values():
        result.setdefault(topic.replication_factor_key, "1")
        if "min.insync.replicas" in topic.configured:
            result.setdefault(topic.configured["min.insync.replicas"], "1")
    result.setdefault("group.initial.rebalance.delay.ms", "0")
    return result
