"""What only one engine of a Cluster has: the program in a broker's pod, its properties, files, probes and image. Pure.

Everything else is the same for both: what a Cluster means, where its brokers run, and what is asked of them.
"""

from broadsheet_operator.reconcilers.engines.choice import engine_of
from broadsheet_operator.reconcilers.engines.engine import Engine

__all__ = ["Engine", "engine_of"]
