"""The configuration of one broker: values by key, and the few that are read everywhere as attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broadsheet_broker.config.checks import check
from broadsheet_broker.config.key import ConfigError, Key, Value
from broadsheet_broker.config.listeners import (
    Listener,
    Voter,
    parse_address,
    parse_listeners,
    parse_map,
    parse_voters,
)
from broadsheet_broker.config.passive_keys import REMOVED
from broadsheet_broker.config.table import KEYS, REFUSED, nearest

_ALIASES = {"cluster.id": "broadsheet.cluster.id"}
"""Kafka keeps the cluster's id in meta.properties only; here it means the id to format with."""


class BrokerConfig:
    """What a node was told. Raises ConfigError when it cannot start with that.

    `values` are the properties as written; `hostname` stands in for a listener without a host when others must be told
    where to connect; a function is called only then, since it may have to ask a name server.
    """

    def __init__(self, values: Mapping[str, str], *, hostname: str | Callable[[], str] = "localhost") -> None:
        self.values: dict[str, str] = {_ALIASES.get(name, name): text for name, text in values.items()}
        """What was set, as text: Kafka's static broker configuration."""
        self.warnings: list[str] = []
        """Warnings to log at start: keys that are unknown or removed."""
        self.notes: list[str] = []
        """Keys that are accepted and have no effect, and why."""
        self._hostname = hostname
        self._values: dict[str, Value] = {}
        self._join_node_and_broker_id()
        for name, text in self.values.items():
            self._take(name, text)
        for key in KEYS.values():
            if key.name not in self._values:
                self._values[key.name] = key.parse(key.default)
        self._set_attributes()
        check(self)

    # -- reading -------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Value:
        """The value of any known key: as set, or its default."""
        return self._values[name]

    def get_int(self, name: str) -> int:
        value = self._values[name]
        assert isinstance(value, int) and not isinstance(value, bool), f"{name} is not a whole number or has no default"
        return value

    def get_float(self, name: str) -> float:
        value = self._values[name]
        assert isinstance(value, int | float), f"{name} is not a number"
        return float(value)

    def get_bool(self, name: str) -> bool:
        value = self._values[name]
        assert isinstance(value, bool), f"{name} is not a boolean"
        return value

    def get_str(self, name: str) -> str:
        value = self._values[name]
        assert isinstance(value, str), f"{name} is not a text or has no default"
        return value

    def get_optional_int(self, name: str) -> int | None:
        return None if self._values[name] is None else self.get_int(name)

    def get_optional_str(self, name: str) -> str | None:
        return None if self._values[name] is None else self.get_str(name)

    def get_list(self, name: str) -> list[str]:
        """A list; empty when the key is not set and has no default."""
        value = self._values[name]
        assert value is None or isinstance(value, list), f"{name} is not a list"
        return value or []

    def is_set(self, name: str) -> bool:
        """Whether the key was given, even with its default value."""
        return name in self.values

    # -- advertised addresses --------------------------------------------------------------------------------------

    def advertised(self, bound_ports: Mapping[str, int]) -> list[Listener]:
        """The advertised listeners, with the port that the system chose where port 0 was asked for."""
        return [
            Listener(item.name, item.host, item.port or bound_ports.get(item.name, 0))
            for item in self.advertised_listeners
        ]

    # -- building --------------------------------------------------------------------------------------------------

    def _join_node_and_broker_id(self) -> None:
        node, broker = self.values.get("node.id"), self.values.get("broker.id")
        if node is not None and broker is not None and node.strip() != broker.strip():
            raise ConfigError(f"Invalid value {broker} for configuration broker.id: allowed is {node}, as node.id says")
        if node is None and broker is not None:
            self.values["node.id"] = broker
        elif broker is None and node is not None:
            self._values["broker.id"] = KEYS["node.id"].parse(node)

    def _take(self, name: str, text: str) -> None:
        key = KEYS.get(name)
        if key is None:
            self._unknown(name)
            return
        value = key.parse(text) if text.strip() or key.default is not None else None
        if name in REFUSED and value != key.parse(key.default):
            shown = "[hidden]" if key.sensitive else text
            raise ConfigError(f"Invalid value {shown} for configuration {name}: {_refusal(key)}")
        if key.no_effect:
            self.notes.append(f"Configuration {name} has no effect here: {key.no_effect}")
        self._values[name] = value

    def _unknown(self, name: str) -> None:
        if name in REMOVED:
            self.warnings.append(f"Configuration {name} is ignored: {REMOVED[name]}")
            return
        base = name.split(".", 3)[-1] if name.startswith("listener.name.") else name
        if any(base == refused or base.endswith("." + refused) for refused in REFUSED):
            raise ConfigError(f"Invalid configuration {name}: authentication and TLS are not built yet")
        near = nearest(name, KEYS)
        hint = f"; did you mean {near}?" if near else ""
        self.warnings.append(f"Configuration {name} is unknown and ignored{hint}")

    def _set_attributes(self) -> None:
        self.node_id: int = -1 if self["node.id"] is None else self.get_int("node.id")
        self.process_roles: list[str] = self.get_list("process.roles")
        self.is_broker: bool = "broker" in self.process_roles
        self.is_controller: bool = "controller" in self.process_roles
        directories = "log.dirs" if self.is_set("log.dirs") else "log.dir"
        self.log_dirs: list[str] = [item for item in self.get_list(directories) if item]
        self.metadata_log_dir: str = self.get_optional_str("metadata.log.dir") or next(iter(self.log_dirs), "")
        self.rack: str | None = self.get_optional_str("broker.rack")
        self.cluster_id: str | None = self.get_optional_str("broadsheet.cluster.id") or None
        """The id to format an empty directory with; the id of a formatted one is in its meta.properties."""
        self.auto_format: bool = self.get_bool("broadsheet.auto.format") or self.cluster_id is not None
        """Whether an empty directory is formatted at the start (with a new id when `cluster_id` is None)."""
        self.listeners: list[Listener] = parse_listeners("listeners", self.get_list("listeners"), distinct_ports=True)
        self.controller_listener_names: list[str] = [
            name.upper() for name in self.get_list("controller.listener.names")
        ]
        self.protocol_of: dict[str, str] = self._protocols()
        """Listener name -> security protocol."""
        self.advertised_listeners: list[Listener] = self._advertised()
        self.inter_broker_listener: str = self._inter_broker_listener()
        self.quorum_voters: list[Voter] = parse_voters(
            "controller.quorum.voters", [text for text in self.get_list("controller.quorum.voters") if text]
        )
        self.bootstrap_servers: list[tuple[str, int]] = [
            parse_address("controller.quorum.bootstrap.servers", text)
            for text in self.get_list("controller.quorum.bootstrap.servers")
            if text
        ]
        self.initial_controllers: str = ",".join(filter(None, self.get_list("broadsheet.initial.controllers")))
        """The first voters, for an empty directory that is formatted at the start; empty: join, or begin alone."""
        self.http_listener: Listener | None = self._http_listener()

    @property
    def broker_listeners(self) -> list[Listener]:
        """Where clients and other brokers connect."""
        return [item for item in self.listeners if item.name not in self.controller_listener_names]

    @property
    def controller_listeners(self) -> list[Listener]:
        """Where controllers talk; empty on a node that is none."""
        return [item for item in self.listeners if item.name in self.controller_listener_names]

    @property
    def advertised_controller_listeners(self) -> list[Listener]:
        """Where other controllers reach this one: as advertised.listeners says, else as it listens."""
        advertised = {item.name: item for item in self._all_advertised()}
        return [advertised.get(item.name, item) for item in self.controller_listeners]

    def _protocols(self) -> dict[str, str]:
        pairs = parse_map("listener.security.protocol.map", self.get_str("listener.security.protocol.map"))
        protocols = {name.upper(): protocol for name, protocol in pairs.items()}
        if not self.is_set("listener.security.protocol.map"):
            for name in self.controller_listener_names:
                protocols.setdefault(name, "PLAINTEXT")
        return protocols

    def _all_advertised(self) -> list[Listener]:
        """What advertised.listeners says, of clients' listeners and of controllers' (KIP-853)."""
        texts = self.get_list("advertised.listeners")
        return parse_listeners("advertised.listeners", texts, distinct_ports=False) if texts else []

    def _advertised(self) -> list[Listener]:
        if not self.is_broker:
            return []
        listeners = self._all_advertised() or self.broker_listeners
        return [
            Listener(item.name, item.host or self._own_name(), item.port)
            for item in listeners
            if item.name not in self.controller_listener_names
        ]

    def _own_name(self) -> str:
        return self._hostname if isinstance(self._hostname, str) else self._hostname()

    def _inter_broker_listener(self) -> str:
        name = self.get_optional_str("inter.broker.listener.name")
        if name:
            return name.strip().upper()
        protocol = self.get_str("security.inter.broker.protocol")
        names = [item.name for item in self.broker_listeners]
        return protocol if protocol in names or not names else names[0] if len(names) == 1 else protocol

    def _http_listener(self) -> Listener | None:
        text = (self.get_optional_str("broadsheet.http.listener") or "").strip()
        if not text:
            return None
        if not text.startswith("http://"):
            allowed = "http://host:port"
            raise ConfigError(f"Invalid value {text} for configuration broadsheet.http.listener: allowed is {allowed}")
        return parse_listeners("broadsheet.http.listener", [text.rstrip("/")], distinct_ports=False)[0]


def _refusal(key: Key) -> str:
    if key.name.startswith(("ssl.", "sasl.", "authorizer.", "principal.", "connection", "delegation.")):
        return "authentication, TLS and authorization are not built yet, and ignoring this would leave the broker open"
    return "not built yet, and ignoring it would not do what it asks for"
