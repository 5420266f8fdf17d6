//! Round trips of arbitrary records, and damage of every kind: nothing panics, nothing is
//! allocated by a length that was not checked, and no damaged batch yields wrong records.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions use it, too

use bytes::Bytes;
use dlog_storage::record::{
    Batch, BatchBuilder, BatchHeader, Compression, DeepRules, Header, Record, RecordError,
    TimestampType, detect_format, patch_base_offset_and_epoch, patch_max_timestamp, recompress, v1,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn header() -> impl Strategy<Value = Header> {
    (bytes(12), option::of(bytes(40))).prop_map(|(key, value)| Header { key, value })
}

fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![
        -1i64..3,
        1_700_000_000_000i64..1_700_000_100_000,
        0..i64::MAX
    ]
}

fn record() -> impl Strategy<Value = Record> {
    (
        1i64..200,
        timestamp(),
        option::of(bytes(40)),
        option::of(prop_oneof![4 => bytes(200), 1 => bytes(5_000)]),
        vec(header(), 0..4),
    )
        .prop_map(|(gap, timestamp_ms, key, value, headers)| Record {
            offset: gap,
            timestamp_ms,
            key,
            value,
            headers,
        })
}

/// Records with ascending offsets from `base`, with gaps if asked for.
fn records(base: i64, gaps: bool) -> impl Strategy<Value = Vec<Record>> {
    vec(record(), 1..30).prop_map(move |mut records| {
        let mut next = base;
        for record in &mut records {
            let gap = if gaps { record.offset - 1 } else { 0 };
            record.offset = next + gap;
            next = record.offset + 1;
        }
        records
    })
}

fn codec() -> impl Strategy<Value = Compression> {
    proptest::sample::select(&Compression::ALL[..])
}

fn build(base: i64, codec: Compression, records: &[Record]) -> Bytes {
    let mut builder = BatchBuilder::new()
        .base_offset(base)
        .compression(codec, None);
    for record in records {
        let delta = (record.offset - base) as i32;
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder
            .push_at(delta, record.timestamp_ms, key, value, &record.headers)
            .unwrap();
    }
    builder.build().unwrap()
}

fn read(bytes: Bytes) -> Vec<Record> {
    let batch = Batch::from_bytes(bytes).unwrap();
    batch.verify_crc().unwrap();
    batch.records().unwrap().map(Result::unwrap).collect()
}

/// Reads whatever can be read of arbitrary bytes, with a small limit.
fn read_anything(bytes: &Bytes) -> Option<Vec<Record>> {
    const LIMIT: usize = 1 << 20;
    let mut rest = bytes.clone();
    let batch = Batch::split_first(&mut rest).ok()??;
    let _ = recompress(&batch, Compression::None, None);
    let _ = batch.validate_deep(&DeepRules {
        max_uncompressed_bytes: LIMIT,
        ..DeepRules::default()
    });
    let section = batch.section(LIMIT).ok()?;
    let refs = section.refs().count();
    assert!(refs <= section.bytes().len());
    for record in section.refs().flatten() {
        assert_eq!(record.headers().count(), record.header_count());
    }
    let records: Result<Vec<_>, _> = section.into_records().collect();
    batch.verify_crc().ok()?;
    records.ok()
}

proptest! {
    #[test]
    fn round_trip_contiguous(
        records in records(7, false),
        codec in codec(),
    ) {
        let bytes = build(7, codec, &records);
        let batch = Batch::from_bytes(bytes.clone()).unwrap();
        let facts = batch.validate_deep(&DeepRules::default()).unwrap();
        let latest = records.iter().map(|r| r.timestamp_ms).max().unwrap().max(-1);
        prop_assert_eq!(facts.max_timestamp_ms, latest);
        prop_assert_eq!(batch.header().max_timestamp, latest);
        prop_assert_eq!(read(bytes), records);
    }

    #[test]
    fn round_trip_with_gaps(records in records(1 << 40, true), from in codec(), to in codec()) {
        let bytes = build(1 << 40, from, &records);
        prop_assert_eq!(&read(bytes.clone()), &records);
        let batch = Batch::from_bytes(bytes).unwrap();
        let other = recompress(&batch, to, None).unwrap();
        let header = BatchHeader::parse(&other).unwrap();
        prop_assert_eq!(header.compression(), Ok(to));
        prop_assert_eq!(header.last_offset_delta, batch.header().last_offset_delta);
        prop_assert_eq!(read(other), records);
    }

    #[test]
    fn borrowed_and_owned_records_agree(records in records(0, true), codec in codec()) {
        let batch = Batch::from_bytes(build(0, codec, &records)).unwrap();
        let section = batch.section(1 << 20).unwrap();
        for (borrowed, owned) in section.refs().zip(&records) {
            let borrowed = borrowed.unwrap();
            prop_assert_eq!(borrowed.offset, owned.offset);
            prop_assert_eq!(borrowed.timestamp_ms, owned.timestamp_ms);
            prop_assert_eq!(borrowed.key, owned.key.as_deref());
            prop_assert_eq!(borrowed.value, owned.value.as_deref());
            let headers: Vec<_> = owned
                .headers
                .iter()
                .map(|h| (&h.key[..], h.value.as_deref()))
                .collect();
            prop_assert_eq!(borrowed.headers().collect::<Vec<_>>(), headers);
        }
    }

    #[test]
    fn patches_keep_the_records(records in records(0, false), offset in 0i64..1 << 50, epoch: i32) {
        let mut bytes = build(0, Compression::Lz4, &records).to_vec();
        patch_base_offset_and_epoch(bytes.first_chunk_mut().unwrap(), offset, epoch);
        patch_max_timestamp(&mut bytes, TimestampType::LogAppendTime, 42).unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        prop_assert_eq!((header.base_offset, header.partition_leader_epoch), (offset, epoch));
        for (patched, original) in read(bytes.into()).iter().zip(&records) {
            prop_assert_eq!(patched.timestamp_ms, 42);
            prop_assert_eq!(patched.offset, original.offset + offset);
            prop_assert_eq!(&patched.value, &original.value);
        }
    }

    #[test]
    fn message_v1_round_trip(
        timestamp_ms: i64,
        key in option::of(bytes(50)),
        value in option::of(bytes(3_000)),
        codec in codec(),
    ) {
        let mut out = Vec::new();
        v1::encode(&mut out, timestamp_ms, key.as_deref(), value.as_deref(), codec).unwrap();
        prop_assert_eq!(v1::total_bytes(&out), Ok(out.len()));
        prop_assert_eq!(detect_format(&out), Ok(dlog_storage::Format::V1));
        let message = v1::decode(&out.into()).unwrap();
        prop_assert_eq!(message.timestamp_ms, timestamp_ms);
        let expected = if value.is_some() { codec } else { Compression::None };
        prop_assert_eq!(message.compression(), Ok(expected));
        prop_assert_eq!(message.key, key);
        prop_assert_eq!(message.value, value);
    }

    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = read_anything(&bytes);
        let _ = detect_format(&bytes);
        let _ = v1::decode(&bytes);
        let _ = v1::MessageV1::split_first(&mut { bytes });
    }

    /// A sound header in front of arbitrary bytes, with a correct CRC: what an attacker sends.
    #[test]
    fn arbitrary_records(
        body in vec(any::<u8>(), 0..300),
        codec in 0i16..8,
        count in 0i32..40,
        extra in 0i32..5,
    ) {
        let _ = read_anything(&forged(codec, count, extra, &body));
    }

    /// As above, but every field of the records is plausible on its own.
    #[test]
    fn almost_records(records in records(0, false), flips in vec((any::<usize>(), 0u8..8), 1..4)) {
        let plain = build(0, Compression::None, &records);
        let mut body = plain[61..].to_vec();
        for (at, bit) in flips {
            let at = at % body.len();
            body[at] ^= 1 << bit;
        }
        let count = records.len() as i32;
        let _ = read_anything(&forged(0, count, 0, &body));
    }

    /// Arbitrary bytes behind each codec's magic.
    #[test]
    fn arbitrary_compressed(tail in vec(any::<u8>(), 0..200)) {
        let heads: [(i16, &[u8]); 7] = [
            (1, b"\x1f\x8b\x08\0\0\0\0\0\0\xff"),
            (2, b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"),
            (2, b""),
            (3, b"\x04\x22\x4d\x18\x60\x40\x82"),
            (3, b"\x04\x22\x4d\x18"),
            (4, b"\x28\xb5\x2f\xfd"),
            (4, b"\x28\xb5\x2f\xfd\x00\x58"),
        ];
        for (codec, head) in heads {
            let body = [head, &tail].concat();
            let _ = read_anything(&forged(codec, 1, 0, &body));
        }
    }
}

/// A batch with a correct length and CRC around any record bytes.
fn forged(attributes: i16, count: i32, extra_offsets: i32, body: &[u8]) -> Bytes {
    let header = BatchHeader {
        base_offset: 0,
        batch_length: 49 + body.len() as i32,
        partition_leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes,
        last_offset_delta: (count + extra_offsets - 1).max(0),
        base_timestamp: 1_000,
        max_timestamp: 1_000,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: count,
    };
    let mut head = [0; 61];
    header.write(&mut head);
    let mut bytes = [&head[..], body].concat();
    let crc = dlog_storage::record::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

fn small(codec: Compression) -> (Bytes, Vec<Record>) {
    let record = |offset, key: Option<&'static [u8]>, value: Option<&'static [u8]>| Record {
        offset,
        timestamp_ms: 1_700_000_000_000 + offset,
        key: key.map(Bytes::from_static),
        value: value.map(Bytes::from_static),
        headers: Vec::new(),
    };
    let mut records = vec![
        record(0, Some(b"key"), Some(b"value value value value value")),
        record(1, None, Some(b"")),
        record(2, Some(b""), None),
    ];
    records[2].headers.push(Header {
        key: Bytes::from_static(b"h"),
        value: Some(Bytes::from_static(b"v")),
    });
    (build(0, codec, &records), records)
}

#[test]
fn every_bit_flip_is_found_or_harmless() {
    for codec in Compression::ALL {
        let (original, records) = small(codec);
        for bit in 0..original.len() * 8 {
            let mut damaged = original.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let Some(read) = read_anything(&Bytes::from(damaged)) else {
                continue;
            };
            // Base offset and leader epoch are not under the CRC: the log assigns them.
            let before_magic = bit / 8 < 8 || (12..16).contains(&(bit / 8));
            assert!(before_magic, "{codec}: bit {bit} was not noticed");
            let values = |records: &[Record]| -> Vec<_> {
                records
                    .iter()
                    .map(|r| (r.key.clone(), r.value.clone(), r.timestamp_ms))
                    .collect()
            };
            assert_eq!(values(&read), values(&records), "{codec}: bit {bit}");
        }
    }
}

#[test]
fn every_bit_flip_under_a_recomputed_crc_is_survived() {
    for codec in Compression::ALL {
        let (original, _) = small(codec);
        for bit in 21 * 8..original.len() * 8 {
            let mut damaged = original.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let crc = dlog_storage::record::crc32c(&damaged[21..]);
            damaged[17..21].copy_from_slice(&crc.to_be_bytes());
            let _ = read_anything(&Bytes::from(damaged));
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    for codec in Compression::ALL {
        let (original, _) = small(codec);
        for length in 0..original.len() {
            let mut cut = original.slice(..length);
            assert_eq!(Batch::split_first(&mut cut), Ok(None), "{length}");
            assert_eq!(cut.len(), length, "nothing is taken");
            assert!(Batch::from_bytes(cut).is_err());
            if length < 61 {
                continue;
            }
            // The same cut under a header that was made to fit: a record or codec notices it.
            let header = BatchHeader::parse(&original).unwrap();
            let forged = forged(header.attributes, 3, 0, &original[61..length]);
            assert_eq!(read_anything(&forged), None, "{codec}: {length}");
        }
    }
}

#[test]
fn trailing_bytes_are_noticed() {
    for codec in Compression::ALL {
        let (original, _) = small(codec);
        let body = [&original[61..], b"\0\0\0\0\0\0\0\0"].concat();
        let header = BatchHeader::parse(&original).unwrap();
        let forged = forged(header.attributes, 3, 0, &body);
        assert_eq!(read_anything(&forged), None, "{codec}");
    }
}

#[test]
fn batches_follow_each_other() {
    let (one, records) = small(Compression::None);
    let mut range = Bytes::from([&one[..], &one[..], &one[..20]].concat());
    for _ in 0..2 {
        let batch = Batch::split_first(&mut range).unwrap().unwrap();
        assert_eq!(read(batch.into_bytes()), records);
    }
    assert_eq!(Batch::split_first(&mut range), Ok(None));
    assert_eq!(range.len(), 20);
}

#[test]
fn reading_an_uncompressed_batch_copies_nothing() {
    let (bytes, _) = small(Compression::None);
    let range = bytes.as_ptr_range();
    let batch = Batch::from_bytes(bytes).unwrap();
    for record in batch.records().unwrap() {
        let record = record.unwrap();
        for slice in [&record.key, &record.value].into_iter().flatten() {
            let empty = slice.is_empty();
            assert!(empty || range.contains(&slice.as_ptr()));
        }
    }
}

#[test]
fn bombs_are_errors() {
    // 64 MiB of zeros in one record, in as many bytes as each codec needs for it.
    let zeros = vec![0; 64 << 20];
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut builder = BatchBuilder::new().compression(codec, None);
        builder.push(1, None, Some(&zeros), &[]).unwrap();
        let batch = Batch::from_bytes(builder.build().unwrap()).unwrap();
        assert!(batch.bytes().len() < 4 << 20, "{codec}");
        let limit_bytes = 1 << 20;
        let error = batch.section(limit_bytes).map(|_| ()).unwrap_err();
        let expected = RecordError::DecompressedTooLarge { codec, limit_bytes };
        assert_eq!(error, expected);
        assert!(batch.section((64 << 20) + 64).is_ok(), "{codec}");
    }
}

#[test]
fn claims_are_not_believed() {
    // A raw Snappy block of 5 bytes that claims 4 GiB, and one that claims 200 MiB.
    for claim in [&b"\xff\xff\xff\xff\x0f"[..], b"\x80\x80\x80\x64"] {
        let batch = Batch::from_bytes(forged(2, 1, 0, claim)).unwrap();
        let error = batch.records().map(|_| ()).unwrap_err();
        let codec = Compression::Snappy;
        assert!(matches!(error, RecordError::Decompress { codec: c, .. } if c == codec));
    }
    // Two thousand million records in seven bytes.
    let body = b"\x0c\0\0\0\x01\x01\0";
    let batch = Batch::from_bytes(forged(0, 2_000_000_000, 0, body)).unwrap();
    assert!(matches!(batch.records(), Err(RecordError::Inconsistent(_))));
    // A record with two thousand million headers, and one with a key as long.
    for body in [
        &b"\x14\0\0\0\x01\x01\x80\xd0\xac\xf3\x0e"[..],
        b"\x16\0\0\0\x80\xd0\xac\xf3\x0e\x01\0",
    ] {
        let batch = Batch::from_bytes(forged(0, 1, 0, body)).unwrap();
        let results: Vec<_> = batch.records().unwrap().collect();
        assert_eq!(results.len(), 1);
        assert!(matches!(
            results[0],
            Err(RecordError::BadRecord { index: 0, .. })
        ));
    }
}
