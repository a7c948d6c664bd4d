"""What fails at the end of a node's life, or aside from it, keeps nothing from going on."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from broadsheet_broker.log import StorageError
from tests.support.controllers import environment, running, start
from tests.support.memory_files import MemoryFiles


def test_a_clean_up_that_fails_after_a_snapshot_does_not_keep_the_node_from_stopping(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with running(tmp_path) as node:
            await node.create("orders")
            raft = node.controller.raft

            def refuse(*_: int) -> None:
                raise StorageError("segments cannot be deleted: Input/output error")

            raft.storage.clean = refuse  # type: ignore[method-assign]
            raft.take_snapshot()
        assert "could not be written" in caplog.text

    asyncio.run(run())


def test_a_full_disk_does_not_keep_a_node_from_stopping(caplog: pytest.LogCaptureFixture) -> None:
    """Others are to be stopped after it, and the reason of a start that failed must not be covered by this."""

    async def run() -> None:
        env = environment()
        files = env.files = MemoryFiles()  # type: ignore[assignment]
        node = await start(Path("/data"), env)
        await node.create("orders")
        files.fault = lambda operation, path: errno.ENOSPC if operation in ("append", "replace") else None
        await node.controller.stop()
        assert "not closed cleanly" in caplog.text

    asyncio.run(run())
