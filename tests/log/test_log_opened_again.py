"""Logs that could not be opened at the start: what is done with them at the stop, and while they are tried again."""

from __future__ import annotations

import errno

from tests.log.log_helpers import MemoryEnvironment, append, batch, memory_environment
from tests.log.test_log_manager import CONFIG, ORDERS, ROOT, manager_of, run

from broadsheet_broker.log import CorruptLogError, LogManager
from broadsheet_broker.log.errors import is_passing

LOG = f"{ROOT}/orders-0/{0:020d}.log"


async def left_by_a_crash(environment: MemoryEnvironment, *directories: str) -> None:
    manager = manager_of(environment, *directories)
    await manager.start()
    log = manager.get_or_create("orders", 0, ORDERS, CONFIG)
    for value in "abc":
        append(log, batch(value * 50))
    environment.files.kill()


async def on_a_full_disk(environment: MemoryEnvironment, *directories: str) -> LogManager:
    """Started again where orders-0 cannot be opened for want of space; then there is room again."""
    writing = {"append", "write", "replace", "make_directory", "rename"}
    environment.files.fault = lambda operation, path: (
        errno.ENOSPC if operation in writing and "/orders-0" in path else None
    )
    manager = manager_of(environment, *directories)
    await manager.start()
    failure = manager.failure("orders", 0)
    assert failure is not None and is_passing(failure)
    environment.files.fault = None
    return manager


def test_a_log_that_a_full_disk_kept_from_recovery_is_not_trusted_after_a_clean_stop() -> None:
    """The marker of a clean stop was written: the next start asked no checksum, and told that nothing was lost."""
    environment = memory_environment()

    async def scenario() -> None:
        await left_by_a_crash(environment)
        again = await on_a_full_disk(environment)
        environment.files.open(LOG).write(70, b"?")  # what the crash did to it; nobody has come to see it
        await again.close(broker_epoch=7)
        third = manager_of(environment)
        await third.start()
        assert third.previous_broker_epoch == -1
        assert isinstance(third.failure("orders", 0), CorruptLogError)
        await third.close()

    run(environment, scenario)
