"""The deeds of one round that the API server may refuse: each is tried whatever became of the others.

What was refused is not asked again at once: the same deed is remembered as refused for a while, and its words stay in
the Cluster's status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

from broadsheet_operator.kubernetes import KubernetesError

T = TypeVar("T")
LEAST_SERIOUS = (0, 409, 429)
"""Answers that the next try usually does not get: silence, a conflict, too many requests."""


@dataclass(slots=True)
class RefusedBefore:
    """What the API server has refused of one Cluster, by what it was about."""

    seconds: float
    """How long the same deed is not tried again."""
    known: dict[str, tuple[Hashable, float, str]] = field(default_factory=dict)


class Attempts:
    """Of one round."""

    def __init__(self, before: RefusedBefore) -> None:
        self._before = before
        self._about: set[str] = set()
        self.refused: list[str] = []
        """What the API server will not do unless something changes, in its words."""
        self.failed: list[KubernetesError] = []
        """What may work at the next try."""
        self.troubles: list[str] = []
        """What of it is worth saying, in the API server's words."""

    async def of(self, what: str, deed: Callable[[], Awaitable[T]], fingerprint: Hashable = None) -> T | None:
        """Do something; None if it was refused or failed. `what` names it in messages: `StatefulSet news-brokers`.

        With a `fingerprint` the same deed, by `what` and that, is not tried again for a while after it was refused.
        """
        now = asyncio.get_running_loop().time()
        self._about.add(what)
        known = self._before.known.get(what)
        same = known is not None and fingerprint is not None and known[0] == fingerprint
        if known is not None and same and now - known[1] < self._before.seconds:
            self.refused.append(known[2])
            return None
        try:
            result = await deed()
        except KubernetesError as error:
            words = f"{what}: {error.message}"
            if error.retriable:
                self.failed.append(error)
                if error.status not in LEAST_SERIOUS:
                    self.troubles.append(words)
                return None
            self.refused.append(words)
            if fingerprint is not None:
                self._before.known[what] = fingerprint, now, words
            return None
        self._before.known.pop(what, None)
        return result

    def conclude(self) -> None:
        """Forget refusals of what is no longer asked for."""
        for what in self._before.known.keys() - self._about:
            del self._before.known[what]
