"""Classic groups: the membership protocol before KIP-848, in which one member makes the assignment.

A rebalance has two phases. Joins wait (PreparingRebalance) until every known member has joined or the rebalance timeout
has passed. Members that did not come are dropped, the generation is bumped and all waiting joins are answered, the
leader's with all subscriptions. Then (CompletingRebalance) syncs wait until the leader brings the assignment; it is
written to the log, and when that is committed each member gets its part (Stable).

Follows Kafka 4.3's GroupMetadataManager, with KIP-62 (rebalance timeout apart from session timeout), KIP-134 (delay of
the first rebalance), KIP-345 (static members), KIP-394 (MEMBER_ID_REQUIRED), KIP-559 (protocol in Sync), KIP-800
(reasons) and KIP-814 (a static leader that comes back skips the assignment). Eager and cooperative rebalancing are the
same here: the difference lies in the members' subscriptions, which the broker does not interpret.

`group.py` and `member.py` hold the state, `joining.py`, `rebalance.py`, `syncing.py` and `sessions.py` change it.
"""

from broadsheet_broker.coordinators.groups.classic.group import ClassicGroup
from broadsheet_broker.coordinators.groups.classic.protocol import ClassicProtocol
from broadsheet_broker.coordinators.groups.classic.state import GroupState

__all__ = ["ClassicGroup", "ClassicProtocol", "GroupState"]
