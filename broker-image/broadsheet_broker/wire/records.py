"""Record batches (magic 2, KIP-98): the unit that producers send, logs keep and consumers get.

    offset  size  field
         0     8  base offset                   patched by the leader, not covered by the CRC
         8     4  batch length                  bytes after this field
        12     4  partition leader epoch        patched by the leader, not covered by the CRC
        16     1  magic                         2
        17     4  CRC32C                        of everything from 21 to the end
        21     2  attributes                    0-2 codec, 3 time type, 4 transactional, 5 control, 6 delete horizon
        23     4  last offset delta
        27     8  base timestamp                ms; the delete horizon when attribute bit 6 is set
        35     8  max timestamp                 ms
        43     8  producer id                   -1: not idempotent
        51     2  producer epoch
        53     4  base sequence
        57     4  record count
        61        records, compressed together

Each record is a varint length, then attributes (int8), timestamp delta and offset delta (zigzag varints), key, value
and headers, each with a varint length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import google_crc32c

from broadsheet_broker.wire import compression as codecs
from broadsheet_broker.wire.errors import CorruptRecordError as CorruptRecordError

Data = bytes | bytearray | memoryview

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = HEADER.size
"""61."""
LOG_OVERHEAD_BYTES: Final = 12
"""Base offset and batch length: what stands before the bytes that batch length counts."""
CRC_START: Final = 21
"""The first byte that the CRC covers."""
MAGIC: Final = 2

COMPRESSION_MASK: Final = 0x07
LOG_APPEND_TIME_FLAG: Final = 0x08
TRANSACTIONAL_FLAG: Final = 0x10
CONTROL_FLAG: Final = 0x20
DELETE_HORIZON_FLAG: Final = 0x40
_OTHER_BASE_FLAGS: Final = LOG_APPEND_TIME_FLAG | DELETE_HORIZON_FLAG
"""With these the base timestamp is no record's."""

CONTROL_ABORT: Final = 0
CONTROL_COMMIT: Final = 1
CONTROL_LEADER_CHANGE: Final = 2
CONTROL_SNAPSHOT_HEADER: Final = 3
CONTROL_SNAPSHOT_FOOTER: Final = 4
CONTROL_KRAFT_VERSION: Final = 5
CONTROL_KRAFT_VOTERS: Final = 6

NO_TIMESTAMP: Final = -1
NO_PRODUCER_ID: Final = -1

_CRC_CHUNK_BYTES: Final = 256 * 1024
"""The CRC function takes bytes only, so views are copied; chunks that fit the CPU's cache make the copy cheap."""
SMALLEST_RECORD_BYTES: Final = 7

LENIENT: Final = "surrogateescape"
"""Header names should be UTF-8, but this is not checked when they are produced: other bytes are returned unchanged."""


class BatchHeader:
    """The 61 bytes in front of the records of a batch."""

    __slots__ = (
        "attributes",
        "base_offset",
        "base_sequence",
        "base_timestamp",
        "batch_length",
        "crc",
        "last_offset_delta",
        "magic",
        "max_timestamp",
        "partition_leader_epoch",
        "producer_epoch",
        "producer_id",
        "record_count",
    )

    def __init__(
        self,
        base_offset: int,
        batch_length: int,
        partition_leader_epoch: int,
        magic: int,
        crc: int,
        attributes: int,
        last_offset_delta: int,
        base_timestamp: int,
        max_timestamp: int,
        producer_id: int,
        producer_epoch: int,
        base_sequence: int,
        record_count: int,
    ) -> None:
        self.base_offset = base_offset
        self.batch_length = batch_length
        self.partition_leader_epoch = partition_leader_epoch
        self.magic = magic
        self.crc = crc
        self.attributes = attributes
        self.last_offset_delta = last_offset_delta
        self.base_timestamp = base_timestamp
        self.max_timestamp = max_timestamp
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.base_sequence = base_sequence
        self.record_count = record_count

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.batch_length + LOG_OVERHEAD_BYTES

    @property
    def compression(self) -> int:
        return self.attributes & COMPRESSION_MASK

    @property
    def is_log_append_time(self) -> bool:
        return self.attributes & LOG_APPEND_TIME_FLAG != 0

    @property
    def is_transactional(self) -> bool:
        return self.attributes & TRANSACTIONAL_FLAG != 0

    @property
    def is_control(self) -> bool:
        return self.attributes & CONTROL_FLAG != 0

    @property
    def has_delete_horizon(self) -> bool:
        """Set by the cleaner: `base_timestamp` then is when tombstones and markers of this batch may go (KIP-534)."""
        return self.attributes & DELETE_HORIZON_FLAG != 0

    @property
    def is_sure_of_its_timestamps(self) -> bool:
        """False for a batch whose MaxTimestamp was never set, as earlier versions stored those of some clients."""
        return self.max_timestamp >= self.base_timestamp or self.attributes & _OTHER_BASE_FLAGS != 0

    @property
    def latest_timestamp(self) -> int:
        """The largest timestamp (ms) of the records as far as the header tells; not less than the base timestamp."""
        return self.max_timestamp if self.is_sure_of_its_timestamps else self.base_timestamp

    @property
    def last_sequence(self) -> int:
        return advance_sequence(self.base_sequence, self.last_offset_delta) if self.base_sequence >= 0 else -1

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)}" for name in self.__slots__)
        return f"BatchHeader({fields})"


class Record(NamedTuple):
    """One record. Also what `build_batch` takes, with any offset (it counts them itself)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


def advance_sequence(sequence: int, by: int) -> int:
    """Sequence numbers run from 0 to 2**31 - 1 and then start again at 0."""
    return (sequence + by) & 0x7FFFFFFF


def crc32c(view: Data) -> int:
    """CRC32C of any buffer."""
    size = len(view)
    if size <= _CRC_CHUNK_BYTES:
        return int(google_crc32c.value(view if type(view) is bytes else bytes(view)))
    view = memoryview(view)
    value = 0
    for start in range(0, size, _CRC_CHUNK_BYTES):
        value = google_crc32c.extend(value, view[start : start + _CRC_CHUNK_BYTES].tobytes())
    return value


def batch_crc(batch: Data) -> int:
    """What the CRC field of this one whole batch should hold."""
    return crc32c(memoryview(batch)[CRC_START:])


def parse_batch(view: Data, position: int = 0) -> BatchHeader:
    """The header of the batch at `position`. Does not check the CRC. The whole batch must be there."""
    if len(view) - position < HEADER_BYTES:
        raise CorruptRecordError(f"{len(view) - position} bytes are too few for the header of a record batch")
    header = BatchHeader(*HEADER.unpack_from(view, position))
    if header.magic != MAGIC:
        raise CorruptRecordError(f"record batch with magic {header.magic}; only magic {MAGIC} is supported")
    if header.batch_length < HEADER_BYTES - LOG_OVERHEAD_BYTES:
        raise CorruptRecordError(f"record batch with a length of {header.batch_length} bytes")
    if header.size > len(view) - position:
        raise CorruptRecordError(f"record batch of {header.size} bytes of which {len(view) - position} are there")
    return header


def check_batch(header: BatchHeader, batch: Data) -> None:
    """Raise CorruptRecordError unless the CRC and the counts of this one whole batch are right."""
    crc = batch_crc(batch)
    if crc != header.crc:
        raise CorruptRecordError(
            f"record batch at offset {header.base_offset} has the CRC {header.crc:#010x}, its bytes have {crc:#010x}"
        )
    if header.last_offset_delta < 0 or header.record_count < 0:
        raise CorruptRecordError(
            f"record batch at offset {header.base_offset} with {header.record_count} records "
            f"and last offset delta {header.last_offset_delta}"
        )


def iterate_batches(view: Data) -> Iterator[tuple[BatchHeader, memoryview]]:
    """Each whole batch with its bytes; stops before a last batch that is not all there (as a fetch may end)."""
    view = memoryview(view)
    position = 0
    end = len(view)
    while end - position >= HEADER_BYTES:
        (length,) = _LENGTH.unpack_from(view, position + 8)
        if length + LOG_OVERHEAD_BYTES > end - position:
            return
        header = parse_batch(view, position)
        yield header, view[position : position + header.size]
        position += header.size


_LENGTH: Final = struct.Struct(">i")


def records_payload(header: BatchHeader, batch: Data, limit_bytes: int = codecs.MAX_DECOMPRESSED_BYTES) -> Data:
    """The records' bytes of one whole batch, decompressed when need be."""
    payload = memoryview(batch)[HEADER_BYTES : header.size]
    codec = header.attributes & COMPRESSION_MASK
    if codec == codecs.NONE:
        return payload
    try:
        return codecs.decompress(codec, payload, limit_bytes)
    except codecs.CompressionError as error:
        raise CorruptRecordError(f"record batch at offset {header.base_offset}: {error}") from error


def decode_records(batch: Data, *, limit_bytes: int = codecs.MAX_DECOMPRESSED_BYTES) -> list[Record]:
    """The records of one whole batch with their offsets and timestamps (ms)."""
    header = parse_batch(batch)
    data = records_payload(header, batch, limit_bytes)
    count = header.record_count
    if count < 0 or count * SMALLEST_RECORD_BYTES > len(data):
        raise CorruptRecordError(f"{count} records cannot be in {len(data)} bytes")
    base_timestamp = header.base_timestamp
    append_time = header.max_timestamp if header.is_log_append_time else None
    records: list[Record] = []
    position = 0
    try:
        for _ in range(count):
            record, position = decode_record(data, position, header.base_offset, base_timestamp, append_time)
            records.append(record)
    except IndexError as error:
        raise CorruptRecordError(f"record batch at offset {header.base_offset} ends within a record") from error
    if position != len(data):
        raise CorruptRecordError(f"{len(data) - position} bytes after the last record of the batch")
    return records


def decode_record(
    data: Data, position: int, base_offset: int, base_timestamp: int, append_time: int | None
) -> tuple[Record, int]:
    """The record at `position`, and where it ends; `append_time` (ms) is that of a batch with LogAppendTime."""
    size, position = read_varint(data, position)
    end = position + size
    if size < 0 or end > len(data):
        raise CorruptRecordError(f"record of {size} bytes of which {len(data) - position} are there")
    timestamp_delta, position = read_varint(data, position + 1)
    offset_delta, position = read_varint(data, position)
    key, position = _read_bytes(data, position, end)
    value, position = _read_bytes(data, position, end)
    header_count, position = read_varint(data, position)
    headers: list[tuple[str, bytes | None]] = []
    if header_count < 0 or header_count * 2 > end - position:
        raise CorruptRecordError(f"record with {header_count} headers in {end - position} bytes")
    for _ in range(header_count):
        name, position = _read_bytes(data, position, end)
        if name is None:
            raise CorruptRecordError("record header with a null key")
        content, position = _read_bytes(data, position, end)
        headers.append((name.decode(errors=LENIENT), content))
    if position != end:
        raise CorruptRecordError(f"record whose fields end {end - position} bytes before its length")
    timestamp = base_timestamp + timestamp_delta if append_time is None else append_time
    return Record(base_offset + offset_delta, timestamp, key, value, headers), end


def _read_bytes(data: Data, position: int, end: int) -> tuple[bytes | None, int]:
    size, position = read_varint(data, position)
    if size < 0:
        return None, position
    stop = position + size
    if stop > end:
        raise CorruptRecordError(f"field of {size} bytes of which {end - position} are there")
    return bytes(data[position:stop]), stop


def read_varint(data: Data, position: int) -> tuple[int, int]:
    """A zigzag varint of up to 64 bits and the position after it. IndexError at the end of the data."""
    byte = data[position]
    position += 1
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), position
    value = byte & 0x7F
    shift = 7
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
        if shift > 63:
            raise CorruptRecordError("varint of more than ten bytes")


def write_varint(output: bytearray, value: int) -> None:
    value = (value << 1) ^ (value >> 63)
    while value > 0x7F:
        output.append((value & 0x7F) | 0x80)
        value >>= 7
    output.append(value)


def _write_bytes(output: bytearray, value: Data | None) -> None:
    if value is None:
        output.append(1)  # -1 in zigzag
    else:
        write_varint(output, len(value))
        output += value


def encode_record(
    output: bytearray,
    timestamp_delta: int,
    offset_delta: int,
    key: Data | None,
    value: Data | None,
    headers: Sequence[tuple[str, Data | None]],
) -> None:
    """Append one record of a batch to `output`."""
    body = bytearray(1)
    write_varint(body, timestamp_delta)
    write_varint(body, offset_delta)
    _write_bytes(body, key)
    _write_bytes(body, value)
    write_varint(body, len(headers))
    for name, content in headers:
        _write_bytes(body, name.encode(errors=LENIENT))
        _write_bytes(body, content)
    write_varint(output, len(body))
    output += body


def build_batch(
    records: Sequence[Any],
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    compression: int = 0,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
    timestamp_type: str = "create",
) -> bytearray:
    """A batch of `Record`s or tuples (timestamp ms, key, value, headers), with offsets that count up from the base."""
    if not records:
        raise ValueError("a record batch holds at least one record")
    rows = [row[1:] if isinstance(row, Record) else row for row in records]
    base_timestamp = rows[0][0]
    payload = bytearray()
    for delta, (timestamp, key, value, headers) in enumerate(rows):
        encode_record(payload, timestamp - base_timestamp, delta, key, value, headers)
    attributes = compression
    if timestamp_type != "create":
        attributes |= LOG_APPEND_TIME_FLAG
    if transactional:
        attributes |= TRANSACTIONAL_FLAG
    if control:
        attributes |= CONTROL_FLAG
    return assemble_batch(
        payload,
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        attributes=attributes,
        last_offset_delta=len(rows) - 1,
        base_timestamp=base_timestamp,
        max_timestamp=max(row[0] for row in rows),
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=len(rows),
    )


def assemble_batch(payload: Data, *, attributes: int, **fields: Any) -> bytearray:
    """A whole batch around encoded, not yet compressed records, with its CRC; `fields` as in `frame_batch`."""
    codec = attributes & COMPRESSION_MASK
    return frame_batch(codecs.compress(codec, payload) if codec else payload, attributes=attributes, **fields)


def frame_batch(
    body: Data,
    *,
    base_offset: int,
    leader_epoch: int,
    attributes: int,
    last_offset_delta: int,
    base_timestamp: int,
    max_timestamp: int,
    producer_id: int,
    producer_epoch: int,
    base_sequence: int,
    record_count: int,
    sealed: bool = True,
) -> bytearray:
    """A whole batch around records that are compressed already as the attributes say; its CRC is right if `sealed`."""
    batch = bytearray(HEADER_BYTES + len(body))
    HEADER.pack_into(
        batch,
        0,
        base_offset,
        len(batch) - LOG_OVERHEAD_BYTES,
        leader_epoch,
        MAGIC,
        0,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        record_count,
    )
    batch[HEADER_BYTES:] = body
    if sealed:
        seal_batch(batch)
    return batch


def seal_batch(batch: bytearray | memoryview) -> None:
    """Write the right CRC into one whole batch whose header was changed."""
    struct.pack_into(">I", batch, 17, batch_crc(batch))


def build_control_batch(
    control_type: int,
    value: Data,
    *,
    timestamp: int,
    base_offset: int = 0,
    leader_epoch: int = -1,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = -1,
    transactional: bool = False,
) -> bytearray:
    """A control batch of one record: its key is a version (0) and the control type, both int16."""
    return build_batch(
        [(timestamp, struct.pack(">hh", 0, control_type), value, ())],
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=transactional,
        control=True,
    )
