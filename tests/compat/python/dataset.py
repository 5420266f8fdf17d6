"""The seven records that every client writes once with each codec, and the check of what was read."""

import json
import pathlib
from dataclasses import dataclass, field

from report import check, same

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
FIRST_TIMESTAMP = 1_700_000_000_000
BIG_BYTES = 900_000


@dataclass
class Record:
    """A record to write, or one that was read; `offset` is known for the latter only."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list = field(default_factory=list)
    timestamp: int | None = None
    offset: int | None = None


def rows(topic):
    """The records in their order; headers are pairs of text and bytes."""
    content = [
        (b"key", b"value", [("h", b"1"), ("h", b"2"), ("e", b"")]),
        (None, b"no key", []),
        (b"null-value", None, []),
        (b"empty-value", b"", []),
        (b"\x00\xff\xfe\x80", bytes(range(256)), [("b", "\u00ff".encode())]),
        (b"text", b"compressible " * 1000, []),
        (b"big", noise(BIG_BYTES), []),
    ]
    return [
        Record(topic, 0, key, value, headers, FIRST_TIMESTAMP + 1000 * i)
        for i, (key, value, headers) in enumerate(content)
    ]


def noise(length):
    """Bytes that do not compress: the minimal standard generator, seed 1."""
    out = bytearray(length)
    state = 1
    for i in range(length):
        state = state * 48271 % 2147483647
        out[i] = state & 0xFF
    return bytes(out)


def compare(topic, found, with_timestamps=True):
    """Compares what was read, in order, with the data set; every difference fails."""
    expected = rows(topic)
    same(f"{topic}: the number of records", len(expected), len(found))
    for i, (row, record) in enumerate(zip(expected, found)):
        at = f"{topic}, record {i}: "
        same(at + "offset", i, record.offset)
        check(row.key == record.key, f"{at}the key differs: {record.key!r:.60}")
        check(row.value == record.value, f"{at}the value differs: {record.value!r:.60}")
        same(at + "headers", row.headers, list(record.headers or []))
        if with_timestamps:
            same(at + "timestamp", row.timestamp, record.timestamp)


def partitioner_fixture(partitions):
    """Key to partition as the Java client has it."""
    path = pathlib.Path(__file__).parent.parent / "murmur2.json"
    entries = json.loads(path.read_text())
    return {
        bytes.fromhex(entry["key_hex"]): entry["partition"]
        for entry in entries
        if entry["partitions"] == partitions
    }
