"""Rules between keys, as Kafka checks them before it starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from broadsheet_broker.config.key import ConfigError

if TYPE_CHECKING:
    from broadsheet_broker.config.broker import BrokerConfig

_NOWHERE = ("0.0.0.0", "::", "")


def check(config: BrokerConfig) -> None:
    """Raise ConfigError for the first rule that is broken."""
    _check_identity(config)
    _check_controller_listeners(config)
    _check_listeners(config)
    _check_quorum(config)
    _check_times_and_sizes(config)


def _refuse(key: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"Invalid value {value} for configuration {key}: {allowed}")


def _check_identity(config: BrokerConfig) -> None:
    if not config.process_roles:
        raise ConfigError("Missing required configuration process.roles: allowed is broker, controller or both")
    if config["node.id"] is None:
        raise ConfigError(
            "Missing required configuration node.id: allowed is a number from 0 on, unique in the cluster"
        )
    if not config.log_dirs:
        raise ConfigError("log.dirs is empty: allowed is one directory or more, separated by commas")
    if len(set(config.log_dirs)) < len(config.log_dirs):
        raise _refuse("log.dirs", ",".join(config.log_dirs), "each directory may be given once")


def _names(listeners: Iterable[object]) -> str:
    return ", ".join(str(item) for item in listeners) or "none"


def _check_controller_listeners(config: BrokerConfig) -> None:
    if not config.controller_listener_names:
        raise ConfigError(
            "Missing required configuration controller.listener.names: allowed is a list of listener names"
        )
    own = [item.name for item in config.listeners]
    for name in config.controller_listener_names:
        if config.is_controller and name not in own:
            raise _refuse("controller.listener.names", name, f"must be among the names of listeners: {_names(own)}")
        if not config.is_controller and name in own:
            raise _refuse("controller.listener.names", name, "a node without the controller role must not listen there")
    if not config.is_broker and len(config.controller_listeners) < len(config.listeners):
        raise _refuse("listeners", _names(config.listeners), "a pure controller listens on controller listeners only")


def _check_listeners(config: BrokerConfig) -> None:
    own = [item.name for item in config.listeners]
    for name in dict.fromkeys((*own, *config.controller_listener_names)):
        protocol = config.protocol_of.get(name)
        if protocol is None:
            raise ConfigError(f"Listener {name} has no entry in listener.security.protocol.map: add {name}:PLAINTEXT")
        if protocol.upper() != "PLAINTEXT":
            allowed = "only PLAINTEXT is built yet"
            raise _refuse("listener.security.protocol.map", f"{name}:{protocol}", allowed)
    if not config.is_broker:
        if config.is_set("advertised.listeners"):
            for text in config.get_list("advertised.listeners"):
                if text.split("://")[0].upper() not in config.controller_listener_names:
                    raise _refuse("advertised.listeners", text, "a controller advertises its controller listeners only")
        return
    if not config.broker_listeners:
        raise _refuse("listeners", _names(config.listeners), "a broker needs a listener that is not for controllers")
    for item in config.advertised_listeners:
        if item.name not in own:
            raise _refuse("advertised.listeners", item, f"names must be among those of listeners: {_names(own)}")
        if item.host in _NOWHERE:
            raise _refuse("advertised.listeners", item, "clients need a host they can reach, not 0.0.0.0")
    advertised = [item.name for item in config.advertised_listeners]
    if config.inter_broker_listener not in advertised:
        key = "inter.broker.listener.name"
        raise _refuse(
            key, config.inter_broker_listener, f"must be among the advertised listeners: {_names(advertised)}"
        )
    if config.inter_broker_listener in config.controller_listener_names:
        raise _refuse(
            "inter.broker.listener.name", config.inter_broker_listener, "a controller listener is not allowed"
        )


def _check_quorum(config: BrokerConfig) -> None:
    voters = [voter.id for voter in config.quorum_voters]
    if not voters and not config.bootstrap_servers:
        raise ConfigError(
            "Missing required configuration controller.quorum.voters or controller.quorum.bootstrap.servers: "
            "allowed is id@host:port,... or host:port,..."
        )
    if voters and config.is_controller and config.node_id not in voters:
        text = f"node.id {config.node_id} has the controller role and must be among the voters"
        raise _refuse("controller.quorum.voters", ",".join(config.get_list("controller.quorum.voters")), text)
    if voters and not config.is_controller and config.node_id in voters:
        text = f"node.id {config.node_id} has not the controller role and must not be among the voters"
        raise _refuse("controller.quorum.voters", ",".join(config.get_list("controller.quorum.voters")), text)
    if config.auto_format and config.cluster_id is None and len(voters) > 1:
        raise ConfigError(
            "Missing required configuration broadsheet.cluster.id (or CLUSTER_ID): all nodes of a quorum need the same"
        )


def _check_times_and_sizes(config: BrokerConfig) -> None:
    for key in ("log.retention.ms", "log.retention.minutes", "log.retention.hours"):
        if config.get_optional_int(key) == 0:
            raise _refuse(key, 0, "must be -1 (no limit) or at least 1")
    for low, high in (
        ("log.cleaner.min.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"),
        ("group.min.session.timeout.ms", "group.max.session.timeout.ms"),
        ("replica.fetch.wait.max.ms", "replica.lag.time.max.ms"),
        ("replica.fetch.wait.max.ms", "replica.socket.timeout.ms"),
    ):
        if config.get_int(low) > config.get_int(high):
            raise _refuse(low, config.get_int(low), f"must not be above {high}, {config.get_int(high)}")
    if config.get_int("broker.heartbeat.interval.ms") * 2 > config.get_int("broker.session.timeout.ms"):
        session = config.get_int("broker.session.timeout.ms")
        interval = config.get_int("broker.heartbeat.interval.ms")
        raise _refuse("broker.heartbeat.interval.ms", interval, f"at most half of broker.session.timeout.ms, {session}")
    queued, largest = config.get_int("queued.max.request.bytes"), config.get_int("socket.request.max.bytes")
    if queued != -1 and queued < largest:
        raise _refuse("queued.max.request.bytes", queued, f"must be -1 or at least socket.request.max.bytes, {largest}")
    if config.get_int("max.connections.per.ip") == 0 and not config.get_str("max.connections.per.ip.overrides"):
        raise _refuse("max.connections.per.ip", 0, "0 needs max.connections.per.ip.overrides")
