"""The aborted transactions of a segment (`.txnindex`), which read_committed consumers skip.

Entries of 34 bytes: version int16 (0), producer id int64, first offset int64, last offset int64 (the marker's), last
stable offset int64 as it was when the transaction ended.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from broadsheet_broker.log.producer_state import CompletedTransaction
from broadsheet_broker.log.segment import TRANSACTION_INDEX_SUFFIX
from broadsheet_broker.seams import Files

_ENTRY = struct.Struct(">hqqqq")


class AbortedTransaction(NamedTuple):
    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int

    @classmethod
    def of(cls, transaction: CompletedTransaction) -> AbortedTransaction:
        return cls(
            transaction.producer_id, transaction.first_offset, transaction.last_offset, transaction.last_stable_offset
        )

    def append_to(self, files: Files, path: str) -> None:
        file = files.open(path, create=True)
        try:
            file.append([_ENTRY.pack(0, *self)])
        finally:
            file.close()


def read_aborted(files: Files, stem: str) -> list[AbortedTransaction]:
    """The entries of a segment; none when it has no transaction index. An incomplete last entry is left out."""
    try:
        data = files.read_bytes(stem + TRANSACTION_INDEX_SUFFIX)
    except FileNotFoundError:
        return []
    whole = len(data) - len(data) % _ENTRY.size
    return [AbortedTransaction(*row[1:]) for row in _ENTRY.iter_unpack(data[:whole])]


def truncate_aborted(files: Files, stem: str, offset: int) -> None:
    """Forget transactions that ended at or after `offset`."""
    kept = sum(entry.last_offset < offset for entry in read_aborted(files, stem))
    file = files.open(stem + TRANSACTION_INDEX_SUFFIX, create=True)
    try:
        file.truncate(kept * _ENTRY.size)
    finally:
        file.close()
