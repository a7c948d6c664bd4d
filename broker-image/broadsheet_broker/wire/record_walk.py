"""Walks over the records of a batch without building them: what a broker must know of each record that a client sends.

The rules are those of Apache Kafka's `DefaultRecord.readFrom`, `DefaultRecordBatch.RecordIterator` and `LogValidator`:
every length ends within its record, every record within the batch, the batch holds as many records as its header says
and nothing after them; a compacted topic needs a key in each; timestamps are within the topic's bounds. The largest
timestamp is computed here, whatever the header says.

`walk` stops after a number of records, at the end of the bytes or at a record that is not all there, so that a caller
can go on in a later turn of the loop or with the next piece of a decompressed payload.
"""

from __future__ import annotations

from typing import Final

from broadsheet_broker.wire.errors import ErrorCode, KafkaError

STEP_RECORDS: Final = 4000
"""Records that one turn of the loop may walk over: about 5 ms in pure Python."""

MOST_RECORD_ERRORS: Final = 1000
"""Records that a refusal names. Kafka names all of them."""

_LARGEST_TIMESTAMP: Final = (1 << 62) - 1
"""Timestamps that fit no header are out of range whatever the topic allows."""

KEY_MISSING: Final = 0
TIMESTAMP_OUT_OF_RANGE: Final = 1


class RecordWalk:
    """What is known after `index` records of one batch."""

    __slots__ = (
        "base_timestamp",
        "compressed",
        "count",
        "errors",
        "highest",
        "index",
        "keyed",
        "latest",
        "latest_index",
        "lowest",
        "refused",
        "renumber",
    )

    def __init__(
        self, count: int, base_timestamp: int, compressed: bool, keyed: bool, earliest: int, latest: int
    ) -> None:
        """`keyed`: each record needs a key. A timestamp must be from `earliest` to `latest` (ms), or -1."""
        self.count = count
        self.base_timestamp = base_timestamp
        self.compressed = compressed
        self.keyed = keyed
        # Not max() and min(), which would cost as much as the rest.
        self.lowest = (earliest if earliest > -_LARGEST_TIMESTAMP else -_LARGEST_TIMESTAMP) - base_timestamp
        self.highest = (latest if latest < _LARGEST_TIMESTAMP else _LARGEST_TIMESTAMP) - base_timestamp
        self.index = 0
        self.latest: int | None = None
        """The largest timestamp so far, less the base timestamp."""
        self.latest_index = 0
        """The first record that has it."""
        self.renumber = False
        """Whether some record's offset is not the one that its place gives it."""
        self.errors: list[tuple[int, int, int]] | None = None
        """For the first refused records: index, why, timestamp (ms)."""
        self.refused = 0

    @property
    def max_timestamp(self) -> int:
        """The largest timestamp (ms) of the records walked so far; -1 when none has one."""
        if self.latest is None or self.base_timestamp + self.latest < 0:
            return -1
        return self.base_timestamp + self.latest

    def note(self, index: int, reason: int, delta: int) -> None:
        """One record cannot be taken; the walk goes on, since the answer names them all (KIP-467)."""
        if self.errors is None:
            self.errors = []
        elif self.errors[-1][0] == index:
            return  # one reason is enough
        self.refused += 1
        if len(self.errors) < MOST_RECORD_ERRORS:
            self.errors.append((index, reason, self.base_timestamp + delta))

    def finish(self, rest: int) -> None:
        """Raise INVALID_RECORD unless all the records that the header counts were there, and `rest` is 0 bytes."""
        if self.index < self.count:
            raise invalid(
                f"the batch ends within record {self.index} of the {self.count} that its header counts"
                if rest
                else f"the batch has {self.index} records, its header counts {self.count}"
            )
        if rest:
            raise invalid(f"{rest} bytes or more follow the {self.count} records that the header of the batch counts")


def invalid(message: str) -> KafkaError:
    """What Kafka answers to records that cannot be read."""
    return KafkaError(ErrorCode.INVALID_RECORD, message)


def walk(data: bytes, position: int, state: RecordWalk, until: int) -> int:
    """Go on with the record that begins at `position`, up to record `until` or the last that is whole in `data`.

    Returns where the next record begins; `state` tells how many are done. Raises INVALID_RECORD for one that cannot be
    read, and UNKNOWN_SERVER_ERROR, as Kafka does, for a length that is no varint.
    """
    total = len(data)
    index = state.index
    lowest = state.lowest
    highest = state.highest
    keyed = state.keyed
    known = state.latest
    begun = known is not None
    latest = 0 if known is None else known
    if until > state.count:
        until = state.count
    start = position
    try:
        while index < until:
            start = position
            if position >= total:
                break
            size = data[position]
            position += 1
            if size >= 0x80:
                size, position = _length(data, position, size & 0x7F, state)
                if position < 0:
                    break
            if size & 1:
                raise invalid(f"record {index} of the batch has a negative length")
            end = position + (size >> 1)
            if end > total:
                break
            position += 1  # attributes: none has a meaning
            delta = data[position]
            position += 1
            if delta >= 0x80:
                delta, position = _long_varint(data, position, delta & 0x7F, 10)
            delta = (delta >> 1) ^ -(delta & 1)
            offset = data[position]
            position += 1
            if offset >= 0x80:
                byte = data[position]
                position += 1
                offset = (offset & 0x7F) | (byte << 7)
                if byte >= 0x80:
                    offset, position = _long_varint(data, position, offset & 0x3FFF, 5, 14)
            if offset != index << 1:
                state.renumber = True
            size = data[position]
            position += 1
            if size >= 0x80:
                size, position = _long_varint(data, position, size & 0x7F, 5)
            if not size & 1:
                position += size >> 1
            elif keyed:
                state.note(index, KEY_MISSING, delta)
            size = data[position]
            position += 1
            if size >= 0x80:
                size, position = _long_varint(data, position, size & 0x7F, 5)
            if not size & 1:
                position += size >> 1
            size = data[position]
            position += 1
            if size:
                position = _skip_headers(data, position, size, end)
            if position != end:
                raise invalid(f"record {index} of the batch has a length that its fields do not add up to")
            if (delta < lowest or delta > highest) and state.base_timestamp + delta != -1:
                state.note(index, TIMESTAMP_OUT_OF_RANGE, delta)
            if not begun or delta > latest:
                begun = True
                latest = delta
                state.latest_index = index
            index += 1
            start = position
    except IndexError:
        raise invalid(f"record {index} of the batch is longer than the batch") from None
    state.index = index
    if begun:
        state.latest = latest
    return start


def _length(data: bytes, position: int, value: int, state: RecordWalk) -> tuple[int, int]:
    """The rest of a record's length; position -1 when the data ends before it does."""
    shift = 7
    total = len(data)
    while position < total:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 28:
            message = f"the length of record {state.index} of the batch is not a varint"
            raise KafkaError(ErrorCode.INVALID_RECORD if state.compressed else ErrorCode.UNKNOWN_SERVER_ERROR, message)
    return 0, -1


def _long_varint(data: bytes, position: int, value: int, most: int, shift: int = 7) -> tuple[int, int]:
    """The rest of a varint of at most `most` bytes, not decoded from zigzag yet."""
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift >= 7 * most:
            raise invalid("a record of the batch has a varint that is too long")


def _skip_headers(data: bytes, position: int, count: int, end: int) -> int:
    """Where the headers end whose number, in zigzag and perhaps only the first byte of it, has just been read."""
    if count >= 0x80:
        count, position = _long_varint(data, position, count & 0x7F, 5)
    if count & 1 or count > end - position:  # each has two bytes at least
        raise invalid(f"a record of the batch has {(count >> 1) ^ -(count & 1)} headers in {end - position} bytes")
    for _ in range(count >> 1):
        size = data[position]
        position += 1
        if size >= 0x80:
            size, position = _long_varint(data, position, size & 0x7F, 5)
        if size & 1:
            raise invalid("a header of a record has a null key")
        position += size >> 1
        size = data[position]
        position += 1
        if size >= 0x80:
            size, position = _long_varint(data, position, size & 0x7F, 5)
        if not size & 1:
            position += size >> 1
    return position
