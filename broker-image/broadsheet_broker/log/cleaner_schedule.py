"""Which log is compacted next, and how far each one is: `cleaner-offset-checkpoint`."""

from __future__ import annotations

import contextlib
import logging
from itertools import pairwise
from typing import TYPE_CHECKING

from broadsheet_broker.log import checkpoints
from broadsheet_broker.log.checkpoints import CLEANER_CHECKPOINT, TopicPartition
from broadsheet_broker.log.cleaner import Cleaning, CleaningAborted
from broadsheet_broker.log.errors import PASSING, StorageError
from broadsheet_broker.seams.steps import Stepwise
from broadsheet_broker.wire.errors import KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.log.keeper import LogKeeper
    from broadsheet_broker.log.log import Log

logger = logging.getLogger(__name__)


class CleanerSchedule:
    """Cleans the dirtiest log first, one at a time, in small steps between the broker's other work."""

    def __init__(self, keeper: LogKeeper) -> None:
        self._keeper = keeper
        self._dirty_from: dict[str, dict[TopicPartition, int]] = {}
        """Per log directory, the first dirty offset of each log."""
        self.uncleanable: dict[TopicPartition, str] = {}
        """Logs that failed, which are left alone until the next start, and why."""
        self._passed_over: set[TopicPartition] = set()
        """Logs that cannot be cleaned in this run and are tried again in the next."""

    async def run(self) -> None:
        """Clean until no log needs it."""
        self._passed_over.clear()
        while (found := self._next()) is not None:
            if not await self._clean(*found):
                return

    def _first_dirty(self, log: Log) -> int:
        parent = log.parent
        offsets = self._dirty_from.get(parent)
        if offsets is None:
            try:
                offsets = checkpoints.read_offsets(log.files, f"{parent}/{CLEANER_CHECKPOINT}")
            except checkpoints.CheckpointError as error:
                logger.warning("%s; cleaning begins again at the start of each log", error)
                offsets = {}
            self._dirty_from[parent] = offsets
        known = offsets.get((log.topic, log.partition), 0)
        if known > log.log_end_offset:  # the log was truncated, or is another one
            known = 0
        return max(known, log.segments[0].base_offset)

    def _end(self, log: Log, first: int, now_ms: int) -> int:
        """The first offset that may not be cleaned: active segment, undecided transactions, and the first of the
        segments with dirty batches that is younger than min.compaction.lag.ms."""
        end = min(log.segments[-1].base_offset, log.last_stable_offset(self._keeper.high_watermark_of(log)))
        lag = log.config.min_compaction_lag_ms
        if lag > 0:
            for segment, following in pairwise(log.segments):
                if following.base_offset <= first:
                    continue
                if segment.max_timestamp < -1:
                    segment.load_max_timestamp(log.files, log.segments.file(segment))
                if segment.max_timestamp > now_ms - lag:
                    return min(end, segment.base_offset)
        return end

    def _next(self) -> tuple[Log, int, int] | None:
        """The dirtiest log above its min.cleanable.dirty.ratio (or beyond max.compaction.lag.ms), and its range."""
        best: tuple[float, Log, int, int] | None = None
        now_ms = self._keeper.environment.clock.time_ms()
        for log in self._keeper:
            config = log.config
            key = log.topic, log.partition
            if not config.compacts or log.offline is not None or key in self.uncleanable or key in self._passed_over:
                continue
            if len(log.segments) < 2:
                continue
            try:
                first = self._first_dirty(log)
                end = self._end(log, first, now_ms)
            except (OSError, KafkaError) as error:
                self._give_up(log, error)
                continue
            if first >= end:
                continue
            try:
                ratio, since = self._dirt(log, first, end, now_ms)
            except (OSError, KafkaError) as error:
                self._give_up(log, error)
                continue
            overdue = now_ms - since > config.max_compaction_lag_ms
            if ratio and (ratio > config.min_cleanable_dirty_ratio or overdue) and (best is None or ratio > best[0]):
                best = (ratio, log, first, end)
        return best[1:] if best is not None else None

    def _dirt(self, log: Log, first: int, end: int, now_ms: int) -> tuple[float, int]:
        """Share of the bytes below `end` that is dirty, and the time (ms) of the oldest dirty batch.

        As in Kafka, a segment is dirty if any of it is, as the last pass may have ended within it, with its map full;
        and one that reaches above `end` waits. Its time is that of its first batch.
        """
        clean = dirty = 0
        oldest = now_ms
        for segment, following in pairwise(log.segments):
            if following.base_offset > end:
                break
            if segment.base_offset < first:
                clean += segment.size
            if following.base_offset > first:
                dirty += segment.size
                since = segment.first_timestamp
                if since is None:
                    since = segment.load_first_timestamp(log.segments.file(segment))
                oldest = min(oldest, since if since > 0 else segment.created_ms)
        return (dirty / (clean + dirty) if dirty else 0.0), oldest

    async def _clean(self, log: Log, first: int, end: int) -> bool:
        """False when the next look should wait: the broker stops, or this log is changing."""
        environment = self._keeper.environment
        cleaning = Cleaning(
            log.segments, first, end, environment.clock.time_ms(), self._keeper.settings.cleaner_dedupe_buffer_bytes
        )
        before = log.size
        try:
            await environment.in_steps(self._until_closing(cleaning.clean()))
        except CleaningAborted as error:
            logger.info("cleaning of %s-%d was given up: %s", log.topic, log.partition, error)
            return False
        except OSError as error:
            if error.errno in PASSING:  # another log may need less, or even make room
                self._passed_over.add((log.topic, log.partition))
                logger.warning("%s-%d cannot be compacted now: %s", log.topic, log.partition, error)
            else:
                self._give_up(log, error)
            return True
        except Exception as error:  # whatever is in this log: the others must not wait for it
            self._give_up(log, error)
            return True
        if cleaning.map.end_offset <= first:
            if cleaning.map.full:  # not even one batch's keys fitted: never try again in circles
                self._give_up(log, StorageError("the keys of one batch are larger than log.cleaner.dedupe.buffer.size"))
            else:
                self._passed_over.add((log.topic, log.partition))
            return True
        logger.debug("cleaned %s-%d: %d -> %d bytes", log.topic, log.partition, before, log.size)
        self._remember(log, cleaning.map.end_offset)
        if log.segments.trash:
            await environment.offload(log.segments.purge)
        return True

    def _until_closing(self, work: Stepwise[None]) -> Stepwise[None]:
        with contextlib.closing(work):
            for room in work:
                if self._keeper.closing:
                    raise CleaningAborted("the broker stops")
                yield room

    def _give_up(self, log: Log, error: Exception) -> None:
        self.uncleanable[log.topic, log.partition] = str(error)
        defect = None if isinstance(error, OSError | KafkaError) else error
        logger.error(
            "%s-%d cannot be compacted and is left as it is: %r", log.topic, log.partition, error, exc_info=defect
        )

    def _remember(self, log: Log, offset: int) -> None:
        parent = log.parent
        offsets = self._dirty_from.setdefault(parent, {})
        offsets[log.topic, log.partition] = offset
        self._drop_gone(offsets)
        try:
            checkpoints.write_offsets(log.files, f"{parent}/{CLEANER_CHECKPOINT}", offsets)
        except OSError as error:
            logger.warning("%s/%s was not written: %s", parent, CLEANER_CHECKPOINT, error)

    def _drop_gone(self, offsets: dict[TopicPartition, int]) -> None:
        for partition in [key for key in offsets if self._keeper.get(*key) is None]:
            del offsets[partition]

    def forget(self, topic: str, partition: int) -> None:
        """The log was deleted: one of the same name begins dirty."""
        self.uncleanable.pop((topic, partition), None)
        for offsets in self._dirty_from.values():
            offsets.pop((topic, partition), None)
