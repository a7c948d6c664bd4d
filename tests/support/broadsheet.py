"""Our broker as a process."""

from __future__ import annotations

import os
import sys

from tests.support.broker_process import CLUSTER_ID, BrokerProcess


class Broadsheet(BrokerProcess):
    """`python -m broadsheet_broker broker`; it formats an empty directory by itself, since it is given a cluster id."""

    name = "broadsheet"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "broadsheet_broker", "broker", "--config", str(self.properties_file)]

    def environment(self) -> dict[str, str]:
        """Byte code is kept between starts, as it is for an installed package, whatever this machine's setting."""
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, "CLUSTER_ID": CLUSTER_ID}
