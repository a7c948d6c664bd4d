"""The end of a log: the active segment, and the batches that were appended and are not in its file yet.

Appends of one loop turn gather here and go to the file with one call. `Tail` is the only one that changes its fields,
so everything that moves the end of a log, and everything that a failed write takes back, is in this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.log.durability import sync
from broadsheet_broker.log.errors import StorageError
from broadsheet_broker.log.segment import TRANSACTION_INDEX_SUFFIX, Segment
from broadsheet_broker.log.transaction_index import AbortedTransaction

if TYPE_CHECKING:
    from broadsheet_broker.log.producer_state import CompletedTransaction
    from broadsheet_broker.log.segments import Segments
    from broadsheet_broker.seams import Buffer


class Tail:
    """What moves the end of a log."""

    __slots__ = ("active", "completed", "end", "epochs", "failed", "mark", "pending", "producers", "segments")

    def __init__(self, segments: Segments, end_offset: int) -> None:
        self.segments = segments
        self.producers = segments.producers
        self.epochs = segments.epochs
        self.active = segments[-1]
        self.end = end_offset
        """The offset that the next record gets. Includes what is appended but not written."""
        self.pending: list[Buffer] = []
        """Batches that are to be written."""
        self.mark: tuple[int, tuple[object, ...]] | None = None
        """The end and the active segment before the first of them; set exactly while there are some."""
        self.failed: StorageError | None = None
        """Why the last write failed, until the caller that appended gets it."""
        self.completed: list[CompletedTransaction] = []
        """Transactions that ended with one of the batches."""

    # Appending.

    def add(self, parts: tuple[Buffer, ...], last_offset: int, max_timestamp: int, size: int) -> None:
        """A batch of `size` bytes, in parts, is next; its offsets are in it. The bytes must stay as they are."""
        active = self.active
        if self.mark is None:
            self.mark = (self.end, active.mark())
        self.pending += parts
        active.note(last_offset, max_timestamp, size, self.segments.config.index_interval_bytes)
        self.end = last_offset + 1

    def complete(self, transaction: CompletedTransaction) -> None:
        """The batch that was added last ends a transaction."""
        self.completed.append(transaction)

    def begin(self, segment: Segment) -> None:
        """A new segment takes the appends, from its base offset on. Nothing is pending."""
        self.active = segment
        self.end = segment.base_offset
        self.producers.end_offset = segment.base_offset

    def cut(self, end_offset: int) -> None:
        """Segments were cut or taken away, and the log ends at `end_offset`. Nothing is pending."""
        self.segments.cut(end_offset)
        self.end = end_offset
        self.active = self.segments[-1]

    def begin_again(self, segment: Segment) -> None:
        """The log is empty and begins where this segment does."""
        self.segments.begin_again(segment)
        self.active = segment
        self.end = segment.base_offset

    # Writing.

    def flush(self) -> None:
        """Write what was appended since the last call; see `Log.flush_appends`."""
        if self.pending and self.failed is None:
            self._write()
        if self.failed is not None:
            raise self._take_failure()

    def flush_for_read(self) -> None:
        """Put what is queued where readers find it; a failure is kept for the caller that appended."""
        offline = self.segments.offline
        if offline is not None:
            raise offline.again()
        if self.pending and self.failed is None:
            self._write()

    def write_or_raise(self) -> None:
        """For what must not go on after a failed write, which stays noted for the caller that appended."""
        if self.pending and self.failed is None:
            self._write()
        if self.failed is not None:
            raise self.failed.again()

    def forget(self) -> None:
        """What is pending was not and will not be written: the log is as if it had never been appended."""
        if self.mark is None:
            return
        self.end, mark = self.mark
        self.active.reset_to(mark)
        self.mark = None
        self.pending = []
        self.completed = []
        self.producers.rollback()
        self.epochs.truncate_from_end(self.end)

    def _take_failure(self) -> StorageError:
        """A function of its own: in the frame that raises, a name for the error would make a cycle of the two."""
        failure = self.failed
        assert failure is not None
        self.failed = None
        self.forget()  # batches queued behind a failure that a read ran into
        return failure

    def _write(self) -> None:
        """Write the queued batches; a failure is kept in `failed`."""
        assert self.mark is not None
        segments = self.segments
        if segments.offline is not None:  # deleted since: another log may have this path by now
            self.forget()
            self.failed = segments.offline.again()
            return
        active = self.active
        try:
            segments.file(active).append(self.pending)
        except OSError as error:
            self.forget()
            self.failed = segments.failure(active.path, error)
            return
        self.pending = []
        self.mark = None
        self.producers.end_offset = self.end
        self.producers.commit()
        if self.completed:
            self._write_aborted()
        if active.offsets.wants_flush or active.times.wants_flush:
            self._flush_indexes(active)
        if self.failed is None and self.end - segments.recovery_point >= segments.config.flush_messages:
            try:
                sync(segments)
            except StorageError as error:
                self.failed = error.again()

    def _flush_indexes(self, segment: Segment) -> None:
        """A full disk does no harm here: the entries stay in memory and are written later."""
        try:
            segment.offsets.flush(self.segments.files)
            segment.times.flush(self.segments.files)
        except OSError:
            return

    def _write_aborted(self) -> None:
        """Without its entry an aborted transaction would be read as committed: then rather nothing is read at all."""
        completed, self.completed = self.completed, []
        index = self.active.stem + TRANSACTION_INDEX_SUFFIX
        try:
            for transaction in completed:
                if transaction.aborted:
                    AbortedTransaction.of(transaction).append_to(self.segments.files, index)
                    self.active.aborted = True
        except OSError as error:
            failure = self.segments.failure(index, error)
            self.segments.take_offline(failure)
            self.failed = failure.again()
