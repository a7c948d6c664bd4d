"""What every coordinator is built on: state kept in the partitions of an internal topic, one shard for each.

A coordinator brings a `Shard`, a pure state machine, and the requests that concern it. The runtime loads shards from
the log when this broker begins to lead a partition, writes what they ask for in order and in batches, tells them when
it is committed or never will be, wakes them at their deadlines, and lets them go when another broker leads.
`coordinators/DESIGN.md` says why it is built this way.
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
