"""What makes a directory one local cluster: its id, its controllers' ports and the engine that wrote its data."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broadsheet_operator.api.engine import Engine
from broadsheet_operator.local.broker import free_port, port_in_use

MOST_CONTROLLERS = 3
"""Brokers that vote in the metadata quorum, chosen when the cluster is made."""
META_PROPERTIES = "meta.properties"


class CannotStart(Exception):
    """The cluster cannot be started; the message says why and what to do."""


@dataclass(slots=True)
class Identity:
    """Made once, then kept, so that the data stays this cluster's.

    So are the controllers: a configuration that named others could let those rule that have no data.
    """

    path: Path
    cluster_id: str
    controller_ports: list[int]
    engine: Engine | None
    """With which the brokers were started last; None when they never were."""

    @classmethod
    def of(cls, directory: Path, brokers: int, name: str) -> Identity:
        """Read it, or make it for this number of brokers. CannotStart for a damaged file, OSError for the disk's."""
        path = directory / "cluster.json"
        directory.mkdir(parents=True, exist_ok=True)
        try:
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CannotStart(
                f"{name}: {path} is damaged ({error}). Set clusterId to the value in meta.properties of a "
                "broker here, or remove the file if there are no data yet"
            ) from None
        except FileNotFoundError:
            random_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            controllers = min(brokers, MOST_CONTROLLERS) if brokers != 2 else 1  # two are no safer than one
            kept = {"clusterId": random_id, "controllerPorts": [free_port() for _ in range(controllers)]}
        ports = [free_port() if port_in_use(int(port)) else int(port) for port in kept["controllerPorts"]]
        engine = Engine.model_validate(kept["engine"]) if "engine" in kept else None
        if engine is None and any(directory.glob(f"broker-*/{META_PROPERTIES}")):
            engine = Engine()  # of a time when there was no other
        found = cls(path, kept["clusterId"], ports, engine)
        found.write()
        return found

    def write(self) -> None:
        """Keep it: never half of it, since with another id the brokers refuse their data."""
        kept: dict[str, Any] = {"clusterId": self.cluster_id, "controllerPorts": self.controller_ports}
        if self.engine is not None:
            kept["engine"] = self.engine.model_dump(mode="json", by_alias=True, exclude_none=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(kept), encoding="utf-8")
        new.replace(self.path)

    def directories(self) -> list[Path]:
        """The data of its brokers, as far as they are formatted."""
        return sorted(path.parent for path in self.path.parent.glob(f"broker-*/{META_PROPERTIES}"))
