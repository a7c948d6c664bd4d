"""Random histories of one log, checked against a list of records."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broadsheet_broker.log import LogConfig, StorageError
from broadsheet_broker.wire.records import parse_batch
from tests.log.support import NOW_MS, append, batch, open_log, values_of
from tests.support.memory_environment import memory_environment

CONFIG = LogConfig(segment_bytes=700, index_interval_bytes=150, retention_ms=-1)
PRODUCER = 11


class LogMachine(RuleBasedStateMachine):
    """What was appended and not taken away is there, after any sequence of everything that can happen."""

    def __init__(self) -> None:
        super().__init__()
        self.environment = memory_environment()
        self.log = open_log(self.environment, config=CONFIG)
        self.batches: list[tuple[int, list[str]]] = []
        """First offset and values of each batch."""
        self.start = 0
        self.end = 0
        self.epoch = 0
        self.sequence = 0
        self.counter = 0
        self.recovery_point = 0

    def values(self) -> list[tuple[int, str]]:
        rows = [(first + at, value) for first, values in self.batches for at, value in enumerate(values)]
        return [row for row in rows if row[0] >= self.start]

    @rule(count=st.integers(1, 4), size=st.integers(0, 200), gathered=st.integers(1, 4))
    def append(self, count: int, size: int, gathered: int) -> None:
        for _ in range(gathered):
            values = []
            for _ in range(count):
                self.counter += 1
                values.append(f"{self.counter}" + "x" * size)
            records = batch(
                *values,
                timestamp=NOW_MS + self.counter,
                producer_id=PRODUCER,
                producer_epoch=0,
                base_sequence=self.sequence,
            )
            if len(records) > CONFIG.segment_bytes:
                return
            info = self.log.append_as_leader(records, self.epoch, NOW_MS)
            assert info.first_offset == self.end
            self.batches.append((self.end, values))
            self.end += count
            self.sequence += count
        self.log.flush_appends()

    @rule(size=st.integers(0, 300))
    def append_on_a_full_disk(self, size: int) -> None:
        files = self.environment.files
        files.capacity = files.used_bytes() + size
        records = batch("y" * 300, producer_id=PRODUCER, producer_epoch=0, base_sequence=self.sequence)
        try:
            append(self.log, records, epoch=self.epoch + 1)
        except StorageError:
            pass
        else:
            raise AssertionError("the disk was not full")
        finally:
            files.capacity = None

    @rule()
    def new_leader(self) -> None:
        self.epoch += 1

    @rule()
    def roll(self) -> None:
        self.log.roll(NOW_MS)

    @rule()
    def sync(self) -> None:
        self.log.sync()
        self.recovery_point = self.log.recovery_point

    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        if self.end == self.start:
            return
        offset = data.draw(st.integers(self.start, self.end))
        self.log.truncate_to(offset)
        while self.batches and self.batches[-1][0] + len(self.batches[-1][1]) > offset:
            self.end = max(self.start, self.batches.pop()[0])
        assert self.log.log_end_offset == self.end
        # Nothing of this producer may be left, after which any sequence is taken; else the one after its last.
        entry = self.log.producers.producers.get(PRODUCER)
        self.sequence = entry.last_sequence + 1 if entry is not None else self.sequence
        self.recovery_point = min(self.recovery_point, self.end)

    @rule(data=st.data())
    def delete_records(self, data: st.DataObject) -> None:
        self.start = data.draw(st.integers(self.start, self.end))
        self.log.advance_log_start_offset(self.start, self.end)
        self.log.delete_old_segments(NOW_MS, self.end)

    @rule()
    def stop_and_start(self) -> None:
        self.log.close()
        self.reopen(clean=True)

    @rule()
    def die_and_start(self) -> None:
        self.environment.files.kill()
        self.reopen(clean=False)

    @rule(seed=st.integers(0, 2**32))
    def die_while_appending(self, seed: int) -> None:
        """The append that was under way is not there, or its whole batches are."""
        records = batch("z" * 50, producer_id=PRODUCER, producer_epoch=0, base_sequence=self.sequence)
        segments = len(self.log.segments)
        append(self.log, records, epoch=self.epoch)
        files = self.environment.files
        if len(self.log.segments) == segments:
            path = self.log.segments[-1].path
            node = files.nodes[path]
            node.last_append = len(node.data) - len(records)
            for name, other in files.nodes.items():
                if name != path:
                    other.last_append = len(other.data)
            files.kill(random.Random(seed))
        else:
            files.kill()
        self.reopen(clean=False)
        if self.log.log_end_offset > self.end:
            self.batches.append((self.end, ["z" * 50]))
            self.end += 1
            self.sequence += 1

    def reopen(self, *, clean: bool) -> None:
        self.log = open_log(
            self.environment,
            config=CONFIG,
            clean_shutdown=clean,
            recovery_point=self.recovery_point,
            log_start_offset=self.start,
        )
        self.recovery_point = self.log.recovery_point

    @invariant()
    def everything_is_there(self) -> None:
        assert (self.log.log_start_offset, self.log.log_end_offset) == (self.start, self.end)
        assert values_of(self.log) == self.values()

    @invariant()
    def any_offset_is_found(self) -> None:
        if self.end > self.start and self.batches:
            offset = random.Random(self.counter).randrange(self.start, self.end)
            if offset < self.batches[-1][0] + len(self.batches[-1][1]):
                header = parse_batch(self.log.read(offset, 1).data)
                assert header.base_offset <= offset <= header.last_offset

    @invariant()
    def the_producer_goes_on(self) -> None:
        entry = self.log.producers.producers.get(PRODUCER)
        if entry is not None and entry.batches:
            assert entry.last_sequence == self.sequence - 1

    @invariant()
    def epochs_ascend(self) -> None:
        entries = self.log.epochs.entries()
        assert entries == sorted(set(entries))
        assert all(offset <= self.end for _, offset in entries)


TestLogHistories = LogMachine.TestCase
TestLogHistories.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
