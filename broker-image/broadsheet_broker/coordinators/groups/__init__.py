"""Consumer groups: who is a member, who reads what, and what has been read.

The state machines are pure (`group.py`, `classic.py`, `offsets.py`, `shard.py`): they take messages and a moment, and
return records to write and answers to give. `coordinator.py` takes the requests; `coordinators/runtime` is the shell.
"""

from broadsheet_broker.coordinators.groups.coordinator import GroupCoordinator
from broadsheet_broker.coordinators.groups.settings import Context, GroupSettings

__all__ = ["Context", "GroupCoordinator", "GroupSettings"]
