"""What the operator exports to Prometheus: itself, its resources and Clusters, and the lag of consumer groups."""

from broadsheet_operator.handlers.metrics.collector import OperatorCollector, scrape
from broadsheet_operator.handlers.metrics.declared import METRICS

__all__ = ["METRICS", "OperatorCollector", "scrape"]
