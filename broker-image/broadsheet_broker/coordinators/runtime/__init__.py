"""Common to all coordinators: state kept in the partitions of an internal topic, one shard per partition.

A coordinator brings a `Shard`, a pure state machine, and the requests that concern it. The runtime loads a shard when
this broker begins to lead its partition, writes its records in order and in batches, reports when they are committed or
have failed, wakes it at its deadlines, and drops it when another broker leads. See `coordinators/DESIGN.md`.
"""

from broadsheet_broker.coordinators.runtime.partition import CoordinatedPartition, PartitionState
from broadsheet_broker.coordinators.runtime.partitions import CoordinatedPartitions
from broadsheet_broker.coordinators.runtime.settings import IntegerSettings, RuntimeSettings
from broadsheet_broker.coordinators.runtime.shard import Shard
from broadsheet_broker.coordinators.runtime.storage import ReplicatedStorage, Storage, StoredBatch
from broadsheet_broker.coordinators.runtime.turn import NEVER, Record, Step, Turn, Write

__all__ = [
    "NEVER",
    "CoordinatedPartition",
    "CoordinatedPartitions",
    "IntegerSettings",
    "PartitionState",
    "Record",
    "ReplicatedStorage",
    "RuntimeSettings",
    "Shard",
    "Step",
    "Storage",
    "StoredBatch",
    "Turn",
    "Write",
]
