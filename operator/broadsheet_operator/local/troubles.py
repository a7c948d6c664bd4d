"""Why a local cluster cannot be started, or not as declared, as people read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.local.apache_kafka import NotUsable
from broadsheet_operator.local.broker import port_in_use
from broadsheet_operator.local.identity import CannotStart
from broadsheet_operator.reconcilers.conditions import Statement, stuck
from broadsheet_operator.reconcilers.reasons import Reason


@contextmanager
def complaints(name: str, directory: Path) -> Iterator[None]:
    """What is wrong with this machine, as CannotStart."""
    try:
        yield
    except NotUsable as error:
        raise CannotStart(f"{name}: {error}") from None
    except OSError as error:
        raise CannotStart(f"{name}: {error.strerror or error}: {error.filename or directory}") from None


def refuse_taken_ports(cluster: Cluster, name: str, node_id: int) -> None:
    """CannotStart when a broker's port is in use."""
    for position, listener in enumerate(cluster.listeners()):
        port = listener.port + node_id
        if port_in_use(port):
            raise CannotStart(
                f"{name}: port {port} of localhost is in use by another program (another Kafka?). "
                f"Stop it, or set spec.listeners[{position}].port of the Cluster to a free port"
            )


def too_few_brokers(count: int, fewest: int) -> list[Statement]:
    """What the status says when brokers are to be removed."""
    words = (
        f"brokers.replicas is {count}, and the cluster has {fewest} brokers: `broadsheet up` does not move partitions "
        f"away from a broker yet; set it to {fewest} or more"
    )
    return stuck(Reason.NOT_SUPPORTED, words)
