"""What the operator's tests need of pytest."""

from __future__ import annotations

import gc
import sys

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # kafka-python reads its message descriptions by a function that Python 3.11 has deprecated, and 3.13 taken back.
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")
    # It also leaves a socket to the collector when a broker goes away while it connects, as brokers do here.
    config.addinivalue_line(
        "filterwarnings", "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    """Collect the last of such sockets before pytest does: at the end of the session its filters hold no more."""
    known = sys.unraisablehook

    def without_sockets(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, ResourceWarning):
            known(unraisable)

    sys.unraisablehook = without_sockets
    try:
        gc.collect()
    finally:
        sys.unraisablehook = known
