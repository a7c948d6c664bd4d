"""Consumer groups: members, assignments and committed offsets.

The state machines are pure (`classic/`, `offsets.py`, `shard.py`): they take messages and a moment, and return records
to write and answers to send. `coordinator.py` takes the requests; `coordinators/runtime` is the shell.
"""

from broadsheet_broker.coordinators.groups.coordinator import GroupCoordinator
from broadsheet_broker.coordinators.groups.settings import Context, GroupSettings

__all__ = ["Context", "GroupCoordinator", "GroupSettings"]
