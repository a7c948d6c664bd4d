"""ElectLeaders (key 43): give partitions back to their preferred leaders, or elect an out-of-sync one (KIP-460)."""

from __future__ import annotations

from broadsheet_broker.apis.controllers import pass_on
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.apis.request import Request, Services
from broadsheet_broker.wire.messages.elect_leaders_request import ElectLeadersRequest


@serves(43, "ElectLeaders", (0, 2))
async def elect_leaders(services: Services, request: Request[ElectLeadersRequest]) -> None:
    await pass_on(services, request)
