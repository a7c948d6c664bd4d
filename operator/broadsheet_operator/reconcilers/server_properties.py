"""server.properties of a Cluster's brokers, wherever they run. Pure.

What a Cluster means is the same on Kubernetes and on one machine, and with either engine; only the place differs, and
what only one engine knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from broadsheet_operator.api import Cluster
from broadsheet_operator.api.owned import PROPERTIES
from broadsheet_operator.reconcilers.engines import Engine
from broadsheet_operator.reconcilers.place import Place
from broadsheet_operator.reconcilers.properties import MIN_ISR, min_isr
from broadsheet_operator.reconcilers.quorum import LISTENER

MOST_REPLICAS = 3
INTERNAL_TOPICS = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
"""How the properties of Kafka's own topics begin."""


def server_properties(cluster: Cluster, place: Place, engine: Engine) -> dict[str, str]:
    """The configuration of the brokers at this place: defaults, then what the Cluster sets, then what it cannot set."""
    declared = {key: str(value) for key, value in (cluster.spec.config or {}).items() if value is not None}
    allowed = {key: value for key, value in declared.items() if key not in PROPERTIES and not engine.refuses(key)}
    return defaults(place.brokers) | dict(place.defaults) | allowed | _owned(place) | dict(engine.properties(place))


def defaults(brokers: int) -> dict[str, str]:
    """What a cluster of this many brokers has where its Cluster says nothing."""
    factor, in_sync = str(min(MOST_REPLICAS, brokers)), min_isr(brokers)
    result = {f"{topic}.replication.factor": factor for topic in INTERNAL_TOPICS}
    # __consumer_offsets has no property of its own for this: it follows the cluster's.
    result |= {f"{topic}.min.isr": in_sync for topic in INTERNAL_TOPICS[1:]}
    return result | {"default.replication.factor": factor, MIN_ISR: in_sync}


def _owned(place: Place) -> dict[str, str]:
    """Kafka's properties that follow from the place; `api.owned` refuses them in a Cluster."""
    names = [address.name for address in place.listeners]
    listeners = [*place.listeners, *([place.controller] if place.controller else [])]
    result = {
        "process.roles": "broker,controller" if place.controller else "broker",
        "controller.listener.names": LISTENER,
        "inter.broker.listener.name": names[0],
        "listeners": ",".join(map(str, listeners)),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in [*names, LISTENER]),
        "log.dirs": place.data,
        **place.quorum,
    }
    if place.node_id is not None:
        result["node.id"] = str(place.node_id)
    if place.advertised:
        result["advertised.listeners"] = ",".join(map(str, place.advertised))
    return result


def rendered(properties: Mapping[str, str]) -> str:
    """The text of a Java properties file; what would be read as something else is escaped."""
    return "".join(f"{_escaped(key, key=True)}={_escaped(value)}\n" for key, value in sorted(properties.items()))


_NAMED = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"}


def _escaped(text: str, *, key: bool = False) -> str:
    # A key ends at the first blank, = or :, a line that begins with # or ! is a comment, a value loses leading blanks.
    special = r"[\\\n\r\t\f =:#!]" if key else r"[\\\n\r\t\f]|^ "
    return re.sub(special, lambda match: _NAMED.get(match[0], f"\\{match[0]}"), text)
