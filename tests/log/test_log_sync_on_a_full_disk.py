"""A sync that finds no room for a checkpoint puts nothing written in doubt: the log directory stays in use."""

from __future__ import annotations

import pytest

from broadsheet_broker.log import StorageError
from tests.log.support import append, batch, open_log
from tests.support.memory_environment import memory_environment


def test_no_room_for_the_leader_epochs_is_no_failed_fsync() -> None:
    environment = memory_environment()
    log = open_log(environment)
    lost: list[StorageError] = []
    log.segments.on_failure = lost.append
    append(log, batch("a"), epoch=1)
    environment.files.capacity = environment.files.used_bytes()
    with pytest.raises(StorageError, match="no room"):
        log.sync()
    assert not lost
    assert log.recovery_point == 0
    environment.files.capacity = None
    log.sync()
    assert log.recovery_point == 1
    append(log, batch("b"), epoch=1)
