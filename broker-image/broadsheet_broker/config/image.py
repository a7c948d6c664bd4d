"""The environment of the official apache/kafka image (KIP-975), so that its compose files and charts start us too.

`KAFKA_X_Y` stands for the property `x.y`; two underscores for one, three for a dash. The names below are read by
the image's scripts and are no properties. `CLUSTER_ID` is the id that an empty directory is formatted with. Where only
KAFKA_ADVERTISED_LISTENERS is given, the broker listens on the same ports of every address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from broadsheet_broker.config.key import ConfigError

_NO_PROPERTIES = frozenset(
    {
        "KAFKA_VERSION",
        "KAFKA_HOME",
        "KAFKA_HEAP_OPT",
        "KAFKA_HEAP_OPTS",
        "KAFKA_LOG4J_OPTS",
        "KAFKA_LOG4J_LOGGERS",
        "KAFKA_LOG4J_ROOT_LOGLEVEL",
        "KAFKA_TOOLS_LOG4J_LOGLEVEL",
        "KAFKA_OPTS",
        "KAFKA_JMX_OPTS",
        "KAFKA_JMX_PORT",
        "KAFKA_JMX_HOSTNAME",
        "KAFKA_JVM_PERFORMANCE_OPTS",
        "KAFKA_GC_LOG_OPTS",
        "KAFKA_GC_OPTS",
        "KAFKA_CLUSTER_ID",
    }
)

_SERVICE_LINK = re.compile(r"KAFKA(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT.*|PORT(_\d+_(TCP|UDP).*)?)$")
"""What Kubernetes puts into every pod for a Service whose name begins with `kafka`."""


def properties_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The properties that KAFKA_* variables set. Raises ConfigError where the image's own scripts refuse to start."""
    properties = {}
    for name, value in environment.items():
        if not name.startswith("KAFKA_") or name in _NO_PROPERTIES or _is_service_link(name, value):
            continue
        key = name.removeprefix("KAFKA_").lower().replace("_", ".").replace("...", "-").replace("..", "_")
        properties[key] = value
    advertised = properties.get("advertised.listeners", "").strip()
    if properties.get("process.roles", "").strip() == "controller":
        if advertised:
            raise ConfigError("KAFKA_ADVERTISED_LISTENERS is not supported on a KRaft controller: leave it out")
        properties.pop("advertised.listeners", None)
    elif advertised and not properties.get("listeners"):
        properties["listeners"] = re.sub(r"://[^:,]*:", "://0.0.0.0:", advertised)
    cluster_id = environment.get("CLUSTER_ID") or environment.get("KAFKA_CLUSTER_ID")
    if cluster_id:
        properties["broadsheet.cluster.id"] = cluster_id
    return properties


def _is_service_link(name: str, value: str) -> bool:
    return _SERVICE_LINK.fullmatch(name) is not None and (value.isdigit() or "." in value or "://" in value)
