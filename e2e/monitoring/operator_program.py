"""`broadsheet operator` with quick clocks: what takes minutes in production takes seconds here.

python -m e2e.monitoring.operator_program PORT OPTIONS...

BROADSHEET_E2E_BOOTSTRAP is where the brokers of Clusters are whose Services no DNS knows.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from broadsheet_operator.handlers.main import Process, connect_to_kafka, parser
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.settings import OperatorSettings

if __name__ == "__main__":
    settings = OperatorSettings(
        http_port=int(sys.argv[1]),
        resync_seconds=5.0,
        cluster_ready_seconds=1.0,
        cluster_sizes_seconds=1.0,
        group_seconds=1.0,
        absent_group_seconds=2.0,
        out_of_sync_seconds=1.0,
        overdue_seconds=5.0,
        last_backoff_seconds=2.0,
        kafka_timeout_ms=2000,
    )
    elsewhere = os.environ.get("BROADSHEET_E2E_BOOTSTRAP", "")

    def connect(servers: Sequence[str]) -> KafkaGateway:
        of_a_service = elsewhere and any(".svc:" in server for server in servers)
        return connect_to_kafka(settings)(elsewhere.split(",") if of_a_service else servers)

    sys.exit(asyncio.run(Process(parser().parse_args(sys.argv[2:]), settings, connect).run()))
