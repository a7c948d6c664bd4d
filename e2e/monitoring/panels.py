"""What panels ask a real Prometheus, and when each was answered for the first time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from e2e.monitoring.prometheus import Prometheus, Sample
from tests.support.waiting import wait_until
from tools.dashboards.expressions import Asked, asked, can_answer, dashboards, substitute

INTERVAL = "10s"
"""$__rate_interval at one scrape a second: as Grafana, at least four of them."""
ON_KUBERNETES = {
    "brokers: Why were brokers restarted?",
    "operator: Which brokers did it restart in the last day, and why?",
    *(f"{name}: annotation Rolling changes and drains" for name in dashboards()),
}
"""What only an operator answers that restarts brokers: in test_pods.py, and not in the story."""


@dataclass
class Panels:
    """All expressions of all dashboards, and what was happening when each had data."""

    prometheus: Prometheus
    over: str = "2m"
    """$__range."""
    interval: str = INTERVAL
    expressions: list[Asked] = field(default_factory=lambda: [q for n, d in dashboards().items() for q in asked(n, d)])
    answered: dict[Asked, str] = field(default_factory=dict)

    def ask(self, query: Asked) -> list[Sample]:
        return self.prometheus.ask(substitute(query.expr, interval=self.interval, over=self.over))

    def look(self, stage: str) -> int:
        """Ask every expression that has not been answered yet; how many have an answer only now."""
        new = [query for query in self.expressions if query not in self.answered and self.ask(query)]
        self.answered |= dict.fromkeys(new, stage)
        return len(new)

    def of(self, dashboard: str, panel: str) -> list[Asked]:
        found = [q for q in self.expressions if (q.dashboard, q.panel) == (dashboard, panel)]
        assert found, f"the dashboard {dashboard} has no panel {panel!r}"
        return found

    def values(self, dashboard: str, panel: str) -> list[Sample]:
        """What a panel shows now, of all its expressions."""
        return [sample for query in self.of(dashboard, panel) for sample in self.ask(query)]

    def wait(
        self, dashboard: str, panel: str, shows: Callable[[Sample], bool] = lambda s: s.value > 0, seconds: float = 30
    ) -> None:
        """Until a sample of a panel is what happens: above zero, unless told otherwise."""
        try:
            wait_until(
                lambda: any(map(shows, self.values(dashboard, panel))), f"{dashboard}: {panel} to show it", seconds, 0.3
            )
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it shows {self.values(dashboard, panel)}") from None

    def unanswered(self, engine: str = "broker") -> list[str]:
        """Panels with an expression that has had no answer, but for those that only brokers of the other engine answer.

        `engine` as the catalogue names it: `broker` is Broadsheet's, `apache-kafka` is Apache Kafka's.
        """
        missing = [query for query in self.expressions if query not in self.answered]
        return sorted({query.where for query in missing if can_answer(query.expr, engine)})

    def table(self) -> list[str]:
        """Dashboard, panel, and what was happening when all its expressions had data."""
        rows: dict[tuple[str, str], list[str]] = {}
        for query in self.expressions:
            stages = rows.setdefault((query.dashboard, query.panel), [])
            stage = self.answered.get(query, "not answered")
            if stage not in stages:
                stages.append(stage)
        return [f"{dashboard:9} | {panel:58} | {', then '.join(stages)}" for (dashboard, panel), stages in rows.items()]
