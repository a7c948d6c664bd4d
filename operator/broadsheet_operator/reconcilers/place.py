"""Where a broker runs: what only the shell that starts it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A listener on the machine or pod of a broker."""

    name: str
    """In upper case, as Kafka has it."""
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.name}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What only the shell that starts a broker knows."""

    cluster_id: str
    brokers: int
    """How many there are, declared or still running."""
    listeners: Sequence[Address]
    """For clients; brokers use the first of them between themselves."""
    controller: Address | None
    """None for a broker that is not a controller."""
    quorum: Mapping[str, str]
    """How the metadata quorum is found: controller.quorum.voters or controller.quorum.bootstrap.servers."""
    data: str
    """Its directory."""
    first_voters: str = ""
    """Who forms the quorum, as kafka-storage.sh has it in --initial-controllers; empty when there is one."""
    node_id: int | None = None
    """None: each broker is given its number when it starts."""
    advertised: Sequence[Address] = ()
    """Empty: each broker is given its addresses when it starts."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Other defaults than Kafka's that suit the place; the Cluster may set them."""
    broadsheet: Mapping[str, str] = field(default_factory=dict)
    """Properties that only Broadsheet's broker knows."""
