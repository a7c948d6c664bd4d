"""Log lines that clients can cause at will."""

from __future__ import annotations

import logging

import pytest

from broadsheet_broker.apis.notices import INTERVAL_SECONDS, Notices

logger = logging.getLogger("notices")


def test_a_kind_is_written_once_in_an_interval_with_how_often_it_came(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for second in range(2 * int(INTERVAL_SECONDS)):
        notices.warn(logger, float(second), "client %s asks again", f"c{second}")
        notices.warn(logger, float(second), "another kind")
    lines = [record.getMessage() for record in caplog.records if "asks" in record.getMessage()]
    assert lines == ["client c0 asks again", "client c60 asks again (60 times since the last such line)"]
    assert sum("another kind" in record.getMessage() for record in caplog.records) == 2
