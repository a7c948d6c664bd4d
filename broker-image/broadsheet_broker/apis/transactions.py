"""The refusal of transactions, which are not served yet."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services

logger = logging.getLogger(__name__)

UNSERVED: Final = "Transactions are not served yet: leave out transactional.id."
_ASKED: Final = "client %r at %s asks for transactions, which are not served yet; its transactional.id must be left out"


def log_unserved(services: Services, request: Request[Any]) -> None:
    """Log it: some clients hide the message of the refusal."""
    services.notices.warn(logger, request.received, _ASKED, request.client_id, request.connection.host)
