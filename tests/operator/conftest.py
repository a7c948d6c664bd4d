"""What the operator's tests need of pytest."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # kafka-python reads its message descriptions by a function that Python 3.11 has deprecated, and 3.13 taken back.
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")
    # It also leaves a socket to the collector when a broker goes away while it connects, as brokers do here.
    config.addinivalue_line(
        "filterwarnings", "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
    )
