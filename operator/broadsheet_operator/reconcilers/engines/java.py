"""Options of the Java virtual machine that runs a broker of Apache Kafka, in a pod or as a local process. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

G1 = ("-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35")
SERVER = ("-server", "-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true")
"""Options of kafka-run-class.sh, which it leaves out as soon as one is given."""
_COLLECTOR = re.compile(r"^-XX:[+-]Use\w*GC$")


def java_options(declared: Sequence[str]) -> list[str]:
    """Kafka's own options and those of a Cluster behind them, of which one may choose another garbage collector."""
    collector = () if any(_COLLECTOR.match(option) for option in declared) else G1
    return [*SERVER, *collector, *declared]
