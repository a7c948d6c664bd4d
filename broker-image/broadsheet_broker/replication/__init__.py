"""Leaders and followers: appends, reads, high watermarks and who waits for them."""

from broadsheet_broker.replication.appending import PendingProduce, refuse
from broadsheet_broker.replication.fetch_request import Fetch
from broadsheet_broker.replication.manager import ReplicaManager
from broadsheet_broker.replication.partition import ALL_ACKS, Partition
from broadsheet_broker.replication.position_reader import error_row
from broadsheet_broker.replication.sessions import FetchSessions, Position

__all__ = [
    "ALL_ACKS",
    "Fetch",
    "FetchSessions",
    "Partition",
    "PendingProduce",
    "Position",
    "ReplicaManager",
    "error_row",
    "refuse",
]
