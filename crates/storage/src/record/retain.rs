//! Makes a batch of some of a batch's records: what compaction leaves of it.
//!
//! Offsets, the offset range, the producer's fields and the leader epoch stay. The bytes of the records
//! that stay are copied as they are, unless the base timestamp that they count from changes.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::header::BATCH_HEADER_BYTES;
use super::iter::{RecordRefs, RecordSection};
use super::{
    BatchBuilder, BatchHeader, Compression, NO_TIMESTAMP, RecordError, RecordRef, TimestampType,
    builder, codec,
};

/// The records of one batch, uncompressed, borrowed where they were so already.
pub(crate) struct OpenBatch<'a> {
    header: BatchHeader,
    records: Cow<'a, [u8]>,
}

/// Which records of a batch stay.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Where their bytes are; neighbours are one range.
    ranges: Vec<Range<usize>>,
    /// How many.
    pub(crate) kept: i32,
    /// Whether none goes.
    pub(crate) all: bool,
    /// Whether one of them has no value.
    pub(crate) has_tombstones: bool,
    max_timestamp_ms: i64,
}

impl<'a> OpenBatch<'a> {
    /// Takes a whole batch, whose checksum was verified.
    ///
    /// # Errors
    /// As [`super::Batch::section`].
    pub(crate) fn new(
        header: BatchHeader,
        bytes: &'a [u8],
        max_bytes: usize,
    ) -> Result<Self, RecordError> {
        let packed = &bytes[BATCH_HEADER_BYTES..];
        let records = match header.compression()? {
            Compression::None => Cow::Borrowed(packed),
            // A batch that lost all its records was never compressed again.
            codec => Cow::Owned(codec::decompress(codec, packed, max_bytes)?),
        };
        Ok(Self { header, records })
    }

    /// The records, one after the other.
    ///
    /// # Errors
    /// [`RecordError::Inconsistent`] when so many records cannot be in so few bytes.
    pub(crate) fn refs(&self) -> Result<RecordRefs<'_>, RecordError> {
        RecordRefs::new(&self.header, &self.records)
    }

    /// Reads every record and asks which ones stay.
    ///
    /// # Errors
    /// What is wrong with a record.
    pub(crate) fn select(
        &self,
        mut stays: impl FnMut(&RecordRef<'_>) -> bool,
    ) -> Result<Selection, RecordError> {
        let mut selection = Selection {
            all: true,
            max_timestamp_ms: i64::MIN,
            ..Selection::default()
        };
        let mut position = 0;
        for record in self.refs()? {
            let record = record?;
            let range = position..position + record.encoded_bytes;
            position = range.end;
            if !stays(&record) {
                selection.all = false;
                continue;
            }
            selection.kept += 1;
            selection.has_tombstones |= record.value.is_none();
            selection.max_timestamp_ms = selection.max_timestamp_ms.max(record.timestamp_ms);
            match selection.ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => selection.ranges.push(range),
            }
        }
        Ok(selection)
    }

    /// Appends a batch of the selected records (at least one) to `out`, with a new delete horizon (Unix
    /// ms) if there is one; an old one stays.
    ///
    /// # Errors
    /// [`RecordError::Compress`], [`RecordError::TooLarge`].
    pub(crate) fn write(
        &self,
        selection: &Selection,
        new_horizon_ms: Option<i64>,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        if let Some(horizon_ms) = new_horizon_ms {
            out.extend_from_slice(&self.encode_again(selection, horizon_ms)?);
            return Ok(());
        }
        let start = out.len();
        out.resize(start + BATCH_HEADER_BYTES, 0);
        match self.header.compression()? {
            Compression::None => self.gather(selection, out),
            codec => {
                let mut kept = Vec::new();
                self.gather(selection, &mut kept);
                codec::compress(codec, None, &kept, out)?;
            }
        }
        let max_timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => selection.max_timestamp_ms,
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        let header = BatchHeader {
            max_timestamp,
            record_count: selection.kept,
            ..self.header
        };
        builder::seal_in_place(header, &mut out[start..])
    }

    fn gather(&self, selection: &Selection, out: &mut Vec<u8>) {
        out.reserve(selection.ranges.iter().map(Range::len).sum());
        for range in &selection.ranges {
            out.extend_from_slice(&self.records[range.clone()]);
        }
    }

    /// The horizon takes the base timestamp's place, so every record counts from another one.
    fn encode_again(&self, selection: &Selection, horizon_ms: i64) -> Result<Bytes, RecordError> {
        let old = &self.header;
        let mut kept = Vec::new();
        self.gather(selection, &mut kept);
        let of_kept = BatchHeader {
            record_count: selection.kept,
            ..*old
        };
        let mut builder = BatchBuilder::with_capacity(kept.len() + selection.kept as usize * 6)
            .compression(old.compression()?, None)
            .timestamp_type(old.timestamp_type())
            .base_offset(old.base_offset)
            .leader_epoch(old.partition_leader_epoch)
            .producer(old.producer_id, old.producer_epoch, old.base_sequence)
            .transactional(old.is_transactional())
            .control(old.is_control())
            .last_offset_delta(old.last_offset_delta)
            .delete_horizon(Some(horizon_ms));
        if old.timestamp_type() == TimestampType::LogAppendTime {
            builder = builder.max_timestamp(old.max_timestamp);
        }
        for record in RecordSection::new(of_kept, kept.into())?.into_records() {
            let record = record?;
            builder.push_at(
                (record.offset - old.base_offset) as i32,
                record.timestamp_ms,
                record.key.as_deref(),
                record.value.as_deref(),
                &record.headers,
            )?;
        }
        builder.build()
    }
}

/// Appends what stays of a batch without records: its header, for the producer's last sequence.
///
/// # Errors
/// None for a header that was parsed.
pub(crate) fn write_empty(header: &BatchHeader, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let start = out.len();
    out.resize(start + BATCH_HEADER_BYTES, 0);
    let empty = BatchHeader {
        attributes: BatchHeader::attributes_of(
            Compression::None,
            header.timestamp_type(),
            header.is_transactional(),
            header.is_control(),
            false,
        ),
        base_timestamp: NO_TIMESTAMP,
        record_count: 0,
        ..*header
    };
    builder::seal_in_place(empty, &mut out[start..])
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Header, Record};
    use super::*;

    fn batch(compression: Compression, log_append_time: bool) -> Bytes {
        let mut builder = BatchBuilder::new()
            .compression(compression, None)
            .base_offset(1_000)
            .leader_epoch(7)
            .producer(5, 2, 90)
            .transactional(true);
        if log_append_time {
            builder = builder.log_append_time(77_777);
        }
        for i in 0..20_u8 {
            let header = Header {
                key: "h".into(),
                value: (i % 2 == 0).then(|| "v".into()),
            };
            let value = [i; 50];
            builder
                .push(
                    500 - i64::from(i),
                    Some(&[i]),
                    (i % 5 != 0).then_some(&value[..]),
                    &[header],
                )
                .unwrap();
        }
        builder.build().unwrap()
    }

    fn records(bytes: &[u8]) -> (BatchHeader, Vec<Record>) {
        let batch = Batch::from_bytes(Bytes::copy_from_slice(bytes)).unwrap();
        batch.verify_crc().unwrap();
        let records = batch.records().unwrap().collect::<Result<_, _>>().unwrap();
        (*batch.header(), records)
    }

    #[test]
    fn what_stays_is_what_it_was() {
        for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
            for log_append_time in [false, true] {
                for horizon in [None, Some(123_456)] {
                    let bytes = batch(codec, log_append_time);
                    let (before, all) = records(&bytes);
                    let open = OpenBatch::new(before, &bytes, 1 << 20).unwrap();
                    let stays = |offset: i64| offset % 3 == 0 || offset > 1_015;
                    let selection = open.select(|record| stays(record.offset)).unwrap();
                    let mut out = b"before".to_vec();
                    open.write(&selection, horizon, &mut out).unwrap();
                    let (after, kept) = records(&out[6..]);
                    let expected: Vec<_> = all
                        .into_iter()
                        .filter(|record| stays(record.offset))
                        .collect();
                    assert_eq!(kept, expected, "{codec:?} {horizon:?}");
                    assert_eq!(after.record_count, selection.kept);
                    assert_eq!(after.last_sequence(), before.last_sequence());
                    assert_eq!(after.next_offset(), before.next_offset());
                    assert_eq!(after.delete_horizon_ms(), horizon);
                    assert_eq!(after.partition_leader_epoch, 7);
                    assert_eq!(after.compression(), before.compression());
                    assert!(after.is_transactional() && selection.has_tombstones);
                    let youngest = if log_append_time { 77_777 } else { 498 };
                    assert_eq!(after.max_timestamp, youngest);
                }
            }
        }
    }

    #[test]
    fn an_emptied_batch_keeps_its_offsets_and_sequence() {
        let bytes = batch(Compression::Lz4, false);
        let (before, _) = records(&bytes);
        let mut out = Vec::new();
        write_empty(&before, &mut out).unwrap();
        let (after, none) = records(&out);
        assert!(none.is_empty());
        assert_eq!(after.last_sequence(), before.last_sequence());
        assert_eq!(after.next_offset(), before.next_offset());
        assert_eq!(after.max_timestamp, before.max_timestamp);
        assert_eq!(after.compression().unwrap(), Compression::None);
        let open = OpenBatch::new(after, &out, 0).unwrap();
        assert!(open.select(|_| true).unwrap().all);
    }
}
