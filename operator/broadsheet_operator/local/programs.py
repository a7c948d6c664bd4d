"""Which program a local Cluster's brokers are, and how it is started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.engine import Engine, EngineType
from broadsheet_operator.local import apache_kafka
from broadsheet_operator.local.broker import last_line
from broadsheet_operator.reconcilers.engines.heap import heap_bytes

Command = Callable[[Path], list[str]]
"""From a broker's server.properties to the command that runs it."""


@dataclass(frozen=True, slots=True)
class Program:
    """How brokers are started, and what the end of their log says."""

    command: Command
    last_words: Callable[[Sequence[str]], str] = last_line


def program_of(cluster: Cluster, cluster_id: str, directory: Path, ours: Command) -> Program:
    """The program of the Cluster's engine; `ours` starts a broker of Broadsheet.

    Raises apache_kafka.NotUsable when it is not on this machine, OSError when its files cannot be written.
    """
    engine = cluster.engine()
    if engine.type is EngineType.BROADSHEET:
        return Program(ours)
    assert engine.version is not None  # the model has checked it
    installation = apache_kafka.find(engine.home, engine.version)
    apache_kafka.write_logging(directory)
    program = apache_kafka.Program(
        installation=installation,
        cluster_id=cluster_id,
        heap=heap_bytes(cluster),
        options=(engine.jvm.options if engine.jvm else None) or (),
        release=engine.metadata_version,
        features=engine.features,
    )
    return Program(program.command, apache_kafka.last_words)


def is_another(old: Engine, new: Engine) -> bool:
    """Whether these are two programs, or two versions of one."""
    return (old.type, old.version) != (new.type, new.version)
