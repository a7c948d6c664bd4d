"""What a canary says about its cluster, as it travels from the canary to the status of the Cluster. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from broadsheet_operator.reconcilers.reasons import reason_of


@dataclass(frozen=True, slots=True)
class CanaryHealth:
    """A verdict. It changes only when the state does: figures in `message` are those of the moment it began."""

    healthy: bool | None
    """None: it is not known yet."""
    reason: str
    message: str

    def to_json(self) -> str:
        """As /status has it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> CanaryHealth:
        """Out of an answer of /status. ValueError when it is none."""
        try:
            found = json.loads(text)
            healthy, reason, message = found["healthy"], str(found["reason"]), str(found["message"])
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"this is no answer of a canary: {error!r}") from None
        if healthy not in (True, False, None) or reason_of(reason) is None:
            raise ValueError(f"this is no answer of a canary: healthy {healthy!r}, reason {reason}")
        return cls(healthy, reason, message)
