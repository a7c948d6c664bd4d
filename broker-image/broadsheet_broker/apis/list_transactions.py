"""ListTransactions (key 66): no transaction is coordinated here, so the list is empty (KIP-664)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.wire.messages.list_transactions_response import ListTransactionsResponse

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.wire.messages.list_transactions_request import ListTransactionsRequest

STATES: Final = (
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
)
"""What a transaction can be, by Kafka's names."""


@serves(66, "ListTransactions", (0, 2), without="transactions: the list is empty")
def list_transactions(services: Services, request: Request[ListTransactionsRequest]) -> None:
    unknown = [state for state in request.body.state_filters if state not in STATES]
    request.answer(ListTransactionsResponse(unknown_state_filters=unknown))
