"""Consumer groups: who is a member, who reads what, and what has been read.

The state machines are pure (`group.py`, `classic.py`, `offsets.py`, `shard.py`): they take messages and a moment, and
return records to write and answers to give. `partition.py` and `coordinator.py` are the shell, `storage.py` the log.
"""

from broadsheet_broker.coordinators.groups.coordinator import GroupCoordinator
from broadsheet_broker.coordinators.groups.storage import ReplicatedStorage, Storage
from broadsheet_broker.coordinators.groups.turn import Context, GroupSettings

__all__ = ["Context", "GroupCoordinator", "GroupSettings", "ReplicatedStorage", "Storage"]
