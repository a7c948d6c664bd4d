"""Asks a canary how its cluster is, over HTTP."""

from __future__ import annotations

import urllib.error
import urllib.request

from broadsheet_operator.reconcilers.canary_health import CanaryHealth

TIMEOUT_SECONDS = 2.0
MOST_BYTES = 64 * 1024
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""No proxy stands between an operator and a pod."""


def read_health(url: str) -> CanaryHealth | str:
    """What the canary says at its /status; or why it said nothing."""
    try:
        with _OPENER.open(url, timeout=TIMEOUT_SECONDS) as answer:
            return CanaryHealth.from_json(answer.read(MOST_BYTES))
    except urllib.error.URLError as error:
        return f"{url}: {error.reason}"
    except (OSError, ValueError) as error:
        return f"{url}: {error}"
