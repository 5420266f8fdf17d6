//! Record batches v2 and messages v1 from bytes: whatever decodes is within its own header's claims,
//! and survives being written again with every codec.
#![no_main]

use bytes::Bytes;
use dlog_storage::record::{
    Batch, BatchBuilder, Compression, DeepRules, Recompress, Record, detect_format,
    recompress_with, v1,
};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((flags, data)) = data.split_first() else {
        return;
    };
    let mut data = data.to_vec();
    if flags & 1 == 1 {
        dlog_fuzz::repair_batches(&mut data);
    }
    if flags & 2 == 2 {
        dlog_fuzz::repair_messages(&mut data);
    }
    let _ = detect_format(&data);
    let data = Bytes::from(data);
    if let Ok(message) = v1::decode(&data) {
        assert!(message.key.as_ref().map_or(0, Bytes::len) <= data.len());
    }
    let mut rest = data.clone();
    // Every batch has at least 61 bytes, so this ends.
    while let Ok(Some(batch)) = Batch::split_first(&mut rest) {
        check_batch(&batch);
    }
});

fn check_batch(batch: &Batch) {
    let header = *batch.header();
    assert_eq!(header.total_bytes(), batch.bytes().len());
    let sound = batch.verify_crc().is_ok();
    let rules = DeepRules {
        max_uncompressed_bytes: LIMIT,
        ..DeepRules::default()
    };
    let deep = batch.validate_deep(&rules);
    let Ok(section) = batch.section(LIMIT) else {
        assert!(deep.is_err(), "validated, but cannot be read");
        return;
    };
    assert!(section.bytes().len() <= LIMIT);
    let mut last = i64::MIN;
    for (owned, borrowed) in section.clone().into_records().zip(section.refs()) {
        let (Ok(owned), Ok(borrowed)) = (owned, borrowed) else {
            assert!(deep.is_err(), "validated, but a record cannot be read");
            return;
        };
        assert_eq!(owned.value.as_deref(), borrowed.value);
        assert_eq!(owned.headers.len(), borrowed.header_count());
        assert!(
            (header.base_offset..=header.last_offset()).contains(&owned.offset),
            "outside the header's range"
        );
        assert!(owned.offset > last, "offsets ascend");
        last = owned.offset;
    }
    let records: Vec<Record> = section.into_records().map_while(Result::ok).collect();
    if sound && records.len() == header.record_count.max(0) as usize && !records.is_empty() {
        check_recompression(batch, &records);
        check_rebuild(&records);
    }
}

/// Another codec changes no record.
fn check_recompression(batch: &Batch, records: &[Record]) {
    for to in Compression::ALL {
        let how = Recompress {
            to,
            level: None,
            log_append_time_ms: None,
            max_uncompressed_bytes: LIMIT,
        };
        let Ok(bytes) = recompress_with(batch, &how) else {
            continue;
        };
        let again = Batch::from_bytes(bytes).expect("what was built is a batch");
        again.verify_crc().expect("what was built has its checksum");
        let read: Vec<Record> = again
            .section(LIMIT)
            .expect("what was built can be read")
            .into_records()
            .map(|r| r.expect("sound"))
            .collect();
        assert_eq!(read, records, "{to}");
    }
}

/// Records that were read can be written as a new batch, and are the same when read again.
fn check_rebuild(records: &[Record]) {
    let mut builder = BatchBuilder::new();
    for record in records {
        if builder
            .push(
                record.timestamp_ms,
                record.key.as_deref(),
                record.value.as_deref(),
                &record.headers,
            )
            .is_err()
        {
            return;
        }
    }
    let Ok(bytes) = builder.build() else { return };
    let batch = Batch::from_bytes(bytes).expect("what was built is a batch");
    let read: Vec<Record> = batch
        .records()
        .expect("readable")
        .map(|r| r.expect("sound"))
        .collect();
    assert_eq!(read.len(), records.len());
    for (read, written) in read.iter().zip(records) {
        assert_eq!(
            (&read.key, &read.value, &read.headers, read.timestamp_ms),
            (
                &written.key,
                &written.value,
                &written.headers,
                written.timestamp_ms
            )
        );
    }
}
