"""Listener addresses: `NAME://host:port`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from broadsheet_broker.config.key import ConfigError, whole_number

_LISTENER = re.compile(
    r"(?P<name>[A-Za-z0-9_.-]+)://(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<host>[^:/\[\]]*)):(?P<port>\d+)"
)


@dataclass(frozen=True, slots=True)
class Listener:
    """One address that a node listens on, or publishes."""

    name: str
    """Upper case, as Kafka normalises it."""
    host: str
    """Empty: every address of the machine."""
    port: int
    """0 lets the system choose, for tests."""

    def __str__(self) -> str:
        return (
            f"{self.name}://[{self.host}]:{self.port}" if ":" in self.host else f"{self.name}://{self.host}:{self.port}"
        )


def parse_listeners(key: str, texts: Sequence[str], *, distinct_ports: bool) -> list[Listener]:
    """The addresses of a `listeners` or `advertised.listeners` value. Raises ConfigError."""
    listeners: list[Listener] = []
    for text in texts:
        match = _LISTENER.fullmatch(text)
        if match is None or int(match["port"]) > 65535:
            raise ConfigError(f"Invalid value {text} for configuration {key}: allowed is name://host:port")
        listeners.append(Listener(match["name"].upper(), match["six"] or match["host"] or "", int(match["port"])))
    names = [listener.name for listener in listeners]
    if len(set(names)) < len(names):
        raise ConfigError(f"Invalid value {','.join(texts)} for configuration {key}: each listener needs its own name")
    if distinct_ports:
        _check_ports(key, texts, listeners)
    return listeners


def _check_ports(key: str, texts: Sequence[str], listeners: Sequence[Listener]) -> None:
    """Two listeners may share a port only when one is IPv4 and the other IPv6 (KIP-797)."""
    taken: dict[int, list[str]] = {}
    for listener in listeners:
        if listener.port:
            taken.setdefault(listener.port, []).append(_family(listener.host))
    for port, families in taken.items():
        if len(families) > 1 and sorted(families) != ["4", "6"]:
            text = ",".join(texts)
            raise ConfigError(f"Invalid value {text} for configuration {key}: port {port} is given more than once")


def _family(host: str) -> str:
    if ":" in host:
        return "6"
    return "4" if re.fullmatch(r"\d+\.\d+\.\d+\.\d+", host) else "name"


def parse_map(key: str, text: str) -> dict[str, str]:
    """`A:x,B:y`; the part after the last colon is the value."""
    pairs = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, colon, value = item.rpartition(":")
        if not colon or not name:
            raise ConfigError(f"Invalid value {item} for configuration {key}: allowed is name:value")
        pairs[name.strip()] = value.strip()
    return pairs


@dataclass(frozen=True, slots=True)
class Voter:
    """One controller of a fixed quorum."""

    id: int
    host: str
    port: int


def parse_voters(key: str, texts: Sequence[str]) -> list[Voter]:
    """`id@host:port` entries of controller.quorum.voters."""
    voters = []
    for text in texts:
        id_text, at, address = text.partition("@")
        id = whole_number(id_text) if at else None
        if id is None:
            raise ConfigError(f"Invalid value {text} for configuration {key}: allowed is id@host:port")
        host, port = parse_address(key, address)
        voters.append(Voter(id, host, port))
    if len({voter.id for voter in voters}) < len(voters):
        raise ConfigError(f"Invalid value {','.join(texts)} for configuration {key}: each voter needs its own id")
    return voters


def parse_address(key: str, text: str) -> tuple[str, int]:
    """`host:port`, the host of IPv6 in brackets."""
    host, _, port_text = text.rpartition(":")
    port = whole_number(port_text, 0, 65535)
    if not host or port is None:
        raise ConfigError(f"Invalid value {text} for configuration {key}: allowed is host:port")
    return host.removeprefix("[").removesuffix("]"), port
